"""The report of a solved world as text for a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tabular_rlhf.reports.solution import Record

WIDTH = 100
FAR = 5.0
"""Exact standard errors between a sample and the truth that are no longer chance."""
TOTALS = (
    ("log_Z", "log Z", "nats"),
    ("V", "V = beta log Z", "reward"),
    ("reward_before", "E[r] before, under p_ref", "reward"),
    ("reward_after", "E[r] after, under p*", "reward"),
    ("kl", "KL(p*, p_ref)", "nats"),
    ("J_before", "J(p_ref) = E[r] before", "reward"),
    ("J_after", "J(p*) = E[r] after - beta KL = V", "reward"),
    ("regret_before", "V - J(p_ref), what tilting gains", "reward"),
)


def render(report: Record) -> str:
    """The whole report."""
    parts = [head(report), optimum(report)]
    if len(report["prompts"]) > 1:
        parts.append(by_prompt(report))
    parts += [first_tokens(report), responses(report, "before"), responses(report, "after"), frontier(report), closing(report)]
    return "\n\n".join(parts)


# ---------------------------------------------------------------------------------------------------- cells


def number(value: float | None, spec: str = ".6g") -> str:
    """A plain float; a dash where there is none.

    >>> number(-0.0), number(None), number(1 / 3)
    ('0', '-', '0.333333')
    """
    if value is None:
        return "-"
    shown = format(float(value), spec)
    return shown.lstrip("-") if float(shown) == 0 else shown


def checked(cell: Record, *, error: bool = False) -> list[str]:
    """A checked number as cells: exact, sampled, perhaps its standard error, z."""
    middle = [number(cell["standard_error"], ".2g")] if error else []
    return [number(cell["exact"]), number(cell["sampled"], ".5g"), *middle, number(cell["z"], ".1f")]


def clip(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = ()) -> str:
    """A title and aligned columns, two spaces apart: numbers to the right, the columns `left` to the left, the last one clipped."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    widths[-1] = min(widths[-1], WIDTH - 2 * len(widths) - sum(widths[:-1]))
    body = []
    for line in lines:
        cells = [clip(c, n).ljust(n) if i in left else clip(c, n).rjust(n) for i, (c, n) in enumerate(zip(line, widths, strict=True))]
        body.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join([title, *body])


# ---------------------------------------------------------------------------------------------------- sections


def head(report: Record) -> str:
    """The world in a few words."""
    w = report["world"]
    tokens = len(w["vocabulary"]) - (w["eos"] is not None)
    ending = f" and EOS {w['eos']!r}" if w["eos"] is not None else ""
    prompts = f", {len(w['prompts'])} prompts" if len(w["prompts"]) > 1 else ""
    low, high = (number(x) for x in w["reward_range"])
    never = f" ({w['forbidden_responses']:,} impossible under p_ref)" if w["forbidden_responses"] else ""
    each = " for each prompt" if len(w["prompts"]) > 1 else ""
    return "\n".join(
        [
            clip(f"World {w['name']}: {tokens} tokens{ending}, horizon {w['horizon']}{prompts}.", WIDTH),
            f"{w['responses']:,} responses{each}{never}, {w['states']:,} states; rewards from {low} to {high}.",
            f"beta = {number(w['beta'])} reward units per nat.  Checks: {report['samples']:,} draws, seed {report['seed']}.",
        ]
    )


def optimum(report: Record) -> str:
    """The averages over prompts."""
    several = len(report["prompts"]) > 1
    title = "THE OPTIMUM: p* = p_ref exp(r/beta) / Z" + (", averaged over the prompts" if several else "")
    rows = [[label, unit, *checked(report["totals"][key], error=True)] for key, label, unit in TOTALS]
    return table(title, ["", "unit", "exact", "sampled", "std. error", "z"], rows, left=(0, 1))


def by_prompt(report: Record) -> str:
    """One line a prompt (the sampled values themselves are in the JSON)."""
    rows = [
        [number(row["mu"]), number(row["log_Z"]["exact"])]
        + [cell for key in ("V", "kl", "reward_before", "reward_after") for cell in checked(row[key])[::2]]
        + [row["prompt"]]
        for row in report["prompts"]
    ]
    header = ["mu", "log Z", "V", "z", "KL", "z", "E_ref[r]", "z", "E_p*[r]", "z", "prompt"]
    return table("PROMPTS", header, rows, left=(10,))


def first_tokens(report: Record) -> str:
    """What the first token is worth, and how likely it is."""
    rows = [
        [*checked(row["value"]), *checked(row["p_ref"]), *checked(row["p_star"]), words(row["prompt"], row["token"])]
        for row in report["first_tokens"]
    ]
    header = ["V(s)", "sampled", "z", "pi_ref", "sampled", "z", "pi*", "sampled", "z", "s"]
    return table("FIRST TOKENS: the soft value V(s) of what they lead to, their probability before and after", header, rows, left=(9,))


def responses(report: Record, law: str) -> str:
    """The likeliest responses before or after, with their probability under both laws."""
    now, other = ("p_ref", "p_star") if law == "before" else ("p_star", "p_ref")
    names = {"p_ref": "p_ref", "p_star": "p*"}
    rows = [
        [*checked(row[now]), number(row[other]["exact"]), number(row["reward"]), words(row["prompt"], row["response"])]
        for row in report["responses"][law]
    ]
    header = [names[now], "sampled", "z", names[other], "r", "response"]
    return table(f"MOST LIKELY {law.upper()} ({names[now]})", header, rows, left=(5,))


def words(prompt: str, text: str) -> str:
    return f"[{prompt}] {text}" if prompt else text


def frontier(report: Record) -> str:
    """Reward against KL."""
    own = report["world"]["beta"]
    rows = []
    for row in report["frontier"]:
        note = {0.0: "greedy limit", None: "p_ref", own: "this world"}.get(row["beta"], "")
        beta = "inf" if row["beta"] is None else number(row["beta"])
        rows.append([beta, *checked(row["reward"]), *checked(row["kl"]), number(row["V"]), note])
    header = ["beta", "E[r]", "sampled", "z", "KL", "sampled", "z", "V", ""]
    return table("THE FRONTIER: the most reward for each KL; its slope dE[r]/dKL is beta", header, rows, left=(8,))


def closing(report: Record) -> str:
    """The verdict of the sampled checks."""
    count, worst = report["checks"]["count"], report["checks"]["largest_z"]
    if worst is None:
        return "Nothing was checked by sampling."
    close = f"at most {FAR:.0f} standard errors from exact"
    doubt = close if passed(report) else f"more than {FAR:.0f}: draw more (--samples), or suspect a fault"
    return f"{count} sampled checks, the largest |z| is {number(worst, '.1f')}: {doubt}."


def passed(report: Record) -> bool:
    """Whether no sampled number lies further from the exact one than chance explains (nothing sampled: nothing failed)."""
    worst = report["checks"]["largest_z"]
    return worst is None or bool(worst <= FAR)


def plain(value: Any) -> Any:
    """The report for JSON, which has no infinities: they become null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
