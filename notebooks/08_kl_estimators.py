# %% [markdown]
# # 8. KL estimators: what does my flag optimize?
#
# **The question.** Programs that train language models have a switch, or *flag*, for the KL penalty. It offers estimators called
# k1, k2 and k3, and somewhere it is decided whether the penalty stands in the loss or in the reward. The manual says that all of
# them estimate the same divergence, some with less noise. *Is that true, and does it matter for what is trained which one I
# choose?*
#
# Two of the three do estimate the same number. What they train are different things, and one choice trains away from what was asked.

# %%
import math
from fractions import Fraction

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.estimators import Flag, analyse, flow, normal_table, optimum
from tabular_rlhf.figures import show
from tabular_rlhf.gibbs import log_policy_of

# %% [markdown]
# **First, look.** Four ways in which trainers write the *same* penalty. With $k_3$ in the reward (the hollow triangles) training comes within a hair
# of the best policy, and then walks on until it is worse than no training at all, *because* the penalty that it feels is
# $\mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p_{ref}, p)$: the second term pays for silencing answers. Nothing here is sampled. (Sections 8.4 to 8.7 show
# why; *detached* is what programmers call a number that is not differentiated.)

# %%
show("kl-runaway")

# %% [markdown]
# ## 8.1 A sum that nobody can do
#
# "Will it rain?" Three answers. The reference $p_{ref}$ is fond of "no"; the policy being trained, $p$, has moved toward "yes".

# %%
answers = ("no", "maybe", "yes")
p_ref = dict(zip(answers, [Fraction(1, 2), Fraction(3, 10), Fraction(1, 5)], strict=True))
p = dict(zip(answers, [Fraction(1, 5), Fraction(2, 5), Fraction(2, 5)], strict=True))

# %% [markdown]
# How far has it moved? From lesson 2, in nats,
#
# $$\mathrm{KL}(p, p_{ref}) = \sum_\tau p(\tau) \log \frac{p(\tau)}{p_{ref}(\tau)} .$$
#
# For three answers that is a sum of three terms. For a real model it has more terms than there are atoms. But if $p$ *writes* a response
# $\tau$, both models can be asked how likely it was. Write
#
# $$u(\tau) = \frac{p(\tau)}{p_{ref}(\tau)}, \qquad L(\tau) = \log u(\tau)$$
#
# for the ratio and its logarithm. Here are the ratios.

# %%
u = {tau: p[tau] / p_ref[tau] for tau in answers}
{tau: str(ratio) for tau, ratio in u.items()}

# %% [markdown]
# The KL is the mean of $L$ over what $p$ writes, so a draw's $L$ is an estimate of it. John Schulman (2020) wrote down two more
# functions of $L$, and named the three
#
# $$k_1 = L, \qquad k_2 = \frac{L^2}{2}, \qquad k_3 = e^{-L} - 1 + L .$$
#
# Note that $e^{-L} = 1/u = p_{ref}/p$.


# %%
def k1(L):
    return L


def k2(L):
    return L**2 / 2


def k3(L):
    return np.exp(-L) - 1 + L


# %% [markdown]
# The same in the library: a world with these answers. (The rewards, and $\beta$, the price of a nat, wait for section 8.6.)

# %%
mdp = tr.TokenMDP(answers, horizon=1, prompts=["Will it rain?"])
world = tr.World(
    mdp, np.log([[[0.5, 0.3, 0.2]]]), r=np.array([[0.0, 0.6, 1.0]]), beta=0.4, name="rain"
)
log_p = np.log([[0.2, 0.4, 0.4]])
L = log_p - world.log_p_ref

# %% [markdown]
# **Exact numbers.** What each estimator says of each answer:

# %%
{k.__name__: dict(zip(answers, k(L)[0].round(4).tolist(), strict=True)) for k in (k1, k2, k3)}

# %% [markdown]
# and over all draws its mean, and its standard deviation ("std"), beside the KL itself:

# %%
everything = tr.population(world, log_p)


# %%
def mean_and_std(k):
    one_draw = tr.estimate(everything, k(L))
    return {"mean": round(one_draw.mean, 4), "std": round(math.sqrt(one_draw.variance), 4)}


{
    "KL": round(tr.kl(log_p, world.log_p_ref).item(), 4),
    **{k.__name__: mean_and_std(k) for k in (k1, k2, k3)},
}

# %% [markdown]
# $k_1$ and $k_3$ have the right mean: they are **unbiased**. $k_2$ is off by 6 percent: its **bias** is $-0.0125$ nats. And $k_1$ is
# noisy: its standard deviation is nearly three times what it estimates. One draw in five, a "no", even says that the *distance* is
# negative.
#
# **The sampled check.** Ten thousand answers drawn from $p$, and how many standard errors each mean is off:

# %%
drawn = tr.sample(world, log_p, 10_000, rng=np.random.default_rng(0))


# %%
def off(k):
    exact, sampled = tr.estimate(everything, k(L)), tr.estimate(drawn, k(drawn[L]))
    return {
        "exact": round(exact.mean, 4),
        "sampled": round(sampled.mean, 4),
        "z": round(sampled.z(exact), 2),
    }


{k.__name__: off(k) for k in (k1, k2, k3)}

# %% [markdown]
# ## 8.2 Where the noise comes from
#
# Near the reference $u$ is near 1, say $u = 1 + \delta$ with a small $\delta$ (delta) of either sign. To second order
#
# $$L = \delta - \frac{\delta^2}{2} + \ldots, \qquad \frac{L^2}{2} = \frac{\delta^2}{2} + \ldots, \qquad
# e^{-L} - 1 + L = \frac{\delta^2}{2} + \ldots .$$
#
# So $k_2$ and $k_3$ are small, of second order, draw by draw. $k_1$ is of *first* order draw by draw, and only its mean is of second:
# pluses and minuses cancel. Its variance is about $\mathbb{E}[\delta^2] \approx 2\, \mathrm{KL}$, so that
# $\text{std}/\mathrm{KL} \approx \sqrt{2/\mathrm{KL}}$: the closer the two, the noisier in proportion.
#
# **Schulman's table.** His example: draws $x$ from the normal law $\mathcal{N}(0, 1)$ with mean 0 and variance 1, and as the reference
# the same law shifted, $\mathcal{N}(m, 1)$. Then
#
# $$L = -\frac{x^2}{2} + \frac{(x - m)^2}{2} = \frac{m^2}{2} - m x ,$$
#
# which is itself normal, with mean $m^2/2$ (the KL) and standard deviation $m$. So $k_1$ has $\text{std}/\mathrm{KL} = 2/m$. And
# $\mathbb{E}[k_2] = \frac12 (m^2 + \frac{m^4}{4})$: it is too large by $m^2/4$ of the KL. The library computes the whole table from a
# grid of 4,096 cells.


# %%
def relative(row):
    return {
        "bias/KL": round(row.bias, 4) + 0.0,
        "std/KL": round(row.std, 2),
        "P(negative)": round(row.negative, 2),
    }


# %%
{
    f"m = {m}: {row.estimator}": relative(row)
    for m in (0.1, 1.0)
    for row in normal_table(m, cells=4096)
}

# %% [markdown]
# Schulman prints bias 0, 0.002, 0 and std 20, 1.42, 1.42 for $m = 0.1$; bias 0, 0.25, 0 and std 2, 1.73, 1.7 for $m = 1$. (He drew
# samples. The second entry is $m^2/4 = 0.0025$ exactly.) For all distances:

# %%
show("kl-estimators")

# %% [markdown]
# Far from the reference the order is reversed: $k_3$ contains $e^{-L}$, which is rarely drawn and then huge.
#
# ## 8.3 Why k3 works, and when it does not
#
# What is the mean of $1/u$? Each answer's $p_{ref}/p$, times how often $p$ draws it:

# %%
str(sum(p[tau] * (1 / u[tau] - 1) for tau in answers))

# %% [markdown]
# So $1/u - 1$ has mean zero, and $L + c\, (1/u - 1)$ is unbiased for *every* number $c$. Such a term is called a **control variate**: it
# changes nothing on average, and if it goes down where $L$ goes up, noise cancels. The standard deviation, and the smallest value that a
# draw can have, for some $c$:


# %%
def with_control(c):
    def k(L):
        return L + c * (np.exp(-L) - 1)

    return {"std": mean_and_std(k)["std"], "smallest": round(k(L).min().item(), 4)}


{f"c = {c}": with_control(c) for c in (0, 0.5, 0.8, 1, 1.5)}

# %% [markdown]
# $c = 0$ is $k_1$ and $c = 1$ is $k_3$. The best $c$ depends on the world, but $c = 1$ is the only one for which no draw can be negative,
# whatever the world: $\log x \le x - 1$, because the line $x - 1$ touches the curve $\log x$ at $x = 1$ and stays above it.
#
# **The derivation.** ($\mathbb{E}_\mu$ is understood: a mean over prompts. The machine takes a policy of its own. In lines 1 to 4 it is
# $q$, which may forbid some answers: the mean of $p_{ref}/q$ is then $p_{ref}(q > 0)$ instead of 1, the probability that the reference
# gives to what $q$ can say. $\chi^2 = \sum (p_{ref} - p)^2/p$, "chi squared", is another distance.)

# %%
derive("k3", world)

# %% [markdown]
# **A near miss.** "k3 is unbiased." It is if $p$ can say all that $p_{ref}$ can. But suppose that it is sampled with top-$k$ or
# top-$p$, which cut off unlikely tokens; then it cannot. `log_p_short` is the law of such a policy, on fewer responses (a
# smaller *support*) than `log_p_ref` has.


# %%
def always_unbiased(log_p_short, log_p_ref):
    return tr.kl(log_p_short, log_p_ref)


check("k3", always_unbiased, part="mean on fewer responses")

# %% [markdown]
# The mean of $k_3$ is too small, by just the probability that the reference gives to what was cut off. $k_1$ does not mind, if its
# $\log p$ is that of the cut law, with the kept tokens' probabilities divided by their sum. With the $\log p$ of the whole softmax, as
# many programs take it, its mean too is less than the KL of what was sampled: by minus the mean logarithm of the kept probabilities.
#
# ## 8.4 An estimate is not a push
#
# **Predict.** $k_1$ and $k_3$ have the right mean, $k_2$ has not. If their sampled average is differentiated, which of the three pushes
# in the direction of the KL's own gradient?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Only $k_2$, the biased one. $k_1$ pushes nowhere on average, $k_3$ toward imitating the reference, *because* a differentiated average
# holds the draws still: it has only half of the product rule.
#
# </details>
#
# So far we *measured* a divergence. A trainer does something else: it draws responses, averages $k$ over them, and **differentiates
# that average**. The draws are data, and do not move. Let $\theta$ be the logits (lesson 7). The next cell does
# it with all answers, each with its probability as weight; the weights are `p_held`, because a draw does not change when $\theta$ does.


# %%
def push(k):
    p_held = np.exp(log_p)
    return tr.grad(lambda theta: np.sum(p_held * k(tr.log_softmax(theta) - world.log_p_ref)))(
        log_p
    )


{k.__name__: (push(k)[0].round(4) + 0.0).tolist() for k in (k1, k2, k3)}

# %% [markdown]
# These are slopes in the logits of "no", "maybe" and "yes". What they ought to be is the slope of the KL itself, where the weights move
# too:

# %%
tr.grad(lambda theta: np.sum(tr.kl(tr.log_softmax(theta), world.log_p_ref)))(log_p)[0].round(
    4
).tolist()

# %% [markdown]
# Read again. $k_1$, the unbiased one: *nothing*. $k_2$, the biased one: exactly right. $k_3$, unbiased and quiet: something else. It is
# $p - p_{ref}$, as the fractions show:

# %%
{tau: str(p[tau] - p_ref[tau]) for tau in answers}

# %% [markdown]
# To see why, recall the *score* of lesson 7, the gradient of $\log p(\tau)$ in the logits. Its mean under $p$ is zero, because
# probabilities always add up to one. And the gradient $\nabla$ of a mean has two parts,
#
# $$\nabla\, \mathbb{E}_p[k] = \underbrace{\mathbb{E}_p[k \cdot \text{score}]}_{\text{the draws move}} +
# \underbrace{\mathbb{E}_p[\nabla k]}_{\text{the estimate moves}} .$$
#
# Differentiating a sampled average gives the second part only.

# %%
derive("kl-gradients", world)

# %% [markdown]
# So $k_3$ in the loss descends the *forward* KL, $\mathrm{KL}(p_{ref}, p)$, with the reference first: the one that lesson 3 met
# in maximum likelihood. (To *descend* a function is to be pushed by its gradient.) Its push is that of imitating the reference.
#
# **A near miss.** "k3 is unbiased at every $p$, so its gradient is unbiased too." The slope of the mean is; the mean of the slopes is
# not. (`score_rows[x, i]` is the score of response $i$ to prompt $x$.)


# %%
def gradient_of_the_kl(mu, p, L, score_rows):
    return np.einsum("x,xn,xnsv->xsv", mu, p * L, score_rows)


check("kl-gradients", gradient_of_the_kl, part="E[grad k3]")

# %% [markdown]
# ## 8.5 One theorem for all estimators
#
# Let the estimator be any function $h(L)$. Divergences of the form
#
# $$D_f(p, p_{ref}) = \sum_\tau p_{ref}(\tau)\, f(u(\tau)), \qquad u = p/p_{ref}, \qquad f(1) = 0 ,$$
#
# with a convex $f$ are the **f-divergences** of lesson 4. With $f(u) = u \log u$ this is the KL.
#
# **Theorem.** *In the loss, $h$ descends the f-divergence with $f'(u) = h'(\log u)$.*
#
# Two more estimators, for the sake of it: $|L|$, which some programs offer as "abs", and $k_3$ with its ratio upside down,
# $e^L - 1 - L$, a common slip.
#
# | in the loss | $h'(L)$ | $f'(u)$ | it descends |
# |:--|:--|:--|:--|
# | $k_1 = L$ | $1$ | $1$ | nothing: $\sum p_{ref} u$ is always 1 |
# | $k_2 = L^2/2$ | $L$ | $\log u$ | $\mathrm{KL}(p, p_{ref})$ |
# | $k_3 = e^{-L} - 1 + L$ | $1 - e^{-L}$ | $1 - 1/u$ | $\mathrm{KL}(p_{ref}, p)$ |
# | $\lvert L \rvert$ | $\pm 1$ | $\pm 1$ | $\sum \lvert p - p_{ref} \rvert$, twice the *total variation*, TV |
# | inverted $k_3$ | $e^L - 1$ | $u - 1$ | $\frac12 \chi^2(p, p_{ref}) = \frac12 \sum p_{ref} (u - 1)^2$ |
#
# The proof, on four of them at once:

# %%
derive("kl-estimator-theorem", world)

# %% [markdown]
# ## 8.6 Where that leads
#
# We wanted the law that maximizes $\mathbb{E}_p[r] - \beta\, \mathrm{KL}(p, p_{ref})$, the Gibbs optimum $p^*$ of lesson 4. With another
# divergence in the place of the KL, Lagrange's rule (lesson 4) says that at the optimum all slopes in $p(\tau)$ agree,
#
# $$r(\tau) - \beta f'(u(\tau)) = \lambda , \qquad \text{so} \qquad f'(u) = \frac{r - \lambda}{\beta} ,$$
#
# with a number $\lambda$ that makes the sum one. Solve for $u$:
#
# - $k_2$: $\log u = (r - \lambda)/\beta$, the Gibbs tilt;
# - $k_3$: $1 - 1/u = (r - \lambda)/\beta$, so $u = \beta / (\lambda' - r)$ with $\lambda' = \beta + \lambda$;
# - inverted $k_3$: $u = 1 + (r - \lambda)/\beta$, a straight line, and 0 where the line is below 0;
# - $|L|$: $f'$ is $\pm 1$, so whatever earns less than the best by more than $2 \beta$ loses all its mass, to the best;
# - $k_1$: nothing holds the policy back, and all goes to the best response.
#
# Rewards 0, 3/5 and 1, and $\beta = 2/5$. The third case is all fractions: the mean of $u$ under $p_{ref}$ is 1, so $\lambda$ is the mean
# reward of the reference.

# %%
r, beta = dict(zip(answers, [0, Fraction(3, 5), 1], strict=True)), Fraction(2, 5)
lam = sum(p_ref[tau] * r[tau] for tau in answers)
{tau: str(p_ref[tau] * (1 + (r[tau] - lam) / beta)) for tau in answers}

# %% [markdown]
# In the fourth case "no" is behind by $1 > 4/5$: it loses its half to "yes", and "maybe" keeps its 3/10. All five, by the library:

# %%
{
    e: np.exp(optimum(Flag(e, "loss"), world).log_p)[0].round(4).tolist()
    for e in ("k1", "k2", "k3", "k3-inverted", "abs")
}

# %% [markdown]
# The same reward, the same $\beta$, five policies. Only the second is $p^*$.
#
# ## 8.7 In the loss, in the reward, or with a live ratio
#
# **Predict.** $k_3$ is unbiased. Put into the reward as a number, where will it lead: to $p^*$, near it, or elsewhere?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# To all mass on the best answer, as if there were no penalty, *because* the push is that of $\mathrm{KL}(p, p_{ref}) -
# \mathrm{KL}(p_{ref}, p)$, and the second part pays for silencing answers without end.
#
# </details>
#
# There are three places where an estimator can stand.
#
# - **loss**: it is added to the loss and differentiated, the draws held. That was sections 8.4 to 8.6.
# - **reward**: it is subtracted from the reward, as a number, and the policy gradient (lesson 7) does the rest. A number times the score:
#   $\mathbb{E}[k \cdot \text{score}]$, the first part of the product rule.
# - **ratio**: it stands in the loss and is multiplied by the ratio $p/p_{old}$ of the live policy to the one that drew the samples
#   (lesson 7's $\rho$, of whole responses), and both are differentiated. At $p_{old} = p$ that is *both* parts.
#
# What one place gives, then, is what the ratio gives less what the other gives.

# %%
derive("kl-placement", world)

# %% [markdown]
# The old recipe, $k_1$ in the reward, is right. $k_3$ there is wrong, and worse than in the loss: it descends
# $\mathrm{KL}(p, p_{ref}) - \mathrm{KL}(p_{ref}, p)$, a difference. Moving away from the reference can make a difference smaller.
#
# **A near miss.** "In the reward the estimate is only a number, and it is unbiased, so the push is right on average."

# %%
check("kl-placement", gradient_of_the_kl, part="k3 reward")

# %% [markdown]
# The push multiplies the number by the score *of the same draw*, and sees how they vary together, not the mean. That an estimate is
# good says nothing of it.
#
# **Nine flags.** The library analyzes any of them at any policy. How does the push compare with the true gradient of the KL, at
# our $p$? The *cosine* is 1 for the right direction, negative for a push the wrong way, and None where there is no push at all.


# %%
def compared(estimator, place):
    report = analyse(Flag(estimator, place), world, log_p[None])
    return report.descends, None if report.cosine is None else round(report.cosine, 3)


{
    f"{k} in the {place}": compared(k, place)
    for k in ("k1", "k2", "k3")
    for place in ("loss", "reward", "ratio")
}

# %% [markdown]
# (The library writes pi and ref for $p$ and $p_{ref}$.) Four of nine are right everywhere. Two push the wrong way, here. Let both run
# from the reference, with exact gradients and no noise, until nothing changes:


# %%
def destination(estimator, place):
    end = flow(Flag(estimator, place), world, horizon=1000.0)
    return {
        "p": np.exp(end.end)[0].round(3).tolist(),
        "regret": round(end.regret[-1].item(), 4),
    }


{
    f"{k} in the {place}": destination(k, place)
    for k, place in (("k1", "reward"), ("k3", "loss"), ("k2", "reward"), ("k3", "reward"))
}

# %% [markdown]
# Regret (lesson 4) is what is given away of $\mathbb{E}_p[r] - \beta\, \mathrm{KL}$. $k_3$ in the reward ends where $k_1$ in the loss
# does: as if there were no penalty. Here are six flags on the triangle of all laws (lesson 5; a, b, c are "no", "maybe", "yes"), from
# $p_{ref}$ to where each leads:

# %%
show("kl-flags")

# %% [markdown]
# How the runaway goes is the picture at the top of this lesson. At first it looks like the others.
#
# ## 8.8 Explore
#
# Choose an estimator, a place, and $\beta$. *Try this.* (1) Put $k_3$ in the reward and raise $\beta$, the price of leaving the
# reference. From which $\beta$ on does it lead to an answer that is not even the best one? (2) Put $|L|$ ("abs") in the loss. From
# which $\beta$ on does the policy not move at all, and why just there?

# %%
explore.kl(world)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# (1) On the slider from 2 on (it happens at about 1.95): then the penalty itself drives the policy away, to "maybe", which is
# never worth most. No $\beta$ brings it back. (2) From 1/2 on, where $2 \beta$ is the largest difference of rewards there is.
#
# </details>
#
# And why is $k_2$, which is biased, still a good estimate nearby? The next derivation shows it. Step through it with Next.

# %%
explore.derivation("k2", world)

# %% [markdown]
# ## 8.9 Token by token
#
# Real trainers have an $L$ for every *token*: $L_t = \log \big(\pi(a_t \mid s_t)/\pi_{ref}(a_t \mid s_t)\big)$, and $L = \sum_t L_t$
# (the chain rule of lesson 1). So they add up $k(L_t)$ over the tokens, instead of taking $k$ of the sum. Is that the same? For $k_1$
# yes. For $k_3$ it is another estimator, as unbiased as the first. For gradients, no: $k_2$ of each token knows what the token does to
# its own state, and nothing of the states that it leads to. ($d_\pi(s)$ are the visits of lesson 1; $\mathrm{KL}(s)$ is the divergence
# of the tokens in state $s$.)

# %%
derive("token-vs-sequence")

# %% [markdown]
# How much is lost? In the world `rational` of lesson 4, with the policy that chooses both tokens equally often: each flag's mean and
# standard deviation, in nats, the cosine with the true gradient, and the regret where it leads. The estimator "full" adds up the exact
# $\mathrm{KL}(s)$ of the states visited. (Why sample a token, when the probabilities of all tokens are at hand? Amini et al. 2025.)

# %%
rational, log_pi = tr.rational(), np.log(np.full((1, 2, 2), 0.5))


# %%
def by_token(estimator, place, **settings):
    report = analyse(Flag(estimator, place, "token", **settings), rational, log_pi)
    where = None if report.at_optimum is None else round(report.at_optimum[2], 6)
    exact = report.exact
    row = {"mean": exact.mean, "std": exact.std, "cosine": report.cosine}
    return {name: round(v, 4) for name, v in row.items()} | {"regret": where}


tokenwise = ("k1 reward", "k2 loss", "k3 loss", "k3 ratio", "full ratio")
{name: by_token(*name.split()) for name in tokenwise}

# %% [markdown]
# By tokens $k_2$ in the loss is not quite right any more, though it errs little here; the tokens' $k_3$ with a live ratio still is.
# "Full" is far quieter than $k_1$; so near the reference $k_3$ is quieter still.
#
# ### A published theorem that is false
#
# **"Summing exact KLs never has more variance than $k_1$."** So says the paper that proposed it (Amini et al. 2025), by the theorem of
# Rao and Blackwell: a conditional mean varies no more than what it is the mean of. That is true of *each single step*, where
# $\mathrm{KL}(s)$ is the mean of $L_t$ in $s$. It is **not true of the sum**, which is no conditional mean of $k_1$: what is paid in
# one state decides which states follow, and there the exact KLs differ. Let $p_{ref}$ say four responses equally often, and $p$ three of
# them (1/3 each). Then $k_1 = \log(4/3)$ whatever is drawn: variance 0. The sum of exact KLs depends on the first token: variance
# $\frac29 \log^2 2 = 0.1068$. The fourth response need not be impossible:

# %%
four = tr.World(tr.TokenMDP(2, 2), np.log(np.full((1, 3, 2), 0.5)), np.zeros((1, 4)), 1.0)


def variances(p):
    log_pi = log_policy_of(four.mdp, np.log([p]))
    return {
        k: round(analyse(Flag(k, "loss", "token"), four, log_pi).exact.std ** 2, 4)
        for k in ("k1", "full")
    }


even = [(q, q, q, round(1 - 3 * q, 3)) for q in (0.333, 0.33, 0.3)]
{f"p = {p}": variances(p) for p in (*even, (0.4, 0.2, 0.3, 0.1))}

# %% [markdown]
# The exact difference, with the term that may be negative in line 4. (In lines 5 and 6 the machine's law $q$ is the reference cut to some
# of its responses, here to three of the four.)

# %%
derive("rao-blackwell", four, seed=2)

# %% [markdown]
# So "full" is a good habit, and no guarantee. What *is* guaranteed: the same mean, never a negative value, and each step quieter.
#
# **Sum or mean?** Many programs divide by the number of tokens. That is no longer an estimate of $\mathrm{KL}(p, p_{ref})$: it counts a
# response the less, the longer it is.

# %%
places = {
    "k1 loss": ("k1", "loss"),
    "k1 reward": ("k1", "reward"),
    "k2 loss": ("k2", "loss"),
    "k3 loss": ("k3", "loss"),
}
{
    f"{name}, mean over tokens": by_token(*where, aggregate="mean")
    for name, where in places.items()
}

# %% [markdown]
# None has a cosine of 1, and for none of them is the law known to which it leads. Even $k_1$ in the loss pushes now, where it did nothing
# before: it descends $\mathbb{E}[1/\text{length}]$, and so makes responses longer.

# %% [markdown]
# ## 8.10 Samples of an older policy
#
# After a few updates the policy is no longer the one that drew the samples. Draws of $p_{old}$ count as draws of $p$ once they are
# weighed by the **importance ratio** $\rho = p/p_{old}$, the product of lesson 7's ratios of all tokens. What must it multiply?

# %%
derive("importance-ratio")

# %% [markdown]
# Each $L_t$ needs the ratios of all tokens *up to* $t$ (they decide how often one gets there), and no later ones. The
# ratio of the whole response is right too, and noisier. The ratio of token $t$ alone, which is what many programs use, is not right. On
# samples of an older policy, the mean of $k_1$ beside the KL of 0.0883 nats, its standard deviation, and the cosine of the push:

# %%
log_pi_old = np.log([[[0.8, 0.2], [0.3, 0.7]]])


# %%
def off_policy(place, ratio):
    report = analyse(Flag("k1", place, "token", ratio=ratio), rational, log_pi, log_pi_old)
    return {
        "mean": round(report.exact.mean, 4),
        "std": round(report.exact.std, 4),
        "cosine": round(report.cosine, 4),
    }


ratios = {"none": "loss", "token": "ratio", "decision": "ratio", "sequence": "ratio"}
{f"ratio: {ratio}": off_policy(place, ratio) for ratio, place in ratios.items()}

# %% [markdown]
# Without a ratio $k_1$ in the loss pushes, since the score has mean zero under $p$ only: away from the reference, by the negative
# cosine. ("By decision" is the product of the ratios up to each token.)
#
# ## 8.11 What to choose
#
# - To *report* a KL: $k_3$ as long as $p_{ref}/p$ is nowhere large (up to 2, of whole responses, it is never noisier than $k_1$), or "full"
#   where it can be had; if sampling cut off tokens, $k_1$ with the log-probabilities of the law that was sampled from, and not those of
#   the whole softmax.
# - To *train* toward $p^*$: $k_1$ in the reward; or, of whole responses, $k_2$ in the loss; or $k_3$ with a live ratio.
# - $k_3$ in the loss, the usual choice with GRPO (lesson 7), holds the policy to the reference by the forward KL. That may be what you
#   want: it punishes forgetting, and its optimum is $\beta p_{ref}/(\lambda' - r)$. It is not $p^*$.
# - Never $k_1$ in the loss on one's own samples, and never $k_2$ or $k_3$ in the reward.
#
# ## 8.12 Exercises
#
# Replace `...` and run the cell again. The names of the parameters are supplied for every world that the checker tries, with $P$ prompts,
# $N$ responses, $S$ states and $V$ tokens.
#
# **1. Three numbers for a draw.** `log_ratio` holds $L$ of $n$ responses drawn from $p$, of shape `(n,)`. Return the estimates $k_1$,
# $k_2$ and $k_3$ that each draw makes: a row each, shape `(3, n)`, nats.


# %%
def three_estimators(log_ratio):
    return ...


check("three-estimators", three_estimators)

# %% [markdown]
# **2. What they estimate.** `L` and the probabilities `p` have shape `(P, N)`. Return the exact means of $k_1$, $k_2$ and $k_3$ over
# draws from $p$, for each prompt: a row for each estimator, shape `(3, P)`, nats.


# %%
def estimator_means(p, L):
    return ...


check("estimator-means", estimator_means)

# %% [markdown]
# **3. How noisy is k1?** Return the variance of $k_1$ of one draw from $p$, for each prompt: shape `(P,)`, nats squared.


# %%
def k1_variance(p, L):
    return ...


check("k1-variance", k1_variance)

# %% [markdown]
# **4. What k3 in the loss really pushes.** Draw responses from $p$, hold the draws fixed, and differentiate their $k_3$ in the logits
# of $p$. Return the mean of this gradient over prompts $x \sim \mu$ and draws from $p$: shape `(P, S, V)`. (`score_rows[x, i, s, a]` is
# the slope of $\log p$ of response $i$ to prompt $x$ in the logit of token $a$ in state $s$; `mu`, of shape `(P,)`, are the prompts'
# probabilities; `p` and `p_ref` have shape `(P, N)`. Section 8.4 says what the answer is the gradient *of*.)


# %%
def pathwise_gradient(mu, p, p_ref, score_rows):
    return ...


check("pathwise-gradient", pathwise_gradient)

# %% [markdown]
# **5. Token by token.** `L_s[x, s, a]` is $\log (\pi(a \mid s)/\pi_{ref}(a \mid s))$ after prompt $x$, of shape `(P, S, V)`. Return the
# sum of the tokens' $k_3$ for every response: shape `(P, N)`, nats. (`mdp.path_sum(x)` adds up a table of shape `(P, S, V)` along every
# response.)


# %%
def token_k3(mdp, L_s):
    return ...


check("token-k3", token_k3)

# %% [markdown]
# ## Further reading
#
# - Schulman (2020), *Approximating KL divergence*, joschu.net/blog/kl-approx.html: the three estimators, the control variate, and the
#   table of section 8.2. It is about values, and says nothing of gradients.
# - Ziegler et al. (2019), *Fine-tuning language models from human preferences*, arXiv:1909.08593: the KL as a penalty in the reward,
#   $k_1$.
# - Shao et al. (2024), *DeepSeekMath*, arXiv:2402.03300: GRPO, with $k_3$ moved from the reward into the loss.
# - Tang and Munos (2025), *On a few pitfalls in KL divergence gradient estimation for RL*, arXiv:2506.09477: an unbiased estimate,
#   differentiated, need not be an unbiased gradient; sections 8.4, 8.7 and 8.9.
# - Csiszár (1967), *Information-type measures of difference of probability distributions and indirect observations*: f-divergences.
# - Go et al. (2023), *Aligning language models with preferences through f-divergence minimization*, arXiv:2302.08215: the
#   theorem of section 8.5 towards any target, and how the choice of $f$ decides between quality and variety of what is said.
# - Amini, Vieira and Cotterell (2025), *Better estimation of the KL divergence between language models*, arXiv:2504.10637: the exact KL
#   of the next token, averaged over the states visited. (Its bound on the variance does not hold: section 8.9.)
# - Precup, Sutton and Singh (2000), *Eligibility traces for off-policy policy evaluation*: ratios by decision, section 8.10.
