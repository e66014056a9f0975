# %% [markdown]
# # Solutions of lesson 3
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

import tabular_rlhf as tr

# %% [markdown]
# **1. Who beats whom?** One copy of the rewards gets an axis behind, for $i$, and one an axis before, for $j$.


# %%
def win_probabilities(r):
    return 1 / (1 + np.exp(-(r[:, :, None] - r[:, None, :])))


# %% [markdown]
# **2. From a list of comparisons to a table.** One at a time. (`wins[x, w, l] += 1` with three arrays would count a repeated row once;
# `np.add.at` counts it as often as it stands there.)


# %%
def count_wins(compared, P, N):
    wins = np.zeros((P, N, N))
    for x, w, l in compared:
        wins[x, w, l] += 1
    return wins


# %% [markdown]
# **3. The loss of a reward model.** `log_sigmoid` is $-\log (1 + e^{-D})$, computed so that no exponential overflows.


# %%
def comparison_loss(r_w, r_l):
    return -np.mean(tr.log_sigmoid(r_w - r_l))


# %% [markdown]
# **4. The slope of the likelihood.** The wins that the scores expect, less those that there were.


# %%
def preference_slope(scores, n_ij, wins_ij):
    expected = n_ij / (1 + np.exp(-(scores[:, :, None] - scores[:, None, :])))
    return np.sum(expected - wins_ij, axis=2)


# %% [markdown]
# **5. Labels that lie.** With probability $1 - e$ one sees the true margin $D$, otherwise $-D$. The mean of $a\, \ell(D) + b\, \ell(-D)$ is
# $[(1 - e)\, a + e\, b]\, \ell(D) + [e\, a + (1 - e)\, b]\, \ell(-D)$. The first bracket must be 1 and the second 0, so
# $a = (1 - e)/(1 - 2 e)$ and $b = -e/(1 - 2 e)$. The price: for a large margin this loss falls without end, since $b < 0$, and its variance
# grows as $e$ nears one half.


# %%
def unbiased_loss(r_w, r_l, flip):
    D = r_w - r_l
    return -np.mean((1 - flip) * tr.log_sigmoid(D) - flip * tr.log_sigmoid(-D)) / (
        1 - 2 * flip
    )
