"""Figures of recovered against real: points of two sets in one plane, a channel's histogram, draws of a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from imder.plots.measured import INK, template

#: Sets by name: colour, shape, dash; real ones grey, since they are the ground the others stand on.
REAL = ("#7a8594", "circle-open", "solid")
CONDITIONAL = ("#0072B2", "triangle-up", "solid")
UNCONDITIONAL = ("#E69F00", "square", "dash")
LIVE = ("#D55E00", "star", "dot")
ORIGINAL = ("#009E73", "x", "solid")
#: Labels from the most negative to the most positive, grey at 0.
DIVERGING = ((0.0, "#0072B2"), (0.5, "#c3c9d1"), (1.0, "#D55E00"))
HEIGHT = 430


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points (N, 2) of one set: its look, what is told of each on hovering, and a value to colour it by, if any."""

    name: str
    look: tuple[str, str, str]
    points: np.ndarray
    said: Sequence[str]
    value: np.ndarray | None = None
    size: int = 7


def clouds(
    sets: Sequence[Cloud],
    *,
    axes: tuple[str, str],
    about: np.ndarray,
    limits: tuple[float, float] = (-3.0, 3.0),
    alike: bool = True,
) -> go.Figure:
    """Sets of points on axes that span the points `about` (N, 2), so that two figures compare.

    Where a set has values, its points are coloured from `limits[0]` to `limits[1]`, diverging about 0.
    `alike` gives both axes one scale.
    """
    figure = go.Figure()
    for i, one in enumerate(sets):
        colour, shape, _ = one.look
        marker = {"color": colour, "symbol": shape, "size": one.size, "opacity": 0.75}
        if one.value is not None:
            marker |= {
                "color": one.value,
                "colorscale": [list(stop) for stop in DIVERGING],
                "cmin": limits[0],
                "cmax": limits[1],
                "cmid": 0,
                "showscale": i == 0,
                "colorbar": {
                    "orientation": "h", "y": -0.16, "yanchor": "top", "thickness": 10, "len": 0.7, "outlinewidth": 0,
                    "title": {"text": "label of the clip", "side": "top"},
                },
                "opacity": 0.9,
            }  # fmt: skip
        figure.add_scatter(
            x=_rounded(one.points[:, 0]),
            y=_rounded(one.points[:, 1]),
            name=one.name,
            mode="markers",
            marker=marker,
            text=list(one.said),
            hovertemplate=f"{one.name}<br>%{{text}}<extra></extra>",
        )
    template(figure, x=axes[0], height=HEIGHT)
    low, high = about.min(axis=0), about.max(axis=0)
    more = 0.06 * np.maximum(high - low, 1e-6)
    ranges = [[float(low[i] - more[i]), float(high[i] + more[i])] for i in (0, 1)]
    figure.update_xaxes(range=ranges[0])
    figure.update_yaxes(range=ranges[1], autorange=False, title={"text": axes[1], "font": {"size": 13}})
    if alike:
        figure.update_yaxes(scaleanchor="x")
    return figure


def _rounded(x: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in x]


def histogram(edges: np.ndarray, sets: Sequence[tuple[str, tuple[str, str, str], np.ndarray]], *, x: str) -> go.Figure:
    """Shares (bins,) of several sets over the same bins, as steps; the first one filled."""
    figure = go.Figure()
    middle = (edges[:-1] + edges[1:]) / 2
    for i, (name, (colour, _, dash), shares) in enumerate(sets):
        figure.add_scatter(
            x=[float(f"{value:.4g}") for value in middle],
            y=[round(100 * float(share), 3) for share in shares],
            name=name,
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash, "shape": "hvh"},
            fill=None if i else "tozeroy",
            fillcolor=None if i else "rgba(122,133,148,.25)",
            hovertemplate=f"{name}, %{{x}}: %{{y:.2f}} %<extra></extra>",
        )
    template(figure, x=x, height=300)
    figure.update_yaxes(autorange=True, rangemode="tozero", title={"text": "percent of frames", "font": {"size": 13}})
    return figure


def per_channel(names: Sequence[str], sets: Sequence[tuple[str, tuple[str, str, str], np.ndarray]]) -> go.Figure:
    """A value (C,) a channel of several sets: a mark each, the channels in their order."""
    figure = go.Figure()
    for name, (colour, shape, _), values in sets:
        figure.add_scatter(
            x=list(names),
            y=[round(float(value), 4) for value in values],
            name=name,
            mode="markers",
            marker={"color": colour, "symbol": shape, "size": 7},
            hovertemplate=f"{name}, %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    template(figure, x="channel", height=300)
    figure.update_xaxes(showticklabels=len(names) <= 40, tickangle=-60, tickfont={"size": 10, "color": INK})
    figure.update_yaxes(
        autorange=True, rangemode="tozero", title={"text": "distance, in standard deviations", "font": {"size": 13}}
    )
    return figure
