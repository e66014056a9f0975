r"""`explore.aim`: draw a policy with the mouse, to hit a KL or to beat a regret, before the best one is shown.

Three answers are a triangle, as in `explore.simplex`; here the point itself is dragged (or moved by arrow keys), in a frame that needs
neither kernel nor network: its numbers are those of the page's exact core, which is held to this package (tests/browser).  Where no
script runs, a picture of the start remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from tabular_rlhf import told
from tabular_rlhf.errors import InputError, positive
from tabular_rlhf.explore import bars
from tabular_rlhf.explore.svg import INK, Picture, element, mark, names, path
from tabular_rlhf.explore.triangle import LEFT, SIDE, TOP, at, named_corners, three, trace
from tabular_rlhf.logspace import log_tilt, logsumexp
from tabular_rlhf.told import number
from tabular_rlhf.world import World

WIDTH, HEIGHT = 500.0, TOP + SIDE * 0.75**0.5 + 40.0
WITHIN = 0.005
"""How near to a KL is a hit, in nats."""
HALO = 22.0
"""Radius of what a finger can take hold of, in pixels."""


@dataclass(frozen=True)
class Aim:
    """A game: three answers, their reference and rewards, beta, and the goal (a KL in nats, or a regret in reward units)."""

    names: tuple[str, ...]
    log_ref: tuple[float, ...]
    r: tuple[float, ...]
    beta: float
    kl: float | None
    regret: float | None

    @property
    def goal(self) -> str:
        """What is to be done, in a sentence."""
        beta = f"A nat costs β = {number(self.beta, '.4g')}."
        if self.kl is None:
            return f"{beta} Move ● until the regret is at most {number(self.regret, '.4g')}: until J is as large as it gets."
        return f"{beta} Move ● until KL(p, p_ref) is {number(self.kl, '.4g')} nats. Then earn as much as can be earned there."

    def picture(self) -> Picture:
        """The board: the triangle with its corners, ◇ for the reference, and (hidden) ★ with the arc of all best policies."""
        log_ref, r = np.array(self.log_ref), np.array(self.r)
        ref, star = at(np.exp(log_ref)), at(np.exp(log_tilt(log_ref, r, self.beta)))
        bottom = TOP + SIDE * 0.75**0.5
        corners = ((4.0, bottom + 24, "start"), (WIDTH - 4, bottom + 24, "end"), (LEFT + SIDE / 2, 22.0, "middle"))
        parts = [path([at(p) for p in np.eye(3)], INK, width=1.0, closed=True)]
        parts += named_corners(corners, self.names, self.r, 120)
        arc = path([at(p) for p in trace(log_ref, r)], "#0072b2", width=2.5)
        answer = arc + mark(*star, "optimum", title="p*: the optimum") + "".join(names([(star, "p*")]))
        parts += [element("g", answer, id="answer", style="display:none"), mark(*ref, "reference"), *names([(ref, "p_ref")])]
        policy = element("circle", r=HALO, fill="#d55e00", fill_opacity=0.12) + mark(0.0, 0.0, "policy", title="your policy")
        parts.append(element("g", policy, id="policy", transform=f"translate({ref[0]:.2f} {ref[1]:.2f})"))
        return Picture(WIDTH, HEIGHT, "Draw a policy", self.goal, tuple(parts))

    def frame(self) -> str:
        """The whole of the game as a page of its own."""
        from tabular_rlhf.page import laws

        board = self.picture().svg().replace("<svg ", '<svg id="board" ', 1).replace(' role="img"', ' role="group"')
        slider = 'tabindex="0" role="slider" aria-label="Policy" aria-valuemin="0" aria-valuemax="100" id="policy"'
        given = {"names": list(self.names), "lq": list(self.log_ref), "r": list(self.r), "beta": self.beta, "kl": self.kl}
        given |= {"regret": self.regret, "within": WITHIN, "corners": [list(map(float, at(p))) for p in np.eye(3)]}
        script = f'"use strict";\nconst C = {laws()};\nconst G = {told.as_json(given)};\n'
        script += Path(__file__).with_name("board.js").read_text(encoding="utf-8")
        return PAGE.format(
            goal=escape(self.goal, quote=False), board=board.replace('id="policy"', slider), script=script.replace("</", r"<\/")
        )

    def __str__(self) -> str:
        return self.goal

    def _repr_html_(self) -> str:
        frame = element("iframe", " ", title="Draw a policy", srcdoc=self.frame(), style=f"width:100%;height:{HEIGHT + 170:.0f}px;border:0")
        return self.picture().image() + frame


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Draw a policy</title>
<style>
body {{ margin: 0; padding: 8px; background: #fff; color: #111; font: 15px/1.45 system-ui, sans-serif; max-width: 36rem }}
p {{ margin: 4px 0 }} #numbers, #law {{ font-variant-numeric: tabular-nums; white-space: pre-wrap }}
#policy {{ cursor: grab; touch-action: none }} #policy:focus {{ outline: none }}
#policy:focus circle:first-child {{ stroke: #111; stroke-width: 2 }}
button {{ font: inherit; min-height: 32px; padding: 2px 12px; margin: 6px 8px 0 0 }} #told {{ font-weight: 600; min-height: 1.5em }}
</style>
<p>{goal}</p>{board}
<p id="numbers"></p><p id="law"></p><p id="told" role="status"></p>
<button id="again">Back to the reference</button><button id="reveal">Show the best policy</button>
<script>
{script}
</script></html>"""


def aim(
    world: World | str = "rational",
    *,
    kl: float | None = None,
    regret: float | None = None,
    beta: float | None = None,
    prompt: int | str = 0,
) -> Aim:
    """A policy over three answers, to be drawn by mouse, finger or keys.

    Args: world, or the name of one (of more than three answers the three heaviest are kept, as in `explore.simplex`); kl, the divergence
    to hit, in nats, or regret, the one to beat, in reward units (0.01 if neither is given); beta, the world's own by default; prompt, its
    number or text.
    Returns: an `Aim`, which shows itself.  Raises: InputError where both goals are given, one cannot be reached, or fewer than three
    answers are possible.

    >>> print(aim(kl=0.2))
    A nat costs β = 1. Move ● until KL(p, p_ref) is 0.2 nats. Then earn as much as can be earned there.
    """
    world = bars.a_world(world)
    x = bars.prompt_number(world.mdp, prompt)
    beta = positive(world.beta if beta is None else beta, "beta", "reward units per nat")
    kept = three(world, x)
    log_ref = world.log_p_ref[x, kept] - logsumexp(world.log_p_ref[x, kept])
    if kl is not None and regret is not None:
        raise InputError("a game must have one goal", got="both kl and regret", remedy="leave one of them out")
    farthest = -float(np.min(log_ref))
    if kl is not None and not 0 < kl <= farthest:
        raise InputError(f"kl must be in reach, in (0, {farthest:.4g}] nats", got=kl, remedy="choose a smaller one")
    aimed = positive(0.01 if regret is None else regret, "regret", "reward units") if kl is None else None
    answers = tuple(bars.response(world.mdp, i) for i in kept)
    return Aim(answers, tuple(log_ref.tolist()), tuple(bars.plain_row(world.r[x, kept])), beta, kl, aimed)
