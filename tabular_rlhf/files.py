"""Files that people name: read if they are ordinary files of a size that fits, written where an ordinary file may stand.

A pipe would keep us waiting, a device has no end, a folder has no text: all are refused before a byte is read.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tabular_rlhf.errors import InputError, quoted, shown

LARGEST = 2**30
"""Bytes that are read of one file at once."""
KINDS = {
    stat.S_IFDIR: "Is a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_bytes(path: Path, what: str, kind: str = "") -> bytes:
    """The bytes of an ordinary file.  Args: what, to call it in messages; kind, of file, such as "text ".  Raises: InputError."""
    must = f"{what} must be a readable {kind}file"
    with _opened(path, must) as file:
        data = file.read(LARGEST + 1)
    _require(must, path, len(data) <= LARGEST, f"more than {LARGEST:,} bytes")
    return data


def read_text(path: Path, what: str) -> str:
    """The text of a UTF-8 file, without the byte order mark that some editors put first."""
    try:
        return read_bytes(path, what, "text ").decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        got = f"{quoted(str(path))} (bytes that are not UTF-8)"
        raise InputError(f"{what} must be a readable text file", got=got, remedy="save it as UTF-8") from None


@contextmanager
def opened(path: Path, what: str) -> Iterator[BinaryIO]:
    """An ordinary file, open for reading, or standard input if the path is `-`.  Raises: InputError."""
    must = f"{what} must be a readable file"
    if str(path) == "-":
        _require(must, path, sys.stdin is not None, "standard input is closed")
        yield sys.stdin.buffer
        return
    with _opened(path, must) as file:
        yield file


def _require(must: str, path: Path, holds: bool, reason: str) -> None:
    if not holds:
        raise InputError(must, got=f"{quoted(str(path))} ({reason})", remedy="check its path")


@contextmanager
def _opened(path: Path, must: str) -> Iterator[BinaryIO]:
    def require_ordinary(mode: int) -> None:
        _require(must, path, stat.S_ISREG(mode), KINDS.get(stat.S_IFMT(mode), "no ordinary file"))

    _require(must, path, "\0" not in str(path), "a NUL character in it")
    try:
        require_ordinary(os.stat(path).st_mode)  # before it is opened, which some devices notice
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            require_ordinary(os.fstat(file.fileno()).st_mode)  # it may have become a pipe meanwhile
            yield file
    except OSError as e:
        raise InputError(must, got=f"{quoted(str(path))} ({e.strerror or shown(e)})", remedy="check its path") from None


def damage() -> tuple[type[Exception], ...]:
    """What a zip raises as it is read that is broken, locked, or none."""
    import zipfile
    import zlib

    return zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError


def read_json(text: str | bytes) -> Any:
    """What a JSON text says, if it is told once and can be read: raises ValueError for a key that an object has twice, too.

    >>> read_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the key 'a' twice
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {quoted(next(k for k in found if keys.count(k) > 1))} twice")
    return found


# ---------------------------------------------------------------------------------------------------- writing


def check_output(path: Path) -> None:
    """Refuse, before the work and not after it, a place where no ordinary file can be written."""
    _refuse_nul(path)
    if path.is_dir():
        raise InputError("a file to write must not be a folder", got=quoted(str(path)), remedy="name a file in it")
    if path.exists() and not path.is_file():
        raise InputError("a file to write must be an ordinary one", got=quoted(str(path)), remedy="choose another")
    if not path.parent.is_dir():
        raise InputError("the folder of a file to write must exist", got=quoted(str(path.parent)), remedy="make it, or choose another")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, all or nothing: beside its place, flushed to the disk, then renamed.

    An interruption, or a full disk, leaves the old file whole.  A link is followed, and the file keeps its permissions.
    Raises: InputError, with the system's reason.
    """
    check_output(path)
    place, temporary = Path(os.path.realpath(path)), None
    try:
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name[:64]}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, place)
        temporary = None
    except OSError as e:
        got = f"{quoted(str(path))} ({e.strerror or shown(e)})"
        raise InputError("a file must be writable", got=got, remedy="check its path, and its disk") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes`, of UTF-8 with \\n at line ends on every system."""
    write_bytes(path, text.encode("utf-8"))


def _umask() -> int:
    """What new files are not allowed here: it can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def make_folder(path: Path) -> None:
    """Make a folder, and those above it."""
    _refuse_nul(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError("a folder to write to must not be a file", got=quoted(str(path)), remedy="choose another") from None


def _refuse_nul(path: Path) -> None:
    if "\0" in str(path):
        raise InputError("a path must hold no NUL character", got=quoted(str(path)), remedy="choose another")
