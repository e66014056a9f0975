"""The loss zoo: every direct alignment loss on one comparison, at every margin and every preference probability.

Two responses with the same reference probability; the first is preferred with probability c.  A policy is then one number,
its margin D = log(p_1/p_2) - log(p_ref,1/p_ref,2), and a loss is a curve.  Its slope is the derivative along the curve, with
whatever the paper freezes held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.figures.zoo import at_margin, one_pair
from tabular_rlhf.losses import LOSSES, TRAITS
from tabular_rlhf.losses.evaluate import gradient, value
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.page.numbers import fixed, says, short
from tabular_rlhf.tex import html
from tabular_rlhf.world import coin

MARGINS = tuple(float(D) for D in np.linspace(-4.0, 4.0, 33))
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
START = (0, 24, 5)
"""DPO, D = 2, certain labels."""


def compute(names: Sequence[str] = tuple(LOSSES), margins: Sequence[float] = MARGINS, shares: Sequence[float] = SHARES) -> dict[str, Any]:
    """Every loss at beta = 1."""
    return {
        "loss": list(names),
        "margin": [short(D) for D in margins],
        "share": [short(c) for c in shares],
        "start": list(START),
        "about": [about(name) for name in names],
        "cells": [[curve(name, c, margins) for c in shares] for name in names],
    }


def about(name: str) -> dict[str, Any]:
    """What the registry says of a loss: its equation, its source, and traits in words."""
    loss = LOSSES[name]
    return {"math": html(loss.latex), "source": loss.source, "traits": [f"{t}: {TRAITS[t]}" for t in TRAITS if t in loss.traits]}


def curve(name: str, share: float, margins: Sequence[float]) -> dict[str, Any]:
    """Values and slopes over margins, and the margin that is best.

    >>> found = curve("ipo", 0.9, (0.0, 0.5)); found["value"], found["slope"], found["best"]
    (['0.2500', '0.1000'], ['-0.8000', '0.2000'], '0.4000')
    """
    w, pair = coin(1.0), one_pair(share)
    value_, slope = [], []
    for D in margins:
        log_p = at_margin(w, D)
        away = np.exp(log_p[0, ::-1]) * np.array([-1.0, 1.0])  # d log p / dD
        value_.append(float(value(name, w, log_p, pair)))
        slope.append(float(np.sum(gradient(name, w, log_p, pair)[0] * away)))
    return {"value": says(value_), "slope": says(slope), **lowest(name, share)}


def lowest(name: str, share: float) -> dict[str, str]:
    """The optimal margin as printed ("inf" where the loss only falls on and on, "" where it is not one number), and in words.

    >>> lowest("dpo", 1.0), lowest("dpo", 0.5)["best"]
    ({'best': 'inf', 'words': 'never reached: the loss falls for ever as the margin grows'}, '0.0000')
    """
    try:
        found = minimize(name, coin(1.0), one_pair(share))
    except SolveError:
        return {"best": "", "words": "not one point: its smallest value is shared or at both ends"}
    with np.errstate(invalid="ignore"):
        D = float(found.log_p[0, 1] - found.log_p[0, 0])
    if found.attained and found.dimension:
        return {"best": "", "words": "a whole stretch of margins shares the smallest value"}
    if not found.attained:
        return {"best": fixed(D), "words": f"never reached: the loss falls for ever as the margin {'grows' if D > 0 else 'falls'}"}
    return {"best": fixed(D), "words": "reached"}
