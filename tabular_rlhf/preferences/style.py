r"""What a preference is about, where each prompt was asked once: one model of all pairs on features of the texts.

    P(w preferred to l)  =  sigma(sum_k theta_k (phi_k(w) - phi_k(l)) [+ eta (w was shown first) - eta (l was)]),

phi_k = log2(1 + count): theta_k is what a doubling is worth, in nats of log-odds.  Errors are robust: pairs of one prompt may depend on one
another.  Beside theta_k stands the plain share: how often the response with more of feature k won, with Wilson's interval.

Features that do not vary, or that others determine, are left out, and named; one that separates winners from losers has no finite theta.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array
from tabular_rlhf.preferences.features import FeatureFit, fit_features

LISTS = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s", re.MULTILINE)
HEADINGS = re.compile(r"^\s*#{1,6}\s", re.MULTILINE)
NUMBERS = re.compile(r"\d+(?:[.,]\d+)*")
SORRY = re.compile(r"\b(?:sorry|apologi[sz]e|cannot|can't|unable to|not able to)\b", re.IGNORECASE)
STYLE: Mapping[str, tuple[str, Callable[[str], int]]] = {
    "length": ("words", lambda text: len(text.split())),
    "lists": ("lines that begin with a bullet or a number", lambda text: len(LISTS.findall(text))),
    "headings": ("lines that begin with #", lambda text: len(HEADINGS.findall(text))),
    "bold": ("passages between **", lambda text: text.count("**") // 2),
    "code": ("blocks of code", lambda text: text.count("```") // 2),
    "numbers": ("numbers in digits", lambda text: len(NUMBERS.findall(text))),
    "questions": ("question marks", lambda text: text.count("?")),
    "exclamations": ("exclamation marks", lambda text: text.count("!")),
    "apologies": ("sorry, cannot, unable ...", lambda text: len(SORRY.findall(text))),
}
"""Features of a text: what is counted, and how."""
POSITION = "shown first"


def style_features(texts: Sequence[str]) -> tuple[tuple[str, ...], Array]:
    """Names of the features, and log2(1 + count) of each in each text, (N, k).

    >>> names, phi = style_features(["one two three", "- a\\n- b"])
    >>> names[:2], phi[:, :2].tolist()
    (('length', 'lists'), [[2.0, 0.0], [2.321928094887362, 1.584962500721156]])
    """
    counts = [[count(text) for _, count in STYLE.values()] for text in texts]
    return tuple(STYLE), np.log2(1.0 + np.array(counts, dtype=np.float64).reshape(-1, len(STYLE)))


@dataclass(frozen=True, eq=False)
class Pooled:
    """names of the features that were fitted, and their fit; left_out, names and why; null and nll, nats without and with them."""

    names: tuple[str, ...]
    fit: FeatureFit | None
    left_out: dict[str, str]
    null: float
    nll: float


def pooled(
    w: Any, l: Any, phi: Array, names: Sequence[str], *, tie: Any = None, weight: Any = None, first: Any = None, group: Any = None
) -> Pooled:
    """The model of all pairs.

    Args: w, l (M,) indices of winner and loser; phi (N, k) features of texts, with their names; tie (M,), 1 where neither won; weight (M,);
    first (M,), 1 where w was shown first, -1 where l was, 0 where nobody knows; group (M,), whose members may depend on one another.

    >>> rng = np.random.default_rng(0)
    >>> phi = rng.normal(size=(400, 1)); swap = rng.random(200) < 1 / (1 + np.exp(phi[0::2, 0] - phi[1::2, 0]))
    >>> even, odd = np.arange(0, 400, 2), np.arange(1, 400, 2)
    >>> found = pooled(np.where(swap, odd, even), np.where(swap, even, odd), phi, ["x"])
    >>> abs(found.fit.theta[0] - 1.0) < 3 * found.fit.standard_errors[0]
    np.True_
    """
    w, l = np.asarray(w), np.asarray(l)
    M = len(w)
    X, labels = phi[w] - phi[l], list(names)
    if first is not None and np.any(first):
        X, labels = np.column_stack([X, np.asarray(first, dtype=np.float64)]), [*labels, POSITION]
    tied = np.zeros(M, dtype=bool) if tie is None else np.asarray(tie, dtype=bool)
    n = np.ones(M) if weight is None else np.asarray(weight, dtype=np.float64)
    of = np.arange(M) if group is None else np.asarray(group)
    rows = np.concatenate([np.arange(M), np.flatnonzero(tied)])  # a tie is half a win each way
    sign = np.concatenate([np.ones(M), -np.ones(int(np.sum(tied)))])
    X, n, of = X[rows] * sign[:, None], np.where(tied, 0.5 * n, n)[rows], of[rows]
    kept, left = independent(X, labels)
    null = float(np.sum(n)) * float(np.log(2.0))
    while kept:
        try:
            fit = fit_features(np.arange(len(X)), np.full(len(X), len(X)), np.vstack([X[:, kept], np.zeros(len(kept))]), weight=n, group=of)
        except InputError as e:
            apart = _separates(X[:, kept], n)
            if apart is None:
                raise
            left[labels[kept[apart]]] = e.got
            kept.pop(apart)
            continue
        return Pooled(tuple(labels[k] for k in kept), fit, left, null, fit.nll)
    return Pooled((), None, left, null, null)


def independent(X: Array, names: Sequence[str]) -> tuple[list[int], dict[str, str]]:
    """The columns that vary and that no earlier ones determine, and why the others are left out."""
    kept: list[int] = []
    left: dict[str, str] = {}
    for k, name in enumerate(names):
        if not np.any(X[:, k]):
            left[name] = "equal in all pairs"
        elif np.linalg.matrix_rank(X[:, [*kept, k]]) <= len(kept):
            left[name] = "determined by the others"
        else:
            kept.append(k)
    return kept, left


def _separates(X: Array, n: Array) -> int | None:
    """The column by which winners and losers are most nearly told apart: its sign is always the winner's."""
    X = X[n > 0]
    sure = [k for k in range(X.shape[1]) if np.all(X[:, k] >= 0) or np.all(X[:, k] <= 0)]
    scale = np.linalg.norm(X, axis=0)
    return max(sure, key=lambda k: scale[k]) if sure else None


def told_features(function: Callable[[str, str], Any], prompts: Iterable[str], texts: Iterable[str]) -> tuple[tuple[str, ...], Array]:
    """Features by a person's own function(prompt, response): a number, or a dictionary of numbers with the same keys each time.

    >>> told_features(lambda prompt, response: {"vowels": sum(c in "aeiou" for c in response)}, ["p"], ["hello"])
    (('vowels',), array([[2.]]))
    """
    rows: list[list[float]] = []
    names: tuple[str, ...] = ()
    for prompt, text in zip(prompts, texts, strict=True):
        try:
            value = function(prompt, text)
            told = value if isinstance(value, dict) else {getattr(function, "__name__", "feature"): value}
            row = [float(v) for v in told.values()]
            fits = tuple(map(str, told)) == names or not rows
            got = "other keys than before" if not fits else "no finite number"
        except (Exception, SystemExit) as e:  # whatever a person's own code may raise
            fits, got, row, told = False, f"{type(e).__name__}: {e}", [], {}
        if not fits or not np.isfinite(row).all():
            where = f"{prompt[:40]!r}, {text[:40]!r}"
            remedy = "return a number, or a dictionary of numbers with the same keys each time"
            raise InputError("a feature must be a finite number", got=got, where=where, remedy=remedy)
        names = tuple(map(str, told))
        rows.append(row)
    return names, np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
