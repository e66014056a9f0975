"""The page in a real browser: every position of every control against Python, by eye where the eye looks.

What is read is the text on the screen and the places of marks; what it must be is computed here and now by the package, not taken
from the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scipy.optimize import minimize_scalar

from tabular_rlhf.page import embedded
from tabular_rlhf.page.numbers import differences, fixed
from tests.test_page import P_REF, divergence, memoryless, scan, tilted

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FILE = Path(__file__).parent.parent.parent / "figures" / "page.html"
CONTROLS = {"estimator": 8, "placement": 3, "flag-beta": 3, "beta": 9, "two": 9, "one": 9, "loss": 32, "margin": 33, "share": 6, "wrong": 0}
"""Every control of the tables, in the order of the keyboard, with its positions (0: as many as the derivation has wrong lines)."""


@cache
def today() -> dict[str, Any]:
    """The data of the committed page, which `tests/test_page.py` holds to be today's."""
    return embedded(FILE.read_text(encoding="utf-8"))


@contextmanager
def opened(browser: Browser, width: int = 1440, height: int = 900, scheme: Any = "light") -> Iterator[Page]:
    """The page from disk, in a context of its own; on leaving, nothing may have been said or asked for."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, reduced_motion="reduce")
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(FILE.as_uri())
    yield page
    assert said == []
    assert {url.partition("#")[0] for url in asked} <= {FILE.as_uri(), "data:,"}
    context.close()


SET = """([id, position]) => {
  const node = document.getElementById(id);
  if (node.tagName === "SELECT") node.selectedIndex = position; else node.value = position;
  node.dispatchEvent(new Event("input"));
}"""

READ = """(section) => {
  const seen = {}, root = document.getElementById(section);
  for (const node of root.querySelectorAll("[data-of]"))
    (seen[node.dataset.of] ??= new Set()).add(node.textContent);
  const text = Object.fromEntries(Object.entries(seen).map(([name, texts]) => [name, [...texts]]));
  const marks = {};
  for (const node of root.querySelectorAll("figure > svg > path[transform]"))
    (marks[node.getAttribute("class")] ??= []).push(node.getAttribute("transform"));
  const lines = {};
  for (const node of root.querySelectorAll("figure > svg > path:not([transform])"))
    lines[node.getAttribute("class")] = node.getAttribute("d");
  return { text, marks, lines, hidden: [...root.querySelectorAll("[hidden]")].map((node) => node.id) };
}"""
SWEEP = f"""([sizes, sections]) => {{
  const set = {SET}, read = {READ}, found = [];
  const walk = (chosen) => {{
    if (chosen.length === sizes.length) {{ found.push(sections.map(read)); return; }}
    for (let n = 0; n < sizes[chosen.length][1]; n += 1) {{ set([sizes[chosen.length][0], n]); walk([...chosen, n]); }}
  }};
  walk([]);
  return found;
}}"""
"""Every combination of positions, the last control fastest: what the sections then show."""


def shown(text: str) -> str:
    """A printed number as the page sets it."""
    return {"inf": "∞", "-inf": "−∞"}.get(text, re.sub(r"^-", "−", text).replace("e-", "e−"))


def agree(seen: dict[str, list[str]], want: dict[str, str], where: Any) -> None:
    """The text on the screen is Python's: today's may differ from the committed page's by one unit of the last digit."""
    plain = {name: [t.replace("−", "-").replace("∞", "inf") for t in texts] for name, texts in seen.items()}
    assert plain.keys() == want.keys(), where
    for name, texts in plain.items():
        assert len(texts) == 1, (where, name, texts)
        assert list(differences(texts[0], want[name], name)) == [], (where, name)


def place(p: Sequence[Any]) -> tuple[float, float]:
    """A law as a place in the triangle: corners (40, 262), (170, 36.8), (300, 262)."""
    a, b, c = map(float, p)
    return 40 * a + 170 * b + 300 * c, 262 * a + 36.8 * b + 262 * c


def marks_agree(seen: dict[str, list[str]], want: dict[str, Any], where: Any) -> None:
    """Every mark stands where its law is, within a tenth of a pixel of the drawing."""
    assert {k: len(v) for k, v in seen.items()} == {k: len(v) for k, v in want.items() if v}, where
    for kind, laws in want.items():
        for moved, p in zip(seen.get(kind, []), laws, strict=True):
            x, y = map(float, re.findall(r"-?[\d.]+", moved))
            assert math.dist((x, y), place(p)) < 0.1, (where, kind)


def line_agrees(drawn: str, laws: Sequence[Any], where: Any) -> None:
    """A line runs through the places of its laws, which are printed in three digits."""
    seen = [tuple(map(float, xy.split())) for xy in re.split("[ML]", drawn)[1:]]
    assert len(seen) == len(laws), where
    assert all(math.dist(xy, place(p)) < 0.6 for xy, p in zip(seen, laws, strict=True)), where


# ---------------------------------------------------------------------------------------------------- every position


def test_every_position_of_tilt_and_geometry(browser: Browser) -> None:
    """Computed by the page, and here in plain `math`; the minima of the reverse at every ratio of rewards to beta, by a scan."""
    t, names = today()["tilt"], ("beta", "two", "one")
    with opened(browser) as page:
        found = page.evaluate(SWEEP, [[[n, CONTROLS[n]] for n in names], ["tilt", "geometry"]])
    scanned = cache(lambda *ratios: scan(tilted(P_REF, ratios, 1.0)[0]))
    for (beta, two, one), (tilt, geometry) in zip(product(t["beta"], t["reward"], t["reward"]), found, strict=True):
        where, b, r = (beta, two, one), float(beta), (0.0, float(one), float(two))
        p, Z = tilted(P_REF, r, b)
        reward, three = math.fsum(map(math.prod, zip(p, r, strict=True))), {"p_ref": P_REF, "p": p}
        three |= {"weight": [math.exp(x / b) for x in r], "gain": [math.log(x / q) for x, q in zip(p, P_REF, strict=True)]}
        numbers = {f"{name}.{n}": xs[n] for name, xs in three.items() for n in range(3)}
        numbers |= {"Z": Z, "V": b * math.log(Z), "reward": reward, "kl": divergence(p, P_REF)}
        numbers |= {"regret": b * math.log(Z) - math.fsum(map(math.prod, zip(P_REF, r, strict=True)))}
        printed = {name: fixed(x) for name, x in numbers.items()} | {"r.0": "0", "r.1": one, "r.2": two, "beta": beta}
        agree(tilt["text"], printed, where)
        minima = scanned(*(x / b for x in r))
        laws = projections(geometry["text"], p, minima, where)
        assert geometry["hidden"] == (["second"] if len(minima) == 1 else [])
        want = {"ref": [P_REF], "star": [p], "forward": laws[:1], "reverse": laws[1:2], "other": laws[2:]}
        marks_agree(geometry["marks"], want, where)
        line_agrees(geometry["lines"]["arc"], [tilted(P_REF, r, 8 / max(n, 1e-300))[0] for n in range(33)], where)
        line_agrees(geometry["lines"]["curve"], [memoryless(n / 40) for n in range(41)], where)


def projections(seen: dict[str, list[str]], p: list[float], minima: list[tuple[float, float]], where: Any) -> list[list[float]]:
    """The laws of the forward projection and of the minima of the reverse; the text on the screen says what they are."""
    none, one, two = p
    plain = {name: texts[0] for name, texts in seen.items()}
    words = (one + 2 * two) / (none + 2 * one + 2 * two)
    agree({n: t for n, t in seen.items() if n.startswith("forward")}, printed("forward", words, divergence(p, memoryless(words))), where)
    laws = [memoryless(words)]
    for m, (k, value) in enumerate(minima):
        shown_k, shown_value = float(plain[f"reverse.{m}.knock"]), float(plain[f"reverse.{m}.kl"])
        assert abs(shown_k - k) < 0.004, where  # the scan's own spacing
        assert shown_value <= value + 1e-4, where
        finer = minimize_scalar(lambda k: divergence(memoryless(k), p), bounds=(max(k - 0.01, 0.0), min(k + 0.01, 1.0)), method="bounded")
        laws.append(memoryless(float(finer.x)))
        assert divergence(laws[-1], p) == pytest.approx(shown_value, abs=1e-4)
        assert all(abs(float(plain[f"reverse.{m}.p.{n}"]) - memoryless(shown_k)[n]) < 2e-4 for n in range(3)), where
    assert (plain["reverse.1.knock"] == "") == (len(minima) == 1), where
    return laws


def printed(name: str, k: float, value: float) -> dict[str, str]:
    return {f"{name}.knock": fixed(k), f"{name}.kl": fixed(value), **{f"{name}.p.{n}": fixed(memoryless(k)[n]) for n in range(3)}}


def test_every_flag(browser: Browser) -> None:
    f = today()["flags"]
    words = "() => ['verdict', 'descends', 'optimum'].map((id) => document.getElementById(id).innerText)"
    with opened(browser) as page:
        for i in range(8):
            for j in range(3):
                for n in range(3):
                    for name, position in (("estimator", i), ("placement", j), ("flag-beta", n)):
                        page.evaluate(SET, [name, position])
                    cell, best, seen = f["cells"][i][j][n], f["best"][n], page.evaluate(READ, "flags")
                    want = {f"{what}.{m}": f[what][m] for what in ("r", "p_ref") for m in range(3)}
                    want |= {f"best.p.{m}": best["p"][m] for m in range(3)} | {f"p.{m}": cell["p"][m] for m in range(3)}
                    want |= {"best.reward": best["reward"], "best.kl": best["kl"]}
                    want |= {name: cell[name] for name in ("reward", "kl", "regret", "mean", "bias", "std")}
                    agree(seen["text"], want, (i, j, n))
                    marks_agree(seen["marks"], {"ref": [f["p_ref"]], "end": [cell["p"]], "star": [best["p"]]}, (i, j, n))
                    line_agrees(seen["lines"]["path"], cell["path"], (i, j, n))
                    said = page.evaluate(words)
                    assert said[1:] == [cell["descends"], cell["optimum"]]
                    assert re.sub(r"\d\.\d+", "#", said[0]) == re.sub(r"\d\.\d+", "#", cell["verdict"])
                    assert page.locator("#h math").count() >= 1


def test_every_loss_at_every_margin(browser: Browser) -> None:
    z = today()["zoo"]
    sweep = f"""(sizes) => {{
      const set = {SET}, found = [], text = (id) => document.getElementById(id).textContent; // no layout a position
      for (let n = 0; n < sizes[0]; n += 1) for (let s = 0; s < sizes[1]; s += 1) for (let D = 0; D < sizes[2]; D += 1) {{
        if (!D && !s) set(["loss", n]);
        if (!D) set(["share", s]);
        set(["margin", D]);
        const dots = [...document.querySelectorAll("#zoo circle")].map((dot) =>
          [dot.getAttribute("class"), Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy"))]);
        const numbers = [...document.querySelectorAll("#zoo [data-of]")].map((node) => node.textContent);
        found.push([numbers, dots, text("best"), text("source")]);
      }}
      return found;
    }}"""
    with opened(browser) as page:
        found = iter(page.evaluate(sweep, [len(z["loss"]), 6, 33]))
    for n, name in enumerate(z["loss"]):
        for s in range(6):
            cell = z["cells"][n][s]
            for d, margin in enumerate(z["margin"]):
                where = (name, z["share"][s], margin)
                (value, slope), dots, best, source = next(found)
                agree({"value": [value], "slope": [slope]}, {"value": cell["value"][d], "slope": cell["slope"][d]}, where)
                assert source == z["about"][n]["source"]
                assert best.endswith(cell["words"])
                rest = best.partition(" nats, ")[0].removeprefix("D = ") if cell["best"] else ""
                agree({"best": [rest]}, {"best": cell["best"]}, where)
                for dot, y, (low, high) in zip(dots, (cell["value"][d], cell["slope"][d]), ((-1, 6), (-3, 3)), strict=True):
                    inside = min(max(float(y), low), high)
                    x, height = 36 + (float(margin) + 4) / 8 * 294, 200 - (inside - low) / (high - low) * 188
                    assert abs(dot[1] - x) < 0.02, where
                    assert abs(dot[2] - height) < 0.02, where
                    assert (dot[0] == "here off") == (inside != float(y)), where
    assert next(found, None) is None


def test_every_wrong_line(browser: Browser) -> None:
    d = today()["derivation"]
    with opened(browser) as page:
        assert page.locator("#wrong option").all_inner_texts() == d["choice"]
        rows = page.locator("#lines > li")
        for n, cell in enumerate(d["cells"]):
            page.evaluate(SET, ["wrong", n])
            assert page.inner_text("#ends").endswith(cell["end"])
            texts = page.locator("#lines .number").all_inner_texts()
            assert len(texts) == rows.count() == len(d["cells"][0]["steps"])
            for k, text in enumerate(texts):
                step = cell["steps"][k] if k < len(cell["steps"]) else None
                values = "not read" if step is None else ", ".join(" ".join(filter(None, (label, shown(v)))) for label, v in step["value"])
                assert text.endswith(values), (n, k)
                mark = "" if step is None or step["ok"] is None else "✓" if step["ok"] else "✗"
                assert text.startswith(mark)
                assert ("breaks" in (rows.nth(k).get_attribute("class") or "")) == (mark == "✗")


# ---------------------------------------------------------------------------------------------------- by keyboard, at every width

NOW = """() => {
  const node = document.activeElement;
  const position = node.tagName === "SELECT" ? node.selectedIndex : Number(node.value);
  const beside = document.getElementById(node.id + "-is");
  const around = [document.body.innerText, ...[...document.querySelectorAll("figure svg")].map((svg) => svg.innerHTML)];
  return { id: node.id, position, beside: beside && beside.innerText, said: node.getAttribute("aria-valuetext"),
           around: around.join("|"), ring: getComputedStyle(node).outlineStyle };
}"""


def test_the_keyboard_reaches_and_moves_every_control(browser: Browser) -> None:
    with opened(browser) as page:
        met: list[str] = []
        for _ in range(160):
            page.keyboard.press("Tab")
            before = page.evaluate(NOW)
            if before["id"] not in CONTROLS:
                continue
            met.append(before["id"])
            assert before["ring"] != "none", before["id"]
            step, back = ("ArrowUp", "ArrowDown") if before["position"] > 0 else ("ArrowDown", "ArrowUp")
            if page.locator(f"#{before['id']}").evaluate("node => node.tagName") == "INPUT":
                step, back = ("ArrowLeft", "ArrowRight") if before["position"] > 0 else ("ArrowRight", "ArrowLeft")
            page.keyboard.press(step)
            after = page.evaluate(NOW)
            assert abs(after["position"] - before["position"]) == 1, before["id"]
            if after["beside"] is not None:  # a slider: the number beside it is what a screen reader says
                assert after["beside"] != before["beside"]
                assert after["said"].replace("-", "−").startswith(after["beside"])
            assert after["around"] != before["around"], before["id"]
            page.keyboard.press(back)
            assert page.evaluate(NOW) == before, before["id"]
            if before["id"] == list(CONTROLS)[-1]:
                break
        assert met == list(CONTROLS)


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
def test_nothing_is_wider_than_the_screen(browser: Browser, width: int) -> None:
    """Also with everything unfolded and with the longest numbers; long formulas may scroll within themselves."""
    with opened(browser, width) as page:
        page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
        for name, position in (("beta", 0), ("two", 8), ("one", 8), ("loss", 4), ("wrong", 1)):
            page.evaluate(SET, [name, position])
        assert page.evaluate("document.documentElement.scrollWidth") == width
        beyond = page.evaluate(
            """(width) => [...document.querySelectorAll("body *")].filter((node) => !node.closest(".tex, .skip, svg")
              && node.getBoundingClientRect().right > width + 0.5).map((node) => node.outerHTML.slice(0, 60))""",
            width,
        )
        assert beyond == []
        small = page.evaluate(
            """() => [...document.querySelectorAll("input:not([type=radio]), input[type=radio] + label, select, summary, button")]
              .filter((node) => node.offsetHeight < 24).map((n) => n.id)"""
        )
        assert small == []  # a finger needs room


CONTRAST = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let up = node; up; up = up.parentElement) {
      const color = getComputedStyle(up).backgroundColor;
      if ((numbers(color)[3] ?? 1) === 1) return color;
    }
    return "no ground";
  };
  const found = {}, walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || node.closest("script, style, noscript, title, [hidden]")) continue;
    const style = getComputedStyle(node);
    const color = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
    let opacity = 1;
    for (let up = node; up; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
    const [high, low] = [light(color), light(ground(node))].sort((a, b) => b - a);
    found[`${color} on ${ground(node)} at ${opacity}`] = [(high + 0.05) / (low + 0.05), opacity, text.data.trim().slice(0, 40)];
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_all_text(browser: Browser, scheme: str) -> None:
    with opened(browser, scheme=scheme) as page:
        page.evaluate(SET, ["wrong", 1])
        found = page.evaluate(CONTRAST)
        assert len(found) >= 4  # ink, soft and links on paper, ink on a wash
        for where, (ratio, opacity, text) in found.items():
            assert ratio >= 4.5, (where, text)
            assert opacity == 1, (where, text)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert dark == {"light": "rgb(253, 252, 249)", "dark": "rgb(22, 25, 29)"}[scheme]


def test_a_link_leads_to_its_claim(browser: Browser) -> None:
    with opened(browser) as page:
        for link in page.locator(".claims-line a").all():
            link.click()
            target = page.locator(link.get_attribute("href") or "")
            id_ = (link.get_attribute("href") or "").removeprefix("#")
            page.wait_for_function("id => document.getElementById(id).getBoundingClientRect().top < 900", arg=id_)  # it is scrolled to
            assert target.locator("h3").inner_text() == link.inner_text()


def test_the_controls_stay_in_sight_while_their_sections_are_read(browser: Browser) -> None:
    with opened(browser, 360, 740) as page:
        page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
        for section in ("tilt", "geometry"):
            page.evaluate("(id) => document.getElementById(id).scrollIntoView()", section)
            top, bottom, heading = page.evaluate(
                """(id) => {
                  const box = document.querySelector(".shared > .controls").getBoundingClientRect();
                  return [box.top, box.bottom, document.querySelector(`#${id} h2`).getBoundingClientRect().top];
                }""",
                section,
            )
            assert -1 <= top < 30
            assert bottom - top < 185  # they leave most of a small screen to what they move
            assert heading >= bottom - 1  # and do not cover the heading
