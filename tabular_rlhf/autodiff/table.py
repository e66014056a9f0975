r"""The tables: which operations have a rule, which are written with others, and whose answers are plain."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SMALL = 1 << 12
"""Arrays up to this many elements are kept on the tape as they are: forgetting them would cost more than it saves."""


class Blank:
    """What is left on the tape of an array whose values no rule reads: its shape."""

    __slots__ = ("ndim", "shape", "size")

    def __init__(self, x: Any) -> None:
        self.shape, self.ndim, self.size = x.shape, x.ndim, x.size


def keep(a: Any) -> Any:
    """`a` as the tape keeps it: what the program may write to later is copied now, what is read-only is not."""
    if isinstance(a, np.ndarray):
        return a.copy("K") if a.flags.writeable or _writable(a.base) else a
    if type(a) is tuple or type(a) is list:  # of arrays, as an index may be
        return type(a)(map(keep, a))
    return a


def _writable(a: Any) -> bool:
    while isinstance(a, np.ndarray):
        if a.flags.writeable:
            return True
        a = a.base
    return False


@dataclass(frozen=True, slots=True)
class Takes:
    """The arguments that a rule or a composite understands: `most` by position, and those `named` by keyword (None: any)."""

    most: float
    named: frozenset[str] | None


ANYTHING = Takes(math.inf, None)


def takes(f: Callable[..., Any] | None, skip: int = 0) -> Takes:
    """What `f` says of itself in its signature, without its first `skip` parameters."""
    if f is None:
        return ANYTHING
    try:
        parameters = list(inspect.signature(f).parameters.values())[skip:]
    except (TypeError, ValueError):  # compiled functions do not say
        return ANYTHING
    kinds = {p.kind for p in parameters}
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return Takes(
        math.inf if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional),
        None if inspect.Parameter.VAR_KEYWORD in kinds else named,
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """How a sensitivity passes back through one operation.

    `vjp(position)` gives the function `(g, out, *args, **kwargs) -> g for that argument`, or None where there is none.
    `broadcasts` says that arguments were broadcast, so that what comes back must be summed to the argument's shape.
    `keeps` says which values the rule reads: "all", "shapes" (none), "out" (the result) or "others" (the arguments beside the
    one in question).  The tape holds no others, so memory is free again as soon as the program has no use for it.
    `overwrites` says that the rule takes a keyword overwrite, True when g is nobody else's and may be written over.
    `name` is the operation's, for messages; `takes` is what the rule understands (see `Takes`), and the rest is refused.
    """

    vjp: Callable[[int], Callable[..., Any] | None]
    broadcasts: bool = False
    keeps: str = "all"
    overwrites: bool = False
    name: str = "this operation"
    takes: Takes = ANYTHING


RULES: dict[Any, Rule] = {}
COMPOSITES: dict[Any, Callable[..., Any]] = {}
"""Operations written with other traced operations; they need no rule of their own."""
PLAIN: set[Any] = set()
"""Operations whose answer is discrete (comparisons, shapes, positions): computed on the plain values."""


def shape_of(x: Any) -> tuple[int, ...]:
    if type(x) is float:
        return ()
    try:
        return x.shape
    except AttributeError:
        return np.shape(x)


def name_of(func: Any) -> str:
    module = getattr(func, "__module__", None) or ("numpy" if isinstance(func, np.ufunc) else "")
    return f"{module}.{getattr(func, '__name__', func)}".lstrip(".")


def _rule(func: Any, vjp: Callable[[int], Any], like: Callable[..., Any] | None, **traits: Any) -> None:
    RULES[func] = Rule(vjp, name=name_of(func), takes=takes(like, skip=2), **traits)


def _first(vjps: tuple[Callable[..., Any] | None, ...]) -> Callable[..., Any] | None:
    return next((f for f in vjps if f is not None), None)


def elementwise(func: Any, *vjps: Callable[..., Any] | None, keeps: str = "all") -> None:
    """Register a broadcasting operation: one `(g, y, *args) -> g` an argument, None where it has no gradient."""
    _rule(func, vjps.__getitem__, _first(vjps), broadcasts=True, keeps=keeps)


def structural(func: Any, *vjps: Callable[..., Any] | None, keeps: str = "all", overwrites: bool = False) -> None:
    """Register an operation whose rule returns the argument's own shape; further arguments have no gradient."""
    _rule(func, lambda i: vjps[i] if i < len(vjps) else None, _first(vjps), keeps=keeps, overwrites=overwrites)


def variadic(func: Any, vjp: Callable[[int], Callable[..., Any]]) -> None:
    """Register an operation with any number of array arguments: `vjp(position)` makes the rule."""
    _rule(func, vjp, vjp(1))
