"""data.json of a data set folder, read without trust: every field is there, of its type and within its range."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from imder.modality import MODALITIES, ordered

FORMAT = "imder-features/1"


def read_json(path: Path) -> Any:
    """A JSON file without NaN or Infinity; ValueError says what is wrong with it."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{path}: {constant} is not JSON; only finite numbers are allowed")

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; a data set is a folder with a data.json") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply") from None


def read_header(folder: Path) -> dict[str, Any]:
    """data.json as a dict of our format, its fields not yet checked."""
    if folder.is_file():
        raise ValueError(f"{folder}: is a file, a data set is a folder; `python -m imder data convert` makes one")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; a data set is a folder with a data.json, or 'bundled'")
    info = read_json(folder / "data.json")
    found = info.get("format") if isinstance(info, dict) else None
    if found != FORMAT:
        raise ValueError(f"{folder / 'data.json'}: format is {found!r}; expected {FORMAT!r}")
    return info


def field_of(record: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """record[key] of that type; a bool is no number."""
    if not isinstance(record, dict) or key not in record:
        raise ValueError(f"{where}: {key!r} is missing")
    value = record[key]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("null" if allowed is type(None) else allowed.__name__ for allowed in kinds)
        raise ValueError(f"{where}: {key!r} is {str(value)[:40]!r}; expected {names}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: {key!r} is {value}; expected a finite number")
    return value


def label_range_of(label: dict[str, Any], where: str) -> tuple[float, float]:
    """Low and high of the label; of classes 0 and the last index."""
    bounds = field_of(label, "range", list, f"{where}: label")
    if (
        len(bounds) != 2
        or not all(type(b) in (int, float) and math.isfinite(b) for b in bounds)
        or bounds[0] >= bounds[1]
    ):
        raise ValueError(f"{where}: label range is {bounds}; expected [low, high]")
    classes = label.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{where}: label classes are {str(classes)[:40]}; expected a list of names")
    if classes and (bounds != [0, len(classes) - 1] or len(set(classes)) < len(classes) or not all(classes)):
        raise ValueError(
            f"{where}: label range is {bounds} with {len(classes)} classes; expected [0, {len(classes) - 1}] and names "
            "that differ"
        )
    return float(bounds[0]), float(bounds[1])


def encoder_of(info: dict[str, Any], where: str) -> dict[str, Any] | None:
    """Name and fingerprint of the encoder of the text, and on what it was tuned."""
    if "encoder" not in info:
        return None
    made = field_of(info, "encoder", dict, where)
    for key in ("name", "fingerprint"):
        field_of(made, key, str, f"{where}: encoder")
    if not re.fullmatch(r"[0-9a-f]{16}", made["fingerprint"]):
        raise ValueError(f"{where}: the encoder's fingerprint is {made['fingerprint'][:40]!r}; 16 hex digits are one")
    if made.get("frames", "ids") not in ("ids", "timed", "words", "pieces"):
        raise ValueError(
            f"{where}: the encoder's frames are {str(made['frames'])[:40]!r}; ids, timed, words, pieces are"
        )
    if "tuned" in made:
        field_of(made, "tuned", dict, f"{where}: encoder")
    return made


def check_record(record: Any, where: str, label_range: tuple[float, float]) -> dict[str, Any]:
    """The record of a clip, if it is one."""
    if not field_of(record, "id", str, where):
        raise ValueError(f"{where}: the id is empty")
    for key, kind in (("video", str), ("index", int), ("text", str), ("label", (int, float))):
        field_of(record, key, kind, where)
    if not label_range[0] <= record["label"] <= label_range[1]:
        raise ValueError(f"{where}: label {record['label']} is outside {list(label_range)}")
    lengths = field_of(record, "lengths", dict, where)
    for k in MODALITIES:
        if field_of(lengths, k, int, f"{where}: lengths") < 1:
            raise ValueError(f"{where}: length of {k} is {lengths[k]}; at least one frame is needed")
    for word in field_of(record, "words", list, where):
        if not (
            isinstance(word, list)
            and len(word) == 3
            and isinstance(word[0], str)
            and all(type(edge) in (int, float) for edge in word[1:])
            and 0 <= word[1] <= word[2] <= 1
        ):
            raise ValueError(f"{where}: word {str(word)[:60]} is not [text, start, end] with 0 <= start <= end <= 1")
    field_of(record, "seconds", (int, float, type(None)), where)
    absent = record.get("absent", [])
    if (
        not isinstance(absent, list)
        or ordered(absent, what=f"{where}: absent") != tuple(absent)
        or len(absent) == len(MODALITIES)
    ):
        raise ValueError(f"{where}: absent is {str(absent)[:60]}; one or two of {', '.join(MODALITIES)} in order are")
    for key in field_of(record, "extra", dict, where):
        field_of(record["extra"], key, (int, float, str), f"{where}: extra")
    return record
