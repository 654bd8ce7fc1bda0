"""The conditional score network s_k: a 1-D U-Net with cross-modal attention to the condition at every level.

Supplement, Figure 1 and Table 1. What does not depend on x (the condition path, its keys and values) is computed once
a recovery in `prepare`; `forward` is one evaluation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imder.model.attention import CrossModalEncoder, KeysValues
from imder.model.config import ModelConfig


class TimeEmbedding(nn.Module):
    """Gaussian random features of a noise coordinate (supplement, section 2; the frequencies are fixed)."""

    def __init__(self, dim: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.randn(dim // 2) * scale)
        self.linear = nn.Linear(dim, dim)

    def forward(self, u: Tensor) -> Tensor:
        """(B,) -> (B, dim)."""
        angle = u[:, None] * self.frequency[None] * 2 * math.pi
        return F.silu(self.linear(torch.cat([angle.sin(), angle.cos()], dim=-1)))


class Level(nn.Module):
    """One level of the U-Net, and the condition path's convolution beside it."""

    def __init__(
        self,
        config: ModelConfig,
        into: int,
        out: int,
        *,
        stride: int,
        groups: int = 0,
        up: bool = False,
        skip: bool = False,
    ) -> None:
        super().__init__()
        make = nn.ConvTranspose1d if up else nn.Conv1d
        last = groups == 0  # neither time term nor norm (published)
        shape = {"kernel_size": 3, "stride": stride, "padding": 1, "bias": last}
        if up:
            shape["output_padding"] = stride - 1
        self.conv = make(2 * into if skip else into, out, **shape)
        self.condition_conv = make(into, out, **shape) if up or stride > 1 else None
        self.attention = CrossModalEncoder(out, config.heads, config.condition_layers, causal=config.causal)
        self.time = None if last else nn.Linear(config.embedding_dim, out)
        self.norm = None if last else nn.GroupNorm(math.gcd(groups, out), out)

    def forward(self, x: Tensor, time: Tensor, here: LevelCondition | None, valid: Tensor | None) -> Tensor:
        h = self.conv(x)  # (B, C, L)
        if here is not None:
            seen = self.attention(h.transpose(1, 2), here.keys_values, here.key_valid).transpose(1, 2)
            if here.added is not None:
                seen = seen + here.added
            h = h + (seen if here.present is None else seen * here.present)
        if self.norm is not None:
            h = F.silu(self.norm(h + self.time(time)[:, :, None]))
        return h if valid is None else h * valid


@dataclass(frozen=True)
class LevelCondition:
    """The condition as one level sees it; none of it depends on x."""

    keys_values: KeysValues
    added: Tensor | None  # (B, C, L), added frame by frame (`corrected`)
    present: Tensor | None  # (B, 1, 1), 0 for rows without a condition; None = all rows have one
    key_valid: Tensor | None  # (B, L) bool, padding of the condition


@dataclass(frozen=True)
class Prepared:
    """A condition made ready for a recovery: one entry a level, or None without any condition."""

    levels: list[LevelCondition] | None
    valid: list[Tensor | None]  # (B, 1, L) a level, None = no padding


class ScoreNetwork(nn.Module):
    """F(x, u, condition), all (B, D, L) with L a multiple of 8; `u` is the noise coordinate, (B,) or (1,)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.condition_added = config.condition_added
        d, (c0, c1, c2, c3) = config.latent_channels, config.channels
        first, others = config.norm_groups
        self.embedding = TimeEmbedding(config.embedding_dim, config.time_scale)
        self.down = nn.ModuleList(
            [
                Level(config, d, c0, stride=1, groups=first),
                Level(config, c0, c1, stride=2, groups=others),
                Level(config, c1, c2, stride=2, groups=others),
                Level(config, c2, c3, stride=2, groups=others),
            ]
        )
        self.up = nn.ModuleList(
            [
                Level(config, c3, c2, stride=2, groups=others, up=True),
                Level(config, c2, c1, stride=2, groups=others, up=True, skip=True),
                Level(config, c1, c0, stride=2, groups=others, up=True, skip=True),
                Level(config, c0, d, stride=1, up=True, skip=True),
            ]
        )

    def start_at_zero(self) -> None:
        """Lets the untrained network give 0, so that a preconditioned score begins as its skip."""
        last = self.up[-1]
        for p in (last.conv.weight, last.condition_conv.weight, last.attention.norm.weight):
            nn.init.zeros_(p)
        for p in (last.conv.bias, last.condition_conv.bias):
            nn.init.zeros_(p)

    def prepare(self, condition: Tensor | None, present: Tensor | None = None, valid: Tensor | None = None) -> Prepared:
        """Condition (B, D, L) or None; present (B,) bool, rows that have one; valid (B, L) bool, real frames."""
        masks: list[Tensor | None] = [valid]
        for _ in range(3):
            masks.append(None if valid is None else masks[-1][:, ::2])
        masks += [*masks[2::-1], valid]  # the way up: 1/4, 1/2, whole, whole
        multipliers = [None if m is None else m[:, None, :].float() for m in masks]
        if condition is None:
            return Prepared(None, multipliers)
        rows = None if present is None or bool(present.all()) else present.to(condition)[:, None, None]
        levels = []
        for level, mask, multiplier in zip([*self.down, *self.up], masks, multipliers, strict=True):
            if level.condition_conv is not None:
                condition = level.condition_conv(condition)
                condition = condition if multiplier is None else condition * multiplier
            levels.append(
                LevelCondition(
                    level.attention.keys_values(condition.transpose(1, 2)),
                    condition if self.condition_added else None,
                    rows,
                    mask,
                )
            )
        return Prepared(levels, multipliers)

    def forward(self, x: Tensor, u: Tensor, prepared: Prepared) -> Tensor:
        time = self.embedding(u)
        levels = prepared.levels or [None] * 8
        skips = []
        for i, level in enumerate(self.down):
            x = level(x, time, levels[i], prepared.valid[i])
            skips.append(x)
        for i, level in enumerate(self.up):
            x = level(x if i == 0 else torch.cat([x, skips[3 - i]], dim=1), time, levels[4 + i], prepared.valid[4 + i])
        return x
