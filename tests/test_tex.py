"""LaTeX as a line and as MathML: every formula of the package, exact lines, quotients that cannot be misread, refusals with a place."""

from __future__ import annotations

import ast
import math
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tabular_rlhf
from tabular_rlhf.divergences import DIVERGENCES
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import ESTIMATORS
from tabular_rlhf.ledger import LEDGER
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.policy_gradient import ADVANTAGES, AGGREGATIONS
from tabular_rlhf.policy_gradient import LOSSES as POLICY_LOSSES
from tabular_rlhf.tex import html, plain
from tabular_rlhf.tex.read import BUILDERS, DEEPEST
from tabular_rlhf.tex.symbols import LEAVES

REGISTRIES = (LOSSES, ESTIMATORS, ADVANTAGES, AGGREGATIONS, POLICY_LOSSES, DIVERGENCES)
FORMULAS = [row.statement for row in LEDGER.values()] + [r.latex for registry in REGISTRIES for r in registry.values()]

LINES = {
    r"\mathbb{E}_{p}[r] - \beta\,\mathrm{KL}(p, p_{ref})": "E_p[r] - β KL(p, p_ref)",
    r"\arg\max_p\ \mathbb{E}_p[r] = p_{ref}\, e^{r/\beta} / Z": "arg max_p E_p[r] = p_ref e^(r/β)/Z",
    r"\log\frac{p}{p_{ref}}": "log(p/p_ref)",
    r"\frac{a}{b}": "a/b",
    r"\binom{n - 1}{k} q^k": "(n - 1 over k) qᵏ",
    r"\sum_{\tau} p(\tau \mid x)": "Σ_τ p(τ | x)",
    r"\prod_h \pi(a_h \mid s_h)": "Π_h π(a_h | s_h)",
    r"\sum_{h=1}^{H} 1 - (1 - \varepsilon)^h \le \varepsilon H": "Σ_(h=1)^H 1 - (1 - ε)ʰ ≤ ε H",
    r"\mathbb{E}_{x \sim \mu}[\log Z(x)]": "E_(x~μ)[log Z(x)]",
    r"\nabla_\theta J(\theta) = -\nabla_\theta\, \beta": "∇_θ J(θ) = -∇_θ β",
    r"\nabla L \ne \nabla^2 L": "∇L ≠ ∇² L",
    r"\sqrt{n}\,(\hat r - r)": "√n (r̂ - r)",
    r"1/\sqrt{q(1-q)} \ge \sqrt{p(x)}": "1/√(q(1 - q)) ≥ √(p(x))",
    r"\sqrt[3]{x}": "³√x",
    r"x^2 + x_1^{10} + x_i^2 + p^*_\theta + f'(u) + (f')^{-1}": "x² + x₁¹⁰ + x_i² + p*_θ + f'(u) + (f')⁻¹",
    r"A^{\pi'} + e^{-z} + e^{-D} + e^{tf} + n_{ij} + s_{-i} + r_{(k)}": "A^(π') + e⁻ᶻ + e^(-D) + e^(tf) + n_ij + s₋ᵢ + r_(k)",
    r"\mathbb{E}_{p^*}[r] = \mathrm{Var}_{p^*}(r)": "E_p*[r] = Var_p*(r)",
    r"\bar r_{-i} + \tilde x + \hat{xy}": "r̄₋ᵢ + x̃ + hat(xy)",
    r"r \in \{0, 1\}:\quad c_2 = 1": "r ∈ {0, 1}:  c₂ = 1",
    r"\{\beta \log r : \pi \in \Pi\}": "{β log r : π ∈ Π}",
    r"\left( \frac{1}{2} \right)^2 + \Big[ a \Big]": "(1/2)² + [a]",
    r"\beta \to 0: \ p \approx q \qquad \Rightarrow \quad r": "β → 0: p ≈ q   ⇒  r",
    r"\forall x \exists y:\ x \ll y \pm \infty \cup \dots": "∀x ∃y: x ≪ y ± ∞ ∪ …",
    r"A \cap B \subset C \mapsto D \iff E \propto F \cdot G \times H": "A ∩ B ⊂ C ↦ D ⇔ E ∝ F · G × H",
    r"\underbrace{r - b}_{\text{advantage}} \, \overbrace{x}": "(r - b: advantage) x",
    r"\text{the gap at } p \text{ is } 0": "the gap at p is 0",
    r"p_{ref}\text{'s odds}": "p_ref's odds",
    r"\operatorname{supp} p = \mathbf{x} + \mathrm{null\ space}": "supp p = x + null space",
    r"\pi(\cdot \mid s) = -|a| - (-|b|)": "π(· | s) = -|a| - (-|b|)",
    r"J(\hat r)\big|_{\hat r = r} = 0": "J(r̂)|_(r̂=r) = 0",
    r"\mathcal{H}(P) < 1\{\text{not clipped}\}": "ℋ(P) < 1{not clipped}",
    r"\max\!\big(0, a\big) \; \tanh(L m / 2)": "max(0, a) tanh(L m/2)",
}


@pytest.mark.parametrize(("tex", "line"), LINES.items())
def test_lines(tex: str, line: str) -> None:
    assert plain(tex) == line


QUOTIENTS = {
    r"\frac{a}{b} c": "(a/b) c",
    r"c \frac{a}{b}": "c a/b",
    r"2\frac{1}{3}": "2(1/3)",
    r"\frac{a + b}{c d}": "(a + b)/(c d)",
    r"\frac{\frac{a}{b}}{c}": "(a/b)/c",
    r"\frac{a}{\frac{b}{c}}": "a/(b/c)",
    r"\frac{a}{b}/c": "(a/b)/c",
    r"c/\frac{a}{b}": "c/(a/b)",
    r"\frac{1}{ab}": "1/(ab)",
    r"\frac{1}{q(1-q)}": "1/(q(1 - q))",
    r"\frac{p(s)}{p_{ref}(s)}": "p(s)/p_ref(s)",
    r"\frac{d f}{d\beta}": "d f/dβ",
    r"\frac{d}{dt} \log p": "(d/dt) log p",
    r"\frac{\log x}{y}": "(log x)/y",
    r"\frac{1}{G}\sum_i r_i": "(1/G) Σ_i r_i",
    r"\frac{a}{b}^2": "(a/b)²",
    r"\frac{1}{2}(a + b)": "(1/2)(a + b)",
    r"1 - \frac{n-1}{n} + x": "1 - (n - 1)/n + x",
    r"\frac{a}{|b|} |c|": "(a/|b|) |c|",
    r"\frac{a}{(b + c)}": "a/(b + c)",
    r"\frac{a}{(b)(c)}": "a/((b)(c))",
    r"e^{\frac{a}{b}}": "e^(a/b)",
    r"\nabla \frac{a}{b}": "∇(a/b)",
    r"\frac{-a}{b}": "-a/b",
}


@pytest.mark.parametrize(("tex", "line"), QUOTIENTS.items())
def test_quotients_have_the_brackets_that_they_need(tex: str, line: str) -> None:
    assert plain(tex) == line


@st.composite
def arithmetic(draw: st.DrawFn, deep: int = 3, *, alone: bool = True) -> tuple[str, float]:
    """A formula of numbers with its value, which is computed apart from any text; `alone` where no sign stands beside it."""
    if deep == 0:
        n = draw(st.integers(2, 9))
        return str(n), float(n)
    shape = draw(st.sampled_from(["fraction", "bracket"] + ["plus", "minus", "over"] * alone))
    inner = shape in {"fraction", "bracket"}
    (a, x), (b, y) = (draw(arithmetic(draw(st.integers(0, deep - 1)), alone=inner)) for _ in range(2))
    if shape in {"fraction", "over"}:
        assume(abs(y) > 1e-6)
    return {
        "fraction": lambda: (rf"\frac{{{a}}}{{{b}}}", x / y),
        "bracket": lambda: (rf"\left({a}\right)", x),
        "plus": lambda: (f"{a} + {b}", x + y),
        "minus": lambda: (f"{a} - {b}", x - y),
        "over": lambda: (f"{a}/{b}", x / y),
    }[shape]()


@given(arithmetic())
def test_a_line_means_what_the_formula_means(formula: tuple[str, float]) -> None:
    """Python, which knows nothing of LaTeX, reads the line and finds the same number."""
    tex, value = formula
    assert math.isclose(eval(plain(tex)), value, rel_tol=1e-9, abs_tol=1e-12), plain(tex)


def letters(text: str) -> Counter[str]:
    """What a text says but for layout: letters, digits and signs, whatever their style."""
    drawn = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    same = str.maketrans({"−": "-", "∗": "*", "∑": "Σ", "∏": "Π", "∣": "|", "∼": "~", "⟺": "⇔", "⊤": "T", "ϕ": "φ", "ϵ": "ε", "′": "'"})
    return Counter(c for c in drawn.translate(same) if (c.isalnum() or c in "=<>+-*|~'") and not unicodedata.combining(c))


@pytest.mark.parametrize("tex", FORMULAS)
def test_every_formula_of_the_package_converts_in_both_ways(tex: str) -> None:
    line, drawn = plain(tex), ET.fromstring(html(tex))
    page = "".join(drawn.itertext())
    for text in (line, page):
        assert not set(text) & set("\\$")
        assert text.count("{") == tex.count(r"\{")
        assert text.count("}") == tex.count(r"\}")
        assert "\n" not in text
    assert letters(line.replace(" over ", " ")) == letters(page)  # of a binomial, which is drawn by place
    assert "ref" not in tex or "ref" in page
    assert line == line.strip()
    assert not re.search(r"\( | \)| ,|\[ | ;", line)


def labels() -> list[str]:
    """What stands between dollars in the strings of the figures, with 1 for whatever a string fills in."""
    found = []
    for path in sorted((Path(tabular_rlhf.__file__).parent / "figures").glob("*.py")):
        tree = ast.parse(path.read_text())
        filled = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        parts = {id(part) for node in filled for part in ast.walk(node) if part is not node}
        texts = ["".join(v.value if isinstance(v, ast.Constant) else "1" for v in node.values) for node in filled]
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts]
        texts += [node.value for node in constants if isinstance(node.value, str) and "\n" not in node.value]
        found += [math for text in texts for math in re.findall(r"(?<!\\)\$([^$]+)\$", text)]
    return found


def test_every_label_of_the_figures_converts() -> None:
    found = labels()
    assert len(found) > 25
    for tex in found:
        assert letters(plain(tex)) == letters("".join(ET.fromstring(html(tex)).itertext()))
    assert r"\mathrm{KL}(p, p_{\mathrm{ref}})" in found


def test_the_page_is_mathml_that_says_what_is_what() -> None:
    root = ET.fromstring(html(r"\sum_{i=1}^n \frac{x_i^2}{\sqrt{n}} \le \hat r_k + f'"))
    tags = Counter(e.tag for e in root.iter())
    assert root.tag == "span"
    assert {t: tags[t] for t in ("munderover", "mfrac", "msubsup", "msqrt", "mover", "msub")} == dict.fromkeys(
        ("munderover", "mfrac", "msubsup", "msqrt", "mover", "msub"), 1
    )
    assert [e.text for e in root.iter("mn")] == ["1", "2"]
    assert "".join(root.itertext()) == "∑i=1nxi2n≤r^k+f′"
    assert root[0].get("alttext") == "Σ_(i=1)ⁿ x_i²/√n ≤ r̂_k + f'"


def test_a_minus_is_a_sign_or_an_operator_and_a_bar_opens_or_closes() -> None:
    root = ET.fromstring(html("-a - (-b) + |w| - |l|"))
    forms = [(e.text, e.get("form")) for e in root.iter("mo") if e.text in {"−", "|"}]
    assert [f for t, f in forms if t == "−"] == ["prefix", "infix", "prefix", "infix"]
    assert [f for t, f in forms if t == "|"] == ["prefix", "postfix"] * 2


def test_the_power_of_a_bracket_is_that_of_all_that_it_holds() -> None:
    root = ET.fromstring(html(r"2 \Big(a - f(b)^2\Big)^3"))
    assert ["".join(e.itertext()) for e in root.iter("msup")] == ["(a−f(b)2)3", "(b)2"]
    assert plain(r"\log(x)^2 + 2 \Big(a - f(b)^2\Big)^3 + c)^2") == "log(x)² + 2 (a - f(b)²)³ + c)²"
    nested = ET.fromstring(html("(a (b) c)^2"))
    assert ["".join(e.itertext()) for e in nested.iter("msup")] == ["(a(b)c)2"]


def test_clauses_are_formulas_of_their_own_and_words_are_words() -> None:
    root = ET.fromstring(html(r"a = b, \qquad \text{the gap at } p \text{ is}: \ 0"))
    assert [m.get("alttext") for m in root.iter("math")] == ["a = b,", "p", "0"]
    assert " ".join("".join(root.itertext()).split()) == "a=b, the gap at p is: 0"
    assert (
        len(list(ET.fromstring(html(r"a = b, \quad c = d, \ e = f")).iter("math"))) == 2
    )  # a wide space ends a formula, a narrow one does not


def test_what_is_special_in_html_is_escaped() -> None:
    shown = html(r"\text{<b> \& \"q} < x \texttt{a>b}".replace(r"\"", '"'))
    assert "<b>" not in shown
    assert "".join(ET.fromstring(shown).itertext()).replace(" ", "") == '<b>&"q<xa>b'
    assert "http" not in shown
    assert "<script" not in shown


REFUSED = {
    r"\frac{a}{b": (8, "closed"),
    "a}": (1, "opened"),
    "a^": (2, r"\^ must have an argument"),
    "^2": (0, "base"),
    "x_": (2, "_ must have an argument"),
    r"\, ^2": (3, "base"),
    "x^2^3": (3, "one script on each side"),
    r"a + \foo{b}": (4, r"\\foo"),
    r"\frac{a}": (8, "frac must have an argument"),
    r"\left( a": (5, "closed"),
    r"\big x": (5, "bracket"),
    "a $b$": (2, r"\$"),
    r"\begin{cases}": (0, r"\\begin"),
    r"\text{a $b$}": (5, "plain words"),
    r"\text a": (6, "braces"),
    "a \\": (2, "command"),
    "a é & b": (4, "letters"),
    "{" * (DEEPEST + 1): (DEEPEST, "deep"),
    r"\hat" * 60 + "x": (DEEPEST * 4, "deep"),
}


@pytest.mark.parametrize(("tex", "told"), REFUSED.items())
def test_malformed_formulas_are_refused_with_their_place(tex: str, told: tuple[int, str]) -> None:
    place, why = told
    for write in (plain, html):
        with pytest.raises(InputError, match=why) as caught:
            write(tex)
        assert f"at character {place} of" in str(caught.value)


def test_every_command_draws_in_both_ways() -> None:
    for name in LEAVES:
        tex = f"a \\{name} b"
        assert len(plain(tex)) >= 3
        assert ET.fromstring(html(tex)).tag == "span"
    assert not set(LEAVES) & set(BUILDERS)


PIECES = (
    [f"\\{name} " for name in [*LEAVES, *BUILDERS, "right", "foo"]] + list("{}[]()^_'|/.,:;!+-*=<>$&#~ abcx0123\\") + ["π", "\n", "ref"]
)


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_nothing_crashes_and_both_writers_agree_on_what_is_a_formula(tex: str) -> None:
    try:
        line = plain(tex)
    except InputError:
        with pytest.raises(InputError):
            html(tex)
        return
    assert letters(line) <= letters("".join(ET.fromstring(html(tex)).itertext()) + "hatbartildewidehatoverlinedotvecdot" * 25)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for write in (plain, html):
        try:
            assert isinstance(write(text), str)
        except InputError as e:
            assert "at character" in str(e)  # noqa: PT017
