"""Figures of `bench truth`: draws against exact draws by cell, and samplers with the exact and the trained score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from imder.modality import SYMBOLS
from imder.plots.measured import INK, LOG, Series, template

Row = dict[str, Any]

METHODS = (
    Series("conditional", "#0072B2", "triangle-up", {"method": "conditional"}),
    Series("unconditional", "#56B4E9", "triangle-down", {"method": "unconditional"}),
    Series("as published", "#D55E00", "square", {"method": "official"}),
)
SAMPLERS = (
    Series("DPM-Solver++(2M)", "#0072B2", "triangle-up", {"sampler": "dpmpp-2m", "last": "tweedie"}),
    Series("DPM-Solver++(2M) SDE", "#56B4E9", "triangle-down", {"sampler": "dpmpp-2m-sde", "last": "tweedie"}),
    Series("Heun", "#009E73", "circle", {"sampler": "heun", "last": "tweedie"}),
    Series("Euler-Maruyama, log-spaced", "#E69F00", "diamond", {"sampler": "euler-maruyama-log", "last": "tweedie"}),
    Series("Euler-Maruyama, linear t", "#CC79A7", "star", {"sampler": "euler-maruyama", "last": "tweedie"}),
    Series("the same, last step as published", "#D55E00", "square", {"sampler": "euler-maruyama", "last": "plain"}),
)


def _pick(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if wanted.items() <= row.items()]


def truth_draws(rows: Sequence[Row], corpus: str) -> go.Figure:
    """Sliced Wasserstein distance to exact draws as a multiple of the floor, by what is drawn from what."""
    own = _pick(rows, part="patterns", name="sliced_wasserstein", corpus=corpus)
    floor = {_cell(row): row["value"] for row in _pick(own, method="floor")}
    figure = go.Figure()
    for one in METHODS:
        found = _pick(own, **one.wanted)
        if not found:
            continue
        figure.add_scatter(
            x=[row["value"] / floor[_cell(row)] for row in found],
            y=[_cell(row) for row in found],
            name=one.name,
            mode="markers",
            marker={"color": one.colour, "symbol": one.shape, "size": 11, "line": {"width": 1, "color": "white"}},
            hovertemplate=f"{one.name}, %{{y}}: %{{x:.2f}}<extra></extra>",
        )
    figure.add_vline(x=1, line={"color": INK, "dash": "dot"})
    figure = template(figure, x="sliced Wasserstein distance / that of exact draws", height=360)
    return figure.update_xaxes(**LOG)


def truth_samplers(rows: Sequence[Row], name: str = "sliced_wasserstein") -> go.Figure:
    """One figure of merit by network evaluations: filled and solid with the exact score, open and dashed trained."""
    own = _pick(rows, part="samplers", name=name)
    figure = go.Figure()
    for score, dash, suffix in (("exact", "solid", ""), ("trained", "dash", "-open")):
        for one in SAMPLERS:
            found = sorted(_pick(own, score=score, **one.wanted), key=lambda row: row["nfe"])
            if not found:
                continue
            figure.add_scatter(
                x=[row["nfe"] for row in found],
                y=[row["value"] for row in found],
                name=one.name,
                legendgroup=one.name,
                showlegend=score == "exact",
                mode="lines+markers",
                line={"color": one.colour, "dash": dash, "width": 1.5},
                marker={"color": one.colour, "symbol": one.shape + suffix, "size": 9},
                hovertemplate=f"{one.name}, {score} score, %{{x}} evaluations: %{{y:.3f}}<extra></extra>",
            )
    if own:
        cell = {key: own[0][key] for key in ("corpus", "target", "available")}
        ends = [row["nfe"] for row in own]
        for row in _pick(rows, method="floor", name=name, **cell):
            figure.add_scatter(
                x=[min(ends), max(ends)],
                y=[row["value"]] * 2,
                name="exact draws",
                mode="lines",
                line={"color": INK, "dash": "dot"},
                hovertemplate="exact draws: %{y:.3f}<extra></extra>",
            )
    figure = template(figure, x="network evaluations", height=420)
    title = name.replace("_", " ")
    figure.update_yaxes(autorange=True, **LOG, title={"text": title, "font": {"size": 13}})
    return figure.update_xaxes(**LOG)


def _cell(row: Row) -> str:
    return f"{row['available']} → {SYMBOLS[row['target']]}"
