"""What a sampler hands out, and a record of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor


class Estimate(NamedTuple):
    """One network evaluation: the score and the denoised estimate E[x0 | x_t] = x_t + std^2 score (Tweedie)."""

    score: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class Step:
    """A point of the reverse path: the state x at noise level std, and what was estimated there.

    The last step has std 0 and carries the result as `x` and as `denoised`.
    """

    index: int
    total: int
    t: float
    std: float
    x: Tensor  # (B, D, L)
    denoised: Tensor  # (B, D, L)
    score: Tensor | None
    nfe: int

    @property
    def last(self) -> bool:
        return self.index == self.total


def displayed(total: int, limit: int) -> np.ndarray:
    """Indices of at most `limit` of the steps 0..total, the first and the last always among them."""
    if limit < 2:
        raise ValueError(f"displayed steps: {limit}; at least 2 are needed (the first and the last)")
    return np.unique(np.linspace(0, total, min(limit, total + 1)).round().astype(int))


def final(steps: Iterable[Step]) -> Step:
    """Runs a sampler to its end and keeps the last step."""
    step = None
    for step in steps:  # noqa: B007
        pass
    if step is None:
        raise ValueError("the sampler yielded no step")
    return step
