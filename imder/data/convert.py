"""`convert`: feature files of others to a data set folder, some clips at a time.

A file is passed over twice: once to find lengths, padding and faults, once to write. So the memory that it takes does
not grow with the file. Every size is read from the arrays; whatever is changed or assumed is said.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imder.data.dataset import FeatureSet, data_json, set_header, staged_set
from imder.data.encode import encoded
from imder.data.encoder import Encoder
from imder.data.hidden import Told
from imder.data.layouts import ALIASES, Part, Source, printable, read_source, source_from_arrays
from imder.data.npz import read_npz
from imder.data.tokens import placed, write_tokens
from imder.modality import MODALITIES, NAMES

__all__ = ["Survey", "convert", "read_npz", "source_from_arrays", "survey"]

BLOCK = 32 << 20  # bytes of float32 that are looked at together
_DTYPES = {"float32": "F32", "float16": "F16"}
_LISTED = 12  # ids that a sentence names

#: Told the bytes that were passed over.
Progress = Callable[[int], None]


@dataclass
class Survey:
    """What a first pass over a source found: all that decides what is written."""

    source: Source
    label: dict[str, Any]  # as data.json has it
    spans: dict[str, dict[str, np.ndarray]]  # split: k: (N, 2) first and last valid frame
    absent: dict[str, np.ndarray]  # split: (N, 3) bool
    dropped: dict[str, dict[int, str]]  # split: row: why
    storage: dict[str, str]
    said: list[str] = field(default_factory=list)

    def kept(self, split: str) -> np.ndarray:
        """The rows of a split that are written."""
        rows = np.arange(len(self.source.parts[split]))
        return rows[~np.isin(rows, list(self.dropped[split]))]

    def lengths(self, split: str, k: str) -> np.ndarray:
        """Frames (N,) of each clip; one that has none keeps a stand-in of one frame."""
        return np.maximum(np.diff(self.spans[split][k], axis=1)[:, 0], 1)

    @property
    def size(self) -> int:
        """Bytes that the tensors will take."""
        width = {"float32": 4, "float16": 2}
        return sum(
            int(self.lengths(split, k)[self.kept(split)].sum()) * part.features[k].shape[2] * width[self.storage[k]]
            for split, part in self.source.parts.items()
            for k in MODALITIES
        )


def convert(
    files: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    name: str | None = None,
    title: str | None = None,
    label_range: tuple[float, float] | None = None,
    words: str | Path | None = None,
    drop_faulty: bool = False,
    encoder: Encoder | None = None,
    cache: str | Path | None = None,
    progress: Progress = lambda size: None,
    told: Told = lambda done, of: None,
) -> tuple[FeatureSet, list[str]]:
    """Converts a file, a file a split or a folder of those to the folder `out`.

    Returns the set opened, and sentences on what was changed or assumed. words: a text file of word vectors, for
    layouts that hold words. drop_faulty: leave out clips with a fault that would otherwise be an error. encoder: makes
    the features of text from the file's token ids, kept in the folder `cache` (default: `hidden.cache_folder`).
    """
    files = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    if not files:
        raise ValueError("no file given; a file of all splits, a file a split, or a folder of those is needed")
    name = name or (files[0].stem if len(files) == 1 else files[0].resolve().parent.name)
    with staged_set(out) as stage:
        source = read_source(files, words=words, spill=stage)
        if encoder is not None:
            source = encoded(source, encoder, cache, told)
        found = survey(source, label_range=label_range, drop_faulty=drop_faulty, progress=progress)
        if found.size > (free := shutil.disk_usage(stage).free):
            raise ValueError(f"{out}: {found.size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free on the disk")
        said = [*found.said, *_write(found, stage, progress), *_write_tokens(found, stage)]
        records = {split: list(_records(found, split)) for split in source.parts}
        widths = {k: next(iter(source.parts.values())).features[k].shape[2] for k in MODALITIES}
        shown = ", ".join(file.name for file in files)
        note = f"Converted from {shown}."
        if classes := found.label.get("classes"):
            note += f" The label is one of {len(classes)} classes, not a sentiment."
        made = {} if encoder is None else {"encoder": encoder.record | {"frames": "ids"}}
        note += encoder.said if encoder else ""
        header = set_header(widths, name=name, title=title or name, label=found.label, note=note) | made
        (stage / "data.json").write_text(data_json(header, records), encoding="utf-8")
        log = "".join(f"- {sentence}\n" for sentence in said)
        text = f"# {title or name}\n\n{note} What was changed or assumed:\n\n{log or '- nothing'}\n"
        (stage / "README.md").write_text(text, encoding="utf-8")
    return FeatureSet(Path(out).resolve()), said


# -- first pass -------------------------------------------------------------------------------------------------------


@dataclass
class _Seen:
    """What the rows of (N, L, F) are like, each (N, L) bool."""

    filled: np.ndarray  # not all zero
    heard: np.ndarray  # still so after what is not finite was set to 0
    faulty: np.ndarray  # no finite float32
    half: bool = True  # all values are exact in half precision


def survey(
    source: Source,
    *,
    label_range: tuple[float, float] | None = None,
    drop_faulty: bool = False,
    progress: Progress = lambda size: None,
) -> Survey:
    """The first pass. Raises ValueError for what cannot be a data set, and for a faulty clip unless it is dropped."""
    parts, where = source.parts, source.where
    said = [f"{split} is called {part.name!r} in the file" for split, part in parts.items() if split != part.name]
    said += [f"there is no split {split!r}" for split in ALIASES if split not in parts]
    said += source.said
    _check_ids(parts, where)
    _check_widths(parts, where)
    label, faults = _labels(source, label_range, drop_faulty, said)
    seen = {split: {k: _look(part, k, progress) for k in MODALITIES} for split, part in parts.items()}
    spans = _spans(parts, seen, source.lacks, where, said)
    dropped, absent = {}, {}
    for split, part in parts.items():
        dropped[split] = faults[split]
        inside = {k: _inside(spans[split][k], part.features[k].shape[1]) for k in MODALITIES}
        for k in MODALITIES:
            bad = (seen[split][k].faulty & inside[k]).any(axis=1)
            for i in np.flatnonzero(bad).tolist():
                fault = _fault(part, k, i, spans[split][k][i], where)
                if not drop_faulty:
                    raise ValueError(f"{fault}; --drop-faulty leaves such clips out")
                dropped[split].setdefault(i, f"{k} that is not finite")
        absent[split] = np.stack([~(seen[split][k].heard & inside[k]).any(axis=1) for k in MODALITIES], axis=1)
        for i in np.flatnonzero(absent[split].all(axis=1)).tolist():
            dropped[split].setdefault(i, "no modality at all")
        if len(dropped[split]) == len(part):
            raise ValueError(f"{where}: {part.name} has no clip that can be used; leave the split out")
    storage = {k: "float16" if all(seen[split][k].half for split in parts) else "float32" for k in MODALITIES}
    found = Survey(source, label, spans, absent, dropped, storage, said)
    said += _dropped_said(found) + _absent_said(found)
    if source.unused:
        listed = printable(", ".join(source.unused[:_LISTED]))
        said.append(f"not used: {listed}{' ...' if len(source.unused) > _LISTED else ''}")
    return found


def _check_ids(parts: dict[str, Part], where: str) -> None:
    known: set[str] = set()
    for part in parts.values():
        for clip_id in part.ids:
            if clip_id in known:
                raise ValueError(f"{where}: clip id {clip_id!r} is there twice; ids are unique in a data set")
            if not clip_id:
                raise ValueError(f"{where}: a clip of {part.name} has an empty id")
            known.add(clip_id)


def _check_widths(parts: dict[str, Part], where: str) -> None:
    first = next(iter(parts.values()))
    for part in parts.values():
        if not part.features["text"].shape[2]:
            raise ValueError(
                f"{where}: {part.name} has text as token ids (text_bert) alone; --encoder E makes features of them, "
                "where E is a BERT: a folder, owner/name of the Hub, or minilm"
            )
        for k in MODALITIES:
            if (width := part.features[k].shape[2]) != (wanted := first.features[k].shape[2]):
                raise ValueError(f"{where}: {part.name}_{k} has width {width}, {first.name} has {wanted}")


def _blocks(part: Part, k: str) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of a modality, some clips at a time: (first clip, (n, L, F))."""
    rows = part.features[k]
    n, frames, width = rows.shape
    step = max(1, BLOCK // (4 * frames * width))
    for first in range(0, n, step):
        yield first, rows[first : first + step]


def _clean(x: np.ndarray, k: str, where: np.ndarray | None = None) -> tuple[np.ndarray, Counter[str], np.ndarray]:
    """float32 of x (n, L, F), -inf, inf and nan of audio set to 0; how many of each, and clips (n,) that had some.

    where: (n, L) bool, the frames that are counted.
    """
    counts: Counter[str] = Counter()
    clips = np.zeros(len(x), dtype=bool)
    if k == "audio" and x.dtype.kind == "f" and not (finite := np.isfinite(x)).all():
        odd = ~finite if where is None else ~finite & where[..., None]
        values = x[odd]
        counts.update({"-inf": int(np.isneginf(values).sum()), "inf": int(np.isposinf(values).sum())})
        counts["nan"] = int(np.isnan(values).sum())
        clips = odd.any(axis=(1, 2))
        x = np.where(finite, x, 0)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(x, dtype=np.float32), counts, clips


def _look(part: Part, k: str, progress: Progress) -> _Seen:
    """One pass over a modality."""
    n, frames, _ = part.features[k].shape
    seen = _Seen(*(np.zeros((n, frames), dtype=bool) for _ in range(3)))
    for first, x in _blocks(part, k):
        rows = slice(first, first + len(x))
        y, _, _ = _clean(x, k)
        seen.filled[rows] = (x != 0).any(axis=2)
        seen.heard[rows] = (y != 0).any(axis=2)
        seen.faulty[rows] = ~np.isfinite(y).all(axis=2)
        if seen.half:
            with np.errstate(over="ignore", invalid="ignore"):
                seen.half = bool(np.array_equal(y.astype(np.float16).astype(np.float32), y))
        progress(x.nbytes)
    return seen


def _inside(spans: np.ndarray, frames: int) -> np.ndarray:
    """(N, L) bool, the frames within (N, 2) first and last."""
    at = np.arange(frames)
    return (at >= spans[:, :1]) & (at < spans[:, 1:])


def _fault(part: Part, k: str, i: int, span: np.ndarray, where: str) -> str:
    x = part.features[k][i : i + 1][0, span[0] : span[1]]
    y, _, _ = _clean(x[None], k)
    value = x[~np.isfinite(y[0])][0]
    return (
        f"{where}: {k} of clip {part.ids[i]!r} in {part.name} holds {value}; only finite float32 values are allowed "
        "(in audio -inf, inf and nan become 0)"
    )


def _spans(
    parts: dict[str, Part], seen: dict[str, dict[str, _Seen]], lacks: Sequence[str], where: str, said: list[str]
) -> dict[str, dict[str, np.ndarray]]:
    """(N, 2) first and last valid frame, from the lengths or masks or, without them, from the non-zero rows."""
    spans: dict[str, dict[str, np.ndarray]] = {split: {} for split in parts}
    inferred, sides = [], dict.fromkeys(MODALITIES)
    there = [k for k in MODALITIES if k not in lacks]
    for k in there:
        lengths = {}
        for split, part in parts.items():
            if k in part.lengths:
                place = f"{where}: {part.name}_len_{k}"
                lengths[split] = _lengths(part.lengths[k], part.features[k].shape[1], place)
            elif k not in part.spans:
                inferred.append((split, k))
        left = _padded_left(k, parts, seen, lengths)
        sides[k] = None if left is None else "left" if left else "right"
        cut = 0
        for split, part in parts.items():
            filled = seen[split][k].filled
            if k in part.spans and split not in lengths:
                spans[split][k] = part.spans[k].astype(np.int64)
            else:
                count = lengths[split] if split in lengths else _inferred_lengths(filled, bool(left))
                first = filled.shape[1] - count if left else np.zeros_like(count)
                spans[split][k] = np.stack([first, first + count], axis=1)
                cut += int((filled & ~_inside(spans[split][k], filled.shape[1])).any(axis=1).sum())
        if cut:
            said.append(f"{k}: {cut} clips have values beyond their length, which were left out")
    for side in ("left", "right"):
        if found := [k for k in MODALITIES if sides[k] == side]:
            said.append(f"{', '.join(found)}: the padding is on the {side}")
    if masked := [k for k in MODALITIES if any(k in part.spans and k not in part.lengths for part in parts.values())]:
        said.append(f"{', '.join(masked)}: the valid frames are those of text_bert's mask")
    if inferred:
        names = ", ".join(k for k in MODALITIES if any(k == other for _, other in inferred))
        said.append(f"{names}: no lengths in the file; the valid frames are those up to the last row that is not zero")
    for split, part in parts.items():
        frames = {part.features[k].shape[1] for k in there}
        if len(frames) == 1 and frames != {1} and not part.lengths:
            # aligned on words: a word without, say, a face is a zero row inside the clip, so the longest one counts
            rows = np.stack([spans[split][k] for k in there])  # (3, N, 2)
            shared = np.stack([rows[..., 0].min(axis=0), rows[..., 1].max(axis=0)], axis=1)
            spans[split] = dict.fromkeys(there, shared)
            count = {3: "three", 2: "two"}.get(len(there), "one")
            said.append(f"{split}: the {count} share {frames.pop()} frames, so a clip has one length, its longest")
        if lacks:  # a stand-in is as long as what it stands beside, so that a time axis that is shared stays shared
            counts = np.stack([np.diff(spans[split][k], axis=1)[:, 0] for k in there])
            shared = np.where((counts == counts[0]).all(axis=0), counts[0], 0)
            spans[split] |= dict.fromkeys(lacks, np.stack([np.zeros_like(shared), shared], axis=1))
    return spans


def _padded_left(
    k: str, parts: dict[str, Part], seen: dict[str, dict[str, _Seen]], lengths: dict[str, np.ndarray]
) -> bool | None:
    """Whether zero rows say that sequences are padded in front; None where nothing is padded."""
    front = behind = 0  # zero rows at either end of the array that padding would explain
    for split, part in parts.items():
        if k in part.spans and split not in lengths:
            continue
        zero = ~seen[split][k].filled  # (N, L)
        if split in lengths:
            pad = zero.shape[1] - lengths[split][:, None]
            at = np.arange(zero.shape[1])
            front += int((zero & (at < pad)).sum())
            behind += int((zero & (at >= zero.shape[1] - pad)).sum())
        else:
            front += int(zero[:, 0].sum())
            behind += int(zero[:, -1].sum())
    return None if front == behind == 0 else front > behind


def _lengths(lengths: np.ndarray, frames: int, where: str) -> np.ndarray:
    if lengths.ndim == 2 and lengths.shape[1] == 1:
        lengths = lengths[:, 0]
    if lengths.dtype.kind not in "iuf" or lengths.ndim != 1 or not np.array_equal(lengths, np.rint(lengths)):
        raise ValueError(f"{where}: is {lengths.dtype} of shape {lengths.shape}; expected an integer a clip")
    outside = (lengths < 0) | (lengths > frames)
    if outside.any():
        raise ValueError(f"{where}: {lengths[outside][0]} is not a length from 0 to {frames}, the frames of the array")
    return lengths.astype(np.int64)


def _inferred_lengths(filled: np.ndarray, left: bool) -> np.ndarray:
    """(N,) frames up to the last that is not zero, counted from the side that is not padded."""
    there = filled if left else filled[:, ::-1]
    return np.where(there.any(axis=1), filled.shape[1] - there.argmax(axis=1), 0)


# -- labels -----------------------------------------------------------------------------------------------------------


def _labels(
    source: Source, label_range: tuple[float, float] | None, drop_faulty: bool, said: list[str]
) -> tuple[dict[str, Any], dict[str, dict[int, str]]]:
    """The label's description for data.json, and by split the clips whose label is of no use."""
    faults: dict[str, dict[int, str]] = {split: {} for split in source.parts}
    usable = []
    for split, part in source.parts.items():
        unlabelled = np.isin(np.arange(len(part)), list(part.unlabelled))
        bad = ~np.isfinite(part.label)
        if label_range is not None and drop_faulty and not source.classes:
            bad |= ~((part.label >= label_range[0]) & (part.label <= label_range[1]))
        if bad.any() and not drop_faulty:
            raise ValueError(
                f"{source.where}: the label of clip {part.ids[int(bad.argmax())]!r} in {part.name} is "
                f"{part.label[bad][0]}; --drop-faulty leaves such clips out"
            )
        faults[split] = {int(i): f"a label of {part.label[i]:g}" for i in np.flatnonzero(bad)} | part.unlabelled
        usable.append(part.label[~bad & ~unlabelled])
    every = np.concatenate(usable)
    if not every.size:
        raise ValueError(f"{source.where}: no clip has a label that can be used")
    if source.classes is not None:
        names = source.classes
        if len(names) < 2 or every.min() < 0 or every.max() >= len(names) or not np.array_equal(every, np.rint(every)):
            raise ValueError(f"{source.where}: labels are not indices into the {len(names)} label_names")
        return {"name": "emotion", "range": [0.0, float(len(names) - 1)], "classes": names}, faults
    largest = float(np.abs(every).max())
    bound = next((bound for bound in (1.0, 3.0) if largest <= bound), float(np.ceil(largest)))
    if label_range is None:
        label_range = (-bound, bound)
        said.append(f"label range taken to be [{-bound:g}, {bound:g}], from labels {every.min():g} to {every.max():g}")
    elif not label_range[0] <= every.min() <= every.max() <= label_range[1]:
        raise ValueError(
            f"label range: labels go from {every.min():g} to {every.max():g}, outside {list(label_range)}; "
            "--drop-faulty leaves such clips out"
        )
    return {"name": "sentiment", "range": list(label_range)}, faults


# -- second pass ------------------------------------------------------------------------------------------------------


def _write(found: Survey, stage: Path, progress: Progress) -> list[str]:
    """The tensors of every split; sentences on the values that were set to 0."""
    counts: Counter[str] = Counter()
    clips = 0
    for split, part in found.source.parts.items():
        kept = found.kept(split)
        head, offset = {}, 0
        for k in MODALITIES:
            shape = [int(found.lengths(split, k)[kept].sum()), part.features[k].shape[2]]
            size = shape[0] * shape[1] * np.dtype(found.storage[k]).itemsize
            head[k] = {"dtype": _DTYPES[found.storage[k]], "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        with (stage / f"{split}.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for k in MODALITIES:
                for rows, odd, some in _rows(found, split, k, kept, progress):
                    rows.tofile(file)
                    counts.update(odd)
                    clips += some
    if not sum(counts.values()):
        return []
    listed = ", ".join(f"{counts[kind]} values of {kind}" for kind in ("-inf", "inf", "nan") if counts[kind])
    return [f"audio: {listed} in {clips} clips were set to 0"]


def _rows(
    found: Survey, split: str, k: str, kept: np.ndarray, progress: Progress
) -> Iterator[tuple[np.ndarray, Counter[str], int]]:
    """The valid frames of a modality as they are stored; what was set to 0, and in how many clips."""
    part, spans = found.source.parts[split], found.spans[split][k]
    keep = np.zeros(len(part), dtype=bool)
    keep[kept] = True
    for first, x in _blocks(part, k):
        own = slice(first, first + len(x))
        inside = _inside(spans[own], x.shape[1]) & keep[own, None]
        y, odd, some = _clean(x, k, inside)
        pieces = []
        for i in np.flatnonzero(keep[own]).tolist():
            a, b = spans[first + i]
            pieces.append(y[i, a:b] if a < b else np.zeros((1, y.shape[2]), np.float32))
        if pieces:
            yield np.concatenate(pieces).astype(found.storage[k], copy=False), odd, int(some.sum())
        progress(x.nbytes)


def _write_tokens(found: Survey, stage: Path) -> list[str]:
    """tokens.safetensors where every split has ids that can be used; a sentence on it where any has."""
    parts = found.source.parts
    if all(part.tokens is None for part in parts.values()):
        return []
    for split, part in parts.items():
        if not isinstance(part.tokens, np.ndarray):
            return [f"token ids are not kept: {part.tokens or f'{split} has none'}"]
    ids = {}
    for split, part in parts.items():
        kept, frames = found.kept(split), part.features["text"].shape[1]
        spans = found.spans[split]["text"][kept]
        ids[split] = placed(part.tokens[kept], spans[:, 0] if part.tokens.shape[2] == frames else None)
    write_tokens(stage, ids)
    return ["text_bert: the token ids are kept beside the features"]


def _records(found: Survey, split: str) -> Iterator[dict[str, Any]]:
    """One record a clip, as data.json has it."""
    part, seen = found.source.parts[split], {}
    classes = found.label.get("classes")
    lengths = {k: found.lengths(split, k) for k in MODALITIES}
    for i in found.kept(split).tolist():
        extra = {key: _extra(x[i]) for key, x in part.extra.items()}
        extra = {key: x for key, x in extra.items() if x is not None}
        if classes:
            extra["label_text"] = classes[int(part.label[i])]
        video, index = _video(part, i, seen)
        record = {
            "id": part.ids[i],
            "video": video,
            "index": index,
            "text": part.texts[i],
            "label": float(part.label[i]),
            "lengths": {k: int(lengths[k][i]) for k in MODALITIES},
            "words": [],
            "seconds": None,
            "extra": extra,
        }
        if found.absent[split][i].any():
            record["absent"] = [k for k, gone in zip(MODALITIES, found.absent[split][i], strict=True) if gone]
        yield record


def _extra(value: Any) -> float | str | None:
    """A value as JSON has it; None for a number that is not finite or that no float holds."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        return value
    if isinstance(value, int):  # also a bool
        return int(value) if abs(value) < 1 << 53 else None
    return value if np.isfinite(value) else None


def _video(part: Part, i: int, seen: dict[str, int]) -> tuple[str, int]:
    """Video and index: from the file, else from an id "video$_$3", "video_3" or "video[3]", else a speaker's clips."""
    clip_id = part.ids[i]
    split = re.fullmatch(r"(.+?)(?:\$_\$|_)(\d{1,9})|(.+?)\[(\d{1,9})\]", clip_id)
    named, number = (split[1] or split[3], split[2] or split[4]) if split else (None, None)
    if part.videos is not None:
        video = part.videos[i]
    elif named:
        video = named
    else:
        speaker = next((key for key in ("speaker", "actor") if key in part.extra), None)
        video = f"{speaker} {part.extra[speaker][i]}" if speaker else clip_id
    seen[video] = seen.get(video, -1) + 1
    return video, int(number) if number else seen[video]


# -- sentences --------------------------------------------------------------------------------------------------------


def _listed(ids: Sequence[str]) -> str:
    return printable(", ".join(ids[:_LISTED])) + (f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else "")


def _dropped_said(found: Survey) -> list[str]:
    said = []
    for split, rows in found.dropped.items():
        for reason in dict.fromkeys(rows.values()):
            ids = [found.source.parts[split].ids[i] for i in sorted(rows) if rows[i] == reason]
            said.append(f"{split}: {len(ids)} clips with {reason} were dropped: {_listed(ids)}")
    return said


def _absent_said(found: Survey) -> list[str]:
    everywhere = np.logical_and.reduce([found.absent[split][found.kept(split)].all(axis=0) for split in found.absent])
    said = [
        f"{k} is absent in every clip: the data set has no {NAMES[k].lower()}, and no model of it recovers any"
        for k, gone in zip(MODALITIES, everywhere, strict=True)
        if gone
    ]
    for split, absent in found.absent.items():
        kept = found.kept(split)
        for j, k in enumerate(MODALITIES):
            if everywhere[j]:
                continue
            ids = [found.source.parts[split].ids[i] for i in kept[absent[kept, j]]]
            if ids:
                said.append(f"{split}: {k} is absent in {len(ids)} clips, which say so: {_listed(ids)}")
    return said
