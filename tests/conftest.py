"""What every test runs under: numerical accidents are errors, examples are reproducible, and nothing is left on disk."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator

# Hypothesis writes a folder even where it keeps no database, unless it is told before it is imported where to write.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(tempfile.gettempdir(), "tabular-rlhf-hypothesis"))

# Whatever a test starts may keep its bytecode: compiling the package again takes each child longer than its work.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Pages are as wide as the terminal; whose terminal runs the tests, or how many processes do, is not to matter.
os.environ["COLUMNS"] = "100"

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Functions of a trainer's own are opened where their library is.
collect_ignore = [f"audit_{library}.py" for library in ("torch", "jax") if importlib.util.find_spec(library) is None]

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("dev", deadline=None, database=None, max_examples=25, suppress_health_check=_QUIET)
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, max_examples=40)
settings.register_profile("thorough", parent=settings.get_profile("dev"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def numerical_accidents_are_errors() -> Iterator[None]:
    """A division by zero, an overflow or an invalid operation that the code did not expect and guard fails the test."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that gives every test the same draws."""
    return np.random.default_rng(20240229)
