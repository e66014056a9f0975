"""What crosses the pipe between the grader and an answer: numbers, arrays, strings, tuples of them, and nothing that runs.

A frame is a length (8 bytes) and a payload; a payload is the length of its header (4 bytes), the header (JSON) and the bytes of the
arrays, in order.  An array stands in the header as its type and shape only, and its type is one of a closed list, so that reading a
frame can neither run code nor make an array larger than the bytes that came: no pickles, no promises.  To the child, and only to it,
two kinds of objects may go as the plain values that build them (`objects`).

The side that judges reads what an enemy may have written.  Every size is checked before anything is allocated, and every fault is
a `WireError`.  The module needs only numpy: the child loads it by its path.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

LARGEST = 16 * 2**20
"""Bytes of a frame."""
LARGEST_HEADER = 2**20
DEEPEST = 8
"""Tuples in tuples."""
MOST_NODES = 20_000
LONGEST_TEXT = 10_000
DTYPES = frozenset(["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"])


class WireError(ValueError):
    """A frame that cannot be read: `kind` is "protocol" or "too large"."""

    def __init__(self, message: str, kind: str = "protocol") -> None:
        self.kind = kind
        super().__init__(message)


class Unsendable(TypeError):
    """A value that is none of the things that cross."""


class Writer:
    """Turns values into header nodes, and collects the bytes of their arrays.

    keep: makes a node of a function, where one may be sent.  apart: (name, parts) of an object that may, None of any other.
    """

    def __init__(self, keep: Callable[[Any], Any] | None = None, apart: Callable[[Any], Any] | None = None) -> None:
        self.keep, self.apart, self.parts, self.size, self.nodes = keep, apart, list[bytes](), 0, 0

    def node(self, x: Any, depth: int = 0) -> Any:
        self.nodes += 1
        if depth > DEEPEST or self.nodes > MOST_NODES:
            raise WireError("a nest of too many values", "too large")
        if x is None or type(x) in (bool, float):
            return x
        if type(x) in (int, str):
            return self._short(x)
        if isinstance(x, np.ndarray | np.generic | complex):
            return self._array(x)
        if hasattr(type(x), "__array__"):
            return self._array(of_another_library(x))
        if type(x) in (tuple, list):
            return {"t" if type(x) is tuple else "l": [self.node(item, depth + 1) for item in x]}
        if self.keep is not None and callable(x):
            return {"h": self.keep(x)}
        if self.apart is not None and (found := self.apart(x)) is not None:
            name, parts = found
            return {"o": [name, self.node(parts, depth + 1)]}
        raise Unsendable(type(x).__name__)

    def _short(self, x: Any) -> Any:
        if (isinstance(x, str) and len(x) > LONGEST_TEXT) or (isinstance(x, int) and x.bit_length() > 1000):
            raise WireError("a text or a number of too many digits", "too large")
        return x

    def _array(self, x: Any) -> Any:
        a = np.asarray(x)
        dtype = a.dtype.newbyteorder("<").str
        if dtype not in DTYPES:
            raise Unsendable(f"an array of {a.dtype}")
        self.size += a.nbytes  # as if it were not broadcast: what copying it would take
        if self.size > LARGEST:
            raise WireError(f"{self.size:,} bytes", "too large")
        self.parts.append(a.astype(dtype, copy=False).tobytes())
        return {"a": [dtype, list(a.shape), bool(a.flags.writeable), not isinstance(x, np.ndarray)]}

    def frame(self, message: dict[str, Any]) -> bytes:
        header = json.dumps(message).encode("ascii")
        if len(header) > LARGEST_HEADER:
            raise WireError("a header of too many values", "too large")
        payload = b"".join([len(header).to_bytes(4, "little"), header, *self.parts])
        return len(payload).to_bytes(8, "little") + payload


def of_another_library(x: Any) -> Any:
    """The values of an array of another library, without what else it carries: gradients, a device, a type that numpy does not have."""
    for step in ("detach", "cpu"):
        x = getattr(x, step, lambda x=x: x)()
    try:
        return np.asarray(x)
    except TypeError:
        return np.asarray(x.double())  # of torch, in half the precision of single


class Reader:
    """Turns header nodes back into values.

    function: makes something to call of a function's node, where one may come.  build: an object of its name and parts, likewise.
    """

    def __init__(
        self, payload: bytes, function: Callable[[Any], Any] | None = None, build: Callable[[str, Any], Any] | None = None
    ) -> None:
        self.function, self.build, self.payload, self.nodes = function, build, payload, 0
        self.at = 4 + int.from_bytes(payload[:4], "little")
        if not 4 <= self.at <= min(len(payload), 4 + LARGEST_HEADER):
            raise WireError("a header longer than its frame")
        try:
            self.message = json.loads(payload[4 : self.at])
        except (ValueError, RecursionError):
            raise WireError("a header that is not JSON") from None
        if not isinstance(self.message, dict):
            raise WireError("a header that is not an object")

    def value(self, node: Any, depth: int = 0) -> Any:
        self.nodes += 1
        if depth > DEEPEST or self.nodes > MOST_NODES:
            raise WireError("a nest of too many values", "too large")
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if not isinstance(node, dict) or len(node) != 1:
            raise WireError("a value of no known kind")
        [(kind, body)] = node.items()
        if kind == "a":
            return self._array(body)
        if kind in ("t", "l") and isinstance(body, list):
            items = [self.value(item, depth + 1) for item in body]
            return tuple(items) if kind == "t" else items
        if kind == "h" and self.function is not None:
            return self.function(body)
        if kind == "o" and self.build is not None:
            name, parts = body
            return self.build(name, self.value(parts, depth + 1))
        raise WireError("a value of no known kind")

    def _array(self, body: Any) -> Any:
        if not isinstance(body, list) or len(body) != 4 or not isinstance(body[0], str) or body[0] not in DTYPES:
            raise WireError("an array of no known type")
        name, shape, writeable, scalar = body
        if not isinstance(shape, list) or len(shape) > 32 or not all(type(n) is int and 0 <= n <= LARGEST for n in shape):
            raise WireError("an array without a shape")
        dtype = np.dtype(name)
        size = dtype.itemsize
        for n in shape:  # plain integers: no product of a shape overflows
            size *= n
        if size > len(self.payload) - self.at:
            raise WireError("an array larger than the bytes that came")
        try:
            a = (
                np.frombuffer(self.payload, dtype, size // dtype.itemsize, self.at).reshape(shape).copy()
                if size
                else np.zeros(shape, dtype)
            )
        except ValueError:
            raise WireError("an array of an impossible shape") from None
        self.at += size
        a.flags.writeable = writeable is True
        return a[()] if scalar is True and not shape else a


def read_frame(stream: Any) -> bytes | None:
    """The next payload of a stream of frames; None where it ends."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "little")
    if size > LARGEST + LARGEST_HEADER + 4:
        raise WireError(f"{size:,} bytes", "too large")
    payload: bytes = stream.read(size)
    return payload if len(payload) == size else None
