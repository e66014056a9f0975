"""The audit of a person's own function: how it is read, what is said of it, and what is said where nothing can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.audit import Unfit, audit, hand_in, nearest
from tabular_rlhf.audit.batches import Tables, population, probe
from tabular_rlhf.audit.ends import _proved, follow
from tabular_rlhf.audit.field import Expected, Setting
from tabular_rlhf.audit.handed import Handed, lay_out
from tabular_rlhf.audit.library import Library
from tabular_rlhf.audit.report import rounding_of, worlds
from tabular_rlhf.audit.roles import kind_of, role_of
from tabular_rlhf.estimators import analyse as flag_analysis
from tabular_rlhf.estimators import end
from tabular_rlhf.estimators.record import ESTIMATORS, Flag
from tabular_rlhf.fields import Case, cases, gradient, objectives
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, LOSSES, Recipe
from tabular_rlhf.policy_gradient.updates import expected_update
from tabular_rlhf.world import World, rational


def handed(f: Callable[..., Any], **settings: Any) -> Handed:
    found = hand_in(f, Library(), settings=settings)
    if found.kind not in ("pair loss", "reward-model loss"):
        lay_out(found, [probe(np.random.default_rng(0), P=2 if found.asks("G", "group") else 1, G=3, T=5)])
    return found


# ---------------------------------------------------------------------------------------------------- the step is the one that is known


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("name", [a for a in ADVANTAGES if a not in ("constant", "remax", "optimal")])
def test_the_expected_step_is_the_recipe_s(name: str, aggregation: str) -> None:
    """By all multisets of whole batches here, by counts of kinds there."""
    part, rule = ADVANTAGES[name], AGGREGATIONS[aggregation]

    def step(logps: Any, rewards: Any, mask: Any) -> Any:
        r, lengths, G = rewards, mask.sum(1), len(rewards)
        A = np.broadcast_to(part(r=r, n=np.ones(G), G=G, lengths=lengths, **part.defaults), r.shape)
        omega = rule(lengths=lengths, n=np.ones(G), G=G, H=mask.shape[1], **rule.defaults)
        return -((A * omega)[:, None] * logps * mask).sum()

    h = handed(step)
    for world in worlds().values():
        case = cases(world, world.log_ref)[1]
        want = expected_update(case.world, case.logits, Recipe(name, "reinforce", aggregation, G=3))
        got = Expected(h, Setting(G=3))(case)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_every_policy_loss_of_ours_is_recognized_as_itself(name: str) -> None:
    """Handed in as a trainer's function, with masks and its own differentiation."""
    loss = LOSSES[name]

    def step(logps: Any, old_logps: Any, advantages: Any, mask: Any) -> Any:
        lengths = mask.sum(1, keepdims=True)
        sign = np.where(advantages < 0, -1.0, 1.0)[:, None]
        x, old = loss.of_tokens(logps, old_logps, sign, loss.defaults), old_logps
        if loss.level != "token":
            divide = lengths if loss.level == "geometric" else 1.0
            x, old = ((y * mask).sum(1, keepdims=True) / divide for y in (x, old))
        now = np.array(x.value) if hasattr(x, "value") else x
        f = loss(log_pi=x, log_old=old, log_now=now, A=np.broadcast_to(advantages[:, None], old.shape), **loss.defaults)
        return -(f * mask if loss.level == "token" else f).sum() / len(mask)

    found = nearest(handed(step))
    assert found.exact
    assert not found.slips
    assert found.scale == pytest.approx(1.0, abs=1e-6)
    same = {"ratio": {"ratio"}, "sequence-ratio": {"sequence-ratio"}}.get(name, {name})
    assert any(found.words.startswith(f"the advantages given, {word}") for word in same), found.words


def test_weights_of_a_population_add_up_and_order_does_not_matter() -> None:
    case = Case(rational(), rational().log_ref)
    for ordered in (False, True):
        assert sum(w for w, _, _ in population(case, 3, ordered=ordered)) == pytest.approx(1.0, abs=1e-12)

    def first(logps: Any, rewards: Any, mask: Any) -> Any:
        return -((rewards - rewards.mean())[:, None] * logps * mask).sum() / len(mask)

    h = handed(first)
    several = [Expected(h, Setting(G=3, ordered=o))(case) for o in (False, True)]
    np.testing.assert_allclose(*several, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (1.7, 1.0), (1.0, 0.6), (0.7, 0.8)])
def test_a_sampler_s_temperature_and_top_p_are_those_of_stale_samples(temperature: float, top_p: float) -> None:
    """A step without a ratio takes the sampler's draws as its own: what `expected_update` says of draws from that policy."""

    def step(logps: Any, advantages: Any, mask: Any) -> Any:
        return -(logps * advantages[:, None] * mask).sum() / len(mask)

    world = worlds()["graded rewards"]
    case = cases(world, world.log_ref)[1]
    sampler = Tables(case, temperature, top_p).policies["sampler"]
    got = Expected(handed(step), Setting(3, temperature, top_p))(case)
    want = expected_update(case.world, case.logits, Recipe("rloo", "reinforce", G=3), log_old=sampler)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("placement", ["loss", "reward"])
@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_a_penalty_leads_where_its_flag_does(name: str, placement: str) -> None:
    """By the flow of every batch here, by the flag's own flow or closed form there."""
    e = ESTIMATORS[name]

    def mine(logps: Any, ref_logps: Any) -> Any:
        return e.h(logps - ref_logps)

    world, step = rational(), Expected(handed(mine), Setting(G=2), in_reward=placement == "reward")
    flag = Flag(name, placement, level="token")
    want = end(flag, world, flag_analysis(flag, world, world.log_ref).optimum)
    got = follow(lambda c: step(c) + gradient(objectives(c)["E[r]"], c.logits), world)
    assert got.rests
    assert want.log_p is not None
    np.testing.assert_allclose(np.exp(got.log_p), np.exp(want.log_p), atol=1e-6)


def test_a_flow_that_ends_is_at_the_optimum_that_is_known() -> None:
    world = rational(0.7)
    reward = [lambda c: gradient(objectives(c)["E[r]"], c.logits)]
    end = follow(reward[0], world)
    assert end.words == "it goes to a vertex"
    assert end.rests
    assert int(np.argmax(end.log_p)) == int(np.argmax(world.r))

    def regularized(c: Case) -> Any:
        f = objectives(c)
        return gradient(f["E[r]"], c.logits) - 0.7 * gradient(f["KL(pi, ref)"], c.logits)

    end = follow(regularized, world)
    assert end.rests
    np.testing.assert_allclose(np.exp(end.log_p), solve(world).p, atol=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.08])
def test_the_end_is_exact_where_a_response_is_rare(beta: float) -> None:
    """A rare token moves by its probability squared: rest is asked of what is left when that is divided out."""
    world = rational()

    def step(c: Case) -> Any:
        f = objectives(c)
        return gradient(f["E[r]"], c.logits) - beta * gradient(f["KL(pi, ref)"], c.logits)

    found = follow(step, world)
    assert found.rests
    np.testing.assert_allclose(found.log_p, solve(world.at(beta)).log_p, atol=1e-4)


def test_a_place_that_a_small_departure_leaves_is_no_end() -> None:
    """One prompt comes to rest while another lingers near its uniform law, which sum p^2 leaves: only then is that said to be the end."""
    mdp = TokenMDP(2, 1, prompts=("settles", "lingers"))
    world = World(mdp, log_softmax(np.array([[[0.0, 0.0]], [[1e-8, 0.0]]])), np.zeros((2, 2)), 1.0)
    target = np.log([0.8, 0.2])

    def ascended(log_pi: Any) -> Any:
        settles, lingers = log_pi[0, 0], log_pi[1, 0]
        return np.sum(np.exp(settles) * (target - settles)) + 0.5 * np.sum(np.exp(2.0 * lingers))

    found = follow(lambda c: gradient(ascended, c.logits), world)
    assert found.rests
    np.testing.assert_allclose(np.exp(found.log_p), [[0.8, 0.2], [1.0, 0.0]], atol=1e-6)


def test_rest_is_proved_only_where_nothing_moves() -> None:
    world = rational()
    everywhere = np.ones(world.log_ref.shape, dtype=bool)

    def uphill(log_pi: Any) -> Any:
        return gradient(objectives(Case(world, log_pi))["E[r]"], log_pi)

    assert not _proved(uphill, world.log_ref, everywhere, ~everywhere, 1.0)


def test_a_field_that_turns_for_ever_is_not_said_to_end() -> None:
    world = worlds()["one length"]
    turn = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    end = follow(lambda c: np.exp(c.logits - np.log(np.sum(np.exp(c.logits), -1, keepdims=True))) * (c.logits @ turn), world)
    assert not end.rests


def test_a_function_that_computes_in_32_bits_is_measured_by_its_own_rounding() -> None:
    """A curl of 1e-8 that is rounding is no curl, and a real one is not taken for rounding."""

    def step(logps: Any, advantages: Any, mask: Any) -> Any:
        x = np.float32(1.0) * (advantages * 1.1).astype(np.float32)
        return -(logps * x[:, None].astype(float) * mask).sum() / len(mask)

    def averaged(logps: Any, advantages: Any, mask: Any) -> Any:
        return step(logps, advantages, mask) * len(mask) / mask.sum()

    assert rounding_of(handed(step)) > 1e-7
    assert audit(hand_in(step, Library())).rows[0].verdict.words == "1.1 E[r]"
    assert not audit(hand_in(averaged, Library())).rows[0].verdict.exact


# ---------------------------------------------------------------------------------------------------- what stands in the way


def raises(logps: Any, advantages: Any) -> Any:
    raise RuntimeError("on purpose")


def nan(logps: Any, rewards: Any, mask: Any) -> Any:
    with np.errstate(all="ignore"):
        return -((rewards - rewards.mean()) / rewards.std() * (logps * mask).sum(1)).mean()


def mutates(logps: Any, advantages: Any, mask: Any) -> Any:
    advantages *= 2.0
    return -(logps * advantages[:, None] * mask).sum()


def random(logps: Any, advantages: Any, mask: Any) -> Any:
    keep = np.random.default_rng().random(mask.shape) < 0.5
    return -(logps * advantages[:, None] * mask * keep).sum()


def dropout(logps: Any, advantages: Any, mask: Any) -> Any:
    return -(logps * advantages[:, None] * mask * (np.random.default_rng().random(mask.shape) < 0.8)).sum()


def gpu(logps: Any, advantages: Any) -> Any:
    raise RuntimeError("Found no NVIDIA driver on your system")


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (raises, "raises", "RuntimeError: on purpose"),
        (nan, "nan", "where all rewards of a group are equal"),
        (mutates, "mutates", "it changes its argument advantages"),
        (random, "random", "something else each time"),
        (dropout, "random", "something else each time"),
        (gpu, "needs a GPU", "NVIDIA"),
    ],
)
def test_what_stands_in_the_way_is_told_in_those_words(function: Callable[..., Any], kind: str, words: str) -> None:
    found = audit(hand_in(function, Library()))
    assert found.status == kind
    assert found.problem is not None
    assert words in found.problem[1]


def test_a_masked_mean_and_a_module_are_read_as_what_they_are() -> None:
    def masked_mean(values: Any, mask: Any) -> Any:
        return (values * mask).sum() / mask.sum()

    class Module:
        def forward(self, log_probs: Any, old_log_probs: Any, advantages: Any, action_mask: Any = None) -> Any:
            return -(np.exp(log_probs - old_log_probs) * advantages[:, None] * action_mask).sum() / action_mask.sum()

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.forward(*args, **kwargs)

    assert str(nearest(handed(masked_mean))) == "the advantages given, token-mean"
    assert str(nearest(handed(Module()))) == "the advantages given, ratio, token-mean"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("old_log_prob log_prob advantages response_mask cliprange", "policy loss"),
        ("token_level_rewards response_mask index epsilon", "group advantage"),
        ("policy_chosen_logps policy_rejected_logps reference_chosen_logps reference_rejected_logps", "pair loss"),
        ("per_token_logps ref_per_token_logps old_per_token_logps rewards completion_mask", "whole step"),
        ("logprob ref_logprob", "KL penalty"),
        ("loss_mat loss_mask", "aggregation"),
        ("chosen_reward reject_reward margin", "reward-model loss"),
        ("rewards_chosen rewards_rejected", "reward-model loss"),
        ("log_probs old_log_probs rollout_log_probs advantages action_mask", "policy loss"),
    ],
)
def test_kinds_are_recognized_by_usual_names(names: str, kind: str) -> None:
    roles = [role for role in map(role_of, names.split()) if role is not None]
    assert kind_of(roles) == kind


def test_unknown_parameters_are_told_with_the_way_to_name_them() -> None:
    with pytest.raises(Unfit, match="unknown parameters: whatsit: say what it is with --map whatsit=ROLE"):
        hand_in(lambda logps, advantages, whatsit: logps, Library())
