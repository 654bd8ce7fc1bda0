"""Figures of the page Compare: predictions side by side, guidance, samplers, a fan of draws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from imder.compare import Fan, Outcome, Trial
from imder.modality import NAMES
from imder.plots.measured import INK, LOG, template
from imder.samplers import SAMPLERS

COLOURS = {"text": "#009E73", "audio": "#D55E00", "vision": "#0072B2"}
SHAPES = {"text": "circle", "audio": "square", "vision": "triangle-up"}
BAND, FILL = "#0072B2", "rgba(0,114,178,.22)"
LABEL = {"color": "#D55E00", "width": 2, "dash": "dash"}
#: Colour, shape and dash of each sampler.
LOOKS = dict(
    zip(
        SAMPLERS,
        (
            ("#0072B2", "circle", "solid"),
            ("#56B4E9", "diamond", "dash"),
            ("#009E73", "triangle-up", "dot"),
            ("#D55E00", "square", "dashdot"),
            ("#E69F00", "cross", "longdash"),
        ),
        strict=True,
    )
)


def predictions(outcomes: Sequence[Outcome]) -> go.Figure:
    """Prediction and 90 % interval of each outcome, the label as a line."""
    found = [one for one in outcomes if math.isfinite(one.prediction)]
    figure = go.Figure()
    figure.add_scatter(
        x=[one.prediction for one in found],
        y=[one.name for one in found],
        mode="markers",
        name="prediction, 90 % interval",
        marker={"color": BAND, "size": 10, "symbol": "diamond"},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [one.interval[1] - one.prediction if one.interval else 0 for one in found],
            "arrayminus": [one.prediction - one.interval[0] if one.interval else 0 for one in found],
            "color": BAND,
        },
        hovertemplate="%{y}: %{x:+.2f}<extra></extra>",
    )
    _label(figure, found)
    template(figure, x="sentiment", height=120 + 34 * max(len(found), 2))
    return _room(figure)


def _label(figure: go.Figure, outcomes: Sequence[Outcome]) -> None:
    if outcomes:
        ends = [outcomes[0].name, outcomes[-1].name]
        figure.add_scatter(x=[outcomes[0].label] * 2, y=ends, mode="lines", name="label", line=LABEL, hoverinfo="skip")


def _room(figure: go.Figure) -> go.Figure:
    """Long names stand above a narrow plot's marks otherwise; a plain upward axis where it counts."""
    figure.update_layout(font={"size": 12})
    return figure


def guidance_error(outcomes: Sequence[Outcome]) -> go.Figure:
    """Feature error by guidance strength, of one draw and of the draws' mean."""
    figure = go.Figure()
    for k in outcomes[0].missing if outcomes else ():
        for name, errors, dash in (
            ("one draw", [one.feature_error[k] for one in outcomes], "solid"),
            ("mean of draws", [one.mean_error[k] for one in outcomes], "dash"),
        ):
            figure.add_scatter(
                x=[one.guidance for one in outcomes],
                y=errors,
                name=f"{NAMES[k]}, {name}",
                mode="lines+markers",
                line={"color": COLOURS[k], "dash": dash},
                marker={"symbol": SHAPES[k], "size": 9},
                hovertemplate="guidance %{x:g}: %{y:.2f}<extra></extra>",
            )
    template(figure, x="guidance strength", height=340)
    figure.update_yaxes(title={"text": "feature error"}, autorange=True, rangemode="tozero")
    return _room(figure)


def guidance_prediction(outcomes: Sequence[Outcome]) -> go.Figure:
    """Prediction with its interval by guidance strength, beside the label."""
    x = [one.guidance for one in outcomes]
    figure = go.Figure()
    if outcomes:
        low, high = zip(*(one.interval for one in outcomes), strict=True)
        figure.add_scatter(x=x, y=list(high), mode="lines", line={"width": 0}, showlegend=False, hoverinfo="skip")
        figure.add_scatter(
            x=x, y=list(low), mode="lines", line={"width": 0}, fill="tonexty", fillcolor=FILL, name="90 % interval",
            hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(
            x=x,
            y=[one.prediction for one in outcomes],
            mode="lines+markers",
            name="prediction",
            line={"color": BAND},
            marker={"symbol": "diamond", "size": 9},
            hovertemplate="guidance %{x:g}: %{y:+.2f}<extra></extra>",
        )
        figure.add_scatter(x=x, y=[outcomes[0].label] * len(x), mode="lines", name="label", line=LABEL)
    template(figure, x="guidance strength", height=340)
    figure.update_yaxes(title={"text": "sentiment"}, autorange=True)
    return _room(figure)


def _by_sampler(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for one in trials[1:]:  # the first is the reference
        found.setdefault(one.sampler, []).append(one)
    return found


def sampler_quality(trials: Sequence[Trial]) -> go.Figure:
    """Distance of the draws' mean to the long reference's, by network evaluations."""
    return _sampler_curves(trials, "mean_gap", "distance of the means to the reference")


def sampler_error(trials: Sequence[Trial]) -> go.Figure:
    """Error of the draws against the truth, by network evaluations; the reference as a line."""
    figure = _sampler_curves(trials, "draw_error", "feature error of a draw")
    if trials:
        x = [one.nfe for one in trials[1:]]
        if x:
            figure.add_scatter(
                x=[min(x), max(x)], y=[trials[0].draw_error] * 2, mode="lines", name="reference", line=LABEL
            )
    return figure


def _sampler_curves(trials: Sequence[Trial], value: str, title: str) -> go.Figure:
    figure = go.Figure()
    for sampler, own in _by_sampler(trials).items():
        colour, shape, dash = LOOKS[sampler]
        figure.add_scatter(
            x=[one.nfe for one in own],
            y=[getattr(one, value) for one in own],
            name=SAMPLERS[sampler].title,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"symbol": shape, "size": 9},
            customdata=[[one.seconds / trials[0].seconds] for one in own],
            hovertemplate="%{x} evaluations: %{y:.3g}, %{customdata[0]:.2f} times the reference's time<extra></extra>",
        )
    template(figure, x="network evaluations", height=380)
    figure.update_xaxes(**LOG)
    figure.update_yaxes(title={"text": title}, autorange=True, type="log", tickformat="~g", nticks=6)
    return _room(figure)


def fan_bands(fan: Fan) -> go.Figure:
    """Each readable quantity by frame: truth, middle and 90 % band of the draws."""
    count = max(len(fan.bands), 1)
    figure = make_subplots(rows=count, cols=1, shared_xaxes=True, vertical_spacing=0.24 / count)
    for row, band in enumerate(fan.bands, start=1):
        x = [i / max(len(band.truth) - 1, 1) for i in range(len(band.truth))]
        first = row == 1
        lines = (
            (band.high, "", {"width": 0}, None),
            (band.low, "90 % of the draws", {"width": 0}, "tonexty"),
            (band.middle, "median draw", {"color": BAND, "width": 2}, None),
            (band.truth, "truth", LABEL, None),
        )
        for y, name, line, fill in lines:
            figure.add_scatter(
                x=x, y=[float(v) for v in y], mode="lines", name=name, line=line, fill=fill, fillcolor=FILL,
                showlegend=first and bool(name), hoverinfo="skip" if not name else "y+name", row=row, col=1,
            )  # fmt: skip
        figure.add_annotation(
            text=band.title, xref="x domain", yref=f"y{row if row > 1 else ''} domain", x=0, y=1.04, xanchor="left",
            yanchor="bottom", showarrow=False, font={"size": 12, "color": INK},
        )  # fmt: skip
    template(figure, x="", height=90 + 150 * count)
    figure.update_yaxes(autorange=True, nticks=4)
    figure.update_xaxes(title=None)
    figure.update_xaxes(title={"text": "time in the clip (0 to 1)"}, row=count, col=1)
    figure.update_layout(legend={"y": 1.02 + 0.25 / count})
    return _room(figure)


def fan_predictions(fan: Fan) -> go.Figure:
    """The draws' predictions, the interval and the label on one scale."""
    outcome = fan.outcome
    figure = go.Figure()
    figure.add_scatter(
        x=list(outcome.interval), y=["90 % interval"] * 2, mode="lines", name="90 % interval",
        line={"color": BAND, "width": 10}, opacity=0.5, hovertemplate="%{x:+.2f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[float(v) for v in outcome.draws], y=["draws"] * len(outcome.draws), mode="markers", name="one draw each",
        marker={"symbol": "line-ns-open", "size": 16, "color": BAND}, hovertemplate="%{x:+.2f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[outcome.prediction], y=["draws"], mode="markers", name="their mean",
        marker={"symbol": "diamond", "size": 11, "color": "#009E73"}, hovertemplate="%{x:+.2f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[outcome.label] * 2, y=["90 % interval", "draws"], mode="lines+markers", name="label", line=LABEL,
        hovertemplate="label %{x:+.2f}<extra></extra>",
    )  # fmt: skip
    return _room(template(figure, x="sentiment", height=220))
