"""33 features of a sound, as CH-SIMS has them: log F0, 20 MFCC, 12 chroma, with librosa (needed here, nowhere else)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

RATE = 22_050  # Hz
NAMES = ("log_f0", *(f"mfcc_{i}" for i in range(20)), *(f"chroma_{i}" for i in range(12)))
HOP, WINDOW, MELS = 220, 1024, 40
LOW, HIGH = 60, 8000  # Hz, the ends of the mel bands
LOWEST, HIGHEST = 60, 420  # Hz, of the pitch
UNVOICED = float(np.log(150.0))  # where no frame has a pitch

SHORTEST, LONGEST = 0.3, 60.0  # seconds of a recording
SILENCE = 1e-4  # peak of a sound in which nothing can be heard
INSTALL = "pip install -r requirements-extract.txt"


@cache
def filters() -> tuple[np.ndarray, np.ndarray]:
    """Mel filters (MELS, bins) and chroma filters (12, bins)."""
    librosa = _librosa()
    mel = librosa.filters.mel(sr=RATE, n_fft=WINDOW, n_mels=MELS, fmin=LOW, fmax=HIGH)
    return mel, librosa.filters.chroma(sr=RATE, n_fft=WINDOW, tuning=0.0)


def spectral(power: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a power spectrogram (bins, T): mel bands in dB (MELS, T), 20 MFCC (20, T), chroma in dB (12, T)."""
    mel, chroma = filters()
    mels = 10 * np.log10(np.maximum(mel @ power, 1e-7))
    mfcc = _librosa().feature.mfcc(S=mels, n_mfcc=20)
    return mels, mfcc, 10 * np.log10(np.maximum(chroma @ power, 1e-6))


def log_f0(samples: np.ndarray, mels: np.ndarray) -> np.ndarray:
    """(T,) natural log of the pitch in Hz over voiced frames, interpolated between them."""
    f0 = _librosa().yin(samples, fmin=LOWEST, fmax=HIGHEST, sr=RATE, frame_length=WINDOW, hop_length=HOP)
    log = np.log(f0)
    loud = mels.max(0)[: len(log)]
    steady = np.abs(np.diff(log, prepend=log[:1])) < 0.12
    voiced = steady & (loud > loud.max() - 30) & (f0 < HIGHEST - 10) & (f0 > LOWEST + 2)
    if voiced.sum() < 3:
        return np.full(len(log), UNVOICED)
    where = np.flatnonzero(voiced)
    return np.interp(np.arange(len(log)), where, log[where])


def on_frames(x: np.ndarray, times: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(F, T) at evenly spaced `times` to (N, F): the mean over each stretch between the N + 1 `edges`, in seconds."""
    step = times[1] - times[0]
    total = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, axis=1) * step], axis=1)
    knots = np.concatenate([times - step / 2, [times[-1] + step / 2]])
    integral = np.stack([np.interp(edges, knots, row) for row in total])
    width = np.diff(edges.clip(knots[0], knots[-1]))
    return np.ascontiguousarray((np.diff(integral, axis=1) / np.maximum(width, 1e-6)).T)


def sound_features(samples: np.ndarray, frames: int = 50) -> np.ndarray:
    """The features (frames, 33) of mono samples at `RATE`, over equal stretches of their whole length."""
    spectrum = _librosa().stft(samples, n_fft=WINDOW, hop_length=HOP)
    mels, mfcc, chroma = spectral(np.abs(spectrum).astype(np.float64) ** 2)
    x = np.concatenate([log_f0(samples, mels)[None, : mels.shape[1]], mfcc, chroma])
    times = np.arange(x.shape[1]) * HOP / RATE
    return on_frames(x, times, np.linspace(0, len(samples) / RATE, frames + 1)).astype(np.float32)


def read_sound(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """A sound file of any rate and number of channels as mono samples at `RATE`, and what was changed.

    Raises ValueError for a file that is no sound, too short or long for one utterance, silent, or not finite.
    """
    path = Path(path)
    try:
        import soundfile
    except ImportError:
        raise ValueError(f"reading a sound needs soundfile and librosa: {INSTALL}") from None
    said = []
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels, count = file.samplerate, file.channels, file.frames
            seconds = count / rate
            if not SHORTEST <= seconds <= LONGEST:
                raise ValueError(
                    f"{path.name}: it lasts {seconds:.2f} s; one utterance of {SHORTEST:g} to {LONGEST:g} s is needed"
                )
            samples = file.read(dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        reason = "it is not there" if not path.exists() else "it is no sound file that can be read (wav, flac, ogg)"
        raise ValueError(f"{path.name}: {reason}") from error
    if not np.isfinite(samples).all():
        raise ValueError(f"{path.name}: it holds samples that are not finite")
    if channels > 1:
        said.append(f"the mean of {channels} channels was taken")
    mono = samples.mean(axis=1)
    if np.abs(mono).max() < SILENCE:
        raise ValueError(f"{path.name}: it is silent; a spoken sentence is needed")
    if rate != RATE:
        said.append(f"resampled from {rate} to {RATE} Hz")
        if rate < 2 * HIGH:
            said.append(f"nothing is above {rate // 2} Hz in it, where the features go to {HIGH} Hz")
        mono = _librosa().resample(mono, orig_sr=rate, target_sr=RATE, res_type="soxr_hq")
    return np.ascontiguousarray(mono, dtype=np.float32), said


def _librosa():
    try:
        import librosa
    except ImportError:
        raise ValueError(f"features of a sound need librosa: {INSTALL}") from None
    return librosa
