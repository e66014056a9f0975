# %% [markdown]
# # 9. Selection and over-optimization
#
# **The question.** There is a reward and no wish to train anything. So let the model answer $n$ times, and keep the best. *Which law
# does that follow, how far from the model does it go, is it as good as the best that could be done at that distance, and what becomes
# of it if the reward is not quite what we want?*
#
# All of it has exact answers, ties included.

# %%
import math
from fractions import Fraction
from functools import partial
from itertools import product
from statistics import NormalDist

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore, selection
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show

# %% [markdown]
# **First, look.** Draw $n$ answers and keep the best. On the left, what that earns and how far it goes, for $n = 1, 2, 4, \ldots$: hardly less than the
# best that any policy can earn at that distance, and never more, *because* no law can. On the right, how far: less than $\log n - (n-1)/n$ nats,
# because of ties. (Sections 9.2 and 9.3.)

# %%
show("best-of-n")

# %% [markdown]
# ## 9.1 The best of n
#
# "Tell me a joke." Four answers; $p_{ref}$ says how often the model tells each, and $r$ how loudly people laugh. Two of them are equally
# funny: a tie.

# %%
jokes = ("knock-knock", "pun", "riddle", "limerick")
p_ref = dict(
    zip(jokes, [Fraction(1, 2), Fraction(1, 4), Fraction(3, 16), Fraction(1, 16)], strict=True)
)
r = dict(zip(jokes, [0, 1, 1, 2], strict=True))

# %% [markdown]
# **Best of $n$**: draw $n$ responses from $p_{ref}$, independently, and keep the one with the highest reward; if several of the draws
# have it, keep one of them at random. Write $p_n$ for the law of what is kept. By plain enumeration, of all strings of $n$ draws:


# %%
def kept(n):
    law = dict.fromkeys(jokes, Fraction(0))
    for draws in product(jokes, repeat=n):
        best = [y for y in draws if r[y] == max(r[z] for z in draws)]
        for y in best:
            law[y] += math.prod(p_ref[z] for z in draws) / len(best)
    return law


{y: str(p) for y, p in kept(3).items()}

# %% [markdown]
# There is a formula. Let $y$ be a response, $F(y)$ the probability that a draw earns at most $r(y)$, and $F_-(y)$ that it earns
# less. The best of $n$ draws earns at most $r(y)$ if all of them do, with probability $F^n$; and less if all earn less, with
# probability $F_-^n$. So the best reward is just $r(y)$ with probability $F^n - F_-^n$. Responses with this reward have the mass
# $F - F_-$ in $p_{ref}$, and share it in proportion:
#
# $$p_n(y) = p_{ref}(y)\, \frac{F(y)^n - F_-(y)^n}{F(y) - F_-(y)} .$$


# %%
def F(y):
    return sum(p_ref[z] for z in jokes if r[z] <= r[y])


def F_minus(y):
    return sum(p_ref[z] for z in jokes if r[z] < r[y])


def best_of(n):
    return {y: p_ref[y] * (F(y) ** n - F_minus(y) ** n) / (F(y) - F_minus(y)) for y in jokes}


best_of(3) == kept(3)

# %% [markdown]
# **Exact numbers.** In the order of the list. For growing $n$ the common joke dies out and the rare one takes over. Pun and riddle keep
# their ratio of 4 to 3: they cannot be told apart by reward.

# %%
{f"n = {n}": [str(p) for p in best_of(n).values()] for n in (1, 2, 3)}

# %% [markdown]
# For large $n$, in decimals:

# %%
{f"n = {n}": [round(float(p), 4) for p in best_of(n).values()] for n in (4, 16, 64)}

# %% [markdown]
# The same world in the library. (Its $\beta$ is for later.)

# %%
mdp = tr.TokenMDP(jokes, horizon=1, prompts=["Tell me a joke."])
log_ref = np.log([[[float(p) for p in p_ref.values()]]])
world = tr.World(
    mdp, log_ref, r=np.array([[0.0, 1.0, 1.0, 2.0]]), beta=1 / math.log(2), name="jokes"
)

# %% [markdown]
# **The sampled check.** Draw 30,000 jokes, in groups of three, and keep the best of each group. (`argmax` takes the first of equals,
# and among independent draws the first is as random as any.) The mean reward of what is kept, beside the exact one:

# %%
drawn = tr.sample(world, world.log_p_ref, 30_000, rng=np.random.default_rng(0))
groups = drawn[world.r].reshape(-1, 3)
rewards = groups[np.arange(10_000), np.argmax(groups, axis=1)]

# %%
everything = tr.population(world, selection.best_of_n(world.log_p_ref, world.r, 3))
exact = tr.estimate(everything, everything[world.r])
sampled = tr.Estimate(rewards.mean().item(), rewards.var(ddof=1).item(), n=10_000)
{
    "exact": round(exact.mean, 4),
    "sampled": round(sampled.mean, 4),
    "z": round(sampled.z(exact), 2),
}

# %% [markdown]
# **A near miss.** Statistics books have the density of the largest of $n$ draws: $n\, p\, F^{n-1}$. It is for laws without ties, where
# each single value has probability 0. (`draws` is $n$.)


# %%
def density_of_the_maximum(p_ref, r, draws):
    at_most = np.sum(p_ref[:, None, :] * (r[:, None, :] <= r[:, :, None]), axis=2)
    return draws * p_ref * at_most ** (draws - 1)


check("best-of-n", density_of_the_maximum, part="law")

# %% [markdown]
# With a single response, and $n = 2$, it gives that response the probability 2. What has a probability can be drawn twice, and then ties
# with itself.
#
# ## 9.2 How far does it go?
#
# Where best-of-$n$ is compared with training, a plot has the KL on one axis, and for best-of-$n$ one often finds $\log n - (n-1)/n$
# there. Let us see where that comes from.
#
# **The derivation.** ($\phi$ is a name for the function $y \log y$, which is convex. A *level* is a set of responses of equal
# reward. The machine chooses an $n$ of its own, here 5.)

# %%
derive("best-of-n", world)

# %% [markdown]
# So it is an *upper bound* (Beirami et al. 2024), and it gives away something at each level, because the levels are not infinitely
# fine. The KL itself, the bound, and the **win rate**: how often the best of $n$ is funnier than a single draw, where equals count
# half.


# %%
def distance(n):
    log_p = selection.best_of_n(world.log_p_ref, world.r, n)
    wins = selection.win_rate(log_p, world.log_p_ref, world.r)
    far = tr.kl(log_p, world.log_p_ref)
    return {
        "KL": round(far.item(), 4) + 0.0,
        "bound": round(selection.best_of_n_bound(n), 4),
        "win rate": round(wins.item(), 4),
    }


{f"n = {n}": distance(n) for n in (1, 2, 4, 16, 64, 1024)}

# %% [markdown]
# The bound grows for ever, like $\log n$. The KL cannot exceed $\log 16 = 2.7726$, the surprise of a limerick: more is not possible
# than to tell nothing else. With many fine levels the bound is tight. Here are $N$ equally likely responses, no two of equal reward,
# and $n = 4$, where the bound is 0.6363:


# %%
def equally_likely(N):
    return selection.best_of_n_kl(np.full((1, N), -math.log(N)), np.arange(N)[None], 4)


{f"N = {N}": round(equally_likely(N).item(), 6) for N in (4, 10, 100, 1000)}

# %% [markdown]
# **A near miss.** "The KL of best-of-$n$ *is* $\log n - (n-1)/n$." The smallest world that refutes it has a single response: one cannot
# move at all, whatever the bound says.


# %%
def taken_for_the_kl(r, draws):
    return np.full(len(r), np.log(draws) - (draws - 1) / draws)


check("best-of-n", taken_for_the_kl, part="KL")

# %% [markdown]
# ## 9.3 Against the frontier
#
# **Predict.** Best of $n$ knows no $\beta$ and trains nothing. Can it earn *more* than the Gibbs law at the same KL? How much less?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Never more, *because* the Gibbs law is the best of all laws at its KL; and here at most a few percent less.
#
# </details>
#
# At its distance from the reference, could more be earned? From lesson 4: at any price $\beta$ the Gibbs law $p^*$ has the largest
# $\mathbb{E}_p[r] - \beta\, \mathrm{KL}(p, p_{ref})$. Choose the $\beta$ at which $p^*$ has the *same KL* as $p_n$. What is paid is
# then the same for both, and what is left says that $p^*$ earns at least as much. So the Gibbs laws of all $\beta$ are the
# **frontier**: nothing earns more at equal KL. How near is best-of-$n$?

# %%
curve = selection.select_by(
    world, partial(selection.best_of_n, world.log_p_ref), (2, 3, 4, 8, 16, 64)
)

# %%
{
    f"n = {n:.0f}": {
        "KL": round(kl, 4),
        "best of n": round(reward, 4),
        "Gibbs": round(best, 4),
    }
    for n, kl, reward, best in zip(
        curve.setting,
        curve.kl.tolist(),
        curve.reward.tolist(),
        curve.best.tolist(),
        strict=True,
    )
}

# %% [markdown]
# Near, and never beyond. The picture at the top of this lesson is that of a world of 4,096 responses (left: reward against KL; right: KL
# against $n$; the soft form keeps one of the $n$ by a softmax of their rewards).
#
# Yet the two are not the same law. Best-of-$n$ asks only *which* of two rewards is higher, never by how much. Take $e^r$ for $r$, or
# any other rising function: the same response is kept.

# %%
same = [
    selection.best_of_n(world.log_p_ref, reward, 4) for reward in (world.r, np.exp(world.r))
]
np.array_equal(*same)

# %% [markdown]
# The Gibbs law does ask by how much. If units of reward mean nothing, that speaks for best-of-$n$; if they do, for Gibbs.
#
# ## 9.4 Rejection sampling
#
# Can the Gibbs law itself be had by drawing and keeping, without any training? Yes, if one does not insist on keeping one of every $n$:
# draw from $p_{ref}$, and **accept** the draw with probability $e^{(r - \max r)/\beta}$; otherwise draw again. Best responses are
# always accepted, others the more rarely, the more they lack.
#
# Our $\beta = 1/\log 2$ was chosen so that $e^{r/\beta} = 2^r$, and everything is a fraction. What is drawn *and* accepted:

# %%
accepted = {y: p_ref[y] * Fraction(2) ** (r[y] - 2) for y in jokes}
share = sum(accepted.values())
{"share accepted": str(share), **{y: str(accepted[y] / share) for y in jokes}}

# %%
derive("rejection-sampling", world)

# %% [markdown]
# So accepted draws are *exact* samples of $p^*$, at the price of $1/\text{share}$ draws for one: here $32/13$. Let the library do it, ten
# thousand times:

# %%
made = selection.rejection_sample(world, 10_000, rng=np.random.default_rng(0))
counted = np.bincount(made.tau, minlength=4) / 10_000
{
    y: [round(float(accepted[y] / share), 4), round(c, 4)]
    for y, c in zip(jokes, counted.tolist(), strict=True)
}

# %% [markdown]
# The price rises as $\beta$ falls. Here it stops at 16 draws, because the best joke is told once in sixteen; where the best response
# has probability $10^{-20}$, it stops at $10^{20}$.

# %%
{
    f"beta = {beta}": round(1 / selection.acceptance(world.at(beta)).item(), 2)
    for beta in (10.0, 2.0, 1.0, 0.5, 0.2, 0.05)
}

# %% [markdown]
# **A near miss.** "Accept with probability $e^{r/\beta}$, or 1 if that is more." It saves looking for the maximum. But all that earns
# more than 0 is then accepted alike, and differences above 0 are lost.


# %%
def without_the_maximum(p_ref, r, beta):
    accepted = p_ref * np.exp(np.minimum(0.0, r / beta))
    return accepted / np.sum(accepted, axis=1, keepdims=True)


check("rejection-sampling", without_the_maximum, part="law")

# %% [markdown]
# A program that does not know $\max r$ and takes the largest reward it has seen so far makes a milder form of this mistake.
#
# ## 9.5 Expert iteration
#
# Selection is dear: it must be paid for every answer. So *imitate* what was selected, and then the model gives it at once. **Expert
# iteration** repeats this: draw from the model $p$, weigh each response by its reward (which must not be negative), and train $p$ on
# the result by maximum likelihood. From lesson 3, the likeliest law of weighted draws gives each response its share of the weight, so
# with endless data a round is
#
# $$p \leftarrow \frac{p\, r}{\mathbb{E}_p[r]} .$$
#
# *Rewards of 0 and 1* (right or wrong; a filter). The first round leaves the right ones, in proportion:


# %%
def imitate(p, reward):
    weight = {y: p[y] * reward[y] for y in p}
    return {y: w / sum(weight.values()) for y, w in weight.items()}


funny = {"knock-knock": 0, "pun": 1, "riddle": 1, "limerick": 1}
once = imitate(p_ref, funny)
{y: str(p) for y, p in once.items()}

# %% [markdown]
# and the second changes nothing, nor does any other:

# %%
imitate(once, funny) == once

# %% [markdown]
# *Graded rewards* multiply. After $k$ rounds the weights are $p_{ref}\, r^k = p_{ref}\, e^{k \log r}$: a Gibbs law, with the reward
# $\log r$ and $\beta = 1/k$. With the reward $2^r$, that is the law of section 9.4 after one round, and in the end it is
# the best joke only.

# %%
graded = {y: Fraction(2) ** r[y] for y in jokes}
one = imitate(p_ref, graded)
two = imitate(one, graded)
{"one round": [str(p) for p in one.values()], "two rounds": [str(p) for p in two.values()]}

# %% [markdown]
# *The best of n as the expert.* Imitate the best of 2, and of the new model's draws again the best of 2. Each round squares $F$, so two
# rounds are the best of 4, and nobody ever waited for more than two draws.

# %%
twice = selection.best_of_n(selection.best_of_n(world.log_p_ref, world.r, 2), world.r, 2)
np.allclose(twice, selection.best_of_n(world.log_p_ref, world.r, 4))

# %% [markdown]
# **A near miss.** "Keeping the right ones is a tilt by the reward, so it gives $p\, e^r$, normalized." A tilt would still tell what
# earns nothing. (`success` is 1 for the right responses, otherwise 0.)


# %%
def tilted(log_p, success):
    return np.exp(tr.log_softmax(log_p + success))


check("expert-iteration", tilted, part="0/1 rewards")

# %% [markdown]
# ## 9.6 Selected by the wrong judge
#
# Loud laughter is what we can measure; call it $r'$, the **proxy**, as in lesson 2. What we want are jokes that people would hear
# again. The limericks are rude: everybody laughs, and is sorry afterwards. So the reward that is wanted differs in one place:

# %%
wanted = dict(zip(jokes, [0, 1, 1, -1], strict=True))

# %% [markdown]
# **Predict.** The judge laughs at limericks; you do not want them. You keep the best of $n$ by the judge. Up to which $n$ does what *you*
# want improve?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Up to $n = 3$. Selection first does away with what nobody likes, and then, *because* nothing else is left to gain, it finds the one joke
# on which the two disagree.
#
# </details>
#
# Select by the proxy, and look at the means of both:


# %%
def mean(p, reward):
    return round(float(sum(p[y] * reward[y] for y in jokes)), 4)


{
    f"n = {n}": {"proxy": mean(best_of(n), r), "wanted": mean(best_of(n), wanted)}
    for n in (1, 2, 3, 4, 8, 16, 64)
}

# %% [markdown]
# The proxy rises with every $n$: the best of more is never worse. What is wanted rises too, up to $n = 3$: selection first does away
# with the jokes that nobody likes. Then it finds the one on which the two disagree. This is **over-optimization**: lesson 2 saw it when
# $\beta$ falls, and selection does it as well.
#
# **Does it happen always?** Suppose that proxy = wanted + error, and that the error has nothing to do with what is wanted. The sum is
# high where both are high, so one might think that selection by the sum must always help. Make a world of it: the first token decides
# the reward wanted, the second the error, and all of the $128^2$ responses are equally likely. What is wanted follows a normal law, cut
# into 128 pieces of equal probability.

# %%
V = 128
q = (np.arange(V) + 0.5) / V
normal = np.array([NormalDist().inv_cdf(x) for x in q])

# %% [markdown]
# The error once follows the same normal law, and once one with **heavy tails**: Student's law with two degrees of freedom, of which a
# share $q$ lies below $(2q - 1)/\sqrt{2 q (1 - q)}$. In the middle they differ little, but look at the end:

# %%
student = (2 * q - 1) / np.sqrt(2 * q * (1 - q))
{
    f"{100 * q[i]:.1f} percent": [round(e[i].item(), 2) for e in (normal, student)]
    for i in (64, 96, 121, 126, 127)
}

# %%
two_tokens = tr.TokenMDP(V, horizon=2)


# %%
def rewards_of(first, second):
    """A number for the first token plus a number for the second, for every response."""
    tokens = np.broadcast_to(second, (1, two_tokens.S, V)).copy()
    tokens[0, 0] = first
    return two_tokens.path_sum(tokens)


# %%
value = rewards_of(normal, np.zeros(V))
even = tr.World(two_tokens, np.full((1, two_tokens.S, V), -math.log(V)), r=value, beta=1.0)


# %%
def selected_by(error, ns=(1, 2, 4, 8, 16, 32, 64)):
    """The mean proxy and the mean of what is wanted, for the best of n by the proxy."""
    found = selection.select_by(
        even, partial(selection.best_of_n, even.log_p_ref), ns, proxy=rewards_of(normal, error)
    )
    both = np.stack([found.reward, found.gold], axis=1).round(2) + 0.0
    return {f"n = {n}": pair for n, pair in zip(ns, both.tolist(), strict=True)}


# %% [markdown]
# Normal errors; proxy, and what is wanted (the library calls it *gold*):

# %%
selected_by(normal)

# %% [markdown]
# Half of whatever is gained in proxy is real, at every $n$. (Of two equal normal laws, each has half of the sum, on average.) Heavy
# tails:

# %%
selected_by(student)

# %% [markdown]
# What is wanted rises, peaks, and falls back, while the proxy rises faster than before. A sum with one heavy-tailed term is very large
# nearly always because that *one* term is. So the most extreme proxies are mistakes, and say nothing of what is wanted. It is not the
# size of the error that counts, nor any connection between error and reward, but the tail. (Kwa et al. 2024, who show that a KL penalty
# is no help either.)
#
# Best of $n$ and Gibbs side by side, against the square root of the KL, on a world of 4,096 responses with a heavy-tailed error:

# %%
show("over-optimization")

# %% [markdown]
# Both peak, and Gibbs, which at equal KL is the better one by the proxy, is the worse one by what is wanted, all the way to where
# little can be chosen any more: it believes every unit of an enormous error, where best-of-$n$ only looks who is ahead.
#
# What can be done? Stop early ($n = 3$ above); keep some data on what is wanted, to see where the peak is; or make errors less extreme,
# for example by taking the smallest of several proxies whose mistakes differ (Coste et al. 2023).
#
# ## 9.7 Explore
#
# The Gibbs law of the jokes. *Try this.* (1) The best of 3 goes 0.3365 nats and earns 1.0510 (section 9.3). Move $\beta$ until the KL
# is about the same: what does Gibbs earn there? (2) It keeps a limerick with probability $721/4096 = 0.1760$. Which $\beta$ does so
# too, what KL does that cost, and why so much less?

# %%
explore.tilt(world)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# (1) At $\beta = 0.8$ the KL is 0.3417, and Gibbs earns 1.0937. (2) At $\beta = 1.2$ a limerick has 0.1801, for 0.1482 nats. The best
# of 3 pays for something else besides: it hardly ever tells the knock-knock joke, which is half of the reference.
#
# </details>
#
# And the derivation of section 9.2, line by line at your own pace; change the world, and see whether the bound is ever met.

# %%
explore.derivation("best-of-n", world)

# %% [markdown]
# ## 9.8 Exercises
#
# Replace `...` and run the cell again. The names of the parameters are supplied for every world that the checker tries; arrays over
# responses have the shape `(P, N)`, for $P$ prompts and $N$ responses.
#
# **1. The law of the best of n.** Return a *function* of `draws`, the number $n$, that returns the probability with which each response
# is kept, from `p_ref` and `r`: shape `(P, N)`, every row summing to one. (Take care where `p_ref` is 0; a quotient of differences is a
# sum.)


# %%
def best_of_n_law(p_ref, r):
    return ...


check("best-of-n-law", best_of_n_law)

# %% [markdown]
# **2. A bound, and what it gives away.** `log_p_best_of_n` and `log_p_ref` are the log-probabilities of the best of $n$ = `draws`
# responses and of one. Return the bound $\log n - (n-1)/n$ minus the divergence $\mathrm{KL}(p_n, p_{ref})$, for each prompt: shape
# `(P,)`, nats. (`tr.kl` does the divergence.)


# %%
def best_of_n_slack(draws, log_p_best_of_n, log_p_ref):
    return ...


check("best-of-n-slack", best_of_n_slack)

# %% [markdown]
# **3. How many draws are thrown away?** Rejection sampling accepts a draw from `p_ref` with probability $e^{(r - \max r)/\beta}$, where
# the maximum is over the responses to the same prompt that have positive probability. Return the share of draws that are *accepted*,
# for each prompt: shape `(P,)`.


# %%
def acceptance(p_ref, r, beta):
    return ...


check("acceptance", acceptance)

# %% [markdown]
# **4. Imitate what earned.** One round of expert iteration: draw very many responses from `p`, weigh each by its reward `earned`, which
# is positive, and fit the policy to them by maximum likelihood. Return the law that it arrives at: shape `(P, N)`, every row summing to
# one.


# %%
def imitation_round(p, earned):
    return ...


check("imitation-round", imitation_round)

# %% [markdown]
# **5. Selected by the wrong judge.** Draw $n$ = `draws` responses from `p_ref`, keep the one with the highest `proxy`, and look at what
# it is really worth, `r`. Return how much more it is worth on average than a single draw, for each prompt: shape `(P,)`, reward units.
# (It may be negative. Exercise 1 has done most of the work.)


# %%
def proxy_selection(p_ref, proxy, r, draws):
    return ...


check("proxy-selection", proxy_selection)

# %% [markdown]
# ## Further reading
#
# - von Neumann (1951), *Various techniques used in connection with random digits*: rejection sampling.
# - Dayan and Hinton (1997), *Using expectation-maximization for reinforcement learning*: imitation weighted by reward never lowers the
#   expected reward.
# - Stiennon et al. (2020), *Learning to summarize from human feedback*, arXiv:2009.01325: best-of-$n$ as a way to optimize a reward
#   model, and people's opinion of the result falling when it is optimized too far.
# - Zelikman, Wu, Mu and Goodman (2022), *STaR: Bootstrapping reasoning with reasoning*, arXiv:2203.14465, and Dong et al. (2023), *RAFT*,
#   arXiv:2304.06767: expert iteration with a filter, and with the best of $n$.
# - Gao, Schulman and Hilton (2023), *Scaling laws for reward model overoptimization*, arXiv:2210.10760: the rise and fall of section 9.6,
#   measured for best-of-$n$ and for reinforcement learning.
# - Beirami et al. (2024), *Theoretical guarantees on the best-of-n alignment policy*, arXiv:2401.01879: $\log n - (n-1)/n$ is a bound,
#   and when it is far from the truth.
# - Liu et al. (2023), *Statistical rejection sampling improves preference optimization*, arXiv:2309.06657: samples of $p^*$, made by
#   section 9.4, as data for the losses of lesson 6.
# - Coste, Anwar, Kirk and Krueger (2023), *Reward model ensembles help mitigate overoptimization*, arXiv:2310.02743: the most
#   pessimistic of several reward models, for best-of-$n$ and for reinforcement learning.
# - Kwa, Thomas and Garriga-Alonso (2024), *Catastrophic Goodhart: regularizing RLHF with KL divergence does not mitigate heavy-tailed
#   reward misspecification*, arXiv:2407.14503: heavy-tailed errors, section 9.6.
