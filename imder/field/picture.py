"""What a drawn field has in common: a window that follows the noise, the density in it, arrows on a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

#: Cells a side of the density, nats below its maximum at which it is cut off.
CELLS, FLOOR = 48, 9.0
#: Half the window, in standard deviations of the noised cloud along the axis where that is widest.
REACH = 2.8


@dataclass(frozen=True)
class Picture:
    """S states of a reverse path, from noise to data; the last has t = std = 0 and no field."""

    t: np.ndarray  # (S,)
    std: np.ndarray  # (S,) in the plane's own units, along its first axis
    centre: np.ndarray  # (2,) of every window
    reach: np.ndarray  # (S,) half width of the window
    density: np.ndarray  # (S, CELLS, CELLS) log density less its maximum, from -FLOOR to 0; rows are the second axis
    cloud: np.ndarray  # (N, 2) what the density is made of
    fields: tuple[int, ...]  # the states that get arrows


@dataclass(frozen=True)
class Arrows:
    """std^2 score = E[x0 | x_t] - x_t in the plane, at the points of `grid` in the window of a state."""

    index: int
    values: np.ndarray  # (side, side, 2)


def grid(centre: np.ndarray, reach: float, side: int) -> np.ndarray:
    """(side, side, 2) points at the middles of the window's cells; the row is the second coordinate, ascending."""
    offsets = (2 * np.arange(side) + 1) / side - 1
    x, y = np.meshgrid(centre[0] + reach * offsets, centre[1] + reach * offsets)
    return np.stack([x, y], axis=-1)


def log_density(
    at: np.ndarray, points: np.ndarray, covariance: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """ln sum_i w_i N(at; points_i, covariance) for `at` (..., 2), points (N, 2), covariance (2, 2); equal weights."""
    factor = np.linalg.cholesky(covariance)
    a, p = (np.linalg.solve(factor, x.reshape(-1, 2).T).T for x in (np.asarray(at), np.asarray(points)))
    squared = ((a[:, None] - p) ** 2).sum(-1)  # (A, N)
    share = np.full(len(p), 1 / len(p)) if weights is None else np.asarray(weights)
    log = logsumexp(-squared / 2, b=share, axis=1) - math.log(2 * math.pi) - np.log(np.diag(factor)).sum()
    return log.reshape(np.shape(at)[:-1])


def relative_density(
    points: np.ndarray,
    covariances: Sequence[np.ndarray],
    centre: np.ndarray,
    reach: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """`Picture.density` of `points` blurred by a covariance for each state.

    A blur narrower than a cell would fall between the cells' middles, so none is drawn sharper than one cell.
    """
    rows = []
    for covariance, half in zip(covariances, reach, strict=True):
        values, vectors = np.linalg.eigh(covariance)
        blur = vectors @ np.diag(np.maximum(values, (2 * half / CELLS) ** 2)) @ vectors.T
        row = log_density(grid(centre, half, CELLS), points, blur, weights)
        rows.append(np.maximum(row - row.max(), -FLOOR))
    return np.stack(rows).astype(np.float32)


def window(points: np.ndarray, covariances: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Centre (2,) and half widths (S,) of the windows of points (N, 2) noised with each covariance."""
    spread = np.cov(points.T, bias=True) if len(points) > 1 else np.zeros((2, 2))
    return points.mean(0), np.array([REACH * math.sqrt(np.linalg.eigvalsh(spread + c)[-1]) for c in covariances])
