r"""A saved run: one .npz file that holds everything a run is, written atomically, and refused by name if it is damaged or foreign.

**Contents.**  `header` (JSON as bytes): schema, world (its name or path, a digest of its arrays, beta), options, and for each
run its step, its generator's state and the scores before the core.  Arrays: for each run, what it learned and what people gave it.
`checksum`: SHA-256 of all the rest.  Nothing is pickled, so reading a file never runs code.

**Atomic.**  The file is written beside its place, flushed to the disk and renamed: an interruption leaves the old file or the new one.

**Bits.**  Numbers are stored as they are, so a resumed run draws and computes what the uninterrupted one would have.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted, raised, shown
from tabular_rlhf.files import LARGEST, check_output, damage, read_bytes, read_json, write_bytes
from tabular_rlhf.lattice import LatticeWorld
from tabular_rlhf.lattice.draws import Drawn
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.simulator.record import Data, Learner, Options, PathTask
from tabular_rlhf.simulator.scoring import Score
from tabular_rlhf.simulator.stages import AnyRun, Run, prepare, prepare_paths
from tabular_rlhf.world import World

SCHEMA = "tabular-rlhf/run/1"
LEARNED = ("logits", "first", "second", "baseline", "counts")
PAIRS = ("x", "w", "l", "weight")
Arrays = dict[str, Any]


def digest(world: World | LatticeWorld) -> str:
    """What a world is, in 64 hexadecimal digits: its tokens and prompts, reference, reward, prompt distribution and beta."""
    x = world.mdp if isinstance(world, World) else world.language
    words = json.dumps([x.vocabulary, x.prompts, x.H, x.eos, x.sep, world.beta])
    told = {"words": np.frombuffer(words.encode(), np.uint8), "mu": world.mu}
    if isinstance(world, World):
        return _checksum({**told, "log_ref": world.log_ref, "r": world.r})
    levels = {f"{k}.{name}": getattr(level, name) for k, level in enumerate(world.distinct) for name in ("child", "log_ref", "r")}
    return _checksum({**told, **levels, "roots": world.roots})


def _checksum(arrays: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {a.dtype.str} {a.shape} ".encode())
        total.update(a.tobytes())
    return total.hexdigest()


# ---------------------------------------------------------------------------------------------------- writing


def save(path: Path, runs: Sequence[AnyRun], place: str) -> None:
    """Write the runs.  Args: place, the name or path by which the world is found again."""
    check_path(path)
    task = runs[0].task
    header = {
        "schema": SCHEMA,
        "world": {"place": place, "beta": task.world.beta, "digest": digest(task.world)},
        "options": asdict(task.options),
        "runs": [{"step": r.learner.step, "rng": r.rng.bit_generator.state, "stages": [(n, s.row) for n, s in r.stages]} for r in runs],
    }
    arrays: Arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    for k, run in enumerate(runs):
        arrays |= {f"{k}.{name}": a for name, a in _arrays(run).items()}
    arrays["checksum"] = np.frombuffer(_checksum(arrays).encode(), np.uint8)
    whole = io.BytesIO()
    np.savez(whole, **arrays)
    write_bytes(path, whole.getvalue())


def _arrays(run: AnyRun) -> Arrays:
    out: Arrays = {name: getattr(run.learner, name) for name in LEARNED}
    out["curve"] = np.array([(t, *s.row) for t, s in run.curve])
    if isinstance(run.task, PathTask):
        compared = {} if run.task.compared is None else {f"compared.{f.name}": getattr(run.task.compared, f.name) for f in fields(Drawn)}
        return {**out, **compared, "demonstrations": run.task.demonstrations}
    data, pairs = run.task.data, run.task.data.pairs
    out |= {"demonstrations": data.demonstrations, "reward": data.reward}
    if pairs is not None:
        out |= {f"pairs.{name}": getattr(pairs, name) for name in PAIRS}
    return out


def check_path(path: Path) -> None:
    """Refuse a place where nothing can be saved, before the work."""
    if path.suffix != ".npz":
        raise InputError("a saved run must be an .npz file", got=quoted(str(path)), remedy="end its name in .npz")
    if not path.parent.is_dir():
        raise InputError("the folder of a saved run must exist", got=quoted(str(path.parent)), remedy="make it, or choose another")
    check_output(path)


# ---------------------------------------------------------------------------------------------------- reading


def load(path: Path, find_world: Callable[[str], World | LatticeWorld]) -> tuple[list[AnyRun], str]:
    """The runs of a file, and the place of their world.

    Raises: InputError for a file that is missing, damaged, foreign, or of another world.
    """
    arrays = _read(path)
    head = _header(path, arrays)
    place = head["world"]["place"]
    world = find_world(place).at(head["world"]["beta"])
    if digest(world) != head["world"]["digest"]:
        remedy = "put the world back as it was, or start again"
        raise InputError("a run must be resumed in the world it began in", got="another world", where=f"{path}, {place}", remedy=remedy)
    try:
        options = Options(**head["options"])
        return [_run(world, options, told, arrays, f"{k}.") for k, told in enumerate(head["runs"])], place
    except (KeyError, TypeError) as e:
        raise _foreign(path, raised(e)) from None


def _read(path: Path) -> Arrays:
    if not path.exists():
        raise InputError("the saved run must exist", got=quoted(str(path)), remedy="check its path, or make one with --save")
    data = io.BytesIO(read_bytes(path, "the saved run"))
    try:
        if sum(part.file_size for part in zipfile.ZipFile(data).infolist()) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes when unpacked")
        with np.load(data, allow_pickle=False) as file:
            return dict(file)
    except damage() as e:
        remedy = "restore it from a copy, or start again without --resume"
        raise InputError("a saved run must be whole", got=raised(e), where=str(path), remedy=remedy) from None


def _foreign(path: Path, got: str) -> InputError:
    return InputError(f"a saved run must have the schema {SCHEMA}", got=got, where=str(path), remedy="resume a file that --save wrote")


def _header(path: Path, arrays: Arrays) -> Any:
    """The header, if the file is one of ours and as it was written."""
    for name in ("header", "checksum"):
        if name not in arrays:
            raise _foreign(path, f"no {name}")
    told = arrays.pop("checksum").tobytes().decode(errors="replace")
    if _checksum(arrays) != told:
        raise InputError(
            "a saved run must be as it was written",
            got="another checksum",
            where=str(path),
            remedy="restore it from a copy, or start again",
        )
    try:
        head = read_json(arrays["header"].tobytes())
    except ValueError as e:
        raise _foreign(path, f"a header that is no JSON: {shown(e)}") from None
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise _foreign(path, quoted(head.get("schema") if isinstance(head, dict) else head))
    return head


def _run(world: World | LatticeWorld, options: Options, told: Any, arrays: Arrays, mark: str) -> AnyRun:
    mine = {name.removeprefix(mark): a for name, a in arrays.items() if name.startswith(mark)}
    learned = Learner(told["step"], *(mine[name] for name in LEARNED))
    rng = np.random.default_rng()
    rng.bit_generator.state = told["rng"]
    stages = tuple((name, Score(*row)) for name, row in told["stages"])
    curve = tuple((int(row[0]), Score(*map(float, row[1:]))) for row in mine["curve"])
    if not isinstance(world, World):
        seen = "compared.x" in mine
        compared = Drawn(**{f.name: mine[f"compared.{f.name}"] for f in fields(Drawn)}) if seen else None
        return Run(prepare_paths(world, options, mine["demonstrations"], compared), learned, rng, stages, curve)
    x, w, l, weight = (mine.get(f"pairs.{name}") for name in PAIRS)
    pairs = None if x is None or w is None or l is None or weight is None else Pairs(x, w, l, weight, options.comparisons)
    return Run(prepare(world, options, Data(mine["demonstrations"], pairs, mine["reward"])), learned, rng, stages, curve)
