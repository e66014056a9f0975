"""Which column plays which role: by the names in use, by what a person says (`--map ROLE=COLUMN`), and, failing both, a suggestion."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabular_rlhf.errors import InputError, did_you_mean, nearest, quoted
from tabular_rlhf.preferencefile.values import as_number

_NAMES = """
prompt: prompt instruction question query input context history post info messages conversation conversations user_prompt prompt_text
    problem task;
chosen: chosen chosen_response response_chosen preferred_response preferred_output accepted better response_j pos positive good
    winning_response output_chosen answer_chosen;
rejected: rejected rejected_response response_rejected non_preferred_output dispreferred worse response_k neg negative bad
    losing_response output_rejected answer_rejected dispreferred_response;
winner: winner outcome result verdict preferred preference vote choice label labels better_response_id judgment judgement decision
    winner_name winner_id better_response which annotation;
loser: loser loser_name loser_id loses;
strength: preference_strength overall_preference preference_score signed_preference;
tie: tie is_tie tied draw is_draw winner_tie ties draws;
response: response completion answer output text generation reply summary;
label: label is_good thumbs desirable feedback thumbs_up liked labels;
score: score rating overall_score reward helpfulness overall quality upvotes likert grade;
rank: rank ranking place;
responses: responses completions answers generations candidates outputs summaries options texts replies model_responses all_responses;
scores: scores ratings rating rewards overall_scores;
ranks: ranks rankings;
order: ranking ranked order ranked_responses ranking_list ranked_list sorted;
choice: choice best chosen_index preferred_index label labels;
weight: weight weights count counts frequency times freq;
annotator: annotator annotator_id judge judge_id worker worker_id rater rater_id labeler labeler_id labeller annotator_name user_id
    assessor;
position: position chosen_first chosen_position winner_position winner_first;
margin: margin
"""
SYNONYMS = {role.strip(): tuple(names.split()) for role, names in (entry.split(":") for entry in _NAMES.split(";"))}
"""Names of columns for each role, the most usual first, in small letters with _ between words."""

SIDES: tuple[tuple[str, str], ...] = (
    ("model_a", "model_b"), ("response_a", "response_b"), ("response_1", "response_2"), ("response_0", "response_1"),
    ("response1", "response2"), ("output_1", "output_2"), ("output_a", "output_b"), ("answer_0", "answer_1"),
    ("answer_a", "answer_b"), ("answer_1", "answer_2"), ("completion_a", "completion_b"), ("completion_1", "completion_2"),
    ("completion_0", "completion_1"), ("model_1", "model_2"), ("model1", "model2"), ("summary_a", "summary_b"),
    ("human_ref_a", "human_ref_b"), ("assistant_a", "assistant_b"), ("option_a", "option_b"), ("option_1", "option_2"),
    ("text_a", "text_b"), ("candidate_a", "candidate_b"), ("candidate_1", "candidate_2"), ("item_a", "item_b"),
    ("item1", "item2"), ("item_1", "item_2"), ("player1", "player2"), ("player_1", "player_2"), ("player_a", "player_b"),
    ("team_1", "team_2"), ("left", "right"), ("first", "second"), ("home_team", "away_team"), ("home", "away"),
    ("white", "black"), ("a", "b"), ("i", "j"), ("generation_1", "generation_2"), ("text1", "text2"), ("text_1", "text_2"),
)  # fmt: skip
"""Two columns that hold what is compared, the one shown first in front."""
KNOWN_ROLES = {*SYNONYMS, "a", "b", "a_won", "b_won", "a_score", "b_score", "a_wins", "b_wins", "a_means", "b_means"}
"""What `--map` may name: columns, and (a_means, b_means) values of the winner's column."""


def normal(name: str) -> str:
    """A column's name in small letters with _ between words.

    >>> normal("Response A"), normal("home.team"), normal("overallScore")
    ('response_a', 'home_team', 'overall_score')
    """
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def parse_map(words: Iterable[str]) -> dict[str, str]:
    """`ROLE=COLUMN` of the command line.  Raises: InputError for what is none.

    >>> parse_map(["chosen=good answer"])
    {'chosen': 'good answer'}
    """
    found: dict[str, str] = {}
    for word in words:
        role, mark, column = word.partition("=")
        if not mark or not column:
            raise InputError("--map must be ROLE=COLUMN", got=quoted(word), remedy="for example --map chosen=good")
        if role not in KNOWN_ROLES:
            remedy = did_you_mean(role, KNOWN_ROLES, f"roles are {', '.join(sorted(KNOWN_ROLES))}")
            raise InputError("--map must name a known role", got=quoted(role), remedy=remedy)
        found[role] = column
    return found


class Columns:
    """The columns of a file, and who plays which role."""

    def __init__(self, names: Sequence[str], mapping: Mapping[str, str]) -> None:
        self.names, self.mapping = tuple(names), dict(mapping)
        self.spelled: dict[str, str] = {}
        for name in names:
            self.spelled.setdefault(normal(name), name)
        values = {"a_means", "b_means"}
        absent = [c for role, c in mapping.items() if role not in values and c not in self.names]
        if absent:
            remedy = did_you_mean(absent[0], self.names, f"its columns are {', '.join(self.names)}")
            raise InputError("--map must name a column of the file", got=quoted(absent[0]), remedy=remedy)
        self.claimed = {c for role, c in mapping.items() if role not in values}

    def get(self, role: str) -> str | None:
        """The column of a role: the one said, else the first by name that is not said to be something else."""
        if role in self.mapping:
            return self.mapping[role]
        found = (self.spelled[s] for s in SYNONYMS.get(role, ()) if s in self.spelled)
        return next((name for name in found if name not in self.claimed), None)

    def sides(self) -> tuple[str, str] | None:
        """The two columns that hold what is compared."""
        if "a" in self.mapping and "b" in self.mapping:
            return self.mapping["a"], self.mapping["b"]
        found = ((self.spelled[a], self.spelled[b]) for a, b in SIDES if a in self.spelled and b in self.spelled)
        return next((pair for pair in found if not self.claimed & set(pair)), None)

    def beside(self, what: Sequence[str], roles: tuple[str, str]) -> tuple[str, str] | None:
        """Two columns that say something of each side: `score_a` and `score_b`, `home_wins` and `away_wins`, `winner_model_a` ..."""
        if roles[0] in self.mapping and roles[1] in self.mapping:
            return self.mapping[roles[0]], self.mapping[roles[1]]
        pair = self.sides()
        if pair is None:
            return None
        for word in what:
            for ends in _endings(normal(pair[0]), normal(pair[1])):
                for names in ((f"{word}_{ends[0]}", f"{word}_{ends[1]}"), (f"{ends[0]}_{word}", f"{ends[1]}_{word}")):
                    if all(n in self.spelled for n in names):
                        return self.spelled[names[0]], self.spelled[names[1]]
                glued = f"{word}{ends[0]}", f"{word}{ends[1]}"
                if all(n in self.spelled for n in glued):
                    return self.spelled[glued[0]], self.spelled[glued[1]]
        return None


def _endings(a: str, b: str) -> list[tuple[str, str]]:
    """How two columns differ: the whole names, what is left without their common beginning, and without their common end.

    >>> _endings("model_a", "model_b"), _endings("home_team", "away_team")
    ([('model_a', 'model_b'), ('a', 'b')], [('home_team', 'away_team'), ('home', 'away')])
    """
    found = [(a, b)]
    last = re.search(r"[0-9a-z]$", a), re.search(r"[0-9a-z]$", b)
    if a[:-1] == b[:-1] and a[:-1] and all(last):
        found.append((a[-1], b[-1]))
    head, tail = a.split("_"), b.split("_")
    if head[1:] == tail[1:] and head[1:]:
        found.append((head[0], tail[0]))
    return found


# ---------------------------------------------------------------------------------------------------- a suggestion


def suggestion(names: Sequence[str], sample: Sequence[Mapping[str, Any]]) -> str:
    """A `--map` that is likely to work on rows like these; empty where nothing fits.

    >>> suggestion(("q", "nice", "nasty"), [{"q": "why?", "nice": "so", "nasty": "no"}])
    '--map prompt=q --map chosen=nice --map rejected=nasty'
    """
    texts = [n for n in names if _share(sample, n, lambda v: isinstance(v, str) and as_number(v) is None)]
    lists = [n for n in names if _share(sample, n, lambda v: isinstance(v, list) and len(v) > 1 and all(isinstance(x, str) for x in v))]
    numbers = [n for n in names if _share(sample, n, lambda v: as_number(v) is not None)]
    chat = [n for n in names if _share(sample, n, _spoken)]
    ranks = [n for n in names if _share(sample, n, lambda v: isinstance(v, list) and all(as_number(x) is not None for x in v))]
    texts += chat
    verdicts = [n for n in names if n not in lists and n not in chat and _verdict_like(sample, n, texts)]
    told: dict[str, str] = {}
    sides = [n for n in texts if n not in verdicts]
    if verdicts and len(sides) >= 2:
        last = sides[-2:]
        told = {"a": last[0], "b": last[1], "winner": verdicts[0]} | ({"prompt": sides[0]} if len(sides) > 2 else {})
    elif len(sides) >= 3:
        told = dict(zip(("prompt", "chosen", "rejected"), _by_name(sides[:3]), strict=True))
    elif len(sides) == 2 and numbers and len({row.get(sides[0]) for row in sample}) < len(sample):
        told = {"prompt": sides[0], "response": sides[1], "score": numbers[0]}
    elif len(sides) == 2:
        told = dict(zip(("winner", "loser"), sides, strict=True))
    elif lists and ranks:
        told = {"responses": lists[0], "ranks": ranks[0]} | ({"prompt": sides[0]} if sides else {})
    elif lists:
        told = {"order": lists[0]} | ({"prompt": sides[0]} if sides else {})
    elif len(numbers) >= 2 and not sides:
        told = dict(zip(("winner", "loser", "weight"), numbers, strict=False))
    return " ".join(f"--map {role}={_word(column)}" for role, column in told.items())


def _spoken(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) and {"role", "from"} & m.keys() for m in value)


def _share(sample: Sequence[Mapping[str, Any]], name: str, holds: Any) -> bool:
    values = [row[name] for row in sample if row.get(name) not in (None, "")]
    return bool(values) and sum(map(holds, values)) > 0.8 * len(values)


def _verdict_like(sample: Sequence[Mapping[str, Any]], name: str, texts: Sequence[str]) -> bool:
    """Whether a column says who won: names of the other columns' contents, or words for first, second and neither."""
    from tabular_rlhf.preferencefile.values import FIRST, SECOND, TIED, spelled

    values = {spelled(row[name]) for row in sample if not isinstance(row.get(name, []), list | dict)}
    others = {spelled(row[n]) for row in sample for n in texts if n != name and isinstance(row.get(n), str)}
    words = FIRST | SECOND | TIED
    return bool(values) and (values <= words or (values <= others | words and all(_named(row, name, texts) for row in sample)))


def _named(row: Mapping[str, Any], name: str, texts: Sequence[str]) -> bool:
    from tabular_rlhf.preferencefile.values import TIED, spelled

    return spelled(row.get(name)) in TIED or sum(row.get(name) == row.get(n) for n in texts if n != name) == 1


def _by_name(sides: Sequence[str]) -> list[str]:
    """Three columns in the order prompt, chosen, rejected: by the nearest usual name where there is one, else as they stand."""
    left = list(sides)
    found: dict[str, str] = {}
    for role in ("prompt", "chosen", "rejected"):
        close = next((n for n in left if nearest(normal(n), SYNONYMS[role], 1)), None)
        if close is not None:
            found[role] = close
            left.remove(close)
    return [found.get(role) or left.pop(0) for role in ("prompt", "chosen", "rejected")]


def _word(column: str) -> str:
    import shlex

    return shlex.quote(column)
