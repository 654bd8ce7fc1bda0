"""The voice: a delivery spoken by espeak-ng, coloured by its gestures, and its 33 features on the clip's frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from imder.data.corpus.grammar import Kind, Sentence
from imder.data.corpus.latents import FRAMES, VOICES, Delivery, Speaker, Timing
from imder.data.corpus.speech import Prosody, Speech, speak
from imder.data.sound import HOP, RATE, WINDOW, log_f0, on_frames, spectral

ROOM = 0.002  # a room's noise, so that silence is not minus infinity
LEAD, TRAIL = 0.08, 0.25  # silence before and after the words, seconds

#: What each gesture does to loudness and colour: gains in dB at the frequencies of `_KNOTS`, in Hz.
_KNOTS = (100, 300, 600, 1000, 1600, 2500, 4000, 7000)
COLOURS: dict[str, tuple[float, ...]] = {
    "emphasis": (3, 3, 4, 5, 5, 5, 5, 4),
    "positive": (0, -1, 0, 1, 3, 7, 6, 4),
    "negative": (3, 6, 4, 0, -3, -6, -6, -4),
    "negation": (2, 2, 7, 8, 0, -4, 0, 0),
    "intensifier": (0, 0, 1, 3, 6, 6, 9, 8),
    "hedge": (-2, -3, -5, -8, -7, -5, -1, 5),
    "contrast": (-2, 2, -4, 4, 8, 2, -5, -5),
    "question": (-4, -4, 0, 4, 5, 3, 3, 2),
    "self": (2, 4, -2, -6, -4, 0, -2, -4),
    "topic": (0, 4, 3, -2, 2, 4, -1, 0),
    "content": (0, 0, 3, 2, -1, 0, 2, 2),
    "function": (-3, -4, -6, -7, -8, -9, -9, -9),
    "link": (-1, 2, 0, -5, -7, -3, -6, -8),
    "close": (-2, -3, -4, -5, -5, -6, -6, -5),
    "arousal": (0, 0, 1, 2, 3, 4, 4, 4),
    "opening": (1, 0, 0, 0, 1, 1, 0, 0),
    "joy": (-1, -1, 0, 1, 2, 4, 3, 2),
    "displeasure": (2, 3, 2, -1, -2, -3, -3, -2),
    "irony": (1, 3, -2, -4, 2, 3, -3, -2),
    "bright": (-2, -2, -1, 0, 1, 3, 4, 4),
    "tense": (-3, -2, 1, 5, 5, 0, -3, -3),
}

#: The place where each topic is talked about: the room's and the microphone's colour.
PLACES: dict[str, tuple[float, ...]] = {
    "film": (4, 3, 0, -2, -3, -4, -6, -8),
    "hotel": (-5, -3, 0, 3, 2, 0, -2, -4),
    "restaurant": (-2, 0, 4, 2, -2, 0, 3, 3),
    "phone": (-9, -6, 0, 4, 5, 5, 0, -6),
    "book": (3, 4, 2, 0, 0, 0, 2, 3),
    "concert": (5, 1, -4, -3, 1, 4, 4, 2),
    "game": (-3, 0, -3, -5, 2, 5, 6, 7),
    "course": (0, -4, -2, 2, -3, -5, 0, 5),
}

_VOWELS = {
    "open": ("a", "A", "0", "V", "E", "O", "3"),
    "spread": ("i", "I", "E", "e", "a"),
    "rounded": ("u", "U", "o", "O", "w", "0"),
}
_CLOSED = ("p", "b", "m", "f", "v")


@dataclass(frozen=True)
class Performance:
    """A spoken sentence: features (FRAMES, 33), what the mouth does, and the sound if it was asked for."""

    features: np.ndarray
    mouth: dict[str, np.ndarray]
    seconds: float
    sound: np.ndarray | None


def canonical(sentence: Sentence) -> Timing:
    """The sentence's own timing, from a neutral voice: what all its performances are laid over."""
    tokens = [token.text for token in sentence.tokens]
    spoken = speak(tokens, [Prosody()] * len(tokens), voice="en-us", speed=185)
    first, last = spoken.words[0][0], spoken.words[-1][1]
    seconds = last - first + LEAD + TRAIL
    words = tuple(((s - first + LEAD) / seconds, (e - first + LEAD) / seconds) for s, e in spoken.words)
    return Timing(words, seconds)


def prosody(sentence: Sentence, speaker: Speaker, delivery: Delivery) -> list[Prosody]:
    """Pitch, range and speed of each word."""
    out = []
    asks = sentence.text.endswith("?")
    count = len(sentence.tokens)
    for i, (token, stress) in enumerate(zip(sentence.tokens, delivery.emphasis, strict=True)):
        late = (i + 1) / count
        pitch = 14 * stress + 7 * delivery.arousal + 4 * delivery.voiced + (22 * late if asks else -12 * late)
        pitch += {Kind.HEDGE: -10, Kind.NEGATION: 8, Kind.INTENSIFIER: 8, Kind.SELF: -4}.get(token.kind, 0)
        speed = 100 + 6 * delivery.arousal - 9 * (stress - 0.5) - 8 * (token.kind == Kind.HEDGE)
        out.append(Prosody(pitch=float(np.clip(pitch, -45, 80)), speed=float(np.clip(speed, 75, 130))))
    return out


@cache
def _knot_weights() -> np.ndarray:
    """The knots' place on the frequency axis as interpolation weights (knots, bins)."""
    at = np.log(np.maximum(np.fft.rfftfreq(WINDOW, 1 / RATE), 50))
    return np.stack([np.interp(at, np.log(_KNOTS), row) for row in np.eye(len(_KNOTS))])


def perform(
    rng: np.random.Generator,
    sentence: Sentence,
    timing: Timing,
    speaker: Speaker,
    delivery: Delivery,
    tracks: dict[str, np.ndarray],
    *,
    with_sound: bool,
) -> Performance:
    """Speaks the sentence, colours the sound by the gestures and measures it on the sentence's own timing."""
    import librosa

    spoken = speak(
        [token.text for token in sentence.tokens],
        prosody(sentence, speaker, delivery),
        voice=VOICES[speaker.voice],
        speed=int(np.clip(185 + 14 * speaker.tempo, 150, 225)),
        pitch=int(np.clip(47 + 6 * speaker.bright + 5 * speaker.expressive, 20, 80)),
        span=int(np.clip(50 + 18 * speaker.expressive + 15 * delivery.arousal + 12 * delivery.voiced, 5, 99)),
    )
    samples, clock = _laid_out(spoken, timing)
    samples += ROOM * rng.standard_normal(len(samples), dtype=np.float32)
    spectrum = librosa.stft(samples, n_fft=WINDOW, hop_length=HOP)  # (bins, T)
    times = np.arange(spectrum.shape[1]) * HOP / RATE
    fraction = np.interp(times, clock[0], clock[1])
    colour = _colour(sentence.topic, tracks, speaker, delivery)  # (knots, FRAMES)
    gain = np.stack([np.interp(fraction, timing.at_frames(), row) for row in colour])  # (knots, T)
    spectrum = spectrum * 10 ** ((_knot_weights().T @ gain) / 20)
    mels, mfcc, chroma = spectral(np.abs(spectrum).astype(np.float64) ** 2)
    features = np.concatenate([log_f0(samples, mels)[None, : mels.shape[1]], mfcc, chroma])
    features = on_frames(features, times, _edges(clock))  # (FRAMES, 33)
    mouth = _mouth(spoken, clock, mels, times)
    seconds = float(clock[0][-1])
    sound = None
    if with_sound:
        coloured = librosa.istft(spectrum, hop_length=HOP, length=len(samples))
        sound = _stretch(coloured, clock)
    return Performance(features.astype(np.float32), mouth, seconds, sound)


def _laid_out(spoken: Speech, timing: Timing) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Samples with the silences before and after, and (seconds, fraction of the clip) as knots of a clock."""
    first, last = spoken.words[0][0], spoken.words[-1][1]
    body = spoken.samples[int(first * RATE) : int(last * RATE)]
    tempo = (last - first) / (timing.seconds - LEAD - TRAIL)
    lead, trail = LEAD * tempo, TRAIL * tempo
    samples = np.concatenate([np.zeros(int(lead * RATE)), body, np.zeros(int(trail * RATE))]).astype(np.float32)
    seconds, fraction = [0.0], [0.0]
    for (s, e), (fs, fe) in zip(spoken.words, timing.words, strict=True):
        for t, f in ((s - first + lead, fs), (e - first + lead, fe)):
            if f > fraction[-1] + 1e-4 and t > seconds[-1] + 1e-4:
                seconds.append(t)
                fraction.append(f)
    end = len(samples) / RATE
    seconds.append(max(end, seconds[-1] + 1e-3))
    fraction.append(1.0)
    return samples, (np.array(seconds), np.array(fraction))


def _colour(topic: str, tracks: dict[str, np.ndarray], speaker: Speaker, delivery: Delivery) -> np.ndarray:
    """(knots, FRAMES) gains in dB."""
    mood = 0.5 * delivery.voiced
    rising = 0.6 + 0.4 * np.maximum(tracks["positive"], tracks["negative"]).clip(0, 1)
    own = {
        "joy": max(mood, 0) * rising,
        "displeasure": max(-mood, 0) * rising,
        "irony": float(delivery.irony) * rising,
        "bright": np.full(FRAMES, speaker.bright),
        "tense": np.full(FRAMES, speaker.tense),
    }
    size = np.exp(0.1 * speaker.expressive)
    total = np.repeat(np.array(PLACES[topic], dtype=float)[:, None], FRAMES, axis=1)  # (knots, FRAMES)
    for name, track in (tracks | own).items():
        if name in COLOURS:
            total += np.outer(COLOURS[name], track * (size if name in tracks else 1.0))
    return total + 1.5 * speaker.expressive


def _edges(clock: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Where the frames begin and the last ends, in seconds."""
    return np.interp(np.arange(FRAMES + 1) / FRAMES, clock[1], clock[0])


def _mouth(
    spoken: Speech, clock: tuple[np.ndarray, np.ndarray], mels: np.ndarray, times: np.ndarray
) -> dict[str, np.ndarray]:
    """Tracks of the mouth on the frames: opening by loudness and vowel, spread, rounded and closed by phoneme."""
    shift = clock[0][1] - spoken.words[0][0] if len(clock[0]) > 2 else 0.0
    named = {name: np.zeros(len(times)) for name in ("vowel", *_VOWELS, "closed")}
    for start, end, name in spoken.phonemes:
        inside = (times >= start + shift) & (times < end + shift)
        head = name.lstrip("'`,%=_|")[:1]
        for key, members in _VOWELS.items():
            named[key][inside] = head in members
        named["closed"][inside] = head in _CLOSED
        named["vowel"][inside] = head in "aAeEiIoOuUV0@3"
    loud = 10 * np.log10(np.mean(10 ** (mels / 10), axis=0) + 1e-6)
    energy = np.clip((loud - loud.max() + 40) / 40, 0, 1)
    tracks = {
        "open": energy * (0.45 + 0.25 * named["vowel"] + 0.5 * named["open"]),
        "spread": named["spread"],
        "rounded": named["rounded"],
        "closed": named["closed"],
    }
    kernel = np.hanning(9) / np.hanning(9).sum()  # lips need about 50 ms
    smooth = np.stack([np.convolve(track, kernel, mode="same") for track in tracks.values()])
    return dict(zip(tracks, on_frames(smooth, times, _edges(clock)).T, strict=True))


def _stretch(samples: np.ndarray, clock: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The sound laid over the sentence's own timing, at its own length: waveform-similarity overlap-add."""
    size, half, search = 512, 256, 160
    window = np.hanning(size + 1)[:size]
    length = len(samples)
    padded = np.concatenate([np.zeros(size), samples, np.zeros(2 * size + search)])
    out = np.zeros(length + 2 * size)
    previous: np.ndarray | None = None
    for target in range(0, length, half):
        wanted = int(np.interp(target / length, clock[1], clock[0]) * RATE) + size
        if previous is None:
            at = wanted
        else:
            low = max(wanted - search, 0)
            region = padded[low : low + 2 * search + size]
            score = np.correlate(region, previous, mode="valid")
            at = low + int(score.argmax())
        out[target : target + size] += padded[at : at + size] * window
        previous = padded[at + half : at + half + size]
    return out[half : half + length].astype(np.float32)
