"""Symbols of PPO with a pretraining term: the maximizer p^o of E_p[r] - beta KL(p, p_ref) + gamma E_D[log p], and what is taken from it."""

from __future__ import annotations

import numpy as np

from tabular_rlhf.penalties import ptx_optimum
from tabular_rlhf.symbols.table import symbol

symbol("ptx", "the solved objective with a pretraining term", "PenalizedOptimum")(
    lambda log_p_ref, r, beta, gamma, log_D: ptx_optimum(log_p_ref, r, beta, gamma, log_D)
)
symbol("log_p_ptx", "the maximizer p^o of E_p[r] - beta KL(p, p_ref) + gamma E_D[log p]", "(P, N)", "log-probability")(
    lambda ptx: ptx.log_p
)
symbol("lam_ptx", "the multiplier at p^o, for the sum of p being 1", "(P,)", "reward units")(lambda ptx: ptx.lam)
symbol("log_p_ptx_far", "p^o at the KL weight beta/(1 + far)", "(P, N)", "log-probability")(
    lambda log_p_ref, r, beta, gamma, log_D, far: ptx_optimum(log_p_ref, r, beta / (1.0 + far), gamma, log_D).log_p
)
symbol("log_p_ptx_0", "p^o for a reward of 0", "(P, N)", "log-probability")(
    lambda log_p_ref, beta, gamma, log_D: ptx_optimum(log_p_ref, np.zeros_like(log_D), beta, gamma, log_D).log_p
)
