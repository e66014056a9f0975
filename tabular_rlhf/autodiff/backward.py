r"""The walk backwards: reverse mode on one page.

A tape lists the steps c = f(a, b, ...) of a program in their order.  Walked from the last step to the first, all that reads c has been
passed when c is reached, so its sensitivity g_c = dL/dc is complete, and the rule of f sends back to each argument what is its own:

    g_a += vjp_a(g_c),      g_b += vjp_b(g_c).

That is all.  `buffers.add` adds up what comes back (large arrays as factor * g, the factor multiplied in late); `trace` makes the tape,
`rules` has a line for every operation.
"""

from __future__ import annotations

from typing import Any

from tabular_rlhf.autodiff.buffers import Sensitivity, add, private, root, scaled
from tabular_rlhf.autodiff.trace import Step, Tape, Traced

PASSED: Step = (None, None, (), {}, [])


def backward(tape: Tape, last: int, g: Any, *, once: bool = False) -> dict[int, Any]:
    """Walk the tape from step `last` to the start; return the sensitivities of the inputs, which the caller may write into.

    once: the tape is not needed again, so each step is forgotten when it has been passed and its memory used for the next.
    """
    steps, lent, inputs = tape.steps, {root(g)}, {}
    came: list[Any] = [None] * (last + 1)
    came[last] = g
    for i in range(last, -1, -1):
        here, came[i] = came[i], None
        if here is None:  # the output does not depend on this step
            continue
        rule, out, args, kwargs, parents = steps[i]
        late = type(here) is Sensitivity
        g, factor = here.total(out) if late else (here, 1.0)
        if rule is None:
            inputs[i] = private(scaled(g, factor), lent)
            continue
        if once:
            steps[i] = PASSED
        if rule.overwrites and late and here.owned and type(out) is not Traced:
            kwargs = {**kwargs, "overwrite": True}
        for position, parent in parents:
            pull = rule.vjp(position)
            if pull is None:
                raise TypeError(f"{rule.name}: argument {position} has no gradient rule; make it a plain array")
            piece = pull(g, out, *args, **kwargs)  # named, so that its memory stays until the next takes its place
            came[parent] = add(came[parent], piece, factor, args[position] if rule.broadcasts else None, g, lent)
    return inputs
