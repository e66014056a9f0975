"""Conventions that an exercise leaves open: other answers that are as right as its own, each by the choice that it makes.

    conventions=("ddof", "sign of beta", "eps -> 0")       as a derivation's (`formula.freedoms`)
    also={"the mean over tokens": lambda ...: ...}         any other choice, by its answer

    under={"the mean over tokens": {"padding counted": lambda ...: ...}}      that choice's own wrong answers

Of a formula (`formula.printed`) its tree is rewritten; of a function its parameters are changed; and so are those of its wrong answers.
An answer is right if it makes one choice on all worlds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.printed import Printed
from tabular_rlhf.registry import parameters, supplied

if TYPE_CHECKING:
    from tabular_rlhf.formula.freedoms import Choice

Function = Callable[..., Any]


class Chosen:
    """A function of symbols some of whose parameters are changed first; the same signature."""

    def __init__(self, function: Function, changes: Mapping[str, Callable[[Any], Any]]) -> None:
        self.function, self.changes = function, changes
        self.__signature__ = inspect.signature(function)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        given = self.__signature__.bind(*args, **keywords).arguments
        return supplied(self.function, lambda name: self.changes.get(name, _as_it_is)(given[name]))


def _as_it_is(x: Any) -> Any:
    return x


@dataclass(frozen=True, eq=False)
class Other:
    """An answer that is as right: the choice that it makes, in words; and the wrong answers that go with it, by their diagnosis."""

    words: str
    answer: Function
    misses: Mapping[str, Function]


def others(
    answer: Function,
    misses: Mapping[str, Function],
    conventions: tuple[str, ...],
    also: Mapping[str, Function],
    under: Mapping[str, Mapping[str, Function]],
) -> Iterator[Other]:
    """The other right answers.  Raises InputError for what is no convention, or leaves nothing open here.

    >>> [other.words for other in others(lambda beta, r: beta * r, {}, ("sign of beta",), {}, {})]
    ['beta has the other sign']
    """
    if conventions:
        from tabular_rlhf.formula.freedoms import choices  # the reader of formulas is opened for those who ask for it

        for choice in choices(conventions):
            if choice.words:
                wrong = {words: _changed(miss, choice) for words, miss in misses.items()}
                yield Other(choice.words, _changed(_open(answer, choice), choice), wrong)
    if strange := sorted(under.keys() - also.keys()):
        raise InputError("wrong answers must go with a choice", got=quoted(strange[0]), remedy=f"`also` has {', '.join(also) or 'none'}")
    for words, other in also.items():
        yield Other(words, other, under.get(words, {}))


def _changed(function: Function, choice: Choice) -> Function:
    """A function or a formula under a choice; itself where the choice is about nothing in it."""
    if isinstance(function, Printed):
        side = function.side
        return Printed(lambda: side.instead(choice.rewrite(side.tree)))
    about = {name: change for name, change in choice.values.items() if name in parameters(function)}
    return Chosen(function, about) if about else function


def _open(answer: Function, choice: Choice) -> Function:
    """The answer, if the choice is about something in it.  Raises InputError."""
    if isinstance(answer, Printed):
        tree = answer.side.tree
        if choice.rewrite(tree) == tree:
            remedy = "leave the convention out, or write the answer with what it is about"
            raise InputError("a convention must change the answer", got=choice.words, where=str(answer), remedy=remedy)
        return answer
    strange = [name for name in choice.values if name not in parameters(answer)]
    if strange:
        remedy = f"its parameters are {', '.join(parameters(answer))}"
        raise InputError("a convention of a function must be about its parameters", got=quoted(strange[0]), remedy=remedy)
    if not choice.of_values:
        remedy = 'give the answer as a formula, printed("..."), or the other answer in also={...}'
        raise InputError("a convention of a function must be about its parameters", got=choice.words, remedy=remedy)
    return answer
