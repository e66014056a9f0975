"""The child: imports a submission and evaluates its functions on what the grader sends.  It judges nothing and knows no answer.

Run by its path, `python -P -s -B child.py CONFIG`, so that neither the package nor anything beyond numpy is imported unless the
submission does, or is sent an `mdp`.  Requests come on what was stdin and answers leave on what was stdout; both are moved away before
the submission runs, so that `print` and `input` meet stderr and an empty file.  A submission may still find the pipe and write on it: the
grader reads that as this submission's answer, right or wrong, or as nonsense.

What contains it is in force, and told to the grader, before its first line runs (`limits`); by then the package's own answers are closed
(`answers`).
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO

LONGEST_MESSAGE = 300
MOST_FUNCTIONS = 10_000


def sibling(name: str) -> ModuleType:
    """A module of this folder, by its path: its package is not imported."""
    full = f"_grading_{name}"
    spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[full] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    config = json.loads(sys.argv[1])
    landlock, limits, warden, answers = (sibling(name) for name in ("landlock", "limits", "warden", "answers"))
    orphans = warden.supervise(landlock.prctl)
    requests, replies = private_pipes()
    sys.path += [path for path in config["paths"] if path not in sys.path]
    servant = Servant(requests, replies, sibling("wire"), sibling("objects").build, config["submission"])
    config["listed"] = [path for path in sys.path if os.path.isdir(path)]
    config["closed"] = answers.folders(Path(__file__).resolve().parents[1])
    answers.close()
    servant.tell({"layers": [orphans, *limits.contain(config, landlock)], "pid": os.getpid()})
    servant.serve()


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes to the grader, moved away from where a program reads and prints."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


class Servant:
    """Answers requests until there are no more.  `functions` are those the grader may call, by number."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO, wire: ModuleType, build: Callable[..., Any], path: str) -> None:
        self.requests, self.replies, self.wire, self.build, self.path = requests, replies, wire, build, path
        self.functions: dict[int, Callable[..., Any]] = {}

    def tell(self, message: dict[str, Any], writer: Any = None) -> None:
        self.replies.write((writer or self.wire.Writer()).frame(message))
        self.replies.flush()

    def serve(self) -> None:
        """One reply for each request, whatever the submission does; the end is abrupt, so that nothing it left for the exit runs."""
        while (payload := self.wire.read_frame(self.requests)) is not None:
            request = self.wire.Reader(payload, build=self.build)
            number, writer = request.message["n"], self.wire.Writer(self.keep)
            try:
                value, changed = self.act(request)
                self.tell({"n": number, "ok": writer.node(value), "changed": [[i, writer.node(x)] for i, x in changed]}, writer)
            except BaseException as e:
                self.tell({"n": number, **self.fault(e)})
        os._exit(0)

    def act(self, request: Any) -> tuple[Any, list[tuple[int | str, Any]]]:
        """The value, and the arguments that the function wrote on, by place or name."""
        message = request.message
        if message["do"] == "open":
            return self.open(message["name"]), []
        args = [request.value(node) for node in message["args"]]
        keywords = {name: request.value(node) for name, node in message["keywords"].items()}
        arrays = {i: (x, x.tobytes()) for i, x in [*enumerate(args), *keywords.items()] if hasattr(x, "tobytes")}
        value = self.functions[message["function"]](*args, **keywords)
        return value, [(i, x) for i, (x, before) in arrays.items() if x.tobytes() != before]

    def open(self, name: str) -> Callable[..., Any]:
        module = sys.modules["submission"] = ModuleType("submission")
        module.__file__ = self.path
        try:
            exec(compile(Path(self.path).read_bytes(), self.path, "exec", dont_inherit=True), module.__dict__)
        except BaseException as e:
            raise NotImported from e
        function = getattr(module, name, None)
        if not callable(function):
            raise self.wire.Unsendable(f"{type(function).__name__} in place of a function")
        return function

    def keep(self, function: Callable[..., Any]) -> Any:
        """A function's node: its number, and its parameters as [name, kind, whether it has a default]; none where Python does not know."""
        if len(self.functions) >= MOST_FUNCTIONS:
            raise self.wire.WireError("too many functions", "too large")
        number = len(self.functions)
        self.functions[number] = function
        try:
            known = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return [number, None]
        return [number, [[p.name, int(p.kind), p.default is not p.empty] for p in known]]

    def fault(self, e: BaseException) -> dict[str, Any]:
        """Why there is no answer: kind, message and the line of the submission."""
        kind = "raises"
        if isinstance(e, NotImported) and e.__cause__ is not None:
            kind, e = "does not import", e.__cause__
        elif isinstance(e, self.wire.Unsendable):
            return {"bad": "not an answer", "text": str(e), "line": None}
        elif isinstance(e, self.wire.WireError):
            return {"bad": "too large", "text": str(e), "line": None}
        elif isinstance(e, MemoryError):
            kind = "memory"
        return {"bad": kind, "text": in_words(e)[:LONGEST_MESSAGE], "line": self.line(e)}

    def line(self, e: BaseException) -> int | None:
        """The last line of the submission that the error passed."""
        if isinstance(e, SyntaxError) and e.filename == self.path:
            return e.lineno
        found, step = None, e.__traceback__
        while isinstance(step, TracebackType):
            if step.tb_frame.f_code.co_filename == self.path:
                found = step.tb_lineno
            step = step.tb_next
        return found


class NotImported(Exception):
    """The submission's own first lines failed; its cause says how."""


def in_words(e: BaseException) -> str:
    """The error as its author would see it, if it can be printed at all."""
    try:
        said = e.msg if isinstance(e, SyntaxError) else str(e)
        return f"{type(e).__name__}: {said}" if said else type(e).__name__
    except BaseException:
        return f"{type(e).__name__}, with a message that cannot be printed"


if __name__ == "__main__":
    main()
