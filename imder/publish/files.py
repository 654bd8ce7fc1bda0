"""What the page needs to run: the modules that app.py imports, the files beside them, and the data that they name."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = "app.py"
REQUIREMENTS = "requirements.txt"
#: What a visitor's sound and typed sentence are read with; without it a page works too, so only a Space must have it.
OPTIONAL = "requirements-extract.txt"
#: Folders of the checkout that hold data. A module names what it reads there by a constant made from `__file__`.
DATA = ("assets", "checkpoints")


def page_files(root: Path = ROOT) -> dict[str, Path]:
    """Files by their names below the root, all that a copy needs in which `python app.py` serves the page."""
    modules = page_modules(root)
    found = set(modules)
    for folder in {path.parent for path in modules} - {root}:
        found |= {path for path in _visible(folder, "*") if path.suffix != ".py"}  # scripts, styles, pages
    for path in modules:
        for named in data_named(path, root):
            if named.is_dir():
                found |= set(_visible(named, "**/*"))
            else:
                found |= {named, *named.parent.glob(f"{named.stem}.predictions{named.suffix}")}
    found |= {path for name in ("LICENSE",) if (path := root / name).is_file()}
    return {path.relative_to(root).as_posix(): path for path in sorted(found)}


def page_modules(root: Path = ROOT) -> set[Path]:
    """The files of `app.py` and of every module of ours that it imports, at once or later, through others or not."""
    todo, found = [root / APP], set()
    while todo:
        path = todo.pop()
        if path in found:
            continue
        if not path.is_file():
            raise ValueError(f"{path}: no such file; a Space is published from a checkout")
        found.add(path)
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] != "imder":
                continue
            for count in range(1, len(parts) + 1):  # a package's __init__ runs too
                stem = root.joinpath(*parts[:count])
                todo += [p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()]
        todo += [path.with_name(f"{name}.py") for name in _run_by_path(path)]
    return found


def requirements(root: Path = ROOT) -> str:
    """What a Space installs, pinned: what the page's modules import, and what reads a visitor's words and voice."""
    outside = {name.split(".")[0] for path in page_modules(root) for name in _imports(path)}
    outside -= set(sys.stdlib_module_names) | {"imder"}
    provided = importlib.metadata.packages_distributions()
    wanted = {_normal(name) for module in outside for name in provided.get(module, [])}
    needed, optional = ((root / name).read_text(encoding="utf-8").splitlines() for name in (REQUIREMENTS, OPTIONAL))
    kept = [line for line in needed if _required(line) in wanted] + [line for line in optional if _required(line)]
    return "".join(f"{line.partition('#')[0].rstrip()}\n" for line in kept)


def pinned(package: str, root: Path = ROOT) -> str:
    """The version of a package in requirements.txt."""
    for line in (root / REQUIREMENTS).read_text(encoding="utf-8").splitlines():
        if _required(line) == _normal(package) and "==" in line:
            return line.partition("==")[2].partition("#")[0].strip()
    raise ValueError(f"{root / REQUIREMENTS}: names no version of {package}")


def data_named(path: Path, root: Path = ROOT) -> list[Path]:
    """The files and folders of data that a module's constants name."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and value is not None and _names(value) <= {"Path", "__file__"}:
            if "__file__" not in _names(value):
                continue
            named = eval(compile(ast.Expression(value), str(path), "eval"), {"Path": Path, "__file__": str(path)})
            if not isinstance(named, Path):
                continue
            if (
                named.exists()
                and named.is_relative_to(root)
                and named.relative_to(root).parts[:1]
                and (named.relative_to(root).parts[0] in DATA)
            ):
                found.append(named)
    return found


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _imports(path: Path) -> Iterator[str]:
    """Full names of everything a file imports, wherever in it; what a package offers lazily is named by strings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _run_by_path(path: Path) -> Iterator[str]:
    """Modules that a module opens as files beside it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_beside":
            yield from (part.value for part in node.args if isinstance(part, ast.Constant))


def _visible(folder: Path, pattern: str) -> Iterator[Path]:
    """Files of a folder without caches and hidden ones."""
    for path in folder.glob(pattern):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield path


def _required(line: str) -> str | None:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return _normal(match[0]) if match else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
