"""Laws of lattices: what sweeps over merged states say is what enumeration says, on every world that can be listed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest

from tabular_rlhf import gibbs
from tabular_rlhf.errors import InputError
from tabular_rlhf.estimators.record import ESTIMATORS
from tabular_rlhf.language import Language
from tabular_rlhf.lattice import LatticeWorld, Reference, Rows, as_lattice, solve, unmerged
from tabular_rlhf.lattice import optimum as optima
from tabular_rlhf.lattice import policy as policies
from tabular_rlhf.lattice.condition import Given, Masked, rewarded
from tabular_rlhf.lattice.draws import sample, texts
from tabular_rlhf.lattice.flow import expected_counts, forward_projection, length_law, log_mean_exp, policy_gradient, renyi, visits
from tabular_rlhf.lattice.law import group_advantage, reward_law
from tabular_rlhf.lattice.pairs import pair_softplus
from tabular_rlhf.lattice.tree import log_law
from tabular_rlhf.logspace import log_softmax, logsumexp, remainder
from tabular_rlhf.machines import Machine, lattice, length, matches, merge, minimize, ngram, phrases, product, uniform
from tabular_rlhf.mdp import TokenMDP, tree_counts
from tabular_rlhf.path import Quantity, Sums, expect, variance
from tabular_rlhf.path.sweep import SYMBOLS, Representation
from tabular_rlhf.policy import NGram, from_text
from tabular_rlhf.policy_gradient import Recipe
from tabular_rlhf.policy_gradient.groups import Kinds, pushes
from tabular_rlhf.world import NAMED, World, generated_worlds, named_world, random_world

SCALE = 1e-12
"""What lattice and enumeration may differ by, as a share of the numbers that are added up."""
PATTERNS = ("a+b", "(ab|ba)*", "a.b?c*", "[^a]*a[abc]{1,2}", "(?i)A*b", "(a|b)*a(a|b)(a|b)", "", "b?", "ab|a", r"[a-b]\w?|c", "^a.*$")
QUANTITIES = {
    **{name: (lambda y, h=ESTIMATORS[name].h: h(y.L)) for name in ("k1", "k2", "k3", "k3-inverted")},
    "r": lambda y: y.r,
    "p/p_ref": lambda y: np.exp(y.L),
    "p_ref/p": lambda y: np.exp(-y.L),
    "alpha": lambda y: np.exp(0.5 * y.L),
    "r L": lambda y: y.r * y.L,
    "surprise": lambda y: -y.log_p_ref,
    "length^2": lambda y: np.square(y.length),
    "advantage of k3": lambda y: (y.r - 0.25) * np.exp(-y.L) / 2 + y.L**2,
    "mixed": lambda y: y.r * np.exp(-0.3 * y.L + 0.1 * y.r) + 2.0 - y.length**2,
    "quotient": lambda y: (y.r - 1.0) / np.exp(y.L),
    "a constant": lambda y: 3.0 + 0.0 * y.L,
}


def listed(world: World, log_p: Any, L: Any) -> Sums:
    """The sums of every response, 0 where the reference forbids it."""
    possible = ~np.isneginf(world.log_p_ref)
    length = np.broadcast_to(world.mdp.lengths.astype(float), world.r.shape)
    return Sums(np.where(possible, L, 0.0), np.where(possible, world.log_p_ref, 0.0), world.r, length)


def spread(w: Any, x: Any) -> tuple[float, float, float]:
    """Mean, variance, and the mean square that rounding is relative to."""
    mean = float(np.sum(w * x))
    return mean, float(np.sum(w * np.square(x - mean))), float(np.sum(w * np.square(x)))


def drawn_machines(seed: int) -> tuple[World, LatticeWorld, Machine]:
    """A world of a random n-gram, phrases, length and pattern: listed by other code, and as a lattice."""
    rng = np.random.default_rng(seed)
    V, H, P = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 3))
    eos, sep, k = bool(rng.integers(2)), str(rng.choice(["", " "])), int(rng.integers(0, 4))
    names = [*"abc"[:V], *(["."] if eos else [])]
    mdp = TokenMDP(names, H, eos="." if eos else None, prompts=[f"x{i}" for i in range(P)], mu=rng.dirichlet(np.ones(P)), sep=sep)
    corpus = ["a", *(sep.join(rng.choice(list("abcz")[: V + 1], size=rng.integers(1, 7))) for _ in range(6))]
    smoothing = float(rng.choice([0.0, 0.1, 1.0]))
    said = {tuple(rng.choice(names[:V], size=n)) + (((".",)) if eos and rng.random() < 0.3 else ()): float(rng.normal()) for n in (1, 2, 3)}
    pattern, per_token = str(rng.choice(PATTERNS)), float(rng.normal())
    r = sum(w * mdp.phrase_count(list(p)) for p, w in said.items()) + per_token * mdp.lengths
    for i in range(mdp.N):
        words = mdp.text(i).removesuffix(".").removesuffix(sep) if eos else mdp.text(i)
        r[i] += 0.7 * bool(re.fullmatch(pattern, words))
    world = World(mdp, from_text(mdp, corpus, k, smoothing), np.broadcast_to(r, (P, mdp.N)), float(np.exp(rng.normal())))
    parts = [ngram(mdp, corpus, k, smoothing), phrases(mdp, said), length(mdp, per_token), matches(mdp, pattern, 0.7)]
    machine = product(mdp, parts)
    return world, lattice(mdp, machine, world.beta), machine


def every_world() -> Iterator[tuple[str, World]]:
    yield from ((name, named_world(name)) for name in NAMED if name != "zen")
    yield from ((f"generated {i}", w) for i, w in enumerate(generated_worlds(25, rng=np.random.default_rng(1))))


# ---------------------------------------------------------------------------------------------------- against enumeration


@pytest.mark.parametrize("seed", range(40))
def test_machines_are_the_world_that_they_describe(seed: int) -> None:
    world, made, machine = drawn_machines(seed)
    g, p = gibbs.solve(world), gibbs.solve(world).p
    scale = max(1.0, float(np.abs(world.r).max()))
    small = lattice(world.mdp, minimize(machine, world.mdp.K), world.beta)
    assert small.states <= made.states
    assert merge(world).states <= sum(level.n for level in small.levels)
    for lattice_world in (made, small, merge(made)):
        s = solve(lattice_world)
        assert np.abs(s.V - g.V).max() <= SCALE * scale
        for f, x in ((lambda y: y.r, world.r), (lambda y: y.log_p_ref, np.where(p > 0, world.log_p_ref, 0.0))):
            mean, var, square = spread(world.mu[:, None] * p, x)
            assert abs(expect(f, s) - mean) <= SCALE * max(scale, np.sqrt(square))
            assert abs(variance(f, s) - var) <= SCALE * max(scale**2, square)


@pytest.mark.parametrize(("name", "world"), list(every_world()), ids=lambda x: x if isinstance(x, str) else "")
def test_every_quantity_is_its_enumeration(name: str, world: World) -> None:
    """Under p* and under a policy of one's own, merged and unmerged, at a beta from 0.01 to 10 times the world's."""
    rng = np.random.default_rng(0)
    logits = np.where(np.isneginf(world.log_ref), -np.inf, rng.standard_normal(world.log_ref.shape))
    own = log_softmax(logits)
    full = unmerged(world)
    tables = [np.moveaxis(rows, 1, 0).reshape(world.mdp.V, -1) for rows in world.mdp.levels(own)]
    possible = ~np.isneginf(world.log_p_ref)
    with np.errstate(invalid="ignore"):
        mine = np.where(possible, world.mdp.path_sum(own) - world.log_p_ref, 0.0)
    laws = [(Rows(full, tables), world.mdp.path_sum(own), mine, world)]
    for factor in (0.01, 1.0, 10.0):
        at = world.at(world.beta * factor)
        g = gibbs.solve(at)
        laws += [(solve(lattice_world), g.log_p, g.log_weight, at) for lattice_world in (unmerged(at), merge(at))]
        assert np.abs(solve(at).V - g.V).max() <= SCALE * max(1.0, np.abs(world.r).max())
    for policy, log_p, L, at in laws:
        y, weight = listed(at, log_p, L), at.mu[:, None] * np.exp(log_p)
        for quantity, f in QUANTITIES.items():
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                x = np.broadcast_to(f(y), weight.shape)
                mean, var, square = spread(weight, x)
                floats = np.abs(x).max() < 1e100
            if not floats:
                continue
            size = max(float(np.abs(y.L).max()), float(np.abs(y.log_p_ref).max()), 1.0)
            unit = max(np.sqrt(square), size if quantity in ("k1", "surprise") else 1e-3 * size)  # enumeration rounds L itself
            assert abs(expect(f, policy) - mean) <= SCALE * unit, (name, quantity)
            assert abs(variance(f, policy) - var) <= SCALE * unit**2, (name, quantity)


def test_zen_merges_to_25_states() -> None:
    world = named_world("zen")
    small = merge(world)
    assert [level.n for level in small.levels] == [1, 6, 6, 6, 6]
    g, s = gibbs.solve(world), solve(small)
    assert np.abs(g.V - s.V).max() <= SCALE
    assert abs(float(g.kl[0]) - expect(QUANTITIES["k3"], s)) <= SCALE
    assert merge(small).states == small.states


@pytest.mark.parametrize(("name", "world"), list(every_world()), ids=lambda x: x if isinstance(x, str) else "")
def test_flows_are_sums_over_responses(name: str, world: World) -> None:
    g, mdp = gibbs.solve(world), world.mdp
    full = unmerged(world)
    s, weight = solve(full), world.mu[:, None] * g.p
    through = np.sum(world.mu[:, None, None] * mdp.subtree_sum(g.p), axis=0)
    assert abs(sum(np.sum(m) for _, _, m in visits(s)) - np.sum(through)) <= SCALE * mdp.H
    for policy in (s, solve(merge(world))):
        counts = np.sum(np.stack([np.sum(c, axis=1) for c in expected_counts(policy)]), axis=0)
        assert np.abs(counts - np.sum(through, axis=0)).max() <= SCALE * mdp.H
    lengths = np.bincount(np.tile(mdp.lengths, mdp.P), np.ravel(weight), mdp.H + 1)
    assert np.abs(length_law(solve(merge(world))) - lengths).max() <= SCALE
    for alpha in (0.5, 2.0, 3.0):
        with np.errstate(over="ignore"):
            exact = logsumexp(g.log_p + (alpha - 1.0) * g.log_weight, axis=1) / (alpha - 1.0)
        assert np.abs(renyi(s, alpha) - exact).max() <= 1e-11 * max(1.0, np.abs(exact).max())
    logits = np.where(np.isneginf(world.log_ref), -np.inf, np.random.default_rng(0).standard_normal(world.log_ref.shape))
    tables = [np.moveaxis(rows, 1, 0).reshape(mdp.V, -1) for rows in mdp.levels(log_softmax(logits))]
    slope = gibbs.policy_gradient(world, logits)
    for (_, ours), theirs in zip(policy_gradient(Rows(full, tables)), mdp.levels(slope), strict=True):
        difference = ours - np.moveaxis(theirs, 1, 0).reshape(mdp.V, -1)
        assert np.abs(difference).max(initial=0.0) <= 1e-11 * max(1.0, np.abs(slope).max())
    context = [NGram(mdp, 1).context[a:b] for a, b in zip(mdp.offsets, mdp.offsets[1:], strict=False)]
    rows = forward_projection(s, [np.tile(c, mdp.P) for c in context])
    totals = np.stack([np.bincount(NGram(mdp, 1).context, through[:, a], NGram(mdp, 1).shape[0]) for a in range(mdp.V)], axis=1)
    expected = totals / np.where(totals.sum(axis=1, keepdims=True) > 0, totals.sum(axis=1, keepdims=True), 1.0)
    met = totals.sum(axis=1) > 1e-9
    assert np.abs(rows[met] - expected[met]).max(initial=0.0) <= 1e-9


def test_pull_and_push_are_transposes() -> None:
    rng = np.random.default_rng(0)
    for _, world in every_world():
        for level in unmerged(world).levels:
            x, mass = rng.standard_normal(level.after + 1), rng.standard_normal(level.child.shape)
            assert abs(np.sum(level.pull(x) * mass) - np.sum(x * level.push(mass))) <= 1e-11 * (1.0 + np.sum(np.abs(mass)))
            assert np.abs(level.matrix(mass) @ x - np.sum(mass * level.pull(x), axis=0)).max(initial=0.0) <= 1e-11 * (1.0 + np.abs(x).max())


# ---------------------------------------------------------------------------------------------------- where numbers cancel


@pytest.mark.parametrize("beta", [3e3, 1e4, 1e5])
def test_small_variances_keep_their_digits(beta: float) -> None:
    """Var k1, k2, k3 at KL 1e-9 and below, against mpmath with 60 digits: enumeration in floats has none of them right."""
    x = TokenMDP(("a", "b"), 5, sep="")
    corpus = ["abab", "bbba", "aab"]
    machine = product(x, [ngram(x, corpus, 1, 0.5), phrases(x, {"ab": 1.0, "bb": -0.5})])
    s = solve(lattice(x, machine, beta))
    mpmath.mp.dps = 60
    ref, reward = [], []
    log_ref = s.world.levels[0].log_ref
    for tau in range(x.N):
        tokens = x.tokens(np.array([tau]))[0]
        node, p, total = machine.start, mpmath.mpf(1), mpmath.mpf(0)
        for t in tokens:
            row = [mpmath.exp(mpmath.mpf(float(v))) for v in log_ref[:, node]]
            p *= row[t] / sum(row)
            total += mpmath.mpf(float(machine.gain[t, node]))
            node = int(machine.next[t, node])
        ref.append(p)
        reward.append(total)
    w = [p * mpmath.exp(r / mpmath.mpf(beta)) for p, r in zip(ref, reward, strict=True)]
    Z = sum(w)
    law = [a / Z for a in w]
    L = [mpmath.log(a / b) for a, b in zip(law, ref, strict=True)]
    assert float(sum(a * b for a, b in zip(law, L, strict=True))) < 1e-7
    for name, h in {"k1": lambda t: t, "k2": lambda t: t * t / 2, "k3": lambda t: mpmath.expm1(-t) + t}.items():
        values = [h(t) for t in L]
        mean = sum(a * b for a, b in zip(law, values, strict=True))
        var = sum(a * (b - mean) ** 2 for a, b in zip(law, values, strict=True))
        assert abs(variance(QUANTITIES[name], s) / float(var) - 1.0) <= 1e-9, name
        assert name == "k1" or abs(expect(QUANTITIES[name], s) / float(mean) - 1.0) <= 1e-9, name


def test_huge_variances_are_those_of_their_logarithm() -> None:
    """Far from the reference, Var k3 is E exp(-2 L) but for terms that vanish beside it: the same by a sweep in logarithms."""
    x = Language(("a", "b"), 300, sep="")
    machine = product(x, [ngram(x, ["abab", "bbba", "aab"], 1, 0.5), phrases(x, {"ab": 1.0, "bb": -0.5})])
    for beta in (0.4, 0.3):
        s = solve(lattice(x, machine, beta))
        log_square = float(log_mean_exp(s, lambda h, s=s: -2.0 * s.ratio(h))[0])
        assert log_square > 50.0
        assert abs(np.log(variance(QUANTITIES["k3"], s)) - log_square) <= 1e-9 * log_square


def test_remainders_of_the_exponential_keep_their_digits() -> None:
    t = np.concatenate([s * np.logspace(-9, 2, 60) for s in (-1.0, 1.0)])
    mpmath.mp.dps = 60
    for k in range(5):
        for x, ours in zip(t, remainder(t, k), strict=True):
            exact = mpmath.exp(mpmath.mpf(float(x))) - sum(mpmath.mpf(float(x)) ** j / mpmath.factorial(j) for j in range(k))
            assert abs(ours - float(exact)) <= 2e-13 * abs(float(exact))


def test_an_exponential_never_stands_alone() -> None:
    """k3 is one coordinate and L: no constant, and nothing that is of order 1 where KL is small."""
    form = Representation(Quantity.of(QUANTITIES["k3"](SYMBOLS)))
    assert form.constant == 0.0
    assert [k for (_, _, k), i in form.places.items() if form.weight[i] != 0] == [2]
    assert repr(SYMBOLS.log_p - SYMBOLS.log_p_ref - SYMBOLS.L) == "0"


@pytest.mark.parametrize("beta", [1e-300, 1e-12, 1e-3, 1.0, 1e3, 1e12, 1e300])
def test_soft_values_at_any_beta(beta: float) -> None:
    for seed in range(6):
        world, made, _ = drawn_machines(seed)
        g, s = gibbs.solve(world.at(beta)), solve(made.at(beta))
        assert np.abs(s.V - g.V).max() <= SCALE * max(1.0, np.abs(world.r).max())
        assert np.abs(g.log_Z - s.log_Z).max() <= SCALE * max(np.abs(g.log_Z).max(), 1e-300)
        kl = expect(QUANTITIES["k1"], s)
        assert abs(kl - np.sum(world.mu * g.kl)) <= SCALE * max(1.0, np.abs(g.kl).max())


# ---------------------------------------------------------------------------------------------------- laws, groups, pairs, draws


@pytest.mark.parametrize("seed", range(8))
def test_the_law_of_the_reward(seed: int) -> None:
    world = generated_worlds(8, rng=np.random.default_rng(2))[seed]
    world = world.with_reward(np.round(4.0 * world.r) / 4.0)
    g = gibbs.solve(world)
    for policy, p in ((solve(merge(world)), g.p), (Reference(world), np.exp(world.log_p_ref))):
        law = reward_law(policy)
        for x in range(world.mdp.P):
            exact = [float(np.sum(p[x], where=np.abs(world.r[x] - r) < 1e-9)) for r in law.r]
            assert np.abs(law.p[x] - exact).max() <= SCALE
            assert abs(law.p[x].sum() - 1.0) <= SCALE
    tilted, star = reward_law(Reference(world)).tilted(world.beta), reward_law(solve(world))
    for x in range(world.mdp.P):
        both = dict(zip(star.r.round(6).tolist(), star.p[x].tolist(), strict=True))
        assert max(abs(p - both.get(r, 0.0)) for r, p in zip(tilted.r.round(6).tolist(), tilted.p[x].tolist(), strict=True)) <= SCALE


@pytest.mark.parametrize(("K", "G"), [(2, 2), (3, 4), (5, 3), (4, 8), (3, 16), (1, 4)])
@pytest.mark.parametrize("settings", [{"ddof": 0, "epsilon": 0.0}, {"ddof": 1, "epsilon": 1e-4}, {"ddof": 0, "epsilon": 0.3}])
def test_group_advantages_are_sums_over_counts(K: int, G: int, settings: dict[str, float]) -> None:
    rng = np.random.default_rng(K * G)
    for scale in (1.0, 1e-3, 1e4):
        r = scale * np.sort(rng.choice(np.arange(-5, 30), K, replace=False)).astype(float)
        q = rng.dirichlet(np.full(K, 0.5)) + 1e-9
        q /= q.sum()
        up, _ = pushes(Kinds(r, np.ones(K), q, np.arange(K)), Recipe("grpo", G=G, **settings), {})
        assert np.abs(up / G - group_advantage(r, q, G, **settings)).max() <= 1e-12 * G


def test_losses_over_all_pairs() -> None:
    for world in generated_worlds(12, rng=np.random.default_rng(3), smallest_beta=0.2):
        s, g = solve(world), gibbs.solve(world)
        for policy, q in ((Reference(s.world), np.exp(world.log_p_ref)), (s, g.p)):
            ours = pair_softplus(policy, lambda h, s=s: s.world.levels[h].r)
            for x in range(world.mdp.P):
                z = world.r[x][:, None] - world.r[x]
                exact = float(q[x] @ np.logaddexp(0.0, z) @ q[x])
                assert abs(ours[x] - exact) <= SCALE * max(1.0, np.abs(z).max())


@pytest.mark.parametrize("seed", range(6))
def test_masking_and_conditioning_are_what_lists_say(seed: int) -> None:
    """Masked: in each prefix the tokens from which the format can still be had, in their proportions.  Given: Bayes."""
    rng = np.random.default_rng(seed)
    base = random_world(rng=rng, V=3, H=3, P=1, eos=bool(seed % 2), forbidden=0.3 * (seed % 3 == 2))
    possible = ~np.isneginf(base.log_p_ref[0])
    asked = (rng.random(base.mdp.N) < 0.4) | (np.arange(base.mdp.N) == np.flatnonzero(possible)[0])
    tree = unmerged(World(base.mdp, base.log_ref, asked[None].astype(float), base.beta))
    says = [tuple(t for t in row if t >= 0) for row in base.mdp.tokens(np.arange(base.mdp.N)).tolist()]
    p = dict(zip(says, np.exp(base.log_p_ref[0]).tolist(), strict=True))
    good = {y for y, right in zip(says, asked & possible, strict=True) if right}
    inside = {y[:h] for y in good for h in range(len(y) + 1)}

    def mass(prefix: tuple[int, ...]) -> float:
        return sum(q for y, q in p.items() if y[: len(prefix)] == prefix)

    def masked(y: tuple[int, ...]) -> float:
        chance = 1.0
        for h in range(len(y)):
            left = [mass((*y[:h], a)) for a in range(base.mdp.V) if (*y[:h], a) in inside]
            chance *= mass(y[: h + 1]) / sum(left) if y[: h + 1] in inside else 0.0
            if not chance:
                break
        return chance

    total = sum(p[y] for y in good)
    for made, want in ((Masked, masked), (Given, lambda y: p[y] / total if y in good else 0.0)):
        law = np.exp(log_law(base, made(tree, rewarded(tree))))[0]
        assert law == pytest.approx([want(y) for y in says], abs=1e-12), made.__name__


@pytest.mark.parametrize("seed", range(6))
def test_samples_are_of_the_policy(seed: int) -> None:
    world, made, _ = drawn_machines(seed + 100)
    s, n = solve(made), 20_000
    drawn = sample(s, n, rng=np.random.default_rng(seed), tokens=True)
    for f in (lambda y: y.r, lambda y: y.L, lambda y: y.length, lambda y: y.log_p_ref, lambda y: np.exp(-y.L)):
        error = np.sqrt(variance(f, s) / n)
        assert abs(float(np.mean(f(drawn))) - expect(f, s)) <= 5.0 * error + SCALE * (1.0 + abs(expect(f, s)))
    g = gibbs.solve(world)
    for i, text in enumerate(texts(s, drawn)[:50]):
        tau = world.mdp.find(text)
        assert abs(g.log_p[drawn.x[i], tau] - drawn.log_p[i]) <= 1e-9
        assert abs(world.r[drawn.x[i], tau] - drawn.r[i]) <= 1e-9


# ---------------------------------------------------------------------------------------------------- size


def test_long_horizons_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are not kept are made again: the same numbers, and a hundredth of the memory."""
    x = Language(("a", "b", "."), 700, eos=".", sep="")
    machine = product(x, [ngram(x, ["abab.", "bba."], 2, 0.01), phrases(x, {"ab": 0.5, "bab": -1.0})])
    kept = solve(lattice(x, machine, 0.7))
    answers = [expect(f, kept) for f in QUANTITIES.values()][:6]
    counts = expected_counts(kept)
    monkeypatch.setattr(policies, "KEPT", 1)
    again = solve(lattice(x, machine, 0.7))
    backward = again._values.z if isinstance(again._values, optima._Weights) else again._values.soft
    assert len(backward.kept) <= 2 + 700 // 26
    assert np.array_equal(again.V, kept.V)
    assert [expect(f, again) for f in QUANTITIES.values()][:6] == answers
    assert all(np.array_equal(a, b) for a, b in zip(expected_counts(again), counts, strict=True))


@pytest.mark.parametrize(("beta", "H"), [(0.05, 5000), (1.0, 20_000), (1e6, 2000)])
def test_thousands_of_tokens_in_closed_form(beta: float, H: int) -> None:
    """Independent tokens: log Z = H log((1 + e^(1/beta))/2), E r and Var r those of H coins."""
    x = Language(("a", "b"), H, sep="")
    w = lattice(x, product(x, [uniform(x), phrases(x, {"b": 1.0})]), beta)
    s = solve(w)
    assert w.responses == f"10^{round(H * np.log10(2.0))}"
    p, rest = 1.0 / (1.0 + np.exp(-1.0 / beta)), 1.0 / (1.0 + np.exp(1.0 / beta))
    log_Z = H * np.log1p(0.5 * np.expm1(1.0 / beta))
    assert abs(s.log_Z[0] / log_Z - 1.0) <= 1e-11
    assert abs(expect(lambda y: y.r, s) / (H * p) - 1.0) <= 1e-11
    assert abs(variance(lambda y: y.r, s) / (H * p * rest) - 1.0) <= 1e-10


def test_the_number_of_responses() -> None:
    for V in (1, 2, 3, 5):
        for H in (1, 2, 5, 40):
            for eos in (False, True):
                x = Language(V, H, eos=V - 1 if eos else None)
                assert abs(x.log10_responses - np.log10(float(tree_counts(V, H, eos)[1]))) <= 1e-12


# ---------------------------------------------------------------------------------------------------- refusals


def test_what_is_not_listed_is_refused_in_one_sentence() -> None:
    x = Language(27, 200)
    w = lattice(x, uniform(x), 1.0)
    g = solve(w)
    for ask in (lambda: w.r, lambda: w.log_p_ref, lambda: g.p, lambda: g.log_p):
        with pytest.raises(InputError) as refused:
            ask()
        assert str(refused.value) == "10^286 responses are not listed: use expect, law or sample"


@pytest.mark.parametrize(
    ("f", "named"),
    [
        (lambda y: np.abs(y.L), "np.absolute"),
        (lambda y: np.where(y.L > 0, 1.0, 0.0), "np.greater"),
        (lambda y: np.clip(y.L, -1.0, 1.0), "np.clip"),
        (lambda y: np.maximum(y.r, 0.0), "np.maximum"),
        (lambda y: np.log(y.r), "np.log"),
        (lambda y: np.exp(y.L**2), "np.exp"),
        (lambda y: 1.0 / y.r, "np.true_divide"),
        (lambda y: y.L**0.5, "np.power"),
        (lambda y: np.add.reduce(y.L), "np.add.reduce"),
        (lambda y: 1.0 if y.L else 0.0, "np.bool"),
        (lambda y: float(y.r), "np.float"),
        (lambda y: np.mean(y.r), "np.mean"),
    ],
)
def test_what_has_no_sweep_raises_and_names_it(f: Any, named: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"got {named};")):
        expect(f, Reference(named_world("coin")))


def test_means_beyond_floats_are_refused() -> None:
    x = Language(2, 3000)
    w = lattice(x, product(x, [uniform(x), length(x, 1.0)]), 1.0)
    with pytest.raises(InputError, match="range of floats"):
        expect(lambda y: np.exp(y.r), Reference(w))
    assert abs(float(log_mean_exp(Reference(w), lambda h: w.levels[h].r)[0]) - 3000.0) <= 1e-9


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(a", "must be a regular expression"),
        (r"(a)\1", "groupref"),
        ("a(?=b)", "assert"),
        ("(a|b)*a(a|b){20}", "more than 20,000 states"),
        (r"a\bb", "at"),
        ("(a{999}){999}", "more than 100,000 places"),
    ],
)
def test_patterns_without_a_small_automaton_are_refused(pattern: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        matches(Language(("a", "b"), 9, sep=""), pattern)


@pytest.mark.parametrize("sep", ["", " "])
def test_patterns_match_what_python_matches(sep: str) -> None:
    mdp = TokenMDP((*"abc", "."), 4, eos=".", sep=sep)
    for pattern in (*PATTERNS, r"(?s)a.", r"[^\W\d]*", r"a*?b+?", r"(a|(b|c))+", r"\S*(\s\S)*"):
        m = matches(mdp, pattern, 1.0)
        for tau in range(mdp.N):
            text = mdp.text(tau).removesuffix(".").removesuffix(sep or "\0")
            state, paid = m.start, 0.0
            tokens = [t for t in mdp.tokens(np.array([tau]))[0] if t >= 0]
            for i, t in enumerate(tokens):
                paid += m.gain[t, state] + (m.final[t, state] if i == len(tokens) - 1 else 0.0)
                state = int(m.next[t, state])
            assert paid == bool(re.fullmatch(pattern, text)), (pattern, text)


def test_a_merge_loses_nothing() -> None:
    """Rewards that differ by more than rounding stay apart; values so dense that equal ones would pull others along are refused."""
    mdp = TokenMDP(2, horizon=2)
    apart = World(mdp, np.log(np.full((1, 3, 2), 0.5)), np.array([[0.0, 1.0, 0.0, 1.0 + 1e-11]]), 1.0)
    same = apart.with_reward(np.array([[0.0, 1.0, 0.0, 1.0 + 1e-15]]))
    assert [merge(w).states for w in (apart, same)] == [3, 2]
    chain = np.cumsum(np.full(2**12, 5 * np.finfo(float).eps))
    wide = TokenMDP(2, horizon=12)
    dense = World(wide, np.log(np.full((1, wide.S, 2), 0.5)), (1.0 + np.random.default_rng(0).permutation(chain))[None], 1.0)
    with pytest.raises(InputError, match="lose no reward"):
        merge(dense)


def test_wrong_lattices_are_refused() -> None:
    world = unmerged(named_world("fork"))
    with pytest.raises(InputError, match="2 levels"):
        LatticeWorld(world.language, world.levels[:1], world.roots, 1.0)
    with pytest.raises(InputError, match="must have a reference"):
        lattice(Language(2, 3), phrases(Language(2, 3), {"1": 1.0}), 1.0)
    with pytest.raises(InputError, match="one machine of a product"):
        product(Language(2, 3), [uniform(Language(2, 3))] * 2)
    with pytest.raises(InputError, match="nothing after EOS"):
        phrases(Language(("a", "."), 3, eos="."), {". a": 1.0})
    with pytest.raises(InputError, match="rows must normalize"):
        Rows(world, [np.zeros((2, 1)), np.zeros((2, 2))])
    with pytest.raises(InputError, match="whole numbers of steps"):
        reward_law(Reference(as_lattice(named_world("fork").with_reward([[np.pi, 1.0, 2.0, 3.0]]))))
