"""What an estimator's record claims: every record of the table is what it says, and every kind of lie in any of them is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS, Estimator, Flag, faults, register
from tabular_rlhf.estimators.claims import KINDS, trustworthy
from tabular_rlhf.estimators.record import TERMS, straight_through

K3 = ESTIMATORS["k3"]
UPSIDE = replace(K3, name="mine", latex="e^{-L} - 1 - L", source="mine", h=lambda L: np.exp(-L) - 1 - L)
"""A reader's slip: k3 with the wrong sign of L, its claims copied from k3."""


def kinds(e: Estimator) -> set[str]:
    return {fault.partition(":")[0] for fault in faults(e)}


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_record_of_the_table_is_what_it_says(name: str) -> None:
    assert faults(ESTIMATORS[name]) == []
    assert trustworthy(ESTIMATORS[name]) is ESTIMATORS[name]


def test_what_straight_through_makes_of_two_records_is_sound() -> None:
    plain = [e for e in ESTIMATORS.values() if e.tangent is None and not e.per_state]
    for value in plain:
        for tangent in plain:
            assert [f for f in faults(straight_through(value, tangent)) if value is not tangent] == []


def planted(e: Estimator) -> list[tuple[str, str, Estimator]]:
    """(kind, what, the record with one lie of that kind): everything that a record says, made false in turn."""
    lies = [
        ("value", "h(0) = 1", replace(e, h=lambda L: e.h(L) + 1.0)),
        ("oracle", "the oracle doubled", replace(e, oracle=lambda L: 2.0 * e.oracle(L))),
        ("oracle", "the oracle of -L", replace(e, oracle=lambda L: e.oracle(-L) + 1e-6 * L)),
        ("oracle", "no oracle", replace(e, oracle=lambda L: float("nan"))),
        ("slope", "a sign", replace(e, slope=lambda L: -e.slope(L))),
        ("slope", "a little more", replace(e, slope=lambda L: e.slope(L) + 1e-6)),
        ("slope", "no number", replace(e, slope=lambda L: np.full_like(L, np.nan))),
        ("tangent", "its own tangent", replace(e, tangent=e, slope=e.slope)),
        ("per state", "a state's sum", replace(e, per_state=True, h=lambda L: 2.0 * e.h(L))),
    ]
    for kind in ("path", "mean"):
        claimed = getattr(e, kind)
        lies += [(kind, f"{c:+} {t}", replace(e, **{kind: {**claimed, t: claimed.get(t, 0.0) + c}})) for t in TERMS for c in (1.0, -1e-6)]
        lies += [(kind, f"{t} left out", replace(e, **{kind: {s: c for s, c in claimed.items() if s != t}})) for t in claimed]
        lies = [lie for lie in lies if not (e.per_state and lie[0] == kind and lie[1].endswith("mass"))]  # in a state mass is 0
    if e.tangent is not None:
        for other in ESTIMATORS.values():
            if other is not e.tangent and not other.per_state and other.tangent is None:
                lies.append(("slope", f"the tangent is {other.name}", replace(e, tangent=other)))
        bad = replace(e.tangent, path={"E[k2]": 1.0})
        lies.append(("tangent", "a tangent that lies", replace(e, tangent=bad)))
    if e.rounded is None:
        lies.append(("rounded", "rounded for nothing", replace(e, rounded=lambda L, width: e.slope(L) + 0.0 * width)))
    else:
        lies += [
            ("rounded", "none", replace(e, rounded=None)),
            ("rounded", "half of it", replace(e, rounded=lambda L, width: 0.5 * np.tanh(L / width))),
            ("rounded", "of another width", replace(e, rounded=lambda L, width: np.tanh(L))),
            ("rounded", "not rounded", replace(e, rounded=lambda L, width: np.sign(L))),
        ]
    return lies


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_kind_of_lie_in_any_record_is_found(name: str) -> None:
    lies = planted(ESTIMATORS[name])
    for kind, what, lie in lies:
        assert kind in kinds(lie), (kind, what, faults(lie))
        with pytest.raises(InputError, match=r"must (be what its record says|have a name of its own)"):
            register(replace(lie, name=f"{name} with a lie"))
    assert {kind for kind, _, _ in lies} == set(KINDS)


def test_a_tangent_of_the_same_slope_says_nothing() -> None:
    assert faults(straight_through(K3, K3)) == ["tangent: the slope of k3 is its own: it has no need of a tangent"]


def test_a_function_that_cannot_be_called_is_a_fault_and_no_crash() -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("by hand")

    changes: dict[str, Callable[..., Any]] = {"h": broken, "slope": broken, "oracle": broken, "rounded": broken}
    for what, f in changes.items():
        assert any("cannot be measured: ZeroDivisionError: by hand" in fault for fault in faults(replace(K3, **{what: f}))), what
    assert "value: h of 82 values is of shape (): it must be vectorised" in faults(replace(K3, h=lambda L: np.sum(L)))


def test_register_lists_the_faults_and_enters_what_has_none() -> None:
    with pytest.raises(
        InputError, match=r"must be what its record says: mine: got oracle: .*; slope: .*; path: .*; mean: .*; mend the record"
    ):
        register(UPSIDE)
    assert "mine" not in ESTIMATORS
    good = replace(
        UPSIDE,
        slope=lambda L: -np.exp(-L) - 1.0,
        oracle=lambda L: 2.718281828459045**-L - 1 - L,
        path={"KL(ref, pi)": 1.0, "mass": -2.0},
        mean={"KL(pi, ref)": -1.0, "mass": -2.0},
    )
    assert register(good) is good
    try:
        assert Flag("mine", "loss").record is good
        assert Flag("mine", "loss").label == Flag(good, "loss").label == "mine loss"
        with pytest.raises(InputError, match="name of its own"):
            register(good)
    finally:
        del ESTIMATORS["mine"]


def test_a_slope_that_lies_is_not_followed() -> None:
    L = np.linspace(-3.0, 3.0, 7)
    honest = trustworthy(replace(K3, slope=lambda L: -K3.slope(L)))
    assert np.allclose(honest.slope(L), K3.slope(L), rtol=1e-14)
    assert trustworthy(UPSIDE).slope(L) == pytest.approx(-np.exp(-L) - 1.0)
