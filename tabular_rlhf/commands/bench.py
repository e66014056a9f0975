"""`tabular-rlhf bench`: time the work, against peers where they are installed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tabular_rlhf.commands.answer import answer, as_json
from tabular_rlhf.commands.options import declare_json
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.errors import InputError, SolveError, whole
from tabular_rlhf.files import check_output, write_text

PATIENCE = 4.0  # seconds of repeats that a slow formulation may use up
SCHEMA = "tabular-rlhf/bench/1"


def configure(parser: argparse.ArgumentParser) -> None:
    declare_json(parser)
    parser.add_argument("--quick", action="store_true", help="small trees, few repeats: to see that it runs")
    parser.add_argument("--repeats", type=int, default=None, metavar="N", help="turns for each runner (default 15, quick 3)")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="write the JSON object to a file as well")


def run(args: argparse.Namespace) -> int:
    """Exit status 0 if every bar is cleared (--quick: if it ran), else 1."""
    repeats = args.repeats if args.repeats is not None else 3 if args.quick else 15
    if repeats < 1:
        raise InputError("repeats must be at least 1", got=repeats, remedy="15 is usual")
    whole(repeats, "--repeats", 1, "15 is usual", most=10**6)
    if args.out is not None:
        check_output(args.out)  # before the work, not after it
    result = measure(quick=args.quick, repeats=repeats)
    if args.out is not None:
        write_text(args.out, as_json(SCHEMA, args, result) + "\n")
    return answer(args, SCHEMA, result, lambda: report(result), holds=args.quick or all(bar["cleared"] for bar in bars(result)))


def measure(*, quick: bool, repeats: int) -> dict[str, Any]:
    """All workloads: a JSON-ready record."""
    from tabular_rlhf.bench import timing

    facts = timing.machine()
    rows: list[dict[str, Any]] = []
    with timing.one_core() as pinned:
        plan = [(w, case) for w in every_workload() for case in (_shrunk(w) if quick else w.cases)]
        with progress(len(plan) * repeats, "bench", "turn") as bar:
            for workload, case in plan:
                bar.update(0, f"{workload.name} {case.name}")
                rows.append(_row(workload, case, facts, repeats, bar.update))
        imports = timing.import_times("scipy.special", "tabular_rlhf", min(repeats, 5))
        largest = None if quick else timing.largest_world()
    _judge(rows)
    extra = [_limit("import", f"tabular_rlhf on top of scipy.special's {imports[0]:.3f} s, seconds", imports[1], 0.06)]
    extra += [] if largest is None else [_limit("memory", "2^24 responses, GiB", largest / 2**30, 2.0)]
    return {"quick": quick, "repeats": repeats, "pinned": pinned, "machine": facts, "rows": rows, "limits": extra}


def every_workload() -> list[Any]:
    """The workloads of all tables, in the order in which they run."""
    from tabular_rlhf.bench import workloads, workloads_data, workloads_lattice, workloads_own

    return workloads.WORKLOADS + workloads_data.WORKLOADS + workloads_own.WORKLOADS + workloads_lattice.WORKLOADS


def _shrunk(workload: Any) -> tuple[Any, ...]:
    from tabular_rlhf.bench.workloads import LARGE, SMALL

    return workload.quick or (SMALL if workload.cases == LARGE else workload.cases)


def _row(workload: Any, case: Any, facts: dict[str, Any], repeats: int, tick: Any) -> dict[str, Any]:
    """Time one workload on one case, after every peer has agreed with us."""
    from tabular_rlhf.bench import timing

    ours = workload.ours(case)
    answer = ours()
    runners = {("ours", ""): ours}
    for library, formulations in workload.peers.items():
        for make in formulations if facts[library] != "absent" else ():
            theirs = make(case)
            error = workload.disagreement(case, answer, theirs())
            if not error <= 1.0:
                raise SolveError(f"{make.__name__} disagrees with us: {workload.name}, {case.name}, {error:.3g} times what is tolerated")
            runners[library, make.__name__] = theirs
    timing.one_blas_thread()  # now that everybody's libraries are loaded
    times = timing.race(runners, repeats, PATIENCE, tick)
    best: dict[str, tuple[float, str]] = {}
    for (library, formulation), t in times.items():
        best[library] = min(best.get(library, (t, formulation)), (t, formulation))
    return {
        "workload": workload.name,
        "what": workload.what,
        "case": case.name,
        "seconds": {library: t for library, (t, _) in best.items()},
        "formulation": {library: f for library, (_, f) in best.items() if f},
        "formulation_seconds": {f: t for (_, f), t in times.items() if f},
        "peak_bytes": {library: timing.peak_memory(runners[library, f]) for library, (_, f) in best.items()},
        "absent": [library for library in workload.peers if facts[library] == "absent"],
        "bars": [{"over": b.over, "limit": b.limit} for b in workload.bars],
    }


def _judge(rows: list[dict[str, Any]]) -> None:
    """Add ratios, and to each bar its ratio and whether it is cleared; a bar over an absent peer counts as cleared, with ratio None."""
    own = {(row["workload"], row["case"]): row["seconds"]["ours"] for row in rows}
    for row in rows:
        ours = row["seconds"]["ours"]
        theirs = {library: t for library, t in row["seconds"].items() if library != "ours"}
        row["ratio"] = {library: ours / t for library, t in theirs.items()}
        for bar in row["bars"]:
            known = {**row["formulation_seconds"], **theirs, "fastest peer": min(theirs.values(), default=None), "one second": 1.0}
            over = own.get((bar["over"], row["case"]), known.get(bar["over"]))
            bar["ratio"] = None if over is None else ours / over
            bar["cleared"] = bar["ratio"] is None or bar["ratio"] <= bar["limit"]


def _limit(name: str, what: str, value: float, limit: float) -> dict[str, Any]:
    return {"name": name, "what": what, "value": value, "limit": limit, "cleared": value <= limit}


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every bar and every limit of a result."""
    return [bar for row in result["rows"] for bar in row["bars"]] + result["limits"]


# ---------------------------------------------------------------------------------------------------- for people


def report(result: dict[str, Any]) -> str:
    """The result as a page of text: ratios are ours / theirs, below 1 we are faster."""
    m = result["machine"]
    lines = [
        f"{m['cpu']}, {m['cores']} cores, {m['system']}; SIMD up to {m['simd'][-1] if m['simd'] else 'none'}",
        ", ".join(f"{name} {m[name]}" for name in ("python", "numpy", "scipy", "torch", "jax", "autograd", "choix")),
        f"one thread for all ({'pinned to one core' if result['pinned'] else 'not pinned'}), float64, best of {result['repeats']} turns;"
        " ratios are ours / theirs",
        "",
    ]
    for row in result["rows"]:
        lines += _row_text(row, result)
    for x in result["limits"]:
        lines.append(f"{x['name']:<14} {x['what']}: {x['value']:.3f}, at most {x['limit']:.3f}{_word(x, result)}")
    missed = sum(not bar["cleared"] for bar in bars(result))
    verdict = "every bar is cleared" if not missed else f"bars missed: {missed}"
    return "\n".join([*lines, "", "a quick run on small trees: no bars" if result["quick"] else verdict])


def _row_text(row: dict[str, Any], result: dict[str, Any]) -> list[str]:
    cells = [f"{row['workload']:<14} {row['case']:<10} {_cell(row, 'ours')}"]
    cells += [f"{library} {_cell(row, library)} ratio {ratio:.2f}" for library, ratio in row["ratio"].items()]
    cells += [f"{library} absent" for library in row["absent"]]
    lines = ["  ".join(cells)]
    for bar in [] if result["quick"] else row["bars"]:
        ratio = "-" if bar["ratio"] is None else f"{bar['ratio']:.2f}"
        lines.append(f"{' ' * 26}{ratio} of {bar['over']}, at most {bar['limit']:.2f}{_word(bar, result)}")
    return lines


def _cell(row: dict[str, Any], library: str) -> str:
    t, peak = row["seconds"][library], row["peak_bytes"][library]
    time_ = f"{1e6 * t:.0f} us" if t < 1e-3 else f"{1e3 * t:.1f} ms"
    return time_ if peak is None else f"{time_} ({peak / 2**20:.0f} MiB)"


def _word(bar: dict[str, Any], result: dict[str, Any]) -> str:
    if result["quick"]:
        return ""
    return "  not raced" if bar.get("ratio", 0) is None else "  ok" if bar["cleared"] else "  MISSED"
