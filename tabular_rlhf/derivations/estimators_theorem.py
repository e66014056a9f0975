r"""Chapter 8 as derivations, continued: the theorem that names the divergence which an estimator in the loss descends.

h is any mixture of four estimators, c_1 k1 + c_2 k2 + c_3 k3 + c_4 (inverted k3), so that all go through every line
together.  L = log(p_pi/p_ref), u = p_pi/p_ref; E averages over x ~ mu and tau ~ p_pi.
"""

from __future__ import annotations

from tabular_rlhf.derivations.estimators_gradients import AFFORDABLE
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sizes import slope_scale
from tabular_rlhf.terms.sources import TANG

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
