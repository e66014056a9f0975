"""`%%derive`: a cell of a notebook whose text is a derivation.  `import tabular_rlhf` makes it known, where IPython runs."""

from __future__ import annotations

import argparse
import shlex
from typing import Any


def enter(ipython: Any) -> None:
    """Make `%%derive` known to an IPython shell."""
    ipython.register_magic_function(derive_cell, "cell", "derive")


def derive_cell(line: str, cell: str) -> Any:
    """Execute a cell's derivation.  The line may name a world, bind letters, leave a convention free:
    %%derive rational --bind mu=pi_behavior --free ddof.

    >>> derive_cell("rational", "J_x = E_p[r] - beta*KL(p, p_ref)").holds
    True
    """
    from tabular_rlhf.derivations.own import bound, derive_text

    parser = argparse.ArgumentParser("%%derive", exit_on_error=False, add_help=False)
    parser.add_argument("world", nargs="?")
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--free", action="append", default=[])
    args = parser.parse_args(shlex.split(line))
    return derive_text(cell, args.world, bind=bound(args.bind), free=args.free)
