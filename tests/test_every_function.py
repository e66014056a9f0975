"""A standing law: every public function is called at the ends, with accidents as errors, and returns no nan or refuses in our own words.

Functions are found by introspection and their arguments by parameter name (`extremes`), so a new public function is covered, or fails
here, the day it is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.divergences import DIVERGENCES, alpha
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.estimators.evaluate import moments, score_gradient, table
from tabular_rlhf.estimators.record import flags
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.evaluate import gradient, value
from tabular_rlhf.penalties import f_divergence_optimum
from tabular_rlhf.policy_gradient import ADVANTAGES, BATCHES, Recipe
from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
from tabular_rlhf.policy_gradient.updates import expected_update
from tabular_rlhf.sampling import population
from tests.extremes import ARGUMENTS, DEAR, NO_NUMBERS, SCENES, SELF, THROUGH, Scene, called, numbers, public, required, supplier

STEPS = tuple(step for steps in THROUGH.values() for step in steps)
EVERY = {name: f for name, f in public().items() if name not in NO_NUMBERS and not name.startswith(STEPS)}


def test_every_parameter_is_known_and_no_entry_is_stale() -> None:
    asked = {name: [p.name for p in required(f)] for name, f in EVERY.items()}
    unknown = [f"{name}({p})" for name, names in asked.items() for p in names if supplier(name, p) is None]
    assert not unknown, f"say in tests/extremes.py what these are: {unknown}"
    assert NO_NUMBERS.keys() | DEAR.keys() | THROUGH.keys() <= public().keys()
    assert all(any(name.startswith(step) for name in public()) for step in STEPS)
    assert THROUGH.keys() <= EVERY.keys()
    used = {id(supplier(name, p)) for name, names in asked.items() for p in names}
    assert [key for key, make in {**ARGUMENTS, **SELF}.items() if id(make) not in used] == []


@pytest.mark.parametrize("name", EVERY)
def test_no_nan_and_no_accident_at_the_ends(name: str) -> None:
    """In every scene an answer without nan, or a refusal; in some scene an answer."""
    tried = SCENES[:: max(1, len(SCENES) // DEAR.get(name, len(SCENES)))]
    answered = [_answers(name, EVERY[name], scene) for scene in tried]
    assert any(answered), "it refuses in every scene: its arguments are no good"


def _answers(name: str, f: Callable[..., Any], scene: Scene) -> bool:
    try:
        told = [value for value in numbers(called(name, f, scene)) if np.isnan(value).any()]
    except (InputError, SolveError):
        return False
    assert not told, f"nan in {scene}"
    return True


# ---------------------------------------------------------------------------------------------------- every record


def _losses(s: Scene) -> Iterator[Any]:
    for name in LOSSES:
        yield name, lambda name=name: (value(name, s.world, s.log_p, s.pairs), gradient(name, s.world, s.log_p, s.pairs))


def _flags(s: Scene) -> Iterator[Any]:
    for flag in [*flags(), *flags(level="token"), *flags("k3", "loss", clamps={"output": 10.0})]:
        yield flag.label, lambda flag=flag: (table(flag, s.world, s.log_pi), score_gradient(flag, s.world, s.log_pi))
        yield flag.label, lambda flag=flag: moments(population(s.world, s.log_p), table(flag, s.world, s.log_pi))


def _recipes(s: Scene) -> Iterator[Any]:
    together = [Recipe("opo", "ratio", "token-mean", batch=batch, G=2, B=2) for batch in BATCHES]
    for recipe in [*(Recipe(a, G=3) for a in ADVANTAGES), *(Recipe("grpo", loss, G=3) for loss in POLICY_LOSSES), *together]:
        yield recipe.name, lambda recipe=recipe: expected_update(s.world, s.logits, recipe)
        yield recipe.name, lambda recipe=recipe: expected_update(s.world, s.logits, recipe, log_old=s.world.log_ref)


def _divergences(s: Scene) -> Iterator[Any]:
    for d in [*DIVERGENCES.values(), alpha(-1.0)]:
        yield d.name, lambda d=d: (d(s.log_p, s.world.log_p_ref), f_divergence_optimum(d, s.world.log_p_ref, s.world.r, s.world.beta))


REGISTRIES = {"losses": _losses, "flags": _flags, "recipes": _recipes, "divergences": _divergences}


@pytest.mark.parametrize("scene", SCENES, ids=str)
@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_record_at_the_ends(registry: str, scene: Scene) -> None:
    """What a scene picks one of, above, all of them here."""
    wrong = []
    for name, compute in REGISTRIES[registry](scene):
        try:
            told = [x for x in numbers(compute()) if np.isnan(x).any()]
        except (InputError, SolveError):
            continue
        except (FloatingPointError, OverflowError, ZeroDivisionError) as e:
            told = [e]
        wrong += [f"{name}: {told[0]}"] if told else []
    assert not wrong
