"""Feature files as the field lays them out, with known contents, small or at the size of the real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imder.data.export import Blocks, write_pickle
from imder.modality import MODALITIES

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Sizes:
    """A corpus: clips a split, (frames, width) a modality, aligned on one time axis or not, labels to +-bound."""

    clips: tuple[int, int, int]
    text: tuple[int, int]
    audio: tuple[int, int]
    vision: tuple[int, int]
    aligned: bool = True
    bound: float = 3.0
    unimodal: bool = False


#: The corpora at full size, as MMSA distributes them.
FULL = {
    "mosi-aligned": Sizes((1284, 229, 686), (50, 768), (50, 5), (50, 20)),
    "mosi-unaligned": Sizes((1284, 229, 686), (50, 768), (375, 5), (500, 20), aligned=False),
    "mosei-aligned": Sizes((16326, 1871, 4659), (50, 768), (50, 74), (50, 35)),
    "mosei-unaligned": Sizes((16326, 1871, 4659), (50, 768), (500, 74), (500, 35), aligned=False),
    "sims": Sizes((1368, 456, 457), (39, 768), (400, 33), (55, 709), aligned=False, bound=1.0, unimodal=True),
}
#: The same layouts, small.
SMALL = {
    "mosi-aligned": Sizes((24, 8, 8), (12, 9), (12, 5), (12, 4)),
    "mosi-unaligned": Sizes((24, 8, 8), (12, 9), (30, 5), (40, 4), aligned=False),
    "mosei-aligned": Sizes((24, 8, 8), (12, 9), (12, 7), (12, 6)),
    "mosei-unaligned": Sizes((24, 8, 8), (12, 9), (50, 7), (50, 6), aligned=False),
    "sims": Sizes((24, 8, 8), (11, 9), (40, 5), (15, 8), aligned=False, bound=1.0, unimodal=True),
}


@dataclass
class Truth:
    """What a converted file must give, by split."""

    features: dict[str, dict[str, list[np.ndarray]]] = field(default_factory=dict)  # split: k: (L_i, F)
    ids: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)


def truth(sizes: Sizes, seed: int = 0) -> Truth:
    """Clips of random lengths whose modalities share a walk with the label."""
    rng, made = np.random.default_rng(seed), Truth()
    for split, n in zip(SPLITS, sizes.clips, strict=True):
        labels = np.round(rng.uniform(-sizes.bound, sizes.bound, n), 1)
        made.labels[split] = labels
        made.ids[split] = [f"{split}{i // 4}$_${i % 4}" for i in range(n)]
        made.texts[split] = [f"{split} says naïve 好 {i}" for i in range(n)]
        shared = rng.integers(3, sizes.text[0] + 1, n)
        own: dict[str, list[np.ndarray]] = {}
        for k in MODALITIES:
            frames, width = getattr(sizes, k)
            lengths = shared if sizes.aligned or k == "text" else rng.integers(3, frames + 1, n)
            own[k] = []
            for i, length in enumerate(lengths):
                x = np.cumsum(rng.normal(size=(length, width)), axis=0) * 0.2 + labels[i] / sizes.bound
                own[k].append(x.astype(np.float32))
        made.features[split] = own
    return made


def pad(items: Sequence[np.ndarray], frames: int, left: bool = False) -> np.ndarray:
    """(N, frames, F) with zeros behind or in front."""
    out = np.zeros((len(items), frames, items[0].shape[1]), dtype=np.float32)
    for i, x in enumerate(items):
        (out[i, frames - len(x) :] if left else out[i, : len(x)])[:] = x
    return out


def mmsa(sizes: Sizes, made: Truth, left: bool = False) -> dict[str, dict[str, Any]]:
    """MMSA's {split: columns}; text has values in its padding, as BERT's hidden states do."""
    tree: dict[str, dict[str, Any]] = {}
    for split in made.ids:
        own, n = made.features[split], len(made.ids[split])
        columns: dict[str, Any] = {
            "raw_text": np.array(made.texts[split], dtype=object),
            "id": np.array(made.ids[split], dtype=object),
        }
        for k in MODALITIES:
            columns[k] = pad(own[k], getattr(sizes, k)[0], left and k != "text")
        lengths = np.array([len(x) for x in own["text"]])
        mask = np.arange(sizes.text[0]) < lengths[:, None]
        columns["text"][~mask] = 0.25
        columns["text_bert"] = np.stack([mask * 101.0, mask * 1.0, mask * 0.0], axis=1)
        columns["annotations"] = np.array(["Positive" if y > 0 else "Negative" for y in made.labels[split]], object)
        columns["classification_labels"] = np.sign(made.labels[split]) + 1
        columns["regression_labels"] = made.labels[split]
        if sizes.unimodal:
            for letter in "TAV":
                columns[f"regression_labels_{letter}"] = made.labels[split].astype(np.float32)
        if not sizes.aligned:
            columns |= {f"{k}_lengths": [len(x) for x in own[k]] for k in ("audio", "vision")}
        assert all(len(x) == n for x in columns.values())
        tree[split] = columns
    return tree


def mult(sizes: Sizes, made: Truth) -> dict[str, dict[str, Any]]:
    """MulT's {split: columns}: padded in front, labels (N, 1, 1), ids (N, 3) of bytes."""
    tree = {}
    for split in made.ids:
        own = made.features[split]
        ids = [[i.split("$")[0].encode(), b"%d.5" % n, b"%d.5" % (n + 1)] for n, i in enumerate(made.ids[split])]
        tree[split] = {k: pad(own[k], getattr(sizes, k)[0], left=True) for k in MODALITIES}
        tree[split] |= {"labels": made.labels[split][:, None, None], "id": np.array(ids, dtype=object)}
    return tree


def iemocap(
    sizes: Sizes, made: Truth, several: Sequence[int] = (), none: Sequence[int] = ()
) -> dict[str, dict[str, Any]]:
    """MulT's IEMOCAP: `mult` with labels (N, 4, 2), for each of four emotions one-hot whether it is felt.

    The emotions come by turns; training clips `several` feel the next one too, `none` feel nothing.
    """
    tree = mult(sizes, made)
    for split, ids in made.ids.items():
        felt = np.arange(len(ids)) % 4
        told = np.eye(4, dtype=np.int64)[felt]  # (N, 4)
        if split == "train":
            told[several, (felt[several] + 1) % 4] = 1
            told[none] = 0
        tree[split]["labels"] = np.stack([1 - told, told], axis=2)
    return tree


def misa(made: Truth, *, words: bool) -> dict[str, list[Any]]:
    """MISA's {split: [((words, vision, audio, actual words), label, segment)]}; `words` numbers, else vectors."""
    tree: dict[str, list[Any]] = {}
    for split, ids in made.ids.items():
        own = made.features[split]
        tree[split] = []
        for i, segment in enumerate(ids):
            spoken = [f"word{j}" for j in range(len(own["text"][i]))]
            first = np.arange(len(spoken)) if words else own["text"][i]
            label = np.array([[made.labels[split][i]]], dtype=np.float32)
            clip = (first, own["vision"][i].astype(np.float64), own["audio"][i], spoken)
            tree[split].append((clip, label, segment.replace("$_$", "[") + "]"))
    return tree


def write_full(path: Path, sizes: Sizes, seed: int = 0) -> None:
    """An MMSA pickle at any size, written some clips at a time."""
    rng, tree = np.random.default_rng(seed), {}
    for split, n in zip(SPLITS, sizes.clips, strict=True):
        shared = rng.integers(3, sizes.text[0] + 1, n)
        columns: dict[str, Any] = {}
        for k in MODALITIES:
            frames, width = getattr(sizes, k)
            lengths = shared if sizes.aligned or k == "text" else rng.integers(3, frames + 1, n)
            columns[k] = Blocks((n, frames, width), np.dtype("<f4"), _pieces(lengths, frames, width, seed))
            if not sizes.aligned and k != "text":
                columns[f"{k}_lengths"] = lengths.tolist()
        mask = np.arange(sizes.text[0]) < shared[:, None]
        columns["text_bert"] = np.stack([mask * 101, mask, mask * 0], axis=1).astype(np.int64)
        columns["raw_text"] = np.array([f"{split} says {i}" for i in range(n)], dtype=object)
        columns["id"] = np.array([f"{split}{i // 8}$_${i % 8}" for i in range(n)], dtype=object)
        columns["regression_labels"] = np.round(rng.uniform(-sizes.bound, sizes.bound, n), 1)
        tree[split] = columns
    with path.open("wb") as file:
        write_pickle(tree, file)


def _pieces(lengths: np.ndarray, frames: int, width: int, seed: int, step: int = 128) -> Iterator[np.ndarray]:
    pool = np.random.default_rng(seed).normal(size=(step, frames, width)).astype(np.float32)
    for first in range(0, len(lengths), step):
        own = lengths[first : first + step]
        valid = np.arange(frames) < own[:, None]
        yield np.roll(pool, first // step, axis=0)[: len(own)] * valid[..., None]
