"""Exercises on chapter 1: the tree of responses, who passes where, and policies and laws turned into each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import exercise
from tabular_rlhf.formula.reading import Clause
from tabular_rlhf.terms.policies import counted_path, level_totals

# ---------------------------------------------------------------------------------------------------- count-the-tree


exercise(
    slug="count-the-tree",
    chapter=1,
    notebook="01",
    title="How large is the tree?",
    statement=(
        "There are $V$ tokens and a response has at most $H$ of them. One may go on after $K$ of the tokens: $K = V$, or $K = V - 1$ "
        "where the last token, EOS, ends the response. Count the states $S$ in which a token is still to be chosen, and the "
        "responses $N$, and return them as `[S, N]`: shape `(2,)`."
    ),
    hint="Level h of the tree holds K^h states. Which responses stop before the last level, and how many can a last state end in?",
    rows=("tree-counts",),
    answer=(1, Clause(2, 1)),
    given=("V", "K", "H"),
    without=("S", "N", "mdp", "world"),
    misses={
        "EOS treated as a word that may be continued": (
            r"\sum_{h=0}^{H-1} V^h",
            "V^H",
        ),
        "V to the power H: responses that stop early forgotten": (
            r"\sum_{h=0}^{H-1} K^h",
            "V^H",
        ),
        "the last level alone: responses that stop early not counted": (
            r"\sum_{h=0}^{H-1} K^h",
            "V K^{H-1}",
        ),
        "n for n - 1: finished responses of length H counted as states": (
            r"\sum_{h=0}^{H} K^h",
            1,
        ),
        "states of the last level only": (
            "K^{H-1}",
            1,
        ),
    },
)

# ---------------------------------------------------------------------------------------------------- log-probability

exercise(
    slug="log-probability",
    chapter=1,
    notebook="01",
    title="From choices to responses",
    statement=(
        "`log_pi[x, s, a]` is $\\log \\pi(a \\mid s)$ for prompt $x$, of shape `(P, S, V)`. Return $\\log p_\\pi(\\tau \\mid x)$ "
        "of every response: shape `(P, N)`, nats."
    ),
    hint="One term for each token that is said, the last one included; `mdp.path_sum` adds a table up along every response.",
    rows=("chain-rule",),
    forbidden="refused",
    answer=1,
    given=("mdp", "log_pi"),
    without=("log_p", "p", "L", "log_p_held"),
    misses={
        "EOS token not counted in log pi": counted_path,
        "mean over tokens where the sum was due": r"\frac{1}{|\tau|} \sum_h \log \pi(a_h \mid s_h)",
        "unconditional for conditional probabilities: the first state's row everywhere": lambda mdp, log_pi: mdp.path_sum(
            np.broadcast_to(log_pi[:, :1], log_pi.shape)
        ),
        "probabilities added where logarithms were due": r"\sum_h \pi(a_h \mid s_h)",
        "log base 2": r"\frac{1}{\log 2} \sum_h \log \pi(a_h \mid s_h)",
    },
)

# ---------------------------------------------------------------------------------------------------- state-visits

exercise(
    slug="state-visits",
    chapter=1,
    notebook="01",
    title="Where does one pass?",
    statement=(
        "Return the occupancy $d_\\pi(s)$ for each prompt: the probability that a response of $\\pi$ passes through state $s$, "
        "shape `(P, S)`. (`p[x, tau]` is $p_\\pi(\\tau \\mid x)$; `mdp.subtree_sum(f)` turns a table over responses, `(P, N)`, "
        "into its sums over the responses that say $a$ in $s$, `(P, S, V)`.)"
    ),
    hint="Add up the responses through s; whatever is said in s, they have passed through it.",
    rows=("occupancy",),
    answer=1,
    given=("mdp", "p"),
    without=("d_pi",),
    misses={
        "d_ref for d_pi": "d_{ref}(s)",
        "conditional for unconditional: given that the response gets that far": lambda mdp, d_pi: d_pi / level_totals(mdp, d_pi),
        "normalized over all states": r"\frac{d_\pi(s)}{\sum_{s'} d_\pi(s')}",
        "mean over tokens where the sum was due": lambda d_pi, V: d_pi / V,
        "the logarithm of the answer": r"\log d_\pi(s)",
    },
)

# ---------------------------------------------------------------------------------------------------- policy-of-a-law


def masses(mdp: Any, p: Any) -> tuple[Any, Any]:
    """p(s + a) and p(s)."""
    through = mdp.subtree_sum(p)
    return through, np.sum(through, axis=2, keepdims=True)


exercise(
    slug="policy-of-a-law",
    chapter=1,
    notebook="01",
    title="Any law is a policy",
    statement=(
        "`p[x, tau]` is the probability of response $\\tau$ to prompt $x$, of shape `(P, N)`. Return the policy "
        "$\\pi(a \\mid s)$ that says each response with just this probability: shape `(P, S, V)`, every row summing to one."
    ),
    hint="The mass of the responses through s and a, divided by the mass of those through s; `mdp.subtree_sum` finds masses.",
    rows=("policies-are-distributions",),
    forbidden="refused",
    given=("mdp", "p"),
    without=("pi", "log_pi", "logits"),
    misses={
        "responses counted, their probabilities omitted": lambda mdp, p: masses(mdp, np.ones_like(p))[0] / masses(mdp, np.ones_like(p))[1]
    },
    text=r"""
    \frac{p(s + a)}{p(s)}
      not p(s + a)  # unconditional for conditional probabilities: p(s + a)
      not \frac{p(s)}{p(s + a)}  # the quotient upside down: p(s)/p(s + a)
      not \frac{p(s + a)}{\sum_{s'} \sum_b p(s' + b)}  # normalized over all states together
      not \pi_{ref}(a \mid s)  # the reference policy for that of p
    """,
)

# ---------------------------------------------------------------------------------------------------- advantages


def greedy_advantage(mdp: Any, r: Any) -> Any:
    V, Q = mdp.backup(r, lambda h, Q: np.max(Q, axis=1))
    return Q - V[:, :, None]


def even_advantage(mdp: Any, r: Any) -> Any:
    V, Q = mdp.backup(r, lambda h, Q: np.mean(Q, axis=1))
    return Q - V[:, :, None]


exercise(
    slug="advantages",
    chapter=1,
    notebook="01",
    title="How good is a choice?",
    minutes=15,
    statement=(
        "`log_pi_2` is a policy $\\pi'$, of shape `(P, S, V)`, and `r` the reward of every response, `(P, N)`. $V'(s)$ is the mean "
        "reward when $\\pi'$ goes on from $s$; $Q'(s, a)$ is the mean reward when $a$ is chosen in $s$ and $\\pi'$ goes on from "
        "there. Return the advantage $A'(s, a) = Q'(s, a) - V'(s)$: shape `(P, S, V)`, reward units. (`mdp.backup(r, reduce)` "
        "sweeps from the ends to the root and returns $V$ and $Q$; `reduce(h, Q)` gets the $Q$ of level $h$, of shape "
        "`(P, V, states of the level)`, and returns its $V$; `mdp.levels(x)` cuts a table of shape `(P, S, V)` into such levels.)"
    ),
    hint="In every state the mean of A' under pi' itself is zero: use that as a check.",
    rows=("performance-difference",),
    forbidden="refused",
    given=("mdp", "log_pi_2", "r"),
    misses={
        "the best continuation for the mean one: greedy": lambda mdp, r: greedy_advantage(mdp, r),
        "tokens averaged evenly: pi' omitted": lambda mdp, r: even_advantage(mdp, r),
    },
    scale=lambda r: 1.0 + np.max(np.abs(r)),
    text=r"""
    \mathbb{E}_{p_2}[r \mid s, a] - \mathbb{E}_{p_2}[r \mid s]
      not \mathbb{E}_{p_2}[r \mid s] - \mathbb{E}_{p_2}[r \mid s, a]  # sign flipped
      not \mathbb{E}_{p_2}[r \mid s, a]  # Q without V
      not \mathbb{E}_p[r \mid s, a] - \mathbb{E}_p[r \mid s]  # advantages of pi, not of pi'
    """,
)
