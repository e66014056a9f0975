r"""What a flag really descends, and where it leads: one theorem and a little algebra.

**Theorem** (`kl-estimator-theorem`).  With L = log(p_pi/p_ref), u = e^L and any function phi,

    E_pi[phi(L) score] = grad D_f(p_pi, p_ref),   D_f = E_ref[f(u)],   f'(u) = phi(log u).

A flag of whole responses has phi = h' in the loss, h in the reward, h + h' with a live ratio.  So if D_h is what h descends
in the loss, integration by parts gives the rest:  E[h] - D_h in the reward, E[h] with a live ratio.  A straight-through
estimator takes its D from its tangent.  A clamp makes f flat where h is held: f(clip(u)).

**By tokens** the loss is the same theorem in every state, the visits d held:

    sum_s d_0(s) D_h(pi(.given s), pi_ref(.given s)):    not the gradient of anything, because d moves too.

Its fixed point with E[r] still has a closed form, backwards through the tree: pi(.given s) is the optimum of E_a[Q] - beta D_h in
every state, with Q(s, a) = V(s + a), V(s) = E_a[Q], V(leaf) = r.  Unlike in soft Bellman, no KL is charged for what follows.

**Optima** of E[r] - beta D: argmax r (nothing), Gibbs (KL), beta p_ref/(lam - r) (forward KL), p_ref max(0, 1 + (r - lam)/beta)
(chi2/2), a threshold (2 TV): what earns less than the best by more than 2 beta gives its mass to the best.

Sources: Csiszar (1967); Go et al. (2023), arXiv:2302.08215 (the theorem, towards any target); Tang and Munos (2025), arXiv:2506.09477.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.evaluate import contributions
from tabular_rlhf.estimators.record import TERMS, Flag, Terms
from tabular_rlhf.gibbs import greedy_limit, log_gibbs
from tabular_rlhf.logspace import Array, has_zeros, kl, log_ratio, log_softmax
from tabular_rlhf.penalties import f_divergence_optimum
from tabular_rlhf.world import World

LARGE = 350.0
"""Nats: a ratio beyond e^350 has no square."""
FROZEN = "by state, visits held"
Objective = Callable[[World, Any, Any], Any]
"""(world, live log_pi, held log_pi) -> what is descended, a scalar, traceable in the live policy."""


@dataclass(frozen=True, eq=False)
class Descent:
    """What a flag descends: its name ("none" is an answer), the sum of TERMS where it is one, and the function itself."""

    name: str
    terms: Terms | None = None
    objective: Objective | None = None


def spell(terms: Terms) -> str:
    """A sum of terms as text; mass is left out, because it is 0 for distributions.

    >>> spell({"KL(pi, ref)": 1.0, "KL(ref, pi)": -1.0}), spell({"chi2/2": 2.0, "KL(pi, ref)": -1.0}), spell({"mass": 1.0})
    ('KL(pi, ref) - KL(ref, pi)', 'chi2 - KL(pi, ref)', 'nothing')
    """
    text = ""
    for name, c in sorted(terms.items(), key=lambda term: term[1] < 0):
        if name != "mass":
            word = {("chi2/2", 2.0): "chi2"}.get((name, abs(c)), name if abs(c) == 1.0 else f"{abs(c):g} {name}")
            text += (" + " if c > 0 else " - ") + word if text else ("" if c > 0 else "-") + word
    return text or "nothing"


def combine(*parts: tuple[float, Terms]) -> dict[str, float]:
    """The sum of multiples of terms, without those that cancel."""
    total: dict[str, float] = {}
    for c, terms in parts:
        for name, value in terms.items():
            total[name] = total.get(name, 0.0) + c * value
    return {name: value for name, value in total.items() if value}


def placed(flag: Flag) -> dict[str, float]:
    """The terms of the divergence with f'(u) = phi(log u): D of the tangent if h is live, plus E[h] - D_h if the ratio is.

    >>> placed(Flag("k3", "reward")), placed(Flag("k3", "ratio"))
    ({'KL(ref, pi)': -1.0, 'KL(pi, ref)': 1.0}, {'KL(pi, ref)': 1.0})
    """
    e, place = flag.record, flag.place
    reward = combine((1.0, e.mean), (-1.0, e.path))
    return combine((float(place.value_live), e.differentiated.path), (float(place.weight_live), reward))


def _sum_of(terms: Terms, u: Any) -> Any:
    with np.errstate(over="ignore"):  # chi-squared may be beyond floats
        return sum((c * TERMS[name](u) for name, c in terms.items()), np.zeros(np.shape(u)))


def _edge(flag: Flag, sign: float) -> float:
    """How far from 0 L may go, upwards or downwards, before a clamp holds it: bisection, h being monotone on either side."""
    low, high = 0.0, flag.clamps.get("input", 700.0)
    cap = flag.clamps.get("output", np.inf)
    if abs(flag.record.h(np.asarray(sign * high))) <= cap:
        return sign * high
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if abs(flag.record.h(np.asarray(sign * middle))) <= cap else (low, middle)
    return sign * low


def f_of(flag: Flag, u: Any) -> Any:
    """f(u) of the divergence with f'(u) = phi(log u), clamps and all; traceable, for u > 0."""
    if not flag.clamps:
        return _sum_of(placed(flag), u)
    e, place = flag.record, flag.place
    held = np.clip(u, np.exp(_edge(flag, -1.0)), np.exp(_edge(flag, 1.0)))
    live = _sum_of(e.differentiated.path, held) if place.value_live else 0.0
    return live + (u * e.h(np.log(held)) - _sum_of(e.path, held) if place.weight_live else 0.0)


def d_f(flag: Flag, log_p: Any, log_q: Any) -> Any:
    """q f(p/q) of every event that p allows, 0 elsewhere."""
    log_u = log_ratio(log_p, log_q)
    if np.max(plain(log_u), initial=0.0) > LARGE:
        got, remedy = f"log(p/p_ref) = {np.max(plain(log_u)):.6g}", "take a policy nearer to the reference"
        raise InputError("p/p_ref must stay within the range of floats", got=got, where=flag.label, remedy=remedy)
    if not has_zeros(log_p):
        return np.exp(log_q) * f_of(flag, np.exp(log_u))
    dead = np.isneginf(log_p)
    return np.where(dead, 0.0, np.exp(log_q) * f_of(flag, np.where(dead, 1.0, np.exp(log_u))))


# ---------------------------------------------------------------------------------------------------- names


def _over_responses(flag: Flag) -> Objective:
    def objective(world: World, log_pi: Any, log_pi_0: Any) -> Any:
        weight = 1.0 / world.mdp.lengths if flag.aggregate == "mean" else 1.0
        return np.sum(world.mu[:, None] * weight * d_f(flag, world.mdp.path_sum(log_pi), world.log_p_ref))

    return objective


def _over_states(flag: Flag, live: bool) -> Objective:
    def objective(world: World, log_pi: Any, log_pi_0: Any) -> Any:
        here = kl(log_pi, world.log_ref) if flag.record.per_state and not flag.clamps else np.sum(d_f(flag, log_pi, world.log_ref), axis=-1)
        d = np.exp(world.mdp.prefix_sum(log_pi if live else log_pi_0))
        return np.sum(world.mu[:, None] * d * here)

    return objective


def _own_mean(flag: Flag) -> Objective:
    def objective(world: World, log_pi: Any, log_pi_0: Any) -> Any:
        loss = Flag(flag.estimator, "loss", flag.level, flag.aggregate, clamps=flag.clamps)
        p = np.exp(world.mdp.path_sum(log_pi))
        return np.sum(world.mu[:, None] * p * contributions(loss, world, log_pi, log_pi_0, log_pi_0))

    return objective


NONE = Descent("none")


def descent(flag: Flag, *, own: bool = True) -> Descent:
    """What the flag descends, on samples of its own policy or (own=False) of another one.

    >>> for p in ("loss", "reward", "ratio"): print(descent(Flag("k3", p)).name)
    KL(ref, pi)
    KL(pi, ref) - KL(ref, pi)
    KL(pi, ref)
    """
    if not own and flag.ratio != "sequence" and not (flag.ratio == "decision" and flag.aggregate == "sum"):
        return NONE
    by_response = _as_responses(flag)
    if by_response is not None:
        return _of_responses(by_response)
    return _of_tokens(flag)


def _as_responses(flag: Flag) -> Flag | None:
    """The same flag of whole responses, if there is one: always for k1, whose tokens add up to the response."""
    if flag.level == "sequence":
        return flag
    adds_up = flag.record.mean == {"KL(pi, ref)": 1.0, "mass": 1.0} and not flag.clamps and not flag.record.per_state
    linear = adds_up and (flag.record.tangent is None or not flag.place.value_live)
    whole = not flag.place.weight_live or flag.ratio == "sequence" or (flag.ratio == "decision" and flag.aggregate == "sum")
    return Flag(flag.estimator, flag.placement, aggregate=flag.aggregate) if linear and whole else None


def _of_responses(flag: Flag) -> Descent:
    terms = placed(flag)
    name = spell(terms)
    if flag.aggregate == "mean":
        name = "E[1/length]" if terms == {"mass": 1.0} else f"{name}{' + mass' if 'mass' in terms else ''}, over length"
    if flag.clamps:
        return Descent(f"{name}, clamped", None, _over_responses(flag))
    return Descent(name, terms if flag.aggregate == "sum" else None, _over_responses(flag))


def _of_tokens(flag: Flag) -> Descent:
    """Token-level flags: visits held in the loss or under per-token ratios; live only where the whole mean is differentiated."""
    place, clamped = flag.place, ", clamped" if flag.clamps else ""
    if flag.aggregate == "mean":
        whole = place.name == "ratio" and flag.ratio == "sequence" and flag.record.tangent is None
        return Descent(f"its own mean over tokens{clamped}", None, _own_mean(flag)) if whole else NONE
    if not place.weight_live or flag.ratio == "token":
        return _held_visits(flag, clamped)
    if place.name == "reward" or flag.record.tangent is not None:
        return NONE
    terms = {name: c for name, c in flag.record.mean.items() if name != "mass"}
    if flag.clamps:
        return Descent(f"its own mean{clamped}", None, _own_mean(flag))
    if terms == {"KL(pi, ref)": 1.0}:  # the chain rule: it is the KL of whole responses
        return Descent("KL(pi, ref)", terms, _over_states(flag, True))
    return Descent(f"{spell(terms)} by state", None, _over_states(flag, True))


def _held_visits(flag: Flag, clamped: str) -> Descent:
    terms = placed(flag)
    if flag.record.per_state and flag.clamps:
        return NONE
    if not flag.clamps and spell(terms) == "nothing":
        return Descent("nothing", terms, lambda world, log_pi, log_pi_0: 0.0)
    return Descent(f"{spell(terms)} {FROZEN}{clamped}", None if flag.clamps else terms, _over_states(flag, False))


# ---------------------------------------------------------------------------------------------------- optima


def threshold(log_ref: Array, r: Array, cost: float) -> Array:
    """argmax_p E_p[r] - cost * 2 TV(p, p_ref): whatever earns less than the best by more than 2 cost gives its mass to the best."""
    possible = ~np.isneginf(log_ref)
    best = np.max(np.where(possible, r, -np.inf), axis=-1, keepdims=True)
    gone, top = possible & (best - r > 2.0 * cost), possible & (r == best)
    p, share = np.exp(log_ref), np.exp(log_softmax(np.where(top, log_ref, -np.inf)))
    out = np.where(gone, 0.0, p) + share * np.sum(np.where(gone, p, 0.0), axis=-1, keepdims=True)
    return np.asarray(np.log(out, out=np.full_like(out, -np.inf), where=out > 0))


_OPTIMA: Mapping[str, tuple[str, Callable[[Array, Array, float], Array]]] = {
    "KL(pi, ref)": ("Gibbs", log_gibbs),
    "KL(ref, pi)": ("beta p_ref/(lam - r)", lambda q, r, b: f_divergence_optimum(DIVERGENCES["forward-kl"], q, r, b).log_p),
    "chi2/2": ("p_ref (1 + (r - lam)/beta)+", lambda q, r, b: f_divergence_optimum(DIVERGENCES["chi-squared"], q, r, b).log_p),
    "2 TV": ("threshold", threshold),
}


@dataclass(frozen=True, eq=False)
class FlagOptimum:
    """Where E[r] - beta flag leads: in words, and log p (P, N)."""

    name: str
    log_p: Array


def optimum(flag: Flag, world: World) -> FlagOptimum | None:
    """The closed-form optimum of E[r] - beta times the flag (a fixed point, if visits are held); None where none is known.

    >>> from tabular_rlhf.world import rational
    >>> best = optimum(Flag("k3", "loss"), rational()); print(best.name, np.exp(best.log_p).round(4).tolist())
    beta p_ref/(lam - r) [[0.1835, 0.6188, 0.1978]]
    """
    found = descent(flag)
    if found.terms is None:
        return None
    terms = {name: c for name, c in found.terms.items() if name != "mass"}
    if not terms:
        return FlagOptimum("argmax r", greedy_limit(world.log_p_ref, world.r))
    (name, c), *others = terms.items()
    if others or name not in _OPTIMA or c <= 0:
        return None
    words, solve = _OPTIMA[name]
    words = words if c == 1.0 else f"{words} at {c:g} beta"
    if FROZEN not in found.name:
        return FlagOptimum(words, solve(world.log_p_ref, world.r, c * world.beta))
    log_pi = by_states(world, lambda q, Q: solve(q, Q, c * world.beta))
    return FlagOptimum(f"{words} by state", np.asarray(world.mdp.path_sum(log_pi)))


def by_states(world: World, solve: Callable[[Array, Array], Array]) -> Array:
    """Backwards through the tree: pi(.given s) = solve(pi_ref(.given s), Q(s, .)) and V(s) = E_a[Q], no KL charged: (P, S, V)."""
    ref, rows = world.mdp.levels(world.log_ref), {}

    def reduce(h: int, Q: Any) -> Any:
        flat = [np.reshape(np.moveaxis(x, 1, 2), (-1, world.mdp.V)) for x in (ref[h], Q)]
        shape = (Q.shape[0], Q.shape[2], Q.shape[1])
        rows[h] = np.reshape(solve(*flat), shape)
        return np.sum(np.exp(rows[h]) * np.moveaxis(Q, 1, 2), axis=-1)

    _ = world.mdp.backup(world.r, reduce)
    return np.concatenate([rows[h] for h in sorted(rows)], axis=1)
