r"""What a file says of the people who compared: ties, what they share, who turns answers around, what was shown first, and what they like.

Everything here is of the whole file; each entry is None where the file does not say enough for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferencefile import Preferences
from tabular_rlhf.preferences.judges import agreement, krippendorff, repeats, two_sided, wilson
from tabular_rlhf.preferences.likelihood import normal_quantile
from tabular_rlhf.preferences.outcomes import MODELS, fit_outcomes
from tabular_rlhf.preferences.style import POSITION, STYLE, pooled, style_features, told_features
from tabular_rlhf.reports.fitted import Fitted

Record = dict[str, Any]
Features = Callable[[str, str], Any]
POOL = 25_000
"""Comparisons that the pooled model is fitted to; of more, every so many-th."""
FEWEST = 30
"""Prompts below which their comparisons are taken to be independent, and nothing is said of style unless it is asked for."""
NAMED = 20
"""Annotators, and rows, that are listed by name."""


def people(fitted: Fitted, level: float, features: Features | None) -> Record:
    """ties, position, annotators, repeats and about, by name."""
    found = fitted.found
    pair, sign = pairs_of(found)
    return {
        "ties": ties(fitted),
        "position": position(fitted, level),
        "annotators": annotators(found, pair, sign),
        "repeats": repeated(found, pair, sign),
        "about": about(found, level, features),
    }


def pairs_of(found: Preferences) -> tuple[Indices, Indices]:
    """The unordered pair of each comparison, numbered, and its sign: 1 if the pair's first item won, 0 for a tie."""
    low, high = np.minimum(found.w, found.l), np.maximum(found.w, found.l)
    pair = np.unique(low.astype(np.int64) * (len(found.of) + 1) + high, return_inverse=True)[1]
    return pair, np.where(found.tie, 0, np.where(found.w == low, 1, -1))


def ties(fitted: Fitted) -> Record | None:
    """How many ties there are, and the two models of them, at the same number of parameters."""
    found = fitted.found
    if not np.any(found.tie):
        return None
    tied, total = float(np.sum(found.weight[found.tie == 1])), float(np.sum(found.weight))
    i, j, a, b = fitted.pairs
    t = ties_of(found, i, j)
    models: list[Record] = []
    for name in ("davidson", "rao-kupper"):
        try:
            fit = fit_outcomes(name, i, j, a - t / 2, b - t / 2, t, fitted.wins.N, fitted.r)
        except (InputError, SolveError) as e:
            models.append({"model": name, "refused": str(e)})
            continue
        value = float(np.exp(fit.eta))
        models.append({
            "model": name,
            "symbol": MODELS[name].symbol,
            "value": value,
            "standard_error": value * fit.standard_error,
            "log_likelihood": fit.log_likelihood,
            "source": MODELS[name].source,
        })  # fmt: skip
    known = [m for m in models if "refused" not in m]
    best = max(known, key=lambda m: m["log_likelihood"])["model"] if len(known) == 2 else None
    return {"ties": tied, "share": tied / total, "models": models, "better": best}


def ties_of(found: Preferences, i: Indices, j: Indices) -> Array:
    """Weight of the ties of each pair i < j."""
    from scipy.sparse import coo_array

    tied = found.tie == 1
    low, high = np.minimum(found.w, found.l)[tied], np.maximum(found.w, found.l)[tied]
    N = len(found.of)
    table = coo_array((found.weight[tied], (low, high)), shape=(N, N)).tocsr()
    return np.asarray(table[i, j]).ravel() if len(i) else np.zeros(0)


def position(fitted: Fitted, level: float) -> Record | None:
    """How often the response shown first won, and its advantage once rewards are allowed for."""
    found = fitted.found
    known = (found.first != 0) & (found.tie == 0)
    n, k = int(np.sum(known)), int(np.sum(known & (found.first > 0)))
    if not n:
        return None
    return {
        "comparisons": n,
        "first_won": k,
        "share": k / n,
        "interval": list(wilson(k, n, level)),
        "p_value": two_sided(k, n),
        "advantage": advantage(fitted),
    }


def advantage(fitted: Fitted) -> Record | None:
    """eta of the model of order: nats that being shown first is worth; None where rewards and order cannot be told apart."""
    found, blocks = fitted.found, fitted.blocks
    rows = np.flatnonzero((found.first != 0) & (blocks[found.w] == blocks[found.l]))
    if not len(rows):
        return None
    w, l, weight, tie = found.w[rows], found.l[rows], found.weight[rows], found.tie[rows] == 1
    won = found.first[rows] > 0
    i, j = np.where(won, w, l), np.where(won, l, w)
    a, b, t = np.where(won & ~tie, weight, 0.0), np.where(~won & ~tie, weight, 0.0), np.where(tie, weight, 0.0)
    try:
        fit = fit_outcomes("order", i, j, a, b, t, fitted.wins.N, fitted.r)
    except (InputError, SolveError):
        return None
    return {"nats": fit.eta, "standard_error": fit.standard_error}


def annotators(found: Preferences, pair: Indices, sign: Indices) -> Record | None:
    """How far those who judged agree, and who turns answers around; the least agreeing first."""
    J = len(found.judges)
    if not J:
        return None
    told = agreement(pair, sign, found.judge, J)
    share = np.divide(told.agreed, told.shared, out=np.ones(J), where=told.shared > 0)
    order = np.lexsort((share, told.p))[:NAMED]
    return {
        "annotators": J,
        "alpha": krippendorff(pair[found.judge >= 0], sign[found.judge >= 0]),
        "turned": [found.judges[k] for k in np.flatnonzero(told.turned).tolist()],
        "rows": [
            {
                "name": found.judges[k],
                "judged": int(told.judged[k]),
                "shared": int(told.shared[k]),
                "agreed": int(told.agreed[k]),
                "p_value": float(told.p[k]),
                "turned": bool(told.turned[k]),
            }
            for k in order.tolist()
        ],
    }


def repeated(found: Preferences, pair: Indices, sign: Indices) -> Record:
    """Rows that were said before, word for word, and pairs on which both sides were preferred."""
    told = repeats(pair, sign, found.judge)
    return {
        "again": len(told.again),
        "again_lines": found.line[told.again][:NAMED].tolist(),
        "opposed": told.opposed,
        "turned": told.turned,
    }


# ---------------------------------------------------------------------------------------------------- what it is about


@dataclass(frozen=True, eq=False)
class Pooled:
    """The comparisons that the pooled model is fitted to: rows of the file; winners w and losers l, places in phi (k, F), by names."""

    found: Preferences
    rows: Indices
    w: Indices
    l: Indices
    names: tuple[str, ...]
    phi: Array

    def column(self, name: str) -> Any:
        """A column of the file, of these rows."""
        return getattr(self.found, name)[self.rows]

    def more(self, feature: str) -> Indices:
        """1 where the winner has more of a feature, -1 where it has less."""
        values = self.phi[:, self.names.index(feature)]
        return np.asarray(np.sign(values[self.w] - values[self.l]))


def pool(found: Preferences, features: Features | None) -> tuple[Pooled, Indices]:
    """The comparisons, and which candidates of the file are in them."""
    rows = np.arange(0, len(found.w), -(-len(found.w) // POOL))
    used, place = np.unique(np.concatenate([found.w[rows], found.l[rows]]), return_inverse=True)
    return Pooled(found, rows, place[: len(rows)], place[len(rows) :], *features_of(found, used, features)), used


def about(found: Preferences, level: float, features: Features | None) -> Record | None:
    """The pooled model on features of the texts, the surest first."""
    if len(found.w) < FEWEST or (features is None and len(found.prompts) < FEWEST):
        return None
    alone = len(found.prompts) < FEWEST
    p, used = pool(found, features)
    columns = {name: p.column(name) for name in ("tie", "weight", "first")}
    told = pooled(p.w, p.l, p.phi, p.names, **columns, group=None if alone else found.of[used[p.w]])
    rows = [] if told.fit is None else feature_rows(told, p, level)
    rows.sort(key=lambda row: -abs(row["coefficient"] / row["standard_error"]) if row["standard_error"] else 0.0)
    return {
        "comparisons": len(p.w),
        "of": len(found.w),
        "grouped": not alone,
        "nats": told.null - told.nll,
        "features": rows,
        "left_out": told.left_out,
        "by_annotator": by_annotator(rows, p, level),
    }


def features_of(found: Preferences, used: Indices, features: Features | None) -> tuple[tuple[str, ...], Array]:
    texts = [found.responses[k] for k in used.tolist()]
    names, phi = style_features(texts)
    if features is not None:
        own, more = told_features(features, [found.prompts[x] for x in found.of[used].tolist()], texts)
        names, phi = own + tuple(n for n in names if n not in own), np.hstack([more, phi[:, [n not in own for n in names]]])
    return names, phi


def feature_rows(told: Any, p: Pooled, level: float) -> list[Record]:
    """Coefficient, error, interval, p, and the plain share of wins, of each feature."""
    from scipy.special import ndtr

    z = normal_quantile(level)
    rows = []
    for name, theta, error in zip(told.names, told.fit.theta.tolist(), told.fit.standard_errors.tolist(), strict=True):
        more = p.column("first") if name == POSITION else p.more(name)
        decided = (more != 0) & (p.column("tie") == 0)
        n, k = int(np.sum(decided)), int(np.sum(decided & (more > 0)))
        rows.append({
            "feature": name,
            "counts": STYLE[name][0] if name in STYLE else "",
            "coefficient": theta,
            "standard_error": error,
            "interval": [theta - z * error, theta + z * error],
            "p_value": float(2.0 * ndtr(-abs(theta) / error)) if error > 0 else None,
            "pairs": n,
            "share": k / n if n else None,
            "share_interval": list(wilson(k, n, level)) if n else None,
        })  # fmt: skip
    return rows


def by_annotator(rows: list[Record], p: Pooled, level: float) -> Record | None:
    """How often each annotator preferred more of the surest feature, the busiest first, and whether they differ."""
    from scipy.special import chdtrc

    shown = next((row["feature"] for row in rows if row["feature"] != POSITION), None)
    if shown is None or not len(p.found.judges):
        return None
    more, judge = p.more(shown), p.column("judge")
    use = (more != 0) & (p.column("tie") == 0) & (judge >= 0)
    n, k = (np.bincount(judge[kept], minlength=len(p.found.judges)) for kept in (use, use & (more > 0)))
    busy = n > 0
    if not np.any(busy):
        return None
    share = float(np.sum(k) / np.sum(n))
    spread = float(np.sum((k - n * share)[busy] ** 2 / (n[busy] * share * (1 - share)))) if 0 < share < 1 else 0.0
    degrees = int(np.sum(busy)) - 1
    return {
        "feature": shown,
        "p_value": float(chdtrc(degrees, spread)) if degrees else None,
        "rows": [
            {"name": p.found.judges[x], "pairs": pairs, "share": float(k[x] / pairs), "interval": list(wilson(int(k[x]), pairs, level))}
            for x in np.argsort(-n, kind="stable")[:NAMED].tolist()
            if (pairs := int(n[x]))
        ],
    }
