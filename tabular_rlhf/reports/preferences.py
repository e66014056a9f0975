r"""The report on a person's own comparisons: what they determine, the rewards, and the policies that follow.

**Symbols.** As in `fitted`; p_ref a reference over the candidates.

    Gibbs:  pi(y) proportional to p_ref(y) exp(r(y)/beta).
    DPO:    minimizes the same likelihood over pi, with beta log(pi/p_ref) in the place of r (`dpo-is-bt-mle`).  So where the
            likelihood has a single finite maximum, DPO's policy on the candidates *is* the Gibbs policy at the fitted r, for every beta.

**What the data leave open.** A shift of r for each prompt (which no policy sees), and all probability outside the candidates.
Within a prompt: candidates that no chain of comparisons links may trade probability freely, one dimension for each linked set but
the first; and where a set beat others and lost to none, likelihood and DPO both push its margin to infinity, and stop nowhere.

**Intransitivity** is priced by what Bradley-Terry misses of the observed win rates, sum_ij n_ij KL(rate_ij, p_ij) in nats.  If the
model is right this is chance, half a chi-squared: `degrees`/2 nats on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, did_you_mean, positive, quoted
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferencefile import Preferences
from tabular_rlhf.preferences.comparisons import distinct, triads
from tabular_rlhf.preferences.likelihood import normal_quantile
from tabular_rlhf.preferences.ranks import rank_intervals, simultaneous
from tabular_rlhf.reports.fitted import INVERTED, Fitted, normalize
from tabular_rlhf.reports.people import Features, people
from tabular_rlhf.told import parts

SCHEMA = "tabular-rlhf/fit/1"
Record = dict[str, Any]


def analyse(
    found: Preferences,
    *,
    betas: Sequence[float] = (0.1, 0.5, 1.0),
    log_ref: Array | None = None,
    prior: float | None = None,
    level: float = 0.95,
    top: int | None = None,
    against: str | None = None,
    covariance: bool = False,
    features: Features | None = None,
) -> Record:
    """Everything `tabular-rlhf fit` says, as plain values; prompts with most comparisons first.

    Args: betas, in nats of reward a nat of KL; log_ref (N,), log-probabilities of the candidates up to a constant for each prompt,
    uniform by default; prior, the variance of a Gaussian prior on rewards, which always allows a finite maximum; level, of intervals;
    top, how many prompts to list (all by default; the totals are of all); against, a response that rewards are told relative to;
    covariance, whether to tell the covariance of a prompt's rewards; features, a function (prompt, response) -> number or numbers.
    """
    betas = [positive(b, "beta", "nats of reward per nat of KL") for b in betas]
    prior = None if prior is None else positive(prior, "prior", "squared nats, the variance of a reward")
    normal_quantile(level)
    fitted = Fitted(found, normalize(np.zeros(len(found.of)) if log_ref is None else log_ref, found.of), prior)
    table = Prompts(fitted, betas, level, against, covariance)
    listed = np.argsort(-table.weight, kind="stable")[:top]
    return {
        "schema": SCHEMA,
        **parts(found, "lines", "unit", "container", "shape"),
        "comparisons": len(found.w),
        "malformed": [parts(f, "line", "reason") for f in found.faults],
        "same": list(found.same),
        "idle": [parts(f, "line", "reason") for f in found.idle],
        **parts(found, "blank", "ignored"),
        "notes": list(found.notes),
        "betas": betas,
        "level": level,
        "prior": prior,
        "against": against,
        "reference": "uniform" if log_ref is None else "given",
        "estimated_errors": fitted.estimated,
        "totals": table.totals(),
        **people(fitted, level, features),
        "prompts": [table.row(int(x)) for x in listed],
    }


def summary(nats: float, degrees: int, triads: int) -> Record:
    """The price of Bradley-Terry, against what chance alone would ask for."""
    from scipy.special import chdtrc

    p = float(chdtrc(degrees, 2 * nats)) if degrees else None
    return {"nats": nats, "by_chance": degrees / 2, "degrees": degrees, "p_value": p, "cyclic_triads": triads}


class Prompts:
    """Columns of numbers over prompts and candidates, computed once, and the record of any one prompt."""

    def __init__(self, fitted: Fitted, betas: list[float], level: float, against: str | None, covariance: bool) -> None:
        self.fitted, self.betas, self.level, self.against, self.covariance = fitted, betas, level, against, covariance
        found, parts, P = fitted.found, fitted.parts, len(fitted.found.prompts)
        if against is not None and against not in found.responses:
            remedy = did_you_mean(against, found.responses[:10_000], "name one of the responses")
            raise InputError("--against must name a response", got=quoted(against), remedy=remedy)
        self.last = np.cumsum(np.bincount(found.of, minlength=P))
        self.weight = np.bincount(found.of[found.w], found.weight, P)
        self.rows = np.bincount(found.of[found.w], minlength=P)
        self.linked, self.strong = (count_within(labels, found.of, P) for labels in (parts.linked, parts.strong))
        self.settled = count_within(fitted.blocks, found.of, P) == 1
        self.nats, self.degrees, self.cyclic, self.triads = price(fitted)
        self.policies = [np.exp(fitted.log_policy(b)) for b in betas]
        self.kls = [np.bincount(found.of, p * (np.log(np.maximum(p, 1e-300)) - fitted.log_ref), P) for p in self.policies]
        self.lost = np.asarray(fitted.wins.counts.sum(axis=0)).ravel()
        self.tied = np.sum([np.bincount(side, found.weight * found.tie, len(found.of)) for side in (found.w, found.l)], axis=0)
        self.beats, self.loses = standing(fitted)

    def totals(self) -> Record:
        """Sums over prompts."""
        whole = summary(float(np.sum(self.nats)), int(np.sum(self.degrees)), int(np.sum(self.cyclic)))
        pairs = len(self.fitted.wins.pairs()[0])
        return {
            "prompts": len(self.weight),
            "responses": len(self.fitted.found.of),
            "weight": float(np.sum(self.weight)),
            "single_pairs": int(np.sum(self.rows == 1)),
            "finite_maximum": int(np.sum(self.strong == 1)),
            "free": int(np.sum(self.linked - 1)),
            "unbounded": int(np.sum(self.strong - self.linked)),
            "pairs": pairs,
            "triads": int(np.sum(self.triads)),
            "intransitivity": whole,
        }

    def row(self, x: int) -> Record:
        """The record of one prompt."""
        a, b = int(self.last[x - 1]) if x else 0, int(self.last[x])
        items = np.arange(a, b)
        settled = bool(self.settled[x])
        cells = self.cells(items, settled)
        out = {
            "prompt": self.fitted.found.prompts[x],
            "comparisons": float(self.weight[x]),
            "rows": int(self.rows[x]),
            "finite_maximum": bool(self.strong[x] == 1),
            "components": int(self.strong[x]),
            "free": int(self.linked[x]) - 1,
            "unbounded": int(self.strong[x] - self.linked[x]),
            "kl": [float(k[x]) for k in self.kls] if settled else None,
            "intransitivity": summary(float(self.nats[x]), int(self.degrees[x]), int(self.cyclic[x])),
            "responses": cells,
        }
        small = settled and 1 < len(items) <= INVERTED
        C = self.fitted.covariance(items) if small else None
        if C is not None:
            self.rank(cells, items, C)
        if self.covariance:
            out["covariance"] = None if C is None else C.tolist()
        return out

    def cells(self, items: Indices, settled: bool) -> list[Record]:
        """One record a candidate."""
        f, found = self.fitted, self.fitted.found
        strong = f.parts.strong
        z, all_z = normal_quantile(self.level), simultaneous(self.level, len(items))
        out = []
        for k in items.tolist():
            single = f.sizes[f.blocks[k]] == 1
            r, e, c = float(f.r[k]), float(f.errors[k]), int(strong[k])
            out.append({
                "response": found.responses[k],
                "wins": float(f.wins.won[k] - 0.5 * self.tied[k]),
                "losses": float(self.lost[k] - 0.5 * self.tied[k]),
                "ties": float(self.tied[k]),
                "reward": None if single else r,
                "standard_error": None if single else e,
                "interval": None if single else [r - z * e, r + z * e],
                "interval_together": None if single else [r - all_z * e, r + all_z * e],
                "component": c,
                "standing": STANDING.get((bool(self.beats[c]), bool(self.loses[c])), ""),
                "p_ref": float(np.exp(f.log_ref[k])),
                "policy": [float(p[k]) for p in self.policies] if settled else None,
                "rank": None,
                "rank_together": None,
            })  # fmt: skip
        return out

    def rank(self, cells: list[Record], items: Indices, C: Array) -> None:
        """Ranks with their intervals, and rewards relative to the response that was named."""
        r = self.fitted.r[items]
        for key, together in (("rank", False), ("rank_together", True)):
            low, high = rank_intervals(r, C, self.level, together=together)
            for cell, one, other in zip(cells, low.tolist(), high.tolist(), strict=True):
                cell[key] = [one, other]
        if self.against in (names := [cell["response"] for cell in cells]):
            zero = names.index(self.against)
            variance = np.diag(C) + C[zero, zero] - 2.0 * C[zero]
            for cell, d, v in zip(cells, (r - r[zero]).tolist(), variance.tolist(), strict=True):
                cell["relative"] = {"reward": d, "standard_error": float(np.sqrt(np.maximum(v, 0.0)))}


STANDING = {(True, False): "never beaten from outside", (False, True): "never beats outside"}


def standing(fitted: Fitted) -> tuple[Any, Any]:
    """Whether each strong component beat an outsider, and whether it lost to one."""
    strong = fitted.parts.strong
    i, j = fitted.wins.counts.nonzero()
    across = strong[i] != strong[j]
    K = int(np.max(strong)) + 1
    beats, loses = np.zeros(K, dtype=bool), np.zeros(K, dtype=bool)
    beats[strong[i[across]]] = True
    loses[strong[j[across]]] = True
    return beats, loses


def count_within(labels: Indices, of: Indices, P: int) -> Indices:
    """How many different labels each prompt has."""
    K = int(np.max(labels)) + 1
    seen = distinct(of.astype(np.int64) * K + labels) // K
    return np.asarray(np.bincount(seen, minlength=P), dtype=np.intp)


def price(fitted: Fitted) -> tuple[Array, Indices, Indices, Indices]:
    """For each prompt: nats missed, degrees of freedom, cyclic triads, and triads of which all three pairs were decided."""
    of, P = fitted.found.of, len(fitted.found.prompts)
    i, j, a, b = fitted.pairs
    d = fitted.r[i] - fitted.r[j]
    rate = np.log(np.maximum(a, 1e-300) / (a + b)), np.log(np.maximum(b, 1e-300) / (a + b))
    missed = np.where(a > 0, a * (rate[0] - log_sigmoid(d)), 0.0) + np.where(b > 0, b * (rate[1] - log_sigmoid(-d)), 0.0)
    nats: Array = np.maximum(np.bincount(of[i], missed, P), 0.0)
    pairs = np.bincount(of[i], minlength=P)
    differences = np.bincount(of, minlength=P) - count_within(fitted.blocks, of, P)
    cyclic, every = (np.bincount(of, counts, P).astype(np.intp) for counts in triads(fitted.wins))
    return nats, np.asarray(pairs - differences, dtype=np.intp), cyclic, every
