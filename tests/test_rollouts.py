"""Laws of rollouts: three tiers on a file whose truth is known, faults planted edge by edge, and files that are cut anywhere."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf import cli
from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice import solve
from tabular_rlhf.policy_gradient import ADVANTAGES
from tabular_rlhf.rollouts import analyse, read_rollouts, trie_of
from tabular_rlhf.rollouts.example import example_text, world
from tabular_rlhf.rollouts.tiers import best_of, consistent

EXAMPLE = example_text()
ROWS = [json.loads(line) for line in EXAMPLE.splitlines()]


def as_text(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


def test_the_example_is_what_its_script_draws() -> None:
    assert example_text() == EXAMPLE
    g = solve(world())
    r = read_rollouts(EXAMPLE)
    found = analyse(r, beta=0.5)
    assert consistent(found)
    assert r.malformed == []
    prompts = found["certain"]["prompts"]
    assert all(row["log_Z_at_least"] <= g.log_Z[x] for x, row in enumerate(prompts))
    estimate = next(e for e in found["estimates"] if e["name"].startswith("log Z"))
    assert abs(estimate["value"] - np.mean(g.log_Z)) <= 1e-9  # drawn from p* itself, every weight is Z
    for x, row in enumerate(prompts):
        said = {tuple(a["tokens"]): a for a in ROWS if a["prompt"] == row["prompt"] and a["finish"] == "stop"}.values()
        assert abs(row["covered"] - sum(math.exp(sum(a["logp"])) for a in said)) <= 1e-12
        Z = sum(math.exp(sum(a["logp_ref"]) + a["reward"] / 0.5) for a in said)
        assert abs(row["log_Z_at_least"] - math.log(Z)) <= 1e-12, x


def test_best_of_m_is_the_mean_over_subsets() -> None:
    rng = np.random.default_rng(0)
    rows = [{**ROWS[i], "reward": float(np.round(rng.normal(), 1)), "prompt": "x" if i < 6 else "y"} for i in range(11)]
    r = read_rollouts(as_text(rows))
    for row in best_of(r):
        means = []
        for prompt in ("x", "y"):
            rewards = [a["reward"] for a in rows if a["prompt"] == prompt]
            if len(rewards) >= row["m"]:
                subsets = list(itertools.combinations(rewards, row["m"]))
                means.append(sum(map(max, subsets)) / len(subsets))
        assert len(means) == row["prompts"]
        assert abs(row["reward"] - sum(means) / len(means)) <= 1e-12


def test_groups_are_those_of_the_file() -> None:
    rows = [{**ROWS[i], "prompt": "x", "group": i // 4, "reward": float(i % 4) if i < 8 else 1.0} for i in range(12)]
    found = analyse(read_rollouts(as_text(rows)))["certain"]["groups"]
    assert (found["count"], found["silent"]) == (3, 1)
    named = {a["name"]: a for a in found["advantages"]}
    plain = [ADVANTAGES["grpo"].oracle(i, [0.0, 1.0, 2.0, 3.0], ddof=0, epsilon=0.0) for i in range(4)]
    assert abs(named["grpo"]["largest"] - max(map(abs, plain))) <= 1e-12
    assert abs(named["grpo"]["rms"] - math.sqrt(2 * sum(a * a for a in plain) / 12)) <= 1e-12


def drawn_rows(seed: int) -> list[dict[str, Any]]:
    """Responses to some prompts, one of them alone, with equal rewards, lengths and log-ratios among them."""
    rng = np.random.default_rng(seed)
    rows = []
    for prompt, n in enumerate([1, *rng.integers(2, 9, 2)]):
        for _ in range(n):
            T = int(rng.integers(1, 4))
            row = {"prompt": str(prompt), "tokens": rng.integers(0, 9, T).tolist(), "reward": float(rng.integers(-1, 3))}
            logs = {key: (-rng.integers(1, 4, T) / 2).tolist() for key in ("logp", "logp_ref")}
            rows.append({**row, **logs, "rewards": {"style": float(rng.integers(0, 2))}})
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_counted_and_dpo_is_its_definition(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs one by one, in plain Python; also where the table of pairs is made in several blocks."""
    rows, beta = drawn_rows(seed), 0.7
    monkeypatch.setattr("tabular_rlhf.rollouts.pairs.ROWS", 3)
    found = analyse(read_rollouts(as_text(rows)), beta=beta)
    by_prompt = [[a for a in rows if a["prompt"] == x] for x in dict.fromkeys(a["prompt"] for a in rows)]
    both = [list(itertools.combinations(group, 2)) for group in by_prompt if len(group) > 1]
    every = [pair for group in both for pair in group]
    told = found["certain"]["pairs"]
    assert (told["pairs"], told["prompts"]) == (len(every), len(both))

    def m(a: dict[str, Any]) -> float:
        return beta * (sum(a["logp"]) - sum(a["logp_ref"]))

    measures = {
        "log p": lambda a: sum(a["logp"]),
        "log p_ref": lambda a: sum(a["logp_ref"]),
        "log(p/p_ref)": lambda a: sum(a["logp"]) - sum(a["logp_ref"]),
        "length": lambda a: len(a["tokens"]),
        "style": lambda a: a["rewards"]["style"],
    }
    assert [row["name"] for row in told["goes_with"]] == list(measures)
    for row in told["goes_with"]:
        x = measures[row["name"]]
        signs = [
            math.copysign(1, (x(a) - x(b)) * (a["reward"] - b["reward"])) for a, b in every if x(a) != x(b) and a["reward"] != b["reward"]
        ]
        assert row["pairs"] == len(signs)
        assert row["share"] == (pytest.approx(signs.count(1.0) / len(signs)) if signs else None)
    for row, estimate in zip(told["dpo"], [e for e in found["estimates"] if e["name"].startswith("DPO")] or [None] * 2, strict=True):
        means = []
        for group in both:
            losses = []
            for a, b in group:
                gap = a["reward"] - b["reward"]
                P = 1 / (1 + math.exp(-gap)) if row["labels"] == "Bradley-Terry" else 0.5 * (1 + (gap > 0) - (gap < 0))
                z = m(a) - m(b)
                losses.append(P * math.log1p(math.exp(-z)) + (1 - P) * math.log1p(math.exp(z)))
            means.append(sum(losses) / len(losses))
        assert row["loss"] == pytest.approx(sum(means) / len(means), abs=1e-12)
        assert row["loss"] == pytest.approx(row["label_free"] - row["label_half"], abs=1e-15)
        assert estimate is None, "a response that is alone has no pair: no estimate over prompts"
    whole = analyse(read_rollouts(as_text(rows[1:])), beta=beta)
    for row, estimate in zip(whole["certain"]["pairs"]["dpo"], [e for e in whole["estimates"] if e["name"].startswith("DPO")], strict=True):
        assert estimate["value"] == pytest.approx(row["loss"], abs=1e-12)


def test_the_error_of_a_mean_over_pairs_is_that_of_a_u_statistic() -> None:
    """One prompt, drawn again and again: the deviation of the estimate is what it says of itself, and not half of that."""
    rng, values, errors = np.random.default_rng(0), [], []
    for _ in range(300):
        rows = [
            {"prompt": "x", "tokens": [0], "logp": [-1.0 - a], "logp_ref": [-1.0], "reward": float(r)}
            for a, r in zip(rng.exponential(1.0, 40), rng.integers(0, 2, 40), strict=True)
        ]
        e = next(e for e in analyse(read_rollouts(as_text(rows)))["estimates"] if e["name"].startswith("DPO"))
        values.append(e["value"])
        errors.append(e["standard_error"])
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.15)


@pytest.mark.parametrize(
    ("name", "settings"), [("grpo", {"ddof": 1, "epsilon": 1e-4}), ("grpo", {"ddof": 0, "epsilon": 1e-6}), ("rloo", {})]
)
def test_recorded_advantages_are_recognized(name: str, settings: dict[str, float]) -> None:
    rows = [{**ROWS[i], "prompt": "x", "group": i // 4, "reward": float(i * i % 7)} for i in range(12)]
    for start in range(0, 12, 4):
        rewards = [a["reward"] for a in rows[start : start + 4]]
        for i in range(4):
            rows[start + i]["advantage"] = ADVANTAGES[name].oracle(i, rewards, **settings)
    told = {a["name"]: a["recorded"] for a in analyse(read_rollouts(as_text(rows)))["certain"]["groups"]["advantages"]}
    assert min(told, key=lambda k: told[k]["largest_difference"]) == name
    assert told[name]["largest_difference"] <= 1e-12
    assert told[name]["settings"] == settings
    rows[5].pop("advantage")
    assert all(a["recorded"] is None for a in analyse(read_rollouts(as_text(rows)))["certain"]["groups"]["advantages"])


# ---------------------------------------------------------------------------------------------------- contradictions


def shared_edges(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[int]]:
    """Lines by the prefix that they share, its last token included."""
    out: dict[tuple[Any, ...], list[int]] = {}
    for line, row in enumerate(rows, 1):
        for t in range(len(row["tokens"])):
            out.setdefault((row["prompt"], *row["tokens"][: t + 1]), []).append(line)
    return {k: v for k, v in out.items() if len(v) > 1}


@pytest.mark.parametrize("key", ["logp", "logp_ref"])
@pytest.mark.parametrize("seed", range(6))
def test_noise_on_one_edge_is_found_on_that_edge(key: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [json.loads(json.dumps(row)) for row in ROWS]
    edges = list(shared_edges(rows).items())
    prefix, lines = edges[int(rng.integers(len(edges)))]
    line, depth = lines[int(rng.integers(len(lines)))], len(prefix) - 2
    rows[line - 1][key][depth] -= 1e-3
    trie = trie_of(read_rollouts(as_text(rows)))
    other = "logp_ref" if key == "logp" else "logp"
    (edge,) = trie.differing[key]
    assert (edge.depth, edge.token, edge.lines[0]) == (depth, prefix[-1], line)
    assert abs(edge.high - edge.low - 1e-3) <= 1e-12
    assert trie.differing[other] == []
    assert trie_of(read_rollouts(as_text(rows)), tolerance=1e-2).differing[key] == []


def test_renormalized_probabilities_show_as_crowded_nodes() -> None:
    """What is left after top-p, divided by its sum, and full probabilities elsewhere: siblings have more than 1."""

    def line(token: int, p: float) -> dict[str, Any]:
        return {"prompt": "x", "tokens": [token], "logp": [math.log(p)], "logp_ref": [math.log(0.25)], "reward": 0.0}

    whole = [line(0, 0.5), line(1, 0.3), line(2, 0.2)]
    assert trie_of(read_rollouts(as_text(whole))).crowded["logp"] == []
    (node,) = trie_of(read_rollouts(as_text([line(0, 0.5 / 0.8), line(1, 0.3 / 0.8), line(2, 0.2)]))).crowded["logp"]
    assert (node.depth, node.children) == (0, 3)
    assert abs(node.mass - 1.2) <= 1e-12


def test_tokens_of_tools_are_not_the_policys() -> None:
    row = {"prompt": "x", "logp": [None, -0.5], "logp_ref": [None, -1.0], "loss_mask": [0, 1], "reward": 1.0}
    rows = [{**row, "tokens": [7, t]} for t in (1, 2)]
    r = read_rollouts(as_text(rows))
    assert (r.malformed, trie_of(r).differing["logp"]) == ([], [])
    assert analyse(r)["certain"]["covered"] == pytest.approx(2 * math.exp(-0.5), rel=1e-12)


# ---------------------------------------------------------------------------------------------------- bad input


def test_a_file_that_is_cut_anywhere_loses_nothing_that_was_whole() -> None:
    lines = EXAMPLE.splitlines()[:6]
    text = "\n".join(lines)
    ends = np.cumsum([len(line) + 1 for line in lines]) - 1
    near = range(len(lines[0]) - 3, len(lines[0]) + 4)
    for cut in [*near, *np.random.default_rng(0).integers(len(lines[0]) + 1, len(text), 60).tolist()]:
        part, whole = text[:cut], int(np.sum(ends <= cut))
        if whole == 0:
            with pytest.raises(InputError, match="cut off in the middle"):
                read_rollouts(part)
            continue
        r = read_rollouts(part)
        assert r.n == whole
        assert r.malformed == ([] if cut in ends or cut - 1 in ends else [(whole + 1, "cut off in the middle")])


GOOD = {"prompt": "x", "tokens": [1, 2], "logp": [-0.5, -1.0], "logp_ref": [-0.5, -0.25], "reward": 1.0}
BAD: dict[str, tuple[Any, str]] = {
    "no object": ([1], "not an object"),
    "no reward": ({k: v for k, v in GOOD.items() if k != "reward"}, "no reward"),
    "no tokens": ({**GOOD, "tokens": []}, "tokens must be"),
    "words for tokens": ({**GOOD, "tokens": ["a", "b"]}, "tokens must be"),
    "booleans": ({**GOOD, "tokens": [True, False]}, "tokens must be"),
    "negative token": ({**GOOD, "tokens": [-1, 2]}, "tokens must be"),
    "one logp too few": ({**GOOD, "logp": [-0.5]}, "logp must be a list of 2 numbers"),
    "null logp": ({**GOOD, "logp": [None, -1.0]}, r"logp\[0\] must be a finite"),
    "positive": ({**GOOD, "logp_ref": [-0.5, 0.5]}, r"logp_ref\[1\] must be a finite log-probability, at most 0, got 0.5"),
    "infinite reward": ({**GOOD, "reward": float("inf")}, "reward must be a finite number"),
    "text for reward": ({**GOOD, "reward": "1"}, "reward must be a finite number"),
    "advantage": ({**GOOD, "advantage": [0.5]}, "advantage must be a finite number"),
    "mask": ({**GOOD, "loss_mask": [1]}, "loss_mask must be 2 zeros and ones"),
    "parts": ({**GOOD, "rewards": [1]}, "rewards must be a table"),
    "no logp": ({**GOOD, "logp": None}, "logp and logp_ref must be given"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_reported_and_the_others_are_used(name: str) -> None:
    bad, reason = BAD[name]
    r = read_rollouts(as_text([GOOD, bad, GOOD]))
    assert r.n == 2
    ((line, told),) = r.malformed
    assert line == 2
    assert re.search(reason, told), told


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.jsonl"
    assert cli.main(["rollouts", "--example", str(path)]) == 0
    assert path.read_text() == EXAMPLE
    capsys.readouterr()
    assert cli.main(["rollouts", str(path), "--beta", "0.5"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(title) for title in ("CERTAIN", "EXACT FOR THE CANDIDATES ONLY", "ESTIMATES")]
    assert places == sorted(places)
    path.write_text(EXAMPLE[:-40])
    assert cli.main(["rollouts", str(path)]) == 2
    capsys.readouterr()
    assert cli.main(["rollouts", str(path), "--lenient", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"]["malformed"] == [{"line": len(ROWS), "reason": "cut off in the middle"}]
    rows = [json.loads(json.dumps(row)) for row in ROWS]
    (_, lines) = next(iter(shared_edges(rows).items()))
    rows[lines[0] - 1]["logp"][0] -= 0.5
    path.write_text(as_text(rows))
    assert cli.main(["rollouts", str(path)]) == 1
    assert "NOT consistent" in capsys.readouterr().out


def test_a_node_is_crowded_only_if_no_choice_of_its_edges_values_fits() -> None:
    """Noise on one edge is that edge's fault: its siblings have at most 1 with the lower of its values."""
    noisy = [(0, 0.5), (0, 0.5 + 1e-3), (1, 0.5)]
    rows = [{"prompt": "x", "tokens": [t], "logp": [math.log(p)], "logp_ref": [-1.0], "reward": 0.0} for t, p in noisy]
    trie = trie_of(read_rollouts(as_text(rows)))
    assert (len(trie.differing["logp"]), trie.crowded["logp"]) == (1, [])
