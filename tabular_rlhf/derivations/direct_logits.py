r"""Chapter 6 as a derivation: what gradient descent on DPO's loss conserves.

Data are finite: some responses of a prompt are compared, others never.  Compared responses are linked; a component of these links is C.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations.direct import rhat
from tabular_rlhf.derivations.record import Derivation, Line, add
from tabular_rlhf.ledger.chapter6 import size_of
from tabular_rlhf.ledger.chapter6_data import component_sums, drift, finite_data, log_p_rate
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.losses.evaluate import gradient, scatter, value
from tabular_rlhf.world import World

# ---------------------------------------------------------------------------------------------------- logit-conservation


def slope(world: World, log_p: Any) -> Any:
    """dL/d log p(y), the entries of log p free, by the gradient core: (P, N)."""
    return gradient("dpo", world, log_p, finite_data(world))


def logit_slope(world: World, log_p: Any) -> Any:
    """dL/d theta_y through log p = log_softmax(theta), by the gradient core; theta = log p."""
    data = finite_data(world)
    return grad(lambda t: value("dpo", world, log_softmax(t), data))(log_p)


def pushes(world: World, log_p: Any, beta: float, *, w: float = 1.0, l: float = -1.0, sign: float = -1.0) -> Any:
    """The sum over pairs of -beta omega sigma(-m) (1_{y = y_w} - 1_{y = y_l})."""
    data = finite_data(world)
    m = data.margin(rhat(log_p, world.log_p_ref, beta))
    push = -beta * data.weight * np.exp(log_sigmoid(sign * m))
    return scatter(world, data, w * push, l * push)


add(
    Derivation(
        slug="logit-conservation",
        title="Descent on DPO's loss only moves logits within a component of compared responses",
        chapter=6,
        rows=("logit-conservation",),
        source="Ours: the gradient in log p sums to zero over each component, so the softmax adds nothing.",
        largest=60,
        scale=lambda r, beta, log_p, log_p_ref: (1.0 + beta) * size_of(r, beta, log_p, log_p_ref),
        lines=(
            Line(
                r"g_y = \frac{\partial L}{\partial \log \pi(y)}",
                "The loss on finite data, its slope in one log-probability while the others are held; by the gradient core.",
                lambda world, log_p: slope(world, log_p),
            ),
            Line(
                r"-\beta \sum_{(w, l)} \omega_{wl}\, \sigma(\hat r_l - \hat r_w) \left( 1_{y = w} - 1_{y = l} \right)",
                "Each pair, of weight omega, pushes its winner and its loser equally hard, in opposite directions (dpo-gradient).",
                lambda world, log_p, beta: pushes(world, log_p, beta),
                wrong={
                    "both pushed up": lambda world, log_p, beta: pushes(world, log_p, beta, l=1.0),
                    "sigma of the right order": lambda world, log_p, beta: pushes(world, log_p, beta, sign=1.0),
                    "beta dropped": lambda world, log_p, beta: pushes(world, log_p, beta) / beta,
                },
            ),
            Line(
                r"\sum_{y \in C} g_y",
                "Add up over a component C of the comparison graph; shown beside each of its responses.",
                lambda world, log_p: component_sums(world, slope(world, log_p)),
                relation="so",
            ),
            Line(
                r"-\beta \sum_{(w, l) \in C} \omega_{wl}\, \sigma(\hat r_l - \hat r_w) (1 - 1)",
                "Both ends of a pair are in the same component: it enters once with + and once with -.",
                lambda world, log_p, beta: component_sums(world, pushes(world, log_p, beta, l=0.0) + pushes(world, log_p, beta, w=0.0)),
                wrong={
                    "winners alone": lambda world, log_p, beta: component_sums(world, pushes(world, log_p, beta, l=0.0)),
                    "losers added": lambda world, log_p, beta: component_sums(world, pushes(world, log_p, beta, l=1.0)),
                },
            ),
            Line(
                "0",
                "1 - 1 = 0, whatever the weights.",
                lambda r: np.zeros_like(r),
                wrong={
                    "also with an NLL term on the winners": lambda world, log_p: component_sums(
                        world, gradient("cpo", world, log_p, finite_data(world))
                    )
                },
            ),
            Line(
                r"\frac{\partial L}{\partial \theta_y}, \quad \log \pi(y) = \theta_y - \log \sum_{y'} e^{\theta_{y'}}",
                "What descends are logits, and one logit moves every log-probability of its prompt.",
                lambda world, log_p: logit_slope(world, log_p),
                relation="so",
            ),
            Line(
                r"\sum_{y'} g_{y'} \left( 1_{y' = y} - \pi(y) \right)",
                "Chain rule: theta_y raises log pi(y) by 1 - pi(y), and lowers every other by pi(y).",
                lambda world, log_p: np.einsum("xz,xzy->xy", slope(world, log_p), np.eye(world.mdp.N)[None] - np.exp(log_p)[:, None, :]),
                wrong={
                    "its own log-probability alone": lambda world, log_p: slope(world, log_p) * (1.0 - np.exp(log_p)),
                    "raised by pi(y)": lambda world, log_p: slope(world, log_p) * np.exp(log_p),
                },
            ),
            Line(
                r"g_y - \pi(y) \sum_{y'} g_{y'}",
                "Take pi(y), which does not depend on y', out of the sum.",
                lambda world, log_p: slope(world, log_p) - np.exp(log_p) * np.sum(slope(world, log_p), axis=1, keepdims=True),
                wrong={"the sum taken for g_y": lambda world, log_p: slope(world, log_p) * (1.0 - np.exp(log_p))},
            ),
            Line(
                r"g_y",
                "Line 5 for every component: all g of a prompt add up to 0, so the softmax adds nothing.",
                lambda world, log_p: slope(world, log_p),
                wrong={"the logit of a response never compared falls": lambda world, log_p: slope(world, log_p) + np.exp(log_p)},
            ),
            Line(
                r"\frac{d}{dt} \sum_{y \in C} \theta_y = -\sum_{y \in C} \frac{\partial L}{\partial \theta_y}",
                "Gradient flow moves every logit by minus its slope; by the gradient core.",
                lambda world, log_p: -component_sums(world, logit_slope(world, log_p)),
                relation="so",
            ),
            Line(
                "0",
                "By lines 9 and 5 the sum of the logits of a component is conserved; a response that was never compared keeps its logit.",
                lambda r: np.zeros_like(r),
                wrong={
                    "of log pi for logits": lambda world, log_p: component_sums(world, log_p_rate(world, log_p)),
                    "also with absolute terms (NCA)": lambda world, log_p: drift(world, log_p, "nca-pair"),
                },
            ),
        ),
    )
)
