r"""Group estimators of today as they are coded, each on groups of 0/1 rewards (M, G), and batches that drop silent groups.

**Symbols.**  m, how many of a group are right; k of pass@k; a group is *mixed* if it holds both a right and a wrong response.

Sources: Tajwar et al. (2026), arXiv:2602.02710 (MaxRL); pass@k, arXiv:2505.15201; dynamic sampling, arXiv:2503.14476.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from tabular_rlhf.logspace import Array
from tabular_rlhf.policy_gradient.batches import often
from tabular_rlhf.policy_gradient.bernstein import all_groups

RIGHT = "let some response be right, and some wrong"


def over_mean(right: Array) -> Array:
    """r over the group's mean, 0 where nobody is right: (M, G).

    >>> over_mean(np.array([[1.0, 0.0], [0.0, 0.0]])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    mean = np.mean(right, axis=1, keepdims=True)
    return np.asarray(right / np.where(mean > 0, mean, 1.0))


def pass_at_k(m: Any, n: int, k: int) -> Any:
    """1 - C(n - m, k)/C(n, k), the unbiased estimate of 1 - (1 - u)^k from m right ones of n.

    >>> pass_at_k(1, 4, 2), pass_at_k(4, 4, 2)
    (0.5, 1.0)
    """
    return 1.0 - math.comb(n - m, k) / math.comb(n, k)


def subset_shares(right: Array, k: int) -> Array:
    """The share of all C(G, k) subsets of k members that hold both member i and a right one, subset by subset: (M, G).

    >>> subset_shares(np.array([[1.0, 0.0, 0.0]]), 2).round(4).tolist()
    [[0.6667, 0.3333, 0.3333]]
    """
    G, out = right.shape[1], np.zeros_like(right)
    for chosen in itertools.combinations(range(G), k):
        out[:, chosen] += np.max(right[:, chosen], axis=1, keepdims=True)
    return out / math.comb(G, k)


def _credits(law: Array, right: Array, G: int) -> tuple[Array, Array, Array]:
    """Of every group of a prompt: how likely, whether mixed, and how RLOO pulls at every response (M, N)."""
    members, chance = all_groups(law, G)
    r = right[members]
    A = (r - np.mean(r, axis=1, keepdims=True)) / (G - 1)  # the mean over the group of G/(G - 1) (r - mean)
    pulls = np.zeros((len(members), len(law)))
    np.add.at(pulls, (np.arange(len(members))[:, None], members), A)
    return chance, np.max(r, axis=1) > np.min(r, axis=1), pulls


def redrawn(p: Array, right: Array, G: int) -> Array:
    """The mean pull given that the group is mixed, prompt by prompt: (P, N).  Raises InputError where none ever is."""
    rows = []
    for law, r in zip(p, right, strict=True):
        chance, mixed, pulls = _credits(law, r, G)
        rows.append((chance * mixed) @ pulls / often(float(np.sum(chance * mixed)), RIGHT))
    return np.array(rows)


def filled(mu: Array, p: Array, right: Array, G: int) -> Array:
    """The mean pull of a batch that is filled with mixed groups of whatever prompt, weighted by the prompts: (P, N)."""
    found = [_credits(law, r, G) for law, r in zip(p, right, strict=True)]
    kept = sum(m * float(np.sum(chance[mixed])) for m, (chance, mixed, _) in zip(mu, found, strict=True))
    kept = often(kept, RIGHT)
    return np.array([m * (chance * mixed) @ pulls / kept for m, (chance, mixed, pulls) in zip(mu, found, strict=True)])


def surviving(mu: Array, p: Array, right: Array, G: int) -> Array:
    """The mean over batches of two groups, of prompts drawn from mu, of the mean pull of those that are mixed: (P, N).

    A group matters by its prompt and by how many are right, so that batches are summed over pairs of these.
    """
    kinds: list[tuple[float, bool, int, Array]] = []  # chance, whether mixed, prompt, mean pull
    for x, (law, r) in enumerate(zip(p, right, strict=True)):
        chance, mixed, pulls = _credits(law, r, G)
        m = np.sum(r[all_groups(law, G)[0]], axis=1)
        for count in np.unique(m):
            here = m == count
            if (total := float(np.sum(chance[here]))) > 0:
                kinds.append((mu[x] * total, bool(mixed[here][0]), x, chance[here] @ pulls[here] / total))
    out = np.zeros_like(p)
    for pair in itertools.product(kinds, repeat=2):
        both, kept = pair[0][0] * pair[1][0], pair[0][1] + pair[1][1]
        for _, mixed_one, x, pulls in pair:
            if mixed_one:
                out[x] += both * pulls / kept
    return out
