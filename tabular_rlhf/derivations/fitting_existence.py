r"""Chapter 3 as derivations, continued: when a finite Bradley-Terry fit exists.

The data are counts: w_ij is how often i beat j; D_ij = r^_i - r^_j.  Two designs are made from the drawn counts: one in which a group
A was never beaten from outside, and one in which a chain of wins leads from each response to each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.fitting import FORD, differences
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter3 import nll, sigma, softplus, wins_table
from tabular_rlhf.preferences.likelihood import fit

# ---------------------------------------------------------------------------------------------------- bt-existence


def outward(group_A: Any) -> Any:
    """1 where i is in A and j outside, (P, N, N)."""
    return group_A[:, :, None] * (1.0 - group_A[:, None, :])


def falling(scores: Any, wins_A: Any, group_A: Any, far: float) -> Any:
    """d/dt NLL(r^ + t 1_A) at t = far, for each prompt, by the gradient core."""

    def moved(t: Any) -> Any:
        return nll(scores + t[:, None] * group_A, wins_A)

    return grad(moved)(np.full(len(scores), far))


def nll_of_each(scores: Any, wins: Any) -> Any:
    """The NLL of each prompt."""
    return np.sum(wins * softplus(-differences(scores)), axis=(1, 2))


def D_at(scores: Any, group_A: Any, far: float) -> Any:
    return differences(scores + far * group_A)


def least_count(wins: Any) -> Any:
    """The smallest positive count of each prompt."""
    return np.min(np.where(wins > 0, wins, np.inf), axis=(1, 2))


def widest(scores: Any) -> Any:
    """Highest minus lowest score."""
    return np.max(scores, axis=1) - np.min(scores, axis=1)


def worst_upset(scores: Any, wins: Any) -> Any:
    """The largest loss -log sigma(r^_i - r^_j) of a win that was observed."""
    return np.max(np.where(wins > 0, softplus(-differences(scores)), 0.0), axis=(1, 2))


def slope_at_fit(wins_ring: Any) -> Any:
    """The slope of the NLL at the fitted scores, to eight decimals: beyond those Newton's method leaves noise of the processor's own."""
    return np.round(grad(nll)(np.stack([fit(wins_table(w)).r for w in wins_ring]), wins_ring), 8) + 0.0


add(
    Derivation(
        slug="bt-existence",
        title="When a finite Bradley-Terry fit exists: no group may go unbeaten",
        chapter=3,
        rows=("bt-existence",),
        source=FORD,
        where=lambda N: N >= 2,
        largest=24,
        scale=lambda wins_ring, scores: np.sum(wins_ring) * (1.0 + np.max(np.abs(scores))),
        lines=(
            Line(
                r"\frac{d}{dt}\, \mathrm{NLL}(\hat r + t\, 1_A)",
                "First the bad case: counts w_ij of wins of i over j in which a group A was "
                "never beaten from outside. Raise its scores by t.",
            ),
            Line(
                r"-\sum_{i, j} w_{ij}\, \sigma(-D_{ij})\, (1[i \in A] - 1[j \in A]), \quad D \text{ at } \hat r + t\, 1_A",
                "The slope of log sigma is sigma(-D), and D_ij moves by the difference of the two memberships.",
                lambda scores, wins_A, group_A, far: (
                    -np.sum(wins_A * sigma(-D_at(scores, group_A, far)) * differences(group_A), axis=(1, 2))
                ),
                wrong={
                    "sign of the NLL lost": lambda scores, wins_A, group_A, far: np.sum(
                        wins_A * sigma(-D_at(scores, group_A, far)) * differences(group_A), axis=(1, 2)
                    ),
                    "D at t = 0": lambda scores, wins_A, group_A: (
                        -np.sum(wins_A * sigma(-differences(scores)) * differences(group_A), axis=(1, 2))
                    ),
                    "sigma(D) for sigma(-D)": lambda scores, wins_A, group_A, far: (
                        -np.sum(wins_A * sigma(D_at(scores, group_A, far)) * differences(group_A), axis=(1, 2))
                    ),
                },
            ),
            Line(
                r"-\sum_{i \in A,\, j \notin A} w_{ij}\, \sigma(-D_{ij}) + \sum_{i \notin A,\, j \in A} w_{ij}\, \sigma(-D_{ij})",
                "Inside A, and outside it, both scores move together or not at all: those pairs drop out.",
                wrong={
                    "pairs inside A kept": (
                        "-sum_{i: A(i) > 0, j: A(j) <= 1} w(i, j)*sigma(-D(i, j)) + sum_{i: A(i) <= 0, j: A(j) > 0} w(i, j)*sigma(-D(i, j))"
                    ),
                    "pairs that move kept out, the others in": lambda scores, wins_A, group_A, far: (
                        -np.sum(wins_A * sigma(-D_at(scores, group_A, far)) * (1.0 - outward(group_A)), axis=(1, 2))
                    ),
                },
            ),
            Line(
                r"-\sum_{i \in A,\, j \notin A} w_{ij}\, \sigma(-D_{ij})",
                "Nobody outside ever beat one of A, so every count in the second sum is 0.",
                slips=("1 for 0", "sigma(-D(i, j)) dropped"),
            ),
            Line(
                "0",
                "Downhill for every t, if A ever won outside: no finite t is the best. (If it never did, t is simply not determined.)",
                relation="<=",
                wrong={"as steep as the number of wins, for ever": lambda wins_A, group_A: -np.sum(wins_A * outward(group_A), axis=(1, 2))},
            ),
            Line(r"\mathrm{NLL}(\hat r + t\, 1_A)", "How far down does it go?", relation="so"),
            Line(
                r"-\sum_{i, j \in A} w_{ij} \log \sigma(D_{ij}) - \sum_{i, j \notin A} w_{ij} \log \sigma(D_{ij})",
                "As t grows the wins of A outside become certain and cost nothing: a value that is approached and not attained.",
                relation="in the limit",
                along=("far", (0.0, 8.0, 64.0)),
                wrong={
                    "its value at t = 0": lambda scores, wins_A: nll_of_each(scores, wins_A),
                    "everything explained: 0": (
                        "-sum_{i: A(i) > 1, j: A(j) > 0} w(i, j)*log(sigma(D(i, j))) - sum_{i: A(i) <= -1, j: A(j) <= 0} "
                        "w(i, j)*log(sigma(D(i, j)))"
                    ),
                },
            ),
            Line(
                r"w_{min} \log\left( 1 + e^{\Delta / (N - 1)} \right), \quad \Delta = \max \hat r - \min \hat r",
                "Now the good case: other counts, in which a chain of wins leads from each to each. N scores span Delta, so somewhere two "
                "neighbors in their order are Delta/(N - 1) apart or more; w_min is the smallest count above 0.",
                lambda scores, wins_ring, N: least_count(wins_ring) * softplus(widest(scores) / (N - 1)),
                relation="so",
            ),
            Line(
                r"w_{min} \max_{w_{ij} > 0} \left( -\log \sigma(\hat r_i - \hat r_j) \right)",
                "Those above that gap were beaten from below it: some win was observed against a lead of at least Delta/(N - 1).",
                lambda scores, wins_ring: least_count(wins_ring) * worst_upset(scores, wins_ring),
                relation="<=",
                wrong={
                    "the best explained win for the worst": lambda scores, wins_ring: (
                        least_count(wins_ring) * np.min(np.where(wins_ring > 0, softplus(-differences(scores)), np.inf), axis=(1, 2))
                    ),
                    "that win taken for one with the lead": lambda scores, wins_ring: (
                        -least_count(wins_ring) * np.log(sigma(widest(scores)))
                    ),
                },
            ),
            Line(
                r"\mathrm{NLL}(\hat r)",
                "One term of a sum of terms that are not negative. So the NLL grows without bound as the scores spread: its low levels "
                "are bounded, and somewhere on them it has a minimum.",
                lambda scores, wins_ring: nll_of_each(scores, wins_ring),
                relation="<=",
                wrong={"the mean for the sum": lambda scores, wins_ring: nll_of_each(scores, wins_ring) / np.sum(wins_ring, axis=(1, 2))},
            ),
            Line(
                r"\nabla\, \mathrm{NLL} \text{ at the fitted } \hat r",
                "A program finds it: here are the slopes where Newton's method stopped, to eight decimals.",
                slope_at_fit,
                relation="so",
            ),
            Line(
                "0",
                "A finite minimum, and by bt-score-hessian (convex, flat only along the shift) the only one up to a shift.",
                lambda r: np.zeros_like(r),
                error=1e-8,  # Newton stops within 8e-10 nats
                wrong={"never: the slope only fades": lambda wins_ring: grad(nll)(np.zeros(wins_ring.shape[:2]), wins_ring)},
            ),
        ),
        letters={
            "w": "wins_A",
            "A": "group_A",
            "D": "scores(i) + far*group_A(i) - scores(j) - far*group_A(j)",
            "NLL(z)": "-(sum_i sum_j w(i, j)*log(sigma(z(i) - z(j))))",
            "t": "far",
        },
    )
)
