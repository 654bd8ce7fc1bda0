"""The cross-modal transformer encoder of MulT (Tsai et al. 2019), batch first, with keys and values computed once.

Keys and values of every layer come from the same scaled source (golden arrays of the published code), so for a fixed
condition they are computed once a recovery: `keys_values`, then `forward` with them as often as needed.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeysValues = list[tuple[Tensor, Tensor]]


@lru_cache(maxsize=64)
def position_table(frames: int, channels: int, device: torch.device) -> Tensor:
    """(L, C) sinusoids, sines in the first half and cosines in the second, positions counted from 1."""
    half = channels // 2
    rate = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / max(half - 1, 1)))
    angle = torch.arange(1, frames + 1, dtype=torch.float32)[:, None] * rate[None]
    table = torch.cat([angle.sin(), angle.cos()], dim=1)
    return F.pad(table, (0, channels - 2 * half)).to(device)


def embed(x: Tensor) -> Tensor:
    """sqrt(C) x + position code; a frame whose channel 0 is exactly 0 counts as padding and gets no code. (B, L, C)"""
    table = position_table(x.shape[1], x.shape[2], x.device)
    return math.sqrt(x.shape[2]) * x + table * (x[..., :1] != 0)


class Layer(nn.Module):
    """Pre-norm attention and feed-forward; one LayerNorm serves query, key and value.

    Dropout is on the branches, not on the attention weights: that would take the fused kernel away.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.ff_norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.contract = nn.Linear(4 * channels, channels)
        for linear in (self.query, self.key_value, self.out, self.expand, self.contract):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, C / heads)

    def keys_values(self, source: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.key_value(self.norm(source)).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def forward(self, x: Tensor, kv: tuple[Tensor, Tensor] | None, mask: Tensor | None) -> Tensor:
        drop = self.dropout if self.training else 0.0
        normed = self.norm(x)
        key, value = kv if kv is not None else map(self._split, self.key_value(normed).chunk(2, dim=-1))
        out = F.scaled_dot_product_attention(self._split(self.query(normed)), key, value, attn_mask=mask)
        out = self.out(out.transpose(1, 2).flatten(2))
        x = x + F.dropout(out, drop, self.training)
        hidden = F.dropout(F.relu(self.expand(self.ff_norm(x))), drop, self.training)
        return x + F.dropout(self.contract(hidden), drop, self.training)


class CrossModalEncoder(nn.Module):
    """Layers of attention from x (B, L, C) to a source of the same width; without a source, self-attention."""

    def __init__(self, channels: int, heads: int, layers: int, *, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal = causal
        self.layers = nn.ModuleList(Layer(channels, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)

    def keys_values(self, source: Tensor) -> KeysValues:
        """Keys and values of every layer for a source (B, S, C)."""
        embedded = embed(source)
        return [layer.keys_values(embedded) for layer in self.layers]

    def mask(self, queries: int, keys: int, key_valid: Tensor | None, device: torch.device) -> Tensor | None:
        """True where attention is allowed; causal: frame i sees the source up to i + the difference in length."""
        allowed = None
        if self.causal:
            allowed = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(abs(keys - queries))
        if key_valid is not None:
            allowed = key_valid[:, None, None, :] if allowed is None else allowed & key_valid[:, None, None, :]
        return allowed

    def forward(self, x: Tensor, kv: KeysValues | None = None, key_valid: Tensor | None = None) -> Tensor:
        keys = x.shape[1] if kv is None else kv[0][0].shape[2]
        mask = self.mask(x.shape[1], keys, key_valid, x.device)
        x = embed(x)
        for i, layer in enumerate(self.layers):
            x = layer(x, None if kv is None else kv[i], mask)
        return self.norm(x)
