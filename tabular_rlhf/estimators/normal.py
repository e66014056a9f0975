r"""The published table: k1, k2 and k3 between two normal distributions, from a grid, by the same code as everything else.

**Symbols.**  Samples x ~ q = N(0, 1), the policy; p = N(m, 1), the reference; KL(q, p) = m^2/2.  The line is cut into cells, a
world of one token whose vocabulary is the cells; each cell has the density at its middle times its width.

**Numbers.**  For smooth densities that vanish at both ends the midpoint rule errs far below rounding (it is spectrally exact),
so the grid's KL is m^2/2 to 1e-12, and the table does not depend on the grid.

Source: Schulman (2020), Approximating KL divergence: m = 0.1 (KL 0.005) and m = 1 (KL 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tabular_rlhf.estimators.evaluate import moments, table
from tabular_rlhf.estimators.record import Flag
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.sampling import population
from tabular_rlhf.world import World

REACH = 12.0
PUBLISHED = {
    0.1: {"k1": ("0", "20"), "k2": ("0.002", "1.42"), "k3": ("0", "1.42")},
    1.0: {"k1": ("0", "2"), "k2": ("0.25", "1.73"), "k3": ("0", "1.7")},
}
"""bias/KL and std/KL as printed, by the shift m."""


@dataclass(frozen=True)
class NormalRow:
    """One estimator between normals a shift apart: KL, bias/KL, std/KL, P(estimate < 0)."""

    estimator: str
    kl: float
    bias: float
    std: float
    negative: float


def normal_table(shift: float, *, cells: int = 2**16, estimators: tuple[str, ...] = ("k1", "k2", "k3")) -> list[NormalRow]:
    """Bias and spread of each estimator, relative to the KL.

    >>> for row in normal_table(0.1, cells=4096): print(f"{row.estimator} {abs(row.bias):.4f} {row.std:.2f}")
    k1 0.0000 20.00
    k2 0.0025 1.42
    k3 0.0000 1.42
    """
    edges = np.linspace(-REACH, REACH + shift, cells + 1)
    x = 0.5 * (edges[1:] + edges[:-1])
    mdp = TokenMDP(cells, horizon=1)
    log_q, log_p = (log_softmax(-0.5 * np.square(x - m))[None, None] for m in (0.0, shift))
    world = World(mdp, log_p, np.zeros((1, cells)), 1.0, name="normal")
    everything = population(world, mdp.path_sum(log_q))
    found = {name: moments(everything, table(Flag(name, "loss"), world, log_q)) for name in estimators}
    exact = 0.5 * shift**2
    return [NormalRow(name, exact, m.mean / exact - 1.0, m.std / exact, m.negative) for name, m in found.items()]


def agrees(value: float, printed: str) -> bool:
    """Whether a printed number is the value to every digit it shows: within half a unit of its last digit, ties included.

    k2's bias at m = 0.1 is such a tie: m^2/4 = 0.0025 exactly, printed 0.002 (the published table was sampled).

    >>> agrees(1.695, "1.7"), agrees(0.0025, "0.002"), agrees(1.7246, "1.73")
    (True, True, False)
    """
    unit = 10.0 ** -len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * unit * (1.0 + 1e-9)
