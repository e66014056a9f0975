r"""Chapter 8 as derivations: what a KL estimator pushes the policy to do, in the loss, in the reward, times a live ratio. The theorem
that names the divergence which an estimator in the loss descends.

L = log(p_pi/p_ref) and u = p_pi/p_ref of a response; score = grad log p_pi = grad L; E averages over x ~ mu and tau ~ p_pi.

h is any mixture of four estimators, c_1 k1 + c_2 k2 + c_3 k3 + c_4 (inverted k3), so that all go through every line
together.  L = log(p_pi/p_ref), u = p_pi/p_ref; E averages over x ~ mu and tau ~ p_pi.
"""

from __future__ import annotations

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sizes import slope_scale
from tabular_rlhf.terms.sources import TANG

AFFORDABLE = 40
"""Responses over all prompts: tables of gradients hold P N P S V numbers."""


# ---------------------------------------------------------------------------------------------------- kl-gradients

derivation(
    slug="kl-gradients",
    title="Differentiating a sampled KL: k1 does nothing, k2 descends KL(pi, ref), k3 descends KL(ref, pi)",
    chapter=8,
    rows=("kl-gradients",),
    source=TANG,
    largest=AFFORDABLE,
    scale=slope_scale,
    averaged=True,
    text=r"""
    \nabla\, \mathrm{KL}(p_\pi, p_{ref})  # What a KL term ought to push with (averaged over x ~ mu), by the gradient core.
    = \sum_x \mu(x) \sum_\tau L\, \nabla p_\pi + \sum_x \mu(x) \sum_\tau p_\pi\, \nabla L
        # The product rule for the sum of p L: the law of the draws moves, and so does the estimate.
      slip p_ref for p; p dropped
    = \mathbb{E}\left[ L \cdot \mathrm{score} \right] + \mathbb{E}\left[ \nabla k_1 \right], \quad k_1 = L
        # grad p = p score; and the second sum is what one gets by differentiating the sampled k1.
      slip sign flipped
      not \mathbb{E}\left[ p_\pi\, L \cdot \mathrm{score} \right] + \mathbb{E}\left[ \nabla k_1 \right]  # p twice
    in expectation \mathbb{E}\left[ L \cdot \mathrm{score} \right]
        # p_ref stands still, so grad k1 = score, of mean 0: k1 in the loss pushes nowhere, k1 in the reward is right.
      law log_p
      slip L dropped; sign flipped
    in expectation \mathbb{E}\left[ \nabla k_2 \right], \quad k_2 = \frac{L^2}{2}
        # The chain rule: grad (L^2/2) = L grad L = L score.  k2 in the loss descends KL(pi, ref), though its own mean is not KL.
      law log_p
      slip 2 dropped; k_3 for k_2; k_1 for k_2
    so \mathbb{E}\left[ \nabla k_3 \right], \quad k_3 = e^{-L} - 1 + L  # And k3 in the loss?
      law log_p
    in expectation \mathbb{E}\left[ (1 - e^{-L})\, \mathrm{score} \right]
        # The chain rule: the slope of exp(-L) - 1 + L in L is 1 - exp(-L).
      law log_p
      slip sign of exp(-L) flipped
      not k_3 \cdot \mathrm{score}  # k3 itself for its slope
      not L \cdot \mathrm{score}  # L, as for k2
    = -\mathbb{E}\left[ \frac{p_{ref}}{p_\pi}\, \mathrm{score} \right]  # exp(-L) = p_ref/p_pi, and the mean of the score is 0.
      slip p_ref/p inverted; sign flipped
    = -\sum_x \mu(x) \sum_\tau p_{ref}(\tau \mid x)\, \nabla \log p_\pi(\tau \mid x)
        # p_pi cancels: the mean under pi of p_ref/p_pi times something is its mean under pi_ref.
      slip log dropped; p for p_ref
    = \nabla\, \mathrm{KL}(p_{ref}, p_\pi)
        # KL(p_ref, p_pi) = sum of p_ref (log p_ref - log p_pi), where only log p_pi moves: k3 in the loss descends the forward KL.
      slip arguments of KL swapped; sign flipped
    """,
)

# ---------------------------------------------------------------------------------------------------- kl-placement


derivation(
    slug="kl-placement",
    title="k3 as a reward penalty is wrong; times a live ratio it is right",
    chapter=8,
    rows=("kl-placement",),
    source=TANG,
    largest=AFFORDABLE,
    scale=slope_scale,
    averaged=True,
    text=r"""
    let p_old = p_held
    \mathbb{E}\left[ k_3 \cdot \mathrm{score} \right]
        # k3 subtracted from the reward is a frozen number: its push is that of a policy gradient.
      law log_p
    = \mathbb{E}\left[ \left( \frac{p_{ref}}{p_\pi} - 1 + L \right) \mathrm{score} \right]
        # k3 = ratio - 1 - log ratio, with the ratio p_ref/p_pi = exp(-L).
      law log_p
      slip p_ref/p inverted
      not (1 - e^{-L})\, \mathrm{score}  # its slope, as in the loss
    = \mathbb{E}\left[ \frac{p_{ref}}{p_\pi}\, \mathrm{score} \right] + \mathbb{E}\left[ L \cdot \mathrm{score} \right]
        # A mean is linear, and E[score] = 0.
      slip p for p_ref; sign flipped
    = \sum_x \mu(x) \sum_\tau p_{ref}\, \nabla \log p_\pi + \nabla\, \mathrm{KL}(p_\pi, p_{ref})
        # In the first mean p_pi cancels; the second is grad KL(pi, ref), by kl-gradients.
      slip arguments of KL swapped
    = \nabla\, \mathrm{KL}(p_\pi, p_{ref}) - \nabla\, \mathrm{KL}(p_{ref}, p_\pi)
        # The sum is -grad KL(ref, pi).  The value of k3 is unbiased, its push is wrong, and may lead away from pi_ref.
      slip the term nabla(KL(p_ref, p)) dropped; sign of nabla(KL(p_ref, p)) flipped
      not \nabla\, \mathrm{KL}(p_{ref}, p_\pi)  # as in the loss: the forward KL
    so \mathbb{E}\left[ \nabla \left( \frac{p_\pi}{p_{old}}\, k_3 \right) \right]
        # Now k3 times a ratio that is differentiated too, with draws from p_old, which is p_pi, held.
    = \mathbb{E}\left[ k_3 \cdot \mathrm{score} \right] + \mathbb{E}\left[ \nabla k_3 \right]
        # The product rule; the ratio is 1 there, and its gradient is the score.
      slip the mean of a product split; the term E[nabla(k_3)] dropped
    = \nabla\, \mathrm{KL}(p_\pi, p_{ref}) - \nabla\, \mathrm{KL}(p_{ref}, p_\pi) + \nabla\, \mathrm{KL}(p_{ref}, p_\pi)
        # The first mean is that of the reward placement, just computed; the second that of the loss, by kl-gradients.
      not E_{x ~ mu}[nabla(KL(p, p_ref)) - nabla(KL(p_ref, p)) + nabla(KL(p, p_ref))]  # grad k3 taken for grad KL(pi, ref)
    = \nabla\, \mathrm{KL}(p_\pi, p_{ref})  # Both faults cancel: with a live ratio k3 is right.
      slip arguments of KL swapped
      not \nabla\, \mathbb{E}\left[ k_2 \right]  # the mean of k2
    so \mathbb{E}\left[ \nabla \left( \frac{p_\pi}{p_{old}}\, k_2 \right) \right]  # The same with k2.
    = \nabla\, \mathbb{E}\left[ k_2 \right]
        # The draws move too, so the mean itself is descended: right in the loss, k2 is wrong with a live ratio.
      slip k_1 for k_2; a factor 1/2 too many
    """,
)

derivation(
    slug="kl-estimator-theorem",
    title="Which divergence an estimator h(L) in the loss descends: any mixture of k1, k2, k3, inverted k3",
    chapter=8,
    rows=("kl-estimator-theorem",),
    source=f"{TANG}  Csiszar (1967) (f-divergences).",
    largest=AFFORDABLE,
    scale=slope_scale,
    averaged=True,
    text=r"""
    let c_1 = mix_1; c_2 = mix_2; c_3 = mix_3; c_4 = mix_4; h(z) = c_1*z + c_2*z^2/2 + c_3*(exp(-z) - 1 + z) + c_4*(exp(z) - 1 - z);
        h'(z) = c_1 + c_2*z + c_3*(1 - exp(-z)) + c_4*(exp(z) - 1);
        f(v) = c_1*(v - 1) + c_2*(v*log(v) - v + 1) + c_3*(v - 1 - log(v)) + c_4*(v - 1)^2/2
    \mathbb{E}\left[ \nabla h(L) \right]
        # The sampled loss h, differentiated draw by draw with the draws held, on average; h is any mixture of k1, k2, k3 and the inverted
        k3.
      law log_p
    in expectation \mathbb{E}\left[ h'(L)\, \nabla \log p_\pi \right]  # The chain rule; L = log p_pi - log p_ref, and p_ref stands still.
      law log_p
      slip h'(L) dropped
      not h(L)\, \nabla \log p_\pi  # h for its slope h'
    = \sum_x \mu(x) \sum_\tau h'(\log u)\, \nabla p_\pi, \quad u = \frac{p_\pi}{p_{ref}}  # The mean written out, and p grad log p = grad p.
      slip log dropped
      not \sum_x \mu(x) \sum_\tau p_\pi\, h'(\log u)\, \nabla p_\pi  # p kept beside its own gradient
    = \sum_x \mu(x) \sum_\tau p_{ref}\, h'(\log u)\, \nabla u  # p_pi = p_ref u, and p_ref stands still: grad p = p_ref grad u.
      slip p for p_ref; p_ref dropped
    = \sum_x \mu(x) \sum_\tau p_{ref}\, \frac{d f(u)}{d u}\, \nabla u
        # f is the integral of h'(log u) from 1; its slope by the gradient core.
      not \sum_x \mu(x) \sum_\tau p_{ref}\, \frac{h'(\log u)}{u}\, \nabla u  # f(u) = h(log u): its own slope h'(log u)/u
      not \sum_x \mu(x) \sum_\tau p_{ref}\, f(u)\, \nabla u  # f for f'
    = \nabla \sum_x \mu(x) \sum_\tau p_{ref}\, f(u)
        # The chain rule backwards: that is the gradient of an f-divergence, D_f(p_pi, p_ref), by the gradient core.
      not \nabla \sum_x \mu(x) \sum_\tau p_\pi\, h(\log u)  # the mean of h itself descended
      not \nabla \sum_x \mu(x) \sum_\tau p_\pi\, f(p_{ref}/p_\pi)  # the arguments exchanged: D_f(ref, pi)
    = c_2\, \nabla\, \mathrm{KL}(p_\pi, p_{ref}) + c_3\, \nabla\, \mathrm{KL}(p_{ref}, p_\pi) + \frac{c_4}{2}\, \nabla\,
        \mathbb{E}_{ref}[u^2]
        # Terms linear in u add up to a constant, because the sum of p_ref u is 1: k1 descends nothing, k2 the reverse KL, k3 the forward
        KL, the inverted k3 half of chi^2.
      slip 2 dropped
      not (c_1 + c_2)\, \nabla\, \mathrm{KL}(p_\pi, p_{ref}) + c_3\, \nabla\, \mathrm{KL}(p_{ref}, p_\pi) + \frac{c_4}{2}\, \nabla\,
        \mathbb{E}_{ref}[u^2]
        # k1 descends KL
      not c_2\, \nabla\, \mathbb{E}_p\left[ \frac{L^2}{2} \right] + c_3\, \nabla\, \mathrm{KL}(p_{ref}, p_\pi) + \frac{c_4}{2}\, \nabla\,
        \mathbb{E}_{ref}[u^2]
        # k2 descends its own mean
      not (c_2 + c_3)\, \nabla\, \mathrm{KL}(p_\pi, p_{ref}) + \frac{c_4}{2}\, \nabla\, \mathbb{E}_{ref}[u^2]  # k3: reverse for forward KL
    """,
)
