"""A data set folder: `write_feature_set` makes one, `FeatureSet` opens it strictly and reads clips from it lazily.

DIR/data.json holds names, label and one record a clip; DIR/<split>.safetensors the clips' valid frames, concatenated.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from safetensors.numpy import save

from imder import fetch
from imder.data import remote
from imder.data.clip import Clip, Word
from imder.data.records import FORMAT, check_record, encoder_of, field_of, label_range_of, read_header, read_json
from imder.data.tensors import IndexedRows, Rows, open_tensors, to_tensors
from imder.data.tokens import read_tokens
from imder.modality import MODALITIES

SPLITS = ("train", "valid", "test")
BUNDLED = Path(__file__).parents[2] / "assets" / "corpus"
STORAGE = ("float32", "float16", "uint8")

_ROWS_A_CHECK = 1 << 16
_CLIPS_A_READ = 256


def sound_name(clip_id: str) -> str:
    """The file of a clip's sound, below the data set's folder."""
    return f"sound/{re.sub(r'[^0-9A-Za-z]', '_', clip_id)}.ogg"


# -- writing ----------------------------------------------------------------------------------------------------------


def write_feature_set(
    folder: str | Path,
    splits: Mapping[str, Sequence[Clip]],
    *,
    name: str,
    title: str,
    label: Mapping[str, Any],
    feature_names: Mapping[str, Sequence[str]] | None = None,
    synthetic: bool = False,
    note: str = "",
    storage: Mapping[str, str] | None = None,
    compact_text: bool = False,
    vocabulary: tuple[Sequence[str], np.ndarray] | None = None,
    redraws: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> FeatureSet:
    """Writes a data set folder as a whole or not at all, opens it and returns it.

    label: {"name", "range": [lo, hi]} and, for class labels, "classes". storage: "float32" (default), "float16" or
    "uint8" a modality. compact_text stores equal text rows once. vocabulary: words and their vectors (V, F_text).
    redraws: {clip id: {"audio": (N, L, F), "vision": (N, L, F)}}, stored as uint8. files: more files by relative name,
    e.g. README.md and `sound_name(id)`. An existing feature set is replaced; any other non-empty folder is refused.
    """
    kinds = dict.fromkeys(MODALITIES, "float32") | dict(storage or {})
    for k, kind in kinds.items():
        if k not in MODALITIES or kind not in STORAGE:
            raise ValueError(f"storage: {k}={kind!r} is not known; allowed: {', '.join(STORAGE)} for each modality")
    widths = {k: next(iter(splits.values()))[0].features[k].shape[1] for k in MODALITIES}
    header = set_header(
        widths, name=name, title=title, label=label, names=feature_names, synthetic=synthetic, note=note
    )
    if redraws:
        header["redraws"] = list(redraws)
    with staged_set(folder) as stage:
        for split, clips in splits.items():
            tensors = _split_tensors(clips, kinds, compact_text)
            (stage / f"{split}.safetensors").write_bytes(save(tensors))
        records = {split: [_record(clip) for clip in clips] for split, clips in splits.items()}
        (stage / "data.json").write_text(data_json(header, records), encoding="utf-8")
        if vocabulary is not None:
            words, vectors = vocabulary
            (stage / "vocabulary.json").write_text(json.dumps(list(words), ensure_ascii=False), encoding="utf-8")
            kind = np.float16 if kinds["text"] != "float32" else np.float32
            stored = save({"vectors": np.ascontiguousarray(vectors, dtype=kind)})
            (stage / "vocabulary.safetensors").write_bytes(stored)
        if redraws:
            (stage / "redraws.safetensors").write_bytes(save(_redraw_tensors(redraws)))
        for relative, content in (files or {}).items():
            (stage / relative).parent.mkdir(parents=True, exist_ok=True)
            (stage / relative).write_bytes(content)
    return FeatureSet(Path(folder).resolve())


@contextmanager
def staged_set(folder: str | Path) -> Iterator[Path]:
    """A folder to write a feature set into; it takes the place of `folder` if the set opens without fault."""
    target = Path(folder).resolve()
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        yield stage
        FeatureSet(stage)  # whatever the reader would refuse is not put in place
        _swap(stage, target)
    except ValueError as error:
        raise ValueError(str(error).replace(str(stage), str(target))) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def set_header(
    widths: Mapping[str, int],
    *,
    name: str,
    title: str,
    label: Mapping[str, Any],
    names: Mapping[str, Sequence[str]] | None = None,
    synthetic: bool = False,
    note: str = "",
) -> dict[str, Any]:
    """What data.json holds beside its records; a feature without a name is called by its number."""
    header: dict[str, Any] = {"format": FORMAT, "name": name, "title": title, "synthetic": bool(synthetic)}
    header |= {"note": note, "label": dict(label)}
    header["feature_names"] = {
        k: list(names[k]) if names and k in names else [f"{k}_{i}" for i in range(widths[k])] for k in MODALITIES
    }
    return header


def _check_target(target: Path) -> None:
    """Refuses a target whose replacement would lose something that is no feature set."""
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target}: is a file; a new folder, an empty one or a feature set to replace is needed")
    if not target.is_dir():
        return
    known = {"data.json", "vocabulary.json", "README.md", "sound", "encoder"}
    foreign = sorted(p.name for p in target.iterdir() if p.name not in known and p.suffix != ".safetensors")
    if foreign:
        raise ValueError(f"{target}: holds {foreign[0]!r}, which is no part of a feature set; nothing was overwritten")
    if any(target.iterdir()):
        try:
            read_header(target)
        except ValueError:
            raise ValueError(f"{target}: is not empty and no feature set; nothing was overwritten") from None


def _swap(stage: Path, target: Path) -> None:
    """Puts `stage` in the place of `target`, which keeps its content until the last moment."""
    if not target.exists():
        stage.rename(target)
        return
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _split_tensors(clips: Sequence[Clip], kinds: Mapping[str, str], compact_text: bool) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for k in MODALITIES:
        for clip in clips:
            if clip.features[k].shape[1] != clips[0].features[k].shape[1]:
                width = clips[0].features[k].shape[1]
                raise ValueError(f"clip {clip.id!r}: {k} has width {clip.features[k].shape[1]}, others have {width}")
        rows = np.concatenate([clip.features[k] for clip in clips])  # (sum L, F)
        if k == "text" and compact_text:
            first: dict[bytes, int] = {}
            index = np.array([first.setdefault(row.tobytes(), len(first)) for row in rows], dtype=np.int32)
            _, at = np.unique(index, return_index=True)
            tensors |= to_tensors("text.words", rows[at], kinds[k]) | {"text.index": index}
        else:
            tensors |= to_tensors(k, rows, kinds[k])
    return tensors


def _redraw_tensors(redraws: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for k in next(iter(redraws.values())):
        tensors |= to_tensors(k, np.stack([draws[k] for draws in redraws.values()]), "uint8")  # (clips, N, L, F)
    return tensors


def data_json(header: Mapping[str, Any], records: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Readable and diffable: one clip a line."""

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    lines = [f" {dump(key)}: {dump(value)}," for key, value in header.items()]
    parts = [
        f"  {dump(split)}: [\n" + ",\n".join(f"   {dump(record)}" for record in rows) + "\n  ]"
        for split, rows in records.items()
    ]
    return "\n".join(["{", *lines, ' "splits": {', ",\n".join(parts), " }", "}"]) + "\n"


def _record(clip: Clip) -> dict[str, Any]:
    record = {
        "id": clip.id,
        "video": clip.video,
        "index": int(clip.index),
        "text": clip.text,
        "label": float(clip.label),
        "lengths": clip.lengths,
        "words": [[word.text, round(float(word.start), 5), round(float(word.end), 5)] for word in clip.words],
        "seconds": None if clip.seconds is None else float(clip.seconds),
        "extra": dict(clip.extra),
    }
    return record | ({"absent": list(clip.absent)} if clip.absent else {})


# -- reading ----------------------------------------------------------------------------------------------------------


class FeatureSet:
    """Clips of features on disk, opened strictly: every fault is a ValueError of one sentence, found at once.

    Tensors stay memory-mapped; a clip is read when it is asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository: str | None = None  # owner/name@commit of one that came from the Hub
        self.notice: str | None = None  # one line if it is not what was asked for
        info = read_header(folder)
        where = f"{folder / 'data.json'}"
        self.name: str = field_of(info, "name", str, where)
        self.title: str = field_of(info, "title", str, where)
        self.synthetic: bool = field_of(info, "synthetic", bool, where)
        self.note: str = field_of(info, "note", str, where)
        label = field_of(info, "label", dict, where)
        self.label_name: str = field_of(label, "name", str, f"{where}: label")
        self.label_range = label_range_of(label, where)
        self.label_classes: tuple[str, ...] = tuple(label.get("classes", ()))  # empty for a regression label

        records = field_of(info, "splits", dict, where)
        for split in records:
            if split not in SPLITS:
                raise ValueError(f"{where}: split {split!r} is not known; allowed: {', '.join(SPLITS)}")
        self.splits: tuple[str, ...] = tuple(split for split in SPLITS if split in records)
        if not self.splits:
            raise ValueError(f"{where}: no splits; at least one of {', '.join(SPLITS)} is needed")
        sounds = {path.name for path in (folder / "sound").glob("*.ogg")}
        self._splits: dict[str, SplitClips] = {}
        self._places: dict[str, tuple[str, int]] = {}
        for split in self.splits:
            rows = field_of(records, split, list, f"{where}: splits")
            part = SplitClips(folder, split, rows, self.label_range, sounds)
            for i, record in enumerate(part.records):
                if record["id"] in self._places:
                    raise ValueError(f"{where}: clip id {record['id']!r} is there twice; ids are unique in a data set")
                if self.label_classes and record["label"] != int(record["label"]):
                    raise ValueError(f"{where}: label {record['label']} of {record['id']!r} is no index of a class")
                self._places[record["id"]] = (split, i)
            self._splits[split] = part
        self.feature_dims: dict[str, int] = self._splits[self.splits[0]].widths
        for split, part in self._splits.items():
            for k in MODALITIES:
                if part.widths[k] != self.feature_dims[k]:
                    raise ValueError(
                        f"{folder / split}.safetensors: {k} has width {part.widths[k]}, "
                        f"{self.splits[0]} has {self.feature_dims[k]}"
                    )
        names = field_of(info, "feature_names", dict, where)
        self.feature_names: dict[str, tuple[str, ...]] = {}
        for k in MODALITIES:
            self.feature_names[k] = tuple(field_of(names, k, list, f"{where}: feature_names"))
            if len(self.feature_names[k]) != self.feature_dims[k]:
                raise ValueError(
                    f"{where}: {len(self.feature_names[k])} feature_names of {k}, its width is {self.feature_dims[k]}"
                )
        self.encoder = encoder_of(info, where)  # which one made the text, where it is known
        self._tokens = read_tokens(folder, {split: len(part) for split, part in self._splits.items()})
        self.vocabulary = self._read_vocabulary()
        self.redraw_ids: list[str] = list(info.get("redraws", ()))
        self._redraws = self._open_redraws() if self.redraw_ids else {}

    @classmethod
    def open(cls, source: str | Path) -> FeatureSet:
        """The data set in a folder; "bundled" is the one that comes with the repository.

        A text `owner/name[@revision]` that names no folder is a data set repository of the Hub.
        """
        if str(source) == "bundled":
            return cls(BUNDLED)
        if not isinstance(source, str) or Path(source).exists() or fetch.repository(source) is None:
            return cls(Path(source))
        return cls.pulled(source)

    @classmethod
    def pulled(cls, source: str) -> FeatureSet:
        """The data set of a Hub repository `owner/name[@revision]`, from there or from the cache."""
        folder, notice = remote.pull(source)
        data = cls(folder)
        data.repository, data.notice = remote.name_of(source, folder), notice
        return data

    def __len__(self) -> int:
        return len(self._places)

    def split(self, name: str) -> SplitClips:
        """The clips of a split, read when they are indexed."""
        if name not in self._splits:
            raise ValueError(f"split {name!r} is not in {self.name!r}; it has: {', '.join(self.splits)}")
        return self._splits[name]

    @cached_property
    def lacks(self) -> tuple[str, ...]:
        """The modalities that are absent from every clip of every split: the data set has none of them."""
        records = [record for part in self._splits.values() for record in part.records]
        return tuple(k for k in MODALITIES if all(k in record.get("absent", ()) for record in records))

    def complete(self, name: str, lacks: Collection[str] = ()) -> SomeClips:
        """The clips of a split that lack no modality, or none but those: what recovery is learnt from and judged on."""
        part = self.split(name)
        return SomeClips(part, [i for i, r in enumerate(part.records) if set(r.get("absent", ())) <= set(lacks)])

    def tokens(self, split: str) -> np.ndarray | None:
        """Token ids of a split's texts, (N, 3, L) int32 [ids, mask, segments], where the set keeps them."""
        self.split(split)
        return self._tokens.get(split)

    def clip(self, clip_id: str) -> Clip:
        """The clip of that id, whatever its split."""
        split, i = self._places.get(clip_id, (None, 0)) if isinstance(clip_id, str) else (None, 0)
        if split is None:
            example = next(iter(self._places))
            raise ValueError(f"clip {str(clip_id)[:80]!r} is not in {self.name!r}; an id looks like {example!r}")
        return self._splits[split][i]

    def videos(self, split: str) -> list[str]:
        """The video ids of a split, in order."""
        self.split(split)
        return list(dict.fromkeys(record["video"] for record in self._splits[split].records))

    def redraws(self, clip_id: str) -> dict[str, np.ndarray] | None:
        """True draws from p(voice, face | language) of a synthetic clip, {k: (N, L, F)}, where they are stored."""
        if clip_id not in self.redraw_ids:
            return None
        i = self.redraw_ids.index(clip_id)
        return {k: rows[i : i + 1][0] for k, rows in self._redraws.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits of a sha256 over the JSON and tensor files."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.suffix in {".json", ".safetensors"}:
                with path.open("rb") as file:
                    digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def _read_vocabulary(self) -> tuple[list[str], np.ndarray] | None:
        path = self.folder / "vocabulary.json"
        if not path.exists():
            return None
        words = read_json(path)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path}: expected a list of words")
        path = path.with_suffix(".safetensors")
        with open_tensors(path) as handle:
            vectors = Rows(handle, "vectors", path)[:]
        if vectors.shape != (len(words), self.feature_dims["text"]):
            wanted = (len(words), self.feature_dims["text"])
            raise ValueError(f"{path}: vectors have shape {vectors.shape}; {wanted} fits the words and the text width")
        if not np.isfinite(vectors).all():
            raise ValueError(f"{path}: vectors hold values that are not finite")
        return words, vectors

    def _open_redraws(self) -> dict[str, Rows]:
        path = self.folder / "redraws.safetensors"
        for clip_id in self.redraw_ids:
            if clip_id not in self._places:
                raise ValueError(f"{self.folder / 'data.json'}: redraws name the clip {clip_id!r}, which is not there")
        handle = open_tensors(path)
        rows = {k: Rows(handle, k, path, rank=4) for k in ("audio", "vision")}
        for k, stored in rows.items():
            if stored.shape[0] != len(self.redraw_ids) or stored.shape[-1] != self.feature_dims[k]:
                raise ValueError(
                    f"{path}: {k} has shape {stored.shape}; expected {len(self.redraw_ids)} clips of width "
                    f"{self.feature_dims[k]}"
                )
        return rows


class SplitClips(Sequence[Clip]):
    """The clips of one split: checked records, and rows on disk."""

    def __init__(
        self, folder: Path, split: str, records: list[Any], label_range: tuple[float, float], sounds: set[str]
    ) -> None:
        self.folder, self.name = folder, split
        self.sounds = sounds
        where = f"{folder / 'data.json'}: {split}"
        if not records:
            raise ValueError(f"{where}: no clips; leave out a split that has none")
        self.records: list[dict[str, Any]] = [
            check_record(record, f"{where}[{i}]", label_range) for i, record in enumerate(records)
        ]
        path = folder / f"{split}.safetensors"
        handle = open_tensors(path)
        known = {f"{k}{tail}" for k in (*MODALITIES, "text.words") for tail in ("", ".scale", ".offset")}
        for tensor in handle.keys():  # noqa: SIM118 (a safetensors handle is no dict)
            if tensor not in known | {"text.index"}:
                raise ValueError(f"{path}: tensor {tensor!r} is not known in a data set")
        self.rows: dict[str, Rows | IndexedRows] = {}
        self.starts: dict[str, np.ndarray] = {}
        for k in MODALITIES:
            compact = k == "text" and "text.index" in handle.keys()  # noqa: SIM118
            self.rows[k] = IndexedRows(handle, k, path) if compact else Rows(handle, k, path)
            self.starts[k] = np.cumsum([0, *(record["lengths"][k] for record in self.records)])
            stored, wanted = self.rows[k].shape[0], int(self.starts[k][-1])
            if stored != wanted:
                raise ValueError(f"{path}: {k} has {stored} frames, the lengths in data.json add up to {wanted}")
            self._check_finite(k, path)
        self.widths: dict[str, int] = {k: self.rows[k].shape[1] for k in MODALITIES}

    def _check_finite(self, k: str, path: Path) -> None:
        total = int(self.starts[k][-1])
        for first in range(0, total, _ROWS_A_CHECK):
            rows = (self.reopened() if total > _ROWS_A_CHECK else self).rows[k]
            bad = ~np.isfinite(rows[first : min(first + _ROWS_A_CHECK, total)]).all(axis=1)
            if bad.any():
                at = int(np.searchsorted(self.starts[k], first + int(bad.argmax()), side="right")) - 1
                raise ValueError(f"{path}: {k} of clip {self.records[at]['id']!r} holds values that are not finite")

    def reopened(self) -> SplitClips:
        """The same through a mapping of its own: what is read of it does not stay in memory."""
        found, path = copy.copy(self), self.folder / f"{self.name}.safetensors"
        handle = open_tensors(path)
        found.rows = {k: Rows(handle, k, path) if isinstance(x, Rows) else x for k, x in self.rows.items()}
        return found

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, i: int) -> Clip: ...
    @overload
    def __getitem__(self, i: slice) -> list[Clip]: ...
    def __getitem__(self, i: int | slice) -> Clip | list[Clip]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"clip {i} of {len(self)}")
        i %= len(self)
        record = self.records[i]
        sound = sound_name(record["id"])
        return Clip(
            id=record["id"],
            video=record["video"],
            index=record["index"],
            text=record["text"],
            features={k: self.rows[k][self.starts[k][i] : self.starts[k][i + 1]] for k in MODALITIES},
            label=float(record["label"]),
            words=tuple(Word(*word) for word in record["words"]),
            sound=self.folder / sound if Path(sound).name in self.sounds else None,
            seconds=record["seconds"],
            extra=dict(record["extra"]),
            absent=tuple(record.get("absent", ())),
        )

    def __iter__(self) -> Iterator[Clip]:
        return (self[i] for i in range(len(self)))


class SomeClips(Sequence[Clip]):
    """Some clips of a split, read when they are indexed; what is known of them is known without reading."""

    def __init__(self, split: SplitClips, rows: Sequence[int]) -> None:
        self.split, self.rows = split, rows

    @property
    def names(self) -> list[tuple[str, str, int]]:
        """Of each clip its id, its video and its place there."""
        records = (self.split.records[i] for i in self.rows)
        return [(record["id"], record["video"], record["index"]) for record in records]

    @property
    def lengths(self) -> list[dict[str, int]]:
        """Of each clip the frames of each modality."""
        return [self.split.records[i]["lengths"] for i in self.rows]

    @property
    def labels(self) -> list[float]:
        """Of each clip its label."""
        return [float(self.split.records[i]["label"]) for i in self.rows]

    def only(self, rows: Sequence[int]) -> SomeClips:
        """Some of these."""
        return SomeClips(self.split, [self.rows[i] for i in rows])

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, i: int) -> Clip: ...
    @overload
    def __getitem__(self, i: slice) -> list[Clip]: ...
    def __getitem__(self, i: int | slice) -> Clip | list[Clip]:
        if not isinstance(i, slice):
            return self.split[self.rows[i]]
        split = self.split.reopened()
        return [split[row] for row in self.rows[i]]

    def __iter__(self) -> Iterator[Clip]:
        for first in range(0, len(self), _CLIPS_A_READ):
            yield from self[first : first + _CLIPS_A_READ]
