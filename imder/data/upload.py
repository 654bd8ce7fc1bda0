"""A visitor's file of features: opened without trust, checked against a run, explained modality by modality.

Read are an npz, a safetensors file and a zip of a folder that `python -m imder data convert` made. Arrays are named
`text`, `audio`, `vision` (or Language, Voice, Face), or `test_text` and so on as in the field's files; (L, F) for one
clip, (N, L, F) for several. Optional: `length_text` (N,) and its like, `label` (N,), `id` (N,), `raw_text` (N,),
`seconds` (N,), and `spans` (N, W, 2), where each word of `raw_text` begins and ends, as fractions of its clip.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from imder.data.clip import Clip, Word
from imder.data.convert import read_npz
from imder.data.dataset import FeatureSet
from imder.data.extract import Extracted
from imder.data.label import class_index
from imder.data.openface import Face
from imder.data.recording import Recording
from imder.data.sound import is_sound
from imder.data.standardise import Standardiser
from imder.modality import MODALITIES, NAMES

MAX_FILE = 2 << 20  # bytes on disk
MAX_UNPACKED = 16 << 20  # bytes of all arrays, as stored
MAX_ARRAY = 8 << 20  # bytes of one modality as float32
MAX_MEMBERS = 64
MAX_CLIPS = 400
MAX_FRAMES = 2000
MAX_WIDTH = 4096
MAX_JSON = 4 << 20
MAX_HEADER = 256 << 10
#: Standard deviations of the training data beyond which a value counts as strange.
FAR = 5.0
#: A share of strange values above which a sentence says so.
STRANGE = 0.01

CONVERT = "python -m imder data convert FILE --out DIR"
TRAIN = "python -m imder train --data DIR --out RUN"
RECORDING = "recording"
_PICKLES = {".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib"}
_SPLITS = ("test", "valid", "dev", "val", "train")
_SPELLINGS = {k: (k, NAMES[k].lower()) for k in MODALITIES}
_DTYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}


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


# --- opening ----------------------------------------------------------------------------------------------------------


def open_upload(path: Path, name: str, expected: Expected) -> Upload:
    """The file at `path`, called `name`; a ValueError of one sentence if it cannot be read at all."""
    name = Path(name).name[:80] or "the file"
    try:
        kind = _kind(path, name)
        if kind == "folder":
            return _from_folder(path, name, expected)
        arrays = _read_safetensors(path) if kind == "safetensors" else _read_archive(path)
        return _from_arrays(arrays, name, kind, expected)
    except ValueError as error:
        text = str(error).replace(str(path), name)
        raise ValueError(text if name in text else f"{name}: {text}") from None


def _kind(path: Path, name: str) -> str:
    """npz, safetensors or folder, by content; what else it may be is refused with what to do."""
    size = path.stat().st_size
    if size > MAX_FILE:
        raise ValueError(f"{name}: is {size / 2**20:.1f} MB; at most {MAX_FILE >> 20} MB are opened here")
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise ValueError(f"{name}: is empty")
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        members = [info.filename for info in _members(path)]
        if any(member.endswith((".pkl", ".pickle")) for member in members):
            raise ValueError(_pickle(name))
        return "folder" if any(member.split("/")[-1] == "data.json" for member in members) else "npz"
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < max(size, MAX_HEADER):
        return "safetensors"
    if (head[0] == 0x80 and head[1:2] <= b"\x05") or Path(name).suffix.lower() in _PICKLES:
        raise ValueError(_pickle(name))
    if is_sound(head):
        raise ValueError(f"{name}: is a sound, not features; put it under A recording of your own, below")
    if Path(name).suffix.lower() == ".csv":
        raise ValueError(
            f"{name}: is a table; one of OpenFace goes beside a sound, under A recording of your own, below"
        )
    if head[:6] == b"\x93NUMPY":
        raise ValueError(f"{name}: is one array; put it with the others into an npz, named text, audio or vision")
    raise ValueError(
        f"{name}: is neither npz nor safetensors nor a zip of a converted folder; numpy.savez writes an npz"
    )


def _pickle(name: str) -> str:
    return f"{name}: is a pickle, and opening one runs code from it; convert it on your own machine: {CONVERT}"


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """What a zip holds, its number and sizes within the limits."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, RuntimeError, OSError, ValueError, struct.error) as error:
        raise ValueError(f"{path}: not a whole zip ({str(error)[:80]})") from None
    members = [info for info in members if not info.filename.endswith("/") and "__MACOSX/" not in info.filename]
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{path}: holds {len(members)} files; at most {MAX_MEMBERS} are read")
    total = sum(info.file_size for info in members)
    if total > MAX_UNPACKED:
        raise ValueError(f"{path}: would unpack to {total / 2**20:.0f} MB; at most {MAX_UNPACKED >> 20} MB are allowed")
    return members


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    if not _members(path):
        raise ValueError(f"{path}: holds no array")
    with np.errstate(all="ignore"):
        return read_npz(path)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors; the library checks that offsets, shapes and bytes agree, here are the limits it has not."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER, size - 8):
            raise ValueError(f"{path}: not a whole safetensors file (a header of {length} bytes)")
    try:
        with safe_open(path, framework="numpy") as handle:
            names = list(handle.keys())
            if not names or len(names) > MAX_MEMBERS:
                raise ValueError(f"{path}: holds {len(names)} tensors; 1 to {MAX_MEMBERS} are read")
            arrays = {}
            for name in names:
                stored = handle.get_slice(name)
                if stored.get_dtype() not in _DTYPES or 0 in stored.get_shape() or not stored.get_shape():
                    raise ValueError(
                        f"{path}: {name[:40]!r} is {stored.get_dtype()} of shape {tuple(stored.get_shape())}; "
                        "float32 or float16 arrays that are not empty are read"
                    )
                arrays[name] = stored[:]
            return arrays
    except (SafetensorError, OSError, RecursionError, OverflowError, TypeError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({str(error).splitlines()[0][:80]})") from None


def clip_from_rows(features: object, label: float | str | None, expected: Expected) -> Clip:
    """A clip from {modality: rows of numbers}, absent ones left out; a ValueError says what does not fit."""
    if type(features) is not dict or not 1 <= len(features) <= len(MODALITIES):
        raise ValueError("features: an object of text, audio, vision with rows of numbers is needed")
    arrays = {}
    for key, rows in features.items():
        if key not in MODALITIES:
            raise ValueError(f"features: {str(key)[:30]!r} is not a modality; allowed: {', '.join(MODALITIES)}")
        try:
            arrays[key] = np.array(rows, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            arrays[key] = np.empty(0)
        if arrays[key].ndim != 2:
            raise ValueError(f"features: {key} is no list of equally long rows of numbers, one row a frame")
    if label is not None:
        arrays["label"] = np.array([label] if expected.classes else [float(label)])
    try:
        upload = _from_arrays(arrays, "features", "rows", expected)
    except ValueError as error:
        raise ValueError(f"features: {error}") from None
    if upload.faults:
        raise ValueError(f"features: {upload.faults[0]}")
    return upload.clips[0]


def from_recording(
    found: Extracted, expected: Expected, recording: Recording | None, face: Face | None, synthetic: bool = False
) -> Upload:
    """What was extracted of a recording as a file of features: the same checks, then what was changed or assumed."""
    clip = found.clip
    arrays = {k: clip.features[k][None] for k in MODALITIES if k not in clip.absent}
    told = [(clip.video, clip.text, clip.label, clip.words, clip.seconds)]
    upload = _from_arrays(arrays, clip.video, RECORDING, expected, told=told)
    return replace(upload, said=found.said, recording=recording, face=face, synthetic=synthetic)


# --- a converted folder -----------------------------------------------------------------------------------------------


def _from_folder(path: Path, name: str, expected: Expected) -> Upload:
    """The test clips (else valid, else train) of a zipped data set folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "data"
        folder.mkdir()
        try:
            _unpack(path, folder)
            _check_headers(folder)
            data = FeatureSet(folder)
            split = next(s for s in ("test", "valid", "train") if s in data.splits)
            clips = data.split(split)
            arrays: dict[str, np.ndarray] = {}
            if len(clips) > MAX_CLIPS:
                raise ValueError(f"{path}: {split} holds {len(clips)} clips; at most {MAX_CLIPS} are opened")
            lengths = {k: [clip.lengths[k] for clip in clips] for k in MODALITIES}
            for k in MODALITIES:
                arrays[k] = _stack([clip.features[k] for clip in clips], k, str(path))
                arrays[f"length_{k}"] = np.array(lengths[k])
            ids = _distinct([clip.id[:60] for clip in clips])
            alike = data.label_classes == expected.classes
            more = [
                (i, clip.text[:400], clip.label if alike else np.nan, clip.words[:200], clip.seconds)
                for i, clip in zip(ids, clips, strict=True)
            ]
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", f"{name}: ").replace(str(folder), name)) from None
    upload = _from_arrays(arrays, name, "folder", expected, told=more)
    said = [f"These are the {len(more)} {split} clips of {data.title[:80]!r}.", *upload.said]
    if not alike:
        said.append("Its labels are of another kind than this run's, so predictions stand alone.")
    return replace(upload, said=tuple(said), synthetic=data.synthetic)


def _unpack(path: Path, folder: Path) -> None:
    """data.json, the tensors and the vocabulary of one folder of the zip, by their last name only."""
    members = _members(path)
    top = next(info for info in members if info.filename.split("/")[-1] == "data.json")
    prefix = top.filename.removesuffix("data.json")
    try:
        with zipfile.ZipFile(path) as archive:
            for info in members:
                name = info.filename.removeprefix(prefix)
                wanted = name == "data.json" or name in {f"{s}.safetensors" for s in ("train", "valid", "test")}
                if not (info.filename.startswith(prefix) and wanted):
                    continue
                most = MAX_JSON if name == "data.json" else MAX_UNPACKED
                with archive.open(info) as file:
                    content = file.read(most + 1)
                if len(content) > most:
                    raise ValueError(f"{path}: {name} is larger than {most >> 20} MB")
                (folder / name).write_bytes(content)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: not a whole zip ({str(error)[:80]})") from None
    try:
        info = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        if isinstance(info, dict):  # true draws and sound stay at home
            info.pop("redraws", None)
            (folder / "data.json").write_text(json.dumps(info), encoding="utf-8")
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: data.json is not JSON") from None


def _check_headers(folder: Path) -> None:
    """No tensor that unpacks beyond the limits: text stored once a word is as large as its index says."""
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="numpy") as handle:
                shapes = {name: handle.get_slice(name).get_shape() for name in handle.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: not a whole safetensors file ({str(error).splitlines()[0][:80]})") from None
        width = (shapes.get("text.words") or [0])[-1]
        rows = (shapes.get("text.index") or [0])[0]
        sizes = [int(np.prod([float(n) for n in shape])) * 4 for shape in shapes.values()]
        if max([*sizes, rows * width * 4]) > MAX_UNPACKED:
            raise ValueError(f"{file}: its features are larger than {MAX_UNPACKED >> 20} MB")


def _stack(rows: Sequence[np.ndarray], k: str, where: str) -> np.ndarray:
    """Sequences (L_i, F) as (N, L, F), padded with zeros behind."""
    longest, width = max(map(len, rows)), rows[0].shape[1]
    if len(rows) * longest * width * 4 > MAX_ARRAY:
        raise ValueError(f"{where}: {k} is larger than {MAX_ARRAY >> 20} MB")
    out = np.zeros((len(rows), longest, width), dtype=np.float32)
    for i, x in enumerate(rows):
        out[i, : len(x)] = x
    return out


# --- arrays to clips --------------------------------------------------------------------------------------------------

Told = Sequence[tuple[str, str, float, tuple[Word, ...], float | None]]


def _from_arrays(
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
    if _distinct(rows["id"]) != rows["id"]:
        rows["id"] = _distinct(rows["id"])
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


def _distinct(ids: list[str]) -> list[str]:
    """The ids, or numbers if some are equal or empty."""
    return ids if all(ids) and len(set(ids)) == len(ids) else [f"clip {i + 1}" for i in range(len(ids))]


# --- words about it, and a file to begin with -------------------------------------------------------------------------


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


def template(clip: Clip, synthetic: bool) -> bytes:
    """An npz of one clip as `open_upload` reads it, the same bytes for the same clip."""
    arrays: dict[str, np.ndarray] = {}
    for k in MODALITIES:
        if k not in clip.absent:
            arrays[k] = clip.features[k].astype(np.float32)[None]
            arrays[f"length_{k}"] = np.array([len(clip.features[k])])
    arrays |= {"label": np.array([clip.label]), "id": np.array([clip.id])}
    arrays |= {"raw_text": np.array([clip.text]), "synthetic": np.array(synthetic)}
    if clip.seconds:
        arrays["seconds"] = np.array([clip.seconds], dtype=np.float32)
    if len(clip.words) == len(clip.text.split()) > 0:
        arrays["spans"] = np.array([[(word.start, word.end) for word in clip.words]], dtype=np.float32)
    return npz_bytes(arrays)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed npz without a time in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, x in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(x, order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())
    return out.getvalue()
