"""`tabular-rlhf solve`: every number against an enumeration in plain Python, and the printed page itself.

The oracle here counts, multiplies and sums with the standard library alone; exact numbers must agree to 1e-12 (sums of at
most 40 terms), sampled ones to six exact standard errors at a fixed seed (a chance of 2e-9 each).
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import re
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tabular_rlhf as tr
from tabular_rlhf import gibbs
from tabular_rlhf.cli import main
from tabular_rlhf.losses import LOSSES
from tabular_rlhf.reports.solution import report
from tabular_rlhf.world import coin, long_tail, random_world, zen_world
from tabular_rlhf.worldfile import EXAMPLE, parse_world

TWO = """
name = "two"
vocabulary = ["a", "b", "."]
horizon = 3
eos = "."
beta = 0.7
prompts = ["Praise:", "Blame:"]
mu = [0.75, 0.25]
[reference]
text = "a b\\nb b . a"
order = 1
smoothing = 0.5
[reward]
constant = 0.25
length = -0.2
phrases = { "a b" = 1.5 }
tokens = { b = 0.5 }
function = "rewards:odd"
[reward.prompt."Blame:"]
phrases = { "b b" = -2.0 }
[reference.prompt."Blame:"]
forbid = ["a"]
"""
RULES = """
def odd(text, prompt):
    return 0.1 * (len(text.split()) % 2) + (0.3 if prompt.startswith("P") else 0.0)
"""


# ---------------------------------------------------------------------------------------------------- the oracle

COUNTS = {"": {"a": 2, "b": 1}, "a": {"b": 1, ".": 1}, "b": {"b": 1, ".": 2}}
"""Of the sentences "a b", "b b" and "a", each ended by ".", counted by hand."""


def oracle_pi(prompt: str, said: tuple[str, ...]) -> dict[str, float]:
    """pi_ref: counts of the last word plus one half each over their sum; after "Blame:" uniform on "b" and "."."""
    if prompt == "Blame:":
        return {"b": 0.5, ".": 0.5}
    counts = {w: COUNTS[said[-1] if said else ""].get(w, 0) + 0.5 for w in "ab."}
    return {w: c / sum(counts.values()) for w, c in counts.items()}


def oracle_p_ref(prompt: str, said: tuple[str, ...] = (), p: float = 1.0) -> dict[str, float]:
    """Every possible response and its probability, by walking the tree."""
    if len(said) == 3 or "." in said:
        return {" ".join(said): p}
    found: dict[str, float] = {}
    for w, q in oracle_pi(prompt, said).items():
        found |= oracle_p_ref(prompt, (*said, w), p * q)
    return found


def oracle_reward(prompt: str, text: str) -> float:
    words = text.split()
    pairs = list(itertools.pairwise(words))
    r = 0.25 - 0.2 * len(words) + 1.5 * pairs.count(("a", "b")) + 0.5 * words.count("b") + 0.1 * (len(words) % 2)
    return r + (0.3 if prompt == "Praise:" else -2.0 * pairs.count(("b", "b")))


def oracle_solution(prompt: str, beta: float) -> dict[str, Any]:
    p_ref = oracle_p_ref(prompt)
    r = {t: oracle_reward(prompt, t) for t in p_ref}
    Z = math.fsum(p * math.exp(r[t] / beta) for t, p in p_ref.items())
    p_star = {t: p * math.exp(r[t] / beta) / Z for t, p in p_ref.items()}
    return {
        "p_ref": p_ref,
        "p_star": p_star,
        "r": r,
        "log_Z": math.log(Z),
        "V": beta * math.log(Z),
        "reward_before": math.fsum(p * r[t] for t, p in p_ref.items()),
        "reward_after": math.fsum(p * r[t] for t, p in p_star.items()),
        "kl": math.fsum(p * math.log(p / p_ref[t]) for t, p in p_star.items()),
    }


MU = {"Praise:": 0.75, "Blame:": 0.25}


def oracle_mean(key: str, beta: float = 0.7) -> float:
    return math.fsum(m * oracle_solution(x, beta)[key] for x, m in MU.items())


# ---------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "two.toml").write_text(TWO)
    (folder / "rewards.py").write_text(RULES)
    return folder / "two.toml"


def ask(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a successful command prints; it says nothing else."""
    status = main(["solve", *map(str, words)])
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    return said.out


@pytest.fixture
def found(two: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(ask(capsys, two, "--json", "--top", 9, "--samples", 20_000))
    return answer


def near(cell: dict[str, Any], expected: float) -> None:
    """The exact number is right; the sampled one lies within six standard errors, and z says how far."""
    assert cell["exact"] == pytest.approx(expected, abs=1e-12)
    assert abs(cell["z"]) < 6
    assert cell["sampled"] == pytest.approx(expected, abs=6 * cell["standard_error"] + 1e-12)


# ---------------------------------------------------------------------------------------------------- the numbers


def test_totals_are_the_oracle_s(found: dict[str, Any]) -> None:
    totals = found["totals"]
    for key in ("reward_before", "reward_after", "kl"):
        near(totals[key], oracle_mean(key))
    V, before = oracle_mean("V"), oracle_mean("reward_before")
    assert totals["V"]["exact"] == pytest.approx(V, abs=1e-12)
    assert totals["log_Z"]["exact"] == pytest.approx(oracle_mean("log_Z"), abs=1e-12)
    near(totals["J_after"], V)
    near(totals["J_before"], before)
    near(totals["regret_before"], V - before)
    assert totals["reward_before"]["standard_error"] > 0


def test_standard_errors_are_exact(found: dict[str, Any]) -> None:
    """The variance of one draw of r under mu p_ref, from its definition."""
    mean = oracle_mean("reward_before")
    square = math.fsum(MU[x] * p * oracle_reward(x, t) ** 2 for x in MU for t, p in oracle_p_ref(x).items())
    cell = found["totals"]["reward_before"]
    assert cell["standard_error"] == pytest.approx(math.sqrt((square - mean**2) / 20_000), rel=1e-9)
    assert cell["z"] == pytest.approx((cell["sampled"] - cell["exact"]) / cell["standard_error"], rel=1e-9)


def test_prompts_are_the_oracle_s(found: dict[str, Any]) -> None:
    assert [row["prompt"] for row in found["prompts"]] == list(MU)
    for row in found["prompts"]:
        solution = oracle_solution(row["prompt"], 0.7)
        for key in ("log_Z", "V", "reward_before", "reward_after", "kl"):
            near(row[key], solution[key])
        for part in ("exact", "sampled", "standard_error"):
            assert row["V"][part] == pytest.approx(0.7 * row["log_Z"][part], rel=1e-12), "V = beta log Z, and so is its error"


def test_first_tokens_are_the_oracle_s(found: dict[str, Any]) -> None:
    assert len(found["first_tokens"]) == 5  # "a" is forbidden after "Blame:"
    for row in found["first_tokens"]:
        s = oracle_solution(row["prompt"], 0.7)
        through = [t for t in s["p_ref"] if t.startswith(row["token"])]
        pi_ref, pi = (math.fsum(s[law][t] for t in through) for law in ("p_ref", "p_star"))
        near(row["p_ref"], pi_ref)
        near(row["p_star"], pi)
        near(row["value"], 0.7 * math.log(math.fsum(s["p_ref"][t] / pi_ref * math.exp(s["r"][t] / 0.7) for t in through)))


@pytest.mark.parametrize(("when", "law"), [("before", "p_ref"), ("after", "p_star")])
def test_the_likeliest_responses_are_the_oracle_s(found: dict[str, Any], when: str, law: str) -> None:
    rows = found["responses"][when]
    joint = {(x, t): MU[x] * p for x in MU for t, p in oracle_solution(x, 0.7)[law].items()}
    best = sorted(joint.values(), reverse=True)[:9]
    assert [MU[row["prompt"]] * row[law]["exact"] for row in rows] == pytest.approx(best, abs=1e-12)
    for row in rows:
        s = oracle_solution(row["prompt"], 0.7)
        near(row["p_ref"], s["p_ref"][row["response"]])
        near(row["p_star"], s["p_star"][row["response"]])
        assert row["reward"] == pytest.approx(s["r"][row["response"]], abs=1e-12)


def test_the_frontier_is_the_oracle_s(found: dict[str, Any]) -> None:
    greedy, *rows, reference = found["frontier"]
    assert [row["beta"] for row in rows] == [0.7 * step for step in (0.125, 0.25, 0.5, 1, 2, 4, 8)]
    for row in rows:
        near(row["reward"], oracle_mean("reward_after", row["beta"]))
        near(row["kl"], oracle_mean("kl", row["beta"]))
        assert row["V"] == pytest.approx(oracle_mean("V", row["beta"]), abs=1e-12)
    best = {x: max(oracle_solution(x, 1.0)["r"].values()) for x in MU}
    mass = {x: math.fsum(p for t, p in oracle_p_ref(x).items() if oracle_reward(x, t) > best[x] - 1e-12) for x in MU}
    assert greedy["reward"]["exact"] == pytest.approx(sum(MU[x] * best[x] for x in MU), abs=1e-12)
    assert greedy["kl"]["exact"] == pytest.approx(-sum(MU[x] * math.log(mass[x]) for x in MU), abs=1e-12)
    assert (greedy["beta"], reference["beta"], reference["kl"]["exact"]) == (0.0, "inf", 0.0)
    assert reference["reward"]["exact"] == pytest.approx(oracle_mean("reward_before"), abs=1e-12)


def test_the_world_is_described(found: dict[str, Any]) -> None:
    world = found["world"]
    assert (world["responses"], world["states"], world["mu"]) == (15, 7, [0.75, 0.25])  # 1 + 2 + 4 * 3 responses
    assert world["forbidden_responses"] == [15 - len(oracle_p_ref(x)) for x in MU]
    rewards = [r for x in MU for r in oracle_solution(x, 1.0)["r"].values()]
    assert world["reward_range"] == pytest.approx([min(rewards), max(rewards)], abs=1e-12)


# ---------------------------------------------------------------------------------------------------- the page


def test_the_page_shows_the_numbers_of_the_json(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ask(capsys, two, "--samples", 500)
    numbers = json.loads(ask(capsys, two, "--samples", 500, "--json"))
    for line, key in {
        "log Z ": "log_Z",
        "V = beta log Z ": "V",
        "E[r] before, under p_ref ": "reward_before",
        "E[r] after, under p* ": "reward_after",
        "KL(p*, p_ref) ": "kl",
        "J(p*) = E[r] after - beta KL = V ": "J_after",
        "V - J(p_ref), what tilting gains ": "regret_before",
    }.items():
        shown = next(text for text in page.splitlines() if text.strip().startswith(line)).split()
        values = numbers["totals"][key]
        assert shown[-4] == f"{values['exact']:.6g}", line
        assert shown[-3] == ("-" if values["sampled"] is None else f"{values['sampled']:.5g}"), line
    for row in numbers["responses"]["after"]:
        assert re.search(rf"{row['p_star']['exact']:.6g} .*\[{row['prompt']}\] {re.escape(row['response'])}\n", page)
    for row in numbers["frontier"][1:-1]:
        assert re.search(rf"\n +{row['beta']:.6g} +{row['reward']['exact']:.6g} .* {row['kl']['exact']:.6g} ", page)
    assert f"{numbers['checks']['count']} sampled checks" in page


@pytest.mark.parametrize("world", ["coin", "fork", "rational", "long-tail", "zen"])
def test_pages_fit_a_terminal(world: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = ask(capsys, world, "--samples", 2000)
    assert max(map(len, page.splitlines())) <= 100
    assert not re.search(r"np\.|nan|float64|array|-0(\.0+)?\s", page)
    assert not any(line != line.rstrip() for line in page.splitlines())


def test_zen_is_the_default_and_seeds_decide(capsys: pytest.CaptureFixture[str]) -> None:
    first = ask(capsys, "--samples", 1000)
    assert first.startswith("World zen: 16 tokens and EOS '.', horizon 5.\n1,118,481 responses")
    again = ask(capsys, "zen", "--samples", 1000, "--seed", 0)
    assert first.rpartition("\nMade by")[0] == again.rpartition("\nMade by")[0]
    assert first != ask(capsys, "zen", "--samples", 1000, "--seed", 2)


def test_zen_by_reward_levels(capsys: pytest.CaptureFixture[str]) -> None:
    """log Z and KL of a million responses from the 21 or fewer reward levels alone, in the standard library."""
    world = zen_world()
    levels, place = np.unique(world.r[0], return_inverse=True)
    mass = np.bincount(np.ravel(place), np.exp(world.log_p_ref[0])).tolist()
    Z = math.fsum(m * math.exp(r / 0.5) for m, r in zip(mass, levels.tolist(), strict=True))
    reward = math.fsum(m * math.exp(r / 0.5) / Z * r for m, r in zip(mass, levels.tolist(), strict=True))
    totals = json.loads(ask(capsys, "--samples", 1000, "--json"))["totals"]
    assert len(levels) <= 21
    assert totals["log_Z"]["exact"] == pytest.approx(math.log(Z), abs=1e-10)
    assert totals["kl"]["exact"] == pytest.approx(reward / 0.5 - math.log(Z), abs=1e-10)


def test_json_is_strict_and_beta_may_be_extreme(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    answer = json.loads(ask(capsys, "coin", "--json", "--beta", "1e-300", "--samples", 100), parse_constant=refuse)
    assert answer["schema"] == "tabular-rlhf/solve/1"
    assert answer["totals"]["V"]["exact"] == 1.0
    assert answer["totals"]["kl"]["exact"] == pytest.approx(math.log(2.0))


def test_checks_would_notice_a_wrong_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: draws from p_ref in place of p*.  The largest |z| must say so."""
    honest = report(coin(beta=0.5), samples=20_000)
    assert honest["checks"]["largest_z"] < 5
    draw = report.__globals__["sample"]
    monkeypatch.setitem(report.__globals__, "sample", lambda w, log_p, n, *, rng: draw(w, w.log_p_ref, n, rng=rng))
    assert report(coin(beta=0.5), samples=20_000)["checks"]["largest_z"] > 20


def test_a_check_that_fails_is_told_by_the_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same planted fault at the command line: the answer is "no", as text and as JSON."""
    draw = report.__globals__["sample"]
    monkeypatch.setitem(report.__globals__, "sample", lambda w, log_p, n, *, rng: draw(w, w.log_p_ref, n, rng=rng))
    assert main(["solve", "coin", "--beta", "0.5", "--samples", "20000"]) == 1
    assert "more than 5: draw more" in capsys.readouterr().out
    assert main(["solve", "coin", "--beta", "0.5", "--samples", "20000", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["checks"]["largest_z"] > 5


def test_rare_responses_do_not_break_the_report() -> None:
    """Heavy weights, forbidden tokens, prompts that are never asked, and a horizon of one."""
    rng = np.random.default_rng(0)
    for world in (long_tail(beta=0.05), random_world(rng=rng, V=4, H=1, P=3, forbidden=0.4), random_world(rng=rng, P=2, forbidden=0.4)):
        assert report(world, samples=50)["checks"]["count"] > 0
    text = EXAMPLE.replace("[reference]", 'prompts = ["x", "y"]\nmu = [1.0, 0.0]\n[reference]', 1)
    found = report(parse_world(text), samples=50)
    assert [row["V"]["sampled"] is None for row in found["prompts"]] == [False, True]


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.toml"], "must exist: got 'none.toml'; check its path"),
        (["."], "readable text file: got '.' \\(Is a directory\\)"),
        (["coin", "--beta", "0"], "beta must be positive"),
        (["coin", "--beta", "nan"], "beta must be positive and finite: got nan"),
        (["coin", "--samples", "0"], "draw.*got 0; ask for"),
        (["coin", "--seed", "-1"], "--seed must be at least 0: got -1; 0 is usual"),
        (["coin", "--samples", "99999999999"], r"fit in 2 GiB: got 99,999,999,999 draws, 9.6e\+12 bytes.*at most --samples 22369621"),
        (["coin", "--top", "0"], "must be at least 1: got 0"),
        (["coin", "--figure", "coin.gif"], "known format: got 'coin.gif'"),
        (["coin", "--figure", "nowhere/coin.png"], "folder must exist: got 'nowhere'"),
    ],
)
def test_bad_requests_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(message, said.err), said.err


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--samples", "many"]) == 2
    assert "invalid int value" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- once


def test_a_solution_is_shared_while_it_is_held_and_forgotten_with_its_holder() -> None:
    world = tr.rational()
    held = tr.solve(world)
    assert tr.solve(world) is held
    assert tr.solve(world.at(world.beta)) is held
    assert tr.solve(world.at(2.0)) is not held
    assert tr.solve(tr.rational()) is not held
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None
    assert tr.solve(world).p.tolist() == tr.solve(tr.rational()).p.tolist()


@pytest.mark.parametrize(
    "words",
    [
        "kl --world coin --estimator k3 --samples 20",
        "losses ipo --world coin",
        "losses --world coin",
        "advantage grpo --world coin --group 2 --moved 1",
        "solve rational --samples 20",
        "run coin --algorithm rloo --steps 2",
    ],
)
def test_a_command_solves_no_world_twice(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    solved: Counter[tuple[float, bytes, bytes]] = Counter()
    anew = gibbs.solve_anew

    def counted(world: tr.World) -> tr.Gibbs:
        solved[world.beta, world.log_ref.tobytes(), world.r.tobytes()] += 1
        return anew(world)

    monkeypatch.setattr(gibbs, "solve_anew", counted)
    monkeypatch.setattr("tabular_rlhf.losses.analyse.LOSSES", {name: LOSSES[name] for name in ("dpo", "cdpo", "ipo")})
    assert main(words.split()) == 0
    assert solved
    assert max(solved.values()) == 1
