r"""Chapter 6 as a derivation: what one step of DPO does to the winner's probability.

One pair a prompt: y_w its best possible response, y_l its worst, and gradient descent on the loss of that pair alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.direct import rhat
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.logspace import log_sigmoid
from tabular_rlhf.symbols.pairs import best_and_worst
from tabular_rlhf.terms.sizes import size_of
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
