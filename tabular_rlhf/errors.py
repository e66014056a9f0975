"""Refusals.  Every message says four things: what must hold, what was got, the first place it fails, the usual remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np


class InputError(ValueError):
    """Bad input, refused before anything is computed.

    Args: must, what must hold; got, what was got (anything: it is shown, never at great length); remedy, the usual one; where, the first
    place at which it fails.  Each is an attribute.
    Raises: nothing of its own; it is what this package raises for input.

    >>> print(InputError("beta must be positive", got="-1.0", remedy="pass beta > 0, in reward units per nat"))
    beta must be positive: got -1.0; pass beta > 0, in reward units per nat
    """

    def __init__(self, must: str, *, got: object, remedy: str, where: str = "") -> None:
        self.must, self.got, self.where, self.remedy = must, shown(got), where, remedy
        super().__init__(f"{must}: {where + ': ' if where else ''}got {self.got}; {remedy}")

    def at(self, place: str, remedy: str | None = None) -> InputError:
        """The same refusal, said of a place that its cause did not know, and of the one that it did; perhaps with a better remedy.

        >>> print(InputError("points must be positive", got=0, remedy="pass 1").at("sheet.toml, regret"))
        points must be positive: sheet.toml, regret: got 0; pass 1
        """
        where = ", ".join(filter(None, (place, self.where)))
        return InputError(self.must, got=self.got, where=where, remedy=self.remedy if remedy is None else remedy)


class SolveError(RuntimeError):
    """An iteration that did not reach its goal.  Raised instead of returning the last iterate.

    Args: as of any RuntimeError: a message, which says where the iteration stood.
    Raises: nothing of its own; a solver of this package that fails raises it.

    >>> from tabular_rlhf.optimize import monotone_root
    >>> monotone_root(lambda x: (x - np.sqrt(2.0), np.ones(1)), [0.0], [2.0], steps=0)
    Traceback (most recent call last):
    tabular_rlhf.errors.SolveError: a root was not found in 0 steps: it lies between 0 and 2
    """


LONGEST = 1000
"""Characters of what was got that a message shows."""


def shown(x: object, way: Callable[[Any], str] = str) -> str:
    """`x` as `way` writes it, but never at great length, and never an exception: x may be anything, from anywhere.

    >>> shown(10**5000), shown([1, 2])
    ('a whole number of about 5000 digits', '[1, 2]')
    """
    try:
        text = way(x)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"
    except Exception:  # a __str__ that raises, or an integer of more digits than Python writes
        big = isinstance(x, int) and f"a whole number of about {int(x.bit_length() * LOG10_2)} digits"
        return big or f"{type(x).__name__}, which cannot be written"


LOG10_2 = 0.30102999566398120


def quoted(x: object) -> str:
    """`shown`, as the source of a program would have it: text in quotation marks."""
    return shown(x, repr)


def raised(e: BaseException) -> str:
    """An exception in one line.

    >>> raised(KeyError("x"))
    "KeyError: 'x'"
    """
    return f"{type(e).__name__}: {shown(e)}"


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for a name that nobody knows: the nearest known ones, at most four, or `otherwise`.

    >>> did_you_mean("regert", ["regret", "value"], "see the list")
    'did you mean regret?'
    """
    close = nearest(name, known)
    return f"did you mean {' or '.join(close)}?" if close else otherwise


def nearest(name: str, known: Iterable[str], most: int = 4) -> list[str]:
    """The known names that are nearest to one that nobody knows: those of other case first, then those that hold it.

    >>> nearest("n", ["N", "value"])
    ['N']
    """
    import difflib  # is slow to import, and only a mistake needs it

    known = list(known)
    alike = [k for k in known if k.casefold() == name.casefold()]
    inside = [k for k in known if len(name) > 2 and name in k]
    return list(dict.fromkeys(alike + inside + difflib.get_close_matches(name, known)))[:most]


def floats(x: Any, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`x` as a float array of the given shape; what values it has is left open."""
    try:
        if np.iscomplexobj(x):
            raise TypeError("complex numbers")
        a = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError) as e:
        raise InputError(f"{name} must be an array of real numbers", got=f"{type(x).__name__} ({shown(e)})", remedy="pass floats") from None
    if shape is not None and a.shape != shape:
        raise InputError(
            f"{name} must have shape {shape}", got=f"shape {a.shape}", remedy="see the notation table: P prompts, S states, N trajectories"
        )
    return a


def as_floats(x: Any, name: str, shape: tuple[int, ...] | None = None, *, minus_inf: bool = False) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`x` as a float array of the given shape without nan or inf (`minus_inf`: -inf is allowed, it is a forbidden event)."""
    a = floats(x, name, shape)
    if not (np.max(a, initial=0.0) < np.inf and (minus_inf or np.min(a, initial=0.0) > -np.inf)):
        bad = np.isnan(a) | (a == np.inf) | (False if minus_inf else a == -np.inf)
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        allowed = "finite or -inf (forbidden)" if minus_inf else "finite"
        raise InputError(
            f"{name} must be {allowed}", got=float(a[first]), where=f"at index {first}", remedy="check the computation that made it"
        )
    return a


def as_number(x: Any) -> float:
    """`x` as a float: inf beyond the largest, nan if it is no real number.

    >>> as_number("0.5"), as_number(10**400), as_number(None)
    (0.5, inf, nan)
    """
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf
    except Exception:
        return math.nan


def positive(x: float, name: str, unit: str) -> float:
    """`x` as a positive finite float."""
    value = as_number(x)
    if not (0 < value < np.inf):
        got = value if isinstance(x, (int, float, np.number)) else quoted(x)
        raise InputError(f"{name} must be positive and finite", got=got, remedy=f"pass {name} > 0, in {unit}")
    return value


def whole(x: object, name: str, least: int, remedy: str, most: float = np.inf) -> int:
    """`x` as an int, if it is a whole number (an int, no bool) from `least` to `most`."""
    if isinstance(x, bool | np.bool_) or not isinstance(x, (int, np.integer)) or not least <= x <= most:
        range_ = f"in {least}..{most}" if np.isfinite(most) else f"of at least {least}"
        raise InputError(f"{name} must be a whole number {range_}", got=x if isinstance(x, (int, np.integer)) else quoted(x), remedy=remedy)
    return int(x)


def a_generator(rng: Any) -> np.random.Generator:
    """`rng`, if draws can be had from it."""
    if not callable(getattr(rng, "random", None)) or isinstance(rng, type):
        raise InputError("rng must be a random generator", got=quoted(rng), remedy="pass np.random.default_rng(0)")
    return cast(np.random.Generator, rng)
