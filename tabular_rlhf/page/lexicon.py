"""The tables of "type your own line", taken from the reader of formulas: the page reads a part of what Python reads, not otherwise.

`lines()` is put into the core (`core_read.js`) as it is built: commands, words, marks, and the keys under which papers write the letters
that the page can compute.  A letter that is added to `COMPUTED` needs its value in `core_line.js`, and nothing else.
"""

from __future__ import annotations

from typing import Any

from tabular_rlhf.formula import spellings
from tabular_rlhf.formula.lexicon import NAMES
from tabular_rlhf.symbols import SYMBOLS

COMPUTED = ("p", "p_ref", "p_star", "pi", "pi_ref", "pi_star", "r", "beta", "Z", "V", "L")
"""Letters that the page has values of."""


def lines() -> dict[str, Any]:
    """Plain tables for the page's reader.

    >>> found = lines()
    >>> found["keys"]["p^*"], found["commands"]["cdot"], found["responses"][:2]
    ('p_star', '*', ['y', 'tau'])
    """
    return {
        "keys": {key: letter for key, letter in spellings.ALIASES.items() if letter in COMPUTED} | {letter: letter for letter in COMPUTED},
        "commands": spellings.COMMANDS,
        "unicode": spellings.UNICODE,
        "spacing": sorted(spellings.SPACING),
        "fonts": sorted(spellings.FONTS),
        "accents": sorted(spellings.ACCENTS),
        "functions": spellings.FUNCTIONS,
        "divergences": sorted(spellings.KL_KEYS),
        "words": sorted(spellings.WORDS),
        "responses": [text for text, index in spellings.INDICES.items() if index == "tau" and "_" not in text],
        "prompts": [text for text in spellings.INDICES if spellings.kind(text) == "x" and text == "x"],
        "meaning": {letter: meaning(letter) for letter in COMPUTED},
    }


def meaning(letter: str) -> str:
    """What a letter stands for, in the words of the table of symbols.

    >>> meaning("beta")
    'KL weight'
    """
    name = NAMES.get(letter, letter)
    found = SYMBOLS.get(name, SYMBOLS.get(f"log_{name}"))
    return found.meaning.replace("log ", "", 1) if found is not None else letter
