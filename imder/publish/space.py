"""`python -m imder space`: the page as a Space: only the files it needs, and a README made from its run."""

from __future__ import annotations

import argparse
from pathlib import Path

from imder import commit, fetch, hub
from imder.card import Head, join_card, split_card
from imder.data.dataset import FeatureSet
from imder.publish.card import dataset_id, facts, figure_tables, limits
from imder.publish.figures import figures_of
from imder.publish.files import APP, DATA, REQUIREMENTS, ROOT, page_files, pinned, requirements
from imder.publish.push import target

START = "start.py"
#: The front matter of a Space, in this order; what is the same for every Space stands in the README of this repository.
FIELDS = (
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "license",
    "short_description", "models", "datasets", "tags", "fullWidth", "preload_from_hub",
)  # fmt: skip
#: What a Space of ours holds: files of an earlier one that are no longer needed are removed.
OURS = (APP, START, REQUIREMENTS, hub.CARD, "LICENSE", "imder/*", *(f"{folder}/*" for folder in DATA))


def space(
    repo_id: str,
    *,
    run: str | None = None,
    data: str | None = None,
    private: bool = False,
    cache_dir: str | Path | None = None,
    patience: float = commit.PATIENCE,
) -> commit.Commit:
    """Publishes the page in one commit; it opens with `run` of the Hub as that is now (default: the bundled one).

    `data`: the data set of the Hub that it shows (default: the run's own if that is there, or else the bundled one).
    Raises ValueError of one sentence; then the Space's files are as they were.
    """
    name = target(repo_id)
    files = space_files(name, run=run, data=data, cache_dir=cache_dir)
    return commit.commit(
        name, files, kind="space", private=private, message="Publish the page", ours=OURS, patience=patience
    )


def space_files(
    repo_id: str, *, run: str | None = None, data: str | None = None, cache_dir: str | Path | None = None
) -> dict[str, Path | bytes]:
    """Everything a Space holds, by name; the run and the data set are pulled and checked as the page will open them."""
    opened = hub.load_run(hub.BUNDLED) if run is None else _opened(run, cache_dir)
    if opened.kind != "imder":
        raise ValueError(f"{run}: is a model of the kind {opened.kind!r}; the page shows recoveries of IMDer")
    model = None if run is None else f"{hub.repository(run)[0]}@{opened.folder.name}"  # whatever folders are here
    wanted = data or opened.info["data"].get("repository")
    shown, reads = FeatureSet.pulled(wanted) if wanted else FeatureSet.open("bundled"), opened.model.config.feature_dims
    if dict(shown.feature_dims) != dict(reads):
        raise ValueError(
            f"the run reads features of widths {dict(reads)}, the data set {shown.name!r} has "
            f"{dict(shown.feature_dims)}; name the run's own data set on the Hub with --data owner/name"
        )
    if shown.label_classes != opened.classes:
        kinds = [", ".join(names) or "a sentiment" for names in (opened.classes, shown.label_classes)]
        raise ValueError(
            f"the run predicts {kinds[0]}, the label of the data set {shown.name!r} is {kinds[1]}; name the run's own "
            "data set on the Hub with --data owner/name"
        )
    files: dict[str, Path | bytes] = dict(page_files())
    files[REQUIREMENTS] = requirements().encode()
    arguments = [*(["--run", model] if model else []), *(["--data", shown.repository] if shown.repository else [])]
    if arguments:
        files[START] = starter(arguments).encode()
    files[hub.CARD] = readme(repo_id, opened, model, shown.repository).encode()
    return files


def _opened(run: str, cache_dir: str | Path | None) -> hub.Run:
    """A run of the Hub, whatever folders are here; RunError if it is faulty or the Hub does not serve."""
    try:
        folder, notice = hub.pull(run, deadline=30.0, patient=True, cache_dir=cache_dir)
    except fetch.FetchError as error:
        raise hub.RunError(f"{run}: nothing was published: {error}") from None
    if notice:
        raise hub.RunError(notice.replace("the copy in the cache serves instead.", "nothing was published"))
    return hub.load_run(folder, source=run)


def starter(arguments: list[str]) -> str:
    """start.py: the page with the arguments that the Space was published with."""
    return f'''"""Starts the page with what this Space was published with."""

import sys

from {Path(APP).stem} import main

if __name__ == "__main__":
    sys.argv[1:] = {arguments!r}
    sys.exit(main())
'''


def readme(repo_id: str, run: hub.Run, model: str | None, data: str | None) -> str:
    """README.md of the Space: its settings, and what the page shows, from the run."""
    path = ROOT / hub.CARD
    head, _ = split_card(path.read_text(encoding="utf-8") if path.is_file() else "", path)
    if not head.get("title"):
        raise ValueError(f"{path}: has no head with the title of a Space; a Space is published from a checkout")
    ours: Head = {
        "sdk": "gradio",
        "sdk_version": pinned("gradio"),
        "app_file": START if model or data else APP,
        "models": [model.partition("@")[0]] if model else None,
        "datasets": [(data or dataset_id(run)).partition("@")[0]] if data else None,
        "preload_from_hub": [preload(model)] if model else None,
    }
    both = head | ours
    front = {name: both[name] for name in FIELDS if both.get(name) is not None}
    known = f"[{model}](https://huggingface.co/{model.partition('@')[0]})" if model else "the one that comes with it"
    about = [
        f"# {head['title']}",
        "Choose a clip, leave out language, voice or face, and watch a diffusion model recover what is missing, step "
        "by step beside the truth.",
        f"Model: {known}, preset {run.info['model']['preset']}.",
        facts(run),
    ]
    if model:
        about.append("Where the model cannot be loaded, the bundled one answers and the page says so.")
        about.append(
            "A private model opens if `HF_TOKEN` is a secret of this Space; without, it is loaded anonymously."
        )
    figures = figures_of(run)
    tables = [part for own in figures if not own.by_training for part in figure_tables(own)]
    return join_card(front, *about, *tables, *limits(run, figures))


def preload(model: str) -> str:
    """The line by which a Space has the run's files before it starts: repository, files, commit."""
    name, _, revision = model.partition("@")
    return f"{name} {','.join((*hub.SEALED, hub.MANIFEST))} {revision}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `python -m imder space`."""
    parser.add_argument("repository", metavar="owner/name", help="the Space; made if it does not exist")
    parser.add_argument("--private", action="store_true", help="the Space is private")
    parser.add_argument(
        "--run", metavar="owner/name[@revision]", help="the model it opens with (default: the bundled one)"
    )
    parser.add_argument(
        "--data", metavar="owner/name[@revision]", help="the data set it shows (default: the run's own)"
    )


def main(args: argparse.Namespace) -> int:
    """Publishes the page; the token is that of HF_TOKEN."""
    done = space(args.repository, run=args.run, data=args.data, private=args.private)
    print(done.told(args.repository))
    return 0
