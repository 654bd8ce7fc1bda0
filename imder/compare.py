"""Recoveries and rivals of one clip under the same noise, each yielded when it is finished.

A draw's noise depends on the seed, the clip, the draw's number and the modality alone (`imder.samplers.noise_seed`), so
what differs between two outcomes is what was changed. The generators yield `Progress` while something runs, so that a
caller can stop them, and an `Outcome` for everything that is finished.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from imder import hub
from imder.baselines import MMIN, GCNet, Recognizer
from imder.baselines.fill import Latents
from imder.data import FeatureSet
from imder.data.clip import Batch, Clip, collate
from imder.evaluation.evaluate import encode_clips, fitted_fills
from imder.interpret import Prediction, likeliest, true_share
from imder.modality import MODALITIES, NAMES, missing, ordered, to_mask
from imder.modality import patterns as patterns_of
from imder.model import ModelConfig, task
from imder.pipeline import (
    Arrays,
    Recovery,
    RecoveryChunk,
    RecoveryPipeline,
    RecoveryRequest,
    RecoveryStart,
    prediction_of,
)
from imder.samplers import SAMPLERS, get_sampler

#: Guidance strengths: without the condition, half of it, as trained, beyond.
WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 4.0)
#: (sampler, steps) from few to many evaluations; the last is the published sampler, which takes 500.
TRIALS = (
    ("dpmpp-2m", 5), ("dpmpp-2m", 10), ("dpmpp-2m", 20),
    ("dpmpp-2m-sde", 10), ("dpmpp-2m-sde", 20),
    ("heun", 5), ("heun", 10),
    ("euler-maruyama-log", 20), ("euler-maruyama-log", 50),
    ("euler-maruyama", 50), ("euler-maruyama", 200),
)  # fmt: skip
#: What the trials are held against.
REFERENCE = ("dpmpp-2m", 60)
#: Runs of the three ways to read the paper, by the names of their presets, the longest last.
PRESETS = {
    "official": "as published (the authors' code)",
    "corrected": "corrected (this project)",
    "paper": "as written (the paper's equations)",
}
#: What each takes by its own sampler and steps: evaluations of a modality and draw.
PRESET_EVALUATIONS = {
    name: get_sampler(config.sampler).evaluations(config.steps)
    for name, config in ((name, ModelConfig.from_preset(name, dict.fromkeys(MODALITIES, 1))) for name in PRESETS)
}
FILLS = {"zero": "zero fill", "mean": "mean fill", "knn": "nearest neighbours", "ridge": "ridge regression"}
#: What of voice and face is shown over the frames: (title, the names it has in data sets).
BANDS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "audio": (("pitch (log F0)", ("log_f0", "logf0", "log F0")), ("energy (MFCC 0)", ("mfcc_0", "energy"))),
    "vision": (
        ("smile (AU12)", ("AU12", "AU12_r")),
        ("frown (AU04)", ("AU04", "AU04_r")),
        ("open mouth (AU26)", ("AU26", "AU26_r")),
    ),
}
#: Saved steps that a recovery is asked for, one in so many: each costs a few evaluations, and none could be stopped.
ONE_IN, SHOWN = 10, 40


@dataclass(frozen=True)
class Progress:
    """What runs now, and which part of it is done, 0 to 1."""

    name: str
    part: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """One finished answer about the clip.

    `prediction` is the mean over the draws, of `classes` their probabilities (classes,), NaN where there is none;
    `draws` then are (N, classes). `feature_error` is that of the first draw and `mean_error` that of the
    draws' mean ({k: mean squared error a dimension in unit latents}); an answer without draws has one error, in both.
    `readable` holds raw features {k: (L_k, F_k)} of what it takes each modality to be, the observed ones as they are; a
    missing one is absent where the model keeps no picture of it, and `note` says so.
    """

    name: str
    available: tuple[str, ...]
    prediction: Prediction
    label: float  # of classes the index of the true one
    classes: tuple[str, ...] = ()
    interval: tuple[float, float] | None = None
    draws: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    feature_error: dict[str, float] = field(default_factory=dict)
    mean_error: dict[str, float] = field(default_factory=dict)
    readable: Arrays = field(default_factory=dict)
    words: tuple[tuple[tuple[str, float], ...], ...] = ()
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    nfe: int = 0
    seconds: float = 0.0  # of this machine, in this run
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a prediction."""
        return bool(np.isfinite(self.prediction).all())

    @property
    def error(self) -> float:
        """Prediction minus label, of a sentiment."""
        return self.prediction - self.label

    @property
    def likeliest(self) -> tuple[str, float] | None:
        """The class that is predicted and its probability; None without a prediction."""
        return likeliest(self.prediction, self.classes)

    @property
    def true_share(self) -> float:
        """The probability of the true class; NaN without a prediction."""
        return true_share(self.prediction, self.label)

    @property
    def missing(self) -> tuple[str, ...]:
        """What was not observed."""
        return missing(self.available)


@dataclass(frozen=True, eq=False)
class Trial(Outcome):
    """A sampler on a grid, against the truth and against the long reference run.

    `draw_error` and `spread`: mean over draws and missing modalities of the squared distance to the truth, and of that
    to the draws' own mean, a dimension in unit latents. `gap` is the squared distance of the draws to the
    reference's draws of the same number and noise (solvers of the ODE only: others draw more noise on the way), and
    `mean_gap` that of the two means, where few draws leave a distance of their own.
    """

    draw_error: float = 0.0
    spread: float = 0.0
    gap: float | None = None
    mean_gap: float = 0.0


@dataclass(frozen=True, eq=False)
class Band:
    """A quantity of a missing modality by frame: 5 %, 50 % and 95 % quantile of the draws (L,), and the truth."""

    modality: str
    title: str
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True, eq=False)
class Fan:
    """Draws of one recovery side by side: `outcome` with its N predictions, and per-frame bands."""

    outcome: Outcome
    bands: tuple[Band, ...]


# One recovery ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Run:
    start: RecoveryStart
    recovery: Recovery
    seconds: float


def _runs(pipeline: RecoveryPipeline, request: RecoveryRequest, name: str) -> Iterator[Progress | _Run]:
    """A recovery; its seconds do not count what the caller does between two items."""
    steps = request.steps or pipeline.model.config.steps
    request = dataclasses.replace(request, displayed=max(2, min(SHOWN, steps // ONE_IN)))
    items, seconds, start = pipeline.stream(request, interval=0.1), 0.0, None
    while True:
        began = time.perf_counter()
        item = next(items, None)
        seconds += time.perf_counter() - began
        if isinstance(item, RecoveryStart):
            start = item
            yield Progress(name, 0.0)
        elif isinstance(item, RecoveryChunk):
            yield Progress(name, float(item.nfe[-1]) / start.nfe_total)
        else:
            yield _Run(start, item, seconds)
            return


def _outcome(run: _Run, name: str, note: str = "") -> Outcome:
    recovery, clip = run.recovery, run.recovery.request.clip
    request = recovery.request
    readable = {k: clip.features[k] for k in request.available}
    return Outcome(
        name=name,
        available=request.available,
        prediction=recovery.predictions["recovered"],
        label=clip.label,
        classes=recovery.classes,
        interval=recovery.interval,
        draws=recovery.draws,
        feature_error={k: recovery.feature_error[k]["draw"] for k in request.missing},
        mean_error={k: recovery.feature_error[k]["mean"] for k in request.missing},
        readable=readable | {k: recovery.readable_draws[k][0] for k in request.missing},
        words=tuple(tuple(ranked) for ranked in recovery.words),
        sampler=recovery.sampler,
        steps=recovery.steps,
        guidance=float(request.guidance),
        nfe=recovery.nfe,
        seconds=run.seconds,
        note=note,
    )


def complete(pipeline: RecoveryPipeline, request: RecoveryRequest) -> Outcome:
    """The clip with nothing missing, as the model reads it."""
    began = time.perf_counter()
    items = pipeline.stream(request)
    start = next(items)
    items.close()
    clip = request.clip
    return Outcome(
        name="Nothing dropped",
        available=MODALITIES,
        prediction=start.predictions["complete"],
        label=clip.label,
        classes=start.classes,
        readable=dict(clip.features),
        seconds=time.perf_counter() - began,
    )


def cost(pipeline: RecoveryPipeline, request: RecoveryRequest, what: str) -> int:
    """Network evaluations of a comparison that each draw adds; `presets` count the runs' own samplers and steps."""
    config, count = pipeline.model.config, len(request.missing)
    sampler = get_sampler(request.sampler or config.sampler)
    steps = request.steps or (config.steps if request.sampler in (None, config.sampler) else sampler.steps)
    path = sampler.evaluations(steps)
    return {
        "patterns": (2 if pipeline.lacks else 9) * path,
        "guidance": sum(1 if w in (0, 1) else 2 for w in WEIGHTS) * count * path,
        "samplers": sum(SAMPLERS[name].evaluations(n) for name, n in (REFERENCE, *TRIALS)) * count,
        "presets": sum(PRESET_EVALUATIONS.values()) * count,
        "methods": count * path,
        "fan": count * path,
    }[what]


# The comparisons ------------------------------------------------------------------------------------------------------


def dropped(available: Sequence[str]) -> str:
    """A pattern in words."""
    gone = [NAMES[k] for k in missing(available)]
    return f"{' and '.join(gone)} dropped" if gone else "Nothing dropped"


def patterns(pipeline: RecoveryPipeline, request: RecoveryRequest) -> Iterator[Progress | Outcome]:
    """The complete clip, then all six recoveries, whatever the request drops; most of the clip first.

    Two where the run's data lack a modality.
    """
    yield complete(pipeline, request)
    partial = [ordered((*p, *pipeline.lacks)) for p in patterns_of(pipeline.lacks)[:-1]]
    for available in sorted(partial, key=len, reverse=True):
        name = dropped(available)
        for item in _runs(pipeline, dataclasses.replace(request, available=available), name):
            yield _outcome(item, name) if isinstance(item, _Run) else item


def guided(weight: float) -> str:
    """A guidance strength in words."""
    told = {0.0: " (unconditional)", 1.0: " (conditional, as trained)"}
    return f"Guidance {weight:g}{told.get(weight, '')}"


def guidance(
    pipeline: RecoveryPipeline, request: RecoveryRequest, weights: Sequence[float] = WEIGHTS
) -> Iterator[Progress | Outcome]:
    """The recovery at each guidance strength; 0 ignores what is observed, 1 is the model as trained."""
    for weight in weights:
        name = guided(weight)
        for item in _runs(pipeline, dataclasses.replace(request, guidance=float(weight)), name):
            yield _outcome(item, name) if isinstance(item, _Run) else item


def samplers(
    pipeline: RecoveryPipeline, request: RecoveryRequest, trials: Sequence[tuple[str, int]] = TRIALS
) -> Iterator[Progress | Trial]:
    """The long reference first, then every (sampler, steps) of `trials`, at the request's guidance."""
    for _ in _runs(pipeline, dataclasses.replace(request, sampler=REFERENCE[0], steps=2), "warming up"):
        pass  # the first run would pay for what the others find in memory
    reference: Recovery | None = None
    for sampler, steps in (REFERENCE, *trials):
        name = f"{SAMPLERS[sampler].title}, {steps} steps"
        for item in _runs(pipeline, dataclasses.replace(request, sampler=sampler, steps=steps), name):
            if isinstance(item, Progress):
                yield item
                continue
            reference = reference or item.recovery
            yield _trial(item, reference, name if reference is not item.recovery else f"Reference: {name}")


def _trial(run: _Run, reference: Recovery, name: str) -> Trial:
    made, truth = run.recovery.latents, run.start.truth

    def averaged(of: Callable[[str], np.ndarray]) -> float:
        return float(np.mean([np.mean(of(k) ** 2) for k in made]))

    outcome = _outcome(run, name)
    own = {f.name: getattr(outcome, f.name) for f in dataclasses.fields(outcome)}
    return Trial(
        **own,
        draw_error=averaged(lambda k: made[k] - truth[k]),
        spread=averaged(lambda k: made[k] - made[k].mean(axis=0)),
        gap=None if SAMPLERS[run.recovery.sampler].stochastic else averaged(lambda k: made[k] - reference.latents[k]),
        mean_gap=averaged(lambda k: made[k].mean(axis=0) - reference.latents[k].mean(axis=0)),
    )


def presets(
    openers: Mapping[str, Callable[[], RecoveryPipeline]], request: RecoveryRequest
) -> Iterator[Progress | Outcome]:
    """Each run by its own sampler and steps; runs are opened one at a time by `openers`, named as in `PRESETS`."""
    for key, opener in openers.items():
        name = PRESETS.get(key, key)
        name = name[0].upper() + name[1:]
        yield Progress(f"{name}: opening", 0.0)
        pipeline = opener()
        config = pipeline.model.config
        own = dataclasses.replace(request, sampler=config.sampler, steps=config.steps)
        for item in _runs(pipeline, own, name):
            if isinstance(item, _Run):
                title, steps = SAMPLERS[item.recovery.sampler].title, item.recovery.steps
                yield _outcome(item, name, note=f"{title}, {steps} steps")
            else:
                yield item


class Fills:
    """The fills through one pipeline's model, fitted on its training clips when first asked for."""

    def __init__(self, pipeline: RecoveryPipeline) -> None:
        self.pipeline = pipeline
        self._fitted: dict[str, Callable[[Latents, tuple[str, ...], Tensor], Latents]] | None = None

    def prepare(self) -> None:
        """Encodes the training clips that lack nothing; the second time does nothing."""
        if self._fitted is None:
            model, data, standardiser = self.pipeline.model, self.pipeline.data, self.pipeline.run.standardiser
            lacks = self.pipeline.lacks
            train = encode_clips(model, standardiser, data.complete("train", lacks))
            self._fitted = fitted_fills(model, standardiser, data, train, lacks=lacks)

    def outcome(self, method: str, request: RecoveryRequest) -> Outcome:
        """One fill's answer; its features are read out of the latents as a draw's are."""
        pipeline, model = self.pipeline, self.pipeline.model
        own = encode_clips(model, pipeline.run.standardiser, [request.clip])
        seen = {k: z if k in request.available else torch.zeros_like(z) for k, z in own.latents.items()}
        with torch.no_grad():
            self._fitted[method](seen, request.available, own.valid)  # fits what is fitted when first asked for
            began = time.perf_counter()
            filled = self._fitted[method](seen, request.available, own.valid)
            prediction = prediction_of(model.predict(seen | filled, own.valid))
        errors = {
            k: float(((model.unit(k, filled[k]) - model.unit(k, own.latents[k])) ** 2).mean()) for k in request.missing
        }
        seconds = time.perf_counter() - began
        with torch.no_grad():
            readable = {k: pipeline.readable(k, filled[k])[0] for k in request.missing}
        return Outcome(
            name=FILLS[method].capitalize(),
            available=request.available,
            prediction=prediction,
            label=request.clip.label,
            classes=pipeline.classes,
            feature_error=errors,
            mean_error=errors,
            readable={k: request.clip.features[k] for k in request.available} | readable,
            seconds=seconds,
        )


def methods(
    pipeline: RecoveryPipeline,
    request: RecoveryRequest,
    baselines: Mapping[str, Callable[[], hub.Run]],
    fills: Fills,
) -> Iterator[Progress | Outcome]:
    """IMDer, the runs of `baselines` (opened one at a time), then the fills.

    The fills go through IMDer's own encoders and readout; the baselines are other models. A baseline trained on
    features of other widths or for another label, and fills without a training split, give an outcome whose prediction
    is NaN and a note.
    """
    for item in _runs(pipeline, request, "IMDer"):
        yield _outcome(item, "IMDer") if isinstance(item, _Run) else item
    for key, opener in baselines.items():
        yield Progress(key, 0.0)
        yield baseline(opener(), pipeline.data, request)
    if "train" not in pipeline.data.splits:
        note = "they are fitted on a training split, and this data set has none"
        yield Outcome("Fills", request.available, float("nan"), request.clip.label, pipeline.classes, note=note)
        return
    yield Progress("fills: reading the training clips", 0.0)
    fills.prepare()
    for method in FILLS:
        yield Progress(FILLS[method], 0.0)
        yield fills.outcome(method, request)


def baseline(run: hub.Run, data: FeatureSet, request: RecoveryRequest) -> Outcome:
    """What a run of MMIN, GCNet, modality dropout or the subset models says of the clip."""
    model: Recognizer = run.model.eval()
    clip = request.clip
    name = f"{model.title[0].upper()}{model.title[1:]}"
    observed = {k: clip.features[k] for k in request.available}
    other = ""
    if dict(model.config.feature_dims) != dict(data.feature_dims):
        other = "it was trained on features of other widths than this data set has"
    elif run.classes != data.label_classes:
        other = "it was trained to predict another label than this data set has"
    if other:
        return Outcome(
            name, request.available, float("nan"), clip.label, data.label_classes, readable=observed, note=other
        )
    clips = _video(data, clip) if model.whole_videos else [clip]
    row = next(i for i, one in enumerate(clips) if one.id == clip.id)
    batch = run.standardiser.apply(collate(clips))
    available = torch.from_numpy(to_mask(request.available)).expand(len(clips), -1)
    began = time.perf_counter()
    with torch.no_grad():
        found = model(batch, available)
    seconds = time.perf_counter() - began
    pictures, note = _imagined(run, batch, row, found.imagined, request)
    return Outcome(
        name=name,
        available=request.available,
        prediction=prediction_of(task.outcome(found.value[row : row + 1])),
        label=clip.label,
        classes=run.classes,
        readable=observed | pictures,
        nfe=1,
        seconds=seconds,
        note=note,
    )


def _video(data: FeatureSet, clip: Clip) -> list[Clip]:
    """The clips of a clip's video, in the split that holds it."""
    for split in data.splits:
        records = data.split(split).records
        if any(record["id"] == clip.id for record in records):
            return [data.clip(record["id"]) for record in records if record["video"] == clip.video]
    return [clip]


@torch.no_grad()
def _imagined(
    run: hub.Run, batch: Batch, row: int, imagined: Mapping[str, Tensor], request: RecoveryRequest
) -> tuple[Arrays, str]:
    """What of a model's imagination can be drawn, and a sentence about it."""
    model = run.model
    if isinstance(model, GCNet):
        means = {k: imagined[k][row].numpy() for k in request.missing}  # (F_k,)
        pictures = {
            k: np.repeat(run.standardiser.invert(k, x[None]), len(request.clip.features[k]), axis=0).astype(np.float32)
            for k, x in means.items()
        }
        return pictures, "it imagines the mean over the clip alone, so its picture stands still"
    if isinstance(model, MMIN):
        told = []
        for k in request.missing:
            true = model.teacher.encoders.embed(k, batch.features[k][row : row + 1], batch.valid[row : row + 1])
            cosine = float(torch.cosine_similarity(imagined[k][row : row + 1], true))
            told.append(f"{NAMES[k]} {cosine:.2f}")
        width = model.config.hidden
        return {}, f"it imagines {width} numbers, no frames; their cosine to the true ones: {', '.join(told)}"
    return {}, "it keeps no picture of what is missing"


def fan(pipeline: RecoveryPipeline, request: RecoveryRequest) -> Iterator[Progress | Fan]:
    """All draws of one recovery."""
    for item in _runs(pipeline, request, f"{request.draws} draws"):
        if isinstance(item, _Run):
            names = pipeline.data.feature_names or {}
            yield Fan(_outcome(item, f"IMDer, {request.draws} draws"), tuple(_bands(item.recovery, names)))
        else:
            yield item


def _bands(recovery: Recovery, names: Mapping[str, Sequence[str]]) -> Iterator[Band]:
    for k in recovery.request.missing:
        for title, spellings in BANDS.get(k, ()):
            at = next((list(names.get(k, ())).index(name) for name in spellings if name in names.get(k, ())), None)
            if at is None:
                continue
            low, middle, high = np.quantile(recovery.readable_draws[k][..., at], (0.05, 0.5, 0.95), axis=0)
            yield Band(k, title, low, middle, high, recovery.request.clip.features[k][:, at])
