r"""Chapter 3 as derivations, continued: the score equations of Bradley-Terry, and its Hessian.

The data are counts: w_ij is how often i beat j, n_ij = w_ij + w_ji how often the two were compared; D_ij = r^_i - r^_j.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, hessian
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter3 import nll, sigma, softplus

FORD = "Ford (1957), Solution of a ranking problem from binary comparisons; Hunter (2004), Annals of Statistics 32."

# ---------------------------------------------------------------------------------------------------- bt-score-hessian


def differences(scores: Any) -> Any:
    """D_ij = r^_i - r^_j."""
    return scores[:, :, None] - scores[:, None, :]


def by_each(scores: Any, wins_ij: Any) -> Any:
    """The slope in r^_i of -sum_j (w_ij log sigma(r^_i - r^_j) + w_ji log sigma(r^_j - r^_i)), the other scores held fixed."""

    def pairs_of_each(s: Any) -> Any:
        D = s[:, :, None] - scores[:, None, :]
        return np.sum(wins_ij * softplus(-D)) + np.sum(np.swapaxes(wins_ij, 1, 2) * softplus(D))

    return grad(pairs_of_each)(scores)


def within_prompts(scores: Any, wins_ij: Any) -> Any:
    """The second derivatives of the NLL, by the gradient core: a matrix for each prompt, (P, N, N)."""
    full = hessian(nll)(scores, wins_ij)
    return np.stack([full[x, :, x, :] for x in range(len(scores))])


def on_diagonal(rows: Any) -> Any:
    """The matrix 1[i = k] rows_i."""
    return rows[:, :, None] * np.eye(rows.shape[1])


def slope_of_sigma(D: Any) -> Any:
    return grad(lambda d: np.sum(0.5 * np.tanh(0.5 * d)))(D)


def link(scores: Any, n_ij: Any) -> Any:
    """n_ij sigma(D_ij) sigma(-D_ij): the weight of a comparison."""
    return n_ij * sigma(differences(scores)) * sigma(-differences(scores))


add(
    Derivation(
        slug="bt-score-hessian",
        formerly=("bt-score",),
        title="The score equations of Bradley-Terry, and the Laplacian behind them",
        chapter=3,
        rows=("bt-score-hessian",),
        source=FORD,
        largest=24,
        scale=lambda n_ij, f: (1.0 + np.max(np.abs(f))) ** 2 * (1.0 + np.sum(n_ij)),
        lines=(
            Line(
                r"\frac{\partial}{\partial \hat r_i} \Big( -\sum_{k, j} w_{kj} \log "
                r"\sigma(D_{kj}) \Big), \quad D_{kj} = \hat r_k - \hat r_j",
                "The negative log-likelihood, where k beat j in w_kj comparisons, differentiated by the gradient core.",
            ),
            Line(
                r"\frac{\partial}{\partial \hat r_i} \sum_j \left( -w_{ij} \log \sigma(\hat r_i - \hat "
                r"r_j) - w_{ji} \log \sigma(\hat r_j - \hat r_i) \right)",
                "Only comparisons that i took part in move with r_i: those it won, and those it lost.",
                by_each,
                wrong={
                    "the losses of i forgotten": lambda scores, wins_ij: np.sum(-wins_ij * sigma(-differences(scores)), axis=2),
                    "the wins of i forgotten": lambda scores, wins_ij: np.sum(
                        np.swapaxes(wins_ij, 1, 2) * sigma(differences(scores)), axis=2
                    ),
                },
            ),
            Line(
                r"\sum_j \left( -w_{ij}\, \sigma(-D_{ij}) + w_{ji}\, \sigma(D_{ij}) \right)",
                "The slope of log sigma(D) is sigma(-D); D_ij grows with r_i, and D_ji = -D_ij falls.",
                slips=("sign of w(j, i)*sigma(D(i, j)) flipped", "arguments of the difference swapped"),
            ),
            Line(
                r"\sum_j \left( -w_{ij} \left( 1 - \sigma(D_{ij}) \right) + (n_{ij} - w_{ij})\, \sigma(D_{ij}) \right)",
                "sigma(-D) is 1 - sigma(D), and of n_ij = w_ij + w_ji comparisons i lost those that it did not win.",
                slips=("the term w(i, j) dropped",),
            ),
            Line(
                r"\sum_j \left( n_{ij}\, \sigma(D_{ij}) - w_{ij} \right)",
                "w sigma(D) cancels. The wins that the scores expect, minus the wins that were: at the fit they agree for each i.",
                wrong={
                    "rates for counts: n_ij forgotten": lambda scores, n_ij, wins_ij: np.sum(
                        (n_ij > 0) * sigma(differences(scores)) - wins_ij / np.maximum(n_ij, 1.0), axis=2
                    ),
                    "winner and loser swapped": "sum_{j} (w(i, j) - n(i, j)*sigma(-D(i, j)))",
                },
            ),
            Line(
                r"\frac{\partial^2 \mathrm{NLL}}{\partial \hat r_i\, \partial \hat r_k}",
                "And once more, in the score of k: all second derivatives by the gradient core, a matrix for each prompt.",
                relation="so",
            ),
            Line(
                r"1[i = k] \sum_j n_{ij}\, \sigma'(D_{ij}) - n_{ik}\, \sigma'(D_{ik})",
                "Differentiate line 5: the counts w are constants, D_ij moves with r_i by +1 for every j, and with r_k by -1 for j = k.",
                lambda scores, n_ij: (
                    on_diagonal(np.sum(n_ij * slope_of_sigma(differences(scores)), axis=2)) - n_ij * slope_of_sigma(differences(scores))
                ),
                wrong={
                    "plus for minus off the diagonal": lambda scores, n_ij: (
                        on_diagonal(np.sum(n_ij * slope_of_sigma(differences(scores)), axis=2)) + n_ij * slope_of_sigma(differences(scores))
                    ),
                    "the diagonal alone": lambda scores, n_ij: on_diagonal(np.sum(n_ij * slope_of_sigma(differences(scores)), axis=2)),
                },
            ),
            Line(
                r"1[i = k] \sum_j n_{ij}\, \sigma(D_{ij}) \sigma(-D_{ij}) - n_{ik}\, \sigma(D_{ik}) \sigma(-D_{ik})",
                "sigma' = sigma(D) sigma(-D). This is the Laplacian of the comparison graph: every row sums to 0, whatever was won.",
                wrong={
                    "sigma for sigma': the weights": lambda scores, n_ij: (
                        on_diagonal(np.sum(n_ij * sigma(differences(scores)), axis=2)) - n_ij * sigma(differences(scores))
                    ),
                    "the wins for the comparisons": lambda scores, n_ij, wins_ij: (
                        on_diagonal(np.sum(link(scores, wins_ij), axis=2)) - link(scores, wins_ij)
                    ),
                    "1/4 for every weight: true only at ties": lambda n_ij: on_diagonal(np.sum(n_ij, axis=2) / 4) - n_ij / 4,
                },
            ),
            Line("0", "Is it ever negative along a direction v?", relation="so"),
            Line(
                r"\frac{1}{2} \sum_{i, j} n_{ij}\, \sigma(D_{ij}) \sigma(-D_{ij})\, (v_i - v_j)^2",
                "Squares with weights that are not negative; 0 only if v is constant on each connected part of the graph.",
                relation="<=",
                wrong={"squares with a minus": "-1/2*sum_{i, j} n(i, j)*sigma(D(i, j))*sigma(-D(i, j))*(v(i) - v(j))^2"},
            ),
            Line(
                r"\sum_{i, k} v_i\, \frac{\partial^2 \mathrm{NLL}}{\partial \hat r_i\, \partial \hat r_k}\, v_k",
                "Multiply out: v_i^2 and v_j^2 make the diagonal, -2 v_i v_j the rest. So the NLL is convex.",
                slips=("a factor 2 too many",),
                wrong={"the diagonal alone": lambda scores, wins_ij, f: np.einsum("xi,xii,xi->x", f, within_prompts(scores, wins_ij), f)},
            ),
        ),
        letters={"w": "wins_ij", "n": "n_ij", "v": "f", "NLL": "-(sum_i sum_j w(i, j)*log(sigma(r_hat(i) - r_hat(j))))"},
    )
)
