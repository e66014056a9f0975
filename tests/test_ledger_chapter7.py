"""Chapter 7 of the ledger: the rows are there, they hold, their near misses fall on tiny worlds, and broken sides are noticed.

The general laws of rows run over the whole ledger in `test_ledger`; here is what belongs to the chapter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tabular_rlhf.ledger import chapter7, chapter7_groups, chapter7_lengths, chapter7_steps
from tabular_rlhf.ledger.audit import audit, select
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.ledger.worlds import tiny_worlds
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World, random_world

ROOMS = (chapter7, chapter7_groups, chapter7_lengths, chapter7_steps)
SLUGS = [
    *("policy-gradient", "zero-mean-score", "reward-to-go", "optimal-baseline", "kl-regularized-gradient", "rloo", "grpo"),
    *("group-identities", "aggregation", "ppo-clip", "natural-gradient", "ppo-ptx-gradient"),
]


def test_every_row_of_the_chapter_is_there() -> None:
    assert {row.slug for row in select(chapter=7)} == set(SLUGS)
    assert all(room.__doc__ for room in ROOMS)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_row_holds_and_its_near_misses_do_not(slug: str) -> None:
    (verdict,) = audit([LEDGER[slug]], worlds=40, seed=29)
    assert verdict.holds, f"{verdict.worst}: {verdict.error} tolerances, z {verdict.z}, {verdict.refuted}"
    assert all(found is not None and found <= 3 for found in verdict.refuted.values())


@pytest.mark.parametrize("slug", SLUGS)
def test_a_row_holds_where_tokens_are_forbidden(slug: str) -> None:
    row = LEDGER[slug]
    for seed in range(4):
        scope = Scope(random_world(rng=np.random.default_rng(seed), V=3, H=2, P=2, forbidden=0.4, beta=0.7), seed)
        if row.applies(scope):
            assert max(max(errors) for errors in row.errors(scope).values()) <= 1.0


def two_tokens(past: float, future: float) -> Scope:
    """Two tokens: the first may earn `past`, the second always earns `future` after it; else nothing."""
    mdp = TokenMDP(2, 2)
    scope = Scope(World(mdp, uniform(mdp), np.zeros((1, 4)), 1.0), 0)
    r_token = np.zeros((1, 3, 2))
    r_token[0, 0, 0], r_token[0, mdp.find_state("0"), :] = past, future
    scope._known |= {"r_token": r_token, "logits": np.zeros((1, 3, 2))}
    return scope


def test_reward_to_go_may_raise_the_variance() -> None:
    """Half the responses earn 1 and then -1 for certain: the return is 0, the reward to go of the second token is not.

    By hand: |score|^2 = 1/2 in both states; past = 1, future = -1 with probability 1/2: 1/2 * 1/2 * (1 - 2) = -1/4.
    """
    row = LEDGER["reward-to-go"]
    for side in row.sides:
        assert row.evaluate(two_tokens(1.0, -1.0), side)[1] == pytest.approx([-0.25])
        assert row.evaluate(two_tokens(1.0, 1.0), side)[1] == pytest.approx([0.75])


def test_group_mean_is_not_taken_for_unbiased_by_accident() -> None:
    """At G = 2 the group mean halves the gradient: the row sees it, and a row that claimed otherwise would fail."""
    row = LEDGER["rloo"]
    wrong = replace(row, sides={"closed form": row.sides["counts of reward levels"], "wrong": row.sides["closed form"]})
    (verdict,) = audit([wrong], worlds=5)
    assert verdict.holds
    broken = replace(row, sides={**row.sides, "unbiased both": lambda world, log_pi, graded: (_gradient(world, log_pi, graded),) * 2})
    (verdict,) = audit([broken], worlds=5)
    assert not verdict.holds
    assert verdict.worst.startswith("unbiased both, group mean")


def _gradient(world: World, log_pi: object, graded: object) -> object:
    return chapter7.true_gradient(world, log_pi, graded)  # type: ignore[arg-type]


def test_plain_python_knows_grpo_by_heart() -> None:
    """G = 2: A = +-1 when the two differ, so c_2 = (1 - q) + q = 1; ddof 1 divides by sqrt 2 more."""
    for q in (0.0, 0.1, 0.5, 1.0):
        assert chapter7_groups.weight_in_words(q, 2) == pytest.approx(1.0, abs=1e-15)
        assert chapter7_groups.weight_in_words(q, 2, ddof=1) == pytest.approx(0.5**0.5, abs=1e-15)


def test_tiny_worlds_hold_responses_of_different_length() -> None:
    assert any(np.ptp(w.mdp.lengths) > 0 for w in tiny_worlds(0))
