"""Chapter 9 of the ledger: the rows hold where tokens are forbidden."""

from __future__ import annotations

import numpy as np
import pytest

from tabular_rlhf.ledger.record import LEDGER, as_parts
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import coin, random_world

SLUGS = ("best-of-n", "rejection-sampling", "expert-iteration")


@pytest.mark.parametrize("slug", SLUGS)
def test_a_row_holds_where_tokens_are_forbidden(slug: str) -> None:
    row = LEDGER[slug]
    for seed in range(4):
        scope = Scope(random_world(rng=np.random.default_rng(seed), V=3, H=2, P=2, forbidden=0.4, beta=0.7), seed)
        assert row.applies(scope)
        assert max(max(errors) for errors in row.errors(scope).values()) <= 1.0


def test_best_of_n_on_a_coin_by_hand() -> None:
    """Best of 3 on a fair coin: heads 7/8; KL = 7/8 log 7/4 + 1/8 log 1/4; wins 7/8 * 3/4 + 1/8 * 1/4 = 11/16."""
    scope = Scope(coin(), 0)
    scope._known["draws"] = 3
    for side in LEDGER["best-of-n"].sides:
        law, far, reward, wins, bound = as_parts(LEDGER["best-of-n"].evaluate(scope, side))
        assert law[0] == pytest.approx([0.125, 0.875], abs=1e-15)
        assert far[0] == pytest.approx(0.875 * np.log(1.75) + 0.125 * np.log(0.25), abs=1e-15)
        assert reward[0] == pytest.approx(0.875, abs=1e-15)
        assert wins[0] == pytest.approx(0.6875, abs=1e-15)
        assert bound[0] == pytest.approx(np.log(3) - 2 / 3)
        assert far[0] < bound[0]
