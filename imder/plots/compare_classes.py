"""Figures of the page Compare where a prediction is of classes: how probable the true one is, and the spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from imder.compare import Fan, Outcome
from imder.interpret import percent
from imder.plots.compare import BAND, FILL
from imder.plots.measured import template

#: A mark by whether the true class is the likeliest, or another.
MARKS = {True: ("the true class is the likeliest", "diamond"), False: ("another class is likelier", "diamond-open")}
SHARE = {
    "range": [-0.02, 1.02],
    "autorange": False,
    "tickvals": [0, 0.25, 0.5, 0.75, 1],
    "ticktext": [percent(p / 4) for p in range(5)],
}
TITLE = "probability of the true class"


def class_predictions(outcomes: Sequence[Outcome]) -> go.Figure:
    """The probability that each outcome gives the true class; the mark is open where another is likelier."""
    found = [one for one in outcomes if one.known]
    figure = go.Figure()
    for right, (name, symbol) in MARKS.items():
        own = [one for one in found if _right(one) is right]
        figure.add_scatter(
            x=[one.true_share for one in own],
            y=[one.name for one in own],
            customdata=[[f"{one.likeliest[0]} {percent(one.likeliest[1])}"] for one in own],
            mode="markers",
            name=name,
            marker={"color": BAND, "size": 11, "symbol": symbol, "line": {"width": 2, "color": BAND}},
            hovertemplate="%{y}: %{x:.0%}; likeliest: %{customdata[0]}<extra></extra>",
        )
    template(figure, x=TITLE, height=120 + 34 * max(len(found), 2))
    figure.update_yaxes(categoryorder="array", categoryarray=[one.name for one in found])
    return figure.update_xaxes(**SHARE).update_layout(font={"size": 12}, showlegend=True)


def _right(one: Outcome) -> bool:
    return one.likeliest[0] == one.classes[int(one.label)]


def class_guidance(outcomes: Sequence[Outcome]) -> go.Figure:
    """The probability of the true class by guidance strength: of the draws' mean, and the band of 90 % of them."""
    x = [one.guidance for one in outcomes]
    figure = go.Figure()
    if outcomes:
        ends = np.array([np.quantile(one.draws[:, int(one.label)], (0.05, 0.95)) for one in outcomes])
        hidden = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_scatter(x=x, y=ends[:, 1].tolist(), showlegend=False, **hidden)
        figure.add_scatter(
            x=x, y=ends[:, 0].tolist(), fill="tonexty", fillcolor=FILL, name="90 % of the draws", **hidden
        )
        figure.add_scatter(
            x=x,
            y=[one.true_share for one in outcomes],
            mode="lines+markers",
            name="mean of the draws",
            line={"color": BAND},
            marker={"symbol": "diamond", "size": 9},
            hovertemplate="guidance %{x:g}: %{y:.0%}<extra></extra>",
        )
    template(figure, x="guidance strength", height=340)
    figure.update_yaxes(title={"text": TITLE}, **SHARE)
    return figure.update_layout(font={"size": 12})


def class_fan(fan: Fan) -> go.Figure:
    """The probability that each draw gives each class, and their mean; the true class is named as such."""
    one = fan.outcome
    names = [f"{name} (true)" if i == int(one.label) else name for i, name in enumerate(one.classes)]
    figure = go.Figure()
    figure.add_scatter(
        x=one.draws.T.ravel().tolist(), y=np.repeat(names, len(one.draws)).tolist(), mode="markers",
        name="one draw each", marker={"symbol": "line-ns-open", "size": 14, "color": BAND},
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=list(map(float, one.prediction)), y=names, mode="markers", name="their mean",
        marker={"symbol": "diamond", "size": 11, "color": "#009E73"}, hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )  # fmt: skip
    template(figure, x="probability", height=110 + 30 * len(names))
    return figure.update_xaxes(**SHARE).update_layout(font={"size": 12})
