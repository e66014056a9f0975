# %% [markdown]
# # 2. The two challenges of fine-tuning
#
# **The question.** We have a language model and would like it to write better. So we let it write, reward what is good, and repeat.
# *What can go wrong, if the computation itself makes no mistake?* Two things. It may never write anything worth a reward: that is the
# challenge of **exploration**. And what we reward may not be what we want: that is the challenge of **reward design**.
#
# Between them stands a third thing, *imitation*, which answers the first challenge and has a price of its own.

# %%
import math
from fractions import Fraction

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show
from tabular_rlhf.preferences import bradley_terry, population_pairs

# %% [markdown]
# **First, look.** Choose ever more sharply by a judge who is nearly always right. On the left, what the judge says: it rises on and on. On the
# right, what was wanted: it rises, peaks and falls, *because* the most extreme praise is mostly the judge's mistake. From left to right one goes
# further from the reference; the solid line, called "Gibbs", is the tilt of section 2.3. (The dashed one, "best of $n$", is for lesson 9.)

# %%
show("over-optimization")

# %% [markdown]
# ## 2.1 Exploration: is there any reward to be found?
#
# From lesson 1: a policy $\pi(a \mid s)$ chooses tokens, and so gives every response $\tau$ a probability $p_\pi(\tau)$; a reward
# $r(\tau)$ judges finished responses. Here is a world whose policy was learned from a text: the sentences "X is better than Y" in the
# famous page of advice that is printed by `import this`. Sixteen words and a full stop, five tokens at most.

# %%
zen = tr.zen_world()

# %% [markdown]
# We want one sentence, "beautiful is better than ugly". Write $G$ for the set of responses that are rewarded: here, just this one. Its
# reward is 1, that of all others is 0, and nobody is told in advance where it is.

# %%
goal = zen.mdp.find("beautiful is better than ugly")

# %% [markdown]
# An **episode** is one response, written and judged. Let $q = p(G)$ be the probability that an episode is rewarded. *How many episodes
# does it take until the first reward?* Call this number $T$. The first $n$ episodes all fail with probability $(1 - q)^n$, so
#
# $$P(T > n) = (1 - q)^n .$$
#
# Any whole number $T$ is the number of $n = 0, 1, 2, \ldots$ below it, so its mean is the sum of these probabilities, a geometric
# series:
#
# $$\mathbb{E}[T] = \sum_{n \ge 0} P(T > n) = \sum_{n \ge 0} (1 - q)^n = \frac{1}{1 - (1 - q)} = \frac1q .$$
#
# For $q = 1/4$ the sum climbs to 4:

# %%
q = Fraction(1, 4)
[round(float(sum((1 - q) ** n for n in range(terms))), 4) for terms in (1, 2, 4, 8, 16, 32)]

# %% [markdown]
# **Predict.** One sentence of five words out of a vocabulary of seventeen. How many episodes will a writer who chooses blindly need until
# the first reward, and how many one who has read the text: ten times fewer, a thousand times, or more?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Some 19,000 times fewer: 1.4 million episodes against 74. Blindly the wait is $V^H$, *because* all five choices must be right at once;
# who has read makes each of them with a probability far above $1/17$.
#
# </details>
#
# **A blind writer** chooses each of the $V = 17$ tokens equally often. A given string of $H = 5$ tokens has probability $V^{-H}$, so the
# wait is $V^H$: it grows *exponentially* with the length of what we want.

# %%
blind = Fraction(1, zen.mdp.V**zen.mdp.H)

# %% [markdown]
# **A writer who has read** chooses each token about as often as the text does after the token before, with a little left for all the
# others. Let $p_{ref}$, the *reference*, be the law of what it says.

# %%
q_ref = math.exp(zen.log_p_ref[0, goal])

# %% [markdown]
# **Exact numbers.** The mean wait $1/q$, in episodes:

# %%
{"blind": int(1 / blind), "from the reference": round(1 / q_ref, 2)}

# %% [markdown]
# 1.4 million episodes against seventy-four. This is what pretraining is to reinforcement learning: it makes reward likely
# enough to be met.
#
# **The sampled check.** Let the reference write 20,000 times, and count.

# %%
success = np.arange(zen.mdp.N)[None] == goal
everything = tr.population(zen, zen.log_p_ref)
drawn = tr.sample(zen, zen.log_p_ref, 20_000, rng=np.random.default_rng(0))

# %%
exact, sampled = [tr.estimate(data, data[success]) for data in (everything, drawn)]
{
    "q": round(exact.mean, 5),
    "share of episodes rewarded": round(sampled.mean, 5),
    "z": round(sampled.z(exact), 2),
}

# %% [markdown]
# (As in lesson 1, $z$ counts standard errors: nineteen times in twenty it lies between $-2$ and $2$.)
#
# But reading helps only with what has been read. "Ugly is better than beautiful" uses the same words; the text never puts them so,
# and the reference gives such sentences almost nothing:

# %%
round(math.exp(-zen.log_p_ref[0, zen.mdp.find("ugly is better than beautiful")]))

# %% [markdown]
# That is worse than blind. And where the reference gives a response probability 0, the wait is infinite. *What the reference cannot say
# cannot be found, and so cannot be rewarded*, however large the reward would be.
#
# **A near miss.** "Among $1/q$ strings one can be found with $\log_2 (1/q)$ questions of yes or no, as in the game of twenty questions.
# So seven episodes should do." The next cell computes this for $G$ the best responses.


# %%
def twenty_questions(log_p_ref, r):
    G = r == np.max(r, axis=1, keepdims=True)
    q = np.sum(np.exp(log_p_ref) * G, axis=1)
    return np.log2(1 / q)


check("exploration", twenty_questions, part="from pi_ref")

# %% [markdown]
# A question of that game rules out half of what is left. An episode without reward rules out one string: it does not say which of
# the tokens were right. (In the smallest world that the checker found there is one response, so one episode is needed, and no question.)
#
# ## 2.2 Imitation: errors compound
#
# The way to a good reference, then, is to *imitate*: collect the responses of an expert, and train the model to choose the same token
# in every state of theirs. (For language models: pretraining, and *supervised fine-tuning* on demonstrations.) On the expert's states
# it now errs with a small probability $\varepsilon$ (epsilon). How many errors will it make in a response of $H$ tokens?
#
# Take the simplest expert: there is one right path, and it stays on it. The learner leaves it with probability $\varepsilon$ at each token.
# Off the path it has never been; it is lost, and each later token is an error too. With $\varepsilon = 1/10$ and $H = 3$:

# %%
path = tr.TokenMDP(vocabulary=("on", "off"), horizon=3)


# %%
def learner(a, s, eps=Fraction(1, 10)):
    """The probability of token `a` when the words `s` have been said."""
    if "off" in s:
        return Fraction(int(a == "off"))
    return eps if a == "off" else 1 - eps


def probability(words):
    return math.prod((learner(a, words[:h]) for h, a in enumerate(words)), start=Fraction(1))


# %%
table = {path.text(tau): probability(path.text(tau).split()) for tau in path.lexicographic}
{text: str(p) for text, p in table.items() if p > 0}

# %% [markdown]
# The errors of a response are its "off"s, and their mean is

# %%
str(sum(p * text.split().count("off") for text, p in table.items()))

# %% [markdown]
# Not $\varepsilon H = 3/10$. Let us see where the rest comes from. Three symbols:
#
# - $d_\pi(s)$, the occupancy of lesson 1: the probability that the learner's response passes through state $s$;
# - $d_{expert}(s)$, the same for the expert: 1 on the path, 0 elsewhere;
# - $c(s)$, the *cost*: the probability of an error in state $s$. It is $\varepsilon$ on the path and 1 off it.
#
# The mean number of errors is $C(\pi) = \sum_s d_\pi(s)\, c(s)$, cost times visits.
#
# **The derivation.** (The machine's own example has $H = 2$ and a larger $\varepsilon$.)

# %%
derive("compounding-error")

# %% [markdown]
# Lines 1 to 6 are what happens, of order $H^2$; lines 7 and 8 are what a test on the expert's own responses shows, of order $H$; the
# last line says that the difference is all in the visits. This is called **covariate shift**: one is tested where the expert goes
# and must live where one goes oneself.
#
# With one error in a hundred tokens the test is content, however long the response. The mean numbers of errors, for growing $H$:


# %%
def cost(H, eps):
    return sum(1 - (1 - eps) ** h for h in range(1, H + 1))


{
    H: {
        "made": round(cost(H, 0.01), 2),
        "shown by the test": H / 100,
        "bound": H * (H + 1) / 200,
    }
    for H in (1, 4, 16, 64, 256)
}

# %% [markdown]
# **A near miss.** "An error in a hundred tokens is an error in a hundred tokens: on average $\varepsilon H$."

# %%
check("compounding-error", lambda H, eps: eps * H, part="own visits")

# %% [markdown]
# There are two ways out. Let the expert also say what to do where the *learner* goes (an algorithm called DAgger does); or let the
# learner write by itself and judge what it wrote: reinforcement learning, for which it needs a reward.
#
# ## 2.3 Reward design: which reward?
#
# A waiter says "great" after each dish: once, twice, or more often. He stops after each token with probability $2/3$, and after four.

# %%
mdp = tr.TokenMDP(vocabulary=("great", "."), horizon=4, eos=".")
praise = [".", "great .", "great great .", "great great great .", "great great great great"]
p_ref = dict(
    zip(
        praise,
        [Fraction(2, 3), Fraction(2, 9), Fraction(2, 27), Fraction(2, 81), Fraction(1, 81)],
        strict=True,
    )
)

# %% [markdown]
# What the guests want is a reward $r$: no praise is cold, two words are best, four are unbearable. Nobody can write $r$ down. What
# the owner *can* measure is how often "great" is said: call this the **proxy** reward $r'$.

# %%
r = dict(zip(praise, [0, 1, 2, 1, -2], strict=True))
proxy = {text: text.split().count("great") for text in p_ref}

# %% [markdown]
# Up to two words the proxy and the truth agree, and that is nearly all of what the waiter says today ($26/27$ of it).
#
# **How far to go?** The law that maximizes $r'$ alone says "great great great great", always. That is neither wanted nor safe: section
# 2.1 says that we know nothing about places where the reference does not go. So we ask for high $r'$ *near the reference*. The usual
# measure of how far a law $p$ is from $p_{ref}$ is the **Kullback-Leibler divergence**
#
# $$\mathrm{KL}(p, p_{ref}) = \sum_\tau p(\tau) \log \frac{p(\tau)}{p_{ref}(\tau)} ,$$
#
# the mean, over what $p$ says, of how many nats more it gives to it than $p_{ref}$ does. It is 0 for $p = p_{ref}$, otherwise positive
# (since $-\mathrm{KL}$ is the mean of $\log (p_{ref}/p)$, which is at most the logarithm of the mean, $\log \sum_\tau p_{ref}(\tau) = 0$),
# and infinite where $p$ says what $p_{ref}$ never says.


# %%
def KL(p, q):
    return sum(p[tau] * math.log(p[tau] / q[tau]) for tau in p if p[tau] > 0)


# %% [markdown]
# Let $\beta > 0$ (beta) be the price of a nat in units of reward. We maximize
#
# $$J'(p) = \mathbb{E}_p[r'] - \beta\, \mathrm{KL}(p, p_{ref}) .$$
#
# Lesson 4 derives the best law; lesson 1 already let you play with it. It tilts the reference toward the reward,
#
# $$p(\tau) = \frac{p_{ref}(\tau)\, e^{r'(\tau)/\beta}}{Z}, \qquad Z = \sum_\tau p_{ref}(\tau)\, e^{r'(\tau)/\beta} ,$$
#
# where $Z$ makes the sum one. With $k = e^{1/\beta}$, the factor that a unit of reward is worth, it is all fractions:


# %%
def tilted(k, reward=proxy):
    weight = {tau: p_ref[tau] * Fraction(k) ** reward[tau] for tau in p_ref}
    Z = sum(weight.values())
    return {tau: w / Z for tau, w in weight.items()}


{tau: str(p) for tau, p in tilted(3).items()}

# %% [markdown]
# Believe it only as far as you have tried it. For $k = 3$, so $\beta = 1/\log 3$, here is $J'$ of the reference, of the tilt, of tilts
# with too much and too little, and of the one answer with the highest proxy:


# %%
def mean(p, f):
    return sum(p[tau] * f[tau] for tau in p)


def J_proxy(p, beta):
    return round(float(mean(p, proxy)) - beta * KL(p, p_ref), 4)


highest = {tau: Fraction(int(proxy[tau] == 4)) for tau in p_ref}
tried = {f"k = {k}": tilted(k) for k in (2, 3, 4)}
tried |= {"reference": p_ref, "highest proxy": highest}
{name: J_proxy(p, beta=1 / math.log(3)) for name, p in tried.items()}

# %% [markdown]
# **The proxy never falls.** How does its mean change with $\beta$? Take the logarithm of the tilt and its derivative,
#
# $$\log p = \log p_{ref} + \frac{r'}{\beta} - \log Z, \qquad
# \frac{d \log p}{d\beta} = -\frac{r'}{\beta^2} - \frac{d \log Z}{d\beta} .$$
#
# The probabilities add up to one whatever $\beta$, so $d \log p / d\beta$ has the mean $\sum_\tau dp(\tau)/d\beta = 0$. This fixes the
# last term, $d \log Z / d\beta = -\mathbb{E}_p[r']/\beta^2$, and
#
# $$\frac{d \log p}{d\beta} = -\frac{r' - \mathbb{E}_p[r']}{\beta^2}, \qquad
# \frac{d\, \mathbb{E}_p[r']}{d\beta} = \mathbb{E}_p\Big[r' \frac{d \log p}{d\beta}\Big] = -\frac{\mathrm{Var}_p(r')}{\beta^2} .$$
#
# A variance is never negative: less $\beta$, that is, more optimization, never brings less proxy. At $k = 3$, by the formula:

# %%
variance = (
    mean(tilted(3), {tau: proxy[tau] ** 2 for tau in p_ref}) - mean(tilted(3), proxy) ** 2
)
round(-float(variance) * math.log(3) ** 2, 6)

# %% [markdown]
# and by differentiating the program that computes the mean (`tr.log_softmax(x)` is $x$ less the logarithm of the sum of $e^x$,
# which here is $\log Z$; `tr.grad` of a function returns its slope):

# %%
log_ref, counts = (
    np.log([float(p) for p in p_ref.values()]),
    np.array(list(proxy.values()), dtype=float),
)


# %%
def mean_proxy(beta):
    return tr.expect(tr.log_softmax(log_ref + counts / beta), counts)


round(float(tr.grad(mean_proxy)(1 / math.log(3))), 6)

# %% [markdown]
# **A near miss.** "Only $e^{r'/\beta}$ contains $\beta$; $Z$ is a constant." Then the slope would be $-\mathbb{E}_p[r'^2]/\beta^2$. In a
# world with a single response nothing can be tilted, and the slope must be zero:


# %%
def as_if_Z_were_constant(log_p_ref, proxy, beta):
    p = np.exp(tr.log_softmax(log_p_ref + proxy / beta))
    return -np.sum(p * proxy**2, axis=1) / beta**2


check("reward-hacking", as_if_Z_were_constant, part="proxy")

# %% [markdown]
# **Predict.** The owner lowers $\beta$. His proxy rises, as was just shown. And what the guests get?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# It rises at first and then falls, below where it began, *because* the proxy and the truth agree only where the waiter used to be: up to
# two words.
#
# </details>
#
# **The truth does not.** For growing $k$: the mean of $r'$, which the owner measures; the mean of $r$, which the guests get, as a
# fraction and in decimals; and the KL, how far the waiter has gone.


# %%
def earned(k):
    p = tilted(k)
    return [
        str(mean(p, proxy)),
        str(mean(p, r)),
        round(float(mean(p, r)), 3),
        round(KL(p, p_ref), 3),
    ]


{f"k = {k}": earned(k) for k in ("1", "3/2", "2", "3", "4", "6")}

# %% [markdown]
# First both rise. Then the proxy goes on rising and the truth falls, below where it began, and further. This is **reward hacking**,
# or over-optimization. (Goodhart's law, in Strathern's words: "When a measure becomes a target, it ceases to be a good measure.") No
# bug was needed and no noise. The proxy was right about what the waiter used to say; the optimization took him to where it is wrong.
#
# The picture at the top of this lesson is the same on a larger world, where the proxy is the truth plus an error that is now and then large.
#
# So the two challenges have a remedy in common. The reference is where reward can be found, and it is where the proxy can be trusted:
# stay near it, at a price $\beta$. *Which* price? Where the slope of $\mathbb{E}_p[r]$ is zero; that slope is exercise 5.
#
# ## 2.4 Reward by hand, or learned
#
# What does a reward cost that was written by hand? Fix $k = 3$, and give the world two rewards: the proxy, and the truth.

# %%
pi_ref = np.log([[[1 / 3, 2 / 3]] * mdp.S])
by_hand = tr.World(
    mdp, pi_ref, r=mdp.phrase_count("great")[None], beta=1 / math.log(3), name="by hand"
)
wanted = by_hand.with_reward([[r[mdp.text(tau)] for tau in range(mdp.N)]])

# %% [markdown]
# `tr.solve` computes the tilt, $p'$ of the proxy and $p^*$ of the truth. By the truth's own measure,
# $J(p) = \mathbb{E}_p[r] - \beta\, \mathrm{KL}(p, p_{ref})$, they are worth

# %%
hand, best = tr.solve(by_hand).log_p, tr.solve(wanted).log_p
J_hand, J_best = [
    float(tr.objective(log_p, wanted.log_p_ref, wanted.r, wanted.beta, mdp.mu))
    for log_p in (hand, best)
]
{"J(p')": round(J_hand, 4), "J(p*)": round(J_best, 4), "regret": round(J_best - J_hand, 4)}

# %% [markdown]
# The **regret**, what was given away, is $\beta\, \mathrm{KL}(p', p^*)$, to the last digit. (Why, is in lesson 4.)

# %%
round(float(wanted.beta * tr.kl(hand, best)[0]), 4)

# %% [markdown]
# **Asking people.** The guests cannot write $r$ down either. But show them two answers, and they can say which they prefer. Suppose that
# they prefer $i$ to $j$ with probability
#
# $$P(i \succ j) = \sigma(r(i) - r(j)), \qquad \sigma(u) = \frac{1}{1 + e^{-u}} ,$$
#
# more surely, the further $i$ is ahead. (This is the law of Bradley and Terry, the subject of lesson 3.) The waiter's own answers are
# drawn two at a time and compared. Here are all pairs, winner and loser, each with its probability as its weight.

# %%
pairs = population_pairs(wanted, bradley_terry(wanted.r))

# %% [markdown]
# A proposed reward $\hat r$ predicts $\sigma(\hat r_w - \hat r_l)$ for what happened, that $w$ won and $l$ lost. Its **surprise** is
# the mean of $-\log \sigma(\hat r_w - \hat r_l)$, in nats. `margin` takes the differences.


# %%
def surprise(r_hat):
    return -np.sum(pairs.weight * tr.log_sigmoid(pairs.margin(r_hat)))


{
    "the truth": round(float(surprise(wanted.r)), 4),
    "the proxy": round(float(surprise(by_hand.r)), 4),
}

# %% [markdown]
# The truth is less surprised. And it cannot be improved: the slope of the surprise at $r$ is zero in every direction.

# %%
[abs(slope) < 1e-12 for slope in tr.grad(surprise)(wanted.r)[0].tolist()]

# %% [markdown]
# So whoever minimizes the surprise over all tables $\hat r$, with comparisons enough, finds what the guests want: a *learned* reward.
# (How many are enough, and what can go wrong, is lesson 3.)
#
# **A near miss.** "People only say which one is better, never by how much. So $2r$ would explain them as well as $r$."


# %%
def twice_as_large(pairs, r):
    def surprise(r_hat):
        return -np.sum(pairs.weight * tr.log_sigmoid(pairs.margin(r_hat)))

    return tr.grad(surprise)(2 * r)


check("reward-by-hand-vs-learned", twice_as_large, part="slope of the NLL at r")

# %% [markdown]
# Not so: *how often* they agree says by how much. ("NLL" is the surprise under its usual name, negative log-likelihood.) A reward
# that is learned badly is a proxy again, and section 2.3 applies to it: stay near the reference.
#
# ## 2.5 Explore
#
# The owner's waiter, tilted by the proxy. *Try this.* Move $\beta$ up to 10 and slowly down: below which $\beta$ is "great great great
# great" the likeliest thing he says? Find it with pencil and paper, too. Then go down to $\beta = 0.5$, and move the reward of that
# answer, the third control, from 4 to the $-2$ that it is to the guests.

# %%
explore.tilt(by_hand)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# Its weight is $k^4/81$, that of "." is $54/81$: it is ahead of all others where $k^4 > 54$, so below
# $\beta = 4/\log 54 \approx 1.003$. At 0.5 it is 69 percent of what he says. With the right number for this one answer it vanishes,
# and "great great great ." takes its place, which the proxy overrates too.
#
# </details>
#
# ## 2.6 Exercises
#
# Replace `...` and run the cell again. The names of the parameters are supplied for every world that the checker tries; arrays over
# responses have the shape `(P, N)`, for $P$ prompts and $N$ responses.
#
# **1. How long until the first reward?** `success` is 1 for the responses of a set $G$ that are rewarded and 0 for all others. An
# episode is one response drawn from the reference, `p_ref`. Return how many episodes it takes on average until the first response in
# $G$, that one counted, for each prompt: shape `(P,)`.


# %%
def episodes_until_success(p_ref, success):
    return ...


check("episodes-until-success", episodes_until_success)

# %% [markdown]
# **2. Several attempts, and a bound.** Let $q = p_{ref}(G)$ be the probability of a reward in one episode, and take $n$ = `draws`
# independent episodes. The probability that at least one of them is rewarded is at most $n q$ (the *union bound*). Return how much the
# bound gives away, $n q$ minus that probability, for each prompt: shape `(P,)`, never negative.


# %%
def union_bound(p_ref, success, draws):
    return ...


check("union-bound", union_bound)

# %% [markdown]
# **3. Errors compound.** The learner of section 2.2: as long as it has made no mistake, it makes one with probability $\varepsilon$ =
# `eps` at every token; after its first mistake every later token is a mistake too. Return the expected number of mistakes in $H$ tokens,
# without a loop if you can (a geometric series; `eps` is not 0): a scalar.


# %%
def compounding_cost(H, eps):
    return ...


check("compounding-cost", compounding_cost)

# %% [markdown]
# **4. What the optimum of a proxy is worth.** `proxy` is a reward $r'$ that we can measure, `r` the reward $r$ that we want. Return what
# we get of what we want at the tilt by the proxy, $\mathbb{E}_p[r]$ for $p \propto p_{ref}\, e^{r'/\beta}$, for each prompt: shape `(P,)`,
# reward units. ($\propto$: equal up to the factor $1/Z$; `log_p_ref` is $\log p_{ref}$; `tr.log_softmax(x)` is $x$ minus the logarithm of
# the sum of $e^x$, in each row.)


# %%
def proxy_optimum(log_p_ref, proxy, r, beta):
    return ...


check("proxy-optimum", proxy_optimum)

# %% [markdown]
# **5. When to stop optimizing.** Return the slope $d\, \mathbb{E}_p[r]/d\beta$ at the same law for each prompt: shape `(P,)`, nats. (Where
# it is positive, a smaller $\beta$, more optimization, does harm. Only one step of section 2.3 changes.)


# %%
def hacking_slope(log_p_ref, proxy, r, beta):
    return ...


check("hacking-slope", hacking_slope)

# %% [markdown]
# ## Further reading
#
# - Kearns, Mansour and Ng (2002), *A sparse sampling algorithm for near-optimal planning in large Markov decision processes*: planning
#   by trying need not get dearer with the number of states, but it does, exponentially, with the horizon.
# - Ross and Bagnell (2010), *Efficient reductions for imitation learning*: errors of imitation can grow with the square of the horizon,
#   section 2.2's example.
# - Ross, Gordon and Bagnell (2011), *A reduction of imitation learning and structured prediction to no-regret online learning*: DAgger
#   asks the expert about the learner's own states and brings the growth back to the first power.
# - Amodei et al. (2016), *Concrete problems in AI safety*: names reward hacking as one of five ways in which a system that does what it
#   was told goes wrong.
# - Christiano et al. (2017), *Deep reinforcement learning from human preferences*: a reward learned from comparisons of pairs can stand
#   in for one written by hand, with feedback on less than one percent of what the agent does.
# - Gao, Schulman and Hilton (2023), *Scaling laws for reward model overoptimization*: section 2.3's rise and fall, measured with
#   language models, against the square root of the KL.
