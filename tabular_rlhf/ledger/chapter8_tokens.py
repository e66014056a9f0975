r"""Chapter 8, continued: KL estimators token by token, the exact KL of every state, and other people's samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.estimators import Flag, exact_gradient, score_gradient, table
from tabular_rlhf.estimators.evaluate import centre
from tabular_rlhf.ledger.chapter8 import K2, K3, SMALL, term_scale, variance
from tabular_rlhf.ledger.record import Miss, Row, Sampled, add
from tabular_rlhf.logspace import expect, kl, log_ratio, log_softmax

# ---------------------------------------------------------------------------------------------------- token-vs-sequence


def frozen_visits(mu: Any, d_pi: Any, log_pi_ref: Any, logits: Any) -> Any:
    """grad of sum_s d_0(s) KL(pi(.given s), pi_ref(.given s)), by the gradient core with d held."""
    return grad(lambda z: np.sum(mu[:, None] * d_pi * kl(log_softmax(z), log_pi_ref)))(logits)


def kl_gradient(world: Any, logits: Any) -> Any:
    """grad KL(p_pi, p_ref) by the gradient core."""
    return grad(lambda z: np.sum(world.mu * kl(world.mdp.path_sum(log_softmax(z)), world.log_p_ref)))(logits)


add(
    Row(
        slug="token-vs-sequence",
        chapter=8,
        statement=(
            r"\mathbb{E}\Big[\sum_t k_3(L_t)\Big] = \mathrm{KL}(p_\pi, p_{ref}), \qquad "
            r"\mathbb{E}\Big[\nabla \sum_t L_t^2/2\Big] = \sum_s d_\pi(s)\, \nabla \mathrm{KL}(\pi(\cdot \mid s), \pi_{ref}(\cdot \mid s)) "
            r"\ne \nabla \mathrm{KL}(p_\pi, p_{ref})"
        ),
        source="Tang and Munos (2025), arXiv:2506.09477; Cover and Thomas (2006), theorem 2.5.3 (the chain rule).",
        parts=("mean of the tokens' k3", "gradient of the tokens' k2"),
        sides={
            "closed form": lambda KL, mu, d_pi, pi, L_s: (KL, centre(pi, mu[:, None, None] * d_pi[..., None] * pi * L_s)),
            "over trajectories": lambda world, mu, log_p, log_pi: (
                expect(log_p, table(Flag("k3", "loss", "token"), world, log_pi)),
                exact_gradient(Flag("k2", "loss", "token"), world, log_pi),
            ),
            "over states": lambda mu, d_pi, log_pi, L_s, log_pi_ref, logits: (
                np.sum(d_pi * expect(log_pi, K3(L_s)), axis=1),
                frozen_visits(mu, d_pi, log_pi_ref, logits),
            ),
        },
        misses={
            "mean over tokens where the sum was due": lambda log_p, mdp, L_s, lengths: expect(log_p, mdp.path_sum(K3(L_s)) / lengths),
            "k2 for k3": lambda log_p, mdp, L_s: expect(log_p, mdp.path_sum(K2(L_s))),
            "d_ref for d_pi": lambda d_ref, log_pi, L_s: np.sum(d_ref * expect(log_pi, K3(L_s)), axis=1),
            "the gradient of the sequence KL": Miss("the gradient of the sequence KL", kl_gradient, 1),
            "visits forgotten": Miss("visits forgotten", lambda mu, pi, L_s: centre(pi, mu[:, None, None] * pi * L_s), 1),
        },
        sampled=Sampled("log_p", lambda mdp, L_s: mdp.path_sum(K3(L_s)), lambda mu, KL: np.sum(mu * KL)),
        scale=lambda log_p, L, L_s, log_pi: (
            term_scale(log_p, L)[0] + float(np.max(L_s.shape[1] * expect(log_pi, 1.0 + np.abs(L_s) + np.exp(-L_s)))),
            term_scale(log_p, L)[0],
        ),
        largest=SMALL,
    )
)

# ---------------------------------------------------------------------------------------------------- rao-blackwell

AMINI = "Amini et al. (2025), arXiv:2504.10637 (the estimator; its bound on the variance is refuted here)."


def full_table(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    """sum over the states of a response of the exact KL there, (P, N)."""
    return mdp.path_sum(np.expand_dims(kl(log_pi, log_pi_ref), -1) + np.zeros(log_pi.shape))


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


def gain_scale(mdp: Any, log_pi: Any, log_pi_ref: Any) -> float:
    """The size of the squares of which the variances are made."""
    size = 1.0 + mdp.path_sum(np.abs(log_ratio(log_pi, log_pi_ref))) + full_table(mdp, log_pi, log_pi_ref)
    return float(np.max(expect(mdp.path_sum(log_pi), np.square(size))))


add(
    Row(
        slug="rao-blackwell",
        chapter=8,
        statement=(
            r"\mathbb{E}\Big[\sum_t \mathrm{KL}(s_t)\Big] = \mathrm{KL}(p_\pi, p_{ref}), \qquad "
            r"\mathrm{Var}(k_1) - \mathrm{Var}\Big(\sum_t \mathrm{KL}(s_t)\Big) = "
            r"\sum_s d_\pi(s)\, \big[\mathrm{Var}_a(L) + 2\, \mathrm{Cov}_a(L, W(s + a))\big]"
        ),
        source=AMINI,
        note=(
            "AGAINST THE LITERATURE: the paper's theorem, that this estimator never has more variance than k1, is false.  With p uniform "
            "on three of the four leaves of a uniform p_ref k1 has the variance 0 and the sum of exact KLs (2/9) log^2 2 = 0.107; with "
            "full support, .333 .333 .333 .001, 0.034 against 0.101.  True of each single step, not of their sum: W is the KL still to "
            "come, and its covariance with L may be negative.  (The sum of the states' KLs is no conditional mean of k1.)"
        ),
        parts=("mean", "variance of k1 - full", "variance gained", "variance gained on p_ref cut to a set"),
        sides={
            "over trajectories": lambda mdp, log_p, log_pi, log_pi_ref, log_pi_cut: (
                expect(log_p, full_table(mdp, log_pi, log_pi_ref)),
                variance(log_p, mdp.path_sum(log_ratio(log_pi, log_pi_ref)) - full_table(mdp, log_pi, log_pi_ref)),
                gain_over_trajectories(mdp, log_pi, log_pi_ref),
                gain_over_trajectories(mdp, log_pi_cut, log_pi_ref),
            ),
            "over states": lambda KL, mdp, d_pi, log_pi, L_s, log_pi_ref, log_pi_cut: (
                KL,
                np.sum(d_pi * variance(log_pi, L_s), axis=1),
                gain_over_states(mdp, log_pi, log_pi_ref),
                -variance(mdp.path_sum(log_pi_cut), full_table(mdp, log_pi_cut, log_pi_ref)),
            ),
            "the registry's record": lambda world, mdp, log_p, log_pi, log_pi_ref, log_pi_cut: (
                expect(log_p, table(Flag("full", "loss", "token"), world, log_pi)),
                variance(log_p, table(Flag("k1", "loss"), world, log_pi) - table(Flag("full", "loss", "token"), world, log_pi)),
                variance(log_p, table(Flag("k1", "loss"), world, log_pi))
                - variance(log_p, table(Flag("full", "loss", "token"), world, log_pi)),
                gain_over_states(mdp, log_pi_cut, log_pi_ref),
            ),
        },
        misses={
            "never more variance than k1": Miss(
                "never more variance than k1",
                lambda mdp, log_pi_cut, log_pi_ref: np.maximum(0.0, gain_over_trajectories(mdp, log_pi_cut, log_pi_ref)),
                3,
            ),
            "variances of the tokens added": Miss(
                "variances of the tokens added", lambda d_pi, log_pi, L_s: np.sum(d_pi * variance(log_pi, L_s), axis=1), 2
            ),
            "d_ref for d_pi": Miss("d_ref for d_pi", lambda d_ref, log_pi, L_s: np.sum(d_ref * variance(log_pi, L_s), axis=1), 1),
            "visits forgotten": lambda KL_s: np.sum(KL_s, axis=1),
            "forward for reverse KL": lambda mdp, log_p, log_pi, log_pi_ref: expect(log_p, full_table(mdp, log_pi_ref, log_pi)),
        },
        sampled=Sampled("log_p", lambda mdp, log_pi, log_pi_ref: full_table(mdp, log_pi, log_pi_ref), lambda mu, KL: np.sum(mu * KL)),
        scale=lambda log_p, L, mdp, log_pi, log_pi_ref, log_pi_cut: (
            term_scale(log_p, L)[0],
            *(gain_scale(mdp, log_pi, log_pi_ref),) * 2,
            gain_scale(mdp, log_pi_cut, log_pi_ref),
        ),
        largest=SMALL,
    )
)

# ---------------------------------------------------------------------------------------------------- importance-ratio


def off_policy(flag: Flag) -> Any:
    """The flag's expected update on samples of pi'."""
    return lambda world, log_pi, log_pi_2: exact_gradient(flag, world, log_pi, log_pi_2)


BY_DECISION = Flag("k1", "ratio", "token", ratio="decision")

add(
    Row(
        slug="importance-ratio",
        chapter=8,
        statement=(
            r"\mathbb{E}_{old}\Big[\frac{p_\pi}{p_{old}} L\Big] = \mathrm{KL}(p_\pi, p_{ref}), \qquad "
            r"\nabla \mathrm{KL} = \mathbb{E}_{old}\Big[\frac{p_\pi}{p_{old}}\, L\, score\Big] = "
            r"\mathbb{E}_{old}\Big[\sum_s \Big(\prod_{t \le s} \rho_t\Big) L_s \sum_{t \le s} score_t\Big]"
        ),
        source="Precup, Sutton and Singh (2000) (per decision); Tang and Munos (2025), arXiv:2506.09477.",
        parts=("mean", "gradient, whole ratios", "gradient, per decision"),
        sides={
            "closed form": lambda world, KL, log_pi: (KL, *(score_gradient(Flag("k1", "reward"), world, log_pi),) * 2),
            "on samples of pi'": lambda world, log_pi, log_pi_2, log_p_2: (
                expect(log_p_2, table(Flag("k1", "ratio"), world, log_pi, log_pi_2)),
                off_policy(Flag("k1", "ratio"))(world, log_pi, log_pi_2),
                off_policy(BY_DECISION)(world, log_pi, log_pi_2),
            ),
            "gradient core": lambda world, log_p_2, log_p, L, logits: (
                expect(log_p_2, np.exp(log_ratio(log_p, log_p_2)) * L),
                *(kl_gradient(world, logits),) * 2,
            ),
        },
        misses={
            "no ratio": lambda log_p_2, L: expect(log_p_2, L),
            "ratio upside down": lambda log_p_2, log_p, L: expect(log_p_2, np.exp(log_ratio(log_p_2, log_p)) * L),
            "ratio held": Miss("ratio held", off_policy(Flag("k1", "loss")), 1),
            "per-token ratios": Miss("per-token ratios", off_policy(Flag("k1", "ratio", "token", ratio="token")), 2),
            "sign flipped": Miss("sign flipped", lambda world, logits: -kl_gradient(world, logits), 1),
        },
        sampled=Sampled("log_p_2", lambda log_p, log_p_2, L: np.exp(log_ratio(log_p, log_p_2)) * L, lambda mu, KL: np.sum(mu * KL)),
        scale=lambda log_p, log_p_2, L: term_scale(log_p, L)[0] * (1.0 + float(np.max(expect(log_p, np.abs(log_ratio(log_p, log_p_2)))))),
        largest=SMALL,
    )
)
