"""Arguments for every public function at the ends: worlds, betas, policies and data that are rarely tried, one table by parameter name.

A `Scene` holds one extreme world and what can be made of it.  `ARGUMENTS` says what a parameter of a given name is; where a name means
different things, `function.name` (or `Class.name`) goes first.  A parameter without an entry fails the law that every function is covered.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import csr_array

import tabular_rlhf
from tabular_rlhf import lattice
from tabular_rlhf.audit.batches import Tables
from tabular_rlhf.audit.handed import hand_in
from tabular_rlhf.audit.library import Library
from tabular_rlhf.behavior import Behavior, Policies
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.estimators.record import ESTIMATORS, Flag, flags
from tabular_rlhf.fields import Case, cases, gradient, objectives
from tabular_rlhf.gibbs import solve
from tabular_rlhf.lattice.law import reward_law
from tabular_rlhf.lattice.policy import Of
from tabular_rlhf.lattice.tree import rows_of
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.analyse import analyse
from tabular_rlhf.losses.objectives import OBJECTIVES
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.losses.rewards import REWARD_LOSSES
from tabular_rlhf.losses.traits import TESTS, draw_pairs
from tabular_rlhf.machines import merge, ngram, phrases
from tabular_rlhf.machines import uniform as uniform_machine
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.path.sweep import SYMBOLS, Representation
from tabular_rlhf.policy import LogLinear, NGram, Tabular, forbid, uniform
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, BATCHES, Recipe, batches
from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.policy_gradient.flows import recipe_direction
from tabular_rlhf.policy_gradient.updates import expected_update, slopes
from tabular_rlhf.preferences import Pairs, bradley_terry
from tabular_rlhf.preferences.comparisons import Wins, structure
from tabular_rlhf.preferences.laplacian import Chain, Laplacian
from tabular_rlhf.preferences.likelihood import DenseOdds, Likelihood, SparseOdds, fit
from tabular_rlhf.preferences.outcomes import MODELS
from tabular_rlhf.preferences.published import load
from tabular_rlhf.roads import Asymptotics, Implicit, Linear, Table, dpo
from tabular_rlhf.sampling import Estimate, population
from tabular_rlhf.selection import levels
from tabular_rlhf.simulator import CORES, Options, advance, begin
from tabular_rlhf.simulator.report import report
from tabular_rlhf.world import World, random_world

ROOMS = {
    *(
        "kernels",
        "logspace",
        "optimize",
        "mdp",
        "policy",
        "behavior",
        "world",
        "preference_worlds",
        "sweeps",
        "bellman",
        "sampling",
        "divergences",
        "gibbs",
        "penalties",
    ),
    *("language", "lattice", "machines", "path"),
    *(
        "projection",
        "preferences",
        "roads",
        "games",
        "losses",
        "policy_gradient",
        "estimators",
        "selection",
        "simulator",
        "fields",
        "audit",
    ),
}
"""Where the mathematics lives."""
NO_NUMBERS = {
    "behavior.drawn_how": "it writes words",
    "language.check_words": "it only refuses",
    "lattice.draws.texts": "it writes words",
    "lattice.world.LatticeWorld.refuse": "it only refuses",
    "path.quantity.refuse": "it only refuses",
    "policy.pseudo_counts": "it only refuses",
    "policy.refuse_strange": "it only refuses",
    "audit.claims.faults": "it writes sentences",
    "audit.records.advantage_of": "it makes a record",
    "estimators.record.Estimator.oracle": "it stands where nobody wrote one",
    "audit.records.estimator_of": "it makes a record",
    "audit.records.pair_loss_of": "it makes a record",
    "audit.records.reward_loss_of": "it makes a record",
    "audit.records.aggregation_of": "it makes a record",
    "losses.rewards.reward_table": "it writes down what `analyse_rewards` computes",
    "audit.roles.kind_of": "it reads names",
    "audit.roles.role_of": "it reads names",
    "audit.roles.roles_of": "it reads names",
    "audit.verdict.judged": "it writes down what was measured",
    "estimators.claims.faults": "it writes sentences",
    "estimators.claims.register": "it fills a registry",
    "estimators.claims.trustworthy": "it mends a record",
    "fields.verdict.spelled": "it writes a sum down",
    "policy_gradient.faults.faults": "it writes sentences",
    "kernels.refuse_logits": "it only refuses",
    "losses.analyse.family_table": "it writes down what `analyse` computes",
    "losses.record.register": "it fills a registry",
    "policy.zen": "it reads a text",
    "preferences.published.fits.table": "it writes rows down",
    "simulator.stages.Run.longer": "it makes a record",
    "simulator.state.check_path": "it looks at a path",
    "simulator.state.load": "it reads a file",
    "simulator.state.save": "it writes a file",
    "world.worlds": "it is a strategy",
}
"""Public functions that compute no number, and why."""
THROUGH = {
    "estimators.analysis.analyse": ("estimators.verdict", "estimators.theorem.whole", "estimators.theorem.name_of"),
    "estimators.ends.follow": (
        "estimators.ends.end",
        "estimators.ends.arrival",
        "estimators.rest",
        "estimators.flows.steps_of",
        "estimators.evaluate.coefficients",
    ),
    "estimators.theorem.optimum": ("estimators.theorem.sum_of_parts", "estimators.theorem.optimum_of", "estimators.theorem.d_f"),
    "estimators.evaluate.table": ("estimators.evaluate.h_of", "estimators.claims.never_negative"),
    "losses.optimum.minimize": (
        "losses.newton.End",
        "losses.newton.Spectrum",
        "losses.optimum.Root",
        "losses.optimum.Way",
        "optimize.followed",
    ),
    "audit.report.audit": (
        *("audit.forms", "audit.records_near", "audit.pairs", "audit.invariance", "audit.handed", "audit.library"),
        *("audit.field.depends", "audit.field.Expected", "audit.report.rounding_of", "audit.batches.rewarded"),
        *("audit.ends.maximized", "audit.ends.fitted_rewards", "audit.verdict.multiple", "audit.verdict.differ"),
    ),
    "audit.conform.conform": ("audit.conform.batch_of", "audit.vectors"),
    "projection.reverse_projection": ("projection.mixed",),
    "simulator.stages.advance": (
        *("simulator.paths", "simulator.scoring.score_o", "simulator.stages.prepare_paths", "simulator.stages.usual_step"),
        *("simulator.on_policy.recipe_of", "simulator.on_policy.ascend", "simulator.on_policy.remembered", "simulator.record.Told"),
        *("lattice.depths", "lattice.listing", "lattice.draws.Drawn.only", "lattice.draws.preferred_first"),
    ),
    "policy_gradient.updates.covariance": ("policy_gradient.batches.moments_of",),
    "losses.analyse.analyse": (
        *("losses.closed.averaged", "losses.closed.linked", "losses.closed.length_tilt_row", "losses.problem.Problem"),
    ),
}
"""Steps of a longer computation, whose arguments the function that is named here makes: that one is tried in their place."""


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(tabular_rlhf.__path__, "tabular_rlhf."):
        if found.name.split(".")[1] in ROOMS:
            yield importlib.import_module(found.name)


def public() -> dict[str, Callable[..., Any]]:
    """By dotted name, every public function of the rooms, every public method of their classes, and what the package exports beside."""
    found: dict[str, Callable[..., Any]] = {}
    for module in modules():
        room = module.__name__.removeprefix("tabular_rlhf.")
        for name, f in vars(module).items():
            if name.startswith("_") or getattr(f, "__module__", "") != module.__name__:
                continue
            if not inspect.isclass(f):
                found |= {f"{room}.{name}": f} if callable(f) else {}
            elif not getattr(f, "_is_protocol", False):
                public_ = {m: g for m, g in vars(f).items() if inspect.isfunction(g) and (m == "__call__" or not m.startswith("_"))}
                found |= {f"{room}.{name}.{m}": g for m, g in public_.items()}
    exported = {name: getattr(tabular_rlhf, name) for name in tabular_rlhf.__all__}
    return found | {name: f for name, f in exported.items() if not inspect.isclass(f) and f not in found.values()}


# ---------------------------------------------------------------------------------------------------- scenes


class Scene:
    """One extreme world with everything that a function may ask for."""

    def __init__(self, name: str, world: World, spread: float = 1.0, data: str = "some", number: int = 0) -> None:
        self.name, self.world, self.spread, self.data, self.number = name, world, spread, data, number

    def __repr__(self) -> str:
        return self.name

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.number)

    def pick(self, known: Any) -> Any:
        """Another entry of a registry in every scene."""
        known = list(known)
        return known[(7 * self.number + 3) % len(known)]

    @property
    def mdp(self) -> TokenMDP:
        return self.world.mdp

    @cached_property
    def logits(self) -> Any:
        """A policy of the reference's support, so far from it as `spread` says."""
        return np.where(np.isneginf(self.world.log_ref), -np.inf, self.spread * self.rng.standard_normal(self.world.log_ref.shape))

    @cached_property
    def log_pi(self) -> Any:
        return log_softmax(self.logits)

    @cached_property
    def optimum(self) -> Any:
        """The Gibbs optimum of the scene's world as a lattice, merged in every other scene."""
        return lattice.solve(merge(self.world) if self.number % 2 else lattice.unmerged(self.world))

    @cached_property
    def log_p(self) -> Any:
        return self.mdp.path_sum(self.log_pi)

    @cached_property
    def pairs(self) -> Pairs:
        possible = np.flatnonzero(~np.isneginf(self.world.log_p_ref[0]))
        first, last = possible[0], possible[-1]
        w, l = {"some": ([first, last], [last, first]), "repeated": ([last] * 5, [first] * 5), "empty": ([], [])}[self.data]
        n = len(w)
        index = [np.array(x, dtype=np.intp) for x in ([0] * n, w, l)]
        return Pairs(*index, np.full(n, 1.0 / max(1, n)), n or None)

    @cached_property
    def wins(self) -> Wins:
        N = {"some": 3, "repeated": 2, "empty": 1}[self.data]
        counts = 1e-3 * np.ones((N, N)) + np.triu(np.full((N, N), {"some": 2.0, "repeated": 1e6, "empty": 0.0}[self.data]), 1)
        np.fill_diagonal(counts, 0.0)
        return Wins(counts, tuple(f"item {k}" for k in range(N)))

    @cached_property
    def M(self) -> Any:
        return bradley_terry(self.world.r).table()

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe(self.pick(ADVANTAGES), self.pick(POLICY_LOSSES), G=3)

    @cached_property
    def together(self) -> Recipe:
        """A recipe whose groups see each other."""
        batch = self.pick([batch for batch in BATCHES.values() if not batch.apart])
        return Recipe(self.pick(ADVANTAGES), "ppo-clip", self.pick(AGGREGATIONS), batch=batch, G=3, B=2)

    @cached_property
    def flag(self) -> Flag:
        return self.pick([*flags(), *flags(level="token")])

    @cached_property
    def groups(self) -> Any:
        return g.sample(self.world, self.log_p, 3, 4, rng=self.rng)

    @cached_property
    def kind(self) -> Any:
        return g.kinds(self.world, self.log_p, self.recipe, self.world.r, 0)

    @cached_property
    def given(self) -> Any:
        return {k: v[0] for k, v in g.baselines(self.world, self.log_pi, self.world.r).items()}

    @cached_property
    def report(self) -> Any:
        return report([advance(self.run, 1)])

    @cached_property
    def run(self) -> Any:
        core = self.pick(CORES)
        return begin(self.world, Options(algorithm=core, steps=2, batch=4, comparisons=50, demonstrations=8))

    @cached_property
    def path_run(self) -> Any:
        """The same where responses are not listed."""
        core = self.pick([core for core in CORES if core != "dpo" or self.mdp.P == 1])
        return begin(self.optimum.world, Options(algorithm=core, steps=2, batch=4, comparisons=50, demonstrations=8))

    @cached_property
    def settings(self) -> Any:
        """Of every loss at once, for closed forms."""
        every = {k: v for loss in LOSSES.values() for k, v in {**loss.defaults, **dict.fromkeys(loss.frozen, 0.0)}.items()}
        return {**every, **self.loss.settings(self.world.beta, **dict.fromkeys(self.loss.frozen, 0.0))}

    @cached_property
    def loss(self) -> Any:
        return LOSSES[self.pick(LOSSES)]

    @cached_property
    def policy(self) -> Any:
        shape = (self.mdp.P, self.mdp.S, self.mdp.V, 1)
        return self.pick([Tabular(self.mdp), NGram(self.mdp, 0), LogLinear(self.mdp, np.ones(shape))])

    def values(self, scale: float = 1.0) -> Any:
        """A few numbers of any size."""
        return scale * np.array([-1e3, -1.0, 0.0, 1e-300, 1.0, 1e3])

    def law(self, n: int = 4) -> Any:
        return log_softmax(self.spread * np.arange(n, dtype=float))


def _scenes() -> list[Scene]:
    rng = np.random.default_rng(5)
    ends = TokenMDP((".",), 3, eos=".")
    asked = TokenMDP(("a", "b"), 2, prompts=("x", "y", "z"), mu=[0.25, 0.0, 0.75])
    banned = TokenMDP(("a", "b", "."), 2, eos=".")
    two = TokenMDP(2, 1)
    rare = log_softmax(np.array([[[0.0, -1000.0]]]))

    def drawn(V: int, H: int, P: int, eos: bool, beta: float, scale: float) -> World:
        return random_world(rng=rng, V=V, H=H, P=P, eos=eos, beta=beta, reward_scale=scale)

    worlds = [
        ("a policy near a vertex", World(two, uniform(two), np.array([[0.0, 1.0]]), 1.0), 600.0, "repeated"),
        ("one response, beta 1e-300", drawn(1, 1, 1, False, 1e-300, 1e6), 1.0, "empty"),
        ("only EOS, beta 1e300", World(ends, uniform(ends), np.array([[2.0]]), 1e300), 1.0, "repeated"),
        ("beta 1e-300, rewards of 1e6", drawn(3, 2, 2, True, 1e-300, 1e6), 1.0, "some"),
        ("beta 1e300, rewards of 1e6", drawn(2, 2, 1, True, 1e300, 1e6), 1.0, "repeated"),
        ("beta 1e-9, ties", World(two, uniform(two), np.zeros((1, 2)), 1e-9), 30.0, "some"),
        ("a policy beyond floats", World(two, uniform(two), np.array([[0.0, 1e9]]), 1e-300), 1000.0, "some"),
        ("a reference beyond floats", World(two, rare, np.array([[0.0, 1e6]]), 0.5), 1.0, "some"),
        ("a prompt never asked", World(asked, uniform(asked), np.round(rng.standard_normal((3, 4))), 0.1), 1.0, "empty"),
        ("a forbidden token", World(banned, forbid(banned, uniform(banned), ["b"]), rng.standard_normal((1, 7)), 1.0), 1.0, "some"),
        ("a constant reward", drawn(3, 2, 1, True, 1.0, 0.0), 1.0, "repeated"),
        ("long and thin, beta 20", drawn(2, 6, 2, True, 20.0, 1.0), 1.0, "some"),
    ]
    return [Scene(name, world, spread, data, k) for k, (name, world, spread, data) in enumerate(worlds)]


SCENES = _scenes()

# ---------------------------------------------------------------------------------------------------- arguments

ONE = np.array([1.0])


def _quartic(s: Scene) -> Callable[..., Any]:
    return lambda x: np.sum(x**4)


def _edge_rewards(s: Scene) -> Callable[[int], Any]:
    """What edges pay, by level."""
    return lambda h: s.optimum.world.levels[h].r


LATTICE_SWEEPS = (
    *("visits", "likeliest", "expected_counts", "length_law", "flow.forward_projection", "log_mean_exp", "renyi", "reward_law", "range_of"),
    *(
        "ranges_of",
        "characteristic",
        "pair_softplus",
        "variance_of",
        "draws.sample",
        "texts",
        "by_prompt",
        "expect",
        "variance",
        "edge_sums",
    ),
)
"""Functions whose `policy` is one of a lattice."""


def _centered(rewards: Any) -> Any:
    """An advantage of a user's."""
    return rewards - rewards.mean()


Argument = Callable[[Scene], Any]
ARGUMENTS: dict[str, Argument] = {
    # what most functions ask for
    "world": lambda s: s.world,
    "mdp": lambda s: s.mdp,
    "rng": lambda s: s.rng,
    "beta": lambda s: s.world.beta,
    "r": lambda s: s.world.r,
    "mu": lambda s: s.world.mu,
    "log_ref": lambda s: s.world.log_ref,
    "log_p_ref": lambda s: s.world.log_p_ref,
    "log_p": lambda s: s.log_p,
    "log_q": lambda s: s.world.log_p_ref,
    "log_d": lambda s: s.log_p,
    "log_pi": lambda s: s.log_pi,
    "log_pi_0": lambda s: s.log_pi,
    "log_pi_old": lambda s: s.world.log_ref,
    "log_old": lambda s: s.log_pi,
    "log_now": lambda s: s.log_pi,
    "logits": lambda s: s.logits,
    "reward": lambda s: s.world.r,
    "proxy": lambda s: -s.world.r,
    "pairs": lambda s: s.pairs,
    "wins": lambda s: s.wins,
    "data": lambda s: population(s.world, s.log_p),
    "flag": lambda s: s.flag,
    "flags": lambda s: [s.flag],
    "recipe": lambda s: s.recipe,
    "groups": lambda s: s.groups,
    "kind": lambda s: s.kind,
    "given": lambda s: s.given,
    "credit": lambda s: g.credit_of(s.world, s.groups, s.recipe, s.log_pi),
    "loss": lambda s: s.loss,
    "s": lambda s: s.settings,
    "law": lambda s: bradley_terry(s.world.r),
    "M": lambda s: s.M,
    "policy": lambda s: s.policy,
    "tied": lambda s: NGram(s.mdp, 1),
    "divergence": lambda s: DIVERGENCES[s.pick(DIVERGENCES)],
    "task": lambda s: s.run.task,
    "options": lambda s: s.run.task.options,
    "run": lambda s: s.run,
    "runs": lambda s: [s.run],
    # numbers
    "n": lambda s: 3,
    "G": lambda s: 3,
    "K": lambda s: 2,
    "V": lambda s: 2,
    "H": lambda s: 2,
    "P": lambda s: 2,
    "x": lambda s: 0,
    "t": lambda s: s.number,
    "e": lambda s: (0.0, 0.1, 0.49999)[s.number % 3],
    "flip": lambda s: (0.0, 0.5, 1.0)[s.number % 3],
    "q": lambda s: np.exp(s.law()),
    "D": lambda s: s.values(),
    "z": lambda s: float(s.values()[s.number % 6]),
    "u": lambda s: np.array([1e-300, 0.5, 1.0, 1e300]),
    "L": lambda s: _ratio(s),
    "tau": lambda s: max(s.world.beta, 1e-3),
    "lam": lambda s: max(s.world.beta, 1e-3),
    "cost": lambda s: s.world.beta,
    "eta": lambda s: 0.5,
    "gamma": lambda s: (0.0, 1e-6, 1e6)[s.number % 3],
    "steps": lambda s: 2,
    "width": lambda s: 0.1,
    "tolerance": lambda s: 1e-13,
    "horizon": lambda s: 2,
    "eos": lambda s: True,
    "count": lambda s: 2,
    "name": lambda s: "x",
    "find": lambda s: "find",
    "level": lambda s: 0.95,
    "shift": lambda s: (0.1, 1.0, 1e-3)[s.number % 3],
    "value": lambda s: 0.25,
    "printed": lambda s: "0.2",
    "bound": lambda s: 2.0,
    "prior": lambda s: (1e-12, 1.0, 1e12)[s.number % 3],
    "ridge": lambda s: (1e-12, 1.0, 1e12)[s.number % 3],
    # tables
    "a": lambda s: s.values(),
    "p": lambda s: np.exp(s.log_p),
    "pi": lambda s: np.exp(s.log_pi),
    "f": lambda s: s.world.r,
    "shape": lambda s: (s.mdp.P, s.mdp.N),
    "values": lambda s: s.world.r,
    "weights": lambda s: np.exp(s.law()),
    "lengths": lambda s: s.mdp.lengths,
    "direction": lambda s: s.rng.standard_normal(s.world.r.shape),
    "distance": lambda s: np.array([0.0, 1e-300, 1e-3, 1e3]),
    "settings": lambda s: [1.0, 4.0],
    "betas": lambda s: [1e-300, 1.0, 1e300],
    "update": lambda s: np.ones_like(s.logits),
    "before": lambda s: s.world.log_p_ref,
    "table": lambda s: np.ones((s.mdp.P, s.mdp.N, s.mdp.N)),
    "rewards": lambda s: s.pick([Table(s.mdp), Linear(np.ones((s.mdp.P, s.mdp.N, 1)))]),
    "rankings": lambda s: np.arange(s.mdp.N),
    "found": lambda s: minimize(s.loss, s.world, s.pairs),
    "truth": lambda s: np.zeros_like(s.log_pi),
    "g": lambda s: s.rng.standard_normal(s.log_pi.shape),
    # methods
    "L_0": lambda s: s.values(),
    "Estimator.value.L": lambda s: s.values(),
    "Tabular.log_pi.theta": lambda s: s.logits,
    "NGram.log_pi.theta": lambda s: s.spread * np.ones(NGram(s.mdp, 1).shape),
    "LogLinear.log_pi.theta": lambda s: np.array([1e300]),
    "width.h": lambda s: 0,
    "TokenMDP.levels.x": lambda s: s.log_pi,
    "TokenMDP.path_sum.x": lambda s: s.log_pi,
    "TokenMDP.prefix_sum.x": lambda s: s.log_pi,
    "leaf": lambda s: s.world.r,
    "reduce": lambda s: lambda h, Q: np.max(Q, axis=1),
    "parse.text": lambda s: s.mdp.vocabulary[:1],
    "TokenMDP.find.text": lambda s: s.mdp.text(0).split(),
    "TokenMDP.find_state.text": lambda s: "",
    "TokenMDP.text.tau": lambda s: 0,
    "state": lambda s: 0,
    "phrase": lambda s: s.mdp.vocabulary[:1],
    "items": lambda s: [0],
    "Pairs.margin.table": lambda s: s.world.r,
    "item": lambda s: 0,
    "DenseOdds.slope.e": lambda s: np.exp(300.0 * np.arange(float(s.wins.N))),
    "SparseOdds.slope.e": lambda s: np.exp(300.0 * np.arange(float(s.wins.N))),
    "product.v": lambda s: np.ones(s.wins.N),
    "Likelihood.slope.r": lambda s: 300.0 * np.arange(float(s.wins.N)),
    "Table.r.omega": lambda s: s.world.r,
    "Linear.r.omega": lambda s: np.array([1e300]),
    "Implicit.r.omega": lambda s: s.world.beta * s.logits,
    "Arrival.estimate.f": lambda s: np.sum,
    "Estimate.z.exact": lambda s: Estimate(-1e-300, 0.0, None, spread=1e-300),
    # groups, stale samplers, pooled people
    **dict.fromkeys([f"{f}.A" for f in ("coefficients", "weight", "polynomial", "enumerated", "judge")], lambda s: (1.0, -0.5, 1e6)),
    "by_table.A": lambda s: lambda m: 1.0 / m,
    "advantages_of.c": lambda s: (1.0, -2.0, 1e6),
    "written.powers": lambda s: (0.0, 1.0, -1e6),
    "bernstein.table.name": lambda s: ("rloo", "grpo")[s.number % 2],
    "bernstein.table.G": lambda s: 2 + s.number % 5,
    **dict.fromkeys(("weight.u", "enumerated.u"), lambda s: (0.0, 1e-300, 0.5, 1.0)[s.number % 4]),
    "pull.advantage": lambda s: lambda r: r - np.mean(r, axis=1, keepdims=True),
    **dict.fromkeys([f"{f}.p" for f in ("bernstein.pull", "redrawn", "filled", "surviving")], lambda s: np.exp(s.law(3))[None]),
    **dict.fromkeys([f"{f}.right" for f in ("redrawn", "filled", "surviving")], lambda s: np.array([[1.0, 0.0, 0.0]])),
    **dict.fromkeys([f"{f}.G" for f in ("bernstein.pull", "redrawn", "filled", "surviving")], lambda s: 3),
    **dict.fromkeys([f"{f}.mu" for f in ("filled", "surviving")], lambda s: np.ones(1)),
    "bernstein.pull.r": lambda s: np.array([[1.0, 0.0, 1e6]]),
    **dict.fromkeys(("over_mean.right", "subset_shares.right"), lambda s: np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])),
    **dict.fromkeys(("subset_shares.k", "pass_at_k.k"), lambda s: 2),
    "pass_at_k.m": lambda s: s.number % 5,
    "pass_at_k.n": lambda s: 4,
    **dict.fromkeys(("ratio.log_p_old", "multiplier.log_p_old"), lambda s: s.law(3)[None]),
    **dict.fromkeys(("ratio.a", "multiplier.a"), lambda s: np.array([[-1e3, 0.0, 1e3]])),
    "mirror.ratio.lam": lambda s: np.array([(0.0, 1e-300, 1.0)[s.number % 3]]),
    **dict.fromkeys(("water_level.c", "limit_by_supports.c"), lambda s: np.array([0.5, 1e6, -0.2])),
    "critic_bias.e": lambda s: np.ones((s.mdp.P, s.mdp.S)),
    **dict.fromkeys(("critic_bias.pi", "pulled_tokens.pi", "pulled_tokens.pull"), lambda s: np.exp(s.log_pi)),
    **dict.fromkeys(("critic_bias.lam", "gae_pull.lam"), lambda s: (0.0, 0.5, 1.0)[s.number % 3]),
    "gae_pull.V": lambda s: np.ones((s.mdp.P, s.mdp.S)),
    "gae_pull.p": lambda s: np.exp(s.log_p),
    "gae_pull.r": lambda s: s.world.r,
    **dict.fromkeys(("critic_bias.lam", "gae_noise.lam"), lambda s: (0.0, 0.5, 1.0)[s.number % 3]),
    "gae_noise.V": lambda s: np.ones((s.mdp.P, s.mdp.S)),
    "gae_noise.p": lambda s: np.exp(s.log_p),
    "gae_noise.r": lambda s: s.world.r,
    "mixture.share": lambda s: 0.3,
    "mixture.r": lambda s: s.world.r,
    "mixture.proxy": lambda s: -s.world.r,
    # lattices
    **dict.fromkeys([f"{f}.policy" for f in LATTICE_SWEEPS], lambda s: s.optimum),
    **dict.fromkeys(("sweep.expect.f", "sweep.variance.f", "by_prompt.f"), lambda s: lambda y: np.expm1(-y.L) + y.L),
    **dict.fromkeys(("log_mean_exp.x", "characteristic.x", "pair_softplus.x", "range_of.x", "ranges_of.x", "variance_of.x"), _edge_rewards),
    **dict.fromkeys(("push.mass", "matrix.weight"), lambda s: s.optimum.pi(0)),
    "language": lambda s: s.mdp,
    "h": lambda s: 0,
    "flow.policy_gradient.policy": lambda s: s.optimum,
    "rewarded.world": lambda s: s.optimum.world,
    "mean.x": lambda s: {id(level): level.r for level in s.optimum.world.distinct},
    "likeliest.k": lambda s: 2,
    "group_advantage.r": lambda s: (1e-300, 1.0, 1e100)[s.number % 3] * np.arange(6.0),
    "group_advantage.q": lambda s: np.exp(s.law(6)),
    "flow.forward_projection.context": lambda s: [np.zeros(level.n, dtype=int) for level in s.optimum.world.distinct],
    "renyi.alpha": lambda s: (0.5, 2.0, 1e-9)[s.number % 3],
    "levels": lambda s: s.optimum.world.levels,
    "over_states.levels": lambda s: [np.moveaxis(x, 1, 0).reshape(s.mdp.V, -1) for x in s.mdp.levels(s.log_pi)],
    "log_law.policy": lambda s: _rows(s),
    "linear.moments.policy": lambda s: s.optimum,
    "linear.moments.size": lambda s: 1,
    "linear.moments.entries": lambda s: lambda h: {(0, -1): s.optimum.world.levels[h].r, (0, 0): 1.0},
    "grid.x": lambda s: s.world.r,
    "grid.scale": lambda s: 1.0,
    "keys": lambda s: np.array([[0, 1, 0], [2, 2, 2]]),
    **dict.fromkeys(("flow.kl.p", "flow.kl.q"), lambda s: s.optimum),
    "points": lambda s: np.array([0.0, 1e-3, 10.0]),
    "Level.pull.x": lambda s: np.zeros(s.optimum.world.levels[0].after + 1),
    "machines": lambda s: [uniform_machine(s.mdp), phrases(s.mdp, {s.mdp.vocabulary[:1]: 1e6})],
    "machine.lattice.machines": lambda s: ngram(s.mdp, [s.mdp.sep.join(s.mdp.vocabulary)], 1, 0.0),
    "machine": lambda s: ngram(s.mdp, [s.mdp.sep.join(s.mdp.vocabulary)], 1, 0.0),
    "Machine.forbid.tokens": lambda s: [0],
    "pattern": lambda s: ".*a?",
    "phrases.weights": lambda s: {s.mdp.vocabulary[:1]: -1e6},
    "length.weight": lambda s: 1e300,
    "readers.start": lambda s: [()],
    "readers.words": lambda s: [(0,)],
    "remainder.t": lambda s: s.values(),
    "remainder.k": lambda s: s.number % 5,
    "Representation.moments.policy": lambda s: s.optimum,
    "Representation.moments.covariance": lambda s: True,
    "Representation.entries.x": lambda s: {"L": s.values()},
    "term_count.f": lambda s: SYMBOLS.L,
    "order": lambda s: 1,
    "occurrences.k": lambda s: 1,
    "sentence": lambda s: [0, 0],
    "vocabulary": lambda s: 2,
    # the audit
    "handed": lambda s: hand_in(_centered, Library()),
    "step": lambda s: lambda case: gradient(objectives(case)["E[r]"], case.logits),
    "ordered": lambda s: s.number % 2 == 1,
    "top_p": lambda s: (0.5, 0.9, 1.0)[s.number % 3],
    "made.tables": lambda s: {"logp": s.law(6).reshape(2, 3)},
    "made.r": lambda s: np.array([-1e300, 1e300]),
    "made.lengths": lambda s: [1, 3],
    "made.P": lambda s: 1,
    "rloo.r": lambda s: s.values(1e150),
    "audit.batches.groups.N": lambda s: 3,
    "pair_batch.w": lambda s: 0,
    "pair_batch.l": lambda s: s.mdp.N - 1,
    "with_penalty.update": lambda s: lambda case: np.zeros(case.logits.shape),
    # where a name means something else
    "grad.f": _quartic,
    "hessian.f": _quartic,
    "hvp.f": _quartic,
    "jacobian.f": _quartic,
    "value_and_grad.f": _quartic,
    "vjp.f": _quartic,
    "check_grad.f": _quartic,
    "vjp.args": lambda s: [s.law()],
    "vjp.kwargs": lambda s: {},
    "check_grad.args": lambda s: [s.law()],
    "as_array.x": lambda s: s.values(),
    "logsumexp.x": lambda s: s.logits,
    "log_softmax.x": lambda s: s.logits,
    "log_sigmoid.m": lambda s: s.values(1e300),
    "log_of.p": lambda s: np.exp(s.log_p),
    "block_of.x": lambda s: s.log_p,
    "block_of.part": lambda s: (..., slice(0, 1)),
    "room.x": lambda s: s.log_p,
    "room.have": lambda s: None,
    "blocks.shape": lambda s: s.log_p.shape,
    "softmax_block.x": lambda s: s.law()[:, None],
    "softmax_block.y": lambda s: np.empty((4, 1)),
    "softmax_block.e": lambda s: np.empty((4, 1)),
    "softmax_block.rows": lambda s: np.empty((2, 1)),
    "softmax_pull.g": lambda s: s.values(),
    "softmax_pull.y": lambda s: s.law(6),
    "axis": lambda s: -1,
    "read_only.x": lambda s: s.values(),
    "mean_log_ratio.x": lambda s: _ratio(s),
    "mean_gain.x": lambda s: _ratio(s),
    "log_w": lambda s: s.world.log_p_ref,
    "soft_parts.q": lambda s: s.world.r,
    "soft_value.q": lambda s: s.world.r,
    "log_tilt.q": lambda s: s.world.r,
    "log_gain.q": lambda s: s.world.r,
    "monotone_root.f": lambda s: lambda x: (x - 1.0 / 3.0, np.ones(1)),
    "low": lambda s: -ONE * 1e300,
    "high": lambda s: ONE,
    "optimize.minimize.f": lambda s: lambda x: np.sum((x - 1.0) ** 2),
    "optimize.minimize.start": lambda s: s.values(),
    "table.x": lambda s: s.world.r,
    "numbers.x": lambda s: np.array([0, 1]),
    "owned.x": lambda s: s.values(),
    "tokens": lambda s: [s.mdp.vocabulary[0]],
    "corpus": lambda s: " ".join(s.mdp.vocabulary),
    "named_world.name": lambda s: s.pick(["coin", "fork", "rational", "long-tail", "cycle", "sure-thing"]),
    "gibbs_weights.u": lambda s: np.empty_like(s.world.r),
    "r_max": lambda s: float(np.max(s.world.r)),
    "shares.f": lambda s: np.exp(s.log_p) + 1e-300,
    "share": lambda s: np.empty((s.mdp.P, s.mdp.V, s.mdp.S)),
    "alpha.a": lambda s: (0.5, 2.0, -1.0, 3.0)[s.number % 4],
    **dict.fromkeys(("rewards.fit.loss", "analyse_rewards.loss"), lambda s: s.pick(REWARD_LOSSES)),
    "alpha_divergence.a": lambda s: (0.0, 1.0, 0.5, 2.0)[s.number % 4],
    "multiplier.V": lambda s: solve(s.world).V,
    "free_energy_hessian.log_p": lambda s: s.log_p[0],
    "asked.tables": lambda s: (s.world.r, s.log_p),
    "shape_reward.phi": lambda s: s.rng.standard_normal((s.mdp.P, s.mdp.S)),
    "count_wins.w": lambda s: np.ravel(s.pairs.w),
    "count_wins.l": lambda s: np.ravel(s.pairs.l),
    "count_wins.names": lambda s: s.mdp.N,
    "wins_of.names": lambda s: s.mdp.N,
    "fit_features.w": lambda s: [0, 1, 0],
    "fit_features.l": lambda s: [1, 0, 1],
    "fit_features.phi": lambda s: [[1.0], [0.0]],
    "davidson.d": lambda s: s.values(),
    "rao_kupper.d": lambda s: s.values(),
    "order.d": lambda s: s.values(),
    **{
        f"{model}.{side}": lambda s: np.array([0.0, 1e-300, 1.0, 2.0, 1e6, 1.0])
        for model in ("davidson", "rao_kupper", "order")
        for side in "abt"
    },
    "fit_outcomes.model": lambda s: s.pick(MODELS),
    "fit_outcomes.i": lambda s: np.array([0, 1, 2]),
    "fit_outcomes.j": lambda s: np.array([1, 2, 0]),
    **{f"fit_outcomes.{side}": lambda s: np.array([1.0, 1e-3, 10.0 ** (s.number % 4)]) for side in "abt"},
    "fit_outcomes.N": lambda s: 3,
    "distinct.x": lambda s: np.array([2.0, 1.0, 2.0]),
    "rank_intervals.r": lambda s: s.values(),
    "rank_intervals.covariance": lambda s: np.eye(6),
    "difference_errors.covariance": lambda s: np.diag(np.abs(s.values())),
    "simultaneous.N": lambda s: 10 ** (s.number % 7),
    "wilson.k": lambda s: float(s.number % 3),
    "wilson.n": lambda s: (2.0, 1e300)[s.number % 2],
    "two_sided.k": lambda s: s.number % 3,
    "two_sided.n": lambda s: (2, 10**6)[s.number % 2],
    "pair": lambda s: np.array([0, 0, 1, 2]),
    "sign": lambda s: np.array([(1, -1, 0, 1), (0, 0, 0, 0), (1, 1, 1, 1)][s.number % 3]),
    "judge": lambda s: np.array([(0, 1, 0, -1), (-1, -1, -1, -1), (1, 1, 1, 1)][s.number % 3]),
    "J": lambda s: 2,
    "texts": lambda s: ["", "- one\n# two", "x" * 1000],
    "told_features.prompts": lambda s: ["", "p", "q"],
    "told_features.function": lambda s: lambda prompt, response: float(len(response)),
    "pooled.w": lambda s: [0, 1, 0, 2, 0],
    "pooled.l": lambda s: [1, 0, 1, 0, 2],
    "pooled.phi": lambda s: np.array([[1.0, 0.0], [0.0, 10.0 ** (s.number % 5)], [0.0, 0.0]]),
    "pooled.names": lambda s: ["x", "y"],
    "independent.X": lambda s: np.array([[1.0, 2.0], [3.0, 6.0]]),
    "independent.names": lambda s: ["x", "y"],
    "laplacian_variances.A": lambda s: _met(s),
    "narrow.A": lambda s: _met(s),
    "Laplacian.solve.diagonal": lambda s: _met(s).sum(axis=1),
    "Laplacian.solve.b": lambda s: np.array([1.0, -1.0, 0.0]),
    "Laplacian.solve.goal": lambda s: 1e-6,
    "Laplacian.solve.noise": lambda s: np.full(3, 1e-16),
    "Chain.solve.b": lambda s: np.array([1.0, -1.0, 0.0]),
    "fit_components.found": lambda s: structure(s.wins),
    "conjugate_gradients.product": lambda s: lambda v: 2.0 * v,
    "conjugate_gradients.diagonal": lambda s: 2.0 * np.ones(2),
    "conjugate_gradients.b": lambda s: np.array([1.0, -1.0]),
    "conjugate_gradients.goal": lambda s: 1e-6,
    "conjugate_gradients.noise": lambda s: np.full(2, 1e-16),
    "log_plackett_luce.r": lambda s: s.world.r[0],
    "sample_rankings.r": lambda s: s.world.r[0],
    "published.load.name": lambda s: "citations",
    "recession.policy": lambda s: LogLinear(s.mdp, np.ones((s.mdp.P, s.mdp.S, s.mdp.V, 1))),
    "recession.mass": lambda s: np.exp(s.world.log_ref),
    "local_minima.f": lambda s: lambda x: np.sum(x**2),
    "local_minima.starts": lambda s: [np.ones(2)],
    "local_minima.law": lambda s: lambda x: x,
    "pseudo_inverse.A": lambda s: np.diag(s.values()),
    "negative_log_likelihood.r": lambda s: s.world.r,
    "games.reply.log_q": lambda s: s.log_p,
    "centre.m": lambda s: s.rng.standard_normal(s.log_pi.shape),
    "moments.g": lambda s: s.world.r,
    "estimators.evaluate.check_cover.p": lambda s: "p",
    "estimators.evaluate.check_cover.q": lambda s: "q",
    "straight_through.value": lambda s: ESTIMATORS["k1"],
    "straight_through.tangent": lambda s: ESTIMATORS["k2"],
    "estimators.record.flags.settings": lambda s: {},
    "combine.parts": lambda s: [(1.0, {"mass": 1.0})],
    "terms": lambda s: {"KL(pi, ref)": 1.0, "mass": -1.0},
    "by_states.solve": lambda s: lambda q, Q: q,
    "state_kl.log_pi": lambda s: s.log_pi,
    "success_weight.q": lambda s: np.array([0.0, 1e-300, 0.5, 1.0]),
    "success_objective.q": lambda s: np.array([0.0, 1e-300, 0.5, 1.0]),
    "natural.direction": lambda s: recipe_direction(s.world, s.recipe),
    "policy_gradient.flows.flow.direction": lambda s: recipe_direction(s.world, s.recipe),
    "policy_gradient.flows.flow.times": lambda s: [0.0, 1e-3],
    **dict.fromkeys(("of_tokens.log_pi", "of_tokens.log_old"), lambda s: np.where(np.isneginf(s.log_pi), 0.0, s.log_pi)),
    "of_tokens.sign": lambda s: (-1.0, 1.0)[s.number % 2],
    "of_tokens.settings": lambda s: POLICY_LOSSES["gmpo"].defaults,
    "correction_of.log_sampler": lambda s: s.log_pi,
    "slopes.at": lambda s: Policies(s.log_pi, s.log_pi, s.log_pi),
    **{f"{name}.recipe": lambda s: s.together for name in ("worth", "moments", "drawn_worth", "batch_updates", "sorts", "seen")},
    **{f"batches.{name}.recipe": lambda s: s.together for name in ("credit", "size", "sample")},
    **{
        f"{name}.batches": lambda s: batches.sample(s.world, s.log_p, s.together, 3, rng=s.rng) for name in ("drawn_worth", "batch_updates")
    },
    "law.s": lambda s: batches.sorts(s.world, s.log_pi, s.together),
    "law.B": lambda s: 2,
    "worth.of": lambda s: batches.sorts(s.world, s.log_pi, s.together).of,
    "worth.n": lambda s: batches.sorts(s.world, s.log_pi, s.together).counts,
    "moments.table": lambda s: slopes(s.world, Policies(s.log_pi, s.log_pi, s.log_pi), s.together),
    "often.kept": lambda s: (0.0, 1.0, 0.5)[s.number % 3],
    "overlong.lengths": lambda s: s.mdp.lengths.astype(float),
    "overlong.cache": lambda s: (1.0, 1e-9, 1e9)[s.number % 3],
    **dict.fromkeys(("alpha_slope.v", "plain_alpha_slope.v"), lambda s: -3.0),
    **dict.fromkeys(("alpha_slope.alpha", "plain_alpha_slope.alpha"), lambda s: (0.0, 1.0, 0.5, 2.0)[s.number % 4]),
    "count_probabilities.n": lambda s: g.counts(3, 4),
    "log_count_probabilities.n": lambda s: g.counts(3, 4),
    "kind_advantages.n": lambda s: g.counts(3, len(s.kind.q)),
    "losses.analyse.direction.m": lambda s: minimize(s.loss, s.world, s.pairs),
    "changes": lambda s: {},
    "length_tilt.log_base": lambda s: s.world.log_p_ref,
    "length_tilt.score": lambda s: s.world.r,
    "two_arms.margin": lambda s: lambda win, t: win,
    "scatter.to_w": lambda s: 1.0,
    "scatter.to_l": lambda s: -1.0,
    "logit_gradient.g": lambda s: s.world.r,
    "kto.z0": lambda s: lambda *_: 0.0,
    "kto.name": lambda s: "mine",
    "kto.words": lambda s: "mine",
    "f_dpo.slope": lambda s: lambda a: a,
    "f_dpo.oracle_slope": lambda s: lambda a: a + 0.0,
    "f_dpo.latex": lambda s: "a",
    "f_dpo.divergence": lambda s: "reverse-kl",
    "log_odds.m": lambda s: np.array([-1e3, -1.0, -1e-300]),
    "odds.m": lambda s: -1.0,
    "clipped.z": lambda s: s.values(),
    "corner.x": lambda s: s.values(),
    "logistic_sums.m": lambda s: 1e6 + 1e3 * np.arange(4.0),
    "losses.fast.population_dpo.wins": lambda s: np.full(s.world.r.shape, 0.5),
    "spectrum.g": lambda s: np.array([1.0, -1.0]),
    "spectrum.H": lambda s: np.eye(2),
    "spectrum.d": lambda s: np.array([1.0, 1e-150]),
    "spectrum.size": lambda s: 1.0,
    "losses.newton.newton.quadratic": lambda s: lambda t: (float(t @ t), 2.0 * t, 2.0 * np.eye(2)),
    "losses.newton.newton.theta": lambda s: np.array([1.0, -1.0]),
    "losses.newton.newton.share": lambda s: np.ones(2),
    "losses.newton.newton.escape": lambda s: 1e3,
    "prompt_problem.live": lambda s: np.flatnonzero(~np.isneginf(s.world.log_p_ref[0])),
    "prompt_problem.at": lambda s: s.log_p,
    "pair_derivatives.total": lambda s: lambda p, q, width: np.sum(p * q),
    "pair_derivatives.p": lambda s: s.values(),
    "pair_derivatives.q": lambda s: s.values(),
    "summed.parts": lambda s: (1.0, *[np.ones(1)] * 5),
    "summed.w": lambda s: np.array([0]),
    "summed.l": lambda s: np.array([1]),
    "summed.n": lambda s: 2,
    "chain.log_p": lambda s: s.law(2),
    "chain.value": lambda s: 1.0,
    "chain.g": lambda s: np.ones(2),
    "chain.H": lambda s: np.eye(2),
    "trait": lambda s: s.pick([t for t in TESTS if t != "finite-under-certainty"]),
    "losses.traits.at.s": lambda s: draw_pairs(s.loss, 1.0, rng=s.rng, n=6),
    "losses.traits.at.p": lambda s: 0.3 * s.values() - 301.0,
    "losses.traits.at.q": lambda s: 0.3 * s.values() - 301.0,
    "threshold.log_ref": lambda s: s.world.log_p_ref,
    "simulator.report.render.found": lambda s: s.report,
    "simulator.report.closing.found": lambda s: s.report,
    "direct.task": lambda s: _begun(s, "dpo").task,
    "compared.task": lambda s: _begun(s, "dpo").task,
    "by_loss.task": lambda s: _begun(s, "dpo").task,
    "imitate.n": lambda s: np.ones(s.mdp.P),
    "imitate.law": lambda s: np.exp(s.log_p),
    "score_sum.credit": lambda s: s.world.r,
    "on_policy.advantage": lambda s: "rloo",
    "moved.s": lambda s: s.run.learner,
    "on_policy.s": lambda s: s.run.learner,
    "direct.s": lambda s: s.run.learner,
    "compared.s": lambda s: s.run.learner,
    "simulator.algorithms.expert_iteration.s": lambda s: s.run.learner,
    "select_best.s": lambda s: s.run.learner,
    "bag.x": lambda s: np.zeros(1, dtype=int),
    "bag.tau": lambda s: np.zeros(1, dtype=int),
    "price_of_comparisons.n": lambda s: 100,
    "prepare.data": lambda s: s.run.task.data,
    "curvature.loss": lambda s: s.loss.name,
    **{f"spread.{f}.f": lambda s: s.world.r for f in ("total", "all_equal", "spread", "whitened")},
    **{f"spread.{f}.n": lambda s: np.arange(float(s.mdp.N)) for f in ("total", "all_equal", "spread", "whitened")},
    "ddof": lambda s: s.number % 2,
    "epsilon": lambda s: 0.0,
    "over_spread.a": lambda s: s.world.r,
    "deviation": lambda s: np.full((s.mdp.P, 1), float(s.number)),
    "equal": lambda s: np.full((s.mdp.P, 1), s.number == 0),
    "advance.steps": lambda s: 1,
    "advance.run": lambda s: s.path_run if s.number % 2 else s.run,
    "select_by.law": lambda s: lambda r, n: s.world.log_p_ref,
    "level_law.level": lambda s: levels(s.world.log_p_ref[0], s.world.r[0]),
    "levels.log_p_ref": lambda s: s.world.log_p_ref[0],
    "levels.r": lambda s: s.world.r[0],
    "selection.expert_iteration.r": lambda s: np.abs(s.world.r),
    "derivative.h": lambda s: ESTIMATORS["k3"].h,
    "derivative.x": lambda s: np.array([-600.0, -1e-9, 0.0, 1.0, 600.0]),
    "velocity.objective": lambda s: OBJECTIVES[s.pick(OBJECTIVES)],
    "velocity.settings": lambda s: s.settings,
    "maximized.settings": lambda s: s.settings,
    "Advantage.shares.settings": lambda s: {"baseline": 0.5, "ddof": 0, "epsilon": 0.0},
    "gradient.objective": lambda s: objectives(Case(s.world, s.logits))["KL(pi, ref)"],
    "case": lambda s: Case(s.world, s.logits),
    "asymmetry.field": lambda s: lambda logits: expected_update(s.world, logits, s.recipe),
    "curl.field": lambda s: lambda logits: expected_update(s.world, logits, s.recipe),
    "measure.update": lambda s: lambda case: expected_update(case.world, case.logits, s.recipe),
    "measure.at": lambda s: cases(s.world, s.logits),
    "measure.named": lambda s: objectives,
    "sample_pairs.n": lambda s: 3,
}


def _ratio(s: Scene) -> Any:
    dead = np.isneginf(s.log_p)
    return np.where(dead, 0.0, s.log_p) - np.where(dead, 0.0, s.world.log_p_ref)


def _begun(s: Scene, core: str) -> Any:
    return begin(s.world, Options(algorithm=core, steps=2, comparisons=50))


for _test in TESTS.values():
    ARGUMENTS[f"{_test.__name__}.s"] = lambda s: draw_pairs(s.loss, 1.0, rng=s.rng, n=20)

DEAR = {
    **dict.fromkeys(("audit.report.audit", "audit.conform.conform", "audit.ends.follow"), 1),
    **dict.fromkeys(("losses.traits.faults", "estimators.flows.flow", "estimators.ends.follow"), 1),
    **dict.fromkeys(("simulator.report.report", "simulator.report.render", "simulator.report.closing", "games.mirror_descent"), 1),
    **dict.fromkeys(("world.zen_world", "estimators.normal.normal_table", "simulator.chance.noise_of_steps"), 2),
    **dict.fromkeys(("simulator.algorithms.own_gibbs", "simulator.scoring.destination"), 3),
    **dict.fromkeys(("losses.traits.recovers_gibbs", "losses.traits.finite_under_certainty", "simulator.algorithms.by_loss"), 3),
    **dict.fromkeys(("losses.analyse.analyse", "losses.analyse.LossReport.rows", "losses.analyse.direction", "losses.analyse.sandwich"), 4),
    **dict.fromkeys(("losses.optimum.minima", "losses.optimum.minimize", "projection.reverse_projection", "roads.rlhf"), 4),
    "roads.dpo": 6,
}
"""Functions that take long, and in how many of the scenes they are tried."""

SELF: dict[str, Argument] = {
    "RewardLoss": lambda s: REWARD_LOSSES[s.pick(REWARD_LOSSES)],
    "PolicyLoss": lambda s: POLICY_LOSSES["gmpo"],
    "Batch": lambda s: s.together.batch,
    "Behavior": lambda s: Behavior(temperature=(0.1, 1.0, 20.0)[s.number % 3], top_p=(0.5, 1.0)[s.number % 2]),
    "Tables": lambda s: Tables(Case(s.world, s.logits)),
    "Divergence": lambda s: DIVERGENCES[s.pick(DIVERGENCES)],
    "Estimator": lambda s: ESTIMATORS["k1"],
    "Gibbs": lambda s: solve(s.world),
    "Advantage": lambda s: ADVANTAGES["rloo"],
    "LossReport": lambda s: analyse(s.loss, s.world),
    "DirectLoss": lambda s: s.loss,
    "TokenMDP": lambda s: s.mdp,
    "Tabular": lambda s: Tabular(s.mdp),
    "NGram": lambda s: NGram(s.mdp, 1),
    "LogLinear": lambda s: LogLinear(s.mdp, np.ones((s.mdp.P, s.mdp.S, s.mdp.V, 1))),
    "Wins": lambda s: s.wins,
    "Structure": lambda s: structure(s.wins),
    "Law": lambda s: bradley_terry(s.world.r),
    "Pairs": lambda s: s.pairs,
    "Fit": lambda s: fit(s.wins),
    "DenseOdds": lambda s: DenseOdds(s.wins),
    "SparseOdds": lambda s: SparseOdds(Wins(csr_array(s.wins.counts), s.wins.names)),
    "Likelihood": lambda s: _likelihood(s),
    "Laplacian": lambda s: Laplacian(lambda v: _met(s).sum(axis=1) * v - _met(s) @ v, lambda: _met(s)),
    "Chain": lambda s: Chain(_met(s), _met(s).sum(axis=1), np.array([2, 0, 1])),
    "Published": lambda s: load("citations"),
    "Table": lambda s: Table(s.mdp),
    "Linear": lambda s: Linear(np.ones((s.mdp.P, s.mdp.N, 1))),
    "Implicit": lambda s: Implicit(Tabular(s.mdp), s.world),
    "Arrival": lambda s: dpo(s.world, s.pairs, Tabular(s.mdp), rng=s.rng),
    "Asymptotics": lambda s: Asymptotics(0.0, 1e200, 0.0, 1e200, 3),
    "Estimate": lambda s: Estimate(1e300, np.inf, 3, spread=1e300),
    "Core": lambda s: CORES["rloo"],
    "World": lambda s: s.world,
    "Language": lambda s: s.mdp,
    "LatticeWorld": lambda s: s.optimum.world,
    "Level": lambda s: s.optimum.world.levels[0],
    "Machine": lambda s: ngram(s.mdp, [s.mdp.sep.join(s.mdp.vocabulary)], 1, 0.1),
    "Of": lambda s: lattice.Reference(s.optimum.world),
    "Reference": lambda s: lattice.Reference(s.world),
    "Representation": lambda s: Representation(np.expm1(-SYMBOLS.L) + SYMBOLS.L),
    "RewardLaw": lambda s: reward_law(lattice.Reference(s.world.with_reward(np.round(np.clip(s.world.r, -9.0, 9.0))))),
    "Rows": lambda s: _rows(s),
    "Soft": lambda s: s.optimum,
}
"""Objects whose methods are tried."""


def _rows(s: Scene) -> lattice.Rows:
    return rows_of(s.world, s.log_pi)


def _met(s: Scene) -> Any:
    """Three items, each compared with each, heavily or hardly at all."""
    return csr_array((np.ones((3, 3)) - np.eye(3)) * 10.0 ** (30 * (s.number % 3 - 1)))


def _likelihood(s: Scene) -> Likelihood:
    found = Likelihood(s.wins, 1e-12)
    _ = found.slope(np.zeros(s.wins.N))
    return found


def supplier(function: str, name: str) -> Argument | None:
    """What makes the argument: the entry of the longest known end of `room.module.function.name`."""
    parts = [*function.split("."), name]
    if name == "self":
        return SELF.get(parts[-3])
    return next((ARGUMENTS[key] for k in range(len(parts)) if (key := ".".join(parts[k:])) in ARGUMENTS), None)


def required(f: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(f).parameters.values() if p.default is inspect.Parameter.empty]


def called(name: str, f: Callable[..., Any], scene: Scene) -> Any:
    """The function's answer in a scene."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for p in required(f):
        make = supplier(name, p.name)
        assert make is not None, f"{name} asks for {p.name}, and tests/extremes.py does not say what that is"
        value = make(scene)
        if p.kind is p.VAR_POSITIONAL:
            positional += value
        elif p.kind is p.VAR_KEYWORD:
            named |= value
        elif p.kind is p.KEYWORD_ONLY:
            named[p.name] = value
        else:
            positional.append(value)
    return f(*positional, **named)


def numbers(found: Any, depth: int = 0) -> Iterator[Any]:
    """Every float in an answer: of tables, lists, records and what their properties say."""
    if isinstance(found, float | np.ndarray | np.generic):
        if np.asarray(found).dtype.kind == "f":
            yield np.asarray(found)
    elif isinstance(found, dict | list | tuple) and depth < 6:
        for part in found.values() if isinstance(found, dict) else found:
            yield from numbers(part, depth + 1)
    elif isinstance(found, lattice.LatticeWorld | Of):
        return  # what has no list refuses to be listed
    elif type(found).__module__.startswith("tabular_rlhf") and not isinstance(found, World | TokenMDP | type) and depth < 6:
        told = [name for name, f in vars(type(found)).items() if isinstance(f, property | cached_property)]
        for name in [*getattr(found, "__dataclass_fields__", {}), *told]:
            if not name.startswith("_"):
                yield from numbers(getattr(found, name), depth + 1)
