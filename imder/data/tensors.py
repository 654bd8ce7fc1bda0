"""Stored sequences: float or quantised tensors of a safetensors file, read some rows at a time as float32."""

from __future__ import annotations

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
