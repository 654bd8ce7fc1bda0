"""Missing-modality protocols: which modalities of each clip are available, drawn per clip id.

`rate` is the share of modalities that are missing over all clips, the field's missing rate MR = missing / (3 N).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from imder.modality import MODALITIES, PATTERNS, ordered, to_mask

#: With one of three modalities left, no more than this can be missing.
MAX_RATE = 2 / 3


def realised_rate(masks: np.ndarray) -> float:
    """The share of modalities that (N, 3) `available` masks leave out; for few clips by chance off the nominal one."""
    return float(1 - np.asarray(masks, dtype=bool).mean())


@dataclass(frozen=True)
class FixedMissing:
    """The same modalities are available in every clip."""

    available: tuple[str, ...]

    def __post_init__(self) -> None:
        have = ordered(self.available)
        if not have:
            raise ValueError(f"available: nothing is left; at least one of {', '.join(MODALITIES)} must be available")
        object.__setattr__(self, "available", have)

    @property
    def rate(self) -> float:
        """The nominal missing rate."""
        return 1 - len(self.available) / len(MODALITIES)

    def masks(self, ids: Iterable[str]) -> np.ndarray:
        """(N, 3) bool, True where available."""
        return np.tile(to_mask(self.available), (len(list(ids)), 1))

    realised = staticmethod(realised_rate)


@dataclass(frozen=True)
class RandomMissing:
    """Each modality of a clip is dropped with one probability, given that one at least stays.

    A clip's mask depends on the seed and its id alone, so neither order nor neighbours change it. rate: in [0, 2/3];
    0.7, as the field writes it, is 2/3: exactly one modality left.
    """

    rate: float
    seed: int = 0
    _cumulated: np.ndarray = field(init=False, repr=False, compare=False)  # probabilities of PATTERNS

    def __post_init__(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, (int, float)) or not self._allowed(self.rate):
            raise ValueError(
                f"missing rate: {self.rate!r} is not allowed; a number from 0 to 2/3 is, and 0.7 for one modality left"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ValueError(f"seed: {self.seed!r} is not allowed; an integer is")
        weights = [pattern_probability(self.rate, len(pattern)) for pattern in PATTERNS]
        object.__setattr__(self, "_cumulated", np.cumsum(weights))

    @staticmethod
    def _allowed(rate: float) -> bool:
        return 0 <= rate <= MAX_RATE or math.isclose(rate, 0.7)

    def masks(self, ids: Iterable[str]) -> np.ndarray:
        """(N, 3) bool, True where available."""
        draws = np.array([_uniform(self.seed, clip_id) for clip_id in ids])
        rows = np.searchsorted(self._cumulated, draws * self._cumulated[-1], side="right")
        return np.array([to_mask(pattern) for pattern in PATTERNS])[rows]

    realised = staticmethod(realised_rate)


def pattern_probability(rate: float, left: int) -> float:
    """The probability of one pattern that leaves `left` modalities, at an expected missing rate.

    Dropping each with p and refusing the empty pattern, the expected rate is (p + p^2) / (1 + p + p^2); solved for p.
    """
    ratio = min(rate, MAX_RATE) / (1 - min(rate, MAX_RATE))
    p = (math.sqrt(1 + 4 * ratio) - 1) / 2
    # p^(3-left) (1-p)^left / (1 - p^3), a factor 1 - p cancelled so that p = 1 is no special case
    return p ** (3 - left) * (1 - p) ** (left - 1) / (1 + p + p * p)


def shares(masks: np.ndarray) -> dict[int, float]:
    """The share of clips that have 3, 2 and 1 modalities."""
    counts = np.asarray(masks, dtype=bool).sum(axis=1)
    return {n: float((counts == n).mean()) for n in (3, 2, 1)}


def _uniform(seed: int, clip_id: str) -> float:
    digest = hashlib.blake2b(f"{seed}:{clip_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # [0, 1)
