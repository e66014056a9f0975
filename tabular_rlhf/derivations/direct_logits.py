r"""Chapter 6 as a derivation: what gradient descent on DPO's loss conserves.

Data are finite: some responses of a prompt are compared, others never.  Compared responses are linked;
c numbers the components of these links.
"""

from __future__ import annotations

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.losses.evaluate import gradient
from tabular_rlhf.preferences.chains import finite_data
from tabular_rlhf.terms.comparisons import component_sums, drift, log_p_rate
from tabular_rlhf.terms.sizes import size_of

# ---------------------------------------------------------------------------------------------------- logit-conservation


derivation(
    slug="logit-conservation",
    title="Descent on DPO's loss only moves logits within a component of compared responses",
    chapter=6,
    rows=("logit-conservation",),
    source="Ours: the gradient in log p sums to zero over each component, so the softmax adds nothing.",
    largest=60,
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    named={
        "also_with_an_nll_term_on_the_win": lambda world, log_p: component_sums(world, gradient("cpo", world, log_p, finite_data(world))),
        "of_log_pi_for_logits": lambda world, log_p: component_sums(world, log_p_rate(world, log_p)),
        "also_with_absolute_terms_nca": lambda world, log_p: drift(world, log_p, "nca-pair"),
    },
    text=r"""
    let omega = wins_chain; c = component
    g_y = \frac{\partial \Lambda}{\partial \ell_y}, \quad \Lambda = -\sum_x \sum_{w, l} \omega_{wl} \log \sigma(\hat r_w - \hat r_l), \quad
        \hat r = \beta (\ell - \log p_{ref}), \quad \ell = \log p
        # Lambda is the loss on finite data, omega_wl the share of comparisons that w won of l; its slope in one log-probability l_y while
        the others are held, by the gradient core.
    = -\beta \sum_{l} \omega_{yl}\, \sigma(\hat r_l - \hat r_y) + \beta \sum_{w} \omega_{wy}\, \sigma(\hat r_y - \hat r_w)
        # Each pair, of weight omega, pushes its winner down the slope and its loser up it, equally hard (dpo-gradient): y where it won, and
        where it lost.
      not -\beta \sum_{l} \omega_{yl}\, \sigma(\hat r_l - \hat r_y) - \beta \sum_{w} \omega_{wy}\, \sigma(\hat r_y - \hat r_w)
        # both pushed up
      not -\beta \sum_{l} \omega_{yl}\, \sigma(\hat r_y - \hat r_l) + \beta \sum_{w} \omega_{wy}\, \sigma(\hat r_w - \hat r_y)
        # sigma of the right order
      not -\sum_{l} \omega_{yl}\, \sigma(\hat r_l - \hat r_y) + \sum_{w} \omega_{wy}\, \sigma(\hat r_y - \hat r_w)  # beta dropped
    so \sum_{y' :\, c(y') = c(y)} g_{y'}
        # Add up over a component of the comparison graph, c(y) its number; shown beside each of its responses.
    = -\beta \sum_{w :\, c(w) = c(y)} \sum_{l :\, c(l) = c(y)} \omega_{wl}\, \sigma(\hat r_l - \hat r_w) (1 - 1)
        # Both ends of a pair are in the same component: it enters once with + and once with -.
      not -\beta \sum_{w :\, c(w) = c(y)} \sum_{l :\, c(l) = c(y)} \omega_{wl}\, \sigma(\hat r_l - \hat r_w)  # winners alone
      not -\beta \sum_{w :\, c(w) = c(y)} \sum_{l :\, c(l) = c(y)} \omega_{wl}\, \sigma(\hat r_l - \hat r_w) (1 + 1)  # losers added
    = 0  # 1 - 1 = 0, whatever the weights.
      not @also_with_an_nll_term_on_the_win  # also with an NLL term on the winners
    so \frac{\partial \Lambda}{\partial \theta_y}, \quad \ell(y) = \theta(y) - \log \sum_{y'} e^{\theta(y')}, \quad \theta = \log p
        # What descends are logits, and one logit moves every log-probability of its prompt.
    = \sum_{y'} g_{y'} \left( 1_{y' = y} - p(y) \right)  # Chain rule: theta_y raises log p(y) by 1 - p(y), and lowers every other by p(y).
      not g_y \left( 1 - p(y) \right)  # its own log-probability alone
      not g_y\, p(y)  # raised by pi(y)
    = g_y - p(y) \sum_{y'} g_{y'}  # Take p(y), which does not depend on y', out of the sum.
      not g_y - p(y)\, g_y  # the sum taken for g_y
    = g_y  # Line 5 for every component: all g of a prompt add up to 0, so the softmax adds nothing.
      not g_y + p(y)  # the logit of a response never compared falls
    so -\sum_{y' :\, c(y') = c(y)} \frac{\partial \Lambda}{\partial \theta_{y'}}
        # Gradient flow moves every logit by minus its slope, and the sum of those of a component by minus the sum; by the gradient core.
    = 0  # By lines 9 and 5 the sum of the logits of a component is conserved; a response that was never compared keeps its logit.
      not @of_log_pi_for_logits  # of log pi for logits
      not @also_with_absolute_terms_nca  # also with absolute terms (NCA)
    """,
)
