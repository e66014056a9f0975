"""The report of a solved world as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tabular_rlhf.layout import clip, table, width
from tabular_rlhf.reports.solution import Record
from tabular_rlhf.told import ROUNDED, Column, number, settled, tabled

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
BY_PROMPT = (("V", "reward"), ("kl", "nats"), ("reward_before", "reward"), ("reward_after", "reward"))


def render(report: Record) -> str:
    """The whole report."""
    parts = [head(report), optimum(report)]
    if len(report["prompts"]) > 1:
        parts.append(by_prompt(report))
    parts += [first_tokens(report), *(responses(report, law) for law in ("before", "after") if report["responses"][law])]
    parts += [frontier(report)]
    parts += [estimators(report), selection(report)] if "estimators" in report else []
    parts += [closing(report)]
    return "\n\n".join(parts)


# ---------------------------------------------------------------------------------------------------- cells


def scales(report: Record) -> dict[str, float]:
    """The numbers that differences are taken of, by unit."""
    w = report["world"]
    reward = max(*map(abs, w["reward_range"]), w["beta"])
    return {"reward": reward, "nats": reward / w["beta"]}


def checked(cell: Record, of: float = 0.0, *, error: bool = False) -> list[str]:
    """A checked number as cells: exact, sampled, perhaps its standard error, z.  of: the scale of a difference."""
    exact, sampled = (x if x is None else settled(x, of, ROUNDED) for x in (cell["exact"], cell["sampled"]))
    middle = [number(cell["standard_error"], ".2g")] if error else []
    return [number(exact), number(sampled, ".5g"), *middle, number(cell["z"], ".1f")]


# ---------------------------------------------------------------------------------------------------- sections


def head(report: Record) -> str:
    """The world in a few words."""
    w = report["world"]
    tokens = len(w["vocabulary"]) - (w["eos"] is not None)
    ending = f" and EOS {w['eos']!r}" if w["eos"] is not None else ""
    prompts = f", {len(w['prompts'])} prompts" if len(w["prompts"]) > 1 else ""
    low, high = (number(x) for x in w["reward_range"])
    never = impossible(w["forbidden_responses"])
    each = " for each prompt" if len(w["prompts"]) > 1 else ""
    return "\n".join(
        [
            clip(f"World {w['name']}: {tokens} tokens{ending}, horizon {w['horizon']}{prompts}.", width()),
            f"{responses_of(w)}{each}{never}, {w['states']:,} states; rewards from {low} to {high}.",
            f"beta = {number(w['beta'])} reward units per nat.  Checks: {report['samples']:,} draws, seed {report['seed']}.",
            *report.get("notes", []),
        ]
    )


def responses_of(world: Record) -> str:
    """How many responses there are: a number where they are listed, a power of ten where they are not."""
    count = world["responses"]
    return f"{count:,} responses" if isinstance(count, int) else f"{count} responses (not listed: states are merged)"


def impossible(counts: Sequence[int]) -> str:
    """How many of a prompt's responses cannot be drawn.

    >>> impossible([2]), impossible([0, 3]), impossible([0, 0])
    (' (2 impossible under p_ref)', ' (0 to 3 of them impossible under p_ref)', '')
    """
    low, high = min(counts, default=0), max(counts, default=0)
    if high == 0:
        return ""
    return f" ({f'{low:,}' if low == high else f'{low:,} to {high:,} of them'} impossible under p_ref)"


def optimum(report: Record) -> str:
    """The averages over prompts."""
    several = len(report["prompts"]) > 1
    title = "THE OPTIMUM: p* = p_ref exp(r/beta) / Z" + (", averaged over the prompts" if several else "")
    of = scales(report)
    rows = [[label, unit, *checked(report["totals"][key], of[unit], error=True)] for key, label, unit in TOTALS]
    return table(title, ["", "unit", "exact", "sampled", "s.e.", "z"], rows, left=(0, 1))


def by_prompt(report: Record) -> str:
    """One line a prompt (the sampled values themselves are in the JSON)."""
    of = scales(report)
    rows = [
        [number(row["mu"]), checked(row["log_Z"], of["nats"])[0]]
        + [cell for key, unit in BY_PROMPT for cell in checked(row[key], of[unit])[::2]]
        + [row["prompt"]]
        for row in report["prompts"]
    ]
    header = ["mu", "log Z", "V", "z", "KL", "z", "E_ref[r]", "z", "E_p*[r]", "z", "prompt"]
    return table("PROMPTS", header, rows, left=(10,), tallest=1)


def first_tokens(report: Record) -> str:
    """What the first token is worth, and how likely it is."""
    of = scales(report)
    rows = [
        [*checked(row["value"], of["reward"]), *checked(row["p_ref"]), *checked(row["p_star"]), words(row["prompt"], row["token"])]
        for row in report["first_tokens"]
    ]
    header = ["V(s)", "sampled", "z", "pi_ref", "sampled", "z", "pi*", "sampled", "z", "s"]
    title = "FIRST TOKENS: the soft value V(s) of what they lead to, their probability before and after"
    return table(title, header, rows, left=(9,), tallest=1)


def responses(report: Record, law: str) -> str:
    """The likeliest responses before or after, with their probability under both laws."""
    now, other = ("p_ref", "p_star") if law == "before" else ("p_star", "p_ref")
    names = {"p_ref": "p_ref", "p_star": "p*"}
    rows = [
        [*checked(row[now]), number(row[other]["exact"]), number(row["reward"]), words(row["prompt"], row["response"])]
        for row in report["responses"][law]
    ]
    header = [names[now], "sampled", "z", names[other], "r", "response"]
    return table(f"MOST LIKELY {law.upper()} ({names[now]})", header, rows, left=(5,), tallest=1)


def words(prompt: str, text: str) -> str:
    return f"[{prompt}] {text}" if prompt else text


def frontier(report: Record) -> str:
    """Reward against KL."""
    own, of = report["world"]["beta"], scales(report)
    rows = []
    for row in report["frontier"]:
        note = {0.0: "greedy limit", math.inf: "p_ref", own: "this world"}.get(row["beta"], "")
        rows.append([number(row["beta"]), *checked(row["reward"], of["reward"]), *checked(row["kl"], of["nats"]), number(row["V"]), note])
    header = ["beta", "E[r]", "sampled", "z", "KL", "sampled", "z", "V", ""]
    return table("THE FRONTIER: the most reward for each KL; its slope dE[r]/dKL is beta", header, rows, left=(8,), labels=(0,))


def estimators(report: Record) -> str:
    """What one draw of an estimator is worth, exactly, beside what the draws themselves say of it."""
    error = max(0.01 * float(report["totals"]["kl"]["exact"]), 1e-300)
    mean = ("mean", lambda row: row["mean"]["exact"], ".6g"), ("sampled", lambda row: row["mean"]["sampled"], ".5g")
    draws = ("draws for 1 %", lambda row: min(1e300, (row["deviation"] / error) ** 2), ".2g")
    columns: list[Column] = ["=name", *mean, "s.d. of one draw=deviation:.4g", "s.d. of the draws=drawn_deviation:.4g", draws]
    return tabled("ESTIMATORS OF KL(p*, p_ref): exact means and deviations on draws of p*", report["estimators"], columns)


def selection(report: Record) -> str:
    """Best-of-n, from the law of the reward."""
    if not report["selection"]:
        return "BEST OF n: no law of the reward, which is too large, or of rewards that are no whole numbers of steps."
    return tabled("BEST OF n draws of p_ref, exactly", report["selection"], ["n:.0f", "E[r]=reward:.6g", "KL=kl:.6g"])


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
