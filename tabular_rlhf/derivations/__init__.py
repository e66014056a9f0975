r"""Derivations executed line by line: `derive(slug)` runs every line of a classical argument on a world and measures every step.

`record` says what a line and a relation are, `execute` runs them, `text` shows them; one or more files a chapter hold the
derivations, named in `CHAPTERS`.
"""

from __future__ import annotations

from importlib import import_module

from tabular_rlhf.derivations.execute import Derived, Step, audit_derivations, derive, find
from tabular_rlhf.derivations.lines import RELATIONS, Line
from tabular_rlhf.derivations.record import DERIVATIONS, Derivation

CHAPTERS = (
    *("language", "preferences", "preferences_noise", "fitting", "fitting_existence"),
    *("optimum", "projection", "tokens", "free_energy", "pretraining"),
    *("geometry", "geometry_tied", "geometry_roads"),
    *("direct", "direct_gradient", "direct_optimum", "direct_ipo", "direct_data", "direct_logits", "direct_game"),
    *("gradients", "baselines", "reward_to_go", "natural", "groups", "grpo"),
    *("estimators", "estimators_gradients", "estimators_theorem", "estimators_tokens", "estimators_variance"),
    *("selection", "today_groups", "today_moved"),
)
"""The modules that hold the derivations, in the order of the book: importing one enters its derivations."""

for _chapter in CHAPTERS:
    import_module(f"{__name__}.{_chapter}")

__all__ = ["CHAPTERS", "DERIVATIONS", "RELATIONS", "Derivation", "Derived", "Line", "Step", "audit_derivations", "derive", "find"]
