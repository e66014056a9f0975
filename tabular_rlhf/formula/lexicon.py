r"""What a letter means: a symbol of the subject, a table or a formula that it is bound to, or one of a few definitions.

    Lexicon({"mu": "...", "r_phi": table, "old": "p_2"})

By default a letter is the symbol of its name (`tabular-rlhf symbols`); what was assumed is written down as it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, did_you_mean, quoted
from tabular_rlhf.formula import axes as ax
from tabular_rlhf.formula.axes import Value, axis_kind
from tabular_rlhf.formula.spellings import table
from tabular_rlhf.formula.tree import Node, walk
from tabular_rlhf.symbols import SYMBOLS, parameters

NAMES: Mapping[str, str] = table(
    "V V_soft , Q Q_soft , Phi phi , n draws , epsilon eps , score , r_hat scores , pi_old pi_behavior , T H"
    " , D , p_n p_best_of_n , p_hat , c shift , r' proxy"
)
"""Letters that are another name of a symbol."""
DEFINED: Mapping[str, str] = {
    "F": "p_ref(r <= r(tau))",
    "F_-": "p_ref(r < r(tau))",
    "k_1": "log(p/p_ref)",
    "k_2": "log(p/p_ref)^2/2",
    "k_3": "p_ref/p - 1 - log(p_ref/p)",
    "p_behavior": "prod_t pi_behavior(a_t | s_t)",
    "p_old": "prod_t pi_behavior(a_t | s_t)",
    "Q_pi": "E_p[r | s, a]",
    "V_pi": "E_p[r | s]",
    "A_pi": "E_p[r | s, a] - E_p[r | s]",
}
"""Letters that are defined by a formula."""
POSITIVE = {"beta", "lengths", "draws", "G", "eta", "V", "H", "K", "P", "S", "N"}
SUMS_TO_ONE: Mapping[tuple[str, ...], str] = {("x", "tau"): "tau", ("x", "s", "a"): "a", ("c", "a"): "a", ("x",): "x"}
"""The axis along which a law of these axes sums to one."""


@cache
def by_chance(name: str) -> bool:
    """Whether a symbol is drawn, or computed from one that is.

    >>> by_chance("p"), by_chance("p_star")
    (True, False)
    """
    return SYMBOLS[name].drawn or any(by_chance(need) for need in parameters(SYMBOLS[name].compute) if need in SYMBOLS)


class Lexicon:
    """The meanings of letters, those bound by a caller first, and what was looked up."""

    def __init__(self, bound: Mapping[str, Any] | None = None) -> None:
        self.bound = dict(bound or {})
        self.assumed: dict[str, str] = {}

    def text_of(self, name: str) -> str | None:
        """The formula that a letter stands for, if it stands for one."""
        if name in self.bound:
            return self.bound[name] if isinstance(self.bound[name], str) and self.bound[name] != name else None
        return None if name in SYMBOLS or NAMES.get(name, name) in SYMBOLS else DEFINED.get(name)

    def is_symbol(self, name: str) -> bool:
        """Whether a letter means something of itself, whatever it is bound to."""
        return name == "Z" or any(n in SYMBOLS or f"log_{n}" in SYMBOLS for n in (name, NAMES.get(name, name)))

    def value(self, name: str) -> Value | None:
        """The value of a letter; None for one that nobody knows."""
        if name in self.bound and not isinstance(self.bound[name], str):
            return self.table(name, self.bound[name])
        if name == "Z":
            return Value(("x",), lambda scope: np.exp(scope["log_Z"]), lambda scope: scope["log_Z"])
        known = name if self.bound.get(name) == name else NAMES.get(name, name)
        found = self.symbol(known)
        if found is None and known != name:
            found = self.symbol(name)
        if found is not None:
            self.assume(name, known)
        return found

    def knows(self, name: str) -> bool:
        """Whether a letter means anything.

        >>> Lexicon().knows("p_star"), Lexicon().knows("zeta")
        (True, False)
        """
        return self.text_of(name) is not None or self.value(name) is not None

    def assume(self, name: str, known: str) -> None:
        symbol = SYMBOLS.get(known) or SYMBOLS.get(f"log_{known}")
        if symbol is not None:
            self.assumed[name] = symbol.meaning + (" (drawn)" if by_chance(symbol.name) else "")

    def symbol(self, name: str) -> Value | None:
        """A symbol, or the exponential of one that is kept as a logarithm."""
        symbol, log = SYMBOLS.get(name), SYMBOLS.get(f"log_{name}")
        whole = symbol if symbol is not None else log
        if whole is None or whole.axes is None:
            return None
        of, logs = (lambda scope: scope[name]), None
        if log is not None:
            logs = lambda scope: scope[f"log_{name}"]  # noqa: E731
        elif whole.unit == "probability" or name in POSITIVE:
            logs = lambda scope: ax.log(scope[name])  # noqa: E731
        if symbol is None:
            of = lambda scope: np.exp(scope[f"log_{name}"])  # noqa: E731
        if whole.shape == "(P, 1)":
            return Value(("x",), lambda scope: scope[name][:, 0])
        is_law = "probability" in whole.unit and not name.startswith(("log_", "d_"))
        return Value(whole.axes, of, logs, SUMS_TO_ONE.get(whole.axes) if is_law else None)

    def table(self, name: str, given: Any) -> Value:
        """A number, or a table that a caller gives: its axes are told from its shape by who puts it into the scope (`shaped`)."""
        axes = given.axes
        of = lambda scope: scope[name]  # noqa: E731
        logs = (lambda scope: ax.log(scope[name])) if given.positive else None
        self.assumed[name] = f"given, over ({', '.join(axes)})" if axes else f"{given.shown}"
        return Value(axes, of, logs, given.law)

    def unknown(self, name: str) -> InputError:
        symbols = [s for s, symbol in SYMBOLS.items() if symbol.axes is not None]
        known = {*symbols, *(s.removeprefix("log_") for s in symbols), *NAMES, *DEFINED, *self.bound}
        remedy = did_you_mean(name, known, "bind it to a table, a number or a formula, or define it behind \\quad")
        if f"{name}_pi" in DEFINED:
            remedy = f"write {name}_pi for that of the policy"
        return InputError("a letter must mean something", got=quoted(name), remedy=remedy)


class Given:
    """A table as a caller gives it: its axes, whether it is a law, whether it is nowhere negative."""

    def __init__(self, table: Any, mdp: Any, name: str, axes: tuple[str, ...] | None = None) -> None:
        array = np.asarray(table, dtype=np.float64)
        self.array, self.shown = array, str(table) if array.ndim == 0 else f"a table of shape {array.shape}"
        hinted = axes if axes is not None and len(axes) == array.ndim else None
        self.axes = hinted if hinted is not None else self.told(mdp, name)
        self.positive = bool(np.all(array >= 0))
        law = SUMS_TO_ONE.get(self.axes)
        sums = self.positive and law is not None and bool(np.allclose(array.sum(axis=-1), 1.0, atol=1e-9))
        self.law = law if sums else None

    def told(self, mdp: Any, name: str) -> tuple[str, ...]:
        """The axes that a shape must mean: responses before states, where the two are as many."""
        if mdp is None:
            return ((), ("i",), ("x", "tau"), ("x", "s", "a"))[self.array.ndim]
        P, N, S, V, shape = mdp.P, mdp.N, mdp.S, mdp.V, self.array.shape
        shapes = [((), ()), (("x", "tau"), (P, N)), (("x", "s", "a"), (P, S, V)), (("x", "tau", "tau'"), (P, N, N)), (("x", "s"), (P, S))]
        shapes += [(("x",), (P,)), (("tau",), (N,)), (("tau", "tau'"), (N, N))]
        for axes, size in shapes:
            if shape == size:
                return axes
        if len(shape) == 1:
            return ("i",)
        remedy = f"give (P, N) = {(P, N)}, (P, S, V) = {(P, S, V)}, (P, S) = {(P, S)}, (P,) = {(P,)}, or a number"
        raise InputError("a table must be of prompts, responses, states or tokens", got=f"shape {shape}", where=name, remedy=remedy)


def used_at(trees: Iterable[Node], name: str) -> tuple[str, ...] | None:
    """The axes that a letter's indices in a formula tell: of a group (i), of states (x, s), of tokens (x, s, a); None if they do not."""
    for tree in trees:
        for _, node in walk(tree):
            inside = node.kids[0] if node.kids else node
            if node.op in ("mean", "std") and inside.op == "sym" and inside.value == name:
                return ("i",)
            if node.op == "at" and inside.value == name:
                kinds = [axis_kind(str(k.value)) for k in node.kids[1:] if k.op == "index"]
                if "s" in kinds:
                    return ("x", "s", "a") if "a" in kinds else ("x", "s")
    return None
