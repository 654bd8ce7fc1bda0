"""Recovered against real over a split: the joint pictures, histograms and distances that one small file keeps.

Everything is in unit latents (each channel of mean 0 and variance 1 on the training split). A clip is a point: its
latents at one length, in the 32 leading principal directions of the training clips, where distances are taken too.
Draws are those of `python -m imder evaluate` (draw 0 of seed 0), so the distances are those of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from imder.baselines.fill import Encoded, Latents
from imder.data.clip import Clip
from imder.data.standardise import Standardiser
from imder.evaluation.distribution import Floor, halves_floor
from imder.evaluation.evaluate import DISTANCES, RecoveryStudy, encode_clips
from imder.evaluation.study import Tick
from imder.modality import PATTERNS, missing, symbols
from imder.model import IMDer

REAL, CONDITIONAL, UNCONDITIONAL = KINDS = ("real", "conditional", "unconditional")
#: Clips of a joint picture at most, spread evenly: three sets of them are drawn.
PICTURED = 500
PERPLEXITY = 30.0
BINS = 48
#: The 0.1 and 99.9 % quantiles of the real values, and how much wider than between them the histograms are.
TAIL, WIDER = 0.001, 0.15
#: Sentences whose other performances are compared, and draws of each.
SENTENCES, DRAWS = 8, 32
GIVEN = ("text",)  # what the other performances of a clip share

Say = Callable[[str], None]


@dataclass(frozen=True)
class View:
    """A modality and what it is recovered from."""

    modality: str
    observed: tuple[str, ...]

    @property
    def name(self) -> str:
        """Such as `LA-V`."""
        return f"{symbols(self.observed)}-{symbols((self.modality,))}"


#: Every modality from the other two, then from one.
VIEWS = tuple(View(k, p) for count in (2, 1) for p in PATTERNS if len(p) == count for k in missing(p))


def view_of(modality: str, observed: Sequence[str]) -> View:
    """The view of that name. Raises ValueError for a pattern that does not leave the modality missing."""
    for view in VIEWS:
        if (view.modality, view.observed) == (modality, tuple(observed)):
            return view
    raise ValueError(f"observed: {', '.join(observed)} does not fit {modality}; one or two others are needed")


@dataclass(frozen=True)
class Plane:
    """The two leading principal directions of a joint set of points (N, P)."""

    mean: np.ndarray  # (P,)
    directions: np.ndarray  # (2, P)

    @classmethod
    def fit(cls, points: np.ndarray) -> Plane:
        """Raises ValueError for fewer than two points."""
        if len(points) < 2:
            raise ValueError(f"{len(points)} points have no plane; at least 2 are needed")
        pca = PCA(min(2, *points.shape), svd_solver="full").fit(points)
        return cls(pca.mean_, pca.components_)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N, P) to (N, 2)."""
        return (points - self.mean) @ self.directions.T


def embed(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE (van der Maaten and Hinton 2008) of a joint set (N, P): (N, 2); neighbours mean something, gaps little."""
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1)
    return made.fit_transform(np.ascontiguousarray(points, dtype=np.float32))


@dataclass(frozen=True)
class Bins:
    """Histogram bins of C channels; what is beyond the outer edges counts in the outer bins."""

    low: np.ndarray  # (C,)
    high: np.ndarray  # (C,)

    @classmethod
    def around(cls, real: np.ndarray) -> Bins:
        """Bins for real values (N, C)."""
        low, high = np.quantile(real, [TAIL, 1 - TAIL], axis=0)
        more = WIDER * np.maximum(high - low, 1e-6)
        return cls(low - more, high + more)

    def shares(self, values: np.ndarray) -> np.ndarray:
        """(N, C) to the share of values in each bin, (C, BINS)."""
        at = np.floor((values - self.low) / (self.high - self.low) * BINS).clip(0, BINS - 1).astype(int)
        return np.stack([np.bincount(column, minlength=BINS) for column in at.T]) / len(values)


def channel_gaps(x: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance a channel of values (N, C) and (M, C), in standard deviations of the real ones."""
    at = (np.arange(400) + 0.5) / 400
    a, b = (np.quantile(values, at, axis=0, method="hazen") for values in (x, real))
    return np.abs(a - b).mean(axis=0) / np.maximum(real.std(axis=0), 1e-9)


# The sets of latents -------------------------------------------------------------------------------------------------

Sets = dict[tuple[str, bool, str], Tensor]  # (view or `unconditional`, after D_k, modality): (N, D, L)


def recovered_sets(study: RecoveryStudy, tick: Tick, say: Say) -> Sets:
    """One draw of every clip for each view, and without any condition, before and after D_k."""
    found: Sets = {}
    for cell in study.cells:
        absent = missing(cell.available)
        if not absent or (cell.method == "unconditional" and len(absent) > 1):
            continue
        say(cell.title)
        made = study.outcome(cell, tick)
        for (draws, refined), values in made.values.items():
            for k in absent if draws == 1 else ():
                name = UNCONDITIONAL if cell.method == "unconditional" else View(k, cell.available).name
                found[name, refined, k] = values[k]
    return found


def channel_values(study: RecoveryStudy, k: str, z: Tensor, rows: np.ndarray | slice = slice(None)) -> list[np.ndarray]:
    """Values in the valid frames of latents (N, D, L) of those clips: unit latents (frames, D), and the features that
    are read out of them (frames, F) in raw scale."""
    model, valid = study.model, study.clips.valid[rows]
    wide = torch.arange(valid.shape[1] + 2) < (valid.sum(1) + 2)[:, None]  # (N, L + 2)
    with torch.no_grad():
        read = study.standardiser.invert(k, model.read(k, z[rows]).numpy())
        return [model.unit(k, z[rows]).transpose(1, 2)[valid].numpy(), read[wide.numpy()]]


def channel_names(study: RecoveryStudy, k: str) -> list[str]:
    """The channels of `channel_values`, one list."""
    features = study.data.feature_names[k]
    return [f"latent {i + 1}" for i in range(study.model.config.latent_channels)] + [str(name) for name in features]


@dataclass(frozen=True)
class Modality:
    """What the views of a modality share: bins and floors, real against real."""

    bins: list[Bins]  # of latents, of features
    real: list[np.ndarray]  # values of the real clips
    halves: dict[str, Floor]  # distance between random halves of the split
    train: dict[str, float | None]  # of as many training clips to the split
    gaps: np.ndarray  # (C,) `channel_gaps` of two halves

    @classmethod
    def of(cls, study: RecoveryStudy, k: str) -> Modality:
        """Of the study's clips."""
        z = study.clips.latents[k]
        real = channel_values(study, k, z)
        order = np.random.default_rng(0).permutation(len(z))
        halves = [channel_values(study, k, z, np.sort(part)) for part in np.array_split(order, 2)]
        others = study.train_alike()
        train = study.points(k, others.latents[k], others.valid)
        return cls(
            [Bins.around(values) for values in real],
            real,
            {name: halves_floor(distance, study.real[k]) for name, distance in DISTANCES.items()},
            {name: distance(train, study.real[k]) for name, distance in DISTANCES.items()},
            np.concatenate([channel_gaps(x, y) for x, y in zip(*halves, strict=True)]),
        )

    def shares(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Histograms (C, BINS) of `channel_values`."""
        return np.concatenate([bins.shares(x) for bins, x in zip(self.bins, values, strict=True)])

    def gaps_of(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """`channel_gaps` (C,) of `channel_values` to the real ones."""
        return np.concatenate([channel_gaps(x, y) for x, y in zip(values, self.real, strict=True)])


@dataclass(frozen=True)
class Picture:
    """The three sets of `KINDS` as points of one plane and of one t-SNE; (3, N, 2) both."""

    plane: Plane
    pca: np.ndarray
    tsne: np.ndarray


def picture(sets: Sequence[np.ndarray], seed: int = 0) -> Picture:
    """Sets (N, P) in the principal plane of all of them together, and in their joint t-SNE."""
    joint = np.concatenate(sets)
    plane = Plane.fit(joint)
    shape = (len(sets), len(sets[0]), 2)
    return Picture(plane, plane(joint).reshape(shape), embed(joint, seed).reshape(shape))


def pictured(count: int, most: int = PICTURED) -> np.ndarray:
    """The clips of a picture: all, or `most` of them spread evenly."""
    return np.arange(count) if count <= most else np.arange(most) * count // most


# Other performances --------------------------------------------------------------------------------------------------


def performances(model: IMDer, standardiser: Standardiser, clip: Clip, features: dict[str, np.ndarray]) -> Encoded:
    """The latents of a clip's other performances, features {k: (N, L, F)}; what is not among them is the clip's."""
    count = len(next(iter(features.values())))
    again = [
        Clip(
            id=f"{clip.id}#{i}", video=clip.video, index=clip.index, text=clip.text, label=clip.label,
            features=clip.features | {k: x[i] for k, x in features.items()},
        )
        for i in range(count)
    ]  # fmt: skip
    return encode_clips(model, standardiser, again)


@dataclass(frozen=True)
class Sentence:
    """Draws of one sentence's voice or face against its true other performances."""

    clip: Clip
    modality: str
    performed: np.ndarray  # (M, 2) in the plane of performances and draws
    drawn: np.ndarray  # (N, 2)
    original: np.ndarray  # (2,) the clip of the split
    distances: dict[str, tuple[float | None, float | None]]  # name: draws, floor (half of the performances)


def sentence_of(study: RecoveryStudy, clip: Clip, k: str, draws: np.ndarray) -> Sentence:
    """Compares draws (N, P) with the performances of their clip. The floor has as many points on a side as it can."""
    again = performances(study.model, study.standardiser, clip, study.data.redraws(clip.id))
    real = study.points(k, again.latents[k], again.valid)
    row = study.ids.index(clip.id)
    half = min(len(real) // 2, len(draws))
    plane = Plane.fit(np.concatenate([real, draws]))
    return Sentence(
        clip, k, plane(real), plane(draws), plane(study.real[k][row]),
        {
            name: (distance(draws[:half], real[half : 2 * half]), distance(real[:half], real[half : 2 * half]))
            for name, distance in DISTANCES.items()
        },
    )  # fmt: skip


def draws_of(
    study: RecoveryStudy,
    rows: Sequence[int],
    observed: Sequence[str],
    seed: int,
    numbers: Sequence[int],
    guidance: float = 1.0,
) -> Latents:
    """Draws of those numbers of each of those clips of the split, {k: (rows x numbers, D, L)}, before D_k."""
    pairs = [(row, number) for row in rows for number in numbers]
    return study.draws([row for row, _ in pairs], tuple(observed), seed, [number for _, number in pairs], guidance)


def sentences(study: RecoveryStudy, tick: Tick, say: Say, seed: int = 0) -> Iterator[Sentence]:
    """Some sentences of the corpus that come with other performances, spread evenly."""
    ids = [clip for clip in study.data.redraw_ids if clip in study.ids]
    for name in ids[:: max(1, len(ids) // SENTENCES)][:SENTENCES]:
        say(f"{DRAWS} draws of {name}")
        row = study.ids.index(name)
        drawn = draws_of(study, [row], GIVEN, seed, range(DRAWS))
        tick(DRAWS * study.nfe * len(drawn))
        valid = study.clips.valid[row].expand(DRAWS, -1)
        for k, z in drawn.items():
            yield sentence_of(study, study.members[row], k, study.points(k, z, valid))
