"""`export_mmsa`: a data set as the pickle that MMSA reads, written some clips at a time."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from imder.data.dataset import FeatureSet, SplitClips
from imder.modality import MODALITIES

_CLIPS = 64  # at a time


@dataclass(frozen=True)
class Blocks:
    """An array that is written piece by piece, along its first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: Iterator[np.ndarray]


def export_mmsa(data: FeatureSet, out: str | Path) -> list[str]:
    """Writes {split: {text, audio, vision, raw_text, id, regression_labels, ..._lengths}} as a whole or not at all.

    Features are float32 (N, L, F), zeros behind the valid frames; text_bert (N, 3, L) is there if the set keeps token
    ids. Returns sentences on what the layout does not hold.
    """
    out = Path(out).resolve()
    if out.suffix.lower() not in {".pkl", ".pickle", ".p"}:
        raise ValueError(f"{out}: an export is a pickle; give it a name that ends in .pkl")
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; the name of a file is needed")
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        with staged.open("wb") as file:
            write_pickle({split: _columns(data.split(split), data.tokens(split)) for split in data.splits}, file)
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    lost = []
    if data.tokens(data.splits[0]) is None:
        lost.append("text_bert (token ids): MMSA's models need use_bert False")
    if data.label_classes:
        lost.append(f"the names of the classes ({', '.join(data.label_classes)}); labels are their numbers")
    if any(record["words"] for split in data.splits for record in data.split(split).records):
        lost.append("word timings")
    return [f"not in the file: {what}" for what in lost]


def _columns(part: SplitClips, tokens: np.ndarray | None) -> dict[str, Any]:
    records = part.records
    columns: dict[str, Any] = {}
    if tokens is not None:  # as long as the text, so that its mask tells the text's frames
        frames = max(record["lengths"]["text"] for record in records)
        behind = max(0, frames - tokens.shape[2])
        columns["text_bert"] = np.pad(tokens.astype(np.int64), ((0, 0), (0, 0), (0, behind)))
    for k in MODALITIES:
        lengths = [record["lengths"][k] for record in records]
        shape = (len(records), max(lengths), part.widths[k])
        columns[k] = Blocks(shape, np.dtype("<f4"), _padded(part, k, shape))
        columns[f"{k}_lengths"] = lengths
    labels = np.array([record["label"] for record in records])
    columns |= {
        "raw_text": np.array([record["text"] for record in records], dtype=object),
        "id": np.array([record["id"] for record in records], dtype=object),
        "video_id": np.array([record["video"] for record in records], dtype=object),
        "regression_labels": labels,
        "classification_labels": np.sign(labels) + 1,  # negative, neutral, positive
        "annotations": np.array(
            [("Negative", "Neutral", "Positive")[int(np.sign(y)) + 1] for y in labels], dtype=object
        ),
    }
    for key in dict.fromkeys(key for record in records for key in record["extra"]):
        if key not in columns or key in ("annotations", "classification_labels"):  # the data's own, where it has them
            columns[key] = np.array([record["extra"].get(key) for record in records], dtype=object)
    return columns


def _padded(part: SplitClips, k: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    rows, starts = part.rows[k], part.starts[k]
    for first in range(0, shape[0], _CLIPS):
        last = min(first + _CLIPS, shape[0])
        block = np.zeros((last - first, *shape[1:]), dtype="<f4")
        values = rows[starts[first] : starts[last]]
        for i in range(first, last):
            own = values[starts[i] - starts[first] : starts[i + 1] - starts[first]]
            block[i - first, : len(own)] = own
        yield block


# -- a pickle whose arrays need not be in memory ----------------------------------------------------------------------


def write_pickle(tree: Mapping[str, Any], file: IO[bytes]) -> None:
    """Pickles nested dicts, arrays, `Blocks` and plain values for any numpy, under the names of numpy 1."""
    file.write(pickle.PROTO + b"\x04")
    _emit(tree, file)
    file.write(pickle.STOP)


def _plain(value: Any) -> bytes:
    """A value's opcodes, without the pickle's head and end; its memo is used within the value only."""
    return pickle.dumps(value, 3)[2:-1]


def _emit(value: Any, file: IO[bytes]) -> None:
    if isinstance(value, Mapping):
        file.write(pickle.EMPTY_DICT)
        for key, item in value.items():
            file.write(_plain(key))
            _emit(item, file)
            file.write(pickle.SETITEM)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        _emit_array(value.shape, value.dtype, lambda: file.write(_plain(value.ravel().tolist())), file)
    elif isinstance(value, np.ndarray):
        _emit(Blocks(value.shape, value.dtype, iter([value])), file)
    elif isinstance(value, Blocks):
        _emit_array(value.shape, value.dtype, lambda: _emit_bytes(value, file), file)
    else:
        file.write(_plain(value))


def _emit_array(shape: tuple[int, ...], dtype: np.dtype, content: Any, file: IO[bytes]) -> None:
    """`_reconstruct(ndarray, (0,), b"b")` and its state, as ndarray.__reduce__ gives them."""
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _plain((0,)) + _plain(b"b"))
    file.write(
        pickle.TUPLE3 + pickle.REDUCE + pickle.MARK + _plain(1) + _plain(shape) + _plain(dtype) + pickle.NEWFALSE
    )
    content()
    file.write(pickle.TUPLE + pickle.BUILD)


def _emit_bytes(value: Blocks, file: IO[bytes]) -> None:
    size = int(np.prod(value.shape, dtype=object)) * value.dtype.itemsize
    file.write(pickle.BINBYTES8 + size.to_bytes(8, "little"))
    written = 0
    for piece in value.pieces:
        written += file.write(np.ascontiguousarray(piece, dtype=value.dtype).tobytes())
    if written != size:
        raise ValueError(f"an array of {size} bytes came in {written}")
