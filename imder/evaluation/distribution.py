"""Recovered against real as distributions: energy distance, sliced Wasserstein distance, coverage of intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from imder.data.clip import resample

DIRECTIONS = 32  # of the PCA in which the distances are taken
SLICES = 256
HALVINGS = 20


def flatten(latents: np.ndarray, valid: np.ndarray, frames: int) -> np.ndarray:
    """Latents (N, D, L) of valid frames (N, L) to (N, frames * D), clips of another length resampled."""
    rows = [resample(z.T[there], frames).ravel() for z, there in zip(latents, valid, strict=True)]
    return np.stack(rows) if rows else np.zeros((0, frames * latents.shape[1]), dtype=np.float32)


@dataclass(frozen=True)
class Projection:
    """The leading principal directions of the training clips; coordinates keep their scale."""

    mean: np.ndarray  # (P,)
    directions: np.ndarray  # (at most 32, P)

    @classmethod
    def fit(cls, flat: np.ndarray) -> Projection:
        """From flattened training clips (N, P)."""
        count = min(DIRECTIONS, *flat.shape)
        pca = PCA(count, svd_solver="full" if max(flat.shape) <= 500 else "randomized", random_state=0).fit(flat)
        return cls(pca.mean_, pca.components_)

    def __call__(self, flat: np.ndarray) -> np.ndarray:
        """(N, P) to (N, directions)."""
        return (flat - self.mean) @ self.directions.T


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, M) Euclidean distances."""
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.sqrt(np.maximum(squared, 0))


def energy_distance(x: np.ndarray, y: np.ndarray) -> float | None:
    """2 E|X-Y| - E|X-X'| - E|Y-Y'| (Székely and Rizzo 2013) of two samples (N, P), (M, P).

    Without bias: pairs of a point with itself are left out, so equal distributions give values around 0, also below.
    None for fewer than two points on a side.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        return None
    x, y = x.astype(np.float64), y.astype(np.float64)
    within_x = (_off_diagonal(_distances(x, x))) / (n * (n - 1))
    within_y = (_off_diagonal(_distances(y, y))) / (m * (m - 1))
    return float(2 * _distances(x, y).mean() - within_x - within_y)


def _off_diagonal(d: np.ndarray) -> float:
    return float(d.sum() - np.trace(d))


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float | None:
    """Root mean W2^2 over 256 fixed random directions (Bonneel et al. 2015); it is above 0 for any finite samples.

    Samples of different sizes are compared at the quantiles of the smaller one.
    """
    if min(len(x), len(y)) < 2:
        return None
    slices = np.random.default_rng(seed).standard_normal((SLICES, x.shape[1]))
    slices /= np.linalg.norm(slices, axis=1, keepdims=True)
    at = (np.arange(min(len(x), len(y))) + 0.5) / min(len(x), len(y))
    quantiles = [np.quantile(points @ slices.T, at, axis=0, method="hazen") for points in (x, y)]  # (n, SLICES)
    return float(np.sqrt(((quantiles[0] - quantiles[1]) ** 2).mean()))


@dataclass(frozen=True)
class Floor:
    """What a distance gives for real against real: mean and standard deviation over random halvings."""

    value: float | None
    noise: float | None


def halves_floor(distance: Callable[[np.ndarray, np.ndarray], float | None], x: np.ndarray, seed: int = 0) -> Floor:
    """`distance` between two random halves of the clips (N, P), over 20 halvings."""
    rng, half = np.random.default_rng(seed), len(x) // 2
    if half < 2:
        return Floor(None, None)
    values = []
    for _ in range(HALVINGS):
        order = rng.permutation(len(x))
        values.append(distance(x[order[:half]], x[order[half : 2 * half]]))
    return Floor(float(np.mean(values)), float(np.std(values)))


def sample_floor(
    distance: Callable[[np.ndarray, np.ndarray], float | None], x: np.ndarray, count: int, seed: int = 0
) -> Floor:
    """`distance` between `count` random clips of (N, P) and the others, 20 times: what a small set is held to."""
    rng = np.random.default_rng(seed)
    if count < 2 or len(x) - count < 2:
        return Floor(None, None)
    values = []
    for _ in range(HALVINGS):
        order = rng.permutation(len(x))
        values.append(distance(x[order[:count]], x[order[count:]]))
    return Floor(float(np.mean(values)), float(np.std(values)))


def covered(draws: np.ndarray, truth: np.ndarray, level: float = 0.9) -> np.ndarray:
    """Whether each true value lies between the outer quantiles of its draws: (N, ...) and (...) to (...) bool."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return (truth >= low) & (truth <= high)


def exact_coverage(draws: int, level: float = 0.9) -> float:
    """The share that `covered` gives on average for exact draws; below `level`, since few draws span too little.

    Truth and draws are exchangeable, so the truth lies in each of the n + 1 gaps equally often; the linearly
    interpolated quantile q stands at (n - 1) q + 1 of them. Exact for uniform values; a normal's long outer gaps add
    .005 at 32 draws and .02 at 8.
    """
    return level * (draws - 1) / (draws + 1)
