# %% [markdown]
# # 7. Policy gradients and PPO
#
# **The question.** Lesson 4 wrote the best policy down, by summing over everything that can be said. A real model can only be *sampled*:
# let it write, look at the reward, move its parameters a little. *In which direction, how noisy is it, and what do the usual tricks
# (baselines, groups, dividing by a standard deviation, averaging over tokens, clipping) really climb?*
#
# Each trick is a small change of one formula. Some leave its mean alone, some bend it, and all change its noise. In a world that can be
# enumerated one can say exactly which.

# %%
from fractions import Fraction

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show
from tabular_rlhf.gibbs import policy_gradient
from tabular_rlhf.penalties import ptx_optimum
from tabular_rlhf.policy_gradient import AGGREGATIONS, Recipe, analyse, success_weight
from tabular_rlhf.policy_gradient.flows import natural
from tabular_rlhf.policy_gradient.updates import expected_update, true_gradient

# %% [markdown]
# **First, look.** A reward that does not ask for any length, and four ways of averaging over tokens. Where every response is right, two of them
# make responses shorter and shorter; where every response is wrong, longer and longer, *because* a mean over tokens gives each token of a long
# response a smaller share of the push. Nobody asked for that. (Section 7.7 computes it.)

# %%
show("length-by-aggregation")

# %% [markdown]
# ## 7.1 The gradient of a mean
#
# A policy with a **logit** $\theta(s, a)$ for every state and token (a *tabular* policy),
# $\pi(a \mid s) = e^{\theta(s, a)} / \sum_b e^{\theta(s, b)}$. We know how to make responses likelier, one by one: move along the
# **score** $\nabla \log p_\pi(\tau)$, the gradient in all logits. (From lesson 1, $\log p_\pi(\tau)$ is the sum of
# $\log \pi(a \mid s)$ along the response. So its slope in $\theta(s, b)$ is 1 for the token that is chosen, less $\pi(b \mid s)$
# for each $b$, in every state that the response visits, and 0 in all other states.)
#
# A small world. One word, "a"; two tokens at most; success is to say "a a".

# %%
pi = {
    "start": {"a": Fraction(2, 3), ".": Fraction(1, 3)},
    "after a": {"a": Fraction(2, 3), ".": Fraction(1, 3)},
}
choices = {
    ".": {"start": "."},
    "a .": {"start": "a", "after a": "."},
    "a a": {"start": "a", "after a": "a"},
}
r = {".": 0, "a .": 0, "a a": 1}

# %%
p = {tau: np.prod([pi[s][a] for s, a in choices[tau].items()]) for tau in choices}


# %%
def score(tau):
    at = choices[tau]
    return [((at[s] == b) - pi[s][b]) if s in at else Fraction(0) for s in pi for b in pi[s]]


{tau: [str(p[tau]), *map(str, score(tau))] for tau in p}

# %% [markdown]
# (First $p_\pi(\tau)$, then the slopes in the logits of "a" and "." at the start, and of "a" and "." after "a".)
#
# We want the gradient of $\mathbb{E}[r] = \sum_\tau p_\pi(\tau)\, r(\tau)$. It is a sum of gradients of *probabilities*, and one cannot
# sample those. The trick of this lesson is $\nabla p = p\, \nabla \log p$: it turns the gradient of a mean into the mean of something.
#
# **The derivation.** ($Q(s, a)$ and $V(s)$ are the values of lesson 1, $d_\pi(s)$ the visits, $\mu$ the distribution of prompts.)

# %%
derive("policy-gradient")

# %% [markdown]
# **Exact numbers.** Line 4, in our world: the mean of $r(\tau)\, \nabla \log p_\pi(\tau)$.


# %%
def mean(f):
    return sum(p[tau] * f(tau) for tau in p)


g = [mean(lambda tau, k=k: r[tau] * score(tau)[k]) for k in range(4)]
[str(slope) for slope in g]

# %% [markdown]
# The same from the library, which differentiates the sum over all responses:

# %%
mdp = tr.TokenMDP(("a", "."), horizon=2, eos=".")
world = tr.World(
    mdp,
    np.log([[[2 / 3, 1 / 3]] * mdp.S]),
    r=mdp.phrase_count("a a")[None],
    beta=1.0,
    name="say it twice",
)


# %%
def mean_reward(theta):
    return tr.expect(mdp.path_sum(tr.log_softmax(theta)), world.r)[0]


tr.grad(mean_reward)(world.log_ref).round(6).tolist(), round(4 / 27, 6)

# %% [markdown]
# **The sampled check.** Draw 10,000 responses and average $r$ times the slope in the logit of "a" at the start, which is $1/3$ for
# responses that begin with "a" and $-2/3$ for the one that does not:

# %%
slope = np.array([[float(score(mdp.text(tau))[0]) for tau in range(mdp.N)]])
everything = tr.population(world, world.log_p_ref)
drawn = tr.sample(world, world.log_p_ref, 10_000, rng=np.random.default_rng(0))

# %%
exact, sampled = [tr.estimate(data, data[world.r * slope]) for data in (everything, drawn)]
{
    "exact": round(exact.mean, 4),
    "sampled": round(sampled.mean, 4),
    "z": round(sampled.z(exact), 2),
}

# %% [markdown]
# ## 7.2 Baselines
#
# If all rewards are raised by 100, nothing changes; but each update is a hundred times as long, and points anywhere. So subtract a
# **baseline** $b(x)$, a number that may depend on the prompt.

# %%
derive("zero-mean-score")

# %% [markdown]
# It costs nothing because probabilities sum to one whatever $\theta$. It may *not* look at the response.
#
# **A near miss.** "The better the baseline predicts the reward, the better." Let it be any function $f(\tau)$ of the response
# (`score_rows[x, i]` is the score of response $i$ to prompt $x$):


# %%
def looks_at_the_response(mu, p, r, f, score_rows):
    return np.einsum("x,xn,xn,xnsv->xsv", mu, p, r - f, score_rows)


check("zero-mean-score", looks_at_the_response, part="with it")

# %% [markdown]
# (`np.einsum` multiplies tables whose axes are named by letters, and sums over the letters that do not stand behind the arrow.) A function
# that predicts the reward of each response perfectly leaves no gradient at all.
#
# **Predict.** Of all numbers that one may subtract from the reward, which gives the least noise: the mean reward?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Nearly, but no: the mean weighed by how strongly a response pushes, $b^* = \mathbb{E}[|s|^2 r]/\mathbb{E}[|s|^2]$, *because* the noise
# of a draw is its push squared, and responses that push hard count for more.
#
# </details>
#
# **Which $b$ is best?** All are right on average; the best has the least noise. In the derivation $s$ is the score, $|s|^2$ the sum of the
# squares of its entries, and $\theta_k$ are the logits.

# %%
derive("optimal-baseline")

# %% [markdown]
# In our world, the summed variance of an update for $b = 0$, for the mean reward $4/9$, and for $b^*$:


# %%
def squared(tau):
    return sum(slope**2 for slope in score(tau))


def variance(b):
    return mean(lambda tau: (r[tau] - b) ** 2 * squared(tau)) - sum(slope**2 for slope in g)


b_star = mean(lambda tau: squared(tau) * r[tau]) / mean(squared)
{f"b = {b}": str(variance(b)) for b in (Fraction(0), mean(r.get), b_star)}

# %% [markdown]
# That is 0.1097, 0.0805 and 0.0571. The mean reward is better than nothing, and still 41 % noisier than need be: the successful response
# has the shortest score, so it should count for less.
#
# **A near miss.** "The best baseline is the mean reward." (`E_r` is the mean reward of each prompt.)

# %%
check("optimal-baseline", lambda E_r: E_r, part="b*")

# %% [markdown]
# ## 7.3 Reward to go
#
# **Predict.** Reward to go drops what was earned before a token: that cannot have depended on it. Can dropping noise make an update
# *noisier*?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Yes, where the past and the future cancel: if each reward is paid back later, the whole return is 0 and has no noise, and *because* only
# half of it is dropped, the other half is noise from nothing.
#
# </details>
#
# Suppose that rewards come token by token: $r_t$ for the $t$-th token, $G = \sum_t r_t$ in all. A token cannot change what was earned
# before it. So credit it only with the reward from it on, $G_{\ge t}$.

# %%
derive("reward-to-go")

# %% [markdown]
# Lines 1 to 5: the mean does not change. Lines 6 to 9 are about the noise, and they do not say what one often reads. *What is saved is
# $\mathbb{E} \sum_t |s_t|^2\, (G_{<t}^2 + 2\, G_{<t}\, G_{\ge t})$, and the second term may be negative.*
#
# In our tree: say "a" first and earn $c$; whatever comes then earns $f$. The score after "a" has the squared length 4/9 on average, and one
# comes there with probability 2/3. For $c = 1$, what is saved is


# %%
def saved(c, f):
    return Fraction(2, 3) * Fraction(4, 9) * (c**2 + 2 * c * f)


{f"f = {f}": str(saved(1, f)) for f in (1, 0, -1)}

# %% [markdown]
# If what is earned first is paid back later ($f = -1$), the whole return is always 0, and an update by the whole return has no noise at
# all. Reward to go credits the second token with $-1$, whichever it is: noise from nothing.
#
# **A near miss.** "Dropping the past can only help: what is saved is $\mathbb{E} \sum_t |s_t|^2\, G_{<t}^2$."


# %%
def never_a_loss(mdp, log_p, log_pi, r_token):
    pi = np.exp(log_pi)
    squared_score = 1 - 2 * pi + np.sum(pi**2, axis=-1, keepdims=True)
    past = mdp.prefix_sum(r_token)[..., None]
    return tr.expect(log_p, mdp.path_sum(squared_score * past**2))


check("reward-to-go", never_a_loss, part="variance saved")

# %% [markdown]
# ## 7.4 With the penalty
#
# From lesson 4, the objective is $J(\pi) = \mathbb{E}\big[r - \beta \log (p_\pi/p_{ref})\big]$, $\mathbb{E}$ over $\mu$ and $p_\pi$. Now
# $\pi$ stands in two places: it draws the responses, and it pays the penalty.

# %%
derive("kl-regularized-gradient")

# %% [markdown]
# So the penalty can be treated like a reward: computed on the sample, *frozen* (not differentiated), and subtracted.
#
# **A near miss.** "I do not freeze it. I draw responses with the reward's gradient, add $\beta \log (p_\pi/p_{ref})$ of the drawn
# responses to the loss, and let the machine differentiate." The mean of that extra term is $\beta\, \mathbb{E}[\nabla \log p_\pi] = 0$,
# so what is climbed is $\mathbb{E}[r]$, without a penalty:

# %%
check("kl-regularized-gradient", lambda world, log_pi: true_gradient(world, log_pi))

# %% [markdown]
# This is one of many ways to get a KL wrong, and one that has been shipped. Lesson 8 has them all.
#
# ## 7.5 Groups
#
# Where does a baseline come from, if one can only sample? From other responses to the same prompt. Draw a **group** of $G$ responses
# $\tau_1, \ldots, \tau_G$ with rewards $r_i$ and scores $s_i$, and compare each with the others (RLOO, *leave one out*), or with the mean
# of the whole group, $\bar r$.

# %%
derive("rloo")

# %% [markdown]
# **A near miss.** "The group mean is a baseline, too." It is not one: it looks at the response, which is a part of it. (`graded` is the
# reward here.)

# %%
check(
    "rloo",
    lambda world, log_pi, graded: true_gradient(world, log_pi, graded),
    part="group mean",
)

# %% [markdown]
# The group mean is short by the factor $(G - 1)/G$, the same in every direction: harmless, a smaller step. Will every group trick be as
# harmless?
#
# ## 7.6 Dividing by the spread: GRPO
#
# GRPO also divides by the standard deviation of the group: $A_i = (r_i - \bar r)/\mathrm{std}(r_1, \ldots, r_G)$, and 0 if all are equal.
# For rewards of 0 and 1 one can say exactly what that does. Let $q(x)$ be the probability of success on prompt $x$.

# %%
derive("grpo")

# %% [markdown]
# So the update of a prompt is $c_G(q)\, \nabla q$. RLOO's is $\nabla q$. The weight $c_G(q)$, and its limit for large groups:


# %%
def weights(q):
    return [
        round(float(success_weight(q, Recipe("grpo", G=G))), 4) for G in (2, 4, 16, 64)
    ] + [round((q * (1 - q)) ** -0.5, 4)]


{f"q = {q}": weights(q) for q in (0.01, 0.1, 0.5, 0.9)}

# %% [markdown]
# Columns: $G = 2, 4, 16, 64, \infty$. Pairs have no preference; large groups push *nearly hopeless and nearly solved* prompts, alike, most.
#
# So dividing by a positive number does change where one goes: not for one prompt, but as soon as several share the parameters of a model.
#
# **A near miss.** "Groups are large, so the weight is $1/\sqrt{q (1 - q)}$."


# %%
def as_if_groups_were_infinite(p, success):
    q = np.sum(p * success, axis=1)
    return 1 / np.sqrt(q * (1 - q))


check("grpo", as_if_groups_were_infinite, part="c(q)")

# %% [markdown]
# Where success is certain the limit is infinite; a group of two gives the weight 1 there as everywhere. In line 6 of the derivation every
# bracket is at most $\sqrt{G - 1}$, and so is the weight. The weight, and the function that is climbed:

# %%
show("group-normalization")

# %% [markdown]
# For a prompt whose success probability is $q$, a large group climbs $2 \arcsin \sqrt q$ instead of $q$: also an increasing function,
# only another one. And for rewards with three values or more? Then an update may be the gradient of *nothing*: going around in a circle
# one could climb for ever. `analyse` computes, for groups of four: the cosine of the angle between the mean update and
# $\nabla\, \mathbb{E}[r]$, how far it goes in that direction, and what function it climbs. First our world of success and failure, then
# `rational`, with three rewards:


# %%
def facts(world, name):
    found = analyse(world, world.log_ref, Recipe(name, G=4))
    return [round(found.cosine, 4), round(found.ratio, 4), found.objective]


{name: facts(world, name) for name in ("none", "group-mean", "rloo", "grpo", "loo-std")}

# %%
{
    name: facts(tr.rational(), name)
    for name in ("none", "group-mean", "rloo", "grpo", "loo-std")
}

# %% [markdown]
# ("none" has no baseline; for the group mean $\mathbb{E}[b] = \mathbb{E}[r]$, hence the 3/4; "loo-std" compares with the mean *and* the
# standard deviation of the others. "Curl" is a physicist's word for going around in circles.)
#
# ## 7.7 Tokens and length
#
# A response is an answer for the reward, but for the program it is a list of tokens. So the update is a weighted sum over all tokens of the
# group, and everybody chooses their own weights. Let $L_i$ be the number of tokens of response $i$:
#
# | rule | weight of a token of response $i$ | climbs |
# |---|---|---|
# | sequence-sum | $1/G$ | $\mathbb{E}[r]$ |
# | sequence-mean | $1/(G L_i)$ | $\mathbb{E}[(r - b)/L]$, if the baseline $b$ is a constant |
# | token-mean | $1/\sum_j L_j$ | nothing that one would write down |
# | constant | $1/(G C)$ | $\mathbb{E}[r]/C$ |
#
# A test that shows what a weight does: let *all* responses have the same reward, so that there is nothing to learn, and see whether the
# mean length moves. One word, up to three tokens, a coin for each:

# %%
tree = tr.TokenMDP(("word", "."), horizon=3, eos=".")
flat = tr.World(
    tree,
    np.log([[[1 / 2, 1 / 2]] * tree.S]),
    r=np.ones((1, tree.N)),
    beta=1.0,
    name="nothing to learn",
)


# %%
def length_rate(rule, reward):
    update = expected_update(
        flat, flat.log_ref, Recipe("none", aggregation=rule, G=4), reward=reward * flat.r
    )
    longer = true_gradient(flat, flat.log_ref, reward=tree.lengths[None].astype(float))
    return round(float(np.sum(update * longer)), 4) + 0.0


{
    rule: {"all right": length_rate(rule, 1.0), "all wrong": length_rate(rule, -1.0)}
    for rule in AGGREGATIONS
}

# %% [markdown]
# These are the rates at which the mean length grows (tokens for a unit of step). *Means over tokens shorten what is right and lengthen
# what is wrong*: a long failure is punished less for each of its tokens. (A good baseline hides it in this test, since $r - b = 0$ here.)
# Followed for a while, with eight tokens, this is the picture at the top of this lesson.
#
# **A near miss.** "The mean over tokens is the policy gradient." (The baseline is 1/2 in both, which changes the one and not the other.)


# %%
def as_if_length_did_not_matter(mu, p, graded, score_rows):
    return np.einsum("x,xn,xn,xnsv->xsv", mu, p, graded - 0.5, score_rows)


check("aggregation", as_if_length_did_not_matter, part="mean over tokens")

# %% [markdown]
# ## 7.8 PPO: several steps from one sample
#
# Writing responses is expensive, so one wants to take several steps with the same ones. After the first step they were drawn from an
# *old* policy $\pi_{old}$. Correct for it with the **ratio** $\rho = \pi(a \mid s)/\pi_{old}(a \mid s)$ of each token:
# $\sum_a \pi_{old}\, \rho\, A = \sum_a \pi\, A$. Far from $\pi_{old}$ this is noise (and the states are still those that $\pi_{old}$
# visits). So *proximal policy optimization* gives a token of advantage $A$ only the worth
#
# $$\min\big(\rho A,\ \mathrm{clip}(\rho, 1 - c, 1 + c)\, A\big), \qquad \text{usually } c = 0.2 ,$$
#
# where clip moves $\rho$ into the interval. The mean worth is called the *clipped surrogate*. By cases:


# %%
def worth(rho, A, c=Fraction(1, 5)):
    clipped = min(max(rho, 1 - c), 1 + c)
    return min(rho * A, clipped * A)


ratios = [Fraction(1, 2), Fraction(4, 5), Fraction(1), Fraction(6, 5), Fraction(3, 2)]
{f"A = {A}": {f"rho = {rho}": str(worth(rho, A)) for rho in ratios} for A in (1, -1)}

# %% [markdown]
# A good token gains nothing more once it is 20 % likelier than before; a bad one gains nothing more once it is 20 % less likely. A token
# that has moved the *wrong* way is never clipped: it must be able to come back. That is what the minimum is for.
#
# **A near miss.** "Clip the ratio and be done." In the checker's worlds `f` is the advantage of each response, and $\pi_{old}$ is called
# `log_pi_behavior`. (`mdp.subtree_sum` adds up a table over the responses that pass through each state and token.)


# %%
def clip_and_be_done(mdp, mu, log_pi, log_pi_behavior, f, clip):
    through = mdp.subtree_sum(mu[:, None] * np.exp(mdp.path_sum(log_pi_behavior)) * f)
    return np.sum(through * np.clip(np.exp(log_pi - log_pi_behavior), 1 - clip, 1 + clip))


check("ppo-clip", clip_and_be_done, part="surrogate")

# %% [markdown]
# **At $\pi = \pi_{old}$** nothing is clipped, and since $\nabla \rho = \rho\, \nabla \log \pi$, the gradient is the policy
# gradient. So with one step for each sample, PPO is RLOO (if that is where $A$ comes from), clip or no clip ("reinforce" is the
# plain policy gradient):

# %%
steps = [
    expected_update(world, world.log_ref, Recipe("rloo", loss, G=4))
    for loss in ("reinforce", "ppo-clip")
]
[step.round(6).tolist() for step in steps]

# %% [markdown]
# **A policy that has moved.** Its logit of "a" at the start has been raised by 1, so "a" has the ratio
# $\rho = 1.267$ there and "." the ratio 0.4661. The slopes of both surrogates, when the sample is still that of $\pi_{old}$:

# %%
moved = world.log_ref + np.array([[[1.0, 0.0], [0.0, 0.0]]])
np.exp(tr.log_softmax(moved) - world.log_ref)[0, 0].round(4).tolist()

# %%
again = {
    loss: expected_update(world, moved, Recipe("rloo", loss, G=4), log_old=world.log_ref)
    for loss in ("ratio", "ppo-clip")
}
{loss: step[0].round(4).tolist() for loss, step in again.items()}

# %% [markdown]
# Unclipped, it pushes on. Clipped, the first token is pushed *back*: in groups where "a" was a disappointment its slope is still there,
# and where it was a success it is not. The second token ($\rho = 1$) is as free as before.
#
# ## 7.9 PPO-ptx
#
# InstructGPT's objective has one more term, so that the model does not forget what it has read: $\gamma\, \mathbb{E}_D[\log p_\pi]$,
# where $D$ is a distribution of text and $\gamma$ (gamma) a weight. It needs no sampling from the policy, and its gradient needs no
# trick: it is imitation. (With $\lambda(x)$ for the multiplier of lesson 4, and $p^{o}$ for the optimum:)

# %%
derive("ppo-ptx-optimum")

# %% [markdown]
# Where is it, for $D$ uniform? The laws, over ".", "a a" and "a .":

# %%
rational = tr.rational()
uniform = np.full((1, 3), -np.log(3))


# %%
def optimum(gamma):
    log_p = ptx_optimum(rational.log_p_ref, rational.r, rational.beta, gamma, uniform).log_p
    return np.exp(log_p[0]).round(4).tolist()


{"p*": tr.solve(rational).p[0].round(4).tolist()} | {
    f"gamma = {gamma}": optimum(gamma) for gamma in (0.1, 1.0, 10.0, 100.0)
}

# %% [markdown]
# From $p^*$ to $D$, as it should be.
#
# ## 7.10 The natural gradient
#
# Why should equal steps in *logits* be right? A state that is rarely visited has a small gradient, however wrong its policy is: that is
# $d_\pi(s)$ in the last line of section 7.1's derivation. The **natural gradient** measures steps by how much they change what is *said*.
# It divides by the **Fisher matrix** $F = \mathbb{E}[s\, s^{\mathsf T}]$, the mean of products of scores, which is the curvature of the
# KL.

# %%
derive("natural-gradient")

# %% [markdown]
# Visits and $\pi$ cancel: every state moves at the same speed, whether one comes there often or not. With the step $\eta = 1/\beta$
# the old policy is forgotten, and each state makes the best of what *follows* (*soft policy iteration*). So after $H$ steps
# everything is settled, from the leaves to the root. In `rational`, from the reference, the policy's "a" at the start and after
# "a":


# %%
def natural_step(world, log_pi, eta):
    return tr.log_softmax(
        log_pi + eta * natural(world, lambda theta: policy_gradient(world, theta))(log_pi)
    )


one = natural_step(rational, rational.log_ref, eta=1 / rational.beta)
two = natural_step(rational, one, eta=1 / rational.beta)
{
    name: np.exp(log_pi[0, :, 0]).round(6).tolist()
    for name, log_pi in [("reference", rational.log_ref), ("one", one), ("two", two)]
}

# %% [markdown]
# Two tokens, two steps: $16/19$ and $3/4$, the policy of $p^*$. The plain gradient in a world where the good state is rarely visited: "a"
# has probability 1/100 at first, and "a a" is worth $\log 50$. The regret, after so many steps of length $1/\beta$:

# %%
rare = tr.World(
    mdp,
    np.log([[[0.01, 0.99], [0.5, 0.5]]]),
    r=np.log(50) * mdp.phrase_count("a a")[None],
    beta=1.0,
    name="rare",
)


# %%
def regrets(step, world, counts):
    log_pi, found = world.log_ref, {}
    for k in range(max(counts) + 1):
        if k in counts:
            found[k] = round(float(tr.regret(mdp.path_sum(log_pi), world)), 6)
        log_pi = step(log_pi)
    return found


# %%
def plain_step(log_pi):
    return tr.log_softmax(log_pi + policy_gradient(rare, log_pi))


{
    "plain": regrets(plain_step, rare, (0, 1, 2, 10, 100)),
    "natural": regrets(lambda log_pi: natural_step(rare, log_pi, eta=1.0), rare, (0, 1, 2)),
}

# %% [markdown]
# **A near miss.** "A gradient is a gradient: take the step along $\nabla J$ itself."


# %%
def plain_step(world, log_pi, eta):
    return np.exp(tr.log_softmax(log_pi + eta * policy_gradient(world, log_pi)))


check("natural-gradient", plain_step, part="one step")

# %% [markdown]
# ## 7.11 Explore
#
# Be the optimizer. The two sliders of the policy are all its degrees of freedom; the regret is what you still give away. *Try this.*
# Start at $p_{ref}$ and move one slider at a time, each to where the regret is least. How many moves until it stops falling? (The natural
# gradient needed two steps.) Then lower $\beta$ to a tenth: which way has the goal moved?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Three, if you begin with the first slider (0.0146, then 0.0000 but for the last digit, then 0); two, if you begin with the second: what is best
# after "a" does not depend on how often one gets there, because the soft Bellman equation of lesson 4 goes from the ends to the root. A
# lower $\beta$ moves ★ along the arc towards the best response, because every nat is cheaper.
#
# </details>

# %%
explore.simplex("rational")

# %% [markdown]
# The derivation that is most often misremembered, one line at a time:

# %%
explore.derivation("reward-to-go")

# %% [markdown]
# ## 7.12 Exercises
#
# Replace `...` and run the cell again.
#
# **1. The policy gradient.** `score_rows[x, i, s, a]` is the slope of $\log p_\pi$ of response $i$ to prompt $x$ in the logit
# $\theta(s, a)$ of that prompt, `mu` the distribution of prompts, `p` and `r` the probabilities and rewards, `(P, N)`. Return the
# gradient of the mean reward: shape `(P, S, V)`.


# %%
def logit_gradient(mu, p, r, score_rows):
    return ...


check("logit-gradient", logit_gradient)

# %% [markdown]
# **2. The quietest baseline.** For each prompt return the $b$ for which the mean of $(r - b)^2\, |\mathrm{score}|^2$ is smallest: shape
# `(P,)`.


# %%
def best_baseline(p, r, score_rows):
    return ...


check("best-baseline", best_baseline)

# %% [markdown]
# **3. What the others earned.** `rewards` holds groups of `G` responses, a group a row: shape `(n, G)`. Return RLOO's advantages, each
# reward less the mean of the *other* rewards of its group.


# %%
def leave_one_out(rewards, G):
    return ...


check("leave-one-out", leave_one_out)

# %% [markdown]
# **4. Divided by the group's spread.** `successes` holds rewards of 0 and 1, a group a row, each group with a success and a failure. Return
# GRPO's advantages: the reward less the group's mean, divided by the group's standard deviation (the one that divides by $G$).


# %%
def grpo_advantage(successes):
    return ...


check("grpo-advantage", grpo_advantage)

# %% [markdown]
# **5. PPO's clipped surrogate.** `importance` holds the ratios $\rho$ of $n$ draws and `advantage` their advantages, both `(n,)`. Return
# the mean worth of section 7.8, with $c$ = `clip`: a scalar, to be maximized.


# %%
def clipped_surrogate(importance, advantage, clip):
    return ...


check("clipped-surrogate", clipped_surrogate)

# %% [markdown]
# ## Further reading
#
# - Williams (1992), *Simple statistical gradient-following algorithms for connectionist reinforcement learning*: the score-function
#   gradient (REINFORCE) and its baseline.
# - Sutton, McAllester, Singh and Mansour (2000), *Policy gradient methods for reinforcement learning with function approximation*: the
#   policy-gradient theorem; no gradient of the visits is needed.
# - Greensmith, Bartlett and Baxter (2004), *Variance reduction techniques for gradient estimates in reinforcement learning*: the baseline
#   of least variance, and how much is lost with the mean reward.
# - Kakade (2001), *A natural policy gradient*: section 7.10; it moves towards the best action of every state, not just a better one.
# - Schulman et al. (2017), *Proximal policy optimization algorithms*, arXiv:1707.06347: the clipped surrogate.
# - Ouyang et al. (2022), *Training language models to follow instructions with human feedback*, arXiv:2203.02155: PPO with a KL penalty,
#   and the pretraining term.
# - Shao et al. (2024), *DeepSeekMath: pushing the limits of mathematical reasoning in open language models*, arXiv:2402.03300: GRPO.
# - Ahmadian et al. (2024), *Back to basics: revisiting REINFORCE style optimization for learning from human feedback in LLMs*,
#   arXiv:2402.14740: in RLHF, PPO's machinery buys little over RLOO.
# - Liu et al. (2025), *Understanding R1-Zero-like training: a critical perspective*, arXiv:2503.20783: the two biases of sections 7.6 and
#   7.7, found in a real run.
# - Yu et al. (2025), *DAPO: an open-source LLM reinforcement learning system at scale*, arXiv:2503.14476: token means, and more room to
#   clip upwards than downwards.
