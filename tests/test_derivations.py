"""Laws of every derivation: each line follows from the one before on every world, each wrong line is refuted where it stands."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tabular_rlhf.check.question import find
from tabular_rlhf.cli import main
from tabular_rlhf.commands.verify import chosen
from tabular_rlhf.derivations import DERIVATIONS, RELATIONS, Derivation, Line, audit_derivations, derive, execute
from tabular_rlhf.derivations.record import add
from tabular_rlhf.derivations.text import formulas
from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.printed import Printed
from tabular_rlhf.ledger import LEDGER, worlds
from tabular_rlhf.symbols import SYMBOLS, Scope, parameters
from tabular_rlhf.world import coin, random_world, rational

ASKED = {
    "gibbs-optimum",
    "regret-is-kl",
    "reverse-kl-projection",
    "soft-bellman",
    "reward-inversion",
    "dpo-loss",
    "dpo-gradient",
    "mle-is-forward-kl",
    "bt-saturation",
    "policy-gradient",
    "reward-to-go",
    "kl-estimator-theorem",
    "ppo-ptx-optimum",
    "all-roads",
    "i-projection",
    "m-projection-gap",
    "bt-existence",
    "grpo",
    "best-of-n",
}
"""What the course needs, line by line."""


def test_the_course_has_its_derivations() -> None:
    assert set(DERIVATIONS) >= ASKED
    assert len(DERIVATIONS) >= 30
    assert all(row in LEDGER for d in DERIVATIONS.values() for row in d.rows)


@pytest.mark.parametrize("slug", list(DERIVATIONS))
def test_a_derivation_bears_the_name_of_its_row(slug: str) -> None:
    """The first derivation of a row has its slug; only a second one has a suffix."""
    row = DERIVATIONS[slug].rows[0]
    assert slug == row or (slug.startswith(f"{row}-") and row in DERIVATIONS)


FORMER = [(table, old, record.slug) for table in (LEDGER, DERIVATIONS) for record in table.values() for old in record.formerly]


@pytest.mark.parametrize(("table", "old", "new"), FORMER, ids=lambda x: x if isinstance(x, str) else type(next(iter(x.values()))).__name__)
def test_a_former_name_finds_its_record_and_says_the_present_one(
    table: Any, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = f"the {type(table[new]).__name__.lower()} {old} is now {new}"
    asked = old if table is LEDGER else f"{old}/2"
    with warnings.catch_warnings(record=True) as said:  # one name may be the old one of a row and of a derivation
        warnings.simplefilter("always")
        assert find(asked)[0].slug == new
        assert new in {x.slug for kind in chosen([old], None) for x in kind}
        assert [str(w.message) for w in said].count(told) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["verify", old, "--list"] if table is LEDGER else ["derive", old]) == 0
    shown = capsys.readouterr()
    assert f"FutureWarning: {told}" in shown.err
    assert new in shown.out
    assert old not in table


LAWS = {
    "pi": "log_p p logits log_pi pi d_pi L L_s KL_s KL E_r J_x J score score_rows score_v log_p_w log_p_l rhat_w rhat_l log_ratio ratio",
    "of the tied class": "log_p_tied log_pi_tied theta_tied log_row_tied",
    "of the counts": "log_p_hat log_pi_hat theta_hat d_hat log_row_hat",
    "of a learner": "d_learner",
    "of an expert": "d_expert",
    "of PPO-ptx": "log_p_ptx",
    "of PPO-ptx, with less of the KL": "log_p_ptx_far",
    "of PPO-ptx, without reward": "log_p_ptx_0",
    "pi'": "log_p_2 log_pi_2",
    "of p*'s mean reward": "log_p_level",
    "short of p_ref's support": "log_p_short",
    "p_ref, cut": "log_p_cut log_pi_cut",
    "a player's": "log_q_game",
    "of the behavior": "log_pi_behavior",
    "the data's": "log_D",
    "best of n": "log_p_best_of_n",
    "RLHF's": "p_rlhf",
    "DPO's": "p_dpo",
    "DPO's, log-linear": "p_dpo_linear",
    "the sampler's": "log_p_sampler log_pi_sampler",
    "of REINFORCE without ratios": "p_limit",
    "of the forward penalty": "p_forward",
    "held": "log_p_held",
    "a step on": "log_p_stepped",
    "best": "best",
    "worst": "worst",
    "of DPO": "p_dpo_bt p_dpo_kappa",
    "of IPO": "p_ipo",
    "of the game": "p_eq",
    "of the best draw": "p_drawn_best best_is",
}
"""Laws that are not fixed by the world, and the symbols that are made from each."""
WHOSE = {symbol: law for law, symbols in LAWS.items() for symbol in symbols.split()}
FIXED = {
    "log_p_ref",
    "p_ref",
    "log_pi_ref",
    "pi_ref",
    "d_ref",
    "log_p_ref_w",
    "log_p_ref_l",
    "log_p_star",
    "p_star",
    "log_pi_star",
    "d_star",
}
OF_THE_WORLD = {"p_{ref}", "p^*", r"\pi_{ref}", r"\pi^*"}
LETTER = re.compile(r"(?<![a-zA-Z\\])(?:p|q|\\pi|\\hat\\pi|\\hat p)(?:(?:_|\^)(?:\{[^{}]*\}|\\[a-z]+|.)|')*")


def letters(lines: tuple[Line, ...]) -> dict[str, list[set[str]]]:
    """For every letter of a law (p is p_pi), the laws that its lines are computed from, a set a line (where a line tells)."""
    found: dict[str, list[set[str]]] = {}
    for line in lines:
        if isinstance(line.value, Printed):
            continue  # its letters are what runs, and what is declared of them is printed
        laws = {WHOSE[name] for name in parameters(line.value) if name in WHOSE}
        for letter in {x.replace(r"p_\pi", "p") for x in LETTER.findall(line.tex)} - OF_THE_WORLD if laws else ():
            found.setdefault(letter, []).append(laws)
    return found


def test_every_symbol_of_a_law_is_known_to_be_of_one() -> None:
    laws = {name for name, s in SYMBOLS.items() if s.unit in ("probability", "log-probability") and s.level in ("trajectory", "token")}
    assert laws <= set(WHOSE) | FIXED
    assert set(WHOSE) | FIXED <= set(SYMBOLS)


@pytest.mark.parametrize("slug", list(DERIVATIONS))
def test_one_letter_is_one_law(slug: str) -> None:
    """All lines that write a letter are computed from the law that it stands for."""
    two = {letter: laws for letter, laws in letters(DERIVATIONS[slug].lines).items() if not set.intersection(*laws)}
    assert not two, "lines with the same letter for different laws"


@pytest.mark.parametrize("slug", list(DERIVATIONS))
def test_every_line_follows_and_every_wrong_line_is_refuted_where_it_stands(slug: str) -> None:
    (verdict,) = audit_derivations([DERIVATIONS[slug]], worlds=12, seed=1)
    assert verdict.holds, verdict
    assert all(responses is not None and responses <= 3 for responses in verdict.refuted.values()), verdict.refuted


@pytest.mark.parametrize("slug", list(DERIVATIONS))
def test_every_derivation_is_shown_whole(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "EVALUATIONS", 200)  # that lines follow is a law of its own
    found = derive(slug)
    assert found.holds
    text, page = str(found), found._repr_markdown_()
    assert max(map(len, text.splitlines())) <= 120
    for shown in (text, page, found.html()):
        assert "float64" not in shown
        assert "nan" not in shown.replace("nant", "")
    assert "\\" not in text
    assert page.count("\n| ") >= len(found.steps)
    assert "*" not in re.sub(r"\$[^$]*\$|\*\*|\\\*", "", page), "p* would open italics"
    ET.fromstring(f"<div>{found.html()}</div>")
    data = json.loads(json.dumps(found.json()))
    assert [s["number"] for s in data["steps"]] == list(range(1, len(found.steps) + 1))


@pytest.mark.parametrize("slug", list(DERIVATIONS))
def test_the_reading_stops_at_a_wrong_line(slug: str) -> None:
    """On some world of three responses or fewer a wrong line in the place of a right one breaks, there and not before."""
    derivation = DERIVATIONS[slug]
    k, wrong = next((k, f) for k, line in enumerate(derivation.lines, 1) for f in line.wrong.values())
    wrongly = (*derivation.lines[: k - 1], derivation.lines[k - 1].instead(wrong), *derivation.lines[k:])
    scope = next(s for s in worlds.tiny() if derivation.applies(s) and derivation.step(k, s, wrongly).clear)
    found = derive(slug, scope.world, lines={k: wrong}, seed=scope.seed)
    assert found.broken == k
    assert len(found.steps) == k
    assert f"Line {k} does not follow" in str(found)
    assert "reading stops here" in found._repr_markdown_()


# ---------------------------------------------------------------------------------------------------- relations


def _two(relation: str, first: Callable[..., Any], second: Callable[..., Any], **more: Any) -> Derivation:
    """A derivation whose second line is in question; padding makes it legal."""
    pad = Line("0", "padding", lambda r: 0.0 * np.sum(r), "so")
    wrong = {"one": lambda r: 1.0 + np.sum(r) * 0, "two": lambda r: 2.0 + np.sum(r) * 0}
    lines = (
        Line("a", value=first),
        Line("b", "because", second, relation, **more),
        pad,
        Line("0", "0 is 0", lambda r: np.sum(r) * 0.0, "=", wrong),
    )
    return Derivation("gibbs-optimum-two", "two lines", 4, ("gibbs-optimum",), "a test", lines)


HOLD: list[tuple[str, Callable[..., Any], Callable[..., Any], Callable[..., Any], dict[str, Any]]] = [
    ("=", lambda beta, KL: beta * KL, lambda KL, beta: KL * beta, lambda KL: KL, {}),
    ("<=", lambda J_x: J_x, lambda value: value, lambda J_x: J_x - 1e-3, {}),
    (">=", lambda value: value, lambda J_x: J_x, lambda value: value + 1e-3, {}),
    ("up to a constant", lambda J: J, lambda J, value: J - np.sum(value), lambda J: 2.0 * J, {}),
    ("same gradient", lambda J: J, lambda J: J + 7.0, lambda J: -J, {}),
    ("same maximizer", lambda J: J, lambda J: 3.0 * J + 1.0, lambda E_r, beta, KL, mu: np.sum(mu * (E_r - 2.0 * beta * KL)), {}),
    ("same minimizer", lambda J: -J, lambda J: 1.0 - 2.0 * J, lambda E_r, beta, KL, mu: np.sum(mu * (2.0 * beta * KL - E_r)), {}),
    ("in expectation", lambda mu, E_r: np.sum(mu * E_r), lambda r: r, lambda r: r + 0.5, {"law": "log_p"}),
    (
        "in the limit",
        lambda p_star: p_star,
        lambda p_ref: p_ref,
        lambda p_ref: p_ref**2,
        {"along": ("beta", (1e3, 1e6, 1e9)), "error": 1e-6},
    ),
]


@pytest.mark.parametrize(("relation", "first", "second", "wrong", "more"), HOLD, ids=[h[0] for h in HOLD])
def test_every_relation_holds_where_it_should_and_breaks_where_it_should(
    relation: str, first: Any, second: Any, wrong: Any, more: dict[str, Any]
) -> None:
    for seed in range(3):
        world = random_world(rng=np.random.default_rng(seed), V=3, H=1, P=2, eos=False, beta=0.7)
        scope = Scope(world, seed)
        good, bad = _two(relation, first, second, **more), _two(relation, first, wrong, **more)
        found = good.step(2, scope)
        assert found.gap <= found.allowed
        assert bad.step(2, scope).clear


def test_every_relation_is_tried_above() -> None:
    assert {h[0] for h in HOLD} | {"so"} == set(RELATIONS)


def test_samples_can_break_an_expectation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact means agree; a sampler that is off is noticed."""
    from tabular_rlhf.derivations import lines

    derivation = _two("in expectation", lambda mu, E_r: np.sum(mu * E_r), lambda r: r, law="log_p")
    scope = Scope(rational(), 0)
    assert derivation.step(2, scope).gap < 1e-9
    honest = lines.sample
    monkeypatch.setattr(lines, "sample", lambda world, log_p, n, rng: honest(world, world.log_p_ref, n, rng=rng))
    assert derivation.step(2, scope).gap == np.inf


def test_a_limit_that_is_only_passed_by_is_no_limit() -> None:
    passing = _two("in the limit", lambda beta: beta, lambda beta: beta * 0.0 + 1.0, along=("beta", (1.0, 2.0)), error=0.5)
    assert passing.step(2, Scope(coin(), 0)).gap == np.inf


# ---------------------------------------------------------------------------------------------------- refusals


def test_records_that_make_no_sense_are_refused() -> None:
    good = DERIVATIONS["regret-is-kl"]
    with pytest.raises(InputError, match="name of its own"):
        add(good)
    with pytest.raises(InputError, match="4 to 12 lines"):
        Derivation("gibbs-optimum-x", "x", 4, ("gibbs-optimum",), "x", good.lines[:3])
    with pytest.raises(InputError, match="must have a reason"):
        Derivation("gibbs-optimum-x", "x", 4, ("gibbs-optimum",), "x", (*good.lines, Line("0", value=lambda value: value)))
    with pytest.raises(InputError, match="must be one of ="):
        Derivation("gibbs-optimum-x", "x", 4, ("gibbs-optimum",), "x", (*good.lines, Line("0", "r", lambda value: value, "about")))
    with pytest.raises(InputError, match="names of symbols"):
        Derivation("gibbs-optimum-x", "x", 4, ("gibbs-optimum",), "x", (*good.lines, Line("0", "r", lambda valeu: valeu)))
    with pytest.raises(InputError, match="opens a chain"):
        Derivation(
            "gibbs-optimum-x",
            "x",
            4,
            ("gibbs-optimum",),
            "x",
            (*good.lines, Line("0", "r", lambda value: value, "so", {"w": lambda value: value})),
        )
    with pytest.raises(InputError, match="its law"):
        Derivation("gibbs-optimum-x", "x", 4, ("gibbs-optimum",), "x", (*good.lines, Line("0", "r", lambda value: value, "in expectation")))
    with pytest.raises(InputError, match="along what"):
        Derivation("gibbs-optimum-x", "x", 4, ("gibbs-optimum",), "x", (*good.lines, Line("0", "r", lambda value: value, "in the limit")))


def test_unknown_names_worlds_and_lines_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean regret-is-kl"):
        derive("regret-is-k")
    with pytest.raises(InputError, match="one of the numbers 1 to"):
        derive("regret-is-kl", lines={99: lambda value: value})
    with pytest.raises(InputError, match="use one of coin"):
        derive("gibbs-optimum", "zen")


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["derive"]) == 0
    listed = capsys.readouterr().out
    assert all(slug in listed for slug in DERIVATIONS)
    assert main(["derive", "regret-is-kl", "--world", "coin", "--beta", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "world coin" in out
    assert "Every line follows" in out
    assert main(["derive", "regret-is-kl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True
    assert main(["derive", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["derivations"]) == len(DERIVATIONS)
    assert main(["derive", "no-such"]) == 2
    assert "must be in the table" in capsys.readouterr().err


def test_verify_runs_derivations_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["verify", "regret-is-kl", "--worlds", "2"]) == 0
    out = capsys.readouterr().out
    assert "1 rows" in out
    assert "1 derivations of 6 lines" in out
    good = DERIVATIONS["regret-is-kl"]
    broken = (*good.lines[:4], good.lines[4].instead(lambda value, log_p, log_p_star: value), good.lines[5])
    monkeypatch.setitem(DERIVATIONS, "regret-is-kl", Derivation("regret-is-kl", "t", 4, ("regret-is-kl",), "s", broken))
    assert main(["verify", "regret-is-kl", "--worlds", "2"]) == 1
    out = capsys.readouterr().out
    assert "a line does not follow" in out
    assert "line 5" in out
    assert main(["verify", "regret-is-kl", "--worlds", "2", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["derivations"][0]["holds"] is False


def test_symbols_are_listed_by_level(capsys: pytest.CaptureFixture[str]) -> None:
    from tabular_rlhf.symbols import LEVELS, SYMBOLS

    assert main(["symbols"]) == 0
    out = capsys.readouterr().out
    assert all(f"{level}: " in out for level in LEVELS)
    assert all(name in out for name in SYMBOLS)
    assert main(["symbols", "log_p", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["symbols"]
    assert (found["name"], found["level"], found["drawn"]) == ("log_p", "trajectory", False)
    assert main(["symbols", "log_pp"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["symbols", "log_p", "--level", "pair"]) == 2
    assert "is of level trajectory" in capsys.readouterr().err


def test_a_line_that_holds_by_accident_is_shown_where_it_fails() -> None:
    """On `rational` beta is 1, so a dropped beta shows nothing there."""
    dropped = {4: lambda beta, log_Z, log_p, log_p_star: beta * log_Z - np.sum(np.exp(log_p) * (log_p - log_p_star), axis=1)}
    assert derive("regret-is-kl", "rational", lines=dropped).broken is None
    assert derive("regret-is-kl", lines=dropped).broken == 4
    assert derive("regret-is-kl", lines={2: lambda E_r, beta, KL: E_r - beta * KL}).holds


def test_a_line_that_is_no_line_is_refused() -> None:
    for line in (3.0, lambda value: "a", lambda value: 1 / 0, lambda value: value[99]):
        with pytest.raises(InputError, match=r"line 4|a line must be"):
            derive("regret-is-kl", lines={4: line})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="one of the numbers"):
        derive("regret-is-kl", lines={"4": lambda value: value})  # type: ignore[dict-item]
    assert "another shape" in " ".join(str(derive("regret-is-kl", lines={4: lambda value: np.zeros(7)})).split())


@pytest.mark.parametrize("slug", DERIVATIONS)
def test_reasons_spell_no_symbol_where_formulas_are_set(slug: str) -> None:
    """In a notebook a symbol of a reason is LaTeX, and together the pieces say what the reason says."""
    for line in DERIVATIONS[slug].lines:
        pieces = list(formulas(line.reason))
        said = [words for symbol, words in pieces if not symbol]
        assert not any(re.search(r"\b(beta|lambda|sigma|pi|tau|p_ref)\b(?!_)", words) for words in said), said
        assert all(words in line.reason for words in said)
