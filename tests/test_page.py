"""The page: its data at every position of every control against formulas in plain `math`, and the file as a file.

What a browser makes of it is tested in tests/browser.  Printed numbers have four digits after the point, so a formula must agree
within half a unit of the last digit, and a little more for what was itself computed from something printed.
"""

from __future__ import annotations

import copy
import json
import math
import re
from functools import cache
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tabular_rlhf import page
from tabular_rlhf.cli import main
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS
from tabular_rlhf.ledger import LEDGER
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.page import fragments
from tabular_rlhf.page.numbers import fixed

COMMITTED = Path(__file__).parent.parent / "figures" / "page.html"
P_REF = (0.3, 0.7 * 0.3, 0.7 * 0.7)
"""Silence, one knock, two knocks: the reference knocks with probability 0.7."""


@cache
def today() -> dict[str, Any]:
    return page.compute()


@cache
def committed() -> str:
    return COMMITTED.read_text(encoding="utf-8")


def near(printed: str, x: float, slack: float = 0.51) -> bool:
    """Whether a number is printed as it should be: within half a unit of the last digit."""
    digits = len(printed.partition("e")[0].partition(".")[2])
    return abs(float(printed) - x) <= slack * 10.0**-digits * 10.0 ** float(printed.partition("e")[2] or 0) + 1e-12


def divergence(p: Any, q: Any) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def tilted(p_ref: Any, r: Any, beta: float) -> tuple[list[float], float]:
    weights = [q * math.exp(x / beta) for q, x in zip(p_ref, r, strict=True)]
    Z = math.fsum(weights)
    return [w / Z for w in weights], Z


def memoryless(k: float) -> list[float]:
    return [1 - k, k * (1 - k), k * k]


# ---------------------------------------------------------------------------------------------------- 1 tilt


def scan(target: list[float], cells: int = 2400) -> list[tuple[float, float]]:
    """The local minima of KL(p_k, target) over a fine grid of log-odds of k, from -24 to 24: (k, value), best first."""
    odds = [48.0 * i / cells - 24.0 for i in range(cells + 1)]
    pairs = [(1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))) for x in odds]
    values = [divergence((stop, k * stop, k * k), target) for k, stop in pairs]
    found = [(pairs[i][0], values[i]) for i in range(1, cells) if values[i - 1] > values[i] <= values[i + 1]]
    return sorted(found, key=lambda m: m[1])


def test_it_opens_with_two_modes() -> None:
    t = today()["tilt"]
    assert t["p_ref"] == pytest.approx(P_REF, abs=1e-15)
    i, j, k = t["start"]
    r = (0.0, float(t["reward"][k]), float(t["reward"][j]))
    assert len(scan(tilted(P_REF, r, float(t["beta"][i]))[0])) == 2


# ---------------------------------------------------------------------------------------------------- 3 flags

Q, R = (0.5, 0.3, 0.2), (0.0, 0.6, 1.0)
H: dict[str, Any] = {
    "k1": (lambda L: L, lambda L: 1.0),
    "k2": (lambda L: L * L / 2, lambda L: L),
    "k3": (lambda L: math.exp(-L) - 1 + L, lambda L: 1 - math.exp(-L)),
    "abs": (abs, lambda L: math.copysign(1.0, L)),
    "k3-inverted": (lambda L: math.exp(L) - 1 - L, lambda L: math.exp(L) - 1),
}
H |= {"k1-straight-through": (H["k1"][0], H["k2"][1]), "k3-straight-through": (H["k3"][0], H["k2"][1])}
H = {name: H.get(name, (e.oracle, lambda L, h=e.oracle: (h(L + 1e-5) - h(L - 1e-5)) / 2e-5)) for name, e in ESTIMATORS.items()}
"""h(L) and the slope that is differentiated, from the papers; of others, from the record's own plain equation."""


def push(estimator: str, placement: str, beta: float, p: list[float]) -> list[float]:
    """The expected update of a softmax policy in its logits: grad E[r] - beta times the flag's."""
    h, slope = H[estimator]
    L = [math.log(a / b) for a, b in zip(p, Q, strict=True)]
    score_weight = [x - (beta * h(l) if placement != "loss" else 0.0) for x, l in zip(R, L, strict=True)]
    pathwise = [-(beta * slope(l) if placement != "reward" else 0.0) for l in L]
    total = [a + b for a, b in zip(score_weight, pathwise, strict=True)]
    mean = math.fsum(a * b for a, b in zip(p, total, strict=True))
    return [a * (b - mean) for a, b in zip(p, total, strict=True)]


def flag_cells() -> list[tuple[str, str, float, dict[str, Any], dict[str, Any]]]:
    f = today()["flags"]
    return [
        (e, place, float(b), f["cells"][i][j][n], f["best"][n])
        for (i, e), (j, place), (n, b) in product(*map(enumerate, (f["estimator"], f["placement"], f["beta"])))
    ]


def test_every_flag_ends_where_its_own_update_moves_nothing() -> None:
    """Only differences of logits count; a response that has vanished may be pushed down for ever."""
    assert len(flag_cells()) == len(ESTIMATORS) * 3 * 3
    for e, place, beta, cell, _ in flag_cells():
        p = [max(float(x), 1e-9) for x in cell["p"]]
        p = [x / math.fsum(p) for x in p]
        at_corner = e == "abs" and place != "reward" and min(abs(a - b) for a, b in zip(p, Q, strict=True)) < 2e-3
        if e != "full" and not at_corner:  # where |L| has its corner there is no slope to vanish
            update = push(e, place, beta, p)
            live = [u for u, x in zip(update, p, strict=True) if x > 1e-3]
            assert max(live) - min(live) < 2.5e-3, (e, place, beta, cell["p"])
            assert max(update) < min(live) + 2.5e-3, (e, place, beta, cell["p"])  # what has vanished is not called back


def test_flags_with_a_closed_form_end_there() -> None:
    gibbs = {("k1", "reward"), ("k1", "ratio"), ("k2", "loss"), ("k3", "ratio"), ("k1-straight-through", "loss")}
    gibbs |= {("k1-straight-through", "reward"), ("k3-straight-through", "loss"), ("full", "loss"), ("full", "ratio")}
    for e, place, beta, cell, best in flag_cells():
        p, Z = tilted(Q, R, beta)
        assert all(near(a, b) for a, b in zip(best["p"], p, strict=True))
        assert near(best["reward"], math.fsum(a * b for a, b in zip(p, R, strict=True)))
        assert near(best["kl"], divergence(p, Q))
        assert near(cell["bias"], float(cell["mean"]) - divergence(p, Q), 1.1)
        arrives = cell["p"] == best["p"]
        assert arrives == ((e, place) in gibbs), (e, place, beta)
        assert (cell["mark"] == "✓") == arrives
        assert arrives == (cell["regret"] == "0.0000")
        end = [float(x) for x in cell["p"]]
        J = math.fsum(a * b for a, b in zip(end, R, strict=True)) - beta * divergence(end, Q)
        assert abs(float(cell["regret"]) - (beta * math.log(Z) - J)) < 1.5e-3
    assert [today()["flags"]["cells"][2][0][1]["p"], today()["flags"]["beta"][1]] == [say_all(rational_optimum(0.4)), "0.4"]


def rational_optimum(beta: float) -> list[float]:
    """k3 in the loss descends KL(ref, pi): its optimum is beta p_ref/(lam - r), lam found by halving."""
    low, high = 1.0 + 1e-12, 10.0
    for _ in range(200):
        lam = (low + high) / 2
        total = math.fsum(beta * q / (lam - r) for q, r in zip(Q, R, strict=True))
        low, high = (lam, high) if total > 1 else (low, lam)
    return [beta * q / (low - r) for q, r in zip(Q, R, strict=True)]


def say_all(p: list[float]) -> list[str]:
    return [fixed(x) for x in p]


def test_the_estimates_are_moments_under_the_optimum() -> None:
    for e, _, beta, cell, _ in flag_cells():
        if e != "full":
            p, _ = tilted(Q, R, beta)
            h = [H[e][0](math.log(a / b)) for a, b in zip(p, Q, strict=True)]
            mean = math.fsum(a * x for a, x in zip(p, h, strict=True))
            assert near(cell["mean"], mean), (e, beta)
            assert near(cell["std"], math.sqrt(math.fsum(a * (x - mean) ** 2 for a, x in zip(p, h, strict=True))))


def test_every_path_begins_at_the_reference_and_ends_at_or_near_its_destination() -> None:
    for e, place, beta, cell, _ in flag_cells():
        assert cell["path"][0] == ["0.500", "0.300", "0.200"]
        assert all(abs(math.fsum(map(float, p)) - 1) < 2.1e-3 for p in cell["path"])
        gap = max(abs(float(a) - float(b)) for a, b in zip(cell["path"][-1], cell["p"], strict=True))
        assert gap < (0.03 if e in ("abs", "k3-inverted") else 2e-3), (e, place, beta, gap)  # on an edge, flows are slow


# ---------------------------------------------------------------------------------------------------- 4 the zoo


def loss_cells() -> list[tuple[str, float, dict[str, Any]]]:
    z = today()["zoo"]
    return [(name, float(c), z["cells"][i][j]) for (i, name), (j, c) in product(enumerate(z["loss"]), enumerate(z["share"]))]


def by_oracle(name: str, c: float, D: float) -> float:
    """The loss of the pair from the registry's equation in plain `math`: two responses of one token, p_ref one half each."""
    loss = LOSSES[name]
    p, q = -math.log1p(math.exp(-D)), -math.log1p(math.exp(D))
    given: dict[str, float] = {"beta": 1.0, "tau": 1.0, "width": 0.0, "len_w": 1.0, "len_l": 1.0, **loss.defaults}
    names = loss.oracle.__code__.co_varnames[: loss.oracle.__code__.co_argcount]

    def one(p: float, q: float) -> float:
        known = {**given, "p": p, "q": q, "a": p + math.log(2), "b": q + math.log(2), "p0": p, "q0": q}
        return loss.oracle(**{n: known[n] for n in names})

    return c * one(p, q) + ((1 - c) * one(q, p) if c < 1 else 0.0)


def test_every_loss_at_every_margin_is_its_equation() -> None:
    margins = [float(D) for D in today()["zoo"]["margin"]]
    assert [len(margins), margins[0], margins[-1], len(loss_cells())] == [33, -4.0, 4.0, 6 * len(LOSSES)]
    tried = 0
    for name, c, cell in loss_cells():
        if not LOSSES[name].frozen:
            tried += 1
            for D, printed in zip(margins, cell["value"], strict=True):
                assert near(printed, by_oracle(name, c, D)), (name, c, D)
    assert tried >= 6 * 20


def test_slopes_are_those_of_the_curves() -> None:
    margins = [float(D) for D in today()["zoo"]["margin"]]
    for name, c, cell in loss_cells():
        loss = LOSSES[name]
        holds_a_weight = bool({"p0", "q0"} & set(loss.needs))
        if not loss.frozen and not loss.kinks and not holds_a_weight:
            for D, printed in zip(margins, cell["slope"], strict=True):
                by_difference = (by_oracle(name, c, D + 1e-4) - by_oracle(name, c, D - 1e-4)) / 2e-4
                assert abs(float(printed) - by_difference) < 5.1e-5 + 1e-5, (name, c, D)


def test_where_losses_rest() -> None:
    logit = {c: math.log(c / (1 - c)) for c in (0.5, 0.6, 0.7, 0.8, 0.9)}
    for name, c, cell in loss_cells():
        if name in ("dpo", "cpo", "wpo"):
            assert near(cell["best"], logit[c]) if c < 1 else cell["best"] == "inf"
        if name == "ipo":
            assert near(cell["best"], (2 * c - 1) / 2)
        if name == "cdpo":  # labels smoothed by 0.1
            smooth = 0.9 * c + 0.1 * (1 - c)
            assert near(cell["best"], math.log(smooth / (1 - smooth)))
        free = not LOSSES[name].frozen and not {"p0", "q0"} & set(LOSSES[name].needs)
        if cell["words"] == "reached" and "convex" in LOSSES[name].traits and free:
            assert by_oracle(name, c, float(cell["best"])) <= min(map(float, cell["value"])) + 6e-5, (name, c)
        assert (cell["best"] in ("inf", "-inf")) == cell["words"].startswith("never reached")


# ---------------------------------------------------------------------------------------------------- 5 the derivation


def test_the_derivation_holds_and_every_wrong_line_breaks_at_its_place() -> None:
    d = today()["derivation"]
    assert len(d["choice"]) == len(d["cells"]) >= 5
    assert all(step["ok"] is not False for step in d["cells"][0]["steps"])
    p, _ = tilted(P_REF, (0.0, -2.0, 0.0), 0.5)
    last = dict(d["cells"][0]["steps"][-1]["value"])
    assert [last[name] for name in ("silence", "one knock", "two knocks")] == say_all(p)
    for k, label, cell in list(zip(d["at"], d["choice"], d["cells"], strict=True))[1:]:
        assert label.startswith(f"line {k}: ")
        assert [step["ok"] for step in cell["steps"]] == [None, *[True] * (k - 2), False]
        assert cell["steps"][-1]["value"] != d["cells"][0]["steps"][k - 1]["value"]
        assert f"Line {k} does not follow" in cell["end"]


# ---------------------------------------------------------------------------------------------------- the file


class Tags(HTMLParser):
    """Every tag with its attributes; raises where an element is closed that was not open."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


def test_the_committed_page_is_todays() -> None:
    assert page.check(committed(), today()) == []


def test_the_same_data_make_the_same_bytes() -> None:
    text = page.build(today())
    assert text == page.build(copy.deepcopy(today()))
    assert "</" not in page.DATA.findall(text)[0]  # nothing in the data ends the element that holds them
    assert page.embedded(text) == json.loads(json.dumps(today()))
    assert len(text.encode()) < 1_000_000


def test_the_file_is_well_formed_and_asks_for_nothing() -> None:
    text = committed()
    assert "http" not in text.replace("https", "http").lower()
    assert not re.search(r"\bsrc=|@import|url\(|fetch\(|XMLHttpRequest|import\s*\(|WebSocket|{{", text)
    found = Tags(text)
    assert found.open == []
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] or "" for tag, a in found.tags if tag in ("a", "link")]
    assert all(link == "data:," or (link[0] == "#" and link[1:] in ids) for link in links)
    labeled = {a["for"] for tag, a in found.tags if tag == "label"}
    controls = [a["id"] for tag, a in found.tags if tag in ("input", "select")]
    assert len(controls) == 25
    assert set(controls) == labeled


def test_every_section_says_what_it_shows() -> None:
    for section, slugs in fragments.SHOWS.items():
        part = committed().partition(f'<section id="{section}"')[2].partition("</section>")[0]
        assert '<p class="lead">' in part
        assert re.findall(r'href="#claim-([a-z0-9-]+)"', part) == list(slugs)
        assert all(slug in LEDGER for slug in slugs)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_in_light_and_dark() -> None:
    css = (page.HERE / "page.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)]
    assert [len(s) for s in schemes] == [10, 10]
    for s in schemes:
        for ground in ("paper", "wash"):
            for text in ("ink", "soft", "link"):
                assert contrast(s[text], s[ground]) >= 4.5, (text, ground)
        for drawn in ("blue", "orange", "green", "edge"):  # what is not text needs 3 to 1
            assert contrast(s[drawn], s["paper"]) >= 3.0, drawn
    assert contrast("#000000", "#ffffff") == 21.0


# ---------------------------------------------------------------------------------------------------- the check


def test_a_changed_page_is_found() -> None:
    good = committed()
    moved = good.replace('"best":"0.8473"', '"best":"0.8474"', 1)
    assert moved != good
    assert page.check(moved, today()) == []  # one unit of the last digit: another machine's rounding
    wrong = page.check(good.replace('"best":"0.8473"', '"best":"0.8573"', 1), today())
    assert len(wrong) == 1
    assert wrong[0].startswith("data.zoo.cells")
    (text,) = page.check(good.replace("Walking past the best policy</h1>", "Walking past a policy</h1>", 1), today())
    assert "Walking past a policy" in text
    assert "lines beside the data" in page.check(good + "more\n", today())[-1]
    with pytest.raises(InputError, match="a page must hold its data as JSON"):
        _ = page.check("<html></html>", today())


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(page, "compute", today)
    out = tmp_path / "page.html"
    assert main(["page", "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    assert out.read_bytes() == page.build(today()).encode()
    assert main(["page", "--check", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: holds\n"
    _ = out.write_text(out.read_text(encoding="utf-8").replace("as a table</h2>", "as tables</h2>"), encoding="utf-8")
    assert main(["page", "--check", str(out)]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert main(["page", "--out", str(tmp_path / "nowhere" / "page.html")]) == 2
    assert main(["page", "--check", str(tmp_path / "none.html")]) == 2
    assert "the folder of a file to write must exist" in capsys.readouterr().err
