"""A panel by missing rate as figures, with the supplement's curves beside ours where they report the same metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imder.evaluation.significance import LEVEL, LOWER, bootstrap
from imder.plots.rates import Curve, by_rate
from imder.report.blocks import Figure
from imder.report.reported import Reported
from imder.report.results import BUNDLED, MODELS, Column, Panel, data_name, elsewhere, place_name
from imder.report.tables import METRIC_NAMES, PROTOCOLS

#: Curves of ours that are shown before anything is clicked.
AT_ONCE = 6


def rate_figures(panel: Panel, reported: Sequence[Reported]) -> list[Figure]:
    """The accuracies, and MAE of a sentiment, by missing rate."""
    return [rate_figure(panel, metric, reported) for metric in (*panel.accuracies, *panel.errors[:1])]


def rate_figure(panel: Panel, metric: str, reported: Sequence[Reported], first: set[Column] | None = None) -> Figure:
    """One metric by missing rate; columns that are not among the `first` ones wait in the legend for a click."""
    scale, unit = (1.0, "") if metric in LOWER else (100.0, ", percent")
    first = shown_at_once(panel) if first is None else first
    curves = [curve for column in panel.columns if (curve := _curve(panel, column, metric, scale, first)) is not None]
    beside = [one for one in reported if metric in one.metrics] if panel.protocol == "random" else []
    mark = "reported on other data" if data_name(panel) == BUNDLED else "reported"
    for one in beside:
        known = panel.accuracies[-1] in one.metrics  # else labels of another kind: a click away
        name = f"{one.name}, {one.data}<br>({mark})"
        curves.append(Curve(name, one.rates, one.at(metric), shown=known, reported=True))
    rates = sorted({*panel.places, *(rate for one in beside for rate in one.rates)})
    said = [f"{panel.data}, {panel.split}, {panel.clips} clips; {PROTOCOLS.get(panel.protocol, panel.protocol)}."]
    if any(len(panel.seeds(column)) > 1 for column in panel.columns):
        said.append("Small open marks are single seeds.")
    if any(curve.band for curve in curves):
        said.append(f"Bands: {LEVEL:.0%} intervals over resampled clips, unpaired, those of a video drawn together.")
    if beside:
        said.append(f"Dashed and grey: reported by the paper, {elsewhere([panel])}.")
    said.append("A click on a name in the legend shows or hides its line; the tables hold the same figures.")
    name = METRIC_NAMES[metric]
    figure = by_rate(
        curves,
        y=name + unit,
        ticks=[(rate, place_name(rate)) for rate in rates],
        digits=3 if metric in LOWER else 1,
    )
    return Figure(f"{name} by missing rate", " ".join(said), figure)


def shown_at_once(panel: Panel) -> set[Column]:
    """All columns where they are few, else the first run of each model."""
    if len(panel.columns) <= AT_ONCE:
        return set(panel.columns)
    first = {column.method: column for column in reversed(panel.columns)}
    return {first[method] for method in MODELS if method in first} or set(panel.columns[:AT_ONCE])


def _curve(panel: Panel, column: Column, metric: str, scale: float, shown: set[Column]) -> Curve | None:
    told = [place for place in panel.places if panel.at(column, place, metric)]
    if not told:
        return None
    points = [(place, scale * value) for place in told for value in panel.at(column, place, metric) or ()]
    band = []
    for place in told:
        seeds = panel.figures[column, place, metric]
        entries = [panel.entries.get((column, place, seed)) for seed in seeds]
        if None in entries:
            break
        clips = entries[0].clips
        prediction = np.stack([entry.prediction for entry in entries])
        found = bootstrap(prediction, clips.label, metric, clips.videos, scale=panel.scale)
        band.append((scale * found.low, scale * found.high))
    means = tuple(scale * float(np.mean(panel.at(column, place, metric))) for place in told)
    whole = tuple(band) if len(band) == len(told) else ()
    return Curve(column.title, tuple(told), means, tuple(points), whole, column in shown)
