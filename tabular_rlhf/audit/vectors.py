r"""Conformance vectors: inputs and outputs of the field's formulas as plain JSON, for a trainer's own tests.

**A file** holds one family: `schema`, `version`, `kind`, `about`, `provenance`, and `cases`; a case is `name` (the record's), `settings`,
`inputs` (roles of `audit --help`, nested lists), `outputs` (numbers, written so that reading gives the same double again) and `exact` (the
same as fractions, where they are rational numbers).

    advantages     reward, length, G, P                  -> advantage (B,)
    kl             logp, ref, mask                       -> value (B, T), slope (B, T) of each token's penalty in its logp
    policy-losses  logp, old, advantage, mask            -> loss (to be lowered), gradient (B, T) in logp
    aggregations   table, mask                           -> loss, weight (B, T) of each token
    pair-losses    chosen, rejected, ref_..., ..._length -> loss (n,), gradient_chosen (n,), gradient_rejected (n,)
    gibbs          ref, reward, beta                     -> p (N,), Z, value
    best-of-n      ref, reward, n                        -> p (N,)

A loss of whole responses (gspo, sequence-clip) is one number a response, weighed as one of its tokens would be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, value_and_grad
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.logspace import Array
from tabular_rlhf.losses import LOSSES as PAIR_LOSSES
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS, LOSSES
from tabular_rlhf.policy_gradient.record import Aggregation, PolicyLoss

SCHEMA = "tabular-rlhf/vectors/1"
Case = dict[str, Any]
FAMILIES: Mapping[str, str] = {
    "advantages": "advantages from groups of rewards",
    "kl": "KL estimators of tokens and their slopes",
    "policy-losses": "policy losses on and off policy, with every aggregation",
    "aggregations": "losses of tokens added up, with masks",
    "pair-losses": "direct alignment losses of pairs, and their gradients",
    "gibbs": "the optimum p_ref exp(r/beta)/Z",
    "best-of-n": "the law of the best of n responses",
}
GROUPS: tuple[tuple[list[Fraction], list[int]], ...] = (
    ([Fraction(1), Fraction(0), Fraction(0), Fraction(1)], [2, 1, 4, 3]),
    ([Fraction(1), Fraction(-1, 2), Fraction(3), Fraction(1, 4)], [3, 1, 2, 5]),
    ([Fraction(1), Fraction(1), Fraction(1), Fraction(1)], [1, 2, 3, 4]),
    ([Fraction(2), Fraction(1, 3), Fraction(0)], [1, 5, 2]),
)
"""Rewards and lengths of single groups: 0/1 rewards, graded ones, equal ones, three responses."""


def plain(x: Any) -> Any:
    """Arrays as nested lists, fractions as text."""
    if isinstance(x, Fraction):
        return str(x)
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [plain(v) for v in x]
    return x.tolist() if isinstance(x, np.ndarray | np.generic) else x


def _case(name: str, inputs: Case, outputs: Case, *, settings: Mapping[str, Any] | None = None, exact: Case | None = None) -> Case:
    return plain({"name": name, "settings": dict(settings or {}), "inputs": inputs, "outputs": outputs, "exact": exact or {}})


# ---------------------------------------------------------------------------------------------------- advantages

RATIONAL: Mapping[str, Callable[[list[Fraction], list[int], int], Fraction]] = {
    "none": lambda r, n, i: r[i],
    "group-mean": lambda r, n, i: r[i] - Fraction(sum(r), len(r)),
    "rloo": lambda r, n, i: r[i] - (sum(r) - r[i]) / (len(r) - 1),
    "opo": lambda r, n, i: r[i] - sum(a * b for a, b in zip(n, r, strict=True)) / Fraction(sum(n)),
    "opo-others": lambda r, n, i: r[i] - (sum(a * b for a, b in zip(n, r, strict=True)) - n[i] * r[i]) / Fraction(sum(n) - n[i]),
}
"""Advantages that are rational where rewards are."""


def _advantages() -> Iterator[Case]:
    for name, part in ADVANTAGES.items():
        if name in ("constant", "remax", "optimal"):  # they look at more than the group
            continue
        changes: list[dict[str, float]] = [dict(part.defaults)]
        if "ddof" in part.defaults:
            changes = [{"ddof": d, "epsilon": e} for d in (0, 1) for e in (0.0, 1e-4)]
        for (r, lengths), settings in itertools.product(GROUPS, changes):
            if len(r) < part.smallest or (name == "loo-std" and settings["ddof"] > len(r) - 2):
                continue
            rewards, n = np.array([float(x) for x in r]), np.array(lengths, dtype=float)
            A = part(r=rewards, n=np.ones(len(r)), G=len(r), lengths=n, **settings)
            exact = {"advantage": [RATIONAL[name](r, lengths, i) for i in range(len(r))]} if name in RATIONAL else {}
            inputs = {"reward": rewards, "length": lengths, "G": len(r), "P": 1}
            yield _case(name, inputs, {"advantage": np.broadcast_to(A, rewards.shape)}, settings=settings, exact=exact)


# ---------------------------------------------------------------------------------------------------- tokens


MOVED = np.array([[0.22, -0.3, 0.0, 0.0, 0.0], [1.3, -0.24, 0.1, -0.5, 0.0], [0.6, 0.0, 0.0, 0.0, 0.0], [-0.1, 0.23, -0.3, 0.0, 0.0]])
"""log(pi/pi_old) off policy: between usual bounds, beyond them on either side, and far, under advantages of either sign."""


def _tokens() -> dict[str, Array]:
    """Tables of a ragged batch with a column of padding alone, in numbers of few digits; B is not T: a mistake of shape shows."""
    (B, T), rng = MOVED.shape, np.random.default_rng(2024)
    logp = -np.round(rng.uniform(0.1, 3.0, (B, T)), 2)
    lengths = np.array([2, 4, 1, 3])
    mask = (np.arange(T) < lengths[:, None]).astype(float)
    moved = {"old": logp - MOVED, "ref": logp + np.round(rng.uniform(-1.0, 1.0, (B, T)), 2)}
    tables = {"logp": logp, **moved, "table": np.round(rng.uniform(-1.0, 2.0, (B, T)), 2)}
    return {k: v * mask for k, v in tables.items()} | {"mask": mask, "advantage": np.array([1.0, -0.5, 2.0, -1.25])}


def _kl() -> Iterator[Case]:
    t = _tokens()
    L = t["logp"] - t["ref"]
    for name, e in ESTIMATORS.items():
        if not e.per_state:
            outputs = {"value": e.h(L) * t["mask"], "slope": e.slope(L) * t["mask"]}
            yield _case(name, {k: t[k] for k in ("logp", "ref", "mask")}, outputs)


def weights_of(rule: Aggregation, mask: Array) -> Array:
    """What a token counts, (B, T)."""
    G, H = mask.shape
    omega = rule(lengths=mask.sum(1), n=np.ones(G), G=G, H=H, **rule.defaults)
    return np.asarray(np.broadcast_to(np.reshape(omega, (-1, 1)), mask.shape) * mask)


def _aggregations() -> Iterator[Case]:
    t = _tokens()
    lengths = [int(n) for n in t["mask"].sum(1)]
    G, T = t["mask"].shape
    one: dict[str, Callable[[int], Fraction]] = {
        "sequence-sum": lambda n: Fraction(1, G),
        "sequence-mean": lambda n: Fraction(1, G * n),
        "token-mean": lambda n: Fraction(1, sum(lengths)),
        "constant": lambda n: Fraction(1, G * T),
        "length-weighted": lambda n: Fraction(n, G),
    }
    for name, rule in AGGREGATIONS.items():
        w = weights_of(rule, t["mask"])
        exact = {"weight": [[one[name](n) if j < n else Fraction(0) for j in range(T)] for n in lengths]}
        outputs = {"loss": float(np.sum(w * t["table"])), "weight": w}
        yield _case(name, {"table": t["table"], "mask": t["mask"]}, outputs, settings=rule.defaults, exact=exact)


def policy_loss(loss: PolicyLoss, rule: Aggregation, logp: Any, t: Mapping[str, Array], **settings: float) -> Any:
    """Minus what is ascended, as a function of logp (B, T)."""
    mask, w = t["mask"], weights_of(rule, t["mask"])
    lengths = mask.sum(1, keepdims=True)
    sign = np.where(t["advantage"] < 0, -1.0, 1.0)[:, None]
    x, old, now = loss.of_tokens(logp, t["old"], sign, {**loss.defaults, **settings}), t["old"], t["logp"]
    if loss.level != "token":
        divide = lengths if loss.level == "geometric" else 1.0
        x, old, now = (np.sum(y * mask, axis=1, keepdims=True) / divide for y in (x, old, now))
        w = np.max(w, axis=1, keepdims=True)
    f = loss(log_pi=x, log_old=old, log_now=now, A=np.broadcast_to(t["advantage"][:, None], old.shape), **settings)
    return -np.sum(w * f)


def _policy_losses() -> Iterator[Case]:
    for on_policy, (name, loss), (how, rule) in itertools.product((True, False), LOSSES.items(), AGGREGATIONS.items()):
        t = _tokens()
        t["old"] = t["logp"] if on_policy else t["old"]
        value, gradient = value_and_grad(lambda x, a=(loss, rule, t): policy_loss(a[0], a[1], x, a[2], **a[0].defaults))(t["logp"])
        settings = {**loss.defaults, "aggregation": how, "on_policy": on_policy}
        inputs = {k: t[k] for k in ("logp", "old", "advantage", "mask")}
        yield _case(name, inputs, {"loss": float(value), "gradient": gradient * t["mask"]}, settings=settings)


# ---------------------------------------------------------------------------------------------------- pairs, and what is exact


def _pairs() -> dict[str, Array]:
    rng = np.random.default_rng(2025)
    sides = ("chosen", "rejected", "ref_chosen", "ref_rejected")
    found = dict(zip(sides, -np.round(rng.uniform(0.5, 6.0, (4, 6)), 2), strict=True))
    return found | dict(zip(("chosen_length", "rejected_length"), rng.integers(1, 6, (2, 6)).astype(float), strict=True))


def _pair_losses() -> Iterator[Case]:
    t, beta = _pairs(), 0.1
    names = {"len_w": t["chosen_length"], "len_l": t["rejected_length"]}
    for name, loss in PAIR_LOSSES.items():
        if loss.frozen or "p0" in loss.needs or "q0" in loss.needs:  # they look at more than the pair
            continue

        def values(p: Any, q: Any, loss: Any = loss) -> Any:
            a, b = p - t["ref_chosen"], q - t["ref_rejected"]
            return loss(**{**loss.settings(beta), **names, "p": p, "q": q, "a": a, "b": b})

        up, down = grad(lambda p, q, f=values: np.sum(f(p, q)), (0, 1))(t["chosen"], t["rejected"])
        outputs = {"loss": values(t["chosen"], t["rejected"]), "gradient_chosen": up, "gradient_rejected": down}
        yield _case(name, t, outputs, settings={"beta": beta, **loss.defaults})


LAWS: tuple[tuple[list[Fraction], list[int]], ...] = (
    ([Fraction(1, 3), Fraction(4, 9), Fraction(2, 9)], [1, 3, 2]),
    ([Fraction(1, 2), Fraction(1, 4), Fraction(1, 8), Fraction(1, 8)], [1, 2, 2, 5]),
)
"""References, and whole k with r = log k."""


def _gibbs() -> Iterator[Case]:
    for ref, k in LAWS:
        Z = sum(q * m for q, m in zip(ref, k, strict=True))
        p = [q * m / Z for q, m in zip(ref, k, strict=True)]
        inputs = {"ref": [float(q) for q in ref], "reward": [math.log(m) for m in k], "beta": 1.0}
        outputs = {"p": [float(x) for x in p], "Z": float(Z), "value": math.log(Z)}
        yield _case("gibbs", inputs, outputs, exact={"ref": ref, "exp_reward": k, "p": p, "Z": Z})


def _best_of_n() -> Iterator[Case]:
    for (ref, k), n in itertools.product(LAWS, (1, 2, 4, 8)):
        exact = []
        for q, m in zip(ref, k, strict=True):
            level = sum((a for a, b in zip(ref, k, strict=True) if b == m), Fraction(0))
            below = sum((a for a, b in zip(ref, k, strict=True) if b < m), Fraction(0))
            exact.append(q * ((below + level) ** n - below**n) / level)
        inputs = {"ref": [float(q) for q in ref], "reward": [float(m) for m in k], "n": n}
        yield _case("best-of-n", inputs, {"p": [float(x) for x in exact]}, exact={"ref": ref, "p": exact})


MADE: Mapping[str, Callable[[], Iterator[Case]]] = {
    "advantages": _advantages,
    "kl": _kl,
    "policy-losses": _policy_losses,
    "aggregations": _aggregations,
    "pair-losses": _pair_losses,
    "gibbs": _gibbs,
    "best-of-n": _best_of_n,
}


def vectors(family: str, version: str) -> dict[str, Any]:
    """The file of one family, as plain values.

    >>> file = vectors("advantages", "0"); case = next(c for c in file["cases"] if c["name"] == "rloo")
    >>> case["inputs"]["reward"], case["exact"]["advantage"]
    ([1.0, 0.0, 0.0, 1.0], ['2/3', '-2/3', '-2/3', '2/3'])
    """
    about = FAMILIES[family]
    provenance = f"computed by tabular_rlhf {version} from its own records; each record names its paper"
    return {"schema": SCHEMA, "version": version, "kind": family, "about": about, "provenance": provenance, "cases": list(MADE[family]())}
