"""A class: which of the files, folders and archives that were named are whose.

Each path is one student's; a pattern is all that fits it; `each` says that a folder or a zip holds a class, an entry a student.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.grading.submission import LARGEST, Submission, read, read_entry, whose

HANDED_IN = (*LARGEST, ".zip")


@dataclass(frozen=True)
class Student:
    """name, as the class's tables call them; path, of what was handed in; inner, the entry of an archive of a class."""

    name: str
    path: Path
    inner: str = ""

    def read(self) -> Submission:
        """What was handed in.  Raises InputError."""
        return read_entry(self.path, self.inner) if self.inner else read(self.path)


def roster(words: Sequence[str], each: bool = False) -> list[Student]:
    """The students, in the order named, and each pattern's and folder's by name.

    Args: words, paths and patterns; each, whether a folder or a zip is of a class.  Raises: InputError where there is nothing.
    """
    found: list[tuple[Path, str]] = []
    for path in dict.fromkeys(path for word in words for path in _matches(word)):
        found += _entries(path) if each else [(path, "")]
    names = _names(found)
    return [Student(name, path, inner) for name, (path, inner) in zip(names, found, strict=True)]


def _matches(word: str) -> list[Path]:
    """The paths that a word names: itself, or, where there is no such file, those that fit the pattern."""
    if "\0" in word or os.path.lexists(word) or not glob.has_magic(word):
        return [Path(word)]
    found = sorted(glob.glob(word))
    if not found:
        raise InputError("a pattern must fit some file", got=quoted(word), remedy="check the path")
    return [Path(path) for path in found]


def _entries(path: Path) -> list[tuple[Path, str]]:
    """A student for each entry of a folder or a zip."""
    if path.is_dir():
        inside = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "__")))
        found = [(entry, "") for entry in inside if entry.is_dir() or entry.suffix in HANDED_IN]
    elif path.suffix == ".zip":
        found = [(path, inner) for inner in whose(path)]
    else:
        raise InputError("a class must be a folder or a zip", got=quoted(str(path)), remedy="leave --each out for a student's file")
    if not found:
        raise InputError("a class must hold a student's file or folder", got="none", where=str(path), remedy="name the folder above them")
    return found


def _names(found: Sequence[tuple[Path, str]]) -> list[str]:
    """The shortest names that tell all apart: of the file, with its ending, with the folders above it."""
    parts = [PurePosixPath(inner) if inner else PurePosixPath(path.as_posix()) for path, inner in found]
    above = os.path.commonpath([str(part.parent) for part in parts]) if len({p.is_absolute() for p in parts}) == 1 else ""
    ways: tuple[Callable[[PurePosixPath], str], ...] = (
        lambda p: p.stem if p.suffix in HANDED_IN else p.name,
        lambda p: p.name,
        lambda p: os.path.relpath(p, above) if above else str(p),
    )
    for way in ways:
        names = [way(part) or str(part) for part in parts]
        if len({name.casefold() for name in names}) == len(names):
            return names
    return [f"{name} ({k})" for k, name in enumerate(names, 1)]
