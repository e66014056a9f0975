"""Chapter 6 of the ledger: its rows are there, and planted faults are caught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.ledger import chapter6, chapter6_data, chapter6_family
from tabular_rlhf.ledger.audit import audit
from tabular_rlhf.ledger.record import LEDGER, Approximately, Row
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses.evaluate import gradient, logit_gradient
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World, coin, rational

HERE = {m.__name__ for m in (chapter6, chapter6_data, chapter6_family)}
SLUGS = [slug for slug, row in LEDGER.items() if any(f.__module__ in HERE for f in row.functions)]


def test_the_chapter_is_there() -> None:
    wanted = "reward-inversion dpo-loss dpo-gradient dpo-population-optimum dpo-is-bt-mle dpo-deterministic-labels "
    wanted += "likelihood-displacement logit-conservation shift-invariance-of-losses ipo-two-arms direct-family"
    assert set(wanted.split()) == set(SLUGS)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_fault_of_one_part_in_a_hundred_is_seen(slug: str) -> None:
    """Each side in turn is spoiled; the row must fail."""
    row = LEDGER[slug]
    for verdict in audit([spoiled(row, name) for name in list(row.sides)[1:]], worlds=6, seed=5):
        assert verdict.error > 1.0


def spoiled(row: Row, name: str) -> Row:
    side = row.sides[name]
    f = side.side if isinstance(side, Approximately) else side

    def wrong(world: Any) -> Any:
        return tuple(np.asarray(part) * 1.01 + 1e-4 for part in as_tuple(Scope(world, 0).call(f)))

    return replace(row, sides={**row.sides, name: replace(side, side=wrong) if isinstance(side, Approximately) else wrong})


def as_tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def test_the_dimension_of_the_minimizer_set_counts_components() -> None:
    """Six responses: four compared in two groups of two, two never: four components, three free dimensions."""
    mdp = TokenMDP(6, horizon=1)
    world = World(mdp, uniform(mdp), np.zeros((1, 6)), 1.0)
    assert len(set(chapter6_data.components(world)[0].tolist())) == 4
    assert chapter6_data.free_dimensions(world) == chapter6_data.flat_dimensions(world) == 3.0


def test_displacement_lowers_the_winner_in_a_log_linear_class_and_feeds_an_unseen_response() -> None:
    """Three responses; winner and loser share most of a feature that the unseen one has more of."""
    phi = np.array([[1.0], [0.5], [3.0]])  # winner, loser, unseen
    p = np.exp(log_softmax(np.zeros(3)))
    rate = (phi[0] - p @ phi) @ (phi[0] - phi[1])
    assert rate < 0
    theta = 0.1 * (phi[0] - phi[1])  # a DPO step is along phi_w - phi_l
    after = np.exp(log_softmax(phi @ theta))
    assert after[0] < p[0]
    assert after[1] < p[1]
    assert after[2] > p[2]


def test_tabular_step_never_lowers_the_winner(rng: np.random.Generator) -> None:
    world = rational()
    for _ in range(20):
        log_p = log_softmax(rng.standard_normal((1, 3)))
        w, l = rng.permutation(3)[:2]
        pair = Pairs(np.zeros(1, dtype=int), np.array([w]), np.array([l]), np.ones(1), 1)
        slope = logit_gradient(log_p, gradient("dpo", world, log_p, pair))
        rise = -slope[0, w] + np.exp(log_p[0]) @ slope[0]
        assert rise > 0


def test_ipo_two_arms_by_hand() -> None:
    assert abs(chapter6_family.two_arms(0.5) - 1 / (1 + np.exp(-1.0))) < 1e-12
    assert coin(0.5).beta == 0.5
