"""The numbers themselves.  Nothing here was computed by this package.

citations: Stigler (1994), Citation patterns in the journals of statistics and probability, Statistical Science 9, as the 4 by 4
    table on p. 448 of Agresti (2002), Categorical Data Analysis, 2nd ed.; fit printed in Firth (2005), Bradley-Terry models in R,
    Journal of Statistical Software 12(1), section 3.  The cited journal beats the citing one.
baseball: American League East, 1987, p. 438 of Agresti (2002); fits printed in Firth (2005), section 4.
toy: eight players, draws counted as half a win each; data and fit printed in the documentation of the R package
    BradleyTerryScalable (Kaye and Firth 2017).  Its beats graph is not strongly connected: scores are given for each component.
    Three digits are printed, but its iteration stops at changes of 1e-3, so we ask for two.
tennis: men's matches of 2014 to 2018, table 8.8 of Agresti (2019), An Introduction to Categorical Data Analysis, 3rd ed., with the
    two coefficients used in section 8.6 to estimate that Federer beats Djokovic with probability 0.49.
"""

from __future__ import annotations

from typing import Any


def table(names: tuple[str, ...], *rows: tuple[int, ...]) -> tuple[tuple[str, str, float], ...]:
    """Rows (winner, loser, count) of a square table, winners down, losers across; its diagonal is left out."""
    return tuple((a, b, float(n)) for a, row in zip(names, rows, strict=True) for b, n in zip(names, row, strict=True) if a != b and n)


JOURNALS = ("Biometrika", "Comm Statist", "JASA", "JRSS-B")
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
PLAYERS = ("Djokovic", "Federer", "Murray", "Nadal", "Wawrinka")
FRIENDS = ("Amy", "Ben", "Cyd", "Dan", "Eve", "Fin", "Gal", "Han")

HOME_WINS = (
    (0, 4, 4, 4, 6, 4, 6),
    (3, 0, 4, 4, 6, 6, 4),
    (2, 4, 0, 2, 4, 4, 6),
    (3, 5, 2, 0, 4, 4, 6),
    (5, 2, 3, 4, 0, 5, 6),
    (2, 3, 3, 4, 4, 0, 2),
    (2, 1, 1, 2, 1, 3, 0),
)
"""HOME_WINS[i][j]: games that team i won at home against team j."""
HOME_LOSSES = (
    (0, 3, 2, 3, 1, 2, 0),
    (3, 0, 2, 3, 0, 1, 3),
    (5, 3, 0, 4, 3, 2, 0),
    (3, 1, 5, 0, 3, 2, 1),
    (1, 5, 3, 2, 0, 2, 0),
    (5, 3, 4, 3, 2, 0, 4),
    (5, 5, 6, 4, 6, 4, 0),
)
"""HOME_LOSSES[i][j]: games that team i lost at home against team j."""
HOME_FIT = {
    "estimates": {
        "Boston": 1.1438, "Cleveland": 0.7047, "Detroit": 1.4754, "Milwaukee": 1.6196, "New York": 1.2813, "Toronto": 1.3271,
        "at home": 0.3023,
    },
    "errors": {
        "Boston": 0.3378, "Cleveland": 0.3350, "Detroit": 0.3446, "Milwaukee": 0.3474, "New York": 0.3404, "Toronto": 0.3403,
        "at home": 0.1309,
    },
}  # fmt: skip
"""The fit with an advantage of playing at home, +1 for the team at home and -1 for its guest; Baltimore is zero."""

TOY_ROUNDS = (
    ("Cyd", "Amy", 1.0), ("Amy", "Ben", 0.5), ("Eve", "Ben", 1.0), ("Dan", "Cyd", 1.0), ("Ben", "Dan", 0.5), ("Eve", "Dan", 1.0),
    ("Eve", "Fin", 1.0), ("Gal", "Fin", 1.0), ("Han", "Fin", 1.0), ("Eve", "Gal", 1.0), ("Fin", "Gal", 0.5), ("Han", "Gal", 1.0),
    ("Gal", "Han", 1.0), ("Amy", "Dan", 1.0), ("Cyd", "Amy", 1.0), ("Ben", "Dan", 0.5), ("Amy", "Dan", 1.0),
)  # fmt: skip
DRAWS = (("Ben", "Amy", 0.5), ("Dan", "Ben", 0.5), ("Gal", "Fin", 0.5), ("Dan", "Ben", 0.5))
"""The losing halves of the draws."""

RECORDS: dict[str, dict[str, Any]] = {
    "citations": {
        "title": "citations among four journals of statistics",
        "source": "Stigler (1994); Agresti (2002), p. 448; fit: Firth (2005).",
        "names": JOURNALS,
        "rows": table(JOURNALS, (714, 730, 498, 221), (33, 425, 68, 17), (320, 813, 1072, 142), (284, 276, 325, 188)),
        "against": "Biometrika",
        "estimates": {"Comm Statist": -2.94907, "JASA": -0.47957, "JRSS-B": 0.26895},
        "errors": {"Comm Statist": 0.10255, "JASA": 0.06059, "JRSS-B": 0.07083},
        "digits": 5,
        "deviance": 4.2934,
    },
    "baseball": {
        "title": "seven baseball teams in 1987",
        "source": "Agresti (2002), p. 438; fit: Firth (2005).",
        "names": TEAMS,
        "rows": table(TEAMS, *HOME_WINS) + tuple((b, a, n) for a, b, n in table(TEAMS, *HOME_LOSSES)),
        "against": "Baltimore",
        "estimates": {
            "Boston": 1.1077, "Cleveland": 0.6839, "Detroit": 1.4364, "Milwaukee": 1.5814, "New York": 1.2476, "Toronto": 1.2945,
        },
        "errors": {
            "Boston": 0.3339, "Cleveland": 0.3319, "Detroit": 0.3396, "Milwaukee": 0.3433, "New York": 0.3359, "Toronto": 0.3367,
        },
        "digits": 4,
        "deviance": 15.737,
    },
    "toy": {
        "title": "eight players, some undefeated",
        "source": "Kaye and Firth (2017), R package BradleyTerryScalable.",
        "names": FRIENDS,
        "rows": TOY_ROUNDS + DRAWS,
        "against": None,
        "estimates": {"Han": 0.696, "Gal": 0.413, "Fin": -1.11, "Cyd": 0.592, "Amy": 0.0325, "Ben": -0.243, "Dan": -0.382},
        "errors": {"Han": 0.911, "Gal": 0.768, "Fin": 1.05, "Cyd": 0.991, "Amy": 0.699, "Ben": 0.944, "Dan": 0.712},
        "digits": 2,
    },
    "tennis": {
        "title": "five tennis players, 2014 to 2018",
        "source": "Agresti (2019), table 8.8 and section 8.6.",
        "names": PLAYERS,
        "rows": table(PLAYERS, (0, 9, 14, 9, 4), (6, 0, 5, 5, 7), (3, 0, 0, 2, 2), (2, 1, 4, 0, 4), (3, 2, 2, 3, 0)),
        "against": "Wawrinka",
        "estimates": {"Djokovic": 1.176, "Federer": 1.136},
        "errors": {},
        "digits": 3,
    },
}  # fmt: skip
