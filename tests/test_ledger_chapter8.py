"""Chapter 8 of the ledger: every row is sampled; that rows hold is a law over the whole ledger (`test_ledger`)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tabular_rlhf.estimators import Flag, table
from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.ledger import LEDGER, Scope, audit
from tabular_rlhf.ledger.chapter8_tokens import gain_over_states, gain_over_trajectories
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import random_world

SLUGS = ["k1", "k2", "second-order", "k3", "kl-estimator-theorem", "kl-placement", "kl-gradients"]
SLUGS += ["token-vs-sequence", "rao-blackwell", "importance-ratio"]


@pytest.mark.parametrize("slug", SLUGS)
def test_a_row_is_sampled(slug: str) -> None:
    assert LEDGER[slug].sampled is not None


def test_a_gradient_wrong_by_a_millionth_is_noticed() -> None:
    row = LEDGER["kl-placement"]
    name = "the surrogate, by the gradient core"
    right = row.sides[name]
    wrong = replace(row, sides={**row.sides, name: lambda world, log_pi: tuple(g * (1 + 1e-6) for g in right(world, log_pi))})  # type: ignore[operator]
    (verdict,) = audit([wrong], worlds=10)
    assert not verdict.holds


@pytest.mark.parametrize(
    ("p", "k1", "full"), [((1 / 3, 1 / 3, 1 / 3, 0), 0.0, 2 / 9 * math.log(2) ** 2), ((0.333, 0.333, 0.333, 0.001), 0.0337, 0.1007)]
)
def test_exact_kls_may_have_more_variance_than_k1_against_the_published_bound(p: tuple[float, ...], k1: float, full: float) -> None:
    """p_ref uniform on four leaves: by plain math, and by both roads of the row."""

    def kl_of(law: list[float]) -> float:
        return sum(x * math.log(2 * x) for x in law if x)

    heads = [p[0] + p[1], p[2] + p[3]]
    path = [kl_of(heads) + kl_of([p[2 * i] / heads[i], p[2 * i + 1] / heads[i]]) for i in (0, 0, 1, 1)]
    paid = [math.log(4 * x) if x else 0.0 for x in p]
    by_hand = [
        sum(w * (x - sum(w * x for w, x in zip(p, of, strict=True))) ** 2 for w, x in zip(p, of, strict=True)) for of in (paid, path)
    ]
    assert by_hand == pytest.approx([k1, full], abs=5e-5)
    mdp = TokenMDP(2, 2)
    with np.errstate(divide="ignore"):
        log_pi = log_policy_of(mdp, np.log([p]))
    for gain in (gain_over_trajectories, gain_over_states):
        assert gain(mdp, log_pi, np.log(np.full((1, 3, 2), 0.5)))[0] == pytest.approx(by_hand[0] - by_hand[1], abs=1e-14)


def test_exact_kls_of_states_gain_or_lose_variance() -> None:
    """Both signs occur among policies with full support, and the two roads agree."""
    gains = []
    for seed in range(60):
        world = random_world(rng=np.random.default_rng(seed), V=2, H=2, eos=True)
        scope = Scope(world, seed)
        # close to p_ref restricted to a set: a small share of everything else is left
        p = 0.98 * np.exp(scope["log_p_cut"]) + 0.02 * np.exp(world.log_p_ref)
        log_pi = log_policy_of(world.mdp, np.log(p))
        one, two = gain_over_trajectories(world.mdp, log_pi, world.log_ref), gain_over_states(world.mdp, log_pi, world.log_ref)
        assert abs(float(one[0] - two[0])) < 1e-12 * (1 + float(np.max(np.square(table(Flag("k1", "loss"), world, log_pi)))))
        gains.append(float(one[0]))
    assert min(gains) < -1e-3
    assert max(gains) > 1e-3
