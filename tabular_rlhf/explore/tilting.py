r"""`explore.tilt`: move beta and the rewards, and see p_ref tilted into p* = p_ref exp(r/beta)/Z.

    beta log Z          = E_p*[r] - beta KL(p*, p_ref)          the best J there is;
    beta log Z - E_p_ref[r] = beta KL(p_ref, p*)                 the regret of changing nothing.

Both sides of both are computed on their own and shown as numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, positive
from tabular_rlhf.explore import bars
from tabular_rlhf.explore.panel import Data, View, on_screen, panel
from tabular_rlhf.explore.svg import INK, Picture, clipped
from tabular_rlhf.figures.glyphs import BLUE, GREEN
from tabular_rlhf.figures.record import ceiling
from tabular_rlhf.logspace import expect, kl, log_tilt, soft_value
from tabular_rlhf.told import number
from tabular_rlhf.world import World

SLIDERS = 3
"""Responses whose reward has a slider, at most: the heaviest."""


def data(
    world: World,
    *,
    beta: float | None = None,
    rewards: Mapping[int, float] | None = None,
    prompt: int | str = 0,
    kept: list[int] | None = None,
) -> Data:
    """The tilt at a prompt, as plain numbers.

    Args: beta, the world's by default; rewards, new ones by number of response; prompt, its number or text;
    kept, which responses to show, the heaviest by default.
    Returns: by response that is shown: response, p_ref, r, p (of p*); rest, the others together; V = beta log Z, reward and
    reward_ref (E[r] under p* and p_ref), kl = KL(p*, p_ref), J = reward - beta kl, regret = V - reward_ref, and
    regret_kl = beta KL(p_ref, p*).

    >>> from tabular_rlhf.world import coin
    >>> shown = data(coin(), beta=0.5)
    >>> shown["response"], [round(p, 4) for p in shown["p"]], round(shown["V"], 4), round(shown["J"], 4)
    (['tails', 'heads'], [0.1192, 0.8808], 0.7169, 0.7169)
    """
    x = bars.prompt_number(world.mdp, prompt)
    beta = positive(world.beta if beta is None else beta, "beta", "reward units per nat")
    log_ref, r = world.log_p_ref[x], _changed(world, x, rewards or {})
    log_p, V = log_tilt(log_ref, r, beta), float(soft_value(log_ref, r, beta))
    kept = sorted(bars.heaviest(world, x, bars.SHOWN) if kept is None else kept)
    reward, reward_ref, distance = (float(v) for v in (expect(log_p, r), expect(log_ref, r), kl(log_p, log_ref)))
    return {
        "prompt": world.mdp.prompts[x],
        "beta": beta,
        "response": [bars.response(world.mdp, i) for i in kept],
        "p_ref": bars.law(log_ref, kept),
        "r": bars.plain_row(r[kept]),
        "p": bars.law(log_p, kept),
        "rest": {"count": world.mdp.N - len(kept), "p_ref": _rest(log_ref, kept), "p": _rest(log_p, kept)},
        "V": V,
        "reward": reward,
        "reward_ref": reward_ref,
        "kl": distance,
        "J": reward - beta * distance,
        "regret": V - reward_ref,
        "regret_kl": beta * float(kl(log_ref, log_p)),
    }


def _changed(world: World, x: int, rewards: Mapping[int, float]) -> Any:
    r = np.array(world.r[x])
    for i, value in rewards.items():
        if not (isinstance(i, int) and 0 <= i < len(r) and np.isfinite(value)):
            must, remedy = "a new reward must be finite and of a response", f"number responses 0..{len(r) - 1}"
            raise InputError(must, got=f"{i!r}: {value!r}", remedy=remedy)
        r[i] = value
    return r


def _rest(log_p: Any, kept: list[int]) -> float:
    others = np.ones(len(log_p), dtype=bool)
    others[kept] = False
    return float(np.sum(np.exp(log_p[others])))


# ---------------------------------------------------------------------------------------------------- drawing


def draw(shown: Data) -> Picture:
    """Three columns: p_ref, r, p*; a dashed tick in the last shows where p_ref was."""
    names, high = list(shown["response"]), ceiling(max(shown["p_ref"] + shown["p"]))
    p_ref, r, p = ([*shown[key]] for key in ("p_ref", "r", "p"))
    said = [*map(bars.percent, p_ref)], [number(v, ".3g") for v in r], [*map(bars.percent, p)]
    rest = shown["rest"]
    if rest["count"]:  # in numbers only: its bar would dwarf the others
        names.append(f"{rest['count']:,} others")
        for texts, values, last in zip(said, (p_ref, r, p), (bars.percent(rest["p_ref"]), "", bars.percent(rest["p"])), strict=True):
            texts.append(last)
            values.append(None)
    span = (min(0.0, *shown["r"]), max(0.0, *shown["r"]))
    columns = (
        bars.Column("p_ref", "p_ref", p_ref, said[0], (INK, True), (0.0, high), 0.31),
        bars.Column("r", "r (reward)", r, said[1], (GREEN, False), span, 0.25, scaled=False),
        bars.Column("p*", "p* = p_ref exp(r/β) / Z", p, said[2], (BLUE, False), (0.0, high), 0.44, ticks=p_ref),
    )
    title = f"p_ref tilted into p* at beta = {number(shown['beta'], '.3g')}"
    return bars.picture(title, names, "dashed tick: p_ref", columns)


def words(shown: Data) -> list[str]:
    """The two identities with both sides as numbers."""
    n = {key: number(value, ".5f") for key, value in shown.items() if isinstance(value, float)}
    beta = number(shown["beta"], ".4g")
    return [
        f"β = {beta}; E[r] under p_ref = {n['reward_ref']}; E[r] under p* = {n['reward']}; KL(p*, p_ref) = {n['kl']} nats",
        f"What p* is worth: β log Z = {n['V']}, and E[r] − β KL(p*, p_ref) = {n['reward']} − {beta} × {n['kl']} = {n['J']}.",
        f"Regret of p_ref: β log Z − E[r] under p_ref = {n['regret']}, and β KL(p_ref, p*) = {n['regret_kl']}.",
    ]


# ---------------------------------------------------------------------------------------------------- the panel


def view(world: World, *, prompt: int | str = 0) -> View:
    """Sliders for beta and for the rewards of the heaviest responses."""
    x = bars.prompt_number(world.mdp, prompt)
    kept = bars.heaviest(world, x, bars.SHOWN)
    low, high = float(np.min(world.r[x])), float(np.max(world.r[x]))
    controls = [
        bars.reward_control(f"r{i}", f"r of {clipped(bars.response(world.mdp, i), 140)!r}", float(world.r[x, i]), low, high)
        for i in kept[:SLIDERS]
    ]

    def at(beta: float, **rewards: float) -> Data:
        return data(world, beta=beta, rewards={int(name[1:]): value for name, value in rewards.items()}, prompt=x, kept=kept)

    return View((bars.beta_control(world), *controls), at, on_screen(draw), words)


def tilt(world: World | str = "coin", *, prompt: int | str = 0) -> Any:
    """A panel: how beta and rewards tilt p_ref into p*.

    Args: world, or the name of one; prompt, its number or text.  Raises: InputError where ipywidgets is not installed.
    """
    return panel(view(bars.a_world(world), prompt=prompt))
