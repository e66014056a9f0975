r"""Chapter 3: learning from preferences.  Bradley-Terry, what its likelihood knows, and what noise and cycles do to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, hessian
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Miss, Row, Sampled, add
from tabular_rlhf.logspace import log_sigmoid
from tabular_rlhf.preferences.comparisons import Wins, structure

TERRY = "Bradley and Terry (1952), Rank analysis of incomplete block designs; Zermelo (1929)."


def sigma(d: Any) -> Any:
    return np.exp(log_sigmoid(d))


def softplus(d: Any) -> Any:
    """log(1 + e^d) = -log sigma(-d), written without a kink, so that the core's second derivatives hold at ties too."""
    return np.logaddexp(0.0, d)


def wins_table(counts: Any) -> Wins:
    return Wins(np.asarray(counts, dtype=float), tuple(map(str, range(len(counts)))))


def weights(log_p_ref: Any, mu: Any) -> Any:
    """mu(x) q_i q_j, (P, N, N)."""
    p = np.exp(log_p_ref)
    return mu[:, None, None] * p[:, :, None] * p[:, None, :]


def nll(scores: Any, wins: Any) -> Any:
    """-sum wins_ij log sigma(r_i - r_j), over all prompts; traced."""
    return np.sum(wins * softplus(scores[:, None, :] - scores[:, :, None]))


def moderate(gaps: Any) -> bool:
    """Rewards whose differences neither floats nor Newton's method find extreme."""
    return bool(np.max(np.abs(gaps)) < 30)


# ---------------------------------------------------------------------------------------------------- bradley-terry


def by_shares(r: Any) -> Any:
    e = np.exp(r - np.max(r, axis=1, keepdims=True))
    return e[:, :, None] / (e[:, :, None] + e[:, None, :])


def by_tanh(gaps: Any) -> Any:
    return 0.5 * (1.0 + np.tanh(0.5 * gaps))


add(
    Row(
        slug="bradley-terry",
        chapter=3,
        statement=r"P(\tau^+ \succ \tau^-) = \sigma(r^+ - r^-) = e^{r^+} / (e^{r^+} + e^{r^-}); \qquad P(i \succ j) + P(j \succ i) = 1",
        source=TERRY,
        parts=("P(i beats j)", "both outcomes together"),
        sides={
            "sigma of the gap": lambda P_beats: (P_beats, P_beats + np.swapaxes(P_beats, 1, 2)),
            "shares of exponentials": lambda r, gaps: (by_shares(r), np.ones_like(gaps)),
            "half of one plus tanh of half the gap": lambda gaps: (by_tanh(gaps), np.ones_like(gaps)),
            "the law of `preferences`": lambda law, gaps: (law.table(), np.ones_like(gaps)),
        },
        misses={
            "winner and loser swapped": lambda gaps: sigma(-gaps),
            "shares of rewards without exp": lambda r: np.abs(r)[:, :, None] / np.maximum(np.abs(r)[:, :, None] + np.abs(r)[:, None], 1e-9),
            "log base 2": lambda gaps: sigma(gaps * np.log(2.0)),
            "beta for one: sigma(beta (r - r'))": lambda gaps, beta: sigma(beta * gaps),
            "sigma of each reward alone": lambda gaps, r: sigma(r)[:, :, None] + 0.0 * gaps,
            "softmax over all responses": lambda r, gaps: (
                np.exp(r - np.log(np.sum(np.exp(r), axis=1, keepdims=True)))[:, :, None] + 0 * gaps
            ),
        },
        sampled=Sampled(
            "log_p_ref",
            lambda P_beats, log_p_ref: np.sum(np.exp(log_p_ref)[:, None, :] * P_beats, axis=2),
            lambda: 0.5,
        ),
        where=lambda r: np.max(np.abs(r)) < 300,
        largest=500,
    )
)

# ---------------------------------------------------------------------------------------------------- reward-shift-invariance


def both_after(r: Any, log_p_ref: Any, beta: float) -> Any:
    """The Bradley-Terry law and the Gibbs optimum of a reward."""
    return sigma(r[:, :, None] - r[:, None, :]), np.exp(log_gibbs(log_p_ref, r, beta))


def law_shifted_by_response(r: Any, mdp: Any) -> Any:
    """The law after a shift that differs between responses: their length, or their number where all are equally long."""
    c = mdp.lengths if len(set(mdp.lengths.tolist())) > 1 else np.arange(r.shape[1])
    return sigma((r + c)[:, :, None] - (r + c)[:, None, :])


add(
    Row(
        slug="reward-shift-invariance",
        chapter=3,
        statement=r"r(x, \tau) + c(x) \text{ has the Bradley-Terry law and the Gibbs optimum of } r",
        source="Rafailov et al. (2023), arXiv:2305.18290, lemmas 1 and 2.",
        parts=("P(i beats j)", "p*"),
        sides={
            "r": lambda P_beats, p_star: (P_beats, p_star),
            "r + c(x)": lambda r, shift, log_p_ref, beta: both_after(r + shift, log_p_ref, beta),
            "r - V(x), which is beta log(p*/p_ref)": lambda r, value, log_p_ref, beta: both_after(r - value[:, None], log_p_ref, beta),
        },
        misses={
            "a shift c(x, tau), such as by length": law_shifted_by_response,
            "a scale a(x) for a shift c(x)": lambda gaps: sigma(2.0 * gaps),
            "a shift of the winner alone": lambda gaps, shift: sigma(gaps + shift[:, :, None]),
            "scaled rewards have the same p*": Miss(
                "scaled rewards have the same p*", lambda r, log_p_ref, beta: np.exp(log_gibbs(log_p_ref, 2.0 * r, beta)), part=1
            ),
        },
        scale=lambda r, shift: 1.0 + np.max(np.abs(r)) + np.max(np.abs(shift)),
        largest=500,
    )
)

# ---------------------------------------------------------------------------------------------------- mle-is-forward-kl


def kl_bernoulli(d: Any, other: Any) -> Any:
    """KL(Bernoulli(sigma(d)), Bernoulli(sigma(other))), exact also where both are close to 0 or 1."""
    return sigma(d) * (log_sigmoid(d) - log_sigmoid(other)) + sigma(-d) * (log_sigmoid(-d) - log_sigmoid(-other))


def label_entropy(gaps: Any) -> Any:
    return -(sigma(gaps) * log_sigmoid(gaps) + sigma(-gaps) * log_sigmoid(-gaps))


add(
    Row(
        slug="mle-is-forward-kl",
        chapter=3,
        statement=(
            r"\mathbb{E}_{P_r}[-\log P_{\hat r}] = \mathrm{KL}(P_r, P_{\hat r}) + \mathcal{H}(P_r): "
            r"\text{ maximum likelihood is the forward-KL projection onto Bradley-Terry laws}"
        ),
        source="Kullback and Leibler (1951); Swamy et al. (2025), arXiv:2503.01067, for RLHF.",
        note="Part 2: the gradient of both in the scores is the same, since the entropy of the labels is a constant.",
        parts=("nats", "gradient in the scores"),
        sides={
            "cross entropy": lambda pairs, scores, mu, log_p_ref, P_beats: (
                -np.sum(pairs.weight * log_sigmoid(pairs.margin(scores))),
                grad(lambda s: -np.sum(pairs.weight * log_sigmoid(pairs.margin(s))))(scores),
            ),
            "KL plus entropy": lambda gaps, score_gaps, scores, log_p_ref, mu: (
                np.sum(weights(log_p_ref, mu) * (kl_bernoulli(gaps, score_gaps) + label_entropy(gaps))),
                grad(lambda s: np.sum(weights(log_p_ref, mu) * kl_bernoulli(gaps, s[:, :, None] - s[:, None, :])))(scores),
            ),
        },
        misses={
            "reverse for forward KL": lambda gaps, score_gaps, log_p_ref, mu: np.sum(
                weights(log_p_ref, mu) * (kl_bernoulli(score_gaps, gaps) + label_entropy(gaps))
            ),
            "entropy of the fitted law for that of the labels": lambda gaps, score_gaps, log_p_ref, mu: np.sum(
                weights(log_p_ref, mu) * (kl_bernoulli(gaps, score_gaps) + label_entropy(score_gaps))
            ),
            "entropy forgotten": lambda gaps, score_gaps, log_p_ref, mu: np.sum(weights(log_p_ref, mu) * kl_bernoulli(gaps, score_gaps)),
            "log base 2": lambda pairs, scores: -np.sum(pairs.weight * log_sigmoid(pairs.margin(scores))) / np.log(2.0),
            "reverse for forward KL, in the gradient": Miss(
                "reverse for forward KL, in the gradient",
                lambda gaps, scores, log_p_ref, mu: grad(
                    lambda s: np.sum(weights(log_p_ref, mu) * kl_bernoulli(s[:, :, None] - s[:, None, :], gaps))
                )(scores),
                part=1,
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
)

# ---------------------------------------------------------------------------------------------------- bt-score-hessian


def score(scores: Any, n_ij: Any, wins_ij: Any) -> Any:
    """sum_j n_ij (sigma(r_i - r_j) - wins_ij/n_ij)."""
    return np.sum(n_ij * sigma(scores[:, :, None] - scores[:, None, :]) - wins_ij, axis=2)


def laplacian(weight: Any) -> Any:
    """diag(row sums) - weight, for each prompt, as one (P N, P N) matrix."""
    P, N = weight.shape[:2]
    out = np.zeros((P, N, P, N))
    for x in range(P):
        out[x, :, x, :] = np.diag(np.sum(weight[x], axis=1)) - weight[x]
    return out.reshape(P * N, P * N)


def linked_sets(n_ij: Any) -> float:
    """Connected components of the comparison graphs, by flooding."""
    return float(sum(np.max(structure(wins_table(n)).linked) + 1 for n in n_ij))


def nullity(n_ij: Any, scores: Any, wins_ij: Any) -> float:
    """Eigenvalues of the NLL's Hessian, by the gradient core, that vanish."""
    H = hessian(nll)(scores, wins_ij).reshape(scores.size, scores.size)
    values = np.linalg.eigvalsh(H)
    return float(np.sum(values < 1e-9 * max(1e-300, float(np.max(values, initial=0.0))) + 1e-12))


add(
    Row(
        slug="bt-score-hessian",
        chapter=3,
        statement=(
            r"\partial_i \mathrm{NLL} = \sum_j n_{ij}\big(\sigma(r_i - r_j) - \tfrac{wins_{ij}}{n_{ij}}\big), \qquad "
            r"\nabla^2 = \mathrm{Laplacian}\big(n_{ij}\, \sigma(d_{ij}) \sigma(-d_{ij})\big), \qquad "
            r"\mathrm{null\ space}: \text{ a constant for each connected component}"
        ),
        source="Ford (1957); Hunter (2004), Annals of Statistics 32.",
        parts=("score", "Hessian", "dimension of the null space"),
        sides={
            "closed form": lambda scores, score_gaps, n_ij, wins_ij: (
                score(scores, n_ij, wins_ij),
                laplacian(n_ij * sigma(score_gaps) * sigma(-score_gaps)),
                linked_sets(n_ij),
            ),
            "gradient core": lambda scores, n_ij, wins_ij: (
                grad(nll)(scores, wins_ij),
                hessian(nll)(scores, wins_ij).reshape(scores.size, scores.size),
                nullity(n_ij, scores, wins_ij),
            ),
        },
        misses={
            "sign flipped": lambda scores, n_ij, wins_ij: -score(scores, n_ij, wins_ij),
            "winner and loser swapped": lambda scores, n_ij, wins_ij: score(scores, n_ij, np.swapaxes(wins_ij, 1, 2)),
            "n_ij forgotten: rates for counts": lambda scores, n_ij, wins_ij: score(
                scores, (n_ij > 0) * 1.0, wins_ij / np.maximum(n_ij, 1.0)
            ),
            "sigma for sigma(1 - sigma) in the Hessian": Miss(
                "sigma for sigma(1 - sigma) in the Hessian", lambda n_ij, score_gaps: laplacian(n_ij * sigma(score_gaps)), part=1
            ),
            "the adjacency for the Laplacian": Miss(
                "the adjacency for the Laplacian",
                lambda n_ij, score_gaps: laplacian(-n_ij * sigma(score_gaps) * sigma(-score_gaps)),
                part=1,
            ),
            "one constant, however many components": Miss("one constant, however many components", lambda: 1.0, part=2),
        },
        largest=24,
    )
)
