"""What class recovered features tell: a linear classifier of one modality's real clips, asked about recovered ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

#: Inverse strengths of the penalty to choose from.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def pooled(latents: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Each channel's mean and standard deviation over the valid frames: (N, D, L) in unit scale and (N, L) to (N, 2 D).

    In unit scale a channel that is constant over time stays small, where scaling would make something of rounding.
    """
    there = valid[:, None].astype(np.float64)
    count = there.sum(axis=2)
    mean = (latents * there).sum(axis=2) / count
    spread = np.sqrt(((latents - mean[:, :, None]) ** 2 * there).sum(axis=2) / count)
    return np.concatenate([mean, spread], axis=1)


@dataclass(frozen=True)
class Probe:
    """Multinomial logistic regression on `pooled` latents."""

    model: LogisticRegression

    @classmethod
    def fit(cls, train: Sequence[np.ndarray], tune: Sequence[np.ndarray]) -> Probe:
        """From (latents (N, D, L), valid (N, L), class indices (N,)) twice; the penalty is chosen on `tune`."""
        (x, y), (seen, wanted) = ((pooled(latents, valid), label) for latents, valid, label in (train, tune))
        fitted = [LogisticRegression(C=strength, max_iter=5000).fit(x, y) for strength in STRENGTHS]
        return cls(max(fitted, key=lambda model: model.score(seen, wanted)))

    def __call__(self, latents: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """The class indices (N,) that it reads out of latents."""
        return self.model.predict(pooled(latents, valid))
