r"""Chapter 6 as derivations: what one step of DPO does to the winner's probability. What gradient descent on DPO's loss conserves. When
no reward explains people, the game between two policies, and its KL-regularized equilibrium.

One pair a prompt: y_w its best possible response, y_l its worst, and gradient descent on the loss of that pair alone.

Data are finite: some responses of a prompt are compared, others never.  Compared responses are linked;
c numbers the components of these links.

M_ij = P(i beats j given x), of people who need not be transitive; M q is the win rate of every response against the law q.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.chapter6 import rhat
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.logspace import log_sigmoid
from tabular_rlhf.losses.evaluate import gradient
from tabular_rlhf.preferences.chains import finite_data
from tabular_rlhf.symbols.pairs import best_and_worst
from tabular_rlhf.terms.comparisons import borda_winner, component_sums, drift, log_p_rate
from tabular_rlhf.terms.sizes import deepest, size_of
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- likelihood-displacement

SMALL_STEPS = ("eta", (1e-3, 1e-4, 1e-5, 1e-6))


def chosen(world: World, log_p: Any) -> tuple[Any, Any]:
    """log pi(y_w) and log pi(y_l), (P,)."""
    x = np.arange(world.mdp.P)
    w, l = best_and_worst(world)
    return log_p[x, w], log_p[x, l]


def weight(world: World, log_p: Any) -> Any:
    """sigma(rhat_l - rhat_w), (P,)."""
    r_w, r_l = chosen(world, rhat(log_p, world.log_p_ref, world.beta))
    return np.exp(log_sigmoid(r_l - r_w))


def along_winner(world: World, pi: Any, beta: float, log_p: Any, *, rest: float = 1.0, loser: float = 1.0) -> Any:
    """beta weight [1 - pi(a given s) + pi(b given s) where the two part with a and b, plus |e - pi|^2 in every later state of y_w]."""
    mdp, total = world.mdp, np.zeros(world.mdp.P)
    for x, (w, l) in enumerate(zip(*(mdp.tokens(y).tolist() for y in best_and_worst(world)), strict=True)):
        parting = next((h for h, (a, b) in enumerate(zip(w, l, strict=True)) if a != b), None)
        if parting is None:
            continue
        said = [a for a in w if a >= 0]
        rows = [pi[x, mdp.find_state([mdp.vocabulary[a] for a in said[:h]])] for h in range(len(said))]
        total[x] = 1.0 - rows[parting][w[parting]] + loser * rows[parting][l[parting]]
        later = zip(said[parting + 1 :], rows[parting + 1 :], strict=True)
        total[x] += rest * sum(float(np.sum((np.eye(mdp.V)[a] - row) ** 2)) for a, row in later)
    return beta * weight(world, log_p) * total


derivation(
    slug="likelihood-displacement",
    title="What one step of DPO does to the winner: up in tables, up or down where responses share parameters",
    chapter=6,
    rows=("likelihood-displacement",),
    source="Razin et al. (2024), arXiv:2410.08847; Pal et al. (2024), arXiv:2402.13228.",
    largest=64,
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    named={
        "line_5": lambda world, pi, beta, log_p: along_winner(world, pi, beta, log_p),
        "the_loser_s_token_forgotten": lambda world, pi, beta, log_p: along_winner(world, pi, beta, log_p, loser=0.0),
        "the_tokens_after_the_parting_for": lambda world, pi, beta, log_p: along_winner(world, pi, beta, log_p, rest=0.0),
    },
    text=r"""
    let pi_w = E_best[p]; pi_l = E_worst[p]; pi_tilde_w = E_best[p_stepped]; r_hat_w = beta*(log(pi_w) - log(E_best[p_ref]));
        r_hat_l = beta*(log(pi_l) - log(E_worst[p_ref])); s_w = nabla(log(pi_w)); s_l = nabla(log(pi_l));
        q = p_ref*exp(theta_1*feature_1 + theta_2*feature_2)/(sum_tau p_ref*exp(theta_1*feature_1 + theta_2*feature_2)); q_w = E_best[q];
        m = beta*(log(E_best[q]/E_best[p_ref]) - log(E_worst[q]/E_worst[p_ref])); u_1 = E_best[feature_1] - E_q[feature_1];
        u_2 = E_best[feature_2] - E_q[feature_2]; v_1 = E_worst[feature_1] - E_q[feature_1]; v_2 = E_worst[feature_2] - E_q[feature_2];
        d_1 = E_best[feature_1] - E_worst[feature_1]; d_2 = E_best[feature_2] - E_worst[feature_2]; phi_1 = feature_1; phi_2 = feature_2;
        o = (1 - best)*(1 - worst)*q
    \frac{\log \tilde\pi_w - \log \pi_w}{\eta}
        # One pair a prompt: its best possible response w beat its worst, l. pi' is pi after a step of length eta down this pair's loss, in
        the token logits.
    in the limit \langle \nabla \log \pi_w, -\nabla \ell \rangle, \quad \ell = -\log \sigma(\hat r_w - \hat r_l)
        # A short step changes log pi_w to first order by its slope along the step, down the loss; both gradients by the gradient core.
      error 0.0001
      along eta 0.001 0.0001 1e-05 1e-06
      not \langle \nabla \log \pi_w, \nabla \ell \rangle  # ascent for descent
      not \langle \nabla \log \pi_l, -\nabla \ell \rangle  # the loser's slope
    = \langle s_w, \beta\, \sigma(\hat r_l - \hat r_w) (s_w - s_l) \rangle
        # Put in the gradient of one pair's loss (dpo-gradient), with a minus for descent.
      slip sign of s_l flipped; sign within sigma flipped
      not \langle s_w, \beta\, \sigma(\hat r_l - \hat r_w) s_w \rangle  # the loser's score left out
    = \beta\, \sigma(\hat r_l - \hat r_w) \left( |s_w|^2 - \langle s_w, s_l \rangle \right)
        # The inner product is linear: what the winner gains for itself, less what it has in common with the loser.
      slip beta dropped
      not \beta\, \sigma(\hat r_l - \hat r_w) \left( |s_l|^2 - \langle s_w, s_l \rangle \right)  # the loser's length for the winner's
    = \beta\, \sigma(\hat r_l - \hat r_w) \left[ 1 - \pi(a \mid s) + \pi(b \mid s) + \sum_{s'} |e_{a'} - \pi(\cdot \mid s')|^2 \right]
        # Scores are one-hot less pi. Where both go together they are equal; in s they part with tokens a and b; then y_w goes on alone
        through s'.
      value @line_5
      not @the_loser_s_token_forgotten  # the loser's token forgotten
      not @the_tokens_after_the_parting_for  # the tokens after the parting forgotten
    so 0  # No term in the bracket of line 5 is negative, and so nor is the rate.
    <= \langle \nabla \log \pi_w, -\nabla \ell \rangle  # On tabular logits the winner of the pair never loses probability to first order.
      not \langle \nabla \log \pi_l, -\nabla \ell \rangle  # the same of the loser
    so \frac{\partial \log q_w}{\partial \theta_1} \frac{\partial}{\partial \theta_1} \log \sigma(m) + \frac{\partial \log q_w}{\partial
        \theta_2} \frac{\partial}{\partial \theta_2} \log \sigma(m)
        # Now let responses share parameters: q, a log-linear class with two features phi of a response, whose margin is m; the same rate,
        by the gradient core.
    = \beta\, \sigma(-m) \left( u_1 (u_1 - v_1) + u_2 (u_2 - v_2) \right)
        # The score of a log-linear policy is the feature less its mean under the policy: u of the winner, v of the loser.
      not \beta\, \sigma(-m) \left( \mathbb{E}_{best}[\phi_1]\, d_1 + \mathbb{E}_{best}[\phi_2]\, d_2 \right)  # features not centered
      not \beta\, \sigma(-m) \left( u_1^2 + u_2^2 \right)  # the loser's score left out
    = \beta\, \sigma(-m) \left( u_1 d_1 + u_2 d_2 \right)
        # The mean cancels in the difference d of the two, but not in the winner's own score: y_w falls exactly where y_l lies beyond it,
        seen from the mean.
      not \beta\, \sigma(-m) \left( \mathbb{E}_{best}[\phi_1]\, d_1 + \mathbb{E}_{best}[\phi_2]\, d_2 \right)
        # the mean cancelled everywhere
      not \left|\beta\, \sigma(-m) \left( u_1 d_1 + u_2 d_2 \right) \right|  # never negative, as for tables
    so \frac{\partial M}{\partial \theta_1} \frac{\partial}{\partial \theta_1} \log \sigma(m) + \frac{\partial M}{\partial \theta_2}
        \frac{\partial}{\partial \theta_2} \log \sigma(m), \quad M = \sum_y o(y)
        # Where does the mass go that the pair gives up? To responses that were in no pair, o of each; their rate, by the gradient core.
    = \beta\, \sigma(-m) \sum_y o(y) \left( (\phi_1(y) - \mathbb{E}_q[\phi_1])\, d_1 + (\phi_2(y) - \mathbb{E}_q[\phi_2])\, d_2 \right)
        # d pi = pi d log pi, and each log pi(y) moves as the winner's did: those rise whose features lie on the winner's side of the mean.
      not 0  # what the winner gains the loser loses
      not \beta\, \sigma(-m) \sum_y o(y) \left( \phi_1(y)\, d_1 + \phi_2(y)\, d_2 \right)  # features not centered
      not \beta\, \sigma(-m) \sum_y (1 - best(y)) (1 - worst(y)) \left( (\phi_1(y) - \mathbb{E}_q[\phi_1])\, d_1 + (\phi_2(y) -
        \mathbb{E}_q[\phi_2])\, d_2 \right)
        # each log pi counted alike, not weighed by pi
    """,
)

# ---------------------------------------------------------------------------------------------------- logit-conservation


derivation(
    slug="logit-conservation",
    title="Descent on DPO's loss only moves logits within a component of compared responses",
    chapter=6,
    rows=("logit-conservation",),
    source="Ours: the gradient in log p sums to zero over each component, so the softmax adds nothing.",
    largest=60,
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    named={
        "also_with_an_nll_term_on_the_win": lambda world, log_p: component_sums(world, gradient("cpo", world, log_p, finite_data(world))),
        "of_log_pi_for_logits": lambda world, log_p: component_sums(world, log_p_rate(world, log_p)),
        "also_with_absolute_terms_nca": lambda world, log_p: drift(world, log_p, "nca-pair"),
    },
    text=r"""
    let omega = wins_chain; c = component
    g_y = \frac{\partial \Lambda}{\partial \ell_y}, \quad \Lambda = -\sum_x \sum_{w, l} \omega_{wl} \log \sigma(\hat r_w - \hat r_l), \quad
        \hat r = \beta (\ell - \log p_{ref}), \quad \ell = \log p
        # Lambda is the loss on finite data, omega_wl the share of comparisons that w won of l; its slope in one log-probability l_y while
        the others are held, by the gradient core.
    = -\beta \sum_{l} \omega_{yl}\, \sigma(\hat r_l - \hat r_y) + \beta \sum_{w} \omega_{wy}\, \sigma(\hat r_y - \hat r_w)
        # Each pair, of weight omega, pushes its winner down the slope and its loser up it, equally hard (dpo-gradient): y where it won, and
        where it lost.
      not -\beta \sum_{l} \omega_{yl}\, \sigma(\hat r_l - \hat r_y) - \beta \sum_{w} \omega_{wy}\, \sigma(\hat r_y - \hat r_w)
        # both pushed up
      not -\beta \sum_{l} \omega_{yl}\, \sigma(\hat r_y - \hat r_l) + \beta \sum_{w} \omega_{wy}\, \sigma(\hat r_w - \hat r_y)
        # sigma of the right order
      not -\sum_{l} \omega_{yl}\, \sigma(\hat r_l - \hat r_y) + \sum_{w} \omega_{wy}\, \sigma(\hat r_y - \hat r_w)  # beta dropped
    so \sum_{y' :\, c(y') = c(y)} g_{y'}
        # Add up over a component of the comparison graph, c(y) its number; shown beside each of its responses.
    = -\beta \sum_{w :\, c(w) = c(y)} \sum_{l :\, c(l) = c(y)} \omega_{wl}\, \sigma(\hat r_l - \hat r_w) (1 - 1)
        # Both ends of a pair are in the same component: it enters once with + and once with -.
      not -\beta \sum_{w :\, c(w) = c(y)} \sum_{l :\, c(l) = c(y)} \omega_{wl}\, \sigma(\hat r_l - \hat r_w)  # winners alone
      not -\beta \sum_{w :\, c(w) = c(y)} \sum_{l :\, c(l) = c(y)} \omega_{wl}\, \sigma(\hat r_l - \hat r_w) (1 + 1)  # losers added
    = 0  # 1 - 1 = 0, whatever the weights.
      not @also_with_an_nll_term_on_the_win  # also with an NLL term on the winners
    so \frac{\partial \Lambda}{\partial \theta_y}, \quad \ell(y) = \theta(y) - \log \sum_{y'} e^{\theta(y')}, \quad \theta = \log p
        # What descends are logits, and one logit moves every log-probability of its prompt.
    = \sum_{y'} g_{y'} \left( 1_{y' = y} - p(y) \right)  # Chain rule: theta_y raises log p(y) by 1 - p(y), and lowers every other by p(y).
      not g_y \left( 1 - p(y) \right)  # its own log-probability alone
      not g_y\, p(y)  # raised by pi(y)
    = g_y - p(y) \sum_{y'} g_{y'}  # Take p(y), which does not depend on y', out of the sum.
      not g_y - p(y)\, g_y  # the sum taken for g_y
    = g_y  # Line 5 for every component: all g of a prompt add up to 0, so the softmax adds nothing.
      not g_y + p(y)  # the logit of a response never compared falls
    so -\sum_{y' :\, c(y') = c(y)} \frac{\partial \Lambda}{\partial \theta_{y'}}
        # Gradient flow moves every logit by minus its slope, and the sum of those of a component by minus the sum; by the gradient core.
    = 0  # By lines 9 and 5 the sum of the logits of a component is conserved; a response that was never compared keeps its logit.
      not @of_log_pi_for_logits  # of log pi for logits
      not @also_with_absolute_terms_nca  # also with absolute terms (NCA)
    """,
)

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
