"""What every command answers: text for people, or one JSON object, and in both the version, the seed, and the command that gives it again.

**JSON.**  An object begins with `schema`, `version`, `seed` (null where nothing is drawn) and `command`; `commands.schemas` says what
follows.  How infinities, nan and what does not exist are told, `told` says.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tabular_rlhf import __version__, told
from tabular_rlhf.commands.printing import can_say, say, show, spelled, visible
from tabular_rlhf.errors import InputError


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
    whole = {**head(schema, args), **{k: v for k, v in found.items() if k != "schema"}}
    text = told.as_json(whole, indent=1)
    return text if can_say(visible(text), getattr(sys.stdout, "encoding", None)) else told.as_json(whole, indent=1, ascii_only=True)


def answer_json(schema: str, args: argparse.Namespace, found: Mapping[str, Any]) -> None:
    """Print an answer as one JSON object."""
    say(as_json(schema, args, found))


def answer_text(args: argparse.Namespace, text: object) -> None:
    """Print a report, and last how to have it again."""
    seed = getattr(args, "seed", None)
    show(f"{text}\n\nMade by tabular-rlhf {__version__}{'' if seed is None else f', seed {seed}'}: {visible(command(args))}")


def answer(
    args: argparse.Namespace, schema: str, found: Mapping[str, Any], text: Callable[[], object], *, holds: bool = True, made: bool = True
) -> int:
    """Print an answer in the form that was asked for: its JSON object, or its text, with how to have it again (made).

    Returns: the exit status, 0 if what was asked holds.
    """
    if args.json:
        answer_json(schema, args, found)
    elif made:
        answer_text(args, text())
    else:
        show(text())
    return 0 if holds else 1


def in_markdown(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command and print its report as Markdown, to paste into an issue thread: the command, then the page as it stands."""
    if getattr(args, "json", False):
        raise InputError("an answer must have one form", got="--markdown and --json", remedy="leave one of them out")
    page = io.StringIO()
    with contextlib.redirect_stdout(page):
        status = run(args)
    text = page.getvalue().rstrip()
    if text:
        fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", text))])
        whole = f"`{visible(command(args))}` (tabular_rlhf {__version__})\n\n{fence}text\n{text}\n{fence}"
        say(spelled(whole, getattr(sys.stdout, "encoding", None)))
    return status
