r"""The nearest named form of a function, with the difference in words: among all products of `forms`, by least squares on random batches.

Every product is a column over the tokens of all batches; with at most one penalty beside it,

    push = c column - b penalty,       residual = |push - c column + b penalty|/|push|,

and of those that leave nothing the one with the fewest slips, the plainest first, is what the function is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.audit.batches import probe
from tabular_rlhf.audit.forms import Form, advantages, given_advantages, penalties, slopes, weights
from tabular_rlhf.audit.handed import Batch, Handed, Unfit
from tabular_rlhf.audit.pairs import PAIRS
from tabular_rlhf.audit.verdict import COARSE, SIGN, Nearest, judged, multiple, named_numbers, numbers_of
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.logspace import Array

Forms = tuple[list[Form], ...]
"""Advantages, slopes, weights, penalties."""
Where = tuple[int, int, int, int]
"""One of each; -1 for no penalty."""
TOKENS = 90
"""Tokens on which all products are tried."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Tables over the tokens of all batches: push (K,), of their row's place (K,), and every factor's forms."""

    push: Array
    row: Array
    A: Array
    up: Array
    down: Array
    omega: Array
    kl: Array

    def some(self) -> Stack:
        """A part of the tokens, of every batch: enough to tell forms apart, and a product that survives is tried on all."""
        there = np.random.default_rng(0).permutation(len(self.push))[:TOKENS]
        tables = (t[:, there] for t in (self.up, self.down, self.omega, self.kl))
        return Stack(self.push[there], self.row[there], self.A, *tables)


def probes(handed: Handed) -> list[Batch]:
    """Random batches of several shapes, with ties and, where it can tell them apart, several prompts.  The live policy has moved from the
    old one by as much as clips usually allow, by as little as those of whole responses do, and far."""
    rng = np.random.default_rng(5)
    many = (1, 2, 3, 2) if handed.grouped else (1, 1, 1, 1)
    shapes = [(P, G, T) for P, (G, T) in zip(many, ((4, 5), (3, 4), (2, 6), (5, 7)), strict=True)]
    ways = [(moved, levels) for levels in (0, 3) for moved in (0.5, 6e-4, 1.8)]
    return [
        probe(rng, P=P, G=G, T=T, moved=moved, levels=levels) for moved, levels in ways for P, G, T in shapes[: 4 if levels == 0 else 2]
    ]


def nearest(handed: Handed) -> Nearest:
    """The nearest named form of a function of tokens.  Raises Unfit where it cannot be called.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def centered(rewards): return rewards.mean() - rewards
    >>> print(nearest(hand_in(centered, Library())))
    group-mean, but the sign is flipped
    """
    if handed.kind in PAIRS:
        return PAIRS[handed.kind](handed)
    batches = probes(handed)
    numbers = numbers_of(handed)
    if handed.kind == "KL penalty":
        return _penalty(handed, batches)
    if handed.kind == "group advantage":
        A, S = advantages(numbers), [Form("", lambda b: (np.ones_like(b["mask"]), -np.ones_like(b["mask"])))]
        W = [Form("", lambda b: b["mask"] / len(b["mask"]))]
    elif handed.kind == "aggregation":
        A, S, W = given_advantages()[:1], [Form("", lambda b: (np.ones_like(b["mask"]), -np.ones_like(b["mask"])))], weights()
    else:
        A = advantages(numbers) if handed.kind == "whole step" else given_advantages()
        A = A + (_in_reward(numbers) if handed.kind == "whole step" and handed.asks("ref") else [])
        S, W = slopes(numbers), weights()
    K = penalties() if handed.asks("ref") and handed.kind in ("whole step", "policy loss") else []
    stack = _stacked(handed, batches, A, S, W, K)
    found = _best(handed, stack, (A, S, W, K))
    return _with_entropy(handed, batches, found) if handed.asks("entropy") else found


def _with_entropy(handed: Handed, batches: list[Batch], found: Nearest) -> Nearest:
    """The same with what is done to the entropy of the policy before each token."""
    push = np.concatenate([np.ravel(handed.push(b)["entropy"]) for b in batches])
    if not np.any(push):
        return found
    fits = []
    for form in weights():
        column = np.concatenate([np.ravel(np.broadcast_to(form.of(b), b["mask"].shape)) for b in batches])
        c, residual = multiple(push, column)
        fits.append((residual, form, c))
    residual, form, c = min(fits, key=lambda f: (f[0] > COARSE, bool(f[1].slip) if f[0] <= COARSE else f[0]))
    slips = [*found.slips, *([form.slip] if form.slip else [])]
    slips += ["the entropy has the wrong sign: certainty is paid for"] if c < 0 else []
    words = f"{found.words}, entropy at {c:.4g} ({form.name})"
    return judged(words, slips, found.scale, found.penalty, max(found.residual, residual), found.exact and residual <= COARSE)


def _penalty(handed: Handed, batches: list[Batch]) -> Nearest:
    """A penalty alone: by its gradient; and, where it returns a table, whether its values are of the same estimator."""
    K, W = penalties(), weights()
    nothing = [Form("", lambda b: np.zeros(len(b["mask"])))]
    flat = [Form("", lambda b: (np.ones_like(b["mask"]),) * 2)]
    s = _stacked(handed, batches, nothing, flat, W, K)
    value = _valued(handed, batches)
    if not np.any(s.push):
        k1 = value is not None and value.words == "k1"
        words = "k1: its gradient, samples held, is 0 in the mean" if k1 else "its gradient is 0"
        return Nearest(words, (), 0.0, None, 0.0, k1)
    fits = []
    for k, w in itertools.product(range(len(K)), range(len(W))):
        c, residual = multiple(s.push, s.kl[k] * s.omega[w])
        fits.append((residual, bool(K[k].slip) + bool(W[w].slip) + (c > 0), k, w, c))
    residual, _, k, w, c = min(fits, key=lambda f: (f[0] > COARSE, f[1] if f[0] <= COARSE else f[0], f[2], f[3]))
    slips = [f.slip for f in (K[k], W[w]) if f.slip] + (["the sign is flipped: leaving the reference is paid for"] if c > 0 else [])
    if K[k].name == "k2" and abs(abs(c) - 2.0) < 1e-6:
        slips.append("the half of k2 is left out")
    words = f"{K[k].name}, {W[w].name}" + ("" if abs(abs(c) - 1.0) < 1e-6 else f", times {abs(c):.5g}")
    if value is not None and value.words not in (K[k].name, K[k].slip) and value.exact:
        words = f"the value of {value.words}, the gradient of {words}"
    return judged(words, slips, -c, None, residual, residual <= COARSE)


VALUES = {"k1": "k1", "k2": "k2", "k3": "k3", "abs": "abs", "k3-inverted": "k3 with its ratio upside down"}


def _valued(handed: Handed, batches: list[Batch]) -> Nearest | None:
    """Whose values its table has; None where it returns no table."""
    try:
        tables = [(b, handed.library.plain(handed(b))) for b in batches]
    except Unfit:
        return None
    if any(t.shape != b["mask"].shape for b, t in tables):
        return None
    got = np.concatenate([(t * b["mask"]).ravel() for b, t in tables])
    left = {}
    for name in VALUES:
        h = np.concatenate([(ESTIMATORS[name].h(b["logp"] - b["ref"]) * b["mask"]).ravel() for b, _ in tables])
        left[name] = multiple(got, h)[1]
    name = min(left, key=lambda n: left[n])
    return Nearest(VALUES[name], (), 1.0, None, left[name], left[name] <= COARSE)


def _in_reward(numbers: Sequence[float]) -> list[Form]:
    """Advantages of rewards from which a penalty was taken off first."""
    out = []
    for b in sorted({x for x in numbers if 0 < x <= 1}):
        for e in ("k1", "k2", "k3"):
            for base in advantages([])[:7]:

                def of(batch: Batch, b: float = b, e: str = e, base: Form = base) -> Any:
                    h = np.sum(ESTIMATORS[e].h(batch["logp"] - batch["ref"]) * batch["mask"], axis=1)
                    return base.of(batch | {"reward": batch["reward"] - b * h})

                out.append(Form(f"{base.name} of r - {b:g} {e}", of, base.slip))
    return out


def _stacked(handed: Handed, batches: list[Batch], A: list[Form], S: list[Form], W: list[Form], K: list[Form]) -> Stack:
    def tokens(forms: list[Form]) -> Array:
        tables = [np.concatenate([np.ravel(np.broadcast_to(f.of(b), b["mask"].shape)) for b in batches]) for f in forms]
        return np.array(tables) if tables else np.zeros((0, sum(b["mask"].size for b in batches)))

    push = np.concatenate([np.ravel(handed.push(b).get("logp", np.zeros_like(b["mask"]))) for b in batches])
    ends = np.cumsum([0, *(len(b["mask"]) for b in batches)])
    row = np.concatenate([e + np.repeat(np.arange(len(b["mask"])), b["T"]) for e, b in zip(ends, batches, strict=False)])
    with np.errstate(all="ignore"):  # a form that does not exist for groups so small is no candidate
        A_table = np.array([np.concatenate([f.of(b) for b in batches]) for f in A])
    pairs = [[f.of(b) for b in batches] for f in S]
    up, down = (np.array([np.concatenate([np.ravel(p[k]) for p in found]) for found in pairs]) for k in (0, 1))
    return Stack(push, row, A_table, up, down, tokens(W), tokens(K))


def _best(handed: Handed, s: Stack, forms: Forms) -> Nearest:
    """The plainest product that leaves nothing, or else the one that leaves least: without slips, then with one, then with two."""
    if not np.any(s.push):
        return Nearest("nothing: it does not move", (), 0.0, None, 0.0, True)
    least: tuple[float, Where] = (np.inf, (0, 0, 0, -1))
    for boxes in _levels(forms):
        hits: list[Where] = []
        for box in boxes:
            found, best = _search(s.some(), box)
            hits += found
            least = min(least, best, key=lambda pair: pair[0])
        fits = [(where, *_fit(s, where)) for where in hits]
        residual = min((f[2] for f in fits), default=np.inf)
        good = [f for f in fits if f[2] <= min(COARSE, max(1e-10, 3.0 * residual))]
        if good:
            where, c, residual = min(good, key=lambda f: (f[1][0] < 0, f[0][3] >= 0, f[0][1] > 2, f[0]))
            return _told(handed, where, c, residual, forms, True)
    c, residual = _fit(s, least[1])
    return _told(handed, least[1], c, residual, forms, False)


def _levels(forms: Forms) -> list[list[tuple[list[int], ...]]]:
    """Boxes of indices (A, S, W, K) to search: no slip; one factor with a slip; two.  K begins with -1, no penalty."""
    plain = [[k for k, f in enumerate(part) if not f.slip] for part in forms]
    wrong = [[k for k, f in enumerate(part) if f.slip] for part in forms]
    plain[3] = [-1, *plain[3]]

    def box(*slipped: int) -> tuple[list[int], ...]:
        return tuple(wrong[k] if k in slipped else plain[k] for k in range(4))

    return [[box()], [box(k) for k in range(4)], [box(*pair) for pair in itertools.combinations(range(4), 2)]]


def _search(s: Stack, box: tuple[list[int], ...]) -> tuple[list[Where], tuple[float, Where]]:
    """The products of a box that may leave nothing, and the one that leaves least, with its squared residual."""
    A, S, W, K = box
    hits: list[Where] = []
    least: tuple[float, Where] = (np.inf, (0, 0, 0, -1))
    if not all(box):
        return hits, least
    y, O = s.push, s.omega[W]
    size, O2 = float(y @ y), np.square(O)
    if size == 0:
        return hits, least
    plus, minus = np.maximum(s.A[A], 0.0)[:, s.row], np.maximum(-s.A[A], 0.0)[:, s.row]
    beside = {k: (O2 @ np.square(s.kl[k]), O @ (s.kl[k] * y), (O2 * s.kl[k]).T) for k in K if k >= 0}
    for j in S:
        M = plus * s.up[j] + minus * s.down[j]
        with np.errstate(all="ignore"):
            xx, xy = np.square(M) @ O2.T, M @ (O * y).T
            for k in K:
                explained = xy**2 / xx
                if k >= 0:
                    kk, ky, mixed = beside[k]
                    xk = M @ mixed
                    det = xx * kk - xk**2
                    explained = np.where(det > 1e-12 * xx * kk, (xy**2 * kk - 2 * xy * ky * xk + ky**2 * xx) / det, 0.0)
                left = 1.0 - np.where(np.isfinite(explained), explained, 0.0) / size
                a, w = np.unravel_index(np.argmin(left), left.shape)
                if left[a, w] < least[0]:
                    least = (float(left[a, w]), (A[int(a)], j, W[int(w)], k))
                if left[a, w] <= COARSE**2:
                    hits += [(A[i], j, W[o], k) for i, o in np.argwhere(left <= COARSE**2).tolist()]
    return hits, least


def _fit(s: Stack, where: Where) -> tuple[Array, float]:
    a, j, w, k = where
    A = s.A[a][s.row]
    columns = [(np.maximum(A, 0.0) * s.up[j] + np.maximum(-A, 0.0) * s.down[j]) * s.omega[w]]
    columns += [s.kl[k] * s.omega[w]] if k >= 0 else []
    X = np.stack(columns, axis=1)
    c = np.linalg.lstsq(X, s.push, rcond=None)[0]
    return c, float(np.linalg.norm(s.push - X @ c) / np.linalg.norm(s.push))


def _told(handed: Handed, where: Where, c: Array, residual: float, forms: Forms, exact: bool) -> Nearest:
    A, S, W, K = forms
    chosen = [A[where[0]], S[where[1]], W[where[2]], *([K[where[3]]] if where[3] >= 0 else [])]
    scale, slips = float(c[0]), [f.slip for f in chosen if f.slip]
    penalty = None
    words = ", ".join(f.name for f in chosen[:3] if f.name)
    if scale < 0:
        slips.append(SIGN)
    if len(c) > 1:
        b = -float(c[1]) / abs(scale)
        penalty = (chosen[3].name, b)
        words += f", {chosen[3].name} in the loss at {b:.4g}"
        slips += _wrong_weight(handed, b)
    slips += _wrong_bounds(handed, chosen[1].settings)
    size = abs(scale)
    words += "" if abs(size - 1.0) < max(1e-6, 3 * residual) else f", times {size:.5g}"
    return judged(words, slips, scale, penalty, residual, exact)


def _wrong_bounds(handed: Handed, bounds: Mapping[str, float]) -> list[str]:
    """Whether what is said to be the lower bound is the upper one."""
    if not {"low", "high"} <= set(bounds):
        return []
    said = {end: [v for n, v in named_numbers(handed).items() if end in n.lower()] for end in ("low", "high")}
    swapped = bounds["low"] in said["high"] and bounds["high"] in said["low"] and bounds["low"] != bounds["high"]
    return ["the lower and the upper bound are swapped"] if swapped else []


def _wrong_weight(handed: Handed, b: float) -> list[str]:
    """What is wrong with the weight of a penalty."""
    if b < 0:
        return ["the penalty has the wrong sign: leaving the reference is paid for"]
    for beta in (v for n, v in named_numbers(handed).items() if "beta" in n.lower() or "kl" in n.lower()):
        if abs(b - beta) <= 1e-5 * beta:
            return []
        if abs(b - beta**2) <= 1e-5 * b:
            return ["beta is squared"]
        if abs(b - 1.0) <= 1e-5:
            return ["beta is dropped"]
        if abs(b * beta - 1.0) <= 1e-5:
            return ["1/beta in the place of beta"]
    return []
