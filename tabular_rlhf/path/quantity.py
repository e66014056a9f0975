r"""Quantities of a response that sums along its path determine, written in plain NumPy.

**Symbols.**  A *sum* is x(tau) = sum of x(s, a) along the path: L = log p/p_ref, log_p_ref, r, length.  A quantity is a finite sum

    f = sum over terms of  coefficient * monomial in the sums * exp(linear form in the sums),

a class closed under +, -, *, whole powers, and exp of what is linear: it has a linear recurrence, so its mean and variance have a sweep
(`path.sweep`).  Anything else (abs, maximum, log, comparisons) has none, and raises, by name.

Terms are kept in normal form, so that log_p - log_p_ref *is* L, digit for digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from tabular_rlhf.errors import InputError

Form = tuple[tuple[str, float], ...]
"""A linear form: (sum, coefficient) by name, without zeros."""
Monomial = tuple[tuple[str, int], ...]
"""(sum, power) by name, without zeros."""
Term = tuple[Form, Monomial]
HIGHEST = 12
"""The largest power of sums in a term."""


def _plus(a: Any, b: Any) -> Any:
    """Two forms, or two monomials' powers, added."""
    total = dict(a)
    for name, k in b:
        total[name] = total.get(name, 0) + k
    return tuple(sorted((name, k) for name, k in total.items() if k != 0))


class Quantity(np.lib.mixins.NDArrayOperatorsMixin):
    """A function of a response, as NumPy sees it.

    >>> L = Quantity.sum("L"); np.expm1(-L) + L
    exp(-L) + L - 1
    """

    __array_priority__ = 1000

    def __init__(self, terms: Mapping[Term, float]) -> None:
        self.terms = {term: c for term, c in terms.items() if c != 0}
        if any(sum(k for _, k in monomial) > HIGHEST for _, monomial in self.terms):
            raise InputError(f"powers of sums must stay below {HIGHEST + 1}", got=repr(self)[:80], remedy="draw samples of it (`sample`)")

    @staticmethod
    def sum(name: str) -> Quantity:
        """The sum of this name."""
        return Quantity({((), ((name, 1),)): 1.0})

    @staticmethod
    def of(x: Any) -> Quantity:
        """A number as a quantity, a quantity as it is."""
        if isinstance(x, Quantity):
            return x
        if np.ndim(x) != 0 or not np.isfinite(x):
            raise InputError("a path quantity must meet finite numbers only", got=x, remedy="combine it with one number at a time")
        return Quantity({((), ()): float(x)})

    @property
    def constant(self) -> float | None:
        """Its value, where it has the same for all responses."""
        return self.terms.get(((), ()), 0.0) if set(self.terms) <= {((), ())} else None

    @property
    def linear(self) -> tuple[float, Form] | None:
        """(constant, form), where it is linear in the sums."""
        if any(form or sum(k for _, k in monomial) > 1 for form, monomial in self.terms):
            return None
        form = tuple(sorted((m[0][0], c) for (_, m), c in self.terms.items() if m))
        return self.terms.get(((), ()), 0.0), form

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        rule = RULES.get(ufunc)
        if rule is None or method != "__call__" or any(v is not None for k, v in settings.items() if k != "where" or v is not True):
            refuse(ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}")
        return rule(*(x if ufunc is np.power and i == 1 else Quantity.of(x) for i, x in enumerate(inputs)))

    def __array_function__(self, function: Any, types: Any, args: Any, settings: Any) -> Any:
        if function not in (np.ones_like, np.zeros_like):
            refuse(function.__name__)
        return Quantity.of(1.0 if function is np.ones_like else 0.0)

    def __bool__(self) -> NoReturn:
        refuse("bool")

    def __float__(self) -> NoReturn:
        refuse("float")

    def __repr__(self) -> str:
        return " + ".join(_spelled(c, *term) for term, c in sorted(self.terms.items(), key=repr)).replace("+ -", "- ") or "0"


def refuse(name: str) -> NoReturn:
    """Raise, naming the operation that has no sweep."""
    remedy = "use sums, products, whole powers and exp of sums, or draw samples (`sample`), whose standard error is exact for those"
    raise InputError("a path quantity must be made of operations that have a sweep", got=f"np.{name}", remedy=remedy)


def _spelled(c: float, form: Form, monomial: Monomial) -> str:
    parts = [name if k == 1 else f"{name}^{k}" for name, k in monomial]
    if form:
        inner = " + ".join(f"{'' if k == 1 else '-' if k == -1 else f'{k:g} '}{name}" for name, k in form)
        parts.append(f"exp({inner})")
    lead = [] if parts and c == 1 else [f"{c:g}"]
    return " ".join(lead + parts)


# ---------------------------------------------------------------------------------------------------- the rules


def _add(a: Quantity, b: Quantity) -> Quantity:
    total = dict(a.terms)
    for term, c in b.terms.items():
        total[term] = total.get(term, 0.0) + c
    return Quantity(total)


def _multiply(a: Quantity, b: Quantity) -> Quantity:
    total: dict[Term, float] = {}
    for (f, m), c in a.terms.items():
        for (g, n), d in b.terms.items():
            term = (_plus(f, g), _plus(m, n))
            total[term] = total.get(term, 0.0) + c * d
    return Quantity(total)


def _scaled(a: Quantity, k: float) -> Quantity:
    return Quantity({term: k * c for term, c in a.terms.items()})


def _divide(a: Quantity, b: Quantity) -> Quantity:
    if len(b.terms) != 1:
        refuse("true_divide")
    (((form, monomial), c),) = b.terms.items()
    if monomial:
        refuse("true_divide")
    return _multiply(a, Quantity({(tuple((name, -k) for name, k in form), ()): 1.0 / c}))


def _power(a: Quantity, n: Any) -> Quantity:
    if isinstance(n, Quantity) or np.ndim(n) != 0 or n != int(n) or not 0 <= n <= HIGHEST:
        refuse("power")
    out = Quantity.of(1.0)
    for _ in range(int(n)):
        out = _multiply(out, a)
    return out


def _exp(a: Quantity) -> Quantity:
    linear = a.linear
    if linear is None:
        refuse("exp")
    return Quantity({(linear[1], ()): math.exp(linear[0])})


RULES: dict[Any, Callable[..., Quantity]] = {
    np.add: _add,
    np.subtract: lambda a, b: _add(a, _scaled(b, -1.0)),
    np.negative: lambda a: _scaled(a, -1.0),
    np.positive: lambda a: a,
    np.multiply: _multiply,
    np.true_divide: _divide,
    np.square: lambda a: _multiply(a, a),
    np.power: _power,
    np.float_power: _power,
    np.exp: _exp,
    np.expm1: lambda a: _add(_exp(a), Quantity.of(-1.0)),
    np.reciprocal: lambda a: _divide(Quantity.of(1.0), a),
}
"""What has a sweep."""
