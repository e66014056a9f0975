"""What a formula means: its value on generated worlds is that of a plain-`math` walk over its tree; and what is said is read again."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.autodiff import grad
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula import Formula, compile, read, say, statement
from tabular_rlhf.formula.scopes import Varied
from tabular_rlhf.formula.tree import Node, walk
from tabular_rlhf.ledger.worlds import everywhere, gaps, generic
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World, generated_worlds, random_world
from tests import formula_oracle as oracle

# ---------------------------------------------------------------------------------------------------- formulas, generated

LAWS = ("p", "p_ref", "p_star")
R = (  # numbers for each response; {R} another one, {P} one for each prompt
    *("r", "r(x, tau)", "f", "log(p/p_ref)", "p_ref/p", "p(tau)", "{R} + {R}", "{R} - {R}", "{R}*{R}", "-{R}", "beta*{R}", "{R}*{P}"),
    *(
        "sigma({R})",
        "abs({R})",
        "({R})^2",
        "exp(r/beta)",
        "max({R}, 0)",
        "min(1, {R})",
        "clip({R}, -1, 1/2)",
        "1[{R} <= {P}]",
        "({R})/(1 + abs({R}))",
    ),
    *(
        "sum_h log(pi(a_h | s_h))",
        "sum_h (r_token(s_h, a_h))^2*{T}",
        "p_ref(r <= r(tau))",
        "p(r < r(tau))",
        "prod_h pi(a_h | s_h)",
        "pi_ref(y | x)",
    ),
    *("sum_{tau'} p(tau')*abs(r(tau) - r(tau'))", "lengths(tau)", "-log(sigma({R}))", "sum_{tau'} P(tau > tau')*p_ref(tau')"),
)
P = (
    *(
        "E_p[{R}]",
        "E_p_ref[{R}]",
        "E_{p_star}[{R}]",
        "E_{tau ~ p}[{R}]",
        "sum_tau p(tau)*{R}",
        "sum_tau p*({R})",
        "KL(p, p_ref)",
        "KL(p_ref, p)",
    ),
    *(
        "KL(p, p_star)",
        "H(p)",
        "H(p_ref)",
        "Var_p({R})",
        "Cov_p({R}, {R})",
        "log(sum_tau p_ref*exp(r/beta))",
        "max_tau r(tau)",
        "Z(x)",
        "{P}*{P}",
        "{P} - {P}",
    ),
    *(
        "sum_s d_pi(s)*sum_a pi(a | s)*{T}",
        "log(E_{p_ref}[exp(r/beta)])",
        "sum_{h=1}^{H} h*{P}",
        "V(x)",
    ),
    *(
        "sum_s sum_a (sum_{tau ni s + a} p(tau)*{R})",
        "beta*log(Z)",
        "sum_{tau: r(tau) > 0} p(tau)",
        "sum_{h=0}^{H} beta^h*({P})",
        "E_{tau ~ p, tau' ~ p_ref}[1]",
    ),
)
T = (
    "pi(a_h | s_h)",
    "log(pi(a_h | s_h)/pi_ref(a_h | s_h))",
    "d_pi(s_h)",
    "r_token(s_h, a_h)",
    "Q(s_h, a_h)",
    "V(s_h)",
    "p(s_h)",
    "p(s_h + a_h)",
)
SCALAR = ("E_mu[{P}]", "sum_x mu(x)*({P})", "E_{x ~ mu, tau ~ p}[{R}]", "E_mu E_p[{R}]")


def formula(rng: np.random.Generator, kind: tuple[str, ...], deep: int, times: bool = False) -> str:
    """A formula of a kind, in plain typing, with others of its kinds inside."""
    simple = [f for f in kind if "{R}" not in f and "{P}" not in f and "{T}" not in f]
    text = str(rng.choice(kind if deep > 0 or not simple else simple))
    for slot, other in (("{R}", R), ("{P}", P)):
        while slot in text:
            text = text.replace(slot, f"({formula(rng, other, deep - 1)})", 1)
    while "{T}" in text:
        token = str(rng.choice(T))
        text = text.replace("{T}", f"({token if 'a_h' in text else token.replace('_h', '')})", 1)
    return text


FORMULAS = sorted({formula(np.random.default_rng([k, seed]), kind, 3) for k, kind in enumerate((R, P, SCALAR)) for seed in range(90)})
FORMULAS = [f for f in FORMULAS if "E_{tau ~ p, tau'" not in f]


# ---------------------------------------------------------------------------------------------------- worlds, small


def small_worlds() -> list[tuple[World, Scope]]:
    found = []
    for k, (P_, V, H, eos) in enumerate(itertools.product((1, 2), (1, 2, 3), (1, 2), (False, True))):
        if eos and V == 1 and H == 2:
            continue
        rng = np.random.default_rng([5, k])
        world = random_world(rng=rng, V=V, H=H, P=P_, eos=eos, beta=(0.7, 2.5)[k % 2], forbidden=0.4 * (k % 3 == 0))
        world = world.with_reward(np.round(world.r * 2) / 2)  # ties
        found.append((world, Scope(world, k)))
    return found


def oracle_world(scope: Scope) -> tuple[oracle.World, list[int], list[int]]:
    """The same world in dictionaries, and where the package keeps each response and state."""
    mdp = scope.world.mdp
    w = oracle.World(mdp.V, mdp.H, mdp.eos is not None, mdp.mu.tolist(), scope["beta"])
    rows = {tuple(int(t) for t in row if t >= 0): k for k, row in enumerate(mdp.tokens())}
    states = {tuple(int(t) for t in row if t >= 0): k for k, row in enumerate(mdp.state_tokens())}
    responses, prefixes = [rows[tau] for tau in w.responses], [states[s] for s in w.states]
    for name in ("r", "f", "p", "p_ref", "p_star"):
        w.tables[name] = (
            ("x", "tau"),
            {(x, t): float(scope[name][x, k]) for x in range(mdp.P) for t, k in zip(w.responses, responses, strict=True)},
        )
    for name in ("pi", "pi_ref", "r_token", "Q_soft"):
        w.tables[name] = (
            ("x", "s", "a"),
            {
                (x, s, a): float(scope[name][x, k, a])
                for x in range(mdp.P)
                for s, k in zip(w.states, prefixes, strict=True)
                for a in range(mdp.V)
            },
        )
    for name in ("d_pi", "V_soft"):
        w.tables[name] = (
            ("x", "s"),
            {(x, s): float(scope[name][x, k]) for x in range(mdp.P) for s, k in zip(w.states, prefixes, strict=True)},
        )
    w.tables["Q"] = w.tables["Q_soft"]
    w.tables["lengths"] = ("tau",), {(tau,): float(len(tau)) for tau in w.responses}
    w.tables["mu"] = ("x",), {(x,): mu for x, mu in enumerate(w.mu)}
    w.tables["Z"] = ("x",), {(x,): float(np.exp(scope["log_Z"][x])) for x in range(mdp.P)}
    w.tables["beta"], w.tables["H"] = ((), {(): w.beta}), ((), {(): w.H})
    r = w.tables["r"][1]
    w.tables["P_beats"] = (
        None,
        {(x, t, u): 1 / (1 + math.exp(r[x, u] - r[x, t])) for x in range(mdp.P) for t in w.responses for u in w.responses},
    )
    return w, responses, prefixes


class Walk(oracle.Walker):
    """The walker, with V(x) the value of the first state."""

    def do_at(self, node: Node, place: oracle.Place) -> float:
        head, *given = node.kids
        if head.value == "V":
            table = self.world.tables["V_soft"][1]
            state = () if given[0].value == "x" else self.read(given[0], place)
            return float(table[place["x"], state])
        if any(g.value == "s_0" or (g.op == "add" and g.kids[0].value == "s_0") for g in given):
            place = {**place, "s_0": ()}
        return super().do_at(node, place)

    def holds(self, node: Node, place: oracle.Place) -> bool:
        return super().holds(node, {**place, "s_0": ()})


WORLDS = small_worlds()
ORACLES = [(Walk(oracle_world(scope)[0]), oracle_world(scope)[1:]) for _, scope in WORLDS]


def by_hand(tree: Node, axes: tuple[str, ...], k: int) -> np.ndarray:
    walker, (responses, _) = ORACLES[k]
    P_, w = len(walker.world.mu), walker.world
    if axes == ():
        return np.array(walker(tree, {}))
    if axes == ("x",):
        return np.array([walker(tree, {"x": x}) for x in range(P_)])
    table = np.zeros((P_, len(responses)))
    for x, (tau, place) in itertools.product(range(P_), zip(w.responses, responses, strict=True)):
        table[x, place] = walker(tree, {"x": x, "tau": tau})
    return table if axes == ("x", "tau") else table[0]


@pytest.mark.parametrize("part", range(6))
def test_a_formula_is_worth_what_a_walk_over_its_tree_gives(part: int) -> None:
    """Alignment of axes, masks, laws and sums over the tree, against loops that know none of them: to 1e-9 of the largest term."""
    for n, text in enumerate(FORMULAS):
        if n % 6 != part:
            continue
        tree = read(text)
        made = compile(tree, text=text)
        for k, (_, scope) in enumerate(WORLDS):
            if (n + k) % 4 and k % 3:  # every formula on a third of the worlds, forbidden tokens always among them
                continue
            found, expected = np.asarray(made(scope), float), by_hand(tree, made.axes, k)
            same = np.isclose(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True) | (np.abs(expected) > 1e200)
            assert same.all(), f"{text} on world {k}: {found} for {expected}"


@pytest.mark.parametrize("latex", [False, True])
def test_what_is_said_is_read_again(latex: bool) -> None:
    """read(say(tree)) == tree, for what is generated and for what the book prints."""
    trees = [read(text) for text in FORMULAS]
    for derivation in DERIVATIONS.values():
        for line in derivation.lines:
            try:
                trees.append(statement(line.tex).value)
            except InputError:
                continue
    assert len(trees) > 500
    for tree in trees:
        text = say(tree, latex=latex)
        assert read(text) == tree, text


def test_a_marked_place_is_shown() -> None:
    """Every node can be marked; without the marks the text is the same."""
    for text in FORMULAS[::9]:
        tree = read(text)
        for path, _ in walk(tree):
            marked = say(tree, mark=path)
            assert (marked.count(">>"), marked.count("<<")) in ((0, 0), (1, 1))


# ---------------------------------------------------------------------------------------------------- derivatives


def smooth(text: str) -> bool:
    return not any(word in text for word in ("1[", "max", "min", "clip", "abs", "p_star", "sum_{tau:", "(r <", "log(p/", "p_ref/p", "^2"))


def test_a_formula_is_differentiated() -> None:
    """The compiled closure through the gradient core against central differences, in the policy's logits; forbidden tokens too."""
    tried = 0
    for n, text in enumerate(FORMULAS):
        made = compile(read(text), text=text)
        if made.axes not in ((), ("x",)) or not smooth(text) or n % 3:
            continue
        for _, scope in WORLDS[n % 5 :: 7]:
            logits = scope["logits"]

            def total(x: Any, made: Any = made, scope: Any = scope) -> Any:
                return np.sum(made(Varied(scope, {"logits": x})))

            slope = grad(total)(logits)
            for index in list(np.ndindex(logits.shape))[:: max(1, logits.size // 3)]:
                if not np.isfinite(logits[index]):
                    assert slope[index] == 0
                    continue
                step = np.zeros(logits.shape)
                step[index] = 1e-5
                expected = (total(logits + step) - total(logits - step)) / 2e-5
                assert abs(slope[index] - expected) <= 1e-5 * max(1.0, abs(expected), abs(float(total(logits)))), text
                tried += 1
    assert tried > 60


def test_nabla_and_d_of_a_letter() -> None:
    """nabla is in all logits, d/dz moves what depends on z: the optimum on beta, the value on r."""
    world = random_world(rng=np.random.default_rng(3), V=2, H=2, P=2, beta=0.7)
    scope = Scope(world, 3)
    score = Formula(r"\nabla \log p(\tau)").on(scope)
    assert np.allclose(score, scope["score"])
    inner = Formula(r"\langle \nabla \log p(y), \nabla \log p(y') \rangle").on(scope)
    assert np.allclose(inner, np.einsum("xnysa,xmysa->xnm", scope["score"], scope["score"]))
    along = Formula(r"\langle \nabla \log p(y), v \rangle", v="direction").on(scope)
    assert np.allclose(along, scope["score_v"])
    with pytest.raises(InputError, match="must be of gradients"):
        Formula(r"\langle r(y), r(y') \rangle").on(scope)
    slope = Formula(r"\frac{d}{d\beta} \mathbb{E}_{p^*}[r]").on(world)
    step = 1e-5
    ends = [Formula(r"\mathbb{E}_{p^*}[r]").on(world.at(world.beta + h)) for h in (step, -step)]
    assert np.allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6)
    assert np.allclose(Formula(r"\frac{\partial V(x)}{\partial r(\tau)}", V="value").on(scope), scope["p_star"])
    off = Formula(r"\frac{\partial}{\partial p(\tau)} \sum_{\tau'} p(\tau') \log\frac{p(\tau')}{p_{ref}(\tau')}").on(scope)
    assert np.allclose(off, np.log(scope["p"] / scope["p_ref"]) + 1)


def test_the_behavior_policy_is_held() -> None:
    """nabla E_old[p/p_old r] = nabla E_p[r]: the ratio moves, the law of the data does not."""
    scope = Scope(random_world(rng=np.random.default_rng(3), V=2, H=2, P=2, beta=0.7), 3)
    slope = Formula(r"\nabla \mathbb{E}_{x \sim \mu, y \sim \pi_{old}}\left[\frac{p(y)}{p_{old}(y)} r(y)\right]").on(scope)
    assert np.allclose(slope, Formula(r"\nabla \mathbb{E}[r]").on(scope), atol=1e-14)
    assert np.max(np.abs(slope)) > 1e-3


def test_a_binomial_sum() -> None:
    """sum_k C(n, k) z^k = (1 + z)^n, in LaTeX and typed plainly."""
    world = random_world(rng=np.random.default_rng(3), V=2, H=1, P=1, beta=0.7)
    for text in (r"\sum_{k=0}^{n} \binom{n}{k} \beta^k", "sum_{k=0}^{n} binom(n, k)*beta^k"):
        assert Formula(text, n=5).on(world) == pytest.approx(1.7**5, rel=1e-14)


def test_every_world_of_the_book() -> None:
    """J is log Z less a divergence, wherever the ledger looks: beta from 1/64 to 64, ties, forbidden tokens."""
    left, right = (compile(read(t)) for t in ("E_p[r - beta*log(p/p_ref)]", "beta*log(Z) - beta*KL(p, p_star)"))
    for scope in everywhere(0):
        a, b = left(scope), right(scope)
        assert np.allclose(a, b, atol=1e-9 * max(1.0, np.abs(scope["r"]).max(), scope["beta"]))


def test_a_letter_bound_to_its_own_name_is_the_symbol_of_that_name() -> None:
    world = random_world(rng=np.random.default_rng(3), V=3, H=2)
    assert compile(read("V"), {"V": "V"})(Scope(world, 0)) == 3
    assert compile(read("V")).axes == ("x", "s")


def test_a_quotient_of_what_overflows_is_taken_in_logarithms() -> None:
    scope = Scope(random_world(rng=np.random.default_rng(3), V=3, H=2).at(1e-5), 0)
    assert scope["log_Z"].max() > 709  # e^709 is the largest that a float holds
    np.testing.assert_allclose(compile(read("p_ref*exp(r/beta)/Z"))(scope), scope["p_star"], atol=1e-9)


def test_a_sum_over_a_range_counts_a_number_as_often_and_refuses_a_table() -> None:
    scope = Scope(random_world(rng=np.random.default_rng(3), V=3, H=2), 0)
    assert compile(read("sum_{h=1}^{5} beta"))(scope) == pytest.approx(5 * scope["beta"])
    assert compile(read("prod_{h=1}^{H} 1/V"), {"V": "V"})(scope) == pytest.approx(1 / 9)
    for ignored in (r"\sum_{h=1}^{H} \log \pi(a \mid s)", "sum_{h=1}^{H} r"):
        with pytest.raises(InputError, match="a sum must be over what occurs in it"):
            compile(read(ignored))


def test_means_given_a_state_are_had_of_a_large_world() -> None:
    """Up the tree, and not by a table of every response in every state."""
    world = random_world(rng=np.random.default_rng(4), V=2, H=14, eos=False)
    scope = Scope(world, 0)
    mean, through = compile(read("E_p[r | s]")), compile(read("sum_a pi(a | s)*E_p[r | s, a]"))
    assert mean(scope).shape == (1, 2**14 - 1)
    np.testing.assert_allclose(mean(scope)[0, 0], scope["E_r"][0], atol=1e-12)
    np.testing.assert_allclose(mean(scope), through(scope), atol=1e-12)


def test_speed_is_that_of_the_arithmetic() -> None:
    """A compiled formula asks the scope and NumPy no more often than the lambda would: counted, not timed."""

    class Counting:
        def __init__(self, scope: Any) -> None:
            self.scope, self.count = scope, 0

        def __getitem__(self, name: str) -> Any:
            self.count += 1
            return self.scope[name]

    scope = Counting(Scope(generated_worlds(1, rng=np.random.default_rng(0))[0], 0))
    compile(read("E_p[r - beta*log(p/p_ref)]"))(scope)
    assert scope.count <= 5


@pytest.mark.parametrize("scope", [generic(0)[1], generic(0)[3], *gaps(0)[::3]])
@pytest.mark.parametrize(("extreme", "f", "end"), [("max", np.max, -np.inf), ("min", np.min, np.inf)])
def test_an_extreme_is_over_what_its_condition_says(scope: Scope, extreme: str, f: Any, end: float) -> None:
    """The condition below a max decides what counts, and is not read over."""
    wins, scores = scope["wins_ij"], scope["scores"]
    of = scores[:, :, None] - scores[:, None, :]
    for text, holds in (("w_{ij} > 0", wins > 0), ("w_{ij} \\le 1", wins <= 1), ("i \\ne j", ~np.eye(wins.shape[1], dtype=bool)[None])):
        tree = read(rf"\{extreme}_{{i, j: {text}}} (\hat r_i - \hat r_j)")
        found = compile(tree, {"w": "wins_ij"})(scope)
        assert found == pytest.approx(f(np.where(holds, of, end), axis=(1, 2)))


def test_a_primed_function_is_a_letter_that_may_be_defined() -> None:
    scope = generic(0)[1]
    found = compile(read(r"\sigma'(r), \quad \sigma'(z) = \frac{d}{dz} \sigma(z)"))(scope)
    assert found == pytest.approx(compile(read(r"\sigma(r)\, \sigma(-r)"))(scope))


@pytest.mark.parametrize(
    "text",
    [
        r"\frac{\partial}{\partial r} \beta \log Z",
        r"\frac{\partial}{\partial r(\tau)} \beta \cdot V(x)",
        r"\frac{d}{d\beta} \log Z \cdot \beta",
        r"2\, \frac{d}{dt} \mathbb{E}_p[r]/t",
        r"\nabla \beta \mathrm{KL}",
        r"\nabla 2 \log \pi(a \mid s)",
        r"\nabla_\theta r(\tau)\, p(\tau)",
        r"\mathbb{E}[\nabla \eta \cdot J_x]",
    ],
)
def test_an_operator_on_a_factor_that_stands_still_is_refused_where_the_term_goes_on(text: str) -> None:
    """It would be 0 in silence, and what it is meant of would stand outside."""
    with pytest.raises(InputError, match="takes one factor"):
        read(text)


def test_an_operator_on_what_is_written_under_it_is_read() -> None:
    scope = generic(0)[1]
    inside = compile(read(r"\frac{\partial\, \beta\log Z}{\partial r(\tau)}"))(scope)
    assert inside == pytest.approx(scope["p_star"])
    for text in (r"\frac{\partial}{\partial r(\tau)} (\beta \log Z)", r"\beta\, \frac{\partial}{\partial r(\tau)} \log Z"):
        assert compile(read(text))(scope) == pytest.approx(inside)
    assert read(r"\nabla \pi(a \mid s)\, r(s, a)").op == "mul"
    assert read(r"\frac{1}{\sigma(t)} \cdot \frac{d}{dt} t^2 \beta").op == "mul"


@pytest.mark.parametrize("scope", [generic(0)[1], generic(0)[3], gaps(0)[6]])
def test_a_context_is_the_states_that_share_its_row(scope: Scope) -> None:
    """pi(a | c), n(c, a), d(c): each is what the states of the context add up to, or share."""
    tied, mass = scope["tied"], np.zeros(scope["theta_tied"].shape)
    for s, c in enumerate(tied.context):
        assert compile(read(r"\pi(a \mid c)", letters={"pi"}), {"pi": "pi_tied"})(scope)[c] == pytest.approx(
            np.exp(scope["log_pi_tied"][0, s])
        )
        mass[c] += np.tensordot(scope["mu"], scope["mdp"].subtree_sum(scope["p_star"])[:, s], 1)
    assert compile(read("n_star(c, a)"))(scope) == pytest.approx(mass)
    assert compile(read(r"\sum_a n_star(c, a) - d_{p^*}(c)"))(scope) == pytest.approx(0.0, abs=1e-12)
    kept = compile(read(r"\sum_{s: c(s) = c} \mathbb{E}_\mu[d_{p^*}(s)\, \pi^*(a \mid s)]"), {"c": "context"})(scope)
    assert kept == pytest.approx(mass)
    rows = compile(read(r"\mathrm{KL}(\hat\pi(\cdot \mid c), \pi(\cdot \mid c))"), {"pi": "pi_tied"})(scope)
    at_states = compile(read(r"\mathrm{KL}(\hat\pi(\cdot \mid s), \pi(\cdot \mid s))"), {"pi": "pi_tied"})(scope)
    assert rows[tied.context] == pytest.approx(at_states[0])
    with pytest.raises(InputError, match="must be of contexts"):
        compile(read(r"\pi_{ref}(a \mid c)"))


def test_a_tree_is_found_again_however_it_was_read_and_wherever_it_was_sent() -> None:
    """A hash is kept with its node, and words hash differently in another process: it is not sent along."""
    tree, again = read(r"\beta \log Z"), read(r"\beta\,\log(Z)")
    assert (tree == again, hash(tree) == hash(again)) == (True, True)
    sent = pickle.loads(pickle.dumps(tree))
    assert "_hash" not in vars(sent)
    assert sent == tree
