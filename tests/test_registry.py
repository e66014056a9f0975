"""Laws of the tables of records, over every one of them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS
from tabular_rlhf.figures import all_figures
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS
from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
from tabular_rlhf.registry import Equation, Registry, parameters, supplied
from tabular_rlhf.simulator import CORES

TABLES: list[Registry[Any]] = [LOSSES, ADVANTAGES, AGGREGATIONS, POLICY_LOSSES, ESTIMATORS, CORES, all_figures()]


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.kind)
def test_a_table_finds_what_it_holds_and_nothing_else(table: Registry[Any]) -> None:
    assert len({id(record) for record in table.values()}) == len(table) > 1
    for name, record in table.items():
        assert record.name == name
        assert table.find(name) is table.find(record) is record
        with pytest.raises(InputError, match="a name of its own"):
            table.add(record)
        with pytest.raises(InputError, match=f"the {table.kind} must be a known one.*did you mean.*{name[:1]}"):
            table.find(f"{name}~")


@pytest.mark.parametrize("table", [t for t in TABLES if isinstance(next(iter(t.values())), Equation)], ids=lambda t: t.kind)
def test_an_equation_is_called_with_what_it_names_and_with_nothing_else(table: Registry[Equation]) -> None:
    for record in table.values():
        assert set(record.needs) <= {*record.given, *record.defaults}
        with pytest.raises(KeyError, match=record.needs[-1]):
            record(**dict.fromkeys(record.needs[:-1]))


def test_parameters_are_the_names_without_defaults() -> None:
    def everything(a: int, b: int, c: int = 3, *, d: int, e: int = 5) -> tuple[int, ...]:
        return a, b, c, d, e

    class Callable_:
        def __call__(self, a: int, *, b: int) -> int:
            return a - b

    wrapped = lambda *given, **named: everything(*given, **named)  # noqa: E731
    wrapped.__signature__ = inspect.signature(everything)  # type: ignore[attr-defined]
    assert parameters(everything) == parameters(wrapped) == ("a", "b", "d")
    values = {"a": 1, "b": 2, "d": 4}.__getitem__
    assert supplied(everything, values) == supplied(wrapped, values) == (1, 2, 3, 4, 5)
    assert supplied(Callable_(), values) == -1
