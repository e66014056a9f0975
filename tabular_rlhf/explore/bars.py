"""Columns of bars, one row a response: what `tilt` and `kl` draw.  Numbers stand in a column of their own, so nothing overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.explore.panel import Control
from tabular_rlhf.explore.svg import INK, WIDE, Picture, bar, clipped, path, text
from tabular_rlhf.logspace import Array, log_tilt
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.world import World, named_world

ROW, TOP, NUMBER, SHEET = 28.0, 34.0, 66.0, 750.0
"""Height of a row, of the headings, and width of a column of numbers, and of the whole, in pixels."""
SHOWN = 12
"""Responses in a picture, at most."""


# ---------------------------------------------------------------------------------------------------- what is shown


def a_world(world: World | str) -> World:
    """The world itself, or the named one."""
    if isinstance(world, World):
        return world
    return named_world(world)


def prompt_number(mdp: TokenMDP, prompt: int | str) -> int:
    """The number of a prompt given by number or text."""
    x = mdp.prompts.index(prompt) if isinstance(prompt, str) and prompt in mdp.prompts else prompt
    if isinstance(x, bool) or not isinstance(x, int | np.integer) or not 0 <= x < mdp.P:
        raise InputError("prompt must be one of the world's", got=quoted(prompt), remedy=f"use 0..{mdp.P - 1}, or its text")
    return int(x)


def heaviest(world: World, x: int, most: int) -> list[int]:
    """The likeliest responses under p_ref, under p*, and under p* at a tenth of beta, taken in turn until there are `most`.

    Chosen once, at the world's own beta, so that rows stay where they are while a slider moves; ties by number.
    """
    log_ref, r = world.log_p_ref[x], world.r[x]
    laws = (log_ref, log_tilt(log_ref, r, world.beta), log_tilt(log_ref, r, 0.1 * world.beta))
    ranked = [np.argsort(-law, kind="stable")[:most] for law in laws]
    return [int(i) for i in dict.fromkeys(np.stack(ranked, axis=1).ravel().tolist())][:most]


def response(mdp: TokenMDP, i: int) -> str:
    """A response in words, or what is said instead of silence."""
    return mdp.text(i) or "(nothing)"


ROUND = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


def beta_control(world: World) -> Control:
    """A slider over round values of beta, in four decades and in the world's own, whose beta is among them exactly."""
    hint = "the KL weight, in reward units per nat: small trusts the reward, large stays at p_ref"
    decades = {-2, -1, 0, 1, int(np.floor(np.log10(world.beta)))}
    betas = {100.0, *(float(f"{digit:g}e{k}") for k in decades for digit in ROUND)} - {np.inf, 0.0}
    return Control("beta", "β (KL weight)", hint, world.beta, "scale", options=_named(betas, world.beta))


def reward_control(name: str, label: str, own: float, low: float, high: float) -> Control:
    """A slider over round rewards that reach beyond [low, high] by as much again, and the response's own exactly."""
    span = max(high - low, 1.0)
    step = 10.0 ** np.floor(np.log10(span)) / 10.0
    grid = step * np.arange(np.floor((low - span) / step), np.ceil((high + span) / step) + 1)
    return Control(name, label, "its reward, in reward units", own, "scale", options=_named({float(f"{v:.12g}") + 0.0 for v in grid}, own))


def _named(grid: set[float], own: float) -> tuple[tuple[str, float], ...]:
    """Values in order, the own one in place of what reads like it, each with its text: long enough to tell all apart."""
    values = sorted({v for v in grid if f"{v:.9g}" != f"{own:.9g}"} | {own})
    digits = next((d for d in range(4, 17) if len({f"{v:.{d}g}" for v in values}) == len(values)), 17)
    return tuple((f"{v:.{digits}g}", v) for v in values)


# ---------------------------------------------------------------------------------------------------- how it is shown


def percent(p: float | None) -> str:
    """A probability with four decimals.

    >>> percent(0.5), percent(0.0), percent(3e-7), percent(None)
    ('0.5000', '0', '<0.0001', '-')
    """
    return "-" if p is None else "0" if p == 0 else "<0.0001" if p < 5e-5 else f"{p:.4f}"


@dataclass(frozen=True)
class Column:
    """Bars from zero, their numbers to the right.

    Args: said, its name where it is read out; heading; values, None for no bar; shown, their texts; look, color and whether hollow; span,
    the ends of the axis; share, of the picture's width; scaled, whether 0 and the end stand below; ticks, a mark in each row.
    """

    said: str
    heading: str
    values: Sequence[float | None]
    shown: Sequence[str]
    look: tuple[str, bool]
    span: tuple[float, float]
    share: float
    scaled: bool = True
    ticks: Sequence[float | None] = ()


def picture(title: str, names: Sequence[str], foot: str, columns: Sequence[Column]) -> Picture:
    """A row a name: columns side by side on the width that the names leave, and a line below."""
    first = min(270.0, max(160.0, WIDE * max(map(len, names)) + 16.0))
    bottom = TOP + ROW * len(names)
    rows = (text(0.0, TOP + ROW * (i + 0.65), clipped(n, first - 12.0), title=n) for i, n in enumerate(names))
    parts = [text(0.0, 16.0, "response", bold=True), *rows, text(0, bottom + 16, foot)]
    left = first
    for c in columns:
        width = (SHEET - first) * c.share
        parts += _bars(left, width - 20.0, names, c)
        parts += _scale(left, left + width - 20.0 - NUMBER, bottom, c.span[1]) if c.scaled else []
        left += width
    return Picture(SHEET, bottom + 26, title, read_out(names, [(c.said, c.shown) for c in columns]), tuple(parts))


def _bars(x: float, width: float, names: Sequence[str], c: Column) -> list[str]:
    low, high = min(0.0, c.span[0]), max(0.0, c.span[1])
    scale = (width - NUMBER) / (high - low) if high > low else 0.0

    def at(value: float) -> float:
        return x + scale * (min(max(value, low), high) - low)

    out = [text(x, 16.0, c.heading, bold=True), path([(at(0.0), TOP - 4), (at(0.0), TOP + ROW * len(names))], INK, width=1.0)]
    for i, (value, words, name) in enumerate(zip(c.values, c.shown, names, strict=True)):
        y = TOP + ROW * i
        out.append(text(x + width, y + 0.65 * ROW, words, anchor="end"))
        if value is not None:
            left, right = sorted((at(0.0), at(value)))
            out.append(bar(left, y + 4, right - left, ROW - 10, c.look[0], hollow=c.look[1], title=f"{name}: {c.heading} = {words}"))
    for i, tick in enumerate(c.ticks):
        if tick is not None:
            out.append(path([(at(tick), TOP + ROW * i), (at(tick), TOP + ROW * i + ROW - 2)], INK, dash="3 2", width=2.0))
    return out


def _scale(left: float, right: float, y: float, high: float) -> list[str]:
    """The ends of an axis of probabilities: 0 and `high`."""
    ends = ((left, "0"), (right, f"{high:g}"))
    return [path([(left, y), (right, y)], INK, width=1.0), *(text(x, y + 16, words, anchor="middle") for x, words in ends)]


def read_out(names: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The columns read out, row by row."""
    return "; ".join(f"{name}: " + ", ".join(f"{heading} {shown[i]}" for heading, shown in rows) for i, name in enumerate(names))


def plain_row(values: Any) -> list[float]:
    """A row of numbers as floats."""
    return [float(v) for v in values]


def law(log_p: Array, kept: list[int]) -> list[float]:
    """Probabilities of the responses that are kept."""
    return plain_row(np.exp(log_p[kept]))
