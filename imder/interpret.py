"""From numbers back to what a person can read: the word of a language feature, the class of probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from imder.data.clip import Word

Prediction = float | np.ndarray  # a sentiment, or the probability of each class (classes,); NaN where there is none


def word_vectors(features: np.ndarray, words: Sequence[Word]) -> np.ndarray:
    """Mean feature of each word's frames: (..., L, F) to (..., W, F)."""
    frames = features.shape[-2]
    means = []
    for word in words:
        first = min(int(word.start * frames), frames - 1)
        last = max(first + 1, min(frames, round(word.end * frames)))
        means.append(features[..., first:last, :].mean(axis=-2))
    return np.stack(means, axis=-2)


def nearest(vectors: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """Index of the vocabulary vector (V, F) with the highest cosine similarity to each of (..., F)."""
    unit = vocabulary / np.linalg.norm(vocabulary, axis=1, keepdims=True).clip(1e-9)
    return (vectors @ unit.T).argmax(axis=-1)


def nearest_words(
    draws: np.ndarray, words: Sequence[Word], vocabulary: tuple[Sequence[str], np.ndarray], top: int = 3
) -> list[list[tuple[str, float]]]:
    """For each spoken word the nearest words of the recovered features (N, L, F), with their share over the N draws."""
    names, vectors = vocabulary
    found = nearest(word_vectors(draws, words), vectors)  # (N, W)
    return [
        [(names[i], count / len(draws)) for i, count in Counter(column.tolist()).most_common(top)] for column in found.T
    ]


def likeliest(prediction: Prediction, classes: Sequence[str]) -> tuple[str, float] | None:
    """The class of the highest probability (classes,), and that; None where there is no prediction (NaN)."""
    if not np.isfinite(prediction).all():
        return None
    first = int(np.argmax(prediction))
    return classes[first], float(prediction[first])


def percent(share: float) -> str:
    """`64 %` for 0.64, with a space at which no line breaks."""
    return f"{100 * share:.0f}\u00a0%"


def by_class(prediction: Prediction, classes: Sequence[str]) -> dict[str, float] | None:
    """The probability of each class by its name; None where there is no prediction (NaN)."""
    if not np.isfinite(prediction).all():
        return None
    return {name: float(p) for name, p in zip(classes, prediction, strict=True)}


def votes(draws: np.ndarray) -> np.ndarray:
    """How often each class is the likeliest of a draw: of probabilities (N, classes) the shares (classes,)."""
    return np.bincount(draws.argmax(axis=1), minlength=draws.shape[1]) / len(draws)


def true_share(prediction: Prediction, label: float) -> float:
    """The probability that was given to the true class; NaN where either is not known."""
    known = np.isfinite(prediction).all() and np.isfinite(label)
    return float(np.asarray(prediction)[int(label)]) if known else float("nan")
