"""The notebooks as a student meets them: JupyterLab in a real Chromium, Run All, sliders moved by mouse and by keyboard.

What JupyterLab computed is saved and compared with what `notebooks/build.py` computed; what a slider shows is compared with the same
panel made in this process.  Pictures of every notebook, from top to bottom in both themes, are written to the folder that the
environment variable NOTEBOOK_PICTURES names, for people to look at.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import ast
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.test_notebooks import TWINS, build, built, called, only_shows

WIDTH, PIECE = 1280, 1600
"""Of the window, and the height of a piece of a picture, in pixels."""
PATIENCE = 120
"""Seconds that a notebook may take to run."""
NAMES = [twin.stem for twin in TWINS]
PAGES = [(name, ("Dark", "Light")[k % 2]) for k, name in enumerate(NAMES)]
"""Every lesson, in the one theme or the other."""


STILL = {"explore.aim", "explore.folded", "explore.progress"}
"""What has no sliders."""


def panels(nb: Any) -> list[int]:
    """The cells that make a panel of sliders, by place."""
    return [
        i
        for i, cell in enumerate(nb.cells)
        if cell.cell_type == "code" and any(name.startswith("explore.") and name not in STILL for name in called(ast.parse(cell.source)))
    ]


# ---------------------------------------------------------------------------------------------------- a JupyterLab of our own


class Lab:
    """A JupyterLab server on a copy of the notebooks, with a token and a home of its own; nothing of this person is read or written."""

    def __init__(self, home: Path) -> None:
        self.home, self.token = home, secrets.token_hex(16)
        self.folder = home / "notebooks"
        self.folder.mkdir()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        places = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_RUNTIME_DIR": "run",
            "IPYTHONDIR": "ipython",
            "JUPYTERLAB_WORKSPACES_DIR": "spaces",
        }
        self.environment = {
            **os.environ,
            **{name: str(home / place) for name, place in places.items()},
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
        }
        self.set("apputils-extension", "notification", {"fetchNews": "false", "checkForUpdates": False})
        self.set("notebook-extension", "tracker", {"windowingMode": "none"})  # all cells are there, not only those in sight

    def set(self, extension: str, plugin: str, values: dict[str, Any]) -> None:
        """Settle a person's choice of settings."""
        path = self.home / "settings" / "@jupyterlab" / extension / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def start(self) -> None:
        options = ["--no-browser", "--allow-root", "--ServerApp.port_retries=0", "--LabApp.news_url=None"]
        options += [f"--port={self.port}", f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.folder}"]
        with (self.home / "log").open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=self.environment, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self.ask("status")
                return
            except OSError:
                assert self.process.poll() is None, (self.home / "log").read_text()
                time.sleep(0.2)
        raise TimeoutError((self.home / "log").read_text())

    def ask(self, what: str, method: str = "GET") -> Any:
        """The answer of the server's own interface."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/{what}?token={self.token}", method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        """End the server and its kernels."""
        self.ask("shutdown", "POST")
        try:
            self.process.wait(20)
        finally:
            self.process.kill()

    def open(self, browser: Any, name: str, theme: str = "Light") -> Any:
        """A fresh copy of a notebook, with a fresh kernel, in a page of its own; errors of the page are kept in `page.faults`."""
        for session in self.ask("sessions"):  # a kernel that has run before would be given to this page too
            self.ask(f"sessions/{session['id']}", "DELETE")
        shutil.copy(build.HERE / f"{name}.ipynb", self.folder)
        self.set("apputils-extension", "themes", {"theme": f"JupyterLab {theme}"})
        page = browser.new_page(viewport={"width": WIDTH, "height": PIECE})
        page.faults = []
        page.on("pageerror", lambda e: page.faults.append(str(e)))
        page.goto(f"http://127.0.0.1:{self.port}/doc/tree/{name}.ipynb?reset&token={self.token}")
        cells = len(built(build.HERE / f"{name}.py").cells)
        page.wait_for_function(f"document.querySelectorAll('.jp-Notebook .jp-Cell').length === {cells}", timeout=60_000)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=60_000)
        return page


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.start()
    yield lab
    lab.stop()


def choose(page: Any, menu: str, item: str) -> None:
    """An item of a menu, by mouse."""
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{item}")).first.click()


def prompts(page: Any) -> list[str]:
    return [str(p) for p in page.eval_on_selector_all(".jp-CodeCell .jp-InputPrompt", "all => all.map(x => x.textContent)")]


def run_all(page: Any) -> None:
    """Clear all outputs, Run All Cells, and wait until every cell of code has its number."""
    choose(page, "Edit", "Clear Outputs of All Cells")
    page.wait_for_function("[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].every(x => !/[0-9]/.test(x.textContent))")
    choose(page, "Run", "Run All Cells")
    end, again = time.monotonic() + PATIENCE, time.monotonic() + PATIENCE / 6
    while not all(re.search(r"\d", prompt) for prompt in prompts(page)):
        if time.monotonic() > again and not any(re.search(r"[\d*]", prompt) for prompt in prompts(page)):
            choose(page, "Run", "Run All Cells")  # on a busy machine the first was said before there was a kernel, and is lost
            again = time.monotonic() + PATIENCE / 6
        assert page.locator(ERROR).all_text_contents() == []
        assert time.monotonic() < end, prompts(page)
        page.wait_for_timeout(200)
    page.wait_for_timeout(500)  # the last widget is drawn, formulas are set


def saved(lab: Lab, page: Any, name: str) -> Any:
    """The notebook as JupyterLab saved it, its outputs settled as the builder's are."""
    path = lab.folder / f"{name}.ipynb"
    before = path.stat().st_mtime_ns
    choose(page, "File", "Save Notebook$")
    end = time.monotonic() + 20
    while path.stat().st_mtime_ns == before and time.monotonic() < end:
        page.wait_for_timeout(100)
    page.wait_for_timeout(300)
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = build.settle(cell.outputs)
    return nb


# ---------------------------------------------------------------------------------------------------- opened and run


PICTURE = ".jp-OutputArea-output .widget-html-content"
"""What a panel draws into."""
ERROR = "[data-mime-type='application/vnd.jupyter.error']"
OVERFLOWING = """() => [...document.querySelectorAll('.jp-OutputArea-output, .jp-RenderedMarkdown')]
    .filter(x => x.scrollWidth > x.clientWidth + 2)
    .map(x => [x.scrollWidth, x.clientWidth, x.textContent.slice(0, 80)])"""


@pytest.mark.parametrize(("name", "theme"), PAGES)
def test_a_notebook_opens_runs_shows_what_was_built_and_its_sliders_move(lab: Lab, browser: Any, name: str, theme: str) -> None:
    page = lab.open(browser, name, theme)
    stored = built(build.HERE / f"{name}.py")
    assert len(prompts(page)) == sum(cell.cell_type == "code" for cell in stored.cells)
    picture(page, f"{name}-{theme.lower()}-as-opened")
    run_all(page)
    picture(page, f"{name}-{theme.lower()}")
    nb = saved(lab, page, name)
    assert build.faults(nb) == []
    assert build.differences(stored, nb) == []
    assert page.locator(PICTURE).count() >= len(panels(nb))
    assert page.locator("mjx-merror, .MathJax_Error").count() == 0
    assert page.evaluate(OVERFLOWING) == []
    assert sliders_move(lab, page, name) >= 1
    assert page.faults == []
    page.close()


def picture(page: Any, name: str) -> None:
    """The whole notebook, cut into pieces, where somebody wants to look at it."""
    folder = os.environ.get("NOTEBOOK_PICTURES")
    if not folder:
        return
    height = int(page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollHeight")) + 120
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
    page.wait_for_timeout(500)
    for k, top in enumerate(range(0, height, PIECE)):
        clip = {"x": 0, "y": top, "width": WIDTH, "height": min(PIECE, height - top)}
        page.screenshot(path=str(Path(folder) / f"{name}-{k}.png"), clip=clip)
    page.set_viewport_size({"width": WIDTH, "height": PIECE})


# ---------------------------------------------------------------------------------------------------- sliders

SHOWN = f"cell => cell.querySelector('{PICTURE}').innerHTML"
MATCHES = f"""([number, html]) => {{
    const plain = document.createElement('div'); plain.innerHTML = html;
    const cell = document.querySelectorAll('.jp-Notebook .jp-Cell')[number];
    return cell.querySelector('{PICTURE}').innerHTML === plain.innerHTML; }}"""


def made_here(nb: Any) -> Iterator[tuple[int, Any]]:
    """The panels of a notebook, by place, made in this process by running the cells up to each that bind something."""
    names: dict[str, Any] = {}
    places = panels(nb)
    for at, cell in enumerate(nb.cells[: places[-1] + 1]):
        if at in places:
            yield at, eval(cell.source, names)
        elif cell.cell_type == "code" and not only_shows(cell.source):
            exec(cell.source, names)


class Kernel:
    """The kernel of the page, asked directly."""

    def __init__(self, lab: Lab) -> None:
        from jupyter_client.blocking.client import BlockingKernelClient

        newest = max((lab.home / "run").glob("kernel-*.json"), key=lambda path: path.stat().st_mtime)
        self.client = BlockingKernelClient(connection_file=str(newest))
        self.client.load_connection_file()
        self.client.start_channels()

    def __call__(self, expression: str) -> Any:
        """The value of an expression that is made of plain numbers and words."""
        reply = self.client.execute_interactive("", silent=True, store_history=False, user_expressions={"it": expression}, timeout=20)
        answer = reply["content"]["user_expressions"]["it"]
        assert answer["status"] == "ok", answer
        return ast.literal_eval(answer["data"]["text/plain"])


def settles(page: Any, kernel: Kernel, at: int, panel: Any, number: str) -> dict[str, Any]:
    """What the controls say, once the page shows what this process computes for it; fails if it never does."""
    asked = f"({{name: control.value for name, control in Out[{number}].controls.items()}}, Out[{number}].data)"
    before, (values, data) = None, kernel(asked)
    while (values, data) != before:  # until the last movement has reached the kernel
        page.wait_for_timeout(200)
        before, (values, data) = (values, data), kernel(asked)
    for name, value in values.items():
        panel.controls[name].value = value
    assert data == panel.data
    page.wait_for_function(MATCHES, arg=[at, panel.picture.value], timeout=10_000)
    return values


def sliders_move(lab: Lab, page: Any, name: str) -> int:
    """Every slider of every panel, by keyboard and by mouse: the picture changes, and is Python's.  Returns how many there were."""
    kernel, nb, moved = Kernel(lab), built(build.HERE / f"{name}.py"), 0
    for at, panel in made_here(nb):
        cell = page.locator(".jp-Notebook .jp-Cell").nth(at)
        number = re.sub(r"\D", "", str(cell.locator(".jp-InputPrompt").text_content()))
        handles = cell.locator(".noUi-handle")
        assert handles.count() >= 1
        values = settles(page, kernel, at, panel, number)
        for k in range(handles.count()):
            handle = handles.nth(k)
            for move in (by_keyboard, by_mouse):
                before, seen = values, cell.evaluate(SHOWN)
                move(page, handle)
                values = settles(page, kernel, at, panel, number)
                assert sum(before[key] != values[key] for key in values) == 1, f"{move.__name__} on slider {k}"
                assert cell.evaluate(SHOWN) != seen
            moved += 1
    return moved


def by_keyboard(page: Any, handle: Any) -> None:
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")


def by_mouse(page: Any, handle: Any) -> None:
    """Drag the handle by a third of its track, toward the middle."""
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    track = handle.locator("xpath=ancestor::*[contains(@class, 'noUi-target')]").bounding_box()
    way = track["width"] / 3 * (1 if x < track["x"] + track["width"] / 2 else -1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + way, y, steps=8)
    page.mouse.up()
