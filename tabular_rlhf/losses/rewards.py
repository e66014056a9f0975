r"""Losses of reward models: what rewards they fit to comparisons, and what policy these rewards make.

**Symbols.**  For one pair: r_w, r_l, the model's rewards of the preferred and the other response, in nats; gap, by how much the one is
truly better, in reward units, which a rating of the preference may tell.  Responses are drawn from p_ref, labels are Bradley-Terry's.

The rewards s (N,) of a prompt are free, so that the fit is the minimum over all of them, by Newton's method on

    L(s) = sum over pairs of weight * loss(s_w, s_l),

up to a level c(x) where the loss depends on differences only.  The policy is p_ref e^{s/beta}/Z, which does not see the level.

Sources: those of the records; Zhu, Jordan and Jiao (2023), arXiv:2301.11270, for the plain form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.gibbs import Gibbs, log_gibbs, solve
from tabular_rlhf.layout import fold, table
from tabular_rlhf.logspace import Array, kl
from tabular_rlhf.losses.evaluate import weights
from tabular_rlhf.losses.family_margin import ell, log_sigma
from tabular_rlhf.losses.problem import pair_derivatives, summed
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs, sure
from tabular_rlhf.registry import Equation, Registry, entered, one_of
from tabular_rlhf.tex import plain
from tabular_rlhf.told import number, settled
from tabular_rlhf.world import World

ROUNDS, STILL = 500, 1e-12
"""Newton's steps at most; the last of them, in nats."""
FAINT, QUIET, SLOPE, MOVED, OUT = 1e-11, 1e-15, 1e-6, 3.0, 20.0
"""The share of the largest curvature that counts as none; a slope that is rounding; along ways without curvature, a slope that is one, and
nats that only a loss without a minimum is moved; nats that rewards lie apart on such a way after all ROUNDS."""


@dataclass(frozen=True, eq=False)
class RewardLoss(Equation):
    """One loss of a reward model, of r_w, r_l and gap."""

    kind = "reward-model loss"

    @property
    def given(self) -> tuple[str, ...]:
        return ("r_w", "r_l", "gap")

    def settings(self, **changes: float) -> dict[str, float]:
        """The paper's defaults, then `changes`.  Raises: InputError for a change of what is no setting of this loss."""
        for name in changes:
            one_of(self.defaults, name, "a change must be of a setting", where=self.name)
        return {**self.defaults, **changes}


REWARD_LOSSES: Registry[RewardLoss] = Registry("reward-model loss")
LLAMA = "Touvron et al. (2023), arXiv:2307.09288 (Llama 2)"
reward = entered(RewardLoss, REWARD_LOSSES.add)
reward(
    "reward-bradley-terry",
    r"-\log \sigma(r_w - r_l)",
    "Bradley and Terry (1952); Ouyang et al. (2022), arXiv:2203.02155.",
    lambda r_w, r_l: -log_sigma(r_w - r_l),
    lambda r_w, r_l: ell(r_w - r_l),
)
reward(
    "reward-margin",
    r"-\log \sigma(r_w - r_l - m)",
    f"{LLAMA}, one margin for all pairs.",
    lambda r_w, r_l, m: -log_sigma(r_w - r_l - m),
    lambda r_w, r_l, m: ell(r_w - r_l - m),
    defaults={"m": 1.0},
)
reward(
    "reward-rated",
    r"-\log \sigma(r_w - r_l - k \max(0, \mathrm{gap}))",
    f"{LLAMA}: the margin grows with the rating, which here tells the true gap, and nothing of an upset.",
    lambda r_w, r_l, gap, k: -log_sigma(r_w - r_l - k * np.maximum(0.0, gap)),
    oracle=lambda r_w, r_l, gap, k: ell(r_w - r_l - k * max(0.0, gap)),
    defaults={"k": 1.0},
)
reward(
    "reward-centered",
    r"-\log \sigma(r_w - r_l) + c\, (r_w + r_l)^2",
    "Eisenstein et al. (2023), arXiv:2312.09244, with c = 0.01; an option of TRL.",
    lambda r_w, r_l, c: -log_sigma(r_w - r_l) + c * np.square(r_w + r_l),
    lambda r_w, r_l, c: ell(r_w - r_l) + c * (r_w + r_l) ** 2,
    defaults={"c": 0.01},
)


@dataclass(frozen=True, eq=False)
class Fit:
    """s (P, N), the fitted rewards, in nats, 0 on average over the responses that are compared where the loss leaves their level open;
    attained, whether there is a minimum; free, whether the level is open; value, the loss there."""

    s: Array
    attained: bool
    free: bool
    value: float


def fit(loss: str | RewardLoss, world: World, pairs: Pairs, **changes: float) -> Fit:
    """The rewards that minimize a loss of weighted pairs.

    Raises: SolveError where Newton's steps neither settle nor run off.

    >>> from tabular_rlhf.world import coin
    >>> found = fit("reward-bradley-terry", coin(), population_pairs(coin(), bradley_terry(coin().r)).distinct())
    >>> found.s.round(6).tolist(), found.free
    ([[-0.5, 0.5]], True)
    """
    loss = REWARD_LOSSES.find(loss)
    given, s = loss.settings(**changes), np.zeros(world.r.shape)
    weight = weights(pairs)
    x, w, l = (np.broadcast_to(k, weight.shape)[weight > 0] for k in (pairs.x, pairs.w, pairs.l))
    weight, gap = weight[weight > 0], world.r[x, w] - world.r[x, l]

    def total(here: Any) -> Callable[[Any, Any, float], Any]:
        return lambda p, q, width: np.sum(weight[here] * loss(**given, r_w=p, r_l=q, gap=gap[here]))

    ends = [_newton(loss.name, total(here := x == k), weight[here], w[here], l[here], s[k]) for k in range(world.mdp.P)]
    value = float(total(slice(None))(s[x, w], s[x, l], 0.0))
    return Fit(s, all(end[0] for end in ends), all(end[1] for end in ends), value)


def _newton(what: str, total: Any, weight: Any, w: Any, l: Any, s: Array) -> tuple[bool, bool]:
    """Minimizes one prompt's loss in place: whether there is a minimum, and whether its level is open.

    Each reward is measured by how often its response is shown.  Where all curvature is lost along a way that has been walked, the loss
    only falls on: its tail is exponential.
    """
    if not len(w):
        return True, True
    n, shown = len(s), np.unique([w, l])
    d = np.sqrt(np.bincount(w, weight, n) + np.bincount(l, weight, n))[shown]
    part, begun = np.ix_(shown, shown), 0.0
    for _ in range(ROUNDS):
        value, g, H = summed(pair_derivatives(total, s[w], s[l], 0.0), w, l, n)
        H = H[part] / np.outer(d, d)
        curve, U = np.linalg.eigh(H)
        begun = begun or float(curve[-1])
        slope, faint = U.T @ (g[shown] / d), curve <= FAINT * begun
        heard = ~faint & (np.abs(slope) > QUIET)
        step = -U @ np.where(heard, slope / np.where(heard, curve, 1.0), 0.0) / d
        step *= min(1.0, 2.0 / max(1e-300, float(np.max(np.abs(step)))))
        gain = 0.5 * abs(float(g[shown] @ step))
        while gain > 1e-13 * (1.0 + abs(value)) and not _value(total, s, shown, step, w, l) <= value:  # less is rounding
            step, gain = step / 2.0, gain / 2.0
        s[shown] += step
        if np.max(np.abs(step)) <= STILL * (1.0 + np.max(np.abs(s))):
            if np.any(np.abs(slope)[faint] > SLOPE):
                return False, False
            away = (U.T @ (d * s[shown]))[faint] * np.max(np.abs(U[:, faint] / d[:, None]), axis=0)
            return not bool(np.any(np.abs(away) > MOVED)), bool(np.linalg.norm(H @ d) <= 1e-9 * np.linalg.norm(d) * begun)
    if np.max(np.abs(slope)) < SLOPE and np.ptp(s) > OUT:  # on an exponential tail, slopes are rounding before curvature is
        return False, True
    raise SolveError(f"{what}: Newton's steps do not settle in {ROUNDS} rounds: the loss may fall without end")


def _value(total: Any, s: Array, shown: Any, step: Array, w: Any, l: Any) -> float:
    trial = s.copy()
    trial[shown] += step
    return float(total(trial[w], trial[l], 0.0))


# ---------------------------------------------------------------------------------------------------- the report


@dataclass(frozen=True, eq=False)
class RewardReport:
    """One loss of a reward model on one world; see `analyse`.

    found, the fit; certain, the same under certain labels; stretch, the least and the largest ratio of a fitted gap to the true one, None
    where all rewards are equal; log_p (P, N), the policy that the fit makes; kl_to_gibbs (nats) and regret (reward units) of that.
    """

    loss: RewardLoss
    gibbs: Gibbs
    settings: dict[str, float]
    found: Fit
    certain: Fit
    stretch: tuple[float, float] | None
    log_p: Array
    kl_to_gibbs: float
    regret: float

    @property
    def verdict(self) -> str:
        """What the fitted gaps are to the true ones, measured."""
        if not self.found.attained:
            return "there is no minimum: some gaps grow without end"
        if self.stretch is None:
            return "there are no gaps to compare"
        low, high = self.stretch
        if max(abs(low - 1.0), abs(high - 1.0)) <= 1e-9:
            return "the true gaps: this policy is the Gibbs optimum"
        if high - low <= 1e-9 * high:
            return f"all gaps are {number(high, '.4g')} times the true ones: the Gibbs optimum of beta/{number(high, '.4g')}"
        how = "larger" if low >= 1.0 else "smaller" if high <= 1.0 else "other"
        return f"{how} gaps, unequally: from {number(low, '.4g')} to {number(high, '.4g')} times the true ones"

    @property
    def level(self) -> str:
        """Where the rewards lie, in words."""
        if self.found.free:
            return "open: only differences count"
        p = np.exp(self.gibbs.world.log_p_ref)
        mean = float(np.sum(self.gibbs.world.mu[:, None] * p * self.found.s))
        return f"fixed: their mean under p_ref is {number(settled(mean, 1.0), '.4g')}"

    def __str__(self) -> str:
        rows = [
            ("loss", f"{self.loss.name}   {plain(self.loss.latex)}"),
            ("source", self.loss.source),
            ("fitted gaps", self.verdict),
            ("level", self.level),
            ("KL of its policy to p*", f"{settled(self.kl_to_gibbs):.6g} nats"),
            ("regret of its policy", f"{settled(self.regret):.6g} reward units"),
            ("certain labels", "rewards stay finite" if self.certain.attained else "rewards run off"),
        ]
        return "\n".join(fold(f"{question:<22}  {answer}") for question, answer in rows)


def analyse_rewards(loss: str | RewardLoss, world: World, drawn: Array | None = None, **changes: float) -> RewardReport:
    """The rewards that a loss fits to all pairs under Bradley-Terry labels, and the policy that they make, exactly.

    Args: drawn, log q (P, N) of the responses that are compared, p_ref by default; changes, of settings.
    Raises: InputError for a world with one response; SolveError where no fit is found.

    >>> from tabular_rlhf.world import rational
    >>> report = analyse_rewards("reward-margin", rational(), m=0.5); report.verdict, report.regret > 0
    ('larger gaps, unequally: from 1.276 to 1.287 times the true ones', True)
    """
    loss, best = REWARD_LOSSES.find(loss), solve(world)
    found, certain = (
        fit(loss, world, population_pairs(world, law, drawn).distinct(), **changes) for law in (bradley_terry(world.r), sure(world.r))
    )
    there = ~np.isneginf(world.log_p_ref)
    log_p = np.asarray(log_gibbs(world.log_p_ref, np.where(there, found.s, 0.0), world.beta))
    far = float(np.sum(world.mu * kl(log_p, best.log_p)))
    return RewardReport(
        loss,
        best,
        loss.settings(**changes),
        found,
        certain,
        _stretch(world, found.s, there),
        log_p,
        float(np.maximum(far, 0.0)),
        float(best.regret(log_p)),
    )


def _stretch(world: World, s: Array, there: Any) -> tuple[float, float] | None:
    both = there[:, :, None] & there[:, None, :]
    true, fitted = (f[:, :, None] - f[:, None, :] for f in (world.r, s))
    apart = both & (np.abs(true) > 1e-9 * (1.0 + np.max(np.abs(world.r))))
    ratios = fitted[apart] / true[apart]
    return (float(np.min(ratios)), float(np.max(ratios))) if ratios.size else None


def reward_table(world: World, drawn: Array | None = None, **changes: float) -> str:
    """All losses of reward models on one world, a line each.  Args: changes, of settings; each loss takes those that it has."""
    rows = []
    for name, loss in REWARD_LOSSES.items():
        try:
            r = analyse_rewards(loss, world, drawn, **{k: v for k, v in changes.items() if k in loss.defaults})
        except (SolveError, InputError) as e:
            rows.append([name, str(e), "", "", ""])
            continue
        certain = "finite" if r.certain.attained else "run off"
        rows.append([name, r.verdict, f"{settled(r.kl_to_gibbs):.2g}", f"{settled(r.regret):.2g}", certain])
    return table("REWARD MODELS", ["", "fitted gaps", "KL to p*", "regret", "certain labels"], rows, left=(0, 1, 4))
