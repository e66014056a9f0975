r"""How an operation is recorded: the traced array, the tape, and the tables of rules.  The chapter is in `autodiff`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from tabular_rlhf.autodiff.table import COMPOSITES, PLAIN, RULES, SMALL, Blank, Rule, Takes, keep, name_of, structural, takes

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
    if kwargs or len(args) > rule.takes.most:
        kwargs = _understood(rule.name, rule.takes, args, kwargs)
    if tape is None:
        raise TypeError(f"{rule.name}: pass traced arrays by position, as they are: neither by keyword nor in a list")
    if not tape.open:
        raise TypeError(
            f"{rule.name}: this traced array belongs to a finished derivative; "
            "return values from the function instead of storing them outside it"
        )
    values = []
    parents = []
    large = False
    reads = rule.keeps == "all" or rule.keeps == "others"
    for i, a in enumerate(args):
        if type(a) is Traced and a.tape is tape:
            parents.append((i, a.index))
            values.append(a.value)
            large = large or a.value.size > SMALL
            continue
        if (type(a) is list or type(a) is tuple) and rule.vjp(i) is not None:
            a = np.asarray(a)
        values.append(keep(a) if reads and type(a) is not float and type(a) is not Traced else a)
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
        return composite(*args, **_understood(*_composite_takes(func), args, kwargs))
    if func in PLAIN:
        return func(*(plain(a) for a in args), **{k: plain(v) for k, v in kwargs.items()})
    raise TypeError(
        f"no gradient rule for {name_of(func)}, called on a traced array; nothing is treated as a constant silently: write it "
        "with operations that have rules (see tabular_rlhf.autodiff.RULES), or give it one with autodiff.primitive"
    )


@functools.cache
def _composite_takes(func: Any) -> tuple[str, Takes]:
    return name_of(func), takes(COMPOSITES[func])


def _understood(name: str, understands: Takes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords, safe from later writes and without those that say nothing; what the rule does not know of is refused."""
    for k, v in kwargs.items():
        if type(v) is Traced:
            raise TypeError(f"{name}: a traced array was passed by keyword; pass it by position, and out= not at all")
        if isinstance(v, np.ndarray):
            kwargs = {**kwargs, k: keep(v)}
    if len(args) > understands.most:
        raise TypeError(
            f"{name} takes at most {understands.most} arguments by position on a traced array, got {len(args)}; pass options by keyword"
        )
    if understands.named is None or kwargs.keys() <= understands.named:
        return kwargs
    for k, v in kwargs.items():
        if k not in understands.named and v is not None and v is not _NOT_GIVEN:
            raise TypeError(
                f"{name}: the keyword {k}= has no gradient rule on a traced array; leave it out, and do its work beside the call "
                "(np.where selects, np.concatenate extends, np.maximum bounds)"
            )
    return {k: v for k, v in kwargs.items() if k in understands.named}


def plain(x: Any) -> Any:
    """The untraced value of `x`, through every tape.  Internal: for shapes, comparisons and messages only."""
    while type(x) is Traced:
        x = x.value
    return x


def get_item(x: Any, index: Any) -> Any:
    """Indexing as a function, so that it can have a rule."""
    return x[index]


_NOT_GIVEN = getattr(np, "_NoValue", None)  # what NumPy's own methods pass for an option that was left out
_WRITING = frozenset(("fill", "itemset", "partition", "put", "resize", "setfield", "setflags", "sort"))
_REDUCTIONS: dict[str, Any] = {"add": np.sum, "maximum": np.max, "minimum": np.min}


def _in_place(sign: str, operate: Any) -> Callable[[Any, Any], Any]:
    def rebind(self: Any, other: Any) -> Any:
        if isinstance(plain(self), np.ndarray):
            _refuse_write(f"x {sign}= y", f"write x = x {sign} y")
        return apply(operate, (self, other), {})  # a number cannot be written to: its name moves on, as in plain NumPy

    return rebind


class Departure(TypeError):
    """A traced array was asked to be a plain one.  NumPy hides it behind an error of its own when it was to be an element."""


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """An array under differentiation.  It answers to NumPy; it refuses what would lose the trace."""

    __slots__ = ("index", "tape", "value")

    def __init__(self, tape: Tape, index: int, value: Any) -> None:
        self.tape, self.index, self.value = tape, index, value

    def __repr__(self) -> str:
        return f"Traced({plain(self)!r})"

    # NumPy's two protocols
    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            _refuse_write(f"{name_of(ufunc)}(..., out=...)")
        if method == "__call__":
            return apply(ufunc, args, kwargs)
        if method == "reduce" and ufunc.__name__ in _REDUCTIONS:
            return _REDUCTIONS[ufunc.__name__](*args, **{"axis": 0, **kwargs})
        raise TypeError(f"no gradient rule for {name_of(ufunc)}.{method}; use sum, max, min, cumsum or tabular_rlhf.logspace")

    def __array_function__(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("out") is not None:
            _refuse_write(f"{name_of(func)}(..., out=...)")
        if func is np.where and len(args) == 1 and not kwargs:
            func = np.nonzero  # by NumPy's definition
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

    # arithmetic (direct, because the detour through NumPy and the mixin costs more than the work on small arrays)
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

    # methods whose arguments differ from those of the function (the others follow below)
    def clip(self, min: Any = None, max: Any = None) -> Any:
        return np.clip(self, min, max)

    def ravel(self, order: Any = "C") -> Any:
        return np.ravel(self, order=order)

    flatten = ravel

    def reshape(self, *shape: Any, order: Any = "C") -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, order=order)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, axes[0] if len(axes) == 1 else axes or None)

    def copy(self, order: Any = "C") -> Any:
        return self

    def __round__(self, digits: int = 0) -> Any:
        return np.round(self, digits)

    def __format__(self, spec: str) -> str:
        return format(plain(self), spec) if spec else repr(self)

    # what would lose the trace
    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        _refuse_write("x[...] = ...")

    __iadd__, __isub__, __imul__ = _in_place("+", np.add), _in_place("-", np.subtract), _in_place("*", np.multiply)
    __itruediv__, __ipow__, __imatmul__ = _in_place("/", np.divide), _in_place("**", np.power), _in_place("@", np.matmul)

    def _leave(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise Departure(
            "a traced array cannot become a plain number, bool or array, or an element of one: the gradient would be lost. "
            "Branch with np.where, combine arrays with np.stack (also instead of filling np.zeros), use NumPy functions instead of "
            "math's (and tabular_rlhf.logsumexp for SciPy's), or freeze the quantity as a separate argument"
        )

    __float__ = __int__ = __bool__ = __complex__ = __index__ = __array__ = item = tolist = astype = _leave


def _refuse_write(what: str, instead: str = "build a new array instead (np.where, np.concatenate, x + y)") -> NoReturn:
    raise TypeError(f"{what} writes into a traced array, which would lose the gradient; {instead}")


def _method(func: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: func(self, *args, **kwargs)


def _absent(name: str) -> Any:
    def refuse(self: Traced, *args: Any) -> NoReturn:
        if name in _WRITING:
            _refuse_write(f"x.{name}(...)")
        raise AttributeError(f"a traced array has no {name!r}; write it with NumPy's functions, which have gradient rules or say so")

    return property(refuse)


for _name in dir(np.ndarray):  # any other method is NumPy's function of that name, which has a rule or says that it has none
    if not _name.startswith("_") and not hasattr(Traced, _name):
        _is_function = callable(getattr(np.ndarray, _name)) and hasattr(np, _name) and _name not in _WRITING
        setattr(Traced, _name, _method(getattr(np, _name)) if _is_function else _absent(_name))


def primitive(
    func: Callable[..., Any], *vjps: Callable[..., Any] | None, keeps: str = "all", overwrites: bool = False
) -> Callable[..., Any]:
    """Give a whole function its own rule.  On plain arrays the result is `func` itself; traced, one step is recorded.

    Args: vjps, one `(g, y, *args, **kwargs) -> g` for each leading argument, None where it has no gradient.
    """

    @functools.wraps(func)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        if Traced in map(type, args):
            return apply(dispatch, args, kwargs)
        return func(*args, **kwargs)

    structural(dispatch, *vjps, keeps=keeps, overwrites=overwrites)
    return dispatch
