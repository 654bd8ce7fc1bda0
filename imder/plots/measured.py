"""Figures of stored evaluation rows: what was measured, by pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from imder.evaluation.rows import Row
from imder.evaluation.table import Rows
from imder.modality import NAMES, PATTERNS, SYMBOLS, missing, symbols

#: Okabe-Ito, so that no two series differ by colour alone for a colour-blind reader; each has its own shape too.
INK = "#7a8594"
#: A logarithmic axis with labels at 1, 2 and 5 of each power of ten.
LOG = {"type": "log", "tickvals": [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)], "tickformat": "~g"}


@dataclass(frozen=True)
class Series:
    """One method's marks in a figure and the rows they are read from."""

    name: str
    colour: str
    shape: str
    wanted: dict[str, Any]


def template(figure: go.Figure, *, x: str, height: int) -> go.Figure:
    """The one look of all figures: no frame, quiet grid, readable on a light and on a dark page."""
    axis = {"gridcolor": "rgba(122,133,148,.25)", "zeroline": False, "linecolor": "rgba(122,133,148,.5)"}
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hovermode="closest",
    )
    figure.update_xaxes(title={"text": x, "font": {"size": 13}}, automargin=True, **axis)
    figure.update_yaxes(automargin=True, autorange="reversed", **axis)
    return figure


def _marks(rows: Rows, series: Sequence[Series], places: Sequence[tuple[str, dict[str, Any]]]) -> go.Figure:
    figure = go.Figure()
    for one in series:
        found = [(label, rows.value(**one.wanted, **where)) for label, where in places]
        found = [(label, value) for label, value in found if value is not None]
        if found:
            figure.add_scatter(
                x=[value for _, value in found],
                y=[label for label, _ in found],
                name=one.name,
                mode="markers",
                marker={"color": one.colour, "symbol": one.shape, "size": 11, "line": {"width": 1, "color": "white"}},
                hovertemplate=f"{one.name}, %{{y}}: %{{x:.3f}}<extra></extra>",
            )
    return figure


def prediction_error(rows: Sequence[Row]) -> go.Figure:
    """MAE of the predicted sentiment by what is available, for recovery and for fills through the same model."""
    own = Rows([row for row in rows if row["protocol"] == "fixed"])
    mae = {"metric": "mae"}
    recovered = {"draws": own.shown, "refined": True}
    series = [
        Series(f"IMDer, {own.shown} draws", "#0072B2", "triangle-up", {"method": "imder"} | recovered | mae),
        Series("unconditional", "#56B4E9", "triangle-down", {"method": "unconditional"} | recovered | mae),
        Series("ridge", "#009E73", "circle", {"method": "ridge"} | mae),
        Series("mean fill", "#E69F00", "diamond", {"method": "mean"} | mae),
        Series("zero fill", "#D55E00", "square", {"method": "zero"} | mae),
    ]
    places = [
        (" + ".join(NAMES[k] for k in pattern) if len(pattern) < 3 else "all three", {"available": list(pattern)})
        for pattern in PATTERNS
    ]
    return template(_marks(own, series, places), x="mean absolute error of the predicted sentiment", height=360)


def recovery_error(rows: Sequence[Row]) -> go.Figure:
    """Feature error by what is recovered from what: one draw, the mean of draws, one evaluation, fills."""
    own = Rows([row for row in rows if row["protocol"] == "fixed"])
    error = {"metric": "feature_error"}
    drawn, raw = {"draws": 1, "refined": False} | error, {"refined": False}
    many = {"method": "imder", "draws": own.shown} | error
    series = [
        Series("one draw", "#0072B2", "triangle-up", {"method": "imder"} | drawn),
        Series("one draw, unconditional", "#56B4E9", "triangle-down", {"method": "unconditional"} | drawn),
        Series(f"mean of {own.shown} draws", "#CC79A7", "star", many | raw),
        Series(f"D_k of the mean of {own.shown}", "#7B3294", "cross", many | {"refined": True}),
        Series("conditional mean, one evaluation", "#F0E442", "hexagon", {"method": "imder-mean"} | raw | error),
        Series("ridge", "#009E73", "circle", {"method": "ridge"} | error),
        Series("mean fill", "#E69F00", "diamond", {"method": "mean"} | error),
    ]  # fmt: skip
    places = [
        (f"{symbols(pattern)} → {SYMBOLS[k]}", {"available": list(pattern), "modality": k})
        for pattern in PATTERNS[:-1]
        for k in missing(pattern)
    ]
    return template(_marks(own, series, places), x="feature error (variance of a channel = 1)", height=420)
