"""An executed derivation as people see it: text for a terminal, Markdown for a notebook, HTML for a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from tabular_rlhf import tex
from tabular_rlhf.formula.reading import declared
from tabular_rlhf.layout import wrap
from tabular_rlhf.ledger.explain_text import world_lines
from tabular_rlhf.told import apart, differing, number

if TYPE_CHECKING:
    from tabular_rlhf.derivations.execute import Derived, Step

SHOWN = 4
"""Entries of an array that are printed beside a line (the record has them all)."""
RESIDUE = 1e-13
"""What is left of a difference that is 0 but for rounding, as a share of the line, is printed as 0."""
COLUMNS = {"": 1, "&nbsp;": 3, "line, and its value": 34, "why": 22}
"""The columns of a notebook's table, and how wide each is, in em, whatever stands in it."""
DAGGER, UNREAD = "†", "not executed as it is printed, only as the function that stands beside it"
MARKS = {True: "✓", False: "✗", None: " "}


def value(step: Step, most: int = SHOWN, between: str = "   ") -> str:
    """The entries of a line's value, the first few of a long one.

    >>> from tabular_rlhf.derivations import derive
    >>> value(derive("gibbs-optimum", "coin").steps[0])
    'tails: -1   heads: 0'
    """
    rest = RESIDUE * max([1.0, *(abs(v) for _, v in step.entries if abs(v) < float("inf"))])
    entries = [(label, 0.0 if abs(v) < rest else v) for label, v in step.entries]
    if len(entries) == 1:
        return number(entries[0][1])
    shown = [f"{label}: {number(v)}" if label else number(v) for label, v in entries[:most]]
    return between.join([*shown, *([f"… {len(step.entries)} numbers"] if len(step.entries) > most else [])])


def verdict(step: Step) -> str:
    """What the relation measured, in words."""
    if step.ok is None or step.mark == "so":
        return ""
    if step.ok:
        return "holds"
    if step.verdict == "near":
        return "does not hold: right to six digits or more, which is more than rounding explains, but not exact"
    far = step.error < float("inf")
    return f"does not hold: off by {step.error:.3g} times what rounding allows" if far else "does not hold: no number, or of another shape"


def sides(step: Step) -> list[tuple[str, str]]:
    """Of a line that does not follow, what the relation looks at: in the line before, and in this one, with digits enough to differ."""
    if not step.seen:
        return []
    labels, before, after = zip(*step.seen, strict=True)
    spec, shown = apart(before, after), differing(before, after, SHOWN)
    of = "" if step.view == "value" else f", {step.view}"
    more = f"   … {len(labels)} numbers" if len(labels) > len(shown) else ""

    def row(values: Sequence[float]) -> str:
        return "   ".join(f"{labels[i] + ': ' if labels[i] else ''}{number(values[i], spec)}" for i in shown) + more

    return [(f"line {step.number - 1}{of}", row(before)), (f"line {step.number}{of}", row(after))]


def closing(found: Derived, measured: bool = True) -> str:
    """One sentence: whether every line follows, on how many worlds, and by how much (which the last bits of a machine decide)."""
    worlds = f"on {found.worlds} worlds" if found.worlds > 1 else "on this world"
    if found.broken is not None:
        tried = "" if found.worlds == 1 else f" (it does on {found.worlds - 1} as small or smaller)"
        size = f"a world of {found.responses} response{'s' if found.responses > 1 else ''}{tried}"
        source = found.steps[-1].source
        of_text = f" ({source} of the text)" if source else ""
        said = f"Line {found.broken}{of_text} does not follow from line {found.broken - 1} on {size}: the reading stops here."
        return f"{said}  {found.mended}" if found.mended else said
    worst = max((s.error for s in found.steps), default=0.0)
    return f"Every line follows, {worlds}" + (f" (largest gap here: {worst:.2g} of what rounding allows)." if measured else ".")


def legend(found: Derived) -> str:
    """What the marks between the lines mean, those that are not plain equality."""
    marks = {s.mark: s.relation for s in found.steps if s.mark not in ("", "=")}
    marks |= {DAGGER: UNREAD} if any(not s.printed for s in found.steps) else {}
    return "; ".join(f"{mark} {meaning}" for mark, meaning in marks.items())


def _dagger(s: Step) -> str:
    return "" if s.printed else f" {DAGGER}"


def text(found: Derived) -> str:
    """The page for a terminal."""
    head = wrap(f"{found.title}  ({found.slug}, chapter {found.chapter})" if found.rows else found.title)
    about = wrap(f"world {found.world}; source: {found.source}")
    about += wrap(f"letters: {'; '.join(declared(found.letters))}") if found.letters else []
    where = [] if found.instance is None else ["", *world_lines(found.instance)]
    lines = [*head, "=" * max(map(len, head)), *about, *where, ""]
    for s in found.steps:
        mark = f"{s.number:>3}  {s.mark:<2}" if s.mark else f"{s.number:>3}    "
        lines += wrap(tex.plain(s.tex) + _dagger(s), first=mark + " ", then=" " * 10)
        lines += wrap(s.reason, first=" " * 10) if s.reason else []
        shown = f"{MARKS[s.ok]} {value(s)}" if s.ok is not False else f"{MARKS[s.ok]} {value(s)}   {verdict(s)}"
        lines += wrap(shown, first=" " * 10, then=" " * 12)
        for name, values in sides(s):
            lines += wrap(f"{name} = {values}", first=" " * 12, then=" " * 14)
        lines += [""]
    marks = wrap(f"Marks: {legend(found)}.") if legend(found) else []
    marks += wrap(f"Not read, because they stand within sentences: {'; '.join(found.unread)}.") if found.unread else []
    return "\n".join(line.rstrip() for line in [*lines, *wrap(closing(found)), *marks])


SMALL = ["alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "mu", "pi", "rho", "sigma", "tau", "phi", "psi"]
GREEK = {name: "\\" + name for name in [*SMALL, "Gamma", "Delta", "Theta", "Lambda", "Pi", "Phi", "Psi"]}
SYMBOL = re.compile(rf"\b({'|'.join(GREEK)}|rhat|[A-Za-z])(?:_([A-Za-z0-9]+))?('(?!\w))?(\*)?(?![A-Za-z0-9_])")
"""A symbol in a sentence: a letter, Greek or not, with what stands below it, a prime and a star; a plain Latin letter may be a word."""


def formulas(words: str) -> Iterator[tuple[bool, str]]:
    r"""A sentence in pieces, (whether it is a formula, its LaTeX or its words).

    >>> "".join(f"${piece}$" if formula else piece for formula, piece in formulas("Read p* = p_ref exp(r/beta)/Z backwards"))
    'Read $p^*$ = $p_{ref}$ exp(r/$\\beta$)/Z backwards'
    """
    end = 0
    for m in SYMBOL.finditer(words):
        letter, below, prime, star = m.groups()
        if letter in GREEK or below or prime or star:
            base = GREEK.get(letter, r"\hat{r}" if letter == "rhat" else letter)
            yield False, words[end : m.start()]
            yield True, base + (f"_{{{GREEK.get(below, below)}}}" if below else "") + (prime or "") + ("^*" if star else "")
            end = m.end()
    yield False, words[end:]


def markdown(found: Derived) -> str:
    """A table for a notebook: columns of fixed width, the value under its line; formulas are LaTeX, in the reasons too."""
    named = f" (`{found.slug}`, chapter {found.chapter})" if found.rows else ""
    lines = [f"**{literal(found.title)}**{named}, executed on the world `{found.world}`.", ""]
    lines += [f"Letters: {literal('; '.join(declared(found.letters)))}.", ""] if found.letters else []
    columns = (f'<div style="width:{wide}em">{name}</div>' for name, wide in COLUMNS.items())
    lines += [f"| {' | '.join(columns)} |", "|---:|:---:|:---|:---|"]
    for s in found.steps:
        parts = s.tex.replace("|", r"\vert ").split(r"\quad")  # between them a long line may be broken
        formula = "&emsp;".join(rf"$\displaystyle {part.strip()}$" for part in parts)  # fractions in a table would be tiny
        shown = value(s, 3, "<br>").replace("|", "/")
        reason = "".join(f"${piece}$" if is_formula else literal(piece) for is_formula, piece in formulas(s.reason))
        apart = "".join(f"<br>{name} = {values}" for name, values in sides(s)).replace("|", "/")
        why = reason if s.ok is not False else f"**{verdict(s)}**{literal(apart)}"
        lines.append(f"| {s.number} | {s.mark}\N{NO-BREAK SPACE}{MARKS[s.ok]} | {formula}{_dagger(s)}<br>{shown} | {why} |")
    marks = f" ({legend(found)})" if legend(found) else ""
    return "\n".join([*lines, "", closing(found, measured=False) + marks])


def literal(words: str) -> str:
    r"""Words in a table of Markdown, in which an asterisk is an asterisk, and a bar ends no cell.

    >>> literal("p* is the nearest")
    'p\\* is the nearest'
    """
    return words.replace("*", r"\*").replace("|", r"\|").replace("_", r"\_")


def html(found: Derived) -> str:
    """A list of lines, formulas in MathML."""
    items = [
        f'<li class="{ {True: "holds", False: "breaks", None: "start"}[s.ok] }"><span class="mark">{escape(s.mark)}</span> '
        f'{tex.html(s.tex)}{_dagger(s)} <span class="value">{escape(value(s))}</span> <span class="tick">{MARKS[s.ok].strip()}</span>'
        f'<p class="reason">{escape(s.reason if s.ok is not False else "; ".join([verdict(s), *map(" = ".join, sides(s))]))}</p></li>'
        for s in found.steps
    ]
    return f'<ol class="derivation">{"".join(items)}</ol><p class="closing">{escape(closing(found))}</p>'
