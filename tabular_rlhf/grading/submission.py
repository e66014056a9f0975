"""What is handed in: a Python file, a notebook, a folder or a zip of them.  Of one student, as files by name; nothing of it runs here.

A folder or a zip may hold anything.  Taken are `.py` and `.ipynb` files at any depth, but no hidden ones, none behind a link, and none of a
virtual environment.  Sizes are counted as they are read, whatever an archive says of itself, and no path of an archive leads outside it.

Course sites hand out a zip of the students' zips.  So where a student's folder or zip holds no such file, the archives in it are opened,
in memory and under the same limits, `DEEPEST` deep in all.

**A class**: which of the files, folders and archives that were named are whose.  Each path is one student's; a pattern is all that fits it;
`each` says that a folder or a zip holds a class, an entry a student.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TypeVar

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.files import damage, read_bytes

LARGEST = {".py": 1_000_000, ".ipynb": 16_000_000}
"""Bytes of a file: a notebook may hold pictures."""
LARGEST_IN_ALL = 32_000_000
LARGEST_ARCHIVE = 64_000_000
LONGEST_PATH = 200
MOST_FILES, MOST_ENTRIES = 200, 5_000
P = TypeVar("P")
DEEPEST, MOST_ARCHIVES = 2, 8
"""Archives in each other, the first on the disk; archives of one student that are opened."""
TOOLS = ("site-packages", "node_modules")


@dataclass(frozen=True)
class Submission:
    """name: of what was handed in.  files: by their names in it.  sha256: of the file, or of the list of a folder's files."""

    name: str
    files: dict[str, bytes]
    sha256: str

    @property
    def alone(self) -> bool:
        """Whether it is one file, so that places need no name."""
        return len(self.files) == 1


def of(name: str, source: bytes) -> Submission:
    """A submission of one file: a notebook if it is called so, else Python."""
    suffix = ".ipynb" if name.endswith(".ipynb") else ".py"
    if len(source) > LARGEST[suffix]:
        most = f"a submission must be at most {LARGEST[suffix]:,} bytes"
        raise InputError(most, got=f"{len(source):,}", remedy="hand in the functions only")
    return Submission(name, {f"submission{suffix}": source}, hashlib.sha256(source).hexdigest())


def read(path: Path) -> Submission:
    """Whatever was handed in.  Raises InputError if it is too large, leads outside, or holds neither Python nor notebooks."""
    if "\0" not in str(path) and path.is_dir():
        return _several(path.name or path.resolve().name, _of_a_folder(path), None)
    if path.suffix == ".zip":
        return _several(path.name, _of_an_archive(path), path)
    return of(path.name, read_bytes(path, "the submission"))


def whose(path: Path) -> list[str]:
    """Of an archive of a class, the file or folder of each student: the entries of the first level, or below the folder that holds all."""
    with _archive(path) as archive:
        entries = [PurePosixPath(entry.filename) for entry in _entries(archive, path.name)]
        found = [inner.parts for inner in entries if is_answer(inner) or is_archive(inner)]
    depth = 1 if len({parts[0] for parts in found}) == 1 and all(len(parts) > 1 for parts in found) else 0
    return sorted({"/".join(parts[: depth + 1]) for parts in found})


def read_entry(path: Path, inner: str) -> Submission:
    """What one student of an archive of a class handed in."""
    return _several(PurePosixPath(inner).name, _of_an_archive(path, inner), None)


def _several(name: str, found: Iterator[tuple[str, bytes]], path: Path | None) -> Submission:
    files, folders = dict[str, bytes](), set[str]()
    for inner, content in found:
        above = {str(folder) for folder in PurePosixPath(inner).parents}
        if len(os.fsencode(inner)) > LONGEST_PATH or above & files.keys() or inner in folders:
            raise InputError("a path must be one that a folder can hold", got=repr(inner[:80]), where=name, remedy="rename the file")
        files[inner], folders = content, folders | above
        if len(files) > MOST_FILES or sum(map(len, files.values())) > LARGEST_IN_ALL:
            most = f"a submission must be of at most {MOST_FILES} files and {LARGEST_IN_ALL:,} bytes"
            raise InputError(most, got=f"more, at {inner!r}", where=name, remedy="grade each student's folder by itself")
    if not files:
        remedy = "hand in a file of Python functions, or a notebook"
        raise InputError("a submission must hold a .py or an .ipynb file", got="none", where=name, remedy=remedy)
    listed = "".join(f"{hashlib.sha256(content).hexdigest()}  {inner}\n" for inner, content in sorted(files.items()))
    digest = hashlib.sha256(listed.encode("utf-8", "surrogateescape") if path is None else read_bytes(path, "the submission"))
    return Submission(name, dict(sorted(files.items())), digest.hexdigest())


def is_answer(inner: PurePosixPath) -> bool:
    """Whether a file is one to read, by its name.

    >>> [is_answer(PurePosixPath(p)) for p in ("a/b.py", "a.ipynb", ".ipynb_checkpoints/a.ipynb", "__MACOSX/a.py", "a.pdf")]
    [True, True, False, False, False]
    """
    hidden = any(part.startswith((".", "__")) or part in TOOLS for part in inner.parts)
    return inner.suffix in LARGEST and not hidden


def is_archive(inner: PurePosixPath) -> bool:
    """Whether a file is an archive that is opened where nothing else is there to read."""
    return inner.suffix == ".zip" and is_answer(inner.with_suffix(".py"))


def _limited(stream: IO[bytes], inner: PurePosixPath) -> bytes:
    most = LARGEST.get(inner.suffix, LARGEST_ARCHIVE)
    content = stream.read(most + 1)
    if len(content) > most:
        raise InputError(f"a file of a submission must be at most {most:,} bytes", got="more", where=str(inner), remedy="leave it out")
    return content


def _of_a_folder(root: Path) -> Iterator[tuple[str, bytes]]:
    found, packed = list[Path](), list[Path]()
    for folder, inside, names in os.walk(root):
        if "pyvenv.cfg" in names:
            inside.clear()
            continue
        inside[:] = [name for name in inside if is_answer(PurePosixPath(name, "a.py"))]
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                inner = PurePosixPath(path.relative_to(root).as_posix())
                found += [path] * is_answer(inner)
                packed += [path] * is_archive(inner)
    yield from _opened(found or packed, lambda path: (PurePosixPath(path.relative_to(root).as_posix()), path.open("rb")), 0)


def _of_an_archive(path: Path, under: str = "") -> Iterator[tuple[str, bytes]]:
    with _archive(path) as archive:
        yield from _of_its_entries(archive, path.name, under, 1)


def _of_its_entries(archive: zipfile.ZipFile, name: str, under: str, depth: int) -> Iterator[tuple[str, bytes]]:
    """What an open archive holds, or the archives in it do.  Args: under, a folder or file of it; depth, of archives in each other."""
    inner = {PurePosixPath(entry.filename): entry for entry in _entries(archive, name)}
    here = [path for path in inner if not under or path.is_relative_to(under)]
    found = list(filter(is_answer, here)) or list(filter(is_archive, here))
    yield from _opened(found, lambda path: (path, archive.open(inner[path])), depth)


def _opened(found: Iterable[P], opened: Callable[[P], tuple[PurePosixPath, IO[bytes]]], depth: int) -> Iterator[tuple[str, bytes]]:
    """The files, or what is in them if they are archives."""
    for k, place in enumerate(found):
        inner, stream = opened(place)
        with stream:
            content = _limited(stream, inner)
        if is_answer(inner):
            yield str(inner), content
            continue
        if depth == DEEPEST or k == MOST_ARCHIVES:
            must = f"archives in each other must be at most {DEEPEST}, and a student's at most {MOST_ARCHIVES}"
            raise InputError(must, got="one more", where=str(inner), remedy="hand in the files, or one zip of them")
        with _archive(io.BytesIO(content), str(inner)) as archive:
            for name, text in _of_its_entries(archive, str(inner), "", depth + 1):
                yield f"{inner}/{name}", text


@contextmanager
def _archive(source: Path | io.BytesIO, name: str = "") -> Iterator[zipfile.ZipFile]:
    """A zip, open; whatever is wrong with it is an InputError."""
    most = f"an archive must be at most {LARGEST_ARCHIVE:,} bytes"
    where = source.name if isinstance(source, Path) else name
    try:
        if isinstance(source, Path) and source.stat().st_size > LARGEST_ARCHIVE:
            raise InputError(most, got="more", where=where, remedy="leave the data out")
        with zipfile.ZipFile(source) as archive:
            yield archive
    except damage() as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            "an archive must be a zip that opens", got=str(e) or type(e).__name__, where=where, remedy="zip the folder again"
        ) from None


def _entries(archive: zipfile.ZipFile, name: str) -> Iterator[zipfile.ZipInfo]:
    """The files of an archive that lie in it.  Raises InputError for a path that leads outside."""
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        got = f"{len(entries):,}"
        raise InputError(f"an archive must hold at most {MOST_ENTRIES:,} entries", got=got, where=name, remedy="leave the data out")
    for entry in entries:
        inner = PurePosixPath(entry.filename)
        if inner.is_absolute() or ".." in inner.parts or "\\" in entry.filename or PureWindowsPath(entry.filename).drive:
            raise InputError("a path must stay inside its archive", got=repr(entry.filename), where=name, remedy="zip the folder again")
        if not entry.is_dir() and not stat.S_ISLNK(entry.external_attr >> 16):
            yield entry


# ---------------------------------------------------------------------------------------------------- a class


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
        found += _students(path) if each else [(path, "")]
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


def _students(path: Path) -> list[tuple[Path, str]]:
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
