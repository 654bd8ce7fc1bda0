"""The variance-exploding SDE of IMDer: dx = sigma^t dw on t in [eps, 1] (Song et al. 2021, Eq. 9 with this g)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VESDE:
    """`sigma` is the supplement's 25 (Table 1), so std(1) = 9.845. Times are floats or tensors."""

    sigma: float = 25.0
    eps: float = 1e-5  # smallest time of training
    sample_eps: float = 1e-3  # where the published sampler ends

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma > 1):
            raise ValueError(f"sigma is {self.sigma}; it must be a finite number above 1")

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        """f(x, t), zero for a variance-exploding SDE."""
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor | float) -> Tensor:
        """g(t) = sigma^t."""
        return self.sigma ** torch.as_tensor(t, dtype=torch.float32)

    def marginal_std(self, t: Tensor | float) -> Tensor:
        """std of x_t given x_0: sqrt((sigma^(2t) - 1) / (2 ln sigma))."""
        t = torch.as_tensor(t, dtype=torch.float32)
        return torch.sqrt((self.sigma ** (2 * t) - 1.0) / (2.0 * math.log(self.sigma)))

    def std(self, t: float) -> float:
        """`marginal_std` in double precision, for time grids."""
        return math.sqrt(math.expm1(2 * t * math.log(self.sigma)) / (2 * math.log(self.sigma)))

    def time(self, std: float) -> float:
        """The inverse of `std`."""
        if not (math.isfinite(std) and std > 0):
            raise ValueError(f"std is {std}; a noise level is a finite number above 0")
        return math.log1p(2 * math.log(self.sigma) * std * std) / (2 * math.log(self.sigma))

    def perturb(self, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """x_t = x_0 + std(t) z, t of shape (B,)."""
        return x0 + self.marginal_std(t).view(-1, *[1] * (x0.ndim - 1)) * z

    def prior(self, noise: Tensor) -> Tensor:
        """x_1 from standard normal noise, N(0, std(1)^2): it ignores the data, which is small beside it."""
        return noise * self.std(1.0)

    def reverse_drift(self, score: Tensor, x: Tensor, t: float, *, probability_flow: bool = False) -> Tensor:
        """f - g^2 score for the reverse SDE, f - g^2 score / 2 for its ODE (Song et al. 2021, Eq. 6 and 13)."""
        weight = 0.5 if probability_flow else 1.0
        return self.drift(x, t) - weight * self.diffusion(t) ** 2 * score
