r"""Chapter 3: learning from preferences.  Bradley-Terry, what its likelihood knows, and what noise and cycles do to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, hessian
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Miss, Sampled, claim
from tabular_rlhf.logspace import log_sigmoid
from tabular_rlhf.preferences.comparisons import structure
from tabular_rlhf.terms.comparisons import nll, sigma, wins_table
from tabular_rlhf.terms.sources import TERRY

# ---------------------------------------------------------------------------------------------------- bradley-terry


claim(
    slug="bradley-terry",
    chapter=3,
    text=r"""
    P(i \succ j) = \frac{e^{r_i}}{e^{r_i} + e^{r_j}} = \sigma(r_i - r_j)
      slip arguments of the difference swapped; the term r(j) dropped
      not \frac{|r_i|}{\max(|r_i| + |r_j|, 1/1000)}  # shares of rewards without exp
      not \sigma((r_i - r_j) \log 2)  # log base 2
      not \sigma(\beta (r_i - r_j))  # beta for one: sigma(beta (r - r'))
      not \frac{e^{r_i}}{\sum_j e^{r_j}}  # softmax over all responses
    P(i \succ j) + P(j \succ i) = 1
    """,
    source=TERRY,
    parts=("P(i beats j)", "both outcomes together"),
    sides={
        "sigma of the gap": (2, 1),
        "shares of exponentials": 1,
        "half of one plus tanh of half the gap": lambda gaps: (0.5 * (1.0 + np.tanh(0.5 * gaps)), np.ones_like(gaps)),
        "the law of `preferences`": (lambda law: law.table(), 0),
    },
    sampled=Sampled(
        "log_p_ref",
        lambda P_beats, log_p_ref: np.sum(np.exp(log_p_ref)[:, None, :] * P_beats, axis=2),
        lambda: 0.5,
    ),
    where=lambda r: np.max(np.abs(r)) < 300,
    largest=500,
)

# ---------------------------------------------------------------------------------------------------- reward-shift-invariance


claim(
    slug="reward-shift-invariance",
    chapter=3,
    text=r"""
    P(i \succ j) = \sigma((r_i + c(x)) - (r_j + c(x)))
      slip the term c(x) dropped
      not \sigma((r_i + |y_i|) - (r_j + |y_j|))  # a shift c(x, tau), such as by length
      not \sigma(2 (r_i - r_j))  # a scale a(x) for a shift c(x)
    p^* = \frac{p_{ref}\, e^{(r + c(x))/\beta}}{\sum_\tau p_{ref}\, e^{(r + c(x))/\beta}}
        # for any shift c(x): the same law of preferences, the same optimum
      not \frac{p_{ref}\, e^{2 r/\beta}}{\sum_\tau p_{ref}\, e^{2 r/\beta}}  # scaled rewards have the same p*
    """,
    source="Rafailov et al. (2023), arXiv:2305.18290, lemmas 1 and 2.",
    parts=("P(i beats j)", "p*"),
    sides={
        "r": 0,
        "r + c(x)": 1,
        "r - V(x), which is beta log(p*/p_ref)": (
            r"\sigma((r_i - V(x)) - (r_j - V(x)))",
            lambda r, value, log_p_ref, beta: np.exp(log_gibbs(log_p_ref, r - value[:, None], beta)),
        ),
    },
    scale=lambda r, shift: 1.0 + np.max(np.abs(r)) + np.max(np.abs(shift)),
    largest=500,
)

# ---------------------------------------------------------------------------------------------------- mle-is-forward-kl


def kl_bernoulli(d: Any, other: Any) -> Any:
    """KL(Bernoulli(sigma(d)), Bernoulli(sigma(other))), exact also where both are close to 0 or 1."""
    return sigma(d) * (log_sigmoid(d) - log_sigmoid(other)) + sigma(-d) * (log_sigmoid(-d) - log_sigmoid(-other))


def label_entropy(gaps: Any) -> Any:
    return -(sigma(gaps) * log_sigmoid(gaps) + sigma(-gaps) * log_sigmoid(-gaps))


claim(
    slug="mle-is-forward-kl",
    chapter=3,
    text=r"""
    let P = sigma(r(i) - r(j)); P_hat = sigma(scores(i) - scores(j))
    -\mathbb{E}_{(x, w, l) \sim D}[\log \sigma(\hat r_w - \hat r_l)] = \mathbb{E}_{(i, j)}[\mathrm{KL}(P_{ij}, \hat P_{ij}) +
        \mathcal{H}(P_{ij})]
      slip arguments of KL swapped; the term H(P(i, j)) dropped
      not E_{i, j}[KL(P(i, j), P_hat(i, j)) + H(P_hat(i, j))]  # entropy of the fitted law for that of the labels
      not -\mathbb{E}_{(x, w, l) \sim D}[\log \sigma(\hat r_w - \hat r_l)] / \log 2  # log base 2
    -\frac{\partial}{\partial \hat r_k} \mathbb{E}_{(x, w, l) \sim D}[\log \sigma(\hat r_w - \hat r_l)] = \frac{\partial}{\partial \hat r_k}
        \mathbb{E}_{(i, j)}[\mathrm{KL}(P_{ij}, \hat P_{ij})]
        # with the labels' law P and the fitted one, of scores that somebody proposes: maximum likelihood is the forward-KL projection onto
        Bradley-Terry laws
      slip arguments of KL swapped
    """,
    source="Kullback and Leibler (1951); Swamy et al. (2025), arXiv:2503.01067, for RLHF.",
    note="Part 2: the gradient of both in the scores is the same, since the entropy of the labels is a constant.",
    parts=("nats", "gradient in the scores"),
    sides={
        "cross entropy": 0,
        "KL plus entropy": 1,
        "over all pairs, by the gradient core": lambda pairs, scores: (
            -np.sum(pairs.weight * log_sigmoid(pairs.margin(scores))),
            grad(lambda s: -np.sum(pairs.weight * log_sigmoid(pairs.margin(s))))(scores),
        ),
    },
    sampled=Sampled(
        "log_p_ref",
        lambda gaps, score_gaps, log_p_ref: np.sum(
            np.exp(log_p_ref)[:, None, :] * (kl_bernoulli(gaps, score_gaps) + label_entropy(gaps)), axis=2
        ),
        lambda pairs, scores: -np.sum(pairs.weight * log_sigmoid(pairs.margin(scores))),
    ),
    scale=lambda gaps, score_gaps: 1.0 + np.max(np.abs(gaps)) + np.max(np.abs(score_gaps)),
    largest=120,
)

# ---------------------------------------------------------------------------------------------------- bt-score-hessian


def linked_sets(n_ij: Any) -> float:
    """Connected components of the comparison graphs, by flooding."""
    return float(sum(np.max(structure(wins_table(n)).linked) + 1 for n in n_ij))


def nullity(n_ij: Any, scores: Any, wins_ij: Any) -> float:
    """Eigenvalues of the NLL's Hessian, by the gradient core, that vanish."""
    H = hessian(nll)(scores, wins_ij).reshape(scores.size, scores.size)
    values = np.linalg.eigvalsh(H)
    return float(np.sum(values < 1e-9 * max(1e-300, float(np.max(values, initial=0.0))) + 1e-12))


claim(
    slug="bt-score-hessian",
    chapter=3,
    text=r"""
    let w = wins_ij; n = n_ij; NLL = -(sum_i sum_j w(i, j)*log(sigma(r_hat(i) - r_hat(j))))
    \frac{\partial}{\partial \hat r_i} \mathrm{NLL} = \sum_j n_{ij} \Big(\sigma(\hat r_i - \hat r_j) - \frac{w_{ij}}{n_{ij}}\Big)
      slip sign flipped
      not \sum_j n_{ij} \Big(\sigma(\hat r_i - \hat r_j) - \frac{w_{ji}}{n_{ij}}\Big)  # winner and loser swapped
      not \sum_j 1[n_{ij} > 0] \Big(\sigma(\hat r_i - \hat r_j) - \frac{w_{ij}}{n_{ij}}\Big)  # n_ij forgotten: rates for counts
    \frac{\partial^2 \mathrm{NLL}}{\partial \hat r_i\, \partial \hat r_k} = 1[i = k] \sum_j L_{ij} - L_{ik}, \quad L_{ij} = n_{ij}\,
        \sigma(\hat r_i - \hat r_j)\, \sigma(\hat r_j - \hat r_i)
        # of w wins in n comparisons: the second is the Laplacian of their graph, which vanishes along a constant for each connected
        component
      slip sign of L(i, k) flipped; the term 1[i = k]*sum_{j} L(i, j) dropped; sign flipped
      not 1[i = k] \sum_j L_{ij} - L_{ik}, \quad L_{ij} = n_{ij}\, \sigma(\hat r_i - \hat r_j)  # sigma for sigma(1 - sigma) in the Hessian
    """,
    source="Ford (1957); Hunter (2004), Annals of Statistics 32.",
    parts=("score", "Hessian", "dimension of the null space"),
    sides={"closed form": (1, 1, lambda n_ij: linked_sets(n_ij)), "gradient core": (0, 0, nullity)},
    misses={"one constant, however many components": Miss(lambda: 1.0, part=2)},
    largest=24,
)
