"""`tabular-rlhf exercises [SLUG] [--chapter N] [--notebook NN] [--course NAME] [--check FILE]`: the exercises, a sheet, or your own, tried.

Exit status: 0; with --check 1 if something is wrong with the sheet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.commands.options import declare_json, file_option
from tabular_rlhf.commands.printing import show
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises import EXERCISES, PROOFS, Exercise, Proof, every
from tabular_rlhf.exercises.courses import COURSES, as_sheet
from tabular_rlhf.exercises.courses import find as find_course
from tabular_rlhf.exercises.record import find as find_exercise
from tabular_rlhf.layout import table, wrap
from tabular_rlhf.symbols import SYMBOLS
from tabular_rlhf.tex import prose

SCHEMA = "tabular-rlhf/exercises/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug", nargs="?", metavar="SLUG", help="one exercise, in full")
    parser.add_argument("--chapter", type=int, help="only this chapter's")
    parser.add_argument("--notebook", help="only this notebook's, as 04")
    parser.add_argument("--course", metavar="NAME", help=f"a course's problem sheet, as a file to fill in and grade: {', '.join(COURSES)}")
    parser.add_argument("--hint", action="store_true", help="with the hint")
    file_option(parser, "--check FILE", "try your own sheet: answers right, mistakes refuted, derivations that follow (it is run)")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.check is not None:
        return _tried(args)
    course = find_course(args.course) if args.course else None
    listed = [EXERCISES[slug] for slug in course.exercises] if course else every().values()
    chosen = selected([find(args.slug)] if args.slug else listed, args.chapter, args.notebook)
    if args.json:
        answer_json(SCHEMA, args, {"exercises": [as_dict(e) for e in chosen]})
    elif course and not args.slug:
        show(as_sheet(course, [e.slug for e in chosen]))
    else:
        show(as_text(chosen[0], args.hint) if args.slug else as_list(chosen))
    return 0


def _tried(args: argparse.Namespace) -> int:
    """A sheet, examined item by item."""
    from tabular_rlhf.grading.sheet import SCHEMA, examine, read_sheet

    if args.slug or args.hint:
        raise InputError("--check must be of a sheet", got=args.slug or "--hint", remedy="leave the exercise's name and --hint out")
    sheet = read_sheet(args.check)
    slugs = [e.slug for e in selected([every()[slug] for slug in sheet.items], args.chapter, args.notebook)]
    with progress(len(slugs), "sheet", "exercise") as bar:
        found = {}
        for slug in slugs:
            found[slug] = examine(slug)
            bar.update()
    well = all(finding.ok for findings in found.values() for finding in findings)
    if args.json:
        told = [{"slug": slug, **asdict(sheet.items[slug]), "findings": [vars(f) for f in findings]} for slug, findings in found.items()]
        answer_json(SCHEMA, args, {"holds": well, "exercises": told})
    else:
        lines = []
        for slug, findings in found.items():
            lines += ["", f"{slug}, {sheet.items[slug].points:g} points"]
            lines += [line for f in findings for line in wrap(f"{'✓' if f.ok else '✗'} {f.part}: {f.told}", first="  ", then="      ")]
        wrong = sum(not f.ok for findings in found.values() for f in findings)
        of = f"{len(found)} exercises, {sum(sheet.points[slug] for slug in found):g} points"
        lines += ["", f"{of}: {f'{wrong} to mend' if wrong else 'all is well'}."]
        answer_text(args, "\n".join(lines[1:]))
    return 0 if well else 1


def find(slug: str) -> Exercise | Proof:
    """An exercise or a proof by name."""
    return PROOFS[slug] if slug in PROOFS else find_exercise(slug)


def selected(exercises: Iterable[Exercise | Proof], chapter: int | None, notebook: str | None) -> list[Exercise | Proof]:
    """Those of a chapter and of a notebook, where these are named.  Raises InputError if there is none."""
    chosen = [e for e in exercises if chapter in (None, e.chapter) and (notebook is None or notebook.zfill(2) == e.notebook)]
    if not chosen:
        chapters = ", ".join(map(str, sorted({e.chapter for e in every().values()})))
        got = ", ".join(f"{name} {value}" for name, value in (("chapter", chapter), ("notebook", notebook)) if value is not None)
        notebooks = ", ".join(sorted({e.notebook for e in every().values()} - {""}))
        remedy = f"there are exercises of chapters {chapters} and of notebooks {notebooks}"
        raise InputError("some exercise must fit", got=got, remedy=remedy)
    return chosen


def as_dict(e: Exercise | Proof) -> dict[str, Any]:
    """An exercise as plain values, without its answers."""
    fields = ("slug", "chapter", "notebook", "title", "statement", "forbidden", "signature", "hint", "free", "minutes")
    return {k: getattr(e, k, "") for k in fields} | {"statement": e.asked, "rows": list(e.rows), "without": list(e.without)}


def _symbols(e: Exercise) -> list[str]:
    lines = []
    for name in e.suggested:
        s = SYMBOLS[name]
        lines.append(f"  {name:<18} {s.meaning}{', ' + s.shape if s.shape else ''}{', ' + s.unit if s.unit else ''}")
    return lines + ([f"  any answer that is right up to a {e.free} is right"] if e.free else [])


def as_list(exercises: Sequence[Exercise | Proof]) -> str:
    """One line an exercise."""
    rows = [[str(e.chapter), e.slug, e.notebook, str(e.minutes), e.title] for e in exercises]
    lines = [table("", ["", "exercise", "notebook", "minutes", "title"], rows, left=(0, 1, 4))]
    return "\n".join([*lines, "", f"{len(exercises)} exercises.  `tabular-rlhf exercises SLUG` shows one in full."])


def as_text(e: Exercise | Proof, hint: bool) -> str:
    """Title, statement, signature, symbols, and the hint if it is asked for."""
    where = f"chapter {e.chapter}, notebook {e.notebook}" if e.notebook else f"chapter {e.chapter}"
    lines = [f"{e.title}  ({e.slug}, {where}, about {e.minutes} minutes)", ""]
    lines += wrap(prose(e.asked), first="  ")
    lines += ["", f"    {e.signature}", "        return ...", ""]
    lines += ["  It returns the text of a derivation, as `derive` reads one."] if isinstance(e, Proof) else _symbols(e)
    lines += ["", *wrap(f"Hint: {prose(e.hint)}", first="  ")] if hint else []
    lines += ["", f"  Rows of the ledger: {', '.join(e.rows)}.", f"  Check it: tabular-rlhf check {e.slug} my_file.py:{e.name}"]
    return "\n".join(lines)
