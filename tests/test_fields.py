"""Verdicts are measured: sign, share, residual and curl of any update, whatever its record says of itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tabular_rlhf.errors import InputError
from tabular_rlhf.fields import Case, cases, gradient, measure, objectives
from tabular_rlhf.fields.curl import curl
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, LOSSES, Advantage, PolicyLoss, Recipe, analyse
from tabular_rlhf.policy_gradient.faults import faults
from tabular_rlhf.policy_gradient.record import Part
from tabular_rlhf.policy_gradient.updates import expected_update
from tabular_rlhf.registry import parameters
from tabular_rlhf.world import World, coin, fork, random_world, rational

WORLD = random_world(rng=np.random.default_rng(3), V=2, H=3, P=2)
NAMED = list(objectives(cases(WORLD, WORLD.log_ref)[0], G=3))


def field_of(terms: dict[str, float]) -> Callable[[Case], Array]:
    """A field that is a given sum of gradients."""

    def update(case: Case) -> Array:
        named = objectives(case, G=3)
        return np.asarray(sum(c * gradient(named[name], case.logits) for name, c in terms.items()))

    return update


def ascended(world: World, update: Callable[[Case], Array], **given: Any) -> Any:
    return measure(update, cases(world, world.log_ref, **given), lambda case: objectives(case, G=3))


# ---------------------------------------------------------------------------------------------------- the instrument


@pytest.mark.parametrize("name", NAMED)
def test_every_named_objective_is_recognized_with_its_sign(name: str) -> None:
    for c in (1.0, -0.25):
        found = ascended(WORLD, field_of({name: c}))
        assert found.exact
        assert found.terms == pytest.approx({name: c})
        assert found.residual < 1e-9
        assert found.share == pytest.approx(1.0)
        assert found.words.startswith("-") == (c < 0)


def enumerated(world: World, log_pi: Array, log_old: Array) -> dict[str, float]:
    """The objectives, response by response."""
    p, q, old = (np.exp(world.mdp.path_sum(log)) for log in (log_pi, world.log_ref, log_old))
    mdp, r, out = world.mdp, world.r, dict[str, float]()

    def add(name: str, value: float) -> None:
        out[name] = out.get(name, 0.0) + value

    for x in range(mdp.P):
        mean_old = float(old[x] @ r[x])
        for i, w in enumerate(world.mu[x] * p[x]):
            L = float(mdp.lengths[i])
            terms = {"E[r]": r[x, i], "E[r^2]": r[x, i] ** 2, "E[r/L]": r[x, i] / L, "E[1/L]": 1 / L, "E[r L]": r[x, i] * L, "E[L]": L}
            terms |= {"H": -math.log(p[x, i]), "KL(pi, ref)": math.log(p[x, i] / q[x, i])}
            for name, value in terms.items():
                add(name, w * value)
            add("KL(ref, pi)", world.mu[x] * q[x, i] * math.log(q[x, i] / p[x, i]))
            drawn = world.mu[x] * old[x, i] * math.log(p[x, i])
            for name, weight in {"E_old[r log pi]": r[x, i], "E_old[(r - V_old) log pi]": r[x, i] - mean_old, "E_old[log pi]": 1.0}.items():
                add(name, weight * drawn)
        for k in (2, 3):
            for group in itertools.product(range(mdp.N), repeat=k):
                add(f"E[max of {k}]", world.mu[x] * float(np.prod(p[x, list(group)])) * max(r[x, list(group)]))
    return out


def test_every_named_objective_is_what_it_is_called() -> None:
    world = random_world(rng=np.random.default_rng(5), V=2, H=2, P=2)
    rng = np.random.default_rng(6)
    log_pi, log_old = (log_softmax(rng.standard_normal(world.log_ref.shape)) for _ in range(2))
    want = enumerated(world, log_pi, log_old)
    named = objectives(Case(world, log_pi, log_old), G=3)
    assert set(want) <= set(named)
    for name, value in want.items():
        assert float(named[name](log_pi)) == pytest.approx(value), name


def test_sums_of_two_and_three_are_recognized() -> None:
    for terms in ({"E[r/L]": 1.0, "E[1/L]": -0.5}, {"E[r]": -1.0, "E[r^2]": 0.3, "H": 0.1}):
        found = ascended(WORLD, field_of(terms))
        assert found.terms == pytest.approx(terms)
        assert found.exact


def test_gradients_are_differences_of_their_objectives(rng: np.random.Generator) -> None:
    """The dictionary itself, by finite differences along random directions, and E[max of 2] by all pairs."""
    case = cases(WORLD, WORLD.log_ref, WORLD.log_ref)[1]
    for name, f in objectives(case, G=4).items():
        way, h = rng.standard_normal(case.logits.shape), 1e-5
        slope = (f(log_softmax(case.logits + h * way)) - f(log_softmax(case.logits - h * way))) / (2 * h)
        assert np.sum(gradient(f, case.logits) * way) == pytest.approx(float(slope), rel=1e-6, abs=1e-9), name
    log_pi = log_softmax(case.logits)
    p, r = np.exp(case.world.mdp.path_sum(log_pi)), case.world.r
    pairs = sum(m * np.sum(a[:, None] * a * np.maximum(b[:, None], b)) for m, a, b in zip(case.world.mu, p, r, strict=True))
    assert objectives(case, G=2)["E[max of 2]"](log_pi) == pytest.approx(pairs, rel=1e-12)


def test_curl_is_the_antisymmetric_part(rng: np.random.Generator) -> None:
    J, at = rng.standard_normal((2, 2)), np.zeros((1, 1, 2))
    assert curl(lambda t: t @ J.T, at) == pytest.approx(abs(J[0, 1] - J[1, 0]), rel=1e-9)
    assert curl(lambda t: t @ (J + J.T), at) == 0.0
    assert curl(lambda t: t, np.zeros((1, 1, 65))) is None, "too many logits"


def test_a_field_of_no_gradient_is_told_so_and_how_near_it_is() -> None:
    def update(case: Case) -> Array:
        return gradient(objectives(case)["E[r]"], case.logits) + 0.1 * case.logits[..., ::-1] * np.array([1.0, 0.0, -1.0])

    found = ascended(random_world(rng=np.random.default_rng(0), V=3, H=1), update)
    assert (found.exact, found.words) == (False, "nothing: it has curl")
    assert 0 < found.residual < 1
    assert found.share == pytest.approx(1.0 - found.residual**2)


# ---------------------------------------------------------------------------------------------------- records of users


LIES: dict[str, tuple[Advantage | PolicyLoss, str]] = {
    "negated": (Advantage("negated", "-r", "none", lambda r: -r, lambda i, r: -r[i]), "-E[r]"),
    "squared": (Advantage("squared", "r^2", "none", lambda r: r**2, lambda i, r: r[i] ** 2), "E[r^2]"),
    "doubled": (Advantage("doubled", "2r", "none", lambda r: 2 * r, lambda i, r: 2 * r[i]), "2 E[r]"),
    "flipped": (PolicyLoss("flipped", "-A log pi", "none", lambda log_pi, A: -A * log_pi, lambda log_pi, A: -A * log_pi), "-E[r]"),
    "raised": (
        PolicyLoss(
            "raised", "max(A, 0) log pi", "none", lambda log_pi, A: np.maximum(A, 0.0) * log_pi, lambda log_pi, A: max(A, 0.0) * log_pi
        ),
        "no objective named here",
    ),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("make", [rational, fork, lambda: WORLD])
def test_a_users_record_is_told_what_it_does(name: str, make: Callable[[], World]) -> None:
    record, words = LIES[name]
    world = make()
    recipe = Recipe(record, G=4) if isinstance(record, Advantage) else Recipe("none", record, G=4)
    found = analyse(world, world.log_ref, recipe)
    if name == "raised":  # the positive part of the rewards
        assert found.verdict.words in (words, "E[r]")
        assert (found.verdict.words == "E[r]") == bool(np.all(world.r >= 0))
    elif name == "squared" and set(np.unique(world.r)) <= {0.0, 1.0}:
        assert found.objective == "E[r]", "the same there"
    else:
        assert found.objective == words
    if name in ("negated", "flipped"):
        assert found.cosine == pytest.approx(-1.0)


def test_pass_at_k_is_told_apart_from_the_reward() -> None:
    """Leave-one-out pass@2 of four 0/1 rewards (Chen and others): its expected update is the gradient of E[max of 2], times 1/2."""

    def pairwise(r: Any, n: Any, G: int) -> Any:  # how often the best of it and another is its own doing
        others = np.maximum(n - 1.0, 0.0)[..., None, :] * np.eye(np.shape(n)[-1]) + n[..., None, :] * (1.0 - np.eye(np.shape(n)[-1]))
        r = np.broadcast_to(r, np.shape(n))
        return np.sum(others * np.maximum(r[..., :, None], r[..., None, :]), axis=-1) / (G - 1)

    record = Advantage("best-of-two", "max(r_i, r_j)", "none", pairwise, lambda i, r: 0.0, smallest=2)
    for world in (coin(), rational(), WORLD):
        found = analyse(world, world.log_ref, Recipe(record, G=4))
        assert found.objective == "0.5 E[max of 2]"


def test_a_clip_that_bites_is_not_called_the_reward() -> None:
    """Off-policy: no ratio, per-token ratios, clips and the exact ratio all have verdicts of their own."""
    world = random_world(rng=np.random.default_rng(5), V=2, H=2)
    moved = world.log_ref + np.array([[[-1.2, 1.2], [1.5, -1.5]]])
    tight = {loss: {"cap": 1.0} if "cap" in record.defaults else {} for loss, record in LOSSES.items()}
    told = {loss: analyse(world, moved, Recipe("rloo", loss, G=4, **tight[loss]), log_old=world.log_ref) for loss in LOSSES}
    assert [loss for loss, a in told.items() if a.objective == "E[r]"] == ["sequence-ratio"]
    assert told["reinforce"].objective == "E_old[(r - V_old) log pi]"
    assert told["ratio"].objective == "E[Q_old] at old visits"


def test_every_two_losses_differ_somewhere_off_policy() -> None:
    alike = set(itertools.combinations(LOSSES, 2))
    for seed in range(24):
        world = random_world(rng=np.random.default_rng(seed), V=2, H=2)
        moved = world.log_ref + 1.5 * np.random.default_rng(seed).standard_normal(world.log_ref.shape)
        u = {loss: expected_update(world, moved, Recipe("rloo", loss), log_old=world.log_ref) for loss in LOSSES}
        alike = {(a, b) for a, b in alike if np.allclose(u[a], u[b], rtol=0, atol=1e-9)}
    assert not alike


@pytest.mark.parametrize("part", [*ADVANTAGES.values(), *LOSSES.values(), *AGGREGATIONS.values()], ids=lambda part: part.name)
def test_records_say_nothing_that_is_not_so(part: Part) -> None:
    assert faults(part, rng=np.random.default_rng(0)) == []


@pytest.mark.parametrize("part", [*ADVANTAGES.values(), *LOSSES.values(), *AGGREGATIONS.values()], ids=lambda part: part.name)
def test_a_planted_lie_is_found(part: Part) -> None:
    """Another oracle, another smallest group: each claim that is left, falsified in each record."""
    names = ", ".join(parameters(part.oracle))
    spoiled = eval(f"lambda {names}: oracle({names}) * 1.001 + 1e-6", {"oracle": part.oracle})  # the same parameters
    assert f"{part.name} is not its oracle" in faults(replace(part, oracle=spoiled), rng=np.random.default_rng(0))
    if isinstance(part, Advantage):
        later = replace(part, smallest=part.smallest + 1)
        assert faults(later, rng=np.random.default_rng(0)) == [f"{part.name} is not without use at G = {part.smallest}"]
        if part.smallest > 1:
            earlier = faults(replace(part, smallest=part.smallest - 1), rng=np.random.default_rng(0))
            assert f"{part.name} is not of use at G = {part.smallest - 1}" in earlier


def test_what_groups_ask_of_any_record() -> None:
    first = Advantage("first", "x", "none", lambda r: r * (np.arange(r.shape[-1]) == 0), lambda i, r: r[i] * (i == 0))
    assert "first is not the same for members in another order" in faults(first, rng=np.random.default_rng(1))
    blind = Advantage("blind", "x", "none", lambda r, n: r - np.mean(r), lambda i, r: r[i] - sum(r) / len(r), smallest=2)
    assert faults(blind, rng=np.random.default_rng(1)) == ["blind is not the same where equal members are counted"]
    shifted = PolicyLoss("shifted", "x", "none", lambda log_pi, A: A * log_pi + 1.0, lambda log_pi, A: 1.0 + A * log_pi)
    assert faults(shifted, rng=np.random.default_rng(1)) == ["shifted is not homogeneous in A"]
    with pytest.raises(InputError, match="positively homogeneous"):
        Recipe("rloo", shifted)


@pytest.mark.parametrize("rule", list(AGGREGATIONS))
def test_the_same_update_gets_the_same_verdict_whatever_it_is_called(rule: str) -> None:
    """gspo on-policy divides by the length, as the sequence mean of token means does: curl and words are those of the update."""
    world = rational()
    one, other = (analyse(world, world.log_ref, Recipe("rloo", loss, r, G=4)) for loss, r in (("gspo", rule), ("reinforce", rule)))
    same = np.allclose(one.update, other.update, rtol=0, atol=1e-12)
    assert same == (abs((one.curl or 0.0) - (other.curl or 0.0)) < 1e-12 and one.objective == other.objective)
    if rule == "sequence-sum":
        mean = analyse(world, world.log_ref, Recipe("rloo", "reinforce", "sequence-mean", G=4))
        assert one.curl == pytest.approx(mean.curl, rel=1e-9)
        assert one.curl == pytest.approx(6.674e-3, rel=1e-3)
        assert one.objective == mean.objective


@pytest.mark.parametrize("name", list(ADVANTAGES))
@pytest.mark.parametrize("rule", list(AGGREGATIONS))
def test_a_verdict_holds_where_the_update_leads(name: str, rule: str) -> None:
    """An exact verdict without curl: along the update's own flow the combination of objectives rises by the work that is done."""
    world, recipe = WORLD, Recipe(name, aggregation=rule, G=3)
    v = analyse(world, world.log_ref, recipe).verdict
    if not v.exact or "varying" in v.words or "E[b]" in v.terms:
        return

    def slope(_: float, y: Array) -> Array:
        z = np.reshape(y[:-1], world.log_ref.shape)
        u = expected_update(world, z, recipe)
        return np.append(np.ravel(u), np.sum(u * u))  # and the work done

    path = solve_ivp(slope, (0.0, 3.0), np.append(np.ravel(world.log_ref), 0.0), rtol=1e-10, atol=1e-12)
    named = objectives(Case(world, world.log_ref), G=3)
    start, end = (log_softmax(np.reshape(y[:-1], world.log_ref.shape)) for y in (path.y[:, 0], path.y[:, -1]))
    gained = sum(c * float(named[k](end) - named[k](start)) for k, c in v.terms.items())
    assert gained == pytest.approx(path.y[-1, -1], rel=1e-6, abs=1e-9)
