r"""Losses of pairs on a world that is not listed: pairs of p_ref, labels by Bradley-Terry people.

**Theorem** (levels).  A loss of the log-ratios a and b alone sees a response through its reward, if the policy is p_ref e^{g(r)}: p* is,
and so is its population optimum where it is convex (averaging log-ratios over responses of equal reward lowers the loss, by Jensen).  Of
other losses the minimum told is that over such policies.  With q_k the probability of reward r_k under p_ref,

    E[loss] = 2 sum_kl q_k q_l sigma(r_k - r_l) loss(a_k, b_l):

the levels are a listed world of their own, one response each, on which everything that is known of listed worlds runs as it stands.

Pairs are two independent draws, so one response may be drawn twice; how often, `same` tells (on listed worlds such pairs are left out,
which moves no optimum of a loss of the margin a - b).  What asks for log p itself, or for lengths, has no such levels: its mean is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.lattice import LatticeWorld, Reference, solve
from tabular_rlhf.lattice.draws import Drawn, preferred_first, prompts, sample
from tabular_rlhf.lattice.flow import log_mean_exp
from tabular_rlhf.lattice.law import reward_law
from tabular_rlhf.logspace import Array, kl, log_of
from tabular_rlhf.losses.evaluate import ingredients, settings_at, weights
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.losses.record import DirectLoss
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs
from tabular_rlhf.reports.solution import Record
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/losses-lattice/1"
LEVELS = ("a", "b", "beta", "tau", "width")
"""What a loss may ask for, beside settings of its own, to be one of levels."""
RARE = 1e-9
"""A level of less probability has too little weight in a loss for a minimum to be found in floats."""
MOST = 256
"""Levels up to which a loss is minimized."""


@dataclass(frozen=True)
class Problem:
    """A lattice, the pairs that were drawn of it, and its levels as a listed world."""

    lattice: LatticeWorld
    samples: int
    seed: int

    @cached_property
    def levels(self) -> World:
        """One response for each level of the reward that some prompt can earn."""
        law, x = reward_law(Reference(self.lattice)), self.lattice.language
        on = np.any(law.p[x.mu > 0] > 0, axis=0)
        mdp = TokenMDP(int(np.sum(on)), 1, prompts=x.prompts, mu=x.mu)
        rows = np.broadcast_to(law.r[on], (x.P, mdp.N))
        log_q = log_of(law.p[:, on] / law.p[:, on].sum(axis=1, keepdims=True))
        return World(mdp, log_q[:, None], rows, self.lattice.beta, self.lattice.name)

    @cached_property
    def turned(self) -> World:
        """The same levels, those of the first prompt in another order: the same problem to whoever looks at one prompt at a time."""
        world, order = self.levels, np.arange(self.levels.mdp.P * self.levels.mdp.N).reshape(self.levels.r.shape)
        order = np.concatenate([order[:1, ::-1], order[1:]])
        return World(world.mdp, np.ravel(world.log_ref)[order][:, None], np.ravel(world.r)[order], world.beta)

    @cached_property
    def rarest(self) -> float:
        """The least probability of a level that is possible."""
        log_q = self.levels.log_p_ref[self.levels.mu > 0]
        return float(np.exp(log_q[~np.isneginf(log_q)].min()))

    @cached_property
    def best(self) -> gibbs.Gibbs:
        return gibbs.solve(self.levels)

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of levels, labeled."""
        return population_pairs(self.levels, bradley_terry(self.levels.r))

    @cached_property
    def drawn(self) -> tuple[Drawn, Drawn]:
        """Pairs of responses of p_ref to one prompt each: the preferred ones, and the others."""
        rng = np.random.default_rng(self.seed)
        x = prompts(self.lattice.mu, self.samples, rng=rng)
        both = preferred_first(sample(Reference(self.lattice), 2 * len(x), rng=rng, x=np.concatenate([x, x])), rng)
        return both.only(slice(len(x))), both.only(slice(len(x), None))

    @property
    def same(self) -> float:
        """How often one response is drawn twice: E_mu E[p_ref]."""
        far = log_mean_exp(Reference(self.lattice), lambda h: self.lattice.levels[h].log_ref)
        return float(np.sum(self.lattice.mu * np.exp(far)))


def beyond_levels(p: Problem, loss: DirectLoss, changes: Mapping[str, float]) -> tuple[str, ...]:
    """What it asks for that levels do not have: lengths, log p itself, a number that takes one prompt's responses for another's."""
    asked = tuple(k for k in loss.needs if k not in {*LEVELS, *loss.defaults, *loss.frozen})
    if asked or not loss.frozen or p.levels.mdp.P == 1:
        return asked
    both = [(name, frozen(loss, p.levels, name, changes), frozen(loss, p.turned, name, changes)) for name in loss.frozen]
    return tuple(name for name, here, turned in both if not np.allclose(here, turned, rtol=1e-9))


def frozen(loss: DirectLoss, world: World, name: str, changes: Mapping[str, float]) -> list[float]:
    """A frozen number at laws that lean towards the reward, and away from it."""
    pairs = population_pairs(world, bradley_terry(world.r))
    laws = [gibbs.log_gibbs(world.log_p_ref, sign * world.r, world.beta * k) for sign in (1.0, -1.0) for k in (0.1, 1.0, 10.0)]
    return [float(settings_at(loss, world, log_p, pairs, changes)[name]) for log_p in laws]


def report(world: LatticeWorld, losses: Sequence[DirectLoss], changes: Mapping[str, float], *, samples: int, seed: int) -> Record:
    """Every loss at p_ref and at p*, exactly or drawn, and where it leads.

    Raises: InputError where rewards have no common step, or too many values.
    """
    p = Problem(world, samples, seed)
    rows = [row(p, loss, {k: x for k, x in changes.items() if loss.has(k)}) for loss in losses]
    head = {"world": world.name, "beta": world.beta, "responses": world.responses, "levels": p.levels.mdp.N, "same": p.same}
    return {"schema": SCHEMA, **head, "rarest": p.rarest, "samples": samples, "kl": float(np.sum(world.mu * p.best.kl)), "losses": rows}


def row(p: Problem, loss: DirectLoss, changes: Mapping[str, float]) -> Record:
    """One loss as plain numbers; what is not known is None."""
    lacks, world = beyond_levels(p, loss, changes), p.levels
    drawn = drawn_losses(p, loss, changes)
    n, mean, spread = len(drawn), float(np.mean(drawn)), float(np.std(drawn))
    told: Record = {"name": loss.name, "exact": not lacks, "lacks": list(lacks), "traits": sorted(loss.traits), "sampled": mean}
    if lacks:
        none = dict.fromkeys(("at_ref", "at_optimum", "z", "optimum", "attained", "kl_to_gibbs", "regret"))
        return {**told, **none, "standard_error": spread / np.sqrt(n)}
    at_ref, at_optimum = (moments(p, loss, log_p, changes) for log_p in (world.log_p_ref, p.best.log_p))
    error = float(np.sqrt(at_optimum[1] / n))
    z = (mean - at_optimum[0]) / error if error > 0 and np.isfinite(error) else None
    known = {"at_ref": at_ref[0], "at_optimum": at_optimum[0], "standard_error": error, "z": z}
    return {**told, **known, **ending(p, loss, changes)}


def moments(p: Problem, loss: DirectLoss, log_p: Array, changes: Mapping[str, float]) -> tuple[float, float]:
    """Mean and variance of a loss of one pair, over all pairs of levels."""
    s, w = settings_at(loss, p.levels, log_p, p.pairs, changes), weights(p.pairs)
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.where(w > 0, loss(**{**ingredients(p.levels, log_p, p.pairs), **s}), 0.0)
        mean = float(np.sum(w * x))
        return mean, float(np.sum(w * np.square(x - mean)))


def drawn_losses(p: Problem, loss: DirectLoss, changes: Mapping[str, float]) -> Array:
    """The loss of every drawn pair at p*: (n,)."""
    won, lost = p.drawn
    g = solve(p.lattice)
    (a, log_w), (b, log_l) = (((d.r - g.V[d.x]) / p.lattice.beta, d.log_p_ref) for d in (won, lost))
    s = settings_at(loss, p.levels, p.best.log_p, p.pairs, changes)
    given = {"a": a, "b": b, "p": a + log_w, "q": b + log_l, "p0": a + log_w, "q0": b + log_l}
    with np.errstate(over="ignore", invalid="ignore"):
        return np.broadcast_to(loss(**{**given, "len_w": won.length, "len_l": lost.length, **s}), a.shape)


def ending(p: Problem, loss: DirectLoss, changes: Mapping[str, float]) -> Record:
    """Where the loss leads: a closed form, or the minimum that was found over levels; None and why where neither is there."""
    world = p.levels
    closed = loss.optimum(world, loss.settings(world.beta, **changes)) if loss.optimum else None
    words, attained = "closed form", True
    if closed is None:
        try:
            closed, words, attained = _found(p, loss, changes)
        except (SolveError, InputError) as e:
            return {"optimum": str(e), "attained": None, "kl_to_gibbs": None, "regret": None}
    far = float(np.maximum(0.0, np.sum(world.mu * kl(closed, p.best.log_p))))
    return {"optimum": words, "attained": attained, "kl_to_gibbs": far, "regret": world.beta * far}


def _found(p: Problem, loss: DirectLoss, changes: Mapping[str, float]) -> tuple[Array, str, bool]:
    world = p.levels
    if p.rarest < RARE or world.mdp.N > MOST:
        got = f"{world.mdp.N} of them, the rarest of probability {p.rarest:.2g}"
        remedy = "shorten the horizon, or take fewer levels; a minimum here is beyond floats"
        raise InputError(f"a minimum must be over at most {MOST} levels of probability {RARE:g}", got=got, remedy=remedy)
    told: dict[str, Any] = dict(changes)
    found = minimize(loss, world, p.pairs, **told)
    return found.log_p, found.words.replace("response", "level"), found.attained
