"""The servant: one process, one submission.  It answers requests until there are no more, whatever the submission does.

    read       what each file defines and imports; nothing of it runs
    load       import modules that the submission names, wherever in it: importing is not answering
    open       run a file's first level, and make one of its functions ready to be called, by number
    call       call it

The module is loaded by its path in the child.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, BinaryIO

LONGEST_MESSAGE = 300
MOST_FUNCTIONS = 10_000


class Servant:
    """Answers requests.  `functions` are those that the grader may call, by number; `places`: what a file name means in words."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO, modules: dict[str, ModuleType], config: dict[str, Any]) -> None:
        self.requests, self.replies, self.config = requests, replies, config
        self.wire, self.reading, self.build = modules["wire"], modules["reading"], modules["objects"].build
        self.functions: dict[int, Callable[..., Any]] = {}
        self.places: dict[str, str] = {}

    def tell(self, message: dict[str, Any], writer: Any = None) -> None:
        self.replies.write((writer or self.wire.Writer()).frame(message))
        self.replies.flush()

    def serve(self) -> None:
        """One reply for each request; the end is abrupt, so that nothing the submission left for the exit runs."""
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
        if message["do"] == "read":
            return self.reading.read(self.path(message["file"]), message["wanted"]), []
        if message["do"] == "load":
            load(message["modules"])
            return None, []
        if message["do"] == "open":
            return self.open(message["file"], message["name"]), []
        args = [request.value(node) for node in message["args"]]
        keywords = {name: request.value(node) for name, node in message["keywords"].items()}
        arrays = {i: (x, x.tobytes()) for i, x in [*enumerate(args), *keywords.items()] if hasattr(x, "tobytes")}
        value = self.functions[message["function"]](*args, **keywords)
        return value, [(i, x) for i, (x, before) in arrays.items() if x.tobytes() != before]

    def path(self, name: str) -> Path:
        return Path(self.config["scratch"], name)

    def open(self, file: str, name: str) -> Callable[..., Any]:
        """Run a file's first level.  A Python file must run to its end; of a notebook's, what the function needs, as far as it runs."""
        module = sys.modules["submission"] = ModuleType("submission")
        path = module.__file__ = str(self.path(file))
        homes = dict.fromkeys((os.path.dirname(path), self.config["scratch"]))
        sys.path += [home for home in homes if home not in sys.path]  # its other files: after what is installed
        several = len(self.config["files"]) > 1
        self.places = {str(self.path(other)): other if several else "" for other in self.config["files"]}
        try:
            if path.endswith(".ipynb"):
                self.run_cells(Path(path), file if several else "", module, name)
            else:
                exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), module.__dict__)
        except BaseException as e:
            raise NotImported from e
        function = getattr(module, name, None)
        if not callable(function):
            raise self.wire.Unsendable(f"{type(function).__name__} in place of a function")
        return function

    def run_cells(self, path: Path, label: str, module: ModuleType, name: str) -> None:
        """Statement by statement: one that fails costs only what it would have defined."""
        failed: BaseException | None = None
        for cell, statement in self.reading.needed(path, name):
            place = f"{path}[{cell}]"
            self.places[place] = f"{label}, code cell {cell}" if label else f"code cell {cell}"
            try:
                exec(compile(ast.Module([statement], []), place, "exec", dont_inherit=True), module.__dict__)
            except (Exception, SystemExit) as e:
                failed = failed or e
        if failed is not None and not hasattr(module, name):
            raise failed

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
        """Why there is no answer: kind, message, and the place and line of the submission."""
        kind = "raises"
        if isinstance(e, NotImported) and e.__cause__ is not None:
            kind, e = "does not import", e.__cause__
        elif isinstance(e, self.wire.Unsendable):
            return {"bad": "not an answer", "text": str(e), "place": "", "line": None}
        elif isinstance(e, self.wire.WireError):
            return {"bad": "too large", "text": str(e), "place": "", "line": None}
        elif isinstance(e, MemoryError):
            kind = "memory"
        place, line = self.where(e)
        return {"bad": kind, "text": as_its_author_sees(e)[:LONGEST_MESSAGE], "place": place, "line": line}

    def where(self, e: BaseException) -> tuple[str, int | None]:
        """The last place in the submission that the error passed, and its line."""
        if isinstance(e, SyntaxError) and e.filename in self.places:
            return self.places[e.filename], e.lineno
        found: tuple[str, int | None] = "", None
        step = e.__traceback__
        while isinstance(step, TracebackType):
            if (name := step.tb_frame.f_code.co_filename) in self.places:
                found = self.places[name], step.tb_lineno
            step = step.tb_next
        return found


def load(names: Iterable[str]) -> None:
    """Import what a submission will: what fails here fails there again, where it is told."""
    for name in names:
        with contextlib.suppress(BaseException):
            importlib.import_module(name)


class NotImported(Exception):
    """The submission's own first lines failed; its cause says how."""


def as_its_author_sees(e: BaseException) -> str:
    """The error as its author would see it, if it can be printed at all."""
    try:
        said = e.msg if isinstance(e, SyntaxError) else str(e)
        return f"{type(e).__name__}: {said}" if said else type(e).__name__
    except BaseException:
        return f"{type(e).__name__}, with a message that cannot be printed"
