r"""Group methods with 0/1 rewards: one theorem, by which any table of advantages is judged.

**Symbols.**  A group of G responses to one prompt; u, the probability of a right one; m, how many of the group are right; A(m), the
advantage of a right response among m, for 0 < m < G.  Advantages of a group have mean zero, so a wrong response has -m A(m)/(G - m);
groups whose rewards are all equal are silent.

**Theorem** (`group-bernstein`).  On policy, with scores of whole responses and the mean over the group,

    E[(1/G) sum_i A_i score_i] = w(u) grad u,      w(u) = sum_{j=0}^{G-2} C(G-2, j) u^j (1-u)^{G-2-j} c_j,
    c_{m-1} = A(m) (G-1)/(G-m),

for each prompt by itself.  So w is a polynomial of degree at most G - 2 in Bernstein's basis, every such polynomial belongs to exactly
one A, and 1/u, 1/(u (1-u)) belong to none.  With G = 2 every method is REINFORCE times a constant.  The method ascends the integral of w.

    >>> judge([Fraction(1), Fraction(1, 2)]).weight              # RLOO at G = 3: A(m) = (G - m)/(G - 1)
    (Fraction(1, 1),)
    >>> str(judge(table("max-rl", 4)))
    'w(u) = 3 - 3 u + u^2: of degree 2, falls from 3 to 1; ascends 3 u - 3/2 u^2 + 1/3 u^3'
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, did_you_mean, quoted
from tabular_rlhf.logspace import Array

Number = Fraction | float | int
METHODS: Mapping[str, Callable[[int, int], Number]] = {
    "group-mean": lambda m, G: Fraction(G - m, G),
    "rloo": lambda m, G: Fraction(G - m, G - 1),
    "max-rl": lambda m, G: Fraction(G - m, m),
    "grpo": lambda m, G: math.sqrt((G - m) / m),
    "variance": lambda m, G: Fraction(G, m),
}
"""A(m) of methods by name: r less the group's mean, or the others'; over the mean; over the standard deviation; over the variance."""


def table(name: str, G: int) -> tuple[Number, ...]:
    """A(1), ..., A(G - 1) of a method of `METHODS`.

    >>> table("rloo", 4)
    (Fraction(1, 1), Fraction(2, 3), Fraction(1, 3))
    """
    if name not in METHODS:
        raise InputError("a method must be known", got=quoted(name), remedy=did_you_mean(name, METHODS, "or give its table A(m)"))
    return tuple(METHODS[name](m, G) for m in range(1, G))


def coefficients(A: Sequence[Number]) -> tuple[Number, ...]:
    """c_0, ..., c_{G-2} of w in Bernstein's basis, from A(1), ..., A(G - 1).

    >>> coefficients(table("rloo", 4))
    (Fraction(1, 1), Fraction(1, 1), Fraction(1, 1))
    """
    G = len(A) + 1
    if G < 2:
        raise InputError("a table must hold A(1), ..., A(G - 1)", got="no numbers", remedy="a group has at least two members")
    return tuple(a * (G - 1) / Fraction(G - m) if isinstance(a, Fraction | int) else a * (G - 1) / (G - m) for m, a in enumerate(A, 1))


def advantages_of(c: Sequence[Number]) -> tuple[Number, ...]:
    """The one table A whose weight has the coefficients c: the inverse of `coefficients`.

    >>> advantages_of(coefficients([1, 5, 0]))
    (Fraction(1, 1), Fraction(5, 1), Fraction(0, 1))
    """
    G = len(c) + 1
    return tuple(x * Fraction(G - m, G - 1) if isinstance(x, Fraction | int) else x * (G - m) / (G - 1) for m, x in enumerate(c, 1))


def weight(A: Sequence[Number], u: Any) -> Array:
    """w(u), by de Casteljau's steps, which never cancel: the shape of u.

    >>> weight(table("max-rl", 3), [0.0, 0.5, 1.0]).tolist()  # 2 - u
    [2.0, 1.5, 1.0]
    """
    u = np.asarray(u, dtype=np.float64)
    c = [np.full(u.shape, float(x)) for x in coefficients(A)]
    while len(c) > 1:
        c = [(1.0 - u) * a + u * b for a, b in itertools.pairwise(c)]
    return c[0]


def polynomial(A: Sequence[Number]) -> tuple[Number, ...]:
    """w in powers of u, the constant first, without zeros at its end: exact where A is.

    >>> polynomial(table("max-rl", 4))
    (Fraction(3, 1), Fraction(-3, 1), Fraction(1, 1))
    """
    c = coefficients(A)
    d = len(c) - 1
    powers: list[Number] = [0] * (d + 1)
    for j, x in enumerate(c):
        for k in range(d - j + 1):
            powers[j + k] += x * math.comb(d, j) * math.comb(d - j, k) * (-1) ** k
    exact = all(isinstance(x, Fraction | int) for x in c)
    noise = 0 if exact else 1e-12 * max(map(abs, map(float, c))) * 2**d
    while len(powers) > 1 and abs(float(powers[-1])) <= noise:
        powers.pop()
    return tuple(powers)


def enumerated(A: Sequence[Number], u: Number) -> Number:
    """w(u) over all 2^G groups of right and wrong responses, one by one: the theorem's other side, for 0 < u < 1.

    >>> enumerated(table("max-rl", 3), Fraction(1, 2))
    Fraction(3, 2)
    """
    if not 0 < u < 1:
        raise InputError("u must lie between 0 and 1, both excluded", got=str(u), remedy="`weight` has the ends too")
    G = len(A) + 1
    total: Number = 0
    for right in itertools.product((False, True), repeat=G):
        m = sum(right)
        if 0 < m < G:
            push: Number = 0
            for r in right:  # A_i d log p_i/du: of a right response 1/u, of a wrong one -1/(1 - u)
                push += A[m - 1] / u if r else m * A[m - 1] / (1 - u) / (G - m)
            total += u**m * (1 - u) ** (G - m) * push / G
    return total


# ---------------------------------------------------------------------------------------------------- the judgment


@dataclass(frozen=True)
class Judgment:
    """What a table of advantages does: weight, w in powers of u; c, in Bernstein's basis."""

    A: tuple[Number, ...]
    c: tuple[Number, ...]
    weight: tuple[Number, ...]

    @property
    def degree(self) -> int:
        """The degree of w: 0 where the method is REINFORCE times a constant."""
        return len(self.weight) - 1

    @property
    def objective(self) -> tuple[Number, ...]:
        """What is ascended, F with F' = w and F(0) = 0, in powers of u."""
        return (0, *(x / Fraction(k) if isinstance(x, Fraction | int) else x / k for k, x in enumerate(self.weight, 1)))

    @property
    def harmful(self) -> tuple[float, float] | None:
        """Where right responses are pushed down, w < 0: the first such interval of u on a grid of 1/1000, None if there is none."""
        u = np.linspace(0.0, 1.0, 1001)
        below = np.flatnonzero(weight(self.A, u) < 0)
        if not len(below):
            return None
        last = below[np.flatnonzero(np.diff(np.append(below, -2)) != 1)[0]]
        return float(u[below[0]]), float(u[last])

    @property
    def course(self) -> str:
        """How w goes with u, from Bernstein's coefficients where they are monotone (then w is), else from a grid."""
        steps = np.diff(np.array([float(x) for x in self.c]))
        steps = steps if np.all(steps >= 0) or np.all(steps <= 0) else np.diff(weight(self.A, np.linspace(0.0, 1.0, 1001)))
        ends = f"from {shown(self.c[0])} to {shown(self.c[-1])}"
        return f"rises {ends}" if np.all(steps >= 0) else f"falls {ends}" if np.all(steps <= 0) else f"turns between, {ends}"

    def __str__(self) -> str:
        said = f"w(u) = {written(self.weight)}: "
        what = "REINFORCE times a constant" if self.degree == 0 else f"of degree {self.degree}, {self.course}"
        bad = "" if self.harmful is None else f"; pushes right responses DOWN for u from {self.harmful[0]:g} to {self.harmful[1]:g}"
        return f"{said}{what}; ascends {written(self.objective)}{bad}"


def judge(A: Sequence[Number]) -> Judgment:
    """What a table A(1), ..., A(G - 1) ascends, and how it weighs prompts; exact for whole numbers and fractions.

    Raises: InputError for an empty table, or a number that is none.

    >>> str(judge([1]))
    'w(u) = 1: REINFORCE times a constant; ascends u'
    >>> str(judge([1.0, -1.0]))
    'w(u) = 1 - 3 u: of degree 1, falls from 1 to -2; ascends u - 1.5 u^2; pushes right responses DOWN for u from 0.334 to 1'
    """
    wrong = [a for a in A if not math.isfinite(a)]
    if wrong:
        raise InputError("an advantage must be a finite number", got=wrong[0], remedy="silent groups are not in the table")
    return Judgment(tuple(A), coefficients(A), polynomial(A))


def shown(x: Number) -> str:
    return str(x) if isinstance(x, Fraction | int) else f"{x:.6g}"


def written(powers: Sequence[Number]) -> str:
    """A polynomial as it is written.

    >>> written([0, 1, Fraction(-1, 2)])
    'u - 1/2 u^2'
    """
    terms = list[tuple[bool, str]]()
    for k, x in enumerate(powers):
        if x or len(powers) == 1:
            letter = "" if k == 0 else "u" if k == 1 else f"u^{k}"
            size = shown(-x if x < 0 else x)
            terms.append((x < 0, letter if size == "1" and letter else f"{size} {letter}".strip()))
    first, *rest = terms or [(False, "0")]
    return ("-" if first[0] else "") + first[1] + "".join(f" {'-' if minus else '+'} {text}" for minus, text in rest)


# ---------------------------------------------------------------------------------------------------- all groups


def all_groups(p: Array, G: int) -> tuple[Any, Array]:
    """The N^G groups of responses of law p (N,): which they are (M, G), and how likely (M,)."""
    members = np.stack([np.ravel(i) for i in np.indices((len(p),) * G)], axis=1)
    return members, np.prod(p[members], axis=1)


def pull(p: Array, r: Array, G: int, advantage: Callable[[Array], Array]) -> Array:
    """E[(1/G) sum_i A_i 1{tau_i = tau}] over all groups, of every response of every prompt, (P, N): times the score, the expected update.

    Args: p, r (P, N), their law and reward; advantage, from the rewards of groups (M, G) to theirs.

    >>> pull(np.array([[0.5, 0.5]]), np.array([[0.0, 1.0]]), 2, lambda r: r - np.mean(r, axis=1, keepdims=True)).tolist()
    [[-0.125, 0.125]]
    """
    out = np.zeros_like(p)
    for x, law in enumerate(p):
        members, chance = all_groups(law, G)
        A = advantage(r[x][members]) * chance[:, None] / G
        out[x] = np.bincount(np.ravel(members), np.ravel(A), len(law))
    return out


def by_table(A: Callable[[Any], Any]) -> Callable[[Array], Array]:
    """The advantages of groups of 0/1 rewards, from A(m): a wrong response has -m A(m)/(G - m), a silent group 0."""

    def advantage(right: Array) -> Array:
        G, m = right.shape[1], np.sum(right, axis=1, keepdims=True)
        mixed = (m > 0) & (m < G)
        a = np.where(mixed, A(np.where(mixed, m, 1)), 0.0)
        return np.asarray(np.where(right > 0, a, -m * a / np.maximum(G - m, 1)))

    return advantage
