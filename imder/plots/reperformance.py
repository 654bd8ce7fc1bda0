"""Figures of `bench reperformance`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from imder.plots.measured import template

WAYS = {
    "side by side": ("#56B4E9", "triangle-down"),
    "A first": ("#0072B2", "triangle-up"),
    "V first": ("#E69F00", "square"),
    "unconditional": ("#D55E00", "x"),
    "draws, true mean": ("#009E73", "circle"),
    "performances, drawn mean": ("#CC79A7", "diamond"),
}
WHAT = {"audio": "Voice", "vision": "Face", "pair": "both"}


def reperformance(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Sliced Wasserstein distance of draws to true re-performances, over that of re-performances to each other."""
    figure = go.Figure()
    for method, (colour, shape) in WAYS.items():
        found = [row for row in rows if row["name"] == "over_floor" and row["method"] == method]
        if found:
            figure.add_scatter(
                x=[row["value"] for row in found],
                y=[WHAT[row["what"]] for row in found],
                name=method,
                mode="markers",
                marker={"color": colour, "symbol": shape, "size": 11, "line": {"width": 1, "color": "white"}},
                hovertemplate=f"{method}, %{{y}}: %{{x:.3f}} times the floor<extra></extra>",
            )
    figure.add_vline(x=1, line={"color": "#009E73", "width": 2})
    figure.add_vline(x=1.25, line={"color": "#009E73", "width": 1, "dash": "dot"})
    return template(figure, x="sliced Wasserstein distance over the floor (line: floor; dotted: goal)", height=240)
