"""Controls for a notebook: one call a cell, a picture that follows every movement, and numbers that are the library's own.

    explore.tilt(world)        beta and rewards tilt p_ref into p*
    explore.simplex(world)     laws over three responses: the Gibbs arc, a policy to move, Pythagoras
    explore.kl(world)          what a KL flag optimizes
    explore.derivation(slug)   an executed derivation, read line by line

`svg` writes pictures as text, `panel` binds controls to them (ipywidgets, from the extra `notebooks`, is opened there and only
when a panel is made), `bars` draws columns; `tilting`, `triangle`, `flag` and `stepper` each hold data, drawing and panel of one topic.
"""

from __future__ import annotations

from tabular_rlhf.explore.flag import kl
from tabular_rlhf.explore.stepper import derivation
from tabular_rlhf.explore.tilting import tilt
from tabular_rlhf.explore.triangle import simplex

__all__ = ["derivation", "kl", "simplex", "tilt"]
