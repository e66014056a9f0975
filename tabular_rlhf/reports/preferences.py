r"""The report on a person's own comparisons: what they determine, the rewards, and the policies that follow.

**Symbols.** For each prompt, its observed responses are the candidates y; r the Bradley-Terry rewards of the candidates, in nats,
summing to zero within each strong component of the beats graph; p_ref a reference over the candidates.

    Gibbs:  pi(y) proportional to p_ref(y) exp(r(y)/beta).
    DPO:    minimizes the same likelihood over pi, with beta log(pi/p_ref) in the place of r (`dpo-is-bt-mle`).  So where the
            likelihood has a single finite maximum, DPO's policy on the candidates *is* the Gibbs policy at the fitted r, for every beta.

**What the data leave open.** A shift of r for each prompt (which no policy sees), and all probability outside the candidates.
Within a prompt: candidates that no chain of comparisons links may trade probability freely, one dimension for each linked set but
the first; and where a set beat others and lost to none, likelihood and DPO both push its margin to infinity, and stop nowhere.

**Intransitivity** is priced by what Bradley-Terry misses of the observed win rates, sum_ij n_ij KL(rate_ij, p_ij) in nats.  If the
model is right this is chance, half a chi-squared: `degrees`/2 nats on average.

All prompts are fitted at once, as one block-diagonal problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import positive
from tabular_rlhf.logspace import Array, log_sigmoid
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences.comparisons import Structure, Wins, structure
from tabular_rlhf.preferences.likelihood import newton, normal_quantile
from tabular_rlhf.reports.preference_file import Preferences

SCHEMA = "tabular-rlhf/fit/1"
Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Fitted:
    """found, the file; log_ref (N,), of the candidates, normalized for each prompt; prior, the variance of a reward, or None."""

    found: Preferences
    log_ref: Array
    prior: float | None

    @cached_property
    def wins(self) -> Wins:
        from scipy.sparse import coo_array

        f, N = self.found, len(self.found.responses)
        return Wins(coo_array((f.weight, (f.w, f.l)), shape=(N, N)).tocsr(), f.responses)

    @cached_property
    def parts(self) -> Structure:
        return structure(self.wins)

    @cached_property
    def blocks(self) -> Indices:
        """The set of candidates within which each one's reward is determined: its prompt's with a prior, else its strong component."""
        return self.found.of if self.prior else self.parts.strong

    @cached_property
    def pairs(self) -> tuple[Indices, Indices, Array, Array]:
        """i, j, wins_ij, wins_ji of the pairs that count: those within a block."""
        i, j, a, b = self.wins.pairs()
        inside = self.blocks[i] == self.blocks[j]
        return i[inside], j[inside], a[inside], b[inside]

    @cached_property
    def inside(self) -> Wins:
        """The comparisons within blocks."""
        from scipy.sparse import coo_array

        i, j, a, b = self.pairs
        both = (np.concatenate([a, b]), (np.concatenate([i, j]), np.concatenate([j, i])))
        return Wins(coo_array(both, shape=self.wins.counts.shape).tocsr(), self.found.responses)

    @cached_property
    def r(self) -> Array:
        """Rewards, with mean zero in each block."""
        if not len(self.pairs[0]):
            return np.zeros(self.wins.N)
        busy = np.unique(np.concatenate(self.pairs[:2]))
        r = np.zeros(self.wins.N)
        r[busy] = newton(self.inside.only(busy), 1.0 / self.prior if self.prior else 0.0)[0]
        size = np.bincount(self.blocks)
        return r - (np.bincount(self.blocks, r) / np.maximum(size, 1))[self.blocks]

    @cached_property
    def errors(self) -> Array:
        """Standard errors of r: blocks of one size are inverted together."""
        i, j, a, b = self.pairs
        d = self.r[i] - self.r[j]
        weight = (a + b) * np.exp(log_sigmoid(d) + log_sigmoid(-d))
        out = np.zeros(self.wins.N)
        order = np.argsort(self.blocks, kind="stable")
        sizes = np.bincount(self.blocks)
        place = np.empty_like(order)
        place[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        for k in np.unique(sizes[sizes > 1]).tolist():
            chosen = np.flatnonzero(sizes == k)
            number = np.full(len(sizes), -1)
            number[chosen] = np.arange(len(chosen))
            mine = number[self.blocks[i]] >= 0
            L = np.zeros((len(chosen), k, k))
            np.add.at(L, (number[self.blocks[i[mine]]], place[i[mine]], place[j[mine]]), -weight[mine])
            L = L + np.swapaxes(L, 1, 2)
            members = order[np.isin(self.blocks[order], chosen)].reshape(len(chosen), k)
            out[members] = np.sqrt(_variances(L, self.prior))
        return out

    def log_policy(self, beta: float) -> Array:
        """log pi at one beta, normalized for each prompt; to be believed for prompts of one block."""
        return normalize(self.log_ref + self.r / beta, self.found.of)


def _variances(L: Array, prior: float | None) -> Array:
    """Of each reward in the gauge of mean zero, from (C, k, k) off-diagonal Laplacians."""
    k = L.shape[1]
    diagonal = -np.sum(L, axis=2)
    L = L + diagonal[:, :, None] * np.eye(k)
    shift = np.mean(diagonal, axis=1)[:, None, None] / k
    # in this gauge the shift is projected out, also of a prior's covariance
    inverse = np.linalg.inv(L + np.eye(k) / prior) if prior else np.linalg.inv(L + shift) - 1.0 / (k * k * shift)
    centre = np.eye(k) - 1.0 / k
    return np.maximum(np.einsum("ki,cij,kj->ck", centre, inverse, centre), 0.0)


def normalize(logits: Array, of: Indices) -> Array:
    """log_softmax within the groups `of`, which are numbered from 0 and lie next to each other.

    >>> np.exp(normalize(np.log([1.0, 3.0, 5.0]), np.array([0, 0, 1]))).round(6).tolist()
    [0.25, 0.75, 1.0]
    """
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    shifted = logits - np.maximum.reduceat(logits, starts)[of]
    return np.asarray(shifted - np.log(np.add.reduceat(np.exp(shifted), starts))[of])


def analyse(
    found: Preferences,
    *,
    betas: Sequence[float] = (0.1, 0.5, 1.0),
    log_ref: Array | None = None,
    prior: float | None = None,
    level: float = 0.95,
) -> Record:
    """Everything `tabular-rlhf fit` says, as plain values; prompts with most comparisons first.

    Args: betas, in nats of reward a nat of KL; log_ref (N,), log-probabilities of the candidates up to a constant for each prompt,
    uniform by default; prior, the variance of a Gaussian prior on rewards, which always allows a finite maximum; level, of intervals.
    """
    betas = [positive(b, "beta", "nats of reward per nat of KL") for b in betas]
    prior = None if prior is None else positive(prior, "prior", "squared nats, the variance of a reward")
    z = normal_quantile(level)
    fitted = Fitted(found, normalize(np.zeros(len(found.of)) if log_ref is None else log_ref, found.of), prior)
    prompts = prompt_rows(fitted, betas, z)
    return {
        "schema": SCHEMA,
        "lines": found.lines,
        "comparisons": len(found.w),
        "malformed": [{"line": f.line, "reason": f.reason} for f in found.faults],
        "same": list(found.same),
        "blank": found.blank,
        "betas": betas,
        "level": level,
        "prior": prior,
        "reference": "uniform" if log_ref is None else "given",
        "totals": totals(prompts),
        "prompts": sorted(prompts, key=lambda row: -row["comparisons"]),
    }


def totals(prompts: list[Record]) -> Record:
    """Sums over prompts."""
    cost = [row["intransitivity"] for row in prompts]
    return {
        "prompts": len(prompts),
        "responses": sum(len(row["responses"]) for row in prompts),
        "finite_maximum": sum(row["finite_maximum"] for row in prompts),
        "free": sum(row["free"] for row in prompts),
        "unbounded": sum(row["unbounded"] for row in prompts),
        "intransitivity": summary(sum(c["nats"] for c in cost), sum(c["degrees"] for c in cost), sum(c["cyclic_triads"] for c in cost)),
    }


def summary(nats: float, degrees: int, triads: int) -> Record:
    """The price of Bradley-Terry, against what chance alone would ask for."""
    from scipy.special import chdtrc

    p = float(chdtrc(degrees, 2 * nats)) if degrees else None
    return {"nats": nats, "by_chance": degrees / 2, "degrees": degrees, "p_value": p, "cyclic_triads": triads}


def prompt_rows(fitted: Fitted, betas: list[float], z: float) -> list[Record]:
    """One record a prompt, in the order of the file."""
    found, parts, N = fitted.found, fitted.parts, fitted.wins.N
    P = len(found.prompts)
    last = np.cumsum(np.bincount(found.of, minlength=P))
    responses = response_rows(fitted, betas, z)
    linked, strong = (count_within(labels, found.of, P) for labels in (parts.linked, parts.strong))
    blocks = count_within(fitted.blocks, found.of, P)
    nats, degrees, triads = price(fitted)
    weight = np.bincount(found.of[found.w], found.weight, P)
    rows = np.bincount(found.of[found.w], minlength=P)
    policies = [np.exp(fitted.log_policy(b)) for b in betas]
    kls = [np.bincount(found.of, p * (np.log(np.maximum(p, 1e-300)) - fitted.log_ref), P) for p in policies]
    out = []
    for x, prompt in enumerate(found.prompts):
        a, b = int(last[x - 1]) if x else 0, int(last[x])
        settled = bool(blocks[x] == 1)
        out.append({
            "prompt": prompt,
            "comparisons": float(weight[x]),
            "rows": int(rows[x]),
            "finite_maximum": bool(strong[x] == 1),
            "components": int(strong[x]),
            "free": int(linked[x]) - 1,
            "unbounded": int(strong[x] - linked[x]),
            "kl": [float(k[x]) for k in kls] if settled else None,
            "intransitivity": summary(float(nats[x]), int(degrees[x]), int(triads[x])),
            "responses": [
                {**responses[k], "policy": [float(p[k]) for p in policies] if settled else None} for k in range(a, b)
            ],
        })  # fmt: skip
    assert N == last[-1]
    return out


def count_within(labels: Indices, of: Indices, P: int) -> Indices:
    """How many different labels each prompt has."""
    seen = np.unique(np.stack([of, labels]), axis=1)
    return np.asarray(np.bincount(seen[0], minlength=P), dtype=np.intp)


def response_rows(fitted: Fitted, betas: list[float], z: float) -> list[Record]:
    """One record a candidate."""
    found, wins, strong = fitted.found, fitted.wins, fitted.parts.strong
    lost = np.asarray(wins.counts.sum(axis=0)).ravel()
    i, j = wins.counts.nonzero()
    across = strong[i] != strong[j]
    K = int(np.max(strong)) + 1
    beats, loses = np.zeros(K, dtype=bool), np.zeros(K, dtype=bool)
    beats[strong[i[across]]] = True
    loses[strong[j[across]]] = True
    alone = np.bincount(fitted.blocks)[fitted.blocks] == 1
    columns = (
        found.responses,
        wins.won,
        lost,
        fitted.r,
        fitted.errors,
        alone,
        strong,
        beats[strong],
        loses[strong],
        np.exp(fitted.log_ref),
    )
    return [
        {
            "response": text,
            "wins": float(w),
            "losses": float(l),
            "reward": None if single else float(r),
            "standard_error": None if single else float(e),
            "interval": None if single else [float(r - z * e), float(r + z * e)],
            "component": int(c),
            "standing": {(True, False): "never beaten from outside", (False, True): "never beats outside"}.get((bool(up), bool(down)), ""),
            "p_ref": float(p),
        }
        for text, w, l, r, e, single, c, up, down, p in zip(*columns, strict=True)
    ]


def price(fitted: Fitted) -> tuple[Array, Indices, Indices]:
    """For each prompt: nats missed, degrees of freedom, cyclic triads."""
    from scipy.sparse import csr_array

    of, P = fitted.found.of, len(fitted.found.prompts)
    i, j, a, b = fitted.pairs
    d = fitted.r[i] - fitted.r[j]
    rate = np.log(np.maximum(a, 1e-300) / (a + b)), np.log(np.maximum(b, 1e-300) / (a + b))
    missed = np.where(a > 0, a * (rate[0] - log_sigmoid(d)), 0.0) + np.where(b > 0, b * (rate[1] - log_sigmoid(-d)), 0.0)
    nats: Array = np.maximum(np.bincount(of[i], missed, P), 0.0)
    pairs = np.bincount(of[i], minlength=P)
    differences = np.bincount(of, minlength=P) - count_within(fitted.blocks, of, P)
    i, j, a, b = fitted.wins.pairs()
    up, down = np.where(a > b, i, j)[a != b], np.where(a > b, j, i)[a != b]
    beats = csr_array((np.ones(len(up)), (up, down)), shape=fitted.wins.counts.shape)
    turns = np.asarray((beats @ beats).multiply(beats.T).sum(axis=1)).ravel()
    return nats, np.asarray(pairs - differences, dtype=np.intp), np.rint(np.bincount(of, turns, P) / 3).astype(np.intp)
