# %% [markdown]
# # Solutions of lesson 11
#
# One function for each exercise of chapter 10, named as in the notebook, and before it why it is right. The first five stand in the
# lesson; the other six are for another day.

# %%
import math

import numpy as np

# %% [markdown]
# **1. What a table of advantages ascends.** Given $m$, right responses have the mean score $\nabla \log u$ and wrong ones $\nabla \log
# (1-u)$; the first get $m A$ in all, the second $-m A$. The difference of the two scores is $\nabla u / (u (1-u))$, so the update is
# $\sum_m \binom{G}{m} u^m (1-u)^{G-m} \frac{m A(m)}{G} \frac{\nabla u}{u (1-u)}$. And $\frac{m}{G} \binom{G}{m} = \binom{G-1}{m-1}$.


# %%
def group_weight(p, success, G, credit_0, credit_1, credit_2):
    u = np.sum(p * success, axis=1)
    weight = np.zeros_like(u)
    for m in range(1, G):
        ways = math.comb(G - 1, m - 1) * u ** (m - 1) * (1 - u) ** (G - 1 - m)
        weight = weight + ways * (credit_0 + credit_1 * m + credit_2 * m**2)
    return weight


# %% [markdown]
# **2. A batch without silent groups.** A group is mixed unless all are right or all are wrong. Silent groups push nothing, so the mean
# over mixed groups is the old mean, divided by the share of groups that are mixed, over all prompts.


# %%
def filled_step(mu, p, success, G):
    u = np.sum(p * success, axis=1)
    return 1 / np.sum(mu * (1 - u**G - (1 - u) ** G))


# %% [markdown]
# **3. What a truncated ratio ascends.** We want $g$ with $\rho\, g'(\rho) = \min(\rho, C)$, since $\nabla \rho$ is $\rho$ times the
# score. Below $C$ that is $g = \rho$; above it $g' = C/\rho$, so $g = C + C \log(\rho/C)$.


# %%
def truncated_objective(p, log_p_2, r, cap):
    old = np.exp(log_p_2)
    rho = p / old
    beyond = np.log(np.maximum(rho, cap) / cap)
    return np.sum(old * r * (np.minimum(rho, cap) + cap * beyond), axis=1)


# %% [markdown]
# **4. PPO-clip under coin flips.** With the advantage $+1$ the surrogate is $\min(\rho, c)$, $c$ the clipped ratio; with $-1$ it is
# $-\max(\rho, c)$. Half of each: $(\min - \max)/2 = -|\rho - c|/2$.


# %%
def clip_pull(mdp, log_pi, log_pi_2, clip):
    rho = np.exp(log_pi - log_pi_2)
    off = np.abs(rho - np.clip(rho, 1 - clip, 1 + clip))
    return -np.sum(np.exp(mdp.path_sum(log_pi_2)) * mdp.path_sum(off), axis=1) / 2


# %% [markdown]
# **5. Half a win for a tie.** Ties are what is left of one, and half of them are added to the wins: the share is $(1 + P - Q)/2$, with
# $P$ the wins and $Q$ the losses. Its log-odds are those of $1 + P - Q$ to $1 - P + Q$.


# %%
def halved_ties(gaps, tie_bar):
    wins = 1 / (1 + tie_bar * np.exp(-gaps))
    losses = 1 / (1 + tie_bar * np.exp(gaps))
    return np.log((1 + wins - losses) / (1 - wins + losses))


# %% [markdown]
# **Pass at k from a few tries.** Of all ways to choose $k$ of the $G$ tries, the share that holds no right one.


# %%
def pass_share(successes, tries):
    G = successes.shape[1]
    wrong = G - np.sum(successes, axis=1)
    return np.array([1 - math.comb(int(w), tries) / math.comb(G, tries) for w in wrong])


# %% [markdown]
# **MaxRL as it is coded.** Its advantage of a right response is $G/m - 1 = (G - m)/m$. In the sum of exercise 1 this gives, with
# $\binom{G-1}{m-1} \frac{G-m}{m} = \binom{G-1}{m}$, the chance that some of $G - 1$ are right, over $u$: $(1 - (1-u)^{G-1})/u$. Divided
# out, that is a geometric series of $G - 1$ terms.


# %%
def max_rl_weight(p, success, G):
    u = np.sum(p * success, axis=1)
    return sum((1 - u) ** k for k in range(G - 1))


# %% [markdown]
# **How often the tuned model is right.** The tilt multiplies right responses by $e^{1/\beta}$ and wrong ones by 1, so it multiplies the
# odds.


# %%
def sharpened_success(p_ref, success, beta):
    wrong_to_right = np.sum(p_ref * (1 - success), axis=1) / np.sum(p_ref * success, axis=1)
    return 1 / (1 + wrong_to_right * np.exp(-1 / beta))


# %% [markdown]
# **The ratio of a response so far.** Logarithms of ratios add up along the path to a state; the token's own comes on top.


# %%
def prefix_ratios(mdp, log_pi, log_pi_2):
    step = log_pi - log_pi_2
    return np.exp(mdp.prefix_sum(step)[..., None] + step)


# %% [markdown]
# **REINFORCE on old data, without ratios.** The velocity of a logit is $g_i - W p_i$ with $g = m (r - b)$ and $W = \sum g$. At rest
# those of the responses that stay are equal, say to $\lambda$, so $p_i = (g_i - \lambda)/W$ where that is positive, and 0 elsewhere.
# Sort the $g$, and take the longest head whose last member is still above its level.


# %%
def where_it_ends(log_p_2, r, below):
    m = np.exp(log_p_2)
    gain = m * (r - np.sum(m * r, axis=1, keepdims=True) + below)
    total = np.sum(gain, axis=1, keepdims=True)
    heads = -np.sort(-gain, axis=1)
    levels = (np.cumsum(heads, axis=1) - total) / np.arange(1, gain.shape[1] + 1)
    last = np.sum(heads > levels, axis=1, keepdims=True) - 1
    return np.maximum(0, gain - np.take_along_axis(levels, last, axis=1)) / total


# %% [markdown]
# **How fast entropy falls.** $-\sum \dot\pi \log \pi$, with $\dot\pi = \pi (v - \mathbb{E}_\pi[v])$ the softmax's own velocity (the
# other term, $\sum \dot\pi$, is 0): less the covariance of $\log \pi$ and $v$.


# %%
def entropy_drift(pi, log_pi, direction):
    centered = direction - np.sum(pi * direction, axis=-1, keepdims=True)
    return -np.sum(pi * log_pi * centered, axis=-1)
