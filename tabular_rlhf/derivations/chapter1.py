r"""Chapters 1 and 2 as derivations: policies as distributions, the performance difference, and how errors compound.

Every argument here is one of two moves on the tree of prefixes.  A sum along a response *telescopes*: what is added at one state
is taken away at the next.  And a sum over responses of sums over their steps may be *exchanged* for a sum over states of the mass
that passes through them: that is how a mean over responses becomes a mean over visits.
"""

from __future__ import annotations

import numpy as np

from tabular_rlhf.derivations.record import derivation

# ---------------------------------------------------------------------------------------------------- policies-are-distributions


derivation(
    slug="policies-are-distributions",
    title="Any distribution over responses is a policy",
    chapter=1,
    rows=("policies-are-distributions", "chain-rule"),
    source="Chain rule of probability.",
    where=lambda log_p_star: bool(np.min(log_p_star) > -300),
    text=r"""
    let p = p_star
    \prod_h \pi(a_h \mid s_h), \quad \pi(a \mid s) = \frac{p(s + a)}{p(s)}
        # Take any distribution p that is nowhere 0 (here p*), write p(s) for its mass through s, and read off the policy pi.
    = \frac{\prod_h p(s_h + a_h)}{\prod_h p(s_h)}  # A product of quotients is the quotient of the products.
      slip prod_{h} p(s_{h}) dropped; (prod_{h} p(s_{h} + a_{h}))/(prod_{h} p(s_{h})) inverted
    = \frac{p(\tau)}{p(s_0)}
        # s_h + a_h is s_{h+1}: all masses but the last above and the first below cancel, and only tau passes through its own end.
      slip p(tau) dropped
      not p(tau)/N  # divided by the number of responses
    = p(\tau)  # All responses pass through the root, so p(s_0) = 1: saying tau token by token with pi has the probability that p gave it.
      not mu(x)*p(tau)  # the prompt's probability left in: mu(x) p(tau)
    """,
)

# ---------------------------------------------------------------------------------------------------- performance-difference


derivation(
    slug="performance-difference",
    title="The performance difference: advantages of the one policy under the visits of the other",
    chapter=1,
    rows=("performance-difference", "occupancy"),
    source="Kakade and Langford (2002), Approximately optimal approximate reinforcement learning, lemma 6.1.",
    scale=lambda H, r: (H + 1.0) * np.max(np.abs(r)),
    text=r"""
    let V' = E_{p_2}[r | s]; Q' = E_{p_2}[r | s, a]; J(q) = E_mu[E_q[r]]
    J(\pi) - J(\pi') = \mathbb{E}_\mu\!\left[ \mathbb{E}_{p_\pi}[r] - \mathbb{E}_{p_{\pi'}}[r] \right]
        # Two policies, one reward, no KL term; prompts come from mu.
    in expectation \mathbb{E}_\mu \mathbb{E}_{p_\pi}\!\left[ r(\tau) - V'(s_0) \right]
        # V'(s_0) is the mean reward of pi' from the root: a number for each prompt, so it may go inside the mean over tau.
      law log_p
      slip the term V'(s_0) dropped
      not r(tau) - V_pi(s_0)  # V of pi itself for V of pi'
    in expectation \mathbb{E}_\mu \mathbb{E}_{p_\pi}\!\left[ \sum_h V'(s_{h+1}) - V'(s_h) \right]
        # Telescope: at the end V'(tau) = r(tau), at the start V'(s_0), and every value in between is added once and taken away once.
      law log_p
      not -(sum_h (V'(s_{h+1}) - V'(s_h)))  # telescoped the wrong way
      not sum_h (V'(s_{h+1}) - V'(s_h)) - r(tau)  # the value of the end taken as 0
      not (sum_h (V'(s_{h+1}) - V'(s_h)))/lengths(tau)  # the mean over steps for their sum
    in expectation \mathbb{E}_\mu \mathbb{E}_{p_\pi}\!\left[ \sum_h A'(s_h, a_h) \right], \quad A' = Q' - V'
        # The next state is s + a for certain, and no reward comes before the end: Q'(s, a) = V'(s + a).
      law log_p
      not sum_h Q'(s_h, a_h)  # Q' without V'
      not sum_h A_pi(s_h, a_h)  # advantages of pi under itself, whose mean is 0
    = \mathbb{E}_\mu \sum_s \sum_a \Big( \sum_{\tau \ni s + a} p_\pi(\tau) \Big) A'(s, a)
        # Exchange the two sums: instead of the steps of each response, count the responses through each step.
      slip p_2 for p
      not E_mu[sum_s sum_a d_pi(s)*A'(s, a)]  # mass through the state, whatever the token
    = \mathbb{E}_\mu \sum_s d_\pi(s) \sum_a \pi(a \mid s)\, A'(s, a)
        # To go through s + a is to come to s and then to choose a: the visits and the tokens are those of pi, the advantage that of pi'.
      slip d_ref for d_pi; pi_2 for pi
      not E_mu[sum_s p_2(s)*(sum_a pi(a | s)*A'(s, a))]  # visits of pi' for those of pi
      not E_mu[(sum_s d_pi(s)*(sum_a pi(a | s)*A'(s, a)))/(sum_s d_pi(s))]  # visits normalized over states
    """,
)

# ---------------------------------------------------------------------------------------------------- compounding-error


derivation(
    slug="compounding-error",
    title="How imitation errors compound: order H squared under one's own visits, order H under the expert's",
    chapter=2,
    rows=("compounding-error",),
    source="Ross and Bagnell (2010), Efficient reductions for imitation learning, theorem 2.1.",
    where=lambda V, H: V >= 2 and V**H <= 2**14,
    scale=lambda H: float(H * (H + 1)),
    text=r"""
    let d_pi = d_learner; c = c_learner; C(q) = sum_s d_learner(s)*c_learner(s)
    C(\pi) = \sum_s d_\pi(s)\, c(s)
        # An expert's one path through the tree of V tokens and depth H (no EOS). The learner slips off it with probability epsilon at each
        step, and errs always once off: c(s) is its probability of an error, epsilon on the path and 1 off it.
    = \sum_{h=0}^{H-1} \sum_{s:\, \mathrm{depth}(s) = h} d_\pi(s)\, c(s)  # Sort the states by depth.
      not (sum_s d_pi(s)*c(s))/H  # the mean over depths for their sum
      not sum_s d_expert(s)*c(s)  # the expert's visits for one's own
    = \sum_{h=0}^{H-1} (1 - \varepsilon)^h\, \varepsilon + \left( 1 - (1 - \varepsilon)^h \right) \cdot 1
        # At depth h it is still on the path with probability (1 - epsilon)^h, that is, if it has not slipped in h steps.
      slip the term (1 - (1 - epsilon)^{h})*1 dropped
      not sum_{h=1}^{H} ((1 - epsilon)^{h}*epsilon + (1 - (1 - epsilon)^{h})*1)  # the slip counted a step early: (1 - epsilon)^(h+1)
    = \sum_{h=1}^{H} 1 - (1 - \varepsilon)^h
        # Of 1 - (1 - epsilon)^h + epsilon (1 - epsilon)^h the last two make -(1 - epsilon)^{h+1}; then count h from 1.
      slip the term 1 dropped
      not sum_{h=0}^{H - 1} (1 - (1 - epsilon)^{h})  # still counted from 0
    <= \sum_{h=1}^{H} h\, \varepsilon  # Bernoulli's inequality, (1 - epsilon)^h >= 1 - h epsilon: of h chances to slip, at most h are used.
      not H*epsilon  # one chance to slip, whatever h: the linear bound
      not sum_{h=1}^{H} epsilon^{h}  # epsilon to the power h
    = \varepsilon\, \frac{H (H + 1)}{2}  # The sum of 1 to H.
      slip sign of 1 flipped
      not epsilon*(H*H)  # H^2 for the sum
    so \sum_s d_{expert}(s)\, c(s)  # What a test on the expert's states would have shown.
    = \varepsilon H  # The expert visits one state of each depth, always on the path.
      not 0  # the expert is never wrong: 0
      not epsilon*H*(H + 1)/2  # H (H + 1)/2 here too
    so C(\pi) - \varepsilon H  # What that test did not show.
    = \sum_s \left( d_\pi(s) - d_{expert}(s) \right) c(s)
        # The cost of a state is the same in both sums: the whole gap is a mismatch of visits.
      not sum_s abs(d_pi(s) - d_expert(s))*c(s)  # the mismatch taken as a distance
      not 0  # no mismatch
    """,
)
