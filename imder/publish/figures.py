"""What a run was measured to do: from rows of `evaluate` where they are of these weights, else from its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imder import hub
from imder.evaluation.rows import Row, identity, read_rows
from imder.evaluation.significance import LOWER
from imder.evaluation.study import run_digest
from imder.evaluation.table import SHOWN_DRAWS
from imder.modality import PATTERNS, missing, symbols

ASSETS = Path(__file__).parents[2] / "assets"
#: The measured rows that come with this repository.
STORED = (ASSETS / "benchmark.jsonl", ASSETS / "measured.jsonl")
#: Metrics of a card: their name in the rows, that of the Hub, and in words.
METRICS = {
    "mae": ("mae", "mean absolute error"),
    "corr": ("pearsonr", "correlation"),
    "acc2": ("accuracy", "two-class accuracy"),
    "f1": ("f1", "weighted F1"),
    "acc7": ("accuracy", "seven-class accuracy"),
    "accuracy": ("accuracy", "accuracy"),
    "f1_weighted": ("f1", "weighted F1 of the classes"),
    "f1_macro": ("f1", "unweighted F1 of the classes"),
}


@dataclass(frozen=True)
class Figures:
    """`values[pattern, metric]` on `clips` clips of a split; `how` says of what output, by which masks and seeds."""

    split: str
    clips: int
    how: str
    values: dict[tuple[str, str], float]
    by_training: bool = False  # those that the run's own card tells already

    @property
    def patterns(self) -> list[str]:
        """What is available, in order."""
        return [name for p in PATTERNS if any((name := symbols(p)) == own for own, _ in self.values)]

    @property
    def metrics(self) -> list[str]:
        """The metrics that there are, in order."""
        return [metric for metric in METRICS if any(metric == own for _, own in self.values)]

    def weakest(self, metric: str) -> tuple[str, float] | None:
        """The pattern with the largest error, or the lowest figure of another metric, and that."""
        found = {pattern: self.values[pattern, metric] for pattern in self.patterns if (pattern, metric) in self.values}
        sign = 1 if metric in LOWER else -1
        return max(found.items(), key=lambda item: sign * item[1]) if found else None


def whole(run: hub.Run) -> str:
    """The pattern of a clip that has all that the run's data have."""
    return symbols(missing(run.lacks))


def figures_of(run: hub.Run, rows: Sequence[str | Path] | None = None) -> list[Figures]:
    """Figures on each split that the rows hold of just these weights on the run's own data, and of the training.

    `rows` are files of `evaluate` (default: those that come with this repository). ValueError for files of other kinds.
    """
    digest, wanted = run_digest(run.folder), run.info["data"].get("fingerprint", "")[:8]
    found: dict[tuple[Any, ...], Row] = {}
    for path in rows if rows is not None else [path for path in STORED if path.is_file()]:
        for row in read_rows(path, lambda text: None):
            own = row["run"].endswith(f"@{digest}") and wanted and row["data"].endswith(f"@{wanted}")
            if own and row["method"] == run.kind and row["protocol"] == "fixed" and row["limit"] is None:
                found[identity(row)] = row
    splits = list(dict.fromkeys(row["split"] for row in found.values()))
    measured = [_of_rows([row for row in found.values() if row["split"] == split], run) for split in splits]
    return [figures for figures in measured if figures.values] + _of_training(run)


def _of_rows(rows: list[Row], run: hub.Run) -> Figures:
    """The run as it is used by default: its sampler and steps, no guidance, the mean over several outputs after D_k."""
    config = run.model.config
    if run.kind == "imder":
        rows = [r for r in rows if (r["sampler"], r["steps"], r["guidance"]) == (config.sampler, config.steps, 1.0)]
    rows = [row for row in rows if row["modality"] is None and row["metric"] in METRICS and row["value"] is not None]
    counts = {row["draws"] for row in rows}
    draws = SHOWN_DRAWS if SHOWN_DRAWS in counts else max(counts, default=1)
    rows = [row for row in rows if row["draws"] == draws and row["refined"] == (run.kind == "imder")]
    seeds = sorted({row["seed"] for row in rows})
    values = {
        (symbols(pattern), metric): float(np.mean(same))
        for pattern in PATTERNS
        for metric in METRICS
        if (same := [r["value"] for r in rows if r["available"] == list(pattern) and r["metric"] == metric])
    }
    output = (
        f"mean over {draws} outputs after D_k, {config.sampler}, {config.steps} steps; " if run.kind == "imder" else ""
    )
    how = f"{output}each pattern on all clips, " + (f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds")
    return Figures(rows[0]["split"] if rows else "", max((row["n"] for row in rows), default=0), how, values)


def _of_training(run: hub.Run) -> list[Figures]:
    """The figures that the training itself measured, in metrics.json; a run that was made otherwise has none."""
    metrics, metric = run.metrics, "accuracy" if run.classes else "mae"
    by_pattern = metrics.get(f"{metric}_by_pattern")
    if not isinstance(by_pattern, dict) or not isinstance(metrics.get(metric), dict):
        return []
    values = {}
    for pattern in map(symbols, PATTERNS):
        value = metrics[metric].get("complete") if pattern == whole(run) else by_pattern.get(pattern)
        value = value.get("recovered") if isinstance(value, dict) else value
        if isinstance(value, int | float):
            values[pattern, metric] = float(value)
    split = {"valid": "validation"}.get(metrics.get("split"), str(metrics.get("split")))
    draws = f"mean over {metrics['draws']} outputs after D_k; " if "draws" in metrics else ""
    return [
        Figures(
            split, int(metrics.get("clips", 0)), f"{draws}by the training, which chose weights on them", values, True
        )
    ]
