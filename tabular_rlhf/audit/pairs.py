r"""The nearest named pair loss, or reward-model loss, of a function, with the difference in words.

A record's slopes in (log pi(y_w), log pi(y_l)) are compared with the function's, pair by pair, up to a factor c.  A slip is a change of
what the record is given: the two responses swapped, the reference left out, beta squared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tabular_rlhf.audit.handed import Batch, Handed
from tabular_rlhf.audit.verdict import COARSE, EXACT, SIGN, Nearest, judged, multiple, named_numbers
from tabular_rlhf.autodiff import grad
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.record import DirectLoss

Supply = dict[str, Any]
PAIRS_TRIED = 16


def pair_probes() -> Batch:
    """Random pairs, of several lengths."""
    rng = np.random.default_rng(7)
    sides = ("chosen", "rejected", "ref_chosen", "ref_rejected")
    batch: Batch = dict(zip(sides, -rng.exponential(3.0, (4, PAIRS_TRIED)) - 0.1, strict=True))
    lengths = rng.integers(1, 6, (2, PAIRS_TRIED)).astype(float)
    return batch | {"chosen_length": lengths[0], "rejected_length": lengths[1], "margin": np.zeros(PAIRS_TRIED)}


def at(batch: Batch, k: int) -> Batch:
    """One pair of a batch."""
    return {name: x[[k]] for name, x in batch.items()}


CHANGES: Mapping[str, Callable[[Supply], Supply]] = {
    "": lambda s: s,
    "chosen and rejected are swapped": lambda s: (
        s | {"p": s["q"], "q": s["p"], "ref_w": s["ref_l"], "ref_l": s["ref_w"], "len_w": s["len_l"], "len_l": s["len_w"]}
    ),
    "the reference is left out": lambda s: s | {"ref_w": 0.0, "ref_l": 0.0},
    "the reference is added, not taken off; or that of the chosen and of the rejected are swapped": lambda s: (
        s | {"ref_w": -s["ref_w"], "ref_l": -s["ref_l"]}
    ),
    "the reference of the rejected response is left out": lambda s: s | {"ref_l": 0.0},
    "the reference of the chosen response is left out": lambda s: s | {"ref_w": 0.0},
    "the rejected response is not used": lambda s: s | {"q": s["ref_l"] + 0.0 * s["q"]},
    "the chosen response is not used": lambda s: s | {"p": s["ref_w"] + 0.0 * s["p"]},
    "the log-ratio is upside down: reference over policy": lambda s: (
        s | {"p": -s["p"], "q": -s["q"], "ref_w": -s["ref_w"], "ref_l": -s["ref_l"]}
    ),
}
BETAS: Mapping[str, Callable[[float], float]] = {
    "": lambda b: b,
    "beta is dropped": lambda b: 1.0,
    "beta is squared": lambda b: b * b,
    "1/beta in the place of beta": lambda b: 1.0 / b,
    "beta is halved": lambda b: b / 2,
    "beta is doubled": lambda b: 2 * b,
}
WRONG: Mapping[str, Callable[..., Any]] = {
    "the sigmoid without its logarithm": lambda a, b, beta: -1.0 / (1.0 + np.exp(-beta * (a - b))),
    "the margin itself, without the logistic function": lambda a, b, beta: -beta * (a - b),
    "the logistic function of each log-ratio apart": lambda a, b, beta: -log_sigmoid(beta * a) - log_sigmoid(-beta * b),
    "the sum of log-ratios, not their difference": lambda a, b, beta: -log_sigmoid(beta * (a + b)),
    "the ratio of log-ratios, not their difference": lambda a, b, beta: -log_sigmoid(beta * a / b),
}
"""Of -log sigma(beta (a - b))."""


def pair_slopes(handed: Handed, batch: Batch) -> Array:
    """What a step adds to log pi of the chosen and the rejected response of each pair, asked alone: (n, 2)."""
    rows = [handed.push(at(batch, k)) for k in range(len(batch["margin"]))]
    return np.array([[float(np.sum(row.get(side, 0.0))) for side in ("chosen", "rejected")] for row in rows])


def nearest_pair(handed: Handed) -> Nearest:
    """The nearest pair loss."""
    batch = pair_probes()
    y = pair_slopes(handed, batch)
    if not np.any(y):
        return Nearest("nothing: it does not move", (), 0.0, None, 0.0, True)
    fits = []
    for words, slips, x in _candidates(handed, batch):
        if np.isfinite(x).all() and np.any(x):
            c, residual = multiple(y, x)
            fits.append((residual, len(slips) + (c < 0), words, slips, c))
    tolerance = max(EXACT, 3.0 * min(f[0] for f in fits))
    good = [f for f in fits if f[0] <= min(tolerance, COARSE)]
    residual, _, words, slips, c = min(good, key=lambda f: f[1]) if good else min(fits, key=lambda f: f[0])
    told = [*slips, *([SIGN] if c < 0 else [])]
    words += "" if abs(abs(c) - 1.0) < 1e-5 else f", times {abs(c):.5g}"
    return judged(words, told, c, None, residual, bool(good))


def _candidates(handed: Handed, batch: Batch) -> Iterator[tuple[str, list[str], Array]]:
    known = named_numbers(handed)
    own = [(n, v) for n, v in known.items() if n in ("beta", "tau") and v > 0]
    betas = own or [("beta", v) for v in dict.fromkeys([*known.values(), 1.0, 0.1]) if v > 0]
    supply = {"p": batch["chosen"], "q": batch["rejected"], "ref_w": batch["ref_chosen"], "ref_l": batch["ref_rejected"]}
    supply |= {"len_w": batch["chosen_length"], "len_l": batch["rejected_length"]}
    unused = "the reference is asked for, and drops out" if handed.asks("ref_chosen", "ref_rejected") else ""
    for loss in LOSSES.values():
        if loss.frozen:
            continue
        for settings in _settings(loss, known):
            told = "".join(f", {k} = {v:g}" for k, v in settings.items() if v != loss.defaults[k])
            yield from _changed(loss.name + told, unused if "reference-free" in loss.traits else "", _fixed(loss, settings), supply, betas)
    for slip, f in WRONG.items():
        yield from _changed("dpo", slip, _of_margins(f), supply, betas)


def _fixed(loss: DirectLoss, settings: Mapping[str, float]) -> Callable[[Supply], Any]:
    return lambda s: loss(**{**loss.settings(1.0), **settings, **s})


def _of_margins(f: Callable[..., Any]) -> Callable[[Supply], Any]:
    return lambda s: f(s["a"], s["b"], s["beta"])


def _settings(loss: DirectLoss, known: Mapping[str, float]) -> Iterator[dict[str, float]]:
    """The paper's, then one or all changed to the function's own numbers."""
    yield dict(loss.defaults)
    for key in loss.defaults:
        for v in dict.fromkeys(known.values()):
            yield {**loss.defaults, key: v}
        yield {**loss.defaults, key: 0.0}
    same = {k: known[k] for k in loss.defaults if k in known}
    if len(same) > 1:
        yield {**loss.defaults, **same}


def _changed(
    name: str, slip: str, fn: Callable[[Supply], Any], supply: Supply, betas: list[tuple[str, float]]
) -> Iterator[tuple[str, list[str], Array]]:
    for change, way in CHANGES.items():
        for (_, beta), (wrong, scaled) in ((b, w) for b in betas for w in BETAS.items()):
            b = scaled(beta)

            def total(p: Any, q: Any, way: Any = way, b: float = b) -> Any:
                s = way(supply | {"p": p, "q": q})
                a, c = s["p"] - s["ref_w"], s["q"] - s["ref_l"]
                fixed = {"p0": supply["p"], "q0": supply["q"]}
                return np.sum(fn(s | fixed | {"a": a, "b": c, "D": a - c, "beta": b, "tau": b}))

            with np.errstate(all="ignore"):
                x = -np.stack(grad(total, (0, 1))(supply["p"], supply["q"]), axis=1)
            yield name, [w for w in (slip, change, wrong) if w], x


# ---------------------------------------------------------------------------------------------------- reward models


def reward_probes() -> Batch:
    """Random rewards of pairs, with a margin that is not 0."""
    rng = np.random.default_rng(8)
    w, l = rng.standard_normal((2, PAIRS_TRIED))
    return {"chosen_reward": w, "rejected_reward": l, "margin": rng.uniform(0.1, 1.0, PAIRS_TRIED)}


def nearest_reward_model(handed: Handed) -> Nearest:
    """Bradley-Terry with a margin, a term that centers, and one that shrinks: their coefficients, by least squares."""
    batch = reward_probes()
    rows = [handed.push(at(batch, k)) for k in range(PAIRS_TRIED)]
    y = np.concatenate([np.ravel([float(np.sum(row[side])) for row in rows]) for side in ("chosen_reward", "rejected_reward")])
    w, l, m = batch["chosen_reward"], batch["rejected_reward"], batch["margin"]
    centered, shrunk = np.tile(w + l, 2), np.concatenate([w, l])
    found = []
    for margin, slip in ((-1.0, ""), (0.0, ""), (1.0, "the margin is added, not taken off")):
        s = np.exp(log_sigmoid(-(w - l + margin * m)))
        for wrong, slope in {
            "": s,
            "the sigmoid without its logarithm": s * (1 - s),
            "without the logistic function": np.ones_like(s),
        }.items():
            X = np.stack([np.concatenate([slope, -slope]), centered, shrunk], axis=1)
            c = np.linalg.lstsq(X, y, rcond=None)[0]
            residual = float(np.linalg.norm(y - X @ c) / np.linalg.norm(y))
            slips = [x for x in (slip, wrong) if x]
            found.append((residual, slips, margin, c))
    residual, slips, margin, c = min(found, key=lambda f: (round(f[0], 5), len(f[1])))
    c = np.where(np.abs(c) < 1e-6, 0.0, c)
    words = "Bradley-Terry" + (" with a margin" if margin and handed.asks("margin") else "")
    words += "" if abs(abs(c[0]) - 1.0) < 1e-6 else f", times {abs(c[0]):.4g}"
    words += f", centering (r_w + r_l)^2 at {-c[1] / 2:.4g}" if c[1] else ""
    words += f", shrinking r_w^2 + r_l^2 at {-c[2] / 2:.4g}" if c[2] else ""
    slips += ["chosen and rejected are swapped"] if c[0] < 0 else []
    slips += ["the centering term has the wrong sign"] if c[1] > 0 else []
    return judged(words, slips, float(c[0]), None, residual, residual <= COARSE)


PAIRS: Mapping[str, Callable[[Handed], Nearest]] = {"pair loss": nearest_pair, "reward-model loss": nearest_reward_model}
