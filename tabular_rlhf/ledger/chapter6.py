r"""Chapter 6: DPO.  A policy is a reward; the loss that follows from it, its gradient, and what it converges to.

Labels are Bradley-Terry's under the world's reward, both responses drawn from p_ref, unless a row says otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf.autodiff import grad
from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.ledger.record import Approximately, Miss, claim
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.losses.closed import averaged_gibbs
from tabular_rlhf.losses.evaluate import value
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.preferences import population_pairs, sure
from tabular_rlhf.terms.comparisons import implicit_reward, on_support, people
from tabular_rlhf.terms.policies import token_ratios, without_eos
from tabular_rlhf.terms.sizes import reward_units, size_of
from tabular_rlhf.terms.sources import RAFAILOV
from tabular_rlhf.world import World


def nll(world: World, rhat: Any) -> Any:
    """The Bradley-Terry negative log-likelihood of a reward table."""
    pairs = people(world)
    return np.sum(pairs.weight * -special.log_expit(pairs.margin(rhat)))


# ---------------------------------------------------------------------------------------------------- reward-inversion

claim(
    slug="reward-inversion",
    chapter=6,
    text=r"""
    r = \beta \log \frac{p^*}{p_{ref}} + \beta \log Z
      slip the term beta*log(Z) dropped; beta dropped; beta squared; p_ref dropped; sign of beta*log(Z) flipped
      not beta*log(p_star/p_ref) + log Z  # log Z for beta log Z
    \frac{p_{ref}\, e^{\rho/\beta}}{\mathbb{E}_{p_{ref}}[e^{\rho/\beta}]} = p, \quad \rho = \beta \log\frac{p}{p_{ref}}
        # the first where p_ref > 0; the Gibbs optimum of a policy's implicit reward is that policy
      not \frac{p_{ref}\, e^{\beta \rho}}{\mathbb{E}_{p_{ref}}[e^{\beta \rho}]}  # beta for 1/beta in the tilt
    """,
    source=RAFAILOV,
    parts=("r on the support", "p"),
    sides={
        "given": (lambda log_p_ref, r: on_support(log_p_ref, r), 1),
        "inverted": (
            lambda log_p_star, log_p_ref, beta, value: on_support(log_p_ref, implicit_reward(log_p_star, log_p_ref, beta) + value[:, None]),
            0,
        ),
        "token by token": lambda mdp, log_pi_star, log_pi_ref, log_p_ref, beta, V_soft, log_pi: (
            on_support(log_p_ref, beta * token_ratios(mdp, log_pi_star, log_pi_ref) + V_soft[:, :1]),
            np.exp(mdp.path_sum(log_pi)),
        ),
    },
    scale=lambda r, beta, log_p_star, log_p_ref: (reward_units(r, beta, log_p_star, log_p_ref), 1.0),
)


# ---------------------------------------------------------------------------------------------------- dpo-loss


def across_prompts(world: World, rhat: Any) -> Any:
    """The mean of -log sigma between a response of one prompt and one of another: here Z does not cancel."""
    mass = world.mu[:, None] * np.exp(world.log_p_ref)
    margin = rhat[:, :, None, None] - rhat[None, None, :, :]
    return np.sum(mass[:, :, None, None] * mass * -special.log_expit(margin))


def shifted(log_p: Any, log_p_ref: Any, beta: float, value: Any) -> Any:
    return on_support(log_p_ref, implicit_reward(log_p, log_p_ref, beta) + value[:, None])


claim(
    slug="dpo-loss",
    chapter=6,
    text=r"""
    \mathbb{E}[-\log\sigma(\rho(y_w) - \rho(y_l))] = \sum_x \mu(x) \sum_y \sum_{y'} 2 p_{ref}(y)\, p_{ref}(y')\, P(y \succ y') \log(1 +
        e^{\rho(y') - \rho(y)}), \quad \rho = \beta \log\frac{p}{p_{ref}}
      slip beta dropped; beta squared; divided by beta where one multiplies; winner and loser swapped; p_ref dropped
      not \mathbb{E}[-\log\sigma(\rho(y_w)/|y_w| - \rho(y_l)/|y_l|)]  # mean over tokens where the sum was due
      not \mathbb{E}[-\log\sigma((\rho(y_w) - \rho(y_l))/\log 2)]  # log base 2
    \sum_{x, y} \sum_{x', y'} \mu(x)\, p_{ref}(y \mid x)\, \mu(x')\, p_{ref}(y' \mid x') \log(1 + e^{r(x', y') - r(x, y)}) = \sum_{x, y}
        \sum_{x', y'} \mu(x)\, p_{ref}(y \mid x)\, \mu(x')\, p_{ref}(y' \mid x') \log(1 + e^{h(x', y') - h(x, y)}), \quad h = \beta
        \log\frac{Z p^*}{p_{ref}}
        # within a prompt Z cancels, and the loss is the Bradley-Terry likelihood of rho; between prompts rho needs its beta log Z
      slip Z dropped
    """,
    source=RAFAILOV,
    parts=("loss", "loss across prompts"),
    sides={
        "the record": (lambda world, log_p: value("dpo", world, log_p, people(world)), 0),
        "BT likelihood of rho + beta log Z": (
            lambda world, log_p, log_p_ref, beta, value: nll(world, shifted(log_p, log_p_ref, beta, value)),
            1,
        ),
        "pair by pair": (1, lambda world, r, log_p_ref: across_prompts(world, on_support(log_p_ref, r))),
    },
    misses={
        "EOS token not counted in log pi": lambda world, mdp, log_pi, log_pi_ref, beta: nll(
            world, beta * token_ratios(mdp, *without_eos(mdp, log_pi, log_pi_ref))
        )
    },
    scale=lambda r, beta, log_p, log_p_ref, log_p_star: (
        size_of(r, beta, log_p, log_p_ref),
        size_of(r, beta, log_p_star, log_p_ref),
    ),
    largest=40,
)


# ---------------------------------------------------------------------------------------------------- dpo-gradient


def dpo_of_logits(world: World, logits: Any) -> Any:
    return value("dpo", world, world.mdp.path_sum(log_softmax(logits)), people(world))


def stepped_gradient(world: World, logits: Any) -> Any:
    """Fourth-order differences of the loss, one token logit at a time."""

    def moved(e: Any, t: float) -> float:
        return float(dpo_of_logits(world, logits + t * e))

    out, h = np.zeros_like(logits), 1e-3 / (1.0 + world.beta)  # a logit moves the margin by beta nats
    for at in np.argwhere(~np.isneginf(logits)):
        e = np.zeros_like(logits)
        e[tuple(at)] = 1.0
        out[tuple(at)] = central(partial(moved, e), h)
    return out


claim(
    slug="dpo-gradient",
    chapter=6,
    text=r"""
    \nabla\, \mathbb{E}[-\log\sigma(\rho(y_w) - \rho(y_l))] = -\beta\, \mathbb{E}[\sigma(\rho(y_l) - \rho(y_w))\, (\nabla \log p(y_w) -
        \nabla \log p(y_l))], \quad \rho = \beta \log\frac{p}{p_{ref}}
        # the weight is large where the implicit reward rho orders the pair wrongly
      slip sign within sigma flipped; sign flipped; beta dropped; beta squared; sigma(rho(l) - rho(w)) dropped
      not -\beta\, \mathbb{E}[\sigma((\rho(y_l) - \rho(y_w))/\beta)\, (\nabla \log p(y_w) - \nabla \log p(y_l))]
        # beta dropped inside sigma
      not -\beta\, \mathbb{E}[\sigma(\rho(y_l) - \rho(y_w))\, (\nabla \log p(y_w)/|y_w| - \nabla \log p(y_l)/|y_l|)]
        # mean over tokens where the sum was due
    """,
    source=RAFAILOV,
    sides={
        "weighted scores": 1,
        "gradient core": lambda world, logits: grad(lambda t: dpo_of_logits(world, t))(logits),
        # truncation beta (beta h)^4 = 1e-12 beta, rounding (1 + beta) 1e3 eps
        "differences of the loss": Approximately(stepped_gradient, error=1e-9),
    },
    scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
    largest=16,
)

# ---------------------------------------------------------------------------------------------------- dpo-population-optimum


def gradient_at(world: World, log_p: Any) -> Any:
    return grad(lambda q: value("dpo", world, log_softmax(q), people(world)))(log_p)


claim(
    slug="dpo-population-optimum",
    chapter=6,
    text=r"""
    p^* = \frac{p_{ref}\, a}{\mathbb{E}_{p_{ref}}[a]}, \quad a = e^{r/\beta}
      slip beta dropped; E_{p_ref}[a] dropped; sign of the exponent flipped
      not \frac{a}{\sum_y a(y)}  # p_ref omitted
      not \frac{p_{ref}(y)\, e^{P(y \succ p_{ref})/\beta}}{\sum_{y'} p_{ref}(y')\, e^{P(y' \succ p_{ref})/\beta}}
        # win rate for reward (IPO's optimum)
    \sum_{y'} p_{ref}(y')\, [P(y \succ y') - \sigma(r(y) - r(y'))] = 0
    \mathbb{E}[-\log\sigma(r(y_w) - r(y_l))] \le \mathbb{E}[-\log\sigma(\rho(y_w) - \rho(y_l))], \quad \rho = \beta \log\frac{p}{p_{ref}}
        # DPO's loss is least at p*, whose implicit reward is r less beta log Z, with BT labels and all pairs compared
    """,
    most=50,
    source=RAFAILOV,
    parts=("optimum", "gradient in response logits at p*"),
    sides={
        "Gibbs": 0,
        "Newton on the loss": Approximately(
            lambda world, log_p_star: (np.exp(minimize("dpo", world, people(world)).log_p), gradient_at(world, log_p_star)),
            error=1e-8,
        ),
    },
    misses={"mean over tokens where the sum was due": lambda world, beta: np.exp(averaged_gibbs(world, {"beta": beta}))},
    largest=40,
)

# ---------------------------------------------------------------------------------------------------- dpo-deterministic-labels


def certain_optimum(world: World, name: str) -> Any:
    return np.exp(minimize(name, world, population_pairs(world, sure(world.r))).log_p)


claim(
    slug="dpo-deterministic-labels",
    chapter=6,
    text=r"""
    let tau = beta
    \frac{p_{ref}\, 1[r = R]}{p_{ref}(r = R)} = \frac{p_{ref}\, 1[r = R]}{\sum_y p_{ref}(y)\, 1[r(y) = R]}, \quad R = \max_y r(y)
      not p_star  # p* for the limit
      not \frac{1[r = R]}{\sum_y 1[r(y) = R]}  # ties share equally
    \frac{p_{ref}\, b}{\mathbb{E}_{p_{ref}}[b]} = \frac{p_{ref}\, e^{W/\tau}}{\mathbb{E}_{p_{ref}}[e^{W/\tau}]}, \quad b = e^{(F + F_-)/(2
        \tau)}, \quad W(y) = \sum_{y'} p_{ref}(y')\, (1[r(y) > r(y')] + \tfrac12 1[r(y) = r(y')])
        # where the better response always wins, DPO goes to p_ref on the best responses, whatever beta: KL control is lost; IPO's optimum
        tilts p_ref by the win rates W against it
    """,
    most=30,
    source="Azar et al. (2023), arXiv:2310.12036.",
    parts=("limit of DPO", "optimum of IPO"),
    sides={
        "greedy limit, and the tilt by win rates": 1,
        "Newton on the losses": Approximately(lambda world: (certain_optimum(world, "dpo"), certain_optimum(world, "ipo")), error=1e-8),
    },
    misses={
        "IPO: responses drawn uniformly": Miss(
            (
                r"\frac{p_{ref}\, e^{U/\tau}}{\mathbb{E}_{p_{ref}}[e^{U/\tau}]}, "
                r"\quad U(y) = \sum_{y'} \frac{1}{N} (1[r(y) > r(y')] + \tfrac12 1[r(y) = r(y')])"
            ),
            part=1,
        ),
        "IPO: 1/(2 tau) for 1/tau": Miss(r"\frac{p_{ref}\, e^{W/(2\tau)}}{\mathbb{E}_{p_{ref}}[e^{W/(2\tau)}]}", part=1),
        "IPO: tau for 1/tau": Miss(r"\frac{p_{ref}\, e^{\tau W}}{\mathbb{E}_{p_{ref}}[e^{\tau W}]}", part=1),
    },
    where=lambda r, log_p_ref: float(np.min(log_p_ref, initial=0.0, where=~np.isneginf(log_p_ref))) > -12.0,
    largest=12,
)
