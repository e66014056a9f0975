r"""Chapter 7, one response at a time: the policy gradient and its baselines, the KL term, clipping, natural steps, ptx.

Gradients are in tabular logits, (P, S, V).  What the score-function side freezes it takes as a separate argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.ledger.record import Sampled, claim
from tabular_rlhf.logspace import expect, log_ratio
from tabular_rlhf.policy_gradient.groups import baselines
from tabular_rlhf.policy_gradient.updates import true_gradient
from tabular_rlhf.terms.policies import score_mean, values
from tabular_rlhf.terms.sizes import loudness
from tabular_rlhf.terms.sources import WILLIAMS


def by_states(mdp: Any, mu: Any, d: Any, log_pi: Any, leaf: Any, token: Any = None) -> Any:
    """sum over s of d(s) grad pi(a given s) Q(s, a): mu d pi (Q - V)."""
    V, Q = values(mdp, log_pi, leaf, token)
    return mu[:, None, None] * d[..., None] * np.exp(log_pi) * (Q - V[..., None])


def first_score(mdp: Any, log_pi: Any) -> Any:
    """The score of the first token 0 in the root's logits, of every response: (P, N)."""
    return (mdp.tokens()[:, 0] == 0) - np.exp(log_pi[:, :1, 0])


def root(gradient: Any) -> Any:
    """The component of a gradient that `first_score` makes, summed over prompts (each has its own root)."""
    return np.sum(gradient[:, 0, 0])


# ---------------------------------------------------------------------------------------------------- policy-gradient


claim(
    slug="policy-gradient",
    chapter=7,
    text=r"""
    \nabla\, \mathbb{E}[r] = \mathbb{E}[r\, \mathrm{score}] = \mathbb{E}_{x \sim \mu}\Big[\sum_s d_\pi(s) \sum_a \nabla \pi(a \mid s)\,
        Q^\pi(s, a)\Big]
        # the score is the gradient of log p, Q the mean of r from there on
      slip sign flipped; d_ref for d_pi; d_pi(s) dropped
      not \mathbb{E}_{x \sim \mu, y \sim p_{ref}}[r\, \mathrm{score}]  # responses drawn from p_ref
    """,
    source=WILLIAMS,
    sides={
        "over states": lambda mdp, mu, d_pi, log_pi, r: by_states(mdp, mu, d_pi, log_pi, r),
        "over responses": score_mean,
        "gradient core": 0,
        "one sweep": lambda world, log_pi: true_gradient(world, log_pi),
    },
    misses={
        "pi's gradient without its normalization": lambda mdp, mu, d_pi, log_pi, r: (
            mu[:, None, None] * d_pi[..., None] * np.exp(log_pi) * values(mdp, log_pi, r)[1]
        )
    },
    sampled=Sampled(
        "log_p",
        lambda mdp, log_pi, r: r * first_score(mdp, log_pi),
        lambda mdp, mu, d_pi, log_pi, r: root(by_states(mdp, mu, d_pi, log_pi, r)),
    ),
    scale=lambda r, H: (1.0 + np.max(np.abs(r))) * H,
)

# ---------------------------------------------------------------------------------------------------- zero-mean-score


def per_prompt(b_x: Any, r: Any) -> Any:
    """A baseline as a table: the same for every response of a prompt."""
    return b_x[:, None] + np.zeros_like(r)


def one_hot_score(mdp: Any, mu: Any, log_p: Any, b_x: Any) -> Any:
    """E[b score] with the score taken for the visited tokens themselves, the normalization of pi forgotten."""
    return mdp.subtree_sum((mu * b_x)[:, None] * np.exp(log_p))


claim(
    slug="zero-mean-score",
    chapter=7,
    text=r"""
    let b = b_x
    0 = \nabla \sum_x \mu(x)\, b(x) \sum_y p(y) = \mathbb{E}[b(x)\, \mathrm{score}]
      not \mathbb{E}_{x \sim \mu, y \sim p_{ref}}[b(x)\, \mathrm{score}]  # scores of pi, draws of p_ref
    \nabla\, \mathbb{E}[r] = \mathbb{E}[(r - b(x))\, \mathrm{score}]
        # p sums to one, whatever the logits; so any baseline that sees the prompt alone leaves the mean
      not \mathbb{E}[(r - f)\, \mathrm{score}]  # a baseline that looks at the response
    """,
    source=WILLIAMS,
    parts=("baseline", "with it"),
    sides={
        "closed form": (lambda logits: np.zeros_like(logits), 0),
        "score function": lambda mdp, mu, log_p, logits, r, b_x: (
            score_mean(mdp, mu, log_p, logits, per_prompt(b_x, r)),
            score_mean(mdp, mu, log_p, logits, r - per_prompt(b_x, r)),
        ),
        "p sums to one": (1, lambda world, log_pi, r, b_x: true_gradient(world, log_pi, r - per_prompt(b_x, r))),
    },
    misses={"normalization forgotten": one_hot_score},
    sampled=Sampled("log_p", lambda mdp, log_pi, b_x, r: per_prompt(b_x, r) * first_score(mdp, log_pi), lambda mu: 0.0 * np.sum(mu)),
    scale=lambda r, b_x, H: (1.0 + np.max(np.abs(r)) + np.max(np.abs(b_x))) * H,
)

# ---------------------------------------------------------------------------------------------------- reward-to-go


def earned_before(mdp: Any, r_token: Any) -> Any:
    """The sum of token rewards on the way to every state, (P, S, V), the same for all tokens there."""
    return np.broadcast_to(mdp.prefix_sum(r_token)[..., None], r_token.shape)


def squared_scores(log_pi: Any) -> Any:
    """|e_a - pi(s)|^2, (P, S, V)."""
    pi = np.exp(log_pi)
    return 1.0 - 2.0 * pi + np.sum(np.square(pi), axis=-1, keepdims=True)


def variance_saved(mdp: Any, log_p: Any, log_pi: Any, r_token: Any) -> Any:
    """E|update|^2 without reward-to-go less that with it: E sum_t |score_t|^2 (past^2 + 2 past future), for each prompt."""
    past, total, size = earned_before(mdp, r_token), mdp.path_sum(r_token), squared_scores(log_pi)
    return expect(log_p, 2.0 * total * mdp.path_sum(size * past) - mdp.path_sum(size * np.square(past)))


claim(
    slug="reward-to-go",
    chapter=7,
    text=r"""
    let g = r_token
    \mathbb{E}\Big[\sum_t G\, \nabla \log \pi(a_t \mid s_t)\Big] = \mathbb{E}\Big[\sum_t F_t\, \nabla \log \pi(a_t \mid s_t)\Big], \quad G =
        \sum_t g(s_t, a_t), \quad F_t = \sum_{u \ge t} g(s_u, a_u)
      slip sign flipped
      not \mathbb{E}[\sum_t g(s_t, a_t)\, \nabla \log \pi(a_t \mid s_t)]  # the immediate reward only
      not \mathbb{E}_{x \sim \mu}[\sum_s d_{ref}(s) \sum_a \nabla \pi(a \mid s)\, \mathbb{E}_p[G \mid s, a]]  # d_ref for d_pi
    \mathbb{E}_p\Big[\Big|\sum_t G\, \nabla \log \pi(a_t \mid s_t)\Big|^2\Big] - \mathbb{E}_p\Big[\Big|\sum_t F_t\, \nabla \log \pi(a_t \mid
        s_t)\Big|^2\Big] = \mathbb{E}_p\Big[\sum_t |\nabla \log \pi(a_t \mid s_t)|^2 (B_t^2 + 2 B_t F_t)\Big], \quad B_t = \sum_{u < t}
        g(s_u, a_u)
        # g rewards tokens; what was earned before a token may be left out of its weight, and this variance is saved
      slip the term 2*B(t)*F(t) dropped
    """,
    source="Sutton et al. (2000); Baxter and Bartlett (2001).",
    note="What is saved can be negative: where past and future cancel, the whole return varies less.",
    parts=("mean", "variance saved"),
    sides={
        "over states; path sums": lambda mdp, mu, d_pi, log_p, log_pi, r, r_token: (
            by_states(mdp, mu, d_pi, log_pi, np.zeros_like(r), r_token),
            variance_saved(mdp, log_p, log_pi, r_token),
        ),
        "every response written out": 0,
        "from there on": 1,
    },
    scale=lambda r_token, H: (1.0 + np.max(np.abs(r_token))) ** 2 * H**3,
    largest=300,
)

# ---------------------------------------------------------------------------------------------------- optimal-baseline


def spread(p: Any, score_rows: Any, r: Any, b: Any) -> Any:
    """E|score|^2 (r - b)^2 for each prompt; the mean of the update does not depend on b."""
    return np.sum(p * np.sum(np.square(score_rows), axis=(-2, -1)) * np.square(r - b), axis=1)


def by_parabola(p: Any, score_rows: Any, r: Any) -> Any:
    """The lowest point of the parabola through three values of the summed variance."""
    low, middle, high = (spread(p, score_rows, r, b) for b in (-1.0, 0.0, 1.0))
    b = (low - high) / (2.0 * (low + high - 2.0 * middle))
    return b, spread(p, score_rows, r, b[:, None])


claim(
    slug="optimal-baseline",
    chapter=7,
    text=r"""
    let c = b_x
    \mathbb{E}_p[r] + \frac{\mathrm{Cov}_p(k, r)}{\mathbb{E}_p[k]} = \frac{\mathbb{E}_p[k r]}{\mathbb{E}_p[k]}, \quad k = |\nabla \log p|^2
      slip the mean of a product split; the exponent 2 dropped; sign flipped
      not \frac{\mathbb{E}_{p_{ref}}[k r]}{\mathbb{E}_{p_{ref}}[k]}  # draws of p_ref
    \mathbb{E}_p[k r^2] - \frac{(\mathbb{E}_p[k r])^2}{\mathbb{E}_p[k]} = \mathbb{E}_p[k (r - b)^2], \quad b = \frac{\mathbb{E}_p[k
        r]}{\mathbb{E}_p[k]}
      slip the term b dropped
    \mathbb{E}_p[k (r - b)^2] \le \mathbb{E}_p[k (r - c(x))^2]
        # of all baselines c(x) the best, b, is the mean reward weighed by the squared score k
    """,
    source="Weaver and Tao (2001); Greensmith, Bartlett and Baxter (2004).",
    parts=("b*", "second moment there"),
    sides={
        "weighted mean of r": 1,
        "path sums of |e_a - pi|^2": (lambda world, log_pi: baselines(world, log_pi, world.r)["best"][:, 0], 0),
        "parabola": by_parabola,
    },
    where=lambda p, score_rows: np.min(np.sum(p * np.sum(np.square(score_rows), axis=(-2, -1)), axis=1)) > 1e-2,
    scale=lambda r, H: (1e2 * H * (1.0 + np.max(np.abs(r))), 1e2 * H * (1.0 + np.max(np.abs(r))) ** 2),
    largest=100,
)

# ---------------------------------------------------------------------------------------------------- kl-regularized-gradient


def paid(r: Any, beta: float, log_p: Any, log_p_ref: Any) -> Any:
    """The reward less the KL penalty of every response, a frozen number."""
    return r - beta * log_ratio(log_p, log_p_ref)


claim(
    slug="kl-regularized-gradient",
    formerly=("kl-regularised-gradient",),
    chapter=7,
    text=r"""
    \nabla\, \mathbb{E}_{x \sim \mu}[J_x(p)] = \mathbb{E}\Big[\Big(r - \beta \log\frac{p}{p_{ref}}\Big)\, \mathrm{score}\Big]
        # the slope of log p itself adds -beta E[score] = 0
      slip sign of beta*log(p/p_ref) flipped; beta dropped; p_ref dropped; the term beta*log(p/p_ref) dropped
      not \mathbb{E}[(r - \beta \log\frac{p}{p_{ref}}/\log 2)\, \mathrm{score}]  # log base 2
    """,
    source="Ziegler et al. (2019), arXiv:1909.08593; Stiennon et al. (2020), arXiv:2009.01325.",
    sides={
        "score function, penalty frozen": lambda mdp, mu, log_p, logits, r, beta, log_p_ref: score_mean(
            mdp, mu, log_p, logits, paid(r, beta, log_p, log_p_ref)
        ),
        "gradient core": 0,
        "one sweep": lambda world, logits: gibbs.policy_gradient(world, logits),
    },
    sampled=Sampled(
        "log_p",
        lambda mdp, log_pi, r, beta, log_p, log_p_ref: paid(r, beta, log_p, log_p_ref) * first_score(mdp, log_pi),
        lambda world, logits: root(gibbs.policy_gradient(world, logits)),
    ),
    scale=loudness,
)
