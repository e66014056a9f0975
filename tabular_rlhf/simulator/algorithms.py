r"""The registry of cores: what improves a policy, one record each, with the place where it is predicted to lead.

On-policy cores (`ppo`, `reinforce`, `rloo`, `grpo`; see `on_policy`) ascend, from groups drawn from the policy itself,

    sum_i f(rho_i, A_i) - c (KL flag) + gamma E_D[log p];          A from the reward, or from r - c L where the flag is k1-reward.

With k1-reward the advantages of rloo *vanish* at the optimum, where r - c log(p/p_ref) is constant: its noise dies out there, and it
arrives; grpo divides by a spread, so its push does not weigh reward against KL as the objective does.

**Where they lead.**  A core whose mean update is sum_y w(y) grad p(y) with weights w that depend on p stands still where
log(p/p_ref) = w/c + const: the Gibbs law of its *own* reward w at its own fixed point.  For rloo w = r, for grpo with 0/1 rewards
w = c_G(q) for a success; `own_gibbs` solves it for any number of levels.

Sources: Schulman et al. (2017), arXiv:1707.06347; Ouyang et al. (2022), arXiv:2203.02155; Williams (1992); Ahmadian et al. (2024),
arXiv:2402.14740; Shao et al. (2024), arXiv:2402.03300; Rafailov et al. (2023), arXiv:2305.18290; Dong et al. (2023), arXiv:2304.06767.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.estimators.theorem import optimum as flag_optimum
from tabular_rlhf.gibbs import greedy_limit, log_gibbs, log_policy_of
from tabular_rlhf.logspace import Array, log_of, log_softmax
from tabular_rlhf.losses.evaluate import token_gradient
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.losses.record import find
from tabular_rlhf.penalties import f_divergence_optimum, ptx_optimum
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient import groups as g
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs, sample_pairs
from tabular_rlhf.registry import entered
from tabular_rlhf.selection import best_of_n
from tabular_rlhf.simulator import paths
from tabular_rlhf.simulator.on_policy import moved, on_policy
from tabular_rlhf.simulator.record import CORES, KEEP, OPTIONAL, Core, Learner, Predict, Prediction, Random, Task, bag
from tabular_rlhf.world import World

EPOCHS = 4
"""Updates that ppo makes of one batch."""
LARGEST = 512
"""Responses a prompt up to which all pairs are made, or a loss is minimized by Newton's method."""

# ---------------------------------------------------------------------------------------------------- direct alignment


def direct(task: Task, s: Learner, rng: Random) -> Learner:
    """One descent of the loss on given comparisons (all of them, or a batch), or on new ones of the policy's own responses."""
    pairs = compared(task, s, rng)
    return moved(task, s, -token_gradient(task.options.loss, task.trained, s.logits, pairs)[1])


def compared(task: Task, s: Learner, rng: Random) -> Pairs:
    """The pairs of one step."""
    world, people = task.world, bradley_terry(task.world.r)
    if rng is None and world.mdp.N > LARGEST:
        raise InputError(f"all pairs must be of at most {LARGEST} responses", got=world.mdp.N, remedy="compare samples only")
    if task.options.online:
        log_q = world.mdp.path_sum(s.log_pi)
        found = population_pairs(world, people, log_q) if rng is None else sample_pairs(world, people, task.batch, rng=rng, log_q=log_q)
        return found if rng is None else tallied(found, world)
    if rng is None:
        return population_pairs(world, people).distinct()
    given = task.data.pairs
    assert given is not None
    if task.batch == 0:
        return given
    at = np.searchsorted(np.cumsum(given.weight), rng.random(task.batch) * np.sum(given.weight), side="right")
    at = np.minimum(at, len(given.weight) - 1)
    return tallied(Pairs(given.x[at], given.w[at], given.l[at], np.full(task.batch, 1.0 / task.batch), task.batch), world)


def tallied(pairs: Pairs, world: World) -> Pairs:
    """The same comparisons, each once with its share of the weight; a response against itself says nothing and is left out."""
    N = world.mdp.N
    x, w, l, weight = (np.ravel(a) for a in np.broadcast_arrays(pairs.x, pairs.w, pairs.l, pairs.weight))
    other = w != l
    code, place = np.unique(((x * N + w) * N + l)[other], return_inverse=True)
    rest, rejected = np.divmod(code, N)
    return Pairs(rest // N, rest % N, rejected, np.bincount(place, weight[other], len(code)).astype(float), pairs.n)


# ---------------------------------------------------------------------------------------------------- selection


def imitate(world: World, law: Array, n: Array, before: Array) -> Array:
    """log_pi that is likeliest for n responses a prompt with empirical law `law`, and KEEP more of log p `before`."""
    mixed = (n[:, None] * law + KEEP * np.exp(before)) / (n[:, None] + KEEP)
    return log_policy_of(world.mdp, log_of(mixed))


def expert_iteration(task: Task, s: Learner, rng: Random) -> Learner:
    """Draw from the policy, weigh by the reward above the least possible, imitate."""
    world, size = task.world, task.batch * task.options.group
    log_p = world.mdp.path_sum(s.log_pi)
    if rng is None:
        share = world.mu[:, None] * np.exp(log_p) * size
    else:
        drawn = g.sample(world, log_p, task.options.group, task.batch, rng=rng)
        share = bag(drawn.x[:, None], drawn.tau, log_p.shape)
    weighed = share * graded(task)
    total = np.sum(weighed, axis=1, keepdims=True)
    law = weighed / np.where(total > 0, total, 1.0)
    n = np.where(total[:, 0] > 0, np.sum(share, axis=1), 0.0)
    return replace(s, step=s.step + 1, logits=imitate(world, law, n, log_p))


def graded(task: Task) -> Array:
    """The reward above the least that the reference can earn, (P, N); 1 for a prompt where nothing differs."""
    possible, r = ~np.isneginf(task.world.log_p_ref), task.data.reward
    above = np.where(possible, r - np.min(np.where(possible, r, np.inf), axis=1, keepdims=True), 0.0)
    return np.where(np.any(above > 0, axis=1, keepdims=True), above, 1.0)


def select_best(task: Task, s: Learner, rng: Random) -> Learner:
    """Draw groups from the reference, keep the best of each, and imitate all that was kept so far."""
    world, G = task.world, task.options.group
    if rng is None:
        kept = task.batch * world.mu[:, None] * np.exp(best_of_n(world.log_p_ref, task.data.reward, G))
    else:
        drawn = g.sample(world, world.log_p_ref, G, task.batch, rng=rng)
        r = task.data.reward[drawn.x[:, None], drawn.tau]
        best = np.take_along_axis(drawn.tau, np.argmax(r, axis=1)[:, None], axis=1)  # draws are exchangeable: the first tie will do
        kept = bag(drawn.x[:, None], best, (world.mdp.P, world.mdp.N))
    counts = s.counts + kept
    n = np.sum(counts, axis=1)
    law = counts / np.where(n > 0, n, 1.0)[:, None]
    return replace(s, step=s.step + 1, counts=counts, logits=imitate(world, law, n, world.log_p_ref))


# ---------------------------------------------------------------------------------------------------- where they lead


def sound(task: Task) -> Prediction | None:
    """Of a core whose mean update is the gradient of E[r], by what its KL flag really descends, and by the ptx term."""
    if task.options.off_policy:
        return None
    trained, gamma = task.trained, task.options.ptx
    off = task.kl_coef == 0 or task.kl.flag.label == "k1 loss"
    if gamma and off:
        return "gamma D/(lam - r)", f_divergence_optimum(DIVERGENCES["forward-kl"], task.log_d, trained.r, gamma).log_p
    if gamma:
        right = task.kl.flag.label in ("k1 reward", "k2 loss")
        return ("Gibbs with ptx", ptx_optimum(trained.log_p_ref, trained.r, trained.beta, gamma, task.log_d).log_p) if right else None
    if off:
        return "argmax r", greedy_limit(trained.log_p_ref, trained.r)
    found = flag_optimum(task.kl.flag, trained)
    return None if found is None else (found.name, found.log_p)


def own_gibbs(task: Task) -> Prediction | None:
    """Of grpo: the law p that is Gibbs for the weights w(p) that its own advantages give to rewards."""
    if task.options.off_policy:
        return None
    if task.kl_coef == 0 and not task.options.ptx:
        return "argmax r", greedy_limit(task.world.log_p_ref, task.data.reward)
    if task.options.ptx or task.kl.flag.label != "k2 loss":
        return None
    try:
        return "Gibbs of its own normalized reward", _fixed_point(task)
    except (InputError, SolveError):
        return None


def _fixed_point(task: Task, share: float = 0.3, rounds: int = 2000) -> Array:
    """p = Gibbs(w(p)) by damped iteration, which is mirror ascent with step share/c."""
    world, recipe = task.world, Recipe("grpo", G=task.options.group)
    log_p = log_gibbs(world.log_p_ref, task.data.reward, task.kl_coef)
    for _ in range(rounds):
        mass = world.mu[:, None] * np.exp(log_p)
        credit = g.expected_credit(world, log_policy_of(world.mdp, log_p), recipe, task.data.reward).plus
        w = np.where(mass > 0, credit / np.where(mass > 0, mass, 1.0), 0.0)
        ahead = log_gibbs(world.log_p_ref, w, task.kl_coef)
        if np.max(np.abs(np.exp(ahead) - np.exp(log_p))) < 1e-13:
            return ahead
        log_p = np.asarray(log_softmax((1.0 - share) * log_p + share * ahead))
    raise SolveError(f"the fixed point of grpo was not reached in {rounds} rounds")


def by_loss(task: Task) -> Prediction | None:
    """Of direct alignment: the loss's minimum on the given comparisons; online, its population optimum (the same for Gibbs losses)."""
    loss = find(task.options.loss)
    if not task.options.online:
        if task.data.pairs is None or task.world.mdp.N > LARGEST:
            return None
        found = minimize(loss, task.trained, task.data.pairs)
        return f"minimum of {loss.name} on its data, {found.words}", found.log_p
    if "recovers-gibbs" in loss.traits:
        return "Gibbs", np.asarray(log_gibbs(task.trained.log_p_ref, task.world.r, task.trained.beta))
    return None


# ---------------------------------------------------------------------------------------------------- the registry

RL = frozenset(OPTIONAL) - {"loss", "online"}
core = entered(Core, CORES.add)


def _from_groups(name: str, summary: str, source: str, lr: float, predict: Predict, how: dict[str, Any], **told: Any) -> Core:
    """A core that ascends from groups of its own responses.  Args: how, of `on_policy`, listed or not."""
    return core(name, summary, source, partial(on_policy, **how), predict, RL, partial(paths.on_policy, **how), 32, lr, **told)


_from_groups(
    "ppo",
    "clipped ratios, several updates a batch, leave-one-out baseline, KL in the reward",
    "Schulman et al. (2017), arXiv:1707.06347.",
    0.5,
    sound,
    {"advantage": "rloo", "loss": "ppo-clip", "epochs": EPOCHS},
    smallest=2,
)
_from_groups(
    "reinforce",
    "one update a batch, running mean of rewards as baseline, KL in the reward",
    "Williams (1992).",
    1.0,
    sound,
    {"advantage": "none"},
)
_from_groups(
    "rloo",
    "leave-one-out baseline, KL in the reward",
    "Ahmadian et al. (2024), arXiv:2402.14740.",
    1.0,
    sound,
    {"advantage": "rloo"},
    smallest=2,
)
_from_groups(
    "grpo",
    "group mean and standard deviation, KL beside the advantages",
    "Shao et al. (2024), arXiv:2402.03300.",
    1.0,
    own_gibbs,
    {"advantage": "grpo"},
    kl="k2-loss",
    smallest=2,
)
core(
    "dpo",
    "direct alignment with any loss of the registry, offline or online",
    "Rafailov et al. (2023), arXiv:2305.18290.",
    direct,
    by_loss,
    frozenset({"kl_coef", "loss", "online", "lr", "decay"}),
    paths.direct,
    batch=0,
    lr=1.0,
    compares=True,
)
core(
    "expert-iteration",
    "draw, weigh by the reward, imitate, repeat: no KL",
    "Dong et al. (2023), arXiv:2304.06767.",
    expert_iteration,
    lambda task: ("argmax r", greedy_limit(task.world.log_p_ref, task.data.reward)),
    frozenset(),
    paths.expert_iteration,
    batch=64,
    lr=1.0,
)
core(
    "best-of-n",
    "keep the best of each group drawn from the reference, and imitate that",
    "Stiennon et al. (2020), arXiv:2009.01325.",
    select_best,
    lambda task: (f"best of {task.options.group}", best_of_n(task.world.log_p_ref, task.data.reward, task.options.group)),
    frozenset(),
    paths.select_best,
    batch=64,
    lr=1.0,
)
