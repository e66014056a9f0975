r"""f-divergences as a table of records: the penalties that keep a policy near its reference.

    D_f(p, q) = E_q[ f(p/q) ],   f convex, f(1) = 0.

Each record gives f, its slope f', and what an optimum needs (`penalties.f_divergence_optimum`): the inverse of the slope.  Where
f' has a finite supremum the weight u blows up as the slope approaches it, so the inverse is taken of the *depth*

    depth(u) = sup - f'(u),     u = weight(depth),

a small number kept exactly, not of the slope, whose last digits would carry everything.  (Where f' is unbounded, sup = 0.)
Weights u = p/q >= 0, clipped at 0 where f'(0) is finite.  Where u may leave the range of floating point, q f(u) is
p u^growth tail(log u).

Sources: Csiszar (1967); Go et al. (2023), arXiv:2302.08215; Wang et al. (2023), arXiv:2309.16240.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.errors import InputError, as_number, quoted
from tabular_rlhf.logspace import Array


@dataclass(frozen=True)
class Divergence:
    """One f-divergence.  f, slope and depth take u >= 0; weight takes depths and returns (u, -du/d depth).

    growth and tail say how f grows: f(u) = u^(1 + growth) tail(log u), with a tail that stays within range (None: p/q must).
    """

    name: str
    latex: str
    sup: float
    f: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    depth: Callable[[Any], Any]
    weight: Callable[[Any], tuple[Array, Array]]
    tail: Callable[[Any], Any] | None = None
    growth: float = 0.0

    def inverse_slope(self, y: Any) -> Array:
        """(f')^{-1}(y), clipped at 0: the optimal weight at slope y.

        >>> float(DIVERGENCES["forward-kl"].inverse_slope(np.array(-0.5)))
        2.0
        """
        return self.weight(self.sup - y)[0]

    def __call__(self, log_p: Any, log_q: Any) -> Any:
        """D_f(p, q) along the last axis, for p that puts no mass where q has none; inf where it is too large to write down.

        >>> float(DIVERGENCES["chi-squared"](np.log([0.5, 0.5]), np.log([0.25, 0.75])).round(6))
        0.166667
        """
        impossible = np.isneginf(log_q)
        if np.any(impossible & ~np.isneginf(log_p)):
            raise InputError("p must be covered by q", got="p > 0 = q", remedy="smooth the reference, or forbid the event in p too")
        log_u = np.where(impossible, 0.0, log_p) - np.where(impossible, 0.0, log_q)
        large = np.greater(log_u, LARGE if self.tail is not None else np.inf)
        with np.errstate(divide="ignore", over="ignore"):  # f(0) may be inf, and so may be f of very small weights
            f = self.f(np.exp(np.where(large, 0.0, log_u)))
        terms = np.where(np.equal(f, np.inf), f, np.exp(log_q) * np.where(np.equal(f, np.inf), 0.0, f))
        if self.tail is not None and large.any():
            v = np.where(large, log_u, 1.0)
            with np.errstate(over="ignore"):
                terms = np.where(large, np.exp(np.where(large, log_p, 0.0) + self.growth * v) * self.tail(v), terms)
        return np.sum(np.where(impossible, 0.0, terms), axis=-1)


LARGE = 30.0
"""log(p/q) above which a power of p/q might leave the range of floating point."""


def _reverse_kl_weight(d: Any) -> tuple[Array, Array]:
    u = np.exp(-d - 1.0)
    return u, u


def _forward_kl_weight(d: Any) -> tuple[Array, Array]:
    u = 1.0 / d
    return u, np.square(u)


def _chi_squared_weight(d: Any) -> tuple[Array, Array]:
    return np.maximum(0.0, 1.0 - d), np.where(d < 1.0, 1.0, 0.0)


def _jensen_shannon_weight(d: Any) -> tuple[Array, Array]:
    with np.errstate(over="ignore"):  # far below, the weight is rightly 0
        u = 1.0 / np.expm1(d)
    return u, u * (1.0 + u)


def alpha(a: float) -> Divergence:
    """The alpha family f(u) = (u^a - 1 - a (u - 1)) / (a (a - 1)); a -> 1 is reverse KL, a -> 0 forward KL, a = 2 chi-squared.

    >>> float(alpha(0.5).f(4.0))
    2.0
    """
    if not isinstance(a, (int, float, np.number)) or a in (0.0, 1.0) or not np.isfinite(as_number(a)):
        raise InputError(
            "alpha must be finite and neither 0 nor 1",
            got=quoted(a),
            remedy="use the forward or reverse KL record",
        )

    growth = max(0.0, float(a) - 1.0)

    def weight(d: Any) -> tuple[Array, Array]:
        base = (1.0 - a) * d if a < 1 else np.maximum(0.0, 1.0 - (a - 1.0) * d)
        power = 1.0 / (a - 1.0)
        held = np.where(base > 0, base, 1.0)
        return np.where(base > 0, held**power, 0.0), np.where(base > 0, held ** (power - 1.0), 0.0)

    return Divergence(
        name=f"alpha={a:g}",
        latex=r"\frac{u^\alpha - 1 - \alpha (u - 1)}{\alpha (\alpha - 1)}",
        sup=1.0 / (1.0 - a) if a < 1 else 0.0,
        f=lambda u: (u**a - 1.0 - a * (u - 1.0)) / (a * (a - 1.0)),
        slope=lambda u: (u ** (a - 1.0) - 1.0) / (a - 1.0),
        depth=lambda u: u ** (a - 1.0) / (1.0 - a) if a < 1 else -(u ** (a - 1.0) - 1.0) / (a - 1.0),
        weight=weight,
        tail=lambda v: (np.exp((a - 1.0 - growth) * v) - np.exp(-growth * v) * (np.exp(-v) - a * np.expm1(-v))) / (a * (a - 1.0)),
        growth=growth,
    )


def _jensen_shannon(u: Any) -> Any:
    return special.xlogy(u, u) - (u + 1.0) * np.log((u + 1.0) / 2.0)


_RECORDS = (
    Divergence(
        "reverse-kl",
        r"u \log u",
        sup=0.0,
        f=lambda u: special.xlogy(u, u),
        slope=lambda u: 1.0 + np.log(u),
        depth=lambda u: -1.0 - np.log(u),
        weight=_reverse_kl_weight,
        tail=lambda v: v,
    ),
    Divergence(
        "forward-kl",
        r"-\log u",
        sup=0.0,
        f=lambda u: -np.log(u),
        slope=lambda u: -1.0 / u,
        depth=lambda u: 1.0 / u,
        weight=_forward_kl_weight,
        tail=lambda v: -v * np.exp(-v),
    ),
    Divergence(
        "chi-squared",
        r"(u - 1)^2 / 2",
        sup=0.0,
        f=lambda u: np.square(u - 1.0) / 2.0,
        slope=lambda u: u - 1.0,
        depth=lambda u: 1.0 - u,
        weight=_chi_squared_weight,
        tail=lambda v: np.square(np.expm1(-v)) / 2.0,
        growth=1.0,
    ),
    Divergence(
        "jensen-shannon",
        r"u \log u - (u + 1) \log\frac{u + 1}{2}",
        sup=float(np.log(2.0)),
        f=_jensen_shannon,
        slope=lambda u: np.log(2.0 * u / (1.0 + u)),
        depth=lambda u: np.log1p(1.0 / u),
        weight=_jensen_shannon_weight,
        tail=lambda v: v - (1.0 + np.exp(-v)) * (v + np.log1p(np.exp(-v)) - np.log(2.0)),
    ),
    alpha(0.5),
)
DIVERGENCES: dict[str, Divergence] = {d.name: d for d in _RECORDS}
