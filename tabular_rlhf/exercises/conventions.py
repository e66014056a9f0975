"""Conventions that an exercise leaves open: other answers that are as right as its own, each by the choice that it makes.

    conventions=("ddof", "sign of beta", "eps -> 0")       as a derivation's (`formula.freedoms`)
    also={"the mean over tokens": lambda ...: ...}         any other choice, by its answer

Of a formula (`formula.printed`) its tree is rewritten; of a function its parameters are changed.  An answer is right if it makes one
choice on all worlds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.registry import parameters, supplied
from tabular_rlhf.symbols import is_formula

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


def others(answer: Function, conventions: tuple[str, ...], also: Mapping[str, Function]) -> Iterator[tuple[str, Function]]:
    """The other right answers, each with its choice in words.  Raises InputError for what is no convention, or leaves nothing open here.

    >>> [words for words, _ in others(lambda beta, r: beta * r, ("sign of beta",), {})]
    ['beta has the other sign']
    """
    if conventions:
        from tabular_rlhf.formula.freedoms import choices  # the reader of formulas is opened for those who ask for it

        for choice in choices(conventions):
            if choice.words:
                yield choice.words, (_rewritten if is_formula(answer) else _changed)(answer, choice)
    yield from also.items()


def _rewritten(answer: Any, choice: Choice) -> Any:
    tree = answer.side.tree
    if (other := choice.rewrite(tree)) == tree:
        remedy = "leave the convention out, or write the answer with what it is about"
        raise InputError("a convention must change the answer", got=choice.words, where=str(answer), remedy=remedy)
    return answer.side.instead(other)


def _changed(answer: Function, choice: Choice) -> Function:
    strange = [name for name in choice.values if name not in parameters(answer)]
    if strange:
        remedy = f"its parameters are {', '.join(parameters(answer))}"
        raise InputError("a convention of a function must be about its parameters", got=quoted(strange[0]), remedy=remedy)
    if not choice.of_values:
        remedy = 'give the answer as a formula, printed("..."), or the other answer in also={...}'
        raise InputError("a convention of a function must be about its parameters", got=choice.words, remedy=remedy)
    return Chosen(answer, choice.values)
