"""How unlike the training clips a voice or a face is as a whole: the way it speaks or moves, not what it says."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from imder.data.dataset import FeatureSet

#: Added to a feature's deviation over time before its logarithm, and to the diagonal of the covariance.
FLAT, RIDGE = 0.05, 1e-3


class Likeness:
    """Mean and spread over time of each feature (2F numbers a clip), and their Mahalanobis distance to training clips.

    A value that is an ordinary one in every feature can still be one that no training clip combines: the covariance
    tells that, the check of single values does not.
    """

    def __init__(self, data: FeatureSet, k: str) -> None:
        train, held = (
            [clip.features[k] for clip in data.split(split) if k not in clip.absent]
            for split in (data.splits[0], data.splits[-1])
        )
        frames = np.concatenate(train)
        self.mean, self.std = frames.mean(axis=0), frames.std(axis=0).clip(min=1e-6)
        rows = np.stack([self._summary(x) for x in train])
        self.centre = rows.mean(axis=0)
        covariance = np.cov(rows.T) + RIDGE * np.eye(rows.shape[1])
        self.precision = np.linalg.inv(covariance)
        self.held = np.sort([self.distance(x) for x in held])

    def _summary(self, x: np.ndarray) -> np.ndarray:
        z = (x.astype(np.float64) - self.mean) / self.std
        return np.concatenate([z.mean(axis=0), np.log(z.std(axis=0) + FLAT)])

    def distance(self, x: np.ndarray) -> float:
        """Of raw features (L, F), in standard deviations a number: about 1 for a training clip."""
        off = self._summary(x) - self.centre
        return float(np.sqrt(off @ self.precision @ off / len(off)))

    def farther(self, x: np.ndarray) -> float:
        """The share of held-out clips that are nearer to the training clips, 0 to 1."""
        return float((self.held < self.distance(x)).mean())


@lru_cache(8)
def likeness(data: FeatureSet, k: str) -> Likeness:
    """The `Likeness` of a modality of a data set, made once."""
    return Likeness(data, k)
