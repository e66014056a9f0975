r"""The verdict: which named objective a field ascends, measured in several cases at once.

**Method.**  The field u and the gradients g_k of named objectives are stacked over cases, u = (u(theta_1), u(theta_2), ...).  The first of
these that leaves nothing but rounding is what the field *is*:

    u = c g_k                       one objective, at a constant speed c (its sign is told);
    u_x = c_x(theta) g_x            the gradient of E[r] of every prompt, at a speed that varies (with one c for all prompts it is told);
    u = sum of c_k g_k              two or three objectives;
    neither                         no objective at all where it has curl; else one without a name here.

With  share = 1 - |u - c g|^2/|u|^2  and  residual = |u - c g|/|u|  of what is said, or of the nearest single objective (at a varying
speed: of the directions).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tabular_rlhf.fields.case import Case, Field
from tabular_rlhf.fields.curl import curl as curl_of
from tabular_rlhf.fields.terms import Objective, gradient
from tabular_rlhf.logspace import Array, log_softmax

EXACT = 1e-9
"""A residual below this is rounding."""
NEARER = 0.5
"""E[r] is called the nearest objective unless another leaves less than this share of its residual."""
TOGETHER = 3
"""The most objectives that are said to be ascended together."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a field ascends.  words; terms, coefficients of what is said (or of the nearest objective); share and residual of that;
    curl at the first policy, None where that was not computed; exact, whether the words are all of it."""

    words: str
    terms: Mapping[str, float]
    share: float
    residual: float
    curl: float | None
    exact: bool

    def __str__(self) -> str:
        if self.exact or not self.terms:
            return self.words
        return f"{self.words}; nearest {spelled(self.terms)}, residual {self.residual:.3g}"


def measure(
    update: Field, at: Sequence[Case], named: Callable[[Case], Mapping[str, Objective]], *, curl: bool = True, rounding: float = EXACT
) -> Verdict:
    """The verdict on a field.

    Args: update, maps a case to the expected update there; at, the cases, the one asked about first (`cases`); named, the objectives
    of a case, "E[r]" first; curl, whether to compute it; rounding, the residual that the update's own arithmetic leaves.

    >>> from tabular_rlhf.fields.case import cases
    >>> from tabular_rlhf.fields.terms import objectives
    >>> from tabular_rlhf.world import rational
    >>> def half(case):  # grad E[(r - 1/2)/L]
    ...     f = objectives(case)
    ...     return gradient(f["E[r/L]"], case.logits) - 0.5 * gradient(f["E[1/L]"], case.logits)
    >>> found = measure(half, cases(rational(), rational().log_ref), objectives); found.words, found.exact
    ('E[r/L] - 0.5 E[1/L]', True)
    """
    u = [update(case) for case in at]
    g = _gradients(at, named)
    twist = _curl(update, at[0]) if curl else None
    if _size(u) <= 1e-4 * rounding * max((_size(row) for row in g.values()), default=1.0):
        return Verdict("nothing: it does not move", {}, 0.0, 0.0, twist, True)
    single = {name: _fit(u, g, (name,)) for name in g}
    exact = next((fit for fit in single.values() if fit[1] <= rounding), None)
    if exact is not None:  # of one case alone the speed is known there only
        return _said(spelled(exact[0]) + " at this policy" * (len(at) == 1), exact, twist)
    speed = _speeds(u, g["E[r]"], rounding) if "E[r]" in g else None
    alike = "" if speed is None or not _one_for_all(u, g["E[r]"]) else ", one for all prompts"
    if speed is not None and not twist and not alike and all(len(set(row)) <= 2 for case in at for row in case.world.r.tolist()):
        return _said(f"{_sign(speed)}F(success probability)", ({"E[r]": float(np.mean(speed))}, 0.0), twist)
    several = (_fit(u, g, names) for k in range(2, TOGETHER + 1) for names in itertools.combinations(_plain(g), k))
    found = next((fit for fit in several if fit[1] <= rounding), None)
    if found is not None:
        return _said(spelled(found[0]), found, twist)
    if speed is not None and _sign(speed) != "+-":
        return _said(f"{_sign(speed)}E[r] at varying speed{alike}", ({"E[r]": float(np.mean(speed))}, 0.0), twist)
    if twist == 0.0 and _curl(update, at[-1]):  # by accident of this policy or world
        words = "nothing: it has curl elsewhere"
    else:
        words = "nothing: it has curl" if twist else "no objective named here" if twist == 0.0 else "not known"
    nearest = min(single.values(), key=lambda fit: fit[1])
    plain = single.get("E[r]", nearest)
    terms, residual = nearest if nearest[1] < NEARER * plain[1] else plain
    return Verdict(words, terms, 1.0 - residual**2, residual, twist, False)


def _said(words: str, fit: tuple[Mapping[str, float], float], twist: float | None) -> Verdict:
    return Verdict(words, fit[0], 1.0 - fit[1] ** 2, fit[1], twist, True)


def _curl(update: Field, case: Case) -> float | None:
    return curl_of(lambda logits: update(replace(case, logits=logits)), case.logits)


def _plain(g: Iterable[str]) -> list[str]:
    """Objectives that may be said together: without the best of k, whose sums could be made to fit."""
    return [name for name in g if "max" not in name and "E_x" not in name and "arcsin" not in name]


def _gradients(at: Sequence[Case], named: Callable[[Case], Mapping[str, Objective]]) -> dict[str, list[Array]]:
    """The gradient of every objective in every case; one that has none somewhere (log 0, a policy that forbids) is left out."""
    tables = [named(case) for case in at]
    out: dict[str, list[Array]] = {}
    with np.errstate(all="ignore"):
        for name in tables[0]:
            if all(name in f and np.isfinite(f[name](log_softmax(case.logits))) for case, f in zip(at, tables, strict=True)):
                rows = [gradient(f[name], case.logits) for case, f in zip(at, tables, strict=True)]
                if all(np.isfinite(row).all() for row in rows):
                    out[name] = rows
    return out


def _flat(rows: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(row) for row in rows])


def _size(rows: Sequence[Array]) -> float:
    return float(np.linalg.norm(_flat(rows)))


def _fit(u: Sequence[Array], g: Mapping[str, Sequence[Array]], names: tuple[str, ...]) -> tuple[dict[str, float], float]:
    """Least squares of u on some gradients: coefficients, and the residual as a share of |u|.  One that vanishes, or that the others
    make up, explains nothing."""
    columns = np.stack([_flat(g[name]) for name in names], axis=1)
    scale = np.linalg.norm(columns, axis=0)
    nothing = dict.fromkeys(names, 0.0), 1.0
    if not np.all(scale > 0):
        return nothing
    c, _, _, singular = np.linalg.lstsq(columns / scale, _flat(u), rcond=None)
    if singular[-1] < 1e-7 * singular[0]:
        return nothing
    rest = _flat(u) - (columns / scale) @ c
    return dict(zip(names, (c / scale).tolist(), strict=True)), float(np.linalg.norm(rest)) / _size(u)


def _speeds(u: Sequence[Array], g: Sequence[Array], rounding: float) -> Array | None:
    """c_x with u_x = c_x g_x for every prompt of every case; None where some u_x has another direction."""
    found: list[float] = []
    for update, slope in zip(u, g, strict=True):
        for a, b in zip(update, slope, strict=True):
            size = float(np.sum(b * b))
            c = float(np.sum(a * b)) / size if size > 0 else 0.0
            if float(np.linalg.norm(a - c * b)) > rounding * float(np.linalg.norm(update)):
                return None
            found += [c] if size > 0 else []
    return np.array(found) if found else None


def _one_for_all(u: Sequence[Array], g: Sequence[Array]) -> bool:
    """Whether there are several prompts, and in each case one speed is that of all."""
    fits = [(a, b, float(np.sum(a * b)) / float(np.sum(b * b))) for a, b in zip(u, g, strict=True) if np.any(b)]
    return len(u[0]) > 1 and all(np.linalg.norm(a - c * b) <= EXACT * np.linalg.norm(a) for a, b, c in fits)


def _sign(speed: Array) -> str:
    noise = EXACT * float(np.max(np.abs(speed)))
    return "" if np.all(speed >= -noise) else "-" if np.all(speed <= noise) else "+-"


def spelled(terms: Mapping[str, float]) -> str:
    """A sum of named objectives.

    >>> spelled({"E[r]": 1.0, "E[1/L]": -0.5})
    'E[r] - 0.5 E[1/L]'
    """
    text = ""
    for name, c in terms.items():
        size = "" if abs(abs(c) - 1.0) < 1e-9 else f"{abs(c):.4g} "
        text += (" - " if c < 0 else " + ") * bool(text) + "-" * (c < 0 and not text) + size + name
    return text
