"""D_k: residual channel attention blocks refine a recovered modality (supplement, section 3; Zhang et al. 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from imder.model.config import ModelConfig


class ChannelAttention(nn.Module):
    """Scales each channel by a gate read from the channel means, reduction 16. `valid` (B, 1, L) excludes padding."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        narrow = max(channels // reduction, 1)
        self.gate = nn.Sequential(
            nn.Conv1d(channels, narrow, 1), nn.ReLU(), nn.Conv1d(narrow, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            pooled = x.mean(dim=2, keepdim=True)
        else:
            pooled = (x * valid).sum(dim=2, keepdim=True) / valid.sum(dim=2, keepdim=True)
        return x * self.gate(pooled)


class RCAB(nn.Module):
    """x + attention(conv(relu(conv(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, channels, 3, padding=1)
        self.second = nn.Conv1d(channels, channels, 3, padding=1)
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        h = self.first(x).relu()
        h = self.second(h if valid is None else h * valid)
        h = x + self.attention(h, valid)
        return h if valid is None else h * valid


class Reconstruction(nn.Module):
    """(B, D, L) recovered latents to (B, D, L) refined ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        wide = config.reconstruction_channels
        self.head = nn.Conv1d(config.latent_channels, wide, 1)
        self.blocks = nn.ModuleList(RCAB(wide) for _ in range(config.reconstruction_blocks))
        self.body_end = nn.Conv1d(wide, wide, 3, padding=1)
        self.tail = nn.Conv1d(wide, config.latent_channels, 1)

    def forward(self, z: Tensor, valid: Tensor | None = None) -> Tensor:
        first = self.head(z)
        h = first if valid is None else first * valid
        for block in self.blocks:
            h = block(h, valid)
        return self.tail(first + self.body_end(h))
