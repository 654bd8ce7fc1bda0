"""Whether two methods differ: paired bootstrap over clips, all cells of a clip and all clips of a video together.

Every metric is a function of sums over clips, so a resample is a matrix product and no clip is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from imder.evaluation.metrics import CLASS_METRICS, CLASSES, SCALES, SIMS_EDGES

#: Metrics of which less is better.
LOWER = ("mae",)
LEVEL = 0.95

Terms = Callable[[np.ndarray, np.ndarray, str], np.ndarray]  # (C, N), (N,), scale -> (S, C, N)
Formula = Callable[[np.ndarray], np.ndarray]  # sums (S, ...) -> (...)


@dataclass(frozen=True)
class Interval:
    """A figure and its percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Figure of a minus figure of b, its percentile interval, and the share of resamples in which a is better."""

    value: float
    low: float
    high: float
    better: float  # ties count half
    clips: int
    clusters: int

    @property
    def resolved(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0  # neither where there is none (NaN)


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    label: ArrayLike,
    metric: str,
    videos: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    scale: str = "mosi",
) -> Difference:
    """The metric of predictions a minus that of b, (cells, N) or (N,), averaged over cells, with its 95 % interval.

    Clips of a video are drawn together, since they are not independent; without `videos` each clip is by itself.
    What is resampled is clips: neither seeds nor training runs.
    """
    x, y = np.atleast_2d(np.asarray(a, float)), np.atleast_2d(np.asarray(b, float))
    if x.shape != y.shape:
        raise ValueError(f"predictions have shapes {x.shape} and {y.shape}; two equal (cells, clips) are needed")
    (first, second), (all_a, all_b), clusters = _resampled((x, y), label, metric, videos, resamples, seed, scale)
    gap = all_a - all_b
    low, high = _percentiles(gap)
    told = gap[np.isfinite(gap)]
    ahead = -told if metric in LOWER else told
    better = float((ahead > 0).mean() + (ahead == 0).mean() / 2) if len(told) else float("nan")
    return Difference(first - second, low, high, better, x.shape[1], clusters)


def bootstrap(
    prediction: ArrayLike,
    label: ArrayLike,
    metric: str,
    videos: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    scale: str = "mosi",
) -> Interval:
    """The metric of predictions (cells, N) or (N,), averaged over cells, with its interval over resampled clips."""
    x = np.atleast_2d(np.asarray(prediction, float))
    (value,), (resampled,), _ = _resampled((x,), label, metric, videos, resamples, seed, scale)
    return Interval(value, *_percentiles(resampled))


def _resampled(
    predictions: Sequence[np.ndarray],
    label: ArrayLike,
    metric: str,
    videos: Sequence[str] | None,
    resamples: int,
    seed: int,
    scale: str,
) -> tuple[list[float], list[np.ndarray], int]:
    """For each of the predictions the figure and those of the resamples (R,), the same draws for all; the clusters."""
    truth = np.asarray(label, float)
    if metric not in METRICS:
        raise ValueError(f"metric: {metric!r} is unknown; allowed: {', '.join(METRICS)}")
    if scale not in (*SCALES, CLASSES):
        raise ValueError(f"scale: {scale!r} is unknown; allowed: {', '.join((*SCALES, CLASSES))}")
    if (metric in CLASS_METRICS) is not (scale == CLASSES):
        raise ValueError(f"metric: {metric!r} is not defined on the scale {scale!r}")
    if resamples < 1:
        raise ValueError(f"resamples: {resamples!r} is not allowed; a whole number from 1 is")
    count = len(truth)
    if count == 0 or any(x.shape[1] != count for x in predictions) or (videos is not None and len(videos) != count):
        raise ValueError(f"{count} labels do not go with the predictions or videos; one a clip is needed")
    if not (np.isfinite(truth).all() and all(np.isfinite(x).all() for x in predictions)):
        raise ValueError("labels or predictions hold values that are not finite")
    names, member = np.unique(np.arange(count) if videos is None else np.asarray(videos), return_inverse=True)
    order = np.argsort(member, kind="stable")
    firsts = np.searchsorted(member[order], np.arange(len(names)))
    weights = _draws(len(names), resamples, seed)
    terms, formula = METRICS[metric]
    values, resampled = [], []
    for x in predictions:
        by_clip = terms(x, truth, scale)  # (S, C, N)
        by_video = np.add.reduceat(by_clip[..., order], firsts, axis=-1)  # (S, C, V)
        with np.errstate(invalid="ignore", divide="ignore"):
            values.append(float(formula(by_clip.sum(-1)).mean()))
            resampled.append(formula(by_video @ weights.T).mean(0))  # (S, C, V) -> (S, C, R) -> (C, R) -> (R,)
    return values, resampled, len(names)


@lru_cache(maxsize=4)
def _draws(clusters: int, resamples: int, seed: int) -> np.ndarray:
    """How often each cluster is in each resample, (R, clusters)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)


def _percentiles(x: np.ndarray) -> tuple[float, float]:
    """The interval of the resamples in which the figure is defined."""
    told = x[np.isfinite(x)]
    if not len(told):
        return float("nan"), float("nan")
    low, high = np.quantile(told, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


# Metrics as sums -----------------------------------------------------------------------------------------------------


def _mae_terms(x: np.ndarray, truth: np.ndarray, scale: str) -> np.ndarray:
    if scale == "sims":
        x, truth = np.clip(x, -1, 1), np.clip(truth, -1, 1)
    error = np.abs(x - truth)
    return np.stack([error, np.ones_like(error)])


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[0] / sums[1]


def _corr_terms(x: np.ndarray, truth: np.ndarray, scale: str) -> np.ndarray:
    if scale == "sims":
        x, truth = np.clip(x, -1, 1), np.clip(truth, -1, 1)
    # Moments about any fixed point give the same correlation; about the means they lose no digits.
    p = x - x.mean(axis=1, keepdims=True)
    t = np.broadcast_to(truth - truth.mean(), p.shape)
    return np.stack([np.ones_like(p), p, t, p * p, t * t, p * t])


def _correlation(sums: np.ndarray) -> np.ndarray:
    n, p, t, pp, tt, pt = sums
    spread = np.maximum(n * pp - p * p, 0) * np.maximum(n * tt - t * t, 0)
    return (n * pt - p * t) / np.sqrt(spread)


def _classes(x: np.ndarray, metric: str, scale: str) -> np.ndarray:
    """The class of each value by the definitions of `imder.evaluation.metrics`, in single precision as there."""
    x = x.astype(np.float32)
    if scale == "sims":
        return np.digitize(np.clip(x, -1, 1), np.array(SIMS_EDGES[metric], np.float32), right=True)
    if metric == "acc2":
        return (x > 0).astype(int)
    most = int(metric.removeprefix("acc")) // 2
    return np.round(np.clip(x, -most, most))


def _counted(truth: np.ndarray, metric: str, scale: str) -> np.ndarray:
    """Which clips count: a label of 0 is neither class where there are two and the scale is MOSI's."""
    return truth != 0 if (metric, scale) == ("acc2", "mosi") else np.ones(len(truth), bool)


def _accuracy_terms(metric: str) -> Terms:
    def terms(x: np.ndarray, truth: np.ndarray, scale: str) -> np.ndarray:
        if (metric, scale) == ("acc7", "sims"):
            raise ValueError("metric: 'acc7' is not defined on the scale 'sims'; acc5 is")
        told = np.broadcast_to(_counted(truth, metric, scale), x.shape)
        right = _classes(x, metric, scale) == _classes(truth, metric, scale)
        return np.stack([right & told, told]).astype(float)

    return terms


def _f1_terms(x: np.ndarray, truth: np.ndarray, scale: str) -> np.ndarray:
    """The four cells of the confusion matrix of two classes."""
    told = _counted(truth, "acc2", scale)
    positive = _classes(np.ones(1), "acc2", scale)
    p, t = _classes(x, "acc2", scale) == positive, _classes(truth, "acc2", scale) == positive
    return np.stack([p & t & told, p & ~t & told, ~p & t & told, ~p & ~t & told]).astype(float)


def _weighted_f1(sums: np.ndarray) -> np.ndarray:
    """F1 of each class, weighted by the class's clips; 0 where a class is neither there nor predicted."""
    hit, false, missed, right = sums
    high = 2 * hit / np.maximum(2 * hit + false + missed, 1)
    low = 2 * right / np.maximum(2 * right + false + missed, 1)
    return ((hit + missed) * high + (false + right) * low) / sums.sum(0)


def _hit_terms(x: np.ndarray, truth: np.ndarray, scale: str) -> np.ndarray:
    return np.stack([x == truth, np.ones_like(x, bool)]).astype(float)


def _class_terms(x: np.ndarray, truth: np.ndarray, scale: str) -> np.ndarray:
    """Of each class hits, false alarms and misses, class by class."""
    found = []
    for c in range(int(max(x.max(), truth.max())) + 1):
        p, t = x == c, np.broadcast_to(truth == c, x.shape)
        found += [p & t, p & ~t, ~p & t]
    return np.stack(found).astype(float)


def _class_f1(weighted: bool) -> Formula:
    def formula(sums: np.ndarray) -> np.ndarray:
        """The mean F1 of the classes that are there or predicted, weighted by a class's clips or all alike."""
        hit, false, missed = (sums[i::3] for i in range(3))  # (classes, ...)
        f1 = 2 * hit / np.maximum(2 * hit + false + missed, 1)
        weight = hit + missed if weighted else (hit + false + missed > 0).astype(float)
        return (weight * f1).sum(0) / weight.sum(0)

    return formula


METRICS: dict[str, tuple[Terms, Formula]] = {
    "mae": (_mae_terms, _ratio),
    "corr": (_corr_terms, _correlation),
    "acc2": (_accuracy_terms("acc2"), _ratio),
    "f1": (_f1_terms, _weighted_f1),
    "acc5": (_accuracy_terms("acc5"), _ratio),
    "acc7": (_accuracy_terms("acc7"), _ratio),
    "accuracy": (_hit_terms, _ratio),
    "f1_weighted": (_class_terms, _class_f1(True)),
    "f1_macro": (_class_terms, _class_f1(False)),
}
