r"""Derivatives: nabla, in the policy's logits; d/dz, in a letter, with everything that depends on it.

A derivative is of the closure itself, by the gradient core: the letter is replaced by a traced array (`scopes.Varied`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.formula import axes as ax
from tabular_rlhf.formula.axes import Value
from tabular_rlhf.formula.indices import axis_of
from tabular_rlhf.formula.lexicon import NAMES
from tabular_rlhf.formula.meaning import Meaning, rule
from tabular_rlhf.formula.scopes import Varied
from tabular_rlhf.formula.tree import Node, walk
from tabular_rlhf.symbols import SYMBOLS, Scope

LOGITS = {"x": "x.", "s": "s.", "a": "a."}
"""The axes of a table of tokens, and those of a gradient in the logits."""


@rule("grad")
def _gradient(m: Meaning, node: Node) -> Value:
    """The gradient in the logits of every prompt, state and token: three more axes, behind those of the body."""
    value = m(node.kids[0])
    if any(a.endswith(".") for a in value.axes):
        raise m.refusal(node, "a gradient must be of what is none itself", "write one nabla")
    of, key = value.of, ("nabla", node.kids[0], m.careful)
    plainly = not any(n.value in m.local or n.value in m.lexicon.bound for _, n in walk(node) if n.op == "sym")

    def slopes(scope: Any) -> Any:
        memo = scope.memo if plainly and isinstance(scope, Scope) else {}  # of the subject's own letters: once a world
        if key not in memo:
            memo[key] = rows(lambda logits: of(Varied(scope, {"logits": logits})), scope["logits"])
        return memo[key]

    return Value((*value.axes, "x.", "s.", "a."), slopes, None, None, value.implicit)


@rule("inner")
def _inner(m: Meaning, node: Node) -> Value:
    """<f, g> of two gradients, or of one and a direction in the logits: the sum over the logits of their product."""
    pair = [value.renamed(LOGITS) if set(value.axes) == set(LOGITS) else value for value in map(m, node.kids)]
    if not all(set(LOGITS.values()) <= set(value.axes) for value in pair):
        raise m.refusal(node, "an inner product must be of gradients", r"write \langle \nabla f, \nabla g \rangle")
    return ax.reduced(np.sum, m.product(*pair), tuple(LOGITS.values()))


def rows(f: Any, x: Any) -> Any:
    """The derivative of every entry of f(x) in x."""
    from tabular_rlhf.autodiff import vjp

    y, back = vjp(f, np.asarray(x, dtype=np.float64) if not hasattr(x, "tape") else x)
    shape = np.shape(plain(y))
    if not shape:
        return back(np.ones(()))
    units = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return np.reshape(np.concatenate([np.reshape(back(unit), (1, *np.shape(plain(x)))) for unit in units]), (*shape, *np.shape(plain(x))))


@rule("diff")
def _derivative(m: Meaning, node: Node) -> Value:
    """d/dz of a letter: a number, a table entry by entry, or a letter that the formula defines."""
    body, variable = node.kids
    head = variable.kids[0] if variable.op == "at" else variable
    name = str(head.value)
    own = name in m.local
    base = m(variable) if own else m.letter(name, head)
    text = m.lexicon.text_of(name)
    if text is not None and not own and not m.lexicon.is_symbol(text):
        raise m.refusal(node, f"a derivative must be in a letter, and {name} stands for {text}", "define it behind \\quad")
    known = text or name
    key = f"own {name}" if own else NAMES.get(known, known)
    if own:
        with m.where(**{name: Value(base.axes, lambda scope: scope[key])}):
            value = m(body)
    else:
        value = m(body)
        names = [axis_of(k) for k in variable.kids[1:]]
        held = [a for a in base.axes if a != "x"]
        base = base.renamed(dict(zip(held, [n for n in names if n != "x"], strict=False)))
    if variable.op == "sym" and value.axes == base.axes:
        return Value(value.axes, _entrywise(value, base, key), None, None, value.implicit)
    shared = tuple(a for a in value.axes if a == "x" and a in base.axes)
    if set(value.axes) & set(base.axes) - set(shared):
        raise m.refusal(node, "a derivative must be in another index than its body has", f"the body is over ({', '.join(value.axes)})")
    return _jacobian(value, base, key, bool(shared))


def _overlay(key: str, x: Any) -> dict[str, Any]:
    """What a letter's new value replaces: its logarithm, too, where that is kept beside it."""
    if f"log_{key}" not in SYMBOLS:
        return {key: x}
    return {f"log_{key}": ax.log(x), **({key: x} if key in SYMBOLS else {})}


def _entrywise(value: Value, base: Value, key: str) -> Any:
    def slope(scope: Any) -> Any:
        from tabular_rlhf.autodiff import grad

        return grad(lambda x: np.sum(value.of(Varied(scope, _overlay(key, x)))))(base.of(scope))

    return slope


def _jacobian(value: Value, base: Value, key: str, by_prompt: bool) -> Value:
    """By prompt: what one prompt says does not depend on the table of another."""
    of, letter = value.of, base.of

    def slope(scope: Any) -> Any:
        def f(x: Any) -> Any:
            y = of(Varied(scope, _overlay(key, x)))
            return np.sum(y, axis=0) if by_prompt else y

        x = letter(scope)
        table = rows(f, x)
        return np.moveaxis(table, np.ndim(table) - np.ndim(plain(x)), 0) if by_prompt else table

    left = tuple(a for a in value.axes if a != "x") if by_prompt else value.axes
    axes = (("x",) if by_prompt else ()) + left + tuple(a for a in base.axes if not (by_prompt and a == "x"))
    return Value(axes, slope, None, None, value.implicit)
