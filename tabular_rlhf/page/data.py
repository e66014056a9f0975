"""All data of the page: a section each, and how they are written into the file."""

from __future__ import annotations

from typing import Any

from tabular_rlhf import told
from tabular_rlhf.page import derivation, flags, tilt, zoo

SCHEMA = "tabular-rlhf/page/1"


def compute() -> dict[str, Any]:
    """Everything that the page can show: some fifteen seconds of work, most of it projections and flows."""
    return {"schema": SCHEMA, "tilt": tilt.compute(), "flags": flags.compute(), "zoo": zoo.compute(), "derivation": derivation.compute()}


def as_json(data: dict[str, Any]) -> str:
    r"""The text inside the page's script element: one line a section, and no "</" that would end the element.

    >>> print(as_json({"tilt": {"p": ["0.5"]}, "math": "<mi>x</mi>"}))
    {
    "tilt":{"p":["0.5"]},
    "math":"<mi>x<\/mi>"
    }
    """
    lines = [f"{_dump(key)}:{_dump(value)}" for key, value in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def _dump(value: Any) -> str:
    return told.as_json(value, tight=True).replace("</", r"<\/")
