"""Speech by espeak-ng: a sentence with a prosody a word in, samples with the time of every word and phoneme out."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from imder.data.sound import RATE

_SYNCHRONOUS, _PHONEME_EVENTS, _UTF8, _SSML = 2, 1, 1, 0x10
_WORD, _PHONEME = 1, 7
_SPEED, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; `name` is its union, eight bytes that hold a phoneme's mnemonic."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Prosody:
    """How one word is said: its pitch as a change in percent, its speed in percent of the voice's own."""

    pitch: float = 0.0
    speed: float = 100.0


@dataclass(frozen=True)
class Speech:
    """Samples at `RATE`, (start, end) of every word and (start, end, mnemonic) of every phoneme, in seconds."""

    samples: np.ndarray  # (N,) float32 in [-1, 1]
    words: tuple[tuple[float, float], ...]
    phonemes: tuple[tuple[float, float, str], ...]

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / RATE


@cache
def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise ValueError(f"{name}: not found; building the corpus needs the espeak-ng library") from None
    rate = library.espeak_Initialize(_SYNCHRONOUS, 200, None, _PHONEME_EVENTS)
    if rate != RATE:
        raise ValueError(f"espeak-ng speaks at {rate} samples a second; expected {RATE}")
    return library


def check() -> None:
    """Raises ValueError, saying what is missing, unless espeak-ng can speak here."""
    _library()


def ssml(words: Sequence[str], prosody: Sequence[Prosody]) -> tuple[str, list[int]]:
    """The sentence in SSML, and where in it each word begins.

    Two settings a word and no more: espeak-ng silently drops the beginning of a clause that holds too many.
    """
    parts, starts, at = ["<speak>"], [], len("<speak>")
    for word, p in zip(words, prosody, strict=True):
        head = f'<prosody pitch="{p.pitch:+.0f}%" rate="{p.speed:.0f}%">'
        starts.append(at + len(head))
        parts.append(f"{head}{word}</prosody> ")
        at += len(parts[-1])
    return "".join([*parts, "</speak>"]), starts


def speak(
    words: Sequence[str], prosody: Sequence[Prosody], *, voice: str, speed: int = 165, pitch: int = 50, span: int = 50
) -> Speech:
    """Speaks words (punctuation attached) in an espeak-ng voice, e.g. "en-us+f2".

    speed in words a minute, pitch and span 0 to 100: the voice's own; `prosody` is relative to them.
    """
    library = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice!r}")
    for parameter, value in ((_SPEED, speed), (_PITCH, pitch), (_RANGE, span), (_VOLUME, 80)):
        library.espeak_SetParameter(parameter, int(value), 0)

    chunks: list[np.ndarray] = []
    marks: list[tuple[int, int, int, str]] = []

    def receive(wav: Any, count: int, events: Any) -> int:
        if wav and count > 0:
            chunks.append(np.ctypeslib.as_array(wav, shape=(count,)).copy())
        i = 0
        while events[i].type:
            event = events[i]
            if event.type in (_WORD, _PHONEME):  # only a phoneme's union holds a name
                name = event.name.decode("utf-8", "ignore") if event.type == _PHONEME else ""
                marks.append((event.type, event.audio_position, event.text_position, name))
            i += 1
        return 0

    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    text, starts = ssml(words, prosody)
    encoded = text.encode()
    status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8 | _SSML, None, None)
    if status != 0 or not chunks:
        raise ValueError(f"espeak-ng failed (status {status}) on {' '.join(words)!r}")
    samples = np.concatenate(chunks).astype(np.float32) / 32768
    return Speech(samples, *_timing(marks, starts, len(samples) / RATE))


def _timing(
    marks: list[tuple[int, int, int, str]], starts: list[int], seconds: float
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float, str], ...]]:
    """Word and phoneme intervals from espeak-ng's events.

    espeak-ng says some pairs as one ("of the"): the time of such a pair is shared by its words' lengths.
    """
    names = [(position / 1000, name) for kind, position, _, name in marks if kind == _PHONEME]
    edges = [t for t, _ in names[1:]] + [seconds]
    phonemes = tuple((t, max(t, end), name) for (t, name), end in zip(names, edges, strict=True))
    found: dict[int, float] = {0: 0.0}
    for kind, position, text_position, _ in marks:
        if kind == _WORD:
            word = max(int(np.searchsorted(starts, text_position - 1, side="right")) - 1, 0)
            found.setdefault(word, position / 1000)
    count = len(starts)
    known = sorted(found)
    at = np.interp(np.arange(count + 1), [*known, count], [*(found[i] for i in known), seconds])
    at = np.maximum.accumulate(at)
    spoken = [(start, end) for start, end, name in phonemes if not name.startswith("_")]
    words = []
    for i in range(count):
        inside = [(max(s, at[i]), min(e, at[i + 1])) for s, e in spoken if e > at[i] + 0.005 and s < at[i + 1] - 0.005]
        words.append((float(inside[0][0]), float(inside[-1][1])) if inside else (float(at[i]), float(at[i + 1])))
    return tuple(words), phonemes
