r"""What a derivation prints, executed: every side of every line is read, run, and compared with the function that stands beside it.

A definition ("u = p/q") holds from its line to the end of the derivation; a letter that a line begins with and nobody knows is defined
by that line.  What `Derivation.letters` declares is printed above the lines.  What cannot be read is listed, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from tabular_rlhf.derivations.lines import Line
from tabular_rlhf.derivations.record import Derivation
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.axes import axis_kind
from tabular_rlhf.formula.compiled import Compiled
from tabular_rlhf.ledger.prints import CLOSE, Print, reading
from tabular_rlhf.symbols import Scope


@lru_cache(maxsize=256)
def executed(derivation: Derivation) -> tuple[Print, ...]:
    """The printed lines of a derivation, executed once."""
    return tuple(prints(derivation, reading()))


def prints(derivation: Derivation, scopes: Iterable[Scope]) -> list[Print]:
    """Every line of a derivation, executed on those worlds in which it applies."""
    fit = [scope for scope in scopes if derivation.applies(scope)]
    return [_print(derivation, k, line, fit) for k, line in enumerate(derivation.lines, 1)]


def _print(derivation: Derivation, k: int, line: Line, scopes: list[Scope]) -> Print:
    try:
        made = derivation.reading.sides(k)
    except InputError as e:
        return Print(derivation.slug, k, line.tex, None, f"{e.must} (got {e.got})")
    for scope in scopes:
        for side in made:
            try:
                why = difference(side, scope, line(scope))
            except InputError as e:  # what only a world shows: a derivative through a solver
                return Print(derivation.slug, k, line.tex, None, f"{e.must} (got {e.got})")
            if why:
                return Print(derivation.slug, k, line.tex, False, f"{why}, on {scope.world.name} of {scope['N']} responses")
    return Print(derivation.slug, k, line.tex, True)


def difference(side: Compiled, scope: Scope, value: Any, *, strict: bool = False) -> str:
    """How a formula's value differs from the one that stands beside it; "" where they agree.

    A formula over prompts beside a number is averaged over them, unless it is looked at strictly.  Responses that the reference forbids
    are passed over.
    """
    found, expected = np.asarray(side(scope), dtype=np.float64), np.asarray(value, dtype=np.float64)
    axes = side.axes
    if strict and found.shape != expected.shape:
        return "it has another shape"
    if found.shape != expected.shape and "x" in axes and found.ndim == expected.ndim + 1:
        found = np.tensordot(scope["mu"], np.moveaxis(found, axes.index("x"), 0), 1)
        axes = tuple(a for a in axes if a != "x")
    if found.shape != expected.shape and not (found.ndim == 0 or expected.ndim == 0 or found.shape == np.squeeze(expected).shape):
        return f"it is over ({', '.join(side.axes)}), of shape {found.shape}, for {expected.shape}"
    expected = np.reshape(expected, found.shape) if expected.size == found.size else expected
    found, expected = np.broadcast_arrays(found, expected)
    counted = ~np.isnan(found) & _possible(axes, scope, found.shape)
    size = max(1.0, float(np.max(np.abs(expected[counted & np.isfinite(expected)]), initial=0.0)))
    with np.errstate(invalid="ignore"):
        gap = np.where(found == expected, 0.0, np.abs(found - expected))[counted]
    worst = float(np.max(gap, initial=0.0))
    return "" if worst <= CLOSE * size else f"it differs by {worst:.3g}"


def _possible(axes: tuple[str, ...], scope: Scope, shape: tuple[int, ...]) -> Any:
    """Where no response is one that the reference forbids."""
    allowed = np.broadcast_to(np.array(True), shape)
    forbidden = np.isneginf(scope["log_p_ref"])
    if len(axes) != len(shape) or "x" not in axes or not forbidden.any():
        return allowed
    for k, axis in enumerate(axes):
        if axis_kind(axis) == "tau":
            spread = [1] * len(shape)
            spread[0], spread[k] = forbidden.shape
            allowed = allowed & ~np.reshape(forbidden, spread)
    return allowed
