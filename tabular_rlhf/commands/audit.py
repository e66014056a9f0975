"""`tabular-rlhf audit FILE.py:function`: what a function of your own really optimizes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from tabular_rlhf.audit.claims import CLAIMS, faults
from tabular_rlhf.audit.field import Setting
from tabular_rlhf.audit.handed import Unfit
from tabular_rlhf.audit.report import STAGES, Audit, audit
from tabular_rlhf.audit.roles import KINDS, ROLES
from tabular_rlhf.commands.answer import answer
from tabular_rlhf.commands.loading import RUN, given, load, unknown
from tabular_rlhf.commands.options import declare_json, file_option, option, repeated
from tabular_rlhf.commands.progress import progress
from tabular_rlhf.errors import InputError, positive, quoted, whole
from tabular_rlhf.files import check_output
from tabular_rlhf.layout import fold, wrap
from tabular_rlhf.reports.audit_text import page, plain

SCHEMA = "tabular-rlhf/audit/1"
FIGURE = (".svg", ".png", ".pdf")


def configure(parser: argparse.ArgumentParser) -> None:
    roles = "\n".join(f"  {name:16} {words}" for name, words in ROLES.items())
    kinds = "\n".join(f"  {name:18} {words}" for name, words in KINDS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = fold(f"{RUN}\n\nKinds, recognized by the parameters:\n{kinds}\n\nRoles, recognized by their usual names:\n{roles}")
    where = "where your function is; torch or jax is used where the file imports it"
    parser.add_argument("function", metavar="FILE.py:FUNCTION", help=where)
    repeated(parser, "--map THEIRS=OURS", "what a parameter is: a role, see below")
    repeated(parser, "--set KEY=VALUE", "the value of another parameter: beta=0.04, loss_agg_mode=token-mean")
    parser.add_argument("--kind", help="what it is, where its parameters do not say")
    claims = f"a claim to test, of a kind {', '.join(CLAIMS)}: ascends=E[r]"
    repeated(parser, "--claim KIND=WORDS", claims)
    parser.add_argument("--ascend", action="store_true", help="its value is to be raised, not lowered")
    option(parser, "--group G", 4, "responses a prompt")
    option(parser, "--temperature T", 1.0, "at which batches are drawn")
    option(parser, "--top-p P", 1.0, "of a state's likeliest tokens with that mass")
    file_option(parser, "--figure FILE", "draw its path on the simplex (.svg, .png or .pdf)")
    declare_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.figure is not None:
        check_output(args.figure)
        if args.figure.suffix not in FIGURE:
            raise InputError("a figure must be of a known kind", got=quoted(args.figure.suffix), remedy=f"use {', '.join(FIGURE)}")
    group = whole(args.group, "--group", 1, "4 is usual", most=16)
    setting = Setting(group, positive(args.temperature, "--temperature", "logits per logit"), args.top_p)
    found = audited(args.function, pairs_of(args.map), values(args.set), args.kind, args.ascend, setting)
    if isinstance(found, Unfit):
        raise unknown(found, args.function)
    if args.figure is not None:
        if not found.ends:
            raise InputError("a figure must have a path to draw", got=found.problem or found.handed.kind, remedy="leave --figure out")
        from tabular_rlhf.figures.audited import draw_path

        draw_path(found, args.figure)
    false = faults(found, pairs_of(args.claim, "--claim must be KIND=WORDS", "say, --claim ascends=E[r]").items())
    answer(
        args,
        SCHEMA,
        plain(found) | {"faults": false},
        lambda: "\n\n".join([page(found), *("\n".join(wrap(f"CLAIMED FALSELY: {words}")) for words in false)]),
    )
    return 0 if found.status in ("right", "unnamed") and not false else 1


def audited(where: str, roles: dict[str, str], settings: dict[str, Any], kind: str | None, ascend: bool, setting: Setting) -> Audit | Unfit:
    """The audit of a function on the command line, with progress; Unfit where its parameters are not known."""
    function = load(where)
    name = where.rpartition(":")[2]
    try:
        handed = given(function, name, told_roles=roles, settings=settings, kind=kind, ascend=ascend)
    except Unfit as e:
        return e
    with progress(len(STAGES), f"audit {name}", "stage") as bar:
        return audit(handed, setting, told=lambda what: bar.update(1, what))


def pairs_of(words: Iterable[str], must: str = "--map must be THEIRS=OURS", remedy: str = "say, --map lp=logp") -> dict[str, str]:
    """A=B words as a mapping."""
    out = {}
    for word in words:
        theirs, equal, ours = word.partition("=")
        if not (theirs and equal and ours):
            raise InputError(must, got=quoted(word), remedy=remedy)
        out[theirs] = ours
    return out


def values(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE words: whole numbers, numbers, true, false, none, or text.

    >>> values(["beta=0.04", "n=8", "norm=false", "mode=token-mean"])
    {'beta': 0.04, 'n': 8, 'norm': False, 'mode': 'token-mean'}
    """
    out: dict[str, Any] = {}
    for word in words:
        key, equal, text = word.partition("=")
        if not (key and equal):
            raise InputError("a setting must be KEY=VALUE", got=quoted(word), remedy="say, --set beta=0.04")
        out[key] = {"true": True, "false": False, "none": None}.get(text.lower(), _number(text))
    return out


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
