"""Answers to the exercises of the course pack, which stand in no notebook: written out, as a student would."""

import numpy as np


def returns_to_go(token_rewards, mask, discount):
    G = np.zeros_like(token_rewards)
    ahead = np.zeros(len(G))
    for t in reversed(range(G.shape[1])):
        ahead = mask[:, t] * (token_rewards[:, t] + discount * ahead)
        G[:, t] = ahead
    return G


def gae_of_a_batch(token_rewards, critic, mask, discount, lam):
    A = np.zeros_like(critic)
    for b in range(len(critic)):
        n = int(mask[b].sum())
        for t in reversed(range(n)):
            following = t + 1 < n
            delta = (
                token_rewards[b, t]
                + (discount * critic[b, t + 1] if following else 0.0)
                - critic[b, t]
            )
            A[b, t] = delta + (discount * lam * A[b, t + 1] if following else 0.0)
    return A


def baseline_of_a_state(pi, r_token):
    scores = np.eye(pi.shape[-1]) - pi[..., None, :]  # (P, S, V, V): a row a token
    weight = pi * np.sum(scores**2, axis=-1)
    return np.sum(weight * r_token, axis=-1) / np.sum(weight, axis=-1)


def entropy_bonus_slope(pi, log_pi):
    jacobian = pi[..., :, None] * (
        np.eye(pi.shape[-1]) - pi[..., None, :]
    )  # of pi in the logits
    return -np.einsum("psab,psa->psb", jacobian, log_pi + 1.0)


def token_mean(token_losses, mask):
    return np.average(token_losses, weights=mask)


def sequence_mean(token_losses, mask):
    return np.mean([np.mean(row[on > 0]) for row, on in zip(token_losses, mask, strict=True)])


def response_ratios(logp, logp_old, mask):
    return np.prod(np.where(mask > 0, np.exp(logp) / np.exp(logp_old), 1.0), axis=1)


def geometric_ratios(logp, logp_old, mask):
    return response_ratios(logp, logp_old, mask) ** (1.0 / mask.sum(axis=1))


def clipped_token_loss(logp, logp_old, advantages, mask, clip):
    ratio = np.exp(logp - logp_old)
    losses = np.maximum(-ratio * advantages, -np.clip(ratio, 1 - clip, 1 + clip) * advantages)
    return np.mean(losses[mask > 0])


def flat_tokens(logp, logp_old, advantages, mask, clip):
    ratio = np.exp(logp - logp_old)
    good = (advantages > 0) & (ratio > 1 + clip)
    bad = (advantages < 0) & (ratio < 1 - clip)
    return (good | bad) * mask


def clipped_slope(logp, logp_old, advantages, mask, clip):
    slopes = -np.exp(logp - logp_old) * advantages / np.sum(mask)
    return np.where(
        (mask > 0) & (flat_tokens(logp, logp_old, advantages, mask, clip) == 0), slopes, 0.0
    )


def group_normalized(rewards, small):
    mean = rewards.mean(axis=1, keepdims=True)
    return (rewards - mean) / (
        np.sqrt(np.mean((rewards - mean) ** 2, axis=1, keepdims=True)) + small
    )


def critic_loss(critic, critic_old, targets, mask, clip):
    near = np.minimum(np.maximum(critic, critic_old - clip), critic_old + clip)
    losses = 0.5 * np.maximum((critic - targets) ** 2, (near - targets) ** 2)
    return np.sum(losses * mask) / np.sum(mask)


def rewards_with_kl(response_rewards, logp_old, logp_ref, mask, beta):
    rewards = -beta * (logp_old - logp_ref) * mask
    rewards[np.arange(len(mask)), mask.sum(axis=1).astype(int) - 1] += response_rewards
    return rewards


def fit_exists(wins_some, P, N):
    path = (wins_some > 0) | np.eye(N, dtype=bool)
    for k in range(N):
        path = path | (path[:, :, k, None] & path[:, k, None, :])
    return path.reshape(P, -1).all(axis=1) * 1.0


def soft_label_slope(feature_gaps, soft_labels, weights):
    predicted = 0.5 * (1.0 + np.tanh(feature_gaps @ weights / 2.0))
    return np.mean((predicted - soft_labels)[:, None] * feature_gaps, axis=0)


def pair_loss(rhat_w, rhat_l):
    return -np.log(1.0 / (1.0 + np.exp(-(rhat_w - rhat_l))))


def smoothed_pair_loss(rhat_w, rhat_l, flip):
    return (1.0 - flip) * np.logaddexp(0.0, rhat_l - rhat_w) + flip * np.logaddexp(
        0.0, rhat_w - rhat_l
    )


def gibbs_by_hand():
    p = np.array([0.5, 0.3, 0.2]) * np.exp([2.0, 0.0, 4.0])
    return p / p.sum()


def kl_to_second_order(pi, direction):
    covariance = pi[..., :, None] * (np.eye(pi.shape[-1]) - pi[..., None, :])
    return 0.5 * np.einsum("psa,psab,psb->ps", direction, covariance, direction)


def value_at_large_beta(p_ref, r, beta):
    mean = np.sum(p_ref * r, axis=1, keepdims=True)
    return mean[:, 0] + np.sum(p_ref * (r - mean) ** 2, axis=1) / (2 * beta)
