r"""Sums, products, extremes over an index, a range, or a response's steps.

sum_tau f       one axis fewer
sum_h f(s_h, a_h)       along each response: (s, a) -> tau
sum_{h=1}^{H} f(h)      of numbers
sum_{tau: tau passes s + a} f(tau)      over the responses through a token: tau -> (s, a)
sum_{row, place} mask*f     over the tokens of a trainer's batch; sum_row 1 is how many responses it has
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.formula import axes as ax
from tabular_rlhf.formula.axes import Value, axis_kind, binary, reduced, unary
from tabular_rlhf.formula.indices import axis_of, incidence
from tabular_rlhf.formula.meaning import Meaning, rule
from tabular_rlhf.formula.tokens import refuse
from tabular_rlhf.formula.tree import Node, walk
from tabular_rlhf.logspace import logsumexp

LONGEST = 1_000_000
BATCH = ("row", "place")
"""The axes of `mask`."""


def bound(node: Node) -> list[Node]:
    """The `over` and `range` nodes of a binder."""
    return [n for over in node.kids[1:] for _, n in walk(over) if n.op in ("over", "range")]


def body_of(m: Meaning, node: Node) -> Value:
    """The body of a binder, where the index of a range is a number."""
    numbers = [n for n in bound(node) if n.op == "range" and not (n.kids[1].op == "at" and all_steps(*n.kids))]
    ranges = {f"#{n.value}": _range(m, n) for n in numbers}
    with m.where(**ranges):
        return m(node.kids[0])


def _range(m: Meaning, node: Node) -> Value:
    low, high = map(m, node.kids)
    if low.axes or high.axes:
        raise m.refusal(node, "a range must have numbers for ends", "write sum_{h=1}^{H}")

    text = m.text

    def numbers(scope: Any) -> Any:
        first, last = (float(plain(end.of(scope))) for end in (low, high))
        if not last - first < LONGEST or first != round(first) or last != round(last):
            must = f"a range must run over at most {LONGEST:,} whole numbers, not from {first:g} to {last:g}"
            raise refuse(text, node.start, node.end, must, "write sum_{h=1}^{H}")
        return np.arange(first, last + 1.0)

    return Value((str(node.value),), numbers)


@rule("sum")
def _sum(m: Meaning, node: Node) -> Value:
    value = body_of(m, node)
    for over in reversed(node.kids[1:]):
        value = _summed(m, node, value, over)
    return value


def _summed(m: Meaning, node: Node, value: Value, over: Node) -> Value:
    if over.op == "such":
        inner, condition = over.kids
        if condition.op == "through":
            return _through(m, node, value, condition)
        with m.masking():
            value = m.product(m(condition), value)
        over = inner
    axis = str(over.value)
    if axis in value.axes:
        whole = _whole(m, node, value, over) if over.op == "range" and indexes(node.kids[0], axis) else value
        return reduced(np.sum, whole, (axis,), logsumexp)
    if any(a.endswith(f"@{axis}") for a in value.axes):
        if over.op == "range" and not all_steps(*over.kids):
            raise m.refusal(node, "a sum along a response must run over all of it", "write sum_t, or sum_{t=0}^{T}")
        return _along(m, node, value, axis)
    if over.op == "range" and not set(value.axes) - {"x"}:  # of a number: as often as the range is long
        ones = unary(np.ones_like, _range(m, over))
        return _summed(m, node, m.product(replace(ones, log=unary(np.zeros_like, ones).of), value), over)
    if axis in BATCH and not set(value.axes) - {"x"}:  # of a number: as often as the batch is long, or wide
        ones = Value((axis,), lambda scope: np.ones(scope["mask"].shape[BATCH.index(axis)]))
        return _summed(m, node, m.product(replace(ones, log=unary(np.zeros_like, ones).of), value), over)
    must = f"a sum must be over what occurs in it: over ({', '.join(value.axes) or 'nothing'}) there is no {axis}"
    raise m.refusal(node, must, "leave the sum out, or write the index")


def indexes(node: Node, name: str) -> bool:
    """Whether a letter stands at an index."""
    return any(n.op == "at" and any(k.op == "index" and k.value == name for k in n.kids[1:]) for _, n in walk(node))


def _whole(m: Meaning, node: Node, value: Value, over: Node) -> Value:
    """A table whose axis a range runs through, which must be all of it: sum_{i=1}^{G} r_i, of G rewards."""
    low, high = map(m, over.kids)
    text, of, k = m.text, value.of, value.axes.index(str(over.value))

    def checked(scope: Any) -> Any:
        y = of(scope)
        first, last, n = float(plain(low.of(scope))), float(plain(high.of(scope))), np.shape(plain(y))[k]
        if first not in (0.0, 1.0) or last - first + 1 != n:
            must = f"a range must be all of what it runs through: there are {n}, not {first:g} to {last:g}"
            raise refuse(text, node.start, node.end, must, "bind its end to that number, or write no range")
        return y

    return replace(value, of=checked, log=None)


def all_steps(low: Node, high: Node) -> bool:
    """Whether a range means every step of a response: 0 or 1 to T, H, H - 1, or the length."""
    last = high.kids[0] if high.op == "sub" and high.kids[1].value == 1 else high
    named = (last.op == "sym" and last.value in ("T", "H")) or (last.op == "at" and last.kids[0].value == "lengths")
    return low.op == "num" and low.value in (0, 1) and named


def _along(m: Meaning, node: Node, value: Value, time: str) -> Value:
    """The sum over the steps of each response."""
    steps = tuple(a for a in value.axes if a.endswith(f"@{time}"))
    rest = tuple(a for a in value.axes if a not in steps)
    of = value.of
    if rest in ((), ("x",)):
        shape = (("x",) if rest else ()) + tuple(a for a in (f"s@{time}", f"a@{time}"))
        spread = ax.fitted(of, value.axes, tuple(a for a in shape if a in value.axes))
        widen = f"a@{time}" not in steps

        def summed(scope: Any) -> Any:
            mdp, table = scope["mdp"], spread(scope)
            table = table[..., None] if widen else table
            return mdp.path_sum(np.broadcast_to(table, (mdp.P, mdp.S, mdp.V)))

        return Value(("x", "tau"), summed, None, None, frozenset())
    with m.masking():
        both = m.product(_passes(f"s@{time}", f"a@{time}", "tau"), value)
    return reduced(np.sum, both, tuple(a for a in both.axes if a.endswith(f"@{time}")))


def _passes(s: str, a: str, tau: str) -> Value:
    return Value((tau, s, a), lambda scope: incidence(scope["mdp"]))


def _through(m: Meaning, node: Node, value: Value, condition: Node) -> Value:
    """The sum over the responses that pass through a state, or a token of it."""
    index, place = condition.kids
    tau = axis_of(index)
    if tau not in value.axes:
        raise m.refusal(node, f"a sum must be over what occurs in it: there is no {tau}", "write the index")
    s, a = (axis_of(place.kids[0]), axis_of(place.kids[1])) if place.op == "add" else (axis_of(place), "a@through")
    if value.axes == ("x", tau):
        of = value.of
        table = Value(("x", s, a), lambda scope: scope["mdp"].subtree_sum(of(scope)))
        if value.log is not None:
            table = replace(table, log=lambda scope: ax.log(table.of(scope)))
    else:
        with m.masking():
            table = reduced(np.sum, m.product(_passes(s, a, tau), value), (tau,))
    return table if place.op == "add" else reduced(np.sum, table, (a,))


@rule("prod")
def _prod(m: Meaning, node: Node) -> Value:
    """exp of the sum of logarithms."""
    value = body_of(m, node)
    if value.log is None:
        raise m.refusal(node, "a product must be of what is never negative", "write probabilities")
    logs = Value(value.axes, value.log, None, None, value.implicit)
    for over in reversed(node.kids[1:]):
        logs = _summed(m, node, logs, over)
    log = logs.of
    return Value(logs.axes, lambda scope: np.exp(log(scope)), log, None, logs.implicit)


EXTREMES: dict[str, tuple[Callable[..., Any], float]] = {"maxover": (np.max, -np.inf), "minover": (np.min, np.inf)}


@rule(*EXTREMES)
def _extreme(m: Meaning, node: Node) -> Value:
    """The largest over an index where a condition holds; where there is none, over the responses that the reference allows."""
    if len(node.kids) > 1 and node.kids[1].op == "objective":
        m.lexicon.assumed[str(node.kids[1].value)] = "not taken: the objective itself, at the policy that the letters mean"
        return m(node.kids[0])
    f, end = EXTREMES[node.op]
    value = body_of(m, node)
    conditions = [over.kids[1] for over in node.kids[1:] if over.op == "such"]
    for condition in conditions:
        with m.masking():
            value = binary(lambda holds, x: np.where(plain(holds) > 0, x, end), m(condition), value)
    names = [str(n.value) for n in bound(node)] or [a for a in value.axes if axis_kind(a) == "tau"]
    for axis in names:
        if axis not in value.axes:
            raise m.refusal(node, f"an extreme must be over what occurs in it: there is no {axis}", "write the index")
        value = reduced(f, value if conditions else _possible(m, value, axis, end), (axis,))
    if not names:
        raise m.refusal(node, "an extreme must be over an index, or of several numbers", "write max_tau r(tau), or max(0, x)")
    return value


def _possible(m: Meaning, value: Value, axis: str, end: float) -> Value:
    """Responses that the reference forbids do not count; rewards of a group are none of a prompt's."""
    if axis_kind(axis) != "tau" or "x" not in value.axes:
        return value
    allowed = Value(("x", axis), lambda scope: np.isneginf(plain(scope["log_p_ref"])))
    return binary(lambda forbidden, x: np.where(forbidden, end, x), allowed, value)


@rule("argmax", "argmin")
def _arg(m: Meaning, node: Node) -> Value:
    """The number of the response (or token) that is best."""
    value = body_of(m, node)
    names = [str(n.value) for n in bound(node)] or [a for a in value.axes if axis_kind(a) == "tau"]
    if len(names) != 1 or names[0] not in value.axes:
        raise m.refusal(node, f"an {node.op} must be over one index that occurs", "write argmax_tau r(tau)")
    f = np.argmax if node.op == "argmax" else np.argmin
    possible = _possible(m, value, names[0], -np.inf if node.op == "argmax" else np.inf)
    return reduced(lambda x, axis: f(plain(x), axis=axis), possible, (names[0],))


@rule("binom")
def _binom(m: Meaning, node: Node) -> Value:
    """How many ways there are to choose k of n."""
    from scipy.special import binom

    n, k = map(m, node.kids)
    return binary(binom, n, k)
