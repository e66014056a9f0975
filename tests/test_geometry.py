"""The figures of chapter 5: their data lie where the mathematics says, and they can be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tabular_rlhf.figures import geometry, page
from tabular_rlhf.gibbs import solve
from tabular_rlhf.logspace import kl


@pytest.fixture(scope="module")
def simplex() -> dict[str, Any]:
    return geometry.compute_simplex(geometry.three_responses())


def laws(points: dict[str, Any]) -> Any:
    """Barycentric coordinates of points of the triangle."""
    x, y = np.array(points["x"]), np.array(points["y"])
    top = y / 0.75**0.5
    return np.stack([1 - x - top / 2, x - top / 2, top], axis=-1)


def test_the_arc_joins_the_reference_and_the_optimum(simplex: dict[str, Any]) -> None:
    world = geometry.three_responses()
    arc = laws(simplex["arc"])
    assert arc[0] == pytest.approx(np.exp(world.log_p_ref[0]), abs=1e-14)
    assert np.min(np.max(np.abs(arc - solve(world).p[0]), axis=1)) <= 1e-12
    odds = np.log(arc[:, 0] / arc[:, 1])
    r = world.r[0]
    s = (odds - odds[0]) / (r[0] - r[1])  # 1/beta: the log-odds of any two responses are straight in it
    others = np.log(arc[:, 2] / arc[:, 1])
    assert others - others[0] == pytest.approx(s * (r[2] - r[1]), abs=1e-7)


def test_the_class_is_a_product_of_two_tokens(simplex: dict[str, Any]) -> None:
    p = laws(simplex["class"])
    stop, both, once = p.T
    assert once == pytest.approx(stop * np.sqrt(np.maximum(both, 0.0)), abs=1e-9), "p(a .) = pi(a) pi(.)"


@pytest.mark.parametrize("way", ["forward", "reverse"])
def test_level_sets_are_level_and_touch_the_class_at_the_projection(simplex: dict[str, Any], way: str) -> None:
    p_star = solve(geometry.three_responses()).p[0]
    found = simplex["forward"] if way == "forward" else simplex["reverse"][0]

    def divergence(p: Any) -> Any:
        log_p = np.log(np.maximum(p, 1e-300))
        return kl(np.log(p_star), log_p) if way == "forward" else kl(log_p, np.log(p_star))

    level = divergence(laws(simplex[f"{way}_level"]))
    assert (level <= found["kl"] + 1e-6).all()
    assert np.mean(np.abs(level - found["kl"]) < 1e-6) > 0.4, "the other rays end at the edge"
    assert divergence(laws(found))[0] == pytest.approx(found["kl"], abs=1e-9)
    assert (divergence(laws(simplex["class"])) >= found["kl"] - 1e-9).all(), "no policy of the class is nearer"


def test_the_reverse_projection_has_two_optima_and_the_forward_one_lies_between(simplex: dict[str, Any]) -> None:
    best, local = simplex["reverse"]
    assert best["kl"] < local["kl"]
    assert local["pi"] < simplex["forward"]["pi"] < best["pi"]


@pytest.fixture(scope="module")
def regret() -> dict[str, Any]:
    return geometry.compute_regret(*geometry.small_talk(), sizes=(6400,), draws=8)


def test_regret_of_both_roads(regret: dict[str, Any]) -> None:
    roads = {r["name"]: r for r in regret["roads"]}
    assert roads["DPO, small class"]["limit"] > 1.5 * roads["RLHF, small class"]["limit"] > 0
    for name in ("RLHF, every policy", "DPO, every policy"):
        assert roads[name]["limit"] <= 1e-12
        assert 0 < roads[name]["mean"][0] < 3 * roads[name]["asymptote"][-1] == pytest.approx(3 * roads[name]["slope"] / 6400)
    assert roads["RLHF, every policy"]["slope"] < roads["DPO, every policy"]["slope"], "three parameters against fourteen"
    assert all(r["without"] == [0] for r in regret["roads"])


def test_what_is_drawn_is_the_data(simplex: dict[str, Any], regret: dict[str, Any], tmp_path: Any) -> None:
    for figure, data in zip(geometry.FIGURES, (simplex, regret), strict=True):
        page.save(figure.draw, data, [tmp_path / f"{figure.name}.svg"], figure.widths, figure.size, figure.said)
        assert (tmp_path / f"{figure.name}.svg").stat().st_size > 5000
    sheet = page.on_paper(geometry.draw_simplex, simplex, (1.0,), (6.0, 5.0))
    marks = {str(line.get_gid()).partition(".")[0]: line for line in sheet.axes[0].lines if line.get_linestyle() == "None"}
    assert marks["forward"].get_xdata()[0] == pytest.approx(simplex["forward"]["x"][0], rel=1e-6)
    assert marks["reverse-local"].get_ydata()[0] == pytest.approx(simplex["reverse"][1]["y"][0], rel=1e-6)
