"""`python -m imder distributions`: what `recovered` computes, kept in one small file that names its run and data.

The file is safetensors: coordinates as float16, histograms as uint16 shares, planes as float32, and everything that a
person can read as JSON in its header. It answers for one run and one data set, by their digests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from imder import hub
from imder.data.dataset import SPLITS, FeatureSet
from imder.evaluation.evaluate import DISTANCES, RecoveryStudy
from imder.evaluation.recovered import (
    UNCONDITIONAL,
    VIEWS,
    Modality,
    Plane,
    Sets,
    View,
    channel_names,
    channel_values,
    picture,
    pictured,
    recovered_sets,
    sentences,
)
from imder.evaluation.rows import MasksFile
from imder.evaluation.study import EvaluationConfig, Tick, run_digest, whole
from imder.modality import MODALITIES, SYMBOLS

FORMAT = "imder-distributions/1"
SHARE = 65535  # a share of 1 as uint16
SETS = {False: "drawn", True: "refined"}  # before and after D_k


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb."""
    parser.add_argument("--run", metavar="RUN", help="run folder or owner/name on the Hub (default: the bundled one)")
    parser.add_argument("--data", default="bundled", metavar="DIR", help="data set folder (default: the bundled one)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors", help="the file to write")
    parser.add_argument("--split", default="test", metavar="|".join(SPLITS), help="default: %(default)s")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most N clips, spread evenly; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="seed of t-SNE; draws are those of seed 0 (default 0)")


def main(args: argparse.Namespace) -> int:
    """Computes and writes the file. Raises ValueError of one sentence for bad input."""
    if args.out.suffix != ".safetensors":
        raise ValueError(f"{args.out}: the name must end in .safetensors")
    run = whole(hub.load(args.run, fallback=False), "distributions")
    if run.kind != "imder":
        raise ValueError(f"the run {run.source} is a model of the kind {run.kind!r}, which recovers nothing to compare")
    study = study_of(run, FeatureSet.open(args.data), split=args.split, limit=args.limit)
    source = args.run or "checkpoints/corrected"
    command = f"python -m imder distributions --run {source} --data {args.data} --out {args.out}"
    for flag, default in (("split", "test"), ("limit", 0), ("seed", 0)):
        if (value := getattr(args, flag)) != default:
            command += f" --{flag} {value}"
    bar = "{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left  {desc}"
    with tqdm(total=study.work(study.cells), bar_format=bar, mininterval=1) as progress:
        about, tensors = compute(study, args.seed, progress.update, progress.set_description_str)
    size = write(args.out, about | {"command": command}, tensors)
    print(f"{args.out}: {len(study.ids)} clips, {len(VIEWS)} views, {size / 1000:.0f} kB", file=sys.stderr)
    return 0


def study_of(run: hub.Run, data: FeatureSet, *, split: str = "test", limit: int = 0, batch: int = 100) -> RecoveryStudy:
    """The study that gives the draws: one a clip, conditional and unconditional, on the fixed patterns."""
    config = EvaluationConfig(methods=("imder", "unconditional"), draws=(1,), split=split, limit=limit, batch=batch)
    name = f"{Path(run.folder).resolve().name}@{run_digest(Path(run.folder))}"
    return RecoveryStudy(run, data, config, name, MasksFile(os.devnull))


def compute(
    study: RecoveryStudy, seed: int = 0, tick: Tick = lambda units: None, say: Any = lambda text: None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the file holds: the JSON and the arrays."""
    sets = recovered_sets(study, tick, say)
    rows = pictured(len(study.ids))
    tensors: dict[str, np.ndarray] = {"label": study.label[rows]}
    about: dict[str, Any] = {
        "format": FORMAT,
        "run": study.common["run"],
        "data": study.data.name,
        "title": study.data.title,
        "fingerprint": study.data.fingerprint,
        "split": study.config.split,
        "clips": len(study.ids),
        "ids": [study.ids[i] for i in rows],
        "label_range": list(study.data.label_range),
        **({"label_classes": list(classes)} if (classes := study.data.label_classes) else {}),
        "sampler": study.sampler,
        "steps": study.steps,
        "seed": seed,
        "channels": {k: channel_names(study, k) for k in MODALITIES},
        "floors": {},
        "distances": {},
        "sentences": [],
    }
    for k in MODALITIES:
        modality = Modality.of(study, k)
        own = f"real-{SYMBOLS[k]}"
        about["floors"][k] = {
            name: {"value": floor.value, "noise": floor.noise, "train": modality.train[name]}
            for name, floor in modality.halves.items()
        }
        tensors |= {
            f"{own}/low": np.concatenate([bins.low for bins in modality.bins]).astype(np.float32),
            f"{own}/high": np.concatenate([bins.high for bins in modality.bins]).astype(np.float32),
            f"{own}/shares": _shares(modality.shares(modality.real)),
            f"{own}/gaps": modality.gaps.astype(np.float16),
        }
        _add_modality(study, k, modality, sets, rows, seed, say, about, tensors)
    for i, one in enumerate(sentences(study, tick, say)):
        about["sentences"].append(
            {"id": one.clip.id, "text": one.clip.text, "label": one.clip.label, "modality": one.modality}
            | {"distances": {name: [_number(x) for x in pair] for name, pair in one.distances.items()}}
        )
        for name in ("performed", "drawn", "original"):
            tensors[f"sentence-{i}/{name}"] = getattr(one, name).astype(np.float16)
    return about, tensors


def _add_modality(
    study: RecoveryStudy, k: str, modality: Modality, sets: Sets, rows: np.ndarray, seed: int, say: Any,
    about: dict[str, Any], tensors: dict[str, np.ndarray],
) -> None:  # fmt: skip
    """The views of a modality, before and after D_k."""
    valid, free = study.clips.valid, free_name(k)
    views = [view for view in VIEWS if view.modality == k]
    for refined, state in SETS.items():
        points = {}
        for name, key in ((free, UNCONDITIONAL), *((view.name, view.name) for view in views)):
            z = sets[key, refined, k]
            values = channel_values(study, k, z)
            tensors[f"{name}/{state}/shares"] = _shares(modality.shares(values))
            tensors[f"{name}/{state}/gaps"] = modality.gaps_of(values).astype(np.float16)
            points[name] = study.points(k, z, valid)
            about["distances"].setdefault(name, {})[state] = {
                metric: _number(distance(points[name], study.real[k])) for metric, distance in DISTANCES.items()
            }
        for view in views:
            say(f"picture of {view.name}, {state}")
            made = picture([study.real[k][rows], points[view.name][rows], points[free][rows]], seed)
            tensors |= {
                f"{view.name}/{state}/pca": made.pca.astype(np.float16),
                f"{view.name}/{state}/tsne": made.tsne.astype(np.float16),
                f"{view.name}/{state}/mean": made.plane.mean.astype(np.float32),
                f"{view.name}/{state}/directions": made.plane.directions.astype(np.float32),
            }


def free_name(k: str) -> str:
    """The name of a modality's unconditional draws."""
    return f"free-{SYMBOLS[k]}"


def _shares(x: np.ndarray) -> np.ndarray:
    return np.round(x * SHARE).astype(np.uint16)


def _number(x: float | None) -> float | None:
    return None if x is None else round(float(x), 6)


def write(path: Path, about: dict[str, Any], tensors: dict[str, np.ndarray]) -> int:
    """Writes the file as a whole or not at all, and returns its bytes."""
    arrays = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    data = save(arrays, metadata={"json": json.dumps(about, allow_nan=False)})
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.write_bytes(data)
        os.replace(staged, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise ValueError(f"{path}: the file was not written ({error.strerror})") from None
    return len(data)


@dataclass(frozen=True, eq=False)
class Stored:
    """A file of distributions, read."""

    about: dict[str, Any]
    tensors: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> Stored:
        """Raises ValueError for anything but such a file."""
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["json"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a handle, no dict)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            about = None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError(f"{path}: not a file of the command `python -m imder distributions`")
        return cls(about, tensors)

    def check(self, digest: str, fingerprint: str) -> None:
        """Raises ValueError unless the file was made of the run of that digest and the data of that fingerprint."""
        for what, own, asked in (
            ("run", self.about["run"].rpartition("@")[2], digest),
            ("data set", self.about["fingerprint"], fingerprint),
        ):
            if own != asked:
                raise ValueError(f"the stored distributions are of the {what} {own}, not {asked}")

    @cached_property
    def label(self) -> np.ndarray:
        """(N,) labels of the pictured clips."""
        return self.tensors["label"]

    def points(self, view: View, refined: bool, projection: str) -> np.ndarray:
        """(3, N, 2) of the sets of `KINDS`; projection `pca` or `tsne`."""
        return self.tensors[f"{view.name}/{SETS[refined]}/{projection}"].astype(np.float32)

    def plane(self, view: View, refined: bool) -> Plane:
        """The plane of the view's `pca`, for other points."""
        name = f"{view.name}/{SETS[refined]}"
        return Plane(self.tensors[f"{name}/mean"], self.tensors[f"{name}/directions"])

    def _names(self, view: View, refined: bool) -> tuple[str, str, str]:
        state = SETS[refined]
        return f"real-{SYMBOLS[view.modality]}", f"{view.name}/{state}", f"{free_name(view.modality)}/{state}"

    def shares(self, view: View, refined: bool, channel: int) -> np.ndarray:
        """(3, bins) shares of a channel's values, of the sets of `KINDS`."""
        return np.stack([self.tensors[f"{name}/shares"][channel] for name in self._names(view, refined)]) / SHARE

    def edges(self, modality: str, channel: int) -> np.ndarray:
        """The bins' edges."""
        own = f"real-{SYMBOLS[modality]}"
        low, high = (float(self.tensors[f"{own}/{side}"][channel]) for side in ("low", "high"))
        return np.linspace(low, high, self.tensors[f"{own}/shares"].shape[1] + 1)

    def gaps(self, view: View, refined: bool) -> np.ndarray:
        """(3, C) `channel_gaps`: the floor, then of the two drawn sets."""
        return np.stack([self.tensors[f"{name}/gaps"].astype(np.float32) for name in self._names(view, refined)])

    def distances(self, view: View, refined: bool) -> dict[str, tuple[float | None, ...]]:
        """Each distance: (halves, their deviation, training clips, conditional, unconditional)."""
        floors, own = self.about["floors"][view.modality], self.about["distances"]
        state = SETS[refined]
        return {
            name: (
                *(floors[name][part] for part in ("value", "noise", "train")),
                own[view.name][state][name],
                own[free_name(view.modality)][state][name],
            )
            for name in floors
        }
