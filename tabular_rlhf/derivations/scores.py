r"""What the derivations of chapters 7 and 8 are written in: gradients of responses one by one, and the sums they are added up in.

Throughout, theta are the logits of pi in every state, (P, S, V), so that a gradient has that shape; a table of gradients has one for
every response of every prompt, (P, N, P, S, V).  What is *frozen* is an argument that the gradient core does not see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad, jacobian
from tabular_rlhf.logspace import log_softmax
from tabular_rlhf.policy_gradient.updates import paths


def each(world: Any, logits: Any, f: Callable[[Any], Any]) -> Any:
    """The gradient of f(log p) for every response by itself, by the gradient core: (P, N, P, S, V); 0 for impossible responses."""
    possible = ~np.isneginf(world.log_p_ref)
    return jacobian(lambda t: np.where(possible, f(np.where(possible, world.mdp.path_sum(log_softmax(t)), 0.0)), 0.0))(logits)


def of_mean(world: Any, logits: Any, f: Callable[[Any], Any]) -> Any:
    """The gradient of E_mu[f(log p)], f of shape (P,), by the gradient core: (P, S, V)."""
    return grad(lambda t: np.sum(world.mu * f(world.mdp.path_sum(log_softmax(t)))))(logits)


def weigh(mu: Any, w: Any, slopes: Any) -> Any:
    """sum over x of mu(x) sum over tau of w(tau) slopes(tau): (P, S, V)."""
    return np.einsum("x,xn,xnysv->ysv", mu, w, slopes)


def times(w: Any, slopes: Any) -> Any:
    """A number for every response, (P, N), times its gradient."""
    return w[..., None, None, None] * slopes


def along(mdp: Any, pi: Any, w: Any) -> Any:
    """sum over t of w_t grad log pi(a_t given s_t) along every response, w a number or a table (P, N, S, V): (P, N, P, S, V)."""
    taken = paths(mdp) * w
    rows = taken - pi[:, None] * np.sum(taken, axis=-1, keepdims=True)
    return np.einsum("xnsv,xy->xnysv", rows, np.eye(mdp.P))


def by_token(world: Any, logits: Any, w: Any) -> Any:
    """sum over x of mu(x) sum over s, a of w(s, a) grad log pi(a given s), w frozen, by the gradient core."""
    possible = ~np.isneginf(logits)
    held = world.mu[:, None, None] * w
    return grad(lambda t: np.sum(held * np.where(possible, log_softmax(t), 0.0)))(logits)
