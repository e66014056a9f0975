r"""T3 and the log-domain sweep: visits, expected counts, forward projection, log-means of exponentials.

d(root) = 1,  d_{h+1} = push(d_h pi)             the mass that reaches a state, and what has ended;
counts(level) = sum over its depths of d pi      expected uses of every edge; sums over contexts give the forward projection;
grad J = d pi (x + V' - V)                       the gradient in logits of every state;
log E exp(x)(s) = log sum_a pi exp(x + that of s')      for Renyi divergences and second moments of weights, beyond floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tabular_rlhf.errors import InputError, as_number
from tabular_rlhf.lattice.policy import Policy
from tabular_rlhf.logspace import Array, logsumexp, remainder
from tabular_rlhf.mdp import Indices


def visits(policy: Policy, prompt: int | Array | None = None) -> Iterator[tuple[int, Array, Array]]:
    """(h, d, mass on edges d pi) level by level, (n_h,) and (V, n_h): of one prompt, averaged over prompts, or weighed by numbers (P,).

    >>> from tabular_rlhf.lattice import solve
    >>> from tabular_rlhf.world import rational
    >>> [d.round(6).tolist() for _, d, _ in visits(solve(rational()))]  # the second token is asked for with probability 16/19
    [[1.0], [0.842105]]
    """
    world = policy.world
    asked = world.mu if prompt is None else prompt if isinstance(prompt, np.ndarray) else np.eye(world.language.P)[prompt]
    d = np.zeros(world.levels[0].n)
    np.add.at(d, world.roots, asked)
    for h in range(world.H):
        mass = policy.pi(h) * d
        yield h, d, mass
        d = world.levels[h].push(mass)[:-1]


def expected_counts(policy: Policy) -> list[Array]:
    """Expected uses of every edge, (V, n) for each level of `distinct`, summed over its depths, averaged over prompts.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import coin
    >>> [c.tolist() for c in expected_counts(Reference(unmerged(coin())))]
    [[[0.5], [0.5]]]
    """
    world = policy.world
    total = {id(level): np.zeros(level.child.shape) for level in world.distinct}
    for h, _, mass in visits(policy):
        total[id(world.levels[h])] += mass
    return [total[id(level)] for level in world.distinct]


def length_law(policy: Policy) -> Array:
    """The probability of every length, EOS counted: (H + 1,), averaged over prompts.

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import rational
    >>> length_law(Reference(unmerged(rational()))).round(6).tolist()
    [0.0, 0.333333, 0.666667]
    """
    world = policy.world
    out = np.zeros(world.H + 1)
    for h, _, mass in visits(policy):
        out[h + 1] = np.sum(mass, where=world.levels[h].child == world.levels[h].after)
    return out


def forward_projection(policy: Policy, context: list[Indices]) -> Array:
    """The rows of the tied class that is nearest in KL(p, .): expected counts of (context, token), normalized: (C, V).

    Args: context, for each level of `distinct` the context of every state.  Rows of contexts never met are uniform.
    Raises: InputError for contexts of another shape.
    """
    parts = expected_counts(policy)
    if [np.shape(c) for c in context] != [(part.shape[1],) for part in parts]:
        raise InputError(
            "contexts must be given for every state", got=[np.shape(c) for c in context], remedy="one table a level that differs"
        )
    total = np.zeros((1 + max(int(np.max(c, initial=0)) for c in context), parts[0].shape[0]))
    for part, c in zip(parts, context, strict=True):
        np.add.at(total, np.asarray(c), part.T)
    mass = total.sum(axis=1, keepdims=True)
    return np.asarray(np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), 1.0 / total.shape[1]))


def log_mean_exp(policy: Policy, x: Callable[[int], Array]) -> Array:
    """log E exp(sum of x along the path), (P,), nats: also where the mean is beyond floats.

    Args: x, the summands of level h, (V, n_h).

    >>> from tabular_rlhf.lattice import Reference, unmerged
    >>> from tabular_rlhf.world import coin
    >>> w = unmerged(coin()); round(float(log_mean_exp(Reference(w), lambda h: 1000 * w.levels[h].r)[0]), 6)
    999.306853
    """
    world, here = policy.world, np.zeros(1)
    for h in reversed(range(world.H)):
        log_pi = policy.log_pi(h)
        with np.errstate(invalid="ignore"):  # what has probability 0 may have any x
            total = np.where(np.isneginf(log_pi), -np.inf, log_pi + x(h) + world.levels[h].pull(here))
        here = np.append(logsumexp(total, axis=0), 0.0)
    return np.asarray(here[world.roots])


def renyi(policy: Policy, alpha: float) -> Array:
    """The Renyi divergence D_alpha(p, p_ref) = log E_p[(p/p_ref)^(alpha - 1)] / (alpha - 1) for each prompt, (P,), nats.

    Raises: InputError for alpha that is not positive, or 1 (that is KL: `path.expect` of L).

    >>> from tabular_rlhf.lattice import solve
    >>> from tabular_rlhf.world import rational
    >>> renyi(solve(rational()), 2.0).round(6).tolist()
    [0.158494]
    """
    if not (0 < as_number(alpha) < np.inf) or alpha == 1:
        raise InputError(
            "alpha must be positive, finite and not 1", got=alpha, remedy="the limit at 1 is KL: expect(lambda y: y.L, policy)"
        )
    return log_mean_exp(policy, lambda h: (alpha - 1.0) * policy.ratio(h)) / (alpha - 1.0)


def kl(p: Policy, q: Policy) -> Array:
    """KL(p, q) between two policies of one lattice, for each prompt: (P,), nats; inf where p says what q forbids.

    The chain rule, sum of d_p(s) KL(p(. given s), q(. given s)), in which every summand p x - p + q, x = log(p/q), is positive.

    >>> from tabular_rlhf.lattice import Reference, solve
    >>> from tabular_rlhf.world import coin
    >>> g = solve(coin()); kl(g, Reference(g.world)).round(6).tolist()
    [0.110944]
    """
    world, here = p.world, np.zeros(1)
    for h in reversed(range(world.H)):
        pi = p.pi(h)
        with np.errstate(over="ignore", invalid="ignore"):  # where pi is 0, so is its summand
            x = p.ratio(h) - q.ratio(h)
            gap = pi * np.where(np.abs(x) < 0.5, remainder(-x, 2), x) + np.where(np.abs(x) < 0.5, 0.0, q.pi(h) - pi)
            gap = np.where(pi > 0, np.where(q.pi(h) > 0, gap, np.inf), q.pi(h))
            ahead = np.where(pi > 0, pi * world.levels[h].pull(here), 0.0)
        here = np.append(np.sum(gap + ahead, axis=0), 0.0)
    return np.asarray(here[world.roots])


def policy_gradient(policy: Policy, prompt: int | None = None, x: Callable[[int], Array] | None = None) -> Iterator[tuple[int, Array]]:
    """(h, gradient in logits of level h, (V, n_h)): d pi (x + V' - V), of one prompt, or averaged.

    Args: x, what edges of a level earn, (V, n_h), held fixed; by default r - beta log(pi/pi_ref), whose gradient is that of J.
    """
    world = policy.world
    own = x or (lambda h: world.levels[h].r - world.beta * policy.ratio(h))
    values = [np.zeros(1)]
    for h in reversed(range(world.H)):
        ahead = own(h) + world.levels[h].pull(values[-1])
        values.append(np.append(np.einsum("vn,vn->n", policy.pi(h), ahead), 0.0))
    values.reverse()
    for h, _, mass in visits(policy, prompt):
        yield h, mass * (own(h) + world.levels[h].pull(values[h + 1]) - values[h][:-1])
