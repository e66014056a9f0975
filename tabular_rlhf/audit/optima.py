r"""Of which objective a place of rest is the maximizer, by the velocity of ascent there; and the rewards that a reward-model loss fits."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.audit.ends import End
from tabular_rlhf.audit.field import labeled
from tabular_rlhf.audit.handed import Batch, Handed
from tabular_rlhf.audit.verdict import Nearest, named_numbers
from tabular_rlhf.errors import SolveError
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import Array
from tabular_rlhf.losses.objectives import OBJECTIVES, STILL, velocity
from tabular_rlhf.world import World


def maximized(handed: Handed, nearest: Nearest | None, world: World, end: End) -> str:
    """The named objective that is largest where a step ends, or how far that is from the Gibbs optimum, in words."""
    if not end.rests:
        return ""
    beta = _beta(handed, nearest)
    if np.isneginf(end.log_p).any() or np.min(end.log_p) < -36.0:
        best = np.max(world.r, axis=1)
        there = np.sum(np.exp(end.log_p) * world.r, axis=1)
        return "the best response" if np.allclose(there, best, atol=1e-9) else "not the best response"
    settings = {"beta": beta, "tau": beta, "alpha": 0.0}
    found = next((name for name, f in OBJECTIVES.items() if velocity(f, world, settings, end.log_p) <= STILL), None)
    if found is not None:
        return f"the maximizer of {found.replace('beta', f'{beta:g}').replace('tau', f'{beta:g}')}"
    p = solve(world.at(beta)).p
    return f"total variation {0.5 * float(np.sum(np.abs(np.exp(end.log_p) - p))):.3g} from p* at beta = {beta:g}"


def _beta(handed: Handed, nearest: Nearest | None) -> float:
    """The weight of the penalty that it says: its own setting; 1 where the penalty is ours."""
    if handed.kind == "KL penalty" or (
        handed.kind != "pair loss" and (nearest is None or (nearest.penalty is None and " of r - " not in nearest.words))
    ):
        return 1.0
    said = [v for n, v in named_numbers(handed).items() if n.lower() in ("beta", "tau") or n.lower().startswith("kl")]
    return said[0] if said and said[0] > 0 else 1.0


def fitted_rewards(handed: Handed, world: World) -> list[tuple[float, float]]:
    """(true, fitted) reward of every response, where the loss of all pairs labeled by Bradley-Terry is stationary.  Raises SolveError."""
    from scipy.optimize import root

    pairs = labeled(world)

    def step(flat: Array) -> Array:
        rho = np.reshape(flat, world.r.shape)
        out = np.zeros(world.r.shape)
        for x, w, l, weight in pairs:
            batch: Batch = {"chosen_reward": rho[x, [w]], "rejected_reward": rho[x, [l]], "margin": np.zeros(1)}
            push = handed.push(batch)
            out[x, w] += weight * float(push["chosen_reward"][0])
            out[x, l] += weight * float(push["rejected_reward"][0])
        return np.ravel(out)

    found = root(step, np.zeros(world.r.size), method="lm", tol=1e-12)
    if not np.max(np.abs(step(found.x))) < 1e-8:
        raise SolveError("no rewards at which the loss of all pairs is stationary were found: it may have no minimum")
    return list(zip(np.ravel(world.r).tolist(), found.x.tolist(), strict=True))
