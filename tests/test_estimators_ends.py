"""Where flags lead: what is said to be the end is where an integration of our own goes, and nothing moves there.

The witness is written here: a flow of the policy's log-probabilities by its velocity formula, with h and h' from the papers and
products p h(L) in a form that has a limit at p = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tabular_rlhf.estimators import ESTIMATORS, Flag, analyse, descent, end, ends, flags, follow, measure, optimum, theorem
from tabular_rlhf.estimators.rest import resting
from tabular_rlhf.estimators.theorem import as_responses
from tabular_rlhf.figures import kl as figures
from tabular_rlhf.gibbs import log_policy_of, solve
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import World, generated_worlds, random_world, rational
from tests.laws import assert_close

# ---------------------------------------------------------------------------------------------------- the witness

TABLE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "k1": (lambda p, q, L: p * L, lambda p, q, L: p),
    "k2": (lambda p, q, L: p * L**2 / 2, lambda p, q, L: p * L),
    "k3": (lambda p, q, L: q - p + p * L, lambda p, q, L: p - q),
    "abs": (lambda p, q, L: p * abs(L), lambda p, q, L: p * np.tanh(L / 1e-3)),  # its corner is rounded over a thousandth of a nat
    "k3-inverted": (lambda p, q, L: p * (np.exp(L) - 1 - L), lambda p, q, L: p * (np.exp(L) - 1)),
}
TABLE |= {"k1-straight-through": (TABLE["k1"][0], TABLE["k2"][1]), "k3-straight-through": (TABLE["k3"][0], TABLE["k2"][1])}
TABLE["full"] = (lambda p, q, L: p * np.sum(p * L, axis=1, keepdims=True), lambda p, q, L: p * L)
for _name, _e in ESTIMATORS.items():
    TABLE.setdefault(_name, (lambda p, q, L, h=_e.h: p * h(L), lambda p, q, L, h=_e.h: p * (h(L + 1e-5) - h(L - 1e-5)) / 2e-5))
"""p h(L) and p h'(L) at p = q e^L, from the papers, finite for all p; by states, rows are states."""


class Witness:
    """d log pi/dt of one prompt, from lists of tokens: through[tau, (s, a)] and way[s, (s, a)] say which tokens lie on a path."""

    def __init__(self, flag: Flag, world: World) -> None:
        self.flag, self.beta, self.r, self.ref = flag, world.beta, world.r[0], np.ravel(world.log_ref[0])
        states, responses = ([tuple(int(t) for t in row if t >= 0) for row in x] for x in (world.mdp.state_tokens(), world.mdp.tokens()))
        self.shape = len(states), world.mdp.V

        def on(paths: list[tuple[int, ...]]) -> Any:
            rows = np.zeros((len(paths), *self.shape))
            for i, path in enumerate(paths):
                for k, a in enumerate(path):
                    rows[i, states.index(path[:k]), a] = 1.0
            return rows.reshape(len(paths), -1)

        self.through, self.way = on(responses), on(states)
        self.after = np.repeat(self.way, self.shape[1], axis=0) + np.eye(self.way.shape[1])  # of each token: itself and those before it

    def velocity(self, _: float, y: Any) -> Any:
        log_pi = self.policy(y)
        p, pi = np.exp(self.through @ log_pi), np.exp(log_pi).reshape(self.shape)
        m = (self.through.T @ (p * self.r) - self.beta * self.pushes(log_pi)).reshape(self.shape)
        step = m - pi * m.sum(axis=1, keepdims=True)
        return np.ravel(step - np.sum(pi * step, axis=1, keepdims=True))

    def pushes(self, log_pi: Any) -> Any:
        """Mass times coefficient of every token's score: h weighs the scores up to its own token, h' only that one."""
        value, slope = TABLE[self.flag.name]
        live, weighed = self.flag.placement != "reward", self.flag.placement != "loss"
        if self.flag.level == "sequence":
            log_p, log_q = self.through @ log_pi, self.through @ self.ref
            at = np.exp(log_p), np.exp(log_q), log_p - log_q
            return self.through.T @ ((value(*at) if weighed else 0.0) + (slope(*at) if live else 0.0))
        visits = np.exp(self.way @ log_pi)[:, None]
        at = tuple(x.reshape(self.shape) for x in (np.exp(log_pi), np.exp(self.ref), log_pi - self.ref))
        out = self.after.T @ np.ravel(visits * value(*at)) if weighed else 0.0
        return out + (np.ravel(visits * slope(*at)) if live else 0.0)

    def policy(self, y: Any) -> Any:
        """Below 250 nats a token, no number tells a push from its limit."""
        log_pi = np.maximum(np.reshape(y, self.shape), -250.0)
        top = log_pi.max(axis=1, keepdims=True)
        return np.ravel(log_pi - top - np.log(np.sum(np.exp(log_pi - top), axis=1, keepdims=True)))

    def law(self, y: Any) -> Any:
        return np.exp(self.through @ self.policy(y))

    def follow(self, time: float) -> Any:
        found = solve_ivp(self.velocity, (0.0, time), self.ref, method="LSODA", rtol=1e-6, atol=1e-8)
        assert found.success
        return found.y[:, -1]


def small_worlds() -> list[World]:
    """Two to four responses of one and two tokens; among them those in which a flow was once said to have ended too early."""
    rng = np.random.default_rng(3)
    settings = ((2, 1, False, 0.5), (4, 1, False, 0.3), (2, 2, False, 1.0))
    return [
        figures.three(),
        figures.three(1.96),
        rational(),
        *(random_world(rng=rng, V=V, H=H, eos=eos, beta=b) for V, H, eos, b in settings),
    ]


def asked(world: World) -> list[Flag]:
    """One flag of every gradient."""
    found = [*flags(), *(flags(level="token") if world.mdp.H > 1 else [])]
    return list({descent(f).name: f for f in found}.values())


@pytest.mark.parametrize("world", small_worlds(), ids=lambda w: f"{w.name} {w.mdp.N} {w.beta:.2g}")
def test_an_end_is_where_an_integration_of_our_own_goes_and_nothing_moves_there(world: World) -> None:
    for flag in asked(world):
        found, witness = follow(flag, world), Witness(flag, world)
        assert found.rests, (flag.label, found.remark)
        assert found.log_p is not None
        got = np.exp(found.log_p[0])
        assert_close(got, witness.law(witness.follow(3e5)), 1e-3, f"{flag.label}: {found.words}")  # what vanishes does so as 1/time
        assert (found.words == "its flow goes to a vertex") == (got.max() > 1 - 1e-12), flag.label
        there = np.ravel(np.maximum(log_policy_of(world.mdp, found.log_p)[0], -250.0))
        moves, visited = witness.velocity(0.0, there), np.exp(witness.through @ there)
        assert np.max(np.abs(visited * (witness.through @ moves))) < 1e-9 * (1 + world.beta), flag.label  # dp/dt
        gone = (there == -250.0) & (np.repeat(np.exp(witness.way @ there), world.mdp.V) > 1e-9)
        assert np.all(moves[gone] <= 1e-9), flag.label  # nothing that has vanished comes back


def test_the_ends_that_were_said_too_early() -> None:
    """k2, inverted k3 and full in the reward on `rational` move on to the vertex; one vanished token is not the end of a flow."""
    for flag in (Flag("k2", "reward"), Flag("k3-inverted", "reward"), Flag("full", "reward", "token")):
        found = follow(flag, rational())
        assert found.words == "its flow goes to a vertex"
        assert found.log_p is not None
        assert_close(measure(rational(), found.log_p)[2], math.log(19 / 12), 1e-12)  # beta log 1/p*(the best): E_ref[e^r] = 19/9
    world = figures.three(1.96)
    found = follow(Flag("k3", "reward"), world)
    assert found.log_p is not None
    assert np.exp(found.log_p[0]).tolist() == [0.0, 1.0, 0.0]


def test_what_still_moves_is_not_said_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few looks: not there yet.  All looks, but the best response is so rare that the flow stays at the second best for ages."""
    monkeypatch.setattr(ends, "LOOKS", ends.LOOKS[:12])
    early = follow(Flag("k2", "ratio"), rational())
    assert (early.words, early.rests) == ("its flow still moves", False)
    assert early.remark.startswith("still moving after time ")
    monkeypatch.undo()
    far = World(TokenMDP(("a", "b"), 2), np.log([[[0.999, 0.001], [0.001, 0.999], [0.999, 0.001]]]), np.zeros((1, 4)), 1.0)
    r = np.array([[far.mdp.text(i) == "b b", far.mdp.text(i) == "a b"] for i in range(4)]) @ [1.0, 0.9]
    stuck = follow(Flag("k1", "loss"), far.with_reward(r[None]))
    assert not stuck.rests
    assert "would grow again" in stuck.remark


def test_a_flow_does_not_end_at_a_place_that_is_not_stable() -> None:
    """-L^2/2 in the loss drives away from the reference; a reward of 1e-12 is enough to begin, and without one nothing begins."""
    away = replace(ESTIMATORS["k2"], name="away", h=lambda L: -0.5 * L**2, slope=lambda L: -L)
    world = figures.three(0.5).with_reward(1e-12 * np.array([[0.0, 0.6, 1.0]]))
    found = follow(Flag(away, "loss"), world)
    assert found.words == "its flow goes to a vertex"
    assert found.log_p is not None
    assert_close(np.exp(found.log_p[0]), Witness(Flag("k2", "loss"), world.with_reward(-world.r)).law(_backwards(world)), 1e-3)
    stays = follow(Flag(away, "loss"), world.with_reward(np.zeros((1, 3))))
    assert stays.words == "its flow ends here"
    assert_close(stays.log_p, world.log_p_ref, 0.0)


def _backwards(world: World) -> Any:
    """Where -k2 leads from the reference: the witness of k2 with everything reversed."""
    witness = Witness(Flag("k2", "loss"), world.with_reward(-world.r))
    found = solve_ivp(lambda t, y: -witness.velocity(t, y), (0.0, 3e5), witness.ref, method="LSODA", rtol=1e-9, atol=1e-12)
    return found.y[:, -1]


def test_a_record_that_lies_about_its_slopes_is_followed_by_its_h() -> None:
    world = figures.three()
    for name, what in (("k3", "slope"), ("abs", "rounded"), ("k1-straight-through", "slope")):
        e = ESTIMATORS[name]
        lie: dict[str, Any] = {"slope": lambda L, e=e: -3.0 * e.slope(L)} if what == "slope" else {"rounded": lambda L, width: 0.0 * L}
        for place in ("loss", "ratio"):
            want, got = (follow(Flag(record, place), world) for record in (e, replace(e, **lie)))
            assert got.words == want.words
            # a corner may be rounded in more than one way
            assert_close(np.exp(got.log_p), np.exp(want.log_p), 1e-9 if what == "slope" else 1e-3, f"{name} {place}")  # type: ignore[arg-type]


def test_closed_forms_are_at_rest_and_nothing_near_them_is() -> None:
    checked = 0
    for world in generated_worlds(10, rng=np.random.default_rng(11)):
        for beta in (world.beta, 1e-3, 30.0):
            here = world.at(beta)
            for flag in flags() + flags(level="token"):
                best = optimum(flag, here)
                if best is None:
                    continue
                whole = as_responses(flag) or flag
                assert resting(whole, here, best.log_pi), (flag.label, best.name)
                checked += 1
                if best.name.startswith(("Gibbs", "beta p_ref")) and beta == world.beta and np.ptp(here.r) > 0 and here.mdp.N > 1:
                    moved = here.with_reward(here.r * 1.001)
                    assert resting(whole, moved, best.log_pi) == np.allclose(optimum(flag, moved).log_p, best.log_p, atol=1e-9)  # type: ignore[union-attr]
    assert checked > 700


def test_an_optimum_is_given_only_where_the_flag_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed form that is off by one part in a thousand is not printed: the flow is followed instead."""
    world = rational()
    exact = analyse(Flag("k3", "loss"), world, solve(world).log_pi).optimum
    assert exact is not None
    words, formula = theorem._OPTIMA["KL(ref, pi)"]
    monkeypatch.setitem(theorem._OPTIMA, "KL(ref, pi)", (words, lambda q, r, beta: formula(q, r, 1.001 * beta)))  # type: ignore[arg-type]
    report = analyse(Flag("k3", "loss"), world, solve(world).log_pi)
    assert report.optimum is None
    found = end(report.flag, world, report.optimum)
    assert found.words == "its flow ends here"
    assert_close(found.log_p, exact.log_p, 1e-9)
