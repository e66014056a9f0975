"""Selection: exact laws against all sequences of draws, their limits and bounds, samplers against laws, curves against Gibbs."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from matplotlib.figure import Figure as Sheet

from tabular_rlhf import selection
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.figures import page
from tabular_rlhf.figures import selection as figure
from tabular_rlhf.gibbs import frontier, greedy_limit, log_gibbs, solve
from tabular_rlhf.logspace import expect, kl, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.sampling import estimate, population
from tabular_rlhf.world import World, coin, random_world, rational
from tests.laws import EPS, WORLDS, assert_close


def by_draws(world: World, x: int, n: int, choose: Any) -> Any:
    """The law of what `choose` (weights of the n members, given their rewards) picks from n draws, by plain enumeration."""
    law, p = [0.0] * world.mdp.N, np.exp(world.log_p_ref[x]).tolist()
    for draws in itertools.product(range(world.mdp.N), repeat=n):
        weights = choose([float(world.r[x, t]) for t in draws])
        for t, w in zip(draws, weights, strict=True):
            law[t] += math.prod(p[i] for i in draws) * w / math.fsum(weights)
    return law


SMALL = {name: w for name, w in WORLDS.items() if w.mdp.N <= 7}


@pytest.mark.parametrize("name", list(SMALL))
def test_laws_are_those_of_all_draws(name: str) -> None:
    world, lam = SMALL[name], 0.7
    for n in (1, 2, 3):
        best, soft = selection.best_of_n(world.log_p_ref, world.r, n), selection.soft_best_of_n(world.log_p_ref, world.r, n, lam)
        for x in range(world.mdp.P):
            hard_choice = by_draws(world, x, n, lambda r: [float(v == max(r)) for v in r])
            soft_choice = by_draws(world, x, n, lambda r: [math.exp((v - max(r)) / lam) for v in r])
            assert_close(np.exp(best[x]), np.array(hard_choice), 32 * n * world.mdp.N * EPS, name)
            assert_close(np.exp(soft[x]), np.array(soft_choice), 1e-13, name)


@pytest.mark.parametrize("name", list(WORLDS))
def test_best_of_n_is_a_law_within_its_bound(name: str) -> None:
    world = WORLDS[name]
    for n in (1, 2.5, 7, 1000, 10**9):
        log_p = selection.best_of_n(world.log_p_ref, world.r, n)
        assert_close(np.sum(np.exp(log_p), axis=1), 1.0, 1e-12)
        far = selection.best_of_n_kl(world.log_p_ref, world.r, n)
        # n log F errs by n eps
        assert_close(far, kl(log_p, world.log_p_ref), 1e-12 + 8 * EPS * n)
        assert np.all(far <= selection.best_of_n_bound(n) + 1e-12)
        wins = selection.win_rate(log_p, world.log_p_ref, world.r)
        assert np.all((wins >= 0.5 - 1e-12) & (wins <= n / (n + 1) + 1e-12)), "ties can only bring the win rate nearer to a half"


def test_without_atoms_the_bound_is_met() -> None:
    """2^16 equal atoms: both the KL and the win rate come within n^2 / N of their atomless values."""
    mdp = TokenMDP(2, 16)
    r = np.random.default_rng(0).permutation(float(mdp.N) * np.linspace(0, 1, mdp.N))[None]
    world = World(mdp, uniform(mdp), r, 1.0)
    for n in (2, 10):
        far = selection.best_of_n_kl(world.log_p_ref, r, n)[0]
        assert 0 < selection.best_of_n_bound(n) - far < n**2 / mdp.N
        assert abs(selection.win_rate(selection.best_of_n(world.log_p_ref, r, n), world.log_p_ref, r)[0] - n / (n + 1)) < n**2 / mdp.N


def test_fractions_on_the_rational_world() -> None:
    """p_ref = 1/3, 2/9, 4/9 for k = 1, 2, 3: F = 1/3, 5/9, 1."""
    world, n = rational(), 4
    F = [Fraction(0), Fraction(1, 3), Fraction(5, 9), Fraction(1)]
    want = {t: b**n - a**n for t, a, b in zip((".", "a .", "a a"), F, F[1:], strict=False)}
    law = np.exp(selection.best_of_n(world.log_p_ref, world.r, n))[0]
    for t, q in want.items():
        assert law[world.mdp.find(t)] == pytest.approx(float(q), rel=64 * EPS)


def test_a_likely_best_keeps_its_digits() -> None:
    """The worst has mass 1e-12: best of two avoids it but for 1e-24, which 1 - F would lose."""
    mdp = TokenMDP(2, 1)
    world = World(mdp, np.log([[[1e-12, 1.0 - 1e-12]]]), np.array([[0.0, 1.0]]), 1.0)
    assert np.exp(selection.best_of_n(world.log_p_ref, world.r, 2))[0, 0] == pytest.approx(1e-24, rel=1e-3)
    rare = World(mdp, np.log([[[1.0 - 1e-12, 1e-12]]]), np.array([[0.0, 1.0]]), 1.0)
    assert np.exp(selection.best_of_n(rare.log_p_ref, rare.r, 1000))[0, 1] == pytest.approx(1e-9, rel=1e-6)


def test_soft_selection_lies_between_its_limits() -> None:
    world = random_world(rng=np.random.default_rng(1), V=3, H=3, P=2, forbidden=0.2)
    world = world.with_reward(np.round(2 * world.r) / 2)
    for n in (3, 50, 10**6):
        hard = np.exp(selection.best_of_n(world.log_p_ref, world.r, n))
        assert_close(np.exp(selection.soft_best_of_n(world.log_p_ref, world.r, n, 0.01)), hard, 1e-6)
        assert_close(np.exp(selection.soft_best_of_n(world.log_p_ref, world.r, n, 1e9)), np.exp(world.log_p_ref), 1e-7)
    # many draws and a softmax: self-normalized importance sampling of Gibbs
    many = selection.soft_best_of_n(world.log_p_ref, world.r, 10**7, world.beta)
    assert_close(np.exp(many), np.exp(log_gibbs(world.log_p_ref, world.r, world.beta)), 1e-5)


# ---------------------------------------------------------------------------------------------------- rejection, expert iteration


def test_rejection_samples_are_gibbs(rng: np.random.Generator) -> None:
    world = random_world(rng=np.random.default_rng(2), V=3, H=2, P=2, forbidden=0.2, beta=0.8)
    data = selection.rejection_sample(world, 20_000, rng=rng)
    everything = population(world, solve(world).log_p)
    for table in (world.r, np.square(world.r), world.mdp.lengths + np.zeros_like(world.r)):
        assert abs(estimate(data, data[table]).z(estimate(everything, everything[table]))) <= 5
    log_accept = (world.r - np.max(np.where(np.isneginf(world.log_p_ref), -np.inf, world.r), axis=1, keepdims=True)) / world.beta
    by_hand = np.sum(np.exp(world.log_p_ref + np.minimum(0.0, log_accept)), axis=1)
    assert_close(selection.acceptance(world), by_hand, 1e-14)


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e6])
@pytest.mark.parametrize("beta", [1e-300, 1e-20, 1e-17, 1e-15, 1e-3, 0.3, 1e3, 1e20, 1e300])
def test_acceptance_at_every_beta(beta: float, scale: float) -> None:
    """Against 50 digits of mpmath, in nats: no V - max r to cancel at small beta, no share to underflow below improbable best ones."""
    for seed, low in enumerate((0.0, -50.0, -1000.0)):
        world = random_world(rng=np.random.default_rng(seed), V=3, H=2, P=2, beta=beta, forbidden=0.2)
        world = world.with_reward(scale * np.round(world.r, 1))
        steep = np.where(np.arange(3) == 0, low, 0.0)  # the first token is as improbable as you like
        world = World(world.mdp, log_softmax(world.log_ref + steep), world.r, beta)
        for x in range(2):
            pairs = zip(world.log_p_ref[x].tolist(), world.r[x].tolist(), strict=True)
            here = [(mpmath.mpf(lp), mpmath.mpf(v)) for lp, v in pairs if lp > -math.inf]
            best = max(v for _, v in here)
            with mpmath.workdps(50):
                want = mpmath.log(mpmath.fsum(mpmath.exp(lp + (v - best) / mpmath.mpf(beta)) for lp, v in here))
            spare = 8 * EPS * (8 + abs(low))  # mpmath sees that p_ref sums to one only up to the rounding of its logarithms
            assert_close(selection.log_acceptance(world)[x], float(want), spare, f"beta = {beta}")
            assert_close(selection.acceptance(world)[x], float(mpmath.exp(want)), spare)


@pytest.mark.parametrize(("log_p", "beta"), [(-1000.0, 1e-20), (-1000.0, 1.0), (-40.0, 1e-300), (-2.0, 1e-3)])
def test_rejection_keeps_to_its_budget(log_p: float, beta: float) -> None:
    """Refused before a draw where the mean exceeds `most`, with the acceptance said; given up where chance does."""
    world = World(TokenMDP(2, 1), np.array([[[np.log1p(-np.exp(log_p)), log_p]]]), np.array([[0.0, 1e3]]), beta)
    most = int(min(9 / np.exp(max(log_p, -30.0)), 10**5))
    before = (rng := np.random.default_rng(0)).bit_generator.state
    with pytest.raises(InputError, match=r"must need at most .* acceptance is (exp\(-1000\)|[\d.e-]+)"):
        _ = selection.rejection_sample(world, 10, rng=rng, most=most)
    assert rng.bit_generator.state == before
    if log_p == -2.0:
        ends = [tried(world, most=80, seed=seed) for seed in range(40)]
        assert set(ends) == {"enough", "rejection sampling ran out of draws: prompt 0 accepts 0.135 of them; raise `most`"}, "even odds"


def tried(world: World, most: int, seed: int) -> str:
    try:
        return "enough" if selection.rejection_sample(world, 10, rng=np.random.default_rng(seed), most=most).tau.min() == 1 else "wrong"
    except SolveError as e:
        return str(e)


def test_expert_iteration_by_hand() -> None:
    log_p = np.log([[0.5, 0.25, 0.25]])
    once = selection.expert_iteration(log_p, np.array([[1.0, 0.0, 1.0]]))
    assert_close(np.exp(once), np.array([[2 / 3, 0.0, 1 / 3]]), 4 * EPS)
    assert_close(selection.expert_iteration(once, np.array([[1.0, 0.0, 1.0]])), once, 4 * EPS)
    graded = np.array([[1.0, 3.0, 3.0]])
    assert_close(np.exp(selection.expert_iteration(log_p, graded, 1e4)), np.exp(greedy_limit(log_p, graded)), EPS)
    assert selection.expert_iteration(log_p, graded, 0) is log_p


# ---------------------------------------------------------------------------------------------------- frontiers


def test_gibbs_at_a_distance_inverts_the_frontier() -> None:
    world = random_world(rng=np.random.default_rng(3), V=3, H=3, P=2)
    curve = frontier(world, [0.05, 0.3, 1.0, 5.0])
    assert_close(selection.gibbs_at(world, curve.kl), curve.reward, 1e-10)
    best = float(np.sum(world.mu * np.max(world.r, axis=1)))
    assert selection.gibbs_at(world, np.array([0.0, 1e9])) == pytest.approx(
        [float(np.sum(world.mu * expect(world.log_p_ref, world.r))), best]
    )


@pytest.mark.parametrize("seed", range(3))
def test_nothing_beats_gibbs_at_equal_distance(seed: int) -> None:
    world = random_world(rng=np.random.default_rng(seed), V=3, H=3, P=1, forbidden=0.2)
    ref = world.log_p_ref
    curves = [
        selection.select_by(world, lambda r, n: selection.best_of_n(ref, r, n), [1, 2, 5, 30, 1000]),
        selection.select_by(world, lambda r, n: selection.soft_best_of_n(ref, r, n, 0.5), [1, 2, 5, 30, 1000]),
        selection.select_by(world, lambda r, k: selection.expert_iteration(ref, r - np.min(r), k), [0, 1, 2, 8]),
    ]
    for curve in curves:
        assert np.all(np.diff(curve.kl) > 0)
        assert np.all(curve.reward <= curve.best + 1e-9)
        assert np.array_equal(curve.reward, curve.gold)
    gibbs = selection.select_by(world, lambda r, beta: log_gibbs(ref, r, beta), [2.0, 1.0, 0.5])
    assert_close(gibbs.best, gibbs.reward, 1e-9)


def test_over_optimization_rises_peaks_and_falls() -> None:
    """A proxy that over-rates the rarest response: selected harder, it pays more and more, and the gold reward less and less."""
    mdp = TokenMDP(3, 1)
    world = World(mdp, np.log([[[0.6, 0.39, 0.01]]]), np.array([[0.0, 1.0, -2.0]]), 1.0)
    proxy = np.array([[0.0, 1.0, 2.0]])
    curve = selection.select_by(world, lambda r, n: selection.best_of_n(world.log_p_ref, r, n), [1, 4, 16, 64, 1024], proxy=proxy)
    assert np.all(np.diff(curve.reward) > 0)
    assert curve.gold[0] < curve.gold[1] > curve.gold[2] > curve.gold[-1]
    assert curve.gold[-1] == pytest.approx(-2.0, abs=1e-3)
    with pytest.raises(InputError, match="proxy must have shape"):
        selection.select_by(world, lambda r, n: r, [1], proxy=np.zeros(3))


# ---------------------------------------------------------------------------------------------------- figures


def test_best_of_n_stays_below_gibbs_in_its_figure() -> None:
    shown = figure.compute_best_of_n()
    for key in ("best_of_n", "soft"):
        assert all(got <= best + 1e-9 for got, best in zip(shown[key]["reward"], shown[key]["best"], strict=True))
        assert shown[key]["kl"][0] == pytest.approx(0.0, abs=1e-12)
    assert shown["bound"] == pytest.approx([np.log(n) - (n - 1) / n for n in shown["line"]])
    assert all(far <= np.log(n) - (n - 1) / n + 1e-12 for far, n in zip(shown["kl"], shown["n"], strict=True))
    assert shown["best_of_n"]["kl"] == pytest.approx(shown["kl"], abs=1e-9)


def test_the_proxy_rises_and_the_truth_peaks_in_its_figure() -> None:
    shown = figure.compute_proxy()
    for key in ("best_of_n", "gibbs"):
        proxy, gold = shown[key]["reward"], shown[key]["gold"]
        assert np.all(np.diff(proxy) > 0)
        peak = int(np.argmax(gold))
        assert 0 < peak < len(gold) - 1
        assert gold[-1] < 0.7 * gold[peak], "the caption: it falls"
        assert shown[key]["root_kl"] == pytest.approx(np.sqrt(shown[key]["kl"]))


def test_artists_show_the_data() -> None:
    for record in figure.FIGURES:
        data = page.rounded(record.compute())
        panels = list(Sheet().subplots(1, len(record.widths), squeeze=False)[0])
        record.draw(panels, data)
        drawn = [line.get_ydata().tolist() for ax in panels for line in ax.lines]
        for key in ("gibbs", "best_of_n"):
            assert data[key]["reward"] in drawn, record.name


@pytest.mark.parametrize(
    ("call", "must"),
    [
        (lambda: selection.best_of_n(coin().log_p_ref, coin().r, 0.5), "n must be at least 1"),
        (lambda: selection.best_of_n_bound(float("inf")), "n must be at least 1"),
        (lambda: selection.soft_best_of_n(coin().log_p_ref, coin().r, 4, 0.0), "lam must be positive"),
        (lambda: selection.soft_best_of_n(coin().log_p_ref, coin().r, 4, 1e-9), "vary by at most 5000 lam"),
        (lambda: selection.rejection_sample(coin(), 0, rng=np.random.default_rng(0)), "rejection sampling must need"),
        (
            lambda: selection.rejection_sample(coin(1e-300).with_reward(np.array([[0.0, 1.0]])), 10**8, rng=np.random.default_rng(0)),
            "at most",
        ),
        (lambda: selection.expert_iteration(coin().log_p_ref, np.array([[-1.0, 1.0]])), "at least 0"),
        (lambda: selection.expert_iteration(coin().log_p_ref, np.zeros((1, 2))), "some possible response must be rewarded"),
    ],
)
def test_bad_options_are_refused_in_four_parts(call: Any, must: str) -> None:
    with pytest.raises(InputError, match=must) as refusal:
        call()
    assert refusal.value.got
    assert refusal.value.remedy
