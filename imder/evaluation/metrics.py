"""Sentiment metrics by MMSA's definitions, for labels in [-3, 3] (MOSI, MOSEI) and in [-1, 1] (CH-SIMS); classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, f1_score

#: Edges of CH-SIMS's classes, each (low, high].
SIMS_EDGES = {
    "acc2": (-1.01, 0.0, 1.01),
    "acc3": (-1.01, -0.1, 0.1, 1.01),
    "acc5": (-1.01, -0.7, -0.1, 0.1, 0.7, 1.01),
}
#: The metrics of each scale. MOSI's `acc2` and `f1` leave neutral clips out (Non0), as the ones IMDer reports do.
SCALES: dict[str, tuple[str, ...]] = {
    "mosi": ("mae", "corr", "acc2", "f1", "acc2_has0", "f1_has0", "acc3", "acc5", "acc7"),
    "sims": ("mae", "corr", "acc2", "f1", "acc3", "acc5"),
}
#: What stands in the place of a scale where labels are classes, and the metrics then: F1 weighted by the classes' clips
#: and, all classes alike, unweighted.
CLASSES = "classes"
CLASS_METRICS = ("accuracy", "f1_weighted", "f1_macro")


@dataclass(frozen=True)
class Figure:
    """A metric's value over n clips; None where it is not defined (no clips, or a constant for a correlation)."""

    value: float | None
    n: int


def scale_of(label_range: tuple[float, float], classes: Sequence[str] = ()) -> str:
    """`sims` for labels in [-1, 1], which are judged as CH-SIMS's are; `mosi` for other sentiments; `classes`."""
    if classes:
        return CLASSES
    return "sims" if tuple(label_range) == (-1.0, 1.0) else "mosi"


def metric_names(scale: str) -> tuple[str, ...]:
    """The metrics on a scale, in their order."""
    if scale == CLASSES:
        return CLASS_METRICS
    if not isinstance(scale, str) or scale not in SCALES:
        raise ValueError(f"scale: {scale!r} is unknown; allowed: {', '.join((*SCALES, CLASSES))}")
    return SCALES[scale]


def figures(prediction: ArrayLike, truth: ArrayLike, scale: str) -> dict[str, Figure]:
    """The metrics of a scale: of sentiments (n,), or of the classes' probabilities (n, C) where it is `classes`."""
    if scale == CLASSES:
        return class_figures(np.argmax(_floats("prediction", prediction), axis=1), truth)
    return sentiment_figures(prediction, truth, scale)


def class_figures(prediction: ArrayLike, truth: ArrayLike) -> dict[str, Figure]:
    """Accuracy, weighted and unweighted F1 (scikit-learn's) of class indices (n,), predicted and true."""
    p, t = _indices(prediction, truth)
    kinds = {name: name.removeprefix("f1_") for name in CLASS_METRICS[1:]}
    return {"accuracy": _accuracy(p, t)} | {
        name: Figure(float(f1_score(t, p, average=kind, zero_division=0)) if len(t) else None, len(t))
        for name, kind in kinds.items()
    }


def confusion(prediction: ArrayLike, truth: ArrayLike, count: int) -> np.ndarray:
    """(count, count) clips of each true class, a row, by what was predicted, a column."""
    p, t = _indices(prediction, truth)
    if any(((x < 0) | (x >= count)).any() for x in (p, t)):
        raise ValueError(f"classes: indices from 0 to {count - 1} are allowed")
    return confusion_matrix(t, p, labels=range(count)) if len(t) else np.zeros((count, count), dtype=int)


def _indices(prediction: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    p, t = _floats("prediction", prediction), _floats("truth", truth)
    if p.shape != t.shape or p.ndim != 1:
        raise ValueError(f"predictions have shape {p.shape}, labels {t.shape}; two equal (n,) are needed")
    for name, x in (("prediction", p), ("truth", t)):
        if (odd := x[x != np.rint(x)]).size:
            raise ValueError(f"{name}: {odd[0]} is no index of a class")
    return p.astype(np.int64), t.astype(np.int64)


def sentiment_metrics(prediction: ArrayLike, truth: ArrayLike, scale: str = "mosi") -> dict[str, float | None]:
    """The values of `sentiment_figures`: predictions (n,) first, then labels (n,)."""
    return {name: figure.value for name, figure in sentiment_figures(prediction, truth, scale).items()}


def sentiment_figures(prediction: ArrayLike, truth: ArrayLike, scale: str = "mosi") -> dict[str, Figure]:
    """All metrics of predictions (n,) against labels (n,).

    Classes are told apart in each input's own precision, as MMSA does: a label of .1 lies in the class that ends at .1
    in single as in double precision. Means and correlations are taken in double.
    """
    if scale == CLASSES:
        raise ValueError(f"scale: {scale!r} is none of sentiments; allowed: {', '.join(SCALES)}")
    names = metric_names(scale)
    p, t = _floats("prediction", prediction), _floats("truth", truth)
    if p.shape != t.shape or p.ndim != 1:
        raise ValueError(f"predictions have shape {p.shape}, labels {t.shape}; two equal (n,) are needed")
    figures = _sims(p, t) if scale == "sims" else _mosi(p, t)
    return {name: figures[name] for name in names}


def _floats(name: str, values: ArrayLike) -> np.ndarray:
    x = np.asarray(values)
    x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
    wrong = x[~np.isfinite(x)]
    if len(wrong):
        raise ValueError(f"{name}: {wrong[0]} is not finite; all values must be")
    return x


def _mosi(p: np.ndarray, t: np.ndarray) -> dict[str, Figure]:
    told = t != 0
    return {
        "mae": _mae(p, t),
        "corr": _corr(p, t),
        "acc2": _accuracy(p[told] > 0, t[told] > 0),
        "f1": _weighted_f1(p[told] > 0, t[told] > 0),
        "acc2_has0": _accuracy(p >= 0, t >= 0),
        "f1_has0": _weighted_f1(p >= 0, t >= 0),
    } | {
        f"acc{2 * m + 1}": _accuracy(np.round(np.clip(p, -m, m)), np.round(np.clip(t, -m, m))) for m in (1, 2, 3)
    }  # np.round takes halves to even


def _sims(p: np.ndarray, t: np.ndarray) -> dict[str, Figure]:
    p, t = np.clip(p, -1, 1), np.clip(t, -1, 1)
    classes = {name: (_classes(p, edges), _classes(t, edges)) for name, edges in SIMS_EDGES.items()}
    return {
        "mae": _mae(p, t),
        "corr": _corr(p, t),
        "acc2": _accuracy(*classes["acc2"]),
        "f1": _weighted_f1(*classes["acc2"]),
        "acc3": _accuracy(*classes["acc3"]),
        "acc5": _accuracy(*classes["acc5"]),
    }


def _classes(x: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Index of the interval (low, high] each value lies in, the edges rounded as the values are."""
    return np.digitize(x, np.array(edges, dtype=x.dtype), right=True)


def _mae(p: np.ndarray, t: np.ndarray) -> Figure:
    return Figure(float(np.abs(p.astype(np.float64) - t.astype(np.float64)).mean()) if len(t) else None, len(t))


def _corr(p: np.ndarray, t: np.ndarray) -> Figure:
    if len(t) < 2 or np.ptp(p) == 0 or np.ptp(t) == 0:
        return Figure(None, len(t))
    with np.errstate(all="ignore"):  # a spread too small or too large to be squared
        corr = float(np.corrcoef(p.astype(np.float64), t.astype(np.float64))[0, 1])
    return Figure(corr if np.isfinite(corr) else None, len(t))


def _accuracy(p: np.ndarray, t: np.ndarray) -> Figure:
    return Figure(float((p == t).mean()) if len(t) else None, len(t))


def _weighted_f1(p: np.ndarray, t: np.ndarray) -> Figure:
    # Truth first: the other order, found in older code, weights by the predictions and inflates the figure.
    return Figure(float(f1_score(t, p, average="weighted", zero_division=0)) if len(t) else None, len(t))
