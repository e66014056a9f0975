"""The report on a person's own comparisons as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from typing import Any

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
        every = f"--top {report['totals']['prompts']} shows all, --json too"
        parts.append(f"{left:,} more prompt{'s' * (left > 1)} with fewer comparisons: {every}.")
    return "\n\n".join([*parts, reading(report)])


def wrapped(text: str, indent: str = "") -> str:
    return "\n".join(wrap(text, first=indent))


def head(report: Record, name: str) -> str:
    """What was read, how, and what was not used."""
    t, unit = report["totals"], report["unit"]
    prompted = f"{plural(t['responses'], 'response')} to {plural(t['prompts'], 'prompt')}"
    of = plural(t["responses"], "item") if unprompted(report) else prompted
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
    told, cells = columns(report, row), ordered(row)
    body = [[of(cell) for _, of in told] for cell in cells[:LONGEST]]
    if len(cells) > LONGEST:
        body.append([*[""] * (len(told) - 1), f"and {len(cells) - LONGEST:,} more"])
    if settled:
        blank = len(told) - 1 - len(report["betas"])
        body.append([*[""] * blank, *(number(k, ".4f") for k in row["kl"]), "(KL from p_ref, nats)"])
    whole = table(title, [heading for heading, _ in told], body, left=(len(told) - 1,), tallest=1)
    return "\n".join([whole, *(wrapped(s, "  ") for s in notes(row, settled)), *covariance(row, cells)])


def columns(report: Record, row: Record) -> list[tuple[str, Callable[[Record], str]]]:
    """What is told of each response: headings, each with how a cell reads; only what is known, and worth a column."""

    def figure(spec: str, *keys: Any) -> Callable[[Any], str]:
        return lambda cell: number(reduce(getitem, keys, cell), spec)

    def interval(cell: Record) -> str:
        return "-" if cell["interval"] is None else " to ".join(number(end, ".3f") for end in cell["interval"])

    told: list[tuple[str, Callable[[Record], str]]] = [("rank", lambda cell: places(cell["rank"]))] if ranked(row) else []
    told += [("reward", figure(".3f", "reward")), ("s.e.", figure(".3f", "standard_error"))]
    told += [(f"{100 * report['level']:g} % interval", interval)]
    if any("relative" in cell for cell in row["responses"]):
        told += [("against", figure(".4f", "relative", "reward")), ("s.e.", figure(".4f", "relative", "standard_error"))]
    told += [("won", figure(".6g", "wins")), ("lost", figure(".6g", "losses"))]
    told += [("tied", figure(".6g", "ties"))] if report["ties"] else []
    told += [("p_ref", figure(".3g", "p_ref"))] if report["reference"] == "given" else []
    if row["kl"] is not None:
        told += [(f"pi({beta:g})", figure(".4f", "policy", k)) for k, beta in enumerate(report["betas"])]
    else:
        told += [("set", lambda cell: letter(sets(row).index(cell["component"])))]
    return [*told, ("item" if unprompted(report) else "response", lambda cell: " ".join(cell["response"].split()))]


def covariance(row: Record, cells: list[Record]) -> Iterator[str]:
    """The covariance of a prompt's rewards, if it was asked for."""
    if row.get("covariance"):
        order = [row["responses"].index(cell) for cell in cells[:LONGEST]]
        names = [clip(" ".join(cell["response"].split()), 32) for cell in cells[:LONGEST]]
        body = [[*(number(row["covariance"][i][j], ".4g") for j in order), name] for i, name in zip(order, names, strict=True)]
        header = [*map(str, range(1, len(order) + 1)), ""]
        yield table("  covariance of the rewards, in this order", header, body, left=(len(order),), tallest=1)


def ranked(row: Record) -> bool:
    """Whether ranks are known."""
    return any(cell["rank"] is not None for cell in row["responses"])


def ordered(row: Record) -> list[Record]:
    """Winners' sets first, best reward first."""
    return sorted(row["responses"], key=lambda c: (c["component"] if row["kl"] is None else 0, -(c["reward"] or 0.0)))


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
