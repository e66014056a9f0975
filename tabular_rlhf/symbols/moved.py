r"""Symbols of chapter 10: what group methods pull at, a sampler that is another one, truncation, a critic, people who are a mixture.

A *pull* is a number for each response, (P, N): the expected update is the sum of pull times score.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.logspace import expect, log_softmax
from tabular_rlhf.penalties import f_divergence_optimum
from tabular_rlhf.policy_gradient import estimates, mirror, stale
from tabular_rlhf.policy_gradient.bernstein import by_table, pull
from tabular_rlhf.preferences import pooled
from tabular_rlhf.symbols.table import symbol

# ---------------------------------------------------------------------------------------------------- groups

for _k in range(3):
    symbol(f"credit_{_k}", f"number {_k} of a table of advantages A(m) = c_0 + c_1 m + c_2 m^2", "scalar")(
        lambda rng: float(rng.choice([-2.0, -1.0, 0.5, 1.0, 1.5, 3.0]))
    )
symbol("tries", "k of pass@k: at most G", "int")(lambda G, rng: int(rng.integers(1, G + 1)))


@symbol("group_pull", "pull of groups with the table A(m) on 0/1 rewards", "(P, N)")
def _group_pull(p: Any, success: Any, G: int, credit_0: float, credit_1: float, credit_2: float) -> Any:
    return pull(p, success, G, by_table(lambda m: credit_0 + credit_1 * m + credit_2 * m**2))


def less_mean(x: Any) -> Any:
    """What a member has above the mean of its group; above that of the others it is G/(G - 1) times as much."""
    return x - np.mean(x, axis=1, keepdims=True)


symbol("rloo_pull", "pull of groups with the reward less the mean of the others", "(P, N)")(
    lambda p, r, G: pull(p, r, G, lambda x: less_mean(x) * G / (G - 1))
)
symbol("centered_pull", "pull of groups with the reward less the group's mean", "(P, N)")(lambda p, r, G: pull(p, r, G, less_mean))
symbol("grpo_pull", "pull of groups with the 0/1 reward less the group's mean, over its standard deviation", "(P, N)")(
    lambda p, success, G: pull(p, success, G, by_table(lambda m: np.sqrt((G - m) / m)))
)
for _name, _credit, _words in (
    ("raw", estimates.over_mean, "1/m for each of the m right responses, nothing where there is none"),
    ("kept", lambda x: estimates.over_mean(x) - 1.0, "the same, minus the mean score, in all groups"),
    (
        "dropped",
        lambda x: estimates.over_mean(x) - np.any(x > 0, axis=1, keepdims=True),
        "the same, minus the mean score, where there is a right response",
    ),
):
    symbol(f"maxrl_{_name}", f"pull of groups, MaxRL: {_words}", "(P, N)")(
        lambda p, success, G, credit=_credit: pull(p, success, G, credit)
    )
symbol("pass_pull", "pull of groups with a share of every k members that hold a right one", "(P, N)")(
    lambda p, success, G, tries: pull(p, success, G, lambda x: G * estimates.subset_shares(x, tries))
)
symbol("pass_centered_pull", "the same, less the group's mean share", "(P, N)")(
    lambda p, success, G, tries: pull(p, success, G, lambda x: G * less_mean(estimates.subset_shares(x, tries)))
)
symbol("redrawn_pull", "pull of RLOO groups, each redrawn for its prompt until it is mixed", "(P, N)")(
    lambda p, success, G: estimates.redrawn(p, success, G)
)
symbol("filled_pull", "pull of RLOO groups, silent ones replaced by groups of other prompts; weighted by the prompts", "(P, N)")(
    lambda mu, p, success, G: estimates.filled(mu, p, success, G)
)
symbol("surviving_pull", "pull of a batch of two RLOO groups, averaged over those that are mixed; weighted by the prompts", "(P, N)")(
    lambda mu, p, success, G: estimates.surviving(mu, p, success, G)
)

# ---------------------------------------------------------------------------------------------------- moved policies

symbol("cap", "what a ratio is truncated at", "scalar")(lambda rng: float(rng.choice([0.6, 0.9, 1.3, 1.7])))
symbol("lam", "lambda of GAE", "scalar")(lambda rng: float(rng.integers(0, 4)) / 4)


@symbol(
    "log_pi_sampler", "a sampler: pi at another temperature, in some states without its least likely token", "(P, S, V)", "log-probability"
)
def _log_pi_sampler(log_pi: Any, rng: Any) -> Any:
    hot = log_pi / rng.choice([0.5, 2.0])
    others = np.sum(~np.isneginf(hot), axis=-1, keepdims=True) > 1
    least = np.arange(hot.shape[-1]) == np.argmin(np.where(np.isneginf(hot), np.inf, hot), axis=-1)[..., None]
    return log_softmax(np.where(least & others & (rng.random((*hot.shape[:-1], 1)) < 0.5), -np.inf, hot))


symbol("log_p_sampler", "its trajectory distribution", "(P, N)", "log-probability")(
    lambda mdp, log_pi_sampler: mdp.path_sum(log_pi_sampler)
)
symbol("below", "how far a baseline lies below the mean reward", "scalar", "reward units")(
    lambda rng: float(rng.choice([0.25, 0.5, 1.0, 3.0]))
)
symbol("gain", "m (r - b), data from m = pi', b a baseline below its mean reward", "(P, N)", "reward units")(
    lambda log_p_2, r, below: np.exp(log_p_2) * (r - expect(log_p_2, r)[:, None] + below)
)
symbol("level", "kappa of that gain", "(P,)", "reward units")(lambda gain: stale.water_level(gain))


@symbol("p_limit", "where REINFORCE without ratios ends on these data", "(P, N)", "probability")
def _p_limit(gain: Any) -> Any:
    return np.array([stale.limit_by_supports(row) for row in gain])


# ---------------------------------------------------------------------------------------------------- a critic


def per_prompt(update: Any) -> Any:
    """An update of every prompt in the logits of all: (P, S, V) -> (P, P, S, V)."""
    return np.einsum("xsv,xy->xysv", update, np.eye(len(update)))


def state_values(mdp: Any, p: Any, r: Any) -> Any:
    """V_pi(s): the mean reward of the responses through a state; 0 where none comes."""
    mass = np.sum(mdp.subtree_sum(p), axis=-1)
    return np.sum(mdp.subtree_sum(p * r), axis=-1) / np.where(mass > 0, mass, 1.0)


symbol("gae_update", "the mean of sum_h A_h score_h, A of GAE with the critic V_pi + Phi", "(P, P, S, V)")(
    lambda mdp, p, pi, r, phi, lam: per_prompt(stale.pulled_tokens(stale.gae_pull(mdp, p, r, state_values(mdp, p, r) + phi, lam), pi))
)
symbol("gae_exact", "the same with the critic V_pi", "(P, P, S, V)")(
    lambda mdp, p, pi, r, lam: per_prompt(stale.pulled_tokens(stale.gae_pull(mdp, p, r, state_values(mdp, p, r), lam), pi))
)
symbol("critic_bias", "B(s, a), what the critic's error Phi does to the advantage of GAE", "(P, S, V)", "reward units")(
    lambda mdp, pi, phi, lam: stale.critic_bias(mdp, pi, phi, lam)
)

# ---------------------------------------------------------------------------------------------------- laws and people

symbol("balance_pull", "pull of groups with 2 (log(p/p_ref) - r/beta) less the group's mean", "(P, N)")(
    lambda p, r, beta, L, G: pull(p, 2.0 * (L - r / beta), G, less_mean)
)


@symbol("lam_pmd", "lambda of mirror descent with the mean reward as baseline", "(P,)")
def _lam_pmd(log_p_2: Any, r: Any, beta: float) -> Any:
    return mirror.multiplier(log_p_2, r / beta)


symbol("rho_pmd", "p/p_old of mirror descent with the mean reward as baseline", "(P, N)")(
    lambda log_p_2, r, beta, lam_pmd: mirror.ratio(log_p_2, r / beta, lam_pmd)
)
symbol("p_forward", "the law that E[r] less beta G/(G - 1) KL(p_ref, p) leads to", "(P, N)", "probability")(
    lambda log_p_ref, r, beta, G: np.exp(f_divergence_optimum(DIVERGENCES["forward-kl"], log_p_ref, r, beta * G / (G - 1)).log_p)
)
symbol("share_of_proxy", "share of people whose utility is the proxy", "scalar", "probability")(lambda rng: float(rng.integers(1, 4)) / 4)
symbol("pooled_scores", "Bradley-Terry scores of the pooled comparisons of these people", "(P, N)")(
    lambda r, proxy, share_of_proxy: pooled.bradley_terry(pooled.mixture(r, proxy, share_of_proxy))
)
symbol("centering", "weight c of the term (r_w + r_l)^2", "scalar")(lambda rng: float(rng.choice([0.01, 0.1, 1.0])))
symbol("centered_scores", "scores fitted to people who follow r, with that term", "(P, N)")(
    lambda P_beats, centering: pooled.bradley_terry(P_beats, centering)
)
symbol("tie_weight", "nu of Davidson's ties", "scalar")(lambda rng: float(rng.choice([0.5, 1.0, 2.0])))
symbol("tie_bar", "theta of Rao and Kupper's ties", "scalar")(lambda rng: float(rng.choice([1.5, 2.0, 4.0])))
symbol("push_down", "slope of p(y) as p(y') is pushed down in the logits of responses", "(P, N, N)")(
    lambda log_p: pooled.pushed_down(log_p)
)
