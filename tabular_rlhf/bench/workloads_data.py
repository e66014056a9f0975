r"""Workloads that learn from data: Bradley-Terry, DPO on sampled and on all pairs, and the KL estimators.  As in `workloads`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.bench import peers_data, peers_dpo, peers_kl
from tabular_rlhf.bench.peers import Runner, at_once
from tabular_rlhf.bench.peers_data import AllPairs, Comparisons, Near
from tabular_rlhf.bench.workloads import Bar, Workload, _error, workload
from tabular_rlhf.estimators import all_moments, flags, tally
from tabular_rlhf.estimators.evaluate import Moments
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses.fast import logistic_sums, population_dpo, token_dpo, win_rates
from tabular_rlhf.preferences import bradley_terry
from tabular_rlhf.preferences.comparisons import count_wins
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.sampling import Trajectories, population, sample

FORMULATED = ("k1", "k2", "k3", "abs", "k3-inverted", "full", "k1-straight-through", "k3-straight-through")
"""The estimators that the peers have, too."""
FLAGS = tuple(f for level in ("sequence", "token") for e in FORMULATED for f in flags(e, "loss", level) if f.level == level)
"""Each of them, of whole responses and by tokens."""

NATS = 1e-7
"""Rewards are the same optimum if they differ by at most this."""

WORKLOADS: list[Workload] = []
ALL_PAIRS, FEW_PAIRS = (AllPairs(2, 12),), (AllPairs(2, 9),)
enter = partial(workload, WORKLOADS)

# ---------------------------------------------------------------------------------------------------- agreement


def bradley_terry_disagreement(case: Comparisons, ours: Any, theirs: Any) -> float:
    """Largest difference of rewards, each centred, in units of NATS."""
    theirs = np.asarray(theirs)
    return float(np.max(np.abs((ours - np.mean(ours)) - (theirs - np.mean(theirs)))) / NATS)


def dpo_disagreement(case: Any, ours: Any, theirs: Any) -> float:
    return max(_error(ours[0], float(theirs[0])), _error(ours[1], np.asarray(theirs[1])))


def _shared(ours: Any, theirs: Any) -> list[tuple[peers_kl.Key, Moments, tuple[float, float, float]]]:
    """Straight-through estimators have the values of plain ones, which a peer need not repeat."""
    return [(key, x, theirs[key[0].removesuffix("-straight-through"), key[1]]) for key, x in ours.items()]


def kl_exact_disagreement(case: Near, ours: Any, theirs: Any) -> float:
    errors = [_error([x.std, x.mean], [np.sqrt(variance), mean]) for _, x, (mean, variance, _) in _shared(ours, theirs)]
    signs = [abs(x.negative - negative) / 1e-11 for _, x, (_, _, negative) in _shared(ours, theirs)]
    return float(max(*errors, *signs))


def kl_sampled_disagreement(case: Near, ours: Any, theirs: Any) -> float:
    """Both means against the exact ones, and both shares of negative values, in units of five exact standard errors."""
    exact, worst, rounding = our_kl_exact(case)(), [0.0], 1e-11
    for key, x, (mean, _, negative) in _shared(ours, theirs):
        e = exact[key]
        five = 5.0 * e.std / np.sqrt(case.draws) + rounding
        five_shares = 5.0 * np.sqrt(max(0.0, e.negative * (1.0 - e.negative)) / case.draws) + rounding
        worst += [abs(m - e.mean) / five for m in (x.mean, mean)] + [abs(s - e.negative) / five_shares for s in (x.negative, negative)]
    return float(max(worst))


# ---------------------------------------------------------------------------------------------------- ours


@enter(
    "bradley-terry",
    peers_data.BRADLEY_TERRY,
    bradley_terry_disagreement,
    Bar(0.5, "fastest peer"),
    Bar(0.05, "choix_pairs"),
    cases=(Comparisons(1000, 10**6),),
    quick=(Comparisons(60, 20_000),),
)
@at_once
def our_bradley_terry(case: Comparisons) -> Any:
    """rewards of 1000 items from 10^6 raw comparisons: count, existence, fit"""
    return fit(count_wins(*case.raw, case.items)).r


SAMPLED, FEW_SAMPLED = (Near(16, 5, 10**5),), (Near(8, 3, 2_000),)


@enter("dpo-sampled", peers_dpo.DPO_SAMPLED, dpo_disagreement, Bar(1.3, "torch"), cases=SAMPLED, quick=FEW_SAMPLED)
@at_once
def our_dpo_sampled(case: Near) -> Any:
    """DPO on 10^5 sampled pairs: loss and gradient in token logits"""
    loss, slope = token_dpo(case.world, case.rows, case.pairs)
    return loss, slope[0].T


def _our_population(case: AllPairs, tolerance: float | None) -> Runner:
    wins = win_rates(bradley_terry(case.world.r), case.world.log_p_ref)

    def run() -> Any:
        loss, slope = population_dpo(case.world, case.log_p, wins, tolerance=tolerance)
        return loss, slope[0]

    return run


@enter("dpo-population", peers_dpo.DPO_POPULATION, dpo_disagreement, Bar(0.2, "fastest peer"), cases=ALL_PAIRS, quick=FEW_PAIRS)
def our_dpo_population(case: AllPairs) -> Runner:
    """DPO on all pairs of 4096 responses: loss and gradient in log p, pair by pair"""
    return _our_population(case, None)


@enter("dpo-chebyshev", peers_dpo.DPO_POPULATION, dpo_disagreement, Bar(0.02, "fastest peer"), cases=ALL_PAIRS, quick=FEW_PAIRS)
def our_dpo_chebyshev(case: AllPairs) -> Runner:
    """the same by Chebyshev nodes, within 1e-13"""
    return _our_population(case, 1e-13)


@enter("dpo-every-pair", {}, dpo_disagreement, Bar(0.8, "one second"), cases=(Near(16, 5), Near(2, 20)), quick=(Near(8, 3), Near(2, 12)))
def our_dpo_every_pair(case: Near) -> Runner:
    """DPO on all pairs of 2^20 responses, labels by Bradley-Terry: their win rates, loss and gradient in log p"""
    r, log_p = case.world.r, case.world.mdp.path_sum(log_softmax(case.rows))

    def run() -> Any:
        wins = np.stack([logistic_sums(x, np.exp(q))[0] for x, q in zip(r, case.world.log_p_ref, strict=True)])
        loss, slope = population_dpo(case.world, log_p, wins)
        return loss, slope[0]

    return run


KL_CASES, FEW_KL = (Near(16, 5),), (Near(8, 3),)


@enter("kl-exact", peers_kl.KL_EXACT, kl_exact_disagreement, Bar(0.5, "one second"), cases=KL_CASES, quick=FEW_KL)
def our_kl_exact(case: Near) -> Runner:
    """mean, variance and sign of every KL estimator over 2^20 trajectories, exact"""
    log_pi = log_softmax(case.rows)
    return lambda: _our_moments(case, population(case.world, case.world.mdp.path_sum(log_pi)), log_pi)


@enter("kl-sampled", peers_kl.KL_SAMPLED, kl_sampled_disagreement, Bar(1.0, "one second"), cases=KL_CASES, quick=(Near(8, 3, 20_000),))
def our_kl_sampled(case: Near) -> Runner:
    """10^6 trajectories drawn and every KL estimator evaluated on them"""
    log_pi = log_softmax(case.rows)

    def run() -> Any:
        drawn = sample(case.world, case.world.mdp.path_sum(log_pi), case.draws, rng=np.random.default_rng(0))
        return _our_moments(case, tally(case.world, drawn), log_pi)

    return run


def _our_moments(case: Near, data: Trajectories, log_pi: Any) -> dict[peers_kl.Key, Moments]:
    found = all_moments(FLAGS, case.world, log_pi, data)
    return {(f.name, f.level): x for f, x in zip(FLAGS, found, strict=True)}
