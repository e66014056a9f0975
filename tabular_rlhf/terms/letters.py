"""What letters stand for, and the formulas and functions that several records call by one letter."""

from __future__ import annotations

from tabular_rlhf.estimators import ESTIMATORS

K3 = ESTIMATORS["k3"].h
U = {"u": "E_p[success]"}
"""u, the probability of a right response to a prompt."""
TABLE = r"A(m) = c_0 + c_1 m + c_2 m^2"
OLD = {"p_old": "p_2", "pi_old": "pi_2"}
RATIO = r"\rho(s, a) = \frac{\pi(a \mid s)}{\pi_{old}(a \mid s)}, \quad k(s, a) = \mathrm{clip}(\rho(s, a), 1 - c, 1 + c)"
FAIR = (
    r"\mathbb{E}_{x \sim \mu, y \sim p_{old}}[\sum_h \frac{\min(\rho(s_h, a_h), k(s_h, a_h)) + "
    r"\min(-\rho(s_h, a_h), -k(s_h, a_h))}{2}]"
)
PULL = r"-\frac{1}{2}\, \mathbb{E}_{x \sim \mu, y \sim p_{old}}[\sum_h |\rho(s_h, a_h) - k(s_h, a_h)|]"


def pulled(*names: str) -> dict[str, str]:
    """What the letters of expected updates stand for."""
    return {f"g_{letter}": f"sum_tau {name}(tau)*score(tau)" for letter, name in (n.split("=") for n in names)}
