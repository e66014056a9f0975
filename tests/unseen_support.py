"""Answers by other hands: how one is written down, and the small helpers that their authors use.

The answers stand in `unseen_first` to `unseen_fourth`.  They were written from the mathematics alone, before their authors had seen the
near misses of the ledger or the tables of the checker: as students, assistants and maintainers write.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from scipy.special import expit, log_softmax, logsumexp, softmax


@dataclass(frozen=True)
class Answer:
    """verdict: right, wrong (one known mistake), odd (no known mistake) or careless (right but for zeros).

    words: alternatives, of which a diagnosis must hold one.
    """

    verdict: str
    slug: str
    function: Callable[..., Any]
    mistake: str = ""
    words: str = ""
    part: int | None = None

    def named(self, diagnosis: str | None) -> bool:
        """Whether a diagnosis says what the mistake is: all words joined by & of one of the alternatives."""
        said = (diagnosis or "").lower()
        return bool(said) and any(all(w.lower() in said for w in each.split("&")) for each in self.words.split("|"))


ANSWERS: list[Answer] = []


def wrong(slug: str, mistake: str, words: str, function: Callable[..., Any], part: int | None = None) -> None:
    """An answer with one known mistake."""
    ANSWERS.append(Answer("wrong", slug, function, mistake, words, part))


def odd(slug: str, function: Callable[..., Any], part: int | None = None) -> None:
    """An answer that is wrong in no known way, or in two ways."""
    ANSWERS.append(Answer("odd", slug, function, part=part))


def right(slug: str, function: Callable[..., Any], part: int | None = None) -> None:
    """A right answer in an unusual form."""
    ANSWERS.append(Answer("right", slug, function, part=part))


def careless(slug: str, function: Callable[..., Any], part: int | None = None) -> None:
    """An answer that is right wherever p_ref > 0, to a claim that holds for zeros too."""
    ANSWERS.append(Answer("careless", slug, function, part=part))


def rows(a: Any) -> Any:
    return np.sum(a, axis=1)


def kl(a: Any, b: Any) -> Any:
    return rows(np.exp(a) * (a - b))


def gibbs(log_p_ref: Any, u: Any) -> Any:
    return log_softmax(log_p_ref + u, axis=1)


def ev(log_p: Any, f: Any) -> Any:
    return rows(np.exp(log_p) * f)


def grad_in(table: Any, score: Any) -> Any:
    return np.einsum("xt,xtpsv->psv", table, score)


def outer_gap(a: Any) -> Any:
    return a[:, :, None] - a[:, None, :]


def loop_log_p(mdp: Any, log_pi: Any) -> Any:
    out = np.zeros((mdp.P, mdp.N))
    for x in range(mdp.P):
        for n, toks in enumerate(mdp.tokens()):
            toks = [int(a) for a in toks if a >= 0]
            for h in range(len(toks)):
                s = next((i for i, pre in enumerate(mdp.state_tokens()) if [int(a) for a in pre if a >= 0] == toks[:h]))
                out[x, n] += log_pi[x, s, toks[h]]
    return out


def mean_V(mdp: Any, log_pi: Any, r: Any) -> Any:
    cut = mdp.levels(np.exp(log_pi))
    return mdp.backup(r, lambda h, Q: np.sum(cut[h] * Q, axis=1))


def advantage_by_sums(mdp: Any, log_p_2: Any, r: Any) -> Any:
    w = np.exp(log_p_2)
    top = mdp.subtree_sum(w * r)
    mass = mdp.subtree_sum(w)
    return top / mass - (top.sum(-1) / mass.sum(-1))[..., None]


def cov_slope(log_p_ref: Any, proxy: Any, r: Any, beta: Any, k: Any = 2, sign: Any = -1.0) -> Any:
    p = np.exp(gibbs(log_p_ref, proxy / beta))
    return sign * (rows(p * r * proxy) - rows(p * r) * rows(p * proxy)) / beta**k


def bt_loop(r: Any) -> Any:
    P, N = np.shape(r)
    return [[[1 / (1 + math.exp(r[x][j] - r[x][i])) for j in range(N)] for i in range(N)] for x in range(P)]


def table_of_wins(compared: Any, P: Any, N: Any) -> Any:
    out = np.zeros((P, N, N))
    np.add.at(out, tuple(compared.T), 1)
    return out


def once(compared: Any, P: Any, N: Any) -> Any:
    out = np.zeros((P, N, N))
    out[compared[:, 0], compared[:, 1], compared[:, 2]] += 1
    return out


def unbiased(r_w: Any, r_l: Any, e: Any) -> Any:
    D = r_w - r_l
    return ((1 - e) * np.logaddexp(0, -D) - e * np.logaddexp(0, D)) / (1 - 2 * e)


class Gibbs:
    def __call__(self, log_p_ref: Any, r: Any, beta: Any) -> Any:
        logits = np.add(log_p_ref, np.divide(r, beta))
        return np.exp(logits - np.logaddexp.reduce(logits, axis=-1)[:, np.newaxis])


def best_loop(beta: Any, p_ref: Any, r: Any) -> Any:
    out = []
    for q, u in zip(p_ref, r, strict=True):
        m = max(u)
        out.append(m + beta * math.log(sum((a * math.exp((b - m) / beta) for a, b in zip(q, u, strict=True)))))
    return out


def soft_policy(mdp: Any, log_pi_ref: Any, r: Any, beta: Any, red: Any = logsumexp) -> Any:
    cut = mdp.levels(log_pi_ref)
    V, Q = mdp.backup(r, lambda h, Q: beta * red(cut[h] + Q / beta, axis=1))
    return np.exp(log_pi_ref + (Q - V[..., None]) / beta)


def hard(mdp: Any, log_pi_ref: Any, r: Any, beta: Any) -> Any:
    return softmax(log_pi_ref + mdp.backup(r, lambda h, Q: Q.max(1))[1] / beta, axis=-1)


def counts(mdp: Any, tied: Any, weight: Any) -> Any:
    n = np.zeros(tied.shape)
    flow = mdp.subtree_sum(weight)
    np.add.at(n, np.broadcast_to(tied.context, flow.shape[:2]), flow)
    return n


def dpo(mu: Any, p_ref: Any, P_beats: Any, h: Any) -> Any:
    return -2 * np.einsum("x,xi,xj,xij,xij->", mu, p_ref, p_ref, P_beats, special.log_expit(outer_gap(h)))


def dpo_grad(mu: Any, p_ref: Any, P_beats: Any, h: Any, beta: Any, score: Any, sign: Any = -1.0) -> Any:
    w = 2 * np.einsum("x,xi,xj,xij,xij->xij", mu, p_ref, p_ref, P_beats, expit(sign * outer_gap(h)))
    return -beta * grad_in(w.sum(2) - w.sum(1), score)


def bon(p_ref: Any, r: Any, n: Any) -> Any:
    F = np.einsum("xj,xij->xi", p_ref, (r[:, None, :] <= r[:, :, None]) * 1.0)
    G = np.einsum("xj,xij->xi", p_ref, (r[:, None, :] < r[:, :, None]) * 1.0)
    return p_ref * (F**n - G**n) / (F - G)
