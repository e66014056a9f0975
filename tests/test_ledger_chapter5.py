"""Chapter 5 and the preference game in the ledger: the rows notice planted faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.ledger import chapter5, chapter5_roads, chapter6_games
from tabular_rlhf.ledger.audit import audit
from tabular_rlhf.ledger.chapter5 import counts_of_strings, legs
from tabular_rlhf.ledger.chapter5_roads import by_scanning, mean_field, reverse_modes
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.logspace import expect, kl
from tabular_rlhf.symbols import Scope
from tabular_rlhf.terms.sizes import deepest
from tabular_rlhf.world import rational

assert chapter5
assert chapter5_roads
assert chapter6_games


PLANTED: dict[str, tuple[str, Callable[..., Any]]] = {
    "Pythagoras with the other leg": (
        "i-projection",
        lambda log_p_level, log_p, log_p_star, log_p_ref, E_r, r, beta: (
            legs(log_p_level, log_p_star, log_p_ref),
            kl(log_p_star, log_p_ref),
            legs(log_p, log_p_star, log_p_ref) - (E_r - expect(log_p_star, r)) / beta,
        ),
    ),
    "visits of the projection for visits of the target": (
        "m-projection-gap",
        lambda mu, d_star, d_hat, log_pi_hat, log_pi_tied: (
            np.sum(mu[:, None] * d_hat * kl(log_pi_hat, log_pi_tied)),
            np.sum(mu[:, None] * (d_star - d_hat) * kl(log_pi_hat, log_pi_tied)),
        ),
    ),
    "prompts counted alike": (
        "m-projection-counts",
        lambda mdp, tied, mu, p_star: (counts_of_strings(mdp, tied, np.ones_like(mu), p_star), np.zeros(tied.shape)),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str) -> None:
    slug, wrong = PLANTED[fault]
    (verdict,) = audit([replace(LEDGER[slug], sides={**LEDGER[slug].sides, fault: wrong})], worlds=40)
    assert not verdict.holds
    assert verdict.worst.startswith(fault)


def test_the_mean_field_bifurcates_at_two() -> None:
    for L in (0.5, 1.8, 1.99):
        assert mean_field(L) == (0.5, 0.5, 1.0)
    for L in (2.2, 3.0, 5.0, 12.0):
        low, high, count = mean_field(L)
        assert count == 2.0
        assert low + high == pytest.approx(1.0)
        assert np.log(high / low) == pytest.approx((high - low) * L, rel=1e-12), "logit pi = m L"
        assert reverse_modes(L) == pytest.approx((low, high, 2.0), abs=1e-9)
        assert by_scanning(L) == pytest.approx((low, high, 2.0), abs=1e-6)


def test_deepest_reads_finite_logs_only() -> None:
    scope = Scope(rational(), 0)
    assert deepest(scope["log_p_ref"], np.array([-np.inf])) == pytest.approx(1 + float(np.max(-scope["log_p_ref"])))
