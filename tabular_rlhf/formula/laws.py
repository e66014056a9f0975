r"""Means, variances, divergences, probabilities: what is said of a law.

A law is a table that sums to one along an axis: responses (tau), tokens (a), prompts (x).  A mean without a law is under that of the
setting: over responses p, over prompts mu; a pair (w, l) is two draws of p_ref, the preferred one called w.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.formula import axes as ax
from tabular_rlhf.formula.axes import Value, axis_kind, binary, constant, fitted, merged, reduced, unary
from tabular_rlhf.formula.indices import axis_of, incidence, of_contexts, response_law
from tabular_rlhf.formula.meaning import Meaning, rule
from tabular_rlhf.formula.tree import Node, index, walk
from tabular_rlhf.logspace import kl, logsumexp


def law_of(m: Meaning, node: Node, among: tuple[str, ...] = ()) -> Value:
    """The law that a node names: pi(. | s) is one of tokens, pi(y | x), and pi beside responses, one of responses."""
    head, *given = node.kids if node.op == "at" else (node,)
    if head.op != "sym":
        return m(node)
    name = str(head.value)
    if any(g.op == "index" and axis_kind(axis_of(g)) not in ("x", "tau", "s", "a", "c") for g in given):
        return m(node)
    states = [axis_of(g) for g in given if g.op == "index" and axis_kind(axis_of(g)) == "s"]
    contexts = [axis_of(g) for g in given if g.op == "index" and axis_kind(axis_of(g)) == "c"]
    if contexts:
        return of_contexts(m, name, node).renamed({"c": contexts[0]})
    value = m.letter(name, head)
    value = value.renamed(m.bare) if m.bare else value
    if value.law == "a" and not states and not any(axis_kind(a) == "a" for a in among):
        value = response_law(m, name, value)
    if value.law is not None or states:
        return _placed(m, node, value, given)
    if value.law is None and value.axes == ("x", "tau") and (name in m.local or m.lexicon.text_of(name)):
        m.lexicon.assumed[f"{name} as a law"] = "sums to one over the responses"
        return _placed(m, node, replace(value, law="tau"), given)
    return value if not given else m(node)


def _placed(m: Meaning, node: Node, law: Value, given: list[Node]) -> Value:
    """A law at the indices that it is written at: p(. | x') is that of x', pi(b | s') that of b in s'."""
    names: dict[str, str] = {}
    for axis in (axis_of(g) for g in given if g.op == "index"):
        kin = [a for a in law.axes if axis_kind(a) == axis_kind(axis)]
        if kin and names.setdefault(kin[0], axis) != axis:
            raise m.refusal(node, "a law must be at one index of a kind", "write p(y | x)")
    return law.renamed(names) if any(a != b for a, b in names.items()) else law


def averaged(m: Meaning, value: Value, law: Value, axis: str) -> Value:
    """The mean along one axis; what does not depend on it is its own mean."""
    if axis not in value.axes:
        return value
    return reduced(np.sum, m.product(law, value), (axis,), logsumexp)


def mean(m: Meaning, node: Node, value: Value, draws: list[Node], given: list[Node]) -> Value:
    """The mean of a value under draws, given what is given."""
    places = [k for g in given for k in g.kids if k.op == "add" or axis_kind(axis_of(k)) in ("s", "a")]
    if places:
        return _given_place(m, node, value, draws, places)
    if not draws:
        return _of_setting(m, value, bool(given))
    for draw in reversed(draws):
        value = _drawn(m, node, value, draw)
    return value


def _of_setting(m: Meaning, value: Value, given: bool) -> Value:
    """Under the laws of the setting: pairs, responses, tokens, then prompts (unless they are given)."""
    value = _pairs(m, value)
    if len([a for a in value.axes if axis_kind(a) == "x"]) > 1:
        raise InputError("a mean over two prompts must name its laws", got=f"({', '.join(value.axes)})", remedy="write x ~ mu, x' ~ mu")
    for axis in [a for a in value.axes if axis_kind(a) == "tau"]:
        law = m.setting_law("pairs" if axis in ("i", "j") else "law")
        value = averaged(m, value, law.renamed({"tau": axis}), axis)
    return value if given or m.setting["prompts"] == "given" else averaged(m, value, m.setting_law("prompts"), "x")


def _pairs(m: Meaning, value: Value) -> Value:
    """The mean over an observed pair: two draws, the one that people prefer is w."""
    if not {"w", "l"} & set(value.axes):
        return value
    draw = m.setting_law("pairs")
    both = m.product(draw.renamed({"tau": "w"}), draw.renamed({"tau": "l"}))
    beats = m.setting_law("people").renamed({"tau": "w", "tau'": "l"})
    weight = m.product(constant(2.0), m.product(both, beats))
    m.lexicon.assumed["w, l"] = f"two draws of {m.setting['pairs']}, w preferred by {m.setting['people']}"
    value = m.product(weight, value)
    return reduced(np.sum, value, ("w", "l"))


def _drawn(m: Meaning, node: Node, value: Value, draw: Node) -> Value:
    """The mean over what one draw names."""
    drawn = str(draw.value).split() if draw.value else []
    if any(axis_kind(d) in ("row", "place") for d in drawn):
        raise m.refusal(draw, "rows and places of a batch must be summed over: no law draws them", "write sum_{row, place}")
    if not draw.kids:
        return _indices(m, value, drawn)
    if "w" in drawn and "l" in drawn:  # a data set of comparisons, whatever its name
        value = _pairs(m, value)
        return averaged(m, value, m.setting_law("prompts"), "x") if "x" in drawn else value
    try:
        law = law_of(m, draw.kids[0], value.axes)
    except InputError:
        if "x" not in drawn:
            raise
        law = _data(m, draw, drawn)
    if law.law is None:
        raise m.refusal(draw, "a mean must be under a law: numbers that sum to one", "write E_p, E_mu, or y ~ pi")
    if not drawn:
        if law.law not in value.axes and law.law == "a":
            raise m.refusal(node, "a mean over tokens must be of tokens", "write pi(y | x) for a policy's law over responses")
        return averaged(m, value, law, law.law)
    if law.law not in ("x", "tau", "a", *drawn):
        raise m.refusal(draw, "a law must be at what is drawn from it", f"write p(. | x), or draw {law.law}")
    if drawn == ["x"] and law.law == "tau":  # a text: a prompt with its response
        drawn = ["x", "tau"]
        m.lexicon.assumed[f"x, drawn from {_name(draw.kids[0])}"] = "a prompt with its response"
    for axis in [d for d in drawn if d != "x"]:
        value = averaged(m, value, law.renamed({law.law: axis}), axis)
    if "x" in drawn:
        value = averaged(m, value, law if law.law == "x" else m.setting_law("prompts"), "x")
    return value


def _indices(m: Meaning, value: Value, drawn: list[str]) -> Value:
    """Under the setting's laws, over the indices that a mean names: E_{i, j}, Var_a; pairs of responses with their prompts."""
    if any(axis_kind(d) == "time" for d in drawn):
        must = "a mean over time must say which one it is"
        remedy = "write sum_t for a sum, or divide by |y| for the mean of a response"
        raise InputError(must, got=f"E_{' '.join(drawn)}", remedy=remedy)
    value = _pairs(m, value)
    for axis in drawn:
        if axis_kind(axis) == "a":
            value = averaged(m, value, m.setting_law("tokens").renamed({"a": axis}), axis)
        elif axis_kind(axis) == "tau" and axis in value.axes:
            law = m.setting_law("pairs" if axis in ("i", "j") else "law")
            value = averaged(m, value, law.renamed({"tau": axis}), axis)
    paired = any(d in ("w", "l", "i", "j", "x") for d in drawn)
    return averaged(m, value, m.setting_law("prompts"), "x") if paired else value


def _data(m: Meaning, draw: Node, drawn: list[str]) -> Value:
    """A data set that only has a name: the prompts of the world, with responses of the setting's law, or its pairs."""
    responses = [d for d in drawn if d != "x"]
    law = "law" if responses else "prompts"
    what = f"prompts of {m.setting['prompts']}" + (f", responses of {m.setting['law']}" if responses else "")
    m.lexicon.assumed[_name(draw.kids[0])] = what
    return m.setting_law(law)


def _name(node: Node) -> str:
    return str(next(n.value for _, n in walk(node) if n.op == "sym"))


def _given_place(m: Meaning, node: Node, value: Value, draws: list[Node], places: list[Node]) -> Value:
    """E[f | s], E[f | s, a]: over the responses that pass through."""
    law = law_of(m, draws[0].kids[0]) if draws and draws[0].kids else m.setting_law("law")
    names = [axis_of(k) for p in places for k in (p.kids if p.op == "add" else (p,))]
    steps = {a: names[0] for a in value.axes if a.startswith("s@")}  # s_t = s: the step of the state that is given
    value = replace(value.renamed(steps), implicit=frozenset())
    if "tau" not in value.axes or set(value.axes) - {"x", "tau", names[0]}:
        raise m.refusal(node, "a mean given a state must be of a number for each response", "write E[r | s, a]")
    token = names[1] if len(names) == 2 else "a@given"
    with m.masking():
        above, below = (passing(table, names[0], token) for table in (m.product(law, value), law))
    if len(names) == 1:
        above, below = (reduced(np.sum, table, (token,)) for table in (above, below))
    found = binary(ax.over, above, below)
    return replace(found, log=None if value.log is None else lambda scope: ax.log(found.of(scope)))


def passing(table: Value, s: str, a: str) -> Value:
    """The sum over the responses that pass through a token, up the tree."""
    if table.axes == ("x", "tau"):
        return Value(("x", s, a), lambda scope: scope["mdp"].subtree_sum(table.of(scope)))
    return reduced(np.sum, binary(ax.times, Value(("tau", s, a), lambda scope: incidence(scope["mdp"])), table), ("tau",))


def parts(node: Node, count: int) -> tuple[list[Node], list[Node], list[Node]]:
    """The bodies, draws and givens of a mean."""
    bodies, others = list(node.kids[:count]), node.kids[count:]
    return bodies, [k for k in others if k.op == "draw"], [k for k in others if k.op == "given"]


@rule("E")
def _mean(m: Meaning, node: Node) -> Value:
    (body,), draws, given = parts(node, 1)
    if not draws and any(n.op == "sym" and n.value == "G" for _, n in walk(body)) and not ("G" in m.lexicon.bound or "G" in m.local):
        raise m.refusal(node, "a mean over groups must say what a group is", "bind the letters to a group's tables, and G to its size")
    return mean(m, node, m(body), draws, given)


@rule("Var")
def _variance(m: Meaning, node: Node) -> Value:
    (body,), draws, given = parts(node, 1)
    value = m(body)
    return _product_of_rests(m, node, value, value, draws, given)


@rule("Cov")
def _covariance(m: Meaning, node: Node) -> Value:
    (first, second), draws, given = parts(node, 2)
    return _product_of_rests(m, node, m(first), m(second), draws, given)


def _product_of_rests(m: Meaning, node: Node, a: Value, b: Value, draws: list[Node], given: list[Node]) -> Value:
    """E[(a - E a)(b - E b)], for each prompt unless a law of prompts is named."""
    given = given or ([] if draws else [Node("given", (index("x"),))])
    rests = [binary(m.sub, v, mean(m, node, v, draws, given)) for v in (a, b)]
    return mean(m, node, m.product(*rests), draws, given)


# ---------------------------------------------------------------------------------------------------- two laws


@rule("KL")
def _kl(m: Meaning, node: Node) -> Value:
    p, q = (_logged(law_of(m, kid)) for kid in node.kids)
    if p.law is None:
        return _kl_of_two(m, p, q)
    if q.log is None or p.log is None or p.law not in q.axes:
        raise m.refusal(node, "KL must be of two laws over the same things", f"the first is over ({', '.join(p.axes)})")
    axes = merged(p, q)
    log_p, log_q = fitted(p.log, p.axes, axes), fitted(q.log, q.axes, axes)
    along = axes.index(p.law)
    left = tuple(a for a in axes if a != p.law)
    return Value(left, lambda scope: kl(log_p(scope), log_q(scope), along), None, None, (p.implicit | q.implicit) - {p.law})


def _logged(p: Value) -> Value:
    """A law of which only the probabilities are known, some of them perhaps 0, with their logarithms."""
    return p if p.law is None or p.log is not None else replace(p, log=unary(ax.log, p).of)


def _kl_of_two(m: Meaning, p: Value, q: Value) -> Value:
    """KL of two coins that fall with probability p, and q."""
    with m.masking():

        def log(a: Value) -> Value:
            return unary(ax.log, a) if a.log is None else Value(a.axes, a.log)

        def term(a: Value, b: Value) -> Value:
            return m.product(a, binary(m.sub, log(a), log(b)))

        def rest(a: Value) -> Value:
            return replace(binary(np.subtract, constant(1.0), a), log=a.rest)

        return binary(np.add, term(p, q), term(rest(p), rest(q)))


@rule("H")
def _entropy(m: Meaning, node: Node) -> Value:
    p = law_of(m, node.kids[0])
    with m.masking():
        if p.law is None:  # of a coin that falls with probability p
            terms = [m.product(a, unary(ax.log, a)) for a in (p, binary(np.subtract, constant(1.0), p))]
            return unary(np.negative, binary(np.add, terms[0], terms[1]))
        assert p.log is not None
        return unary(np.negative, reduced(np.sum, m.product(p, Value(p.axes, p.log)), (p.law,)))


# ---------------------------------------------------------------------------------------------------- events


@rule("prob")
def _probability(m: Meaning, node: Node) -> Value:
    """The probability of a condition: letters without an index are those of the draw, those with one stand still."""
    (condition,), draws, _ = parts(node, 1)
    law = law_of(m, draws[0].kids[0]) if draws else m.setting_law("law")
    if law.law != "tau":
        raise m.refusal(node, "a probability must be under a law of responses", "write p_ref(r <= r(tau))")
    still = any(n.op == "index" and n.value == "tau" for _, n in walk(condition))
    drawn = "tau_drawn" if still else "tau"
    before, m.bare = m.bare, {**m.bare, "tau": drawn}
    holds = m(condition)
    m.bare = before
    value = averaged(m, holds, law.renamed({"tau": drawn}), drawn)
    return replace(value, log=lambda scope: ax.log(value.of(scope)))


@rule("beats")
def _beats(m: Meaning, node: Node) -> Value:
    """P(y > y'); of a law, its mean: P(y > pi_ref)."""
    people, names, laws = m.setting_law("people"), list[str](), list[tuple[Value, str]]()
    for k, side in enumerate(node.kids):
        if side.op == "index":
            names.append(axis_of(side))
            continue
        names.append(f"tau_{'ab'[k]}")
        law = law_of(m, side)
        laws.append((law.renamed({"tau": names[-1]}), names[-1]))
    if names[0] == names[1]:
        raise m.refusal(node, "a comparison must be of two responses", "write P(y > y')")
    value = people.renamed(dict(zip(("tau", "tau'"), names, strict=True)))
    value = replace(value, log=lambda scope: ax.log(people.of(scope)))
    for law, axis in laws:
        value = averaged(m, value, law, axis)
    return value


OBSERVED = (("i",), ("draw",), ("row", "place"))
"""What a mean without a law is over: the first of these that a table has."""


@rule("mean", "std")
def _of_group(m: Meaning, node: Node) -> Value:
    """Over a group, the axis i of a table of G rewards; over observations; over the whole of a trainer's batch."""
    value = m(node.kids[0])
    axes = next((found for over in OBSERVED if (found := tuple(a for a in over if a in value.axes))), ())
    if not axes:
        raise m.refusal(node, f"{node.op} must be over a group", "bind the letter to a table of G numbers, or write E_p[...]")
    if node.op == "mean":
        return reduced(np.mean, value, axes)
    m.lexicon.assumed["std"] = "of a sample: it divides by n - 1" if node.value else "of the population: it divides by n"
    ddof = int(node.value or 0)
    return reduced(lambda table, axis: np.std(table, axis=axis, ddof=ddof), value, axes)
