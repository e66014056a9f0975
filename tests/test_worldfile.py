"""World files: what they mean, by hand, and every way to get one wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.worldfile import EXAMPLE, load_world, parse_world
from tabular_rlhf.worldfile.responses import response_texts


def test_the_documented_example_is_what_it_says() -> None:
    """By hand: 3/5 "the", 1/5 "a", 1/5 "cats"; after "the" 2/3 "cat"; every verb 1/2."""
    world = parse_world(EXAMPLE)
    expected = {
        "the cat sleeps .": (0.2, -0.9),
        "the cat purrs .": (0.2, 0.4),
        "the dog sleeps .": (0.1, -0.9),
        "the dog barks .": (0.1, -0.4),
        "a dog sleeps .": (0.1, -0.9),
        "a dog barks .": (0.1, 0.6),
        "cats purr .": (0.2, -0.3),
    }
    for text, (p, r) in expected.items():
        tau = world.mdp.find(text)
        assert float(np.exp(world.log_p_ref[0, tau])) == pytest.approx(p, abs=1e-12)
        assert float(world.r[0, tau]) == pytest.approx(r, abs=1e-12)
    assert int(np.sum(np.isfinite(world.log_p_ref))) == len(expected)


def test_a_file_next_to_the_world_and_cleaning(tmp_path: Path) -> None:
    """A raw text: case and punctuation go, sentences end at ! and ?; `size` keeps the most frequent words."""
    (tmp_path / "raw.txt").write_text("The cat sat! The cat, purring, ran?\nThe dog sat", encoding="utf-8")
    text = 'vocabulary = "auto"\nsize = 3\nhorizon = 3\neos = "."\nbeta = 1.0\n[reference]\nfile = "raw.txt"\nclean = true\nsmoothing = 0.0'
    world = parse_world(text, folder=tmp_path)
    assert world.mdp.vocabulary == ("the", "cat", "sat", ".")
    pi = np.exp(world.log_ref[0])
    assert pi[world.mdp.find_state("")].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert pi[world.mdp.find_state("cat")].tolist() == [0.0, 0.0, 1.0, 0.0]  # "purring" interrupts


def test_characters(tmp_path: Path) -> None:
    text = 'vocabulary = "auto"\nsep = "characters"\nhorizon = 3\nbeta = 1.0\n[reference]\ntext = "abab"\nsmoothing = 0.0\n[reward]\n'
    world = parse_world(text + 'phrases = { "aba" = 2.0 }')
    assert world.mdp.vocabulary == ("a", "b")
    assert [float(np.exp(world.log_p_ref[0, world.mdp.find(t)])) for t in ("aba", "aab")] == [1.0, 0.0]
    assert float(world.r[0, world.mdp.find("aba")]) == 2.0


@pytest.mark.parametrize("mdp", [TokenMDP(("a", "b", "."), 4, eos="."), TokenMDP(("x", "y"), 3, sep=""), TokenMDP(3, 1)])
def test_response_texts_are_in_the_tree_s_order(mdp: TokenMDP) -> None:
    assert response_texts(mdp) == [mdp.text(tau) for tau in range(mdp.N)]


def test_modules_of_one_name_in_two_folders(tmp_path: Path) -> None:
    """Each world file gets the module next to it, not the one that happened to be imported first."""
    for i in (1, 2):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "mine.py").write_text(f"def f(text, prompt):\n    return {i}.0\n")
        world = parse_world(MINIMAL + '[reward]\nfunction = "mine:f"', folder=tmp_path / str(i))
        assert world.r.tolist() == [[float(i)] * 4]


def test_a_module_named_like_another(tmp_path: Path) -> None:
    """The file next to the world file goes before a module of that name that Python has already imported, and does not replace it."""
    import calendar

    (tmp_path / "calendar.py").write_text("from helper import seven\ndef f(text, prompt):\n    return seven\n")
    (tmp_path / "helper.py").write_text("seven = 7.0\n")
    assert parse_world(MINIMAL + '[reward]\nfunction = "calendar:f"', folder=tmp_path).r.tolist() == [[7.0] * 4]
    assert sys.modules["calendar"] is calendar
    assert str(tmp_path) not in sys.path
    assert "helper" not in sys.modules, "another folder's helper is another module"


# ---------------------------------------------------------------------------------------------------- refusals

MINIMAL = 'vocabulary = ["a", "b"]\nhorizon = 2\nbeta = 1.0\n'
FAULTS: dict[str, tuple[str, str]] = {
    "malformed": (MINIMAL + "\n[reward\nlength = 1", r"must be TOML: bad.toml, line 5, column 8: got "),
    "unknown key": (
        MINIMAL + "[reward]\nlenght = 1.0",
        r"known keys: bad.toml, line 5, \[reward\] lenght: got 'lenght'; did you mean length",
    ),
    "unknown top key": (MINIMAL + "gamma = 1.0", r"bad.toml, line 4, gamma: got 'gamma'; use one of"),
    "wrong type": (MINIMAL.replace("2", '"2"'), r"horizon must be a whole number of at least 1.*: bad.toml, line 2, horizon: got '2'"),
    "true is no number": (MINIMAL.replace("1.0", "true"), r"beta must be a finite number.*got True"),
    "infinite weight": (MINIMAL + "[reward]\nlength = inf", r"length must be a finite number.*line 5.*got inf"),
    "huge integer": (MINIMAL.replace("1.0", "1" + "0" * 400), r"beta must be a finite number"),
    "missing key": (MINIMAL.replace("beta", "# beta"), r"must set beta: bad.toml: got no such key; write beta = "),
    "beta": (MINIMAL.replace("1.0", "-1.0"), r"beta must be positive.*bad.toml, line 3, beta: got -1.0"),
    "horizon": (
        MINIMAL.replace("horizon = 2", "horizon = 0"),
        r"horizon must be .* at least 1, such as 4: bad.toml, line 2, horizon: got 0",
    ),
    "does not fit, and a function asks for each response": (
        MINIMAL.replace("horizon = 2", "horizon = 40") + '[reward]\nfunction = "rules:text"',
        r"fit in .*GiB: bad.toml, line 2, .*got 1,099,511,627,776 traj.*bytes",
    ),
    "no prompts": (
        MINIMAL + "prompts = []",
        r"prompts must be a list of distinct strings, at least one: bad.toml, line 4, prompts: got \[\]",
    ),
    "prompts twice": (MINIMAL + 'prompts = ["x", "x"]', r"distinct.*: bad.toml, line 4, prompts: got \['x', 'x'\]"),
    "twice, with mu": (
        MINIMAL.replace('"b"', '"a"') + 'prompts = ["x", "y"]\nmu = [0.5, 0.5]',
        r"distinct.*: bad.toml, line 1, vocabulary: got",
    ),
    "too long, with mu": (
        MINIMAL.replace("horizon = 2", "horizon = 10001000") + "mu = [1.0]",
        r"at most 10000: bad.toml, line 2, horizon: got",
    ),
    "reward overflow": (
        MINIMAL + "[reward]\nconstant = 1e308\nlength = 1e308",
        r"rewards must be finite: bad.toml, line 6, \[reward\] length, response 'a a': got inf; use smaller",
    ),
    "overflow by phrases": (
        MINIMAL + '[reward]\nphrases = { a = 1e308, "a a" = 1e308 }',
        r"finite: bad.toml, line 5, \[reward\] phrases, response 'a a': got inf",
    ),
    "overflow by prompt": (
        MINIMAL + 'prompts = ["x"]\n[reward]\nconstant = 1e308\n[reward.prompt.x]\nconstant = 1e308',
        r"finite: bad.toml, line 5, \[reward.prompt\], response 'x a a': got inf",
    ),
    "after EOS": (
        MINIMAL + 'eos = "."\n[reward]\nphrases = { ". a" = 1.0 }',
        r"nothing after EOS: bad.toml, line 6, \[reward\] phrases: got '. a'",
    ),
    "unknown word": (
        MINIMAL + '[reward]\nphrases = { "a c" = 1.0 }',
        r"in the vocabulary: bad.toml, line 5, \[reward\] phrases, token 1: got 'c'",
    ),
    "unknown token": (MINIMAL + "[reward]\ntokens = { c = 1.0 }", r"vocabulary: .*\[reward\] tokens.*got 'c'"),
    "unknown forbidden": (MINIMAL + '[reference]\nforbid = ["c"]', r"vocabulary: .*\[reference\] forbid.*got 'c'"),
    "all forbidden": (MINIMAL + '[reference]\nforbid = ["a", "b"]', r"must allow some token: bad.toml, line 5"),
    "long phrase": (MINIMAL + '[reward.phrases]\n"a a a" = 1.0', r"a phrase must fit in 2 tokens.*got 3 \('a a a'\)"),
    "empty phrase": (MINIMAL + '[reward.phrases]\n"" = 1.0', r"a phrase must have at least one token"),
    "empty corpus": (MINIMAL + '[reference]\ntext = ""', r"corpus must contain words.*bad.toml, line 4, \[reference\]"),
    "foreign corpus": (MINIMAL + '[reference]\ntext = "x y z"', r"corpus must contain words"),
    "no corpus": (MINIMAL.replace('["a", "b"]', '"auto"'), r"must have a text to take words from.*got no text"),
    "empty auto": (MINIMAL.replace('["a", "b"]', '"auto"') + '[reference]\ntext = " "', r"got an empty text"),
    "size 0": (MINIMAL.replace('["a", "b"]', '"auto"') + 'size = 0\n[reference]\ntext = "a"', r"bad.toml, line 4, size: got size 0"),
    "missing file": (MINIMAL + '[reference]\nfile = "none.txt"', r"readable text file: bad.toml, line 5, .*none.txt' \(No such file"),
    "two texts": (MINIMAL + '[reference]\nfile = "a"\ntext = "a"', r"must have one text: .*got both text and file; drop one"),
    "order without text": (MINIMAL + "[reference]\norder = 1", r"order must come with a text"),
    "negative order": (MINIMAL + '[reference]\norder = -1\ntext = "a"', r"order must be .*at least 0.*line 4, .reference.: got -1"),
    "smoothing": (MINIMAL + '[reference]\nsmoothing = -1\ntext = "a"', r"smoothing must be at least 0.*got -1"),
    "mu": (MINIMAL + 'prompts = ["x", "y"]\nmu = [0.5, 0.6]', r"distribution over prompts: bad.toml, line 5, mu"),
    "unknown prompt": (MINIMAL + 'prompts = ["x"]\n[reward.prompt.y]\nlength = 1', r"one of `prompts`: bad.toml, line 5.*got 'y'"),
    "key under a prompt": (MINIMAL + 'prompts = ["x"]\n[reward.prompt.x]\nsum = 1', r"line 6, \[reward.prompt\] sum: got 'sum'"),
    "twice": (MINIMAL.replace('"b"', '"a"'), r"vocabulary must be distinct"),
    "no colon": (MINIMAL + '[reward]\nfunction = "rules"', r'named as "module:function": bad.toml, line 5, .*got .rules'),
    "a dash": (
        MINIMAL + '[reward]\nfunction = "my-rules:f"',
        r"got 'my-rules:f'; rename it: Python's names have no dash, as 'my_rules:f'",
    ),
    "it exits": (MINIMAL + '[reward]\nfunction = "rules:leaves"', r"finite number: .*rules:leaves\('a a', ''\): got SystemExit: 3; try"),
    "its module exits": (MINIMAL + '[reward]\nfunction = "gone:f"', r"module must import.*got SystemExit: 3"),
    "no module": (MINIMAL + '[reward]\nfunction = "no_such_module:f"', r"module must import.*ModuleNotFoundError"),
    "no function": (
        MINIMAL + '[reward]\nfunction = "rules:nothing"',
        r"must define the function: .*got no such name; define nothing\(text",
    ),
    "not callable": (MINIMAL + '[reward]\nfunction = "rules:number"', r"must define the function: .*got int"),
    "it raises": (
        MINIMAL + '[reward]\nfunction = "rules:fails"',
        r"finite number: .*rules:fails\('a b', ''\): got ZeroDivisionError: .*division",
    ),
    "it returns text": (MINIMAL + '[reward]\nfunction = "rules:text"', r"finite number: .*got TypeError"),
    "it returns nan": (MINIMAL + '[reward]\nfunction = "rules:nan"', r"finite number: .*got nan"),
    "broken module": (MINIMAL + '[reward]\nfunction = "broken:f"', r"module must import.*got SyntaxError"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_world_files_are_refused(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, nothing on stdout, one line with what must hold, the place, what was got, and the remedy."""
    text, message = FAULTS[fault]
    (tmp_path / "rules.py").write_text(
        "number = 1\ndef fails(text, prompt):\n    return 1.0 / (text != 'a b')\n"
        "def leaves(text, prompt):\n    raise SystemExit(3)\n"
        "def text(text, prompt):\n    return text\ndef nan(text, prompt):\n    return float('nan')\n"
    )
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "gone.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "bad.toml").write_text(text)
    status = main(["solve", str(tmp_path / "bad.toml")])
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert re.search(message, said.err), said.err
    assert said.err.count("\n") == 1
    assert re.search(r": got .+; \S+", said.err)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"not UTF-8\); save it as UTF-8"):
        parse_world(MINIMAL + '[reference]\nfile = "bytes.txt"', folder=tmp_path)


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    """Some editors put one in front of UTF-8, in the world file and in its corpus."""
    (tmp_path / "corpus.txt").write_text("a b", encoding="utf-8-sig")
    (tmp_path / "marked.toml").write_text(MINIMAL + '[reference]\nfile = "corpus.txt"\nsmoothing = 0.0', encoding="utf-8-sig")
    world = load_world(tmp_path / "marked.toml")
    assert float(np.exp(world.log_p_ref[0, world.mdp.find("a b")])) == 1.0
