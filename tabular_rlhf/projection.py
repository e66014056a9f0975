r"""KL projections of a law over responses onto a class of policies: what a class makes of an answer it cannot hold.

**Symbols.** q the target, log_q (P, N); Pi a class of policies, p_theta its laws; d_q(s) the visits of q; c contexts of a tied class.

    forward   argmin over theta of  E_mu KL(q, p_theta):   imitation, maximum likelihood, the M-projection: it covers;
    reverse   argmin over theta of  E_mu KL(p_theta, q):   with q = p*, the policy of largest J: it seeks a mode.

**Theorem** (`m-projection-counts`).  The forward projection onto a tied class is a ratio of expected counts under the target,

    pi(a given c) = sum over s in c of E_mu[d_q(s) q(a given s)] / sum over s in c of E_mu[d_q(s)],

for the tabular class q itself.  In a log-linear class it is convex, and solved by matching moments at the target's visits:
sum over s of E_mu d_q(s) (E_q[phi given s] - E_pi[phi given s]) = 0; it is not attained where some direction of theta makes every token
that q uses at least as likely as each other one: that is decided by a linear program *before* the fit.

**Algorithm** (reverse).  No closed form and no convexity, so: exact gradients and Newton from several starts (the forward projection,
uniform, and draws), and a list of the distinct minima with how many starts reached each.  A token that the target forbids is forbidden in
the class, for its whole context; a class that cannot forbid it (log-linear) has KL = inf everywhere, and is refused.

Sources: Csiszar (1975); Csiszar and Matus (2003); Amari (2016), Information Geometry and Its Applications; Minka (2005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.errors import InputError, SolveError, as_floats
from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.logspace import Array, expect, kl, log_of, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.optimize import Minimum, minimize
from tabular_rlhf.policy import LogLinear, NGram, PolicyClass, Tabular

# ---------------------------------------------------------------------------------------------------- reports


@dataclass(frozen=True, eq=False)
class LocalOptimum:
    """One local minimum: theta; log_pi (P, S, V); value, nats; gradient_norm; hits, the number of starts that ended there."""

    theta: Array
    log_pi: Array
    value: float
    gradient_norm: float
    hits: int


@dataclass(frozen=True, eq=False)
class Projection:
    """A projection: the best local optimum of those found, with all of them (best first) and a sentence on how they were found."""

    policy: PolicyClass
    direction: str
    optima: tuple[LocalOptimum, ...]
    status: str

    @property
    def best(self) -> LocalOptimum:
        return self.optima[0]

    @property
    def theta(self) -> Array:
        return self.best.theta

    @property
    def log_pi(self) -> Array:
        """The projected policy, (P, S, V)."""
        return self.best.log_pi

    @property
    def log_p(self) -> Array:
        """Its law over responses, (P, N)."""
        log_p: Array = self.policy.mdp.path_sum(self.log_pi)
        return log_p

    @property
    def value(self) -> float:
        """The divergence that is left, averaged over prompts, in nats."""
        return self.best.value

    @property
    def gradient_norm(self) -> float:
        return self.best.gradient_norm


# ---------------------------------------------------------------------------------------------------- divergences


def forward_kl(mdp: TokenMDP, log_q: Any, log_p: Any) -> Any:
    """E_mu KL(q, p), nats: inf where p misses what q does."""
    return np.sum(mdp.mu * kl(_asked(mdp, log_q), _asked(mdp, log_p)))


def reverse_kl(mdp: TokenMDP, log_q: Any, log_p: Any) -> Any:
    """E_mu KL(p, q), nats: inf where p does what q never does."""
    return np.sum(mdp.mu * kl(_asked(mdp, log_p), _asked(mdp, log_q)))


def _asked(mdp: TokenMDP, log_p: Any) -> Any:
    """Prompts that are never asked put to the uniform law, so that their weight 0 does not meet an infinity."""
    return log_p if np.all(mdp.mu > 0) else np.where((mdp.mu > 0)[:, None], log_p, -np.log(mdp.N))


# ---------------------------------------------------------------------------------------------------- forward


def forward_projection(policy: PolicyClass, log_q: Any) -> Projection:
    """argmin over the class of E_mu KL(q, p_theta): in closed form (tabular, n-gram) or by matching moments (log-linear).

    Args: log_q (P, N), normalized.  Raises SolveError where a log-linear class only approaches its infimum.

    >>> from tabular_rlhf.world import rational
    >>> from tabular_rlhf.gibbs import solve
    >>> w = rational(); found = forward_projection(NGram(w.mdp, 0), solve(w).log_p)  # "a" is said 28/19 times, "." 7/19 times
    >>> np.exp(found.log_pi[0, 0]).round(6).tolist(), round(found.value, 6)
    ([0.8, 0.2], 0.012086)
    """
    mdp = policy.mdp
    log_q = check_law(mdp, log_q)
    if isinstance(policy, LogLinear):
        return _match_moments(policy, log_q)
    theta = counted(policy, log_q) if isinstance(policy, NGram) else log_policy_of(mdp, log_q)
    if not isinstance(policy, NGram | Tabular):
        raise InputError("the class must be tabular, n-gram or log-linear", got=type(policy).__name__, remedy="use one of policy.py")
    log_pi: Array = policy.log_pi(theta)
    value = float(forward_kl(mdp, log_q, mdp.path_sum(log_pi)))
    return Projection(policy, "forward", (LocalOptimum(theta, log_pi, value, 0.0, 1),), "closed form")


def counted(tied: NGram, log_q: Any) -> Array:
    """log of expected count(c, a)/expected count(c) under the target, (C, V); uniform in contexts that it never visits."""
    per_context = expected_counts(tied, log_q)
    total = np.sum(per_context, axis=1, keepdims=True)
    pi = np.where(total > 0, per_context / np.where(total > 0, total, 1.0), 1.0 / tied.mdp.V)
    return log_of(pi)


def expected_counts(tied: NGram, log_q: Any) -> Array:
    """E[number of times that token a is said in context c] under mu and q, (C, V)."""
    mdp = tied.mdp
    mass = np.sum(mdp.mu[:, None, None] * mdp.subtree_sum(np.exp(log_q)), axis=0)  # (S, V): E_mu d_q(s) q(a given s)
    counts = np.zeros(tied.shape)
    np.add.at(counts, tied.context, mass)
    return counts


def _match_moments(policy: LogLinear, log_q: Array) -> Projection:
    mdp = policy.mdp
    mass = mdp.mu[:, None, None] * mdp.subtree_sum(np.exp(log_q))
    way = recession(policy, mass)
    if way is not None:
        raise SolveError(
            f"the forward projection is not attained: along theta = {np.round(way, 3).tolist()} the likelihood only rises; "
            "the target never uses some token that the class could rule out; smooth the target or drop the feature"
        )
    found = minimize(lambda theta: -np.sum(mass * policy.log_pi(theta)), np.zeros(policy.shape))
    log_pi: Array = policy.log_pi(found.x)
    value = float(forward_kl(mdp, log_q, mdp.path_sum(log_pi)))
    best = LocalOptimum(found.x, log_pi, value, found.gradient_norm, 1)
    return Projection(policy, "forward", (best,), f"convex; moments match: {found.message}")


def recession(policy: LogLinear, mass: Array) -> Array | None:
    """A direction of theta along which the likelihood of the counts `mass` (P, S, V) rises for ever, or None.

    It favors no token over one that is used, and disfavors some unused token: feasible or not by a linear program.
    """
    if not np.any((mass == 0) & np.any(mass > 0, axis=-1, keepdims=True)):
        return None
    from scipy.optimize import linprog

    gaps, equal = [], []
    for x, s in np.argwhere(np.any(mass > 0, axis=-1)):
        used = mass[x, s] > 0
        first = policy.features[x, s, np.argmax(used)]
        equal.append(policy.features[x, s, used] - first)
        gaps.append(first - policy.features[x, s, ~used])
    more, same = np.concatenate(gaps), np.concatenate(equal)
    found = linprog(-np.sum(more, axis=0), A_ub=-more, b_ub=np.zeros(len(more)), A_eq=same, b_eq=np.zeros(len(same)), bounds=(-1, 1))
    if found.status != 0:
        raise SolveError(f"whether the projection is attained was not decided: {found.message}")
    return np.asarray(found.x) if float(np.sum(more @ found.x)) > 1e-9 else None


# ---------------------------------------------------------------------------------------------------- reverse


def reverse_projection(policy: PolicyClass, log_q: Any, *, rng: np.random.Generator, starts: int = 12) -> Projection:
    """argmin over the class of E_mu KL(p_theta, q): the tabular class in closed form, others by Newton from several starts.

    Args: log_q (P, N), normalized; rng, for the starts; starts, how many.  Returns: every distinct local minimum found.
    Raises: InputError where the class cannot avoid what the target forbids; SolveError where no start ends at a minimum.

    >>> from tabular_rlhf.world import rational
    >>> from tabular_rlhf.gibbs import solve
    >>> w = rational(); found = reverse_projection(NGram(w.mdp, 0), solve(w).log_p, rng=np.random.default_rng(0))
    >>> np.exp(found.log_pi[0, 0]).round(4).tolist(), len(found.optima)
    ([0.8042, 0.1958], 1)
    """
    mdp = policy.mdp
    log_q = check_law(mdp, log_q)
    if isinstance(policy, Tabular):
        held = forward_projection(policy, log_q)
        return Projection(policy, "reverse", held.optima, "closed form: the class holds the target")
    allowed = tokens_allowed(policy, log_q)

    def law(theta: Any) -> Any:
        return policy.log_pi(np.where(allowed, theta, -np.inf) if not np.all(allowed) else theta)

    def divergence(theta: Any) -> Any:
        return reverse_kl(mdp, log_q, mdp.path_sum(law(theta)))

    found = local_minima(
        divergence,
        _starts(policy, log_q, allowed, starts, rng),
        lambda theta: np.exp(mdp.path_sum(law(theta))),
        (lambda m: mixed(divergence, m, allowed)) if isinstance(policy, NGram) else None,
    )
    optima = tuple(LocalOptimum(m.x, np.asarray(law(m.x)), m.fun, m.gradient_norm, hits) for m, hits in found)
    return Projection(policy, "reverse", optima, f"{len(optima)} local minima from {starts} starts; best: {found[0][0].message}")


def _starts(policy: PolicyClass, log_q: Array, allowed: Array, count: int, rng: np.random.Generator) -> Iterable[Array]:
    """Uniform, the forward projection (imitation), and normal draws of two widths."""
    yield np.zeros(policy.shape)
    if isinstance(policy, NGram) and count > 1:
        theta = counted(policy, log_q)
        yield np.where(allowed & np.isfinite(theta), theta, 0.0)
    for i in range(2, count):
        yield rng.normal(scale=1.0 if i % 2 else 4.0, size=policy.shape)


def local_minima(
    f: Callable[[Any], Any],
    starts: Iterable[Array],
    law: Callable[[Array], Array],
    lower: Callable[[Minimum], Array | None] | None = None,
) -> list[tuple[Minimum, int]]:
    """Distinct local minima of f from several starts, best first, each with the number of starts that reached it.

    Args: law, what of a minimum counts (its probabilities): two are the same where these differ by less than 1e-6; lower, where given,
    a point below where a search has ended, or None.
    """
    found: list[tuple[Minimum, Array, int]] = []
    failed = ""
    for start in starts:
        try:
            m = minimize(f, start)
            while lower is not None and (better := lower(m)) is not None:
                m = minimize(f, better)
        except SolveError as e:
            failed = str(e)
            continue
        p = law(m.x)
        same = next((i for i, (_, other, _n) in enumerate(found) if np.max(np.abs(p - other)) < 1e-6), None)
        if same is None:
            found.append((m, p, 1))
        else:
            found[same] = (*found[same][:2], found[same][2] + 1)
    if not found:
        raise SolveError(f"no start ended at a local minimum; the last said: {failed}")
    return [(m, hits) for m, _, hits in sorted(found, key=lambda entry: entry[0].fun)]


def mixed(f: Callable[[Any], Any], m: Minimum, allowed: Any) -> Array | None:
    """The logits (C, V) of m with some more of the token of which f gains most, if it does visibly; else None.

    Where pi(a given c) is next to nothing, so is the slope of f in its logit, whatever would come of more of a: a plateau of the softmax,
    on which a search may end.  Per unit of probability mixed in, f changes by slope/pi(a given c).
    """
    log_pi = np.maximum(log_softmax(np.where(allowed, m.x, -np.inf)), -300.0)
    rate = np.where(allowed, grad(f)(log_pi) * np.exp(-log_pi), np.inf)
    best = np.arange(rate.size).reshape(rate.shape) == np.argmin(rate)
    points = [np.where(np.any(best, axis=1, keepdims=True), np.log((1.0 - e) * np.exp(log_pi) + e * best), m.x) for e in MIXED]
    if np.max(np.where(best, log_pi, -np.inf)) > PLATEAU:
        return None  # where the token is probable enough, the slope has told of it
    values = [float(f(x)) for x in points]
    lowest = int(np.argmin(values))
    return points[lowest] if values[lowest] < m.fun - 1e-9 * (1.0 + abs(m.fun)) else None


PLATEAU = -12.0
"""Log-probability below which the slope in a logit no longer tells."""
MIXED = (0.1, 1e-2, 1e-3, 1e-4, 1e-6)
"""Probabilities to try."""


def tokens_allowed(policy: PolicyClass, log_q: Array) -> Any:
    """Which entries of theta may be used so that the class stays within the target's support: True, or a mask (C, V).

    Where q goes on from s but never with a, the whole context of s gives up a.
    """
    mdp = policy.mdp
    ways = mdp.subtree_sum((~np.isneginf(_asked(mdp, log_q))).astype(np.float64))  # not masses: a floating-point 0 forbids nothing
    impossible = np.any((ways == 0) & np.any(ways > 0, axis=-1, keepdims=True), axis=0)  # (S, V), over all prompts
    if not impossible.any():
        return np.ones(policy.shape, dtype=bool)
    s, a = (int(i) for i in np.argwhere(impossible)[0])
    where = f"state {s} ({mdp.state_text(s)!r}), token {mdp.vocabulary[a]!r}"
    if not isinstance(policy, NGram):
        raise InputError("the class must avoid what the target forbids", got="KL = inf for every theta", where=where, remedy="smooth q")
    allowed = np.ones(policy.shape, dtype=bool)
    np.logical_and.at(allowed, policy.context, ~impossible)
    if not np.all(np.any(allowed, axis=1)):
        raise InputError(
            "some token must be left in every context", got="none", where=where, remedy="let the context hold more, or smooth q"
        )
    return allowed


def check_law(mdp: TokenMDP, log_q: Any, name: str = "log_q") -> Array:
    """`log_q` (P, N) if it normalizes for every prompt."""
    log_q = as_floats(log_q, name, (mdp.P, mdp.N), minus_inf=True)
    total = np.sum(np.exp(log_q), axis=1)
    if np.max(np.abs(total - 1.0)) > 1e-9:
        raise InputError(f"{name} must normalize for each prompt", got=f"sums {total.tolist()}", remedy="pass logits through log_softmax")
    return log_q


# ---------------------------------------------------------------------------------------------------- the I-projection


def same_mean_law(log_p: Array, r: Array, direction: Array) -> Array:
    r"""Another law with p's support and p's mean of r: log of p (1 + t h), h the part of `direction` that r does not explain.

        h = g - E_p[g] - (Cov_p(g, r)/Var_p(r)) (r - E_p[r]),     t = 1/(2 max |h|).

    So E[r] stays as it is, exactly, and the I-projection's set {p : E_p[r] = m} can be walked.  Args: all (P, N).
    """
    on = ~np.isneginf(log_p)

    def centered(f: Array) -> Array:
        return np.asarray(np.where(on, f - expect(log_p, f)[:, None], 0.0))

    g, r = centered(direction), centered(r)
    variance = expect(log_p, r * r)[:, None]
    usable = variance > 0
    h = g
    for _ in range(2):  # the second time removes what rounding left
        h = centered(h - np.where(usable, expect(log_p, h * r)[:, None] / np.where(usable, variance, 1.0), 0.0) * r)
    largest = np.max(np.abs(h), axis=1, keepdims=True)
    some = largest > 1e-8 * np.max(np.abs(g), axis=1, keepdims=True)  # else r explains everything: the set holds p alone
    moved: Array = log_softmax(np.where(on, log_p + np.log1p(np.where(some, h / np.where(some, 2.0 * largest, 1.0), 0.0)), -np.inf))
    return moved
