r"""A flag on trajectories: its value, its exact mean and spread, and its expected gradient by two roads.

**Symbols.**  log_pi (P, S, V): the live policy; log_pi_0: the same policy, held; log_pi_old: whose samples they are (pi itself by
default).  score(tau) = grad log p_pi(tau) in tabular logits; score_t its part at token t, e_a - pi in the row of s_t.

    surrogate(log_pi) = sum over data of weight * w(tau) h(tau),       grad of it = the flag's expected update.

**Theorem** (rows of different states do not overlap).  For a table c(s, a),

    E[sum_t c_t score_t](s, a) = m(s, a) - pi(a given s) sum_b m(s, b),   m = (mass through (s, a)) c(s, a),
    |sum_t c_t score_t|^2      = sum_t c_t^2 n_t,                         n(s, a) = |e_a - pi|^2 = 1 - 2 pi(a) + sum_b pi(b)^2.

So expected gradients need no scores, and their noise E|g|^2 - |E g|^2 is exact at the cost of a few sweeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, plain
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.record import Flag
from tabular_rlhf.kernels import blocks
from tabular_rlhf.logspace import Array, has_zeros, kl, log_ratio, log_softmax
from tabular_rlhf.sampling import Estimate, Trajectories, population
from tabular_rlhf.world import World

NEGATIVE = -64 * float(np.finfo(float).eps)
"""An estimate counts as negative beyond the rounding of a value near 0."""


def check_cover(mdp: Any, log_p: Any, log_q: Any, p: str, q: str) -> None:
    """Refuse a policy that says what another one forbids: ratios to it are infinite."""
    off = np.isneginf(log_q) & ~np.isneginf(log_p) if has_zeros(log_q) else np.zeros(1, dtype=bool)
    if off.any():
        x, s, a = (int(i) for i in np.argwhere(off)[0])
        where = f"prompt {x}, state {s} ({mdp.state_text(s, x)!r}), token {mdp.vocabulary[a]!r}"
        remedy = f"forbid the token in {p} too, or give it some probability in {q}"
        raise InputError(f"{q} must allow what {p} says", got="log-probability -inf", where=where, remedy=remedy)


# ---------------------------------------------------------------------------------------------------- values


def _clipped(flag: Flag, x: Any, end: str) -> Any:
    c = flag.clamps.get(end)
    return x if c is None else np.clip(x, -c, c)


def h_of(flag: Flag, L: Any, L_0: Any) -> Any:
    """The estimator with its clamps."""
    with np.errstate(over="ignore"):
        h = flag.record.value(_clipped(flag, L, "input"), _clipped(flag, L_0, "input"))
    return _held(flag, _clipped(flag, h, "output"))


def _held(flag: Flag, h: Any) -> Any:
    """`h`, an estimator's values, slopes or ratios, if floats hold them: e^-L does not fit beyond 709 nats."""
    if not np.all(np.isfinite(plain(h))):
        remedy = "clamp its input, or take policies nearer to each other"
        raise InputError("an estimator must stay within the range of floats", got="e^|L| beyond 1.8e308", where=flag.label, remedy=remedy)
    return h


def state_kl(log_pi: Any, log_ref: Any) -> Any:
    """KL(pi(.given s), pi_ref(.given s)) of every state, repeated for every token: (P, S, V)."""
    return np.expand_dims(kl(log_pi, log_ref), -1) + np.zeros((log_ref.shape[-1],))


def values(flag: Flag, world: World, log_pi: Any, log_pi_0: Any) -> Any:
    """h of every token, (P, S, V), or of every response, (P, N), by the flag's level; 0 where the policy forbids."""
    if flag.record.per_state:
        return _clipped(flag, state_kl(log_pi, world.log_ref), "output")
    L, L_0 = (log_ratio(q, world.log_ref) for q in (log_pi, log_pi_0))
    if flag.level == "sequence":
        L, L_0 = world.mdp.path_sum(L), world.mdp.path_sum(L_0) if flag.record.tangent else None
    return h_of(flag, L, L_0 if flag.record.tangent else L)


def log_weight(log_pi: Any, log_pi_old: Any) -> Any:
    """log(pi/pi_old) of every token: -inf where one of them forbids it (what is never drawn counts nothing), 0 where both do."""
    if not has_zeros(plain(log_pi_old)) and not has_zeros(plain(log_pi)):
        return log_pi - log_pi_old
    gone, never = np.isneginf(plain(log_pi)), np.isneginf(log_pi_old)
    held = np.where(gone, 0.0, log_pi) - np.where(never, 0.0, log_pi_old)
    return np.where(gone | never, np.where(gone & never, 0.0, -np.inf), held)


def contributions(flag: Flag, world: World, log_pi: Any, log_pi_0: Any, log_pi_old: Any) -> Any:
    """w(tau) h(tau) of every response, (P, N), traceable in the live log_pi."""
    mdp, place = world.mdp, flag.place
    h = values(flag, world, log_pi if place.value_live else log_pi_0, log_pi_0)
    own = log_pi_old is log_pi_0 and not place.weight_live  # held samples of one's own: every ratio is 1
    ratio = "none" if own else flag.ratio
    if flag.level == "sequence":
        g = h if ratio == "none" else h * _weights(flag, mdp.path_sum(log_weight(log_pi if place.weight_live else log_pi_0, log_pi_old)))
    else:
        g = _token_sum(flag, mdp, ratio, h, None if ratio == "none" else log_weight(log_pi if place.weight_live else log_pi_0, log_pi_old))
    return g if flag.aggregate == "sum" else g / mdp.lengths


def _weights(flag: Flag, log_w: Any) -> Any:
    """Importance ratios, if floats hold them."""
    with np.errstate(over="ignore"):
        return _held(flag, np.exp(log_w))


def _token_sum(flag: Flag, mdp: Any, ratio: str, h: Any, log_w: Any) -> Any:
    if ratio == "none":
        return mdp.path_sum(h)
    if ratio == "sequence":
        return _weights(flag, mdp.path_sum(log_w)) * mdp.path_sum(h)
    before = np.expand_dims(mdp.prefix_sum(log_w), -1) if ratio == "decision" else 0.0
    return mdp.path_sum(_weights(flag, before + log_w) * h)


def table(flag: Flag, world: World, log_pi: Any, log_pi_old: Any = None) -> Array:
    """w(tau) h(tau) of every response at a policy, (P, N): what one sample contributes.

    Raises InputError where pi says what the reference forbids.

    >>> from tabular_rlhf.world import rational
    >>> w = rational(); table(Flag("k3", "loss"), w, np.log(np.full((1, 2, 2), 0.5))).round(4).tolist()
    [[0.0721, 0.2024, 0.0067]]
    """
    check_cover(world.mdp, log_pi, world.log_ref, "the policy", "the reference")
    g = contributions(flag, world, log_pi, log_pi, log_pi if log_pi_old is None else log_pi_old)
    return np.asarray(g)


# ---------------------------------------------------------------------------------------------------- moments


@dataclass(frozen=True)
class Moments:
    """Mean and variance of one draw, and the probability that it is negative; exact (n None) or of n draws."""

    mean: float
    variance: float
    negative: float
    n: int | None

    @property
    def std(self) -> float:
        return float(np.sqrt(self.variance))

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.mean, self.variance, self.n)


def moments(data: Trajectories, g: Array) -> Moments:
    """Moments of a table (P, N) over weighted trajectories; a sample's variance is unbiased (n - 1)."""
    if np.shape(data.weight) != np.shape(g):
        g = data[g]
    w = np.broadcast_to(data.weight, np.shape(g))
    return _gather(data, ((w[part], g[part]) for part in blocks(g.shape)))


def _gather(data: Trajectories, pieces: Iterable[tuple[Array, Array]]) -> Moments:
    """Moments from pairs (w, g), piece by piece.

    Squares are taken about the first piece's mean, because E[g^2] - E[g]^2 would cancel.
    """
    about: float | None = None
    total = first = second = negative = 0.0
    for w, g in pieces:
        mass = float(np.sum(w))
        if about is None or (total == 0.0 and mass > 0):
            about = float(np.sum(w * g)) / mass if mass > 0 else 0.0
        apart = g - about
        weighted = apart * w
        with np.errstate(over="ignore"):
            total, first, second = total + mass, first + float(np.sum(weighted)), second + float(np.vdot(weighted, apart))
        if g.min(initial=0.0) < NEGATIVE:
            negative += float(np.sum(np.where(g < NEGATIVE, w, 0.0)))
    shift = first / total
    variance = np.inf if second == np.inf else float(np.maximum(0.0, second / total - shift * shift))  # inf: its square is no float
    return Moments((about or 0.0) + shift, variance * (1.0 if data.n is None else data.n / max(1, data.n - 1)), negative / total, data.n)


def all_moments(flags: Sequence[Flag], world: World, log_pi: Any, data: Trajectories) -> list[Moments]:
    """Moments of many flags at once on samples of the policy itself, weights (P, N) (`population`, or a `tally`): L is computed
    once, whole-response estimators stay in the cache, and flags that differ only in their gradients are evaluated once."""
    check_cover(world.mdp, log_pi, world.log_ref, "the policy", "the reference")
    mdp, found = world.mdp, {}
    L_s = log_ratio(log_pi, world.log_ref)
    L, w = mdp.path_sum(L_s), np.broadcast_to(data.weight, (mdp.P, mdp.N))
    for flag in flags:
        key = _value_key(flag)
        if key in found:
            continue
        if flag.level == "sequence" and flag.aggregate == "sum":
            found[key] = _gather(data, ((w[part], h_of(flag, L[part], L[part])) for part in blocks(L.shape)))
        else:
            found[key] = moments(data, contributions(replace(flag, placement="loss"), world, log_pi, log_pi, log_pi))
    return [found[_value_key(flag)] for flag in flags]


def _value_key(flag: Flag) -> tuple[Any, ...]:
    return flag.record.h, flag.record.per_state, flag.level, flag.aggregate, *sorted(flag.clamps.items())


def tally(world: World, data: Trajectories) -> Trajectories:
    """The same sample as counts of every response: what it weighs is then read without gathering."""
    P, N = world.mdp.P, world.mdp.N
    where = data.tau if P == 1 else data.x * N + data.tau
    counts = np.bincount(np.ravel(where), minlength=P * N).reshape(P, N)
    x, tau = np.arange(P)[:, None], np.arange(N)[None, :]
    return Trajectories(x, tau, data.log_p, counts / (data.n or 1), data.n)


# ---------------------------------------------------------------------------------------------------- gradients


def surrogate(flag: Flag, world: World, data: Trajectories, log_pi: Any, log_pi_0: Any, log_pi_old: Any) -> Any:
    """sum over data of weight * w h: differentiate it in log_pi, the others held."""
    g = contributions(flag, world, log_pi, log_pi_0, log_pi_old)
    return np.sum(data.weight * (g if np.shape(data.weight) == g.shape else g[data.x, data.tau]))


def exact_gradient(flag: Flag, world: World, log_pi: Any, log_pi_old: Any = None, data: Trajectories | None = None) -> Array:
    """The flag's expected update in tabular logits, (P, S, V), by the gradient core on weighted trajectories.

    Args: log_pi_old, whose samples they are (pi by default); data, a sample instead of the whole population.

    >>> from tabular_rlhf.world import rational
    >>> w = rational(); exact_gradient(Flag("k1", "loss"), w, np.log(np.full((1, 2, 2), 0.5))).round(9).tolist()
    [[[0.0, 0.0], [0.0, 0.0]]]
    """
    check_cover(world.mdp, log_pi, world.log_ref, "the policy", "the reference")
    log_pi = np.asarray(log_pi)
    old = log_pi if log_pi_old is None else np.asarray(log_pi_old)
    held = data if data is not None else population(world, world.mdp.path_sum(old))
    return np.asarray(grad(lambda z: surrogate(flag, world, held, log_softmax(z), log_pi, old))(log_pi))


def centre(pi: Array, m: Array) -> Array:
    """From mass times coefficient to the gradient in logits: m - pi sum_b m."""
    return np.asarray(m - pi * np.sum(m, axis=-1, keepdims=True))


def _inside(flag: Flag, x: Any, end: str) -> Any:
    return np.abs(x) <= flag.clamps.get(end, np.inf)


def slope(flag: Flag, L: Any, width: float = 0.0) -> Array:
    """h'(L) with the flag's clamps: 0 outside them; a jump is rounded over `width`."""
    e = flag.record
    with np.errstate(over="ignore"):
        held = _inside(flag, L, "input") & _inside(flag, e.h(_clipped(flag, L, "input")), "output")
        slopes = e.rounded(L, width) if e.rounded is not None and width > 0 else e.slope(L)
    return np.asarray(_held(flag, np.where(held, slopes, 0.0)))


def coefficients(flag: Flag, world: World, log_pi: Any, width: float = 0.0, size: bool = False) -> Array:
    """For flags of whole responses: what every response's score is weighed by, (P, N).  See `pushes`."""
    mdp, place, read = world.mdp, flag.place, np.abs if size else np.asarray
    L = mdp.path_sum(log_ratio(log_pi, world.log_ref))
    live = read(slope(flag, L, width)) if place.value_live else 0.0
    c = np.asarray((read(values(flag, world, log_pi, log_pi)) if place.weight_live else 0.0) + live)
    return c / mdp.lengths if flag.aggregate == "mean" else c


def pushes(flag: Flag, world: World, log_pi: Any, width: float = 0.0, size: bool = False) -> Array:
    """m(s, a), (P, S, V): the mass through (s, a) times the coefficient of its score, on one's own samples.

    Args: width, over which the jump of a slope is rounded (0: not at all); size, to add up magnitudes instead: m is known to
    their rounding.
    """
    mdp, place, pi, read = world.mdp, flag.place, np.exp(log_pi), np.abs if size else np.asarray
    p = world.mu[:, None] * np.exp(mdp.path_sum(log_pi))
    if flag.level == "sequence":
        return np.asarray(mdp.subtree_sum(p * coefficients(flag, world, log_pi, width, size)))
    p = p / (mdp.lengths if flag.aggregate == "mean" else 1.0)
    mass, out = mdp.subtree_sum(p), np.zeros(pi.shape)
    if place.weight_live:
        h = read(values(flag, world, log_pi, log_pi))
        out += mass * h if flag.ratio == "token" else mdp.subtree_sum(p * mdp.path_sum(h))
        if flag.ratio == "decision" and flag.aggregate == "mean" and not size:  # what was said before is not weighed by its ratio
            out -= mass * mdp.prefix_sum(h)[..., None]
    if place.value_live and flag.record.per_state:
        L = read(log_ratio(log_pi, world.log_ref))
        out += np.sum(mass, axis=-1, keepdims=True) * pi * L * _inside(flag, state_kl(log_pi, world.log_ref), "output")
    elif place.value_live:
        out += mass * read(slope(flag, log_ratio(log_pi, world.log_ref), width))
    return out


def score_gradient(flag: Flag, world: World, log_pi: Any, width: float = 0.0) -> Array:
    """The same expected update on one's own samples in closed form, without the gradient core: see the module's theorem."""
    return centre(np.exp(log_pi), pushes(flag, world, log_pi, width))


def gradient_noise(flag: Flag, world: World, log_pi: Any) -> float:
    """E|g|^2 - |E g|^2, the summed variance of one sample's update in tabular logits, on one's own samples, with whole ratios."""
    if flag.ratio != "sequence":
        raise InputError("the noise is known for whole-response ratios", got=f"ratio {flag.ratio!r}", remedy="use ratio='sequence'")
    mdp, place, pi = world.mdp, flag.place, np.exp(log_pi)
    p = world.mu[:, None] * np.exp(mdp.path_sum(log_pi))
    n = 1.0 - 2.0 * pi + np.sum(np.square(pi), axis=-1, keepdims=True)
    if flag.level == "sequence":
        squares = np.square(coefficients(flag, world, log_pi)) * mdp.path_sum(n)
    else:
        total = mdp.path_sum(values(flag, world, log_pi, log_pi)) * place.weight_live
        L = log_ratio(log_pi, world.log_ref)
        if flag.record.per_state:  # the gradient of the state's KL
            here = state_kl(log_pi, world.log_ref)
            step = place.value_live * pi * (L - here) * _inside(flag, here, "output")
            inner = step - np.sum(pi * step, axis=-1, keepdims=True)
            square = np.sum(np.square(step), axis=-1, keepdims=True) + np.zeros_like(pi)
        else:
            step = np.asarray(place.value_live * slope(flag, L))
            inner, square = step * n, np.square(step) * n
        squares = np.square(total) * mdp.path_sum(n) + 2.0 * total * mdp.path_sum(inner) + mdp.path_sum(square)
        squares = squares / np.square(mdp.lengths) if flag.aggregate == "mean" else squares
    return float(np.maximum(0.0, np.sum(p * squares) - np.sum(np.square(score_gradient(flag, world, log_pi)))))
