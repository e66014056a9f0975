"""`tabular-rlhf index WORD...`: find a function, symbol, claim, derivation, exercise, loss or other record by a word."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import tabular_rlhf
from tabular_rlhf.commands.answer import answer_json
from tabular_rlhf.commands.options import declare_json
from tabular_rlhf.commands.printing import show
from tabular_rlhf.errors import InputError, nearest, quoted
from tabular_rlhf.told import tabled

SCHEMA = "tabular-rlhf/index/1"
MOST = 40
"""Entries that are printed (--json has all)."""


@dataclass(frozen=True)
class Entry:
    """Something that can be found: its kind, its name, what it says, and where there is more."""

    kind: str
    name: str
    says: str
    more: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("asked", nargs="+", metavar="WORD", help="all of them must be there, in any case")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 1 if there is nothing."""
    asked = args.asked
    if not all(word.strip() for word in asked):
        raise InputError("a word must have letters", got=quoted(" ".join(asked)), remedy="say, tabular-rlhf index regret")
    every = entries()
    found = looked_up(asked, every)
    if args.json:
        answer_json(SCHEMA, args, {"words": asked, "found": [asdict(e) for e in found]})
    elif found:
        show(as_text(found))
    else:
        close = ", ".join(nearest(asked[0], sorted({e.name for e in every})))
        show(f"Nothing holds {' and '.join(map(repr, asked))}." + (f"  Near: {close}." if close else ""))
    return 0 if found else 1


def looked_up(words: Sequence[str], every: Sequence[Entry]) -> list[Entry]:
    """The entries with all words: those of that name first, then those whose name has them, then the others."""
    asked = [word.casefold() for word in words]

    def rank(e: Entry) -> int:
        name = e.name.casefold()
        return 0 if [name] == asked else 1 if all(word in name for word in asked) else 2

    found = [e for e in every if all(word in f"{e.name} {e.says}".casefold() for word in asked)]
    return sorted(found, key=rank)


def as_text(found: Sequence[Entry]) -> str:
    left = len(found) - MOST
    more = [f"and {left:,} more: give another word, or --json"] if left > 0 else []
    return "\n".join([tabled("", found[:MOST], ["=kind", "name", "says", "more"]), *more])


# ---------------------------------------------------------------------------------------------------- what there is


@lru_cache(maxsize=1)
def entries() -> tuple[Entry, ...]:
    """Every record of every registry, and every public function and class."""
    return (*of_the_course(), *of_the_family(), *of_the_source(Path(tabular_rlhf.__file__).parent))


def of_the_course() -> Iterator[Entry]:
    from tabular_rlhf.derivations import DERIVATIONS
    from tabular_rlhf.exercises import every
    from tabular_rlhf.ledger import LEDGER
    from tabular_rlhf.symbols import SYMBOLS
    from tabular_rlhf.tex import plain

    yield from (Entry("claim", row.slug, plain(row.statement), f"verify {row.slug} --explain") for row in LEDGER.values())
    yield from (Entry("derivation", d.slug, d.title, f"derive {d.slug}") for d in DERIVATIONS.values())
    yield from (Entry("exercise", e.slug, e.title, f"exercises {e.slug}") for e in every().values())
    yield from (Entry("symbol", s.name, s.meaning, f"symbols {s.name}") for s in SYMBOLS.values())


def of_the_family() -> Iterator[Entry]:
    from tabular_rlhf.estimators import ESTIMATORS
    from tabular_rlhf.figures import all_figures
    from tabular_rlhf.losses import LOSSES
    from tabular_rlhf.losses.rewards import REWARD_LOSSES
    from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, BATCHES, CORRECTIONS
    from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
    from tabular_rlhf.tex import plain
    from tabular_rlhf.world import NAMED

    for loss in (*LOSSES.values(), *REWARD_LOSSES.values()):
        yield Entry("loss", loss.name, f"{plain(loss.latex)}; {loss.source}", f"losses {loss.name}")
    for parts in (ADVANTAGES, AGGREGATIONS, POLICY_LOSSES, CORRECTIONS, BATCHES):
        for part in parts.values():
            kind = parts.kind
            yield Entry(kind, part.name, f"{part.remark}; {part.source}", f"advantage {part.name}")
    for estimator in ESTIMATORS.values():
        yield Entry("estimator", estimator.name, f"{plain(estimator.latex)}; {estimator.source}", f"kl --estimator {estimator.name}")
    for figure in all_figures().values():
        yield Entry("figure", figure.name, figure.said.caption, f"figures {figure.name}")
    for name, make in NAMED.items():
        yield Entry("world", name, (make.__doc__ or "").split("\n")[0], f"solve {name}")


def of_the_source(package: Path) -> Iterator[Entry]:
    """Public functions and classes with the first line of their docstring, read and not imported."""
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package.parent).with_suffix("")
        module = ".".join(place.parts[:-1] if place.name == "__init__" else place.parts)
        if module.startswith(("tabular_rlhf.commands", "tabular_rlhf.bench")):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                told = (ast.get_docstring(node) or "").split("\n")[0]
                if told:
                    yield Entry("class" if isinstance(node, ast.ClassDef) else "function", node.name, told, module)
