r"""`explore.compare`: be the annotators; say how often each answer beats each other one, and watch the rewards that Bradley-Terry fits.

    P(i beats j) = sigma(r_i - r_j);    at the fit every answer wins as often as it is expected to (`bt-score-hessian`).

Where an answer never lost (or never won) there is no likeliest reward, and it is said who blocks it.  What the fit misses is measured: a
cycle leaves all rewards alike, and much to be explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.explore import bars
from tabular_rlhf.explore.panel import Control, Data, View, on_screen, panel
from tabular_rlhf.explore.svg import Picture, clipped
from tabular_rlhf.figures.glyphs import GREEN, ORANGE
from tabular_rlhf.preferences.comparisons import Wins, structure
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.told import number

MOST = 5
"""Answers in a panel, at most: ten sliders."""


def data(names: Sequence[str], first_wins: Sequence[float], each: int) -> Data:
    """Rewards of answers from comparisons, `each` a pair.

    Args: first_wins, of each pair (in the order of `combinations`) how often its first answer won.
    Returns: response; rate, the share of its comparisons that each won; reward (None where there is no likeliest one) and
    standard_error, in nats; pairs, of each its names, its wins, and the fitted probability; missed, in nats, what the fit does not explain;
    degrees, pairs less differences; reasons, why there is no fit.

    >>> shown = data(("tea", "coffee"), (3,), 4)
    >>> [round(r, 4) for r in shown["reward"]], shown["rate"]
    ([0.5493, -0.5493], [0.75, 0.25])
    """
    counts = np.zeros((len(names), len(names)))
    for (i, j), won in zip(combinations(range(len(names)), 2), first_wins, strict=True):
        counts[i, j], counts[j, i] = won, each - won
    wins = Wins(counts, tuple(names))
    reasons = structure(wins).reasons()
    fitted = None if reasons else fit(wins)
    pairs = []
    for (i, j), won in zip(combinations(range(len(names)), 2), first_wins, strict=True):
        says = None if fitted is None else float(1.0 / (1.0 + np.exp(fitted.r[j] - fitted.r[i])))
        pairs.append({"names": [names[i], names[j]], "won": float(won), "fitted": says})
    return {
        "response": list(names),
        "each": each,
        "rate": bars.plain_row(wins.rate),
        "reward": None if fitted is None else bars.plain_row(fitted.r),
        "standard_error": None if fitted is None else bars.plain_row(fitted.standard_errors),
        "pairs": pairs,
        "missed": None if fitted is None else fitted.deviance / 2,
        "degrees": len(pairs) - (len(names) - 1),
        "reasons": reasons,
    }


def draw(shown: Data) -> Picture:
    """Two columns: how often each answer won, and its reward."""
    names = list(shown["response"])
    reward = [None] * len(names) if shown["reward"] is None else shown["reward"]
    said = [number(v, "+.3f") if v is not None else "none" for v in reward]
    wide = max([2.0, *(abs(v) for v in reward if v is not None)])
    columns = (
        bars.Column("won", "won", shown["rate"], [*map(bars.percent, shown["rate"])], (ORANGE, False), (0.0, 1.0), 0.5),
        bars.Column("reward", "reward, nats", reward, said, (GREEN, False), (-wide, wide), 0.5, scaled=False),
    )
    return bars.picture("Rewards from comparisons", names, "rewards add up to 0", columns)


def words(shown: Data) -> list[str]:
    """What the fit says of every pair, and what it cannot explain."""
    if shown["reasons"]:
        return [f"There is no likeliest reward: {'; '.join(shown['reasons'])}. Every step further would make what was seen likelier."]
    rows = [
        f"{a} beats {b}: {number(p['won'] / shown['each'], '.3f')} of {shown['each']} said, {number(p['fitted'], '.3f')} fitted"
        for p in shown["pairs"]
        for a, b in [p["names"]]
    ]
    errors = ", ".join(f"{n} ± {number(e, '.3f')}" for n, e in zip(shown["response"], shown["standard_error"], strict=True))
    told = [f"{'; '.join(rows)}.", f"Standard errors, nats: {errors}."]
    if shown["degrees"]:
        freedom = "one degree" if shown["degrees"] == 1 else f"{shown['degrees']} degrees"
        told.append(
            f"What no rewards explain: {number(shown['missed'], '.3f')} nats in all. If Bradley and Terry are right, twice that is "
            f"chi-squared with {freedom} of freedom, on average {shown['degrees']}."
        )
    return told


def view(names: Sequence[str], first_wins: Sequence[int], each: int) -> View:
    """A slider a pair."""
    pairs = list(combinations(names, 2))
    controls = tuple(
        Control(f"w{k}", f"{clipped(a, 80)} beats {clipped(b, 80)}", f"how often, of {each}", int(won), "count", low=0, high=each)
        for k, ((a, b), won) in enumerate(zip(pairs, first_wins, strict=True))
    )
    return View(controls, lambda **won: data(names, tuple(won.values()), each), on_screen(draw), words)


def compare(names: Sequence[str] = ("heron", "owl", "bat"), first_wins: Sequence[int] | None = None, *, each: int = 20) -> Any:
    """A panel: comparisons in, rewards out.

    Args: names, of two to five answers; first_wins, of each pair (in the order of `itertools.combinations`) how often its first answer won
    (default: two times in three); each, comparisons a pair.
    Raises: InputError for other numbers of answers or wins, or where ipywidgets is not installed.
    """
    pairs = len(names) * (len(names) - 1) // 2
    if not 2 <= len(set(names)) == len(names) <= MOST:
        raise InputError(f"answers must be two to {MOST}, all different", got=list(names), remedy="leave some out")
    won = [round(2 * each / 3)] * pairs if first_wins is None else list(first_wins)
    if len(won) != pairs or not all(0 <= w <= each for w in won):
        raise InputError(f"first_wins must be {pairs} numbers from 0 to {each}, one a pair", got=won, remedy="in the order of combinations")
    return panel(view(tuple(names), won, each))
