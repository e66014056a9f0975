r"""Chapter 10, people: ties that are dropped or halved, kinds of people that are pooled, a term that centers, and a loser pushed down."""

from __future__ import annotations

from string import Template
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.ledger.record import Approximately, claim
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.optimize import minimize
from tabular_rlhf.preferences import pooled

# ---------------------------------------------------------------------------------------------------- ties


def logit(p: Any) -> Any:
    return np.log(p) - np.log1p(-p)


def asked(r: Any, tie_weight: float, tie_bar: float) -> Any:
    """Shares of wins, losses and ties, counted in plain numbers, then as a reader of the data would make log-odds of them."""
    d = r[:, :, None] - r[:, None, :]
    weights = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full_like(d, tie_weight)])
    win, loss, tie = weights / np.sum(weights, axis=0)
    above, below = special.expit(d - np.log(tie_bar)), special.expit(-d - np.log(tie_bar))
    rest = 1.0 - above - below
    return logit(win / (win + loss)), logit(win + tie / 2), logit(above / (above + below)), logit(above + rest / 2)


D = r"d(y, y') = r(y) - r(y')"
DAVIDSON = r"W(y, y') = \frac{e^{d(y, y')/2}}{e^{d(y, y')/2} + e^{-d(y, y')/2} + \nu}, \quad T(y, y') = 1 - W(y, y') - W(y', y), \quad " + D
RAO = r"U(y, y') = \frac{1}{1 + \theta e^{-d(y, y')}}, \quad R(y, y') = 1 - U(y, y') - U(y', y)"

claim(
    slug="ties",
    chapter=10,
    text=Template(r"""
    let nu = tie_weight; theta = tie_bar
    \log\frac{W(y, y')}{W(y', y)} = r(y) - r(y'), \quad ${DAVIDSON}
      not r(y) - r(y') + 0*nu - log((exp(d(y,y')/2) + nu/2)/(exp(-d(y,y')/2) + nu/2))  # ties tell something that dropping loses
    \log\frac{W(y, y') + T(y, y')/2}{W(y', y) + T(y, y')/2} = \log\frac{e^{d(y, y')/2} + \nu/2}{e^{-d(y, y')/2} + \nu/2}
      not r(y) - r(y')  # half a win is right
    \log\frac{U(y, y')}{U(y', y)} = d(y, y') + \log\frac{1 + \theta e^{d(y, y')}}{\theta + e^{d(y, y')}}, \quad ${RAO}
      not r(y) - r(y')  # dropping is right under Rao and Kupper, too
      not d(y,y') - log((1 + theta*exp(d(y,y')))/(theta + exp(d(y,y'))))  # dropping shrinks
    \log\frac{U(y, y') + R(y, y')/2}{U(y', y) + R(y, y')/2} = \log\frac{1 + \theta^2 + 2 \theta e^{d(y, y')}}{1 + \theta^2 + 2 \theta
        e^{-d(y, y')}}
        # in the population: dropping ties is exact under Davidson's law and widens gaps under Rao and Kupper's; half a win each shrinks
        them under both
      not r(y) - r(y')  # half a win is right under Rao and Kupper
    """).substitute(DAVIDSON=DAVIDSON, RAO=RAO),
    source="Davidson (1970); Rao and Kupper (1967).",
    parts=("Davidson, dropped", "Davidson, halved", "Rao-Kupper, dropped", "Rao-Kupper, halved"),
    sides={
        "closed form": 1,
        "the laws as printed": 0,
        "shares of answers": asked,
    },
    where=lambda r: float(np.ptp(r)) < 12.0,
    scale=lambda r: np.exp(float(np.ptp(r))) * 8.0,
    largest=30,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- mixture-of-people


def by_minorizing(r: Any, proxy: Any, share_of_proxy: float) -> Any:
    """Sums of fitted win rates, from Zermelo's iteration w_i <- sum_j M_ij / sum_j 1/(w_i + w_j)."""
    M = pooled.mixture(r, proxy, share_of_proxy)
    others = 1.0 - np.eye(M.shape[-1])
    w = np.ones(M.shape[:-1])
    for _ in range(400):
        w = np.sum(others * M, axis=-1) / np.sum(others / (w[..., :, None] + w[..., None, :]), axis=-1)
        w = w / np.exp(np.mean(np.log(w), axis=-1, keepdims=True))
    return np.sum(w[..., :, None] / (w[..., :, None] + w[..., None, :]), axis=-1)


def at_scores(s: Any) -> Any:
    return np.sum(special.expit(s[:, :, None] - s[:, None, :]), axis=-1)


claim(
    slug="mixture-of-people",
    chapter=10,
    text=r"""
    let s = pooled_scores; M = (1 - share_of_proxy)*sigma(r(tau) - r(tau')) + share_of_proxy*sigma(proxy(tau) - proxy(tau'))
    \sum_{y'} \sigma(s(y) - s(y')) = \sum_{y'} M(y, y')
        # for Bradley-Terry scores s of the pooled win rates M of two kinds of people: they rank by mean win rates (Borda), not by mean
        utility
      not sum_{y'} sigma(r(y) - r(y'))  # one kind of people
      not sum_{y'} sigma(2*s(y) - 2*s(y'))  # twice as decided
    """,
    source="Siththaranjan, Laidlaw and Hadfield-Menell (2023), arXiv:2312.08358.",
    note="8 times utilities (1, 0, 0) and (0, .30, .29), the first kind .3 of the people: not the largest mean utility wins.",
    sides={
        "mean win rates": 1,
        "Newton's scores": 0,
        "Zermelo's iteration": Approximately(by_minorizing, error=1e-6),
    },
    misses={
        "Bradley-Terry recovers the mean utility": lambda r, proxy, share_of_proxy: at_scores(
            (1.0 - share_of_proxy) * r + share_of_proxy * proxy
        ),
        "it recovers the majority's": lambda r, proxy, share_of_proxy: at_scores(proxy if share_of_proxy > 0.5 else r),
    },
    where=lambda N, r, proxy: N > 1 and max(float(np.ptp(r)), float(np.ptp(proxy))) < 9.0,
    scale=lambda N: 4.0 * N,
    largest=16,
    most=8,
)

# ---------------------------------------------------------------------------------------------------- centering


def by_descent(P_beats: Any, centering: float) -> Any:
    """What is left of the win rates at the scores that a descent of the loss itself finds."""
    others = 1.0 - np.eye(P_beats.shape[-1])

    def gaps(s: Any) -> Any:
        return s[..., :, None] - s[..., None, :]

    def loss(s: Any) -> Any:
        sums = s[..., :, None] + s[..., None, :]
        return np.sum(others * (0.5 * centering * np.square(sums) - P_beats * log_sigmoid(gaps(s))))

    s = minimize(loss, np.zeros(P_beats.shape[:-1])).x
    return np.sum(others * (P_beats - special.expit(gaps(s))), axis=-1)


claim(
    slug="centering",
    formerly=("centring",),
    chapter=10,
    text=r"""
    let s = centered_scores; c = centering
    \sum_{y'} (P(y \succ y') - \sigma(s(y) - s(y'))) = 2 c \sum_{y'} 1[y \neq y'] (s(y) + s(y'))
        # for scores s fitted with the term c (s_w + s_l)^2 to people who follow r: what the fit leaves of the win rates; with three
        responses gaps shrink, with two they do not
      not 0*r  # it only centers: nothing is left
      not c*sum_{y'} 1[y != y']*(s(y) + s(y'))  # c for 2 c
      not 2*c*sum_{y'} (s(y) - s(y'))  # a pull to 0, pair by pair, of the gap
      not 2*c*sum_{y'} 1[y != y']*(r(y) + r(y'))  # scores for r
    """,
    source="Eisenstein et al. (2023), arXiv:2312.09244.",
    sides={
        "centering's pull": 1,
        "win rates left": 0,
        "the loss descended": Approximately(by_descent, error=1e-6),
    },
    where=lambda N, r: N > 1 and float(np.ptp(r)) < 7.0,
    scale=lambda N, r: 8.0 * N * (1.0 + np.max(np.abs(r))),
    largest=12,
    most=6,
)

# ---------------------------------------------------------------------------------------------------- squeezing


def by_finite_step(log_p: Any) -> Any:
    """(p after a small step - p)/step, five points: of logits along -grad log p_j."""
    p = np.exp(log_p)
    along = -(np.eye(p.shape[-1]) - p[..., :, None])
    return central(lambda t: np.exp(log_softmax(log_p[..., :, None] + t * along, axis=-2)), 1e-3)


claim(
    slug="squeezing",
    chapter=10,
    text=r"""
    let D = push_down
    D(y, y') = p(y)\, (p(y) - 1[y = y'] + p(y') - \sum_{y''} p(y'')^2)
        # how p(y) changes while y' is pushed down in the logits of responses: y rises if and only if p(y) exceeds sum p^2 - p(y')
      not p(y)*(p(y') - 1[y = y'])  # all others rise, in proportion
      not p(y)*(p(y) - 1[y = y'])  # y' falls as if alone
      not p(y)*(p(y) - 1[y = y'] + p(y'))  # the normalization forgotten
      not -p(y)*(p(y) - 1[y = y'] + p(y') - sum_{y''} p(y'')^2)  # sign flipped
      not p(y)*(p(y) - 1[y = y'] + p(y') - 1)  # p for its square
    """,
    source="Ren and Sutherland (2024), arXiv:2407.10490; softmax.",
    sides={
        "closed form": 1,
        "Jacobian of the softmax": 0,
        "differences": Approximately(by_finite_step, error=1e-10),
        "logit by logit": lambda log_p: pooled.pushed_down(log_p),
    },
    largest=60,
    most=20,
)
