"""What is handed in: a Python file, a notebook, a folder or a zip of them.  Of one student, as files by name; nothing of it runs here.

A folder or a zip may hold anything.  Taken are `.py` and `.ipynb` files at any depth, but no hidden ones, none behind a link, and none of a
virtual environment.  Sizes are counted as they are read, whatever an archive says of itself, and no path of an archive leads outside it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from tabular_rlhf.errors import InputError
from tabular_rlhf.files import read_bytes

LARGEST = {".py": 1_000_000, ".ipynb": 16_000_000}
"""Bytes of a file: a notebook may hold pictures."""
LARGEST_IN_ALL = 32_000_000
LARGEST_ARCHIVE = 64_000_000
LONGEST_PATH = 200
MOST_FILES, MOST_ENTRIES = 200, 5_000
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
        found = [PurePosixPath(entry.filename).parts for entry in _answers(archive, path)]
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


def _limited(stream: IO[bytes], inner: PurePosixPath) -> bytes:
    most = LARGEST[inner.suffix]
    content = stream.read(most + 1)
    if len(content) > most:
        raise InputError(f"a file of a submission must be at most {most:,} bytes", got="more", where=str(inner), remedy="leave it out")
    return content


def _of_a_folder(root: Path) -> Iterator[tuple[str, bytes]]:
    for folder, inside, names in os.walk(root):
        if "pyvenv.cfg" in names:
            inside.clear()
            continue
        inside[:] = [name for name in inside if is_answer(PurePosixPath(name, "a.py"))]
        for name in names:
            path = Path(folder, name)
            inner = PurePosixPath(path.relative_to(root).as_posix())
            if is_answer(inner) and stat.S_ISREG(path.lstat().st_mode):
                with path.open("rb") as stream:
                    yield str(inner), _limited(stream, inner)


def _of_an_archive(path: Path, under: str = "") -> Iterator[tuple[str, bytes]]:
    with _archive(path) as archive:
        for entry in _answers(archive, path):
            inner = PurePosixPath(entry.filename)
            if not under or inner.is_relative_to(under):
                with archive.open(entry) as stream:
                    yield str(inner), _limited(stream, inner)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, open; whatever is wrong with it is an InputError."""
    most = f"an archive must be at most {LARGEST_ARCHIVE:,} bytes"
    try:
        if path.stat().st_size > LARGEST_ARCHIVE:
            raise InputError(most, got="more", where=path.name, remedy="leave the data out")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            "an archive must be a zip that opens", got=str(e) or type(e).__name__, where=path.name, remedy="zip the folder again"
        ) from None


def _answers(archive: zipfile.ZipFile, path: Path) -> Iterator[zipfile.ZipInfo]:
    """The entries to read."""
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        got = f"{len(entries):,}"
        raise InputError(f"an archive must hold at most {MOST_ENTRIES:,} entries", got=got, where=path.name, remedy="leave the data out")
    for entry in entries:
        inner = PurePosixPath(entry.filename)
        if inner.is_absolute() or ".." in inner.parts or "\\" in entry.filename or PureWindowsPath(entry.filename).drive:
            raise InputError(
                "a path must stay inside its archive", got=repr(entry.filename), where=path.name, remedy="zip the folder again"
            )
        if is_answer(inner) and not entry.is_dir() and not stat.S_ISLNK(entry.external_attr >> 16):
            yield entry
