"""Equations of graphs: elimination and conjugate gradients agree with dense algebra and with each other, whatever the graph."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array
from tabular_rlhf.preferences import comparisons, laplacian
from tabular_rlhf.preferences.comparisons import Wins, count_wins, triads
from tabular_rlhf.preferences.laplacian import Chain, Laplacian, narrow
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.preferences.outcomes import MODELS, fit_outcomes
from tabular_rlhf.preferences.variances import laplacian_variances


def weights(rng: np.random.Generator, N: int, reach: int, sets: int) -> Array:
    """A graph of several linked sets, each a chain of links of at most `reach`, its items shuffled."""
    A = np.zeros((N, N))
    for part in np.array_split(rng.permutation(N), sets):
        for a, b in itertools.pairwise(part):
            A[a, b] = rng.uniform(0.1, 2.0)
        for _ in range(2 * len(part)):
            k = int(rng.integers(len(part)))
            A[part[k], part[min(k + int(rng.integers(1, reach + 1)), len(part) - 1)]] += rng.uniform(0.1, 2.0)
    np.fill_diagonal(A, 0.0)
    return np.asarray(A + A.T)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32), st.integers(1, 90), st.integers(1, 9), st.integers(1, 4), st.sampled_from([0.0, 0.3]), st.sampled_from([1, 24])
)
def test_elimination_is_dense_algebra(seed: int, N: int, reach: int, sets: int, ridge: float, block: int) -> None:
    rng = np.random.default_rng(seed)
    A = weights(rng, N, reach, min(sets, N))
    sparse, D = csr_array(A), A.sum(axis=1) + ridge
    lonely = D == 0
    D = np.where(lonely, 1.0, D)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laplacian, "BLOCK", block)
        chain = Chain(sparse, D, narrow(sparse), held=ridge > 0)
        got = chain.variances()
    centered = np.eye(N) - (chain.linked[:, None] == chain.linked) / np.bincount(chain.linked)[chain.linked]
    L = np.diag(D) - A
    b = centered @ rng.standard_normal(N)
    np.testing.assert_allclose(L @ chain.solve(b), b, atol=1e-11)
    inverse = np.linalg.inv(L) if ridge else np.linalg.pinv(centered @ L @ centered)
    exact = np.diag(centered @ inverse @ centered)
    np.testing.assert_allclose(got, exact, rtol=1e-9, atol=1e-12)


def games(rng: np.random.Generator, N: int, M: int) -> tuple[Array, Array]:
    """Winners and losers who met those that stand next to them, everybody won and lost."""
    a = rng.integers(0, N - 1, M)
    b = np.minimum(a + rng.integers(1, 3, M), N - 1)
    ring = np.arange(N - 1)
    turned = rng.random(M) < 0.5
    return np.r_[np.where(turned, a, b), ring, ring + 1], np.r_[np.where(turned, b, a), ring + 1, ring]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("prior", [None, 2.0])
def test_a_fit_is_the_same_whichever_way_its_steps_are_solved(dense: bool, prior: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    w, l = games(np.random.default_rng(1), 120, 400)
    wins = count_wins(w, l, 120)
    wins = wins if dense else Wins(csr_array(wins.counts), wins.names)
    by_gradients = fit(wins, prior=prior)
    monkeypatch.setattr(laplacian, "PATIENCE", 0)
    by_elimination = fit(wins, prior=prior)
    np.testing.assert_allclose(by_elimination.r, by_gradients.r, atol=1e-8)
    r, n = by_elimination.r, wins.compared if dense else wins.compared.toarray()
    slope = wins.won - np.sum(n / (1 + np.exp(r - r[:, None])), axis=1)
    np.testing.assert_allclose(slope, r / prior if prior else 0.0, atol=1e-8)


@pytest.mark.parametrize("model", MODELS)
def test_so_is_a_fit_of_ties_or_of_order(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    i, j = games(rng, 40, 200)
    a, b, t = (rng.integers(1, 5, len(i)).astype(float) for _ in range(3))
    found = fit_outcomes(model, i, j, a, b, t, 40)
    monkeypatch.setattr(laplacian, "PATIENCE", 0)
    again = fit_outcomes(model, i, j, a, b, t, 40)
    np.testing.assert_allclose(again.r - np.mean(again.r), found.r - np.mean(found.r), atol=1e-8)
    np.testing.assert_allclose([again.eta, again.standard_error], [found.eta, found.standard_error], rtol=1e-7)


def test_a_long_graph_is_eliminated_and_a_wide_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    N = 3000
    A = csr_array(weights(np.random.default_rng(0), N, 4, 1))
    D = np.asarray(A.sum(axis=1))
    b = np.where(np.arange(N) % 2, 1.0, -1.0)
    asked = []
    equations = Laplacian(lambda v: asked.append(1) or D * v - A @ v, lambda: A)  # type: ignore[func-returns-value]
    x = equations.solve(D, b, 1e-10, np.zeros(N))
    assert np.max(np.abs(D * x - A @ x - b)) < 1e-9
    assert len(asked) == laplacian.PATIENCE + 2
    monkeypatch.setattr(laplacian, "ROOM", 1)
    assert not len(narrow(A))


def test_a_block_that_weighs_nothing_is_refused_with_its_reason() -> None:
    with pytest.raises(SolveError, match="weigh nothing"):
        Chain(csr_array((2, 2)), np.zeros(2), np.array([0, 1]))


def test_no_variance_is_below_its_bound_and_the_worst_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that met all others, of which each met a few: its estimate alone would be off by more than itself."""
    monkeypatch.setattr(laplacian, "WORK", 0.0)
    rng, N = np.random.default_rng(0), 200
    i, j = np.r_[np.zeros(N - 1, dtype=int), rng.integers(1, N, N)], np.r_[np.arange(1, N), rng.integers(1, N, N)]
    A = np.zeros((N, N))
    np.add.at(A, (i[i != j], j[i != j]), 1.0)
    A += A.T
    exact = np.diag(np.linalg.pinv(np.diag(A.sum(axis=1)) - A))
    variance, error = laplacian_variances(csr_array(A), rng=rng)
    assert error[0] == 0
    assert variance[0] == pytest.approx(exact[0], rel=1e-5)
    assert np.all(variance >= (1 - 1e-6) * (1 - 1 / N) ** 2 / A.sum(axis=1))  # the first meets it
    assert np.max(np.abs(variance - exact) / (error + 1e-5 * exact)) < 5


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 8), st.integers(1, 40), st.integers(1, 30))
def test_triads_are_those_that_are_listed_one_by_one(seed: int, N: int, M: int, at_once: int) -> None:
    rng = np.random.default_rng(seed)
    wins = count_wins(rng.integers(0, N, M), rng.integers(0, N, M), N)
    sign = np.sign(wins.counts - wins.counts.T)
    sides = [(sign[a, b], sign[b, c], sign[c, a]) for a, b, c in itertools.combinations(range(N), 3)]
    decided = [s for s in sides if all(s)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparisons, "WEDGES", at_once)
        cyclic, every = triads(wins)
    assert (int(np.sum(cyclic)), int(np.sum(every))) == (sum(len(set(s)) == 1 for s in decided), len(decided))
