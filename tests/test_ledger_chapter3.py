"""Chapter 3 of the ledger: every row holds on generated worlds, every near miss is refuted, and every row can be explained."""

from __future__ import annotations

import pytest

from tabular_rlhf.ledger import LEDGER, chapter3, chapter3_fitting, chapter3_limits
from tabular_rlhf.ledger.audit import audit
from tabular_rlhf.ledger.explain import explain

ROWS = [row for row in LEDGER.values() if row.chapter == 3]
SLUGS = {
    "bradley-terry",
    "reward-shift-invariance",
    "mle-is-forward-kl",
    "bt-score-hessian",
    "bt-existence",
    "bt-consistency",
    "bt-saturation",
    "borda",
    "plackett-luce",
    "label-noise",
}


def test_every_row_of_the_chapter_is_there() -> None:
    assert {row.slug for row in ROWS} == SLUGS
    assert all(module.__doc__ for module in (chapter3, chapter3_fitting, chapter3_limits))


def test_every_row_holds_and_every_near_miss_is_refuted() -> None:
    for verdict in audit(ROWS, worlds=25, seed=7):
        assert verdict.error <= 1.0, (verdict.slug, verdict.worst)
        assert verdict.holds, (verdict.slug, verdict.refuted)


@pytest.mark.parametrize("row", ROWS, ids=[row.slug for row in ROWS])
def test_every_row_can_be_explained_on_at_most_three_responses(row: object) -> None:
    text = explain(row)  # type: ignore[arg-type]
    assert "NOT refuted" not in text
    assert "largest difference" in text
