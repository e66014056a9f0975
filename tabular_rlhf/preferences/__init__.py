r"""Learning from preferences: what people say (`laws`), how often (`comparisons`), and the rewards that explain it best
(`likelihood`, `features`, `label_noise`); `published` holds data from the literature with their printed fits.
"""

from __future__ import annotations

from tabular_rlhf.preferences.laws import (
    Law,
    Pairs,
    bradley_terry,
    log_plackett_luce,
    matrix,
    noisy,
    population_pairs,
    sample_pairs,
    sample_rankings,
    sure,
    thurstone,
)

__all__ = ["Law", "Pairs", "bradley_terry", "log_plackett_luce", "matrix", "noisy", "population_pairs"]
__all__ += ["sample_pairs", "sample_rankings", "sure", "thurstone"]
