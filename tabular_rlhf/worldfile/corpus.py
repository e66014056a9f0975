"""The text of a world file: its sentences, its most frequent words, the policy that it is a sample of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tabular_rlhf.errors import InputError
from tabular_rlhf.files import read_text
from tabular_rlhf.language import Language
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import forbid, from_text, uniform
from tabular_rlhf.worldfile.responses import explicit_policy
from tabular_rlhf.worldfile.toml import Source

ORDER, SMOOTHING = 1, 0.1
"""Tokens of context, and pseudo-counts, of a reference from text whose table does not say."""
NAMED_WORDS = 8
"""Words outside the vocabulary that a note names."""


@dataclass(frozen=True)
class Corpus:
    """Text as a world file gives it."""

    source: Source
    sep: str
    eos: str | None

    def sentences(self, table: Mapping[str, Any], place: str) -> list[list[str]] | None:
        """The sentences, as lists of tokens; None where the table gives no text."""
        if "text" in table and "file" in table:
            where = self.source.place(place, "file")
            raise InputError("a reference must have one text", got="both text and file", where=where, remedy="drop one")
        if "file" in table:
            with self.source.locating(place, "file"):
                text = read_text(self.source.folder / table["file"], "the reference's file")
        elif "text" in table:
            text = table["text"]
        else:
            return None
        lines = re.split(r"[.!?\n]+", re.sub(r"[^\w\s.!?'’-]", "", text.lower())) if table.get("clean") else text.splitlines()
        tokens = [list(line.strip()) if self.sep == "" else line.split() for line in lines]
        return [sentence for line in tokens for sentence in self._split(line) if sentence]

    def _split(self, tokens: list[str]) -> list[list[str]]:
        """A sentence ends at EOS."""
        ends = [i for i, w in enumerate(tokens) if w == self.eos]
        return [tokens[a:b] for a, b in zip([0, *(i + 1 for i in ends)], [*ends, len(tokens)], strict=True)]

    def frequent(self, table: Mapping[str, Any], size: int) -> list[str]:
        """The most frequent tokens of the text, at most `size`; the earlier first among equals."""
        sentences = self.sentences(table, "reference")
        if not sentences or size < 1:
            got = "no text" if sentences is None else "an empty text" if not sentences else f"size {size}"
            where = self.source.place("", "size" if size < 1 else "vocabulary")
            must = 'vocabulary = "auto" must have a text to take words from'
            raise InputError(must, got=got, where=where, remedy="give [reference] a text")
        return [w for w, _ in Counter(w for s in sentences for w in s).most_common(size)]

    def notes(self, mdp: Language, table: Mapping[str, Any], where: str) -> Iterator[str]:
        """How a reference's text was read: the order and the smoothing, and which of its words are outside the vocabulary."""
        sentences = self.sentences(table, "reference")
        if sentences is None:
            return
        order, smoothing = table.get("order", ORDER), table.get("smoothing", SMOOTHING)
        default = "" if "smoothing" in table else ", the default"
        yield (
            f"Reference{where}: from {len(sentences):,} sentence{'s' * (len(sentences) != 1)}, "
            f"{order} token{'s' * (order != 1)} of context, smoothing {smoothing:g} (pseudo-counts{default})."
        )
        words = Counter(w for s in sentences for w in s)
        strange = {w: n for w, n in words.most_common() if w not in mdp.vocabulary}
        if strange:
            named = ", ".join(map(repr, list(strange)[:NAMED_WORDS])) + (", ..." if len(strange) > NAMED_WORDS else "")
            yield (
                f"Reference{where}: {sum(strange.values()):,} of {sum(words.values()):,} words are outside the vocabulary, "
                f"and nothing is counted across them: {named}."
            )

    def refuse_idle(self, table: Mapping[str, Any], place: str) -> None:
        """Refuse keys that say how a text is read where there is none."""
        for key in ("order", "smoothing", "clean"):
            if key in table and not {"text", "file"} & table.keys():
                where = self.source.place(place, key)
                raise InputError(f"{key} must come with a text", got="no text or file", where=where, remedy="add text = ... or file = ...")

    def policy(self, mdp: TokenMDP, table: Mapping[str, Any], place: str) -> Array:
        """log_ref of one reference table, (P, S, V)."""
        sentences = self.sentences(table, place)
        self.refuse_idle(table, place)
        if "responses" in table:
            if sentences is not None:
                must, remedy = "a reference must be a table of responses or a text", "drop one of them"
                raise InputError(must, got="both", where=self.source.place(place, "responses"), remedy=remedy)
            with self.source.locating(place, "responses"):
                log_ref = explicit_policy(mdp, table["responses"])
        elif sentences is None:
            log_ref = uniform(mdp)
        else:
            with self.source.locating(place):
                joined = [mdp.sep.join(s) for s in sentences]
                log_ref = from_text(mdp, joined, order=table.get("order", ORDER), smoothing=table.get("smoothing", SMOOTHING))
        with self.source.locating(place, "forbid"):
            return forbid(mdp, log_ref, table["forbid"]) if table.get("forbid") else log_ref
