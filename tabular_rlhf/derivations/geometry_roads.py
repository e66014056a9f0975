r"""Chapter 5 as a derivation: a reward first and then its best policy, or the policy at once: the same place, if the rewards are R(Pi)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import roads
from tabular_rlhf.derivations.optimum import full_support
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.terms.policies import second_stage, two_stages
from tabular_rlhf.terms.sizes import reward_units

# ---------------------------------------------------------------------------------------------------- all-roads


def likelihood(pairs: Pairs, r: Any) -> Any:
    """-E[log sigma(r(y_w) - r(y_l))] over weighted pairs."""
    return -np.sum(pairs.weight * log_sigmoid(pairs.margin(r)))


def log_odds(pairs: Pairs, log_p: Any, log_p_ref: Any, beta: float) -> Any:
    """beta log(pi(y_w)/pi_ref(y_w)) - beta log(pi(y_l)/pi_ref(y_l)) of every pair."""
    x, w, l = pairs.x, pairs.w, pairs.l
    return beta * (log_p[x, w] - log_p_ref[x, w]) - beta * (log_p[x, l] - log_p_ref[x, l])


derivation(
    slug="all-roads",
    title="All roads lead to DPO, if the rewards are R(Pi)",
    chapter=5,
    rows=("all-roads",),
    source="Swamy et al. (2025), arXiv:2503.01067; Rafailov et al. (2023), arXiv:2305.18290.",
    where=lambda log_p_ref, N: N > 1 and full_support(log_p_ref),
    largest=4,
    most=30,
    scale=lambda log_p_tied, log_p_2, log_p_ref, beta: max(
        reward_units(0.0 * log_p_ref, beta, q, log_p_ref) for q in (log_p_tied, log_p_2)
    ),
    setting={"people": "M"},
    named={
        "c_x_added_to_the_winner_alone": lambda pairs_M, log_p_tied, log_p_ref, beta, shift: (
            -np.sum(pairs_M.weight * log_sigmoid(log_odds(pairs_M, log_p_tied, log_p_ref, beta) + shift[:, :, None]))
        ),
        "f_1_beta_for_beta_in_the_tilt": lambda log_p_ref, log_p_tied, beta: np.exp(
            log_gibbs(log_p_ref, beta**2 * (log_p_tied - log_p_ref), beta)
        ),
        "a_richer_reward_class_all_tables": lambda world, tied, pairs_M: two_stages(world, tied, pairs_M, roads.Table(world.mdp)),
        "another_beta_in_the_second_stage": lambda world, tied, fit_tied: second_stage(
            tied, log_gibbs(world.log_p_ref, fit_tied.r, 2.0 * world.beta)
        ),
        "p_ref_omitted_softmax_of_r_alone": lambda world, tied, fit_tied: second_stage(tied, log_softmax(fit_tied.r / world.beta)),
    },
    text=r"""
    let pi = p_tied; pi_ref = p_ref; pi' = p_2; p_RLHF = p_rlhf; p_DPO = p_dpo
    -\mathbb{E} \log \sigma\left( r(y_w) - r(y_l) \right), \quad r = \beta \log\frac{\pi}{\pi_{ref}} + c(x)
        # First stage of RLHF: the likelihood of a reward of the class R(Pi), at a drawn pi of Pi. Every response is possible under pi_ref.
    = L_{DPO}(\pi) = -\mathbb{E} \log \sigma\left( \beta \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \beta \log\frac{\pi(y_l)}{\pi_{ref}(y_l)}
        \right)
        # Change of variables from r to pi; c(x) cancels. This is DPO's loss, number for number, so r is a minimizer over R(Pi) exactly if
        its pi is one over Pi.
      slip sign within sigma flipped
      not -E[log(sigma(beta*log(pi(w)/pi_ref(l)) - beta*log(pi(l)/pi_ref(l))))]  # p_ref omitted
      not -E[log(sigma((beta*log(pi(w)/pi_ref(w)) - beta*log(pi(l)/pi_ref(l)))/beta))]  # beta dropped
      not @c_x_added_to_the_winner_alone  # c(x) added to the winner alone
    so J_r(\pi') = \mathbb{E}_{\pi'}[r] - \beta\, \mathrm{KL}(\pi', \pi_{ref})
        # Second stage: how good another policy pi' is for that reward, for each prompt.
    = \mathbb{E}_{\pi'}\left[ \beta \log\frac{\pi}{\pi_{ref}} + c(x) - \beta \log\frac{\pi'}{\pi_{ref}} \right]
        # Put in the reward, and write the KL as the mean that it is.
      not E_{pi'}[beta*log(pi/pi_ref) + c(x)] - beta*KL(pi, pi_ref)  # the second log-ratio averaged under pi
    = c(x) - \beta\, \mathbb{E}_{\pi'} \log\frac{\pi'}{\pi}  # pi_ref cancels.
      slip sign of beta*E_{pi'}[log(pi'/pi)] flipped; beta dropped
    = c(x) - \beta\, \mathrm{KL}(\pi', \pi)  # That mean is the reverse KL to the policy that the reward was written with.
      slip arguments of KL swapped
    <= c(x)
        # Never more, and as much only for pi' = pi, which is in Pi: the second stage returns the policy that the first stage wrote r with.
      not c(x) - beta*KL(pi_ref, pi)  # the value of pi_ref
    so \frac{\pi_{ref}\, e^{r/\beta}}{\sum_{y'} \pi_{ref}(y')\, e^{r(y')/\beta}}
        # The same, seen from the Gibbs law of r, which the second stage projects onto Pi.
    = \pi
        # exp(r/beta) is exp(c(x)/beta) pi/pi_ref: pi_ref cancels, and so does exp(c(x)/beta), because pi sums to one. It is in Pi: nothing
        is left to project.
      not pi_ref*pi/(sum_{y'} pi_ref(y')*pi(y'))  # pi_ref kept: pi_ref times pi
      not @f_1_beta_for_beta_in_the_tilt  # 1/beta for beta in the tilt
    so p_{RLHF}(\tau)
        # Now both stages are run: the likeliest reward of R(Pi) by Newton's method, then the projection of its Gibbs law onto Pi (where J
        is largest).
    = p_{DPO}(\tau)
        # DPO in one stage: the loss of line 2, minimized over Pi by itself. With a reward class richer than R(Pi) the roads part.
      error 1e-09
      not @a_richer_reward_class_all_tables  # a richer reward class: all tables
      not @another_beta_in_the_second_stage  # another beta in the second stage
      not @p_ref_omitted_softmax_of_r_alone  # p_ref omitted: softmax of r alone
    """,
)
