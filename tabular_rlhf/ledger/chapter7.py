r"""Chapter 7, one response at a time: the policy gradient and its baselines, the KL term, clipping, natural steps, ptx.

Gradients are in tabular logits, (P, S, V).  What the score-function side freezes it takes as a separate argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.record import Miss, Row, Sampled, add
from tabular_rlhf.ledger.tolerance import largest
from tabular_rlhf.logspace import expect, log_ratio, log_softmax
from tabular_rlhf.policy_gradient.groups import baselines
from tabular_rlhf.policy_gradient.updates import true_gradient

WILLIAMS = "Williams (1992); Sutton et al. (2000), Policy gradient methods with function approximation."


def score_mean(mdp: Any, mu: Any, log_p: Any, logits: Any, r: Any) -> Any:
    """E_mu E_p[r score]: r and the law of the draws frozen, log p differentiated."""
    possible = ~np.isneginf(log_p)
    weight = mu[:, None] * np.exp(log_p) * r
    return grad(lambda t: np.sum(weight * np.where(possible, mdp.path_sum(log_softmax(t)), 0.0)))(logits)


def values(mdp: Any, log_pi: Any, leaf: Any, token: Any = None) -> Any:
    """V (P, S) and Q (P, S, V) of a policy, for rewards at the end and perhaps of every token."""
    levels = mdp.levels(log_pi)
    extra = [np.zeros(x.shape) for x in levels] if token is None else mdp.levels(token)
    V, Q = mdp.backup(leaf, lambda h, Q: np.sum(np.exp(levels[h]) * (Q + extra[h]), axis=1))
    return V, Q if token is None else Q + token


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


add(
    Row(
        slug="policy-gradient",
        chapter=7,
        statement=(
            r"\nabla\, \mathbb{E}[r] = \mathbb{E}[r \cdot \mathrm{score}] = \sum_s d_\pi(s) \sum_a \nabla \pi(a \mid s)\, Q(s, a), \qquad "
            r"\mathrm{score} = \nabla \log p_\pi(\tau)"
        ),
        source=WILLIAMS,
        sides={
            "over states": lambda mdp, mu, d_pi, log_pi, r: by_states(mdp, mu, d_pi, log_pi, r),
            "over responses": score_mean,
            "gradient core": lambda mdp, mu, logits, r: grad(lambda t: np.sum(mu * expect(mdp.path_sum(log_softmax(t)), r)))(logits),
            "one sweep": lambda world, log_pi: true_gradient(world, log_pi),
        },
        misses={
            "sign flipped": lambda mdp, mu, d_pi, log_pi, r: -by_states(mdp, mu, d_pi, log_pi, r),
            "d_ref for d_pi": lambda mdp, mu, d_ref, log_pi, r: by_states(mdp, mu, d_ref, log_pi, r),
            "states not weighted by visits": lambda mdp, mu, d_pi, log_pi, r: by_states(mdp, mu, np.ones_like(d_pi), log_pi, r),
            "responses drawn from p_ref": lambda mdp, mu, log_p_ref, logits, r: score_mean(mdp, mu, log_p_ref, logits, r),
            "pi's gradient without its normalization": lambda mdp, mu, d_pi, log_pi, r: (
                mu[:, None, None] * d_pi[..., None] * np.exp(log_pi) * values(mdp, log_pi, r)[1]
            ),
        },
        sampled=Sampled(
            "log_p",
            lambda mdp, log_pi, r: r * first_score(mdp, log_pi),
            lambda mdp, mu, d_pi, log_pi, r: root(by_states(mdp, mu, d_pi, log_pi, r)),
        ),
        scale=lambda r, H: (1.0 + np.max(np.abs(r))) * H,
    )
)

# ---------------------------------------------------------------------------------------------------- zero-mean-score


def per_prompt(b_x: Any, r: Any) -> Any:
    """A baseline as a table: the same for every response of a prompt."""
    return b_x[:, None] + np.zeros_like(r)


def mass_gradient(mdp: Any, mu: Any, logits: Any, b_x: Any) -> Any:
    """The gradient of E_mu[b sum p]: p sums to one whatever the logits."""
    return grad(lambda t: np.sum(mu * b_x * np.sum(np.exp(mdp.path_sum(log_softmax(t))), axis=1)))(logits)


def one_hot_score(mdp: Any, mu: Any, log_p: Any, b_x: Any) -> Any:
    """E[b score] with the score taken for the visited tokens themselves, the normalization of pi forgotten."""
    return mdp.subtree_sum((mu * b_x)[:, None] * np.exp(log_p))


add(
    Row(
        slug="zero-mean-score",
        chapter=7,
        statement=(
            r"\mathbb{E}_p[\mathrm{score}] = \nabla \sum p = 0, \qquad "
            r"\mathbb{E}[(r - b(x))\, \mathrm{score}] = \nabla\, \mathbb{E}[r]"
        ),
        source=WILLIAMS,
        parts=("baseline", "with it"),
        sides={
            "closed form": lambda logits, world, log_pi: (np.zeros_like(logits), true_gradient(world, log_pi)),
            "score function": lambda mdp, mu, log_p, logits, r, b_x: (
                score_mean(mdp, mu, log_p, logits, per_prompt(b_x, r)),
                score_mean(mdp, mu, log_p, logits, r - per_prompt(b_x, r)),
            ),
            "p sums to one": lambda mdp, mu, logits, b_x, world, log_pi, r: (
                mass_gradient(mdp, mu, logits, b_x),
                true_gradient(world, log_pi, r - per_prompt(b_x, r)),
            ),
        },
        misses={
            "scores of pi, draws of p_ref": lambda mdp, mu, log_p_ref, logits, r, b_x: score_mean(
                mdp, mu, log_p_ref, logits, per_prompt(b_x, r)
            ),
            "normalization forgotten": one_hot_score,
            "a baseline that looks at the response": Miss(
                "a baseline that looks at the response",
                lambda mdp, mu, log_p, logits, r, f: score_mean(mdp, mu, log_p, logits, r - f),
                part=1,
            ),
        },
        sampled=Sampled("log_p", lambda mdp, log_pi, b_x, r: per_prompt(b_x, r) * first_score(mdp, log_pi), lambda mu: 0.0 * np.sum(mu)),
        scale=lambda r, b_x, H: (1.0 + np.max(np.abs(r)) + np.max(np.abs(b_x))) * H,
    )
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


def reward_to_go_by_scores(mdp: Any, mu: Any, log_p: Any, log_pi: Any, logits: Any, r_token: Any) -> Any:
    """The update of every response written out, E of it and of its square."""
    from tabular_rlhf.policy_gradient.updates import paths

    path, past, total = paths(mdp), earned_before(mdp, r_token), mdp.path_sum(r_token)
    future = path * (total[..., None, None] - past[:, None])
    whole = path * total[..., None, None]
    rows = [x - np.exp(log_pi)[:, None] * np.sum(x, axis=-1, keepdims=True) for x in (future, whole)]
    p = np.exp(log_p)
    seconds = [np.einsum("xn,xnsa->x", p, np.square(x)) for x in rows]
    return np.einsum("x,xn,xnsa->xsa", mu, p, rows[0]), seconds[1] - seconds[0]


add(
    Row(
        slug="reward-to-go",
        chapter=7,
        statement=(
            r"\mathbb{E}\big[\textstyle\sum_t \mathrm{score}_t\, G\big] = \mathbb{E}\big[\sum_t \mathrm{score}_t\, G_{\ge t}\big], \qquad "
            r"\text{variance saved} = \mathbb{E} \sum_t |\mathrm{score}_t|^2 (G_{<t}^2 + 2 G_{<t} G_{\ge t})"
        ),
        source="Sutton et al. (2000); Baxter and Bartlett (2001).",
        note="G sums token rewards.  What is saved can be negative: where past and future cancel, the whole return varies less.",
        parts=("mean", "variance saved"),
        sides={
            "over states; path sums": lambda mdp, mu, d_pi, log_p, log_pi, r, r_token: (
                by_states(mdp, mu, d_pi, log_pi, np.zeros_like(r), r_token),
                variance_saved(mdp, log_p, log_pi, r_token),
            ),
            "every response written out": reward_to_go_by_scores,
            "whole return, by the score function": lambda mdp, mu, log_p, log_pi, logits, r_token: (
                score_mean(mdp, mu, log_p, logits, mdp.path_sum(r_token)),
                variance_saved(mdp, log_p, log_pi, r_token),
            ),
        },
        misses={
            "the immediate reward only": lambda mdp, mu, d_pi, log_pi, r_token: (
                mu[:, None, None] * d_pi[..., None] * np.exp(log_pi) * (r_token - np.sum(np.exp(log_pi) * r_token, axis=-1, keepdims=True))
            ),
            "sign flipped": lambda mdp, mu, d_pi, log_pi, r, r_token: -by_states(mdp, mu, d_pi, log_pi, np.zeros_like(r), r_token),
            "d_ref for d_pi": lambda mdp, mu, d_ref, log_pi, r, r_token: by_states(mdp, mu, d_ref, log_pi, np.zeros_like(r), r_token),
            "never a loss: the cross term forgotten": Miss(
                "never a loss: the cross term forgotten",
                lambda mdp, log_p, log_pi, r_token: expect(
                    log_p, mdp.path_sum(squared_scores(log_pi) * np.square(earned_before(mdp, r_token)))
                ),
                part=1,
            ),
        },
        scale=lambda r_token, H: (1.0 + np.max(np.abs(r_token))) ** 2 * H**3,
        largest=300,
    )
)

# ---------------------------------------------------------------------------------------------------- optimal-baseline


def best_constant(world: Any, log_pi: Any) -> Any:
    return baselines(world, log_pi, world.r)["best"][:, 0]


def spread(p: Any, score_rows: Any, r: Any, b: Any) -> Any:
    """E|score|^2 (r - b)^2 for each prompt; the mean of the update does not depend on b."""
    return np.sum(p * np.sum(np.square(score_rows), axis=(-2, -1)) * np.square(r - b), axis=1)


def by_parabola(p: Any, score_rows: Any, r: Any) -> Any:
    """The lowest point of the parabola through three values of the summed variance."""
    low, middle, high = (spread(p, score_rows, r, b) for b in (-1.0, 0.0, 1.0))
    b = (low - high) / (2.0 * (low + high - 2.0 * middle))
    return b, spread(p, score_rows, r, b[:, None])


def least_spread(p: Any, score_rows: Any, r: Any) -> Any:
    """E|score|^2 r^2 - (E|score|^2 r)^2 / E|score|^2."""
    size = p * np.sum(np.square(score_rows), axis=(-2, -1))
    return np.sum(size * r**2, axis=1) - np.sum(size * r, axis=1) ** 2 / np.sum(size, axis=1)


def weighted_mean(p: Any, weight: Any, r: Any) -> Any:
    return np.sum(p * weight * r, axis=1) / np.sum(p * weight, axis=1)


add(
    Row(
        slug="optimal-baseline",
        chapter=7,
        statement=(
            r"b^*(x) = \frac{\mathbb{E}[|\mathrm{score}|^2 r]}{\mathbb{E}[|\mathrm{score}|^2]} \ "
            r"\text{ minimizes } \ \mathbb{E}|\mathrm{score}|^2 (r - b)^2"
        ),
        source="Weaver and Tao (2001); Greensmith, Bartlett and Baxter (2004).",
        parts=("b*", "second moment there"),
        sides={
            "path sums of |e_a - pi|^2": lambda world, log_pi, p, score_rows, r: (
                best_constant(world, log_pi),
                least_spread(p, score_rows, r),
            ),
            "parabola": by_parabola,
            "weighted mean of r": lambda p, score_rows, r: (
                weighted_mean(p, np.sum(np.square(score_rows), axis=(-2, -1)), r),
                spread(p, score_rows, r, weighted_mean(p, np.sum(np.square(score_rows), axis=(-2, -1)), r)[:, None]),
            ),
        },
        misses={
            "the mean reward": lambda E_r: E_r,
            "|score| for |score|^2": lambda p, score_rows, r: weighted_mean(p, np.sqrt(np.sum(np.square(score_rows), axis=(-2, -1))), r),
            "sign flipped": lambda world, log_pi: -best_constant(world, log_pi),
            "draws of p_ref": lambda p_ref, score_rows, r: weighted_mean(p_ref, np.sum(np.square(score_rows), axis=(-2, -1)), r),
            "second moment at b = 0": Miss("second moment at b = 0", lambda p, score_rows, r: spread(p, score_rows, r, 0.0), part=1),
        },
        where=lambda p, score_rows: np.min(np.sum(p * np.sum(np.square(score_rows), axis=(-2, -1)), axis=1)) > 1e-2,
        # the quotient divides by at least 1/100
        scale=lambda r, H: (1e2 * H * (1.0 + np.max(np.abs(r))), 1e2 * H * (1.0 + np.max(np.abs(r))) ** 2),
        largest=100,
    )
)

# ---------------------------------------------------------------------------------------------------- kl-regularized-gradient


def paid(r: Any, beta: float, log_p: Any, log_p_ref: Any) -> Any:
    """The reward less the KL penalty of every response, a frozen number."""
    return r - beta * log_ratio(log_p, log_p_ref)


def loudness(r: Any, beta: float, log_p: Any, log_p_ref: Any, H: int) -> float:
    """The largest term of a KL-regularized gradient."""
    return (float(np.max(np.abs(r))) + beta * (1.0 + largest(log_p, log_p_ref))) * (1.0 + H)


add(
    Row(
        slug="kl-regularized-gradient",
        formerly=("kl-regularised-gradient",),
        chapter=7,
        statement=r"\nabla J = \mathbb{E}\Big[\Big(r - \beta \log\frac{p_\pi}{p_{ref}}\Big)\, \mathrm{score}\Big]",
        source="Ziegler et al. (2019), arXiv:1909.08593; Stiennon et al. (2020), arXiv:2009.01325.",
        note="The slope of log p_pi itself adds -beta E[score] = 0.",
        sides={
            "score function, penalty frozen": lambda mdp, mu, log_p, logits, r, beta, log_p_ref: score_mean(
                mdp, mu, log_p, logits, paid(r, beta, log_p, log_p_ref)
            ),
            "gradient core": lambda world, logits: grad(lambda t: gibbs.policy_objective(world, log_softmax(t)))(logits),
            "one sweep": lambda world, logits: gibbs.policy_gradient(world, logits),
        },
        misses={
            "+ KL for - KL in the objective": lambda mdp, mu, log_p, logits, r, beta, log_p_ref: score_mean(
                mdp, mu, log_p, logits, paid(r, -beta, log_p, log_p_ref)
            ),
            "beta dropped": lambda mdp, mu, log_p, logits, r, log_p_ref: score_mean(mdp, mu, log_p, logits, paid(r, 1.0, log_p, log_p_ref)),
            "penalty without p_ref": lambda mdp, mu, log_p, logits, r, beta: score_mean(
                mdp, mu, log_p, logits, r - beta * np.where(np.isneginf(log_p), 0.0, log_p)
            ),
            "only the slope of log p_pi: a gradient of nothing": lambda world, log_pi: true_gradient(world, log_pi),
            "log base 2": lambda mdp, mu, log_p, logits, r, beta, log_p_ref: score_mean(
                mdp, mu, log_p, logits, paid(r, beta / np.log(2.0), log_p, log_p_ref)
            ),
        },
        sampled=Sampled(
            "log_p",
            lambda mdp, log_pi, r, beta, log_p, log_p_ref: paid(r, beta, log_p, log_p_ref) * first_score(mdp, log_pi),
            lambda world, logits: root(gibbs.policy_gradient(world, logits)),
        ),
        scale=loudness,
    )
)
