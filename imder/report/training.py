"""A run's training as figures and tables: its log, its configuration, where it came from, beside another run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imder import hub
from imder.baselines import BASELINES
from imder.modality import MODALITIES, NAMES
from imder.plots.training import Progress, progress
from imder.report.blocks import DASH, Cell, Figure, Part, Table, plain

LOG = "log.jsonl"
MAX_LOG = 8_000_000
JOBS = {
    "encode": "encoders E_k",
    "score": "score network",
    "fuse": "fusion, true latents",
    "recover": "D_k and fusion, recovered",
    "teacher": "teacher",
    "student": "student",
    "network": "network",
}

Key = tuple[str, str]  # stage, job


@dataclass(frozen=True, eq=False)
class Training:
    """What a run folder tells of its training; `log` holds the rows of each job in order, empty without a log."""

    name: str
    info: dict[str, Any]
    metrics: dict[str, Any]
    log: dict[Key, list[dict[str, Any]]]
    weights_bytes: int = 0

    @property
    def command(self) -> str | None:
        """The command that was stored with the run."""
        return self.info["training"].get("command")


def read_training(folder: Path, name: str) -> Training:
    """The JSON files of a run folder; no weights are read. ValueError in one sentence, without the folder's path."""
    try:
        info, metrics = hub.read_info(folder)
    except hub.RunError as error:
        raise ValueError(str(error).replace(str(folder), name) + ".") from None
    weights = folder / hub.WEIGHTS
    return Training(
        name, info, metrics, _read_log(folder / LOG, name), weights.stat().st_size if weights.is_file() else 0
    )


def _read_log(path: Path, name: str) -> dict[Key, list[dict[str, Any]]]:
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > MAX_LOG:
            raise ValueError(f"{name}: {LOG} is larger than {MAX_LOG} bytes.")
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{name}: {LOG} cannot be read.") from None
    found: dict[Key, list[dict[str, Any]]] = {}
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line's end is torn or nothing
        try:
            row = json.loads(line)
            key = (str(row["stage"]), str(row["job"]))
            own = {
                "update": int(row["update"]),
                "loss": _figure(row["loss"]),
                "valid": {str(what): _figure(value) for what, value in (row.get("valid") or {}).items()},
                "seconds": _figure(row.get("seconds")),
            }
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ValueError(f"{name}: line {number} of {LOG} is no row of a training log.") from None
        found.setdefault(key, []).append(own)
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


def _figure(value: Any) -> float | None:
    """A finite number, or None for what was not defined."""
    return float(value) if value is not None and math.isfinite(float(value)) else None


def job_name(key: Key) -> str:
    """`Stage 2: score network, Language`."""
    stage, job = key
    name, _, of = job.partition("-")
    return f"Stage {stage}: {JOBS.get(name, name)}" + (f", {NAMES.get(of, of)}" if of else "")


def progress_figures(runs: Sequence[Training]) -> list[Figure]:
    """A figure for each job of one or two runs: loss and validation by update."""
    keys = sorted(dict.fromkeys(key for run in runs for key in run.log), key=lambda key: key[0])
    figures = []
    for key in keys:
        own = [run for run in runs if key in run.log]
        curves = [curve for i, run in enumerate(runs) if run in own for curve in _curves(run, key, i)]
        lines = ["solid", "dashed"] if len(runs) > 1 else [""]
        spent = [
            f"{line} {run.name}, {minutes(run.log[key][-1]['seconds'])}".strip()
            for line, run in zip(lines, runs, strict=False)
            if key in run.log
        ]
        said = "; ".join(spent)
        figures.append(Figure(job_name(key), said, progress(curves, title=job_name(key), told=said)))
    return figures


def _curves(run: Training, key: Key, number: int) -> list[Progress]:
    rows = run.log[key]
    curves = [_progress("training loss", rows, [row["loss"] for row in rows], True, number, run.name)]
    for what in dict.fromkeys(what for row in rows for what in row["valid"]):
        values = [row["valid"].get(what) for row in rows]
        curves.append(_progress(what, rows, values, what.partition(".")[0].endswith("loss"), number, run.name))
    return curves


def _progress(
    what: str, rows: Sequence[dict[str, Any]], values: Sequence[float | None], loss: bool, number: int, of: str
) -> Progress:
    told = [(row["update"], value) for row, value in zip(rows, values, strict=True) if value is not None]
    return Progress(what, tuple(x for x, _ in told), tuple(y for _, y in told), loss, number, of)


def minutes(seconds: float | None) -> str:
    """`12 s`, `3.4 min`, `1.2 h`."""
    if seconds is None:
        return DASH
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.1f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def run_tables(runs: Sequence[Training]) -> list[Table]:
    """Provenance, training settings and model settings of one or two runs; where they differ, they are bold."""
    beside = len(runs) > 1
    bold = " What differs between the two is bold." if beside else ""
    head = tuple(run.name for run in runs)
    recipes = [_settings(run.info["training"].get("config")) for run in runs]
    models = [_settings(run.info["model"]) for run in runs]
    return [
        _table("Provenance", f"As stored in the run's folder.{bold}", ("fact", *head), [_provenance(r) for r in runs]),
        _table("Training settings", f"The recipe.{bold}", ("setting", *head), recipes),
        _table("Model settings", f"Sizes and choices of the network.{bold}", ("setting", *head), models),
    ]


def _provenance(run: Training) -> dict[str, str]:
    info = run.info
    data, training, kind = info["data"], info["training"], hub.kind_of(info["model"])
    origin = training.get("from") or {}
    name = next((name for name in ("mae", "accuracy") if isinstance(run.metrics.get(name), dict)), None)
    measured, told = run.metrics.get(name, {}), {"accuracy": "accuracy"}.get(name, "MAE")
    facts = {
        "model": "IMDer" if kind == "imder" else BASELINES[kind][0].title,
        "preset": info["model"].get("preset"),
        "data": data.get("title") or data.get("name"),
        "recordings": "synthetic" if data.get("synthetic") else "real",
        "data fingerprint": data.get("fingerprint"),
        "training clips": data.get("n_train"),
        "validation clips": data.get("n_valid"),
        "seed": training.get("seed"),
        "precision of the weights": info["weights"],
        "size of the weights": f"{run.weights_bytes / 1e6:.1f} MB" if run.weights_bytes else None,
        "training time": minutes(training["seconds"]) if training.get("seconds") is not None else None,
        "trained on": {"cuda": "a GPU"}.get(str(training.get("device")), "a processor core"),
        "began from": f"{origin['run']} (weights {origin['weights']})" if {"run", "weights"} <= set(origin) else None,
        f"validation {told}, complete": _rounded(measured.get("complete")),
        f"validation {told}, mean of six patterns": _rounded(measured.get("mean")),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _rounded(value: Any) -> str | None:
    return f"{value:.3f}" if isinstance(value, int | float) else None


def _settings(settings: Any) -> dict[str, str]:
    """What is one value or a short list of them."""
    if not isinstance(settings, dict):
        return {}
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if name == "feature_dims" and isinstance(value, dict):
            flat["features"] = ", ".join(f"{NAMES[k]} {value[k]}" for k in MODALITIES if k in value)
        elif isinstance(value, bool):
            flat[name] = "yes" if value else "no"
        elif isinstance(value, list) and len(value) <= 8:
            flat[name] = ", ".join(map(str, value))
        elif isinstance(value, int | float):
            flat[name] = f"{value:g}" if isinstance(value, float) else str(value)
        elif isinstance(value, str):
            flat[name] = value or "none"
    return flat


def _table(title: str, caption: str, head: tuple[str, ...], facts: Sequence[dict[str, str]]) -> Table:
    body: list[tuple[Cell, ...]] = []
    for name in dict.fromkeys(name for own in facts for name in own):
        values = [own.get(name, DASH) for own in facts]
        differ = len(set(values)) > 1
        body.append((plain(name.replace("_", " ")), *((Part(value, differ),) for value in values)))
    return Table(title, caption, head, tuple(body))
