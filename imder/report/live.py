"""A small evaluation as a table that grows: its figures with intervals, and the stored ones of the whole test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imder.evaluation.metrics import CLASSES
from imder.evaluation.rows import Row, identity, read_rows
from imder.evaluation.significance import LEVEL, bootstrap
from imder.evaluation.study import Entry
from imder.evaluation.table import TITLES
from imder.modality import symbols
from imder.report.blocks import DASH, Cell, Part, Table, plain
from imder.report.tables import METRIC_NAMES, PROTOCOLS

SHOWN = ("mae", "acc2")
SHOWN_CLASSES = ("accuracy", "f1_weighted", "f1_macro")


@dataclass(frozen=True, eq=False)
class LiveCell:
    """A measured cell: its rows, and the predictions of its last variant (the mean over draws after D_k, if any)."""

    rows: list[Row]
    entry: Entry
    label: np.ndarray
    videos: tuple[str, ...]
    scale: str

    @classmethod
    def of(cls, rows: Sequence[Row], entries: Sequence[Entry], clips: Entry, scale: str) -> LiveCell:
        """From what `Study.answer` and `Study.clips_entry` give."""
        return cls(list(rows), entries[-1], np.array(clips["label"]), tuple(clips["videos"]), scale)

    def row(self, metric: str) -> Row:
        """The row of a metric of the shown variant."""
        return next(
            row
            for row in self.rows
            if row["metric"] == metric and all(row[key] == self.entry[key] for key in ("draws", "refined"))
        )


class FullRows:
    """Stored rows of the whole split, by what they measure; empty where there is no file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._values: dict[tuple, float | None] = {}

    def value(self, row: Row) -> float | None:
        """The stored figure that a row of a few clips is a small copy of."""
        if not self.path.is_file():
            return None
        stat = self.path.stat()
        if (stat.st_mtime_ns, stat.st_size) != self._stamp:
            rows = read_rows(self.path, lambda text: None)
            self._values = {identity(row): row["value"] for row in rows if row["limit"] is None}
            self._stamp = stat.st_mtime_ns, stat.st_size
        return self._values.get(identity(row | {"limit": None}))


def live_report(cells: Sequence[LiveCell], full: FullRows) -> Table:
    """A line a cell: figures on these clips with intervals, and those of the whole split."""
    body = []
    shown = SHOWN_CLASSES if cells and cells[0].scale == CLASSES else SHOWN
    for cell in cells:
        first = cell.row(shown[0])
        where = symbols(first["available"]) if first["available"] else f"rate {first['nominal_missing_rate']:g}"
        line: list[Cell] = [plain(f"{TITLES.get(first['method'], first['method'])}, {where}")]
        for metric in shown:
            row = cell.row(metric)
            line += [_measured(cell, metric, row["value"]), plain(_number(full.value(row), metric))]
        body.append(tuple(line))
    head = [""]
    for metric in shown:
        head += [f"{METRIC_NAMES[metric]} here", "full test"]
    count = len(cells[0].label) if cells else 0
    protocol = PROTOCOLS[cells[0].rows[0]["protocol"]] if cells else ""
    caption = (
        f"{count} clips, {protocol}. In brackets {LEVEL:.0%} intervals over resampled clips (those of a video "
        "together). A few clips are noisy: differences inside the intervals mean nothing; the full test set decides. "
        f"{DASH}: no stored row."
    )
    return Table("Measured just now", caption, tuple(head), tuple(body))


def _number(value: float | None, metric: str) -> str:
    if value is None or not np.isfinite(value):
        return DASH
    return f"{value:.3f}" if metric == "mae" else f"{100 * value:.1f}"


def _measured(cell: LiveCell, metric: str, value: float | None) -> Cell:
    found = bootstrap(np.array(cell.entry["prediction"]), cell.label, metric, cell.videos, 500, scale=cell.scale)
    low, high = _number(found.low, metric), _number(found.high, metric)
    return (Part(f"{_number(value, metric)} [{low}, {high}]"),)
