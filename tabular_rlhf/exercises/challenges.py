"""Exercises on chapter 2: how long one waits for a reward, how errors compound, and what a proxy reward earns."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import expect, log_softmax

# ---------------------------------------------------------------------------------------------------- episodes-until-success


def success_rate(p_ref: Any, success: Any) -> Any:
    """q = p_ref(G), for each prompt."""
    return np.sum(p_ref * success, axis=1)


SUCCESS = "`success` is 1 for the responses of a set $G$ that are rewarded and 0 for all others, of shape `(P, N)`. "

add(
    Exercise(
        slug="episodes-until-success",
        chapter=2,
        notebook="02",
        title="How long until the first reward?",
        statement=(
            SUCCESS + "An episode is one response drawn from the reference, `p_ref`, of shape `(P, N)`. Return how many episodes it takes "
            "on average until the first response in $G$, that one counted, for each prompt: shape `(P,)`."
        ),
        hint="Each episode succeeds with the same probability q, whatever came before: the waiting time is geometric.",
        rows=("exploration",),
        answer=lambda p_ref, success: 1.0 / np.sum(p_ref * success, axis=1),
        misses={
            "n - 1 for n: failures before the first success": lambda p_ref, success: 1.0 / success_rate(p_ref, success) - 1.0,
            "the chance of success, not the wait for it": lambda p_ref, success: success_rate(p_ref, success),
            "p_ref omitted: uniform play": lambda success, N: N / np.sum(success, axis=1),
            "p for p_ref": lambda p, success: 1.0 / success_rate(p, success),
            "log for the inverse: bits, not episodes": lambda p_ref, success: -np.log2(success_rate(p_ref, success)),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- union-bound


def any_success(q: Any, n: int) -> Any:
    """P(at least one success in n independent episodes)."""
    return 1.0 - (1.0 - q) ** n


add(
    Exercise(
        slug="union-bound",
        chapter=2,
        notebook="02",
        title="Several attempts, and a bound",
        statement=(
            SUCCESS
            + "Let $q = p_{ref}(G)$ be the probability of a reward in one episode, and take $n$ = `draws` independent episodes. The "
            "probability that at least one of them is rewarded is at most $n q$ (the union bound). Return how much the bound gives "
            "away, $n q$ minus that probability, for each prompt: shape `(P,)`, never negative."
        ),
        hint="At least one success is the opposite of n failures.",
        rows=("exploration",),
        answer=lambda p_ref, success, draws: (
            draws * np.sum(p_ref * success, axis=1) - (1.0 - (1.0 - np.sum(p_ref * success, axis=1)) ** draws)
        ),
        misses={
            "sign flipped": lambda p_ref, success, draws: (
                any_success(success_rate(p_ref, success), draws) - draws * success_rate(p_ref, success)
            ),
            "the complement: n failures for at least one success": lambda p_ref, success, draws: (
                draws * success_rate(p_ref, success) - (1.0 - success_rate(p_ref, success)) ** draws
            ),
            "every episode rewarded for at least one": lambda p_ref, success, draws: (
                draws * success_rate(p_ref, success) - success_rate(p_ref, success) ** draws
            ),
            "exactly one success for at least one": lambda p_ref, success, draws: (
                draws * success_rate(p_ref, success) * (1.0 - (1.0 - success_rate(p_ref, success)) ** (draws - 1))
            ),
            "n dropped from the bound: q for n q": lambda p_ref, success, draws: (
                success_rate(p_ref, success) - any_success(success_rate(p_ref, success), draws)
            ),
        },
        scale=lambda draws: draws,
    )
)

# ---------------------------------------------------------------------------------------------------- compounding-cost


def own_cost(H: int, eps: float, steps: range) -> Any:
    return float(sum(1.0 - (1.0 - eps) ** h for h in steps))


add(
    Exercise(
        slug="compounding-cost",
        chapter=2,
        notebook="02",
        title="Errors compound",
        statement=(
            "A learner imitates an expert for $H$ tokens. As long as it has made no mistake, it makes one with probability "
            "$\\varepsilon$ = `eps` at every token; after its first mistake it is lost, and every later token is a mistake too. "
            "Return the expected number of mistakes: a scalar."
        ),
        hint="Token h is right only if the first h tokens all are; add up the probabilities that it is not.",
        rows=("compounding-error",),
        answer=lambda H, eps: sum(1.0 - (1.0 - eps) ** h for h in range(1, H + 1)),
        misses={
            "the expert's visits for one's own: eps H": lambda H, eps: eps * H,
            "n - 1 for n: the first token cannot err": lambda H, eps: own_cost(H, eps, range(H)),
            "the bound eps H (H + 1)/2 taken for the cost": lambda H, eps: eps * H * (H + 1) / 2,
            "the bound eps H^2 taken for the cost": lambda H, eps: eps * H**2,
            "the chance of any mistake, not their number": lambda H, eps: 1.0 - (1.0 - eps) ** H,
        },
    )
)

# ---------------------------------------------------------------------------------------------------- proxy-optimum


def at_proxy_optimum(log_p_ref: Any, proxy: Any, beta: float, reward: Any) -> Any:
    """E[reward] at the Gibbs optimum of the proxy."""
    return expect(log_gibbs(log_p_ref, proxy, beta), reward)


PROXY = (
    "`proxy` is a reward $r'$ that we can measure, `r` the reward $r$ that we want, both of shape `(P, N)`. Maximizing "
    "$\\mathbb{E}_p[r'] - \\beta\\,\\mathrm{KL}(p, p_{ref})$ leads to $p \\propto p_{ref}\\, e^{r'/\\beta}$, normalized for each prompt. "
)

add(
    Exercise(
        slug="proxy-optimum",
        chapter=2,
        notebook="02",
        title="What the optimum of a proxy is worth",
        statement=PROXY + "Return what we get of what we want there, $\\mathbb{E}_p[r]$: shape `(P,)`, reward units.",
        hint="Two rewards: one makes the policy, the other judges it.",
        rows=("reward-hacking",),
        answer=lambda log_p_ref, proxy, r, beta: np.sum(np.exp(log_softmax(log_p_ref + proxy / beta)) * r, axis=1),
        misses={
            "the proxy reward for the true one: E[r']": lambda log_p_ref, proxy, beta: at_proxy_optimum(log_p_ref, proxy, beta, proxy),
            "the optimum of r for that of the proxy": lambda log_p_star, r: expect(log_p_star, r),
            "the two rewards swapped": lambda log_p_star, proxy: expect(log_p_star, proxy),
            "p_ref omitted: softmax of r' alone": lambda log_p_ref, proxy, beta, r: at_proxy_optimum(0.0 * log_p_ref, proxy, beta, r),
            "log Z omitted: not normalized": lambda p_ref, proxy, r, beta: np.sum(p_ref * np.exp(proxy / beta) * r, axis=1),
            "beta dropped": lambda log_p_ref, proxy, r: at_proxy_optimum(log_p_ref, proxy, 1.0, r),
            "beta for 1/beta": lambda log_p_ref, proxy, beta, r: at_proxy_optimum(log_p_ref, proxy, 1.0 / beta, r),
        },
        scale=lambda r: 1.0 + np.max(np.abs(r)),
    )
)

# ---------------------------------------------------------------------------------------------------- hacking-slope


def covariance(log_p: Any, f: Any, g: Any) -> Any:
    """Cov_p(f, g), for each prompt."""
    return expect(log_p, (f - expect(log_p, f)[:, None]) * (g - expect(log_p, g)[:, None]))


def hacking_slope(log_p_ref: Any, proxy: Any, r: Any, beta: float) -> Any:
    return -covariance(log_gibbs(log_p_ref, proxy, beta), proxy, r) / beta**2


add(
    Exercise(
        slug="hacking-slope",
        chapter=2,
        notebook="02",
        title="When to stop optimizing",
        minutes=15,
        statement=PROXY + "Return the slope $d\\,\\mathbb{E}_p[r]/d\\beta$ for each prompt: shape `(P,)`, nats. "
        "(Where it is positive, a smaller $\\beta$, more optimization, does harm.)",
        hint="d log p/d beta is the proxy reward, centered, times a power of 1/beta and a sign.",
        rows=("reward-hacking",),
        answer=hacking_slope,
        misses={
            "sign flipped": lambda log_p_ref, proxy, r, beta: -hacking_slope(log_p_ref, proxy, r, beta),
            "1/beta for 1/beta^2: beta squared dropped to beta": lambda log_p_ref, proxy, r, beta: (
                beta * hacking_slope(log_p_ref, proxy, r, beta)
            ),
            "variance of r' for its covariance with r": lambda log_p_ref, proxy, beta: hacking_slope(log_p_ref, proxy, proxy, beta),
            "second moment for covariance": lambda log_p_ref, proxy, r, beta: (
                -at_proxy_optimum(log_p_ref, proxy, beta, proxy * r) / beta**2
            ),
            "covariance under p_ref": lambda log_p_ref, proxy, r, beta: -covariance(log_p_ref, proxy, r) / beta**2,
            "covariance under the optimum of r": lambda log_p_star, proxy, r, beta: -covariance(log_p_star, proxy, r) / beta**2,
        },
        scale=lambda r, proxy, beta: (1.0 + np.max(np.abs(proxy))) * (1.0 + np.max(np.abs(r))) / beta**2,
    )
)
