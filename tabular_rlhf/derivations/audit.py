"""Derivations as claims of the ledger's audit: every line follows on every world, every wrong line is refuted where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tabular_rlhf.derivations.execute import kept, printed
from tabular_rlhf.derivations.lines import Line
from tabular_rlhf.derivations.record import DERIVATIONS, Derivation
from tabular_rlhf.errors import InputError
from tabular_rlhf.ledger.audit import Claim, Verdict, audit
from tabular_rlhf.ledger.prints import Print
from tabular_rlhf.symbols import Scope


class DerivationClaim(Claim[Derivation]):
    """A derivation: each line follows from the one before, and no wrong line does."""

    table = DERIVATIONS

    def errors(self, scope: Scope) -> Iterator[tuple[str, float]]:
        lines = kept(self.record.lines, scope)
        for k in range(2, len(lines) + 1):
            yield f"line {k}", self.record.step(k, scope, lines).units

    def mistakes(self, scopes: Sequence[Scope]) -> dict[str, int | None]:
        fit = [(scope, kept(self.record.lines, scope)) for scope in scopes if self.applies(scope)]
        return {
            f"line {k}: {diagnosis}": next((s.world.responses for s, lines in fit if self._wrong(k, wrong, s, lines)), None)
            for k, line in enumerate(self.record.lines, 1)
            for diagnosis, wrong in line.wrong.items()
        }

    def _wrong(self, k: int, wrong: Callable[..., Any], scope: Scope, lines: tuple[Line, ...]) -> bool:
        """Whether a line in place of line k clearly does not follow from the line before, on one world."""
        (instead,) = kept((self.record.lines[k - 1].instead(wrong),), scope)
        with np.errstate(all="ignore"):  # a wrong formula may divide by zero: that too refutes it
            shapes = [np.shape(line(scope)) for line in (instead, lines[k - 1])]
            if shapes[0] != shapes[1]:
                must, where = "a wrong line must have the shape of the right one", f"{self.slug}, line {k}"
                raise InputError(must, got=f"{shapes[0]} for {shapes[1]}", where=where, remedy="mend it")
            return self.record.step(k, scope, (*lines[: k - 1], instead, *lines[k:])).clear

    def printed(self) -> Sequence[Print]:
        return printed(self.record)


def audit_derivations(
    derivations: Sequence[Derivation], *, worlds: int = 20, seed: int = 0, on_progress: Callable[[int], object] = lambda _: None
) -> list[Verdict]:
    """Execute derivations on every suitable named world and on generated ones, and refute their wrong lines on tiny worlds."""
    return audit([DerivationClaim(d) for d in derivations], worlds=worlds, seed=seed, on_progress=on_progress)
