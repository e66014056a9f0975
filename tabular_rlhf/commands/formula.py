"""`tabular-rlhf formula "LATEX"`: what a formula is read as, over what, its value on a world, and which printed lines it equals."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from tabular_rlhf.commands.answer import answer_json, answer_text
from tabular_rlhf.commands.solve import check_draws, find_world
from tabular_rlhf.derivations.own import bound
from tabular_rlhf.formula import Formula
from tabular_rlhf.formula.axes import axis_kind
from tabular_rlhf.layout import table
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.reports.solution_text import number
from tabular_rlhf.world import NAMED

SCHEMA = "tabular-rlhf/formula/1"
SHOWN = 12


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("formula", metavar="FORMULA", help=r"LaTeX, or plain typing: '\beta \log\frac{p}{q}', 'E_p[r]'")
    parser.add_argument(
        "--world", default="rational", metavar="WORLD", help=f"a TOML file, or one of {', '.join(NAMED)} (default: rational)"
    )
    parser.add_argument("--bind", action="append", default=[], metavar="LETTER=WHAT", help="what a letter stands for: mu=p_ref, gamma=0.4")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn, the policy p among it (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    check_draws(1, args.seed)
    formula = Formula(args.formula, bindings(args.bind))
    world = find_world(args.world)
    value = np.asarray(formula.on(world, seed=args.seed, partial=True), dtype=np.float64)
    found = {
        "world": world.name,
        "beta": world.beta,
        "read_as": formula.read_as,
        "latex": formula.latex,
        "axes": list(formula.axes),
        "assumed": formula.assumed,
        "value": value.tolist(),
        "equals": equals(formula),
    }
    if args.json:
        answer_json(SCHEMA, args, found)
    else:
        answer_text(args, as_text(found, entries(value, formula.axes, world.mdp)))
    return 0


def bindings(words: Sequence[str]) -> dict[str, Any]:
    """{"gamma": 0.4, "mu": "p_ref"} from ["gamma=0.4", "mu=p_ref"].

    >>> bindings(["gamma=0.4", "mu=p_ref"])
    {'gamma': 0.4, 'mu': 'p_ref'}
    """
    return {letter: _number(what) for letter, what in bound(words).items()}


def _number(what: str) -> Any:
    try:
        return float(what)
    except ValueError:
        return what


def equals(formula: Formula) -> list[str]:
    """The printed lines of derivations with the same value on a few worlds that are unlike; none for a lone letter, or a number given."""
    from tabular_rlhf.derivations import DERIVATIONS
    from tabular_rlhf.derivations.prints import difference
    from tabular_rlhf.formula import compile
    from tabular_rlhf.ledger.worlds import generic

    if any(not isinstance(what, str | float) for what in formula.bind.values()) or not formula.tree.kids or len(formula.trees) > 1:
        return []
    numbers = [name for name, what in formula.bind.items() if not isinstance(what, str)]
    if numbers:
        return []
    made, scopes = compile(formula.tree, formula.bind), [s for s in generic(0) if s["N"] <= 16][:5]
    found = []
    for derivation in DERIVATIONS.values():
        fit = [scope for scope in scopes if derivation.applies(scope)]
        for k, line in enumerate(derivation.lines, 1):
            if len(fit) > 1 and all(not difference(made, scope, line(scope), strict=True) for scope in fit):
                found.append(f"{derivation.slug}, line {k}")
    return found


def entries(value: Any, axes: Sequence[str], mdp: TokenMDP) -> list[tuple[str, float]]:
    """The first entries of a table, each with the prompt, response, state or token that it belongs to."""
    if value.ndim != len(axes):  # several formulas: the first axis counts them
        axes = ("", *axes)
    shown = list(np.ndindex(value.shape))[:SHOWN]
    return [(", ".join(filter(None, (label(a, i, mdp) for a, i in zip(axes, index, strict=True)))), float(value[index])) for index in shown]


def label(axis: str, i: int, mdp: TokenMDP) -> str:
    """What an index stands for: a prompt if there are several, a response, a state, a token."""
    of = axis_kind(axis.rstrip("."))
    if of == "x":
        return mdp.prompts[i] if mdp.P > 1 else ""
    if of == "tau":
        return repr(mdp.text(i)) if axis != "i" or i < mdp.N else str(i)
    return f"s = {mdp.state_text(i)!r}" if of == "s" else f"a = {mdp.vocabulary[i]}" if of == "a" else str(i)


def as_text(found: dict[str, Any], rows: Sequence[tuple[str, float]]) -> str:
    """What was read, what was assumed, the value, and what it equals."""
    axes = found["axes"]
    size = int(np.size(found["value"]))
    over = f"over ({', '.join(axes)}), {size} numbers" if axes else "one number"
    more = f"\n   ... {size - len(rows)} more" if size > len(rows) else ""
    values = table("", ["", ""], [[name, number(value)] for name, value in rows], left=(0,)) if axes else number(rows[0][1])
    assumed = "\n".join(f"  {name}: {what}" for name, what in found["assumed"].items())
    same = "; ".join(found["equals"][:6]) or "no printed line of a derivation"
    return "\n".join(
        [
            f"read as  {found['read_as']}",
            f"It is {over}; on the world {found['world']}, beta = {number(found['beta'])}:",
            f"{values}{more}",
            "",
            "What the letters were taken for:",
            assumed or "  nothing",
            "",
            f"On every world that was tried it equals {same}.",
        ]
    )
