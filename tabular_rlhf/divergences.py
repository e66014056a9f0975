r"""f-divergences as a table of records: the penalties that keep a policy near its reference.

    D_f(p, q) = E_q[ f(p/q) ],   f convex, f(1) = 0.

Each record gives f, its slope f', the inverse of that, and what an optimum needs (`penalties.f_divergence_optimum`), in logarithms
throughout, because weights u = p/q may be larger than any float: the weight of an event whose slope is lower by `gap` than that of
another, of weight e^v,

    f'(u) = f'(e^v) - gap:        tilt(v, gap) = log u, and log of d log u/dv.

For reverse KL log u = v - gap, the Gibbs tilt; in the alpha family u^-c = e^(-c v) + c gap, c = 1 - alpha, and u = 0 where that is
negative.  Where u may leave the range of floating point, q f(u) is p u^growth tail(log u).

**Names.**  Near p = q all agree but for their f''(1) (row `second-order`): 1, and 1/2 for Jensen-Shannon, as f-DPO scales it.
Common use has other factors: our chi-squared is 1/2 of chi^2, our Jensen-Shannon 2 JSD, alpha = 1/2 is 4 H^2, Hellinger's (`usual`).

Sources: Csiszar (1967); Wang et al. (2023), arXiv:2309.16240 (as penalties); Go et al. (2023), arXiv:2302.08215, has them as distances
to a target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.errors import InputError, as_number, quoted
from tabular_rlhf.logspace import Array, log_of


@dataclass(frozen=True)
class Divergence:
    """One f-divergence.  f takes u >= 0, slope takes log u, inverse a slope: (f')^{-1}, clipped at 0.

    growth and tail say how f grows: f(u) = u^(1 + growth) tail(log u), with a tail that stays within range (None: p/q must).  tilt
    takes v and gap, where growth is 0 only gap >= 0: towards a bounded slope it would cancel.  usual: this is so many times what
    is commonly called by such a name.

    >>> float(DIVERGENCES["forward-kl"].inverse(np.array(-0.5)))
    2.0
    """

    name: str
    latex: str
    f: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    tilt: Callable[[Any, Any], tuple[Array, Array]]
    tail: Callable[[Any], Any] | None = None
    growth: float = 0.0
    usual: tuple[float, str] = (1.0, "")

    @property
    def told(self) -> str:
        """The name, with how it differs from common use.

        >>> DIVERGENCES["chi-squared"].told
        'chi-squared (1/2 of chi^2 = sum (p - q)^2/q)'
        """
        factor, name = self.usual
        return f"{self.name} ({'1/2' if factor == 0.5 else f'{factor:g}'} of {name})" if name else self.name

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


Tilt = Callable[[Any, Any], tuple[Array, Array]]


def _alpha_tilt(c: float) -> Tilt:
    def tilt(v: Any, gap: Any) -> tuple[Array, Array]:
        power, log_gap = -c * v, log_of(np.abs(c * gap))
        if c > 0:
            log_total = np.logaddexp(power, log_gap)
        else:
            rises, ratio = gap <= 0, np.minimum(log_gap - power, 0.0)
            left = log_of(-np.expm1(np.where(rises, -1.0, ratio)))  # of u^-c, where the gap takes some of it away
            log_total = np.where(rises, np.logaddexp(power, log_gap), power + left)
        return -log_total / c, np.where(np.isneginf(log_total), 0.0, power - log_total)

    return tilt


def _jensen_shannon_tilt(v: Any, gap: Any) -> tuple[Array, Array]:
    log_slope = -np.logaddexp(0.0, log_of(-np.expm1(-gap)) + v)
    return v - gap + log_slope, log_slope


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

    growth, c = max(0.0, float(a) - 1.0), 1.0 - float(a)

    def inverse(y: Any) -> Array:
        base = 1.0 - c * y
        return np.where(base > 0, np.where(base > 0, base, 1.0) ** (-1.0 / c), 0.0)

    return Divergence(
        name=f"alpha={a:g}",
        latex=r"\frac{u^\alpha - 1 - \alpha (u - 1)}{\alpha (\alpha - 1)}",
        f=lambda u: (u**a - 1.0 - a * (u - 1.0)) / (a * (a - 1.0)),
        slope=lambda v: np.expm1(-c * v) / -c,
        inverse=inverse,
        tilt=_alpha_tilt(c),
        tail=lambda v: (np.exp((a - 1.0 - growth) * v) - np.exp(-growth * v) * (np.exp(-v) - a * np.expm1(-v))) / (a * (a - 1.0)),
        growth=growth,
    )


def _jensen_shannon_inverse(y: Any) -> Any:
    with np.errstate(over="ignore"):  # far below, the weight is rightly 0
        return 1.0 / np.expm1(np.log(2.0) - y)


_RECORDS = (
    Divergence(
        "reverse-kl",
        r"u \log u",
        f=lambda u: special.xlogy(u, u),
        slope=lambda v: 1.0 + v,
        inverse=lambda y: np.exp(y - 1.0),
        tilt=lambda v, gap: (v - gap, np.zeros_like(v - gap)),
        tail=lambda v: v,
    ),
    Divergence(
        "forward-kl",
        r"-\log u",
        f=lambda u: -np.log(u),
        slope=lambda v: -np.exp(-v),
        inverse=lambda y: -1.0 / y,
        tilt=_alpha_tilt(1.0),
        tail=lambda v: -v * np.exp(-v),
    ),
    Divergence(
        "chi-squared",
        r"(u - 1)^2 / 2",
        f=lambda u: np.square(u - 1.0) / 2.0,
        slope=np.expm1,
        inverse=lambda y: np.maximum(0.0, 1.0 + y),
        tilt=_alpha_tilt(-1.0),
        tail=lambda v: np.square(np.expm1(-v)) / 2.0,
        growth=1.0,
        usual=(0.5, "chi^2 = sum (p - q)^2/q"),
    ),
    Divergence(
        "jensen-shannon",
        r"u \log u - (u + 1) \log\frac{u + 1}{2}",
        f=lambda u: special.xlogy(u, u) - (u + 1.0) * np.log((u + 1.0) / 2.0),
        slope=lambda v: -np.log1p(np.expm1(-v) / 2.0),
        inverse=_jensen_shannon_inverse,
        tilt=_jensen_shannon_tilt,
        tail=lambda v: v - (1.0 + np.exp(-v)) * (v + np.log1p(np.exp(-v)) - np.log(2.0)),
        usual=(2.0, "JSD = [KL(p, m) + KL(q, m)]/2, m = (p + q)/2"),
    ),
    replace(alpha(0.5), usual=(4.0, "Hellinger's H^2 = 1 - sum sqrt(p q)")),
)
DIVERGENCES: dict[str, Divergence] = {d.name: d for d in _RECORDS}


def alpha_divergence(a: float) -> Divergence:
    """The alpha family with its limits: forward KL at 0, reverse KL at 1.

    >>> alpha_divergence(1.0).name, alpha_divergence(0.0).name, alpha_divergence(2.0).name
    ('reverse-kl', 'forward-kl', 'alpha=2')
    """
    return DIVERGENCES["forward-kl"] if a == 0 else DIVERGENCES["reverse-kl"] if a == 1 else alpha(a)
