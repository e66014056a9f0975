"""A scope in which some symbols have other values, and what is computed from them has not: what a formula is on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tabular_rlhf.check.calling import Overlaid as Instead
from tabular_rlhf.formula.printed import Printed
from tabular_rlhf.symbols import Scope, is_formula
from tabular_rlhf.world import coin


class Overlaid:
    """A scope seen through changes of its symbols, each a function of the value that the symbol has."""

    def __init__(self, scope: Any, instead: Mapping[str, Callable[[Any], Any]]) -> None:
        self.scope, self.instead, self.memo = scope, instead, dict[Any, Any]()

    def __getitem__(self, name: str) -> Any:
        return self.instead.get(name, lambda x: x)(self.scope[name])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scope, name)

    def call(self, function: Callable[..., Any]) -> Any:
        return type(self.scope).call(self, function)  # type: ignore[arg-type]

    @classmethod
    def of(cls, printed: Printed, instead: Mapping[str, Callable[[Any], Any]]) -> Printed:
        """A formula on such a scope."""

        class Special(Printed):
            def __call__(self, scope: Any) -> Any:
                return printed(cls(scope, instead))

        return Special(lambda: printed.side)


def by_name(answer: Callable[..., Any]) -> Callable[..., Any]:
    """A formula of tables that need no world as a function of them by name."""
    return answer if not is_formula(answer) else lambda **given: answer(Instead(Scope(coin(), 0), given))
