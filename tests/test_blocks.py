"""Nothing depends on where arrays are cut into blocks: a world of many blocks, against one block and against the short formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tabular_rlhf import World, grad, kernels, log_softmax, random_world, solve
from tabular_rlhf.errors import InputError
from tabular_rlhf.gibbs import policy_gradient, policy_objective
from tabular_rlhf.sampling import draw
from tabular_rlhf.sweeps import ascend
from tabular_rlhf.world import generated_worlds
from tests.laws import EPS, assert_close, nats, size

LARGE = {
    "with EOS": random_world(rng=np.random.default_rng(2), V=4, H=10, P=2, beta=0.5),  # 3^9 = 19683 columns: no multiple of a block
    "without EOS": random_world(rng=np.random.default_rng(3), V=3, H=10, P=1, eos=False, beta=0.5),
    "with forbidden tokens": random_world(rng=np.random.default_rng(4), V=4, H=10, P=2, beta=0.5, forbidden=0.1),
}
over_large = pytest.mark.parametrize("world", LARGE.values(), ids=LARGE.keys())


def logits_of(world: World) -> np.ndarray:
    return np.where(np.isneginf(world.log_ref), -np.inf, np.random.default_rng(6).standard_normal(world.log_ref.shape))


def everything(world: World) -> dict[str, Any]:
    g, logits = solve(world), logits_of(world)
    w = np.random.default_rng(7).standard_normal(logits.shape)
    return {
        "p": g.p,
        "pi": g.pi,
        "V": g.V,
        "policy_gradient": policy_gradient(world, logits),
        "log_softmax": log_softmax(logits),
        "its gradient": grad(lambda x: np.sum(w * np.exp(log_softmax(x))))(logits),
        "draw": draw(np.ravel(g.p), 30_000, rng=np.random.default_rng(8)),
    }


@over_large
def test_many_blocks_and_one_block_agree(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK", 1)
    many = everything(world)
    assert len(list(kernels.blocks((world.mdp.V, world.mdp.width(9))))) > 4
    monkeypatch.setattr(kernels, "BLOCK", 2**40)
    one = everything(world)
    for name, value in one.items():
        assert_close(many[name], value, 16 * EPS * (1 if name in ("p", "pi", "draw") else size(value)), name)


@over_large
def test_the_fast_routes_are_the_short_formulas(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK", 1)
    g, logits, mdp = solve(world), logits_of(world), world.mdp
    x = np.where(np.isneginf(world.log_p_ref), -np.inf, world.log_p_ref + world.r / world.beta)
    p = np.exp(x - np.max(x, axis=1, keepdims=True))
    mass = mdp.subtree_sum(p)
    assert_close(g.p, p / np.sum(p, axis=1, keepdims=True), 8 * nats(world) * np.max(g.p))
    total = np.sum(mass, axis=-1, keepdims=True)
    reached = np.broadcast_to(total > 0, mass.shape)
    assert_close(g.pi[reached], (mass / np.where(total > 0, total, 1.0))[reached], 8 * nats(world) + 2 * EPS * mdp.N)
    top = logits - np.max(logits, axis=-1, keepdims=True)
    log_pi = top - np.log(np.sum(np.exp(top), axis=-1, keepdims=True))
    assert_close(log_softmax(logits), log_pi, 8 * EPS * size(log_pi))
    log_p = mdp.path_sum(log_pi)
    possible = ~np.isneginf(log_p)
    R = world.r - world.beta * (np.where(possible, log_p, 0.0) - np.where(possible, world.log_p_ref, 0.0))
    m = mdp.subtree_sum(world.mu[:, None] * np.exp(log_p) * R)
    want = m - np.exp(log_pi) * np.sum(m, axis=-1, keepdims=True)
    tol = EPS * (mdp.N + 8 * mdp.H) * (size(R) + 1)
    assert_close(policy_gradient(world, logits), want, tol)
    assert_close(grad(lambda t: policy_objective(world, log_softmax(t)))(logits), want, tol)


@over_large
@pytest.mark.parametrize("wrong", [np.log(1.5), np.nan, np.inf])
def test_a_fault_in_any_block_is_found_where_it_is(world: World, wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "BLOCK", 1)
    mdp, rng = world.mdp, np.random.default_rng(9)
    for x, s, a in rng.integers(0, (mdp.P, mdp.S, mdp.V), (3, 3)):
        log_ref = np.array(world.log_ref)
        log_ref[x, s, a] = wrong
        where = f"prompt {x}, state {s} " if np.isfinite(wrong) else f"index ({x}, {s}, {a})"
        with pytest.raises(InputError) as refused:
            World(mdp, log_ref, world.r, 1.0)
        assert where in str(refused.value), str(refused.value)


def test_the_sweep_is_the_short_form() -> None:
    """The closed gradient on worlds of every kind, by the sweep that large ones take and by the formula that small ones take."""
    rng = np.random.default_rng(10)
    for world in [*generated_worlds(60, rng=rng), random_world(rng=rng, V=1, H=3, eos=True)]:
        logits = np.where(np.isneginf(world.log_ref), -np.inf, rng.standard_normal(world.log_ref.shape))
        worth = size(world.r) + world.beta * nats(world) / EPS
        assert_close(ascend(world, logits), policy_gradient(world, logits), 64 * EPS * worth)
    lame = random_world(rng=rng, forbidden=0.5)
    for gradient in (ascend, policy_gradient):
        with pytest.raises(InputError, match="J must be finite"):
            gradient(lame, np.zeros(lame.log_ref.shape))
