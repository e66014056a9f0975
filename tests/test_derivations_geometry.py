"""Derivations of chapter 5: what stands at their ends, by plain enumeration, so that none drifts from the claim it proves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.derivations import DERIVATIONS, derive
from tabular_rlhf.ledger.chapter5 import legs
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import coin, fork, random_world, rational
from tests import oracle
from tests.laws import Told, assert_close, tell

SLUGS = ["i-projection", "e-geodesic", "m-projection-counts", "m-projection-gap", "all-roads"]
SCOPES = [
    Scope(fork(2.0), 2),
    Scope(rational(), 3),
    Scope(random_world(rng=np.random.default_rng(5), V=3, H=2, P=2, beta=0.7, concentration=5.0), 4),
    Scope(random_world(rng=np.random.default_rng(6), V=2, H=3, P=2, eos=True, beta=1.5, concentration=5.0), 5),
]
everywhere = pytest.mark.parametrize("scope", SCOPES, ids=lambda s: f"{s.world.name}-{s.seed}")
EXACT = 1e-10
"""Of sums of some ten terms of size up to 100: far above rounding, far below any mistake."""


def line(slug: str, k: int, scope: Scope) -> Any:
    """The value of line k, counted from 1."""
    return np.asarray(DERIVATIONS[slug].lines[k - 1](scope))


def prompts(scope: Scope) -> list[Told]:
    return [tell(scope.world, x) for x in range(scope.world.mdp.P)]


def law(scope: Scope, name: str, x: int) -> dict[oracle.Prefix, float]:
    """A law of the scope, given by its logarithm, in the oracle's words."""
    return {s: math.exp(v) for s, v in zip(prompts(scope)[x].order, scope[name][x].tolist(), strict=True)}


def best(scope: Scope, told: Told) -> dict[oracle.Prefix, float]:
    return oracle.tilt(told.ref, told.r, scope["beta"])[1]


def each(scope: Scope, of_prompt: Callable[[int, Told], Any]) -> Any:
    return [of_prompt(x, told) for x, told in enumerate(prompts(scope))]


def averaged(scope: Scope, of_prompt: Callable[[int, Told], float]) -> float:
    return math.fsum(m * v for m, v in zip(scope["mu"].tolist(), each(scope, of_prompt), strict=True))


# ---------------------------------------------------------------------------------------------------- the ends


def context(before: oracle.Prefix, k: int) -> oracle.Prefix:
    return before[len(before) - min(k, len(before)) :]


def counted_rows(scope: Scope) -> dict[oracle.Prefix, list[float]]:
    """pi(a given c) from the strings of p*: how often a follows c, over how often c is seen."""
    V, k = scope.world.mdp.V, scope["tied"].k
    counts: dict[oracle.Prefix, list[float]] = {}
    for x, told in enumerate(prompts(scope)):
        for s, p in best(scope, told).items():
            for h, a in enumerate(s):
                counts.setdefault(context(s[:h], k), [0.0] * V)[a] += float(scope["mu"][x]) * p
    return {c: [n / math.fsum(row) for n in row] for c, row in counts.items()}


def as_law(rows: dict[oracle.Prefix, list[float]], scope: Scope, told: Told) -> dict[oracle.Prefix, float]:
    k = scope["tied"].k
    return {s: math.prod(rows[context(s[:h], k)][a] for h, a in enumerate(s)) for s in told.order}


def told_rows(scope: Scope) -> dict[oracle.Prefix, list[float]]:
    """The rows of the counts in the order of the class's contexts."""
    mdp, tied = scope.world.mdp, scope["tied"]
    found = {int(c): tuple(t for t in row if t >= 0) for row, c in zip(mdp.state_tokens().tolist(), tied.context.tolist(), strict=True)}
    return {c: counted_rows(scope)[context(s, tied.k)] for c, s in found.items()}  # type: ignore[misc]


@everywhere
def test_pythagoras_is_about_the_three_divergences(scope: Scope) -> None:
    any_p = each(scope, lambda x, told: oracle.kl(law(scope, "log_p", x), told.ref))
    whole = each(scope, lambda x, told: oracle.kl(law(scope, "log_p_level", x), told.ref))
    first = each(scope, lambda x, told: oracle.kl(law(scope, "log_p_level", x), best(scope, told)))
    second = each(scope, lambda x, told: oracle.kl(best(scope, told), told.ref))
    for k, want in ((1, any_p), (4, any_p), (7, any_p), (10, second), (11, np.add(first, second)), (12, whole)):
        assert_close(line("i-projection", k, scope), want, EXACT, f"line {k}")


def test_pythagoras_is_tried_on_laws_other_than_p_star() -> None:
    assert max(float(np.max(line("i-projection", 11, s) - line("i-projection", 10, s))) for s in SCOPES) > 0.01


@everywhere
def test_the_arc_and_its_velocity(scope: Scope) -> None:
    def log_p(x: int, told: Told, s: float) -> list[float]:
        weight = {y: told.ref[y] * math.exp(s * told.r[y]) for y in told.order}
        return [math.log(w / math.fsum(weight.values())) for w in weight.values()]

    at, t, h = 1.0 / scope["beta"], scope["t"], 1e-4
    assert_close(line("e-geodesic", 1, scope), each(scope, lambda x, told: log_p(x, told, t * at)), EXACT)
    assert_close(line("e-geodesic", 5, scope), each(scope, lambda x, told: log_p(x, told, t * at)), EXACT)
    slope = each(scope, lambda x, told: [(b - a) / (2 * h) for a, b in zip(log_p(x, told, at - h), log_p(x, told, at + h), strict=True)])
    assert_close(line("e-geodesic", 6, scope), slope, 1e-6, "a central difference: h^2 times a third cumulant")
    assert_close(line("e-geodesic", 9, scope), slope, 1e-6)


@everywhere
def test_the_m_projection_counts_tokens_in_strings(scope: Scope) -> None:
    start = averaged(scope, lambda x, told: oracle.kl(best(scope, told), law(scope, "log_p_tied", x)))
    assert_close(line("m-projection-counts", 1, scope), start, EXACT)
    entropy = averaged(scope, lambda x, told: math.fsum(p * math.log(p) for p in best(scope, told).values()))
    for k in (2, 3, 4, 5):
        assert_close(line("m-projection-counts", k, scope), start - entropy, EXACT, f"line {k}")
    for k in (11, 12):
        assert_close(line("m-projection-counts", k, scope), [row for _, row in sorted(told_rows(scope).items())], EXACT, f"line {k}")


@everywhere
def test_the_gap_of_the_m_projection_is_a_difference_of_divergences(scope: Scope) -> None:
    rows = counted_rows(scope)

    def gap(x: int, told: Told) -> float:
        star = best(scope, told)
        return oracle.kl(star, law(scope, "log_p_tied", x)) - oracle.kl(star, as_law(rows, scope, told))

    between = averaged(scope, lambda x, told: oracle.kl(as_law(rows, scope, told), law(scope, "log_p_tied", x)))
    for k, want in ((1, averaged(scope, gap)), (6, averaged(scope, gap)), (7, between), (8, between)):
        assert_close(line("m-projection-gap", k, scope), want, EXACT, f"line {k}")
    for k in (9, 10):
        assert_close(line("m-projection-gap", k, scope), averaged(scope, gap) - between, EXACT, f"line {k}")


def test_pythagoras_does_fail_in_a_tied_class() -> None:
    assert max(abs(float(line("m-projection-gap", 10, s))) for s in SCOPES) > 0.01


def test_both_roads_end_at_the_log_odds_of_the_people() -> None:
    """With two responses of one token the class holds every policy: the margin of the optimum is the logit of M."""
    scope = Scope(coin(0.5), 7)
    M = float(scope["M"][0, 0, 1])
    odds = math.exp(math.log(M / (1 - M)) / 0.5 + float(scope["log_p_ref"][0, 0] - scope["log_p_ref"][0, 1]))
    for k in (10, 11):
        assert_close(line("all-roads", k, scope), [[odds / (1 + odds), 1 / (1 + odds)]], 1e-9, f"line {k}")


@pytest.mark.parametrize("scope", SCOPES[:2], ids=lambda s: s.world.name)
def test_the_first_stage_is_a_sum_over_pairs(scope: Scope) -> None:
    (told,) = prompts(scope)
    beta, M, p = scope["beta"], scope["M"][0], law(scope, "log_p_tied", 0)
    rhat = {y: beta * math.log(p[y] / told.ref[y]) for y in told.order}
    loss = math.fsum(
        2 * told.ref[w] * told.ref[l] * float(M[i, j]) * math.log1p(math.exp(rhat[l] - rhat[w]))
        for i, w in enumerate(told.order)
        for j, l in enumerate(told.order)
    )
    for k in (1, 2):
        assert_close(line("all-roads", k, scope), loss, EXACT, f"line {k}")


@pytest.mark.parametrize(
    ("slug", "k", "side", "part"), [("i-projection", 12, "KL(p, p_ref)", 0), ("m-projection-counts", 12, "expected counts", 0)]
)
def test_the_last_line_is_the_row(slug: str, k: int, side: str, part: int) -> None:
    row = LEDGER[DERIVATIONS[slug].rows[0]]
    for scope in SCOPES:
        assert_close(line(slug, k, scope), row.evaluate(scope, side)[part], EXACT)


# ---------------------------------------------------------------------------------------------------- the lines between


@pytest.mark.parametrize("slug", SLUGS)
def test_many_wrong_lines_are_at_hand(slug: str) -> None:
    """That each is refuted, and that every line follows, is a law over all derivations (`test_derivations`)."""
    assert sum(len(line.wrong) for line in DERIVATIONS[slug].lines) >= 8


PLANTED: dict[str, tuple[str, int, Callable[..., Any]]] = {
    "the hypothesis left out": (
        "i-projection",
        8,
        lambda log_p, log_p_star, r, beta: np.sum((np.exp(log_p) - np.exp(log_p_star)) * r / beta, axis=1),
    ),
    "the cross term with Z upside down": (
        "i-projection",
        5,
        lambda log_p, log_p_star, log_p_ref, r, beta: (
            legs(log_p, log_p_star, log_p_ref) - np.sum((np.exp(log_p) - np.exp(log_p_star)) * r / beta, axis=1)
        ),
    ),
    "the I-projection's legs with p_ref first": ("i-projection", 12, lambda E_r, log_Z, beta: E_r / beta - log_Z),
    "the arc's weights": ("e-geodesic", 4, lambda log_p_ref, t, log_p_star: (1 + t) * log_p_ref - t * log_p_star),
    "the velocity with the sign of the mean": ("e-geodesic", 9, lambda r, p_star: r + np.sum(p_star * r, axis=1, keepdims=True)),
    "prompts not averaged": ("m-projection-counts", 3, lambda mdp, p_star, log_pi_tied: -np.sum(p_star * mdp.path_sum(log_pi_tied)) / 2),
    "the slope without its first term": ("m-projection-counts", 8, lambda theta_tied: -np.exp(theta_tied)),
    "own visits": (
        "m-projection-gap",
        6,
        lambda mu, log_p_hat, log_p_tied: np.sum(mu * np.sum(np.exp(log_p_hat) * (log_p_hat - log_p_tied), axis=1)),
    ),
    "Pythagoras": ("m-projection-gap", 10, lambda mu: 0.0 * np.sum(mu)),
    "the second stage without beta": (
        "all-roads",
        6,
        lambda shift, log_p_2, log_p_tied: shift[:, 0] - np.sum(np.exp(log_p_2) * (log_p_2 - log_p_tied), axis=1),
    ),
    "RLHF ends at p*": ("all-roads", 11, lambda p_star: p_star),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_stops_the_reading_at_its_line(fault: str) -> None:
    slug, k, wrong = PLANTED[fault]
    world = rational(2.0)
    assert derive(slug, world).holds
    assert derive(slug, world, lines={k: wrong}).broken in (k, k + 1)
