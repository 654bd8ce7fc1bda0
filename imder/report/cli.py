"""`python -m imder report`: tables, curves, differences and the reproduction log, made from stored rows."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from imder.evaluation.predictions import predictions_path
from imder.report.blocks import Heading
from imder.report.document import log, report
from imder.report.page import html
from imder.report.results import read_results
from imder.report.text import latex, markdown

FORMATS = ("markdown", "latex", "html", "log")
TITLE = "IMDer: what was measured"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    parser.add_argument("rows", nargs="+", type=Path, metavar="ROWS.jsonl", help="files of `python -m imder evaluate`")
    parser.add_argument("--format", default="markdown", metavar="|".join(FORMATS), help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write; without it text goes to the terminal")
    parser.add_argument(
        "--against", metavar="METHOD[@RUN]", help="what others are compared with (default: IMDer, its first run)"
    )


def main(args: argparse.Namespace) -> int:
    """Writes the report as a whole or not at all. Raises ValueError of one sentence for bad input."""
    if args.format not in FORMATS:
        raise ValueError(f"--format: {args.format!r} is unknown; allowed: {', '.join(FORMATS)}")
    if args.out is None and args.format == "html":
        raise ValueError("--out is needed for html, a page of some megabytes")
    if args.out is not None:
        _check_target(args.out, args.rows)
    panels = read_results(args.rows, _say)
    if args.format == "log":
        said = markdown(log(panels, args.against, args.rows, args.out))
    elif args.format == "html":
        said = html([Heading(1, TITLE), *report(panels, args.against, figures=True)], TITLE)
    else:
        said = {"markdown": markdown, "latex": latex}[args.format](report(panels, args.against, figures=False))
    if args.out is None:
        sys.stdout.write(said)
        return 0
    _write(args.out, said)
    _say(f"{args.out}: written from {', '.join(map(str, args.rows))}")
    return 0


def _check_target(out: Path, rows: list[Path]) -> None:
    if out.is_dir():
        raise ValueError(f"--out: {out} is a folder; a file is needed")
    if out.exists() and not out.is_file():
        raise ValueError(f"--out: {out} is no ordinary file; leave --out away for the terminal")
    own = [file for path in rows for file in (path, predictions_path(path), path.with_suffix(".masks.json"))]
    if out.exists() and any(file.exists() and file.samefile(out) for file in own):
        raise ValueError(f"--out: {out} is what the report is made from; choose another file")


def _write(out: Path, said: str) -> None:
    """As a whole or not at all; a link is followed, not replaced."""
    whole = out.resolve()
    staged = whole.with_name(f".{whole.name}.{os.getpid()}")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(said, encoding="utf-8")
        os.replace(staged, whole)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise ValueError(f"{out}: the report was not written ({error.strerror})") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)
