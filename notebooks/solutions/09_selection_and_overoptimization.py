# %% [markdown]
# # Solutions of lesson 9
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

import tabular_rlhf as tr

# %% [markdown]
# **1. The law of the best of n.** $F$ and $F_-$ by comparing every response with every other. The quotient
# $(F^n - F_-^n)/(F - F_-)$ is the sum of $F^{n-1-k} F_-^k$ over $k < n$, which is never 0/0.


# %%
def best_of_n_law(p_ref, r):
    at_most = np.sum(p_ref[:, None, :] * (r[:, None, :] <= r[:, :, None]), axis=2)
    less = np.sum(p_ref[:, None, :] * (r[:, None, :] < r[:, :, None]), axis=2)
    return lambda draws: (
        p_ref * sum(at_most ** (draws - 1 - k) * less**k for k in range(draws))
    )


# %% [markdown]
# **2. A bound, and what it gives away.** The law of the best of $n$ stands first in the divergence.


# %%
def best_of_n_slack(draws, log_p_best_of_n, log_p_ref):
    return np.log(draws) - (draws - 1) / draws - tr.kl(log_p_best_of_n, log_p_ref)


# %% [markdown]
# **3. How many draws are thrown away?** The mean, over draws from $p_{ref}$, of the probability of acceptance. What $p_{ref}$ never
# says counts neither in the maximum nor in the mean.


# %%
def acceptance(p_ref, r, beta):
    r = np.where(p_ref > 0, r, -np.inf)
    return np.sum(p_ref * np.exp((r - np.max(r, axis=1, keepdims=True)) / beta), axis=1)


# %% [markdown]
# **4. Imitate what earned.** Each response gets its share of the weight, prompt by prompt.


# %%
def imitation_round(p, earned):
    return p * earned / np.sum(p * earned, axis=1, keepdims=True)


# %% [markdown]
# **5. Selected by the wrong judge.** The proxy makes the law, the reward is averaged under it.


# %%
def proxy_selection(p_ref, proxy, r, draws):
    return np.sum((best_of_n_law(p_ref, proxy)(draws) - p_ref) * r, axis=1)
