"""What a study is: what varies, what is kept the same, and the cells that follow from it.

As it goes on, cells that are done are written down in its journal, and never run again; one that failed is tried again the next time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf import __version__
from tabular_rlhf.cells import Place, run_cells
from tabular_rlhf.errors import InputError, did_you_mean, quoted, whole
from tabular_rlhf.journal import Pen, known
from tabular_rlhf.simulator import Options, advance, begin
from tabular_rlhf.simulator.report import FIELDS
from tabular_rlhf.simulator.stages import exact_curve
from tabular_rlhf.world import World

SETTINGS = tuple(name for name in Options.__dataclass_fields__ if name not in ("algorithm", "seed", "seeds"))
"""Options of a run that a study may set, or vary; `beta` besides, the world's KL weight."""
MOST = 10**6
"""Cells of a study."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One run: number, its place in the grid; name, of the world; world; options; seed, the number of the run, None for the exact ascent;
    curve, whether all its scored steps are told, or only the last."""

    number: int
    name: str
    world: World
    options: Options
    seed: int | None
    curve: bool

    def key(self) -> str:
        """What the cell's numbers depend on, in 32 digits: two cells of one key have the same numbers."""
        world, sha = self.world, hashlib.sha256()
        for array in (world.log_ref, world.r, world.mdp.mu):
            sha.update(np.ascontiguousarray(array).tobytes())
        shape = (world.mdp.vocabulary, world.mdp.H, world.mdp.eos, world.mdp.prompts, world.beta.hex())
        told = {name: getattr(self.options, name) for name in Options.__dataclass_fields__}
        sha.update(json.dumps([__version__, shape, told, self.seed, self.curve], default=str).encode())
        return sha.hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Study:
    """A grid.

    title; worlds by name; algorithms; settings, the values of each that are tried; seeds, runs of each; seed, of them all; curve,
    whether learning curves are kept; exact, whether the exact ascent is run beside the samples; measure, what is looked at; x, what
    the figure's axis is ("step", a setting, "world" or "algorithm").  Raises: InputError for what cannot be.
    """

    title: str
    worlds: Mapping[str, World]
    algorithms: tuple[str, ...] = ("sft+rm+ppo",)
    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    seeds: int = 10
    seed: int = 0
    curve: bool = False
    exact: bool = False
    measure: str = "regret"
    x: str = ""

    def __post_init__(self) -> None:
        for name in self.settings:
            if name not in (*SETTINGS, "beta"):
                remedy = did_you_mean(name, (*SETTINGS, "beta"), f"settings are beta, {', '.join(SETTINGS)}")
                raise InputError("a setting must be an option of `run`", got=quoted(name), remedy=remedy)
        whole(self.seeds, "seeds", 1, "each cell is run with so many seeds", MOST)
        whole(self.seed, "seed", 0, "0 is usual")
        for name, choices in (("measure", FIELDS), ("x", ("", "step", "world", "algorithm", *self.settings))):
            if getattr(self, name) not in choices:
                remedy = f"use one of {', '.join(filter(None, choices))}"
                raise InputError(f"{name} must be a known one", got=quoted(getattr(self, name)), remedy=remedy)
        if self.x == "step" and not self.curve:
            raise InputError('x = "step" needs the learning curves', got="curve = false", remedy="write curve = true")
        if self.size > MOST:
            raise InputError(f"a study must have at most {MOST:,} cells", got=f"{self.size:,}", remedy="vary less")
        for _ in self.points():  # a setting that cannot be is refused before anything is run
            pass

    @property
    def varied(self) -> tuple[str, ...]:
        """What is not the same in all cells, by name."""
        grid = (("world", self.worlds), ("algorithm", self.algorithms), *self.settings.items())
        return tuple(name for name, values in grid if len(values) > 1)

    @property
    def runs(self) -> int:
        """Runs at each point of the grid."""
        return self.seeds + self.exact

    @property
    def size(self) -> int:
        """Cells in all."""
        grid = [len(v) for v in self.settings.values()]
        return len(self.worlds) * len(self.algorithms) * int(np.prod(grid or [1], dtype=object)) * self.runs

    def points(self) -> Iterator[tuple[str, World, Options]]:
        """The points of the grid: the world's name, the world, the options."""
        for name, algorithm in itertools.product(self.worlds, self.algorithms):
            for values in itertools.product(*self.settings.values()):
                told = dict(zip(self.settings, values, strict=True))
                world = self.worlds[name]
                world = world.at(told.pop("beta")) if "beta" in told else world
                yield name, world, Options(algorithm=algorithm, seed=self.seed, **told)

    def cells(self) -> Iterator[Cell]:
        """All cells, in the order of the grid; at each point the seeds first, then the exact ascent."""
        numbers = itertools.count()
        for name, world, options in self.points():
            for seed in (*range(self.seeds), *([None] if self.exact else [])):
                yield Cell(next(numbers), name, world, options, seed, self.curve)


def run_cell(cell: Cell) -> list[list[Any]]:
    """The step and the exact scores (`FIELDS`) of a run, at its scored steps or at the last.

    >>> from tabular_rlhf.world import coin
    >>> rows = run_cell(Cell(0, "coin", coin(), Options(algorithm="rloo", steps=0), 0, False))
    >>> rows[0][0], round(rows[0][-1], 6)
    (0, 0.120115)
    """
    run = begin(cell.world, cell.options, cell.seed or 0)
    run = exact_curve(run) if cell.seed is None else advance(run, cell.options.steps)
    curve = run.curve if cell.curve else ((run.learner.step, run.last),)
    return [[step, *score.row] for step, score in curve]


# ---------------------------------------------------------------------------------------------------- as it goes on

Rows = list[list[Any]]
Ended = tuple[dict[int, Rows], dict[int, str]]
"""Rows of cells that are done, and faults of those that are not, by number."""


def conduct(study: Study, path: Path | None, place: Place, on_done: Callable[[int, str | None], object] = lambda n, fault: None) -> Ended:
    """All cells of a study, those done before from its journal.

    Args: path, of the journal, or None; on_done, told how many cells are done now, and of a fault.  Returns: rows and faults by cell.
    """
    cells = list(study.cells())
    keys = [cell.key() for cell in cells]
    before = known(path, "a study's journal")
    rows = {cell.number: before[key] for cell, key in zip(cells, keys, strict=True) if key in before}
    on_done(len(rows), None)
    left = [cell for cell in cells if cell.number not in rows]
    faults: dict[int, str] = {}
    with Pen(path) as pen:
        for done in run_cells(run_cell, left, place):
            cell = left[done.number]
            if done.fault is None:
                rows[cell.number] = done.value
                pen.write(keys[cell.number], done.value)
            else:
                faults[cell.number] = done.fault
            on_done(1, done.fault)
    return rows, faults


def undone(cells: Sequence[Cell], faults: dict[int, str]) -> list[str]:
    """What failed, in words, one line a cell."""
    seed = [("exact ascent" if cell.seed is None else f"seed {cell.seed}") for cell in cells]
    return [f"{c.name}, {c.options.algorithm}, {s}: {faults[c.number]}" for c, s in zip(cells, seed, strict=True) if c.number in faults]
