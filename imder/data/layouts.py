"""Files of features as the field lays them out, read as one kind of `Part` a split.

- ours: an npz with arrays {split}_{text,audio,vision,label,...}
- MMSA: a pickle {split: {text, audio, vision, regression_labels, id, raw_text, text_bert, audio_lengths, ...}}
- MulT: a pickle {split: {text, audio, vision, labels, id}}; labels (N, 4, 2) are the four emotions of its IEMOCAP
- MISA: a pickle a split, or {split: ...}, of [((words, vision, audio, actual words), label, segment), ...]

Names are taken in the spellings that occur; every size is read from the arrays. An array of features that no split has
is stood in for by zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from imder.data.npz import read_npz
from imder.data.pickles import StoredArray, read_pickle
from imder.data.tokens import token_ids
from imder.data.words import WordVectors
from imder.modality import MODALITIES

#: The names a split may have in a file, or a file of one split in its name.
ALIASES = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "dev", "val", "validation"),
    "test": ("test", "testing", "tst"),
}
#: Spellings by our name, in the order in which they are preferred.
SPELLINGS = {
    "text": ("text", "language", "words", "glove"),
    "audio": ("audio", "acoustic", "voice", "speech", "covarep"),
    "vision": ("vision", "visual", "video", "face", "facet"),
    "label": ("label", "labels", "regression_labels", "regression_label"),
    "id": ("id", "ids", "segment", "segments", "segment_id"),
    "raw_text": ("raw_text", "raw_texts", "rawtext", "transcript", "transcripts", "sentence", "sentences"),
    "video_id": ("video_id", "video_ids"),
    "bert": ("text_bert", "bert"),
} | {
    f"len_{k}": tuple(form.format(name) for name in names for form in ("len_{}", "{}_lengths", "{}_length", "{}_len"))
    for k, names in {"text": ("text",), "audio": ("audio", "acoustic"), "vision": ("vision", "visual", "video")}.items()
}
#: The emotions of MulT's IEMOCAP in the order of their labels.
EMOTIONS = ("neutral", "happy", "sad", "angry")
PICKLES = {".pkl", ".pickle", ".p"}
_SUFFIXES = (*PICKLES, ".npz")


class Rows(Protocol):
    """Sequences (N, L, F) of which some are read at a time; an np.ndarray is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of a length each, as `Rows`: short ones are padded with zeros behind."""

    items: Sequence[np.ndarray]  # (L_i, F)
    shape: tuple[int, int, int]

    def __getitem__(self, rows: slice) -> np.ndarray:
        items = self.items[rows]
        out = np.zeros((len(items), *self.shape[1:]), dtype=np.float64)
        for i, item in enumerate(items):
            out[i, : len(item)] = item
        return out


@dataclass(frozen=True, eq=False)
class Part:
    """One split of a file: N clips."""

    name: str  # of the split in the file
    features: dict[str, Rows]
    label: np.ndarray  # (N,) float64, as it stands in the file
    ids: list[str]
    texts: list[str]
    videos: list[str] | None = None
    lengths: dict[str, np.ndarray] = field(default_factory=dict)  # (N,) where the file has them
    spans: dict[str, np.ndarray] = field(default_factory=dict)  # (N, 2) first and last, where the file's masks tell
    extra: dict[str, np.ndarray] = field(default_factory=dict)  # (N,) texts or numbers
    tokens: np.ndarray | str | None = None  # (N, 3, L) int32 of text_bert, or why it is of no use
    classes: tuple[str, ...] = ()  # names of the label's values, where the layout knows them
    unlabelled: dict[int, str] = field(default_factory=dict)  # row: why its label is no class

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Source:
    """What was read: parts by our split names, class names, what was not used, and the file's name for errors."""

    where: str
    parts: dict[str, Part]
    classes: list[str] | None = None
    unused: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()  # modalities of which no split has an array: their features are zeros


# -- files ------------------------------------------------------------------------------------------------------------


def read_source(
    files: Sequence[str | Path], *, words: str | Path | None = None, spill: str | Path | None = None
) -> Source:
    """The parts of one file of all splits, of a file a split, or of a folder of those.

    words: a text file of word vectors, for layouts with words in the place of features. spill: see `read_pickle`.
    """
    paths = _paths(files)
    if len(paths) == 1 and paths[0].suffix.lower() not in PICKLES:
        arrays = read_npz(paths[0])
        return source_from_arrays(arrays, where=str(paths[0]))
    trees: dict[str, tuple[str, Any]] = {}  # split: (name in the file, tree)
    where = str(paths[0]) if len(paths) == 1 else str(paths[0].parent)
    unused: list[str] = []
    for path in paths:
        if path.suffix.lower() not in PICKLES:
            raise ValueError(f"{path}: a file a split is read as pickles ({', '.join(sorted(PICKLES))}) only")
        tree = read_pickle(path, spill=spill)
        found = _splits_of(tree, str(path))
        if found is None:
            found = {_split_of_name(path): (path.stem, tree)}
        else:
            unused += [str(key) for key in tree if str(key) not in {name for name, _ in found.values()}]
        for split, entry in found.items():
            if split in trees:
                raise ValueError(f"{path}: holds the {split} split, which {trees[split][0]!r} is already")
            trees[split] = entry
    vectors = WordVectors(words) if words is not None else None
    if vectors is not None:
        vectors.load(word for _, tree in trees.values() for word in _words_of(tree))
    parts = {}
    for split in ALIASES:
        if split in trees:
            name, tree = trees[split]
            columns = _columns_of_items(tree, name, where, vectors) if isinstance(tree, list | tuple) else tree
            parts[split], left = part_of(columns, name, f"{where}: {name}")
            unused += [key for key in left if key not in unused]
    classes = {part.classes for part in parts.values()}
    if len(classes) > 1:
        raise ValueError(f"{where}: the labels of some splits are emotions, those of others are not")
    parts, lacks = _stood_in(parts, where)
    said = vectors.said if vectors is not None else ()
    return Source(where, parts, list(classes.pop()) or None, tuple(unused), said, lacks)


def _stood_in(parts: dict[str, Part], where: str) -> tuple[dict[str, Part], tuple[str, ...]]:
    """The parts with zeros (N, L, 1) for a modality of which none has an array, and which those are."""
    lacks = tuple(k for k in MODALITIES if not any(k in part.features for part in parts.values()))
    found = {}
    for split, part in parts.items():
        for k in MODALITIES:
            if k not in part.features and k not in lacks:
                other = next(name for name, other in parts.items() if k in other.features)
                raise ValueError(f"{where}: array {part.name}_{k} is missing, while {other} has its own")
        frames = max(rows.shape[1] for rows in part.features.values())
        zeros = np.broadcast_to(np.float32(0), (len(part), frames, 1))
        found[split] = replace(part, features={k: part.features.get(k, zeros) for k in MODALITIES})
    return found, lacks


def _paths(files: Sequence[str | Path]) -> list[Path]:
    paths = [Path(file) for file in files]
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and _split_in(p.stem))
        if not paths:
            raise ValueError(f"{folder}: holds no file of features named after a split, like train.pkl or test.pkl")
    return paths


def _split_in(name: str) -> str | None:
    tokens = re.split(r"[^a-z]+", name.lower())
    found = [split for split, names in ALIASES.items() if any(name in tokens for name in names)]
    return found[0] if len(found) == 1 else None


def _split_of_name(path: Path) -> str:
    split = _split_in(path.stem)
    if split is None:
        raise ValueError(
            f"{path}: holds one split, and its name does not say which; "
            f"name it after one of {', '.join(name for names in ALIASES.values() for name in names)}"
        )
    return split


def _splits_of(tree: Any, where: str) -> dict[str, tuple[str, Any]] | None:
    """The splits of a dict of splits, by our names; None for what is itself a split."""
    if isinstance(tree, list | tuple):
        return None
    if not isinstance(tree, dict):
        raise ValueError(f"{where}: holds a {type(tree).__name__}; a dict of splits or a list of clips is read")
    keys = {str(key).lower(): key for key in tree}
    found: dict[str, tuple[str, Any]] = {}
    for split, names in ALIASES.items():
        there = [keys[name] for name in names if isinstance(tree.get(keys.get(name)), dict | list | tuple)]
        if len(there) > 1:
            raise ValueError(f"{where}: holds both {there[0]!r} and {there[1]!r}; only one can be the {split} split")
        if there:
            found[split] = (str(there[0]), tree[there[0]])
    if found:
        return found
    if any(name in keys for k in MODALITIES for name in SPELLINGS[k]):
        return None
    shown = _listed(map(str, list(tree)[:6])) or "nothing"
    raise ValueError(f"{where}: no split 'train', 'valid' (or 'dev') or 'test'; found: {shown}")


def _listed(names: Iterable[str]) -> str:
    return printable(", ".join(names))[:200]


def printable(text: str) -> str:
    """A text out of a file in one line, without what a terminal takes for a command."""
    return "".join(x if x.isprintable() else " " for x in text)


def source_from_arrays(arrays: Mapping[str, np.ndarray], *, where: str) -> Source:
    """The parts of arrays named {split}_{text,audio,...}, with `label_names` for classes."""
    prefixes: dict[str, str] = {}
    for split, names in ALIASES.items():
        found = [name for name in names if any(f"{name}_{k}" in arrays for k in MODALITIES)]
        if len(found) > 1:
            raise ValueError(f"{where}: holds both {found[0]!r} and {found[1]!r}; only one can be the {split} split")
        if found:
            prefixes[split] = found[0]
    if not prefixes:
        raise ValueError(f"{where}: no arrays named like 'train_text'; found: {_listed(sorted(arrays)[:6]) or 'none'}")
    parts, unused = {}, set(arrays) - {"label_names"}
    for split, prefix in prefixes.items():
        columns = {key.removeprefix(f"{prefix}_"): x for key, x in arrays.items() if key.startswith(f"{prefix}_")}
        parts[split], left = part_of(columns, prefix, f"{where}: {prefix}")
        unused -= {f"{prefix}_{key}" for key in set(columns) - set(left)}
    names = [str(name) for name in arrays["label_names"].ravel()] if "label_names" in arrays else None
    parts, lacks = _stood_in(parts, where)
    return Source(where, parts, names, tuple(sorted(unused)), lacks=lacks)


# -- one split --------------------------------------------------------------------------------------------------------


def part_of(columns: Mapping[str, Any], name: str, where: str) -> tuple[Part, list[str]]:
    """A split from its columns under any of their spellings, and the names of those that were not used."""
    if not isinstance(columns, Mapping):
        raise ValueError(f"{where} is a {type(columns).__name__}; a dict of arrays is read")
    given = {str(key): value for key, value in columns.items()}
    lower = {key.lower(): key for key in given}
    key_of: dict[str, str] = {}
    for own, spellings in SPELLINGS.items():
        for spelling in spellings:
            key = lower.get(spelling)
            if key is not None and (own not in MODALITIES or _is_sequences(given[key])):
                key_of.setdefault(own, key)
    tokens = token_ids(given[key_of["bert"]], f"{where}_{key_of['bert']}") if "bert" in key_of else None
    for own in (*MODALITIES, "label"):
        if own not in key_of:
            if own == "text" and isinstance(tokens, np.ndarray):
                continue  # an encoder makes features of them
            spelling = next((lower[s] for s in SPELLINGS[own] if s in lower), None)
            if spelling is not None and own in MODALITIES:
                rows_of(given[spelling], f"{where}_{spelling}", [])  # says what is wrong with it
            if own == "label" or key_of.keys().isdisjoint(MODALITIES):
                raise ValueError(f"{where}: array {name}_{own} is missing; found: {_listed(given)}")
    ids = _texts(given[key_of["id"]], f"{where}_id") if "id" in key_of else None
    if ids is not None and ids.ndim == 2 and ids.shape[1]:
        ids, given = _meta(ids, given)
    features: dict[str, Rows] = {k: rows_of(given[key_of[k]], f"{where}_{k}", ids) for k in MODALITIES if k in key_of}
    if "text" not in features and isinstance(tokens, np.ndarray):
        features["text"] = np.zeros((len(tokens), tokens.shape[2], 0), dtype=np.float32)
    first = next(iter(features))
    n = features[first].shape[0]
    if not n:
        raise ValueError(f"{where}_{first} holds no clips; leave out a split that has none")

    def column(own: str, values: Any) -> np.ndarray:
        if values.ndim == 0 or len(values) != n:
            raise ValueError(f"{where}_{own} has shape {values.shape}; {name}_{first} holds {n} clips")
        return values

    for k, rows in features.items():
        if rows.shape[0] != n:
            raise ValueError(f"{where}_{k} has shape {rows.shape}; {name}_{first} holds {n} clips")
    label = column("label", _numbers(given[key_of["label"]], f"{where}_label"))
    classes, unlabelled = (), {}
    if label.shape == (n, len(EMOTIONS), 2):
        classes = EMOTIONS
        label, unlabelled = _emotion(label, f"{where}_label")
    elif label.ndim > 1 and label.shape == (n, *(1,) * (label.ndim - 1)):
        label = label.reshape(n)
    if label.ndim != 1:
        raise ValueError(f"{where}_label is {label.dtype} of shape {label.shape}; expected ({n},), one number a clip")
    ids = np.array([f"{name}$_${i}" for i in range(n)]) if ids is None else column("id", ids)
    texts = np.full(n, "")
    if "raw_text" in key_of:
        texts = column("raw_text", _texts(given[key_of["raw_text"]], f"{where}_raw_text"))
    videos = None
    if "video_id" in key_of or "video_id" in given:
        videos = column("video_id", _texts(given[key_of.get("video_id", "video_id")], f"{where}_video_id"))
    for own, values in (("id", ids), ("raw_text", texts), ("video_id", videos)):
        if values is not None and values.ndim != 1:
            raise ValueError(
                f"{where}_{own} is {values.dtype} of shape {values.shape}; expected ({n},), one text a clip"
            )
    lengths, spans = {}, {}
    for k in features:
        if f"len_{k}" in key_of:
            lengths[k] = column(f"len_{k}", _numbers(given[key_of[f"len_{k}"]], f"{where}_len_{k}"))
        elif isinstance(features[k], Ragged):
            lengths[k] = np.array([len(item) for item in features[k].items])
    if isinstance(tokens, np.ndarray) and len(tokens) != n:
        tokens = f"{where}_{key_of['bert']} has shape {tokens.shape}; {name}_{first} holds {n} clips"
    used = set(key_of.values()) | {"video_id"}
    if "bert" in key_of and "text" in features and "text" not in lengths:
        found = _mask_spans(given[key_of["bert"]], features["text"].shape[:2])
        if found is not None:
            spans["text"] = found
    extra = {}
    for key, value in given.items():
        if key not in used and (values := _extra(value, n)) is not None:
            extra[key] = values
    left = [key for key in given if key not in used and key not in extra]
    listed = None if videos is None else [str(v) for v in videos]
    part = Part(
        name,
        features,
        label.astype(np.float64),
        [str(i) for i in ids],
        [str(text) for text in texts],
        listed,
        lengths,
        spans,
        extra,
        tokens,
        classes,
        unlabelled,
    )
    return part, left


def _emotion(label: np.ndarray, where: str) -> tuple[np.ndarray, dict[int, str]]:
    """(N,) which of `EMOTIONS` is felt, of (N, 4, 2) one-hot no or yes an emotion; and rows with none or several."""
    if not (((label == 0) | (label == 1)).all() and (label.sum(axis=2) == 1).all()):
        raise ValueError(f"{where} is of shape {label.shape}, but not one-hot whether each of {len(EMOTIONS)} is felt")
    felt = label[..., 1] == 1
    count = felt.sum(axis=1)
    odd = {int(i): "several emotions" if count[i] else "no emotion" for i in np.flatnonzero(count != 1)}
    return felt.argmax(axis=1), odd


def _is_sequences(value: Any) -> bool:
    """Whether a value can be sequences of features, and is no column of numbers or texts."""
    if isinstance(value, StoredArray | np.ndarray):
        return _nested(value) if value.dtype == object else value.dtype.kind in "fiub" and value.ndim in (2, 3)
    return isinstance(value, list | tuple) and _nested(value)


def _nested(value: Any) -> bool:
    first = next((x for x in value if x is not None), None)
    return isinstance(first, list | tuple | StoredArray) or (isinstance(first, np.ndarray) and first.ndim > 0)


def rows_of(value: Any, where: str, ids: Any) -> Rows:
    """Sequences (N, L, F) from an array, or from a list with an array a clip."""
    if isinstance(value, np.ndarray | StoredArray) and value.dtype != object:
        if value.dtype.kind not in "fiub" or value.ndim not in (2, 3) or 0 in value.shape[1:]:
            raise ValueError(
                f"{where} is {value.dtype} of shape {value.shape}; expected numbers (clips, frames, width)"
            )
        if value.ndim == 3:
            return value
        if isinstance(value, StoredArray) and value.fortran:
            value = value[:]
        shape = (value.shape[0], 1, value.shape[1])  # one vector a clip is a sequence of one frame
        return value.reshaped(shape) if isinstance(value, StoredArray) else value.reshape(shape)
    if not isinstance(value, list | tuple | np.ndarray) or (isinstance(value, np.ndarray) and not value.ndim):
        raise ValueError(
            f"{where} is a {type(value).__name__}; an array (clips, frames, width) or a list of them is read"
        )
    items: list[np.ndarray | None] = []
    width = None
    for i, item in enumerate(value):
        clip = f"clip {str(ids[i])!r}" if ids is not None and i < len(ids) else f"clip number {i}"
        x = None
        if item is not None:
            try:
                x = np.asarray(item)
                x = x if x.dtype.kind in "fiub" else np.asarray(item, dtype=np.float64)
            except (ValueError, TypeError):
                raise ValueError(f"{where}: {clip} is no array of numbers (frames, width)") from None
            x = x[None] if x.ndim == 1 and x.size else x
            if x.size == 0:
                x = None
            elif x.ndim != 2:
                raise ValueError(f"{where}: {clip} has shape {x.shape}; expected (frames, width)")
            elif width is not None and x.shape[1] != width:
                raise ValueError(f"{where}: {clip} has width {x.shape[1]}, others have {width}")
            else:
                width = x.shape[1]
        items.append(x)
    if width is None:
        raise ValueError(f"{where} holds no frames")
    whole = [np.zeros((0, width)) if x is None else x for x in items]
    return Ragged(whole, (len(whole), max(map(len, whole)), width))


def _numbers(value: Any, where: str) -> np.ndarray:
    """Numbers from an array, a list, or a list of arrays of one number each."""
    try:
        x = np.asarray(value)
        if x.dtype == object:
            x = np.array([np.nan if y is None else y for y in x.ravel().tolist()], dtype=np.float64).reshape(x.shape)
    except (ValueError, TypeError):
        raise ValueError(f"{where} holds something that is no number") from None
    if x.dtype.kind not in "fiub":
        raise ValueError(f"{where} is {x.dtype} of shape {x.shape}; expected numbers, one a clip")
    return x


def _texts(value: Any, where: str) -> np.ndarray:
    """Texts from an array or list of texts, bytes or whole numbers; None is an empty text."""
    x = np.asarray(value) if isinstance(value, np.ndarray | StoredArray) else np.array(value, dtype=object)
    x = np.atleast_1d(x)
    if x.dtype.kind in "Uiu":
        return x
    if x.dtype.kind not in "OS":
        raise ValueError(f"{where} is {x.dtype} of shape {x.shape}; expected texts, one a clip")
    made = [_text(y, where) for y in x.ravel().tolist()]
    return np.array(made, dtype=object).reshape(x.shape)


def _text(value: Any, where: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
    raise ValueError(f"{where} holds a {type(value).__name__}; expected texts, one a clip")


def _meta(ids: np.ndarray, given: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """MulT's ids (N, 1) or (N, 3), video, start and end: one text a clip, and the video of each."""
    if ids.shape[1] == 1:
        return ids[:, 0], given
    made = np.array([f"{row[0]}[{','.join(map(str, row[1:]))}]" for row in ids.tolist()], dtype=object)
    return made, {"video_id": ids[:, 0]} | given


def _mask_spans(bert: Any, shape: tuple[int, int]) -> np.ndarray | None:
    """(N, 2) valid frames of text from the attention mask of `text_bert` (N, 3, L), if it is one for these frames."""
    x = np.asarray(bert) if isinstance(bert, np.ndarray | StoredArray) else None
    if x is None or x.shape != (shape[0], 3, shape[1]) or x.dtype.kind not in "fiub":
        return None
    mask = x[:, 1] != 0  # (N, L)
    first = mask.argmax(axis=1)
    last = mask.shape[1] - mask[:, ::-1].argmax(axis=1)
    last = np.where(mask.any(axis=1), last, first)
    whole = mask.sum(axis=1) == last - first  # a mask with holes is no length
    return np.stack([first, last], axis=1) if whole.all() else None


def _extra(value: Any, n: int) -> np.ndarray | None:
    """A column of one text or number a clip that is kept with the clip; None for anything else."""
    if isinstance(value, StoredArray):
        value = value[:] if value.ndim == 1 else None
    if isinstance(value, list | tuple):
        plain = all(isinstance(x, str | int | float | bytes) or x is None for x in value)
        value = np.array(value, dtype=object) if plain else None
    if not isinstance(value, np.ndarray) or value.shape != (n,) or value.dtype.kind not in "fiuUOS":
        return None
    if value.dtype.kind in "OS":
        items = value.tolist()
        if not all(isinstance(x, str | bytes | int | float) or x is None for x in items):
            return None
        value = np.empty(n, dtype=object)
        for i, x in enumerate(items):
            value[i] = np.nan if x is None else _text(x, "") if isinstance(x, str | bytes) else x
    return value


# -- MISA's lists -----------------------------------------------------------------------------------------------------


def _items(tree: Any) -> list[tuple[Any, ...]] | None:
    if not isinstance(tree, list | tuple) or not all(
        isinstance(item, list | tuple) and len(item) >= 2 and isinstance(item[0], list | tuple) and len(item[0]) >= 3
        for item in tree
    ):
        return None
    return list(tree)


def _words_of(tree: Any) -> list[str]:
    """All words of a split in MISA's layout."""
    return [word for item in _items(tree) or () for word in _spoken(item[0])]


def _spoken(features: Sequence[Any]) -> list[str]:
    """The words of a clip: the fourth entry, else the first where it holds texts."""
    for candidate in (features[3] if len(features) > 3 else None, features[0]):
        values = candidate.ravel().tolist() if isinstance(candidate, np.ndarray) else candidate
        if isinstance(values, list | tuple) and values and all(isinstance(word, str | bytes) for word in values):
            return [_text(word, "words") for word in values]
    return []


def _columns_of_items(tree: Any, name: str, where: str, vectors: WordVectors | None) -> dict[str, Any]:
    """MISA's [((words, vision, audio, actual words), label, segment), ...] as columns."""
    items = _items(tree)
    if items is None:
        raise ValueError(f"{where}: {name} is a list, but not of ((words, vision, audio), label, segment)")
    if not items:
        raise ValueError(f"{where}: {name} holds no clips; leave out a split that has none")
    text: list[Any] = []
    spoken = [_spoken(features) for features, *_ in items]
    for i, (features, *_) in enumerate(items):
        x = features[0]
        if isinstance(x, np.ndarray | StoredArray) and x.ndim == 2 and x.dtype.kind == "f":
            text.append(x)
        elif vectors is None:
            raise ValueError(
                f"{where}: {name} holds words, not features of language; give --word-vectors FILE, a text file with a "
                "word and its vector a line (GloVe's), and they are looked up there"
            )
        elif not spoken[i]:
            raise ValueError(f"{where}: clip number {i} of {name} has numbers of words, but not the words themselves")
        else:
            text.append(vectors.rows(spoken[i]))
    labels = []
    for i, item in enumerate(items):
        label = _numbers(item[1], f"{where}: the label of clip number {i} of {name}").ravel()
        if label.size not in (1, 7):  # CMU-MOSEI's seven: sentiment first, then six emotions
            raise ValueError(f"{where}: the label of clip number {i} of {name} has {label.size} numbers; 1 is read")
        labels.append(float(label[0]))
    columns = {
        "text": text,
        "vision": [features[1] for features, *_ in items],
        "audio": [features[2] for features, *_ in items],
        "label": labels,
        "raw_text": [" ".join(word for word in words if word != "sp") for words in spoken],
    }
    if all(len(item) > 2 and isinstance(item[2], str | bytes | int) for item in items):
        columns["id"] = [_text(item[2], "segment") for item in items]
    return columns
