"""A small file of rollouts with its provenance: drawn, with a seed, from a policy whose answers are known exactly."""

from __future__ import annotations

import json

import numpy as np

from tabular_rlhf.language import Language
from tabular_rlhf.lattice import LatticeWorld, Soft, solve
from tabular_rlhf.lattice.draws import sample
from tabular_rlhf.machines import lattice, ngram, phrases, product
from tabular_rlhf.policy import zen

PROMPTS = ("Say something wise:", "Once more:")
SEED = 20


def world() -> LatticeWorld:
    """A bigram of real text over 40 tokens, rewarded for two words."""
    sentences = [s for s in zen() if s]
    words = sorted({w for s in sentences for w in s.split()})
    x = Language([*words, "."], 12, eos=".", prompts=PROMPTS)
    return lattice(x, product(x, [ngram(x, sentences, 1, 0.01), phrases(x, {"better": 1.0, "never": -0.5})]), beta=0.5)


def example_text(n: int = 32) -> str:
    """n responses of the Gibbs optimum to each of two prompts, drawn with the seed `SEED`, as JSON lines."""
    w = world()
    g: Soft = solve(w)
    drawn = sample(g, n * len(PROMPTS), rng=np.random.default_rng(SEED), tokens=True)
    lines = []
    for i, row in enumerate(drawn.tokens):
        tokens = [int(t) for t in row if t >= 0]
        state, logp, logp_ref = int(w.roots[drawn.x[i]]), [], []
        for h, t in enumerate(tokens):
            level = w.levels[h]
            logp_ref.append(float(level.log_ref[t, state]))
            logp.append(float(level.log_ref[t, state] + g.ratio(h)[t, state]))
            state = int(level.child[t, state])
        text = " ".join(w.language.vocabulary[t] for t in tokens)
        record = {"prompt": PROMPTS[drawn.x[i]], "tokens": tokens, "logp": logp, "logp_ref": logp_ref, "reward": float(drawn.r[i])}
        lines.append(json.dumps({**record, "text": text, "finish": "stop" if tokens[-1] == w.language.V - 1 else "length"}))
    return "\n".join(lines) + "\n"
