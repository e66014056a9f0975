r"""The workloads: what is computed, by us and by whom else, and the bar that our time has to clear.

A workload is a record: name, what it computes, its cases, our formulation and those of the peers, what is compared before
the clock starts, and its bars.  A bar says: our time is at most `limit` times that of `over`, where `over` is "fastest peer",
a library (its fastest formulation), one formulation (ours, written for that library), another workload of ours, same case, or
"one second".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf import autodiff, gibbs
from tabular_rlhf.bench import peers
from tabular_rlhf.bench.peers import Case, Peers, Runner, at_once
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.sampling import estimate, population, sample

LARGE = (Case(16, 5), Case(2, 20))
TINY = (Case(3, 3),)
SMALL = (Case(16, 3, 20_000), Case(2, 12, 20_000))
"""Stand-ins for the large cases with --quick: they exercise every formulation, their ratios say little."""


@dataclass(frozen=True)
class Bar:
    """Our time is at most `limit` times that of `over`."""

    limit: float
    over: str


@dataclass(frozen=True)
class Workload:
    """One thing to compute, and who computes it how.

    ours: from a case to a call without arguments; peers: the same by library; disagreement: (case, our answer, theirs) to the
    largest error in units of what is tolerated, so that more than 1 is a disagreement; quick: the cases of --quick, where they are
    not the usual stand-ins.
    """

    name: str
    what: str
    ours: Callable[[Any], Runner]
    peers: Peers
    disagreement: Callable[[Any, Any, Any], float]
    bars: tuple[Bar, ...] = ()
    cases: tuple[Any, ...] = LARGE
    quick: tuple[Any, ...] = ()


Ours = Callable[[Any], Runner]


def workload(
    table: list[Workload],
    name: str,
    peers: Peers,
    disagreement: Callable[[Any, Any, Any], float],
    *bars: Bar,
    what: str = "",
    cases: tuple[Any, ...] = LARGE,
    quick: tuple[Any, ...] = (),
) -> Callable[[Ours], Ours]:
    """Enter our formulation, which the line stands above, into a table; what it computes is its docstring, if nothing else is said."""

    def entered(ours: Ours) -> Ours:
        table.append(Workload(name, what or ours.__doc__ or "", ours, peers, disagreement, bars, cases, quick))
        return ours

    return entered


WORKLOADS: list[Workload] = []


# ---------------------------------------------------------------------------------------------------- agreement


def _error(a: Any, b: Any) -> float:
    """Largest difference, in units of 1e-11 of the largest value: far above rounding, far below any mistake."""
    a, b = np.asarray(a), np.asarray(b)
    return float(np.max(np.abs(a - b)) / (1e-11 * np.max(np.abs(a))))


def gibbs_disagreement(case: Case, ours: Any, theirs: Any) -> float:
    log_Z, p, pi = theirs
    levels = np.concatenate([np.asarray(level) for level in pi], axis=1)
    return max(_error(ours.log_Z, np.asarray(log_Z)), _error(ours.p[0], p), _error(ours.pi[0].T, levels))


def nobody(case: Any, ours: Any, theirs: Any) -> float:
    """Nobody else computes it: there is nothing to compare."""
    return 0.0


def gradient_disagreement(case: Case, ours: Any, theirs: Any) -> float:
    return _error(ours, theirs)


def sample_disagreement(case: Case, ours: Any, theirs: Any) -> float:
    """Both means of the reward against the exact one, in units of five exact standard errors; and log p must be that of tau."""
    world = case.world
    whole = population(world, world.log_p_ref)
    exact = estimate(whole, whole[world.r])
    draws = [(ours.tau, ours.log_p), (np.asarray(theirs[0]), np.asarray(theirs[1]))]
    five = 5.0 * np.sqrt(exact.variance / case.draws)
    drift = [abs(float(np.mean(world.r[0][tau])) - exact.mean) / five for tau, _ in draws]
    return float(max(*drift, *(_error(world.log_p_ref[0][tau], log_p) for tau, log_p in draws)))


# ---------------------------------------------------------------------------------------------------- ours


@workload(WORKLOADS, "gibbs", peers.GIBBS, gibbs_disagreement, Bar(1.3, "fastest peer"))
@at_once
def our_gibbs(case: Case) -> Any:
    """the Gibbs optimum: log Z, p* of every response, pi* of every state (log p_ref given)"""
    return gibbs.solve_anew(case.world)


def objective(case: Case) -> Callable[[Any], Any]:
    """J of logits (V, S) as a reader would write it in plain NumPy: one log-softmax, a sweep level by level, the objective."""
    r, log_p_ref, beta = case.world.r[0], case.world.log_p_ref[0], case.world.beta
    bounds = np.cumsum(case.widths)[:-1]

    def J(logits: Any) -> Any:
        log_p = np.zeros(1)
        for level in np.split(log_softmax(logits, axis=0), bounds, axis=1):
            log_p = np.reshape(log_p + level, -1)
        return np.sum(np.exp(log_p) * (r - beta * (log_p - log_p_ref)))

    return J


@workload(WORKLOADS, "objective", {}, gradient_disagreement)
def our_objective(case: Case) -> Runner:
    """J of a policy's logits, plain NumPy, untraced"""
    return partial(objective(case), case.logits)


@workload(WORKLOADS, "gradient", peers.GRADIENT, gradient_disagreement, Bar(1.0, "torch_gradient"), Bar(3.0, "objective"))
def our_gradient(case: Case) -> Runner:
    """gradient of the same J through the gradient core"""
    return partial(autodiff.grad(objective(case)), case.logits)


@workload(WORKLOADS, "closed-form", peers.GRADIENT, gradient_disagreement, Bar(1 / 1.5, "fastest peer"))
def our_closed_form(case: Case) -> Runner:
    """gradient of the same J by one backward sweep, against automatic ones"""
    logits = np.swapaxes(case.logits, 0, 1)[None]
    return lambda: gibbs.policy_gradient(case.world, logits)[0].T


tiny = "gradient of J on a tiny world, through the gradient core"
workload(WORKLOADS, "tiny", peers.GRADIENT, gradient_disagreement, Bar(1.0, "torch_gradient"), what=tiny, cases=TINY)(our_gradient)


@workload(WORKLOADS, "sample", peers.SAMPLE, sample_disagreement, Bar(0.5, "fastest peer"))
@at_once
def our_sample(case: Case) -> Any:
    """10^6 trajectories with their log-probabilities"""
    return sample(case.world, case.world.log_p_ref, case.draws, rng=np.random.default_rng(0))
