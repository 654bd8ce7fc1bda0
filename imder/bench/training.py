"""What a training update costs, against the published training step (benchmarks/published.py), alternating.

  ratio_one_missing, ratio_two_missing           published step with that much missing / our updates of as many score
                                                 networks (stage 2; the published step is their only training)
  ratio_all_one_missing, ratio_all_two_missing   the same / an update of every stage: E_k and T_k on complete clips,
                                                 the score networks, D_k and T_k on draws, and the draws themselves
  published_ms_*, complete_ms, score_ms, recover_ms, draw_ms_*

Same batch, CPU time on one thread. Our updates are those of the training loop, clipping and averaged weights included.
The published step draws each missing modality in 100 steps, of which `steps_timed` are run inside it; the others are
added at the cost of a step of the published sampler alone.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from imder import hub
from imder.bench.cli import Row
from imder.bench.sampler import TARGET, official
from imder.bench.timing import alternate, one_thread, published
from imder.modality import MODALITIES, to_mask
from imder.model import IMDer
from imder.training.checkpoint import Checkpoints
from imder.training.config import TrainingConfig
from imder.training.loop import Job, Reporter, fit
from imder.training.stages import refine, squared_error

#: What is missing; the observed modality conditions both networks when two are.
MISSING = {"one_missing": ("vision",), "two_missing": ("audio", "vision")}
BATCH, AIM = 32, 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `bench training`."""
    parser.add_argument("--run", metavar="RUN", help="run folder or owner/name on the Hub (default: the bundled one)")


class Updates:
    """Our updates of each stage on one batch of random features."""

    def __init__(self, model: IMDer, batch: int, updates: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.model, self.config, self.updates, self.seed = model, TrainingConfig(batch=batch), updates, seed
        frames = model.config.frames + 2
        self.features = {
            k: torch.randn(batch, frames, width, generator=generator) for k, width in model.config.feature_dims.items()
        }
        self.label = torch.randn(batch, generator=generator)
        self.valid = torch.ones(batch, frames, dtype=torch.bool)
        self.inner = model.latent_valid(self.valid)
        with torch.no_grad():
            self.latents = model.encode(self.features)

    def _fit(self, name: str, modules: nn.ModuleDict, losses: Callable[[Tensor, torch.Generator], Tensor]) -> None:
        """`updates` updates by the training loop, from the same weights each time."""
        ema = self.config.ema if name == "score" else 0.0
        modules.requires_grad_(True)
        job = Job(
            name=name,
            modules=modules,
            groups=[{"params": list(modules.parameters()), "lr": 1e-6, "weight_decay": 0.01}],
            losses=losses,
            validate=lambda: {"loss": 0.0},
            ids=[str(i) for i in range(self.config.batch)],
            batch=self.config.batch,
            updates=self.updates,
            every=self.updates,
            ema=ema,
        )
        with tempfile.TemporaryDirectory() as folder:
            fit(job, self.seed, Checkpoints(Path(folder)), math.inf, Reporter(lambda row: None, lambda: False))
        modules.requires_grad_(False).eval()

    def complete(self) -> None:
        """Stage 1a: E_k, T_k and readouts."""
        model = self.model

        def losses(rows: Tensor, generator: torch.Generator) -> Tensor:
            latents = model.encode(self.features)
            total = (model.predict(latents, self.inner) - self.label).abs()
            for k in MODALITIES:
                total = total + squared_error(model.read(k, latents[k]), self.features[k], self.valid, 1)
            return total

        self._fit("encode", nn.ModuleDict({k: getattr(model, k) for k in ("encoders", "readouts", "fusion")}), losses)

    def score(self) -> None:
        """Stage 2: one score network, conditioned on the two others."""
        model = self.model
        there = torch.tensor([k != TARGET for k in MODALITIES]).expand(len(self.label), -1)

        def losses(rows: Tensor, generator: torch.Generator) -> Tensor:
            return model.score_loss(TARGET, self.latents, there, self.inner, generator)

        self._fit("score", model.score_modules(TARGET), losses)

    def recover(self) -> None:
        """Stage 3: D_k of one modality, on a draw and on a mean of draws that are there, and T_k."""
        model = self.model
        there = torch.tensor([k != TARGET for k in MODALITIES]).expand(len(self.label), -1)

        def losses(rows: Tensor, generator: torch.Generator) -> Tensor:
            kinds = [refine(model, self.latents, there, self.inner) for _ in range(2)]
            errors = [squared_error(kind[TARGET], self.latents[TARGET], self.inner, 2) for kind in kinds]
            return (model.predict(kinds[0], self.inner) - self.label).abs() + sum(errors)

        modules = nn.ModuleDict({"reconstructors": model.reconstructors, "fusion": model.fusion})
        self._fit("recover", modules, losses)

    def draw(self, missing: tuple[str, ...]) -> Tensor:
        """The default recovery of the batch."""
        there = torch.from_numpy(to_mask([k for k in MODALITIES if k not in missing])).expand(len(self.label), -1)
        seeds = list(range(len(self.label)))
        return self.model.recover(self.latents, there, valid=self.inner, seeds=seeds)[missing[0]]


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> list[Row]:
    """Rows of ratios, then of costs; ValueError without a checkout or for a run that cannot be used."""
    module = published()
    model = hub.load(args.run, fallback=False).model.eval().requires_grad_(False)
    batch, updates, steps, rounds = (8, 1, 1, 1) if args.quick else (BATCH, 4, module.TRAINING_STEPS, 3)
    with one_thread():
        torch.manual_seed(args.seed)
        ours = Updates(model, batch, updates, args.seed)
        theirs = module.Published(official(model.config.feature_dims, args.seed))
        optimiser = theirs.optimiser()
        condition = torch.randn(batch, model.config.latent_channels, model.config.frames)
        works: dict[str, Callable[[], object]] = {
            f"published_ms_{name}": lambda absent=absent: theirs.training_step(
                optimiser, ours.features, ours.label, absent, steps
            )
            for name, absent in MISSING.items()
        }
        works |= {"complete_ms": ours.complete, "score_ms": ours.score, "recover_ms": ours.recover}
        works |= {f"draw_ms_{name}": lambda absent=absent: ours.draw(absent) for name, absent in MISSING.items()}
        works["step"] = lambda: theirs.sample(TARGET, condition, run=2)
        tell(f"{rounds} rounds of {len(works)} measurements")
        times = dict(zip(works, alternate(rounds, *works.values(), warm=args.quick).T, strict=True))
    step = times.pop("step") / 2
    for name in ("complete_ms", "score_ms", "recover_ms"):
        times[name] = times[name] / updates
    # How often a clip is drawn for an update of stage 3: every pass is drawn once, and every epoch uses one.
    share = ours.config.passes * ours.config.train_draws / ours.config.recover_epochs
    ratios = {}
    for name, absent in MISSING.items():
        whole = times[f"published_ms_{name}"] + len(absent) * (module.TRAINING_STEPS - steps) * step
        times[f"published_ms_{name}"] = whole
        scores = len(absent) * times["score_ms"]
        ratios[f"ratio_{name}"] = whole / scores
        every = times["complete_ms"] + scores + times["recover_ms"] + share * times[f"draw_ms_{name}"]
        ratios[f"ratio_all_{name}"] = whole / every
    common: Row = {"batch": batch, "rounds": rounds, "steps_timed": steps, "draws_an_update": share}
    aims = {"ratio_one_missing": AIM, "ratio_two_missing": AIM}
    return [
        {"bench": "training", "name": name, "value": float(np.median(found))}
        | ({"aim": aims[name]} if name in aims else {})
        | common
        for name, found in (ratios | times).items()
    ]


def table(rows: list[Row]) -> str:
    """A line a missing count, then what the parts cost."""
    value = {row["name"]: row["value"] for row in rows}
    lines = [
        "| missing | published step | our score updates | times cheaper | an update of every stage | times cheaper |",
        "|---|---|---|---|---|---|",
    ]
    for name, absent in MISSING.items():
        step, count = value[f"published_ms_{name}"], len(absent)
        lines.append(
            f"| {count} | {step:.0f} ms | {count * value['score_ms']:.0f} ms | {value[f'ratio_{name}']:.1f} "
            f"| {step / value[f'ratio_all_{name}']:.0f} ms | {value[f'ratio_all_{name}']:.1f} |"
        )
    parts = ", ".join(f"{name} {value[name]:.0f}" for name in value if name.startswith(("complete", "score", "rec")))
    drawn = ", ".join(f"{value[f'draw_ms_{name}']:.0f} ({len(absent)} missing)" for name, absent in MISSING.items())
    return "\n".join(
        [*lines, f"\nBatch {rows[0]['batch']}; milliseconds: {parts}; a draw of the batch {drawn}, "
         f"{rows[0]['draws_an_update']:g} draws an update of stage 3; aim {AIM}."]
    )  # fmt: skip
