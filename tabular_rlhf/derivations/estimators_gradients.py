r"""Chapter 8 as derivations, continued: what a KL estimator pushes the policy to do, in the loss, in the reward, times a live ratio.

L = log(p_pi/p_ref) and u = p_pi/p_ref of a response; score = grad log p_pi = grad L; E averages over x ~ mu and tau ~ p_pi.
"""

from __future__ import annotations

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.terms.sizes import slope_scale
from tabular_rlhf.terms.sources import TANG

AFFORDABLE = 40
"""Responses over all prompts: tables of gradients hold P N P S V numbers."""


# ---------------------------------------------------------------------------------------------------- kl-gradients

add(
    Derivation(
        slug="kl-gradients",
        title="Differentiating a sampled KL: k1 does nothing, k2 descends KL(pi, ref), k3 descends KL(ref, pi)",
        chapter=8,
        rows=("kl-gradients",),
        source=TANG,
        largest=AFFORDABLE,
        scale=slope_scale,
        lines=(
            Line(
                r"\nabla\, \mathrm{KL}(p_\pi, p_{ref})", "What a KL term ought to push with (averaged over x ~ mu), by the gradient core."
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau L\, \nabla p_\pi + \sum_x \mu(x) \sum_\tau p_\pi\, \nabla L",
                "The product rule for the sum of p L: the law of the draws moves, and so does the estimate.",
                slips=("p_ref for p", "p dropped"),
            ),
            Line(
                r"\mathbb{E}\left[ L \cdot \mathrm{score} \right] + \mathbb{E}\left[ \nabla k_1 \right], \quad k_1 = L",
                "grad p = p score; and the second sum is what one gets by differentiating the sampled k1.",
                slips=("sign flipped",),
                wrong={
                    "p twice": (
                        r"\mathbb{E}\left[ p_\pi\, L \cdot \mathrm{score} \right] + \mathbb{E}\left[ "
                        r"\nabla k_1 \right]"
                    )
                },
            ),
            Line(
                r"\mathbb{E}\left[ L \cdot \mathrm{score} \right]",
                "p_ref stands still, so grad k1 = score, of mean 0: k1 in the loss pushes nowhere, k1 in the reward is right.",
                relation="in expectation",
                law="log_p",
                slips=("L dropped", "sign flipped"),
            ),
            Line(
                r"\mathbb{E}\left[ \nabla k_2 \right], \quad k_2 = \frac{L^2}{2}",
                "The chain rule: grad (L^2/2) = L grad L = L score.  k2 in the loss descends KL(pi, ref), though its own mean is not KL.",
                relation="in expectation",
                law="log_p",
                slips=("2 dropped", "k_3 for k_2", "k_1 for k_2"),
            ),
            Line(r"\mathbb{E}\left[ \nabla k_3 \right], \quad k_3 = e^{-L} - 1 + L", "And k3 in the loss?", relation="so", law="log_p"),
            Line(
                r"\mathbb{E}\left[ (1 - e^{-L})\, \mathrm{score} \right]",
                "The chain rule: the slope of exp(-L) - 1 + L in L is 1 - exp(-L).",
                relation="in expectation",
                law="log_p",
                slips=("sign of exp(-L) flipped",),
                wrong={"k3 itself for its slope": r"k_3 \cdot \mathrm{score}", "L, as for k2": r"L \cdot \mathrm{score}"},
            ),
            Line(
                r"-\mathbb{E}\left[ \frac{p_{ref}}{p_\pi}\, \mathrm{score} \right]",
                "exp(-L) = p_ref/p_pi, and the mean of the score is 0.",
                slips=(
                    "p_ref/p inverted",
                    "sign flipped",
                ),
            ),
            Line(
                r"-\sum_x \mu(x) \sum_\tau p_{ref}(\tau \mid x)\, \nabla \log p_\pi(\tau \mid x)",
                "p_pi cancels: the mean under pi of p_ref/p_pi times something is its mean under pi_ref.",
                slips=("log dropped", "p for p_ref"),
            ),
            Line(
                r"\nabla\, \mathrm{KL}(p_{ref}, p_\pi)",
                "KL(p_ref, p_pi) = sum of p_ref (log p_ref - log p_pi), where only log p_pi moves: k3 in the loss descends the forward KL.",
                slips=("arguments of KL swapped", "sign flipped"),
            ),
        ),
        averaged=True,
    )
)

# ---------------------------------------------------------------------------------------------------- kl-placement


add(
    Derivation(
        slug="kl-placement",
        title="k3 as a reward penalty is wrong; times a live ratio it is right",
        chapter=8,
        rows=("kl-placement",),
        source=TANG,
        largest=AFFORDABLE,
        scale=slope_scale,
        lines=(
            Line(
                r"\mathbb{E}\left[ k_3 \cdot \mathrm{score} \right]",
                "k3 subtracted from the reward is a frozen number: its push is that of a policy gradient.",
                law="log_p",
            ),
            Line(
                r"\mathbb{E}\left[ \left( \frac{p_{ref}}{p_\pi} - 1 + L \right) \mathrm{score} \right]",
                "k3 = ratio - 1 - log ratio, with the ratio p_ref/p_pi = exp(-L).",
                law="log_p",
                slips=("p_ref/p inverted",),
                wrong={"its slope, as in the loss": r"(1 - e^{-L})\, \mathrm{score}"},
            ),
            Line(
                r"\mathbb{E}\left[ \frac{p_{ref}}{p_\pi}\, \mathrm{score} \right] + \mathbb{E}\left[ L \cdot \mathrm{score} \right]",
                "A mean is linear, and E[score] = 0.",
                slips=("p for p_ref", "sign flipped"),
            ),
            Line(
                r"\sum_x \mu(x) \sum_\tau p_{ref}\, \nabla \log p_\pi + \nabla\, \mathrm{KL}(p_\pi, p_{ref})",
                "In the first mean p_pi cancels; the second is grad KL(pi, ref), by kl-gradients.",
                slips=("arguments of KL swapped",),
            ),
            Line(
                r"\nabla\, \mathrm{KL}(p_\pi, p_{ref}) - \nabla\, \mathrm{KL}(p_{ref}, p_\pi)",
                "The sum is -grad KL(ref, pi).  The value of k3 is unbiased, its push is wrong, and may lead away from pi_ref.",
                slips=(
                    "the term nabla(KL(p_ref, p)) dropped",
                    "sign of nabla(KL(p_ref, p)) flipped",
                ),
                wrong={"as in the loss: the forward KL": r"\nabla\, \mathrm{KL}(p_{ref}, p_\pi)"},
            ),
            Line(
                r"\mathbb{E}\left[ \nabla \left( \frac{p_\pi}{p_{old}}\, k_3 \right) \right]",
                "Now k3 times a ratio that is differentiated too, with draws from p_old, which is p_pi, held.",
                relation="so",
            ),
            Line(
                r"\mathbb{E}\left[ k_3 \cdot \mathrm{score} \right] + \mathbb{E}\left[ \nabla k_3 \right]",
                "The product rule; the ratio is 1 there, and its gradient is the score.",
                slips=("the mean of a product split", "the term E[nabla(k_3)] dropped"),
            ),
            Line(
                r"\nabla\, \mathrm{KL}(p_\pi, p_{ref}) - \nabla\, \mathrm{KL}(p_{ref}, p_\pi) + \nabla\, \mathrm{KL}(p_{ref}, p_\pi)",
                "The first mean is that of the reward placement, just computed; the second that of the loss, by kl-gradients.",
                wrong={"grad k3 taken for grad KL(pi, ref)": "E_{x ~ mu}[nabla(KL(p, p_ref)) - nabla(KL(p_ref, p)) + nabla(KL(p, p_ref))]"},
            ),
            Line(
                r"\nabla\, \mathrm{KL}(p_\pi, p_{ref})",
                "Both faults cancel: with a live ratio k3 is right.",
                slips=("arguments of KL swapped",),
                wrong={"the mean of k2": r"\nabla\, \mathbb{E}\left[ k_2 \right]"},
            ),
            Line(
                r"\mathbb{E}\left[ \nabla \left( \frac{p_\pi}{p_{old}}\, k_2 \right) \right]",
                "The same with k2.",
                relation="so",
            ),
            Line(
                r"\nabla\, \mathbb{E}\left[ k_2 \right]",
                "The draws move too, so the mean itself is descended: right in the loss, k2 is wrong with a live ratio.",
                slips=("k_1 for k_2", "a factor 1/2 too many"),
            ),
        ),
        letters={"p_old": "p_held"},
        averaged=True,
    )
)
