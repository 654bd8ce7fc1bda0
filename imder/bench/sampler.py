"""What a recovery costs, against the published sampler (benchmarks/published.py) in the same run, alternating.

  ratio_equal_quality_batchB   published, 500 steps / the run's default recovery of one modality from the other two
  ratio_em500_batchB           published, 500 steps / our 500 Euler-Maruyama steps on the same grid
  recovery_ms_*                the default recovery by batch (48 frames), by frames and by steps (batch 8)

Everything is CPU time on one thread: what else runs on the machine counts little. A ratio is the median over rounds,
each of which times both. `steps_timed` of the 500 steps are run and scaled; a step costs the same wherever it stands
on the grid, `linearity` is what a step of a longer run (`linearity_steps`) costs in units of that.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from imder import hub
from imder.bench.cli import Row
from imder.bench.timing import alternate, one_thread, published
from imder.modality import MODALITIES
from imder.model import IMDer, ModelConfig
from imder.samplers import get_sampler

AVAILABLE, TARGET = ("text", "audio"), "vision"
STEPS = 500
#: Ratios that are aimed at (performance.md).
AIMS = {
    "ratio_equal_quality_batch1": 100,
    "ratio_equal_quality_batch32": 25,
    "ratio_em500_batch1": 5,
    "ratio_em500_batch32": 2.5,
}
BATCHES, FRAMES, STEP_COUNTS = (1, 8, 32, 100), (24, 48, 96, 192), (5, 10, 20, 50)
#: Batch: steps that are timed, steps of the longer run, rounds.
TIMED, TIMED_QUICK = {1: (50, STEPS, 9), 32: (10, STEPS, 7)}, {1: (4, 8, 1), 32: (2, 4, 1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `bench sampler`."""
    parser.add_argument("--run", metavar="RUN", help="run folder or owner/name on the Hub (default: the bundled one)")


def official(dims: dict[str, int], seed: int) -> IMDer:
    """An `official` model of that seed; what it costs does not depend on its weights."""
    torch.manual_seed(seed)
    return IMDer(ModelConfig.from_preset("official", dims))


class Recoveries:
    """Recoveries of `TARGET` by a model, of random latents."""

    def __init__(self, model: IMDer, batch: int, frames: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, model.config.latent_channels, frames)
        self.model = model
        self.latents = {k: torch.randn(shape, generator=generator) for k in MODALITIES}
        self.valid = torch.ones(batch, frames, dtype=torch.bool)
        self.seeds = list(range(batch))

    def run(self, sampler: str | None = None, steps: int | None = None, first: int | None = None) -> Tensor:
        """The recovery, or its `first` steps; by default the run's sampler and steps."""
        path = self.model.stream(
            self.latents, AVAILABLE, valid=self.valid, seeds=self.seeds, sampler=sampler, steps=steps
        )
        for step in itertools.islice(path, first):
            last = step
        return last[TARGET].x


def _ratios(model: IMDer, batch: int, seed: int, timed: int, longer: int, rounds: int) -> list[Row]:
    module = published()
    theirs = module.Published(official(model.config.feature_dims, seed)).eval()
    ours = Recoveries(model, batch, model.frames, seed)
    observed = {k: ours.latents[k] for k in AVAILABLE}

    def sample(first: int) -> Tensor:
        return theirs.sample(TARGET, theirs.condition(observed), module.SAMPLING_STEPS, run=first)

    times = alternate(
        rounds,
        lambda: sample(timed),
        ours.run,
        lambda: ours.run("euler-maruyama", STEPS, timed),
    )
    short, long = alternate(1, lambda: sample(timed), lambda: sample(longer), warm=False)[0]
    whole = times * [STEPS / timed, 1, STEPS / timed]
    common: Row = {
        "bench": "sampler",
        "batch": batch,
        "frames": model.frames,
        "published_ms": float(np.median(whole[:, 0])),
        "steps_timed": timed,
        "linearity": float(long / longer / (short / timed)),
        "linearity_steps": longer,
        "rounds": rounds,
    }
    rows = []
    for name, column, sampler, steps in (
        ("equal_quality", 1, model.config.sampler, model.config.steps),
        ("em500", 2, "euler-maruyama", STEPS),
    ):
        key = f"ratio_{name}_batch{batch}"
        found: Row = {
            "name": key,
            "value": float(np.median(whole[:, 0] / whole[:, column])),
            "aim": AIMS[key],
            "ms": float(np.median(whole[:, column])),
            "sampler": sampler,
            "steps": steps,
        }
        rows.append(found | common)
    return rows


def _costs(model: IMDer, seed: int, quick: bool) -> list[Row]:
    """The default recovery by batch, frames and steps; every round times all of them in turn."""
    batches, frames, steps = (values[: 2 if quick else None] for values in (BATCHES, FRAMES, STEP_COUNTS))
    cells = {f"recovery_ms_batch{n}": (n, model.frames, model.config.steps) for n in batches}
    cells |= {f"recovery_ms_frames{n}": (8, n, model.config.steps) for n in frames}
    cells |= {f"recovery_ms_steps{n}": (8, model.frames, n) for n in steps}
    works: list[Callable[[], Tensor]] = []
    for batch, length, count in cells.values():
        works.append(partial(Recoveries(model, batch, length, seed).run, steps=count))
    rounds = 1 if quick else 5
    times = np.median(alternate(rounds, *works), axis=0)
    return [
        {
            "bench": "sampler",
            "name": name,
            "value": float(ms),
            "batch": batch,
            "frames": length,
            "sampler": model.config.sampler,
            "steps": count,
            "nfe": get_sampler(model.config.sampler).evaluations(count),
            "rounds": rounds,
        }
        for (name, (batch, length, count)), ms in zip(cells.items(), times, strict=True)
    ]


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> list[Row]:
    """Rows of ratios, then of costs; ValueError without a checkout or for a run that cannot be used."""
    published()
    model = hub.load(args.run, fallback=False).model.eval()
    rows = []
    with one_thread():
        for batch, (timed, longer, rounds) in (TIMED_QUICK if args.quick else TIMED).items():
            tell(f"ratios, batch {batch}")
            rows += _ratios(model, batch, args.seed, timed, longer, rounds)
        tell("costs")
        rows += _costs(model, args.seed, args.quick)
    return rows


def table(rows: list[Row]) -> str:
    """The ratios, then the costs."""
    lines = ["| ratio | batch | published | ours | times cheaper | aim |", "|---|---|---|---|---|---|"]
    for row in rows:
        if row["name"].startswith("ratio_"):
            ours = f"{get_sampler(row['sampler']).title}, {row['steps']} steps"
            lines.append(
                f"| {ours} | {row['batch']} | {row['published_ms']:.0f} ms | {row['ms']:.1f} ms "
                f"| {row['value']:.1f} | {row['aim']:g} |"
            )
    timed = {row["batch"]: row for row in rows if row["name"].startswith("ratio_")}.values()
    lines += [
        f"\nBatch {row['batch']}: {row['steps_timed']} of {STEPS} steps timed; a step of a run of "
        f"{row['linearity_steps']} cost {row['linearity']:.2f} times as much."
        for row in timed
    ]
    lines += ["\n| recovery | batch | frames | steps | ms |", "|---|---|---|---|---|"]
    for row in rows:
        if row["name"].startswith("recovery_ms_"):
            by = row["name"].removeprefix("recovery_ms_").rstrip("0123456789")
            lines.append(f"| by {by} | {row['batch']} | {row['frames']} | {row['steps']} | {row['value']:.1f} |")
    return "\n".join(lines)
