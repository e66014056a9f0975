r"""Named worlds of preferences, each for one lesson and with answers in fractions: cycle, sure-thing, blind-spot, length-trap.

| world | lesson |
|---|---|
| cycle | people are intransitive: no reward explains them, and the best reply to "the best response" beats it |
| sure-thing | the better response always wins: no finite reward fits, and DPO runs to a vertex whatever beta |
| blind-spot | the best response is never compared (or the reference never says it): the data do not speak of it |
| length-trap | margins averaged over length prefer a long response to a better short one |

Where people are more (or less) than Bradley-Terry with the world's reward, a function beside the factory gives their table
P(i beats j) (P, N, N), or the law of the responses compared; `..._answers` gives what is known, as fractions.  exp(r/beta) is a whole
number or a fraction in each of them.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tabular_rlhf.logspace import Array, log_of, log_softmax
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import uniform
from tabular_rlhf.world import NAMED, World

Fractions = dict[str, Fraction]


# ---------------------------------------------------------------------------------------------------- cycle

CYCLE = {("paper", "rock"): Fraction(7, 10), ("scissors", "paper"): Fraction(8, 10), ("rock", "scissors"): Fraction(6, 10)}
"""Who beats whom, and how often: each beats one and loses to one."""


def cycle(beta: float = 1.0) -> World:
    """Rock, paper, scissors with unequal odds (`cycle_preferences`): intransitive people.

    The world's reward is the one that Bradley-Terry reads into them when all pairs are asked equally often (its scores match each
    response's mean win rate): 0, 0 and log(3/2).  It crowns scissors, which rock beats 6 times in 10.

    Args: beta > 0, reward units per nat.
    Returns: World, N = 3.
    Raises: InputError for beta that is not positive and finite.

    >>> cycle().r.round(4).tolist()
    [[0.0, 0.0, 0.4055]]
    """
    mdp = TokenMDP(("rock", "paper", "scissors"), horizon=1)
    return World(mdp, uniform(mdp), np.array([[0.0, 0.0, np.log(1.5)]]), beta, name="cycle")


def cycle_preferences() -> Array:
    """P(i beats j) for rock, paper, scissors: (1, 3, 3).

    >>> cycle_preferences()[0].tolist()
    [[0.5, 0.3, 0.6], [0.7, 0.5, 0.2], [0.4, 0.8, 0.5]]
    """
    names = ("rock", "paper", "scissors")
    table = [[CYCLE.get((i, j), 1 - CYCLE.get((j, i), Fraction(1, 2))) for j in names] for i in names]
    return np.array([[[float(q) for q in row] for row in table]])


def cycle_answers() -> Fractions:
    """The minimax winner (each response as often as the other two are unequal), and Bradley-Terry with Gibbs at beta = 1.

    >>> {k: str(v) for k, v in cycle_answers().items()}  # doctest: +NORMALIZE_WHITESPACE
    {'winner(rock)': '1/2', 'winner(paper)': '1/6', 'winner(scissors)': '1/3',
     'gibbs(rock)': '2/7', 'gibbs(paper)': '2/7', 'gibbs(scissors)': '3/7',
     'exploitability of gibbs': '2/35', 'exploitability of scissors': '1/10'}
    """
    half = Fraction(1, 2)
    edge = {"rock": CYCLE["scissors", "paper"] - half, "paper": CYCLE["rock", "scissors"] - half, "scissors": CYCLE["paper", "rock"] - half}
    gibbs = {"rock": Fraction(2, 7), "paper": Fraction(2, 7), "scissors": Fraction(3, 7)}
    # a response's advantage over a law: what it wins over the one that it beats, less what it loses to the other
    over = {
        "rock": edge["paper"] * gibbs["scissors"] - edge["scissors"] * gibbs["paper"],
        "paper": edge["scissors"] * gibbs["rock"] - edge["rock"] * gibbs["scissors"],
        "scissors": edge["rock"] * gibbs["paper"] - edge["paper"] * gibbs["rock"],
    }
    return {
        **{f"winner({k})": v / sum(edge.values(), Fraction(0)) for k, v in edge.items()},
        **{f"gibbs({k})": v for k, v in gibbs.items()},
        "exploitability of gibbs": max(over.values()),
        "exploitability of scissors": edge["paper"],
    }


# ---------------------------------------------------------------------------------------------------- sure-thing


def sure_thing(beta: float = 1.0) -> World:
    """Two responses, rewarded by 0 and 1, and people who always prefer the second (`sure_preferences`).

    No finite reward explains certainty, so the Bradley-Terry maximum does not exist, and DPO's policy runs to a vertex for every
    beta.  IPO stops at pi(right) = sigma(1/(2 tau)).

    Args: beta > 0, reward units per nat.
    Returns: World, N = 2.
    Raises: InputError for beta that is not positive and finite.

    >>> sure_thing().mdp.text(1), sure_preferences()[0, 1, 0].item()
    ('right', 1.0)
    """
    mdp = TokenMDP(("wrong", "right"), horizon=1)
    return World(mdp, uniform(mdp), np.array([[0.0, 1.0]]), beta, name="sure-thing")


def sure_preferences() -> Array:
    """P(i beats j): the second response always wins, (1, 2, 2)."""
    return np.array([[[0.5, 0.0], [1.0, 0.5]]])


def sure_ipo(tau: float) -> float:
    """IPO's pi(right) on the sure thing: sigma(1/(2 tau)).

    >>> round(sure_ipo(0.5), 6)
    0.731059
    """
    return float(1.0 / (1.0 + np.exp(-0.5 / tau)))


# ---------------------------------------------------------------------------------------------------- blind-spot

BLIND_REF = {"poor": Fraction(1, 2), "plain": Fraction(1, 4), "great": Fraction(1, 4)}
BLIND_ODDS = {"poor": 1, "plain": 2, "great": 12}


def blind_spot(beta: float = 1.0, reference_sees: bool = True) -> World:
    """The best response is missing from the data: pairs drawn by `blind_comparisons` never show "great".

    p* = (1, 1, 6)/8.  The data fix pi(poor)/pi(plain) = 1 and say nothing of pi(great): any value is a DPO minimizer, and rewards are
    known up to one constant for {poor, plain} and another for {great}.  With `reference_sees=False` the reference never says "great"
    either, and what could have been had at the same reference odds is lost: beta log 3.

    Args: beta > 0, reward units per nat; reference_sees, whether p_ref(great) > 0.
    Returns: World, N = 3.
    Raises: InputError for beta that is not positive and finite.

    >>> from tabular_rlhf.gibbs import solve
    >>> (8 * solve(blind_spot()).p).round(9).tolist()
    [[1.0, 1.0, 6.0]]
    """
    mdp = TokenMDP(tuple(BLIND_REF), horizon=1)
    ref = [q if reference_sees or name != "great" else Fraction(0) for name, q in BLIND_REF.items()]
    r = beta * np.log([[float(BLIND_ODDS[name]) for name in BLIND_REF]])
    return World(mdp, log_softmax(log_of(np.array(ref, dtype=np.float64)))[None, None], r, beta, name="blind-spot")


def blind_comparisons() -> Array:
    """log of the law of the responses compared: poor and plain equally often, great never; (1, 3)."""
    return log_of(np.array([[0.5, 0.5, 0.0]]))


def blind_spot_answers() -> Fractions:
    """Z and p* where the reference sees everything and where it does not.

    >>> {k: str(v) for k, v in blind_spot_answers().items()}
    {'Z': '4', 'p*(poor)': '1/8', 'p*(plain)': '1/8', 'p*(great)': '3/4', 'Z, blind reference': '4/3', 'p*(poor), blind reference': '1/2'}
    """
    weight = {name: BLIND_REF[name] * BLIND_ODDS[name] for name in BLIND_REF}
    Z = sum(weight.values(), Fraction(0))
    seen = weight["poor"] + weight["plain"]
    return {
        "Z": Z,
        **{f"p*({name})": w / Z for name, w in weight.items()},
        "Z, blind reference": seen / (1 - BLIND_REF["great"]),
        "p*(poor), blind reference": weight["poor"] / seen,
    }


# ---------------------------------------------------------------------------------------------------- length-trap

TRAP_ODDS = {".": 11, "so .": 2, "so so .": 6, "so so so": 10}
TRAP_SHIFT = Fraction(1, 8)


def length_trap(beta: float = 1.0) -> World:
    """The shortest response is the best, a long one nearly as good; the reference tosses a coin for every token.

    Losses on length-averaged margins, beta (a/|w| - b/|l|), have as their optimum p_ref (k u)^length with k = exp(r/beta) and u = 1/8 such
    that it sums to one: log-ratios grow with length, so the long response gains more than the better short one (125/64 against 11/8 of
    its share in p_ref).  Gibbs gives every response its k.

    Args: beta > 0, reward units per nat.
    Returns: World, N = 4.
    Raises: InputError for beta that is not positive and finite.

    >>> w = length_trap()
    >>> np.exp(w.r / w.beta).round(9).tolist(), w.mdp.lengths.tolist()
    ([[11.0, 2.0, 10.0, 6.0]], [1, 2, 3, 3])
    """
    mdp = TokenMDP(("so", "."), horizon=3, eos=".")
    r = beta * np.log([[float(TRAP_ODDS[mdp.text(i)]) for i in range(mdp.N)]])
    return World(mdp, uniform(mdp), r, beta, name="length-trap")


def length_trap_answers() -> Fractions:
    """p* and the optimum of length-averaged DPO, for the best response and for the long one, and its sum.

    >>> {k: str(v) for k, v in length_trap_answers().items()}  # doctest: +NORMALIZE_WHITESPACE
    {'p*(.)': '11/16', 'p*(so .)': '1/16', 'p*(so so .)': '3/32', 'p*(so so so)': '5/32',
     'averaged(.)': '11/16', 'averaged(so .)': '1/64', 'averaged(so so .)': '27/512', 'averaged(so so so)': '125/512'}
    """
    length = {name: len(name.split()) for name in TRAP_ODDS}
    ref = {name: Fraction(1, 2 ** length[name]) for name in TRAP_ODDS}
    weight = {name: ref[name] * k for name, k in TRAP_ODDS.items()}
    Z = sum(weight.values(), Fraction(0))
    averaged = {name: ref[name] * (k * TRAP_SHIFT) ** length[name] for name, k in TRAP_ODDS.items()}
    assert sum(averaged.values()) == 1
    return {**{f"p*({name})": w / Z for name, w in weight.items()}, **{f"averaged({name})": q for name, q in averaged.items()}}


PREFERENCE_WORLDS = {"cycle": cycle, "sure-thing": sure_thing, "blind-spot": blind_spot, "length-trap": length_trap}


NAMED.update(PREFERENCE_WORLDS)
