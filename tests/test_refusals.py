"""Hostile questions, by kind: files that are none, numbers of thousands of digits, errors without words, text that commands a terminal.

Every command, whatever an option is given, exits with 0, 1 or 2, and 2 says in four parts what is wrong; never a traceback.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import socket
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tabular_rlhf as tr
from tabular_rlhf import cli
from tabular_rlhf.check.calling import guard
from tabular_rlhf.commands.printing import HIDDEN, KEPT, visible
from tabular_rlhf.errors import InputError, as_floats, as_number, positive, quoted, raised, shown, whole
from tabular_rlhf.files import LARGEST, check_output, make_folder, read_bytes, read_json, read_text
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.preferences.comparisons import count_wins
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.rollouts.example import example_text
from tabular_rlhf.worldfile import load_world, parse_world

HUGE = 10**400
LONG = "9" * 5000
WORLD = 'vocabulary = ["a", "b"]\nhorizon = 1\nbeta = 1.0\n'
ROW = '{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p", "chosen": "b", "rejected": "a"}\n'


def asked(*words: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command, which must come back."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), guard("it hangs", REAL=20.0):
        try:
            status = cli.main(list(words))
        except SystemExit as e:  # argparse
            status = int(e.code or 0)
    return status, out.getvalue(), err.getvalue()


def refused(*words: str) -> str:
    status, out, err = asked(*words)
    assert (status, out) == (2, "")
    assert ": got " in err
    assert err.count("\n") == 1
    return err


# ---------------------------------------------------------------------------------------------------- files


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one good file of each kind, and one of each kind of what is no file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.toml").write_text(WORLD)
    (tmp_path / "prefs.jsonl").write_text(ROW)
    (tmp_path / "rollouts.jsonl").write_text(example_text(2))
    (tmp_path / "study.toml").write_text('worlds = ["coin"]\nalgorithms = ["rloo"]\nseeds = 1\n[settings]\nsteps = 1\n')
    (tmp_path / "answers.py").write_text("def regret(J_x, value):\n    return value - J_x\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind("socket")
    return tmp_path


NO_FILES = {"pipe": "a pipe", "folder": "Is a directory", "socket": "a socket", "/dev/zero": "a device", "a\0b": "a NUL character"}


@pytest.mark.parametrize("path", NO_FILES)
def test_only_ordinary_files_are_read(path: str, place: Path) -> None:
    for read in (read_bytes, read_text):
        with pytest.raises(InputError, match="must be a readable") as e, guard("it hangs", REAL=5.0):
            read(Path(path), "the file")
        assert NO_FILES[path] in e.value.got
        assert quoted(path) in e.value.got
    with pytest.raises(InputError), guard("it hangs", REAL=5.0):
        load_world(path)
    with pytest.raises(InputError, match="reference's file must be a readable"), guard("it hangs", REAL=5.0):
        parse_world(WORLD + f"[reference]\nfile = {json.dumps(path)}\n", folder=place)


@pytest.mark.parametrize("path", [*NO_FILES, "nothing"])
@pytest.mark.parametrize(
    "command",
    [
        "solve {}",
        "run {}",
        "run --resume {}",
        "fit {}",
        "study {}",
        "fit prefs.jsonl --reference {}",
        "grade {}",
        "grade answers.py --exercises {}",
        "page --check {}",
        "kl --world {}",
        "check regret-is-kl {}.py:f",
    ],
)
def test_every_command_refuses_what_is_no_file(command: str, path: str, place: Path) -> None:
    _ = refused(*(word.format(path) for word in command.split()))


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "NUL", "nowhere"])
@pytest.mark.parametrize("command", ["solve coin --figure {}.png", "run coin --steps 0 --save {}.npz", "page --out {}", "bench --out {}"])
def test_only_ordinary_files_are_written(command: str, kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabular_rlhf.commands.bench.measure", None)
    monkeypatch.setattr("tabular_rlhf.page.build", None)
    for suffix in ("", ".png", ".npz"):
        (place / f"device{suffix}").symlink_to("/dev/full")
        (place / f"folder{suffix}").mkdir(exist_ok=True)
        if not (place / f"pipe{suffix}").exists():
            os.mkfifo(place / f"pipe{suffix}")
    path = {"NUL": "a\0b", "nowhere": "no/where"}.get(kind, kind)
    _ = refused(*(word.format(path) for word in command.split()))
    with pytest.raises(InputError):
        check_output(Path(path))


def test_a_file_is_read_up_to_a_limit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("large", "wb") as file:
        file.truncate(LARGEST + 1)
    monkeypatch.setattr("tabular_rlhf.files.LARGEST", 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        read_bytes(Path("large"), "it")
    (place / "small").write_bytes(b"0123456789")
    assert len(read_bytes(Path("small"), "it")) == 10
    with pytest.raises(InputError, match="NUL"):
        make_folder(Path("a\0b"))


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=10))
def test_json_says_everything_once(value: Any) -> None:
    """What json writes is read back; an object that tells one of its keys twice is refused, at any depth."""
    assert read_json(json.dumps(value)) == value
    with pytest.raises(ValueError, match="twice"):
        read_json(f'[{json.dumps(value)}, {{"a": {json.dumps(value)}, "b": 0, "a": 1}}]')


def test_repeated_keys_and_deep_nests_are_malformed_lines(place: Path) -> None:
    lines = [ROW, '{"prompt": "p", "chosen": "a", "rejected": "b", "weight": 1, "weight": 5}\n', "[" * 100_000 + "\n", LONG + "\n"]
    (place / "prefs.jsonl").write_text("".join(lines))
    status, out, err = asked("fit", "prefs.jsonl")
    assert status == 2
    assert err.splitlines()[0] == "line 3: not JSON that can be read: the key 'weight' twice"
    assert len(err.splitlines()) == 3
    assert "3 malformed lines" in out
    (place / "prefs.jsonl").write_text(ROW)
    (place / "ref.jsonl").write_text('{"prompt": "p", "response": "a", "logp": -1, "logp": -2}\n')
    assert "the key 'logp' twice" in refused("fit", "prefs.jsonl", "--reference", "ref.jsonl")


# ---------------------------------------------------------------------------------------------------- numbers


class Mute(Exception):
    """What cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


SIZES: dict[str, Callable[[], Any]] = {
    "a vocabulary": lambda: TokenMDP(10**8, 1),
    "a vocabulary of 10^400": lambda: TokenMDP(HUGE, 1),
    "a vocabulary of 10^5000": lambda: TokenMDP(10**5000, 2),
    "a horizon of 10^400": lambda: TokenMDP(1, HUGE),
    "a horizon of 10^5000": lambda: TokenMDP(2, 10**5000),
    "a vocabulary without end": lambda: TokenMDP(iter(int, 1), 1),  # type: ignore[arg-type]
    "prompts without end": lambda: TokenMDP(2, 1, prompts=iter(str, "x")),  # type: ignore[arg-type]
    "a world": lambda: tr.random_world(rng=np.random.default_rng(0), V=HUGE),
    "a world of prompts": lambda: tr.random_world(rng=np.random.default_rng(0), P=10**9),
    "a world of many prompts": lambda: tr.random_world(rng=np.random.default_rng(0), P=HUGE),
    "a beta": lambda: tr.coin(HUGE),
    "a beta of 10^5000": lambda: tr.coin(10**5000),
    "a reward": lambda: tr.coin().with_reward([[0, HUGE]]),
    "a sample": lambda: tr.sample(tr.coin(), tr.coin().log_p_ref, HUGE, rng=np.random.default_rng(0)),
    "a large sample": lambda: tr.sample(tr.coin(), tr.coin().log_p_ref, 10**12, rng=np.random.default_rng(0)),
    "a whole number": lambda: whole(10**5000, "it", 0, "pass less", 10),
    "no whole number": lambda: whole(-(10**5000), "it", 0, "pass more"),
    "an item against itself": lambda: fit(count_wins([0], [0], 1)),
    "a list in itself": lambda: as_floats(_circle(), "x"),
    "a deep list": lambda: as_floats(_deep(), "x"),
    "a mute": lambda: as_floats(Mute(), "x"),
    "no prompts": lambda: TokenMDP(2, 1, prompts=Mute()),  # type: ignore[arg-type]
    "no number": lambda: positive(Mute(), "it", "units"),  # type: ignore[arg-type]
}


def _circle() -> list[Any]:
    x: list[Any] = []
    x.append(x)
    return x


def _deep() -> list[Any]:
    x: list[Any] = []
    for _ in range(10_000):
        x = [x]
    return x


@pytest.mark.parametrize("name", SIZES)
def test_what_cannot_be_made_is_refused_before_it_costs_anything(name: str) -> None:
    with pytest.raises(InputError) as e, guard("it hangs", REAL=2.0):
        SIZES[name]()
    assert e.value.must
    assert e.value.got
    assert e.value.remedy
    assert len(str(e.value)) < 2500


TOMLS = {
    "a vocabulary": WORLD.replace("horizon = 1", f"horizon = {HUGE}"),
    "a horizon of thousands of digits": WORLD.replace("horizon = 1", f"horizon = {LONG}"),
    "a beta": WORLD.replace("1.0", str(HUGE)),
    "a beta of thousands of digits": WORLD.replace("1.0", LONG),
    "a nest": WORLD + f"x = {'[' * 50_000}",
    "a size": 'vocabulary = "auto"\nsize = ' + str(HUGE) + "\nhorizon = 2\nbeta = 1.0\n",
    "a function that says nothing": WORLD + '[reward]\nfunction = "mine:mute"\n',
    "a function that returns too much": WORLD + '[reward]\nfunction = "mine:much"\n',
    "a module that raises": WORLD + '[reward]\nfunction = "bad:f"\n',
}


@pytest.mark.parametrize("name", TOMLS)
def test_a_world_file_is_refused_in_words(name: str, tmp_path: Path) -> None:
    mute = "class Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\n"
    (tmp_path / "mine.py").write_text(mute + "def mute(text, prompt):\n    raise Mute\ndef much(text, prompt):\n    return 10**5000\n")
    (tmp_path / "bad.py").write_text(mute + "raise Mute\n")
    (tmp_path / "world.toml").write_text(TOMLS[name])
    assert len(refused("solve", str(tmp_path / "world.toml"))) < 2500


def test_anything_can_be_shown() -> None:
    assert shown(10**5000) == "a whole number of about 5000 digits"
    assert shown(Mute()) == quoted(Mute()) == "Mute, which cannot be written"
    assert raised(Mute()) == "Mute: Mute, which cannot be written"
    assert shown("x" * 10**6).endswith("... (1,000,000 characters)")
    assert [as_number(x) for x in (HUGE, -HUGE, "1e-5", True)] == [np.inf, -np.inf, 1e-5, 1.0]
    assert np.isnan([as_number(x) for x in ("x", None, Mute(), 1j)]).all()


# ---------------------------------------------------------------------------------------------------- what a terminal is shown


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in HIDDEN and c not in KEPT}


@given(st.text(st.characters(codec=None)))
def test_nothing_printed_commands_the_terminal(text: str) -> None:
    """And what is to be seen stays, as does the value of what is printed as JSON."""
    assert not hidden(visible(text))
    assert visible(visible(text)) == visible(text)
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == json.loads(json.dumps(text))
    seen = "".join(c for c in text if c not in hidden(text))
    assert seen == text or visible(text) != text
    if seen == text:
        assert visible(text) == text


def test_there_is_one_place_that_prints() -> None:
    package = Path(cli.__file__).parent
    for path in [package / "cli.py", *(package / "commands").glob("*.py")]:
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        prints = [f for f in calls if (isinstance(f, ast.Name) and f.id == "print") or (isinstance(f, ast.Attribute) and f.attr == "write")]
        assert len(prints) == (path.name == "printing.py"), path.name


EVIL = "\x1b[31m\u202e\x9b2J\x07"


def test_files_cannot_reach_the_terminal(place: Path) -> None:
    """Names, tokens, prompts, errors, lines and paths of files, each with commands in them."""
    word = json.dumps(f"x{EVIL}")
    toml = f'name = {word}\nvocabulary = [{word}, "b"]\nprompts = [{word}, "y"]\nhorizon = 1\nbeta = 1.0\n'
    (place / "evil.toml").write_text(toml)
    (place / "worse.toml").write_text(toml + f"{word} = 1\n")
    (place / "raises.toml").write_text(toml + '[reward]\nfunction = "mine:f"\n')
    (place / "mine.py").write_text(
        f"def f(text, prompt):\n    raise ValueError({word})\n\ndef regret(J_x):\n    raise ValueError({word})\n"
    )
    (place / "prefs.jsonl").write_text(ROW.replace('"a"', word).replace('"p"', word) + f'{{"chosen": 1, {word}: 2}}\n{word}\n')
    questions = [
        ("solve", "evil.toml", "--samples", "10"),
        ("solve", "evil.toml", "--samples", "10", "--json"),
        ("run", "evil.toml", "--algorithm", "rloo", "--steps", "1"),
        ("kl", "--world", "evil.toml", "--estimator", "k1", "--samples", "10"),
        ("losses", "dpo", "--world", "evil.toml"),
        ("solve", "worse.toml"),
        ("solve", "raises.toml"),
        ("fit", "prefs.jsonl"),
        ("fit", "prefs.jsonl", "--json"),
        ("check", "regret-is-kl", "mine.py:regret"),
        ("check", "regret-is-kl", f"mine.py:{EVIL}"),
        ("solve", f"{EVIL}.toml"),
        ("solve", f"--{EVIL}"),
        ("symbols", EVIL),
    ]
    for words in questions:
        _, out, err = asked(*words)
        assert out or err
        assert not hidden(out + err), words


# ---------------------------------------------------------------------------------------------------- every option of every command


BASES: dict[str, tuple[str, ...]] = {
    "verify": ("prompts", "--explain"),
    "derive": ("bt-score-hessian", "--world", "coin"),
    "check": ("regret-is-kl", "answers.py:regret"),
    "exercises": (),
    "disputes": ("tis-unbiased",),
    "formula": ("r",),
    "formulas": ("means",),
    "symbols": ("beta",),
    "solve": ("coin", "--samples", "10"),
    "losses": ("dpo", "--world", "coin"),
    "fit": ("prefs.jsonl",),
    "rollouts": ("rollouts.jsonl",),
    "advantage": ("rloo", "--world", "coin"),
    "audit": ("answers.py:regret",),
    "vectors": ("gibbs", "--out", "made"),
    "conform": ("answers.py:regret",),
    "kl": ("--estimator", "k1", "--placement", "loss", "--samples", "10", "--world", "coin"),
    "run": ("coin", "--algorithm", "rloo", "--steps", "1"),
    "study": ("study.toml",),
    "grade": ("answers.py",),
    "figures": ("--list",),
    "index": ("regret",),
    "page": ("--check", "world.toml"),
    "bench": ("--quick",),
}
"""A question of every command that is cheap to answer."""
HOSTILE: dict[Any, tuple[str, ...]] = {
    int: ("-1", "0", str(HUGE), LONG, "x", ""),
    float: ("nan", "inf", "-1", "0", "1e400", "1e-300", LONG, "x"),
    Path: ("", "pipe", "folder", "/dev/zero", "a\0b", "no/where", EVIL),
    None: ("", "x" * 5000, EVIL, "a\0b", "pipe", "{}", "=", "k=nan"),
}


def options(command: str) -> Iterator[tuple[argparse.Action, str]]:
    """Every option and positional of a command, with each hostile value for its type."""
    parser = cli.build_parser(command)[0]
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for action in commands.choices[command]._actions:
        if action.nargs != 0:
            for value in HOSTILE[None if action.type is str else action.type]:  # a new type fails here until it has hostile values
                yield action, value


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_whatever_an_option_is_given_there_is_no_traceback(command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabular_rlhf.commands.bench.measure", lambda **_: {})
    monkeypatch.setattr("tabular_rlhf.commands.bench.report", lambda _: "")
    monkeypatch.setattr("tabular_rlhf.grading.marks.grade", _no_grade)
    monkeypatch.setattr("tabular_rlhf.page.build", lambda *_: "")
    for action, value in options(command):
        base = BASES.get(command, ())
        words = [*base, f"{action.option_strings[-1]}={value}"] if action.option_strings else [value, *base[1:]]
        status, out, err = asked(command, *words)
        assert status in (0, 1, 2), words
        assert not hidden(out + err), words
        assert status != 2 or ": got " in err or ": argument " in err or "malformed" in out, (words, err)


def _no_grade(*_: Any, **__: Any) -> Any:
    raise InputError("nothing must be graded here", got="everything", remedy="see the tests of grading")
