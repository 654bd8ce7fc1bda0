"""Hidden states of token ids, kept on disk: nothing is encoded twice, and none of it need fit in memory.

A cache is CACHE/<fingerprint of the encoder>/<sha256 of a block's ids>.safetensors: the states of `BLOCK` texts one
after the other. A block is written whole or not at all, so an interrupted encoding goes on where it was; its sum stands
in its own header, and one that differs is encoded again. Any of it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from imder.data.encoder import Encoder
from imder.data.tokens import left_aligned

BLOCK = 128

#: Told how many texts are done, and of how many.
Told = Callable[[int, int], None]


def cache_folder() -> Path:
    """Where hidden states are kept unless a folder is given: XDG_CACHE_HOME/imder/text."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "imder" / "text"


class HiddenStates:
    """The hidden states of N rows of token ids, read from the cache a block at a time."""

    def __init__(
        self,
        encoder: Encoder,
        ids: np.ndarray,
        cache: str | Path | None = None,
        *,
        names: Sequence[str] = (),
    ) -> None:
        """ids (N, 3, L) as `Encoder.check` wants them; names: the clips', for errors. Nothing is computed yet."""
        self.encoder = encoder
        self.first, self.count = encoder.check(ids, names)
        self.ids = left_aligned(ids, self.first, self.count).astype(np.int32)
        self.folder = Path(cache_folder() if cache is None else cache).expanduser() / encoder.fingerprint
        self.keys = [self._key(at) for at in range(0, len(ids), BLOCK)]
        self._held: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> np.ndarray:
        """The states (T, F) of one row's valid pieces."""
        number = row // BLOCK
        if self._held is None or self._held[0] != number:
            states = self._read(number)
            self._held = number, self._make(number) if states is None else states
        start = int(self.count[number * BLOCK : row].sum())
        return self._held[1][start : start + int(self.count[row])]

    def ensure(self, told: Told = lambda done, of: None) -> int:
        """Encodes what is not in the cache, or damaged there; returns how many texts that were."""
        made = 0
        for number in range(len(self.keys)):
            if self._read(number) is None:
                self._make(number)
                made += len(self._rows(number))
            told(min((number + 1) * BLOCK, len(self)), len(self))
        return made

    def _rows(self, number: int) -> range:
        return range(number * BLOCK, min((number + 1) * BLOCK, len(self)))

    def _block(self, at: int) -> np.ndarray:
        """The ids of a block, cut to its longest text, so that a key does not depend on the rest of a file."""
        longest = max(1, int(self.count[at : at + BLOCK].max(initial=0)))
        return np.ascontiguousarray(self.ids[at : at + BLOCK, :, :longest])

    def _key(self, at: int) -> str:
        block = self._block(at)
        return hashlib.sha256(f"{self.encoder.fingerprint} {block.shape} ".encode() + block.tobytes()).hexdigest()

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.keys[number]}.safetensors"

    def _read(self, number: int) -> np.ndarray | None:
        """A block's states (rows, F), or None if they are not there as they were written."""
        wanted = int(self.count[list(self._rows(number))].sum()), self.encoder.width
        try:
            with safe_open(self._path(number), framework="numpy") as handle:
                states = handle.get_tensor("hidden")
                known = (handle.metadata() or {}).get("sha256")
        except (OSError, SafetensorError):
            return None
        whole = states.dtype == np.float32 and states.shape == wanted and _sum(states) == known
        return states if whole else None

    def _make(self, number: int) -> np.ndarray:
        block = self._block(number * BLOCK)
        hidden = self.encoder.hidden(block)
        states = hidden[block[:, 1] != 0]  # (rows, F)
        path = self._path(number)
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as file:
                file.write(save({"hidden": states}, metadata={"sha256": _sum(states)}))
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, path)
        except OSError as error:
            raise ValueError(
                f"{self.folder}: the cache of hidden states cannot be written ({error.strerror or error}); "
                "--cache names another folder"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                staged.unlink()
        return states


def _sum(states: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(states).data).hexdigest()
