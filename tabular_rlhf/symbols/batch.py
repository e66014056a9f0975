"""Symbols of a trainer's batch: B responses a row each, T tokens, padded at the right; 1 in `mask` where a token is one of the response.

Where the mask is 0, all tables hold numbers as they would in a trainer: what is computed must not depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.symbols.table import half_integers, symbol


@symbol("mask", "1 for a token of the response, 0 for padding (at the right); B responses, T tokens", "(B, T)", level="batch")
def _mask(rng: Any) -> Any:
    T = int(rng.integers(2, 5))
    lengths = rng.integers(1, T + 1, (int(rng.integers(2, 4)), 1))
    return (np.arange(T) < lengths).astype(float)


for _name, _whose in (("", "the policy"), ("_old", "the policy that drew it"), ("_ref", "the reference")):
    symbol(f"logp{_name}", f"log-probability of the token under {_whose}", "(B, T)", "log-probability", level="batch")(
        lambda mask, rng: -rng.integers(1, 9, mask.shape) / 4.0
    )


def _drawn(name: str, meaning: str, unit: str = "reward units") -> None:
    symbol(name, meaning, "(B, T)", unit, level="batch")(lambda mask, rng: half_integers(rng, mask.shape))


_drawn("advantages", "advantage of the token")
_drawn("token_losses", "loss of the token")
_drawn("token_rewards", "reward that comes with the token")
_drawn("critic", "a critic's value of the state before the token")
_drawn("critic_old", "the critic's value when the batch was drawn")
_drawn("targets", "what the critic is to say: a return from the token on")
symbol("response_rewards", "reward of the response", "(B,)", "reward units", level="batch")(
    lambda mask, rng: half_integers(rng, (len(mask),))
)
symbol("discount", "discount of a reward, a step", "scalar")(lambda rng: float(rng.integers(1, 4)) / 4)
symbol("small", "epsilon, a small number added to a standard deviation", "scalar", "reward units")(
    lambda rng: float(rng.integers(1, 5)) / 8
)

# ---------------------------------------------------------------------------------------------------- soft labels, features

symbol("feature_gaps", "features of the first response less those of the second, n pairs", "(n, 2)", level="pair")(
    lambda observed, rng: half_integers(rng, (observed, 2))
)
symbol("soft_labels", "share of judges who prefer the first response of a pair", "(n,)", "probability", level="pair")(
    lambda observed, rng: rng.integers(0, 5, observed) / 4.0
)
symbol("weights", "weights of two features in a linear reward", "(2,)", "nats")(lambda rng: half_integers(rng, 2))


@symbol("wins_some", "how often i beat j, small counts, none for many pairs", "(P, N, N)")
def _wins_some(r: Any, rng: Any) -> Any:
    P, N = r.shape
    return rng.integers(0, 3, (P, N, N)) * rng.integers(0, 2, (P, N, N)) * (1.0 - np.eye(N))
