"""The training of the models that IMDer is compared with, as jobs of the same loop; and which bench a recipe needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imder import hub
from imder.baselines import BASELINES, Recognizer, gcnet, mmin
from imder.baselines.recognizer import grouped
from imder.data.clip import Batch
from imder.data.dataset import FeatureSet
from imder.modality import SYMBOLS, symbols
from imder.model.task import TITLES, check_outputs, figures, outcome, outputs_for
from imder.samplers import noise_seed
from imder.training.checkpoint import write_folder
from imder.training.config import BaselineTraining, Recipe, recipe_from_json
from imder.training.loop import Job, Reporter
from imder.training.parts import CHUNK
from imder.training.stages import Bench, JobFunction, Phase, by_pattern, fit_job

#: Weights of a model's named losses; those without an entry have the weight 1.
WEIGHTS: dict[str, dict[str, float]] = {"mmin": mmin.WEIGHTS, "gcnet": gcnet.WEIGHTS}

#: The result that holds what another run gave.
START = "start"

#: Seconds of an update and clip on one core at the default sizes, for the progress bar.
SECONDS = {"teacher": 4e-4, "student": 6e-4, "gcnet": 3e-4, "network": 9e-3}


@dataclass
class BaselineBench(Bench):
    """What the jobs of a baseline work on."""

    config: BaselineTraining

    @property
    def jobs(self) -> dict[str, JobFunction]:
        """The functions by a job's first word."""
        return JOBS

    def phases(self) -> tuple[Phase, ...]:
        """The jobs in the order in which they can run."""
        if self.config.model == "mmin":
            return ("teacher",), ("student",)
        if self.config.model == "subset":
            return (tuple(f"network-{symbols((*p, *self.lacks))}" for p in self.patterns),)
        return (("network",),)

    def cost(self, name: str, sizes: dict[str, int]) -> float:
        """A job's expected seconds on one core."""
        kind = self.config.model if self.config.model == "gcnet" else name.partition("-")[0]
        clips = self.config.epochs * sizes["train"]
        return SECONDS[kind] * max(clips, self.config.least * min(self.config.batch, sizes["train"]))

    def network(self, *results: str) -> Recognizer:
        """The model with the run's first weights, and on top of them what the named jobs have learnt."""
        kind, config = BASELINES[self.config.model]
        torch.manual_seed(noise_seed(self.config.seed, "weights"))
        try:
            sizes = config(self.data.feature_dims, **{"outputs": outputs_for(self.data.label_classes)} | self.overrides)
        except TypeError as error:
            raise ValueError(f"set: the model {self.config.model!r} does not know this: {error}") from None
        check_outputs(sizes.outputs, self.data.label_classes)
        model = kind(sizes)
        state = model.state_dict()
        if (self.folder / "results" / START).exists():
            state |= started(self.result(START)[0], state)
        for name in results:
            state |= self.result(name)[0]
        model.load_state_dict(state)
        return model.requires_grad_(False).eval().to(self.config.device)

    def batch(self, split: str, rows: Tensor) -> Batch:
        """Those clips of a split, cut to the longest of them."""
        values, valid, label = self.features[split].rows(rows)
        names = [self.names[split][i] for i in rows.tolist()]
        return Batch(values, valid, label, *(tuple(column) for column in zip(*names, strict=True)))

    @cached_property
    def names(self) -> dict[str, list[tuple[str, str, int]]]:
        """Of each clip its id, its video and its place there, by split."""
        return {split: clips.names for split, clips in self.clips.items()}

    @cached_property
    def units(self) -> dict[str, list[tuple[str, Tensor]]]:
        """What an update takes several of, by split: (id, rows); a clip, or a video where the model sees it whole."""
        whole = BASELINES[self.config.model][0].whole_videos
        return {split: units(names, whole) for split, names in self.names.items()}


def units(names: Sequence[tuple[str, str, int]], whole_videos: bool) -> list[tuple[str, Tensor]]:
    """Clips one by one, or by video in the order in which they come, of their ids, videos and places."""
    parts = grouped([video for _, video, _ in names], whole_videos, 1)
    return [(names[rows[0]][1 if whole_videos else 0], rows) for rows in parts]


def bench_of(data: FeatureSet, config: Recipe, overrides: dict[str, Any], folder: Path) -> Bench:
    """The bench that a recipe needs."""
    kind = Bench if config.model == "imder" else BaselineBench
    return kind(data, config, overrides, folder)


def open_bench(folder: Path) -> Bench:
    """The bench that `plan.json` in the working folder describes."""
    plan = json.loads((folder / "plan.json").read_text())
    return bench_of(FeatureSet.open(plan["data"]), recipe_from_json(plan["config"]), plan["model"], folder)


# Another run to start from.


def check_start(config: BaselineTraining, run: hub.Run | None) -> None:
    """Raises ValueError unless the recipe can start from this run, or needs none."""
    networks = config.model in ("dropout-fusion", "subset")
    if config.encoder_share != 1 and not networks:
        raise ValueError(f"encoder-share: {config.encoder_share} is not allowed for {config.model!r}, which has no E_k")
    if run is None:
        if config.encoder_share == 0:
            raise ValueError("encoder-share: 0 is not allowed without --from; E_k would stay as it was drawn")
        return
    if not networks or run.kind != "imder":
        raise ValueError(f"from: the model {config.model!r} does not start from a run of {run.kind!r}")


def inherit(bench: BaselineBench, run: hub.Run) -> None:
    """Keeps E_k and T_k of a run of IMDer as what every network of the model starts from.

    Raises ValueError when the run was trained on other data or has other sizes.
    """
    if run.info["data"]["fingerprint"] != bench.data.fingerprint:
        raise ValueError(f"from: {run.source} was trained on {run.info['data']['name']}, not on {bench.data.name}")
    tensors = {name: x for name, x in run.model.state_dict().items() if name.startswith(("encoders.", "fusion."))}
    if not started(tensors, bench.network().state_dict()):
        raise ValueError(f"from: {run.source} has other sizes than the model's")
    write_folder(bench.folder / "results" / START, {name: x.float() for name, x in tensors.items()}, {})


def started(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` by the names that they have in the networks of `state`; empty where a shape differs."""
    found = {}
    for name in state:
        own = name.partition("encoders." if ".encoders." in name else "fusion.")
        key = own[1] + own[2]
        if key not in tensors or tensors[key].shape != state[name].shape:
            return {}
        found[name] = tensors[key]
    return found


# Jobs.


def _learn(
    bench: BaselineBench,
    name: str,
    model: Recognizer,
    modules: dict[str, nn.Module],
    losses: Callable[[Batch, Tensor], dict[str, Tensor]],
    patterns: Tensor,
    judge: Callable[[], dict[str, float]],
    report: Reporter,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One optimisation; `patterns` (n, 3) are the masks that occur, the last of them with the share `complete`."""
    config, train = bench.config, bench.units["train"]
    weights = WEIGHTS.get(config.model, {})
    share = torch.full((len(patterns),), (1 - config.complete) / max(1, len(patterns) - 1))
    share[-1] = config.complete if len(patterns) > 1 else 1.0

    def update(units: Tensor, generator: torch.Generator) -> Tensor:
        own = [train[i][1] for i in units.tolist()]
        available = patterns[torch.multinomial(share, sum(map(len, own)), replacement=True, generator=generator)]
        found = losses(bench.batch("train", torch.cat(own)), available)
        total = sum(weights.get(key, 1.0) * x for key, x in found.items())  # (clips,)
        return torch.stack([part.mean() for part in total.split([len(rows) for rows in own])])

    trained = nn.ModuleDict(modules)
    kinds: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter, p in trained.named_parameters():
        kinds[".encoders." in parameter].append(p)
    groups = [(own, lr) for own, lr in zip(kinds, (config.lr, config.lr * config.encoder_share), strict=True) if own]
    updates = max(config.epochs * (len(train) // min(config.batch, len(train))), config.least)
    job = Job(
        name=name,
        modules=trained,
        groups=[{"params": own, "lr": lr, "weight_decay": config.decay} for own, lr in groups],
        losses=update,
        validate=judge,
        ids=[unit for unit, _ in train],
        batch=config.batch,
        updates=updates,
        every=-(-updates // min(config.epochs, 40)),
        warmup=min(20, updates // 10),
    )
    return fit_job(bench, job, report)


def network(bench: BaselineBench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The whole model with random patterns, or (`subset`) the network of one pattern with that pattern alone."""
    model = bench.network()
    names = [p for p in bench.patterns if not which or symbols((*p, *bench.lacks)) == which]
    modules = {"networks": nn.ModuleDict({which: model.networks[which]})} if which else dict(model.named_children())
    name = f"network-{which}" if which else "network"
    masks = bench.masks(names)
    return _learn(bench, name, model, modules, model.losses, masks, lambda: judged(bench, model, names), report)


def teacher(bench: BaselineBench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """MMIN's teacher, on complete clips."""
    model = bench.network()
    valid = len(bench.clips["valid"])

    def judge() -> dict[str, float]:
        batch = bench.batch("valid", torch.arange(valid))
        return figures(outcome(model.teacher(batch.features, batch.valid)), batch.label)

    def losses(batch: Batch, available: Tensor) -> dict[str, Tensor]:
        return model.teacher_losses(batch)

    complete = bench.masks(bench.patterns[-1:])
    return _learn(bench, "teacher", model, {"teacher": model.teacher}, losses, complete, judge, report)


def student(bench: BaselineBench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """MMIN's student, its encoders from the frozen teacher's."""
    model = bench.network("teacher")
    model.start_student()
    modules, names = {"student": model.student}, bench.patterns
    return _learn(
        bench, "student", model, modules, model.losses, bench.masks(names), lambda: judged(bench, model, names), report
    )


JOBS: dict[str, JobFunction] = {"network": network, "teacher": teacher, "student": student}


@torch.no_grad()
def predictions(bench: BaselineBench, model: Recognizer, available: Tensor, split: str = "valid") -> Tensor:
    """The outcome, (N,) or (N, C), of a split's clips under masks (N, 3)."""
    out = torch.zeros(len(available), model.config.outputs)
    videos = [video for _, video, _ in bench.names[split]]
    for rows in grouped(videos, model.whole_videos, CHUNK):
        out[rows] = model(bench.batch(split, rows), available[rows]).value.cpu()
    return outcome(out)


def judged(bench: BaselineBench, model: Recognizer, names: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """Figures on the validation split by pattern, their mean first."""
    label = bench.features["valid"].label.cpu()
    found = {}
    for pattern, mask in zip(names, bench.masks(names), strict=True):
        available = mask.expand(len(label), -1)
        found[symbols(pattern)] = figures(predictions(bench, model, available), label)
    return by_pattern(found)


# The end.


def measured(bench: BaselineBench, metas: dict[str, dict[str, Any]]) -> tuple[Recognizer, dict[str, Any]]:
    """The trained model, and its metrics on the validation split."""
    model = bench.network(*metas)
    own = judged(bench, model, bench.patterns)
    metrics = {
        "split": "valid",
        "clips": len(bench.clips["valid"]),
        **summary(own, bench.patterns),
        **{f"{name}_by_pattern": by for name, by in figures_by_pattern(own, bench.patterns).items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "best_update": {name: meta["best_step"] for name, meta in metas.items()},
        "seconds": {name: round(meta["seconds"], 1) for name, meta in metas.items()},
    }
    return model, metrics


def summary(found: dict[str, float], names: Sequence[tuple[str, ...]]) -> dict[str, dict[str, float]]:
    """Of each figure in `by_pattern`'s form the one of complete clips and the mean over the patterns `names`."""
    complete = symbols(names[-1])
    return {name: {"complete": found[f"{name}.{complete}"], "mean": found[name]} for name in TITLES if name in found}


def figures_by_pattern(found: dict[str, float], names: Sequence[tuple[str, ...]]) -> dict[str, dict[str, float]]:
    """Of each figure in `by_pattern`'s form those of the incomplete ones of the patterns `names`."""
    partial = [symbols(p) for p in names[:-1]]
    return {name: {p: found[f"{name}.{p}"] for p in partial} for name in TITLES if name in found}


def spent(training: dict[str, Any]) -> str:
    """How long the jobs took together, as a model card says it."""
    where = "one core" if training.get("device", "cpu") == "cpu" else "one core and a GPU"
    return f"{training['seconds'] / 60:.0f} minutes of {where}"


def card(metrics: dict[str, Any], training: dict[str, Any], note: str) -> str:
    """What the training measured, as the body of the model card."""
    command = f"`{training['command']}`" if training["command"] else "`imder.training.train`"
    told = [name for name in TITLES if name in metrics]
    partial = metrics[f"{told[0]}_by_pattern"]
    complete = "".join(letter for letter in SYMBOLS.values() if any(letter in pattern for pattern in partial))
    rows = {name: metrics[f"{name}_by_pattern"] | {complete: metrics[name]["complete"]} for name in told}
    patterns = rows[told[0]]
    return "\n".join(
        [
            *([note.strip(), ""] if note.strip() else []),
            f"## Measured on the {metrics['clips']} validation clips",
            "",
            f"By {command}, which chose weights on these same clips; {spent(training)} in "
            f"all, {metrics['parameters'] / 1e6:.2f} M parameters. The prediction by what is available; figures on "
            "the test split come from `python -m imder evaluate`.",
            "",
            "| | " + " | ".join(patterns) + " |",
            "|---" * (1 + len(patterns)) + "|",
            *(f"| {TITLES[name]} | " + " | ".join(f"{x:.3f}" for x in by.values()) + " |" for name, by in rows.items()),
        ]
    )
