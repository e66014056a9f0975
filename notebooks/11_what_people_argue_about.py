# %% [markdown]
# # 11. What people argue about
#
# **The question.** Is dividing by the standard deviation harmless? Is a tie half a win? Such questions fill the issue trackers of
# the programs that train language models, some for a year, and answers contradict each other. *Most of these claims are equations. Can
# one not simply measure who is right, and when?*
#
# This is a seminar. Six disputes, each in five steps: the question in a line; a bet; the measurement; numbers or a picture that show why;
# the verdict with its condition. Then three functions in a trainer's style, and a question to each: *whose gradient is this?*

# %%
import math

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore
from tabular_rlhf.audit import audit, hand_in
from tabular_rlhf.audit.library import Library
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.disputes import find
from tabular_rlhf.figures import show

# %% [markdown]
# **First, look.** A thing people argue about: to keep a format, forbid the tokens that break it, and let the model write on. Is that the model
# *given the format*? No: the lengths of what is written are others altogether, *because* a forbidden way out hands its probability to the tokens
# beside it, here and now, without asking whether what follows was likely. The six disputes below are of this kind.

# %%
show("masking")

# %% [markdown]
# **How a dispute is settled.** Somebody claims that two sides are equal, or have one direction. Both are computed exactly, on dozens of
# small worlds, fewest responses first. So if the claim fails, what refutes it is the smallest of these worlds, and can be done by hand.
# Then the same is tried with a condition. The verdict follows: *true*, *true under a condition*, or *false*. (`tabular-rlhf disputes`,
# in a terminal, lists all that have been settled so.)
#
# **The bet.** Before each measurement, write down one of the three verdicts, and a condition if you think that there is one. Then unfold what
# the cell below it measured. A point for the verdict, another for the condition.
#
# ## 11.1 "The standard deviation is only a scale"
#
# GRPO (lesson 7) draws a group of $G$ responses to a prompt, and gives each the advantage $(r - \text{mean})/\text{std}$ of its group.
# Here rewards are 1 for a right response and 0 for a wrong one; $u$ is the chance of a right one.
#
# **The question in a line.** Is dividing by the group's standard deviation only a scale of the step?
#
# **Predict.** REINFORCE ascends $u$ itself. Is GRPO's mean update the same? Always, never, or for some $G$?

# %%
explore.folded(find("grpo-is-reinforce").measured())

# %% [markdown]
# **Exact numbers.** Why groups of two? Whatever table $A(m)$ of advantages a right response gets, when $m$ of the group are right, the
# mean update is $w(u)\, \nabla u$ with one number $w(u)$ for each prompt. GRPO's is $A(m) = \sqrt{(G - m)/m}$:


# %%
def grpo_weight(u, G):
    def ways(m):
        return math.comb(G - 1, m - 1) * u ** (m - 1) * (1 - u) ** (G - 1 - m)

    return sum(ways(m) * math.sqrt((G - m) / m) for m in range(1, G))


# %%
{f"G = {G}": {u: round(grpo_weight(u, G), 3) for u in (0.1, 0.5, 0.9)} for G in (2, 4, 8)}

# %% [markdown]
# For $G = 2$ it is 1 everywhere. For larger groups it depends on the prompt: those nearly hopeless and nearly sure weigh more than the
# others. So it is a scale of each prompt's step, another one for each, and the sum over prompts changes direction.
#
# **The sampled check.** A prompt with $u = 0.2$, ten thousand groups of four; the push on the logit of "right", whose score is $r - u$:

# %%
mdp = tr.TokenMDP(("right", "wrong"), horizon=1, prompts=["2 + 2?"])
quiz = tr.World(mdp, np.log([[[0.2, 0.8]]]), r=np.array([[1.0, 0.0]]), beta=1.0, name="quiz")

# %%
drawn = tr.sample(quiz, quiz.log_p_ref, 40_000, rng=np.random.default_rng(0))


# %%
def group_push(u):
    """GRPO's push of every group, and how far its mean is from the exact one."""
    r = drawn[quiz.r].reshape(-1, 4)
    std = np.std(r, axis=1, keepdims=True)
    A = (r - np.mean(r, axis=1, keepdims=True)) / np.where(std > 0, std, 1)
    push = np.mean(A * (r - u), axis=1)
    exact = grpo_weight(u, 4) * u * (1 - u)
    error = np.std(push, ddof=1) / len(push) ** 0.5
    told = {"exact": exact, "sampled": np.mean(push), "z": (np.mean(push) - exact) / error}
    return {name: round(float(number), 4) for name, number in told.items()}


group_push(0.2)

# %% [markdown]
# **The derivation.** Any table of advantages at once. (`group_pull`, in the machine's world, is for a table $c_0 + c_1 m + c_2 m^2$.)

# %%
derive("group-bernstein")

# %% [markdown]
# The picture, for many groups:

# %%
show("group-normalization")

# %% [markdown]
# **The verdict.** *True under a condition: groups of two.* For larger groups it is a choice of which prompts count, which one may want,
# but not a scale.
#
# ## 11.2 "Dynamic sampling throws away nothing"
#
# A group that is all right or all wrong has no advantages: it is **silent**. DAPO draws others in the place of silent groups.
#
# **The question in a line.** Does dynamic sampling keep the direction of the gradient?
#
# **Predict.** Silent groups pushed nothing anyway. So what could change? Beware: programs fill the batch in two ways. They draw
# *this prompt* again until its group is mixed; or they take groups of *other prompts*.

# %%
explore.folded(find("redrawn-groups").measured())

# %% [markdown]
# Two prompts, one with $u = 0.5$ and a hard one with $u = 0.02$, equally often asked, groups of eight with RLOO's advantages. By what
# is each prompt's $\nabla u$ multiplied?

# %%
u = np.array([0.5, 0.02])
mixed = 1 - u**8 - (1 - u) ** 8

# %%
{
    "mixed": mixed.round(4).tolist(),
    "as drawn": [1.0, 1.0],
    "this prompt redrawn": (1 / mixed).round(4).tolist(),
    "filled with others": np.full(2, 1 / np.mean(mixed)).round(4).tolist(),
}

# %% [markdown]
# Redrawing lets the hard prompt count nearly seven times as much: given that its group is mixed, it pushes as often as any. Filling
# with other prompts multiplies all by one number.
#
# **The verdict.** *True under a condition: silent groups are replaced by groups of other prompts.* But "only the direction" is not
# "nothing":
#
# **A near miss.** "Silent groups pushed nothing, so to fill the batch with mixed ones changes nothing at all": the number is 1.


# %%
def nothing_changes(mu):
    return 1.0


check("filled-step", nothing_changes)

# %% [markdown]
# The step is longer, and the longer, the more groups are silent: a learning rate that changes as training goes on.
#
# ## 11.3 "A mean over tokens is a mean"
#
# A batch's loss is the sum of its tokens' losses, divided by something: the number of responses, or the number of tokens.
#
# **The question in a line.** Is the mean over a batch's tokens the same as a mean over responses?
#
# **Predict.** Up to a scale, of course. Or not? What does a short response's weight depend on?

# %%
explore.folded(find("token-mean").measured())

# %% [markdown]
# The cosine is *negative*: that step makes the reward smaller. In a batch of two, a response is divided by the tokens of both. The weight
# of each, for a response of two tokens, beside one of 2, of 8 or of 32:

# %%
{f"beside {other} tokens": round(2 / (2 + other), 3) for other in (2, 8, 32)}

# %% [markdown]
# So it counts less beside a long one, and long ones are always beside themselves. What becomes of lengths:

# %%
show("length-by-aggregation")

# %% [markdown]
# **The verdict.** *True under a condition: all responses are of one length.* Divide by a number that does not depend on what was drawn.
#
# ## 11.4 "Truncated ratios correct the mismatch"
#
# The engine that draws responses, $p_{old}$, and the trainer's policy $p$ differ a little. The ratio $\rho = p/p_{old}$ would correct it
# (lesson 8), but is noisy; so it is cut off at $C$.
#
# **The question in a line.** Does truncated importance sampling correct the mismatch between sampler and trainer?
#
# **Predict.** The mean of $\min(\rho, C)\, r \cdot \text{score}$: is it $\nabla\, \mathbb{E}_p[r]$? And if not, is it the gradient of
# anything?

# %%
explore.folded(find("tis-unbiased").measured())

# %% [markdown]
# In the world above every reward is $-2$, so nothing can be gained, and still it pushes. Then what does it ascend? The weight of a
# response with ratio $\rho$, for $C = 2$; and a function $g$ with $\rho\, g'(\rho) = \min(\rho, C)$, for $\nabla \rho$ is $\rho$ times
# the score.


# %%
def ascended(rho, C=2.0):
    return min(rho, C) + C * math.log(max(rho, C) / C)


{rho: {"weight": min(rho, 2), "g": round(ascended(rho), 3)} for rho in (0.5, 1, 2, 4, 8)}

# %%
derive("truncated-ratio")

# %% [markdown]
# **The verdict.** *True under a condition: no ratio exceeds $C$.* Beyond, a good response's gain grows like a logarithm. So it is a
# gradient, but of another objective. (*Masking*, which drops what exceeds $C$, stops growing there: `find("tis-or-masking")`.)
#
# ## 11.5 "The clip amplifies what is likely"
#
# In 2025 models became better at mathematics when they were trained with *random* rewards. One explanation: PPO's clip (lesson 7) is not
# symmetric, and strengthens what is likely already.
#
# **The question in a line.** Does PPO's clip amplify likely tokens under random rewards?
#
# **Predict.** The advantage is $+1$ or $-1$, by a coin. Does the mean update push the policy away from the old one, toward it, or
# nowhere?

# %%
explore.folded(find("random-rewards").measured())

# %% [markdown]
# Average over the coin first. For a clip of 0.2, what the surrogate is with heads, with tails, and on average:


# %%
def surrogates(rho, clip=0.2):
    clipped = min(max(rho, 1 - clip), 1 + clip)
    heads, tails = min(rho, clipped), min(-rho, -clipped)
    return {"heads": heads, "tails": tails, "mean": round((heads + tails) / 2, 3)}


{f"rho = {rho}": surrogates(rho) for rho in (0.5, 0.8, 1.0, 1.2, 1.5)}

# %% [markdown]
# Zero inside of the clip, and below zero outside of it, on both sides: the distance from the clip's range, halved. So to ascend it is
# to go *back*.

# %%
derive("random-rewards-clip")

# %% [markdown]
# **The verdict.** *False*, and published. The note says for what it is judged: a policy that does not depend on these coins. After
# several steps on one batch it does depend on them, and this measurement says nothing of that. A verdict holds for what was measured.
#
# ## 11.6 "A tie is half a win"
#
# **The question in a line.** Is a tie half a win?
#
# **Predict.** People (or judges) may say "equally good". Each tie is counted as half a win for both. Are the gaps of rewards, fitted by
# Bradley-Terry (lesson 3), too large, too small or right?

# %%
explore.folded(find("ties-halved").measured())

# %% [markdown]
# By Davidson's law, wins, losses and ties are as $e^{d/2} : e^{-d/2} : \nu$, with $d$ the gap. What half a win each makes of it:


# %%
def halved(d, nu):
    return round(math.log((math.exp(d / 2) + nu / 2) / (math.exp(-d / 2) + nu / 2)), 3)


{f"gap {d}": {f"nu = {nu}": halved(d, nu) for nu in (0, 1, 4)} for d in (0.5, 1, 2)}

# %% [markdown]
# **The verdict.** *False*: every gap shrinks, the more, the more ties there are. A tilt by the fitted reward is then too weak. (May one
# *drop* ties? That has a condition: `find("ties-dropped")`.)
#
# ## 11.7 Whose gradient is this?
#
# A dispute needs somebody who states the claim. Code states nothing. But a loss can be asked: it is differentiated on every batch that
# can be drawn, each with its probability, which gives its exact expected step. Then one looks for an objective that has it for its
# gradient.
#
# Three functions. (`logps` and `old_logps` hold log-probabilities of tokens, `mask` is 0 on padding, `advantages` one number a response.)
# The first adds up tokens:


# %%
def per_response(logps, advantages, mask):
    return -np.mean(np.sum(logps * advantages[:, None] * mask, axis=1))


# %% [markdown]
# The second divides by the tokens of the batch:


# %%
def per_token(logps, advantages, mask):
    return -np.sum(logps * advantages[:, None] * mask) / np.sum(mask)


# %% [markdown]
# The third is PPO's clip, "the better of the two":


# %%
def clipped(logps, old_logps, advantages, mask, clip_ratio=0.2):
    rho = np.exp(logps - old_logps)
    A = advantages[:, None]
    better = np.maximum(rho * A, np.clip(rho, 1 - clip_ratio, 1 + clip_ratio) * A)
    return -np.mean(np.sum(better * mask, axis=1))


# %% [markdown]
# **Predict.** One ascends $\mathbb{E}[r]$. One is *not the gradient of anything*. One is wrong, and nobody notices on the first step,
# where $\rho = 1$. Which is which?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# The sum ascends $\mathbb{E}[r]$. The mean over the batch's tokens is no gradient, *because* what a token counts depends on how long the
# others happen to be. The clip is wrong, *because* PPO takes the smaller of the two.
#
# </details>


# %%
def asked(function):
    """What a function is, what is wrong with it, what its expected step ascends."""
    stages = ("what it is", "what it does not change with", "what it ascends")
    found = audit(hand_in(function, Library()), stages=stages)
    ascends = {row.where: row.verdict.words for row in found.rows}
    return {"it is": str(found.nearest), "wrong": found.slips} | ascends


# %%
asked(per_response)

# %% [markdown]
# (On stale samples, without a ratio, it is imitation of the old responses, each weighed by what it was better than the mean.)

# %%
asked(per_token)

# %% [markdown]
# "Curl": along a small closed loop its steps do not add up to zero. On a hill one cannot walk in a circle and gain height, so there is no
# hill. No function of the policy has this step for its gradient, whatever number one divides by. (Where all responses have one length,
# there is one: the verdict of 11.3.)

# %%
asked(clipped)

# %% [markdown]
# On fresh samples it ascends $\mathbb{E}[r]$ like the first. Only on samples that have grown stale is it another step, and the word
# "better" is the slip: PPO takes the *smaller*, so that there is nothing to gain beyond the clip.
#
# In a terminal, `tabular-rlhf audit my_file.py:my_loss` asks the same of a function of yours, in numpy, torch or jax, and more: where its
# step leads, and how noisy it is.
#
# ## 11.8 Explore
#
# Does training sharpen, so that the model says the same right answer again and again? The Gibbs optimum keeps the odds between right
# answers; the gradient flow of reward alone does not. Go through the lines, with the buttons or the slider, and change $\beta$.

# %%
explore.derivation("sharpening")

# %% [markdown]
# ## 11.9 For the seminar
#
# Each takes one dispute, runs `find(slug).measured()`, and has ten minutes: the claim, the smallest world that refutes it, on the board
# by hand, and the condition. Good ones: `std-over-prompts`, `pass-at-k-centered`, `silent-kl`, `sampler-mismatch`, `prefix-outcome`,
# `old-data`, `k3-in-reward`, `distillation`, `micro-batch`, `eos-masked`, `mixed-people`, `pushed-down`.
#
# ## 11.10 Exercises
#
# Replace `...` and run the cell again. The names of the parameters are supplied for every world that the checker tries, with $P$ prompts,
# $N$ responses, $S$ states and $V$ tokens. (`p`, of shape `(P, N)`, are the responses' probabilities; `success`, of the same
# shape, is 1 for a right response and 0 for a wrong one.)
#
# **1. What a table of advantages ascends.** If $m$ of a group of `G` are right, $0 < m < G$, a right response has the advantage $A(m)
# =$ `credit_0` + `credit_1` $m$ + `credit_2` $m^2$, and wrong ones share what makes the sum zero; groups of one kind push nothing. The
# mean of one group's update, averaged over its members, is $w(u)\, \nabla u$. Return $w(u)$ for each prompt: shape `(P,)`.


# %%
def group_weight(p, success, G, credit_0, credit_1, credit_2):
    return ...


check("group-weight", group_weight)

# %% [markdown]
# **2. A batch without silent groups.** Prompts have probabilities `mu`, shape `(P,)`. Groups whose rewards are all equal are thrown away,
# and the batch is filled with groups of other prompts until all are mixed. With RLOO's advantages the mean update is then a number times
# $\nabla\, \mathbb{E}_{x \sim \mu}[u]$. Return that number: a scalar.


# %%
def filled_step(mu, p, success, G):
    return ...


check("filled-step", filled_step)

# %% [markdown]
# **3. What a truncated ratio ascends.** The policy has the law `p`, the old one `exp(log_p_2)`, both of shape `(P, N)`, with rewards `r`.
# Section 11.4's weights are $\min(\rho, C)\, r$, with $C =$ `cap`. For each prompt return the number whose gradient the mean push is, one
# that agrees with the mean reward as long as no ratio exceeds $C$: shape `(P,)`, reward units.


# %%
def truncated_objective(p, log_p_2, r, cap):
    return ...


check("truncated-objective", truncated_objective)

# %% [markdown]
# **4. PPO-clip under coin flips.** Responses are drawn from an old policy `log_pi_2`; the policy has moved to `log_pi`, both
# log-probabilities of tokens, of shape `(P, S, V)`. A fair coin gives all tokens of a response the advantage $+1$ or $-1$. Return the
# mean of PPO-clip's surrogate, summed over the tokens of a response, with range `clip`, for each prompt: shape `(P,)`.
# (`mdp.path_sum(x)` adds up a table of shape `(P, S, V)` along every response.)


# %%
def clip_pull(mdp, log_pi, log_pi_2, clip):
    return ...


check("clip-pull", clip_pull)

# %% [markdown]
# **5. Half a win for a tie.** Another law of ties, Rao and Kupper's: response $i$ beats $j$ with probability $1/(1 + \theta e^{-d})$,
# loses with probability $1/(1 + \theta e^{d})$, and ties otherwise; $d$ is `gaps`, of shape `(P, N, N)`, and $\theta$ is `tie_bar`.
# Each tie is counted as half a win for both. Return the gap that Bradley-Terry then fits, the log-odds of a win: shape `(P, N, N)`,
# nats.


# %%
def halved_ties(gaps, tie_bar):
    return ...


check("halved-ties", halved_ties)

# %% [markdown]
# **Six more, for another day.** `tabular-rlhf exercises SLUG` states them, and `check` knows them: `pass-share`, `max-rl-weight`,
# `sharpened-success`, `prefix-ratios`, `where-it-ends`, `entropy-drift`.
#
# ## Further reading
#
# - Liu et al. (2025), *Understanding R1-Zero-like training: a critical perspective*, arXiv:2503.20783: Dr. GRPO, without the
#   standard deviation and without a mean over tokens; 11.1 and 11.3.
# - Ahmadian et al. (2024), *Back to basics: revisiting REINFORCE-style optimization for learning from human feedback in LLMs*,
#   arXiv:2402.14740: RLOO, the baseline that is free.
# - Yu et al. (2025), *DAPO: an open-source LLM reinforcement learning system at scale*, arXiv:2503.14476: dynamic sampling, 11.2.
# - Shao et al. (2025), *Spurious rewards: rethinking training signals in RLVR*, arXiv:2506.10947: gains under random rewards, and the
#   explanation that 11.5 measures.
# - Davidson (1970), *On extending the Bradley-Terry model to accommodate ties in paired comparison experiments*: 11.6. Rao and Kupper
#   (1967) have the other law, of exercise 5.
