"""The report of a file of rollouts as text: three tiers, each under its own heading."""

from __future__ import annotations

from tabular_rlhf.layout import table, wrap
from tabular_rlhf.reports.solution import Record
from tabular_rlhf.rollouts.tiers import consistent
from tabular_rlhf.told import number, settled, tabled


def render(found: Record) -> str:
    """The whole report."""
    return "\n\n".join([_head(found), _certain(found), *_pairs(found), _groups(found), _candidates(found), _estimates(found)])


def _head(found: Record) -> str:
    f = found["file"]
    lines = [
        f"{f['responses']:,} responses ({f['distinct']:,} distinct) to {f['prompts']:,} prompts in {f['groups']:,} groups; "
        f"{f['tokens']:,} tokens, a trie of {f['nodes']:,} nodes.  beta = {number(found['beta'])} reward units per nat.",
    ]
    if f["cut"]:
        lines.append(f"{f['cut']:,} responses were cut off (finish: length): they are prefixes, and count as such in masses.")
    if f["malformed"]:
        shown = "; ".join(f"line {m['line']}: {m['reason']}" for m in f["malformed"][:5])
        lines.append(f"{len(f['malformed']):,} of {f['lines']:,} lines were not used: {shown}{' ...' if len(f['malformed']) > 5 else ''}.")
    return "\n".join(part for line in lines for part in wrap(line))


def _certain(found: Record) -> str:
    c = found["certain"]
    lines = ["CERTAIN, for the whole problem"]
    verdict = "one log-probability each, siblings at most 1" if consistent(found) else "NOT consistent:"
    lines.append(f"  {c['edges']:,} edges, {c['shared_edges']:,} of them said more than once: {verdict}")
    for key in ("logp", "logp_ref"):
        lines += _contradictions(key, c[f"differing_{key}"], c[f"crowded_{key}"])
    if c["covered"] is not None:
        mass = f"{number(c['covered'], '.4g')} of p, {number(c['covered_ref'], '.4g')} of p_ref"
        lines.append(f"  mass of the distinct responses: {mass} (mean over prompts)")
        lines.append(f"  log Z is at least {number(c['log_Z_at_least'])} nats (mean over prompts): no part of Z is negative")
    title = "  best of m, the mean over all subsets of m responses to a prompt"
    return "\n".join(lines) + "\n" + tabled(title, c["best_of"], ["m:.0f", "reward:.6g", "prompts:.0f"])


def _contradictions(key: str, edges: Record, nodes: Record) -> list[str]:
    """Edges with several log-probabilities, and nodes with more than all of the probability."""
    lines = []
    if edges["count"]:
        lines.append(f"    {key}: {edges['count']:,} edges with several values, up to {number(edges['largest'], '.3g')} nats apart")
        lines += [
            f"      depth {e['depth']}, token {e['token']}: {e['low']:.6g} to {e['high']:.6g} (lines {e['lines'][0]}, {e['lines'][1]})"
            for e in edges["first"]
        ]
    if nodes["count"]:
        lines.append(f"    {key}: {nodes['count']:,} nodes whose children have more than 1, up to {number(nodes['largest'], '.4g')}")
        lines += [f"      depth {e['depth']}, line {e['line']}: {e['children']} children with {e['mass']:.6g}" for e in nodes["first"]]
    return lines


def _pairs(found: Record) -> list[str]:
    """What wins, and DPO's loss, on all pairs of responses to one prompt."""
    p = found["certain"]["pairs"]
    if not p["pairs"]:
        return []
    title = f"  the {p['pairs']:,} pairs of responses to one prompt: how often the one with more of it has more reward"
    halves = ["= half without labels=label_free:.6g", "- half of labels=label_half:.6g", "labels by=labels"]
    return [
        tabled(title, p["goes_with"], ["share:.4f", "that differ=pairs:,.0f", "more of=name"]),
        tabled("  DPO on these pairs, of the policy that wrote the file: m = beta log(p/p_ref)", p["dpo"], ["loss:.6g", *halves]),
    ]


def _groups(found: Record) -> str:
    g = found["certain"]["groups"]
    size = f"{g['smallest']}" if g["smallest"] == g["largest"] else f"{g['smallest']} to {g['largest']}"
    title = f"  advantages on the real groups ({g['count']:,} of {size}; silent, all rewards equal: {g['silent']:,})"
    rows = [
        [*(number(settled(a[key], a["largest"]), ".4g") for key in ("mean", "rms", "largest")), a["name"], _recorded(a["recorded"])]
        for a in g["advantages"]
    ]
    head = ["mean", "rms", "largest", "recipe", "from the recorded ones" if any(row[-1] for row in rows) else ""]
    return table(title, head, rows, left=(3, 4)) if rows else f"{title}: too small to compare"


def _recorded(found: Record | None) -> str:
    """How far the recorded advantages are."""
    if found is None:
        return ""
    settings = ", ".join(f"{key} = {number(x)}" for key, x in found["settings"].items())
    return f"{number(found['largest_difference'], '.2g')} at most{f' ({settings})' if settings else ''}"


def _candidates(found: Record) -> str:
    c = found["candidates"]
    lines = ["EXACT FOR THE CANDIDATES ONLY: reranking.  Not an estimate of p*, which is mostly elsewhere"]
    if c["candidates"] is not None:
        before, after, best = (number(c[key]) for key in ("reward_before", "reward_after", "best"))
        by = f"E[r] {before} by p_ref, {after} by p_ref exp(r/beta), {best} for the best"
        share = f"the largest share is {number(c['largest_share'], '.3g')}"
        lines.append(f"  of {number(c['candidates'], '.3g')} candidates a prompt: {by}; {share}")
    return "\n".join(part for line in lines for part in wrap(line, then="    "))


def _estimates(found: Record) -> str:
    columns = ["=name", "unit", "value:.6g", "s.e.=standard_error:.2g", "ESS=ess:.3g", "=warning"]
    return tabled("ESTIMATES, each with its standard error", found["estimates"], columns)
