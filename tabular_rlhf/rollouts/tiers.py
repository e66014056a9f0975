r"""What a file of rollouts says, in three tiers that are never mixed.

**Certain** for the whole problem, whatever was not drawn: how much probability the distinct responses cover; log Z >= log of their part
of Z, since no part is negative; one log-probability an edge, siblings at most 1; the mean best of m over all subsets of a prompt's
responses; what wins in pairs, and DPO's loss on them (`pairs`); the advantages that every recipe gives on the real groups, whether they are
those that the trainer recorded, and groups that teach nothing.

**Exact for the candidates only**: p_ref and exp(r/beta) renormalized over the responses at hand.  That is what reranking does.  It is
*not* an estimate of p*: among few candidates the best is often not there.

**Estimates**, each with a standard error over prompts and a warning of how wrong that may be: importance weights with a heavy tail look
calm until the one response is drawn that carries the mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tabular_rlhf.errors import positive
from tabular_rlhf.logspace import Array, logsumexp, remainder
from tabular_rlhf.policy_gradient import ADVANTAGES
from tabular_rlhf.policy_gradient.record import Advantage
from tabular_rlhf.registry import parameters
from tabular_rlhf.rollouts.pairs import LABELS, halves, pairs
from tabular_rlhf.rollouts.read import Rollouts
from tabular_rlhf.rollouts.trie import Trie, trie_of

Record = dict[str, Any]
SCHEMA = "tabular-rlhf/rollouts/1"
FIRST = 5
"""Places of a kind that a report names."""
THIN = 10.0
"""Effective draws below which a weighted mean's own error bar is no guide."""
USUAL: Mapping[str, tuple[float, ...]] = {"ddof": (0, 1), "epsilon": (0.0, 1e-8, 1e-6, 1e-5, 1e-4)}
"""Settings that trainers' advantages have."""
SIZES = (1, 2, 4, 8, 16, 32, 64)
"""m of best-of-m."""


def analyse(r: Rollouts, *, beta: float = 1.0, tolerance: float = 1e-6) -> Record:
    """Everything `tabular-rlhf rollouts` says, as plain values.

    Args: beta, the KL weight, reward units per nat; tolerance, nats, of an engine's noise.
    """
    positive(beta, "beta", "reward units per nat")
    trie, each = trie_of(r, tolerance=tolerance), {label: halves(r, beta, label) for label in LABELS}
    return {
        "schema": SCHEMA,
        "file": _file(r, trie),
        "beta": beta,
        "certain": {**_consistency(trie), **_bounds(r, trie, beta), "best_of": best_of(r), "pairs": pairs(r, each), "groups": groups(r)},
        "candidates": candidates(r, trie, beta),
        "estimates": estimates(r, beta, each),
    }


def _file(r: Rollouts, trie: Trie) -> Record:
    return {
        "lines": r.lines,
        "responses": r.n,
        "distinct": int(trie.response.max()) + 1,
        "prompts": len(r.prompts),
        "groups": int(r.group.max()) + 1,
        "tokens": int(r.lengths.sum()),
        "nodes": trie.nodes,
        "cut": int(np.sum(r.cut)),
        "malformed": [{"line": line, "reason": reason} for line, reason in r.malformed],
    }


# ---------------------------------------------------------------------------------------------------- certain


def _consistency(trie: Trie) -> Record:
    """Edges with several log-probabilities, and nodes with more than all of the probability."""
    out: Record = {"edges": trie.edges, "shared_edges": trie.shared}
    for key in ("logp", "logp_ref"):
        edges, crowds = trie.differing[key], trie.crowded[key]
        out[f"differing_{key}"] = {
            "count": len(edges),
            "largest": max((e.high - e.low for e in edges), default=0.0),
            "first": [{"depth": e.depth, "token": e.token, "low": e.low, "high": e.high, "lines": list(e.lines)} for e in edges[:FIRST]],
        }
        out[f"crowded_{key}"] = {
            "count": len(crowds),
            "largest": max((c.mass for c in crowds), default=1.0),
            "first": [{"depth": c.depth, "line": c.line, "children": c.children, "mass": c.mass} for c in crowds[:FIRST]],
        }
    return out


def consistent(found: Record) -> bool:
    """Whether every edge has one log-probability and no node more than all of the probability."""
    return all(found["certain"][f"{kind}_{key}"]["count"] == 0 for kind in ("differing", "crowded") for key in ("logp", "logp_ref"))


def _distinct(r: Rollouts, trie: Trie) -> tuple[Any, Array, Array]:
    """One line of each distinct response, and log p and log p_ref of them."""
    _, first = np.unique(trie.response, return_index=True)
    return first, r.logp[first].sum(axis=1), r.logp_ref[first].sum(axis=1)


def _bounds(r: Rollouts, trie: Trie, beta: float) -> Record:
    """Covered mass, and what is certain of log Z, by prompt; whole responses only."""
    first, log_p, log_ref = _distinct(r, trie)
    whole = ~r.cut[first]
    rows = []
    for x in range(len(r.prompts)):
        at = whole & (r.prompt[first] == x)
        if not at.any():
            continue
        rows.append(
            {
                "prompt": r.prompts[x],
                "covered": float(np.exp(logsumexp(log_p[at]))),
                "covered_ref": float(np.exp(logsumexp(log_ref[at]))),
                "log_Z_at_least": float(logsumexp(log_ref[at] + r.reward[first][at] / beta)),
            }
        )
    cells: dict[str, Any] = {key: [row[key] for row in rows] for key in ("covered", "covered_ref", "log_Z_at_least")}
    return {"prompts": rows, **{key: float(np.mean(np.array(value))) if value else None for key, value in cells.items()}}


def best_of(r: Rollouts) -> list[Record]:
    """The mean best reward over all subsets of m responses to a prompt, averaged over the prompts that have m, for every m.

    sum_i r_(i) C(i - 1, m - 1)/C(n, m),      r_(1) <= ... <= r_(n).
    """
    rows = []
    for m in SIZES:
        means = []
        for x in range(len(r.prompts)):
            rewards = np.sort(r.reward[r.prompt == x])
            n = len(rewards)
            if n >= m:
                log_share = [_log_comb(i, m - 1) - _log_comb(n, m) for i in range(n)]
                means.append(float(np.sum(np.exp(log_share) * rewards)))
        if means:
            rows.append({"m": m, "prompts": len(means), "reward": float(np.mean(means))})
    return rows


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if n >= k else -math.inf


def groups(r: Rollouts) -> Record:
    """Sizes, groups in which all rewards are equal, and what every recipe makes of the others."""
    members = [np.flatnonzero(r.group == g) for g in range(int(r.group.max()) + 1)]
    silent = [bool(np.ptp(r.reward[at]) == 0.0) for at in members]
    rows = []
    for name, advantage in recipes().items():
        fit = [at for at in members if len(at) >= max(2, advantage.smallest)]
        if fit:
            a, recorded = np.concatenate([_advantage(r, at, advantage, advantage.defaults) for at in fit]), _recorded(r, fit, advantage)
            size = {"mean": float(a.mean()), "rms": float(np.sqrt(np.mean(a**2))), "largest": float(np.abs(a).max())}
            rows.append({"name": name, "groups": len(fit), **size, "recorded": recorded})
    return {
        "count": len(members),
        "smallest": min(len(at) for at in members),
        "largest": max(len(at) for at in members),
        "silent": int(np.sum(silent)),
        "advantages": rows,
    }


def recipes() -> dict[str, Advantage]:
    """The advantages that ask for a group and nothing more: not for the greedy response, or a score."""
    plain = {"r", "n", "G", "lengths", "H"}
    return {name: a for name, a in ADVANTAGES.items() if set(parameters(a.fn)) <= {*plain, *a.defaults}}


def _advantage(r: Rollouts, at: Any, advantage: Advantage, settings: Mapping[str, float]) -> Array:
    supply = {"r": r.reward[at], "n": np.ones(len(at)), "G": len(at), "lengths": r.lengths[at].astype(float), "H": int(r.lengths.max())}
    return np.broadcast_to(advantage(**supply, **settings), at.shape)


def _recorded(r: Rollouts, members: list[Any], advantage: Advantage) -> Record | None:
    """How far the recorded advantages are from the recipe's, with the nearest of the usual settings; None where none were recorded."""
    if r.advantage is None:
        return None
    usual = [{**advantage.defaults, **dict(zip(USUAL, values, strict=True))} for values in itertools.product(*USUAL.values())]
    tried = list({tuple((k, s[k]) for k in advantage.defaults): None for s in usual})
    far = [max(float(np.abs(_advantage(r, at, advantage, dict(s)) - r.advantage[at]).max()) for at in members) for s in tried]
    k = int(np.argmin(far))
    return {"settings": dict(tried[k]), "largest_difference": far[k]}


# ---------------------------------------------------------------------------------------------------- for the candidates only


def candidates(r: Rollouts, trie: Trie, beta: float) -> Record:
    """p_ref, and p_ref exp(r/beta), renormalized over the distinct responses to each prompt; averages over prompts."""
    first, _, log_ref = _distinct(r, trie)
    rows = []
    for x in range(len(r.prompts)):
        at = (r.prompt[first] == x) & ~r.cut[first]
        if not at.any():
            continue
        reward = r.reward[first][at]
        before = np.exp(log_ref[at] - logsumexp(log_ref[at]))
        tilt = log_ref[at] + reward / beta
        after = np.exp(tilt - logsumexp(tilt))
        rows.append((float(before @ reward), float(after @ reward), float(reward.max()), float(np.max(after)), int(at.sum())))
    mean: list[Any] = np.mean(np.array(rows), axis=0).tolist() if rows else [None] * 5
    return dict(zip(("reward_before", "reward_after", "best", "largest_share", "candidates"), mean, strict=True))


# ---------------------------------------------------------------------------------------------------- estimates


def estimates(r: Rollouts, beta: float, each: Mapping[str, Array]) -> list[Record]:
    """Means over responses with standard errors over prompts, and what each is worth."""
    L = np.sum(r.logp - r.logp_ref, axis=1)
    rows = [_mean(r, "E[r]", "reward", r.reward)]
    rows += [_mean(r, f"E[{name}]", "reward", x) for name, x in r.parts.items() if not np.isnan(x).any()]
    rows += [_mean(r, "length", "tokens", r.lengths.astype(float)), _mean(r, "KL(p, p_ref) by k1", "nats", L)]
    rows += [_mean(r, "KL(p, p_ref) by k2, biased", "nats", 0.5 * L**2)]
    with np.errstate(over="ignore"):
        k3 = remainder(-L, 2)
    rows += [_mean(r, "KL(p, p_ref) by k3", "nats", k3, -L)]
    rows += [_mean(r, "J = E[r] - beta KL", "reward", r.reward - beta * L)]
    rows += [_log_mean(r, "log Z by weights exp(r/beta) p_ref/p", r.reward / beta - L)]
    for label, (free, told) in ((label, x.T) for label, x in each.items()):
        of_pairs = free - told
        rows += [_mean(r, f"DPO's loss of p, by {label}", "nats", of_pairs, degree=2)] if np.isfinite(of_pairs).all() else []
    if r.logp_new is not None:
        ratio = np.sum(r.logp_new - r.logp, axis=1)
        rows += [_log_mean(r, "log E[p_new/p], truly 0", ratio)]
    return rows


def _mean(r: Rollouts, name: str, unit: str, x: Array, log_weight: Array | None = None, degree: int = 1) -> Record:
    """A mean over prompts of means over responses, its standard error between prompts (between responses, if there is one prompt).

    Args: degree, of how many responses x is a function: of the others it is a mean.
    """
    if not np.isfinite(x).all():
        return {"name": name, "unit": unit, "value": math.inf, "standard_error": None, "ess": _ess(log_weight), "warning": "beyond floats"}
    if len(r.prompts) > 1:
        means = np.bincount(r.prompt, x) / np.bincount(r.prompt)
        value, spread, n = float(means.mean()), float(means.std(ddof=1)), len(means)
    else:
        value, spread, n = float(x.mean()), degree * float(x.std(ddof=1)) if r.n > 1 else math.inf, r.n
    ess = _ess(log_weight)
    warning = _warning(ess, n)
    return {"name": name, "unit": unit, "value": value, "standard_error": spread / math.sqrt(n), "ess": ess, "warning": warning}


def _log_mean(r: Rollouts, name: str, log_w: Array) -> Record:
    """log of a mean weight, averaged over prompts; its error by the delta method."""
    values, errors = [], []
    for x in range(len(r.prompts)):
        w = log_w[r.prompt == x]
        top = w.max()
        scaled = np.exp(w - top)
        values.append(float(top + np.log(scaled.mean())))
        errors.append(float(scaled.std(ddof=1) / scaled.mean() / math.sqrt(len(w))) if len(w) > 1 else math.inf)
    ess = float(np.mean([_ess(log_w[r.prompt == x]) or 0.0 for x in range(len(r.prompts))]))
    error = float(np.sqrt(np.sum(np.square(errors)))) / len(errors)
    return {
        "name": name,
        "unit": "nats",
        "value": float(np.mean(values)),
        "standard_error": error,
        "ess": ess,
        "warning": _warning(ess, r.n),
    }


def _ess(log_w: Array | None) -> float | None:
    """(sum w)^2/sum w^2, how many draws the weights are worth."""
    return None if log_w is None else float(np.exp(2.0 * logsumexp(log_w) - logsumexp(2.0 * log_w)))


def _warning(ess: float | None, n: int) -> str:
    if ess is not None and ess < THIN:
        return f"worth {ess:.1f} draws: its error bar is no guide, and the truth may be far above"
    return "few prompts: the error bar is rough" if n < 8 else ""
