r"""The answers of a solved world, given away: p*, soft values and samples, as a table or as arrays.

**npz.**  prompts, responses and states, their texts; mu (P,), beta; r, log_p_ref, log_p_star (P, N); V_s (P, S), the soft values beta log
E_ref[exp(r/beta)] of the responses through each state; log_pi_star (P, S, V); drawn_x and drawn_tau (n,), prompts and responses of draws
of p*.

**CSV.**  A row a response of each prompt, and a row a state: kind, prompt, text, then r, p_ref, p_star and how often it was drawn, or the
soft value.  Numbers are written so that they are read back to the bit.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from tabular_rlhf import told
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.files import check_output, write_bytes, write_text
from tabular_rlhf.gibbs import Gibbs, solve
from tabular_rlhf.sampling import Trajectories, sample
from tabular_rlhf.world import World
from tabular_rlhf.worldfile.responses import response_texts

KINDS = (".csv", ".npz")


def check_saved(path: Path) -> None:
    """Refuse, before the work, a file that cannot be written."""
    if path.suffix.lower() not in KINDS:
        raise InputError("answers must be saved in a known format", got=quoted(str(path)), remedy=f"end it in {' or '.join(KINDS)}")
    check_output(path)


def save_solution(world: World, path: Path, *, samples: int, seed: int) -> None:
    """Write the answers of a world.  Args: samples, draws of p*; seed, of them."""
    found = solve(world)
    drawn = sample(world, found.log_p, samples, rng=np.random.default_rng(seed))
    if path.suffix.lower() == ".csv":
        write_text(path, as_csv(world, found, drawn))
    else:
        out = io.BytesIO()
        np.savez_compressed(out, **arrays(world, found, drawn))
        write_bytes(path, out.getvalue())


def arrays(world: World, found: Gibbs, drawn: Trajectories) -> dict[str, Any]:
    """What an npz file holds, by name."""
    mdp = world.mdp
    x, tau = np.broadcast_arrays(drawn.x, drawn.tau)
    return {
        "prompts": np.array(mdp.prompts),
        "responses": np.array(response_texts(mdp)),
        "states": np.array(state_texts(world)),
        "mu": world.mu,
        "beta": np.array(world.beta),
        "r": world.r,
        "log_p_ref": world.log_p_ref,
        "log_p_star": found.log_p,
        "V_s": found.V_s,
        "log_pi_star": found.log_pi,
        "drawn_x": x,
        "drawn_tau": tau,
    }


def state_texts(world: World) -> list[str]:
    """The text of every state, the empty one first: level after level.

    >>> from tabular_rlhf.world import rational
    >>> state_texts(rational())
    ['', 'a']
    """
    return [world.mdp.state_text(s) for s in range(world.mdp.S)]


def as_csv(world: World, found: Gibbs, drawn: Trajectories) -> str:
    """The table."""
    x, tau = np.broadcast_arrays(drawn.x, drawn.tau)
    counts = np.bincount(np.ravel(x * world.mdp.N + tau), minlength=world.r.size).reshape(world.r.shape)
    texts, states = response_texts(world.mdp), state_texts(world)
    rows: list[list[Any]] = [["kind", "prompt", "text", "r", "p_ref", "p_star", "drawn", "soft_value"]]
    for k, prompt in enumerate(world.mdp.prompts):
        columns = (texts, world.r[k], np.exp(world.log_p_ref[k]), found.p[k], counts[k])
        for text, r, p, q, n in zip(*columns, strict=True):
            rows.append(["response", prompt, text, repr(float(r)), repr(float(p)), repr(float(q)), int(n), ""])
        rows += [["state", prompt, text, "", "", "", "", repr(float(v))] for text, v in zip(states, found.V_s[k], strict=True)]
    return told.as_csv(rows)
