"""Stored rows for a reader who chooses: metric, methods, protocol, and what to compare with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from imder.evaluation.predictions import predictions_path
from imder.report.blocks import Figure, Table
from imder.report.compare import difference_tables
from imder.report.curves import rate_figure, shown_at_once
from imder.report.document import commands, panel_name, statement
from imder.report.reported import read_reported
from imder.report.results import Panel, read_results
from imder.report.tables import METRIC_NAMES, prediction_tables

KEPT = 64


class AbsentError(ValueError):
    """There are no rows yet; the text holds the command that makes them."""


class Benchmark:
    """The panels of one file of rows, read when first asked for and again when the file has changed.

    What takes longer than a moment, the bootstrap of curves and differences, is kept for the choices made last.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"{path.parent.name}/{path.name}"
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._panels: list[Panel] = []
        self._figure, self._tables = lru_cache(KEPT)(self._make_figure), lru_cache(KEPT)(self._make_tables)

    @property
    def panels(self) -> list[Panel]:
        """All panels. AbsentError where there is no file, ValueError where it cannot be read."""
        if not self.path.is_file():
            raise AbsentError(f"No benchmark is stored yet; `{self.command}` measures one.")
        files = [file for file in (self.path, predictions_path(self.path)) if file.is_file()]
        stamp = tuple(value for file in files for value in (file.stat().st_mtime_ns, file.stat().st_size))
        with self._lock:
            if stamp != self._stamp:
                self._panels = read_results([self.path], lambda text: None)
                self._figure.cache_clear()
                self._tables.cache_clear()
                self._stamp = stamp
            return self._panels

    @property
    def command(self) -> str:
        """What makes the rows of the bundled run on the bundled corpus."""
        return (
            "python -m imder evaluate --run checkpoints/corrected --data bundled --protocol random fixed "
            f"--seeds 3 --out {self.name}"
        )

    @property
    def protocols(self) -> dict[str, Panel]:
        """The panels by name: `random missing` and so on."""
        panels = self.panels
        return {panel_name(panels, i): panel for i, panel in enumerate(panels)}

    @property
    def statement(self) -> str:
        """What kind of data the figures are on."""
        return statement(self.panels)

    def figure(self, protocol: str, metric: str, methods: tuple[str, ...]) -> Figure | None:
        """The curves of those methods; None where a place of the protocol is not one number."""
        panel = self.protocols[protocol]  # reads the file again if need be, before the cache is asked
        return self._figure(protocol, metric, methods) if panel.one_rate else None

    def _make_figure(self, protocol: str, metric: str, methods: tuple[str, ...]) -> Figure:
        panel = chosen(self.protocols[protocol], methods)
        return rate_figure(panel, metric, read_reported()[1], set(panel.columns))

    def tables(self, protocol: str, methods: tuple[str, ...], against: str) -> list[Table]:
        """Figures of those methods, then their differences to one method."""
        if protocol not in self.protocols:  # reads the file again if need be, before the cache is asked
            raise ValueError(f"{self.name}: there is no protocol {protocol!r} in it")
        return self._tables(protocol, methods, against)

    def _make_tables(self, protocol: str, methods: tuple[str, ...], against: str) -> list[Table]:
        whole = self.protocols[protocol]
        panel = chosen(whole, methods)
        found = prediction_tables(panel)
        beside = chosen(whole, (*methods, against))
        reference = next((column for column in beside.columns if column.title == against), None)
        return found + (difference_tables(beside, reference) if reference else [])

    def commands(self, protocol: str, methods: tuple[str, ...]) -> list[str]:
        """What makes the rows of those methods, and what makes tables and curves of them."""
        own = chosen(self.protocols[protocol], methods)
        last = f"python -m imder report {self.name} --format html --out report.html"
        return [*commands([own], Path(self.name)), last]


def chosen(panel: Panel, methods: Sequence[str]) -> Panel:
    """The panel with only the columns of those titles."""
    return replace(panel, columns=tuple(column for column in panel.columns if column.title in methods))


def methods_of(panel: Panel) -> list[str]:
    """The titles of the panel's columns."""
    return [column.title for column in panel.columns]


def first_methods(panel: Panel) -> list[str]:
    """What is shown before anything is chosen."""
    first = shown_at_once(panel)
    return [column.title for column in panel.columns if column in first]


def metrics_of(panel: Panel) -> dict[str, str]:
    """The metrics that have curves, by name: MAE first."""
    return {METRIC_NAMES[metric]: metric for metric in (*panel.errors[:1], *panel.accuracies)}
