r"""f-divergences as a table of records: the penalties that keep a policy near its reference.

    D_f(p, q) = E_q[ f(p/q) ],   f convex, f(1) = 0.

Each record gives f, its slope f', and the inverse of the slope with *its* slope, clipped at 0 where f'(0) is finite: what an
optimum needs (`gibbs.f_divergence_optimum`).  Weights u = p/q >= 0.

Sources: Csiszar (1967); Go et al. (2023), arXiv:2302.08215; Wang et al. (2023), arXiv:2309.16240.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array


@dataclass(frozen=True)
class Divergence:
    """One f-divergence.  f and slope take u >= 0; inverse_slope takes y and returns (u, du/dy), u = 0 below f'(0)."""

    name: str
    latex: str
    f: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    inverse_slope: Callable[[Any], tuple[Array, Array]]

    def __call__(self, log_p: Any, log_q: Any) -> Any:
        """D_f(p, q) along the last axis, for p that puts no mass where q has none.

        >>> float(DIVERGENCES["chi-squared"](np.log([0.5, 0.5]), np.log([0.25, 0.75])).round(6))
        0.166667
        """
        impossible = np.isneginf(log_q)
        if np.any(impossible & ~np.isneginf(log_p)):
            raise InputError("p must be covered by q", got="p > 0 = q", remedy="smooth the reference, or forbid the event in p too")
        u = np.exp(np.where(impossible, 0.0, log_p) - np.where(impossible, 0.0, log_q))
        return np.sum(np.where(impossible, 0.0, np.exp(log_q) * self.f(u)), axis=-1)


def _below(y: Any, bound: float) -> Any:
    """y kept strictly below the supremum of f', where the inverse is infinite."""
    return np.minimum(y, np.nextafter(bound, -np.inf))


def _reverse_kl_inverse(y: Any) -> tuple[Array, Array]:
    u = np.exp(y - 1.0)
    return u, u


def _forward_kl_inverse(y: Any) -> tuple[Array, Array]:
    u = -1.0 / _below(y, 0.0)
    return u, u * u


def _chi_squared_inverse(y: Any) -> tuple[Array, Array]:
    return np.maximum(0.0, 1.0 + y), np.where(y > -1.0, 1.0, 0.0)


def _jensen_shannon_inverse(y: Any) -> tuple[Array, Array]:
    e = np.exp(_below(y, float(np.log(2.0))))
    return e / (2.0 - e), 2.0 * e / (2.0 - e) ** 2


def alpha(a: float) -> Divergence:
    """The alpha family f(u) = (u^a - 1 - a (u - 1)) / (a (a - 1)); a -> 1 is reverse KL, a -> 0 forward KL, a = 2 chi-squared.

    >>> float(alpha(0.5).f(4.0))
    2.0
    """
    if a in (0.0, 1.0) or not np.isfinite(a):
        raise InputError("alpha must be finite and neither 0 nor 1", got=a, remedy="use the forward or reverse KL record")

    def inverse(y: Any) -> tuple[Array, Array]:
        base = 1.0 + (a - 1.0) * (y if a > 1 else _below(y, 1.0 / (1.0 - a)))
        base = np.maximum(base, 0.0 if a > 1 else np.finfo(float).tiny)
        power = 1.0 / (a - 1.0)
        with np.errstate(divide="ignore", over="ignore"):
            u = np.where(base > 0, base**power, 0.0)
            return u, np.where(base > 0, base ** (power - 1.0), 0.0)

    return Divergence(
        name=f"alpha={a:g}",
        latex=r"\frac{u^\alpha - 1 - \alpha (u - 1)}{\alpha (\alpha - 1)}",
        f=lambda u: (u**a - 1.0 - a * (u - 1.0)) / (a * (a - 1.0)),
        slope=lambda u: (u ** (a - 1.0) - 1.0) / (a - 1.0),
        inverse_slope=inverse,
    )


_RECORDS = (
    Divergence("reverse-kl", r"u \log u", lambda u: special.xlogy(u, u), lambda u: 1.0 + np.log(u), _reverse_kl_inverse),
    Divergence("forward-kl", r"-\log u", lambda u: -np.log(u), lambda u: -1.0 / u, _forward_kl_inverse),
    Divergence("chi-squared", r"(u - 1)^2 / 2", lambda u: np.square(u - 1.0) / 2.0, lambda u: u - 1.0, _chi_squared_inverse),
    Divergence(
        "jensen-shannon",
        r"u \log u - (u + 1) \log\frac{u + 1}{2}",
        lambda u: special.xlogy(u, u) - (u + 1.0) * np.log((u + 1.0) / 2.0),
        lambda u: np.log(2.0 * u / (1.0 + u)),
        _jensen_shannon_inverse,
    ),
    alpha(0.5),
)
DIVERGENCES: dict[str, Divergence] = {d.name: d for d in _RECORDS}
