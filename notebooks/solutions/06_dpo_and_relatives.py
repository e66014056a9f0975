# %% [markdown]
# # Solutions of lesson 6
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

import tabular_rlhf as tr

# %% [markdown]
# **1. The reward hidden in a policy.** Section 6.1: the Gibbs law, solved for $r$; the constant $\beta \log Z(x)$ is free, so it may be 0.


# %%
def policy_reward(beta, log_p, log_p_ref):
    return beta * (log_p - log_p_ref)


# %% [markdown]
# **2. DPO's loss on data.** The implicit reward of the winner less that of the loser, into $-\log \sigma$. `tr.log_sigmoid` does not
# overflow, whatever the margin.


# %%
def dpo_data_loss(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l):
    margin = beta * ((log_p_w - log_p_ref_w) - (log_p_l - log_p_ref_l))
    return -np.mean(tr.log_sigmoid(margin))


# %% [markdown]
# **3. How hard DPO pulls.** The margin grows by $\beta$ for each nat of $\log \pi(y_w)$ and falls by $\beta$ for each of $\log \pi(y_l)$;
# $-\log \sigma(m)$ has the slope $-\sigma(-m)$; and each comparison has the weight $1/n$.


# %%
def dpo_slopes(beta, rhat_w, rhat_l):
    pull = beta * np.exp(tr.log_sigmoid(rhat_l - rhat_w)) / len(rhat_w)
    return np.stack([-pull, pull])


# %% [markdown]
# **4. A target instead of a slope.** Here $\beta$ does not multiply $D$: it only says where the target is.


# %%
def ipo_loss(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l):
    D = (log_p_w - log_p_ref_w) - (log_p_l - log_p_ref_l)
    return np.mean((D - 1 / (2 * beta)) ** 2)


# %% [markdown]
# **5. What the data do not say.** At first every response is an island; a comparison joins two islands, or none if its responses are on one
# island already. $\log \pi$ can be raised on each island separately, and normalization takes one direction of each prompt away.


# %%
def undetermined(compared, P, N):
    island = [[{y} for y in range(N)] for _ in range(P)]
    for x, w, l in compared:
        together = island[x][w] | island[x][l]
        for y in together:
            island[x][y] = together
    return sum(len({min(isle) for isle in island[x]}) - 1 for x in range(P))
