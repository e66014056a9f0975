"""Where KL flags lead: flows against closed-form optima, the threshold against a linear programme, the figures that show it."""

from __future__ import annotations

import numpy as np
import pytest

from tabular_rlhf.errors import SolveError
from tabular_rlhf.estimators import Flag, analyse, field, flags, flow, flows, optimum
from tabular_rlhf.estimators.record import LEVELS
from tabular_rlhf.estimators.theorem import threshold
from tabular_rlhf.figures import kl as figures
from tabular_rlhf.gibbs import log_policy_of, solve
from tabular_rlhf.world import random_world
from tests.laws import assert_close

# ---------------------------------------------------------------------------------------------------- where it leads


@pytest.mark.parametrize("level", list(LEVELS))
def test_flows_end_at_the_closed_form_optimum(level: str) -> None:
    """Every flag with a closed form, from the reference; |L| slides along a corner of width 1e-3."""
    world = random_world(rng=np.random.default_rng(8), V=2, H=2, beta=0.8)
    checked = 0
    for flag in flags(level=level):
        best = optimum(flag, world)
        if best is None:
            continue
        end = np.exp(flow(flag, world, horizon=1e5).end)
        # probabilities that vanish do so as 1/(gap * time), with gaps from 0.01 here; interior optima are reached exponentially
        tol = 3e-3 if flag.estimator == "abs" else 1e-3 if np.isneginf(best.log_p).any() else 1e-6
        assert_close(end, np.exp(best.log_p), tol, flag.label)
        checked += 1
    assert checked >= 12


def test_the_optimum_is_a_zero_of_the_field() -> None:
    world = random_world(rng=np.random.default_rng(9), V=3, H=2, P=2, beta=0.8)
    for flag in flags() + flags(level="token"):
        best = optimum(flag, world)
        if best is None or np.isneginf(best.log_p).any() or flag.estimator == "abs":
            continue
        at = field(flag, world, log_policy_of(world.mdp, best.log_p))
        assert_close(at, 0.0, 1e-12, flag.label)


def test_the_threshold_is_the_linear_programme() -> None:
    """E[r] - beta sum |p - p_ref| with p = p_ref + up - down, by scipy's simplex method."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(2)
    for _ in range(20):
        p_ref, r, beta = rng.dirichlet(np.ones(5)), rng.standard_normal(5), float(rng.uniform(0.1, 1.0))
        found = linprog(
            np.concatenate([beta - r, beta + r]),
            A_eq=[np.concatenate([np.ones(5), -np.ones(5)])],
            b_eq=[0.0],
            bounds=[(0, None)] * 5 + [(0, p) for p in p_ref],
        )
        assert found.success
        law = np.exp(threshold(np.log(p_ref)[None], r[None], beta))[0]
        value = float(law @ r - beta * np.sum(np.abs(law - p_ref)))
        assert_close(value, float(p_ref @ r) - found.fun, 1e-9)


def test_k3_in_the_reward_runs_away_though_its_value_is_unbiased() -> None:
    world = figures.three()
    report = analyse(Flag("k3", "reward"), world, solve(world).log_pi)
    assert abs(report.bias) < 1e-14
    assert report.descends == "KL(pi, ref) - KL(ref, pi)"
    path = flow(Flag("k3", "reward"), world, horizon=300.0)
    assert np.exp(path.end).max() > 1 - 1e-9
    assert path.regret[-1] > 0.2
    assert flow(Flag("k3", "ratio"), world, horizon=300.0).regret[-1] < 1e-9


def test_the_natural_field_times_fisher_is_the_field() -> None:
    """In tabular logits Fisher's matrix is one block a state: mu d(s) (diag(pi) - pi pi^T)."""
    world = random_world(rng=np.random.default_rng(3), V=3, H=3, P=2)
    log_pi = solve(world).log_pi
    pi, d = np.exp(log_pi), world.mu[:, None] * np.exp(world.mdp.prefix_sum(log_pi))
    for flag in (None, *flags(placement="reward")):
        natural = field(flag, world, log_pi, natural=True)
        back = d[..., None] * pi * (natural - np.sum(pi * natural, axis=-1, keepdims=True))
        plain = field(flag, world, log_pi)
        assert_close(back, plain, 1e-13 * (1 + np.abs(plain).max()))


def test_natural_flows_arrive_and_what_has_vanished_is_held_at_a_floor() -> None:
    """A natural flow reaches the edge in finite time and stops there; a plain one goes on, its vanished tokens at the floor."""
    world = figures.three()
    assert flow(Flag("k2", "loss"), world, natural=True, horizon=100.0).regret[-1] < 1e-12
    edge = flow(Flag("k3", "reward"), world, natural=True, horizon=1e6)
    assert edge.time[-1] < 1e6
    path = flow(Flag("k3", "reward"), world.at(1.96), horizon=1e9)
    assert path.time[-1] == 1e9
    assert not np.isnan(path.log_p).any()
    assert_close(np.exp(path.end), [[0.0, 1.0, 0.0]], 1e-12)  # not where it is when the first token vanishes


def test_a_flow_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "EVALUATIONS", 20)
    with pytest.raises(SolveError, match=r"flow of k2 loss could not be followed .* more than 20 evaluations"):
        _ = flow(Flag("k2", "loss"), figures.three())


def test_the_figures_show_what_they_say() -> None:
    optima = figures.compute_optima()
    gibbs = [row["label"] for row in optima["flags"] if row["regret"] < 1e-6]
    assert gibbs == ["k2 in the loss"]
    for row in optima["flags"]:
        # a vertex is reached as 1/(gap * time); |L| leaves a gap of 1 - 0.4 * 2 = 0.2, and the flow runs to time 1000
        assert_close(row["path"][-2], row["end"], 1 / (0.2 * 1e3), row["label"])
    runaway = {row["glyph"]: row for row in figures.compute_runaway()["flags"]}
    assert runaway["k3-reward"]["regret"][-1] > 0.2 > runaway["k3"]["regret"][-1] > 0.01
    assert runaway["k1-reward"]["regret"][-1] < 1e-5  # at the end of the picture, time 60
    spread = figures.compute_spread(shifts=3, cells=4096)
    close, far = ({name: spread["std"][name][i] for name in ("k1", "k2", "k3")} for i in (0, -1))
    assert (max(close, key=close.__getitem__), max(far, key=far.__getitem__)) == ("k1", "k3")  # the caption
    assert_close(spread["std"]["k1"], 2 / np.sqrt(2 * np.array(spread["kl"])), 1e-9)
