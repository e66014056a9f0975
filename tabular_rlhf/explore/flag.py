r"""`explore.kl`: choose a KL estimator and where it stands, and see what it really optimizes, beside the Gibbs law it was meant to.

What a flag descends is measured; where the optimum of E[r] - beta times it has no closed form, the flow of its exact expected
update is followed from p_ref to where it ends, on worlds small enough (`estimators.ends`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tabular_rlhf.errors import positive
from tabular_rlhf.estimators import ESTIMATORS, PLACEMENTS, analyse, end, flags, measure
from tabular_rlhf.explore import bars
from tabular_rlhf.explore.panel import Control, Data, View, on_screen, panel
from tabular_rlhf.explore.svg import INK, Picture
from tabular_rlhf.figures.glyphs import BLUE, ORANGE
from tabular_rlhf.figures.record import ceiling
from tabular_rlhf.gibbs import solve
from tabular_rlhf.told import number
from tabular_rlhf.world import World


def data(
    world: World,
    *,
    estimator: str = "k1",
    placement: str = "loss",
    beta: float | None = None,
    prompt: int | str = 0,
    kept: list[int] | None = None,
) -> Data:
    """What a flag estimates at p*, what it descends, and the law it leads to.

    Returns: by response that is shown: response, p_ref, p_star, p (where the flag leads; None where that is not known); ends,
    in words; rests, whether that is a place of rest, or only where the flow has got to; others, how many are not shown;
    reward, kl, regret there, averaged over prompts;
    mean, bias, std of the estimate at p*, in nats; cosine of its
    update with the true gradient of the KL.

    >>> from tabular_rlhf.world import rational
    >>> shown = data(rational(), estimator="k3", placement="loss")
    >>> shown["descends"], shown["ends"], [round(p, 4) for p in shown["p"]], round(shown["regret"], 6)
    ('KL(ref, pi)', 'beta p_ref/(lam - r)', [0.1835, 0.6188, 0.1978], 0.002493)
    """
    x = bars.prompt_number(world.mdp, prompt)
    (flag,) = flags(estimator, placement)
    here = world.at(positive(world.beta if beta is None else beta, "beta", "reward units per nat"))
    best = solve(here)
    report = analyse(flag, here, best.log_pi)
    there = end(flag, here, report.optimum)
    log_p = there.log_p
    kept = sorted(bars.heaviest(world, x, bars.SHOWN) if kept is None else kept)
    reward, distance, regret = (None, None, None) if log_p is None else measure(here, log_p)
    gibbs = measure(here, best.log_p)
    return {
        "estimator": estimator,
        "placement": placement,
        "meaning": PLACEMENTS[placement].meaning,
        "beta": here.beta,
        "response": [bars.response(world.mdp, i) for i in kept],
        "others": world.mdp.N - len(kept),
        "p_ref": bars.law(world.log_p_ref[x], kept),
        "p_star": bars.law(best.log_p[x], kept),
        "p": None if log_p is None else bars.law(log_p[x], kept),
        "descends": report.descends if not report.nearest else f"{report.descends}: {report.nearest}",
        "ends": there.words if not there.remark else f"{there.words}: {there.remark}",
        "rests": there.rests,
        "reward": reward,
        "kl": distance,
        "regret": regret,
        "reward_star": gibbs[0],
        "kl_star": gibbs[1],
        "mean": report.exact.mean,
        "bias": report.bias,
        "std": report.exact.std,
        "cosine": report.cosine,
    }


# ---------------------------------------------------------------------------------------------------- drawing


LOOKS = ((INK, True), (BLUE, False), (ORANGE, False))


def draw(shown: Data) -> Picture:
    """Three columns: p_ref, the Gibbs law, the law the flag leads to; a dashed tick in the last shows the Gibbs law."""
    names = list(shown["response"])
    p = shown["p"] if shown["p"] is not None else [None] * len(names)
    high = ceiling(max([*shown["p_ref"], *shown["p_star"], *(v for v in p if v is not None)]))
    laws = (("p_ref", shown["p_ref"]), ("p* (Gibbs)", shown["p_star"]), ("where it leads", p))
    columns = [
        bars.Column(name, name, law, [*map(bars.percent, law)], look, (0.0, high), 1 / 3, ticks=shown["p_star"] if law is p else ())
        for (name, law), look in zip(laws, LOOKS, strict=True)
    ]
    title = f"Where {shown['estimator']} ({shown['placement']}) leads at beta = {number(shown['beta'], '.3g')}"
    return bars.picture(title, names, "dashed tick: p*", columns)


def words(shown: Data) -> list[str]:
    """What it is, what it descends, where it leads, and what that costs."""
    n = {key: number(shown[key], ".5f") for key in ("reward", "kl", "regret", "mean", "bias", "std", "reward_star", "kl_star")}
    there = (
        "Its cost is not known here."
        if shown["p"] is None
        else f"There E[r] = {n['reward']}, KL(p, p_ref) = {n['kl']} nats, and the regret β KL(p, p*) = {n['regret']}."
    )
    others = [f"{shown['others']:,} more responses are not drawn."] if shown["others"] else []
    return [
        f"{shown['estimator']} ({shown['placement']}) at β = {number(shown['beta'], '.4g')}: {shown['meaning']}.",
        f"It descends: {shown['descends']}.  It leads to: {shown['ends']}.  {there}",
        f"The law p* that was meant: E[r] = {n['reward_star']}, KL(p*, p_ref) = {n['kl_star']} nats, regret 0.",
        f"As an estimate of that KL, on samples of p*: mean {n['mean']}, bias {n['bias']}, standard deviation {n['std']} nats; "
        f"cosine of its update with the true gradient: {number(shown['cosine'], '.4f')}.",
        *others,
    ]


# ---------------------------------------------------------------------------------------------------- the panel


def view(world: World, *, prompt: int | str = 0) -> View:
    """Choices of estimator and placement, and a slider for beta; positions that were seen are remembered."""
    x = bars.prompt_number(world.mdp, prompt)
    controls = (
        Control("estimator", "estimator", "h(L) of L = log pi/pi_ref", "k3", "choice", options=tuple((e, e) for e in ESTIMATORS)),
        Control("placement", "placement", "what is differentiated", "loss", "choice", options=tuple((p, p) for p in PLACEMENTS)),
        bars.beta_control(world),
    )

    kept = bars.heaviest(world, x, bars.SHOWN)

    @lru_cache(maxsize=512)
    def at(estimator: str, placement: str, beta: float) -> Data:
        return data(world, estimator=estimator, placement=placement, beta=beta, prompt=x, kept=kept)

    return View(controls, at, on_screen(draw), words)


def kl(world: World | str = "rational", *, prompt: int | str = 0) -> Any:
    """A panel: what a KL flag optimizes.

    Args: world, or the name of one; prompt, its number or text.  Raises: InputError where ipywidgets is not installed.
    """
    return panel(view(bars.a_world(world), prompt=prompt))
