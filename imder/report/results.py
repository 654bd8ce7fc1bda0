"""Stored rows as panels: one protocol on one split, methods as columns, rates or patterns as places."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imder.evaluation.metrics import CLASS_METRICS, CLASSES
from imder.evaluation.predictions import Entry, read_predictions
from imder.evaluation.rows import Row, identity, read_rows
from imder.evaluation.study import DRAWN
from imder.evaluation.table import SHOWN_DRAWS, TITLES
from imder.modality import PATTERNS, ordered, symbols

FIXED, UNEQUAL = "fixed", "unequal"
#: The name of the corpus that comes along with this project.
BUNDLED = "spoken-opinions"
METRICS = ("mae", "corr", "acc2", "f1", "acc5", "acc7", *CLASS_METRICS)
#: The accuracies that a table shows side by side, by scale, and how a difference is told.
ACCURACIES = {"mosi": ("acc2", "f1", "acc7"), "sims": ("acc2", "f1", "acc5"), CLASSES: CLASS_METRICS}
ERRORS = {"mosi": ("mae", "corr"), "sims": ("mae", "corr"), CLASSES: ()}
COMPARED = {"mosi": ("acc2", "mae"), "sims": ("acc2", "mae"), CLASSES: ("accuracy", "f1_macro")}
#: Methods in the order of the columns: models first, then what fills in for the missing within one model.
MODELS = ("imder", "unconditional", "shuffled", "gcnet", "mmin", "dropout-fusion", "subset")
ORDER = (*MODELS, "imder-mean", "ridge", "knn", "mean", "zero")

Place = float | str | tuple[str, ...]  # a nominal missing rate, one for each modality, or what is available


@dataclass(frozen=True)
class Column:
    """One method of one run in one variant: a column of the tables."""

    method: str
    run: str
    sampler: str | None
    steps: int | None
    guidance: float | None
    draws: int = 1
    refined: bool = False
    title: str = field(default="", compare=False)

    @property
    def folder(self) -> str:
        """The run's folder name, without its digest."""
        return self.run.rpartition("@")[0] or self.run

    @property
    def variant(self) -> str:
        """Which of the method's outputs are shown, in words; empty for a single answer."""
        what = f"mean over {self.draws} outputs" if self.draws > 1 else "one draw" if self.method in DRAWN else ""
        if self.refined:
            what += " after D_k"
        return what.strip()


@dataclass(frozen=True, eq=False)
class Panel:
    """The figures of one protocol on one split; `figures[column, place, metric]` holds a value a seed."""

    data: str
    split: str
    limit: int | None
    protocol: str
    clips: int
    columns: tuple[Column, ...]
    places: tuple[Place, ...]
    figures: dict[tuple[Column, Place, str], dict[int, float | None]]
    realised: dict[Place, float]
    nfe: dict[Column, int | None]
    entries: dict[tuple[Column, Place, int], Entry]
    counts: dict[Column, tuple[int, ...]]  # draws that rows average over
    masks: dict[tuple[Column, Place, int], tuple[float, ...]]  # realised rate and shares: other ones, other masks
    rows: tuple[Row, ...] = ()  # all of them, those of what was recovered too
    file: Path | None = None  # where they are stored

    @property
    def by_rate(self) -> bool:
        """Whether places are missing rates, not patterns."""
        return self.protocol != FIXED

    @property
    def one_rate(self) -> bool:
        """Whether a place is one number, so that there is an axis for it."""
        return self.by_rate and self.protocol != UNEQUAL

    def one_answer(self, column: Column) -> bool:
        """Whether the column is the same for every seed: the masks do not differ and nothing is drawn."""
        return not self.by_rate and column.method not in DRAWN

    @property
    def scale(self) -> str:
        """How the labels are judged: `classes`, `mosi` where a sentiment has seven grades, else `sims`."""
        there = {metric for _, _, metric in self.figures}
        return CLASSES if "accuracy" in there else "mosi" if "acc7" in there else "sims"

    @property
    def accuracies(self) -> tuple[str, ...]:
        """The accuracies shown side by side: those that the paper reports on such labels."""
        return ACCURACIES[self.scale]

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors shown side by side, none of classes."""
        return ERRORS[self.scale]

    @property
    def leading(self) -> str:
        """The metric that every measured place has."""
        return (*self.errors, *self.accuracies)[0]

    @property
    def missing(self) -> tuple[Place, ...]:
        """The places at which something is missing."""
        return tuple(p for p in self.places if (p > 0 if isinstance(p, float) else p != self.whole))

    @property
    def whole(self) -> tuple[str, ...] | None:
        """All that a clip of these data has, where the panel is by what is available and that was measured."""
        found = [p for p in self.places if isinstance(p, tuple) and not self.realised[p]]
        return found[0] if found else None

    def seeds(self, column: Column, places: Sequence[Place] | None = None) -> tuple[int, ...]:
        """The seeds that the column has at all of those places where it has any."""
        found = [set(self.figures.get((column, place, self.leading), {})) for place in places or self.places]
        found = [seeds for seeds in found if seeds]
        return tuple(sorted(set.intersection(*found))) if found else ()

    def at(self, column: Column, place: Place, metric: str) -> list[float] | None:
        """The values of all seeds; None where there are none or one is not defined."""
        found = list(self.figures.get((column, place, metric), {}).values())
        return found if found and None not in found else None

    def value(self, column: Column, places: Sequence[Place], metric: str) -> float | None:
        """The mean over seeds, then places; None where a place is absent."""
        found = [self.at(column, place, metric) for place in places]
        return None if None in found or not found else float(np.mean([np.mean(values) for values in found]))

    def deviation(self, column: Column, places: Sequence[Place], metric: str) -> float | None:
        """The standard deviation over seeds of the mean over places; None with fewer than two whole seeds."""
        by_seed = [self.figures.get((column, place, metric), {}) for place in places]
        if not by_seed or any(set(values) != set(by_seed[0]) or None in values.values() for values in by_seed):
            return None
        means = [np.mean([values[seed] for values in by_seed]) for seed in by_seed[0]]
        return float(np.std(means, ddof=1)) if len(means) > 1 else None


def place_name(place: Place) -> str:
    """`.3`, `.7 (2/3)` for exactly one modality left, `L.1-A.3-V.5` for a rate a modality, `LA` for a pattern."""
    if isinstance(place, tuple):
        return symbols(place)
    if isinstance(place, str):
        return place
    if math.isclose(place, 0.7):
        return ".7 (2/3)"
    return (f"{place:.1f}" if math.isclose(place, round(place, 1)) else f"{place:.3f}").removeprefix("0")


def data_name(panel: Panel) -> str:
    """The data set's name without its fingerprint."""
    return panel.data.rpartition("@")[0] or panel.data


def elsewhere(panels: Sequence[Panel]) -> str:
    """How the paper's data differ from those of the rows, as far as the rows tell."""
    bundled = all(data_name(panel) == BUNDLED for panel in panels)
    return "on other data than ours" if bundled else "on the authors' data and features"


def read_results(paths: Sequence[str | Path], notify: Callable[[str], None]) -> list[Panel]:
    """The panels of all files of rows together, with the predictions beside them. ValueError where there are none."""
    rows: dict[tuple[Any, ...], Row] = {}
    entries: dict[tuple[Any, ...], Entry] = {}
    files: dict[tuple[Any, ...], Path] = {}
    again = 0
    for path in paths:
        own = {identity(row): row for row in read_rows(path, notify)}
        again += sum(key in rows and rows[key]["value"] != row["value"] for key, row in own.items())
        rows |= own
        files = {_key(row): Path(path) for row in own.values()} | files
        entries |= {entry.key: entry for entry in read_predictions(path, notify)}
    if again:
        notify(f"{again} figures differ between two files; that of the later file is used")
    panels = panels_of(list(rows.values()), list(entries.values()))
    if not panels:
        names = ", ".join(map(str, paths))
        raise ValueError(
            f"{names}: no row is a figure of predictions; `{command_for('random')}` makes rows by missing rate"
        )
    return [replace(panel, file=files[panel.data, panel.split, panel.limit, panel.protocol]) for panel in panels]


def command_for(protocol: str) -> str:
    """The command that makes rows of a protocol."""
    return f"python -m imder evaluate --run RUN --data DIR --protocol {protocol} --seeds 3 --out ROWS.jsonl"


def panels_of(rows: Sequence[Row], entries: Sequence[Entry] = ()) -> list[Panel]:
    """A panel for each data set, split, selection and protocol of rows, those by rate before those by pattern."""
    own = [row for row in rows if _predicted(row)]
    keys = list(dict.fromkeys(_key(row) for row in own))
    keys.sort(key=lambda key: (*map(str, key[:3]), key[3] != "random", key[3] == FIXED, key[3]))
    by_data: dict[str, dict[Column, None]] = {}
    for row in own:
        by_data.setdefault(row["data"], {})[_column(row)] = None
    titles = {data: _titles(columns) for data, columns in by_data.items()}
    by_key: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        by_key.setdefault(_key(row), []).append(row)
    return [
        _panel(
            key,
            by_key[key],
            [entry for entry in entries if (entry.data, entry.split, entry.limit, entry.protocol) == key],
            titles[key[0]],
        )
        for key in keys
    ]


def _key(row: Row) -> tuple[Any, ...]:
    """What tells panels apart."""
    return row["data"], row["split"], row["limit"], row["protocol"]


def _predicted(row: Row) -> bool:
    """Whether a row is a figure of predictions, as the panels' tables hold them."""
    return row["metric"] in METRICS and row["modality"] is None and row["method"] != "real"


def _column(row: Row) -> Column:
    """The column of a row, without its variant."""
    return Column(row["method"], row["run"], row["sampler"], row["steps"], row["guidance"])


def _titles(columns: Sequence[Column]) -> dict[Column, str]:
    """A name for each column, with the run and the sampler where the method's name alone does not tell it apart."""
    titles = {}
    for column in columns:
        like = [other for other in columns if other.method == column.method]
        title = TITLES.get(column.method, column.method)
        if len({other.run for other in like}) > 1:
            same = {other.run for other in like if other.folder == column.folder}
            title += f" ({column.folder if len(same) == 1 else column.run})"
        like = [other for other in like if other.run == column.run]
        if len({(other.sampler, other.steps) for other in like}) > 1:
            title += f", {column.sampler} {column.steps}"
        if len({other.guidance for other in like}) > 1 and column.guidance is not None:
            title += f", guidance {column.guidance:g}"
        titles[column] = title
    return titles


def _place(row: Row | Entry) -> Place:
    get = row.get if isinstance(row, dict) else lambda name: getattr(row, name)
    if get("protocol") == UNEQUAL:
        name = re.search(r"unequal-(.+)-seed\d+$", get("mask") or "")
        return name[1] if name else f"{get('nominal_missing_rate'):g}"
    if get("protocol") != FIXED:
        return float(get("nominal_missing_rate"))
    if (available := ordered(get("available"))) not in PATTERNS:
        raise ValueError(f"a row of the protocol {FIXED!r} does not say what is available")
    return available


def _panel(key: tuple[Any, ...], every: Sequence[Row], entries: Sequence[Entry], titles: dict[Column, str]) -> Panel:
    rows = [row for row in every if _predicted(row)]
    variants: dict[Column, set[tuple[int, bool]]] = {}
    for row in rows:
        variants.setdefault(_column(row), set()).add((row["draws"], row["refined"]))
    columns = {}
    for bare, own in variants.items():
        draws, refined = _shown(bare, own, variants)
        columns[bare] = replace(bare, draws=draws, refined=refined, title=titles[bare])
    ranks = {name: i for i, name in enumerate(ORDER)}
    shown = sorted(columns.values(), key=lambda column: ranks.get(column.method, len(ranks)))
    figures: dict[tuple[Column, Place, str], dict[int, float | None]] = {}
    nfe: dict[Column, int | None] = {}
    realised: dict[Place, dict[int, float]] = {}
    masks: dict[tuple[Column, Place, int], tuple[float, ...]] = {}
    for row in rows:
        column, place = columns[_column(row)], _place(row)
        if (row["draws"], row["refined"]) == (column.draws, column.refined):
            figures.setdefault((column, place, row["metric"]), {})[row["seed"]] = row["value"]
            realised.setdefault(place, {})[row["seed"]] = row["realised_missing_rate"]
            masks[column, place, row["seed"]] = (row["realised_missing_rate"], *row["shares"])
            nfe[column] = row["nfe"]
    by_key = {}
    for entry in entries:
        column = columns.get(Column(entry.method, entry.run, entry.sampler, entry.steps, entry.guidance))
        if column is not None and (entry.draws, entry.refined) == (column.draws, column.refined):
            place = _place(entry)
            if any(
                entry.seed in figures.get((column, place, m), {}) for m in ("mae", "accuracy")
            ):  # rows are the proof of being done
                by_key[column, place, entry.seed] = entry
    places = sorted({place for _, place, _ in figures}, key=lambda p: PATTERNS.index(p) if isinstance(p, tuple) else p)
    clips = max(row["n"] for row in rows)
    means = {place: float(np.mean(list(by.values()))) for place, by in realised.items()}
    counts = {columns[bare]: tuple(sorted({draws for draws, _ in own})) for bare, own in variants.items()}
    return Panel(*key, clips, tuple(shown), tuple(places), figures, means, nfe, by_key, counts, masks, tuple(every))


def _shown(bare: Column, own: set[tuple[int, bool]], variants: dict[Column, set[tuple[int, bool]]]) -> tuple[int, bool]:
    """The variant shown: for draws the mean over 8 outputs after D_k, as IMDer of the same run has it."""
    if bare.method not in DRAWN:
        return max(own)
    of_run = [v for other, v in variants.items() if (other.method, other.run) == ("imder", bare.run)] or [own]
    counts = {draws for found in of_run for draws, _ in found}
    draws = SHOWN_DRAWS if SHOWN_DRAWS in counts else max(counts)
    return draws, any(refined for found in of_run for count, refined in found if count == draws)
