# %% [markdown]
# # 1. Language as a Markov decision process
#
# **The question.** A language model writes one word after another, and at each word it may go on, turn, or stop. We judge
# whole answers. *Is a model one decision after another, or one big distribution over everything that it might say, and can
# the two ways of looking ever disagree?*
#
# You need probability and a little calculus. Every symbol is defined where it first stands, every equals sign is executed,
# and the exercises tell you at once whether you are right.

# %%
from fractions import Fraction
from itertools import product

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show

# %% [markdown]
# **First, look.** Everything that a small language model can say, as a tree. A box is what has been said so far, a branch the next token, with
# its probability before and after training. Walk along a path and multiply: at its end the other way of looking stands, *one* number for
# the whole sentence. They agree *because* every token is chosen given all before it. (What $V$ is, and how training moves the numbers, is told
# in lessons 2 to 4.)

# %%
show("soft-value-tree")

# %% [markdown]
# ## 1.1 What can be said
#
# A **token** is a word or a piece of a word. A **vocabulary** is a finite list of tokens; $V$ is how many. One token may be
# the **end of sequence**, EOS: after it nothing is said. The **horizon** $H$ is the largest number of tokens. Here is a machine
# that can only laugh, with $V = 3$, EOS a full stop, and $H = 3$.

# %%
mdp = tr.TokenMDP(vocabulary=("ha", "ho", "."), horizon=3, eos=".")

# %% [markdown]
# A **response** $\tau$ (a *trajectory*) ends with EOS, or is cut off at $H$ tokens. Here is everything that can be said, in
# dictionary order.

# %%
[mdp.text(tau) for tau in mdp.lexicographic]

# %% [markdown]
# A **state** $s$ is what has been said so far, where something is still to be decided. Everything starts in the empty state.

# %%
[mdp.state_text(s) for s in range(mdp.S)]

# %% [markdown]
# In a state one chooses a token $a$, the **action**, and the next state is $s + a$: the same words with one more behind them.
# Nothing else happens: no dice are thrown by the world. States, actions, a next state that depends on nothing else but these two:
# this is a **Markov decision process** (MDP), and the simplest kind, a tree.
#
# **How large is the tree?** After $K = V - 1$ of the tokens one may go on (after all $K = V$ of them if there is no EOS).
# So there are $K^h$ states in which $h$ tokens have been said, and in all
#
# $$S = \sum_{h < H} K^h .$$
#
# A response is either stopped by EOS in a state with fewer than $H - 1$ tokens said, or it makes a last choice, of any of
# the $V$ tokens, in one of the $K^{H-1}$ deepest states:
#
# $$N = \sum_{h < H - 1} K^h \;+\; K^{H-1} V .$$
#
# With $K = 2$, $V = 3$, $H = 3$ these are $1 + 2 + 4$ and $1 + 2 + 4 \cdot 3$.

# %%
{"S": mdp.S, "N": mdp.N}

# %% [markdown]
# **The same by plain enumeration.** Of all strings of at most three tokens, keep those that stop where they should.


# %%
def is_response(string):
    ends = string[-1] == "." or len(string) == 3
    return ends and "." not in string[:-1]


len(
    [
        string
        for h in (1, 2, 3)
        for string in product(("ha", "ho", "."), repeat=h)
        if is_response(string)
    ]
)

# %% [markdown]
# ## 1.2 Who is speaking
#
# A **policy** $\pi(a \mid s)$ says with what probability token $a$ is chosen in state $s$; in every state these numbers add up
# to one. Our machine begins with "ha" half of the time, and then likes to repeat itself.


# %%
def pi(a, s):
    """The probability of token `a` when the words `s` have been said."""
    if not s:
        return Fraction(1, 2) if a == "ha" else Fraction(1, 4)
    return Fraction(2, 3) if a == s[-1] else Fraction(1, 6)


# %% [markdown]
# The probability of a response is the product of the probabilities of its choices, by the definition of conditional probability,
# applied once for each token:
#
# $$p_\pi(a_0 a_1 a_2) = \pi(a_0 \mid \text{nothing}) \; \pi(a_1 \mid a_0) \; \pi(a_2 \mid a_0 a_1) .$$
#
# Write $s_h$ for the state in which the $h$-th token $a_h$ is chosen, so $s_0$ is the empty state and $s_{h+1} = s_h + a_h$. Then
#
# $$p_\pi(\tau) = \prod_h \pi(a_h \mid s_h) .$$


# %%
def probability(words):
    p = Fraction(1)
    for h, a in enumerate(words):
        p = p * pi(a, words[:h])
    return p


probability(["ha", "ha", "."])

# %% [markdown]
# **Exact numbers.** All fifteen responses, as fractions.

# %%
table = {mdp.text(tau): probability(mdp.text(tau).split()) for tau in mdp.lexicographic}

# %%
{text: str(p) for text, p in table.items()}

# %% [markdown]
# They add up to one. They must: in every state the choices add up to one, so no probability is lost on the way from the root to
# the leaves.

# %%
str(sum(table.values()))

# %% [markdown]
# **Predict.** The machine is to be handed to someone who knows nothing of tokens, as *one* distribution over its fifteen responses. Is
# anything lost?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Nothing, *because* the products add up to one and the choices can be read off again: section 1.5 does.
#
# </details>
#
# ## 1.3 The chain rule, in logarithms
#
# A product of many small numbers is awkward, and the logarithm turns it into a sum. The **log-probability** of a response, in
# *nats* (the unit of natural logarithms), is
#
# $$\log p_\pi(\tau) = \sum_h \log \pi(a_h \mid s_h) .$$
#
# The library holds a policy as an array `log_pi`: one row for every state, one column for every token (and one block for every
# question that is asked, a *prompt*; here there is one, the empty one).

# %%
log_pi = np.log(
    [[[float(pi(a, mdp.state_text(s).split())) for a in mdp.vocabulary] for s in range(mdp.S)]]
)

# %% [markdown]
# Going from the root to the leaves, the sum of $\log \pi(a_h \mid s_h)$ along every response is one call.

# %%
log_p = mdp.path_sum(log_pi)

# %% [markdown]
# Its exponentials are the fractions of the table, to the last digit of a float.

# %%
max(
    abs(np.exp(log_p[0, tau]).item() - float(table[mdp.text(tau)])) for tau in range(mdp.N)
) < 1e-15

# %% [markdown]
# **A near miss.** "EOS is not a word, so it costs nothing." Plausible, and often found in code that masks the last token. The
# next cell says it: set $\log \pi$ of EOS to zero and add up. The checker tries it on some three hundred small trees, each with
# a policy and a reward (it calls them *worlds*), and shows the smallest one on which it fails. (It describes the whole of it,
# also what comes in later lessons; look at `log_pi`, at yours, and at the exact numbers.)


# %%
def eos_is_free(mdp, log_pi):
    counted = np.array(log_pi)
    if mdp.eos is not None:
        counted[..., -1] = 0.0
    return mdp.path_sum(counted)


check("chain-rule", eos_is_free, part="log p")

# %% [markdown]
# Without EOS's share the numbers add up to more than one: stopping must be paid for like everything else that is said.
#
# ## 1.4 Where one passes
#
# The **occupancy** $d_\pi(s)$ is the probability that the response passes through state $s$. There are two ways to it. *Forward:*
# multiply the choices that lead to $s$. *Backward:* add up the responses that go on from $s$,
#
# $$d_\pi(s) = \sum_{\tau \text{ through } s} p_\pi(\tau) .$$


# %%
def forward(s):
    return probability(s)


def backward(s):
    return sum(p for text, p in table.items() if text.split()[: len(s)] == s)


{
    mdp.state_text(s): (str(forward(words)), str(backward(words)))
    for s in range(mdp.S)
    for words in [mdp.state_text(s).split()]
}

# %% [markdown]
# Each pair agrees, and what flows into a state flows out of it: $d_\pi(s) = \sum_a d_\pi(s)\, \pi(a \mid s)$, some of it to the
# next states, the rest, $d_\pi(s)\, \pi(\text{EOS} \mid s)$, to the end.
#
# ## 1.5 Any distribution is a policy
#
# From a policy we made a distribution over responses. Now backwards. Let $p$ be *any* distribution over the responses, and write
# $p(s)$ for the mass of the responses through $s$, and $p(s + a)$ for the mass of those that go on with $a$. Read off a policy:
#
# $$\pi(a \mid s) = \frac{p(s + a)}{p(s)} \qquad \text{wherever } p(s) > 0 .$$
#
# Is the distribution of this policy the $p$ we began with? Telescope: everything but the ends cancels.
#
# **The derivation.** Each line is computed on a small tree, the world `rational`, and compared with the line before it. For $p$
# the machine takes a distribution called $p^*$, which is the hero of lesson 4; here it is just some distribution, and $p$ in
# each line is this one.

# %%
derive("policies-are-distributions")

# %% [markdown]
# So a table of $\pi(a \mid s)$ with a row of its own for every state can say *anything* that a distribution over responses can say.
# The two ways of looking never disagree, as long as no two states must share a row. (A real network shares: lesson 5 is about what
# this costs.)
#
# ## 1.6 Rewards, and comparing two policies
#
# A **reward** $r(\tau)$ is a number for every finished response. Ours counts how often the machine said "ho".

# %%
r = mdp.phrase_count("ho")[None]

# %% [markdown]
# **Predict.** The machine says "ho" with probability 1/4 at first, and repeats itself two times in three. How many does it say on
# average: less than one, or more?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Less: 35/48. A "ho" likes to be repeated; but one hears less than one, *because* half of all responses begin with "ha", and few of
# these ever come to it.
#
# </details>
#
# What a policy earns on average is $J(\pi) = \mathbb{E}_{p_\pi}[r]$, the sum of $p_\pi(\tau)\, r(\tau)$ over all responses.

# %%
J = sum(p * text.split().count("ho") for text, p in table.items())

# %%
str(J)

# %% [markdown]
# Now take a second policy $\pi'$. Three more symbols, all about $\pi'$:
#
# - $V'(s)$, the **value**, is the mean reward when $\pi'$ goes on from state $s$; of a finished response it is the reward
#   itself. (The letter is the custom; it has nothing to do with the number of tokens.)
# - $Q'(s, a)$ is the mean reward when $a$ is chosen in $s$ and $\pi'$ goes on from there: here $Q'(s, a) = V'(s + a)$.
# - $A'(s, a) = Q'(s, a) - V'(s)$, the **advantage**, is by how much choosing $a$ is better than what $\pi'$ does in $s$ on average.
#
# How much better is $\pi$ than $\pi'$? Sum the advantages of $\pi'$ over the states where $\pi$ goes and the choices that $\pi$
# makes. In the lines below $\mu$ is the distribution of prompts, $\mathbb{E}_\mu$ the mean over it; $\tau \ni s + a$ says that
# $\tau$ passes through $s + a$; "no KL term" means nothing before lesson 2, where there is one; the mark "=E" says that two lines
# are equal on average, which is tried on samples too.

# %%
derive("performance-difference")

# %% [markdown]
# The third line is where readers stumble, and the last is where they err: the visits are those of $\pi$, the advantages those of
# $\pi'$. Put another line in its place and it is found out. Here the visits, `d_ref`, are those of a third policy, the reference
# $\pi_{ref}$ (any other policy, for now); `log_pi_2` is $\log \pi'$:


# %%
def visits_of_another(mdp, mu, d_ref, pi, log_pi_2, r):
    # V' and Q' by one sweep from the leaves to the root
    pi_2 = mdp.levels(np.exp(log_pi_2))
    V, Q = mdp.backup(r, lambda h, Q: np.sum(pi_2[h] * Q, axis=1))
    return np.sum(mu[:, None, None] * d_ref[..., None] * pi * (Q - V[..., None]))


derive("performance-difference", lines={6: visits_of_another})

# %% [markdown]
# ## 1.7 Drawing instead of counting
#
# A real model says more than can be counted, so one draws. A **world** holds the tree, a policy and a reward (and $\beta$, a number
# that will matter from lesson 4 on and does nothing here).
#
# **The sampled check.** `population` is every response with its probability as its weight; `sample` is $n$ draws with weight $1/n$
# each. One function averages either.

# %%
world = tr.World(mdp, log_ref=log_pi, r=r, beta=1.0)

# %%
everything = tr.population(world, log_p)
drawn = tr.sample(world, log_p, 10_000, rng=np.random.default_rng(0))

# %%
exact, sampled = [tr.estimate(data, data[r]) for data in (everything, drawn)]

# %%
{"J": float(J), "population": round(exact.mean, 12), "sample": round(sampled.mean, 4)}

# %% [markdown]
# A mean of $n$ draws has a standard deviation, its *standard error*: that of one draw, divided by $\sqrt{n}$. The population tells
# it exactly. The sample is off by so many of them:

# %%
round(sampled.z(exact), 2)

# %% [markdown]
# Between $-2$ and $2$ nineteen times in twenty, as it should be.
#
# ## 1.8 Explore
#
# A look ahead. Multiply each probability by $e^{r(\tau)/\beta}$, divide by the total $Z$, and you have a new distribution,
# $p^*(\tau) = p_{ref}(\tau)\, e^{r(\tau)/\beta} / Z$, where $p_{ref}$, the *reference*, is the policy we began with. A small $\beta > 0$
# listens to the reward, a large one to the reference. By section 1.5 this is a policy again.
#
# *Try this.* Our machine prefers "ha ha ha" (probability $2/9$) to "ho ho ho" ($1/9$). At what $\beta$ are they equally likely
# under $p^*$? First move the slider, then find it with pencil and paper.

# %%
explore.tilt(world)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# Equal where $e^{3/\beta} = 2$, so at $\beta = 3/\log 2 \approx 4.33$.
#
# </details>
#
# The picture also names a divergence, KL, and two
# identities: leave them for lessons 2 and 4.
#
# ## 1.9 Exercises
#
# Replace `...` and run the cell again. The names of the parameters are the symbols of this lesson, and the checker supplies them for
# every world that it tries.
#
# **1. How large is the tree?** Return $S$ and $N$, as `[S, N]`, from $V$, $K$ and $H$. There is an EOS just where $K < V$.


# %%
def count_the_tree(V, K, H):
    return ...


check("count-the-tree", count_the_tree)

# %% [markdown]
# **2. From choices to responses.** `log_pi[x, s, a]` is $\log \pi(a \mid s)$ for prompt $x$. Return $\log p_\pi(\tau)$ of every
# response to every prompt, of shape `(P, N)` for $P$ prompts. (`mdp.path_sum` adds up a table along every response; the checker's
# trees need not be yours.)


# %%
def log_probability(mdp, log_pi):
    return ...


check("log-probability", log_probability)

# %% [markdown]
# **3. Where does one pass?** Return $d_\pi(s)$ for every state, of shape `(P, S)`, from the probabilities `p` of the responses, of
# shape `(P, N)`. (`mdp.subtree_sum(f)` adds up a table over responses for every state and token: it returns the shape `(P, S, V)`.)


# %%
def state_visits(mdp, p):
    return ...


check("state-visits", state_visits)

# %% [markdown]
# **4. Any law is a policy.** (A *law* is a distribution.) Return the policy $\pi(a \mid s)$, of shape `(P, S, V)`, that says
# each response with just the probability `p[x, tau]`, which is never 0.


# %%
def policy_of_a_law(mdp, p):
    return ...


check("policy-of-a-law", policy_of_a_law)

# %% [markdown]
# **5. How good is a choice?** Return the advantage $A'(s, a)$ of the policy $\pi'$, of shape `(P, S, V)`, in the units of the reward.
# `log_pi_2` holds $\log \pi'$ and `r` the reward of every response, of shape `(P, N)`. (`mdp.backup(r, reduce)` sweeps from the leaves
# to the root and returns $V$ and $Q$; your `reduce(h, Q)` gets the $Q$ of the states in which $h$ tokens have been said, of shape
# `(P, V, states)`, and returns their $V$; `mdp.levels(x)` cuts a table of shape `(P, S, V)` up in the same way.)


# %%
def advantages(mdp, log_pi_2, r):
    return ...


check("advantages", advantages)

# %% [markdown]
# ## Further reading
#
# - Shannon (1948), *A mathematical theory of communication*: text can be modeled as a random process in which each word depends on
#   those before it, and longer memory makes it look more like English.
# - Bengio, Ducharme, Vincent and Jauvin (2003), *A neural probabilistic language model*: the product of conditional probabilities of
#   section 1.2 can be learned by one network that shares what it knows between states.
# - Puterman (1994), *Markov decision processes*, section 6.9: the occupancies of all policies form a polytope, and maximizing
#   reward over policies is a linear program over them.
# - Kakade and Langford (2002), *Approximately optimal approximate reinforcement learning*, lemma 6.1: the performance difference of
#   section 1.6, and what it says of how far a policy may safely move.
# - Ziegler et al. (2019), *Fine-tuning language models from human preferences*: a language model *is* a policy, and can be improved as
#   one, with a penalty for leaving the model one began with.
