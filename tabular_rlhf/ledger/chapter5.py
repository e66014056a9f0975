r"""Chapter 5: information geometry.  Projections, and where Pythagoras holds and where it fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, jacobian
from tabular_rlhf.autodiff.derivatives import central
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.record import Approximately, Miss, Sampled, claim
from tabular_rlhf.logspace import Array, expect, kl, log_ratio, log_softmax, log_tilt
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import NGram
from tabular_rlhf.projection import expected_counts
from tabular_rlhf.terms.policies import averaged_policy, visited
from tabular_rlhf.terms.sizes import deepest
from tabular_rlhf.terms.sources import CSISZAR

# ---------------------------------------------------------------------------------------------------- i-projection


def legs(log_p: Any, log_q: Any, log_p_ref: Any) -> Any:
    """KL(p, q) + KL(q, p_ref): the two short sides, by way of q."""
    return kl(log_p, log_q) + kl(log_q, log_p_ref)


claim(
    slug="i-projection",
    chapter=5,
    text=r"""
    let q = p_level
    \mathrm{KL}(q, p_{ref}) = \mathrm{KL}(q, p^*) + \mathrm{KL}(p^*, p_{ref})
      not KL(p_star, q) + KL(p_star, p_ref)  # forward for reverse KL
      not KL(q, p_star) + KL(p_ref, p_star)  # second leg reversed
      not KL(q, g) + KL(g, p_ref), where g \propto p_ref*exp(r)  # another optimum: r for r/beta
    \mathrm{KL}(p^*, p_{ref}) \le \mathrm{KL}(q, p_{ref})
    \mathrm{KL}(p, p_{ref}) = \mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \frac{\mathbb{E}_p[r] - \mathbb{E}_{p^*}[r]}{\beta}
      slip the term (E_{p}[r] - E_{p_star}[r])/beta dropped; beta dropped
    \mathbb{E}_q[r] = \mathbb{E}_{p^*}[r]  # where q is any law with the mean reward of the optimum, and p any law
    """,
    source=CSISZAR,
    note="p* is the I-projection of p_ref onto the laws of its mean reward: part 2 compares with another law of that set.",
    parts=("on the set", "nearest of the set", "any p"),
    sides={
        "KL(p, p_ref)": 0,
        "by way of p*": (1, "min(KL(q, p_ref), KL(p_star, p_ref))", 1),
        "by the mean reward and log Z": (
            "KL(q, p_star) + E_q[r]/beta - log Z",
            "E_{p_star}[r]/beta - log Z",
            "KL(p, p_star) + E_p[r]/beta - log Z",
        ),
    },
    sampled=Sampled(
        "log_p_level",
        lambda log_p_level, log_p_star: log_ratio(log_p_level, log_p_star),
        lambda mu, log_p_level, log_p_star, log_p_ref: np.sum(mu * (kl(log_p_level, log_p_ref) - kl(log_p_star, log_p_ref))),
    ),
    scale=lambda r, beta, log_p_star, log_p_ref: deepest(log_p_star, log_p_ref) + float(np.max(np.abs(r))) / beta,
)

# ---------------------------------------------------------------------------------------------------- e-geodesic


def velocity(log_p_ref: Any, r: Any, s: float) -> Any:
    """d log p/ds along the arc p_ref exp(s r)/Z, by the gradient core; 0 where p_ref is."""
    possible = ~np.isneginf(log_p_ref)
    slope = jacobian(lambda t: np.where(possible, log_tilt(log_p_ref, t * r, 1.0), 0.0))(np.array(s))
    return np.where(possible, slope, 0.0)


def centered(log_p: Any, log_p_ref: Any, r: Any) -> Any:
    return np.where(np.isneginf(log_p_ref), 0.0, r - expect(log_p, r)[:, None])


claim(
    slug="e-geodesic",
    chapter=5,
    text=r"""
    let t = eps
    \frac{p_{ref}^{1 - t}\, (p^*)^t}{\sum_\tau p_{ref}^{1 - t}\, (p^*)^t} = \frac{p_{ref}\, e^{t r/\beta}}{\sum_\tau p_{ref}\, e^{t
        r/\beta}}
      not (1 - t)*p_ref + t*p_star  # probabilities mixed for log-probabilities
      not g, where g \propto p_ref*exp(r/(beta*t))  # beta for 1/beta
      not p_ref^{1 - t}*(p_star)^t  # log Z omitted: not normalized
    \frac{d}{ds} \log q = r - \mathbb{E}_q[r], \quad q \propto p_{ref}\, e^{s r}, \quad s = \frac{1}{\beta}
        # between 0 and 1: the laws between the reference and the optimum are optima, too, and move by the centered reward
    """,
    source=CSISZAR,
    parts=("p on the arc", "velocity"),
    sides={
        "tilt of p_ref with beta/t": (1, lambda log_p_star, log_p_ref, r: centered(log_p_star, log_p_ref, r)),
        "normalized geometric mixture; gradient core": (0, lambda log_p_ref, r, beta: velocity(log_p_ref, r, 1.0 / beta)),
        "tilt of p* back; difference along the arc": Approximately(
            lambda log_p_ref, log_p_star, eps, r, beta: (
                np.exp(log_gibbs(log_p_star, -r, beta / (1.0 - eps))),
                difference_along(log_p_ref, r, 1.0 / beta),
            ),
            error=1e-7,
        ),
    },
    misses={
        "velocity not centered": Miss(lambda r: r * 1.0, part=1),
        "velocity centered at p_ref": Miss(lambda log_p_ref, r: centered(log_p_ref, log_p_ref, r), part=1),
    },
    scale=lambda r, log_p_star, log_p_ref: (1.0 + deepest(log_p_star, log_p_ref), 1.0 + float(np.max(np.abs(r)))),
    where=lambda log_p_star, log_p_ref: deepest(log_p_star) < 300 and bool(np.all(np.isneginf(log_p_star) == np.isneginf(log_p_ref))),
    largest=2**9,
)


def difference_along(log_p_ref: Any, r: Any, s: float) -> Any:
    """d log p/ds by a fourth-order central difference, of step 1e-3/spread of r."""
    possible = ~np.isneginf(log_p_ref)
    h = 1e-3 / max(1.0, float(np.max(r) - np.min(r)))

    def log_p(t: float) -> Any:
        return np.where(possible, log_tilt(log_p_ref, (s + t) * r, 1.0), 0.0)

    return central(log_p, h)


# ---------------------------------------------------------------------------------------------------- m-projection-counts


def log_likelihood(mdp: Any, tied: Any, mu: Any, log_p_star: Any, theta: Any) -> Any:
    """E_mu E_{p*}[log p_theta]: minus the forward KL, up to a constant."""
    return np.sum(mu * expect(log_p_star, mdp.path_sum(tied.log_pi(theta))))


def one_natural_step(mdp: Any, tied: Any, mu: Any, log_p_star: Any, theta_tied: Any) -> Any:
    """pi_theta + gradient/visits: the likelihood's slope in logits is count(c, a) - count(c) pi(a given c), so one step arrives."""
    slope = grad(lambda t: log_likelihood(mdp, tied, mu, log_p_star, t))(theta_tied)
    seen = visited(tied, log_p_star)
    step = np.exp(log_softmax(theta_tied)) + slope / np.where(seen > 0, seen, 1.0)
    return np.where(seen > 0, step, 1.0 / mdp.V)


def counts_of_strings(mdp: TokenMDP, tied: NGram, mu: Any, p_star: Any) -> Array:
    """The same ratio from strings: walk through every response and count its (last k tokens, token) pairs."""

    def context(before: list[int]) -> tuple[Any, ...]:
        return tuple(before[len(before) - min(tied.k, len(before)) :])

    numbers = {context([t for t in row if t >= 0]): c for row, c in zip(mdp.state_tokens().tolist(), tied.context.tolist(), strict=True)}
    counts = np.zeros(tied.shape)
    weight = np.sum(mu[:, None] * p_star, axis=0)
    for words, w in zip(mdp.tokens().tolist(), weight.tolist(), strict=True):
        said = [t for t in words if t >= 0]
        for h, a in enumerate(said):
            counts[numbers[context(said[:h])], a] += w
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), 1.0 / mdp.V)


claim(
    slug="m-projection-counts",
    chapter=5,
    text=r"""
    \hat\pi(a \mid c) = \frac{\sum_{s \in c} d_{p^*}(s)\, \pi^*(a \mid s)}{\sum_{s \in c} d_{p^*}(s)}
    \mathbb{E}_{x \sim \mu}\Big[\sum_s d_{p^*}(s)\, \hat\pi(a \mid s)\Big] = \mathbb{E}_{x \sim \mu}\Big[\sum_s d_{p^*}(s)\, \pi^*(a \mid
        s)\Big]
        # is the tied policy nearest to the optimum in forward KL: the expected counts in each context, and in all of them together
    """,
    source="Maximum likelihood of a multinomial; " + CSISZAR,
    parts=("pi(a given c)", "gradient of the forward KL there"),
    sides={
        "expected counts": lambda tied, theta_hat: (np.exp(theta_hat), np.zeros(tied.shape)),
        "one natural-gradient step from a drawn policy; gradient core": lambda mdp, tied, mu, log_p_star, theta_tied, theta_hat: (
            one_natural_step(mdp, tied, mu, log_p_star, theta_tied),
            grad(lambda t: log_likelihood(mdp, tied, mu, log_p_star, t))(theta_hat),
        ),
        "counting in strings": lambda mdp, tied, mu, p_star: (counts_of_strings(mdp, tied, mu, p_star), np.zeros(tied.shape)),
    },
    misses={
        "d_ref for d_p*": lambda tied, mu, log_pi_star, d_ref: averaged_policy(tied, mu, log_pi_star, d_ref + 1e-300),
        "d_pi for d_p*": lambda tied, mu, log_pi_star, d_pi: averaged_policy(tied, mu, log_pi_star, d_pi + 1e-300),
        "states averaged without visits": lambda tied, mu, log_pi_star, d_pi: averaged_policy(tied, mu, log_pi_star, np.ones_like(d_pi)),
        "unconditional for conditional": lambda tied, log_p_star: expected_counts(tied, log_p_star),
    },
    scale=lambda mdp, tied, log_p_star: (
        mdp.H * max(1.0, 1.0 / max(1e-300, float(np.min(visited(tied, log_p_star), initial=1.0, where=visited(tied, log_p_star) > 0)))),
        float(mdp.H),
    ),
    where=lambda tied, log_p_star: np.min(visited(tied, log_p_star), initial=1.0, where=visited(tied, log_p_star) > 0) > 1e-9,
    largest=2**12,
)

# ---------------------------------------------------------------------------------------------------- m-projection-gap


claim(
    slug="m-projection-gap",
    chapter=5,
    text=r"""
    let p_pi = p_tied; p_pi_hat = p_hat; pi = pi_tied; d_pi_hat = d_hat
    \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p^*, p_\pi) - \mathrm{KL}(p^*, p_{\hat\pi})] = \mathbb{E}_{x \sim \mu}\Big[\sum_s d_{p^*}(s)\,
        \mathrm{KL}(\hat\pi(\cdot \mid s), \pi(\cdot \mid s))\Big]
      slip d_ref for d_star; arguments of KL swapped
      not E_mu[KL(p_hat, p_tied)]  # d_hat for d_p*: Pythagoras
      not E_mu[sum_s p_tied(s)*KL(pi_hat(. | s), pi_tied(. | s))]  # d_pi for d_p*
    \mathbb{E}_{x \sim \mu}[\mathrm{KL}(p^*, p_\pi) - \mathrm{KL}(p^*, p_{\hat\pi}) - \mathrm{KL}(p_{\hat\pi}, p_\pi)] = \mathbb{E}_{x \sim
        \mu}\Big[\sum_s (d_{p^*}(s) - d_{\hat\pi}(s))\, \mathrm{KL}(\hat\pi(\cdot \mid s), \pi(\cdot \mid s))\Big]
        # in a tied class, whose forward projection is the policy with a hat
    """,
    source=CSISZAR,
    note="The weights are the target's visits: covariate shift.  Part 2: by how much the Pythagorean identity fails.",
    parts=("gap", "defect of Pythagoras"),
    sides={
        "differences of KL over responses": 0,
        "KL of rows, weighted by visits": 1,
    },
    misses={"Pythagoras without defect": Miss(lambda: 0.0, part=1)},
    scale=lambda mdp, log_p_star, log_p_hat, log_p_tied: mdp.H * deepest(log_p_star, log_p_hat, log_p_tied),
)
