r"""Chapter 6 as a derivation: when no reward explains people, the game between two policies, and its KL-regularized equilibrium.

M_ij = P(i beats j given x), of people who need not be transitive; M q is the win rate of every response against the law q.
"""

from __future__ import annotations

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.comparisons import borda_winner
from tabular_rlhf.terms.sizes import deepest

# ---------------------------------------------------------------------------------------------------- preference-game


derivation(
    slug="preference-game",
    title="Beyond rewards: the game is worth 1/2, and with a KL its equilibrium is a best reply to itself",
    chapter=6,
    rows=("preference-game",),
    source="von Neumann (1928); Munos et al. (2023), arXiv:2312.00886; Swamy et al. (2024), arXiv:2401.04056.",
    largest=24,
    scale=lambda tau, log_p, log_p_ref: 1.0 + tau * deepest(log_p, log_p_ref),
    setting={"people": "M"},
    named={"borda_winner": borda_winner},
    text=r"""
    let q = q_game; Z_q = sum_y p_ref(y)*exp(P(y succ q)/tau); v = game_value
    P(p \succ p) = \sum_{i, j} p_i\, p_j\, M_{ij}
        # How often a policy beats itself, for each prompt; M_ij is the probability that i beats j, of any people.
    = \frac{1}{2} \sum_{i, j} p_i\, p_j\, M_{ij} + \frac{1}{2} \sum_{i, j} p_j\, p_i\, M_{ji}
        # Halve the sum, and in the second half call i what was j: names do not matter.
      slip sign of 1/2*sum_{i, j} p(j)*p(i)*M(j, i) flipped; a factor 2 too many
    = \frac{1}{2} \sum_{i, j} p_i\, p_j = \frac{1}{2}  # Somebody wins: M_ij + M_ji = 1, ties being half a win; and p sums to one.
      not \frac{1}{2} \left( 1 - \sum_i p_i^2 \right)  # the diagonal left out: i never meets i
    so v  # What a policy can win at least, whoever answers: v = max over p of min over j of P(p beats j), by linear programming.
      error 1e-09
    = \frac{1}{2}
        # Not more, for p may be answered by p; not less, for by von Neumann it is min max, and that is 1 - max min when both play the same
        game.
      error 1e-09
      not @borda_winner  # what Borda's winner is sure of
      not \min_j \left( \frac{1}{N} \sum_i M_{ij} \right)  # what the uniform policy is sure of
    so P(p \succ q) - \tau\, \mathrm{KL}(p, p_{ref})  # Now with a KL, against an opponent q that stays as it is.
    = \mathbb{E}_p[P(\cdot \succ q)] - \tau\, \mathrm{KL}(p, p_{ref})
        # The win rate against q is a reward like any other, r = M q, and tau is its beta.
      slip winner and loser swapped
      not P(p \succ p) - \tau\, \mathrm{KL}(p, p_{ref})  # the win rate against oneself
    = \tau \log Z_q - \tau\, \mathrm{KL}(p, p_q), \quad p_q = \frac{p_{ref}\, e^{P(\cdot \succ q)/\tau}}{Z_q}
        # So all of chapter 4 applies (regret-is-kl).
      slip arguments of KL swapped
      not tau*log(Z_q) - KL(p, p_q)  # tau dropped
    <= \tau \log Z_q  # A KL is never negative, and 0 only at p = p_q: that is the best reply to q, and no other.
      not P(p_{ref} \succ q)  # the value of p_ref
    so p_{eq}(y)
        # The equilibrium: where both reply best at once they play alike, because the game is symmetric and its equilibrium the only one; by
        Newton's method.
    = \frac{p_{ref}(y)\, e^{P(y \succ p_{eq})/\tau}}{\sum_{y'} p_{ref}(y')\, e^{P(y' \succ p_{eq})/\tau}}
        # It is the best reply to itself: a Gibbs law whose reward is the win rate against that very law.
      error 1e-10
      not \frac{p_{ref}(y)\, e^{P(y \succ p_{ref})/\tau}}{\sum_{y'} p_{ref}(y')\, e^{P(y' \succ p_{ref})/\tau}}
        # one reply to p_ref, not the fixed point
      not \frac{p_{ref}(y)\, e^{\sum_{y'} P(y \succ y')/(N \tau)}}{\sum_{y''} p_{ref}(y'')\, e^{\sum_{y'} P(y'' \succ y')/(N \tau)}}
        # the mean win rate for the win rate against oneself
      not \frac{p_{ref}(y)\, e^{\tau P(y \succ p_{eq})}}{\sum_{y'} p_{ref}(y')\, e^{\tau P(y' \succ p_{eq})}}  # 1/tau for tau
    """,
)
