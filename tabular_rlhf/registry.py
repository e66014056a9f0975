"""Tables of records: one way to enter a record, to find it by name, and to call what it holds by the names of its parameters."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, ClassVar, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from tabular_rlhf.errors import InputError, did_you_mean, quoted

R = TypeVar("R")
P = ParamSpec("P")

# ---------------------------------------------------------------------------------------------------- names


def one_of(known: Collection[str], name: object, must: str, *, where: str = "", remedy: str = "") -> str:
    """`name`, which must be known.  Raises InputError with the nearest names that are, or else with the remedy, or all of them.

    >>> one_of(["coin", "fork"], "folk", "the world must be a named one")
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: the world must be a named one: got 'folk'; did you mean fork?
    """
    if isinstance(name, str) and name in known:
        return name
    otherwise = remedy or (f"use one of {', '.join(known)}" if known else "leave it out: there is none")
    raise InputError(must, got=quoted(name), where=where, remedy=did_you_mean(str(name), known, otherwise))


class Registry(dict[str, R]):
    """Records by name, in the order in which they were entered.  key, what their name is called.

    >>> worlds = Registry("world", {"coin": 2})
    >>> worlds.find("coin"), worlds.find(4)  # what is no name is a record already
    (2, 4)
    >>> worlds.find("corn")
    Traceback (most recent call last):
    tabular_rlhf.errors.InputError: the world must be a known one: got 'corn'; did you mean coin?
    """

    def __init__(self, kind: str, records: Mapping[str, R] | Iterable[tuple[str, R]] = (), *, key: str = "name") -> None:
        super().__init__(records)
        self.kind, self.key = kind, key

    def add(self, record: R) -> R:
        """Enter a record, under its own name; a second one of the same name is refused."""
        name = getattr(record, self.key)
        if name in self:
            raise InputError(f"the {self.kind} must have a name of its own", got=quoted(name), remedy=f"choose another {self.key}")
        self[name] = record
        return record

    def find(self, record: str | R) -> R:
        """A record by name, or as it is."""
        return self[one_of(self, record, f"the {self.kind} must be a known one")] if isinstance(record, str) else record


def entered(make: Callable[P, R], add: Callable[[R], R]) -> Callable[P, R]:
    """`make`, whose records are entered into a table.

    >>> worlds = Registry("world", key="real")
    >>> world = entered(complex, worlds.add)
    >>> world(2.0, 1.0), list(worlds)
    ((2+1j), [2.0])
    """
    return lambda *args, **kwargs: add(make(*args, **kwargs))


# ---------------------------------------------------------------------------------------------------- calls by name


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names that a function asks for: its parameters without defaults, those that are given by keyword only at the end.

    >>> parameters(lambda p, r, scale=1.0: scale * sum(p * r))
    ('p', 'r')
    >>> parameters(lambda p, *, r: sum(p * r))
    ('p', 'r')
    """
    placed, named = _asked(function)
    return placed + named


def by_keyword_only(function: Callable[..., Any]) -> tuple[str, ...]:
    """Those of a function's `parameters` that have no place, only a name."""
    return _asked(function)[1]


def _asked(function: Callable[..., Any]) -> Names:
    """The names of the parameters without defaults: those that have a place, and those that have none."""
    if type(function) is FunctionType and not function.__dict__:  # the quick way, for a million calls: nothing says otherwise
        code, first = function.__code__, function.__code__.co_argcount
        names = code.co_varnames[first : first + code.co_kwonlyargcount]
        named = tuple(n for n in names if n not in (function.__kwdefaults__ or ())) if names else ()
        return code.co_varnames[: first - len(function.__defaults__ or ())], named
    try:
        if function not in _KNOWN:
            _KNOWN[function] = _by_signature(function)
        return _KNOWN[function]
    except TypeError:  # it cannot be kept, or has no signature
        return _by_signature(function)


Names = tuple[tuple[str, ...], tuple[str, ...]]
_KNOWN: WeakKeyDictionary[Callable[..., Any], Names] = WeakKeyDictionary()
"""What callables that are no plain functions ask for: a signature is a hundred times slower than a table."""


def _by_signature(function: Callable[..., Any]) -> Names:
    found = [p for p in inspect.signature(function).parameters.values() if p.default is inspect.Parameter.empty]
    placed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in found if p.kind in placed), tuple(p.name for p in found if p.kind is p.KEYWORD_ONLY)


def supplied(function: Callable[..., Any], value: Callable[[str], Any]) -> Any:
    """What a function returns when every one of its `parameters` is given its value.

    >>> supplied(lambda p, *, r: p + r, {"p": 1, "r": 2}.__getitem__)
    3
    """
    placed, named = _asked(function)
    return function(*map(value, placed), **{n: value(n) for n in named})


# ---------------------------------------------------------------------------------------------------- records


def settle(record: object, **fields: Any) -> None:
    """Fields of a frozen record that its own construction settles."""
    for name, value in fields.items():
        object.__setattr__(record, name, value)


def no_oracle(*_: Any, **__: Any) -> float:
    """Stands where nobody has written the equation a second time: then there is nothing to hold it against."""
    raise InputError("the record must have an oracle", got="none", remedy="write the equation in plain math")


@dataclass(frozen=True, eq=False)
class Equation(ABC):
    """What records of losses, advantages, aggregations and policy losses share: an equation, stated twice.

    name; latex; source; fn, vectorised plain NumPy, which asks by name for what it needs; oracle, the same equation in plain `math`,
    written from the paper and not from fn, if anybody has; defaults, of settings.  A kind of record says what else its fn is `given`.
    """

    name: str
    latex: str
    source: str
    fn: Callable[..., Any]
    oracle: Callable[..., float] = no_oracle
    defaults: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    kind: ClassVar[str] = "record"

    @property
    @abstractmethod
    def given(self) -> Collection[str]:
        """What an equation may ask for beside its settings."""

    def __post_init__(self) -> None:
        self.require(bool(self.latex and self.source), "it must have an equation and a source", self.source or "none", "cite the paper")
        self.require(callable(self.oracle), "it must have an oracle", self.oracle, "write the equation in plain math")
        self.require(self.oracle is not self.fn, "the oracle must be written apart from fn", "the same function", "write it from the paper")
        known = {*self.given, *self.defaults}
        strange = [name for f in self.equations for name in parameters(f) if name not in known]
        self.require(not strange, "parameters must be given or have a default", strange, f"given are {', '.join(self.given)}")

    @property
    def equations(self) -> tuple[Callable[..., Any], ...]:
        """The functions that ask for what is given."""
        return (self.fn,)

    def require(self, holds: bool, must: str, got: object, remedy: str) -> None:
        """Refuse the record where something does not hold of it."""
        if not holds:
            raise InputError(must, got=got, where=f"{self.kind} {self.name!r}", remedy=remedy)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names that `fn` asks for."""
        return parameters(self.fn)

    def __call__(self, **supply: Any) -> Any:
        """fn on what it asks for, picked from `supply`."""
        return supplied(self.fn, supply.__getitem__)
