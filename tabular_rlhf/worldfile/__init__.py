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
| `matches` | reward | a regular expression that the whole text, EOS left out, is to match, for a reward of 1; or a table of rewards |
| `responses` | both | a table by the text of the response: its probability (all of them sum to 1), its reward (0 if not listed) |
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

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf.errors import InputError, positive, quoted
from tabular_rlhf.files import read_text
from tabular_rlhf.language import Language
from tabular_rlhf.lattice import LatticeWorld
from tabular_rlhf.logspace import Array
from tabular_rlhf.machines import Machine, matches, rewards
from tabular_rlhf.machines import lattice as unrolled
from tabular_rlhf.mdp import TokenMDP, check_size
from tabular_rlhf.world import World
from tabular_rlhf.worldfile import toml
from tabular_rlhf.worldfile.corpus import ORDER, SMOOTHING, Corpus
from tabular_rlhf.worldfile.machines import patterns, payments, speaker, together
from tabular_rlhf.worldfile.responses import numbers, reward_by_function
from tabular_rlhf.worldfile.toml import Kind, Source

LONGEST = 1_000_000
"""Tokens of the longest response of a lattice."""
EXAMPLE = "\n".join(line[4:] for line in (__doc__ or "").split("|", 1)[0].splitlines() if line[:4] in ("", "    "))
"""The world file of the chapter above."""


REFERENCE = {
    "file": toml.TEXT,
    "text": toml.TEXT,
    "order": toml.WHOLE,
    "smoothing": toml.NUMBER,
    "clean": toml.FLAG,
    "forbid": toml.TEXTS,
    "responses": toml.WEIGHTS,
}
REWARD = {
    "phrases": toml.WEIGHTS,
    "tokens": toml.WEIGHTS,
    "length": toml.NUMBER,
    "constant": toml.NUMBER,
    "matches": toml.PATTERNS,
    "function": toml.TEXT,
    "responses": toml.WEIGHTS,
}
SCHEMA: dict[str, dict[str, Kind]] = {
    "": {
        "name": toml.TEXT,
        "vocabulary": toml.WORDS,
        "size": toml.WHOLE,
        "sep": toml.SEP,
        "horizon": toml.COUNT,
        "eos": toml.TEXT,
        "beta": toml.NUMBER,
        "prompts": toml.DISTINCT,
        "mu": toml.NUMBERS,
        "reference": toml.TABLE,
        "reward": toml.TABLE,
    },
    "reference": REFERENCE | {"prompt": toml.TABLES},
    "reward": REWARD | {"prompt": toml.TABLES},
    "reference.prompt": REFERENCE,
    "reward.prompt": REWARD,
}
"""The keys of every table of a world file, and what each must be."""


def load_world(path: str | Path) -> World:
    """The world of a TOML file.  Raises: InputError for whatever is wrong with it, with the place."""
    source = _file(path)
    return _build(source, _checked(source))[0]


def parse_world(text: str, *, name: str = "world.toml", folder: str | Path = ".") -> World:
    """The world of a TOML text.  Args: name, what to call the file in messages; folder, where its relative paths start."""
    source = Source(text, name, Path(folder))
    return _build(source, _checked(source))[0]


def open_world(path: str | Path, instead: Mapping[str, Any] | None = None) -> tuple[World | LatticeWorld, tuple[str, ...]]:
    """`load_world`, and the file's lattice where its responses are too many to be listed (but for a reward that is a function); and what a
    reader should know of how its text was read, a sentence each.

    Args: instead, keys of the file's top with the values that they are to have here.
    """
    source = _file(path)
    top = _checked(source, instead)
    return _build(source, top) if _listed(source, top) else _merged(source, top)


def _file(path: str | Path) -> Source:
    path = Path(path)
    return Source(read_text(path, "the world file"), path.name, path.parent)


def _checked(source: Source, instead: Mapping[str, Any] | None = None) -> dict[str, Any]:
    top = source.parse() | dict(instead or {})
    _check(source, top)
    return top


def _listed(source: Source, top: Mapping[str, Any]) -> bool:
    """Whether the responses can be listed, or must be: a function is called on each of them, or the file lists them itself."""
    tables = [t for key in ("reference", "reward") for t in (top.get(key, {}), *top.get(key, {}).get("prompt", {}).values())]
    try:
        check_size(len(_names(source, top)), top["horizon"], "eos" in top, len(top.get("prompts", [""])))
    except InputError:
        return top["horizon"] > LONGEST or any({"function", "responses"} & table.keys() for table in tables)
    return True


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


def _corpus(source: Source, top: Mapping[str, Any]) -> Corpus:
    return Corpus(source, "" if top.get("sep") == "characters" else " ", top.get("eos"))


def _names(source: Source, top: Mapping[str, Any]) -> list[str]:
    """The vocabulary, EOS last."""
    auto, eos = top["vocabulary"] == "auto", top.get("eos")
    names = _corpus(source, top).frequent(top.get("reference", {}), top.get("size", 12)) if auto else top["vocabulary"]
    return names if eos is None else [*(w for w in names if w != eos), eos]


def _language(source: Source, top: Mapping[str, Any], kind: Callable[..., Any]) -> Any:
    """The file's language, as a tree or as a language alone (`kind`)."""
    names, eos, sep = _names(source, top), top.get("eos"), _corpus(source, top).sep
    with source.locating("", "vocabulary"):  # each step adds one key that may be at fault
        kind(names, 1, eos=eos, sep=sep)
    with source.locating("", "horizon"):
        mdp = kind(names, top["horizon"], eos=eos, prompts=top.get("prompts", [""]), sep=sep)
    if "mu" in top:
        with source.locating("", "mu"):
            mdp = kind(names, top["horizon"], eos=eos, prompts=top.get("prompts", [""]), mu=top["mu"], sep=sep)
    return mdp


def _merged(source: Source, top: Mapping[str, Any]) -> tuple[LatticeWorld, tuple[str, ...]]:
    """The lattice of a file, and its notes: one machine for every prompt that differs from the others."""
    reference, reward = top.get("reference", {}), top.get("reward", {})
    text, language = _corpus(source, top), _language(source, top, Language)
    made: dict[tuple[str, str], Machine] = {}
    each = []
    for prompt in language.prompts:
        own, paid = (prompt if prompt in table.get("prompt", {}) else "" for table in (reference, reward))
        if (own, paid) not in made:
            table, place = (reference["prompt"][own], "reference.prompt") if own else (reference, "reference")
            text.refuse_idle(table, place)
            sentences = text.sentences(table, place)
            speaks = speaker(source, language, table, sentences, place, (ORDER, SMOOTHING))
            tables = [(reward, "reward")] + ([(reward["prompt"][paid], "reward.prompt")] if paid else [])
            paying = [m for t, where in tables for m in payments(source, language, _fits(source, language, t, where), where)]
            with source.locating("reward"):
                made[own, paid] = together(language, speaks, paying)
        each.append(made[own, paid])
    with source.locating("", "beta"):
        positive(top["beta"], "beta", "reward units per nat")
    with source.locating("reward"):
        world = unrolled(language, each, top["beta"], name=top.get("name", Path(source.name).stem))
    return world, _all_notes(text, language, reference)


def _fits(source: Source, language: Language, table: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """The table, if some response may say each of its phrases."""
    for phrase in table.get("phrases", {}):
        with source.locating(place, "phrases"):
            _fitting(language, phrase)
    return table


def _all_notes(text: Corpus, language: Language, reference: Mapping[str, Any]) -> tuple[str, ...]:
    tables = [(reference, ""), *((t, f" after {quoted(p)}") for p, t in reference.get("prompt", {}).items())]
    return tuple(note for table, where in tables for note in text.notes(language, table, where))


def _build(source: Source, top: Mapping[str, Any]) -> tuple[World, tuple[str, ...]]:
    reference, reward = top.get("reference", {}), top.get("reward", {})
    text, mdp = _corpus(source, top), _language(source, top, TokenMDP)
    log_ref = _by_prompt(mdp, reference, lambda table, place: text.policy(mdp, table, place))
    r = _reward(source, mdp, reward, "reward", None)
    for prompt, table in reward.get("prompt", {}).items():
        x = mdp.prompts.index(prompt)
        with source.locating("reward.prompt"):
            r[x] = _finite_sum(mdp, r, _reward(source, mdp, table, "reward.prompt", x))[x]
    with source.locating("", "beta"):
        world = World(mdp, log_ref, r, top["beta"], name=top.get("name", Path(source.name).stem))
    return world, _all_notes(text, mdp, reference)


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
    with source.locating(place, "responses"):
        r = _finite_sum(mdp, r, numbers(mdp, table.get("responses", {})))
    for key in ("phrases", "tokens"):
        for phrase, weight in table.get(key, {}).items():
            with source.locating(place, key):
                r = _finite_sum(mdp, r, weight, mdp.phrase_count([phrase] if key == "tokens" else _fitting(mdp, phrase)))
    for pattern, weight in patterns(table).items():
        with source.locating(place, "matches"):
            r = _finite_sum(mdp, r, weight, rewards(matches(mdp, pattern), mdp))
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


def _fitting(mdp: Language, phrase: str) -> str:
    """The phrase, if some response may say it."""
    tokens = mdp.parse(phrase)
    if any(t >= mdp.K for t in tokens[:-1]):
        raise InputError("a phrase must have nothing after EOS", got=quoted(phrase), remedy="no response goes on there: shorten it")
    length = len(tokens)
    if length > mdp.H:
        raise InputError(f"a phrase must fit in {mdp.H} tokens", got=f"{length} ({phrase!r})", remedy="shorten it, or raise the horizon")
    return phrase
