"""Arrays of features checked against a run and explained modality by modality; what fits becomes clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from imder.data.clip import Clip, Word
from imder.data.label import class_index
from imder.data.openface import Face
from imder.data.recording import Recording
from imder.data.standardise import Standardiser
from imder.modality import MODALITIES, NAMES

MAX_ARRAY = 8 << 20  # bytes of one modality as float32
MAX_CLIPS = 400
MAX_FRAMES = 2000
MAX_WIDTH = 4096
#: Standard deviations of the training data beyond which a value counts as strange.
FAR = 5.0
#: A share of strange values above which a sentence says so.
STRANGE = 0.01

CONVERT = "python -m imder data convert FILE --out DIR"
TRAIN = "python -m imder train --data DIR --out RUN"
_SPLITS = ("test", "valid", "dev", "val", "train")
_SPELLINGS = {k: (k, NAMES[k].lower()) for k in MODALITIES}


@dataclass(frozen=True)
class Expected:
    """What a run needs of a file: its widths, its training statistics, names of its features, the label's range.

    `classes` are the names where the label is one of several classes, empty where it is a sentiment.
    """

    dims: Mapping[str, int]
    standardiser: Standardiser
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    label_range: tuple[float, float] = (-3.0, 3.0)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModalityCheck:
    """What was found of one modality; `array` is None where the file has none of it.

    padding: share of frames beyond the clips' lengths. mean, sd, beyond: of the valid frames in the run's standard
    units, beyond the share outside +-FAR; None where the width is wrong or a value is not finite.
    """

    modality: str
    array: str | None = None
    dtype: str = ""
    shape: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    padding: float = 0.0
    nan: int = 0
    plus_inf: int = 0
    minus_inf: int = 0
    mean: float | None = None
    sd: float | None = None
    beyond: float | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Upload:
    """A file that could be read: its clips (none if something is wrong), the checks, and what has to be said."""

    name: str
    kind: str
    clips: tuple[Clip, ...]
    checks: tuple[ModalityCheck, ...]
    said: tuple[str, ...]
    synthetic: bool = False  # the file says so
    recording: Recording | None = None  # what it was extracted of
    face: Face | None = None

    @property
    def faults(self) -> list[str]:
        """Why there are no clips."""
        return [check.fault for check in self.checks if check.fault]

    @property
    def size(self) -> int:
        """Bytes of the clips' features and of the sound and the face that they are of."""
        arrays = [x for clip in self.clips for x in clip.features.values()]
        arrays += [self.recording.samples] if self.recording else []
        arrays += [self.face.times, self.face.values] if self.face else []
        return sum(x.nbytes for x in arrays)


Told = Sequence[tuple[str, str, float, tuple[Word, ...], float | None]]


def from_arrays(
    arrays: Mapping[str, np.ndarray], name: str, kind: str, expected: Expected, told: Told | None = None
) -> Upload:
    """The checks of the arrays and, where none has a fault, the clips; `told` is what a folder knows of them."""
    prefix = _prefix(arrays)
    by_case = {key.casefold(): key for key in arrays}
    found = {k: next((by_case[prefix + s] for s in _SPELLINGS[k] if prefix + s in by_case), None) for k in MODALITIES}
    if not any(found.values()):
        names = ", ".join(repr(key[:30]) for key in sorted(arrays)[:6])
        raise ValueError(f"no array is named text, audio or vision, nor test_text and so on; found: {names or 'none'}")
    said = []
    if prefix:
        said.append(f"The arrays {prefix}text, {prefix}audio and so on are read.")
    stacks = {k: _three_axes(arrays[key], key) for k, key in found.items() if key}
    count = _count(stacks, found)
    spans = {k: _spans(x, arrays, prefix, k) for k, x in stacks.items()}
    checks = []
    for k in MODALITIES:
        if k in stacks:
            checks.append(_check(k, found[k], arrays[found[k]], stacks[k], spans[k], expected))
        else:
            checks.append(ModalityCheck(k))
    absent = tuple(check.modality for check in checks if check.array is None)
    if absent:
        listed = " and ".join(NAMES[k] for k in absent)
        verb, them = ("is", "it is") if len(absent) == 1 else ("are", "they are")
        said.append(f"{listed} {verb} not in the file: missing, so {them} what a recovery brings.")
    lost = sum(check.minus_inf for check in checks if check.modality == "audio")
    if lost:
        said.append(f"{lost} values of minus infinity in Voice (the logarithm of silence) were set to 0.")
    used = {key for key in found.values() if key}
    used |= {f"{prefix}{t}" for t in ("label", "id", "raw_text", "seconds", "spans")}
    used |= {f"{prefix}{t}_{k}" for t in ("length", "len") for k in MODALITIES}
    ignored = sorted(set(arrays) - used - {"synthetic"})
    if ignored:
        more = ", ..." if len(ignored) > 5 else ""
        said.append(f"Not used: {', '.join(key[:30] for key in ignored[:5])}{more}.")
    if any(check.fault for check in checks):
        return Upload(name, kind, (), tuple(checks), tuple(said))
    told = told or _told(arrays, prefix, count, expected, said)
    clips = []
    for i in range(count):
        features = {k: _features(x[i, slice(*spans[k][i])]) for k, x in stacks.items()}
        lengths = {len(x) for x in features.values()}
        frames = lengths.pop() if len(lengths) == 1 else 50
        for k in absent:
            mean = expected.standardiser.mean[k]
            features[k] = np.broadcast_to(mean, (frames, len(mean)))  # takes no room
        clip_id, text, label, words, seconds = told[i]
        clips.append(Clip(clip_id, clip_id, i, text, features, label, words=words, seconds=seconds, absent=absent))
    synthetic = bool(np.any(arrays.get("synthetic", False)))
    return Upload(name, kind, tuple(clips), tuple(checks), tuple(said), synthetic)


def _prefix(arrays: Mapping[str, np.ndarray]) -> str:
    if any(key.casefold() in {s for names in _SPELLINGS.values() for s in names} for key in arrays):
        return ""
    return next((f"{s}_" for s in _SPLITS if any(f"{s}_{k}" in arrays for k in MODALITIES)), "")


def _three_axes(x: np.ndarray, key: str) -> np.ndarray:
    """(N, L, F); one clip may come as (L, F)."""
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 3) or 0 in x.shape:
        raise ValueError(
            f"{key[:40]} is {x.dtype} of shape {x.shape}; numbers (frames, width) or (clips, frames, width) are needed"
        )
    x = x if x.ndim == 3 else x[None]
    clips, frames, width = x.shape
    for n, most, what in ((clips, MAX_CLIPS, "clips"), (frames, MAX_FRAMES, "frames"), (width, MAX_WIDTH, "columns")):
        if n > most:
            raise ValueError(f"{key[:40]} has {n} {what}; at most {most} are opened here")
    if x.size * 4 > MAX_ARRAY:
        raise ValueError(f"{key[:40]} is larger than {MAX_ARRAY >> 20} MB as float32")
    return x


def _count(stacks: Mapping[str, np.ndarray], found: Mapping[str, str | None]) -> int:
    counts = {k: len(x) for k, x in stacks.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{found[k]} holds {n}" for k, n in counts.items())
        raise ValueError(f"the arrays disagree on the number of clips: {listed}")
    return next(iter(counts.values()))


def _spans(x: np.ndarray, arrays: Mapping[str, np.ndarray], prefix: str, k: str) -> list[tuple[int, int]]:
    """[first, last) valid frame of each clip: from the lengths or, without them, without zero rows at the ends."""
    frames = x.shape[1]
    with np.errstate(invalid="ignore"):
        there = (x != 0).any(axis=2)  # (N, L)
    key = next((f"{prefix}{t}_{k}" for t in ("length", "len") if f"{prefix}{t}_{k}" in arrays), None)
    if key is None:
        ends = [(int(row.argmax()), frames - int(row[::-1].argmax())) if row.any() else (0, 1) for row in there]
        left = sum(a > 0 for a, _ in ends) > sum(b < frames for _, b in ends)
        return [(a, frames) if left else (0, b) for a, b in ends]
    lengths = np.atleast_1d(arrays[key])
    whole = lengths.dtype.kind in "iuf" and lengths.shape == (len(x),) and np.isfinite(lengths).all()
    if not whole or not np.array_equal(lengths, np.rint(lengths)) or not ((lengths >= 1) & (lengths <= frames)).all():
        raise ValueError(
            f"{key} is {lengths.dtype} of shape {lengths.shape}; one length from 1 to {frames} a clip is needed"
        )
    lengths = [int(n) for n in lengths]
    left = sum(not row[0] for row in there) > sum(not row[-1] for row in there)
    return [(frames - n, frames) if left else (0, n) for n in lengths]


def _check(
    k: str, key: str, raw: np.ndarray, x: np.ndarray, spans: Sequence[tuple[int, int]], expected: Expected
) -> ModalityCheck:
    valid = np.concatenate([x[i, a:b] for i, (a, b) in enumerate(spans)]).astype(np.float64)
    counts = {"nan": np.isnan(valid), "plus_inf": np.isposinf(valid), "minus_inf": np.isneginf(valid)}
    lost = {name: int(bad.sum()) for name, bad in counts.items()}
    lengths = tuple(b - a for a, b in spans)
    known = {
        "array": key[:40], "dtype": str(raw.dtype), "shape": tuple(raw.shape), "lengths": lengths,
        "padding": 1 - sum(lengths) / (x.shape[0] * x.shape[1]), **lost,
    }  # fmt: skip
    width, title = expected.dims[k], NAMES[k]
    if x.shape[2] != width:
        named = expected.names.get(k, ())
        such = f" ({named[0]}, {named[1]}, ...)" if len(named) > 1 else ""
        fault = (
            f"{title} has {x.shape[2]} columns; this run needs {width}{such}. To have a run of your own widths, "
            f"write all splits into one npz, then: {CONVERT} and {TRAIN}"
        )
        return ModalityCheck(k, fault=fault, **known)
    refused = lost["nan"] + lost["plus_inf"] + (lost["minus_inf"] if k != "audio" else 0)
    values = np.where(counts["minus_inf"], 0, valid) if k == "audio" else valid
    if not refused and not (np.abs(values) < 3e38).all():
        return ModalityCheck(k, fault=f"{title} holds values beyond float32.", **known)
    if refused:
        fault = f"{title} holds {refused} values that are not finite; replace them (most use 0) and open it again."
        return ModalityCheck(k, fault=fault, **known)
    z = (values - expected.standardiser.mean[k]) / expected.standardiser.std[k]
    scale = {"mean": float(z.mean()), "sd": float(z.std()), "beyond": float((np.abs(z) > FAR).mean())}
    return ModalityCheck(k, **known, **scale)


def _features(x: np.ndarray) -> np.ndarray:
    """Valid frames as float32, -inf (allowed in audio alone) as 0."""
    return np.where(np.isneginf(x), 0, x).astype(np.float32) if x.dtype.kind == "f" else x.astype(np.float32)


def _told(arrays: Mapping[str, np.ndarray], prefix: str, count: int, expected: Expected, said: list[str]) -> Told:
    """id, sentence and label of each clip, from the arrays that say so or made."""
    rows: dict[str, list[str]] = {}
    for key, made in (("id", "clip {}"), ("raw_text", "")):
        x = np.atleast_1d(arrays.get(prefix + key, np.array([made.format(i + 1) for i in range(count)])))
        if x.shape != (count,) or x.dtype.kind not in "Uiu":
            raise ValueError(f"{prefix}{key} is {x.dtype} of shape {x.shape}; {count} texts are needed")
        rows[key] = [str(value)[: 60 if key == "id" else 400] for value in x]
    if distinct(rows["id"]) != rows["id"]:
        rows["id"] = distinct(rows["id"])
        said.append("The ids are not unique, so clips are numbered.")
    labels = np.atleast_1d(arrays.get(f"{prefix}label", np.full(count, np.nan)))
    labels = labels[:, 0] if labels.shape == (count, 1) else labels
    if expected.classes and labels.shape == (count,):
        labels = _indices(labels, expected.classes, f"{prefix}label")
    if labels.shape != (count,) or labels.dtype.kind not in "fiub" or np.isinf(labels).any():
        raise ValueError(f"{prefix}label is {labels.dtype} of shape {labels.shape}; {count} numbers are needed")
    low, high = expected.label_range
    if f"{prefix}label" not in arrays:
        said.append("There is no label, so predictions stand alone.")
    elif ((labels < low) | (labels > high)).any():
        said.append(f"Some labels are outside {low:g} to {high:g}, the range of this run.")
    times = _times(arrays, prefix, rows["raw_text"])
    return [(i, t, float(v), *when) for i, t, v, when in zip(*rows.values(), labels, times, strict=True)]


def _times(
    arrays: Mapping[str, np.ndarray], prefix: str, texts: Sequence[str]
) -> list[tuple[tuple[Word, ...], float | None]]:
    """The words with their time, and the length, of each clip; nothing of one whose sentence has other words."""
    count, found = len(texts), []
    seconds = np.atleast_1d(arrays.get(f"{prefix}seconds", np.full(count, np.nan)))
    if seconds.shape != (count,) or seconds.dtype.kind not in "fiu" or (seconds <= 0).any() or np.isinf(seconds).any():
        raise ValueError(f"{prefix}seconds is {seconds.dtype} of shape {seconds.shape}; {count} lengths are needed")
    spans = arrays.get(f"{prefix}spans", np.empty((count, 0, 2)))
    if spans.ndim != 3 or spans.shape[0] != count or spans.shape[2] != 2 or spans.dtype.kind != "f":
        raise ValueError(f"{prefix}spans is {spans.dtype} of shape {spans.shape}; ({count}, words, 2) is needed")
    for text, length, rows in zip(texts, seconds, spans, strict=True):
        rows = rows[np.isfinite(rows).all(axis=1)]
        words = text.split() if ((rows >= 0) & (rows <= 1)).all() else []
        words = words if len(words) == len(rows) else []
        made = tuple(Word(w, float(a), float(b)) for w, (a, b) in zip(words, rows, strict=False))
        found.append((made, None if np.isnan(length) else float(length)))
    return found


def _indices(labels: np.ndarray, classes: Sequence[str], key: str) -> np.ndarray:
    """Labels given as names or indices of classes, as indices; NaN and an empty name where there is none."""
    found = []
    for value in labels.ravel().tolist():
        try:
            found.append(np.nan if value == "" or value != value else class_index(value, classes))
        except ValueError as error:
            raise ValueError(f"{key}: {str(value)[:30]!r} is no label of this run; {error}") from None
    return np.array(found, dtype=np.float64).reshape(labels.shape)


def distinct(ids: list[str]) -> list[str]:
    """The ids, or numbers if some are equal or empty."""
    return ids if all(ids) and len(set(ids)) == len(ids) else [f"clip {i + 1}" for i in range(len(ids))]


def sentence(check: ModalityCheck) -> str:
    """One check in one sentence."""
    title = NAMES[check.modality]
    if check.array is None:
        return f"{title} is not there; it can only be recovered."
    if check.fault:
        return check.fault
    if check.beyond > STRANGE:
        return (
            f"{title} is on another scale than the training data: {check.beyond:.1%} of its values lie beyond "
            f"{FAR:g} standard deviations, so take its recovery with care."
        )
    if abs(check.mean) > 1 or not 0.3 < check.sd < 2:
        return f"{title} fits in width, but its mean or spread is unlike the training data's (0 and 1)."
    return f"{title} fits the run in width and in scale."
