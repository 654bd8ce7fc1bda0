"""How hard a data set is: what linear readers get from each modality, and how much of one the others explain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import RidgeCV

from imder.data.clip import Clip, resample
from imder.data.corpus.language import owners
from imder.data.dataset import FeatureSet
from imder.modality import MODALITIES, SYMBOLS, names_of

_ALPHAS = tuple(10.0**p for p in range(7))
_REACH = 2  # frames before and after
_PENALTY = 300.0
_FRAMES = 50
_BINS = (-3, -2, -1, -0.25, 0.25, 1, 2, 3)


def subsets() -> list[tuple[str, ...]]:
    """The seven non-empty sets of modalities."""
    return [some for size in (1, 2, 3) for some in combinations(MODALITIES, size)]


def _short(some: Sequence[str]) -> str:
    return "".join(SYMBOLS[k] for k in some)


def scaled(train: Sequence[Clip], other: Sequence[Clip]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both as {k: (N, 50, F)}, standardised on the first."""
    a, b = (
        {k: np.stack([resample(clip.features[k], _FRAMES) for clip in clips]) for k in MODALITIES}
        for clips in (train, other)
    )
    mean = {k: x.mean((0, 1)) for k, x in a.items()}
    std = {k: np.maximum(x.std((0, 1)), 1e-6) for k, x in a.items()}
    a, b = ({k: (rows[k] - mean[k]) / std[k] for k in MODALITIES} for rows in (a, b))
    return a, b


def sentiment_correlation(train: Sequence[Clip], test: Sequence[Clip]) -> dict[str, float]:
    """Correlation with the label of ridge on features averaged over time, by subset ("L", "LA", ...)."""
    a, b = scaled(train, test)
    y, truth = (np.array([clip.label for clip in clips]) for clips in (train, test))
    out = {}
    for some in subsets():
        x, z = (np.concatenate([rows[k].mean(1) for k in some], axis=1) for rows in (a, b))
        predicted = RidgeCV(_ALPHAS).fit(x, y).predict(z)
        out[_short(some)] = float(np.corrcoef(predicted, truth)[0, 1])
    return out


def _windowed(rows: dict[str, np.ndarray], some: Sequence[str]) -> np.ndarray:
    """(N * L, 5 F): the features at a frame and at two frames before and after it, edges repeated."""
    x = np.concatenate([rows[k] for k in some], axis=2)
    padded = np.pad(x, ((0, 0), (_REACH, _REACH), (0, 0)), mode="edge")
    frames, width = x.shape[1], 2 * _REACH + 1
    return np.concatenate([padded[:, i : i + frames] for i in range(width)], axis=2).reshape(-1, width * x.shape[2])


def explained(train: Sequence[Clip], test: Sequence[Clip]) -> dict[tuple[str, str], tuple[float, np.ndarray]]:
    """{(available, missing): (R^2, R^2 of each channel)} of frame-by-frame ridge, e.g. ("LA", "V"), on the test clips.

    The first is over all standardised channels, which weigh alike.
    """
    a, b = scaled(train, test)
    out = {}
    for some in subsets():
        if len(some) == len(MODALITIES):
            continue
        x, z = _windowed(a, some), _windowed(b, some)
        gram = x.T @ x + _PENALTY * np.eye(x.shape[1], dtype=x.dtype)
        for k in MODALITIES:
            if k in some:
                continue
            y, truth = (rows[k].reshape(-1, rows[k].shape[2]) for rows in (a, b))
            error = ((truth - z @ np.linalg.solve(gram, x.T @ y)) ** 2).sum(0)
            spread = np.maximum(((truth - truth.mean(0)) ** 2).sum(0), 1e-9)
            out[_short(some), SYMBOLS[k]] = (float(1 - error.sum() / spread.sum()), 1 - error / spread)
    return out


def rounding_error(data: FeatureSet) -> dict[str, float]:
    """Share of each modality's variance that eight bits a value lose (step^2 / 12 over variance, mean of channels)."""
    tensors = load_file(data.folder / "train.safetensors")
    out = {}
    for k in MODALITIES:
        name = next((n for n in (k, f"{k}.words") if f"{n}.scale" in tensors), None)
        if name is not None:
            step, values = tensors[f"{name}.scale"], tensors[name].reshape(-1, len(tensors[f"{name}.scale"]))
            spread = np.maximum((values * step).astype(np.float64).var(0), 1e-12)
            out[k] = float(np.mean(step**2 / 12 / spread))
    return out


def words_found(data: FeatureSet) -> float:
    """Share of the test clips' frames whose nearest vocabulary vector is that of their word."""
    words, vectors = data.vocabulary
    lower = np.array([word.lower() for word in words])
    hits = []
    for clip in data.split("test"):
        owner = owners([(word.start, word.end) for word in clip.words], len(clip.features["text"]))
        distance = (vectors**2).sum(1) - 2 * clip.features["text"] @ vectors.T  # (L, V)
        said = np.array([word.text.lower() for word in clip.words])
        hits.append(lower[distance.argmin(1)] == said[owner])
    return float(np.concatenate(hits).mean())


def exchangeability(data: FeatureSet) -> dict[str, dict[str, float]]:
    """Whether stored clips look like one more of their own redraws.

    `distance`: a clip's mean distance to its redraws over the redraws' mean distance to each other (1 when
    exchangeable) with its standard error; `inside90`: share of its values between the redraws' 5 % and 95 % quantiles
    and what exact draws give.
    """
    out = {}
    train = data.complete("train")
    for k in ("audio", "vision"):
        rows = np.concatenate([clip.features[k] for clip in train])
        mean, std = rows.mean(0), np.maximum(rows.std(0), 1e-6)
        ratios, inside = [], []
        for clip_id in data.redraw_ids:
            one = (data.clip(clip_id).features[k] - mean) / std  # (L, F)
            many = (data.redraws(clip_id)[k] - mean) / std  # (N, L, F)
            flat = many.reshape(len(many), -1).astype(np.float64)
            square = (flat**2).sum(1)
            between = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * flat @ flat.T, 0))
            among = between.sum() / (len(many) * (len(many) - 1))
            ratios.append(np.sqrt(((flat - one.reshape(-1)) ** 2).sum(1)).mean() / among)
            low, high = np.quantile(many, (0.05, 0.95), axis=0)
            inside.append(np.mean((low <= one) & (one <= high)))
        count = len(next(iter(data.redraws(data.redraw_ids[0]).values())))
        out[k] = {
            "distance": float(np.mean(ratios)),
            "error": float(np.std(ratios) / np.sqrt(len(ratios))),
            "inside90": float(np.mean(inside)),
            "exact": (0.95 * (count - 1) - 0.05 * (count - 1)) / (count + 1),
        }
    return out


def measure(data: FeatureSet) -> str:
    """The measured tables, in Markdown; every reader is fitted on the training split and scored on the test split."""
    if data.lacks:
        raise ValueError(f"--measure: {data.name!r} has no {names_of(data.lacks)}; the tables are of all three")
    train, test = data.complete("train"), data.complete("test")
    lines = ["Sentiment read linearly (ridge on features averaged over time; correlation with the label):", ""]
    read = sentiment_correlation(train, test)
    lines += ["| " + " | ".join(read) + " |", "|" + "---|" * len(read)]
    lines += ["| " + " | ".join(f"{value:.2f}" for value in read.values()) + " |", ""]

    lines += [
        "Share of a missing modality's variance that the available ones explain (R^2, ridge frame by frame, two frames",
        "either side, all standardised channels alike):",
        "",
        "| available | " + " | ".join(f"{SYMBOLS[k]} missing" for k in MODALITIES) + " |",
        "|---|" + "---|" * len(MODALITIES),
    ]
    shares = explained(train, test)
    for some in subsets()[:-1]:
        row = [shares.get((_short(some), SYMBOLS[k])) for k in MODALITIES]
        lines.append(f"| {_short(some)} | " + " | ".join("" if r is None else f"{r[0]:.2f}" for r in row) + " |")

    if data.label_range == (-3.0, 3.0):
        lines += ["", "Labels, share of clips from one bound to the next:", ""]
        bounds = [f"{low:g} to {high:g}" for low, high in pairwise(_BINS)]
        lines += ["| split | clips | " + " | ".join(bounds) + " |", "|---|---|" + "---|" * len(bounds)]
        for split in data.splits:
            labels = np.array([clip.label for clip in data.split(split)])
            part = np.histogram(labels, bins=_BINS)[0] / len(labels)
            lines.append(f"| {split} | {len(labels)} | " + " | ".join(f"{p:.2f}" for p in part) + " |")

    rounding = rounding_error(data)
    if rounding:
        said = ", ".join(f"{k} {share:.1e}" for k, share in rounding.items())
        lines += ["", f"Variance lost by storing eight bits a value: {said}."]
    if data.vocabulary and all(clip.words for clip in test):
        lines += ["", f"Frames whose word is found by the nearest vector of the vocabulary: {words_found(data):.2f}."]
    if data.redraw_ids:
        lines += ["", "Is a stored clip one more of its own redraws?", ""]
        lines += [
            "| | distance to redraws / among redraws | inside their 5 to 95 % | exact draws |",
            "|---|---|---|---|",
        ]
        for k, row in exchangeability(data).items():
            lines.append(
                f"| {k} | {row['distance']:.3f} +- {row['error']:.3f} | {row['inside90']:.3f} | {row['exact']:.3f} |"
            )
    return "\n".join(lines)
