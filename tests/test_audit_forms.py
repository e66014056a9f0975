"""Fifty-eight functions in a trainer's style, masks, padding and settings and all, handed in as they are: what each is, and its slip."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tabular_rlhf.audit import Audit, Nearest, audit, hand_in, library_of
from tests.foreign import require

HERE = Path(__file__).parent
RIGHT = {
    "torch": {
        "grpo_step": "grpo, ddof = 1, epsilon = 0.0001, ppo-clip (clip 0.2), sequence-mean, k3 in the loss at 0.04",
        "dr_grpo_step": "group-mean, ppo-clip (clip 0.2), divided by B and the length that is allowed",
        "dapo_step": "grpo, ddof = 1, epsilon = 1e-06, clip-higher (low 0.2, high 0.28), token-mean",
        "gspo_step": "the advantages given, gspo (low 0.0003, high 0.0004), sequence-sum",
        "grpo_with_reward_penalty": "group-mean of r - 0.1 k1, reinforce, sequence-sum",
        "dual_clip_loss": "the advantages given, dual-clip (clip 0.2, dual 3), token-mean",
        "cispo_loss": "the advantages given, cispo (low 1, high 0.28), token-mean",
        "reinforce_loss": "the advantages given, reinforce, sequence-sum",
        "sequence_ratio_loss": "the advantages given, sequence-ratio, sequence-sum",
        "with_entropy": "the advantages given, ratio, token-mean, entropy at 0.01 (token-mean)",
        "ppo_single": "the advantages given, ppo-clip (clip 0.2), token-mean",
        "grpo_outcome_advantage": "grpo, ddof = 1, epsilon = 1e-06",
        "rloo_outcome_advantage": "rloo",
        "reinforce_pp_baseline": "group's mean, whitened over tokens, ddof = 1, epsilon = 1e-08",
        "opo_advantage": "opo",
        "maxrl_advantage": "max-rl",
        "agg_loss": "the advantages given, token-mean",
        "agg_sequence_mean": "the advantages given, sequence-mean",
        "kl_low_variance": "k3, sequence-sum",
        "kl_straight_through": "the value of k3, the gradient of k2, sequence-sum",
        "dpo_loss": "dpo",
        "cdpo_loss": "cdpo",
        "ipo_loss": "ipo",
        "hinge_loss": "slic-reference",
        "simpo_loss": "simpo",
        "reward_loss": "Bradley-Terry with a margin, centering (r_w + r_l)^2 at 0.01",
    },
    "numpy": {
        "rloo": "rloo",
        "batch_whitened": "grpo",
        "rows_of_prompts": "group-mean",
        "ppo": "the advantages given, ppo-clip (clip 0.2), token-mean",
        "k1": "k1",
        "agg_with_padding": "the advantages given, divided by the batch's padded tokens B T",
    },
    "jax": {
        "ppo": "the advantages given, ppo-clip (clip 0.2), token-mean",
        "dpo": "dpo",
    },
}
"""What each is said to be, first words."""
WRONG = {
    "torch": {
        "grpo_flipped": "the larger of clipped and unclipped",
        "kl_paid_for": "the penalty has the wrong sign",
        "beta_squared": "beta is squared",
        "interleaved_groups": "groups are read across prompts",
        "clip_inverted": "the larger of clipped and unclipped",
        "entropy_paid_down": "the entropy has the wrong sign",
        "ratio_inverted": "the ratio is upside down",
        "bounds_swapped": "the lower and the upper bound are swapped",
        "padding_trained_on": "padding is not masked",
        "eos_masked_out": "EOS is masked out of the loss",
        "absolute_advantage": "the absolute value of the advantage",
        "clip_without_minimum": "the clipped ratio alone",
        "others_over_g": "the others' sum is divided by G",
        "over_variance": "divided by the variance",
        "no_mean": "the mean is not taken off",
        "agg_divided_twice": "divided by the length twice",
        "kl_upside_down": "k3 with its ratio upside down",
        "dpo_swapped": "chosen and rejected are swapped",
        "dpo_reference_swapped": "of the chosen and of the rejected are swapped",
        "dpo_beta_squared": "beta is squared",
        "dpo_no_logarithm": "the sigmoid without its logarithm",
        "reward_loss_margin_added": "the margin is added",
    },
    "numpy": {"k2_unhalved": "the half of k2 is left out", "centered_wrongly": "the centering term has the wrong sign"},
}
"""What is wrong with each."""


def read(library: str, name: str) -> Audit:
    """What it is and what it does not change with: the parts on which the verdict rests."""
    require(library)
    module = importlib.import_module(f"tests.audit_{library}")
    source = (HERE / f"audit_{library}.py").read_text()
    return audit(hand_in(getattr(module, name), library_of(source)), stages=("what it is", "what it does not change with"))


@pytest.mark.parametrize(("library", "name"), [(lib, name) for lib, names in RIGHT.items() for name in names])
def test_a_form_that_is_right_is_named(library: str, name: str) -> None:
    found = read(library, name)
    assert isinstance(found.nearest, Nearest)
    assert (found.status, found.nearest.words[: len(RIGHT[library][name])]) == ("right", RIGHT[library][name]), (found.nearest, found.slips)


@pytest.mark.parametrize(("library", "name"), [(lib, name) for lib, names in WRONG.items() for name in names])
def test_a_slip_is_named(library: str, name: str) -> None:
    found = read(library, name)
    assert found.status == "wrong", found.nearest
    assert any(WRONG[library][name] in slip for slip in found.slips), found.slips
