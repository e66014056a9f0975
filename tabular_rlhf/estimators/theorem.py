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
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import plain
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.evaluate import contributions
from tabular_rlhf.estimators.record import TERMS, Flag, Terms
from tabular_rlhf.gibbs import greedy_limit, log_gibbs, log_policy_of
from tabular_rlhf.logspace import Array, has_zeros, log_of, log_ratio, log_softmax
from tabular_rlhf.penalties import f_divergence_optimum
from tabular_rlhf.world import World

LARGE = 350.0
"""Nats: a ratio beyond e^350 has no square."""
WHOLE, SHARED, HELD, VISITED = "", ", over length", " by state, visits held", " by state"
"""How a divergence is added up: of whole responses; the same, every response divided by its length; of states, weighed by visits
that are held, or that move with the policy."""
Objective = Callable[[World, Any, Any], Any]
"""(world, live log_pi, held log_pi) -> what is descended, a scalar, traceable in the live policy."""


Parts = Mapping[str, Terms]
"""Sums of TERMS, by the way in which they are added up."""


@dataclass(frozen=True, eq=False)
class Descent:
    """What a flag descends: its name ("none" is an answer), the sums of TERMS where it is made of them, and the function itself."""

    name: str
    parts: Parts | None = None
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


def title(terms: Terms, kind: str = WHOLE) -> str:
    """A sum of terms, and how they are added up: mass counts where responses are divided by their lengths.

    >>> title({"2 TV": 1.0}, HELD), title({"mass": 1.0}, HELD), title({"mass": 1.0}, SHARED)
    ('2 TV by state, visits held', 'nothing', 'E[1/length]')
    """
    if kind != SHARED:
        return spell(terms) + (kind if spell(terms) != "nothing" else "")
    if terms.keys() == {"mass"}:
        return {1.0: "", -1.0: "-"}.get(terms["mass"], f"{terms['mass']:g} ") + "E[1/length]"
    return f"{spell(terms)}{' + mass' if 'mass' in terms else ''}{kind}"


def combine(*parts: tuple[float, Terms]) -> dict[str, float]:
    """The sum of multiples of terms, without those that cancel."""
    total: dict[str, float] = {}
    for c, terms in parts:
        for name, value in terms.items():
            total[name] = total.get(name, 0.0) + c * value
    return {name: value for name, value in total.items() if value}


def whole(parts: Parts) -> dict[str, dict[str, float]]:
    """The same parts with nothing that is 0; a KL by states whose visits move is, by the chain rule, the KL of whole responses."""
    told = {kind: dict(terms) for kind, terms in parts.items()}
    chained = told.get(VISITED, {}).pop("KL(pi, ref)", 0.0)
    told[WHOLE] = combine((1.0, told.get(WHOLE, {})), (1.0, {"KL(pi, ref)": chained}))
    for kind in told.keys() - {SHARED}:
        told[kind].pop("mass", None)
    order = (WHOLE, SHARED, VISITED, HELD)
    return {kind: told[kind] for kind in order if combine((1.0, told.get(kind, {})))}


def name_of(parts: Parts) -> str:
    """Parts in words.

    >>> name_of({WHOLE: {"KL(pi, ref)": -1.0}, VISITED: {"chi2/2": 2.0}}), name_of({VISITED: {"E[k2]": 1.0}, HELD: {"KL(pi, ref)": -1.0}})
    ('chi2 by state - KL(pi, ref)', 'E[k2] by state - (KL(pi, ref) by state, visits held)')
    """
    signed = [(-1.0 if max(terms.values()) < 0 else 1.0, kind, terms) for kind, terms in parts.items()]
    text = ""
    for sign, kind, terms in sorted(signed, key=lambda part: -part[0]):
        if not text:
            text = title(terms, kind)
            continue
        word = title(combine((sign, terms)), kind)
        text += (" + " if sign > 0 else " - ") + (f"({word})" if len(terms) > 1 or kind == HELD else word)
    return text or "nothing"


def placed(flag: Flag) -> dict[str, float]:
    """The terms of the divergence with f'(u) = phi(log u): D of the tangent if h is live, plus E[h] - D_h if the ratio is.

    >>> placed(Flag("k3", "reward")), placed(Flag("k3", "ratio"))
    ({'KL(ref, pi)': -1.0, 'KL(pi, ref)': 1.0}, {'KL(pi, ref)': 1.0})
    """
    e, place = flag.record, flag.place
    reward = combine((1.0, e.mean), (-1.0, e.path))
    return combine((float(place.value_live), e.differentiated.path), (float(place.weight_live), reward))


def sum_of(terms: Terms, u: Any) -> Any:
    """f(u) of a sum of terms; traceable."""
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
        return sum_of(placed(flag), u)
    e, place = flag.record, flag.place
    held = np.clip(u, np.exp(_edge(flag, -1.0)), np.exp(_edge(flag, 1.0)))
    live = sum_of(e.differentiated.path, held) if place.value_live else 0.0
    return live + (u * e.h(np.log(held)) - sum_of(e.path, held) if place.weight_live else 0.0)


def d_f(f: Callable[[Any], Any], log_p: Any, log_q: Any) -> Any:
    """q f(p/q) of every event that p allows, 0 elsewhere."""
    log_u = log_ratio(log_p, log_q)
    if np.max(plain(log_u), initial=0.0) > LARGE:
        got, remedy = f"log(p/p_ref) = {np.max(plain(log_u)):.6g}", "take a policy nearer to the reference"
        raise InputError("p/p_ref must stay within the range of floats", got=got, remedy=remedy)
    if not has_zeros(log_p):
        return np.exp(log_q) * f(np.exp(log_u))
    dead = np.isneginf(log_p)
    return np.where(dead, 0.0, np.exp(log_q) * f(np.where(dead, 1.0, np.exp(log_u))))


# ---------------------------------------------------------------------------------------------------- names


def divergence(f: Callable[[Any], Any], kind: str) -> Objective:
    """D_f added up in one of the four ways, as an objective."""

    def objective(world: World, log_pi: Any, log_pi_0: Any) -> Any:
        if kind in (WHOLE, SHARED):
            weight = 1.0 / world.mdp.lengths if kind == SHARED else 1.0
            return np.sum(world.mu[:, None] * weight * d_f(f, world.mdp.path_sum(log_pi), world.log_p_ref))
        d = np.exp(world.mdp.prefix_sum(log_pi if kind == VISITED else log_pi_0))
        return np.sum(world.mu[:, None] * d * np.sum(d_f(f, log_pi, world.log_ref), axis=-1))

    return objective


def sum_of_parts(parts: Parts) -> Descent:
    """What is descended by a flag whose gradient is that of sums of TERMS."""
    told = whole(parts)
    each = [divergence(partial(sum_of, terms), kind) for kind, terms in told.items()]
    return Descent(name_of(told), told, lambda *at: sum((f(*at) for f in each), 0.0))


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
    by_response = as_responses(flag)
    if by_response is not None:
        return _of_responses(by_response)
    return _of_tokens(flag)


def as_responses(flag: Flag) -> Flag | None:
    """The same flag of whole responses, if there is one: always for k1, whose tokens add up to the response."""
    if flag.level == "sequence":
        return flag
    adds_up = flag.record.mean == {"KL(pi, ref)": 1.0, "mass": 1.0} and not flag.clamps and not flag.record.per_state
    linear = adds_up and (flag.record.tangent is None or not flag.place.value_live)
    whole = not flag.place.weight_live or flag.ratio == "sequence" or (flag.ratio == "decision" and flag.aggregate == "sum")
    return Flag(flag.estimator, flag.placement, aggregate=flag.aggregate) if linear and whole else None


def _of_responses(flag: Flag) -> Descent:
    kind = SHARED if flag.aggregate == "mean" else WHOLE
    return _clamped(flag, kind) if flag.clamps else sum_of_parts({kind: placed(flag)})


def _clamped(flag: Flag, kind: str) -> Descent:
    return Descent(f"{title(placed(flag), kind)}, clamped", None, divergence(lambda u: f_of(flag, u), kind))


def _of_tokens(flag: Flag) -> Descent:
    """Token-level flags: visits are held in the loss and under per-token ratios, and move where whole returns are weighed."""
    place, e, clamped = flag.place, flag.record, ", clamped" if flag.clamps else ""
    moving = place.weight_live and flag.ratio != "token"
    if flag.aggregate == "mean" or (flag.clamps and (moving or e.per_state)):
        own = place.name == "ratio" and e.tangent is None and (flag.ratio == "sequence" or (moving and flag.aggregate == "sum"))
        return Descent(f"its own mean{' over tokens' if flag.aggregate == 'mean' else ''}{clamped}", None, _own_mean(flag)) if own else NONE
    if flag.clamps:
        return _clamped(flag, HELD)
    if not moving:
        return sum_of_parts({HELD: placed(flag)})
    held = combine((float(place.value_live), e.differentiated.path), (-1.0, e.path))
    return sum_of_parts({VISITED: e.mean, HELD: held})


# ---------------------------------------------------------------------------------------------------- optima


def threshold(log_ref: Array, r: Array, cost: float) -> Array:
    """argmax_p E_p[r] - cost * 2 TV(p, p_ref): whatever earns less than the best by more than 2 cost gives its mass to the best."""
    possible = ~np.isneginf(log_ref)
    best = np.max(np.where(possible, r, -np.inf), axis=-1, keepdims=True)
    gone, top = possible & (best - r > 2.0 * cost), possible & (r == best)
    p, share = np.exp(log_ref), np.exp(log_softmax(np.where(top, log_ref, -np.inf)))
    out = np.where(gone, 0.0, p) + share * np.sum(np.where(gone, p, 0.0), axis=-1, keepdims=True)
    return log_of(out)


_OPTIMA: Mapping[str, tuple[str, Callable[[Array, Array, float], Array]]] = {
    "KL(pi, ref)": ("Gibbs", log_gibbs),
    "KL(ref, pi)": ("beta p_ref/(lam - r)", lambda q, r, b: f_divergence_optimum(DIVERGENCES["forward-kl"], q, r, b).log_p),
    "chi2/2": ("p_ref (1 + (r - lam)/beta)+", lambda q, r, b: f_divergence_optimum(DIVERGENCES["chi-squared"], q, r, b).log_p),
    "2 TV": ("threshold", threshold),
}


@dataclass(frozen=True, eq=False)
class FlagOptimum:
    """Where E[r] - beta flag leads: in words, log p (P, N), and a policy log pi (P, S, V) that has this law."""

    name: str
    log_p: Array
    log_pi: Array


def optimum(flag: Flag, world: World) -> FlagOptimum | None:
    """The closed-form optimum of E[r] - beta times the flag (a fixed point, if visits are held); None where none is known.

    >>> from tabular_rlhf.world import rational
    >>> best = optimum(Flag("k3", "loss"), rational()); print(best.name, np.exp(best.log_p).round(4).tolist())
    beta p_ref/(lam - r) [[0.1835, 0.6188, 0.1978]]
    """
    return optimum_of(descent(flag), world)


def optimum_of(found: Descent, world: World) -> FlagOptimum | None:
    """The closed-form optimum of E[r] - beta times what is descended; None where none is known."""
    if found.parts is None or len(found.parts) > 1:
        return None
    if not found.parts:
        return _of_law("argmax r", world, greedy_limit(world.log_p_ref, world.r))
    ((kind, terms),) = found.parts.items()
    (name, c), *others = terms.items()
    if kind not in (WHOLE, HELD) or others or name not in _OPTIMA or c <= 0:
        return None
    words, solve = _OPTIMA[name]
    words = words if c == 1.0 else f"{words} at {c:g} beta"
    if kind == WHOLE:
        return _of_law(words, world, solve(world.log_p_ref, world.r, c * world.beta))
    log_pi = by_states(world, lambda q, Q: solve(q, Q, c * world.beta))
    return FlagOptimum(f"{words} by state", np.asarray(world.mdp.path_sum(log_pi)), log_pi)


def _of_law(words: str, world: World, log_p: Array) -> FlagOptimum:
    return FlagOptimum(words, log_p, log_policy_of(world.mdp, log_p))


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
