r"""Chapter 6, continued: the family of losses, the shift that cancels log Z, and IPO's two arms."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.ledger.record import Approximately, Miss, claim
from tabular_rlhf.logspace import Array
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.evaluate import gradient, ingredients, scatter, settings_at, value, weights
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.preferences import Pairs, population_pairs, sure
from tabular_rlhf.registry import parameters
from tabular_rlhf.terms.comparisons import implicit_reward, people
from tabular_rlhf.terms.sizes import size_of
from tabular_rlhf.terms.sources import RAFAILOV
from tabular_rlhf.world import World, coin

# ---------------------------------------------------------------------------------------------------- shift-invariance-of-losses

INVARIANT = [name for name, loss in LOSSES.items() if "shift-invariant" in loss.traits]


def moved_loss(world: World, log_p: Any, name: str, c: float) -> float:
    """The loss when c is added to both log-ratios of every pair (frozen parameters held)."""
    loss, pairs = LOSSES[name], people(world)
    i = {**ingredients(world, log_p, pairs), **settings_at(loss, world, log_p, pairs, {})}
    return float(np.sum(weights(pairs) * loss(**{**i, **{k: i[k] + c for k in ("a", "b", "p", "q")}})))


def moved_all(world: World, log_p: Any, c: float) -> Array:
    return np.array([moved_loss(world, log_p, name, c) for name in INVARIANT])


def averaged(world: World, log_p: Any, name: str) -> Array:
    """The same list with one loss in it that averages, or anchors, in place of the first."""
    out = moved_all(world, log_p, 0.0)
    out[0] = moved_loss(world, log_p, name, -1.5) - moved_loss(world, log_p, name, 0.0) + out[0]
    return out


NOT_INVARIANT = {
    "length-averaged margins": "dpo-averaged",
    "length-averaged IPO": "ipo-averaged",
    "absolute terms (NCA)": "nca-pair",
    "another link (chi-PO)": "chi-po",
    "an NLL term (CPO)": "cpo",
}


claim(
    slug="shift-invariance-of-losses",
    chapter=6,
    text=r"""
    \mathbb{E}[-\log\sigma(\beta (a(y_w) + c) - \beta (a(y_l) + c))] = \mathbb{E}[-\log\sigma(\beta\, a(y_w) - \beta\, a(y_l))], \quad a =
        \log\frac{p}{p_{ref}}
    \mathbb{E}\Big[\Big((a(y_w) + c) - (a(y_l) + c) - \frac{1}{2 \beta}\Big)^2\Big] = \mathbb{E}\Big[\Big(a(y_w) - a(y_l) - \frac{1}{2
        \beta}\Big)^2\Big], \quad a = \log\frac{p}{p_{ref}}
        # a loss that depends on the difference of the log-ratios alone is the same when c(x) is added to both: only then Z cancels
    """,
    most=40,
    source=f"{RAFAILOV}  Meng et al. (2024), arXiv:2405.14734, for averages.",
    sides={
        "as it is": lambda world, log_p: moved_all(world, log_p, 0.0),
        "c = -1.5": lambda world, log_p: moved_all(world, log_p, -1.5),
        "c = log Z": lambda world, log_p, log_Z: moved_all(world, log_p, float(np.clip(log_Z[0], -5.0, 5.0))),
    },
    misses={words: (lambda world, log_p, name=name: averaged(world, log_p, name)) for words, name in NOT_INVARIANT.items()},
    scale=lambda world, r, beta, log_p, log_p_ref: (
        (1.0 + 1.0 / beta) * np.square(size_of(r, beta, log_p, log_p_ref) / min(1.0, beta)) + np.max(np.abs(moved_all(world, log_p, 0.0)))
    ),
    where=lambda log_p_ref: np.isneginf(log_p_ref).sum() == 0,
    largest=40,
)

# ---------------------------------------------------------------------------------------------------- ipo-two-arms


def two_arms(beta: float, name: str = "ipo") -> Any:
    world = coin(beta)
    found = minimize(name, world, population_pairs(world, sure(world.r)).distinct())
    return np.exp(found.log_p[0, 1])


def two_arms_by_bisection(beta: float) -> Any:
    """The root in q of d/dq (log(q/(1 - q)) - 1/(2 tau))^2, both arms at 1/2 in the reference."""
    low, high = 0.0, 1.0
    for _ in range(200):
        q = (low + high) / 2.0
        low, high = (q, high) if np.log(q) - np.log1p(-q) < 1.0 / (2.0 * beta) else (low, q)
    return (low + high) / 2.0


claim(
    slug="ipo-two-arms",
    chapter=6,
    text=r"""
    let tau = beta
    \frac{e^{3/(4\tau)}}{e^{3/(4\tau)} + e^{1/(4\tau)}} = \sigma\Big(\frac{1}{2\tau}\Big)
        # of two arms, even in the reference, the better always wins: IPO tilts by the win rates 3/4 and 1/4 to this probability of the
        better arm; DPO's tends to 1
      slip 2 dropped; divided by tau where one multiplies; sign within sigma flipped
    """,
    most=30,
    source="Azar et al. (2023), arXiv:2310.12036.",
    parts=("IPO", "DPO"),
    sides={
        "closed form": (1, lambda: 1.0),
        "Newton on the losses": Approximately(lambda beta: (two_arms(beta), two_arms(beta, "dpo")), error=1e-9),
        "bisection": Approximately(lambda beta: (two_arms_by_bisection(beta), 1.0), error=1e-12),
    },
    misses={"DPO stays finite": Miss(r"\sigma(1/\tau)", part=1)},
    largest=12,
)

# ---------------------------------------------------------------------------------------------------- direct-family


SMOOTH = [name for name, loss in LOSSES.items() if not loss.kinks]
"""Drawn policies have logits on a half-integer grid, and may sit exactly on a corner."""


def by_code(world: World, log_p: Any) -> Array:
    return np.array([value(name, world, log_p, people(world).distinct()) for name in LOSSES])


def by_oracle(world: World, log_p: Any) -> Array:
    """Every loss as a sum of the equation in plain math over pairs, one at a time."""
    pairs, out = people(world).distinct(), []
    i = ingredients(world, log_p, pairs)
    for loss in LOSSES.values():
        s = {**i, **settings_at(loss, world, log_p, pairs, {})}
        names = parameters(loss.oracle)
        columns = np.broadcast_arrays(weights(pairs), *(s[name] for name in names))
        total = 0.0
        for weight, *one in zip(*(np.ravel(c).tolist() for c in columns), strict=True):
            total += weight * loss.oracle(**dict(zip(names, one, strict=True))) if weight else 0.0
        out.append(total)
    return np.array(out)


def slopes_by_core(world: World, log_p: Any) -> Array:
    return np.stack([gradient(name, world, log_p, people(world).distinct()) for name in SMOOTH])


def slopes_by_oracle(world: World, log_p: Any) -> Array:
    """Each pair's slopes in p and q by fourth-order differences of the oracle (a and b move with them), scattered."""
    pairs, out = people(world).distinct(), []
    i = ingredients(world, log_p, pairs)
    for loss in (LOSSES[name] for name in SMOOTH):
        s = {**i, **settings_at(loss, world, log_p, pairs, {})}
        f_p, f_q = (_oracle_slope(loss, s, pairs, moves) for moves in (("a", "p"), ("b", "q")))
        out.append(scatter(world, pairs, weights(pairs) * f_p, weights(pairs) * f_q))
    return np.stack(out)


def _oracle_slope(loss: Any, s: Any, pairs: Pairs, moves: tuple[str, str]) -> Array:
    h = 1e-4 / (1.0 + s["beta"])  # discopop bends on the scale tau/beta = 1/(20 beta)
    names, shape = parameters(loss.oracle), weights(pairs).shape
    columns = [np.ravel(np.broadcast_to(s[name], shape)).tolist() for name in names]
    live = np.ravel(weights(pairs) > 0)
    out = np.zeros(live.shape)

    def moved(at: dict[str, float], t: float) -> float:
        return float(loss.oracle(**{name: v + t if name in moves else v for name, v in at.items()}))

    for k in np.flatnonzero(live):
        at = {name: column[k] for name, column in zip(names, columns, strict=True)}
        out[k] = central(partial(moved, at), h)
    return out.reshape(shape)


def altered(world: World, log_p: Any, name: str, **changes: float) -> Array:
    """The family's values with one loss computed otherwise."""
    out = by_code(world, log_p)
    out[list(LOSSES).index(name)] = value(name, world, log_p, people(world).distinct(), **changes)
    return out


def exchanged(world: World, log_p: Any, name: str, other: str) -> Array:
    out = by_code(world, log_p)
    out[list(LOSSES).index(name)] = value(other, world, log_p, people(world).distinct())
    return out


def swapped(world: World, log_p: Any) -> Array:
    pairs = people(world).distinct()
    turned = Pairs(pairs.x, pairs.l, pairs.w, pairs.weight, pairs.n)
    return np.array([value(name, world, log_p, turned) for name in LOSSES])


def affordable(log_p_ref: Any, log_p: Any, beta: float) -> bool:
    """Something to compare, and log-ratios and beta for which values and slopes are of one size."""
    deepest = float(np.max(np.abs(implicit_reward(log_p, log_p_ref, 1.0))))
    return bool(np.any(np.sum(~np.isneginf(log_p_ref), axis=1) > 1)) and deepest < 5.0 and 0.1 < beta <= 10.0


claim(
    slug="direct-family",
    chapter=6,
    text=r"""
    \mathbb{E}\Big[\Big(a(y_w) - a(y_l) - \frac{1}{2 \beta}\Big)^2\Big] = \sum_x \mu(x) \sum_y \sum_{y'} 2 p_{ref}(y)\, p_{ref}(y')\, P(y
        \succ y') \Big(a(y) - a(y') - \frac{1}{2 \beta}\Big)^2, \quad a = \log\frac{p}{p_{ref}}
        # so IPO's loss, and so every loss of the table: a sum over pairs of its equation, which the code computes
    """,
    most=15,
    source="The papers of the records; see `tabular-rlhf losses`.",
    parts=("values", "gradients in log p"),
    sides={
        "code, gradient core": lambda world, log_p: (by_code(world, log_p), slopes_by_core(world, log_p)),
        # truncation at most (h beta/tau)^4 < 2e-11 of a slope (discopop), rounding eps/h
        "plain math, its differences": Approximately(
            lambda world, log_p: (by_oracle(world, log_p), slopes_by_oracle(world, log_p)), error=1e-9
        ),
    },
    misses={
        "winner and loser swapped": swapped,
        "beta squared": lambda world, log_p, beta: altered(world, log_p, "dpo", beta=beta**2),
        "1/beta for beta": lambda world, log_p, beta: altered(world, log_p, "nca-pair", beta=1.0 / beta),
        "mean over tokens where the sum was due": lambda world, log_p: exchanged(world, log_p, "ipo", "ipo-averaged"),
        "sum over tokens where the mean was due": lambda world, log_p: exchanged(world, log_p, "dpo-averaged", "dpo"),
        "gamma inside and outside beta": lambda world, log_p: exchanged(world, log_p, "simpo-ratio", "simpo"),
        "label smoothing for the unbiased loss": lambda world, log_p: exchanged(world, log_p, "robust-dpo", "cdpo"),
        "z0 dropped": lambda world, log_p: altered(world, log_p, "kto-on-policy", z0=0.0),
        "delta dropped": lambda world, log_p: exchanged(world, log_p, "bco-pair", "bco-pair-unshifted"),
    },
    where=affordable,
    largest=18,
)
