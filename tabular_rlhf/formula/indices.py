r"""Letters at indices: r(x, y'), p(s + a), Q(s_h, a_h), V(x), pi(y | x).

An index renames an axis and moves no data.  Where a letter has no such axis, three relations of the tree of responses help:

    p(s), p(s + a)      the mass of the responses through a state, or through a token of it
    V(s + a), V(x)      the value of the next state (at the end of a response: of the response), and of the first one
    pi(y | x)           prod_h pi(a_h | s_h), a policy's law over responses
    pi(a | c)           the row that the states of a context share

Any other index would be ignored, which is refused.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.formula import axes as ax
from tabular_rlhf.formula.axes import Value, axis_kind
from tabular_rlhf.formula.letters import OBJECTIVES
from tabular_rlhf.formula.meaning import Meaning, rule
from tabular_rlhf.formula.tree import Node, sym

AT_TOKENS = {"L": "L_s", "KL": "KL_s", "r": "r_token"}
"""A letter of responses, and the one of tokens that it is at an index of time."""
AT_CONTEXTS = {"pi_tied": "row_tied", "pi_hat": "row_hat", "d_star": "visits_star", "d_hat": "visits_hat"}
"""A letter of states, and the one of contexts that it is at c: pi(a | c), d(c)."""
NEXT = {"V_soft": "Q_soft", "V": "Q_soft", "V'": "Q'"}
"""A value of states, and its table of next states."""
MASS = {"d_pi": "p", "d_ref": "p_ref", "d_star": "p_star"}
"""Visits of states, and the law of responses whose mass they are."""


def axis_of(index: Node) -> str:
    """The axis that an index names: "tau'", "s@h" for s_h."""
    if not index.kids:
        return "s@0" if index.value == "s_0" else str(index.value)
    step = index.kids[0]
    time = step if step.op in ("index", "num") else step.kids[0]
    return f"{index.value}@{time.value}"


def ahead(index: Node) -> bool:
    """Whether it is the next state: s_{h+1}."""
    return bool(index.kids) and index.kids[0].op == "add"


@rule("at")
def _at(m: Meaning, node: Node) -> Value:
    head, *given = node.kids
    name = str(head.value)
    local = m.local.get(name)
    onward = any(g.op == "add" or ahead(g) for g in given)
    if isinstance(local, Node) and local.kids[1:] and not (name in NEXT and (onward or _elsewhere(local, given))):
        return _applied(m, node, local, given)
    if not all(g.op in ("index", "add") for g in given):
        return _of_law(m, node, name, given)
    if len(given) == 1 and axis_kind(str(given[0].value)) == "time" and name in AT_TOKENS:
        time = given[0]
        given = [Node("index", (time,), "s"), *([] if name == "KL" else [Node("index", (time,), "a")])]
        value = m.letter(AT_TOKENS[name], head)
    elif name == "J" and [g.value for g in given] == ["x"]:
        value = m.letter("J_x", head)
    else:
        value = m.letter(name, head)
    return placed(m, node, name, value, given)


def _elsewhere(let: Node, given: list[Node]) -> bool:
    """Whether a definition is of other things: V(tau) = r(tau) does not say what V(s) is."""
    return [axis_kind(axis_of(p)) for p in let.kids[1:]] != [axis_kind(axis_of(g)) for g in given]


def _applied(m: Meaning, node: Node, let: Node, given: list[Node]) -> Value:
    """A function of the formula's own at numbers, or a definition at other indices than its own."""
    body, *own = let.kids
    if len(own) != len(given):
        raise m.refusal(node, f"{let.value} must be of {len(own)} things, as it is defined", "give as many")
    if all(p.op == "sym" for p in own):
        with m.where(**{str(p.value): m(g) for p, g in zip(own, given, strict=True)}):
            return m(body)
    if any(g.op == "add" or ahead(g) for g in given):
        raise m.refusal(node, f"{let.value} must be defined at the next state", "write what it is there, at the end of a response, too")
    if _elsewhere(let, given):
        raise m.refusal(node, f"{let.value} must be at what it is defined at", "write the same kind of index")
    names = {axis_of(p): axis_of(g) for p, g in zip(own, given, strict=True)}
    _distinct(m, node, names)
    return m.definition(str(let.value), let).renamed(names)


def _of_law(m: Meaning, node: Node, name: str, given: list[Node]) -> Value:
    """J(p), the objective of a law, for each prompt."""
    if name in OBJECTIVES and len(given) == 1:
        law = given[0]
        if law.op == "sym" and law.value == "theta":
            return m.letter("J", node)
        penalty = Node("mul", (sym("beta"), Node("KL", (law, sym("p_ref")))))
        return m(Node("sub", (Node("E", (sym("r"), Node("draw", (law,)))), penalty)))
    raise m.refusal(node, f"{name} must be followed by indices", "write a product with a sign between: a*(b)")


def placed(m: Meaning, node: Node, name: str, value: Value, given: list[Node]) -> Value:
    """A value at indices."""
    if any(axis_kind(axis_of(g)) == "c" for g in given) and "s" in map(axis_kind, value.axes):
        value = of_contexts(m, name, node)
    local = m.local.get(name)
    if isinstance(local, Node) and local.kids[1:] and name in NEXT:  # the definition is of other things
        value = m.letter("V_soft", node)
    through = next((g for g in given if g.op == "add"), None)
    states = [g for g in given if g.op == "index" and axis_kind(axis_of(g)) == "s"]
    kinds = [axis_kind(a) for a in value.axes]
    if "s" not in kinds and "tau" in kinds and states and name in AT_TOKENS and name not in m.lexicon.bound:
        value, kinds = m.letter(AT_TOKENS[name], node), ["x", "s", "a"]
    if "s" not in kinds and "tau" in kinds and (through is not None or states):
        if value.law is None or len([g for g in given if axis_kind(axis_of(g)) != "x"]) > 1:
            raise m.refusal(node, f"{name} must be a law, to have a mass in a state", "write p(s), p(s + a), or a table of tokens")
        return _mass(m, node, name, value, through or states[0])
    if through is not None or (states and ahead(states[0])):
        return _next(m, node, name, value, through or states[0])
    responses = [g for g in given if axis_kind(axis_of(g)) == "tau"]
    if "s" in kinds and "tau" not in kinds and not states:
        if "a" in kinds and value.law is not None and (responses or all(axis_kind(axis_of(g)) == "x" for g in given)):
            value = response_law(m, name, value)
        elif "a" not in kinds and responses and name in NEXT:
            value = m.letter("r", node)
        elif "a" not in kinds and given and all(axis_kind(axis_of(g)) == "x" for g in given):
            value = m.letter("value", node) if name == "V" and name not in m.lexicon.bound else first_state(value)
    return renamed(m, node, name, value, given)


def of_contexts(m: Meaning, name: str, node: Node) -> Value:
    """The letter of contexts for one of states."""
    known = m.lexicon.text_of(name) or name
    if known not in AT_CONTEXTS:
        raise m.refusal(node, f"{name} must be of contexts, to be at one", "write the state, or a letter of the tied class")
    return m.letter(AT_CONTEXTS[known], node)


def renamed(m: Meaning, node: Node, name: str, value: Value, given: list[Node]) -> Value:
    """Axes under the names of indices, in order, each kind for itself."""
    names: dict[str, str] = {}
    if any(axis_of(g) == "s@0" for g in given) and "s" in map(axis_kind, value.axes):
        value, given = first_state(value), [g for g in given if axis_of(g) != "s@0"]
    for index in given:
        axis = axis_of(index)
        free = next((a for a in value.axes if a not in names and _fits(a, axis)), None)
        if free is None:
            if axis_kind(axis) == "x" and value.axes:  # the same for every prompt
                continue
            has = f"it is over ({', '.join(value.axes)})" if value.axes else "it is a number"
            raise m.refusal(
                node, f"every index must mean something: {name} has none for {axis}, {has}", "leave the index out, or write another letter"
            )
        names[free] = axis
    _distinct(m, node, names)
    missing = [a for a in value.axes if a not in names and axis_kind(a) in ("s", "a", "tau")]
    if names and missing and {axis_kind(a) for a in names} - {"x"}:
        must = f"all indices of {name} must be written, or none: ({', '.join(value.axes)})"
        raise m.refusal(node, must, f"write {name}(a | s)" if "s" in missing else f"add {', '.join(missing)}")
    left = frozenset(a for a in value.axes if a not in names and axis_kind(a) != "x")
    return replace(value.renamed(names), implicit=left)


def _distinct(m: Meaning, node: Node, names: dict[str, str]) -> None:
    if len(set(names.values())) < len(names):
        raise m.refusal(node, "a letter must be at different indices", "write w_{ij} 1[i = j], and sum over j")


def _fits(axis: str, index: str) -> bool:
    return axis == index or axis_kind(axis) == axis_kind(index) != ""


# ---------------------------------------------------------------------------------------------------- the tree of responses


def response_law(m: Meaning, name: str, policy: Value) -> Value:
    """A policy's law over responses: the symbol that is kept of it, or the product of its tokens."""
    kept = m.lexicon.symbol("p" + name[2:]) if name.startswith("pi") and name not in m.lexicon.bound and name not in m.local else None
    if kept is not None and kept.law == "tau":
        return kept
    log = policy.log
    assert log is not None

    def logs(scope: Any) -> Any:
        return scope["mdp"].path_sum(log(scope))

    return Value(("x", "tau"), lambda scope: np.exp(logs(scope)), logs, "tau")


def first_state(value: Value) -> Value:
    """A table of states at the first one, where the prompt is all that is said."""
    k = next(k for k, a in enumerate(value.axes) if axis_kind(a) == "s")
    of = value.of
    left = tuple(a for a in value.axes if axis_kind(a) != "s")
    at = (slice(None),) * k + (0,)
    return Value(left, lambda scope: of(scope)[at], None, None, value.implicit)


def _mass(m: Meaning, node: Node, name: str, law: Value, place: Node) -> Value:
    """p(s), p(s + a): the sum over the responses that pass through."""
    if law.axes != ("x", "tau"):
        raise m.refusal(node, f"{name} must be a table of responses to have a mass in a state", "write a law at s or s + a")
    of = law.of

    def table(scope: Any) -> Any:
        return scope["mdp"].subtree_sum(of(scope))

    def mass(scope: Any) -> Any:
        return np.sum(table(scope), axis=-1)

    f, axes = (table, tuple(map(axis_of, place.kids))) if place.op == "add" else (mass, (axis_of(place),))
    value = Value(("x", *axes), f, None if law.log is None else lambda scope: ax.log(f(scope)))
    return first_state(value) if axes == ("s@0",) else value


def _next(m: Meaning, node: Node, name: str, value: Value, place: Node) -> Value:
    """V(s + a), V(s_{h+1}): the value where the token leads."""
    here, token = place.kids if place.op == "add" else (place, Node("index", place.kids, "a"))
    target = ("x", axis_of(here), axis_of(token))
    bound = m.lexicon.bound
    own = name in bound or name in m.local
    if name in NEXT and (name in bound) == (NEXT[name] in bound):
        m.lexicon.assumed[f"{name} of the next state"] = "the value after the token; at the end of a response its reward"
        return m.letter(NEXT[name], node).renamed(dict(zip(("x", "s", "a"), target, strict=True)))
    if name in MASS and not own and place.op == "add":
        return _mass(m, node, name, m.letter(MASS[name], node), place)
    if name not in ("Phi", "phi") or own or value.axes != ("x", "s"):
        must = f"{name} must be known where a token leads, at the end of a response, too"
        raise m.refusal(node, must, "write V(s + a), Phi(s_{h+1}), or Q(s, a)")
    of = value.of
    return Value(target, lambda scope: _led(of(scope), scope["mdp"]))


def _led(states: Any, mdp: Any) -> Any:
    """A table of states at the state where each token leads; 0 at the end of a response."""
    padded = np.concatenate([states, np.zeros((mdp.P, 1))], axis=1)
    return padded[:, leads_to(mdp)]


@lru_cache(maxsize=256)
def leads_to(mdp: Any) -> Any:
    """The number of the state s + a, (S, V); S where a response ends."""
    table = np.full((mdp.S, mdp.V), mdp.S)
    for h in range(mdp.H - 1):
        start, width = mdp.offsets[h], mdp.K**h
        for a in range(mdp.K):
            table[start : start + width, a] = mdp.offsets[h + 1] + a * width + np.arange(width)
    return table


@lru_cache(maxsize=256)
def incidence(mdp: Any) -> Any:
    """1 where a response passes through a token, (N, S, V)."""
    rows = np.zeros((mdp.N, mdp.S, mdp.V))
    for tau in range(mdp.N):
        one = np.zeros((mdp.P, mdp.N))
        one[:, tau] = 1.0
        rows[tau] = mdp.subtree_sum(one)[0]
    return rows
