r"""What a flag descends, as measured: its exact expected gradient against that of a named objective, at several policies.

A claim (`theorem.descent`) is repeated only if the two gradients agree to rounding, at the policy at hand and at others.
Otherwise, and where nothing is claimed, the flag's gradient is regressed on those of the named divergences,

    g(pi_k) = sum_j c_j grad D_j(pi_k)   stacked over k,      D_j: the TERMS, added up in each way that may apply,

and the smallest set of terms that leaves only rounding is what it descends; if there is none, the nearest term is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.estimators.claims import honest
from tabular_rlhf.estimators.evaluate import exact_gradient, log_weight, pushes
from tabular_rlhf.estimators.record import TERMS, Flag
from tabular_rlhf.estimators.theorem import HELD, NONE, SHARED, VISITED, WHOLE, Descent, descent, divergence, sum_of_parts, title
from tabular_rlhf.logspace import Array, log_ratio, log_softmax
from tabular_rlhf.world import World

OTHERS = 3
"""Policies besides the one at hand at which a claim must hold."""
ROWS = 48
"""Numbers that a regression is told at least: more than twice the named divergences."""
MOST_TERMS = 3
LARGEST = 4096
"""Responses (over all prompts) up to which a regression is made, and claims are held against other policies."""
ROUNDING = 1e-8


@dataclass(frozen=True, eq=False)
class Verdict:
    """found, what is descended (NONE: none of the named); claimed, whether `theorem` says the same; nearest, in words, where it is
    none of the named."""

    found: Descent
    claimed: bool = False
    nearest: str = ""

    @property
    def words(self) -> str:
        return self.found.name if self.found is not NONE else "none of the named"


@dataclass(frozen=True, eq=False)
class Update:
    """A flag's expected update as a function of the policy, on its own samples or on those of log_pi_old."""

    flag: Flag
    world: World
    log_pi_old: Array | None = None

    def __call__(self, log_pi: Array) -> Array:
        return exact_gradient(self.flag, self.world, log_pi, self.log_pi_old)

    def rounding(self, log_pi: Array) -> float:
        """What its terms may leave when they cancel."""
        weight = 1.0 if self.log_pi_old is None else float(np.exp(np.max(log_weight(log_pi, self.log_pi_old))))
        return 1e-12 * (1.0 + weight * float(np.max(pushes(self.flag, self.world, log_pi, size=True))))

    def exists(self, log_pi: Array) -> bool:
        """Whether the policy forbids no more than the reference, and |L| has no corner there."""
        flag, world = self.flag, self.world
        free, L = ~np.isneginf(world.log_ref), log_ratio(log_pi, world.log_ref)
        L = L[free] if flag.level == "token" else world.mdp.path_sum(L)[~np.isneginf(world.log_p_ref)]
        cornered = flag.record.differentiated.rounded is not None and np.min(np.abs(L)) < 1e-9
        return bool(np.array_equal(free, ~np.isneginf(log_pi))) and not cornered

    @property
    def kinds(self) -> tuple[str, ...]:
        """The ways in which what it descends may be added up."""
        shared, by_state = self.flag.aggregate == "mean", self.flag.level == "token"
        return (WHOLE, *([SHARED] if shared else []), *([HELD, VISITED] if by_state else []))


def verdict(flag: Flag, world: World, log_pi: Array, log_pi_old: Array | None = None) -> Verdict:
    """What the flag is measured to descend, on its own samples or on those of log_pi_old.

    >>> from tabular_rlhf.world import rational
    >>> verdict(Flag("k3", "reward"), rational(), rational().log_ref).words
    'KL(pi, ref) - KL(ref, pi)'
    """
    claimed, update = descent(flag, own=log_pi_old is None), Update(honest(flag), world, log_pi_old)
    small = world.responses <= LARGEST
    at = [*([log_pi] if update.exists(log_pi) else []), *(policies(world)[:OTHERS] if small else ())]
    pushed, slack = [update(x) for x in at], [update.rounding(x) for x in at]
    if claimed.name != "nothing" and len(at) >= OTHERS and all(np.max(np.abs(g)) <= tol for g, tol in zip(pushed, slack, strict=True)):
        return Verdict(sum_of_parts({}))
    if claimed.objective is not None and at and all(_agree(g, claimed, world, x, tol) for g, x, tol in zip(pushed, at, slack, strict=True)):
        return Verdict(claimed, claimed=True)
    return regressed(update) if small else Verdict(NONE, nearest=f"not looked for among more than {LARGEST:,} responses")


def policies(world: World) -> tuple[Array, ...]:
    """Policies about the reference, the same for every flag: enough of them that their gradients are ROWS numbers."""
    free = ~np.isneginf(world.log_ref)
    freedom = int(np.sum(free)) - world.mdp.P * world.mdp.S
    rng = np.random.default_rng(0)
    count = max(OTHERS, -(-ROWS // max(1, freedom)))
    drawn = (np.where(free, world.log_ref + rng.standard_normal(free.shape), -np.inf) for _ in range(count))
    return tuple(np.asarray(log_softmax(z)) for z in drawn)


def _agree(got: Array, claimed: Descent, world: World, log_pi: Array, rounding: float) -> bool:
    want = _gradient(claimed, world, log_pi)
    return bool(np.max(np.abs(got - want)) <= 0.1 * ROUNDING * np.max(np.abs(want)) + rounding)


def _gradient(found: Descent, world: World, log_pi: Array) -> Array:
    objective = found.objective
    assert objective is not None
    live = ~np.isneginf(log_pi)  # what is descended may be a constant: then it is traced all the same
    return np.asarray(grad(lambda z: objective(world, log_softmax(z), log_pi) + 0.0 * np.sum(np.where(live, z, 0.0)))(log_pi))


# ---------------------------------------------------------------------------------------------------- regression


def regressed(update: Update) -> Verdict:
    """The smallest sum of named divergences whose gradient is the update at every policy, without regard to what is claimed.

    >>> from tabular_rlhf.world import rational
    >>> regressed(Update(Flag("k2", "reward"), rational())).words
    'E[k2] - KL(pi, ref)'
    """
    g = np.concatenate([np.ravel(update(x)) for x in policies(update.world)])
    length = float(np.linalg.norm(g))
    if length <= 1e-12:
        return Verdict(sum_of_parts({}))
    names, columns = dictionary(update.world, update.kinds)
    sizes = np.linalg.norm(columns, axis=0)
    unit = columns / sizes
    for chosen in () if update.flag.clamps else _small_sums(names):  # a clamp may lie beyond these policies: no sum is certain
        c, *_ = np.linalg.lstsq(unit[:, chosen], g, rcond=None)
        if np.linalg.norm(unit[:, chosen] @ c - g) <= ROUNDING * length:
            return Verdict(_sum_of_named([names[j] for j in chosen], c / sizes[list(chosen)]))
    return Verdict(NONE, nearest=_nearest(names, unit, g / length))


def _small_sums(names: list[tuple[str, str]]) -> Iterator[tuple[int, ...]]:
    """Terms that may be added up, the fewest first.  Where responses are divided by lengths, three are of one kind: with two
    lengths in a world 1/length is a sum of counts of states, and three terms of several kinds would say that and no more."""
    shared = any(kind == SHARED for kind, _ in names)
    for count in range(1, MOST_TERMS + 1):
        chosen = combinations(range(len(names)), count)
        yield from (c for c in chosen if count < MOST_TERMS or not shared or len({names[j][0] for j in c}) == 1)


@lru_cache(maxsize=4)
def dictionary(world: World, kinds: tuple[str, ...]) -> tuple[list[tuple[str, str]], Array]:
    """(kind, term) of every named divergence that has a gradient, and their gradients at `policies`, a column each."""
    names, columns = [], []
    for kind in kinds:
        for term, f in TERMS.items():
            if kind == VISITED and term == "KL(pi, ref)":
                continue  # the chain rule: it is that of whole responses
            named = Descent(term, None, divergence(f, kind))
            column = np.concatenate([np.ravel(_gradient(named, world, x)) for x in policies(world)])
            if np.linalg.norm(column) > 1e-12:
                names.append((kind, term))
                columns.append(column)
    return names, np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def _sum_of_named(names: list[tuple[str, str]], c: Array) -> Descent:
    """The sum, its coefficients told as the simple numbers that they are."""
    parts: dict[str, dict[str, float]] = {}
    for (kind, term), x in zip(names, c, strict=True):
        parts.setdefault(kind, {})[term] = float(np.round(x, 6))
    return sum_of_parts(parts)


def _nearest(names: list[tuple[str, str]], unit: Array, direction: Array) -> str:
    cosines = direction @ unit
    best = int(np.argmax(np.abs(cosines)))
    kind, term = names[best]
    cosine = float(cosines[best])
    residual = float(np.sqrt(1.0 - min(1.0, cosine**2)))
    return f"nearest {title({term: float(np.sign(cosine))}, kind)}, cosine {abs(cosine):.2f}, residual {residual:.2f}"
