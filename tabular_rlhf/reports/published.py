"""Published comparisons as if they had been read from a file."""

from __future__ import annotations

from tabular_rlhf.preferencefile import Preferences
from tabular_rlhf.preferencefile.record import Collector, gathered
from tabular_rlhf.preferences.published import load


def of_published(name: str) -> Preferences:
    """The comparisons of a published data set.

    >>> of_published("baseball").notes
    ('seven baseball teams in 1987; Agresti (2002), p. 438; fit: Firth (2005)',)
    """
    data, out = load(name), Collector()
    for number, (winner, loser, times) in enumerate(data.rows, 1):
        if times and winner != loser:
            out.add(number, "", winner, loser, times)
    note = f"{data.title}; {data.source.rstrip('.')}"
    told = {"blank": 0, "lines": len(data.rows), "container": "published data", "shape": "winner-loser", "ignored": dict[str, int]()}
    return gathered(out, [], "row", (note,), **told)
