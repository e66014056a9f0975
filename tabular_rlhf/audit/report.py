r"""The audit of one function: everything measured, as one record and one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tabular_rlhf.audit.batches import probe
from tabular_rlhf.audit.ends import End, fitted_rewards, follow, maximized
from tabular_rlhf.audit.field import Expected, Setting, depends, named, with_penalty
from tabular_rlhf.audit.handed import Handed, Unfit, lay_out
from tabular_rlhf.audit.invariance import Invariance, described, invariances
from tabular_rlhf.audit.records_near import nearest
from tabular_rlhf.audit.verdict import Nearest
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.fields import Case, Verdict, cases, gradient, measure, objectives
from tabular_rlhf.fields.terms import Objective
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import dirichlet
from tabular_rlhf.world import World, rational

TOKENS = ("whole step", "policy loss", "aggregation", "group advantage")
"""Kinds whose step is one on tokens with a reward."""


@dataclass(frozen=True, eq=False)
class Row:
    """What the step ascends in one place: where, in words; cosine and ratio with grad E[r], None where one of them is 0; the verdict."""

    where: str
    cosine: float | None
    ratio: float | None
    verdict: Verdict


@dataclass
class Audit:
    """Everything that was measured.  problem, (kind, words), where there was nothing to audit."""

    handed: Handed
    setting: Setting
    problem: tuple[str, str] | None = None
    nearest: Nearest | None = None
    rows: list[Row] = field(default_factory=list)
    invariances: list[Invariance] = field(default_factory=list)
    ends: list[tuple[str, World, End, str]] = field(default_factory=list)
    variance: list[tuple[str, float]] = field(default_factory=list)
    rewards: list[tuple[float, float]] = field(default_factory=list)

    @property
    def slips(self) -> list[str]:
        """What is wrong with it: of its nearest form, and of what it must not depend on."""
        found = list(self.nearest.slips) if self.nearest is not None else []
        for i in self.invariances:
            if i.name in MUST and not i.holds and not any(MUST[i.name] in s for s in found):
                found.append(f"{i.name}: {i.words}")
            if i.words.startswith("is asked for") and i.name in self.handed.roles:
                role = self.handed.roles[i.name]
                told = role in IDLE or any(word in s for s in found for word in ("mask", "padding", "advantage"))
                found += [] if told or (role == "ref" and self.handed.kind == "KL penalty") else [f"{i.name} {i.words}"]
        return found

    @property
    def status(self) -> str:
        """right, wrong, unnamed (no form of ours), or the kind of problem."""
        if self.problem is not None:
            return self.problem[0]
        assert self.nearest is not None
        return "wrong" if self.slips else "right" if self.nearest.exact else "unnamed"


IDLE = ("old", "sampler", "value", "margin")
"""Roles that a function may ask for and not use."""
MUST = {"order of responses": "order", "groups of equal rewards": "equal rewards", "values under the mask": "padding", "EOS": "EOS"}
"""What a step must not depend on, and the word by which a slip tells it already."""


def _world(name: str, V: int, H: int, P: int, r: Any, *, eos: bool = True) -> World:
    mdp = TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)])
    rng = np.random.default_rng(11)
    return World(mdp, dirichlet(mdp, 3.0, rng=rng), np.array(r, dtype=float), 1.0, name=name)


def worlds(P: int = 1) -> dict[str, World]:
    """The three worlds on which a step is measured: lengths and rewards differ; rewards of 0 and 1; one length."""
    if P > 1:
        r = [[0.2, 1.3, -0.6], [0.9, 0.1, 2.0]]
        return {f"{P} prompts a batch": _world("two prompts", 2, 2, 2, r)}
    return {
        "graded rewards": _world("graded", 2, 3, 1, [[0.3, 1.1, -0.8, 1.9]]),
        "0/1 rewards": _world("binary", 2, 2, 1, [[0.0, 1.0, 0.0]]),
        "one length": _world("bandit", 3, 1, 1, [[0.2, 1.3, -0.6]], eos=False),
    }


Progress = Callable[[str], None]


def audit(handed: Handed, setting: Setting | None = None, *, stages: Iterable[str] = (), told: Progress = lambda what: None) -> Audit:
    """Measure everything of a function, or some of STAGES; what it raises, returns or needs is told as a problem.

    >>> from tabular_rlhf.audit.handed import hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def loss(logps, advantages, mask): return -(logps * advantages[:, None] * mask).sum() / len(mask)
    >>> found = audit(hand_in(loss, Library())); found.status, found.rows[0].verdict.words
    ('right', 'E[r]')
    """
    found = Audit(handed, setting or Setting())
    try:
        _read(handed)
        for what in list(stages) or STAGES:
            told(what)
            STAGES[what](found)
    except Unfit as e:
        found.problem = (e.kind, e.words)
    return found


CALLS = 8
"""Times that a function is called with the same: a dropout of one token in ten is often the same twice."""


def _read(handed: Handed) -> None:
    """Its layout; whether it is the same each time; whether it moves; and groups of equal rewards."""
    if handed.kind in ("pair loss", "reward-model loss"):
        return
    rng = np.random.default_rng(0)
    many = 2 if handed.asks("group", "G", "P") or handed.kind == "group advantage" else 1
    batches = [probe(rng, P=many, G=3, T=5), probe(rng, P=1, G=4, T=5)]
    lay_out(handed, batches)
    first, *again = (handed.push(batches[0]) for _ in range(CALLS))
    if any(not np.array_equal(first[k], other[k]) for other in again for k in first):
        raise Unfit("random", "it returns something else each time that it is called with the same: seed it, or leave its dropout out")
    equal = probe(rng, P=1, G=3, T=4, moved=0.0, levels=1)
    try:
        handed.push(equal)
    except Unfit as e:
        raise Unfit(e.kind, f"{e.words}, where all rewards of a group are equal: {described(equal)}") from None


def _what(found: Audit) -> None:
    found.nearest = nearest(found.handed)


def _changes(found: Audit) -> None:
    found.invariances = invariances(found.handed)
    found.setting = replace(found.setting, ordered=any(i.name == "order of responses" and not i.holds for i in found.invariances))


def _ascends(found: Audit) -> None:
    handed, setting = found.handed, found.setting
    if handed.kind in ("pair loss", "reward-model loss"):
        return
    coarse = rounding_of(handed)
    if handed.kind == "KL penalty":
        world = worlds()["graded rewards"]
        for place in _places(handed):
            step = Expected(handed, setting, in_reward=place == "in the reward")
            away = log_softmax(world.log_ref + 0.5 * np.random.default_rng(2).standard_normal(world.log_ref.shape))
            found.rows.append(_row(place, _downhill(step), cases(world, away), setting.G, coarse))
        return
    for where, world in worlds().items():
        step = _expected(found, world)
        found.rows.append(_row(where, step, cases(world, world.log_ref), setting.G, coarse))
    if handed.kind in ("whole step", "policy loss"):
        world = worlds()["one length"]
        old = log_softmax(world.log_ref + 0.5 * np.random.default_rng(2).standard_normal(world.log_ref.shape))
        step = Expected(handed, setting)
        found.rows.append(_row("stale samples, one length", step, cases(world, world.log_ref, old), setting.G, coarse))
    if any(i.name == "other prompts in the batch" and not i.holds for i in found.invariances):
        for where, world in worlds(2).items():
            small = replace(setting, G=2)
            found.rows.append(_row(f"{where}, G = 2", Expected(handed, small), cases(world, world.log_ref), 2, coarse))


def _downhill(step: Expected) -> Callable[[Case], Array]:
    return lambda case: -step(case)


def _places(handed: Handed) -> tuple[str, ...]:
    """Where a penalty may stand: one that is a single number has no place in the reward."""
    batch = probe(np.random.default_rng(0), G=3, T=4)
    return ("in the loss", "in the reward") if np.ndim(handed.library.plain(handed(batch))) else ("in the loss",)


def _expected(found: Audit, world: World) -> Expected:
    step = Expected(found.handed, found.setting)
    step.held = not depends(found.handed, cases(world, world.log_ref), found.setting)
    return step


def _row(where: str, step: Callable[[Case], Array], at: list[Case], G: int, coarse: float) -> Row:
    def dictionary(case: Case) -> dict[str, Objective]:
        return named(case, G)

    u, g = step(at[0]), gradient(objectives(at[0])["E[r]"], at[0].logits)
    along, size, length = float(np.sum(u * g)), float(np.sum(g * g)), float(np.sum(u * u))
    verdict = measure(step, at, dictionary, curl=coarse <= 1e-9, rounding=coarse)
    moved = length > 1e-20 * size
    return Row(where, along / np.sqrt(size * length) if moved and size else None, along / size if size else None, verdict)


SMALL = 1e-6
"""By how much the arguments are moved to see how a function rounds: of 64 bits their square is rounding, too."""


def rounding_of(handed: Handed) -> float:
    """The share of a step that the function's own arithmetic rounds: 1e-9 of 64 bits, by second differences, which show steps of 32."""
    rng = np.random.default_rng(9)
    batch = probe(rng, P=2 if handed.grouped else 1, G=4, T=5)
    by = {k: SMALL * rng.standard_normal(np.shape(batch[k])) for k in ("logp", "old", "reward", "token_reward", "advantage", "table")}
    up, here, down = (handed.push(batch | {k: batch[k] + s * x * batch[k] for k, x in by.items()})["logp"] for s in (1.0, 0.0, -1.0))
    noise = float(np.linalg.norm(up - 2.0 * here + down)) / max(float(np.linalg.norm(here)), 1e-300)
    return 1e-9 if noise < 1e-9 else min(1e-2, 30.0 * noise)


def _leads(found: Audit) -> None:
    handed, world = found.handed, rational()
    if handed.kind == "reward-model loss":
        found.rewards = fitted_rewards(handed, world)
        return
    steps: dict[str, Callable[[Case], Array]]
    if handed.kind == "KL penalty":
        parts = {place: Expected(handed, found.setting, in_reward="reward" in place) for place in _places(handed)}
        rewarded = {place: (lambda case, s=s: s(case) + gradient(objectives(case)["E[r]"], case.logits)) for place, s in parts.items()}
        steps = {f"E[r] less the penalty {place}": step for place, step in rewarded.items()}
    elif handed.kind == "pair loss":
        steps = {"all pairs, labeled by Bradley-Terry": Expected(handed, found.setting)}
    else:
        step = _expected(found, world)
        own = found.nearest is not None and (found.nearest.penalty is not None or " of r - " in found.nearest.words)
        steps = {"by itself": step} if own else {"with - KL(pi, ref), exact, beside it": with_penalty(step)}
    for where, move in steps.items():
        try:
            end = follow(move, world)
            found.ends.append((where, world, end, maximized(handed, found.nearest, world, end)))
        except (SolveError, InputError) as e:
            found.ends.append((where, world, End(str(e), world.log_p_ref, False, np.inf, world.log_p_ref[None]), ""))


def _noise(found: Audit) -> None:
    if found.handed.kind not in TOKENS:
        return
    world = worlds()["graded rewards"]
    case = cases(world, world.log_ref)[0]
    mine = Expected(found.handed, found.setting).moments(case)
    g = gradient(objectives(case)["E[r]"], case.logits)
    rloo = _rloo_moments(case, found.setting)
    for name, m in (("this function", mine), ("rloo, sequence-sum", rloo)):
        along = float(np.sum(m.mean * g)) / float(np.sum(g * g))
        found.variance.append((name, m.variance / along**2 if abs(along) > 1e-12 else np.inf))


def _rloo_moments(case: Case, setting: Setting) -> Any:
    """The same batches under the step that is known."""
    from tabular_rlhf.audit.library import Library

    def loss(logps: Any, advantages: Any, mask: Any) -> Any:
        return -(logps * advantages[:, None] * mask).sum() / len(mask)

    known = Handed(loss, "rloo", Library(), "policy loss", {"logps": "logp", "advantages": "advantage", "mask": "mask"}, {}, {})
    known.layout = {"advantages": "a number a response"}
    return Expected(known, setting, held=True).moments(case)


STAGES: dict[str, Callable[[Audit], None]] = {
    "what it is": _what,
    "what it does not change with": _changes,
    "what it ascends": _ascends,
    "where it leads": _leads,
    "its noise": _noise,
}
"""What is measured, in this order."""
