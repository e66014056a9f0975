"""What is cited, everywhere: one paper has one year."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
CITED = re.compile(r"\((\d{4})\)[^;()]{0,160}?arXiv:(\d{4}\.\d{5})|[a-z]\.? (\d{4}), arXiv:(\d{4}\.\d{5})")


def cited(text: str) -> set[tuple[str, str]]:
    """(arXiv number, year) of every "Name (year), ..., arXiv:number" in a text whose lines are broken anywhere.

    >>> sorted(cited("Go et al. (2023), *A title*,\\n#   arXiv:2302.08215"))
    [('2302.08215', '2023')]
    """
    joined = re.sub(r"\s*\n\s*#?\s*", " ", text)
    return {(m[2] or m[4], m[1] or m[3]) for m in CITED.finditer(joined)}


def test_a_paper_is_of_one_year_wherever_it_is_cited() -> None:
    """And of no year before it was posted, nor more than three after."""
    years: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in [*ROOT.glob("tabular_rlhf/**/*.py"), *ROOT.glob("notebooks/**/*.py"), ROOT / "README.md"]:
        for number, year in cited(path.read_text()):
            years[number][year].add(path.name)
    assert len(years) > 40
    assert {number: dict(found) for number, found in years.items() if len(found) > 1} == {}
    assert [n for n, found in years.items() if not all(0 <= int(y) - 2000 - int(n[:2]) <= 3 for y in found)] == []
