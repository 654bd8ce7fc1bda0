"""Imports run one way, only the page knows Gradio, and the page computes nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Low to high. What reads and writes repositories of the Hub (fetch, commit) is below the folders that come from there
#: and go there: a data set's, and a run's (hub), which is below training, which writes one, and evaluation.
ORDER = """modality fetch commit card sde trajectory samplers data model baselines run_card hub evaluation training
           voice interpret pipeline export say compare bench field plots report publish ui __init__ __main__ app"""
LAYERS = ORDER.split()
FILES = [ROOT / "app.py", *sorted((ROOT / "imder").rglob("*.py"))]


def layer(path: Path) -> str:
    return path.relative_to(ROOT / "imder").parts[0].removesuffix(".py") if path.name != "app.py" else "app"


def imported(path: Path) -> set[str]:
    """Full names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    own, names = layer(path), imported(path)
    used = {name.split(".")[1] for name in names if name.startswith("imder.")}
    below = set(LAYERS[: LAYERS.index(own) + 1])
    assert used & set(LAYERS) <= below, f"{own} imports {sorted(used - below)}, which are above it"
    outside = {name.split(".")[0] for name in names}
    assert "gradio" not in outside or own in ("ui", "app")
    assert not outside & {"torch", "sklearn", "scipy"} or own not in ("ui", "app", "plots")
