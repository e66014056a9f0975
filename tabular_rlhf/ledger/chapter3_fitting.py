r"""Chapter 3, continued: when Bradley-Terry can be fitted at all, and how well."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, hessian
from tabular_rlhf.ledger.record import Approximately, claim
from tabular_rlhf.preferences.comparisons import structure
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.terms.comparisons import pair_shares, pairs_nll, sigma, wins_table
from tabular_rlhf.terms.conditions import moderate

# ---------------------------------------------------------------------------------------------------- bt-existence


def exists_by_walks(wins_ij: Any) -> Any:
    """Strong connection, for each prompt."""
    return np.array([float(structure(wins_table(w)).exists) for w in wins_ij])


def exists_by_cones(wins_ij: Any) -> Any:
    """No direction but the shift along which no observed win gets less likely: by a linear program for each prompt."""
    from scipy.optimize import linprog

    out = []
    for w in wins_ij:
        N = len(w)
        i, j = np.nonzero(w)
        drop = np.zeros((len(i), N))  # row c: d_j - d_i <= 0, that is, no win loses
        drop[np.arange(len(i)), i] -= 1.0
        drop[np.arange(len(i)), j] += 1.0
        # spread of d above its smallest entry: d >= 0 with some entry at zero; N programs, one for each item held at zero
        widest = 0.0
        for k in range(N):
            bounds = [(0.0, 0.0) if m == k else (0.0, 1.0) for m in range(N)]
            found = linprog(-np.ones(N), A_ub=drop if len(i) else None, b_ub=np.zeros(len(i)) if len(i) else None, bounds=bounds)
            widest = max(widest, -float(found.fun if found.fun is not None else -np.inf))
        out.append(float(widest < 1e-9))
    return np.array(out)


def exists_by_subsets(wins_ij: Any) -> Any:
    """Every proper subset was beaten from outside: by trying all of them."""
    out = []
    for w in wins_ij:
        N = len(w)
        proper = (s for k in range(1, N) for s in itertools.combinations(range(N), k))
        out.append(float(all(any(w[j, i] > 0 for i in s for j in range(N) if j not in s) for s in proper)))
    return np.array(out)


claim(
    slug="bt-existence",
    chapter=3,
    text=r"""
    let w = wins_ij
    \max_{\hat r} \sum_{i, j} w_{ij} \log \sigma(\hat r_i - \hat r_j) \text{ is reached} \iff i \to \dots \to j
        # for all i and j: a finite fit exists, unique up to a shift, where the graph of wins leads from each to each
      not \min_{i, j} 1[w_{ij} + w_{ji} + 1[i = j] > 0]  # comparing every pair is enough
    """,
    source="Ford (1957), Solution of a ranking problem from binary comparisons; Hunter (2004).",
    sides={
        "a walk along wins from each to each": exists_by_walks,
        "no direction of recession: linear programs": exists_by_cones,
        "no set was never beaten from outside: all subsets": exists_by_subsets,
    },
    misses={
        "connected is enough": lambda wins_ij: np.array([float(np.max(structure(wins_table(w)).linked) == 0) for w in wins_ij]),
        "every item has won": lambda wins_ij: np.array([float(all(np.sum(w, axis=1) > 0)) if len(w) > 1 else 1.0 for w in wins_ij]),
        "always": lambda wins_ij: np.ones(len(wins_ij)),
    },
    where=lambda N: N <= 8,
    largest=20,
)

# ---------------------------------------------------------------------------------------------------- bt-consistency


def centered(r: Any) -> Any:
    return r - np.mean(r, axis=1, keepdims=True)


def population_counts(gaps: Any, log_p_ref: Any, mu: Any) -> Any:
    """2 mu q_i q_j P(i beats j) without the diagonal."""
    counts = 2.0 * pair_shares(log_p_ref, mu) * sigma(gaps)
    return counts * (1.0 - np.eye(gaps.shape[1]))


def fitted_population(gaps: Any, log_p_ref: Any, mu: Any) -> Any:
    return np.stack([fit(wins_table(w / np.sum(w))).r for w in population_counts(gaps, log_p_ref, mu)])


def score_covariance(pairs: Any, r: Any) -> Any:
    """E[g g^T] of one comparison's score g = sigma(-D) (1_w - 1_l), for each prompt, over all pairs with their weights."""
    x, w, l, weight = np.broadcast_arrays(pairs.x, pairs.w, pairs.l, pairs.weight)
    g = (np.sqrt(weight) * sigma(-pairs.margin(r))).ravel()
    rows = np.zeros((weight.size, *r.shape))
    where = np.arange(weight.size)
    np.add.at(rows, (where, x.ravel(), w.ravel()), g)
    np.add.at(rows, (where, x.ravel(), l.ravel()), -g)
    return np.einsum("cxi,cxk->xik", rows, rows)


claim(
    slug="bt-consistency",
    chapter=3,
    text=r"""
    -\frac{\partial}{\partial \hat r_i} \mathbb{E}_{(x, w, l) \sim D}[\log \sigma(\hat r_w - \hat r_l)] = 2\, \mu\, p_{ref}(i) \sum_j
        p_{ref}(j)\, (\sigma(\hat r_i - \hat r_j) - P(i \succ j))
    \mu\, \mathbb{E}_{(w, l) \sim D}[g_i\, g_k] = 1[i = k] \sum_j L_{ij} - L_{ik}, \quad g_k = \sigma(r_l - r_w)\, (1[w = k] - 1[l = k]),
        \quad L_{ij} = 2\, \mu\, p_{ref}(i)\, p_{ref}(j)\, \sigma(r_i - r_j)\, \sigma(r_j - r_i)
        # so the population's fit is r up to a shift, where the first is 0, and that of n comparisons scatters about it with 1/n of the
        pseudo-inverse of the second, the information of one
      slip 2 dropped
      not 1[i = k] \Big(\sum_j L_{ij} + \frac{1}{2}\, \mu\, p_{ref}(i)^2\Big) - L_{ik}  # self-comparisons carry information
    """,
    source="Simons and Yao (1999), Annals of Statistics 27; Bickel and Doksum, Mathematical Statistics, on the information identity.",
    note="Part 2 is the information identity; that samples have this covariance is checked by simulation in the tests.",
    parts=("population MLE, centered", "information of one comparison", "slope at r"),
    free={"population MLE, centered": "constant per prompt"},
    sides={
        "r, and the Laplacian": (lambda r: centered(r), 1, lambda r: np.zeros_like(r)),
        # Newton stops within 8e-10 nats
        "Newton on all pairs, and E[g g^T]": Approximately(
            lambda r, gaps, log_p_ref, mu, pairs: (
                fitted_population(gaps, log_p_ref, mu),
                score_covariance(pairs, r),
                np.zeros_like(r),
            ),
            error=5e-9,
        ),
        "slope and Hessian by the gradient core": lambda r, pairs: (
            centered(r),
            np.einsum("xixk->xik", hessian(lambda s: pairs_nll(pairs, s))(r)),
            grad(lambda s: pairs_nll(pairs, s))(r),
        ),
    },
    misses={
        "r itself, with its shift": lambda r: r,
        "winner and loser swapped": lambda r: -centered(r),
        "log base 2": lambda r: centered(r) / np.log(2.0),
        "beta for one": lambda r, beta: beta * centered(r),
    },
    where=lambda log_p_ref, gaps, mu: moderate(gaps) and np.min(log_p_ref) > -7 and np.min(mu) > 1e-3 and log_p_ref.shape[1] > 1,
    scale=lambda r: (1.0 + np.max(np.abs(r)), 1.0, 1.0),
    largest=24,
)
