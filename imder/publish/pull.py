"""`python -m imder pull`: a run of the Hub as a folder here, checked as it is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from imder import fetch, hub


def pull(source: str, out: str | Path, *, deadline: float = 30.0, cache_dir: str | Path | None = None) -> Path:
    """Copies `owner/name[@revision]` into a new folder, whole or not at all; `deadline` seconds may pass without news.

    Raises ValueError of one sentence: for a run that is faulty, a Hub that does not serve, a folder that is taken.
    """
    fetch.free_place(out)
    hub.repository(source)
    try:
        folder, notice = hub.pull(source, deadline=deadline, patient=True, cache_dir=cache_dir)
    except fetch.FetchError as error:
        raise hub.RunError(f"{source}: nothing was pulled: {error}") from None
    if notice:  # an old copy is not what was asked for
        raise hub.RunError(notice.replace("the copy in the cache serves instead.", "nothing was pulled"))
    try:
        hub.load_run(folder)
    except hub.RunError as error:
        raise hub.RunError(f"{source}: nothing was pulled: {fetch.without(folder, error)}") from None
    files = {name: folder / name for name in hub.FILES if (folder / name).is_file()}
    return fetch.keep(files, out, hub.verify)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `python -m imder pull`."""
    parser.add_argument("source", metavar="owner/name[@revision]", help="the Hub's repository")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the new folder")


def main(args: argparse.Namespace) -> int:
    """Pulls a run; a private one with the token of HF_TOKEN."""
    print(f"{pull(args.source, args.out)}: {args.source}, whole and checked")
    return 0
