"""The page's moving pictures in a real browser: what their own controls show is Python's, and a link shows the same again."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf.figures.kl import three
from tabular_rlhf.gibbs import regret, solve
from tabular_rlhf.logspace import kl, log_softmax
from tabular_rlhf.losses.evaluate import gradient
from tabular_rlhf.preferences.laws import Pairs
from tests.browser.test_page_browser import FILE, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

READY = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TURN = """([id, value]) => {
  const node = document.getElementById(id);
  node.value = value;
  node.dispatchEvent(new Event("input"));
  return Number(node.value);
}"""
SAID = """() => Object.fromEntries(["live", "nearest", "beta-said", "path-said", "pairsaid", "clicksaid", "bonsaid", "groupsaid",
  "line-said", "wins"].map((id) => [id, document.getElementById(id).textContent]))"""


def press(page: Page, *buttons: str) -> None:
    """Buttons pressed as a keyboard does: what a picture's first words push down while a mouse is on its way is no matter here."""
    draw(page)
    for button in buttons:
        page.locator(button).evaluate("node => node.click()")


def draw(page: Page) -> None:
    """Every picture drawn, on the screen or not, as before printing."""
    page.evaluate(READY)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def test_fifty_states_through_the_controls_show_pythons_numbers(browser: Browser) -> None:
    rng = np.random.default_rng(3)
    with opened(browser) as page:
        press(page, "#reveal", "#ask [data-a='1']")
        pair = Pairs(np.zeros(1, dtype=np.intp), np.array([0]), np.array([1]), np.ones(1), None)
        p = np.full((1, 3), 1 / 3)
        for _ in range(50):
            beta = math.exp(page.evaluate(TURN, ["b1", float(rng.uniform(-2.0, 1.0))]))
            r = [page.evaluate(TURN, [f"r{i}", float(rng.uniform(-2.0, 2.0))]) for i in range(3)]
            eta = page.evaluate(TURN, ["eta", float(rng.uniform(0.0, 20.0))])
            draw(page)
            w = three(beta).with_reward(np.array([r]))
            g, lp = solve(w), np.log(p)
            live = numbers(page.inner_text("#live"))
            want = [g.value - regret(lp, w), regret(lp, w), float(np.mean(r)), kl(lp, w.log_p_ref)[0], kl(w.log_p_ref, lp)[0]]
            assert np.max(np.abs(np.array(live) - np.array([float(x) for x in want]))) < 5.1e-4, (beta, r)
            assert abs(numbers(page.inner_text("#nearest"))[0] - g.value) < 5.1e-5
            after = log_softmax(lp - eta * gradient("dpo", w, lp, pair))[0]
            shown = page.locator("#pairfig text.big[text-anchor=middle]").all_text_contents()
            assert all(abs(float(s.strip(" %<")) / 100 - x) < 5.1e-3 for s, x in zip(shown, np.exp(after), strict=True)), (beta, eta)


def test_the_first_screen_says_what_happens(browser: Browser) -> None:
    """The numbers of k3 in the reward, and the flags that rest on p*."""
    with opened(browser) as page:
        draw(page)
        said = page.inner_text("#path-said")
        for part in ("says only C", "0.2255", "worse than untrained (0.2017)", "0.0002", "pays for silencing answers"):
            assert part in said
        for estimator, place, part in (
            ("k2", "loss", "rest on ★"),
            ("k1", "reward", "rest on ★"),
            ("k3", "loss", "0.0112"),
            ("abs", "loss", "0.0524"),
        ):
            page.goto(FILE.as_uri() + f"#f={estimator}&w={place}&s=1")
            page.evaluate(READY)
            draw(page)
            assert part in page.inner_text("#path-said"), (estimator, place)


def test_a_link_shows_the_same_again(browser: Browser) -> None:
    with opened(browser) as page:
        for name, value in (("b0", -1.3), ("r1", 1.25), ("eta", 7.0), ("prior", 1.0), ("passes", 1.5), ("n", 0.6), ("noise", 0.9)):
            page.evaluate(TURN, [name, value])
        for name, value in (("size", 12), ("right-ones", 5), ("rate", 0.35), ("typed", "J(p) + Z = V"), ("two", 7), ("margin", 5)):
            page.evaluate(TURN, [name, value])
        press(page, "#lossipo", "#divideno", "#cycle", "#reveal", "#ask [data-a='-1']", "#peak")
        page.locator("#drag g[aria-label=Policy]").focus()
        page.keyboard.press("ArrowUp")
        press(page, "#copy")
        draw(page)
        said, address = page.evaluate(SAID), page.evaluate("location.hash")
    assert "A cycle" in said["clicksaid"]
    with opened(browser) as page:
        before = page.evaluate(SAID)
        page.goto(FILE.as_uri() + address)
        page.evaluate(READY)
        draw(page)
        again = page.evaluate(SAID)
        seen = {k: (said[k], again[k]) for k in said if k != "nearest" and said[k] != again[k]}  # the nearest is a record of one visit
        assert seen == {}
        press(page, "#reset")
        draw(page)
        assert page.evaluate("location.hash") == ""
        assert page.evaluate(SAID)["groupsaid"] != again["groupsaid"]
        assert before.keys() == again.keys()


FOCUSABLE = "a[href], button, input, select, summary, [tabindex='0']"
NAMES = """(what) => [...document.querySelectorAll(what)].filter((node) =>
  node.checkVisibility() && node.getBoundingClientRect().width).map((node) => {
  const labels = [...(node.labels ?? [])].map((label) => label.textContent.trim()).join(" ");
  return [node.id || node.outerHTML.slice(0, 80), node.getAttribute("aria-label") || labels || node.textContent.trim(), node.type ?? ""];
})"""


def test_every_control_is_named_and_reached_by_tab(browser: Browser) -> None:
    with opened(browser) as page:
        draw(page)
        controls: list[list[str]] = page.evaluate(NAMES, FOCUSABLE)
        assert [c for c in controls if not c[1]] == []
        want = {c[0] for c in controls if c[2] != "radio"}
        met: set[Any] = set()
        for _ in range(len(controls) + 5):
            page.keyboard.press("Tab")
            met.add(page.evaluate("() => document.activeElement.id || document.activeElement.outerHTML.slice(0, 80)"))
        assert want - met == set()
        radios = {"est", "place", "loss", "pair", "divide"}
        assert radios <= {re.sub(r"(k1|k2|k3|abs|k3i|reward|dpo|AB|yes)$", "", str(m)) for m in met}


def test_no_word_of_a_picture_is_cut_on_a_phone(browser: Browser) -> None:
    cut = """() => [...document.querySelectorAll(".stage svg text")].filter((node) => {
      if (!node.textContent || !node.checkVisibility()) return false;
      const box = node.getBoundingClientRect();
      return box.left < 0 || box.right > innerWidth;
    }).map((node) => node.textContent)"""
    for link in (
        "",
        "#show=1&ans=1&pk=.4&c=ABABABABBCBCBCBCCACACACAADDA",
        "#b=0.05&f=abs&w=loss&s=1&u=.99&G=32&m=32",
        "#b=3&u=.01&dv=no&e=1.5&s=.5",
    ):
        with opened(browser, 360, 740) as page:
            page.goto(FILE.as_uri() + link)
            page.reload()
            draw(page)
            assert page.evaluate(cut) == [], link
            assert page.evaluate("document.documentElement.scrollWidth") == 360
