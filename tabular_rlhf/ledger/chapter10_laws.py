r"""Chapter 10, laws: what today's regressions, games and selections lead to, and what they do to the odds."""

from __future__ import annotations

from string import Template
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.record import Approximately, claim
from tabular_rlhf.logspace import expect, kl, log_softmax
from tabular_rlhf.optimize import minimize
from tabular_rlhf.terms.conditions import decided, few, full
from tabular_rlhf.terms.letters import pulled
from tabular_rlhf.terms.policies import each


def slope_of_J(world: Any, logits: Any) -> Any:
    """grad J_x for each prompt in the logits of all, by the gradient core."""
    mdp = world.mdp

    def total(t: Any) -> Any:
        log_p = mdp.path_sum(log_softmax(t))
        return np.sum(expect(log_p, world.r) - world.beta * kl(log_p, world.log_p_ref))

    return each(grad(total)(logits))


# ---------------------------------------------------------------------------------------------------- trajectory-balance

claim(
    slug="trajectory-balance",
    chapter=10,
    text=r"""
    \mathbb{E}_p[2 (c + \log\frac{p}{p_{ref}} - \frac{r}{\beta})\, \mathrm{score}] = -\frac{2}{\beta}\, \nabla J_x
      not E_p_ref[2*(c + log(p/p_ref) - r/beta)*score]  # off policy, too: responses of the reference
      not -2*nabla(J_x)  # 1/beta dropped
      not -1/beta*nabla(J_x)  # 2 forgotten
      not 2/beta*nabla(J_x)  # sign flipped
    g_b = -\frac{2}{\beta}\, \frac{G - 1}{G}\, \nabla J_x
        # on policy, the gradient of the squared imbalance is that of J whatever constant c stands for log Z; g_b has the group's mean for
        it
      not -2/beta*nabla(J_x)  # the group's mean is free
      not -2/beta*G/(G+1)*nabla(J_x)  # n for n - 1
    """,
    source="Bartoldson et al. (2025), arXiv:2503.18929; arXiv:2605.15417.",
    note="Off policy the minimizer is p* only with the exact, a learned or the batch's mean log Z: a wrong constant moves it.",
    parts=("a constant", "the group's mean"),
    letters={**pulled("b=balance_pull"), "c": "eta"},
    sides={
        "gradient of J": 1,
        "responses; all groups": 0,
        "gradient core": lambda world, logits, beta, G: (
            -2.0 / beta * slope_of_J(world, logits),
            -2.0 / beta * (G - 1) / G * slope_of_J(world, logits),
        ),
    },
    where=lambda P, N, G, log_p_ref: few(P, N, G) and full(log_p_ref),
    scale=lambda r, beta, H, log_p, log_p_ref: (
        H * (1.0 + 2.0 / beta) * (1.0 + np.max(np.abs(r))) + H * (np.max(np.abs(log_p)) + np.max(np.abs(log_p_ref)))
    ),
    largest=40,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- pmd-mean


def regressed(log_p_2: Any, r: Any, beta: float) -> Any:
    """The law that minimizes the regression, by descent in its logits; over the old law."""
    a = (r - expect(log_p_2, r)[:, None]) / beta
    found = minimize(lambda t: np.sum(np.exp(log_p_2) * np.square(log_softmax(t) - log_p_2 - a)), np.array(log_p_2)).x
    return np.exp(log_softmax(found) - log_p_2)


claim(
    slug="pmd-mean",
    chapter=10,
    text=r"""
    let p_old = p_2; rho = rho_pmd; lambda = lam_pmd
    \rho = e^{a - \lambda \rho}, \quad a = \frac{r - \mathbb{E}_{p_{old}}[r]}{\beta}
        # rho = p/p_old, for the p that minimizes E_old[(log(p/p_old) - a)^2], lambda such that E_old[rho] = 1: rho = W(lambda
        e^a)/lambda; not a Gibbs law, which takes beta log Z for the mean reward
      not exp(a)/E_p_old[exp(a)]  # Gibbs
      not exp(a)  # not normalized: the log-ratio is the advantage
      not exp(r - E_p_old[r])/E_p_old[exp(r - E_p_old[r])]  # beta dropped
      not 1 + a  # chi-squared alone
      not exp(0*a)  # no step
    """,
    source="Xu, Lu, Yu and Zhao (2026), arXiv:2602.05933.",
    sides={
        "Lambert's function": 0,
        "stationarity": 1,
        "the regression minimized": Approximately(regressed, error=1e-5),
    },
    where=lambda log_p_ref, r, beta, log_p_2: (
        full(log_p_ref) and 0 < float(np.min(np.ptp(r, axis=1))) and float(np.ptp(r)) / beta < 12.0 and float(np.min(log_p_2)) > -7.0
    ),
    scale=lambda rho_pmd, r, beta: float(np.max(rho_pmd)) * (1.0 + float(np.ptp(r)) / beta) * 16.0,
    largest=16,
    most=5,
)

# ---------------------------------------------------------------------------------------------------- online-ipo-is-nash

H_GAP = r"(\log\frac{p(y)}{p_{ref}(y)} - \log\frac{p(y')}{p_{ref}(y')} - \frac{M(y, y') - 1/2}{\zeta})"


def game_slope(world: Any, logits: Any, M: Any, p: Any, tau: float) -> Any:
    """-4/tau grad [P(pi beats p) - tau KL] with p frozen, by the gradient core."""
    mdp = world.mdp
    against = np.einsum("xij,xj->xi", M, p)

    def total(t: Any) -> Any:
        log_p = mdp.path_sum(log_softmax(t))
        return np.sum(expect(log_p, against) - tau * kl(log_p, world.log_p_ref))

    return each(-4.0 / tau * grad(total)(logits))


claim(
    slug="online-ipo-is-nash",
    chapter=10,
    text=Template(r"""
    let zeta = tau
    \mathbb{E}_{y \sim p, y' \sim p}[2 ${H_GAP} (\mathrm{score}(y) - \mathrm{score}(y'))] = -\frac{4}{\zeta} (\sum_y \nabla p(y) \sum_{y'}
        p(y') M(y, y') - \zeta\, \nabla\, \mathrm{KL}(p, p_{ref}))
        # the gradient of the IPO loss on pairs that the policy draws itself, held as draws: the regularized game against a frozen copy,
        with weight zeta of the divergence
      not -2/zeta*((sum_y nabla(p(y))*sum_{y'} p(y')*M(y,y')) - zeta*nabla(KL(p, p_ref)))  # 2 for 4
      not -1/zeta*((sum_y nabla(p(y))*sum_{y'} p(y')*M(y,y')) - zeta*nabla(KL(p, p_ref)))  # 1 for 4
      not -4/zeta*((sum_y nabla(p(y))*sum_{y'} p_ref(y')*M(y,y')) - zeta*nabla(KL(p, p_ref)))  # offline: opponents of p_ref
      not -4/zeta*(nabla(sum_y p(y)*sum_{y'} p(y')*M(y,y')) - zeta*nabla(KL(p, p_ref)))  # the copy is not frozen
      not -4/zeta*(sum_y nabla(p(y))*sum_{y'} p(y')*M(y,y'))  # the divergence forgotten
      not -4/zeta*((sum_y nabla(p(y))*sum_{y'} p(y')*M(y',y)) - zeta*nabla(KL(p, p_ref)))  # winner and loser swapped
    """).substitute(H_GAP=H_GAP),
    source="Calandriello et al. (2024), arXiv:2403.08635.",
    sides={
        "gradient of the game": 1,
        "pairs of responses": 0,
        "gradient core": game_slope,
    },
    where=full,
    scale=lambda H, tau, log_p, log_p_ref: H * (1.0 + 4.0 / tau + 4.0 * np.max(np.abs(log_p)) + 4.0 * np.max(np.abs(log_p_ref))),
    largest=30,
    most=12,
)

# ---------------------------------------------------------------------------------------------------- sharpening


def sharpened(p_ref: Any, success: Any, beta: float, tries: int) -> Any:
    """In plain numbers: the mass that is right after the tilt by 1/beta, its shares, and its pass@k."""
    right, wrong = np.sum(p_ref * success, axis=1), np.sum(p_ref * (1.0 - success), axis=1)
    fade = np.exp(-1.0 / beta)
    u = right / (right + wrong * fade)
    return u, p_ref * success / right[:, None], 1.0 - (wrong * fade / (right + wrong * fade)) ** tries


claim(
    slug="sharpening",
    chapter=10,
    text=r"""
    let r = success; q = p_ref*exp(success/beta)/E_p_ref[exp(success/beta)]; k = tries
    \mathbb{E}_q[r] = \sigma(\log\frac{u}{1 - u} + \frac{1}{\beta}), \quad u = \mathbb{E}_{p_{ref}}[r]
      not sigma(log(u/(1-u)))  # 1/beta dropped
      not sigma(log(u/(1-u)) + beta)  # beta for 1/beta
      not sigma(log(u) + 1/beta)  # u for its odds
    \frac{q\, r}{\mathbb{E}_q[r]} = \frac{p_{ref}\, r}{u}
      not p_ref^2*r/E_p_ref[p_ref*r]  # the likeliest right response takes all
    1 - (1 - \mathbb{E}_q[r])^k = 1 - (1 + e^{1/\beta} \frac{u}{1 - u})^{-k}
        # q the Gibbs optimum of a 0/1 reward r: never below the reference in pass@k, and the odds among right responses are kept
      not 1 - (1 - u)^k  # Gibbs loses pass@k
      not E_q[r]  # one try
    """,
    source="Yue et al. (2025), arXiv:2504.13837; Bayes.",
    note="The plain gradient flow on logits does not keep these odds: see the derivation, and `sharpening-flow` among the disputes.",
    parts=("success", "among right ones", "pass@k"),
    sides={
        "closed form": 1,
        "the tilted law": 0,
        "plain numbers": lambda p_ref, success, beta, tries: sharpened(p_ref, success, beta, tries),
    },
    where=lambda p_ref, success, beta: decided(p_ref, success) and beta > 0.02,
    scale=lambda beta: 1.0 + 1.0 / beta,
    largest=4000,
    most=30,
)

# ---------------------------------------------------------------------------------------------------- bon-is-gibbs-of-quantile


def mean_over_atom(log_p_ref: Any, r: Any, draws: int) -> Any:
    """n t^(n - 1), the Gibbs law of log t at beta = 1/(n - 1), averaged over t from F- to F: by Gauss's rule, exact for polynomials."""
    p = np.exp(log_p_ref)
    F = np.einsum("xj,xij->xi", p, r[:, None, :] <= r[:, :, None])
    low = np.einsum("xj,xij->xi", p, r[:, None, :] < r[:, :, None])
    nodes, weights = np.polynomial.legendre.leggauss(draws)
    t = low[..., None] + (F - low)[..., None] * (nodes + 1.0) / 2.0
    return np.sum(weights / 2.0 * draws * t ** (draws - 1), axis=-1)


claim(
    slug="bon-is-gibbs-of-quantile",
    chapter=10,
    text=r"""
    \frac{p_n}{p_{ref}} = \sum_{m=0}^{n-1} F^m F_-^{n-1-m}
        # at most n F^(n-1), and that as atoms vanish: then best-of-n is the Gibbs law of log F at beta = 1/(n - 1); with atoms it is that
        law averaged over the atom
      not n*F^(n-1)  # exact with ties: n F^(n-1)
      not (n+1)*F^n  # beta = 1/n
      not exp((n-1)*r)/E_p_ref[exp((n-1)*r)]  # of r, not of its quantile
      not n*F_-^(n-1)  # quantiles below for those up to
      not n*F^(n-1)/E_p_ref[n*F^(n-1)]  # normalized where the atom is lost
    """,
    source="Amini et al. (2024), arXiv:2407.06057; Beirami et al. (2024), arXiv:2401.01879.",
    sides={
        "quantiles": 1,
        "the law of the best of n": 0,
        "the Gibbs law of log F, averaged over the atom": mean_over_atom,
    },
    where=full,
    scale=lambda draws: float(draws),
    largest=300,
    most=30,
)

# ---------------------------------------------------------------------------------------------------- kl-in-grpo


def ascent_to(log_p_ref: Any, r: Any, beta: float, G: int) -> Any:
    """The law of largest E[r] - beta G/(G - 1) KL(p_ref, p), by ascent in logits."""
    q = np.exp(log_p_ref)

    def minus(t: Any) -> Any:
        log_p = log_softmax(t)
        return np.sum(-np.exp(log_p) * r - beta * G / (G - 1) * q * log_p)

    return np.exp(log_softmax(minimize(minus, np.array(log_p_ref)).x))


claim(
    slug="kl-in-grpo",
    chapter=10,
    text=r"""
    g_c - \beta\, \nabla\, \mathrm{KL}(p_{ref}, p) = \frac{G - 1}{G}\, \nabla (\mathbb{E}_p[r] - \beta \frac{G}{G - 1}\,
        \mathrm{KL}(p_{ref}, p))
      not (G-1)/G*nabla(E_p[r] - beta*KL(p_ref, p))  # the fixed point of beta
      not (G-1)/G*nabla(E_p[r] - beta*(G-1)/G*KL(p_ref, p))  # upside down
      not (G-1)/G*nabla(E_p[r] - beta*G/(G-1)*KL(p, p_ref))  # the reverse divergence
    q = \frac{b\, p_{ref}}{\mathbb{E}_q[r] + b - r}, \quad b = \beta \frac{G}{G - 1}
      not p_star  # the Gibbs law
    \mathbb{E}_p[\frac{1}{|y|}\, \mathrm{score}] = \nabla\, \mathbb{E}_p[\frac{1}{|y|}]
        # g_c: groups less their mean; k3 in the loss pushes along -grad KL(p_ref, p), so a step ends at q, as with beta G/(G - 1); and k1
        in the loss with a mean over tokens is a bonus on length alone
      not nabla(KL(p, p_ref))  # k1 in the loss pulls to the reference
    """,
    source="Shao et al. (2024), arXiv:2402.03300; by `rloo` and `kl-gradients`.",
    parts=("update", "fixed point", "k1, token mean"),
    letters={**pulled("c=centered_pull"), "q": "p_forward"},
    sides={
        "closed form": 1,
        "all groups; halving; responses": 0,
        "gradient core; ascent": Approximately(
            lambda world, logits, mdp, r, beta, G, log_p_ref, lengths: (
                (G - 1) / G * _reward_less_forward(world, logits, beta * G / (G - 1)),
                ascent_to(log_p_ref, r, beta, G),
                each(grad(lambda t: np.sum(expect(mdp.path_sum(log_softmax(t)), 1.0 / lengths + 0.0 * r)))(logits)),
            ),
            error=1e-6,
        ),
    },
    where=lambda P, N, G, log_p_ref, r, beta: few(P, N, G) and full(log_p_ref) and float(np.ptp(r)) / beta < 12.0,
    scale=lambda r, beta, H, log_p_ref: 64.0 * (1.0 + beta) * (1.0 + 1.0 / beta) * H * (1.0 + np.max(np.abs(r))),
    largest=20,
    most=8,
)


def _reward_less_forward(world: Any, logits: Any, beta: float) -> Any:
    mdp = world.mdp

    def total(t: Any) -> Any:
        log_p = mdp.path_sum(log_softmax(t))
        return np.sum(expect(log_p, world.r) - beta * kl(world.log_p_ref, log_p))

    return each(grad(total)(logits))
