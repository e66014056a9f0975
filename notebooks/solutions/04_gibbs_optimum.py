# %% [markdown]
# # Solutions of lesson 4
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

import tabular_rlhf as tr

# %% [markdown]
# **1. The Gibbs optimum.** Tilt the reference by $e^{r/\beta}$ and divide each prompt's row by its own sum, $Z(x)$.


# %%
def gibbs_probabilities(p_ref, r, beta):
    weight = p_ref * np.exp(r / beta)
    return weight / np.sum(weight, axis=1, keepdims=True)


# %% [markdown]
# **2. The value of the optimum.** $Z$ is a sum of $e^{\log p_{ref} + r/\beta}$. Its logarithm is taken without leaving logarithms, so
# that a small $\beta$ does not overflow.


# %%
def best_value(beta, log_p_ref, r):
    return beta * tr.logsumexp(log_p_ref + r / beta)


# %% [markdown]
# **3. What a policy gives away.** By `regret-is-kl` it is the reverse KL to the optimum, the law that speaks standing first, at
# $\beta$ units of reward a nat.


# %%
def regret(beta, log_p, log_p_star):
    return beta * tr.kl(log_p, log_p_star)


# %% [markdown]
# **4. The optimum, token by token.** The soft Bellman equation in every state, from the ends to the root: $V(s)$ is $\beta \log$ of
# the mean of $e^{Q/\beta}$ under $\pi_{ref}$. Then $\pi_{ref}$, tilted by $Q - V$, sums to one by itself.


# %%
def token_policy(mdp, log_pi_ref, r, beta):
    log_ref = mdp.levels(log_pi_ref)
    V, Q = mdp.backup(r, lambda h, Q: beta * tr.logsumexp(log_ref[h] + Q / beta, axis=1))
    return np.exp(log_pi_ref + (Q - V[..., None]) / beta)


# %% [markdown]
# **5. The divergence, state by state.** In every state a KL of two rows, weighed by how often the law that speaks comes there.


# %%
def kl_by_states(d_pi, log_pi, log_pi_ref):
    return np.sum(d_pi * tr.kl(log_pi, log_pi_ref), axis=1)
