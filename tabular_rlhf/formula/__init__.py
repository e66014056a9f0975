r"""LaTeX that runs: text -> expression tree -> value on a world -> text again.

    Formula(r"\mathbb{E}_p[r] - \beta D_{KL}(p \| p_{ref})").on(world)

| module | what it does |
|---|---|
| `tree` | one node for everything |
| `spellings`, `tokens`, `stream`, `letters`, `operators`, `binders`, `grammar`, `read` | text into a tree |
| `axes`, `lexicon`, `scopes`, `meaning`, `indices`, `sums`, `laws`, `slopes`, `compiled` | a tree into a function of a world's symbols |
| `say` | a tree into text |
| `slip_rules`, `slips` | the mistakes that people make, as rewrites of a tree |
| `examples` | the notation, executed by `tabular-rlhf formulas` |

A letter means what `tabular-rlhf symbols` says, unless it is bound; `assumed` says what was taken for what.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.compiled import Compiled, compile
from tabular_rlhf.formula.lexicon import Given, used_at
from tabular_rlhf.formula.read import Statement, definitions, key_of, read, statement
from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.scopes import Varied
from tabular_rlhf.formula.tree import Node
from tabular_rlhf.logspace import log_of
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World

__all__ = ["Compiled", "Formula", "Node", "Statement", "compile", "read", "say", "statement"]


LARGEST = 50_000_000
"""Numbers of one table: 400 MB."""


class Formula:
    r"""A formula that runs.

    Args: tex, LaTeX or plain typing; bind, letters (as they are spelled) and what they stand for: another letter or formula as text, a
    number, or a table; letters, the same by keyword.  Raises InputError for what cannot be read, with the place.

    >>> from tabular_rlhf.world import coin
    >>> f = Formula(r"\beta \log \sum_y \pi_{ref}(y|x)\, e^{r(x,y)/\beta}")
    >>> f.read_as, f.axes, f.on(coin()).round(4).tolist()
    ('beta*log(sum_{tau} pi_ref(tau | x)*exp(r(x, tau)/beta))', ('x',), [0.6201])
    """

    def __init__(self, tex: str, bind: Mapping[str, Any] | None = None, **letters: Any) -> None:
        self.tex = tex
        given = {**{key_of(k): v for k, v in (bind or {}).items()}, **letters}
        self.bind, functions = definitions(given)
        self.statement = statement(tex, letters=self.bind, before=functions)
        self.trees = self.statement.values
        self._last: list[Compiled] = []

    @property
    def tree(self) -> Node:
        """The tree of what is evaluated: of a chain of sides the last one."""
        return self.trees[0]

    @property
    def read_as(self) -> str:
        """What was read, in plain typing."""
        return "; ".join(map(say, self.trees))

    @property
    def latex(self) -> str:
        """What was read, in LaTeX."""
        return r"; \quad ".join(say(tree, latex=True) for tree in self.trees)

    @property
    def axes(self) -> tuple[str, ...]:
        """What the value is a table of: x prompts, tau responses, s states, a tokens; () for one number."""
        return self._texts[0].axes

    @property
    def assumed(self) -> dict[str, str]:
        """What each letter was taken for, in the last evaluation if there was one."""
        notes = {" ".join(map(say, c.sides)): "a condition, which was not looked at" for c in self.statement.conditions}
        return {name: what for made in self._last or self._texts for name, what in made.assumed.items()} | notes

    @cached_property
    def _texts(self) -> list[Compiled]:
        return self._made({k: v if isinstance(v, str) else Given(v, None, k, used_at(self.trees, k)) for k, v in self.bind.items()})

    def _made(self, bound: Mapping[str, Any]) -> list[Compiled]:
        return [compile(tree, bound, self.statement.text) for tree in self.trees]

    def on(self, world: Any, *, seed: int = 0, partial: bool = False, **tables: Any) -> Any:
        """The value on a world: a float, or an array over `axes`.

        Args: world; seed, of the policies that are drawn where none is given; partial, return nan where it is undefined; tables, letters
        and their arrays, probabilities for laws
        and policies: (P, N) over responses, (P, S, V) over tokens, (P,) over prompts; numbers; formulas as text.
        Raises: InputError for a table of no such shape, a letter that nobody knows, a value that is undefined (0/0).
        """
        given = {**self.bind, **tables}
        scope = _scope(world, seed, given)
        bound = {k: v if isinstance(v, str) else Given(v, scope["mdp"], k, used_at(self.trees, k)) for k, v in given.items()}
        scope = Varied(scope, {k: v.array for k, v in bound.items() if isinstance(v, Given)}) if bound else scope
        self._last = self._made(bound)
        most = max(made.needs(scope) for made in self._last)
        if most > LARGEST:
            must = f"a formula must need at most {LARGEST:,} numbers at once"
            raise InputError(must, got=f"a table of {most:,}", where=self.tex, remedy="ask for it on a smaller world")
        values = [made(scope) for made in self._last]
        found = [_checked(v, partial) for v in values]
        if len({np.shape(v) for v in found}) > 1:
            axes = ", ".join(f"({', '.join(made.axes)})" for made in self._last)
            raise InputError("formulas that are evaluated together must be over the same", got=axes, remedy="ask for them one by one")
        return found[0] if len(found) == 1 else np.stack(found)

    def __repr__(self) -> str:
        return f"Formula({self.read_as})"

    def _repr_latex_(self) -> str:
        return f"${self.latex}$"

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{html.escape(name)}: {html.escape(what)}</li>" for name, what in self.assumed.items())
        return f"<p>\\({html.escape(self.latex)}\\)</p><ul>{rows}</ul>"


def _scope(world: Any, seed: int, given: Mapping[str, Any]) -> Any:
    """The symbols of a world with some tables of its own: whatever is computed from them follows.

    A reference, a reward or beta makes another world; a policy pi, or a law p, is the one that all others of its symbols follow.
    """
    tables = {k: np.asarray(v, dtype=np.float64) for k, v in given.items() if not isinstance(v, str)}
    if not isinstance(world, Varied):
        inner = world.world if isinstance(world, Scope) else world
        other = _world(inner, tables)
        world = world if isinstance(world, Scope) and other is inner else Scope(other, world.seed if isinstance(world, Scope) else seed)
    base = {"logits": log_of(tables["pi"])} if "pi" in tables else {}
    base |= {f"log_{name}": log_of(tables[name]) for name in ("p", "p_ref") if name in tables}
    return Varied(world, base) if base else world


def _world(world: World, tables: Mapping[str, Any]) -> World:
    """The world with another reference, reward or KL weight, where these are given."""
    if "pi_ref" in tables and tables["pi_ref"].shape == world.log_ref.shape:
        world = replace(world, log_ref=log_of(tables["pi_ref"]))
    if "r" in tables and tables["r"].shape == world.r.shape:
        world = world.with_reward(tables["r"])
    return world.at(float(tables["beta"])) if "beta" in tables and tables["beta"].ndim == 0 else world


def _checked(value: Any, partial: bool) -> Any:
    value = np.asarray(value, dtype=np.float64)
    if np.isnan(value).any() and not partial:
        first = tuple(int(i) for i in np.argwhere(np.isnan(value))[0])
        remedy = "average it under a law that is 0 there, or ask for partial=True"
        raise InputError("a formula must be defined everywhere", got="0/0, or inf - inf", where=f"at {first}", remedy=remedy)
    return float(value) if value.ndim == 0 else value
