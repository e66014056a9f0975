r"""Chapter 6 as a derivation: when no reward explains people, the game between two policies, and its KL-regularized equilibrium.

M_ij = P(i beats j given x), of people who need not be transitive; M q is the win rate of every response against the law q.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import games
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.chapter5 import deepest
from tabular_rlhf.ledger.chapter6_games import borda_winner, both_players
from tabular_rlhf.logspace import expect, kl, log_of

# ---------------------------------------------------------------------------------------------------- preference-game


def turned(M: Any) -> Any:
    return np.swapaxes(M, 1, 2)


def win_rates(M: Any, log_q: Any) -> Any:
    """P(i beats q), (P, N)."""
    return np.einsum("xij,xj->xi", M, np.exp(log_q))


def reply(M: Any, log_p_ref: Any, tau: float, log_q: Any) -> Any:
    """log of p_ref exp(P(i beats q)/tau)/Z."""
    return log_gibbs(log_p_ref, win_rates(M, log_q), tau)


def equilibrium(M: Any, log_p_ref: Any, tau: float) -> Any:
    """The regularized equilibrium, (P, N)."""
    return games.regularized_equilibrium(M, log_p_ref, tau).p


add(
    Derivation(
        slug="preference-game",
        title="Beyond rewards: the game is worth 1/2, and with a KL its equilibrium is a best reply to itself",
        chapter=6,
        rows=("preference-game",),
        source="von Neumann (1928); Munos et al. (2023), arXiv:2312.00886; Swamy et al. (2024), arXiv:2401.04056.",
        largest=24,
        scale=lambda tau, log_p, log_p_ref: 1.0 + tau * deepest(log_p, log_p_ref),
        lines=(
            Line(
                r"P(p \succ p) = \sum_{i, j} p_i\, p_j\, M_{ij}",
                "How often a policy beats itself, for each prompt; M_ij is the probability that i beats j, of any people.",
            ),
            Line(
                r"\frac{1}{2} \sum_{i, j} p_i\, p_j\, M_{ij} + \frac{1}{2} \sum_{i, j} p_j\, p_i\, M_{ji}",
                "Halve the sum, and in the second half call i what was j: names do not matter.",
                slips=("sign of 1/2*sum_{i, j} p(j)*p(i)*M(j, i) flipped", "a factor 2 too many"),
            ),
            Line(
                r"\frac{1}{2} \sum_{i, j} p_i\, p_j = \frac{1}{2}",
                "Somebody wins: M_ij + M_ji = 1, ties being half a win; and p sums to one.",
                wrong={"the diagonal left out: i never meets i": lambda p: 0.5 * (1.0 - np.sum(p**2, axis=1))},
            ),
            Line(
                r"\max_p \min_j P(p \succ j)",
                "What a policy can win at least, whoever answers; by linear programming.",
                lambda M: both_players(M)[0],
                relation="so",
            ),
            Line(
                r"\frac{1}{2}",
                "Not more, for p may be answered by p; not less, for by von Neumann it is min "
                "max, and that is 1 - max min when both play the same game.",
                lambda mu: np.full_like(mu, 0.5),
                error=1e-9,
                wrong={
                    "what Borda's winner is sure of": borda_winner,
                    "what the uniform policy is sure of": lambda M: np.min(np.mean(M, axis=1), axis=1),
                },
            ),
            Line(
                r"P(p \succ q) - \tau\, \mathrm{KL}(p, p_{ref})", "Now with a KL, against an opponent q that stays as it is.", relation="so"
            ),
            Line(
                r"\mathbb{E}_p[P(\cdot \succ q)] - \tau\, \mathrm{KL}(p, p_{ref})",
                "The win rate against q is a reward like any other, r = M q, and tau is its beta.",
                slips=("winner and loser swapped",),
                wrong={
                    "the win rate against oneself": lambda M, log_p, log_p_ref, tau: (
                        expect(log_p, win_rates(M, log_p)) - tau * kl(log_p, log_p_ref)
                    )
                },
            ),
            Line(
                r"\tau \log Z_q - \tau\, \mathrm{KL}(p, p_q), \quad p_q = \frac{p_{ref}\, e^{P(\cdot \succ q)/\tau}}{Z_q}",
                "So all of chapter 4 applies (regret-is-kl).",
                slips=("arguments of KL swapped",),
                wrong={"tau dropped": "tau*log(Z_q) - KL(p, p_q)"},
            ),
            Line(
                r"\tau \log Z_q",
                "A KL is never negative, and 0 only at p = p_q: that is the best reply to q, and no other.",
                relation="<=",
                wrong={"the value of p_ref": lambda M, log_q_game, log_p_ref: expect(log_p_ref, win_rates(M, log_q_game))},
            ),
            Line(
                r"p^\tau \text{, the equilibrium}",
                "Where both reply best at once they play alike, because the game is symmetric "
                "and its equilibrium the only one; by Newton's method.",
                lambda M, log_p_ref, tau: equilibrium(M, log_p_ref, tau),
                relation="so",
            ),
            Line(
                r"\frac{p_{ref}(y)\, e^{P(y \succ p^\tau)/\tau}}{Z_{p^\tau}}",
                "It is the best reply to itself: a Gibbs law whose reward is the win rate against that very law.",
                lambda M, log_p_ref, tau: np.exp(reply(M, log_p_ref, tau, log_of(equilibrium(M, log_p_ref, tau)))),
                error=1e-10,
                wrong={
                    "one reply to p_ref, not the fixed point": lambda M, log_p_ref, tau: np.exp(reply(M, log_p_ref, tau, log_p_ref)),
                    "the mean win rate for the win rate against oneself": lambda M, log_p_ref, tau: np.exp(
                        log_gibbs(log_p_ref, np.mean(M, axis=2), tau)
                    ),
                    "1/tau for tau": lambda M, log_p_ref, tau: np.exp(
                        reply(M, log_p_ref, 1.0 / tau, log_of(equilibrium(M, log_p_ref, tau)))
                    ),
                },
            ),
        ),
        letters={"q": "q_game", "Z_q": "sum_y p_ref(y)*exp(P(y succ q)/tau)"},
        setting={"people": "M"},
    )
)
