"""The file of results, one JSON object a line and a line a figure, appended safely; and the stored masks beside it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from imder.modality import from_mask, ordered, to_mask

Row = dict[str, Any]

MASKS_FORMAT = "imder-masks/1"

#: What every row holds, with the types allowed.
SCHEMA: dict[str, tuple[type, ...]] = {
    "method": (str,),  # "real" for floors
    "available": (list,),  # modality names; empty where it differs by clip (random protocol, see `mask`)
    "metric": (str,),
    "value": (float, int, type(None)),  # null where the metric is not defined
    "n": (int,),  # clips
    "draws": (int,),  # averaged over; a fill is one answer, 1
    "refined": (bool,),  # after D_k
    "seed": (int,),
    "sampler": (str, type(None)),
    "steps": (int, type(None)),
    "protocol": (str,),
    "nominal_missing_rate": (float, int),
    "realised_missing_rate": (float, int),
    "run": (str,),  # the folder's name @ a digest of the weights
    "data": (str,),  # name @ fingerprint
    "split": (str,),
    "limit": (int, type(None)),  # clips of the split that were taken; null: all
    "modality": (str, type(None)),  # whose figure it is; null: of all that are missing
    "nfe": (int, type(None)),  # network evaluations a draw and modality
    "guidance": (float, int, type(None)),
    "mask": (str, type(None)),  # the entry of the masks file
    "shares": (list,),  # of clips with 3, 2 and 1 modalities
    "se": (float, int, type(None)),  # standard error over clips; of a floor, its deviation over halvings
    "exact": (float, int, type(None)),  # what exact draws would give (coverage90)
}

#: What tells two figures apart.
IDENTITY = (
    "run", "data", "split", "limit", "protocol", "nominal_missing_rate", "mask", "seed", "method", "available",
    "modality", "metric", "draws", "refined", "sampler", "steps", "guidance",
)  # fmt: skip


def identity(row: Row) -> tuple[Any, ...]:
    """The fields of `IDENTITY`, hashable."""
    return tuple(tuple(v) if isinstance(v := row[key], list) else v for key in IDENTITY)


def _check_row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is no row of results ({str(value)[:40]!r}); choose another file")
    if odd := sorted(set(SCHEMA) ^ set(value)):
        raise ValueError(f"{where} is a row of another schema: {', '.join(map(repr, odd))} absent or unknown")
    for key, kinds in SCHEMA.items():
        if not isinstance(value[key], kinds) or (isinstance(value[key], bool) and bool not in kinds):
            raise ValueError(f"{where} is a row of another schema: {key!r} is {str(value[key])[:40]!r}")
    return value


def _parse(data: bytes, path: Path) -> tuple[list[Row], int]:
    """The rows, and the length of what is whole: a last line that was torn by a kill does not count."""
    rows, good = [], 0
    lines = data.split(b"\n")
    for i, line in enumerate(lines):
        last = i + 1 == len(lines)
        if last and not line:
            break
        where = f"{path}: line {i + 1}"
        try:
            value = json.loads(line)
        except ValueError:
            if last and rows:
                break
            raise ValueError(f"{where} is not JSON; a file of results has one row a line") from None
        if last and not isinstance(value, dict):
            break
        rows.append(_check_row(value, where))
        good += len(line) + (not last)
    return rows, good


def read_rows(path: str | Path, notify: Callable[[str], None]) -> list[Row]:
    """All rows of the file; a torn last line is left out and told to `notify`. ValueError for anything else."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: the rows cannot be read ({error.strerror})") from None
    rows, good = _parse(data, path)
    if good < len(data):
        notify(f"{path}: the last line is torn and was left out")
    return rows


class RowFile:
    """Rows that are there, and a place to append more. Made by `open_rows`."""

    def __init__(self, path: Path, file: BinaryIO, rows: list[Row]) -> None:
        self.path, self.file = path, file
        self.known = {identity(row) for row in rows}

    def append(self, rows: Sequence[Row]) -> int:
        """Appends the rows that are not there yet, in one piece, and returns how many; NaN and infinity are refused."""
        fresh = [row for row in rows if identity(row) not in self.known]
        data = "".join(json.dumps(_check_row(row, "a new row"), allow_nan=False) + "\n" for row in fresh)
        try:
            self.file.write(data.encode())
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise ValueError(f"{self.path}: the rows were not written ({error.strerror})") from None
        self.known |= {identity(row) for row in fresh}
        return len(fresh)


@contextlib.contextmanager
def open_rows(path: str | Path, notify: Callable[[str], None]) -> Iterator[RowFile]:
    """The file of results, locked against a second writer; a torn last line is cut off and told to `notify`.

    Raises ValueError, with nothing overwritten, when the file holds anything but rows of this schema.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; a file of rows (.jsonl) is needed")
    existed = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise ValueError(f"{path}: the file of rows cannot be opened ({error.strerror})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{path}: another evaluation is writing to this file") from None
        file.seek(0)
        data = file.read()
        rows, good = _parse(data, path)
        if good < len(data):
            file.truncate(good)
            notify(f"{path}: the last line was torn; it was cut off and will be computed again")
        elif data and not data.endswith(b"\n"):
            file.write(b"\n")
        try:
            yield RowFile(path, file, rows)
        finally:
            if not existed and path.stat().st_size == 0:
                path.unlink()


class MasksFile:
    """Which modalities each clip has, by protocol, rate and seed: drawn once, stored, and read back from then on."""

    def __init__(self, rows_path: str | Path) -> None:
        self.path = Path(rows_path).with_suffix(".masks.json")
        self.masks: dict[str, dict[str, list[str]]] = {}
        if not self.path.exists():
            return
        try:
            stored = json.loads(self.path.read_bytes())
            if stored["format"] != MASKS_FORMAT:
                raise ValueError(f"format is {stored['format']!r}, {MASKS_FORMAT!r} is needed")
            self.masks = {
                name: {clip: list(ordered(names)) for clip, names in clips.items()}
                for name, clips in stored["masks"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path}: not a file of masks ({error}); nothing was overwritten") from None

    def get(self, name: str, ids: Sequence[str], draw: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
        """(N, 3) bool of these clips under the entry `name`; clips that are not there are drawn and added."""
        entry = self.masks.setdefault(name, {})
        fresh = [clip for clip in ids if clip not in entry]
        if fresh:
            entry |= {clip: list(from_mask(row)) for clip, row in zip(fresh, draw(fresh), strict=True)}
        return np.array([to_mask(entry[clip]) for clip in ids])

    def save(self) -> None:
        """Writes the file as a whole or not at all."""
        staged = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            staged.write_text(json.dumps({"format": MASKS_FORMAT, "masks": self.masks}), encoding="utf-8")
            os.replace(staged, self.path)
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise ValueError(f"{self.path}: the masks were not written ({error.strerror})") from None
