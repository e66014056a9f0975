r"""Chapter 7 as derivations, groups: leave one out, and the group mean.

A group is G responses drawn independently from p_pi(. given x) for one prompt x ~ mu.  The updates g
and m are sums over all N^G groups, one by one.
"""

from __future__ import annotations

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.terms.conditions import few
from tabular_rlhf.terms.sizes import update_size

# ---------------------------------------------------------------------------------------------------- rloo

add(
    Derivation(
        slug="rloo",
        title="Leave one out is unbiased, the group mean gives (G - 1)/G",
        chapter=7,
        rows=("rloo", "group-identities"),
        source="Kool, van Hoof and Welling (2019); Ahmadian et al. (2024), arXiv:2402.14740.",
        where=few,
        scale=update_size,
        largest=40,
        lines=(
            Line(
                r"\mathbb{E}_\mu[g]",
                (
                    "RLOO's update g, the mean of (1/G) sum of (r_i - mean of the others) s_i "
                    "over all groups, one by one: each response of a group is compared with the "
                    "mean reward of the others."
                ),
            ),
            Line(
                r"\mathbb{E}_i[r_i\, s_i] - \frac{1}{G-1} (G - 1)\, \mathbb{E}_{i, j}[r_j\, s_i], \quad s(\tau) = \nabla "
                r"\log p_\pi(\tau)",
                (
                    "All members of a group are alike, so the mean over i is that of any one; "
                    "and a mean is linear. The others are G - 1, each drawn by itself: j with i "
                    "a pair of draws."
                ),
                wrong={
                    "sum for mean over the group": r"G \left( \mathbb{E}_i[r_i\, s_i] - \mathbb{E}_{i, j}[r_j\, s_i] \right)",
                    "its own reward left in the mean of the others": (
                        r"\mathbb{E}_i[r_i\, s_i] - \frac{1}{G} \left( \mathbb{E}_i[r_i\, s_i] + (G "
                        r"- 1)\, \mathbb{E}_{i, j}[r_j\, s_i] \right)"
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ r\, s(\tau) \right] - \sum_x \mu(x)\, \mathbb{E}\left[ r \mid x \right] "
                r"\mathbb{E}\left[ s(\tau) \mid x \right]",
                "Given the prompt, r_j and s_1 are independent for j not 1: the mean of their product is the product of their means.",
                wrong={
                    "the other rewards taken for the same as its own": r"\mathbb{E}\left[ r\, s(\tau) \right] - "
                    r"\mathbb{E}\left[ r\, s(\tau) \right]",
                    "added": (
                        r"2\, \mathbb{E}\left[ r\, s(\tau) \right] + \sum_x \mu(x)\, "
                        r"\mathbb{E}\left[ r \mid x \right] \mathbb{E}\left[ s(\tau) \mid x \right]"
                    ),
                },
            ),
            Line(
                r"\mathbb{E}\left[ r\, s(\tau) \right]",
                "E[s given x] = 0, for every prompt: the mean of the others is a free baseline.",
                relation="in expectation",
                law="log_p",
                slips=("sign flipped",),
                wrong={"(G - 1)/G of it: the group mean's factor": r"\frac{G-1}{G}\, r\, s(\tau)"},
            ),
            Line(
                r"\nabla\, \mathbb{E}[r]",
                "The policy gradient, by the gradient core: RLOO is unbiased.",
                wrong={"sum over the group": r"G\, \nabla\, \mathbb{E}[r]"},
            ),
            Line(
                r"\mathbb{E}_\mu[m]",
                "Now the update m with the group mean, which each response is itself a part of; again over all groups.",
                relation="so",
            ),
            Line(
                r"\mathbb{E}_i[r_i\, s_i] - \frac{1}{G} \left( \mathbb{E}_i[r_i\, s_i] + (G - 1)\, \mathbb{E}_{i, j}[r_j\, "
                r"s_i] \right)",
                "The members are alike, a mean is linear.",
                wrong={
                    "divided by G - 1": (
                        r"\mathbb{E}_i[r_i\, s_i] - \frac{1}{G - 1} \left( \mathbb{E}_i[r_i\, s_i] + "
                        r"(G - 1)\, \mathbb{E}_{i, j}[r_j\, s_i] \right)"
                    )
                },
            ),
            Line(
                r"\mathbb{E}\left[ r\, s(\tau) \right] - \frac{1}{G}\, \mathbb{E}\left[ r\, s(\tau) \right]",
                "The terms of the others vanish as before; that of its own reward stays.",
                wrong={
                    "its own reward forgotten: unbiased": r"\mathbb{E}\left[ r\, s(\tau) \right]",
                    "only its own reward kept": r"\frac{1}{G (G + 1)}\, \mathbb{E}\left[ r\, s(\tau) \right]",
                },
            ),
            Line(
                r"\frac{G-1}{G}\, \nabla\, \mathbb{E}[r]",
                "The right direction, a little short; the group mean is RLOO's advantage times (G - 1)/G.",
                slips=("(G - 1)/G inverted",),
                wrong={"n for n - 1": "G/(G + 1)*nabla(E[r])"},
            ),
        ),
        setting={"pairs": "p"},
        letters={"r": "graded", "g": "sum_tau graded_rloo_pull(tau)*score(tau)", "m": "sum_tau graded_centered_pull(tau)*score(tau)"},
    )
)
