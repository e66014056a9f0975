"""The audit as a page of text, and as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.audit.ends import STILL
from tabular_rlhf.audit.report import Audit
from tabular_rlhf.fields.verdict import spelled
from tabular_rlhf.layout import table, wrap
from tabular_rlhf.told import number, parts, tabled
from tabular_rlhf.world import World


def verdict(found: Audit) -> str:
    """The one line."""
    name = found.handed.name
    if found.problem is not None:
        kind, words = found.problem
        return f"{name} {SAID.get(kind, kind)}: {words}"
    assert found.nearest is not None
    what = f"{name} is {found.nearest}"
    more = [s for s in found.slips if s not in found.nearest.slips]
    return what + (f"{' and' if found.nearest.slips else ', but'} {'; '.join(more)}" if more else "") + "."


SAID = {
    "raises": "raises an exception",
    "nan": "returns nan or inf",
    "detaches": "detaches its gradient",
    "mutates": "mutates its input",
    "random": "is random",
    "shape": "returns another shape",
    "unknown parameters": "takes unknown parameters",
}


def page(found: Audit) -> str:
    """The report for a terminal."""
    h = found.handed
    head = wrap(f"{h.name}: {h.kind}, {h.library.name}, differentiated by {h.library.how}; groups of {found.setting.G}.")
    if (found.setting.temperature, found.setting.top_p) != (1.0, 1.0):
        head.append(f"Its batches are drawn at temperature {found.setting.temperature:g}, top-p {found.setting.top_p:g}.")
    read = [f"{n} = {r}{f' ({h.layout[n]})' if n in h.layout else ''}" for n, r in h.roles.items()]
    head += wrap(f"Read as: {', '.join(read)}.")
    head += wrap(f"Assumed, for want of a default: {', '.join(f'{k} = {v:g}' for k, v in h.assumed.items())}.") if h.assumed else []
    parts = ["\n".join(head), "VERDICT\n" + "\n".join(wrap(verdict(found)))]
    return "\n\n".join(parts + ([] if found.problem else _measured(found)))


def _measured(found: Audit) -> list[str]:
    parts = []
    if found.rows:
        does = "DESCENDS" if found.handed.kind == "KL penalty" else "ASCENDS"
        cells = [
            [r.where, v.words, "" if v.exact else spelled(v.terms), "" if v.exact else number(v.residual, ".3g")]
            + [number(v.curl, ".3g"), number(r.cosine, ".4f")]
            for r in found.rows
            for v in [r.verdict]
        ]
        parts.append(table(f"WHAT IT {does}, measured", ["", does.lower(), "nearest", "residual", "curl", "cosine"], cells, left=(0, 1, 2)))
    for where, world, end, what in found.ends:
        parts.append("\n".join(_end(where, world, end, what)))
    if found.rewards:
        zero = found.rewards[0]
        gaps = [[number(r), number(f), number(r - zero[0]), number(f - zero[1])] for r, f in found.rewards]
        parts.append(table("THE REWARDS THAT IT FITS, from all pairs", ["true", "fitted", "true gap", "fitted gap"], gaps))
    holds = ("", lambda i: "yes" if i.holds else "no", "")
    title = "WHAT IT IS INVARIANT TO, with the smallest batch that shows a change"
    parts.append(tabled(title, found.invariances, ["=name", holds, "=words", "batch"]))
    if found.variance:
        told = "; ".join(f"{name} {number(v, '.4g')}" for name, v in found.variance)
        parts.append("\n".join(wrap(f"Variance of one batch's step, along grad E[r] of length 1, exact: {told}.")))
    return parts


def _end(where: str, world: World, end: Any, what: str) -> list[str]:
    law = ", ".join(f"{world.mdp.text(k)!r} {p:.4g}" for k, p in enumerate(np.exp(end.log_p[0])))
    still = f"the velocity there is {end.velocity:.1g} of the first step's, rounding {STILL:g}"
    proof = still if end.rests else "no place of rest was proved"
    head = f"WHERE IT LEADS ({where}; world {world.name}, beta = {world.beta:g})"
    return [*wrap(head), *wrap(f"{end.words[0].upper() + end.words[1:]}: {law}{f'; {what}' if what else ''} ({proof}).")]


def plain(found: Audit) -> dict[str, Any]:
    """The audit as plain values."""
    h, n = found.handed, found.nearest
    nearest = None if n is None else parts(n, "words", "exact", "scale", "penalty", "residual")
    return {
        "function": h.name,
        "kind": h.kind,
        "library": h.library.name,
        "differentiated_by": h.library.how,
        "roles": dict(h.roles),
        "layout": dict(h.layout),
        "settings": {k: v for k, v in h.settings.items() if isinstance(v, int | float | str | bool) or v is None},
        "assumed": dict(h.assumed),
        "group": found.setting.G,
        "status": found.status,
        "verdict": verdict(found),
        "slips": found.slips if found.problem is None else [],
        "nearest": nearest,
        "ascends": [
            {
                "where": r.where,
                **parts(r.verdict, "words", "exact"),
                "terms": dict(r.verdict.terms),
                **parts(r.verdict, "share", "residual", "curl"),
                **parts(r, "cosine", "ratio"),
            }
            for r in found.rows
        ],
        "ends": [
            {"where": w, "words": e.words, "rests": e.rests, "p": np.exp(e.log_p).tolist(), "velocity": e.velocity, "what": what}
            for w, _, e, what in found.ends
        ],
        "rewards": [{"true": a, "fitted": b} for a, b in found.rewards],
        "invariances": [parts(i, "name", "holds", "words", "batch") for i in found.invariances],
        "variance": dict(found.variance),
    }
