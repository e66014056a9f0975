"""KEY=VALUE words, as `--set` takes them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.registry import one_of


def declare(parser: argparse.ArgumentParser, examples: str) -> None:
    """The option, which may be repeated."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"a setting: {examples}")


def settings(
    words: Iterable[str], must: str = "a setting must be KEY=VALUE with a number", remedy: str = "say, --set ddof=1"
) -> dict[str, float]:
    """The words as numbers by name.  Args: must, remedy, what is said of a word that is none.

    >>> settings(["eps=.2"])
    {'eps': 0.2}
    """
    out = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            out[key] = float(value)
        except ValueError:
            raise InputError(must, got=quoted(word), remedy=remedy) from None
    return out


def require_known(changes: Mapping[str, float], known: Iterable[str], where: str) -> None:
    """Refuse a setting that nothing has which is looked at."""
    known = list(dict.fromkeys(known))
    for key in changes:
        one_of(known, key, "a setting must belong to what is compared", where=where)
