"""Figures of `bench joint`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from imder.plots.measured import template

#: How each way to draw is shown, in this order.
WAYS = {
    "side by side": ("#56B4E9", "triangle-down"),
    "L first": ("#0072B2", "triangle-up"),
    "A first": ("#CC79A7", "diamond"),
    "V first": ("#E69F00", "square"),
    "truth": ("#009E73", "line-ns-open"),
}
PAIRS = {"L": "L → A, V", "A": "A → L, V", "V": "V → L, A"}


def joint(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Correlation of two recovered modalities by what is observed and in which order they were drawn."""
    own = [row for row in rows if row["name"] == "correlation"]
    split = "test" if any(row["split"] == "test" for row in own) else "valid"
    own = [row for row in own if row["split"] == split]
    figure = go.Figure()
    for method, (colour, shape) in WAYS.items():
        found = [row for row in own if row["method"] == method]
        if not found:
            continue
        truth = method == "truth"
        figure.add_scatter(
            x=[row["value"] for row in found],
            y=[PAIRS[row["available"]] for row in found],
            error_x=None if truth else {"array": [row.get("se") or 0 for row in found], "thickness": 1},
            name="the true pair" if truth else method,
            mode="markers",
            marker={
                "color": colour,
                "symbol": shape,
                "size": 22 if truth else 11,
                "line": {"width": 3, "color": colour} if truth else {"width": 1, "color": "white"},
            },
            hovertemplate=f"{method}, %{{y}}: %{{x:.3f}}<extra></extra>",
        )
    return template(figure, x="correlation of the two recovered modalities", height=260)
