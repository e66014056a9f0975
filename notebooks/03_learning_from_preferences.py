# %% [markdown]
# # 3. Learning from preferences
#
# **The question.** Nobody can say how many points a good answer is worth, but anybody can say which of two answers is better. *When
# can rewards be recovered from such comparisons, how exactly, and what is recovered where people contradict each other, or
# themselves?*
#
# Lesson 2 ended with a promise: that the reward of least surprise is the people's own. Here it is proved, measured, and bounded.

# %%
import math
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.preference_worlds import cycle_preferences
from tabular_rlhf.preferences import bradley_terry, population_pairs, sample_pairs
from tabular_rlhf.preferences.comparisons import Wins, structure, wins_of
from tabular_rlhf.preferences.likelihood import fit

# %% [markdown]
# **First, try.** Be the people. Three sliders say how often each answer wins against each other one, out of twenty; the rewards are what explains
# that best. (a) Let the bat never win: what becomes of its reward, and why? (b) Make a cycle: the heron beats the owl, the owl the bat, and the
# bat the heron, each 15 times in 20. What are the rewards now?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# (a) There is none: minus infinity, *because* every step down makes what was seen likelier (section 3.5). (b) All three are 0, *because* each
# answer wins and loses equally often, and the fit sees nothing else; what people said clearly, the rewards cannot say at all (section 3.7).
#
# </details>

# %%
explore.compare(("heron", "owl", "bat"))

# %% [markdown]
# ## 3.1 Strengths, and who beats whom
#
# A prompt $x$, "Name a bird.", and three answers. Suppose that each answer $i$ has a **strength**, and that in a comparison an answer
# wins in proportion to its strength (Zermelo 1929, Bradley and Terry 1952):

# %%
birds = ("heron", "owl", "bat")
strength = dict(zip(birds, [6, 3, 1], strict=True))


# %%
def beats(i, j):
    return Fraction(strength[i], strength[i] + strength[j])


{f"{i} beats {j}": str(beats(i, j)) for i, j in combinations(birds, 2)}

# %% [markdown]
# Rewards live on a scale where one adds, strengths on one where one multiplies. So let the **reward** $r_i$ be the logarithm of the
# strength. Divide above and below by $e^{r_i}$:
#
# $$P_{ij} = P(i \succ j) = \frac{e^{r_i}}{e^{r_i} + e^{r_j}} = \frac{1}{1 + e^{-(r_i - r_j)}} = \sigma(r_i - r_j), \qquad
# \sigma(u) = \frac{1}{1 + e^{-u}} .$$
#
# This is the **Bradley-Terry law**. Rewards are in nats here: an answer that is ahead by $\log 2$ nats wins two times in three. As a table:

# %%
r = np.log([[6.0, 3.0, 1.0]])
bradley_terry(r).table()[0].round(4).tolist()

# %% [markdown]
# (Rows win, columns lose. An answer that meets itself wins half of the time.)
#
# Two things can be read off. *Adding a number $c(x)$ to all rewards of a prompt changes nothing*: only differences count, and rewards of
# different prompts cannot be compared. *Multiplying them changes everything*: if all rewards are doubled, strengths are squared, and
# the heron beats the owl with probability

# %%
str(Fraction(6**2, 6**2 + 3**2))

# %% [markdown]
# instead of 2/3. So comparisons know the unit of rewards, though not their zero.
#
# ## 3.2 Maximum likelihood
#
# A world again: the prompt, the answers, a model that writes them, $p_{ref} = (1/2, 1/4, 1/4)$. The rewards are the people's, and
# unknown to us.

# %%
mdp = tr.TokenMDP(birds, horizon=1, prompts=["Name a bird."])
world = tr.World(mdp, np.log([[[1 / 2, 1 / 4, 1 / 4]]]), r, beta=1.0, name="birds")

# %% [markdown]
# A comparison is made in three steps: draw a prompt (from $\mu$, the distribution of prompts of lesson 1), draw two answers from
# $p_{ref}$, and ask. The winner is called $w$, the loser $l$; which of the two is which is the **label** of the comparison.
#
# Someone proposes other rewards $\hat r$ ("r hat"; also called *scores*, to tell them from the true ones). The **margin** of a
# comparison is $D = \hat r_w - \hat r_l$; the proposal gave the outcome probability $\sigma(D)$. The proposals under which the
# outcomes seen are likeliest are those with the smallest **loss**
#
# $$\mathrm{NLL}(\hat r) = \text{mean of } -\log \sigma(\hat r_w - \hat r_l) ,$$
#
# the negative log-likelihood. (It is the surprise of lesson 2.) Minimizing it is called *maximum likelihood estimation*, MLE, and it is
# how a reward model is trained. Say that someone likes herons and cannot tell owls from bats:

# %%
r_hat = np.array([[1.0, 0.0, 0.0]])

# %% [markdown]
# **The sampled check.** First every comparison there can be, each with its probability as weight. `margin` takes the differences.

# %%
law = bradley_terry(world.r)
everything = population_pairs(world, law)
exact = tr.estimate(everything, -tr.log_sigmoid(everything.margin(r_hat)))

# %% [markdown]
# Then 10,000 comparisons: draw an answer, draw another, and ask. The first wins with probability $P_{ij}$.

# %%
rng = np.random.default_rng(0)
first, second = [tr.sample(world, world.log_p_ref, 10_000, rng=rng) for _ in range(2)]
first_wins = rng.random(10_000) < law.table()[0, first.tau, second.tau]

# %%
margins = np.where(first_wins, 1, -1) * (first[r_hat] - second[r_hat])
sampled = tr.estimate(first, -tr.log_sigmoid(margins))
{
    "exact": round(exact.mean, 4),
    "sampled": round(sampled.mean, 4),
    "z": round(sampled.z(exact), 2),
}

# %% [markdown]
# What does endless data make of the loss? In the lines below $\hat P_{ij} = \sigma(\hat r_i - \hat r_j)$ is what the proposal predicts,
# $\mathbb{E}_{i,j}$ is the mean over the pairs drawn, and
#
# $$\mathrm{KL}(P, \hat P) = P \log \frac{P}{\hat P} + (1 - P) \log \frac{1 - P}{1 - \hat P}, \qquad
# \mathcal{H}(P) = -P \log P - (1 - P) \log (1 - P)$$
#
# are the divergence of lesson 2 for two outcomes, and the **entropy**, the surprise that remains if one knows $P$. The mark "≃" says that
# two lines differ by a constant, something in which $\hat r$ does not occur. (The machine proposes an $\hat r$ of its own.)
#
# **The derivation.** Mean over the answer first, then add and take away the entropy.

# %%
derive("mle-is-forward-kl", world)

# %% [markdown]
# So MLE looks for the law $\hat P$ that is nearest to the people's $P$, with the people *first* in the KL. That is called a **forward**
# KL, or a projection onto the Bradley-Terry laws.
#
# **A near miss.** "Nearest is nearest: one may as well measure from the model to the people." The parameters are supplied by the checker:
# `gaps` is $r_i - r_j$, `score_gaps` is $\hat r_i - \hat r_j$, both for all pairs.


# %%
def reverse(gaps, score_gaps, p_ref, mu):
    P, P_hat = 1 / (1 + np.exp(-gaps)), 1 / (1 + np.exp(-score_gaps))
    divergence = P_hat * np.log(P_hat / P) + (1 - P_hat) * np.log((1 - P_hat) / (1 - P))
    entropy = -P * np.log(P) - (1 - P) * np.log(1 - P)
    return np.sum(
        mu[:, None, None] * p_ref[:, :, None] * p_ref[:, None, :] * (divergence + entropy)
    )


check("mle-is-forward-kl", reverse, part="nats")

# %% [markdown]
# ## 3.3 The score equations
#
# Now finite data. Let $w_{ij}$ be how often $i$ beat $j$, and $n_{ij} = w_{ij} + w_{ji}$ how often they met. Sixty, seventy, and sixty
# comparisons:

# %%
wins = Wins(np.array([[0.0, 40, 60], [20, 0, 45], [10, 15, 0]]), birds)

# %% [markdown]
# Where is the loss flat? Differentiate it, here as a sum, $\mathrm{NLL} = -\sum_{i,j} w_{ij} \log \sigma(\hat r_i - \hat r_j)$,
# once for the slope (statisticians call that, too, a *score*: hence the title) and once more for the curvature. ($\sigma'$ is
# the derivative of $\sigma$, $1[\ldots]$ is 1 if the bracket is true and 0 otherwise, $v$ is any direction. The machine runs it
# on counts of its own. Its *gradient core* is `tr.grad` of lesson 2, which differentiates programs.)

# %%
derive("bt-score-hessian", world)

# %% [markdown]
# Line 5 is worth remembering: *at the fit, every answer is expected to win as often as it did win.* There is no formula for the $\hat r$
# that achieves it, but Newton's method finds it in a few steps.

# %%
fitted = fit(wins)

# %% [markdown]
# **Exact numbers.** The fitted strengths, those of the bat taken as 1, and the wins observed and expected:

# %%
expected = np.sum(wins.compared / (1 + np.exp(fitted.r[None, :] - fitted.r[:, None])), axis=1)
{
    "strengths": np.exp(fitted.r - fitted.r[2]).round(6).tolist(),
    "wins observed": wins.won.tolist(),
    "wins expected": expected.round(6).tolist(),
}

# %% [markdown]
# Lines 6 to 8 of the derivation are the curvature, a matrix with a row for every answer. It has a name: the **Laplacian** of a graph, in
# which two answers are joined by a spring of stiffness $n_{ij}\, \sigma(D_{ij})\, \sigma(-D_{ij})$. It resists every change of
# differences, and no shift of all. A comparison whose outcome was certain beforehand ($\sigma$ near 0 or 1) makes a weak spring: *one
# learns most from comparisons of equals.*
#
# ## 3.4 How well? Consistency and errors
#
# With $\mathcal{I}$ for the curvature of one comparison, on average (the *Fisher information*), theory says that for many comparisons $n$
# the fit spreads around the truth like a normal law with covariance $\mathcal{I}^{+}/n$, where $^{+}$ is the inverse on everything but the
# common shift. `wins_of` counts the wins of a data set, `relative_to` gives rewards above the bat's, with their standard errors.

# %%
predicted = fit(wins_of(everything, 0, birds, scale=1000)).relative_to(2)[1]


# %%
def one_more_study(n):
    return fit(wins_of(sample_pairs(world, law, n, rng=rng), 0, birds)).relative_to(2)[0]


studies = np.array([one_more_study(1000) for _ in range(300)])

# %% [markdown]
# Three hundred studies of 1,000 comparisons each (`sample_pairs` makes the three steps): the mean of the fits beside the truth, $r_i -
# r_{bat}$; their standard deviation beside the one predicted.

# %%
{
    "truth": np.log([6, 3, 1]).round(3).tolist(),
    "mean fit": np.mean(studies, axis=0).round(3).tolist(),
    "spread predicted": predicted.round(3).tolist(),
    "spread of the fits": np.std(studies, axis=0).round(3).tolist(),
}

# %% [markdown]
# ## 3.5 Does the fit exist?
#
# **Predict.** Suppose that every pair has met, and the bat lost all its comparisons. What reward of the bat makes that likeliest?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# None: minus infinity, *because* every step further down makes what was seen likelier, and nothing pulls back. That each pair has met is
# no help.
#
# </details>
#
# Not always. Here every pair has met, but nobody ever preferred the bat:

# %%
no_bats = Wins(np.array([[0.0, 2, 2], [1, 0, 3], [0, 0, 0]]), birds)
structure(no_bats).reasons()

# %% [markdown]
# Lower the bat's reward: five outcomes get likelier, and the others do not mind. Lower it again, and again. The likelihood has no
# maximum, and a program that reports one has merely stopped. The same happens to any *group* that met others and lost to none.
#
# **Theorem** (Ford 1957). *Draw an arrow from $i$ to $j$ wherever $i$ has beaten $j$. A finite maximum, unique up to a shift, exists if
# and only if one can walk along arrows from every answer to every other.* The proof is section 3.10.
#
# **A near miss.** "It is enough that every pair has been compared."


# %%
def every_pair_has_met(wins_ij):
    met = wins_ij + np.swapaxes(wins_ij, 1, 2) > 0
    return 1.0 * np.all(met | np.eye(wins_ij.shape[1], dtype=bool), axis=(1, 2))


check("bt-existence", every_pair_has_met)

# %% [markdown]
# A way out is a **prior**: to hold, before any comparison, that rewards are near zero, normal with variance $s^2$. It adds
# $\sum_i \hat r_i^2 / (2 s^2)$ to the loss, and there is always a maximum. But now one's own belief says how bad bats are:

# %%
{f"variance {s2}": fit(no_bats, prior=s2).r.round(2).tolist() for s2 in (1.0, 10.0, 100.0)}

# %% [markdown]
# ## 3.6 Saturation
#
# How hard does a comparison with margin $D$ push? By the slope of $\log \sigma(D)$.

# %%
derive("bt-saturation", world)

# %% [markdown]
# The push is the probability of the outcome that was *not* seen. So pairs in the wrong order are pushed with nearly full force, and
# pairs well in order hardly at all:

# %%
{D: round(1 / (1 + math.exp(D)), 6) for D in (-5, -2, 0, 2, 5, 10)}

# %% [markdown]
# Good: training attends to its mistakes. And bad: if people always agree, the margin grows for ever, ever more slowly, and it is the
# patience of the program that decides where it stops. (Lesson 6 will meet this again.)
#
# ## 3.7 People who contradict each other
#
# Nothing forces people to have rewards at all. Paper beats rock 7 times in 10, scissors beat paper 8 times in 10, rock beats
# scissors 6 times in 10. Cycles need no madness: of three groups of people who rank rock > scissors > paper, scissors > paper > rock, and
# paper > rock > scissors, two in three prefer rock to scissors, scissors to paper, and paper to rock (Condorcet 1785).

# %%
rps = ("rock", "paper", "scissors")
M = cycle_preferences()[0]
M.round(2).tolist()

# %% [markdown]
# Maximum likelihood does not complain. Let $M_{ij}$ be how often $i$ beats $j$, and ask about all pairs equally often. Then the score
# equations say: for every $i$, $\sum_{j} \sigma(\hat r_i - \hat r_j) = \sum_{j} M_{ij}$, over the others $j$. Of two answers, the one with
# the larger $\hat r$ has the larger left side. So the fit orders answers by how often they win *on average*: their **Borda score**.

# %%
fiction = fit(Wins(M - np.diag(np.diag(M)), rps))
{
    "Borda scores": fiction.wins.rate.round(6).tolist(),
    "strengths": np.exp(fiction.r - fiction.r[0]).round(6).tolist(),
}

# %% [markdown]
# Scissors come out on top, by $\log (3/2)$ nats. Yet they lose to rock! What the fiction costs is the KL that remains. No rewards have
# less of it; summed over the three pairs it is, in nats,

# %%
round(fiction.deviance / 2, 4)

# %% [markdown]
# **A near miss.** "With as many comparisons as one likes, the fit reproduces how often each answer beats each other one, so
# nothing remains." (`people` holds $M$ for every prompt.)

# %%
check("borda", lambda people: np.zeros(len(people)), part="residual KL")

# %% [markdown]
# Three answers have three win rates, and only two differences of rewards to explain them. What to do with people who have no rewards, is in
# lesson 6.
#
# ## 3.8 Rankings
#
# Instead of pairs, people may rank $K$ answers. The **Plackett-Luce law** gives the first place in proportion to strength, then the
# second place among those that are left, and so on. With $r_{(k)}$ for the reward of the answer in place $k$,
#
# $$P(\text{ranking}) = \prod_{k=1}^{K} \frac{e^{r_{(k)}}}{\sum_{m \ge k} e^{r_{(m)}}} .$$


# %%
def ranked(ranking, strength=strength):
    p = Fraction(1)
    for k, i in enumerate(ranking):
        p = p * Fraction(strength[i], sum(strength[m] for m in ranking[k:]))
    return p


{" > ".join(ranking): str(ranked(ranking)) for ranking in permutations(birds)}

# %% [markdown]
# How often does the heron stand before the owl? Add up:

# %%
str(
    sum(
        ranked(ranking)
        for ranking in permutations(birds)
        if ranking.index("heron") < ranking.index("owl")
    )
)

# %% [markdown]
# The Bradley-Terry probability, whatever the third answer: who else is in the race does not matter. (Luce made this property his axiom.)
# But the direction does. Fill the places from the *worst* up, with strengths inverted: pairs have the same law, rankings have not.

# %%
inverse = {i: Fraction(1, s) for i, s in strength.items()}
{"from the best": str(ranked(birds)), "from the worst": str(ranked(birds[::-1], inverse))}

# %% [markdown]
# ## 3.9 Labels that lie
#
# **Predict.** The heron is six times as strong as the bat. One label in ten is flipped by mistake. Does the fit find six, more, or less?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Less: 11/3, *because* a flipped label of a strong preference looks like a contradiction, and contradictions pull two rewards together.
#
# </details>
#
# People slip. Let every label be flipped with probability $e < 1/2$. What one hears is then "the heron beats the bat" with
# probability $q = (1 - e) P + e (1 - P)$, and a plain fit of the two gives the ratio of their strengths as $q / (1 - q)$. For
# $e = 1/10$:


# %%
def heard(P, e=Fraction(1, 10)):
    return (1 - e) * P + e * (1 - P)


def ratio(q):
    return str(q / (1 - q))


# %%
P = beats("heron", "bat")
{"true": ratio(P), "flipped": ratio(heard(P)), "flipped twice": ratio(heard(heard(P)))}

# %% [markdown]
# Noise makes strong preferences look weaker: 11/3 for 6. A popular treatment is **label smoothing**: with $\ell(D) = -\log \sigma(D)$,
# minimize $(1 - e)\, \ell(D) + e\, \ell(-D)$. Its mean over what one hears is
#
# $$q \big[(1 - e)\, \ell(D) + e\, \ell(-D)\big] + (1 - q) \big[(1 - e)\, \ell(-D) + e\, \ell(D)\big] = q'\, \ell(D) + (1 - q')\, \ell(-D),
# \qquad q' = (1 - e)\, q + e\, (1 - q) .$$
#
# That is the plain loss for labels flipped *twice*.
#
# **A near miss.** "Label smoothing with the true $e$ undoes the noise, so its margins are $r_i - r_j$."

# %%
check("label-noise", lambda gaps: gaps, part="smoothed margins")

# %% [markdown]
# Smoothing keeps margins finite, which may be wanted for the reasons of section 3.6, but it is not the cure. The cure is exercise 5.
#
# ## 3.10 Explore: why no group may go unbeaten
#
# The proof of Ford's theorem, to be read at your own pace. First the bad case: a group $A$ of answers that nobody outside ever beat
# ($1_A$ is 1 for its members and 0 for the others). Then the good one ($\nabla$ is the list of the slopes in all $\hat r_i$). *Try this:*
# step through it with Next, then change the world and see that no line breaks.

# %%
explore.derivation("bt-existence", world)

# %% [markdown]
# ## 3.11 Exercises
#
# Replace `...` and run the cell again. The names of the parameters are supplied for every world that the checker tries, with $P$ prompts
# and $N$ responses.
#
# **1. Who beats whom?** Return the Bradley-Terry probability that response $i$ beats response $j$ to the same prompt, for every pair:
# entry `[x, i, j]` of an array of shape `(P, N, N)`. `r` has the shape `(P, N)`.


# %%
def win_probabilities(r):
    return ...


check("win-probabilities", win_probabilities)

# %% [markdown]
# **2. From a list of comparisons to a table.** `compared` holds $n$ observed comparisons, a row each: the numbers of the prompt, of the
# response that won, and of the one that lost, of shape `(n, 3)`. Return the table of wins: entry `[x, i, j]` is how often $i$ beat $j$
# after prompt $x$, shape `(P, N, N)`. (The same comparison may stand in several rows; a response that met itself counts on the
# diagonal.)


# %%
def count_wins(compared, P, N):
    return ...


check("count-wins", count_wins)

# %% [markdown]
# **3. The loss of a reward model.** In $n$ observed comparisons the winners have rewards `r_w` and the losers `r_l`, both of shape
# `(n,)`. Return the mean negative log-likelihood of these outcomes under Bradley-Terry: a scalar, nats.


# %%
def comparison_loss(r_w, r_l):
    return ...


check("comparison-loss", comparison_loss)

# %% [markdown]
# **4. The slope of the likelihood.** After prompt $x$, responses $i$ and $j$ met `n_ij[x, i, j]` times, and $i$ won `wins_ij[x, i, j]` of
# these. `scores` are the rewards $\hat r$ of a model, of shape `(P, N)`. Return the slope of the negative log-likelihood (the sum, not
# the mean) in each $\hat r_i$: shape `(P, N)`, comparisons.


# %%
def preference_slope(scores, n_ij, wins_ij):
    return ...


check("preference-slope", preference_slope)

# %% [markdown]
# **5. Labels that lie.** Every label was flipped with probability $e$ = `flip`, below one half, so that some of the `r_w` (rewards of
# those labeled winners) and `r_l` (losers), both of shape `(n,)`, have changed places. Find the loss $a\, \ell(D) + b\, \ell(-D)$ of a
# comparison with margin $D = r_w - r_l$ whose mean over the flips is $\ell$ of the true margin. Return its mean over the $n$ comparisons:
# a scalar, nats. (When you are done, `derive("label-noise")` in a cell of your own tells the whole story.)


# %%
def unbiased_loss(r_w, r_l, flip):
    return ...


check("unbiased-loss", unbiased_loss)

# %% [markdown]
# ## Further reading
#
# - Zermelo (1929), *Die Berechnung der Turnier-Ergebnisse als ein Maximumproblem der Wahrscheinlichkeitsrechnung*, and Bradley and
#   Terry (1952), *Rank analysis of incomplete block designs*: strengths from tournaments by maximum likelihood, found twice.
# - Ford (1957), *Solution of a ranking problem from binary comparisons*: when the maximum exists, and an iteration that finds it.
# - Luce (1959), *Individual choice behavior*, and Plackett (1975), *The analysis of permutations*: choice in proportion to strength, and
#   rankings made of such choices.
# - Hunter (2004), *MM algorithms for generalized Bradley-Terry models*: fits of ties, home advantages and rankings, by one idea.
# - Natarajan, Dhillon, Ravikumar and Tewari (2013), *Learning with noisy labels*: the loss of exercise 5, for any loss; Chowdhury, Kini and
#   Natarajan (2024), *Provably robust DPO*, arXiv:2403.00409, take it to language models.
# - Stiennon et al. (2020), *Learning to summarize from human feedback*, arXiv:2009.01325: a reward model trained on comparisons of
#   summaries predicts what people prefer better than an automatic metric written by hand.
# - Siththaranjan, Laidlaw and Hadfield-Menell (2023), *Distributional preference learning*, arXiv:2312.08358: where something that matters
#   is not seen, comparisons of different people are added up as by Borda's rule.
