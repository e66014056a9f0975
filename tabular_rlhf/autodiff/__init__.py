r"""The gradient core: plain NumPy code in, exact gradients out.

**Symbols.** A program computes y = f(x) through intermediate arrays.  Write g for dL/d(array), the sensitivity of
a final scalar L to one array.  If an operation makes c from a and b, the chain rule sends g_c back to g_a and g_b:

    g_a += vjp_a(g_c),      g_b += vjp_b(g_c)          (vjp: vector-Jacobian product).

**Algorithm** (reverse mode).  Wrap x in a `Traced` array.  NumPy hands every operation on it to `__array_ufunc__`
or `__array_function__`; we run the real operation on the plain values and append one step to a tape.  Then walk the
tape backwards once, applying one-line rules from a table.  Cost: a small multiple of one evaluation of f.

**Higher derivatives.**  A rule is written in NumPy, so a rule applied to traced arrays is itself traced: `grad(grad(f))`
needs nothing new.  Each trace has its own tape; an operation is recorded on the innermost tape among its arguments, so
that nested derivatives never confuse their perturbations.

**What is refused.**  An operation without a rule raises a TypeError naming it.  Nothing is silently a constant: to
freeze a quantity, make it a separate parameter (there is no stop-gradient, so a finite difference is always a witness).
A keyword that a rule does not know of is refused too.

**Buffers may be reused.**  The tape copies the plain arrays that its rules will read, unless they are read-only: what the
program writes into them later changes nothing.  A large constant array costs no copy after `a.flags.writeable = False`.

**Subgradients** at kinks: maximum, minimum and max share the gradient equally among ties; abs has slope 0 at 0; clip has
slope 1 on the closed interval and 0 outside; std has slope 0 where all numbers are equal; so has x log y in y at x = y = 0.

>>> import numpy as np
>>> from tabular_rlhf.autodiff import grad
>>> f = lambda x: np.sum(np.exp(x) * x)
>>> [float(d) for d in grad(f)(np.array([0.0, 1.0])).round(6)]
[1.0, 5.436564]

Source: Griewank and Walther, Evaluating Derivatives (2008), ch. 3; the shape of the code follows HIPS/autograd's idea
of a table of vector-Jacobian products.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tabular_rlhf.autodiff.trace import Traced, plain, primitive

if TYPE_CHECKING:
    from tabular_rlhf.autodiff import composites, rules
    from tabular_rlhf.autodiff.derivatives import check_grad, grad, hessian, hvp, jacobian, value_and_grad, vjp
    from tabular_rlhf.autodiff.table import RULES

__all__ = [
    "RULES",
    "Traced",
    "check_grad",
    "composites",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "plain",
    "primitive",
    "rules",
    "value_and_grad",
    "vjp",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """The derivatives, and the tables that they fill, are opened when they are first asked for: most answers need no gradient."""
        if name in __all__:
            for room in ("derivatives", "table"):
                found = getattr(importlib.import_module(f"{__name__}.{room}"), name, None)
                if found is not None:
                    return found
            if name in globals():  # a room itself, which is open now
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
