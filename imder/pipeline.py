"""`RecoveryPipeline`: the one way to run a recovery, whole or as a stream of what a screen shows of it."""

from __future__ import annotations

import dataclasses
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from imder import fetch, hub
from imder.data import FeatureSet
from imder.data.checks import Expected
from imder.data.clip import Clip, collate
from imder.interpret import Prediction, nearest_words
from imder.modality import NAMES, check_pattern, missing, names_of
from imder.model import ModelConfig
from imder.samplers import MAX_STEPS, check_steps, get_sampler, noise_seed
from imder.trajectory import Step, displayed

Arrays = dict[str, np.ndarray]

MAX_DRAWS, MAX_SEED, MAX_GUIDANCE = 64, 2**31 - 1, 8.0
MAX_SAVED = 2 * MAX_STEPS + 1  # two modalities one after the other, every step
CLOUD = 400  # training clips shown in the plane


@dataclass(frozen=True)
class RecoveryRequest:
    """What to recover and how. `sampler` and `steps` default to the run's own. Raises ValueError if not allowed.

    What the run's data have of no clip need not be named as available: it is never recovered.
    """

    clip: Clip
    available: tuple[str, ...]
    sampler: str | None = None
    steps: int | None = None
    seed: int = 0
    guidance: float = 1.0
    draws: int = 8
    displayed: int = 60  # most steps kept, first and last among them

    def __post_init__(self) -> None:
        object.__setattr__(self, "available", check_pattern(self.available))
        if lacking := [k for k in self.clip.absent if k in self.available]:
            raise ValueError(f"available: clip {self.clip.id!r} has no {lacking[0]}; it can only be recovered")
        if self.sampler is not None:
            get_sampler(self.sampler)
        if self.steps is not None:
            check_steps(self.steps)
        for name, low, high in (("seed", 0, MAX_SEED), ("draws", 1, MAX_DRAWS), ("displayed", 2, MAX_SAVED)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
                raise ValueError(f"{name}: {value!r} is not allowed; a whole number from {low} to {high} is")
        w = self.guidance
        if isinstance(w, bool) or not isinstance(w, int | float) or not (math.isfinite(w) and 0 <= w <= MAX_GUIDANCE):
            raise ValueError(f"guidance: {w!r} is not allowed; a number from 0 to {MAX_GUIDANCE:g} is")

    @property
    def missing(self) -> tuple[str, ...]:
        """The modalities to be recovered."""
        return missing(self.available)


@dataclass(frozen=True)
class RecoveryStart:
    """What is known before the first step. Latents are in unit scale, features in raw scale."""

    run_id: str
    clip: Clip
    available: tuple[str, ...]
    missing: tuple[str, ...]
    sampler: str
    steps: int  # of the whole path: two modalities drawn one after the other take theirs in turn
    nfe_total: int
    truth: Arrays  # {k: (D, L)} of the missing modalities that exist; shown, never read by the recovery
    label: float  # NaN where it is not known
    predictions: dict[str, Prediction]  # complete (NaN if a modality is absent from the clip), zero
    cloud: Arrays  # {k: (<= 400, 2)} training clips in the plane; empty without data
    truth_path: Arrays  # {k: (2,)}
    readable_truth: Arrays  # {k: (L + 2, F_k)}
    latent: tuple[int, int] | None = None  # (D, L); None: that of the truth
    classes: tuple[str, ...] = ()  # the names of a prediction's probabilities; empty where it is a sentiment


@dataclass(frozen=True)
class RecoveryChunk:
    """C saved steps of draw 0, arrays over the steps; `first` is the index of the first among the saved.

    Of two modalities drawn one after the other, `t` and `std` are those of the one that is being drawn; the one that
    waits stays at its noise and at the training mean as estimate, the one that is done at its result.
    """

    run_id: str
    first: int
    step: np.ndarray
    t: np.ndarray
    std: np.ndarray
    nfe: np.ndarray
    state: Arrays  # {k: (C, D, L)} x_t
    denoised: Arrays  # {k: (C, D, L)} E[x0 | x_t]
    reconstructed: Arrays  # {k: (C, D, L)} D_k of the estimate
    path_state: Arrays  # {k: (C, 2)}
    path_denoised: Arrays
    error: Arrays  # {k: (C,)} of the estimate, see evaluation; NaN without truth
    error_reconstructed: Arrays
    score_norm: Arrays  # root mean square a dimension
    prediction: np.ndarray  # (C,), of classes (C, classes)
    readable: Arrays  # {k: (C, L + 2, F_k)} raw features read out of the estimate


@dataclass(frozen=True)
class Recovery:
    """The result: the recovered latents (N draws, D, L) in unit scale and what follows from them."""

    run_id: str
    request: RecoveryRequest
    sampler: str
    steps: int  # a modality
    latents: Arrays  # {k: (N, D, L)} draws, before D_k
    reconstructed: Arrays  # {k: (N, D, L)} after D_k
    predictions: dict[str, Prediction]  # complete, zero, recovered; label, of classes the index of the true one
    draws: np.ndarray  # (N,) prediction of each draw; of classes (N, classes)
    #: 90 % interval for the label: the 5 % and 95 % quantile of `draws`, both moved out by the run's margin for the
    #: pattern and number of draws (measured with its own sampler at guidance 1; 0 without calibration); not of classes.
    interval: tuple[float, float] | None
    feature_error: dict[str, dict[str, float]]  # {k: draw, draw_refined, mean, mean_refined}, where there is truth
    words: list[list[tuple[str, float]]]  # nearest words and their share over draws, if language was recovered
    readable_draws: Arrays  # {k: (N, L + 2, F_k)} read out of the draws, before D_k
    nfe: int
    seconds: float
    classes: tuple[str, ...] = ()  # the names of a prediction's probabilities; empty where it is a sentiment


def _open_data(source: str | Path) -> tuple[FeatureSet, str | None]:
    """The data set; the bundled one, and why, in the place of one that the Hub cannot serve."""
    try:
        return FeatureSet.open(source), None
    except ValueError as error:
        if not isinstance(source, str) or Path(source).exists() or fetch.repository(source) is None:
            raise
        return FeatureSet.open("bundled"), f"{error}; the bundled data set serves instead."


class RecoveryPipeline:
    """A run with the data set it is shown on. Thread-safe after construction: nothing is kept between calls."""

    def __init__(self, run: hub.Run, data: FeatureSet | None = None) -> None:
        if run.kind != "imder":
            raise ValueError(f"the run {run.source} is a model of the kind {run.kind!r}; a recovery needs one of IMDer")
        self.run, self.data, self.notice = run, data, run.notice
        self.model = run.model.eval()
        self.classes, self.lacks = run.classes, run.lacks
        if data is not None:
            expected = dict(run.model.config.feature_dims)
            if dict(data.feature_dims) != expected:
                raise ValueError(
                    f"the run {run.source} was trained on features of widths {expected}; "
                    f"the data set {data.name!r} has {dict(data.feature_dims)}"
                )
            if more := set(self.lacks) - set(data.lacks):
                raise ValueError(
                    f"the run {run.source} was trained without {names_of(more)}, which the data set {data.name!r} has"
                )
            if data.label_classes != self.classes:
                kinds = [", ".join(names) if names else "a sentiment" for names in (self.classes, data.label_classes)]
                raise ValueError(
                    f"the run {run.source} predicts {kinds[0]}; the label of the data set {data.name!r} is {kinds[1]}"
                )

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        data: str | Path | FeatureSet | None = "bundled",
        anonymous: bool = False,
    ) -> RecoveryPipeline:
        """A run folder, a Hub repository `owner/name[@revision]`, or None for the bundled checkpoint; data likewise.

        Where the Hub cannot serve, the bundled checkpoint does, or the bundled data set, and both where only they fit
        each other; `notice` says so. `anonymous`: the Hub is asked without the token.
        """
        run = hub.load(source, anonymous=anonymous)
        if data is None or isinstance(data, FeatureSet):
            return cls(run, data)
        shown, notice = _open_data(data)
        reads = dict(shown.feature_dims) == dict(run.model.config.feature_dims)
        if not reads or shown.label_classes != run.classes:
            if notice:
                other = "predicts another label" if reads else "reads other features"
                run, notice = hub.load(), f"{notice} The model {other}: the bundled one serves too."
            elif run.notice and run.source == "bundled":
                shown, notice = FeatureSet.open("bundled"), "It is shown on its own data set."
        both = " ".join(filter(None, (run.notice, notice or shown.notice)))
        return cls(dataclasses.replace(run, notice=both or None), shown)

    # What does not depend on a request -------------------------------------------------------------------------------

    @property
    def expected(self) -> Expected:
        """What a visitor's features have to be like."""
        dims, statistics = dict(self.model.config.feature_dims), self.run.standardiser
        if self.data is None:
            return Expected(dims, statistics)
        return Expected(dims, statistics, self.data.feature_names, self.data.label_range, self.classes)

    @cached_property
    def planes(self) -> dict[str, PCA]:
        """The plane of the two leading directions of each modality's training latents; empty without data."""
        return self._training_plane[0]

    @cached_property
    def cloud(self) -> Arrays:
        """{k: (<= 400, 2)} training clips in their plane."""
        return self._training_plane[1]

    @cached_property
    def _training_plane(self) -> tuple[dict[str, PCA], Arrays]:
        if self.data is None:
            return {}, {}
        clips = self.data.complete(self.data.splits[0], self.lacks)
        latents: dict[str, list[Tensor]] = {}
        for at in range(0, len(clips), 256):
            batch = self.run.standardiser.apply(collate([clips[i] for i in range(at, min(at + 256, len(clips)))]))
            for k, z in self._encode(batch.features, batch.valid).items():
                if k not in self.lacks:
                    latents.setdefault(k, []).append(self._fixed(self.model.unit(k, z)))
        planes, clouds = {}, {}
        for k, rows in latents.items():
            flat = torch.cat(rows).numpy()
            planes[k] = PCA(2, svd_solver="randomized", random_state=0).fit(flat)
            pick = np.linspace(0, len(flat) - 1, min(CLOUD, len(flat))).astype(int)
            clouds[k] = planes[k].transform(flat[pick]).astype(np.float32)
        return planes, clouds

    def warm_up(self) -> None:
        """Computes now what the first recovery would wait for."""
        _ = self.planes
        if self.data is not None:
            clip = self.data.split(self.data.splits[-1])[0]
            for k in missing((*self.lacks, *clip.absent)):
                self(RecoveryRequest(clip, (k,), steps=2, draws=1))

    @torch.no_grad()
    def _encode(self, features: dict[str, Tensor], valid: Tensor) -> dict[str, Tensor]:
        mask = self.model.latent_valid(valid)[:, None]
        return {k: z * mask for k, z in self.model.encode(features).items()}

    def _fixed(self, z: Tensor) -> Tensor:
        """Latents (..., D, L) flattened at the model's number of frames, so that clips of any length share a plane."""
        frames = self.model.config.frames
        if z.shape[-1] < frames:
            z = torch.nn.functional.pad(z, (0, frames - z.shape[-1]))
        return z[..., :frames].flatten(-2)

    def _in_plane(self, k: str, z: Tensor) -> np.ndarray:
        if k not in self.planes:
            return np.zeros((*z.shape[:-2], 0), dtype=np.float32)
        return self.planes[k].transform(self._fixed(z).reshape(-1, self.planes[k].n_features_in_).numpy()).astype("f4")

    def readable(self, k: str, z: Tensor) -> np.ndarray:
        """Latents (N, D, L) as raw features (N, L + 2, F_k)."""
        return self.run.standardiser.invert(k, self.model.read(k, z).numpy()).astype(np.float32)

    # Recovery --------------------------------------------------------------------------------------------------------

    def seen(self, clip: Clip) -> Clip:
        """The clip as the model takes it: what its training data lack is there and empty, whatever the clip holds."""
        if not self.lacks:
            return clip
        dims, lengths = self.model.config.feature_dims, {n for k, n in clip.lengths.items() if k not in self.lacks}
        frames = lengths.pop() if len(lengths) == 1 else 1  # of a time axis that is shared
        empty = {k: np.zeros((frames, dims[k]), np.float32) for k in self.lacks}
        absent = tuple(k for k in clip.absent if k not in self.lacks)
        clip = dataclasses.replace(clip, features=clip.features | empty, absent=absent)
        return dataclasses.replace(clip, text="", words=()) if "text" in self.lacks else clip

    def _settled(self, request: RecoveryRequest) -> RecoveryRequest:
        """The request with what the run's data lack as available; ValueError where nothing else is, or is missing."""
        if not self.lacks:
            return request
        there = [k for k in request.available if k not in self.lacks]
        rest = [k for k in missing(self.lacks) if k not in there]
        if not there or not rest:
            what = names_of(self.lacks)
            others = " or ".join(NAMES[k].lower() for k in missing(self.lacks))
            raise ValueError(f"available: this data set has no {what}, so it cannot be recovered; drop {others}")
        return dataclasses.replace(request, clip=self.seen(request.clip), available=(*there, *self.lacks))

    def __call__(self, request: RecoveryRequest) -> Recovery:
        """The whole recovery."""
        last = None
        for last in self.stream(request, interval=math.inf):  # noqa: B007
            pass
        return last

    def stream(
        self, request: RecoveryRequest, interval: float = 0.25
    ) -> Iterator[RecoveryStart | RecoveryChunk | Recovery]:
        """RecoveryStart, then chunks of steps (the first with the first step alone, others every `interval` seconds),
        then the Recovery. The same request gives the same numbers, whatever else runs."""
        return _Session(self, self._settled(request)).play(interval)


def feature_error(z: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error a dimension in unit latents, over the last two axes (evaluation.md, section 2)."""
    return ((z - truth) ** 2).mean(dim=(-2, -1))


def prediction_of(prediction: Tensor) -> Prediction:
    """The prediction of one row, (1,) or (1, classes), as it is shown."""
    return float(prediction) if prediction.ndim == 1 else prediction[0].numpy()


def label_interval(config: ModelConfig, available: Sequence[str], predictions: np.ndarray) -> tuple[float, float]:
    """The 90 % interval for the label from the draws' predictions (N,), see `Recovery.interval`."""
    low, high = np.quantile(predictions, [0.05, 0.95])
    margin = config.margin(available, len(predictions))
    middle = (low + high) / 2  # a negative margin ends there
    return float(min(low - margin, middle)), float(max(high + margin, middle))


class _Session:
    """One recovery: the clip's latents, and what is made of every saved step."""

    def __init__(self, pipeline: RecoveryPipeline, request: RecoveryRequest) -> None:
        self.pipeline, self.model, self.request = pipeline, pipeline.model, request
        config = self.model.config
        self.sampler = request.sampler or config.sampler
        own = config.steps if self.sampler == config.sampler else get_sampler(self.sampler).steps
        self.steps = check_steps(request.steps or own)
        count = len(request.missing)
        self.turns = count if config.order else 1  # halves of the path
        # Network evaluations of a step: one a modality in lockstep, twice that with guidance (and without condition).
        self.evaluations = count // self.turns * (1 if request.guidance in (0, 1) else 2)
        self.run_id = uuid.uuid4().hex[:12]

    @torch.no_grad()
    def play(self, interval: float) -> Iterator[RecoveryStart | RecoveryChunk | Recovery]:
        began, request, model = time.perf_counter(), self.request, self.model
        batch = self.pipeline.run.standardiser.apply(collate([request.clip]))
        self.latents = self.pipeline._encode(batch.features, batch.valid)
        self.valid = model.latent_valid(batch.valid)
        self.truth = {k: model.unit(k, self.latents[k])[0] for k in request.missing if k not in request.clip.absent}
        zeroed = {k: x if k in request.available else torch.zeros_like(x) for k, x in batch.features.items()}
        self.baselines = {
            "complete": math.nan if request.clip.absent else prediction_of(model.predict(self.latents, self.valid)),
            "zero": prediction_of(model.predict(self.pipeline._encode(zeroed, batch.valid), self.valid)),
        }
        yield self._start()

        saved = set(displayed(self.steps * self.turns, request.displayed).tolist())
        waiting: list[dict[str, Step]] = []
        first, told, last = 0, -math.inf, None
        for last in model.stream(
            {k: z.expand(request.draws, -1, -1) for k, z in self.latents.items() if k in request.available}
            | {k: torch.zeros_like(self.latents[k]).expand(request.draws, -1, -1) for k in request.missing},
            request.available,
            valid=self.valid.expand(request.draws, -1),
            seeds=[noise_seed(request.seed, request.clip.id, draw) for draw in range(request.draws)],
            sampler=self.sampler,
            steps=self.steps,
            guidance=request.guidance,
        ):
            head = last[request.missing[0]]
            if head.index in saved:
                waiting.append(last)
            if waiting and (head.index == 0 or head.last or time.perf_counter() - told >= interval):
                yield self._chunk(first, waiting)
                first, waiting, told = first + len(waiting), [], time.perf_counter()
        yield self._finish(last, began)

    def _start(self) -> RecoveryStart:
        request, pipeline = self.request, self.pipeline
        return RecoveryStart(
            run_id=self.run_id,
            clip=request.clip,
            available=request.available,
            missing=request.missing,
            sampler=self.sampler,
            steps=self.steps * self.turns,
            nfe_total=get_sampler(self.sampler).evaluations(self.steps) * self.turns * self.evaluations,
            truth={k: z.numpy() for k, z in self.truth.items()},
            label=request.clip.label,
            predictions=dict(self.baselines),
            cloud={k: pipeline.cloud[k] for k in request.missing if k in pipeline.cloud},
            truth_path={k: pipeline._in_plane(k, z[None])[0] for k, z in self.truth.items()},
            readable_truth={k: request.clip.features[k] for k in self.truth},
            latent=tuple(self.latents[request.missing[0]].shape[1:]),
            classes=pipeline.classes,
        )

    def _predict(self, recovered: dict[str, Tensor]) -> np.ndarray:
        """Predictions for rows of recovered (refined) latents of the missing modalities, the others as observed."""
        rows = len(next(iter(recovered.values())))
        latents = {k: z.expand(rows, -1, -1) for k, z in self.latents.items()} | recovered
        return self.model.predict(latents, self.valid.expand(rows, -1)).numpy()

    def _chunk(self, first: int, steps: Sequence[dict[str, Step]]) -> RecoveryChunk:
        model, frames, request = self.model, self.valid.shape[1], self.request
        state, denoised, refined, path = {}, {}, {}, {}
        errors, refined_errors, norms, readable = {}, {}, {}, {}
        latent_refined = {}
        for k in request.missing:
            x = model.crop(torch.stack([step[k].x[0] for step in steps]), frames)  # (C, D, L)
            d = model.crop(torch.stack([step[k].denoised[0] for step in steps]), frames)
            r = model.reconstruct(k, d)
            latent_refined[k] = r
            units = [model.unit(k, z) for z in (x, d, r)]
            state[k], denoised[k], refined[k] = (z.numpy() for z in units)
            path[k] = [self.pipeline._in_plane(k, z) for z in units[:2]]
            errors[k], refined_errors[k] = (
                feature_error(z, self.truth[k]).numpy() if k in self.truth else np.full(len(steps), np.nan, "f4")
                for z in units[1:]
            )
            norms[k] = np.array(
                [0.0 if s[k].score is None else float(s[k].score[0].square().mean().sqrt()) for s in steps], dtype="f4"
            )
            readable[k] = self.pipeline.readable(k, d)
        # A modality that waits or is done has no score; at the end none has.
        heads = [next((s for s in step.values() if s.score is not None), step[request.missing[0]]) for step in steps]
        return RecoveryChunk(
            run_id=self.run_id,
            first=first,
            step=np.array([s.index for s in heads]),
            t=np.array([s.t for s in heads]),
            std=np.array([s.std for s in heads]),
            nfe=np.array([s.nfe for s in heads]) * self.evaluations,
            state=state,
            denoised=denoised,
            reconstructed=refined,
            path_state={k: p[0] for k, p in path.items()},
            path_denoised={k: p[1] for k, p in path.items()},
            error=errors,
            error_reconstructed=refined_errors,
            score_norm=norms,
            prediction=self._predict(latent_refined),
            readable=readable,
        )

    def _finish(self, last: dict[str, Step], began: float) -> Recovery:
        model, request, frames = self.model, self.request, self.valid.shape[1]
        draws = {k: model.crop(last[k].x, frames) for k in request.missing}
        refined = {k: model.reconstruct(k, z) for k, z in draws.items()}
        predictions = self._predict(refined)
        errors = {}
        for k, z in draws.items():
            mean = z.mean(dim=0, keepdim=True)
            kinds = {
                "draw": z[:1],
                "draw_refined": refined[k][:1],
                "mean": mean,
                "mean_refined": model.reconstruct(k, mean),
            }
            if k in self.truth:
                errors[k] = {name: float(feature_error(model.unit(k, v), self.truth[k])) for name, v in kinds.items()}
        readable = {k: self.pipeline.readable(k, z) for k, z in draws.items()}
        words: list[list[tuple[str, float]]] = []
        vocabulary = self.pipeline.data.vocabulary if self.pipeline.data is not None else None
        if "text" in readable and vocabulary is not None and request.clip.words:
            words = nearest_words(readable["text"], request.clip.words, vocabulary)
        classes = self.pipeline.classes
        recovered = predictions.mean(axis=0) if classes else float(predictions.mean())
        return Recovery(
            run_id=self.run_id,
            request=request,
            sampler=self.sampler,
            steps=self.steps,
            latents={k: model.unit(k, z).numpy() for k, z in draws.items()},
            reconstructed={k: model.unit(k, z).numpy() for k, z in refined.items()},
            predictions=self.baselines | {"recovered": recovered, "label": request.clip.label},
            draws=predictions,
            interval=None if classes else label_interval(model.config, request.available, predictions),
            feature_error=errors,
            words=words,
            readable_draws=readable,
            nfe=last[request.missing[0]].nfe * self.evaluations,
            seconds=time.perf_counter() - began,
            classes=classes,
        )
