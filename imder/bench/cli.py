"""`python -m imder bench NAME`: one registry; a benchmark is a module with `add_arguments`, `run` and `table`.

    add_arguments(parser)            flags of its own beside --quick, --json, --out and --seed
    run(args, tell) -> list[Row]     measures; `tell(text)` is a line of progress
    table(rows) -> str               the rows as Markdown

A row is a flat JSON object with at least `bench`, `name` and `value`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]

BENCHES = {
    "truth": "draws of trained networks against exact conditional draws of analytic corpora",
    "reperformance": "draws of voice and face given the language against other performances of the same sentence",
    "joint": "two missing modalities drawn side by side or one after the other",
    "sampler": "what a recovery costs, against a plain implementation of the published algorithm",
    "training": "what a training update costs, against the published one",
    "voice": "what a true voice loses when its features are made a sound again",
    "calibration": "temperature, guidance and number of draws, chosen on the validation split",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A subcommand a benchmark; their modules are imported here, each is small until it runs."""
    benches = parser.add_subparsers(dest="bench", required=True, metavar="NAME")
    for name, text in BENCHES.items():
        sub = benches.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.add_argument("--quick", action="store_true", help="a small form that shows the same behaviour")
        sub.add_argument("--json", action="store_true", help="print the rows as JSON lines instead of a table")
        sub.add_argument("--out", type=Path, help="also write the rows to this file, as JSON lines")
        sub.add_argument("--seed", type=int, default=0, help="seed of everything that is drawn (default 0)")
        importlib.import_module(f"imder.bench.{name}").add_arguments(sub)


def main(args: argparse.Namespace) -> int:
    """Runs the benchmark, writes its rows, prints them or their table."""
    bench = importlib.import_module(f"imder.bench.{args.bench}")
    rows = bench.run(args, lambda text: print(text, file=sys.stderr, flush=True))
    if args.out:
        write_rows(args.out, rows)
    if args.json:
        for row in rows:
            print(json.dumps(row, allow_nan=False))
    else:
        print(bench.table(rows))
    return 0


def write_rows(path: Path, rows: list[Row]) -> None:
    """Writes JSON lines as a whole or not at all."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    staged = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(text, encoding="utf-8")
        staged.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise ValueError(f"{path}: the rows were not written ({error.strerror})") from None


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that `write_rows` wrote."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a file of benchmark rows ({error})") from None
