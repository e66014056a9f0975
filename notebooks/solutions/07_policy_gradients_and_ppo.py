# %% [markdown]
# # Solutions of lesson 7
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

# %% [markdown]
# **1. The policy gradient.** Line 4 of the derivation: the mean, over prompts and responses, of the reward times the score. Logits of
# different prompts are different parameters, so the letter of the prompt stays behind the arrow.


# %%
def logit_gradient(mu, p, r, score_rows):
    return np.einsum("x,xn,xn,xnsv->xsv", mu, p, r, score_rows)


# %% [markdown]
# **2. The quietest baseline.** A parabola in $b$; its lowest point is the mean reward under the weights $p\, |\mathrm{score}|^2$.


# %%
def best_baseline(p, r, score_rows):
    weight = p * np.sum(score_rows**2, axis=(2, 3))
    return np.sum(weight * r, axis=1) / np.sum(weight, axis=1)


# %% [markdown]
# **3. What the others earned.** The others have the group's total less one's own reward.


# %%
def leave_one_out(rewards, G):
    others = np.sum(rewards, axis=1, keepdims=True) - rewards
    return rewards - others / (G - 1)


# %% [markdown]
# **4. Divided by the group's spread.** `np.std` divides by the number of values unless it is told otherwise.


# %%
def grpo_advantage(successes):
    mean, spread = (f(successes, axis=1, keepdims=True) for f in (np.mean, np.std))
    return (successes - mean) / spread


# %% [markdown]
# **5. PPO's clipped surrogate.** The smaller of two *products*: for a negative advantage the larger ratio gives the smaller one.


# %%
def clipped_surrogate(importance, advantage, clip):
    clipped = np.clip(importance, 1 - clip, 1 + clip)
    return np.mean(np.minimum(importance * advantage, clipped * advantage))
