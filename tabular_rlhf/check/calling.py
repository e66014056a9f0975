"""Calling a reader's function: by name, on copies, watched.  Whatever it does becomes a value or a plain problem."""

from __future__ import annotations

import contextlib
import inspect
import io
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf.errors import nearest, raised
from tabular_rlhf.formula.slips import Slip
from tabular_rlhf.symbols import SYMBOLS, Scope, is_formula, parameters, supplied, unknown_names

Function = Callable[..., Any]
PACKAGE = Path(__file__).parent.parent
CALL = 5.0
"""Seconds of the processor that one call on a small world may take: a guard against what never ends, and no measure of anything."""
ALL = 100.0
"""Seconds of the processor that the whole of one question may take."""
STILL = 10.0
"""Times as much by the clock on the wall, for a call that only waits."""
DEPTH = 3
"""How often an answer may be a function that returns a function."""


@dataclass(frozen=True)
class Problem:
    """What went wrong before there was a value to judge: kind, and what to tell the reader."""

    kind: str
    told: str


class Stopped(BaseException):
    """A guard stopped the function: neither right nor wrong.  Not an Exception: `except Exception` in it must not hold it up."""


TIMERS = {"VIRTUAL": "SIGVTALRM", "PROF": "SIGPROF", "REAL": "SIGALRM"}
"""The processor's time in the process itself; that and the system's for it; the wall's."""


@contextlib.contextmanager
def guard(told: str, **seconds: float) -> Iterator[None]:
    """Raise Stopped after some seconds of a timer, one of TIMERS, where the platform and the thread allow it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise Stopped(told)

    timers = [(getattr(signal, f"ITIMER_{name}"), getattr(signal, TIMERS[name]), after) for name, after in seconds.items()]
    before = [(signal.signal(number, stop), signal.setitimer(timer, after)) for timer, number, after in timers]
    try:
        yield
    finally:  # a guard around this one has as long left as it had
        for (timer, number, _), (handler, left) in zip(timers, before, strict=True):
            signal.setitimer(timer, left[0])
            signal.signal(number, handler)


SPENT = "spent"
"""The attribute by which a function of another process tells what it has used."""


def has_limits(function: Function) -> bool:
    """Whether the function has a process of its own, which is stopped by other limits than those here."""
    return hasattr(function, SPENT)


def limited(function: Function, told: str, **seconds: float) -> contextlib.AbstractContextManager[None]:
    """A guard around a function, unless it has limits of its own."""
    return contextlib.nullcontext() if has_limits(function) else guard(told, **seconds)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """A reader's prints, warnings and divisions by zero are not the reader of the report's business."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def constant(value: Any) -> Function:
    """A scalar or an array as a function of nothing."""
    return lambda: value


class Through:
    """A function of symbols whose value goes through another: the same parameters."""

    def __init__(self, function: Function, output: Callable[[Any], Any]) -> None:
        self.function, self.output = function, output
        self.__signature__ = inspect.signature(function)
        self.on_scope = is_formula(function)
        if has_limits(function):
            self.spent: Any = getattr(function, SPENT)

    def misprints(self) -> Iterator[tuple[Slip, Through]]:
        """Of a formula, every slip of it, and its value with it."""
        for slip, side in self.function.misprints() if hasattr(self.function, "misprints") else ():
            yield slip, Through(side, self.output)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.output(self.function(*args, **keywords))


class BadNames(TypeError):
    """A function asks for what is no symbol, or for what would give the answer away; the message says so."""


MOST_NEAR = 8
"""Names that a report offers in the place of those that nobody knows."""


def named(function: Function, away: frozenset[str], given: str) -> Function:
    """The function, if its parameters can be supplied; and so each function that it returns.  Raises BadNames.

    Args: away, symbols that would give the answer away; given, what it may be computed from, in words.
    """
    unknown = unknown_names(function)
    if unknown:
        each = max(1, MOST_NEAR // len(unknown))
        near = {n: nearest(n, SYMBOLS, each) for n in unknown[:MOST_NEAR]}
        hints = [f"{n} (did you mean {' or '.join(close)}?)" if close else n for n, close in near.items()]
        hints += [f"{len(unknown) - MOST_NEAR} more"] if len(unknown) > MOST_NEAR else []
        must = "Parameters must be names of symbols, which are then supplied"
        raise BadNames(f"{must}. Unknown: {'; '.join(hints)}. `tabular-rlhf symbols` lists them all")
    asked = [n for n in parameters(function) if n in away]
    if asked:
        raise BadNames(f"{', '.join(asked)} would give the answer away: compute it from the world ({given})")
    return Through(function, lambda value: named(value, away, given) if callable(value) else value)


class Overlaid:
    """A scope as a formula sees it if some of its symbols have other values, a law and its logarithm together; what is computed from them
    elsewhere stays as it is."""

    def __init__(self, scope: Scope, instead: dict[str, Any]) -> None:
        self.scope, self.memo = scope, dict[Any, Any]()
        with np.errstate(all="ignore"):
            logs = {f"log_{n}": np.log(x) for n, x in instead.items() if f"log_{n}" in SYMBOLS}
            laws = {n[4:]: np.exp(x) for n, x in instead.items() if n.startswith("log_") and n[4:] in SYMBOLS}
        self.instead = {**logs, **laws, **instead}

    def __getitem__(self, name: str) -> Any:
        return self.instead[name] if name in self.instead else self.scope[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scope, name)


def supply(function: Function, scope: Scope, instead: dict[str, Any] | None = None) -> Any:
    """The function's value, its parameters supplied by name (copies), some of them replaced.  A returned function is called too."""
    if is_formula(function):
        return function(Overlaid(scope, instead) if instead else scope)
    value, given = function, instead or {}
    for _ in range(DEPTH):
        value = supplied(value, lambda name: _copied(given[name] if name in given else scope[name]))
        if not callable(value):
            return value
    return value


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def watched(function: Function, scope: Scope) -> Any:
    """Call once with every guard: the value as an array of floats (or a tuple of them), or a Problem.  Raises Stopped."""
    names = parameters(function)
    given = {name: _copied(scope[name]) for name in names}
    size = scope.world.responses
    stopped = f"one call on a world of {size} response{'s' if size > 1 else ''} did not come back in {CALL:g} seconds of the processor"
    try:
        with quietly(), limited(function, stopped, VIRTUAL=CALL, REAL=STILL * CALL):
            value = function(scope) if is_formula(function) else supplied(function, given.__getitem__)
            if callable(value):
                value = supply(value, scope)
    except BadNames as e:
        return Problem("names", str(e))
    except RecursionError:
        return Problem("raises", "RecursionError: it calls itself without end")
    except (Exception, SystemExit) as e:  # an answer that calls exit() must not end the checker with a happy face
        return Problem("raises", told(e))
    changed = [n for n in names if isinstance(given[n], np.ndarray) and not same(given[n], scope[n])]
    if changed:
        return Problem("mutates", f"it changes its argument {', '.join(changed)} (work on a copy: x = x.copy())")
    return as_value(value)


def told(e: BaseException) -> str:
    """An exception in one line: its kind, its message, and the line of the reader's own code that raised it."""
    frames = [f for f in traceback.extract_tb(e.__traceback__) if not Path(f.filename).is_relative_to(PACKAGE)]
    where = f" (line {frames[-1].lineno}: {frames[-1].line})" if frames and frames[-1].line else ""
    return f"{raised(e)}{where}"


def as_value(value: Any) -> Any:
    """What was returned as an array of floats (of its own rounding), a tuple of them, or a Problem."""
    if value is None or value is Ellipsis:
        return Problem("unanswered", "it returns nothing yet")
    if isinstance(value, tuple) and any(np.ndim(v) for v in value if not isinstance(v, str)):
        parts = [as_value(v) for v in value]
        return next((p for p in parts if isinstance(p, Problem)), tuple(parts))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            a = np.asarray(value)
            if a.dtype.kind not in "fiub":
                raise TypeError(a.dtype)
            return np.array(a, dtype=a.dtype if a.dtype.kind == "f" and a.dtype.itemsize < 8 else np.float64)  # float32 stays what it is
    except Exception:
        return Problem("shape", f"it returns {_kind(value)}, where a number or an array of numbers is expected")


def _kind(value: Any) -> str:
    name = f"array of {value.dtype}" if isinstance(value, np.ndarray | np.generic) else type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def same(a: Any, b: Any) -> bool:
    """Equal arrays, nan equal to nan."""
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"))


def repeats(function: Function, scope: Scope, times: int = 8) -> bool:
    """Whether the function returns the same each time it is called with the same."""
    first = watched(function, scope)
    for _ in range(times - 1):
        again = watched(function, scope)
        kinds = [type(v) for v in (first, again)]
        if kinds[0] is not kinds[1] or (isinstance(first, np.ndarray) and not same(first, again)):
            return False
    return True
