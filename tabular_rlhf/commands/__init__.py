r"""One file a command.  Its first line says how it is called and what it does; it has `configure(parser)`, which declares its options,
and `run(args) -> int`, its exit status: 0 all is well, 1 the answer is "no", 2 the question was malformed.  Results go to stdout, progress
to stderr.
"""

from __future__ import annotations

import re
from pathlib import Path

FIRST = re.compile(r'r?"""`tabular-rlhf (\w+)[^`]*`: (.+?)\.?(?:""")?$')


def known() -> dict[str, str]:
    """Every command and what it does, as the first line of its file says: read, and not imported, for that would open every room.

    >>> known()["losses"]
    "the family of direct alignment losses: optima, traits, one loss's report"
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        with path.open(encoding="utf-8") as file:
            line = FIRST.match(file.readline().rstrip())
        if line is not None and line[1] == path.stem:
            found[line[1]] = line[2]
    return found
