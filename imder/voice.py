"""From voice features back to sound: source and filter, in numpy.

The features are the bundled corpus' own (`imder.data.sound`): natural log of the pitch, interpolated where
nothing is voiced, and 20 MFCC of 40 mel bands in dB. The cosines give a smooth spectrum a frame; pulses at the pitch
and noise, both shaped by it, give the sound. What is lost on the way (fine structure, phase, anything faster than a
frame) is lost for a true voice as for a recovered one, so the two are compared through the same resynthesis.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from imder.data.sound import HIGH, LOW, MELS, WINDOW
from imder.data.sound import RATE as MEASURED

RATE = 16_000  # samples a second of what is made here
MAX_SECONDS = 30.0
PITCH = (50.0, 500.0)  # Hz
LEVELS = (-80.0, 60.0)  # dB of a mel band
LOUDEST = 0.8  # of a sound that would be louder than that

#: Voiced or not follows from the spectrum, as the pitch is interpolated where nothing is voiced: mean dB of the bands
#: below the first edge over those above the second, plus how far the loudest of the low bands is below the clip's
#: loudest, against a threshold. On the corpus' test sounds this agrees with their autocorrelation in 83 % of the loud
#: frames.
_EDGES, _THRESHOLD, _SOFT = (1200.0, 3500.0), -25.0, 3.0
_BREATH = 5500.0  # Hz: above it a voiced sound becomes noise
_RUMBLE = 45.0  # Hz: below it nothing is made
_TAPS, _HOP, _FADE = 1024, 128, 80  # samples
_BATCH = 256  # at a time


@dataclass(frozen=True)
class VoiceColumns:
    """Which columns of a data set's voice features are the log pitch and the MFCC."""

    log_f0: int
    mfcc: tuple[int, ...]

    @classmethod
    def find(cls, names: Sequence[str]) -> VoiceColumns | None:
        """By the corpus' names of features; None where they are absent: such features cannot be made a sound."""
        at = {name: i for i, name in enumerate(names)}
        mfcc = []
        while f"mfcc_{len(mfcc)}" in at and len(mfcc) < MELS:
            mfcc.append(at[f"mfcc_{len(mfcc)}"])
        if "log_f0" not in at or len(mfcc) < 2:
            return None
        return cls(at["log_f0"], tuple(mfcc))


# -- the spectrum -----------------------------------------------------------------------------------------------------


def to_mel(hertz: np.ndarray | float) -> np.ndarray:
    """Slaney's scale: linear below 1 kHz (a mel is 200/3 Hz), logarithmic above."""
    hertz = np.asarray(hertz, dtype=float)
    return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4) * 27)


def to_hertz(mel: np.ndarray | float) -> np.ndarray:
    """The inverse of `to_mel`."""
    mel = np.asarray(mel, dtype=float)
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


@cache
def mel_filters() -> np.ndarray:
    """(MELS, WINDOW / 2 + 1) the triangles that the corpus measured with, each of area two over its width in Hz."""
    bins = np.fft.rfftfreq(WINDOW, 1 / MEASURED)
    edges = to_hertz(np.linspace(to_mel(LOW), to_mel(HIGH), MELS + 2))
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(np.minimum(rise, fall), 0) * (2 / (edges[2:] - edges[:-2]))[:, None]


@cache
def centres() -> np.ndarray:
    """(MELS,) the middle of each band in Hz."""
    return to_hertz(np.linspace(to_mel(LOW), to_mel(HIGH), MELS + 2))[1:-1]


@cache
def _cosines(count: int) -> np.ndarray:
    """(count, MELS) the first rows of the orthonormal DCT-II, what librosa's MFCC are made with."""
    k = np.arange(count)[:, None]
    rows = np.sqrt(2 / MELS) * np.cos(np.pi * k * (2 * np.arange(MELS) + 1) / (2 * MELS))
    rows[0] /= np.sqrt(2)
    return rows


def mel_levels(mfcc: np.ndarray) -> np.ndarray:
    """(..., C) MFCC to (..., MELS) levels in dB: the levels themselves with C = MELS, a smoothed version with fewer."""
    return mfcc @ _cosines(mfcc.shape[-1])


def mfcc_of(levels: np.ndarray, count: int = 20) -> np.ndarray:
    """(..., MELS) levels in dB to (..., count) MFCC."""
    return levels @ _cosines(count).T


def levels_of(density: np.ndarray) -> np.ndarray:
    """(..., WINDOW / 2 + 1) power density, variance a sample at `MEASURED` and a bin alike, to mel levels in dB."""
    window = np.hanning(WINDOW + 1)[:-1]
    return 10 * np.log10(np.maximum((density * (window**2).sum()) @ mel_filters().T, 1e-7))


def envelope(levels: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """(..., MELS) levels in dB to the smooth power density (..., len(hertz)), variance a sample at `MEASURED`.

    Each band says the mean density below its triangle; between the bands' middles the dB are interpolated on the mel
    axis, outside them they stay.
    """
    window = np.hanning(WINDOW + 1)[:-1]
    density = levels - 10 * np.log10(mel_filters().sum(axis=1) * (window**2).sum())
    at = np.interp(to_mel(hertz), to_mel(centres()), np.arange(MELS))
    low = np.minimum(at.astype(int), MELS - 2)
    part = at - low
    return 10 ** ((density[..., low] * (1 - part) + density[..., low + 1] * part) / 10)


def voiced_share(levels: np.ndarray) -> np.ndarray:
    """(L, MELS) levels in dB of a clip to the share of each frame that is voiced, 0 to 1."""
    low, high = (levels[:, centres() < _EDGES[0]], levels[:, centres() > _EDGES[1]])
    margin = low.mean(axis=1) - high.mean(axis=1) + low.max(axis=1) - levels.max()
    return 1 / (1 + np.exp(-(margin - _THRESHOLD) / _SOFT))


# -- the sound --------------------------------------------------------------------------------------------------------


def resynthesise(features: np.ndarray, columns: VoiceColumns, seconds: float, seed: int = 0) -> np.ndarray:
    """Raw-scale features (L, F) laid over `seconds` as sound, (seconds * RATE,) float32.

    It is as loud as what was measured and may exceed one: see `levelled`. A frame with values that are not finite is
    silent. `seed` fixes the noise. ValueError: `seconds` is not above 0 and at most `MAX_SECONDS`.
    """
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"seconds: {seconds!r} is not allowed; above 0 and at most {MAX_SECONDS:g} is")
    x = np.asarray(features, dtype=np.float64)
    log_f0, mfcc = x[:, columns.log_f0], x[:, list(columns.mfcc)]
    whole = np.isfinite(log_f0) & np.isfinite(mfcc).all(axis=1)
    log_f0 = np.where(whole, log_f0, np.log(150.0)).clip(*np.log(PITCH))
    levels = np.where(whole[:, None], mel_levels(np.where(whole[:, None], mfcc, 0.0)), LEVELS[0]).clip(*LEVELS)
    count = max(round(seconds * RATE), 1)
    at = (np.arange(len(x)) + 0.5) / len(x) * count  # the middle of each frame, in samples
    share = voiced_share(levels)
    sound = _pulses(count, at, log_f0, levels, share) + _noise(count, at, levels, share, seed)
    fade = min(_FADE, count // 2)
    if fade:
        ramp = np.sin(np.linspace(0, np.pi / 2, fade)) ** 2
        sound[:fade] *= ramp
        sound[-fade:] *= ramp[::-1]
    return sound.astype(np.float32)


def levelled(sound: np.ndarray) -> np.ndarray:
    """The sound turned down to `LOUDEST` where it is louder, as the corpus does with its own sounds; never up."""
    peak = float(np.abs(sound).max(initial=0.0))
    return sound * np.float32(LOUDEST / max(peak, LOUDEST))


def wav(sound: np.ndarray) -> bytes:
    """A mono WAV file of 16 bits a sample at `RATE`; what is beyond one is clipped."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _between(at: np.ndarray, values: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Rows of `values` (L, ...), at the samples `at`, interpolated to (len(when), ...); constant at the ends."""
    place = np.interp(when, at, np.arange(len(at)))
    low = np.minimum(place.astype(int), max(len(at) - 2, 0))
    high = np.minimum(low + 1, len(at) - 1)
    part = (place - low).reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - part) + values[high] * part


@cache
def _split() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(TAPS / 2 + 1,) the frequencies; of the power there the share that can be periodic, and that above the rumble."""
    hertz = np.fft.rfftfreq(_TAPS, 1 / RATE)
    return hertz, 1 / (1 + (hertz / _BREATH) ** 6), hertz**4 / (hertz**4 + _RUMBLE**4)


def _pulses(count: int, at: np.ndarray, log_f0: np.ndarray, levels: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The voiced part: one minimum-phase answer of the spectrum a period, placed between the samples."""
    hertz, periodic, cut = _split()
    step = np.exp(np.interp(np.arange(count), at, log_f0)) / RATE  # periods a sample
    phase = np.cumsum(step)
    first = np.flatnonzero(np.diff(np.floor(phase), prepend=0.0) > 0)
    late = (phase[first] - np.floor(phase[first])) / step[first]  # samples before `first`, 0 to 1
    when = first - late
    out = np.zeros(count + _TAPS + 1)
    fold = np.zeros(_TAPS)
    fold[0] = fold[_TAPS // 2] = 1
    fold[1 : _TAPS // 2] = 2
    taper = np.ones(_TAPS)
    taper[_TAPS // 2 :] = np.cos(np.linspace(0, np.pi / 2, _TAPS // 2)) ** 2
    turn = -2j * np.pi * np.arange(_TAPS // 2 + 1) / _TAPS
    for i in range(0, len(first), _BATCH):
        part = slice(i, i + _BATCH)
        density = envelope(_between(at, levels, when[part]), hertz) * (RATE / MEASURED)
        power = density * periodic * cut * _between(at, share, when[part])[:, None] / step[first[part]][:, None]
        cepstrum = np.fft.irfft(0.5 * np.log(power + 1e-20), axis=1)
        answer = np.exp(np.fft.rfft(cepstrum * fold, axis=1) + turn * (1 - late[part])[:, None])
        for start, response in zip(first[part] - 1, np.fft.irfft(answer, axis=1) * taper, strict=True):
            out[max(start, 0) : start + _TAPS] += response[max(-start, 0) :]
    return out[:count]


def _noise(count: int, at: np.ndarray, levels: np.ndarray, share: np.ndarray, seed: int) -> np.ndarray:
    """The unvoiced part: white noise, shaped frame by frame and added up again."""
    hertz, periodic, cut = _split()
    size = _TAPS // 2
    starts = np.arange(-size + _HOP, count, _HOP)  # of the windows, in samples of the sound
    white = np.random.default_rng(seed).standard_normal(len(starts) * _HOP + size)
    frames = np.lib.stride_tricks.sliding_window_view(white, size)[::_HOP][: len(starts)]
    window = np.hanning(size + 1)[:-1] * (_HOP * 2 / size)  # the windows add up to one
    density = envelope(_between(at, levels, starts + size / 2), hertz) * (RATE / MEASURED)
    power = density * (1 - periodic * _between(at, share, starts + size / 2)[:, None]) * cut
    padded = np.pad(frames * window, ((0, 0), (size // 2, size // 2)))  # room on both sides for a zero-phase filter
    shaped = np.fft.irfft(np.fft.rfft(padded, axis=1) * np.sqrt(power), axis=1)
    lead = size + size // 2 - _HOP
    out = np.zeros(count + lead + 2 * _TAPS)
    for start, frame in zip(starts + lead - size // 2, shaped, strict=True):
        out[start : start + _TAPS] += frame
    return out[lead : lead + count]
