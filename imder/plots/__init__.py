"""Plotly figures: one look, one function a figure."""

from imder.plots.measured import prediction_error, recovery_error

__all__ = ["prediction_error", "recovery_error"]
