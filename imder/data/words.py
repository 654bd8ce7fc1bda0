"""Word vectors from a text file, for layouts that hold words in the place of features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

MAX_WIDTH = 4096


class WordVectors:
    """A vector a word, of the words that are asked for; an unknown word has a vector of zeros and is counted."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"{path}: no such file; a text file with a word and its vector a line is needed")
        self.known: dict[str, np.ndarray] = {}
        self.wanted: set[str] = set()
        self.width = 0

    def load(self, words: Iterable[str]) -> None:
        """Reads the file once and keeps the vectors of these words, as they are written or in small letters."""
        self.wanted = set(words)
        spellings = self.wanted | {word.lower() for word in self.wanted}
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                parts = line.rstrip().split(" ")
                if not self.width:
                    if len(parts) == 2 and number == 1:
                        continue  # word2vec's head: how many words, how wide
                    self.width = len(parts) - 1
                    if not 1 <= self.width <= MAX_WIDTH:
                        raise ValueError(f"{self.path}: line {number} is not a word and its vector")
                word = " ".join(parts[: -self.width])
                if word not in spellings:
                    continue
                try:
                    vector = np.array(parts[-self.width :], dtype=np.float32)
                except ValueError:
                    raise ValueError(f"{self.path}: line {number} is not a word and {self.width} numbers") from None
                if not np.isfinite(vector).all():
                    raise ValueError(f"{self.path}: line {number} holds a number that is not finite")
                self.known[word] = vector
        if not self.width:
            raise ValueError(f"{self.path}: holds no word with a vector")

    def rows(self, words: Sequence[str]) -> np.ndarray:
        """(words, width) float32."""
        zero = np.zeros(self.width, dtype=np.float32)
        return np.stack([self.known.get(word, self.known.get(word.lower(), zero)) for word in words])

    @property
    def said(self) -> tuple[str, ...]:
        """A sentence on the words without a vector."""
        unknown = sorted(word for word in self.wanted if word not in self.known and word.lower() not in self.known)
        if not unknown:
            return ()
        listed = ", ".join(repr(word) for word in unknown[:8])
        return (f"text: {len(unknown)} of {len(self.wanted)} words have no vector and became zeros: {listed}",)
