"""What can be handed in, and what is read of it: Python, notebooks, folders, archives; and archives that mean harm."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_rlhf.errors import InputError
from tabular_rlhf.grading import nursery
from tabular_rlhf.grading.marks import Grades, grade
from tabular_rlhf.grading.reading import NotANotebook, code_cells, needed, python_of
from tabular_rlhf.grading.reading import read as read_file
from tabular_rlhf.grading.report import as_text
from tabular_rlhf.grading.submission import (
    LARGEST,
    LARGEST_ARCHIVE,
    MOST_ARCHIVES,
    MOST_ENTRIES,
    MOST_FILES,
    is_answer,
    of,
    read,
    read_entry,
    whose,
)
from tests.grading_support import HONEST, QUICK, judge


def notebook(*cells: str, **more: Any) -> bytes:
    code = [{"cell_type": "code", "source": cell.splitlines(keepends=True), "outputs": []} for cell in cells]
    return json.dumps({"nbformat": 4, "cells": [{"cell_type": "markdown", "source": ["# Title"]}, *code], **more}).encode()


def graded(path: Path, *slugs: str) -> Grades:
    return grade(read(path), dict.fromkeys(slugs, 1.0), judge, limits=QUICK)


# ---------------------------------------------------------------------------------------------------- notebooks

CELLS = (
    "%matplotlib inline\n!pip install torch\nimport numpy as np\nfrom tabular_rlhf.check import check",
    "%%bash\nrm -r somewhere",
    "factor = {}\nfactor['value'] = 2.0\nprint('shown', 1 / 0)\n1 / 0",
    "def helper(x):\n    return factor['value'] * x\n?helper",
    "%%time\ndef honest(x):\n    return helper(np.asarray(x))\ncheck('regret', honest)\nhonest?",
    "while True:\n    pass",
    "def broken(:",
    "def late(x):\n    return 0 * x + np.zeros(3)[5]",
    "with open('/etc/hostname') as f: text = f.read()",
)


def test_a_notebook_is_read_and_only_what_an_answer_needs_is_run(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_bytes(notebook(*CELLS))
    found = graded(tmp_path / "a.ipynb", "honest", "late", "broken")
    assert [m.status for m in found.marks] == ["right", "raises", "unanswered"], found.marks
    assert "IndexError" in found.marks[1].reason
    assert found.marks[1].reason.endswith("(code cell 8, line 2)")
    assert found.imports == ("numpy",)
    assert found.read == ("a.ipynb: SyntaxError: invalid syntax (code cell 7, line 1)",)
    assert "read: a.ipynb: SyntaxError" in as_text(found)


def test_a_cell_that_fails_costs_only_what_it_would_have_defined(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_bytes(
        notebook("import no_such_module\nfactor = 2.0\nexit()\nhonest = factor.no_such", "def honest(x): return 2 * x")
    )
    assert graded(tmp_path / "a.ipynb", "honest").full
    (tmp_path / "b.ipynb").write_bytes(notebook("other = 1 / 0\nhonest = lambda x: other"))
    assert graded(tmp_path / "b.ipynb", "honest").marks[0].reason == "NameError: name 'other' is not defined (code cell 1, line 2)"
    (tmp_path / "c.ipynb").write_bytes(notebook("x = 1", "honest = no_such(3)"))
    assert graded(tmp_path / "c.ipynb", "honest").marks[0].reason == "NameError: name 'no_such' is not defined (code cell 2, line 1)"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"cells": 3}', b'{"cells": [3]}', b"[" * 10**5, b'{"worksheets": 1}', b"\xff"], ids=len
)
def test_what_is_no_notebook_is_refused_with_a_reason(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_bytes(content)
    names, imports, fault, _, _ = read_file(tmp_path / "a.ipynb", ["f"])
    assert (names, imports) == ([], [])
    assert "no notebook" in fault


def test_a_notebook_of_another_language_says_so() -> None:
    with pytest.raises(NotANotebook, match="of julia"):
        code_cells(notebook("x", metadata={"language_info": {"name": "julia"}}))
    old = json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"]}]}]}).encode()
    assert code_cells(old) == ["x = 1"]


PIECES = (
    "x = 1",
    "%matplotlib inline",
    "!ls -l",
    "?np.sum",
    "np.sum?",
    "files = !ls",
    "t = %timeit -o f(x)",
    "y = (7\n     % 4)",
    "def f(a):\n    return a",
    "",
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6), st.booleans())
def test_what_is_python_stays_and_what_is_not_goes(pieces: list[str], indented: bool) -> None:
    text = "\n".join(pieces)
    cell = "if x:\n" + "\n".join(f"    {line}" for line in (text + "\npass").split("\n")) if indented else text
    told = python_of(cell)
    assert told.count("\n") == cell.count("\n")
    values: dict[str, Any] = {"x": 1}
    exec(told, values)
    for piece in pieces:
        if piece in ("x = 1", "y = (7\n     % 4)", "def f(a):\n    return a"):
            names = {n.id for n in ast.walk(ast.parse(piece)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} or {"f"}
            assert names <= set(values)
    assert values.get("y", 3) == 3


@pytest.mark.parametrize("cell", ["def f(:", "x = 1 +", "%%R\nx <- 1", "%%html\n<b>"])
def test_a_broken_cell_is_an_error_and_one_of_another_language_is_empty(cell: str) -> None:
    if cell.startswith("%%"):
        assert python_of(cell) == ""
    else:
        with pytest.raises(SyntaxError):
            python_of(cell)


def test_a_function_gets_all_that_it_needs_and_nothing_else(tmp_path: Path) -> None:
    cells = (
        "from math import *\nimport os, sys",
        "a = 1\nb = 2\nunused = [a]",
        "for k in range(3):\n    b += k\nif a:\n    c = 3\nelse:\n    c = 4",
        "table = {}\ntable['x'] = c\ntable.update(y=b)\nos.getcwd()",
        "class Base: pass\n@decorate\ndef f(x, y=table): return Base(), x",
        "def decorate(g): return g",
        "print(f)",
    )
    (tmp_path / "a.ipynb").write_bytes(notebook(*cells))
    kept = [ast.unparse(node).split("\n")[0] for _, node in needed(tmp_path / "a.ipynb", "f")]
    assert kept == [
        "from math import *", "a = 1", "b = 2", "for k in range(3):", "if a:", "table = {}", "table['x'] = c", "table.update(y=b)",
        "class Base:", "@decorate", "def decorate(g):",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- folders and archives

STUDENT = {
    "b.ipynb": notebook("def other(x): return 3 * x", "def honest(x): return 0 * x"),
    "inner/a.py": b"from helper import twice\ndef honest(x): return twice(x)\n",
    "inner/helper.py": b"def twice(x): return 2 * x\n",
    "inner/wrong.py": b"def fails(x):\n    return x['no']\n",
    "notes.pdf": b"%PDF",
    ".ipynb_checkpoints/b.ipynb": b"{",
    "__MACOSX/a.py": b"def bad(x): return x",
    "venv/pyvenv.cfg": b"",
    "venv/lib.py": b"def bad(x): return x",
    "node_modules/x.py": b"def bad(x): return x",
}


def student(root: Path) -> Path:
    for name, content in STUDENT.items():
        path = root / "student" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "elsewhere.py").write_text("def bad(x): return x")
    (root / "student" / "link.py").symlink_to(root / "elsewhere.py")
    (root / "student" / "away").symlink_to(root, target_is_directory=True)
    return root / "student"


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_or_an_archive_is_one_submission(zipped: bool, tmp_path: Path) -> None:
    path = student(tmp_path)
    if zipped:
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            for name, content in STUDENT.items():
                if not name.startswith("venv"):
                    archive.writestr(f"student/{name}", content)
            link = zipfile.ZipInfo("student/link.py")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        path = tmp_path / "s.zip"
    found = graded(path, "honest", "other", "bad", "fails")
    assert [m.status for m in found.marks] == ["wrong", "wrong", "unanswered", "raises"], found.marks
    assert found.marks[3].place.endswith("inner/wrong.py")
    start = "student/" if zipped else ""
    names = sorted(start + name for name in ("b.ipynb", "inner/a.py", "inner/helper.py", "inner/wrong.py"))
    assert found.read == (*names, f"honest is in {start}b.ipynb and {start}inner/a.py: the first is graded")
    os.remove(tmp_path / "student" / "b.ipynb")
    if not zipped:
        assert graded(path, "honest").full


def test_equal_submissions_have_equal_digests_and_others_have_others(tmp_path: Path) -> None:
    path = student(tmp_path)
    first = read(path).sha256
    assert read(path).sha256 == first
    (path / "inner" / "helper.py").write_bytes(b"def twice(x): return 2 + x\n")
    assert read(path).sha256 != first


BAD_PATHS = ("../out.py", "/abs.py", "a/../../out.py", "C:\\out.py", "..\\out.py", "c:out.py")


@pytest.mark.parametrize("name", BAD_PATHS)
def test_no_path_of_an_archive_leads_outside(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("good.py", HONEST)
        entry = zipfile.ZipInfo("x")
        entry.filename = name
        archive.writestr(entry, HONEST)
    with pytest.raises(InputError, match="a path must stay inside its archive"):
        read(tmp_path / "s.zip")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zip"]


def test_bombs_and_broken_archives_are_refused(tmp_path: Path) -> None:
    def refused(must: str, **files: bytes) -> None:
        with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name.replace("_py", ".py").replace("_ipynb", ".ipynb"), content)
        with pytest.raises(InputError, match=must):
            read(tmp_path / "s.zip")

    refused(r"at most 1,000,000 bytes", a_py=b"#" * (LARGEST[".py"] + 1))
    refused(r"at most 16,000,000 bytes", a_ipynb=b" " * (LARGEST[".ipynb"] + 1))
    refused(r"files and 32,000,000 bytes", **{f"a{k}_ipynb": b" " * (LARGEST[".ipynb"] - 1) for k in range(3)})
    refused(rf"at most {MOST_FILES} files", **{f"a{k}_py": b"" for k in range(MOST_FILES + 1)})
    refused(rf"at most {MOST_ENTRIES:,} entries", **{f"a{k}": b"" for k in range(MOST_ENTRIES + 1)})
    refused("one that a folder can hold", **{f"{'x' * 198}_py": b""})
    refused("one that a folder can hold", **{"a_py": b"", "a_py/b_py": b""})
    refused("one that a folder can hold", **{"a_py/b_py": b"", "a_py": b""})
    refused(r"must hold a \.py or an \.ipynb file", readme=b"x")
    whole = (tmp_path / "s.zip").read_bytes()
    for k, content in enumerate((b"", b"PK", whole[:-5], b"no archive")):
        (tmp_path / f"{k}.zip").write_bytes(content)
        with pytest.raises(InputError, match="must be a zip that opens"):
            read(tmp_path / f"{k}.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"must hold a \.py or an \.ipynb file"):
        read(tmp_path / "empty")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_archive_with_a_byte_changed_is_read_or_refused(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", HONEST * 5)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "s.zip")
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            assert all(name.endswith(tuple(LARGEST)) for name in read(path).files)


# ---------------------------------------------------------------------------------------------------- libraries


def test_only_known_libraries_are_imported_before_the_fork() -> None:
    asked = [
        "torch.nn",
        "scipy",
        "antigravity",
        "torch.__main__",
        "torchvision",
        "os",
        "tabular_rlhf.losses",
        "tabular_rlhf.exercises.record",
        "__main__",
        ".torch",
        "numpy",
    ]
    assert nursery.heavy(asked) == (["torch.nn", "scipy", "tabular_rlhf.losses"] if nursery.HEAVY else [])


def test_a_file_may_be_as_large_as_it_may_be() -> None:
    assert of("a.py", b"#" * LARGEST[".py"]).alone
    with pytest.raises(InputError):
        of("a.py", b"#" * (LARGEST[".py"] + 1))
    assert of("a.ipynb", b" " * (LARGEST[".py"] + 1)).alone


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


NAMES = st.sampled_from(("hw.py", "part 1/a.py", "b.ipynb", "notes.pdf", ".hidden.py", "__MACOSX/x.py"))


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from(("ada", "bob 2", "Zoë")), st.sets(NAMES, min_size=1), min_size=1, max_size=3), st.booleans(), st.data()
)
def test_a_zip_of_students_zips_is_the_folder_of_their_folders(students: dict[str, set[str]], above: bool, data: st.DataObject) -> None:
    """Each student's files packed or not, by themselves or in a folder of the student's, in a folder of the class or not."""
    files = {name: {inner: f"{name} {inner}".encode() for inner in inside} for name, inside in students.items()}
    parts: dict[str, bytes] = {}
    for name, inside in files.items():
        way = data.draw(st.sampled_from(("plain", "zip", "zip in a folder")))
        start = "class of 26/" * above
        if way == "plain":
            parts |= {f"{start}{name}/{inner}": content for inner, content in inside.items()}
        else:
            parts[f"{start}{name}.zip" if way == "zip" else f"{start}{name}/handed in.zip"] = zipped(inside)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "class.zip")
        path.write_bytes(zipped(parts | {"extra/hw.py": b"", "other/hw.py": b""}) if not above else zipped(parts))
        found: dict[str, list[bytes]] = {}
        try:
            inner_names = whose(path)
        except InputError:
            inner_names = []
        for inner in inner_names:
            with contextlib.suppress(InputError):
                found[PurePosixPath(inner).name.removesuffix(".zip")] = sorted(read_entry(path, inner).files.values())
        expected = {name: sorted(c for inner, c in inside.items() if is_answer(PurePosixPath(inner))) for name, inside in files.items()}
        if len(files) > 1 or not above:
            assert {n: c for n, c in found.items() if n not in ("extra", "other")} == {n: c for n, c in expected.items() if c}
        unpacked = Path(folder, "class")
        for name, content in parts.items():
            (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).write_bytes(content)
        for name, contents in expected.items():
            own = unpacked / ("class of 26" if above else "") / name
            own = own if own.exists() else own.with_name(f"{name}.zip")
            if contents:
                assert sorted(read(own).files.values()) == contents


@pytest.mark.parametrize(
    ("inner", "must"),
    [
        (zipped({"../hw.py": b""}), "a path must stay inside its archive"),
        (zipped({"/etc/hw.py": b""}), "a path must stay inside its archive"),
        (zipped({"C:\\hw.py": b""}), "a path must stay inside its archive"),
        (zipped({"hw.py": b" " * (LARGEST[".py"] + 1)}), "at most 1,000,000 bytes"),
        (zipped({f"{k}.ipynb": b" " * (LARGEST[".ipynb"] - 1) for k in range(3)}), "files and 32,000,000 bytes"),
        (zipped({f"{k}": b"" for k in range(MOST_ENTRIES + 1)}), "at most 5,000 entries"),
        (zipped({"big": b" " * 100})[:-9], "must be a zip that opens: ada.zip"),
        (b" " * (LARGEST_ARCHIVE + 1), "at most 64,000,000 bytes"),
        (zipped({"deep.zip": zipped({"hw.py": b""})}), "archives in each other must be at most 2"),
        (zipped({"notes.pdf": b""}), r"must hold a \.py or an \.ipynb file"),
    ],
)
def test_a_bad_zip_inside_costs_its_student_only(inner: bytes, must: str, tmp_path: Path) -> None:
    """A bomb, an escape, a matryoshka: refused in words that name the student's archive, and the others are read."""
    path = tmp_path / "class.zip"
    path.write_bytes(zipped({"ada.zip": inner, "bob.zip": zipped({"hw.py": HONEST.encode()})}))
    assert whose(path) == ["ada.zip", "bob.zip"]
    assert list(read_entry(path, "bob.zip").files) == ["bob.zip/hw.py"]
    with pytest.raises(InputError, match=must):
        read_entry(path, "ada.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["class.zip"]


def test_a_student_s_archives_are_opened_only_where_nothing_else_is_there(tmp_path: Path) -> None:
    deep = zipped({"a.zip": zipped({"b.zip": zipped({"hw.py": b""})})})
    (tmp_path / "s.zip").write_bytes(zipped({"hw.py": HONEST.encode(), "data.zip": deep}))
    assert list(read(tmp_path / "s.zip").files) == ["hw.py"]
    many = {f"{k}.zip": zipped({"hw.py": b""}) for k in range(MOST_ARCHIVES + 1)}
    (tmp_path / "s.zip").write_bytes(zipped(many))
    with pytest.raises(InputError, match=f"a student's at most {MOST_ARCHIVES}"):
        read(tmp_path / "s.zip")
    many.popitem()
    (tmp_path / "s.zip").write_bytes(zipped(many))
    assert len(read(tmp_path / "s.zip").files) == MOST_ARCHIVES
