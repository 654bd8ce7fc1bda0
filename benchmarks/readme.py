"""Puts the tables of the stored rows into the README: no figure in a table is typed. `python benchmarks/readme.py`

A table of `assets/measured.jsonl` replaces the README's with the same title and head; the table of `assets/bench/NAME`
fills the block whose summary begins with that benchmark's command. `--check` writes nothing and exits with 1 where
they differ. What the text about them says stays a person's work.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run from anywhere, not installed

from imder.bench import cli as bench  # noqa: E402
from imder.evaluation.rows import read_rows  # noqa: E402
from imder.evaluation.table import markdown  # noqa: E402

TABLE = re.compile(r"(\*\*[^|\n]+)\n\n(\|.+\n)((?:\|.*(?:\n|$))+)")  # title, head, rest
BLOCK = "(<summary>`python -m imder bench {name}[ `][^\n]*</summary>\n)(.*?)(\n</details>)"


def filled(readme: str, assets: Path) -> str:
    """`readme` with every table made again from the rows in `assets`."""
    rows = read_rows(assets / "measured.jsonl", lambda text: print(text, file=sys.stderr))
    made = {(title, head): rest.rstrip("\n") for title, head, rest in TABLE.findall(markdown(rows))}

    def renewed(found: re.Match) -> str:
        title, head, _ = found.groups()
        own = made.get((title, head))
        return found[0] if own is None else f"{title}\n\n{head}{own}\n"

    readme = TABLE.sub(renewed, readme)
    for path in sorted((assets / "bench").glob("*.jsonl")):
        table = importlib.import_module(f"imder.bench.{path.stem}").table(bench.read_rows(path)).strip()
        block = re.compile(BLOCK.format(name=path.stem), re.DOTALL)
        readme, count = block.subn(lambda found, table=table: f"{found[1]}\n{table}\n{found[3]}", readme)
        if count != 1:
            raise ValueError(f"README.md: {count} blocks begin with `python -m imder bench {path.stem}`; one is needed")
    return readme


def main() -> int:
    """Exit status 1 where `--check` finds a table that is not that of the rows."""
    parser = argparse.ArgumentParser(description="Puts the tables of the stored rows into README.md.")
    parser.add_argument("--check", action="store_true", help="only say whether they are there")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    there = path.read_text(encoding="utf-8")
    wanted = filled(there, ROOT / "assets")
    if not check:
        path.write_text(wanted, encoding="utf-8")
    return int(check and wanted != there)


if __name__ == "__main__":
    sys.exit(main())
