"""How a number is printed on the page, and when two printed pages say the same.

The page holds *printed* numbers, as text: what a reader sees is then what Python wrote, to the digit, and a script has nothing
left to round.  exp and log differ between machines in their last bits, and a curve that is followed numerically differs a
little more, so today's data may differ from a committed page by one unit of the last digit printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from tabular_rlhf.figures.page import differences
from tabular_rlhf.told import number

NUMBER = re.compile(r"-?\d+(\.(\d+))?(e[+-]\d+)?")
"""A number as `fixed` prints it: group 2 its digits after the point, group 3 its exponent."""


def fixed(x: float, digits: int = 4) -> str:
    """A number in few digits: fixed point where that shows it, else scientific; no minus before a zero.

    >>> [fixed(x) for x in (1 / 3, -1e-9, 2.0, 31415.9265, 4.85e8, float("inf"))]
    ['0.3333', '0.0000', '2.0000', '31415.9265', '4.85e+08', 'inf']
    >>> fixed(0.5, 3), fixed(1.2e-7, 2)
    ('0.500', '0.00')
    """
    return number(x, ".3g" if 1e5 <= abs(x) < float("inf") else f".{digits}f")


def says(values: Iterable[Any], digits: int = 4) -> list[str]:
    """A list of numbers, printed.

    >>> says([0.25, 0.75], 2)
    ['0.25', '0.75']
    """
    return [fixed(float(x), digits) for x in values]


def short(x: float) -> str:
    """A setting of a control, in as many digits as it needs.

    >>> short(0.375), short(-2.0)
    ('0.375', '-2')
    """
    return number(x, "g")


GREEK = {"beta": "β", "lam": "λ", "lambda": "λ", "pi": "π", "tau": "τ", "chi2": "χ²"}


def greek(text: str) -> str:
    """A sentence of the registries with its symbols as people write them.

    >>> greek("KL(pi, ref), beta p_ref/(lam - r), chi2/2")
    'KL(π, ref), β p_ref/(λ − r), χ²/2'
    """
    return re.sub(r"\b(" + "|".join(GREEK) + r")\b", lambda m: GREEK[m[1]], text).replace(" - ", " − ").replace(">=", "≥")


def unit(text: str) -> float:
    """One unit of the last digit that a printed number shows.

    >>> unit("0.3333"), unit("4.85e+08")
    (0.0001, 1000000.0)
    """
    found = NUMBER.fullmatch(text)
    assert found is not None
    return float(f"1{found[3] or 'e+00'}") * 10.0 ** -len(found[2] or "")


def changes(old: Any, new: Any, place: str) -> Iterator[str]:
    """Where two sets of data say different things: numbers by more than one unit of the last digit, all else at all.

    >>> list(changes({"p": ["0.3333", "0.1"]}, {"p": ["0.3334", "0.3"]}, "page"))
    ["page.p[1]: '0.1' in the file, '0.3' now"]
    """
    return differences(old, new, place, lambda a, b: a == b or _near(a, b))


def _near(old: Any, new: Any) -> bool:
    if not (isinstance(old, str) and isinstance(new, str) and NUMBER.fullmatch(old) and NUMBER.fullmatch(new)):
        return False
    return abs(float(old) - float(new)) <= 1.001 * max(unit(old), unit(new))
