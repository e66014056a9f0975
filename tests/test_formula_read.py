"""What is read, in whichever spelling; and what is refused, with its place and a way out, because it could be meant in two ways."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular_rlhf.cli import main
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula import Formula, read, say, statement
from tabular_rlhf.formula.tree import walk
from tabular_rlhf.logspace import kl
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World, random_world, zen_world

WORLD = random_world(rng=np.random.default_rng(2), V=2, H=2, P=2, beta=0.7)

SAME = [
    (r"\beta \log\frac{p}{p_{ref}}", "beta*log(p/p_ref)"),
    (r"2 \arcsin\sqrt{p}", "2*arcsin(sqrt(p))"),
    (r"\mathbb{E}_p\!\left[ r \right]", "E_p[r]"),
    (r"\sum_\tau p\, r", "sum_tau p*r"),
    (r"D_{KL}(p \| q)", "KL(p, q)"),
    (r"\mathbb{D}_{\mathrm{KL}}\left[p\,||\,q\right]", "KL(p, q)"),
    (r"\mathrm{KL}(p \parallel q)", "KLdiv(p, q)"),
    (r"\pi_{\text{ref}}(y \mid x)", r"\pi^{\mathrm{SFT}}(y|x)"),
    (r"\pi_\theta(y|x)", "pi(y | x)"),
    (r"\mathbb{E}_{x\sim\mathcal{D},\, y\sim\pi_\theta(\cdot|x)}[r(x,y)]", "E_{x ~ D, y ~ pi(.|x)}[r(x, y)]"),
    (r"\underset{y\sim\pi}{\mathbb{E}}[r]", "E_{y ~ pi}[r]"),
    (r"\exp\left(\tfrac{1}{\beta} r\right)", "exp(1/beta*r)"),
    (r"\dfrac12 r^2", "1/2*r^2"),
    (r"e^{r/\beta}", "exp(r/beta)"),
    (r"P(y \succ y' \mid x)", "P(y > y')"),
    (r"p^*(y_1 \succ y_2 \mid x)", "P(y_1 > y_2)"),
    (r"\operatorname{Var}_{p}\left(r\right)", "Var_p[r]"),
    (r"\bm{\beta}\, \widehat{r}_w", "beta*r_hat(w)"),
    (r"\lvert y \rvert", "lengths(y)"),
    (r"\newcommand{\ptheta}{\pi_\theta} \newcommand{\given}[2]{#1(#2)} \given{\ptheta}{y|x}", "pi(y | x)"),
    (r"\begin{split} J =& E_p[r] - \\ & \beta KL(p, p_{ref}) \end{split}", "E_p[r] - beta*KL(p, p_ref)"),
    (r"\max\{0, r\}", "max(0, r)"),
    (r"\log^2 p", "log(p)^2"),
    (r"\mathbb{1}[r > 0]", "1[r > 0]"),
    (r"\nabla_\theta \log \pi_\theta(y \mid x)", "nabla(log(pi(y | x)))"),
    (r"β log(π(y|x)/π_ref(y|x))", "beta*log(pi(y | x)/pi_ref(y | x))"),
    ("log_Z", "log(Z)"),
    (r"\sum_{t=1}^{|y|} \log \pi_\theta(y_t \mid x, y_{<t})", r"\sum_{t=1}^{|y|} \log \pi(a_t \mid x, s_t)"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_the_same_formula(one: str, other: str) -> None:
    assert read(one) == read(other)


REFUSED = [
    ("d_pi(s)*V(s)", {"V": "value"}, "every index must mean something: V has none for s, it is over (x)"),
    (r"\sum_s d_\pi(s) V(s)", {"V": "value"}, "every index must mean something"),
    (r"\pi(a \mid x)", {}, "all indices of pi must be written"),
    (r"\beta(\tau)", {}, "every index must mean something: beta has none for tau, it is a number"),
    (r"\sum_s p(\tau)", {}, "a sum must be over what occurs in it"),
    ("sum_tau beta", {}, "a sum must be over what occurs in it"),
    ("sum_a E_p[r]", {}, "a sum must be over what occurs in it"),
    ("r + pi", {}, "letters that stand side by side must be of the same things"),
    ("r*log(pi/pi_ref)", {}, "letters that stand side by side must be of the same things"),
    (r"\log p / p_{ref}", {}, "a logarithm before a slash must show what it is of"),
    ("log p / p_ref", {}, "write log(p/q), or (log p)/q"),
    (r"r / \beta p", {}, "what stands below a slash must be plain"),
    (r"p_\pi_{ref}", {}, "a letter must have one subscript"),
    (r"\pi_{\theta + \eta}(y)", {}, "a subscript must be a name, or indices"),
    ("regert + 1", {}, "a letter must mean something"),
    ("E_t[r]", {}, "a mean over time must say which one it is"),
    ("sum_tau tau*p", {}, "an index must run over numbers to be one"),
    (r"\log_2 p", {}, "a logarithm must be natural"),
    (r"\frac{p}{q", {}, "a bracket { must be closed by }"),
    ("E_p[r", {}, "a bracket [ must be closed by ]"),
    ("r + ", {}, "a formula must go on with a number, a letter or a bracket"),
    ("", {}, "a formula must hold something"),
    (r"r \text{ of the best response}", {}, "words must stand outside a formula"),
    (r"\int_0^1 r", {}, "a command must be one that has a meaning here"),
    (r"\sum r", {}, "a sum must say over what"),
    (r"\sum_{h=1} r", {}, "a range must have an upper end"),
    ("KL(p)", {}, "KL must be of two laws"),
    ("Cov_p(r)", {}, "Cov must be of two numbers"),
    (r"\mathbb{E}_{r}[p]", {}, "a mean must be under a law"),
    ("clip(r, 1)", {}, "clip must have a number and two ends"),
    ("mean(r)", {}, "mean must be over a group"),
    ("P(y > y)", {}, "a comparison must be of two responses"),
    ("max beta", {}, "an extreme must be over an index"),
    ("u where u = 2*u", {}, "a letter must not be defined by itself"),
    ("?", {}, "a formula must be of letters, numbers and signs"),
    ("(" * 400 + "r" + ")" * 400, {}, "a formula must not nest so deep"),
    ("r" * 5000, {}, "a formula must have at most"),
    (r"\sum_{i=2}^{N} r_i", {}, "a range must be all of what it runs through"),
    (r"\frac{1}{G} \sum_{i=1}^{G} r_i", {"G": "2"}, "a range must be all of what it runs through: there are 3, not 1 to 2"),
    ("V(s + a)", {"V": "d_pi"}, "V must be known where a token leads"),
    ("p_{", {}, "a bracket { must be closed"),
    (r"\frac", {}, "a formula must go on with"),
    ("r, r", {}, "what follows a comma"),
    ("r^r^r", {}, "a power of a power must show its brackets"),
    ("sum_{h=1}^{10^9} h", {}, "a range must run over at most 1,000,000 whole numbers"),
    ("sum_{h=0}^{1/2} h", {}, "a range must run over at most"),
    (r"\prod_h \log \pi(a_h | s_h)", {}, "a product must be of what is never negative"),
    (r"\mathbb{E}_{y \sim p(w | x)}[r(y)]", {}, "a law must be at what is drawn from it"),
    (r"\mathbb{E}_{p(y | x, x')}[r(y)]", {}, "a law must be at one index of a kind"),
]


@pytest.mark.parametrize(("text", "bind", "words"), REFUSED)
def test_what_could_mean_two_things_or_nothing_is_refused(text: str, bind: dict[str, str], words: str) -> None:
    """A refusal says what must hold, shows the place, and offers a way out."""
    with pytest.raises(InputError) as caught:
        Formula(text, bind).on(WORLD)
    error = caught.value
    assert words in str(error)
    assert error.remedy
    assert text in ("",) or len(text) > 1000 or ">>" in str(error) or "column" in str(error), str(error)


def test_a_refusal_marks_the_piece() -> None:
    with pytest.raises(InputError, match=r"column 7: got 'regert', in E_p\[r\*>>regert<<\]"):
        Formula("E_p[r*regert]").on(WORLD)


WORDS = ("p", "r", "tau", "s", "a", "E", "1", "KL", "P", "log", r"\sum", r"\frac", r"\quad ", r"\nabla", " where ")
PIECES = (*"()[]{}|_^'=,+-*/<~:", *WORDS)


def damaged(text: str, rng: np.random.Generator) -> str:
    """A text with a few pieces put in, or cut out."""
    for _ in range(rng.integers(1, 4)):
        k = int(rng.integers(0, len(text) + 1))
        text = text[:k] + str(rng.choice(PIECES)) + text[k:] if rng.random() < 0.5 else text[:k] + text[k + int(rng.integers(1, 5)) :]
    return text


def test_whatever_is_typed_is_read_or_refused() -> None:
    """Damaged formulas: in our own words, never an accident; and what is read is said so that it is read again."""
    rng, right = np.random.default_rng(23), 0
    texts = [line.tex for d in DERIVATIONS.values() for line in d.lines] + [one for one, _ in SAME]
    for text in rng.choice(texts, 1500):
        try:
            formula = Formula(damaged(str(text), rng))
            formula.on(WORLD)
        except InputError:
            continue
        right += 1
        for tree in formula.trees:
            assert read(say(tree)) == read(say(tree, latex=True)) == tree
    assert right > 15


def test_a_place_is_kept_of_every_node() -> None:
    """start and end of a node cut its own text out of what was read."""
    text = r"\beta \log\frac{p}{p_{ref}} - \mathbb{E}_p[r]"
    cut = {node.op: text[node.start : node.end] for _, node in walk(read(text))}
    assert cut["div"] == r"\frac{p}{p_{ref}}"
    assert cut["E"] == r"\mathbb{E}_p[r]"
    assert cut["log"] == r"\log\frac{p}{p_{ref}}"


def test_scope_of_sums_means_and_functions() -> None:
    """The habits of print: where a sum ends, what log takes, where the square belongs."""
    assert read("sum_h h*r - h") != read("sum_{h} (h*r) - r")
    assert read(r"\sum_{h=1}^H 1 - (1 - \beta)^h").op == "sum"
    assert read(r"\sum_\tau p(\tau) + 1").op == "add"
    assert read(r"\log p\, r").op == "mul"
    assert read(r"\log \sum_\tau p(\tau)\, r(\tau)").op == "log"
    assert read(r"\mathbb{E}\left( r \right)^2").op == "E"
    assert read(r"\mathbb{E}[r]^2").op == "pow"
    assert read("H(p)").op == "H"
    assert read("H (H + 1)").op == "mul"
    assert read("p(s + a)").op == "at"
    assert read(r"\beta (1 - r)").op == "mul"
    assert read("p_ref(r <= r(tau))").op == "prob"


@given(st.sampled_from("hktum"), st.sampled_from(["(1 - p)", "(1 + p)^2", "(p)"]), st.sampled_from(["p", "e", "(1 - p)"]))
def test_an_exponent_is_no_function_head(k: str, behind: str, base: str) -> None:
    """A letter above takes no bracket that stands behind it, whether it is an index or a function."""
    glued, apart = (rf"\sum_{{{k}=0}}^{{G}} {base}^{power} {behind}" for power in (k, f"{{{k}}}"))
    assert read(glued) == read(apart)
    assert read(rf"{base}^u {behind}, \quad u(z) = z + 1") == read(rf"{base}^{{u}} {behind}, \quad u(z) = z + 1")


@pytest.mark.parametrize("law", ["p", "p_ref", "p_star", "pi", "pi_ref", "pi_star"])
def test_a_law_is_taken_at_its_index(law: str) -> None:
    """p(. | x') is the law of x', and pi(. | s') that of s': a mean under it is a table over x', or s'."""
    scope = Scope(random_world(rng=np.random.default_rng(1), V=2, H=2, P=2), 0)
    weight = np.exp(scope[f"log_{law}"])
    if law.startswith("pi"):
        found = Formula(rf"\mathbb{{E}}_{{a \sim {law}(\cdot | s')}}[Q(s, a)]").on(scope)
        assert np.allclose(found, np.einsum("xta,xsa->xts", weight, scope["Q_soft"]))
    else:
        found = Formula(rf"\mathbb{{E}}_{{y \sim {law}(\cdot | x')}}[r(x, y)]").on(scope)
        assert np.allclose(found, np.einsum("zy,xy->zx", weight, scope["r"]))


def test_two_prompts_have_two_laws() -> None:
    """A mean over two prompts, the laws written at each, is the sum over all pairs of prompts and responses."""
    scope = Scope(random_world(rng=np.random.default_rng(2), V=2, H=1, P=3), 0)
    text = r"\mathbb{E}_{x \sim \mu, y \sim p(\cdot | x), x' \sim \mu, y' \sim p_{ref}(\cdot | x')}\left[ e^{r(x, y) - 2 r(x', y')} \right]"
    mass = [scope["mu"][:, None] * scope[law] for law in ("p", "p_ref")]
    expected = np.sum(mass[0] * np.exp(scope["r"])) * np.sum(mass[1] * np.exp(-2 * scope["r"]))
    assert np.isclose(Formula(text).on(scope), expected)


def test_relations_and_definitions_are_cut() -> None:
    s = statement(r"J_x(p) = \mathbb{E}_p[\rho L] \le 1, \quad \rho = \frac{p}{p_{old}}, \quad (\beta \to 0)")
    assert s.relations == ("=", "<=")
    assert [let.value for let in s.lets] == ["rho"]
    assert [c.relations for c in s.conditions] == [("to",)]
    s = statement("E_p[k3] where k3 = u - 1 - log(u), u = p_ref/p")
    assert [let.value for let in s.used(s.sides[-1])] == ["u", "k_3"]


def test_what_is_computed_from_a_given_table_follows() -> None:
    """Another reward, reference, KL weight or policy moves the optimum, the value, the laws: as in the world that has them."""
    rng = np.random.default_rng(5)
    r = rng.standard_normal(WORLD.r.shape)
    pi = rng.dirichlet(np.ones(2), WORLD.log_ref.shape[:2])
    log_p = WORLD.mdp.path_sum(np.log(pi))
    optimum = Formula("p_star")
    assert np.allclose(optimum.on(WORLD, r=r), optimum.on(WORLD.with_reward(r)))
    assert np.allclose(optimum.on(WORLD, beta=0.3), optimum.on(WORLD.at(0.3)))
    assert np.allclose(optimum.on(WORLD, pi_ref=pi), optimum.on(World(WORLD.mdp, np.log(pi), WORLD.r, WORLD.beta)))
    assert np.allclose(Formula("p").on(WORLD, pi=pi), np.exp(log_p))
    assert np.allclose(Formula(r"\pi_\theta(y|x)").on(WORLD, pi=pi), np.exp(log_p))
    assert np.allclose(Formula("KL(p, p_ref)").on(WORLD, p=np.exp(log_p)), kl(log_p, WORLD.log_p_ref))
    assert np.allclose(Formula("L").on(WORLD, pi=pi), log_p - WORLD.log_p_ref)


def test_what_a_state_leads_to() -> None:
    """V at the end of a response is its reward, a potential 0, and visits are the mass of the response."""
    scope = Scope(WORLD, 0)
    assert np.allclose(Formula("V(s + a)").on(scope), scope["Q_soft"])
    assert np.allclose(Formula("d_pi(s + a)").on(scope), scope["d_pi"][..., None] * scope["pi"])
    along = Formula(r"\sum_h \Phi(s_{h+1}) - \Phi(s_h)").on(scope)
    assert np.allclose(along, -scope["phi"][:, :1])


def test_an_objective_is_a_function_of_a_law() -> None:
    """J(p) is that of p for each prompt, J_x the policy's own, J(theta) its mean over prompts."""
    assert np.allclose(Formula("J(p)").on(WORLD), Formula("J_x").on(WORLD))
    assert np.allclose(Formula("J_x(p_star)").on(WORLD), Formula("beta*log(Z)").on(WORLD))
    assert np.isclose(Formula(r"J(\theta)").on(WORLD), Formula("E_mu[J_x]").on(WORLD))


def test_a_letter_is_bound_and_what_was_assumed_is_told() -> None:
    f = Formula(r"\mathbb{E}_\mu[r]", mu="p_ref")
    assert np.allclose(f.on(WORLD), np.sum(np.exp(WORLD.log_p_ref) * WORLD.r, axis=1))
    assert f.assumed["mu"] == "p_ref"
    g = Formula(r"\max_{\pi_\theta} \mathbb{E}_{x \sim D, y \sim \pi_\theta}[r(x, y)]")
    assert isinstance(g.on(WORLD), float)
    assert "the objective itself" in g.assumed["max pi_theta"]
    assert g._repr_latex_().startswith("$") and "mathbb{E}" in g._repr_html_()  # noqa: PT018


# ---------------------------------------------------------------------------------------------------- the commands


def test_a_formula_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formula", r"\mathbb{E}_p[r] - \beta D_{KL}(p \| p_{ref})", "--world", "fork"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "read as E_{p}[r] - beta*KL(p, p_ref) It is over (x)" in told
    assert "regret-is-kl, line 1" in told
    assert "p: p_pi(tau given x) (drawn)" in told


def test_a_formula_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formula", "r + gamma", "--bind", "gamma=0.5", "--world", "coin", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["axes"], found["value"], found["assumed"]["gamma"]) == (["x", "tau"], [[0.5, 1.5]], "0.5")


@pytest.mark.parametrize("words", [["r +"], ["r", "--bind", "gamma"], ["r", "--world", "nowhere"], ["r + pi"]])
def test_a_formula_that_is_none_is_refused_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formula", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tabular-rlhf formula: ")
    assert told.count("\n") == 1


def test_the_notation_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    """Every example runs, and is read again as it is told."""
    assert main(["formulas", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["formulas"]
    assert len(found) > 25
    for entry in found:
        assert read(entry["read_as"]) == Formula(entry["latex"]).tree
    assert main(["formulas", "means"]) == 0
    assert "MEANS" in capsys.readouterr().out
    assert main(["formulas", "meens"]) == 2


def test_a_formula_that_needs_too_many_numbers_is_refused_before_they_are_made() -> None:
    """Two axes of a million responses each: 10^12 numbers; a mean over one of them needs a million."""
    world = zen_world()
    with pytest.raises(InputError, match=r"at most 50,000,000 numbers at once: .*got a table of 1,25\d,\d{3},\d{3},\d{3}"):
        Formula("r(y) - r(y')").on(world)
    assert np.isfinite(Formula("E_p[r]").on(world)).all()
