r"""Chapter 5 as derivations: Pythagoras for the I-projection, and the arc of Gibbs laws from p_ref to p*."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.optimum import full_support
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sizes import deepest
from tabular_rlhf.terms.sources import CSISZAR

# ---------------------------------------------------------------------------------------------------- i-projection


def in_nats(r: Any, beta: float, log_p_star: Any, log_p_ref: Any) -> float:
    """The size of a term: a log-probability, or a reward over beta."""
    return deepest(log_p_star, log_p_ref) + float(np.max(np.abs(r))) / beta


derivation(
    slug="i-projection",
    title="Pythagoras: p* is the nearest to p_ref of all laws with its mean reward",
    chapter=5,
    rows=("i-projection",),
    source=CSISZAR,
    scale=in_nats,
    text=r"""
    let q = p_level
    \mathrm{KL}(p, p_{ref}) = \sum_\tau p(\tau) \log\frac{p(\tau)}{p_{ref}(\tau)}
        # Begin with any law p that p_ref covers, for each prompt.
    = \sum_\tau p(\tau) \left( \log\frac{p(\tau)}{p^*(\tau)} + \log\frac{p^*(\tau)}{p_{ref}(\tau)} \right)
        # Multiply and divide by p* inside the logarithm.
      slip p(tau)/p_star(tau) inverted; sign of log(p_star(tau)/p_ref(tau)) flipped
    = \mathrm{KL}(p, p^*) + \sum_\tau p(\tau) \log\frac{p^*(\tau)}{p_{ref}(\tau)}
        # The first ratio, averaged under p, is a KL; the second is not, because its average is not under p*.
      slip arguments of KL swapped
      not KL(p, p_star) + sum_{tau} p_star(tau)*log(p_star(tau)/p_ref(tau))
        # the second average taken for KL(p*, p_ref): no hypothesis used
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \sum_\tau (p(\tau) - p^*(\tau)) \log\frac{p^*(\tau)}{p_{ref}(\tau)}
        # Add and subtract the average under p*, which is the KL that we want. The last sum is the cross term.
      slip sign of sum_{tau} (p(tau) - p_star(tau))*log(p_star(tau)/p_ref(tau)) flipped
      not KL(p, p_star) + KL(p_ref, p_star) + sum_{tau} (p(tau) - p_star(tau))*log(p_star(tau)/p_ref(tau))  # the second leg reversed
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \sum_\tau (p(\tau) - p^*(\tau)) \left( \frac{r(\tau)}{\beta} - \log Z \right)
        # Put in p* = p_ref exp(r/beta)/Z: this is where it matters that p* is a Gibbs law.
      slip multiplied by beta where one divides
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \frac{1}{\beta} \left( \sum_\tau p(\tau) r(\tau) - \sum_\tau p^*(\tau) r(\tau)
        \right) - \log Z \left( \sum_\tau p(\tau) - \sum_\tau p^*(\tau) \right)
        # beta and Z do not depend on the response.
      slip log(Z) taken away, which is too much; the term sum_{tau} p_star(tau)*r(tau) dropped
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \frac{1}{\beta} \left( \mathbb{E}_p[r] - \mathbb{E}_{p^*}[r] \right)
        # Both laws sum to one. This holds for every p.
      slip a mean under p_ref where one under p_star is due; 1/beta dropped; a mean under p_star where one under p is due
    so \frac{1}{\beta} \left( \mathbb{E}_q[r] - \mathbb{E}_{p^*}[r] \right), \quad \mathbb{E}_q[r] = \mathbb{E}_{p^*}[r]
        # Now a law q that has the mean reward of p*, not any law p: what is left of the cross term?
    = 0  # Nothing: that is the hypothesis.
      not 1/beta*(E_{q}[r] - E_{p_ref}[r])  # the mean of p_ref is no substitute
    so \mathrm{KL}(p^*, p_{ref})  # Go back to line 7, now without its cross term.
    <= \mathrm{KL}(q, p^*) + \mathrm{KL}(p^*, p_{ref})  # A KL is never negative, and 0 only at q = p*.
      slip sign flipped
    = \mathrm{KL}(q, p_{ref})  # This is line 7 for q: p* is the I-projection of p_ref, the nearest law of its mean reward.
      slip arguments of KL swapped
      not KL(p, p_ref)  # any law, off the set
    """,
)

# ---------------------------------------------------------------------------------------------------- e-geodesic


derivation(
    slug="e-geodesic",
    title="The Gibbs laws of all beta are one exponential arc from p_ref",
    chapter=5,
    rows=("e-geodesic",),
    source=CSISZAR,
    where=lambda log_p_ref, log_p_star: full_support(log_p_ref) and deepest(log_p_star) < 300,
    scale=in_nats,
    text=r"""
    let p_t = p_ref*exp(t*r/beta)/Z_t; Z_t = sum_tau p_ref(tau)*exp(t*r(tau)/beta)
    \log p_t(\tau), \quad p_t = \frac{p_{ref}\, e^{t r/\beta}}{Z_t}
        # The Gibbs law at beta/t: p_ref at t = 0, p* at t = 1.  Every response is possible under p_ref.
    = \log p_{ref}(\tau) + t\, \frac{r(\tau)}{\beta} - \log Z_t  # The logarithm of a product is a sum.
      not log(p_ref(tau)*exp(t*beta*r(tau))/(sum_{tau'} p_ref(tau')*exp(t*beta*r(tau'))))  # beta for 1/beta
      not log(p_ref(tau)) + t*r(tau)/beta - log(Z)  # Z of t = 1 for Z_t
    = \log p_{ref}(\tau) + t \left( \log\frac{p^*(\tau)}{p_{ref}(\tau)} + \log Z \right) - \log Z_t
        # Read p* = p_ref exp(r/beta)/Z backwards: r/beta = log(p*/p_ref) + log Z.
      slip Z omitted
    = (1 - t) \log p_{ref}(\tau) + t \log p^*(\tau) - (\log Z_t - t \log Z)
        # Collect the terms of each law; what does not depend on the response stands in the bracket.
      not (1 - t)*log(p_star(tau)) + t*log(p_ref(tau)) - (log(Z_t) - t*log(Z))  # the weights exchanged
      not (1 - t)*log(p_ref(tau)) + t*log(p_star(tau)) - (log(Z_t) - log(Z))  # t forgotten at log Z
    = (1 - t) \log p_{ref}(\tau) + t \log p^*(\tau) - \log \sum_{\tau'} p_{ref}(\tau')^{1-t}\, p^*(\tau')^t
        # The bracket is what makes the law sum to one: a straight line in log-probabilities, normalized again.
      slip the term log(sum_{tau'} p_ref(tau')^{1 - t}*p_star(tau')^{t}) dropped
      not log((1 - t)*p_ref(tau) + t*p_star(tau))  # probabilities mixed for log-probabilities
    so \frac{d}{ds} \log q(\tau), \quad q \propto p_{ref}\, e^{s\, r}, \quad s = \frac{1}{\beta}
        # The velocity on the arc, in s = 1/beta, where q is p*; by the gradient core.
    = r(\tau) - \frac{d}{ds} \log \sum_{\tau'} p_{ref}(\tau')\, e^{s\, r(\tau')}
        # p_ref does not move with s, and s r has slope r; the sum that normalizes q does move.
      not r(tau)  # Z taken for a constant
    = r(\tau) - \frac{1}{Z} \sum_{\tau'} p_{ref}(\tau')\, r(\tau')\, e^{r(\tau')/\beta}
        # The chain rule: d log Z = dZ/Z, and each exponential brings down its r.
      slip 1/Z dropped; r(tau') dropped
    = r(\tau) - \mathbb{E}_{p^*}[r]  # p_ref exp(r/beta)/Z is p*: the velocity is the reward, centered where one stands.
      slip a mean under p_ref where one under p_star is due; divided by beta, which is too much
    """,
)
