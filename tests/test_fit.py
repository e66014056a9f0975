"""`tabular-rlhf fit`: every line accounted for, rewards and policies against direct minimization, and the words a person reads."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabular_rlhf import InputError, value_and_grad
from tabular_rlhf.cli import main
from tabular_rlhf.preferencefile import collect, read_preferences
from tabular_rlhf.preferences.comparisons import count_wins, cyclic_triads
from tabular_rlhf.preferences.likelihood import fit, structure
from tabular_rlhf.reports.fitted import normalize
from tabular_rlhf.reports.preferences import analyse
from tabular_rlhf.reports.preferences_text import render


def row(prompt: str, chosen: Any, rejected: Any, **more: Any) -> str:
    return json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected, **more})


def rows_of(rng: np.random.Generator, prompt: str, r: list[float], n: int) -> list[str]:
    """n comparisons of responses named a, b, ... of given rewards."""
    out = []
    for _ in range(n):
        i, j = rng.choice(len(r), 2, replace=False)
        i, j = (i, j) if rng.random() < 1 / (1 + math.exp(r[j] - r[i])) else (j, i)
        out.append(row(prompt, "abcdefgh"[i], "abcdefgh"[j]))
    return out


@pytest.fixture
def good(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    lines = rows_of(rng, "one", [0.0, 1.0, -1.0, 0.5], 80) + rows_of(rng, "two", [0.0, 0.3, 0.6], 50)
    lines += [row("sure", "yes", "no"), row("loop", "rock", "scissors"), row("loop", "scissors", "paper"), row("loop", "paper", "rock")]
    path = tmp_path / "good.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


BROKEN = {
    "{oops": "not JSON",
    "[1, 2]": "not an object but an array",
    '"text"': "not an object but a string",
    "3": "not an object but a number",
    '{"prompt": "x", "chosen": "a"}': "no 'rejected'; it has 'prompt', 'chosen'",
    "{}": "no 'chosen' and no 'rejected'; it has nothing",
    '{"prompt": "x", "chosen": 3, "rejected": "b"}': "'chosen' must be a string or a list of messages, not a number",
    '{"prompt": "x", "chosen": [], "rejected": "b"}': "'chosen' must hold messages",
    '{"prompt": "x", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"}': "must end with a message of the assistant",
    '{"prompt": null, "chosen": "a", "rejected": "b"}': "'prompt' must be a string or a list of messages, not null",
    '{"chosen": "a", "rejected": "b"}': "not transcripts with one beginning",
    '{"prompt": "x", "chosen": "a", "rejected": "b", "weight": 0}': "'weight' must be a positive finite number, not 0",
    '{"prompt": "x", "chosen": "a", "rejected": "b", "weight": true}': "not true",
    '{"prompt": "x", "chosen": "a", "rejected": "b", "weight": 1e999}': "not Infinity",
    '{"prompt": "x", "chosen": "a", "rejected": "b", "weight": NaN}': "not NaN",
    '{"prompt": "x", "chosen": "\\ud800", "rejected": "b"}': "half a surrogate pair",
    "[" * 100_000: "not JSON that can be read",
}


# ---------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(("line", "reason"), BROKEN.items(), ids=[line[:60] for line in BROKEN])
def test_a_malformed_line_is_named(line: str, reason: str) -> None:
    found = collect([row("x", "a", "b").encode(), line.encode()])
    assert [fault.line for fault in found.faults] == [2]
    assert reason in found.faults[0].reason


def test_bytes_that_are_not_text() -> None:
    (fault,) = collect([b'{"prompt": "\xff"}']).faults
    assert fault.reason == "not UTF-8 at byte 13"


def test_every_line_is_accounted_for() -> None:
    lines = [row("x", "a", "b"), "", "{oops", row("x", "a", "a"), row("x", "b", "a", weight=2.5), "   ", "null"]
    found = collect(line.encode() for line in lines)
    assert found.lines == 7 == len(found.w) + len(found.faults) + len(found.same) + found.blank
    assert [f.line for f in found.faults] == [3, 7]
    assert found.same == (4,)
    assert found.weight.tolist() == [1.0, 2.5]


def test_all_common_forms_are_one_comparison() -> None:
    """Strings, messages with and without a prompt, and transcripts say the same."""
    ask = [{"role": "user", "content": "hi"}]
    a, b = ([{"role": "assistant", "content": text}] for text in ("hello", "what?"))
    forms = [
        row("hi", "hello", "what?"),
        row("hi", a, b),
        json.dumps({"prompt": ask, "chosen": a, "rejected": b}),
        json.dumps({"chosen": ask + a, "rejected": ask + b}),
        json.dumps({"prompt": "hi", "chosen": ask + a, "rejected": ask + b}),
    ]
    for lines in ([line] for line in forms):
        assert told(lines) == {("hi", "hello", "what?", 1.0)}
    assert told(forms) == {("hi", "hello", "what?", 1.0)}
    spoken = {"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: what?"}
    assert told([json.dumps(spoken)]) == {("Human: hi", "hello", "what?", 1.0)}


def told(lines: list[str]) -> set[tuple[str, str, str, float]]:
    """prompt, winner, loser, weight of every comparison."""
    found = collect(line.encode() for line in lines)
    assert len(found.w) == len(lines)
    return {
        (found.prompts[found.of[w]], found.responses[w], found.responses[l], weight)
        for w, l, weight in zip(found.w, found.l, found.weight.tolist(), strict=True)
    }


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + row("x", "a", "b").encode() + b"\r\n" + row("x", "b", "a").encode() + b"\r\n")
    assert read_preferences(path).lines == 2


def test_candidates_of_a_prompt_lie_together() -> None:
    found = collect(line.encode() for line in [row("x", "a", "b"), row("y", "a", "c"), row("x", "c", "a")])
    assert found.of.tolist() == [0, 0, 0, 1, 1]
    assert [found.responses[k] for k in found.w] == ["a", "a", "c"]
    assert [found.prompts[found.of[k]] for k in found.l] == ["x", "y", "x"]


# ---------------------------------------------------------------------------------------------------- the answers


def analysed(path: Path, **more: Any) -> dict[str, Any]:
    report = analyse(read_preferences(path), **more)
    return {r["prompt"]: r for r in report["prompts"]}


def test_each_prompt_is_fitted_as_if_alone(good: Path) -> None:
    found = read_preferences(good)
    prompts = analysed(good)
    for x, name in enumerate(found.prompts):
        mine = np.flatnonzero(found.of == x)
        here = found.of[found.w] == x
        wins = count_wins(found.w[here] - mine[0], found.l[here] - mine[0], [found.responses[k] for k in mine], found.weight[here])
        report = prompts[name]
        assert report["finite_maximum"] == structure(wins).exists
        assert report["intransitivity"]["cyclic_triads"] == cyclic_triads(wins)
        if not report["finite_maximum"]:
            continue
        alone = fit(wins)
        assert [c["response"] for c in report["responses"]] == list(wins.names)
        np.testing.assert_allclose([c["reward"] for c in report["responses"]], alone.r, atol=1e-9)
        np.testing.assert_allclose([c["standard_error"] for c in report["responses"]], alone.standard_errors, rtol=1e-8)
        assert abs(2 * report["intransitivity"]["nats"] - alone.deviance) < 1e-8
        assert report["intransitivity"]["degrees"] == alone.degrees


@pytest.mark.parametrize("beta", [0.2, 1.0, 3.0])
def test_the_gibbs_policy_is_the_minimizer_of_dpo(good: Path, beta: float) -> None:
    """DPO on the candidates, minimized directly over the policy's logits, from a reference that is not uniform."""
    from scipy.optimize import minimize

    found = read_preferences(good)
    log_ref = normalize(np.random.default_rng(0).standard_normal(len(found.of)), found.of)
    for x in (0, 1):
        mine = np.flatnonzero(found.of == x)
        here = found.of[found.w] == x
        w, l, ref = found.w[here] - mine[0], found.l[here] - mine[0], normalize(log_ref, found.of)[mine]

        def dpo(theta: Any, w: Any = w, l: Any = l, ref: Any = ref) -> Any:
            log_pi = theta - np.log(np.sum(np.exp(theta)))
            implicit = beta * (log_pi - ref)
            return np.sum(np.logaddexp(0.0, implicit[l] - implicit[w]))

        def both(theta: Any, f: Any = dpo) -> Any:
            return value_and_grad(f)(theta)

        solved = minimize(both, ref.copy(), jac=True, method="BFGS", options={"gtol": 1e-9})
        pi = np.exp(solved.x) / np.sum(np.exp(solved.x))
        told = analysed(good, betas=[beta], log_ref=log_ref)[found.prompts[x]]
        np.testing.assert_allclose([c["policy"][0] for c in told["responses"]], pi, atol=1e-6)
        kl = float(np.sum(pi * (np.log(pi) - ref)))
        assert abs(told["kl"][0] - kl) < 1e-5


def test_what_the_data_leave_open() -> None:
    lines = [row("p", "a", "b"), row("p", "b", "a"), row("p", "c", "d"), row("p", "d", "c"), row("p", "d", "e")]
    (report,) = analyse(collect(line.encode() for line in lines))["prompts"]
    assert not report["finite_maximum"]
    assert (report["components"], report["free"], report["unbounded"]) == (3, 1, 1)
    assert report["kl"] is None
    assert {c["response"]: c["standing"] for c in report["responses"]} == {
        "a": "",
        "b": "",
        "c": "never beaten from outside",
        "d": "never beaten from outside",
        "e": "never beats outside",
    }
    assert [c["reward"] for c in report["responses"]] == pytest.approx([0.0, 0.0, 0.0, 0.0, None], abs=1e-12)


@pytest.mark.parametrize("seed", range(24))
def test_a_maximum_is_called_finite_and_single_where_it_is(seed: int) -> None:
    """Against a linear program (is there a direction in which no comparison loses, and some gains?) and a rank."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    links = [[0, 1], [1, 2], [3, 4]][: rng.integers(1, 4)]
    pairs = [rng.permutation(links[rng.integers(len(links))]) for _ in range(rng.integers(2, 12))]
    report = analyse(collect(row("p", "abcde"[i], "abcde"[j]).encode() for i, j in pairs))
    X = np.array([np.eye(5)[i] - np.eye(5)[j] for i, j in pairs])
    best = linprog(-np.sum(X, axis=0), A_ub=np.vstack([-X, X]), b_ub=np.repeat([0.0, 1.0], len(X)), bounds=(None, None))
    finite = best.fun > -1e-9
    single = np.linalg.matrix_rank(X) == len(np.unique(pairs)) - 1
    text = render(report, "drawn")
    assert ("No finite maximum:" in text) == (not finite)
    assert ("No single maximum:" in text) == (finite and not single)
    assert report["totals"]["finite_maximum"] == (finite and single)


def test_the_share_of_a_group_is_nothing_to_dpo_and_yet_moves() -> None:
    """a beats b three times in four, c and d draw: the loss does not see how much the two groups have, and descent changes it."""
    lines = [row("p", "a", "b")] * 3 + [row("p", "b", "a"), row("p", "c", "d"), row("p", "d", "c")]
    report = analyse(collect(line.encode() for line in lines))
    assert "No single maximum: no chain of comparisons links 2 groups" in render(report, "groups")

    def loss(theta: Any) -> Any:
        log_pi = theta - np.log(np.sum(np.exp(theta)))
        d = np.array([[1.0, -1, 0, 0]] * 3 + [[-1.0, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]]) @ log_pi
        return np.sum(np.logaddexp(0.0, -d))

    theta = np.zeros(4)
    assert abs(loss(theta + np.array([2.0, 2.0, 0.0, 0.0])) - loss(theta)) < 1e-12
    for _ in range(200):
        theta = theta - 0.2 * value_and_grad(loss)(theta)[1]
    # the logits keep their sum: a and b end at +-log(3)/2, so the group has 2 cosh(log(3)/2) = 4/sqrt 3 against 2
    share = float(np.sum(np.exp(theta[:2])) / np.sum(np.exp(theta)))
    assert abs(share - 2 / (2 + math.sqrt(3))) < 1e-9


def test_a_prior_decides_where_the_data_do_not() -> None:
    (report,) = analyse(collect([row("p", "yes", "no").encode()]), prior=2.0, betas=[1.0])["prompts"]
    yes = next(c for c in report["responses"] if c["response"] == "yes")
    r = yes["reward"]
    assert abs(r - 2.0 / (1 + math.exp(2 * r))) < 1e-9
    p = 1 / (1 + math.exp(-2 * r))
    # along (1, -1) the posterior's precision is 1/2 + 2 p (1 - p); each reward is half of that difference
    assert abs(yes["standard_error"] - math.sqrt(0.5 / (0.5 + 2 * p * (1 - p)))) < 1e-9
    assert abs(yes["policy"][0] - p) < 1e-9


def test_weights_are_counts(good: Path) -> None:
    lines = [row("p", "a", "b")] * 3 + [row("p", "b", "a")]
    weighted = [row("p", "a", "b", weight=3), row("p", "b", "a")]
    one, other = (analyse(collect(line.encode() for line in text))["prompts"][0]["responses"] for text in (lines, weighted))
    assert one == other


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_on_a_good_file(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(good)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 100
    assert re.search(r"prompts with a single finite maximum-likelihood fit +3 of 4\n", out)
    assert "A never beaten from outside, B never beats outside" in out
    assert "1 circular triad" in " ".join(out.split())
    assert "np.float64" not in out


def test_the_command_on_a_broken_file(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = good.read_text().splitlines()
    good.write_text("\n".join([*lines[:10], "{oops", "", *lines[10:], '{"prompt": "one"}', row("one", "a", "a")]))
    assert main(["fit", str(good)]) == 2
    out, err = capsys.readouterr()
    assert "line 11: not JSON" in err
    assert f"line {len(lines) + 3}: no 'chosen' and no 'rejected'" in err
    assert len(err.splitlines()) == 2
    assert f"2 malformed lines not used: 11, {len(lines) + 3}." in out
    assert "1 line with two equal responses, which says nothing" in out
    assert "1 blank line" in out
    assert main(["fit", str(good), "--lenient"]) == 0


def test_json_holds_everything(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(good), "--json", "--beta", "0.5", "--beta", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "tabular-rlhf/fit/1"
    assert report["betas"] == [0.5, 2.0]
    assert report["totals"]["prompts"] == 4 == len(report["prompts"])
    for prompt in report["prompts"]:
        if prompt["finite_maximum"]:
            np.testing.assert_allclose(np.sum([c["policy"] for c in prompt["responses"]], axis=0), 1.0, atol=1e-12)
            assert abs(sum(c["reward"] for c in prompt["responses"])) < 1e-12


def test_a_reference_of_ones_own(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_preferences(good)
    lines = [
        {"prompt": found.prompts[x], "response": y, "logp": -1.0 - k / 7}
        for k, (x, y) in enumerate(zip(found.of, found.responses, strict=True))
    ]
    reference = tmp_path / "ref.jsonl"
    reference.write_text("\n".join(map(json.dumps, lines)))
    assert main(["fit", str(good), "--json", "--reference", str(reference), "--beta", "1e9"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["reference"] == "given"
    for prompt in report["prompts"]:
        if prompt["finite_maximum"]:  # an enormous beta leaves the reference as it was
            np.testing.assert_allclose([c["policy"][0] for c in prompt["responses"]], [c["p_ref"] for c in prompt["responses"]], rtol=1e-6)
    reference.write_text(json.dumps(lines[0]))
    assert main(["fit", str(good), "--reference", str(reference)]) == 2
    assert "the reference must know every response compared" in capsys.readouterr().err
    reference.write_text('{"prompt": "one", "response": "a", "logp": 1}')
    assert main(["fit", str(good), "--reference", str(reference)]) == 2
    assert "at most 0" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--beta", "-1"], ["--prior", "0"], ["--level", "95"], ["--figure", "a.gif"]])
def test_bad_options_are_refused(good: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(good), *words]) == 2
    assert capsys.readouterr().err


def test_files_that_hold_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert main(["fit", str(empty)]) == 2
    empty.write_text("[]\n")
    assert main(["fit", str(empty)]) == 2
    assert "line 1: not two or more different items" in capsys.readouterr().err
    with pytest.raises(InputError, match="readable"):
        read_preferences(tmp_path / "absent.jsonl")


def test_the_figure(good: Path, tmp_path: Path) -> None:
    from tabular_rlhf.figures.fitted import compute

    path = tmp_path / "fit.svg"
    assert main(["fit", str(good), "--figure", str(path)]) == 0
    assert path.read_text().startswith("<?xml")
    data = compute(analyse(read_preferences(good)))
    assert data["prompt"] == "one"
    assert data["reward"] == sorted(data["reward"], reverse=True)


def test_long_prompts_and_responses_fit_the_page() -> None:
    lines = [row("why " * 100, f"because {i} " * 50, f"because {i + 1} " * 50) for i in range(40)]
    text = render(analyse(collect(line.encode() for line in lines)), "f.jsonl")
    assert max(map(len, text.splitlines())) <= 100
    assert "more" in text


def calls_of(work: Callable[[], object]) -> int:
    """Calls of functions that some work takes, from Python and into it: the same number on every machine."""
    count = 0

    def counted(frame: object, event: str, of: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_the_work_is_in_proportion_to_the_rows(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "many.jsonl"

    def work(n: int) -> int:
        pairs = rng.integers(0, 6, (n, 2))
        path.write_text(
            "\n".join(row(f"prompt {k % (n // 20)}", f"answer {a} " * 20, f"answer {b} " * 20) for k, (a, b) in enumerate(pairs))
        )
        return calls_of(lambda: reports.append(analyse(read_preferences(path))))

    reports: list[dict[str, Any]] = []
    few, many = work(500), work(4000)
    assert many <= 8 * few * 1.05
    assert [r["comparisons"] + len(r["same"]) for r in reports] == [500, 4000]
