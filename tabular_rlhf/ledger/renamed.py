"""Slugs that changed: a record keeps the names that it once bore, and whoever asks by an old one is told the new."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Protocol


class Slugged(Protocol):
    """A row or a derivation: its slug, and its slugs of before."""

    @property
    def slug(self) -> str: ...
    @property
    def formerly(self) -> tuple[str, ...]: ...


def today(slug: str, records: Mapping[str, Slugged]) -> str:
    """What a slug is called now: itself, or the slug of the record that once bore it, with a FutureWarning that says so.

    >>> from tabular_rlhf.derivations import DERIVATIONS
    >>> today("dpo-loss", DERIVATIONS), today("nothing", DERIVATIONS)
    ('dpo-loss', 'nothing')
    """
    if slug in records:
        return slug
    for record in records.values():
        if slug in record.formerly:
            warnings.warn(f"the {type(record).__name__.lower()} {slug} is now {record.slug}", FutureWarning, stacklevel=3)
            return record.slug
    return slug
