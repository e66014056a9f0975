"""The page's exact core, run in a browser without its page, against this package: 2,000 random states in one call.

States are made here; the core answers all of them at once, as one list of numbers a state.
"""

from __future__ import annotations

import itertools
import math
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tabular_rlhf import page
from tabular_rlhf.derivations import DERIVATIONS
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators import Flag, analyse
from tabular_rlhf.estimators.flows import field, steps_of
from tabular_rlhf.formula import Formula
from tabular_rlhf.formula.examples import EXAMPLES
from tabular_rlhf.gibbs import log_gibbs, regret, solve
from tabular_rlhf.ledger.record import LEDGER
from tabular_rlhf.logspace import kl
from tabular_rlhf.losses.evaluate import gradient, value
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.page import lexicon
from tabular_rlhf.policy_gradient.bernstein import coefficients
from tabular_rlhf.preferences.comparisons import Wins
from tabular_rlhf.preferences.laws import Pairs
from tabular_rlhf.preferences.likelihood import fit
from tabular_rlhf.selection import best_of_n, best_of_n_kl
from tabular_rlhf.world import World
from tests.test_formula_read import REFUSED, SAME, damaged

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = {"k1": "k1", "k2": "k2", "k3": "k3", "abs": "abs", "k3i": "k3-inverted"}
"""The core's names of estimators, and the package's."""
LOSSES = ("dpo", "ipo", "slic-reference")
STATES = 2000

RUN = """([source, states]) => {
  const C = eval(source), parts = (s) => {
    const lp = s.lp, lq = s.lq, n = lp.length, flag = `${s.flag} ${s.place}`, jac = lp.map(() => Array(n).fill(0));
    const one = { star: C.gibbs(lq, s.r, s.beta), value: C.value(lq, s.r, s.beta), J: C.J(lp, lq, s.r, s.beta), kl: C.kl(lp, lq),
      back: C.kl(lq, lp), regret: C.regret(lp, lq, s.r, s.beta), field: C.field(flag, lp, lq, s.r, s.beta, jac),
      optimum: C.optimum(flag, lq, s.r, s.beta), best: C.bestOfN(lq, s.r, s.n), bt: C.bt(s.wins, s.prior),
      margin: C.margin(lp, lq, 0, 1), weight: C.groupWeight(s.u, s.G, s.divide) };
    one.loss = C.LOSS[s.loss].value(one.margin, s.beta);
    one.push = C.LOSS[s.loss].push(one.margin, s.beta);
    one.step = C.pairStep(s.loss, lp, lq, s.beta, 0, 1, s.eta);
    if (one.optimum) one.optimum = one.optimum.map(Math.exp);
    if (one.bt) delete one.bt.cov;
    if (s.train) one.trained = C.dpoTrain(s.wins, lq, s.beta, 1e8);
    return one;
  };
  return states.map(parts);
}"""


def law(rng: np.random.Generator, n: int) -> np.ndarray:
    p = np.maximum(rng.dirichlet(np.full(n, rng.choice([0.5, 1.0, 4.0]))), 1e-4)
    return np.log(p / p.sum())


@cache
def states() -> list[dict[str, Any]]:
    """Two to six answers, beta from 0.05 to 5, rewards on scales from 0.5 to 2, every flag and loss in turn."""
    rng, found = np.random.default_rng(7), []
    for k in range(STATES):
        n = int(rng.integers(2, 7))
        lq = law(rng, n)
        near = lq + 10 ** rng.uniform(-6, -2) * rng.normal(size=n)  # every fifth policy is close to its reference
        wins = rng.integers(0, 5, (n, n)) * (1 - np.eye(n, dtype=int))
        found.append(
            {
                "lp": (law(rng, n) if k % 5 else near - np.logaddexp.reduce(near)).tolist(),
                "lq": lq.tolist(),
                "r": (rng.choice([0.5, 1.0, 2.0]) * rng.normal(size=n)).tolist(),
                "beta": float(math.exp(rng.uniform(math.log(0.05), math.log(5.0)))),
                "flag": [*FLAGS][k % 5],
                "place": ("loss", "reward")[k // 5 % 2],
                "loss": LOSSES[k % 3],
                "eta": float(rng.uniform(0, 20)),
                "n": float(1000 ** rng.uniform()),
                "wins": wins.tolist(),
                "prior": None if k % 2 else float(rng.uniform(0.1, 10.0)),
                "u": float(rng.uniform(0.01, 0.99)),
                "G": int(rng.integers(2, 17)),
                "divide": bool(k % 4 < 2),
                "train": k % 20 == 1,
            }
        )
    return found


def world(s: dict[str, Any]) -> World:
    n = len(s["r"])
    mdp = TokenMDP(tuple("abcdef"[:n]), 1)
    return World(mdp, np.array(s["lq"]).reshape(1, 1, n), np.array([s["r"]]), s["beta"])


@cache
def answers(browser: Browser) -> list[dict[str, Any]]:
    tab = browser.new_page()
    found: list[dict[str, Any]] = tab.evaluate(RUN, [page.core(), states()])
    tab.close()
    return found


def close(seen: Any, want: Any, where: Any, tolerance: float = 1e-9) -> None:
    a, b = np.asarray(seen, dtype=float), np.asarray(want, dtype=float)
    assert np.all(np.abs(a - b) <= tolerance * np.maximum(1.0, np.abs(b))), (where, a, b)


def test_laws_and_regret_are_pythons(browser: Browser) -> None:
    for s, one in zip(states(), answers(browser), strict=True):
        w, lp = world(s), np.array([s["lp"]])
        g = solve(w)
        close(one["star"], g.log_p[0], s)
        close([one["value"], one["kl"], one["back"]], [g.value, kl(lp, w.log_p_ref)[0], kl(w.log_p_ref, lp)[0]], s)
        exact = float(kl(lp, w.log_p_ref)[0])
        assert abs(one["kl"] - exact) <= 1e-9 * exact + 1e-17, (s, one["kl"], exact)  # to nine digits, however near the two are
        close([one["regret"], one["J"]], [regret(lp, w), g.value - regret(lp, w)], s)


def test_flags_push_as_pythons_do_and_rest_where_they_rest(browser: Browser) -> None:
    known = 0
    for s, one in zip(states(), answers(browser), strict=True):
        w, flag = world(s), Flag(FLAGS[s["flag"]], s["place"], "sequence")
        lp = np.array([s["lp"]])
        close(one["field"], np.ravel(field(flag, w, lp[None], width=1e-3)), s)
        if one["optimum"] is not None and known < 60:  # an analysis takes milliseconds
            known += 1
            report = analyse(flag, w, solve(w).log_pi)
            if report.optimum is not None:
                close(one["optimum"], np.exp(report.optimum.log_p[0]), s)


def test_pairs_are_pythons(browser: Browser) -> None:
    pair = Pairs(np.zeros(1, dtype=np.intp), np.array([0]), np.array([1]), np.ones(1), None)
    for s, one in zip(states(), answers(browser), strict=True):
        w, lp = world(s), np.array([s["lp"]])
        if s["loss"] == "slic-reference" and abs(1 - s["beta"] * one["margin"]) < 1e-3:
            continue  # at the kink
        given = {"tau": s["beta"]} if s["loss"] == "ipo" else {}
        close(one["loss"], value(s["loss"], w, lp, pair, **given), s)
        pull = gradient(s["loss"], w, lp, pair, **given)[0]
        close([one["push"], -one["push"]], -pull[:2], s)
        after = lp[0] - s["eta"] * pull
        close(one["step"], after - np.logaddexp.reduce(after), s)


def test_rewards_of_clicks_are_pythons(browser: Browser) -> None:
    finite = trained = 0
    for s, one in zip(states(), answers(browser), strict=True):
        wins = Wins(np.array(s["wins"], dtype=float), tuple("abcdef"[: len(s["r"])]))
        try:
            want = fit(wins, prior=s["prior"])
        except InputError:
            assert one["bt"] is None, s
            continue
        finite += 1
        close(one["bt"]["r"], want.r, s)
        if s["train"]:  # without a prior, in the long run
            trained += 1
            close(np.exp(one["trained"]), np.exp(log_gibbs(np.array([s["lq"]]), np.atleast_2d(want.r), s["beta"])[0]), s)
        close(one["bt"]["dev"], want.deviance, s)
        inverse = np.linalg.inv(want.information) if s["prior"] else np.linalg.pinv(want.information)
        close(one["bt"]["se"], np.sqrt(np.diag(inverse)), s)
    assert finite > STATES / 2
    assert trained > 40


def test_the_best_of_n_and_groups_are_pythons(browser: Browser) -> None:
    for s, one in zip(states(), answers(browser), strict=True):
        log_q, r = np.array([s["lq"]]), np.array([s["r"]])
        close(np.exp(one["best"]["lp"]), np.exp(best_of_n(log_q, r, s["n"])[0]), s)
        close(one["best"]["kl"], best_of_n_kl(log_q, r, s["n"])[0], s)
    for s, one in list(zip(states(), answers(browser), strict=True))[::20]:
        G, u = s["G"], s["u"]
        table = [(G - m) / G / (math.sqrt(m * (G - m)) / G if s["divide"] else 1.0) for m in range(1, G)]
        basis = [math.comb(G - 2, j) * u**j * (1 - u) ** (G - 2 - j) for j in range(G - 1)]
        close(one["weight"], math.fsum(b * float(c) for b, c in zip(basis, coefficients(table), strict=True)), s)


FLOW = """([source, states, rtol]) => {
  const C = eval(source);
  return states.map((s) => C.flow(`${s.flag} ${s.place}`, s.lq, s.r, s.beta, [0, 0.1, 1, 10], { rtol }).map((lp) => lp.map(Math.exp)));
}"""


def test_flows_are_pythons_and_a_tighter_tolerance_is_nearer(browser: Browser) -> None:
    few = [s for s in states() if len(s["r"]) <= 4 and s["flag"] != "abs"][:60]
    tab = browser.new_page()
    for rtol, bound in ((1e-6, 3e-6), (1e-10, 1e-8)):
        for s, path in zip(few, tab.evaluate(FLOW, [page.core(), few, rtol]), strict=True):
            flag = Flag(FLAGS[s["flag"]], s["place"], "sequence")
            want = [np.exp(lp).ravel() for _, lp in steps_of(flag, world(s), np.array([0.0, 0.1, 1.0, 10.0]), rtol=1e-11)]
            assert np.max(np.abs(np.array(path) - np.array(want))) < bound, s
    tab.close()


LINES = (
    "J(p_star) - J(p) = beta*KL(p, p_star)",
    "p_star = p_ref exp(r/beta)/Z",
    "E_p[r] - beta*KL(p, p_ref)",
    "beta*log(Z) = V",
    "E_{p_ref}[exp(r/beta)] = Z",
    "sum_y p_ref(y)*exp(r(y)/beta)",
    "E_p[log(p/p_ref)] = KL(p, p_ref)",
    "r - beta*log(p/p_ref)",
    "H(p) + 2*H(p_ref)^2",
    "-r^2/2 - 3",
)
"""Lines that both readers read."""
READ = """([source, states, lines]) => {
  const C = eval(source);
  return states.map((s) => lines.map((t) => C.readLine(t).map((side) => side(C.lineWorld(s.lp, s.lq, s.r, s.beta)))));
}"""


BOTH = """([source, state, texts]) => {
  const C = eval(source);
  return texts.map((t) => {
    try { return C.readLine(t).map((side) => side(C.lineWorld(state.lp, state.lq, state.r, state.beta))); }
    catch (e) { return e.message; }
  });
}"""
"""Every text as the page reads it: its sides, or why not."""


def spelled() -> list[str]:
    """Every spelling of every letter, bare and at its index, typed plainly and in LaTeX, in sums, means, divergences and powers."""
    table, found = lexicon.lines(), list[str]()
    for key, letter in table["keys"].items():
        latex = re.sub(
            r"(?<![A-Za-z])(pi|beta|theta|phi|lambda)(?![A-Za-z])",
            r"\\\1",
            re.sub(r"_([A-Za-z]{2,})", r"_{\1}", key.replace("_pi_theta", "_{pi_theta}")),
        )
        of_tokens = letter.startswith("pi")
        for word in (key, latex):
            if not of_tokens:  # bare, a policy is of tokens, and the page is of answers
                found += [word, f"2*{word}", f"{word}^2", f"{word} + 1"]
            if letter not in ("beta", "Z", "V"):
                for index in ("(y)", "(y|x)", "(tau)", r"(y \mid x)"):
                    found += [f"{word}{index}", f"r*{word}{index}", f"sum_y {word}{index}", f"\\sum_\\tau {word}{index}"]
            if letter in ("p", "p_ref", "p_star", "pi", "pi_ref", "pi_star"):
                other = "pi_ref" if of_tokens else "p_ref"
                found += [f"E_{{{word}}}[r]", f"E_{{y ~ {word}}}[r(x, y)]", f"KL({word}, {other})", f"J({word})"]
                found += [rf"\mathbb{{E}}_{{y \sim {word}(\cdot|x)}}\left[ r(x, y) \right]", rf"D_{{KL}}({word} \| {other})"]
    return found


def crossed() -> list[str]:
    """Every pair of letters, with every sign between them."""
    letters = [*dict.fromkeys(lexicon.lines()["keys"].values()), "2", "E_p[r]"]
    pairs = list(itertools.product(letters, repeat=2))
    found = [f"{a}{sign}{b}" for a, b in pairs for sign in ("+", " - ", "*", "/", " ", "^")]
    found += [f"{head}({a}{sign}{b})" for head in ("log", "sum_y") for a, b in pairs for sign in "/"]
    return [*found, *(f"E_p[{a} - {b}]" for a, b in pairs)]


def corpus() -> list[str]:
    """What is printed and what is typed: derivations, the notation's examples, spellings, and all of it damaged."""
    printed = [line.tex for d in DERIVATIONS.values() for line in d.lines] + [clause for row in LEDGER.values() for clause in row.clauses]
    typed = (
        [text for pair in SAME for text in pair] + [text for rows in EXAMPLES.values() for text, _ in rows] + [text for text, *_ in REFUSED]
    )
    whole = [*printed, *typed, *LINES, *spelled(), *crossed()]
    rng = np.random.default_rng(4)
    return [*whole, *(damaged(str(text), rng) for text in rng.choice([*LINES, *spelled(), *typed], 500))]


def test_what_the_page_reads_python_reads_and_means_the_same(browser: Browser) -> None:
    """One corpus through both readers: the page may refuse more, and never reads anything otherwise."""
    s, texts = states()[3], corpus()
    tab = browser.new_page()
    found = tab.evaluate(BOTH, [page.core(), s, texts])
    tab.close()
    w, read = world(s), 0
    for text, sides in zip(texts, found, strict=True):
        if isinstance(sides, str):
            continue
        parts = [text] if len(sides) == 1 else text.split("=")
        for part, seen in zip(parts, sides, strict=True):
            want, entries = by_python(part, w, s), np.ravel(np.array(seen, dtype=float))
            if isinstance(want, str):  # what is no number is shown as none
                assert "defined everywhere" in want, (text, want)
                assert not np.all(np.isfinite(entries)), text
            elif np.all(np.isfinite(want)):
                close(entries + 0 * np.ravel(want), np.ravel(want), text)
        read += 1
    assert read > 1000, read
    unread = [(text, sides) for text, sides in zip(texts, found, strict=True) if isinstance(sides, str) and text in {*LINES, *spelled()}]
    also = [(text, told) for text, told in unread if not isinstance(by_python(text, w, s), str)]
    assert also == [], also[:20]


def by_python(text: str, w: World, s: dict[str, Any]) -> Any:
    """What Python's reader computes, or why it refuses."""
    try:
        return Formula(text.strip()).on(w, p=np.exp([s["lp"]]))
    except InputError as e:
        return str(e)


def test_the_reader_of_lines_means_what_pythons_reader_means(browser: Browser) -> None:
    few = states()[:20]
    tab = browser.new_page()
    found = tab.evaluate(READ, [page.core(), few, list(LINES)])
    for s, lines in zip(few, found, strict=True):
        w = world(s)
        for text, sides in zip(LINES, lines, strict=True):
            for part, seen in zip(text.split("="), sides, strict=True):
                want = Formula(part.strip()).on(w, p=np.exp([s["lp"]]))
                close(np.ravel(seen), np.ravel(want), text)
    for wrong in ("E[r]", "p +", "KL(p)", "q", "p ? r", "(p", "p = ", ""):
        told = tab.evaluate("([s, t]) => { try { eval(s).readLine(t); return ''; } catch (e) { return e.message; } }", [page.core(), wrong])
        assert told, wrong
    tab.close()
