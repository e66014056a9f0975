r"""What a derivation prints, executed: every side of every line is read, run, and compared with the function that stands beside it.

A definition ("u = p/q") holds from its line to the end of the derivation; a letter that a line begins with and nobody knows is defined
by that line.  What `Derivation.letters` declares is printed above the lines.  What cannot be read is listed, with the reason.

**Records.**  The LaTeX of loss, advantage, estimator and divergence records is executed beside the code that it stands for.

    for p in record_prints(): ...          Print(slug, number, tex, agrees, reason), as for derivations

A record's letters are arrays over drawn pairs, or over one drawn group: D = a - b, the length |w| of a winner, the rewards r_i.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from tabular_rlhf.derivations.lines import Line
from tabular_rlhf.derivations.record import Derivation
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS
from tabular_rlhf.formula.axes import axis_kind
from tabular_rlhf.formula.compiled import Compiled, compile
from tabular_rlhf.formula.lexicon import Given
from tabular_rlhf.formula.read import statement
from tabular_rlhf.formula.spellings import table
from tabular_rlhf.formula.tree import Node, sym
from tabular_rlhf.ledger.prints import CLOSE, Print, reading
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.policy_gradient import ADVANTAGES, CORRECTIONS
from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
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


# ---------------------------------------------------------------------------------------------------- records of other tables


DRAWN = 6
"""Pairs, or responses of a group."""
OF_A_PAIR: Mapping[str, str] = {
    "D": "a - b",
    "u_w": "exp(a)",
    "u_l": "exp(b)",
    "pi_w": "exp(p)",
    "pi_l": "exp(q)",
    "epsilon": "eps",
    "lambda": "lam",
    "z_0": "z0",
    "lambda_D": "lam_D",
    "lambda_U": "lam_U",
    "m_w": "p/len_w",
    "m_l": "q/len_l",
}
OF_A_GROUP: Mapping[str, str] = {"r_bar": "mean(r)"}
"""What the letters of records stand for, by the names that their functions ask for."""
SETTINGS: Mapping[str, str] = table("c clip , d dual , c_low low , c_high high , C cap , tau_pos , tau_neg")
"""Letters of policy losses, and the settings that they are."""
BOUNDS: Mapping[str, str] = {"c_low": "floor", "c_high": "cap"}
"""The same of corrections."""


def record_prints(seed: int = 0) -> list[Print]:
    """Every record's LaTeX: whether it agrees with its function on drawn numbers, or why it is not executed.

    >>> found = record_prints()
    >>> [p.agrees for p in found if p.slug in ("loss dpo", "divergence reverse-kl", "advantage group-mean")]
    [True, True, True]
    """
    rng = np.random.default_rng(seed)
    return [*_losses(rng), *_estimators(rng), *_divergences(rng), *_advantages(rng), *_policy_losses(rng), *_corrections(rng)]


def shares(found: list[Print]) -> tuple[int, int, int]:
    """How many agree, differ, and are not executed."""
    agree, differ = (sum(p.agrees is what for p in found) for what in (True, False))
    return agree, differ, len(found) - agree - differ


def _losses(rng: np.random.Generator) -> Iterator[Print]:
    for loss in LOSSES.values():
        a, b, p, q = rng.standard_normal((4, DRAWN))
        p, q = -np.abs(p) - 0.1, -np.abs(q) - 0.1
        pairs = {"a": a, "b": b, "p": p, "q": q, "len_w": rng.integers(1, 6, DRAWN), "len_l": rng.integers(1, 6, DRAWN), "p0": p, "q0": q}
        numbers = {"beta": 0.7, "tau": 0.7, "width": 0.0, **loss.defaults, **dict.fromkeys(loss.frozen, 0.3)}
        yield _held("loss", loss.name, loss.latex, loss.fn, {**pairs, **numbers}, OF_A_PAIR)


def _estimators(rng: np.random.Generator) -> Iterator[Print]:
    for e in ESTIMATORS.values():
        yield _held("estimator", e.name, e.latex, lambda L, e=e: e.h(L), {"L": rng.standard_normal(DRAWN)}, {})


def _divergences(rng: np.random.Generator) -> Iterator[Print]:
    for d in DIVERGENCES.values():
        alpha = float(d.name.partition("=")[2] or 0.5)
        yield _held("divergence", d.name, d.latex, lambda u, d=d: d.f(u), {"u": np.exp(rng.standard_normal(DRAWN)), "alpha": alpha}, {})


def _advantages(rng: np.random.Generator) -> Iterator[Print]:
    for a in ADVANTAGES.values():
        given = {"r": rng.standard_normal(DRAWN), "G": DRAWN, "lengths": rng.integers(1, 6, DRAWN), **a.defaults}
        yield _held("advantage", a.name, a.latex, a.fn, {**given, "n": np.ones(DRAWN)}, OF_A_GROUP, {**given, "L": given["lengths"]})


def _policy_losses(rng: np.random.Generator) -> Iterator[Print]:
    for loss in POLICY_LOSSES.values():
        log_pi, log_old, A = rng.standard_normal((3, DRAWN))
        given = {"A": A, "log_pi": log_pi, "log_old": log_old, "log_now": log_pi, **loss.defaults}
        rho = np.exp(log_pi - log_old)
        letters = {"A": A, "pi": np.exp(log_pi), "rho": rho, "rho_frozen": rho}
        letters |= {letter: loss.defaults[name] for letter, name in SETTINGS.items() if name in loss.defaults}
        yield _held("policy loss", loss.name, loss.latex, loss.fn, given, {}, letters)


def _corrections(rng: np.random.Generator) -> Iterator[Print]:
    for c in CORRECTIONS.values():
        rho = np.exp(rng.standard_normal(DRAWN))
        letters = {"rho": rho, **{letter: c.defaults[name] for letter, name in BOUNDS.items() if name in c.defaults}}
        yield _held("correction", c.name, c.latex, c.fn, {"rho": rho, **c.defaults}, {}, letters)


def _held(
    kind: str,
    name: str,
    tex: str,
    code: Callable[..., Any],
    given: Mapping[str, Any],
    letters: Mapping[str, str],
    tables: Mapping[str, Any] | None = None,
) -> Print:
    """One record's formula beside its function: given, what the function is; tables, what the letters are (by default the same)."""
    slug, tables = f"{kind} {name}", given if tables is None else tables
    bound: dict[str, Any] = {k: v for k, v in letters.items() if k not in tables}
    bound |= {k: Given(v, None, k, ("i",) if np.ndim(v) else ()) for k, v in tables.items()}
    scope = {**{k: np.asarray(v, dtype=np.float64) for k, v in tables.items()}, "mdp": SimpleNamespace(P=1, N=DRAWN)}
    asked = [p for p, what in inspect.signature(code).parameters.items() if what.default is inspect.Parameter.empty]
    try:
        made = compile(_by_name(statement(tex, letters=bound).value), bound, tex)
        missing = [p for p in asked if p not in given]
        if missing:
            return Print(slug, 1, tex, None, f"its function asks for {', '.join(missing)}")
        found, expected = np.asarray(made(scope)), np.asarray(code(**{p: given[p] for p in asked}), dtype=np.float64)
    except InputError as e:
        return Print(slug, 1, tex, None, f"{e.must} (got {e.got})")
    except KeyError as e:
        return Print(slug, 1, tex, None, f"its letters are those of a world: {e.args[0]}")
    if found.shape not in (expected.shape, ()):
        return Print(slug, 1, tex, None, f"it is over ({', '.join(made.axes)}), of shape {found.shape}, for {expected.shape}")
    gap = float(np.max(np.abs(found - expected)))
    same = gap <= CLOSE * max(1.0, float(np.max(np.abs(expected))))
    return Print(slug, 1, tex, same, "" if same else f"it differs by {gap:.3g}")


def _by_name(tree: Node) -> Node:
    """The tree in which what is of the winner or the loser is a letter of its own: |w| is len_w, u_w the winner's u."""
    if tree.op == "at" and len(tree.kids) == 2 and tree.kids[1].value in ("w", "l"):
        name = "len" if tree.kids[0].value == "lengths" else str(tree.kids[0].value)
        return sym(f"{name}_{tree.kids[1].value}")
    return tree.over(*map(_by_name, tree.kids))
