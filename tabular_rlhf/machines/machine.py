r"""Machines: finite automata that read a response token by token, speak for it (a reference policy) and pay for it (a reward).

**Symbols.**  A machine has n states.  Reading token a in state s, it moves to next[a, s], pays gain[a, s], and pays final[a, s] beside if
the response ends there.  At most one machine of a product has a reference, log_ref (V, n).

    product     reads with several machines at once; only the states that a response can reach are made;
    minimize    merges states that no continuation tells apart (Moore's refinement);
    lattice     the machine unrolled to the horizon: all levels but the last are one object, however long the horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tabular_rlhf.errors import InputError, shown
from tabular_rlhf.language import Language
from tabular_rlhf.lattice.merge import classes_of, grid
from tabular_rlhf.lattice.world import LatticeWorld, Level
from tabular_rlhf.logspace import Array, log_of
from tabular_rlhf.mdp import Indices, TokenMDP

LARGEST = 2**25
"""Edges (states times tokens) of the largest machine that is made."""


@dataclass(frozen=True, eq=False)
class Machine:
    """next (V, n), gain (V, n), final (V, n) in reward units, log_ref (V, n) or None, and the state it starts in.

    >>> from tabular_rlhf.machines import length
    >>> length(Language(2, 3), -0.1).gain.tolist()
    [[-0.1], [-0.1]]
    """

    next: Indices
    gain: Array
    final: Array
    start: int = 0
    log_ref: Array | None = None

    @property
    def n(self) -> int:
        """States."""
        return self.next.shape[1]

    def forbid(self, tokens: Sequence[int]) -> Machine:
        """The machine whose reference never says these tokens, renormalized.  Raises: InputError where nothing is left to say."""
        if self.log_ref is None:
            raise InputError("a machine must have a reference to forbid tokens", got="none", remedy="forbid in its `ngram`")
        pi = np.exp(self.log_ref)
        pi[list(tokens)] = 0.0
        total = pi.sum(axis=0)
        if not total.all():
            raise InputError("every state must allow some token", got="all forbidden", remedy="forbid fewer")
        return replace(self, log_ref=log_of(pi / total))


def product(language: Language, machines: Sequence[Machine]) -> Machine:
    """One machine that reads as all of them: payments add up, and the one reference speaks.

    Raises: InputError where more states are reached than memory holds (it names the count), or several have a reference.
    """
    speaking = [m for m in machines if m.log_ref is not None]
    if len(speaking) > 1 or not machines:
        raise InputError(
            "one machine of a product must have the reference", got=f"{len(speaking)} of {len(machines)}", remedy="drop the others"
        )
    sizes = [m.n for m in machines]
    if float(np.prod([float(n) for n in sizes])) >= 2.0**62:
        raise InputError(
            "machines must have a product that can be numbered", got=" x ".join(map(str, sizes)), remedy="use fewer, or smaller ones"
        )
    K, most = language.K, max(1, LARGEST // language.V)
    start = _code([np.array([m.start]) for m in machines], sizes)
    known, order, frontier = np.sort(start), [start], start
    while frontier.size and K:
        parts = _parts(frontier, sizes)
        after = _code([m.next[:K, s] for m, s in zip(machines, parts, strict=True)], sizes)
        for m, s in zip(machines, parts, strict=True):
            if m.log_ref is not None:
                after = np.where(m.log_ref[:K, s] > -np.inf, after, start[0])
        new = np.setdiff1d(after, known)
        known = np.union1d(known, new)
        if known.size > most:
            raise InputError(
                f"a product of machines must have at most {most:,} states",
                got=f"more than {known.size:,}",
                remedy="use shorter contexts, fewer phrases or a simpler pattern",
            )
        order.append(new)
        frontier = new
    codes = np.concatenate(order)
    parts, rank = _parts(codes, sizes), np.argsort(codes)
    after = _code([m.next[:, s] for m, s in zip(machines, parts, strict=True)], sizes)
    place = np.minimum(np.searchsorted(codes, after, sorter=rank), codes.size - 1)
    found = rank[place]  # where no response goes, any state will do
    gain, final = (
        sum((x[:, s] for x, s in zip(xs, parts, strict=True)), start=np.float64(0.0))
        for xs in ([m.gain for m in machines], [m.final for m in machines])
    )
    log_ref = next((m.log_ref[:, s] for m, s in zip(machines, parts, strict=True) if m.log_ref is not None), None)
    return Machine(found, np.asarray(gain), np.asarray(final), 0, log_ref)


def _code(states: Sequence[Indices], sizes: Sequence[int]) -> Indices:
    """States of several machines as one number."""
    code = np.zeros_like(states[0])
    for s, n in zip(states, sizes, strict=True):
        code = code * n + s
    return code


def _parts(code: Indices, sizes: Sequence[int]) -> list[Indices]:
    """The states that a number stands for."""
    out = []
    for n in reversed(sizes):
        code, s = np.divmod(code, n)
        out.append(s)
    return out[::-1]


def rewards(machine: Machine, mdp: TokenMDP) -> Array:
    """What the machine pays every response of a tree that can be listed: (N,).

    >>> from tabular_rlhf.machines import matches
    >>> m = TokenMDP(("a", "b"), 2, sep=""); [m.text(i) for i in range(m.N) if rewards(matches(m, "a*"), m)[i]]
    ['aa']
    """
    x = np.zeros((1, mdp.V, mdp.S))
    state = np.full(1, machine.start, dtype=np.intp)
    for h in range(mdp.H):
        here = slice(mdp.offsets[h], mdp.offsets[h + 1])
        x[0, :, here] = machine.gain[:, state]
        ends = slice(0 if h == mdp.H - 1 else mdp.K, mdp.V)
        x[0, ends, here] += machine.final[ends, state]
        state = np.ravel(machine.next[: mdp.K, state])
    paid: Array = mdp.path_sum(np.broadcast_to(np.swapaxes(x, 1, 2), (mdp.P, mdp.S, mdp.V)))[0]
    return paid


def minimize(machine: Machine, K: int) -> Machine:
    """The machine with states merged that no continuation tells apart.  K, tokens after which a response may go on.

    >>> from tabular_rlhf.machines import length, product, uniform
    >>> x = Language(2, 3); m = product(x, [uniform(x), length(x, 1.0)]); minimize(m, 2).n
    1
    """
    tables = [machine.gain, machine.final] + ([] if machine.log_ref is None else [machine.log_ref])
    own = np.concatenate([grid(x, max(1e-300, float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x))))) for x in tables])
    label, first = classes_of(own)
    goes = np.ones(machine.next.shape, dtype=bool) if machine.log_ref is None else machine.log_ref > -np.inf
    goes[K:] = False
    while True:
        finer, first_ = classes_of(np.concatenate([label[None], np.where(goes, label[machine.next], -1)]))
        if len(first_) == len(first):
            break
        label, first = finer, first_
    log_ref = None if machine.log_ref is None else machine.log_ref[:, first]
    return Machine(label[machine.next[:, first]], machine.gain[:, first], machine.final[:, first], int(label[machine.start]), log_ref)


def lattice(language: Language, machines: Machine | Sequence[Machine], beta: float, name: str = "world") -> LatticeWorld:
    """A machine with a reference, unrolled to the language's horizon; or one machine for each prompt (the same object may serve several).

    Raises: InputError for a machine without reference.

    >>> from tabular_rlhf.lattice import solve
    >>> from tabular_rlhf.machines import phrases, product, uniform
    >>> x = Language(("a", "b"), 100, sep=""); w = lattice(x, product(x, [uniform(x), phrases(x, {"ab": 1.0})]), beta=1.0)
    >>> w.responses, w.states, round(float(solve(w).log_Z[0]), 6)
    ('10^30', 4, 27.87391)
    """
    each = [machines] * language.P if isinstance(machines, Machine) else list(machines)
    if len(each) != language.P:
        raise InputError("machines must be one, or one for each prompt", got=len(each), remedy=f"pass {language.P}")
    blocks = list({id(m): m for m in each}.values())
    offset = dict(zip(map(id, blocks), np.cumsum([0, *(m.n for m in blocks)]).tolist(), strict=False))
    n = sum(m.n for m in blocks)
    if n * language.V > LARGEST:
        raise InputError(
            f"a lattice must have at most {LARGEST:,} edges a level",
            got=f"{n * language.V:,}",
            remedy="merge prompts, or use smaller machines",
        )
    rows = [m.log_ref for m in blocks if m.log_ref is not None]
    if len(rows) != len(blocks):
        raise InputError(
            "a lattice must have a reference policy", got="a machine without one", remedy="multiply it with `ngram` or `uniform`"
        )
    log_ref = np.concatenate(rows, axis=1)
    child = np.concatenate([m.next + offset[id(m)] for m in blocks], axis=1)
    gain, final = (np.concatenate(xs, axis=1) for xs in ([m.gain for m in blocks], [m.final for m in blocks]))
    never = np.isneginf(log_ref)
    gain, final = np.where(never, 0.0, gain), np.where(never, 0.0, final)
    with np.errstate(over="ignore"):
        whole = gain + final
    if not np.isfinite(whole).all():
        raise InputError("rewards must be finite", got=shown(float(np.max(np.abs(whole)))), remedy="use smaller weights")
    ends = never.copy()
    ends[language.K :] = True
    main = Level(np.where(ends, n, child), log_ref, np.where(ends, whole, gain), n)
    last = Level(np.zeros_like(child), log_ref, whole, 0)
    roots = np.array([offset[id(m)] + m.start for m in each], dtype=np.intp)
    return LatticeWorld(language, [main] * (language.H - 1) + [last], roots, beta, name)
