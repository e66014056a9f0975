r"""Chapter 1: language as an MDP.  The tree, the chain rule, occupancy, and why a policy is any distribution over responses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.ledger.record import Miss, Row, Sampled, add
from tabular_rlhf.logspace import expect, kl, log_ratio
from tabular_rlhf.mdp import tree_counts

# ---------------------------------------------------------------------------------------------------- tree-counts


def strings(mdp: Any) -> list[tuple[int, ...]]:
    """All responses by plain enumeration: those stopped by EOS before depth H, and all strings of length H."""
    stop = () if mdp.eos is None else (mdp.V - 1,)
    live = range(mdp.K)
    early = [s + stop for h in range(mdp.H - 1) for s in itertools.product(live, repeat=h)] if stop else []
    return early + [s + (a,) for s in itertools.product(live, repeat=mdp.H - 1) for a in range(mdp.V)]


def enumerated_counts(mdp: Any) -> Any:
    prefixes = {s[:h] for s in strings(mdp) for h in range(len(s))}
    return np.array([len(prefixes), len(strings(mdp))])


add(
    Row(
        slug="tree-counts",
        chapter=1,
        statement=r"S = \sum_{h<H} K^h, \qquad N = \sum_{h<H-1} K^h + K^{H-1} V \ \text{(EOS)}, \qquad N = V^H \ \text{(none)}",
        source="Counting; K = V - 1 with EOS, K = V without.",
        sides={
            "formula": lambda mdp: np.array(tree_counts(mdp.V, mdp.H, mdp.eos is not None)),
            "enumeration of all strings": enumerated_counts,
            "blocks of the tree": lambda mdp: np.array([mdp.S, mdp.N]),
        },
        misses={
            "EOS treated as a word that may be continued": lambda mdp: np.array([sum(mdp.V**h for h in range(mdp.H)), mdp.V**mdp.H]),
            "n for n - 1: responses that stop early counted to depth H": lambda mdp, S: np.array(
                [S, (S if mdp.eos is not None else 0) + mdp.K ** (mdp.H - 1) * mdp.V]
            ),
            "states of the last level only": lambda mdp, N: np.array([mdp.K ** (mdp.H - 1), N]),
        },
        largest=2000,
    )
)

# ---------------------------------------------------------------------------------------------------- chain-rule


def token_by_token(mdp: Any, log_pi: Any) -> Any:
    """log p of every response by walking it, one token at a time."""
    out = np.empty((mdp.P, mdp.N))
    for i in range(mdp.N):
        said = [a for a in mdp.tokens(np.array([i]))[0].tolist() if a >= 0]
        states = [mdp.offsets[h] + sum(a * mdp.K**j for j, a in enumerate(said[:h])) for h in range(len(said))]
        for x in range(mdp.P):
            out[x, i] = sum(log_pi[x, s, a] for s, a in zip(states, said, strict=True))
    return out


def without_eos(mdp: Any, log_pi: Any) -> Any:
    uncounted = np.array(log_pi)
    if mdp.eos is not None:
        uncounted[..., mdp.V - 1] = 0.0
    return mdp.path_sum(uncounted)


add(
    Row(
        slug="chain-rule",
        chapter=1,
        statement=r"\log p_\pi(\tau \mid x) = \sum_h \log \pi(a_h \mid s_h), \qquad \sum_\tau p_\pi(\tau \mid x) = 1",
        source="Definition of conditional probability.",
        parts=("log p", "total"),
        sides={
            "forward sweep": lambda mdp, log_p: (log_p, np.sum(np.exp(log_p), axis=1)),
            "token by token": lambda mdp, log_pi: (token_by_token(mdp, log_pi), np.ones(mdp.P)),
        },
        misses={
            "EOS token not counted in log pi": without_eos,
            "mean over tokens where the sum was due": lambda log_p, lengths: log_p / lengths,
            "unconditional for conditional probabilities": lambda mdp, log_pi: mdp.path_sum(np.broadcast_to(log_pi[:, :1], log_pi.shape)),
            "normalized over all prompts together": lambda log_p, P: log_p - np.log(P),
        },
        sampled=Sampled(
            "log_p", lambda log_p, log_p_2: log_ratio(log_p, log_p_2), lambda mu, log_p, log_p_2: np.sum(mu * kl(log_p, log_p_2))
        ),
        largest=150,
        scale=lambda log_p: (np.max(np.abs(log_p), initial=1.0, where=np.isfinite(log_p)), 1.0),
    )
)

# ---------------------------------------------------------------------------------------------------- occupancy


def through(mdp: Any, p: Any) -> Any:
    """Mass of the trajectories through each state."""
    return np.sum(mdp.subtree_sum(p), axis=-1)


def inflow(mdp: Any, d_pi: Any, pi: Any) -> Any:
    """d(parent) pi(token given parent) for every state but the root, in the order of states."""
    flows = [np.ones((mdp.P, 1))]
    for h in range(mdp.H - 1):
        at = slice(mdp.offsets[h], mdp.offsets[h + 1])
        into = np.swapaxes(d_pi[:, at, None] * pi[:, at, : mdp.K], 1, 2)
        flows.append(into.reshape(mdp.P, -1))
    return np.concatenate(flows, axis=1)


def level_totals(mdp: Any, d_pi: Any) -> Any:
    """For every state, the mass of its whole level: the probability of getting that far."""
    masses = [np.sum(d_pi[:, a:b], axis=1, keepdims=True) * np.ones(b - a) for a, b in itertools.pairwise(mdp.offsets)]
    return np.concatenate(masses, axis=1)


add(
    Row(
        slug="occupancy",
        chapter=1,
        statement=r"d_\pi(s) = \sum_{\tau \ni s} p_\pi(\tau), \qquad d_\pi(s + a) = d_\pi(s)\, \pi(a \mid s)",
        source="Puterman (1994), Markov Decision Processes, sec. 6.9.",
        sides={
            "forward: product of pi along the path": lambda d_pi: d_pi,
            "backward: mass of the trajectories through s": through,
            "inflow from the parent": inflow,
        },
        misses={
            "d_ref for d_pi": lambda d_ref: d_ref,
            "conditional for unconditional: given that the response goes on": lambda mdp, d_pi: d_pi / level_totals(mdp, d_pi),
            "normalized over all states": lambda d_pi: d_pi / np.sum(d_pi, axis=1, keepdims=True),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- policies-are-distributions


def policy_times_visit(mdp: Any, log_p: Any, d_pi: Any) -> Any:
    return d_pi[..., None] * np.exp(log_policy_of(mdp, log_p))


def quotient(mdp: Any, p: Any, d_pi: Any) -> Any:
    """p(s + a)/p(s) by sums of probabilities, weighted by the visit so that unreached states do not matter."""
    mass = mdp.subtree_sum(p)
    below = np.sum(mass, axis=-1, keepdims=True)
    return d_pi[..., None] * mass / np.where(below > 0, below, 1.0)


add(
    Row(
        slug="policies-are-distributions",
        chapter=1,
        statement=r"\pi(a \mid s) = \frac{p(s + a)}{p(s)} \ \text{wherever } p(s) > 0: \text{ tabular policies are all distributions}",
        source="Chain rule of probability.",
        note="Compared after weighting by d_pi(s), because pi is not determined in states that p never reaches.",
        parts=("d_pi(s) pi(a given s)",),
        sides={
            "the policy that made p": lambda d_pi, pi: d_pi[..., None] * pi,
            "recovered from p in log space": policy_times_visit,
            "recovered from sums of p": quotient,
        },
        misses={
            "unconditional for conditional probabilities: p(s + a)": lambda mdp, p, d_pi: d_pi[..., None] * mdp.subtree_sum(p),
            "divided by the number of continuations": lambda d_pi, pi, V: d_pi[..., None] * np.ones_like(pi) / V,
            "winner and loser swapped: p(s)/p(s + a)": lambda mdp, d_pi, pi: d_pi[..., None] / np.where(pi > 0, pi, 1.0),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- performance-difference


def plain_values(mdp: Any, log_pi: Any, reward: Any) -> tuple[Any, Any]:
    """V and Q of a policy for a fixed trajectory reward, by backward sweep."""
    levels = mdp.levels(log_pi)
    return mdp.backup(reward, lambda h, Q: np.sum(np.exp(levels[h]) * Q, axis=1))


def regularized_values(mdp: Any, log_pi: Any, log_pi_ref: Any, r: Any, beta: float) -> tuple[Any, Any]:
    """V and Q of pi' when every token also pays beta log(pi'/pi_ref)."""
    levels = mdp.levels(log_pi)
    toll = mdp.levels(beta * log_ratio(log_pi, log_pi_ref))
    return mdp.backup(r, lambda h, Q: np.sum(np.exp(levels[h]) * (Q - toll[h]), axis=1))


def advantage_sum(mu: Any, d: Any, pi: Any, V: Any, Q: Any) -> Any:
    return np.sum(mu[:, None] * d * np.sum(pi * (Q - V[..., None]), axis=-1))


def expected_advantages(mdp: Any, mu: Any, d_pi: Any, pi: Any, log_pi: Any, log_pi_2: Any, log_pi_ref: Any, r: Any, beta: float) -> Any:
    V, Q = plain_values(mdp, log_pi_2, r)
    V2, Q2 = regularized_values(mdp, log_pi_2, log_pi_ref, r, beta)
    penalized = Q2 - beta * log_ratio(log_pi, log_pi_ref)
    return advantage_sum(mu, d_pi, pi, V, Q), advantage_sum(mu, d_pi, pi, V2, penalized)


def objective_gap(mu: Any, log_p: Any, log_p_2: Any, log_p_ref: Any, r: Any, beta: float) -> Any:
    reward = expect(log_p, r) - expect(log_p_2, r)
    penalty = kl(log_p, log_p_ref) - kl(log_p_2, log_p_ref)
    return np.sum(mu * reward), np.sum(mu * (reward - beta * penalty))


add(
    Row(
        slug="performance-difference",
        chapter=1,
        statement=r"J(\pi) - J(\pi') = \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, A^{\pi'}(s, a)",
        source="Kakade and Langford (2002), Approximately optimal approximate reinforcement learning, lemma 6.1.",
        note="Part 1: J = E[r].  Part 2: J with its KL term; the advantage then carries -beta log(pi/pi_ref) of the acting policy.",
        parts=("E[r]", "E[r] - beta KL"),
        sides={"difference of the objectives": objective_gap, "advantages of pi' under pi's visits": expected_advantages},
        misses={
            "d_ref for d_pi": lambda mdp, mu, d_ref, pi, log_pi_2, r: advantage_sum(mu, d_ref, pi, *plain_values(mdp, log_pi_2, r)),
            "advantages of pi under itself": lambda mdp, mu, d_pi, pi, log_pi, r: advantage_sum(
                mu, d_pi, pi, *plain_values(mdp, log_pi, r)
            ),
            "Q without V": lambda mdp, mu, d_pi, pi, log_pi_2, r: advantage_sum(
                mu, d_pi, pi, np.zeros_like(d_pi), plain_values(mdp, log_pi_2, r)[1]
            ),
            "sign flipped": lambda mu, log_p, log_p_2, r: -np.sum(mu * (expect(log_p, r) - expect(log_p_2, r))),
            "+ KL for - KL in the objective": Miss(
                "+ KL for - KL in the objective",
                lambda mu, log_p, log_p_2, log_p_ref, r, beta: np.sum(
                    mu * (expect(log_p, r) - expect(log_p_2, r) + beta * (kl(log_p, log_p_ref) - kl(log_p_2, log_p_ref)))
                ),
                part=1,
            ),
        },
        sampled=Sampled("log_p", lambda r: r, lambda mu, E_r: np.sum(mu * E_r)),
        scale=lambda r, beta, KL, log_p_2, log_p_ref, H: (
            (H + 1) * (np.max(np.abs(r)) + beta * (1 + np.max(KL) + np.max(kl(log_p_2, log_p_ref))))
        ),
    )
)
