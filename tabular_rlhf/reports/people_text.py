"""What a file says of the people who compared, and of what they like, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tabular_rlhf.layout import table, wrap
from tabular_rlhf.told import number

Record = dict[str, Any]
OFTEN = 0.05
"""A share of repeated comparisons, by nobody who is named, up to which they are told: more are no accident."""
SURE = 0.05
"""A p below this, over all features at once, is said to be an effect."""


def plural(n: float, word: str) -> str:
    """`n` of a thing.

    >>> plural(1, "prompt"), plural(2.5, "line")
    ('1 prompt', '2.5 lines')
    """
    return f"{n:,.6g} {word}{'' if n == 1 else 's'}" if n % 1 else f"{n:,.0f} {word}{'' if n == 1 else 's'}"


def listed(numbers: list[int], most: int = 12) -> str:
    """Line numbers, shortened."""
    return ", ".join(map(str, numbers[:most])) + (f" and {len(numbers) - most:,} more" if len(numbers) > most else "")


def percent(share: float, ends: list[float]) -> str:
    """A share with its interval.

    >>> percent(0.651, [0.634, 0.668])
    '65.1 % (63.4 to 66.8)'
    """
    return f"{100 * share:.1f} % ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"


def society(report: Record) -> Iterator[str]:
    """Ties, position, annotators, repeats: a line each, where there is something to say."""
    lines = [*_ties(report), *_position(report), *_repeats(report)]
    if lines:
        yield "\n".join(["THE COMPARISONS", *("\n".join(wrap(line, first="  ")) for line in lines)])
    if report["annotators"]:
        yield _annotators(report["annotators"])


def _ties(report: Record) -> Iterator[str]:
    found = report["ties"]
    if found:
        told = [
            f"{m['model']}: {m['symbol']} = {number(m['value'], '.4g')} (s.e. {number(m['standard_error'], '.2g')}), "
            f"log-likelihood {number(m['log_likelihood'], '.2f')}"
            if "refused" not in m
            else f"{m['model']}: {m['refused']}"
            for m in found["models"]
        ]
        better = f"  {found['better']} fits better." if found["better"] else ""
        yield f"ties: {plural(found['ties'], 'comparison')}, {100 * found['share']:.1f} %.  {';  '.join(told)}.{better}"


def _position(report: Record) -> Iterator[str]:
    found = report["position"]
    if found:
        extra = found["advantage"]
        nats = extra and f"{number(extra['nats'], '.3f')} nats (s.e. {number(extra['standard_error'], '.3f')})"
        more = f"  Rewards allowed for, it is worth {nats}." if nats else ""
        won = f"{percent(found['share'], found['interval'])} of {found['comparisons']:,} decisions"
        yield f"position: the one shown first won {won}, p = {number(found['p_value'], '.2g')}.{more}"


def _repeats(report: Record) -> Iterator[str]:
    found = report["repeats"]
    if found["again"] and (report["annotators"] or found["again"] <= OFTEN * report["comparisons"]):
        who = "by the same annotator" if report["annotators"] else "word for word"
        yield f"said again {who}: {plural(found['again'], 'comparison')}, {report['unit']}s {listed(found['again_lines'])}."
    if found["opposed"]:
        own = f", {found['turned']:,} of them by one and the same annotator" if found["turned"] else ""
        yield f"contradictions: of {plural(found['opposed'], 'pair')} of {report['totals']['pairs']:,} either side was preferred{own}."


def _annotators(found: Record) -> str:
    rows = [
        [str(row["judged"]), f"{row['agreed']:,} of {row['shared']:,}", number(row["p_value"], ".2g")]
        + [("TURNS ANSWERS AROUND  " if row["turned"] else "") + row["name"]]
        for row in found["rows"][:8]
    ]
    more = found["annotators"] - len(rows)
    rows += [["", "", "", f"and {more:,} more, who agree better"]] if more > 0 else []
    known = f"Krippendorff's alpha = {number(found['alpha'], '.3f')} (1: all agree, 0: chance)"
    alpha = "no pair was judged twice" if found["alpha"] is None else known
    return table(f"ANNOTATORS: {alpha}", ["judged", "with the majority of others", "p if by chance", "annotator"], rows, left=(3,))


# ---------------------------------------------------------------------------------------------------- what it is about


def about(report: Record) -> Iterator[str]:
    """The pooled model: a table, and a sentence."""
    found = report["about"]
    if found is None:
        return
    rows = [
        [number(row["coefficient"], ".3f"), number(row["standard_error"], ".3f"), " to ".join(number(x, ".3f") for x in row["interval"])]
        + [number(row["p_value"], ".2g"), "-" if row["share"] is None else percent(row["share"], row["share_interval"])]
        + [f"{row['pairs']:,}", f"{row['feature']}{': ' + row['counts'] if row['counts'] else ''}"]
        for row in found["features"]
    ]
    part = f", fitted to every {-(-found['of'] // found['comparisons'])}th" if found["comparisons"] < found["of"] else ""
    gain = f"{number(found['nats'], '.4g')} nats better than a coin"
    title = f"WHAT THE PREFERENCE IS ABOUT: one model of all {found['of']:,} comparisons{part}, {gain}"
    header = ["nats", "s.e.", f"{100 * report['level']:g} % interval", "p", "more of it won", "pairs", "feature"]
    lines = [table(title, header, rows, left=(6,), tallest=1)] if rows else [title]
    lines += wrap(sentence(found), first="  ")
    if found["left_out"]:
        lines += wrap(f"Left out: {'; '.join(f'{name} ({why})' for name, why in found['left_out'].items())}.", first="  ")
    who = found["by_annotator"]
    if who and len(who["rows"]) > 1:
        told = ", ".join(f"{row['name']} {percent(row['share'], row['interval'])} of {row['pairs']}" for row in who["rows"][:6])
        alike = f"all alike: p = {number(who['p_value'], '.2g')}"
        lines += wrap(f"More {who['feature']}, by annotator: {told}; {alike}.", first="  ")
    yield "\n".join(lines)


def sentence(found: Record) -> str:
    """What the surest features say, all of them considered at once."""
    rows = found["features"]
    sure = [row for row in rows if row["p_value"] is not None and row["p_value"] * len(rows) < SURE]
    if not sure:
        return "None of these features has an effect that is more than chance."
    errors = "errors allow for dependence within a prompt" if found["grouped"] else "errors take comparisons to be independent"
    told = [
        f"{'more' if row['coefficient'] > 0 else 'less'} {row['feature']}" if row["feature"] != "shown first" else _order(row)
        for row in sure
    ]
    return (
        f"The preference follows {', '.join(told)} (p below {SURE:g} with all {len(rows)} features considered).  nats: log-odds that a"
        f" doubling of 1 + count is worth, the other features held; {errors}."
    )


def _order(row: Record) -> str:
    return "being shown first" if row["coefficient"] > 0 else "being shown second"
