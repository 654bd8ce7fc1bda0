"""The language features: all-MiniLM-L6-v2's last hidden states, averaged a word, in 64 principal directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from imder.data.encoder import MINILM, open_encoder

WIDTH = 64
MAX_WORDS = 60


def hidden_words(sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """For sentences given as words with their punctuation: (words, 384) float32 each."""
    return open_encoder(MINILM).words(sentences)


def hadamard(size: int) -> np.ndarray:
    """The Sylvester matrix of plus and minus ones; size is a power of two."""
    h = np.ones((1, 1))
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    return h


@dataclass(frozen=True)
class Projection:
    """The space of the training clips' 64 leading principal directions.

    Its axes are the principal ones turned by a Hadamard matrix, so that every channel has about the same variance:
    scaling channels to unit variance, as all models here do, then keeps the encoder's own geometry, in place of
    blowing the weakest directions up to the size of the strongest.
    """

    mean: np.ndarray  # (384,)
    directions: np.ndarray  # (64, 384)
    explained: float

    @classmethod
    def fit(cls, words: np.ndarray) -> Projection:
        """From the training clips' words (N, 384)."""
        mean = words.mean(0, dtype=np.float64)
        centred = words - mean
        values, vectors = np.linalg.eigh(centred.T @ centred)
        directions = vectors[:, ::-1][:, :WIDTH].T
        at = np.abs(directions).argmax(1)
        directions = directions * np.sign(directions[np.arange(WIDTH), at])[:, None]
        directions = hadamard(WIDTH) @ directions / np.sqrt(WIDTH)
        share = float(values[::-1][:WIDTH].sum() / values.sum())
        return cls(mean.astype(np.float32), directions.astype(np.float32), share)

    def __call__(self, words: np.ndarray) -> np.ndarray:
        """(..., 384) to (..., 64)."""
        return ((words - self.mean) @ self.directions.T).astype(np.float32)

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        return save({"mean": self.mean, "directions": np.ascontiguousarray(self.directions)})

    @classmethod
    def open(cls, path: Path) -> Projection:
        """From the file that a corpus ships."""
        tensors = load_file(path)
        return cls(tensors["mean"], tensors["directions"], float("nan"))


def encode_sentence(text: str, projection: Projection) -> tuple[list[str], np.ndarray]:
    """A typed sentence: its words, and their vectors (words, 64)."""
    words = text.split()
    if not 1 <= len(words) <= MAX_WORDS:
        raise ValueError(f"the sentence has {len(words)} words; 1 to {MAX_WORDS} are allowed")
    return words, projection(hidden_words([words])[0])


def owners(words: Sequence[tuple[float, float]], frames: int) -> np.ndarray:
    """(frames,) the word of every frame: the one sounding at its middle, in a pause the nearest.

    words: (start, end) as fractions of the clip.
    """
    middle = (np.arange(frames) + 0.5) / frames
    start, end = np.array(words).T
    distance = np.maximum(start[None] - middle[:, None], middle[:, None] - end[None]).clip(min=0)
    return distance.argmin(1)
