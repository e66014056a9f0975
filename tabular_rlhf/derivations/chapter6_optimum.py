r"""Chapter 6 as derivations: where DPO leads when labels are noisy as Bradley-Terry says, and when they are certain. With certain labels
IPO's optimum stays finite, and what it is.

rhat = beta log(pi/pi_ref); both responses of a pair are drawn from p_ref, for the same prompt; prompts are averaged over mu.

h = log(pi/pi_ref), on the responses that pi_ref allows; M_ij is 1 if i is better than j, 1/2 for equal ones; both responses of a pair
are drawn from pi_ref, and P(i beats pi_ref) is the mean of M_ij over j.  tau is IPO's own weight; here it has the value of beta.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.chapter6 import between, rhat
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.terms.comparisons import ipo_closed, on_support
from tabular_rlhf.terms.sizes import size_of
from tabular_rlhf.terms.sources import RAFAILOV

AZAR = "Azar et al. (2023), arXiv:2310.12036."

# ---------------------------------------------------------------------------------------------------- dpo-population-optimum


def margin_of(log_p: Any, log_p_ref: Any, beta: float) -> Any:
    return between(rhat(log_p, log_p_ref, beta))


derivation(
    slug="dpo-population-optimum",
    title="With Bradley-Terry labels on all pairs, DPO's minimizer is the Gibbs optimum",
    chapter=6,
    rows=("dpo-population-optimum", "mle-is-forward-kl"),
    source=RAFAILOV,
    largest=40,
    where=lambda mu: bool(np.all(mu > 0)),
    scale=lambda r, beta, log_p, log_p_ref: size_of(r, beta, log_p, log_p_ref),
    named={
        "line_7": lambda log_p_ref, gaps: on_pairs(log_p_ref, gaps),
        "line_8": lambda log_p_star, log_p_ref, beta: on_pairs(log_p_ref, margin_of(log_p_star, log_p_ref, beta)),
        "beta_dropped": lambda log_p_star, log_p_ref: on_pairs(log_p_ref, margin_of(log_p_star, log_p_ref, 1.0)),
        "p_ref_omitted": lambda log_p_star, log_p_ref, beta: on_pairs(log_p_ref, between(beta * on_support(log_p_ref, log_p_star))),
    },
    text=r"""
    let P = P_beats; r_hat = beta*log(p/p_ref); p_DPO = p_dpo_bt
    -\mathbb{E} \log \sigma(\hat r_w - \hat r_l)  # DPO's loss on all pairs that p_ref can make, for every prompt, labels by Bradley-Terry.
    = \mathbb{E}_{i, j} \left[ -P_{ij} \log \sigma(m_{ij}) - (1 - P_{ij}) \log(1 - \sigma(m_{ij})) \right], \quad m_{ij} = \hat r_i - \hat
        r_j
        # i and j are drawn first, from p_ref, then the label: i wins with P_ij = sigma(r_i - r_j), else j. A cross entropy of two coins.
      slip a factor 1/2 too many
      not \mathbb{E}_{i, j} \left[ -P_{ji} \log \sigma(m_{ij}) - (1 - P_{ji}) \log(1 - \sigma(m_{ij})) \right]
        # the label's two outcomes exchanged
    = \mathbb{E}_{i, j} \left[ P_{ij} \log\frac{P_{ij}}{\sigma(m_{ij})} + (1 - P_{ij}) \log\frac{1 - P_{ij}}{1 - \sigma(m_{ij})} \right] +
        \mathbb{E}_{i, j}\, \mathcal{H}(P_{ij})
        # Add and subtract P log P + (1 - P) log(1 - P), which is minus the entropy of the label.
      slip sign of E_{i, j}[H(P(i, j))] flipped
      not \mathbb{E}_{i, j} \left[ P_{ij} \log\frac{P_{ij}}{\sigma(m_{ij})} + (1 - P_{ij}) \log\frac{1 - P_{ij}}{1 - \sigma(m_{ij})} \right]
        + \mathbb{E}_{i, j}\, \mathcal{H}(\sigma(m_{ij}))
        # the fitted law's entropy for the labels'
    up to a constant \mathbb{E}_{i, j}\, \mathrm{KL}(P_{ij}, \sigma(m_{ij}))
        # The entropy of the labels does not mention pi; the rest is a KL of two coins, labels first: maximum likelihood is forward KL.
      slip arguments of KL swapped
      not \mathbb{E}_{i, j}\left[ \mathrm{KL}(P_{ij}, \sigma(m_{ij})) + \mathcal{H}(\sigma(m_{ij})) \right]
        # the entropy of sigma(m) taken for a constant
    so \mathbb{E}_{i, j}\, \mathcal{H}(P_{ij})  # What is left when that KL is 0 for every pair.
    <= -\mathbb{E} \log \sigma(\hat r_w - \hat r_l)
        # The loss. No policy has less, and as little exactly those with sigma(rhat_i - rhat_j) = P_ij, that is rhat_i - rhat_j = r_i - r_j,
        on all pairs.
      not -\mathbb{E} \log \sigma(\hat r_w - \hat r_l) - \log 2  # log 2 less
    so r_i - r_j  # Is there such a policy? It needs these margins, where p_ref allows both.
      value @line_7
    = \beta \log\frac{p^*_i}{p_{ref, i}} - \beta \log\frac{p^*_j}{p_{ref, j}}  # The Gibbs optimum has them (reward-inversion): Z cancels.
      value @line_8
      not @beta_dropped  # beta dropped
      not @p_ref_omitted  # p_ref omitted
    so p_{DPO}(y)  # Now the loss is minimized over all policies, by Newton's method: p_DPO is where it is least.
    = p^*(y) = \frac{p_{ref}(y)\, e^{r(y)/\beta}}{Z}
        # It is p*, and nothing else: the margins leave one c(x) open, and that is fixed because probabilities sum to one.
      error 1e-08
      slip Z dropped
      not \frac{p_{ref}(y)\, e^{r(y)}}{\sum_{y'} p_{ref}(y')\, e^{r(y')}}  # beta dropped
      not \frac{e^{r(y)/\beta}}{\sum_{y'} e^{r(y')/\beta}}  # p_ref omitted
    """,
)


def on_pairs(log_p_ref: Any, table: Any) -> Any:
    """(P, N, N), 0 where the reference forbids one of the two."""
    possible = ~np.isneginf(log_p_ref)
    return np.where(possible[:, :, None] & possible[:, None, :], table, 0.0)


# ---------------------------------------------------------------------------------------------------- dpo-deterministic-labels

DECIDED = ("kappa", (1.0, 1e2, 1e4, 1e6))
"""People ever more decided."""


def told_apart(mu: Any, r: Any, log_p_ref: Any, beta: float) -> bool:
    """Every prompt asked, rewards equal or clearly different, and no possible response too rare for Newton's method."""
    gaps = np.abs(between(r))
    clear = np.min(gaps, initial=np.inf, where=gaps > 0) > 1e-4 * (1.0 + beta)
    return (
        bool(clear)
        and bool(np.all(mu > 0))
        and float(np.min(log_p_ref, initial=0.0, where=~np.isneginf(log_p_ref))) > -12.0
        and float(np.ptp(r)) < 8.0
    )


derivation(
    slug="dpo-deterministic-labels",
    title="Certain labels: DPO runs to the best response, whatever beta",
    chapter=6,
    rows=("dpo-deterministic-labels",),
    source=AZAR,
    largest=12,
    where=told_apart,
    named={"line_4": lambda log_p_ref, kappa, r, beta: np.exp(log_gibbs(log_p_ref, kappa * r, beta))},
    text=r"""
    let Z_kappa = sum_y p_ref(y)*exp(kappa*r(y)/beta); p_DPO = p_dpo_kappa
    P_\kappa(i \succ j) = \sigma(\kappa (r_i - r_j))
        # People who follow the reward r with decision kappa: Bradley-Terry labels for kappa r.
    in the limit 1_{r_i > r_j} + \frac{1}{2}\, 1_{r_i = r_j}
        # As kappa grows the better response always wins; of two equal ones either does.
      along kappa 1 100 10000 1e+06
      slip 2 for 1
      not 1[r(j) > r(i)] + 1/2*1[r(i) = r(j)]  # winner and loser swapped
    so p_{DPO}(y)  # Before the limit DPO's loss has a minimizer, p_DPO, by Newton's method.
    = \frac{p_{ref}(y)\, e^{\kappa r(y)/\beta}}{Z_\kappa}
        # It is the Gibbs optimum of kappa r (dpo-population-optimum): decision and beta enter only as kappa/beta.
      value @line_4
      error 1e-08
      not \frac{p_{ref}(y)\, e^{r(y)/(\kappa \beta)}}{\sum_{y'} p_{ref}(y')\, e^{r(y')/(\kappa \beta)}}  # decision taken for noise: 1/kappa
      not p_star(y)  # kappa not seen: p*
    in the limit p_\infty(y) = \frac{p_{ref}(y)\, 1[r(y) = \max r]}{\sum_{y'} p_{ref}(y')\, 1[r(y') = \max r]}
        # The tilt beats every finite beta: the best possible responses are left, with p_ref's odds. Certain labels themselves have no
        minimizer, unless all tie: the loss falls for ever towards this law.
      along kappa 1 100 10000 1e+06
      not p_star(y)  # p*, as if beta still counted
      not \frac{1[p_{ref}(y) > 0]\, 1[r(y) = \max r]}{\sum_{y'} 1[p_{ref}(y') > 0]\, 1[r(y') = \max r]}  # ties share equally
    so \mathrm{KL}(p_\infty, p_{ref})  # How far the policy has gone from the reference, for each prompt.
    = -\log p_{ref}(r = \max r)
        # p_infinity/p_ref is 1 over the probability of the best responses. There is no beta in it: the KL term has lost its hold.
      slip divided by beta, which is too much; sign flipped
    """,
)

# ---------------------------------------------------------------------------------------------------- ipo-two-arms


derivation(
    slug="ipo-two-arms",
    title="Certain labels: IPO stops at a tilt by win rates, sigma(1/(2 tau)) for two arms",
    chapter=6,
    rows=("ipo-two-arms", "dpo-deterministic-labels"),
    source=AZAR,
    largest=12,
    where=told_apart,
    scale=lambda log_p, log_p_ref, beta: 8.0 * (1.0 + 1.0 / beta + float(np.max(np.abs(rhat(log_p, log_p_ref, 1.0))))),
    setting={"people": "M"},
    named={"responses_drawn_uniformly": lambda world, p_ref, beta: ipo_closed(world, beta, np.ones_like(p_ref) / p_ref.shape[1])},
    text=r"""
    let tau = beta; pi = p; pi_ref = p_ref; M = 1[r(tau) > r(tau')] + 1/2*1[r(tau) = r(tau')]; p_IPO = p_ipo; q_w = ipo_arm
    \frac{\partial}{\partial h_i}\, \mathbb{E}\left[ \left( h_w - h_l - \frac{1}{2 \tau} \right)^2 \right], \quad h =
        \log\frac{\pi}{\pi_{ref}}
        # The slope of IPO's loss in the log-ratio of one response, by the gradient core. The better response always wins, and tau has the
        value of beta.
    = 2 \mu\, p_{ref, i} \sum_j p_{ref, j} \left[ 2 M_{ij} \left( h_i - h_j - \frac{1}{2 \tau} \right) - 2 M_{ji} \left( h_j - h_i -
        \frac{1}{2 \tau} \right) \right]
        # i is the winner of some pairs and the loser of others; the pair (i, j) has weight 2 mu p_ref(i) p_ref(j) M_ij.
      slip the term 2*M(j, i)*(h(j) - h(i) - 1/(2*tau)) dropped; sign of 2*M(j, i)*(h(j) - h(i) - 1/(2*tau)) flipped
      not 2 \mu\, p_{ref, i} \sum_j p_{ref, j} \left[ 2 M_{ij} \left( h_i - h_j - \frac{1}{\tau} \right) - 2 M_{ji} \left( h_j - h_i -
        \frac{1}{\tau} \right) \right]
        # 1/tau for 1/(2 tau)
    = 4 \mu\, p_{ref, i} \sum_j p_{ref, j} \left[ h_i - h_j - \frac{M_{ij} - M_{ji}}{2 \tau} \right]
        # Somebody wins: M_ij + M_ji = 1, so h_i - h_j has weight 1 whoever does; the targets keep their signs.
      slip sign of M(j, i) flipped; 2 for 4
    = 4 \mu\, p_{ref, i} \left[ h_i - \mathbb{E}_{ref}[h] - \frac{1}{\tau} \left( P(i \succ \pi_{ref}) - \frac{1}{2} \right) \right]
        # Average over j: M_ij becomes P(i beats pi_ref), M_ji one minus that, and their difference twice P - 1/2.
      slip the term 1/2 dropped; 0.5 for 1; sign of 1/tau*(P(i succ pi_ref) - 1/2) flipped
    so p_{IPO}(y)
        # At the minimum the bracket is 0 for every i that pi_ref allows, so h_i is P(i beats pi_ref)/tau plus a constant. By Newton's
        method p_IPO is where the loss is least:
    = \frac{\pi_{ref}(y)\, e^{P(y \succ \pi_{ref})/\tau}}{\sum_{y'} \pi_{ref}(y')\, e^{P(y' \succ \pi_{ref})/\tau}}
        # The constant normalizes. Win rates lie between 0 and 1, so no log-ratio moves by more than 1/tau: tau keeps its hold.
      error 1e-08
      slip tau for tau'
      not \frac{\pi_{ref}(y)\, e^{P(y \succ \pi_{ref})/(2 \tau)}}{\sum_{y'} \pi_{ref}(y')\, e^{P(y' \succ \pi_{ref})/(2 \tau)}}
        # 1/(2 tau) for 1/tau
      not p_star(y)  # the reward for the win rate: p*
      not @responses_drawn_uniformly  # responses drawn uniformly
    so q_w
        # Two arms, equally likely at first, of which one always wins: the winner's probability where the loss is least, by Newton's method.
    = \frac{e^{3/(4 \tau)}}{e^{3/(4 \tau)} + e^{1/(4 \tau)}}
        # Against pi_ref the winner wins 1/2 + 1/4 = 3/4 (it meets itself half the time), the loser 1/4.
      error 1e-09
      slip the term exp(1/(4*tau)) dropped
      not exp(3/(4*tau))/(exp(3/(4*tau)) + exp(-1/(4*tau)))  # it never meets itself: 1 and 0
    = \sigma\left( \frac{1}{2 \tau} \right)
        # Divide by the numerator: 3/4 - 1/4 = 1/2. Exactly the margin 1/(2 tau) that IPO's square asks for.
      slip 2 for 1; divided by tau where one multiplies; sign within sigma flipped
    """,
)
