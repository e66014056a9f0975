r"""Mathematics as a record of the book writes it: formulas, why each stands, and beside each the mistakes that readers make in it.

    let u = p_ref/p; c = clip                                what letters stand for, in all formulas of the text
    \mathbb{E}_p[r] - \beta\,\mathrm{KL}(p, p_{ref})         # a formula, and words on it
    <= \beta \log Z                                          # one that stands in a relation to the one before
      slip beta dropped; sign flipped                        mistakes in it, by the names of their rules (`formula.slips`)
      not \mathbb{E}_{p_{ref}}[r]                            # a wrong formula in its place, and what is wrong with it
      not @averaged                                          # ... that is a function, by its name
      error 1e-8                                             an option of it, by its name

What is indented by two belongs to the formula above it; what is indented by four or more goes on with the line above.
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
        InputError: for a mistake without a formula, a wrong formula without words of its own, a formula after the first that begins with
            no relation where there are some, a name that is used nowhere or not known, and any other indentation.

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
    named, letters, found, at = named or {}, dict[str, str](), list[Written](), 0
    unused = set(named)

    def place() -> str:
        return ", ".join(filter(None, (where, f"line {at} of its text")))

    def meant(what: str) -> Any:
        """A formula, or the function whose name it is."""
        if not what.startswith("@"):
            return what
        name = one_of(named, what[1:], "what stands behind @ must be the name of a function", where=place())
        unused.discard(name)
        return named[name]

    def require(holds: object, must: str, got: object, remedy: str) -> None:
        if not holds:
            raise InputError(must, got=got, where=place(), remedy=remedy)

    for at, depth, code, words in _items(text):  # noqa: B007 `place` reads it
        head, _, rest = code.partition(" ")
        indented = depth == 2
        must = "a line must begin at the margin, a mistake or an option two from it, what goes on with a line four or more"
        require(depth in (0, 2), must, f"{quoted(code)} {depth} from it", "move it")
        require(indented or head not in ("slip", "not"), "a mistake must be indented by two", quoted(code), "move it")
        if indented:
            require(found, "a mistake must stand below a formula", quoted(code), "write the formula above it, not indented")
            of = found[-1]
            if head == "slip":
                of.slips += tuple(re.split(r";\s*", rest))
                require(len(set(of.slips)) == len(of.slips), "a slip must be named once", quoted(rest), "leave the second out")
            elif head == "not":
                require(words, "a wrong formula must have words", quoted(rest), "say behind a # what is wrong with it")
                require(words not in of.wrong, "a wrong formula must have words of its own", quoted(words), "call it something else")
                of.wrong[words] = meant(rest)
            else:
                of.options[one_of(("slip", "not", *options), head, "what is said of a formula must be known", where=place())] = meant(rest)
        elif head == "let":
            said = (letter.partition("=") for letter in rest.split(";"))
            letters.update({name.strip(): meaning.strip() for name, _, meaning in said})
        else:
            relation = next((r for r in relations if f"{code} ".startswith(f"{r} ")), "")
            must = f"a line after the first must begin with one of {', '.join(relations)}"
            require(relation or not (relations and found), must, quoted(code), "write how it stands to the line before")
            found.append(Written(meant(code[len(relation) :].strip()), words, relation))
    require(not unused, "every function must be named in the text", ", ".join(unused), "write @ and its name where it stands")
    return letters, found


def _items(text: str) -> list[tuple[int, int, str, str]]:
    """The lines of a text, those that go on put together: their number, how far they are indented, what is written, the words behind #."""
    raw = list[tuple[int, int, str]]()
    for number, line in enumerate(dedent(text).splitlines(), 1):
        depth, said = len(line) - len(line.lstrip()), line.strip()
        if depth >= 4 and raw and not BEGINS.match(said):
            raw[-1] = *raw[-1][:2], f"{raw[-1][2]} {said}"
        elif said:
            raw.append((number, depth, said))
    return [(number, depth, *_split(line)) for number, depth, line in raw]


BEGINS = re.compile(r"(slip|not|let)\b")
"""What begins something new, and so is no line that goes on."""


def _split(line: str) -> tuple[str, str]:
    code, _, words = re.sub(r"(?:^|\s+)#\s*", "\n", line, count=1).partition("\n")
    return code.strip(), words.strip()
