"""A reader's derivation judged as an answer: it begins and ends where it was asked to, with the letters allowed, and every line follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tabular_rlhf.check.calling import CALL, STILL, Stopped, limited, quietly
from tabular_rlhf.check.report import Counterexample, Report
from tabular_rlhf.derivations.execute import Derived, execute
from tabular_rlhf.derivations.own import executed, remedy
from tabular_rlhf.derivations.own_lines import Chain, Step, chain
from tabular_rlhf.errors import InputError, raised
from tabular_rlhf.exercises.proof import Proof
from tabular_rlhf.formula.freedoms import choices
from tabular_rlhf.formula.read import read
from tabular_rlhf.formula.say import say
from tabular_rlhf.formula.tree import Node, names
from tabular_rlhf.world import World


def judge_proof(proof: Proof, answer: str | Callable[..., Any], world: World | None = None) -> Report:
    """Judge a text, or a function that returns one.  Args: world, a reader's own, on which its lines are tried after all others.

    Raises: InputError for a world that what is asked does not apply to.

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
        found, derived = executed(chain(text, dict(proof.bind), proof.free))
    except InputError as e:
        return Report(proof.slug, "", "raises", f"It cannot be read: {e}.")
    if world is not None and derived.broken is None:
        derived = replace(execute(found.derivation, world, {}, 0), worlds=derived.worlds + 1)
    rules = (_letters, _begins, _length) if derived.broken else (_letters, _begins, _ends, _length)
    unfit = next((fault for rule in rules if (fault := rule(proof, found))), "")
    steps = [k for k, step in enumerate(found.steps, 1) if step.relation != "so"]
    if derived.broken is not None:
        share = sum(k < derived.broken for k in steps) / max(len(steps), proof.fewest)
        mended = remedy(found, derived.broken, 0)
        source = derived.steps[-1].source
        told = f"Line {derived.broken} ({source} of the text) does not follow from line {derived.broken - 1}. {mended}".strip()
        notes, shown = (unfit,) if unfit else (), _counterexample(derived)
        share = 0.0 if unfit else share
        return Report(proof.slug, "", "wrong", told, derived.worlds, notes=notes, counterexample=shown, share=share)
    if unfit:
        return Report(proof.slug, "", "wrong", unfit, derived.worlds)
    return Report(proof.slug, "", "right", f"Every line follows, on {derived.worlds} worlds.", derived.worlds)


def _called(answer: Callable[..., Any]) -> Any:
    with quietly(), limited(answer, f"it took {CALL:g} seconds", PROF=CALL, REAL=STILL * CALL):
        return answer()


def _letters(proof: Proof, found: Chain) -> str:
    """What is said of letters that may not occur."""
    used = {name for step in found.steps for name in names(step.tree)}
    banned = sorted(used & set(proof.without)) or (sorted(used - set(proof.letters) - set(found.lets)) if proof.letters else [])
    return f"It must do without {', '.join(banned)}." if banned else ""


def _begins(proof: Proof, found: Chain) -> str:
    """What is said of a derivation that begins elsewhere, or goes by another relation."""
    first, *rest = _last_chain(found)
    if not _is(first, proof.start, proof):
        return f"The chain that ends the text must begin with {proof.start}: it begins with {say(first.shown)}."
    allowed = {"=", proof.relation}
    other = next((step.relation for step in rest if step.relation not in allowed), None)
    return f"Between {proof.start} and {proof.end} only {' and '.join(sorted(allowed))} may stand: there is {other}." if other else ""


def _ends(proof: Proof, found: Chain) -> str:
    """What is said of a derivation that ends elsewhere."""
    last = found.steps[-1]
    return "" if _is(last, proof.end, proof) else f"It must end with {proof.end}: it ends with {say(last.shown)}."


def _is(step: Step, formula: str, proof: Proof) -> bool:
    """Whether a line is what was asked for, under some choice of what is free."""
    return any(_alike(step.tree, choice.rewrite(read(formula))) for choice in choices(proof.free))


def _length(proof: Proof, found: Chain) -> str:
    """What is said of one with too few steps; a line that repeats the one before is none."""
    steps = sum(not _alike(a.tree, b.tree) for a, b in pairwise(_last_chain(found)))
    return "" if steps >= proof.fewest else f"It must have {proof.fewest} steps or more: it has {steps}."


def _last_chain(found: Chain) -> tuple[Step, ...]:
    """The lines from the last one that begins a chain; what stands before are lemmas."""
    return found.steps[max(k for k, step in enumerate(found.steps) if step.relation == "so") :]


def _alike(a: Node, b: Node) -> bool:
    """Whether two trees are the same but for the order of factors and terms, and for the indices of bare letters."""
    return _form(a) == _form(b)


def _form(tree: Node) -> Any:
    """A tree without the order in which its factors and terms stand.

    >>> _form(read("a*b - c")) == _form(read("-c + b*a")), _form(read("p - q")) == _form(read("q - p"))
    (True, False)
    """
    if tree.op in ("where", "at"):
        return _form(tree.kids[0])
    for whole, parts, inverse in (("sum", ("add", "sub", "neg"), "sub"), ("product", ("mul", "div"), "div")):
        if tree.op in parts:
            found = _flat(tree, parts, inverse)
            return whole, tuple(sorted(found, key=repr))
    return tree.op, tree.value, tuple(_form(kid) for kid in tree.kids if kid.op != "over")


def _flat(tree: Node, parts: tuple[str, ...], inverse: str, sign: bool = False) -> list[Any]:
    """The terms of a sum, or the factors of a product, each with whether it is taken away, or divided by."""
    if tree.op not in parts:
        return [(sign, _form(tree))]
    first, last = tree.kids[0], tree.kids[-1]
    if tree.op == "neg":
        return _flat(first, parts, inverse, not sign)
    return _flat(first, parts, inverse, sign) + _flat(last, parts, inverse, sign ^ (tree.op == inverse))


def _counterexample(derived: Derived) -> Counterexample | None:
    """The smallest world on which the line breaks, with what the relation sees there."""
    step = derived.steps[-1]
    if derived.instance is None or not step.seen:
        return None
    labels, before, after = (list(column) for column in zip(*step.seen, strict=True))
    beside = f"line {step.number - 1}"
    return Counterexample(derived.responses, derived.instance, {}, labels, after, before, beside, step.view or "value")
