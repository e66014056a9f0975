"""A study from a TOML file: worlds by name or file, algorithms, settings with the values to try."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabular_rlhf.errors import InputError, did_you_mean, quoted, shown
from tabular_rlhf.files import read_text
from tabular_rlhf.studies.record import Study
from tabular_rlhf.world import NAMED, World, named_world
from tabular_rlhf.worldfile import load_world

EXAMPLE = """\
# A study: every combination of what is listed is run, each with several seeds.
title = "How large should a group be?"
worlds = ["coin", "rational"]         # named ones, or TOML files beside this one
algorithms = ["rloo", "grpo"]         # as in `tabular-rlhf run --algorithm`
seeds = 8                             # runs of each combination
seed = 0
curve = false                         # true: keep every scored step, not only the last
exact = true                          # also the exact ascent, without samples
measure = "regret"                    # or reward, proxy, kl, J
x = "group"                           # the figure's axis: a setting, "step", "world" or "algorithm"

[settings]                            # options of `run`, and beta; a list is tried value by value
group = [2, 4, 8]
steps = 40
"""
"""A file to start from."""
KEYS: Mapping[str, tuple[type, str]] = {
    "title": (str, "a string"),
    "worlds": (list, "a list of strings"),
    "algorithms": (list, "a list of strings"),
    "seeds": (int, "a whole number"),
    "seed": (int, "a whole number"),
    "curve": (bool, "true or false"),
    "exact": (bool, "true or false"),
    "measure": (str, "a string"),
    "x": (str, "a string"),
    "settings": (dict, "a table"),
}


def read_study(path: Path) -> Study:
    """Read a study.  Raises: InputError, with the place in the file where one is known."""
    text = read_text(path, "the study")
    try:
        return parse_study(text, path.parent, path.stem)
    except InputError as e:
        raise e.at(str(path)) from None


def parse_study(text: str, folder: Path, name: str = "study") -> Study:
    """The study that a text says.  Args: folder, where world files are looked for; name, its title where it has none."""
    try:
        told = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as e:
        raise InputError("a study must be TOML", got=shown(e).split(";")[0], remedy="check quotes, brackets and = signs") from None
    for key, value in told.items():
        if key not in KEYS:
            remedy = did_you_mean(key, KEYS, f"use one of {', '.join(KEYS)}")
            raise InputError("a study must use known keys", got=quoted(key), where=_line(text, key), remedy=remedy)
        kind, words = KEYS[key]
        strings = kind is not list or (isinstance(value, list) and value and all(isinstance(v, str) for v in value))
        if type(value) is not kind or not strings:
            raise InputError(f"{key} must be {words}", got=quoted(value)[:60], where=_line(text, key), remedy="change it to that")
    worlds = {w: _world(w, folder) for w in dict.fromkeys(told.pop("worlds", ["rational"]))}
    settings = {key: _values(key, value, text) for key, value in told.pop("settings", {}).items()}
    algorithms = tuple(dict.fromkeys(told.pop("algorithms", ["sft+rm+ppo"])))
    return Study(told.pop("title", name), worlds, algorithms, settings, **told)


def _line(text: str, key: str) -> str:
    number = next((k for k, line in enumerate(text.splitlines(), 1) if line.partition("=")[0].strip() == key), None)
    return f"line {number}" if number else ""


def _values(key: str, value: Any, text: str) -> tuple[Any, ...]:
    """The values of a setting that are tried: a list, or one."""
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(v, list | dict) for v in values):
        raise InputError(f"{key} must be a value or a list of values", got=quoted(value)[:60], where=_line(text, key), remedy="list some")
    return tuple(dict.fromkeys(values))


def _world(name: str, folder: Path) -> World:
    path = folder / name
    if name in NAMED and not path.is_file():
        return named_world(name)
    if not path.is_file():
        remedy = did_you_mean(name, NAMED, f"name a file beside the study, or one of {', '.join(NAMED)}")
        raise InputError("a world must be a named one or a file", got=quoted(name), remedy=remedy)
    return load_world(path)
