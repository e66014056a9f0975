r"""Worlds: a token MDP, a reference policy, a reward and a KL weight.  Everything else is computed from these.

**Symbols.** log_ref (P, S, V): the reference policy; log_p_ref (P, N): its trajectory distribution; r (P, N): the reward of
every response, an arbitrary table, in reward units; beta > 0: the KL weight, in reward units per nat.

Named worlds are each built for one lesson and know their answers; `random_world` makes one of any size from a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from tabular_rlhf.errors import a_generator, as_floats, positive, whole
from tabular_rlhf.logspace import Array, log_of, read_only
from tabular_rlhf.mdp import TokenMDP, check_size, tree_counts
from tabular_rlhf.policy import check_log_pi, dirichlet, from_text, owned, uniform, zen
from tabular_rlhf.registry import one_of


@dataclass(frozen=True, eq=False)
class World:
    """What is given: World(mdp, log_ref, r, beta).  The arrays are checked and copied on construction, and read-only.

    Args: mdp; log_ref (P, S, V), the reference policy, nats, -inf where it forbids; r (P, N), the reward of every response, reward units;
    beta > 0, the KL weight, reward units per nat; name.
    Raises: InputError for a policy that does not normalize, a reward of the wrong shape, nan, or beta <= 0.

    >>> w = World(TokenMDP(2, horizon=1), np.log([[[0.5, 0.5]]]), np.array([[0.0, 1.0]]), beta=1.0)
    >>> w.log_p_ref.round(4).tolist()
    [[-0.6931, -0.6931]]
    """

    mdp: TokenMDP
    log_ref: Array
    r: Array
    beta: float
    name: str = "world"

    def __post_init__(self) -> None:
        log_ref = check_log_pi(self.mdp, self.log_ref, "log_ref")
        r = as_floats(self.r, "r", (self.mdp.P, self.mdp.N))
        for name, value in (("log_ref", log_ref), ("r", r)):
            object.__setattr__(self, name, owned(value))
        object.__setattr__(self, "beta", positive(self.beta, "beta", "reward units per nat"))

    @cached_property
    def log_p_ref(self) -> Array:
        """log p_ref(tau given x), (P, N): -inf for responses that the reference cannot make."""
        return read_only(self.mdp.path_sum(self.log_ref))

    @property
    def mu(self) -> Array:
        """The distribution over prompts, (P,)."""
        return self.mdp.mu

    @property
    def responses(self) -> int:
        """Responses over all prompts, P N."""
        return self.mdp.P * self.mdp.N

    def at(self, beta: float) -> World:
        """The same world with another KL weight; itself where that is its own."""
        return self if beta == self.beta else replace(self, beta=beta)

    def with_reward(self, r: Any) -> World:
        """The same world with another reward table."""
        return replace(self, r=r)


# ---------------------------------------------------------------------------------------------------- generated worlds


def random_world(
    *,
    rng: np.random.Generator,
    V: int = 3,
    H: int = 3,
    P: int = 1,
    eos: bool = True,
    beta: float = 1.0,
    concentration: float = 1.0,
    reward_scale: float = 1.0,
    forbidden: float = 0.0,
) -> World:
    """A world of any size: Dirichlet reference, normal rewards, each token forbidden with a given probability.

    At least one token stays allowed in every state, so every world is well posed.

    Args: rng, the only source of chance; V tokens, H the horizon, P prompts; eos, whether the last token ends a response; beta, reward
    units per nat; concentration, pseudo-counts of the Dirichlet; reward_scale, the standard deviation, reward units; forbidden, in [0, 1].
    Returns: World.
    Raises: InputError for sizes that do not fit in memory, an rng that is no generator, and beta or concentration that is not positive.

    >>> random_world(rng=np.random.default_rng(0), V=2, H=2).mdp.N
    3
    """
    a_generator(rng)
    check_size(V, H, bool(eos), whole(P, "the number of prompts", 1, "1 is usual"))
    mdp = TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)], mu=rng.dirichlet(np.ones(P)))
    log_ref = dirichlet(mdp, concentration, rng=rng)
    if forbidden > 0:
        banned = rng.random(log_ref.shape) < forbidden
        banned &= np.arange(V) != np.argmax(log_ref, axis=-1)[..., None]
        log_ref = np.where(banned, -np.inf, log_ref)
        log_ref = log_ref - np.log(np.sum(np.exp(log_ref), axis=-1, keepdims=True))
    return World(mdp, log_ref, reward_scale * rng.standard_normal((P, mdp.N)), beta, name="random")


def generated_worlds(count: int, *, rng: np.random.Generator, largest: int = 64, smallest_beta: float = 0.05) -> list[World]:
    """Worlds of varied size and kind: V, H, P, EOS, forbidden tokens, ties and extremes of beta all occur."""
    worlds: list[World] = []
    while len(worlds) < count:
        V, H, P = int(rng.integers(1, 6)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
        eos = bool(rng.integers(2))
        if tree_counts(V, H, eos)[1] > largest:
            continue
        world = random_world(
            rng=rng,
            V=V,
            H=H,
            P=P,
            eos=eos,
            beta=float(np.exp(rng.uniform(np.log(smallest_beta), np.log(20.0)))),
            concentration=float(rng.choice([0.3, 1.0, 5.0])),
            forbidden=float(rng.choice([0.0, 0.0, 0.3])),
        )
        if rng.random() < 0.25:  # ties, as real rewards have
            world = world.with_reward(np.round(world.r))
        worlds.append(world)
    return worlds


def worlds(largest: int = 16) -> Any:
    """A hypothesis strategy for worlds, on a half-integer grid, that shrinks towards the two-response coin.

    Imported only where it is used: hypothesis is slow to import.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_world(draw: Callable[..., Any]) -> World:
        P = draw(st.integers(1, 3))
        eos = draw(st.booleans())
        H = draw(st.integers(1, 4))
        V = draw(st.integers(1, 4).filter(lambda V: tree_counts(V, H, eos)[1] <= largest))
        mdp = TokenMDP(V, H, eos=V - 1 if eos else None, prompts=[f"x{i}" for i in range(P)])
        odds = draw(st.lists(st.integers(0, 4), min_size=P * mdp.S * V, max_size=P * mdp.S * V))
        weights = np.reshape(np.array(odds, dtype=float), (P, mdp.S, V))
        weights[np.sum(weights, axis=-1) == 0] = 1.0
        pi = weights / np.sum(weights, axis=-1, keepdims=True)
        log_ref = log_of(pi)
        halves = draw(st.lists(st.integers(-6, 6), min_size=P * mdp.N, max_size=P * mdp.N))
        beta = draw(st.sampled_from([1.0, 0.5, 2.0, 0.1, 10.0]))
        return World(mdp, log_ref, np.reshape(np.array(halves, dtype=float) / 2, (P, mdp.N)), beta, name="drawn")

    return draw_world()


# ---------------------------------------------------------------------------------------------------- named worlds


def coin(beta: float = 1.0) -> World:
    """Two responses, heads rewarded by 1: p*(heads) = sigma(1/beta), so one sigmoid tells the whole story.

    Args: beta > 0, reward units per nat.
    Returns: World, N = 2.
    Raises: InputError for beta that is not positive and finite.

    >>> from tabular_rlhf.gibbs import solve
    >>> solve(coin()).p.round(4).tolist()  # sigma(1)
    [[0.2689, 0.7311]]
    """
    mdp = TokenMDP(("tails", "heads"), horizon=1)
    return World(mdp, uniform(mdp), np.array([[0.0, 1.0]]), beta, name="coin")


def fork(beta: float = 1.0) -> World:
    """Token level against response level: the first token that is best on average is not the one that is best to choose.

    After "left" both continuations earn 1; after "right" one earns 3 and the other -3.  A greedy average goes left; the
    soft value of "right", beta log cosh(3/beta), exceeds 1 for beta below 4.156, because the policy can still steer afterwards.

    Args: beta > 0, reward units per nat.
    Returns: World, N = 4.
    Raises: InputError for beta that is not positive and finite.

    >>> from tabular_rlhf.gibbs import solve
    >>> solve(fork()).V_s.round(3).tolist()  # root, "left", "right": log cosh 3
    [[1.855, 1.0, 2.309]]
    """
    mdp = TokenMDP(("left", "right"), horizon=2)
    reward = {"left left": 1.0, "left right": 1.0, "right left": -3.0, "right right": 3.0}
    return World(mdp, uniform(mdp), np.array([[reward[mdp.text(i)] for i in range(mdp.N)]]), beta, name="fork")


def rational(beta: float = 1.0) -> World:
    """Rewards beta log k with whole k, so that exp(r/beta) = k and every answer is a fraction: Z = 19/9.

    One word and EOS, horizon 2, pi_ref(a) = 2/3 in both states; k = 1, 2, 3 for ".", "a .", "a a".
    `rational_answers` does the same computation in exact arithmetic.

    Args: beta > 0, reward units per nat.
    Returns: World, N = 3.
    Raises: InputError for beta that is not positive and finite.

    >>> from tabular_rlhf.gibbs import solve
    >>> (9 * np.exp(solve(rational()).log_Z)).round(9).tolist()
    [19.0]
    """
    mdp = TokenMDP(("a", "."), horizon=2, eos=".")
    pi_a = float(RATIONAL_PI_A)
    log_ref = np.broadcast_to(np.log([pi_a, 1.0 - pi_a]), (1, mdp.S, 2))
    return World(mdp, log_ref, np.array([[beta * np.log(RATIONAL_ODDS[mdp.text(i)]) for i in range(mdp.N)]]), beta, name="rational")


RATIONAL_PI_A = Fraction(2, 3)
RATIONAL_ODDS = {".": 1, "a .": 2, "a a": 3}


def rational_answers() -> dict[str, Fraction]:
    """The answers of the `rational` world as fractions, by hand: Z, p* of each response, pi* of "a" in each state, e^(V/beta).

    >>> {k: str(v) for k, v in rational_answers().items()}  # doctest: +NORMALIZE_WHITESPACE
    {'Z': '19/9', 'p*(.)': '3/19', 'p*(a .)': '4/19', 'p*(a a)': '12/19',
     'pi*(a given root)': '16/19', 'pi*(a given a)': '3/4', 'exp V(a)': '8/3'}
    """
    q, k = RATIONAL_PI_A, RATIONAL_ODDS
    mass = {".": (1 - q) * k["."], "a .": q * (1 - q) * k["a ."], "a a": q * q * k["a a"]}
    Z = sum(mass.values(), Fraction(0))
    after_a = (1 - q) * k["a ."] + q * k["a a"]
    return {
        "Z": Z,
        **{f"p*({tau})": m / Z for tau, m in mass.items()},
        "pi*(a given root)": q * after_a / Z,
        "pi*(a given a)": q * k["a a"] / after_a,
        "exp V(a)": after_a,
    }


def long_tail(beta: float = 1.0, horizon: int = 16) -> World:
    """Heavy importance weights: samples from p_ref say little about p*.

    p_ref halves with every word, exp(r/beta) grows by 1.8, so the mean of the weight is tame (0.9 a word) while its second moment
    explodes (1.62 a word).

    Args: beta > 0, reward units per nat; horizon, the most words.
    Returns: World, N = horizon + 1.
    Raises: InputError for beta that is not positive and finite, and for a tree that would not fit in memory.

    >>> w = long_tail(horizon=3)
    >>> np.exp(w.r / w.beta).round(3).tolist()  # 1.8 to the number of tokens: ".", "more .", and the two of length 3
    [[1.8, 3.24, 5.832, 5.832]]
    """
    mdp = TokenMDP(("more", "."), horizon, eos=".")
    return World(mdp, uniform(mdp), beta * np.log(1.8) * mdp.lengths[None], beta, name="long-tail")


ZEN_REWARDS = {"simple": 1.0, "beautiful": 1.0, "explicit": 0.5, "complicated": -1.0, "never": -0.5}


def zen_world(beta: float = 0.5) -> World:
    """A reference policy estimated from real text: the sentences "X is better than Y" in the text that ships with Python.

    Sixteen words and EOS, five tokens: about 1.1 million responses.  The reward counts opinionated words.

    Args: beta > 0, reward units per nat.
    Returns: World, N = 1,118,481.
    Raises: InputError for beta that is not positive and finite, and where Python has no sources of its standard library.
    Source: Peters (2004), The Zen of Python, PEP 20.

    >>> w = zen_world()
    >>> w.r[0, w.mdp.find("simple is better than complicated")]
    np.float64(0.0)
    """
    sentences = [s for s in zen() if s.split()[1:4] == ["is", "better", "than"] and len(s.split()) == 5]
    words = list(dict.fromkeys(" ".join(sentences).split()))
    mdp = TokenMDP([*words, "."], horizon=5, eos=".")
    log_ref = from_text(mdp, sentences, order=1, smoothing=0.02)
    r = sum(weight * mdp.phrase_count(word) for word, weight in ZEN_REWARDS.items())
    return World(mdp, log_ref, np.asarray(r)[None], beta, name="zen")


def easy_and_hard(beta: float = 1.0) -> World:
    """Two prompts of one tree, one of them hard: of the responses ".", "a ." and "a a" only "a ." is right, and "a a" is cut off.

    The reference is right with probability 2/3 3/4 = 1/2 at the easy prompt and 1/2 1/5 = 1/10 at the hard one, so that what a batch makes
    of its groups changes how much each prompt counts.  The optimum is right with odds e^{1/beta} times as large.

    Args: beta > 0, reward units per nat.
    Returns: World, P = 2, N = 3.
    Raises: InputError for beta that is not positive and finite.

    >>> from tabular_rlhf.gibbs import solve
    >>> w = easy_and_hard(); right = w.mdp.find("a .")
    >>> np.exp(w.log_p_ref[:, right]).round(12).tolist(), solve(w).p[:, right].round(4).tolist()
    ([0.5, 0.1], [0.7311, 0.232])
    """
    mdp = TokenMDP(("a", "."), horizon=2, eos=".", prompts=("easy", "hard"))
    pi_a = np.array([[2 / 3, 1 / 4], [1 / 2, 4 / 5]])
    r = [[float(mdp.text(i) == "a .") for i in range(mdp.N)]] * 2
    return World(mdp, np.log(np.stack([pi_a, 1.0 - pi_a], axis=-1)), np.array(r), beta, name="easy-and-hard")


NAMED: dict[str, Callable[..., World]] = {
    "coin": coin,
    "fork": fork,
    "rational": rational,
    "long-tail": long_tail,
    "zen": zen_world,
    "easy-and-hard": easy_and_hard,
}


def named_world(name: str) -> World:
    """One of the named worlds, by name.

    Args: name, for example "coin", "fork", "rational", "long-tail", "zen", "easy-and-hard", "cycle", "sure-thing", "blind-spot" or
    "length-trap".
    Returns: World, with the beta of its own.
    Raises: InputError with the nearest names, for one that nobody knows.

    >>> named_world("rational").mdp.N
    3
    """
    return NAMED[one_of(NAMED, name, "the world must be a named one")]()
