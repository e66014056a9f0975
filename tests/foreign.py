"""Libraries that users have and these tests may not: the one place where a test is skipped, and says why."""

from __future__ import annotations

import importlib.util

import pytest


def require(library: str) -> None:
    """Skip the test, with the reason, where torch or jax is not installed."""
    if library != "numpy" and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed here")
