r"""Chapter 3 as derivations, continued: when a finite Bradley-Terry fit exists.

The data are counts: w_ij (and v_ij) is how often i beat j.  Two designs are made from the drawn counts: one in which a group
A was never beaten from outside, and one in which a chain of wins leads from each response to each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.fitting import FORD
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.comparisons import nll

# ---------------------------------------------------------------------------------------------------- bt-existence


def slope_at_fit(scores_ring: Any, wins_ring: Any) -> Any:
    """The slope of the NLL at the fitted scores, to eight decimals: beyond those Newton's method leaves noise of the processor's own."""
    return np.round(grad(nll)(scores_ring, wins_ring), 8) + 0.0


derivation(
    slug="bt-existence",
    title="When a finite Bradley-Terry fit exists: no group may go unbeaten",
    chapter=3,
    rows=("bt-existence",),
    source=FORD,
    where=lambda N: N >= 2,
    largest=24,
    scale=lambda wins_ring, scores: np.sum(wins_ring) * (1.0 + np.max(np.abs(scores))),
    named={
        "slope_at_fit": slope_at_fit,
        "line_12": lambda r: np.zeros_like(r),
        "never_the_slope_only_fades": lambda wins_ring: grad(nll)(np.zeros(wins_ring.shape[:2]), wins_ring),
    },
    text=r"""
    let w = wins_A; A = group_A; D = scores(i) + far*group_A(i) - scores(j) - far*group_A(j);
        NLL(z) = -(sum_i sum_j w(i, j)*log(sigma(z(i) - z(j)))); t = far; v = wins_ring; b = scores_ring
    \frac{d}{dt}\, \mathrm{NLL}(\hat r + t\, 1_A)
        # First the bad case: counts w_ij of wins of i over j in which a group A was never beaten from outside. Raise its scores by t.
    = -\sum_{i, j} w_{ij}\, \sigma(-D_{ij})\, (1[i \in A] - 1[j \in A])
        # The slope of log sigma is sigma(-D), and D_ij, the gap of i and j at r^ + t 1_A, moves by the difference of the two memberships.
      slip sign flipped; sign within sigma flipped
      not -(sum_{i, j} w(i, j)*sigma(r_hat(j) - r_hat(i))*(A(i) - A(j)))  # D at t = 0
    = -\sum_{i \in A,\, j \notin A} w_{ij}\, \sigma(-D_{ij}) + \sum_{i \notin A,\, j \in A} w_{ij}\, \sigma(-D_{ij})
        # Inside A, and outside it, both scores move together or not at all: those pairs drop out.
      not -sum_{i: A(i) > 0, j: A(j) <= 1} w(i, j)*sigma(-D(i, j)) + sum_{i: A(i) <= 0, j: A(j) > 0} w(i, j)*sigma(-D(i, j))
        # pairs inside A kept
      not -(sum_{i, j} w(i, j)*sigma(-D(i, j))*(1 - A(i)*(1 - A(j))))  # pairs that move kept out, the others in
    = -\sum_{i \in A,\, j \notin A} w_{ij}\, \sigma(-D_{ij})  # Nobody outside ever beat one of A, so every count in the second sum is 0.
      slip 1 for 0; sigma(-D(i, j)) dropped
    <= 0  # Downhill for every t, if A ever won outside: no finite t is the best. (If it never did, t is simply not determined.)
      not -(sum_{i, j} w(i, j)*A(i)*(1 - A(j)))  # as steep as the number of wins, for ever
    so \mathrm{NLL}(\hat r + t\, 1_A)  # How far down does it go?
    in the limit -\sum_{i, j \in A} w_{ij} \log \sigma(D_{ij}) - \sum_{i, j \notin A} w_{ij} \log \sigma(D_{ij})
        # As t grows the wins of A outside become certain and cost nothing: a value that is approached and not attained.
      along far 0 8 64
      not NLL(r_hat)  # its value at t = 0
      not -sum_{i: A(i) > 1, j: A(j) > 0} w(i, j)*log(sigma(D(i, j))) - sum_{i: A(i) <= -1, j: A(j) <= 0} w(i, j)*log(sigma(D(i, j)))
        # everything explained: 0
    so v_{min} \log\left( 1 + e^{\Delta / (N - 1)} \right), \quad \Delta = \max_{i, j: i \ne j} (\hat r_i - \hat r_j), \quad v_{min} =
        \min_{i, j: v_{ij} > 0} v_{ij}
        # Now the good case: other counts v_ij, in which a chain of wins leads from each to each. N scores span Delta, so somewhere two
        neighbors in their order are Delta/(N - 1) apart or more; v_min is the smallest count above 0.
    <= v_{min} \max_{i, j: v_{ij} > 0} \left( -\log \sigma(\hat r_i - \hat r_j) \right)
        # Those above that gap were beaten from below it: some win was observed against a lead of at least Delta/(N - 1).
      not v_min*min_{i, j: v(i, j) > 0}(-log(sigma(r_hat(i) - r_hat(j))))  # the best explained win for the worst
      not -v_min*log(sigma(Delta))  # that win taken for one with the lead
    <= -\sum_{i, j} v_{ij} \log \sigma(\hat r_i - \hat r_j)
        # One term of a sum of terms that are not negative. So the NLL grows without bound as the scores spread: its low levels are bounded,
        and somewhere on them it has a minimum.
      not -(sum_{i, j} v(i, j)*log(sigma(r_hat(i) - r_hat(j))))/(sum_{i, j} v(i, j))  # the mean for the sum
    so \frac{\partial}{\partial b_k} \Big( -\sum_{i, j} v_{ij} \log \sigma(b_i - b_j) \Big)
        # A program finds it: here are the slopes at the fitted scores b, where Newton's method stopped, to eight decimals.
      value @slope_at_fit
    = 0  # A finite minimum, and by bt-score-hessian (convex, flat only along the shift) the only one up to a shift.
      value @line_12
      error 1e-08
      not @never_the_slope_only_fades  # never: the slope only fades
    """,
)
