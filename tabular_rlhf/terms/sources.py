"""Sources that several records cite."""

from __future__ import annotations

CSISZAR = "Csiszar (1975), I-divergence geometry; Amari (2016), Information Geometry and Its Applications."
TANG = "Tang and Munos (2025), arXiv:2506.09477."
RAFAILOV = "Rafailov et al. (2023), arXiv:2305.18290."
KORBAK = "Korbak et al. (2022), arXiv:2205.11275; Ziebart (2010)."
SCHULMAN = "Schulman (2020), Approximating KL divergence."
TERRY = "Bradley and Terry (1952), Rank analysis of incomplete block designs; Zermelo (1929)."
WILLIAMS = "Williams (1992); Sutton et al. (2000), Policy gradient methods with function approximation."
AMINI = "Amini et al. (2025), arXiv:2504.10637 (the estimator; its bound on the variance is refuted here)."
