"""Exercises of the last lesson, end to end: counts to a reward, a reward to a policy, its regret, its illusions, and an estimate of J."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import GIBBS, exercise
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


exercise(
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
    where=lambda N: N > 1,
    error=1e-4,
)

# ---------------------------------------------------------------------------------------------------- shipped-policy

TRAINED = {"q": "p_ref*exp(r_hat/beta)/sum_tau p_ref*exp(r_hat/beta)"}
HACKED = {"q": "p_ref*exp(proxy/beta)/sum_tau p_ref*exp(proxy/beta)"}
"""The optimum of the fitted reward, and that of the proxy."""
SCORED = "`scores` is a fitted reward $\\hat r$, of shape `(P, N)`. "


exercise(
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
    given=("mdp", "p_ref", "scores", "beta"),
    minutes=15,
    text=r"""
    \frac{\sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{\hat r(\tau)/\beta}}{\sum_{\tau \ni s} p_{ref}(\tau)\, e^{\hat r(\tau)/\beta}}
      not \frac{\sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{\hat r(\tau)}}{\sum_{\tau \ni s} p_{ref}(\tau)\, e^{\hat r(\tau)}}  # beta dropped
      not \frac{\sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{\beta \hat r(\tau)}}{\sum_{\tau \ni s} p_{ref}(\tau)\, e^{\beta \hat r(\tau)}}
        # beta for 1/beta
      not \frac{\sum_{\tau \ni s + a} e^{\hat r(\tau)/\beta}}{\sum_{\tau \ni s} e^{\hat r(\tau)/\beta}}  # p_ref omitted
      not \frac{\sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{-\hat r(\tau)/\beta}}{\sum_{\tau \ni s} p_{ref}(\tau)\, e^{-\hat r(\tau)/\beta}}
        # sign flipped
      not \frac{p^*(s + a)}{p^*(s)}  # r for r^: the optimum of the true reward
      not \frac{\sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{\hat r(\tau)/\beta}}{\sum_\tau p_{ref}(\tau)\, e^{\hat r(\tau)/\beta}}
        # unconditional for conditional probabilities: p(s + a)
      not \sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{\hat r(\tau)/\beta}  # log Z and the mass of s omitted: not normalized
      not \frac{\sum_{\tau \ni s + a} p(\tau)\, e^{\hat r(\tau)/\beta}}{\sum_{\tau \ni s} p(\tau)\, e^{\hat r(\tau)/\beta}}  # p for p_ref
    """,
)

# ---------------------------------------------------------------------------------------------------- training-regret


exercise(
    slug="training-regret",
    chapter=4,
    notebook="10",
    title="What the fit has cost",
    statement=(
        SCORED + "We trained $\\hat p \\propto p_{ref}\\, e^{\\hat r/\\beta}$, normalized for each prompt; the best policy for the true "
        "reward `r` is $p^*$. Return the regret of $\\hat p$ under the true reward, $\\max J - J(\\hat p)$ with "
        "$J(p) = \\mathbb{E}_{x \\sim \\mu} [\\mathbb{E}_p[r] - \\beta\\,\\mathrm{KL}(p, p_{ref})]$: a scalar, reward units. "
        "(`log_p_ref` and `r` have shape `(P, N)`, `mu` has shape `(P,)`.)"
    ),
    hint="The exercise `regret` of lesson 04, at another policy, averaged over prompts.",
    rows=("regret-is-kl",),
    forbidden="refused",
    letters={**GIBBS, **TRAINED},
    given=("mu", "beta", "log_p_ref", "scores", "log_p_star"),
    minutes=15,
    scale=lambda r, scores, beta: 1.0 + np.max(np.abs(r)) + np.max(np.abs(scores)) + beta,
    text=r"""
    \beta\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(q, p^*)]
      slip beta dropped; sign flipped
      not \beta\, \mathbb{E}_{x \sim \mu}[\sum_y gibbs(\hat r)\, \log\frac{gibbs(\hat r)}{p^*}]  # beta dropped in the tilt
      not \beta\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p^*, q)]  # forward for reverse KL: the regret of p* under the fitted reward
      not \mathbb{E}_{x \sim \mu}[\mathbb{E}_{p^*}[r] - \mathbb{E}_q[r]]  # the KL penalty omitted: rewards compared
      not \beta\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p, p^*)]  # the regret of another policy: p
      not \beta\, \mathbb{E}_{x \sim \mu}[\mathrm{KL}(q, p_{ref})]  # KL to p_ref for KL to p*
    """,
)

# ---------------------------------------------------------------------------------------------------- illusory-gain


exercise(
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
    letters={**GIBBS, **HACKED},
    given=("log_p_ref", "proxy", "r", "beta"),
    scale=lambda r, proxy: 1.0 + np.max(np.abs(r)) + np.max(np.abs(proxy)),
    text=r"""
    \mathbb{E}_q[r' - r] - \mathbb{E}_{p_{ref}}[r' - r]
      not \mathbb{E}_q[r - r'] - \mathbb{E}_{p_{ref}}[r - r']  # sign flipped
      not \mathbb{E}_q[r' - r]  # the start forgotten: E_ref not subtracted
      not \mathbb{E}_q[r'] - \mathbb{E}_{p_{ref}}[r']  # the rise of the proxy alone
      not \mathbb{E}_q[r] - \mathbb{E}_{p_{ref}}[r]  # the rise of the true reward alone
      not \mathbb{E}_{p^*}[r' - r] - \mathbb{E}_{p_{ref}}[r' - r]  # the optimum of r for that of the proxy
      not \sum_y (gibbs(r') - p_{ref}) (r' - r)  # beta dropped
      not \sum_y (gibbs(\beta r') - p_{ref}) (r' - r)  # beta for 1/beta
      not \frac{\sum_y e^{r'/\beta} (r' - r)}{\sum_y e^{r'/\beta}} - \mathbb{E}_{p_{ref}}[r' - r]
        # p_ref omitted: softmax of the proxy alone
    """,
)

# ---------------------------------------------------------------------------------------------------- estimated-objective


exercise(
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
    given=("r_drawn", "log_ratio", "beta"),
    misses={
        "+ KL for - KL in the objective": (r"\mathrm{mean}(R + \beta L)", r"\frac{\mathrm{std}(R + \beta L)}{\sqrt{n - 1}}"),
        "beta dropped": (r"\mathrm{mean}(R - L)", r"\frac{\mathrm{std}(R - L)}{\sqrt{n - 1}}"),
        "1/beta for beta": (r"\mathrm{mean}(R - \frac{L}{\beta})", r"\frac{\mathrm{std}(R - \frac{L}{\beta})}{\sqrt{n - 1}}"),
        "the KL penalty omitted": (r"\mathrm{mean}(R)", r"\frac{\mathrm{std}(R)}{\sqrt{n - 1}}"),
        "n for n - 1 in the variance": (0, r"\frac{\mathrm{std}(R - \beta L)}{\sqrt{n}}"),
        "standard deviation for standard error": (0, r"\sqrt{n}\, \frac{\mathrm{std}(R - \beta L)}{\sqrt{n - 1}}"),
        "variance for standard deviation": (0, r"\frac{\mathrm{std}(R - \beta L)^2}{n - 1}"),
        "sum where the mean was due": (r"\sum_{draw} (R - \beta L)", 0),
        "the log omitted: p/p_ref for its logarithm": (
            r"\mathrm{mean}(R - \beta e^L)",
            r"\frac{\mathrm{std}(R - \beta e^L)}{\sqrt{n - 1}}",
        ),
    },
    text=r"""
    let R = r_drawn; L = log_ratio; n = observed
    \mathrm{mean}(R - \beta L)
    \frac{\mathrm{std}(R - \beta L)}{\sqrt{n - 1}}
    """,
)
