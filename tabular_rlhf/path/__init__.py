"""Exact means and variances of plain NumPy functions of a response, without a list of responses.  The chapter is in `path.sweep`."""

from __future__ import annotations

from tabular_rlhf.path.quantity import Quantity
from tabular_rlhf.path.sweep import Sums, expect, variance

__all__ = ["Quantity", "Sums", "expect", "variance"]
