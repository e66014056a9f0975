"""The language in which records write their mathematics: what is written is what the record holds, and nothing is lost in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.derivations.lines import OPTIONS, RELATIONS
from tabular_rlhf.derivations.record import Derivation
from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises.record import Exercise
from tabular_rlhf.formula.written import Written, written
from tabular_rlhf.ledger import audit
from tabular_rlhf.ledger.record import Row

WORD = st.text("abzAB019_*/^(){}\\'.,:+-=<", min_size=1, max_size=6)
TEXT = st.lists(WORD, min_size=1, max_size=6).map(" ".join)
FORMULA = TEXT.filter(lambda t: t.split(" ")[0] not in {"let", "slip", "not"} and not any(f"{t} ".startswith(f"{r} ") for r in RELATIONS))
SAID = st.builds(
    Written,
    FORMULA,
    st.one_of(st.just(""), TEXT),
    st.sampled_from(["", *RELATIONS]),
    st.lists(TEXT, max_size=2, unique=True).map(tuple),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.dictionaries(st.sampled_from(["law", "of"]), WORD, max_size=2),
)


def as_text(letters: dict[str, str], said: list[Written], broken: bool) -> str:
    """A text that says so; broken: with a new line wherever one may be."""
    lines = [f"let {'; '.join(f'{name} = {meaning}' for name, meaning in letters.items())}"] if letters else []
    for one in said:
        lines.append(f"{one.relation} {one.formula}".strip() + (f"  # {one.words}" if one.words else ""))
        lines += [f"  slip {'; '.join(one.slips)}"] if one.slips else []
        lines += [f"  not {formula}  # {words}" for words, formula in one.wrong.items()]
        lines += [f"  {name} {value}" for name, value in one.options.items()]
    if broken:
        indents = [len(line) - len(line.lstrip()) for line in lines]
        lines = [" " * k + line.strip().replace(" ", "\n" + " " * 6) for k, line in zip(indents, lines, strict=True)]
    return "\n".join(lines)


LINES = st.lists(SAID, min_size=1, max_size=3).map(lambda said: [said[0], *(s for s in said[1:] if s.relation)])
LETTERS = st.dictionaries(st.sampled_from(["u", "r_hat", "Z"]), TEXT, max_size=2)


@given(LETTERS, LINES, st.booleans())
def test_what_is_written_is_read(letters: dict[str, str], said: list[Written], broken: bool) -> None:
    assert written(as_text(letters, said, broken), relations=RELATIONS, options=OPTIONS) == (letters, said)


def test_a_line_that_begins_with_no_relation_is_told_all_of_them() -> None:
    with pytest.raises(InputError, match=r"must begin with one of .*same minimizer.*: line 2 of its text: got 'upto a constant q'"):
        written("p\nupto a constant q", relations=RELATIONS)


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("  slip beta dropped\np", "a mistake must stand below a formula"),
        ("p\n  not q", "a wrong formula must have words"),
        ("p\n  not q  # no\n  not r  # no", "a wrong formula must have words of its own"),
        ("p\n  sip beta dropped", "what is said of a formula must be known"),
        ("p\n  not @f  # no", "what stands behind @ must be the name of a function"),
        ("p", "every function must be named in the text"),
        ("p\n slip beta dropped", "a line must begin at the margin"),
        ("p\n   + q", "a line must begin at the margin"),
        ("p  # words\n    not q  # no", "a line must begin at the margin"),
        ("p\nnot q  # no", "a mistake must be indented by two"),
        ("p\n  slip beta dropped; beta dropped", "a slip must be named once"),
    ],
)
def test_what_a_text_cannot_say_is_refused_where_it_stands(text: str, must: str) -> None:
    with pytest.raises(InputError, match=must) as refused:
        written(text, "row 'mine'", named={"g": abs})
    assert "row 'mine'" in str(refused.value)


def test_the_three_records_read_the_same_mistakes() -> None:
    """One text is a claim, a derivation's line and an answer: the same formulas, the same mistakes in them."""
    text = r"""
    V(x) - J_x = \beta\,\mathrm{KL}(p, p^*)  # what is given away
      slip beta dropped; sign flipped
      not \beta\,\mathrm{KL}(p^*, p)  # forward for reverse KL
    """
    row = Row(slug="mine", chapter=4, source="me", sides={"left": 0, "right": 1}, text=text)
    asked = Exercise(slug="mine", chapter=4, notebook="", title="t", statement="s", hint="h", rows=("regret-is-kl",), text=text)
    lines = (r"V(x) - J_x  # it", *(f"= {line}" if k == 0 else line for k, line in enumerate(text.strip("\n ").split("\n    "))))
    line = Derivation(slug="mine", title="t", chapter=4, rows=(), source="me", text="\n".join(lines)).lines[1]
    assert list(row.misses) == list(asked.misses) == list(line.wrong) == ["beta dropped", "sign flipped", "forward for reverse KL"]
    assert [str(miss.wrong) for miss in row.near_misses] == [str(f) for f in asked.misses.values()] == [str(f) for f in line.wrong.values()]


def test_a_derivation_read_twice_is_the_same() -> None:
    """Nothing of the text is left in a record that was read: what is replaced in it stays replaced."""
    assert all(not d.text and not d.named for d in DERIVATIONS.values())


REGRET = r"V(x) - J_x = \beta\,\mathrm{KL}(p, p^*)"


@pytest.mark.parametrize(
    ("mistakes", "right", "told"),
    [
        (
            "slip beta dropped; sign flipped",
            2,
            "must be one that is printed: row 'mine', clause 1: got 2; count from 0: there are 2",
        ),
        ("slip beta dropped; sign flipped", -2, "a side must be one that is printed: row 'mine', clause 1: got -2"),
        ("slip beta dropped; sign flipped", 0, "sides must be different ones: row 'mine': got 0, 0"),
        (
            "slip beta droped; sign flipped",
            1,
            "must be one of the formula: row 'mine', clause 1: got 'beta droped'; did you mean beta",
        ),
        ("slip sign flipped\n  not \\beta*Foo  # no", 1, r"row 'mine', clause 1, column 7: got 'Foo', in \\beta\*>>Foo<<"),
    ],
)
def test_what_a_claim_cannot_mean_is_refused_where_it_stands(mistakes: str, right: int, told: str) -> None:
    """A side that no clause prints, the same side twice, a slip that the formula has not, a letter of a wrong formula."""
    with pytest.raises(InputError, match=told):
        audit([Row(slug="mine", chapter=4, source="me", sides={"left": 0, "right": right}, text=f"{REGRET}\n  {mistakes}")], worlds=1)
