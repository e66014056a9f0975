"""World files whose responses are too many to be listed: the lattice is the world that the file describes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tabular_rlhf import cli, gibbs
from tabular_rlhf.commands.schemas import SCHEMAS
from tabular_rlhf.errors import InputError
from tabular_rlhf.lattice import LatticeWorld, Reference, solve
from tabular_rlhf.lattice.best import likeliest
from tabular_rlhf.lattice.flow import kl
from tabular_rlhf.path import expect, variance
from tabular_rlhf.world import World
from tabular_rlhf.worldfile import _build, _check, _merged, open_world
from tabular_rlhf.worldfile.toml import Source

HEAD = 'vocabulary = ["a", "b", "c"]\nhorizon = {H}\nbeta = 0.7\n'
FILES = {
    "uniform": HEAD + "[reward]\nlength = 0.25",
    "a constant": HEAD + "[reward]\nconstant = 2.5",
    "nothing": HEAD,
    "phrases and tokens": HEAD + '[reward]\nphrases = {{ "a b" = 1.0, "b" = -0.5, "a b c" = 0.3 }}\ntokens = {{ c = 0.1 }}',
    "matches": HEAD + '[reward]\nmatches = "(a |b )*c( c)*"',
    "patterns": HEAD + '[reward]\nconstant = 1.0\nmatches = {{ "a.*" = 1.0, ".* c|c" = -0.5, "b+" = 0.2 }}',
    "eos": HEAD + 'eos = "."\n[reference]\ntext = """\na b c\nb b a\nc a x b\n"""\nforbid = ["c"]\n[reward]\n'
    'phrases = {{ "b ." = 1.0, "a a" = -1.0 }}\nlength = -0.125\nmatches = {{ "a.*" = 0.5 }}',
    "a reference from text": HEAD + '[reference]\ntext = "a b c a b a c"\norder = 2\nsmoothing = 0.0\n[reward]\ntokens = {{ a = 1.0 }}',
    "prompts": HEAD + 'eos = "."\nprompts = ["x", "y", "z"]\nmu = [0.5, 0.25, 0.25]\n[reference]\ntext = "a b c"\n'
    '[reference.prompt.y]\ntext = "c c a"\norder = 0\n[reward]\ntokens = {{ a = 1.0 }}\n'
    '[reward.prompt.z]\nphrases = {{ "a" = -1.0 }}\nmatches = "c.*"\nconstant = 0.5',
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("H", [1, 2, 5])
def test_a_file_as_a_lattice_is_the_file_as_a_list(name: str, H: int) -> None:
    if H < 3 and name in ("phrases and tokens", "eos", "prompts"):
        H += 2  # a phrase must fit
    source = Source(FILES[name].format(H=H), "world.toml", Path())
    top = source.parse()
    _check(source, top)
    (world, told), (merged, told_too) = _build(source, top), _merged(source, top)
    assert told == told_too
    g, s, reference = gibbs.solve(world), solve(merged), Reference(merged)
    scale = max(1.0, np.abs(world.r).max())
    assert np.abs(g.V - s.V).max() <= 1e-12 * scale
    assert np.abs(g.kl - kl(s, reference)).max() <= 1e-12 * max(1.0, g.kl.max())
    possible = ~np.isneginf(world.log_p_ref)
    for policy, p in ((s, g.p), (reference, np.exp(world.log_p_ref))):
        w = world.mu[:, None] * p
        mean = np.sum(w * world.r)
        assert abs(expect(lambda y: y.r, policy) - mean) <= 1e-12 * scale
        assert abs(variance(lambda y: y.r, policy) - np.sum(w * np.square(world.r - mean))) <= 1e-12 * scale**2
    assert abs(np.sum(world.mu * kl(reference, s)) * world.beta - gibbs.regret(world.log_p_ref, world)) <= 1e-12 * scale
    for policy, log_p in ((s, g.log_p), (reference, world.log_p_ref)):
        with np.errstate(divide="ignore"):
            joint = np.log(world.mu)[:, None] + log_p
        best = np.sort(joint[possible])[::-1]
        found = likeliest(policy, 4)
        ours = [float(np.log(world.mu[path.prompt])) + path.log_p for path in found]
        assert np.abs(np.array(ours) - best[: len(ours)]).max() <= 1e-12 * max(1.0, np.abs(best[: len(ours)]).max())
        assert len(found) == min(4, best.size)
        for path in found:
            tau = world.mdp.find([world.mdp.vocabulary[t] for t in path.tokens])
            assert abs(log_p[path.prompt, tau] - path.log_p) <= 1e-12 * max(1.0, abs(path.log_p))


LONG = (
    HEAD.format(H=200)
    + '[reference]\ntext = "a b c a b a c"\nsmoothing = 0.5\n[reward]\nphrases = { "a b" = 1.0 }\nmatches = { ".* c" = 2.0 }\n'
)


def test_a_file_is_listed_while_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "world.toml"
    path.write_text(LONG.replace("200", "6"))
    assert isinstance(open_world(path)[0], World)
    path.write_text(LONG)
    assert isinstance(open_world(path)[0], LatticeWorld)
    (tmp_path / "mine.py").write_text("def f(text, prompt):\n    return 0.0\n")
    path.write_text(LONG + 'function = "mine:f"\n')
    with pytest.raises(InputError, match="the tree must fit"):
        open_world(path)
    path.write_text(LONG.replace("200", str(10**7)))
    with pytest.raises(InputError, match="horizon must be at most"):
        open_world(path)


def test_solve_reports_what_is_not_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "world.toml"
    path.write_text(LONG)
    assert cli.main(["solve", str(path), "--json", "--samples", "4000"]) == 0
    found = json.loads(capsys.readouterr().out)
    s = solve(open_world(path)[0])
    assert (found["schema"], found["world"]["responses"]) == ("tabular-rlhf/solve-lattice/1", "10^95")
    assert set(SCHEMAS["tabular-rlhf/solve-lattice/1"]) <= set(found)
    assert [row["kl"] for row in found["selection"]] == sorted(row["kl"] for row in found["selection"])
    k1, k2, k3 = (row["deviation"] for row in found["estimators"])
    assert abs(k3**2 - variance(lambda y: np.expm1(-y.L) + y.L, s)) <= 1e-9 * k3**2
    assert min(k1, k2) > 0
    assert abs(found["totals"]["V"]["exact"] - s.value) <= 1e-12
    assert found["checks"]["count"] > 10
    likely = found["responses"]["after"][0]
    assert likely["response"].count("a b") * 1.0 + 2.0 == likely["reward"]
    assert cli.main(["solve", str(path), "--samples", "1000", "--top", "2"]) == 0
    shown = capsys.readouterr().out
    assert "10^95 responses (not listed: states are merged)" in shown


@pytest.mark.parametrize("words", [["gae", "--world"], ["derive", "regret-is-kl", "--world"]])
def test_commands_that_ask_for_each_response_say_so(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "world.toml"
    path.write_text(LONG)
    assert cli.main([*words, str(path)]) == 2
    assert "10^95 responses are not listed: `tabular-rlhf solve` answers without a list" in capsys.readouterr().err
