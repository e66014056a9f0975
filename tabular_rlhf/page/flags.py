"""The KL-flag chooser: an estimator, where it is placed, and beta; where gradient ascent of E[r] - beta times it ends.

The destination is the closed-form optimum where the flag rests there, else the end of the exact flow from p_ref (`estimators.ends`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.estimators import ESTIMATORS, PLACEMENTS, End, Flag, FlagReport, analyse, end, flow, measure
from tabular_rlhf.figures.kl import three
from tabular_rlhf.gibbs import solve
from tabular_rlhf.page.numbers import fixed, greek, says, short
from tabular_rlhf.tex import html
from tabular_rlhf.world import World

BETAS = (0.15, 0.4, 1.0)
"""None is half a difference of rewards: there the optimum of |L| in the loss is not unique."""
START = (2, 0, 1)
"""k3, in the loss, beta = 0.4."""
HORIZON, POINTS = 1e3, 41


def compute(betas: Sequence[float] = BETAS, estimators: Sequence[str] = tuple(ESTIMATORS)) -> dict[str, Any]:
    """Every estimator in every placement at every beta, on three responses of which the likeliest is the worst."""
    worlds = [three(b) for b in betas]
    first = worlds[0]
    return {
        "beta": [short(b) for b in betas],
        "estimator": list(estimators),
        "placement": list(PLACEMENTS),
        "start": list(START),
        "math": [html(ESTIMATORS[e].latex) for e in estimators],
        "responses": [first.mdp.text(i) for i in range(first.mdp.N)],
        "r": says(first.r[0], 1),
        "p_ref": says(np.exp(first.log_p_ref[0])),
        "best": [best(w) for w in worlds],
        "cells": [[[destination(e, place, w) for w in worlds] for place in PLACEMENTS] for e in estimators],
    }


def best(w: World) -> dict[str, Any]:
    """The Gibbs optimum: p*, E[r] and KL."""
    g = solve(w)
    return {"p": says(g.p[0]), "reward": fixed(float(g.expected_reward[0])), "kl": fixed(float(g.kl[0]))}


def destination(estimator: str, placement: str, w: World) -> dict[str, Any]:
    """One flag: what it estimates at p*, what it descends, and where that leads.

    >>> found = destination("k3", "loss", three(0.4)); found["descends"], found["p"], found["regret"]
    ('KL(ref, π)', ['0.1764', '0.2249', '0.5987'], '0.0112')
    """
    flag = Flag(estimator, placement, "token" if ESTIMATORS[estimator].per_state else "sequence")
    report = analyse(flag, w, solve(w).log_pi)
    there = end(flag, w, report.optimum)
    if there.log_p is None:
        raise SolveError(f"the flow of {flag.label} must be followed to be drawn: {there.remark}")
    p = np.exp(there.log_p[0])
    path = [*np.exp(flow(flag, w, horizon=HORIZON, points=POINTS).log_p[:, 0]), p]
    reward, distance, regret = measure(w, there.log_p)
    return {
        "descends": greek(f"{report.descends}: {report.nearest}" if report.nearest else report.descends),
        "optimum": greek(there.words if report.optimum is not None else f"none in closed form: {there.remark or there.words}"),
        "mean": fixed(report.exact.mean),
        "bias": fixed(report.bias),
        "std": fixed(report.exact.std),
        "p": says(p),
        "reward": fixed(reward),
        "kl": fixed(distance),
        "regret": fixed(regret),
        **verdict(report, there, regret),
        "path": [says(p, 3) for p in path],
    }


def verdict(report: FlagReport, there: End, regret: float) -> dict[str, str]:
    """A mark and one sentence for the reader."""
    name = "" if report.optimum is None else report.optimum.name
    wrong = f"{fixed(regret)} reward units below p*"
    if not there.rests:
        return {"mark": "≠", "verdict": f"Still moves, so far as it is followed; {wrong} there."}
    if regret < 5e-5:
        return {"mark": "✓", "verdict": "Arrives at p*: this flag is the KL penalty that it is meant to be."}
    if name.startswith("Gibbs at"):
        return {"mark": "≠", "verdict": f"Arrives at the optimum of another weight, {greek(name.removeprefix('Gibbs at '))}; {wrong}."}
    if report.descends == "nothing":
        return {"mark": "✗", "verdict": f"No pull at all: its expected gradient is zero, so the reward alone decides; {wrong}."}
    if there.log_p is not None and np.max(there.log_p) > -0.01:
        return {"mark": "✗", "verdict": f"Runs away: what should hold the policy back lets everything go to one response; {wrong}."}
    return {"mark": "≠", "verdict": f"Arrives elsewhere: it is another penalty, with an optimum of its own; {wrong}."}
