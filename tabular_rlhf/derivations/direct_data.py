r"""Chapter 6 as a derivation: what one step of DPO does to the winner's probability.

One pair a prompt: y_w its best possible response, y_l its worst, and gradient descent on the loss of that pair alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.direct import rhat
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter6 import size_of
from tabular_rlhf.ledger.chapter6_data import best_and_worst, features, linear_rate, of_theta
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- likelihood-displacement

SMALL_STEPS = ("eta", (1e-3, 1e-4, 1e-5, 1e-6))
THETA = np.array([0.3, -0.2])
"""Where the log-linear class stands: its two features are of the response (`features`)."""


def chosen(world: World, log_p: Any) -> tuple[Any, Any]:
    """log pi(y_w) and log pi(y_l), (P,)."""
    x = np.arange(world.mdp.P)
    w, l = best_and_worst(world)
    return log_p[x, w], log_p[x, l]


def pair_loss(world: World, log_p: Any) -> Any:
    """-log sigma(rhat_w - rhat_l), (P,)."""
    (p_w, p_l), (q_w, q_l) = chosen(world, log_p), chosen(world, world.log_p_ref)
    return -log_sigmoid(world.beta * (p_w - q_w) - world.beta * (p_l - q_l))


def weight(world: World, log_p: Any) -> Any:
    """sigma(rhat_l - rhat_w), (P,)."""
    r_w, r_l = chosen(world, rhat(log_p, world.log_p_ref, world.beta))
    return np.exp(log_sigmoid(r_l - r_w))


def law(world: World, logits: Any) -> Any:
    return world.mdp.path_sum(log_softmax(logits))


def scores(world: World, logits: Any) -> tuple[Any, Any]:
    """The gradients of log pi(y_w) and log pi(y_l) in the token logits, (P, S, V), by the gradient core: prompts share no logit."""
    return tuple(grad(lambda t, k=k: np.sum(chosen(world, law(world, t))[k]))(logits) for k in (0, 1))


def descent(world: World, logits: Any) -> Any:
    """-grad of every prompt's own loss, (P, S, V)."""
    return -grad(lambda t: np.sum(pair_loss(world, law(world, t))))(logits)


def inner(a: Any, b: Any) -> Any:
    """The inner product of two gradients, prompt by prompt."""
    return np.sum(a * b, axis=(1, 2))


def secant(world: World, logits: Any, step: float) -> Any:
    """(log pi(y_w) after a step of gradient descent, less before)/step."""
    after = np.where(np.isneginf(logits), logits, logits + step * descent(world, logits))
    return (chosen(world, law(world, after))[0] - chosen(world, law(world, logits))[0]) / step


def along_winner(world: World, pi: Any, beta: float, log_p: Any, *, rest: float = 1.0, loser: float = 1.0) -> Any:
    """beta weight [1 - pi(a given s) + pi(b given s) where the two part with a and b, plus |e - pi|^2 in every later state of y_w]."""
    mdp, total = world.mdp, np.zeros(world.mdp.P)
    for x, (w, l) in enumerate(zip(*(mdp.tokens(y).tolist() for y in best_and_worst(world)), strict=True)):
        parting = next((h for h, (a, b) in enumerate(zip(w, l, strict=True)) if a != b), None)
        if parting is None:
            continue
        said = [a for a in w if a >= 0]
        rows = [pi[x, mdp.find_state([mdp.vocabulary[a] for a in said[:h]])] for h in range(len(said))]
        total[x] = 1.0 - rows[parting][w[parting]] + loser * rows[parting][l[parting]]
        later = zip(said[parting + 1 :], rows[parting + 1 :], strict=True)
        total[x] += rest * sum(float(np.sum((np.eye(mdp.V)[a] - row) ** 2)) for a, row in later)
    return beta * weight(world, log_p) * total


def rate_with_features(world: World) -> Any:
    """<grad log pi(y_w), -grad of the pair's loss> in the two features' parameters, by the gradient core, prompt by prompt."""

    def rate(x: int) -> float:
        up = grad(lambda t: chosen(world, of_theta(world, t))[0][x])(THETA)
        return -float(np.sum(up * grad(lambda t: pair_loss(world, of_theta(world, t))[x])(THETA)))

    return np.array([rate(x) for x in range(world.mdp.P)])


def features_centered(world: World, beta: float, *, loser: float = 1.0) -> Any:
    """beta weight <phi_w - E phi, (phi_w - E phi) - (phi_l - E phi)>, each score written out."""
    phi, log_p = features(world), of_theta(world, THETA)
    w, l = best_and_worst(world)
    mean = np.matmul(np.exp(log_p), phi)
    return beta * weight(world, log_p) * np.sum((phi[w] - mean) * ((phi[w] - mean) - loser * (phi[l] - mean)), axis=1)


def others(world: World) -> Any:
    """Responses that are neither the best nor the worst, (P, N)."""
    n, (w, l) = np.arange(world.mdp.N), best_and_worst(world)
    return (n != w[:, None]) & (n != l[:, None])


def mass_of_others(world: World) -> Any:
    """d/dt of their probability under descent on each prompt's own loss, by the gradient core."""

    def rate(x: int) -> float:
        up = grad(lambda t: np.sum(np.where(others(world)[x], np.exp(of_theta(world, t))[x], 0.0)))(THETA)
        return -float(np.sum(up * grad(lambda t: pair_loss(world, of_theta(world, t))[x])(THETA)))

    return np.array([rate(x) for x in range(world.mdp.P)])


def flow_to_others(world: World, beta: float, *, centre: bool = True, weighed: bool = True) -> Any:
    """beta weight sum over them of pi(y) <phi_y - E phi, phi_w - phi_l>."""
    phi, log_p = features(world), of_theta(world, THETA)
    w, l = best_and_worst(world)
    own = phi[None] - (np.matmul(np.exp(log_p), phi)[:, None, :] if centre else 0.0)
    along = np.sum(own * (phi[w] - phi[l])[:, None, :], axis=2)
    share = others(world) * (np.exp(log_p) if weighed else 1.0)
    return beta * weight(world, log_p) * np.sum(share * along, axis=1)


add(
    Derivation(
        slug="likelihood-displacement",
        title="What one step of DPO does to the winner: up in tables, up or down where responses share parameters",
        chapter=6,
        rows=("likelihood-displacement",),
        source="Razin et al. (2024), arXiv:2410.08847; Pal et al. (2024), arXiv:2402.13228.",
        largest=64,
        scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
        lines=(
            Line(
                r"\frac{\log \pi_{\theta + \eta \dot\theta}(y_w) - \log \pi_\theta(y_w)}{\eta}, \quad"
                r" \dot\theta = -\nabla \left[ -\log \sigma(\hat r_w - \hat r_l) \right]",
                "One pair a prompt: its best possible response beat its worst. Take a step of "
                "length eta down this pair's loss, in the token logits.",
                lambda world, logits, eta: secant(world, logits, eta),
            ),
            Line(
                r"\left\langle \nabla \log \pi(y_w),\ \dot\theta \right\rangle",
                "A short step changes log pi(y_w) to first order by its slope along the step; both gradients by the gradient core.",
                lambda world, logits: inner(scores(world, logits)[0], descent(world, logits)),
                relation="in the limit",
                along=SMALL_STEPS,
                error=1e-4,
                wrong={
                    "ascent for descent": lambda world, logits: -inner(scores(world, logits)[0], descent(world, logits)),
                    "the loser's slope": lambda world, logits: inner(scores(world, logits)[1], descent(world, logits)),
                },
            ),
            Line(
                r"\left\langle s_w,\ \beta\, \sigma(\hat r_l - \hat r_w) (s_w - s_l) \right\rangle, \quad s = \nabla \log \pi(y)",
                "Put in the gradient of one pair's loss (dpo-gradient), with a minus for descent.",
                lambda world, logits, log_p, beta: inner(
                    scores(world, logits)[0],
                    beta * weight(world, log_p)[:, None, None] * (scores(world, logits)[0] - scores(world, logits)[1]),
                ),
                wrong={
                    "the loser's score left out": lambda world, logits, log_p, beta: inner(
                        scores(world, logits)[0], beta * weight(world, log_p)[:, None, None] * scores(world, logits)[0]
                    ),
                    "the loser pushed up": lambda world, logits, log_p, beta: inner(
                        scores(world, logits)[0],
                        beta * weight(world, log_p)[:, None, None] * (scores(world, logits)[0] + scores(world, logits)[1]),
                    ),
                    "the weight of the right order": lambda world, logits, log_p, beta: inner(
                        scores(world, logits)[0],
                        beta * (1.0 - weight(world, log_p))[:, None, None] * (scores(world, logits)[0] - scores(world, logits)[1]),
                    ),
                },
            ),
            Line(
                r"\beta\, \sigma(\hat r_l - \hat r_w) \left( |s_w|^2 - \langle s_w, s_l \rangle \right)",
                "The inner product is linear: what the winner gains for itself, less what it has in common with the loser.",
                lambda world, logits, log_p, beta: (
                    beta
                    * weight(world, log_p)
                    * (inner(scores(world, logits)[0], scores(world, logits)[0]) - inner(*scores(world, logits)))
                ),
                wrong={
                    "beta dropped": lambda world, logits, log_p: (
                        weight(world, log_p) * (inner(scores(world, logits)[0], scores(world, logits)[0]) - inner(*scores(world, logits)))
                    ),
                    "the loser's length for the winner's": lambda world, logits, log_p, beta: (
                        beta
                        * weight(world, log_p)
                        * (inner(scores(world, logits)[1], scores(world, logits)[1]) - inner(*scores(world, logits)))
                    ),
                },
            ),
            Line(
                r"\beta\, \sigma(\hat r_l - \hat r_w) \left[ 1 - \pi(a \mid s) + \pi(b \mid"
                r" s) + \sum_{s'} |e_{a'} - \pi(\cdot \mid s')|^2 \right]",
                "Scores are one-hot less pi. Where both go together they are equal; in s they "
                "part with tokens a and b; then y_w goes on alone through s'.",
                lambda world, pi, beta, log_p: along_winner(world, pi, beta, log_p),
                wrong={
                    "the loser's token forgotten": lambda world, pi, beta, log_p: along_winner(world, pi, beta, log_p, loser=0.0),
                    "the tokens after the parting forgotten": lambda world, pi, beta, log_p: along_winner(world, pi, beta, log_p, rest=0.0),
                },
            ),
            Line(
                r"0", "No term in the bracket of line 5 is negative, and so nor is the rate.", lambda mu: np.zeros_like(mu), relation="so"
            ),
            Line(
                r"\left\langle \nabla \log \pi(y_w),\ \dot\theta \right\rangle",
                "On tabular logits the winner of the pair never loses probability to first order.",
                lambda world, logits: inner(scores(world, logits)[0], descent(world, logits)),
                relation="<=",
                wrong={
                    "the same of the loser": lambda world, logits: inner(scores(world, logits)[1], descent(world, logits)),
                },
            ),
            Line(
                r"\left\langle \nabla_\theta \log \pi_\theta(y_w),\ \dot\theta \right\rangle, \quad"
                r" \pi_\theta \propto \pi_{ref}\, e^{\langle \theta, \phi \rangle}",
                "Now let responses share parameters: a log-linear class with two features "
                "phi of a response; the same rate, by the gradient core.",
                lambda world: rate_with_features(world),
                relation="so",
            ),
            Line(
                r"\beta\, \sigma(\hat r_l - \hat r_w) \left\langle \phi_w - \mathbb{E}_\pi \phi,\ (\phi_w -"
                r" \mathbb{E}_\pi \phi) - (\phi_l - \mathbb{E}_\pi \phi) \right\rangle",
                "The score of a log-linear policy is the feature less its mean under the policy.",
                lambda world, beta: features_centered(world, beta),
                wrong={
                    "features not centered": lambda world, beta: linear_rate(world, beta, centre=False),
                    "the loser's score left out": lambda world, beta: features_centered(world, beta, loser=0.0),
                },
            ),
            Line(
                r"\beta\, \sigma(\hat r_l - \hat r_w) \left\langle \phi_w - \mathbb{E}_\pi \phi,\ \phi_w - \phi_l \right\rangle",
                "The mean cancels in the difference, but not in the winner's own score: y_w "
                "falls exactly where y_l lies beyond it, seen from the mean.",
                lambda world, beta: linear_rate(world, beta, centre=True),
                wrong={
                    "the mean cancelled everywhere": lambda world, beta: linear_rate(world, beta, centre=False),
                    "never negative, as for tables": lambda world, beta: np.abs(linear_rate(world, beta, centre=True)),
                },
            ),
            Line(
                r"\frac{d}{dt} \sum_{y \neq y_w, y_l} \pi_\theta(y)",
                "Where does the mass go that the pair gives up? To responses that were in no pair; their rate, by the gradient core.",
                lambda world: mass_of_others(world),
                relation="so",
            ),
            Line(
                r"\beta\, \sigma(\hat r_l - \hat r_w) \sum_{y \neq y_w, y_l} \pi(y) \left\langle"
                r" \phi_y - \mathbb{E}_\pi \phi,\ \phi_w - \phi_l \right\rangle",
                "d pi = pi d log pi, and each log pi(y) moves as the winner's did: those "
                "rise whose features lie on the winner's side of the mean.",
                lambda world, beta: flow_to_others(world, beta),
                wrong={
                    "what the winner gains the loser loses": lambda mu: np.zeros_like(mu),
                    "features not centered": lambda world, beta: flow_to_others(world, beta, centre=False),
                    "each log pi counted alike, not weighed by pi": lambda world, beta: flow_to_others(world, beta, weighed=False),
                },
            ),
        ),
    )
)
