# %% [markdown]
# # Solutions of lesson 8
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

# %% [markdown]
# **1. Three numbers for a draw.** $p_{ref}/p$ is $e^{-L}$, with a minus sign: $L$ is the logarithm of $p/p_{ref}$.


# %%
def three_estimators(log_ratio):
    L = log_ratio
    return np.stack([L, L**2 / 2, np.exp(-L) - 1 + L])


# %% [markdown]
# **2. What they estimate.** The draws come from $p$, so each response counts with $p$. The first row and the third agree wherever $p$
# can say all that $p_{ref}$ can.


# %%
def estimator_means(p, L):
    return np.sum(p * np.stack([L, L**2 / 2, np.exp(-L) - 1 + L]), axis=2)


# %% [markdown]
# **3. How noisy is k1?** The mean of the square, less the square of the mean, which is the KL.


# %%
def k1_variance(p, L):
    return np.sum(p * L**2, axis=1) - np.sum(p * L, axis=1) ** 2


# %% [markdown]
# **4. What k3 in the loss really pushes.** The slope of $k_3$ is $(1 - e^{-L})$ times the score. Times $p$, that is $p - p_{ref}$ times
# the score, of which the first part has mean zero; what is left is the gradient of $-\mathbb{E}_{ref}[\log p]$, so of
# $\mathrm{KL}(p_{ref}, p)$.


# %%
def pathwise_gradient(mu, p, p_ref, score_rows):
    return np.einsum("x,xn,xnsv->xsv", mu, p - p_ref, score_rows)


# %% [markdown]
# **5. Token by token.** First $k_3$ of every token, then the sum; the other way round it is the $k_3$ of the whole response.


# %%
def token_k3(mdp, L_s):
    return mdp.path_sum(np.exp(-L_s) - 1 + L_s)
