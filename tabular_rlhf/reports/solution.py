r"""The report of a solved world: every number exact, and next to it the same number estimated from samples.

**Symbols.** p_ref and p* are the laws before and after tilting; `before` and `after` hold each law twice, as the weighted
population and as n draws, and `measure` puts one function through one sum on both.  z is the distance of the estimate from
the exact value in *exact* standard errors, so about 2/3 of them lie within 1 and a |z| beyond 5 asks for a reason.

    E_ref[r], E_{p*}[r], KL(p*, p_ref) = E_{p*}[log p*/p_ref], J(p*)          means under the law in question;
    Z = E_ref[exp(r/beta)]     is checked as E_ref[p*/p_ref] = 1;   V(s) likewise, among the responses through s.

The report is one dictionary of plain values (`schema` names its version), which the command line prints as text or JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import Gibbs, greedy_limit, objective, soft_bellman, solve
from tabular_rlhf.language import Language
from tabular_rlhf.logspace import Array, expect, kl
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import token_major
from tabular_rlhf.sampling import Estimate, Trajectories, estimate, population, sample
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/solve/1"
BETA_STEPS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The frontier's KL weights, as multiples of the world's own."""

Record = dict[str, Any]
Values = Callable[[Trajectories], Any]


def report(world: World, *, samples: int = 100_000, seed: int = 0, top: int = 6) -> Record:
    """Everything `tabular-rlhf solve` says about a world, as plain values.

    Args: samples, draws for each check; seed; top, how many responses and first tokens to list.

    >>> from tabular_rlhf.world import coin
    >>> r = report(coin(), samples=1000)
    >>> round(r["totals"]["kl"]["exact"], 6), abs(r["totals"]["kl"]["z"]) < 5
    (0.110944, True)
    """
    if top < 1:
        raise InputError("the number of responses listed must be at least 1", got=top, remedy="pass --top 6")
    rng = np.random.default_rng(seed)
    solved = Solved(world, solve(world), samples, rng)
    prompts = [prompt_row(solved, x) for x in range(world.mdp.P)]
    found: Record = {
        "schema": SCHEMA,
        "world": describe(world),
        "samples": samples,
        "seed": seed,
        "totals": totals(solved, prompts),
        "prompts": prompts,
        "first_tokens": first_tokens(solved, top),
        "responses": {law: responses(solved, law, top) for law in ("before", "after")},
        "frontier": frontier_rows(world, samples, rng),
    }
    return found | {"checks": verdict(found)}


def describe(world: World) -> Record:
    """The world in a few words and numbers."""
    impossible = np.isneginf(world.log_p_ref)
    possible = world.r[~impossible]
    ends = [float(np.min(possible)), float(np.max(possible))]
    return described(world, world.mdp, world.mdp.N, world.mdp.S, np.sum(impossible, axis=1).tolist(), ends)


def described(world: Any, x: Language, responses: Any, states: int, forbidden: list[int], ends: list[float]) -> Record:
    """A world of the language x, listed or not."""
    said = {"name": world.name, "vocabulary": list(x.vocabulary), "horizon": x.H, "eos": x.eos, "prompts": list(x.prompts)}
    counts = {"responses": responses, "states": states, "forbidden_responses": forbidden, "reward_range": ends}
    return {**said, "mu": x.mu.tolist(), "beta": world.beta, **counts}


# ---------------------------------------------------------------------------------------------------- both ways at once


@dataclass(frozen=True)
class Law:
    """One law as population and as sample."""

    exact: Trajectories
    drawn: Trajectories

    def measure(self, f: Values, mean: Any = None) -> Record:
        """The mean of f, exact and sampled, with the exact standard error of the sample's; `mean`, if a closed form knows it better."""
        exact = estimate(self.exact, f(self.exact))
        exact = exact if mean is None else replace(exact, mean=float(mean))
        return as_record(exact, estimate(self.drawn, f(self.drawn)))

    def given(self, x: int, keep: Any) -> Law | None:
        """The law given prompt x and a subset of the responses (a mask); None where nothing was drawn there."""
        if self.exact.weight.shape[0] == 1 and np.all(keep):
            return self
        chosen = np.flatnonzero(keep)
        mass = self.exact.weight[x, chosen]
        total = float(np.sum(mass))
        seen = (self.drawn.x == x) & keep[self.drawn.tau]  # x may be one number for all draws
        n = int(np.sum(seen))
        if total == 0 or n == 0:
            return None
        log_p = self.exact.log_p[x : x + 1, chosen]
        exact = Trajectories(np.array([[x]]), chosen[None], log_p, mass[None] / total, None)
        return Law(exact, Trajectories(np.array([x]), self.drawn.tau[seen], self.drawn.log_p[seen], np.full(1, 1.0 / n), n))

    def share(self, x: int, p: float, of: Any) -> Record:
        """The probability, given prompt x, of one response or (a mask) of some: p, and how often it was drawn."""
        asked = np.broadcast_to(self.drawn.x == x, self.drawn.tau.shape)
        n, p = int(np.sum(asked)), min(1.0, p)  # a sum of probabilities may round to above 1
        if n == 0:
            return only_exact(p)
        hit = of[self.drawn.tau] if isinstance(of, np.ndarray) else self.drawn.tau == of
        drawn = float(np.sum(hit & asked)) / n
        return as_record(Estimate(p, p * (1.0 - p), None), Estimate(drawn, drawn * (1.0 - drawn), n))


def as_record(exact: Estimate, drawn: Estimate) -> Record:
    """Exact value, estimate, the estimate's exact standard error, and z."""
    error = exact.error_of(drawn.n)
    if error <= 1e-14 * abs(exact.mean):  # the rounding of a constant
        error = 0.0
    return {"exact": exact.mean, "sampled": drawn.mean, "standard_error": error, "z": drawn.z(exact), "n": drawn.n}


def only_exact(value: float) -> Record:
    """A number that no draw says anything about."""
    return {"exact": float(value), "sampled": None, "standard_error": None, "z": None, "n": 0}


def log_of(excess: Record | None, exact: float, scale: float) -> Record:
    """scale log(1 + mean excess) + exact, for a weight less 1 whose exact mean is 0: an estimate of log Z or of V (delta method).

    The weight less 1, because a large scale would multiply the rounding of 1.
    """
    if excess is None or excess["sampled"] <= -1:
        return only_exact(exact)
    sampled = exact + scale * float(np.log1p(excess["sampled"]))
    return {**excess, "exact": float(exact), "sampled": sampled, "standard_error": scale * excess["standard_error"]}


@dataclass(frozen=True)
class Solved:
    """A world with its optimum, and both laws."""

    world: World
    gibbs: Gibbs
    samples: int
    rng: np.random.Generator

    @cached_property
    def before(self) -> Law:
        return self._law(self.world.log_p_ref)

    @cached_property
    def after(self) -> Law:
        return self._law(self.gibbs.log_p)

    def _law(self, log_p: Array) -> Law:
        return Law(population(self.world, log_p), sample(self.world, log_p, self.samples, rng=self.rng))

    def reward(self, data: Trajectories) -> Any:
        return data[self.world.r]

    def ratio(self, data: Trajectories) -> Any:
        return data[self.gibbs.log_weight]

    def excess(self, data: Trajectories, given: float = 0.0) -> Any:
        """p*/p_ref, over its own mean exp(given) in a subtree, less 1."""
        with np.errstate(over="ignore"):  # of responses so rare that nothing else of them is left
            return np.expm1(data[self.gibbs.log_weight] - given)


# ---------------------------------------------------------------------------------------------------- the numbers


def totals(s: Solved, prompts: list[Record]) -> Record:
    """Averages over prompts."""
    w, g = s.world, s.gibbs
    alone = prompts[0] if len(prompts) == 1 else None  # log E[weight] estimates one prompt's log Z, not an average of several
    reward = s.before.measure(s.reward)
    return {
        "log_Z": alone["log_Z"] if alone else only_exact(float(np.sum(w.mu * g.log_Z))),
        "V": alone["V"] if alone else only_exact(g.value),
        "reward_before": reward,
        "reward_after": s.after.measure(s.reward),
        "kl": s.after.measure(s.ratio, np.sum(w.mu * g.kl)),
        "J_before": reward | {"exact": float(objective(w.log_p_ref, w.log_p_ref, w.r, w.beta, w.mu))},
        "J_after": s.after.measure(lambda data: s.reward(data) - w.beta * s.ratio(data)),
        "regret_before": s.before.measure(lambda data: g.V[data.x] - s.reward(data), g.regret(w.log_p_ref)),
    }


def prompt_row(s: Solved, x: int) -> Record:
    """One prompt: log Z, V, KL and expected rewards."""
    w, g = s.world, s.gibbs
    everything = np.ones(w.mdp.N, dtype=bool)
    before, after = s.before.given(x, everything), s.after.given(x, everything)
    excess = before.measure(s.excess) if before else None
    return {
        "prompt": w.mdp.prompts[x],
        "mu": float(w.mu[x]),
        "log_Z": log_of(excess, g.log_Z[x], 1.0),
        "V": log_of(excess, g.V[x], w.beta),
        "kl": after.measure(s.ratio, g.kl[x]) if after else only_exact(g.kl[x]),
        "reward_before": before.measure(s.reward) if before else only_exact(float(expect(w.log_p_ref[x], w.r[x]))),
        "reward_after": after.measure(s.reward) if after else only_exact(g.expected_reward[x]),
    }


def first_tokens(s: Solved, top: int) -> list[Record]:
    """The likeliest first tokens under p*: the soft value of the state they lead to, and their probability before and after."""
    w = s.world
    soft = soft_bellman(w.mdp, w.log_ref, w.r, w.beta)
    pi, pi_ref = np.exp(soft.log_pi[:, 0]), np.exp(w.log_ref[:, 0])  # (P, V), at the root
    first = np.rint(w.mdp.path_sum(_root_numbers(w.mdp))[0]).astype(np.intp)
    rows = []
    for x, a in largest(w.mu[:, None] * pi, top):
        through = s.before.given(x, first == a)
        gain = float(soft.log_weight[x, 0, a])
        excess = through.measure(partial(s.excess, given=gain)) if through else None
        rows.append(
            {
                "prompt": w.mdp.prompts[x],
                "token": w.mdp.vocabulary[a],
                "value": log_of(excess, soft.Q[x, 0, a], w.beta),
                "p_ref": s.before.share(x, float(pi_ref[x, a]), first == a),
                "p_star": s.after.share(x, float(pi[x, a]), first == a),
            }
        )
    return rows


def _root_numbers(mdp: TokenMDP) -> Array:
    """A feature of (state, token) whose sum along a path is the number of its first token."""
    x = token_major(mdp)
    x[:, 0] = np.arange(mdp.V)
    return x


def largest(table: Array, top: int) -> list[tuple[int, int]]:
    """The places of the largest positive entries of a (P, n) table, largest first; ties in order of place."""
    flat = np.ravel(table)
    kth = np.partition(flat, -min(top, flat.size))[-min(top, flat.size)]
    places = np.flatnonzero((flat >= kth) & (flat > 0))
    best = places[np.lexsort((places, -flat[places]))][:top]
    return [(int(i) // table.shape[1], int(i) % table.shape[1]) for i in best]


def responses(s: Solved, law: str, top: int) -> list[Record]:
    """The likeliest responses under one law ("before" or "after"), with their probability given the prompt under both."""
    w = s.world
    log_p = w.log_p_ref if law == "before" else s.gibbs.log_p
    return [
        {
            "prompt": w.mdp.prompts[x],
            "response": w.mdp.text(tau),
            "reward": float(w.r[x, tau]),
            "p_ref": s.before.share(x, float(np.exp(w.log_p_ref[x, tau])), tau),
            "p_star": s.after.share(x, float(np.exp(s.gibbs.log_p[x, tau])), tau),
        }
        for x, tau in largest(w.mu[:, None] * np.exp(log_p), top)
    ]


def frontier_rows(world: World, samples: int, rng: np.random.Generator) -> list[Record]:
    """Reward and KL of the optimum as beta grows, from the greedy limit to the reference."""
    rows = []
    for beta in [world.beta * step for step in BETA_STEPS]:
        if 0 < beta < np.inf:
            g = solve(world.at(beta))
            s = Solved(g.world, g, samples, rng)
            reward, nats = s.after.measure(s.reward), s.after.measure(s.ratio, np.sum(world.mu * s.gibbs.kl))
            rows.append({"beta": beta, "reward": reward, "kl": nats, "V": s.gibbs.value})
    return [_limit(world, 0.0), *rows, _limit(world, math.inf)]


def _limit(world: World, beta: float) -> Record:
    """The ends of the frontier: beta = 0 (greedy) and infinity (the reference)."""
    log_p = world.log_p_ref if beta > 0 else greedy_limit(world.log_p_ref, world.r)
    reward = float(np.sum(world.mu * expect(log_p, world.r)))
    return {
        "beta": beta,
        "reward": only_exact(reward),
        "kl": only_exact(float(np.sum(world.mu * kl(log_p, world.log_p_ref)))),
        "V": reward,
    }


def verdict(found: Any) -> Record:
    """How many sampled checks a report holds, and the largest |z|."""
    zs = list(_z_values(found))
    return {"count": len(zs), "largest_z": max((abs(z) for z in zs), default=None)}


def _z_values(found: Any) -> Iterator[float]:
    if isinstance(found, dict) and found.get("z") is not None:
        yield found["z"]
    elif isinstance(found, dict | list):
        for part in found.values() if isinstance(found, dict) else found:
            yield from _z_values(part)
