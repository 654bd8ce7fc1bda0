"""Figures of `bench sampler`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from imder.plots.measured import LOG, template

#: How a row's name begins, its series, and how it is shown.
RATIOS = {
    "ratio_equal_quality": ("default recovery", "#0072B2", "triangle-up"),
    "ratio_em500": ("500 Euler-Maruyama steps", "#E69F00", "square"),
}
#: What a cost is counted by (the field too), its series, and how it is shown.
COSTS = {
    "batch": ("clips at a time", "#0072B2", "triangle-up"),
    "frames": ("frames, 8 clips", "#E69F00", "square"),
    "steps": ("steps, 8 clips", "#009E73", "circle"),
}


def ratios(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """How many times cheaper than the published 500 steps, by batch; the aims beside."""
    figure = go.Figure()
    for prefix, (title, colour, shape) in RATIOS.items():
        own = [row for row in rows if row["name"].startswith(prefix)]
        places = [f"batch {row['batch']}" for row in own]
        for values, name, symbol in (("value", title, shape), ("aim", f"aim, {title}", "line-ns-open")):
            figure.add_scatter(
                x=[row[values] for row in own],
                y=places,
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 12, "line": {"width": 2, "color": colour}},
                hovertemplate=f"{name}, %{{y}}: %{{x:.3g}}<extra></extra>",
            )
    figure = template(figure, x="times cheaper than the published sampler", height=220)
    return figure.update_xaxes(**LOG)


def costs(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Milliseconds of the default recovery against batch, frames and steps."""
    figure = go.Figure()
    for by, (title, colour, shape) in COSTS.items():
        own = [row for row in rows if row["name"].startswith(f"recovery_ms_{by}")]
        figure.add_scatter(
            x=[row[by] for row in own],
            y=[row["value"] for row in own],
            name=title,
            mode="lines+markers",
            line={"color": colour, "width": 1.5},
            marker={"color": colour, "symbol": shape, "size": 10},
            hovertemplate=f"%{{x}} {title}: %{{y:.1f}} ms<extra></extra>",
        )
    figure = template(figure, x="clips, frames or steps", height=340)
    figure.update_yaxes(autorange=True, **LOG, title={"text": "ms, CPU, one thread", "font": {"size": 13}})
    return figure.update_xaxes(**LOG)
