"""Figures of a training log: loss above, validation below, by update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from imder.plots.measured import LOG, template
from imder.plots.rates import LOOKS

#: What is shown at once and looks different; the rest waits in the legend.
FIRST = (
    "training loss",
    "score_loss",
    "linear_loss",
    "mae",
    "log_loss",
    "accuracy",
    "draw_error",
    "refined_error",
    "readout_r2.text",
    "readout_r2.audio",
    "readout_r2.vision",
)
#: From this ratio of the largest to the smallest figure on, an axis is logarithmic.
WIDE = 6.0
NAMES = {
    "mae": "MAE", "score_loss": "validation loss", "linear_loss": "linear denoiser",
    "log_loss": "log loss", "draw_error": "draw error", "refined_error": "error after D_k",
    "readout_r2": "R²",
}  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """One figure by update; `run` is 0, or 1 for the run beside, which is dashed and has no place in the legend."""

    what: str
    x: tuple[int, ...]
    y: tuple[float, ...]
    loss: bool
    run: int = 0
    of: str = ""


def progress(curves: Sequence[Progress], *, title: str, told: str) -> go.Figure:
    """Losses in the upper half and validation figures in the lower, where there are any."""
    figure = go.Figure()
    kinds = [kind for kind in (True, False) if any(curve.loss is kind and curve.y for curve in curves)]
    whats = sorted(dict.fromkeys(curve.what for curve in curves), key=lambda what: what not in FIRST)
    looks = {what: LOOKS[i % len(LOOKS)] for i, what in enumerate(whats)}
    for curve in curves:
        if not curve.y:
            continue
        colour, shape = looks[curve.what]
        name = named(curve.what)
        entry = not any(other.what == curve.what and other.run < curve.run and other.y for other in curves)
        figure.add_scatter(
            x=curve.x,
            y=curve.y,
            name=name,
            legendgroup=curve.what,
            showlegend=entry,
            yaxis="y" if curve.loss is kinds[0] else "y2",
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": "dash" if curve.run else "solid"},
            marker={"color": colour, "symbol": shape + ("-open" if curve.run else ""), "size": 6},
            visible=True if curve.what in FIRST else "legendonly",
            hovertemplate=f"{curve.of}, {name}, update %{{x}}: %{{y:.4f}}<extra></extra>",
        )
    template(figure, x="update", height=(340 if len(kinds) > 1 else 260) + 22 * math.ceil(len(looks) / 2))
    titles = {True: "loss", False: "validation"}
    for i, kind in enumerate(kinds):
        domain = ([0.54, 1] if i == 0 else [0, 0.46]) if len(kinds) > 1 else [0, 1]
        axis = {**figure.layout.yaxis.to_plotly_json(), "domain": domain, "autorange": True, "tickformat": "~g"}
        axis["title"] = {"text": titles[kind], "font": {"size": 13}}
        shown = [y for c in curves if c.loss is kind and c.what in FIRST for y in c.y]
        if shown and min(shown) > 0 and max(shown) / min(shown) > WIDE:
            axis |= LOG | {"title": {"text": f"{titles[kind]} (log)", "font": {"size": 13}}}
        figure.update_layout({f"yaxis{i + 1 if i else ''}": axis})
    if len(kinds) > 1:
        figure.update_layout(xaxis={"anchor": "y2"})
    heading = {"text": title, "subtitle": {"text": told}, "font": {"size": 15}, "x": 0, "xanchor": "left"}
    legend = {"yref": "container", "y": 0, "yanchor": "bottom"}
    return figure.update_layout(legend=legend, showlegend=True, margin={"l": 8, "r": 8, "t": 52, "b": 8}, title=heading)


def named(what: str) -> str:
    """`MAE, LA` for `mae.LA`."""
    name, _, of = what.partition(".")
    return NAMES.get(name, name) + (f", {of}" if of else "")
