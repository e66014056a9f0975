"""`tabular-rlhf verify`: run the ledger: every claim on generated worlds, every near miss refuted; every derivation, every dispute."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tabular_rlhf.cells import Place
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.options import declare_json, declare_place
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.derivations import DERIVATIONS, Derivation
from tabular_rlhf.derivations.execute import DerivationClaim
from tabular_rlhf.derivations.prints import executed, record_prints
from tabular_rlhf.disputes import CHAPTER, DISPUTES, VERDICTS, Dispute, Measured
from tabular_rlhf.disputes.text import measured_json
from tabular_rlhf.errors import InputError, whole
from tabular_rlhf.layout import table
from tabular_rlhf.ledger import LEDGER, Row, Verdict
from tabular_rlhf.ledger.audit import DRAWS, Claim, RowClaim, audit_in_parallel, select, standard_worlds
from tabular_rlhf.ledger.explain import SCHEMA as EXPLAINED
from tabular_rlhf.ledger.explain import worked
from tabular_rlhf.ledger.explain_text import render
from tabular_rlhf.ledger.prints import Print, reading, statement_prints
from tabular_rlhf.ledger.record import today
from tabular_rlhf.told import Column, parts, tabled

SCHEMA = "tabular-rlhf/verify/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slugs", nargs="*", metavar="SLUG", help="rows, derivations and disputes to run (all by default)")
    parser.add_argument("--chapter", type=int, help="only this chapter's rows")
    parser.add_argument(
        "--worlds", type=int, default=60, metavar="N", help="generated worlds (default 60), besides the named and the large one"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the worlds and the samples (default 0)")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    worked_out = "show statement, source, a worked small instance and the near misses, and stop"
    parser.add_argument("--explain", action="store_true", help=worked_out)
    parser.add_argument("--prints", action="store_true", help="list what is printed and not executed as it is printed, and stop")
    declare_place(parser)
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    for option, value in (("--worlds", args.worlds), ("--seed", args.seed)):
        if value < 0:
            raise InputError(f"{option} must be at least 0", got=value, remedy="leave it out for the usual one")
    whole(args.worlds, "--worlds", 0, "60 are usual", most=10**6)
    place = Place(args.backend, args.jobs, args.scheduler)
    rows, derivations, disputes = chosen(args.slugs, args.chapter)
    if args.list:
        return answer(args, SCHEMA, _json_list(rows, derivations, disputes), lambda: as_list(rows, derivations, disputes), made=False)
    if args.explain:
        if not rows:
            raise InputError("only rows are explained", got=", ".join(args.slugs), remedy="`tabular-rlhf derive SLUG` shows a derivation")
        found = [
            {**worked(row, seed=args.seed), "printed": all(p.agrees is True for p in statement_prints(row, reading()))} for row in rows
        ]
        return answer(args, EXPLAINED, {"rows": found}, lambda: "\n\n\n".join(map(render, found)))
    if args.prints:
        made = all_prints(rows, derivations, every=not args.slugs and args.chapter is None)
        answer(args, SCHEMA, {"prints": prints_as_json(made)}, lambda: prints_as_text(made))
        return 1 if any(p.agrees is False for p in made) else 0
    start = time.perf_counter()
    verdicts, derived, measured = _audit_with_bar(rows, derivations, disputes, args, place)
    seconds = time.perf_counter() - start
    answer(args, SCHEMA, as_json(verdicts, derived, measured, args, seconds), lambda: as_text(verdicts, derived, measured, seconds))
    return 1 if failures(verdicts, derived, measured) else 0


def chosen(slugs: Sequence[str], chapter: int | None) -> tuple[list[Row], list[Derivation], list[Dispute]]:
    """Rows, derivations and disputes by slug (a slug may name several kinds) and chapter; all by default."""
    claimed, derived = [today(s, LEDGER) for s in slugs], [today(s, DERIVATIONS) for s in slugs]
    named = [s for s, d in zip(claimed, derived, strict=True) if s in LEDGER or not (d in DERIVATIONS or s in DISPUTES)]
    rows = [] if slugs and not named else select(named, chapter)
    derivations = [d for d in DERIVATIONS.values() if (not slugs or d.slug in derived) and chapter in (None, d.chapter)]
    disputes = [d for d in DISPUTES.values() if (not slugs or d.slug in slugs) and chapter in (None, CHAPTER)]
    if not rows and not derivations and not disputes:
        raise InputError(f"some slug must be of chapter {chapter}", got=", ".join(slugs), remedy="drop --chapter, or the slugs")
    return rows, derivations, disputes


def as_list(rows: list[Row], derivations: list[Derivation], disputes: list[Dispute]) -> str:
    """Chapter, slug and source of every row, derivation and dispute."""

    def count(heading: str, of: str) -> Column:
        return heading, lambda record: len(getattr(record, of)), ".0f"

    claims = ["=chapter", "slug", count("sides", "sides"), count("near misses", "near_misses"), "source"]
    read = ["=chapter", "slug", count("lines", "lines"), "title"]
    kinds = (("CLAIMS", rows, claims), ("DERIVATIONS", derivations, read), ("DISPUTES", disputes, ["slug", "question"]))
    return "\n\n".join(tabled(title, some, columns) for title, some, columns in kinds if some)


def _json_list(rows: list[Row], derivations: list[Derivation], disputes: list[Dispute]) -> dict[str, Any]:
    return {
        "rows": [parts(r, "slug", "chapter", "statement", "source") for r in rows],
        "derivations": [parts(d, "slug", "chapter", "title", "source") for d in derivations],
        "disputes": [parts(d, "slug", "theme", "question", "source") for d in disputes],
    }


def _audit_with_bar(
    rows: list[Row], derivations: list[Derivation], disputes: list[Dispute], args: argparse.Namespace, place: Place
) -> tuple[list[Verdict], list[Verdict], list[Measured]]:
    total = (len(rows) + len(derivations)) * (len(standard_worlds(0, 0)) + args.worlds) + len(disputes)
    with progress(total, "verify", "check") as bar:
        claims: list[Claim[Any]] = [*map(RowClaim, rows), *map(DerivationClaim, derivations)]
        found = audit_in_parallel(claims, worlds=args.worlds, seed=args.seed, on_progress=bar.update, place=place)
        measured = []
        for dispute in disputes:
            measured.append(dispute.measured(args.seed))
            bar.update(1)
        return found[: len(rows)], found[len(rows) :], measured


def all_prints(rows: list[Row], derivations: list[Derivation], *, every: bool) -> list[Print]:
    """Statements and lines, and (every) the LaTeX of the records of losses, advantages, estimators and divergences."""
    lines = [p for d in derivations for p in executed(d)]
    return [*(p for row in rows for p in statement_prints(row, reading())), *lines, *(record_prints() if every else [])]


def prints_as_json(prints: list[Print]) -> dict[str, Any]:
    """How many are executed, and the others."""
    others = [{"slug": p.slug, "line": p.number, "tex": p.tex, "agrees": p.agrees, "reason": p.reason} for p in prints if not p.agrees]
    return {"executed": sum(p.agrees is True for p in prints), "of": len(prints), "others": others}


def prints_as_text(prints: list[Print]) -> str:
    """What is printed and not executed, one line each, by what it is part of."""
    rows = [
        [p.slug, str(p.number) if p.number else "", ("DIFFERS: " if p.agrees is False else "") + p.reason] for p in prints if not p.agrees
    ]
    lines = [table("PRINTED, AND NOT EXECUTED AS IT IS PRINTED", ["of", "line", "why"], rows, left=(0, 2)), ""] if rows else []
    return "\n".join(
        [*lines, f"{sum(p.agrees is True for p in prints)} of {len(prints)} printed formulas are executed as they are printed."]
    )


def as_text(verdicts: list[Verdict], derived: list[Verdict], measured: list[Measured], seconds: float) -> str:
    """One line a row, a derivation and a dispute, the reasons of any failure, and the verdict."""
    shown = [rows_as_text(verdicts), derivations_as_text(derived), disputes_as_text(measured)]
    kinds = [text for text, found in zip(shown, (verdicts, derived, measured), strict=True) if found]
    lines = [line for k, text in enumerate(kinds) for line in ([""] if k else []) + text]
    failed = failures(verdicts, derived, measured)
    checks = sum(v.worlds for v in verdicts)
    misses = [x for v in verdicts for x in v.refuted.values()]
    wrong = [x for v in derived for x in v.refuted.values()]
    lines += [
        "",
        "error: largest difference between two sides (of two lines from their relation), in units of what rounding allows (holds up to 1).",
        f"|z|: largest distance of a mean of {DRAWS:,} samples from the exact answer, in exact standard errors (holds up to 5).",
    ]
    if verdicts:
        largest = max(v.largest_world for v in verdicts)
        lines.append(
            f"{len(verdicts)} rows, {checks:,} checks on worlds of up to {largest:,} responses, "
            f"{sum(x is not None for x in misses)} of {len(misses)} near misses refuted."
        )
    if derived:
        count = sum(len(DERIVATIONS[v.slug].lines) for v in derived)
        lines.append(
            f"{len(derived)} derivations of {count} lines, executed {sum(v.worlds for v in derived):,} times, "
            f"{sum(x is not None for x in wrong)} of {len(wrong)} wrong lines refuted where they stand."
        )
        printed = [p.agrees is True for v in derived for p in v.prints]
        lines.append(f"{sum(printed)} of {len(printed)} printed lines executed as they are printed (`verify --prints` lists the others).")
    if measured:
        counts = [f"{count} {v}" for v in VERDICTS if (count := sum(m.verdict == v for m in measured))]
        lines.append(f"{len(measured)} disputes measured: {', '.join(counts)} (`tabular-rlhf disputes` shows them).")
    total = len(verdicts) + len(derived) + len(measured)
    verdict = "every equals sign holds." if not failed else f"{len(failed)} of {total} fail: {', '.join(failed)}."
    return "\n".join([*lines, f"{seconds:.1f} s.", f"VERDICT: {verdict}", "", *what_next(verdicts, derived, failed)])


def what_next(verdicts: list[Verdict], derived: list[Verdict], failed: list[str]) -> list[str]:
    """Where to go from a verdict: to what failed, or else to the reasons of what held."""
    row = next((v.slug for v in verdicts if not failed or v.slug in failed), None)
    read = next((v.slug for v in derived if not failed or v.slug in failed), None)
    lines = [f"  tabular-rlhf verify {row} --explain    this claim worked out, and what it is mistaken for"] if row else []
    lines += [f"  tabular-rlhf derive {read}    why, line by line"] if read else []
    return ["Next:", *lines, "  tabular-rlhf exercises    formulas to write yourself, and `check` to hold them against the truth"]


def failures(verdicts: list[Verdict], derived: list[Verdict], measured: list[Measured]) -> list[str]:
    """The slugs of what does not hold."""
    return [v.slug for found in (verdicts, derived, measured) for v in found if not v.holds]


def _error(error: float) -> str:
    """In a column of eight, whatever its size."""
    return f"{error:>8.3f}" if error < 1000 else f"{error:>8.1e}"


def _told(head: str, found: Iterable[tuple[Verdict, int, str, list[str]]]) -> list[str]:
    """A line a verdict, with its size and z, and under it why it fails."""
    lines = [head, "-" * len(head)]
    for v, size, z, why in found:
        hits = f"{sum(x is not None for x in v.refuted.values())}/{len(v.refuted)}"
        line = f"{v.slug:<28}{v.worlds:>7}{size:>9}{_error(v.error)}{z:>6}{hits:>13}{v.seconds:>7.2f}s"
        lines += [line + ("" if v.holds else "  FAILS"), *(f"    {reason}" for reason in why)]
    return lines


def derivations_as_text(derived: list[Verdict]) -> list[str]:
    """One line a derivation."""
    head = f"{'derivation':<28}{'worlds':>7}{'lines':>9}{'error':>8}{'':>6}{'wrong lines':>13}{'time':>8}"
    return _told(head, ((v, len(DERIVATIONS[v.slug].lines), "", derivation_reasons(v)) for v in derived))


def rows_as_text(verdicts: list[Verdict]) -> list[str]:
    """One line a row."""
    head = f"{'row':<28}{'worlds':>7}{'largest':>9}{'error':>8}{'|z|':>6}{'near misses':>13}{'time':>8}"
    return _told(head, ((v, v.largest_world, "" if v.z is None else f"{abs(v.z):.1f}", reasons(v)) for v in verdicts))


def disputes_as_text(measured: list[Measured]) -> list[str]:
    """One line a dispute."""
    head = f"{'dispute':<28}{'worlds':>7}{'refuted by':>12}  verdict"
    lines = [head, "-" * len(head)]
    for m in measured:
        by = "" if m.claim.scope is None else f"{m.claim.scope.world.responses} responses"
        fails = "" if m.holds else f"  FAILS: {m.dispute.settled} is expected"
        lines.append(f"{m.slug:<28}{m.claim.worlds:>7}{by:>12}  {m.verdict}{fails}")
    return lines


def _reasons(v: Verdict, print_: Callable[[Print], str], apart: str, wrong: str) -> list[str]:
    out = ["no world within its hypotheses was tried"] if v.worlds == 0 else []
    out += [print_(p) for p in v.prints if p.agrees is False]
    out += [] if v.error <= 1.0 else [f"{apart} by {v.error:.3g} tolerances: {v.worst}"]
    out += [f"the sample mean lies {v.z:.3g} exact standard errors away"] if v.z is not None and not abs(v.z) <= 5.0 else []
    return out + [f"{wrong} not refuted, for it is right on every world: {d}" for d, found in v.refuted.items() if found is None]


def derivation_reasons(v: Verdict) -> list[str]:
    """Why a derivation fails, in words."""
    return _reasons(v, lambda p: f"line {p.number} does not say what runs: {p.reason}", "a line does not follow,", "wrong line")


def reasons(v: Verdict) -> list[str]:
    """Why a row fails, in words."""
    return _reasons(v, lambda p: f"a clause does not say what runs: {p.reason}: {p.tex}", "sides differ", "near miss")


def as_json(
    verdicts: list[Verdict], derived: list[Verdict], measured: list[Measured], args: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    def told(v: Verdict, chapter: int, own: Mapping[str, Any], why: list[str]) -> dict[str, Any]:
        return {"slug": v.slug, "chapter": chapter, **parts(v, "holds", "worlds"), **own, "seconds": round(v.seconds, 4), "reasons": why}

    def sides(v: Verdict) -> dict[str, Any]:
        return parts(v, "largest_world", "error", "z") | {"near_misses": v.refuted}

    read = [(v, DERIVATIONS[v.slug]) for v in derived]
    return {
        "worlds": args.worlds,
        "holds": not failures(verdicts, derived, measured),
        "seconds": seconds,
        "rows": [told(v, LEDGER[v.slug].chapter, sides(v), reasons(v)) for v in verdicts],
        "derivations": [
            told(v, d.chapter, {"lines": len(d.lines), "error": v.error, "wrong_lines": v.refuted}, derivation_reasons(v)) for v, d in read
        ],
        "disputes": [measured_json(m) for m in measured],
    }
