r"""The oracle: the subject once more by plain enumeration.  It imports nothing from the package, nor NumPy.

A response is a tuple of token numbers; with EOS its number is V - 1.  A policy is a dict from prefix to the list of its token
probabilities; a law is a dict from response to probability; a reward a dict from response to number.  Functions without
logarithms work for floats and for `fractions.Fraction` alike, and then they are exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Prefix = tuple[int, ...]
Number = Any  # float or Fraction


def total(values: Iterable[Number]) -> Number:
    """The sum: exact for fractions, correctly rounded for floats."""
    kept = list(values)
    return sum(kept, Fraction(0)) if kept and all(isinstance(v, Fraction) for v in kept) else math.fsum(kept)


# ---------------------------------------------------------------------------------------------------- chapter 1: the tree


def strings(V: int, H: int, eos: bool) -> list[Prefix]:
    """All responses in dictionary order: every string of H tokens, cut after its first EOS."""

    def cut(s: Prefix) -> Prefix:
        return s[: s.index(V - 1) + 1] if eos and V - 1 in s else s

    return sorted({cut(s) for s in itertools.product(range(V), repeat=H)})


def prefixes(responses: Iterable[Prefix]) -> list[Prefix]:
    """All decision states: the proper prefixes of the responses."""
    return sorted({s[:h] for s in responses for h in range(len(s))})


def law_of(pi: Mapping[Prefix, Sequence[Number]], responses: Iterable[Prefix]) -> dict[Prefix, Number]:
    """p_pi(tau): the product of pi(a_h given s_h) along the response."""
    return {s: math.prod(pi[s[:h]][a] for h, a in enumerate(s)) for s in responses}


def occupancy(law: dict[Prefix, Number]) -> dict[Prefix, Number]:
    """d(s): the probability of passing through s, summed over the responses that begin with s."""
    through: dict[Prefix, list[Number]] = {}
    for s, p in law.items():
        for h in range(len(s)):
            through.setdefault(s[:h], []).append(p)
    return {s: total(ps) for s, ps in through.items()}


def policy_of(law: dict[Prefix, Number], V: int) -> dict[Prefix, list[Number]]:
    """pi(a given s) = p(s + a)/p(s) on the states that the law reaches."""
    reach: dict[Prefix, Number] = {**law, **occupancy(law)}
    return {s: [reach.get((*s, a), 0) / d for a in range(V)] for s, d in occupancy(law).items() if d > 0}


# ---------------------------------------------------------------------------------------------------- chapter 4: Gibbs


def mean(law: dict[Prefix, Number], f: dict[Prefix, Number]) -> Number:
    """E_p[f]."""
    return total(p * f[s] for s, p in law.items() if p > 0)


def kl(p: dict[Prefix, float], q: dict[Prefix, float]) -> float:
    """KL(p, q) = sum p log(p/q), in nats."""
    if any(p[s] > 0 and q[s] == 0 for s in p):
        return math.inf
    return math.fsum(p[s] * math.log(p[s] / q[s]) for s in p if p[s] > 0)


def objective(law: dict[Prefix, float], ref: dict[Prefix, float], r: dict[Prefix, float], beta: float) -> float:
    """E_p[r] - beta KL(p, p_ref)."""
    return float(mean(law, r)) - beta * kl(law, ref)


def gibbs(ref: dict[Prefix, Number], weight: dict[Prefix, Number]) -> tuple[Number, dict[Prefix, Number]]:
    """(Z, p*) from the weights exp(r/beta)."""
    Z = total(ref[s] * weight[s] for s in ref)
    return Z, {s: ref[s] * weight[s] / Z for s in ref}


def tilt(ref: dict[Prefix, float], r: dict[Prefix, float], beta: float) -> tuple[float, dict[Prefix, float]]:
    """(V, p*) with V = beta log Z, rewards taken relative to the best possible one."""
    best = max(r[s] for s in ref if ref[s] > 0)
    Z, law = gibbs(ref, {s: math.exp(min(0.0, r[s] - best) / beta) for s in ref})
    return best + beta * math.log(Z), law


def soft_bellman(pi: dict[Prefix, list[float]], r: dict[Prefix, float], beta: float) -> dict[Prefix, float]:
    """V of every state and response by the recursion V(s) = beta log sum_a pi exp(V(s + a)/beta), V(leaf) = r."""
    values: dict[Prefix, float] = dict(r)

    def visit(s: Prefix) -> float:
        if s not in values:
            branches = [(q, visit((*s, a))) for a, q in enumerate(pi[s]) if q > 0]
            best = max(v for _, v in branches)
            values[s] = best + beta * math.log(math.fsum(q * math.exp((v - best) / beta) for q, v in branches))
        return values[s]

    for s in pi:
        visit(s)
    return values


def exact_values(pi: dict[Prefix, list[Fraction]], weight: dict[Prefix, Fraction]) -> dict[Prefix, Fraction]:
    """exp(V/beta) of every state, in fractions: the recursion without its logarithm."""
    values: dict[Prefix, Fraction] = dict(weight)
    for s in sorted(pi, key=len, reverse=True):
        values[s] = total(q * values[(*s, a)] for a, q in enumerate(pi[s]))
    return values


# ---------------------------------------------------------------------------------------------------- other penalties


def bisect(increasing: Callable[[float], float], low: float, high: float) -> float:
    """The root of an increasing function between low and high, to the last bit."""
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        low, high = (low, middle) if increasing(middle) > 0 else (middle, high)


SLOPES: dict[str, Callable[[float], float]] = {
    "reverse-kl": lambda u: 1 + math.log(u),
    "forward-kl": lambda u: -1 / u,
    "chi-squared": lambda u: u - 1,
    "jensen-shannon": lambda u: math.log(2 * u / (1 + u)),
    "alpha=0.5": lambda u: 2 - 2 / math.sqrt(u),
}
"""f' of each f-divergence, differentiated by hand from f."""
CONVEX: dict[str, Callable[[float], float]] = {
    "reverse-kl": lambda u: u * math.log(u) if u > 0 else 0.0,
    "forward-kl": lambda u: -math.log(u),
    "chi-squared": lambda u: (u - 1) ** 2 / 2,
    "jensen-shannon": lambda u: (u * math.log(u) if u > 0 else 0.0) - (u + 1) * math.log((u + 1) / 2),
    "alpha=0.5": lambda u: 2 * (math.sqrt(u) - 1) ** 2,
}


def inverse_slope(slope: Callable[[float], float], y: float) -> float:
    """The u >= 0 with f'(u) = y, 0 where f'(0) >= y already: bisection on log u."""
    if slope(1e-290) >= y:
        return 0.0
    return math.exp(bisect(lambda t: slope(math.exp(t)) - y, math.log(1e-290), math.log(1e290)))


def f_optimum(ref: Sequence[float], r: Sequence[float], beta: float, name: str) -> tuple[list[float], float]:
    """argmax E_p[r] - beta D_f(p, p_ref) and its multiplier, by bisection inside bisection."""
    slope = SLOPES[name]
    best, mass = max((v, q) for v, q in zip(r, ref, strict=True) if q > 0)

    def law(lam: float) -> list[float]:
        return [q * inverse_slope(slope, (v - lam) / beta) if q > 0 else 0.0 for v, q in zip(r, ref, strict=True)]

    if mass == 1.0:
        return [1.0 if q == 1.0 else 0.0 for q in ref], best - beta * slope(1.0)
    lam = -bisect(lambda m: math.fsum(law(-m)) - 1, -(best - beta * slope(1.0)), -(best - beta * slope(1.0 / mass)))
    return law(lam), lam


def ptx_optimum(ref: Sequence[float], r: Sequence[float], beta: float, gamma: float, d: Sequence[float]) -> tuple[list[float], float]:
    """argmax E_p[r] - beta KL(p, p_ref) + gamma E_D[log p] and its multiplier: both equations by bisection.

    With p0 = p_ref exp((r + lam)/beta - 1) and c = gamma D/beta the stationary p solves log(p/p0) = c/p, and lies between p0 and
    p0 + c because log(1 + y) >= y/(1 + y).
    """

    def one(q: float, v: float, d_: float, lam: float) -> float:
        p0, c = q * math.exp((v + lam) / beta - 1), gamma * d_ / beta
        return bisect(lambda p: math.log(p / p0) - c / p, p0, p0 + c) if c > 0 else p0

    def law(lam: float) -> list[float]:
        return [one(q, v, d_, lam) if q > 0 else 0.0 for q, v, d_ in zip(ref, r, d, strict=True)]

    best = max(v for v, q in zip(r, ref, strict=True) if q > 0)
    high = beta * (1 - math.log(math.fsum(q * math.exp((v - best) / beta) for q, v in zip(ref, r, strict=True)))) - best
    low, step = high, gamma + beta
    while math.fsum(law(low)) > 1:
        low, step = low - step, 2 * step
    lam = bisect(lambda m: math.fsum(law(m)) - 1, low, high)
    return law(lam), lam


# ---------------------------------------------------------------------------------------------------- text


def ngram_counts(sentences: Iterable[Sequence[str]], names: Sequence[str], order: int, eos: str | None) -> dict[Prefix, list[int]]:
    """How often each token follows each context of (at most) `order` tokens; nothing is counted across an unknown word or EOS."""
    number = {w: i for i, w in enumerate(names)}
    counts: dict[Prefix, list[int]] = {}
    for words in sentences:
        said = list(words) + ([eos] if eos is not None and (not words or words[-1] != eos) else [])
        for i, word in enumerate(said):
            before = said[max(0, i - order) : i]
            if word in number and all(w in number and w != eos for w in before):
                counts.setdefault(tuple(number[w] for w in before), [0] * len(names))[number[word]] += 1
    return counts
