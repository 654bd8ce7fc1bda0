"""A sound of one's own made like those that the model knows: silence around the speech cut, a whisper turned up.

Both bring the features of bundled sounds nearer to the training data, which tests/test_recording.py measures. A louder
sound is left alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from imder.data.sound import HOP, RATE, WINDOW, read_sound

MAX_SOUND = 6 << 20  # bytes of a file that a visitor may bring: a minute of 16 bits and one channel at 48 kHz
#: A frame that is within so many decibels of the loudest is speech.
SPOKEN = 30.0
#: Seconds before the first and after the last frame of speech in the test sounds of the bundled corpus: the median,
#: and what 95 of 100 do not exceed. What is longer is cut to the median.
LEAD, LONGEST_LEAD = 0.07, 0.14
TRAIL, LONGEST_TRAIL = 0.31, 0.58
#: Decibels of the median frame of speech in those sounds, and what 2.5 of 100 are below. What is quieter is turned up.
LEVEL, QUIETEST = -26.7, -33.6


@dataclass(frozen=True)
class Recording:
    """Mono samples (N,) float32 at `RATE`, as they are measured and played, and what was changed."""

    samples: np.ndarray
    begin: float  # seconds that were cut before them
    whole: float  # seconds of the file
    spoken: tuple[float, float]  # where speech begins and ends in `samples`, as fractions
    said: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Length of what was kept."""
        return len(self.samples) / RATE

    @cached_property
    def ogg(self) -> bytes:
        """The sound as a page can play it: Opus, some 3 kB a second."""
        import librosa
        import soundfile

        rate = 24_000  # one of those that Opus has
        played = librosa.resample(self.samples, orig_sr=RATE, target_sr=rate, res_type="soxr_hq")
        peak = float(np.abs(played).max(initial=0.0))
        buffer = io.BytesIO()
        soundfile.write(buffer, played / max(peak, 1.0), rate, format="OGG", subtype="OPUS", compression_level=0.9)
        return buffer.getvalue()


def open_recording(path: str | Path, name: str | None = None) -> Recording:
    """The sound of a file (see `read_sound`), cut and turned up where it is unlike the sounds of the corpus."""
    samples, said = read_sound(path, name)
    whole = len(samples) / RATE
    begin, end = kept(samples)
    cut = samples[begin:end]
    parts = [
        f"{seconds:.1f} s of silence {where} the speech"
        for seconds, where in ((begin / RATE, "before"), ((len(samples) - end) / RATE, "after"))
        if seconds >= 0.05
    ]
    if parts:
        said.append(f"{' and '.join(parts)} cut, to what the training sounds have")
    level = speech_level(cut)
    if level < QUIETEST:
        cut = cut * np.float32(10 ** ((LEVEL - level) / 20))
        said.append(
            f"turned up by {LEVEL - level:.0f} dB to the level of the training sounds, as it was quieter than they"
        )
    return Recording(cut, begin / RATE, whole, speech_span(cut), tuple(said))


def kept(samples: np.ndarray) -> tuple[int, int]:
    """[first, last) sample that stays: at most the silence around the speech that the training sounds have."""
    first, last = (round(at * len(samples)) for at in speech_span(samples))
    begin = first - round(LEAD * RATE) if first > LONGEST_LEAD * RATE else 0
    behind = len(samples) - last
    end = last + round(TRAIL * RATE) if behind > LONGEST_TRAIL * RATE else len(samples)
    return begin, end


def levels(samples: np.ndarray) -> np.ndarray:
    """(T,) decibels of the frames, relative to full scale."""
    padded = np.pad(samples.astype(np.float64), WINDOW // 2)
    total = np.concatenate([[0.0], np.cumsum(padded**2)])
    power = (total[WINDOW:] - total[:-WINDOW])[::HOP] / WINDOW
    return 10 * np.log10(power.clip(min=0) + 1e-12)


def speech_span(samples: np.ndarray) -> tuple[float, float]:
    """Where speech begins and ends in a sound at `RATE`, as fractions: the loud frames' first and last."""
    level = levels(samples)
    loud = np.flatnonzero(level > level.max() - SPOKEN)
    first, last = loud[0] * HOP / len(samples), (loud[-1] + 1) * HOP / len(samples)
    return float(first), float(min(max(last, first + 0.05), 1.0))


def speech_level(samples: np.ndarray) -> float:
    """Decibels of the median frame of speech."""
    level = levels(samples)
    return float(np.median(level[level > level.max() - SPOKEN]))
