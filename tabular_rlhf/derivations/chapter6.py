r"""Chapter 6 as derivations: a policy is a reward, and the loss that follows. The gradient of DPO's loss, one use of the chain rule at a
time, and what its weight means.

rhat = beta log(pi/pi_ref) is the implicit reward of the drawn policy pi.  Labels are Bradley-Terry's under the world's reward, both
responses of a pair drawn from p_ref for the same prompt; E is the mean over prompts, pairs and labels.

m = rhat_w - rhat_l is the margin of a pair, rhat = beta log(pi/pi_ref); gradients are in the token logits of the policy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.derivations.chapter4 import full_support
from tabular_rlhf.derivations.chapter5 import likelihood
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.terms.comparisons import implicit_reward, on_support, own_score, pull
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

# ---------------------------------------------------------------------------------------------------- dpo-gradient


def margins(world: Any, pairs: Any, logits: Any) -> Any:
    """m of every pair, traced in the logits."""
    return pairs.margin(rhat(world.mdp.path_sum(log_softmax(logits)), world.log_p_ref, world.beta))


def by_tokens(world: Any, log_p: Any, pi: Any, beta: float, centered: bool = True) -> Any:
    """-beta E[sigma(rhat_l - rhat_w)(score_w - score_l)], scores written out: one-hot less pi in every state that a response visits."""
    mdp, out = world.mdp, np.zeros_like(pi)
    weights = pull(world, log_p, beta)
    push = np.sum(weights, axis=2) - np.sum(weights, axis=1)  # what y receives as a winner, less what it loses as a loser
    for y in range(mdp.N):
        score = own_score(mdp, pi if centered else 0.0 * pi, np.arange(mdp.P), np.full(mdp.P, y))
        out -= beta * on_support(world.log_p_ref, push)[:, y, None, None] * score
    return out


def moderate(world: Any, pairs: Any, logits: Any) -> bool:
    """Margins whose exponentials are floats."""
    return bool(np.max(np.abs(margins(world, pairs, logits))) < 300)


derivation(
    slug="dpo-gradient",
    title="The gradient of DPO's loss, and what each factor does",
    chapter=6,
    rows=("dpo-gradient",),
    source=RAFAILOV,
    largest=16,
    where=moderate,
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    named={"the_normalizer_forgotten_one_hot": lambda world, log_p, pi, beta: by_tokens(world, log_p, pi, beta, False)},
    text=r"""
    let r_hat = beta*L
    \nabla\, \mathbb{E}\left[ -\log \sigma(m) \right], \quad m = \hat r_w - \hat r_l
        # The gradient of DPO's loss in the token logits, by the gradient core.
    = -\mathbb{E}\left[ \frac{1}{\sigma(m)}\, \nabla \sigma(m) \right]
        # The mean and the gradient change places (pairs and labels do not depend on pi); d log u = du/u.
      slip 1/sigma(m) dropped
      not -\mathbb{E}\left[ \frac{1}{10^{-9} + |m|}\, \nabla \sigma(m) \right]  # 1/m for 1/sigma(m)
    = -\mathbb{E}\left[ \frac{1}{\sigma(m)}\, \sigma(m) (1 - \sigma(m))\, \nabla m \right]
        # sigma = 1/(1 + e^-m) has slope e^-m/(1 + e^-m)^2 = sigma (1 - sigma).
      slip 1 - sigma(m) dropped; sigma(m) dropped
    = -\mathbb{E}\left[ \sigma(-m)\, \nabla m \right]
        # sigma cancels, and 1 - sigma(m) = (1 + e^-m - 1)/(1 + e^-m) = 1/(e^m + 1) = sigma(-m).
      slip sign within sigma flipped; sign flipped
    = -\mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( \nabla \hat r_w - \nabla \hat r_l \right) \right]
        # Write out m: its sign turns in the weight, not in the gradient.
      slip sign of nabla(r_hat(l)) flipped; sign within sigma flipped
    = -\beta\, \mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( \nabla \log \pi(y_w) - \nabla \log \pi(y_l) \right) \right]
        # rhat = beta log pi - beta log pi_ref: beta is a factor, and the reference does not depend on the parameters.
      slip beta dropped; sigma(r_hat(l) - r_hat(w)) dropped; sign flipped
      not -\beta\, \mathbb{E}\left[ \sigma\left( \frac{\hat r_l - \hat r_w}{\beta} \right) \left( \nabla \log \pi(y_w) - \nabla \log
        \pi(y_l) \right) \right]
        # beta dropped inside sigma
    = -\beta\, \mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( s(y_w) - s(y_l) \right) \right], \quad s(y) = \sum_h \nabla \log \pi(a_h
        \mid s_h)
        # A response adds up the scores of its tokens; that of a token in the logits of its state is one-hot less pi.
      not @the_normalizer_forgotten_one_hot  # the normalizer forgotten: one-hot alone
      not -\beta\, \mathbb{E}\left[ \sigma(\hat r_l - \hat r_w) \left( \frac{s(y_w)}{|y_w|} - \frac{s(y_l)}{|y_l|} \right) \right]
        # the mean over tokens for their sum
    so \sigma(\hat r_l - \hat r_w)
        # Its factors: beta is the step per nat, the bracket raises the winner and lowers the loser; the weight, for winner y and loser y',
        is left.
    = \frac{e^{\hat r_l}}{e^{\hat r_w} + e^{\hat r_l}}
        # It is the probability that the policy's own Bradley-Terry law gives to the wrong order: 1/2 at pi_ref, near 1 where the pair is
        misordered.
      not \frac{e^{\hat r_w}}{e^{\hat r_w} + e^{\hat r_l}}  # the probability of the right order
      not \frac{1}{2}  # 1/2 at every policy
    <= e^{-(\hat r_w - \hat r_l)}
        # Leave e^rhat_l out of the denominator: once the pair is ordered well, the weight dies exponentially in the margin.
      not e^{-2 (\hat r_w - \hat r_l)}  # it dies twice as fast
      not \frac{1}{2}  # never more than 1/2
    """,
)
