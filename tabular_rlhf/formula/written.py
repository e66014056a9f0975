r"""Mathematics as a record of the book writes it: formulas, why each stands, and beside each the mistakes that readers make in it.

    let u = p_ref/p; c = clip                                what letters stand for, in all formulas of the text
    \mathbb{E}_p[r] - \beta\,\mathrm{KL}(p, p_{ref})         # a formula, and words on it
    <= \beta \log Z                                          # one that stands in a relation to the one before
      slip beta dropped; sign flipped                        mistakes in it, by the names of their rules (`formula.slips`)
      not \mathbb{E}_{p_{ref}}[r]                            # a wrong formula in its place, and what is wrong with it
      not @averaged                                          # ... that is a function, by its name
      error 1e-8                                             an option of it, by its name

What is indented by two belongs to the formula above it; what is indented further goes on with the line above.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.registry import one_of

Named = Mapping[str, Callable[..., Any]]
"""Functions by the names that a text gives them."""


@dataclass
class Written:
    """A formula of a text: how it stands to the one before, words on it, slips in it, diagnosis -> a wrong one, and options by name."""

    formula: Any
    words: str = ""
    relation: str = ""
    slips: tuple[str, ...] = ()
    wrong: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def written(
    text: str, where: str = "", *, relations: Collection[str] = (), options: Collection[str] = (), named: Named | None = None
) -> tuple[dict[str, str], list[Written]]:
    r"""The letters of a text and its formulas.

    Args:
        text: see above.  where: whose it is, for errors.
        relations: what a formula may begin with.  options: which it may have.  named: the functions that the text names, each of them.

    Raises:
        InputError: for a mistake without a formula, a wrong formula without words of its own, a name that is used nowhere or not known.

    >>> letters, (J, best) = written('''
    ...     let u = p_ref/p
    ...     E_p[r + beta*log(u)]  # the objective
    ...     <= beta*log(Z)
    ...       slip beta dropped
    ...       not E_{p_ref}[r]  # the value of p_ref
    ... ''', relations=["=", "<="])
    >>> letters, J.formula, J.words, best.relation, best.slips, best.wrong
    ({'u': 'p_ref/p'}, 'E_p[r + beta*log(u)]', 'the objective', '<=', ('beta dropped',), {'the value of p_ref': 'E_{p_ref}[r]'})
    """
    named, letters, found = named or {}, dict[str, str](), list[Written]()
    unused = set(named)

    def meant(what: str) -> Any:
        """A formula, or the function whose name it is."""
        if not what.startswith("@"):
            return what
        name = one_of(named, what[1:], "what stands behind @ must be the name of a function", where=where)
        unused.discard(name)
        return named[name]

    def require(holds: object, must: str, got: object, remedy: str) -> None:
        if not holds:
            raise InputError(must, got=got, where=where, remedy=remedy)

    for indented, code, words in _items(text):
        head, _, rest = code.partition(" ")
        if indented:
            require(found, "a mistake must stand below a formula", quoted(code), "write the formula above it, not indented")
            of = found[-1]
            if head == "slip":
                of.slips += tuple(re.split(r";\s*", rest))
            elif head == "not":
                require(
                    words and words not in of.wrong, "a wrong formula must have words of its own", quoted(rest), "write them behind a #"
                )
                of.wrong[words] = meant(rest)
            else:
                of.options[one_of(("slip", "not", *options), head, "what is said of a formula must be known", where=where)] = meant(rest)
        elif head == "let":
            said = (letter.partition("=") for letter in rest.split(";"))
            letters.update({name.strip(): meaning.strip() for name, _, meaning in said})
        else:
            relation = next((r for r in sorted(relations, key=len, reverse=True) if f"{code} ".startswith(f"{r} ")), "")
            found.append(Written(meant(code[len(relation) :].strip()), words, relation))
    require(not unused, "every function must be named in the text", ", ".join(unused), "write @ and its name where it stands")
    return letters, found


def _items(text: str) -> list[tuple[bool, str, str]]:
    """The lines of a text, those that go on put together: whether it is indented, what is written, and the words behind #."""
    raw = list[tuple[bool, str]]()
    for line in dedent(text).splitlines():
        depth = len(line) - len(line.lstrip())
        if depth > 2 and raw:
            raw[-1] = raw[-1][0], f"{raw[-1][1]} {line.strip()}"
        elif line.strip():
            raw.append((depth > 0, line.strip()))
    return [(indented, *_split(line)) for indented, line in raw]


def _split(line: str) -> tuple[str, str]:
    code, _, words = re.sub(r"(?:^|\s+)#\s*", "\n", line, count=1).partition("\n")
    return code.strip(), words.strip()
