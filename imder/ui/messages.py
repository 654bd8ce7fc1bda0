"""What the pipeline yields, as messages for the stage (`imder/ui/stage/`).

A message is a JSON-able dict with a `kind`:

  sample  the clip as the visitor sees it; what is dropped is not in the message at all
  start   a run begins: truth, training cloud, predictions without recovery
  chunk   some saved steps, from index `k0` on (a chunk may come twice)
  done    the run's results
  notice  one sentence for the visitor
  bundle  several of these in `items`; with `rest` the stage shows the last step instead of playing

Where the label is a class, sample and start hold `classes` (their names) and `label_name`, the label is the index of
one, and each prediction is the list of their probabilities (in a chunk the steps' lists one behind the other).

Arrays travel as base64 strings: Gradio sends the difference between two values of a generator, and a list of
numbers would be compared and sent number by number.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imder.interpret import votes
from imder.modality import MODALITIES, ordered

if TYPE_CHECKING:
    from imder.data.clip import Clip
    from imder.interpret import Prediction
    from imder.pipeline import Recovery, RecoveryChunk, RecoveryStart

Message = dict[str, Any]
Names = Mapping[str, Sequence[str]]

#: OpenFace's 17 action units with an intensity, then head pose and gaze: what the face is drawn from.
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
FACE: tuple[tuple[str, ...], ...] = (
    *((f"AU{n:02d}", f"AU{n:02d}_r") for n in ACTION_UNITS),
    ("pose_pitch", "pose_Rx"),
    ("pose_yaw", "pose_Ry"),
    ("pose_roll", "pose_Rz"),
    ("gaze_x", "gaze_angle_x"),
    ("gaze_y", "gaze_angle_y"),
)
#: Pitch and energy: what the voice is drawn from.
VOICE: tuple[tuple[str, ...], ...] = (("log_f0", "logf0", "log F0"), ("mfcc_0", "energy"))

#: One base64 letter holds six bits.
LETTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", dtype=np.uint8)
#: Draws of the voice that are shown behind the first.
FAN = 32
#: Share of the draws below which a nearest word is not shown, and how many are shown a word.
LEAST_SHARE, MOST_WORDS = 0.02, 3


# --- encoding ---------------------------------------------------------------------------------------------------------


def number(value: Any) -> float | None:
    """A float that JSON can hold: None where it is not finite."""
    value = float(value)
    return round(value, 6) if math.isfinite(value) else None


def told(prediction: Prediction) -> float | list[float] | None:
    """A prediction that JSON can hold: a number, of classes a list of probabilities; None where there is none."""
    return number(prediction) if np.ndim(prediction) == 0 else [number(p) for p in prediction]


def floats(values: Any) -> str:
    """Base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def pack_maps(values: np.ndarray, bits: int = 8) -> Message:
    """(C, ...) as integers symmetric about zero with one scale a step; `bits` is 8, or 6 for one letter a value."""
    if bits not in (6, 8):
        raise ValueError(f"bits: {bits} is not offered; allowed: 6, 8")
    flat = np.nan_to_num(np.asarray(values, dtype=np.float32).reshape(len(values), -1))
    scale = np.abs(flat).max(axis=1, initial=0.0)
    half = 2 ** (bits - 1) - 1
    safe = np.where(scale > 0, scale, 1)[:, None]
    levels = (np.rint(flat / safe * half) + half).astype(np.uint8)
    data = base64.b64encode(levels.tobytes()) if bits == 8 else LETTERS[levels].tobytes()
    return {"bits": bits, "scale": floats(scale), "data": data.decode("ascii")}


def pack_columns(values: np.ndarray) -> Message:
    """(..., F) as uint8 with a range for each of the F columns."""
    table = np.nan_to_num(np.asarray(values, dtype=np.float32))
    rows = table.reshape(-1, table.shape[-1])
    low, high = rows.min(axis=0), rows.max(axis=0)
    levels = np.rint((rows - low) / np.where(high > low, high - low, 1) * 255).astype(np.uint8)
    return {
        "shape": list(table.shape),
        "low": floats(low),
        "high": floats(high),
        "data": base64.b64encode(levels.tobytes()).decode("ascii"),
    }


# --- readable features ------------------------------------------------------------------------------------------------


def columns(names: Sequence[str], wanted: Sequence[Sequence[str]], required: int) -> list[int] | None:
    """Where each wanted feature is among `names` (-1: absent), or None if one of the first `required` is absent."""
    at = {name: i for i, name in enumerate(names)}
    found = [next((at[name] for name in spellings if name in at), -1) for spellings in wanted]
    return None if -1 in found[:required] else found


def drawable(names: Names | None) -> dict[str, tuple[str, list[int] | None]]:
    """{view: (modality, its columns)} for "face" and "voice"; None where the features lack what is drawn."""
    wanted = {"face": ("vision", FACE, len(ACTION_UNITS)), "voice": ("audio", VOICE, len(VOICE))}
    return {
        view: (k, columns((names or {}).get(k, ()), spellings, required))
        for view, (k, spellings, required) in wanted.items()
    }


def readable(features: Mapping[str, np.ndarray], names: Names | None) -> Message:
    """What can be drawn of raw-scale features (..., L, F): "face" with 22 packed columns, "voice" with 2."""
    drawn = {}
    for view, (k, at) in drawable(names).items():
        if k not in features or at is None:
            continue
        x = np.asarray(features[k], dtype=np.float32)
        picked = np.zeros((*x.shape[:-1], len(at)), dtype=np.float32)
        for column, i in enumerate(at):
            if i >= 0:
                picked[..., column] = x[..., i]
        drawn[view] = pack_columns(picked)
    return drawn


def sound_uri(path: Path | None) -> str | None:
    """An OGG file as a data URI, or None if there is none."""
    if path is None or not Path(path).is_file():
        return None
    return "data:audio/ogg;base64," + base64.b64encode(Path(path).read_bytes()).decode("ascii")


def _words(clip: Clip) -> list[list[Any]]:
    if clip.words:
        return [[w.text, number(w.start), number(w.end)] for w in clip.words]
    words = clip.text.split()
    return [[w, None, None] for w in words]


# --- messages ---------------------------------------------------------------------------------------------------------


def sample_message(
    clip: Clip,
    available: Iterable[str],
    *,
    names: Names | None = None,
    title: str = "",
    sound: str | None = None,
    label_range: Sequence[float] = (-3.0, 3.0),
    label_name: str = "",
    classes: Sequence[str] = (),
    synthetic: bool = False,
    lacks: Sequence[str] = (),
) -> Message:
    """The clip with what is dropped left out; `sound` is a URI, `names` the feature names per modality.

    lacks: what the data have nothing of, which is neither available nor missing.
    """
    have = tuple(k for k in ordered(available) if k not in lacks)
    return {
        "kind": "sample",
        "clip": clip.id,
        "title": title or clip.id,
        "synthetic": bool(synthetic),
        "available": list(have),
        "missing": [k for k in MODALITIES if k not in have and k not in lacks],
        "label": number(clip.label),
        "label_range": [float(v) for v in label_range],
        "seconds": None if clip.seconds is None else number(clip.seconds),
        "text": clip.text if "text" in have else None,
        "words": _words(clip) if "text" in have else [],
        "sound": sound if "audio" in have else None,
        "readable": readable({k: clip.features[k] for k in have}, names),
        **_named(label_name, classes),
    }


def _named(label_name: str, classes: Sequence[str]) -> Message:
    """What a label of classes is called and its classes; nothing where it is a sentiment."""
    return {"label_name": label_name, "classes": list(classes)} if classes else {}


def start_message(
    start: RecoveryStart,
    *,
    names: Names | None = None,
    title: str = "",
    label_range: Sequence[float] = (-3.0, 3.0),
    label_name: str = "",
    lacks: Sequence[str] = (),
) -> Message:
    """What is known before the first step. Here the truth travels, for comparison only."""
    channels, frames = start.latent or next(iter(start.truth.values())).shape
    return {
        "kind": "start",
        "run": start.run_id,
        "clip": start.clip.id,
        "title": title or start.clip.id,
        "available": [k for k in start.available if k not in lacks],
        "missing": list(start.missing),
        "sampler": start.sampler,
        "steps": int(start.steps),
        "nfe_total": int(start.nfe_total),
        "label": number(start.label),
        "label_range": [float(v) for v in label_range],
        "baseline": {name: told(v) for name, v in start.predictions.items()},
        "seconds": None if start.clip.seconds is None else number(start.clip.seconds),
        "words": _words(start.clip),
        "channels": int(channels),
        "frames": int(frames),
        "truth": {k: pack_maps(x[None]) for k, x in start.truth.items()},
        "cloud": {k: floats(start.cloud.get(k, ())) for k in start.missing},
        "truth_path": {k: [number(v) for v in x] for k, x in start.truth_path.items()},
        "readable": readable({k: start.readable_truth[k] for k in start.missing if k in start.readable_truth}, names),
        "views": [view for view, (k, at) in drawable(names).items() if k in start.missing and at is not None],
        **_named(label_name, start.classes),
    }


def chunk_message(run: str, chunk: RecoveryChunk, *, names: Names | None = None) -> Message:
    """Some saved steps. With two modalities on the way the maps get six bits, so that a run stays below 0.7 MB."""
    bits = 8 if len(chunk.state) == 1 else 6
    return {
        "kind": "chunk",
        "run": run,
        "k0": int(chunk.first),
        "count": len(chunk.step),
        **{name: floats(getattr(chunk, name)) for name in ("step", "t", "std", "nfe", "prediction")},
        "maps": {
            k: {name: pack_maps(getattr(chunk, name)[k], bits) for name in ("state", "denoised", "reconstructed")}
            for k in chunk.state
        },
        "curves": {
            k: {
                name: floats(getattr(chunk, name)[k])
                for name in ("path_state", "path_denoised", "error", "error_reconstructed", "score_norm")
            }
            for k in chunk.state
        },
        "readable": readable(chunk.readable, names),
    }


def done_message(run: str, recovery: Recovery, *, names: Names | None = None) -> Message:
    """The results: predictions, the spread over draws, errors, nearest words, the fan of voices.

    Of classes each draw is packed, there is no interval, and `votes` says how often each is the likeliest of a draw.
    """
    spread: Message = {
        "draws": [number(v) for v in recovery.draws],
        "interval": [number(v) for v in recovery.interval],
    } if not recovery.classes else {
        "draws": [floats(draw) for draw in recovery.draws],
        "votes": [number(v) for v in votes(recovery.draws)],
    }  # fmt: skip
    return {
        "kind": "done",
        "run": run,
        "predictions": {name: told(v) for name, v in recovery.predictions.items()},
        **spread,
        "feature_error": {
            k: {name: number(v) for name, v in errors.items()} for k, errors in recovery.feature_error.items()
        },
        "nfe": int(recovery.nfe),
        "seconds": number(recovery.seconds),
        "words": _nearest(recovery.words),
        "fan": readable({k: x[:FAN] for k, x in recovery.readable_draws.items() if k == "audio"}, names),
    }


def _nearest(words: Sequence[Sequence[tuple[str, float]]]) -> list[list[list[Any]]] | None:
    """Per word of the sentence the nearest words with their shares, most frequent first; None without a vocabulary."""
    return [
        [[str(word), number(share)] for word, share in ranked[:MOST_WORDS] if share >= LEAST_SHARE] for ranked in words
    ] or None


def notice_message(text: str) -> Message:
    """One sentence for the visitor; the stage keeps what it shows."""
    return {"kind": "notice", "text": text}


def bundle(items: Iterable[Message], *, rest: bool = False) -> Message:
    """Several messages as one value; with `rest` the stage opens at the last step and does not play."""
    return {"kind": "bundle", "items": list(items), "rest": rest}


# --- stored runs ------------------------------------------------------------------------------------------------------


def store_run(items: Iterable[Message]) -> bytes:
    """A run as compressed JSON, the same bytes for the same messages."""
    text = json.dumps(list(items), separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0)
