"""Quantities that readers confuse with one another: means, variances, entropies and divergences of the laws in the notation.

An answer that is not the one asked for is often the right answer to another question: E_{p*}[r] for beta log Z, KL(p_ref, p) for
KL(p, p_ref).
Each quantity is a number for every prompt, or its mean over prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from operator import itemgetter
from typing import Any

import numpy as np

from tabular_rlhf.symbols import Scope

LAWS = {"p": "log_p", "p_ref": "log_p_ref", "p*": "log_p_star", "p'": "log_p_2", "p_n (best of n)": "log_p_best_of_n"}
Quantity = Callable[[Scope], Any]


def _mean(law: str, f: Callable[[Scope], Any]) -> Quantity:
    return lambda s: np.sum(np.exp(s[law]) * f(s), axis=1)


def _variance(law: str, f: Callable[[Scope], Any]) -> Quantity:
    return lambda s: _mean(law, lambda t: np.square(f(t)))(s) - np.square(_mean(law, f)(s))


def _minus(name: str) -> Quantity:
    return lambda s: -s[name]


def _of_L(h: Callable[[Any], Any]) -> Quantity:
    return lambda s: h(s["L"])


def _number(name: str, h: Callable[[Any], Any]) -> Quantity:
    return lambda s: h(float(s[name]))


def _over_prompts(f: Quantity) -> Quantity:
    return lambda s: np.sum(s["mu"] * f(s))


def _distance(a: str, b: str, how: Callable[[Any, Any], Any]) -> Quantity:
    return lambda s: how(np.exp(s[a]), np.exp(s[b]))


ESTIMATORS: dict[str, Callable[[Any], Any]] = {
    "k1, which is L": lambda L: L,
    "k2, which is L^2/2": lambda L: 0.5 * np.square(L),
    "k3, which is exp(-L) - 1 + L": lambda L: np.expm1(-L) + L,
    "inverted k3, which is exp(L) - 1 - L": lambda L: np.expm1(L) - L,
    "L^2": np.square,
    "|L|": np.abs,
    "exp(-L)": lambda L: np.exp(-L),
}
DISTANCES: dict[str, Callable[[Any, Any], Any]] = {
    "KL": lambda p, q: np.sum(p * np.log(p / q), axis=1),
    "chi-squared": lambda p, q: np.sum(p * p / q, axis=1) - 1.0,
    "the total variation between": lambda p, q: 0.5 * np.sum(np.abs(p - q), axis=1),
    "the squared distance between": lambda p, q: np.sum(np.square(p - q), axis=1),
    "the cross-entropy": lambda p, q: -np.sum(p * np.log(q), axis=1),
}


def per_prompt() -> Iterator[tuple[str, Quantity]]:
    """A number for every prompt."""
    for law, name in LAWS.items():
        yield f"E_{law}[r], the mean reward under {law}", _mean(name, itemgetter("r"))
        yield f"Var_{law}(r), the variance of the reward under {law}", _variance(name, itemgetter("r"))
        yield f"E_{law}[r^2], a second moment where the mean is not subtracted", _mean(name, lambda s: np.square(s["r"]))
        yield f"the entropy of {law}", _mean(name, _minus(name))
        yield f"the mean length under {law}", _mean(name, itemgetter("lengths"))
    for (p, a), (q, b) in permutations(LAWS.items(), 2):
        for words, how in DISTANCES.items():
            yield f"{words}({p}, {q})" if words[0] in "Kc" else f"{words} {p} and {q}", _distance(a, b, how)
    for words, h in ESTIMATORS.items():
        for law in ("p", "p_ref"):
            yield f"the mean under {law} of {words}", _mean(LAWS[law], _of_L(h))
            yield f"the variance under {law} of {words}", _variance(LAWS[law], _of_L(h))
    yield "max r, the best reward of each prompt", lambda s: np.max(s["r"], axis=1)
    yield "min r, the worst reward of each prompt", lambda s: np.min(s["r"], axis=1)
    yield "the plain mean of r over responses", lambda s: np.mean(s["r"], axis=1)
    yield "Z", lambda s: np.exp(s["log_Z"])
    yield "max r/beta", lambda s: np.max(s["r"], axis=1) / s["beta"]
    yield "KL summed over the states with no visit weights", lambda s: np.sum(s["KL_s"], axis=1)
    yield "KL of the first token alone", lambda s: s["KL_s"][:, 0]
    yield "KL by states, weighted by d_ref", lambda s: np.sum(s["d_ref"] * s["KL_s"], axis=1)


def of_draws() -> Iterator[tuple[str, Quantity]]:
    """Numbers in n (draws) and G."""
    for name, n in (("n", "draws"), ("G", "G")):
        yield f"log {name}", _number(n, np.log)
        yield f"({name} - 1)/{name}", _number(n, lambda k: (k - 1.0) / k)
        yield f"1/{name}", _number(n, lambda k: 1.0 / k)


def _best(scope: Scope) -> Any:
    kept = np.exp(scope["log_p_ref"]) * (scope["r"] == np.max(scope["r"], axis=1, keepdims=True))
    return kept / np.sum(kept, axis=1, keepdims=True)


def quantities() -> Iterator[tuple[str, Quantity]]:
    """All of them: for every prompt, and averaged over prompts."""
    for words, f in per_prompt():
        yield words, f
        yield f"the mean over prompts of {words}", _over_prompts(f)
    yield "p_ref restricted to the best responses: the limit beta -> 0, argmax for softmax", _best
    yield from of_draws()


QUANTITIES: tuple[tuple[str, Quantity], ...] = tuple(quantities())
