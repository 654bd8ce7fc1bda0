"""Checkpoints that survive kill -9: staged folder, fsync, manifest with checksums, rename; damaged ones are skipped."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

KEEP = 2
STATE, META, MANIFEST = "state.safetensors", "state.json", "manifest.json"


class DamagedError(ValueError):
    """A saved folder that is not what was written."""


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_folder(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Writes tensors and JSON as the folder `path`, which exists whole or not at all; an older one is replaced.

    Raises ValueError with a plain sentence when the disk is full or read-only.
    """
    files = {
        STATE: safetensors.torch.save({name: x.detach().contiguous() for name, x in tensors.items()}),
        META: json.dumps(meta).encode(),
    }
    staged = path.parent / f".tmp-{path.name}-{os.getpid()}"
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for name, data in files.items():
            _write(staged / name, data)
        sums = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
        _write(staged / MANIFEST, json.dumps(sums).encode())
        _sync(staged)
        if path.exists():
            shutil.rmtree(path)
        os.rename(staged, path)
        _sync(path.parent)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        size = sum(map(len, files.values())) / 1e6
        reason = "no space is left on the disk" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise ValueError(f"{path}: a checkpoint of {size:.1f} MB was not written ({reason}); older ones stay") from None


def read_folder(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_folder` wrote; raises DamagedError when a byte differs or a file is absent."""
    try:
        sums = json.loads((path / MANIFEST).read_bytes())
        files = {name: (path / name).read_bytes() for name in (STATE, META)}
        for name, data in files.items():
            if hashlib.sha256(data).hexdigest() != sums[name]["sha256"]:
                raise DamagedError(f"{path / name}: the checksum differs from the manifest's")
        return safetensors.torch.load(files[STATE]), json.loads(files[META])
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedError(f"{path}: {error}") from None
    except json.JSONDecodeError as error:
        raise DamagedError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints `step-N` of one job in `folder`; the last `KEEP` are kept."""

    folder: Path

    def save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Writes `step-N`; only then removes older ones."""
        write_folder(self.folder / f"step-{step:07d}", tensors, meta)
        for old in self._steps()[KEEP:]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self, warn: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest valid checkpoint; each damaged one is told to `warn` and removed."""
        for stale in self.folder.glob(".tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        for path in self._steps():
            try:
                return read_folder(path)
            except DamagedError as error:
                warn(f"checkpoint skipped, it is damaged: {error}")
                shutil.rmtree(path, ignore_errors=True)
        return None

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)


@contextlib.contextmanager
def locked(path: Path, patience: float = 10.0) -> Iterator[BinaryIO]:
    """Holds the lock file `path`; processes that inherit the open file hold it too.

    Waits `patience` seconds (the processes of a killed run may be ending), then raises ValueError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise ValueError(f"{path.parent.parent}: another training is at work in this folder") from None
                time.sleep(0.1)
        yield file
