r'''A world of your own, written as a TOML file.

**Example.**  Everything a file may say is here or in the tables below (`SCHEMA` is the whole grammar):

    name = "pets"
    vocabulary = "auto"       # the most frequent words of the text; or a list: ["the", "cat", "sleeps"]
    size = 9                  # how many words "auto" takes at most (12 if not given)
    horizon = 4               # tokens of the longest response, EOS counted
    eos = "."                 # added at the end of the vocabulary; leave out for responses of fixed length
    beta = 0.5                # KL weight, in reward units per nat

    [reference]               # the policy before tilting; without `text` or `file` it is uniform
    text = """
    the cat sleeps
    the cat purrs
    the dog barks
    a dog sleeps
    cats purr
    """
    order = 1                 # tokens of context (1 if not given)
    smoothing = 0.0           # pseudo-counts of every token after every context (0.1 if not given)

    [reward]                  # a sum of terms, in reward units
    phrases = { "a dog barks" = 1.0, "cat purrs" = 0.8, "sleeps" = -0.5 }     # for every occurrence
    length = -0.1                                                             # for every token, EOS counted

| key | where | meaning |
|---|---|---|
| `sep` | top | `"words"` (the default) or `"characters"` |
| `prompts`, `mu` | top | a list of prompts and their probabilities (uniform if not given) |
| `file` | reference | a text file, its path relative to the TOML file; a sentence ends with its line or at EOS |
| `clean` | reference | `true`: lower case, sentences end at `. ! ?` too, other punctuation is dropped (`false` if not given) |
| `forbid` | reference | tokens that are never said, in any state |
| `tokens`, `constant` | reward | weights of single tokens, for every occurrence; a constant |
| `function` | reward | `"module:function"`, a Python function of yours (a module next to the TOML file is found first) |
| `prompt` | both | the same keys by prompt: `[reward.prompt."Be kind:"]` is added, `[reference.prompt."Be kind:"]` replaces |

The function is called as `function(text, prompt)`, once for every response, with its text as it is printed (EOS included), and
returns a number in reward units.  It runs as your own code does: give only files that you trust.

>>> from tabular_rlhf.gibbs import solve
>>> world = parse_world(EXAMPLE)
>>> world.mdp.vocabulary
('the', 'cat', 'sleeps', 'dog', 'purrs', 'barks', 'a', 'cats', 'purr', '.')
>>> g = solve(world)
>>> purrs = world.mdp.find("the cat purrs .")
>>> round(float(np.exp(world.log_p_ref[0, purrs])), 6), round(float(g.p[0, purrs]), 6)  # before, after
(0.2, 0.446029)
'''

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.files import read_text
from tabular_rlhf.logspace import Array
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import forbid, from_text, uniform
from tabular_rlhf.world import World
from tabular_rlhf.worldfile.function import reward_by_function
from tabular_rlhf.worldfile.toml import (
    COUNT,
    DISTINCT,
    FLAG,
    NUMBER,
    NUMBERS,
    SEP,
    TABLE,
    TABLES,
    TEXT,
    TEXTS,
    WEIGHTS,
    WHOLE,
    WORDS,
    Kind,
    Source,
)

ORDER, SMOOTHING = 1, 0.1
"""Tokens of context, and pseudo-counts, of a reference from text whose table does not say."""
NAMED_WORDS = 8
"""Words outside the vocabulary that a note names."""
EXAMPLE = "\n".join(line[4:] for line in (__doc__ or "").split("|", 1)[0].splitlines() if line[:4] in ("", "    "))
"""The world file of the chapter above."""


REFERENCE = {"file": TEXT, "text": TEXT, "order": WHOLE, "smoothing": NUMBER, "clean": FLAG, "forbid": TEXTS}
REWARD = {"phrases": WEIGHTS, "tokens": WEIGHTS, "length": NUMBER, "constant": NUMBER, "function": TEXT}
SCHEMA: dict[str, dict[str, Kind]] = {
    "": {
        "name": TEXT,
        "vocabulary": WORDS,
        "size": WHOLE,
        "sep": SEP,
        "horizon": COUNT,
        "eos": TEXT,
        "beta": NUMBER,
        "prompts": DISTINCT,
        "mu": NUMBERS,
        "reference": TABLE,
        "reward": TABLE,
    },
    "reference": REFERENCE | {"prompt": TABLES},
    "reward": REWARD | {"prompt": TABLES},
    "reference.prompt": REFERENCE,
    "reward.prompt": REWARD,
}
"""The keys of every table of a world file, and what each must be."""


def load_world(path: str | Path) -> World:
    """The world of a TOML file.  Raises: InputError for whatever is wrong with it, with the place."""
    return load_with_notes(path)[0]


def load_with_notes(path: str | Path) -> tuple[World, tuple[str, ...]]:
    """The world of a TOML file, and what a reader should know of how its text was read, a sentence each."""
    path = Path(path)
    return _read(read_text(path, "the world file"), path.name, path.parent)


def parse_world(text: str, *, name: str = "world.toml", folder: str | Path = ".") -> World:
    """The world of a TOML text.  Args: name, what to call the file in messages; folder, where its relative paths start."""
    return _read(text, name, Path(folder))[0]


def _read(text: str, name: str, folder: Path) -> tuple[World, tuple[str, ...]]:
    source = Source(text, name, folder)
    top = source.parse()
    _check(source, top)
    return _build(source, top)


def _check(source: Source, top: Mapping[str, Any]) -> None:
    """Every key known and of its kind, in every table; the required ones present."""
    source.check(SCHEMA, "", top)
    for key in ("vocabulary", "horizon", "beta"):
        if key not in top:
            raise InputError(f"a world file must set {key}", got="no such key", where=source.name, remedy=f"write {key} = ... at the top")
    for table in ("reference", "reward"):
        content = top.get(table, {})
        source.check(SCHEMA, table, content)
        for prompt, inner in content.get("prompt", {}).items():
            source.check(SCHEMA, f"{table}.prompt", inner)
            if prompt not in top.get("prompts", []):
                remedy = "list it in `prompts`, or correct its spelling"
                raise InputError("a prompt must be one of `prompts`", got=quoted(prompt), where=source.place(table, prompt), remedy=remedy)


# ---------------------------------------------------------------------------------------------------- building


def _build(source: Source, top: Mapping[str, Any]) -> tuple[World, tuple[str, ...]]:
    reference, reward = top.get("reference", {}), top.get("reward", {})
    sep = "" if top.get("sep") == "characters" else " "
    eos, prompts = top.get("eos"), top.get("prompts", [""])
    text = Corpus(source, sep, eos)
    names = top["vocabulary"] if top["vocabulary"] != "auto" else text.frequent(reference, top.get("size", 12))
    if eos is not None:
        names = [w for w in names if w != eos] + [eos]
    with source.locating("", "vocabulary"):  # each step adds one key that may be at fault
        TokenMDP(names, 1, eos=eos, sep=sep)
    with source.locating("", "horizon"):
        mdp = TokenMDP(names, top["horizon"], eos=eos, prompts=prompts, sep=sep)
    if "mu" in top:
        with source.locating("", "mu"):
            mdp = TokenMDP(names, top["horizon"], eos=eos, prompts=prompts, mu=top["mu"], sep=sep)
    log_ref = _by_prompt(mdp, reference, lambda table, place: text.policy(mdp, table, place))
    r = _reward(source, mdp, reward, "reward", None)
    for prompt, table in reward.get("prompt", {}).items():
        x = prompts.index(prompt)
        with source.locating("reward.prompt"):
            r[x] = _finite_sum(mdp, r, _reward(source, mdp, table, "reward.prompt", x))[x]
    with source.locating("", "beta"):
        world = World(mdp, log_ref, r, top["beta"], name=top.get("name", Path(source.name).stem))
    tables = [(reference, ""), *((t, f" after {quoted(p)}") for p, t in reference.get("prompt", {}).items())]
    return world, tuple(note for table, where in tables for note in text.notes(mdp, table, where))


def _by_prompt(mdp: TokenMDP, reference: Mapping[str, Any], policy: Callable[[Mapping[str, Any], str], Array]) -> Array:
    """One policy for all prompts, but for the prompts that have their own."""
    log_ref = policy(reference, "reference")
    special = reference.get("prompt", {})
    if not special:
        return log_ref
    rows = np.array(log_ref, order="K")
    for prompt, table in special.items():
        x = mdp.prompts.index(prompt)
        rows[x] = policy(table, "reference.prompt")[x]
    return rows


def _reward(source: Source, mdp: TokenMDP, table: Mapping[str, Any], place: str, only: int | None) -> Array:
    """The sum of a reward table's terms, (P, N)."""
    r = np.zeros((mdp.P, mdp.N)) + table.get("constant", 0.0)
    with source.locating(place, "length"):
        r = _finite_sum(mdp, r, table.get("length", 0.0), mdp.lengths)
    for key in ("phrases", "tokens"):
        for phrase, weight in table.get(key, {}).items():
            with source.locating(place, key):
                r = _finite_sum(mdp, r, weight, mdp.phrase_count([phrase] if key == "tokens" else _fitting(mdp, phrase)))
    if "function" in table:
        with source.locating(place, "function"):
            r = _finite_sum(mdp, r, reward_by_function(table["function"], mdp, source.folder, only))
    return r


def _finite_sum(mdp: TokenMDP, r: Array, x: Any, times: Any = 1.0) -> Array:
    """r + x times, refused where floats have no such number."""
    with np.errstate(over="ignore"):
        total: Array = r + x * times
    far = np.argwhere(~np.isfinite(total))
    if far.size:
        prompt, tau = far[0].tolist()
        where = f"response {mdp.text(tau, prompt)!r}"
        raise InputError("rewards must be finite", got=total[prompt, tau], where=where, remedy="use smaller weights")
    return total


def _fitting(mdp: TokenMDP, phrase: str) -> str:
    """The phrase, if some response may say it."""
    tokens = mdp.parse(phrase)
    if any(t >= mdp.K for t in tokens[:-1]):
        raise InputError("a phrase must have nothing after EOS", got=quoted(phrase), remedy="no response goes on there: shorten it")
    length = len(tokens)
    if length > mdp.H:
        raise InputError(f"a phrase must fit in {mdp.H} tokens", got=f"{length} ({phrase!r})", remedy="shorten it, or raise the horizon")
    return phrase


@dataclass(frozen=True)
class Corpus:
    """Text as a world file gives it."""

    source: Source
    sep: str
    eos: str | None

    def sentences(self, table: Mapping[str, Any], place: str) -> list[list[str]] | None:
        """The sentences, as lists of tokens; None where the table gives no text."""
        if "text" in table and "file" in table:
            raise InputError(
                "a reference must have one text", got="both text and file", where=self.source.place(place, "file"), remedy="drop one"
            )
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
            raise InputError(
                'vocabulary = "auto" must have a text to take words from', got=got, where=where, remedy="give [reference] a text"
            )
        return [w for w, _ in Counter(w for s in sentences for w in s).most_common(size)]

    def notes(self, mdp: TokenMDP, table: Mapping[str, Any], where: str) -> Iterator[str]:
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

    def policy(self, mdp: TokenMDP, table: Mapping[str, Any], place: str) -> Array:
        """log_ref of one reference table, (P, S, V)."""
        sentences = self.sentences(table, place)
        if sentences is None:
            for key in ("order", "smoothing", "clean"):
                if key in table:
                    where = self.source.place(place, key)
                    raise InputError(
                        f"{key} must come with a text", got="no text or file", where=where, remedy="add text = ... or file = ..."
                    )
            log_ref = uniform(mdp)
        else:
            with self.source.locating(place):
                joined = [mdp.sep.join(s) for s in sentences]
                log_ref = from_text(mdp, joined, order=table.get("order", ORDER), smoothing=table.get("smoothing", SMOOTHING))
        with self.source.locating(place, "forbid"):
            return forbid(mdp, log_ref, table["forbid"]) if table.get("forbid") else log_ref
