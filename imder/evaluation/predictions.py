"""The predictions behind the rows, clip by clip: a file beside the file of results, appended safely.

A line of kind `clips` names a split's clips in order; one of kind `predictions` holds a cell's predictions of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imder.evaluation.rows import SCHEMA

#: What tells the clips of two lines apart.
CLIPS = ("data", "split", "limit")
#: What a line of predictions holds besides them, as in the rows of its cell.
CELL = (
    "run", "data", "split", "limit", "protocol", "nominal_missing_rate", "mask", "seed", "method", "available", "draws",
    "refined", "sampler", "steps", "guidance",
)  # fmt: skip
DECIMALS = 4
_START = b'{"kind": "'

Line = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Clips:
    """N clips of a split: ids, the video each is of, and labels (N,)."""

    ids: tuple[str, ...]
    videos: tuple[str, ...]
    label: np.ndarray


@dataclass(frozen=True, eq=False)
class Entry:
    """One cell's predictions (N,) of `clips`; the other fields are those of the cell's rows."""

    run: str
    data: str
    split: str
    limit: int | None
    protocol: str
    nominal_missing_rate: float
    mask: str | None
    seed: int
    method: str
    available: tuple[str, ...]
    draws: int
    refined: bool
    sampler: str | None
    steps: int | None
    guidance: float | None
    clips: Clips
    prediction: np.ndarray

    @property
    def key(self) -> Key:
        """What tells two entries apart."""
        return tuple(getattr(self, name) for name in CELL)


def predictions_path(rows_path: str | Path) -> Path:
    """Where the predictions behind a file of rows stand."""
    return Path(rows_path).with_suffix(".predictions.jsonl")


def read_predictions(rows_path: str | Path, notify: Callable[[str], None]) -> list[Entry]:
    """All predictions beside a file of rows, the later of two for one cell; none where there is no file.

    A torn last line is left out and told to `notify`; anything else that is wrong is a ValueError.
    """
    path = predictions_path(rows_path)
    if not path.exists():
        return []
    data = _read(path)
    entries, _, good = _parse(data, path)
    if good < len(data):
        notify(f"{path}: the last line is torn and was left out")
    return list({entry.key: entry for entry in entries}.values())


class PredictionsFile:
    """The predictions beside a file of rows, for appending; made while that file is held by `open_rows`.

    A torn last line is cut off. Raises ValueError, with nothing overwritten, for a file of anything else.
    """

    def __init__(self, rows_path: str | Path) -> None:
        self.path = predictions_path(rows_path)
        self.clips: dict[Key, Clips] = {}
        if not self.path.exists():
            return
        data = _read(self.path)
        _, self.clips, good = _parse(data, self.path)
        try:
            if good < len(data):
                os.truncate(self.path, good)
            elif data and not data.endswith(b"\n"):
                with open(self.path, "ab") as file:
                    file.write(b"\n")
        except OSError as error:
            raise ValueError(f"{self.path}: the torn last line was not cut off ({error.strerror})") from None

    def append(self, clips: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
        """Appends cells' predictions in one piece, and `clips` (a line without its kind) where they are new."""
        where = "new clips"
        line = _plain(clips, "clips")
        found = _clips(line, where)
        key = _clips_key(line)
        lines = [] if key in self.clips else [line]
        _same(self.clips.get(key, found), found, where)
        for entry in entries:
            lines.append(_plain(entry, "predictions"))
            _entry(lines[-1], {key: found}, "a new line of predictions")
        data = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(data.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ValueError(f"{self.path}: the predictions were not written ({error.strerror})") from None
        self.clips[key] = found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: the predictions cannot be read ({error.strerror})") from None


def _parse(data: bytes, path: Path) -> tuple[list[Entry], dict[Key, Clips], int]:
    """Entries, clips, and the length of what is whole: a last line that was torn by a kill does not count."""
    entries: list[Entry] = []
    clips: dict[Key, Clips] = {}
    good = 0
    lines = data.split(b"\n")
    for i, text in enumerate(lines):
        last = i + 1 == len(lines)
        if last and not text:
            break
        where = f"{path}: line {i + 1}"
        try:
            line = json.loads(text)
        except ValueError:
            if last and (text.startswith(_START) or _START.startswith(text)):
                break
            raise ValueError(f"{where} is not JSON; a file of predictions has one object a line") from None
        kind = line.get("kind") if isinstance(line, dict) else None
        if kind == "clips":
            found = _clips(line, where)
            _same(clips.setdefault(_clips_key(line), found), found, where)
        elif kind == "predictions":
            entries.append(_entry(line, clips, where))
        else:
            raise ValueError(f"{where} is of kind {str(kind)[:40]!r}; allowed: clips, predictions")
        good += len(text) + (not last)
    return entries, clips, good


def _plain(given: Mapping[str, Any], kind: str) -> Line:
    """A new line of JSON's own types; numbers that are not finite are found when the line is checked."""
    line = {"kind": kind} | dict(given)
    for name, value in line.items():
        if isinstance(value, tuple | np.ndarray):
            line[name] = np.asarray(value).tolist() if isinstance(value, np.ndarray) else list(value)
    if kind == "clips":
        line["label"] = [float(x) for x in line.get("label", ())]
    else:
        line["prediction"] = [round(float(x), DECIMALS) for x in line.get("prediction", ())]
    return line


def _keys(line: Line, wanted: Sequence[str], where: str) -> None:
    if odd := sorted({"kind", *wanted} ^ set(line)):
        raise ValueError(f"{where} does not hold what its kind holds: {', '.join(map(repr, odd))} absent or unknown")
    for name in set(wanted) & set(SCHEMA):
        value, kinds = line[name], SCHEMA[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ValueError(f"{where} does not hold what its kind holds: {name!r} is {str(value)[:40]!r}")


def _numbers(line: Line, name: str, where: str) -> np.ndarray:
    value = line[name]
    if not isinstance(value, list) or any(type(x) not in (int, float) for x in value):
        raise ValueError(f"{where}: {name!r} must be a list of numbers")
    found = np.array(value, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{where}: {name!r} holds a number that is not finite")
    return found


def _names(line: Line, name: str, where: str) -> tuple[str, ...]:
    value = line[name]
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise ValueError(f"{where}: {name!r} must be a list of strings")
    return tuple(value)


def _clips(line: Line, where: str) -> Clips:
    _keys(line, (*CLIPS, "ids", "videos", "label"), where)
    found = Clips(_names(line, "ids", where), _names(line, "videos", where), _numbers(line, "label", where))
    if not len(found.ids) == len(found.videos) == len(found.label):
        counts = f"{len(found.ids)} ids, {len(found.videos)} videos and {len(found.label)} labels"
        raise ValueError(f"{where} holds {counts}; as many of each are needed")
    return found


def _clips_key(line: Line) -> Key:
    return tuple(line[name] for name in CLIPS)


def _same(there: Clips, new: Clips, where: str) -> None:
    if (there.ids, there.videos) != (new.ids, new.videos) or not np.array_equal(there.label, new.label):
        raise ValueError(f"{where}: the clips differ from those that the file has for the same data, split and limit")


def _entry(line: Line, clips: dict[Key, Clips], where: str) -> Entry:
    _keys(line, (*CELL, "prediction"), where)
    own = clips.get(_clips_key(line))
    if own is None:
        of = ", ".join(str(value) for value in _clips_key(line))
        raise ValueError(f"{where}: no line of clips of {of} stands before it")
    prediction = _numbers(line, "prediction", where)
    if len(prediction) != len(own.ids):
        raise ValueError(f"{where} holds {len(prediction)} predictions for {len(own.ids)} clips")
    cell = {name: line[name] for name in CELL} | {"available": _names(line, "available", where)}
    return Entry(**cell, clips=own, prediction=prediction)
