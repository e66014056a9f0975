"""Disputes about batches of several prompts: whose standard deviation, what is dropped, what is counted; ratios that are 1; margins."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.disputes.record import Claim, Under, of_theme
from tabular_rlhf.losses import closed
from tabular_rlhf.losses.rewards import analyse_rewards
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.updates import expected_update, true_gradient
from tabular_rlhf.terms.conditions import decided, full

dispute = of_theme("batches")

FEW = 4
"""Responses a prompt of the worlds that are asked: more would take longer and show no more."""


def update(advantage: str, loss: str = "reinforce", aggregation: str = "sequence-sum", batch: str = "each-group", G: int = 2) -> Any:
    """The expected update of batches of two prompts under 0/1 rewards, as a function of symbols."""
    recipe = Recipe(advantage, loss, aggregation, batch=batch, G=G, B=2)
    return lambda world, logits, success: expected_update(world.with_reward(success), logits, recipe)


def gradient(world: Any, log_pi: Any, success: Any) -> Any:
    """grad E[u]."""
    return true_gradient(world.with_reward(success), log_pi)


def mixable(world: Any, p: Any, success: Any) -> bool:
    """Every prompt can be answered rightly and wrongly."""
    return world.mdp.N <= FEW and decided(p, success) and full(world.log_p_ref)


def both(world: Any, p: Any, success: Any) -> bool:
    """The same, of two prompts."""
    return mixable(world, p, success) and world.mdp.P == 2


def alone(world: Any, p: Any, success: Any) -> bool:
    """The same, of one prompt with three responses."""
    return mixable(world, p, success) and world.mdp.P == 1 and world.mdp.N == 3


def along(batch: str, advantage: str, shift: float) -> Any:
    """What an update whose rewards are all lowered has of grad E[u]: their inner product."""

    def product(world: Any, logits: Any, log_pi: Any, success: Any) -> Any:
        lowered = world.with_reward(success - shift)
        return np.sum(expected_update(lowered, logits, Recipe(advantage, batch=batch, G=3)) * true_gradient(lowered, log_pi))

    return product


def tau_tilt(closed_form: Any) -> Any:
    return lambda world: np.exp(closed_form(world, {"tau": world.beta}))


def fitted(name: str) -> Any:
    """The rewards that a reward model's loss leads to."""
    return lambda world: analyse_rewards(name, world).found.s


dispute(
    slug="batch-or-group",
    question="REINFORCE++ normalizes rewards over the batch, GRPO over the prompt: is it the same?",
    claim=Claim(
        "up to a scale: whitened over two prompts, the mean update has the direction of grad E[u]",
        update("none", batch="whitened"),
        gradient,
        "direction",
        where=both,
    ),
    under=Under("the world has one prompt: then a batch is a large group", where=alone),
    source="asked of OpenRLHF; Hu et al. (2025), arXiv:2501.03262.",
    links=("OpenRLHF/OpenRLHF/issues/830", "axolotl-ai-cloud/axolotl/pull/3731"),
    rows=("batch-normalization",),
    caught="An easy and a hard prompt: a batch's spread depends on which of them it drew.",
)
dispute(
    slug="batch-std",
    question="The group's mean, and the batch's standard deviation: does that end the bias of the group's standard deviation?",
    claim=Claim(
        "the mean update of groups of three has the direction of grad E[u]",
        update("group-mean", batch="over-std", G=3),
        gradient,
        "direction",
        where=both,
    ),
    under=Under("groups of two", left=update("group-mean", batch="over-std")),
    source='Liu et al. (2025), arXiv:2508.08221; TRL\'s scale_rewards="batch".',
    links=("huggingface/trl/pull/3935", "huggingface/trl/issues/3991"),
    rows=("batch-normalization",),
    caught="A prompt that is drawn with its own kind shrinks its own standard deviation.",
)
dispute(
    slug="normalized-twice",
    question="GRPO's advantages are whitened once more, over the batch: is that idle?",
    claim=Claim(
        "the mean update keeps its direction, over prompts too",
        update("grpo", batch="whitened", G=3),
        update("grpo", G=3),
        "direction",
        where=both,
    ),
    settled="true",
    source="asked of a fork of verl.",
    links=("amazon-science/reskill/pull/12",),
    rows=("batch-normalization", "group-bernstein"),
    caught="It holds, up to a scale: each mixed group has mean 0 and spread 1 already, so the batch's spread is the share of them.",
)
dispute(
    slug="gpg-alpha",
    question="GPG scales what is left of a batch by alpha: may alpha count rewards that are not 0?",
    claim=Claim(
        "it keeps the direction of grad E[u], as it is coded, in groups of three",
        update("group-mean", batch="by-rewarded", G=3),
        gradient,
        "direction",
        where=both,
    ),
    under=Under("alpha counts the responses of mixed groups, as it is printed", left=update("group-mean", batch="dropped", G=3)),
    source="Chu et al. (2025), arXiv:2504.02546, and verl's form of it.",
    links=("AMAP-ML/GPG/issues/8", "verl-project/verl/blob/main/verl/trainer/ppo/core_algos.py"),
    rows=("dynamic-sampling",),
    caught="Two prompts: a batch with many right responses is scaled down, and these are of the easy one.",
)
dispute(
    slug="diluted-denominator",
    question="Truncated responses are masked out of the loss, but their tokens are counted: is that only a scale?",
    claim=Claim(
        "the update keeps the direction of a mean over what is left",
        update("rloo", aggregation="token-mean", batch="overlong-diluted"),
        update("rloo", aggregation="token-mean", batch="overlong-filtered"),
        "direction",
        where=alone,
    ),
    under=Under("no response is cut off", where=lambda world, p, success: mixable(world, p, success) and world.mdp.eos is None),
    source="a bug of TRL's dapo, cispo and vespo losses, mended in July 2026.",
    links=("huggingface/trl/issues/6369", "huggingface/trl/pull/6439"),
    rows=("padding-and-eos", "batch-normalization"),
    caught="A response counts the less the more of its neighbors were cut off.",
)
dispute(
    slug="ratio-is-one",
    question="One step a batch: the ratio is always 1, its logarithm 0, the clip idle.  Is nothing learned?",
    claim=Claim(
        "the clipped update is that of REINFORCE",
        update("grpo", "ppo-clip"),
        update("grpo"),
        where=lambda world: world.mdp.N == 3 and world.mdp.P == 1 and full(world.log_p_ref),
    ),
    settled="true",
    source="asked of TRL, and of most who copy its line exp(logp - logp.detach()).",
    links=("huggingface/trl/issues/2769", "huggingface/trl/issues/3757"),
    rows=("grpo",),
    caught="The value of a ratio is 1, and its slope is the score.",
)
dispute(
    slug="negative-mean",
    question="MaxRL divides by the group's mean: may rewards be negative?",
    claim=Claim(
        "0/1 rewards, all lowered by 2: the update does not oppose grad E[r]", along("each-group", "max-rl", 2.0), "0", ">=", where=mixable
    ),
    under=Under("rewards are not negative", left=along("each-group", "max-rl", 0.0)),
    source="a review of MaxRL for TRL, arXiv:2602.02710.",
    links=("huggingface/trl/pull/5026",),
    rows=("maxrl-order",),
    caught="A mean of -1.5 turns every advantage around.",
)
dispute(
    slug="ipo-averaged",
    question="IPO with log-ratios averaged over tokens: the same optimum, at a beta that no length enters?",
    claim=Claim(
        "it is that of the sums",
        tau_tilt(closed.averaged_win_rate_tilt),
        tau_tilt(closed.win_rate_tilt),
        where=lambda world: full(world.log_p_ref),
    ),
    under=Under("all responses are of one token", where=lambda world: full(world.log_p_ref) and world.mdp.H == 1),
    source="Azar et al. (2023), arXiv:2310.12036, say sums; TRL averages.",
    links=("huggingface/trl/issues/1677", "huggingface/blog/pull/1785"),
    rows=("ipo-two-arms",),
    caught="log Z cancels between sums; divided by two lengths it does not.",
)
dispute(
    slug="margin-as-weight",
    theme="people",
    question="A margin in a reward model's loss that grows with the rating: does it only weigh clear pairs more?",
    claim=Claim(
        "the fitted gaps stay the true ones",
        fitted("reward-rated"),
        fitted("reward-bradley-terry"),
        where=lambda world, r: full(world.log_p_ref) and float(np.ptp(r)) < 6.0,
    ),
    source="Touvron et al. (2023), arXiv:2307.09288 (Llama 2); asked of TRL.",
    links=("huggingface/trl/issues/718", "huggingface/trl/issues/2493"),
    rows=("centering",),
    caught="Two responses a nat apart: the fitted gap is 1.78.",
)
