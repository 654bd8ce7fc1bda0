"""The best linear-Gaussian denoiser given what is observed: the skip of the `corrected` score.

Along time the latents are nearly stationary, so the discrete cosine transform takes their correlation over frames
apart: at each frequency the three modalities' channels are one Gaussian of 3 D dimensions. For a target k and observed
modalities o its conditional has the mean C_ko C_oo^-1 c and the covariance C_kk - C_ko C_oo^-1 C_ok, and the denoiser
of x = x0 + std z is the Wiener filter of that Gaussian. The score network learns what is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from imder.modality import MODALITIES, ordered

#: Share of each frequency's covariance taken from its neighbours, and of its cross-modal part kept (validation choice).
SMOOTHING = 0.25
RIDGE = 0.02
FLOOR = 1e-4
#: Gaussians kept at a time, the oldest forgotten: 12 a length, 0.6 MB each at 48 frames.
MOST_MADE = 48


@lru_cache(maxsize=16)
def cosine_basis(frames: int, device: torch.device) -> Tensor:
    """(L, L) orthonormal DCT-II, rows are frequencies."""
    n, k = torch.arange(frames, dtype=torch.float64), torch.arange(frames, dtype=torch.float64)[:, None]
    basis = torch.cos(math.pi / frames * (n + 0.5) * k) * math.sqrt(2 / frames)
    basis[0] /= math.sqrt(2)
    return basis.float().to(device)


@dataclass(frozen=True)
class Gaussian:
    """p(x_k | observed) at L frequencies: regression (L, D, |o| D), eigenvectors (L, D, D), variances (L, D)."""

    regression: Tensor | None
    vectors: Tensor
    variances: Tensor

    def error(self, std: Tensor) -> Tensor:
        """Root mean error of the Wiener filter at noise levels std (B,)."""
        var = std[:, None, None] ** 2
        return (self.variances * var / (self.variances + var)).mean(dim=(1, 2)).sqrt()


class LinearGaussian(nn.Module):
    """Covariance over the channels of all modalities at each cosine frequency, (L, 3 D, 3 D), in unit latents."""

    covariance: Tensor

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("covariance", torch.eye(len(MODALITIES) * channels).repeat(frames, 1, 1))
        self._made: dict[tuple[str, tuple[str, ...], int], Gaussian] = {}

    def fit(self, latents: dict[str, Tensor], valid: Tensor) -> None:
        """From training latents (N, D, L) in unit scale with their padding set to zero."""
        frames = self.covariance.shape[0]
        z = torch.cat([latents[k] * valid[:, None] for k in MODALITIES], dim=1)  # (N, 3 D, L)
        if z.shape[2] != frames:
            raise ValueError(f"latents have {z.shape[2]} frames; this model is configured for {frames}")
        c = torch.einsum("fl,ncl->fnc", cosine_basis(frames, z.device), z)
        cov = c.transpose(1, 2) @ c / len(z)
        near = torch.cat([cov[1:2], cov[:-1]]), torch.cat([cov[1:], cov[-2:-1]])
        self.covariance.copy_((1 - SMOOTHING) * cov + SMOOTHING / 2 * (near[0] + near[1]))
        self.reset()

    def reset(self) -> None:
        """Forgets what was derived from an earlier covariance."""
        self._made.clear()

    def _apply(self, *args, **kwargs) -> LinearGaussian:  # a move to another device, too
        self.reset()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.reset()

    def _at(self, frames: int) -> Tensor:
        """The covariance at the frequencies of another length, linear in the frequency (stays positive definite)."""
        own = self.covariance.shape[0]
        if frames == own:
            return self.covariance
        at = (torch.arange(frames, device=self.covariance.device) * own / frames).clamp(max=own - 1)
        low = at.floor().long()
        part = (at - low)[:, None, None].to(self.covariance)
        high = (low + 1).clamp(max=own - 1)
        return self.covariance[low] * (1 - part) + self.covariance[high] * part

    @torch.no_grad()
    def given(self, target: str, observed: tuple[str, ...], frames: int) -> Gaussian:
        """The Gaussian of `target` given `observed` for sequences of `frames` frames."""
        key = (target, ordered(observed), frames)
        found = self._made.get(key)
        if found is None:
            d = self.channels
            where = {k: torch.arange(i * d, (i + 1) * d) for i, k in enumerate(MODALITIES)}
            cov, own = self._at(frames).double(), where[target]
            ckk = cov[:, own[:, None], own]
            regression = None
            if observed:
                seen = torch.cat([where[k] for k in key[1]])
                coo = cov[:, seen[:, None], seen]
                level = coo.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
                coo = coo + RIDGE * level * torch.eye(len(seen)).to(coo)
                cko = cov[:, own[:, None], seen]
                regression = torch.linalg.solve(coo, cko.transpose(1, 2)).transpose(1, 2)
                ckk = ckk - regression @ cko.transpose(1, 2)
            variances, vectors = torch.linalg.eigh((ckk + ckk.transpose(1, 2)) / 2)
            found = Gaussian(
                None if regression is None else regression.float(), vectors.float(), variances.clamp(min=FLOOR).float()
            )
            for old in list(self._made)[: -MOST_MADE + 1]:  # other threads may be doing the same
                self._made.pop(old, None)
            self._made[key] = found
        return found

    def mean(self, gaussian: Gaussian, latents: list[Tensor]) -> Tensor | float:
        """E[x_k | observed] (B, D, L) of observed unit latents, or 0 where nothing is observed."""
        if gaussian.regression is None:
            return 0.0
        basis = cosine_basis(latents[0].shape[2], latents[0].device)
        c = torch.einsum("fl,bcl->bfc", basis, torch.cat(latents, dim=1))
        return torch.einsum("fdc,bfc,fl->bdl", gaussian.regression, c, basis)

    def denoise(self, gaussian: Gaussian, x: Tensor, std: Tensor, mean: Tensor | float) -> Tensor:
        """Wiener filter of x (B, D, L) in unit scale at noise levels std (B,) of that scale, around `mean`."""
        basis = cosine_basis(x.shape[2], x.device)
        c = torch.einsum("bdl,fl,fde->bfe", x - mean, basis, gaussian.vectors)
        var = gaussian.variances[None]
        c = c * (var / (var + std[:, None, None] ** 2))
        return mean + torch.einsum("bfe,fde,fl->bdl", c, gaussian.vectors, basis)
