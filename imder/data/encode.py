"""Text features by an encoder: for a file that is converted, and for a data set folder that is there already."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from imder.card import split_card
from imder.data.dataset import FeatureSet, data_json, staged_set
from imder.data.encoder import Encoder, said_of
from imder.data.frames import Pieces, read_texts
from imder.data.hidden import HiddenStates, Told
from imder.data.layouts import Part, Source
from imder.data.sentence import bare
from imder.data.tensors import copy_tensors
from imder.data.tokens import FILE, mask_spans, write_tokens
from imder.modality import MODALITIES

_CLIPS = 64  # at a time


@dataclass(frozen=True, eq=False)
class HiddenRows:
    """Hidden states as the sequences (N, L, F) of a file, where its token ids are."""

    states: HiddenStates
    shape: tuple[int, int, int]
    first: np.ndarray  # (N,) where the valid ids of a row begin

    def __getitem__(self, rows: slice) -> np.ndarray:
        at = range(*rows.indices(self.shape[0]))
        out = np.zeros((len(at), *self.shape[1:]), dtype=np.float32)
        for place, i in enumerate(at):
            own = self.states[i]
            out[place, self.first[i] : self.first[i] + len(own)] = own
        return out


def encoded(source: Source, encoder: Encoder, cache: str | Path | None, told: Told) -> Source:
    """A file's parts with the hidden states of their token ids as features of text. Raises ValueError."""
    for part in source.parts.values():
        if not isinstance(part.tokens, np.ndarray):
            raise ValueError(
                part.tokens
                or f"{source.where}: {part.name} has no token ids (text_bert); convert it without an encoder, then "
                "`data encode` reads the clips' texts"
            )
    states = {}
    for split, part in source.parts.items():
        try:
            states[split] = HiddenStates(encoder, part.tokens, cache, names=part.ids)
        except ValueError as error:
            raise ValueError(f"{source.where}: {part.name}: {error}") from None
    _ensure(states, told)
    first = next(iter(source.parts.values()))
    said = [*source.said, f"text: hidden states of {encoder.name} ({encoder.fingerprint}) from the file's token ids"]
    said += encoder.doubts(first.tokens, first.texts)
    parts = {split: _with_states(part, states[split]) for split, part in source.parts.items()}
    return replace(source, parts=parts, said=tuple(said))


def _with_states(part: Part, states: HiddenStates) -> Part:
    first, count = mask_spans(part.tokens)
    rows = HiddenRows(states, (len(part), part.tokens.shape[2], states.encoder.width), first)
    lengths = dict(part.lengths)
    own = [lengths[k] for k in MODALITIES if k in lengths]
    shared = len(own) == len(MODALITIES) and all(np.array_equal(x, own[0]) for x in own)
    if not shared or (first + count > own[0]).any():  # frames of its own: those of the ids
        lengths.pop("text", None)
    spans = dict(part.spans)
    if "text" not in lengths:
        spans["text"] = np.stack([first, first + count], axis=1)
    return replace(part, features=part.features | {"text": rows}, lengths=lengths, spans=spans)


def _ensure(states: dict[str, HiddenStates], told: Told) -> int:
    total, done, made = sum(map(len, states.values())), 0, 0
    for own in states.values():
        made += own.ensure(lambda at, of, done=done: told(done + at, total))
        done += len(own)
    return made


# -- a data set folder ------------------------------------------------------------------------------------------------


def encode(
    data: FeatureSet,
    encoder: Encoder,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    told: Told = lambda done, of: None,
    tuned: dict[str, Any] | None = None,
    beside: Callable[[Path], None] = lambda stage: None,
) -> tuple[FeatureSet, list[str]]:
    """Writes `data` to the folder `out` with text features by `encoder`; returns it, and sentences on what was done.

    cache: where hidden states are kept (default: `hidden.cache_folder`). tuned: on what the encoder was tuned, which
    the set then says. beside: writes more files of a data set into the staged folder. Raises ValueError.
    """
    reading = read_texts(data, encoder)
    pieces, said = reading.pieces, list(reading.said)
    states = {split: HiddenStates(encoder, part.ids, cache) for split, part in pieces.items()}
    for split, part in pieces.items():
        for i in np.flatnonzero(part.empty).tolist():
            record = data.split(split).records[i]
            if set(record.get("absent", ())) >= {"audio", "vision"}:
                raise ValueError(f"clip {record['id']!r} would have no modality at all: it has no text to encode")
    with staged_set(out) as stage:
        needed = sum(len(frame) for part in pieces.values() for frame in part.frame) * encoder.width * 4
        if needed > (free := shutil.disk_usage(stage).free):
            raise ValueError(f"{out}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free on the disk")
        _ensure(states, told)
        records = {}
        for split, part in pieces.items():
            records[split] = [_record(record, part, i) for i, record in enumerate(data.split(split).records)]
            shape = (sum(map(len, part.frame)), encoder.width)
            copy_tensors(
                data.folder / f"{split}.safetensors",
                stage / f"{split}.safetensors",
                drop=lambda name: name.split(".")[0] == "text",
                add={"text": (shape, _laid(part, states[split]))},
            )
        kept_ids = {split: data.tokens(split) for split in data.splits}
        if all(ids is not None for ids in kept_ids.values()):
            write_tokens(stage, kept_ids)
        elif reading.frames == "pieces":
            write_tokens(stage, {split: part.ids for split, part in pieces.items()})
        _copy_rest(data, stage)
        said += _vocabulary(data, pieces, states, stage)
        info = json.loads((data.folder / "data.json").read_text(encoding="utf-8"))
        header = {key: value for key, value in info.items() if key not in ("splits", "encoder")}
        header["note"] = _note(data) + encoder.said
        header["feature_names"]["text"] = [f"text_{i}" for i in range(encoder.width)]
        header["encoder"] = encoder.record | {"frames": reading.frames} | ({"tuned": tuned} if tuned else {})
        (stage / "data.json").write_text(data_json(header, records), encoding="utf-8")
        (stage / "README.md").write_text(_readme(data, header, said, tuned), encoding="utf-8")
        beside(stage)
    return FeatureSet(Path(out).resolve()), said


def _note(data: FeatureSet) -> str:
    """The set's note without what an earlier encoder said of itself."""
    return data.note if data.encoder is None else data.note.replace(said_of(data.encoder), "")


def _record(record: dict[str, Any], part: Pieces, i: int) -> dict[str, Any]:
    record = record | {"lengths": record["lengths"] | {"text": len(part.frame[i])}}
    absent = [k for k in MODALITIES if (part.empty[i] if k == "text" else k in record.get("absent", ()))]
    record.pop("absent", None)
    return record | ({"absent": absent} if absent else {})


def _laid(part: Pieces, states: HiddenStates) -> Iterator[np.ndarray]:
    """The frames of all clips, some at a time, (rows, F) float32."""
    for first in range(0, len(part), _CLIPS):
        some = range(first, min(first + _CLIPS, len(part)))
        yield np.concatenate([part.weights(i) @ states[i] for i in some])


def _copy_rest(data: FeatureSet, stage: Path) -> None:
    """Sounds and redraws; what belongs to the former text (vocabulary, projection, encoder) is left."""
    if (data.folder / "sound").is_dir():
        shutil.copytree(data.folder / "sound", stage / "sound")
    if data.redraw_ids:
        shutil.copyfile(data.folder / "redraws.safetensors", stage / "redraws.safetensors")


def _vocabulary(data: FeatureSet, pieces: dict[str, Pieces], states: dict[str, HiddenStates], stage: Path) -> list[str]:
    """The words of the set's vocabulary with their new mean vectors, where its texts are laid by words."""
    if data.vocabulary is None:
        return []
    if (stage / FILE).exists():
        return ["the vocabulary of the former text is left out"]
    wanted = {bare(word).casefold(): word for word in data.vocabulary[0]}
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(states[data.splits[0]].encoder.width))
    counts: dict[str, int] = defaultdict(int)
    for split, part in pieces.items():
        for i, record in enumerate(data.split(split).records):
            hidden = states[split][i]
            for number, word in enumerate(record["text"].split()):
                key, own = bare(word).casefold(), part.owner[i] == number
                if key in wanted and own.any():
                    sums[key] += hidden[own].mean(axis=0)
                    counts[key] += 1
    found = [key for key in wanted if counts[key]]
    if not found:
        return ["the vocabulary of the former text is left out"]
    vectors = np.stack([sums[key] / counts[key] for key in found]).astype(np.float32)
    words = [wanted[key] for key in found]
    (stage / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    (stage / "vocabulary.safetensors").write_bytes(save({"vectors": vectors}))
    return [f"vocabulary: {len(words)} words with the mean of their new vectors"]


def _readme(data: FeatureSet, header: dict[str, Any], said: list[str], tuned: dict[str, Any] | None) -> str:
    path = data.folder / "README.md"
    _, former = split_card(path.read_text(encoding="utf-8") if path.is_file() else "", path)
    made = header["encoder"]
    lines = [
        f"# {data.title}",
        header["note"],
        f"Made from {data.name!r} ({data.fingerprint}). Its text features, {len(header['feature_names']['text'])} "
        f"numbers a frame, are the last hidden states of the encoder `{made['name']}` (fingerprint "
        f"{made['fingerprint']}), not those that it had before.",
    ]
    if tuned:
        lines.append(
            "**The text features have seen the training labels**: the encoder was tuned on this set's training split, "
            "with the validation split to choose when to stop; the test split was not looked at. What is measured on "
            "training clips is therefore no measure of anything, and these features must not be compared with features "
            "of an encoder that was not tuned as if both were given. The encoder is in `encoder/`, how it was tuned in "
            "`encoder/tuning.json`."
        )
    lines.append("\n".join(f"- {sentence}" for sentence in said))
    if former:
        lines += [
            "---",
            "What follows describes the set as it was before; of its text features it holds no more.",
            former,
        ]
    return "\n\n".join(lines) + "\n"
