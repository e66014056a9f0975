# %% [markdown]
# # 12. What exactness shows that samples cannot
#
# **The question.** A trainer reports a KL of 70 nats and an error bar of 1 %. Both are averages of samples. *How would samples know of
# what they never drew?* Until now we listed every response. Here there are $10^{100}$ of them, every number is still exact, and we hold
# what samples say against it.

# %%
import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show
from tabular_rlhf.language import Language
from tabular_rlhf.lattice import Reference, solve
from tabular_rlhf.lattice.condition import Given, Masked, rewarded
from tabular_rlhf.lattice.draws import sample
from tabular_rlhf.lattice.flow import kl, length_law, renyi
from tabular_rlhf.lattice.law import reward_law
from tabular_rlhf.lattice.merge import merge
from tabular_rlhf.machines import lattice, matches, phrases, product, uniform
from tabular_rlhf.path import expect, variance

# %% [markdown]
# **First, look.** How far from the truth may an error bar be? Solid: the exact standard deviation of one draw of $k_1$, $k_2$, $k_3$, the estimators of
# lesson 8, as a policy moves away from its reference, on $10^{100}$ responses. Markers: what two thousand draws say it is. They part,
# because what carries the deviation is never drawn.

# %%
show("far-from-reference")

# %% [markdown]
# At 100 nats $k_3$'s deviation is beyond $10^{12}$, and the draws say some ten. Nothing in the sample warns of it, *because* the responses
# that carry that deviation are never drawn. This lesson says how the solid lines can be known at all.
#
# ## 12.1 Few states, many responses
#
# A reference that looks at the last token, and a reward that counts phrases: of a prefix only a little matters for what comes after it.
# Prefixes that agree in it are one **state**. In a world estimated from real text, five tokens long, the prefixes of a depth are six
# states at most:

# %%
show("merged-states")

# %%
{"states of the tree": tr.zen_world().mdp.S, "merged": merge(tr.zen_world()).states}

# %% [markdown]
# Two prefixes are one state if the reference speaks alike after them, the same rewards are still to come, and each token leads both to
# one state. Merging loses nothing. So we need not begin with a tree: say what is remembered, and for how long to go on.

# %%
words = Language(tuple("abcdefghij"), 100, sep="")
speaks = product(words, [uniform(words), phrases(words, {"ab": 1.0})])
world = lattice(words, speaks, beta=0.2)

# %%
{"responses": world.responses, "states": world.states}

# %% [markdown]
# Ten letters, each as likely, a hundred times; a reward of 1 for every "ab". What has been said does not matter, except whether the
# last letter was an "a".
#
# **Exact numbers.** One sweep from the last token to the first gives $\log Z$ and the soft policy (lesson 4), others the rest:

# %%
optimum = solve(world)
reference = Reference(world)

# %%
{
    "log Z": round(float(optimum.log_Z[0]), 4),
    "E[r] under p_ref": round(expect(lambda y: y.r, reference), 4),
    "E[r] under p*": round(expect(lambda y: y.r, optimum), 4),
    "KL(p*, p_ref)": round(float(kl(optimum, reference)[0]), 4),
}

# %% [markdown]
# `expect` takes plain NumPy on the sums of a response: `y.r`, `y.L` (the log-ratio), `y.length`. What is a polynomial of such sums, or an
# exponential, has a recurrence along the path. What has none, is refused by name.
#
# **Why it adds up.** The KL of responses is the KL of tokens, at the states that one visits:
#
# **The derivation.** The chain rule, once more:

# %%
derive("kl-chain-rule")

# %% [markdown]
# ## 12.2 An error bar that cannot know
#
# Two of the estimators of lesson 8, as functions of a response's log-ratio:


# %%
def k1(y):
    return y.L


def k3(y):
    return np.expm1(-y.L) + y.L


# %%
exact = {
    name: f"{variance(k, optimum) ** 0.5:.3g}" for name, k in {"k1": k1, "k3": k3}.items()
}

# %% [markdown]
# **Predict.** $k_3$ is never negative, and its mean is the KL; trainers choose it because "its variance is lower than $k_1$'s". Here
# the KL is 96 nats. Is the deviation of one draw of $k_3$, beside that of $k_1$, (a) a half, (b) the same, (c) ten times as large, or (d)
# more than a hundred billion times as large?
#
# <details><summary>Have you written it down? Then unfold.</summary>
#
# (d), because $e^{-L} = p_{ref}/p^*$ has the mean 1, and all of it comes from responses that $p^*$ hardly ever says and the reference does.
# So it is 0 nearly always, and enormous nearly never. The cell below has the numbers.
#
# </details>

# %%
explore.folded(exact, "The exact deviations")

# %% [markdown]
# And what do draws say?

# %%
drawn = sample(optimum, 10_000, rng=np.random.default_rng(0))

# %%
seen = {name: k(drawn) for name, k in {"k1": k1, "k3": k3}.items()}

# %%
{name: f"mean {np.mean(x):.2f}, std {np.std(x):.2f}" for name, x in seen.items()}

# %% [markdown]
# Ten thousand draws show a calm $k_3$ with the deviation of $k_1$, and a mean that is short by 1: the mean of $e^{-L}$, of which they have
# seen nothing. What is never drawn leaves no trace in an error bar.
#
# **The sampled check.** Can one watch it where all responses are listed? In `long-tail` the reward is for length, and the reference says a
# response of length $n$ with probability $2^{-n}$. The squared weights $w = p^*/p_{ref}$, averaged over draws of the reference:

# %%
tail = tr.long_tail()
weight = np.exp(tr.solve(tail).log_p - tail.log_p_ref)


# %%
def squared_weight(n):
    """E[w^2] under the reference: what n draws say, and their error bar."""
    some = tr.sample(tail, tail.log_p_ref, n, rng=np.random.default_rng(1))[weight**2]
    return f"{np.mean(some):.1f} +- {np.std(some) / n**0.5:.1f}"


told = {f"{n:,} draws": squared_weight(n) for n in (100, 1_000, 10_000)}

# %%
{**told, "exactly": f"{np.sum(np.exp(tail.log_p_ref) * weight**2):.1f}"}

# %% [markdown]
# The truth is ten error bars away, or more, and always above: a mean that hangs on what is rarely drawn is too low until it is drawn.
#
# **A near miss.** Near the reference the danger is another one: the variance is tiny, and $\mathbb{E}[k_3^2] - \mathbb{E}[k_3]^2$ cancels.
# A shorter way that readers take is to leave the second term out:

# %%
check("k3-spread", lambda p, L: np.sum(p * (np.expm1(-L) + L) ** 2, axis=1))

# %% [markdown]
# ## 12.3 Draws of the reference
#
# Could one draw from the *reference*, and weigh by $w = p^*/p_{ref}$? Then $n$ draws are worth $n/\mathbb{E}_{p_{ref}}[w^2]$. The logarithm
# of that mean square is a **Renyi divergence**, and has a sweep of its own, in logarithms:

# %%
f"one draw in 10^{float(renyi(optimum, 2.0)[0]) / np.log(10):.0f} counts"

# %% [markdown]
# That is also why learning from preferences stops where it does. Pairs of responses drawn from the reference have almost always the same
# few rewards. $p^*$ lives elsewhere:

# %%
law = reward_law(reference)
usual = expect(lambda y: y.r, optimum)
as_much = np.sum(law.p[0][law.r >= usual])

# %%
{"mean reward under p*": round(usual, 1), "p_ref says as much": f"{as_much:.1g}"}

# %% [markdown]
# DPO's *population* optimum is $p^*$ (lesson 6), and no data set of pairs from $p_{ref}$ will ever show a response like those that $p^*$
# gives. Both sentences are true. `tabular-rlhf losses --world WORLD.toml` prints them side by side for your own world.
#
# ## 12.4 Masking is not conditioning
#
# A program must answer in a format: JSON, say. **Constrained decoding** forbids, token by token, what can no longer lead to the format, and
# renormalizes what is left. Is that the reference *given the format*?
#
# **Predict.** Four letters and an end, all as likely, up to 100 tokens. The format: the last two letters are "aa". Given the format, is a
# response that is drawn with masking (a) as long, (b) shorter, (c) longer than one of the reference *given* the format?
#
# <details><summary>Have you written it down? Then unfold.</summary>
#
# (c), and far longer, because masking cannot stop before "aa" has been said, and does nothing to say it: it waits for chance. Given the
# format, tokens that make it *likely* are preferred; masking looks only at what makes it *possible*. The cells below measure it.
#
# </details>

# %%
short = Language((*"abcd", "."), 100, eos=".", sep="")
format_ = matches(short, "(a|b|c|d)*aa")
asked = lattice(short, product(short, [uniform(short), format_]), beta=1.0)
laws = {"given": Given(asked, rewarded(asked)), "masked": Masked(asked, rewarded(asked))}

# %%
lengths = {name: float(length_law(p) @ np.arange(101)) for name, p in laws.items()}

# %%
explore.folded({name: round(n, 1) for name, n in lengths.items()}, "The mean lengths")

# %%
show("masking")

# %% [markdown]
# Two laws that both always keep the format. How far apart they are, and how far the nearer one is from the reference:

# %%
far = {
    "KL(given, masked)": kl(laws["given"], laws["masked"]),
    "-log P(format)": -laws["given"].log_mass,
}

# %%
{name: round(float(x[0]), 2) for name, x in far.items()}

# %% [markdown]
# ## 12.5 Explore
#
# The weights $w = p^*/p_{ref}$ of a world that one can see whole. *Try this.* Lower $\beta$. Which response takes the mass, how often would
# the reference say it, and how many draws of the reference would you need to meet it once?

# %%
explore.tilt(tr.rational())

# %% [markdown]
# ## 12.6 Exercises
#
# Replace `...` and run the cell. Solutions: `solutions/12_what_exactness_shows.py`.
#
# **1. The reference, given a format.** Responses have probabilities `p_ref`, and `success` is 1 for those that have a required format,
# both of shape `(P, N)`. Return the law of a response of the reference given that it has the format: shape `(P, N)`.


# %%
def format_law(p_ref, success):
    return ...


check("format-law", format_law)

# %% [markdown]
# **2. How k3 scatters.** A response drawn from `p`, of shape `(P, N)`, has the log-ratio `L`. Return the variance of one draw of
# $k_3 = e^{-L} - 1 + L$, for each prompt: shape `(P,)`, nats squared.


# %%
def k3_spread(p, L):
    return ...


check("k3-spread", k3_spread)

# %% [markdown]
# **3. What a draw of the reference is worth.** Draws of `p_ref` are to tell means under `p_star`, by weights $w = p^*/p_{ref}$. Return the
# share of draws that count, $1/\mathbb{E}_{p_{ref}}[w^2]$, for each prompt: shape `(P,)`.


# %%
def effective_share(p_ref, p_star):
    return ...


check("effective-share", effective_share)

# %% [markdown]
# ## Further reading
#
# - Li and Eisner (2009), *First- and second-order expectation semirings with applications to minimum-risk training on translation forests*:
#   means and variances on lattices; the recurrences of this lesson.
# - Chatterjee and Diaconis (2018), *The sample size required in importance sampling*, Annals of Applied Probability 28: about $e^{KL}$
#   draws are needed, and why an error bar does not show it.
# - Park et al. (2024), *Grammar-aligned decoding*, arXiv:2405.21047: masking distorts the law; 12.4.
# - Schulman (2020), *Approximating KL divergence*: the note that $k_1$, $k_2$, $k_3$ are from.
