"""From a figure to its files, and into a notebook: SVG, PNG and the data as JSON, with bytes that depend on nothing but the data.

The data are rounded to seven digits before they are drawn or written, and `differences` allows the last digit or so to move,
because exp and log differ between machines in their last bits.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from tabular_rlhf import told
from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.figures.record import Data, Draw, Figure, Said, all_figures, readable
from tabular_rlhf.files import check_output, read_json, read_text, write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet

SCHEMA = "tabular-rlhf/figure/1"
STYLE = Path(__file__).parent.parent / "style.mplstyle"
METADATA: dict[str, dict[str, None]] = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}
"""What a file of each kind would say about when and by what it was made."""
DIGITS, SLACK = 7, 2e-6
LETTERS = 12.5
"""Of a title, on an inch."""


def rounded(value: Any) -> Any:
    """The data with every float rounded to seven significant digits; refuses what JSON cannot say.

    >>> rounded({"a": [1 / 3, 2, "b", None]})
    {'a': [0.3333333, 2, 'b', None]}
    """
    if isinstance(value, dict):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if type(value) is float and abs(value) < float("inf"):
        return float(f"{value:.{DIGITS}g}") + 0.0
    raise InputError("a figure's data must be plain finite values", got=f"{type(value).__name__} {value}", remedy="use .tolist() or None")


def as_json(figure: Figure, data: Data) -> str:
    """The text of a figure's data file: one line for each entry, so that differences read well."""
    head = {"schema": SCHEMA, "name": figure.name, "title": figure.said.title, "caption": figure.said.caption, "rows": list(figure.rows)}
    lines = [f" {told.as_json(k)}: {told.as_json(v)}" for k, v in head.items()]
    inner = [f"  {told.as_json(k)}: {told.as_json(v)}" for k, v in rounded(data).items()]
    return "{\n" + ",\n".join(lines) + ',\n "data": {\n' + ",\n".join(inner) + "\n }\n}\n"


def on_paper(draw: Draw, data: Data, widths: tuple[float, ...], size: tuple[float, float], title: str = "") -> Sheet:
    """The drawn sheet, the title above its panels.  To be called, and saved, inside the style's context; no pyplot, so no global state."""
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet(figsize=size)
    axes = sheet.subplots(1, len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})
    draw(list(axes[0]), rounded(data))
    if title:
        told = "\n".join(wrap(readable(title, 400), int(LETTERS * size[0])))
        sheet.suptitle(told, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if not any(ax.has_data() for ax in axes[0]):
        raise InputError("draw must put its data on the axes", got="none", remedy="draw something on the axes that it is given")
    return sheet


def save(draw: Draw, data: Data, paths: list[Path], widths: tuple[float, ...], size: tuple[float, float], said: Said) -> None:
    """Draw once and write to every path, in the format of its suffix."""
    import matplotlib.style

    with matplotlib.style.context(STYLE):
        sheet = on_paper(draw, data, widths, size, said.title)
        for path in paths:
            write_bytes(path, in_bytes(sheet, check_path(path), said))


def in_bytes(sheet: Sheet, kind: str, said: Said) -> bytes:
    """A drawn sheet as a file of a kind, which says in words what is seen: an SVG to a screen reader, others in their notes."""
    words = {"svg": {}, "png": {"Title": said.title, "Description": said.caption}, "pdf": {"Title": said.title, "Subject": said.caption}}
    picture = io.BytesIO()
    sheet.savefig(picture, format=kind, metadata={**METADATA[kind], **words[kind]})
    return picture.getvalue() if kind != "svg" else spoken(picture.getvalue().decode(), said).encode()


def spoken(svg: str, said: Said) -> str:
    """An SVG that is an image with a name and a description.

    >>> spoken('<svg width="1">', Said("It rises", "It rises & falls.")).partition(">")[2]
    '<title id="title">It rises</title><desc id="desc">It rises &amp; falls.</desc>'
    """
    head, tag, rest = svg.partition("<svg ")
    attributes, close, body = rest.partition(">")
    named = f'<title id="title">{escape(said.title)}</title><desc id="desc">{escape(said.caption)}</desc>'
    return f'{head}{tag}role="img" aria-labelledby="title" aria-describedby="desc" {attributes}{close}{named}{body}'


def check_path(path: Path) -> str:
    """The format of a picture's path, if it can be written."""
    kind = path.suffix.removeprefix(".").lower()
    if kind not in METADATA:
        remedy = f"end it in .{', .'.join(METADATA)}"
        raise InputError("a figure's file must name a known format", got=quoted(str(path)), remedy=remedy)
    if not path.parent.is_dir():
        raise InputError("a figure's folder must exist", got=quoted(str(path.parent)), remedy="make it, or choose another")
    check_output(path)
    return kind


def write(figure: Figure, folder: Path) -> list[Path]:
    """Compute and draw one figure; returns the files written: SVG, PNG, JSON."""
    data = figure.compute()
    pictures = [folder / f"{figure.name}.{kind}" for kind in ("svg", "png")]
    save(figure.draw, data, pictures, figure.widths, figure.size, figure.said)
    written = folder / f"{figure.name}.json"
    write_text(written, as_json(figure, data))
    return [*pictures, written]


def check(figure: Figure, folder: Path) -> list[str]:
    """What is missing or different from what the figure would be now; empty if all is well."""
    missing = [f"{figure.name}.{kind} is missing" for kind in ("svg", "png", "json") if not (folder / f"{figure.name}.{kind}").is_file()]
    if f"{figure.name}.json is missing" in missing:
        return missing
    try:
        committed = read_json(read_text(folder / f"{figure.name}.json", "a figure's data"))
    except (ValueError, OSError) as e:
        return [*missing, f"{figure.name}.json cannot be read: {e}"]
    return [*missing, *differences(committed, json.loads(as_json(figure, figure.compute())), figure.name)]


def same(old: Any, new: Any) -> bool:
    """Whether two values of a data file are one, but for the rounding of the last digits."""
    if isinstance(old, float) or isinstance(new, float):
        both = all(isinstance(x, int | float) for x in (old, new))
        return both and abs(old - new) <= SLACK * max(abs(old), abs(new)) + 1e-12
    return bool(type(old) is type(new) and old == new)


def differences(old: Any, new: Any, place: str, same: Callable[[Any, Any], bool] = same) -> Iterator[str]:
    """Where two sets of data differ, by what is taken to be the same.

    >>> list(differences({"a": [1.0, 2.0]}, {"a": [1.0000001, 3.0]}, "tilt"))
    ['tilt.a[1]: 2.0 in the file, 3.0 now']
    """
    if isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        for key in old:
            yield from differences(old[key], new[key], f"{place}.{key}", same)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{place}[{i}]", same)
    elif not same(old, new):
        yield f"{place}: {_short(old)} in the file, {_short(new)} now"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


# ---------------------------------------------------------------------------------------------------- in a notebook


@dataclass(frozen=True)
class Shown:
    """A drawn figure: `png` and `svg` are its bytes, `data` what it shows, `said` its title and what to see in it."""

    figure: Figure = field(repr=False)
    name: str
    said: Said

    @cached_property
    def data(self) -> Data:
        """The numbers that are drawn."""
        return self.figure.compute()

    @cached_property
    def png(self) -> bytes:
        """The picture in pixels."""
        return self._bytes("png")

    @cached_property
    def svg(self) -> str:
        """The picture in lines."""
        return self._bytes("svg").decode()

    def _bytes(self, kind: str) -> bytes:
        import matplotlib.style

        with matplotlib.style.context(STYLE):
            sheet = on_paper(self.figure.draw, self.data, self.figure.widths, self.figure.size, self.said.title)
            return in_bytes(sheet, kind, self.said)

    def _repr_html_(self) -> str:
        """The picture with its caption under it; on white, whatever the theme."""
        caption = escape(self.said.caption)
        source = f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
        picture = f'<img src="{source}" alt="{caption}" style="max-width:100%;background:#fff">'
        return f'<figure style="margin:0">{picture}<figcaption>{caption}</figcaption></figure>'


def show(name: str) -> Shown:
    """A figure of the gallery, computed and drawn now.  Raises InputError for an unknown name.

    >>> show("tilt").png[1:4]
    b'PNG'
    """
    figure = all_figures().find(name)
    return Shown(figure, figure.name, figure.said)
