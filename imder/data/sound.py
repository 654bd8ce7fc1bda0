"""33 features of a sound, as CH-SIMS has them: log F0, 20 MFCC, 12 chroma, with librosa (needed here, nowhere else)."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from soundfile import SoundFile

RATE = 22_050  # Hz
NAMES = ("log_f0", *(f"mfcc_{i}" for i in range(20)), *(f"chroma_{i}" for i in range(12)))
HOP, WINDOW, MELS = 220, 1024, 40
LOW, HIGH = 60, 8000  # Hz, the ends of the mel bands
LOWEST, HIGHEST = 60, 420  # Hz, of the pitch
UNVOICED = float(np.log(150.0))  # where no frame has a pitch

SHORTEST, LONGEST = 0.3, 60.0  # seconds of a recording
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 4_000, 192_000, 8
SILENCE = 1e-4  # peak of a sound in which nothing can be heard
BLOCK = 65_536  # samples of each channel that are read at a time
INSTALL = "pip install librosa==0.11.0 soundfile==0.14.0 soxr==1.1.0"
PACKAGES = ("soundfile", "librosa", "soxr")


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


def pitch(samples: np.ndarray, mels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T,) natural log of the pitch in Hz, and (T,) bool: the frames where it is one, loud and steady."""
    f0 = _librosa().yin(samples, fmin=LOWEST, fmax=HIGHEST, sr=RATE, frame_length=WINDOW, hop_length=HOP)
    log = np.log(f0)
    loud = mels.max(0)[: len(log)]
    steady = np.abs(np.diff(log, prepend=log[:1])) < 0.12
    return log, steady & (loud > loud.max() - 30) & (f0 < HIGHEST - 10) & (f0 > LOWEST + 2)


def log_f0(samples: np.ndarray, mels: np.ndarray) -> np.ndarray:
    """(T,) natural log of the pitch in Hz over voiced frames, interpolated between them."""
    return _over(*pitch(samples, mels))


def _over(log: np.ndarray, voiced: np.ndarray) -> np.ndarray:
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
    return measured(samples, frames)[0]


def measured(samples: np.ndarray, frames: int = 50) -> tuple[np.ndarray, float]:
    """`sound_features`, and in what share of the moments that are loud a pitch was found."""
    spectrum = _librosa().stft(samples, n_fft=WINDOW, hop_length=HOP)
    mels, mfcc, chroma = spectral(np.abs(spectrum).astype(np.float64) ** 2)
    log, voiced = pitch(samples, mels)
    loud = mels.max(0)[: len(log)]
    found = float(voiced.sum() / max((loud > loud.max() - 30).sum(), 1))
    x = np.concatenate([_over(log, voiced)[None, : mels.shape[1]], mfcc, chroma])
    times = np.arange(x.shape[1]) * HOP / RATE
    features = on_frames(x, times, np.linspace(0, len(samples) / RATE, frames + 1))
    return features.astype(np.float32), found


def missing_packages() -> str | None:
    """What to install where a sound cannot be read, as a sentence; None where it can."""
    absent = [package for package in PACKAGES if find_spec(package) is None]
    return f"Reading a sound needs {' and '.join(absent)}: {INSTALL}" if absent else None


def is_sound(head: bytes) -> bool:
    """Whether a file that begins with these (at least 12) bytes says it is a wav, flac, ogg or mp3."""
    wav = head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"
    mp3 = head[:3] == b"ID3" or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE6 == 0xE2)
    return wav or mp3 or head[:4] in (b"fLaC", b"OggS")


def read_sound(path: str | Path, name: str | None = None) -> tuple[np.ndarray, list[str]]:
    """A wav, flac, ogg or mp3 of any usual rate and number of channels as mono samples at `RATE`, and what was changed.

    name: what the file is called in sentences. Raises ValueError for a file that is no sound, too short or long for
    one utterance, silent, or not finite. What a header claims costs nothing: a file is read in blocks.
    """
    path = Path(path)
    name = name or path.name
    if sentence := missing_packages():
        raise ValueError(f"{sentence[:1].lower()}{sentence[1:]}")
    import soundfile

    said: list[str] = []
    try:
        with path.open("rb", buffering=0) as stream:
            if not is_sound(stream.read(12)):
                raise ValueError(f"{name}: it is no wav, flac, ogg or mp3; save the sound as one of these")
            stream.seek(0)
            # by its number: a name would let soundfile guess the format from the ending
            with soundfile.SoundFile(stream.fileno(), closefd=False) as file:
                rate, channels = _checked(file, name)
                mono = _blocks(file, name)
                guessed = file.format in ("MP3", "MPEG")  # whose header does not count the samples
                lost = 0.0 if guessed else (file.frames - len(mono)) / rate
    except (OSError, soundfile.SoundFileError) as error:
        reason = "it is not there" if not path.exists() else "it is no whole sound file (wav, flac, ogg or mp3)"
        raise ValueError(f"{name}: {reason}") from error
    if lost > 0.1:
        said.append(f"it ends {lost:.1f} s before it says")
    if not np.isfinite(mono).all():
        raise ValueError(f"{name}: it holds samples that are not finite")
    if channels > 1:
        said.append(f"the mean of {channels} channels was taken")
    peak = float(np.abs(mono).max(initial=0.0))
    if peak < SILENCE:
        raise ValueError(f"{name}: it is silent; a spoken sentence is needed")
    if peak > 2:
        said.append(f"turned down, as it was {peak:.3g} times louder than a sound can be")
        mono /= peak
    if rate != RATE:
        said.append(f"resampled from {rate} to {RATE} Hz")
        if rate < 2 * HIGH:
            said.append(f"nothing is above {rate // 2} Hz in it, where the features go to {HIGH} Hz")
        mono = _librosa().resample(mono, orig_sr=rate, target_sr=RATE, res_type="soxr_hq")
    return np.ascontiguousarray(mono, dtype=np.float32), said


def _checked(file: SoundFile, name: str) -> tuple[int, int]:
    """Rate and channels of an opened file, whose header promises one utterance."""
    rate, channels, seconds = file.samplerate, file.channels, file.frames / max(file.samplerate, 1)
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"{name}: it has {rate} samples a second; {LOWEST_RATE} to {HIGHEST_RATE} are read")
    if not 1 <= channels <= MOST_CHANNELS:
        raise ValueError(f"{name}: it has {channels} channels; at most {MOST_CHANNELS} are read")
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"{name}: it lasts {seconds:.2f} s; one utterance of {SHORTEST:g} to {LONGEST:g} s is needed")
    return rate, channels


def _blocks(file: SoundFile, name: str) -> np.ndarray:
    """The mean of all channels, (N,) float32; what is there counts, not what the header says."""
    most, parts, count = int(LONGEST * file.samplerate), [], 0
    while count <= most:
        block = file.read(BLOCK, dtype="float32", always_2d=True)
        if not len(block):
            break
        with np.errstate(all="ignore"):  # what is not finite is told later
            parts.append(block.mean(axis=1))
        count += len(block)
    seconds = count / file.samplerate
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"{name}: {seconds:.2f} s are in it; one utterance of {SHORTEST:g} to {LONGEST:g} s is needed")
    return np.concatenate(parts)


def _librosa():
    try:
        import librosa
    except ImportError:
        raise ValueError(f"features of a sound need librosa: {INSTALL}") from None
    return librosa
