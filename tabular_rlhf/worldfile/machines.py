"""A world file as machines: what is never listed, whatever its horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabular_rlhf.language import Language
from tabular_rlhf.machines import Machine, constant, length, matches, minimize, ngram, phrases, product, uniform
from tabular_rlhf.worldfile.toml import Source


def patterns(table: Mapping[str, Any]) -> dict[str, float]:
    """The patterns of a reward table with their weights: a pattern alone earns 1."""
    asked = table.get("matches", {})
    return {asked: 1.0} if isinstance(asked, str) else asked


def payments(source: Source, language: Language, table: Mapping[str, Any], place: str) -> list[Machine]:
    """The machines of one reward table."""
    made = [constant(language, table["constant"])] if table.get("constant") else []
    made += [length(language, table["length"])] if table.get("length") else []
    for key in ("phrases", "tokens"):
        for phrase, weight in table.get(key, {}).items():
            with source.locating(place, key):
                made.append(phrases(language, {(phrase,) if key == "tokens" else phrase: weight}))
    for pattern, weight in patterns(table).items():
        with source.locating(place, "matches"):
            made.append(matches(language, pattern, weight))
    return made


def speaker(
    source: Source, language: Language, table: Mapping[str, Any], sentences: list[list[str]] | None, place: str, defaults: tuple[int, float]
) -> Machine:
    """The machine of one reference table.  Args: sentences, None for a uniform policy; defaults, order and smoothing."""
    if sentences is None:
        made = uniform(language)
    else:
        with source.locating(place):
            joined = [language.sep.join(s) for s in sentences]
            made = ngram(language, joined, table.get("order", defaults[0]), table.get("smoothing", defaults[1]))
    with source.locating(place, "forbid"):
        return made.forbid(language.parse(table["forbid"])) if table.get("forbid") else made


def together(language: Language, reference: Machine, paying: list[Machine]) -> Machine:
    """Reference and rewards as one machine of as few states as may be: multiplied one by one, each product minimized."""
    whole = minimize(reference, language.K)
    for machine in paying:
        whole = minimize(product(language, [whole, machine]), language.K)
    return whole
