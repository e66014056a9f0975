"""The explanation of a row as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabular_rlhf.formula.reading import declared
from tabular_rlhf.layout import width, wrap
from tabular_rlhf.tex import plain
from tabular_rlhf.told import apart, number

Record = dict[str, Any]
MOST = 36
"""Entries of one array that are printed (the JSON has them all)."""


def render(found: Record) -> str:
    """The whole page."""
    lines = [f"{found['slug']}  (chapter {found['chapter']})", "=" * (len(found["slug"]) + 13), ""]
    printed = found.get("printed", True)
    lines += _wrap(plain(found["statement"]) + ("" if printed else " †"), "  ", 2)
    lines += _wrap(f"letters: {'; '.join(declared(found['letters']))}", "  ", 2) if found["letters"] else []
    lines += [] if printed else ["", *_wrap("† its sides are executed as functions, not as it is printed", "  ", 2)]
    lines += ["", *_wrap(f"Source: {found['source']}", ""), *_wrap(found["note"], "")]
    lines += ["", "Symbols", *(line for name, text in found["symbols"].items() for line in _wrap(f"{name:<12}{text}", "  ", 12))]
    lines += ["", f"Worked on the world `{found['world']['name']}`", "", *world_lines(found["world"])]
    lines += ["", "Sides", *(line for name, text in found["sides"].items() for line in _named(name, text))]
    for part in found["parts"]:
        lines += ["", *_table(part["part"], part["values"], part["entries"])]
    worst = f"largest difference: {number(found['largest_error'], '.2g')} of the rounding bound"
    lines += [f"  {worst} (about {found['roundings']:.0f} roundings a term)", "", "Near misses, each on the smallest world that refutes it"]
    for k, tiny in enumerate(found["tiny_worlds"], 1):
        here = [m for m in found["near_misses"] if m["tiny_world"] == k]
        lines += ["", *world_lines(tiny, f"World {k}"), *_misses(here)]
    lines += [f"  - {m['diagnosis']}: NOT refuted" for m in found["near_misses"] if m["tiny_world"] is None]
    return "\n".join(line.rstrip() for line in lines)


def _wrap(text: str, indent: str, hang: int = 0) -> list[str]:
    """Lines of at most the width, but for words that are longer."""
    return wrap(text, first=indent, then=indent + " " * hang) if text else []


def _named(name: str, text: str, mark: str = "") -> list[str]:
    """A name and its formula, the formula on a line of its own where both are too long for one."""
    head = f"  {mark}{name}"
    if len(head) + 3 + len(text) <= width():
        return [f"{head} = {text}"]
    return [head, *_wrap(f"= {text}", " " * 6, 2)]


def world_lines(w: Record, title: str = "") -> list[str]:
    """Sizes, every response, and what was drawn."""
    count = f"{len(w['responses'])} response{'s' if len(w['responses']) > 1 else ''}"
    words = " ".join(map(repr, w["vocabulary"]))
    ending = f"EOS {w['eos']!r}" if w["eos"] is not None else "no EOS"
    head = f"vocabulary {words}, horizon {w['horizon']}, {ending}, beta = {number(w['beta'])}"
    head += "" if len(w["prompts"]) == 1 else f", {len(w['prompts'])} prompts with mu = {', '.join(map(number, w['mu']))}"
    lines = _wrap(f"{title}: {count}, {head}", "") if title else _wrap(head, "  ")
    names = list(w["responses"][0])[1:]
    lines += columns("response", names, [(row["response"], [row[n] for n in names]) for row in w["responses"]])
    for name, table in w["drawn"].items():
        lines += _drawn(name, table)
    return lines


def _drawn(name: str, table: Record) -> list[str]:
    heads, rows, values = table["columns"], table["rows"], table["values"]
    if len(values) == 1:
        return [f"  {name} = {number(values[0])}   (drawn)"]
    n = len(heads)
    return columns(f"{name} (drawn)", heads, [(row, values[i * n : (i + 1) * n]) for i, row in enumerate(rows)])


def columns(corner: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], spec: str = ".6g") -> list[str]:
    """A table with its columns in as many blocks as the width asks for; spec, how numbers are printed."""
    rows, left = rows[:MOST], len(rows) - MOST
    first = max(18, *(len(label) + 1 for label, _ in [(corner, ()), *rows]))
    cell = max([12, int(spec[1:-1]) + 6, *(len(name) + 2 for name in names)])
    fit, shown = max(1, (width() - 2 - first) // cell), names[:MOST]
    lines = []
    for start in range(0, len(shown), fit):
        block = slice(start, min(start + fit, MOST))
        lines.append(f"  {corner if not start else '':<{first}}" + "".join(f"{name:>{cell}}" for name in names[block]))
        lines += [f"  {label:<{first}}" + "".join(f"{number(v, spec):>{cell}}" for v in values[block]) for label, values in rows]
    lines += [f"  ... and {left} more rows"] if left > 0 else []
    return lines + ([f"  ... and {len(names) - MOST} more"] if len(names) > MOST else [])


def _table(title: str, values: Mapping[str, Sequence[float]], entries: Sequence[str], spec: str = ".6g") -> list[str]:
    """Values side by side, one a line, their entries named above them."""
    lines = columns(title, entries, list(values.items()), spec)
    return lines if lines[0].strip() else lines[1:]


def _misses(misses: Sequence[Record]) -> Iterator[str]:
    """The near misses refuted on one world: the truth first, then each wrong value under it, and the wrong formulas."""
    for part in dict.fromkeys(m["part"] for m in misses):
        these = [m for m in misses if m["part"] == part]
        yield ""
        right = these[0]["right"]
        spec = max((apart(m["wrong"], right) for m in these), key=lambda spec: int(spec[1:-1]))
        yield from _table(part, {"right": right, **{m["diagnosis"]: m["wrong"] for m in these}}, these[0]["entries"], spec)
        for m in these:
            yield from _named(m["diagnosis"], m["formula"], "- ")
