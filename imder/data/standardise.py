"""`Standardiser`: per-feature mean and deviation of the training clips, stored with the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from imder.data.clip import Batch, Clip
from imder.modality import MODALITIES

Array = TypeVar("Array", np.ndarray, torch.Tensor)

#: A feature whose deviation is below this share of its mean, or of the modality's median deviation, is constant: it
#: becomes 0, not amplified rounding. (A channel of all-MiniLM-L6-v2 deviates by 7e-9, the others by 0.4.)
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Standardiser:
    """x to (x - mean) / std, for each modality k: mean[k], std[k] (F_k,) float32; std is 1 for a constant feature."""

    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        for k in MODALITIES:
            for name, values in (("mean", self.mean), ("std", self.std)):
                if k not in values or values[k].ndim != 1 or not len(values[k]) or not np.isfinite(values[k]).all():
                    raise ValueError(f"standardiser: {name} of {k} is not a list of finite numbers, one a feature")
            if len(self.mean[k]) != len(self.std[k]) or not (self.std[k] > 0).all():
                raise ValueError(f"standardiser: std of {k} must be above 0 and as long as its mean")

    @classmethod
    def fit(cls, clips: Iterable[Clip]) -> Standardiser:
        """Over the valid frames of these clips (the training split), in one pass.

        A modality that is absent from all of them is left as it is: its stand-ins are zeros.
        """
        count = dict.fromkeys(MODALITIES, 0)
        mean: dict[str, np.ndarray] = {}
        squares: dict[str, np.ndarray] = {}  # sum of squared deviations (Chan et al. 1983)
        width: dict[str, int] = {}
        for clip in clips:
            for k in MODALITIES:
                width[k] = clip.features[k].shape[1]
                if k in clip.absent:
                    continue
                x = clip.features[k].astype(np.float64)
                n, m = len(x), x.mean(axis=0)
                s = ((x - m) ** 2).sum(axis=0)
                if count[k]:
                    total, delta = count[k] + n, m - mean[k]
                    squares[k] = squares[k] + s + delta**2 * (count[k] * n / total)
                    mean[k] = mean[k] + delta * (n / total)
                else:
                    mean[k], squares[k] = m, s
                count[k] += n
        if not any(count.values()):
            raise ValueError("standardiser: no clips given; at least one is needed")
        for k in MODALITIES:
            if not count[k]:
                mean[k] = squares[k] = np.zeros(width[k])
                count[k] = 1
        std = {k: np.sqrt(squares[k] / count[k]) for k in MODALITIES}
        for k in MODALITIES:
            least = _CONSTANT * (np.abs(mean[k]) + max(_CONSTANT, float(np.median(std[k]))))
            std[k] = np.where(std[k] > least, std[k], 1)
        return cls(
            {k: mean[k].astype(np.float32) for k in MODALITIES}, {k: std[k].astype(np.float32) for k in MODALITIES}
        )

    def apply(self, batch: Batch) -> Batch:
        """The batch standardised; padded frames stay 0."""
        features = {k: self.forward(k, x) * batch.valid[..., None].to(x.dtype) for k, x in batch.features.items()}
        return replace(batch, features=features)

    def forward(self, k: str, x: Array) -> Array:
        """Raw features (..., F_k) of modality k, standardised."""
        mean, std = self._like(k, x)
        return (x - mean) / std

    def invert(self, k: str, x: Array) -> Array:
        """Standardised features (..., F_k) of modality k, back in their raw scale."""
        mean, std = self._like(k, x)
        return x * std + mean

    def _like(self, k: str, x: Array) -> tuple[Array, Array]:
        if k not in MODALITIES:
            raise ValueError(f"standardiser: {k!r} is not a modality; allowed: {', '.join(MODALITIES)}")
        if x.shape[-1] != len(self.mean[k]):
            raise ValueError(f"standardiser: {k} has width {x.shape[-1]}, it was fitted on {len(self.mean[k])}")
        if isinstance(x, torch.Tensor):
            return torch.from_numpy(self.mean[k]).to(x), torch.from_numpy(self.std[k]).to(x)
        return self.mean[k], self.std[k]

    def to_json(self) -> dict[str, dict[str, list[float]]]:
        """Lists of floats, exact for float32."""
        return {k: {"mean": self.mean[k].tolist(), "std": self.std[k].tolist()} for k in MODALITIES}

    @classmethod
    def from_json(cls, value: Any) -> Standardiser:
        """The inverse of `to_json`; anything else is a ValueError."""
        mean, std = {}, {}
        for k in MODALITIES:
            for name, into in (("mean", mean), ("std", std)):
                numbers = (
                    value.get(k, {}).get(name) if isinstance(value, dict) and isinstance(value.get(k), dict) else None
                )
                if not isinstance(numbers, list) or not all(type(v) in (int, float) for v in numbers):
                    raise ValueError(f"standardiser: {name} of {k} is not a list of numbers")
                into[k] = np.array([v if abs(v) < 1e38 else np.inf for v in numbers], dtype=np.float32)
        return cls(mean, std)
