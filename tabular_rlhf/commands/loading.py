"""A person's own function, named on the command line as "file.py:function" or "module:function": its file is run."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tabular_rlhf.audit.handed import Handed, Unfit, hand_in
from tabular_rlhf.audit.library import library_of
from tabular_rlhf.errors import InputError, quoted, raised

RUN = "The file is run as a program of your own is: give only files that you trust."
"""What the help of every command says that takes one."""


def is_file(name: str | None) -> bool:
    """Whether a name is that of a function in a file, and not a record's."""
    return name is not None and ".py:" in name


FILE = "or FILE.py:FUNCTION, a function of your own, which is run"
"""What the help of a command says beside the names of its records."""


def source_of(function: Callable[..., Any]) -> str:
    """The text of the file that a function stands in, also one of which some parameters are given; empty where there is none."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return Path(inspect.getsourcefile(inspect.unwrap(function)) or "").read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):
        return ""


def handed_in(where: str, changes: Mapping[str, float] | None = None) -> Handed:
    """The function at "file.py:function" with its parameters read by name.  Args: changes, of settings: those that it has are its own.

    Raises: InputError.
    """
    function = load(where)
    own = {k: x for k, x in (changes or {}).items() if k in inspect.signature(function).parameters}
    try:
        return given(function, where.rpartition(":")[2], settings=own)
    except Unfit as e:
        raise unknown(e, where) from None


def given(function: Callable[..., Any], name: str, **told: Any) -> Handed:
    """A function as it is handed in, in the library that its file asks for.  Raises: Unfit."""
    return hand_in(function, library_of(source_of(function)), name=name, **told)


def unknown(fault: Unfit, where: str) -> InputError:
    """What is said of a function whose parameters are not known."""
    return InputError("a function's parameters must be known", got=fault.words, where=where, remedy="`audit --help` lists roles")


def load(where: str) -> Callable[..., Any]:
    """The function at "module:function" or "file.py:function".  Raises InputError with what stands in the way."""
    source, _, name = where.rpartition(":")
    if not source or not name:
        raise InputError(
            "a function must be given as module:function", got=quoted(where), remedy="for example answers:regret, or answers.py:regret"
        )
    module = module_of(source)
    function = getattr(module, name, None)
    if not callable(function):
        there = [n for n, f in vars(module).items() if callable(f) and getattr(f, "__module__", None) == module.__name__]
        got = "nothing of that name" if function is None else f"a {type(function).__name__}"
        raise InputError(f"{source} must hold a function {name}", got=got, remedy=f"it holds {', '.join(there) or 'no functions'}")
    return function


def module_of(source: str) -> Any:
    """The module of a file, or of that name, run.  Raises InputError with what stands in the way."""
    try:
        if source.endswith(".py") or os.sep in source:
            path = Path(source)
            if not path.is_file():
                raise InputError("the file must exist", got=quoted(source), remedy="check the path")
            spec = importlib.util.spec_from_file_location("submission", path)  # the name that it has where it is graded
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules["submission"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        sys.path.insert(0, os.getcwd())  # as `python -m` does
        return importlib.import_module(source)
    except InputError:
        raise
    except (Exception, SystemExit) as e:
        raise InputError(f"{source} must import", got=raised(e), remedy="run it by itself first") from e
