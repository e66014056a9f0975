"""What a record says of itself that is not so: its equation in plain `math`, the smallest group, and what groups ask of any record.

What a recipe ascends is never claimed, so it cannot be claimed wrongly: `analysis` measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array
from tabular_rlhf.policy_gradient.record import Advantage, Batch, Correction, Part, PolicyLoss
from tabular_rlhf.registry import no_oracle, parameters

LEVELS = np.array([-1.0, 0.0, 0.1, 0.3])
"""Rewards of the groups on which a record is tried: ties, and numbers that are not exact in binary."""
TRIES = 40
CLOSE = 1e-9


def faults(part: Part, *, rng: np.random.Generator) -> list[str]:
    """What is wrong with a record, as sentences; none where all that it says is so.

    >>> from tabular_rlhf.policy_gradient import ADVANTAGES
    >>> faults(ADVANTAGES["rloo"], rng=np.random.default_rng(0))
    []
    >>> lie = Advantage("lie", "r_i", "none", lambda r: r, lambda i, r: -r[i])
    >>> faults(lie, rng=np.random.default_rng(0))
    ['lie is not its oracle']
    """
    if isinstance(part, PolicyLoss):
        found = {"its oracle": _is_its_oracle(part, _a_term(part, rng)), "homogeneous in A": part.homogeneous}
    elif isinstance(part, Correction):
        found = {"its oracle": _is_its_oracle(part, ({"rho": float(x), **part.defaults} for x in rng.exponential(1.5, TRIES)))}
    else:
        smallest = part.smallest if isinstance(part, Advantage | Batch) else 1
        sizes = [G for G in (1, 2, 3, 5) if G >= smallest]
        found = {
            "its oracle": all(_group_is_its_oracle(part, G, rng) for G in sizes),
            "the same for members in another order": all(_in_any_order(part, G, rng) for G in sizes),
            "the same where equal members are counted": all(_counted(part, G, rng) for G in sizes if G > 1),
            f"of use at G = {smallest}": _of_use(part, smallest, rng),
            f"without use at G = {smallest - 1}": smallest == 1 or not _of_use(part, smallest - 1, rng),
        }
    return [f"{part.name} is not {what}" for what, holds in found.items() if not holds]


def _group(part: Part, G: int, rng: np.random.Generator) -> dict[str, Any]:
    """Everything that a record may ask for, of one random group."""
    fixed = {"greedy": np.array(0.25), "best": np.array(-0.5), "G": G, "H": 5, **part.defaults}
    drawn = {"r": rng.choice(LEVELS, G), "lengths": rng.integers(1, 6, G).astype(float), "A": rng.choice(LEVELS, G)}
    if not isinstance(part, Batch):
        return {**drawn, "n": np.ones(G), **fixed}
    some = {"mixed": rng.permuted(np.arange(G) < max(1, G - 1)).astype(float), "ended": rng.permuted(np.arange(G) % 3 < 2).astype(float)}
    return {**drawn, "n": np.ones(G), **some, "kept": some.get(part.keeps, np.ones(G)), **fixed}


def _values(part: Part, group: dict[str, Any]) -> Array:
    with np.errstate(all="ignore"):
        return np.broadcast_to(part(**group), group["r"].shape)


def _plainly(part: Part, group: dict[str, Any]) -> list[float]:
    """The oracle of every member; without one, the record itself."""
    if part.oracle is no_oracle:
        return [float(x) for x in _values(part, group)]
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in group.items()}
    asked = {k: plain[k] for k in parameters(part.oracle) if k != "i"}
    return [part.oracle(i=i, **asked) for i in range(group["G"])]


def _close(a: Any, b: Any) -> bool:
    return bool(np.allclose(a, b, rtol=CLOSE, atol=CLOSE))


def _group_is_its_oracle(part: Part, G: int, rng: np.random.Generator) -> bool:
    groups = [_group(part, G, rng) for _ in range(TRIES)]
    try:
        return all(_close(_values(part, group), _plainly(part, group)) for group in groups)
    except ZeroDivisionError:
        return False


def _in_any_order(part: Part, G: int, rng: np.random.Generator) -> bool:
    group, order = _group(part, G, rng), rng.permutation(G)
    shuffled = {k: v[order] if np.ndim(v) else v for k, v in group.items()}
    return _close(_values(part, shuffled), _values(part, group)[order])


def _counted(part: Part, G: int, rng: np.random.Generator) -> bool:
    """A member twice is that member with multiplicity 2."""
    group = _group(part, G, rng)
    twice = {k: np.append(v[:-1], v[0]) if np.ndim(v) else v for k, v in group.items()}
    kinds = {k: v[: G - 1] if np.ndim(v) else v for k, v in twice.items()}
    kinds["n"] = np.append(2.0, np.ones(G - 2))
    return _close(_values(part, twice)[: G - 1], _values(part, kinds))


def _of_use(part: Part, G: int, rng: np.random.Generator) -> bool:
    """Whether the equation has a value for groups of G, and not always 0."""
    try:
        values = [_plainly(part, _group(part, G, rng)) for _ in range(TRIES)]
    except ZeroDivisionError:
        return False
    return bool(np.isfinite(values).all() and np.max(np.abs(values)) > CLOSE)


def _a_term(part: PolicyLoss, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Everything that a policy loss may ask for, again and again."""
    for _ in range(TRIES):
        supply: dict[str, Any] = dict(zip(("log_pi", "log_old", "log_now"), (-rng.exponential(1.0, 3)).tolist(), strict=True))
        yield supply | {"A": float(rng.choice([-2.0, -0.5, 0.7, 1.5])), **part.defaults}


def _is_its_oracle(part: Part, supplies: Iterable[dict[str, Any]]) -> bool:
    if part.oracle is no_oracle:
        return True
    return all(_close(part(**s), part.oracle(**{k: s[k] for k in parameters(part.oracle)})) for s in supplies)
