r"""The tables: which operations have a rule, which are written with others, and whose answers are plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SMALL = 1 << 12
"""Arrays up to this many elements are kept on the tape as they are: forgetting them would cost more than it saves."""


class Blank:
    """What is left on the tape of an array whose values no rule reads: its shape."""

    __slots__ = ("ndim", "shape", "size")

    def __init__(self, x: Any) -> None:
        self.shape, self.ndim, self.size = x.shape, x.ndim, x.size


@dataclass(frozen=True, slots=True)
class Rule:
    """How a sensitivity passes back through one operation.

    `vjp(position)` gives the function `(g, out, *args, **kwargs) -> g for that argument`, or None where there is none.
    `broadcasts` says that arguments were broadcast, so that what comes back must be summed to the argument's shape.
    `keeps` says which values the rule reads: "all", "shapes" (none), "out" (the result) or "others" (the arguments beside the
    one in question).  The tape holds no others, so memory is free again as soon as the program has no use for it.
    `overwrites` says that the rule takes a keyword overwrite, True when g is nobody else's and may be written over.
    """

    vjp: Callable[[int], Callable[..., Any] | None]
    broadcasts: bool = False
    keeps: str = "all"
    overwrites: bool = False


RULES: dict[Any, Rule] = {}
COMPOSITES: dict[Any, Callable[..., Any]] = {}
"""Operations written with other traced operations; they need no rule of their own."""
PLAIN: set[Any] = set()
"""Operations whose answer is discrete (comparisons, shapes, positions): computed on the plain values."""


def shape_of(x: Any) -> tuple[int, ...]:
    try:
        return x.shape
    except AttributeError:
        return ()


def elementwise(func: Any, *vjps: Callable[..., Any] | None, keeps: str = "all") -> None:
    """Register a broadcasting operation: one `(g, y, *args) -> g` an argument, None where it has no gradient."""
    RULES[func] = Rule(vjps.__getitem__, True, keeps)


def structural(func: Any, *vjps: Callable[..., Any] | None, keeps: str = "all", overwrites: bool = False) -> None:
    """Register an operation whose rule returns the argument's own shape; further arguments have no gradient."""
    RULES[func] = Rule(lambda i: vjps[i] if i < len(vjps) else None, keeps=keeps, overwrites=overwrites)


def variadic(func: Any, vjp: Callable[[int], Callable[..., Any]]) -> None:
    """Register an operation with any number of array arguments: `vjp(position)` makes the rule."""
    RULES[func] = Rule(vjp)
