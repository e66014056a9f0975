"""Every JSON object that the house writes: `schema` names its kind and version, `HEAD` begins it, and here is what follows.

JSON has no infinity and no nan: both are strings, "inf", "-inf" and "nan".  null means that there is none.  A checked number is
{"exact", "sampled", "standard_error" (the sample's, exactly), "z", "n"}.  Keys may be added under one version; none changes its meaning.
"""

from __future__ import annotations

HEAD = {
    "schema": "kind and version of the object",
    "version": "of the package",
    "seed": "of all draws; null where nothing is drawn",
    "command": "what prints this object again",
}
"""What an object on stdout, or of --out, begins with.  (The figures' data and the page's are made from the source alone.)"""
_WORLD = {"world": "its name", "beta": "KL weight, in reward units per nat"}

SCHEMAS: dict[str, dict[str, str]] = {
    "tabular-rlhf/verify/1": {
        "worlds": "generated worlds asked for",
        "holds": "whether every row and derivation holds",
        "seconds": "of the whole audit",
        "rows": "claims: slug, chapter, holds, worlds, error (in roundings allowed), z, near_misses; of --list: statement, source",
        "derivations": "slug, chapter, holds, worlds, lines, error, wrong_lines; of --list: title, source",
        "disputes": "as of disputes/1; of --list: slug, theme, question, source",
        "prints": "of --prints: executed, of, others (slug, line, tex, agrees, reason): what is printed and is not what runs",
    },
    "tabular-rlhf/disputes/1": {
        "disputes": "slug, theme, question, source, links, published, rows, caught, verdict, holds (the verdict is the expected one), "
        "claim and under (or null): says, formula, relation, worlds, holds, counterexample (responses, left, right, symbols; or null)",
    },
    "tabular-rlhf/explain/1": {
        "rows": "claims worked out: statement, printed (executed as it stands), world, sides, parts, tiny_worlds, near_misses"
    },
    "tabular-rlhf/derive/1": {
        "derivations": "of the list: slug, chapter, title, lines",
        "slug": "the derivation's name",
        "title": "in words",
        "chapter": "of the course",
        "source": "paper or book",
        "world": "where it was executed",
        "responses": "of that world",
        "worlds": "on which every relation was tried",
        "instance": "the world on which a line breaks, with its numbers, or null",
        "rows": "claims of the ledger that it proves",
        "broken": "number of the first line that does not follow, or null",
        "holds": "whether every line follows",
        "letters": "what letters mean: those that are not in `symbols`; in a derivation of your own, all",
        "mended": "of a derivation of your own: what would make its broken line hold; or empty",
        "unread": "of a derivation of your own: formulas within sentences, which were not read",
        "steps": "lines: number, tex, mark, relation, reason, entries (label, value), error, ok, source (of yours), printed",
    },
    "tabular-rlhf/check/1": {
        "ok": "whether the answer is right",
        "slug": "of what was asked",
        "part": "of a row with several",
        "status": "right, wrong, raises, nan, shape, mutates, random, slow, names or unanswered",
        "told": "one sentence",
        "worlds": "on how many it was tried",
        "ruled_out": "wrong answers that it is not",
        "notes": "sentences",
        "diagnosis": "what a wrong answer looks like, or null",
        "compared": "on how many worlds the diagnosis was compared",
        "share": "of the points, of a derivation that breaks: its steps up to there",
        "counterexample": "the smallest world on which it fails: responses, world, symbols, entries, yours, exact; or null",
    },
    "tabular-rlhf/exercises/1": {"exercises": "slug, chapter, notebook, title, statement, signature, hint, free, minutes, rows, without"},
    "tabular-rlhf/formula/1": {
        **_WORLD,
        "read_as": "the formula in plain typing",
        "latex": "the formula as it was read",
        "axes": "what the value is a table of",
        "assumed": "what each letter was taken for",
        "value": "a number, or nested lists over the axes",
        "equals": "printed lines of derivations with the same value on every world tried",
        "misses": "where it equals none: change, slip, equals: the smallest slip by which it misses some; or null",
    },
    "tabular-rlhf/formulas/1": {"world": "its name", "formulas": "kind, latex, about, read_as, axes, value"},
    "tabular-rlhf/symbols/1": {"symbols": "name, level, meaning, shape, axes, unit, spellings, drawn"},
    "tabular-rlhf/solve/1": {
        "world": "vocabulary, horizon, eos, prompts, mu, beta, responses, states, forbidden_responses of each prompt, reward_range",
        "notes": "how the reference's text was read, a sentence each",
        "samples": "draws for each check",
        "totals": "log_Z, V, kl, J, rewards and regret, averaged over prompts: checked numbers",
        "prompts": "the same for each prompt",
        "first_tokens": "the likeliest: token, value, p_ref, p_star",
        "responses": "the likeliest before and after, probabilities given the prompt",
        "frontier": "beta (from 0 to inf), reward, kl, V",
        "checks": "how many numbers were sampled, and their largest |z|",
    },
    "tabular-rlhf/losses/1": {
        **_WORLD,
        "losses": "name, latex, source, traits, settings, optimum, value, p, kl_to_gibbs, regret, noise, ... of each",
    },
    "tabular-rlhf/fit/1": {
        "lines": "of the file",
        "comparisons": "lines that were used",
        "malformed": "line and reason of each",
        "same": "lines with two equal responses",
        "blank": "lines",
        "betas": "KL weights of the policies",
        "level": "of the intervals",
        "prior": "variance of a reward, or null",
        "reference": "uniform or given",
        "totals": "over prompts: finite_maximum, unbounded, free, intransitivity",
        "prompts": "responses with reward, standard_error, interval, wins, losses and policy, and what is not determined",
    },
    "tabular-rlhf/advantage/1": {
        "world": "its name",
        "responses": "of all prompts",
        "reward_levels": "different rewards",
        "lengths": "of responses",
        "group": "responses of a group",
        "old": "who draws the groups",
        "moved": "how far the updated policy is from it",
        "kl_moved": "the same in nats",
        "silent": "probability of a group of equal rewards",
        "about": "the named record, or null",
        "rows": "recipes: cosine, ratio, variance, responses, curl, ascends, terms, residual, refused",
        "success": "of an advantage, with 0/1 rewards: q, weight, objective",
    },
    "tabular-rlhf/kl/1": {
        **_WORLD,
        "samples": "draws of each check",
        "kl": "KL(pi, ref) where the flags are measured, in nats",
        "rows": "flags: mean, sampled, z, bias, std, negative, cosine, share, noise, descends, optimum, and reward, KL and regret there",
    },
    "tabular-rlhf/run/1": {
        **_WORLD,
        "options": "of the run",
        "core": "name, summary, source, kl, kl_coef, lr",
        "steps_done": "updates of the policy",
        "rows": "stages: reward, proxy, kl, J, regret, sd over seeds, distance from where it is predicted to lead",
        "destination": "where it is predicted to lead, in words, or null",
        "chance": "what chance does to the regret: comparisons, steps",
        "curves": "step, reward, proxy, kl, J, regret of each seed",
        "exact": "the same of the exact ascent",
        "exact_missing": "why there is none, or null",
        "frontier": "kl and reward of Gibbs laws",
    },
    "tabular-rlhf/grade/2": {
        "submission": "name, sha256, imports",
        "points": "reached",
        "out_of": "points that can be had",
        "exercises": "slug, status, points, out_of, and why",
        "limits": "of one answer",
        "containment": "layer, force and how",
    },
    "tabular-rlhf/bench/1": {
        "quick": "whether trees were small",
        "repeats": "turns of each runner",
        "pinned": "whether one core did it all",
        "machine": "processor, system and libraries",
        "rows": "workloads: case, seconds, ratio and peak_bytes by library, bars",
        "limits": "import time and memory",
    },
    "tabular-rlhf/index/1": {"words": "that were looked for", "found": "kind, name, says, and the command or module to read more"},
    "tabular-rlhf/figure/1": {"name": "of the figure", "caption": "in words", "rows": "claims that it shows", "data": "what is drawn"},
    "tabular-rlhf/page/1": {"tilt": "a section", "flags": "a section", "zoo": "a section", "derivation": "a section"},
}
"""By schema: what each key of an object holds.  (`run/1` is also the header of a saved run, which `run --resume` reads.)"""
