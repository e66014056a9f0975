r"""What a tree means: a `Value` with named axes, made once; the arithmetic of it, letters and definitions.

Each op of the tree has one rule, entered by `@rule("add", ...)`; `indices.py`, `sums.py`, `laws.py` and `slopes.py` enter the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.errors import InputError, as_number
from tabular_rlhf.formula import axes as ax
from tabular_rlhf.formula.axes import Value, binary, constant, unary
from tabular_rlhf.formula.lexicon import Lexicon
from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.tokens import refuse
from tabular_rlhf.formula.tree import Node, walk
from tabular_rlhf.logspace import log_sigmoid

SETTING = {"law": "p", "prompts": "mu", "pairs": "p_ref", "people": "P_beats", "tokens": "pi"}
"""The laws of a mean that names none."""
Rule = Callable[["Meaning", Node], Value]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Enter the decorated function as the meaning of some ops."""

    def enter(f: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, f))
        return f

    return enter


class Meaning:
    """Makes values of trees.

    text: what the tree was read from, to show a place; lexicon: what letters mean; setting: the laws that a mean without one is under
    ("law", "prompts", "pairs"); careful: whether zeros and infinities are masked (see `axes`).
    """

    def __init__(self, text: str, lexicon: Lexicon, setting: dict[str, str], *, careful: bool) -> None:
        self.text, self.lexicon, self.setting, self.careful = text, lexicon, setting, careful
        self.local: dict[str, Value | Node] = {}
        self.deep: list[str] = []
        self.spans: set[tuple[str, ...]] = set()  # the axes of all tables that are made on the way
        self.within = False  # whether this is the formula that a letter is bound to
        self.bare: dict[str, str] = {}  # names of the axes that letters without indices have here

    def __call__(self, node: Node) -> Value:
        try:
            value = RULES[node.op](self, node)
            self.spans.add(value.axes)
            return value
        except InputError as e:
            if e.where or not self.text:
                raise
            raise self.refusal(node, f"{e.must} (got {e.got})", e.remedy) from None

    def refusal(self, node: Node, must: str, remedy: str) -> InputError:
        if node.end == 0:  # of a definition that stands elsewhere
            return InputError(must, got=say(node), remedy=remedy)
        return refuse(self.text, node.start, node.end, must, remedy)

    @contextmanager
    def where(self, **names: Value | Node) -> Iterator[None]:
        """Names of its own, for a while."""
        before = dict(self.local)
        self.local.update(names)
        try:
            yield
        finally:
            self.local = before

    @contextmanager
    def masking(self) -> Iterator[None]:
        """Careful arithmetic for a while: where a nan would not be seen, as in a comparison."""
        before, self.careful = self.careful, True
        try:
            yield
        finally:
            self.careful = before

    @property
    def mul(self) -> Callable[[Any, Any], Any]:
        return ax.times if self.careful else np.multiply

    @property
    def sub(self) -> Callable[[Any, Any], Any]:
        return ax.minus if self.careful else np.subtract

    def product(self, a: Value, b: Value) -> Value:
        return binary(self.mul, a, b, ax.log_times if self.careful else np.add)

    def letter(self, name: str, node: Node) -> Value:
        """What a letter means here: a definition of the formula, a binding, a symbol."""
        local = self.local.get(name)
        if isinstance(local, Value):
            return local
        if local is not None:
            own = [str(k.value) for k in local.kids[1:]]
            if any(index not in ("x", "tau", "s", "a") for index in own) and node.op == "sym":
                raise self.refusal(node, f"{name} is defined at {', '.join(own)}, and must be written at such", f"write {name}_{own[0]}")
            return self.definition(name, local)
        text = self.lexicon.text_of(name)
        if text is not None and not (self.within and self.lexicon.is_symbol(name)):  # a binding speaks of the subject's own letters
            return self.bound(name, text, node)
        value = self.lexicon.value(name)
        if value is None:
            error = self.lexicon.unknown(name)
            raise self.refusal(node, error.must, error.remedy)
        return value

    def setting_law(self, kind: str) -> Value:
        """A law of the setting: by default the subject's own, whatever its letter is bound to in a paper."""
        name = self.setting[kind]
        own = self.lexicon.symbol(name) if name == SETTING[kind] and isinstance(self.lexicon.bound.get(name), str) else None
        return self.letter(name, Node("sym", (), name)) if own is None else own

    def definition(self, name: str, let: Node) -> Value:
        """The value of a `let` without arguments, or at the indices that it was defined with."""
        if name in self.deep:
            raise self.refusal(let, "a letter must not be defined by itself", "define it by others")
        self.deep.append(name)
        try:
            return self(let.kids[0])
        finally:
            self.deep.pop()

    def bound(self, name: str, text: str, node: Node) -> Value:
        """The value of a letter that stands for another formula."""
        from tabular_rlhf.formula.read import read  # the reader knows nothing of meanings, and this is the one formula within another

        if name in self.deep:
            raise self.refusal(node, "a letter must not be bound to itself", "bind it to others")
        self.deep.append(name)
        outer, self.text = self.text, text
        local, self.local = self.local, {}
        within, self.within = self.within, name in self.lexicon.bound
        try:
            value = self(Node("sym", (), text) if self.lexicon.is_symbol(text) else read(text, letters=self.lexicon.bound))
            self.lexicon.assumed[name] = text
            return value
        finally:
            self.text, self.local, self.within = outer, local, within
            self.deep.pop()


# ---------------------------------------------------------------------------------------------------- letters and numbers


@rule("num")
def _num(m: Meaning, node: Node) -> Value:
    return constant(as_number(node.value))


@rule("sym")
def _sym(m: Meaning, node: Node) -> Value:
    value = m.letter(str(node.value), node)
    value = value.renamed(m.bare) if m.bare else value
    return replace(value, implicit=frozenset(value.axes))


@rule("index")
def _index(m: Meaning, node: Node) -> Value:
    """An index as a number: of a range."""
    value = m.local.get(f"#{node.value}")
    if not isinstance(value, Value):
        raise m.refusal(
            node, "an index must run over numbers to be one", f"write sum_{{{node.value}=1}}^{{H}}, or a letter at {node.value}"
        )
    return value


@rule("where")
def _where(m: Meaning, node: Node) -> Value:
    body, *lets = node.kids
    with m.where(**{str(let.value): let for let in lets}):
        return m(body)


# ---------------------------------------------------------------------------------------------------- arithmetic


@rule("add")
def _add(m: Meaning, node: Node) -> Value:
    a, b = terms(m, node)
    return binary(np.add, a, b, np.logaddexp)


@rule("sub")
def _sub(m: Meaning, node: Node) -> Value:
    a, b = terms(m, node)
    if b.rest is not None and node.kids[0].op == "num" and node.kids[0].value == 1:
        rest = b.rest
        return replace(b, of=lambda scope: np.exp(rest(scope)), log=rest, rest=b.log, law=None)
    return binary(m.sub, a, b)


def terms(m: Meaning, node: Node) -> list[Value]:
    """The two terms of a sum.  Beside a mean over prompts, a divergence that stands outside of it is meant as a mean over prompts, too."""
    values = [m(kid) for kid in node.kids]
    for k, (value, kid) in enumerate(zip(values, node.kids, strict=True)):
        other = node.kids[1 - k]
        if value.axes == ("x",) and holds(kid, ("KL", "H")) and not values[1 - k].axes and averages_prompts(other):
            m.lexicon.assumed["KL outside of the mean"] = f"averaged over prompts, by {m.setting['prompts']}"
            law = m.setting_law("prompts")
            values[k] = ax.reduced(np.sum, m.product(law, value), ("x",))
    return values


def holds(node: Node, ops: tuple[str, ...]) -> bool:
    return any(n.op in ops for _, n in walk(node))


def averages_prompts(node: Node) -> bool:
    """Whether a mean over prompts is written in a formula: E_{x ~ D}, E_mu."""
    draws = [n for _, n in walk(node) if n.op == "draw"]
    return any("x" in str(d.value).split() or any(n.value == "mu" for _, n in walk(d)) for d in draws)


@rule("mul")
def _mul(m: Meaning, node: Node) -> Value:
    return m.product(m(node.kids[0]), m(node.kids[1]))


@rule("div")
def _div(m: Meaning, node: Node) -> Value:
    a, b = map(m, node.kids)
    value = binary(ax.over if m.careful else np.divide, a, b, m.sub)
    log = value.log
    return replace(value, of=lambda scope: np.exp(log(scope))) if m.careful and log is not None else value  # inf/inf may be a number


@rule("pow")
def _pow(m: Meaning, node: Node) -> Value:
    a, power = m(node.kids[0]), node.kids[1]
    if power.op == "num" and power.value == 2:
        value = unary(np.square, a)
    elif power.op == "num" and isinstance(power.value, int):
        exponent = float(power.value)
        value = unary(lambda x: np.power(x, exponent), a)
    else:
        value = binary(np.power, a, m(power))
    if a.log is None:
        return value
    return replace(value, log=binary(m.mul, Value(a.axes, a.log), m(power)).of)


@rule("exp")
def _exp(m: Meaning, node: Node) -> Value:
    a = m(node.kids[0])
    return replace(unary(np.exp, a), log=a.of)


@rule("log")
def _log(m: Meaning, node: Node) -> Value:
    a = m(node.kids[0])
    return Value(a.axes, a.log, None, None, a.implicit) if a.log is not None else unary(ax.log if m.careful else np.log, a)


@rule("sigma")
def _sigma(m: Meaning, node: Node) -> Value:
    a = m(node.kids[0])
    return replace(unary(lambda x: np.exp(log_sigmoid(x)), a, log_sigmoid), rest=lambda scope: log_sigmoid(-a.of(scope)))


ENTRYWISE: dict[str, Callable[[Any], Any]] = {"neg": np.negative, "sqrt": np.sqrt, "arcsin": np.arcsin}


@rule(*ENTRYWISE)
def _entrywise(m: Meaning, node: Node) -> Value:
    return unary(ENTRYWISE[node.op], m(node.kids[0]))


@rule("abs")
def _abs(m: Meaning, node: Node) -> Value:
    a = m(node.kids[0])
    logits = tuple(axis for axis in a.axes if axis.endswith("."))
    if logits:  # the length of a gradient
        return unary(np.sqrt, ax.reduced(np.sum, unary(np.square, a), logits))
    return unary(np.abs, a)


@rule("min", "max")
def _extreme(m: Meaning, node: Node) -> Value:
    f = np.minimum if node.op == "min" else np.maximum
    return reduce(partial(binary, f), map(m, node.kids))


@rule("clip")
def _clip(m: Meaning, node: Node) -> Value:
    a, low, high = map(m, node.kids)
    return binary(np.minimum, binary(np.maximum, a, low), high)


# ---------------------------------------------------------------------------------------------------- conditions

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


@rule(*COMPARE)
def _compare(m: Meaning, node: Node) -> Value:
    """1 where a relation holds; of two indices: whether they are the same one."""
    f = COMPARE[node.op]
    with m.masking():
        a, b = (places(m, kid) if kid.op == "index" and f"#{kid.value}" not in m.local else m(kid) for kid in node.kids)
    holds = binary(lambda p, q: f(plain(p), plain(q)) * 1.0, a, b)
    return replace(holds, log=lambda scope: ax.log(holds.of(scope)))


def places(m: Meaning, node: Node) -> Value:
    """The positions that an index runs through; of a step, the depths of the states where it can be."""
    axis = str(node.value)
    if ax.axis_kind(axis) == "time":
        return Value((f"s@{axis}",), lambda scope: depths(scope["mdp"]))
    if not ax.axis_kind(axis):
        raise m.refusal(node, "an index must run over something to be compared", "write tau, s, a, or a range")
    return Value((axis,), lambda scope: np.arange(length(axis, scope)))


def depths(mdp: Any) -> Any:
    """How many tokens every state has."""
    return np.concatenate([np.full(mdp.width(h), h) for h in range(mdp.H)])


def length(axis: str, scope: Any) -> int:
    """How long an axis is."""
    if ax.axis_kind(axis) == "c":
        return int(scope["tied"].shape[0])
    return int(getattr(scope["mdp"], {"x": "P", "tau": "N", "s": "S", "a": "V"}[ax.axis_kind(axis)]))


@rule("ind")
def _ind(m: Meaning, node: Node) -> Value:
    return m(node.kids[0])
