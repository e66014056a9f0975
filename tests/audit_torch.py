"""Functions in a trainer's style, written for the tests of the audit: torch.  Some are wrong on purpose."""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F


def masked_mean(x, mask, dim=None):
    return (x * mask).sum(dim) / mask.sum(dim).clamp(min=1)


# ---------------------------------------------------------------------------------------------------- whole steps


def grpo_step(per_token_logps, old_per_token_logps, ref_per_token_logps, rewards, completion_mask, num_generations, beta=0.04, epsilon=0.2):
    grouped = rewards.view(-1, num_generations)
    mean = grouped.mean(dim=1).repeat_interleave(num_generations, dim=0)
    std = grouped.std(dim=1).repeat_interleave(num_generations, dim=0)
    advantages = (rewards - mean) / (std + 1e-4)
    coef = torch.exp(per_token_logps - old_per_token_logps.detach())
    clipped = torch.clamp(coef, 1 - epsilon, 1 + epsilon)
    loss = -torch.min(coef * advantages.unsqueeze(1), clipped * advantages.unsqueeze(1))
    delta = ref_per_token_logps - per_token_logps
    loss = loss + beta * (torch.exp(delta) - delta - 1)
    return ((loss * completion_mask).sum(-1) / completion_mask.sum(-1).clamp(min=1.0)).mean()


def dr_grpo_step(per_token_logps, old_per_token_logps, rewards, completion_mask, num_generations, max_completion_length, epsilon=0.2):
    advantages = (rewards.view(-1, num_generations) - rewards.view(-1, num_generations).mean(1, keepdim=True)).view(-1, 1)
    coef = torch.exp(per_token_logps - old_per_token_logps)
    loss = -torch.min(coef * advantages, torch.clamp(coef, 1 - epsilon, 1 + epsilon) * advantages)
    return (loss * completion_mask).sum() / (loss.size(0) * max_completion_length)


def dapo_step(logps, old_logps, rewards, mask, group_size, epsilon_low=0.2, epsilon_high=0.28):
    r = rewards.reshape(-1, group_size)
    adv = ((r - r.mean(-1, keepdim=True)) / (r.std(-1, keepdim=True) + 1e-6)).reshape(-1, 1)
    ratio = (logps - old_logps).exp()
    loss = torch.maximum(-adv * ratio, -adv * ratio.clamp(1 - epsilon_low, 1 + epsilon_high))
    return (loss * mask).sum() / mask.sum()


def gspo_step(logps, old_logps, advantages, mask, epsilon_low=3e-4, epsilon_high=4e-4):
    seq = ((logps - old_logps) * mask).sum(-1) / mask.sum(-1).clamp(min=1)
    ratio = seq.exp()
    return -torch.min(ratio * advantages, ratio.clamp(1 - epsilon_low, 1 + epsilon_high) * advantages).mean()


def grpo_with_reward_penalty(logps, ref_logps, rewards, mask, num_generations, kl_coef=0.1):
    penalized = rewards - kl_coef * ((logps.detach() - ref_logps) * mask).sum(1)
    grouped = penalized.view(-1, num_generations)
    advantages = (grouped - grouped.mean(1, keepdim=True)).flatten()
    return -((logps * mask).sum(1) * advantages).mean()


def grpo_flipped(per_token_logps, old_per_token_logps, rewards, completion_mask, num_generations, epsilon=0.2):
    grouped = rewards.view(-1, num_generations)
    advantages = ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)).view(-1, 1)
    coef = torch.exp(per_token_logps - old_per_token_logps)
    loss = torch.max(coef * advantages, torch.clamp(coef, 1 - epsilon, 1 + epsilon) * advantages)
    return ((-loss * completion_mask).sum(-1) / completion_mask.sum(-1)).mean()


def kl_paid_for(per_token_logps, old_per_token_logps, ref_per_token_logps, rewards, completion_mask, num_generations, beta=0.04):
    grouped = rewards.view(-1, num_generations)
    advantages = (grouped - grouped.mean(1, keepdim=True)).view(-1, 1)
    coef = torch.exp(per_token_logps - old_per_token_logps)
    delta = ref_per_token_logps - per_token_logps
    kl = torch.exp(delta) - delta - 1
    return -((coef * advantages + beta * kl) * completion_mask).sum(-1).mean()


def beta_squared(logps, old_logps, ref_logps, advantages, mask, beta=0.04):
    delta = ref_logps - logps
    kl = beta * (torch.exp(delta) - delta - 1)
    loss = -torch.exp(logps - old_logps) * advantages[:, None] + beta * kl
    return (loss * mask).sum() / mask.sum()


def interleaved_groups(logps, rewards, mask, num_generations):
    grouped = rewards.view(num_generations, -1)
    advantages = (grouped - grouped.mean(0, keepdim=True)).view(-1)
    return -(logps * advantages[:, None] * mask).sum(1).mean()


# ---------------------------------------------------------------------------------------------------- policy losses


def dual_clip_loss(old_log_prob, log_prob, advantages, response_mask, cliprange=0.2, clip_ratio_c=3.0):
    negative_approx_kl = torch.clamp(log_prob - old_log_prob, min=-20.0, max=20.0)
    ratio = torch.exp(negative_approx_kl)
    ppo_kl = masked_mean(-negative_approx_kl, response_mask)
    losses1 = -advantages * ratio
    losses2 = -advantages * torch.clamp(ratio, 1 - cliprange, 1 + cliprange)
    clipped1 = torch.maximum(losses1, losses2)
    clipped2 = torch.min(-advantages * clip_ratio_c, clipped1)
    losses = torch.where(advantages < 0, clipped2, clipped1)
    return masked_mean(losses, response_mask), masked_mean((losses2 > losses1).double(), response_mask), ppo_kl


def cispo_loss(log_probs, old_log_probs, advantages, mask, eps_high=0.28):
    weight = torch.clamp(torch.exp(log_probs - old_log_probs).detach(), max=1 + eps_high)
    return -(weight * advantages.unsqueeze(-1) * log_probs * mask).sum() / mask.sum()


def reinforce_loss(logprobs, advantages, loss_mask):
    return -((logprobs * loss_mask).sum(-1) * advantages).mean()


def sequence_ratio_loss(logprobs, old_logprobs, advantages, loss_mask):
    ratio = ((logprobs - old_logprobs) * loss_mask).sum(-1).exp()
    return {"loss": -(ratio * advantages).mean(), "ratio": ratio.mean().item()}


def ppo_single(log_probs, old_log_probs, advantages, action_mask, clip_eps=0.2):
    """In 32 bits, whatever it is given."""
    ratio = (log_probs.float() - old_log_probs.float()).exp()
    a = advantages.float().unsqueeze(1)
    surrogate = torch.min(ratio * a, ratio.clamp(1 - clip_eps, 1 + clip_eps) * a)
    return -(surrogate * action_mask.float()).sum() / action_mask.float().sum()


def with_entropy(log_probs, old_log_probs, advantages, action_mask, entropy, entropy_coeff=0.01):
    loss = -((log_probs - old_log_probs).exp() * advantages.unsqueeze(1) * action_mask).sum() / action_mask.sum()
    return loss - entropy_coeff * masked_mean(entropy, action_mask)


def entropy_paid_down(log_probs, old_log_probs, advantages, action_mask, entropy, entropy_coeff=0.01):
    loss = -((log_probs - old_log_probs).exp() * advantages.unsqueeze(1) * action_mask).sum() / action_mask.sum()
    return loss + entropy_coeff * masked_mean(entropy, action_mask)


def clip_inverted(log_probs, old_log_probs, advantages, action_mask, clip_eps=0.2):
    ratio = (log_probs - old_log_probs).exp()
    a = advantages.unsqueeze(1)
    loss = -torch.max(ratio * a, ratio.clamp(1 - clip_eps, 1 + clip_eps) * a)
    return (loss * action_mask).sum(1).mean()


def ratio_inverted(log_probs, old_log_probs, advantages, action_mask, clip_eps=0.2):
    ratio = (old_log_probs - log_probs).exp()
    a = advantages.unsqueeze(1)
    loss = -torch.min(ratio * a, ratio.clamp(1 - clip_eps, 1 + clip_eps) * a)
    return (loss * action_mask).sum() / action_mask.sum()


def bounds_swapped(log_probs, old_log_probs, advantages, action_mask, clip_low=0.2, clip_high=0.28):
    ratio = (log_probs - old_log_probs).exp()
    a = advantages.unsqueeze(1)
    loss = -torch.min(ratio * a, ratio.clamp(1 - clip_high, 1 + clip_low) * a)
    return (loss * action_mask).sum() / action_mask.sum()


def padding_trained_on(log_probs, old_log_probs, advantages, response_mask, cliprange=0.2):
    ratio = (log_probs - old_log_probs).exp()
    a = advantages.unsqueeze(1)
    return -torch.min(ratio * a, ratio.clamp(1 - cliprange, 1 + cliprange) * a).mean()


def eos_masked_out(logprobs, advantages, loss_mask):
    inner = loss_mask.clone()
    last = loss_mask.sum(1).long() - 1
    inner[torch.arange(len(inner)), last] = 0
    return -(logprobs * advantages[:, None] * inner).sum() / inner.sum().clamp(min=1)


def absolute_advantage(logprobs, old_logprobs, advantages, loss_mask):
    return -((logprobs - old_logprobs).exp() * advantages.abs()[:, None] * loss_mask).sum(1).mean()


def clip_without_minimum(logprobs, old_logprobs, advantages, loss_mask, clip=0.2):
    ratio = (logprobs - old_logprobs).exp().clamp(1 - clip, 1 + clip)
    return -(ratio * advantages[:, None] * loss_mask).sum() / loss_mask.sum()


# ---------------------------------------------------------------------------------------------------- advantages


def grpo_outcome_advantage(token_level_rewards, response_mask, index, epsilon=1e-6, norm_adv_by_std_in_grpo=True):
    scores = token_level_rewards.sum(dim=-1)
    by_prompt = defaultdict(list)
    with torch.no_grad():
        for i in range(scores.shape[0]):
            by_prompt[index[i]].append(scores[i])
        out = torch.zeros_like(scores)
        for i in range(scores.shape[0]):
            group = torch.stack(by_prompt[index[i]])
            out[i] = scores[i] - group.mean()
            if norm_adv_by_std_in_grpo:
                out[i] = out[i] / (group.std() + epsilon)
        out = out.unsqueeze(-1) * response_mask
    return out, out


def rloo_outcome_advantage(token_level_rewards, response_mask, index):
    scores = token_level_rewards.sum(dim=-1)
    out = torch.zeros_like(scores)
    for i in range(len(scores)):
        others = [scores[j] for j in range(len(scores)) if index[j] == index[i] and j != i]
        out[i] = scores[i] - (torch.stack(others).mean() if others else 0.0)
    out = out.unsqueeze(-1) * response_mask
    return out, out


def reinforce_pp_baseline(token_level_rewards, response_mask, uid, eps=1e-8):
    scores = token_level_rewards.sum(-1)
    names = list(uid)
    means = torch.stack([torch.stack([s for s, u in zip(scores, names, strict=True) if u == name]).mean() for name in names])
    a = (scores - means).unsqueeze(-1).expand_as(response_mask) * response_mask
    mean = masked_mean(a, response_mask)
    var = masked_mean((a - mean) ** 2, response_mask) * response_mask.sum() / (response_mask.sum() - 1)
    return (a - mean) * torch.rsqrt(var + eps) * response_mask


def opo_advantage(rewards, lengths, num_generations):
    r, n = rewards.view(-1, num_generations), lengths.view(-1, num_generations)
    return (r - (n * r).sum(1, keepdim=True) / n.sum(1, keepdim=True)).flatten()


def maxrl_advantage(rewards, num_generations):
    r = rewards.view(-1, num_generations)
    mean = r.mean(1, keepdim=True)
    return torch.where(mean == 0, torch.zeros_like(r), (r - mean) / torch.where(mean == 0, torch.ones_like(mean), mean)).flatten()


def others_over_g(rewards, num_generations):
    r = rewards.view(-1, num_generations)
    return (r - (r.sum(1, keepdim=True) - r) / num_generations).flatten()


def over_variance(rewards, num_generations, eps=1e-6):
    r = rewards.view(-1, num_generations)
    return ((r - r.mean(1, keepdim=True)) / (r.var(1, keepdim=True) + eps)).flatten()


def no_mean(rewards, num_generations, eps=1e-6):
    r = rewards.view(-1, num_generations)
    return (r / (r.std(1, keepdim=True) + eps)).flatten()


# ---------------------------------------------------------------------------------------------------- aggregations, penalties


def agg_loss(loss_mat, loss_mask, loss_agg_mode="token-mean"):
    if loss_agg_mode == "token-mean":
        return (loss_mat * loss_mask).sum() / loss_mask.sum()
    per_sequence = (loss_mat * loss_mask).sum(-1)
    if loss_agg_mode == "seq-mean-token-mean":
        per_sequence = per_sequence / loss_mask.sum(-1)
    elif loss_agg_mode == "seq-mean-token-sum-norm":
        per_sequence = per_sequence / loss_mask.shape[-1]
    return per_sequence.mean()


def agg_sequence_mean(loss_mat, loss_mask):
    return agg_loss(loss_mat, loss_mask, "seq-mean-token-mean")


def agg_divided_twice(loss_mat, loss_mask):
    per_sequence = (loss_mat * loss_mask).sum(-1) / loss_mask.sum(-1)
    return (per_sequence / loss_mask.sum(-1)).mean()


def kl_low_variance(logprob, ref_logprob):
    kl = torch.clamp(ref_logprob - logprob, min=-20, max=20)
    return torch.clamp(torch.exp(kl) - kl - 1, min=-10, max=10)


def kl_upside_down(logprob, ref_logprob):
    kl = logprob - ref_logprob
    return torch.exp(kl) - kl - 1


def kl_straight_through(logprob, ref_logprob):
    d = logprob - ref_logprob
    k2 = 0.5 * d.square()
    k3 = torch.exp(-d) + d - 1
    return k2 - k2.detach() + k3.detach()


# ---------------------------------------------------------------------------------------------------- pairs


def dpo_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1, label_smoothing=0.0):
    logits = (policy_chosen_logps - policy_rejected_logps) - (reference_chosen_logps - reference_rejected_logps)
    losses = -F.logsigmoid(beta * logits) * (1 - label_smoothing) - F.logsigmoid(-beta * logits) * label_smoothing
    return losses, beta * (policy_chosen_logps - reference_chosen_logps).detach()


def cdpo_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1, label_smoothing=0.1):
    return dpo_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta, label_smoothing)[
        0
    ].mean()


def ipo_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1):
    logits = (policy_chosen_logps - policy_rejected_logps) - (reference_chosen_logps - reference_rejected_logps)
    return (logits - 1 / (2 * beta)) ** 2


def hinge_loss(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1):
    logits = (policy_chosen_logps - policy_rejected_logps) - (reference_chosen_logps - reference_rejected_logps)
    return torch.relu(1 - beta * logits)


def simpo_loss(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths, beta=2.0, gamma=1.0):
    margin = chosen_logps / chosen_lengths - rejected_logps / rejected_lengths
    return -F.logsigmoid(beta * margin - gamma).mean()


def dpo_swapped(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1):
    return dpo_loss(policy_rejected_logps, policy_chosen_logps, reference_rejected_logps, reference_chosen_logps, beta)[0].mean()


def dpo_reference_swapped(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1):
    return dpo_loss(policy_chosen_logps, policy_rejected_logps, reference_rejected_logps, reference_chosen_logps, beta)[0].mean()


def dpo_beta_squared(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1):
    chosen = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected = beta * (policy_rejected_logps - reference_rejected_logps)
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


def dpo_no_logarithm(policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=0.1):
    logits = (policy_chosen_logps - policy_rejected_logps) - (reference_chosen_logps - reference_rejected_logps)
    return -torch.sigmoid(beta * logits).mean()


def reward_loss(rewards_chosen, rewards_rejected, margin, center_rewards_coefficient=0.01):
    loss = -F.logsigmoid(rewards_chosen - rewards_rejected - margin).mean()
    return loss + center_rewards_coefficient * ((rewards_chosen + rewards_rejected) ** 2).mean()


def reward_loss_margin_added(rewards_chosen, rewards_rejected, margin):
    return -F.logsigmoid(rewards_chosen - rewards_rejected + margin).mean()
