# %% [markdown]
# # 10. Capstone: RLHF end to end
#
# **The question.** Nine lessons took RLHF apart. Now we put it together: demonstrations, comparisons, a reward, a policy. *At the end
# something is missing to the best policy there is. Which stage lost it, how much, and could we have known beforehand?*
#
# First in a world of more than a million responses, in which every one of these numbers can be computed; then with nothing but a
# file of comparisons, as in life.

# %%
import json
import tempfile
from pathlib import Path

import numpy as np

import tabular_rlhf as tr
from tabular_rlhf import explore, selection
from tabular_rlhf.check import check
from tabular_rlhf.derivations import derive
from tabular_rlhf.figures import show
from tabular_rlhf.losses.optimum import minimize
from tabular_rlhf.preferencefile import read_preferences
from tabular_rlhf.preferences import Pairs, bradley_terry, population_pairs, sample_pairs
from tabular_rlhf.preferences.comparisons import wins_of
from tabular_rlhf.preferences.features import fit_features
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.projection import forward_projection
from tabular_rlhf.reports.preferences import analyse
from tabular_rlhf.simulator import Options, begin, simulate
from tabular_rlhf.simulator.algorithms import tallied
from tabular_rlhf.simulator.report import report
from tabular_rlhf.simulator.scoring import price_of_comparisons
from tabular_rlhf.simulator.stages import reward_model

# %% [markdown]
# **First, look.** What do more comparisons buy? Regret, what is missing to the best policy, against their number. Right: any policy is allowed;
# both roads go to zero, DPO with about four times as many comparisons, *because* it learns a number for each response where the reward model
# shares three. Left: the policy may not look at what it has said; then there is a floor that no data lower, because $p^*$ is not in the class.

# %%
show("regret-by-comparisons")

# %% [markdown]
# ## 10.1 The reference, and what people want
#
# The world of lesson 2: sentences of at most five tokens, sixteen words and a full stop. Everything that can be said, and the states in
# which a token is chosen:

# %%
zen = tr.zen_world()
{"responses": zen.mdp.N, "states": zen.mdp.S}

# %% [markdown]
# The reference $p_{ref}$ was estimated from a real text, by counting which word follows which. Five things that it says:

# %%
[
    zen.mdp.text(tau)
    for tau in tr.sample(zen, zen.log_p_ref, 5, rng=np.random.default_rng(1)).tau.tolist()
]

# %% [markdown]
# **What people want**, and we are not told: a reward $r$ that adds up points for words. Once "simple" or "beautiful" is 1, "explicit" 1/2,
# "complicated" $-1$, "never" $-1/2$. Write $\phi_k(\tau)$ (phi) for how often response $\tau$ says the $k$-th of these words, and
# $\theta_k$ (theta) for its points. Then $r(\tau) = \sum_k \theta_k\, \phi_k(\tau)$.

# %%
words, theta = (
    ("simple", "beautiful", "explicit", "complicated", "never"),
    np.array([1, 1, 0.5, -1, -0.5]),
)
phi = np.stack([zen.mdp.phrase_count(word) for word in words], axis=1)

# %%
np.array_equal(phi @ theta, zen.r[0])

# %% [markdown]
# **The optimum.** From lesson 4: with $\beta = 1/2$, the best policy tilts the reference, $p^* = p_{ref}\, e^{r/\beta} / Z$, where "best"
# means the largest $J(p) = \mathbb{E}_p[r] - \beta\, \mathrm{KL}(p, p_{ref})$. All of the 1,118,481 responses are added up.

# %%
best = tr.solve(zen)

# %% [markdown]
# **Exact numbers.** Every policy of this lesson gets the same line: the reward that people enjoy, the distance from the reference, $J$,
# and the **regret**, $\max J - J$, what is missing to the best.


# %%
def told(log_p, world=zen):
    reward, KL = float(tr.expect(log_p, world.r)[0]), float(tr.kl(log_p, world.log_p_ref)[0])
    numbers = {
        "reward": reward,
        "KL": KL,
        "J": reward - world.beta * KL,
        "regret": float(tr.regret(log_p, world)),
    }
    return {name: round(number, 4) for name, number in numbers.items()}


{"reference": told(zen.log_p_ref), "p*": told(best.log_p)}

# %% [markdown]
# So there are 0.4473 reward units to be gained. Why is the regret so useful? Because it is a distance.
#
# **The derivation.** (From lesson 4, on a world of three responses. With it we can say what is missing to $p^*$ without knowing $J$.)

# %%
derive("regret-is-kl")

# %% [markdown]
# **A near miss.** "What people lose is the reward that they do not get, $\mathbb{E}_{p^*}[r] - \mathbb{E}_p[r]$."

# %%
check(
    "regret-is-kl", lambda log_p, log_p_star, r: tr.expect(log_p_star, r) - tr.expect(log_p, r)
)

# %% [markdown]
# A policy may get more reward than $p^*$ and be worse, if it has gone too far for it. In this lesson that is going to happen.
#
# ## 10.2 Stage one: demonstrations
#
# Somebody shows us what is good: 64 responses, drawn from $p^*$ (who could do better?). We imitate them, as in lesson 2, by maximum
# likelihood: we count. But *what* is counted? A **table** has a row for each of the 69,905 states, and 64 sentences pass through few of
# them. A **bigram** policy shares rows: all states that end with the same word have one, as in the reference itself. (From lesson 5: the
# bigram policy that is likeliest for some data is the forward projection of their law.)


# %%
def counted(n):
    """The table counted in n demonstrations, and a response of p_ref: all is possible."""
    return begin(zen, Options(algorithm="sft+rloo", demonstrations=n)).log_p


def shared(log_p):
    """The bigram policy with the same counts."""
    return forward_projection(tr.NGram(zen.mdp, 1), log_p).log_p


# %% [markdown]
# The table from 64 demonstrations; then bigrams from 64, 1,000 and 16,000.

# %%
{"table": told(counted(64))} | {n: told(shared(counted(n))) for n in (64, 1000, 16000)}

# %% [markdown]
# With 64 demonstrations both get most of the reward of $p^*$, and both are *worse than the reference*: they have learned these
# sentences by heart instead of the art of writing them, and pay for it in KL. Shared rows learn the art from some thousands. And what
# sharing costs for ever can be predicted: endless demonstrations lead to the projection of $p^*$ itself.

# %%
told(shared(best.log_p))["regret"]

# %% [markdown]
# Next to nothing. So demonstrations would do, if one had thousands, of an expert as good as $p^*$. Usually one has neither.
#
# ## 10.3 Stage two: comparisons
#
# Now people only compare. The reference writes two responses, and they prefer the first with probability $\sigma(r_1 - r_2)$, the law
# of lesson 3. We buy $n = 2000$ such comparisons.

# %%
n = 2000
pairs = sample_pairs(zen, bradley_terry(zen.r), n, rng=np.random.default_rng(3))

# %% [markdown]
# **Predict.** 2,000 comparisons, a reward for every response, the exact optimum for it. Will people like the policy better than the
# reference?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# Much less: its regret is five times that of the reference, *because* most responses that were compared at all met only once; to have won
# once is luck, and the policy goes where the luck was.
#
# </details>
#
# **A reward for each response.** The reward model of lesson 3, with a weak prior (rewards normal, standard deviation 10 nats) so that
# a maximum exists. Then the exact optimum for this $\hat r$, and what *people* think of it:

# %%
r_table = reward_model(zen, pairs, prior=10.0)
told(tr.solve(zen.with_reward(r_table)).log_p)

# %% [markdown]
# A disaster: a regret five times that of the reference, which cost nothing. How many responses has anybody seen?

# %%
_, times = np.unique(np.concatenate([pairs.w.ravel(), pairs.l.ravel()]), return_counts=True)
{"compared": len(times), "only once": int(np.sum(times == 1)), "never": zen.mdp.N - len(times)}

# %% [markdown]
# Nothing was learned about those never compared. And most of the others met only once. To win once is luck, but to the fit it is merit,
# many nats of it; only the prior holds it. The policy goes where the luck was. (Section 10.5 will look at it more closely.)
#
# **A reward for each word.** Again rows must be shared. Suppose that $\hat r = \sum_k \hat\theta_k\, \phi_k$: five numbers, which every
# comparison tells something about. Maximum likelihood as before, and the same standard errors, from the curvature.

# %%
fitted = fit_features(pairs.w.ravel(), pairs.l.ravel(), phi)
{
    word: {"points": float(true), "fitted": round(guess, 3), "standard error": round(error, 3)}
    for word, true, guess, error in zip(
        words, theta, fitted.theta.tolist(), fitted.standard_errors.tolist(), strict=True
    )
}

# %%
r_words = (phi @ fitted.theta)[None]
p_hat = tr.solve(zen.with_reward(r_words)).log_p
told(p_hat)

# %% [markdown]
# **Could we have known?** Let $\delta = \hat r - r$ (delta) be the error of the fit. The policy is then the tilt $\hat p \propto p^* e^f$
# with $f = \delta/\beta$, and $\mathrm{KL}(\hat p, p^*) = \mathbb{E}_{\hat p}[f] - \log \mathbb{E}_{p^*}[e^f]$. For small $f$ the first
# term is about $\mathbb{E}_{p^*}[f] + \mathrm{Var}_{p^*}(f)$, the second about $\mathbb{E}_{p^*}[f] + \mathrm{Var}_{p^*}(f)/2$. The
# difference is half a variance, so
#
# $$\text{regret} = \beta\, \mathrm{KL}(\hat p, p^*) \approx \frac{\mathrm{Var}_{p^*}(\delta)}{2 \beta} .$$
#
# Here $\delta = \sum_k (\hat\theta_k - \theta_k)\, \phi_k$. Errors of $\hat\theta$ have, from lesson 3, mean 0 and covariance
# $\mathcal{I}^{-1}/n$, with $\mathcal{I}$ the Fisher information of one comparison. Let $C$ be the covariance of the $\phi_k$ under $p^*$.
# Then $\mathrm{Var}_{p^*}(\delta)$ is a quadratic form in the errors, with matrix $C$, and on average
#
# $$\mathbb{E}[\text{regret}] \approx \frac{\mathrm{tr}(C\, \mathcal{I}^{-1})}{2 \beta n} ,$$
#
# where $\mathrm{tr}$ adds up the diagonal. To compute $\mathcal{I}$ we need all *pairs* of a million responses. But people see only
# five counts. So put responses with equal counts into one class, which has their probability together. Rewards, KLs and regrets
# of all tilts by words stay what they were.

# %%
_, first, class_of = np.unique(
    phi @ 6.0 ** np.arange(5), return_index=True, return_inverse=True
)
p_class = np.bincount(class_of, np.exp(zen.log_p_ref[0]))
classes = tr.World(
    tr.TokenMDP(len(first), horizon=1),
    np.log(p_class)[None, None],
    zen.r[:, first],
    zen.beta,
    name="classes",
)

# %%
{"classes": classes.mdp.N, "p*": told(tr.solve(classes).log_p, classes)}

# %% [markdown]
# All comparisons of two classes, each with its probability as weight (`tallied` leaves out those of a class with itself), give
# $\mathcal{I}^{-1}$; the optimum gives $C$:

# %%
everything = tallied(population_pairs(classes, bradley_terry(classes.r)), classes)
one = fit_features(everything.w, everything.l, phi[first], weight=everything.weight)
C = np.cov(phi[first].T, aweights=tr.solve(classes).p[0], ddof=0)

# %%
predicted = float(np.trace(C @ one.covariance)) / (2 * zen.beta * n)

# %% [markdown]
# And forty studies, each of 2,000 new comparisons:


# %%
def study(rng):
    asked = sample_pairs(classes, bradley_terry(classes.r), n, rng=rng)
    guess = fit_features(asked.w.ravel(), asked.l.ravel(), phi[first]).theta
    return float(
        tr.regret(tr.solve(classes.with_reward((phi[first] @ guess)[None])).log_p, classes)
    )


studies = np.array([study(np.random.default_rng(seed)) for seed in range(40)])

# %%
{
    "predicted": round(predicted, 4),
    "mean of the studies": round(float(np.mean(studies)), 4),
    "its standard error": round(float(np.std(studies, ddof=1)) / 40**0.5, 4),
    "least and most": [round(float(f(studies)), 4) for f in (np.min, np.max)],
}

# %% [markdown]
# We could have known, before asking anybody. The regret falls like $1/n$, not like $1/\sqrt{n}$: near an optimum, mistakes cost their
# square.
#
# The picture at the top is the same on a smaller world, whose reward adds up three counts (15 responses). On the right, the policy is a table. Squares: the reward
# is fitted to the three counts, then the tilt. Rings: DPO, whose implicit reward has a number for each response. Both approach their
# asymptotes in $1/n$, and not to share costs four times as many comparisons. (Where some data sets had no finite fit, it says how many
# had one, and shows no mean.)
# On the left, the policy is not allowed to look at what it has said. Then no number of comparisons leads to $p^*$; and DPO, whose
# reward must fit into this class too, ends up farther away (lesson 5's roads).
#
# ## 10.4 Stage three: the policy
#
# From $\hat r$ to a policy there are three roads. The first is to *compute* the tilt, which we have just done; real models cannot. The
# second is to *select*: lesson 9's rejection sampling draws from $\hat p$ exactly, without any training, at the price of draws
# thrown away.

# %%
made = selection.rejection_sample(zen.with_reward(r_words), 5, rng=np.random.default_rng(4))
{
    "draws for one": round(1 / selection.acceptance(zen.with_reward(r_words)).item()),
    "said": [zen.mdp.text(t) for t in made.tau.tolist()],
}

# %% [markdown]
# (So many, because the probability of acceptance, $e^{(\hat r - \max \hat r)/\beta}$, must not exceed 1 even for the best of all, which is
# "beautiful" five times. And some of these are hardly sentences: people asked for words, and $\beta$ alone asks for sentences.)
#
# The third is to *train*, by lesson 7: draw groups from the policy, ascend. Eight large steps of RLOO in a table, each with 512 groups of
# 4, from the reference; $\hat r$ is what it is told to raise.

# %%
run = simulate(
    zen.with_reward(r_words), Options(algorithm="rloo", steps=8, batch=512, lr=4.0, seed=5)
)[0]

# %%
{
    "reference": told(zen.log_p_ref),
    "8 steps": told(run.log_p),
    "its limit": told(p_hat),
    "best": told(best.log_p),
}

# %% [markdown]
# Now we can say who lost what. Of the 0.4473 that were to be gained, the comparisons have cost 0.0120. All else that is missing after
# eight steps, about 0.2, is training not yet done. More comparisons would not help; more steps would.
#
# **The sampled check.** None of these sums can be done for a real model. One draws, and looks at $g = r - \beta \log (p/p_{ref})$, whose
# mean is $J$. Ten thousand draws of $\hat p$, beside all responses:

# %%
g = zen.r - zen.beta * (p_hat - zen.log_p_ref)
everyone, drawn = (
    tr.population(zen, p_hat),
    tr.sample(zen, p_hat, 10_000, rng=np.random.default_rng(0)),
)
exact, sampled = [tr.estimate(data, data[g]) for data in (everyone, drawn)]

# %%
{"J": round(exact.mean, 4), "sampled": round(sampled.mean, 4), "z": round(sampled.z(exact), 2)}

# %% [markdown]
# **All stages, predicted beside measured.** On the world of the derivation (three responses, $\beta = 1$) a table is enough, and training
# gets to its end. The simulator runs everything eight times, with demonstrations and 2,000 comparisons of its own each time, and scores
# every stage exactly. Means over the eight:


# %%
def stages(algorithm, **options):
    found = report(simulate(tr.rational(), Options(algorithm=algorithm, seeds=8, **options)))
    return {
        row["name"]: {name: round(row[name], 5) for name in ("kl", "J", "regret")}
        for row in found["rows"]
    }


stages("sft+rm+rloo", steps=150)

# %% [markdown]
# Read it from above. The reference; imitation of 64 demonstrations; the best policy for the fitted reward; where RLOO arrived, from the
# imitation, by sampled batches; where the same steps arrive without the noise of batches; where they are predicted to lead, which is the
# best policy for the fitted reward again; and the best for people. The predicted regret of 2,000 comparisons is

# %%
round(price_of_comparisons(tr.rational(), 2000).mean, 5)

# %% [markdown]
# on average; 0.00094 was measured. Nothing was lost after that: the batches are small, but with the KL in the reward all of RLOO's
# advantages vanish at the optimum, and their noise with them. **Without a reward model**, DPO goes from comparisons straight to the
# policy. In a table its implicit reward *is* the fitted one (lesson 6), so its price must be the same. (Its comparisons are drawn anew;
# "exact ascent" has endless ones.)

# %%
stages("dpo", steps=150)

# %% [markdown]
# ## 10.5 Over-optimization, end to end
#
# **Predict.** Let training be bolder and bolder, $\beta$ from 32 to 1/2, on that reward model. What will the program's own dashboard
# show, and what the people?
#
# <details><summary>Unfold when you have an answer.</summary>
#
# The dashboard only progress; people gain a tenth of it, *because* the policy goes where the error of the reward is largest: that is what
# being selected by it means.
#
# </details>
#
# Back to the reward model that had a number for each response. Nothing was wrong with the people, and the fit is the likeliest one. Let
# $\beta$, which we choose for training, run from careful to bold. *Proxy* is what the program reports: by how much $\mathbb{E}_p[\hat r]$
# has risen since the reference. *Real* is by how much people's reward has. $J$ is measured with the world's own $\beta = 1/2$.


# %%
def pushed(r_hat, beta):
    log_p = tr.solve(zen.with_reward(r_hat).at(beta)).log_p
    proxy, real = [
        float((tr.expect(log_p, f) - tr.expect(zen.log_p_ref, f))[0]) for f in (r_hat, zen.r)
    ]
    return {"proxy": round(proxy, 3), "real": round(real, 3), "J": told(log_p)["J"]}


# %%
{f"beta = {beta}": pushed(r_table, beta) for beta in (32, 16, 8, 4, 2, 1, 1 / 2)}

# %% [markdown]
# The proxy rises and rises. At $\beta = 1/2$ the program reports a gain of 5.6, of which nine tenths are an illusion. $J$ was highest at
# $\beta = 4$, eight times too careful, and even there at 0.2951, when 0.6763 could be had. Now the reward of words:

# %%
{f"beta = {beta}": pushed(r_words, beta) for beta in (4, 2, 1, 1 / 2, 1 / 4)}

# %% [markdown]
# All of the progress is real (a little more than was reported, since this fit happens to underrate), and $J$ is highest where it should
# be, at the world's own $\beta$. The last line is a warning of another kind: with real rewards, too, one can go too far.
#
# Over-optimization is not a fault of the optimizer. It is the error $\delta = \hat r - r$ *where the policy goes*; while that is small, by
# $\mathrm{Var}(\delta)/(2 \beta)$. So there are two remedies: a better reward, or a larger $\beta$.
#
# ## 10.6 A preference file
#
# In life there is no $r$ and no $p^*$, there is a file: one comparison a line, in JSON. We make a small one. People were shown two of
# four maxims, twenty times each pair; `votes` says how often each won.

# %%
compared_with = {"simple": "complex", "beautiful": "ugly", "flat": "nested", "now": "never"}
maxims = [f"{good} is better than {bad}" for good, bad in compared_with.items()]
votes = {
    (0, 1): (11, 9),
    (0, 2): (14, 6),
    (0, 3): (16, 4),
    (1, 2): (13, 7),
    (1, 3): (14, 6),
    (2, 3): (12, 8),
}


# %%
def line(prompt, chosen, rejected, weight=1):
    return json.dumps(
        {"prompt": prompt, "chosen": chosen, "rejected": rejected, "weight": weight}
    )


def both(i, j):
    return [
        line("Advise me.", maxims[a], maxims[b], votes[i, j][k])
        for k, (a, b) in enumerate([(i, j), (j, i)])
    ]


# %% [markdown]
# Another prompt has few comparisons, and in one line somebody forgot what was rejected.

# %%
few = {("yes", "no"): 2, ("yes", "perhaps"): 3, ("no", "perhaps"): 1, ("perhaps", "no"): 2}
lines = [text for pair in votes for text in both(*pair)]
lines += [line("Be brief.", *pair, weight) for pair, weight in few.items()] + [
    '{"prompt": "Be brief.", "chosen": "yes"}'
]

# %% [markdown]
# Write them to a file, and read it back. Nothing is dropped in silence:


# %%
def written_and_read(lines):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "preferences.jsonl")
        file.write_text("\n".join(lines), encoding="utf-8")
        return read_preferences(file)


found = written_and_read(lines)

# %%
{
    "lines": found.lines,
    "faults": [f"line {fault.line}: {fault.reason}" for fault in found.faults],
}

# %% [markdown]
# Then everything at once: rewards by Bradley-Terry, 95 percent intervals from the curvature, and policies. (On the command line:
# `tabular-rlhf fit preferences.jsonl`.) For the reference we take what the writer of section 10.1 says, among the responses compared.


# %%
def log_reference(text):
    return zen.log_p_ref[0, zen.mdp.find(text)] if text in maxims else 0.0


fits = analyse(
    found, betas=(0.5,), log_ref=np.array([log_reference(text) for text in found.responses])
)
advise, brief = fits["prompts"]

# %%
{
    row["response"]: {
        "reward": round(row["reward"], 3),
        "interval": [round(end, 3) for end in row["interval"]],
    }
    for row in advise["responses"]
}

# %% [markdown]
# **What the data do not determine.** (1) The mean of the rewards: it was set to 0, and no policy depends on it. (2) All that was never
# compared: here a million other sentences. A policy for *these four* follows, nothing more. (3) Anything about people who are not of
# Bradley and Terry's kind. But that can be tested: by how many nats are the six win rates missed, and by how many would chance
# miss them?

# %%
{name: round(advise["intransitivity"][name], 3) for name in ("nats", "by_chance", "p_value")}

# %% [markdown]
# No objection. (4) In the other prompt more is missing:

# %%
{
    row["response"]: {"won": row["wins"], "lost": row["losses"], "standing": row["standing"]}
    for row in brief["responses"]
}

# %% [markdown]
# "Yes" never lost. So there is no likeliest reward for it (lesson 3's theorem), and DPO would push it to infinity (lesson 6). The
# honest answer is none. Or a prior, with a name and a number; here, rewards are normal with variance 1:

# %%
with_prior = analyse(found, betas=(0.5,), prior=1.0)["prompts"][1]
{
    row["response"]: {"reward": round(row["reward"], 2), "policy": round(row["policy"][0], 3)}
    for row in with_prior["responses"]
}

# %% [markdown]
# **The policy it gives.** For the maxims, at $\beta = 1/2$: the tilt of the reference (the four happen to be equally likely in it) by the
# fitted rewards.

# %%
{
    row["response"]: {"p_ref": round(row["p_ref"], 3), "policy": round(row["policy"][0], 3)}
    for row in advise["responses"]
}

# %% [markdown]
# DPO gives the same, from the comparisons and without any reward. A world of the four responses, the comparisons, the minimum of the loss:

# %%
four = [
    {key: row[key] for key in ("p_ref", "reward", "policy")} for row in advise["responses"]
]
log_ref, r_hat = (
    np.log([[[row["p_ref"] for row in four]]]),
    np.array([[row["reward"] for row in four]]),
)
maxim_world = tr.World(
    tr.TokenMDP(compared_with, horizon=1), log_ref, r_hat, beta=0.5, name="maxims"
)

# %%
ours = found.of[found.w] == 0
compared = Pairs(
    np.zeros(ours.sum(), dtype=int),
    found.w[ours],
    found.l[ours],
    found.weight[ours] / 120,
    120,
)
dpo = np.exp(minimize("dpo", maxim_world, compared).log_p[0])

# %%
float(np.max(np.abs(dpo - [row["policy"][0] for row in four]))) < 1e-8

# %% [markdown]
# **How sure is the policy?** The odds of "simple" against "beautiful" are $e^{(\hat r_1 - \hat r_2)/\beta}$. `relative_to` of lesson 3
# gives the difference and its standard error; the normal law has 95 percent between $-1.96$ and $1.96$ of them.

# %%
gaps, errors = fit(wins_of(compared, 0, maxims)).relative_to(1)
ends = [gaps[0] + z * errors[0] for z in (-1.96, 0, 1.96)]
{
    "difference": [round(float(gap), 3) for gap in ends],
    "odds": [round(float(np.exp(gap / 0.5)), 2) for gap in ends],
}

# %% [markdown]
# "Simple" comes 1.74 times as often, or half as often, or six times as often: 120 comparisons do not tell. With a larger $\beta$ the same
# $\hat r$ makes a policy that is less bold, and less wrong.
#
# **What to remember**, at the end of the course. (1) Everything that a stage loses is one number, $\beta\, \mathrm{KL}(p, p^*)$. (2) What
# the comparisons will cost can be known before they are made, and falls like $1/n$, if the reward shares what it learns. (3) If it does
# not share, the policy goes to where the fit was lucky, and the program's own curve will not tell. (4) Data leave things open. Say which.
#
# ## 10.7 Explore
#
# The four maxims with their fitted rewards. *Try this.* (1) Move $\beta$ down from 0.5 until "simple" has nine tenths. Would you ship that
# policy, after 120 comparisons? (2) Back at 0.5, move the reward of "beautiful" to the upper end of its interval. Who leads?

# %%
explore.tilt(maxim_world)

# %% [markdown]
# <details><summary>Unfold when you have an answer.</summary>
#
# (1) At 0.12. Nothing but boldness says so: the interval of the difference still contains 0. (2) "Beautiful", at 0.7.
#
# </details>
#
# And why DPO's policy for the file had to be the same, line by line (from lesson 6):

# %%
explore.derivation("dpo-loss")

# %% [markdown]
# ## 10.8 Exercises
#
# Replace `...` and run the cell again. The names of the parameters are supplied for every world that the checker tries; arrays over
# responses have the shape `(P, N)`, for $P$ prompts and $N$ responses. Together the five are RLHF.
#
# **1. Learn the reward.** `wins_ring[x, i, j]` is how often response $i$ to prompt $x$ beat $j$, of shape `(P, N, N)`; what stands on the
# diagonal tells nothing. A chain of wins leads from every response to every other. Return the likeliest Bradley-Terry rewards
# $\hat r$: shape `(P, N)`, nats, to four decimals. (A constant for each prompt is free. At the fit, every response has as many wins as
# expected: Newton's method.)


# %%
def fitted_reward(wins_ring):
    return ...


check("fitted-reward", fitted_reward)

# %% [markdown]
# **2. From reward to policy.** `scores` is a fitted reward $\hat r$. Return the policy $\pi(a \mid s)$, token by token, whose implicit
# reward $\beta \log (p/p_{ref})$ is $\hat r$ up to a constant for each prompt: shape `(P, S, V)`, every row summing to one.
# (`mdp.subtree_sum(x)` adds up a table over the responses through each state and token.)


# %%
def shipped_policy(mdp, p_ref, scores, beta):
    return ...


check("shipped-policy", shipped_policy)

# %% [markdown]
# **3. What the fit has cost.** We trained $\hat p \propto p_{ref}\, e^{\hat r/\beta}$ with `scores` for $\hat r$; people's reward is `r`,
# and `mu` is the distribution of prompts. Return the regret of $\hat p$ under `r`, averaged over prompts: a scalar, reward units.


# %%
def training_regret(mu, beta, log_p_ref, scores, r):
    return ...


check("training-regret", training_regret)

# %% [markdown]
# **4. How much of the progress is real?** We optimized a measured reward `proxy`, so the policy is $p \propto p_{ref}\, e^{proxy/\beta}$.
# Return by how much the rise of the proxy from the reference to $p$ exceeds that of `r`, for each prompt: shape `(P,)`, reward units.


# %%
def illusory_gain(log_p_ref, proxy, r, beta):
    return ...


check("illusory-gain", illusory_gain)

# %% [markdown]
# **5. Sampled against exact.** `r_drawn` holds the rewards of $n$ responses drawn from $p$, `log_ratio` their $\log (p/p_{ref})$, both
# of shape `(n,)`. Return the estimate of $J$ and its standard error (with $n - 1$ in the variance): shape `(2,)`, reward units.


# %%
def estimated_objective(r_drawn, log_ratio, beta):
    return ...


check("estimated-objective", estimated_objective)

# %% [markdown]
# ## Further reading
#
# - Stiennon et al. (2020), *Learning to summarize from human feedback*, arXiv:2009.01325: this lesson's pipeline at scale, and a policy
#   that people like less the more its reward model likes it.
# - Bai et al. (2022), *Training a helpful and harmless assistant with reinforcement learning from human feedback*, arXiv:2204.05862:
#   reward grows about linearly with the square root of the KL, for as long as the reward model can be trusted.
# - Ouyang et al. (2022), *Training language models to follow instructions with human feedback*, arXiv:2203.02155: demonstrations,
#   comparisons, PPO, in this order; labelers prefer a model of 1.3 billion parameters so trained to one of 175 billion that was not.
# - Korbak, Perez and Buckley (2022), *RL with KL penalties is better viewed as Bayesian inference*, arXiv:2205.11275: the tilt is a
#   posterior and the objective a distance to it, section 10.1.
# - Gao, Schulman and Hilton (2023), *Scaling laws for reward model overoptimization*, arXiv:2210.10760: section 10.5 with a large reward
#   model in the part of the people.
# - Rafailov et al. (2023), *Direct preference optimization: your language model is secretly a reward model*, arXiv:2305.18290: the
#   shortcut from the file to the policy, section 10.6.
# - Zhu, Jordan and Jiao (2023), *Principled reinforcement learning with human feedback from pairwise or K-wise comparisons*,
#   arXiv:2301.11270: what a reward linear in features, fitted to comparisons, costs in regret, and why to be pessimistic.
