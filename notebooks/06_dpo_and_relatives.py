# %% [markdown]
# # 6. DPO and its relatives
#
# **The question.** Lessons 3 and 4 make two steps out of alignment: fit a reward to comparisons, then find the policy that is best for
# it. *Can one go from comparisons to the policy in a single step, without a reward model and without sampling? And what is given up on
# the way?*
#
# One can: that is *direct preference optimization*, DPO. What is given up is harder to see, and most of this lesson is about it.

# %%
from fractions import Fraction

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show
from tabular_rlhf.games import contest
from tabular_rlhf.losses.analyse import analyse
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.preference_worlds import blind_comparisons, cycle_preferences
from tabular_rlhf.preferences import bradley_terry, population_pairs, sample_pairs, sure

# %% [markdown]
# **First, look.** One comparison, and one loss: DPO's. On the left every answer has a number of its own: the winner rises. On the right the same
# comparison trains a model whose answers share a feature: winner *and* loser fall, and an answer that nobody compared takes everything. DPO only asks
# that the winner *gains on the loser*, because its loss looks at nothing but the difference of the two. (Section 6.7 explains the picture.)

# %%
show("displacement")

# %% [markdown]
# ## 6.1 A policy is a reward
#
# From lesson 4: among all laws over the responses to a prompt $x$, the one that maximizes
# $\mathbb{E}_p[r] - \beta\, \mathrm{KL}(p, p_{ref})$ is the Gibbs law
#
# $$p^*(y) = \frac{p_{ref}(y)\, e^{r(y)/\beta}}{Z(x)}, \qquad Z(x) = \sum_y p_{ref}(y)\, e^{r(y)/\beta} .$$
#
# (The response is called $y$ here, as in the papers on DPO; it was $\tau$ before. And DPO's papers write $\pi(y)$ for $p_\pi(y)$, the
# probability that a policy gives to a whole response; so do we, in this lesson.)
#
# That leads from a reward to its best policy. *Now read it backwards: from a policy to the reward that it is best for.* A world in which
# $\beta = 1$ and $e^{r(y)}$ is a whole number, so that everything is a fraction:

# %%
p_ref = {".": Fraction(1, 3), "a .": Fraction(2, 9), "a a": Fraction(4, 9)}
e_to_r = {".": 1, "a .": 2, "a a": 3}

# %%
Z = sum(p_ref[y] * e_to_r[y] for y in p_ref)
p_star = {y: p_ref[y] * e_to_r[y] / Z for y in p_ref}
{"Z": str(Z), **{f"p*({y})": str(p_star[y]) for y in p_star}}

# %% [markdown]
# Divide by $p_{ref}$: what is left is the reward, up to the factor $1/Z$. Compare two responses: what is left is the reward, and $Z$ is
# gone.

# %%
ratio = {y: p_star[y] / p_ref[y] for y in p_ref}

# %%
{
    "p*/p_ref": [str(ratio[y]) for y in ratio],
    "a a against .": str(ratio["a a"] / ratio["."]),
    "e^r there": e_to_r["a a"],
}

# %% [markdown]
# The same in logarithms, which is how it is used. $\pi^*$ is the policy that says $p^*$, token by token.
#
# **The derivation.**

# %%
derive("reward-inversion")

# %% [markdown]
# So every policy $\pi$ (that says nothing which the reference cannot say) is the best one for *some* reward, its **implicit reward**
#
# $$\hat r(y) = \beta \log \frac{\pi(y)}{\pi_{ref}(y)} ,$$
#
# and for that reward plus any number $c(x)$ of the prompt.
#
# **The sampled check.** What has been saved? $Z$ is a sum over everything that can be said. It is also a mean,
# $Z = \mathbb{E}_{ref}[e^{r/\beta}]$, so one could draw responses from the reference and average, and go on until the standard
# error is one percent of $Z$. In the world above:

# %%
world = tr.rational()


# %%
def estimate_Z(world, n):
    everything = tr.population(world, world.log_p_ref)
    drawn = tr.sample(world, world.log_p_ref, n, rng=np.random.default_rng(0))
    exact, sampled = [
        tr.estimate(data, np.exp(data[world.r] / world.beta)) for data in (everything, drawn)
    ]
    return {
        "Z": round(exact.mean, 4),
        "sampled": round(sampled.mean, 4),
        "z": round(sampled.z(exact), 2),
        "draws for 1 %": round(exact.variance / (0.01 * exact.mean) ** 2),
    }


estimate_Z(world, 10_000)

# %% [markdown]
# And in one where reward grows with length, sixteen tokens at most, as answers to *one* prompt:

# %%
estimate_Z(tr.long_tail(), 10_000)

# %% [markdown]
# More than a million draws for one prompt, and this is a toy. DPO needs none.
#
# ## 6.2 The loss
#
# From lesson 3: people prefer $i$ to $j$ with probability $P(i \succ j) = \sigma(r_i - r_j)$; the loss of a proposed reward is the mean of
# $-\log \sigma(\hat r_w - \hat r_l)$ over comparisons with winner $w$ and loser $l$. DPO's idea is one substitution: *let the proposed
# reward be the implicit reward of the policy.* Then fitting the reward **is** training the policy.
#
# **The derivation.** ($c(x)$ stands for $\beta \log Z(x)$. In line 6, $a_h^w$ and $s_h^w$ are the tokens and states of the winner.)

# %%
derive("dpo-loss")

# %% [markdown]
# The last two lines are the small print. $Z(x)$ cancels because winner and loser answer the *same* prompt.
#
# **A near miss.** "The log-ratio *is* the reward. So a good answer to an easy question can be compared with a bad answer to a hard one."
#
# As the reward, take $\beta \log (p^*/p_{ref})$ and nothing else (the *support* is all that the reference can say):

# %%
check(
    "reward-inversion",
    lambda beta, log_p_star, log_p_ref: beta * (log_p_star - log_p_ref),
    part="r on the support",
)

# %% [markdown]
# One possible answer is enough: nothing can be tilted there, so every policy has the log-ratio 0, whatever the reward.
#
# **Exact numbers.** With $\beta = 1$ a policy predicts $\sigma(\hat r_i - \hat r_j) = u_i/(u_i + u_j)$, where $u = \pi/\pi_{ref}$. People,
# and what three policies predict: the reference, the optimum, and one that says everything equally often.


# %%
def predicts(pi):
    u = {y: pi[y] / p_ref[y] for y in pi}
    return [str(u[i] / (u[i] + u[j])) for i, j in (("a a", "a ."), ("a a", "."), ("a .", "."))]


people = [
    str(Fraction(e_to_r[i], e_to_r[i] + e_to_r[j]))
    for i, j in (("a a", "a ."), ("a a", "."), ("a .", "."))
]
uniform = dict.fromkeys(p_ref, Fraction(1, 3))
{
    "people": people,
    "reference": predicts(p_ref),
    "optimum": predicts(p_star),
    "uniform": predicts(uniform),
}

# %% [markdown]
# The reference predicts nothing (its implicit reward is 0), the optimum predicts the people. Their losses, over all pairs that the
# reference makes, each with its probability as its weight:

# %%
pairs = population_pairs(world, bradley_terry(world.r))
log_p_star = tr.solve(world).log_p


# %%
def dpo_loss(log_p, pairs=pairs, world=world):
    r_hat = world.beta * (log_p - world.log_p_ref)
    return -np.sum(pairs.weight * tr.log_sigmoid(pairs.margin(r_hat)))


{
    "reference": round(float(dpo_loss(world.log_p_ref)), 6),
    "log 2": round(float(np.log(2)), 6),
    "optimum": round(float(dpo_loss(log_p_star)), 6),
}

# %% [markdown]
# Nobody has all pairs. With 5,000 comparisons, drawn and judged:

# %%
drawn = sample_pairs(world, bradley_terry(world.r), 5_000, rng=np.random.default_rng(0))
exact, sampled = [
    tr.estimate(data, -tr.log_sigmoid(data.margin(log_p_star - world.log_p_ref)))
    for data in (pairs, drawn)
]
{
    "exact": round(exact.mean, 4),
    "sampled": round(sampled.mean, 4),
    "z": round(sampled.z(exact), 2),
}

# %% [markdown]
# ## 6.3 The gradient, factor by factor
#
# Write $m = \hat r_w - \hat r_l$ for the **margin**, and $\nabla$ for the gradient in the policy's logits: the policy is a softmax
# in every state, $\pi(a \mid s) \propto e^{\theta(s, a)}$. The gradient $\nabla \log \pi(y)$ of a response has a name, the
# **score** of $y$. ($e_a$ is the list that is 1 at token $a$ and 0 at all others, also called *one-hot*.)

# %%
derive("dpo-gradient")

# %% [markdown]
# Read line 6 from left to right: *a pair pulls in proportion to $\beta$, more if the policy still has it the wrong way round, and it pulls
# its winner up and its loser down.* The middle factor by margin, for $m = -4, -2, 0, 2, 4$:

# %%
(1 / (1 + np.exp([-4.0, -2.0, 0.0, 2.0, 4.0]))).round(4).tolist()

# %% [markdown]
# **A near miss.** "The weight is $\sigma(\hat r_w - \hat r_l)$: learn most from what one is sure of." It happens, when signs are
# simplified by hand. Compute it as the next cell says: freeze the weight, differentiate the margin. (A *frozen* number is one that is not
# differentiated; `mdp.path_sum` is from lesson 1, `tr.grad` differentiates a function.)


# %%
def the_sure_pairs_pull(world, beta, logits, log_p_ref):
    pairs = population_pairs(world, bradley_terry(world.r))

    def margin(theta):
        return pairs.margin(beta * (world.mdp.path_sum(tr.log_softmax(theta)) - log_p_ref))

    frozen = np.exp(tr.log_sigmoid(margin(logits)))
    return tr.grad(lambda theta: -np.sum(pairs.weight * frozen * margin(theta)))(logits)


check("dpo-gradient", the_sure_pairs_pull)

# %% [markdown]
# ## 6.4 With all comparisons, it is the optimum
#
# In the next derivation the *cross entropy* of two coins (the mean surprise at the one for who predicts the other) is taken apart
# as in lesson 3: $\mathcal{H}(P)$ is the entropy of a label, which no policy can change, and the rest is a KL, which a policy can
# bring to zero. ("≃": equal up to something that does not depend on $\pi$.)

# %%
derive("dpo-population-optimum")

# %% [markdown]
# Newton's method on DPO's loss, started from the reference, and read as fractions (responses in the library's order):

# %%
found = minimize("dpo", world, pairs)
{
    world.mdp.text(y): str(Fraction(float(p)).limit_denominator(100))
    for y, p in enumerate(np.exp(found.log_p[0]))
}

# %% [markdown]
# That is $p^*$, with no reward, no $Z$ and no sampling. Now the small print: *all* comparisons, people *of Bradley and Terry*, and a policy
# that can say *any* distribution. Take these away one by one.
#
# ## 6.5 What finite data do not say
#
# Three answers. In the data only "poor" and "plain" are ever compared; "great", the best, is never shown.

# %%
blind = tr.blind_spot()
seen = population_pairs(blind, bradley_terry(blind.r), blind_comparisons())


# %%
def of_each(world, table):
    return {world.mdp.text(y): round(float(table[0, y]), 4) for y in range(world.mdp.N)}


{
    "p_ref": of_each(blind, np.exp(blind.log_p_ref)),
    "e^r": of_each(blind, np.exp(blind.r)),
    "p*": of_each(blind, tr.solve(blind).p),
}

# %% [markdown]
# **Predict.** Only "poor" and "plain" are ever compared. What will DPO do with "great", the best answer, which nobody was shown?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Anything: its loss does not change with $\pi$(great), *because* no pair contains it. Where training stops depends on where it started.
#
# </details>
#
# DPO's loss mentions $\log \pi$(poor) $- \log \pi$(plain), and nothing else. So it has a whole line of minimizers. Start Newton's method
# from three places:

# %%
starts = {
    "from p_ref": blind.log_p_ref,
    "low": np.log([[0.6, 0.3, 0.1]]),
    "high": np.log([[0.2, 0.1, 0.7]]),
}
ends = {name: minimize("dpo", blind, seen, start=log_p) for name, log_p in starts.items()}

# %%
{
    name: [of_each(blind, np.exp(end.log_p)), end.words, round(end.value, 6)]
    for name, end in ends.items()
}

# %% [markdown]
# One and the same loss; different policies. What do they give away? The **regret** of lesson 4, $\beta\, \mathrm{KL}(\pi, p^*)$:

# %%
{name: round(float(tr.regret(end.log_p, blind)), 4) for name, end in ends.items()}

# %% [markdown]
# In general, draw a line between any two responses that were compared. The responses fall into **components**, islands that are joined
# by no line. Within a component DPO finds the maximum-likelihood reward of lesson 3; between components the data are silent, and a policy
# has *components less one* directions in which nothing holds it.
#
# **A near miss.** "A convex loss has one minimizer."

# %%
check("dpo-is-bt-mle", lambda: 0.0, part="dimension of the minimizer set")

# %% [markdown]
# **Where does descent go, then?** Let the policy be a softmax of logits, $\log \pi(y) = \theta_y - \log \sum_{y'} e^{\theta_{y'}}$.
# In the derivation $g_y$ is the slope of the loss in $\log \pi(y)$, $\omega_{wl}$ the weight of a pair in the data, and $t$ the time of
# gradient descent in small steps.

# %%
derive("logit-conservation")

# %% [markdown]
# The logits of a component keep their sum, and a response that was never compared keeps its logit. So from $p_{ref} = (1/2, 1/4, 1/4)$ the
# number $\pi(\text{poor})\, \pi(\text{plain}) / \pi(\text{great})^2$ stays what it is, namely 2. At the minimum $\pi$(poor) = $\pi$(plain),
# hence each is $\sqrt2\, \pi$(great), and

# %%
round(1 / (1 + 2 * 2**0.5), 4)

# %% [markdown]
# is $\pi$(great): what "from p_ref" found above. The answer that would beat "poor" twelve times in thirteen gains one percent of
# probability, by accident. DPO does not know that it does not know.
#
# ## 6.6 When the answer is certain
#
# Now compare everything, but let people be sure: the better answer *always* wins. Let $\kappa$ (kappa) say how decided people are,
# $P(i \succ j) = \sigma(\kappa\, (r_i - r_j))$, and let it grow. (The mark "→": the line before tends to this one. $\mathbb{1}$ is 1 where
# its condition holds and 0 elsewhere; $\mathcal{L}$ is a loss.)

# %%
derive("dpo-deterministic-labels")

# %% [markdown]
# Bradley and Terry can explain certainty only by an infinite reward, and against an infinite reward no $\beta$ holds. *In a finite data set
# every pair that was asked once has a certain label.*
#
# **IPO** asks for less: not for a likelihood, but that each pair's gain in log-ratio, $h_w - h_l$ with $h = \log(\pi/\pi_{ref})$,
# be **equal to** $1/(2\tau)$. (Its papers write $\tau$ for $\beta$; $M_{ij}$ is the probability that $i$ beats $j$, and
# $P(i \succ \pi_{ref})$ that $i$ beats a response drawn from the reference; "two arms" are two responses.)

# %%
derive("ipo-two-arms")

# %% [markdown]
# Two answers, "wrong" and "right", equally likely at first; "right" always wins. How far from the reference does each loss take us, for
# $\beta = \tau$ from 0.1 to 10?


# %%
def distance(name, beta):
    world = tr.sure_thing(beta)
    found = minimize(name, world, population_pairs(world, sure(world.r)))
    return round(float(tr.kl(found.log_p, world.log_p_ref)[0]), 4)


{beta: {name: distance(name, beta) for name in ("dpo", "ipo")} for beta in (0.1, 1.0, 10.0)}

# %% [markdown]
# DPO always goes the whole way, $\log 2$ nats, to the policy that says nothing but "right". IPO stops at $\sigma(1/(2\tau))$.
#
# But nothing is free. Where people *are* Bradley and Terry's, IPO's minimizer is a tilt by win rates, not by rewards, and so it is not
# $p^*$:

# %%
of_each(world, np.exp(minimize("ipo", world, pairs).log_p)), of_each(world, tr.solve(world).p)

# %% [markdown]
# ## 6.7 The winner may lose
#
# **Predict.** A winner was preferred to a loser, with certainty. After one step of DPO, does the winner's probability rise? Always, or
# are there models where it falls?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# There are: it falls where winner and loser share features with something else. The loss only asks for a larger *difference*, *because*
# it is a function of the margin alone, and mass may leave both (the picture at the top).
#
# </details>
#
# DPO's gradient pulls the winner up. Does $\pi(y_w)$ rise? If every token in every state has a logit of its own (a *tabular*
# policy), yes. A network has not: responses share parameters. The simplest case of sharing is a **log-linear** policy,
# $\pi(y) \propto \pi_{ref}(y)\, e^{\langle \theta, \phi_y \rangle}$, in which $\phi_y$ (phi) is a list of numbers that describe
# $y$, its *features*, and $\langle \cdot, \cdot \rangle$ is the inner product. ($\dot\theta$ is the speed of descent.)

# %%
derive("likelihood-displacement")

# %% [markdown]
# Line 10 by hand. One feature; winner, loser, and a response in no pair; the reference says each equally often, and $\beta = 1$:

# %%
phi = [Fraction(1), Fraction(1, 2), Fraction(3)]
mean = sum(phi) / 3
{
    name: str(Fraction(1, 2) * (f - mean) * (phi[0] - phi[1]))
    for name, f in zip(("winner", "loser", "never compared"), phi, strict=True)
}

# %% [markdown]
# These are the rates of $\log \pi(y)$ at the start ($\sigma(0) = 1/2$). *The winner falls.* The loser falls faster, which is all that the
# loss asks for; what both lose goes to a response that nobody has ever seen, because it has more of what told the winner from the loser.
# The same, followed to the end:


# %%
def descend(features, steps=60, eta=0.25):
    def loss(theta):
        log_p = tr.log_softmax(np.matmul(features, theta))
        return -tr.log_sigmoid(log_p[0] - log_p[1])

    theta = np.zeros(features.shape[1])
    for _ in range(steps):
        theta = theta - eta * tr.grad(loss)(theta)
    return np.exp(tr.log_softmax(features @ theta)).round(4).tolist()


{"a logit each": descend(np.eye(3)), "one feature": descend(np.array([[1.0], [0.5], [3.0]]))}

# %% [markdown]
# (The picture at the top of this lesson shows the two, followed for longer.)
#
# ## 6.8 What may cancel, and what may not
#
# Write $a = \log(\pi/\pi_{ref})(y_w)$, $b = \log(\pi/\pi_{ref})(y_l)$, and $D = a - b$. Everything in sections 6.1 and 6.2 rests on the
# loss being a function of $D$: add the same number $c$ to $a$ and $b$, and nothing changes. That is how $\log Z(x)$ went away. Some
# losses divide by the number of tokens first, $a/|w| - b/|l|$, so as not to favor long answers.
#
# **A near miss.** "The mean over tokens is only a change of scale."


# %%
def averaged_dpo(world, log_p, log_p_ref, lengths, beta):
    pairs = population_pairs(world, bradley_terry(world.r))
    return np.sum(
        pairs.weight * -tr.log_sigmoid(beta * pairs.margin((log_p - log_p_ref) / lengths))
    )


check("dpo-loss", averaged_dpo, part="loss")

# %% [markdown]
# It has another optimum, too: not $\log(p/p_{ref}) = r/\beta - \log Z$, but $|y|\,(r/\beta + c)$ with one number $c$ for all responses. A
# world made for it, in which the shortest answer is the best and a long one nearly as good:

# %%
trap = tr.length_trap()
all_pairs = population_pairs(trap, bradley_terry(trap.r))


# %%
def gains(name):
    log_p = minimize(name, trap, all_pairs).log_p
    return of_each(trap, np.exp(log_p - trap.log_p_ref))


{
    "e^r": of_each(trap, np.exp(trap.r)),
    "dpo": gains("dpo"),
    "dpo-averaged": gains("dpo-averaged"),
}

# %% [markdown]
# DPO multiplies each answer's probability by $e^r$ (up to $Z$, which is 8). The averaged loss multiplies the best answer by 1.375 and the
# long one, which loses to it, by 1.9531.
#
# ## 6.9 The family
#
# Since DPO dozens of losses have been proposed. Most are a function of the same few numbers: $D$, $a$, $b$; the log-probabilities
# $p = \log \pi(y_w)$ and $q = \log \pi(y_l)$ themselves; the lengths; $\varepsilon$, how many labels one believes to be flipped; and
# $\gamma$, a target.
#
# | loss | of one pair | idea |
# |---|---|---|
# | dpo | $-\log \sigma(\beta D)$ | likelihood |
# | cdpo | $-(1 - \varepsilon) \log \sigma(\beta D) - \varepsilon \log \sigma(-\beta D)$ | labels may be wrong: stop at a margin |
# | ipo | $(D - \frac{1}{2 \tau})^2$ | a margin, not a likelihood |
# | slic-reference | $\max(0, 1 - \beta D)$ | enough is enough |
# | dpo-positive | $-\log \sigma(\beta (D - \lambda \max(0, -a)))$ | a price, $\lambda$, on lowering the winner |
# | simpo | $-\log \sigma(\beta (p/\lvert w \rvert - q/\lvert l \rvert) - \gamma)$ | no reference, averages over tokens |
# | cpo | $-\log \sigma(\beta (p - q)) - \lambda p$ | no reference, but imitate the winner |
#
# For each of them the library computes on a given world: where its loss is least, how far that is from $p^*$ (in nats), and what certain
# labels do to it.


# %%
def facts(name):
    report = analyse(name, world)
    return {
        "optimum": report.optimum.words,
        "KL to p*": round(report.kl_to_gibbs, 4),
        "certain labels": report.certain.words,
    }


{
    name: facts(name)
    for name in ("dpo", "cdpo", "ipo", "slic-reference", "dpo-positive", "simpo", "cpo")
}

# %% [markdown]
# Of these seven only DPO has $p^*$ as its optimum, here and in every world. That is not a verdict: $p^*$ is the right answer to
# *one* question, and with few and certain labels the question changes. (`tabular-rlhf losses` prints the table for 32 losses, with
# ten traits of each; `tabular-rlhf losses simpo` says all that is known of one.) The loss of a pair, its slope, and the margin at
# which it comes to rest (EXO and DiscoPOP are two more of the 32):

# %%
show("loss-zoo")

# %% [markdown]
# ## 6.10 When no reward explains people
#
# Rock, paper, scissors, with unequal odds: $M_{ij}$ is how often $i$ beats $j$.

# %%
names = ("rock", "paper", "scissors")
M = cycle_preferences()

# %%
{i: dict(zip(names, row, strict=True)) for i, row in zip(names, M[0].tolist(), strict=True)}

# %% [markdown]
# Paper beats rock, scissors beat paper, rock beats scissors. No rewards $r_i$ have $\sigma(r_i - r_j)$ on the right side of 1/2 three
# times: they would have to satisfy $r_1 < r_2 < r_3 < r_1$. Bradley and Terry find the best compromise all the same, and crown scissors,
# whose mean win rate is highest; and rock beats scissors six times in ten.
#
# The alternative is a **game**. I choose a law $p$ over answers, you choose $q$, and I win with probability
# $P(p \succ q) = \sum_{i,j} p_i\, q_j\, M_{ij}$. Which $p$ cannot be beaten? (In the derivation $p^\tau$ is the answer, the
# *equilibrium*, when both of us also pay $\tau$ times the KL to the reference, and $p_q$ is the best reply to $q$ then. The machine
# plays with people of its own, drawn at random.)

# %%
derive("preference-game", tr.cycle())

# %% [markdown]
# Without the KL, each response is played as often as the *other two* are unequal. The edges over 1/2 are $2/10$ for paper over rock, $3/10$
# for scissors over paper, $1/10$ for rock over scissors:

# %%
edges = {"rock": Fraction(3, 10), "paper": Fraction(1, 10), "scissors": Fraction(2, 10)}
winner = {name: edge / sum(edges.values()) for name, edge in edges.items()}
{name: str(p) for name, p in winner.items()}

# %% [markdown]
# This law beats rock, paper and scissors each exactly half of the time:

# %%
[
    str(sum(winner[i] * Fraction(str(M[0, a, b])) for a, i in enumerate(names)))
    for b in range(3)
]

# %% [markdown]
# **Exact numbers** for a strong optimizer, $\beta = \tau = 0.1$: how much more than half does the best reply win, against the Gibbs law of
# Bradley and Terry's reward, against the equilibrium with a KL, and against the unbeatable law? (This is called *exploitability*.)

# %%
found = contest(tr.cycle(beta=0.1), M)
{name: round(float(gap[0]), 4) for name, gap in found.exploitability.items()}

# %% [markdown]
# **A near miss.** "The response with the highest mean win rate is safe."


# %%
def the_best_on_average(M):
    best = np.argmax(np.mean(M, axis=2), axis=1)
    return np.min(M[np.arange(len(M)), best], axis=1)


check("preference-game", the_best_on_average, part="guaranteed win rate")

# %% [markdown]
# ## 6.11 Explore
#
# The blind spot of section 6.5, as a triangle: a point is a law over the three answers. *Try this.* DPO's minimizers are the points with as
# much "poor" as "plain": a straight line from the corner "great" to the middle of the opposite side. Walk along it and read the
# regret (for p('poor') = 0.2, 'plain' must be a quarter of the rest, for 1/3 a half, for 0.5 all). Where on the line is it zero, and how
# large is it at the two ends?

# %%
explore.simplex(blind)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# Zero at $p^*$, where "great" has 3/4. At the corner "great" the regret is $\log(4/3)$ nats, at the other end $\log 4$: nowhere
# infinite, but DPO's loss is the same all along.
#
# </details>
#
# And the gradient once more, one line at a time:

# %%
explore.derivation("dpo-gradient")

# %% [markdown]
# ## 6.12 Exercises
#
# Replace `...` and run the cell again.
#
# **1. The reward hidden in a policy.** Return a reward for which the policy `log_p` is the best one, given `log_p_ref` and `beta`: shape
# `(P, N)`, reward units. A constant for each prompt is free.


# %%
def policy_reward(beta, log_p, log_p_ref):
    return ...


check("policy-reward", policy_reward)

# %% [markdown]
# **2. DPO's loss on data.** Of $n$ comparisons you are given the log-probabilities of the winners and of the losers, under the policy
# (`log_p_w`, `log_p_l`) and under the reference (`log_p_ref_w`, `log_p_ref_l`), each of shape `(n,)`. Return DPO's loss, a mean, in nats.


# %%
def dpo_data_loss(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l):
    return ...


check("dpo-data-loss", dpo_data_loss)

# %% [markdown]
# **3. How hard DPO pulls.** The implicit rewards of winners and losers are `rhat_w` and `rhat_l`. Return the slopes of DPO's loss, a mean
# over $n$ comparisons, in each $\log \pi(y_w)$ (first row) and in each $\log \pi(y_l)$ (second row): shape `(2, n)`.


# %%
def dpo_slopes(beta, rhat_w, rhat_l):
    return ...


check("dpo-slopes", dpo_slopes)

# %% [markdown]
# **4. A target instead of a slope.** Return IPO's loss on the data of exercise 2, the mean of $(D - \frac{1}{2\beta})^2$: a scalar.
# ($\tau$ is called `beta` here.)


# %%
def ipo_loss(beta, log_p_w, log_p_l, log_p_ref_w, log_p_ref_l):
    return ...


check("ipo-loss", ipo_loss)

# %% [markdown]
# **5. What the data do not say.** `compared[k]` holds the prompt, the winner and the loser of comparison $k$, as numbers; shape `(n, 3)`.
# There are `P` prompts with `N` responses each. In how many independent directions can a policy move while no difference $D$ of a
# comparison changes? Return the number, summed over prompts. (A response may have been compared with itself: that tells nothing.)


# %%
def undetermined(compared, P, N):
    return ...


check("undetermined", undetermined)

# %% [markdown]
# ## Further reading
#
# - Rafailov, Sharma, Mitchell, Ermon, Manning and Finn (2023), *Direct preference optimization: your language model is secretly a reward
#   model*, arXiv:2305.18290: sections 6.1 to 6.4. The gradient and its weight are in section 4 there.
# - Azar et al. (2023), *A general theoretical paradigm to understand learning from human preferences*, arXiv:2310.12036: certain labels
#   undo the KL term of DPO, and IPO is the remedy (section 6.6).
# - Razin et al. (2024), *Unintentional unalignment: likelihood displacement in direct preference optimization*, arXiv:2410.08847: section
#   6.7 in real models, where the mass can go to the opposite of what was preferred.
# - Pal et al. (2024), *Smaug: fixing failure modes of preference optimisation with DPO-positive*, arXiv:2402.13228: the winner falls most
#   easily where the two responses differ in a few tokens; the remedy is "dpo-positive".
# - Meng, Xia and Chen (2024), *SimPO: simple preference optimization with a reference-free reward*, arXiv:2405.14734: averages over
#   tokens, no reference, and a target margin.
# - Tang et al. (2024), *Generalized preference optimization*, arXiv:2402.05749: any convex function of $\beta D$ makes a loss;
#   DPO, IPO and SLiC are three of them.
# - Xu et al. (2024), *Is DPO superior to PPO for LLM alignment? A comprehensive study*, arXiv:2404.10719: DPO's minimizers include policies
#   that like what the data never show, as in section 6.5.
# - Munos et al. (2023), *Nash learning from human feedback*, arXiv:2312.00886, and Swamy et al. (2024), *A minimaximalist approach to
#   reinforcement learning from human feedback*, arXiv:2401.04056: section 6.10, with language models.
