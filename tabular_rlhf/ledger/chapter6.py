r"""Chapter 6: DPO.  A policy is a reward; the loss that follows from it, its gradient, and what it converges to.

Labels are Bradley-Terry's under the world's reward, both responses drawn from p_ref, unless a row says otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tabular_rlhf import gibbs
from tabular_rlhf.autodiff import grad
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.chapter4 import reward_units
from tabular_rlhf.ledger.record import Approximately, Miss, Row, add
from tabular_rlhf.logspace import Array, log_softmax
from tabular_rlhf.losses.closed import averaged_gibbs, win_rate
from tabular_rlhf.losses.evaluate import scatter, value, weights
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs, sure
from tabular_rlhf.world import World

RAFAILOV = "Rafailov et al. (2023), arXiv:2305.18290."


def on_support(log_p_ref: Any, table: Any) -> Any:
    """A table where the reference can go, 0 elsewhere."""
    possible = ~np.isneginf(log_p_ref)
    return np.where(possible, np.where(possible, table, 0.0), 0.0)


def implicit_reward(log_p: Any, log_p_ref: Any, beta: float) -> Any:
    """beta log(p/p_ref) on the support of p_ref."""
    possible = ~np.isneginf(log_p_ref)
    return beta * (np.where(possible, log_p, 0.0) - np.where(possible, log_p_ref, 0.0))


def people(world: World) -> Pairs:
    """All pairs under Bradley-Terry labels."""
    return population_pairs(world, bradley_terry(world.r))


def nll(world: World, rhat: Any) -> Any:
    """The Bradley-Terry negative log-likelihood of a reward table."""
    pairs = people(world)
    return np.sum(pairs.weight * -special.log_expit(pairs.margin(rhat)))


def size_of(r: Any, beta: float, log_p: Any, log_p_ref: Any) -> float:
    return 1.0 + reward_units(r, beta, log_p, log_p_ref)


# ---------------------------------------------------------------------------------------------------- reward-inversion

add(
    Row(
        slug="reward-inversion",
        chapter=6,
        statement=r"r = \beta \log \frac{\pi_r}{\pi_{ref}} + \beta \log Z(x), \qquad \pi_{\beta \log(\pi/\pi_{ref})} = \pi",
        source=RAFAILOV,
        note="Part 2: the Gibbs optimum of a policy's implicit reward is that policy.",
        parts=("r on the support", "p"),
        sides={
            "given": lambda log_p_ref, r, p: (on_support(log_p_ref, r), p),
            "inverted": lambda log_p_star, log_p_ref, beta, value, log_p: (
                on_support(log_p_ref, implicit_reward(log_p_star, log_p_ref, beta) + value[:, None]),
                np.exp(log_gibbs(log_p_ref, implicit_reward(log_p, log_p_ref, beta), beta)),
            ),
            "token by token": lambda mdp, log_pi_star, log_pi_ref, log_p_ref, beta, V_soft, log_pi: (
                on_support(log_p_ref, beta * token_ratios(mdp, log_pi_star, log_pi_ref) + V_soft[:, :1]),
                np.exp(mdp.path_sum(log_pi)),
            ),
        },
        misses={
            "log Z omitted": lambda log_p_star, log_p_ref, beta: implicit_reward(log_p_star, log_p_ref, beta),
            "beta dropped": lambda log_p_star, log_p_ref, value: on_support(
                log_p_ref, implicit_reward(log_p_star, log_p_ref, 1.0) + value[:, None]
            ),
            "beta squared": lambda log_p_star, log_p_ref, beta, value: on_support(
                log_p_ref, implicit_reward(log_p_star, log_p_ref, beta**2) + value[:, None]
            ),
            "log Z for beta log Z": lambda log_p_star, log_p_ref, beta, log_Z: on_support(
                log_p_ref, implicit_reward(log_p_star, log_p_ref, beta) + log_Z[:, None]
            ),
            "p_ref omitted": lambda log_p_star, log_p_ref, beta, value: on_support(log_p_ref, beta * log_p_star + value[:, None]),
            "sign of log Z flipped": lambda log_p_star, log_p_ref, beta, value: on_support(
                log_p_ref, implicit_reward(log_p_star, log_p_ref, beta) - value[:, None]
            ),
            "beta for 1/beta in the tilt": Miss(
                "beta for 1/beta in the tilt",
                lambda log_p, log_p_ref, beta: np.exp(log_gibbs(log_p_ref, implicit_reward(log_p, log_p_ref, beta), 1.0 / beta)),
                part=1,
            ),
        },
        scale=lambda r, beta, log_p_star, log_p_ref: (reward_units(r, beta, log_p_star, log_p_ref), 1.0),
    )
)


def token_ratios(mdp: Any, log_pi: Any, log_pi_ref: Any) -> Any:
    """The sum over tokens of log(pi/pi_ref), forbidden tokens counting 0."""
    allowed = ~np.isneginf(log_pi_ref)
    return mdp.path_sum(np.where(allowed, np.where(allowed, log_pi, 0.0) - np.where(allowed, log_pi_ref, 0.0), 0.0))


# ---------------------------------------------------------------------------------------------------- dpo-loss


def by_double_loop(world: World, log_p: Any, log_p_ref: Any, r: Any, beta: float, mu: Any) -> float:
    """The definition, pair by pair: sum over x, i, j of mu q_i q_j 2 P(i beats j) log(1 + exp(-(rhat_i - rhat_j)))."""
    total = 0.0
    for x in range(len(mu)):
        live = np.flatnonzero(~np.isneginf(log_p_ref[x]))
        for i in live:
            for j in live:
                rhat = [beta * float(log_p[x, k] - log_p_ref[x, k]) for k in (i, j)]
                wins = 1.0 / (1.0 + float(np.exp(r[x, j] - r[x, i])))
                share = 2.0 * mu[x] * float(np.exp(log_p_ref[x, i] + log_p_ref[x, j])) * wins
                total += share * float(np.logaddexp(0.0, rhat[1] - rhat[0]))
    return total


def across_prompts(world: World, rhat: Any) -> Any:
    """The mean of -log sigma between a response of one prompt and one of another: here Z does not cancel."""
    mass = world.mu[:, None] * np.exp(world.log_p_ref)
    margin = rhat[:, :, None, None] - rhat[None, None, :, :]
    return np.sum(mass[:, :, None, None] * mass * -special.log_expit(margin))


def shifted(log_p: Any, log_p_ref: Any, beta: float, value: Any) -> Any:
    return on_support(log_p_ref, implicit_reward(log_p, log_p_ref, beta) + value[:, None])


add(
    Row(
        slug="dpo-loss",
        chapter=6,
        statement=(
            r"L = \mathbb{E}\Big["
            r"-\log \sigma\Big(\beta \log \frac{\pi(y_w)}{\pi_{ref}(y_w)} - \beta \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}\Big)\Big]"
            r" = \text{BT NLL of } \hat r + c(x)"
        ),
        source=RAFAILOV,
        note="Part 2: Z cancels within a prompt only.  Between prompts the implicit reward needs its beta log Z.",
        parts=("loss", "loss across prompts"),
        sides={
            "the record": lambda world, log_p, r, log_p_ref: (
                value("dpo", world, log_p, people(world)),
                across_prompts(world, on_support(log_p_ref, r)),
            ),
            "BT likelihood of rhat + beta log Z": lambda world, log_p, log_p_star, log_p_ref, beta, value: (
                nll(world, shifted(log_p, log_p_ref, beta, value)),
                across_prompts(world, shifted(log_p_star, log_p_ref, beta, value)),
            ),
            "pair by pair": lambda world, log_p, log_p_ref, r, beta, mu, log_p_star, value: (
                by_double_loop(world, log_p, log_p_ref, r, beta, mu),
                across_prompts(world, shifted(log_p_star, log_p_ref, beta, value)),
            ),
        },
        misses={
            "beta dropped": lambda world, log_p, log_p_ref: nll(world, implicit_reward(log_p, log_p_ref, 1.0)),
            "beta squared": lambda world, log_p, log_p_ref, beta: nll(world, implicit_reward(log_p, log_p_ref, beta**2)),
            "1/beta for beta": lambda world, log_p, log_p_ref, beta: nll(world, implicit_reward(log_p, log_p_ref, 1.0 / beta)),
            "winner and loser swapped": lambda world, log_p, log_p_ref, beta: nll(world, -implicit_reward(log_p, log_p_ref, beta)),
            "p_ref omitted": lambda world, log_p, log_p_ref, beta: nll(world, on_support(log_p_ref, beta * log_p)),
            "mean over tokens where the sum was due": lambda world, log_p: value("dpo-averaged", world, log_p, people(world)),
            "log base 2": lambda world, log_p, log_p_ref, beta: nll(world, implicit_reward(log_p, log_p_ref, beta) / np.log(2.0)),
            "EOS token not counted in log pi": lambda world, mdp, log_pi, log_pi_ref, beta: nll(
                world, beta * token_ratios(mdp, *without_eos(mdp, log_pi, log_pi_ref))
            ),
            "log Z omitted across prompts": Miss(
                "log Z omitted across prompts",
                lambda world, log_p_star, log_p_ref, beta: across_prompts(world, implicit_reward(log_p_star, log_p_ref, beta)),
                part=1,
            ),
        },
        scale=lambda r, beta, log_p, log_p_ref, log_p_star: (
            size_of(r, beta, log_p, log_p_ref),
            size_of(r, beta, log_p_star, log_p_ref),
        ),
        largest=40,
    )
)


def without_eos(mdp: Any, *policies: Any) -> list[Any]:
    """Policies whose EOS column counts 0."""
    last = np.arange(mdp.V) == (mdp.V - 1 if mdp.eos is not None else -1)
    return [np.where(last & ~np.isneginf(log_pi), 0.0, log_pi) for log_pi in policies]


# ---------------------------------------------------------------------------------------------------- dpo-gradient


def pull(world: World, log_p: Any, beta: float, sign: float = 1.0) -> Any:
    """weight * sigma(rhat_l - rhat_w) for each pair (with sign -1, the wrong way round)."""
    pairs = people(world)
    rhat = implicit_reward(log_p, world.log_p_ref, beta)
    return weights(pairs) * special.expit(-sign * pairs.margin(rhat))


def along_scores(world: World, logits: Any, pulls: Any, beta: float, tokens: Any = 1.0) -> Any:
    """-beta sum of pull (grad log pi(y_w) - grad log pi(y_l)) in token logits, each score through the gradient core."""
    table = scatter(world, people(world), -beta * pulls, beta * pulls) / tokens

    def contracted(theta: Any) -> Any:
        log_p = world.mdp.path_sum(log_softmax(theta))
        return np.sum(np.where(np.isneginf(world.log_p_ref), 0.0, table) * np.where(np.isneginf(world.log_p_ref), 0.0, log_p))

    return grad(contracted)(logits)


def dpo_of_logits(world: World, logits: Any) -> Any:
    return value("dpo", world, world.mdp.path_sum(log_softmax(logits)), people(world))


def stepped_gradient(world: World, logits: Any) -> Any:
    """Fourth-order differences of the loss, one token logit at a time."""
    out, h = np.zeros_like(logits), 1e-3 / (1.0 + world.beta)  # a logit moves the margin by beta nats
    for at in np.argwhere(~np.isneginf(logits)):
        e = np.zeros_like(logits)
        e[tuple(at)] = h
        f = [float(dpo_of_logits(world, logits + k * e)) for k in (-2, -1, 1, 2)]
        out[tuple(at)] = (8 * (f[2] - f[1]) - f[3] + f[0]) / (12 * h)
    return out


add(
    Row(
        slug="dpo-gradient",
        chapter=6,
        statement=(r"\nabla L = -\beta\, \mathbb{E}\big[\sigma(\hat r_l - \hat r_w)\, (\nabla \log \pi(y_w) - \nabla \log \pi(y_l))\big]"),
        source=RAFAILOV,
        note="The weight is large where the implicit reward orders the pair wrongly.",
        sides={
            "weighted scores": lambda world, logits, log_p, beta: along_scores(world, logits, pull(world, log_p, beta), beta),
            "gradient core": lambda world, logits: grad(lambda t: dpo_of_logits(world, t))(logits),
            # truncation beta (beta h)^4 = 1e-12 beta, rounding (1 + beta) 1e3 eps
            "differences of the loss": Approximately(stepped_gradient, error=1e-9),
        },
        misses={
            "sigma(rhat_w - rhat_l) for sigma(rhat_l - rhat_w)": lambda world, logits, log_p, beta: along_scores(
                world, logits, pull(world, log_p, beta, -1.0), beta
            ),
            "winner and loser swapped": lambda world, logits, log_p, beta: along_scores(world, logits, pull(world, log_p, beta), -beta),
            "beta dropped": lambda world, logits, log_p, beta: along_scores(world, logits, pull(world, log_p, beta), 1.0),
            "beta dropped inside sigma": lambda world, logits, log_p, beta: along_scores(world, logits, pull(world, log_p, 1.0), beta),
            "beta squared": lambda world, logits, log_p, beta: along_scores(world, logits, pull(world, log_p, beta), beta**2),
            "weight dropped": lambda world, logits, beta: along_scores(world, logits, weights(people(world)), beta),
            "mean over tokens where the sum was due": lambda world, logits, log_p, beta, lengths: along_scores(
                world, logits, pull(world, log_p, beta), beta, lengths
            ),
        },
        scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
        largest=16,
    )
)

# ---------------------------------------------------------------------------------------------------- dpo-population-optimum


def gradient_at(world: World, log_p: Any) -> Any:
    return grad(lambda q: value("dpo", world, log_softmax(q), people(world)))(log_p)


add(
    Row(
        slug="dpo-population-optimum",
        chapter=6,
        most=50,
        statement=r"\arg\min_\pi L_{DPO} = \pi^* = \pi_{ref}\, e^{r/\beta} / Z \quad \text{(BT labels, all pairs compared)}",
        source=RAFAILOV,
        parts=("optimum", "gradient in response logits at p*"),
        sides={
            "Gibbs": lambda log_p_ref, r, beta: (np.exp(log_gibbs(log_p_ref, r, beta)), np.zeros_like(r)),
            "Newton on the loss": Approximately(
                lambda world, log_p_star: (np.exp(minimize("dpo", world, people(world)).log_p), gradient_at(world, log_p_star)),
                error=1e-8,
            ),
        },
        misses={
            "beta dropped": lambda log_p_ref, r: np.exp(log_gibbs(log_p_ref, r, 1.0)),
            "p_ref omitted": lambda r, beta: np.exp(log_softmax(r / beta)),
            "log Z omitted: not normalized": lambda log_p_ref, r, beta: np.exp(log_p_ref + r / beta),
            "sign flipped": lambda log_p_ref, r, beta: np.exp(log_gibbs(log_p_ref, -r, beta)),
            "win rate for reward (IPO's optimum)": lambda world, log_p_ref, beta: np.exp(log_gibbs(log_p_ref, win_rate(world), beta)),
            "mean over tokens where the sum was due": lambda world, beta: np.exp(averaged_gibbs(world, {"beta": beta})),
        },
        largest=40,
    )
)

# ---------------------------------------------------------------------------------------------------- dpo-deterministic-labels


def certain_optimum(world: World, name: str) -> Any:
    return np.exp(minimize(name, world, population_pairs(world, sure(world.r))).log_p)


def certain_win_rate(world: World, q: Any) -> Any:
    """P(y beats a response of q) when the better reward always wins."""
    beats = (np.sign(world.r[:, :, None] - world.r[:, None, :]) + 1.0) / 2.0
    return np.einsum("xij,xj->xi", beats, q)


def ipo_closed(world: World, beta: float, q: Any) -> Array:
    return np.exp(log_gibbs(world.log_p_ref, certain_win_rate(world, q), beta))


add(
    Row(
        slug="dpo-deterministic-labels",
        chapter=6,
        most=30,
        statement=(
            r"y_w \text{ always beats } y_l: \quad \text{DPO: } \pi(y_l) \to 0 \text{ for every } \beta; \qquad "
            r"\text{IPO: } \pi \propto \pi_{ref}\, e^{P(y \succ \pi_{ref}) / \tau}"
        ),
        source="Azar et al. (2023), arXiv:2310.12036.",
        note="DPO approaches p_ref restricted to the best response (ties keep p_ref's odds): KL control is lost, whatever beta.",
        parts=("limit of DPO", "optimum of IPO"),
        sides={
            "greedy limit, and the tilt by win rates": lambda world, log_p_ref, r, beta, p_ref: (
                np.exp(gibbs.greedy_limit(log_p_ref, r)),
                ipo_closed(world, beta, p_ref),
            ),
            "Newton on the losses": Approximately(lambda world: (certain_optimum(world, "dpo"), certain_optimum(world, "ipo")), error=1e-8),
        },
        misses={
            "p* for the limit": lambda p_star: p_star,
            "ties share equally": lambda log_p_ref, r: even_greedy(log_p_ref, r),
            "IPO: responses drawn uniformly": Miss(
                "responses drawn uniformly", lambda world, beta, p_ref: ipo_closed(world, beta, np.ones_like(p_ref) / p_ref.shape[1]), 1
            ),
            "IPO: 1/(2 tau) for 1/tau": Miss("1/(2 tau) for 1/tau", lambda world, beta, p_ref: ipo_closed(world, 2.0 * beta, p_ref), 1),
            "IPO: tau for 1/tau": Miss("tau for 1/tau", lambda world, beta, p_ref: ipo_closed(world, 1.0 / beta, p_ref), 1),
        },
        where=lambda r, log_p_ref: float(np.min(log_p_ref, initial=0.0, where=~np.isneginf(log_p_ref))) > -12.0,
        largest=12,
    )
)


def even_greedy(log_p_ref: Any, r: Any) -> Any:
    on = np.exp(gibbs.greedy_limit(log_p_ref, r)) > 0
    return on / np.sum(on, axis=1, keepdims=True)
