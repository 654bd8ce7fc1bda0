"""Figures by missing rate: a line a method, a point a seed, a band for the interval, reported figures dashed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from imder.plots.measured import INK, template

#: Okabe-Ito and a violet, without the yellow that a light page swallows; each with a shape, so colour is not needed.
LOOKS = (
    ("#0072B2", "triangle-up"),
    ("#56B4E9", "triangle-down"),
    ("#D55E00", "square"),
    ("#E69F00", "diamond"),
    ("#009E73", "circle"),
    ("#CC79A7", "star"),
    ("#9467BD", "cross"),
    ("#8C564B", "hexagon"),
)
#: What a shape gets when all looks are used up: filled, open, dotted.
ROUNDS = ("", "-open", "-dot")
DASHES = ("dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Curve:
    """One method's figure over missing rates; `points` are (rate, figure) of seeds, `band` is (low, high) a rate.

    What is not `shown` waits in the legend for a click.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    points: tuple[tuple[float, float], ...] = ()
    band: tuple[tuple[float, float], ...] = ()
    shown: bool = True
    reported: bool = False


def by_rate(curves: Sequence[Curve], *, y: str, ticks: Sequence[tuple[float, str]], digits: int = 1) -> go.Figure:
    """The curves with their points and bands over the nominal missing rate, `ticks` its values and names."""
    figure = go.Figure()
    own = sorted((curve for curve in curves if not curve.reported), key=lambda curve: not curve.shown)
    for i, curve in enumerate(own):
        colour, shape = LOOKS[i % len(LOOKS)]
        common = {"legendgroup": f"own {i}", "visible": _visible(curve)}
        if curve.band:
            figure.add_scatter(
                x=[*curve.x, *reversed(curve.x)],
                y=[*(high for _, high in curve.band), *(low for low, _ in reversed(curve.band))],
                mode="lines",
                fill="toself",
                fillcolor=_faint(colour),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                name=f"{curve.name}, interval",
                **common,
            )
        if len(curve.points) > len(curve.x):
            figure.add_scatter(
                x=[x for x, _ in curve.points],
                y=[value for _, value in curve.points],
                mode="markers",
                marker={"color": colour, "symbol": f"{shape}-open", "size": 6},
                opacity=0.7,
                hovertemplate=f"{curve.name}, one seed: %{{y:.{digits}f}}<extra></extra>",
                showlegend=False,
                name=f"{curve.name}, seeds",
                **common,
            )
        figure.add_scatter(
            x=curve.x,
            y=curve.y,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"color": colour, "symbol": shape + ROUNDS[i // len(LOOKS) % len(ROUNDS)], "size": 9},
            hovertemplate=f"{curve.name}, %{{x}}: %{{y:.{digits}f}}<extra></extra>",
            name=curve.name,
            **common,
        )
    for i, curve in enumerate(curve for curve in curves if curve.reported):
        figure.add_scatter(
            x=curve.x,
            y=curve.y,
            mode="lines+markers",
            line={"color": INK, "width": 1.5, "dash": DASHES[i % len(DASHES)]},
            marker={"color": INK, "symbol": f"{LOOKS[i % len(LOOKS)][1]}-open", "size": 7},
            hovertemplate=f"{curve.name}, %{{x}}: %{{y:.{digits}f}}<extra></extra>",
            name=curve.name,
            visible=_visible(curve),
        )
    template(figure, x="nominal missing rate", height=560)
    figure.update_xaxes(tickvals=[x for x, _ in ticks], ticktext=[name for _, name in ticks])
    figure.update_yaxes(autorange=True, title={"text": y, "font": {"size": 13}})
    legend = {"yref": "container", "y": 0, "yanchor": "bottom"}
    return figure.update_layout(legend=legend, margin={"l": 8, "r": 8, "t": 12, "b": 8})


def _visible(curve: Curve) -> bool | str:
    return True if curve.shown else "legendonly"


def _faint(colour: str) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},.14)"
