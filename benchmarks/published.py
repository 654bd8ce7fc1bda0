"""The published sampler and training step, written plainly from the paper's supplement: what our costs are set against.

Layout and order of work are the published ones: attention frame first (L, B, C) with a projection each for query, key
and value; the condition is noised anew and taken through its convolutions at every step; 500 Euler-Maruyama steps in
equal t; a training step draws every missing modality in 100 steps, without gradient. torch's own modules
(convolutions, linear maps, norms) are copied from an IMDer of the preset `official`, so that both compute the same
numbers; nothing else of it is used but E_k, D_k and the 1 x 1 convolution of a pair, which are plain convolutions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imder.model.attention import CrossModalEncoder
from imder.model.attention import Layer as OurLayer
from imder.model.fusion import ATTENDS, READOUT
from imder.model.imder import PAIRS, IMDer
from imder.model.score import Level as OurLevel
from imder.model.score import ScoreNetwork

SIGMA = 25.0
SAMPLING_STEPS, TRAINING_STEPS = 500, 100
LAST_TIME, SMALLEST_TIME = 1e-3, 1e-5  # of sampling, of training

Draw = Callable[[], Tensor]


def marginal_std(t: Tensor) -> Tensor:
    """std of x_t given x_0."""
    return torch.sqrt((SIGMA ** (2 * t) - 1.0) / (2 * math.log(SIGMA)))


class Attention(nn.Module):
    """Multi-head attention of MulT (Tsai et al. 2019), frame first."""

    def __init__(self, ours: OurLayer) -> None:
        super().__init__()
        self.heads = ours.heads
        self.in_weight = nn.Parameter(torch.cat([ours.query.weight, ours.key_value.weight]).detach().clone())
        self.in_bias = nn.Parameter(torch.cat([ours.query.bias, ours.key_value.bias]).detach().clone())
        self.out = copy.deepcopy(ours.out)

    def _project(self, x: Tensor, part: int) -> Tensor:
        """The third `part` of the joint projection, as (B heads, L, C / heads)."""
        frames, rows, channels = x.shape
        at = slice(part * channels, (part + 1) * channels)
        projected = F.linear(x, self.in_weight[at], self.in_bias[at])
        return projected.contiguous().view(frames, rows * self.heads, channels // self.heads).transpose(0, 1)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        frames, rows, channels = query.shape
        query, key, value = self._project(query, 0), self._project(key, 1), self._project(value, 2)
        weights = torch.bmm(query * (channels // self.heads) ** -0.5, key.transpose(1, 2)) + mask
        out = torch.bmm(F.softmax(weights, dim=-1), value)
        return self.out(out.transpose(0, 1).contiguous().view(frames, rows, channels))


class Layer(nn.Module):
    """Pre-norm attention and feed-forward; one LayerNorm for query, key and value, each normed for itself."""

    def __init__(self, ours: OurLayer) -> None:
        super().__init__()
        self.attention, self.dropout = Attention(ours), ours.dropout
        self.norm, self.ff_norm = copy.deepcopy(ours.norm), copy.deepcopy(ours.ff_norm)
        self.expand, self.contract = copy.deepcopy(ours.expand), copy.deepcopy(ours.contract)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        seen = self.attention(self.norm(x), self.norm(key), self.norm(value), mask)
        x = x + F.dropout(seen, self.dropout, self.training)
        hidden = F.dropout(F.relu(self.expand(self.ff_norm(x))), self.dropout, self.training)
        return x + F.dropout(self.contract(hidden), self.dropout, self.training)


class Encoder(nn.Module):
    """The cross-modal transformer, all (L, B, C), causal; without key and value it is self-attention."""

    def __init__(self, ours: CrossModalEncoder) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(layer) for layer in ours.layers)
        self.norm = copy.deepcopy(ours.norm)
        self.tables: dict[int, Tensor] = {}

    def _embed(self, x: Tensor) -> Tensor:
        """sqrt(C) x + position code, counted from 1; a frame whose channel 0 is 0 gets the zero code."""
        frames, _, channels = x.shape
        if frames not in self.tables:
            half = channels // 2
            rate = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
            angle = torch.arange(frames + 1)[:, None] * rate[None]
            self.tables[frames] = torch.cat([angle.sin(), angle.cos()], dim=1)
            self.tables[frames][0] = 0
        positions = torch.arange(1, frames + 1)[:, None] * (x[:, :, 0] != 0)
        return math.sqrt(channels) * x + self.tables[frames][positions]

    def forward(self, x: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Tensor:
        frames, seen = len(x), len(x if key is None else key)
        mask = torch.full((frames, seen), -math.inf).triu(1 + abs(seen - frames))
        x = self._embed(x)
        if key is not None:
            key, value = self._embed(key), self._embed(value)
        for layer in self.layers:
            x = layer(x, x, x, mask) if key is None else layer(x, key, value, mask)
        return self.norm(x)


class Level(nn.Module):
    """One level of the U-Net with the convolution of the condition's path beside it."""

    def __init__(self, ours: OurLevel) -> None:
        super().__init__()
        self.conv, self.condition_conv = copy.deepcopy(ours.conv), copy.deepcopy(ours.condition_conv)
        self.time, self.norm = copy.deepcopy(ours.time), copy.deepcopy(ours.norm)
        self.attention = Encoder(ours.attention)

    def forward(self, x: Tensor, condition: Tensor | None, time: Tensor) -> tuple[Tensor, Tensor | None]:
        h = self.conv(x)
        if condition is not None:
            if self.condition_conv is not None:
                condition = self.condition_conv(condition)
            source = condition.permute(2, 0, 1)
            h = h + self.attention(h.permute(2, 0, 1), source, source).permute(1, 2, 0)
        if self.norm is not None:
            h = F.silu(self.norm(h + self.time(time)[..., None]))
        return h, condition


class Score(nn.Module):
    """s(x, condition, t), all (B, D, L), t (B,)."""

    def __init__(self, ours: ScoreNetwork) -> None:
        super().__init__()
        self.register_buffer("frequency", ours.embedding.frequency.clone())
        self.embed = copy.deepcopy(ours.embedding.linear)
        self.down = nn.ModuleList(Level(level) for level in ours.down)
        self.up = nn.ModuleList(Level(level) for level in ours.up)

    def forward(self, x: Tensor, condition: Tensor | None, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequency[None] * 2 * math.pi
        time = F.silu(self.embed(torch.cat([angle.sin(), angle.cos()], dim=-1)))
        skips = []
        for level in self.down:
            x, condition = level(x, condition, time)
            skips.append(x)
        skips.pop()
        for i, level in enumerate(self.up):
            x, condition = level(x if i == 0 else torch.cat([x, skips.pop()], dim=1), condition, time)
        return x / marginal_std(t)[:, None, None]


class Published(nn.Module):
    """The whole published model with the weights of `ours`, an IMDer of the preset `official`."""

    def __init__(self, ours: IMDer) -> None:
        super().__init__()
        if ours.config.preset != "official":
            raise ValueError(f"preset: {ours.config.preset!r} is not allowed; 'official' is")
        self.encoders, self.pairs = copy.deepcopy(ours.encoders), copy.deepcopy(ours.pairs)
        self.reconstructors = copy.deepcopy(ours.reconstructors)
        self.scores = nn.ModuleDict({k: Score(network) for k, network in ours.scores.items()})
        fusion = ours.fusion
        self.cross = nn.ModuleDict({name: Encoder(encoder) for name, encoder in fusion.cross.items()})
        self.memory = nn.ModuleDict({k: Encoder(encoder) for k, encoder in fusion.memory.items()})
        self.first, self.second, self.out = (copy.deepcopy(m) for m in (fusion.first, fusion.second, fusion.out))
        self.output_dropout = fusion.output_dropout

    def condition(self, latents: dict[str, Tensor]) -> Tensor:
        """The one observed modality, or two fused; latents (B, D, L) of the observed ones alone."""
        if len(latents) == 1:
            return next(iter(latents.values()))
        pair = next(pair for pair in PAIRS if set(pair) == set(latents))
        return self.pairs["_".join(pair)](torch.cat([latents[k] for k in pair], dim=1))

    @torch.no_grad()
    def sample(
        self,
        k: str,
        condition: Tensor,
        steps: int = SAMPLING_STEPS,
        *,
        noise: Draw | None = None,
        condition_noise: Draw | None = None,
        run: int | None = None,
    ) -> Tensor:
        """(B, D, L) by Euler-Maruyama on `steps` equal times; `run` takes the first of them only (for timing)."""
        noise = noise or (lambda: torch.randn_like(condition))
        condition_noise = condition_noise or noise
        x = noise() * marginal_std(torch.ones(()))
        times = torch.linspace(1.0, LAST_TIME, steps)
        step = times[0] - times[1]
        for time in times[:run]:
            t = torch.ones(len(x)) * time
            noised = condition + marginal_std(t)[:, None, None] * condition_noise()
            g = SIGMA ** t[:, None, None]
            mean = x + g**2 * self.scores[k](x, noised, t) * step
            x = mean + torch.sqrt(step) * g * noise()
        return mean

    def score_loss(self, k: str, x0: Tensor, condition: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """|| s std + z ||^2 summed over channels and frames; the condition is perturbed by the same z (published)."""
        std = marginal_std(t)[:, None, None]
        score = self.scores[k](x0 + z * std, condition + z * std, t)
        return ((score * std + z) ** 2).sum(dim=(1, 2)).mean()

    def predict(self, latents: dict[str, Tensor]) -> Tensor:
        """(B, outputs) from latents (B, D, L) of all three."""
        frames = {k: z.permute(2, 0, 1) for k, z in latents.items()}
        lasts = []
        for k in READOUT:
            pair = [self.cross[f"{k}_with_{o}"](frames[k], frames[o], frames[o]) for o in ATTENDS[k]]
            lasts.append(self.memory[k](torch.cat(pair, dim=2))[-1])
        h = torch.cat(lasts, dim=1)
        return self.out(self.second(F.dropout(F.relu(self.first(h)), self.output_dropout, self.training)) + h)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam over everything (supplement, Table 1: MOSI)."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def training_step(
        self,
        optimiser: torch.optim.Optimizer,
        features: dict[str, Tensor],
        label: Tensor,
        missing: Sequence[str],
        run: int | None = None,
    ) -> float:
        """One update on a batch that misses `missing`: features (B, L, F_k), label (B,); returns the loss.

        `run` as in `sample`.
        """
        self.train()
        latents = {k: encoder(features[k].transpose(1, 2)) for k, encoder in self.encoders.items()}
        whole = {k: z for k, z in latents.items() if k not in missing}
        loss = 0.0
        if missing:
            condition = self.condition(whole)
            for k in missing:
                t = torch.rand(len(label)) * (1 - SMALLEST_TIME) + SMALLEST_TIME
                score = self.score_loss(k, latents[k], condition, t, torch.randn_like(condition))
                whole[k] = self.reconstructors[k](self.sample(k, condition.detach(), TRAINING_STEPS, run=run))
                loss = loss + 0.1 * (score + F.mse_loss(whole[k], latents[k]))
        loss = loss + F.l1_loss(self.predict(whole)[:, 0], label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()
