# %% [markdown]
# # Solutions of lesson 12
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

# %% [markdown]
# **1. The reference, given a format.** The probability of a response and the format together is $p_{ref} f$; divided by the probability of
# the format, $\mathbb{E}_{p_{ref}}[f]$, it is the law given the format.


# %%
def format_law(p_ref, success):
    together = p_ref * success
    return together / np.sum(together, axis=1, keepdims=True)


# %% [markdown]
# **2. How $k_3$ scatters.** The mean square of the distance from the mean. ($\mathbb{E}[k_3^2] - \mathbb{E}[k_3]^2$ is the same on paper,
# and loses its digits where $p$ is near $p_{ref}$.)


# %%
def k3_spread(p, L):
    k3 = np.expm1(-L) + L
    mean = np.sum(p * k3, axis=1, keepdims=True)
    return np.sum(p * (k3 - mean) ** 2, axis=1)


# %% [markdown]
# **3. What a draw of the reference is worth.** $\mathbb{E}_{p_{ref}}[w^2] = \sum_y p_{ref}\, (p^*/p_{ref})^2 = \mathbb{E}_{p^*}[w]$.


# %%
def effective_share(p_ref, p_star):
    return 1 / np.sum(p_star * p_star / p_ref, axis=1)
