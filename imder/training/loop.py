"""`fit`, the one training loop; its randomness is counter-based, so an interrupted run ends in the same numbers."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from imder.samplers import noise_seed
from imder.training.checkpoint import Checkpoints

Row = dict[str, Any]

#: Seconds a job that is asked to stop has to save its state; after them its process ends, the older checkpoint stays.
GRACE = 8.0


class Interrupted(Exception):
    """The run was asked to stop; its state is saved."""


class DivergedError(ValueError):
    """A loss or gradient that is not finite; the text names the clips."""


@dataclass
class Job:
    """One optimisation: what is trained, by which loss, and which weights are kept in the end."""

    name: str
    modules: nn.ModuleDict
    groups: list[dict[str, Any]]  # AdamW's parameter groups, each with its "lr" and "weight_decay"
    losses: Callable[[Tensor, torch.Generator], Tensor]  # rows (B,) of the training split -> (B,)
    validate: Callable[[], dict[str, float]]  # the first figure decides which weights are best
    ids: Sequence[str]  # of the training clips
    batch: int
    updates: int
    every: int  # updates between validations
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 0
    floor: float = 0.0  # share of the learning rate at the end of the cosine
    clip: float = 1.0
    ema: float = 0.0
    best: bool = True  # keep the best weights by validation, else the last
    start: bool = False  # the weights before the first update are judged too
    patience: int = 0  # validations without a better one after which it ends; 0: it never ends early
    before: Callable[[], None] = field(default=lambda: None)  # sets train and eval modes


@dataclass(frozen=True)
class Reporter:
    """Where a job tells how it goes, and asks whether to stop."""

    tell: Callable[[dict[str, Any]], None]
    stopping: Callable[[], bool]

    def warn(self, text: str) -> None:
        self.tell({"warning": text})


def schedule(job: Job, update: int) -> float:
    """Linear warm-up, then a cosine from 1 to `floor`."""
    if update < job.warmup:
        return (update + 1) / job.warmup
    part = (update - job.warmup) / max(1, job.updates - job.warmup)
    return job.floor + (1 - job.floor) * 0.5 * (1 + math.cos(math.pi * part))


def rows_of(job: Job, seed: int, update: int) -> Tensor:
    """(B,) rows of one update: epochs are permutations, a last incomplete batch is left out."""
    count = len(job.ids)
    size = min(job.batch, count)
    epoch, index = divmod(update, count // size)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(noise_seed(seed, job.name, "epoch", epoch)))
    return order[index * size : (index + 1) * size]


def fit(job: Job, seed: int, checkpoints: Checkpoints, interval: float, report: Reporter) -> tuple[dict, dict]:
    """Runs the job from its newest valid checkpoint to its end; returns (tensors of the modules, meta).

    Every update draws from generators seeded by (seed, job, update) alone, dropout included. Raises Interrupted
    after saving when asked to stop, DivergedError without saving when a loss or gradient is not finite.
    """
    parameters = [p for group in job.groups for p in group["params"]]
    optimiser = torch.optim.AdamW(job.groups, betas=job.betas, fused=True)
    rates = [group["lr"] for group in job.groups]
    average = {name: x.detach().clone() for name, x in job.modules.state_dict().items()} if job.ema else {}
    kept: dict[str, Tensor] = {}
    meta: Row = {"step": 0, "best": math.inf, "best_step": 0, "seconds": 0.0, "loss": [0.0, 0], "rows": []}

    if saved := checkpoints.newest(report.warn):
        tensors, meta = saved
        device = parameters[0].device
        parts = {part: _part(tensors, part, device) for part in ("now", "average", "kept", "optimiser")}
        job.modules.load_state_dict(parts["now"])
        average, kept = parts["average"], parts["kept"]
        _load_optimiser(optimiser, parts["optimiser"])
    report.tell({"restored": meta["rows"], "at": meta["step"], "of": job.updates})

    def save() -> None:
        parts = {"now": job.modules.state_dict(), "average": average, "kept": kept, "optimiser": _flat(optimiser)}
        tensors = {f"{part}.{name}": x for part, named in parts.items() for name, x in named.items()}
        checkpoints.save(meta["step"], tensors, meta)

    def step(update: int) -> float:
        rows = rows_of(job, seed, update)
        torch.manual_seed(noise_seed(seed, job.name, "dropout", update))
        generator = torch.Generator().manual_seed(noise_seed(seed, job.name, "noise", update))
        losses = job.losses(rows, generator)
        loss = losses.mean()
        if not torch.isfinite(loss):
            bad = [job.ids[i] for i, x in zip(rows.tolist(), losses.tolist(), strict=True) if not math.isfinite(x)]
            raise DivergedError(f"{job.name}, update {update}: the loss is not finite for clips {', '.join(bad)}")
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, job.clip)
        if not torch.isfinite(norm):
            names = ", ".join(job.ids[i] for i in rows.tolist())
            raise DivergedError(f"{job.name}, update {update}: the gradient is not finite; the clips are {names}")
        factor = schedule(job, update)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if job.ema:
            decay = min(job.ema, (1 + update) / (10 + update))  # a warm-up, so that the start is soon forgotten
            _blend(average, job.modules.state_dict(), 1 - decay)
        return loss.item()

    def judge() -> None:
        nonlocal kept
        now = copy.deepcopy(job.modules.state_dict()) if job.ema else {}
        if job.ema:
            job.modules.load_state_dict(average)
        job.modules.eval()
        with torch.no_grad():
            figures = job.validate()
        first = next(iter(figures.values()))
        if not job.best or first < meta["best"]:
            kept = {name: x.detach().clone() for name, x in job.modules.state_dict().items()}
            meta.update(best=first, best_step=meta["step"], figures=figures)
        if job.ema:
            job.modules.load_state_dict(now)
        total, count = meta["loss"]
        row = {
            "update": meta["step"],
            "loss": total / count if count else None,
            "valid": figures,
            "lr": optimiser.param_groups[0]["lr"],
        }
        row["seconds"] = round(meta["seconds"] + time.monotonic() - started, 2)
        meta["rows"].append(row)
        meta["loss"] = [0.0, 0]
        report.tell({"row": row})

    started, saved_at, training = time.monotonic(), time.monotonic(), False
    if job.start and not meta["rows"]:
        judge()

    def over() -> bool:
        waited = meta["step"] - meta["best_step"]
        return meta["step"] >= job.updates or (bool(job.patience) and waited >= job.patience * job.every)

    while not over():
        if not training:
            job.modules.train()
            job.before()
            training = True
        loss = step(meta["step"])
        meta["step"] += 1
        meta["loss"] = [meta["loss"][0] + loss, meta["loss"][1] + 1]
        report.tell({"at": meta["step"], "of": job.updates, "loss": loss})
        if meta["step"] % job.every == 0 or meta["step"] == job.updates:
            judge()
            training = False
            if over():
                report.tell({"at": job.updates, "of": job.updates})
        stopping = report.stopping()
        if stopping or time.monotonic() - saved_at >= interval:
            meta["seconds"] += time.monotonic() - started
            started = time.monotonic()
            save()
            saved_at = time.monotonic()
        if stopping:
            raise Interrupted
    meta["seconds"] += time.monotonic() - started
    if not kept:
        raise DivergedError(f"{job.name}: no validation figure was finite")
    return kept, {name: meta[name] for name in ("step", "best", "best_step", "seconds", "rows", "figures")}


def _part(tensors: dict[str, Tensor], part: str, device: torch.device) -> dict[str, Tensor]:
    return {name.removeprefix(part + "."): x.to(device) for name, x in tensors.items() if name.startswith(part + ".")}


def _blend(average: dict[str, Tensor], now: dict[str, Tensor], share: float) -> None:
    """average += share (now - average), in place; integers are copied."""
    real = [name for name, x in now.items() if x.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in real], [now[name].detach() for name in real], share)
    for name in now.keys() - set(real):
        average[name].copy_(now[name])


def _flat(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors as `index.name`."""
    return {f"{i}.{name}": x for i, own in optimiser.state_dict()["state"].items() for name, x in own.items()}


def _load_optimiser(optimiser: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, x in flat.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = x
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
