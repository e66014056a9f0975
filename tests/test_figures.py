"""Figures: their data against formulas and plain Python, their artists against their data, their files against time.

Pixels are not compared: text is set differently by every version of matplotlib.
"""

from __future__ import annotations

import base64
import json
import math
import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.cli import COMMANDS, build_parser, main
from tabular_rlhf.commands import figures
from tabular_rlhf.errors import InputError
from tabular_rlhf.figures import all_figures, frontier, page, solved, tilt, tree
from tabular_rlhf.figures.record import Figure, readable
from tabular_rlhf.gibbs import frontier as exact_frontier
from tabular_rlhf.world import coin, fork, random_world
from tabular_rlhf.worldfile import EXAMPLE, parse_world

COMMITTED = Path(__file__).parent.parent / "figures"
P_REF = {"the cat sleeps .": 0.2, "the cat purrs .": 0.2, "the dog sleeps .": 0.1, "the dog barks .": 0.1}
P_REF |= {"a dog sleeps .": 0.1, "a dog barks .": 0.1, "cats purr .": 0.2}
REWARD = {"the cat sleeps .": -0.9, "the cat purrs .": 0.4, "the dog sleeps .": -0.9, "the dog barks .": -0.4}
REWARD |= {"a dog sleeps .": -0.9, "a dog barks .": 0.6, "cats purr .": -0.3}
"""The example world by hand (tests/test_worldfile.py counts it out)."""


def soft(beta: float, start: str = "") -> float:
    """V of a prefix, from its definition over responses: beta log of the mean of exp(r/beta) given the prefix."""
    through = {t: p for t, p in P_REF.items() if t.startswith(start)}
    mass = math.fsum(through.values())
    return beta * math.log(math.fsum(p / mass * math.exp(REWARD[t] / beta) for t, p in through.items()))


class Computed(dict[str, Any]):
    """The data of figures, each computed once, when it is asked for."""

    def __missing__(self, name: str) -> Any:
        self[name] = all_figures()[name].compute()
        return self[name]


@pytest.fixture(scope="module")
def data() -> Computed:
    return Computed()


# ---------------------------------------------------------------------------------------------------- the data


def test_tilt_is_gibbs(data: dict[str, Any]) -> None:
    shown = data["tilt"]
    assert set(shown["response"]) == set(P_REF)
    assert shown["reward"] == sorted(shown["reward"], reverse=True)
    for beta, row in zip(shown["beta"], shown["p"], strict=True):
        weights = {t: p * (1.0 if beta is None else math.exp((REWARD[t] - soft(beta)) / beta)) for t, p in P_REF.items()}
        assert row == pytest.approx([weights[t] for t in shown["response"]], abs=1e-12)
    purrs = [row[shown["response"].index("the cat purrs .")] for row in shown["p"]]
    assert purrs[0] < purrs[2] > purrs[-1], "the caption: the likely good response gains first, then loses"


def test_tilt_lumps_what_it_does_not_list() -> None:
    world = random_world(rng=np.random.default_rng(1), V=3, H=4, P=2)
    shown = tilt.compute(world, (None, 1.0), top=5)
    assert len(shown["response"]) == 5
    assert shown["rest_count"] == 2 * world.mdp.N - 5
    assert [sum(row) + rest for row, rest in zip(shown["p"], shown["rest"], strict=True)] == pytest.approx([1.0, 1.0])
    assert max(map(max, shown["p"])) <= shown["scale"] <= 1.0


def test_frontier_obeys_its_equations(data: dict[str, Any]) -> None:
    """Concave, rising, slope beta (central differences of the curve), V = E[r] - beta KL where the tangent meets KL = 0."""
    shown = data["frontier"]
    kl, reward, beta = (np.array(shown[key][1:-1], dtype=float) for key in ("kl", "reward", "beta"))
    slope = np.diff(reward) / np.diff(kl)
    assert np.all(np.diff(kl) < 0)
    assert np.all(np.diff(slope) > 0)
    assert np.all((slope > beta[:-1]) & (slope < beta[1:])), "between two points the mean slope lies between their betas"
    own, tangent = shown["own"], shown["tangent"]
    assert tangent["kl"][0] == 0.0
    assert tangent["reward"][0] == pytest.approx(own["reward"] - own["beta"] * own["kl"])
    assert (tangent["reward"][1] - tangent["reward"][0]) / tangent["kl"][1] == pytest.approx(0.5)
    assert shown["kl"][-1] == 0.0
    assert shown["reward"][0] == 5.0
    assert shown["root_kl"] == pytest.approx(np.sqrt(shown["kl"]).tolist())


@pytest.mark.parametrize("seed", range(4))
def test_merging_reward_levels_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = random_world(rng=rng, V=3, H=4, P=3, forbidden=0.3)
    world = world.with_reward(np.round(world.r))
    small, betas = frontier.by_reward(world), [0.05, 0.5, 5.0]
    assert small.mdp.N < world.mdp.N
    for key in ("reward", "kl", "value"):
        np.testing.assert_allclose(getattr(exact_frontier(small, betas), key), getattr(exact_frontier(world, betas), key), atol=1e-12)


def test_tree_is_soft_bellman(data: dict[str, Any]) -> None:
    shown = data["soft-value-tree"]
    nodes = shown["nodes"]
    assert {n["text"] for n in nodes if n["leaf"]} == set(P_REF)
    assert [n["text"] for n in nodes if not n["leaf"]] == ["", "the", "the cat", "the dog", "a dog"]
    for node in nodes:
        if node["leaf"]:
            assert node["value"] == pytest.approx(REWARD[node["text"]])
            assert node["p"] == pytest.approx(P_REF[node["text"]] * math.exp((REWARD[node["text"]] - soft(0.5)) / 0.5), abs=1e-12)
        else:
            assert node["value"] == pytest.approx(soft(0.5, node["text"]), abs=1e-12)
    for edge in shown["edges"]:
        start, end = nodes[edge["from"]], nodes[edge["to"]]
        assert f"{start['text']} {edge['tokens']}".strip() == end["text"]
        assert edge["pi"] == pytest.approx(edge["pi_ref"] * math.exp((end["value"] - start["value"]) / 0.5), abs=1e-12)
        assert end["p"] == edge["mass"] == pytest.approx(start["p"] * edge["pi"], abs=1e-12)


def test_tree_layout_keeps_leaves_apart(data: dict[str, Any]) -> None:
    nodes = data["soft-value-tree"]["nodes"]
    assert sorted(n["height"] for n in nodes if n["leaf"]) == list(range(len(P_REF)))
    places = {(n["depth"], n["height"]) for n in nodes}
    assert len(places) == len(nodes)
    assert len(tree.compute(fork())["nodes"]) == 7


# ---------------------------------------------------------------------------------------------------- the artists


def drawn(figure: Figure, data: dict[str, Any]) -> Any:
    import matplotlib.style

    with matplotlib.style.context(page.STYLE):
        return page.on_paper(figure.draw, data, figure.widths, figure.size, figure.said.title)


def test_artists_show_the_data(data: dict[str, Any]) -> None:
    figures = all_figures()
    bars = drawn(figures["tilt"], data["tilt"]).axes
    assert [[b.get_width() for b in ax.patches] for ax in bars] == [page.rounded(row) for row in data["tilt"]["p"]]
    left, right = drawn(figures["frontier"], data["frontier"]).axes
    for ax, x in ((left, "kl"), (right, "root_kl")):
        np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.transpose([page.rounded(data["frontier"][k]) for k in (x, "reward")]))
    (ax,) = drawn(figures["soft-value-tree"], data["soft-value-tree"]).axes
    widths = [line.get_linewidth() for line in ax.lines[::2]]
    masses = [edge["mass"] for edge in data["soft-value-tree"]["edges"]]
    assert [width / widths[0] for width in widths[:-1]] == pytest.approx([mass / masses[0] for mass in masses], rel=1e-5)


@pytest.mark.parametrize("name", list(all_figures()))
def test_nothing_is_cut_off_or_tiny(name: str, data: dict[str, Any]) -> None:
    """Every text lies on the page, none is set below 7 points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    sheet = drawn(all_figures()[name], data[name])
    canvas = FigureCanvasAgg(sheet)
    canvas.draw()
    box = sheet.get_tightbbox(canvas.get_renderer())  # of all that is seen, in inches
    wide, high = sheet.get_size_inches()
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= wide + 0.01
    assert box.y1 <= high + 0.01
    assert min(text.get_fontsize() for text in sheet.findobj(Text)) >= 7


def test_drawing_leaves_no_trace() -> None:
    """The style and the backend are the caller's again afterwards, and pyplot was never asked for."""
    import subprocess
    import sys

    code = (
        "import sys, matplotlib\n"
        "def look(): return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}  # asking for it sets it\n"
        "before = look()\n"
        "from tabular_rlhf.figures import all_figures, page\n"
        "from pathlib import Path; import tempfile\n"
        "with tempfile.TemporaryDirectory() as d: page.write(all_figures()['tilt'], Path(d))\n"
        "assert look() == before and 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stderr == ""


# ---------------------------------------------------------------------------------------------------- the files


def test_bytes_are_reproducible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "two"):
        assert main(["figures", "tilt", "soft-value-tree", "--out", str(tmp_path / folder)]) == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [f"{figure}.{kind}" for figure in ("soft-value-tree", "tilt") for kind in ("json", "png", "svg")]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert b"Software" not in (tmp_path / "one" / "tilt.png").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "one" / "tilt.svg").read_bytes()
    assert "tilt.svg" in capsys.readouterr().out


def test_check_tells_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["figures", "tilt", "--out", str(tmp_path)]
    assert main([*words, "--check"]) == 1
    assert "tilt.json is missing" in capsys.readouterr().out
    assert main(words) == 0
    assert main([*words, "--check"]) == 0
    file = tmp_path / "tilt.json"
    sound = file.read_text()
    file.write_text(sound.replace("0.2122691", "0.2122692"))  # the last digit may differ between machines
    assert main([*words, "--check"]) == 0
    file.write_text(sound.replace("0.2122691", "0.2122791"))
    capsys.readouterr()
    assert main([*words, "--check"]) == 1
    assert "DIFFERS\n                        tilt.data.p[1][0]: 0.2122791 in the file, 0.2122691 now" in capsys.readouterr().out
    for broken in ("{", sound.replace("a dog barks", "a dog bites"), sound.replace('"rest_count": 0', '"rest_count": 1')):
        file.write_text(broken)
        assert main([*words, "--check"]) == 1
    file.write_text(sound)
    (tmp_path / "tilt.png").unlink()
    assert main([*words, "--check"]) == 1


@pytest.mark.parametrize("name", list(all_figures()))
def test_committed_figures_hold(name: str, data: dict[str, Any]) -> None:
    committed = json.loads((COMMITTED / f"{name}.json").read_text(encoding="utf-8"))
    assert list(page.differences(committed, json.loads(page.as_json(all_figures()[name], data[name])), name)) == []
    assert (COMMITTED / f"{name}.svg").stat().st_size < 200_000
    assert (COMMITTED / f"{name}.png").is_file()


def test_out_is_figures_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figures", "tilt"]) == 0
    assert (tmp_path / "tilt.svg").is_file()
    (tmp_path / "figures").mkdir()
    assert main(["figures", "tilt"]) == 0
    assert (tmp_path / "figures" / "tilt.svg").is_file()


def test_a_repeated_name_is_drawn_once() -> None:
    assert [figure.name for figure in figures.chosen(["frontier", "tilt", "frontier"])] == ["frontier", "tilt"]


def test_list_names_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--list"]) == 0
    said = capsys.readouterr().out
    for figure in all_figures().values():
        assert figure.name in said
        assert all(row in said for row in figure.rows)


def test_an_unknown_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "tlit"]) == 2
    assert "a known one: got 'tlit'; did you mean tilt?" in capsys.readouterr().err
    assert main(["figures", "qqqq"]) == 2
    assert "a known one: got 'qqqq'; use one of tilt, " in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- the records


def test_the_registry_refuses_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "FIGURES", tilt.FIGURES)
    with pytest.raises(InputError, match="name of its own: got 'tilt'"):
        all_figures()


@pytest.mark.parametrize("change", [{"name": "Tilt it"}, {"rows": ("no such!",)}, {"rows": ()}, {"caption": ""}, {"title": ""}])
def test_incomplete_records_are_refused(change: dict[str, Any]) -> None:
    sound: dict[str, Any] = {
        "name": "x",
        "title": "t",
        "caption": "c",
        "rows": ("gibbs-optimum",),
        "compute": dict,
        "draw": lambda axes, data: [],
    }
    assert Figure(**sound).name == "x"
    with pytest.raises(InputError):
        Figure(**{**sound, **change})


def test_dollars_are_dollars() -> None:
    from matplotlib.cbook import is_math_text

    assert is_math_text("$5 or $6")
    assert not is_math_text(readable("$5 or $6"))
    assert readable("x" * 50) == "x" * 39 + "…"


@pytest.mark.parametrize("value", [np.float64(1.0), np.ones(2), float("nan"), float("inf"), object()])
def test_data_must_be_plain(value: Any) -> None:
    with pytest.raises(InputError, match="plain finite values"):
        page.rounded({"a": [value]})


def test_draw_must_draw_something() -> None:
    with pytest.raises(InputError, match="must put its data on the axes"):
        page.on_paper(lambda axes, data: [], {}, (1.0,), (2.0, 2.0))


# ---------------------------------------------------------------------------------------------------- a world of one's own


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_solve_draws(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"mine.{kind}"
    assert main(["solve", "rational", "--samples", "100", "--figure", str(path)]) == 0
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert capsys.readouterr().err == ""


COMPARED = "".join(
    f'{{"prompt": "Sky?", "chosen": "{won}", "rejected": "{lost}"}}\n' for won, lost in ("ab", "bc", "ca", "ab", "ac", "cb", "ba")
)
AUDITED = (
    "import numpy as np\n\n\ndef f(logps, advantages, mask):\n    return -np.mean(np.sum(logps * advantages[:, None] * mask, axis=1))\n"
)
PICTURED = {
    "solve": ["solve", "rational", "--samples", "100"],
    "fit": ["fit", "compared.jsonl"],
    "audit": ["audit", "audited.py:f"],
    "run": ["run", "coin", "--steps", "2", "--batch", "8"],
}
"""Every command with `--figure`, with words that make it draw."""


def test_the_commands_that_draw_are_known() -> None:
    drawing = {name for name in COMMANDS if "--figure" in build_parser(name)[1]._option_string_actions}
    assert drawing == set(PICTURED)


@pytest.mark.parametrize("name", PICTURED)
def test_every_picture_of_a_command_has_the_style_a_title_and_words(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("compared.jsonl").write_text(COMPARED)
    Path("audited.py").write_text(AUDITED)
    assert main([*PICTURED[name], "--figure", "one.svg"]) == 0
    svg = Path("one.svg").read_text(encoding="utf-8")
    said = re.search(r'<svg role="img" [^>]*><title id="title">(.+)</title><desc id="desc">(.+)</desc>', svg)
    assert said is not None
    assert all(len(words.split()) >= 4 for words in said.groups())
    assert "<dc:date>" not in svg


def test_awkward_worlds_are_drawn(tmp_path: Path) -> None:
    """A constant reward, dollars (matplotlib's mathematics) in the text, long responses, extreme beta."""
    text = EXAMPLE.replace("the", "$the").replace("beta = 0.5", "beta = 1e-300").replace("sleeps", "s" * 60)
    for i, world in enumerate([coin().with_reward(np.ones((1, 2))), parse_world(text), coin(beta=1e300)]):
        solved.draw_world(world, tmp_path / f"{i}.png")
        assert (tmp_path / f"{i}.png").stat().st_size > 10_000


def test_a_figure_is_shown_by_one_call() -> None:
    from tabular_rlhf.figures import all_figures, show

    shown = show("tilt")
    assert f"<figcaption>{escape(shown.said.caption)}</figcaption>" in shown._repr_html_()
    assert base64.b64encode(shown.png).decode() in shown._repr_html_()
    assert shown.png.startswith(b"\x89PNG")
    assert shown.svg.lstrip().startswith("<?xml")
    assert shown.data == all_figures()["tilt"].compute()
    with pytest.raises(InputError, match="the figure must be a known one"):
        show("tlit")
