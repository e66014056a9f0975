"""Grading a submission: each answer in a process of its own that only answers, while the judge and the truth stay here."""

from __future__ import annotations

from tabular_rlhf.grading.process import Limits
from tabular_rlhf.grading.remote import KINDS, Child, RemoteError, RemoteFunction

__all__ = ["KINDS", "Child", "Limits", "RemoteError", "RemoteFunction"]
