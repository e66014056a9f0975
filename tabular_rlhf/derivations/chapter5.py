r"""Chapter 5 as derivations: Pythagoras for the I-projection, and the arc of Gibbs laws from p_ref to p*. A reward first and then its
best policy, or the policy at once: the same place, if the rewards are R(Pi).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf import roads
from tabular_rlhf.derivations.chapter4 import full_support
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.terms.policies import second_stage, two_stages
from tabular_rlhf.terms.sizes import deepest, reward_units
from tabular_rlhf.terms.sources import CSISZAR

# ---------------------------------------------------------------------------------------------------- i-projection


def in_nats(r: Any, beta: float, log_p_star: Any, log_p_ref: Any) -> float:
    """The size of a term: a log-probability, or a reward over beta."""
    return deepest(log_p_star, log_p_ref) + float(np.max(np.abs(r))) / beta


derivation(
    slug="i-projection",
    title="Pythagoras: p* is the nearest to p_ref of all laws with its mean reward",
    chapter=5,
    rows=("i-projection",),
    source=CSISZAR,
    scale=in_nats,
    text=r"""
    let q = p_level
    \mathrm{KL}(p, p_{ref}) = \sum_\tau p(\tau) \log\frac{p(\tau)}{p_{ref}(\tau)}
        # Begin with any law p that p_ref covers, for each prompt.
    = \sum_\tau p(\tau) \left( \log\frac{p(\tau)}{p^*(\tau)} + \log\frac{p^*(\tau)}{p_{ref}(\tau)} \right)
        # Multiply and divide by p* inside the logarithm.
      slip p(tau)/p_star(tau) inverted; sign of log(p_star(tau)/p_ref(tau)) flipped
    = \mathrm{KL}(p, p^*) + \sum_\tau p(\tau) \log\frac{p^*(\tau)}{p_{ref}(\tau)}
        # The first ratio, averaged under p, is a KL; the second is not, because its average is not under p*.
      slip arguments of KL swapped
      not KL(p, p_star) + sum_{tau} p_star(tau)*log(p_star(tau)/p_ref(tau))
        # the second average taken for KL(p*, p_ref): no hypothesis used
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \sum_\tau (p(\tau) - p^*(\tau)) \log\frac{p^*(\tau)}{p_{ref}(\tau)}
        # Add and subtract the average under p*, which is the KL that we want. The last sum is the cross term.
      slip sign of sum_{tau} (p(tau) - p_star(tau))*log(p_star(tau)/p_ref(tau)) flipped
      not KL(p, p_star) + KL(p_ref, p_star) + sum_{tau} (p(tau) - p_star(tau))*log(p_star(tau)/p_ref(tau))  # the second leg reversed
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \sum_\tau (p(\tau) - p^*(\tau)) \left( \frac{r(\tau)}{\beta} - \log Z \right)
        # Put in p* = p_ref exp(r/beta)/Z: this is where it matters that p* is a Gibbs law.
      slip multiplied by beta where one divides
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \frac{1}{\beta} \left( \sum_\tau p(\tau) r(\tau) - \sum_\tau p^*(\tau) r(\tau)
        \right) - \log Z \left( \sum_\tau p(\tau) - \sum_\tau p^*(\tau) \right)
        # beta and Z do not depend on the response.
      slip log(Z) taken away, which is too much; the term sum_{tau} p_star(tau)*r(tau) dropped
    = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \frac{1}{\beta} \left( \mathbb{E}_p[r] - \mathbb{E}_{p^*}[r] \right)
        # Both laws sum to one. This holds for every p.
      slip a mean under p_ref where one under p_star is due; 1/beta dropped; a mean under p_star where one under p is due
    so \frac{1}{\beta} \left( \mathbb{E}_q[r] - \mathbb{E}_{p^*}[r] \right), \quad \mathbb{E}_q[r] = \mathbb{E}_{p^*}[r]
        # Now a law q that has the mean reward of p*, not any law p: what is left of the cross term?
    = 0  # Nothing: that is the hypothesis.
      not 1/beta*(E_{q}[r] - E_{p_ref}[r])  # the mean of p_ref is no substitute
    so \mathrm{KL}(p^*, p_{ref})  # Go back to line 7, now without its cross term.
    <= \mathrm{KL}(q, p^*) + \mathrm{KL}(p^*, p_{ref})  # A KL is never negative, and 0 only at q = p*.
      slip sign flipped
    = \mathrm{KL}(q, p_{ref})  # This is line 7 for q: p* is the I-projection of p_ref, the nearest law of its mean reward.
      slip arguments of KL swapped
      not KL(p, p_ref)  # any law, off the set
    """,
)

# ---------------------------------------------------------------------------------------------------- e-geodesic


derivation(
    slug="e-geodesic",
    title="The Gibbs laws of all beta are one exponential arc from p_ref",
    chapter=5,
    rows=("e-geodesic",),
    source=CSISZAR,
    where=lambda log_p_ref, log_p_star: full_support(log_p_ref) and deepest(log_p_star) < 300,
    scale=in_nats,
    text=r"""
    let p_t = p_ref*exp(t*r/beta)/Z_t; Z_t = sum_tau p_ref(tau)*exp(t*r(tau)/beta)
    \log p_t(\tau), \quad p_t = \frac{p_{ref}\, e^{t r/\beta}}{Z_t}
        # The Gibbs law at beta/t: p_ref at t = 0, p* at t = 1.  Every response is possible under p_ref.
    = \log p_{ref}(\tau) + t\, \frac{r(\tau)}{\beta} - \log Z_t  # The logarithm of a product is a sum.
      not log(p_ref(tau)*exp(t*beta*r(tau))/(sum_{tau'} p_ref(tau')*exp(t*beta*r(tau'))))  # beta for 1/beta
      not log(p_ref(tau)) + t*r(tau)/beta - log(Z)  # Z of t = 1 for Z_t
    = \log p_{ref}(\tau) + t \left( \log\frac{p^*(\tau)}{p_{ref}(\tau)} + \log Z \right) - \log Z_t
        # Read p* = p_ref exp(r/beta)/Z backwards: r/beta = log(p*/p_ref) + log Z.
      slip Z omitted
    = (1 - t) \log p_{ref}(\tau) + t \log p^*(\tau) - (\log Z_t - t \log Z)
        # Collect the terms of each law; what does not depend on the response stands in the bracket.
      not (1 - t)*log(p_star(tau)) + t*log(p_ref(tau)) - (log(Z_t) - t*log(Z))  # the weights exchanged
      not (1 - t)*log(p_ref(tau)) + t*log(p_star(tau)) - (log(Z_t) - log(Z))  # t forgotten at log Z
    = (1 - t) \log p_{ref}(\tau) + t \log p^*(\tau) - \log \sum_{\tau'} p_{ref}(\tau')^{1-t}\, p^*(\tau')^t
        # The bracket is what makes the law sum to one: a straight line in log-probabilities, normalized again.
      slip the term log(sum_{tau'} p_ref(tau')^{1 - t}*p_star(tau')^{t}) dropped
      not log((1 - t)*p_ref(tau) + t*p_star(tau))  # probabilities mixed for log-probabilities
    so \frac{d}{ds} \log q(\tau), \quad q \propto p_{ref}\, e^{s\, r}, \quad s = \frac{1}{\beta}
        # The velocity on the arc, in s = 1/beta, where q is p*; by the gradient core.
    = r(\tau) - \frac{d}{ds} \log \sum_{\tau'} p_{ref}(\tau')\, e^{s\, r(\tau')}
        # p_ref does not move with s, and s r has slope r; the sum that normalizes q does move.
      not r(tau)  # Z taken for a constant
    = r(\tau) - \frac{1}{Z} \sum_{\tau'} p_{ref}(\tau')\, r(\tau')\, e^{r(\tau')/\beta}
        # The chain rule: d log Z = dZ/Z, and each exponential brings down its r.
      slip 1/Z dropped; r(tau') dropped
    = r(\tau) - \mathbb{E}_{p^*}[r]  # p_ref exp(r/beta)/Z is p*: the velocity is the reward, centered where one stands.
      slip a mean under p_ref where one under p_star is due; divided by beta, which is too much
    """,
)

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
