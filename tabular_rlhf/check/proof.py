"""A reader's derivation judged as an answer: it begins and ends where it was asked to, with the letters allowed, and every line follows."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tabular_rlhf.check.calling import CALL, STILL, Stopped, guard, has_limits, quietly
from tabular_rlhf.check.report import Counterexample, Report
from tabular_rlhf.derivations.execute import Derived, execute
from tabular_rlhf.derivations.own import in_words, mend
from tabular_rlhf.derivations.own_lines import Chain, Step, chain
from tabular_rlhf.errors import InputError, raised
from tabular_rlhf.exercises.proof import Proof
from tabular_rlhf.formula.read import read
from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.tree import Node, names, walk


def judge_proof(proof: Proof, answer: str | Callable[..., Any]) -> Report:
    """Judge a text, or a function that returns one.

    >>> from tabular_rlhf.exercises.proof import PROOFS
    >>> judge_proof(PROOFS["prove-k3"], PROOFS["prove-k3"].solution).ok
    True
    """
    try:
        text = _called(answer) if callable(answer) else answer
    except Stopped as e:
        return Report(proof.slug, "", "stopped", f"It was stopped, and is neither right nor wrong: {e}.")
    except Exception as e:  # whatever a reader's function raises
        return Report(proof.slug, "", "raises", f"It raises {raised(e)}.")
    if not isinstance(text, str):
        told = f"It must be a text, or a function that returns one: this is a {type(text).__name__}."
        return Report(proof.slug, "", "shape", told)
    try:
        found = chain(text, dict(proof.bind))
    except InputError as e:
        return Report(proof.slug, "", "raises", f"It cannot be read: {e}.")
    unfit = next((fault for fault in (_letters(proof, found), _ends(proof, found), _length(proof, found)) if fault), "")
    derived = execute(found.derivation, None, {}, 0)
    steps = [k for k, step in enumerate(found.steps, 1) if step.relation != "so"]
    if derived.broken is not None:
        share = sum(k < derived.broken for k in steps) / max(len(steps), proof.fewest)
        mended = in_words(mend(found, derived.broken))
        source = derived.steps[-1].source
        told = f"Line {derived.broken} ({source} of the text) does not follow from line {derived.broken - 1}. {mended}".strip()
        notes, shown = (unfit,) if unfit else (), _counterexample(derived)
        share = 0.0 if unfit else share
        return Report(proof.slug, "", "wrong", told, derived.worlds, notes=notes, counterexample=shown, share=share)
    if unfit:
        return Report(proof.slug, "", "wrong", unfit, derived.worlds)
    return Report(proof.slug, "", "right", f"Every line follows, on {derived.worlds} worlds.", derived.worlds)


def _called(answer: Callable[..., Any]) -> Any:
    limited = has_limits(answer)
    with quietly(), contextlib.nullcontext() if limited else guard(f"it took {CALL:g} seconds", PROF=CALL, REAL=STILL * CALL):
        return answer()


def _letters(proof: Proof, found: Chain) -> str:
    """What is said of letters that may not occur."""
    used = {name for step in found.steps for name in names(step.tree)}
    banned = sorted(used & set(proof.without)) or (sorted(used - set(proof.letters) - set(found.lets)) if proof.letters else [])
    return f"It must do without {', '.join(banned)}." if banned else ""


def _ends(proof: Proof, found: Chain) -> str:
    """What is said of a derivation that begins or ends elsewhere."""
    first, *rest = _last_chain(found)
    if not _alike(first.tree, read(proof.start)):
        return f"The chain that ends the text must begin with {proof.start}: it begins with {say(first.shown)}."
    if not _alike(found.steps[-1].tree, read(proof.end)):
        return f"It must end with {proof.end}: it ends with {say(found.steps[-1].shown)}."
    allowed = {"=", proof.relation}
    other = next((step.relation for step in rest if step.relation not in allowed), None)
    return f"Between {proof.start} and {proof.end} only {' and '.join(sorted(allowed))} may stand: there is {other}." if other else ""


def _length(proof: Proof, found: Chain) -> str:
    """What is said of one with too few steps; a line that repeats the one before is none."""
    steps = sum(not _alike(a.tree, b.tree) for a, b in pairwise(_last_chain(found)))
    return "" if steps >= proof.fewest else f"It must have {proof.fewest} steps or more: it has {steps}."


def _last_chain(found: Chain) -> tuple[Step, ...]:
    """The lines from the last one that begins a chain; what stands before are lemmas."""
    return found.steps[max(k for k, step in enumerate(found.steps) if step.relation == "so") :]


def _alike(a: Node, b: Node) -> bool:
    """Whether two trees are of the same nodes, in whatever order their factors and terms stand."""
    a, b = (tree.kids[0] if tree.op == "where" else tree for tree in (a, b))
    return a == b or _nodes(a) == _nodes(b)


def _nodes(tree: Node) -> Counter[tuple[str, Any]]:
    """The nodes of a tree, indices of bare letters aside."""
    return Counter((node.op, node.value) for _, node in walk(tree) if node.op not in ("index", "at", "over"))


def _counterexample(derived: Derived) -> Counterexample | None:
    """The smallest world on which the line breaks, with what the relation sees there."""
    step = derived.steps[-1]
    if derived.instance is None or not step.seen:
        return None
    labels, before, after = (list(column) for column in zip(*step.seen, strict=True))
    beside = f"line {step.number - 1}"
    return Counterexample(derived.responses, derived.instance, {}, labels, after, before, beside, step.view or "value")
