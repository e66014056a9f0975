"""The report on a person's own comparisons as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from tabular_rlhf.layout import clip, table, wrap
from tabular_rlhf.preferencefile import SHAPES
from tabular_rlhf.reports.people_text import about, listed, plural, society
from tabular_rlhf.reports.preferences import Record
from tabular_rlhf.told import number

LONGEST = 12
"""Responses that a prompt's table shows; --json has all."""
SCARCE = 5
"""Comparisons a pair below which a deviance is hardly chi-squared."""
MOST = 3
"""Sets of responses that a sentence names before it counts the rest."""


def render(report: Record, name: str, *, top: int = 5) -> str:
    """The whole report: the file, the totals, the people, the `top` prompts with most comparisons, and how to read it."""
    shown = report["prompts"][:top]
    parts = [head(report, name), determined(report), *society(report), *about(report)]
    parts += [prompt(report, row) for row in shown]
    left = report["totals"]["prompts"] - len(shown)
    if left > 0:
        parts.append(
            f"{left:,} more prompt{'s' * (left > 1)} with fewer comparisons: --top {report['totals']['prompts']} shows all, --json too."
        )
    return "\n\n".join([*parts, reading(report)])


def wrapped(text: str, indent: str = "") -> str:
    return "\n".join(wrap(text, first=indent))


def head(report: Record, name: str) -> str:
    """What was read, how, and what was not used."""
    t, unit = report["totals"], report["unit"]
    of = (
        f"{plural(t['responses'], 'item')}"
        if unprompted(report)
        else f"{plural(t['responses'], 'response')} to {plural(t['prompts'], 'prompt')}"
    )
    counted = "" if t["weight"] == report["comparisons"] else f" that count for {t['weight']:,.6g}"
    used = f"{plural(report['comparisons'], 'comparison')}{counted} of {of}"
    short = name if len(name) <= 32 else "…" + name[-31:]  # the end of a path says most
    said = [f"{short}: {plural(report['lines'], unit)}, {used}."]
    said.append(f"Read as {report['container']}: {SHAPES[report['shape']].title}.")
    said += [f"{note[0].upper()}{note[1:]}." for note in report["notes"]]
    if report["ignored"]:
        said.append(f"Columns not read: {', '.join(report['ignored'])}.")
    bad, same, idle = report["malformed"], report["same"], report["idle"]
    if bad:
        said.append(f"{plural(len(bad), f'malformed {unit}')} not used: {listed([f['line'] for f in bad])}.")
    if same:
        said.append(f"{plural(len(same), unit)} with two equal responses, which say{'s' * (len(same) == 1)} nothing: {listed(same)}.")
    if idle:
        said.append(f"{plural(len(idle), unit)} with {idle[0]['reason']}: {listed([f['line'] for f in idle])}.")
    if report["blank"]:
        said.append(f"{plural(report['blank'], f'blank {unit}')}.")
    return "\n".join(wrapped(line) for line in said)


def unprompted(report: Record) -> bool:
    """Whether items are compared, and no responses to prompts."""
    return [row["prompt"] for row in report["prompts"]] == [""] and report["totals"]["prompts"] == 1


def determined(report: Record) -> str:
    """Totals over prompts."""
    t = report["totals"]
    cost = t["intransitivity"]
    p = "" if cost["p_value"] is None else f", p = {number(cost['p_value'], '.2g')}"
    rows = [
        ("prompts with a single finite maximum-likelihood fit", f"{t['finite_maximum']:,} of {t['prompts']:,}"),
        ("differences of rewards pushed to infinity by the data", f"{t['unbounded']:,}"),
        ("differences of rewards that nobody compared", f"{t['free']:,}"),
        ("nats of the win rates that Bradley-Terry misses", f"{number(cost['nats'], '.4g')} ({number(cost['by_chance'])} by chance{p})"),
        ("circular triads: a beats b beats c beats a", f"{cost['cyclic_triads']:,} of {t['triads']:,}"),
    ]
    if cost["degrees"] and t["weight"] < SCARCE * t["pairs"]:
        rows.append(("comparisons a pair: few, so that this p is rough", number(t["weight"] / t["pairs"], ".2g")))
    return table("WHAT THE DATA DETERMINE", ["", ""], rows, left=(0, 1))


def prompt(report: Record, row: Record) -> str:
    """One prompt: its responses with rewards, intervals and policies, and what stands in the way."""
    what = "ITEMS" if unprompted(report) else f"PROMPT {clip(' '.join(row['prompt'].split()), 60)!r}"
    title = f"{what}: {plural(row['comparisons'], 'comparison')}"
    settled = row["kl"] is not None
    header = [*(["rank"] if ranked(row) else []), "reward", "s.e.", f"{100 * report['level']:g} % interval"]
    header += ["against", "s.e."] if against(row) else []
    header += ["won", "lost", *(["tied"] if report["ties"] else []), *(["p_ref"] if given(report) else [])]
    header += [f"pi({b:g})" for b in report["betas"]] if settled else ["set"]
    cells = ordered(row)
    body = [line(report, row, cell, settled) for cell in cells[:LONGEST]]
    if len(cells) > LONGEST:
        body.append([*[""] * (len(body[0]) - 1), f"and {len(cells) - LONGEST:,} more"])
    if settled:
        blank = len(header) - len(report["betas"])
        body.append([*[""] * blank, *(number(k, ".4f") for k in row["kl"]), "(KL from p_ref, nats)"])
    last = "item" if unprompted(report) else "response"
    parts = [table(title, [*header, last], body, left=(len(header),), tallest=1), *(wrapped(s, "  ") for s in notes(row, settled))]
    return "\n".join([*parts, *covariance(row, cells)])


def covariance(row: Record, cells: list[Record]) -> Iterator[str]:
    """The covariance of a prompt's rewards, if it was asked for."""
    if row.get("covariance"):
        order = [row["responses"].index(cell) for cell in cells[:LONGEST]]
        body = [
            [*(number(row["covariance"][i][j], ".4g") for j in order), clip(" ".join(row["responses"][i]["response"].split()), 32)]
            for i in order
        ]
        yield table(
            "  covariance of the rewards, in this order", [*map(str, range(1, len(order) + 1)), ""], body, left=(len(order),), tallest=1
        )


def ranked(row: Record) -> bool:
    """Whether ranks are known."""
    return any(cell["rank"] is not None for cell in row["responses"])


def against(row: Record) -> bool:
    """Whether rewards are told relative to a response."""
    return any("relative" in cell for cell in row["responses"])


def given(report: Record) -> bool:
    """Whether p_ref is worth a column."""
    return bool(report["reference"] == "given")


def ordered(row: Record) -> list[Record]:
    """Winners' sets first, best reward first."""
    return sorted(row["responses"], key=lambda c: (c["component"] if row["kl"] is None else 0, -(c["reward"] or 0.0)))


def line(report: Record, row: Record, cell: Record, settled: bool) -> list[str]:
    ends = cell["interval"]
    interval = "-" if ends is None else f"{number(ends[0], '.3f')} to {number(ends[1], '.3f')}"
    start = [places(cell["rank"])] if ranked(row) else []
    start += [number(cell["reward"], ".3f"), number(cell["standard_error"], ".3f"), interval]
    if against(row):
        start += [number(cell["relative"]["reward"], ".4f"), number(cell["relative"]["standard_error"], ".4f")]
    start += [f"{cell['wins']:.6g}", f"{cell['losses']:.6g}", *([f"{cell['ties']:.6g}"] if report["ties"] else [])]
    middle = [number(p, ".4f") for p in cell["policy"]] if settled else [letter(sets(row).index(cell["component"]))]
    p_ref = [number(cell["p_ref"], ".3g")] if given(report) else []
    return [*start, *p_ref, *middle, " ".join(cell["response"].split())]


def places(rank: list[int] | None) -> str:
    """The ranks that an item may have.

    >>> places([1, 3]), places([2, 2])
    ('1 to 3', '2')
    """
    return "-" if rank is None else str(rank[0]) if rank[0] == rank[1] else f"{rank[0]} to {rank[1]}"


def sets(row: Record) -> list[int]:
    """The strong components of a prompt, winners first."""
    return sorted({cell["component"] for cell in row["responses"]})


def letter(k: int) -> str:
    """A, B, ... Z, AA, ...

    >>> [letter(k) for k in (0, 25, 26)]
    ['A', 'Z', 'AA']
    """
    return (letter(k // 26 - 1) if k >= 26 else "") + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[k % 26]


def notes(row: Record, settled: bool) -> Iterator[str]:
    """Sentences under a prompt's table."""
    if not row["finite_maximum"]:
        standing = {cell["component"]: cell["standing"] for cell in row["responses"]}
        said = [f"{letter(k)} {standing[c]}" for k, c in enumerate(sets(row)) if standing[c]]
        more = [f"{len(said) - MOST} more like them"] if len(said) > MOST else []
        reasons = said[:MOST] + more
        if row["free"]:
            reasons.append(f"no chain of comparisons links {plural(row['free'] + 1, 'group')} of responses")
        kind = "finite" if row["unbounded"] else "single"
        yield f"No {kind} maximum: {', '.join(reasons)}." + ("  The prior decides." if settled else "")
        if not settled and row["unbounded"]:
            yield "DPO has no minimizer here: it pushes the margins between these sets to infinity.  Rewards compare within a set."
        elif not settled:
            yield "DPO's loss does not depend on the share of each group.  Rewards compare within a set."
    cost = row["intransitivity"]
    if cost["degrees"] > 0:
        p = f", p = {number(cost['p_value'], '.2g')}" if cost["p_value"] is not None else ""
        triads = f"; {plural(cost['cyclic_triads'], 'circular triad')}" if cost["cyclic_triads"] else ""
        nats = f"{number(cost['nats'], '.4g')} nats of the win rates ({number(cost['by_chance'])} by chance{p})"
        yield f"Bradley-Terry misses {nats}{triads}."


def reading(report: Record) -> str:
    """How to read it."""
    prior = f", with a Gaussian prior of variance {report['prior']:g}" if report["prior"] else ""
    ties = ", a tie half a win each way" if report["ties"] else ""
    said = [
        f"reward: Bradley-Terry{ties}, in nats, mean zero over a set{prior}, and its standard error; exp of a difference is the odds of"
        " being preferred.",
        f"pi(beta) = p_ref exp(reward/beta) / Z over the responses compared, p_ref {report['reference']}: the Gibbs policy."
        + ("" if report["prior"] else "  DPO at that beta, on these comparisons, ends there too, where there is a single finite maximum."),
        "Not determined by any comparison: a constant added to all rewards of a prompt (no policy sees it), and the probability of"
        " responses that were never compared.",
    ]
    if any(ranked(row) for row in report["prompts"]):
        said.append(
            f"rank: those that {100 * report['level']:g} % intervals of the differences allow, each by itself"
            " (--json has those that hold together, too)."
        )
    if report["estimated_errors"]:
        said.append(f"Standard errors of the largest sets are estimated, within about {100 * report['estimated_errors']:.2g} % (one s.e.).")
    if report["totals"]["finite_maximum"] < report["totals"]["prompts"] and not report["prior"]:
        said.append(
            "For rewards where there is no single finite maximum, state how far they may spread: --prior 1 is a variance of 1 nat^2."
        )
    return "\n".join(wrapped(s) for s in said)
