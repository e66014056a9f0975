r"""Chapter 7 as derivations, continued: what may be subtracted from a reward for nothing, and what is best subtracted."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.gradients import AFFORDABLE, reward_term
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.derivations.scores import each, of_mean, summed_variance, times, weigh
from tabular_rlhf.ledger.chapter7 import WILLIAMS, weighted_mean
from tabular_rlhf.logspace import expect

# ---------------------------------------------------------------------------------------------------- zero-mean-score


def with_baseline(r: Any, b_x: Any, H: int) -> float:
    """The largest term: a reward less its baseline, times a sum of H scores."""
    return reward_term(r, H) + float(np.max(np.abs(b_x))) * (1.0 + H)


add(
    Derivation(
        slug="zero-mean-score",
        formerly=("baselines",),
        title="A baseline of the prompt is free",
        chapter=7,
        rows=("zero-mean-score",),
        source=WILLIAMS,
        largest=AFFORDABLE,
        scale=with_baseline,
        lines=(
            Line(
                r"\mathbb{E}\left[ b(x)\, \nabla \log p_\pi(\tau \mid x) \right]",
                "What a baseline b adds to the update on average, b any number that depends on the prompt but not on the response.",
                lambda r, b_x, score: times(b_x[:, None] + 0.0 * r, score),
                law="log_p",
            ),
            Line(
                r"\sum_x \mu(x)\, b(x) \sum_\tau p_\pi(\tau \mid x)\, \nabla \log p_\pi(\tau \mid x)",
                "The mean written out; b(x) does not depend on the response, so it leaves the inner sum.",
                lambda mu, b_x, p, score: np.einsum("x,xn,xnysv->ysv", mu * b_x, p, score),
                wrong={
                    "responses drawn from p_ref, scores of pi": lambda mu, b_x, p_ref, score: np.einsum(
                        "x,xn,xnysv->ysv", mu * b_x, p_ref, score
                    ),
                    "responses not weighted by p": lambda mu, b_x, p, score: np.einsum(
                        "x,xn,xnysv->ysv", mu * b_x, np.where(p > 0, 1.0, 0.0), score
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x)\, b(x) \sum_\tau \nabla p_\pi(\tau \mid x)",
                "p grad log p = grad p.",
                lambda world, mu, logits, b_x: np.einsum("x,xnysv->ysv", mu * b_x, each(world, logits, np.exp)),
                wrong={
                    "p kept beside its own gradient": lambda world, mu, logits, b_x, p: np.einsum(
                        "x,xn,xnysv->ysv", mu * b_x, p, each(world, logits, np.exp)
                    ),
                    "grad log p for grad p": lambda world, mu, logits, b_x: np.einsum(
                        "x,xnysv->ysv", mu * b_x, each(world, logits, lambda log_p: log_p)
                    ),
                },
            ),
            Line(
                r"\sum_x \mu(x)\, b(x)\, \nabla \sum_\tau p_\pi(\tau \mid x)",
                "The sum of finitely many gradients is the gradient of the sum.",
                lambda world, logits, b_x: of_mean(world, logits, lambda log_p: b_x * np.sum(np.exp(log_p), axis=1)),
                wrong={
                    "the sum of squares, which is not 1": lambda world, logits, b_x: of_mean(
                        world, logits, lambda log_p: b_x * np.sum(np.exp(2.0 * log_p), axis=1)
                    ),
                },
            ),
            Line(
                "0",
                "Probabilities sum to one for every theta, and the gradient of a constant is 0.",
                lambda logits: np.zeros_like(logits),
                wrong={"the sum taken for its gradient: b times 1": lambda logits, mu, b_x: np.full(np.shape(logits), np.sum(mu * b_x))},
            ),
            Line(
                r"\mathbb{E}\left[ (r - b(x))\, \nabla \log p_\pi(\tau \mid x) \right]",
                "In the update of a policy that is rewarded by r:",
                lambda r, b_x, score: times(r - b_x[:, None], score),
                relation="so",
                law="log_p",
            ),
            Line(
                r"\mathbb{E}\left[ r\, \nabla \log p_\pi \right] - \mathbb{E}\left[ b(x)\, \nabla \log p_\pi \right]",
                "A mean is linear.",
                lambda mu, p, r, b_x, score: weigh(mu, p * r, score) - weigh(mu, p * b_x[:, None], score),
                wrong={
                    "the response's own baseline f(tau) subtracted": lambda mu, p, r, f, score: (
                        weigh(mu, p * r, score) - weigh(mu, p * f, score)
                    ),
                    "only what beats the baseline is counted": lambda mu, p, r, b_x, score: weigh(
                        mu, p * np.maximum(0.0, r - b_x[:, None]), score
                    ),
                },
            ),
            Line(
                r"\nabla\, \mathbb{E}[r]",
                "The second mean is 0, by the lines above; the first is the policy gradient.",
                lambda world, logits, r: of_mean(world, logits, lambda log_p: expect(log_p, r)),
                wrong={
                    "sign flipped": lambda world, logits, r: of_mean(world, logits, lambda log_p: -expect(log_p, r)),
                    "the gradient of E[r]^2/2, as if b were E[r] and moved": lambda world, logits, r: of_mean(
                        world, logits, lambda log_p: 0.5 * expect(log_p, r) ** 2
                    ),
                },
            ),
        ),
        letters={"b": "b_x"},
    )
)

# ---------------------------------------------------------------------------------------------------- optimal-baseline


def sizes(score: Any) -> Any:
    """|score|^2 of every response: (P, N)."""
    return np.sum(np.square(score), axis=(-3, -2, -1))


def best(p: Any, score: Any, r: Any) -> Any:
    """b* of every prompt."""
    return weighted_mean(p, sizes(score), r)


def left_over(p: Any, score: Any, r: Any) -> Any:
    """E|score|^2 r^2 - (E|score|^2 r)^2 / E|score|^2."""
    s = p * sizes(score)
    return np.sum(s * r**2, axis=1) - np.sum(s * r, axis=1) ** 2 / np.sum(s, axis=1)


def noise_term(r: Any, b_x: Any, H: int) -> float:
    """The size of a squared update, with b* instead of b perhaps."""
    return with_baseline(r, b_x, H) ** 2 * (1.0 + H)


add(
    Derivation(
        slug="optimal-baseline",
        title="The baseline of least variance, where some response can be told from another",
        chapter=7,
        rows=("optimal-baseline",),
        source="Weaver and Tao (2001); Greensmith, Bartlett and Baxter (2004).",
        largest=AFFORDABLE,
        where=lambda p, score: np.min(np.sum(p * sizes(score), axis=1)) > 1e-2,
        scale=noise_term,
        lines=(
            Line(
                r"\sum_k \mathrm{Var}\left( (r - b)\, \partial_k \log p_\pi \right)",
                "How much one draw's update varies, for each prompt, over all coordinates k of theta.",
                lambda p, r, b_x, score: summed_variance(p, times(r - b_x[:, None], score)),
            ),
            Line(
                r"\mathbb{E}\left| (r - b)\, \nabla \log p_\pi \right|^2 "
                r"- \left| \mathbb{E}\left[ (r - b)\, \nabla \log p_\pi \right] \right|^2",
                "Variance is the mean square less the squared mean, coordinate by coordinate.",
                lambda p, r, b_x, score: (
                    np.einsum("xn,xnysv->x", p, np.square(times(r - b_x[:, None], score)))
                    - np.sum(np.square(np.einsum("xn,xnysv->xysv", p, times(r - b_x[:, None], score))), axis=(1, 2, 3))
                ),
                wrong={
                    "second moment for variance": lambda p, r, b_x, score: np.einsum(
                        "xn,xnysv->x", p, np.square(times(r - b_x[:, None], score))
                    ),
                    "the mean square of r - b, without the score": lambda p, r, b_x: np.sum(p * np.square(r - b_x[:, None]), axis=1),
                },
            ),
            Line(
                r"\mathbb{E}\left[ |\nabla \log p_\pi|^2\, (r - b)^2 \right]",
                "A number leaves a norm squared; the mean update does not depend on b (baselines are free), so it is a constant in b.",
                lambda p, r, b_x, score: np.sum(p * sizes(score) * np.square(r - b_x[:, None]), axis=1),
                relation="up to a constant",
                of="b_x",
                wrong={
                    "|score| for |score|^2": lambda p, r, b_x, score: np.sum(
                        p * np.sqrt(sizes(score)) * np.square(r - b_x[:, None]), axis=1
                    ),
                    "the score taken for a constant of size 1": lambda p, r, b_x: np.sum(p * np.square(r - b_x[:, None]), axis=1),
                },
            ),
            Line(
                r"\mathbb{E}\left[ |s|^2 r^2 \right] - 2 b\, \mathbb{E}\left[ |s|^2 r \right] + b^2\, \mathbb{E}\left[ |s|^2 \right], "
                r"\quad s = \nabla \log p_\pi",
                "Multiply the square out: a parabola in b.",
                lambda p, r, b_x, score: (
                    np.sum(p * sizes(score) * r**2, axis=1)
                    - 2.0 * b_x * np.sum(p * sizes(score) * r, axis=1)
                    + b_x**2 * np.sum(p * sizes(score), axis=1)
                ),
                wrong={
                    "the 2 of the cross term forgotten": lambda p, r, b_x, score: (
                        np.sum(p * sizes(score) * r**2, axis=1)
                        - b_x * np.sum(p * sizes(score) * r, axis=1)
                        + b_x**2 * np.sum(p * sizes(score), axis=1)
                    ),
                    "E|s|^2 taken for 1": lambda p, r, b_x, score: (
                        np.sum(p * sizes(score) * r**2, axis=1) - 2.0 * b_x * np.sum(p * sizes(score) * r, axis=1) + b_x**2
                    ),
                },
            ),
            Line(
                r"\frac{\partial}{\partial b}\, \mathbb{E}\left[ |s|^2 (r - b)^2 \right]",
                "Where is it lowest?  Its slope in b, by the gradient core.",
                lambda p, r, b_x, score: grad(lambda b: np.sum(p * sizes(score) * np.square(r - np.expand_dims(b, 1))))(b_x),
                relation="so",
            ),
            Line(
                r"2\, \mathbb{E}\left[ |s|^2 \right] (b - b^*), \quad b^* = \frac{\mathbb{E}[|s|^2 r]}{\mathbb{E}[|s|^2]}",
                "Differentiate the parabola and take 2 E|s|^2 out: the slope is 0 at b* only, negative before it and positive after it.",
                lambda p, r, b_x, score: 2.0 * np.sum(p * sizes(score), axis=1) * (b_x - best(p, score, r)),
                wrong={
                    "the mean reward for b*": lambda p, r, b_x, score, E_r: 2.0 * np.sum(p * sizes(score), axis=1) * (b_x - E_r),
                    "|s| for |s|^2 in b*": lambda p, r, b_x, score: (
                        2.0 * np.sum(p * sizes(score), axis=1) * (b_x - weighted_mean(p, np.sqrt(sizes(score)), r))
                    ),
                    "sign of b*": lambda p, r, b_x, score: 2.0 * np.sum(p * sizes(score), axis=1) * (b_x + best(p, score, r)),
                },
            ),
            Line(
                r"\mathbb{E}\left[ |s|^2 (r - b^*)^2 \right]",
                "The least second moment.",
                lambda p, r, score: np.sum(p * sizes(score) * np.square(r - best(p, score, r)[:, None]), axis=1),
                relation="so",
            ),
            Line(
                r"\mathbb{E}\left[ |s|^2 r^2 \right] - \frac{\mathbb{E}[|s|^2 r]^2}{\mathbb{E}[|s|^2]}",
                "Put b* into the parabola.",
                left_over,
                wrong={
                    "no baseline: b = 0": lambda p, r, score: np.sum(p * sizes(score) * r**2, axis=1),
                    "not divided by E|s|^2": lambda p, r, score: (
                        np.sum(p * sizes(score) * r**2, axis=1) - np.sum(p * sizes(score) * r, axis=1) ** 2
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ |s|^2 (r - b)^2 \right]",
                "A parabola that opens upward is nowhere lower than at b*: this is what any other b costs.",
                lambda p, r, b_x, score: np.sum(p * sizes(score) * np.square(r - b_x[:, None]), axis=1),
                relation="<=",
                wrong={
                    "as if score and reward were independent: E|s|^2 Var(r)": lambda p, r, score, E_r: (
                        np.sum(p * sizes(score), axis=1) * np.sum(p * np.square(r - E_r[:, None]), axis=1)
                    ),
                },
            ),
        ),
        letters={"b": "b_x"},
        setting={"prompts": "given"},
    )
)
