"""Draws of a trained run on a data set's clips, for the benchmarks that compare them with real ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imder import hub
from imder.baselines.fill import Encoded
from imder.data.dataset import FeatureSet
from imder.evaluation.distribution import flatten
from imder.evaluation.evaluate import encode_clips
from imder.evaluation.study import run_digest, whole
from imder.modality import MODALITIES, missing
from imder.model import IMDer
from imder.samplers import noise_seed

BATCH = 100


def add_source(parser: argparse.ArgumentParser) -> None:
    """--run and --data."""
    parser.add_argument("--run", metavar="RUN", help="run folder or owner/name on the Hub (default: the bundled one)")
    parser.add_argument(
        "--data", default="bundled", metavar="DIR", help="data set, as --run (default: the bundled one)"
    )


@dataclass(frozen=True)
class Source:
    """A run and the data set it is judged on."""

    run: hub.Run
    data: FeatureSet

    @classmethod
    def open(cls, args: argparse.Namespace) -> Source:
        """Raises ValueError if the run reads features of other widths."""
        run, data = whole(hub.load(args.run, fallback=False), "benchmarks"), FeatureSet.open(args.data)
        widths = run.model.config.feature_dims
        if dict(data.feature_dims) != dict(widths):
            raise ValueError(f"the run reads features of widths {widths}; {data.name!r} has {data.feature_dims}")
        return cls(run, data)

    @property
    def model(self) -> IMDer:
        """The run's model."""
        return self.run.model

    @property
    def common(self) -> dict[str, Any]:
        """What every row says of where it comes from."""
        run = f"{self.run.name}@{run_digest(self.run.folder)}"
        return {"run": run, "data": f"{self.data.name}@{self.data.fingerprint[:8]}"}

    def clips(self, split: str, limit: int = 0) -> Encoded:
        """The latents of a split's clips, or of `limit` of them spread evenly, so that all speakers are in."""
        found = self.data.complete(split)
        if 0 < limit < len(found):
            found = [found[i * len(found) // limit] for i in range(limit)]
        return encode_clips(self.model, self.run.standardiser, found, BATCH)

    def flat(self, k: str, latents: Tensor, valid: Tensor) -> np.ndarray:
        """Latents (N, D, L) in unit scale as points (N, frames * D)."""
        return flatten(self.model.unit(k, latents).numpy(), valid.numpy(), self.model.config.frames)


def draw(
    model: IMDer, clips: Encoded, available: Sequence[str], draws: Sequence[int], *, seed: int, **how: Any
) -> dict[str, Tensor]:
    """Draws {k: (len(draws), N, D, L)} of what is missing; `how` goes to `IMDer.recover`.

    A draw has the number by which it is seeded, so more draws of the same clips continue the first ones.
    """
    absent, found = missing(available), []
    pairs = [(i, j) for i in draws for j in range(len(clips))]
    for at in range(0, len(pairs), BATCH):
        part = pairs[at : at + BATCH]
        rows = torch.tensor([j for _, j in part])
        mask = torch.tensor([k in available for k in MODALITIES]).expand(len(part), -1)
        full = model.recover(
            {k: clips.latents[k][rows] for k in MODALITIES},
            mask,
            valid=clips.valid[rows],
            seeds=[noise_seed(seed, clips.ids[j], i) for i, j in part],
            **how,
        )
        found.append({k: full[k] * clips.valid[rows][:, None] for k in absent})
    return {k: torch.cat([part[k] for part in found]).unflatten(0, (len(draws), len(clips))) for k in absent}
