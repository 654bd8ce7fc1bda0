"""The three stages as jobs: encode (1a), fuse (1b), score-text/-audio/-vision (2), draws-* and recover (3)."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imder.data.dataset import FeatureSet, SomeClips
from imder.data.standardise import Standardiser
from imder.modality import MODALITIES, PATTERNS, missing, names_of, patterns, symbols, to_mask
from imder.model import IMDer, ModelConfig
from imder.model.task import check_outputs, figures, outputs_for, task_loss
from imder.samplers import get_sampler, noise_seed
from imder.training.checkpoint import Checkpoints, DamagedError, read_folder, write_folder
from imder.training.config import TrainingConfig
from imder.training.loop import Interrupted, Job, Reporter, fit
from imder.training.parts import CHUNK, Draws, Part, blocks, features_of, zeros

#: Draws at a time on a GPU, which has hardly more to do with many.
GPU_CHUNK = 1000

#: Jobs by phase; those of one phase need nothing from each other.
Phase = tuple[str, ...]

#: (bench, rest of the job's name, reporter) to tensors and meta.
JobFunction = Callable[["Bench", str, Reporter], tuple[dict[str, Tensor], dict[str, Any]]]


def phases(config: TrainingConfig, there: tuple[str, ...] = MODALITIES) -> tuple[Phase, ...]:
    """The jobs in the order in which they can run; only what is `there` in the data has a score network to learn."""
    scores = tuple(f"score-{k}" for k in there)
    draws = tuple(f"draws-{i}" for i in range(config.passes))
    return ("encode",), (*scores, "fuse"), ("draws-valid", *draws), ("recover",)


#: IMDer's stages, those of the baselines, and the tuning of an encoder before them.
STAGES = {
    "head": "0",
    "tune": "0",
    "encode": "1a",
    "fuse": "1b",
    "score": "2",
    "teacher": "1",
    "network": "1",
    "student": "2",
}


def stage_of(job: str) -> str:
    """The stage's number in the recipe."""
    return STAGES.get(job.split("-")[0], "3")


@dataclass
class Bench:
    """What every job of a run works on: data, configuration, changes of the model's preset, the working folder."""

    data: FeatureSet
    config: TrainingConfig
    overrides: dict[str, Any]
    folder: Path

    @property
    def jobs(self) -> dict[str, JobFunction]:
        """The functions by a job's first word."""
        return JOBS

    def phases(self) -> tuple[Phase, ...]:
        """The jobs in the order in which they can run."""
        return phases(self.config, self.there)

    @property
    def lacks(self) -> tuple[str, ...]:
        """The modalities that no clip has."""
        return self.data.lacks

    @property
    def there(self) -> tuple[str, ...]:
        """The modalities that some clip has; the others are zeros and never missing."""
        return missing(self.lacks)

    @property
    def patterns(self) -> tuple[tuple[str, ...], ...]:
        """What clips can have, without what none has; the complete one last."""
        return patterns(self.lacks)

    def masks(self, names: Sequence[tuple[str, ...]]) -> Tensor:
        """(n, 3) bool of patterns, what none has among the available."""
        return torch.stack([torch.from_numpy(to_mask((*p, *self.lacks))) for p in names])

    def cost(self, name: str, sizes: dict[str, int]) -> float:
        """A job's expected seconds on one core at the supplement's sizes, for the progress bar."""
        config, model = self.config, self.model_config()
        return cost(name, sizes, config, get_sampler(model.sampler).evaluations(config.draw_steps or model.steps))

    @cached_property
    def clips(self) -> dict[str, SomeClips]:
        """The clips of the training and validation splits, `limit` of each at most, read when they are indexed."""
        found = {}
        if len(self.there) < 2:
            raise ValueError(
                f"data: {self.data.name!r} has no {names_of(self.lacks)}; a recovery needs two modalities at least"
            )
        for split in ("train", "valid"):
            clips = self.data.complete(split, self.lacks)
            if not clips:
                raise ValueError(f"data: no clip of {split!r} in {self.data.name!r} is complete; training needs some")
            if 0 < self.config.limit < len(clips):
                clips = clips.only([i * len(clips) // self.config.limit for i in range(self.config.limit)])
            found[split] = clips
        return found

    @cached_property
    def standardiser(self) -> Standardiser:
        """Fitted on the training clips."""
        return Standardiser.fit(self.clips["train"])

    @cached_property
    def features(self) -> dict[str, Part]:
        """Standardised features by split."""
        found = {}
        for split, clips in self.clips.items():
            part = features_of(clips, self.standardiser, self.folder)
            if bad := [name for name, y in zip(part.ids, part.label.tolist(), strict=True) if not math.isfinite(y)]:
                raise ValueError(f"data: the label is not a finite number for clips {', '.join(bad)}")
            found[split] = part.to(self.config.device)
        return found

    def model_config(self, **changes: Any) -> ModelConfig:
        """The preset for this data's widths, lengths and kind of label."""
        values = {"frames": self.features["train"].valid.shape[1] - 2, "outputs": outputs_for(self.data.label_classes)}
        config = ModelConfig.from_preset(
            self.config.preset, self.data.feature_dims, **values | self.overrides | changes
        )
        check_outputs(config.outputs, self.data.label_classes)
        return config

    def model(self, *results: str, **changes: Any) -> IMDer:
        """The model with the run's first weights, and on top of them what the named jobs have learnt."""
        torch.manual_seed(noise_seed(self.config.seed, "weights"))
        model = IMDer(self.model_config(**changes))
        state = model.state_dict()
        for name in results:
            tensors, _ = self.result(name)
            for key, x in tensors.items():
                state[key] = x
        model.load_state_dict(state)
        return model.requires_grad_(False).eval().to(self.config.device)

    def result(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and meta of a finished job; raises DamagedError unless it is there and whole."""
        return read_folder(self.folder / "results" / name)

    def latents(self, model: IMDer, split: str) -> Part:
        """The model's latents of a split."""
        part = self.features[split]
        pieces: dict[str, list[Tensor]] = {k: [] for k in MODALITIES}
        with torch.no_grad():
            for rows in part.chunks():
                for k, z in model.encode({k: x[rows] for k, x in part.values.items()}).items():
                    pieces[k].append(z)
        values = {k: torch.cat(z) for k, z in pieces.items()}
        return Part(values, model.latent_valid(part.valid), part.label, part.ids, 2)


def run(bench: Bench, name: str, report: Reporter) -> None:
    """Runs one job from where it was and writes its result; a result that is there and whole is left alone."""
    try:
        bench.result(name)
        return
    except DamagedError as error:
        if (bench.folder / "results" / name).exists():
            report.warn(f"result of {name} is made again, it is damaged: {error}")
    kind, _, which = name.partition("-")
    tensors, meta = bench.jobs[kind](bench, which, report)
    write_folder(bench.folder / "results" / name, tensors, meta)
    shutil.rmtree(bench.folder / "jobs" / name, ignore_errors=True)


def fit_job(bench: Bench, job: Job, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """`fit` of a job whose modules were frozen, from where its checkpoints left it."""
    for module in job.modules.values():
        module.requires_grad_(True)
    checkpoints = Checkpoints(bench.folder / "jobs" / job.name)
    return fit(job, bench.config.seed, checkpoints, bench.config.checkpoint_seconds, report)


def _epochs(bench: Bench, epochs: int) -> dict[str, Any]:
    """Batch, updates and validations of a job that is counted in epochs."""
    batch, ids = bench.config.batch, bench.features["train"].ids
    updates = max(epochs * (len(ids) // min(batch, len(ids))), bench.config.least)
    return {"ids": ids, "batch": batch, "every": -(-updates // epochs), "updates": updates}


def squared_error(x: Tensor, truth: Tensor, valid: Tensor, time: int) -> Tensor:
    """(B,) mean squared error over valid frames; `time` is the axis of frames."""
    error = (x - truth).square().mean(3 - time)  # (B, L)
    return (error * valid).sum(1) / valid.sum(1)


# Stage 1a.


def encode(bench: Bench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """E_k, T_k and readouts on complete clips; then latent statistics, linear denoiser and exact readouts."""
    config, train = bench.config, bench.features["train"]
    model = bench.model()
    if model.config.standardise_latents:
        generator = torch.Generator().manual_seed(noise_seed(config.seed, "encode", "rotation"))
        for k in bench.there:
            start_encoder(model.encoders[k], train.values[k], train.valid, generator)
    weights = {k: config.text_readout_weight if k == "text" else config.readout_weight for k in MODALITIES}

    def losses(rows: Tensor, generator: torch.Generator) -> Tensor:
        features, valid, label = train.rows(rows)
        latents = model.encode(features)  # raw: the statistics are not set yet
        mask = model.latent_valid(valid)
        total = task_loss(model.output(latents, mask), label)
        for k in bench.there:
            read = model.readouts[k](latents[k] * mask[:, None]).transpose(1, 2)
            total = total + weights[k] * squared_error(read, features[k], valid, 1)
        return total

    modules = nn.ModuleDict({k: getattr(model, k) for k in ("encoders", "readouts", "fusion")})
    job = Job(
        name="encode",
        modules=modules,
        groups=[{"params": list(modules.parameters()), "lr": config.encode_lr, "weight_decay": 0.01}],
        losses=losses,
        validate=lambda: complete_figures(model, bench.latents(model, "valid")) | readout_r2(bench, model),
        best=False,
        **_epochs(bench, config.encode_epochs),
    )
    tensors, meta = fit_job(bench, job, report)
    modules.load_state_dict(tensors)
    model.requires_grad_(False).eval()
    raw = bench.latents(model, "train")
    for k in bench.there:
        fit_readout(model.readouts[k], raw.values[k], train.values[k], raw.valid, train.valid)
    statistics = {k: moments(raw.values[k], raw.valid) for k in bench.there}
    channels = model.config.latent_channels
    empty = torch.zeros(channels, device=config.device), torch.ones(channels, device=config.device)
    model.set_latent_statistics(dict.fromkeys(MODALITIES, empty) | statistics)
    latents = bench.latents(model, "train")
    model.fit_linear(latents.values, latents.valid)
    meta["figures"] |= readout_r2(bench, model)
    others = tuple(f"{part}." for part in ("scores", "pairs", "reconstructors"))
    return {name: x for name, x in model.state_dict().items() if not name.startswith(others)}, meta


@torch.no_grad()
def start_encoder(conv: nn.Conv1d, features: Tensor, valid: Tensor, generator: torch.Generator) -> None:
    """Lets E_k begin as the leading principal components of valid frames (N, L, F), turned at random (ours).

    Turned, so that every channel has its share of the strong directions; the outer taps begin small.
    """
    channels, frames = conv.weight.shape[0], (features[rows][valid[rows]] for rows in blocks(valid))
    covariance = sum(x.T.double() @ x.double() for x in frames) / int(valid.sum())
    leading = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :channels].float()  # (F, at most D)
    turn = torch.linalg.qr(torch.randn(channels, channels, generator=generator)).Q[:, : leading.shape[1]].to(features)
    conv.weight.mul_(0.2)
    conv.weight[:, :, 1] = turn @ leading.T


def moments(z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of latents (N, D, L) over valid frames."""
    frames = z.transpose(1, 2)[valid].double()  # (n, D)
    return frames.mean(0).float(), frames.std(0).clamp_min(1e-6).float()


def fit_readout(readout: nn.ConvTranspose1d, z: Tensor, features: Tensor, z_valid: Tensor, valid: Tensor) -> None:
    """Ridge regression of features (N, L, F) on E_k's outputs (N, D, L-2) as a transposed convolution."""
    gram = cross = 0
    for rows in blocks(valid):
        padded = nn.functional.pad(z[rows] * z_valid[rows, None], (2, 2))  # (N, D, L + 2)
        taps = [padded.narrow(2, 2 - j, valid.shape[1]) for j in range(3)]
        x = torch.cat(taps, 1).transpose(1, 2)[valid[rows]].double()  # (n, 3 D)
        centre = torch.cat([x, x.new_ones(len(x), 1)], 1)
        gram = gram + centre.T @ centre
        cross = cross + centre.T @ features[rows][valid[rows]].double()
    gram.diagonal()[:-1] += 1e-3 * gram.diagonal()[:-1].mean()
    solution = torch.linalg.solve(gram, cross).float()  # (3 D + 1, F)
    with torch.no_grad():
        readout.weight.copy_(solution[:-1].view(3, z.shape[1], -1).permute(1, 2, 0))
        readout.bias.copy_(solution[-1])


@torch.no_grad()
def readout_r2(bench: Bench, model: IMDer) -> dict[str, float]:
    """Share of each modality's variance on the validation split that the readout gives back."""
    part = bench.features["valid"]
    latent_valid = model.latent_valid(part.valid)[:, None]
    found = {}
    for k in bench.there:
        truth = part.values[k]
        raw = model.encoders[k](truth.transpose(1, 2)) * latent_valid
        read, wanted = model.readouts[k](raw).transpose(1, 2)[part.valid], truth[part.valid]
        variance = (wanted - wanted.mean(0)).square().sum()
        found[f"readout_r2.{k}"] = 1 - float((read - wanted).square().sum() / variance.clamp_min(1e-12))
    return found


@torch.no_grad()
def complete_figures(model: IMDer, part: Part) -> dict[str, float]:
    """`figures` of the predictions from complete clips."""
    return figures(torch.cat([model.predict(*part.rows(rows)[:2]) for rows in part.chunks()]), part.label)


def by_pattern(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures of each pattern as `mae.LA`, their means over patterns as `mae` first."""
    names = list(next(iter(found.values())))
    means = {name: sum(own[name] for own in found.values()) / len(found) for name in names}
    return means | {f"{name}.{pattern}": own[name] for name in names for pattern, own in found.items()}


# Stage 1b.


def fuse(bench: Bench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """T_k on frozen latents, regularised, from where stage 1a left it."""
    config = bench.config
    model = bench.model("encode", dropout=config.fuse_dropout, output_dropout=config.fuse_dropout)
    train, valid = bench.latents(model, "train"), bench.latents(model, "valid")

    def losses(rows: Tensor, generator: torch.Generator) -> Tensor:
        latents, mask, label = train.rows(rows)
        return task_loss(model.output(latents, mask), label)

    modules = nn.ModuleDict({"fusion": model.fusion})
    job = Job(
        name="fuse",
        modules=modules,
        groups=[{"params": list(modules.parameters()), "lr": config.fuse_lr, "weight_decay": config.fuse_decay}],
        losses=losses,
        validate=lambda: complete_figures(model, valid),
        start=True,
        **_epochs(bench, config.fuse_epochs),
    )
    return fit_job(bench, job, report)


# Stage 2.


def score(bench: Bench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The score network of one modality, its condition a random non-empty subset of the other two."""
    config = bench.config
    model = bench.model("encode")
    train, valid = bench.latents(model, "train"), bench.latents(model, "valid")
    subsets = bench.masks([p for p in bench.patterns if which not in p])  # (3, 3)

    def losses(rows: Tensor, generator: torch.Generator) -> Tensor:
        latents, mask, _ = train.rows(rows)
        available = subsets[torch.randint(len(subsets), (len(rows),), generator=generator)]
        return model.score_loss(which, latents, available, mask, generator)

    def measure(loss: Callable[..., Tensor]) -> float:
        """A loss over the validation split on fixed noise, the subsets in turn."""
        generator = torch.Generator().manual_seed(noise_seed(config.seed, "score", which, "valid"))
        found = []
        for rows in valid.chunks():
            latents, mask, _ = valid.rows(rows)
            found.append(loss(which, latents, subsets[rows % len(subsets)], mask, generator))
        return float(torch.cat(found).mean())

    linear = {} if model.linear is None else {"linear_loss": measure(model.linear_loss)}
    modules = model.score_modules(which)
    job = Job(
        name=f"score-{which}",
        modules=modules,
        groups=[{"params": list(modules.parameters()), "lr": config.score_lr, "weight_decay": config.score_decay}],
        losses=losses,
        validate=lambda: {"score_loss": measure(model.score_loss)} | linear,
        ids=train.ids,
        batch=config.batch,
        updates=config.score_updates,
        every=config.score_valid,
        betas=(0.9, 0.99),
        warmup=config.score_warmup,
        floor=config.score_floor,
        ema=config.ema,
    )
    return fit_job(bench, job, report)


# Stage 3.


def _wanted(bench: Bench, which: str) -> tuple[str, Tensor, Tensor, list[int]]:
    """(split, rows, available, seeds) of a draws job: one pass over the training clips, or every validation pattern."""
    config = bench.config
    masks = bench.masks(bench.patterns[:-1])  # (6, 3)
    if which == "valid":
        count = len(bench.features["valid"])
        pattern = torch.arange(len(masks)).repeat_interleave(config.valid_draws * count)
        draw = torch.arange(config.valid_draws).repeat_interleave(count).repeat(len(masks))
        rows = torch.arange(count).repeat(config.valid_draws * len(masks))
        split = "valid"
    else:
        count = len(bench.features["train"])
        generator = torch.Generator().manual_seed(noise_seed(config.seed, "patterns", which))
        pattern, rows = torch.sort(torch.randint(len(masks), (count,), generator=generator), stable=True)
        pattern, rows = pattern.repeat(config.train_draws), rows.repeat(config.train_draws)
        draw = torch.arange(config.train_draws).repeat_interleave(count) + int(which) * config.train_draws
        split = "train"
    ids = bench.features[split].ids
    seeds = [
        noise_seed(config.seed, "draws", split, ids[r], d) for r, d in zip(rows.tolist(), draw.tolist(), strict=True)
    ]
    return split, rows, masks[pattern], seeds


def draws(bench: Bench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Recoveries by the default sampler, computed once; every chunk is kept: an interruption loses one at most."""
    started = time.monotonic()
    split, rows, available, seeds = _wanted(bench, which)
    model = bench.model("encode", *(f"score-{k}" for k in bench.there))
    part = bench.latents(model, split)
    folder = bench.folder / "jobs" / f"draws-{which}"
    size = CHUNK if bench.config.device == "cpu" else GPU_CHUNK
    chunks = torch.arange(len(rows)).split(size)
    pieces: dict[str, list[Tensor]] = {k: [] for k in MODALITIES}
    for index, at in enumerate(chunks):
        saved = folder / f"part-{size}-{index:05d}"
        try:
            values, _ = read_folder(saved)
        except DamagedError as error:
            if saved.exists():
                report.warn(f"draws are made again, they are damaged: {error}")
            values = None
        if values is None:
            truth = {k: z[rows[at]] for k, z in part.values.items()}
            seeds_here = [seeds[i] for i in at.tolist()]
            steps = bench.config.draw_steps or None
            values = model.recover(truth, available[at], valid=part.valid[rows[at]], seeds=seeds_here, steps=steps)
            values = {k: z.cpu().contiguous() for k, z in values.items()}
            for k, z in values.items():
                if not torch.isfinite(z).all():
                    raise ValueError(f"draws-{which}: a recovery of {k} is not finite, its score network is of no use")
            write_folder(saved, values, {})
        for k, z in values.items():
            pieces[k].append(z)
        report.tell({"at": index + 1, "of": len(chunks)})
        if report.stopping() and index + 1 < len(chunks):
            raise Interrupted
    return {k: torch.cat(z) for k, z in pieces.items()}, {"rows": [], "seconds": time.monotonic() - started}


def load_draws(bench: Bench, which: str) -> Draws:
    """The result of a draws job."""
    _, rows, available, _ = _wanted(bench, which)
    return Draws(rows, available, bench.result(f"draws-{which}")[0])


def refine(model: IMDer, latents: dict[str, Tensor], available: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """D_k on the missing rows."""
    refined = {}
    for k, has in zip(MODALITIES, available.T, strict=True):
        refined[k] = latents[k].clone()
        if not has.all():
            refined[k][~has] = model.reconstruct(k, latents[k][~has], valid[~has])
    return refined


def recover(bench: Bench, which: str, report: Reporter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """D_k and T_k on recovered features: the label and, on missing rows, the true latents."""
    config = bench.config
    model = bench.model("encode", "fuse", dropout=config.fuse_dropout, output_dropout=config.fuse_dropout)
    train, valid = bench.latents(model, "train"), bench.latents(model, "valid")
    count, several = len(train), config.train_draws
    # (passes, draws, N, D, L); every draw of a pass has the same order of clips
    values = {k: zeros((config.passes, several, *train.values[k].shape), bench.folder) for k in MODALITIES}
    places, masks = [], []
    for i in range(config.passes):
        drawn = load_draws(bench, str(i))
        places.append(torch.argsort(drawn.rows[:count]))
        masks.append(drawn.available)
        for k, z in drawn.values.items():
            values[k][i] = z.unflatten(0, (several, count))
        del drawn
    place = torch.stack(places)  # (passes, N): where a clip's first draw stands
    patterns = torch.stack(masks)  # (passes, draws N, 3)
    values = {k: z.to(config.device) for k, z in values.items()}
    judged = load_draws(bench, "valid").to(config.device)

    def losses(rows: Tensor, generator: torch.Generator) -> Tensor:
        truth, mask, label = train.rows(rows)
        frames = mask.shape[1]
        chosen = torch.randint(config.passes, (len(rows),), generator=generator)
        whole = torch.rand(len(rows), generator=generator) < config.complete
        at = place[chosen, rows]
        available = patterns[chosen, at] | whole[:, None]
        own = torch.randint(several, (len(rows),), generator=generator)
        many = int(torch.randint(min(2, several), several + 1, (), generator=generator))
        complete = whole.to(mask.device)[:, None, None]

        def batch(pick: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
            found = {k: torch.where(complete, truth[k], pick(values[k])[..., :frames]) for k in MODALITIES}
            return refine(model, found, available, mask)

        refined = batch(lambda drawn: drawn[chosen, own, at])
        total = task_loss(model.output(refined, mask), label)
        kinds = [refined] if several == 1 else [refined, batch(lambda drawn: drawn[chosen, :many, at].mean(1))]
        for kind in kinds:
            for k, has in zip(MODALITIES, available.T, strict=True):
                error = squared_error(model.unit(k, kind[k]), model.unit(k, truth[k]), mask, 2)
                total = total + config.reconstruct_weight * error * ~has.to(error.device)
        return total

    modules = nn.ModuleDict({"reconstructors": model.reconstructors, "fusion": model.fusion})
    groups = [
        {"params": list(model.reconstructors.parameters()), "lr": config.reconstruct_lr},
        {"params": list(model.fusion.parameters()), "lr": config.fusion_lr},
    ]
    job = Job(
        name="recover",
        modules=modules,
        groups=[group | {"weight_decay": config.recover_decay} for group in groups],
        losses=losses,
        validate=lambda: recovered_figures(model, valid, judged, bench.patterns),
        start=True,
        **_epochs(bench, config.recover_epochs),
    )
    return fit_job(bench, job, report)


@torch.no_grad()
def recovered_figures(
    model: IMDer, part: Part, drawn: Draws, names: Sequence[tuple[str, ...]] = PATTERNS
) -> dict[str, float]:
    """Figures of the prediction averaged over draws, by pattern, their mean first; errors before and after D_k.

    names: the patterns of the draws in their order, and the complete one.
    """
    outputs, raw, refined_error = [], [], []
    for at in torch.arange(len(drawn.rows)).split(CHUNK):
        rows, available = drawn.rows[at], drawn.available[at]
        truth, mask, _ = part.rows(rows)
        latents = {k: z[at, :, : mask.shape[1]] for k, z in drawn.values.items()}
        refined = refine(model, latents, available, mask)
        outputs.append(model.predict(refined, mask))
        for kept, values in ((raw, latents), (refined_error, refined)):
            errors = [squared_error(model.unit(k, values[k]), model.unit(k, truth[k]), mask, 2) for k in MODALITIES]
            kept.append(torch.stack(errors, 1)[~available])
    mean = torch.cat(outputs).unflatten(0, (len(names) - 1, -1, len(part))).mean(1)  # (6, N) or (6, N, C)
    told = [*(figures(own, part.label) for own in mean), complete_figures(model, part)]
    found = by_pattern({symbols(p): own for p, own in zip(names, told, strict=True)})
    found["draw_error"] = float(torch.cat(raw).mean())
    found["refined_error"] = float(torch.cat(refined_error).mean())
    return found


@torch.no_grad()
def zero_fill(model: IMDer, bench: Bench) -> dict[str, dict[str, float]]:
    """Figures by pattern on the validation split when missing features are zeros in E_k's input."""
    part = bench.features["valid"]
    found = {}
    for pattern in bench.patterns[:-1]:
        values = {k: x if k in pattern else torch.zeros_like(x) for k, x in part.values.items()}
        latents = model.encode(values)
        filled = Part(latents, model.latent_valid(part.valid), part.label, part.ids, 2)
        found[symbols(pattern)] = complete_figures(model, filled)
    return found


JOBS: dict[str, JobFunction] = {
    "encode": encode,
    "fuse": fuse,
    "score": score,
    "draws": draws,
    "recover": recover,
}


def cost(name: str, sizes: dict[str, int], config: TrainingConfig, evaluations: int) -> float:
    """A job's expected seconds on one core at the supplement's sizes, for the progress bar."""
    kind, _, which = name.partition("-")
    scale = min(config.batch, sizes["train"]) / 32
    if kind == "score":
        return 0.13 * scale * config.score_updates
    if kind == "draws":
        return 0.0016 * evaluations * (6 * sizes["valid"] * config.valid_draws if which == "valid" else sizes["train"])
    seconds, epochs = {
        "encode": (0.4, config.encode_epochs),
        "fuse": (0.4, config.fuse_epochs),
        "recover": (0.6, config.recover_epochs),
    }[kind]
    return seconds * scale * max(config.least, epochs * max(1, sizes["train"] // config.batch))
