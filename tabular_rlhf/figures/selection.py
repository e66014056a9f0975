"""Selection: best-of-n and its relatives against Gibbs at equal KL, and what happens when they select by a proxy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tabular_rlhf.figures.glyphs import GLYPHS, dotted, line
from tabular_rlhf.figures.marks import mark, name_ends, write
from tabular_rlhf.figures.record import Data, Figure, Panel, Panels
from tabular_rlhf.gibbs import log_gibbs
from tabular_rlhf.logspace import Array, expect
from tabular_rlhf.mdp import TokenMDP
from tabular_rlhf.policy import dirichlet
from tabular_rlhf.selection import Selected, best_of_n, best_of_n_bound, best_of_n_kl, select_by, soft_best_of_n
from tabular_rlhf.world import World

DRAWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def crowd(seed: int = 5, levels: float = 2.0) -> World:
    """4096 responses with rewards rounded to halves, a few of them rare and good; beta = 1."""
    rng = np.random.default_rng(seed)
    mdp = TokenMDP(4, 6)
    return World(mdp, dirichlet(mdp, 2.0, rng=rng), np.round(levels * rng.standard_normal((1, mdp.N))) / levels, 1.0, name="crowd")


def as_lists(curve: Selected) -> dict[str, list[float]]:
    """A curve as plain lists."""
    keys = ("setting", "kl", "reward", "gold", "best")
    return {key: getattr(curve, key).tolist() for key in keys}


def compute_best_of_n(lam: float = 0.25) -> Data:
    """Curves of (KL, E[r]) for best-of-n, soft best-of-n and Gibbs, and KL against its bound."""
    world = crowd()
    ref = world.log_p_ref
    best = select_by(world, lambda r, n: best_of_n(ref, r, n), DRAWS)
    soft = select_by(world, lambda r, n: soft_best_of_n(ref, r, n, lam), DRAWS)
    gibbs = select_by(world, lambda r, beta: log_gibbs(ref, r, beta), np.geomspace(20.0, 0.08, 120))
    real = np.geomspace(1.0, DRAWS[-1], 121)  # the bound holds between whole n as well
    return {
        "lam": lam,
        "best_of_n": as_lists(best),
        "soft": as_lists(soft),
        "gibbs": as_lists(gibbs),
        "n": list(DRAWS),
        "kl": [float(best_of_n_kl(ref, world.r, n)[0]) for n in DRAWS],
        "line": real.tolist(),
        "bound": [best_of_n_bound(n) for n in real.tolist()],
    }


def draw_best_of_n(axes: Panels, data: Data) -> None:
    """Left: reward against KL.  Right: the KL of best-of-n against its bound."""
    left, right = axes
    line(left, "tilted", data["gibbs"]["kl"], data["gibbs"]["reward"])
    _beside(left, data["gibbs"], -14, r"Gibbs, $p_\beta$: the most", "above left")
    soft = rf", $\lambda = {data['lam']:g}$"
    curves = (("best_of_n", "best-of-n", "", 14, "below right"), ("soft", "soft-best-of-n", soft, -1, "above left"))
    for key, name, more, at, side in curves:
        dotted(left, name, data[key]["kl"], data[key]["reward"], linewidth=1.2)
        _beside(left, data[key], at, GLYPHS[name].label + more, side)
    left.set(xlabel=r"$\mathrm{KL}(p, p_{\mathrm{ref}})$, nats", ylabel=r"$\mathrm{E}_p[r]$, reward units")
    line(right, "bound", data["line"], data["bound"], label=r"$\log n - (n - 1)/n$")
    dotted(right, "best-of-n", data["n"], data["kl"], linewidth=1.2, label="exact: ties\nlower it")
    right.set_xscale("log", base=2)
    right.set(xlabel="$n$", ylabel="KL of best of $n$, nats")
    name_ends(right, apart=0.11)


def _beside(ax: Panel, curve: Data, at: int, words: str, side: str, *, x: str = "kl", y: str = "reward") -> None:
    """A name beside a point of a curve."""
    write([ax], [mark(curve[x][at], curve[y][at], words, beside=side)])


# ---------------------------------------------------------------------------------------------------- over-optimization


def proxy_of(world: World, seed: int = 11, noise: float = 0.5) -> Array:
    """The reward plus an error whose tail is heavy: a few responses are over-rated a great deal."""
    error = np.random.default_rng(seed).standard_t(3, world.r.shape)
    return np.asarray(world.r + noise * error)


def compute_proxy() -> Data:
    """Proxy and gold reward against KL when best-of-n and Gibbs select by the proxy."""
    world = crowd()
    ref, proxy = world.log_p_ref, proxy_of(world)
    best = select_by(world, lambda r, n: best_of_n(ref, r, n), [*DRAWS, 2048, 4096, 8192, 16384], proxy=proxy)
    gibbs = select_by(world, lambda r, beta: log_gibbs(ref, r, beta), np.geomspace(40.0, 0.2, 240), proxy=proxy)
    start = float(np.sum(world.mu * expect(ref, proxy)))
    return {"best_of_n": _rooted(best), "gibbs": _rooted(gibbs), "start": start}


def _rooted(curve: Selected) -> dict[str, Any]:
    return {**as_lists(curve), "root_kl": np.sqrt(curve.kl).tolist()}


def draw_proxy(axes: Panels, data: Data) -> None:
    """Left: the proxy.  Right: the true reward.  Both against the square root of KL, as over-optimization is usually plotted."""
    for ax, key, title in zip(axes, ("reward", "gold"), ("the proxy", "the true reward"), strict=True):
        best, gibbs, name = data["best_of_n"], data["gibbs"], "best-of-n"
        line(ax, "tilted", gibbs["root_kl"], gibbs[key])
        dotted(ax, name, best["root_kl"], best[key], linewidth=1.2)
        sides = ("above left", "below right") if key == "reward" else ("above", "above left")
        for curve, words, side in zip((gibbs, best), (r"Gibbs, $p_\beta$", GLYPHS[name].label), sides, strict=True):
            at = int(np.argmax(curve[key])) if key == "gold" else int(np.argmin(np.abs(np.array(curve["root_kl"]) - 1.7)))
            _beside(ax, curve, at, words, side, x="root_kl", y=key)
        ax.set(title=title, xlabel=r"$\sqrt{\mathrm{KL}(p, p_{\mathrm{ref}})}$")
    axes[0].set_ylabel("reward units")
    axes[1].margins(y=0.12)


FIGURES = (
    Figure(
        name="best-of-n",
        title="Best of n earns nearly all that can be earned at its KL, and never more",
        caption="Best of n comes close to the Gibbs frontier at every KL and never beyond it; ties keep its KL below the bound.",
        rows=("best-of-n",),
        compute=compute_best_of_n,
        draw=draw_best_of_n,
        widths=(1.2, 1.0),
        size=(8.4, 4.0),
    ),
    Figure(
        name="over-optimization",
        title="The proxy rises on and on; what was wanted rises, peaks and falls",
        caption="Selecting by a proxy with a heavy-tailed error: the proxy rises on and on, the true reward rises, peaks and falls.",
        rows=("best-of-n", "reward-hacking"),
        compute=compute_proxy,
        draw=draw_proxy,
        widths=(1.0, 1.0),
        size=(8.4, 4.0),
    ),
)
