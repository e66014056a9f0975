r"""Chapter 10, tokens: divergences credited to their own token, a teacher, entropies, process rewards, a critic that is wrong."""

from __future__ import annotations

from string import Template
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import claim
from tabular_rlhf.logspace import kl, log_softmax
from tabular_rlhf.policy_gradient import stale
from tabular_rlhf.terms.conditions import full
from tabular_rlhf.terms.policies import each, mean_slope
from tabular_rlhf.terms.sizes import nats, reward_size


def by_core(f: Any, logits: Any) -> Any:
    """The gradient of f(logits), a sum over prompts that do not meet, for each prompt in the logits of all."""
    return each(grad(f)(logits))


# ---------------------------------------------------------------------------------------------------- state-kl-in-reward

STATE_KL = r"\mathrm{KL}(\pi(\cdot \mid s), \pi_{ref}(\cdot \mid s))"


def held_kl(mdp: Any, log_pi: Any, log_pi_ref: Any, logits: Any) -> Any:
    """grad of sum_s d(s) KL(s) with KL(s) held, by the gradient core."""
    held = kl(log_pi, log_pi_ref)
    return by_core(lambda t: np.sum(np.exp(mdp.prefix_sum(log_softmax(t))) * held), logits)


claim(
    slug="state-kl-in-reward",
    chapter=10,
    text=Template(r"""
    \sum_s d_\pi(s)\, ${STATE_KL} \sum_a \pi(a \mid s)\, \nabla \log\pi(a \mid s) = 0
      not nabla(KL(p, p_ref))  # same-token credit suffices
    \mathbb{E}_p[(\sum_h \mathrm{KL}(\pi(\cdot \mid s_h), \pi_{ref}(\cdot \mid s_h)))\, \mathrm{score}] = \sum_s ${STATE_KL}\, \nabla
        d_\pi(s)
      not nabla(KL(p, p_ref))  # the return carries all of it
      not sum_s KL(pi(.|s), pi_ref(.|s))*nabla(d_pi(s))*d_ref(s)  # the reference's visits
    \sum_s ${STATE_KL}\, \nabla d_\pi(s) + \sum_s d_\pi(s)\, \nabla\, ${STATE_KL} = \nabla\, \mathrm{KL}(p, p_{ref})
        # the exact divergence of a state, credited to the token chosen there, pushes nothing; as part of the return it moves only which
        states are visited; with the loss term it is all of the gradient
      not sum_s d_pi(s)*nabla(KL(pi(.|s), pi_ref(.|s)))  # visits held
      not 2*nabla(KL(p, p_ref))  # twice, with the sampled log-ratio in the return
    """).substitute(STATE_KL=STATE_KL),
    source="by the score function: a number that does not depend on the token is a baseline.",
    parts=("same token", "in the return", "return and loss"),
    sides={
        "closed form": 1,
        "responses and states": 0,
        "gradient core": lambda mdp, logits, log_pi, log_pi_ref, P, S, V: (
            np.zeros((P, P, S, V)),
            held_kl(mdp, log_pi, log_pi_ref, logits),
            by_core(lambda t: np.sum(kl(mdp.path_sum(log_softmax(t)), mdp.path_sum(log_pi_ref))), logits),
        ),
    },
    where=full,
    scale=nats,
    largest=40,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- on-policy-distillation


def sampled_tokens(mdp: Any, p: Any, pi: Any, log_pi: Any, log_pi_2: Any) -> Any:
    """The mean of log(pi/teacher) score of each token, over the responses that pass."""
    return each(stale.pulled_tokens(mdp.subtree_sum(p) * (log_pi - log_pi_2), pi))


claim(
    slug="on-policy-distillation",
    chapter=10,
    text=r"""
    let pi_T = pi_2; p_T = p_2
    \mathbb{E}_p[\sum_h \log\frac{\pi(a_h \mid s_h)}{\pi_T(a_h \mid s_h)}\, \nabla \log\pi(a_h \mid s_h)] = \sum_s d_\pi(s)\, \nabla\,
        \mathrm{KL}(\pi(\cdot \mid s), \pi_T(\cdot \mid s))
        # for a teacher T: the sampled reverse divergence, token by token, holds the visits; it is the gradient of nothing, and yet vanishes
        at the teacher
      not nabla(KL(p, p_T))  # the gradient of KL(pi, teacher)
      not sum_s d_pi(s)*nabla(KL(pi_T(.|s), pi(.|s)))  # the forward divergence
      not sum_s p_T(s)*nabla(KL(pi(.|s), pi_T(.|s)))  # the teacher's visits
      not -(sum_s d_pi(s)*nabla(KL(pi(.|s), pi_T(.|s))))  # sign flipped
      not E_p[log(p/p_T)*score]  # the whole log-ratio credited to every token
    """,
    source="Agarwal et al. (2024), arXiv:2306.13649; of what it optimizes, arXiv:2605.16826.",
    note="From two tokens on the field has a curl: it is the gradient of nothing.",
    sides={
        "states, visits held": 1,
        "responses": 0,
        "masses of tokens": sampled_tokens,
    },
    where=full,
    scale=lambda H, log_p, log_p_2: nats(H, log_p, log_p_2),
    largest=40,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- entropy-covariance


def turned(t: Any, logits: Any, direction: Any) -> Any:
    return log_softmax(logits + t * direction)


def entropy(log_p: Any) -> Any:
    return -np.sum(np.exp(log_p) * log_p, axis=-1)


def entropy_slopes(mdp: Any, logits: Any, direction: Any) -> Any:
    """d/dt of every entropy at t = 0, by the gradient core, one entry at a time."""

    def slope(f: Any) -> Any:
        shape = np.shape(f(turned(0.0, logits, direction)))
        rows = [grad(lambda t, i=i: np.ravel(f(turned(t, logits, direction)))[i])(0.0) for i in range(int(np.prod(shape)))]
        return np.reshape(np.array(rows, dtype=float), shape)

    return slope(entropy), slope(lambda log_pi: entropy(mdp.path_sum(log_pi)))


TURNED = (
    r"w(s, a) = \frac{\pi(a \mid s) e^{z v(s, a)}}{\sum_b \pi(b \mid s) e^{z v(s, b)}}, "
    r"\quad q(y) = \prod_h w(s_h, a_h), \quad z = 0"
)

claim(
    slug="entropy-covariance",
    chapter=10,
    text=Template(r"""
    let v = direction
    \frac{d}{dz}(-\sum_a w(s, a) \log w(s, a)) = -\mathrm{Cov}_a(\log\pi(a \mid s), v(s, a)), \quad ${TURNED}
      not Cov_a(log(pi(a|s)), v(s,a))  # sign flipped
      not -(sum_a pi(a|s)*log(pi(a|s))*v(s,a))  # the mean of the product, not the covariance
      not -(sum_a pi(a|s)*v(s,a))  # the slope of the cross entropy
    \frac{d}{dz}(-\sum_y q(y) \log q(y)) = -\mathrm{Cov}_p(\log p, \mathrm{score}_v)
        # as the logits move along v: of tokens, and of responses, where score_v is the slope of log p
      not -(sum_s d_pi(s)*Cov_a(log(pi(a|s)), v(s,a)))  # token sum for sequence
      not -(sum_s Cov_a(log(pi(a|s)), v(s,a)))  # not discounted by visits
    """).substitute(TURNED=TURNED),
    source="Cui et al. (2025), arXiv:2505.22617.",
    note="All token entropies may rise while that of the responses falls: visits move, too.",
    parts=("tokens", "responses"),
    sides={
        "covariance": 1,
        "slope of the entropy as it is written": 0,
        "gradient core": entropy_slopes,
    },
    where=full,
    scale=lambda H, log_p, log_p_ref, direction: nats(H, log_p, log_p_ref) * (1.0 + np.max(np.abs(direction))),
    largest=40,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- process-rewards


def telescoped(mdp: Any, p: Any, r: Any, log_p_ref: Any, beta: float) -> Any:
    """Differences of prefix values along every response, and the Gibbs law of their sum."""
    mass, earned = mdp.subtree_sum(p), mdp.subtree_sum(p * r)
    V = np.sum(earned, axis=-1) / np.sum(mass, axis=-1)
    summed = mdp.path_sum(earned / mass - V[..., None])
    return summed, np.exp(log_gibbs(log_p_ref, summed, beta))


claim(
    slug="process-rewards",
    chapter=10,
    text=r"""
    \sum_h (Q_\pi(s_h, a_h) - V_\pi(s_h)) = r - V_\pi(x)
      not sum_h Q_pi(s_h, a_h)  # a sum of prefix values
      not r  # the value of the prompt forgotten
    \frac{p_{ref}\, e^{S/\beta}}{\mathbb{E}_{p_{ref}}[e^{S/\beta}]} = p^*, \quad S = \sum_h (Q_\pi(s_h, a_h) - V_\pi(s_h))
        # differences of prefix values, of any policy pi, telescope: the optimum is that of the outcome; sums of prefix values do not
      not p_ref*exp(T/beta)/E_p_ref[exp(T/beta)] where T = r + (sum_h r_token(s_h, a_h))  # any process reward
      not p_ref*exp(T/beta)/E_p_ref[exp(T/beta)] where T = sum_h Q_pi(s_h, a_h)  # sums of prefix values have that optimum
    """,
    source="Ng, Harada and Russell (1999); of process rewards and summed credit, arXiv:2504.15275.",
    parts=("sum of differences", "optimum"),
    sides={
        "outcome": 1,
        "token by token": 0,
        "masses, in logarithms": telescoped,
    },
    where=lambda log_p_ref, r, beta: full(log_p_ref) and float(np.ptp(r)) / beta < 300.0,
    scale=lambda r, H, beta, log_p: reward_size(r, H) * (1.0 + 1.0 / beta) + np.max(np.abs(log_p)),
    largest=300,
    most=20,
)

# ---------------------------------------------------------------------------------------------------- gae

claim(
    slug="gae",
    chapter=10,
    text=r"""
    let g_Phi = gae_update; g_0 = gae_exact; B = critic_bias; lambda = lam
    g_\Phi = \nabla\, \mathbb{E}_p[r] + (1 - \lambda) \sum_s d_\pi(s) \sum_a \nabla\pi(a \mid s)\, B(s, a)
      not nabla(E_p[r])  # unbiased for all lambda
      not nabla(E_p[r]) + lambda*sum_s d_pi(s)*sum_a nabla(pi(a|s))*B(s, a)  # lambda for 1 - lambda
      not nabla(E_p[r]) + sum_s d_pi(s)*sum_a nabla(pi(a|s))*B(s, a)  # bias at lambda = 1, too
      not nabla(E_p[r]) - (1 - lambda)*sum_s d_pi(s)*sum_a nabla(pi(a|s))*B(s, a)  # sign flipped
    g_0 = \nabla\, \mathbb{E}_p[r]
        # where g_0 is the update with GAE on the exact critic of pi, g_Phi with a critic that is wrong by Phi(s), and B(s, a) is the mean
        error still to come, each step further discounted by lambda once more
      not g_Phi  # an exact critic biases it
    """,
    source="Schulman et al. (2016), arXiv:1506.02438.",
    parts=("a wrong critic", "the exact critic"),
    sides={
        "gradient and bias": 1,
        "response by response, step by step": 0,
        "gradient core, recursion": lambda world, logits, mdp, r, pi, d_pi, critic_bias, lam: (
            mean_slope(world, logits, r) + each((1.0 - lam) * stale.pulled_tokens(d_pi[..., None] * pi * critic_bias, pi)),
            mean_slope(world, logits, r),
        ),
    },
    where=full,
    scale=lambda r, H, phi: reward_size(r, H) * (1.0 + np.max(np.abs(phi))) * H,
    largest=40,
    most=12,
)
