r"""Chapter 7 as derivations, continued: what may be subtracted from a reward for nothing, and what is best subtracted."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.gradients import AFFORDABLE, reward_term
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.terms.sources import WILLIAMS

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
                law="log_p",
            ),
            Line(
                r"\sum_x \mu(x)\, b(x) \sum_\tau p_\pi(\tau \mid x)\, \nabla \log p_\pi(\tau \mid x)",
                "The mean written out; b(x) does not depend on the response, so it leaves the inner sum.",
                slips=("p_ref for p", "p(tau | x) dropped"),
            ),
            Line(
                r"\sum_x \mu(x)\, b(x) \sum_\tau \nabla p_\pi(\tau \mid x)",
                "p grad log p = grad p.",
                wrong={
                    "p kept beside its own gradient": "sum_{x} mu(x)*b(x)*E_{tau ~ p}[nabla(p(tau | x))]",
                    "grad log p for grad p": "sum_{x} mu(x)*b(x)*sum_{tau} nabla(log(p(tau | x)))",
                },
            ),
            Line(
                r"\sum_x \mu(x)\, b(x)\, \nabla \sum_\tau p_\pi(\tau \mid x)",
                "The sum of finitely many gradients is the gradient of the sum.",
                wrong={"the sum of squares, which is not 1": "sum_{x} mu(x)*b(x)*nabla(E_{tau ~ p}[p(tau | x)])"},
            ),
            Line(
                "0",
                "Probabilities sum to one for every theta, and the gradient of a constant is 0.",
                wrong={"the sum taken for its gradient: b times 1": r"\sum_x \mu(x)\, b(x)"},
            ),
            Line(
                r"\mathbb{E}\left[ (r - b(x))\, \nabla \log p_\pi(\tau \mid x) \right]",
                "In the update of a policy that is rewarded by r:",
                relation="so",
                law="log_p",
            ),
            Line(
                r"\mathbb{E}\left[ r\, \nabla \log p_\pi \right] - \mathbb{E}\left[ b(x)\, \nabla \log p_\pi \right]",
                "A mean is linear.",
                wrong={
                    "the response's own baseline f(tau) subtracted": (
                        r"\mathbb{E}\left[ r\, \nabla \log p_\pi \right] - \mathbb{E}\left[ f(\tau)\, \nabla \log "
                        r"p_\pi \right]"
                    ),
                    "only what beats the baseline is counted": r"\mathbb{E}\left[ \max(0, r - b(x))\, \nabla \log p_\pi \right]",
                },
            ),
            Line(
                r"\nabla\, \mathbb{E}[r]",
                "The second mean is 0, by the lines above; the first is the policy gradient.",
                slips=("sign flipped",),
                wrong={
                    "the gradient of E[r]^2/2, as if b were E[r] and moved": r"\mathbb{E}_\mu\left[ \nabla\, "
                    r"\frac{\mathbb{E}_p[r]^2}{2} \right]"
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
                r"\mathbb{E}\left| g - \mathbb{E}[g] \right|^2, \quad g = (r - b)\, \nabla \log p_\pi",
                "How much one draw's update g varies, for each prompt: the variances of all its coordinates, added up.",
            ),
            Line(
                r"\mathbb{E}\left| (r - b)\, \nabla \log p_\pi \right|^2 "
                r"- \left| \mathbb{E}\left[ (r - b)\, \nabla \log p_\pi \right] \right|^2",
                "Variance is the mean square less the squared mean, coordinate by coordinate.",
                slips=("the mean of a product split",),
                wrong={"the mean square of r - b, without the score": r"\mathbb{E}\left[ (r - b)^2 \right]"},
            ),
            Line(
                r"\mathbb{E}\left[ |\nabla \log p_\pi|^2\, (r - b)^2 \right]",
                "A number leaves a norm squared; the mean update does not depend on b (baselines are free), so it is a constant in b.",
                relation="up to a constant",
                of="b_x",
                slips=("the exponent 2 dropped", "abs(nabla(log(p)))^2 dropped"),
            ),
            Line(
                r"\mathbb{E}\left[ |s|^2 r^2 \right] - 2 b\, \mathbb{E}\left[ |s|^2 r \right] + b^2\, \mathbb{E}\left[ |s|^2 \right], "
                r"\quad s = \nabla \log p_\pi",
                "Multiply the square out: a parabola in b.",
                slips=("2 dropped", "E[abs(s)^2] dropped"),
            ),
            Line(
                r"\frac{\partial}{\partial b}\, \mathbb{E}\left[ |s|^2 (r - b)^2 \right]",
                "Where is it lowest?  Its slope in b, by the gradient core.",
                relation="so",
            ),
            Line(
                r"2\, \mathbb{E}\left[ |s|^2 \right] (b - b^*), \quad b^* = \frac{\mathbb{E}[|s|^2 r]}{\mathbb{E}[|s|^2]}",
                "Differentiate the parabola and take 2 E|s|^2 out: the slope is 0 at b* only, negative before it and positive after it.",
                slips=(
                    "the mean of a product split",
                    "sign of b_star flipped",
                ),
                wrong={
                    "|s| for |s|^2 in b*": (
                        r"2\, \mathbb{E}\left[ |s|^2 \right] \left( b - \frac{\mathbb{E}[|s|\, r]}{\mathbb{E}[|s|]} "
                        r"\right)"
                    )
                },
            ),
            Line(r"\mathbb{E}\left[ |s|^2 (r - b^*)^2 \right]", "The least second moment.", relation="so"),
            Line(
                r"\mathbb{E}\left[ |s|^2 r^2 \right] - \frac{\mathbb{E}[|s|^2 r]^2}{\mathbb{E}[|s|^2]}",
                "Put b* into the parabola.",
                slips=("the term E[abs(s)^2*r]^2/E[abs(s)^2] dropped", "E[abs(s)^2] dropped"),
            ),
            Line(
                r"\mathbb{E}\left[ |s|^2 (r - b)^2 \right]",
                "A parabola that opens upward is nowhere lower than at b*: this is what any other b costs.",
                relation="<=",
                wrong={"as if score and reward were independent: E|s|^2 Var(r)": r"\mathbb{E}\left[ |s|^2 \right] \mathrm{Var}(r)"},
            ),
        ),
        letters={"b": "b_x"},
        setting={"prompts": "given"},
    )
)
