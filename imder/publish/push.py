"""`python -m imder push`: a run on the Hub, with a complete model card, in one commit."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from imder import commit, hub
from imder.publish.card import model_card
from imder.publish.figures import figures_of


def push(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    rows: Sequence[str | Path] | None = None,
    patience: float = commit.PATIENCE,
) -> commit.Commit:
    """Uploads a run that loads without fault; the figures of its card come from `rows` (see `figures_of`).

    The token is HF_TOKEN's. Raises ValueError of one sentence; then the repository's files are as they were.
    """
    name = target(repo_id)
    folder = Path(folder)
    run = hub.load_run(folder)
    files: dict[str, Path | bytes] = {n: folder / n for n in hub.FILES if (folder / n).is_file()}
    files[hub.CARD] = model_card(run, name, figures_of(run, rows)).encode()
    message = f"Upload the run {folder.resolve().name}"
    return commit.commit(name, files, private=private, message=message, ours=hub.FILES, patience=patience)


def target(repo_id: str) -> str:
    """`owner/name` of a repository to write to; RunError for anything else."""
    name, revision = hub.repository(repo_id)
    if revision is not None:
        raise hub.RunError(f"{repo_id}: a push goes to the main branch; give owner/name")
    return name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `python -m imder push`."""
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("repository", metavar="owner/name", help="the Hub's repository; made if it does not exist")
    parser.add_argument("--private", action="store_true", help="the repository is private")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROWS",
        help="files of `evaluate` with the card's figures (default: the stored ones)",
    )


def main(args: argparse.Namespace) -> int:
    """Pushes a run; the token is that of HF_TOKEN."""
    print(push(args.run, args.repository, private=args.private, rows=args.rows).told(args.repository))
    return 0
