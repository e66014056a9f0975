"""Laws of preference games: values, equilibria by three roads, rates, and the named worlds of preferences against their fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.games import (
    _unique,
    contest,
    exploitability,
    minimax_winner,
    mirror_descent,
    mirror_path,
    mirror_step,
    regularized_equilibrium,
    reply,
    win_rates,
)
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array, kl, log_softmax
from tabular_rlhf.preference_worlds import (
    BLIND_ODDS,
    BLIND_REF,
    CYCLE,
    PREFERENCE_WORLDS,
    TRAP_ODDS,
    blind_comparisons,
    blind_spot,
    blind_spot_answers,
    cycle,
    cycle_answers,
    cycle_preferences,
    length_trap,
    length_trap_answers,
    sure_ipo,
    sure_preferences,
    sure_thing,
)
from tabular_rlhf.preferences import bradley_terry
from tests.laws import EPS, assert_close


def people(N: int, seed: int, P: int = 1) -> Array:
    above = np.triu(np.random.default_rng(seed).uniform(0.0, 1.0, (P, N, N)), 1)
    return above + np.tril(1.0 - np.swapaxes(above, 1, 2), -1) + 0.5 * np.eye(N)


# ---------------------------------------------------------------------------------------------------- the minimax winner


@pytest.mark.parametrize("N", [1, 2, 3, 4, 9, 40])
@pytest.mark.parametrize("seed", range(3))
def test_nobody_beats_the_winner(N: int, seed: int) -> None:
    M = people(N, seed, P=2)
    found = minimax_winner(M)
    assert_close(found.p.sum(axis=1), 1.0, 1e-12)
    assert found.p.min() >= 0
    for x, j in itertools.product(range(2), range(N)):
        assert sum(found.p[x, i] * M[x, i, j] for i in range(N)) >= 0.5 - 1e-12
    assert_close(found.value, 0.5, 1e-12)
    assert_close(exploitability(M, found.p), found.exploitability, 0.0)
    assert found.unique.all(), "preferences in general position have one winner, with an odd number of responses played"
    assert set((found.p > 1e-9).sum(axis=1) % 2) == {1}


def test_a_response_that_beats_all_others_wins_alone() -> None:
    M = people(5, 0)
    M[0, 2], M[0, :, 2] = 0.6, 0.4
    M[0, 2, 2] = 0.5
    assert_close(minimax_winner(M).p, np.eye(5)[[2]], 1e-12)


def test_ties_are_not_called_unique() -> None:
    assert not minimax_winner(np.full((3, 3), 0.5)).unique.any()
    assert not _unique(np.full((3, 3), 0.5), np.full(3, 1 / 3)), "all are played, and any mixture does as well"


def test_the_cycle_in_fractions() -> None:
    answers, M = cycle_answers(), cycle_preferences()
    names = ("rock", "paper", "scissors")
    winner = [answers[f"winner({name})"] for name in names]
    table = [[Fraction(str(q)) for q in row] for row in M[0].tolist()]
    for j in range(3):  # exactly: it draws with each
        assert sum(w * row[j] for w, row in zip(winner, table, strict=True)) == Fraction(1, 2)
    found = minimax_winner(M)
    assert_close(found.p[0], [float(w) for w in winner], 1e-14)
    assert found.unique.all()
    p = solve(cycle()).p
    assert_close(p[0], [float(answers[f"gibbs({name})"]) for name in names], 4 * EPS)
    assert float(exploitability(M, p)[0]) == pytest.approx(float(answers["exploitability of gibbs"]), abs=4 * EPS)
    greedy = solve(cycle(beta=1e-3)).p
    assert float(exploitability(M, greedy)[0]) == pytest.approx(float(answers["exploitability of scissors"]), abs=1e-12)
    assert all(q > Fraction(1, 2) for q in CYCLE.values())


def test_bradley_terry_reads_the_cycle_by_mean_win_rates() -> None:
    """Its score equations: sum over j of sigma(r_i - r_j) = sum over j of M_ij, for the world's reward."""
    r = cycle().r[0]
    expected = 1.0 / (1.0 + np.exp(r[None] - r[:, None]))
    assert_close(expected.sum(axis=1), cycle_preferences()[0].sum(axis=1), 8 * EPS)


# ---------------------------------------------------------------------------------------------------- with a KL weight


@pytest.mark.parametrize("N", [1, 2, 5, 20])
@pytest.mark.parametrize("tau", [0.1, 0.5, 3.0])
def test_three_roads_to_the_equilibrium(N: int, tau: float) -> None:
    rng = np.random.default_rng(N)
    M, log_ref = people(N, 7, P=2), log_softmax(rng.standard_normal((2, N)))
    newton = regularized_equilibrium(M, log_ref, tau)
    assert_close(np.exp(newton.log_p).sum(axis=1), 1.0, 1e-13)
    assert_close(newton.log_p, reply(M, log_ref, tau, newton.log_p), 1e-12 * (1 + 1 / tau))
    mirror = mirror_descent(M, log_ref, tau)
    # its last step of length tol 4 tau^2 leaves tol of the way
    assert_close(mirror.p, newton.p, 1e-11)
    # saddle point: no law does better against it than it does itself
    for _ in range(20):
        q = log_softmax(3 * rng.standard_normal((2, N)))
        gain = np.sum(np.exp(q) * win_rates(M, newton.p), axis=1) - tau * (kl(q, log_ref) - kl(newton.log_p, log_ref))
        assert (gain <= 0.5 + 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_mirror_descent_contracts_in_its_last_iterate(seed: int) -> None:
    """KL(p_eq, p) falls by 1/(1 + 4 tau^2) or more at every step, from anywhere."""
    rng = np.random.default_rng(seed)
    tau = float(rng.uniform(0.05, 1.0))
    M, log_ref = people(6, seed), log_softmax(2 * rng.standard_normal((1, 6)))
    at = regularized_equilibrium(M, log_ref, tau).log_p
    distance = kl(at, mirror_path(M, log_ref, tau, 60))[:, 0]
    assert (distance[1:] <= distance[:-1] / (1 + 4 * tau**2) + 1e-14).all()
    start = log_softmax(5 * rng.standard_normal((1, 6)))
    one = mirror_step(M, log_ref, tau, start, 4 * tau)
    assert kl(at, one)[0] <= kl(at, start)[0] / (1 + 4 * tau**2) + 1e-14


def test_without_a_pull_self_play_goes_around_the_winner() -> None:
    M, log_ref = cycle_preferences(), cycle().log_p_ref
    winner = np.log(minimax_winner(M).p)
    log_p, distance = log_ref, []
    for _ in range(2000):
        log_p = mirror_step(M, log_ref, 0.0, log_p, 0.1)
        distance.append(float(kl(winner, log_p)[0]))
    assert min(distance) > 0.5 * distance[0]
    assert distance[-1] >= distance[0], "a plain step of mirror descent never comes nearer"


def test_the_equilibrium_tends_to_the_winner_and_to_the_reference() -> None:
    M, log_ref = cycle_preferences(), cycle().log_p_ref
    assert_close(regularized_equilibrium(M, log_ref, 1e-4).p, minimax_winner(M).p, 1e-3)
    assert_close(regularized_equilibrium(M, log_ref, 1e4).p, np.exp(log_ref), 1e-4)


def test_the_regularized_equilibrium_is_gibbs_of_its_own_win_rates() -> None:
    world = cycle(beta=0.2)
    at = regularized_equilibrium(cycle_preferences(), world.log_p_ref, world.beta)
    assert_close(solve(world.with_reward(win_rates(cycle_preferences(), at.p))).log_p, at.log_p, 1e-12)


KINDS = ("uniform", "certain", "ties")


def drawn_game(seed: int, kind: str) -> tuple[Array, Array]:
    """People of one to eight responses in general position, certain of everything, or often undecided; references as steep as e^-200,
    some of them with forbidden responses."""
    rng = np.random.default_rng(seed)
    N = int(rng.integers(1, 9))
    choices = {
        "uniform": rng.uniform(size=(N, N)),
        "certain": rng.integers(0, 2, (N, N)),
        "ties": rng.choice([0.0, 0.25, 0.5, 1.0], (N, N)),
    }
    above = np.triu(choices[kind].astype(float), 1)
    logits = rng.choice([0.0, 1.0, 5.0, 50.0]) * rng.standard_normal((1, N))
    logits[0, (rng.random(N) < 0.15) & (np.arange(N) > 0)] = -np.inf
    return (above + np.tril(1.0 - above.T, -1) + 0.5 * np.eye(N))[None], log_softmax(logits)


def gap_in_digits(M: Array, log_ref: Array, tau: float, log_p: Array) -> float:
    """The range of log p_ref + M p/tau - log p over what is possible, in 40 digits: 0 at the equilibrium alone."""
    on = np.flatnonzero(~np.isneginf(log_ref))
    with mpmath.workdps(40):
        p = [mpmath.exp(mpmath.mpf(float(log_p[i]))) for i in on]
        total = mpmath.fsum(p)
        wins = [mpmath.fsum(mpmath.mpf(float(M[i, j])) * q / total for j, q in zip(on, p, strict=True)) for i in on]
        gap = [mpmath.mpf(float(log_ref[i])) + w / mpmath.mpf(tau) - mpmath.mpf(float(log_p[i])) for i, w in zip(on, wins, strict=True)]
        return float(max(gap) - min(gap))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", [1e-6, 1e-4, 1e-3, 0.01, 0.034, 0.1, 1.0, 1e3, 1e6])
def test_no_game_is_given_up(kind: str, tau: float) -> None:
    """The fixed point in 40 digits, to what rounding of p lets M p/tau tell; and no reply gains more than the equilibrium's own play."""
    for seed in range(25 if tau < 1e-3 else 60):
        M, log_ref = drawn_game(seed, kind)
        at = regularized_equilibrium(M, log_ref, tau)
        far = float(np.max(np.abs(log_ref[np.isfinite(log_ref)])))
        nats = 64 * EPS * (1 + far + 1 / tau)
        assert gap_in_digits(M[0], log_ref[0], tau, at.log_p[0]) <= nats
        assert np.array_equal(np.isneginf(at.log_p), np.isneginf(log_ref))
        assert_close(np.exp(at.log_p).sum(axis=1), 1.0, 64 * EPS)
        assert at.residual <= nats
        # the best reply's gain over p itself, tau KL(p, reply): the game's duality gap
        assert tau * float(kl(at.log_p, reply(M, log_ref, tau, at.log_p))[0]) <= 1e-13 * (1 + tau)


def test_a_game_of_record_is_solved() -> None:
    """Four responses, certain people, an improbable best: Newton on the normalized reply met a singular point here."""
    M = np.array([[0.5, 0.0, 0.0, 0.0], [1.0, 0.5, 1.0, 0.0], [1.0, 0.0, 0.5, 1.0], [1.0, 1.0, 0.0, 0.5]])
    log_ref = log_softmax(np.log([[0.1123, 0.8444, 0.0379, 0.0053]]))
    assert regularized_equilibrium(M, log_ref, 0.034).p.round(4).tolist() == [[0.0, 0.3911, 0.2184, 0.3905]]
    even = regularized_equilibrium(np.full((4, 4), 0.5), log_ref, 1e-6)
    assert_close(even.log_p, log_ref, 8 * EPS, "where nobody prefers anything, the reference stays")
    with pytest.raises(InputError, match="win rates must be known to better than"):
        _ = regularized_equilibrium(M, log_ref, 1e-14)


def test_what_the_reference_forbids_stays_forbidden() -> None:
    log_ref = np.log([[0.5, 0.5, 0.0]], out=np.full((1, 3), -np.inf), where=np.array([[True, True, False]]))
    at = regularized_equilibrium(cycle_preferences(), log_ref, 0.1)
    assert np.isneginf(at.log_p[0, 2])
    assert_close(mirror_descent(cycle_preferences(), log_ref, 0.1).p, at.p, 1e-11)


def test_games_that_are_not_games_are_refused() -> None:
    with pytest.raises(InputError, match="one of two responses must win"):
        _ = minimax_winner([[0.5, 0.7], [0.7, 0.5]])
    with pytest.raises(InputError, match="tau must be positive"):
        _ = regularized_equilibrium(cycle_preferences(), cycle().log_p_ref, 0.0)
    with pytest.raises(SolveError, match="still moves"):
        _ = mirror_descent(cycle_preferences(), cycle().log_p_ref, 0.01, steps=10)
    with pytest.raises(SolveError, match="at tau = 1 was not found in 1 Newton steps"):
        _ = regularized_equilibrium(cycle_preferences(), cycle().log_p_ref, 0.01, steps=1)


def test_bradley_terry_is_exploited_on_a_cycle_and_not_off_it() -> None:
    found = contest(cycle(), cycle_preferences())
    assert_close(found.gibbs, solve(cycle()).p, 1e-9)
    assert float(found.exploitability["gibbs"][0]) == pytest.approx(2 / 35, abs=1e-9)
    M = cycle_preferences()[0]
    fitted = 1.0 / (1.0 + np.exp(cycle().r[0][None] - cycle().r[0][:, None]))
    cost = sum(M[i, j] * np.log(M[i, j] / fitted[i, j]) for i in range(3) for j in range(3) if i != j) / 3
    assert found.misfit == pytest.approx(cost, abs=1e-12)
    assert found.misfit > 0.08
    for beta in (0.1, 0.01):  # at beta = 1 the pull to the reference outweighs win rates, and the equilibrium is no better
        gaps = contest(cycle(beta), cycle_preferences()).exploitability
        assert gaps["winner"][0] <= 1e-12 < gaps["equilibrium"][0] < gaps["gibbs"][0]
    real = bradley_terry(cycle().r).table()
    assert contest(cycle(), real).misfit == pytest.approx(0.0, abs=1e-12)


# ---------------------------------------------------------------------------------------------------- named worlds


@pytest.mark.parametrize("name", PREFERENCE_WORLDS)
def test_named_worlds_have_their_names_and_take_beta(name: str) -> None:
    world = PREFERENCE_WORLDS[name](2.0)
    assert world.name == name
    assert world.beta == 2.0
    assert np.isfinite(solve(world).value)


@pytest.mark.parametrize("beta", [0.1, 1.0, 7.0])
def test_the_blind_spot_in_fractions(beta: float) -> None:
    answers, seen, blind = blind_spot_answers(), solve(blind_spot(beta)), solve(blind_spot(beta, reference_sees=False))
    weights = {name: BLIND_REF[name] * BLIND_ODDS[name] for name in BLIND_REF}
    assert answers["Z"] == sum(weights.values())
    assert_close(seen.log_Z, np.log(float(answers["Z"])), 16 * EPS)
    assert_close(seen.p[0], [float(answers[f"p*({name})"]) for name in BLIND_REF], 16 * EPS)
    assert_close(blind.log_Z, np.log(float(answers["Z, blind reference"])), 16 * EPS)
    assert float(blind.p[0, 0]) == pytest.approx(float(answers["p*(poor), blind reference"]), abs=16 * EPS)
    assert blind.p[0, 2] == 0.0
    assert seen.value - blind.value == pytest.approx(beta * np.log(3.0), rel=1e-13)
    assert np.exp(blind_comparisons()).tolist() == [[0.5, 0.5, 0.0]]


@pytest.mark.parametrize("beta", [0.1, 1.0, 7.0])
def test_the_length_trap_in_fractions(beta: float) -> None:
    """The optimum of length-averaged DPO has margins beta (a/|w| - b/|l|) = r_w - r_l: so say its own log-ratios."""
    world, answers = length_trap(beta), length_trap_answers()
    texts = [world.mdp.text(i) for i in range(world.mdp.N)]
    assert_close(solve(world).p[0], [float(answers[f"p*({t})"]) for t in texts], 16 * EPS)
    averaged = np.log([float(answers[f"averaged({t})"]) for t in texts])
    slope = beta * (averaged - world.log_p_ref[0]) / world.mdp.lengths
    assert_close(slope - slope[0], world.r[0] - world.r[0, 0], 64 * EPS * beta)
    best, long = world.mdp.find("."), world.mdp.find("so so so")
    assert TRAP_ODDS["."] == max(TRAP_ODDS.values())
    gain = averaged - world.log_p_ref[0]
    assert gain[long] > gain[best], "the trap: the worse, longer response gains more"


def test_the_sure_thing_has_a_vertex_for_dpo_and_a_sigmoid_for_ipo() -> None:
    """IPO by its own equation: log(pi_w/pi_l) - log(ref_w/ref_l) = 1/(2 tau)."""
    assert sure_preferences().tolist() == [[[0.5, 0.0], [1.0, 0.5]]]
    for tau in (0.1, 0.5, 2.0):
        p = sure_ipo(tau)
        assert np.log(p / (1 - p)) == pytest.approx(1 / (2 * tau), rel=1e-9)
    assert np.exp(sure_thing().log_p_ref).tolist() == [[0.5, 0.5]]
    assert minimax_winner(sure_preferences()).p.tolist() == [[0.0, 1.0]]
