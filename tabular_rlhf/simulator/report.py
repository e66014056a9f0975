r"""What a simulation says: stages, where the core led and was predicted to, what chance explains, and the learning curves.

All numbers are exact scores of policies that samples made; with several seeds they are means over seeds, and `sd` is the standard
deviation of the regret over seeds.  `exact` rows are population ascent with the same steps from the same start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tabular_rlhf import __version__
from tabular_rlhf.behavior import drawn_how
from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import solve
from tabular_rlhf.lattice import solve as solve_lattice
from tabular_rlhf.lattice.depths import ByDepth
from tabular_rlhf.lattice.flow import kl
from tabular_rlhf.layout import table
from tabular_rlhf.logspace import Array
from tabular_rlhf.simulator.chance import noise_of_steps
from tabular_rlhf.simulator.record import CORES, PathTask, Task, Told
from tabular_rlhf.simulator.scoring import (
    Destination,
    PathDestination,
    Score,
    destination,
    price_of_comparisons,
    score,
    score_on_paths,
    total_variation,
)
from tabular_rlhf.simulator.stages import AnyRun, exact_curve
from tabular_rlhf.told import number

SCHEMA = "tabular-rlhf/run/1"
FIELDS = ("reward", "proxy", "kl", "J", "regret")
Found = dict[str, Any]


def report(runs: Sequence[AnyRun]) -> Found:
    """Everything about finished runs of one set of options, as plain numbers."""
    task = runs[0].task
    ends = [destination(r.task) for r in runs]
    exact, why_not = exact_runs(runs)
    rows = [_row(name, [dict(r.stages)[name] for r in runs]) for name, _ in runs[0].stages]
    rows.append(_row(task.options.core, [r.last for r in runs], _distance(runs, ends)))
    if exact:
        comparable = [] if CORES[task.options.core].compares and not task.options.online else ends  # all pairs, not its own
        rows.append(_row("its exact ascent", [r.last for r in exact], _distance(exact, comparable)))
    told = [d for d in ends if d is not None]
    if told:
        rows.append(_row("predicted", [d.score for d in told]))
    rows.append(_row("p*", [best_score(r.task) for r in runs]))
    return {
        "schema": SCHEMA,
        "version": __version__,
        "world": task.world.name,
        "beta": task.world.beta,
        "options": asdict(task.options),
        "core": _about(task),
        "steps_done": min(r.learner.step for r in runs),
        "responses": task.world.responses,
        "rows": rows,
        "distance": "KL" if isinstance(task, PathTask) else "TV",
        "destination": told[0].words if told else None,
        "chance": _chance(runs, ends),
        "curves": [_curve(r) for r in runs],
        "exact": [_curve(r) for r in exact],
        "exact_missing": why_not,
        "frontier": _frontier(task),
    }


def _about(task: Told) -> Found:
    core = CORES[task.options.core]
    kl = (task.options.kl or core.kl) if "kl" in core.uses else None
    return {"name": core.name, "summary": core.summary, "source": core.source, "kl": kl, "kl_coef": task.kl_coef, "lr": task.lr}


def exact_runs(runs: Sequence[AnyRun]) -> tuple[list[AnyRun], str | None]:
    """Population ascent of every different task: one for all seeds where they share their rewards and their start; or why not."""
    shared = _alike(runs[0].task)
    shared |= runs[0].task.options.core == "dpo" and not runs[0].task.options.stages  # it does not look at its sample
    try:
        return [exact_curve(r) for r in (runs[:1] if shared else runs)], None
    except InputError as e:
        return [], str(e)


def _alike(task: Task | PathTask) -> bool:
    """Whether all seeds have one task: nobody showed or compared anything."""
    if isinstance(task, PathTask):
        return task.compared is None and not np.any(task.demonstrations)
    return task.data.pairs is None and not np.any(task.data.demonstrations)


def _row(name: str, scores: Sequence[Score], distance: float | None = None) -> Found:
    table_ = np.array([s.row for s in scores])
    return {
        "name": name,
        **dict(zip(FIELDS, np.mean(table_, axis=0).tolist(), strict=True)),
        "sd": _deviation(table_[:, -1]),
        "distance": distance,
    }


def _deviation(values: Array) -> float | None:
    """The standard deviation over seeds, None for one; exactly 0 where all are equal."""
    return None if len(values) < 2 else float(np.std(values, ddof=1)) if np.ptp(values) > 0 else 0.0


def _distance(runs: Sequence[AnyRun], ends: Sequence[Destination | PathDestination | None]) -> float | None:
    """Mean distance from the predicted law: total variation; on a lattice, where that has no sweep, KL(pi, predicted)."""
    far = [_far(run, end) for run, end in zip(runs, ends, strict=False) if end is not None]
    return float(np.mean(far)) if far else None


def _far(run: AnyRun, end: Destination | PathDestination) -> float:
    task = run.task
    if isinstance(task, PathTask):
        assert isinstance(end, PathDestination)
        return float(np.sum(task.world.mu * kl(ByDepth(task.world, run.learner.log_pi), end.policy)))
    assert isinstance(end, Destination)
    return total_variation(task.world, run.log_p, end.log_p)


def best_score(task: Task | PathTask) -> Score:
    """The score of p*."""
    if isinstance(task, PathTask):
        return score_on_paths(task, task.optimum)
    return score(task.world, solve(task.world).log_p, task.data.reward)


def _chance(runs: Sequence[AnyRun], ends: Sequence[Destination | PathDestination | None]) -> Found:
    """What chance alone does to the regret: of n comparisons, and of the last steps' batches; None where that asks for a list."""
    task, end = runs[0].task, ends[0]
    if isinstance(task, PathTask):
        return {"comparisons": None, "steps": None}
    price = price_of_comparisons(task.world, task.options.comparisons) if task.data.pairs is not None else None
    noise = noise_of_steps(task, end.log_p, runs[0].learner.step) if isinstance(end, Destination) else None
    return {
        "comparisons": None if price is None else {"mean": price.mean, "deviation": price.deviation},
        "steps": noise,
    }


def _curve(run: AnyRun) -> Found:
    steps, scores = zip(*run.curve, strict=True)
    columns = np.array([s.row for s in scores]).T.tolist()
    return {"step": list(steps), **dict(zip(FIELDS, columns, strict=True))}


def _frontier(task: Task | PathTask) -> Found:
    """Reward and KL of Gibbs laws around the world's beta, for the figure."""
    betas = [task.world.beta * k for k in np.geomspace(0.05, 50.0, 61)]
    if isinstance(task, PathTask):
        found = [score_on_paths(task, solve_lattice(task.world.at(beta))) for beta in betas[::4]]
        mean = np.array([(s.kl, s.reward) for s in found])
    else:
        listed = [solve(task.world.at(beta)) for beta in betas]
        mean = np.array([(np.sum(task.world.mu * s.kl), np.sum(task.world.mu * s.expected_reward)) for s in listed])
    return {"kl": mean[:, 0].tolist(), "reward": mean[:, 1].tolist()}


# ---------------------------------------------------------------------------------------------------- text


def render(found: Found) -> str:
    """The report as text for a terminal."""
    o, core = found["options"], found["core"]
    seeds = f"seed {o['seed']}" if o["seeds"] == 1 else f"{o['seeds']} runs of seed {o['seed']}"
    flag = f"KL flag: {core['kl']} at {number(core['kl_coef'])}.  " if core["kl"] else ""
    flag += _drawn(o)
    many = f", {found['responses']} responses (not listed: states are merged)" if found["distance"] == "KL" else ""
    parts = [
        f"World {found['world']}{many}, beta = {number(found['beta'])}.  {o['algorithm']}: {found['steps_done']:,} steps, {seeds}.\n"
        f"{core['name']}: {core['summary']}.\n{flag}Source: {core['source']}",
        table(
            "STAGES, EXACTLY: gold is the world's reward, proxy what the core was told to raise",
            ["", "E[gold]", "E[proxy]", "KL", "J", "regret", "sd", f"{found['distance']} to predicted"],
            [[r["name"], *(number(r[key], how) for key, how in COLUMNS.items())] for r in found["rows"]],
            left=(0,),
        ),
        _curves(found),
        closing(found),
    ]
    return "\n\n".join(parts)


def _drawn(o: Found) -> str:
    """Who draws, how often a batch is used, and what is done about it, where that is not the core's own."""
    how = drawn_how(o["temperature"], o["top_p"])
    said = [f"drawn at {how}"] if how else []
    said += [f"{o['updates']} updates a batch"] if o["updates"] else []
    said += [f"policy loss {o['policy_loss']}"] if o["policy_loss"] else []
    said += [f"weighed by {o['correction']}"] if o["correction"] != "uncorrected" else []
    return f"Batches: {', '.join(said)}.  " if said else ""


COLUMNS = {**dict.fromkeys(FIELDS[:-1], ".5f"), "regret": ".3g", "sd": ".2g", "distance": ".2g"}
"""How the columns of a stage are written."""


def _curves(found: Found) -> str:
    """Regret at steps 0, 1, 2, 4, ...: mean, least and most over seeds, and the exact ascent's."""
    steps, last = found["curves"][0]["step"], found["curves"][0]["step"][-1]
    shown = [t for t in steps if t == last or t & (t - 1) == 0]
    rows = []
    for t in shown:
        at = [c["regret"][c["step"].index(t)] for c in found["curves"]]
        exact = [c["regret"][c["step"].index(t)] for c in found["exact"]]
        rows.append([f"{t:,}", *(number(f(at), ".4g") for f in (np.mean, min, max)), number(np.mean(exact) if exact else None, ".4g")])
    return table("REGRET ALONG THE WAY", ["step", "mean", "least", "most", "exact ascent"], rows)


def closing(found: Found) -> str:
    """What was predicted, and what chance explains."""
    lines = [f"Predicted to lead to: {found['destination'] or 'no closed form is known'}."]
    price, noise = found["chance"]["comparisons"], found["chance"]["steps"]
    if price is not None:
        n, deviation = found["options"]["comparisons"], number(price["deviation"], ".2g")
        lines.append(f"{n:,} comparisons cost a regret of {number(price['mean'], '.3g')} on average (standard deviation {deviation}).")
    if noise is not None:
        lines.append(f"The noise of batches keeps the policy {number(noise, '.3g')} nats of KL from there on average.")
    if found["exact_missing"]:
        lines.append(f"No exact ascent: {found['exact_missing']}.")
    far = {"TV": "TV: total variation, 0 to 1", "KL": "KL to predicted: KL(pi, predicted), nats"}[found["distance"]]
    lines.append(f"regret = beta KL(pi, p*), in reward units; sd: over seeds; {far}.")
    return "\n".join(lines)
