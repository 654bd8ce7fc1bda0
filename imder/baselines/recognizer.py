"""The contract of the models that IMDer is compared with: clips and what is available of them, to a sentiment."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from imder.data.clip import Batch
from imder.modality import MODALITIES


@dataclass(frozen=True)
class Prediction:
    """`value` (B, outputs), and what the model believes each modality was, `imagined` {k: (B, W_k)}, in the space that
    the model's docstring names; empty where a model imagines nothing. Rows that were observed are filled in too."""

    value: Tensor
    imagined: dict[str, Tensor]


@dataclass(frozen=True)
class BaselineConfig:
    """What rebuilds a baseline.

    A subclass adds sizes; `limits` holds the range allowed of each, {field: (low, high)}.
    """

    feature_dims: dict[str, int]
    outputs: int = 1

    limits: ClassVar[dict[str, tuple[float, float]]] = {"outputs": (1, 4096)}

    def __post_init__(self) -> None:
        if not isinstance(self.feature_dims, dict) or set(self.feature_dims) != set(MODALITIES):
            raise ValueError(
                f"feature_dims: {self.feature_dims!r} is not allowed; it must name {', '.join(MODALITIES)}"
            )
        values = {f"feature_dims[{k}]": (v, 1, 65536, int) for k, v in self.feature_dims.items()}
        for f in dataclasses.fields(self):
            if f.name in self.limits:
                kind = int if isinstance(f.default, int) else (int, float)
                values[f.name] = (getattr(self, f.name), *self.limits[f.name], kind)
        for name, (value, low, high, kind) in values.items():
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                what = "a whole number" if kind is int else "a number"
                raise ValueError(f"{name}: {value!r} is not allowed; {what} from {low} to {high} is")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` gives an equal configuration back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises ValueError for an unknown, absent or ill-typed field."""
        names = {f.name for f in dataclasses.fields(cls)}
        if odd := sorted(names ^ set(data)):
            raise ValueError(f"the model configuration has fields absent or unknown: {', '.join(odd)}")
        return cls(**data)


class Recognizer(nn.Module, ABC):
    """A model that predicts from what is available: never reads a feature that `available` says is missing.

    `kind` names it in runs and rows. `whole_videos`: it sees a video's clips together, in order; a batch then holds
    whole videos, told apart by `Batch.videos` and ordered by `Batch.places`.
    """

    kind: ClassVar[str]
    title: ClassVar[str]  # for tables
    about: ClassVar[str]  # a sentence for the model card
    whole_videos: ClassVar[bool] = False
    config: BaselineConfig

    @abstractmethod
    def forward(self, batch: Batch, available: Tensor) -> Prediction:
        """`batch` of standardised features (B, L, F_k), padding 0; `available` (B, 3) bool, a row of at least one True.

        The values of missing modalities have no influence on the result.
        """

    @abstractmethod
    def losses(self, batch: Batch, available: Tensor) -> dict[str, Tensor]:
        """Named losses (B,), not weighted; features of missing modalities may serve as targets here.

        Random layers (dropout) draw from torch's global generator, which the training loop seeds for every update.
        """


def observed(batch: Batch, available: Tensor) -> dict[str, Tensor]:
    """The features with zeros for what is missing: {k: (B, L, F_k)}. Zero is each feature's training mean."""
    there = {k: available[:, i].to(batch.valid.device)[:, None, None] for i, k in enumerate(MODALITIES)}
    return {k: torch.where(there[k], x, 0.0) for k, x in batch.features.items()}  # NaN in a missing row stays out


def grouped(videos: Sequence[str], whole: bool, size: int) -> list[Tensor]:
    """Row numbers of clips, `size` at a time; with `whole` their videos are not cut, so a part may be longer."""
    if not whole:
        return list(torch.arange(len(videos)).split(size))
    rows: dict[str, list[int]] = {}
    for i, video in enumerate(videos):
        rows.setdefault(video, []).append(i)
    parts, waiting = [], []
    for own in rows.values():
        waiting += own
        if len(waiting) >= size:
            parts.append(torch.tensor(waiting))
            waiting = []
    return [*parts, torch.tensor(waiting)] if waiting else parts


@torch.no_grad()
def probe(model: Recognizer) -> list[float]:
    """Numbers in which every part of the prediction has a share, from four fixed clips of two videos."""
    training, length, rows = model.training, 12, 4
    model.eval()
    at = torch.arange(float(rows))[:, None, None]
    features = {
        k: torch.sin(at + torch.arange(float(length))[:, None] * 0.7 + torch.arange(float(width)) * (1.3 + i))
        for i, (k, width) in enumerate((k, model.config.feature_dims[k]) for k in MODALITIES)
    }
    batch = Batch(
        features,
        torch.ones(rows, length, dtype=torch.bool),
        torch.zeros(rows),
        tuple(f"probe{i // 3}$_${i % 3}" for i in range(rows)),
        tuple(f"probe{i // 3}" for i in range(rows)),
        tuple(i % 3 for i in range(rows)),
    )
    available = torch.cat([~torch.eye(3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)])
    found = model(batch, available)
    model.train(training)
    return [*found.value.reshape(rows, -1).mean(1).tolist(), *(float(x.norm()) for x in found.imagined.values())]
