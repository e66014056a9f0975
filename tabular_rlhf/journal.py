"""A journal: work that is done is written down at once, one line each, so that an interruption loses none and nothing is done twice.

A line is {"key", "value"}; a key says all that the value depends on, and numbers are written so that they are read back to the bit.
What an interruption leaves of a last line is cut off.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tabular_rlhf.errors import InputError, quoted, shown
from tabular_rlhf.files import check_output, read_bytes


def known(path: Path | None, what: str) -> dict[str, Any]:
    """The values in a journal, by key.  Its last line may have been cut off, and is then removed.

    Args: path, or None for no journal; what, to call it in messages.
    """
    if path is None:
        return {}
    if not path.exists():
        check_output(path)
        return {}
    data = read_bytes(path, what)
    whole, _, rest = data.rpartition(b"\n")
    found: dict[str, Any] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            told = json.loads(line)
            found[told["key"]] = told["value"]
        except (ValueError, KeyError, TypeError, RecursionError):
            remedy = "choose another place for it, or remove the file"
            got = quoted(line[:60].decode("utf-8", "replace"))
            raise InputError(f"{what} must be its own", got=got, where=f"{path}, line {number}", remedy=remedy) from None
    if rest:
        os.truncate(path, len(data) - len(rest))
    return found


class Pen:
    """Writes lines at the end of a journal, each at once; nowhere if there is none."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.handle: int | None = None

    def __enter__(self) -> Pen:
        if self.path is not None:
            try:
                self.handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            except OSError as e:
                got = f"{quoted(str(self.path))} ({e.strerror or shown(e)})"
                raise InputError("a file must be writable", got=got, remedy="check its path, and its disk") from None
        return self

    def write(self, key: str, value: Any) -> None:
        """One value, in one writing: an interruption falls before or after it, or is cut off when the journal is read."""
        if self.handle is not None:
            os.write(self.handle, (json.dumps({"key": key, "value": value}) + "\n").encode())

    def __exit__(self, *_: object) -> None:
        if self.handle is not None:
            os.close(self.handle)
