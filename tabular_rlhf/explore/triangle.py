r"""`explore.simplex`: every law over three responses is a point of a triangle; move one, and see what it gives away.

Corner i is "always response i".  The Gibbs laws q_s = p_ref exp(s r)/Z_s, s = 1/beta, are an arc through p_ref (s = 0) that
ends, for s to infinity, where r is best.  For a law p that you choose, with mean reward c = E_p[r]:

    V - J(p)         = beta KL(p, p*)                        its regret;
    KL(p, p_ref)     = KL(p, q) + KL(q, p_ref)               Pythagoras, q the I-projection of p_ref on {E[r] = c}:
                                                             the one point of the arc on the line through p;
    beta KL(p, p*)   = beta KL(p, q) + beta KL(q, p*)        so regret is: off the arc, plus the wrong place on it.

A world of more than three possible responses is conditioned on its three heaviest: p* given these is again p_ref given these,
tilted, so every identity holds; what is left out is told.  Source: Csiszar (1975), I-divergence geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, positive
from tabular_rlhf.explore import bars
from tabular_rlhf.explore.panel import Control, Data, View, on_screen, panel
from tabular_rlhf.explore.svg import INK, Picture, Point, clipped, mark, names, path, text
from tabular_rlhf.figures.glyphs import BLUE, GREEN
from tabular_rlhf.logspace import Array, expect, kl, log_of, log_softmax, log_tilt, logsumexp, soft_value
from tabular_rlhf.told import number
from tabular_rlhf.world import World

ARC = 121
"""Points on the arc."""


def three(world: World, x: int) -> list[int]:
    """The three heaviest possible responses, by number."""
    kept = [i for i in bars.heaviest(world, x, 3) if world.log_p_ref[x, i] > -np.inf]
    if len(kept) < 3:
        raise InputError("a triangle needs three possible responses", got=len(kept), remedy="take a larger world, or explore.tilt")
    return sorted(kept)


def data(
    world: World, *, beta: float | None = None, first: float = 0.5, second: float = 0.3, prompt: int | str = 0, arc: bool = True
) -> Data:
    """Laws over three responses, as lists of three probabilities, and what their divergences add up to.

    Args: first, p of the first response; second, the share of the second in what is left; arc, whether to trace it.
    Returns: p_ref, p_star, p (yours), q (the I-projection at your mean reward), s with q = q_s (None at an end of the arc);
    V, J = J(p), regret = V - J, regret_kl = beta KL(p, p*), kl_ref = KL(p, p_ref), kl_q = KL(p, q), kl_q_ref, kl_q_star.

    >>> from tabular_rlhf.world import rational
    >>> found = data(rational(), first=1.0)
    >>> [round(p, 4) for p in found["p_star"]], round(found["regret"], 4), round(found["regret_kl"], 4)
    ([0.1579, 0.6316, 0.2105], 1.8458, 1.8458)
    """
    x = bars.prompt_number(world.mdp, prompt)
    beta = positive(world.beta if beta is None else beta, "beta", "reward units per nat")
    kept = three(world, x)
    log_ref, r = world.log_p_ref[x, kept], np.asarray(world.r[x, kept])
    log_ref, left_out = log_ref - logsumexp(log_ref), world.mdp.N - 3
    log_star, V = log_tilt(log_ref, r, beta), float(soft_value(log_ref, r, beta))
    p = np.array([first, (1.0 - first) * second, (1.0 - first) * (1.0 - second)])
    log_p = log_of(p)
    c = float(expect(log_p, r))
    s, log_q = on_the_arc(log_ref, r, c)
    full = log_tilt(world.log_p_ref[x], world.r[x], beta)
    own, off, along = (beta * float(kl(a, b)) for a, b in ((log_p, log_star), (log_p, log_q), (log_q, log_star)))
    to_ref, q_to_ref = float(kl(log_p, log_ref)), float(kl(log_q, log_ref))
    J = c - beta * to_ref
    return {
        "beta": beta,
        "response": [bars.response(world.mdp, i) for i in kept],
        "r": bars.plain_row(r),
        "left_out": {"count": left_out, "p_ref": _mass(world.log_p_ref[x], kept), "p_star": _mass(full, kept)},
        "p_ref": bars.plain_row(np.exp(log_ref)),
        "p_star": bars.plain_row(np.exp(log_star)),
        "p": bars.plain_row(p),
        "q": bars.plain_row(np.exp(log_q)),
        "s": s,
        "c": c,
        "V": V,
        "J": J,
        "regret": V - J,
        "regret_kl": own,
        "regret_off": off,
        "regret_along": along,
        "kl_ref": to_ref,
        "kl_q": off / beta,
        "kl_q_ref": q_to_ref,
        "level": level_line(r, c),
        "arc": trace(log_ref, r) if arc else [],
    }


def _mass(log_p: Array, kept: list[int]) -> float:
    return max(0.0, 1.0 - float(np.sum(np.exp(log_p[kept]))))


def tilted(log_ref: Array, r: Array, s: Any) -> Array:
    """log q_s for any s, or for a column of them: beta = 1/s may be negative, which prefers what is worse."""
    return np.asarray(log_softmax(log_ref + s * r))


def on_the_arc(log_ref: Array, r: Array, c: float) -> tuple[float | None, Array]:
    """(s, log q_s) with E_q[r] = c, by bisection: the mean rises with s.  At the least or largest reward s is None, q the limit."""
    low, high = float(np.min(r)), float(np.max(r))
    slack = 1e-12 * max(1.0, abs(low), abs(high))
    if high - low <= slack:
        return 0.0, log_ref
    for end in (low, high):
        if abs(c - end) <= slack:
            best = np.where(r == end, log_ref, -np.inf)
            return None, np.asarray(best - logsumexp(best))
    left, right = -1.0, 1.0
    unit = 1.0 / (high - low)
    while expect(tilted(log_ref, r, left * unit), r) > c:
        left *= 2.0
    while expect(tilted(log_ref, r, right * unit), r) < c:
        right *= 2.0
    for _ in range(64):
        middle = 0.5 * (left + right)
        left, right = (middle, right) if expect(tilted(log_ref, r, middle * unit), r) < c else (left, middle)
    s = 0.5 * (left + right) * unit
    return s, tilted(log_ref, r, s)


def trace(log_ref: Array, r: Array) -> list[list[float]]:
    """Points of the arc, from the worst response to the best through p_ref."""
    unit = max(float(np.ptp(r)), 1e-300)
    steps = np.sinh(np.linspace(-7.0, 7.0, ARC)) / 10.0 / unit
    return [bars.plain_row(law) for law in np.exp(tilted(log_ref, r - np.mean(r), steps[:, None]))]


def level_line(r: Array, c: float) -> list[list[float]]:
    """Where the line E[r] = c enters and leaves the triangle: two laws on its edges (none where all rewards tie)."""
    found: list[list[float]] = []
    for i, j in ((0, 1), (1, 2), (0, 2)):
        a, b = float(r[i]), float(r[j])
        if a != b and 0.0 <= (c - a) / (b - a) <= 1.0:
            law = [0.0, 0.0, 0.0]
            law[j] = (c - a) / (b - a)
            law[i] = 1.0 - law[j]
            found.append(law)
    apart = [(sum(abs(u - v) for u, v in zip(a, b, strict=True)), a, b) for a in found for b in found]
    return list(max(apart)[1:]) if apart else []


# ---------------------------------------------------------------------------------------------------- drawing

LEFT, TOP, SIDE = 60.0, 40.0, 380.0


def at(p: Any) -> Point:
    """A law's place: the first corner at the left, the second at the right, the third above."""
    return LEFT + SIDE * (p[1] + 0.5 * p[2]), TOP + SIDE * 0.75**0.5 * (1.0 - p[2])


MARKS = (
    ("p_ref", "p_ref", "reference", "the reference"),
    ("q", "q", "tilted", "your reward, on the arc"),
    ("p_star", "p*", "optimum", "the optimum"),
    ("p", "p", "policy", "your policy"),
)
"""Key in the data, name, glyph and role of each point, in the order they are drawn."""


def draw(shown: Data) -> Picture:
    """The triangle with its arc, the line of your mean reward, and four points by shape, color and name; a table beside it."""
    arc, level = [at(p) for p in shown["arc"]], [at(p) for p in shown["level"]]
    points = [(at(shown[key]), key, name, glyph, role) for key, name, glyph, role in MARKS]
    parts = [path([at(p) for p in np.eye(3)], INK, width=1.0, closed=True)]
    parts += [path(arc, BLUE, width=2.5)] if arc else []
    parts += [path(level, GREEN, dash="6 4", width=2.0)] if level else []
    foot = TOP + SIDE * 0.75**0.5 + 24
    corners = ((0.0, foot, "start"), (LEFT + SIDE + 60, foot, "end"), (LEFT + SIDE / 2, 24.0, "middle"))
    parts += named_corners(corners, shown["response"], shown["r"], 130)
    parts += [mark(*where, glyph, title=f"{name}: {role}") for where, _, name, glyph, role in points]
    parts += names([(where, name) for where, _, name, *_ in points], taken=[*arc, *_between(level)])
    parts += _legend(shown, points)
    said = [(name, [bars.percent(v) for v in shown[key]]) for _, key, name, *_ in points]
    title = f"Laws over three responses at beta = {number(shown['beta'], '.3g')}"
    return Picture(750, TOP + SIDE * 0.75**0.5 + 36, title, bars.read_out(shown["response"], said), tuple(parts))


def named_corners(corners: Sequence[tuple[float, float, str]], responses: Sequence[str], r: Sequence[float], room: float) -> list[str]:
    """What each corner stands for.  Args: corners, (x, y, anchor) of the words."""
    whole = zip(corners, responses, r, strict=True)
    return [text(x, y, f"always {clipped(a, room)!r}: r = {number(b, '.3g')}", anchor=anchor) for (x, y, anchor), a, b in whole]


def _between(ends: list[Point], steps: int = 40) -> list[Point]:
    """Points along a straight line."""
    return [tuple(np.asarray(ends[0]) + t * (np.asarray(ends[1]) - ends[0])) for t in np.linspace(0, 1, steps)] if ends else []


def _legend(shown: Data, points: list[Any]) -> list[str]:
    """What each mark and line is, with the law it stands for."""
    x, y, out = 500.0, 60.0, []
    for _, key, name, glyph, role in points:
        out += [mark(x, y - 5, glyph), text(x + 18, y, name, bold=True), text(x + 62, y, role)]
        out.append(text(x + 62, y + 19, ", ".join(bars.percent(v) for v in shown[key])))
        y += 50
    lines = (("arc of Gibbs laws, all β", BLUE, None, 2.5), (f"E[r] = {number(shown['c'], '.4g')}, yours", GREEN, "6 4", 2.0))
    for words_, color, dash, width in lines:
        out += [path([(x - 10, y - 5), (x + 46, y - 5)], color, dash=dash, width=width), text(x + 62, y, words_)]
        y += 26
    return out


def words(shown: Data) -> list[str]:
    """Regret, Pythagoras, and how regret splits, with all sides as numbers."""
    n = {key: number(value, ".5f") for key, value in shown.items() if isinstance(value, float)}
    out = [
        f"β = {number(shown['beta'], '.4g')}; your E[r] = {n['c']}; your J = E[r] − β KL(p, p_ref) = {n['J']}.",
        f"Regret of p: V − J(p) = {n['V']} − {_signed(n['J'])} = {n['regret']}, and β KL(p, p*) = {n['regret_kl']}.",
        f"Pythagoras: KL(p, p_ref) = {n['kl_ref']}, and KL(p, q) + KL(q, p_ref) = {n['kl_q']} + {n['kl_q_ref']} = "
        f"{number(shown['kl_q'] + shown['kl_q_ref'], '.5f')} nats.",
        f"So the regret is β KL(p, q) = {n['regret_off']} for being off the arc, and β KL(q, p*) = {n['regret_along']} "
        f"for being at the wrong place of it: {number(shown['regret_off'] + shown['regret_along'], '.5f')} in all.",
    ]
    left = shown["left_out"]
    if left["count"]:
        out.append(
            f"Of {left['count'] + 3:,} responses these are the three heaviest, and every law is given that one of them is said. "
            f"Left out: {bars.percent(left['p_ref'])} of p_ref, {bars.percent(left['p_star'])} of p*."
        )
    return out


def _signed(words_: str) -> str:
    return f"({words_})" if words_.startswith("-") else words_


# ---------------------------------------------------------------------------------------------------- the panel


def view(world: World, *, prompt: int | str = 0) -> View:
    """Sliders for beta and for the two degrees of freedom of a law over three responses."""
    x = bars.prompt_number(world.mdp, prompt)
    a, b, _ = (clipped(bars.response(world.mdp, i), 100) for i in three(world, x))
    controls = (
        bars.beta_control(world),
        Control("first", f"your p({a!r})", "probability of the first response", 0.5),
        Control("second", f"of the rest, {b!r}", "the second response's share of what is left", 0.3),
    )
    return View(controls, lambda beta, first, second: data(world, beta=beta, first=first, second=second, prompt=x), on_screen(draw), words)


def simplex(world: World | str = "rational", *, prompt: int | str = 0) -> Any:
    """A panel: laws over three responses, the Gibbs arc, and a policy to move.

    Args: world, or the name of one; prompt, its number or text.
    Raises: InputError where fewer than three responses are possible, or ipywidgets is not installed.
    """
    return panel(view(bars.a_world(world), prompt=prompt))
