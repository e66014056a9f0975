# %% [markdown]
# # 5. Information geometry of RLHF
#
# **The question.** Lesson 4 found the best law, $p^*$, and lesson 1 a warning: a real model cannot say everything, because states
# share parameters. *Which of the laws that it can say is nearest to $p^*$, if nearness has two directions, and what do imitation,
# reinforcement learning and learning from comparisons each end up with?* (RLHF is *reinforcement learning from human feedback*: a
# reward is learned from comparisons, as in lesson 3, and the law that is best for it, as in lesson 4.)

# %%
import math
from fractions import Fraction

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore, projection
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show
from tabular_rlhf.preferences import bradley_terry, population_pairs
from tabular_rlhf.roads import Implicit, Table, dpo, rlhf

# %% [markdown]
# **First, try.** Move ● until it is 0.2 nats from the reference ◇. Many places are: a whole closed curve. Then slide along that curve and earn more,
# until nothing more can be earned. The best places of all such curves form a line, the arc of section 5.3, *because* one rule makes them all:
# multiply the reference by $e^{s r}$. (In a notebook that is only read, the board stands still: run the cell.)

# %%
explore.aim("rational", kl=0.2)

# %% [markdown]
# ## 5.1 A divergence has two directions
#
# The world of lesson 4: three responses, rewards $r = \beta \log k$ with $k = 1, 2, 3$, and $\beta = 1$. The Gibbs optimum
# $p^* = p_{ref}\, e^{r/\beta} / Z$ is then $p_{ref}\, k$, divided by its sum.

# %%
p_ref = {".": Fraction(1, 3), "a .": Fraction(2, 9), "a a": Fraction(4, 9)}
k = {".": 1, "a .": 2, "a a": 3}


# %%
def normalized(weight):
    total = sum(weight.values())
    return {tau: w / total for tau, w in weight.items()}


p_star = normalized({tau: p_ref[tau] * k[tau] for tau in p_ref})
{tau: str(p) for tau, p in p_star.items()}

# %% [markdown]
# $\mathrm{KL}(p, q)$ is the mean of $\log (p/q)$ over what $p$ says. So who stands first matters. Here are both directions between
# $p^*$ and the reference:


# %%
def KL(p, q):
    return sum(p[tau] * math.log(p[tau] / q[tau]) for tau in p if p[tau] > 0)


{"KL(p*, p_ref)": round(KL(p_star, p_ref), 6), "KL(p_ref, p*)": round(KL(p_ref, p_star), 6)}

# %% [markdown]
# Let $p$ be the law of a model, and $q$ a target that it should come near.
#
# - $\mathrm{KL}(p, q)$, the model first, is the **reverse** divergence. It is infinite if the model says what the target never says.
# - $\mathrm{KL}(q, p)$, the target first, is the **forward** divergence. It is infinite if the model never says what the target says.
#
# Close laws nearly agree on the two; far ones do not. Neither is a distance. But each behaves like a *squared* distance, as we
# now see.
#
# ## 5.2 Pythagoras
#
# Consider all laws with a given mean reward $c$: the set $\{p : \mathbb{E}_p[r] = c\}$. It is flat: mix two of its laws, and the
# mixture is in it. Which of them is nearest to the reference? (Nearest with $p_{ref}$ second, as in $J$; this is called the
# **I-projection** of the reference onto the set.)
#
# **The derivation.**

# %%
derive("i-projection")

# %% [markdown]
# So it is the Gibbs optimum, with $\beta$ chosen such that its mean reward is $c$. And for all others of the set the theorem of
# Pythagoras holds, with divergences in place of squared sides: the way from $p$ to $p_{ref}$ turns by a right angle at $p^*$.
#
# **Exact numbers.** Which laws have the mean reward of $p^*$? Those that differ from it by a multiple of some $h$ with
# $\sum_\tau h(\tau) = 0$ and $\sum_\tau h(\tau)\, r(\tau) = 0$. With rewards $0$, $\log 2$ and $\log 3$ that is

# %%
r = {tau: math.log(k[tau]) for tau in k}
h = {".": r["a ."] - r["a a"], "a .": r["a a"], "a a": -r["a ."]}

# %% [markdown]
# For some multiples $t$: the mean reward, and both sides of Pythagoras.


# %%
def moved(t):
    return {tau: float(p_star[tau]) + t * h[tau] for tau in p_star}


def sides(p):
    mean = sum(p[tau] * r[tau] for tau in p)
    return [round(v, 5) for v in (mean, KL(p, p_ref), KL(p, p_star) + KL(p_star, p_ref))]


{f"t = {t}": sides(moved(t)) for t in (-0.1, -0.05, 0.0, 0.1, 0.2)}

# %% [markdown]
# The last two columns agree, and are least at $t = 0$. Off the set they do not: for "a third each" the three numbers are

# %%
sides(dict.fromkeys(p_ref, 1 / 3))

# %% [markdown]
# and line 7 says that the second is the third plus $(\mathbb{E}_p[r] - \mathbb{E}_{p^*}[r])/\beta$, here a negative number.
#
# **A near miss.** "In a triangle it does not matter from which end one measures a side." Turn the first short side round,
# $\mathrm{KL}(p^*, p)$ for $\mathrm{KL}(p, p^*)$. (In the checker's names $p$, the law with the mean reward of $p^*$, is
# `log_p_level`.)


# %%
def first_side_turned_round(log_p_level, log_p_star, log_p_ref):
    return tr.kl(log_p_star, log_p_level) + tr.kl(log_p_star, log_p_ref)


check("i-projection", first_side_turned_round, part="on the set")

# %% [markdown]
# ## 5.3 The arc
#
# For every $c$ between the reference's mean reward and the best reward there is a $\beta$. Let $\beta$ run from $\infty$ down, and
# the optimum runs along an arc that begins at the reference. What kind of a line is that? Not straight: in general it is no mixture
# of its ends. But its *logarithms* are straight.

# %%
derive("e-geodesic")

# %% [markdown]
# Such a line is called an exponential arc, or *e-geodesic*. At place $t$ on it the weights are $p_{ref}\, k^t$: in fractions for
# $t = -1$ (where one flees the reward), 0, 1 and 2.


# %%
def on_the_arc(t):
    return normalized({tau: p_ref[tau] * Fraction(k[tau]) ** t for tau in p_ref})


{f"t = {t}": [str(p) for p in on_the_arc(t).values()] for t in (-1, 0, 1, 2)}

# %% [markdown]
# Half-way between $t = 0$ and $t = 2$ stands $t = 1$. So it should be the *geometric* mean of these two laws, normalized; the
# *arithmetic* mean is another law:

# %%
{
    "t = 1": [round(float(p), 4) for p in p_star.values()],
    "geometric mean": [
        round(p, 4)
        for p in normalized(
            {x: math.sqrt(p_ref[x] * on_the_arc(2)[x]) for x in p_ref}
        ).values()
    ],
    "arithmetic mean": [round(float(p_ref[x] + on_the_arc(2)[x]) / 2, 4) for x in p_ref],
}

# %% [markdown]
# So there are two ways of being straight. Sets of equal mean reward are straight for mixing, the arc is straight for multiplying, and
# where they meet they meet at a right angle: that is Pythagoras. What follows for the regret of section 4.3? From any law $p$, go
# within its set of equal mean reward to the arc, at a law $q$, then along the arc to $p^*$:
#
# $$\beta\, \mathrm{KL}(p, p^*) = \beta\, \mathrm{KL}(p, q) + \beta\, \mathrm{KL}(q, p^*) .$$
#
# A part of the regret is for *being off the arc*, for reward that could be had nearer to the reference; the rest is for stopping at
# the *wrong place* of it, which another $\beta$ would mend. (Section 5.8 has both under your fingers.)
#
# ## 5.4 Imitation: projection by counting
#
# Now to models that cannot say everything. A **class** $\Pi$ (capital pi) of policies is given, and in it states share rows of
# probabilities. The states that share a row are a **context** $c$; write $c(s)$ for the context of $s$. Our example forgets
# everything: one context, one probability of "a", whatever was said.

# %%
world = tr.rational()
tied = tr.NGram(world.mdp, k=0)

# %% [markdown]
# **Predict.** If one could see only responses of $p^*$, and had to choose the one probability of "a": what would a child do?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Count how often "a" is said where something is said: 28 times in 35, or 4/5. That is the best there is, *because* the likelihood of a
# row is largest at the shares that were counted.
#
# </details>
#
# Suppose that somebody already follows $p^*$, and we **imitate**: we look for the policy of the class under which the responses of
# $p^*$ are likeliest. As in lesson 3, that is the forward KL: $p^*$ stands first. Its minimum over a class is called the
# **M-projection**.
#
# Some names for the lines below. $d_{p^*}(s)$ are the visits of $p^*$, as in lesson 1. $n(c, a)$ is how often $a$ is said in
# context $c$, on average over a response of $p^*$; $n(c)$ is the sum over $a$, how often one is in $c$. A row is written as
# $\mathrm{softmax}\, \theta$: the numbers $e^{\theta(c, a)}$, divided by their sum over $a$; the $\theta(c, a)$ are called
# *logits*. (The machine's class has one context, too: in lines 6 to 12 the first number is that of "a", the second that of ".".)

# %%
derive("m-projection-counts")

# %% [markdown]
# The answer is what a child would do: *count*. In our world "a" is said once in "a ." and twice in "a a", a full stop once in "." and
# in "a .":

# %%
n = {"a": p_star["a ."] + 2 * p_star["a a"], ".": p_star["."] + p_star["a ."]}
pi_hat = normalized(n)
{"n(a)": str(n["a"]), "n(.)": str(n["."]), "pi_hat(a)": str(pi_hat["a"])}

# %% [markdown]
# Is $4/5$ the best? Try all thousandths:


# %%
def forgetful(q):
    """The law of a policy that says "a" with probability q, always."""
    return {".": 1 - q, "a .": q * (1 - q), "a a": q * q}


p_hat = forgetful(pi_hat["a"])
best = min(range(1, 1000), key=lambda q: KL(p_star, forgetful(Fraction(q, 1000))))
{"best, in thousandths": best, "KL that is left": round(KL(p_star, p_hat), 6)}

# %% [markdown]
# What is left, no policy of the class can save.
#
# **The sampled check.** In practice nobody knows $p^*$; there are responses, and one counts in them. 10,000 of them (`phrase_count` and
# `lengths` count in every response):

# %%
p_star_log = tr.solve(world).log_p
count_a, tokens = [
    np.array(f, dtype=float)[None] for f in (world.mdp.phrase_count("a"), world.mdp.lengths)
]
everything = tr.population(world, p_star_log)
drawn = tr.sample(world, p_star_log, 10_000, rng=np.random.default_rng(0))

# %%
sampled = [tr.estimate(drawn, drawn[f]) for f in (count_a, tokens)]
exact = [tr.estimate(everything, everything[f]) for f in (count_a, tokens)]
{
    "28/19 and 35/19": [round(e.mean, 4) for e in exact],
    "sampled": [round(e.mean, 4) for e in sampled],
    "z": [round(s.z(e), 2) for s, e in zip(sampled, exact, strict=True)],
    "pi_hat(a)": round(sampled[0].mean / sampled[1].mean, 4),
}

# %% [markdown]
# **A near miss.** "States that share a row should get the average of their rows of $\pi^*$." In our world the rows are $16/19$
# and $3/4$ (lesson 4), and their average is not $4/5$. The checker's class remembers one token, and forgets how many there were
# (`tied.context[s]` is the number of the context of state $s$):


# %%
def plain_average(tied, mu, log_pi_star):
    rows = np.sum(mu[:, None, None] * np.exp(log_pi_star), axis=0)
    return np.array([np.mean(rows[tied.context == c], axis=0) for c in range(tied.shape[0])])


check("m-projection-counts", plain_average, part="pi(a given c)")

# %% [markdown]
# A state counts as much as it is visited, *by the law that is imitated*.
#
# ## 5.5 Whose visits? Covariate shift again
#
# A policy $\pi$ of the class imitates less well than $\hat\pi$. By how much? One would hope for Pythagoras, with $\hat\pi$ at the
# right angle: $\mathrm{KL}(p^*, p_\pi) = \mathrm{KL}(p^*, p_{\hat\pi}) + \mathrm{KL}(p_{\hat\pi}, p_\pi)$. Below, $\pi_c$ is the row
# of context $c$.

# %%
derive("m-projection-gap")

# %% [markdown]
# It fails, and in an instructive way. The rows of $\pi$ are held against those of $\hat\pi$ at the places where the *target* goes
# (line 6), not where the imitator goes (line 8). It is the covariate shift of lesson 2: trained in one place, living in another. In
# our world, with the reference as $\pi$: the target makes $n = 35/19$ choices in a response, the imitator

# %%
choices = 1 + pi_hat["a"]
{
    "by p*": str(sum(n.values())),
    "by p_hat": str(choices),
    "difference": str(sum(n.values()) - choices),
}

# %% [markdown]
# and Pythagoras misses by this difference, times the KL of the rows:

# %%
row = KL(pi_hat, {"a": Fraction(2, 3), ".": Fraction(1, 3)})
{
    "missing": round(KL(p_star, p_ref) - KL(p_star, p_hat) - KL(p_hat, p_ref), 8),
    "4/95 of the KL of rows": round(4 / 95 * row, 8),
}

# %% [markdown]
# ## 5.6 To cover or to seek
#
# Reinforcement learning goes the other way. By lesson 4 the gradient of $J$ is that of $-\beta\, \mathrm{KL}(p_\pi, p^*)$: the
# *reverse* projection onto the class. When do the two part? Here is a machine that laughs with two tokens. Laughing evenly, "ha ha"
# or "ho ho", is worth 3; mixed laughter nothing.

# %%
laugh = tr.TokenMDP(vocabulary=("ha", "ho"), horizon=2)
even = np.array([[float(laugh.text(tau) in ("ha ha", "ho ho")) for tau in range(laugh.N)]])
jolly = tr.World(
    laugh, np.log(np.full((1, laugh.S, 2), 1 / 2)), r=3 * even, beta=1.0, name="laughter"
)

# %% [markdown]
# **Predict.** Two laughs are worth 3 each, mixed ones nothing, and the machine forgets what it has said. Will imitation of $p^*$ laugh in
# both ways or in one? And reinforcement learning?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Imitation in both, and so half of its laughter is mixed, *because* it pays for every response of $p^*$ that it calls unlikely.
# Reinforcement learning in one, *because* it pays for what it says itself that $p^*$ hardly says.
#
# </details>
#
# Its optimum has two peaks, or *modes*:

# %%
target = tr.solve(jolly).log_p
{laugh.text(tau): round(p, 4) for tau, p in enumerate(tr.solve(jolly).p[0].tolist())}

# %% [markdown]
# The class forgets what it has said: one probability of "ha", for both tokens. Both projections:

# %%
forgets = tr.NGram(laugh, k=0)
forward = projection.forward_projection(forgets, target)
reverse = projection.reverse_projection(forgets, target, rng=np.random.default_rng(0))

# %%
{
    "forward, probability of ha": round(float(np.exp(forward.theta[0, 0])), 4),
    "reverse, probability of ha": sorted(
        round(float(np.exp(o.log_pi[0, 0, 0])), 4) for o in reverse.optima
    ),
}

# %% [markdown]
# The forward projection **covers** both modes: it must give probability to all that the target says, so it tosses a coin, and half of
# its laughter is mixed. The reverse projection **seeks a mode**: it must avoid what the target hardly says, so it chooses one laugh
# and forgets the other. There are two such choices, equally good. What each is worth, $J$, and what the optimum is worth:


# %%
def J(log_p):
    return round(float(tr.objective(log_p, jolly.log_p_ref, jolly.r, jolly.beta, laugh.mu)), 4)


{"forward": J(forward.log_p), "reverse": J(reverse.log_p), "p*": J(target)}

# %% [markdown]
# **When are there two?** Let $L = 3/\beta$, so that $p^*$ is $e^L$ times as large on even laughter, and let the class say "ha" with
# probability $\pi$. Write $\mathrm{KL}(p_\pi, p^*)$ out. Each of the two choices adds the mean of its $\log \pi$, and even laughter
# takes off $L$:
#
# $$\mathrm{KL}(p_\pi, p^*) = 2 \big(\pi \log \pi + (1 - \pi) \log (1 - \pi)\big) - L \big(\pi^2 + (1 - \pi)^2\big) + \text{a constant} .$$
#
# The slope in $\pi$ is $2 \log \frac{\pi}{1 - \pi} - 2 L (2 \pi - 1)$. It is zero where, with $m = 2 \pi - 1$,
#
# $$m = \tanh (L m / 2) .$$
#
# The curve $\tanh(Lm/2)$ leaves $m = 0$ with slope $L/2$. So there are solutions beside $m = 0$ exactly if $L > 2$. (Physicists know
# this equation from magnets.) Iterate it from $m = 0.9$:


# %%
def iterated(L, m=0.9, steps=2000):
    for _ in range(steps):
        m = math.tanh(L * m / 2)
    return round((1 + m) / 2, 4)


{f"L = {L}": iterated(L) for L in (1.5, 1.9, 2.1, 2.5, 3, 4, 6)}

# %% [markdown]
# At $L = 3$ it is the number that descent found. **A near miss.** "Gradient descent finds the best policy of the class; start it
# once, there is one optimum." (The checker laughs too. Of the world that it shows, only $\beta$ counts: $L = 3/\beta$ is 6 there.)

# %%
check("mode-seeking", lambda beta: 1.0, part="local optima")

# %% [markdown]
# *$J$ is concave in laws, but in the parameters of a class it may have several peaks.* Where one ends up, is then decided by where
# one starts.
#
# Both projections in a picture, for a world of three responses with two good ones. A point of the triangle is a law, each corner is one
# response, said always; the black curve is a class that forgets; the blue arc is that of section 5.3.

# %%
show("simplex")

# %% [markdown]
# The forward projection stands between the modes. The reverse one stands near one of them, and a second local optimum near the other.
# (The dotted curve joins the laws with the forward divergence of the one, the dashed curve those with the reverse divergence of the
# other: each touches the class where it is nearest.)
#
# ## 5.7 All roads
#
# Nobody hands us the reward. There are comparisons, and two roads from them to a policy:
#
# - **RLHF**, in two stages: find the likeliest reward of some class of rewards (lesson 3), then the policy of $\Pi$ with the largest
#   $J$ for it.
# - **DPO** (*direct preference optimization*, the subject of lesson 6), in one: let each policy stand for the reward whose Gibbs
#   optimum it is, and find the likeliest policy of $\Pi$ at once.
#
# Which reward has the optimum $\pi$? Solve $\pi = \pi_{ref}\, e^{r/\beta}/Z$ for $r$: it is $\beta \log (\pi/\pi_{ref})$, plus any
# number $c(x)$ for every prompt. Let $R(\Pi)$ be the class of the rewards of all policies of $\Pi$. In the lines below $y$ is a
# response, $y_w$ and $y_l$ are the winner and the loser of a comparison, $\pi(y)$ is short for the probability that policy $\pi$
# gives to response $y$, and $\mathbb{E}$ is the mean over comparisons. The comparisons are drawn by the machine, from people who may
# contradict each other.

# %%
derive("all-roads")

# %% [markdown]
# *Both roads lead to the same policy, if the rewards searched are those that the policies stand for.* The first stage then already
# found the policy, and the second has nothing left to do.
#
# And if the rewards searched are more? Take all tables of rewards, people with the rewards of our world, all pairs of responses
# compared, and the forgetful class:

# %%
pairs = population_pairs(world, bradley_terry(world.r))
rng = np.random.default_rng(0)
arrivals = {
    "RLHF, rewards R(Pi)": rlhf(world, pairs, Implicit(tied, world), tied, rng=rng),
    "DPO": dpo(world, pairs, tied, rng=rng),
    "RLHF, any rewards": rlhf(world, pairs, Table(world.mdp), tied, rng=rng),
}

# %% [markdown]
# The probability of "a" where each road ends, and its regret $\beta\, \mathrm{KL}(p_\pi, p^*)$:


# %%
def where(log_pi):
    regret = float(tr.regret(world.mdp.path_sum(log_pi), world))
    return [round(float(np.exp(log_pi[0, 0, 0])), 6), round(regret, 6)]


imitation = projection.forward_projection(tied, p_star_log).log_pi
{
    **{road: where(there.log_pi) for road, there in arrivals.items()},
    "imitation of p*": where(imitation),
}

# %% [markdown]
# The third road learns the true reward, and then does the best that the class can do: the reverse projection, of least regret. DPO
# looks for the likeliest reward that the class *can stand for*, which is a different compromise; imitation a third. Were $p^*$ in the
# class, all four would be at $p^*$, with regret 0. *The roads differ by where the class is too small.*
#
# ## 5.8 Explore
#
# The triangle of laws over the three responses, with a policy to move. *Try this.* (a) At $\beta = 1$, move your policy to a regret
# below 0.001. (b) Stay at your mean reward (the dashed line) and reduce the regret: what is left of it, and which slider takes that
# away? (c) Take $\beta$ to its ends and watch $p^*$ run along the arc.

# %%
explore.simplex(world)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# (a) It is $3/19 \approx 0.16$ of ".", and of the rest $12/16 = 0.75$ of "a a". (b) What is left is
# $\beta\, \mathrm{KL}(q, p^*)$, for the wrong place on the arc; the slider of $\beta$ takes it away, by moving the goal.
#
# </details>
#
# ## 5.9 Exercises
#
# Replace `...` and run the cell again. Logarithms of laws have shape `(P, N)`, for $P$ prompts and $N$ responses.
#
# **1. A divergence has two directions.** For a policy's law $p$ and the optimum $p^*$, return the reverse divergence
# $\mathrm{KL}(p, p^*)$ and the forward one, $\mathrm{KL}(p^*, p)$, for each prompt: a row each, shape `(2, P)`, nats.


# %%
def both_directions(log_p, log_p_star):
    return ...


check("both-directions", both_directions)

# %% [markdown]
# **2. The road from the reference to the optimum.** At place $t$, from 0 to 1, the arc passes the law proportional to
# $p_{ref}^{1-t}\, (p^*)^t$. Return a *function* of `t` that returns this law for each prompt: probabilities of shape `(P, N)`, every
# row summing to one.


# %%
def arc(log_p_ref, log_p_star):
    return ...


check("arc", arc)

# %% [markdown]
# **3. By how much Pythagoras fails.** Return $\mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p, p^*) - \mathrm{KL}(p^*, p_{ref})$ for any law
# $p$ and each prompt: shape `(P,)`, nats. (The reference is not among the parameters, and you do not need it.)


# %%
def pythagoras_gap(log_p, log_p_star, r, beta):
    return ...


check("pythagoras-gap", pythagoras_gap)

# %% [markdown]
# **4. Imitation by counting.** `tied.context[s]` is the number of the context of state $s$, `tied.shape` is (contexts, `V`), `mu` the
# distribution of prompts, which the class does not see. Return the policy of the class that minimizes
# $\mathbb{E}_\mu \mathrm{KL}(p^*, p_\pi)$: probabilities of shape `(contexts, V)`, rows summing to one. (As in lesson 1,
# `mdp.subtree_sum(p)` holds the mass of every prompt, state and token, of shape `(P, S, V)`.)


# %%
def forward_projection(mdp, tied, mu, p_star):
    return ...


check("forward-projection", forward_projection)

# %% [markdown]
# **5. Covariate shift, in one number.** $\hat\pi$ is the projection of exercise 4, $\pi$ another policy of the class, both of shape
# `(P, S, V)`; `d_star` and `d_hat` are the visits of $p^*$ and of $\hat\pi$'s law, `(P, S)`. Return by how much Pythagoras fails,
# $\mathbb{E}_\mu[\mathrm{KL}(p^*, p_\pi) - \mathrm{KL}(p^*, p_{\hat\pi}) - \mathrm{KL}(p_{\hat\pi}, p_\pi)]$: a scalar, nats.


# %%
def covariate_shift(mu, d_star, d_hat, log_pi_hat, log_pi_tied):
    return ...


check("covariate-shift", covariate_shift)

# %% [markdown]
# ## Further reading
#
# - Csiszár (1975), *I-divergence geometry of probability distributions and minimization problems*: sections 5.2 and 5.3, Pythagoras
#   and the shape of the nearest law, for any number of linear constraints.
# - White (1982), *Maximum likelihood estimation of misspecified models*: with a class that does not hold the truth, maximum
#   likelihood goes to the nearest law in forward divergence, and its errors are known.
# - Minka (2005), *Divergence measures and message passing*: which divergences cover and which seek modes, in one family with a
#   parameter.
# - Amari (2016), *Information geometry and its applications*: the two ways of being straight, and what is built on them.
# - Khalifa, Elsahar and Dymetman (2021), *A distributional approach to controlled text generation*, arXiv:2012.11635: a language
#   model is moved to the I-projection of section 5.2 by imitating it, with the forward divergence, instead of maximizing $J$.
# - Swamy et al. (2025), *All roads lead to likelihood: the value of reinforcement learning in fine-tuning*, arXiv:2503.01067: section
#   5.7, and why two stages can still win where rewards are simpler than policies.
