r"""Chapter 3, continued: where Bradley-Terry saturates, cycles, ranks more than two, and hears wrong labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.ledger.record import Approximately, Miss, claim
from tabular_rlhf.logspace import log_sigmoid
from tabular_rlhf.preferences import log_plackett_luce, noisy, population_pairs
from tabular_rlhf.preferences.label_noise import log_flipped, smoothed_loss, unbiased_loss
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.terms.comparisons import pairs_nll, sigma, wins_table
from tabular_rlhf.terms.conditions import moderate

# ---------------------------------------------------------------------------------------------------- bt-saturation


def slope_by_core(gaps: Any) -> Any:
    return grad(lambda d: np.sum(log_sigmoid(d)))(gaps)


def slope_by_difference(gaps: Any) -> Any:
    return central(lambda t: log_sigmoid(gaps + t), 1e-3)


claim(
    slug="bt-saturation",
    chapter=3,
    text=r"""
    \frac{d}{dD} \log \sigma(D) = \sigma(-D), \quad D = r_i - r_j
      slip sign within sigma flipped
      not \sigma(D)\, \sigma(-D)  # sigma(D) sigma(-D): the slope of sigma
      not e^{-D}  # e^-D taken for the slope
      not -\sigma(-D)  # sign flipped
      not \sigma(-D) / \log 2  # log base 2
    e^{-|D|} - \sigma(-|D|) = e^{-|D|}\, \sigma(-|D|)
    \sigma(-D) \le e^{-D}
    """,
    source="Calculus; for RLHF, Rafailov et al. (2023), arXiv:2305.18290, section 4.",
    note="Part 2: the bound is e^-D - sigma(-D) = e^-D sigma(-D), never negative: far pairs are pushed exponentially less.",
    parts=("slope", "what the bound leaves, for D >= 0"),
    sides={
        "sigma(-D)": 1,
        "gradient core": (0, lambda gaps: np.exp(-np.abs(gaps)) - slope_by_core(np.abs(gaps))),
        # (h)^4 times the fifth derivative over 30, at most 1e-13, and the rounding of log sigma over h
        "finite difference": Approximately(
            lambda gaps: (slope_by_difference(gaps), np.exp(-np.abs(gaps)) - slope_by_difference(np.abs(gaps))), error=1e-11
        ),
    },
    scale=lambda gaps: 1.0 + np.max(np.abs(gaps)),
    largest=200,
)

# ---------------------------------------------------------------------------------------------------- borda


def borda(people: Any) -> Any:
    """Mean win rate of each response against the others."""
    N = people.shape[1]
    return (np.sum(people, axis=2) - 0.5) / (N - 1)


def fit_people(people: Any) -> Any:
    """Bradley-Terry scores of a complete uniform design."""
    return np.stack([fit(wins_table(M - 0.5 * np.eye(len(M)))).r for M in people])


def rate_under(r: Any) -> Any:
    """Mean win rate of each response under Bradley-Terry scores."""
    return borda(sigma(r[:, :, None] - r[:, None, :]))


def order(values: Any) -> Any:
    """Who is ahead of whom: signs of differences, ties within rounding as 0."""
    gap = values[:, :, None] - values[:, None, :]
    return np.sign(np.where(np.abs(gap) < 1e-7, 0.0, gap))


def residual(people: Any) -> Any:
    """sum over pairs of KL(people, fitted law), for each prompt, in nats."""
    r = fit_people(people)
    d = r[:, :, None] - r[:, None, :]
    return 0.5 * np.sum(people * (np.log(people) - log_sigmoid(d)) + (1 - people) * (np.log1p(-people) - log_sigmoid(-d)), axis=(1, 2))


def residual_by_deviance(people: Any) -> Any:
    return np.array([0.5 * fit(wins_table(M - 0.5 * np.eye(len(M)))).deviance for M in people])


claim(
    slug="borda",
    chapter=3,
    text=r"""
    let M = people
    -\frac{\partial}{\partial \hat r_i} \sum_{i, j} M_{ij} \log \sigma(\hat r_i - \hat r_j) = \sum_{j \ne i} \sigma(\hat r_i - \hat r_j) -
        \sum_{j \ne i} M_{ij}
        # where each pair is compared equally often: 0 at the fit, which orders by the mean rate of wins M, the Borda score, transitive
        or not
      not \frac{1}{N - 1} \sum_{j \ne i} (1[M_{ij} > 1/2] + \frac{1}{2}\, 1[M_{ij} = 1/2])  # majorities for margins: Copeland's rule
      not 1/(N - 1)*sum_{j != i} sigma(m_i - m_j), where m_i = 1/N*sum_j log(M_{ij}/M_{ji})  # mean log-odds for mean rates
      not \frac{1}{N - 1} \sum_{j \ne i} M_{ji}  # losses for wins
      not \frac{1}{N} \sum_j M_{ij}  # the diagonal counted: n for n - 1
    """,
    source="Zermelo (1929); Borda (1784); Siththaranjan et al. (2023), arXiv:2312.08358, for RLHF.",
    note="Part 3: the KL that remains is the price of the fiction; it is 0 exactly where M is a Bradley-Terry law.",
    parts=("mean win rates", "order", "residual KL"),
    sides={
        "of the people": lambda people: (borda(people), order(borda(people)), residual(people)),
        # Newton stops within 8e-10 nats
        "of the fit": Approximately(
            lambda people: (rate_under(fit_people(people)), order(fit_people(people)), residual_by_deviance(people)), error=5e-9
        ),
    },
    misses={
        "the fit reproduces each pair: no residual": Miss(lambda people: np.zeros(len(people)), part=2),
        "order of losses": Miss(lambda people: -order(borda(people)), part=1),
    },
    where=lambda N: 2 <= N <= 24,
    largest=72,
)

# ---------------------------------------------------------------------------------------------------- plackett-luce


def all_rankings(N: int) -> Any:
    return np.array(list(itertools.permutations(range(N))))


def pair_margin(r: Any) -> Any:
    """P(i is placed before j), summed over all rankings."""
    N = r.shape[1]
    rankings = all_rankings(N)
    place = np.argsort(rankings, axis=1)
    before = place[:, :, None] < place[:, None, :]
    before_or_same = before + 0.5 * np.eye(N)
    return np.stack([np.einsum("k,kij->ij", np.exp(log_plackett_luce(row, rankings)), before_or_same) for row in r])


def by_draws_without_replacement(r: Any) -> Any:
    """P of every ranking as a product of shares of those left, by plain multiplication."""
    out = []
    for row in r:
        e = np.exp(row - np.max(row))
        out.append(
            [np.prod([e[k] / sum(e[m] for m in ranking[place:]) for place, k in enumerate(ranking)]) for ranking in all_rankings(len(row))]
        )
    return np.array(out)


def from_the_bottom(r: Any) -> Any:
    """Rankings drawn from the worst up, with shares of e^r: not the same law."""
    rankings = all_rankings(r.shape[1])
    return np.stack([np.exp(log_plackett_luce(row, rankings[:, ::-1])) for row in r])


def independent_pairs(r: Any) -> Any:
    """Products of Bradley-Terry probabilities over all pairs of the ranking: not normalized."""
    rankings = all_rankings(r.shape[1])
    i, j = np.triu_indices(r.shape[1], 1)
    return np.stack([np.exp(np.sum(log_sigmoid(row[rankings[:, i]] - row[rankings[:, j]]), axis=1)) for row in r])


def with_all_left(r: Any) -> Any:
    """Shares of all responses at every place, as if none had been placed."""
    rankings = all_rankings(r.shape[1])
    shares = r - np.log(np.sum(np.exp(r), axis=1, keepdims=True))
    return np.stack([np.exp(np.sum(row[rankings], axis=1)) for row in shares])


claim(
    slug="plackett-luce",
    chapter=3,
    text=r"""
    P(1 \succ 2 \succ \dots \succ K) = \prod_{k=1}^{K} \frac{e^{r_k}}{\sum_{m=k}^{K} e^{r_m}}
    \sigma(r_i - r_j) = q_i + (1 - q_i - q_j)\, \sigma(r_i - r_j), \quad q_i = \frac{e^{r_i}}{\sum_j e^{r_j}}
        # is the chance that i is placed before j: i comes first, or another one does and the draw begins again without it
      not \sigma(r_j - r_i)  # winner and loser swapped
      not q_i  # first place taken for the pair
    """,
    source="Luce (1959), Individual choice behavior; Plackett (1975), The analysis of permutations.",
    parts=("every ranking", "every pair", "sum over rankings"),
    sides={
        "likelihood of rankings, marginalised": lambda r: (
            np.stack([np.exp(log_plackett_luce(row, all_rankings(r.shape[1]))) for row in r]),
            pair_margin(r),
            np.ones(len(r)),
        ),
        "draws without replacement, and Bradley-Terry": (
            lambda r: by_draws_without_replacement(r),
            0,
            lambda r: np.sum(by_draws_without_replacement(r), axis=1),
        ),
    },
    misses={
        "drawn from the worst up": from_the_bottom,
        "pairs taken as independent": independent_pairs,
        "those already placed left in the sum": with_all_left,
    },
    where=lambda N, gaps: N <= 6 and moderate(gaps),
    largest=18,
)

# ---------------------------------------------------------------------------------------------------- label-noise


def noisy_pairs(world: Any, law: Any, flip: float) -> Any:
    return population_pairs(world, noisy(law, flip))


def slope_of(loss: Any, pairs: Any, r: Any, flip: float) -> Any:
    """Gradient at r of the mean loss over pairs with flipped labels."""
    return grad(lambda s: np.sum(pairs.weight * loss(pairs.margin(s), flip)))(r)


def mixture(D: Any, flip: float) -> Any:
    return -log_flipped(D, flip)


def two_item_fit(gaps: Any, flip: float, times: int) -> Any:
    """The naive fit of each pair alone, by Newton's method, from rates flipped `times` over."""
    P, N = gaps.shape[:2]
    out = np.zeros_like(gaps)
    keep = (1 + (1 - 2 * flip) ** times) / 2  # the chance of an even number of flips
    for x, i, j in itertools.product(range(P), range(N), range(N)):
        if i < j:
            rate = keep * sigma(gaps[x, i, j]) + (1 - keep) * sigma(-gaps[x, i, j])
            r = fit(wins_table([[0.0, rate], [1.0 - rate, 0.0]])).r
            out[x, i, j], out[x, j, i] = r[0] - r[1], r[1] - r[0]
    return out


claim(
    slug="label-noise",
    chapter=3,
    text=r"""
    let epsilon = flip
    q\, \frac{d}{dD} \log q + (1 - q)\, \frac{d}{dD} \log(1 - q) = 0, \quad q = (1 - \varepsilon)\, \sigma(D) + \varepsilon\, \sigma(-D),
        \quad D = r_i - r_j
    \mathbb{E}_{(x, w, l) \sim D}[(1 - \varepsilon)\, g(\hat r_w - \hat r_l) + \varepsilon\, g(\hat r_l - \hat r_w)] = \mathbb{E}_{(x, w, l)
        \sim D}[\ell(\hat r_w - \hat r_l)], \quad g(z) = \frac{(1 - \varepsilon)\, \ell(z) - \varepsilon\, \ell(-z)}{1 - 2 \varepsilon},
        \quad \ell(z) = -\log \sigma(z)
      not (1 - 2*epsilon)*E_{(x, w, l) ~ D}[ell(r_hat(w) - r_hat(l))]  # 1 - 2e forgotten
    \log\frac{q}{1 - q} = \log\frac{(1 - \varepsilon)\, e^D + \varepsilon}{\varepsilon\, e^D + 1 - \varepsilon}
      not D  # noise leaves margins alone
      not (1 - 2 \varepsilon)\, D  # margins shrink by 1 - 2e
    \log\frac{q'}{1 - q'} = \log\frac{(1 - \delta)\, e^D + \delta}{\delta\, e^D + 1 - \delta}, \quad q' = (1 - \varepsilon)\, q +
        \varepsilon\, (1 - q), \quad \delta = 2\, \varepsilon\, (1 - \varepsilon)
        # where labels are flipped with a known chance: the mixture's slope and the unbiased loss are right, a naive fit of two has the
        third margin, a smoothed one the fourth, as if flipped twice
      not D  # smoothing undoes the noise
      not \log\frac{q}{1 - q}  # smoothing changes nothing
    """,
    source="Natarajan et al. (2013), Learning with noisy labels; Chowdhury et al. (2024), arXiv:2403.00409; Mitchell (2023).",
    note="Parts 3 and 4 are for two responses at a time; label smoothing with the true e repeats the noise instead of undoing it.",
    parts=("slope of the mixture at r", "mean unbiased loss", "naive margins", "smoothed margins"),
    sides={
        "closed form": (lambda r: np.zeros_like(r), 1, 0, 0),
        "flipped pairs, and twice": (lambda r: np.zeros_like(r), 0, 1, 1),
        # Newton stops within 8e-10 nats
        "flipped pairs, gradient core, Newton": Approximately(
            lambda world, law, r, gaps, scores, flip: (
                slope_of(mixture, noisy_pairs(world, law, flip), r, flip),
                mean_of(unbiased_loss, noisy_pairs(world, law, flip), scores, flip),
                two_item_fit(gaps, flip, 1),
                two_item_fit(gaps, flip, 2),
            ),
            error=5e-9,
        ),
    },
    misses={
        "the naive likelihood is stationary at r": lambda world, law, r, flip: grad(lambda s: pairs_nll(noisy_pairs(world, law, flip), s))(
            r
        ),
        "label smoothing is stationary at r": lambda world, law, r, flip: slope_of(smoothed_loss, noisy_pairs(world, law, flip), r, flip),
        "smoothing taken for the unbiased loss": Miss(
            lambda world, law, scores, flip: mean_of(smoothed_loss, noisy_pairs(world, law, flip), scores, flip), part=1
        ),
    },
    where=lambda gaps, N: moderate(gaps) and 2 <= N,
    scale=lambda gaps, score_gaps: 1.0 + np.max(np.abs(gaps)) + np.max(np.abs(score_gaps)),
    largest=16,
)


def mean_of(loss: Any, pairs: Any, scores: Any, flip: float) -> Any:
    return np.sum(pairs.weight * loss(pairs.margin(scores), flip))
