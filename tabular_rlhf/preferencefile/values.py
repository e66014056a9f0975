"""What a value of a row says: a text, the last message of a conversation, a number, a truth value, who won.  All raise `Malformed`."""

from __future__ import annotations

import json
import math
from typing import Any

from tabular_rlhf.preferencefile.record import Malformed

TURN = "\n\nAssistant:"
SPOKEN = {"user": "user", "human": "user", "prompter": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant"}
"""Who speaks, by the names in use."""
INSIDE = ("response", "text", "content", "answer", "completion", "output", "full_text", "value", "post", "body", "message")
"""Where an object keeps its text, the likeliest first."""


def kind(value: Any) -> str:
    """What JSON calls it."""
    names = {str: "a string", list: "an array", dict: "an object", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def text(value: Any, key: str) -> str:
    """A text: a string, messages put together, or an object that holds one.

    >>> text([{"role": "user", "content": "hi"}], "prompt"), text({"full_text": "why?"}, "question")
    ('hi', 'why?')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        inner = next((value[name] for name in INSIDE if isinstance(value.get(name), str)), None)
        if inner is not None:
            return inner
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    return said(messages(value, key))


def response(value: Any, key: str) -> tuple[str | None, str]:
    """The messages before a response as text (None: it is a plain string), and the response."""
    if isinstance(value, str):
        return None, value
    if isinstance(value, dict):
        return None, text(value, key)
    turns = messages(value, key)
    if turns[-1][0] != "assistant":
        raise Malformed(f"{key!r} must end with a message of the assistant, not of {turns[-1][0]!r}")
    return said(turns[:-1]), turns[-1][1]


def name_or_text(value: Any, key: str) -> str:
    """What is compared: a text, or the name or number of an item."""
    if type(value) is str and value:  # nearly always
        return value
    if isinstance(value, bool) or value is None or value == "":
        raise Malformed(f"{key!r} must name what is compared, not {_shown(value)}")
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return response(value, key)[1]


def messages(value: Any, key: str) -> list[tuple[str, str]]:
    """(who, what) of every message.  Those of no role ("from", "value") are understood, too."""
    if not isinstance(value, list):
        raise Malformed(f"{key!r} must be a string or a list of messages, not {kind(value)}")
    turns = [(m.get("role", m.get("from")), m.get("content", m.get("value"))) for m in value if isinstance(m, dict)]
    good = [(SPOKEN.get(who, who), what) for who, what in turns if isinstance(who, str) and isinstance(what, str)]
    if len(good) < len(value) or not value:
        raise Malformed(f"{key!r} must hold messages with a 'role' and a 'content' in words")
    return good


def said(turns: list[tuple[str, str]]) -> str:
    """Messages as one text; a single one of the user is its content."""
    return turns[0][1] if len(turns) == 1 and turns[0][0] == "user" else "\n".join(f"{role}: {content}" for role, content in turns)


def transcript(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common part of two transcripts up to the last turn of the assistant, and what each says there."""
    (one, mark, a), (other, _, b) = chosen.rpartition(TURN), rejected.rpartition(TURN)
    if not mark or one != other:
        raise Malformed("no 'prompt', and 'chosen' and 'rejected' are not transcripts with one beginning")
    return one.strip(), a.strip(), b.strip()


ENDS = ".?!:\n"
"""Where a prompt may end, in texts that begin alike."""


def common_beginning(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The beginning that two texts share, up to the end of a sentence (of a word, where no sentence ends), and what each says after it.

    >>> common_beginning("Why? It is so.", "Why? It was so.")
    ('Why?', 'It is so.', 'It was so.')
    """
    if TURN in chosen:
        return transcript(chosen, rejected)
    least = min(len(chosen), len(rejected))
    shared = next((k for k in range(least) if chosen[k] != rejected[k]), least)
    cut = max((k + 1 for k in range(shared) if chosen[k] in ENDS and chosen[k + 1 : k + 2] in ("", " ", "\n")), default=0)
    cut = cut or chosen.rfind(" ", 0, shared) + 1
    if not chosen[:cut].strip():
        raise Malformed("no 'prompt', and 'chosen' and 'rejected' are not transcripts with one beginning, nor texts with one")
    return chosen[:cut].strip(), chosen[cut:].strip(), rejected[cut:].strip()


# ---------------------------------------------------------------------------------------------------- numbers and verdicts


def weight_of(value: Any) -> float:
    """A weight: a positive finite number."""
    number = as_number(value)
    if number is None or not 0 < number <= 1e300:
        raise Malformed(f"'weight' must be a positive finite number, not {_shown(value)}")
    return number


def number_of(value: Any, key: str) -> float:
    """A finite number, also one written as text."""
    number = as_number(value)
    if number is None or not math.isfinite(number):
        raise Malformed(f"{key!r} must be a finite number, not {_shown(value)}")
    return number


def as_number(value: Any) -> float | None:
    """A number, or a text that is one; no truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


TRUE = {"true", "yes", "y", "1", "1.0", "good", "positive", "thumbs_up", "up", "+1", "desirable", "like"}
FALSE = {"false", "no", "n", "0", "0.0", "bad", "negative", "thumbs_down", "down", "-1", "undesirable", "dislike", ""}


def truth_of(value: Any, key: str) -> bool:
    """A truth value, also in words.

    >>> truth_of("True", "tie"), truth_of(0, "tie")
    (True, False)
    """
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, int | float | str) else "?"
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise Malformed(f"{key!r} must be true or false, not {_shown(value)}")


def _spellings(text: str) -> frozenset[str]:
    """What stands between bars."""
    return frozenset(word.strip() for word in text.split("|"))


FIRST = _spellings(
    """a | model_a | response_a | assistant_a | answer_a | option_a | output_a | completion_a | left | first | a wins | [[a]] | a>b |
    a>>b | a is better | a_wins | model a | response a | assistant a | home | 1-0"""
)
SECOND = _spellings(
    """b | model_b | response_b | assistant_b | answer_b | option_b | output_b | completion_b | right | second | b wins | [[b]] | b>a |
    b>>a | b is better | b_wins | model b | response b | assistant b | away | a<b | a<<b | 0-1"""
)
TIED = _spellings(
    """tie | ties | tied | draw | drawn | equal | same | both | neither | bothbad | both_bad | both bad | both good | a=b |
    tie (bothbad) | tie (both bad) | tie_bothbad | tie (bothgood) | [[c]] | c | no preference | 1/2-1/2 | 0.5-0.5 | bothgood"""
)
WORDS = {**dict.fromkeys(FIRST, 1), **dict.fromkeys(SECOND, -1), **dict.fromkeys(TIED, 0)}
"""What a verdict in words means: 1 the first won, -1 the second, 0 neither."""


def _shown(value: Any) -> str:
    try:
        return json.dumps(value)[:60]
    except (TypeError, ValueError):
        return str(value)[:60]


def verdict_of(value: Any, key: str, a: str, b: str, names: dict[str, int]) -> int:
    """Who won: 1 the first, -1 the second, 0 neither.

    Args: a, b, what is compared, since a winner may be named; names, what values of this column mean, by their normal spelling.

    >>> verdict_of("model_a", "winner", "x", "y", {}), verdict_of("y", "winner", "x", "y", {}), verdict_of("Tie", "winner", "x", "y", {})
    (1, -1, 0)
    """
    word = spelled(value)
    if word in names:
        return names[word]
    if value in (a, b):
        return 1 if value == a else -1
    sign = WORDS.get(word)
    if sign is not None:
        return sign
    raise Malformed(f"{key!r} must say who won, not {_shown(value)}")


def spelled(value: Any) -> str:
    """A value as verdicts are looked up: small letters; whole numbers without a point.

    >>> spelled(1.0), spelled(" Tie "), spelled(True)
    ('1', 'tie', 'true')
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    word = str(value).strip().lower() if value is not None else ""
    return word[:-2] if word[-2:] == ".0" and word[:-2].lstrip("-").isdigit() else word
