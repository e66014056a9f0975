"""Exercises on chapter 2: how long one waits for a reward, how errors compound, and what a proxy reward earns."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.exercises.record import GIBBS, exercise

# ---------------------------------------------------------------------------------------------------- episodes-until-success


RATE = {"q": "sum_tau p_ref*success"}
"""The chance of a reward in one episode."""
SUCCESS = "`success` is 1 for the responses of a set $G$ that are rewarded and 0 for all others, of shape `(P, N)`. "

exercise(
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
    letters=RATE,
    text=r"""
    \frac{1}{q}
      not \frac{1}{q} - 1  # n - 1 for n: failures before the first success
      not q  # the chance of success, not the wait for it
      not \frac{N}{\sum_y success}  # p_ref omitted: uniform play
      not \frac{1}{\sum_y p\, success}  # p for p_ref
      not -\frac{\log q}{\log 2}  # log for the inverse: bits, not episodes
    """,
)

# ---------------------------------------------------------------------------------------------------- union-bound


exercise(
    slug="union-bound",
    chapter=2,
    notebook="02",
    title="Several attempts, and a bound",
    statement=(
        SUCCESS + "Let $q = p_{ref}(G)$ be the probability of a reward in one episode, and take $n$ = `draws` independent episodes. The "
        "probability that at least one of them is rewarded is at most $n q$ (the union bound). Return how much the bound gives "
        "away, $n q$ minus that probability, for each prompt: shape `(P,)`, never negative."
    ),
    hint="At least one success is the opposite of n failures.",
    rows=("exploration",),
    letters=RATE,
    given=("p_ref", "success", "draws"),
    scale=lambda draws: draws,
    text=r"""
    n q - (1 - (1 - q)^n)
      not 1 - (1 - q)^n - n q  # sign flipped
      not n q - (1 - q)^n  # the complement: n failures for at least one success
      not n q - q^n  # every episode rewarded for at least one
      not n q (1 - (1 - q)^{n - 1})  # exactly one success for at least one
      not q - (1 - (1 - q)^n)  # n dropped from the bound: q for n q
    """,
)

# ---------------------------------------------------------------------------------------------------- compounding-cost


exercise(
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
    given=("H", "eps"),
    text=r"""
    \sum_{h=1}^{H} (1 - (1 - \epsilon)^h)
      not \epsilon H  # the expert's visits for one's own: eps H
      not \sum_{h=0}^{H-1} (1 - (1 - \epsilon)^h)  # n - 1 for n: the first token cannot err
      not \epsilon \frac{H (H + 1)}{2}  # the bound eps H (H + 1)/2 taken for the cost
      not \epsilon H^2  # the bound eps H^2 taken for the cost
      not 1 - (1 - \epsilon)^H  # the chance of any mistake, not their number
    """,
)

# ---------------------------------------------------------------------------------------------------- proxy-optimum


PROXY_OPTIMUM = {**GIBBS, "q": "p_ref*exp(proxy/beta)/sum_tau p_ref*exp(proxy/beta)"}
PROXY = (
    "`proxy` is a reward $r'$ that we can measure, `r` the reward $r$ that we want, both of shape `(P, N)`. Maximizing "
    "$\\mathbb{E}_p[r'] - \\beta\\,\\mathrm{KL}(p, p_{ref})$ leads to $p \\propto p_{ref}\\, e^{r'/\\beta}$, normalized for each prompt. "
)

exercise(
    slug="proxy-optimum",
    chapter=2,
    notebook="02",
    title="What the optimum of a proxy is worth",
    statement=PROXY + "Return what we get of what we want there, $\\mathbb{E}_p[r]$: shape `(P,)`, reward units.",
    hint="Two rewards: one makes the policy, the other judges it.",
    rows=("reward-hacking",),
    letters=PROXY_OPTIMUM,
    given=("log_p_ref", "proxy", "r", "beta"),
    scale=lambda r: 1.0 + np.max(np.abs(r)),
    text=r"""
    \mathbb{E}_q[r]
      not \mathbb{E}_q[r']  # the proxy reward for the true one: E[r']
      not \mathbb{E}_{p^*}[r]  # the optimum of r for that of the proxy
      not \mathbb{E}_{p^*}[r']  # the two rewards swapped
      not \frac{\sum_y e^{r'/\beta} r}{\sum_y e^{r'/\beta}}  # p_ref omitted: softmax of r' alone
      not \sum_y p_{ref}\, e^{r'/\beta} r  # log Z omitted: not normalized
      not \sum_y gibbs(r')\, r  # beta dropped
      not \sum_y gibbs(\beta r')\, r  # beta for 1/beta
    """,
)

# ---------------------------------------------------------------------------------------------------- hacking-slope


exercise(
    slug="hacking-slope",
    chapter=2,
    notebook="02",
    title="When to stop optimizing",
    minutes=15,
    statement=(
        PROXY + "Return the slope $d\\,\\mathbb{E}_p[r]/d\\beta$ for each prompt: shape `(P,)`, nats. "
        "(Where it is positive, a smaller $\\beta$, more optimization, does harm.)"
    ),
    hint="d log p/d beta is the proxy reward, centered, times a power of 1/beta and a sign.",
    rows=("reward-hacking",),
    letters=PROXY_OPTIMUM,
    given=("log_p_ref", "proxy", "r", "beta"),
    scale=lambda r, proxy, beta: (1.0 + np.max(np.abs(proxy))) * (1.0 + np.max(np.abs(r))) / beta**2,
    text=r"""
    -\frac{1}{\beta^2} \mathrm{Cov}_q(r', r)
      slip sign flipped
      not -\frac{1}{\beta} \mathrm{Cov}_q(r', r)  # 1/beta for 1/beta^2: beta squared dropped to beta
      not -\frac{1}{\beta^2} \mathrm{Var}_q(r')  # variance of r' for its covariance with r
      not -\frac{1}{\beta^2} \mathbb{E}_q[r' r]  # second moment for covariance
      not -\frac{1}{\beta^2} \mathrm{Cov}_{p_{ref}}(r', r)  # covariance under p_ref
      not -\frac{1}{\beta^2} \mathrm{Cov}_{p^*}(r', r)  # covariance under the optimum of r
    """,
)
