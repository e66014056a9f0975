r"""Chapter 1: language as an MDP.  The tree, the chain rule, occupancy, and why a policy is any distribution over responses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.ledger.record import Sampled, claim
from tabular_rlhf.logspace import kl, log_ratio
from tabular_rlhf.terms.policies import counted_path, level_totals, plain_values

# ---------------------------------------------------------------------------------------------------- tree-counts


def strings(mdp: Any) -> list[tuple[int, ...]]:
    """All responses by plain enumeration: those stopped by EOS before depth H, and all strings of length H."""
    stop = () if mdp.eos is None else (mdp.V - 1,)
    live = range(mdp.K)
    early = [s + stop for h in range(mdp.H - 1) for s in itertools.product(live, repeat=h)] if stop else []
    return early + [s + (a,) for s in itertools.product(live, repeat=mdp.H - 1) for a in range(mdp.V)]


def enumerated_counts(mdp: Any) -> tuple[int, int]:
    prefixes = {s[:h] for s in strings(mdp) for h in range(len(s))}
    return len(prefixes), len(strings(mdp))


claim(
    slug="tree-counts",
    chapter=1,
    text=r"""
    let V = V
    S = \sum_{h=0}^{H-1} K^h
      not \sum_{h=0}^{H-1} V^h  # EOS treated as a word that may be continued
      not K^{H-1}  # states of the last level only
    N = (V - K) \sum_{h=0}^{H-2} K^h + K^{H-1}\, V
        # for V words, of which K = V - 1 go on after them where one ends the response, else K = V
      slip V - K dropped; 1 for 2
      not V^H  # EOS treated as a word that may be continued: V^H
    """,
    source="Counting: with EOS a response may stop after h < H - 1 words; without, N is V to the power H.",
    parts=("decision states", "responses"),
    sides={
        "formula": 1,
        "blocks of the tree": 0,
        "enumeration of all strings": enumerated_counts,
    },
    largest=2000,
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


claim(
    slug="chain-rule",
    chapter=1,
    text=r"""
    \log p_\pi(\tau \mid x) = \sum_h \log \pi(a_h \mid s_h)
      slip pi_ref for pi
      not \log p_\pi(\tau \mid x) / |\tau|  # mean over tokens where the sum was due
      not \log p_\pi(\tau \mid x) - \log P  # normalized over all prompts together
    \sum_\tau p_\pi(\tau \mid x) = 1
    """,
    source="Definition of conditional probability.",
    parts=("log p", "total"),
    sides={
        "forward sweep": 0,
        "sum over tokens": 1,
        "token by token": lambda mdp, log_pi: (token_by_token(mdp, log_pi), np.ones(mdp.P)),
    },
    misses={
        "EOS token not counted in log pi": counted_path,
        "unconditional for conditional probabilities": lambda mdp, log_pi: mdp.path_sum(np.broadcast_to(log_pi[:, :1], log_pi.shape)),
    },
    sampled=Sampled("log_p", lambda log_p, log_p_2: log_ratio(log_p, log_p_2), lambda mu, log_p, log_p_2: np.sum(mu * kl(log_p, log_p_2))),
    largest=150,
    scale=lambda log_p: (np.max(np.abs(log_p), initial=1.0, where=np.isfinite(log_p)), 1.0),
)

# ---------------------------------------------------------------------------------------------------- occupancy


def inflow(mdp: Any, d_pi: Any, pi: Any) -> Any:
    """d(parent) pi(token given parent) for every state but the root, in the order of states."""
    flows = [np.ones((mdp.P, 1))]
    for h in range(mdp.H - 1):
        at = slice(mdp.offsets[h], mdp.offsets[h + 1])
        into = np.swapaxes(d_pi[:, at, None] * pi[:, at, : mdp.K], 1, 2)
        flows.append(into.reshape(mdp.P, -1))
    return np.concatenate(flows, axis=1)


claim(
    slug="occupancy",
    chapter=1,
    text=r"""
    d_\pi(s) = \sum_{\tau \ni s} p_\pi(\tau)
      slip p_ref for p
      not d_\pi(s) / \sum_{s'} d_\pi(s')  # normalized over all states
    d_\pi(s + a) = d_\pi(s)\, \pi(a \mid s)  # is the probability that a response passes through s; what flows into a state flows out of it
    """,
    source="Puterman (1994), Markov Decision Processes, sec. 6.9.",
    sides={
        "forward: product of pi along the path": 0,
        "backward: mass of the trajectories through s": 1,
        "inflow from the parent": inflow,
    },
    misses={"conditional for unconditional: given that the response goes on": lambda mdp, d_pi: d_pi / level_totals(mdp, d_pi)},
)

# ---------------------------------------------------------------------------------------------------- policies-are-distributions


claim(
    slug="policies-are-distributions",
    chapter=1,
    text=r"""
    let V = V
    d_\pi(s)\, \pi(a \mid s) = p(s + a)
      slip p_ref for p
      not d_\pi(s)\, p(s + a)  # unconditional for conditional probabilities: p(s + a)
      not d_\pi(s) / V  # divided by the number of continuations
      not d_\pi(s) / \pi(a \mid s)  # winner and loser swapped: p(s)/p(s + a)
    \pi(a \mid s) = \frac{p(s + a)}{p(s)}  # wherever p comes: tabular policies are all distributions
    """,
    source="Chain rule of probability.",
    note="Compared after weighting by d_pi(s), because pi is not determined in states that p never reaches.",
    parts=("d_pi(s) pi(a given s)",),
    sides={
        "the policy that made p": 0,
        "sums of p": 1,
        "recovered from p in log space": lambda mdp, log_p, d_pi: d_pi[..., None] * np.exp(log_policy_of(mdp, log_p)),
    },
)

# ---------------------------------------------------------------------------------------------------- performance-difference


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


claim(
    slug="performance-difference",
    chapter=1,
    text=r"""
    let Q' = E_{p_2}[r | s, a]; V' = E_{p_2}[r | s]; A' = E_{p_2}[r - beta*log(p_2/p_ref) | s, a] - E_{p_2}[r - beta*log(p_2/p_ref) | s]
    \mathbb{E}_{x \sim \mu}\big[\mathbb{E}_p[r] - \mathbb{E}_{p'}[r]\big] = \mathbb{E}_{x \sim \mu}\Big[\sum_s d_\pi(s) \sum_a \pi(a \mid
        s)\, (Q'(s, a) - V'(s))\Big]
      slip d_ref for d_pi; the term V'(s) dropped; arguments of the difference swapped
      not \mathbb{E}_\mu[\sum_s d_\pi(s) \sum_a \pi(a \mid s) (Q^\pi(s, a) - V^\pi(s))]  # advantages of pi under itself
    \mathbb{E}_{x \sim \mu}[J_x(p) - J_x(p')] = \mathbb{E}_{x \sim \mu}\Big[\sum_s d_\pi(s) \Big(\sum_a \pi(a \mid s)\, A'(s, a) - \beta\,
        \mathrm{KL}(\pi(\cdot \mid s), \pi'(\cdot \mid s))\Big)\Big]
        # with the values and advantages of the other policy: Q' and V' of r, and A' of r less its own penalty
      slip beta dropped
      not \mathbb{E}_\mu[\mathbb{E}_p[r] - \mathbb{E}_{p'}[r] + \beta\, (\mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p', p_{ref}))]
        # + KL for - KL in the objective
    """,
    source="Kakade and Langford (2002), Approximately optimal approximate reinforcement learning, lemma 6.1.",
    note="Part 2 is J with its KL term: beside the advantages stands what the acting policy pays for being another one.",
    parts=("E[r]", "E[r] - beta KL"),
    sides={
        "difference of the objectives": 0,
        "advantages of pi' under pi's visits": 1,
        "backward sweeps, each token paying its own penalty": expected_advantages,
    },
    sampled=Sampled("log_p", lambda r: r, lambda mu, E_r: np.sum(mu * E_r)),
    scale=lambda r, beta, KL, log_p_2, log_p_ref, H: (
        (H + 1) * (np.max(np.abs(r)) + beta * (1 + np.max(KL) + np.max(kl(log_p_2, log_p_ref))))
    ),
)
