"""Exercises on chapter 1: the tree of responses, who passes where, and policies and laws turned into each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.exercises.record import Exercise, add
from tabular_rlhf.terms.policies import counted_path, level_totals, plain_values

# ---------------------------------------------------------------------------------------------------- count-the-tree


def tree(V: int, K: int, H: int) -> Any:
    """S and N: the states of all levels, and the responses that stop early plus those that reach the last level."""
    states = [K**h for h in range(H)]
    early = sum(states[:-1]) if K < V else 0
    return np.array([sum(states), early + states[-1] * V])


add(
    Exercise(
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
        answer=tree,
        without=("S", "N", "mdp", "world"),
        misses={
            "EOS treated as a word that may be continued": lambda V, H: np.array([sum(V**h for h in range(H)), V**H]),
            "V to the power H: responses that stop early forgotten": lambda V, K, H: np.array([tree(V, K, H)[0], V**H]),
            "the last level alone: responses that stop early not counted": lambda V, K, H: np.array([tree(V, K, H)[0], K ** (H - 1) * V]),
            "n for n - 1: finished responses of length H counted as states": lambda V, K, H: np.array(
                [sum(K**h for h in range(H + 1)), tree(V, K, H)[1]]
            ),
            "states of the last level only": lambda V, K, H: np.array([K ** (H - 1), tree(V, K, H)[1]]),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- log-probability

add(
    Exercise(
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
        answer=lambda mdp, log_pi: mdp.path_sum(log_pi),
        without=("log_p", "p", "L", "log_p_held"),
        misses={
            "EOS token not counted in log pi": counted_path,
            "mean over tokens where the sum was due": lambda mdp, log_pi, lengths: mdp.path_sum(log_pi) / lengths,
            "unconditional for conditional probabilities: the first state's row everywhere": lambda mdp, log_pi: mdp.path_sum(
                np.broadcast_to(log_pi[:, :1], log_pi.shape)
            ),
            "probabilities added where logarithms were due": lambda mdp, log_pi: mdp.path_sum(np.exp(log_pi)),
            "log base 2": lambda mdp, log_pi: mdp.path_sum(log_pi) / np.log(2.0),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- state-visits

add(
    Exercise(
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
        answer=lambda mdp, p: np.sum(mdp.subtree_sum(p), axis=2),
        without=("d_pi",),
        misses={
            "d_ref for d_pi": lambda d_ref: d_ref,
            "conditional for unconditional: given that the response gets that far": lambda mdp, d_pi: d_pi / level_totals(mdp, d_pi),
            "normalized over all states": lambda d_pi: d_pi / np.sum(d_pi, axis=1, keepdims=True),
            "mean over tokens where the sum was due": lambda d_pi, V: d_pi / V,
            "the logarithm of the answer": lambda d_pi: np.log(d_pi),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- policy-of-a-law


def masses(mdp: Any, p: Any) -> tuple[Any, Any]:
    """p(s + a) and p(s)."""
    through = mdp.subtree_sum(p)
    return through, np.sum(through, axis=2, keepdims=True)


add(
    Exercise(
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
        answer=lambda mdp, p: masses(mdp, p)[0] / masses(mdp, p)[1],
        without=("pi", "log_pi", "logits"),
        misses={
            "unconditional for conditional probabilities: p(s + a)": lambda mdp, p: masses(mdp, p)[0],
            "the quotient upside down: p(s)/p(s + a)": lambda mdp, p: masses(mdp, p)[1] / masses(mdp, p)[0],
            "normalized over all states together": lambda mdp, p: masses(mdp, p)[0] / np.sum(masses(mdp, p)[0], axis=(1, 2), keepdims=True),
            "the reference policy for that of p": lambda pi_ref: pi_ref,
            "responses counted, their probabilities omitted": lambda mdp, p: (
                masses(mdp, np.ones_like(p))[0] / masses(mdp, np.ones_like(p))[1]
            ),
        },
    )
)

# ---------------------------------------------------------------------------------------------------- advantages


def advantage(mdp: Any, log_pi: Any, r: Any) -> Any:
    """Q - V of a policy, by the backward sweep."""
    V, Q = plain_values(mdp, log_pi, r)
    return Q - V[:, :, None]


def greedy_advantage(mdp: Any, r: Any) -> Any:
    V, Q = mdp.backup(r, lambda h, Q: np.max(Q, axis=1))
    return Q - V[:, :, None]


def even_advantage(mdp: Any, r: Any) -> Any:
    V, Q = mdp.backup(r, lambda h, Q: np.mean(Q, axis=1))
    return Q - V[:, :, None]


add(
    Exercise(
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
        answer=lambda mdp, log_pi_2, r: advantage(mdp, log_pi_2, r),
        misses={
            "Q without V": lambda mdp, log_pi_2, r: plain_values(mdp, log_pi_2, r)[1],
            "sign flipped": lambda mdp, log_pi_2, r: -advantage(mdp, log_pi_2, r),
            "advantages of pi, not of pi'": lambda mdp, log_pi, r: advantage(mdp, log_pi, r),
            "the best continuation for the mean one: greedy": lambda mdp, r: greedy_advantage(mdp, r),
            "tokens averaged evenly: pi' omitted": lambda mdp, r: even_advantage(mdp, r),
        },
        scale=lambda r: 1.0 + np.max(np.abs(r)),
    )
)
