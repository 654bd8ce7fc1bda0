"""Token ids of texts, (N, 3, L) [ids, mask, segments] as MMSA's `text_bert`: checked, aligned, kept in a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FILE = "tokens.safetensors"
_LARGEST = 1 << 24  # no vocabulary has so many


def stacked(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Token ids of each text as (N, 3, L) int32 [ids, mask, segments], L the longest (1 at least)."""
    out = np.zeros((len(rows), 3, max(1, *map(len, rows)) if rows else 1), dtype=np.int32)
    for i, row in enumerate(rows):
        out[i, 0, : len(row)], out[i, 1, : len(row)] = row, 1
    return out


def mask_spans(ids: np.ndarray, names: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """First valid piece and number of valid pieces (N,); ValueError unless the mask is 0 and 1 and without holes."""
    if ids.ndim != 3 or ids.shape[1] != 3 or not ids.shape[2] or ids.dtype.kind not in "iu":
        raise ValueError(f"token ids are {ids.dtype} of shape {ids.shape}; whole numbers (clips, 3, length) are needed")
    mask = ids[:, 1]
    if not len(mask):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    odd = (mask != 0) & (mask != 1)
    if odd.any():
        clip = clip_named(int(odd.any(axis=1).argmax()), names)
        raise ValueError(f"{clip} has {int(mask[odd][0])} in the mask of its token ids; 0 and 1 are allowed")
    first, count = mask.argmax(axis=1), mask.sum(axis=1, dtype=np.int64)
    last = mask.shape[1] - mask[:, ::-1].argmax(axis=1)
    holes = (count > 0) & (last - first != count)
    if holes.any():
        clip = clip_named(int(holes.argmax()), names)
        raise ValueError(f"{clip} has a mask with holes over its token ids; the valid ones must stand together")
    return first, count


def left_aligned(ids: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(N, 3, longest) with every row's valid pieces at its beginning and zeros behind them."""
    out = np.zeros((len(ids), 3, max(1, int(count.max(initial=0)))), dtype=ids.dtype)
    for i, (a, n) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
        out[i, :, :n] = ids[i, :, a : a + n]
    return out


def clip_named(i: int, names: Sequence[str]) -> str:
    """How an error calls a clip."""
    return f"clip {names[i]!r}" if i < len(names) else f"clip number {i}"


# -- from a file and in a data set ------------------------------------------------------------------------------------


def token_ids(value: Any, where: str) -> np.ndarray | str:
    """A file's `text_bert` (N, 3, L) as int32, zeros where its mask is 0; or a sentence on why it is of no use."""
    try:
        x = np.asarray(value)
        if x.dtype == object:
            x = np.array(x.tolist(), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return f"{where} is no array of numbers"
    if x.ndim != 3 or x.shape[1] != 3 or 0 in x.shape or x.dtype.kind not in "fiu":
        return f"{where} is {x.dtype} of shape {x.shape}; whole numbers (clips, 3, length) are needed"
    with np.errstate(invalid="ignore"):
        odd = ~((x >= 0) & (x < _LARGEST) & (x == np.rint(x)))
    odd[:, (0, 2)] &= x[:, 1:2] != 0
    if odd.any():
        return f"{where} holds {x[odd][0]}; token ids are whole numbers from 0 to {_LARGEST - 1}"
    x = np.where(x[:, 1:2] != 0, x, 0).astype(np.int32)
    try:
        mask_spans(x)
    except ValueError as error:
        return f"{where}: {error}"
    return x


def placed(ids: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """Ids as a data set keeps them: from its first frame (N,) on where the ids are the frames, else from their own."""
    begin, count = mask_spans(ids)
    start = begin if first is None else np.minimum(first, begin)
    start = np.where(count > 0, start, 0)
    length = np.where(count > 0, begin + count - start, 0)
    return left_aligned(ids, start, length)


def write_tokens(folder: Path, ids: Mapping[str, np.ndarray]) -> None:
    """Writes the ids of every split into a data set folder."""
    tensors = {split: np.ascontiguousarray(x, dtype=np.int32) for split, x in ids.items()}
    (folder / FILE).write_bytes(save(tensors))


def read_tokens(folder: Path, clips: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The ids (N, 3, L) int32 of every split, none where the set keeps none; raises ValueError for any fault."""
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with safe_open(path, framework="numpy") as handle:
            if set(handle.keys()) != set(clips):
                raise ValueError(f"{path}: holds {', '.join(sorted(handle.keys()))}; the splits are needed")
            for split, n in clips.items():
                stored = handle.get_slice(split)
                shape = stored.get_shape()
                if stored.get_dtype() != "I32" or len(shape) != 3 or shape[:2] != [n, 3] or not shape[2]:
                    raise ValueError(f"{path}: {split} is {stored.get_dtype()} {shape}; I32 [{n}, 3, length] is needed")
            found = {split: handle.get_tensor(split) for split in clips}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({str(error).splitlines()[0]})") from None
    for split, ids in found.items():
        try:
            mask_spans(ids)
        except ValueError as error:
            raise ValueError(f"{path}: {split}: {error}") from None
        if ids.min() < 0 or ids.max() >= _LARGEST:
            raise ValueError(f"{path}: {split} holds ids that are no token's; 0 to {_LARGEST - 1} are allowed")
    return found
