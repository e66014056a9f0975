"""What every command answers: text for people, or one JSON object, and in both the version, the seed, and the command that gives it again.

**JSON.**  An object begins with `schema`, `version`, `seed` (null where nothing is drawn) and `command`; `commands.schemas` says what
follows.  JSON has no infinity and no nan: both are strings, "inf", "-inf" and "nan", in every command.  null means: there is none.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from tabular_rlhf import __version__
from tabular_rlhf.commands.printing import can_say, say, show, visible


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


def head(schema: str, args: argparse.Namespace) -> dict[str, Any]:
    """What every JSON object begins with.

    >>> head("tabular-rlhf/kl/1", argparse.Namespace(seed=3, words=["kl", "--seed", "3"]))["command"]
    'tabular-rlhf kl --seed 3'
    """
    return {"schema": schema, "version": __version__, "seed": getattr(args, "seed", None), "command": command(args)}


def command(args: argparse.Namespace) -> str:
    """The words that were typed."""
    return shlex.join(["tabular-rlhf", *getattr(args, "words", [])])


def as_json(schema: str, args: argparse.Namespace, found: Mapping[str, Any]) -> str:
    """The JSON object of an answer, in characters that the reader's encoding has."""
    whole = in_words({**head(schema, args), **{k: v for k, v in found.items() if k != "schema"}})
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    return text if can_say(visible(text), getattr(sys.stdout, "encoding", None)) else json.dumps(whole, indent=1, allow_nan=False)


def answer_json(schema: str, args: argparse.Namespace, found: Mapping[str, Any]) -> None:
    """Print an answer as one JSON object."""
    say(as_json(schema, args, found))


def answer_text(args: argparse.Namespace, text: object) -> None:
    """Print a report, and last how to have it again."""
    seed = getattr(args, "seed", None)
    show(f"{text}\n\nMade by tabular-rlhf {__version__}{'' if seed is None else f', seed {seed}'}: {visible(command(args))}")
