r"""T6: losses over all pairs of responses, by the characteristic function of the implicit reward.

**Symbols.**  m(tau) = sum of m(s, a), the implicit reward beta log(p/p_ref) of a policy; pairs are drawn independently from a law q.

    phi(t) = E_q exp(i t m),     E softplus(m_1 - m_2) = log 2 + int_0^inf (1 - |phi(t)|^2) / (t sinh pi t) dt,

because softplus(z) - z/2 - log 2 = log cosh(z/2) = int (1 - cos t z)/(t sinh pi t) dt, and the mean of z is 0.  The integrand is even and
the trapezoidal rule with step h is exact for it but for aliases, of size exp(-(2 pi/h - |z|)): with 2 pi/h = width + 40, width the range
of m, they are rounding.  So the error is known before the work begins, and so is the work: about 2 (width + 40) points.

**What it gives.**  DPO's population loss is  E softplus(m_1 - m_2) - E[m (2 W - 1)],  W a response's win rate (`losses.fast`).  This is its
label-free half.  Labels by Bradley-Terry on a whole-number reward r need W, which the law of r gives, and E[m given r].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice.linear import moments
from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.logspace import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MARGIN = 40.0
"""Nats beyond the range of m at which aliases begin."""
END = 12.0
"""Where the integrand has fallen below rounding: exp(-pi END)."""
MOST = 20_000
"""Points of the integral."""

Summand = Callable[[int], Array]


def ranges_of(policy: Policy, x: Summand) -> tuple[Array, Array]:
    """The least and the largest sum of x along a possible path, for each prompt: (P,) each.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import fork
    >>> w = unmerged(fork()); ranges_of(Reference(w), lambda h: w.levels[h].r)
    (array([-3.]), array([3.]))
    """
    world, least, most = policy.world, np.zeros(1), np.zeros(1)
    for h in reversed(range(world.H)):
        level, here, never = world.levels[h], x(h), policy.pi(h) <= 0
        least = np.append(np.min(np.where(never, np.inf, here + level.pull(least)), axis=0), 0.0)
        most = np.append(np.max(np.where(never, -np.inf, here + level.pull(most)), axis=0), 0.0)
    return least[world.roots], most[world.roots]


def range_of(policy: Policy, x: Summand) -> tuple[float, float]:
    """The same over all prompts with mass.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import fork
    >>> w = unmerged(fork()); range_of(Reference(w), lambda h: w.levels[h].r)
    (-3.0, 3.0)
    """
    (least, most), asked = ranges_of(policy, x), policy.world.mu > 0
    return float(least[asked].min()), float(most[asked].max())


def characteristic(policy: Policy, x: Summand, points: Array) -> Array:
    """phi(t) = E exp(i t sum of x) for each prompt and point, (P, T).

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import coin
    >>> w = unmerged(coin()); characteristic(Reference(w), lambda h: w.levels[h].r, np.array([0.0, np.pi])).round(9).tolist()
    [[(1+0j), 0j]]
    """
    world = policy.world
    out = np.empty((world.language.P, len(points)), dtype=complex)
    for j, t in enumerate(points):
        here, before = np.ones(1, dtype=complex), None
        for h in reversed(range(world.H)):
            level, pi, own = world.levels[h], policy.pi(h), x(h)
            if before is None or before[0] is not level or before[1] is not pi or before[2] is not own:
                A: csr_array = level.matrix(pi * np.exp(1j * t * own))
                before = (level, pi, own)
            here = np.append(A @ here, 1.0)
        out[:, j] = here[world.roots]
    return out


def pair_softplus(policy: Policy, x: Summand) -> Array:
    """E softplus(m_1 - m_2) over independent pairs of responses to the same prompt, m the sum of x: (P,), nats.

    Raises: InputError where m ranges so widely that the integral needs more than `MOST` points.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import coin
    >>> w = unmerged(coin()); round(float(pair_softplus(Reference(w), lambda h: w.levels[h].r)[0]), 12)
    0.753204434039
    """
    low, high = range_of(policy, x)
    h = 2.0 * np.pi / (high - low + MARGIN)
    count = int(END / h) + 1
    if count > MOST:
        got, remedy = f"a range of {high - low:.3g} nats", "take a policy nearer to the reference, or average over sampled pairs"
        raise InputError(f"the integral over pairs must need at most {MOST:,} points", got=got, remedy=remedy)
    t: Array = h * np.arange(1.0, count + 1.0)
    phi = characteristic(policy, x, t)
    slope = variance_of(policy, x) / np.pi  # the integrand's limit at 0, half of whose cell is ours
    integrand = (1.0 - np.square(np.abs(phi))) / (t * np.sinh(np.pi * t))
    return np.asarray(np.log(2.0) + h * (0.5 * slope + integrand.sum(axis=1)))


def variance_of(policy: Policy, x: Summand) -> Array:
    """The variance of a sum along the path, for each prompt: (P,)."""
    found = moments(policy, 1, lambda h: {(0, -1): x(h), (0, 0): 1.0})
    return np.zeros(0) if found.covariance is None else np.asarray(found.covariance[:, 0, 0])
