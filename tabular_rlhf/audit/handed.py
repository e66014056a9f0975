r"""A function that was handed in: how its parameters are read, how it is called, and what stands in the way, in plain words.

**Push.**  Whatever the kind, a call on a batch becomes one table (B, T), what the step adds to each token's log-probability,

    losses:        -d loss / d logp                    aggregation:  d aggregate / d table times the advantage
    advantages:    A / B, of a whole response           KL penalty:   see `push` (in the loss) and `penalty` (in the reward)

and, where the function asks for the entropy, a second one for that.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tabular_rlhf.audit.library import Detached, Library
from tabular_rlhf.audit.roles import KINDS, LIVE, ROLES, kind_of, roles_of
from tabular_rlhf.check.calling import quietly, told
from tabular_rlhf.errors import InputError, did_you_mean, quoted
from tabular_rlhf.logspace import Array

Batch = dict[str, Any]
"""Tables by role, as NumPy arrays."""
USUAL: Mapping[str, float] = {
    r"beta|kl.*(coef|coeff|coefficient|weight|beta)": 0.1,
    r"(entropy|ent)_?(coef|coeff|coefficient|weight)": 0.01,
    r".*(high|max|upper).*": 0.28,
    r".*(low|clip|cliprange|epsilon|eps).*": 0.2,
    r"temperature|gamma|lam|lambda": 1.0,
    r"label_smoothing|delta": 0.0,
}
"""Values of settings without a default, by name, the first that fits; an advantage's epsilon is 1e-6."""
LAYOUTS: Mapping[str, tuple[str, ...]] = {"advantage": ("a number a response", "a number a token"), "reward": ("a row a prompt", "flat")}
"""How a role may be laid out, in the order in which it is tried."""
MASK = ""
"""The mask that a table of losses is summed by, beside the parameters."""
WHOLE = ("G", "P", "T", "tokens")
"""Roles that are whole numbers."""
WATCHED = 40
"""Calls of which arguments are compared before and after."""
GPU = re.compile(r"cuda|nvidia|\bgpu\b|\bhip\b|\bmps\b|triton", re.IGNORECASE)


class Unfit(Exception):
    """Why there is nothing to audit: kind, and a sentence."""

    def __init__(self, kind: str, words: str) -> None:
        self.kind, self.words = kind, words
        super().__init__(f"{kind}: {words}")


@dataclass
class Handed:
    """The function and how it is read.  roles and layout, by parameter; settings, told or assumed; ascend: its value is to be raised."""

    function: Callable[..., Any]
    name: str
    library: Library
    kind: str
    roles: Mapping[str, str]
    settings: Mapping[str, Any]
    assumed: Mapping[str, float]
    ascend: bool = False
    layout: dict[str, str] = field(default_factory=dict)
    calls: int = 0

    @property
    def grouped(self) -> bool:
        """Whether it can tell prompts apart."""
        return bool({"group", "G", "P"} & set(self.roles.values())) or "a row a prompt" in self.layout.values()

    @property
    def settable(self) -> list[str]:
        """The names of its parameters that are no roles: what may be set."""
        return [name for name in inspect.signature(self.function).parameters if name not in self.roles]

    def asks(self, *roles: str) -> bool:
        """Whether it asks for one of these."""
        return bool(set(roles) & set(self.roles.values()))

    def __call__(self, batch: Batch) -> Any:
        """The first thing that it returns, in its library's type.  Raises Unfit."""
        return self.called({name: self.library.table(x) for name, x in self.tables(batch).items()}, self.fixed(batch))

    def called(self, tables: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
        """The same on tables of its library's type, by parameter, and what is no table."""
        self.calls += 1
        watched = {n: x for n, x in tables.items() if n in self.roles and self.roles[n] not in LIVE} if self.calls <= WATCHED else {}
        before = {n: self.library.plain(x).copy() for n, x in watched.items() if self.library.concrete(x)}
        try:
            with quietly():
                found = self.function(**{n: x for n, x in tables.items() if n in self.roles}, **fixed, **self.settings)
        except (Exception, SystemExit) as e:
            if self.library.traced(e):
                raise
            kind = "needs a GPU" if GPU.search(str(e)) else "raises"
            raise Unfit(kind, told(e)) from e
        for n, x in before.items():
            if not np.array_equal(x, self.library.plain(tables[n]), equal_nan=True):
                raise Unfit("mutates", f"it changes its argument {n}")
        return _first(found)

    def tables(self, batch: Batch) -> dict[str, Array]:
        """Its tables, by parameter, laid out as it wants them."""
        out = {}
        for name, role in self.roles.items():
            if role in WHOLE or self._names(name):
                continue
            value = batch[role]
            layout = self.layout.get(name)
            if layout == "a row a prompt":
                value = np.reshape(value, (batch["P"], batch["G"]))
            elif layout == "a number a token":
                value = np.repeat(value[:, None], batch["T"], axis=1) * (batch["mask"] if self.asks("mask") else 1.0)
            out[name] = value
        return out

    def fixed(self, batch: Batch) -> dict[str, Any]:
        """What it takes that is no table: whole numbers, and names of prompts."""
        whole = {name: int(batch["limit" if role == "T" else role]) for name, role in self.roles.items() if role in WHOLE}
        names = {n: np.array([f"prompt {k}" for k in batch["group"]], dtype=object) for n in self.roles if self._names(n)}
        return whole | names

    def _names(self, name: str) -> bool:
        """Whether a parameter is names of prompts, as trainers pass them: objects that are keys of a dict."""
        return self.roles[name] == "group" and name.startswith(("index", "uid"))

    # ------------------------------------------------------------------------------------------------ pushes

    def push(self, batch: Batch) -> dict[str, Array]:
        """What the step adds to each token's log-probability ("logp"), and to its entropy, (B, T) each.  Raises Unfit."""
        if self.kind == "group advantage":
            return {"logp": self.advantages(batch) * batch["mask"] / len(batch["mask"])}
        if self.kind == "aggregation":
            weight = self.gradient(batch, ["table"])[1]["table"]
            return {"logp": weight * batch["advantage"][:, None]}
        sign = 1.0 if self.ascend else -1.0
        return {role: sign * g for role, g in self.gradient(batch, LIVE)[1].items()}

    def gradient(self, batch: Batch, roles: Iterable[str]) -> tuple[float, dict[str, Array]]:
        """The scalar that its value comes to, and its gradient in the tables of some roles, by role."""
        tables, fixed, wanted = self.tables(batch), self.fixed(batch), set(roles)
        live = {n: x for n, x in tables.items() if self.roles[n] in wanted}
        rest = {n: x for n, x in tables.items() if n not in live} | ({MASK: batch["mask"]} if "mask" in batch else {})
        key = tuple((n, tuple(x) if isinstance(x, np.ndarray) else x) for n, x in sorted(fixed.items())) + tuple(self.layout.items())

        def value(live: Mapping[str, Any], rest: Mapping[str, Any]) -> Any:
            return self._scalar(self.called({**live, **rest}, fixed), rest.get(MASK))

        try:
            found, grads = self.library.differentiate(value, live, rest, key)
        except Detached:
            raise Unfit("detaches", "its value does not depend on the log-probabilities: the gradient is detached") from None
        except Unfit:
            raise
        except Exception as e:
            raise Unfit("raises", f"when it is differentiated: {told(e)}") from e
        if not (np.isfinite(found) and all(np.isfinite(g).all() for g in grads.values())):
            raise Unfit("nan", "its value is nan or inf" if not np.isfinite(found) else "its gradient is nan or inf")
        return found, {self.roles[n]: g for n, g in grads.items()}

    def _scalar(self, y: Any, mask: Any) -> Any:
        """A table of tokens is summed over each response, and responses or pairs are averaged."""
        shape = tuple(np.shape(y) if not hasattr(y, "shape") else y.shape)
        if shape in ((), (1,)):
            return y if shape == () else y.sum()
        if len(shape) == 2 and mask is not None and shape == tuple(mask.shape):
            return (y * mask).sum() / shape[0]
        return y.mean()

    def advantages(self, batch: Batch) -> Array:
        """What it returns as a table (B, T)."""
        found = self.library.plain(self(batch))
        B, T = batch["mask"].shape
        if found.shape in ((batch["P"], batch["G"]), (B,), (B, 1)):
            found = np.broadcast_to(np.reshape(found, (B, 1)), (B, T))
        if found.shape != (B, T):
            raise Unfit("shape", f"it returns a table of shape {found.shape}, where (B,) = ({B},) or (B, T) = ({B}, {T}) is expected")
        if not np.isfinite(found * batch["mask"]).all():
            raise Unfit("nan", "an advantage is nan or inf")
        return found

    def penalty(self, batch: Batch) -> Array:
        """A KL penalty's values, (B, T); a number a response stands at each of its tokens' place once, divided by their count."""
        found = self.library.plain(self(batch))
        B, T = batch["mask"].shape
        if found.shape == (B,):
            found = found[:, None] / np.sum(batch["mask"], axis=1, keepdims=True)
        return np.broadcast_to(found, (B, T)) * batch["mask"]


def _first(found: Any) -> Any:
    if isinstance(found, Mapping):
        return next((found[k] for k in ("loss", "losses", "advantages") if k in found), next(iter(found.values())))
    if hasattr(found, "loss"):
        return found.loss
    return found[0] if isinstance(found, tuple | list) else found


# ---------------------------------------------------------------------------------------------------- reading


def hand_in(
    function: Callable[..., Any],
    library: Library,
    *,
    name: str = "",
    told_roles: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    kind: str | None = None,
    ascend: bool = False,
) -> Handed:
    """The function with its parameters read.  Raises InputError for a mapping or setting not of it, Unfit for unknown parameters."""
    settings, told_roles = dict(settings or {}), told_roles or {}
    function = getattr(function, "forward", function)  # a module of torch is its forward
    asked = [p for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    names = [p.name for p in asked]
    for key in settings:
        if key not in names:
            remedy = did_you_mean(key, names, f"its parameters are {', '.join(names)}")
            raise InputError("--set must name a parameter of the function", got=quoted(key), remedy=remedy)
    roles = {n: r for n, r in roles_of(names, told_roles).items() if n not in settings}
    for p in asked:  # what has a number, a switch or a word for its default is no table: reward_coef=0.1, values="mean"
        if isinstance(p.default, bool | str | float | int) and p.name not in told_roles and roles.get(p.name) not in WHOLE:
            roles.pop(p.name, None)
    if kind is not None and kind not in KINDS:
        raise InputError("--kind must be a known one", got=quoted(kind), remedy=did_you_mean(kind, KINDS, f"use one of {', '.join(KINDS)}"))
    if kind is None and set(roles.values()) == {"value", "mask"}:  # a masked mean: its values are what is added up
        roles = {n: "table" if r == "value" else r for n, r in roles.items()}
    kind = kind or kind_of(roles.values())
    assumed, unknown = {}, []
    for p in asked:
        if p.name in roles or p.name in settings or p.default is not p.empty:
            continue
        usual = next((v for pattern, v in USUAL.items() if re.fullmatch(pattern, p.name.lower())), None)
        if usual is None:
            unknown.append(p.name)
        else:
            assumed[p.name] = 1e-6 if kind == "group advantage" and usual == 0.2 else usual
    if unknown or kind is None:
        raise Unfit("unknown parameters", _unknown(unknown or names))
    return Handed(function, name or getattr(function, "__name__", "it"), library, kind, roles, {**assumed, **settings}, assumed, ascend)


def _unknown(names: list[str]) -> str:
    words = ", ".join(names)
    return f"{words}: say what it is with --map {names[0]}=ROLE (one of {', '.join(ROLES)}), or give it with --set {names[0]}=VALUE"


def lay_out(handed: Handed, batches: list[Batch]) -> None:
    """Find how it wants what may be laid out in two ways: the first way in which it works on all batches.  Raises Unfit, of the last."""
    open_ = {n: LAYOUTS[r] for n, r in handed.roles.items() if r in LAYOUTS}
    last: Unfit | None = None
    for way in itertools.product(*open_.values()):
        handed.layout = dict(zip(open_, way, strict=True))
        try:
            for batch in batches:
                handed.push(batch)
            if "a row a prompt" not in way or (not handed.asks("group", "G", "P") and _by_rows(handed, batches)):
                return
            last = last or Unfit("shape", "rewards of shape (P, G) and (B,) are both refused")
        except Unfit as e:
            last = e if last is None or e.kind != "raises" else last
    assert last is not None
    raise last


def _by_rows(handed: Handed, batches: list[Batch]) -> bool:
    """Whether it takes a row as a prompt: on its own, a row gets what it gets among others."""
    for batch in batches:
        if batch["P"] == 1:
            continue
        whole = handed.push(batch)["logp"]
        for k in range(batch["P"]):
            alone = handed.push(only(batch, k))["logp"]
            mine = batch["group"] == k
            share = np.sum(np.abs(whole[mine])) / max(np.sum(np.abs(alone)), 1e-300)
            if not np.allclose(whole[mine], share * alone, rtol=1e-6, atol=1e-9):
                return False
    return True


def only(batch: Batch, *prompts: int) -> Batch:
    """The part of a batch that answers some prompts."""
    keep = np.isin(batch["group"], prompts)
    part = {k: v[keep] if isinstance(v, np.ndarray) and v.ndim and len(v) == len(keep) else v for k, v in batch.items()}
    return part | {"P": len(prompts), "group": np.searchsorted(prompts, part["group"]), "tokens": int(np.sum(part["mask"]))}
