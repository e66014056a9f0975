"""What the tests in a real browser share.  They are not part of the default run: `pytest tests/browser`, with the extra `browser`.

Chromium is the program that the environment variable CHROMIUM names, or `chromium` on the path; nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium; without it these tests fail, because they are run only where they are asked for."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert found, "the browser tests need Chromium: install it, or name it in the environment variable CHROMIUM"
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium without a window for the whole session; every test opens pages of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=chromium)
        yield opened
        opened.close()
