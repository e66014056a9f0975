r"""What a trainer's parameter is called, and what it then is: the roles that a batch can fill, and the kinds of function made of them.

**Shapes.**  A batch holds B responses to P prompts, prompt by prompt, padded on the right to T columns; n pairs.  Names are read word by
word: `old_per_token_logps` has the words old, per, token, logps, so it is the log-probabilities, of the policy that drew the batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from tabular_rlhf.errors import InputError, did_you_mean, quoted

ROLES: Mapping[str, str] = {
    "logp": "(B, T) log-probabilities of the tokens under the live policy, differentiated",
    "old": "(B, T) the same under the policy that drew them, as the trainer computes it",
    "sampler": "(B, T) the same as the sampler reports them: at its temperature",
    "ref": "(B, T) the same under the reference",
    "mask": "(B, T) 1 for the tokens of a response, its EOS too; 0 for padding",
    "reward": "(B,) rewards of the responses, or (P, G), a row a prompt",
    "token_reward": "(B, T) the reward at a response's last token, 0 elsewhere",
    "value": "(B, T) the critic's value before each token: here exact",
    "advantage": "(B,) or (B, T) advantages",
    "group": "(B,) which prompt a response answers",
    "G": "responses a prompt, a whole number",
    "P": "prompts, a whole number",
    "length": "(B,) tokens of a response, EOS counted",
    "tokens": "all tokens of the batch, a whole number",
    "T": "the longest that a response may be, a whole number",
    "entropy": "(B, T) entropy of the live policy before each token, differentiated",
    "table": "(B, T) losses of the tokens, to be aggregated",
    "chosen": "(n,) log-probability of the chosen response under the live policy, differentiated",
    "rejected": "(n,) the same of the rejected one",
    "ref_chosen": "(n,) the same under the reference",
    "ref_rejected": "(n,) the same under the reference",
    "chosen_length": "(n,) tokens of the chosen response",
    "rejected_length": "(n,) tokens of the rejected one",
    "chosen_reward": "(n,) the reward model's number for the chosen response, differentiated",
    "rejected_reward": "(n,) the same for the rejected one",
    "margin": "(n,) a margin that the annotator gave: here 0",
}
LIVE = ("logp", "entropy", "table", "chosen", "rejected", "chosen_reward", "rejected_reward")
"""Roles that are differentiated."""
LOGS, REWARDS = {"logp", "logps", "logprob", "logprobs", "lp", "lps"}, {"reward", "rewards", "score", "scores"}
QUALIFIERS: Mapping[str, set[str]] = {
    "ref": {"ref", "reference", "base"},
    "old": {"old", "prev", "previous", "behavior", "behaviour", "behav"},
    "sampler": {"rollout", "sampling", "sampler", "generation", "inference", "vllm", "engine", "sampled"},
}
SIDES: Mapping[str, set[str]] = {
    "chosen": {"chosen", "winner", "w", "preferred"},
    "rejected": {"rejected", "reject", "loser", "l", "dispreferred"},
}
EXACT: Mapping[str, set[str]] = {
    role: set(names.split())
    for role, names in {
        "mask": "mask response_mask completion_mask loss_mask eos_mask action_mask token_mask masks attention_mask",
        "reward": "r rewards_per_response outcome_rewards sequence_rewards rewards_tensor",
        "value": "values value old_values vpreds critic_values",
        "advantage": "advantages advantage adv advs advantages_per_token token_advantages",
        "group": "group groups group_ids group_id index uid uids prompt_ids prompt_index group_index prompt_idx",
        "G": "num_generations group_size n_samples num_samples samples_per_prompt rollout_n num_rollouts n_rollouts",
        "P": "num_prompts n_prompts",
        "length": "lengths length response_lengths response_length completion_lengths seq_lens lens sequence_lengths",
        "tokens": "num_items_in_batch num_tokens n_tokens total_tokens",
        "T": "max_length max_len max_tokens max_completion_length max_response_length max_seq_len horizon",
        "entropy": "entropy entropies entropys per_token_entropy token_entropy per_token_entropies",
        "table": "loss_mat per_token_loss per_token_losses token_loss token_losses losses loss_matrix pg_losses loss",
        "chosen_length": "chosen_lengths chosen_length chosen_len len_w w_lengths",
        "rejected_length": "rejected_lengths rejected_length rejected_len len_l l_lengths",
        "margin": "margin margins",
    }.items()
}
KINDS: Mapping[str, str] = {
    "pair loss": "log-probabilities of chosen and rejected responses -> loss",
    "reward-model loss": "rewards of chosen and rejected responses -> loss",
    "whole step": "log-probabilities and rewards -> loss",
    "policy loss": "log-probabilities and advantages -> loss",
    "KL penalty": "log-probabilities and those of the reference -> a table or a loss",
    "aggregation": "a table of losses and a mask -> loss",
    "group advantage": "rewards -> advantages",
}


def role_of(name: str) -> str | None:
    """What a parameter of that name is; None where the name says nothing.

    >>> [role_of(n) for n in ("per_token_logps", "old_log_prob", "reference_chosen_logps", "token_level_rewards", "uid", "cliprange")]
    ['logp', 'old', 'ref_chosen', 'token_reward', 'group', None]
    """
    low = re.sub(r"log_prob(abilitie)?s?", "logprobs", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).replace("log_pi", "logp")
    low = low.replace("log_ref", "ref_logp").replace("log_old", "old_logp")
    found = next((role for role, names in EXACT.items() if low in names), None)
    if found is not None:
        return found
    words = set(low.split("_"))
    side = next((s for s, names in SIDES.items() if words & names), None)
    if words & LOGS:
        by = next((q for q, names in QUALIFIERS.items() if words & names), "logp")
        return by if side is None else side if by == "logp" else f"ref_{side}" if by == "ref" else None
    if words & REWARDS:
        return f"{side}_reward" if side else "token_reward" if "token" in words else "reward"
    return "mask" if "mask" in words else None


def roles_of(parameters: Iterable[str], told: Mapping[str, str]) -> dict[str, str]:
    """The roles of the parameters that have one; `told`, theirs=ours, goes first.  Raises InputError for what is not theirs or not ours."""
    names = list(parameters)
    for theirs, ours in told.items():
        if theirs not in names:
            remedy = did_you_mean(theirs, names, f"its parameters are {', '.join(names)}")
            raise InputError("--map must name a parameter of the function", got=quoted(theirs), remedy=remedy)
        if ours not in ROLES:
            remedy = did_you_mean(ours, ROLES, f"use one of {', '.join(ROLES)}")
            raise InputError("--map must name a role", got=quoted(ours), where=theirs, remedy=remedy)
    found = {name: told.get(name) or role_of(name) for name in names}
    return {name: role for name, role in found.items() if role is not None}


def kind_of(roles: Iterable[str]) -> str | None:
    """The kind of a function whose parameters have these roles; None where they make none.

    >>> kind_of(["logp", "old", "advantage", "mask"]), kind_of(["reward", "G"]), kind_of(["mask"])
    ('policy loss', 'group advantage', None)
    """
    has = set(roles)
    rewards = bool(has & {"reward", "token_reward"})
    rules: list[tuple[str, Callable[[], bool]]] = [
        ("reward-model loss", lambda: {"chosen_reward", "rejected_reward"} <= has),
        ("pair loss", lambda: {"chosen", "rejected"} <= has),
        ("policy loss", lambda: {"logp", "advantage"} <= has),
        ("whole step", lambda: "logp" in has and rewards),
        ("KL penalty", lambda: {"logp", "ref"} <= has),
        ("aggregation", lambda: "table" in has),
        ("group advantage", lambda: rewards),
        ("policy loss", lambda: "logp" in has),
    ]
    return next((kind for kind, holds in rules if holds()), None)
