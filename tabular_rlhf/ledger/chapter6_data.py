r"""Chapter 6, continued: what finite data determine, what descent conserves, and where the mass goes."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.autodiff import grad
from tabular_rlhf.ledger.record import Approximately, Miss, claim
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.losses.evaluate import gradient, logit_gradient, settings_at, slope_gradient
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.losses.problem import prompt_problem
from tabular_rlhf.preferences.chains import components, finite_data
from tabular_rlhf.symbols.pairs import best_and_worst, features
from tabular_rlhf.terms.comparisons import component_sums, drift, implicit_reward, log_p_rate, own_score
from tabular_rlhf.terms.sizes import size_of
from tabular_rlhf.terms.sources import RAFAILOV
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- finite data


def centered(world: World, table: Any) -> Array:
    """A table less its mean over each component: what is left of a reward known up to a shift per component."""
    label, out = components(world), np.zeros_like(world.r)
    for x, row in enumerate(label):
        for c in set(row[row >= 0].tolist()):
            out[x, row == c] = table[x, row == c] - np.mean(table[x, row == c])
    return out


def bt_mle(world: World) -> Array:
    """Newton on the Bradley-Terry likelihood of a free reward table: the weighted Laplacian, least-norm steps."""
    data, r = finite_data(world), np.zeros_like(world.r)
    w, l = data.x * world.mdp.N + data.w, data.x * world.mdp.N + data.l
    for _ in range(60):
        wrong = special.expit(-data.margin(r)) * data.weight
        g = np.bincount(l, wrong, r.size) - np.bincount(w, wrong, r.size)
        E = np.eye(r.size)[w] - np.eye(r.size)[l]
        H = E.T @ ((wrong * special.expit(data.margin(r)))[:, None] * E)
        r = r - np.reshape(np.linalg.pinv(H, rcond=1e-12, hermitian=True) @ g, r.shape)
    return centered(world, r)


def implied_margins(world: World) -> Array:
    """The chain of logits of the observed win rates: in a forest every margin is its own."""
    return centered(world, np.where(components(world) >= 0, world.r / 2.0, 0.0))


def free_dimensions(world: World) -> float:
    """Components less one, over all prompts: a shift per component, less the one that a distribution does not feel."""
    return float(sum(len(set(row[row >= 0].tolist())) - 1 for row in components(world)))


def flat_dimensions(world: World) -> float:
    """Dimensions along which DPO's loss has no curvature at its minimizer: null vectors of the Hessian in response logits, less one."""
    data = finite_data(world)
    found = minimize("dpo", world, data).log_p
    s, total = settings_at(LOSSES["dpo"], world, found, data, {}), 0
    for x in range(world.mdp.P):
        live = np.flatnonzero(~np.isneginf(world.log_p_ref[x]))
        problem = prompt_problem(LOSSES["dpo"], world, data, x, live, found, s)
        curved = 0 if problem is None else int(np.linalg.matrix_rank(problem.quadratic(found[x, live], 0.0)[2], tol=1e-10))
        total += len(live) - 1 - curved
    return float(total)


def fitted(world: World, beta: float) -> Array:
    return centered(world, implicit_reward(minimize("dpo", world, finite_data(world)).log_p, world.log_p_ref, beta))


claim(
    slug="dpo-is-bt-mle",
    chapter=6,
    text=r"""
    -S(y, y') \log\sigma(\rho(y) - \rho(y')) - S(y', y) \log\sigma(\rho(y') - \rho(y)) \ge -S(y, y') \log S(y, y') - S(y', y) \log S(y', y),
        \quad S(y, y') = P(y \succ y'), \quad \rho = \beta \log\frac{p}{p_{ref}}
    \log\frac{S(y, y')}{1 - S(y, y')} = r(y) - r(y'), \quad S(y, y') = P(y \succ y')
        # a pair's loss is least where the margin of rho is the logit of the share S of wins; so on finite data rho is the Bradley-Terry MLE
        up to a shift per component of the comparison graph, and the minimizers have #components - 1 dimensions
    """,
    most=30,
    source=RAFAILOV,
    note="Responses that were never compared are components of their own: their mass is not determined by the data.",
    parts=("centered implicit reward", "dimension of the minimizer set"),
    free={"centered implicit reward": "constant per prompt"},
    sides={
        "BT likelihood by Newton; components": lambda world: (bt_mle(world), free_dimensions(world)),
        "DPO by Newton; null space": Approximately(lambda world, beta: (fitted(world, beta), flat_dimensions(world)), error=1e-8),
        "logits of the observed shares": Approximately(lambda world: (implied_margins(world), free_dimensions(world)), error=1e-8),
    },
    misses={
        "beta dropped": lambda world: fitted(world, 1.0),
        "log pi for log(pi/pi_ref)": lambda world, beta: centered(
            world, beta * np.where(np.isneginf(world.log_p_ref), 0.0, minimize("dpo", world, finite_data(world)).log_p)
        ),
        "winner and loser swapped": lambda world: -bt_mle(world),
        "the truth for the MLE": lambda world: centered(world, world.r),
        "one minimizer: dimension 0": Miss(lambda: 0.0, part=1),
        "a free dimension for every component": Miss(lambda world, P: free_dimensions(world) + P, part=1),
    },
    where=lambda r: float(np.ptp(r)) < 8.0,
    largest=24,
)

# ---------------------------------------------------------------------------------------------------- likelihood-displacement


def of_theta(world: World, theta: Any) -> Any:
    """log p = log softmax(log p_ref + phi . theta), (P, N)."""
    tilt = np.matmul(features(world), theta)
    possible = ~np.isneginf(world.log_p_ref)
    return log_softmax(np.where(possible, np.where(possible, world.log_p_ref, 0.0) + tilt, -np.inf))


def displacement_closed(world: World, beta: float, log_p: Any, mdp: Any, pi: Any) -> Any:
    """d log pi(y_w)/dt under gradient flow on one pair's loss: beta sigma(.) <score_w, score_w - score_l>, in both classes."""
    return tabular_rate(world, beta, log_p, mdp, pi), linear_rate(world, beta, centre=True)


def tabular_rate(world: World, beta: float, log_p: Any, mdp: Any, pi: Any, absolute: bool = False) -> Array:
    """Token logits: <score_w, score_w - score_l> is a sum over the winner's states, term by term."""
    w, l = best_and_worst(world)
    x = np.arange(mdp.P)
    rhat = implicit_reward(log_p, world.log_p_ref, beta)
    score_w, score_l = (own_score(mdp, pi, x, y) for y in (w, l))
    return beta * special.expit(rhat[x, l] - rhat[x, w]) * np.sum(score_w * (score_w - score_l), axis=(1, 2))


def linear_rate(world: World, beta: float, *, centre: bool) -> Array:
    """Features: beta sigma(.) <phi_w - E_pi phi, phi_w - phi_l> at theta = (0.3, -0.2)."""
    phi, theta = features(world), np.array([0.3, -0.2])
    w, l = best_and_worst(world)
    log_p, x = of_theta(world, theta), np.arange(world.mdp.P)
    rhat = implicit_reward(log_p, world.log_p_ref, beta)
    own = phi[w] - (np.exp(log_p) @ phi if centre else 0.0)
    return beta * special.expit(rhat[x, l] - rhat[x, w]) * np.sum(own * (phi[w] - phi[l]), axis=1)


def winner_alone(world: World, beta: float, log_p: Any, mdp: Any, pi: Any) -> Array:
    w, l = best_and_worst(world)
    x = np.arange(mdp.P)
    rhat = implicit_reward(log_p, world.log_p_ref, beta)
    return beta * special.expit(rhat[x, l] - rhat[x, w]) * np.sum(np.square(own_score(mdp, pi, x, w)), axis=(1, 2))


def displacement_core(world: World, beta: float, logits: Any) -> Any:
    """The same by two gradients: of log pi(y_w), and of the loss."""
    w, l = best_and_worst(world)

    def rate(log_p_of: Any, theta: Any, x: int) -> float:
        def loss(t: Any) -> Any:
            rhat = log_p_of(t)[x, [w[x], l[x]]] - world.log_p_ref[x, [w[x], l[x]]]
            return -special.log_expit(beta * (rhat[0] - rhat[1]))

        return -float(np.sum(grad(lambda t: log_p_of(t)[x, w[x]])(theta) * grad(loss)(theta)))

    prompts = range(world.mdp.P)
    tabular = [rate(lambda t: world.mdp.path_sum(log_softmax(t)), logits, x) for x in prompts]
    linear = [rate(lambda t: of_theta(world, t), np.array([0.3, -0.2]), x) for x in prompts]
    return np.array(tabular), np.array(linear)


claim(
    slug="likelihood-displacement",
    chapter=6,
    text=r"""
    \langle \nabla \log p(y), -\nabla \ell(y, y') \rangle = \beta\, \sigma(\rho(y') - \rho(y))\, \langle \nabla \log p(y), \nabla \log p(y)
        - \nabla \log p(y') \rangle, \quad \ell(y, y') = -\log\sigma(\rho(y) - \rho(y')), \quad \rho = \beta \log\frac{p}{p_{ref}}
    \langle \nabla \log p(y), \nabla \log p(y) - \nabla \log p(y') \rangle \ge 0
        # under gradient flow on a pair's loss log p of the winner y never falls on tabular logits; with features phi it has the sign of
        <phi_w - E phi, phi_w - phi_l>, and may
    """,
    source="Razin et al. (2024), arXiv:2410.08847; Pal et al. (2024), arXiv:2402.13228.",
    note="What the winner loses goes to responses that resemble it and were in no pair.",
    parts=("tabular token logits", "log-linear"),
    sides={"inner product of scores": displacement_closed, "gradient core": displacement_core},
    misses={
        "features not centered": Miss(lambda world, beta: linear_rate(world, beta, centre=False), part=1),
        "always rises": Miss(lambda world, beta: np.abs(linear_rate(world, beta, centre=True)), part=1),
        "the loser's score left out": winner_alone,
        "beta dropped": lambda world, beta, log_p, mdp, pi: tabular_rate(world, beta, log_p, mdp, pi) / beta,
    },
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    largest=200,
)


# ---------------------------------------------------------------------------------------------------- logit-conservation


def after_descent(world: World, log_p: Any, steps: int = 20) -> Array:
    """The change of the sums after many small steps."""
    data, start = finite_data(world), np.where(np.isneginf(log_p), 0.0, log_p)
    theta = np.array(log_p)
    for _ in range(steps):
        now = log_softmax(theta)
        theta = theta - 0.1 / (1.0 + world.beta) * logit_gradient(now, gradient("dpo", world, now, data))
    return component_sums(world, np.where(np.isneginf(log_p), 0.0, theta) - start)


claim(
    slug="logit-conservation",
    chapter=6,
    text=r"""
    let n = wins_ij
    \sum_y \sum_{y'} [n(y, y')\, \sigma(\rho(y') - \rho(y)) - n(y', y)\, \sigma(\rho(y) - \rho(y'))] = 0, \quad \rho = \beta
        \log\frac{p}{p_{ref}}
        # what the responses of a component of the comparison graph gain from its pairs, n(y, y') wins each, adds up to nothing: the sum of
        their logits stays under gradient flow
    """,
    source="Ours: the gradient in log p sums to zero over each component, so the softmax adds nothing.",
    parts=("rate", "after twenty steps"),
    sides={
        "nothing": lambda r: (np.zeros_like(r), np.zeros_like(r)),
        "gradient core": lambda world, log_p: (drift(world, log_p, "dpo"), after_descent(world, log_p)),
        "hand slope": lambda world, log_p: (
            component_sums(world, slope_gradient("dpo", world, log_p, finite_data(world))),
            np.zeros_like(log_p),
        ),
    },
    misses={
        "also with an NLL term (CPO)": lambda world, log_p: drift(world, log_p, "cpo"),
        "also with absolute terms (NCA)": lambda world, log_p: drift(world, log_p, "nca-pair"),
        "of log p instead of logits": lambda world, log_p: component_sums(world, log_p_rate(world, log_p)),
    },
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    largest=60,
)
