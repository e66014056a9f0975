"""The right formula spoiled on the inside: one of its tools exchanged for another, or one occurrence of a symbol changed.

`slips` changes a symbol everywhere and the answer as a whole.  Many mistakes are smaller: a hinge where log sigma belongs, a plain mean
where the expectation does, n - 1 for n in one exponent of two.  Neither needs the formula's source.  A tool is exchanged by giving the
function other globals; one occurrence of a symbol is changed by supplying an array that counts its uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.check.slips import UNARY, Change, alike
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters

Function = Callable[..., Any]
DEPTH = 3
"""How far helpers of helpers are followed."""
INSIDE = ("tabular_rlhf.ledger", "tabular_rlhf.exercises", "tabular_rlhf.derivations")
"""Modules whose functions are followed."""
USES = 4
"""How many uses of a symbol are told apart."""

# ---------------------------------------------------------------------------------------------------- tools


def _kl(log_p: Any, log_q: Any) -> Any:
    p = np.exp(log_p)
    return np.sum(np.where(p > 0, p * (np.where(p > 0, log_p, 0.0) - log_q), 0.0), axis=-1)


def _step(d: Any) -> Any:
    return 0.5 * (1.0 + np.sign(d))


def _deviation(log_p: Any, f: Any, *_: Any) -> Any:
    p = np.exp(log_p)
    return np.sqrt(np.sum(p * np.square(f - np.sum(p * f, axis=-1, keepdims=True)), axis=-1))


SIGMA: tuple[tuple[str, Function], ...] = (
    ("a certain winner for sigma: 1 if ahead, 0 if behind, 1/2 if level", _step),
    ("the normal distribution function (probit) for sigma", special.ndtr),
    ("log sigma for sigma", special.log_expit),
    ("sigma's slope for sigma", lambda d: special.expit(d) * special.expit(-d)),
    ("sigma's argument with the wrong sign", lambda d: special.expit(-d)),
)
LOG_SIGMA: tuple[tuple[str, Function], ...] = (
    ("the hinge max(0, 1 - margin) for -log sigma", lambda d: -np.maximum(0.0, 1.0 - d)),
    ("the probability sigma for its -log", lambda d: -special.expit(d)),
    ("the probability sigma for its log", special.expit),
    ("the squared distance of the margin from 1 for -log sigma", lambda d: -np.square(1.0 - d)),
    ("the exponential of the margin for -log sigma", lambda d: -np.exp(-d)),
    ("a certain winner for sigma: the share of pairs out of order", lambda d: -_step(-d)),
    ("log base 2 for log e", lambda d: special.log_expit(d) / np.log(2.0)),
)
SOFTPLUS = tuple((words, lambda d, f=f: -f(-d)) for words, f in LOG_SIGMA)
LOG1P = tuple((words, lambda e, f=f: f(np.log(e))) for words, f in SOFTPLUS)
"""log(1 + exp(-margin)), as -log sigma is written by hand."""
TOOLS: dict[str, tuple[tuple[str, Function], ...]] = {
    "kl": (
        ("forward for reverse KL", lambda log_p, log_q, axis=-1: _kl(log_q, log_p)),
        ("both directions of KL averaged", lambda log_p, log_q, axis=-1: 0.5 * (_kl(log_q, log_p) + _kl(log_p, log_q))),
        ("the sum of both directions of KL", lambda log_p, log_q, axis=-1: _kl(log_q, log_p) + _kl(log_p, log_q)),
        ("total variation for KL", lambda log_p, log_q, axis=-1: 0.5 * np.sum(np.abs(np.exp(log_p) - np.exp(log_q)), axis=-1)),
        ("the sum of absolute differences for KL", lambda log_p, log_q, axis=-1: np.sum(np.abs(np.exp(log_p) - np.exp(log_q)), axis=-1)),
        (
            "squared differences of probabilities for KL",
            lambda log_p, log_q, axis=-1: np.sum((np.exp(log_p) - np.exp(log_q)) ** 2, axis=-1),
        ),
        ("a plain mean of log-ratios for KL: weights p omitted", lambda log_p, log_q, axis=-1: np.mean(log_p - log_q, axis=-1)),
        ("cross-entropy for KL: the entropy is missing", lambda log_p, log_q, axis=-1: -np.sum(np.exp(log_p) * log_q, axis=-1)),
    ),
    "expect": (
        (
            "a plain mean for the expectation: weights p omitted",
            lambda log_p, f, axis=-1: np.mean(np.broadcast_to(f, log_p.shape), axis=-1),
        ),
        ("a plain sum for the expectation: weights p omitted", lambda log_p, f, axis=-1: np.sum(np.broadcast_to(f, log_p.shape), axis=-1)),
    ),
    "variance": (
        (
            "the second moment for the variance: the mean is not subtracted",
            lambda log_p, f, *_: np.sum(np.exp(log_p) * np.square(f), axis=-1),
        ),
        ("the standard deviation for the variance", _deviation),
    ),
    "logsumexp": (
        ("the maximum for log-sum-exp", lambda x, axis=-1, keepdims=False: np.max(x, axis=axis, keepdims=keepdims)),
        ("sum-exp for log-sum-exp: the log omitted", lambda x, axis=-1, keepdims=False: np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
        ("log-mean-exp for log-sum-exp", lambda x, axis=-1, keepdims=False: np.log(np.mean(np.exp(x), axis=axis, keepdims=keepdims))),
    ),
    "soft_value": (
        ("the maximum for the soft value: beta -> 0", lambda w, q, beta, axis=-1: np.max(np.where(np.isneginf(w), -np.inf, q), axis=axis)),
        ("the mean for the soft value: beta -> infinity", lambda w, q, beta, axis=-1: np.sum(np.exp(w) * q, axis=axis)),
        ("beta Z for beta log Z: the log omitted", lambda w, q, beta, axis=-1: beta * np.sum(np.exp(w + q / beta), axis=axis)),
        ("Z for beta log Z", lambda w, q, beta, axis=-1: np.sum(np.exp(w + q / beta), axis=axis)),
    ),
    "sigma": SIGMA,
    "special.expit": SIGMA,
    "log_sigmoid": LOG_SIGMA,
    "special.log_expit": LOG_SIGMA,
    "softplus": SOFTPLUS,
    "np.log1p": LOG1P,
    "np.sum": (("a mean for a sum", np.mean),),
    "np.mean": (("a sum for a mean", np.sum), ("the median for the mean", np.median)),
    "np.log": (("log base 2 for log e", np.log2), ("the logarithm omitted", lambda x: x)),
    "np.max": (("a mean for the maximum", np.mean), ("the minimum for the maximum", np.min)),
    "np.square": (("the square omitted", lambda x: x), ("the absolute value for the square", np.abs)),
    "np.sqrt": (("the square root omitted", lambda x: x),),
    "np.exp": (("1 + x for exp(x)", lambda x: 1.0 + x),),
}


class _Namespace:
    """A module with one of its functions exchanged."""

    def __init__(self, module: Any, name: str, instead: Any) -> None:
        self.__dict__.update({"_module": module, name: instead})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _names(code: CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names(c) for c in inner))


def exchanged(function: Any, tool: str, instead: Function, depth: int = DEPTH) -> Any:
    """The function with one of its tools exchanged, in itself and in the package's functions that it calls; None if it uses none."""
    if not isinstance(function, FunctionType) or not depth:
        return None
    module, _, name = tool.rpartition(".")
    used, given = _names(function.__code__), function.__globals__
    new: dict[str, Any] = {}
    if {name, module or name} <= used and (module or name) in given:
        new[module or name] = _Namespace(given[module], name, instead) if module else instead
    for other in used - set(new):
        helper = given.get(other)
        if isinstance(helper, FunctionType) and helper.__module__.startswith(INSIDE):
            found = exchanged(helper, tool, instead, depth - 1)
            new |= {} if found is None else {other: found}
    if not new:
        return None
    made = FunctionType(function.__code__, given | new, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def retooled(truth: Function) -> Iterator[tuple[str, Function]]:
    """The right formula with each of its tools exchanged in turn."""
    for tool, others in TOOLS.items():
        for words, instead in others:
            found = exchanged(truth, tool, instead)
            if found is not None:
                yield words, found


# ---------------------------------------------------------------------------------------------------- one use of a symbol


class Counted(np.ndarray):
    """An array that counts its uses in arithmetic, and stands for something else in one of them."""

    left: list[int]
    change: Callable[[Any], Any]

    def __array_finalize__(self, obj: Any) -> None:
        if obj is not None:
            self.left, self.change = getattr(obj, "left", [-1]), getattr(obj, "change", np.copy)

    def used(self) -> Any:
        """The plain values, changed if this is the use in question."""
        self.left[0] -= 1
        plain = np.asarray(self)
        return self.change(plain) if self.left[0] == -1 else plain

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*(_used(x) for x in inputs), **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func.__name__ in VIEWS:
            return super().__array_function__(func, types, args, kwargs)
        return func(*(_used(x) for x in args), **{k: _used(x) for k, x in kwargs.items()})


VIEWS = {"swapaxes", "transpose", "reshape", "expand_dims", "broadcast_to", "moveaxis", "squeeze", "shape", "ndim", "size"}


def _used(x: Any) -> Any:
    if isinstance(x, Counted):
        return x.used()
    return type(x)(_used(v) for v in x) if type(x) in (tuple, list) else x


def _counted(name: str, k: int, change: Callable[[Any], Any] | None = None, other: str = "") -> Change:
    """Use k of a symbol changed, or another symbol in its place."""

    def supplied(scope: Scope) -> dict[str, Any]:
        value = np.asarray(scope[name])
        array = (value.astype(np.float64) if value.ndim else value).view(Counted)
        array.left, array.change = [k], change or (lambda x: np.asarray(scope[other]))
        return {name: array}

    return supplied


def single_uses(truth: Function, scope: Scope) -> Iterator[tuple[str, Change]]:
    """Every way to change one use of one symbol: (words, what to supply instead)."""
    names = [n for n in parameters(truth) if n in SYMBOLS and SYMBOLS[n].level != "tool"]
    for name in names:
        number = not np.ndim(scope[name])
        for words, _, change in UNARY:
            for k in range(USES):
                missing = f"a term with {name} is missing" if change is np.zeros_like else f"{words.format(name)}, in one place"
                yield missing, _counted(name, k, change)
        for other in alike(name) if number else ():
            for k in range(USES):
                yield f"{other} for {name}, in one place", _counted(name, k, other=other)
