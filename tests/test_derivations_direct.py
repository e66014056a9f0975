"""Derivations of chapter 6: what stands at their ends, by plain sums over pairs, so that none drifts from the claim it proves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.preferences.chains import finite_data
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import fork, random_world, rational
from tests import oracle
from tests.laws import Told, assert_close, tell

SLUGS = [
    *("reward-inversion", "dpo-loss", "dpo-gradient", "dpo-population-optimum", "dpo-deterministic-labels", "ipo-two-arms"),
    *("likelihood-displacement", "logit-conservation", "preference-game"),
]
SCOPES = [
    Scope(fork(2.0), 2),
    Scope(rational(0.5), 3),
    Scope(random_world(rng=np.random.default_rng(5), V=3, H=1, P=2, eos=False, beta=0.7, concentration=5.0), 4),
    Scope(random_world(rng=np.random.default_rng(6), V=2, H=3, P=2, eos=True, beta=1.5, concentration=5.0), 5),
]
EXACT = 1e-10
"""Of sums of some ten terms of size up to 100: far above rounding, far below any mistake."""
STEP = 1e-4
DIFFERENCE = 1e-5
"""What a central difference of step 1e-4 leaves: its square times a third derivative of at most a few hundred, and rounding / step."""

everywhere = pytest.mark.parametrize("scope", SCOPES, ids=lambda s: f"{s.world.name}-{s.seed}")


def line(slug: str, k: int, scope: Scope) -> Any:
    """The value of line k, counted from 1."""
    return np.asarray(DERIVATIONS[slug].lines[k - 1](scope))


def prompts(scope: Scope) -> list[Told]:
    return [tell(scope.world, x) for x in range(scope.world.mdp.P)]


def softplus(d: float) -> float:
    """-log sigma(-d)."""
    return max(d, 0.0) + math.log1p(math.exp(-abs(d)))


def sigma(d: float) -> float:
    return math.exp(-softplus(-d))


def beats(told: Told, kappa: float = 1.0) -> Callable[[int, int], float]:
    """P(i beats j) by Bradley-Terry, responses by number."""
    r = list(told.r.values())
    return lambda i, j: sigma(kappa * (r[i] - r[j]))


def certain(told: Told) -> Callable[[int, int], float]:
    r = list(told.r.values())
    return lambda i, j: 0.5 if r[i] == r[j] else float(r[i] > r[j])


def over_pairs(told: Told, law: Callable[[int, int], float], loss: Callable[[int, int], float]) -> float:
    """The sum over ordered pairs of 2 p_ref(w) p_ref(l) P(w beats l) loss(w, l)."""
    ref = list(told.ref.values())
    n = range(len(ref))
    return math.fsum(2 * ref[w] * ref[l] * law(w, l) * loss(w, l) for w in n for l in n)


def implicit(scope: Scope, told: Told, log_p: Iterable[float]) -> list[float]:
    return [scope["beta"] * (v - math.log(q)) for v, q in zip(log_p, told.ref.values(), strict=True)]


def dpo(scope: Scope, log_p: Any) -> float:
    """DPO's loss with Bradley-Terry labels, pair by pair."""
    total = []
    for x, told in enumerate(prompts(scope)):
        rhat = implicit(scope, told, np.asarray(log_p)[x].tolist())
        total.append(float(scope["mu"][x]) * over_pairs(told, beats(told), lambda w, l, rhat=rhat: softplus(rhat[l] - rhat[w])))  # type: ignore[misc]
    return math.fsum(total)


def log_law(scope: Scope, logits: Any) -> list[list[float]]:
    """log p of token logits, response by response: sums of log-softmaxes along strings."""
    out = []
    for x, told in enumerate(prompts(scope)):
        rows = {s: [float(v) for v in logits[x, k]] for k, s in enumerate(told.states)}
        log_Z = {s: math.log(math.fsum(math.exp(v) for v in row)) for s, row in rows.items()}
        out.append([math.fsum(rows[y[:h]][a] - log_Z[y[:h]] for h, a in enumerate(y)) for y in told.order])
    return out


def slope(f: Callable[[Any], float], at: Any) -> Any:
    """Central differences, one entry at a time."""
    out = np.zeros_like(at)
    for k in np.ndindex(at.shape):
        e = np.zeros_like(at)
        e[k] = STEP
        out[k] = (f(at + e) - f(at - e)) / (2 * STEP)
    return out


# ---------------------------------------------------------------------------------------------------- the ends


@everywhere
def test_the_reward_comes_back(scope: Scope) -> None:
    r, laws = scope["r"], [oracle.tilt(told.ref, told.r, scope["beta"])[1] for told in prompts(scope)]
    star = [[math.log(p) for p in law.values()] for law in laws]
    assert_close(line("reward-inversion", 1, scope), star, EXACT)
    for k in (3, 4, 5):
        assert_close(line("reward-inversion", k, scope), r, EXACT, f"line {k}")
    for k in (6, 8):
        assert_close(line("reward-inversion", k, scope), r[:, :, None] - r[:, None, :], EXACT, f"line {k}")
    assert_close(line("reward-inversion", 10, scope), r[:, None, :, None] - r[None, :, None, :], EXACT)


@everywhere
def test_the_loss_is_a_sum_over_pairs(scope: Scope) -> None:
    want = dpo(scope, scope["log_p"])
    for k in (1, 4, 6, 7):
        assert_close(line("dpo-loss", k, scope), want, EXACT, f"line {k}")
    shifted = [
        (float(m) * q, v + float(c[0]))
        for m, told, row, c in zip(scope["mu"], prompts(scope), scope["log_p"], scope["shift"], strict=True)
        for q, v in zip(told.ref.values(), implicit(scope, told, row.tolist()), strict=True)
    ]
    across = math.fsum(a * b * softplus(v - u) for a, u in shifted for b, v in shifted)
    for k in (8, 9):
        assert_close(line("dpo-loss", k, scope), across, EXACT, f"line {k}")


@everywhere
def test_the_gradient_is_that_of_the_sum_over_pairs(scope: Scope) -> None:
    want = slope(lambda t: dpo(scope, log_law(scope, t)), scope["logits"])
    for k in (1, 6, 7):
        assert_close(line("dpo-gradient", k, scope), want, DIFFERENCE, f"line {k}")
    rhat = [implicit(scope, told, row) for told, row in zip(prompts(scope), scope["log_p"].tolist(), strict=True)]
    assert_close(line("dpo-gradient", 9, scope), [[[sigma(l - w) for l in row] for w in row] for row in rhat], EXACT)


@everywhere
def test_the_population_optimum_is_the_oracle_s(scope: Scope) -> None:
    assert_close(line("dpo-population-optimum", 2, scope), dpo(scope, scope["log_p"]), EXACT)
    star = [list(oracle.tilt(told.ref, told.r, scope["beta"])[1].values()) for told in prompts(scope)]
    for k in (9, 10):
        assert_close(line("dpo-population-optimum", k, scope), star, 1e-8, f"line {k}")
    assert_close(line("dpo-population-optimum", 5, scope), dpo(scope, np.log(star)), EXACT, "the loss at p* is the labels' entropy")


@everywhere
def test_certain_labels_leave_the_best_responses(scope: Scope) -> None:
    want, nats = [], []
    for told in prompts(scope):
        top = max(told.r.values())
        mass = math.fsum(q for y, q in told.ref.items() if told.r[y] == top)
        want.append([q / mass if told.r[y] == top else 0.0 for y, q in told.ref.items()])
        nats.append(-math.log(mass))
    assert_close(line("dpo-deterministic-labels", 5, scope), want, EXACT)
    assert_close(line("dpo-deterministic-labels", 7, scope), nats, EXACT)
    assert_close(
        line("dpo-deterministic-labels", 2, scope),
        [[[certain(t)(i, j) for j in range(len(t.r))] for i in range(len(t.r))] for t in prompts(scope)],
        EXACT,
    )


@everywhere
def test_ipo_s_slope_and_optimum(scope: Scope) -> None:
    tau = scope["beta"]
    ref = [list(told.ref.values()) for told in prompts(scope)]

    def loss(log_p: Any) -> float:
        total = []
        for x, told in enumerate(prompts(scope)):
            h = [v - math.log(q) for v, q in zip(log_p[x].tolist(), ref[x], strict=True)]
            squares = over_pairs(told, certain(told), lambda w, l, h=h: (h[w] - h[l] - 1 / (2 * tau)) ** 2)  # type: ignore[misc]
            total.append(float(scope["mu"][x]) * squares)
        return math.fsum(total)

    for k in (1, 4):
        assert_close(line("ipo-two-arms", k, scope), slope(loss, scope["log_p"]), DIFFERENCE, f"line {k}")
    want = []
    for x, told in enumerate(prompts(scope)):
        n = range(len(ref[x]))
        weight = [ref[x][i] * math.exp(math.fsum(ref[x][j] * certain(told)(i, j) for j in n) / tau) for i in n]
        want.append([w / math.fsum(weight) for w in weight])
    for k in (5, 6):
        assert_close(line("ipo-two-arms", k, scope), want, 1e-8, f"line {k}")
    for k in (7, 9):
        assert_close(line("ipo-two-arms", k, scope), sigma(1 / (2 * tau)), 1e-9, f"line {k}")


def pair_of(scope: Scope, x: int) -> tuple[int, int]:
    r = scope["r"][x].tolist()
    return r.index(max(r)), r.index(min(r))


@everywhere
def test_displacement_is_the_change_along_a_step(scope: Scope) -> None:
    told, logits = prompts(scope), scope["logits"]

    def loss(t: Any) -> float:
        total = []
        for x, row in enumerate(log_law(scope, t)):
            rhat, (w, l) = implicit(scope, told[x], row), pair_of(scope, x)
            total.append(softplus(rhat[l] - rhat[w]))
        return math.fsum(total)

    step = -STEP * slope(loss, logits)
    ends = [log_law(scope, logits + sign * step) for sign in (1, -1)]
    want = [(ends[0][x][pair_of(scope, x)[0]] - ends[1][x][pair_of(scope, x)[0]]) / (2 * STEP) for x in range(len(told))]
    for k in (2, 4, 5, 7):
        assert_close(line("likelihood-displacement", k, scope), want, DIFFERENCE * (1 + scope["beta"]), f"line {k}")


def test_with_shared_features_a_winner_does_fall_and_others_rise() -> None:
    scope = Scope(rational(), 0)
    assert float(line("likelihood-displacement", 10, scope)[0]) < 0 < float(line("likelihood-displacement", 12, scope)[0])


@everywhere
def test_the_conserved_sums_are_those_of_the_data(scope: Scope) -> None:
    data, beta = finite_data(scope.world), scope["beta"]
    shown = list(zip(*(np.broadcast_to(a, np.shape(data.weight)).tolist() for a in (data.x, data.w, data.l, data.weight)), strict=True))

    def loss(log_p: Any) -> float:
        h = beta * (log_p - scope["log_p_ref"])
        return math.fsum(weight * softplus(float(h[x, l] - h[x, w])) for x, w, l, weight in shown)

    def through_softmax(theta: Any) -> float:
        return loss(np.array([[v - math.log(math.fsum(math.exp(u) for u in row)) for v in row] for row in theta.tolist()]))

    for k in (1, 2):
        assert_close(line("logit-conservation", k, scope), slope(loss, scope["log_p"]), DIFFERENCE, f"line {k}")
    for k in (6, 9):
        assert_close(line("logit-conservation", k, scope), slope(through_softmax, scope["log_p"]), DIFFERENCE, f"line {k}")


@everywhere
def test_the_game_is_fair_and_its_equilibrium_a_fixed_point(scope: Scope) -> None:
    M, tau = scope["M"].tolist(), scope["tau"]
    assert_close(line("preference-game", 1, scope), 0.5, EXACT)
    for x, told in enumerate(prompts(scope)):
        ref, n = list(told.ref.values()), range(len(told.ref))
        p = list(ref)
        for _ in range(4000):  # damped replies in logarithms: a step of tau/4, below the bound of the theorem
            reply = [math.log(ref[i]) + math.fsum(M[x][i][j] * p[j] for j in n) / tau for i in n]
            logs = [math.log(p[i]) * (1 - tau / 4) + reply[i] * tau / 4 for i in n]
            total = math.fsum(math.exp(v) for v in logs)
            p = [math.exp(v) / total for v in logs]
        for k in (10, 11):
            assert_close(line("preference-game", k, scope)[x], p, 1e-8, f"line {k}")


ENDS = {
    "dpo-loss": (4, "the record", 0),
    "dpo-gradient": (6, "weighted scores", 0),
    "dpo-population-optimum": (10, "Gibbs", 0),
    "dpo-deterministic-labels": (5, "greedy limit, and the tilt by win rates", 0),
    "ipo-two-arms": (9, "closed form", 0),
    "likelihood-displacement": (5, "inner product of scores", 0),
    "reward-inversion": (4, "given", 0),
}


@pytest.mark.parametrize("slug", ENDS)
def test_the_line_that_is_the_claim_is_the_row(slug: str) -> None:
    k, side, part = ENDS[slug]
    for scope in SCOPES:
        assert_close(line(slug, k, scope), LEDGER[slug].evaluate(scope, side)[part], EXACT)


# ---------------------------------------------------------------------------------------------------- the lines between


@pytest.mark.parametrize("slug", SLUGS)
def test_many_wrong_lines_are_at_hand(slug: str) -> None:
    """That each is refuted, and that every line follows, is a law over all derivations (`test_derivations`)."""
    assert sum(len(line.wrong) for line in DERIVATIONS[slug].lines) >= 8


PLANTED: dict[str, tuple[str, int, Callable[..., Any]]] = {
    "Z with the wrong sign": ("reward-inversion", 4, lambda r, value: r - 2 * value[:, None]),
    "Z cancelled across prompts": ("reward-inversion", 10, lambda r, value: r - value[:, None] - (r - value[:, None])[0, 0]),
    "half the loss": ("dpo-loss", 4, lambda world, log_p: 0.5 * world.mu[0]),
    "natural log for log 2": ("dpo-loss", 7, lambda pairs: float(np.sum(pairs.weight))),
    "the gradient ascended": ("dpo-gradient", 4, lambda logits: 0.0 * logits + 1e-3),
    "the weight of the right order": ("dpo-gradient", 9, lambda P_beats: P_beats),
    "the winner's preferences": ("dpo-population-optimum", 10, lambda p_ref: p_ref),
    "the entropy above the loss": ("dpo-population-optimum", 6, lambda: 0.0),
    "a tie is a win": ("dpo-deterministic-labels", 2, lambda gaps: 1.0 * (gaps >= 0)),
    "the reference stays": ("dpo-deterministic-labels", 5, lambda p_ref: p_ref),
    "IPO without its target": ("ipo-two-arms", 4, lambda log_p: 0.0 * log_p),
    "the margin doubled": ("ipo-two-arms", 9, lambda beta: sigma(1 / beta)),
    "the winner falls": ("likelihood-displacement", 7, lambda mu: -np.ones_like(mu)),
    "the mean kept": ("likelihood-displacement", 10, lambda mu: 0.0 * mu),
    "a component that moves": ("logit-conservation", 5, lambda r: 0.0 * r + 1e-3),
    "losers only": ("logit-conservation", 2, lambda r: 0.0 * r),
    "the game favors the first": ("preference-game", 3, lambda mu: 0.6 + 0.0 * mu),
    "a reply to the reference": ("preference-game", 11, lambda p_ref: p_ref),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_stops_the_reading_at_its_line(fault: str) -> None:
    slug, k, wrong = PLANTED[fault]
    world = SCOPES[2].world
    assert derive(slug, world).holds
    assert derive(slug, world, lines={k: wrong}).broken == k
