# %% [markdown]
# # Solutions of lesson 2
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

import tabular_rlhf as tr

# %% [markdown]
# **1. How long until the first reward?** One over the probability that an episode is rewarded.


# %%
def episodes_until_success(p_ref, success):
    return 1 / np.sum(p_ref * success, axis=1)


# %% [markdown]
# **2. Several attempts, and a bound.** No episode is rewarded with probability $(1 - q)^n$, so some episode is with probability
# $1 - (1 - q)^n$. By Bernoulli's inequality $(1 - q)^n \ge 1 - n q$, so the bound never gives away less than nothing.


# %%
def union_bound(p_ref, success, draws):
    q = np.sum(p_ref * success, axis=1)
    return draws * q - (1 - (1 - q) ** draws)


# %% [markdown]
# **3. Errors compound.** Token $h$ is right if the learner has stayed on the path $h$ times, with probability $(1 - \varepsilon)^h$. So
# $H - \sum_{h=1}^{H} (1 - \varepsilon)^h$ tokens are wrong on average, and the sum is geometric.


# %%
def compounding_cost(H, eps):
    stay = 1 - eps
    return H - stay * (1 - stay**H) / eps


# %% [markdown]
# **4. What the optimum of a proxy is worth.** One reward makes the law, the other judges it.


# %%
def proxy_optimum(log_p_ref, proxy, r, beta):
    p = np.exp(tr.log_softmax(log_p_ref + proxy / beta))
    return np.sum(p * r, axis=1)


# %% [markdown]
# **5. When to stop optimizing.** As in section 2.3, with $r$ in the last step:
# $\mathbb{E}_p[r\, d \log p / d\beta] = -\mathbb{E}_p[r\, (r' - \mathbb{E}_p[r'])]/\beta^2 = -\mathrm{Cov}_p(r, r')/\beta^2$. So stop
# where what is measured and what is wanted are no longer correlated *under the policy that one has by then*.


# %%
def hacking_slope(log_p_ref, proxy, r, beta):
    p = np.exp(tr.log_softmax(log_p_ref + proxy / beta))
    mean_proxy = np.sum(p * proxy, axis=1, keepdims=True)
    return -np.sum(p * r * (proxy - mean_proxy), axis=1) / beta**2
