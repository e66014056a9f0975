"""Controls for a notebook: one call a cell, a picture that follows every movement, and numbers that are the library's own.

    explore.tilt(world)        beta and rewards tilt p_ref into p*
    explore.simplex(world)     laws over three responses: the Gibbs arc, a policy to move, Pythagoras
    explore.kl(world)          what a KL flag optimizes
    explore.compare(names)     comparisons in, rewards out
    explore.derivation(slug)   an executed derivation, read line by line
    explore.aim(world, kl=)    a policy to be drawn with the mouse, to hit a KL or beat a regret
    explore.folded(shown)      an answer behind a line that unfolds
    explore.progress()         which exercises are solved

`svg` writes pictures as text, `panel` binds controls to them (ipywidgets, from the extra `notebooks`, is opened there and only
when a panel is made), `bars` draws columns; `tilting`, `triangle`, `flag`, `comparing` and `stepper` each hold data, drawing and panel of
one topic.
`board` needs no kernel; `standing` holds what is solved, and what is folded; `lesson` holds the cells that every notebook has in
common.
"""

from __future__ import annotations

from tabular_rlhf.explore.board import aim
from tabular_rlhf.explore.comparing import compare
from tabular_rlhf.explore.flag import kl
from tabular_rlhf.explore.standing import folded, progress
from tabular_rlhf.explore.stepper import derivation
from tabular_rlhf.explore.tilting import tilt
from tabular_rlhf.explore.triangle import simplex

__all__ = ["aim", "compare", "derivation", "folded", "kl", "progress", "simplex", "tilt"]
