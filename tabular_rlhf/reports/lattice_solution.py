r"""The report of a world whose responses are not listed: the numbers of `reports.solution`, by sweeps, checked by ancestral sampling.

Means are exact, and so are the standard errors of their estimates: both are sweeps over the lattice (`path.expect`, `path.variance`).
What sampling cannot check is shown without a check: log Z is a mean of weights whose variance may be astronomical, and of the likeliest
responses none may ever be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, whole
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.lattice import LatticeWorld, Policy, Reference, Soft, solve
from tabular_rlhf.lattice.best import likeliest
from tabular_rlhf.lattice.draws import Drawn, sample
from tabular_rlhf.lattice.flow import kl
from tabular_rlhf.lattice.law import reward_law
from tabular_rlhf.lattice.pairs import range_of
from tabular_rlhf.logspace import Array, log_of
from tabular_rlhf.path import Sums, variance
from tabular_rlhf.path.sweep import by_prompt
from tabular_rlhf.reports.solution import BETA_STEPS, Record, as_record, described, largest, only_exact, verdict
from tabular_rlhf.sampling import Estimate
from tabular_rlhf.selection import best_of_n, best_of_n_kl

SCHEMA = "tabular-rlhf/solve-lattice/1"
TOKENS_DRAWN = 2**25
"""Tokens that are drawn for the checks of one law, at most."""
WORK = 2**31
"""Products of a sparse sweep that the law of the reward may take."""
DRAWS = (1, 4, 16, 64, 256, 1024)
"""n of best-of-n."""
VANISHING = 1e-300
"""The beta of the greedy limit."""


@dataclass(frozen=True)
class Law:
    """A policy with draws of it."""

    policy: Policy
    drawn: Drawn

    def measure(self, f: Callable[[Any], Any], x: int | None = None, mean: float | None = None) -> Record:
        """The mean of f, of prompt x or of all, exact and sampled; `mean`, if another sweep knows it better."""
        means, variances = by_prompt(f, self.policy)
        mu = self.policy.world.mu
        overall = float(np.sum(mu * means))
        spread = float(np.sum(mu * (variances + np.square(means - overall))))
        exact = (overall, spread) if x is None else (float(means[x]), float(variances[x]))
        seen = np.broadcast_to(True if x is None else self.drawn.x == x, self.drawn.x.shape)
        n = int(np.sum(seen))
        if n == 0:
            return only_exact(exact[0] if mean is None else mean)
        values = np.broadcast_to(f(self.drawn), seen.shape)[seen]
        size = float(np.mean(np.abs(values)))
        drawn = Estimate(float(np.mean(values)), float(np.var(values)), n, size)
        return as_record(Estimate(exact[0] if mean is None else mean, exact[1], None, size), drawn)

    def share(self, x: int, token: int) -> Record:
        """How often a first token is said after prompt x."""
        p = min(1.0, float(self.policy.pi(0)[token, self.policy.world.roots[x]]))
        asked = self.drawn.x == x
        n = int(np.sum(asked))
        hit = float(np.mean(self.drawn.first[asked] == token)) if n else 0.0
        return as_record(Estimate(p, p * (1.0 - p), None), Estimate(hit, hit * (1.0 - hit), n)) if n else only_exact(p)


@dataclass(frozen=True)
class Solved:
    """A lattice with its optimum, and both laws."""

    world: LatticeWorld
    samples: int
    rng: np.random.Generator

    @cached_property
    def optimum(self) -> Soft:
        return solve(self.world)

    @cached_property
    def before(self) -> Law:
        return self._law(Reference(self.world))

    @cached_property
    def after(self) -> Law:
        return self._law(self.optimum)

    @cached_property
    def kl(self) -> Array:
        """KL(p*, p_ref) for each prompt."""
        return kl(self.optimum, self.before.policy)

    def _law(self, policy: Policy) -> Law:
        return Law(policy, sample(policy, min(self.samples, max(1, TOKENS_DRAWN // self.world.H)), rng=self.rng))


def report(world: LatticeWorld, *, samples: int = 100_000, seed: int = 0, top: int = 6) -> Record:
    """Everything `tabular-rlhf solve` says about a lattice, as plain values: the keys are those of `reports.solution.report`."""
    if top < 1:
        raise InputError("the number of responses listed must be at least 1", got=top, remedy="pass --top 6")
    s = Solved(world, whole(samples, "samples", 1, "100000 is usual"), np.random.default_rng(seed))
    prompts = [prompt_row(s, x) for x in range(world.language.P)]
    found: Record = {
        "schema": SCHEMA,
        "world": describe(world),
        "samples": len(s.before.drawn.x),
        "seed": seed,
        "totals": totals(s),
        "prompts": prompts,
        "first_tokens": first_tokens(s, top),
        "responses": {law: responses(s, law, top) for law in ("before", "after")},
        "frontier": frontier_rows(world),
        "estimators": estimator_rows(s),
        "selection": selection_rows(s),
    }
    return found | {"checks": verdict(found)}


def describe(world: LatticeWorld) -> Record:
    """The world in a few words and numbers."""
    ends = range_of(Reference(world), lambda h: world.levels[h].r)
    return described(world, world.language, world.responses, max(level.n for level in world.levels), [], [*ends])


def totals(s: Solved) -> Record:
    """Averages over prompts."""
    w, g = s.world, s.optimum
    reward = s.before.measure(lambda y: y.r)
    regret = w.beta * float(np.sum(w.mu * kl(s.before.policy, g)))
    return {
        "log_Z": only_exact(float(np.sum(w.mu * g.log_Z))),
        "V": only_exact(g.value),
        "reward_before": reward,
        "reward_after": s.after.measure(lambda y: y.r),
        "kl": s.after.measure(lambda y: y.L, mean=float(np.sum(w.mu * s.kl))),
        "J_before": reward,
        "J_after": s.after.measure(lambda y: y.r - w.beta * y.L),
        "regret_before": only_exact(regret),
    }


def prompt_row(s: Solved, x: int) -> Record:
    """One prompt: log Z, V, KL and expected rewards."""
    w, g = s.world, s.optimum
    return {
        "prompt": w.language.prompts[x],
        "mu": float(w.mu[x]),
        "log_Z": only_exact(float(g.log_Z[x])),
        "V": only_exact(float(g.V[x])),
        "kl": s.after.measure(lambda y: y.L, x, float(s.kl[x])),
        "reward_before": s.before.measure(lambda y: y.r, x),
        "reward_after": s.after.measure(lambda y: y.r, x),
    }


def first_tokens(s: Solved, top: int) -> list[Record]:
    """The likeliest first tokens under p*: the soft value of what they lead to, and their probability before and after."""
    w, level = s.world, s.world.levels[0]
    pi = s.optimum.pi(0)[:, w.roots].T
    after = np.append(s.optimum.V_s(1), 0.0) if w.H > 1 else np.zeros(1)
    Q = level.r + level.pull(after)
    return [
        {
            "prompt": w.language.prompts[x],
            "token": w.language.vocabulary[a],
            "value": only_exact(float(Q[a, w.roots[x]])),
            "p_ref": s.before.share(x, a),
            "p_star": s.after.share(x, a),
        }
        for x, a in largest(w.mu[:, None] * pi, top)
    ]


def responses(s: Solved, law: str, top: int) -> list[Record]:
    """The likeliest responses under one law, with their probability under both; none where the way back does not fit in memory."""
    w = s.world
    try:
        found = likeliest(s.before.policy if law == "before" else s.optimum, top)
    except InputError:
        return []
    rows = []
    for path in found:
        sums = along(s, path.prompt, path.tokens)
        rows.append(
            {
                "prompt": w.language.prompts[path.prompt],
                "response": w.language.sep.join(w.language.vocabulary[t] for t in path.tokens),
                "reward": float(sums.r),
                "p_ref": only_exact(math.exp(sums.log_p_ref)),
                "p_star": only_exact(math.exp(sums.log_p)),
            }
        )
    return rows


def along(s: Solved, x: int, tokens: tuple[int, ...]) -> Sums:
    """The sums of one response."""
    state, L, log_p_ref, r = int(s.world.roots[x]), 0.0, 0.0, 0.0
    for h, a in enumerate(tokens):
        level = s.world.levels[h]
        L += float(s.optimum.ratio(h)[a, state])
        log_p_ref += float(level.log_ref[a, state])
        r += float(level.r[a, state])
        state = int(level.child[a, state])
    return Sums(L, log_p_ref, r, len(tokens))


def estimator_rows(s: Solved) -> list[Record]:
    """KL(p*, p_ref) by k1, k2, k3 on draws of p*: their exact means, and the exact deviation of one draw beside the draws' own."""
    rows = []
    for name in ("k1", "k2", "k3"):
        h = ESTIMATORS[name].h
        with np.errstate(over="ignore"):
            seen = h(s.after.drawn.L)
        try:
            cell = s.after.measure(of_ratio(h))
            one = float(np.sqrt(variance(of_ratio(h), s.optimum)))
        except InputError:  # beyond floats
            cell, one = only_exact(math.inf), math.inf
        rows.append({"name": name, "mean": cell, "deviation": one, "drawn_deviation": float(np.std(seen))})
    return rows


def of_ratio(h: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """h of the response's log ratio."""
    return lambda y: h(y.L)


def selection_rows(s: Solved) -> list[Record]:
    """Best-of-n from the law of the reward: exact E[r] and KL to the reference, averages over prompts; none where it is too large."""
    w = s.world
    try:
        law = reward_law(s.before.policy, most=WORK)
    except InputError:
        return []
    log_q, r, rows = log_of(law.p), np.broadcast_to(law.r, law.p.shape), []
    for n in DRAWS:
        p = np.exp(best_of_n(log_q, r, n))
        far = float(np.sum(w.mu * best_of_n_kl(log_q, r, n)))
        rows.append({"n": n, "reward": float(np.sum(w.mu * np.sum(p * r, axis=1))), "kl": far})
    return rows


def frontier_rows(world: LatticeWorld) -> list[Record]:
    """Reward and KL of the optimum as beta grows, from the greedy limit to the reference; exact alone."""
    rows = [_point(world, 0.0, solve(world.at(VANISHING)))]
    rows += [_point(world, beta, solve(world.at(beta))) for step in BETA_STEPS if 0 < (beta := world.beta * step) < math.inf]
    reward = only_exact(float(np.sum(world.mu * by_prompt(lambda y: y.r, Reference(world), variance=False)[0])))
    return [*rows, {"beta": math.inf, "reward": reward, "kl": only_exact(0.0), "V": reward["exact"]}]


def _point(world: LatticeWorld, beta: float, g: Soft) -> Record:
    reward = float(np.sum(world.mu * by_prompt(lambda y: y.r, g, variance=False)[0]))
    nats = float(np.sum(world.mu * kl(g, Reference(world))))
    return {"beta": beta, "reward": only_exact(reward), "kl": only_exact(nats), "V": g.value if beta > 0 else reward}
