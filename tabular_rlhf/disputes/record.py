r"""What a dispute is: a question, the claim that was made, and the condition under which it is true, if there is one; all measured.

    dispute(slug=..., question=..., claim=Claim("...", left, right), under=Under("the condition", where=...), ...)

**A claim** says that two sides are equal (or one at most the other, or of one direction) on every world.  A side is a formula, or a
function of a world's symbols by name.  It is tried on small worlds, fewest responses first, so that what refutes it is the smallest.

**The verdict follows from the measurement**: true, if the claim holds on all worlds; true under a condition, if it fails and holds as
`under` says; false, if it fails and `under` is not given.  A record also says what it expects (`settled`; where it does not: that the claim
is false, or true under the condition that it gives), and `verify` fails where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from html import escape
from typing import Any

import numpy as np

from tabular_rlhf.disputes.text import as_page
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.formula.printed import Printed, printed
from tabular_rlhf.layout import WIDTH
from tabular_rlhf.ledger import LEDGER
from tabular_rlhf.ledger.worlds import tiny_worlds
from tabular_rlhf.registry import Registry, one_of
from tabular_rlhf.symbols import Scope
from tabular_rlhf.tolerance import NEAR, largest
from tabular_rlhf.world import World, random_world

RELATIONS = {"=": "equals", "<=": "is at most", ">=": "is at least", "direction": "has the direction of"}
VERDICTS = ("false", "true under a condition", "true")
SHAPES = ((2, 1, 2, False), (2, 2, 1, False), (2, 2, 1, True), (3, 1, 2, False), (2, 2, 2, True), (2, 3, 1, True))
"""Vocabulary, horizon, prompts and EOS of the larger worlds: some claims fail only where there are two prompts, or two steps."""
SPREAD = 3.0
"""Rewards of the larger worlds are so many times those of a random one: few responses are then among the best."""
Side = str | Callable[..., Any]


@lru_cache(maxsize=4)
def small_scopes(seed: int = 0) -> tuple[Scope, ...]:
    """The worlds on which claims are tried, fewest responses first: 24 of two and three responses, then four each of SHAPES."""
    tiny = [w for turn in (0, 1) for w in tiny_worlds(seed, turn) if w.mdp.N > 1][::4]
    rng = np.random.default_rng([seed, 15])
    made = [random_world(rng=rng, V=V, H=H, P=P, eos=eos, beta=float(rng.uniform(0.4, 2.0))) for _ in range(4) for V, H, P, eos in SHAPES]
    larger = [w.with_reward(SPREAD * w.r) for w in made]
    scopes = [Scope(w, seed + i) for i, w in enumerate([*tiny, *larger])]
    return tuple(sorted(scopes, key=lambda scope: scope.world.responses))


@dataclass(frozen=True)
class Trial:
    """What became of a claim: on how many worlds it was tried; the smallest on which it fails, both sides where they differ most."""

    worlds: int
    scope: Scope | None = None
    left: float = np.nan
    right: float = np.nan

    @property
    def holds(self) -> bool:
        return self.worlds > 0 and self.scope is None


@dataclass(frozen=True, eq=False)
class Claim:
    """says, in words.  left, relation, right.  letters, of the formulas.  given: symbol -> value, or a function of a scope that makes it.
    where: function of symbols, its hypotheses; on: worlds of its own, in the place of the small ones.
    """

    says: str
    left: Side
    right: Side
    relation: str = "="
    letters: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    where: Callable[..., Any] | None = None
    on: tuple[World, ...] = ()

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise InputError("a relation must be known", got=quoted(self.relation), remedy=f"use one of {', '.join(RELATIONS)}")

    @cached_property
    def sides(self) -> tuple[Any, Any]:
        """Both sides as functions of a scope."""
        return self._side(self.left), self._side(self.right)

    def _side(self, said: Any) -> Any:
        return printed(said, self.letters) if isinstance(said, str) else said

    @property
    def shown(self) -> str:
        """The claim as a formula, in plain typing; "" where a side is a function."""
        left, right = self.sides
        both = isinstance(left, Printed) and isinstance(right, Printed)
        sign = {"direction": "~"}.get(self.relation, self.relation)
        return f"{left} {sign} {right}" if both else ""

    def difference(self, scope: Scope) -> tuple[float, float, float] | None:
        """How far the claim is from true in a world, and both sides there; None where it says nothing."""
        with np.errstate(all="ignore"):
            a, b = np.broadcast_arrays(*(np.asarray(scope.call(side), dtype=np.float64) for side in self.sides))
        if self.relation == "direction":
            size = float(np.linalg.norm(a) * np.linalg.norm(b))
            cosine = float(np.sum(a * b)) / size if size > 1e-12 else 1.0
            return None if size <= 1e-12 else (1.0 - cosine, cosine, 1.0)
        off = {"=": np.abs(a - b), "<=": a - b, ">=": b - a}[self.relation]
        k = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        return float(np.ravel(off)[k]) / max(1.0, largest(a, b)), float(np.ravel(a)[k]), float(np.ravel(b)[k])

    def tried(self, scopes: Iterable[Scope]) -> Trial:
        """The claim on worlds, up to the first on which it fails."""
        count = 0
        for scope in [Scope(w, 0) for w in self.on] or scopes:
            if self.given:
                scope = scope.given(**{k: v(scope) if callable(v) else v for k, v in self.given.items()})
            if self.where is not None and not scope.call(self.where):
                continue
            found = self.difference(scope)
            if found is None:
                continue
            count += 1
            if not found[0] <= NEAR:
                return Trial(count, scope, found[1], found[2])
        return Trial(count)


class Under:
    """A condition that makes a claim true: in words, and what it changes of the claim (a side, `where` it is asked, what is `given`)."""

    def __init__(self, says: str, **changes: Any) -> None:
        self.changes: dict[str, Any] = {"says": says, "given": {}, "on": (), **changes}

    def of(self, claim: Claim) -> Claim:
        """The claim under the condition."""
        return replace(claim, **self.changes)


@dataclass(frozen=True, eq=False)
class Dispute:
    """question, in one line.  claim, what was said.  under, the same under the condition that makes it true, or None.

    source: where it was said or asked.  links: pages that were looked up.  settled: the verdict that is expected, one of VERDICTS.
    published: whether the claim was printed without its condition.  rows: ledger rows behind it.  caught: what would have caught it.
    """

    slug: str
    theme: str
    question: str
    claim: Claim
    settled: str
    source: str
    caught: str
    links: tuple[str, ...] = ()
    under: Claim | None = None
    published: bool = False
    rows: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        def require(holds: bool, must: str, got: Any) -> None:
            if not holds:
                raise InputError(must, got=got, where=f"dispute {self.slug!r}", remedy="see disputes/record.py")

        require(self.settled in VERDICTS, f"a verdict must be one of {', '.join(VERDICTS)}", self.settled)
        require(
            (self.under is not None) == (self.settled == VERDICTS[1]), "a condition must be given just where it is needed", self.settled
        )
        require(bool(self.question and self.source and self.caught), "a dispute must have a question, a source and a moral", self.slug)
        require(all(row in LEDGER for row in self.rows), "rows must be in the ledger", self.rows)

    def measured(self, seed: int = 0) -> Measured:
        """The claim and its condition, tried."""
        scopes = small_scopes(seed)
        return Measured(self, self.claim.tried(scopes), None if self.under is None else self.under.tried(scopes))


@dataclass(frozen=True, eq=False)
class Measured:
    """A dispute, measured: claim and under, what became of them.  Prints as its page; so it is shown in a notebook, too."""

    dispute: Dispute
    claim: Trial
    under: Trial | None

    @property
    def slug(self) -> str:
        return self.dispute.slug

    @property
    def verdict(self) -> str:
        """What the measurement says."""
        if self.claim.holds:
            return VERDICTS[2]
        return VERDICTS[1] if self.under is not None and self.under.holds else VERDICTS[0]

    @property
    def holds(self) -> bool:
        """Whether it came out as the record expects."""
        return self.verdict == self.dispute.settled and self.claim.worlds > 0

    def __str__(self) -> str:
        return as_page(self)

    def _repr_html_(self) -> str:
        return f'<pre style="margin:0;overflow-x:auto">{escape(as_page(self, WIDTH))}</pre>'


DISPUTES: Registry[Dispute] = Registry("dispute", key="slug")
"""The museum."""


def of_theme(theme: str) -> Callable[..., Dispute]:
    """What enters a dispute of a theme, unless it names another; a link without a scheme is a page of GitHub."""

    def dispute(*, claim: Claim, under: Under | None = None, links: Iterable[str] = (), **said: Any) -> Dispute:
        pages = tuple(link if "://" in link else f"https://github.com/{link}" for link in links)
        made = {"theme": theme, "claim": claim, "under": None if under is None else under.of(claim), "links": pages}
        return DISPUTES.add(Dispute(**{**made, "settled": VERDICTS[under is not None], **said}))

    return dispute


def find(slug: str) -> Dispute:
    """The dispute of a name.  Raises InputError with the nearest names."""
    return DISPUTES[one_of(DISPUTES, slug, "a dispute must be in the museum", remedy="`tabular-rlhf disputes` lists them")]
