"""From features back to what a person can read: which word a language feature stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from imder.data.clip import Word


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
