"""Functions in a trainer's style, written for the tests of the audit: numpy.  Some are wrong on purpose."""

from __future__ import annotations

import numpy as np


def rloo(rewards, group_size):
    r = np.reshape(rewards, (-1, group_size))
    return np.ravel(r - (r.sum(1, keepdims=True) - r) / (group_size - 1))


def batch_whitened(rewards):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-8)


def rows_of_prompts(rewards):
    return rewards - rewards.mean(axis=1, keepdims=True)


def ppo(logps, old_logps, advantages, mask, clip_ratio=0.2):
    ratio = np.exp(logps - old_logps)
    a = advantages[:, None]
    return -np.sum(np.minimum(ratio * a, np.clip(ratio, 1 - clip_ratio, 1 + clip_ratio) * a) * mask) / np.sum(mask)


def k2_unhalved(logps, ref_logps):
    return (logps - ref_logps) ** 2


def k1(logps, ref_logps):
    return logps - ref_logps


def agg_with_padding(token_losses, mask):
    return np.mean(np.sum(token_losses * mask, axis=1)) / mask.shape[1]


def centered_wrongly(chosen_rewards, rejected_rewards):
    return np.mean(np.logaddexp(0.0, rejected_rewards - chosen_rewards)) - 0.01 * np.mean((chosen_rewards + rejected_rewards) ** 2)


def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    return np.logaddexp(0.0, -beta * ((chosen_logps - ref_chosen_logps) - (rejected_logps - ref_rejected_logps)))
