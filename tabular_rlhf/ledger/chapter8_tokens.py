r"""Chapter 8, continued: KL estimators token by token, the exact KL of every state, and other people's samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.estimators import Flag, exact_gradient, score_gradient, table
from tabular_rlhf.estimators.evaluate import centre
from tabular_rlhf.ledger.record import Sampled, claim
from tabular_rlhf.logspace import expect, kl, log_ratio, log_softmax
from tabular_rlhf.terms.conditions import SMALL
from tabular_rlhf.terms.letters import K3
from tabular_rlhf.terms.policies import variance
from tabular_rlhf.terms.sizes import full_table, gain_scale, term_scale
from tabular_rlhf.terms.sources import AMINI

# ---------------------------------------------------------------------------------------------------- token-vs-sequence


def frozen_visits(mu: Any, d_pi: Any, log_pi_ref: Any, logits: Any) -> Any:
    """grad of sum_s d_0(s) KL(pi(.given s), pi_ref(.given s)), by the gradient core with d held."""
    return grad(lambda z: np.sum(mu[:, None] * d_pi * kl(log_softmax(z), log_pi_ref)))(logits)


claim(
    slug="token-vs-sequence",
    chapter=8,
    text=r"""
    \mathbb{E}_p\Big[\sum_t (e^{-L_t} - 1 + L_t)\Big] = \mathrm{KL}(p, p_{ref}) = \sum_s d_\pi(s)\, \mathrm{KL}(\pi(\cdot \mid s),
        \pi_{ref}(\cdot \mid s)), \quad L_t = \log\frac{\pi(a_t \mid s_t)}{\pi_{ref}(a_t \mid s_t)}
      slip d_ref for d_pi
      not \mathbb{E}_p[\sum_t (e^{-L_t} - 1 + L_t)/|y|]  # mean over tokens where the sum was due
      not \mathbb{E}_p[\sum_t L_t^2/2]  # k2 for k3
    \mathbb{E}\Big[\nabla \sum_t L_t^2/2\Big] = \mathbb{E}_{x \sim \mu}\Big[\sum_s d_\pi(s)\, \nabla \mathrm{KL}(\pi(\cdot \mid s),
        \pi_{ref}(\cdot \mid s))\Big]
        # which is not the gradient of KL(p, p_ref): the visits d are held
      slip nabla taken out of the sum; d_pi(s) dropped
    """,
    source="Tang and Munos (2025), arXiv:2506.09477; Cover and Thomas (2006), theorem 2.5.3 (the chain rule).",
    parts=("mean of the tokens' k3", "gradient of the tokens' k2"),
    sides={
        "closed form": (1, lambda mu, d_pi, pi, L_s: centre(pi, mu[:, None, None] * d_pi[..., None] * pi * L_s)),
        "over trajectories": lambda world, log_p, log_pi: (
            expect(log_p, table(Flag("k3", "loss", "token"), world, log_pi)),
            exact_gradient(Flag("k2", "loss", "token"), world, log_pi),
        ),
        "over states": (2, frozen_visits),
    },
    sampled=Sampled("log_p", lambda mdp, L_s: mdp.path_sum(K3(L_s)), lambda mu, KL: np.sum(mu * KL)),
    scale=lambda log_p, L, L_s, log_pi: (
        term_scale(log_p, L)[0] + float(np.max(L_s.shape[1] * expect(log_pi, 1.0 + np.abs(L_s) + np.exp(-L_s)))),
        term_scale(log_p, L)[0],
    ),
    largest=SMALL,
)

# ---------------------------------------------------------------------------------------------------- rao-blackwell


def gain_over_trajectories(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    log_p, full = mdp.path_sum(log_pi), full_table(mdp, log_pi, log_pi_ref)
    return variance(log_p, mdp.path_sum(log_ratio(log_pi, log_pi_ref))) - variance(log_p, full)


def gain_over_states(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    """sum_s d(s) E_a[m (m + 2 W(s + a))], m = L - KL(s), with W the KL still to come: a backward sweep."""
    L, here = log_ratio(log_pi, log_pi_ref), kl(log_pi, log_pi_ref)
    levels = [np.exp(x) for x in mdp.levels(log_pi)]
    cost = mdp.levels(L)
    ahead = mdp.backup(np.zeros((mdp.P, mdp.N)), lambda h, Q: np.sum(levels[h] * (Q + cost[h]), axis=1))[1]
    m = np.where(np.isneginf(log_pi), 0.0, L - here[..., None])
    return np.sum(np.exp(mdp.prefix_sum(log_pi)) * np.sum(np.exp(log_pi) * m * (m + 2.0 * ahead), axis=-1), axis=1)


def by_flags_of_tokens(world: Any, mdp: Any, log_p: Any, log_pi: Any, log_pi_ref: Any, log_pi_cut: Any) -> Any:
    k1, full = (table(flag, world, log_pi) for flag in (Flag("k1", "loss"), Flag("full", "loss", "token")))
    gained = variance(log_p, k1) - variance(log_p, full)
    return expect(log_p, full), variance(log_p, k1 - full), gained, gain_over_trajectories(mdp, log_pi_cut, log_pi_ref)


claim(
    slug="rao-blackwell",
    chapter=8,
    text=r"""
    let p_S = p_cut; pi_S = pi_cut
    \mathbb{E}_p\Big[\sum_t \mathrm{KL}(s_t)\Big] = \mathrm{KL}(p, p_{ref}) = \sum_s d_\pi(s)\, \mathrm{KL}(s)
      slip d_pi(s) dropped
      not \mathbb{E}_p[\sum_t \mathrm{KL}(\pi_{ref}(\cdot \mid s_t), \pi(\cdot \mid s_t))]  # forward for reverse KL
    \mathrm{Var}_p\Big(k_1 - \sum_t \mathrm{KL}(s_t)\Big) = \sum_s d_\pi(s)\, \mathrm{Var}_a(L(s, a)), \quad L(s, a) = \log\frac{\pi(a \mid
        s)}{\pi_{ref}(a \mid s)}
      slip d_ref for d_pi
    \mathrm{Var}_p(k_1) - \mathrm{Var}_p\Big(\sum_t \mathrm{KL}(s_t)\Big) = \sum_s d_\pi(s)\, [\mathrm{Var}_a(L(s, a)) + 2\,
        \mathrm{Cov}_a(L(s, a), W(s, a))], \quad W(s, a) = \mathbb{E}_p[k_1 \mid s, a] - \log\frac{p(s + a)}{p_{ref}(s + a)}
      slip the term 2*Cov_{a}[L(s, a), W(s, a)] dropped
    \mathrm{Var}_{p_S}\Big(\log\frac{p_S}{p_{ref}}\Big) - \mathrm{Var}_{p_S}(K) = -\mathrm{Var}_{p_S}(K), \quad K = \sum_t
        \mathrm{KL}(\pi_S(\cdot \mid s_t), \pi_{ref}(\cdot \mid s_t))
        # W is the KL still to come; p_S is p_ref cut to a set of responses
      not \max(0, -\mathrm{Var}_{p_S}(K))  # never more variance than k1
    """,
    source=AMINI,
    note=(
        "AGAINST THE LITERATURE: the paper's theorem, that this estimator never has more variance than k1, is false.  With p uniform "
        "on three of the four leaves of a uniform p_ref k1 has the variance 0 and the sum of exact KLs (2/9) log^2 2 = 0.107; with "
        "full support, .333 .333 .333 .001, 0.034 against 0.101.  True of each single step, not of their sum: the covariance of W "
        "with L may be negative.  (The sum of the states' KLs is no conditional mean of k1.)"
    ),
    parts=("mean", "variance of k1 - full", "variance gained", "variance gained on p_ref cut to a set"),
    sides={
        "over trajectories": 0,
        "over states": (1, 1, gain_over_states, lambda mdp, log_pi_cut, log_pi_ref: gain_over_states(mdp, log_pi_cut, log_pi_ref)),
        "the registry's record": by_flags_of_tokens,
    },
    sampled=Sampled("log_p", lambda mdp, log_pi, log_pi_ref: full_table(mdp, log_pi, log_pi_ref), lambda mu, KL: np.sum(mu * KL)),
    scale=lambda log_p, L, mdp, log_pi, log_pi_ref, log_pi_cut: (
        term_scale(log_p, L)[0],
        *(gain_scale(mdp, log_pi, log_pi_ref),) * 2,
        gain_scale(mdp, log_pi_cut, log_pi_ref),
    ),
    largest=SMALL,
)

# ---------------------------------------------------------------------------------------------------- importance-ratio


def off_policy(flag: Flag) -> Any:
    """The flag's expected update on samples of pi'."""
    return lambda world, log_pi, log_pi_2: exact_gradient(flag, world, log_pi, log_pi_2)


BY_DECISION = Flag("k1", "ratio", "token", ratio="decision")

claim(
    slug="importance-ratio",
    chapter=8,
    text=r"""
    let p_old = p_2; pi_old = pi_2
    \mathrm{KL}(p, p_{ref}) = \mathbb{E}_{p_{old}}\Big[\frac{p}{p_{old}} k_1\Big]
      slip p/p_old dropped; p/p_old inverted
    \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})] = \mathbb{E}_{x \sim \mu, y \sim p_{old}}\Big[\frac{p}{p_{old}}\, k_1\,
        \mathrm{score}\Big]
      slip sign flipped
      not \mathbb{E}_{x \sim \mu, y \sim p_{old}}[\frac{p}{p_{old}} \nabla k_1]  # ratio held
    \nabla\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p_{ref})] = \mathbb{E}_{x \sim \mu, y \sim p_{old}}\Big[\sum_t \frac{p(s_t +
        a_t)}{p_{old}(s_t + a_t)} \log\frac{\pi(a_t \mid s_t)}{\pi_{ref}(a_t \mid s_t)} \nabla \log p(s_t + a_t)\Big]
        # a token's ratio p(s + a)/p_old(s + a) is the product of the ratios up to it, per decision
      not \mathbb{E}_{x \sim \mu, y \sim p_{old}}[\sum_t \frac{\pi(a_t \mid s_t)}{\pi_{old}(a_t \mid s_t)} \log\frac{\pi(a_t \mid
        s_t)}{\pi_{ref}(a_t \mid s_t)} \nabla \log \pi(a_t \mid s_t)]
        # per-token ratios
    """,
    source="Precup, Sutton and Singh (2000) (per decision); Tang and Munos (2025), arXiv:2506.09477.",
    parts=("mean", "gradient, whole ratios", "gradient, per decision"),
    sides={
        "KL, and its gradient": 0,
        "scores": ("KL", *(lambda world, log_pi: score_gradient(Flag("k1", "reward"), world, log_pi),) * 2),
        "on samples of pi'": lambda world, log_pi, log_pi_2, log_p_2: (
            expect(log_p_2, table(Flag("k1", "ratio"), world, log_pi, log_pi_2)),
            off_policy(Flag("k1", "ratio"))(world, log_pi, log_pi_2),
            off_policy(BY_DECISION)(world, log_pi, log_pi_2),
        ),
    },
    sampled=Sampled("log_p_2", lambda log_p, log_p_2, L: np.exp(log_ratio(log_p, log_p_2)) * L, lambda mu, KL: np.sum(mu * KL)),
    scale=lambda log_p, log_p_2, L: term_scale(log_p, L)[0] * (1.0 + float(np.max(expect(log_p, np.abs(log_ratio(log_p, log_p_2)))))),
    largest=SMALL,
)
