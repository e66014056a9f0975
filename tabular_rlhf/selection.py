r"""Selection: draw from the reference and keep some.  Best-of-n, its soft form, rejection sampling, expert iteration; exact laws.

**Symbols.**  p_ref, r as ever; F(tau) the probability that a draw from p_ref earns at most r(tau), F-(tau) less than r(tau); so
q = F - F- is the mass of tau's reward level.

    best-of-n       p_n = p_ref (F^n - F-^n)/q                 the best of n draws, ties broken at random among the draws;
    soft best-of-n  p   = p_ref E[n w / (w + sum of n - 1 others' w)],   w = exp(r/lam): one of n drawn by a softmax of rewards;
    rejection       p*  exactly, a draw accepted with probability exp((r - max r)/beta);
    expert iteration  p <- p r / E_p[r], imitation weighted by the reward: for 0/1 rewards the accepted ones only.

**Theorem** (`best-of-n`).  KL(p_n, p_ref) = sum over levels of (F^n - F-^n) log((F^n - F-^n)/q) <= log n - (n - 1)/n, with equality in
the limit of no atoms only: a level's atom makes it smaller.

Sources: Stiennon et al. (2020), arXiv:2009.01325; Beirami et al. (2024), arXiv:2401.01879 (the bound); Verdun et al. (2025),
arXiv:2505.03156 (soft); Dong et al. (2023), arXiv:2304.06767, Zelikman et al. (2022), arXiv:2203.14465 (expert iteration); Gao et
al. (2023), arXiv:2210.10760 (over-optimization).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tabular_rlhf.errors import InputError, SolveError, as_floats, as_number, positive, quoted
from tabular_rlhf.gibbs import greedy_limit, log_gibbs, reward_variance, solve
from tabular_rlhf.logspace import Array, expect, kl, log_of, logsumexp, soft_parts
from tabular_rlhf.mdp import Indices
from tabular_rlhf.optimize import monotone_root
from tabular_rlhf.sampling import Trajectories, draw
from tabular_rlhf.world import World


def _draws(n: float) -> float:
    if isinstance(n, bool) or not (np.isfinite(as_number(n)) and n >= 1):
        raise InputError("n must be at least 1", got=quoted(n), remedy="n counts the draws to choose from")
    return float(n)


# ---------------------------------------------------------------------------------------------------- best of n


@dataclass(frozen=True, eq=False)
class Levels:
    """The reward levels of one prompt, rising: r, q their mass under p_ref, log_F of at most this level (K,); label (N,)."""

    r: Array
    q: Array
    log_F: Array
    label: Indices


def levels(log_p_ref: Array, r: Array) -> Levels:
    """Reward levels that p_ref can reach, for one prompt (N,).

    log F is taken from the mass above where that is the smaller half, so that it keeps its digits near 0.
    """
    there = np.exp(log_p_ref) > 0
    values, index = np.unique(r[there], return_inverse=True)
    label = np.full(len(r), -1)
    label[there] = index
    mass = np.bincount(index, np.exp(log_p_ref[there]), len(values))
    q: Array = mass / np.sum(mass)
    above = np.append(np.cumsum(q[::-1])[::-1][1:], 0.0)
    below = np.cumsum(q)
    return Levels(values, q, np.where(above < 0.5, np.log1p(-np.minimum(above, 0.5)), np.log(below)), label)


def level_law(level: Levels, n: float) -> tuple[Array, Array]:
    """log(F^n - F-^n) of every level, and log of it over q: (K,) each, without cancellation."""
    share = np.minimum(1.0, level.q / np.exp(level.log_F))  # q/F = 1 - F-/F
    rest = np.log1p(-np.where(share < 1, share, 0.0))
    gain = np.where(share < 1, np.log(-np.expm1(n * np.where(share < 1, rest, -1.0))), 0.0)
    log_mass = n * level.log_F + gain
    return log_mass, log_mass - np.log(level.q)


def best_of_n(log_p_ref: Array, r: Array, n: float) -> Array:
    """log of the law of the best of n draws, ties split in proportion to p_ref: (P, N).  n may be fractional.

    >>> np.exp(best_of_n(np.log([[0.5, 0.5]]), np.array([[0.0, 1.0]]), 3)).round(6).tolist()
    [[0.125, 0.875]]
    """
    n, out = _draws(n), np.full(np.shape(r), -np.inf)
    for x in range(len(r)):
        level = levels(log_p_ref[x], r[x])
        here = level.label >= 0
        out[x, here] = log_p_ref[x, here] + level_law(level, n)[1][level.label[here]]
    return out


def best_of_n_kl(log_p_ref: Array, r: Array, n: float) -> Array:
    """KL(p_n, p_ref) for each prompt, (P,), nats, from levels alone.

    >>> best_of_n_kl(np.log([[0.5, 0.5]]), np.array([[0.0, 1.0]]), 3).round(6).tolist()
    [0.316377]
    """
    n = _draws(n)
    laws = [level_law(levels(log_p_ref[x], r[x]), n) for x in range(len(r))]
    return np.maximum(0.0, np.array([np.sum(np.exp(mass) * ratio) for mass, ratio in laws]))


def best_of_n_bound(n: float) -> float:
    """log n - (n - 1)/n, what KL(p_n, p_ref) would be without atoms, and never exceeds.

    >>> round(best_of_n_bound(4), 6)
    0.636294
    """
    n = _draws(n)
    return float(np.log(n) - (n - 1.0) / n)


def win_rate(log_p: Array, log_p_ref: Array, r: Array) -> Array:
    """The probability that a draw from p earns more than one from p_ref, ties counting half, for each prompt: (P,).

    Best-of-n has at least 1/2, and n/(n + 1) without atoms.

    >>> w = np.log([[0.5, 0.5]]), np.array([[0.0, 1.0]]); win_rate(best_of_n(*w, 3), *w).tolist()
    [0.6875]
    """
    out = np.empty(len(r))
    for x in range(len(r)):
        level = levels(log_p_ref[x], r[x])
        here = level.label >= 0
        below = np.append(0.0, np.exp(level.log_F)[:-1])
        out[x] = np.sum(np.exp(log_p[x, here]) * (below + 0.5 * level.q)[level.label[here]])
    return out


# ---------------------------------------------------------------------------------------------------- soft best of n

STEP = 0.125
"""Step of the trapezoidal rule in log t: its error falls as exp(-pi^2/STEP), below rounding."""


def soft_best_of_n(log_p_ref: Array, r: Array, n: float, lam: float) -> Array:
    r"""log of the law of one of n draws chosen by a softmax of r/lam: (P, N).  lam -> 0 is best-of-n, lam -> inf is p_ref.

        E[w/(w + S)] = integral over t > 0 of w e^{-w t} (E_ref e^{-w' t})^{n-1},      S the sum of n - 1 independent w',

    a one-dimensional integral for any n and any number of rewards; w is taken relative to the best possible reward.
    """
    n, lam = _draws(n), positive(lam, "lam", "reward units")
    out = np.full(np.shape(r), -np.inf)
    for x in range(len(r)):
        level = levels(log_p_ref[x], r[x])
        there, log_w = level.label >= 0, (level.r - level.r[-1]) / lam
        if log_w[0] < -5e3:
            spread = f"(max r - min r)/lam = {-log_w[0]:.3g}"
            raise InputError("rewards must vary by at most 5000 lam", got=spread, remedy="use best_of_n, which is its limit")
        out[x, there] = log_p_ref[x, there] + _soft_ratio(log_w, np.log(level.q), n)[level.label[there]]
    return out - logsumexp(out, axis=1, keepdims=True)  # the last bits of the quadrature


def _soft_ratio(log_w: Array, log_q: Array, n: float) -> Array:
    """log of n E[w/(w + S)] of every level, by the trapezoidal rule in u = log t: (K,)."""
    u = np.arange(-40.0 - np.log(n), 4.0 - log_w[0], STEP)
    total, block = np.full(len(log_w), -np.inf), max(1, 2**20 // len(log_w))
    for start in range(0, len(u), block):
        log_wt = log_w[:, None] + u[None, start : start + block]
        wt = np.exp(np.minimum(log_wt, 700.0))
        log_mean = logsumexp(log_q[:, None] - wt, axis=0)
        total = np.logaddexp(total, logsumexp(log_wt - wt + (n - 1.0) * log_mean, axis=1))
    return np.asarray(np.log(n * STEP) + total)


# ---------------------------------------------------------------------------------------------------- rejection sampling


BATCH = 2**22
"""Draws made at a time."""


def acceptance(world: World) -> Array:
    """The probability that rejection sampling accepts a draw of p_ref, Z exp(-max r/beta), for each prompt: (P,).

    Its inverse is the mean number of draws for one sample of p*.

    >>> from tabular_rlhf.world import coin
    >>> acceptance(coin()).round(6).tolist()  # (1/e + 1)/2
    [0.68394]
    """
    return np.exp(log_acceptance(world))


def log_acceptance(world: World) -> Array:
    """The same in nats, log E_ref[exp((r - max r)/beta)]: it does not underflow.  Neither V nor max r enters, whose difference cancels.

    >>> from tabular_rlhf.world import coin
    >>> log_acceptance(coin(1e-300)).round(6).tolist()  # heads are half of the draws
    [-0.693147]
    """
    return np.asarray(np.minimum(0.0, soft_parts(world.log_p_ref, world.r, world.beta)[1]))


def rejection_sample(world: World, n: int, *, rng: np.random.Generator, most: int = 10**7) -> Trajectories:
    """n draws of p* made of draws of p_ref: each is accepted with probability exp((r - max r)/beta).

    Raises: InputError where more than `most` draws would be needed on average; SolveError where chance needs more than `most`.
    """
    log_rate = log_acceptance(world)
    with np.errstate(over="ignore"):  # more draws than a float can count are too many
        needed = n * float(np.exp(logsumexp(world.mdp.log_mu - log_rate)))
    if n < 1 or needed > most:
        remedy = f"ask for 1 <= n, raise `most`, or draw from p* itself: acceptance is {_shown(np.min(log_rate))}"
        raise InputError(f"rejection sampling must need at most {most:g} draws", got=f"n = {n}, {needed:.3g} draws", remedy=remedy)
    x = np.sort(draw(world.mu, n, rng=rng))
    taus, left = [], most
    for i in range(world.mdp.P):
        tau, left = _accepted(world, i, int(np.sum(x == i)), float(log_rate[i]), left, rng)
        taus.append(tau)
    tau = np.concatenate(taus)
    return Trajectories(x, tau, solve(world).log_p[x, tau], np.full(1, 1.0 / n), n)


def _accepted(world: World, x: int, n: int, log_rate: float, left: int, rng: np.random.Generator) -> tuple[Indices, int]:
    """n accepted responses to prompt x, made of at most `left` draws, and how many draws that leaves."""
    missing, kept = n, [np.zeros(0, dtype=np.intp)]
    best, _ = soft_parts(world.log_p_ref[x], world.r[x], world.beta)
    with np.errstate(over="ignore"):  # far below the best, nothing is accepted
        log_accept, trials = np.minimum(0.0, world.r[x] - best) / world.beta, np.exp(-log_rate)
    while missing > 0:
        if left == 0:
            raise SolveError(f"rejection sampling ran out of draws: prompt {x} accepts {_shown(log_rate)} of them; raise `most`")
        count = int(min(left, BATCH, 1.1 * missing * trials + 16))
        tau = draw(np.exp(world.log_p_ref[x]), count, rng=rng)
        kept.append(tau[np.log1p(-rng.random(count)) < log_accept[tau]][:missing])
        missing, left = missing - len(kept[-1]), left - count
    return np.concatenate(kept), left


def _shown(log_rate: float) -> str:
    """A probability, as a power of e where a float cannot hold it."""
    return f"{np.exp(log_rate):.3g}" if log_rate > -700 else f"exp({log_rate:.6g})"


# ---------------------------------------------------------------------------------------------------- expert iteration


def expert_iteration(log_p: Array, r: Array, rounds: float = 1) -> Array:
    """log of p after rounds of p <- p r/E_p[r]: p r^rounds normalized, (P, N).  Rewards must be at least 0.

    For 0/1 rewards the first round conditions on success and the next change nothing; for graded rewards it multiplies, and tends
    to p restricted to the best rewards.

    Raises: InputError for a negative reward, or a prompt where nothing possible earns anything.

    >>> np.exp(expert_iteration(np.log([[0.5, 0.5]]), np.array([[1.0, 3.0]]), 2)).round(3).tolist()
    [[0.1, 0.9]]
    """
    possible = ~np.isneginf(log_p)
    r = as_floats(r, "r", np.shape(log_p))
    if (r < 0).any() or not 0 <= as_number(rounds) < np.inf:
        raise InputError(
            "expert iteration needs rewards and rounds of at least 0", got=f"min r = {r.min():g}, rounds = {rounds}", remedy="shift r"
        )
    barren = ~np.any(possible & (r > 0), axis=1)
    if barren.any():
        x = int(np.argmax(barren))
        raise InputError("some possible response must be rewarded", got="E_p[r] = 0", where=f"prompt {x}", remedy="there is no expert")
    log_r = log_of(r)
    if rounds == 0:
        return log_p
    best = np.max(np.where(possible, log_r, -np.inf), axis=1, keepdims=True)
    out = log_p + rounds * (log_r - best)
    return np.asarray(out - logsumexp(out, axis=1, keepdims=True))


# ---------------------------------------------------------------------------------------------------- frontiers


@dataclass(frozen=True, eq=False)
class Selected:
    """A curve over settings: kl (nats), reward and gold (reward units), averages over prompts; best, Gibbs's reward at equal KL.

    reward is what was selected by (perhaps a proxy), gold the world's own.
    """

    setting: Array
    kl: Array
    reward: Array
    gold: Array
    best: Array


def select_by(
    world: World, law: Callable[[Array, float], Array], settings: Sequence[float] | Array, *, proxy: Array | None = None
) -> Selected:
    """The curve of law(r', setting) (P, N), where r' is the world's reward or a proxy of it.

    >>> from tabular_rlhf.world import coin
    >>> s = select_by(coin(), lambda r, n: best_of_n(coin().log_p_ref, r, n), [1, 4]); s.reward.tolist()
    [0.5, 0.9375]
    """
    used = world.r if proxy is None else as_floats(proxy, "proxy", np.shape(world.r))
    rows = []
    for setting in settings:
        log_p = law(used, float(setting))
        rows.append([np.sum(world.mu * f) for f in (kl(log_p, world.log_p_ref), expect(log_p, used), expect(log_p, world.r))])
    far, reward, gold = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    far = np.maximum(0.0, far)
    return Selected(np.asarray(settings, dtype=np.float64), far, reward, gold, gibbs_at(world.with_reward(used), far))


def gibbs_at(world: World, distance: Array) -> Array:
    """The most reward at given KLs from p_ref (one beta for all prompts): (n,).  Beyond the greedy limit's KL, the best possible."""
    mu, log_p_ref = world.mu, world.log_p_ref
    limit = greedy_limit(log_p_ref, world.r)
    farthest, top = (float(np.sum(mu * f)) for f in (kl(limit, log_p_ref), expect(limit, world.r)))
    start = float(np.sum(mu * expect(log_p_ref, world.r)))
    span = float(np.ptp(world.r)) or 1.0

    def reward_at(d: float) -> float:
        if d <= 0 or d >= farthest:
            return start if d <= 0 else top

        def excess(x: Array) -> tuple[Array, Array]:  # x = log(span/beta): KL rises with it
            beta = span * np.exp(-x[0])
            log_p = log_gibbs(log_p_ref, world.r, beta)
            slope = np.sum(mu * reward_variance(log_p, world.r)) / beta**2
            return np.array([np.sum(mu * kl(log_p, log_p_ref)) - d]), np.array([slope])

        x = monotone_root(excess, [-30.0], [_far_enough(excess)])
        return float(np.sum(mu * expect(log_gibbs(log_p_ref, world.r, span * np.exp(-x[0])), world.r)))

    return np.array([reward_at(float(d)) for d in np.atleast_1d(distance)])


def _far_enough(excess: Callable[[Array], tuple[Array, Array]]) -> float:
    """The first of 8, 16, ... at which the excess is positive (or 256, where beta is far below any gap of rewards)."""
    return next((x for x in (8.0, 16.0, 32.0, 64.0, 128.0) if excess(np.array([x]))[0][0] > 0), 256.0)
