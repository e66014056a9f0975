"""Exercises of the last lesson, end to end: counts to a reward, a reward to a policy, its regret, its illusions, and an estimate of J."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import expect, kl
from tabular_rlhf.terms.comparisons import score

# ---------------------------------------------------------------------------------------------------- fitted-reward


def fit(wins: Any) -> Any:
    """The likeliest Bradley-Terry rewards, by Newton's method with steps that no pair feels by much more than a nat."""
    won = wins * (1.0 - np.eye(wins.shape[1]))
    met, r = won + np.swapaxes(won, 1, 2), np.zeros(wins.shape[:2])
    for _ in range(50):
        P = 1.0 / (1.0 + np.exp(r[:, None, :] - r[:, :, None]))
        weight = met * P * (1.0 - P)
        laplacian = np.eye(wins.shape[1]) * np.sum(weight, axis=2)[:, :, None] - weight
        step = np.einsum("xij,xj->xi", np.linalg.pinv(laplacian, hermitian=True), np.sum(won - met * P, axis=2))
        r = r + step / np.maximum(1.0, np.max(np.abs(step), axis=1, keepdims=True))
        if np.max(np.abs(step)) < 1e-10:
            break
    return r


def shares(wins: Any) -> Any:
    """The share of its comparisons that each response won."""
    wins = wins * (1.0 - np.eye(wins.shape[1]))
    return np.sum(wins, axis=2) / np.maximum(np.sum(wins + np.swapaxes(wins, 1, 2), axis=2), 1.0)


def at_zero(wins: Any) -> Any:
    """Wins less losses, halved: the slope of the log-likelihood where all rewards are equal."""
    return -score(np.zeros(wins.shape[:2]), wins + np.swapaxes(wins, 1, 2), wins)


add(
    Exercise(
        slug="fitted-reward",
        chapter=3,
        notebook="10",
        title="Learn the reward",
        statement=(
            "`wins_ring[x, i, j]` is how often response $i$ to prompt $x$ beat $j$, of shape `(P, N, N)`; there is a chain of wins from "
            "every response to every other, so that the fit exists. (What stands on the diagonal tells nothing.) Return the rewards "
            "$\\hat r$ that make these counts likeliest under Bradley-Terry, $P(i \\text{ beats } j) = \\sigma(\\hat r_i - \\hat r_j)$: "
            "shape `(P, N)`, nats, to four decimals. (A constant for each prompt is free.)"
        ),
        hint="At the fit every response has as many wins as the model expects of it: solve this score equation by Newton's method.",
        rows=("bt-score-hessian", "bt-existence"),
        answer=lambda wins_ring: fit(wins_ring),
        free="constant per prompt",
        minutes=25,
        largest=40,
        without=("scores_ring",),
        misses={
            "winner and loser swapped": lambda wins_ring: -fit(wins_ring),
            "the share of wins for the reward": lambda wins_ring: shares(wins_ring),
            "the log odds of its share of wins for the reward": lambda wins_ring: np.log(shares(wins_ring) / (1.0 - shares(wins_ring))),
            "wins less losses: one step of the gradient": lambda wins_ring: at_zero(wins_ring),
            "halved: a factor 1/2 too many": lambda wins_ring: 0.5 * fit(wins_ring),
            "exponentiated: odds for their logarithm": lambda wins_ring: np.exp(fit(wins_ring)),
            "log base 2": lambda wins_ring: fit(wins_ring) / np.log(2.0),
            "beta times too much: an implicit reward": lambda wins_ring, beta: beta * fit(wins_ring),
        },
        where=lambda N: N > 1,  # one response is compared with nobody: 0/0 in the iterations that readers write
        error=1e-4,  # "to four decimals": where common optimizers stop
    )
)

# ---------------------------------------------------------------------------------------------------- shipped-policy

SCORED = "`scores` is a fitted reward $\\hat r$, of shape `(P, N)`. "


def by_tokens(mdp: Any, weight: Any) -> Any:
    """Conditional probabilities of tokens from weights of responses."""
    mass = mdp.subtree_sum(weight)
    return mass / np.sum(mass, axis=2, keepdims=True)


add(
    Exercise(
        slug="shipped-policy",
        chapter=6,
        notebook="10",
        title="From reward to policy",
        statement=(
            SCORED + "Return the policy, token by token, whose implicit reward $\\beta \\log(p/p_{ref})$ is $\\hat r$ up to a constant for "
            "each prompt (the one that DPO learns): $\\pi(a \\mid s)$, shape `(P, S, V)`, every row summing to one. (`p_ref` has shape "
            "`(P, N)`. `mdp.subtree_sum(x)` sums a table of shape `(P, N)` over the responses through each state and token.)"
        ),
        hint="Tilt p_ref by exp(scores/beta); the mass through s and a over the mass through s needs no log Z.",
        rows=("dpo-is-bt-mle", "policies-are-distributions"),
        forbidden="refused",
        answer=lambda mdp, p_ref, scores, beta: by_tokens(mdp, p_ref * np.exp(scores / beta)),
        minutes=15,
        misses={
            "beta dropped": lambda mdp, p_ref, scores: by_tokens(mdp, p_ref * np.exp(scores)),
            "beta for 1/beta": lambda mdp, p_ref, scores, beta: by_tokens(mdp, p_ref * np.exp(scores * beta)),
            "p_ref omitted": lambda mdp, scores, beta: by_tokens(mdp, np.exp(scores / beta)),
            "sign flipped": lambda mdp, p_ref, scores, beta: by_tokens(mdp, p_ref * np.exp(-scores / beta)),
            "r for r^: the optimum of the true reward": lambda mdp, p_star: by_tokens(mdp, p_star),
            "unconditional for conditional probabilities: p(s + a)": lambda mdp, log_p_ref, scores, beta: mdp.subtree_sum(
                np.exp(log_gibbs(log_p_ref, scores, beta))
            ),
            "log Z and the mass of s omitted: not normalized": lambda mdp, p_ref, scores, beta: mdp.subtree_sum(
                p_ref * np.exp(scores / beta)
            ),
            "p for p_ref": lambda mdp, p, scores, beta: by_tokens(mdp, p * np.exp(scores / beta)),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- training-regret


def regret(log_p: Any, log_p_star: Any, beta: float, mu: Any) -> Any:
    return beta * np.sum(mu * kl(log_p, log_p_star))


add(
    Exercise(
        slug="training-regret",
        chapter=4,
        notebook="10",
        title="What the fit has cost",
        statement=(
            SCORED
            + "We trained $\\hat p \\propto p_{ref}\\, e^{\\hat r/\\beta}$, normalized for each prompt; the best policy for the true "
            "reward `r` is $p^*$. Return the regret of $\\hat p$ under the true reward, $\\max J - J(\\hat p)$ with "
            "$J(p) = \\mathbb{E}_{x \\sim \\mu} [\\mathbb{E}_p[r] - \\beta\\,\\mathrm{KL}(p, p_{ref})]$: a scalar, reward units. "
            "(`log_p_ref` and `r` have shape `(P, N)`, `mu` has shape `(P,)`.)"
        ),
        hint="The exercise `regret` of lesson 04, at another policy, averaged over prompts.",
        rows=("regret-is-kl",),
        forbidden="refused",
        answer=lambda mu, beta, log_p_ref, scores, log_p_star: beta * np.sum(mu * kl(log_gibbs(log_p_ref, scores, beta), log_p_star)),
        minutes=15,
        misses={
            "beta dropped": lambda mu, beta, log_p_ref, scores, log_p_star: regret(log_gibbs(log_p_ref, scores, beta), log_p_star, 1.0, mu),
            "beta dropped in the tilt": lambda mu, beta, log_p_ref, scores, log_p_star: regret(
                log_gibbs(log_p_ref, scores, 1.0), log_p_star, beta, mu
            ),
            "forward for reverse KL: the regret of p* under the fitted reward": lambda mu, beta, log_p_ref, scores, log_p_star: regret(
                log_p_star, log_gibbs(log_p_ref, scores, beta), beta, mu
            ),
            "sign flipped": lambda mu, beta, log_p_ref, scores, log_p_star: (
                -regret(log_gibbs(log_p_ref, scores, beta), log_p_star, beta, mu)
            ),
            "the KL penalty omitted: rewards compared": lambda mu, beta, log_p_ref, scores, log_p_star, r: np.sum(
                mu * (expect(log_p_star, r) - expect(log_gibbs(log_p_ref, scores, beta), r))
            ),
            "the regret of another policy: p": lambda mu, beta, log_p, log_p_star: regret(log_p, log_p_star, beta, mu),
            "KL to p_ref for KL to p*": lambda mu, beta, log_p_ref, scores: regret(log_gibbs(log_p_ref, scores, beta), log_p_ref, beta, mu),
        },
        scale=lambda r, scores, beta: 1.0 + np.max(np.abs(r)) + np.max(np.abs(scores)) + beta,
    )
)

# ---------------------------------------------------------------------------------------------------- illusory-gain


def rise(log_p: Any, log_p_ref: Any, f: Any) -> Any:
    """E_p[f] - E_ref[f]."""
    return expect(log_p, f) - expect(log_p_ref, f)


add(
    Exercise(
        slug="illusory-gain",
        chapter=2,
        notebook="10",
        title="How much of the progress is real?",
        statement=(
            "We optimized a measured reward `proxy` with KL weight $\\beta$: the policy is now $p \\propto p_{ref}\\, e^{proxy/\\beta}$, "
            "normalized for each prompt. The proxy has risen from $\\mathbb{E}_{p_{ref}}[proxy]$ to $\\mathbb{E}_p[proxy]$; the "
            "true reward `r` has moved too. Return by how much the rise of the proxy exceeds that of the true reward, "
            "for each prompt: shape `(P,)`, reward units. (`log_p_ref`, `proxy` and `r` have shape `(P, N)`.)"
        ),
        hint="Two rises, each measured from the reference; their difference is the rise of proxy - r.",
        rows=("reward-hacking",),
        answer=lambda log_p_ref, proxy, r, beta: rise(log_gibbs(log_p_ref, proxy, beta), log_p_ref, proxy - r),
        misses={
            "sign flipped": lambda log_p_ref, proxy, r, beta: rise(log_gibbs(log_p_ref, proxy, beta), log_p_ref, r - proxy),
            "the start forgotten: E_ref not subtracted": lambda log_p_ref, proxy, r, beta: expect(
                log_gibbs(log_p_ref, proxy, beta), proxy - r
            ),
            "the rise of the proxy alone": lambda log_p_ref, proxy, beta: rise(log_gibbs(log_p_ref, proxy, beta), log_p_ref, proxy),
            "the rise of the true reward alone": lambda log_p_ref, proxy, r, beta: rise(log_gibbs(log_p_ref, proxy, beta), log_p_ref, r),
            "the optimum of r for that of the proxy": lambda log_p_ref, log_p_star, proxy, r: rise(log_p_star, log_p_ref, proxy - r),
            "beta dropped": lambda log_p_ref, proxy, r: rise(log_gibbs(log_p_ref, proxy, 1.0), log_p_ref, proxy - r),
            "beta for 1/beta": lambda log_p_ref, proxy, r, beta: rise(log_gibbs(log_p_ref, proxy, 1.0 / beta), log_p_ref, proxy - r),
            "p_ref omitted: softmax of the proxy alone": lambda log_p_ref, proxy, r, beta: rise(
                log_gibbs(0.0 * log_p_ref - np.log(r.shape[1]), proxy, beta), log_p_ref, proxy - r
            ),
        },
        scale=lambda r, proxy: 1.0 + np.max(np.abs(r)) + np.max(np.abs(proxy)),
    )
)

# ---------------------------------------------------------------------------------------------------- estimated-objective


def mean_and_error(g: Any, ddof: int = 1) -> Any:
    return np.array([np.mean(g), np.std(g, ddof=ddof) / np.sqrt(len(g))])


add(
    Exercise(
        slug="estimated-objective",
        chapter=7,
        notebook="10",
        title="Sampled against exact",
        statement=(
            "`r_drawn` holds the rewards of $n$ responses drawn from a policy $p$, `log_ratio` their $\\log (p/p_{ref})$, both of shape "
            "`(n,)`. Training code sees $g = r - \\beta \\log(p/p_{ref})$ of each draw. Return the estimate of "
            "$J = \\mathbb{E}_p[r] - \\beta\\,\\mathrm{KL}(p, p_{ref})$ that their mean makes, and its standard error, "
            "$\\sqrt{s^2/n}$ with $s^2 = \\frac{1}{n-1} \\sum_i (g_i - \\bar g)^2$: shape `(2,)`, reward units."
        ),
        hint="Make g first; then both numbers are statistics of one list.",
        rows=("kl-regularized-gradient", "k1"),
        answer=lambda r_drawn, log_ratio, beta: np.array(
            [np.mean(r_drawn - beta * log_ratio), np.std(r_drawn - beta * log_ratio, ddof=1) / np.sqrt(len(r_drawn))]
        ),
        misses={
            "+ KL for - KL in the objective": lambda r_drawn, log_ratio, beta: mean_and_error(r_drawn + beta * log_ratio),
            "beta dropped": lambda r_drawn, log_ratio: mean_and_error(r_drawn - log_ratio),
            "1/beta for beta": lambda r_drawn, log_ratio, beta: mean_and_error(r_drawn - log_ratio / beta),
            "the KL penalty omitted": lambda r_drawn: mean_and_error(r_drawn),
            "n for n - 1 in the variance": lambda r_drawn, log_ratio, beta: mean_and_error(r_drawn - beta * log_ratio, ddof=0),
            "standard deviation for standard error": lambda r_drawn, log_ratio, beta: (
                mean_and_error(r_drawn - beta * log_ratio) * np.array([1.0, np.sqrt(len(r_drawn))])
            ),
            "variance for standard deviation": lambda r_drawn, log_ratio, beta: np.array(
                [np.mean(r_drawn - beta * log_ratio), np.var(r_drawn - beta * log_ratio, ddof=1) / len(r_drawn)]
            ),
            "sum where the mean was due": lambda r_drawn, log_ratio, beta: (
                mean_and_error(r_drawn - beta * log_ratio) * np.array([len(r_drawn), 1.0])
            ),
            "the log omitted: p/p_ref for its logarithm": lambda r_drawn, log_ratio, beta: mean_and_error(
                r_drawn - beta * np.exp(log_ratio)
            ),
        },
    )
)
