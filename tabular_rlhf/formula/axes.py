r"""Values with named axes: operators align axes by name, and say what is wrong in axes, not in numbers.

A value is what a formula means before a world is given: the names of its axes, and functions from a scope (name -> array) to an array
whose axes are in that order.

| axis | runs over |
|---|---|
| x, x' | prompts |
| tau, tau', w, l, i, j | responses (of a pair: the preferred one w, the other l) |
| s, a; s@h, a@h | states, tokens; those of step h of a response |
| draw, row, place | observations; the rows and places of a trainer's batch |
| c | contexts, whose states share a row of a tied policy |
| h, t, m | numbers of a range |
| x., s., a. | the logits that a gradient is in |

**Zero is a probability.**  0 times anything is 0, log 0 is -inf, 0/0 and inf - inf are undefined: nan, until they are multiplied by 0.
A plain and a careful closure do the same; the careful one masks, and is called where the plain one is not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.spellings import kind

Closure = Callable[[Any], Any]
ORDER = ("draw", "row", "x", "tau", "time", "s", "c", "a", "place")
FIRST = ("tau", "w", "i", "tau'", "l", "j")
"""Of two responses, the one that stands first in a table."""


def axis_kind(axis: str) -> str:
    """What an axis runs over: "x", "tau", "s", "a", "time", or "" for a range or the logits.

    >>> axis_kind("s@h"), axis_kind("w"), axis_kind("x.")
    ('s', 'tau', '')
    """
    return "" if axis.endswith(".") else kind(axis.partition("@")[0])


@dataclass(frozen=True)
class Value:
    """A value: axes; the closure; its logarithm, if it is known to be no less than 0; the axis along which it sums to one, if it is a law.

    implicit: axes that no index in the text names, because a letter stands bare.  rest: log(1 - value), where that is known better than
    by the difference.
    """

    axes: tuple[str, ...]
    of: Closure
    log: Closure | None = None
    law: str | None = None
    implicit: frozenset[str] = frozenset()
    rest: Closure | None = None

    def renamed(self, names: dict[str, str]) -> Value:
        """The same table under other names of axes: no data moves."""
        axes = tuple(names.get(a, a) for a in self.axes)
        law = None if self.law is None else names.get(self.law, self.law)
        return replace(self, axes=axes, law=law, implicit=frozenset(a for a in self.implicit if a not in names))


def constant(x: Any, axes: tuple[str, ...] = ()) -> Value:
    """A number, or a table that does not depend on the scope."""
    known = np.all(np.asarray(x) >= 0)
    with np.errstate(divide="ignore"):
        log = np.log(x) if known else None
    return Value(axes, lambda scope: x, (lambda scope: log) if known else None)


def merged(*values: Any) -> tuple[str, ...]:
    """The axes of a result: all that occur, observations and prompts first, then responses, states, tokens; within a kind as they come."""
    return in_order(dict.fromkeys(axis for value in values for axis in value.axes))


def in_order(axes: Iterable[str]) -> tuple[str, ...]:
    """Axes as a table has them.

    >>> in_order(["a", "l", "s", "x", "w"])
    ('x', 'w', 'l', 's', 'a')
    >>> in_order(["i", "draw"])  # n groups of G
    ('draw', 'i')
    """

    def place(axis: str) -> tuple[int, int]:
        of = axis if axis in ORDER else axis_kind(axis)
        return ORDER.index(of) if of in ORDER else len(ORDER) + axis.endswith("."), FIRST.index(axis) if axis in FIRST else len(FIRST)

    return tuple(sorted(axes, key=place))


def fitted(closure: Closure, axes: tuple[str, ...], target: tuple[str, ...]) -> Closure:
    """A closure whose array has the axes `target`, those that it lacks of length 1 where others stand behind them."""
    if axes == target or not axes:
        return closure
    order = tuple(axes.index(a) for a in target if a in axes)
    where = tuple(slice(None) if a in axes else None for a in target)
    while where and where[0] is None:
        where = where[1:]
    moved = order != tuple(range(len(order)))
    spread = None in where
    if moved:
        return lambda scope: np.transpose(closure(scope), order)[where]
    return (lambda scope: closure(scope)[where]) if spread else closure


def outer_sum(a: Value, b: Value) -> bool:
    """Whether bare letters would span responses and tokens at once, which nobody means: r + pi."""
    kinds = [{axis_kind(x) for x in v.axes if "@" not in x} for v in (a, b)]
    crossed = ("tau" in kinds[0] and "s" in kinds[1] and "s" not in kinds[0]) or (
        "tau" in kinds[1] and "s" in kinds[0] and "s" not in kinds[1]
    )
    return crossed and any(axis_kind(x) in ("tau", "s", "a") for x in a.implicit | b.implicit)


def binary(f: Callable[[Any, Any], Any], a: Value, b: Value, log: Callable[[Any, Any], Any] | None = None) -> Value:
    """f of two values whose axes are aligned by name; log: the same of their logarithms, where both have one."""
    if outer_sum(a, b):
        must = "letters that stand side by side must be of the same things"
        remedy = "write the indices: pi(y | x) is a policy's law over responses, pi(a | s) its tokens"
        raise InputError(must, got=f"({', '.join(a.axes)}) beside ({', '.join(b.axes)})", remedy=remedy)
    axes = merged(a, b)
    fa, fb = fitted(a.of, a.axes, axes), fitted(b.of, b.axes, axes)
    logs = None
    if log is not None and a.log is not None and b.log is not None:
        la, lb = fitted(a.log, a.axes, axes), fitted(b.log, b.axes, axes)
        logs = lambda scope: log(la(scope), lb(scope))  # noqa: E731
    return Value(axes, lambda scope: f(fa(scope), fb(scope)), logs, None, a.implicit | b.implicit)


def unary(f: Callable[[Any], Any], a: Value, log: Callable[[Any], Any] | None = None) -> Value:
    """f of a value, entry by entry; log: the logarithm of the result, from the value itself."""
    of = a.of
    logs = None if log is None else (lambda scope: log(of(scope)))
    return Value(a.axes, lambda scope: f(of(scope)), logs, None, a.implicit)


def reduced(f: Callable[..., Any], a: Value, axes: tuple[str, ...], log: Callable[..., Any] | None = None) -> Value:
    """f along some axes, which are removed."""
    numbers = tuple(a.axes.index(axis) for axis in axes)
    along: Any = numbers[0] if len(numbers) == 1 else numbers
    left = tuple(axis for axis in a.axes if axis not in axes)
    of, inner = a.of, a.log
    logs = None if log is None or inner is None else (lambda scope: log(inner(scope), axis=along))
    return Value(left, lambda scope: f(of(scope), axis=along), logs, None, a.implicit - set(axes))


# ---------------------------------------------------------------------------------------------------- careful arithmetic


def times(a: Any, b: Any) -> Any:
    """a b, where 0 times anything is 0.

    >>> with np.errstate(invalid="ignore"):
    ...     times(np.array([0.0, 2.0]), np.array([-np.inf, 3.0])).tolist()
    [0.0, 6.0]
    """
    if np.all(np.isfinite(plain(a))) and np.all(np.isfinite(plain(b))):
        return np.multiply(a, b)
    zero = np.logical_or(np.equal(plain(a), 0), np.equal(plain(b), 0))
    lost = zero & ~(np.isfinite(plain(a)) & np.isfinite(plain(b)))  # elsewhere a factor that happens to be 0 still has a slope
    return np.where(lost, 0.0, a) * np.where(lost, 0.0, b)


def log_times(a: Any, b: Any) -> Any:
    """log of a product, from the logarithms of its factors: where one is 0, so is the product, whatever the other is.

    >>> log_times(np.array([-np.inf, 1.0]), np.array([np.nan, 2.0])).tolist()
    [-inf, 3.0]
    """
    zero = np.logical_or(np.isneginf(plain(a)), np.isneginf(plain(b)))
    return np.where(zero, -np.inf, np.where(zero, 0.0, a) + np.where(zero, 0.0, b))


def over(a: Any, b: Any) -> Any:
    """a/b: inf where only b is 0, undefined where both are."""
    zero = np.equal(plain(b), 0)
    end = np.where(np.equal(plain(a), 0), np.nan, np.copysign(np.inf, plain(a)))
    return np.where(zero, end, a / np.where(zero, 1.0, b))


def minus(a: Any, b: Any) -> Any:
    """a - b, undefined where both are the same infinity."""
    lost = np.logical_or(~np.isfinite(plain(a)), ~np.isfinite(plain(b)))
    if not np.any(lost):
        return np.subtract(a, b)
    return np.where(lost, plain(a) - plain(b), np.where(lost, 0.0, a) - np.where(lost, 0.0, b))


def log(a: Any) -> Any:
    """log a: -inf at 0, undefined below."""
    low = np.less_equal(plain(a), 0)
    end = np.where(np.less(plain(a), 0), np.nan, -np.inf)
    return np.where(low, end, np.log(np.where(low, 1.0, a)))
