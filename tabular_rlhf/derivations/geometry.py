r"""Chapter 5 as derivations: Pythagoras for the I-projection, and the arc of Gibbs laws from p_ref to p*."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import jacobian
from tabular_rlhf.derivations.optimum import full_support
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.ledger.chapter5 import CSISZAR, deepest, legs
from tabular_rlhf.logspace import expect, kl, log_ratio, log_softmax, logsumexp

# ---------------------------------------------------------------------------------------------------- i-projection


def with_cross_term(log_p: Any, log_p_star: Any, log_p_ref: Any, f: Any) -> Any:
    """KL(p, p*) + KL(p*, p_ref) + the sum over responses of (p - p*) f."""
    return legs(log_p, log_p_star, log_p_ref) + np.sum((np.exp(log_p) - np.exp(log_p_star)) * f, axis=1)


def in_nats(r: Any, beta: float, log_p_star: Any, log_p_ref: Any) -> float:
    """The size of a term: a log-probability, or a reward over beta."""
    return deepest(log_p_star, log_p_ref) + float(np.max(np.abs(r))) / beta


add(
    Derivation(
        slug="i-projection",
        title="Pythagoras: p* is the nearest to p_ref of all laws with its mean reward",
        chapter=5,
        rows=("i-projection",),
        source=CSISZAR,
        scale=in_nats,
        lines=(
            Line(
                r"\mathrm{KL}(p, p_{ref}) = \sum_\tau p(\tau) \log\frac{p(\tau)}{p_{ref}(\tau)}",
                "Begin with any law p that p_ref covers, for each prompt.",
                lambda log_p, log_p_ref: expect(log_p, log_ratio(log_p, log_p_ref)),
            ),
            Line(
                r"\sum_\tau p(\tau) \left( \log\frac{p(\tau)}{p^*(\tau)} + \log\frac{p^*(\tau)}{p_{ref}(\tau)} \right)",
                "Multiply and divide by p* inside the logarithm.",
                lambda log_p, log_p_star, log_p_ref: expect(log_p, log_ratio(log_p, log_p_star) + log_ratio(log_p_star, log_p_ref)),
                wrong={
                    "the first ratio upside down": lambda log_p, log_p_star, log_p_ref: expect(
                        log_p, log_ratio(log_p_star, log_p) + log_ratio(log_p_star, log_p_ref)
                    ),
                    "the second ratio upside down": lambda log_p, log_p_star, log_p_ref: expect(
                        log_p, log_ratio(log_p, log_p_star) - log_ratio(log_p_star, log_p_ref)
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(p, p^*) + \sum_\tau p(\tau) \log\frac{p^*(\tau)}{p_{ref}(\tau)}",
                "The first ratio, averaged under p, is a KL; the second is not, because its average is not under p*.",
                lambda log_p, log_p_star, log_p_ref: kl(log_p, log_p_star) + expect(log_p, log_ratio(log_p_star, log_p_ref)),
                wrong={
                    "forward for reverse KL": lambda log_p, log_p_star, log_p_ref: (
                        kl(log_p_star, log_p) + expect(log_p, log_ratio(log_p_star, log_p_ref))
                    ),
                    "the second average taken for KL(p*, p_ref): no hypothesis used": lambda log_p, log_p_star, log_p_ref: legs(
                        log_p, log_p_star, log_p_ref
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \sum_\tau (p(\tau) - p^*(\tau)) \log\frac{p^*(\tau)}{p_{ref}(\tau)}",
                "Add and subtract the average under p*, which is the KL that we want. The last sum is the cross term.",
                lambda log_p, log_p_star, log_p_ref: with_cross_term(log_p, log_p_star, log_p_ref, log_ratio(log_p_star, log_p_ref)),
                wrong={
                    "the second leg reversed": lambda log_p, log_p_star, log_p_ref: (
                        with_cross_term(log_p, log_p_star, log_p_ref, log_ratio(log_p_star, log_p_ref))
                        + kl(log_p_ref, log_p_star)
                        - kl(log_p_star, log_p_ref)
                    ),
                    "the cross term subtracted": lambda log_p, log_p_star, log_p_ref: with_cross_term(
                        log_p, log_p_star, log_p_ref, -log_ratio(log_p_star, log_p_ref)
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \sum_\tau (p(\tau) -"
                r" p^*(\tau)) \left( \frac{r(\tau)}{\beta} - \log Z \right)",
                "Put in p* = p_ref exp(r/beta)/Z: this is where it matters that p* is a Gibbs law.",
                lambda log_p, log_p_star, log_p_ref, r, beta, log_Z: with_cross_term(
                    log_p, log_p_star, log_p_ref, r / beta - log_Z[:, None]
                ),
                wrong={
                    "beta for 1/beta": lambda log_p, log_p_star, log_p_ref, r, beta, log_Z: with_cross_term(
                        log_p, log_p_star, log_p_ref, beta * r - log_Z[:, None]
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \frac{1}{\beta} \left("
                r" \sum_\tau p(\tau) r(\tau) - \sum_\tau p^*(\tau) r(\tau) \right)"
                r" - \log Z \left( \sum_\tau p(\tau) - \sum_\tau p^*(\tau) \right)",
                "beta and Z do not depend on the response.",
                lambda log_p, log_p_star, log_p_ref, p, p_star, r, beta, log_Z: (
                    legs(log_p, log_p_star, log_p_ref)
                    + (np.sum(p * r, axis=1) - np.sum(p_star * r, axis=1)) / beta
                    - log_Z * (np.sum(p, axis=1) - np.sum(p_star, axis=1))
                ),
                wrong={
                    "log Z kept for p alone": lambda log_p, log_p_star, log_p_ref, p, p_star, r, beta, log_Z: (
                        legs(log_p, log_p_star, log_p_ref) + (np.sum(p * r, axis=1) - np.sum(p_star * r, axis=1)) / beta - log_Z
                    ),
                    "the average under p* forgotten": lambda log_p, log_p_star, log_p_ref, p, r, beta: (
                        legs(log_p, log_p_star, log_p_ref) + np.sum(p * r, axis=1) / beta
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(p, p^*) + \mathrm{KL}(p^*, p_{ref}) + \frac{1}{\beta} \left( \mathbb{E}_p[r] - \mathbb{E}_{p^*}[r] \right)",
                "Both laws sum to one. This holds for every p.",
                lambda log_p, log_p_star, log_p_ref, E_r, r, beta: (
                    legs(log_p, log_p_star, log_p_ref) + (E_r - expect(log_p_star, r)) / beta
                ),
                wrong={
                    "E_ref[r] for E_p*[r]": lambda log_p, log_p_star, log_p_ref, E_r, r, beta: (
                        legs(log_p, log_p_star, log_p_ref) + (E_r - expect(log_p_ref, r)) / beta
                    ),
                    "1/beta dropped": lambda log_p, log_p_star, log_p_ref, E_r, r: (
                        legs(log_p, log_p_star, log_p_ref) + E_r - expect(log_p_star, r)
                    ),
                    "Pythagoras for every p": lambda log_p, log_p_star, log_p_ref: legs(log_p, log_p_star, log_p_ref),
                },
            ),
            Line(
                r"\frac{1}{\beta} \left( \mathbb{E}_q[r] - \mathbb{E}_{p^*}[r] \right), \quad \mathbb{E}_q[r] = \mathbb{E}_{p^*}[r]",
                "Now a law q that has the mean reward of p*, not any law p: what is left of the cross term?",
                lambda log_p_level, log_p_star, r, beta: (expect(log_p_level, r) - expect(log_p_star, r)) / beta,
                relation="so",
            ),
            Line(
                "0",
                "Nothing: that is the hypothesis.",
                lambda log_Z: np.zeros_like(log_Z),
                wrong={
                    "the mean of p_ref is no substitute": lambda log_p_level, log_p_ref, r, beta: (
                        (expect(log_p_level, r) - expect(log_p_ref, r)) / beta
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(p^*, p_{ref})",
                "Go back to line 7, now without its cross term.",
                lambda log_p_star, log_p_ref: kl(log_p_star, log_p_ref),
                relation="so",
            ),
            Line(
                r"\mathrm{KL}(q, p^*) + \mathrm{KL}(p^*, p_{ref})",
                "A KL is never negative, and 0 only at q = p*.",
                lambda log_p_level, log_p_star, log_p_ref: legs(log_p_level, log_p_star, log_p_ref),
                relation="<=",
                wrong={
                    "the legs subtracted": lambda log_p_level, log_p_star, log_p_ref: (
                        kl(log_p_star, log_p_ref) - kl(log_p_level, log_p_star)
                    ),
                },
            ),
            Line(
                r"\mathrm{KL}(q, p_{ref})",
                "This is line 7 for q: p* is the I-projection of p_ref, the nearest law of its mean reward.",
                lambda log_p_level, log_p_ref: kl(log_p_level, log_p_ref),
                wrong={
                    "forward for reverse KL": lambda log_p_level, log_p_ref: kl(log_p_ref, log_p_level),
                    "any law, off the set": lambda log_p, log_p_ref: kl(log_p, log_p_ref),
                },
            ),
        ),
        letters={"q": "p_level"},
    )
)

# ---------------------------------------------------------------------------------------------------- e-geodesic


def log_Z_at(log_p_ref: Any, r: Any, s: Any) -> Any:
    """log Z_s = log of the sum of p_ref exp(s r), for each prompt; traced in s."""
    return logsumexp(log_p_ref + s * r)


def slope_of_log_Z(log_p_ref: Any, r: Any, s: float) -> Any:
    """d log Z_s/ds for each prompt, by the gradient core."""
    return jacobian(lambda u: log_Z_at(log_p_ref, r, u))(np.array(s))


def slope_on_arc(log_p_ref: Any, r: Any, s: float) -> Any:
    """d log p_s(tau)/ds with p_s = p_ref exp(s r)/Z_s normalized by log_softmax, by the gradient core."""
    return jacobian(lambda u: log_softmax(log_p_ref + u * r))(np.array(s))


def weighted_reward(log_p_ref: Any, r: Any, beta: float, log_norm: Any) -> Any:
    """The sum over responses of p_ref r exp(r/beta) over a normalizer given by its logarithm, (P, 1)."""
    return np.sum(np.exp(log_p_ref + r / beta - log_norm) * r, axis=1, keepdims=True)


add(
    Derivation(
        slug="e-geodesic",
        title="The Gibbs laws of all beta are one exponential arc from p_ref",
        chapter=5,
        rows=("e-geodesic",),
        source=CSISZAR,
        where=lambda log_p_ref, log_p_star: full_support(log_p_ref) and deepest(log_p_star) < 300,
        scale=in_nats,
        lines=(
            Line(
                r"\log p_t(\tau), \quad p_t = \frac{p_{ref}\, e^{t r/\beta}}{Z_t}",
                "The Gibbs law at beta/t: p_ref at t = 0, p* at t = 1.  Every response is possible under p_ref.",
                lambda log_p_ref, r, beta, t: log_gibbs(log_p_ref, r, beta / t),
            ),
            Line(
                r"\log p_{ref}(\tau) + t\, \frac{r(\tau)}{\beta} - \log Z_t",
                "The logarithm of a product is a sum.",
                lambda log_p_ref, r, beta, t: log_p_ref + t * r / beta - log_Z_at(log_p_ref, r, t / beta)[:, None],
                wrong={
                    "beta for 1/beta": lambda log_p_ref, r, beta, t: log_p_ref + t * beta * r - log_Z_at(log_p_ref, r, t * beta)[:, None],
                    "Z of t = 1 for Z_t": lambda log_p_ref, r, beta, t, log_Z: log_p_ref + t * r / beta - log_Z[:, None],
                },
            ),
            Line(
                r"\log p_{ref}(\tau) + t \left( \log\frac{p^*(\tau)}{p_{ref}(\tau)} + \log Z \right) - \log Z_t",
                "Read p* = p_ref exp(r/beta)/Z backwards: r/beta = log(p*/p_ref) + log Z.",
                lambda log_p_ref, r, beta, t, log_p_star, log_Z: (
                    log_p_ref + t * (log_p_star - log_p_ref + log_Z[:, None]) - log_Z_at(log_p_ref, r, t / beta)[:, None]
                ),
                wrong={
                    "log Z omitted": lambda log_p_ref, r, beta, t, log_p_star: (
                        log_p_ref + t * (log_p_star - log_p_ref) - log_Z_at(log_p_ref, r, t / beta)[:, None]
                    ),
                },
            ),
            Line(
                r"(1 - t) \log p_{ref}(\tau) + t \log p^*(\tau) - (\log Z_t - t \log Z)",
                "Collect the terms of each law; what does not depend on the response stands in the bracket.",
                lambda log_p_ref, r, beta, t, log_p_star, log_Z: (
                    (1.0 - t) * log_p_ref + t * log_p_star - (log_Z_at(log_p_ref, r, t / beta) - t * log_Z)[:, None]
                ),
                wrong={
                    "the weights exchanged": lambda log_p_ref, r, beta, t, log_p_star, log_Z: (
                        t * log_p_ref + (1.0 - t) * log_p_star - (log_Z_at(log_p_ref, r, t / beta) - t * log_Z)[:, None]
                    ),
                    "t forgotten at log Z": lambda log_p_ref, r, beta, t, log_p_star, log_Z: (
                        (1.0 - t) * log_p_ref + t * log_p_star - (log_Z_at(log_p_ref, r, t / beta) - log_Z)[:, None]
                    ),
                },
            ),
            Line(
                r"(1 - t) \log p_{ref}(\tau) + t \log p^*(\tau) - \log \sum_{\tau'} p_{ref}(\tau')^{1-t}\, p^*(\tau')^t",
                "The bracket is what makes the law sum to one: a straight line in log-probabilities, normalized again.",
                lambda log_p_ref, t, log_p_star: (
                    (1.0 - t) * log_p_ref + t * log_p_star - logsumexp((1.0 - t) * log_p_ref + t * log_p_star)[:, None]
                ),
                wrong={
                    "not normalized again": lambda log_p_ref, t, log_p_star: (1.0 - t) * log_p_ref + t * log_p_star,
                    "probabilities mixed for log-probabilities": lambda p_ref, t, p_star: np.log((1.0 - t) * p_ref + t * p_star),
                },
            ),
            Line(
                r"\frac{d}{ds} \log p_s(\tau) \Big|_{s = 1/\beta}, \quad \log p_s = \log p_{ref} + s\, r - \log Z_s",
                "The velocity on the arc, in s = 1/beta, where p_s = p*; by the gradient core.",
                lambda log_p_ref, r, beta: slope_on_arc(log_p_ref, r, 1.0 / beta),
                relation="so",
            ),
            Line(
                r"r(\tau) - \frac{d}{ds} \log Z_s",
                "p_ref does not move with s, and s r has slope r; Z_s does move.",
                lambda log_p_ref, r, beta: r - slope_of_log_Z(log_p_ref, r, 1.0 / beta)[:, None],
                wrong={"Z taken for a constant": lambda r: 1.0 * r},
            ),
            Line(
                r"r(\tau) - \frac{1}{Z} \sum_{\tau'} p_{ref}(\tau')\, r(\tau')\, e^{r(\tau')/\beta}",
                "The chain rule: d log Z = dZ/Z, and each exponential brings down its r.",
                lambda log_p_ref, r, beta, log_Z: r - weighted_reward(log_p_ref, r, beta, log_Z[:, None]),
                wrong={
                    "1/Z forgotten": lambda log_p_ref, r, beta, log_Z: r - weighted_reward(log_p_ref, r, beta, 0.0 * log_Z[:, None]),
                    "the r not brought down": lambda log_p_ref, r, beta, log_Z: (
                        r - np.sum(np.exp(log_p_ref + r / beta - log_Z[:, None]), axis=1, keepdims=True)
                    ),
                },
            ),
            Line(
                r"r(\tau) - \mathbb{E}_{p^*}[r]",
                "p_ref exp(r/beta)/Z is p*: the velocity is the reward, centered where one stands.",
                lambda log_p_star, r: r - expect(log_p_star, r)[:, None],
                wrong={
                    "centered at p_ref": lambda log_p_ref, r: r - expect(log_p_ref, r)[:, None],
                    "divided by beta": lambda log_p_star, r, beta: (r - expect(log_p_star, r)[:, None]) / beta,
                },
            ),
        ),
        letters={"p_t": "p_ref*exp(t*r/beta)/Z_t", "Z_t": "sum_tau p_ref(tau)*exp(t*r(tau)/beta)"},
    )
)
