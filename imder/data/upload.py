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
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from imder.data.checks import CONVERT, MAX_ARRAY, MAX_CLIPS, Expected, Upload, distinct, from_arrays
from imder.data.clip import Clip
from imder.data.convert import read_npz
from imder.data.dataset import FeatureSet
from imder.data.extract import Extracted
from imder.data.openface import Face
from imder.data.recording import Recording
from imder.data.sound import is_sound
from imder.modality import MODALITIES

MAX_FILE = 2 << 20  # bytes on disk
MAX_UNPACKED = 16 << 20  # bytes of all arrays, as stored
MAX_MEMBERS = 64
MAX_JSON = 4 << 20
MAX_HEADER = 256 << 10

RECORDING = "recording"
_PICKLES = {".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib"}
_DTYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}


# --- opening ----------------------------------------------------------------------------------------------------------


def open_upload(path: Path, name: str, expected: Expected) -> Upload:
    """The file at `path`, called `name`; a ValueError of one sentence if it cannot be read at all."""
    name = Path(name).name[:80] or "the file"
    try:
        kind = _kind(path, name)
        if kind == "folder":
            return _from_folder(path, name, expected)
        arrays = _read_safetensors(path) if kind == "safetensors" else _read_archive(path)
        return from_arrays(arrays, name, kind, expected)
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
        upload = from_arrays(arrays, "features", "rows", expected)
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
    upload = from_arrays(arrays, clip.video, RECORDING, expected, told=told)
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
            ids = distinct([clip.id[:60] for clip in clips])
            alike = data.label_classes == expected.classes
            more = [
                (i, clip.text[:400], clip.label if alike else np.nan, clip.words[:200], clip.seconds)
                for i, clip in zip(ids, clips, strict=True)
            ]
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", f"{name}: ").replace(str(folder), name)) from None
    upload = from_arrays(arrays, name, "folder", expected, told=more)
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


# --- a file to begin with ---------------------------------------------------------------------------------------------


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
