r"""Those who judge: how far they agree, who turns answers around, and what people say of one pair twice.

**Symbols.** A pair is unordered; s the sign of a judgment on it: 1 if its first item won, -1 if its second did, 0 for a tie.

    Krippendorff's alpha = 1 - observed/expected disagreement, over pairs judged twice or more; nominal, and the same whichever item of a
    pair is called the first: a judgment counts with both signs where disagreement by chance is computed.

A judge's share is how often they are with the majority of all *others* on the same pair (ties aside, and pairs on which the others are
split).  Below one half by more than chance (binomial, times the number of judges), they turn answers around.

Sources: Krippendorff (2004), Content Analysis, 2nd ed., chapter 11; Wilson (1927) on the interval of a share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import Indices
from tabular_rlhf.preferences.comparisons import distinct
from tabular_rlhf.preferences.likelihood import normal_quantile


def wilson(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Ends of Wilson's interval of a share k/n.

    >>> [round(x, 4) for x in wilson(65, 100)]
    [0.5525, 0.7364]
    """
    if not 0 <= k <= n or not 0 < n < np.inf:
        raise InputError("a share must be of something", got=f"{k:g} of {n:g}", remedy="pass 0 <= k <= n, n > 0")
    z = normal_quantile(level)
    middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * float(np.sqrt(k * (n - k) / n + z * z / 4))
    return float(np.maximum(0.0, middle - half)), float(np.minimum(1.0, middle + half))


def two_sided(k: float, n: float) -> float:
    """How likely a share at least as far from one half is where both sides are equally likely, exactly (binomial).

    >>> round(two_sided(8, 10), 6), two_sided(5, 10)
    (0.109375, 1.0)
    """
    from scipy.special import bdtr

    return min(1.0, 2.0 * float(bdtr(min(k, n - k), int(n), 0.5))) if n >= 1 else 1.0


def krippendorff(pair: Any, sign: Any) -> float | None:
    """Krippendorff's alpha of judgments.  Args: pair, number of the pair of each; sign, -1, 0 or 1.  None where no pair has two.

    >>> krippendorff([0, 0, 1, 1], [1, 1, -1, -1]), krippendorff([0, 1], [1, 1])
    (1.0, None)
    """
    pair, sign = np.asarray(pair), np.asarray(sign)
    if not len(pair):
        return None
    table = np.zeros((int(np.max(pair)) + 1, 3))
    np.add.at(table, (pair, sign + 1), 1.0)
    table = table[np.sum(table, axis=1) > 1]
    if not len(table):
        return None
    m = np.sum(table, axis=1)
    n = float(np.sum(m))
    observed = float(np.sum((m * m - np.sum(table * table, axis=1)) / (m - 1))) / n
    share = np.sum(table + table[:, ::-1], axis=0) / 2
    expected = (n * n - float(np.sum(share * share))) / (n * (n - 1))
    return 1.0 - observed / expected if expected > 0 else None


@dataclass(frozen=True, eq=False)
class Agreement:
    """For each judge (J,): judged, comparisons; shared, those on which the others have a majority; agreed, with it; p, that a share so low
    is chance; turned, whether it is below one half beyond chance (all judges considered, at 0.05)."""

    judged: Indices
    shared: Indices
    agreed: Indices
    p: Array
    turned: Any


def agreement(pair: Any, sign: Any, judge: Any, J: int) -> Agreement:
    """Each judge against the majority of the others.  Args: pair, sign, as in `krippendorff`; judge, a number below J, or -1 for nobody.

    >>> found = agreement([0, 0, 0, 1, 1, 1], [1, 1, -1, 1, 1, -1], [0, 1, 2, 0, 1, 2], 3)
    >>> found.agreed.tolist(), found.shared.tolist()
    ([0, 0, 0], [0, 0, 2])
    """
    from scipy.special import bdtr

    pair, sign, judge = np.asarray(pair), np.asarray(sign), np.asarray(judge)
    total = np.bincount(pair, sign)
    key = pair * (J + 1) + (judge + 1)
    found, place = np.unique(key, return_inverse=True)
    own = np.bincount(place, sign, len(found))
    others = np.sign(total[pair] - np.where(judge >= 0, own[place], sign))
    counts = (sign != 0) & (others != 0) & (judge >= 0)
    known = judge >= 0
    judged = np.bincount(judge[known], minlength=J)
    shared = np.bincount(judge[counts], minlength=J)
    agreed = np.bincount(judge[counts & (others == sign)], minlength=J)
    p = np.where(shared > 0, bdtr(agreed.astype(np.float64), np.maximum(shared, 1), 0.5), 1.0)
    return Agreement(judged, shared, agreed, p, (p * max(1, J) < 0.05) & (2 * agreed < shared))


@dataclass(frozen=True, eq=False)
class Repeats:
    """again, numbers (from 0) of judgments that say what an earlier one of the same judge said of the same pair; opposed, pairs on which
    both items were preferred, by anybody; turned, judges' own pairs on which they preferred both."""

    again: Indices
    opposed: int
    turned: int


def repeats(pair: Any, sign: Any, judge: Any) -> Repeats:
    """Judgments made twice, and contradictions.

    >>> found = repeats([0, 0, 0, 1], [1, 1, -1, 1], [0, 0, 1, 0])
    >>> found.again.tolist(), found.opposed, found.turned
    ([1], 1, 0)
    """
    pair, sign, judge = np.asarray(pair, dtype=np.int64), np.asarray(sign), np.asarray(judge)
    J = int(np.max(judge, initial=-1)) + 2
    own = pair * J + judge + 1
    first = np.unique(own * 3 + sign + 1, return_index=True)[1]
    again = np.flatnonzero(np.bincount(first, minlength=len(pair)) == 0)
    opposed, turned = (_opposed(key, sign) for key in (pair, np.where(judge >= 0, own, -1)))
    return Repeats(again, opposed, turned)


def _opposed(key: Any, sign: Any) -> int:
    won, lost = (distinct(key[(sign == s) & (key >= 0)]) for s in (1, -1))
    return len(np.intersect1d(won, lost, assume_unique=True))
