"""GCNet: a video's clips as a graph, over which what one clip lacks is completed from the clips around it.

Lian et al. 2023, "GCNet: Graph Completion Network for Incomplete Multimodal Learning in Conversation". A clip is a
node, its features the means over its frames. Where the paper asks who speaks, a video's clips have one speaker here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from imder.baselines.recognizer import BaselineConfig, Prediction, Recognizer, observed
from imder.data.clip import Batch
from imder.modality import MODALITIES
from imder.model.task import task_loss

WEIGHTS = {"task": 1.0, "reconstruction": 1.0}

#: Kinds of edges by branch: past, now and future; and with one speaker one pair of speakers.
RELATIONS = {"temporal": 3, "speaker": 1}


@dataclass(frozen=True)
class GCNetConfig(BaselineConfig):
    """Sizes, and how far a clip looks."""

    hidden: int = 100  # the paper's D_e: a direction of each BiLSTM, twice the width of the graph convolutions
    window: int = 1  # clips to either side that are neighbours
    dropout: float = 0.5  # after both layers of each BiLSTM in a branch, after the first of the one before them

    limits: ClassVar[dict[str, tuple[float, float]]] = BaselineConfig.limits | {
        "hidden": (2, 4096),
        "window": (1, 64),
        "dropout": (0, 0.9),
    }


def seats(batch: Batch) -> tuple[Tensor, Tensor]:
    """The batch's rows as V videos of up to C clips in order: row numbers (V, C), and which of them are there, bool.

    A video need not be whole: its clips in the batch are neighbours by their order, whatever lies between them.
    Raises ValueError where two clips have one place.
    """
    videos: dict[str, list[int]] = {}
    for row in sorted(range(len(batch)), key=lambda i: batch.places[i]):
        videos.setdefault(batch.videos[row], []).append(row)
    for name, rows in videos.items():
        places = [batch.places[i] for i in rows]
        if twice := [first for first, second in pairwise(places) if first == second]:
            raise ValueError(f"video {name!r}: several clips have the place {twice[0]}; each needs one of its own")
    clips = max(map(len, videos.values()))
    numbers = torch.tensor([rows + [-1] * (clips - len(rows)) for rows in videos.values()], device=batch.valid.device)
    return numbers.clamp(min=0), numbers >= 0


def edges(there: Tensor, window: int) -> dict[str, Tensor]:
    """Whether clip j (last axis) is a neighbour of clip i, by branch and relation: {branch: (V, R, C, C)} bool.

    Neighbours are the clip itself and those at most `window` before and after it.
    """
    at = torch.arange(there.shape[1], device=there.device)
    ahead = at - at[:, None]  # (C, C), by how much j is after i
    near = (ahead.abs() <= window) & there[:, :, None] & there[:, None]  # (V, C, C)
    times = torch.stack([ahead < 0, ahead == 0, ahead > 0])  # (3, C, C)
    return {"temporal": near[:, None] & times, "speaker": near[:, None]}


class RelationalConvolution(nn.Module):
    """root x_i + the sum over relations r of the mean of W_r x_j over i's neighbours in r + bias.

    Schlichtkrull et al. 2018, Eq. 2, without an activation.
    """

    def __init__(self, width: int, out: int, relations: int) -> None:
        super().__init__()
        self.root = nn.Linear(width, out)
        self.relations = nn.Linear(width, relations * out, bias=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """x (V, C, width), edges (V, R, C, C) bool, to (V, C, out)."""
        share = edges / edges.sum(dim=3, keepdim=True).clamp(min=1)
        sent = self.relations(x).unflatten(2, (edges.shape[1], -1))  # (V, C, R, out)
        return self.root(x) + torch.einsum("vrij,vjro->vio", share, sent)


class GraphConvolution(nn.Module):
    """root x_i + W times the sum of x_j over i's neighbours + bias (Morris et al. 2019)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.root = nn.Linear(width, out)
        self.neighbours = nn.Linear(width, out, bias=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """x (V, C, width), edges (V, C, C) bool, to (V, C, out)."""
        return self.root(x) + self.neighbours(edges.to(x.dtype) @ x)


class Conversation(nn.Module):
    """A two-layer BiLSTM over the clips of each video: (V, C, width) to (V, C, 2 hidden), 0 where there is no clip."""

    def __init__(self, width: int, config: GCNetConfig) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            width, config.hidden, num_layers=2, batch_first=True, bidirectional=True, dropout=config.dropout
        )

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """`there` (V, C) bool, a video's clips before its padding; packed, as the way back would begin in padding."""
        packed = pack_padded_sequence(x, there.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


class Branch(nn.Module):
    """Both graph convolutions over one kind of edges, then a BiLSTM: (V, C, D) to (V, C, D), D = 2 hidden."""

    def __init__(self, relations: int, config: GCNetConfig) -> None:
        super().__init__()
        d, g = 2 * config.hidden, config.hidden // 2
        self.relational = RelationalConvolution(d, g, relations)
        self.graph = GraphConvolution(g, g)
        self.conversation = Conversation(d + g, config)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor, edges: Tensor, there: Tensor) -> Tensor:
        """edges (V, R, C, C) bool; the second convolution does not tell relations apart."""
        h = self.graph(self.relational(x, edges), edges.any(dim=1))  # (V, C, g)
        h = self.conversation(torch.cat([x, h], dim=2), there)
        return self.out(self.dropout(h)).relu()


class GCNet(Recognizer):
    """Sees a video's clips together; `imagined` is the mean over a clip's frames of standardised features, (B, F_k).

    Other videos of the batch have no influence. A video of which the batch holds only some clips is the graph of those.
    """

    kind = "gcnet"
    title = "GCNet"
    about = "Completes what is missing in a conversation by graph convolutions over its clips (after Lian et al. 2023)."
    whole_videos = True

    def __init__(self, config: GCNetConfig) -> None:
        super().__init__()
        self.config = config
        d, width = 2 * config.hidden, sum(config.feature_dims.values())
        self.conversation = Conversation(width, config)
        self.branches = nn.ModuleDict({name: Branch(count, config) for name, count in RELATIONS.items()})
        self.readout = nn.Linear(d, config.outputs)
        self.reconstruction = nn.Linear(d, width)

    def forward(self, batch: Batch, available: Tensor) -> Prediction:
        pooled = _pool(observed(batch, available), batch.valid)
        rows, there = seats(batch)
        x = torch.cat([pooled[k] for k in MODALITIES], dim=1)[rows]  # (V, C, sum F_k)
        h = self.conversation(x, there)  # (V, C, D)
        links = edges(there, self.config.window)
        h = sum(branch(h, links[name], there) for name, branch in self.branches.items())
        h = h[there][rows[there].argsort()]  # (B, D), in the batch's order
        views = self.reconstruction(h).split([self.config.feature_dims[k] for k in MODALITIES], dim=1)
        return Prediction(self.readout(h), dict(zip(MODALITIES, views, strict=True)))

    def losses(self, batch: Batch, available: Tensor) -> dict[str, Tensor]:
        """Absolute error, and the mean squared errors of the missing modalities, summed: 0 with nothing missing."""
        found = self(batch, available)
        truth = _pool(batch.features, batch.valid)
        absent = ~available.to(batch.valid.device)
        off = torch.stack([(found.imagined[k] - truth[k]).square().mean(dim=1) for k in MODALITIES], dim=1)  # (B, 3)
        return {
            "task": task_loss(found.value, batch.label),
            "reconstruction": torch.where(absent, off, 0.0).sum(dim=1),
        }


def _pool(features: dict[str, Tensor], valid: Tensor) -> dict[str, Tensor]:
    """Means over the valid frames, {k: (B, F_k)}."""
    count = valid.sum(dim=1)[:, None]
    return {k: x.masked_fill(~valid[:, :, None], 0.0).sum(dim=1) / count for k, x in features.items()}
