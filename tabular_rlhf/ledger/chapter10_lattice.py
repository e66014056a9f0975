r"""Chapter 10, lattices: what sweeps over merged states give is what the list of responses gives, and goes on where no list can.

Each row holds a sweep of `lattice` against the list of a small world.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.lattice import LatticeWorld, Level, Reference, solve, unmerged
from tabular_rlhf.lattice.condition import Given, Masked, rewarded
from tabular_rlhf.lattice.flow import kl, policy_gradient
from tabular_rlhf.lattice.merge import classes_of, grid, merge
from tabular_rlhf.lattice.tree import log_law, over_states, rows_of
from tabular_rlhf.ledger.record import Approximately, Miss, claim
from tabular_rlhf.logspace import kl as kl_of
from tabular_rlhf.logspace import log_softmax, remainder
from tabular_rlhf.path.sweep import by_prompt
from tabular_rlhf.terms.conditions import full
from tabular_rlhf.terms.policies import spread
from tabular_rlhf.terms.sizes import nats, reward_size
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- lattice-variance


claim(
    slug="lattice-variance",
    chapter=10,
    text=r"""
    \mathrm{Var}_p(r) = \sum_s d_\pi(s)\, \mathrm{Var}_a(Q_\pi(s, a))
        # the law of total variance, token by token: a backward sweep of squares, in which nothing cancels
      not E_p[r^2]  # the second moment
      not sum_s Var_a(Q_pi(s, a))  # states all alike: not weighed by visits
      not sum_s d_pi(s)*(sum_a pi(a|s)*Q_pi(s, a)^2)  # the second moment of what a token promises
      not Var_p_ref(r)  # the reference's variance
    """,
    source="Q_pi along a response is a martingale; Li and Eisner (2009) as a semiring.",
    sides={
        "states": 1,
        "responses": 0,
        "a sweep over the lattice": lambda world, log_pi: by_prompt(lambda y: y.r, rows_of(world, log_pi))[1],
    },
    where=full,
    scale=lambda r: float(1.0 + np.max(np.abs(r)) ** 2),
    largest=300,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- lattice-k3


NUDGE = 1e-4
"""How far the policy is moved from the reference: KL is of the size of its square."""


def nudged(log_pi_ref: Any, direction: Any) -> Any:
    """log pi of the reference, nudged along a direction."""
    return log_softmax(log_pi_ref + NUDGE * direction)


def of_list(size: Any) -> Any:
    """A function of the symbols: some size of p, L and k3 over all responses, over KL^2."""

    def over(mdp: Any, log_pi_ref: Any, direction: Any) -> Any:
        moved = nudged(log_pi_ref, direction)
        p, L = np.exp(mdp.path_sum(moved)), mdp.path_sum(moved - log_pi_ref)
        k3 = remainder(-L, 2)
        return size(p, L, k3) / np.square(np.sum(p * k3, axis=1))

    return over


def three_coordinates(p: Any, L: Any, k3: Any) -> Any:
    """Var k3 from the moments of 1, L and e^-L: E[k3^2] - E[k3]^2."""
    terms, w = np.stack([np.ones_like(L), np.exp(-L), L]), np.array([-1.0, 1.0, 1.0])
    second = np.einsum("xi,axi,bxi->xab", p, terms, terms)
    return np.einsum("a,xab,b->x", w, second, w) - np.square(np.einsum("xi,axi->xa", p, terms) @ w)


listed_ratio = of_list(lambda p, L, k3: spread(p, k3))


def far_enough(world: Any, log_pi_ref: Any, direction: Any) -> bool:
    """Whether nothing is forbidden, and the KL of every prompt is not far below the square of the nudge."""
    if not full(world.log_p_ref):
        return False
    moved = nudged(log_pi_ref, direction)
    return float(np.min(kl_of(world.mdp.path_sum(moved), world.mdp.path_sum(log_pi_ref)))) > 1e-3 * NUDGE**2


def over_kl(world: Any, log_pi_ref: Any, direction: Any) -> Any:
    """The sweep's Var k3 over its KL^2."""
    policy = rows_of(world, nudged(log_pi_ref, direction))
    return by_prompt(lambda y: np.expm1(-y.L) + y.L, policy)[1] / np.square(kl(policy, Reference(policy.world)))


claim(
    slug="lattice-k3",
    chapter=10,
    text=r"""
    \frac{\mathrm{Var}_p(k_3)}{\mathrm{KL}(p, p_{ref})^2} = \frac{\mathbb{E}_p[(e^{-L} - 1 + L - \mathrm{KL}(p, p_{ref}))^2]}{\mathrm{KL}(p,
        p_{ref})^2}
        # also where the policy is 10^-4 from the reference: by k3(x + y) = k3(x) + e^-x k3(y) - (e^-x - 1) y, k3 is a coordinate of its own
        beside y, and keeps its digits
    """,
    source="The addition theorem of e^-x - 1 + x; `path.sweep`.",
    sides={
        "a sweep over the lattice": over_kl,
        "responses": Approximately(listed_ratio, error=1e-9),
    },
    misses={
        "1, L and e^-L as coordinates, and the second moment": of_list(three_coordinates),
        "the variance of k1": of_list(lambda p, L, k3: spread(p, L)),
        "the second moment": of_list(lambda p, L, k3: np.sum(p * k3 * k3, axis=1)),
    },
    where=far_enough,
    scale=lambda mdp, log_pi_ref, direction: float(np.max(1.0 + np.abs(listed_ratio(mdp, log_pi_ref, direction)))),
    largest=300,
    most=12,
)


# ---------------------------------------------------------------------------------------------------- masking-is-not-conditioning


def required(world: Any, success: Any) -> Any:
    """The tree that pays 1 for what has the format."""
    return unmerged(World(world.mdp, world.log_ref, success, world.beta))


def given_the_format(world: Any, success: Any) -> Any:
    """The sweep's law given the format, and its divergence."""
    tree = required(world, success)
    policy = Given(tree, rewarded(tree))
    return np.exp(log_law(world, policy)), kl(policy, Reference(tree))


def listed_given(p_ref: Any, success: Any) -> tuple[Any, Any]:
    """Bayes, on the list: the law, and the sum of q log(q/p_ref)."""
    q = p_ref * success
    q = q / np.sum(q, axis=1, keepdims=True)
    return q, np.sum(q * np.log(np.where(q > 0, q / p_ref, 1.0)), axis=1)


def masked(world: Any, success: Any) -> Any:
    """The law of constrained decoding: dead ends are forbidden token by token, what is left renormalized."""
    tree = required(world, success)
    return np.exp(log_law(world, Masked(tree, rewarded(tree))))


def masked_kl(world: Any, success: Any) -> Any:
    tree = required(world, success)
    return kl(Masked(tree, rewarded(tree)), Reference(tree))


claim(
    slug="masking-is-not-conditioning",
    chapter=10,
    text=r"""
    let f = success; q = p_ref*success/E_p_ref[success]
    q = \frac{p_{ref}\, f}{\mathbb{E}_{p_{ref}}[f]}
      not p_ref*success  # not normalized
      not p_ref*exp(success/beta)/E_p_ref[exp(success/beta)]  # the optimum for the reward f
    \mathrm{KL}(q, p_{ref}) = -\log \mathbb{E}_{p_{ref}}[f]
        # for q the reference given a required format, f = 1 where a response has it: of all laws that always have it the nearest;
        forbidding tokens that lead nowhere, and renormalizing, gives another, farther law
      not log(E_p_ref[success])  # sign flipped
    """,
    source="Bayes; on constrained decoding, Park et al. (2024), arXiv:2405.21047.",
    parts=("law", "distance"),
    sides={
        "responses": listed_given,
        "a sweep over the lattice": given_the_format,
    },
    misses={
        "masking tokens is conditioning": Miss(masked),
        "masking is as near to the reference": Miss(masked_kl, part=1),
    },
    where=lambda p_ref, success, log_p_ref: full(log_p_ref) and float(np.min(np.sum(p_ref * success, axis=1))) > 1e-6,
    scale=lambda log_p_ref: float(1.0 + np.max(np.abs(log_p_ref))),
    largest=300,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- forward-backward


def swept(world: Any, log_pi: Any) -> Any:
    """grad J of every prompt in the logits of all, by visits forward and values backward."""
    policy, P = rows_of(world, log_pi), world.mdp.P
    return np.stack([over_states(world, [g for _, g in policy_gradient(policy, x)]) for x in range(P)])


claim(
    slug="forward-backward",
    chapter=10,
    text=r"""
    \nabla J_x = \mathbb{E}_p[(r - \beta \log\frac{p}{p_{ref}})\, \mathrm{score}]
        # on a lattice by two sweeps: d pi (x + V' - V) on each edge, with x = r - beta log(pi/pi_ref) of it, visits d forward and values V
        backward
      not nabla(E_p[r])  # the divergence's gradient forgotten
      not E_p_ref[(r - beta*log(p/p_ref))*score]  # the reference's responses
      not nabla(E_p[r] - KL(p, p_ref))  # beta dropped
      not nabla(E_p[r] + beta*KL(p, p_ref))  # sign of the divergence flipped
      not nabla(E_p[r] - beta*KL(p_ref, p))  # the forward divergence
    """,
    source="Baum and Petrie (1966); the policy gradient theorem.",
    sides={
        "gradient of J": 0,
        "responses": 1,
        "visits forward, values backward": swept,
    },
    where=full,
    scale=lambda r, beta, H, log_p, log_p_ref: reward_size(r, H) + (1.0 + beta) * nats(H, log_p, log_p_ref),
    largest=40,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- lattice-merging


def careless(world: Any) -> LatticeWorld:
    """States merged by part of what the theorem asks for: their rows of the reference and their children, whatever they earn."""
    tree, levels, classes, after = unmerged(world), [], np.zeros(1, dtype=np.intp), 0
    for h in reversed(range(tree.H)):
        level = tree.levels[h]
        child = classes[level.child]
        label, first = classes_of(np.concatenate([grid(level.log_ref, 1.0), child]))
        levels.append(Level(child[:, first], level.log_ref[:, first], level.r[:, first], after))
        classes, after = np.append(label, len(first)), len(first)
    return LatticeWorld(tree.language, levels[::-1], classes[tree.roots], tree.beta)


def solved(lattice: LatticeWorld) -> Any:
    """log Z, and the variance of the reward under the optimum."""
    g = solve(lattice)
    return g.log_Z, by_prompt(lambda y: y.r, g)[1]


claim(
    slug="lattice-merging",
    chapter=10,
    text=r"""
    \log Z = \log \mathbb{E}_{p_{ref}}[e^{r/\beta}]
      not log(E_p_ref[exp(r*beta)])  # beta for 1/beta
    \mathrm{Var}_{p^*}(r) = \mathbb{E}_{p^*}[(r - \mathbb{E}_{p^*}[r])^2]
        # on the lattice that merges states whose rows of the reference, rewards to come and merged children agree: nothing is lost
      not Var_p_ref(r)  # the reference's variance
      not E_p_star[r^2]  # the second moment
    """,
    source="Mohri (2000), minimization after pushing; `lattice.merge`.",
    parts=("log Z", "variance"),
    sides={
        "responses": 1,
        "as they are defined": 0,
        "the smallest lattice": lambda world: solved(merge(world)),
    },
    misses={"states merged whose rewards to come differ": Miss(lambda world: solved(careless(world))[0])},
    where=full,
    scale=lambda r, beta: (
        float(1.0 + np.max(np.abs(r)) / beta),
        float(1.0 + np.max(np.abs(r)) ** 2) * (1.0 + float(np.max(np.abs(r))) / beta),
    ),
    largest=64,
    most=6,
)
