"""Controls for notebooks: their data against the library and against formulas, their pictures against their data, their widgets.

What a browser adds (that a slider really moves) is tested in one; here widgets are moved from Python.
"""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import sys
from html import escape
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf import explore
from tabular_rlhf.commands import kl as command
from tabular_rlhf.derivations import derive
from tabular_rlhf.derivations.text import formulas
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import analyse, flags
from tabular_rlhf.explore import bars, comparing, flag, stepper, svg, tilting, triangle
from tabular_rlhf.explore.panel import Control, View, as_html, on_screen, panel
from tabular_rlhf.figures import glyphs
from tabular_rlhf.gibbs import regret, solve
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.tex import plain
from tabular_rlhf.world import World, coin, generated_worlds, long_tail, rational, worlds
from tests.laws import assert_close, units

NAMESPACE = "{http://www.w3.org/2000/svg}"


def flat(p_ref: list[float], r: list[float], beta: float = 1.0) -> World:
    """A world of one-token responses: any law, any rewards."""
    log_ref = np.log(p_ref, out=np.full(len(r), -np.inf), where=np.array(p_ref) > 0)
    return World(TokenMDP(len(r), 1), log_ref[None, None], np.array([r]), beta, name="flat")


def kl(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def mean(p: list[float], f: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(p, f, strict=True))


def tilt_by_hand(p: list[float], r: list[float], s: float) -> list[float]:
    weights = [a * math.exp(s * (b - max(r) if s > 0 else s and b - min(r))) for a, b in zip(p, r, strict=True)]
    return [w / math.fsum(weights) for w in weights]


laws = st.lists(st.integers(1, 9), min_size=3, max_size=3).map(lambda w: [x / sum(w) for x in w])
rewards = st.lists(st.integers(-4, 4).map(lambda k: k / 2), min_size=3, max_size=3)
betas = st.sampled_from([0.1, 0.5, 1.0, 3.0, 40.0])

# ---------------------------------------------------------------------------------------------------- data


@given(worlds(), betas)
def test_tilt_is_the_gibbs_optimum(world: World, beta: float) -> None:
    here = world.at(beta)
    best = solve(here)
    for x in range(world.mdp.P):
        shown = tilting.data(world, beta=beta, prompt=x)
        kept = [world.mdp.find(t) if t != "(nothing)" else 0 for t in shown["response"]] if world.mdp.P == 1 else None
        tol = 20 * units(here)
        assert shown["V"] == pytest.approx(float(best.V[x]), abs=tol)
        assert shown["J"] == pytest.approx(shown["V"], abs=tol)
        assert shown["regret"] == pytest.approx(shown["regret_kl"], abs=tol)
        assert shown["reward"] == pytest.approx(float(best.expected_reward[x]), abs=tol)
        assert shown["kl"] == pytest.approx(float(best.kl[x]), abs=tol / beta)
        assert sum(shown["p"]) + shown["rest"]["p"] == pytest.approx(1.0, abs=1e-12)
        assert sum(shown["p_ref"]) + shown["rest"]["p_ref"] == pytest.approx(1.0, abs=1e-12)
        assert len(shown["p"]) == min(bars.SHOWN, world.mdp.N)
        if kept is not None:
            assert_close(shown["p"], best.p[0, kept], 1e-12 * (1 + tol / beta), "p*")
            assert_close(shown["r"], world.r[0, kept], 0.0, "r")


@given(laws, rewards, betas, st.integers(0, 2), st.sampled_from([-1.0, 0.25, 3.0]))
def test_tilt_by_hand_after_a_reward_has_moved(p_ref: list[float], r: list[float], beta: float, i: int, moved: float) -> None:
    shown = tilting.data(flat(p_ref, r), beta=beta, rewards={i: moved})
    r[i] = moved
    p = tilt_by_hand(p_ref, r, 1 / beta)
    V = max(r) + beta * math.log(math.fsum(a * math.exp((b - max(r)) / beta) for a, b in zip(p_ref, r, strict=True)))
    assert shown["r"] == r
    assert shown["p"] == pytest.approx(p, abs=1e-12)
    assert shown["V"] == pytest.approx(V, abs=1e-12 * (1 + beta))
    assert shown["reward"] == pytest.approx(mean(p, r), abs=1e-12)
    assert shown["regret_kl"] == pytest.approx(beta * kl(p_ref, p), abs=1e-11 * (1 + beta))


probability = st.integers(0, 20).map(lambda k: k / 20)


@given(laws, rewards, betas, probability, probability)
def test_simplex_by_hand(p_ref: list[float], r: list[float], beta: float, first: float, second: float) -> None:
    shown = triangle.data(flat(p_ref, r), beta=beta, first=first, second=second)
    p, p_star = [first, (1 - first) * second, (1 - first) * (1 - second)], tilt_by_hand(p_ref, r, 1 / beta)
    q, tol = shown["q"], 1e-9 * (1 + beta)
    assert shown["p"] == pytest.approx(p, abs=1e-15)
    assert shown["p_star"] == pytest.approx(p_star, abs=1e-12)
    assert shown["regret_kl"] == pytest.approx(beta * kl(p, p_star), abs=tol)
    assert shown["regret"] == pytest.approx(shown["regret_kl"], abs=tol)
    assert mean(q, r) == pytest.approx(mean(p, r), abs=1e-9), "q earns what p earns"
    if shown["s"] is not None:
        assert q == pytest.approx(tilt_by_hand(p_ref, r, shown["s"]), abs=1e-9), "q lies on the arc"
    assert shown["kl_ref"] == pytest.approx(shown["kl_q"] + shown["kl_q_ref"], abs=1e-8), "Pythagoras"
    assert shown["kl_ref"] == pytest.approx(kl(p, p_ref), abs=1e-12)
    assert shown["regret_off"] + shown["regret_along"] == pytest.approx(shown["regret"], abs=1e-8 * (1 + beta))
    for end in shown["level"]:
        assert mean(end, r) == pytest.approx(shown["c"], abs=1e-12)
        assert min(end) >= 0.0
        assert sum(end) == pytest.approx(1.0)
    assert len(shown["level"]) == (0 if len(set(r)) == 1 else 2)
    assert len(shown["arc"]) == triangle.ARC
    means = np.array([mean(point, r) for point in shown["arc"]])
    assert np.all(np.diff(means) >= -1e-12), "the arc climbs"
    assert [means[0], means[-1]] == pytest.approx([min(r), max(r)], abs=1e-6)


def test_simplex_of_a_larger_world_is_conditioned_and_says_so() -> None:
    world = flat([0.4, 0.0, 0.3, 0.1, 0.2], [0.0, 9.0, 1.0, -1.0, 0.5])
    shown = triangle.data(world)
    assert shown["response"] == ["0", "2", "4"]
    assert shown["p_ref"] == pytest.approx([4 / 9, 3 / 9, 2 / 9])
    whole = tilt_by_hand([0.4, 0.0, 0.3, 0.1, 0.2], [0.0, 0.0, 1.0, -1.0, 0.5], 1.0)
    assert shown["p_star"] == pytest.approx([whole[i] / (1 - whole[3]) for i in (0, 2, 4)])
    assert shown["left_out"] == {"count": 2, "p_ref": pytest.approx(0.1), "p_star": pytest.approx(whole[3])}
    assert "Left out: 0.1000 of p_ref" in triangle.words(shown)[-1]
    with pytest.raises(InputError, match="three possible responses: got 2; take a larger world"):
        triangle.data(coin())


@pytest.mark.parametrize(
    "label", [*(f.label for f in flags() if analyse(f, rational(), solve(rational()).log_pi).optimum), "k3 reward", "k2 ratio"]
)
def test_kl_says_what_the_command_says(label: str) -> None:
    (chosen,) = (f for f in flags() if f.label == label)
    world = rational(beta=1.0).at(0.5)
    row = command.row(analyse(chosen, world, solve(world).log_pi), world)
    shown = flag.data(rational(), estimator=chosen.estimator, placement=chosen.placement, beta=0.5)
    pairs = {"descends": "descends", "mean": "mean", "bias": "bias", "std": "std", "cosine": "cosine"}
    if "flow" not in shown["ends"]:
        pairs["ends"] = "optimum"
    assert {key: shown[key] for key in pairs} == {key: row[name] for key, name in pairs.items()}
    there = [row[name] for name in ("reward_there", "kl_there", "regret_there")]
    followed = 1e-6 if "flow" in shown["ends"] else 0.0  # a panel follows a flow in longer steps: see `rtol` of `flow`
    assert [shown[key] for key in ("reward", "kl", "regret")] == pytest.approx(there, rel=0.0, abs=followed)
    assert sum(shown["p"]) == pytest.approx(1.0)
    assert shown["p_star"] == pytest.approx(solve(world).p[0].tolist(), abs=1e-14)
    assert shown["regret"] == pytest.approx(0.5 * kl(shown["p"], shown["p_star"]), abs=1e-12)


def test_kl_does_not_follow_what_is_too_large() -> None:
    shown = flag.data(flat([1 / 40] * 40, [0.0] * 40), estimator="k2", placement="ratio")
    assert shown["p"] is None
    assert shown["others"] == 40 - bars.SHOWN
    assert "more than 32 responses" in shown["ends"]
    assert "Its cost is not known here." in flag.words(shown)[1]


def test_derivation_is_derive() -> None:
    shown = stepper.data("gibbs-optimum", world=coin(), beta=2.0, line=4)
    told = derive("gibbs-optimum", coin(beta=2.0)).json()
    assert shown["steps"] == told["steps"]
    assert (shown["line"], shown["lines"], shown["broken"], shown["title"]) == (4, len(told["steps"]), None, told["title"])
    assert [w.name for w in stepper.fitting("gibbs-optimum")][:2] == ["rational", "coin"]
    with pytest.raises(InputError, match="gibbs-optimum"):
        explore.derivation("gibbs-optimun")


def test_heaviest_are_taken_in_turn_and_only_once() -> None:
    world = flat([0.5, 0.1, 0.2, 0.2], [0.0, 3.0, 1.0, 1.0])
    assert bars.heaviest(world, 0, 4) == [0, 1, 2, 3]
    assert bars.heaviest(world, 0, 2) == [0, 1]
    assert len(bars.heaviest(long_tail(), 0, 12)) == 12


# ---------------------------------------------------------------------------------------------------- controls


def test_beta_slider_holds_round_values_and_the_worlds_own() -> None:
    for own in (1.0, 1 / 3, 1e-5, 3e4):
        control = bars.beta_control(coin(beta=own))
        values = [v for _, v in control.options]
        assert values == sorted(set(values))
        assert own in values
        assert values[0] <= 0.01 < 100.0 <= values[-1]
        assert len({label for label, _ in control.options}) == len(values)
    assert [v for _, v in bars.beta_control(coin()).options][:4] == [0.01, 0.012, 0.015, 0.02]


@given(st.floats(-1e6, 1e6), st.floats(0.0, 1e6))
def test_reward_slider_reaches_beyond_the_rewards(low: float, width: float) -> None:
    control = bars.reward_control("r", "r", low, low, low + width)
    values = [v for _, v in control.options]
    assert low in values
    assert values[0] < low
    assert values[-1] > low + width
    assert len(values) <= 400
    assert len({label for label, _ in control.options}) == len(values)


@pytest.mark.parametrize("prompt", [-1, 2, "z", True, None, 0.5])
def test_a_prompt_must_be_one_of_the_worlds(prompt: Any) -> None:
    with pytest.raises(InputError, match="prompt must be one of the world's"):
        bars.prompt_number(TokenMDP(2, 1, prompts=["x", "y"]), prompt)


def test_a_world_may_be_named() -> None:
    assert explore.tilt("fork").data["response"] == ["left left", "right left", "left right", "right right"]
    for bad in ("nowhere", 3):
        with pytest.raises(InputError, match="the world must be a named one"):
            explore.tilt(bad)  # type: ignore[arg-type]


def test_bad_rewards_are_refused() -> None:
    for bad in ({2: 1.0}, {0: math.inf}, {-1: 0.0}):
        with pytest.raises(InputError, match="a new reward"):
            tilting.data(coin(), rewards=bad)


# ---------------------------------------------------------------------------------------------------- pictures


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"])
def test_colors_stand_out_in_both_themes(ground: str) -> None:
    """WCAG 1.4.11: 3 to 1 for what is drawn; words are in the theme's own ink."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert all(contrast(color, ground) >= 3.0 for color in (glyphs.BLUE, glyphs.ORANGE, glyphs.GREEN))


def pictures() -> list[tuple[str, svg.Picture]]:
    rng = np.random.default_rng(5)
    made = [
        (f"tilt {w.name} {i}", tilting.draw(tilting.data(w))) for i, w in enumerate([coin(), rational(), *generated_worlds(6, rng=rng)])
    ]
    made += [
        (f"simplex {b}", triangle.draw(triangle.data(rational(), beta=b, first=f))) for b, f in ((0.01, 0.0), (1.0, 0.5), (100.0, 1.0))
    ]
    made += [("kl", flag.draw(flag.data(rational(), estimator="abs", placement="loss")))]
    odd = World(TokenMDP(("<&>", "\x01\"'"), 1), np.log([[[0.5, 0.5]]]), np.array([[1.0, -2.0]]), 1.0)
    return [*made, ("odd", tilting.draw(tilting.data(odd)))]


@pytest.mark.parametrize(("name", "picture"), pictures(), ids=lambda v: v if isinstance(v, str) else "")
def test_pictures_are_xml_within_their_sheet_with_words_in_the_ink_of_the_page(name: str, picture: svg.Picture) -> None:
    for paper in (False, True):
        sheet = ET.fromstring(picture.svg(paper=paper))
        assert sheet.get("role") == "img"
        assert picture.title in (sheet.get("aria-label") or "")
        texts = list(sheet.iter(f"{NAMESPACE}text"))
        assert texts
        assert {t.get("fill") for t in texts} == {"currentColor"}
        assert float(sheet.get("font-size") or 0) >= 13
        for rect in sheet.iter(f"{NAMESPACE}rect"):
            if rect.get("width") != "100%":
                left, top, width, height = (float(rect.get(k) or 0) for k in ("x", "y", "width", "height"))
                assert left >= 0
                assert left + width <= picture.width
                assert top + height <= picture.height
        for t in texts:
            assert 0 <= float(t.get("x") or 0) <= picture.width
            assert 0 < float(t.get("y") or 0) <= picture.height
    assert "nan" not in picture.svg()
    assert "float64" not in picture.svg()


def test_bars_are_as_long_as_their_numbers() -> None:
    shown = tilting.data(rational(), beta=0.5)
    sheet = ET.fromstring(tilting.draw(shown).svg())
    drawn: dict[str, list[float]] = {}
    for rect in sheet.iter(f"{NAMESPACE}rect"):
        title = rect.findtext(f"{NAMESPACE}title") or ""
        drawn.setdefault("p_ref" if ": p_ref = " in title else "r" if ": r (" in title else "p", []).append(float(rect.get("width") or 0))
    lines = [[float(c) for c in re.split("[ ,]", line.get("points") or "")] for line in sheet.iter(f"{NAMESPACE}polyline")]
    axes = [right - left for left, top, right, bottom in lines if top == bottom]
    assert [max(drawn[key]) / max(shown[key]) for key in ("p_ref", "p")] == pytest.approx(axes, rel=1e-3), "1 is where the axis ends"
    for key in ("p_ref", "r", "p"):
        unit = max(drawn[key]) / max(shown[key])
        assert drawn[key] == pytest.approx([unit * v for v in shown[key]], abs=0.01)


def test_points_of_the_triangle_are_the_laws() -> None:
    corners = np.array([triangle.at(p) for p in np.eye(3)])
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1) == pytest.approx([triangle.SIDE] * 3), "equal sides"
    assert corners[2, 1] < corners[0, 1] == corners[1, 1]
    assert corners[0, 0] < corners[2, 0] < corners[1, 0]
    assert triangle.at([0.2, 0.5, 0.3]) == pytest.approx([0.2, 0.5, 0.3] @ corners)
    shown = triangle.data(rational(), first=0.2, second=0.5)
    sheet = ET.fromstring(triangle.draw(shown).svg())
    circle = next(c for c in sheet.iter(f"{NAMESPACE}circle") if c.findtext(f"{NAMESPACE}title") == "p: your policy")
    assert (float(circle.get("cx") or 0), float(circle.get("cy") or 0)) == pytest.approx(triangle.at([0.2, 0.4, 0.4]), abs=0.01)
    looks = [(glyphs.GLYPHS[glyph].marker, glyphs.GLYPHS[glyph].hollow) for _, _, glyph, _ in triangle.MARKS]
    assert len(set(looks)) == len(looks), "told apart without color"


def test_names_keep_clear_of_each_other() -> None:
    points = [((200.0, 200.0), "p_ref"), ((204.0, 200.0), "p*"), ((203.0, 204.0), "q")]
    places = [re.search(r'x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"', t) for t in svg.names(points)]
    boxes = [svg._box(float(m[1]), float(m[2]), words, m[3]) for m, (_, words) in zip(places, points, strict=True) if m]
    assert len(boxes) == 3
    assert not any(svg._meet(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


# ---------------------------------------------------------------------------------------------------- panels


def moved(control: Any) -> Any:
    """Another value of a control."""
    if hasattr(control, "options"):
        values = [v for _, v in control.options]
        return values[(values.index(control.value) + 1) % len(values)]
    return min(control.max, control.value + 4 * control.step) if control.value < control.max else control.min


PANELS = {
    "tilt": (
        lambda: explore.tilt(rational()),
        lambda at: tilting.data(rational(), beta=at["beta"], rewards={int(k[1:]): v for k, v in at.items() if k != "beta"}),
    ),
    "simplex": (explore.simplex, lambda at: triangle.data(rational(), **at)),
    "compare": (explore.compare, lambda at: comparing.data(("heron", "owl", "bat"), tuple(at.values()), 20)),
    "kl": (explore.kl, lambda at: flag.data(rational(), **at)),
    "derivation": (
        lambda: explore.derivation("regret-is-kl"),
        lambda at: stepper.data(
            "regret-is-kl",
            world=next(w for w in stepper.fitting("regret-is-kl") if w.name == at["world"]),
            beta=at["beta"],
            line=at["line"],
        ),
    ),
}


@pytest.mark.parametrize("name", PANELS)
def test_every_control_changes_the_picture_and_matches_python(name: str) -> None:
    make, expected = PANELS[name]
    made = make()
    for control in made.controls.values():
        before = made.picture.value
        control.value = moved(control)
        assert made.picture.value != before, control.description
        at = {key: c.value for key, c in made.controls.items()}
        assert made.data == expected(at)
        assert made.picture.value == as_html(made.view, made.data)
        assert control.description
        assert control.tooltip
    assert json.loads(json.dumps(made.data, allow_nan=False)).keys() == made.data.keys()
    assert "float64" not in made.picture.value


def test_every_position_of_beta_is_right_and_shown() -> None:
    made = explore.tilt()
    for _, beta in made.controls["beta"].options:
        made.controls["beta"].value = beta
        heads = 1 / (1 + math.exp(-1 / beta))
        assert made.data["p"] == pytest.approx([1 - heads, heads], abs=1e-12)
        assert bars.percent(heads) in made.picture.value
        assert f"β = {beta:.4g};" in made.picture.value


def test_back_and_next_step_through_the_lines_and_stop_at_the_ends() -> None:
    made = explore.derivation("regret-is-kl", coin(beta=0.3))
    back, forth = made.children[0].children[0].children
    assert made.data["world"] == "coin"
    assert made.data["beta"] == 0.3
    for _ in range(made.data["lines"] + 2):
        forth.click()
    assert made.data["line"] == made.data["lines"] == made.controls["line"].value
    back.click()
    assert f"Line {made.data['lines'] - 1} of" in made.picture.value
    for _ in range(made.data["lines"] + 2):
        back.click()
    assert made.data["line"] == 1


def test_what_cannot_be_computed_is_told_and_can_be_left() -> None:
    def data(x: float) -> dict[str, Any]:
        if x > 0.5:
            raise InputError("x must be small <", got=x, remedy="move it back")
        return {"x": x}

    made = panel(View((Control("x", "x", "hint", 0.2),), data, lambda shown, paper: f"<b>{shown['x']}</b>", lambda shown: []))
    made.controls["x"].value = 0.75
    assert "x must be small &lt;: got 0.75; move it back" in made.picture.value
    assert 'role="alert"' in made._repr_mimebundle_()["text/html"]
    made.controls["x"].value = 0.25
    assert "<b>0.25</b>" in made.picture.value


@pytest.mark.parametrize("name", PANELS)
def test_without_widgets_a_picture_remains(name: str) -> None:
    made = PANELS[name][0]()
    bundle = made._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    still = bundle["text/html"]
    assert "var(--" not in still, "on paper nothing depends on a theme"
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', still)
    if name == "derivation":
        for step in made.data["steps"]:
            assert all((plain(piece) if symbol else escape(piece, quote=False)) in still for symbol, piece in formulas(step["reason"]))
    else:
        assert found
        sheet = ET.fromstring(base64.b64decode(found[1]))
        assert sheet[1].get("fill") == "#ffffff"
        assert sheet.get("style") == "color:#000000"


def test_importing_opens_no_widgets_and_a_missing_package_is_named() -> None:
    code = (
        "import sys\nfrom tabular_rlhf import explore\nfor room in ('ipywidgets', 'tabular_rlhf.ledger'): assert room not in sys.modules\n"
    )
    code += "sys.modules['ipywidgets'] = None\nfrom tabular_rlhf.errors import InputError\n"
    code += "try: explore.tilt()\nexcept InputError as e: print(e)\n"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.startswith("explore needs ipywidgets: got no such package")
    assert told.strip().endswith('pip install "tabular-rlhf[notebooks]"')


def test_the_policy_in_the_triangle_has_the_librarys_regret() -> None:
    shown = triangle.data(rational(), first=0.25, second=0.5)
    assert shown["regret"] == pytest.approx(float(regret(np.log([shown["p"]]), rational())), abs=1e-12)
    assert on_screen(triangle.draw)(shown, False).startswith("<svg")
