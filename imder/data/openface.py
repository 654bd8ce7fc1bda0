"""The face from a CSV of OpenFace 2: action units, head pose and gaze, whatever version wrote it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
#: Our names and OpenFace's columns, in the order of the bundled corpus: intensities 0 to 5, then radians.
COLUMNS = {f"AU{unit}": f"AU{unit}_r" for unit in UNITS} | {
    "pose_pitch": "pose_Rx",
    "pose_yaw": "pose_Ry",
    "pose_roll": "pose_Rz",
    "gaze_x": "gaze_angle_x",
    "gaze_y": "gaze_angle_y",
}
NAMES = tuple(COLUMNS)
#: What OpenFace counts as no face, where its `success` is absent.
LEAST_CONFIDENCE = 0.5
MOST_ROWS = 200_000


@dataclass(frozen=True)
class Face:
    """A face over time: seconds (T,), values (T, 22) where it was seen, and what was changed or left out."""

    times: np.ndarray
    values: np.ndarray
    said: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """From 0 to the end of the last frame."""
        return float(self.times[-1] + np.median(np.diff(self.times)))

    def features(self, seconds: float, frames: int = 50, begin: float = 0.0) -> np.ndarray:
        """(frames, 22) over so many seconds from `begin`: means over equal stretches, straight lines between sightings.

        Before the first and after the last sighting the nearest one stands.
        """
        edges = begin + np.linspace(0, seconds, frames + 1)
        inside = self.times[(self.times > edges[0]) & (self.times < edges[-1])]
        knots = np.unique(np.concatenate([edges, inside]))
        values = np.stack([np.interp(knots, self.times, column) for column in self.values.T])  # (22, K)
        area = np.concatenate([np.zeros((len(values), 1)), np.cumsum(_trapezoids(values, knots), axis=1)], axis=1)
        at = np.searchsorted(knots, edges)
        return (np.diff(area[:, at], axis=1) / np.diff(edges)).T.astype(np.float32)


def _trapezoids(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    return 0.5 * (values[:, 1:] + values[:, :-1]) * np.diff(knots)


def read_face(path: str | Path, name: str | None = None) -> Face:
    """The face of a CSV: columns by name in any order, blanks around them or not, with or without `face_id`.

    name: what the file is called in sentences.
    Of several faces the one seen best is taken. Frames without a face (`success` 0, or little `confidence`) and rows
    that are no numbers are left out. Raises ValueError for another tool's file or one in which no face was seen.
    """
    path = Path(path)
    name = name or path.name
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            head = [title.strip() for title in next(rows, [])]
            table = [row for row, _ in zip(rows, range(MOST_ROWS + 1), strict=False)]
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{name}: it is no CSV; OpenFace 2 writes one (FeatureExtraction)") from None
    absent = [column for column in (*COLUMNS.values(), "timestamp") if column not in head]
    if absent:
        raise ValueError(
            f"{name}: the column {absent[0]!r} is absent ({len(absent)} of {len(COLUMNS) + 1} are); a CSV of "
            "OpenFace 2 with action units, pose and gaze is needed"
        )
    if len(table) > MOST_ROWS:
        raise ValueError(f"{name}: it has more than {MOST_ROWS} rows; one utterance is needed")
    if not table:
        raise ValueError(f"{name}: it has no rows; a line a video frame is needed")
    x = {column: _column(table, head.index(column)) for column in WANTED & set(head)}
    said: list[str] = []
    keep = np.isfinite(np.stack([x[column] for column in COLUMNS.values()])).all(axis=0) & np.isfinite(x["timestamp"])
    broken = int((~keep).sum())
    if broken:
        said.append(f"{broken} of {len(keep)} rows hold something that is no number and were left out")
    if "face_id" in x:
        keep &= _best_face(x, keep, said)
    seen = x["success"] > 0.5 if "success" in x else x.get("confidence", np.ones(len(keep))) >= LEAST_CONFIDENCE
    lost = int((keep & ~seen).sum())
    if lost:
        said.append(f"in {lost} of {int(keep.sum())} frames no face was seen; straight lines lead over them")
    keep &= seen
    if keep.sum() < 2:
        raise ValueError(f"{name}: a face was seen in {int(keep.sum())} frames; at least 2 are needed")
    order = np.argsort(x["timestamp"][keep], kind="stable")
    times = x["timestamp"][keep][order]
    values = np.stack([x[column][keep][order] for column in COLUMNS.values()], axis=1)
    single = np.concatenate([[True], np.diff(times) > 0])
    if not single.all():
        said.append(f"{int((~single).sum())} rows repeat a timestamp; the first of each was taken")
    if (np.diff(x["timestamp"][keep]) < 0).any():
        said.append("the rows were sorted by time")
    units = values[:, : len(UNITS)]
    if (units < 0).any() or (units > 5).any():
        said.append("action units outside 0 to 5 were set to the nearest")
        units.clip(0, 5, out=units)
    return Face(times[single], values[single], tuple(said))


WANTED = {*COLUMNS.values(), "timestamp", "face_id", "success", "confidence"}


def _column(table: list[list[str]], at: int) -> np.ndarray:
    """A column as numbers, NaN where a cell is none."""

    def number(row: list[str]) -> float:
        try:
            return float(row[at])
        except (ValueError, IndexError):
            return float("nan")

    return np.array([number(row) for row in table])


def _best_face(x: dict[str, np.ndarray], keep: np.ndarray, said: list[str]) -> np.ndarray:
    """Rows of the face with the largest summed confidence."""
    faces = np.unique(x["face_id"][keep])
    if len(faces) < 2:
        return np.ones(len(keep), dtype=bool)
    weight = x["success"] if "success" in x else np.ones(len(keep))
    weight = np.nan_to_num(weight * x.get("confidence", 1.0))
    seen = {face: float(weight[keep & (x["face_id"] == face)].sum()) for face in faces}
    best = max(seen, key=seen.get)
    said.append(f"{len(faces)} faces are in it; face {best:g}, seen best, was taken")
    return x["face_id"] == best
