"""A dispute as it is shown: a line of the list, a page, and plain values for JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf.formula.printed import Printed
from tabular_rlhf.layout import table, wrap
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters

if TYPE_CHECKING:
    from tabular_rlhf.disputes.record import Claim, Measured, Trial

FEW = 12
"""Numbers of a table that is shown."""


def as_list(found: Sequence[Measured]) -> str:
    """One line a dispute, by its theme, and how many of each verdict."""
    rows = [[m.dispute.theme, m.slug, m.verdict + (" *" if m.dispute.published else ""), m.dispute.question] for m in found]
    verdicts = [m.verdict for m in found]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    lines = [table("", ["theme", "dispute", "verdict", "question"], rows, left=(0, 1, 2, 3)), ""]
    lines += wrap(f"{len(found)} disputes, each measured just now: {counts}.  * published without the condition, or false.")
    return "\n".join([*lines, "`tabular-rlhf disputes SLUG` shows one, with its smallest counterexample and its source."])


def as_page(m: Measured, most: int | None = None) -> str:
    """One dispute in full, `most` columns wide, or as wide as the page."""
    d = m.dispute
    lines = [*wrap(d.question, most), "", *_claim("CLAIM", d.claim, m.claim, most)]
    if d.under is not None and m.under is not None:
        lines += ["", *_claim("UNDER", d.under, m.under, most)]
    told = {
        "VERDICT": m.verdict.upper() + ("" if m.holds else f" ({d.settled} is expected)"),
        "CAUGHT BY": d.caught,
        "NOTE": d.note,
        "SOURCE": d.source + ("  Published without the condition." if d.published else ""),
    }
    lines += ["", *(line for head, text in told.items() if text for line in _entry(head, text, most))]
    lines += [f"{'':<11}{link}" for link in d.links]
    lines += _entry("ROWS", ", ".join(d.rows), most) if d.rows else []
    return "\n".join(lines)


def _entry(head: str, text: str, most: int | None) -> list[str]:
    return wrap(text, most, first=f"{head:<11}")


def _claim(head: str, claim: Claim, trial: Trial, most: int | None) -> list[str]:
    """What is claimed, its formula with the letters that it declares, and what became of it."""
    lines = _entry(head, claim.says + ".", most)
    lines += _entry("", claim.shown, most) if claim.shown else []
    used = [f"{a} = {b}" for a, b in letters(claim).items() if claim.shown]
    lines += _entry("", "with " + ", ".join(used), most) if used else []
    if trial.scope is None:
        return [*lines, *_entry("MEASURED", f"it holds on all of {trial.worlds} worlds.", most)]
    sides = "cosine {:.6g}, not 1" if claim.relation == "direction" else "{:.6g} on the left, {:.6g} on the right"
    size, apart = trial.scope.world.responses, sides.format(trial.left, trial.right)
    told = f"fails on a world of {size} responses, tried as number {trial.worlds}: {apart}."
    numbers = [line for entry in instance(claim, trial.scope) for line in wrap(entry, most, first=" " * 11, then=" " * 14)]
    return [*lines, *_entry("MEASURED", told, most), *numbers]


def letters(claim: Claim) -> dict[str, str]:
    """Those letters of a claim that its formulas use, and what they stand for."""
    said = " ".join(str(side) for side in claim.sides if isinstance(side, Printed))
    return {a: b for a, b in claim.letters.items() if re.search(rf"(?<![A-Za-z_]){re.escape(a)}(?![A-Za-z_])", said.replace("{", " "))}


def asked(claim: Claim) -> list[str]:
    """The symbols that a claim speaks of, and what a world is made of."""
    names = ["beta", "mu", "p_ref", "p", "r"]
    for side in claim.sides:
        names += list(signature(side).parameters) if isinstance(side, Printed) else parameters(side)
    words = [w for text in letters(claim).values() for w in re.findall(r"[A-Za-z_]+[0-9]*", text) if w != "tau"]  # there an index
    names += [n for w in words for n in (w, f"log_{w}") if n in SYMBOLS]
    return list(dict.fromkeys(names))


def instance(claim: Claim, scope: Scope) -> Iterable[str]:
    """The small numbers of a world that a claim speaks of."""
    yield f"V={scope['V']} H={scope['H']} P={scope['P']}"
    for name in asked(claim):
        if name not in SYMBOLS or SYMBOLS[name].level == "tool" or name in ("V", "H", "P"):
            continue
        value = np.asarray(scope[name])
        if value.dtype.kind in "if" and value.size <= FEW and not (name == "mu" and value.size == 1):
            shown = np.array2string(np.asarray(value, dtype=float), precision=4, separator=", ", suppress_small=True)
            yield f"{name} = {' '.join(shown.split())}"


def measured_json(m: Measured) -> dict[str, Any]:
    """A dispute as plain values."""
    d = m.dispute
    fields = ("slug", "theme", "question", "source", "published", "caught", "note")
    return {
        **{k: getattr(d, k) for k in fields},
        "links": list(d.links),
        "rows": list(d.rows),
        "verdict": m.verdict,
        "holds": m.holds,
        "claim": _claim_json(d.claim, m.claim),
        "under": None if d.under is None or m.under is None else _claim_json(d.under, m.under),
    }


def _claim_json(claim: Claim, trial: Trial) -> dict[str, Any]:
    scope = trial.scope
    found = None
    if scope is not None:
        found = {"responses": scope.world.responses, "left": trial.left, "right": trial.right, "symbols": list(instance(claim, scope))}
    return {
        "says": claim.says,
        "formula": claim.shown,
        "relation": claim.relation,
        "worlds": trial.worlds,
        "holds": trial.holds,
        "counterexample": found,
    }
