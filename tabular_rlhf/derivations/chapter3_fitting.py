r"""Chapter 3 as derivations: the score equations of Bradley-Terry, and its Hessian. When a finite Bradley-Terry fit exists.

The data are counts: w_ij is how often i beat j, n_ij = w_ij + w_ji how often the two were compared; D_ij = r^_i - r^_j.

The data are counts: w_ij (and v_ij) is how often i beat j.  Two designs are made from the drawn counts: one in which a group
A was never beaten from outside, and one in which a chain of wins leads from each response to each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.comparisons import nll

FORD = "Ford (1957), Solution of a ranking problem from binary comparisons; Hunter (2004), Annals of Statistics 32."

# ---------------------------------------------------------------------------------------------------- bt-score-hessian


derivation(
    slug="bt-score-hessian",
    formerly=("bt-score",),
    title="The score equations of Bradley-Terry, and the Laplacian behind them",
    chapter=3,
    rows=("bt-score-hessian",),
    source=FORD,
    largest=24,
    scale=lambda n_ij, f: (1.0 + np.max(np.abs(f))) ** 2 * (1.0 + np.sum(n_ij)),
    text=r"""
    let w = wins_ij; n = n_ij; v = f; NLL = -(sum_i sum_j w(i, j)*log(sigma(r_hat(i) - r_hat(j))))
    \frac{\partial}{\partial \hat r_i} \Big( -\sum_{k, j} w_{kj} \log \sigma(D_{kj}) \Big), \quad D_{kj} = \hat r_k - \hat r_j
        # The negative log-likelihood, where k beat j in w_kj comparisons, differentiated by the gradient core.
    = -\sum_{k, j} w_{kj}\, \sigma(-D_{kj}) \left( 1[k = i] - 1[j = i] \right)
        # The slope of log sigma(D) is sigma(-D), and D_kj rises with r_i if k is i, and falls if j is.
      not -(sum_{k, j} w(k, j)*sigma(-D(k, j))*1[k = i])  # the losses of i forgotten
      not sum_{k, j} w(k, j)*sigma(-D(k, j))*1[j = i]  # the wins of i forgotten
    = \sum_j \left( -w_{ij}\, \sigma(-D_{ij}) + w_{ji}\, \sigma(D_{ij}) \right)
        # Only comparisons that i took part in are left: those it won, and those it lost, where D_ji = -D_ij.
      slip sign of w(j, i)*sigma(D(i, j)) flipped; arguments of the difference swapped
    = \sum_j \left( -w_{ij} \left( 1 - \sigma(D_{ij}) \right) + (n_{ij} - w_{ij})\, \sigma(D_{ij}) \right)
        # sigma(-D) is 1 - sigma(D), and of n_ij = w_ij + w_ji comparisons i lost those that it did not win.
      slip the term w(i, j) dropped
    = \sum_j \left( n_{ij}\, \sigma(D_{ij}) - w_{ij} \right)
        # w sigma(D) cancels. The wins that the scores expect, minus the wins that were: at the fit they agree for each i.
      not sum_{j} (1[n(i, j) > 0]*sigma(D(i, j)) - w(i, j)/max(n(i, j), 1))  # rates for counts: n_ij forgotten
      not sum_{j} (w(i, j) - n(i, j)*sigma(-D(i, j)))  # winner and loser swapped
    so \frac{\partial^2 \mathrm{NLL}}{\partial \hat r_i\, \partial \hat r_k}
        # And once more, in the score of k: all second derivatives by the gradient core, a matrix for each prompt.
    = 1[i = k] \sum_j n_{ij}\, \sigma'(D_{ij}) - n_{ik}\, \sigma'(D_{ik}), \quad \sigma'(z) = \frac{d}{dz} \sigma(z)
        # Differentiate line 5: the counts w are constants, D_ij moves with r_i by +1 for every j, and with r_k by -1 for j = k.
      slip sign of n(i, k)*sigma'(D(i, k)) flipped; the term n(i, k)*sigma'(D(i, k)) dropped
    = 1[i = k] \sum_j n_{ij}\, \sigma(D_{ij}) \sigma(-D_{ij}) - n_{ik}\, \sigma(D_{ik}) \sigma(-D_{ik})
        # sigma' = sigma(D) sigma(-D). This is the Laplacian of the comparison graph: every row sums to 0, whatever was won.
      not 1[i = k]*(sum_{j} n(i, j)*sigma(D(i, j))) - n(i, k)*sigma(D(i, k))  # sigma for sigma': the weights
      not 1[i = k]*(sum_{j} w(i, j)*sigma(D(i, j))*sigma(-D(i, j))) - w(i, k)*sigma(D(i, k))*sigma(-D(i, k))  # the wins for the comparisons
      not 1[i = k]*(sum_{j} n(i, j)/4) - n(i, k)/4  # 1/4 for every weight: true only at ties
    so 0  # Is it ever negative along a direction v?
    <= \frac{1}{2} \sum_{i, j} n_{ij}\, \sigma(D_{ij}) \sigma(-D_{ij})\, (v_i - v_j)^2
        # Squares with weights that are not negative; 0 only if v is constant on each connected part of the graph.
      not -1/2*sum_{i, j} n(i, j)*sigma(D(i, j))*sigma(-D(i, j))*(v(i) - v(j))^2  # squares with a minus
    = \sum_{i, k} v_i\, \frac{\partial^2 \mathrm{NLL}}{\partial \hat r_i\, \partial \hat r_k}\, v_k
        # Multiply out: v_i^2 and v_j^2 make the diagonal, -2 v_i v_j the rest. So the NLL is convex.
      slip a factor 2 too many
      not sum_{i, k} v(i)*1[i = k]*(sum_{j} n(i, j)*sigma(D(i, j))*sigma(-D(i, j)))*v(k)  # the diagonal alone
    """,
)

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
