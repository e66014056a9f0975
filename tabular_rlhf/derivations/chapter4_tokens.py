r"""Chapter 4 as derivations, token by token: the soft Bellman recursion, the KL along the tree, and rewards that are only moved along it.

p*(s) is the mass of p* through the state s, and p*(s + a) its mass through the token a there; V is beta log of a conditional mean of
e^{r/beta}, which is what makes the optimum over responses and the soft policy over tokens one thing.
"""

from __future__ import annotations

import numpy as np

from tabular_rlhf.derivations.chapter4 import mild
from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.sizes import reward_units

# ---------------------------------------------------------------------------------------------------- soft-bellman


derivation(
    slug="soft-bellman",
    title="From the optimum over responses to a soft policy over tokens",
    chapter=4,
    rows=("soft-bellman", "policies-are-distributions"),
    source="Ziebart (2010); Levine (2018), arXiv:1805.00909.",
    where=mild,
    scale=lambda r, beta, log_p_star, log_p_ref: 4 * reward_units(r, beta, log_p_star, log_p_ref) / min(1.0, beta),
    text=r"""
    \pi^*(a \mid s) = \frac{p^*(s + a)}{p^*(s)}
        # The policy of the optimum: of the mass of p* that comes to s, the share that goes on with a (p_ref is nowhere 0).
    = \frac{\sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{r(\tau)/\beta} / Z}{\sum_{\tau \ni s} p_{ref}(\tau)\, e^{r(\tau)/\beta} / Z}
        # Each mass is a sum of p* over the responses through that place.
      slip sum_{tau ni s} p_ref(tau)*exp(r(tau)/beta)/Z dropped
      not (sum_{tau ni s + a} p_ref(tau)*exp(r(tau)*beta)/Z)/(sum_{tau ni s} p_ref(tau)*exp(r(tau)*beta)/Z)
        # beta for 1/beta in the exponent
      not (sum_{tau ni s + a} exp(r(tau)/beta))/(sum_{tau ni s} exp(r(tau)/beta))  # p_ref omitted
    = \frac{\sum_{\tau \ni s + a} p_{ref}(\tau)\, e^{r(\tau)/\beta}}{\sum_{\tau \ni s} p_{ref}(\tau)\, e^{r(\tau)/\beta}}
        # Z(x) is the same above and below.
      not (sum_{tau ni s + a} p_ref(tau)*exp(r(tau)/beta + log(Z)))/(sum_{tau ni s} p_ref(tau)*exp(r(tau)/beta))  # Z cancelled above only
    = \frac{d_{ref}(s)\, \pi_{ref}(a \mid s)\; \mathbb{E}_{ref}[e^{r/\beta} \mid s + a]}{d_{ref}(s)\; \mathbb{E}_{ref}[e^{r/\beta} \mid s]}
        # A sum over the responses through a place is the probability of coming there times the mean given that one is there.
      slip pi_ref(a | s) dropped
      not pi_ref(a | s)*exp((E_{p_ref}[r | s + a] - E_{p_ref}[r | s])/beta)  # the mean of r put into the exponent (Jensen)
    = \pi_{ref}(a \mid s)\, e^{(V(s + a) - V(s))/\beta}, \quad V(s) = \beta \log \mathbb{E}_{ref}[e^{r/\beta} \mid s]
        # d_ref(s) cancels; call beta log of the mean V(s). At the end of a response the mean is of one number: V(tau) = r(tau).
      slip the term V(s) dropped; beta dropped; sign of the exponent flipped
    so V(s) = \beta \log \mathbb{E}_{ref}[e^{r/\beta} \mid s]
        # How is V computed without a sum over all responses? Start from its definition.
    = \beta \log \sum_a \pi_{ref}(a \mid s)\; \mathbb{E}_{ref}[e^{r/\beta} \mid s + a]  # Condition on the next token.
      slip the mean of a product split
      not beta*sum_{a} pi_ref(a | s)*log(E_{p_ref}[exp(r/beta) | s + a])  # the log inside the mean
    = \beta \log \sum_a \pi_{ref}(a \mid s)\, e^{Q(s, a)/\beta}, \quad Q(s, a) = V(s + a), \quad V(\tau) = r(\tau)
        # By the definition of V at s + a that mean is e^{V(s + a)/beta}: a recursion from the ends of responses to the root.
      not max_a(Q(s, a))  # the best token instead of the soft maximum
      not beta*sum_{a} pi_ref(a | s)*(Q(s, a)/beta)  # the mean instead of the soft maximum
      not log(sum_{a} pi_ref(a | s)*exp(Q(s, a)))  # beta dropped
    so \prod_h \pi^*(a_h \mid s_h) = \prod_h \pi_{ref}(a_h \mid s_h)\, e^{(V(s_{h+1}) - V(s_h))/\beta}
        # And back: say a response token by token with this policy.
    = p_{ref}(\tau)\, e^{(r(\tau) - V(x))/\beta}
        # The exponents telescope: the last value is r(tau), the first V(x), and those between cancel.
      slip the term V(x) dropped
      not p_ref(tau)*exp((r(tau) - lengths(tau)*V(x))/beta)  # the first state's value subtracted at every token
    = p^*(\tau)  # V(x) = beta log Z(x), since the mean given the root is the mean: the two optima are one law.
      slip p_ref for p_star
      not 1[r(tau) = max(r)]  # the greedy response
    """,
)

# ---------------------------------------------------------------------------------------------------- kl-chain-rule

derivation(
    slug="kl-chain-rule",
    title="The KL of responses is the KL of tokens at the states one visits",
    chapter=4,
    rows=("kl-chain-rule", "chain-rule", "occupancy"),
    source="Cover and Thomas (2006), theorem 2.5.3.",
    scale=lambda log_p, log_p_ref: reward_units(0.0, 1.0, log_p, log_p_ref),
    text=r"""
    \mathrm{KL}(p_\pi, p_{ref})  # Over responses, for each prompt; pi is 0 where pi_ref is.
    = \sum_\tau p_\pi(\tau) \log\frac{p_\pi(\tau)}{p_{ref}(\tau)}  # Its definition; a response that pi never makes counts 0.
      slip p_ref for p
      not (sum_tau p(tau)*log(p(tau)/p_ref(tau)))/log(2)  # log base 2
    = \sum_\tau p_\pi(\tau) \sum_h \log\frac{\pi(a_h \mid s_h)}{\pi_{ref}(a_h \mid s_h)}
        # Both probabilities are products over tokens; the log of a quotient of products is a sum of log-quotients.
      not sum_tau p(tau)*(sum_h log(pi(a_h | s_h)/pi_ref(a_h | s_h)))/lengths(tau)  # the mean over tokens for their sum
      not sum_a pi(a | s_0)*log(pi(a | s_0)/pi_ref(a | s_0))  # the first token alone
    = \sum_s \sum_a \Big( \sum_{\tau \ni s + a} p_\pi(\tau) \Big) \log\frac{\pi(a \mid s)}{\pi_{ref}(a \mid s)}
        # Exchange the sums: the log-quotient of a token is the same for every response through it.
      slip p_ref for p
      not sum_s sum_a log(pi(a | s)/pi_ref(a | s))  # every token once, however many responses pass
    = \sum_s \sum_a d_\pi(s)\, \pi(a \mid s) \log\frac{\pi(a \mid s)}{\pi_{ref}(a \mid s)}
        # The mass through a token: to come to s, and then to choose a.
      slip d_ref for d_pi
      not sum_s sum_a d_pi(s)*log(pi(a | s)/pi_ref(a | s))  # pi(a given s) forgotten
    = \sum_s d_\pi(s)\, \mathrm{KL}(\pi(\cdot \mid s), \pi_{ref}(\cdot \mid s))
        # d_pi(s) does not depend on a: the inner sum is a KL of next tokens. The visits are pi's own, and move when pi moves.
      slip d_pi(s) dropped; arguments of KL swapped
      not (sum_s d_pi(s)*KL(s))/(sum_s d_pi(s))  # the mean over visited states
    """,
)

# ---------------------------------------------------------------------------------------------------- potential-shaping


derivation(
    slug="potential-shaping",
    title="Shaping by a potential moves the value and not the optimum",
    chapter=4,
    rows=("potential-shaping",),
    source="Ng, Harada and Russell (1999), Policy invariance under reward transformations.",
    where=lambda r, phi, beta, log_p_ref: bool((np.max(np.abs(r)) + np.max(np.abs(phi))) / beta < 80 and np.max(log_p_ref) > -300),
    scale=lambda r, phi, beta, log_p_star, log_p_ref, H: (
        (4 + H / beta) * (reward_units(r, beta, log_p_star, log_p_ref) + H * np.max(np.abs(phi)))
    ),
    text=r"""
    let r' = r + sum_h (Phi(s_{h+1}) - Phi(s_h))
    r'(\tau) = r(\tau) + \sum_h \Phi(s_{h+1}) - \Phi(s_h)
        # Pay for progress: a number Phi(s) for every state, 0 at the end, and its gain added to the reward at every token.
    = r(\tau) - \Phi(x)  # The sum telescopes: the end gives 0, the root -Phi(x), and those between cancel.
      slip sign of Phi(x) flipped; the term Phi(x) dropped
      not r(tau) - Phi(x) + sum_h 1[h = H - 1]*Phi(s_h)  # Phi of the last state kept at the end
    so V'(x) = \beta \log \sum_\tau p_{ref}(\tau)\, e^{r'(\tau)/\beta}  # The value with the shaped reward.
    = \beta \log \Big( e^{-\Phi(x)/\beta} \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta} \Big)
        # The same factor stands in every term of the sum.
      slip sign of the exponent flipped
      not beta*log(exp(-Phi(x))*sum_{tau} p_ref(tau)*exp(r(tau)/beta))  # beta lost in the factor
    = V(x) - \Phi(x)  # The log of a product; beta times -Phi/beta is -Phi.
      slip the term Phi(x) dropped
      not V(x) - beta*Phi(x)  # beta Phi for Phi
    so p_{ref}(\tau)\, e^{(r'(\tau) - V'(x))/\beta}  # The optimum with the shaped reward.
    = p_{ref}(\tau)\, e^{(r(\tau) - \Phi(x) - V(x) + \Phi(x))/\beta}  # Lines 2 and 5: the reward and the value moved by the same number.
      slip the term Phi(x) dropped
      not p_ref(tau)*exp((r(tau) - Phi(x) - V(x) + 2*Phi(x))/beta)  # the reward not moved
    = p^*(\tau)  # Phi cancels: which response is best did not change, only where on the way it is paid for.
      slip p_ref for p_star
      not p_star(tau)*exp(-Phi(x)/beta)  # not normalized: e^{-Phi/beta} left
    """,
)
