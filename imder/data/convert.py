"""`convert`: feature arrays of others, in one npz, to a data set folder.

Arrays {split}_{text,audio,vision,label} and, where they are known, {split}_{id,raw_text,video_id,len_text,...}, with
`label_names` for classes. Every size is read from the arrays; whatever is changed is said.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from imder.data.clip import Clip
from imder.data.dataset import FeatureSet, write_feature_set
from imder.modality import MODALITIES

#: The names a split may have in the file.
ALIASES = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}

MAX_MEMBERS = 500
MAX_BYTES = 8 << 30  # uncompressed, all arrays
MAX_RATIO = 100  # uncompressed to compressed, for files above FREE_BYTES
FREE_BYTES = 256 << 20
_KINDS = {"f": "float", "i": "integer", "u": "unsigned integer", "b": "bool", "U": "text"}


# -- reading an npz without trusting it -------------------------------------------------------------------------------


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz, none of which may hold objects; sizes are checked before anything is allocated."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix.lower() in {".pkl", ".pickle", ".p"}:
        raise ValueError(f"{path}: is a pickle, and opening one runs code from it; convert reads npz files only")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(path, members)
            return {info.filename.removesuffix(".npy"): _read_member(path, archive, info) for info in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole npz file ({error})") from None


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


# -- arrays to clips --------------------------------------------------------------------------------------------------


@dataclass
class Converted:
    """Clips by split, and what a reader of the result has to be told."""

    splits: dict[str, list[Clip]]
    label: dict[str, Any]
    said: list[str] = field(default_factory=list)


def convert(
    file: str | Path,
    out: str | Path,
    *,
    title: str | None = None,
    label_range: tuple[float, float] | None = None,
) -> tuple[FeatureSet, list[str]]:
    """Converts `file` to the folder `out`; returns it opened, and sentences on what was changed or assumed."""
    file = Path(file)
    result = clips_from_arrays(read_npz(file), where=str(file), label_range=label_range)
    every = [clip for clips in result.splits.values() for clip in clips]
    storage = {k: "float16" if all(_fits_half(clip.features[k]) for clip in every) else "float32" for k in MODALITIES}
    note = f"Converted from {file.name}."
    if classes := result.label.get("classes"):
        note += f" The label is one of {len(classes)} classes, not a sentiment."
    data = write_feature_set(
        out,
        result.splits,
        name=file.stem,
        title=title or file.stem,
        label=result.label,
        note=note,
        storage=storage,
    )
    return data, result.said


def clips_from_arrays(
    arrays: Mapping[str, np.ndarray], *, where: str, label_range: tuple[float, float] | None = None
) -> Converted:
    """Clips from the arrays of a file; `where` names it in errors."""
    prefixes = _split_prefixes(arrays, where)
    parts = {split: _part(arrays, prefix, where) for split, prefix in prefixes.items()}
    said = [f"{split} is called {prefix!r} in the file" for split, prefix in prefixes.items() if split != prefix]
    said += [f"there is no split {split!r}" for split in ALIASES if split not in prefixes]
    spans = _spans(parts, prefixes, where, said)
    label, labels = _labels(arrays, parts, prefixes, where, label_range, said)
    counts = {"-inf": 0, "clips": 0, "silent": 0}
    splits = {
        split: _clips(part, prefixes[split], spans[split], labels[split], label.get("classes"), counts, where)
        for split, part in parts.items()
    }
    if counts["-inf"]:
        said.append(f"audio: {counts['-inf']} values of -inf in {counts['clips']} clips were set to 0")
    if counts["silent"]:
        said.append(f"{counts['silent']} sequences without a valid frame keep one frame of zeros")
    used = {f"{prefix}_{key}" for split, prefix in prefixes.items() for key in parts[split]} | {"label_names"}
    ignored = sorted(set(arrays) - used)
    if ignored:
        said.append(f"not used: {', '.join(ignored[:12])}{' ...' if len(ignored) > 12 else ''}")
    return Converted(splits, label, said)


def _split_prefixes(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, str]:
    prefixes: dict[str, str] = {}
    for split, names in ALIASES.items():
        found = [name for name in names if any(f"{name}_{k}" in arrays for k in MODALITIES)]
        if len(found) > 1:
            raise ValueError(f"{where}: holds both {found[0]!r} and {found[1]!r}; only one can be the {split} split")
        if found:
            prefixes[split] = found[0]
    if not prefixes:
        raise ValueError(
            f"{where}: no arrays named like 'train_text'; found: {', '.join(sorted(arrays)[:6]) or 'none'}"
        )
    return prefixes


def _part(arrays: Mapping[str, np.ndarray], prefix: str, where: str) -> dict[str, np.ndarray]:
    """The arrays of one split by their short names, features (N, L, F); ids are made where there are none."""
    part = {key.removeprefix(f"{prefix}_"): x for key, x in arrays.items() if key.startswith(f"{prefix}_")}
    for key in (*MODALITIES, "label"):
        if key not in part:
            raise ValueError(f"{where}: array {prefix}_{key} is missing")
    n = len(part["text"]) if part["text"].ndim else 0
    if not n:
        raise ValueError(f"{where}: {prefix}_text holds no clips; leave out a split that has none")
    for k in MODALITIES:
        x = part[k]
        if x.dtype.kind not in "fiub" or x.ndim not in (2, 3) or 0 in x.shape:
            raise ValueError(
                f"{where}: {prefix}_{k} is {x.dtype} of shape {x.shape}; expected numbers (clips, frames, width)"
            )
        part[k] = x if x.ndim == 3 else x[:, None]  # one vector a clip is a sequence of one frame
    if part["label"].shape == (n, 1):
        part["label"] = part["label"][:, 0]
    for key in (*MODALITIES, "label", "id", "raw_text", "video_id", *(f"len_{k}" for k in MODALITIES)):
        if key in part and (part[key].ndim == 0 or len(part[key]) != n):
            raise ValueError(f"{where}: {prefix}_{key} has shape {part[key].shape}; {prefix}_text holds {n} clips")
    if part["label"].dtype.kind not in "fiub" or part["label"].ndim != 1:
        raise ValueError(
            f"{where}: {prefix}_label is {part['label'].dtype} of shape {part['label'].shape}; expected ({n},)"
        )
    if "id" not in part:
        part["id"] = np.array([f"{prefix}$_${i}" for i in range(n)])
    for key in ("id", "raw_text", "video_id"):
        if key in part and (part[key].ndim != 1 or part[key].dtype.kind not in "Uiu"):
            raise ValueError(
                f"{where}: {prefix}_{key} is {part[key].dtype} of shape {part[key].shape}; expected ({n},) texts"
            )
    return part


def _spans(
    parts: Mapping[str, Mapping[str, np.ndarray]], prefixes: Mapping[str, str], where: str, said: list[str]
) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """[first, last) valid frame of each clip, from the lengths or, without them, from the non-zero rows."""
    spans: dict[str, dict[str, list[tuple[int, int]]]] = {split: {} for split in parts}
    inferred = []
    for k in MODALITIES:
        lengths = {}
        for split, part in parts.items():
            if f"len_{k}" in part:
                lengths[split] = _lengths(part[f"len_{k}"], part[k].shape[1], f"{where}: {prefixes[split]}_len_{k}")
            else:
                inferred.append((split, k))
        left = _padded_left(k, parts, lengths)
        if left:
            said.append(f"{k}: the padding is on the left")
        cut = 0
        for split, part in parts.items():
            x, frames = part[k], part[k].shape[1]
            there = lengths[split] if split in lengths else _inferred_lengths(x, left)
            spans[split][k] = [(frames - n, frames) if left else (0, n) for n in there]
            cut += sum(bool(x[i, :a].any() or x[i, b:].any()) for i, (a, b) in enumerate(spans[split][k]))
        if cut:
            said.append(f"{k}: {cut} clips have values beyond their length, which were left out")
    if inferred:
        names = ", ".join(k for k in MODALITIES if any(k == other for _, other in inferred))
        said.append(f"{names}: no lengths in the file; the valid frames are those up to the last row that is not zero")
    for split, part in parts.items():
        if all((split, k) in inferred for k in MODALITIES) and len({part[k].shape[1] for k in MODALITIES}) == 1:
            # aligned on words: a word without, say, a face is a zero row inside the clip, so the longest one counts
            rows = zip(*(spans[split][k] for k in MODALITIES), strict=True)
            shared = [(min(a for a, _ in row), max(b for _, b in row)) for row in rows]
            spans[split] = dict.fromkeys(MODALITIES, shared)
            said.append(
                f"{split}: the three share {part['text'].shape[1]} frames, so a clip has one length, its longest"
            )
    return spans


def _padded_left(k: str, parts: Mapping[str, Mapping[str, np.ndarray]], lengths: Mapping[str, list[int]]) -> bool:
    """Whether zero rows say that sequences are padded in front; where they say nothing, padding is behind."""
    front = behind = 0  # zero rows at either end of the array that padding would explain
    for split, part in parts.items():
        zero = ~(part[k] != 0).any(axis=2)  # (N, L)
        if split in lengths:
            pad = zero.shape[1] - np.array(lengths[split])[:, None]
            at = np.arange(zero.shape[1])
            front += int((zero & (at < pad)).sum())
            behind += int((zero & (at >= zero.shape[1] - pad)).sum())
        else:
            front += int(zero[:, 0].sum())
            behind += int(zero[:, -1].sum())
    return front > behind


def _lengths(lengths: np.ndarray, frames: int, where: str) -> list[int]:
    if lengths.dtype.kind not in "iuf" or lengths.ndim != 1 or not np.array_equal(lengths, np.rint(lengths)):
        raise ValueError(f"{where}: is {lengths.dtype} of shape {lengths.shape}; expected an integer a clip")
    outside = (lengths < 0) | (lengths > frames)
    if outside.any():
        raise ValueError(f"{where}: {lengths[outside][0]} is not a length from 0 to {frames}, the frames of the array")
    return [int(n) for n in lengths]


def _inferred_lengths(x: np.ndarray, left: bool) -> list[int]:
    there = (x != 0).any(axis=2)  # (N, L)
    if left:
        there = there[:, ::-1]
    return [int(np.flatnonzero(row)[-1]) + 1 if row.any() else 0 for row in there]


def _labels(
    arrays: Mapping[str, np.ndarray],
    parts: Mapping[str, Mapping[str, np.ndarray]],
    prefixes: Mapping[str, str],
    where: str,
    label_range: tuple[float, float] | None,
    said: list[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The label's description for data.json, and the labels of each split."""
    labels = {split: part["label"].astype(np.float64) for split, part in parts.items()}
    for split, values in labels.items():
        bad = ~np.isfinite(values)
        if bad.any():
            clip = parts[split]["id"][bad.argmax()]
            raise ValueError(f"{where}: the label of clip {str(clip)!r} in {prefixes[split]} is {values[bad][0]}")
    every = np.concatenate(list(labels.values()))
    if "label_names" in arrays:
        names = [str(name) for name in arrays["label_names"].ravel()]
        if len(names) < 2 or every.min() < 0 or every.max() >= len(names) or not np.array_equal(every, np.rint(every)):
            raise ValueError(f"{where}: labels are not indices into the {len(names)} label_names")
        label = {"name": "emotion", "range": [0.0, float(len(names) - 1)], "classes": names}
        return label, labels
    largest = float(np.abs(every).max())
    bound = next((bound for bound in (1.0, 3.0) if largest <= bound), float(np.ceil(largest)))
    if label_range is None:
        label_range = (-bound, bound)
        said.append(f"label range taken to be [{-bound:g}, {bound:g}], from labels {every.min():g} to {every.max():g}")
    elif not label_range[0] <= every.min() <= every.max() <= label_range[1]:
        raise ValueError(f"label range: labels go from {every.min():g} to {every.max():g}, outside {list(label_range)}")
    return {"name": "sentiment", "range": list(label_range)}, labels


def _clips(
    part: Mapping[str, np.ndarray],
    prefix: str,
    spans: Mapping[str, list[tuple[int, int]]],
    labels: np.ndarray,
    classes: list[str] | None,
    counts: dict[str, int],
    where: str,
) -> list[Clip]:
    n = len(labels)
    more = {
        key: x
        for key, x in part.items()
        if x.shape == (n,)
        and x.dtype.kind in "fiuU"
        and key not in {"id", "label", "raw_text", "video_id"}
        and key[:4] != "len_"
    }
    seen: dict[str, int] = {}
    clips = []
    for i in range(n):
        clip_id = str(part["id"][i])
        features = {}
        for k in MODALITIES:
            first, last = spans[k][i]
            counts["silent"] += first == last
            x = part[k][i, first:last] if first < last else np.zeros((1, part[k].shape[2]))
            features[k] = _finite(x, k, f"{where}: {k} of clip {clip_id!r} in {prefix}", counts)
        extra = {key: x[i].item() for key, x in more.items() if x.dtype.kind == "U" or np.isfinite(x[i])}
        if classes:
            extra["label_text"] = classes[int(labels[i])]
        video, index = _video(part, clip_id, i, seen)
        text = str(part["raw_text"][i]) if "raw_text" in part else ""
        clips.append(Clip(clip_id, video, index, text, features, float(labels[i]), extra=extra))
    return clips


def _finite(x: np.ndarray, k: str, where: str, counts: dict[str, int]) -> np.ndarray:
    """float32, -inf in audio set to 0 and counted; whatever else is not finite is refused."""
    if k == "audio" and x.dtype.kind == "f" and np.isneginf(x).any():
        counts["-inf"] += int(np.isneginf(x).sum())
        counts["clips"] += 1
        x = np.where(np.isneginf(x), 0, x)
    with np.errstate(over="ignore"):
        y = np.ascontiguousarray(x, dtype=np.float32)
    if not np.isfinite(y).all():
        value = x[~np.isfinite(y)][0]
        raise ValueError(f"{where} holds {value}; only finite float32 values are allowed, and -inf in audio")
    return y


def _video(part: Mapping[str, np.ndarray], clip_id: str, i: int, seen: dict[str, int]) -> tuple[str, int]:
    """Video and index: from video_id, else from an id "video$_$3" or "video_3", else a speaker's clips are a video."""
    split = re.fullmatch(r"(.+?)(?:\$_\$|_)(\d{1,9})", clip_id)
    if "video_id" in part:
        video = str(part["video_id"][i])
    elif split:
        video = split[1]
    else:
        speaker = next((key for key in ("speaker", "actor") if key in part), None)
        video = f"{speaker} {part[speaker][i]}" if speaker else clip_id
    seen[video] = seen.get(video, -1) + 1
    return video, int(split[2]) if split else seen[video]


def _fits_half(x: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(x.astype(np.float16).astype(np.float32), x))
