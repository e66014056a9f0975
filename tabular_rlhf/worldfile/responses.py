"""What a world file says of each response: tables of probabilities and rewards by its text, and a person's own Python function, named as
"module:function": found, called on readable responses, and checked."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted, raised
from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.logspace import Array, log_of
from tabular_rlhf.mdp import TokenMDP


def response_texts(mdp: TokenMDP) -> list[str]:
    """The text of every response, in order of their numbers: built level by level, as the tree is.

    >>> response_texts(TokenMDP(("a", "."), horizon=3, eos="."))
    ['.', 'a .', 'a a a', 'a a .']
    """
    texts: list[str] = []
    level = [""]
    for h in range(mdp.H):
        sep = mdp.sep if h else ""
        if h == mdp.H - 1:
            texts += [s + sep + w for w in mdp.vocabulary for s in level]
        else:
            texts += [s + sep + mdp.eos for s in level] if mdp.eos is not None else []
            level = [s + sep + w for w in mdp.vocabulary[: mdp.K] for s in level]
    return texts


def numbers(mdp: TokenMDP, table: Mapping[str, float]) -> Array:
    """The number of each response, (N,); 0 for those that are not listed.  Raises InputError for a text that no response has.

    >>> numbers(TokenMDP("ab", 1), {"b": 0.25}).tolist()
    [0.0, 0.25]
    """
    found = np.zeros(mdp.N)
    for text, number in table.items():
        found[mdp.find(text)] += number
    return found


def explicit_policy(mdp: TokenMDP, table: Mapping[str, float]) -> Array:
    """log_ref, (P, S, V), of a law that is listed; uniform in states that it never reaches.

    Raises InputError where the numbers are no probabilities.

    >>> np.exp(explicit_policy(TokenMDP("ab", 1), {"a": 0.75, "b": 0.25})).round(4).tolist()
    [[[0.75, 0.25]]]
    """
    p = numbers(mdp, table)
    total = float(np.sum(p))
    if np.any(p < 0) or abs(total - 1.0) > 1e-9:
        least = float(np.min(p))
        got = f"least {least:g}" if least < 0 else f"sum {total:.12g}"
        raise InputError("the probabilities of responses must be at least 0 and sum to 1", got=got, remedy="divide them by their sum")
    return log_policy_of(mdp, np.broadcast_to(log_of(p / total), (mdp.P, mdp.N)))


# ---------------------------------------------------------------------------------------------------- a function


def reward_by_function(spec: str, mdp: TokenMDP, folder: Path, only: int | None = None) -> Array:
    """function(text, prompt) of every response, (P, N).

    Args: spec, "module:function"; folder, searched for the module first; only, the number of the one prompt wanted (the
    other rows stay 0).  Raises: InputError where it cannot be found, raises, or returns something else than a number.
    """
    r = np.zeros((mdp.P, mdp.N))
    with _searching(folder):
        function = _find(spec, folder)
        texts = response_texts(mdp)
        for x in range(mdp.P) if only is None else [only]:
            r[x] = [_value(function, spec, text, mdp.prompts[x]) for text in texts]
    return r


def _value(function: Callable[[str, str], Any], spec: str, text: str, prompt: str) -> float:
    try:
        value = function(text, prompt)
        if isfinite(value):
            return float(value)
        got = quoted(value)
    except (Exception, SystemExit) as e:  # whatever a person's own code may raise, we say on which response
        got = raised(e)
    raise InputError(
        "a reward function must return a finite number",
        got=got,
        where=f"{spec}({text!r}, {prompt!r})",
        remedy="try it on that response alone",
    )


@contextmanager
def _searching(folder: Path) -> Iterator[None]:
    """Imports look into the folder first, also those that the function's module makes itself."""
    here, before = str(folder.resolve()), set(sys.modules)
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
        for name in set(sys.modules) - before:  # another folder may hold another module of that name
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(here + os.sep):
                del sys.modules[name]


def _find(spec: str, folder: Path) -> Callable[[str, str], Any]:
    module_name, colon, name = spec.partition(":")
    if not (colon and all(part.isidentifier() for part in [*module_name.split("."), name])):
        remedy = 'write "rewards:polite" for rewards.py'
        if colon and all(part.replace("-", "_").isidentifier() for part in [*module_name.split("."), name]):
            remedy = f"rename it: Python's names have no dash, as {spec.replace('-', '_')!r}"
        raise InputError('a function must be named as "module:function"', got=quoted(spec), remedy=remedy)
    try:
        module = _import(module_name, folder)
    except (Exception, SystemExit) as e:  # its own code may fail in any way
        remedy = "put the module next to the world file, and import it alone to see why it fails"
        raise InputError("a function's module must import", got=raised(e), where=repr(spec), remedy=remedy) from None
    function = getattr(module, name, None)
    if not callable(function):
        got = "no such name" if function is None else type(function).__name__
        raise InputError("a module must define the function", got=got, where=repr(spec), remedy=f"define {name}(text, prompt) in it")
    found: Callable[[str, str], Any] = function
    return found


def _import(name: str, folder: Path) -> ModuleType:
    """The module: the folder's own file, read afresh (a cached module of that name may come from elsewhere), or an installed one."""
    path = folder / f"{name}.py"
    if not path.is_file():
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no loader for {path}")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return module
