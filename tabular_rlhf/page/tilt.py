r"""The first table of the page: beta and two rewards tilt p_ref, and a policy that remembers nothing projects the result.

**The world.**  Say "knock", or stop; at most two words.  Three responses: silence, one knock, two knocks.  The reference knocks
with probability 0.7 each time, so p_ref = 0.3, 0.21, 0.49.  Silence earns 0 (only differences of reward matter); the reader
chooses beta and what one knock and two knocks earn.

**The class.**  A policy that does not remember whether it has knocked has one probability k of knocking: silence 1 - k, one
knock k(1 - k), two knocks k^2.  It can hold p_ref, and no p* that likes silence and two knocks but not one.  The forward
projection covers both; the reverse has then two local minima, one at each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.page.numbers import short
from tabular_rlhf.world import World

BETAS = (0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Reward units per nat, about half an octave apart; many share their ratios r/beta, so their projections are the same."""
REWARDS = tuple(float(r) for r in np.linspace(-2.0, 2.0, 9))
START = (2, 4, 0)
"""Where the controls stand at first: beta 1/2, two knocks earn 0 as silence does, one knock -2: two modes."""
NAMES = {".": "silence", "knock .": "one knock", "knock knock": "two knocks"}
ORDER = (0, 2, 1)
"""Silence, one knock, two: the library lists responses as it enumerates them."""


@cache
def knock() -> TokenMDP:
    """The token MDP of the page."""
    return TokenMDP(("knock", "."), horizon=2, eos=".")


def world(beta: float, two: float, one: float) -> World:
    """The world at a position of the controls.

    >>> w = world(0.5, 0.0, -2.0); [w.mdp.text(i) for i in ORDER], np.exp(w.log_p_ref[0, list(ORDER)]).round(4).tolist()
    (['.', 'knock .', 'knock knock'], [0.3, 0.21, 0.49])
    """
    mdp, r = knock(), {".": 0.0, "knock .": one, "knock knock": two}
    log_ref = np.broadcast_to(np.log([0.7, 0.3]), (1, mdp.S, mdp.V))
    return World(mdp, log_ref, np.array([[r[mdp.text(i)] for i in range(mdp.N)]]), beta, name="knock")


def compute(betas: Sequence[float] = BETAS, rewards: Sequence[float] = REWARDS) -> dict[str, Any]:
    """Where the controls may stand, and the reference: what follows from them is computed in the page."""
    first = world(1.0, 0.0, 0.0)
    return {
        "beta": [short(b) for b in betas],
        "reward": [short(r) for r in rewards],
        "start": list(START),
        "names": [NAMES[first.mdp.text(i)] for i in ORDER],
        "p_ref": [round(float(p), 15) for p in np.exp(first.log_p_ref[0, list(ORDER)])],
    }
