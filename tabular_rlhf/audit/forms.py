r"""What a step is made of: advantages, slopes, weights of tokens and penalties, each in its published forms and in the ways they go wrong.

A step's push on token t of response i is a product and a sum,

    push(i, t) = c [max(A_i, 0) s+(i, t) + max(-A_i, 0) s-(i, t)] omega(i, t) - b h'(log pi/pi_ref) omega(i, t),

and every factor is one of a table.  A form with a `slip` is a known mistake, told in those words.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tabular_rlhf.audit.handed import Batch
from tabular_rlhf.autodiff import grad
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.logspace import Array
from tabular_rlhf.policy_gradient import ADVANTAGES, LOSSES
from tabular_rlhf.policy_gradient.record import PolicyLoss

EPSILONS = (0.0, 1e-8, 1e-6, 1e-5, 1e-4)
BOUNDS = (0.2, 0.28)


@dataclass(frozen=True, eq=False)
class Form:
    """One way to write a factor: its name, what it is of a batch, and the mistake that it is, if any."""

    name: str
    of: Callable[[Batch], Any]
    slip: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------- advantages, (B,)


def _rows(f: Callable[[Array, Array], Any], across: bool = False) -> Callable[[Batch], Array]:
    """A function of rewards and lengths (P, G) as one of a batch; across: groups are read across prompts."""

    def of(batch: Batch) -> Array:
        shape = (batch["G"], batch["P"]) if across else (batch["P"], batch["G"])
        r, lengths = (np.reshape(batch[k], shape) for k in ("reward", "length"))
        if across:
            return np.ravel(np.broadcast_to(f(r.T, lengths.T), shape[::-1]).T)
        return np.ravel(np.broadcast_to(f(r, lengths), shape))

    return of


def _whole(f: Callable[[Array, Array], Any]) -> Callable[[Batch], Array]:
    """The same with the batch as one group."""
    return lambda batch: np.ravel(np.broadcast_to(f(batch["reward"][None], batch["length"][None]), (1, len(batch["reward"]))))


def _record(name: str, **changes: float) -> Callable[[Array, Array], Any]:
    part = ADVANTAGES[name]
    settings = {**part.defaults, **changes}
    return lambda r, lengths: part(r=r, n=np.ones(r.shape), G=r.shape[1], lengths=lengths, **settings)


def _of_sets(name: str, k: int) -> Callable[[Array, Array], Any]:
    """Of sets of k, at most the group."""
    return lambda r, lengths: _record(name, k=min(k, r.shape[1]))(r, lengths)


def _mean(r: Array) -> Array:
    return np.mean(r, axis=1, keepdims=True)


def _over(a: Array, b: Array) -> Array:
    """a / b, 0 where b is 0."""
    return np.where(b == 0, 0.0, a / np.where(b == 0, 1.0, b))


def _std(r: Array, ddof: int) -> Array:
    return np.std(r, axis=1, keepdims=True, ddof=ddof if r.shape[1] > 1 else 0)


def advantages(numbers: Iterable[float]) -> list[Form]:
    """Advantages from rewards; `numbers`, the function's own settings, may be an epsilon or a constant."""
    small = sorted({*EPSILONS, *(x for x in numbers if 0 <= x <= 0.1)})
    plain = [Form(name, _rows(_record(name))) for name in ("none", "group-mean", "rloo", "opo", "opo-others", "max-rl", "max-rl-raw")]
    plain += [
        Form(f"{name}, k = {k}", _rows(_of_sets(name, k)))
        for name in ("pass-at-k", "pass-at-k-centered", "pass-at-k-std")
        for k in sorted({2, *(int(x) for x in numbers if 1 < x < 64 and x == int(x))})
    ]
    scaled = []
    for name, ddof, eps in itertools.product(("grpo", "loo-std"), (0, 1), small):
        settings = f", ddof = {ddof}" * (ddof > 0) + f", epsilon = {eps:g}" * (eps > 0)
        scaled.append(Form(name + settings, _rows(_record(name, ddof=ddof, epsilon=eps))))
        if name == "grpo":
            scaled.append(Form(f"the batch's mean and standard deviation{settings}", _whole(_record(name, ddof=ddof, epsilon=eps))))
            scaled.append(Form(f"group's mean, batch's standard deviation{settings}", _mixed(ddof, eps)))
            scaled.append(Form(f"rloo over the group's standard deviation{settings}", _rows(_rloo_std(ddof, eps))))
            scaled.append(Form(f"whitened over tokens{settings}", _tokens(ddof, eps, lambda b: b["reward"])))
            scaled.append(Form(f"group's mean, whitened over tokens{settings}", _tokens(ddof, eps, _rows(lambda r, _: r - _mean(r)))))
    named = [Form("the batch's mean", _whole(_record("group-mean")))]
    named += [Form("leave-one-out in the batch", _whole(_record("rloo")))]
    return plain + scaled + named + _wrong_advantages(small)


def _mixed(ddof: int, eps: float) -> Callable[[Batch], Array]:
    def of(batch: Batch) -> Array:
        A = _rows(lambda r, _: r - _mean(r))(batch)
        return np.asarray(_over(A, np.asarray(np.std(batch["reward"], ddof=ddof) + eps)))

    return of


def _rloo_std(ddof: int, eps: float) -> Callable[[Array, Array], Array]:
    return lambda r, _: _over((r - _mean(r)) * r.shape[1] / max(1, r.shape[1] - 1), _std(r, ddof) + eps)


def _tokens(ddof: int, eps: float, first: Callable[[Batch], Array]) -> Callable[[Batch], Array]:
    def of(batch: Batch) -> Array:
        r, n = first(batch), batch["length"]
        mean = np.sum(n * r) / np.sum(n)
        var = np.sum(n * (r - mean) ** 2) / (np.sum(n) - ddof)
        return np.asarray((r - mean) / np.sqrt(var + eps))

    return of


def _wrong_advantages(small: Sequence[float]) -> list[Form]:
    wrong: dict[str, Callable[[Array, Array], Any]] = {
        "the others' sum is divided by G, not G - 1": lambda r, _: r - (np.sum(r, 1, keepdims=True) - r) / r.shape[1],
        "the baseline is the group's sum over G - 1: its own reward stays in": lambda r, _: (
            r - np.sum(r, 1, keepdims=True) / max(1, r.shape[1] - 1)
        ),
        "the baseline is the group's sum: not divided by G": lambda r, _: r - np.sum(r, 1, keepdims=True),
        "the mean is added, not taken off": lambda r, _: r + _mean(r),
        "the baseline is the group's best reward": lambda r, _: r - np.max(r, 1, keepdims=True),
        "the baseline is the group's worst reward": lambda r, _: r - np.min(r, 1, keepdims=True),
        "the baseline is the group's median": lambda r, _: r - np.median(r, 1, keepdims=True),
        "the baseline is the group's first reward": lambda r, _: r - r[:, :1],
        "divided by the range, not by a standard deviation": lambda r, _: _over(r - _mean(r), np.ptp(r, axis=1, keepdims=True)),
        "the absolute value of the advantage": lambda r, _: np.abs(r - _mean(r)),
        "the square of the advantage": lambda r, _: (r - _mean(r)) ** 2,
        "divided by the length of the response": lambda r, n: (r - _mean(r)) / n,
        "multiplied by the length of the response": lambda r, n: (r - _mean(r)) * n,
    }
    forms = [Form("group-mean", _rows(f), slip) for slip, f in wrong.items()]
    across = "groups are read across prompts: rewards reshaped to (G, P)"
    for ddof, eps in itertools.product((0, 1), small):
        forms += [Form("grpo", _rows(f), slip) for slip, f in _wrong_scales(ddof, eps).items()]
        forms.append(Form("grpo", _rows(_record("grpo", ddof=ddof, epsilon=eps), across=True), across))
    return forms + [Form(name, _rows(_record(name), across=True), across) for name in ("group-mean", "rloo")]


def _wrong_scales(ddof: int, eps: float) -> dict[str, Callable[[Array, Array], Any]]:
    """Of (r - mean)/(standard deviation + epsilon)."""

    def s(r: Array) -> Array:
        return _std(r, ddof)

    return {
        "the mean is not taken off": lambda r, _: _over(r, s(r) + eps),
        "divided by the variance, not the standard deviation": lambda r, _: _over(r - _mean(r), s(r) ** 2 + eps),
        "multiplied by the standard deviation, not divided": lambda r, _: (r - _mean(r)) * (s(r) + eps),
        "the square of the advantage": lambda r, _: _over(r - _mean(r), s(r) + eps) ** 2,
        "the absolute value of the advantage": lambda r, _: np.abs(_over(r - _mean(r), s(r) + eps)),
    }


def given_advantages() -> list[Form]:
    """What may be done to advantages that are handed over."""
    return [
        Form("the advantages given", lambda b: b["advantage"]),
        Form(
            "the advantages given, whitened over the batch", lambda b: (b["advantage"] - np.mean(b["advantage"])) / np.std(b["advantage"])
        ),
        Form("the advantages given", lambda b: np.abs(b["advantage"]), "the absolute value of the advantage"),
        Form("the advantages given", lambda b: np.square(b["advantage"]), "the square of the advantage"),
        Form("the advantages given", lambda b: np.ones_like(b["advantage"]), "the advantage is not used"),
        Form("the advantages given", lambda b: np.maximum(b["advantage"], 0.0), "negative advantages are dropped"),
        Form("the advantages given", lambda b: b["reward"], "the reward in the place of the advantage"),
    ]


# ---------------------------------------------------------------------------------------------------- slopes, (B, T) for A = 1 and -1


Slopes = Callable[[Batch], tuple[Array, Array]]


def _slope(f: Callable[..., Any], level: str, inside: Callable[..., Any] = lambda x, old, a: x) -> Slopes:
    """The slope in each token's log-probability of f(log_pi, log_old, log_now, A), at the level of tokens or of responses."""

    def of(batch: Batch) -> tuple[Array, Array]:
        mask, logp, old = batch["mask"], batch["logp"], batch["old"]
        divide = batch["length"][:, None] if level == "geometric" else 1.0

        def whole(x: Any) -> Any:
            return x if level == "token" else np.sum(x * mask, axis=1, keepdims=True) / divide

        def term(x: Any, a: float) -> Any:
            return np.sum(f(whole(inside(x, old, a)), whole(old), whole(logp), a))

        with np.errstate(all="ignore"):
            up, down = (np.asarray(grad(lambda x, a=a: term(x, a))(logp)) for a in (1.0, -1.0))
        return up, down

    return of


def _of_record(loss: PolicyLoss, settings: dict[str, float]) -> Slopes:
    whole = {**loss.defaults, **settings}

    def f(x: Any, old: Array, now: Array, A: float) -> Any:
        return loss(log_pi=x, log_old=old, log_now=now, A=np.full(np.shape(old), A), **whole)

    return _slope(f, loss.level, lambda x, old, a: loss.of_tokens(x, old, a, whole))


def _bounds(numbers: Iterable[float]) -> list[float]:
    return sorted({*BOUNDS, *(x for x in numbers if 0 < x < 1), *(round(x - 1, 12) for x in numbers if 1 < x < 2)})


def slopes(numbers: Sequence[float]) -> list[Form]:
    """What a policy loss makes of a ratio; `numbers`, the function's own settings, may be bounds."""
    out: list[Form] = []
    bounds = _bounds(numbers)
    for name, loss in LOSSES.items():
        grid: list[dict[str, float]] = [{}]
        if {"low", "high"} <= set(loss.defaults):
            low_high = itertools.product([*bounds, 1.0], [*bounds, *(x for x in numbers if x >= 1)])
            grid = [{"low": a, "high": b} for a, b in low_high] + [dict(loss.defaults)]
        elif "clip" in loss.defaults:
            duals = [x for x in (3.0, *numbers) if x > 1] if "dual" in loss.defaults else [0.0]
            grid = [{"clip": c} | ({"dual": d} if d else {}) for c in bounds for d in duals]
        for settings in {tuple(sorted(g.items())): g for g in grid}.values():
            if settings.get("low") is not None and settings["low"] == settings["high"] and name == "clip-higher":
                continue  # that is ppo-clip
            words = ", ".join(f"{k} {v:g}" for k, v in settings.items())
            told = f"{name}{f' ({words})' if words else ''}"
            out.append(Form(told, _of_record(loss, settings), settings=settings))
    return out + _wrong_slopes(bounds)


def _wrong_slopes(bounds: Sequence[float]) -> list[Form]:
    out = []
    for level, base, clip in (
        ("token", "ratio", "ppo-clip"),
        ("sequence", "sequence-ratio", "sequence-clip"),
        ("geometric", "gspo", "gspo"),
    ):
        out.append(Form(base, _slope(lambda x, old, now, A: np.exp(old - x) * A, level), UPSIDE))
        for a, b in itertools.product(bounds, bounds):
            if a <= b:
                bound = f" ({a:g})" if a == b else f" (low {a:g}, high {b:g})"
                out += [Form(f"{clip}{bound}", _slope(f, level), slip) for slip, f in _wrong_clips(a, b).items()]
    return out


UPSIDE = "the ratio is upside down: pi_old/pi"


def _wrong_clips(a: float, b: float) -> dict[str, Callable[..., Any]]:
    """Of min(rho A, clip(rho, 1 - a, 1 + b) A)."""

    def least(x: Any, A: float) -> Any:
        return np.minimum(x * A, np.clip(x, 1.0 - a, 1.0 + b) * A)

    return {
        UPSIDE: lambda x, old, now, A: least(np.exp(old - x), A),
        "the larger of clipped and unclipped is taken, not the smaller": lambda x, old, now, A: -least(np.exp(x - old), -A),
        "the clipped ratio alone, without the minimum": lambda x, old, now, A: np.clip(np.exp(x - old), 1.0 - a, 1.0 + b) * A,
        "the ratio is not exponentiated": lambda x, old, now, A: least(x - old, A),
    }


# ---------------------------------------------------------------------------------------------------- weights of tokens, (B, T)

MASKS: tuple[Form, ...] = (
    Form("", lambda b: b["mask"]),
    Form("", lambda b: np.ones_like(b["mask"]), "padding is not masked: its tokens are trained on"),
    Form("", lambda b: b["mask"] * (np.arange(b["T"]) < b["length"][:, None] - 1), "EOS is masked out of the loss"),
    Form("", lambda b: b["mask"] * (np.arange(b["T"]) > 0), "the first token is masked out of the loss"),
    Form("", lambda b: 1.0 - b["mask"], "the mask is upside down"),
)


def _prompts(batch: Batch, f: Array) -> Array:
    """Sums over the group of each response, (B, 1)."""
    return np.asarray(np.bincount(batch["group"], f)[batch["group"]][:, None], dtype=float)


DENOMINATORS: tuple[tuple[str, Callable[[Batch, Array], Any]], ...] = (
    ("sequence-sum", lambda b, m: len(m)),
    ("sequence-mean", lambda b, m: len(m) * np.maximum(1.0, m.sum(1, keepdims=True))),
    ("token-mean", lambda b, m: np.maximum(1.0, m.sum())),
    ("divided by the batch's padded tokens B T", lambda b, m: m.size),
    ("a token-mean of every prompt, averaged", lambda b, m: b["P"] * np.maximum(1.0, _prompts(b, m.sum(1)))),
    ("summed over the batch", lambda b, m: 1.0),
    ("divided by B and the length that is allowed", lambda b, m: len(m) * b["limit"]),
    ("divided by the longest response and B", lambda b, m: len(m) * np.max(m.sum(1))),
    ("divided by the prompts", lambda b, m: b["P"]),
)


def _share(
    mask: Callable[[Batch], Any], denominator: Callable[[Batch, Array], Any], counted: Callable[[Batch], Any]
) -> Callable[[Batch], Any]:
    return lambda batch: mask(batch) / denominator(batch, counted(batch))


def weights() -> list[Form]:
    """What a token counts."""
    out = []
    for mask, (name, denominator) in itertools.product(MASKS, DENOMINATORS):
        out.append(Form(name, _share(mask.of, denominator, mask.of), mask.slip))
        if mask.slip:  # counted by the right mask all the same
            out.append(Form(name, _share(mask.of, denominator, MASKS[0].of), mask.slip))
    one_more = "a response's length is counted one too large"
    out.append(Form("sequence-mean", lambda b: b["mask"] / (len(b["mask"]) * (b["length"][:, None] + 1.0)), one_more))
    squared = "divided by the length twice"
    out.append(Form("sequence-mean", lambda b: b["mask"] / (len(b["mask"]) * b["length"][:, None] ** 2), squared))
    times = "multiplied by the length"
    out.append(Form("sequence-sum", lambda b: b["mask"] * b["length"][:, None] / len(b["mask"]), times))
    return out


# ---------------------------------------------------------------------------------------------------- penalties, slopes (B, T)


def _penalty(name: str, other: str) -> Callable[[Batch], Array]:
    return lambda batch: np.asarray(ESTIMATORS[name].slope(batch["logp"] - batch[other]))


def penalties() -> list[Form]:
    """The slope of a penalty of each token; of whole responses: of its sum."""
    out = [Form(e, _penalty(e, "ref")) for e in ("k1", "k2", "k3", "abs")]
    inverted = "k3 with its ratio upside down"
    out.append(Form("k3", _penalty("k3-inverted", "ref"), inverted))
    old = "against the old policy, not the reference"
    out += [Form(e, _penalty(e, "old"), old) for e in ("k2", "k3")]
    no_one = "k3 without its log-ratio: exp alone"
    out.append(Form("k3", lambda b: -np.exp(b["ref"] - b["logp"]), no_one))
    sign = "k3 with the sign of its log-ratio flipped"
    out.append(Form("k3", lambda b: -np.exp(b["ref"] - b["logp"]) - 1.0, sign))
    return out
