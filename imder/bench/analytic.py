"""Three-modality corpora whose conditionals are known: a correlated Gaussian, and a mixture of three such Gaussians.

z_k = A_k w + B_k u_k + noise: factors w shared by modalities and slow, factors u_k of one modality and quicker, noise
white in time. The time covariances are functions of one matrix, so in its eigenvectors (time modes, near to cosines
but not the same) the 3 D channels are an independent Gaussian at each mode: every conditional is exact by L small
solves. The mixture adds one of three mean curves to all modalities at once; its conditional is a reweighted mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imder.modality import MODALITIES, ordered

CORPORA = ("gaussian", "mixture")

#: Correlation of neighbouring frames; shares of a channel's variance that are shared, own, white; shared factors.
RHO, SHARED, OWN, FACTORS = 0.9, 0.6, 0.38, 16
#: Of the mixture: weights of the modes and how many standard deviations they lie apart in each modality.
WEIGHTS = (0.5, 0.3, 0.2)
APART = {"text": 2.0, "audio": 4.0, "vision": 8.0}
CHUNK = 1000

Latents = dict[str, Tensor]


@dataclass(frozen=True)
class Conditional:
    """p(x_k | observed) for B rows, C modes: a mixture with the same covariance, in eigenvector coordinates (L, D)."""

    weights: Tensor  # (B, C) posterior mode shares
    means: Tensor  # (B, C, L, D)
    vectors: Tensor  # (L, D, D) eigenvectors of the channels at each time mode
    variances: Tensor  # (L, D)
    basis: Tensor  # (L, L) time modes as rows

    def rows(self, rows: Tensor) -> Conditional:
        """The conditionals of some rows, repeated where a row is named again."""
        return Conditional(self.weights[rows], self.means[rows], self.vectors, self.variances, self.basis)

    def to(self, device: torch.device | str) -> Conditional:
        """The same on a device."""
        parts = (self.weights, self.means, self.vectors, self.variances, self.basis)
        return Conditional(*(x.to(device) for x in parts))

    def coordinates(self, x: Tensor) -> Tensor:
        """Unit latents (B, D, L) in the eigenvectors, (B, L, D)."""
        return torch.einsum("bdl,fl,fde->bfe", x.double(), self.basis, self.vectors)

    def latents(self, c: Tensor) -> Tensor:
        """The inverse of `coordinates`."""
        return torch.einsum("bfe,fde,fl->bdl", c, self.vectors, self.basis)

    def mean(self) -> Tensor:
        """E[x_k | observed] (B, D, L)."""
        return self.latents(torch.einsum("bc,bcfe->bfe", self.weights, self.means))

    def variance(self) -> Tensor:
        """(B, L, D) variances along the eigenvectors, the spread of the modes included."""
        mean = torch.einsum("bc,bcfe->bfe", self.weights, self.means)
        between = torch.einsum("bc,bcfe->bfe", self.weights, (self.means - mean[:, None]) ** 2)
        return self.variances + between

    def draw(self, generator: torch.Generator) -> Tensor:
        """One exact draw a row, (B, D, L) float32."""
        mode = torch.multinomial(self.weights, 1, generator=generator)[:, 0]
        z = torch.randn(self.means[:, 0].shape, generator=generator, dtype=torch.float64)
        c = self.means[torch.arange(len(mode)), mode] + self.variances.sqrt() * z
        return self.latents(c).float()

    def _responsibilities(self, c: Tensor, scale: float, std: float) -> Tensor:
        total = scale**2 * self.variances + std**2
        distance = ((c[:, None] - scale * self.means) ** 2 / total).sum(dim=(2, 3))
        return torch.softmax(self.weights.log() - distance / 2, dim=1)

    def shares(self, x: Tensor) -> Tensor:
        """(B, C) probabilities of the modes given what is observed and x_k = x; their mean over draws is `weights`."""
        return self._responsibilities(self.coordinates(x), 1.0, 0.0)

    def denoised(self, x: Tensor, std: float, scale: float) -> Tensor:
        """E[scale x_k | x, observed] for x = scale x_k + std z, all (B, D, L)."""
        c = self.coordinates(x)
        share = self._responsibilities(c, scale, std)
        mean = scale * torch.einsum("bc,bcfe->bfe", share, self.means)  # the modes' gain is the same
        gain = scale**2 * self.variances / (scale**2 * self.variances + std**2)
        return self.latents(mean + gain * (c - mean)).to(x.dtype)


@dataclass(frozen=True)
class Corpus:
    """Unit latents: every channel has mean 0 and variance 1 over clips and frames. Calculations are in float64."""

    name: str
    basis: Tensor  # (L, L) orthonormal time modes as rows
    covariance: Tensor  # (L, 3 D, 3 D) of the channels of all modalities at each time mode, within a mode
    means: Tensor  # (C, L, 3 D) of the modes
    weights: Tensor  # (C,)

    @classmethod
    def make(cls, name: str, channels: int = 32, frames: int = 48, seed: int = 0) -> Corpus:
        """The corpus of that name, its loadings drawn from `seed`; raises ValueError naming the ones there are."""
        if name not in CORPORA:
            raise ValueError(f"corpus: {name!r} is unknown; allowed: {', '.join(CORPORA)}")
        rng = np.random.default_rng(seed)
        at = np.arange(frames)
        slow, modes = np.linalg.eigh(RHO ** np.abs(at[:, None] - at))
        slow, modes = slow[::-1], modes.T[::-1]
        quick = np.sqrt(slow) / np.sqrt(slow).mean()
        # A factor is shared by two modalities or, every fourth, by all three: two observed ones say more than one.
        there = np.tile([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]], FACTORS // 4)
        shared = _loadings(rng, channels, there)
        own = _loadings(rng, channels, np.ones((len(MODALITIES), 2 * channels)))
        apart = np.kron(np.eye(len(MODALITIES)), np.ones((channels, channels)))
        covariance = SHARED * slow[:, None, None] * (shared @ shared.T) + OWN * quick[:, None, None] * apart * (
            own @ own.T
        )
        covariance = covariance + (1 - SHARED - OWN) * np.eye(len(shared))
        means = np.zeros((1, frames, len(shared)))
        weights = np.ones(1)
        if name == "mixture":
            weights, means = np.array(WEIGHTS), _curves(covariance, channels)
            means -= np.einsum("c,cfd->fd", weights, means)
        variance = covariance.diagonal(axis1=1, axis2=2).mean(0) + np.einsum("c,cfd->d", weights, means**2) / frames
        std = np.sqrt(variance)
        parts = (modes.copy(), covariance / np.outer(std, std), means / std, weights)
        return cls(name, *map(torch.from_numpy, parts))

    @property
    def channels(self) -> int:
        return self.covariance.shape[1] // len(MODALITIES)

    @property
    def frames(self) -> int:
        return len(self.basis)

    def _part(self, k: str) -> slice:
        start = MODALITIES.index(k) * self.channels
        return slice(start, start + self.channels)

    def sample(self, n: int, seed: int) -> Latents:
        """n clips as {k: (n, D, L)} float32."""
        generator = torch.Generator().manual_seed(seed)
        factor, pieces = torch.linalg.cholesky(self.covariance), []
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            mode = torch.multinomial(self.weights, size, replacement=True, generator=generator)
            z = torch.randn(self.frames, size, factor.shape[1], generator=generator, dtype=torch.float64)
            c = z @ factor.transpose(1, 2) + self.means[mode].transpose(0, 1)  # (L, size, 3 D)
            pieces.append(torch.einsum("fnd,fl->ndl", c, self.basis).float())
        z = torch.cat(pieces)
        return {k: z[:, self._part(k)].contiguous() for k in MODALITIES}

    def given(self, target: str, observed: tuple[str, ...], latents: Latents) -> Conditional:
        """p(target | observed) for the clips `latents` {k: (B, D, L)}; the target's own latents are not read."""
        own, observed = self._part(target), ordered(observed)
        if target in observed:
            raise ValueError(f"target: {target!r} is observed; one of the other modalities is needed")
        rows, cov = len(next(iter(latents.values()))), self.covariance[:, own, own]
        weights = self.weights.expand(rows, -1)
        means = self.means[None, :, :, own].expand(rows, -1, -1, -1)
        if observed:
            seen = torch.cat([torch.arange(s.start, s.stop) for s in map(self._part, observed)])
            factor = torch.linalg.cholesky(self.covariance[:, seen[:, None], seen])
            cross = self.covariance[:, own, seen]  # (L, D, |o| D)
            regression = torch.cholesky_solve(cross.transpose(1, 2), factor).transpose(1, 2)
            z = torch.cat([latents[k] for k in observed], dim=1).double()
            c = torch.einsum("bdl,fl->bfd", z, self.basis)[:, None] - self.means[:, :, seen]  # (B, C, L, |o| D)
            white = torch.linalg.solve_triangular(factor, c.permute(2, 3, 0, 1).flatten(2), upper=False)
            distance = (white**2).sum(dim=(0, 1)).view(rows, -1)
            weights = torch.softmax(self.weights.log() - distance / 2, dim=1)
            means = means + torch.einsum("fde,bcfe->bcfd", regression, c)
            cov = cov - regression @ cross.transpose(1, 2)
        variances, vectors = torch.linalg.eigh((cov + cov.transpose(1, 2)) / 2)
        return Conditional(weights, torch.einsum("bcfd,fde->bcfe", means, vectors), vectors, variances, self.basis)

    def explained(self, target: str, observed: tuple[str, ...]) -> float:
        """The share R^2 of the target's variance within a mode that what is observed explains."""
        nothing = {k: torch.zeros(1, self.channels, self.frames) for k in MODALITIES}
        left = self.given(target, observed, nothing).variances.mean()
        return 1 - float(left / self.given(target, (), nothing).variances.mean())


def _loadings(rng: np.random.Generator, channels: int, there: np.ndarray) -> np.ndarray:
    """(3 D, factors) with rows of norm 1; `there` (3, factors) says which factors a modality has."""
    x = rng.standard_normal((len(MODALITIES) * channels, there.shape[1])) * np.repeat(there, channels, axis=0)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _curves(covariance: np.ndarray, channels: int) -> np.ndarray:
    """(3, L, 3 D) means of the modes: a triangle in each modality's two leading directions at the slowest time mode."""
    means = np.zeros((3, *covariance.shape[:2]))
    for i, k in enumerate(MODALITIES):
        part = slice(i * channels, (i + 1) * channels)
        variances, vectors = np.linalg.eigh(covariance[0, part, part])
        angles = 2 * np.pi * np.arange(3) / 3 + i
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) / np.sqrt(3)  # a distance of 1 from each other
        means[:, 0, part] = APART[k] * (corners * np.sqrt(variances[:-3:-1])) @ vectors[:, :-3:-1].T
    return means
