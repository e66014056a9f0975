"""Laws of Bradley-Terry fits: published fits, brute force, existence against a linear program, and coverage by simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from tabular_rlhf import InputError
from tabular_rlhf.preferences import bradley_terry, matrix, population_pairs, sample_pairs
from tabular_rlhf.preferences.comparisons import Wins, count_wins, cyclic_triads, structure, wins_of
from tabular_rlhf.preferences.features import fit_features
from tabular_rlhf.preferences.likelihood import Fit, fit, fit_components, normal_quantile
from tabular_rlhf.preferences.published import DATASETS, load
from tabular_rlhf.preferences.published.fits import HOME_FIT, HOME_LOSSES, HOME_WINS, TEAMS
from tabular_rlhf.world import random_world


def random_wins(rng: np.random.Generator, N: int, density: float, most: int = 4) -> Wins:
    counts = rng.integers(0, most, (N, N)) * (rng.random((N, N)) < density) * 1.0
    np.fill_diagonal(counts, 0.0)
    return Wins(counts, tuple("abcdefghij"[:N]))


def nll_slope(wins: Wins, r: np.ndarray) -> list[float]:
    """sum_j n_ij sigma(r_i - r_j) - wins_i, in plain math."""
    c = np.asarray(wins.counts.toarray() if wins.sparse else wins.counts).tolist()
    N = range(wins.N)
    return [math.fsum((c[i][j] + c[j][i]) / (1 + math.exp(r[j] - r[i])) - c[i][j] for j in N if j != i) for i in N]


# ---------------------------------------------------------------------------------------------------- published fits


@pytest.mark.parametrize("name", [n for n, d in DATASETS.items() if d.against])
def test_published_fits_to_the_digits_printed(name: str) -> None:
    d = load(name)
    found = fit(d.wins())
    estimate, error = found.relative_to(d.names.index(str(d.against)))
    half = 0.5000001 * 10.0**-d.digits
    for item, printed in d.estimates.items():
        assert abs(estimate[d.names.index(item)] - printed) <= half, item
    for item, printed in d.errors.items():
        assert abs(error[d.names.index(item)] - printed) <= half, item
    if d.deviance is not None:
        assert f"{found.deviance:.5g}" == f"{d.deviance:.5g}"


def test_published_fit_of_each_component() -> None:
    d = load("toy")
    found = structure(d.wins())
    assert not found.exists
    assert found.undetermined == 2
    half = 0.5000001 * 10.0**-d.digits
    seen = {}
    for items, part in fit_components(found):
        seen |= {d.names[i]: (r, e) for i, r, e in zip(items, part.r, part.standard_errors, strict=True)}
    assert set(seen) == set(d.estimates)
    for item, (r, e) in seen.items():
        assert abs(r - d.estimates[item]) <= 2 * half, item  # both are rounded
        assert abs(e - d.errors[item]) <= 2 * half, item


def test_published_fit_with_home_advantage() -> None:
    rows = [(i, j, HOME_WINS[i][j], 1.0) for i in range(7) for j in range(7)]
    rows += [(j, i, HOME_LOSSES[i][j], -1.0) for i in range(7) for j in range(7)]
    w, l, n, z = (np.array(column) for column in zip(*rows, strict=True))
    found = fit_features(w, l, np.eye(7)[:, :6], weight=n.astype(float), z=z)
    names = [*TEAMS[:6], "at home"]
    for item, printed in HOME_FIT["estimates"].items():
        assert abs(found.theta[names.index(item)] - printed) <= 0.5000001e-4, item
    for item, printed in HOME_FIT["errors"].items():
        assert abs(found.standard_errors[names.index(item)] - printed) <= 0.5000001e-4, item


def test_published_fit_with_a_feature() -> None:
    """Citations explained by the journal's country, Firth (2005): -1.2732 for the USA, standard error 0.04999872."""
    w, l, n = load("citations").indices()
    found = fit_features(w, l, np.array([[0.0], [1.0], [1.0], [0.0]]), weight=n)
    assert f"{found.theta[0]:.4f}" == "-1.2732"
    assert f"{found.standard_errors[0]:.8f}" == "0.04999872"


# ---------------------------------------------------------------------------------------------------- the maximum


@pytest.mark.parametrize("seed", range(20))
def test_the_slope_vanishes_and_the_gauge_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wins = random_wins(rng, int(rng.integers(2, 9)), 0.7, most=50)
    if not structure(wins).exists:
        wins = Wins(wins.counts + (1 - np.eye(wins.N)) * 0.25, wins.names)
    found = fit(wins)
    # Newton stops within 8e-10 nats; slopes are at most the comparisons of an item times that
    assert max(map(abs, nll_slope(wins, found.r))) < 1e-9 * wins.total
    assert abs(np.sum(found.r)) < 1e-12 * wins.N * (1 + np.max(np.abs(found.r)))
    # covariance: the pseudo-inverse of the Hessian of the plain NLL, by finite differences of its slope
    h = 1e-5
    columns = [np.array(nll_slope(wins, found.r + h * e)) - np.array(nll_slope(wins, found.r - h * e)) for e in np.eye(wins.N)]
    hessian = np.stack(columns, axis=1) / (2 * h)
    np.testing.assert_allclose(found.covariance, np.linalg.pinv(hessian, rcond=1e-7), rtol=1e-5, atol=1e-6 * np.max(found.covariance))


def test_two_items_in_closed_form() -> None:
    found = fit(count_wins([0] * 7 + [1] * 2, [1] * 7 + [0] * 2, 2))
    difference, error = found.relative_to(1)
    assert abs(difference[0] - math.log(7 / 2)) < 1e-10
    assert abs(error[0] - math.sqrt(1 / 7 + 1 / 2)) < 1e-10
    assert abs(found.deviance) < 1e-9
    assert abs(found.log_likelihood - (7 * math.log(7 / 9) + 2 * math.log(2 / 9))) < 1e-9


def test_rational_answers_come_back() -> None:
    """Expected wins of items with odds 1, 2, 3, 6 as fractions: the maximum is at those odds."""
    odds = [1, 2, 3, 6]
    counts = np.array([[float(60 * Fraction(a, a + b)) if a != b else 0.0 for b in odds] for a in odds])
    found = fit(Wins(counts, tuple("abcd")))
    np.testing.assert_allclose(np.exp(found.r - found.r[0]), odds, rtol=1e-9)


def test_sparse_and_dense_agree() -> None:
    from scipy.sparse import csr_array

    rng = np.random.default_rng(3)
    dense = random_wins(rng, 9, 0.5, most=6)
    assert structure(dense).exists
    sparse = Wins(csr_array(dense.counts), dense.names)
    np.testing.assert_allclose(fit(sparse).r, fit(dense).r, atol=1e-9)
    np.testing.assert_allclose(fit(sparse).standard_errors, fit(dense).standard_errors, rtol=1e-8)
    assert abs(fit(sparse).deviance - fit(dense).deviance) < 1e-8
    assert cyclic_triads(sparse) == cyclic_triads(dense)
    assert [x.tolist() for x in sparse.pairs()] == [x.tolist() for x in dense.pairs()]


def test_strips_of_the_table_agree_with_the_whole() -> None:
    """More items than one strip holds, and a last strip that is narrow."""
    rng = np.random.default_rng(5)
    N = 131
    r = rng.standard_normal(N)
    n = rng.integers(1, 4, (N, N)) * 1.0
    counts = (n + n.T) / (1 + np.exp(r[None, :] - r[:, None]))
    np.fill_diagonal(counts, 0.0)
    np.testing.assert_allclose(fit(Wins(counts, tuple(map(str, range(N))))).r, r - r.mean(), atol=1e-9)


def test_a_long_chain_is_solved_sparsely() -> None:
    """3000 items, each compared with the next alone: the Laplacian is as ill-conditioned as they come."""
    N = 3000
    up, down = np.arange(N - 1), np.arange(1, N)
    w, l = np.concatenate([up, down]), np.concatenate([down, up])
    weight = np.concatenate([np.full(N - 1, 11.0), np.full(N - 1, 10.0)])
    found = fit(count_wins(w, l, N, weight))
    assert found.wins.sparse
    np.testing.assert_allclose(np.diff(found.r), -math.log(1.1), atol=1e-8)


def test_extreme_counts_do_not_overshoot() -> None:
    counts = np.array([[0.0, 1e9, 1.0], [1.0, 0.0, 1e9], [1e-3, 1.0, 0.0]])
    found = fit(Wins(counts, ("a", "b", "c")))
    assert max(map(abs, nll_slope(found.wins, found.r))) < 1e-9 * found.wins.total


def test_a_prior_is_a_prior_of_that_variance() -> None:
    """One item beaten once by another: posterior mode solves r = s^2 sigma(-2 r) for r_0 = r, r_1 = -r."""
    wins = count_wins([0], [1], 2)
    for variance in (0.1, 1.0, 25.0):
        found = fit(wins, prior=variance)
        assert abs(found.r[0] - variance / (1 + math.exp(2 * found.r[0]))) < 1e-9
        p = 1 / (1 + math.exp(-2 * found.r[0]))
        assert abs(found.covariance[0, 0] + found.covariance[0, 1] - variance) < 1e-9 * variance  # the common shift is all prior
        assert abs(found.covariance[0, 0] - found.covariance[0, 1] - 1 / (1 / variance + 2 * p * (1 - p))) < 1e-9 * variance


# ---------------------------------------------------------------------------------------------------- existence


def separating(counts: np.ndarray) -> bool:
    """Whether some proper subset was never beaten from outside: by trying all of them."""
    N = len(counts)
    for k in range(1, N):
        for inside in itertools.combinations(range(N), k):
            outside = [j for j in range(N) if j not in inside]
            if not counts[np.ix_(outside, list(inside))].any():
                return True
    return False


def test_existence_is_strong_connection() -> None:
    rng = np.random.default_rng(1)
    seen = {True: 0, False: 0}
    for _ in range(120):
        wins = random_wins(rng, int(rng.integers(2, 6)), rng.choice([0.3, 0.5, 0.8]))
        exists = structure(wins).exists
        assert exists == (not separating(wins.counts))
        seen[exists] += 1
        if exists:
            assert np.isfinite(fit(wins).r).all()
        else:
            with pytest.raises(InputError, match="walk along wins"):
                fit(wins)
    assert min(seen.values()) > 20


@pytest.mark.parametrize(
    ("w", "l", "words"),
    [
        ([0, 1, 2], [1, 0, 0], "'c' never lost to any other"),
        ([0, 1, 0], [1, 0, 2], "'c' never beat any other"),
        ([0, 1, 2, 3], [1, 0, 3, 2], "no comparison links 'a' and 'b' with 'c' and 'd'"),
        ([0, 1, 2], [1, 0, 2], "no comparison links 'a' and 'b' with 'c'"),
    ],
)
def test_a_refusal_names_the_items(w: list[int], l: list[int], words: str) -> None:
    names = "abcd"[: max(*w, *l) + 1]
    with pytest.raises(InputError) as e:
        fit(count_wins(w, l, tuple(names)))
    assert words in str(e.value)
    assert "prior" in e.value.remedy


def test_components_are_numbered_from_the_winners() -> None:
    found = structure(count_wins([3, 0, 2, 1], [0, 2, 1, 2], 4))
    assert found.strong.tolist() == [1, 2, 2, 0]
    assert found.linked.tolist() == [0, 0, 0, 0]


def test_separated_features_are_refused() -> None:
    with pytest.raises(InputError, match="against every direction"):
        fit_features([0, 1], [1, 2], [[3.0], [2.0], [1.0]])
    with pytest.raises(InputError, match="rank 1 of 2"):
        fit_features([0, 1], [1, 0], [[1.0, 1.0], [0.0, 1.0]])
    assert np.isfinite(fit_features([0, 1], [1, 2], [[3.0], [2.0], [1.0]], prior=1.0).theta).all()


def test_features_and_items_agree_where_features_are_items() -> None:
    wins = load("baseball").wins()
    w, l, n = load("baseball").indices()
    a, _ = fit(wins).relative_to(6)
    np.testing.assert_allclose(fit_features(w, l, np.eye(7)[:, :6], weight=n).theta, a[:6], atol=1e-9)


# ---------------------------------------------------------------------------------------------------- errors of estimation


def test_coverage_of_95_percent_intervals() -> None:
    """1500 data sets of 8 items: the share of intervals that hold the truth is 0.95 within five of its own standard errors.

    Intervals of one data set are dependent, so the standard error is taken over data sets.  The normal approximation itself errs
    by order 1/n: with 200 comparisons a pair it is below 0.002.
    """
    rng = np.random.default_rng(8)
    N, n, sets = 8, 200, 1500
    r = rng.standard_normal(N)
    r -= r.mean()
    i, j = np.triu_indices(N, 1)
    share = []
    for _ in range(sets):
        counts = np.zeros((N, N))
        counts[i, j] = rng.binomial(n, 1 / (1 + np.exp(r[j] - r[i])))
        counts[j, i] = n - counts[i, j]
        low, high = fit(Wins(counts, tuple("abcdefgh"))).interval()
        share.append(np.mean((low < r) & (r < high)))
    error = np.std(share, ddof=1) / math.sqrt(sets)
    assert abs(np.mean(share) - 0.95) < 5 * error + 0.002
    assert error < 0.005


def test_covariance_of_samples_is_the_inverse_information(rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=5, H=1, eos=False, reward_scale=0.7)
    law = bradley_terry(world.r)
    n, sets = 4000, 400
    whole = fit(wins_of(population_pairs(world, law), 0, world.mdp.N))
    np.testing.assert_allclose(whole.r, world.r[0] - world.r[0].mean(), atol=1e-9)  # consistency: the population MLE is r*
    draws = np.stack([fit(wins_of(sample_pairs(world, law, n, rng=rng), 0, world.mdp.N)).r for _ in range(sets)])
    want = np.diag(whole.covariance) / n
    # the variance of a sample variance of normals is 2 v^2/(sets - 1)
    np.testing.assert_allclose(np.var(draws, axis=0, ddof=1), want, rtol=5 * math.sqrt(2 / (sets - 1)))


def test_the_deviance_of_bradley_terry_data_is_chi_squared(rng: np.random.Generator) -> None:
    N, n, sets = 5, 300, 300
    r = np.linspace(-1, 1, N)
    i, j = np.triu_indices(N, 1)
    seen = []
    for _ in range(sets):
        counts = np.zeros((N, N))
        counts[i, j] = rng.binomial(n, 1 / (1 + np.exp(r[j] - r[i])))
        counts[j, i] = n - counts[i, j]
        seen.append(fit(Wins(counts, tuple("abcde"))).deviance)
    degrees = 10 - 4
    assert abs(np.mean(seen) - degrees) < 5 * math.sqrt(2 * degrees / sets) + 0.05


# ---------------------------------------------------------------------------------------------------- beyond Bradley-Terry


def test_borda_order_and_the_cost_of_a_cycle() -> None:
    M = np.array([[0.5, 0.9, 0.3], [0.1, 0.5, 0.8], [0.7, 0.2, 0.5]])
    found = fit(Wins(M - np.diag(np.diag(M)), ("a", "b", "c")))
    expected = 1 / (1 + np.exp(found.r[None, :] - found.r[:, None]))
    np.testing.assert_allclose(np.sum(expected, axis=1), np.sum(M, axis=1), atol=1e-9)
    assert np.argsort(found.r).tolist() == np.argsort(found.wins.rate).tolist()
    assert found.deviance > 0.1
    assert cyclic_triads(found.wins) == 1


def test_triads_by_enumeration() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        wins = random_wins(rng, 6, 0.8)
        c = wins.counts
        beats = c > c.T
        turns = itertools.permutations(range(6), 3)
        found = sum(bool(beats[i, j] and beats[j, k] and beats[k, i]) for i, j, k in turns) // 3
        assert cyclic_triads(wins) == found


def test_a_sample_is_counted_in_whole_comparisons(rng: np.random.Generator) -> None:
    world = random_world(rng=rng, V=3, H=1, eos=False, P=2)
    pairs = sample_pairs(world, matrix(np.full((2, 3, 3), 0.5)), 500, rng=rng)
    counted = sum(wins_of(pairs, x, 3).total for x in (0, 1))
    assert counted == np.sum(pairs.w != pairs.l)


@pytest.mark.parametrize(("w", "l"), [([0], [2]), ([-1], [0]), ([], []), ([0.5], [1]), ([0, 1], [1])])
def test_bad_comparisons_are_refused(w: list[float], l: list[float]) -> None:
    with pytest.raises(InputError, match="two of the items"):
        count_wins(w, l, 2)


def test_intervals_are_normal() -> None:
    found: Fit = fit(load("baseball").wins())
    low, high = found.interval(0.9)
    np.testing.assert_allclose(high - low, 2 * 1.6448536269514722 * found.standard_errors, rtol=1e-12)
    with pytest.raises(InputError, match="level"):
        normal_quantile(95.0)
