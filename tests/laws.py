"""What the laws share: worlds to run over, a world told to the oracle, and comparisons with derived tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import forbid, uniform
from tabular_rlhf.world import World, coin, fork, generated_worlds, random_world, rational
from tests import oracle
from tests.oracle import Prefix

EPS = float(np.finfo(float).eps)
"""2^-52.  One rounding errs by at most half of this, relatively."""


def assert_close(got: Any, want: Any, tol: Any, what: str = "") -> None:
    """|got - want| <= tol everywhere, infinities equal, shapes equal (a scalar `want` compares with all)."""
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    assert want.shape in (got.shape, ()), f"{what} shape {got.shape}, wanted {want.shape}"
    assert not np.isnan(got).any(), f"{what} nan at {np.argwhere(np.isnan(got))[:3].tolist()}"
    same = got == want
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(got - want))
    excess = error - np.asarray(tol)
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape) if excess.size else ()
    assert not excess.size or excess[worst] <= 0, (
        f"{what} differs at {tuple(map(int, worst))}: got {got[worst]!r}, wanted {np.broadcast_to(want, got.shape)[worst]!r}, "
        f"error {error[worst]:.3g} against a tolerance of {np.broadcast_to(tol, error.shape)[worst]:.3g}"
    )


def size(x: Any) -> float:
    """The largest finite magnitude in an array."""
    a = np.abs(np.asarray(x, dtype=float))
    return float(np.max(a[np.isfinite(a)], initial=0.0))


def nats(world: World) -> float:
    """The derived tolerance of a log-probability.

    A log-probability of a response is a sum of H terms of size |log pi|, to which (r - V)/beta is added; log Z is the log of a
    sum of at most N positive terms.  Each operation rounds by EPS/2 of its result; both sides of a comparison do.
    """
    scale = world.mdp.H * size(world.log_ref) + 2 * size(world.r) / world.beta
    return EPS * (4 + world.mdp.H) * (1 + scale) + EPS * world.mdp.N


def units(world: World) -> float:
    """The derived tolerance of a value in reward units: beta times nats, and the rounding of sums of N rewards."""
    return world.beta * nats(world) + EPS * (4 + world.mdp.N) * size(world.r)


# ---------------------------------------------------------------------------------------------------- a world told to the oracle


@dataclass(frozen=True)
class Told:
    """One prompt of a world in the oracle's words; `order` lists the responses by trajectory number, `states` by state number."""

    order: list[Prefix]
    states: list[Prefix]
    pi: dict[Prefix, list[float]]
    ref: dict[Prefix, float]
    r: dict[Prefix, float]


def words_of(rows: Any) -> list[Prefix]:
    """Rows of token numbers without their padding."""
    return [tuple(int(t) for t in row if t >= 0) for row in rows]


def tell_policy(mdp: TokenMDP, log_pi: Any, x: int) -> dict[Prefix, list[float]]:
    return {s: [float(q) for q in np.exp(row)] for s, row in zip(words_of(mdp.state_tokens()), np.asarray(log_pi)[x], strict=True)}


def tell(world: World, x: int) -> Told:
    mdp = world.mdp
    order = words_of(mdp.tokens())
    pi = tell_policy(mdp, world.log_ref, x)
    r = {s: float(v) for s, v in zip(order, world.r[x], strict=True)}
    return Told(order, words_of(mdp.state_tokens()), pi, oracle.law_of(pi, order), r)


def in_order(told: Told, table: dict[Prefix, Any]) -> list[float]:
    """A table of the oracle as a row in the package's order of trajectories."""
    return [float(table[s]) for s in told.order]


# ---------------------------------------------------------------------------------------------------- worlds to run over


def _edge_worlds() -> dict[str, World]:
    rng = np.random.default_rng(7)
    few = TokenMDP(("a", "b", "c"), 2, prompts=("x", "y", "z"), mu=[0.25, 0.0, 0.75])
    three = uniform(few)
    blocked = TokenMDP(("a", "b", "."), 3, eos=".")
    ends = TokenMDP((".",), 3, eos=".")
    return {
        "coin": coin(),
        "fork": fork(),
        "rational": rational(),
        "one token": random_world(rng=rng, V=1, H=3, eos=False),
        "one response": random_world(rng=rng, V=1, H=1, eos=False),
        "only EOS": World(ends, uniform(ends), np.array([[2.0]]), 0.5),
        "horizon 1": random_world(rng=rng, V=5, H=1, eos=False),
        "horizon 1 with EOS": random_world(rng=rng, V=4, H=1, P=2),
        "one word and EOS": random_world(rng=rng, V=2, H=6),
        "no EOS": random_world(rng=rng, V=3, H=3, eos=False, P=2),
        "a prompt never asked": World(few, three, rng.standard_normal((3, 9)), 0.7),
        "a forbidden token": World(blocked, forbid(blocked, uniform(blocked), ["b"]), rng.standard_normal((1, 15)), 0.3),
        "no early stop": World(blocked, forbid(blocked, uniform(blocked), ["."]), rng.standard_normal((1, 15)), 2.0),
        "constant reward": random_world(rng=rng, V=3, H=2).with_reward(np.full((1, 7), 3.5)),
        "tiny rewards": random_world(rng=rng, V=3, H=3, reward_scale=1e-10),
        "ties": World(few, three, np.round(rng.standard_normal((3, 9))), 0.1),
        "long and thin": random_world(rng=rng, V=2, H=12),
    }


EDGES = _edge_worlds()
GENERATED = {f"generated {i}": w for i, w in enumerate(generated_worlds(30, rng=np.random.default_rng(11)))}
WORLDS = {**EDGES, **GENERATED}
