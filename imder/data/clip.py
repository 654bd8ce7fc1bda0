"""`Clip`, one utterance, and `Batch`, several of them as tensors with validity masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imder.modality import MODALITIES

#: E_k's kernel is 3, so no sequence in a batch is shorter.
MIN_FRAMES = 3


@dataclass(frozen=True)
class Word:
    """A word with its start and end as fractions of the clip, 0 to 1."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Clip:
    """One utterance: raw-scale features per modality (L_k, F_k) float32, valid frames only, and its label."""

    id: str  # "video$_$index"
    video: str
    index: int
    text: str
    features: dict[str, np.ndarray]
    label: float
    words: tuple[Word, ...] = ()
    sound: Path | None = None
    seconds: float | None = None
    extra: dict[str, float | str] = field(default_factory=dict)  # e.g. speaker, irony, label_text
    absent: tuple[str, ...] = ()  # modalities that nobody has: their features are stand-ins, there is no truth

    def __post_init__(self) -> None:
        for k in MODALITIES:
            if k not in self.features:
                raise ValueError(f"clip {self.id!r}: features of {k!r} are absent; needed: {', '.join(MODALITIES)}")
            x = self.features[k]
            if x.ndim != 2 or 0 in x.shape:
                raise ValueError(
                    f"clip {self.id!r}: {k} has shape {x.shape}; expected (frames, width), both at least 1"
                )
            if not np.isfinite(x).all():
                raise ValueError(f"clip {self.id!r}: {k} holds values that are not finite")

    @property
    def lengths(self) -> dict[str, int]:
        """Valid frames of each modality."""
        return {k: len(self.features[k]) for k in MODALITIES}


@dataclass(frozen=True)
class Batch:
    """B clips on L shared frames: features[k] (B, L, F_k), valid (B, L) bool, label (B,).

    `videos` and `places` say which video a clip is of and its place in it.
    """

    features: dict[str, Tensor]
    valid: Tensor
    label: Tensor
    ids: tuple[str, ...]
    videos: tuple[str, ...]
    places: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def complete(self) -> Tensor:
        """(B, 3) bool, everything available."""
        return torch.ones(len(self), len(MODALITIES), dtype=torch.bool)


def resample(x: np.ndarray, frames: int) -> np.ndarray:
    """(L, F) to (frames, F) by linear interpolation over the whole length (ours: the paper is silent)."""
    if len(x) == frames:
        return x
    at = np.linspace(0, len(x) - 1, frames)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(x) - 1)
    part = (at - low)[:, None].astype(x.dtype)
    return x[low] * (1 - part) + x[high] * part


def shared_frames(lengths: Mapping[str, int], frames: int = 50) -> int:
    """The frames on which `collate` lays a clip of those lengths."""
    found = set(lengths.values())
    return max(found.pop(), MIN_FRAMES) if len(found) == 1 else frames


def collate(clips: Sequence[Clip], frames: int = 50) -> Batch:
    """Stacks clips on one time axis.

    A clip whose modalities share a length keeps it; otherwise each modality is resampled to `frames`.
    Shorter clips are padded with zeros on the right and masked; a clip below three frames is resampled to three.
    """
    if not clips:
        raise ValueError("collate: no clips given; at least one is needed")
    shared = []
    for clip in clips:
        target = shared_frames(clip.lengths, frames)
        shared.append({k: resample(clip.features[k], target) for k in MODALITIES})
    longest = max(len(rows[MODALITIES[0]]) for rows in shared)
    valid = torch.zeros(len(clips), longest, dtype=torch.bool)
    features = {k: torch.zeros(len(clips), longest, shared[0][k].shape[1]) for k in MODALITIES}
    for i, rows in enumerate(shared):
        for k in MODALITIES:
            if rows[k].shape[1] != features[k].shape[2]:
                raise ValueError(
                    f"clip {clips[i].id!r}: {k} has width {rows[k].shape[1]}, the first clip has {features[k].shape[2]}"
                )
            features[k][i, : len(rows[k])] = torch.from_numpy(np.ascontiguousarray(rows[k], dtype=np.float32))
        valid[i, : len(rows[MODALITIES[0]])] = True
    label = torch.tensor([clip.label for clip in clips], dtype=torch.float32)
    names = [(clip.id, clip.video, clip.index) for clip in clips]
    return Batch(features, valid, label, *(tuple(column) for column in zip(*names, strict=True)))
