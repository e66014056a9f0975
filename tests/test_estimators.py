"""KL flags: values against an oracle, gradients three ways, the named divergence of each, optima against flows, and refusals."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.autodiff import grad
from tabular_rlhf.cli import COMMANDS, main
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import (
    ESTIMATORS,
    PLACEMENTS,
    Flag,
    all_moments,
    analyse,
    descent,
    exact_gradient,
    flags,
    gradient_noise,
    moments,
    normal_table,
    score_gradient,
    table,
    tally,
)
from tabular_rlhf.estimators.evaluate import contributions
from tabular_rlhf.estimators.normal import PUBLISHED, agrees
from tabular_rlhf.estimators.record import AGGREGATES, LEVELS, RATIOS, TERMS, Estimator
from tabular_rlhf.kernels import BLOCK
from tabular_rlhf.logspace import kl, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import forbid, uniform
from tabular_rlhf.sampling import Trajectories, population, sample
from tabular_rlhf.world import World, random_world, rational
from tests import oracle
from tests.laws import EPS, assert_close, tell, tell_policy

EXACT = 1e-10
"""The bar for gradients; the errors found are about 1e-15."""


def all_flags() -> list[Flag]:
    """Every combination that may go together, with and without clamps."""
    found = []
    clamps: tuple[dict[str, float], ...] = ({}, {"input": 0.7}, {"output": 0.3}, {"input": 0.5, "output": 0.2})
    for parts in itertools.product(ESTIMATORS, PLACEMENTS, LEVELS, AGGREGATES, RATIOS, clamps):
        try:
            found.append(Flag(*parts))
        except InputError:
            continue
    return found


FLAGS = all_flags()


def drawn(world: World, seed: int = 1) -> Any:
    """A policy with the reference's support."""
    z = np.random.default_rng(seed).standard_normal(world.log_ref.shape)
    return log_softmax(np.where(np.isneginf(world.log_ref), -np.inf, z))


WORLDS = [
    random_world(rng=np.random.default_rng(0), V=3, H=3, P=2, forbidden=0.3),
    random_world(rng=np.random.default_rng(1), V=2, H=3, eos=False),
]


# ---------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("name", [e.name for e in ESTIMATORS.values() if not e.per_state])
def test_an_estimator_is_its_equation_and_its_slope(name: str) -> None:
    e = ESTIMATORS[name]
    L = np.linspace(-3.0, 3.0, 61)
    assert_close(e.h(L), [e.oracle(float(x)) for x in L], 8 * EPS * (1 + np.exp(np.abs(L))))
    assert e.h(np.zeros(1))[0] == 0.0
    away = L[np.abs(L) > 0.01]
    assert_close(e.slope(away), grad(lambda x: np.sum(e.differentiated.h(x)))(away), 8 * EPS * (1 + np.exp(np.abs(away))))


@pytest.mark.parametrize("name", list(TERMS))
def test_a_term_is_a_divergence_of_nothing_from_itself(name: str) -> None:
    assert TERMS[name](np.ones(1))[0] == 0.0


@pytest.mark.parametrize("level", list(LEVELS))
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_values_agree_with_plain_enumeration(name: str, level: str) -> None:
    """mean, variance and P(negative) from dictionaries of responses, by math.fsum."""
    if ESTIMATORS[name].per_state and level == "sequence":
        level = "token"
    for world in WORLDS:
        log_pi = drawn(world)
        got = moments(population(world, world.mdp.path_sum(log_pi)), table(Flag(name, "loss", level), world, log_pi))
        pairs: list[tuple[float, float]] = []
        for x in range(world.mdp.P):
            told = tell(world, x)
            pi = tell_policy(world.mdp, log_pi, x)
            for s, p in oracle.law_of(pi, told.order).items():
                if p > 0:
                    pairs.append((world.mu[x] * p, plain_value(name, level, s, pi, told.pi)))
        mean = math.fsum(w * v for w, v in pairs)
        variance = math.fsum(w * (v - mean) ** 2 for w, v in pairs)
        size = max(abs(v) for _, v in pairs)
        assert_close(got.mean, mean, 64 * EPS * (1 + size))
        assert_close(got.variance, variance, 256 * EPS * (1 + size) ** 2)
        assert_close(got.negative, math.fsum(w for w, v in pairs if v < -1e-12), 64 * EPS)


def plain_value(name: str, level: str, s: Any, pi: Any, ref: Any) -> float:
    L = [math.log(pi[s[:h]][a] / ref[s[:h]][a]) for h, a in enumerate(s)]
    if name == "full":
        return math.fsum(q * math.log(q / ref[s[:h]][b]) for h in range(len(s)) for b, q in enumerate(pi[s[:h]]) if q > 0)
    h_ = ESTIMATORS[name].oracle
    return h_(math.fsum(L)) if level == "sequence" else math.fsum(map(h_, L))


def test_many_flags_at_once_are_the_flags_one_by_one() -> None:
    world = WORLDS[0]
    log_pi = drawn(world)
    asked = [f for f in FLAGS if f.placement == "loss" and f.ratio == "sequence"]
    everything = population(world, world.mdp.path_sum(log_pi))
    for flag, got in zip(asked, all_moments(asked, world, log_pi, everything), strict=True):
        one = moments(everything, table(flag, world, log_pi))
        assert_close([got.mean, got.variance, got.negative], [one.mean, one.variance, one.negative], 1e-13, flag.label)


def test_samples_lie_within_five_exact_standard_errors_and_tallies_change_nothing() -> None:
    for world in WORLDS:
        log_pi, n = drawn(world), 20_000
        log_p = world.mdp.path_sum(log_pi)
        draws = sample(world, log_p, n, rng=np.random.default_rng(3))
        for flag in flags() + flags(level="token", placement="loss"):
            g = table(flag, world, log_pi)
            exact, got, counted = (moments(d, g) for d in (population(world, log_p), draws, tally(world, draws)))
            assert abs(got.estimate.z(exact.estimate)) <= 5.0, flag.label
            assert_close([got.mean, got.variance], [counted.mean, counted.variance], 1e-11 * (1 + got.variance), flag.label)


def test_moments_gather_many_blocks_and_a_small_sample_is_unbiased() -> None:
    """A table of several blocks whose first is unlike the rest, far from 0; five draws against the standard library."""
    n = 3 * BLOCK + 17
    g = 1e6 + np.linspace(-1.0, 1.0, n)[None]
    w = np.full((1, n), 1.0 / n)
    everything = Trajectories(np.zeros((1, 1), dtype=np.intp), np.arange(n)[None], np.log(w), w, None)
    got = moments(everything, g)
    assert_close(got.variance, (n + 1) / (n - 1) / 3, 1e-9)  # of n points evenly spaced over [-1, 1]
    assert_close(got.mean, 1e6, 1e-9 * 1e6 * EPS + 1e-8)
    five = Trajectories(np.zeros(1, dtype=np.intp), np.array([0, 9, 9, 40, n - 1]), np.zeros(5), np.full(1, 0.2), 5)
    assert_close(moments(five, g).variance, statistics.variance(float(g[0, i]) for i in five.tau), 1e-9)


# ---------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("world", WORLDS)
def test_the_gradient_core_and_the_closed_form_agree_on_every_flag(world: World) -> None:
    log_pi = drawn(world)
    for flag in FLAGS:
        by_core = exact_gradient(flag, world, log_pi)
        assert_close(score_gradient(flag, world, log_pi), by_core, EXACT * (1 + np.abs(by_core).max()), flag.label)


@pytest.mark.parametrize("world", WORLDS)
def test_every_flag_descends_what_it_is_said_to_descend(world: World) -> None:
    """The gradient of the named divergence, by the gradient core; and what is named none differs from the true gradient."""
    log_pi = drawn(world)
    named = 0
    for flag in FLAGS:
        found = descent(flag)
        if found.objective is None:
            assert found.name == "none"
            continue
        objective = found.objective
        want = grad(lambda z, f=objective: f(world, log_softmax(z), log_pi))(log_pi)
        got = exact_gradient(flag, world, log_pi)
        assert_close(got, want, EXACT * (1 + np.abs(want).max()), f"{flag.label}: {found.name}")
        named += 1
    assert named > 300


def test_a_finite_difference_is_a_witness_of_every_surrogate() -> None:
    """Nothing is stopped: the surrogate is a function of the live policy, the held one being an argument."""
    world = WORLDS[1]
    log_pi, old = drawn(world), drawn(world, 2)
    v = np.random.default_rng(5).standard_normal(log_pi.shape)
    weight = population(world, world.mdp.path_sum(old)).weight
    h = 1e-3
    for flag in FLAGS:
        if flag.clamps or flag.estimator == "abs":  # corners: the difference would step over them
            continue

        def f(t: float, flag: Flag = flag) -> float:
            return float(np.sum(weight * contributions(flag, world, log_softmax(log_pi + t * v), log_pi, old)))

        stepped = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
        exact = float(np.sum(exact_gradient(flag, world, log_pi, old) * v))
        assert abs(stepped - exact) <= 1e-8 * (1 + abs(exact)), flag.label


def test_the_noise_of_an_update_is_that_of_its_responses_one_by_one() -> None:
    world = WORLDS[1]
    log_pi = drawn(world)
    everything = population(world, world.mdp.path_sum(log_pi))
    for flag in (f for f in FLAGS if f.ratio == "sequence"):
        each = []
        for tau in range(world.mdp.N):
            one = type(everything)(np.zeros(1, dtype=np.intp), np.array([tau]), everything.log_p, np.ones(1), None)
            each.append(np.ravel(exact_gradient(flag, world, log_pi, data=one)))
        rows, w = np.array(each), everything.weight[0]
        want = float(np.sum(w * np.sum(np.square(rows), axis=1)) - np.sum(np.square(w @ rows)))
        assert_close(gradient_noise(flag, world, log_pi), want, 1e-12 * (1 + want), flag.label)


def test_sampled_updates_average_to_the_exact_one() -> None:
    world = WORLDS[1]
    log_pi, n = drawn(world), 20_000
    draws = sample(world, world.mdp.path_sum(log_pi), n, rng=np.random.default_rng(4))
    for flag in flags() + flags(level="token"):
        gap = exact_gradient(flag, world, log_pi, data=draws) - exact_gradient(flag, world, log_pi)
        assert np.sum(np.square(gap)) <= 25 * (gradient_noise(flag, world, log_pi) + 1e-20) / n, flag.label


def test_off_policy_flags_descend_what_is_said_of_them() -> None:
    world = WORLDS[1]
    log_pi, old = drawn(world), drawn(world, 7)
    for flag in FLAGS:
        found = descent(flag, own=False)
        if found.objective is None:
            continue
        objective = found.objective
        want = grad(lambda z, f=objective: f(world, log_softmax(z), log_pi))(log_pi)
        got = exact_gradient(flag, world, log_pi, old)
        assert_close(got, want, EXACT * (1 + np.abs(want).max()), f"{flag.label}: {found.name}")
    assert analyse(Flag("k3", "loss", "token", ratio="token"), world, log_pi, old).optimum is None


def test_off_policy_only_whole_or_decision_ratios_restore_the_gradient() -> None:
    world = WORLDS[0]
    log_pi, old = drawn(world), drawn(world, 7)
    truth = score_gradient(Flag("k1", "reward"), world, log_pi)
    for ratio, level in (("sequence", "sequence"), ("sequence", "token"), ("decision", "token")):
        for place in ("reward", "ratio"):
            assert_close(exact_gradient(Flag("k1", place, level, ratio=ratio), world, log_pi, old), truth, EXACT)
    wrong = exact_gradient(Flag("k1", "ratio", "token", ratio="token"), world, log_pi, old)
    assert np.abs(wrong - truth).max() > 0.01
    assert descent(Flag("k1", "ratio", "token", ratio="token"), own=False).name == "none"


def test_k3_is_never_noisier_than_k1_up_to_a_ratio_of_two() -> None:
    """L + e^-L has slopes between -1 and 1 where p_ref/p <= 2; a KL of a hundredth of a nat does not do."""
    rng = np.random.default_rng(3)
    k1, k3 = ESTIMATORS["k1"].h, ESTIMATORS["k3"].h

    def spread(p: Any, q: Any) -> tuple[float, float]:
        L = np.log(p / q)
        return tuple(float(p @ np.square(h(L) - p @ h(L))) for h in (k1, k3))  # type: ignore[return-value]

    for _ in range(2000):
        q = rng.dirichlet(np.full(rng.integers(2, 7), rng.choice([0.3, 1.0, 5.0]))) + 1e-9
        q /= q.sum()
        p = q / 2 + rng.dirichlet(np.full(len(q), 0.2)) / 2  # q/p is at most 2
        one, three = spread(p, q)
        assert three <= one * (1 + 1e-9)
    p, q = np.array([1 - 1e-5, 1e-5]), np.array([0.99, 0.01])
    one, three = spread(p, q)
    assert p @ np.log(p / q) < 0.01
    assert three > 10_000 * one


def test_the_rao_blackwell_sum_may_vary_more_than_k1() -> None:
    """On p_ref restricted to a set, k1 is constant; the sum of exact KLs is not.  Three responses, in fractions by hand.

    p_ref: "." 1/2, "a ." 1/4, "a a" 1/4; kept: "." and "a a".  k1 = log(4/3) always; full = KL(root) + [a] log 2.
    """
    mdp = TokenMDP(("a", "."), 2, eos=".")
    kept = {".": Fraction(2, 3), "a a": Fraction(1, 3)}
    log_pi = forbid(mdp, np.log(np.broadcast_to([1 / 3, 2 / 3], (1, 2, 2))), ["."], [mdp.find_state("a")])
    world = World(mdp, uniform(mdp), np.zeros((1, 3)), 1.0)
    everything = population(world, mdp.path_sum(log_pi))
    k1, full = (moments(everything, table(f, world, log_pi)) for f in (Flag("k1", "loss"), Flag("full", "loss", "token")))
    assert_close([k1.mean, full.mean], math.log(4 / 3), 8 * EPS)
    assert k1.variance < 1e-30
    assert_close(full.variance, float(kept["a a"] * kept["."]) * math.log(2) ** 2, 8 * EPS)


# ---------------------------------------------------------------------------------------------------- the published table


@pytest.mark.parametrize("shift", list(PUBLISHED))
def test_the_normal_table_is_the_published_one(shift: float) -> None:
    """Schulman (2020), to every printed digit; k2's bias at 0.1 is exactly 0.0025, a tie that was printed 0.002."""
    for row in normal_table(shift):
        bias, std = PUBLISHED[shift][row.estimator]
        assert agrees(row.bias, bias), row
        assert agrees(row.std, std), row
    k1, k2, k3 = normal_table(shift)
    m = shift  # L is normal, mean m^2/2, variance m^2: its moments by hand
    assert_close([k1.bias, k1.std], [0.0, 2 / m], 1e-11 / m)
    assert_close([k2.bias, k2.std * m * m / 2], [m * m / 4, 0.5 * math.sqrt(2 * m**4 + m**6)], 1e-11)
    spread = math.expm1(m * m) + m * m - 2 * m * m
    assert_close([k3.bias, k3.std * m * m / 2], [0.0, math.sqrt(spread)], 1e-10)
    assert_close(k1.negative, 0.5 * math.erfc(m / 2 / math.sqrt(2)), 1e-4)


# ---------------------------------------------------------------------------------------------------- refusals, the command


@pytest.mark.parametrize(
    ("make", "must"),
    [
        (lambda: Flag("k4", "loss"), "estimator must be a known one"),
        (lambda: Flag("k1", "bonus"), "placement must be a known one"),
        (lambda: Flag("k1", "loss", clamps={"middle": 1.0}), "clamp must be a known one"),
        (lambda: Flag("k1", "loss", clamps={"input": -1.0}), "must be positive"),
        (lambda: Flag("full", "loss"), "token-level estimator"),
        (lambda: Flag("full", "loss", "token", clamps={"input": 1.0}), "sampled L to clip"),
        (lambda: Flag("k1", "loss", ratio="token"), "weighed by one ratio"),
        (lambda: Flag("k1", "reward", ratio="none"), "live ratio must exist"),
        (lambda: Estimator("x", "x", "", abs, abs, abs, {}, {}), "cited"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(make: Any, must: str) -> None:
    with pytest.raises(InputError, match=must) as refused:
        make()
    assert refused.value.remedy
    assert refused.value.got


def test_an_estimator_off_its_support_is_refused_by_state_and_token() -> None:
    world = rational()
    short = forbid(world.mdp, uniform(world.mdp), ["a"], [0])
    narrow = World(world.mdp, short, world.r, 1.0)
    for call in (table, exact_gradient, analyse):
        with pytest.raises(InputError, match=r"the reference must allow what the policy says: prompt 0, state 0 .*token 'a'"):
            call(Flag("k3", "loss"), narrow, uniform(world.mdp))
    missed = table(Flag("k1", "ratio"), world, uniform(world.mdp), short)  # samples that never hold what pi says say nothing of it
    assert missed[0, world.mdp.find("a a")] == 0.0
    off = table(Flag("k1", "ratio"), world, short, uniform(world.mdp))  # samples that pi never says weigh nothing
    assert off[0, world.mdp.find("a a")] == 0.0
    assert_close(np.sum(np.exp(world.mdp.path_sum(uniform(world.mdp))) * off), np.sum(kl(short[:, :1], world.log_ref[:, :1])), 16 * EPS)


def test_the_command_answers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "kl", "say what a KL flag optimizes")
    assert main(["kl", "--samples", "1000"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "KL(pi, ref) - KL(ref, pi)" in out
    assert "float64" not in out
    assert main(["kl", "--estimator", "k3", "--placement", "loss", "--level", "token", "--json", "--world", "fork"]) == 0
    data = json.loads(capsys.readouterr().out)
    (row,) = data["rows"]
    assert data["schema"] == "tabular-rlhf/kl/1"
    assert row["descends"] == "KL(ref, pi) by state, visits held"
    assert abs(row["z"]) <= 5
    for words in (["--clamp", "foo"], ["--clamp", "middle=3"], ["--estimator", "k9"], ["--level", "word"], ["--samples", "0"]):
        assert main(["kl", *words]) == 2
        assert capsys.readouterr().err.startswith("tabular-rlhf kl: ")
