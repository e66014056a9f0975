r"""Chapter 5 as derivations: imitation by a class too small, its closed form by counts, and the covariate shift that it leaves.

Policies of the class share a row pi(. given c) among all states s of a context c (an n-gram).  n(c, a) is the expected number of
times that p* says a in the context c, n(c) their sum over a; prompts are averaged over mu throughout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter5 import CSISZAR, averaged_policy, deepest, visited
from tabular_rlhf.logspace import expect, kl, log_ratio, log_softmax
from tabular_rlhf.projection import expected_counts

# ---------------------------------------------------------------------------------------------------- m-projection-counts


def weighted_logs(weight: Any, log_x: Any) -> Any:
    """The sum of weight log x, where a weight of 0 silences its term."""
    return np.sum(weight * np.where(weight > 0, log_x, 0.0))


def state_rows(mu: Any, visits: Any, log_pi_star: Any) -> Any:
    """mu(x) d(s) pi*(a given s), (P, S, V)."""
    return mu[:, None, None] * visits[:, :, None] * np.exp(log_pi_star)


def imitation(mu: Any, mdp: Any, tied: Any, log_p_star: Any, theta: Any) -> Any:
    """-E_mu E_{p*}[log p_theta]."""
    return -np.sum(mu * expect(log_p_star, mdp.path_sum(tied.log_pi(theta))))


def slope_of_imitation(mu: Any, mdp: Any, tied: Any, log_p_star: Any, theta: Any) -> Any:
    """Its gradient in the logits of the class, by the gradient core."""
    return grad(lambda t: imitation(mu, mdp, tied, log_p_star, t))(theta)


def ratio_of_counts(tied: Any, mu: Any, log_pi_star: Any, d_star: Any) -> Any:
    """The sum over the states of c of E_mu d*(s) pi*(a given s), over the sum of E_mu d*(s); uniform in contexts never visited."""
    rows = np.sum(state_rows(mu, d_star, log_pi_star), axis=0)
    count, total = np.zeros(tied.shape), np.zeros(tied.shape[0])
    np.add.at(count, tied.context, rows)
    np.add.at(total, tied.context, np.sum(mu[:, None] * d_star, axis=0))
    seen = (total > 0)[:, None]
    return np.where(seen, count / np.where(seen, total[:, None], 1.0), 1.0 / tied.shape[1])


def countable(log_p_star: Any, p_star: Any) -> bool:
    """Whether every response that p* can make has a probability that floats can hold: else its tokens are not counted."""
    return bool(np.all((p_star > 0) | np.isneginf(log_p_star)))


def rarely_visited(tied: Any, log_p_star: Any) -> float:
    """The smallest positive n(c)."""
    seen = visited(tied, log_p_star)
    return float(np.min(seen, initial=1.0, where=seen > 0))


add(
    Derivation(
        slug="m-projection-counts",
        formerly=("m-projection",),
        title="Imitation by a tied class: the M-projection is a ratio of counts",
        chapter=5,
        rows=("m-projection-counts",),
        source="Maximum likelihood of a multinomial; " + CSISZAR,
        where=lambda tied, log_p_star, p_star: countable(log_p_star, p_star) and rarely_visited(tied, log_p_star) > 1e-9,
        scale=lambda mdp, tied, log_p_star, log_p_tied: mdp.H * deepest(log_p_star, log_p_tied) / rarely_visited(tied, log_p_star),
        lines=(
            Line(
                r"\mathbb{E}_\mu\, \mathrm{KL}(p^*, p_\pi) = \mathbb{E}_\mu \sum_\tau"
                r" p^*(\tau) \left( \log p^*(\tau) - \log p_\pi(\tau) \right)",
                "The forward KL of a policy of the class, whose states share a row pi(. "
                "given c) in each context c; mu averages the prompts.",
            ),
            Line(
                r"-\mathbb{E}_\mu \sum_\tau p^*(\tau) \log p_\pi(\tau)",
                "The entropy of p* does not mention pi.",
                relation="up to a constant",
                of="theta_tied",
                slips=("sign flipped",),
                wrong={"reverse for forward KL": "-E_{mu}[sum_{tau} log(p_star(tau))*p(tau)]"},
            ),
            Line(
                r"-\mathbb{E}_\mu \sum_\tau p^*(\tau) \sum_h \log \pi(a_h \mid c_h)",
                "p_pi is a product over tokens, so its logarithm is a sum; c_h is the context of the state s_h.",
                lambda mu, mdp, p_star, log_pi_tied: -np.sum(mu[:, None] * p_star * mdp.path_sum(log_pi_tied)),
                wrong={
                    "the mean over tokens for their sum": lambda mu, mdp, p_star, log_pi_tied, lengths: (
                        -np.sum(mu[:, None] * p_star * mdp.path_sum(log_pi_tied) / lengths)
                    ),
                },
            ),
            Line(
                r"-\mathbb{E}_\mu \sum_s d_{p^*}(s) \sum_a \pi^*(a \mid s) \log \pi(a \mid c(s))",
                "Exchange the sums: the p* of all responses through s and then a adds up to d_p*(s) pi*(a given s).",
                lambda mu, d_star, log_pi_star, log_pi_tied: -np.sum(state_rows(mu, d_star, log_pi_star) * log_pi_tied),
                wrong={
                    "d_ref for d_p*": lambda mu, d_ref, log_pi_star, log_pi_tied: -np.sum(state_rows(mu, d_ref, log_pi_star) * log_pi_tied),
                    "the policy's own visits for those of p*": lambda mu, mdp, log_pi_star, log_pi_tied: (
                        -np.sum(state_rows(mu, np.exp(mdp.prefix_sum(log_pi_tied)), log_pi_star) * log_pi_tied)
                    ),
                    "states not weighed by visits": lambda mu, d_ref, log_pi_star, log_pi_tied: (
                        -np.sum(state_rows(mu, np.ones_like(d_ref), log_pi_star) * log_pi_tied)
                    ),
                },
            ),
            Line(
                r"-\sum_c \sum_a n(c, a) \log \pi(a \mid c)",
                "All states of a context share a row, so their weights add up: n(c, a) is "
                "the sum over s in c of E_mu d_p*(s) pi*(a given s).",
                lambda tied, log_p_star, theta_tied: -np.sum(expected_counts(tied, log_p_star) * log_softmax(theta_tied)),
                wrong={
                    "conditional for joint: n(c, a)/n(c)": lambda theta_hat, theta_tied: (
                        -weighted_logs(np.exp(theta_hat), log_softmax(theta_tied))
                    ),
                },
            ),
            Line(
                r"-\frac{\partial}{\partial \theta(c, a)} \sum_{c'} \sum_{a'} n(c', a') \log \pi(a' \mid"
                r" c'), \quad \pi(\cdot \mid c) = \mathrm{softmax}\, \theta(c, \cdot)",
                "To find the minimizer, move one logit; by the gradient core, from line 2.",
                lambda mu, mdp, tied, log_p_star, theta_tied: slope_of_imitation(mu, mdp, tied, log_p_star, theta_tied),
                relation="so",
            ),
            Line(
                r"-\sum_{a'} n(c, a') \left( 1_{a' = a} - \pi(a \mid c) \right)",
                "Raising theta(c, a) raises log pi(a given c) by 1 - pi(a given c) and "
                "lowers every other log pi(a' given c) by pi(a given c).",
                lambda tied, log_p_star, theta_tied: (
                    -np.einsum(
                        "cb,cba->ca",
                        expected_counts(tied, log_p_star),
                        np.eye(tied.shape[1])[None] - np.exp(log_softmax(theta_tied))[:, None, :],
                    )
                ),
                wrong={
                    "the normalizer forgotten": lambda tied, log_p_star: -expected_counts(tied, log_p_star),
                    "sign": lambda tied, log_p_star, theta_tied: (
                        expected_counts(tied, log_p_star) - visited(tied, log_p_star) * np.exp(log_softmax(theta_tied))
                    ),
                },
            ),
            Line(
                r"n(c)\, \pi(a \mid c) - n(c, a)",
                "The n(c, a') of one context add up to n(c).",
                lambda tied, log_p_star, theta_tied: (
                    visited(tied, log_p_star) * np.exp(log_softmax(theta_tied)) - expected_counts(tied, log_p_star)
                ),
                wrong={
                    "n(c) forgotten": lambda tied, log_p_star, theta_tied: (
                        np.exp(log_softmax(theta_tied)) - expected_counts(tied, log_p_star)
                    ),
                },
            ),
            Line(
                r"-\frac{\partial}{\partial \hat\theta(c, a)} \sum_{c'} \sum_{a'} n(c', a') \log \hat\pi(a' \mid c')",
                "The same slope, by the gradient core, at the policy of the counts, pi_hat: n(c) times it is n(c, a).",
                lambda mu, mdp, tied, log_p_star, theta_hat: slope_of_imitation(mu, mdp, tied, log_p_star, theta_hat),
                relation="so",
            ),
            Line(
                "0",
                "It vanishes; and line 2 is convex in the logits, so nothing else is a minimum (contexts that p* never visits are free).",
                lambda theta_tied: np.zeros_like(theta_tied),
                wrong={
                    "the slope of a policy that is not of the counts": lambda mu, mdp, tied, log_p_star, theta_tied: slope_of_imitation(
                        mu, mdp, tied, log_p_star, theta_tied
                    ),
                },
            ),
            Line(
                r"\hat\pi(a \mid c) = \frac{n(c, a)}{n(c)}",
                "Its rows: line 8 is 0, solved.",
                lambda theta_hat: np.exp(theta_hat),
                relation="so",
            ),
            Line(
                r"\frac{\sum_{s \in c} \mathbb{E}_\mu\, d_{p^*}(s)\, \pi^*(a \mid s)}{\sum_{s \in c} \mathbb{E}_\mu\, d_{p^*}(s)}",
                "Put in what the counts are: rows of pi*, averaged over the states of the context with the visits of p*.",
                ratio_of_counts,
                wrong={
                    "d_ref for d_p*": lambda tied, mu, log_pi_star, d_ref: averaged_policy(tied, mu, log_pi_star, d_ref + 1e-300),
                    "states averaged without visits": lambda tied, mu, log_pi_star, d_ref: averaged_policy(
                        tied, mu, log_pi_star, np.ones_like(d_ref)
                    ),
                    "unconditional for conditional": lambda tied, log_p_star: expected_counts(tied, log_p_star),
                },
            ),
        ),
        letters={"p": "p_tied"},
    )
)
# ---------------------------------------------------------------------------------------------------- m-projection-gap


def gap_by_states(mu: Any, mass: Any, log_pi_hat: Any, log_pi_tied: Any) -> Any:
    """The sum over prompts, states and tokens of mu times mass (P, S, V) times log(pi_hat/pi)."""
    return weighted_logs(mu[:, None, None] * mass, log_ratio(log_pi_hat, log_pi_tied))


def gap_by_contexts(n: Any, theta_hat: Any, theta_tied: Any) -> Any:
    """The sum over contexts of n(c) times the sum over tokens of pi_hat log(pi_hat/pi)."""
    return np.sum(n * expect(theta_hat, log_ratio(theta_hat, log_softmax(theta_tied))))


def visits_of(tied: Any, log_p: Any) -> Any:
    """n(c) under a law, (C,)."""
    return np.sum(expected_counts(tied, log_p), axis=1)


add(
    Derivation(
        slug="m-projection-gap",
        title="How far a policy lags behind the projection is weighed by the visits of p*: covariate shift",
        chapter=5,
        rows=("m-projection-gap",),
        source=CSISZAR,
        where=lambda log_p_star, p_star: countable(log_p_star, p_star),
        scale=lambda mdp, log_p_star, log_p_hat, log_p_tied: mdp.H * deepest(log_p_star, log_p_hat, log_p_tied),
        lines=(
            Line(
                r"\mathbb{E}_\mu \left[ \mathrm{KL}(p^*, p_\pi) - \mathrm{KL}(p^*, p_{\hat\pi}) \right]",
                "pi is any policy of the tied class, and pi_hat that of the counts, as in m-projection-counts.",
            ),
            Line(
                r"\mathbb{E}_\mu \sum_\tau p^*(\tau) \log\frac{p_{\hat\pi}(\tau)}{p_\pi(\tau)}",
                "Both are averages under p*, and its own logarithm cancels.",
                slips=("p_pi_hat(tau)/p(tau) inverted",),
                wrong={
                    "averaged under the projection, not under p*": lambda mu, log_p_tied, log_p_hat: np.sum(
                        mu * expect(log_p_hat, log_ratio(log_p_hat, log_p_tied))
                    )
                },
            ),
            Line(
                r"\mathbb{E}_\mu \sum_s d_{p^*}(s) \sum_a \pi^*(a \mid s) \log\frac{\hat\pi(a \mid c(s))}{\pi(a \mid c(s))}",
                "Logarithms of products are sums over tokens; all responses through s and then a carry d_p*(s) pi*(a given s) together.",
                lambda mu, d_star, log_pi_star, log_pi_hat, log_pi_tied: gap_by_states(
                    mu, d_star[:, :, None] * np.exp(log_pi_star), log_pi_hat, log_pi_tied
                ),
                wrong={
                    "the projection's own visits for those of p*": lambda mu, d_hat, log_pi_star, log_pi_hat, log_pi_tied: gap_by_states(
                        mu, d_hat[:, :, None] * np.exp(log_pi_star), log_pi_hat, log_pi_tied
                    ),
                    "d_ref for d_p*": lambda mu, d_ref, log_pi_star, log_pi_hat, log_pi_tied: gap_by_states(
                        mu, d_ref[:, :, None] * np.exp(log_pi_star), log_pi_hat, log_pi_tied
                    ),
                },
            ),
            Line(
                r"\sum_c \sum_a n(c, a) \log\frac{\hat\pi(a \mid c)}{\pi(a \mid c)}",
                "States of one context share both rows; their weights add up to the count n(c, a).",
                lambda tied, log_p_star, theta_hat, theta_tied: weighted_logs(
                    expected_counts(tied, log_p_star), log_ratio(theta_hat, log_softmax(theta_tied))
                ),
                wrong={
                    "a count of contexts alone: n(c) for n(c, a)": lambda tied, log_p_star, theta_hat, theta_tied: weighted_logs(
                        visited(tied, log_p_star) * (theta_hat > -np.inf), log_ratio(theta_hat, log_softmax(theta_tied))
                    ),
                },
            ),
            Line(
                r"\sum_c n(c) \sum_a \hat\pi(a \mid c) \log\frac{\hat\pi(a \mid c)}{\pi(a \mid c)}",
                "n(c, a) = n(c) pi_hat(a given c): that pi_hat is the policy of the counts is used here, and only here.",
                lambda tied, log_p_star, theta_hat, theta_tied: gap_by_contexts(visits_of(tied, log_p_star), theta_hat, theta_tied),
                wrong={
                    "rows of pi for rows of pi_hat": lambda tied, log_p_star, theta_hat, theta_tied: weighted_logs(
                        visited(tied, log_p_star) * np.exp(log_softmax(theta_tied)),
                        np.where(np.isneginf(theta_hat), 0.0, log_ratio(theta_hat, log_softmax(theta_tied))),
                    ),
                },
            ),
            Line(
                r"\sum_c d_{p^*}(c)\, \mathrm{KL}(\hat\pi_c, \pi_c)",
                "The inner sum is a KL of rows, and n(c) is the sum over the states of c of E_mu d_p*(s): the visits of the target.",
                lambda tied, mu, d_star, theta_hat, theta_tied: np.sum(
                    mu[:, None] * d_star * kl(theta_hat, log_softmax(theta_tied))[tied.context]
                ),
                wrong={
                    "forward for reverse KL in the rows": lambda tied, mu, d_star, theta_hat, theta_tied: np.sum(
                        mu[:, None] * d_star * kl(log_softmax(theta_tied), theta_hat)[tied.context]
                    ),
                    "the policy's own visits": lambda tied, mu, mdp, log_pi_tied, theta_hat, theta_tied: np.sum(
                        mu[:, None] * np.exp(mdp.prefix_sum(log_pi_tied)) * kl(theta_hat, log_softmax(theta_tied))[tied.context]
                    ),
                },
            ),
            Line(
                r"\mathbb{E}_\mu\, \mathrm{KL}(p_{\hat\pi}, p_\pi)",
                "Pythagoras would have this in its place: the divergence between the two policies themselves.",
                relation="so",
            ),
            Line(
                r"\sum_c d_{\hat\pi}(c)\, \mathrm{KL}(\hat\pi_c, \pi_c)",
                "The chain rule of KL: the same rows, but at the states that the first of the two laws visits.",
                lambda tied, mu, d_hat, theta_hat, theta_tied: np.sum(
                    mu[:, None] * d_hat * kl(theta_hat, log_softmax(theta_tied))[tied.context]
                ),
                wrong={
                    "the visits of p*: Pythagoras": lambda tied, mu, d_star, theta_hat, theta_tied: np.sum(
                        mu[:, None] * d_star * kl(theta_hat, log_softmax(theta_tied))[tied.context]
                    ),
                    "the visits of the second law": lambda tied, mu, mdp, log_pi_tied, theta_hat, theta_tied: np.sum(
                        mu[:, None] * np.exp(mdp.prefix_sum(log_pi_tied)) * kl(theta_hat, log_softmax(theta_tied))[tied.context]
                    ),
                },
            ),
            Line(
                r"\mathbb{E}_\mu \left[ \mathrm{KL}(p^*, p_\pi) - \mathrm{KL}(p^*, p_{\hat\pi}) - \mathrm{KL}(p_{\hat\pi}, p_\pi) \right]",
                "So Pythagoras misses by the difference of lines 6 and 8.",
                relation="so",
            ),
            Line(
                r"\sum_c \left( d_{p^*}(c) - d_{\hat\pi}(c) \right) \mathrm{KL}(\hat\pi_c, \pi_c)",
                "Rows that are wrong where p* goes but the policy does not, or the reverse: 0 if both visit contexts equally often.",
                lambda tied, log_p_star, log_p_hat, theta_hat, theta_tied: gap_by_contexts(
                    visits_of(tied, log_p_star) - visits_of(tied, log_p_hat), theta_hat, theta_tied
                ),
                wrong={
                    "Pythagoras without defect": lambda: 0.0,
                    "the difference the other way round": lambda tied, log_p_star, log_p_hat, theta_hat, theta_tied: gap_by_contexts(
                        visits_of(tied, log_p_hat) - visits_of(tied, log_p_star), theta_hat, theta_tied
                    ),
                },
            ),
        ),
        letters={"p_pi_hat": "p_hat", "p": "p_tied"},
    )
)
