"""`tabular-rlhf verify`: the main job.  Every claim of the ledger on generated worlds, one line a row, and a verdict."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from tabular_rlhf.errors import InputError
from tabular_rlhf.ledger import LEDGER, Row, Verdict
from tabular_rlhf.ledger.audit import DRAWS, select, standard_worlds
from tabular_rlhf.ledger.explain import SCHEMA as EXPLAINED
from tabular_rlhf.ledger.explain import worked
from tabular_rlhf.ledger.explain_text import render
from tabular_rlhf.ledger.parallel import audit_on_all_cores

SCHEMA = "tabular-rlhf/verify/1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slugs", nargs="*", metavar="SLUG", help="rows to run (all by default)")
    parser.add_argument("--chapter", type=int, help="only this chapter's rows")
    parser.add_argument(
        "--worlds", type=int, default=60, metavar="N", help="generated worlds (default 60), besides the named and the large one"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the worlds and the samples (default 0)")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    parser.add_argument(
        "--explain", action="store_true", help="show statement, source, a worked small instance and the near misses, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    for option, value in (("--worlds", args.worlds), ("--seed", args.seed)):
        if value < 0:
            raise InputError(f"{option} must be at least 0", got=value, remedy="leave it out for the usual one")
    rows = select(args.slugs, args.chapter)
    if args.list:
        print(_json_list(rows) if args.json else as_list(rows))
        return 0
    if args.explain:
        found = [worked(row, seed=args.seed) for row in rows]
        print(json.dumps({"schema": EXPLAINED, "rows": _plain(found)}, indent=1) if args.json else "\n\n\n".join(map(render, found)))
        return 0
    start = time.perf_counter()
    verdicts = _audit_with_bar(rows, args)
    seconds = time.perf_counter() - start
    print(as_json(verdicts, args, seconds) if args.json else as_text(verdicts, seconds))
    return 0 if all(v.holds for v in verdicts) else 1


def as_list(rows: list[Row]) -> str:
    """Chapter, slug and source of every row."""
    return "\n".join(
        f"{row.chapter}  {row.slug:<28}{len(row.sides)} sides, {len(row.near_misses)} near misses   {row.source}" for row in rows
    )


def _json_list(rows: list[Row]) -> str:
    return json.dumps({"schema": SCHEMA, "rows": [{k: getattr(r, k) for k in ("slug", "chapter", "statement", "source")} for r in rows]})


def _audit_with_bar(rows: list[Row], args: argparse.Namespace) -> list[Verdict]:
    from tqdm import tqdm

    total = len(rows) * len(standard_worlds(0, 0)) + len(rows) * args.worlds
    with tqdm(total=total, desc="verify", unit="check", file=sys.stderr, leave=False, disable=None) as bar:
        return audit_on_all_cores(rows, worlds=args.worlds, seed=args.seed, on_progress=bar.update)


def as_text(verdicts: list[Verdict], seconds: float) -> str:
    """One line a row, the reasons of any failure, and the verdict."""
    head = f"{'row':<28}{'worlds':>7}{'largest':>9}{'error':>8}{'|z|':>6}{'near misses':>13}{'time':>8}"
    lines = [head, "-" * len(head)]
    for v in verdicts:
        z = "" if v.z is None else f"{abs(v.z):.1f}"
        hits = sum(x is not None for x in v.refuted.values())
        line = f"{v.slug:<28}{v.worlds:>7}{v.largest_world:>9}{v.error:>8.3f}{z:>6}{f'{hits}/{len(v.refuted)}':>13}{v.seconds:>7.2f}s"
        lines.append(line + ("" if v.holds else "  FAILS"))
        lines += [f"    {reason}" for reason in reasons(v)]
    checks = sum(v.worlds for v in verdicts)
    misses = [x for v in verdicts for x in v.refuted.values()]
    failed = [v.slug for v in verdicts if not v.holds]
    lines += [
        "",
        "error: largest difference between two sides, in units of what rounding allows (holds up to 1).  |z|: largest distance of a mean",
        f"of {DRAWS:,} samples from the exact answer, in exact standard errors (holds up to 5).",
        f"{len(verdicts)} rows, {checks:,} checks on worlds of up to {max((v.largest_world for v in verdicts), default=0):,} responses, "
        f"{sum(x is not None for x in misses)} of {len(misses)} near misses refuted, {seconds:.1f} s.",
        "VERDICT: every equals sign holds." if not failed else f"VERDICT: {len(failed)} of {len(verdicts)} rows fail: {', '.join(failed)}.",
    ]
    return "\n".join(lines)


def reasons(v: Verdict) -> list[str]:
    """Why a row fails, in words."""
    out = []
    if v.worlds == 0:
        out.append("no world within its hypotheses was tried")
    if not v.error <= 1.0:
        out.append(f"sides differ by {v.error:.3g} tolerances: {v.worst}")
    if v.z is not None and not abs(v.z) <= 5.0:
        out.append(f"the sample mean lies {v.z:.3g} exact standard errors away")
    out += [f"near miss not refuted: {d}" for d, found in v.refuted.items() if found is None]
    return out


def as_json(verdicts: list[Verdict], args: argparse.Namespace, seconds: float) -> str:
    rows = [
        {
            "slug": v.slug,
            "chapter": LEDGER[v.slug].chapter,
            "holds": v.holds,
            "worlds": v.worlds,
            "largest_world": v.largest_world,
            "error": _finite(v.error),
            "z": _finite(v.z),
            "near_misses": {d: None if found is None else found.responses for d, found in v.refuted.items()},
            "seconds": round(v.seconds, 4),
            "reasons": reasons(v),
        }
        for v in verdicts
    ]
    whole = {
        "schema": SCHEMA,
        "seed": args.seed,
        "worlds": args.worlds,
        "holds": all(v.holds for v in verdicts),
        "seconds": seconds,
        "rows": rows,
    }
    return json.dumps(whole, indent=1)


def _finite(x: float | None) -> float | str | None:
    """JSON has no infinity and no nan: they become strings."""
    return x if x is None or abs(x) < float("inf") else str(x)


def _plain(found: Any) -> Any:
    """A record for JSON."""
    if isinstance(found, dict):
        return {k: _plain(v) for k, v in found.items()}
    return [_plain(v) for v in found] if isinstance(found, list) else _finite(found) if isinstance(found, float) else found
