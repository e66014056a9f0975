r"""Everything the package can say of one loss on one world, as a frozen report.

**Symbols.**  p_ref, p* and J as in `gibbs`; labels are Bradley-Terry's under the world's reward, two responses drawn from p_ref, or from a
sampler q (the same one twice tells nothing and is left out).  regret = beta E_mu KL(p, p*), in reward units.

**Descent.**  Under gradient flow on response logits, d log p(y)/dt = -[(I - 1 p^T) g_theta](y): we report its mean over winners and
losers at the reference.

**Noise.**  n comparisons give an optimum theta_n with covariance  H^+ G H^+ / n,  H the Hessian and G the covariance of one pair's
gradient at the population optimum (the sandwich; H^+ leaves out what the data do not determine).  For the policy this is
n E KL(p_n, p) -> (1/2) sum p Var(log p): one number, in nats for one comparison.

Source: White (1982), Maximum likelihood estimation of misspecified models, Econometrica 50.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.gibbs import Gibbs, solve
from tabular_rlhf.layout import fold, table, wrap
from tabular_rlhf.logspace import Array, kl
from tabular_rlhf.losses.evaluate import gradient, ingredients, logit_gradient, settings_at, value, weights
from tabular_rlhf.losses.objectives import maximized
from tabular_rlhf.losses.optimum import Minimum, minima, minimize
from tabular_rlhf.losses.problem import prompt_problem
from tabular_rlhf.losses.record import LOSSES, TRAITS, DirectLoss, find
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs, sure
from tabular_rlhf.tex import plain
from tabular_rlhf.told import settled
from tabular_rlhf.world import World

Drawn = Callable[[World], Array]
"""A world -> log q (P, N), the law of the responses that are compared there."""
AGREES = 1e-6
"""Total variation between a closed form and the minimizer that was found, below which they are the same."""


@dataclass(frozen=True, eq=False)
class LossReport:
    """One loss on one world; see `analyse`.

    gibbs, the solution of its world; value_at_ref; gradient_at_ref (P, N), in response logits; at_ref, whether that is at
    p_ref, or at another policy that is updated; optimum, reached from p_ref; others,
    further minima found; kl_to_gibbs (nats) and regret (reward units) of the optimum; tv_to_closed_form, None where none is known;
    objective, the named one that it maximizes, measured (`objectives`), None where there is none;
    certain, the optimum under certain labels; shift, the largest change of a pair's loss when c(x) = 1 is added to both log-ratios;
    winner_rate and loser_rate, d log p/dt at the reference; noise, n E KL of the optimum from n comparisons; covariance (P, N, N),
    n times that of log p, None where the optimum is not attained, is not smooth, or has frozen parameters.
    """

    loss: DirectLoss
    gibbs: Gibbs
    settings: Mapping[str, Any]
    value_at_ref: float
    gradient_at_ref: Array
    at_ref: bool
    optimum: Minimum
    others: tuple[Minimum, ...]
    kl_to_gibbs: float
    regret: float
    tv_to_closed_form: float | None
    objective: str | None
    certain: Minimum
    shift: float
    winner_rate: float
    loser_rate: float
    covariance: Array | None

    @property
    def world(self) -> World:
        return self.gibbs.world

    @property
    def noise(self) -> float | None:
        """n E KL(p_n, p) as n grows, in nats, averaged over prompts."""
        if self.covariance is None:
            return None
        p = np.exp(self.optimum.log_p)
        return float(0.5 * np.sum(self.world.mu[:, None] * p * np.einsum("xii->xi", self.covariance)))

    def rows(self) -> list[tuple[str, str]]:
        """The report as (question, answer)."""
        tv, here = self.tv_to_closed_form, "p_ref" if self.at_ref else "pi"
        moves = "rises" if self.winner_rate > 0 else "falls"
        closed = "none known" if tv is None else f"{'agrees to' if tv <= AGREES else 'is another law, by'} {tv:.1e} in total variation"
        return [
            ("loss", f"{self.loss.name}   {plain(self.loss.latex)}"),
            ("source", self.loss.source),
            ("traits", ", ".join(sorted(self.loss.traits))),
            (f"value at {here}", f"{self.value_at_ref:.6g}"),
            (f"largest slope at {here}", f"{float(np.max(np.abs(self.gradient_at_ref))):.6g} a nat of logit"),
            ("population optimum", f"{self.optimum.words}; value {self.optimum.value:.6g}"),
            *[("", f"{name}: {text}") for name, text in direction(self.world, self.optimum)],
            *[("another minimum", f"{m.words}; value {m.value:.6g}") for m in self.others],
            ("is the optimum of", self.objective or "no objective named here"),
            ("closed form", closed),
            ("KL to p*", f"{settled(self.kl_to_gibbs):.6g} nats"),
            ("regret", f"{settled(self.regret, size_of(self.world)):.6g} reward units"),
            ("certain labels", self.certain.words),
            ("added c(x) = 1", "unchanged" if self.shift < 1e-9 else f"a pair's loss changes by up to {self.shift:.3g}"),
            (f"descent from {here}", f"log p(y_w) {moves} at {self.winner_rate:+.3g}, log p(y_l) at {self.loser_rate:+.3g}"),
            ("noise of n comparisons", "not defined here" if self.noise is None else f"{self.noise:.4g}/n nats of KL"),
        ]

    def __str__(self) -> str:
        """The report as a table."""
        return "\n".join(fold(f"{question:<22}  {answer}") for question, answer in self.rows())


def direction(world: World, m: Minimum) -> list[tuple[str, str]]:
    """Which responses vanish on the way to an optimum that is not attained."""
    gone = [world.mdp.text(int(y), int(x)) or "(empty)" for x, y in np.argwhere(m.vanishing)]
    return [("vanishing", ", ".join(gone[:6]) + (f" and {len(gone) - 6} more" if len(gone) > 6 else ""))] if gone else []


def from_reference(world: World) -> Array:
    """log p_ref: who draws the responses that are compared, if nobody else is said to."""
    return world.log_p_ref


def analyse(
    loss: str | DirectLoss, world: World, /, *, drawn: Drawn = from_reference, at: Array | None = None, **changes: Any
) -> LossReport:
    """All that is known of a loss on a small world, computed exactly.

    Args: loss, a record or its name; world, of at most about 64 responses a prompt; drawn, who draws the responses that are compared;
    at, log p (P, N) of the policy at which slopes are measured, p_ref by default; changes, of the loss's parameters.
    Raises: SolveError where an optimum is not found; InputError for a world with one response.

    >>> from tabular_rlhf.world import coin
    >>> report = analyse("dpo", coin(beta=0.5)); report.optimum.words, round(report.regret, 9)
    ('attained, unique', 0.0)
    """
    loss = find(loss)
    pairs = population_pairs(world, bradley_terry(world.r), drawn(world)).distinct()
    ref = world.log_p_ref if at is None else at
    best, found = solve(world), minimize(loss, world, pairs, **changes)
    others = tuple(m for m in minima(loss, world, pairs, **changes) if not np.allclose(np.exp(m.log_p), np.exp(found.log_p), atol=1e-7))
    slope = logit_gradient(ref, gradient(loss, world, ref, pairs, **changes))
    rates = -slope + np.sum(np.exp(ref) * slope, axis=1, keepdims=True)
    weight = weights(pairs)
    return LossReport(
        loss=loss,
        gibbs=best,
        settings=settings_at(loss, world, ref, pairs, changes),
        value_at_ref=float(value(loss, world, ref, pairs, **changes)),
        gradient_at_ref=slope,
        at_ref=at is None or np.array_equal(at, world.log_p_ref),
        optimum=found,
        others=others,
        kl_to_gibbs=float(np.maximum(0.0, np.sum(world.mu * kl(found.log_p, best.log_p)))),
        regret=float(best.regret(found.log_p)),
        tv_to_closed_form=tv_to_closed_form(loss, world, found, changes),
        objective=maximized(loss, world, found.log_p, loss.settings(world.beta, **changes), changes, drawn) if found.attained else None,
        certain=_certain(loss, world, changes, drawn),
        shift=_shift(loss, best, pairs, changes),
        winner_rate=float(np.sum(weight * rates[pairs.x, pairs.w])),
        loser_rate=float(np.sum(weight * rates[pairs.x, pairs.l])),
        covariance=sandwich(loss, world, pairs, found, **changes),
    )


def tv_to_closed_form(loss: DirectLoss, world: World, found: Minimum, changes: Mapping[str, float]) -> float | None:
    closed = loss.optimum(world, loss.settings(world.beta, **changes)) if loss.optimum else None
    if closed is None:
        return None
    return float(np.max(0.5 * np.sum(np.abs(np.exp(closed) - np.exp(found.log_p)), axis=1)))


def _certain(loss: DirectLoss, world: World, changes: Mapping[str, float], drawn: Drawn) -> Minimum:
    """The lowest minimum where the better reward always wins; of equal values one that is not attained tells more."""
    found = minima(loss, world, population_pairs(world, sure(world.r), drawn(world)).distinct(), **changes)
    lowest = [m for m in found if m.value <= found[0].value + 1e-9]
    return next((m for m in lowest if not m.attained), lowest[0])


def _shift(loss: DirectLoss, best: Gibbs, pairs: Pairs, changes: Mapping[str, float]) -> float:
    """The largest change of a pair's loss when both log-ratios fall by 1, at p* (at p_ref a = b hides it)."""
    s = settings_at(loss, best.world, best.log_p, pairs, changes)
    i = ingredients(best.world, best.log_p, pairs)
    moved = {**i, **{name: i[name] - 1.0 for name in ("a", "b", "p", "q")}}
    return float(np.max(np.where(weights(pairs) > 0, np.abs(loss(**{**moved, **s}) - loss(**{**i, **s})), 0.0)))


def sandwich(loss: str | DirectLoss, world: World, pairs: Pairs, found: Minimum, **changes: Any) -> Array | None:
    """n times the asymptotic covariance of log p at the optimum from n comparisons, (P, N, N); None where it has none that floats hold.

    One comparison falls on prompt x with probability mu(x): the pairs of other prompts contribute zeros.
    """
    loss = find(loss)
    if not found.attained or loss.frozen or loss.kinks:
        return None
    out = np.zeros((world.mdp.P, world.mdp.N, world.mdp.N))
    s = settings_at(loss, world, found.log_p, pairs, changes)
    for x in range(world.mdp.P):
        live = np.flatnonzero(~np.isneginf(world.log_p_ref[x]))
        problem = prompt_problem(loss, world, pairs, x, live, found.log_p, s)
        if problem is not None:
            row = found.log_p[x, live]
            with np.errstate(over="ignore", invalid="ignore"):
                H, G = problem.quadratic(row, 0.0)[2], problem.moments(row)
                if not (np.all(np.isfinite(H)) and np.all(np.isfinite(G))):
                    return None
                bread = np.linalg.pinv((H + H.T) / 2.0, rcond=1e-11, hermitian=True)
                J = np.eye(len(live)) - np.exp(row)
                out[x][np.ix_(live, live)] = J @ bread @ G @ bread @ J.T
    return out if np.all(np.isfinite(out)) else None


def family_table(world: World, *, drawn: Drawn = from_reference, at: Array | None = None, **changes: Any) -> str:
    """The whole registry on one world, a line a loss: optimum, KL to p*, regret, certain labels, shift, descent, traits.

    Args: changes, of parameters; each loss takes those that it has.
    """
    short = {t: "".join(word[0] for word in t.split("-")) for t in TRAITS}
    short |= {"bounded": "b.", "bounded-below": "bb", "convex": "cx", "saturates": "st"}
    rows = []
    for name, loss in LOSSES.items():
        try:
            r = analyse(name, world, drawn=drawn, at=at, **{key: x for key, x in changes.items() if loss.has(key)})
        except SolveError as e:
            rows.append([name, str(e), "", "", "", "", ""])
            continue
        traits = " ".join(short[t] for t in TRAITS if t in loss.traits)
        numbers = [f"{settled(r.kl_to_gibbs):.2g}", f"{settled(r.regret, size_of(world)):.2g}"]
        rows.append([name, r.optimum.words, *numbers, f"{r.winner_rate:+.4f}", r.certain.words, traits])
    header = ["", "population optimum", "KL to p*", "regret", "log p(y_w)", "certain labels", "traits"]
    key = wrap(f"Traits: {', '.join(f'{short[t]} {t}' for t in TRAITS)}.")
    slope = wrap("log p(y_w): its rate of change under gradient flow from the policy that is updated, mean over winners.")
    return "\n".join([table("", header, rows, left=(0, 1, 5, 6)), "", *key, *slope])


def size_of(world: World) -> float:
    """How large the numbers are that a regret is the difference of, in reward units."""
    return max(world.beta, float(np.max(np.abs(world.r))))
