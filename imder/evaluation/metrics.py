"""Sentiment metrics by MMSA's definitions, for labels in [-3, 3] (MOSI, MOSEI) and in [-1, 1] (CH-SIMS)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score

#: Edges of CH-SIMS's classes, each (low, high].
SIMS_EDGES = {
    "acc2": (-1.01, 0.0, 1.01),
    "acc3": (-1.01, -0.1, 0.1, 1.01),
    "acc5": (-1.01, -0.7, -0.1, 0.1, 0.7, 1.01),
}
MOSI_METRICS = ("mae", "corr", "acc2", "f1", "has0_acc2", "has0_f1", "acc3", "acc5", "acc7")
SIMS_METRICS = ("mae", "corr", "acc2", "f1", "acc3", "acc5")


@dataclass(frozen=True)
class Figure:
    """A metric's value over n clips; None where it is not defined (no clips, or a constant for a correlation)."""

    value: float | None
    n: int


def is_sims(label_range: tuple[float, float]) -> bool:
    """Whether labels of this range are judged as CH-SIMS's are."""
    return tuple(label_range) == (-1.0, 1.0)


def metric_names(label_range: tuple[float, float]) -> tuple[str, ...]:
    """The metrics of `sentiment_metrics`, in its order."""
    return SIMS_METRICS if is_sims(label_range) else MOSI_METRICS


def sentiment_metrics(
    truth: ArrayLike, prediction: ArrayLike, label_range: tuple[float, float] = (-3.0, 3.0)
) -> dict[str, Figure]:
    """All metrics of predictions (n,) against labels (n,).

    `acc2` and `f1` of MOSI and MOSEI are the ones without neutral clips (Non0), the ones IMDer reports.
    """
    # Single precision, as MMSA compares: a label of .1 lies in the class that ends at .1.
    t, p = np.asarray(truth, dtype=np.float32), np.asarray(prediction, dtype=np.float32)
    if t.shape != p.shape or t.ndim != 1:
        raise ValueError(f"labels have shape {t.shape}, predictions {p.shape}; two equal (n,) are needed")
    if not (np.isfinite(t).all() and np.isfinite(p).all()):
        raise ValueError("labels or predictions hold values that are not finite")
    return _sims(t, p) if is_sims(label_range) else _mosi(t, p)


def _mosi(t: np.ndarray, p: np.ndarray) -> dict[str, Figure]:
    told = t != 0
    return {
        "mae": _mae(t, p),
        "corr": _corr(t, p),
        "acc2": _accuracy(t[told] > 0, p[told] > 0),
        "f1": _weighted_f1(t[told] > 0, p[told] > 0),
        "has0_acc2": _accuracy(t >= 0, p >= 0),
        "has0_f1": _weighted_f1(t >= 0, p >= 0),
    } | {
        f"acc{2 * m + 1}": _accuracy(np.round(np.clip(t, -m, m)), np.round(np.clip(p, -m, m))) for m in (1, 2, 3)
    }  # np.round takes halves to even


def _sims(t: np.ndarray, p: np.ndarray) -> dict[str, Figure]:
    t, p = np.clip(t, -1, 1), np.clip(p, -1, 1)
    classes = {name: (_classes(t, edges), _classes(p, edges)) for name, edges in SIMS_EDGES.items()}
    return {
        "mae": _mae(t, p),
        "corr": _corr(t, p),
        "acc2": _accuracy(*classes["acc2"]),
        "f1": _weighted_f1(*classes["acc2"]),
        "acc3": _accuracy(*classes["acc3"]),
        "acc5": _accuracy(*classes["acc5"]),
    }


def _classes(x: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Index of the interval (low, high] each value lies in."""
    return np.digitize(x, np.array(edges, dtype=np.float32), right=True)


def _mae(t: np.ndarray, p: np.ndarray) -> Figure:
    return Figure(float(np.abs(t - p).mean(dtype=np.float64)) if len(t) else None, len(t))


def _corr(t: np.ndarray, p: np.ndarray) -> Figure:
    if len(t) < 2 or np.ptp(t) == 0 or np.ptp(p) == 0:
        return Figure(None, len(t))
    return Figure(float(np.corrcoef(t.astype(np.float64), p.astype(np.float64))[0, 1]), len(t))


def _accuracy(t: np.ndarray, p: np.ndarray) -> Figure:
    return Figure(float((t == p).mean()) if len(t) else None, len(t))


def _weighted_f1(t: np.ndarray, p: np.ndarray) -> Figure:
    # Truth first: the other order, found in older code, weights by the predictions and inflates the figure.
    return Figure(float(f1_score(t, p, average="weighted", zero_division=0)) if len(t) else None, len(t))
