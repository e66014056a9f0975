r"""What is claimed of a function, tested against what was measured: nothing is repeated because it was said.

kind        its kind                                   is          the named form that it is, without a slip
ascends     E[r], H, ... at a positive speed            descends    of a KL penalty: KL(pi, ref), ...
gradient    of: something, so without curl              ends        a vertex, or the objective that is largest there
invariant   order of responses, more padding, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tabular_rlhf.audit.report import Audit
from tabular_rlhf.errors import InputError, did_you_mean, quoted


def _kind(found: Audit, claim: str) -> str:
    return "" if found.handed.kind == claim else found.handed.kind


def _is(found: Audit, claim: str) -> str:
    assert found.nearest is not None
    holds = found.nearest.exact and not found.slips and claim in found.nearest.words
    return "" if holds else "; ".join([str(found.nearest), *(s for s in found.slips if s not in found.nearest.slips)])


def _ascends(found: Audit, claim: str) -> str:
    for row in (r for r in found.rows if not r.where.startswith("stale")):
        terms = row.verdict.terms
        if not (row.verdict.exact and set(terms) == {claim} and terms[claim] > 0):
            cosine = "" if row.cosine is None else f", cosine with grad E[r] {row.cosine:.4f}"
            return f"{row.verdict} ({row.where}{cosine})"
    return "" if found.rows else "no step was measured"


def _gradient(found: Audit, claim: str) -> str:
    curled = next((r for r in found.rows if r.verdict.curl != 0.0 or "curl" in r.verdict.words), None)
    return "" if curled is None else f"curl {curled.verdict.curl or 0.0:.3g} ({curled.where}): {curled.verdict.words}"


def _ends(found: Audit, claim: str) -> str:
    for where, _, end, what in found.ends:
        if not (end.rests and (claim in what or claim in end.words)):
            return f"{end.words}{f': {what}' if what else ''} ({where})"
    return "" if found.ends else "it was not followed"


def _invariant(found: Audit, claim: str) -> str:
    known = {i.name: i for i in found.invariances}
    if claim not in known:
        remedy = did_you_mean(claim, known, f"use one of {', '.join(known)}")
        raise InputError("an invariance must be one that is measured", got=quoted(claim), remedy=remedy)
    return "" if known[claim].holds else f"{known[claim].words} ({known[claim].batch})"


CLAIMS: Mapping[str, tuple[str, Callable[[Audit, str], str]]] = {
    "kind": ("be a", _kind),
    "is": ("be", _is),
    "ascends": ("ascend", _ascends),
    "descends": ("descend", _ascends),
    "gradient": ("be the gradient of", _gradient),
    "ends": ("end at", _ends),
    "invariant": ("be invariant to", _invariant),
}
"""Kinds of claim: what a function is said to do; (audit, claim) -> what was measured instead, empty where the claim holds."""


def faults(found: Audit, claims: Iterable[tuple[str, str]]) -> list[str]:
    """What is claimed and is not so, with what was measured.  Raises InputError for a kind of claim that nobody tests.

    >>> from tabular_rlhf.audit import audit, hand_in
    >>> from tabular_rlhf.audit.library import Library
    >>> def negated(logps, advantages, mask): return (logps * advantages[:, None] * mask).sum() / len(mask)
    >>> for words in faults(audit(hand_in(negated, Library())), [("ascends", "E[r]")]): print(words)
    negated is said to ascend E[r]; measured: -E[r] (graded rewards, cosine with grad E[r] -1.0000)
    """
    out = []
    for kind, claim in claims:
        if kind not in CLAIMS:
            remedy = did_you_mean(kind, CLAIMS, f"use one of {', '.join(CLAIMS)}")
            raise InputError("a claim must be of a kind that is tested", got=quoted(kind), remedy=remedy)
        said, test = CLAIMS[kind]
        measured = test(found, claim) if found.problem is None else f"it {found.problem[0]}: {found.problem[1]}"
        if measured:
            out.append(f"{found.handed.name} is said to {said} {claim}; measured: {measured}")
    return out
