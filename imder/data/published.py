"""Publishes a data set folder on the Hub: its files, their checksums, and a card made from what it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imder import commit
from imder.card import MADE, Head, join_card, split_card, table
from imder.data import remote
from imder.data.dataset import BUNDLED, FeatureSet
from imder.modality import MODALITIES, NAMES

#: The Hub's names of sizes, by the number of clips that each begins with.
_SIZES = ((0, "n<1K"), (1_000, "1K<n<10K"), (10_000, "10K<n<100K"), (100_000, "100K<n<1M"))
_TAGS = ("missing-modality", "imder-features")


def push(folder: str | Path, repo_id: str, *, private: bool = False, licence: str | None = None) -> commit.Commit:
    """Uploads a data set that opens without fault, as one commit. Raises ValueError of one sentence."""
    repo_id, revision = remote.repository(repo_id)
    if revision is not None:
        raise ValueError(f"{repo_id}@{revision}: a push goes to the main branch; give owner/name")
    folder = BUNDLED if str(folder) == "bundled" else Path(folder)
    data = FeatureSet(folder)
    files = remote.files_of(folder)
    content = {
        **files,
        remote.SUMS: remote.sums(files),
        remote.CARD: card(data, repo_id, licence).encode(),
    }
    return commit.commit(
        repo_id,
        content,
        kind="dataset",
        private=private,
        message=f"Upload the data set {data.name} ({data.fingerprint})",
        ours=(*remote.DATA_FILES, remote.SUMS),
    )


def card(data: FeatureSet, repo_id: str, licence: str | None = None) -> str:
    """README.md of the repository: the folder's own text under the Hub's front matter, and facts of the data."""
    own = data.folder / remote.CARD
    head, body = split_card(own.read_text(encoding="utf-8") if own.is_file() else "", own)
    clips = len(data)
    label = "multimodal-emotion-recognition" if data.label_classes else "multimodal-sentiment-analysis"
    ours: Head = {
        "license": licence or head.get("license") or "unknown",
        "pretty_name": data.title,
        "tags": list(dict.fromkeys([*head.get("tags", []), label, *_TAGS, *(["synthetic"] if data.synthetic else [])])),
        "size_categories": [next(name for least, name in reversed(_SIZES) if clips >= least)],
    }
    text = body or f"# {data.title}\n\n{data.note}".strip()
    return join_card(head | ours, text, MADE, *_facts(data), *_use(repo_id), *_limits(data))


def _facts(data: FeatureSet) -> list[str]:
    lines = []
    for split in data.splits:
        records = data.split(split)
        labels = np.array([clip.label for clip in records])
        lengths = [[clip.lengths[k] for clip in records] for k in MODALITIES]
        frames = [f"{min(n)} to {max(n)}" if min(n) < max(n) else f"{n[0]}" for n in lengths]
        lines.append((split, len(records), len(data.videos(split)), f"{labels.mean():.2f}", *frames))
    widths = ", ".join(f"{NAMES[k]} {data.feature_dims[k]}" for k in MODALITIES)
    label = f"{data.label_name}, {data.label_range[0]:g} to {data.label_range[1]:g}"
    if data.label_classes:
        label += f" ({', '.join(data.label_classes)})"
    kind = "synthetic, no recordings" if data.synthetic else "features of recordings"
    said = f"Features a frame: {widths}. Label: {label}. Clips: {kind}. Fingerprint {data.fingerprint}."
    head = ("split", "clips", "videos", "label, mean", *(f"frames, {NAMES[k]}" for k in MODALITIES))
    return ["## What it holds", said, table(head, lines)]


def _use(repo_id: str) -> list[str]:
    commands = {
        "keep a copy": f"python -m imder data pull {repo_id} --out DIR",
        "look": f"python -m imder data info {repo_id}",
        "train": f"python -m imder train --data {repo_id} --preset corrected --out RUN",
        "measure a run": f"python -m imder evaluate --run RUN --data {repo_id} --protocol fixed --out ROWS.jsonl",
        "watch": f"python app.py --run RUN --data {repo_id}",
    }
    lines = [(what, f"`{command}`") for what, command in commands.items()]
    checks = f"`{repo_id}@REVISION` pins a revision. A file that differs from `{remote.SUMS}` is refused."
    return ["## Use", table(("to", "command"), lines), checks]


def _limits(data: FeatureSet) -> list[str]:
    said = [
        "No person is in it: a figure measured on it says nothing about recordings of people."
        if data.synthetic
        else "It holds features, not recordings; who may use them is decided by the terms of their source.",
        f"{len(data.split(data.splits[0]))} clips of {len(data.videos(data.splits[0]))} videos to learn from: figures "
        "on so many carry the sampling error of so many.",
    ]
    absent = [split for split in ("train", "valid", "test") if split not in data.splits]
    if absent:
        said.append(f"It has no split {' and no split '.join(absent)}.")
    return ["## What figures on it can say", "\n".join(f"- {sentence}" for sentence in said)]
