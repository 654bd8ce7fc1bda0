"""Stored sequences: float or quantised tensors of a safetensors file, read some rows at a time as float32."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

FLOATS = {"F32", "F16"}


def quantise(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(..., F) to uint8 with scale (F,) and offset (F,), so that x is about q * scale + offset."""
    flat = np.asarray(x, dtype=np.float64).reshape(-1, x.shape[-1])
    offset = flat.min(axis=0)
    scale = (flat.max(axis=0) - offset) / 255
    q = np.rint((flat - offset) / np.where(scale > 0, scale, 1))
    q = np.ascontiguousarray(q, dtype=np.uint8)  # whatever the order of x: it is stored as it lies in memory
    return q.reshape(x.shape), scale.astype(np.float32), offset.astype(np.float32)


def dequantise(q: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The float32 values of `quantise`."""
    return q.astype(np.float32) * scale + offset


def to_tensors(name: str, x: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """What is stored of x (..., F) as `kind`: float32, float16, or uint8 with its scale and offset."""
    if kind == "uint8":
        q, scale, offset = quantise(x)
        return {name: q, f"{name}.scale": scale, f"{name}.offset": offset}
    return {name: np.ascontiguousarray(x, dtype=kind)}


class Rows:
    """A stored tensor (rows, ..., F), float or quantised, sliced along its first axis as float32."""

    def __init__(self, handle: Any, name: str, path: Path, rank: int = 2) -> None:
        names = set(handle.keys())
        if name not in names:
            raise ValueError(f"{path}: tensor {name!r} is missing")
        self.stored = handle.get_slice(name)
        self.shape: tuple[int, ...] = tuple(self.stored.get_shape())
        if len(self.shape) != rank or 0 in self.shape:
            raise ValueError(f"{path}: {name} has shape {self.shape}; expected {rank} axes, none of them empty")
        kind = self.stored.get_dtype()
        self.affine: tuple[np.ndarray, np.ndarray] | None = None
        if kind == "U8":
            self.affine = (
                self._companion(handle, f"{name}.scale", path),
                self._companion(handle, f"{name}.offset", path),
            )
        elif kind not in FLOATS:
            raise ValueError(f"{path}: {name} is stored as {kind}; allowed: F32, F16, or U8 with scale and offset")

    def _companion(self, handle: Any, name: str, path: Path) -> np.ndarray:
        if name not in handle.keys():  # noqa: SIM118
            raise ValueError(f"{path}: tensor {name!r} is missing; uint8 features need their scale and offset")
        stored = handle.get_slice(name)
        if stored.get_dtype() not in FLOATS or stored.get_shape() != [self.shape[-1]]:
            raise ValueError(
                f"{path}: {name} is {stored.get_dtype()} {tuple(stored.get_shape())}; "
                f"expected a float for each of {self.shape[-1]} features"
            )
        values = np.asarray(stored[:], dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} holds values that are not finite")
        return values

    def __getitem__(self, rows: slice) -> np.ndarray:
        x = self.stored[rows]
        return np.asarray(x, dtype=np.float32) if self.affine is None else dequantise(x, *self.affine)


class IndexedRows:
    """Text stored once a word: frame i is row index[i] of the words."""

    def __init__(self, handle: Any, k: str, path: Path) -> None:
        self.words = Rows(handle, f"{k}.words", path)[:]
        index = handle.get_slice(f"{k}.index")
        if index.get_dtype() != "I32" or len(index.get_shape()) != 1:
            raise ValueError(
                f"{path}: {k}.index is {index.get_dtype()} {tuple(index.get_shape())}; expected I32 of one axis"
            )
        self.index = index[:]
        if self.index.size and not (self.index.min() >= 0 and self.index.max() < len(self.words)):
            raise ValueError(f"{path}: {k}.index points outside the {len(self.words)} stored words")
        self.shape = (len(self.index), self.words.shape[1])

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.words[self.index[rows]]


def open_tensors(path: Path) -> Any:
    """The handle of a safetensors file; ValueError where it is absent or not whole."""
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a data set has one tensor file a split") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({str(error).splitlines()[0]})") from None


# -- files some rows at a time ----------------------------------------------------------------------------------------


def copy_tensors(
    source: Path,
    target: Path,
    *,
    drop: Callable[[str], bool],
    add: Mapping[str, tuple[tuple[int, ...], Iterator[np.ndarray]]],
) -> None:
    """Writes a safetensors file with new float32 tensors and those of another that `drop` does not name, as stored.

    add: {name: (shape, pieces along its first axis)}.
    """
    with source.open("rb") as old:
        size = int.from_bytes(old.read(8), "little")
        there = json.loads(old.read(size))
        kept = {name: own for name, own in there.items() if name != "__metadata__" and not drop(name)}
        head: dict[str, Any] = {}
        offset = 0
        for name, (shape, _) in add.items():
            length = 4 * int(np.prod(shape))
            head[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + length]}
            offset += length
        for name, own in kept.items():
            length = own["data_offsets"][1] - own["data_offsets"][0]
            head[name] = own | {"data_offsets": [offset, offset + length]}
            offset += length
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        with target.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, pieces in add.values():
                for piece in pieces:
                    file.write(np.ascontiguousarray(piece, dtype="<f4").data)
            for own in kept.values():
                begin, end = own["data_offsets"]
                old.seek(8 + size + begin)
                _copy_bytes(old, file, end - begin)


def _copy_bytes(source: Any, target: Any, count: int) -> None:
    while count:
        data = source.read(min(count, 1 << 20))
        if not data:
            raise ValueError(f"{source.name}: was cut while it was read")
        target.write(data)
        count -= len(data)
