"""An npz read without trusting it: no objects, and every size is checked before anything is allocated."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

MAX_MEMBERS = 500
MAX_BYTES = 8 << 30  # uncompressed, all arrays
MAX_RATIO = 100  # uncompressed to compressed, for files above FREE_BYTES
FREE_BYTES = 256 << 20
_KINDS = {"f": "float", "i": "integer", "u": "unsigned integer", "b": "bool", "U": "text"}


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz, none of which may hold objects; sizes are checked before anything is allocated."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix.lower() in {".pkl", ".pickle", ".p"}:
        raise ValueError(f"{path}: is a pickle, and opening one runs code from it; an npz is read here")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(path, members)
            return {info.filename.removesuffix(".npy"): _read_member(path, archive, info) for info in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole npz file ({str(error)[:80]})") from None


def _check_sizes(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{path}: holds {len(members)} arrays; at most {MAX_MEMBERS} are read")
    names = [info.filename for info in members]
    for name in names:
        if not name.endswith(".npy"):
            raise ValueError(f"{path}: {name[:80]!r} is no array; an npz holds .npy members only")
        if names.count(name) > 1:
            raise ValueError(f"{path}: {name[:80]!r} is there twice")
    for info in members:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{path}: {info.filename[:80]!r} is packed in a way that numpy does not write")
    total = sum(info.file_size for info in members)
    allowed = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * path.stat().st_size))
    if total > allowed:
        raise ValueError(f"{path}: would unpack to {total} bytes; at most {allowed} are allowed for a file of its size")


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename.removesuffix(".npy")[:80]
    with archive.open(info) as file:
        shape, fortran, dtype = _read_header(f"{path}: {name}", file)
        if dtype.kind not in _KINDS or not dtype.itemsize:
            raise ValueError(f"{path}: {name} is of type {dtype}; allowed: {', '.join(_KINDS.values())}")
        size = dtype.itemsize
        for n in shape:
            size *= n
        if size > info.file_size:
            raise ValueError(f"{path}: {name} claims shape {shape}, which is more than its {info.file_size} bytes")
        data = file.read(size + 1)
    if len(data) != size:
        raise ValueError(f"{path}: {name} has {len(data)} bytes or more, its shape {shape} needs {size}")
    x = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "U":
        codes = np.frombuffer(data, dtype=np.dtype("u4").newbyteorder(dtype.byteorder))
        if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise ValueError(f"{path}: {name} holds text that is not Unicode")
    return x


def _read_header(where: str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
    except (zipfile.BadZipFile, zlib.error):
        raise
    except Exception:  # numpy parses the header as Python text, which fails in many ways
        raise ValueError(f"{where}: its header cannot be read") from None
    if any(n < 0 for n in shape):
        raise ValueError(f"{where}: claims shape {shape}")
    return shape, fortran, dtype
