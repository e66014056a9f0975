"""Numbers for JSON, which has no infinity and no nan."""

from __future__ import annotations

from typing import Any


def in_words(found: Any) -> Any:
    """A record of plain values in which an infinity or a nan is a string.

    >>> in_words({"exact": [1.0, float("-inf")], "z": None})
    {'exact': [1.0, '-inf'], 'z': None}
    """
    if isinstance(found, dict):
        return {k: in_words(v) for k, v in found.items()}
    if isinstance(found, list | tuple):
        return [in_words(v) for v in found]
    return str(found) if isinstance(found, float) and not abs(found) < float("inf") else found
