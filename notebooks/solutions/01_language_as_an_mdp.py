# %% [markdown]
# # Solutions of lesson 1
#
# One function for each exercise, named as in the notebook, and before it why it is right.

# %%
import numpy as np

# %% [markdown]
# **1. How large is the tree?** There are $K^h$ states in which $h$ tokens have been said. A response stops early in one of those with
# $h < H - 1$, if there is an EOS to stop with, or makes a last choice among $V$ tokens in one of the $K^{H-1}$ deepest.


# %%
def count_the_tree(V, K, H):
    states = sum(K**h for h in range(H))
    stopped_early = sum(K**h for h in range(H - 1)) if K < V else 0
    return [states, stopped_early + K ** (H - 1) * V]


# %% [markdown]
# **2. From choices to responses.** One term for every token that is said, EOS among them.


# %%
def log_probability(mdp, log_pi):
    return mdp.path_sum(log_pi)


# %% [markdown]
# **3. Where does one pass?** Every response through $s$ goes on with exactly one token: add up over the tokens.


# %%
def state_visits(mdp, p):
    return np.sum(mdp.subtree_sum(p), axis=-1)


# %% [markdown]
# **4. Any law is a policy.** The mass that goes through $s$ and on with $a$, as a share of the mass that goes through $s$.


# %%
def policy_of_a_law(mdp, p):
    through = mdp.subtree_sum(p)
    return through / np.sum(through, axis=-1, keepdims=True)


# %% [markdown]
# **5. How good is a choice?** Where the next states have values, $Q'(s, a) = V'(s + a)$; and $V'(s)$ is the mean of $Q'(s, a)$ over the
# choices of $\pi'$. `backup` does the first, `reduce` the second.


# %%
def advantages(mdp, log_pi_2, r):
    pi_2 = mdp.levels(np.exp(log_pi_2))
    V, Q = mdp.backup(r, lambda h, Q: np.sum(pi_2[h] * Q, axis=1))
    return Q - V[..., None]
