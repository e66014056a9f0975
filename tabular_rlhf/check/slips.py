"""The slips that people make, as tables: of the whole answer, of a factor, of one symbol, of the world.

Each is words and a function, and knows no question: `diagnose` compares an answer with all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.symbols import SYMBOLS, Scope, is_formula, parameters

Function = Callable[..., Any]

# ---------------------------------------------------------------------------------------------------- slips of the whole answer


def _normal(v: Any, axis: int | None) -> Any:
    return v / np.sum(v, axis=axis, keepdims=True)


def _reference(v: Any, scope: Scope) -> Any:
    return next(scope[name] for name in ("pi_ref", "p_ref") if np.shape(scope[name]) == np.shape(v))


OUTPUTS: tuple[tuple[str, Callable[[Any, Scope], Any]], ...] = (
    ("sign flipped", lambda v, scope: -v),
    ("transposed: winner and loser swapped", lambda v, scope: np.swapaxes(v, -1, -2)),
    ("the complement: 1 minus the answer", lambda v, scope: 1.0 - v),
    ("the logarithm of the answer", lambda v, scope: np.log(v)),
    ("exponentiated: a probability where its logarithm was asked", lambda v, scope: np.exp(v)),
    ("squared", lambda v, scope: v * v),
    ("the square root of the answer", lambda v, scope: np.sqrt(v)),
    ("inverted: one over the answer", lambda v, scope: 1.0 / v),
    ("signs lost: the absolute value of the answer", lambda v, scope: np.abs(v)),
    ("the normal distribution function (probit) for sigma", lambda v, scope: special.ndtr(special.logit(v))),
    ("the reference left out at the last step, before normalizing", lambda v, scope: _normal(v / _reference(v, scope), -1)),
    ("the reference taken twice", lambda v, scope: _normal(v * _reference(v, scope), -1)),
    ("normalized over all prompts together", lambda v, scope: _normal(v, None)),
    ("normalized once more, over the last axis", lambda v, scope: _normal(v, -1)),
    ("joint for conditional: multiplied by mu(x)", lambda v, scope: v * scope["mu"].reshape(-1, *[1] * (v.ndim - 1))),
    ("centered: its plain mean over the last axis taken away", lambda v, scope: v - np.mean(v, axis=-1, keepdims=True)),
    ("reversed order", lambda v, scope: v[..., ::-1]),
    ("all zero", lambda v, scope: np.zeros_like(v)),
)
Factor = Callable[[Scope], float]
NUMBERS: tuple[tuple[str, str, Factor], ...] = (
    ("beta", "beta", lambda s: s["beta"]),
    ("N", "the number of responses", lambda s: s["N"]),
    ("P", "the number of prompts", lambda s: s["P"]),
    ("H", "the horizon", lambda s: s["H"]),
    ("V", "the vocabulary size", lambda s: s["V"]),
    ("S", "the number of states", lambda s: s["S"]),
    ("G", "the group size", lambda s: s["G"]),
    ("n", "the number of draws", lambda s: s["draws"]),
    ("n", "the number of observations", lambda s: s["observed"]),
    ("N-1", "N - 1", lambda s: s["N"] - 1.0),
    ("G-1", "G - 1", lambda s: s["G"] - 1.0),
)


SHRUNK = (
    ("n for n-1: off by a factor ({0}-1)/{0}", 1.0),
    ("n-1 for n: off by a factor {0}/({0}-1)", -1.0),
    ("a factor ({0}-1)/{0} for {0}/({0}-1), upside down, or squared", 2.0),
    ("a factor {0}/({0}-1) for ({0}-1)/{0}, upside down, or squared", -2.0),
)
"""What a list of some length is divided by, and how often it is one too many."""
LENGTHS = {"G": "G", "n": "observed", "N": "N"}
CONSTANTS = (
    ("log base 2", 1.0 / np.log(2.0)),
    ("log base 10", 1.0 / np.log(10.0)),
    ("a factor log 2", np.log(2.0)),
    ("a factor 2 too many", 2.0),
    ("a factor 1/2 too many (a 2 is missing)", 0.5),
)


def _power(number: Factor, k: float, c: float) -> Factor:
    return lambda scope: c * float(number(scope)) ** k


def _shrinkage(symbol: str) -> Factor:
    return lambda scope: float((scope[symbol] - 1) / scope[symbol])


def _factors() -> Iterator[tuple[str, Factor]]:
    beta = NUMBERS[0][2]
    yield "sign flipped", lambda scope: -1.0
    for c, note in ((1.0, ""), (-1.0, ", and sign flipped")):
        yield f"a factor beta is missing: beta dropped{note}", _power(beta, -1.0, c)
        yield f"a factor beta too many{note}", _power(beta, 1.0, c)
        yield f"1/beta for beta{note}", _power(beta, -2.0, c)
        yield f"beta for 1/beta, or beta squared{note}", _power(beta, 2.0, c)
        for short, long, number in NUMBERS[1:]:
            yield f"mean where the sum was due: a factor 1/{short} ({long}) too many{note}", _power(number, -1.0, c)
            yield f"sum where the mean was due: a factor {short} ({long}) too many{note}", _power(number, 1.0, c)
        for (letter, symbol), (words, k) in product(LENGTHS.items(), SHRUNK):
            said = words.format(letter) + note
            yield said, _power(_shrinkage(symbol), k, c)
            yield said.replace("a factor", "the root of"), _power(_shrinkage(symbol), k / 2.0, c)
        for words, constant in CONSTANTS:
            yield words + note, _power(lambda scope: 1.0, 1.0, c * constant)


FACTORS = tuple(_factors())
OTHER_WORLDS: tuple[tuple[str, Callable[[Scope], Scope]], ...] = (
    ("beta dropped", lambda scope: scope.given(beta=1.0)),
    ("1/beta for beta", lambda scope: scope.given(beta=1.0 / scope["beta"])),
    ("beta squared", lambda scope: scope.given(beta=scope["beta"] ** 2)),
    ("the sign of the reward flipped", lambda scope: scope.given(r=-scope["r"])),
    ("log base 2: powers of 2 for powers of e", lambda scope: scope.given(r=scope["r"] * np.log(2.0))),
    ("the limit beta -> 0", lambda scope: scope.given(beta=1e-12)),
    ("the limit of rewards far apart: a certain winner", lambda scope: scope.given(r=scope["r"] * 1e12)),
    ("the proxy reward for the true one", lambda scope: scope.given(r=scope["proxy"])),
)

# ---------------------------------------------------------------------------------------------------- slips of one symbol

Change = Callable[[Scope], dict[str, Any]]


def _even(x: Any) -> Any:
    return np.ones_like(x) / np.size(x) if np.ndim(x) == 1 else x * np.nan


UNARY: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("{0} omitted (as if {0} = 0)", "0", np.zeros_like),
    ("{0} omitted (as if {0} = 1)", "1", np.ones_like),
    ("the sign of {0} flipped", "-{0}", np.negative),
    ("1/{0} for {0}", "1/{0}", lambda x: 1.0 / x),
    ("{0} squared", "{0}^2", np.square),
    ("exp({0}) for {0}", "exp({0})", np.exp),
    ("log({0}) for {0}", "log({0})", np.log),
    ("{0} in bits, powers of 2", "{0} log 2", lambda x: x * np.log(2.0)),
    ("{0} halved", "{0}/2", lambda x: 0.5 * x),
    ("{0} doubled", "2 {0}", lambda x: 2.0 * x),
    ("{0} - 1 for {0}", "{0} - 1", lambda x: x - 1.0 if not np.ndim(x) else x * np.nan),
    ("{0} + 1 for {0}", "{0} + 1", lambda x: x + 1.0 if not np.ndim(x) else x * np.nan),
    ("{0} averaged over prompts evenly", "an even {0}", _even),
    ("a uniform distribution for {0}", "a uniform distribution", lambda x: np.ones_like(x) / np.shape(x)[-1]),
    (
        "the log of a uniform distribution for {0}",
        "the log of a uniform distribution",
        lambda x: -np.log(np.shape(x)[-1]) * np.ones_like(x),
    ),
    ("{0} transposed", "{0} transposed", lambda x: np.swapaxes(x, -1, -2)),
)
"""What is done to a symbol: as a mistake, what is to be written in its place, and the change itself."""
VAGUE = (np.zeros_like, np.ones_like, _even)
"""Changes so free that nearly any formula can be mended by one of them and another."""
COSTLY = ("p_dpo", "p_dpo_linear", "p_limit", "score_rows")


def changes(function: Function, scope: Scope) -> Iterator[tuple[str, Change]]:
    """Every way to spoil one symbol of the right formula: (words, what to supply instead)."""
    names = spoiled(function)
    winners = [n for n in names if n.endswith("_w") and n[:-2] + "_l" in names]
    if winners:
        yield "winner and loser swapped", exchanged({n: n[:-2] + "_l" for n in winners})
    for a, b in _other_winners(winners):
        yield f"{b} for {a}", _put_pair(a, b)
    for a, b in _same_shape(names):
        yield f"{a} and {b} change places{_about(a, b)}", exchanged({a: b})
    for a in names:
        yield from _of_meaning(a, names)
    for a in names:
        for words, _, change in UNARY:
            gone = f"{a.removeprefix('log_')} omitted (as if {a} = 0)" if change is np.zeros_like else words.format(a)
            law = is_formula(function) and words.startswith("the log of") and a.startswith("log_")
            yield gone.replace("the log of ", "").replace("log_", "") if law else gone, _changed(a, change)
        for b in alike(a):
            words = f"{b} for {a}"
            yield words.replace("log_", "") if is_formula(function) else words, _put(a, b)


def spoiled(function: Function) -> list[str]:
    """The symbols of a function that may be changed; of a law that a formula holds, its logarithm."""
    names = [n for n in parameters(function) if n in SYMBOLS and SYMBOLS[n].level != "tool"]
    return [n for n in names if not is_formula(function) or f"log_{n}" not in names]


def mends(function: Function, *, vague: bool = True) -> Iterator[tuple[str, Change]]:
    """Every way to change one symbol of a reader's formula, said as what to write instead; without the vague ones if two are joined."""
    names = [n for n in parameters(function) if n in SYMBOLS and SYMBOLS[n].level != "tool"]
    winners = [n for n in names if n.endswith("_w") and n[:-2] + "_l" in names]
    if winners:
        yield "mend it: winner and loser swapped", exchanged({n: n[:-2] + "_l" for n in winners})
    for a, b in _same_shape(names):
        yield f"mend it: {a} and {b} change places{_about(a, b)}", exchanged({a: b})
    for a in names:
        for _, write, change in UNARY:
            if vague or change not in VAGUE:
                also = ": its sign is flipped" if change is np.negative else ""
                yield f"mend it: write {write.format(a)} where you write {a}{also}", _changed(a, change)
    if vague:
        for a, b in _other_winners(winners):
            yield f"mend it: write {b} where you write {a}", _put_pair(a, b)
        for a, b in _others(names):
            yield f"mend it: write {b} where you write {a}", _put(a, b)


def _other_winners(winners: list[str]) -> Iterator[tuple[str, str]]:
    return ((a[:-2], b[:-2]) for a in winners for b in alike(a) if b.endswith("_w"))


def _others(names: list[str]) -> Iterator[tuple[str, str]]:
    """A symbol, and one that might be taken for it and is not used."""
    return ((a, b) for a in names for b in alike(a) if b not in names)


def _same_shape(names: list[str]) -> Iterator[tuple[str, str]]:
    return ((a, b) for a, b in combinations(names, 2) if SYMBOLS[a].shape == SYMBOLS[b].shape)


def _of_meaning(name: str, names: list[str]) -> Iterator[tuple[str, Change]]:
    """Slips of a symbol that mean something: another estimator for the log-ratio, visits of the first state alone."""
    for words, h in ESTIMATORS:
        if name in ("L", "L_s"):
            yield words, _changed(name, h)
        if name == "log_p_ref" and "log_p" in names:
            yield words, _other_ratio(h)
    if name.startswith("d_"):
        yield (
            f"only the first state counted: {name} omitted further on",
            _changed(name, lambda d: np.where(np.arange(d.shape[-1]) < 1, d, 0.0)),
        )
        yield f"{name} divided by its sum: shares of visits", _changed(name, lambda d: d / np.sum(d, axis=-1, keepdims=True))


def _other_ratio(h: Callable[[Any], Any]) -> Change:
    """Whatever is made of log p - log p_ref is made of h of it."""
    return lambda scope: {"log_p_ref": scope["log_p"] - h(scope["log_p"] - scope["log_p_ref"])}


ESTIMATORS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("k2 for the log-ratio", lambda L: 0.5 * np.square(L)),
    ("k3 for the log-ratio", lambda L: np.expm1(-L) + L),
    ("inverted k3 for the log-ratio", lambda L: np.expm1(L) - L),
    ("|L| for the log-ratio L", np.abs),
    ("the ratio for its logarithm", np.exp),
    ("the ratio less 1 for its logarithm", np.expm1),
)


def exchanged(pairs: dict[str, str]) -> Change:
    """Each symbol of the pairs in the place of its partner."""
    both = pairs | {b: a for a, b in pairs.items()}
    return lambda scope: {a: scope[b] for a, b in both.items()}


def _changed(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda scope: {name: change(np.asarray(scope[name], dtype=np.float64))}


def _put(name: str, other: str) -> Change:
    return lambda scope: {name: scope[other]}


def _put_pair(stem: str, other: str) -> Change:
    return lambda scope: {stem + who: scope[other + who] for who in ("_w", "_l")}


def _about(a: str, b: str) -> str:
    """What an exchange of two symbols is called."""
    if all(x.startswith("log_p") for x in (a, b)):
        return " (forward for reverse KL, or the ratio inverted)"
    return " (winner and loser swapped)" if {a[-2:], b[-2:]} == {"_w", "_l"} else ""


@lru_cache(maxsize=256)
def alike(name: str) -> tuple[str, ...]:
    """Symbols of the same shape that a reader might take for this one."""
    one = SYMBOLS[name]
    return tuple(
        n
        for n, s in SYMBOLS.items()
        if n != name and n not in COSTLY and (s.shape == one.shape or {s.shape, one.shape} <= {"int", "scalar"}) and s.level != "tool"
    )
