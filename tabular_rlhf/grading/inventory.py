"""What a submission defines, read without running it: the names of its functions and what it imports.

A hostile text can exhaust, or crash, even a parser, so the reading happens in a process of its own, which runs nothing of the text.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from tabular_rlhf.errors import InputError

LARGEST = 1_000_000
"""Bytes of a submission."""
SECONDS = 30.0

READ = """
import ast, json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass

def defined(body):
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((a.asname or a.name).split(".")[0] for a in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        else:
            for part in ("body", "orelse", "finalbody", "handlers"):
                inner = getattr(node, part, [])
                for below in inner if isinstance(inner, list) else []:
                    yield from defined(below.body if isinstance(below, ast.ExceptHandler) else [below])

def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")

try:
    tree = ast.parse(sys.stdin.buffer.read())
    print(json.dumps([sorted(set(defined(tree.body))), sorted(set(imported(tree))), None, None]))
except SyntaxError as e:
    print(json.dumps([[], [], "SyntaxError: " + str(e.msg), e.lineno]))
except (ValueError, RecursionError, MemoryError) as e:
    print(json.dumps([[], [], "it cannot be parsed: " + (str(e) or type(e).__name__), None]))
"""


@dataclass(frozen=True)
class Inventory:
    """names: defined on the first level of the file.  imports: modules, wherever.  fault, line: why it is not Python."""

    names: frozenset[str]
    imports: tuple[str, ...]
    fault: str | None = None
    line: int | None = None


def take(source: bytes) -> Inventory:
    """What a submission defines and imports.

    >>> take(b"import numpy as np\\ndef regret(p): return p").names == {"np", "regret"}
    True
    """
    if len(source) > LARGEST:
        raise InputError(f"a submission must be at most {LARGEST:,} bytes", got=f"{len(source):,}", remedy="hand in the functions only")
    try:
        ran = subprocess.run([sys.executable, "-I", "-S", "-c", READ], input=source, capture_output=True, timeout=SECONDS, check=False)
        names, imports, fault, line = json.loads(ran.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return Inventory(frozenset(), (), "it cannot be parsed: the parser gave up")
    return Inventory(frozenset(names), tuple(imports), fault, line)
