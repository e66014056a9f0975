"""Symbols of data: n observed comparisons, groups of G responses to one prompt, n responses drawn from p_pi.

And of chapter 2: a learner on the full tree of V tokens and depth H, who slips off an expert's one path with probability eps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.symbols.table import half_integers, symbol

# ---------------------------------------------------------------------------------------------------- imitation


symbol("full_tree", "the tree of V tokens and depth H, without EOS", "TokenMDP")(lambda V, H: TokenMDP(V, H))
symbol("depth", "tokens that lead to a state of the full tree", "(S_H,)", level="token")(
    lambda full_tree: np.repeat(np.arange(full_tree.H), np.diff(full_tree.offsets))
)
symbol("d_expert", "1 for the states of the expert, who always says token 0", "(S_H,)", "probability", level="token")(
    lambda full_tree: np.isin(np.arange(full_tree.S), full_tree.offsets[:-1]).astype(float)
)


@symbol("d_learner", "probability that the learner passes through a state", "(S_H,)", "probability", level="token")
def _d_learner(full_tree: TokenMDP, d_expert: Any, eps: float) -> Any:
    V, on_path = full_tree.V, d_expert > 0
    pi = np.exp(uniform(full_tree))
    pi[:, on_path, 0], pi[:, on_path, 1:] = 1.0 - eps, eps / max(V - 1, 1)
    with np.errstate(divide="ignore"):
        return np.exp(full_tree.prefix_sum(np.log(pi)))[0]


symbol("c_learner", "probability that the learner errs in a state: eps on the expert's path, 1 off it", "(S_H,)", level="token")(
    lambda d_expert, eps: np.where(d_expert > 0, eps, 1.0)
)


# ---------------------------------------------------------------------------------------------------- what data hold


symbol("observed", "n, how many comparisons, groups or draws the data hold", "int", level="sample")(
    lambda rng: int(rng.integers(2, 6))  # enough that a mean is not a sum
)


def drawn_from(p: Any, rng: Any, prompt: int) -> int:
    """One response to a prompt, by inversion."""
    return int(np.searchsorted(np.cumsum(p[prompt]), rng.random() * (1 - 1e-12) * np.sum(p[prompt])))


# ---------------------------------------------------------------------------------------------------- n comparisons


@symbol("compared", "prompt, winner and loser of each comparison", "(n, 3)", level="pair")
def _compared(p_ref: Any, observed: int, rng: Any) -> Any:
    prompts = [int(rng.integers(0, len(p_ref))) for _ in range(observed)]
    return np.array([(x, drawn_from(p_ref, rng, x), drawn_from(p_ref, rng, x)) for x in prompts])


def _of_pairs(name: str, source: str, meaning: str, unit: str) -> None:
    """The winner's and the loser's entry of a table of responses."""
    for column, who in ((1, "winner"), (2, "loser")):
        pick = {
            "log_p": lambda log_p, compared, k=column: log_p[compared[:, 0], compared[:, k]],
            "log_p_ref": lambda log_p_ref, compared, k=column: log_p_ref[compared[:, 0], compared[:, k]],
            "r": lambda r, compared, k=column: r[compared[:, 0], compared[:, k]],
            "lengths": lambda lengths, compared, k=column: lengths[compared[:, k]],
        }
        symbol(f"{name}_{who[0]}", f"{meaning} of the {who}", "(n,)", unit, level="pair")(pick[source])


_of_pairs("log_p", "log_p", "log p_pi", "log-probability")
_of_pairs("log_p_ref", "log_p_ref", "log p_ref", "log-probability")
_of_pairs("r", "r", "reward", "reward units")
_of_pairs("length", "lengths", "tokens, EOS counted,", "")
symbol("rhat_w", "implicit reward beta log(p_pi/p_ref) of the winner", "(n,)", "reward units", level="pair")(
    lambda beta, log_p_w, log_p_ref_w: beta * (log_p_w - log_p_ref_w)
)
symbol("rhat_l", "implicit reward beta log(p_pi/p_ref) of the loser", "(n,)", "reward units", level="pair")(
    lambda beta, log_p_l, log_p_ref_l: beta * (log_p_l - log_p_ref_l)
)

# ---------------------------------------------------------------------------------------------------- groups

symbol("rewards", "rewards of n groups of G responses", "(n, G)", "reward units", level="group")(
    lambda observed, G, rng: half_integers(rng, (observed, G))
)
symbol("successes", "0/1 rewards of n groups of G responses, each with a success and a failure", "(n, G)", level="group")(
    lambda observed, G, rng: np.concatenate(
        [np.ones((observed, 1)), np.zeros((observed, 1)), rng.integers(0, 2, (observed, G - 2))], axis=1
    )
)
symbol("group_lengths", "tokens of each response of the groups", "(n, G)", level="group")(
    lambda observed, G, rng: rng.integers(1, 6, (observed, G))
)

# ---------------------------------------------------------------------------------------------------- draws


@symbol("drawn", "prompt and response of n draws from p_pi", "(n, 2)", level="sample")
def _drawn(p: Any, observed: int, rng: Any) -> Any:
    prompts = [int(rng.integers(0, len(p))) for _ in range(observed)]
    return np.array([(x, drawn_from(p, rng, x)) for x in prompts])


symbol("log_ratio", "log(p_pi/p_ref) of the draws", "(n,)", "nats", level="sample")(lambda L, drawn: L[drawn[:, 0], drawn[:, 1]])
symbol("ratio", "p_ref/p_pi of the draws", "(n,)", level="sample")(lambda log_ratio: np.exp(-log_ratio))
symbol("r_drawn", "reward of the draws", "(n,)", "reward units", level="sample")(lambda r, drawn: r[drawn[:, 0], drawn[:, 1]])
symbol("advantage", "a drawn advantage of each draw", "(n,)", "reward units", level="sample")(
    lambda observed, rng: half_integers(rng, observed)
)
symbol("importance", "probability ratio pi/pi_old of each draw", "(n,)", level="sample")(
    lambda observed, rng: rng.integers(2, 13, observed) / 8.0
)
