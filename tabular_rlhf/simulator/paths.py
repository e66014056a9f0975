r"""The simulator where responses are not listed: the same cores, on the responses that a step draws, or by sweeps over the lattice.

**Parameters.**  A row of logits for every state of every depth (`lattice.depths`); p* is such a policy.

**A batch is a list.**  What a step draws is a list of its own (`lattice.listing`), so groups, advantages, clips, corrections and losses
of pairs are the code that runs on listed worlds; gradients in its rows add up in the rows that they copy.

**The population** takes the place of draws where the mean update has a sweep: of advantages linear in rewards, at their own policy.  The
mean update is then E[(r - c phi(L)) score], and any flag's phi is a L + b e^{-L} + const:

    E[x score] = d pi (x + V' - V) for a sum x along the path,        E[e^{-L} score] = d_ref (pi_ref - pi).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice import LatticeWorld, Policy, Reference, solve
from tabular_rlhf.lattice.depths import ByDepth, flat, offsets_of
from tabular_rlhf.lattice.draws import Drawn, preferred_first, prompts, sample
from tabular_rlhf.lattice.flow import policy_gradient, visits
from tabular_rlhf.lattice.listing import Listing, listing
from tabular_rlhf.lattice.pairs import ranges_of
from tabular_rlhf.logspace import Array, log_of
from tabular_rlhf.losses.evaluate import token_gradient
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.groups import Groups
from tabular_rlhf.preferences import Pairs
from tabular_rlhf.simulator.on_policy import Batch, ascend, moved, recipe_of
from tabular_rlhf.simulator.record import KEEP, Core, KLFlag, Learner, Options, PathTask, Random


def policy_of(task: PathTask, s: Learner) -> ByDepth:
    """The policy as it is now."""
    return ByDepth(task.world, s.log_pi)


def reference_rows(world: LatticeWorld) -> Array:
    """log pi_ref in the rows of all depths: (R, V)."""
    offsets_of(world)  # before anything of that size is made
    return flat(level.log_ref for level in world.levels)


# ---------------------------------------------------------------------------------------------------- before the core


def asked(world: LatticeWorld, options: Options, core: Core, rng: np.random.Generator) -> tuple[Array, Drawn | None]:
    """Demonstrations in rows (R, V), and comparisons, as far as they are wanted.  Raises: InputError for what asks for a list."""
    for word, got, remedy in (
        ("a reward model", "rm" in options.stages, "pass --no-reward-model: the core raises the world's own reward"),
        ("imitation beside the reward", options.ptx > 0, "leave --ptx out: sft imitates before the core"),
    ):
        if got:
            world.refuse(word, f"{word} is of each of them; {remedy}")
    shown = np.zeros((int(offsets_of(world)[-1]), world.language.V))
    if "sft" in options.stages:
        law = solve(world) if options.demonstrator == "optimum" else Reference(world)
        drawn = sample(law, options.demonstrations, rng=rng, tokens=True)
        shown = counted(world, drawn, np.ones(options.demonstrations))
    people = core.compares and not options.online
    return shown, compare(world, Reference(world), options.comparisons, rng) if people else None


def start_of(task: PathTask) -> Array:
    """log pi where the core begins, (R, V): imitated demonstrations, or the reference."""
    reference = ByDepth(task.world, reference_rows(task.world))
    return imitate(task.demonstrations, reference) if "sft" in task.options.stages else reference.rows


# ---------------------------------------------------------------------------------------------------- from groups


def on_policy(task: PathTask, s: Learner, rng: Random, *, advantage: str, loss: str = "reinforce", epochs: int = 1) -> Learner:
    """`simulator.on_policy` of groups drawn from a lattice, or of the population."""
    recipe, epochs = recipe_of(task, advantage, loss), task.options.updates or epochs
    if rng is None:
        return moved(task, s, mean_update(task, s, recipe, epochs))
    at, drawn = drawn_groups(task, ByDepth(task.world, task.options.behavior.of(s.log_pi)), rng)
    n, G, P = task.batch, recipe.G, task.world.language.P
    groups = Groups(np.zeros(n, dtype=np.intp), np.arange(n * G).reshape(n, G), np.full(n, 1.0 / n), n)

    def total(x: Array) -> Array:
        return np.asarray(np.bincount(drawn.x, np.ravel(x), P), dtype=np.float64)

    return ascend(task, s, Batch(at.world, task.paid * at.world.r, groups, 0.0, at.take, at.give, drawn.x[None], total), recipe, epochs)


def drawn_groups(task: PathTask, policy: Policy, rng: np.random.Generator) -> tuple[Listing, Drawn]:
    """A batch of groups of one prompt each, drawn from a policy."""
    x = np.repeat(prompts(task.world.mu, task.batch, rng=rng), task.options.group)
    drawn = sample(policy, len(x), rng=rng, tokens=True, x=x)
    return listing(task.world, drawn, task.world.beta), drawn


def mean_update(task: PathTask, s: Learner, recipe: Recipe, epochs: int) -> Array:
    """The exact expected update, (R, V).  Raises: InputError, by name, where it has no sweep."""
    share = linear_share(task, recipe, epochs)
    world, policy, c = task.world, policy_of(task, s), task.kl_coef
    along, against = parts(task.kl)
    within = share if task.kl.in_reward else 1.0  # what goes with the reward is a part of the advantage
    paid, nats = share * task.paid, within * c * along
    own = flat(g for _, g in policy_gradient(policy, x=lambda h: paid * world.levels[h].r - nats * policy.ratio(h)))
    if against:
        steps = [d * (world.levels[h].ref - policy.pi(h)) for h, d, _ in visits(Reference(world))]
        own = own - within * c * against * flat(steps)
    return own


def linear_share(task: PathTask, recipe: Recipe, epochs: int) -> float:
    """What an advantage takes of its own reward, where the mean update is E[reward score] times that."""
    shares = (1.0, 0.0) if recipe.advantage.name == "none" else recipe.advantage.shares(recipe.G, recipe.settings)
    plain = recipe.loss.name == "reinforce" and epochs == 1 and task.options.behavior.plain and not recipe.correction.needs
    if shares is None or not plain:
        what = f"{recipe.advantage.name}'s advantages" if shares is None else f"{recipe.loss.name}, {epochs} updates a batch"
        remedy = "it is drawn all the same; `rloo` and `reinforce` on their own samples have one"
        raise InputError("an exact ascent must have a sweep over the lattice", got=what, remedy=remedy)
    return shares[0]


def parts(flag: KLFlag) -> tuple[float, float]:
    """(a, b) with phi(L) = a L + b e^{-L} + const, measured.  Raises: InputError for a phi of another kind."""
    L = np.linspace(-2.0, 2.0, 9)
    basis = np.stack([L, np.exp(-L), np.ones_like(L)], axis=1)
    found = np.linalg.lstsq(basis, flag.phi(L), rcond=None)[0]
    if np.max(np.abs(basis @ found - flag.phi(L))) > 1e-9:
        raise InputError("a KL flag must be linear in L and e^-L to have a sweep", got=str(flag.flag), remedy="draw samples")
    along, against = np.where(np.abs(found[:2]) < 1e-9, 0.0, found[:2]).tolist()
    return along, against


# ---------------------------------------------------------------------------------------------------- direct alignment


def direct(task: PathTask, s: Learner, rng: Random) -> Learner:
    """One descent of a loss of pairs: of the given comparisons (all, or a batch), or of new ones of the policy's own responses."""
    if rng is None:
        raise InputError("an exact descent must have all pairs", got=f"pairs of {task.world.responses}", remedy="it is drawn all the same")
    given = compare(task.world, policy_of(task, s), task.batch, rng) if task.options.online else task.compared
    assert given is not None
    n = len(given.x) // 2
    if task.batch and not task.options.online:
        chosen = rng.integers(n, size=task.batch)
        given, n = given.only(np.concatenate([chosen, n + chosen])), task.batch
    at = listing(task.world, given, task.kl_coef)
    pairs = Pairs(np.zeros(n, dtype=np.intp), np.arange(n), n + np.arange(n), np.full(n, 1.0 / n), n)
    return moved(task, s, -at.give(token_gradient(task.options.loss, at.world, at.take(s.logits), pairs)[1]))


def compare(world: LatticeWorld, policy: Policy, n: int, rng: np.random.Generator) -> Drawn:
    """n pairs of responses to one prompt each, compared by Bradley-Terry people: the n preferred, then the n others."""
    x = prompts(world.mu, n, rng=rng)
    return preferred_first(sample(policy, 2 * n, rng=rng, tokens=True, x=np.concatenate([x, x])), rng)


# ---------------------------------------------------------------------------------------------------- imitation


def counted(world: LatticeWorld, drawn: Drawn, weight: Array) -> Array:
    """How often each token was said in each row, each response counted by its weight (n,): (R, V)."""
    at = listing(world, drawn, world.beta)
    return at.give(at.world.mdp.subtree_sum(weight[None]))


def imitate(counts: Array, before: ByDepth) -> Array:
    """log pi that is likeliest for counts (R, V) and KEEP more responses a prompt of the policy before; its rows where none come."""
    kept = flat(mass for _, _, mass in visits(before, np.full(before.world.language.P, KEEP)))
    total = counts + kept
    all_ = np.sum(total, axis=1, keepdims=True)
    return np.where(all_ > 0, log_of(total / np.where(all_ > 0, all_, 1.0)), before.rows)


def drawn_only(rng: Random) -> np.random.Generator:
    """The generator.  Raises: InputError where the population was asked for."""
    if rng is None:
        remedy = "it is drawn all the same"
        raise InputError("an exact step must have a sweep over the lattice", got="selection by the whole reward", remedy=remedy)
    return rng


def expert_iteration(task: PathTask, s: Learner, rng: Random) -> Learner:
    """Draw from the policy, weigh by the reward above the least possible, imitate."""
    policy, reference = policy_of(task, s), Reference(task.world)
    _, drawn = drawn_groups(task, policy, drawn_only(rng))
    low, high = ranges_of(reference, lambda h: task.world.levels[h].r)
    P = task.world.language.P
    above = np.where((high > low)[drawn.x], drawn.r - low[drawn.x], 1.0)
    total, n = np.bincount(drawn.x, above, P), np.bincount(drawn.x, minlength=P)
    weight = above * (n / np.where(total > 0, total, 1.0))[drawn.x]
    return replace(s, step=s.step + 1, logits=imitate(counted(task.world, drawn, weight), policy))


def select_best(task: PathTask, s: Learner, rng: Random) -> Learner:
    """Draw groups from the reference, keep the best of each, and imitate all that was kept so far."""
    reference = ByDepth(task.world, reference_rows(task.world))
    _, drawn = drawn_groups(task, reference, drawn_only(rng))
    best = np.argmax(drawn.r.reshape(task.batch, -1), axis=1) + task.options.group * np.arange(task.batch)
    counts = s.counts + counted(task.world, drawn.only(best), np.ones(task.batch))
    return replace(s, step=s.step + 1, counts=counts, logits=imitate(counts, reference))
