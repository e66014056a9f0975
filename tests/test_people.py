"""What `fit` says of the people who compared: ties, position, annotators, ranks, and what they like.  Judged by brute force and scipy."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from tabular_rlhf import InputError
from tabular_rlhf.cli import main
from tabular_rlhf.figures.fitted import compute_about
from tabular_rlhf.preferencefile import parse
from tabular_rlhf.preferences.comparisons import Wins
from tabular_rlhf.preferences.judges import agreement, krippendorff, repeats, wilson
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.preferences.outcomes import MODELS, fit_outcomes
from tabular_rlhf.preferences.published import load
from tabular_rlhf.preferences.published.fits import HOME_FIT, HOME_LOSSES, HOME_WINS
from tabular_rlhf.preferences.ranks import rank_intervals
from tabular_rlhf.preferences.style import STYLE, pooled, style_features
from tabular_rlhf.preferences.variances import laplacian_variances
from tabular_rlhf.reports.preferences import analyse


def sigma(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def report_of(text: str, **more: Any) -> dict[str, Any]:
    return analyse(parse(text.encode()), **more)


# ---------------------------------------------------------------------------------------------------- ties and order


def probabilities(model: str, d: float, eta: float) -> tuple[float, float, float]:
    """P(i), P(j), P(tie), as the papers print them."""
    a, b, nu = math.exp(d), 1.0, math.exp(eta)
    if model == "davidson":
        total = a + b + nu * math.sqrt(a * b)
        return a / total, b / total, nu * math.sqrt(a * b) / total
    if model == "rao-kupper":
        return a / (a + nu * b), b / (nu * a + b), (nu**2 - 1) * a * b / ((a + nu * b) * (nu * a + b))
    return nu * a / (nu * a + b), b / (nu * a + b), 0.0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_the_models_of_outcomes_are_fitted(model: str, seed: int) -> None:
    """Against direct minimization of the likelihood of the printed probabilities, and a finite-difference Hessian."""
    rng, N = np.random.default_rng(seed), 4
    i, j = np.array(list(itertools.permutations(range(N), 2))).T
    a, b, t = (rng.integers(1, 9, len(i)).astype(float) for _ in range(3))
    found = fit_outcomes(model, i, j, a, b, t, N)

    def nll(x: Any) -> float:
        r, eta = np.append(x[:-1], 0.0), x[-1]
        if model == "rao-kupper" and eta <= 0:
            return math.inf
        told = 0.0
        for k in range(len(i)):
            p, q, s = probabilities(model, r[i[k]] - r[j[k]], eta)
            told -= (a[k] + t[k] / 2) * math.log(p) + (b[k] + t[k] / 2) * math.log(q) if model == "order" else 0.0
            told -= 0.0 if model == "order" else a[k] * math.log(p) + b[k] * math.log(q) + t[k] * math.log(s)
        return told

    x = np.append(found.r[:-1] - found.r[-1], found.eta)
    assert abs(nll(x) + found.log_likelihood) < 1e-9
    solved = minimize(nll, x + 0.1, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 10_000, "maxfev": 10_000})
    np.testing.assert_allclose(solved.x, x, atol=1e-5)
    h, unit = 1e-4, np.eye(N)
    H = np.array([[sum(s * u * nll(x + h * (s * p + u * q)) for s in (1, -1) for u in (1, -1)) / (4 * h * h) for p in unit] for q in unit])
    assert abs(found.standard_error - math.sqrt(np.linalg.inv(H)[-1, -1])) < 1e-5


def test_ties_alone_and_decisions_alone_say_nothing_of_ties() -> None:
    two = np.array([0]), np.array([1])
    for a, t in ((0.0, 3.0), (3.0, 0.0)):
        with pytest.raises(InputError, match="ties and decisions"):
            fit_outcomes("davidson", *two, np.array([a]), np.array([a]), np.array([t]), 2)
    text = "model_a,model_b,winner\n" + "x,y,tie\n" * 4
    assert "refused" in report_of(text)["ties"]["models"][0]


def test_the_home_advantage_of_baseball() -> None:
    """Agresti's fit with an advantage of playing at home, as printed."""
    i, j = np.array(list(itertools.permutations(range(7), 2))).T
    won, lost = np.array(HOME_WINS, dtype=float)[i, j], np.array(HOME_LOSSES, dtype=float)[i, j]
    found = fit_outcomes("order", i, j, won, lost, np.zeros(len(i)), 7)
    assert round(found.eta, 4) == HOME_FIT["estimates"]["at home"]
    assert round(found.standard_error, 4) == HOME_FIT["errors"]["at home"]


def test_agresti_s_baseball_table_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "baseball", "--against", "Baltimore", "--covariance", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    data = load("baseball")
    (prompt,) = told["prompts"]
    for cell in prompt["responses"]:
        if cell["response"] != "Baltimore":
            assert round(cell["relative"]["reward"], data.digits) == data.estimates[cell["response"]]
            assert round(cell["relative"]["standard_error"], data.digits) == data.errors[cell["response"]]
    assert abs(2 * prompt["intransitivity"]["nats"] - data.deviance) < 1e-3
    alone = fit(data.wins())
    order = [alone.wins.names.index(cell["response"]) for cell in prompt["responses"]]
    np.testing.assert_allclose(prompt["covariance"], alone.covariance[np.ix_(order, order)], atol=1e-12)
    assert main(["fit", "baseball", "--against", "Baltimore"]) == 0
    out = capsys.readouterr().out
    assert "1.5814" in out
    assert "0.3433" in out


# ---------------------------------------------------------------------------------------------------- ranks


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.integers(0, 99))
def test_rank_intervals_hold_the_order_and_are_wider_together(r: list[float], seed: int) -> None:
    A = np.random.default_rng(seed).normal(size=(len(r), len(r)))
    C = A @ A.T / 10
    low, high = rank_intervals(r, C)
    for i in range(len(r)):
        below = sum(r[j] - r[i] > 1.959963984540054 * math.sqrt(max(0.0, C[i, i] + C[j, j] - 2 * C[i, j])) for j in range(len(r)))
        above = sum(r[i] - r[j] > 1.959963984540054 * math.sqrt(max(0.0, C[i, i] + C[j, j] - 2 * C[i, j])) for j in range(len(r)))
        assert (low[i], high[i]) == (1 + below, len(r) - above)
    wide_low, wide_high = rank_intervals(r, C, together=True)
    assert np.all((wide_low <= low) & (low <= high) & (high <= wide_high))


def test_ranks_that_hold_together_cover() -> None:
    """In 400 drawn leagues of six, all true ranks lie in their intervals at least 95 % of the time, up to five standard errors."""
    rng, r, held = np.random.default_rng(3), np.linspace(0, 2, 6), 0
    i, j = np.triu_indices(6, 1)
    for _ in range(400):
        a = rng.binomial(12, sigma(r[i] - r[j])).astype(float) + 0.01  # never separated
        counts = np.zeros((6, 6))
        counts[i, j], counts[j, i] = a, 12.02 - a
        found = fit(Wins(counts, tuple("abcdef")))
        low, high = rank_intervals(found.r, found.covariance, together=True)
        held += bool(np.all((low <= np.arange(6, 0, -1)) & (np.arange(6, 0, -1) <= high)))
    assert held / 400 > 0.95 - 5 * math.sqrt(0.95 * 0.05 / 400)


def test_standard_errors_of_very_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimated diagonal against the inverse, within five of its own standard errors."""
    from scipy.sparse import coo_array

    rng, N = np.random.default_rng(0), 400
    i, j = rng.integers(0, N, (2, 3000))
    i, j = i[i != j], j[i != j]
    w = rng.uniform(0.1, 1.0, len(i))
    A = coo_array((np.tile(w, 2), (np.r_[i, j], np.r_[j, i])), shape=(N, N)).tocsr()
    exact = np.diag(np.linalg.pinv(np.diag(A.toarray().sum(axis=1)) - A.toarray()))
    np.testing.assert_allclose(laplacian_variances(A, rng=rng)[0], exact, rtol=1e-10)  # by elimination
    monkeypatch.setattr("tabular_rlhf.preferences.laplacian.WORK", 0.0)
    variance, error = laplacian_variances(A, rng=rng)
    assert np.max(np.abs(variance - exact) / error) < 5
    assert np.max(error / variance) < 0.05


def test_blocks_too_large_to_invert_are_estimated_within_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    rows = [f"i{a},i{b}" for a, b in rng.integers(0, 60, (4000, 2)) if a != b]
    found = parse(("winner,loser\n" + "\n".join(rows)).encode())
    exact = analyse(found)
    monkeypatch.setattr("tabular_rlhf.reports.fitted.INVERTED", 10)
    monkeypatch.setattr("tabular_rlhf.reports.preferences.INVERTED", 10)
    assert analyse(found)["estimated_errors"] is None
    monkeypatch.setattr("tabular_rlhf.preferences.laplacian.WORK", 0.0)
    monkeypatch.setattr("tabular_rlhf.preferences.variances.SOLVED", 0)
    told = analyse(found)
    assert exact["estimated_errors"] is None
    assert 0 < told["estimated_errors"] < 0.05
    for a, b in zip(exact["prompts"][0]["responses"], told["prompts"][0]["responses"], strict=True):
        assert abs(b["standard_error"] / a["standard_error"] - 1) < 5 * told["estimated_errors"]


# ---------------------------------------------------------------------------------------------------- annotators


def brute_alpha(pair: list[int], sign: list[int]) -> float | None:
    """Krippendorff's alpha by listing all ordered pairs of values, units counted in both orientations."""
    units = [[s for p, s in zip(pair, sign, strict=True) if p == k] for k in set(pair)]
    units = [u for u in units if len(u) > 1]
    if not units:
        return None
    n = sum(map(len, units))
    observed = sum(sum(a != b for a, b in itertools.permutations(u, 2)) / (len(u) - 1) for u in units) / n
    pooled_ = [s for u in units for s in u] + [-s for u in units for s in u]
    share = {s: pooled_.count(s) / 2 for s in (-1, 0, 1)}
    expected = (n * n - sum(v * v for v in share.values())) / (n * (n - 1))
    return 1 - observed / expected if expected else None


judgments = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 1), st.integers(-1, 2)), min_size=1, max_size=20)


@given(judgments)
def test_agreement_against_listing(rows: list[tuple[int, int, int]]) -> None:
    pair, sign, judge = (list(c) for c in zip(*rows, strict=True))
    expected, told = brute_alpha(pair, sign), krippendorff(pair, sign)
    assert told == expected if told is None or expected is None else abs(told - expected) < 1e-12
    found = agreement(pair, sign, judge, 3)
    for k in range(3):
        shared = agreed = 0
        for p, s, who in rows:
            others = sum(v for q, v, other in rows if q == p and other != k)
            if who == k and s and others:
                shared, agreed = shared + 1, agreed + (s * others > 0)
        assert (found.judged[k], found.shared[k], found.agreed[k]) == (judge.count(k), shared, agreed)
    again = repeats(pair, sign, judge)
    seen: set[tuple[int, int, int]] = set()
    expected_again = [k for k, row in enumerate(rows) if row in seen or seen.add(row)]  # type: ignore[func-returns-value]
    assert again.again.tolist() == expected_again
    assert again.opposed == sum({1, -1} <= {s for p, s, _ in rows if p == q} for q in set(pair))


def test_one_who_turns_answers_around_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["model_a,model_b,winner,judge"]
    for k in range(600):
        a, b = rng.choice(4, 2, replace=False)
        first = rng.random() < sigma(1.2 * (a - b))
        judge = f"j{k % 5}"
        lines.append(f"m{a},m{b},{'model_a' if first ^ (judge == 'j3') else 'model_b'},{judge}")
    report = report_of("\n".join(lines))
    assert report["annotators"]["turned"] == ["j3"]
    assert report["annotators"]["rows"][0]["name"] == "j3"
    path = tmp_path / "arena.csv"
    path.write_text("\n".join(lines))
    assert main(["fit", str(path)]) == 0
    assert "TURNS ANSWERS AROUND  j3" in capsys.readouterr().out


def test_position_is_told_from_strength() -> None:
    """The stronger is always shown first: its share is high, but the advantage of the first is not what makes it so."""
    rng = np.random.default_rng(1)
    rows = ["model_a,model_b,winner"]
    for _ in range(2000):
        a, b = rng.permutation(3)[:2]
        bias = 0.5
        rows.append(f"m{a},m{b},{'model_a' if rng.random() < sigma(a - b + bias) else 'model_b'}")
    found = report_of("\n".join(rows))["position"]
    assert abs(found["advantage"]["nats"] - 0.5) < 5 * found["advantage"]["standard_error"]
    assert found["interval"][0] > 0.5
    assert wilson(found["first_won"], found["comparisons"]) == tuple(found["interval"])


# ---------------------------------------------------------------------------------------------------- what it is about


WORDS = ("alpha", "beta", "gamma.", "delta!", "eps?", "- zeta", "**eta**", "7", "sorry")


def a_text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(3, 40)).tolist())


def single_pairs(rng: np.random.Generator, n: int, longer: float) -> str:
    """A file of n prompts, each asked once; the longer response wins with the probability `longer`."""
    rows = []
    for k in range(n):
        a, b = a_text(rng), a_text(rng)
        a, b = (a, b) if len(a.split()) >= len(b.split()) else (b, a)
        w, l = (a, b) if rng.random() < longer else (b, a)
        rows.append(json.dumps({"prompt": f"prompt {k}", "chosen": w, "rejected": l}))
    return "\n".join(rows)


def test_a_planted_length_preference_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = single_pairs(np.random.default_rng(5), 3000, 0.65)
    found = report_of(text)["about"]
    top = found["features"][0]
    assert top["feature"] == "length"
    assert top["share_interval"][0] < 0.65 < top["share_interval"][1]
    assert top["interval"][0] > 0
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    assert main(["fit", str(path)]) == 0
    assert main(["fit", str(path), "--figure", str(tmp_path / "about.svg")]) == 0
    assert (tmp_path / "about.svg").read_text().startswith("<?xml")
    assert compute_about(report_of(text))["feature"][0] == "length"
    out = capsys.readouterr().out
    assert "The preference follows more length" in out
    assert f"{100 * top['share']:.1f} %" in out


def test_no_effect_is_found_where_none_was_planted() -> None:
    """200 files without a preference: the 95 % intervals of all features cover zero between 91.5 and 98.5 % of the time."""
    rng = np.random.default_rng(11)
    texts = [a_text(rng) for _ in range(600)]
    names, phi = style_features(texts)
    even = np.arange(0, 600, 2)
    covered: dict[str, int] = {}
    for _ in range(200):
        swap = rng.random(300) < 0.5
        found = pooled(even + swap, even + ~swap, phi, names)
        assert found.fit is not None
        ends = np.abs(found.fit.theta) <= 1.959963984540054 * found.fit.standard_errors
        for name, holds in zip(found.names, ends.tolist(), strict=True):
            covered[name] = covered.get(name, 0) + holds
    assert set(covered) >= {"length", "lists", "numbers", "questions", "exclamations", "apologies"}
    assert all(0.915 <= hits / 200 <= 0.985 for hits in covered.values()), covered


def test_the_pooled_model_is_the_maximum_and_its_errors_are_robust() -> None:
    """Against scipy on the rows written out, ties as half a win each way; the sandwich of groups by hand."""
    rng = np.random.default_rng(2)
    phi, w, l = rng.normal(size=(40, 2)), rng.integers(0, 20, 60), rng.integers(20, 40, 60)
    tie, group = (rng.random(60) < 0.2).astype(int), rng.integers(0, 12, 60)
    found = pooled(w, l, phi, ["x", "y"], tie=tie, group=group)
    X = phi[w] - phi[l]

    def nll(theta: Any) -> float:
        m = X @ theta
        return float(np.sum(np.where(tie == 1, 0.5 * np.logaddexp(0, m) + 0.5 * np.logaddexp(0, -m), np.logaddexp(0, -m))))

    solved = minimize(nll, np.zeros(2), method="BFGS", options={"gtol": 1e-10})
    assert found.fit is not None
    np.testing.assert_allclose(found.fit.theta, solved.x, atol=1e-5)
    p = sigma(X @ found.fit.theta)
    H = (X * (p * (1 - p))[:, None]).T @ X
    slopes = (np.where(tie == 1, 0.5, 1.0) - p)[:, None] * X
    S = sum(np.outer(v, v) for v in (np.sum(slopes[group == k], axis=0) for k in set(group.tolist())))
    np.testing.assert_allclose(found.fit.covariance, np.linalg.inv(H) @ S @ np.linalg.inv(H), rtol=1e-7)


def test_features_that_say_nothing_or_everything_are_left_out() -> None:
    w, l = np.array([0, 2, 4, 6] * 10), np.array([1, 3, 5, 7] * 10)
    phi = np.zeros((8, 4))
    phi[:, 1] = [1, 0, 0, 1, 2, 0, 0, 1]
    phi[:, 2] = 2 * phi[:, 1]
    phi[:, 3] = [1, 0, 1, 0, 3, 0, 1, 0]
    found = pooled(w, l, phi, ["constant", "x", "twice", "always"])
    assert found.names == ("x",)
    assert set(found.left_out) == {"constant", "twice", "always"}


def test_features_of_one_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "def vowels(prompt, response):\n    return {'vowels': sum(c in 'aeiou' for c in response)}\n\n"
        "def bad(prompt, response):\n    return 'many'\n"
    )
    (tmp_path / "pairs.jsonl").write_text(single_pairs(np.random.default_rng(0), 60, 0.6))
    assert main(["fit", "pairs.jsonl", "--features", "mine.py:vowels", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["about"]
    assert "vowels" in {row["feature"] for row in told["features"]} | set(told["left_out"])
    assert main(["fit", "pairs.jsonl", "--features", "mine.py:bad"]) == 2
    assert "a feature must be a finite number" in capsys.readouterr().err


def test_every_feature_counts_something() -> None:
    text = "# Title\n- one **bold** thing? I am sorry! 42\n```x```"
    names, phi = style_features([text])
    assert dict(zip(names, np.exp2(phi[0]) - 1, strict=True)) == pytest.approx(
        {"length": 11, "lists": 1, "headings": 1, "bold": 1, "code": 1, "numbers": 1, "questions": 1, "exclamations": 1, "apologies": 1}
    )
    assert set(names) == set(STYLE)
