"""Fixtures that several test files use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the authors' tensors and real data; tests that need it are skipped where it is absent."""
    given = os.environ.get("IMDER_SHARED")
    folder = Path(given) if given else Path(__file__).parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}; set IMDER_SHARED to its folder")
    return folder
