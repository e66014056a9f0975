"""Laws of the policy classes and of the reference policies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from tabular_rlhf import LogLinear, NGram, Tabular, TokenMDP, check_grad, jacobian
from tabular_rlhf.gibbs import log_policy_of
from tabular_rlhf.policy import PolicyClass, dirichlet, forbid, from_text, uniform, zen
from tabular_rlhf.world import World, worlds
from tests import oracle
from tests.laws import EPS, WORLDS, assert_close, in_order, nats, tell, tell_policy, words_of

over_worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())
MDPS = {
    "coin": TokenMDP(2, 1),
    "one token": TokenMDP(1, 4),
    "only EOS": TokenMDP((".",), 2, eos="."),
    "words": TokenMDP(("a", "b", "."), 4, eos=".", prompts=("x", "y")),
    "no EOS": TokenMDP(3, 3),
}
over_mdps = pytest.mark.parametrize("mdp", MDPS.values(), ids=MDPS.keys())


# ---------------------------------------------------------------------------------------------------- classes


def class_of(mdp: TokenMDP, kind: str, rng: np.random.Generator) -> PolicyClass:
    if kind == "tabular":
        return Tabular(mdp)
    if kind == "log-linear":
        return LogLinear(mdp, rng.standard_normal((mdp.P, mdp.S, mdp.V, 3)))
    return NGram(mdp, int(kind[0]), positional="positional" in kind)


@over_mdps
@pytest.mark.parametrize("kind", ["tabular", "0-gram", "1-gram", "2-gram positional", "9-gram", "log-linear"])
def test_every_class_gives_normalized_differentiable_policies(mdp: TokenMDP, kind: str, rng: np.random.Generator) -> None:
    policy = class_of(mdp, kind, rng)
    theta = rng.standard_normal(policy.shape)
    log_pi = policy.log_pi(theta)
    assert log_pi.shape == (mdp.P, mdp.S, mdp.V)
    assert_close(np.sum(np.exp(log_pi), axis=-1), 1.0, EPS * (mdp.V + 8))
    assert check_grad(policy.log_pi, theta, rng=rng) < 1e-9  # fourth-order differences at step 1e-3: truncation 1e-12, rounding 1e-12
    moved = Tabular(mdp).log_pi(log_pi + rng.standard_normal((mdp.P, mdp.S, 1)))  # a policy is a tabular policy, up to row shifts
    assert_close(moved, log_pi, EPS * (mdp.V + 8) * 8)


@over_mdps
@pytest.mark.parametrize("k", [0, 1, 2, 7])
@pytest.mark.parametrize("positional", [False, True])
def test_ngram_ties_exactly_the_states_with_equal_last_tokens(mdp: TokenMDP, k: int, positional: bool) -> None:
    states = words_of(mdp.state_tokens())
    keys = [(s[len(s) - min(k, len(s)) :], len(s) if positional else min(k, len(s))) for s in states]
    first_seen = list(dict.fromkeys(keys))
    context = NGram(mdp, k, positional).context
    assert context.tolist() == [first_seen.index(key) for key in keys]
    assert NGram(mdp, k, positional).shape == (len(first_seen), mdp.V)


def test_log_linear_with_one_feature_an_entry_is_tabular(rng: np.random.Generator) -> None:
    mdp = MDPS["words"]
    n = mdp.P * mdp.S * mdp.V
    theta = rng.standard_normal(n)
    table = LogLinear(mdp, np.eye(n).reshape(mdp.P, mdp.S, mdp.V, n))
    assert np.array_equal(table.log_pi(theta), Tabular(mdp).log_pi(theta.reshape(mdp.P, mdp.S, mdp.V)))
    assert table.shape == (n,)


def test_jacobian_of_the_tabular_class_is_the_score() -> None:
    mdp = TokenMDP(3, 1)
    theta = np.array([[[0.0, 1.0, -1.0]]])
    pi = np.exp(Tabular(mdp).log_pi(theta))[0, 0]
    assert_close(jacobian(Tabular(mdp).log_pi)(theta).reshape(3, 3), np.eye(3) - pi, 8 * EPS)


@over_worlds
def test_policies_are_distributions(world: World) -> None:
    """pi(a given s) = p(s+a)/p(s) recovers any law on its support, though not the policy where the law never goes."""
    rng = np.random.default_rng(5)
    logits = np.where(np.isneginf(world.log_p_ref), -np.inf, rng.standard_normal(world.r.shape))
    log_p = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    log_pi = log_policy_of(world.mdp, log_p)
    assert_close(np.sum(np.exp(log_pi), axis=-1), 1.0, EPS * (world.mdp.N + 32) * 4)
    assert_close(np.exp(world.mdp.path_sum(log_pi)), np.exp(log_p), EPS * (world.mdp.N + 32) * world.mdp.H)
    for x in range(world.mdp.P):
        told = tell(world, x)
        want = oracle.policy_of(dict(zip(told.order, np.exp(log_p[x]).tolist(), strict=True)), world.mdp.V)
        got = tell_policy(world.mdp, log_pi, x)
        for s in want:
            assert_close(got[s], want[s], EPS * (world.mdp.N + 32) * 4, f"state {s}")


# ---------------------------------------------------------------------------------------------------- references


@over_mdps
def test_uniform_and_dirichlet_normalize(mdp: TokenMDP, rng: np.random.Generator) -> None:
    assert_close(uniform(mdp), -math.log(mdp.V), EPS * math.log(mdp.V + 1))
    for concentration in (1e-3, 1.0, 1e6):
        log_pi = dirichlet(mdp, concentration, rng=rng)
        assert_close(np.sum(np.exp(log_pi), axis=-1), 1.0, EPS * (mdp.V + 8))
        assert np.isfinite(log_pi).all()


def beta_moments(a: float, b: float, most: int) -> list[float]:
    """E[x^k], k = 0..most, of a Beta(a, b) variable."""
    out = [1.0]
    for k in range(most):
        out.append(out[-1] * (a + k) / (a + b + k))
    return out


@pytest.mark.parametrize("concentration", [0.02, 0.5, 1.0, 6.0])
@pytest.mark.parametrize("V", [2, 3, 5])
def test_dirichlet_has_the_moments_of_its_law(concentration: float, V: int, rng: np.random.Generator) -> None:
    """pi(a) is Beta(c, (V - 1) c), its powers and its logarithm have known means and variances, and so has pi(a) pi(b):
    every sample mean is within five exact standard errors.  With a tiny concentration log pi tells, for pi itself is 0 or 1."""
    h = next(h for h in range(1, 20) if V**h > 4000)
    log_pi = dirichlet(TokenMDP(V, h), concentration, rng=rng)[0]
    n, pi, rest = len(log_pi), np.exp(log_pi), (V - 1) * concentration
    assert n > 1000
    m = beta_moments(concentration, rest, 4)
    for k in (1, 2):
        error = math.sqrt((m[2 * k] - m[k] ** 2) / n)
        assert np.max(np.abs(np.mean(pi**k, axis=0) - m[k])) < 5 * error
    total = V * concentration
    product, square = concentration / total * concentration / (total + 1), (concentration * (concentration + 1)) ** 2
    square /= total * (total + 1) * (total + 2) * (total + 3)
    assert abs(float(np.mean(pi[:, 0] * pi[:, 1])) - product) < 5 * math.sqrt((square - product**2) / n)
    mean = float(special.digamma(concentration) - special.digamma(total))
    variance = float(special.polygamma(1, concentration) - special.polygamma(1, total))
    fourth = float(special.polygamma(3, concentration) - special.polygamma(3, total)) + 3 * variance**2
    assert np.max(np.abs(np.mean(log_pi, axis=0) - mean)) < 5 * math.sqrt(variance / n)
    assert np.max(np.abs(np.mean((log_pi - mean) ** 2, axis=0) - variance)) < 5 * math.sqrt((fourth - variance**2) / n)
    apart = np.mean((pi[1:, 0] - m[1]) * (pi[:-1, 0] - m[1]))  # rows are independent
    assert abs(float(apart)) < 5 * (m[2] - m[1] ** 2) / math.sqrt(n - 1)


@given(world=worlds(), data=st.data())
def test_forbid_conditions_on_the_remaining_tokens(world: World, data: st.DataObject) -> None:
    mdp = world.mdp
    if mdp.V == 1:
        return
    token = data.draw(st.integers(0, mdp.V - 1))
    state = data.draw(st.integers(0, mdp.S - 1))
    log_pi = forbid(mdp, uniform(mdp), [mdp.vocabulary[token]], states=[state])
    pi = np.exp(log_pi)
    assert (pi[:, state, token] == 0).all()
    others = [a for a in range(mdp.V) if a != token]
    assert_close(pi[:, state][:, others], 1 / (mdp.V - 1), 8 * EPS)
    rest = [s for s in range(mdp.S) if s != state]
    assert_close(pi[:, rest], 1 / mdp.V, 8 * EPS)


WORDS = ["a", "b", "?", "."]


@given(
    corpus=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), min_size=1, max_size=6),
    order=st.integers(0, 3),
    H=st.integers(1, 4),
    eos=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_estimates_from_text_are_smoothed_counts(corpus: list[list[str]], order: int, H: int, eos: bool, smoothing: float) -> None:
    """ "?" is out of the vocabulary, and so is "." where there is no EOS."""
    names = ["a", "b", "."] if eos else ["a", "b"]
    mdp = TokenMDP(names, H, eos="." if eos else None)
    counts = oracle.ngram_counts(corpus, names, min(order, H - 1), "." if eos else None)
    if not any(map(any, counts.values())):
        return
    got = tell_policy(mdp, from_text(mdp, [" ".join(s) for s in corpus], order, smoothing), 0)
    for s, row in got.items():
        seen = counts.get(s[max(0, len(s) - order) :], [0] * mdp.V)
        total = sum(seen) + smoothing * mdp.V
        assert_close(row, [(c + smoothing) / total if total else 1 / mdp.V for c in seen], 16 * EPS, f"state {s}")


def test_lines_of_a_text_are_sentences_and_blank_lines_are_not() -> None:
    mdp = TokenMDP(("a", "b", "."), 3, eos=".", sep="")
    assert np.array_equal(from_text(mdp, "ab\n\nba\n"), from_text(mdp, ["ab", "ba"]))


def test_zen_reads_without_printing(capsys: pytest.CaptureFixture[str]) -> None:
    sentences = zen()
    assert capsys.readouterr().out == ""
    assert len(sentences) == 19  # the Zen of Python (PEP 20) has 19 aphorisms
    assert "beautiful is better than ugly" in sentences


def test_reference_as_a_world_of_text() -> None:
    """The oracle, fed with the estimated policy, agrees on the law of responses: words and characters."""
    mdp = TokenMDP(("h", "o", "<end>"), 4, eos="<end>", sep="")
    world = World(mdp, from_text(mdp, ["ho", "hoho", "oh"], order=2, smoothing=0.5), np.zeros((1, mdp.N)), 1.0)
    told = tell(world, 0)
    assert_close(np.exp(world.log_p_ref[0]), in_order(told, told.ref), nats(world))
    first = 2.5 / 4.5  # two of three sentences begin with h: (2 + 0.5)/(3 + 0.5 * 3)
    assert_close(np.sum(np.exp(world.log_p_ref[0])[[s[0] == 0 for s in told.order]]), first, 16 * EPS)
