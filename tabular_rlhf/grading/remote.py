"""A function that lives in another process: called like any other, it sends its arguments away and waits, not for ever, for an answer.

The child never judges.  The grader holds the question and its truth; what it calls here runs in a process of its own (`child`), contained
(`limits`) and watched (`warden`), and whatever comes back over the pipe is an *answer*: an array, a number, a string, a tuple of them, a
further function, or nonsense.  A submission that finds the pipe and writes on it can give a wrong answer, or a right one, or end its own
run; there is nothing it could write that is a mark.

    with Child(source) as child:
        f = child.function("regret")            # a RemoteFunction: has the parameter names of the real one
        f(beta, log_p, log_p_star)              # an array, or RemoteError(kind, message, line)
"""

from __future__ import annotations

import inspect
import itertools
import keyword
import queue
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tabular_rlhf.grading.nursery import heavy
from tabular_rlhf.grading.objects import apart
from tabular_rlhf.grading.process import OUT_OF_TURN, Limits, Meter, Process
from tabular_rlhf.grading.wire import Reader, Unsendable, WireError, Writer

KINDS = {
    "does not import": "the first lines of the file fail",
    "raises": "the function raised an error",
    "stopped": "the limit on computing, or on standing still, was met before there was an answer",
    "memory": "more memory than the limit",
    "crashed": "the process ended",
    "too large": "an answer larger than an answer can be",
    "not an answer": "neither numbers nor a function",
    "protocol": "something else than one answer to one question",
    "refused": "a parameter that cannot be sent",
}
"""Why there is no answer."""
FATAL = ("stopped", "crashed", "protocol", "does not import")
"""After these the child is ended."""
Arguments = dict[int | str, Any]
"""By place, or by name where they have none."""
START = 600.0
"""Seconds that an interpreter may take to start on a busy machine: not the answer's."""
GLANCE, BRIEF = 0.1, 0.05
"""Seconds between two looks at a process that has met a limit or may soon; and of a call that is too short to be looked at."""
TOOLS = ("tabular_rlhf.mdp", "tabular_rlhf.policy")
"""What `objects` are made of."""


class RemoteError(Exception):
    """There is no answer: `kind` is one of KINDS; `message` in the submission's words, or ours; place and line in it, if known."""

    def __init__(self, kind: str, message: str, line: int | None = None, place: str = "") -> None:
        self.kind, self.message, self.line, self.place = kind, message, line, place
        where = ", ".join(part for part in (place, f"line {line}" if line else "") if part)
        super().__init__(f"{message} ({where})" if where else message)


def one_line(text: str, most: int = 300) -> str:
    """A stranger's text, fit to stand in a line of ours: no line breaks, no control or direction characters.

    >>> one_line("ok\\n\\x1b[1Aregret: 1/1")
    'ok [1Aregret: 1/1'
    """
    flat = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return flat if len(flat) <= most else flat[: most - 3] + "..."


class RemoteFunction:
    """A function of a child, by number.  `__signature__` has the real one's parameter names; which have defaults is kept, not what."""

    def __init__(self, child: Child, number: int, signature: inspect.Signature, name: str) -> None:
        self.child, self.number, self.__signature__, self.__name__ = child, number, signature, name

    def spent(self) -> float:
        """CPU seconds of its process: whoever has patience with a function counts these."""
        return self.child.computed()

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The real function's value: sent, awaited, read.  Raises RemoteError, or TypeError where the arguments do not fit."""
        bound = self.__signature__.bind(*args, **keywords)
        given = dict(enumerate(bound.args)) | bound.kwargs
        if any(apart(x) for x in given.values()):
            self.child.load(TOOLS)
        writer = Writer(apart=apart)
        sent = [self._node(writer, i, x) for i, x in enumerate(bound.args)]
        named = {name: self._node(writer, name, x) for name, x in bound.kwargs.items()}
        request = {"do": "call", "function": self.number, "args": sent, "keywords": named}
        return self.child.ask(request, writer, name=self.__name__, args=given)

    def _node(self, writer: Writer, which: int | str, x: Any) -> Any:
        try:
            return writer.node(x)
        except (Unsendable, WireError) as e:
            names = list(self.__signature__.parameters)
            name = names[min(which, len(names) - 1)] if isinstance(which, int) else which
            why = f"`{name}` cannot be used in a graded answer: only numbers, arrays, `mdp` and `tied` are sent ({e})"
            self.child.last_error = RemoteError("refused", why)
            raise self.child.last_error from None


class Child:
    """A process that holds one submission.  Starts at once; the first question waits until it is ready.

    layers: what contains it, told by the process before the submission's first line.  fault: the error that ended it; last_error: the
    last one, whether it did or not.  opened: whether its first lines ran.  seconds: of computing that answers took.
    """

    def __init__(
        self,
        files: bytes | Mapping[str, bytes],
        limits: Limits | None = None,
        *,
        without: Iterable[str] = (),
        imports: Iterable[str] = (),
        preload: Iterable[str] = (),
    ) -> None:
        """Args: files, by name (bytes: of one file); imports, modules that it imports; preload, those that are imported before the fork."""
        self.limits = limits or Limits()
        self.files = {"submission.py": files} if isinstance(files, bytes) else dict(files)
        early = {*heavy(imports), *preload}
        self.process = Process(self.files, self.limits, without, early)
        self.layers: list[dict[str, str]] = []
        self.fault: RemoteError | None = None
        self.last_error: RemoteError | None = None
        self.opened, self.seconds, self._still = False, 0.0, 0.0
        self._meter: Meter | None = None
        self._numbers = itertools.count()
        self._loaded = early
        self._imports = tuple(imports)

    def computed(self) -> float:
        """CPU seconds until now."""
        return self._meter.computed() if self._meter is not None else 0.0

    def load(self, modules: Iterable[str]) -> None:
        """Let it import these now, on a budget of their own: importing is not answering."""
        new = [name for name in modules if name not in self._loaded]
        self._loaded.update(new)
        if new:
            self.ask({"do": "load", "modules": new}, name="the modules that it imports", most=self.limits.libraries)

    def read(self, file: str, wanted: Iterable[str]) -> Any:
        """What `reading.read` finds in a file."""
        return self.ask({"do": "read", "file": file, "wanted": list(wanted)}, name="the file's text", most=self.limits.first_lines)

    def function(self, name: str, file: str | None = None) -> RemoteFunction:
        """The submission's file (the first) is run, and its function `name` made ready; RemoteError if it cannot be."""
        self.load(self._imports)
        request = {"do": "open", "file": next(iter(self.files)) if file is None else file, "name": name}
        found = self.ask(request, name=name, most=self.limits.first_lines)
        if not isinstance(found, RemoteFunction):
            raise self._end(RemoteError("protocol", "something else than a function came for its name"))
        self.opened = True
        return found

    def ask(
        self,
        request: dict[str, Any],
        writer: Writer | None = None,
        *,
        name: str = "",
        args: Arguments | None = None,
        most: float | None = None,
    ) -> Any:
        """One question and the value of its answer.  What the function did to its arguments is done to `args`.

        most: seconds of computing for this question alone; by default a call's, out of what is left of the answer's.
        """
        if self.fault is not None:
            raise self.fault
        meter = self._meter or self._await_start()
        if self.process.has_spoken:
            raise self._end(self._not_a_frame(self.process.receive(0.0)))
        number, begun = next(self._numbers), meter.computed()
        meter.begin()
        try:
            self.process.send((writer or Writer()).frame({**request, "n": number}))
            return self._read(self._next(meter, begun, *self._budget(most)), number, name, args or {})
        except RemoteError as e:
            self.last_error = e
            if e.kind in FATAL:
                self._end(e)
            raise
        except BaseException:  # whoever waits for us has lost patience: an answer may come yet, to a question that is over
            self._end(RemoteError("stopped", "stopped before it answered"))
            raise
        finally:
            self.seconds += meter.computed() - begun if most is None else 0.0

    def _await_start(self) -> Meter:
        """The first frame is the trusted child's own: the submission has not run yet."""
        try:
            frame = self.process.receive(START)
            if not isinstance(frame, bytes):
                raise self._not_a_frame(frame)
            hello = Reader(frame).message
            self.process.is_held_by(hello["layers"], hello["pid"])
            self._meter = Meter(hello["pid"])
        except (RemoteError, WireError, queue.Empty) as e:
            raise self._end(RemoteError("crashed", f"the process did not start: {e}; {one_line(self.process.output)}")) from None
        told = ("full", "CPU time, read from outside") if self._meter.exact else ("weak", "a tenth of the time that passes")
        self.layers = [*hello["layers"], {"layer": "time", "contains": "answers without an end", "force": told[0], "how": told[1]}]
        return self._meter

    def _budget(self, most: float | None) -> tuple[float, str]:
        """Seconds of computing for the next answer, and whose limit they are."""
        left = self.limits.answer - self.seconds
        if most is not None or left > self.limits.call:
            most = self.limits.call if most is None else most
            return most, f"no answer within {most:g} s of computing"
        return left, f"more than {self.limits.answer:g} s of computing in all calls"

    def _next(self, meter: Meter, begun: float, most: float, told: str) -> bytes:
        """The next frame.  Nothing is decided by the clock on the wall: it says only when to look at what the process did."""
        pause, asked = max(0.0, min(most, self.limits.still - self._still)), time.monotonic()
        while True:
            try:
                frame = self.process.receive(pause)
                break
            except queue.Empty:
                self._still += min(meter.stood_still(), pause + GLANCE)  # more than we meant to wait, and it is we who were held up
                pause = GLANCE
            if self.process.has_spoken:
                continue
            if meter.computed() - begun >= most:
                raise RemoteError("stopped", told)
            if self._still >= self.limits.still:
                raise RemoteError("stopped", f"it stood still for {self.limits.still:g} s")
        if time.monotonic() - asked > BRIEF:
            self._still += min(meter.stood_still(), pause + GLANCE)
        if isinstance(frame, bytes):
            return frame
        raise self._not_a_frame(frame)

    def _not_a_frame(self, frame: bytes | WireError | None) -> RemoteError:
        """What it means that something else came, or that nothing more will."""
        if frame is None:
            return RemoteError(*self.process.how_it_ended())
        if isinstance(frame, WireError):
            return RemoteError("protocol", f"it announced an answer of {frame}" if frame.kind == "too large" else str(frame))
        return RemoteError("protocol", OUT_OF_TURN)

    def _read(self, frame: bytes, number: int, name: str, args: Arguments) -> Any:
        """The value in a frame, or the RemoteError it tells of.  Everything in it may be a stranger's."""
        try:
            reader = Reader(frame, lambda body: self._function(body, name))
            message = reader.message
            if message.get("n") != number or type(message["n"]) is not int:
                raise WireError("an answer to another question")
            if "bad" not in message:
                value = reader.value(message["ok"])
                change(args, [(i, reader.value(node)) for i, node in message["changed"]])
                return value
            kind, text, place, line = (message[part] for part in ("bad", "text", "place", "line"))
        except WireError as e:
            raise RemoteError(e.kind, str(e)) from None
        except (KeyError, TypeError, ValueError):
            raise RemoteError("protocol", "an answer without its parts") from None
        if kind not in tuple(KINDS) or not isinstance(text, str) or not isinstance(place, str) or not (line is None or type(line) is int):
            raise RemoteError("protocol", "an error of no known kind")
        raise RemoteError(kind, one_line(text), line, one_line(place))

    def _function(self, body: Any, name: str) -> RemoteFunction:
        if not isinstance(body, list) or len(body) != 2 or type(body[0]) is not int:
            raise WireError("a function without a number")
        return RemoteFunction(self, body[0], signature_of(body[1]), name)

    def _end(self, fault: RemoteError) -> RemoteError:
        self.fault = fault
        self.close()
        return fault

    def close(self) -> None:
        """End the process and all that it started, and remove its folder.  May be called twice."""
        self.process.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def change(args: Arguments, changed: list[tuple[Any, Any]]) -> None:
    """Let arguments that the function wrote on, in its process, look so here: whoever minds can see it."""
    for which, new in changed:
        old = args.get(which) if type(which) in (int, str) else None
        if (
            isinstance(old, np.ndarray)
            and isinstance(new, np.ndarray)
            and old.flags.writeable
            and (old.shape, old.dtype) == (new.shape, new.dtype)
        ):
            old[...] = new


def signature_of(body: Any) -> inspect.Signature:
    """A signature from [name, kind, has a default] rows that a stranger may have written; any arguments where there are none."""
    kinds = list(inspect._ParameterKind)
    if body is None:
        return inspect.Signature([inspect.Parameter("args", kinds[2]), inspect.Parameter("keywords", kinds[4])])
    if not isinstance(body, list) or len(body) > 100:
        raise WireError("a function without parameters")
    try:
        made = []
        for name, kind, optional in body:
            if not (isinstance(name, str) and len(name) < 100 and name.isidentifier() and not keyword.iskeyword(name)):
                raise WireError("a parameter without a name")
            default = ... if optional is True else inspect.Parameter.empty
            made.append(inspect.Parameter(name, kinds[int(kind)], default=default))
        return inspect.Signature(made)
    except (TypeError, ValueError, IndexError):
        raise WireError("a function with impossible parameters") from None
