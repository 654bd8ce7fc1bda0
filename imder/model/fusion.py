"""T_k: the multimodal transformer that predicts sentiment or class (supplement, section 3; MulT, Tsai et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imder.modality import MODALITIES
from imder.model.attention import CrossModalEncoder
from imder.model.config import ModelConfig

#: In which order a modality attends to the others, and in which the three readouts stand (the published tensors').
ATTENDS = {"text": ("audio", "vision"), "audio": ("text", "vision"), "vision": ("text", "audio")}
READOUT = ("text", "audio", "vision")


class Fusion(nn.Module):
    """Latents (B, D, L) of the three modalities to (B, outputs)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, layers = config.latent_channels, config.fusion_layers
        self.masks = config.masks
        self.output_dropout = config.output_dropout
        self.cross = nn.ModuleDict(
            {
                f"{k}_with_{other}": CrossModalEncoder(
                    d, config.heads, layers, causal=config.causal, dropout=config.dropout
                )
                for k in MODALITIES
                for other in ATTENDS[k]
            }
        )
        self.memory = nn.ModuleDict(
            {
                k: CrossModalEncoder(2 * d, config.heads, layers, causal=config.causal, dropout=config.dropout)
                for k in MODALITIES
            }
        )
        width = 6 * d
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, config.outputs)

    def forward(self, latents: dict[str, Tensor], valid: Tensor | None = None) -> Tensor:
        """valid (B, L) bool; the readout is the last valid frame (the last frame without masks, as published)."""
        if not self.masks or (valid is not None and bool(valid.all())):
            valid = None
        frames = {k: latents[k].transpose(1, 2) for k in MODALITIES}  # (B, L, D)
        lasts = []
        for k in READOUT:
            pair = []
            for other in ATTENDS[k]:
                encoder = self.cross[f"{k}_with_{other}"]
                pair.append(encoder(frames[k], encoder.keys_values(frames[other]), valid))
            joint = self.memory[k](torch.cat(pair, dim=2), None, valid)  # (B, L, 2 D)
            if valid is None:
                lasts.append(joint[:, -1])
            else:
                last = valid.sum(dim=1).clamp(min=1) - 1
                lasts.append(joint[torch.arange(len(joint), device=last.device), last])
        h = torch.cat(lasts, dim=1)  # (B, 6 D)
        hidden = F.dropout(self.first(h).relu(), self.output_dropout, self.training)
        return self.out(self.second(hidden) + h)
