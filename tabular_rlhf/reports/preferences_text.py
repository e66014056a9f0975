"""The report on a person's own comparisons as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from tabular_rlhf.layout import clip, table, wrap
from tabular_rlhf.reports.preferences import Record
from tabular_rlhf.told import number

LONGEST = 12
"""Responses that a prompt's table shows; --json has all."""
MOST = 3
"""Sets of responses that a sentence names before it counts the rest."""


def render(report: Record, name: str, *, top: int = 5) -> str:
    """The whole report: the file, the totals, the `top` prompts with most comparisons, and how to read it."""
    shown = report["prompts"][:top]
    parts = [head(report, name), determined(report)]
    parts += [prompt(report, row) for row in shown]
    left = len(report["prompts"]) - len(shown)
    if left > 0:
        parts.append(
            f"{left:,} more prompt{'s' * (left > 1)} with fewer comparisons: --top {len(report['prompts'])} shows all, --json too."
        )
    return "\n\n".join([*parts, reading(report)])


def wrapped(text: str, indent: str = "") -> str:
    return "\n".join(wrap(text, first=indent))


def plural(n: float, word: str) -> str:
    """`n` of a thing.

    >>> plural(1, "prompt"), plural(2.5, "line")
    ('1 prompt', '2.5 lines')
    """
    return f"{n:,g} {word}{'' if n == 1 else 's'}"


def head(report: Record, name: str) -> str:
    """What was read, and what was not used."""
    t = report["totals"]
    used = f"{plural(report['comparisons'], 'comparison')} of {plural(t['responses'], 'response')} to {plural(t['prompts'], 'prompt')}"
    short = name if len(name) <= 32 else "…" + name[-31:]  # the end of a path says most
    said = [f"{short}: {plural(report['lines'], 'line')}, {used}."]
    bad, same = report["malformed"], report["same"]
    if bad:
        said.append(f"{plural(len(bad), 'malformed line')} not used: {listed([f['line'] for f in bad])}.")
    if same:
        said.append(f"{plural(len(same), 'line')} with two equal responses, which say{'s' * (len(same) == 1)} nothing: {listed(same)}.")
    if report["blank"]:
        said.append(f"{plural(report['blank'], 'blank line')}.")
    return "\n".join(said)


def listed(numbers: list[int], most: int = 12) -> str:
    """Line numbers, shortened."""
    return ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most:,} more" if len(numbers) > most else "")


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
        ("circular triads: a beats b beats c beats a", f"{cost['cyclic_triads']:,}"),
    ]
    return table("WHAT THE DATA DETERMINE", ["", ""], rows, left=(0, 1))


def prompt(report: Record, row: Record) -> str:
    """One prompt: its responses with rewards, intervals and policies, and what stands in the way."""
    title = f"PROMPT {clip(' '.join(row['prompt'].split()), 60)!r}: {plural(row['comparisons'], 'comparison')}"
    settled = row["kl"] is not None
    header = ["reward", "s.e.", f"{100 * report['level']:g} % interval", "won", "lost", *(["p_ref"] if given(report) else [])]
    header += [f"pi({b:g})" for b in report["betas"]] if settled else ["set"]
    cells = ordered(row)
    body = [line(report, row, cell, settled) for cell in cells[:LONGEST]]
    if len(cells) > LONGEST:
        body.append([*[""] * (len(body[0]) - 1), f"and {len(cells) - LONGEST:,} more"])
    if settled:
        body.append([*[""] * (5 + given(report)), *(number(k, ".4f") for k in row["kl"]), "(KL from p_ref, nats)"])
    return "\n".join(
        [table(title, [*header, "response"], body, left=(len(header),), tallest=1), *(wrapped(s, "  ") for s in notes(row, settled))]
    )


def given(report: Record) -> bool:
    """Whether p_ref is worth a column."""
    return bool(report["reference"] == "given")


def ordered(row: Record) -> list[Record]:
    """Winners' sets first, best reward first."""
    return sorted(row["responses"], key=lambda c: (c["component"] if row["kl"] is None else 0, -(c["reward"] or 0.0)))


def line(report: Record, row: Record, cell: Record, settled: bool) -> list[str]:
    ends = cell["interval"]
    interval = "-" if ends is None else f"{number(ends[0], '.3f')} to {number(ends[1], '.3f')}"
    start = [number(cell["reward"], ".3f"), number(cell["standard_error"], ".3f"), interval, f"{cell['wins']:g}", f"{cell['losses']:g}"]
    middle = [number(p, ".4f") for p in cell["policy"]] if settled else [letter(sets(row).index(cell["component"]))]
    p_ref = [number(cell["p_ref"], ".3g")] if given(report) else []
    return [*start, *p_ref, *middle, " ".join(cell["response"].split())]


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
    said = [
        f"reward: Bradley-Terry, in nats, mean zero over a set{prior}, and its standard error; exp of a difference is the odds of being"
        " preferred.",
        f"pi(beta) = p_ref exp(reward/beta) / Z over the responses compared, p_ref {report['reference']}: the Gibbs policy."
        + ("" if report["prior"] else "  DPO at that beta, on these comparisons, ends there too, where there is a single finite maximum."),
        "Not determined by any comparison: a constant added to all rewards of a prompt (no policy sees it), and the probability of"
        " responses that were never compared.",
    ]
    if report["totals"]["finite_maximum"] < report["totals"]["prompts"] and not report["prior"]:
        said.append(
            "For rewards where there is no single finite maximum, state how far they may spread: --prior 1 is a variance of 1 nat^2."
        )
    return "\n".join(wrapped(s) for s in said)
