"""Places that a command will write to, checked before the work and not after it."""

from __future__ import annotations

from pathlib import Path

from tabular_rlhf.errors import InputError


def check_output(path: Path) -> None:
    """Refuse a file that is a folder, or whose folder does not exist."""
    if path.is_dir():
        raise InputError("a file to write must not be a folder", got=repr(str(path)), remedy="name a file in it")
    if not path.parent.is_dir():
        raise InputError("the folder of a file to write must exist", got=repr(str(path.parent)), remedy="make it, or choose another")


def make_folder(path: Path) -> None:
    """Make a folder, and those above it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError("a folder to write to must not be a file", got=repr(str(path)), remedy="choose another") from None
