"""The floors: what fills a missing modality without a generative model. All of them give latents with frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor

from imder.data.clip import resample
from imder.modality import MODALITIES, missing

Latents = dict[str, Tensor]  # k: (B, D, L)

NEIGHBOURS = (1, 5, 10, 20, 40, 80)
COMPONENTS = 64  # principal components in which neighbours are looked for
CONTEXTS = (0, 2, 4)  # frames to either side that ridge regression sees
PENALTIES = tuple(np.logspace(-4, 2, 13))  # in units of the inputs' mean variance


@dataclass(frozen=True)
class Encoded:
    """Clips as the model's latents: latents[k] (N, D, L), valid (N, L) bool, label (N,)."""

    latents: Latents
    valid: Tensor
    label: Tensor
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> Encoded:
        """The clips of those row numbers (B,)."""
        z = {k: x[rows] for k, x in self.latents.items()}
        return Encoded(z, self.valid[rows], self.label[rows], tuple(self.ids[i] for i in rows.tolist()))


def _check(available: tuple[str, ...], latents: Latents) -> None:
    for k in available:
        if k not in latents:
            raise ValueError(f"fill: latents of {k!r} are absent, but it is said to be available")


class ZeroFill:
    """Zeros in E_k's input, that is the mean of the standardised features, encoded."""

    def __init__(self, encode: Callable[[Latents], Latents], feature_dims: dict[str, int]) -> None:
        self.encode = encode
        self.feature_dims = feature_dims

    def __call__(self, latents: Latents, available: tuple[str, ...], valid: Tensor) -> Latents:
        count, frames = valid.shape
        with torch.no_grad():
            z = self.encode({k: torch.zeros(1, frames + 2, width) for k, width in self.feature_dims.items()})
        return {k: z[k].expand(count, -1, -1) * valid[:, None] for k in missing(available)}


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each latent channel over the valid frames of the training clips."""

    mean: dict[str, Tensor]  # (D,)
    std: dict[str, Tensor]

    @classmethod
    def fit(cls, train: Encoded) -> Scale:
        """A constant channel gets the standard deviation 1."""
        mean, std = {}, {}
        for k in MODALITIES:
            rows = train.latents[k].transpose(1, 2)[train.valid].double()  # (sum L, D)
            mean[k], spread = rows.mean(0).float(), rows.std(0, correction=0).float()
            std[k] = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
        return cls(mean, std)

    def apply(self, k: str, z: Tensor, valid: Tensor) -> Tensor:
        """(B, D, L) centred and scaled, padding 0."""
        return (z - self.mean[k][:, None]) / self.std[k][:, None] * valid[:, None]

    def invert(self, k: str, z: Tensor, valid: Tensor) -> Tensor:
        """The inverse of `apply`."""
        return (z * self.std[k][:, None] + self.mean[k][:, None]) * valid[:, None]


class MeanFill:
    """Each channel's mean over the training clips: the feature error of 1 that others are measured by."""

    def __init__(self, train: Encoded) -> None:
        self.scale = Scale.fit(train)

    def __call__(self, latents: Latents, available: tuple[str, ...], valid: Tensor) -> Latents:
        d = len(self.scale.mean[MODALITIES[0]])
        zero = torch.zeros(len(valid), d, valid.shape[1])
        return {k: self.scale.invert(k, zero, valid) for k in missing(available)}


class NeighbourFill:
    """The mean of the nearest training clips' latents, near by the principal components of what is observed.

    How many neighbours is chosen on `tune`. Clips of different lengths are compared and averaged on one time axis.
    """

    def __init__(self, train: Encoded, tune: Encoded) -> None:
        self.scale = Scale.fit(train)
        self.train, self.tune = train, tune
        self.frames = int(train.valid.sum(1).max())
        self._fitted: dict[tuple[str, ...], tuple[PCA, KNeighborsRegressor]] = {}

    def __call__(self, latents: Latents, available: tuple[str, ...], valid: Tensor) -> Latents:
        _check(available, latents)
        pca, model = self._fit(available)
        flat = model.predict(pca.transform(self._flat(latents, available, valid)))
        absent = missing(available)
        z = flat.reshape(len(valid), len(absent), self.frames, -1)  # (B, missing, frames, D)
        result = {}
        for j, k in enumerate(absent):
            out = torch.zeros(len(valid), z.shape[3], valid.shape[1])
            for i, there in enumerate(valid):
                out[i][:, there] = torch.from_numpy(resample(z[i, j], int(there.sum())).T.astype(np.float32))
            result[k] = self.scale.invert(k, out, valid)
        return result

    def _flat(self, latents: Latents, names: tuple[str, ...], valid: Tensor) -> np.ndarray:
        """(B, modalities * frames * D), scaled."""
        parts = []
        for k in names:
            z = self.scale.apply(k, latents[k], valid).transpose(1, 2).numpy()
            rows = [resample(x[there], self.frames).ravel() for x, there in zip(z, valid.numpy(), strict=True)]
            parts.append(np.stack(rows))
        return np.concatenate(parts, axis=1)

    def _fit(self, available: tuple[str, ...]) -> tuple[PCA, KNeighborsRegressor]:
        if available not in self._fitted:
            sides = (available, missing(available))
            seen, wanted = (self._flat(self.train.latents, names, self.train.valid) for names in sides)
            pca = PCA(min(COMPONENTS, *seen.shape), svd_solver="randomized", random_state=0).fit(seen)
            near = pca.transform(seen)
            tune_seen, tune_wanted = (self._flat(self.tune.latents, names, self.tune.valid) for names in sides)
            tune_near = pca.transform(tune_seen)

            def fitted(count: int) -> KNeighborsRegressor:
                return KNeighborsRegressor(count, algorithm="brute").fit(near, wanted)

            counts = sorted({min(count, len(near)) for count in NEIGHBOURS})
            errors = [((fitted(count).predict(tune_near) - tune_wanted) ** 2).mean() for count in counts]
            self._fitted[available] = pca, fitted(counts[int(np.argmin(errors))])
        return self._fitted[available]


class RidgeFill:
    """Ridge regression of each missing frame on the observed ones around it and on the clip's mean and spread.

    One Gram matrix of all modalities' inputs serves every pattern; penalty and context are chosen on `tune`, for each
    pattern and missing modality.
    """

    def __init__(self, train: Encoded, tune: Encoded) -> None:
        self.scale = Scale.fit(train)
        self.channels = train.latents[MODALITIES[0]].shape[1]
        self._train, self._tune = train, tune
        self._weights: dict[tuple[str, tuple[str, ...]], tuple[int, Tensor]] = {}

    def __call__(self, latents: Latents, available: tuple[str, ...], valid: Tensor) -> Latents:
        _check(available, latents)
        result = {}
        for k in missing(available):
            context, weights = self._fit(k, available)
            x = torch.cat([self._inputs(o, latents[o], valid, context) for o in available], dim=2)  # (B, L, P)
            result[k] = self.scale.invert(k, (x @ weights).transpose(1, 2), valid)
        return result

    def _inputs(self, k: str, latents: Tensor, valid: Tensor, context: int) -> Tensor:
        """(B, L, (2 context + 3) D): clip mean and spread, then the frames around each frame, the centre first."""
        z = self.scale.apply(k, latents, valid)  # (B, D, L)
        frames = z.shape[2]
        wide = torch.nn.functional.pad(z, (context, context))
        offsets = sorted(range(-context, context + 1), key=abs)
        around = [wide[:, :, context + o : context + o + frames] for o in offsets]
        count = valid.sum(1).clamp(min=1)[:, None]
        mean = z.sum(2) / count
        spread = ((z**2).sum(2) / count - mean**2).clamp(min=0).sqrt()
        pooled = [x[:, :, None].expand(-1, -1, frames) for x in (mean, spread - 1)]
        return torch.cat([*pooled, *around], dim=1).transpose(1, 2)

    def _gram(self, clips: Encoded) -> np.ndarray:
        """Mean outer product of all modalities' inputs, every clip with the same weight."""
        size = len(MODALITIES) * (2 * max(CONTEXTS) + 3) * self.channels
        gram = np.zeros((size, size))
        for first in range(0, len(clips), 64):
            part = clips.take(torch.arange(first, min(first + 64, len(clips))))
            x = torch.cat([self._inputs(k, part.latents[k], part.valid, max(CONTEXTS)) for k in MODALITIES], dim=2)
            weight = part.valid / part.valid.sum(1, keepdim=True).clamp(min=1)  # (B, L)
            rows = (x * weight.sqrt()[:, :, None])[part.valid]
            gram += (rows.T @ rows).double().numpy()
        return gram / len(clips)

    @cached_property
    def _grams(self) -> tuple[np.ndarray, np.ndarray]:
        return self._gram(self._train), self._gram(self._tune)

    def _columns(self, k: str, context: int) -> np.ndarray:
        """Where the inputs of `k` with that context stand in the Gram matrix."""
        start = MODALITIES.index(k) * (2 * max(CONTEXTS) + 3) * self.channels
        return np.arange(start, start + (2 * context + 3) * self.channels)

    def _fit(self, k: str, available: tuple[str, ...]) -> tuple[int, Tensor]:
        if (k, available) not in self._weights:
            gram, tune = self._grams
            target = self._columns(k, 0)[2 * self.channels :]
            best = np.inf
            for context in CONTEXTS:
                seen = np.concatenate([self._columns(o, context) for o in available])
                values, vectors = np.linalg.eigh(gram[np.ix_(seen, seen)])
                projected = vectors.T @ gram[np.ix_(seen, target)]
                for penalty in PENALTIES:
                    level = penalty * values.mean()
                    weights = vectors @ (projected / (np.maximum(values, 0) + level)[:, None])
                    error = np.sum(weights * (tune[np.ix_(seen, seen)] @ weights - 2 * tune[np.ix_(seen, target)]))
                    if error < best:
                        best = error
                        self._weights[k, available] = context, torch.from_numpy(weights).float()
        return self._weights[k, available]
