r"""A panel: controls, a picture and sentences, bound together so that a movement of any control redraws at once.

A `View` says what is explored without knowing of widgets: its controls, data = data(**controls) as plain numbers, a picture of
the data, and sentences about them.  `panel` binds a view to ipywidgets, which are opened here and nowhere else.

Where no widget can run (an executed notebook that is only looked at) the panel still shows its picture at the first position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from tabular_rlhf.errors import InputError, SolveError
from tabular_rlhf.explore.svg import Picture, element, lowered, spoken

Data = dict[str, Any]


@dataclass(frozen=True)
class Control:
    """One control.

    Args: name, the argument of `data` that it sets; label, shown beside it; hint, shown where a pointer rests; value, at first;
    kind, one of KINDS; low, high, step, of a slider; options, (label, value) pairs of a choice or a scale.
    """

    name: str
    label: str
    hint: str
    value: Any
    kind: str = "number"
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class View:
    """What is explored: its controls, data(**controls), show(data, paper) as HTML, and sentences about the data.

    `paper`: the page may be read where no theme and no script is (`on_screen` makes `show` of a function that draws).
    """

    controls: tuple[Control, ...]
    data: Callable[..., Data]
    show: Callable[[Data, bool], str]
    words: Callable[[Data], list[str]]


def on_screen(draw: Callable[[Data], Picture]) -> Callable[[Data, bool], str]:
    """The `show` of a view whose data are drawn."""
    return lambda data, paper: draw(data).image() if paper else draw(data).svg()


INK = "color:var(--jp-ui-font-color1, currentColor)"
"""JupyterLab names its themes' ink; elsewhere, whatever the page writes in."""


NAMER = element(
    "img",
    src="data:,",
    alt="",
    style="display:none",
    onerror="""
const image = this, name = (left) => {
  const box = image.closest('.widget-vbox'), rows = box ? [...box.querySelectorAll('.widget-inline-hbox')] : [];
  for (const row of rows) for (const part of row.querySelectorAll('.noUi-handle, [contenteditable]'))
    part.setAttribute('aria-label', row.querySelector('.widget-label').textContent);
  if (left) setTimeout(name, 250, left - 1);
};
name(20);
""",
)
"""What gives the handle of every slider, and the number beside it, the name of its control: ipywidgets names neither, and a widget of
HTML is the only place from which a panel can."""


def panel(view: View) -> Any:
    """The view as a widget (an ipywidgets.VBox).

    Its attributes: controls, widgets by name; picture, an HTML widget; data, what is shown now.
    Raises: InputError where ipywidgets is not installed.
    """
    return _panel_class()(view)


def opened() -> Any:
    """ipywidgets, or a refusal that says how to get it."""
    try:
        return import_module("ipywidgets")
    except ImportError as e:
        remedy = 'pip install "tabular-rlhf[notebooks]"'
        raise InputError("explore needs ipywidgets", got=f"no such package ({e})", remedy=remedy) from None


@cache
def _panel_class() -> Any:
    w = opened()

    class Panel(w.VBox):  # type: ignore[misc, name-defined]
        """Controls above, picture and sentences below."""

        def __init__(self, view: View) -> None:
            self.view = view
            self.controls = {c.name: _widget(w, c) for c in view.controls}
            self.picture = w.HTML()
            rows = [_row(w, c, self.controls[c.name]) for c in view.controls]
            super().__init__([*rows, self.picture, w.HTML(NAMER)])
            for control in self.controls.values():
                control.observe(self.redraw, names="value")
            self.redraw()

        def redraw(self, _: Any = None) -> None:
            """Compute and show what the controls ask for; what cannot be computed is told in the picture's place."""
            try:
                self.data = self.view.data(**{name: control.value for name, control in self.controls.items()})
            except (InputError, SolveError) as e:
                self.data = {"error": str(e)}
            self.picture.value = self.shown()

        def shown(self, *, paper: bool = False) -> str:
            """The picture and the sentences as HTML."""
            return as_html(self.view, self.data, paper=paper)

        def _repr_mimebundle_(self, **kwargs: Any) -> Any:
            """A widget where one can run, else the picture as it is now."""
            bundle = super()._repr_mimebundle_(**kwargs)
            return {**bundle, "text/html": self.shown(paper=True)} if bundle else bundle

    return Panel


def as_html(view: View, data: Data, *, paper: bool = False) -> str:
    """A view's data as HTML: what is shown, then a paragraph a sentence; what could not be computed says why instead."""
    ink = "" if paper else f"{INK};"
    if "error" in data:
        return element("p", spoken(data["error"]), role="alert", style=f"{ink}margin:8px 0")
    sentences = "".join(element("p", lowered(s), style="margin:4px 0;line-height:1.4") for s in view.words(data))
    return element("div", view.show(data, paper) + sentences, style=f"{ink}max-width:760px")


# ---------------------------------------------------------------------------------------------------- widgets

ROOM = {"description_width": "190px"}


KINDS: dict[str, Callable[[Any, Control], tuple[Any, Data]]] = {
    "number": lambda w, c: (w.FloatSlider, {"min": c.low, "max": c.high, "step": c.step, "readout_format": ".2f"}),
    "scale": lambda w, c: (w.SelectionSlider, {"options": c.options}),
    "choice": lambda w, c: (w.Dropdown, {"options": c.options}),
    "count": lambda w, c: (w.IntSlider, {"min": int(c.low), "max": int(c.high)}),
    "step": lambda w, c: (w.IntSlider, {"min": int(c.low), "max": int(c.high)}),
}
"""Kinds of controls.  A scale lists its values: a slider of numbers would move the world's own value to the nearest of its steps."""


def _widget(w: Any, c: Control) -> Any:
    kind, settings = KINDS[c.kind](w, c)
    layout = w.Layout(width="100%", max_width="720px")
    return kind(value=c.value, description=c.label, tooltip=c.hint, style=ROOM, layout=layout, **settings)


def _row(w: Any, c: Control, widget: Any) -> Any:
    """The control itself; one that is stepped through has Back and Next beside it."""
    if c.kind != "step":
        return widget

    def button(label: str, hint: str, by: int) -> Any:
        out = w.Button(description=label, tooltip=hint, layout=w.Layout(width="90px"))
        out.on_click(lambda _: setattr(widget, "value", min(int(c.high), max(int(c.low), widget.value + by))))
        return out

    return w.VBox([w.HBox([button("Back", "the line before", -1), button("Next", "the next line", 1)]), widget])
