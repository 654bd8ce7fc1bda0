"""Fixtures that several test files use."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests run two at a time, and servers obey it too

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the authors' tensors and real data; tests that need it are skipped where it is absent."""
    given = os.environ.get("IMDER_SHARED")
    folder = Path(given) if given else Path(__file__).parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}; set IMDER_SHARED to its folder")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser of the file's own."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
