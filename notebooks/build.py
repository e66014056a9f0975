r"""Build the notebooks: `NN_name.py`, which people edit, becomes `NN_name.ipynb`, which people open.

    python notebooks/build.py              build them all           python notebooks/build.py --check     are they today's?
    python notebooks/build.py 01 04        build two of them        python notebooks/build.py --jobs 2    two at a time

A twin `NN_name.py` is a percent script: `# %%` opens a cell of code, `# %% [markdown]` a cell of prose.  It is read by jupytext,
executed by nbclient in a fresh kernel of this very environment, and written so that building twice gives the same bytes:

    cell ids       a digest of the cell's own source, so that inserting a cell leaves the ids of its neighbors alone;
    common cells   how to install behind the title, `explore.progress()` behind the exercises, a glossary of the symbols before the last
                   cell (`tabular_rlhf.explore.lesson`), in no twin and in every notebook;
    metadata       the kernel's name and the language, nothing of the machine, no clock, no widget state;
    outputs        consecutive pieces of one stream are one piece; what has a richer form is kept in
                   that form alone; a live control leaves its picture, not its model.

A notebook that raises, writes to stderr, or shows numpy's own `repr`, a memory address or a path of this machine is not written.
`--check` writes nothing: it compares the sources with the twins, executes again, and compares the outputs.  Text must be the same,
except that printed decimals may differ by one in their last place, and by noise (see `agree`); of images, only that they are there.

Exit status: 0 ok, 1 a notebook is at fault or out of date, 2 bad usage.
"""

# mypy: disable-error-code="import-untyped,no-untyped-call"
from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from traitlets.config import Config

from tabular_rlhf.explore import lesson
from tabular_rlhf.files import write_text

HERE = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
TIMEOUT = 120
"""Seconds that one cell may take."""
Notebook = Any

# ---------------------------------------------------------------------------------------------------- a twin, read


def twins() -> list[Path]:
    """The percent scripts of the course, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def read(twin: Path) -> Notebook:
    """The notebook of a twin, not yet executed: its cells, their fixed ids, the pinned metadata."""
    script = jupytext.reads(twin.read_text(encoding="utf-8"), fmt="py:percent")
    new = {
        "code": nbformat.v4.new_code_cell,
        "markdown": nbformat.v4.new_markdown_cell,
        "raw": nbformat.v4.new_raw_cell,
    }
    cells, seen = [], Counter[str]()
    for kind, source in lesson.framed(
        [(cell.cell_type, cell.source) for cell in script.cells]
    ):
        digest = hashlib.sha256(f"{kind}\n{source}".encode()).hexdigest()[:10]
        seen[digest] += 1
        cells.append(new[kind](source, id=f"{twin.stem[:2]}-{digest}-{seen[digest]}"))
    return nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))


def sources(nb: Notebook) -> list[tuple[str, str, str]]:
    """What a notebook says, without what it shows: (id, kind, source) of every cell."""
    return [(cell.id, cell.cell_type, cell.source) for cell in nb.cells]


# ---------------------------------------------------------------------------------------------------- executed


def execute(nb: Notebook) -> Notebook:
    """Run every cell in a fresh kernel; what it shows is settled.  Raises nbclient's CellExecutionError where a cell raises."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(_quiet(folder))
        # Sockets that are files, where the system has them, rather than ports: nobody else can listen.
        sockets = (
            {}
            if os.name == "nt"
            else {"KernelManager": {"transport": "ipc", "ip": os.path.join(folder, "kernel")}}
        )
        where = {"metadata": {"path": str(HERE)}}
        # The state of widgets is collected (nbclient fails without it), read for what it tells, and thrown away.
        NotebookClient(
            nb,
            kernel_name="python3",
            timeout=TIMEOUT,
            record_timing=False,
            resources=where,
            config=Config(sockets),
        ).execute()
    widgets = nb.metadata.pop("widgets", {})
    states = [m for kind in widgets.values() for m in kind["state"].values()]
    if any(m["model_name"] == "OutputModel" for m in states):
        raise ValueError(
            "an Output widget shows its text in the wrong cell when nobody watches; use an HTML widget"
        )
    nb.metadata = nbformat.from_dict(METADATA)
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = settle(cell.outputs)
    return nb


def _quiet(folder: str) -> dict[str, str]:
    """A kernel that knows nothing of this person: no start-up files, no history, no configuration; and hashes that are the same."""
    return {
        "IPYTHONDIR": folder,
        "JUPYTER_RUNTIME_DIR": folder,
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": folder,
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONHASHSEED": "0",
    }


def settle(outputs: list[Any]) -> list[Any]:
    """Outputs that depend on nothing but the program: how a stream was cut into pieces does not show, nor which number a model got."""
    settled: list[Any] = []
    for output in outputs:
        if (
            output.output_type == "stream"
            and settled
            and settled[-1].get("name") == output.name
        ):
            settled[-1].text += output.text
            continue
        if "data" in output:
            output.data.pop("application/vnd.jupyter.widget-view+json", None)
            output.metadata = nbformat.from_dict({})
            if {"text/html", "text/markdown"} & output.data.keys():
                output.data.pop(
                    "text/plain", None
                )  # the repr of what is shown, with every rounding error in it
        settled.append(output)
    return settled


# ---------------------------------------------------------------------------------------------------- what a notebook may not show

FAULTS = {
    "a traceback": re.compile(r"Traceback \(most recent call last\)"),
    "a warning": re.compile(r"\b\w*Warning\b: "),
    "numpy's repr of a number": re.compile(
        r"\bnp\.(?:float|int|bool|str)\w*[(_]|\bnumpy\.(?:float|int)\d+"
    ),
    "a memory address": re.compile(r"\bat 0x[0-9a-f]{6,}"),
    "a path of this machine": re.compile(r"(?<![\w/:.<+=])/(?:[\w.-]+/){2,}|\b[A-Z]:\\\w+\\"),
}


def texts(output: Any) -> dict[str, str]:
    """The text of an output, by kind; of an image, the empty text."""
    if output.output_type == "stream":
        return {f"text of {output.name}": output.text}
    if output.output_type == "error":
        return {"error": f"{output.ename}: {output.evalue}"}
    return {
        kind: "" if kind.startswith("image/") else str(text)
        for kind, text in output.data.items()
    }


def faults(nb: Notebook) -> list[str]:
    """Everything that the outputs show and may not show, each with its cell's id."""
    found = []
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(
                    f"cell {cell.id} writes to stderr or raises: {next(iter(texts(output).values())).strip()[:300]}"
                )
            for kind, text in texts(output).items():
                for what, pattern in FAULTS.items():
                    if at := pattern.search(text):
                        found.append(
                            f"cell {cell.id} shows {what} ({kind}): {text[max(0, at.start() - 40) : at.end() + 40]!r}"
                        )
    return found


# ---------------------------------------------------------------------------------------------------- the same outputs

NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")
ROUNDING = re.compile(r"largest gap: [-+.e\d]+")
"""How much of the allowed rounding an executed derivation used: it differs from one processor to the next."""
PICTURE = re.compile(r"<svg\b.*?</svg>|data:image/[^\"']*", re.DOTALL)


def agree(a: str, b: str) -> bool:
    """Whether two printed numbers are one number: whole numbers exactly; others to one in the last place printed, or to 1e-9 of
    their size, or both noise below 1e-12.

    >>> agree("0.6844", "0.6843"), agree("0.6844", "0.6842"), agree("3", "4"), agree("-1.1e-16", "0.0")
    (True, False, False, True)
    """
    x, y = float(a), float(b)
    if a.lstrip("-").isdigit() and b.lstrip("-").isdigit():
        return x == y
    last = min(place for place in map(_last_place, (a, b)) if place)
    return abs(x - y) <= 1.0001 * max(last, 1e-9 * abs(x)) or max(abs(x), abs(y)) < 1e-12


def _last_place(number: str) -> float:
    """One in the last place printed; 0 for a whole number."""
    digits, _, power = number.partition("e")
    whole = "." not in digits and not power
    return 0.0 if whole else 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def same_text(a: str, b: str) -> bool:
    """Whether two texts are the same but for the last digits of their numbers and the insides of their drawings."""
    a, b = (PICTURE.sub("picture", ROUNDING.sub("", text)) for text in (a, b))
    return NUMBER.split(a) == NUMBER.split(b) and all(
        map(agree, NUMBER.findall(a), NUMBER.findall(b))
    )


def differences(old: Notebook, new: Notebook) -> list[str]:
    """Where the notebook as it lies there is not the notebook as it should be."""
    if sources(old) != sources(new):
        return ["the cells are not those of the twin: build it again"]
    found = []
    for was, now in zip(old.cells, new.cells, strict=True):
        shown: list[list[dict[str, str]]] = [
            [texts(output) for output in cell.get("outputs", [])] for cell in (was, now)
        ]
        for a, b in itertools.zip_longest(*shown, fillvalue={}):
            if a.keys() != b.keys():
                found.append(
                    f"cell {now.id} shows {sorted(b) or 'nothing'} where it showed {sorted(a) or 'nothing'}"
                )
            found += [
                f"cell {now.id} shows\n{b[k]}\nwhere it showed\n{a[k]}"
                for k in a
                if k in b and not same_text(a[k], b[k])
            ]
    return found


# ---------------------------------------------------------------------------------------------------- the work


def work(twin: Path, check: bool) -> tuple[str, list[str]]:
    """Build or check one notebook: the line to print, and what is wrong."""
    target, start = twin.with_suffix(".ipynb"), time.perf_counter()
    try:
        nb = execute(read(twin))
    except (
        Exception
    ) as e:  # whatever a cell or its kernel did, the other notebooks are still to be built
        return f"{twin.stem}: failed", [re.sub(r"\x1b\[[0-9;]*m", "", str(e))]
    text = nbformat.writes(nb) + "\n"
    wrong, told = faults(nb), "built"
    if check:
        old = target.read_text(encoding="utf-8") if target.exists() else ""
        wrong += (
            differences(nbformat.reads(old, as_version=4), nb)
            if old
            else [f"{target.name} does not exist: build it"]
        )
        told = (
            "the same bytes" if old == text else "the same, but for last digits and pictures"
        )
    elif not wrong:
        nbformat.validate(nb)
        write_text(target, text)
    cells = sum(cell.cell_type == "code" for cell in nb.cells)
    return (
        f"{twin.stem}: {'at fault' if wrong else told}, {cells} cells of code, {time.perf_counter() - start:.1f} s",
        wrong,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python notebooks/build.py", description="Build the notebooks from their twins."
    )
    parser.add_argument(
        "numbers",
        nargs="*",
        metavar="NN",
        help="numbers of notebooks, such as 01 (all of them by default)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; say where a notebook is not today's",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="how many at a time (1)"
    )
    args = parser.parse_args(argv)
    known = {twin.stem[:2]: twin for twin in twins()}
    unknown = [n for n in args.numbers if n not in known]
    if unknown or not known or args.jobs < 1:
        parser.error(
            f"no such notebook: {' '.join(unknown)}; there are {' '.join(known)}"
            if unknown
            else "nothing to do"
        )
    chosen = [known[n] for n in args.numbers or known]
    status = 0
    with ProcessPoolExecutor(
        min(args.jobs, len(chosen)), mp_context=get_context("spawn")
    ) as pool:
        for told, wrong in pool.map(work, chosen, [args.check] * len(chosen)):
            print("\n".join([told, *wrong]), flush=True)
            status |= bool(wrong)
    return status


if __name__ == "__main__":
    sys.exit(main())
