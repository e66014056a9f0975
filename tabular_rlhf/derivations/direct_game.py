r"""Chapter 6 as a derivation: when no reward explains people, the game between two policies, and its KL-regularized equilibrium.

M_ij = P(i beats j given x), of people who need not be transitive; M q is the win rate of every response against the law q.
"""

from __future__ import annotations

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.terms.comparisons import borda_winner
from tabular_rlhf.terms.sizes import deepest

# ---------------------------------------------------------------------------------------------------- preference-game


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
                wrong={"the diagonal left out: i never meets i": r"\frac{1}{2} \left( 1 - \sum_i p_i^2 \right)"},
            ),
            Line(
                "v",
                "What a policy can win at least, whoever answers: v = max over p of min over j of P(p beats j), by linear programming.",
                relation="so",
                error=1e-09,
            ),
            Line(
                r"\frac{1}{2}",
                "Not more, for p may be answered by p; not less, for by von Neumann it is min "
                "max, and that is 1 - max min when both play the same game.",
                error=1e-9,
                wrong={
                    "what Borda's winner is sure of": borda_winner,
                    "what the uniform policy is sure of": r"\min_j \left( \frac{1}{N} \sum_i M_{ij} \right)",
                },
            ),
            Line(
                r"P(p \succ q) - \tau\, \mathrm{KL}(p, p_{ref})", "Now with a KL, against an opponent q that stays as it is.", relation="so"
            ),
            Line(
                r"\mathbb{E}_p[P(\cdot \succ q)] - \tau\, \mathrm{KL}(p, p_{ref})",
                "The win rate against q is a reward like any other, r = M q, and tau is its beta.",
                slips=("winner and loser swapped",),
                wrong={"the win rate against oneself": r"P(p \succ p) - \tau\, \mathrm{KL}(p, p_{ref})"},
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
                wrong={"the value of p_ref": r"P(p_{ref} \succ q)"},
            ),
            Line(
                "p_{eq}(y)",
                (
                    "The equilibrium: where both reply best at once they play alike, because "
                    "the game is symmetric and its equilibrium the only one; by Newton's method."
                ),
                relation="so",
            ),
            Line(
                r"\frac{p_{ref}(y)\, e^{P(y \succ p_{eq})/\tau}}{\sum_{y'} p_{ref}(y')\, e^{P(y' \succ p_{eq})/\tau}}",
                "It is the best reply to itself: a Gibbs law whose reward is the win rate against that very law.",
                error=1e-10,
                wrong={
                    "one reply to p_ref, not the fixed point": (
                        r"\frac{p_{ref}(y)\, e^{P(y \succ p_{ref})/\tau}}{\sum_{y'} p_{ref}(y')\, "
                        r"e^{P(y' \succ p_{ref})/\tau}}"
                    ),
                    "the mean win rate for the win rate against oneself": (
                        r"\frac{p_{ref}(y)\, e^{\sum_{y'} P(y \succ y')/(N \tau)}}{\sum_{y''} "
                        r"p_{ref}(y'')\, e^{\sum_{y'} P(y'' \succ y')/(N \tau)}}"
                    ),
                    "1/tau for tau": (
                        r"\frac{p_{ref}(y)\, e^{\tau P(y \succ p_{eq})}}{\sum_{y'} p_{ref}(y')\, "
                        r"e^{\tau P(y' \succ p_{eq})}}"
                    ),
                },
            ),
        ),
        letters={"q": "q_game", "Z_q": "sum_y p_ref(y)*exp(P(y succ q)/tau)", "v": "game_value"},
        setting={"people": "M"},
    )
)
