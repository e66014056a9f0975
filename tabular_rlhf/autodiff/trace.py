r"""How an operation is recorded: the traced array, the tape, and the tables of rules.  The chapter is in `autodiff`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from tabular_rlhf.autodiff.table import COMPOSITES, PLAIN, RULES, SMALL, Blank, Rule, structural

_births = itertools.count()


Step = tuple["Rule | None", Any, "tuple[Any, ...] | list[Any]", dict[str, Any], list[tuple[int, int]]]
"""One recorded operation (rule, out, args, kwargs, parents): `out = func(*args)`; `parents` lists (position, step) of traced args.
A plain tuple, because naming its fields would cost as much as the work on small arrays."""


def _blank(x: Any) -> Any:
    return Blank(x) if isinstance(x, (np.ndarray, Traced)) and x.size > SMALL else x


class Tape:
    """The append-only record of one traced evaluation."""

    __slots__ = ("birth", "open", "steps")

    def __init__(self) -> None:
        self.birth = next(_births)
        self.steps: list[Step] = []
        self.open = True

    def input(self, value: Any) -> Traced:
        self.steps.append((None, value, (), {}, []))
        return Traced(self, len(self.steps) - 1, value)


def apply(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run `func` on plain values and record the step on the innermost tape among the arguments."""
    rule = RULES.get(func)
    if rule is None:
        return _without_rule(func, args, kwargs)
    tape: Tape | None = None
    for a in args:
        if type(a) is Traced and a.tape is not tape and (tape is None or a.tape.birth > tape.birth):
            tape = a.tape
    if tape is None:
        raise TypeError(f"{_name(func)}: pass traced arrays by position, not by keyword")
    if not tape.open:
        raise TypeError(
            f"{_name(func)}: this traced array belongs to a finished derivative; "
            "return values from the function instead of storing them outside it"
        )
    values = []
    parents = []
    large = False
    for i, a in enumerate(args):
        if type(a) is Traced and a.tape is tape:
            parents.append((i, a.index))
            values.append(a.value)
            large = large or a.value.size > SMALL
        else:
            values.append(a)
    for v in kwargs.values() if kwargs else ():
        if type(v) is Traced:
            raise TypeError(f"{_name(func)}: a traced array was passed by keyword; pass it by position, and out= not at all")
    out = func(*values, **kwargs)
    if rule.keeps == "all" or not large:
        tape.steps.append((rule, out, values, kwargs, parents))
    else:
        kept = values if rule.keeps == "others" and len(parents) > 1 else [_blank(a) for a in values]
        if rule.keeps == "others" and len(parents) == 1:
            kept[1 - parents[0][0]] = values[1 - parents[0][0]]
        tape.steps.append((rule, out if rule.keeps == "out" else _blank(out), kept, kwargs, parents))
    return Traced(tape, len(tape.steps) - 1, out)


def _without_rule(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    composite = COMPOSITES.get(func)
    if composite is not None:
        return composite(*args, **kwargs)
    if func in PLAIN:
        return func(*(plain(a) for a in args), **{k: plain(v) for k, v in kwargs.items()})
    raise TypeError(
        f"no gradient rule for {_name(func)}, called on a traced array; nothing is treated as a constant silently: write it "
        "with operations that have rules (see tabular_rlhf.autodiff.RULES), or give it one with autodiff.primitive"
    )


def _name(func: Any) -> str:
    module = getattr(func, "__module__", None) or ("numpy" if isinstance(func, np.ufunc) else "")
    return f"{module}.{getattr(func, '__name__', func)}".lstrip(".")


def plain(x: Any) -> Any:
    """The untraced value of `x`, through every tape.  Internal: for shapes, comparisons and messages only."""
    while type(x) is Traced:
        x = x.value
    return x


def get_item(x: Any, index: Any) -> Any:
    """Indexing as a function, so that it can have a rule."""
    return x[index]


_REDUCTIONS: dict[str, Any] = {"add": np.sum, "maximum": np.max, "minimum": np.min}


class Traced:
    """An array under differentiation.  It answers to NumPy; it refuses what would lose the trace."""

    __slots__ = ("index", "tape", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tape: Tape, index: int, value: Any) -> None:
        self.tape, self.index, self.value = tape, index, value

    def __repr__(self) -> str:
        return f"Traced({plain(self)!r})"

    # NumPy's two protocols
    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            _refuse_write(f"{_name(ufunc)}(..., out=...)")
        if method == "__call__":
            return apply(ufunc, args, kwargs)
        if method == "reduce" and ufunc.__name__ in _REDUCTIONS:
            return _REDUCTIONS[ufunc.__name__](*args, **{"axis": 0, **kwargs})
        raise TypeError(f"no gradient rule for {_name(ufunc)}.{method}; use sum, max, min, cumsum or tabular_rlhf.logspace")

    def __array_function__(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("out") is not None:
            _refuse_write(f"{_name(func)}(..., out=...)")
        return apply(func, args, kwargs)

    # what an array knows of itself
    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    T = property(lambda self: np.transpose(self))

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> Traced:
        return apply(get_item, (self, index), {})

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # arithmetic (direct, because the detour through NumPy costs more than the work on small arrays)
    def __add__(self, other: Any) -> Any:
        return apply(np.add, (self, other), {})

    def __radd__(self, other: Any) -> Any:
        return apply(np.add, (other, self), {})

    def __sub__(self, other: Any) -> Any:
        return apply(np.subtract, (self, other), {})

    def __rsub__(self, other: Any) -> Any:
        return apply(np.subtract, (other, self), {})

    def __mul__(self, other: Any) -> Any:
        return apply(np.multiply, (self, other), {})

    def __rmul__(self, other: Any) -> Any:
        return apply(np.multiply, (other, self), {})

    def __truediv__(self, other: Any) -> Any:
        return apply(np.divide, (self, other), {})

    def __rtruediv__(self, other: Any) -> Any:
        return apply(np.divide, (other, self), {})

    def __pow__(self, other: Any) -> Any:
        return apply(np.power, (self, other), {})

    def __rpow__(self, other: Any) -> Any:
        return apply(np.power, (other, self), {})

    def __matmul__(self, other: Any) -> Any:
        return apply(np.matmul, (self, other), {})

    def __rmatmul__(self, other: Any) -> Any:
        return apply(np.matmul, (other, self), {})

    def __neg__(self) -> Any:
        return apply(np.negative, (self,), {})

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return apply(np.absolute, (self,), {})

    # comparisons answer about the value: plain booleans
    def __lt__(self, other: Any) -> Any:
        return plain(self) < plain(other)

    def __le__(self, other: Any) -> Any:
        return plain(self) <= plain(other)

    def __gt__(self, other: Any) -> Any:
        return plain(self) > plain(other)

    def __ge__(self, other: Any) -> Any:
        return plain(self) >= plain(other)

    def __eq__(self, other: Any) -> Any:
        return plain(self) == plain(other)

    def __ne__(self, other: Any) -> Any:
        return plain(self) != plain(other)

    # methods that are functions
    def sum(self, *args: Any, **kwargs: Any) -> Any:
        return np.sum(self, *args, **kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Any:
        return np.mean(self, *args, **kwargs)

    def max(self, *args: Any, **kwargs: Any) -> Any:
        return np.max(self, *args, **kwargs)

    def min(self, *args: Any, **kwargs: Any) -> Any:
        return np.min(self, *args, **kwargs)

    def var(self, *args: Any, **kwargs: Any) -> Any:
        return np.var(self, *args, **kwargs)

    def std(self, *args: Any, **kwargs: Any) -> Any:
        return np.std(self, *args, **kwargs)

    def cumsum(self, *args: Any, **kwargs: Any) -> Any:
        return np.cumsum(self, *args, **kwargs)

    def clip(self, *args: Any, **kwargs: Any) -> Any:
        return np.clip(self, *args, **kwargs)

    def dot(self, other: Any) -> Any:
        return np.dot(self, other)

    def ravel(self) -> Any:
        return np.ravel(self)

    def reshape(self, *shape: Any, order: Any = "C") -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def swapaxes(self, a: int, b: int) -> Any:
        return np.swapaxes(self, a, b)

    def squeeze(self, axis: Any = None) -> Any:
        return np.squeeze(self, axis)

    def copy(self) -> Any:
        return self

    # what would lose the trace
    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        _refuse_write("x[...] = ...")

    def _in_place(self, other: Any) -> NoReturn:
        _refuse_write("an in-place operator (+=, -=, *=, /=)")

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imatmul__ = _in_place

    def _leave(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "a traced array cannot become a plain number, bool or array: the gradient would be lost. Branch with np.where, "
            "combine arrays with np.stack, use NumPy functions instead of math's, or freeze the quantity as a separate argument"
        )

    __float__ = __int__ = __bool__ = __complex__ = __index__ = __array__ = item = tolist = astype = _leave


def _refuse_write(what: str) -> NoReturn:
    raise TypeError(
        f"{what} writes into a traced array, which would lose the gradient; build a new array instead (np.where, np.concatenate, x + y)"
    )


def primitive(
    func: Callable[..., Any], *vjps: Callable[..., Any] | None, keeps: str = "all", overwrites: bool = False
) -> Callable[..., Any]:
    """Give a whole function its own rule.  On plain arrays the result is `func` itself; traced, one step is recorded.

    Args: vjps, one `(g, y, *args, **kwargs) -> g` for each leading argument, None where it has no gradient.
    """

    @functools.wraps(func)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        if any(type(a) is Traced for a in args):
            return apply(dispatch, args, kwargs)
        return func(*args, **kwargs)

    structural(dispatch, *vjps, keeps=keeps, overwrites=overwrites)
    return dispatch
