# %% [markdown]
# # Solutions of lesson 10
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

import tabular_rlhf as tr

# %% [markdown]
# **1. Learn the reward.** The slope of the log-likelihood in $\hat r_i$ is wins observed less wins expected; its curvature is the
# Laplacian with weights $n_{ij} P_{ij} P_{ji}$. Newton's steps are kept below a nat, so that they never overshoot.


# %%
def fitted_reward(wins_ring):
    N = wins_ring.shape[1]
    won = wins_ring * (1 - np.eye(N))
    met = won + np.swapaxes(won, 1, 2)
    r = np.zeros(won.shape[:2])
    for _ in range(50):
        P = 1 / (1 + np.exp(r[:, None, :] - r[:, :, None]))
        weight = met * P * (1 - P)
        laplacian = np.eye(N) * np.sum(weight, axis=2)[:, :, None] - weight
        slope = np.sum(won - met * P, axis=2)
        step = np.einsum("xij,xj->xi", np.linalg.pinv(laplacian, hermitian=True), slope)
        r = r + step / np.maximum(1, np.max(np.abs(step), axis=1, keepdims=True))
    return r


# %% [markdown]
# **2. From reward to policy.** Tilt the reference; then the mass that goes through $s$ and on with $a$, as a share of the mass that goes
# through $s$. $Z$ cancels.


# %%
def shipped_policy(mdp, p_ref, scores, beta):
    through = mdp.subtree_sum(p_ref * np.exp(scores / beta))
    return through / np.sum(through, axis=-1, keepdims=True)


# %% [markdown]
# **3. What the fit has cost.** The regret is $\beta\, \mathrm{KL}(\hat p, p^*)$, and both are tilts.


# %%
def training_regret(mu, beta, log_p_ref, scores, r):
    trained, best = (tr.log_softmax(log_p_ref + reward / beta) for reward in (scores, r))
    return beta * np.sum(mu * tr.kl(trained, best))


# %% [markdown]
# **4. How much of the progress is real?** The difference of two rises is the rise of the difference.


# %%
def illusory_gain(log_p_ref, proxy, r, beta):
    log_p = tr.log_softmax(log_p_ref + proxy / beta)
    return tr.expect(log_p, proxy - r) - tr.expect(log_p_ref, proxy - r)


# %% [markdown]
# **5. Sampled against exact.** Make $g$ first. Then both are statistics of one list.


# %%
def estimated_objective(r_drawn, log_ratio, beta):
    g = r_drawn - beta * log_ratio
    return np.array([np.mean(g), np.std(g, ddof=1) / np.sqrt(len(g))])
