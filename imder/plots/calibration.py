"""Figures of `bench calibration`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from imder.plots.measured import template

PATTERNS = {
    "L": ("#0072B2", "triangle-up"),
    "A": ("#E69F00", "diamond"),
    "V": ("#D55E00", "square"),
    "LA": ("#CC79A7", "star"),
    "LV": ("#009E73", "circle"),
    "AV": ("#56B4E9", "triangle-down"),
}


def coverage(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Coverage of 90 % intervals of the draws on the test split, a mark a cell, beside what exact draws cover."""
    figure = go.Figure()
    found = [row for row in rows if row["name"] == "coverage90" and row.get("part") == "test"]
    if found:
        figure.add_scatter(
            x=[row["value"] for row in found],
            y=[row["cell"].replace(">", " → ") for row in found],
            error_x={"array": [2 * row["se"] for row in found], "thickness": 1},
            mode="markers",
            showlegend=False,
            marker={"color": "#0072B2", "size": 11, "line": {"width": 1, "color": "white"}},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
        exact = found[0]["exact"]
        figure.add_vline(x=exact, line={"color": "#009E73", "width": 2})
        figure.add_vrect(x0=exact - 0.02, x1=exact + 0.02, fillcolor="#009E73", opacity=0.12, line_width=0)
    return template(figure, x="coverage (line: exact draws; band: 2 points)", height=320)


def interval(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Share of the labels in the interval of the prediction by number of draws, without and with calibration."""
    figure = go.Figure()
    own = [row for row in rows if row["name"] == "interval_coverage" and row["split"] == "test"]
    for pattern, (colour, shape) in PATTERNS.items():
        for calibrated in (False, True):
            found = [row for row in own if row["available"] == pattern and row["calibrated"] is calibrated]
            if found:
                figure.add_scatter(
                    x=[row["draws"] for row in found],
                    y=[row["value"] for row in found],
                    name=pattern if calibrated else f"{pattern}, range of the draws",
                    mode="lines+markers",
                    line={"color": colour, "width": 2, "dash": "solid" if calibrated else "dot"},
                    marker={"color": colour, "symbol": shape, "size": 9, "line": {"width": 1, "color": "white"}},
                    hovertemplate=f"{pattern}, %{{x}} draws: %{{y:.3f}}<extra></extra>",
                )
    template(figure, x="draws", height=360)
    figure.update_xaxes(type="log", tickvals=sorted({row["draws"] for row in own}))
    figure.update_yaxes(autorange=True, title={"text": "share of labels in the interval", "font": {"size": 13}})
    figure.add_hline(y=0.9, line={"color": "#7a8594", "width": 1})
    return figure
