"""Eight disputes about trainers, each asked in at most five lines of a user's, and settled by what the audit measures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tabular_rlhf.audit import Audit, audit, hand_in
from tabular_rlhf.audit.library import Library

DISPUTES = {
    "prompt normalization": """
def asked(rewards, num_generations):
    r = rewards.reshape(-1, num_generations)
    return ((r - r.mean(1, keepdims=True)) / (r.std(1, keepdims=True) + 1e-6)).ravel()
""",
    "batch normalization": """
def asked(rewards, num_generations):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-6)
""",
    "doubled micro-batch counts": """
def asked(logps, advantages, mask, accumulation_steps=2):
    return -(logps * advantages[:, None] * mask).sum(1).mean() / accumulation_steps
""",
    "padding": """
def asked(logps, advantages, mask):
    return -(logps * advantages[:, None] * mask).mean()
""",
    "fixed denominators": """
def asked(logps, advantages, mask, max_length):
    return -(logps * advantages[:, None] * mask).sum() / (len(mask) * max_length)
""",
    "masked KL of silent groups": """
def asked(logps, ref_logps, rewards, mask, beta=0.1):
    d, keep = ref_logps - logps, float(rewards.std() > 0)
    a = (rewards - rewards.mean())[:, None]
    return keep * ((beta * (np.exp(d) - d - 1) - logps * a) * mask).sum() / len(mask)
""",
    "EOS masked out": """
def asked(logps, advantages, mask):
    inner = mask * (np.arange(mask.shape[1]) < mask.sum(1, keepdims=True) - 1)
    return -(logps * advantages[:, None] * inner).sum() / len(mask)
""",
    "inverted clips": """
def asked(logps, old_logps, advantages, mask):
    ratio, a = np.exp(logps - old_logps), advantages[:, None]
    return -(np.maximum(ratio * a, np.clip(ratio, 0.8, 1.2) * a) * mask).sum() / len(mask)
""",
    "reward centering": """
def asked(chosen_rewards, rejected_rewards, c=0.1):
    gap, total = chosen_rewards - rejected_rewards, chosen_rewards + rejected_rewards
    return (np.logaddexp(0, -gap) + c * total**2).mean()
""",
}


@pytest.fixture(scope="module")
def asked() -> dict[str, Audit]:
    found = {}
    for name, text in DISPUTES.items():
        scope: dict[str, Any] = {"np": np}
        exec(text, scope)
        more = ("what it ascends",) if name not in ("masked KL of silent groups", "reward centering") else ()
        more += ("where it leads",) if name == "reward centering" else ()
        found[name] = audit(hand_in(scope["asked"], Library()), stages=("what it is", "what it does not change with", *more))
    return found


def changed(found: Audit) -> dict[str, str]:
    return {i.name: i.words for i in found.invariances if not i.holds}


def test_each_takes_at_most_five_lines() -> None:
    assert all(len(text.strip().splitlines()) <= 5 for text in DISPUTES.values())


def test_a_prompt_s_mean_keeps_prompts_apart_and_a_batch_s_does_not(asked: dict[str, Audit]) -> None:
    by_prompt, by_batch = asked["prompt normalization"], asked["batch normalization"]
    assert str(by_prompt.nearest) == "grpo, epsilon = 1e-06"
    assert str(by_batch.nearest) == "the batch's mean and standard deviation, epsilon = 1e-06"
    assert "other prompts in the batch" not in changed(by_prompt)
    assert "other prompts in the batch" in changed(by_batch)
    assert by_batch.rows[-1].where.startswith("2 prompts a batch")
    assert by_batch.rows[-1].cosine is not None
    assert by_batch.rows[-1].cosine < 0.999


def test_counting_micro_batches_twice_is_exactly_half_the_step(asked: dict[str, Audit]) -> None:
    found = asked["doubled micro-batch counts"]
    assert found.nearest is not None
    assert found.nearest.scale == pytest.approx(0.5, abs=1e-12)
    assert [row.verdict.words for row in found.rows[:3]] == ["0.5 E[r]"] * 3


def test_a_mean_over_padding_depends_on_the_padding_and_a_fixed_one_does_not(asked: dict[str, Audit]) -> None:
    padding, fixed = asked["padding"], asked["fixed denominators"]
    assert changed(padding)["more padding"] == "matters: by a factor 0.5"
    assert "more padding" not in changed(fixed)
    for found in (padding, fixed):  # in batches of one width both are only a scale
        assert all(row.verdict.words.endswith("E[r]") for row in found.rows[:3])
        assert all(row.cosine == pytest.approx(1.0) for row in found.rows[:3])


def test_a_silent_group_that_is_dropped_loses_its_penalty(asked: dict[str, Audit]) -> None:
    found = asked["masked KL of silent groups"]
    assert found.slips == ["groups of equal rewards: lose their penalty, too: by a factor 0"]


def test_a_response_whose_end_is_masked_ascends_no_objective(asked: dict[str, Audit]) -> None:
    found = asked["EOS masked out"]
    assert found.slips == ["EOS is masked out of the loss"]
    assert found.rows[0].verdict.words == "nothing: it has curl"
    assert found.rows[0].verdict.curl is not None
    assert found.rows[0].verdict.curl > 0.01
    assert found.rows[2].verdict.words == "nothing: it does not move"  # responses of one token are all end


def test_an_inverted_clip_shows_on_stale_samples_only(asked: dict[str, Audit]) -> None:
    found = asked["inverted clips"]
    assert found.slips == ["the larger of clipped and unclipped is taken, not the smaller"]
    assert [row.verdict.words for row in found.rows[:3]] == ["E[r]"] * 3
    assert not found.rows[3].verdict.exact


def test_centering_shrinks_the_gaps_of_three_responses(asked: dict[str, Audit]) -> None:
    found = asked["reward centering"]
    (r0, f0), *others = found.rewards
    assert all(0 < f - f0 < 0.85 * (r - r0) for r, f in others)
