r"""Mean and variance of path quantities, by one sweep over a lattice.

**Symbols.**  f is plain NumPy on the sums of a response (`Sums`): y.L = log p/p_ref, y.log_p, y.log_p_ref, y.r, y.length.  The same
function runs on the arrays of a list of responses, or of a sample.

**Addition theorems.**  With x the sums of one edge and y those of the rest, and E_k(t) = e^t - sum over j < k of t^j/j!,

    (x + y)^n  = sum_j binom(n, j) x^(n-j) y^j,
    E_k(x + y) = e^x E_k(y) + sum over j < k of E_{k-j}(x) y^j / j!,
    (x + y)^n e^{x+y} likewise:

every quantity has a linear recurrence in a few coordinates, the monomials and the E_k that it is made of (`lattice.linear`).

**Trap.**  An algebra of exponentials cancels: k3 = e^-L - 1 + L as three coordinates gives Var k3 = -1e-32 where it is 5e-18.  So e^t is
never a coordinate, E_k(t) is, with the k that leaves the smallest polynomial beside it: for k3, E_2(-L) alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice.linear import Entries, Moments, moments
from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.logspace import Array, remainder
from tabular_rlhf.path.quantity import Form, Monomial, Quantity

MOST = 4
"""The largest k of an E_k that is tried."""


@dataclass(frozen=True)
class Sums:
    """The sums of a response: numbers, arrays (a list or a sample of responses), or path quantities."""

    L: Any
    log_p_ref: Any
    r: Any
    length: Any

    @property
    def log_p(self) -> Any:
        """log p = log p_ref + L."""
        return self.log_p_ref + self.L


NAMES = ("L", "log_p_ref", "r", "length")
SYMBOLS = Sums(*map(Quantity.sum, NAMES))


def edge_sums(policy: Policy, h: int, names: Iterable[str] = NAMES) -> dict[str, Array]:
    """What an edge of level h adds to each sum, (V, n); 0 where it is forbidden."""
    level = policy.world.levels[h]
    of: dict[str, Callable[[], Array]] = {
        "L": lambda: policy.ratio(h),
        "log_p_ref": lambda: level.log_ref if level.forbidden is None else np.where(level.forbidden, 0.0, level.log_ref),
        "r": lambda: level.r,
        "length": lambda: np.ones_like(level.log_ref),
    }
    return {name: of[name]() for name in names}


def expect(f: Callable[[Sums], Any], policy: Policy) -> float:
    """E f over prompts (by mu) and responses (by the policy), exactly.

    Args: f, plain NumPy of `Sums`.  Raises: InputError that names the operation which has no sweep, or where floats do not hold the mean.

    >>> from tabular_rlhf.lattice import solve
    >>> from tabular_rlhf.world import rational
    >>> round(expect(lambda y: np.exp(-y.L), solve(rational())), 12)  # E[p_ref/p*]
    1.0
    """
    mean, _ = by_prompt(f, policy, variance=False)
    return float(np.sum(policy.world.mu * mean))


def variance(f: Callable[[Sums], Any], policy: Policy) -> float:
    """The variance of f over prompts and responses, exactly: of one draw.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import coin
    >>> variance(lambda y: y.r, Reference(coin()))
    0.25
    """
    mean, within = by_prompt(f, policy)
    mu = policy.world.mu
    return float(np.sum(mu * (within + np.square(mean - np.sum(mu * mean)))))


def _paid(policy: Policy, form: Mapping[str, float]) -> dict[int, Array]:
    """A linear form in the sums of edges, by id(level)."""
    out = {}
    for h, level in enumerate(policy.world.levels):
        if id(level) not in out:
            sums = edge_sums(policy, h, form)
            out[id(level)] = np.zeros_like(level.r) + sum(c * sums[name] for name, c in form.items())
    return out


def by_prompt(f: Callable[[Sums], Any], policy: Policy, *, variance: bool = True) -> tuple[Array, Array]:
    """Mean and variance of f for each prompt, (P,) each (variances 0 where they are not asked for)."""
    asked = Quantity.of(f(SYMBOLS))
    linear = asked.linear
    if not variance and linear is not None and "L" not in dict(linear[1]):  # what edges pay does not depend on the depth
        mean = linear[0] + policy.mean(_paid(policy, dict(linear[1])))
        return mean, np.zeros_like(mean)
    compiled = Representation(asked)
    found = compiled.moments(policy, variance)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = compiled.constant + found.mean @ compiled.weight
        spread = np.zeros_like(mean)
        if found.covariance is not None:
            spread = np.maximum(0.0, compiled.weight @ found.covariance @ compiled.weight)
    if not (np.isfinite(mean).all() and np.isfinite(spread).all()):
        remedy = "take policies nearer to each other, or its logarithm (`lattice.log_mean_exp`)"
        raise InputError("a mean must stay within the range of floats", got=repr(asked)[:80], remedy=remedy)
    return mean, spread


# ---------------------------------------------------------------------------------------------------- coordinates

Coordinate = tuple[Form, Monomial, int]
"""E_k(form) (no monomial), or monomial * exp(form), k = 0."""


class Representation:
    """A quantity as constant + weight . u, with u of `lattice.linear`."""

    def __init__(self, f: Quantity) -> None:
        self.constant, wanted = _without_cancellation(f)
        self.places: dict[Coordinate, int] = {}
        for coordinate in wanted:
            self._place(coordinate)
        self.weight = np.zeros(len(self.places))
        for coordinate, c in wanted.items():
            self.weight[self.places[coordinate]] += c

    def _place(self, coordinate: Coordinate) -> None:
        """Give it a place after those that its addition theorem asks for."""
        for other in _asked_for(coordinate):
            if other not in self.places and other != coordinate:
                self._place(other)
        self.places.setdefault(coordinate, len(self.places))

    def moments(self, policy: Policy, covariance: bool) -> Moments:
        names = sorted({name for form, monomial, _ in self.places for name, _ in (*form, *monomial)})
        return moments(policy, len(self.places), lambda h: self.entries(edge_sums(policy, h, names)), covariance=covariance)

    def entries(self, x: Mapping[str, Array]) -> Entries:
        """b and A of an edge with sums x."""
        out: dict[tuple[int, int], Array | float] = {}
        with np.errstate(over="ignore", invalid="ignore"):  # beyond floats is refused where it reaches the answer
            for coordinate, i in self.places.items():
                for other, a in _theorem(coordinate, x):
                    place = (i, -1 if other is None else self.places[other])
                    out[place] = out[place] + a if place in out else a
        return out


def _without_cancellation(f: Quantity) -> tuple[float, dict[Coordinate, float]]:
    """(constant, weights of coordinates): each e^t becomes E_k(t) and a polynomial, with the k that leaves the fewest terms."""
    polynomial = {m: c for (form, m), c in f.terms.items() if not form}
    wanted = {(form, m, 0): c for (form, m), c in f.terms.items() if form and m}
    plain = {form: c for (form, m), c in f.terms.items() if form and not m}
    choices = []
    for k in range(1, MOST + 1):
        left = dict(polynomial)
        for form, c in plain.items():
            for m, a in _taylor(form, k):
                left[m] = left.get(m, 0.0) + c * a
        left = {m: c for m, c in left.items() if abs(c) > 1e-14 * max(abs(polynomial.get(m, 0.0)), 1e-300)}
        choices.append((len(left.keys() - {()}), k, left))
    _, k, left = min(choices, key=lambda choice: choice[:2])
    wanted |= {(form, (), k): c for form, c in plain.items()}
    wanted |= {((), m, 0): c for m, c in left.items() if m}
    return left.get((), 0.0), wanted


def _taylor(form: Form, k: int) -> list[tuple[Monomial, float]]:
    """sum over j < k of form^j / j!, as monomials and coefficients."""
    out = []
    for j in range(k):
        for n in _powers(len(form), j):
            m = tuple((name, a) for (name, _), a in zip(form, n, strict=True) if a)
            out.append((m, math.prod(c**a / math.factorial(a) for (_, c), a in zip(form, n, strict=True))))
    return out


def _powers(variables: int, total: int) -> list[tuple[int, ...]]:
    """All ways to write `total` as a sum of so many whole numbers."""
    return [n for n in itertools.product(range(total + 1), repeat=variables) if sum(n) == total]


def _parts(monomial: Monomial) -> list[Monomial]:
    """Every monomial that divides this one, itself last."""
    ranges = [range(k + 1) for _, k in monomial]
    return [tuple((name, a) for (name, _), a in zip(monomial, n, strict=True) if a) for n in itertools.product(*ranges)]


def _asked_for(coordinate: Coordinate) -> list[Coordinate]:
    """What the addition theorem of a coordinate has beside constants."""
    form, monomial, k = coordinate
    if not monomial:
        return [((), m, 0) for m, _ in _taylor(form, k) if m] + [coordinate]
    return [(form, m, 0) if m else (form, (), 1) for m in _parts(monomial) if m or form]


def _theorem(coordinate: Coordinate, x: Mapping[str, Array]) -> list[tuple[Coordinate | None, Array | float]]:
    """The addition theorem: (coordinate of the rest, or None for 1, and its factor on the edge)."""
    form, monomial, k = coordinate
    t: Any = sum(c * x[name] for name, c in form)
    if not monomial:
        out: list[tuple[Coordinate | None, Array | float]] = [(coordinate, np.exp(t)), (None, remainder(t, k))]
        for m, a in _taylor(form, k):
            if m:
                out.append((((), m, 0), a * remainder(t, k - sum(n for _, n in m))))
        return out
    powers, out = dict(monomial), []
    e: Any = np.exp(t) if form else 1.0
    for m in _parts(monomial):
        rest = dict(m)
        a = e
        for name, n in powers.items():
            j = rest.get(name, 0)
            a = a * math.comb(n, j) * x[name] ** (n - j) if n > j else a
        if m or not form:
            out.append(((form, m, 0) if m else None, a))
        else:  # e^{rest} = 1 + E_1
            out += [(None, a), ((form, (), 1), a)]
    return out


def term_count(f: Quantity) -> int:
    """Coordinates that the sweep of a quantity carries."""
    return len(Representation(f).places)
