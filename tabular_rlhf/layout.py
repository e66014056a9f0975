"""Text for a page of a given width: how wide the reader's is, lines folded under their last column, tables that fit.

The width is the terminal's (or COLUMNS, where that is set), and 100 where there is none.  A table that is too wide first narrows its
columns of words, whose cells then take several lines, and then falls into blocks, one below the other, each with the row's label.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence

WIDTH, NARROWEST = 100, 40
"""Columns where there is no terminal, and the fewest that are counted on."""
SLIM = 16
"""A column of words gets no narrower than this, or than its longest word, before a table falls into blocks."""
FOLLOWERS = {"sampled", "s.e.", "z"}
"""Columns that say something about the one before, and stay beside it."""


def width() -> int:
    """Columns of the page."""
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)


def clip(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def fold(text: str, most: int | None = None) -> str:
    """Every line within the width, its rest under its last column (which two spaces or more set off) or a little indented.

    >>> print(fold("log_p   the log-probability of every response", 36))
    log_p   the log-probability of every
            response
    """
    most = width() if most is None else most
    return "\n".join(line if len(line) <= most else "\n".join(_folded(line, most)) for line in text.split("\n"))


def _folded(line: str, most: int) -> list[str]:
    starts = [m.end() for m in re.finditer(r"^ +|(?<=[^\s.:;,]) {2,}", line) if m.end() <= most // 2]
    hang = starts[-1] if starts else 0
    return wrap(line[hang:], most, line[:hang], " " * hang)


def wrap(text: str, most: int | None = None, first: str = "", then: str | None = None) -> list[str]:
    """A paragraph as lines; a word is broken only if it is wider than the page."""
    then = " " * len(first) if then is None else then
    most = width() if most is None else most
    return textwrap.wrap(text, most, initial_indent=first, subsequent_indent=then, break_on_hyphens=False) or [first]


# ---------------------------------------------------------------------------------------------------- tables


def table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: Sequence[int] = (),
    *,
    labels: Sequence[int] | None = None,
    tallest: int | None = None,
) -> str:
    """A title and aligned columns, two spaces apart: numbers to the right, the columns `left` to the left.

    Args: labels, the columns that say what a row is about (by default those of words that it begins with, two at most, or the one that
    it ends with); tallest, how many lines a cell may take before it ends in an ellipsis.

    >>> print(table("T", ["name", "x"], [["a", "1.5"], ["bc", "10"]], left=(0,)))
    T
      name    x
      a     1.5
      bc     10
    """
    lines = [list(header), *map(list, rows)]
    labels = _labels(left, len(header)) if labels is None else labels
    room = width() - len(GAP)
    widths = _narrowed(lines, left, labels, room, tallest)
    labels = _with_room(labels, widths, room)
    out = [fold(title)] if title else []
    for block in _blocks(header, widths, labels, room):
        mine = [widths[i] for i in block]
        if block[-1] in left:  # a narrowed column of words may have what a block leaves free
            mine[-1] = min(max(len(line[block[-1]]) for line in lines), room - sum(mine[:-1]) - len(GAP) * (len(mine) - 1))
        for line in lines if any(header) else lines[1:]:
            out += _row([line[i] for i in block], mine, [i in left for i in block], tallest)
    return "\n".join(line.rstrip() for line in out)


GAP = "  "


def _labels(left: Sequence[int], n: int) -> list[int]:
    first = [i for i in range(n) if set(range(i + 1)) <= set(left)]
    return first[:2] if first else [n - 1] if n - 1 in left else []


def _with_room(labels: Sequence[int], widths: Sequence[int], room: int) -> Sequence[int]:
    """As many of the labels as leave room for every other column beside them."""
    others = [n for i, n in enumerate(widths) if i not in labels]
    fits = sum(widths[i] + len(GAP) for i in labels) + max(others, default=0) <= room
    return labels if fits or not labels else _with_room(labels[:-1], widths, room)


def _narrowed(lines: Sequence[Sequence[str]], left: Sequence[int], labels: Sequence[int], room: int, tallest: int | None) -> list[int]:
    """The width of every column: those of words, the widest first and labels last, give up what is too much for the room."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    words = [0 if tallest else max(len(word) for cell in column for word in [*cell.split(), ""]) for column in columns]
    least = [min(max(SLIM, word), room // 2) for word in words]
    for group in ([i for i in left if i not in labels], [i for i in left if i in labels]):
        while (over := sum(widths) + len(GAP) * (len(widths) - 1) - room) > 0 and group:
            widest = max(group, key=lambda i: widths[i])
            if widths[widest] <= least[widest]:
                group.remove(widest)
            else:
                second = max([least[widest], *(widths[i] for i in group if i != widest and widths[i] < widths[widest])])
                widths[widest] -= min(over, max(1, widths[widest] - second))
    return widths


def _blocks(header: Sequence[str], widths: Sequence[int], labels: Sequence[int], room: int) -> Iterator[list[int]]:
    """Columns of each block, in order: the labels, and of the others as many as fit, those together that belong together."""
    gap = len(GAP)
    own = sum(widths[i] + gap for i in labels)
    groups: list[list[int]] = []
    for i in (i for i in range(len(header)) if i not in labels):
        together = [*groups[-1], i] if groups and header[i] in FOLLOWERS else [i]
        if len(together) > 1 and own + sum(widths[k] + gap for k in together) - gap <= room:
            groups[-1] = together
        else:
            groups.append([i])
    block: list[int] = []
    for group in groups:
        if block and own + sum(widths[i] + gap for i in [*block, *group]) - gap > room:
            yield sorted([*labels, *block])
            block = []
        block += group
    yield sorted([*labels, *block])


def _row(cells: Sequence[str], widths: Sequence[int], left: Sequence[bool], tallest: int | None) -> Iterator[str]:
    """One row, on as many lines as its tallest cell takes."""
    columns = [_cell(c, n, tallest) for c, n in zip(cells, widths, strict=True)]
    for k in range(max(map(len, columns))):
        parts = [column[k] if k < len(column) else "" for column in columns]
        yield GAP + GAP.join(p.ljust(n) if flush else p.rjust(n) for p, n, flush in zip(parts, widths, left, strict=True))


def _cell(text: str, most: int, tallest: int | None) -> list[str]:
    if len(text) <= most:
        return [text]
    lines = [text] if tallest == 1 else textwrap.wrap(text, most, break_on_hyphens=False)
    return lines if tallest is None else [*lines[: tallest - 1], clip(" ".join(lines[tallest - 1 :]), most)]
