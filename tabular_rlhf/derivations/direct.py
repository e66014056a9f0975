r"""Chapter 6 as derivations: a policy is a reward, and the loss that follows.

rhat = beta log(pi/pi_ref) is the implicit reward of the drawn policy pi.  Labels are Bradley-Terry's under the world's reward, both
responses of a pair drawn from p_ref for the same prompt; E is the mean over prompts, pairs and labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.geometry_roads import likelihood
from tabular_rlhf.derivations.optimum import full_support
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.comparisons import implicit_reward
from tabular_rlhf.terms.policies import token_ratios, without_eos
from tabular_rlhf.terms.sizes import reward_units, size_of
from tabular_rlhf.terms.sources import RAFAILOV

# ---------------------------------------------------------------------------------------------------- reward-inversion


def between(table: Any) -> Any:
    """table(y) - table(y') for every pair of responses of one prompt, (P, N, N)."""
    return table[:, :, None] - table[:, None, :]


derivation(
    slug="reward-inversion",
    title="A reward is the log-ratio of its best policy, up to log Z, which cancels within a prompt only",
    chapter=6,
    rows=("reward-inversion",),
    source=RAFAILOV,
    where=full_support,
    largest=64,
    scale=lambda r, beta, log_p_star, log_p_ref: (1.0 + 1.0 / beta) * reward_units(r, beta, log_p_star, log_p_ref),
    text=r"""
    \log p^*(y), \quad p^* = \frac{p_{ref}\, e^{r/\beta}}{Z}
        # Begin with the best policy for r, the Gibbs law. Every response is possible under p_ref.
    = \log p_{ref}(y) + \frac{r(y)}{\beta} - \log Z(x)  # Take the logarithm of each factor.
      slip multiplied by beta where one divides; log(Z) added, which is too much; sign of log(Z(x)) flipped
    so r(y)  # Solve for the reward.
    = \beta \log\frac{p^*(y)}{p_{ref}(y)} + \beta \log Z(x)  # Bring log p_ref and log Z to the other side and multiply everything by beta.
      slip beta dropped; p_star(tau)/p_ref(tau) inverted
      not beta*log(p_star(tau)/p_ref(tau)) + log(Z(x))  # log Z not multiplied by beta
    = \beta \sum_h \log\frac{\pi^*(a_h \mid s_h)}{\pi_{ref}(a_h \mid s_h)} + \beta \log Z(x)
        # Both laws are products over tokens, EOS included; Z belongs to the prompt and is counted once.
      not \frac{\beta}{|y|} \sum_h \log\frac{\pi^*(a_h \mid s_h)}{\pi_{ref}(a_h \mid s_h)} + \beta \log Z(x)
        # the mean over tokens for their sum
      not \beta \sum_h \log\frac{\pi^*(a_h \mid s_h)}{\pi_{ref}(a_h \mid s_h)} + \beta\, |y| \log Z(x)  # log Z counted at every token
    so r(y) - r(y')  # A comparison sees the difference of two responses to the same prompt.
    = \beta \log\frac{p^*(y)}{p_{ref}(y)} + \beta \log Z(x) - \beta \log\frac{p^*(y')}{p_{ref}(y')} - \beta \log Z(x)
        # Line 4 twice, with the Z of one and the same x.
      slip sign of beta*log(p_star(tau')/p_ref(tau')) flipped
    = \beta \log\frac{p^*(y)}{p_{ref}(y)} - \beta \log\frac{p^*(y')}{p_{ref}(y')}
        # Z, a sum over all responses, cancels: nobody needs to compute it.
      slip divided by beta, which is too much; beta*log(Z) added, which is too much
      not beta*log(p_star(tau)/p_ref(tau')) - beta*log(p_star(tau')/p_ref(tau'))  # p_ref cancelled too
    so r(x, y) - r(x', y')  # Now compare with a response to another prompt.
    = \beta \log\frac{p^*(y \mid x)}{p_{ref}(y \mid x)} - \beta \log\frac{p^*(y' \mid x')}{p_{ref}(y' \mid x')} + \beta
        \log\frac{Z(x)}{Z(x')}
        # Each prompt has a Z of its own: across prompts it does not cancel, and the log-ratios alone are no reward.
      slip the term beta*log(Z(x)/Z(x')) dropped
    """,
)

# ---------------------------------------------------------------------------------------------------- dpo-loss


def rhat(log_p: Any, log_p_ref: Any, beta: float) -> Any:
    return implicit_reward(log_p, log_p_ref, beta)


derivation(
    slug="dpo-loss",
    title="DPO's loss is the Bradley-Terry likelihood of the reward that the policy stands for",
    chapter=6,
    rows=("dpo-loss",),
    source=RAFAILOV,
    largest=40,
    scale=lambda r, beta, log_p, log_p_ref, shift: size_of(r, beta, log_p, log_p_ref) + float(np.max(np.abs(shift))),
    named={
        "eos_not_counted": lambda pairs, mdp, log_pi, log_pi_ref, beta: likelihood(
            pairs, beta * token_ratios(mdp, *without_eos(mdp, log_pi, log_pi_ref))
        )
    },
    text=r"""
    let r_hat = beta*log(p/p_ref)
    -\mathbb{E} \log \frac{e^{r(x, y_w)}}{e^{r(x, y_w)} + e^{r(x, y_l)}}, \quad r(x, y) = \beta \log\frac{\pi(y \mid x)}{\pi_{ref}(y \mid
        x)} + c(x)
        # The likelihood of a reward under Bradley-Terry, the reward written with its best policy (reward-inversion): c(x) stands for beta
        log Z(x).
    = -\mathbb{E} \log \frac{1}{1 + e^{-(r(x, y_w) - r(x, y_l))}}  # Divide numerator and denominator by exp(r(y_w)).
      slip sign of the exponent flipped
    = -\mathbb{E} \log \sigma\left( \beta \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} + c(x) - \beta \log\frac{\pi(y_l)}{\pi_{ref}(y_l)} - c(x)
        \right)
        # That fraction is the logistic function sigma; put in r for both responses.
      slip sign within sigma flipped; sign of c(x) flipped
    = -\mathbb{E} \log \sigma\left( \beta \log\frac{\pi(y_w)}{\pi_{ref}(y_w)} - \beta \log\frac{\pi(y_l)}{\pi_{ref}(y_l)} \right)
        # Winner and loser answer the same prompt, so c(x), and with it Z, cancels. This is DPO's loss.
      not -E[log(sigma((beta*log(pi(w)/pi_ref(w)) - beta*log(pi(l)/pi_ref(l)))/beta))]  # beta dropped
      not -E[log(sigma(log(pi(w)/pi_ref(w))/beta - log(pi(l)/pi_ref(l))/beta))]  # 1/beta for beta
      not -E[log(sigma(beta*log(pi(w)/pi_ref(l)) - beta*log(pi(l)/pi_ref(l))))]  # p_ref omitted
    = -\mathbb{E} \log \sigma\left( \beta \log\frac{\pi(y_w)}{\pi(y_l)} - \beta \log\frac{\pi_{ref}(y_w)}{\pi_{ref}(y_l)} \right)
        # Regroup the four logarithms: the policy's odds of the two responses against the reference's.
      slip sign of beta*log(pi_ref(w)/pi_ref(l)) flipped
    = -\mathbb{E} \log \sigma\left( \beta\, \ell(y_w) - \beta\, \ell(y_l) \right), \quad \ell(y) = \sum_h \log\frac{\pi(a_h \mid
        s_h)}{\pi_{ref}(a_h \mid s_h)}
        # A response's probability is the product over its tokens, EOS included: what code adds up is a sum, whatever the two lengths.
      not -\mathbb{E} \log \sigma\left( \beta \frac{\ell(y_w)}{|y_w|} - \beta \frac{\ell(y_l)}{|y_l|} \right)
        # the mean over tokens for their sum
      not @eos_not_counted  # EOS not counted
    = -\mathbb{E}_\mu \sum_{i, j} p_{ref}(i)\, p_{ref}(j) \left[ P(i \succ j) \log \sigma(\hat r_i - \hat r_j) + P(j \succ i) \log
        \sigma(\hat r_j - \hat r_i) \right]
        # Write the mean out: prompts from mu, two responses from p_ref, and then the label, which falls either way.
      slip a factor 1/2 too many
      not -E_{mu}[sum_{i, j} p_ref(i)*p_ref(j)*(P(i succ j)*log(sigma(-(r_hat(i) - r_hat(j)))) + P(j succ i)*log(sigma(-(r_hat(j) -
        r_hat(i)))))]
        # labels the wrong way round
      not -\mathbb{E}_\mu \sum_{i, j} \frac{1}{N^2} \left[ P(i \succ j) \log \sigma(\hat r_i - \hat r_j) + P(j \succ i) \log \sigma(\hat r_j
        - \hat r_i) \right]
        # all responses asked for equally often
    so -\mathbb{E}_{x \sim \mu,\, y \sim p_{ref}(\cdot \mid x),\, x' \sim \mu,\, y' \sim p_{ref}(\cdot \mid x')} \log \sigma\left( r(x, y) -
        r(x', y') \right)
        # Suppose instead that y beat a response to another prompt.
    = -\mathbb{E}_{x \sim \mu,\, y \sim p_{ref}(\cdot \mid x),\, x' \sim \mu,\, y' \sim p_{ref}(\cdot \mid x')} \log \sigma\left( \beta
        \log\frac{\pi(y \mid x)}{\pi_{ref}(y \mid x)} - \beta \log\frac{\pi(y' \mid x')}{\pi_{ref}(y' \mid x')} + c(x) - c(x') \right)
        # Now c(x) - c(x') stays: such data cannot be fitted without knowing Z.
      not -\mathbb{E}_{x \sim \mu,\, y \sim p_{ref}(\cdot \mid x),\, x' \sim \mu,\, y' \sim p_{ref}(\cdot \mid x')} \log \sigma\left( \beta
        \log\frac{\pi(y \mid x)}{\pi_{ref}(y \mid x)} - \beta \log\frac{\pi(y' \mid x')}{\pi_{ref}(y' \mid x')} \right)
        # c cancelled across prompts
    """,
)
