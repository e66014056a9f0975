"""numpy, torch or jax: how a table is made for the user's function, and how its value is differentiated, in the user's own library.

torch and jax are imported only here, and only where the user's file imports them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import value_and_grad
from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array

STEP = 1e-3
"""Of differences of fourth order: an error of about 1e-12."""
Scalar = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
"""(live tables, other tables), by parameter, in the library's own type -> a scalar of that type."""
Tables = Mapping[str, Array]


class Detached(Exception):
    """The value does not depend on the log-probabilities through the library's graph."""


class Library:
    """NumPy: differentiated by the gradient core, or by differences where an operation has no rule."""

    name = "numpy"
    how = "the gradient core"
    width: Any = np.float64

    def table(self, x: Any) -> Any:
        """An array or number as the library has it."""
        return np.array(self.wide(x))

    def wide(self, x: Any) -> Any:
        """An array, of the width that is asked for where it holds floats."""
        a = np.asarray(x)
        return np.array(a, dtype=self.width) if a.dtype.kind == "f" else a

    def plain(self, y: Any) -> Array:
        """What was returned, as floats."""
        return np.asarray(y, dtype=np.float64)

    def concrete(self, x: Any) -> bool:
        """Whether a table has values, and does not stand for any."""
        return isinstance(x, np.ndarray)

    def traced(self, e: BaseException) -> bool:
        """Whether an exception only says that a table has no values while the function is traced."""
        return False

    def differentiate(self, f: Scalar, live: Tables, rest: Tables, key: Hashable) -> tuple[float, dict[str, Array]]:
        """The value, and the gradient in every live table.  key: what else f depends on."""
        names, fixed = list(live), {n: self.table(x) for n, x in rest.items()}
        if self.how == "the gradient core":
            try:
                v, g = value_and_grad(lambda *xs: f(dict(zip(names, xs, strict=True)), fixed), tuple(range(len(names))))(
                    *(self.table(x) for x in live.values())
                )
                return float(np.asarray(v)), {n: np.asarray(x, dtype=float) for n, x in zip(names, g, strict=True)}
            except Exception:  # an operation without a rule; whatever the function itself raises it will raise again
                self.how = "differences of fourth order"
        return _differences(lambda tables: float(np.asarray(f(tables, fixed))), {n: self.table(x) for n, x in live.items()})


def _differences(f: Callable[[dict[str, Any]], float], live: Tables) -> tuple[float, dict[str, Array]]:
    def moved(name: str, at: tuple[int, ...], by: float) -> float:
        there = {n: np.array(x) for n, x in live.items()}
        there[name][at] += by
        return f(there)

    grads = {n: np.zeros(np.shape(x)) for n, x in live.items()}
    for n, g in grads.items():
        for at in np.ndindex(g.shape):
            g[at] = central(partial(moved, n, at), STEP)
    return f({n: np.array(x) for n, x in live.items()}), grads


class Torch(Library):
    """torch: its own autograd."""

    name, how = "torch", "torch.autograd"

    def table(self, x: Any) -> Any:
        import torch

        return torch.tensor(self.wide(x))

    def plain(self, y: Any) -> Array:
        return np.asarray(y.detach().cpu().numpy() if hasattr(y, "detach") else y, dtype=np.float64)

    def concrete(self, x: Any) -> bool:
        return True

    def differentiate(self, f: Scalar, live: Tables, rest: Tables, key: Hashable) -> tuple[float, dict[str, Array]]:
        import torch

        leaves = {n: self.table(x).requires_grad_(True) for n, x in live.items()}
        y = f(leaves, {n: self.table(x) for n, x in rest.items()})
        if not getattr(y, "requires_grad", False):
            raise Detached
        grads = torch.autograd.grad(y, list(leaves.values()), allow_unused=True)
        zero = {n: np.zeros(np.shape(x)) for n, x in live.items()}
        return float(y.detach()), zero | {n: self.plain(g) for n, g in zip(leaves, grads, strict=True) if g is not None}


class Jax(Library):
    """jax: jax.grad, with 64 bits; compiled for every shape of batch, unless the function needs values while it is traced."""

    name, how = "jax", "jax.grad"

    def __init__(self) -> None:
        self.compiled: dict[Hashable, Any] = {}
        self.compiles = True

    def table(self, x: Any) -> Any:
        import jax

        config: Any = jax.config  # untyped, so that the types are the same whether jax is installed or not
        config.update("jax_enable_x64", True)
        return jax.numpy.asarray(self.wide(x))

    def concrete(self, x: Any) -> bool:
        return False  # jax has no way to change an array in place

    def traced(self, e: BaseException) -> bool:
        return self.compiles and type(e).__module__.startswith("jax") and "Trac" in type(e).__name__

    def differentiate(self, f: Scalar, live: Tables, rest: Tables, key: Hashable) -> tuple[float, dict[str, Array]]:
        import jax

        leaves, fixed = ({n: self.table(x) for n, x in tables.items()} for tables in (live, rest))
        if self.compiles:
            try:
                v, g = self.compiled.setdefault(key, jax.jit(jax.value_and_grad(f)))(leaves, fixed)
                return float(v), {n: np.asarray(x, dtype=float) for n, x in g.items()}
            except Exception as e:
                if not self.traced(e):
                    raise
                self.compiles = False
        v, g = jax.value_and_grad(f)(leaves, fixed)
        return float(v), {n: np.asarray(x, dtype=float) for n, x in g.items()}


LIBRARIES: Mapping[str, type[Library]] = {"torch": Torch, "jax": Jax, "numpy": Library}


def library_of(source: str) -> Library:
    """The library that a file imports: torch or jax where it does, else numpy.

    >>> library_of("import torch.nn.functional as F").name, library_of("import math").name
    ('torch', 'numpy')
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as e:
        raise InputError("the file must be Python", got=str(e), remedy="run it by itself first") from None
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name.split(".")[0] for n in imports if isinstance(n, ast.Import) for a in n.names}
    names |= {(n.module or "").split(".")[0] for n in imports if isinstance(n, ast.ImportFrom)}
    return next(make() for name, make in LIBRARIES.items() if name in names or name == "numpy")
