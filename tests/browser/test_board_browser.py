"""The board of `explore.aim` in a real browser, without a kernel: moved by mouse and by keys, its numbers are Python's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tabular_rlhf import explore
from tabular_rlhf.explore.triangle import at
from tabular_rlhf.gibbs import regret, solve
from tabular_rlhf.logspace import kl
from tabular_rlhf.world import rational

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


@pytest.mark.parametrize("goal", [{"kl": 0.2}, {"regret": 0.01}])
def test_a_policy_is_drawn_by_mouse_and_by_keys(browser: Browser, tmp_path: Path, goal: dict[str, Any]) -> None:
    file, world = tmp_path / "board.html", rational()
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{explore.aim('rational', **goal)._repr_html_()}", encoding="utf-8")
    context = browser.new_context(viewport={"width": 760, "height": 640}, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    board = page.frames[1]
    assert not page.locator("img").is_visible(), "the still picture gives way"

    def agrees() -> str:
        p = np.array(numbers(board.inner_text("#law").replace(".:", "")))
        assert p.sum() == pytest.approx(1.0, abs=2e-4)
        log_p = np.log(np.maximum(p, 1e-12))[None]
        g, seen = solve(world), numbers(board.inner_text("#numbers"))
        r = float((p * world.r[0]).sum())
        assert seen == pytest.approx([r, float(kl(log_p, world.log_p_ref)[0]), float(g.value - regret(log_p, world))], abs=2e-3)
        return board.inner_text("#told")

    handle = board.locator("#policy")
    assert handle.get_attribute("aria-label") == "Policy"
    assert "Drag" in agrees()
    box = board.locator("#board").bounding_box()
    star = at(solve(world).p[0])
    assert box is not None
    start = handle.bounding_box()
    assert start is not None
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + star[0], box["y"] + star[1], steps=6)
    page.mouse.up()
    told = agrees()
    assert told.startswith("✓ Beaten" if "regret" in goal else "Not yet"), told
    before = handle.get_attribute("aria-valuetext")
    for key in ("ArrowUp", "Shift+ArrowLeft", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
        assert handle.get_attribute("aria-valuetext") != before, key
        before = handle.get_attribute("aria-valuetext")
    agrees()
    if "kl" in goal:
        for _ in range(60):
            page.keyboard.press("ArrowRight")
            if abs(numbers(board.inner_text("#numbers"))[1] - 0.2) < 0.05:
                break
        for _ in range(80):
            if board.inner_text("#told").startswith("✓ Hit"):
                break
            page.keyboard.press("Shift+ArrowRight" if numbers(board.inner_text("#numbers"))[1] < 0.2 else "Shift+ArrowLeft")
        assert agrees().startswith("✓ Hit")
    board.locator("#reveal").press("Enter")
    assert numbers(board.inner_text("#told"))[0] == pytest.approx(float(solve(world).value), abs=1e-4)
    board.locator("#again").press("Enter")
    assert "Drag" in agrees()
    assert said == []
    context.close()
