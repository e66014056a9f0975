"""What is cited, everywhere: one paper has one year and one first author, and lines that are spoken of are there."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from tabular_rlhf.derivations import DERIVATIONS

ROOT = Path(__file__).parent.parent
CITED = re.compile(r"\((\d{4})\)[^;()]{0,160}?arXiv:(\d{4}\.\d{5})|[a-z]\.? (\d{4}), arXiv:(\d{4}\.\d{5})")

NAME = r"[A-Z]['’]?[A-Za-z]*[a-z][\w'’-]*(?: [A-Z][\w'’-]+)?"
BY = re.compile(rf"({NAME})(?:(?:, | and ){NAME})*(?: et al\.)? \(?\d{{4}}\)?,[^;()]{{0,160}}?arXiv:(\d{{4}}\.\d{{5}})")
SPOKEN = re.compile(r"\b[Ll]ines? (\d+)(?:(?: to | and |, )(\d+))?(?![\d.])")
SHOWN = re.compile(r'derive\("([\w-]+)"|explore\.derivation\("([\w-]+)"')


def joined(text: str) -> str:
    """A text without its line breaks, its comment signs and the seams of strings."""
    return re.sub(r'"\s+[rf]*"', "", re.sub(r"\s*\n\s*#?\s*", " ", text))


def cited(text: str) -> set[tuple[str, str]]:
    """(arXiv number, year) of every "Name (year), ..., arXiv:number" in a text whose lines are broken anywhere.

    >>> sorted(cited("Go et al. (2023), *A title*,\\n#   arXiv:2302.08215"))
    [('2302.08215', '2023')]
    """
    return {(m[2] or m[4], m[1] or m[3]) for m in CITED.finditer(joined(text))}


def written_by(text: str) -> set[tuple[str, str]]:
    """(arXiv number, first author) of every citation with a number.

    >>> sorted(written_by("x (1999); Swamy, Choudhury and Sun (2025), *A\\n# title*, arXiv:2503.01067; Go et al. (2023), arXiv:2302.08215"))
    [('2302.08215', 'Go'), ('2503.01067', 'Swamy')]
    """
    return {(m[2], m[1].split()[-1]) for m in BY.finditer(joined(text))}


def texts() -> dict[str, str]:
    """What the package says, file by file."""
    paths = [*ROOT.glob("tabular_rlhf/**/*.py"), *ROOT.glob("notebooks/**/*.py"), ROOT / "README.md"]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def test_a_paper_is_of_one_year_wherever_it_is_cited() -> None:
    """And of no year before it was posted, nor more than three after."""
    years: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, text in texts().items():
        for number, year in cited(text):
            years[number][year].add(name)
    assert len(years) > 40
    assert {number: dict(found) for number, found in years.items() if len(found) > 1} == {}
    assert [n for n, found in years.items() if not all(0 <= int(y) - 2000 - int(n[:2]) <= 3 for y in found)] == []


def test_a_paper_is_by_one_first_author_wherever_it_is_cited() -> None:
    authors: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, text in texts().items():
        for number, author in written_by(text):
            authors[number][author].add(name)
    assert len(authors) > 40
    assert {number: dict(found) for number, found in authors.items() if len(found) > 1} == {}


def spoken(text: str) -> list[int]:
    """The numbers of lines that a text speaks of.

    >>> spoken("Lines 2 to 4, and line 12, the last; online 7")
    [2, 4, 12]
    """
    return [int(k) for m in SPOKEN.finditer(text) for k in m.groups() if k]


def test_a_reason_speaks_of_lines_above_it() -> None:
    found = {(slug, k): spoken(line.reason) for slug, d in DERIVATIONS.items() for k, line in enumerate(d.lines, 1)}
    assert sum(map(len, found.values())) > 20
    assert [place for place, lines in found.items() if not all(1 <= n < place[1] for n in lines)] == []


def test_a_lesson_speaks_of_lines_of_the_derivation_before_or_after() -> None:
    """And where it calls one the last, it is."""
    wrong, checked = [], 0
    for name, text in texts().items():
        shown = [(m.start(), len(DERIVATIONS[m[1] or m[2]].lines)) for m in SHOWN.finditer(text) if name.startswith("notebooks")]
        for m in SPOKEN.finditer(text) if shown else ():
            before, after = [n for at, n in shown if at < m.start()][-1:], [n for at, n in shown if at > m.start()][:1]
            there = max(spoken(m[0])) <= max(before + after)
            last = max(spoken(m[0])) in before if text[m.end() :].startswith(", the last") else True
            checked += 1
            if not (there and last):
                wrong.append((name, m[0]))
    assert checked > 15
    assert wrong == []
