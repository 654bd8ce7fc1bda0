"""IMDer's own encoders and fusion without any recovery.

One network that learnt with modalities dropped, the strongest simple baseline; and one network for each set of
modalities, what no sharing would give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from imder.baselines.recognizer import BaselineConfig, Prediction, Recognizer, observed
from imder.data.clip import Batch
from imder.modality import MODALITIES, PATTERNS, from_mask, symbols
from imder.model.config import ModelConfig
from imder.model.fusion import Fusion
from imder.model.imder import IMDer
from imder.model.task import task_loss


@dataclass(frozen=True)
class FusionConfig(BaselineConfig):
    """T_k's layers and dropout; all other sizes are the supplement's."""

    layers: int = 4
    dropout: float = 0.1  # in the attention layers
    output_dropout: float = 0.1  # before the output

    limits: ClassVar[dict[str, tuple[float, float]]] = BaselineConfig.limits | {
        "layers": (1, 64),
        "dropout": (0, 0.9),
        "output_dropout": (0, 0.9),
    }


class Network(nn.Module):
    """E_k and T_k. A missing modality enters T_k as zeros."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        sizes = ModelConfig.from_preset(
            "corrected",
            config.feature_dims,
            fusion_layers=config.layers,
            dropout=config.dropout,
            output_dropout=config.output_dropout,
            outputs=config.outputs,
        )
        d = sizes.latent_channels
        self.encoders = nn.ModuleDict({k: nn.Conv1d(sizes.feature_dims[k], d, 3, bias=False) for k in MODALITIES})
        self.fusion = Fusion(sizes)

    def forward(self, features: dict[str, Tensor], valid: Tensor) -> Tensor:
        """Features (B, L, F_k), zeros where missing, to (B, outputs)."""
        latents = {k: self.encoders[k](x.transpose(1, 2)) for k, x in features.items()}  # (B, D, L - 2)
        return self.fusion(latents, IMDer.latent_valid(valid))


class DropoutFusion(Recognizer):
    """One network for every pattern, trained with modalities dropped at random and no recovery."""

    kind = "dropout-fusion"
    title = "modality dropout"
    about = "IMDer's encoders and fusion, trained with modalities dropped at random and without any recovery."

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.network = Network(config)

    def forward(self, batch: Batch, available: Tensor) -> Prediction:
        """Predicts with zeros in the place of what is missing; it imagines nothing."""
        return Prediction(self.network(observed(batch, available), batch.valid), {})

    def losses(self, batch: Batch, available: Tensor) -> dict[str, Tensor]:
        """`task`: the loss of the prediction."""
        return {"task": task_loss(self(batch, available).value, batch.label)}


class SubsetFusion(Recognizer):
    """Seven networks, each trained and asked with one set of available modalities; the last is the ceiling."""

    kind = "subset"
    title = "subset models"
    about = "Seven of IMDer's encoders and fusions, each trained with one set of available modalities alone."

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.networks = nn.ModuleDict({symbols(pattern): Network(config) for pattern in PATTERNS})

    def forward(self, batch: Batch, available: Tensor) -> Prediction:
        """Each row by the network of its pattern."""
        features = observed(batch, available)
        value = torch.zeros(len(batch), self.config.outputs, device=batch.valid.device)
        for pattern, rows in by_pattern(available):
            own = {k: x[rows] for k, x in features.items()}
            value[rows] = self.networks[symbols(pattern)](own, batch.valid[rows])
        return Prediction(value, {})

    def losses(self, batch: Batch, available: Tensor) -> dict[str, Tensor]:
        """`task`: the loss of the prediction."""
        return {"task": task_loss(self(batch, available).value, batch.label)}


def by_pattern(available: Tensor) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """The patterns in a mask (B, 3), each with its row numbers."""
    for row in torch.unique(available, dim=0):
        yield from_mask(row.tolist()), (available == row).all(dim=1).nonzero()[:, 0]
