"""How far the work is, on stderr: a bar on a terminal; a line every few seconds in a pipe or a file, where a bar is a mess."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tabular_rlhf.commands.printing import say

PAUSE = 5.0
"""Seconds between two lines."""


class Lines:
    """Progress in lines."""

    def __init__(self, total: int, what: str, unit: str) -> None:
        self.total, self.what, self.unit, self.done = total, what, unit, 0
        self.began = self.told = time.monotonic()

    def update(self, n: int = 1, note: str = "") -> None:
        """`n` more are done."""
        self.done += n
        now = time.monotonic()
        if now - self.told >= PAUSE:
            self.told = now
            far = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}s, {now - self.began:.0f} s"
            say(f"{far}{f' ({note})' if note else ''}", sys.stderr)
            sys.stderr.flush()


class Bar:
    """Progress as a bar."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def update(self, n: int = 1, note: str = "") -> None:
        """`n` more are done."""
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(n)


class Silent:
    """Progress that nobody can be told of."""

    def update(self, n: int = 1, note: str = "") -> None:
        """`n` more are done."""


@contextmanager
def progress(total: int, what: str, unit: str) -> Iterator[Lines | Bar | Silent]:
    """Tell of `total` units of work, from one command."""
    if sys.stderr is None:  # it was closed
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines(total, what, unit)
    else:
        from tqdm import tqdm

        with tqdm(total=total, desc=what, unit=unit, file=sys.stderr, leave=False) as bar:
            yield Bar(bar)
