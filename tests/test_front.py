"""First contact: what a newcomer types, on any terminal, in any encoding, is answered within the page, and never with a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_rlhf import __version__, commands, files
from tabular_rlhf.cli import COMMANDS, build_parser, main
from tabular_rlhf.commands import losses, options, progress
from tabular_rlhf.commands.printing import can_say, spelled
from tabular_rlhf.commands.schemas import HEAD, SCHEMAS
from tabular_rlhf.errors import InputError
from tabular_rlhf.layout import NARROWEST, fold, table
from tabular_rlhf.losses import analyse as family
from tabular_rlhf.losses.record import LOSSES
from tabular_rlhf.rollouts.example import example_text
from tabular_rlhf.told import in_words

PREFS = '{"prompt": "a", "chosen": "x", "rejected": "y"}\n{"prompt": "a", "chosen": "y", "rejected": "x"}\n'
ANSWERS = "def regret(beta, log_p, log_p_star):\n    return beta * (log_p - log_p_star)\n"
ASKED: dict[str, list[str]] = {
    "verify": ["verify --list", "verify regret-is-kl --explain", "verify mirror-descent --worlds 1"],
    "derive": ["derive", "derive regret-is-kl"],
    "disputes": ["disputes --theme averages", "disputes tis-unbiased"],
    "check": ["check regret answers.py:regret"],
    "exercises": ["exercises", "exercises regret --hint"],
    "formula": ["formula log_Z --world coin"],
    "formulas": ["formulas"],
    "symbols": ["symbols"],
    "solve": ["solve rational --samples 50", "solve two.toml --samples 50"],
    "losses": ["losses --world coin", "losses ipo --world coin"],
    "fit": ["fit prefs.jsonl"],
    "rollouts": ["rollouts rollouts.jsonl"],
    "advantage": ["advantage grpo --world coin --group 2"],
    "audit": ["audit losses.py:step --group 2", "audit losses.py:raises"],
    "vectors": ["vectors gibbs --out made"],
    "conform": ["conform losses.py"],
    "kl": ["kl --world coin --estimator k1 --samples 50"],
    "run": ["run coin --algorithm rloo --steps 2"],
    "study": ["study study.toml --jobs 1", "study study.toml --jobs 1 --out other"],
    "grade": [],  # it starts processes: tested where grading is, and its page is the check report's
    "figures": ["figures --list"],
    "page": [],  # one line
    "bench": [],  # it takes its time: its page is tested where bench is
    "index": ["index regret", "index k3"],
}
"""Words that are answered quickly; a command that is not here is asked by its name alone."""
LOSS = """
def step(logps, advantages, mask):
    return -(logps * advantages[:, None] * mask).sum() / mask.sum()


def raises(logps, advantages):
    raise RuntimeError("on purpose")
"""
TWO = """
vocabulary = ["a", "b"]
horizon = 2
eos = "."
beta = 1.0
prompts = ["x", "a longer prompt"]
[reference]
text = "a b"
[reference.prompt."x"]
forbid = ["a"]
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that are asked about, and a family of two losses."""
    for name, text in {
        "prefs.jsonl": PREFS,
        "study.toml": 'worlds = ["coin"]\nalgorithms = ["rloo"]\nseeds = 2\n[settings]\nsteps = 1\n',
        "rollouts.jsonl": example_text(2),
        "answers.py": ANSWERS,
        "two.toml": TWO,
        "losses.py": LOSS,
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    few = {name: LOSSES[name] for name in ("dpo", "robust-dpo")}
    for module in (family, losses):
        monkeypatch.setattr(module, "LOSSES", few | ({"ipo": LOSSES["ipo"]} if module is losses else {}))
    return tmp_path


def tell(words: str, encoding: str = "utf-8") -> tuple[int, str, str]:
    """Status, stdout and stderr of a command whose streams have an encoding, and refuse what it has not."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = main(words.split())
    said = []
    for stream in streams:
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        said.append(stream.buffer.getvalue().decode(encoding))
    return status, said[0], said[1]


# ---------------------------------------------------------------------------------------------------- the first words


def test_every_command_is_known_by_its_file() -> None:
    files = {path.stem for path in Path(commands.__file__).parent.glob("*.py") if "\ndef configure(" in path.read_text()}
    assert set(ASKED) <= set(COMMANDS) == files
    assert all(len(summary) > 10 for summary in COMMANDS.values())


def test_a_bare_call_says_what_to_try_and_each_of_it_works() -> None:
    status, said, wrong = tell("")
    assert (status, wrong) == (0, "")
    assert all(name in said for name in COMMANDS)
    tries = [line.removeprefix("  tabular-rlhf ") for line in said.splitlines() if line.startswith("  tabular-rlhf ")]
    assert len(tries) == 3
    for words in tries:
        assert tell(words)[::2] == (0, ""), words


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ("vrify", "verify"),
        ("solve coim", "coin"),
        ("losses dop", "dpo"),
        ("advantage rlo", "rloo"),
        ("derive regret-is", "regret-is-kl"),
        ("kl --estimator k3-inverte", "k3-inverted"),
        ("exercises regert", "regret"),
        ("symbols log_pref", "log_p_ref"),
        ("verify regret-is-lk", "regret-is-kl"),
        ("figures tlit", "tilt"),
        ("losses ipo --set tua=1", "tau"),
        ("advantage grpo --set epsilom=1", "epsilon"),
        ("solve coin --betta 1", "--beta"),
        ("indx", "index"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(words: str, nearest: str) -> None:
    status, said, wrong = tell(words)
    assert (status, said) == (2, "")
    assert f"did you mean {nearest}" in wrong.replace("\n", " ")


# ---------------------------------------------------------------------------------------------------- the page


@pytest.mark.parametrize("columns", [60, 80, 131])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_page_fits(command: str, columns: int, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, but for one word that is."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in [*ASKED.get(command, [command]), f"{command} --help"]:
        status, said, _ = tell(words)
        assert status in (0, 1), words
        for line in said.splitlines():
            assert len(line) <= columns or len(line.split()) == 1, (words, line)
            assert line == line.rstrip()


@settings(max_examples=50)
@given(st.data())
def test_a_table_loses_nothing_and_fits(data: Any) -> None:
    """Every word of every cell is there, in order of its column, at any width; a column of numbers is never cut."""
    n = data.draw(st.integers(1, 6))
    word = st.text("abcdefg", min_size=1, max_size=9)
    left = sorted(data.draw(st.sets(st.integers(0, n - 1))))
    cell = [st.lists(word, min_size=1, max_size=12).map(" ".join) if i in left else word for i in range(n)]
    rows = data.draw(st.lists(st.tuples(*cell), min_size=1, max_size=3))
    header = [f"h{i}" for i in range(n)]
    columns = data.draw(st.integers(NARROWEST, 120))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        told = table("", header, rows, left)
    assert max(map(len, told.splitlines())) <= columns
    for row in rows:
        for i, text in enumerate(row):
            assert all(part in told for part in text.split()), (i, text)


@given(st.text(" ab.-", max_size=200), st.integers(NARROWEST, 100))
def test_a_folded_line_keeps_its_words_and_fits(line: str, most: int) -> None:
    told = fold(line, most)
    assert told.split() == line.split()
    assert all(len(part) <= most or len(part.split()) <= 2 for part in told.split("\n"))


# ---------------------------------------------------------------------------------------------------- any stream


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437"])
@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("losses", "advantage", "run")])
def test_every_encoding_is_spoken(command: str, encoding: str, room: Path) -> None:
    for words in ASKED.get(command, [command]):
        status, said, _ = tell(words, encoding)
        assert status in (0, 1)
        assert said
        assert "\\u03" not in said  # Greek has names


@given(st.text(), st.sampled_from(["ascii", "cp1252", "utf-8"]))
def test_what_is_spelled_can_be_said(text: str, encoding: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert can_say(spelled(text, encoding), encoding)
    assert encoding != "utf-8" or spelled(text, encoding) == text


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m tabular_rlhf"
    place = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parent.parent), **environment}
    return subprocess.run(["sh", "-c", script.replace("IT", command)], capture_output=True, text=True, env=place, timeout=120)


@pytest.mark.parametrize("script", ["IT --help | head -1", "IT --help >&-", "IT dance 2>&-", "IT | true", "IT symbols >&- 2>&-"])
def test_closed_streams_end_quietly(script: str) -> None:
    assert "Traceback" not in (told := shell(script).stderr)
    assert "Exception" not in told


def test_a_pipe_as_on_windows() -> None:
    told = shell("IT derive regret-is-kl", PYTHONIOENCODING="cp1252")
    assert (told.returncode, told.stderr) == (0, "")
    assert "beta log Z" in told.stdout


@pytest.mark.parametrize(("tty", "kind"), [(False, progress.Lines), (True, progress.Bar)])
def test_progress_is_told_in_lines_where_there_is_no_terminal(
    tty: bool, kind: type, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: tty)
    with progress.progress(3, "verify", "check") as told:
        assert isinstance(told, kind)
        told.update(2, "a note")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert tty or (shown.err.startswith("verify: 2 of 3 checks, ") and "\r" not in shown.err)


def test_progress_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress.progress(3, "verify", "check") as told:
        told.update()
    assert isinstance(told, progress.Silent)


# ---------------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize("command", COMMANDS)
def test_every_json_has_the_head_and_the_keys_that_are_documented(command: str, room: Path) -> None:
    """One head: schema, version, seed and the command; then what `schemas` says, and no infinity that JSON does not know."""

    def refused(word: str) -> float:
        raise ValueError(f"{word} is no JSON")

    for words in ASKED.get(command, [command]) if command != "figures" else []:
        status, said, _ = tell(f"{words} --json")
        assert status in (0, 1)
        told = json.loads(said, parse_constant=refused)
        assert list(told)[: len(HEAD)] == list(HEAD)
        assert told["version"] == __version__
        assert told["command"] == f"tabular-rlhf {words} --json"
        known = SCHEMAS[told["schema"]]
        assert set(told) - set(HEAD) <= set(known), words


@pytest.mark.parametrize("command", ["disputes k3-in-reward", "kl --samples 10", "derive dpo-loss", "symbols beta", "exercises regret"])
def test_a_report_is_markdown_where_it_is_asked_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(command.split())
    plain = capsys.readouterr().out.strip()
    assert main([*command.split(), "--markdown"]) == status
    first, _, *page = capsys.readouterr().out.strip().split("\n")
    assert first.startswith(f"`tabular-rlhf {command} --markdown`")
    assert (page[0], page[-1]) == ("```text", "```")
    told = "\n".join(page[1:-1])
    made = "Made by tabular-rlhf"  # the last lines name the command, which is another
    assert told.split(made)[0] == plain.split(made)[0]
    assert main([*command.split(), "--markdown", "--json"]) == 2
    assert "one form" in capsys.readouterr().err


def test_json_is_the_same_in_every_encoding(room: Path) -> None:
    texts = {tell("derive gibbs-optimum --json", encoding)[1] for encoding in ("utf-8", "ascii", "cp1252")}
    assert len({json.dumps(json.loads(text)) for text in texts}) == 1


def test_every_schema_of_the_source_is_documented() -> None:
    package = Path(files.__file__).parent
    named = {part.split('"')[0] for path in package.rglob("*.py") for part in path.read_text().split('SCHEMA = "')[1:]}
    assert named == set(SCHEMAS)
    assert all(words for keys in SCHEMAS.values() for words in keys.values())


def test_infinities_are_words_everywhere() -> None:
    told = json.loads(tell("solve coin --samples 10 --json")[1])
    assert [row["beta"] for row in told["frontier"]][-1] == "inf"
    assert in_words({"a": [float("inf"), -float("inf"), float("nan"), None, 1.5]}) == {"a": ["inf", "-inf", "nan", None, 1.5]}


# ---------------------------------------------------------------------------------------------------- files


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_file_is_written_whole_or_not_at_all(old: bytes, new: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        place, link = Path(folder) / "x", Path(folder) / "link"
        files.write_bytes(place, old)
        place.chmod(0o640)
        link.symlink_to(place)
        patch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(InputError, match="No space left"):
            files.write_bytes(link, new)
        assert place.read_bytes() == old
        assert sorted(path.name for path in Path(folder).iterdir()) == ["link", "x"]
        patch.undo()
        files.write_bytes(link, new)
        assert (place.read_bytes(), link.is_symlink(), place.stat().st_mode & 0o777) == (new, True, 0o640)


def test_every_written_file_goes_through_one_door() -> None:
    """No other place of the package opens a file that a person named for writing."""
    package = Path(files.__file__).parent
    doors = {"files.py", "grading", "bench"}  # answers' scratch folders, and /proc
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] not in doors:
            text = path.read_text()
            assert not re.search(r"\.write_(text|bytes)\(|savefig\(path|open\([^)]*[\"'][wax]b?[\"']", text), path


@pytest.mark.parametrize("command", ["solve", "fit"])
def test_an_example_can_be_used_and_replaces_nothing(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tell(f"{command} --example")[::2] == (0, "")
    (written,) = tmp_path.iterdir()
    assert "#" in written.read_text() or "comment" in written.read_text()
    assert tell(f"{command} {written.name}{' --samples 50' if command == 'solve' else ''}")[::2] == (0, "")
    assert "must not replace" in tell(f"{command} --example")[2]
    assert options.example(tmp_path / "other", "x", command) == 0


def test_sigterm_saves_a_run_and_ctrl_c_while_it_opens_is_quiet(tmp_path: Path) -> None:
    place = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parent.parent)}
    words = [sys.executable, "-m", "tabular_rlhf", "run", "coin", "--algorithm", "rloo", "--steps", "100000000", "--save", "x.npz"]
    with subprocess.Popen(words, cwd=tmp_path, env=place, stderr=subprocess.PIPE, text=True) as job:
        assert _until(lambda: (tmp_path / "x.npz").exists())
        job.send_signal(signal.SIGTERM)
        told = job.communicate(timeout=60)[1]
    assert job.returncode == 143
    assert "Traceback" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    stop = "import sys; sys.argv = ['tabular-rlhf']; sys.modules['scipy.special'] = None\nimport builtins; old = builtins.__import__\n"
    stop += "def late(name, *a, **k):\n    if name == 'numpy': raise KeyboardInterrupt\n    return old(name, *a, **k)\n"
    ran = subprocess.run(
        [sys.executable, "-c", stop + "builtins.__import__ = late\nimport tabular_rlhf"], capture_output=True, text=True, env=place
    )
    assert (ran.returncode, ran.stderr) == (130, "interrupted\n")


def _until(holds: Any) -> bool:
    for _ in range(1200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def _declared() -> Iterator[str]:
    for name in COMMANDS:
        yield build_parser(name)[1].format_help()


def test_whoever_runs_code_of_a_file_says_so() -> None:
    helps = dict(zip(COMMANDS, _declared(), strict=True))
    for name in ("solve", "check", "grade"):
        assert "files that you trust" in " ".join(helps[name].split()), name
