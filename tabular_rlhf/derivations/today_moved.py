r"""Chapter 10 as derivations: truncated ratios, clips under random rewards, trajectory balance, and what sharpens."""

from __future__ import annotations

from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.terms.conditions import decided, full, off_the_edges
from tabular_rlhf.terms.letters import OLD, RATIO
from tabular_rlhf.terms.sizes import moved_size

add(
    Derivation(
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
        lines=(
            Line(
                r"\mathbb{E}_{p_{old}}[\min(\rho, C)\, r\, \mathrm{score}], \quad \rho = \frac{p}{p_{old}}",
                "Responses of the old policy, weighted by their ratio up to C.",
            ),
            Line(
                r"\mathbb{E}_{p_{old}}[1[\rho \le C]\, \rho\, r\, \mathrm{score}] + C\, \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, "
                r"\mathrm{score}]",
                "Below C and above it.",
                wrong={
                    "truncating is masking": r"\mathbb{E}_{p_{old}}[1[\rho \le C]\, \rho\, r\, \mathrm{score}]",
                    "1 for C": (
                        r"\mathbb{E}_{p_{old}}[1[\rho \le C]\, \rho\, r\, \mathrm{score}] + \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, "
                        r"\mathrm{score}]"
                    ),
                },
            ),
            Line(
                r"\mathbb{E}_{p_{old}}[1[\rho \le C]\, r\, \nabla \rho] + C\, \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, \nabla \log\rho]",
                "The score is the slope of log p, and of log of the ratio, for the old policy stands still.",
                wrong={
                    "the slope of the ratio above C, too": (
                        r"\mathbb{E}_{p_{old}}[1[\rho \le C]\, r\, \nabla \rho] + C\, \mathbb{E}_{p_{old}}[1[\rho > C]\, r\, \nabla \rho]"
                    ),
                },
            ),
            Line(
                r"\nabla\, \mathbb{E}_{p_{old}}[r\, (\min(\rho, C) + C \max(0, \log\frac{\rho}{C}))]",
                "Both are slopes of one function, which goes on as a logarithm where it is truncated.",
                wrong={
                    "unbiased": r"\nabla\, \mathbb{E}_p[r]",
                    "the truncated surrogate's own": r"\nabla\, \mathbb{E}_{p_{old}}[r \min(\rho, C)]",
                },
            ),
            Line(
                r"\mathbb{E}_{p_{old}}[\min(\rho, C)\, \mathrm{score}]",
                "So what a baseline adds is this, for a reward that is 1 everywhere.",
                relation="so",
            ),
            Line(
                r"\nabla\, \mathbb{E}_{p_{old}}[\min(\rho, C) + C \max(0, \log\frac{\rho}{C})]",
                "By the lines above.",
                wrong={"a baseline is free": r"0 \nabla\, \mathbb{E}_p[r]"},
            ),
            Line(
                r"\nabla\, \mathbb{E}_{p_{old}}[C \max(0, \log\frac{\rho}{C}) - \max(0, \rho - C)]",
                "The ratio without truncation has mean 1 whatever the policy is, so its slope may be taken away.",
                wrong={
                    "sign flipped": r"\nabla\, \mathbb{E}_{p_{old}}[\max(0, \rho - C) - C \max(0, \log\frac{\rho}{C})]",
                    "the mass above C": r"\nabla\, \mathbb{E}_{p_{old}}[1[\rho > C]\, (C - \rho)]",
                },
            ),
        ),
    )
)

MEAN = r"\mathbb{E}_{x \sim \mu, y \sim p_{old}}"
R, K = r"\rho(s_h, a_h)", r"k(s_h, a_h)"
BOTH = rf"\frac{{\min({R}, {K}) + \min(-{R}, -{K})}}{{2}}"

add(
    Derivation(
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
        lines=(
            Line(
                rf"{MEAN}[\sum_h {BOTH}], \quad {RATIO}",
                "PPO-clip's surrogate where every reward is +1 or -1 by a coin, averaged over the coin.",
            ),
            Line(
                rf"{MEAN}[\sum_h \frac{{\min({R}, {K}) - \max({R}, {K})}}{{2}}]",
                "The smaller of two negated numbers is minus the larger of the two.",
                wrong={
                    "the coins cancel": rf"{MEAN}[\sum_h \frac{{\min({R}, {K}) - \min({R}, {K})}}{{2}}]",
                    "added": rf"{MEAN}[\sum_h \frac{{\min({R}, {K}) + \max({R}, {K})}}{{2}}]",
                },
            ),
            Line(
                rf"-\frac{{1}}{{2}} {MEAN}[\sum_h |{R} - {K}|]",
                "The smaller less the larger is minus their distance.",
                wrong={
                    "sign flipped: likely tokens are amplified": rf"\frac{{1}}{{2}} {MEAN}[\sum_h |{R} - {K}|]",
                    "1/2 forgotten": rf"-{MEAN}[\sum_h |{R} - {K}|]",
                },
            ),
            Line(
                rf"-\frac{{1}}{{2}} {MEAN}[\sum_h (\max(0, {R} - 1 - c) + \max(0, 1 - c - {R}))]",
                "What a clip takes away, above and below; nothing within the range, so nothing at the old policy.",
                wrong={
                    "above only": rf"-\frac{{1}}{{2}} {MEAN}[\sum_h \max(0, {R} - 1 - c)]",
                    "the distance to 1": rf"-\frac{{1}}{{2}} {MEAN}[\sum_h |{R} - 1|]",
                },
            ),
            Line(rf"\nabla\, {MEAN}[\sum_h {BOTH}]", "So the update:", relation="so"),
            Line(
                rf"-\frac{{1}}{{2}} {MEAN}[\sum_h (1[{R} > 1 + c] - 1[{R} < 1 - c])\, \nabla {R}]",
                "Tokens that have become too likely are pushed down, those that have become too unlikely are pushed up.",
                wrong={
                    "both pushed down": rf"-\frac{{1}}{{2}} {MEAN}[\sum_h (1[{R} > 1 + c] + 1[{R} < 1 - c])\, \nabla {R}]",
                    "what lies within is moved": rf"-\frac{{1}}{{2}} {MEAN}[\sum_h (1[{R} < 1 + c] - 1[{R} < 1 - c])\, \nabla {R}]",
                },
            ),
        ),
    )
)

IMBALANCE = r"\log\frac{p}{p_{ref}} - \frac{r}{\beta}"

add(
    Derivation(
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
        letters={"c": "eta", "q": "p_2"},
        lines=(
            Line(
                rf"\mathbb{{E}}_p[2 (c + {IMBALANCE})\, \mathrm{{score}}]",
                "The gradient of the squared imbalance of responses of the policy's own, which are held; c stands for log Z.",
            ),
            Line(
                rf"2 c\, \mathbb{{E}}_p[\mathrm{{score}}] + 2\, \mathbb{{E}}_p[({IMBALANCE})\, \mathrm{{score}}]",
                "A mean is linear.",
                wrong={"2 forgotten": rf"c\, \mathbb{{E}}_p[\mathrm{{score}}] + \mathbb{{E}}_p[({IMBALANCE})\, \mathrm{{score}}]"},
            ),
            Line(
                rf"2\, \mathbb{{E}}_p[({IMBALANCE})\, \mathrm{{score}}]",
                "The mean score is 0: on policy a wrong log Z is a baseline.",
                wrong={
                    "the reward forgotten": r"2\, \mathbb{E}_p[\log\frac{p}{p_{ref}}\, \mathrm{score}]",
                    "scores of the reference's responses": rf"2\, \mathbb{{E}}_{{p_{{ref}}}}[({IMBALANCE})\, \mathrm{{score}}]",
                },
            ),
            Line(
                r"-\frac{2}{\beta}\, \nabla J_x",
                "The gradient of the objective with a KL weight; the slope of the log-ratio itself has mean 0.",
                wrong={
                    "1/beta dropped": r"-2\, \nabla J_x",
                    "sign flipped": r"\frac{2}{\beta}\, \nabla J_x",
                    "the penalty forgotten": r"-\frac{2}{\beta}\, \nabla\, \mathbb{E}_p[r]",
                },
            ),
            Line(
                rf"\mathbb{{E}}_q[2 (c + {IMBALANCE})\, \mathrm{{score}}]",
                "Now responses of another law q, whatever the policy is.",
                relation="so",
            ),
            Line(
                r"\mathbb{E}_q[2 (c - \log Z + \log\frac{p}{p^*})\, \mathrm{score}]",
                "By the Gibbs law, p_ref with its tilt is Z times the optimum.",
                wrong={
                    "log Z omitted": r"\mathbb{E}_q[2 (c + \log\frac{p}{p^*})\, \mathrm{score}]",
                    "p_ref kept": r"\mathbb{E}_q[2 (c - \log Z + \log\frac{p}{p_{ref}})\, \mathrm{score}]",
                },
            ),
            Line(
                r"\nabla\, \mathbb{E}_q[(c - \log Z + \log\frac{p}{p^*})^2]",
                "q does not move with the policy, so this is the gradient of a mean.",
                wrong={"the gradient of a mean under p": r"\nabla\, \mathbb{E}_p[(c - \log Z + \log\frac{p}{p^*})^2]"},
            ),
            Line(
                r"\nabla\, \mathbb{E}_q[(\log\frac{p}{p^*})^2] + 2 (c - \log Z)\, \nabla\, \mathbb{E}_q[\log p]",
                "The square multiplied out.  The first vanishes at the optimum; the second pulls to q unless c is log Z.",
                wrong={
                    "any constant does": r"\nabla\, \mathbb{E}_q[(\log\frac{p}{p^*})^2]",
                    "sign flipped": r"\nabla\, \mathbb{E}_q[(\log\frac{p}{p^*})^2] - 2 (c - \log Z)\, \nabla\, \mathbb{E}_q[\log p]",
                },
            ),
        ),
    )
)

PAIRED = r"r(y)\, r(y')"

add(
    Derivation(
        slug="sharpening",
        title="What the Gibbs law keeps and the gradient flow does not",
        chapter=10,
        rows=("sharpening",),
        source="Yue et al. (2025), arXiv:2504.13837.",
        where=lambda p_ref, success, beta, p: decided(p_ref, success) and beta > 0.02 and float(p.min()) > 1e-4,
        largest=30,
        most=24,
        scale=lambda beta, p: (1.0 + 1.0 / beta) * 8.0 / p.min() ** 2,
        letters={"r": "success", "q": "p_ref*exp(success/beta)/E_p_ref[exp(success/beta)]"},
        lines=(
            Line(r"\mathbb{E}_q[r]", "The success rate of the Gibbs law q, the optimum for a 0/1 reward."),
            Line(
                r"\frac{\mathbb{E}_{p_{ref}}[r\, e^{r/\beta}]}{\mathbb{E}_{p_{ref}}[e^{r/\beta}]}",
                "The reference, tilted and normalized.",
                wrong={"Z omitted": r"\mathbb{E}_{p_{ref}}[r\, e^{r/\beta}]"},
            ),
            Line(
                r"\frac{u\, e^{1/\beta}}{u\, e^{1/\beta} + 1 - u}, \quad u = \mathbb{E}_{p_{ref}}[r]",
                "The reward is 0 or 1.",
                wrong={
                    "the failures forgotten": r"\frac{u\, e^{1/\beta}}{u\, e^{1/\beta} + 1}",
                    "beta for 1/beta": r"\frac{u\, e^{\beta}}{u\, e^{\beta} + 1 - u}",
                },
            ),
            Line(
                r"\sigma(\log\frac{u}{1 - u} + \frac{1}{\beta})",
                "Its log-odds are those of the reference, moved by 1/beta: never below, so no try of k is lost; and right responses keep "
                "their odds, for all are multiplied alike.",
                wrong={"log u for its log-odds": r"\sigma(\log u + \frac{1}{\beta})", "1/beta dropped": r"\sigma(\log\frac{u}{1 - u})"},
            ),
            Line(
                r"\frac{d}{dz} \left(" + PAIRED + r" \left(\frac{1}{w(y)} - \frac{1}{w(y')}\right)\right), \quad "
                r"w(y) = \frac{p(y) e^{z v(y)}}{\mathbb{E}_p[e^{z v}]}, \quad v(y) = p(y) (r(y) - \mathbb{E}_p[r]), \quad z = 0",
                "Now the plain gradient flow on the logits of responses, from any policy: v is the velocity, w the law after a time z; two "
                "right responses are compared.",
                relation="so",
            ),
            Line(
                "-" + PAIRED + r" \left(\frac{v(y) - b}{p(y)} - \frac{v(y') - b}{p(y')}\right), \quad b = \mathbb{E}_p[v]",
                "A logarithm of a probability moves with its velocity, less the mean one.",
                wrong={
                    "the mean velocity forgotten": "-" + PAIRED + r" \left(\frac{v(y)}{p(y)} - \frac{v(y')}{p(y')}\right)",
                    "sign flipped": PAIRED + r" \left(\frac{v(y) - b}{p(y)} - \frac{v(y') - b}{p(y')}\right)",
                },
            ),
            Line(
                PAIRED + r"\, b \left(\frac{1}{p(y)} - \frac{1}{p(y')}\right)",
                "Right responses have the same velocity over p.  So the gap of 1/p grows without end, and with it the odds.",
                wrong={
                    "odds are kept": r"0 " + PAIRED,
                    "the gap shrinks": "-" + PAIRED + r"\, b \left(\frac{1}{p(y)} - \frac{1}{p(y')}\right)",
                },
            ),
        ),
    )
)
