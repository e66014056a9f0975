# %% [markdown]
# # Solutions of lesson 5
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

import tabular_rlhf as tr

# %% [markdown]
# **1. A divergence has two directions.** Who stands first is on top of the ratio, and takes the mean.


# %%
def both_directions(log_p, log_p_star):
    return np.stack([tr.kl(log_p, log_p_star), tr.kl(log_p_star, log_p)])


# %% [markdown]
# **2. The road from the reference to the optimum.** Straight in logarithms, then normalized in each row, which `log_softmax` does.


# %%
def arc(log_p_ref, log_p_star):
    return lambda t: np.exp(tr.log_softmax((1 - t) * log_p_ref + t * log_p_star))


# %% [markdown]
# **3. By how much Pythagoras fails.** The difference of the three divergences is the mean of $\log(p^*/p_{ref}) = r/\beta - \log Z$
# under $p$, less its mean under $p^*$; $\log Z$ cancels.


# %%
def pythagoras_gap(log_p, log_p_star, r, beta):
    return (tr.expect(log_p, r) - tr.expect(log_p_star, r)) / beta


# %% [markdown]
# **4. Imitation by counting.** The mass of every state and token, averaged over prompts, is added to the row of the state's context;
# each row is divided by its sum.


# %%
def forward_projection(mdp, tied, mu, p_star):
    mass = np.sum(mu[:, None, None] * mdp.subtree_sum(p_star), axis=0)
    counts = np.zeros(tied.shape)
    np.add.at(counts, tied.context, mass)
    return counts / np.sum(counts, axis=1, keepdims=True)


# %% [markdown]
# **5. Covariate shift, in one number.** Both differences of divergences are sums over states of visits times the KL of the rows
# there; only the visits differ.


# %%
def covariate_shift(mu, d_star, d_hat, log_pi_hat, log_pi_tied):
    return np.sum(mu[:, None] * (d_star - d_hat) * tr.kl(log_pi_hat, log_pi_tied))
