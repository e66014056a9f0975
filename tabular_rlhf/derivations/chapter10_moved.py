r"""Chapter 10 as derivations: truncated ratios, clips under random rewards, trajectory balance, and what sharpens."""

from __future__ import annotations

from string import Template

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.conditions import decided, full, off_the_edges
from tabular_rlhf.terms.letters import OLD, RATIO
from tabular_rlhf.terms.sizes import moved_size

derivation(
    slug="truncated-ratio",
    title="What a truncated ratio ascends",
    chapter=10,
    rows=("truncated-ratio",),
    source="Ionides (2008); by integrating the slope.",
    where=full,
    largest=30,
    most=24,
    scale=lambda r, H, log_p, log_p_2: 4.0 * moved_size(r, H, log_p, log_p_2),
    letters={**OLD, "C": "cap"},
    text=r"""
    \mathbb{E}_{p_{old}}[\min(\rho, C)\, r\, \mathrm{score}], \quad \rho = \frac{p}{p_{old}}
        # Responses of the old policy, weighted by their ratio up to C.
    = \mathbb{E}_{p_{old}}[1[\rho \le C]\, \rho\, r\, \mathrm{score}] + C\, \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, \mathrm{score}]
        # Below C and above it.
      not \mathbb{E}_{p_{old}}[1[\rho \le C]\, \rho\, r\, \mathrm{score}]  # truncating is masking
      not \mathbb{E}_{p_{old}}[1[\rho \le C]\, \rho\, r\, \mathrm{score}] + \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, \mathrm{score}]
        # 1 for C
    = \mathbb{E}_{p_{old}}[1[\rho \le C]\, r\, \nabla \rho] + C\, \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, \nabla \log\rho]
        # The score is the slope of log p, and of log of the ratio, for the old policy stands still.
      not \mathbb{E}_{p_{old}}[1[\rho \le C]\, r\, \nabla \rho] + C\, \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, \nabla \rho]
        # the slope of the ratio above C, too
    = \nabla\, \mathbb{E}_{p_{old}}[r\, (\min(\rho, C) + C \max(0, \log\frac{\rho}{C}))]
        # Both are slopes of one function, which goes on as a logarithm where it is truncated.
      not \nabla\, \mathbb{E}_p[r]  # unbiased
      not \nabla\, \mathbb{E}_{p_{old}}[r \min(\rho, C)]  # the truncated surrogate's own
    so \mathbb{E}_{p_{old}}[\min(\rho, C)\, \mathrm{score}]  # So what a baseline adds is this, for a reward that is 1 everywhere.
    = \nabla\, \mathbb{E}_{p_{old}}[\min(\rho, C) + C \max(0, \log\frac{\rho}{C})]  # By the lines above.
      not 0 \nabla\, \mathbb{E}_p[r]  # a baseline is free
    = \nabla\, \mathbb{E}_{p_{old}}[C \max(0, \log\frac{\rho}{C}) - \max(0, \rho - C)]
        # The ratio without truncation has mean 1 whatever the policy is, so its slope may be taken away.
      not \nabla\, \mathbb{E}_{p_{old}}[\max(0, \rho - C) - C \max(0, \log\frac{\rho}{C})]  # sign flipped
      not \nabla\, \mathbb{E}_{p_{old}}[1[\rho > C]\, (C - \rho)]  # the mass above C
    """,
)

MEAN = r"\mathbb{E}_{x \sim \mu, y \sim p_{old}}"
R, K = r"\rho(s_h, a_h)", r"k(s_h, a_h)"
BOTH = rf"\frac{{\min({R}, {K}) + \min(-{R}, -{K})}}{{2}}"

derivation(
    slug="random-rewards-clip",
    title="A clip under random rewards pulls back",
    chapter=10,
    rows=("random-rewards-clip",),
    source="of random rewards that seem to help: arXiv:2506.10947, 2512.16912.",
    where=off_the_edges,
    largest=30,
    most=24,
    scale=lambda r, H, log_p, log_p_2: moved_size(0.0 * r, H, log_p, log_p_2) * 8.0,
    letters={**OLD, "c": "clip"},
    text=Template(r"""
    ${MEAN}[\sum_h ${BOTH}], \quad ${RATIO}  # PPO-clip's surrogate where every reward is +1 or -1 by a coin, averaged over the coin.
    = ${MEAN}[\sum_h \frac{\min(${R}, ${K}) - \max(${R}, ${K})}{2}]  # The smaller of two negated numbers is minus the larger of the two.
      not ${MEAN}[\sum_h \frac{\min(${R}, ${K}) - \min(${R}, ${K})}{2}]  # the coins cancel
      not ${MEAN}[\sum_h \frac{\min(${R}, ${K}) + \max(${R}, ${K})}{2}]  # added
    = -\frac{1}{2} ${MEAN}[\sum_h |${R} - ${K}|]  # The smaller less the larger is minus their distance.
      not \frac{1}{2} ${MEAN}[\sum_h |${R} - ${K}|]  # sign flipped: likely tokens are amplified
      not -${MEAN}[\sum_h |${R} - ${K}|]  # 1/2 forgotten
    = -\frac{1}{2} ${MEAN}[\sum_h (\max(0, ${R} - 1 - c) + \max(0, 1 - c - ${R}))]
        # What a clip takes away, above and below; nothing within the range, so nothing at the old policy.
      not -\frac{1}{2} ${MEAN}[\sum_h \max(0, ${R} - 1 - c)]  # above only
      not -\frac{1}{2} ${MEAN}[\sum_h |${R} - 1|]  # the distance to 1
    so \nabla\, ${MEAN}[\sum_h ${BOTH}]  # So the update:
    = -\frac{1}{2} ${MEAN}[\sum_h (1[${R} > 1 + c] - 1[${R} < 1 - c])\, \nabla ${R}]
        # Tokens that have become too likely are pushed down, those that have become too unlikely are pushed up.
      not -\frac{1}{2} ${MEAN}[\sum_h (1[${R} > 1 + c] + 1[${R} < 1 - c])\, \nabla ${R}]  # both pushed down
      not -\frac{1}{2} ${MEAN}[\sum_h (1[${R} < 1 + c] - 1[${R} < 1 - c])\, \nabla ${R}]  # what lies within is moved
    """).substitute(BOTH=BOTH, K=K, MEAN=MEAN, R=R, RATIO=RATIO),
)

IMBALANCE = r"\log\frac{p}{p_{ref}} - \frac{r}{\beta}"

derivation(
    slug="trajectory-balance",
    title="Which log Z trajectory balance needs",
    chapter=10,
    rows=("trajectory-balance",),
    source="Bartoldson et al. (2025), arXiv:2503.18929.",
    where=lambda log_p_ref, r, beta: full(log_p_ref) and float(abs(r).max()) / beta < 100.0,
    largest=30,
    most=24,
    scale=lambda r, beta, H, log_p, log_p_ref, log_p_star: (
        8.0 * H * (2.0 + abs(r).max() / beta + abs(log_p).max() + abs(log_p_ref).max() + abs(log_p_star).max()) ** 2
    ),
    text=Template(r"""
    let c = eta; q = p_2
    \mathbb{E}_p[2 (c + ${IMBALANCE})\, \mathrm{score}]
        # The gradient of the squared imbalance of responses of the policy's own, which are held; c stands for log Z.
    = 2 c\, \mathbb{E}_p[\mathrm{score}] + 2\, \mathbb{E}_p[(${IMBALANCE})\, \mathrm{score}]  # A mean is linear.
      not c\, \mathbb{E}_p[\mathrm{score}] + \mathbb{E}_p[(${IMBALANCE})\, \mathrm{score}]  # 2 forgotten
    = 2\, \mathbb{E}_p[(${IMBALANCE})\, \mathrm{score}]  # The mean score is 0: on policy a wrong log Z is a baseline.
      not 2\, \mathbb{E}_p[\log\frac{p}{p_{ref}}\, \mathrm{score}]  # the reward forgotten
      not 2\, \mathbb{E}_{p_{ref}}[(${IMBALANCE})\, \mathrm{score}]  # scores of the reference's responses
    = -\frac{2}{\beta}\, \nabla J_x  # The gradient of the objective with a KL weight; the slope of the log-ratio itself has mean 0.
      not -2\, \nabla J_x  # 1/beta dropped
      not \frac{2}{\beta}\, \nabla J_x  # sign flipped
      not -\frac{2}{\beta}\, \nabla\, \mathbb{E}_p[r]  # the penalty forgotten
    so \mathbb{E}_q[2 (c + ${IMBALANCE})\, \mathrm{score}]  # Now responses of another law q, whatever the policy is.
    = \mathbb{E}_q[2 (c - \log Z + \log\frac{p}{p^*})\, \mathrm{score}]  # By the Gibbs law, p_ref with its tilt is Z times the optimum.
      not \mathbb{E}_q[2 (c + \log\frac{p}{p^*})\, \mathrm{score}]  # log Z omitted
      not \mathbb{E}_q[2 (c - \log Z + \log\frac{p}{p_{ref}})\, \mathrm{score}]  # p_ref kept
    = \nabla\, \mathbb{E}_q[(c - \log Z + \log\frac{p}{p^*})^2]  # q does not move with the policy, so this is the gradient of a mean.
      not \nabla\, \mathbb{E}_p[(c - \log Z + \log\frac{p}{p^*})^2]  # the gradient of a mean under p
    = \nabla\, \mathbb{E}_q[(\log\frac{p}{p^*})^2] + 2 (c - \log Z)\, \nabla\, \mathbb{E}_q[\log p]
        # The square multiplied out.  The first vanishes at the optimum; the second pulls to q unless c is log Z.
      not \nabla\, \mathbb{E}_q[(\log\frac{p}{p^*})^2]  # any constant does
      not \nabla\, \mathbb{E}_q[(\log\frac{p}{p^*})^2] - 2 (c - \log Z)\, \nabla\, \mathbb{E}_q[\log p]  # sign flipped
    """).substitute(IMBALANCE=IMBALANCE),
)

PAIRED = r"r(y)\, r(y')"

derivation(
    slug="sharpening",
    title="What the Gibbs law keeps and the gradient flow does not",
    chapter=10,
    rows=("sharpening",),
    source="Yue et al. (2025), arXiv:2504.13837.",
    where=lambda p_ref, success, beta, p: decided(p_ref, success) and beta > 0.02 and float(p.min()) > 1e-4,
    largest=30,
    most=24,
    scale=lambda beta, p: (1.0 + 1.0 / beta) * 8.0 / p.min() ** 2,
    text=Template(r"""
    let r = success; q = p_ref*exp(success/beta)/E_p_ref[exp(success/beta)]
    \mathbb{E}_q[r]  # The success rate of the Gibbs law q, the optimum for a 0/1 reward.
    = \frac{\mathbb{E}_{p_{ref}}[r\, e^{r/\beta}]}{\mathbb{E}_{p_{ref}}[e^{r/\beta}]}  # The reference, tilted and normalized.
      not \mathbb{E}_{p_{ref}}[r\, e^{r/\beta}]  # Z omitted
    = \frac{u\, e^{1/\beta}}{u\, e^{1/\beta} + 1 - u}, \quad u = \mathbb{E}_{p_{ref}}[r]  # The reward is 0 or 1.
      not \frac{u\, e^{1/\beta}}{u\, e^{1/\beta} + 1}  # the failures forgotten
      not \frac{u\, e^{\beta}}{u\, e^{\beta} + 1 - u}  # beta for 1/beta
    = \sigma(\log\frac{u}{1 - u} + \frac{1}{\beta})
        # Its log-odds are those of the reference, moved by 1/beta: never below, so no try of k is lost; and right responses keep their
        odds, for all are multiplied alike.
      not \sigma(\log u + \frac{1}{\beta})  # log u for its log-odds
      not \sigma(\log\frac{u}{1 - u})  # 1/beta dropped
    so \frac{d}{dz} \left(${PAIRED} \left(\frac{1}{w(y)} - \frac{1}{w(y')}\right)\right), \quad w(y) = \frac{p(y) e^{z
        v(y)}}{\mathbb{E}_p[e^{z v}]}, \quad v(y) = p(y) (r(y) - \mathbb{E}_p[r]), \quad z = 0
        # Now the plain gradient flow on the logits of responses, from any policy: v is the velocity, w the law after a time z; two right
        responses are compared.
    = -${PAIRED} \left(\frac{v(y) - b}{p(y)} - \frac{v(y') - b}{p(y')}\right), \quad b = \mathbb{E}_p[v]
        # A logarithm of a probability moves with its velocity, less the mean one.
      not -${PAIRED} \left(\frac{v(y)}{p(y)} - \frac{v(y')}{p(y')}\right)  # the mean velocity forgotten
      not ${PAIRED} \left(\frac{v(y) - b}{p(y)} - \frac{v(y') - b}{p(y')}\right)  # sign flipped
    = ${PAIRED}\, b \left(\frac{1}{p(y)} - \frac{1}{p(y')}\right)
        # Right responses have the same velocity over p.  So the gap of 1/p grows without end, and with it the odds.
      not 0 ${PAIRED}  # odds are kept
      not -${PAIRED}\, b \left(\frac{1}{p(y)} - \frac{1}{p(y')}\right)  # the gap shrinks
    """).substitute(PAIRED=PAIRED),
)
