"""The museum: every verdict follows from a measurement, on any seed; a lie in a record is caught; what is told of numbers is so."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from html import unescape
from itertools import product

import numpy as np
import pytest

from tabular_rlhf.cli import main
from tabular_rlhf.disputes import DISPUTES, THEMES, VERDICTS, Claim, find
from tabular_rlhf.disputes.record import RELATIONS, Dispute, small_scopes
from tabular_rlhf.disputes.text import as_page
from tabular_rlhf.errors import InputError
from tabular_rlhf.layout import WIDTH
from tabular_rlhf.preferences import pooled


def test_there_are_thirty_of_every_theme_and_some_were_published() -> None:
    assert len(DISPUTES) >= 30
    assert {d.theme for d in DISPUTES.values()} == set(THEMES)
    assert sum(d.published for d in DISPUTES.values()) >= 5
    assert {d.settled for d in DISPUTES.values()} == set(VERDICTS)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_every_verdict_is_the_measured_one_on_any_seed(seed: int) -> None:
    measured = [d.measured(seed) for d in DISPUTES.values()]
    assert [m.slug for m in measured if not m.holds] == []
    for m in measured:
        if m.claim.scope is not None:
            assert m.claim.scope.world.responses <= 9, m.slug
        if m.under is not None:
            assert m.under.worlds >= 5, m.slug


@pytest.mark.parametrize("slug", list(DISPUTES))
def test_a_measurement_shows_itself_and_a_notebook_does_not_see_the_terminal(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find(slug).measured()
    shown = unescape(found._repr_html_())
    for columns in ("50", "100", "180"):
        monkeypatch.setenv("COLUMNS", columns)
        assert str(found) == as_page(found)
        assert unescape(found._repr_html_()) == shown
    assert found.verdict.upper() in shown
    assert as_page(found, WIDTH) in shown
    assert "<" not in found._repr_html_()[len("<pre") : -len("</pre>")]


def test_most_are_refuted_on_three_responses_to_a_prompt() -> None:
    refuted = [m.claim.scope for m in (d.measured() for d in DISPUTES.values()) if m.claim.scope is not None]
    assert sum(s.world.mdp.N <= 3 for s in refuted) >= len(refuted) - 4


@pytest.mark.parametrize("slug", list(DISPUTES))
def test_a_planted_lie_is_caught(slug: str) -> None:
    """Said to be true, or true under a condition that is none, or false where it is true: the measurement says otherwise."""
    d = DISPUTES[slug]
    if d.settled == "true":
        lies = [replace(d, settled="false")]
    else:
        lies = [replace(d, settled="true", under=None), replace(d, settled="true under a condition", under=d.claim)]
    assert not any(lie.measured().holds for lie in lies)


def test_a_condition_that_does_not_help_makes_no_truth() -> None:
    d = find("tis-unbiased")
    assert replace(d, under=d.claim).measured().verdict == "false"
    assert not replace(d, under=d.claim).measured().holds


@pytest.mark.parametrize("slug", list(DISPUTES))
def test_every_page_can_be_read(slug: str) -> None:
    d = DISPUTES[slug]
    page = as_page(d.measured())
    assert d.question.split()[0] in page
    assert "nan" not in page.replace("nant", "")
    assert max(map(len, page.splitlines())) <= 140
    assert all(link.startswith(("https://", "http://")) for link in d.links)
    assert d.links or "arXiv" in d.source or "19" in d.source or d.source.startswith("said")


def test_records_that_make_no_sense_are_refused() -> None:
    d = find("tis-unbiased")
    fields = {k: getattr(d, k) for k in d.__dataclass_fields__}
    for change, must in (
        ({"settled": "perhaps"}, "one of false"),
        ({"under": None}, "just where it is needed"),
        ({"question": ""}, "a question, a source"),
        ({"rows": ("no-such",)}, "in the ledger"),
    ):
        with pytest.raises(InputError, match=must):
            Dispute(**(fields | change))
    with pytest.raises(InputError, match="name of its own"):
        DISPUTES.add(d)
    with pytest.raises(InputError, match="did you mean"):
        find("tis-unbiasd")
    with pytest.raises(InputError, match="relation must be known"):
        Claim("x", "r", "r", "<")
    assert set(RELATIONS) == {"=", "<=", ">=", "direction"}


def test_worlds_come_smallest_first() -> None:
    sizes = [s.world.responses for s in small_scopes()]
    assert sizes == sorted(sizes)
    assert sizes[0] == 2
    assert any(s.world.mdp.P > 1 and s.world.mdp.H > 1 for s in small_scopes())


# ---------------------------------------------------------------------------------------------------- what is told of numbers


def test_the_flow_sharpens_as_its_invariants_say() -> None:
    """From (.3, .1, .6), the last wrong: sum z and e^-z_1 - e^-z_2 stand still; the odds are 24 : 1 at 99 %, 232 : 1 at 99.99 %."""
    z = np.log([0.3, 0.1, 0.6])
    total, gap = float(np.sum(z)), math.exp(-z[1]) - math.exp(-z[0])
    for u, odds in ((0.99, 24.0), (0.9999, 231.93)):
        low, high = -5.0, 50.0
        for _ in range(200):
            z1 = (low + high) / 2
            z2 = -math.log(gap + math.exp(-z1))
            z3 = total - z1 - z2
            low, high = (low, z1) if z3 - np.logaddexp(z1, z2) < math.log((1 - u) / u) else (z1, high)
        assert math.exp(z1 - z2) == pytest.approx(odds, abs=0.01)
    r, dt = np.array([1.0, 1.0, 0.0]), 0.02
    for _ in range(20_000):
        slopes = []
        for half in (0.0, 0.5):  # midpoint steps
            at = z + half * dt * slopes[-1] if slopes else z
            p = np.exp(at - np.logaddexp.reduce(at))
            slopes.append(p * (r - p @ r))
        z = z + dt * slopes[-1]
        if np.exp(np.logaddexp(z[0], z[1]) - np.logaddexp.reduce(z)) >= 0.99:
            break
    assert math.exp(z[0] - z[1]) == pytest.approx(24.0, abs=0.05)


def test_another_response_wins_than_has_the_largest_mean() -> None:
    one, two = 8 * np.array([1, 0, 0]), 8 * np.array([0, 0.30, 0.29])
    s = pooled.bradley_terry(pooled.mixture(one, two, 0.7))
    assert np.argmax(s) == 1
    assert np.argmax(0.3 * one + 0.7 * two) == 0
    assert list(np.argsort(s)) == list(np.argsort(np.sum(pooled.mixture(one, two, 0.7), axis=1)))


def test_a_gap_of_nine_tenths_widens_and_shrinks() -> None:
    theta, d = 1.7015, 0.9
    win, loss = 1 / (1 + theta * math.exp(-d)), 1 / (1 + theta * math.exp(d))
    tie = 1 - win - loss
    assert math.log(win / loss) == pytest.approx(1.12, abs=1e-3)
    assert math.log((win + tie / 2) / (loss + tie / 2)) == pytest.approx(0.843, abs=1e-3)


def _field_curl(field, logits) -> float:  # type: ignore[no-untyped-def]
    """The largest |J - J^T| of a field of logits, by central differences."""
    h, flat = 1e-5, np.ravel(logits)
    J = np.zeros((flat.size, flat.size))
    for k in range(flat.size):
        step = np.zeros(flat.size)
        step[k] = h
        J[:, k] = (field(flat + step) - field(flat - step)) / (2 * h)
    return float(np.max(np.abs(J - J.T)))


def _policy(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V = 2, H = 2 without EOS: pi (3, 2) of the states root, a, b; visits."""
    logits = z.reshape(3, 2)
    pi = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    return pi, np.array([1.0, pi[0, 0], pi[0, 1]])


def test_distillation_has_a_curl_and_rests_at_the_teacher() -> None:
    rng = np.random.default_rng(0)
    teacher = _policy(rng.normal(size=6))[0]

    def field(z: np.ndarray) -> np.ndarray:
        pi, d = _policy(z)
        L = np.log(pi / teacher)
        return np.ravel(d[:, None] * pi * (L - np.sum(pi * L, axis=1, keepdims=True)))

    assert _field_curl(field, rng.normal(size=6)) > 1e-2
    assert np.max(np.abs(field(np.ravel(np.log(teacher))))) < 1e-15

    def held_free(z: np.ndarray) -> np.ndarray:  # the gradient of KL(p, teacher), with the visits: no curl
        pi, _ = _policy(z)
        out = np.zeros((3, 2))
        for a, b in product((0, 1), repeat=2):
            s, p = 1 + a, pi[0, a] * pi[1 + a, b]
            L = math.log(p / (teacher[0, a] * teacher[s, b]))
            out[0] += p * L * (np.eye(2)[a] - pi[0])
            out[s] += p * L * (np.eye(2)[b] - pi[s])
        return np.ravel(out)

    assert _field_curl(held_free, rng.normal(size=6)) < 1e-8


# ---------------------------------------------------------------------------------------------------- the commands


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disputes"]) == 0
    out = capsys.readouterr().out
    assert all(slug in out for slug in DISPUTES)
    assert main(["disputes", "maxrl-dropped", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["disputes"]
    assert found["verdict"] == "true under a condition"
    assert found["claim"]["counterexample"]["responses"] == 2
    assert main(["disputes", "--published"]) == 0
    assert "tis-unbiased" not in capsys.readouterr().out
    assert main(["disputes", "no-such"]) == 2
    assert main(["disputes", "maxrl-dropped", "--theme", "people"]) == 2


def test_verify_measures_disputes_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["verify", "tis-or-masking"]) == 0
    assert "1 disputes measured: 1 false" in capsys.readouterr().out
    monkeypatch.setitem(DISPUTES, "tis-or-masking", replace(find("tis-or-masking"), settled="true"))
    assert main(["verify", "tis-or-masking"]) == 1
    assert "FAILS: true is expected" in capsys.readouterr().out
