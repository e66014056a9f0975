r"""Chapter 3 as derivations, continued: the score equations of Bradley-Terry, and its Hessian.

The data are counts: w_ij is how often i beat j, n_ij = w_ij + w_ji how often the two were compared; D_ij = r^_i - r^_j.
"""

from __future__ import annotations

import numpy as np

from tabular_rlhf.derivations.record import derivation

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
