# %% [markdown]
# # 4. KL-regularized RL and the Gibbs optimum
#
# **The question.** We have a reference, a reward that can be trusted near it, and a price for leaving it. *Of all the laws that
# could be followed, which one is best, what is it worth, what does anything else give away, and can a machine that speaks token by
# token follow it?* (RL is *reinforcement learning*: to become better at earning rewards.)
#
# Lesson 2 used the answer and gave no reason. Here are the reasons, line by line.

# %%
import math
from fractions import Fraction

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.figures import show
from tabular_rlhf.gibbs import frontier, shape_reward
from tabular_rlhf.penalties import f_divergence_optimum, ptx_optimum

# %% [markdown]
# **First, try.** Every law over three responses is a point of the triangle. Drag ● to where $J = \mathbb{E}[r] - \beta\, \mathrm{KL}$, what it is
# worth, is largest: too near to ◇ and it earns little, too near to the best corner and it pays for every nat. The best place is *between*, because
# the first steps away from ◇ cost nearly nothing. (In a notebook that is only read, the board stands still: run the cell.)

# %%
explore.aim("rational", regret=0.01)

# %% [markdown]
# ## 4.1 The objective
#
# The smallest world in which something can be said token by token: one word, "a", a full stop, at most two tokens. The reference goes
# on with "a" twice in three times. So there are three responses:

# %%
pi_ref = {"a": Fraction(2, 3), ".": Fraction(1, 3)}
p_ref = {".": pi_ref["."], "a .": pi_ref["a"] * pi_ref["."], "a a": pi_ref["a"] * pi_ref["a"]}
{tau: str(p) for tau, p in p_ref.items()}

# %% [markdown]
# Their rewards are $r = \beta \log k$ with whole numbers $k = 1, 2, 3$, so that $e^{r/\beta} = k$ and answers will be fractions. Here
# $\beta = 1$: a nat costs one unit of reward.

# %%
beta = 1.0
k = {".": 1, "a .": 2, "a a": 3}
r = {tau: beta * math.log(k[tau]) for tau in k}

# %% [markdown]
# From lesson 2, a law $p$ is worth what it earns on average, less $\beta$ for every nat of its distance from the reference:
#
# $$J(p) = \mathbb{E}_p[r] - \beta\, \mathrm{KL}(p, p_{ref}), \qquad
# \mathrm{KL}(p, q) = \sum_\tau p(\tau) \log \frac{p(\tau)}{q(\tau)} .$$


# %%
def KL(p, q):
    return sum(p[tau] * math.log(p[tau] / q[tau]) for tau in p if p[tau] > 0)


def J(p):
    return sum(p[tau] * r[tau] for tau in p) - beta * KL(p, p_ref)


# %% [markdown]
# Some laws, and what they are worth. Staying costs nothing and earns little; running to the best response earns most and pays most.

# %%
stay = p_ref
run = {".": 0, "a .": 0, "a a": 1}
share = dict.fromkeys(p_ref, Fraction(1, 3))
{name: round(float(J(p)), 4) for name, p in {"stay": stay, "run": run, "share": share}.items()}

# %% [markdown]
# ## 4.2 The best law
#
# How does $J$ answer to the probability of *one* response? Let the program differentiate itself (`tr.grad` returns the slopes;
# it is the *gradient core* of the derivations). The library's world `rational` is the same world; its responses come in the
# order ".", "a a", "a .".

# %%
world = tr.rational()
texts = [world.mdp.text(tau) for tau in range(world.mdp.N)]


# %%
def J_of(p):
    return np.sum(p * (world.r[0] - beta * np.log(p / np.exp(world.log_p_ref[0]))))


slopes = tr.grad(J_of)

# %% [markdown]
# At the reference:

# %%
dict(zip(texts, slopes(np.exp(world.log_p_ref[0])).round(4).tolist(), strict=True))

# %% [markdown]
# They differ. So move a little probability from "." to "a a": $J$ rises, since "a a" has the larger slope. One can go on until *all
# slopes are equal*. (Nothing gets stuck at probability 0: there the slope is $+\infty$.) Call the common slope $-\lambda$ (lambda).
# This is Lagrange's rule: to maximize $J$ where probabilities must sum to one, solve $\partial J / \partial p(\tau) + \lambda = 0$
# for all $\tau$, and choose the **multiplier** $\lambda$ so that the sum is one. ($J$ plus $\lambda$ times the sum is called the
# **Lagrangian**.)
#
# **The derivation.** In the lines below $Z$ is the sum of the weights $p_{ref}\, e^{r/\beta}$.

# %%
derive("gibbs-optimum")

# %% [markdown]
# So the best law tilts the reference by $e^{r/\beta}$ and divides by the total:
#
# $$p^*(\tau) = \frac{p_{ref}(\tau)\, e^{r(\tau)/\beta}}{Z}, \qquad Z = \sum_\tau p_{ref}(\tau)\, e^{r(\tau)/\beta} .$$
#
# It is called the **Gibbs optimum**, after the physicist: read $-r$ as energy, $\beta$ as temperature. $Z$ is the *partition function*.
#
# **Exact numbers.**

# %%
weight = {tau: p_ref[tau] * k[tau] for tau in p_ref}
Z = sum(weight.values())
p_star = {tau: weight[tau] / Z for tau in weight}
{"Z": str(Z), **{f"p*({tau})": str(p) for tau, p in p_star.items()}}

# %% [markdown]
# The library solves any world in one call, and at its solution all slopes agree. They are $-\lambda = \beta \log Z - \beta$.

# %%
solution = tr.solve(world)
slopes(solution.p[0]).round(6).tolist()

# %% [markdown]
# **A near miss.** "The best law is the softmax of the rewards: $e^{r/\beta}$, divided by its sum." It is what one would write from
# memory.


# %%
def softmax_of_the_rewards(r, beta):
    return np.exp(tr.log_softmax(r / beta))


check("gibbs-optimum", softmax_of_the_rewards, part="p*")

# %% [markdown]
# The reference is missing. It would be right if the reference said everything equally often; where it does not, this law would say what
# no text ever said, if the reward has nothing against it.
#
# ## 4.3 What it is worth, and what others give away
#
# **The sampled check.** $Z$ is a mean: that of $e^{r/\beta}$ over what the *reference* says. So it can be estimated by letting the
# reference speak, 10,000 times.

# %%
factor = np.exp(world.r / world.beta)
everything = tr.population(world, world.log_p_ref)
drawn = tr.sample(world, world.log_p_ref, 10_000, rng=np.random.default_rng(0))
exact, sampled = [tr.estimate(data, data[factor]) for data in (everything, drawn)]
{
    "Z": round(exact.mean, 4),
    "19/9": round(19 / 9, 4),
    "sampled": round(sampled.mean, 4),
    "z": round(sampled.z(exact), 2),
}

# %% [markdown]
# The largest $J$ is $\beta \log Z$, and whatever another law gives away, its **regret**, is $\beta$ times its KL to the optimum.
# ($J_x$ below is $J$ for one prompt $x$; here there is only the empty one.)

# %%
derive("regret-is-kl")

# %% [markdown]
# Read the last two lines together: there is one best law, and the only way of being worse is being *elsewhere*. On the left what the
# laws of section 4.1 give away, on the right their divergence from $p^*$:

# %%
best = beta * math.log(Z)


def regret_and_KL(p):
    return [round(float(best - J(p)), 6), round(beta * KL(p, p_star), 6)]


{
    name: regret_and_KL(p)
    for name, p in {"stay": stay, "run": run, "share": share, "p*": p_star}.items()
}

# %% [markdown]
# The direction matters: what speaks is $p$, so $p$ takes the mean. Turned round, $\beta\, \mathrm{KL}(p^*, p)$ would be infinite for
# "run", which gives away less than half a unit.
#
# **Prompts.** So far the prompt was empty. With prompts $x$, drawn from $\mu$, each has a reference, a reward, an optimum and a
# $Z(x)$ of its own; $J$ is the mean over prompts, $\mathbb{E}_\mu$, and its maximum is $\beta\, \mathbb{E}_\mu[\log Z(x)]$. Two
# questions, with "yes" worth $\log 3$ after the one and $\log 9$ after the other:

# %%
asking = tr.TokenMDP(vocabulary=("no", "yes"), horizon=1, prompts=("Tea?", "Cake?"))
two = tr.World(
    asking, np.log([[[1 / 2, 1 / 2]], [[1 / 2, 1 / 2]]]), r=np.log([[1, 3], [1, 9]]), beta=1.0
)
{
    "Z(x)": np.exp(tr.solve(two).log_Z).round(6).tolist(),
    "p*": tr.solve(two).p.round(6).tolist(),
}

# %% [markdown]
# **A near miss.** "One softmax over the whole batch": all responses to all prompts are divided by one total.


# %%
def over_the_whole_batch(log_p_ref, r, beta):
    weights = np.exp(log_p_ref + r / beta)
    return weights / np.sum(weights)


check("prompts", over_the_whole_batch, part="p*")

# %% [markdown]
# ## 4.4 The limits of beta
#
# **Predict.** What is left of the three responses when a nat costs next to nothing, $\beta \to 0$, and what when it is very dear?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Cheap nats leave only the best response, *because* a reward that is larger by $\Delta$ counts $e^{\Delta/\beta}$ times; dear ones leave
# the reference, *because* then every factor $e^{r/\beta}$ is near 1.
#
# </details>
#
# A nat may be dear or cheap. Same rewards, other prices:


# %%
def optimum(beta, reward=world.r):
    return dict(
        zip(
            texts,
            tr.solve(world.with_reward(reward).at(beta)).p[0].round(4).tolist(),
            strict=True,
        )
    )


{f"beta = {b}": optimum(b) for b in (100, 10, 1, 0.1, 0.01)}

# %% [markdown]
# Dear nats, and we stay; cheap ones, and only the best response is left. Write $V(x) = \beta \log Z(x)$ for the **value** of a prompt,
# the best $J$ that it allows. It lies between the mean reward of the reference and the best reward:

# %%
derive("beta-limits")

# %% [markdown]
# What if there are two best responses? Line 5 says that they keep the reference's odds, here $2/9$ to $4/9$, and do not share equally:

# %%
optimum(0.01, reward=[[0.0, 1.0, 1.0]])

# %% [markdown]
# ## 4.5 What a change of reward or price does
#
# The value $V = \beta \log Z$ (in physics: minus the *free energy*) answers to the reward of one response with slope $p^*$ of that
# response.

# %%
value_slopes = tr.grad(lambda rewards: np.sum(tr.soft_value(world.log_p_ref, rewards, beta)))
{"dV/dr": value_slopes(world.r)[0].round(6).tolist(), "p*": solution.p[0].round(6).tolist()}

# %% [markdown]
# Why, and two more slopes, are in the next derivation. Here it comes with a slider, to be read at your own speed. ($\mathrm{Cov}$
# is the covariance, $\mathrm{Var}$ the variance, $\mathbb{1}$ is 1 where its index is the case and 0 elsewhere.)

# %%
explore.derivation("free-energy-derivatives")

# %% [markdown]
# Line 12, the last, says that a smaller $\beta$ never earns less. What does it cost? $V = \mathbb{E}_{p^*}[r] - \beta\, \mathrm{KL}$,
# where $\mathrm{KL}$ is short for $\mathrm{KL}(p^*, p_{ref})$. Change $\beta$ by a little: $p^*$ moves too, but at a maximum that
# changes nothing to first order, so $dV = -\mathrm{KL}\, d\beta$. On the other hand
# $dV = d\, \mathbb{E}_{p^*}[r] - \beta\, d\mathrm{KL} - \mathrm{KL}\, d\beta$. What is left is
#
# $$\frac{d\, \mathbb{E}_{p^*}[r]}{d\, \mathrm{KL}} = \beta :$$
#
# *at the optimum the last nat earns just its price.* Two optima near $\beta = 1/2$, the reward between them over the KL between them:

# %%
near = frontier(world, [0.499, 0.501])
round(float((near.reward[0] - near.reward[1]) / (near.kl[0] - near.kl[1])), 4)

# %% [markdown]
# Draw reward against KL for all $\beta$, and you have the **frontier**: no law earns more at the same KL. Here for the world of
# advice of lesson 2, with the slope drawn in:

# %%
show("frontier")

# %% [markdown]
# ## 4.6 Token by token
#
# $p^*$ is a law over responses. By lesson 1 it is a policy as well, $\pi^*(a \mid s)$: of the mass of $p^*$ that comes to $s$, the
# share that goes on with $a$. Can it be computed without adding up all responses? Let $V(s)$, the **soft value** of a state, be
# $\beta \log$ of the mean of $e^{r/\beta}$, when the reference goes on from $s$, written $\mathbb{E}_{ref}[e^{r/\beta} \mid s]$.
# ($\tau \ni s$ below: the response passes through $s$; $d_{ref}$ are the visits of the reference.)

# %%
derive("soft-bellman")

# %% [markdown]
# Line 8 is the **soft Bellman equation**: a recursion from the ends to the root. In fractions, with $w(s) = e^{V(s)/\beta}$: at the
# end of a response $w = k$; before it, $w(s)$ is the mean of $w(s + a)$ over what the reference does next.


# %%
def w(s):
    return Fraction(k[s]) if s in k else sum(pi_ref[a] * w(f"{s} {a}".strip()) for a in pi_ref)


{"w(start)": str(w("")), "w(a)": str(w("a"))}

# %% [markdown]
# And the policy tilts the reference by what the next state is worth more: $\pi^*(a \mid s) = \pi_{ref}(a \mid s)\, w(s + a) / w(s)$.


# %%
def pi_star(a, s):
    return pi_ref[a] * w(f"{s} {a}".strip()) / w(s)


{"pi*(a | start)": str(pi_star("a", "")), "pi*(a | a)": str(pi_star("a", "a"))}

# %% [markdown]
# Say "a a" with it, and the exponents telescope:

# %%
str(pi_star("a", "") * pi_star("a", "a")), str(p_star["a a"])

# %% [markdown]
# **Why soft?** At a fork one may go left, where both ways on earn 1, or right, where the one earns $-3$ and the other 3. The reference
# tosses a coin, always. Which way is better?
#
# **Predict.** Before you read on: will the best policy go left, where 1 is certain, or right, where a coin decides between 3 and $-3$?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Right, nearly eight times in ten, *because* it need not obey the coin there: it pays a few nats to turn towards the 3.
#
# </details>

# %%
fork = tr.fork()
dict(
    zip(
        [fork.mdp.state_text(s) or "start" for s in range(fork.mdp.S)],
        tr.solve(fork).V_s[0].round(3).tolist(),
        strict=True,
    )
)

# %% [markdown]
# On average right earns 0 and left 1. But who goes right may choose *there*: its soft value is
# $\beta \log \cosh (3/\beta) \approx 2.309$ for $\beta = 1$. So $\pi^*$ turns right, nearly eight times in ten:

# %%
dict(zip(fork.mdp.vocabulary, tr.solve(fork).pi[0, 0].round(4).tolist(), strict=True))

# %% [markdown]
# **A near miss.** "The value of a state is the mean value of the states after it." (For a fixed policy, as in lesson 1, it is.) In the
# checker's names `mdp.backup` sweeps from the ends to the root, and the value at the root is $V(x)$:


# %%
def mean_of_what_comes(mdp, log_pi_ref, r):
    pi_ref = mdp.levels(np.exp(log_pi_ref))
    V, _ = mdp.backup(r, lambda h, Q: np.sum(pi_ref[h] * Q, axis=1))
    return V[:, 0]


check("soft-bellman", mean_of_what_comes, part="V(x)")

# %% [markdown]
# The same recursion on a larger tree. Each box is a state with its soft value:

# %%
show("soft-value-tree")

# %% [markdown]
# ## 4.7 The KL, token by token
#
# A program that writes token by token also pays token by token. The KL between two laws over responses is a sum over states: the KL
# between the two rows $\pi(\cdot \mid s)$ and $\pi_{ref}(\cdot \mid s)$, weighed by the visits $d_\pi(s)$ of lesson 1.

# %%
derive("kl-chain-rule")

# %% [markdown]
# For $p^*$: one is at the start always, and after "a" 16 times in 19. The two rows, weighed, and the KL over responses:


# %%
def row_KL(q):
    return KL({"a": q, ".": 1 - q}, pi_ref)


visits = {"": 1, "a": pi_star("a", "")}

# %%
(
    round(float(sum(visits[s] * row_KL(pi_star("a", s)) for s in visits)), 6),
    round(KL(p_star, p_ref), 6),
)

# %% [markdown]
# Whose visits? Those of the law that speaks, and they move when it moves. With the reference's visits ($2/3$ after "a") the sum is
# another number, and not the KL of the responses:

# %%
round(float(row_KL(visits["a"]) + pi_ref["a"] * row_KL(pi_star("a", "a"))), 6)

# %% [markdown]
# ## 4.8 Shaping
#
# Rewards at the end of a long response come late. May one pay for progress on the way? Let $\Phi(s)$ (phi, the *potential*) be any
# numbers for the states, 0 at the end of a response, and pay the gain $\Phi(s + a) - \Phi(s)$ at each token. The library's
# `shape_reward` does, token by token. With $\Phi = 1/2$ at the start and $2$ after "a": the rewards before and after, the optimum,
# and the value.

# %%
potential = np.array([[0.5, 2.0]])
shaped = world.with_reward(shape_reward(world.mdp, world.r, potential))
{
    "r": dict(zip(texts, world.r[0].round(4).tolist(), strict=True)),
    "r shaped": dict(zip(texts, shaped.r[0].round(4).tolist(), strict=True)),
    "p* of the shaped": (19 * tr.solve(shaped).p[0]).round(6).tolist(),
    "V before and after": [round(float(tr.solve(u).V[0]), 4) for u in (world, shaped)],
}

# %% [markdown]
# Still 3, 12 and 4 nineteenths. (The 2 is paid out at "a" and taken back at the end.)

# %%
derive("potential-shaping")

# %% [markdown]
# So a reward is known, by its optimum, only up to a number for every prompt. (Comparisons, in lesson 3, left the same open.)
#
# ## 4.9 If the best law is out of reach
#
# A real model has fewer parameters $\theta$ (theta) than there are states, and its laws $p_\theta$, a *class* of laws, need not
# include $p^*$. What does it mean, then, to make $J$ large? By section 4.3, to come near $p^*$, with the model's law first: a
# **reverse** KL. (In lesson 3 the people came first, which was forward.) The mark "∇=" says: the same gradient, at every
# $\theta$; "≃": the same up to a constant; "argmax=": largest at the same $\theta$.

# %%
derive("reverse-kl-projection")

# %% [markdown]
# Nobody ever computes $p^*$ in practice: there are too many responses for $Z$. Line 7 says that this does no harm, the gradient of
# $J$ does not need it. *Where* one ends up is the geometry of lesson 5.
#
# ## 4.10 Other prices
#
# Why KL? Other measures of distance would do. An **f-divergence** takes a convex function $f$ with $f(1) = 0$ and averages it over the
# reference: $D_f(p, p_{ref}) = \mathbb{E}_{p_{ref}}[f(p / p_{ref})]$. With $f(u) = u \log u$ it is the KL. The slopes are equal where
# $r - \beta f'(p/p_{ref}) + \lambda = 0$ (for the KL $f'(u) = \log u + 1$: that was line 3), so, where $p$ is not 0,
#
# $$p(\tau) = p_{ref}(\tau)\; (f')^{-1}\!\Big(\frac{r(\tau) + \lambda}{\beta}\Big) .$$
#
# Only for the KL, whose $(f')^{-1}$ is an exponential, does $\lambda$ become a factor $1/Z$. For others it is found numerically. At
# $\beta = 1/2$ and with doubled rewards, to see a difference:


# %%
def with_price(f):
    return (
        np.exp(f_divergence_optimum(f, world.log_p_ref, 2 * world.r, 0.5).log_p)[0]
        .round(4)
        .tolist()
    )


{"responses": texts, **{name: with_price(f) for name, f in DIVERGENCES.items()}}

# %% [markdown]
# "Reverse" KL is the one of this lesson, $\mathrm{KL}(p, p_{ref})$; the forward one, $\mathrm{KL}(p_{ref}, p)$, with
# $f(u) = -\log u$, will not let go of anything that the reference says; chi-squared, with $f(u) = \frac12 (u - 1)^2$, sets a poor
# response to exactly 0; Jensen and Shannon's is $\mathrm{KL}(p, m) + \mathrm{KL}(p_{ref}, m)$ with $m = (p + p_{ref})/2$; and
# "alpha=0.5" is Hellinger's, $f(u) = 2 (\sqrt u - 1)^2$. Mind the factors: books call $\sum (p - p_{ref})^2/p_{ref}$ chi-squared,
# twice ours; half of our Jensen-Shannon; and a quarter of our $D_{1/2}$, $1 - \sum \sqrt{p\, p_{ref}}$, Hellinger's squared distance.
#
# InstructGPT added a third term to $J$: $\gamma\, \mathbb{E}_D[\log p]$, with a law $D$ of texts from pretraining and a weight
# $\gamma$ (gamma), so that the model goes on making those likely. (`derive("ppo-ptx-optimum")` has its three slopes.) Say that $D$
# is always "a .":

# %%
log_D = np.array([[-np.inf, -np.inf, 0.0]])
{
    f"gamma = {g}": np.exp(ptx_optimum(world.log_p_ref, world.r, 1.0, g, log_D).log_p)[0]
    .round(4)
    .tolist()
    for g in (0.0, 0.1, 1.0, 10.0)
}

# %% [markdown]
# ## 4.11 Explore
#
# *Try this.* Set $\beta = 1$ and read off $12/19 \approx 0.63$. Then: (a) lower the reward of "a a" until "a a" and "a ." are equally
# likely; what is $e^{r/\beta}$ of it now? (b) Take $\beta$ to both ends of the slider. (c) Add one to all three rewards; what moves,
# and what does not?

# %%
explore.tilt(world)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# (a) The weights are $\frac49 k$ and $\frac29 \cdot 2$: equal at $k = 1$, so at $r = 0$. (c) $V$ rises by one, $p^*$ stays: shaping
# with $\Phi = -1$ at the start.
#
# </details>
#
# ## 4.12 Exercises
#
# Replace `...` and run the cell again. Arrays over responses have shape `(P, N)`, for $P$ prompts and $N$ responses; `tr.kl(log_p,
# log_q)` is the KL of each row, `tr.logsumexp(x)` the logarithm of the sum of $e^x$ in each row.
#
# **1. The Gibbs optimum.** Return the law that maximizes $\mathbb{E}_p[r] - \beta\, \mathrm{KL}(p, p_{ref})$ for each prompt:
# probabilities of shape `(P, N)`, every row summing to one.


# %%
def gibbs_probabilities(p_ref, r, beta):
    return ...


check("gibbs-probabilities", gibbs_probabilities)

# %% [markdown]
# **2. The value of the optimum.** Return the largest possible value of the objective for each prompt, $\beta \log Z(x)$: shape `(P,)`,
# reward units.


# %%
def best_value(beta, log_p_ref, r):
    return ...


check("best-value", best_value)

# %% [markdown]
# **3. What a policy gives away.** A law $p$ is not the optimum $p^*$. Return its regret, $\beta \log Z - J(p)$, for each prompt: shape
# `(P,)`, reward units.


# %%
def regret(beta, log_p, log_p_star):
    return ...


check("regret", regret)

# %% [markdown]
# **4. The optimum, token by token.** Return the policy $\pi^*(a \mid s)$ whose law over responses is $p^*$: probabilities of shape
# `(P, S, V)`, every row summing to one. (`mdp.backup(r, reduce)` is that of lesson 1: `reduce(h, Q)` gets the $Q$ of the states in
# which $h$ tokens have been said, of shape `(P, V, states)`, and returns their $V$; `mdp.levels(x)` cuts a table of shape `(P, S, V)`
# up in the same way.)


# %%
def token_policy(mdp, log_pi_ref, r, beta):
    return ...


check("token-policy", token_policy)

# %% [markdown]
# **5. The divergence, state by state.** Return $\mathrm{KL}(p_\pi, p_{ref})$ for each prompt, shape `(P,)`, nats, without touching the
# responses: from the two policies, of shape `(P, S, V)`, and the visits `d_pi`, of shape `(P, S)`.


# %%
def kl_by_states(d_pi, log_pi, log_pi_ref):
    return ...


check("kl-by-states", kl_by_states)

# %% [markdown]
# ## Further reading
#
# - Ziebart (2010), *Modeling purposeful adaptive behavior with the principle of maximum causal entropy*: the soft Bellman equation,
#   from asking for the least committed policy that earns as much.
# - Levine (2018), *Reinforcement learning and control as probabilistic inference*, arXiv:1805.00909: the same $p^*$ as a posterior,
#   with the reward as the logarithm of a likelihood.
# - Korbak, Perez and Buckley (2022), *RL with KL penalties is better viewed as Bayesian inference*, arXiv:2205.11275: section 4.9's
#   line 7, and why reward alone, without the KL, would collapse to one response.
# - Ng, Harada and Russell (1999), *Policy invariance under reward transformations*: potential shaping leaves optimal policies alone,
#   and nothing else does in every world.
# - Wang et al. (2023), *Beyond reverse KL: generalizing direct preference optimization with diverse divergence constraints*,
#   arXiv:2309.16240: other divergences as the price of leaving $p_{ref}$, each with an optimum of its own.
# - Go et al. (2023), *Aligning language models with preferences through f-divergence minimization*, arXiv:2302.08215: another use
#   of other divergences: the target $p^*$ stays, and they measure how far from it a policy is.
# - Ouyang et al. (2022), *Training language models to follow instructions with human feedback*, arXiv:2203.02155: InstructGPT, the
#   objective of section 4.10 with its pretraining term.
