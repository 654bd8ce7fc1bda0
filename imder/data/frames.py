"""Which hidden states of a text make which frame of a clip.

Token ids that a data set keeps are its frames. Texts are laid on them by their words: where the set says when each word
sounds, a frame has the word that sounds at its middle; where a clip has as many frames as words, each has its own; else
the encoder's pieces are the frames. A word is the mean of its pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imder.data.corpus.language import owners
from imder.data.dataset import FeatureSet, SplitClips
from imder.data.encoder import Encoder
from imder.data.tokens import left_aligned, mask_spans, stacked
from imder.modality import MODALITIES

#: What a frame of an encoded text is, as data.json records it.
FRAMES = {
    "ids": "text: a frame a token id that the set keeps",
    "timed": "text: words laid on the frames by their timings, a word the mean of its pieces",
    "words": "text: a frame a word, the mean of its pieces",
    "pieces": "text: a frame a piece of the encoder's tokenizer; no timing or count of words fits the set's frames",
}


@dataclass(frozen=True, eq=False)
class Pieces:
    """The texts of N clips as token ids, and how their hidden states become frames."""

    ids: np.ndarray  # (N, 3, T) int32, valid ones first
    owner: list[np.ndarray]  # (T_i,) the word of each piece, -1 for none
    frame: list[np.ndarray]  # (L_i,) the word of each frame, -1 for one that has none

    def __len__(self) -> int:
        return len(self.ids)

    def weights(self, i: int) -> np.ndarray:
        """(L_i, T_i) float32: what each piece counts in each frame of clip i."""
        words = int(max(self.owner[i].max(initial=-1), self.frame[i].max(initial=-1))) + 1
        of = (self.owner[i] == np.arange(words)[:, None]).astype(np.float32)  # (words, T)
        of /= np.maximum(of.sum(axis=1, keepdims=True), 1)
        return np.concatenate([of, np.zeros((1, of.shape[1]), np.float32)])[self.frame[i]]  # -1 is the last

    @property
    def empty(self) -> np.ndarray:
        """(N,) whether a clip has no text."""
        return self.ids[:, 1].sum(axis=1) == 0


@dataclass(frozen=True, eq=False)
class Reading:
    """How an encoder reads a data set: its pieces by split, what a frame is (of `FRAMES`), and sentences on it."""

    pieces: dict[str, Pieces]
    frames: str
    said: tuple[str, ...]


def read_texts(data: FeatureSet, encoder: Encoder) -> Reading:
    """From the set's token ids, else from its texts. Raises ValueError."""
    said = []
    if data.tokens(data.splits[0]) is not None:
        how = "ids"
        found = {split: _of_ids(data.split(split), data.tokens(split)) for split in data.splits}
        for split in data.splits:
            names = [record["id"] for record in data.split(split).records]
            encoder.check(found[split].ids, names)
        texts = [record["text"] for record in data.split(data.splits[0]).records]
        said = encoder.doubts(found[data.splits[0]].ids, texts)
    else:
        records = [record for split in data.splits for record in data.split(split).records]
        spoken = [record for record in records if record["text"].strip()]
        if not spoken:
            raise ValueError(
                f"the data set {data.name!r} keeps neither token ids nor texts, so no encoder can read them; "
                "`data convert` keeps those of a file that has them"
            )
        how = "pieces"
        if all(len(record["words"]) == len(record["text"].split()) for record in spoken):
            how = "timed"
        elif all(record["lengths"]["text"] == len(record["text"].split()) for record in spoken):
            how = "words"
        found = {split: _of_texts(data.split(split), encoder, how, said) for split in data.splits}
    said.insert(0, FRAMES[how])
    if how == "pieces" and all(aligned(part.records) for part in map(data.split, data.splits)):
        said.append("text: its frames were those of voice and face, and are so no more; batches resample them to 50")
    for split, part in found.items():
        if count := int(part.empty.sum()):
            said.append(f"{split}: {count} of {len(part)} clips have no text, which is absent there")
    return Reading(found, how, tuple(said))


def aligned(records: Sequence[dict[str, Any]]) -> bool:
    """Whether the three modalities of every clip share its frames, and these are no single vectors."""
    lengths = [tuple(record["lengths"][k] for k in MODALITIES) for record in records]
    return all(len(set(own)) == 1 for own in lengths) and any(own[0] > 1 for own in lengths)


def _of_ids(part: SplitClips, ids: np.ndarray) -> Pieces:
    first, count = mask_spans(ids)
    length = np.array([record["lengths"]["text"] for record in part.records])
    if not aligned(part.records) or (first + count > length).any():
        first, length = np.zeros_like(first), count
    frames = []
    for a, n, frame_count in zip(first.tolist(), count.tolist(), length.tolist(), strict=True):
        frame = np.full(max(frame_count, 1), -1)
        frame[a : a + n] = np.arange(n)
        frames.append(frame)
    return Pieces(left_aligned(ids, *mask_spans(ids)), [np.arange(n) for n in count.tolist()], frames)


def _of_texts(part: SplitClips, encoder: Encoder, how: str, said: list[str]) -> Pieces:
    if how == "pieces":
        ids, cut = encoder.tokens([record["text"] for record in part.records])
        if cut.any():
            said.append(f"text: {int(cut.sum())} texts of more than {encoder.positions} pieces were cut")
        count = mask_spans(ids)[1].tolist()
        frames = [np.arange(n) if n else np.full(1, -1) for n in count]
        return Pieces(ids, [np.arange(n) for n in count], frames)
    rows, owner, frames = [], [], []
    for record in part.records:
        words, length = record["text"].split(), record["lengths"]["text"]
        try:
            own, of = encoder.pieces(words) if words else ([], np.zeros(0, dtype=int))
        except ValueError as error:
            raise ValueError(f"clip {record['id']!r}: {error}") from None
        rows.append(own)
        owner.append(of)
        if not words:
            frames.append(np.full(length, -1))
        elif how == "timed":
            frames.append(owners([(start, end) for _, start, end in record["words"]], length))
        else:
            frames.append(np.arange(length))
    return Pieces(stacked(rows), owner, frames)
