r"""Chapter 6 as a derivation: with certain labels IPO's optimum stays finite, and what it is.

h = log(pi/pi_ref), on the responses that pi_ref allows; M_ij is 1 if i is better than j, 1/2 for equal ones; both responses of a pair
are drawn from pi_ref, and P(i beats pi_ref) is the mean of M_ij over j.  tau is IPO's own weight; here it has the value of beta.
"""

from __future__ import annotations

import numpy as np

from tabular_rlhf.derivations.direct import rhat
from tabular_rlhf.derivations.direct_optimum import AZAR, told_apart
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.comparisons import ipo_closed

# ---------------------------------------------------------------------------------------------------- ipo-two-arms


derivation(
    slug="ipo-two-arms",
    title="Certain labels: IPO stops at a tilt by win rates, sigma(1/(2 tau)) for two arms",
    chapter=6,
    rows=("ipo-two-arms", "dpo-deterministic-labels"),
    source=AZAR,
    largest=12,
    where=told_apart,
    scale=lambda log_p, log_p_ref, beta: 8.0 * (1.0 + 1.0 / beta + float(np.max(np.abs(rhat(log_p, log_p_ref, 1.0))))),
    setting={"people": "M"},
    named={"responses_drawn_uniformly": lambda world, p_ref, beta: ipo_closed(world, beta, np.ones_like(p_ref) / p_ref.shape[1])},
    text=r"""
    let tau = beta; pi = p; pi_ref = p_ref; M = 1[r(tau) > r(tau')] + 1/2*1[r(tau) = r(tau')]; p_IPO = p_ipo; q_w = ipo_arm
    \frac{\partial}{\partial h_i}\, \mathbb{E}\left[ \left( h_w - h_l - \frac{1}{2 \tau} \right)^2 \right], \quad h =
        \log\frac{\pi}{\pi_{ref}}
        # The slope of IPO's loss in the log-ratio of one response, by the gradient core. The better response always wins, and tau has the
        value of beta.
    = 2 \mu\, p_{ref, i} \sum_j p_{ref, j} \left[ 2 M_{ij} \left( h_i - h_j - \frac{1}{2 \tau} \right) - 2 M_{ji} \left( h_j - h_i -
        \frac{1}{2 \tau} \right) \right]
        # i is the winner of some pairs and the loser of others; the pair (i, j) has weight 2 mu p_ref(i) p_ref(j) M_ij.
      slip the term 2*M(j, i)*(h(j) - h(i) - 1/(2*tau)) dropped; sign of 2*M(j, i)*(h(j) - h(i) - 1/(2*tau)) flipped
      not 2 \mu\, p_{ref, i} \sum_j p_{ref, j} \left[ 2 M_{ij} \left( h_i - h_j - \frac{1}{\tau} \right) - 2 M_{ji} \left( h_j - h_i -
        \frac{1}{\tau} \right) \right]
        # 1/tau for 1/(2 tau)
    = 4 \mu\, p_{ref, i} \sum_j p_{ref, j} \left[ h_i - h_j - \frac{M_{ij} - M_{ji}}{2 \tau} \right]
        # Somebody wins: M_ij + M_ji = 1, so h_i - h_j has weight 1 whoever does; the targets keep their signs.
      slip sign of M(j, i) flipped; 2 for 4
    = 4 \mu\, p_{ref, i} \left[ h_i - \mathbb{E}_{ref}[h] - \frac{1}{\tau} \left( P(i \succ \pi_{ref}) - \frac{1}{2} \right) \right]
        # Average over j: M_ij becomes P(i beats pi_ref), M_ji one minus that, and their difference twice P - 1/2.
      slip the term 1/2 dropped; 0.5 for 1; sign of 1/tau*(P(i succ pi_ref) - 1/2) flipped
    so p_{IPO}(y)
        # At the minimum the bracket is 0 for every i that pi_ref allows, so h_i is P(i beats pi_ref)/tau plus a constant. By Newton's
        method p_IPO is where the loss is least:
    = \frac{\pi_{ref}(y)\, e^{P(y \succ \pi_{ref})/\tau}}{\sum_{y'} \pi_{ref}(y')\, e^{P(y' \succ \pi_{ref})/\tau}}
        # The constant normalizes. Win rates lie between 0 and 1, so no log-ratio moves by more than 1/tau: tau keeps its hold.
      error 1e-08
      slip tau for tau'
      not \frac{\pi_{ref}(y)\, e^{P(y \succ \pi_{ref})/(2 \tau)}}{\sum_{y'} \pi_{ref}(y')\, e^{P(y' \succ \pi_{ref})/(2 \tau)}}
        # 1/(2 tau) for 1/tau
      not p_star(y)  # the reward for the win rate: p*
      not @responses_drawn_uniformly  # responses drawn uniformly
    so q_w
        # Two arms, equally likely at first, of which one always wins: the winner's probability where the loss is least, by Newton's method.
    = \frac{e^{3/(4 \tau)}}{e^{3/(4 \tau)} + e^{1/(4 \tau)}}
        # Against pi_ref the winner wins 1/2 + 1/4 = 3/4 (it meets itself half the time), the loser 1/4.
      error 1e-09
      slip the term exp(1/(4*tau)) dropped
      not exp(3/(4*tau))/(exp(3/(4*tau)) + exp(-1/(4*tau)))  # it never meets itself: 1 and 0
    = \sigma\left( \frac{1}{2 \tau} \right)
        # Divide by the numerator: 3/4 - 1/4 = 1/2. Exactly the margin 1/(2 tau) that IPO's square asks for.
      slip 2 for 1; divided by tau where one multiplies; sign within sigma flipped
    """,
)
