r"""The exact expected step of a function in tabular logits: its push on every batch, weighted, and the chain rule.

    m(s, a) = sum over batches of  weight  sum over its tokens (s, a) of  push;     u(s, a) = m(s, a) - pi(a given s) sum_b m(s, b),

and likewise for the entropy, whose gradient in the logits of its state is -pi (log pi + H).

**Named gradients**, on which a step is regressed: those of `fields`, and what trainers descend token by token with samples held.

A penalty h of each sampled token, differentiated where it stands, has the expected gradient

    sum over (s, a) of m(s, a) grad h(log pi/pi_ref),     m(s, a) = E[omega 1{(s, a) is said}] held,    omega = 1 or 1/L,

which for omega = 1 is that of a divergence of every state at held visits: k2 that of KL(pi, ref), k3 that of KL(ref, pi).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tabular_rlhf.audit.batches import chances, paths, population
from tabular_rlhf.audit.handed import Batch, Handed
from tabular_rlhf.autodiff import grad
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.fields import Case, Objective, objectives
from tabular_rlhf.gibbs import objective
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.preferences import bradley_terry
from tabular_rlhf.world import World

Push = Callable[[Batch], dict[str, Array]]


@dataclass
class Setting:
    """How batches are drawn: G responses to a prompt, at a temperature, of the likeliest tokens with top_p of a state's mass; ordered,
    where the order of the responses matters."""

    G: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    ordered: bool = False

    @property
    def drawn(self) -> dict[str, Any]:
        """All but G, as `population` takes it."""
        return {"temperature": self.temperature, "top_p": self.top_p, "ordered": self.ordered}


@dataclass(frozen=True, eq=False)
class Moments:
    """Of one batch's step: mean (P, S, V), and variance summed over logits."""

    mean: Array
    variance: float


@dataclass
class Expected:
    """Case -> the expected step.  held, whether a batch's push depends on the policy through nothing (then it is remembered).

    in_reward: a KL penalty is taken off the reward, detached, instead of standing in the loss.
    """

    handed: Handed
    setting: Setting = field(default_factory=Setting)
    in_reward: bool = False
    held: bool = False
    known: list[tuple[World, Array, Array]] = field(default_factory=list)

    def __call__(self, case: Case) -> Array:
        return self.pairs(case) if self.handed.kind == "pair loss" else self.moments(case, spread=False).mean

    def pushes(self, case: Case) -> tuple[Array, Array]:
        """What every batch pushes at each token's place (n, P S V), and at each state's (n, P S); remembered where it is held."""
        found = next(((m, e) for world, m, e in self.known if world is case.world), None) if self.held else None
        if found is not None:
            return found
        mdp, s = case.world.mdp, self.setting
        where, size = paths(mdp), mdp.S * mdp.V
        tokens, states = [], []
        held = self.held
        for w, tau, batch in population(case, s.G, **s.drawn):
            held &= w > 0
            push = self._push(batch) if w > 0 else {}
            place = batch["group"][:, None] * size + where[tau]
            m, e = _counted(push.get("logp"), place, where[tau] >= 0, mdp.P * size, push.get("entropy"), mdp.V)
            tokens.append(m)
            states.append(e)
        if held:
            self.known.append((case.world, np.array(tokens), np.array(states)))
        return np.array(tokens), np.array(states)

    def _push(self, batch: Batch) -> dict[str, Array]:
        if self.handed.kind == "KL penalty" and self.in_reward:
            h = self.handed.penalty(batch)
            return {"logp": -np.sum(h, axis=1, keepdims=True) * batch["mask"] / len(h)}
        return self.handed.push(batch)

    def moments(self, case: Case, *, spread: bool = True) -> Moments:
        """The mean and the variance of one batch's step, over all batches."""
        s, pi = self.setting, np.exp(log_softmax(case.logits))
        w = chances(case, s.G, **s.drawn)
        m, e = self.pushes(case)
        mean = self._logits(case, w @ m, w @ e, pi)
        if not spread:
            return Moments(mean, 0.0)
        squares = [float(np.sum(self._logits(case, a, b, pi) ** 2)) for a, b in zip(m, e, strict=True)]
        return Moments(mean, float(w @ squares) - float(np.sum(mean**2)))

    def _logits(self, case: Case, m: Array, e: Array, pi: Array) -> Array:
        table = np.reshape(m, pi.shape)
        u = table - pi * np.sum(table, axis=-1, keepdims=True)
        if np.any(e):
            log_pi = log_softmax(case.logits)
            H = -np.sum(pi * log_pi, axis=-1, keepdims=True)
            u = u - np.reshape(e, (*pi.shape[:2], 1)) * pi * (log_pi + H)
        return np.asarray(u)

    def pairs(self, case: Case) -> Array:
        """The step of a pair loss on all pairs of responses, drawn from the reference and labeled by Bradley-Terry."""
        mdp, pi = case.world.mdp, np.exp(log_softmax(case.logits))
        m = np.zeros((mdp.P, mdp.N))
        for x, w, l, weight in labeled(case.world):
            push = self.handed.push(pair_batch(case, x, w, l))
            m[x, w] += weight * push.get("chosen", np.zeros(1))[0]
            m[x, l] += weight * push.get("rejected", np.zeros(1))[0]
        through = mdp.subtree_sum(m)
        return np.asarray(through - pi * np.sum(through, axis=-1, keepdims=True))


def _counted(g: Array | None, place: Array, there: Array, size: int, e: Array | None, V: int) -> tuple[Array, Array]:
    """Pushes added up at their places: of tokens, and of states."""
    T = place.shape[1]
    none = np.zeros(size), np.zeros(size // V)
    m = none[0] if g is None else np.bincount(place[there], np.asarray(g)[:, :T][there], size).astype(float)
    s = none[1] if e is None else np.bincount(place[there] // V, np.asarray(e)[:, :T][there], size // V).astype(float)
    return m, s


def labeled(world: World) -> list[tuple[int, int, int, float]]:
    """(prompt, winner, loser, weight) of all pairs of different responses; weights sum to the chance that two differ."""
    p = np.exp(world.log_p_ref)
    N = range(world.mdp.N)
    beats = bradley_terry(world.r).table()
    return [
        (x, w, l, float(2.0 * world.mu[x] * p[x, w] * p[x, l] * beats[x, w, l])) for x in range(world.mdp.P) for w in N for l in N if w != l
    ]


def pair_batch(case: Case, x: int, w: int, l: int) -> Batch:
    """One pair."""
    mdp = case.world.mdp
    log_p, ref = mdp.path_sum(log_softmax(case.logits))[x], case.world.log_p_ref[x]
    sides = {"chosen": w, "rejected": l}
    batch: Batch = {side: log_p[[k]] for side, k in sides.items()} | {f"ref_{side}": ref[[k]] for side, k in sides.items()}
    return batch | {f"{side}_length": mdp.lengths[[k]].astype(float) for side, k in sides.items()} | {"margin": np.zeros(1)}


def with_penalty(update: Callable[[Case], Array]) -> Callable[[Case], Array]:
    """The step with the gradient of the exact penalty -beta KL(pi, ref) added."""

    def step(case: Case) -> Array:
        world = case.world

        def penalty(theta: Array) -> Array:
            return objective(world.mdp.path_sum(log_softmax(theta)), world.log_p_ref, np.zeros(world.r.shape), world.beta, world.mdp.mu)

        return update(case) + np.asarray(grad(penalty)(case.logits))

    return step


def depends(handed: Handed, cases: list[Case], setting: Setting) -> bool:
    """Whether a batch's push depends on the policy that is live: on two policies of one world."""
    a, b = ([x for x in population(c, setting.G, **setting.drawn) if x[0] > 0] for c in cases[:2])
    for (_, _, one), (_, _, two) in zip(a[:: max(1, len(a) // 12)], b[:: max(1, len(b) // 12)], strict=False):
        first, second = handed.push(one), handed.push(two)
        if any(not np.allclose(first[k], second[k], rtol=1e-12, atol=1e-14) for k in first):
            return True
    return False


# ---------------------------------------------------------------------------------------------------- what it is regressed on


HELD: Mapping[str, str] = {"k2": "KL(pi, ref) at held visits", "k3": "KL(ref, pi) at held visits", "abs": "2 TV at held visits"}


def named(case: Case, G: int) -> dict[str, Objective]:
    """The named objectives of a case, plainest first.

    >>> from tabular_rlhf.world import rational
    >>> len(named(Case(rational(), rational().log_ref), 4))
    22
    """
    world, mdp = case.world, case.world.mdp
    p = world.mu[:, None] * np.exp(mdp.path_sum(log_softmax(case.logits)))
    ref = world.log_ref

    def penalty(h: Any, m: Any) -> Objective:
        return lambda log_pi: np.sum(m * h(log_pi - ref))

    found = objectives(case, G)
    masses = {"": mdp.subtree_sum(p), "/L": mdp.subtree_sum(p / mdp.lengths)}
    for name, words in HELD.items():
        found[words] = penalty(ESTIMATORS[name].h, masses[""])
        found[f"E[sum {name}/L] held"] = penalty(ESTIMATORS[name].h, masses["/L"])
    found["chi2/2 at held visits"] = penalty(ESTIMATORS["k3-inverted"].h, masses[""])
    found["E[sum k1/L] held"] = penalty(ESTIMATORS["k1"].h, masses["/L"])
    d = np.sum(masses[""], axis=-1, keepdims=True)
    found["H of tokens at held visits"] = lambda log_pi: -np.sum(d * np.exp(log_pi) * log_pi)
    return found
