r"""A formula as a function of a world's symbols, for whoever holds functions: a line of a derivation, a side of a claim, an answer.

    printed(r"\beta \log Z")(scope)          as  (lambda beta, log_Z: beta * log_Z)  of a scope's symbols

`on_scope` says that it is called with a scope, and not with symbols by name.  It is read when it is first asked for.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.axes import fitted, merged
from tabular_rlhf.formula.compiled import Compiled, compile
from tabular_rlhf.formula.lexicon import NAMES
from tabular_rlhf.formula.read import definitions, read, statement
from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.slips import Slip, slips
from tabular_rlhf.formula.tree import Node, names, walk
from tabular_rlhf.symbols import SYMBOLS

KEPT = 256
"""Formulas whose values are kept with a world, the latest."""


@dataclass(frozen=True, eq=False)
class Side:
    """A formula, compiled; `axes`, those of the chain in which it stands; `kin`, the sides of its chain.

    Sides of one chain are compared on the axes that any of them has: a number beside a table is the same number everywhere.  What a
    world gives is kept with the world, so that after an edit only the edited line is computed again.
    """

    compiled: Compiled
    axes: tuple[str, ...]
    kin: tuple[Compiled, ...] = ()
    kept: bool = True
    on_scope = True

    def __call__(self, scope: Any) -> Any:
        value = self.spread(self.compiled, scope)
        if self.compiled.axes == self.axes:
            return value
        shapes = [np.shape(self.spread(other, scope)) for other in self.kin]
        return value + np.zeros(np.broadcast_shapes(*shapes))

    def spread(self, compiled: Compiled, scope: Any) -> Any:
        """The value of one side, with the axes that it lacks of length 1."""
        if compiled is self.compiled and not self.kept:  # an edit that is only tried
            return fitted(compiled, compiled.axes, self.axes)(scope)
        kept = scope.memo.setdefault("formulas", {})
        key = compiled.meaning, self.axes
        if key not in kept:
            if len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            kept[key] = fitted(compiled, compiled.axes, self.axes)(scope)
        return kept[key]

    @property
    def begins(self) -> bool:
        """Whether it is the first of its chain."""
        return self.compiled is self.kin[0]

    @property
    def tree(self) -> Node:
        """The tree, with the definitions that it uses."""
        return self.compiled.tree

    @cached_property
    def __signature__(self) -> inspect.Signature:
        """The symbols that it is computed from, as the parameters of a function."""
        used = names(self.tree) + tuple(
            "p" for _, node in walk(self.tree) if node.op == "E" and not any(k.op == "draw" and k.kids for k in node.kids)
        )
        known = (n for name in used for m in self._meant(name) for n in m if n in SYMBOLS)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter(n, kind) for n in dict.fromkeys(known)])

    def _meant(self, name: str) -> Iterator[tuple[str, ...]]:
        """What may be a letter's symbol; of one that is bound to a formula, those of the formula's letters."""
        what = (self.compiled.bound or {}).get(name)
        if what is None or what == name:
            yield (name, f"log_{name}", NAMES.get(name, "") if what is None else "")
        else:
            for letter in (what,) if what in SYMBOLS else names(read(what)):
                yield letter, f"log_{letter}"

    def instead(self, tree: Node) -> Side:
        """Another formula in this one's place, in the same chain."""
        made = compile(tree, self.compiled.bound, **self.compiled.setting)
        return Side(made, merged(*self.kin, made), self.kin, kept=False)


class Printed:
    """A formula that is read when it is first asked for.

    >>> from tabular_rlhf.symbols import Scope
    >>> from tabular_rlhf.world import coin
    >>> Scope(coin(), 0).call(printed(r"\\beta \\log Z")).round(4).tolist()
    [0.6201]
    """

    on_scope = True

    def __init__(self, make: Callable[[], Side]) -> None:
        self.make = make

    @cached_property
    def side(self) -> Side:
        """The formula."""
        return self.make()

    def __call__(self, scope: Any) -> Any:
        return self.side(scope)

    @property
    def __signature__(self) -> inspect.Signature:
        return self.side.__signature__

    def __str__(self) -> str:
        tree = self.side.tree
        return say(tree.kids[0] if tree.op == "where" else tree)

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process: not the slips, which are made anew there."""
        return {name: value for name, value in vars(self).items() if name != "_misprints"}

    def misprints(self) -> Iterator[tuple[Slip, Side]]:
        """Every slip of the formula that means something, and the formula with it: each is made once, when it is first asked for."""
        self._misprints, found = tee(self._misprints)
        return found

    @cached_property
    def _misprints(self) -> Iterator[tuple[Slip, Side]]:
        return self._made_misprints()

    def _made_misprints(self) -> Iterator[tuple[Slip, Side]]:
        for slip in slips(self.side.tree):
            with contextlib.suppress(InputError):  # not every rewrite means something
                yield slip, self.side.instead(slip.tree)


def printed(tex: str, letters: Mapping[str, str] | None = None) -> Printed:
    """A formula as a function of a scope.  letters: what its letters stand for, where the notation says otherwise."""

    def make() -> Side:
        bound, before = definitions(letters or {})
        said = statement(tex, letters=bound, before=before)
        made = compile(said.value, bound, said.text)
        return Side(made, made.axes, (made,))

    return Printed(make)


class Together(Printed):
    """Several formulas as one function, which returns a tuple."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        super().__init__(lambda: parts[0].side)
        self.parts = parts

    def __call__(self, scope: Any) -> Any:
        return tuple(scope.call(part) for part in self.parts)

    @property
    def __signature__(self) -> inspect.Signature:
        asked = {p.name: p for part in self.parts for p in inspect.signature(part).parameters.values()}
        return inspect.Signature(list(asked.values()))

    def __str__(self) -> str:
        return ", ".join(map(str, self.parts))

    def misprints(self) -> Iterator[tuple[Slip, Any]]:
        """Every slip of one of the formulas, beside the others as they are."""
        for k, part in enumerate(self.parts):
            for slip, wrong in part.misprints() if isinstance(part, Printed) else ():
                yield slip, type(self)((*self.parts[:k], wrong, *self.parts[k + 1 :]))


class Stacked(Together):
    """Several formulas as one table, a row each."""

    def __call__(self, scope: Any) -> Any:
        return np.stack(super().__call__(scope))
