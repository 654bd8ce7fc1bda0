"""A split as tensors on one time axis; what is too large for the memory lies in a file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imder.data.clip import collate, shared_frames
from imder.data.dataset import SomeClips
from imder.data.standardise import Standardiser
from imder.modality import MODALITIES

#: Clips at a time where nothing is learnt.
CHUNK = 100
#: Bytes from which a tensor lies in a file.
LARGE = 1 << 30
#: Frames that are brought into double precision together.
FRAMES = 80_000


@dataclass(frozen=True)
class Part:
    """A split as tensors on one time axis: values[k] (N, L, F_k) features or (N, D, L) latents, valid (N, L)."""

    values: dict[str, Tensor]
    valid: Tensor
    label: Tensor
    ids: tuple[str, ...]
    time: int  # which axis of the values is time

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: str) -> Part:
        """The same on a device."""
        values = {k: x.to(device) for k, x in self.values.items()}
        return Part(values, self.valid.to(device), self.label.to(device), self.ids, self.time)

    def rows(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """(values, valid, label) of some clips, cut to the longest of them."""
        valid = self.valid[rows]
        frames = int(valid.sum(1).max())
        values = {k: x[rows].narrow(self.time, 0, frames) for k, x in self.values.items()}
        return values, valid[:, :frames], self.label[rows]

    def chunks(self) -> Iterator[Tensor]:
        """Row numbers in order, `CHUNK` at a time."""
        yield from torch.arange(len(self)).split(CHUNK)


@dataclass(frozen=True)
class Draws:
    """Recoveries: rows (N,) into a split, available (N, 3), values[k] (N, D, L), the true ones where available."""

    rows: Tensor
    available: Tensor
    values: dict[str, Tensor]

    def to(self, device: str) -> Draws:
        """The same with its values on a device."""
        return Draws(self.rows, self.available, {k: z.to(device) for k, z in self.values.items()})


def zeros(shape: tuple[int, ...], folder: Path) -> Tensor:
    """Zeros of that shape; large ones in a nameless file of `folder`, which the system may take out of the memory."""
    if math.prod(shape) * 4 < LARGE:
        return torch.zeros(shape)
    with tempfile.TemporaryFile(dir=folder) as file:  # the map keeps it until it is dropped
        made = np.memmap(file, np.float32, "w+", shape=shape)
    return torch.from_numpy(made)


def features_of(clips: SomeClips, standardiser: Standardiser, folder: Path) -> Part:
    """The clips' standardised features (N, L, F_k), read some clips at a time."""
    frames = max(shared_frames(lengths) for lengths in clips.lengths)
    values = {k: zeros((len(clips), frames, len(standardiser.mean[k])), folder) for k in MODALITIES}
    valid = torch.zeros(len(clips), frames, dtype=torch.bool)
    labels, ids = [], []
    for first in range(0, len(clips), CHUNK):
        batch = standardiser.apply(collate(clips[first : first + CHUNK]))
        rows, length = slice(first, first + len(batch)), batch.valid.shape[1]
        for k, x in batch.features.items():
            values[k][rows, :length] = x
        valid[rows, :length] = batch.valid
        labels.append(batch.label)
        ids += batch.ids
    return Part(values, valid, torch.cat(labels), tuple(ids), 1)


def blocks(valid: Tensor) -> Iterator[Tensor]:
    """Row numbers of clips (N, L) in order, `FRAMES` frames at a time."""
    yield from torch.arange(len(valid)).split(max(1, FRAMES // valid.shape[1]))
