"""Functions in a trainer's style, written for the tests of the audit: jax."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def ppo(log_probs, old_log_probs, advantages, mask, eps_clip=0.2):
    ratio = jnp.exp(log_probs - old_log_probs)
    a = advantages[:, None]
    return -jnp.sum(jnp.minimum(ratio * a, jnp.clip(ratio, 1 - eps_clip, 1 + eps_clip) * a) * mask) / jnp.sum(mask)


def dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=0.1):
    return -jax.nn.log_sigmoid(beta * ((chosen_logps - ref_chosen_logps) - (rejected_logps - ref_rejected_logps)))


def stopped(log_probs, old_log_probs, advantages, mask):
    ratio = jax.lax.stop_gradient(jnp.exp(log_probs - old_log_probs))
    return -jnp.sum(ratio * advantages[:, None] * mask) / jnp.sum(mask)
