r"""One symbol, and the scope that supplies its value on a world; what a world, a policy and the optimum are called."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf import gibbs
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.logspace import expect, kl, log_softmax
from tabular_rlhf.registry import one_of
from tabular_rlhf.registry import parameters as parameters
from tabular_rlhf.registry import supplied as supplied
from tabular_rlhf.world import World


@dataclass(frozen=True)
class Symbol:
    """One name: what it means, its shape and unit, and how it is computed from other names."""

    name: str
    meaning: str
    shape: str
    unit: str
    compute: Callable[..., Any]
    level: str

    @property
    def axes(self) -> tuple[str, ...] | None:
        """What its shape says that it is a table of, by name: x prompts, tau responses, s states, a tokens; None for an object.

        >>> SYMBOLS["p"].axes, SYMBOLS["log_pi"].axes, SYMBOLS["M"].axes, SYMBOLS["mdp"].axes
        (('x', 'tau'), ('x', 's', 'a'), ('x', 'tau', "tau'"), None)
        """
        if self.shape in ("scalar", "int"):
            return ()
        found: list[str] = []
        for length in self.shape.strip("()").replace(",", " ").split() if self.shape.startswith("(") else [""]:
            if length not in AXES:
                return None
            axis = AXES[length]
            logits = "x." in found or (axis == "x" and "x" in found)  # what comes behind a second P: the logits of a gradient
            found += [f"{axis}." if logits else axis + "'" * sum(a.startswith(axis) for a in found)] if axis else []
        return tuple(found)

    @property
    def spellings(self) -> tuple[str, ...]:
        """How it may be written in a formula.

        >>> SYMBOLS["p_star"].spellings, SYMBOLS["log_p_2"].spellings
        (('p_star', 'p^*', 'p_pi^*'), ('log_p_2', "log p_pi'", "log p'"))
        """
        if self.name in SPELLINGS or not self.name.startswith("log_"):
            return (self.name, *SPELLINGS.get(self.name, ()))
        return (self.name, *(f"log {key}" for key in SPELLINGS.get(self.name.removeprefix("log_"), ())))

    @property
    def drawn(self) -> bool:
        """Whether it is drawn at random, once a world."""
        return "rng" in parameters(self.compute)


SPELLINGS: dict[str, tuple[str, ...]] = {
    "p": ("p_pi", "p_theta", "p_pi_theta"),
    "pi": ("pi_theta", "pi_phi", "pi_phi^RL"),
    "pi_ref": ("pi^ref", "pi^SFT", "pi_SFT", "pi_sft", "pi^sft", "pi_0"),
    "p_ref": ("p^ref", "p_0", "p_pi_ref", "ref"),
    "p_star": ("p^*", "p_pi^*"),
    "pi_star": ("pi^*", "pi_r"),
    "pi_2": ("pi'",),
    "p_2": ("p_pi'", "p'"),
    "d_pi": ("d^pi",),
    "d_star": ("d_p^*",),
    "beta": ("lambda_KL",),
    "J_x": (),
    "pi_old": ("pi_theta_old", "pi^old", "pi_b"),
    "Q_pi": ("Q^pi", "Q^pi_theta"),
    "V_pi": ("V^pi", "V^pi_theta"),
    "A_pi": ("A^pi", "A^pi_theta"),
}
"""How papers write a symbol (or the exponential of one that is kept as a logarithm): base, _subscript, ^superscript, primes."""
AXES = {"P": "x", "N": "tau", "S": "s", "V": "a", "n": "draw", "G": "i", "1": "", "S_H": "s", "C": "c", "B": "row", "T": "place"}
"""What the letters of a shape run over: prompts, responses, states and tokens; S_H, the states of the full tree of depth H (of a world
without EOS); C, the contexts of a tied class; B and T, the rows and the places of a trainer's padded batch."""
SYMBOLS: dict[str, Symbol] = {}
LEVELS = {
    "world": "the world, and numbers of it",
    "trajectory": "a number for every finished response",
    "token": "a number for every state, or state and token",
    "pair": "comparisons: every pair of responses, or n observed comparisons of a winner w and a loser l",
    "group": "groups of G responses to one prompt",
    "sample": "n responses drawn from p_pi",
    "batch": "a trainer's batch: B responses of at most T tokens, with a mask",
    "tool": "objects that hold methods",
}
"""What a symbol is a number of; the order of the printed table."""


def symbol(
    name: str, meaning: str, shape: str, unit: str = "", *, level: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the way to compute `name`.  `level`: a key of LEVELS, read from the shape if left out."""

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        if name in SYMBOLS:
            raise InputError("a symbol must be defined once", got=quoted(name), remedy="rename it")
        if level is not None and level not in LEVELS:
            raise InputError("a symbol's level must be known", got=quoted(level), where=name, remedy=f"use one of {', '.join(LEVELS)}")
        SYMBOLS[name] = Symbol(name, meaning, shape, unit, compute, level or _level(shape))
        return compute

    return register


def _level(shape: str) -> str:
    """What a shape counts, from its axes.

    >>> _level("(P, N)"), _level("(P, S, V)"), _level("(P, N, N)"), _level("scalar"), _level("TokenMDP")
    ('trajectory', 'token', 'pair', 'world', 'tool')
    """
    axes = shape.strip("()").replace(",", " ").split()
    if "N" in axes:
        return "pair" if axes.count("N") > 1 else "trajectory"
    if "S" in axes or "V" in axes:
        return "token"
    return "world" if shape.startswith("(") or shape in ("scalar", "int") else "tool"


def is_formula(function: Callable[..., Any]) -> bool:
    """Whether it was read (`formula.printed`): it is called with a scope, and not with symbols by name."""
    return bool(getattr(function, "on_scope", False))


def unknown_names(function: Callable[..., Any]) -> list[str]:
    """The names that a function asks for and nobody can supply; of a formula none, for its reader refuses unknown letters.

    >>> unknown_names(lambda world, beta, gama: None)
    ['gama']
    """
    if is_formula(function):
        return []
    return [name for name in parameters(function) if name not in SYMBOLS and name != "world"]


class Scope:
    """The symbols of one world.  `scope["p"]` computes p; `scope.call(f)` supplies f's parameters by name.

    >>> from tabular_rlhf.world import coin
    >>> Scope(coin(), seed=0).call(lambda beta, r: beta * r).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self._known: dict[str, Any] = {"world": world}
        self.memo: dict[Any, Any] = {}  # what callers derive from this world once

    def __reduce__(self) -> Any:
        """Sent to another process as what it is computed from."""
        return Scope, (self.world, self.seed)

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            one_of(SYMBOLS, name, "a parameter must be the name of a symbol", remedy="`tabular-rlhf symbols` lists them")
            compute = SYMBOLS[name].compute
            self._known[name] = compute(*(self.stream(name) if need == "rng" else self[need] for need in parameters(compute)))
        return self._known[name]

    def stream(self, name: str) -> Any:
        """The random generator that `name` is drawn with: its own, so that the order of look-ups does not matter."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def given(self, **values: Any) -> Scope:
        """The same draws where some symbols have other values; whatever is computed from them follows.

        >>> from tabular_rlhf.world import coin
        >>> Scope(coin(), seed=0).given(beta=0.5)["log_Z"].round(4).tolist()
        [1.4338]
        """
        world = self.world
        world = world.at(values["beta"]) if "beta" in values else world
        world = world.with_reward(values["r"]) if "r" in values else world
        other = self._like(world)
        other._known.update(values)
        return other

    def _like(self, world: World) -> Scope:
        return Scope(world, self.seed)

    def redrawn(self, name: str, times: int) -> Any:
        """Another draw of the symbol `name`, everything else as it is."""
        other = self._like(self.world)
        other._known.update({n: self[n] for n in parameters(SYMBOLS[name].compute) if n != "rng"})
        other.seed = self.seed + 7919 * times
        return other[name]

    def call(self, function: Callable[..., Any]) -> Any:
        """`function` with every parameter supplied by name; a formula is given the scope itself."""
        return function(self) if is_formula(function) else supplied(function, self.__getitem__)


def half_integers(rng: np.random.Generator, shape: Any) -> Any:
    """Small numbers on a half-integer grid: random enough to refute, round enough to read."""
    return rng.integers(-4, 5, shape) / 2.0


# ---------------------------------------------------------------------------------------------------- what is given

symbol("mdp", "the token MDP", "TokenMDP")(lambda world: world.mdp)
symbol("V", "vocabulary size", "int")(lambda mdp: mdp.V)
symbol("H", "horizon", "int")(lambda mdp: mdp.H)
symbol("K", "tokens after which a response may go on", "int")(lambda mdp: mdp.K)
symbol("P", "prompts", "int")(lambda mdp: mdp.P)
symbol("S", "decision states per prompt", "int")(lambda mdp: mdp.S)
symbol("N", "trajectories per prompt", "int")(lambda mdp: mdp.N)
symbol("mu", "distribution over prompts", "(P,)", "probability")(lambda world: world.mu)
symbol("beta", "KL weight", "scalar", "reward units per nat")(lambda world: world.beta)
symbol("r", "reward of every trajectory", "(P, N)", "reward units")(lambda world: world.r)
symbol("lengths", "tokens of every trajectory, EOS counted", "(N,)")(lambda mdp: mdp.lengths)
symbol("log_pi_ref", "reference policy", "(P, S, V)", "log-probability")(lambda world: world.log_ref)
symbol("pi_ref", "reference policy", "(P, S, V)", "probability")(lambda log_pi_ref: np.exp(log_pi_ref))
symbol("log_p_ref", "reference distribution over trajectories", "(P, N)", "log-probability")(lambda world: world.log_p_ref)
symbol("p_ref", "reference distribution over trajectories", "(P, N)", "probability")(lambda log_p_ref: np.exp(log_p_ref))

# ---------------------------------------------------------------------------------------------------- a policy, drawn


@symbol("logits", "tabular parameters of the policy pi (-inf where pi_ref is)", "(P, S, V)")
def _logits(log_pi_ref: Any, rng: Any) -> Any:
    return np.where(np.isneginf(log_pi_ref), -np.inf, half_integers(rng, log_pi_ref.shape))


@symbol("log_pi_2", "a second policy pi'", "(P, S, V)", "log-probability")
def _log_pi_2(log_pi_ref: Any, rng: Any) -> Any:
    return log_softmax(np.where(np.isneginf(log_pi_ref), -np.inf, half_integers(rng, log_pi_ref.shape)))


symbol("log_pi", "the policy pi", "(P, S, V)", "log-probability")(lambda logits: log_softmax(logits))
symbol("pi", "the policy pi", "(P, S, V)", "probability")(lambda log_pi: np.exp(log_pi))
symbol("log_p", "p_pi(tau given x)", "(P, N)", "log-probability")(lambda mdp, log_pi: mdp.path_sum(log_pi))
symbol("p", "p_pi(tau given x)", "(P, N)", "probability")(lambda log_p: np.exp(log_p))
symbol("log_p_2", "trajectory distribution of pi'", "(P, N)", "log-probability")(lambda mdp, log_pi_2: mdp.path_sum(log_pi_2))
symbol("d_pi", "probability that p_pi passes through s", "(P, S)", "probability")(lambda mdp, log_pi: np.exp(mdp.prefix_sum(log_pi)))
symbol("d_ref", "probability that p_ref passes through s", "(P, S)", "probability")(
    lambda mdp, log_pi_ref: np.exp(mdp.prefix_sum(log_pi_ref))
)
symbol("E_r", "E_p[r] for each prompt", "(P,)", "reward units")(lambda log_p, r: expect(log_p, r))
symbol("KL", "KL(p, p_ref) for each prompt", "(P,)", "nats")(lambda log_p, log_p_ref: kl(log_p, log_p_ref))
symbol("J_x", "E_p[r] - beta KL(p, p_ref) for each prompt", "(P,)", "reward units")(lambda E_r, beta, KL: E_r - beta * KL)
symbol("J", "E_mu of J_x", "scalar", "reward units")(lambda mu, J_x: np.sum(mu * J_x))

# ---------------------------------------------------------------------------------------------------- the optimum

symbol("solution", "the solved world", "Gibbs")(lambda world: gibbs.solve(world))
symbol("value", "V(x) = beta log Z(x)", "(P,)", "reward units")(lambda solution: solution.V)
symbol("log_Z", "log Z(x)", "(P,)", "nats")(lambda solution: solution.log_Z)
symbol("log_p_star", "the Gibbs optimum p*", "(P, N)", "log-probability")(lambda solution: solution.log_p)
symbol("p_star", "the Gibbs optimum p*", "(P, N)", "probability")(lambda log_p_star: np.exp(log_p_star))
symbol("soft", "the soft Bellman solution", "SoftBellman")(lambda world: gibbs.soft_bellman(world.mdp, world.log_ref, world.r, world.beta))
symbol("V_soft", "soft value of every state", "(P, S)", "reward units")(lambda soft: soft.V)
symbol("Q_soft", "soft value of every state and token", "(P, S, V)", "reward units")(lambda soft: soft.Q)
symbol("log_pi_star", "the soft policy pi*", "(P, S, V)", "log-probability")(lambda soft: soft.log_pi)

# ---------------------------------------------------------------------------------------------------- test objects, drawn

symbol("f", "a test function on trajectories", "(P, N)")(lambda r, rng: half_integers(rng, r.shape))
symbol("phi", "a potential on states", "(P, S)", "reward units")(lambda mdp, rng: half_integers(rng, (mdp.P, mdp.S)))
symbol("proxy", "a proxy reward r' = r + error", "(P, N)", "reward units")(lambda r, rng: r + half_integers(rng, r.shape))
symbol("eta", "step length, with eta beta < 1", "scalar", "nats per reward unit")(lambda beta, rng: rng.integers(1, 8) / 8 / beta)
symbol("eps", "probability of a mistake", "scalar", "probability")(lambda rng: float(rng.integers(1, 5)) / 10)
symbol("gamma", "weight of the pretraining term", "scalar", "reward units")(lambda beta, rng: beta * rng.integers(1, 9) / 4)


@symbol("log_D", "a data distribution D covered by p_ref, with gaps", "(P, N)", "log-probability")
def _log_D(log_p_ref: Any, rng: Any) -> Any:
    heaviest = np.arange(log_p_ref.shape[1]) == np.argmax(log_p_ref, axis=1)[:, None]
    kept = (~np.isneginf(log_p_ref) & (rng.random(log_p_ref.shape) < 0.6)) | heaviest
    return log_softmax(np.where(kept, half_integers(rng, log_p_ref.shape), -np.inf))
