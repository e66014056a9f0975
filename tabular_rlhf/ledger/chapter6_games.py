r"""Chapter 6, the game: preferences that no reward explains, the law that nobody beats, and its KL-regularized version."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import games
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Approximately, Miss, claim
from tabular_rlhf.terms.comparisons import borda_winner


def winner(M: Any) -> Any:
    """What the minimax winner wins at least, and what a best reply wins against it: (P,), (P,)."""
    p = games.minimax_winner(M).p
    return np.min(np.sum(p[:, :, None] * M, axis=1), axis=1), np.max(games.win_rates(M, p), axis=1)


def both_players(M: Any) -> Any:
    """The values of the two players' programs, each with its value as an unknown: max v and min v."""
    from scipy.optimize import linprog

    def value(table: Any, sign: float) -> float:
        N = len(table)
        rows = np.hstack([-sign * table, sign * np.ones((N, 1))])
        sums = np.append(np.ones(N), 0.0)[None]
        cost = np.append(np.zeros(N), -sign)
        bounds = [(0.0, None)] * N + [(None, None)]
        found = linprog(cost, A_ub=rows, b_ub=np.zeros(N), A_eq=sums, b_eq=[1.0], bounds=bounds)
        return -sign * float(found.fun or np.nan)  # nan if the program failed

    return np.array([value(table.T, 1.0) for table in M]), np.array([value(table, -1.0) for table in M])


def self_play(M: Any, log_start: Any, log_p_ref: Any, tau: float) -> Any:
    """Mirror descent with a pull to the reference from a drawn start, at half the longest step that is proved to converge."""
    log_p = log_start
    for _ in range(int(40 * (1 + 0.5 / tau**2))):
        log_p = games.mirror_step(M, log_p_ref, tau, log_p, 2.0 * tau)
    return np.exp(log_p)


UNREGULARIZED = {
    "win rate against everything for win rate against oneself": lambda M, log_p_ref, tau: np.exp(
        log_gibbs(log_p_ref, np.mean(M, axis=2), tau)
    ),
    "one reply to p_ref, not the fixed point": lambda M, log_p_ref, tau: np.exp(games.reply(M, log_p_ref, tau, log_p_ref)),
    "1/tau for tau": lambda M, log_p_ref, tau: games.regularized_equilibrium(M, log_p_ref, 1.0 / tau).p,
    "winner and loser swapped": lambda M, log_p_ref, tau: games.regularized_equilibrium(np.swapaxes(M, 1, 2), log_p_ref, tau).p,
    "p_ref omitted": lambda M, log_p_ref, tau, N: games.regularized_equilibrium(M, np.full_like(log_p_ref, -np.log(N)), tau).p,
}
"""Wrong laws in the place of the regularized equilibrium."""

claim(
    slug="preference-game",
    chapter=6,
    text=r"""
    \min_{y'} \sum_y p(y)\, M(y, y') \le \tfrac12
    \sum_y \sum_{y'} p(y)\, p(y')\, M(y, y') = \tfrac12
        # whatever the people M prefer, no law p wins more than half against all, and the minimax winner just that; with a KL weight the
        equilibrium is p_ref tilted by its own win rates, which the last iterate of mirror descent reaches
    """,
    most=40,
    source="von Neumann (1928); Munos et al. (2023), arXiv:2312.00886; Swamy et al. (2024), arXiv:2401.04056.",
    note="People are drawn and need not be transitive.  Bradley-Terry's winner may lose more often than not: a near miss.",
    parts=("guaranteed win rate", "best reply's win rate", "regularized equilibrium"),
    sides={
        "value 1/2; Newton": (1, 1, lambda M, log_p_ref, tau: games.regularized_equilibrium(M, log_p_ref, tau).p),
        "linear program; mirror descent": Approximately(
            lambda M, log_q_game, log_p_ref, tau: (*winner(M), self_play(M, log_q_game, log_p_ref, tau)), error=1e-10
        ),
        "both players' programs; best reply to oneself": Approximately(
            lambda M, log_p_ref, tau: (
                *both_players(M),
                np.exp(games.reply(M, log_p_ref, tau, games.mirror_descent(M, log_p_ref, tau).log_p)),
            ),
            error=1e-9,
        ),
    },
    misses={
        "the best mean win rate for the minimax winner": borda_winner,
        "the uniform law for the minimax winner": lambda M: np.min(np.mean(M, axis=1), axis=1),
        **{words: Miss(wrong, part=2, diagnosis=words) for words, wrong in UNREGULARIZED.items()},
    },
    largest=64,
)
