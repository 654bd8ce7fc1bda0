"""What a performance is made of: a speaker, a delivery of one sentence, and the gestures that voice and face share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from imder.data.corpus.grammar import Kind, Sentence

FRAMES = 50

#: espeak-ng's voices, from the lowest and darkest to the highest and brightest.
VOICES: tuple[str, ...] = (
    "en-gb-scotland+m1", "en-us+m1", "en-us+Andy", "en-us+m4", "en-us+m2", "en-gb-scotland+m4", "en-gb-scotland+m6",
    "en-us+klatt2", "en-us+m3", "en-gb-scotland+m3", "en-gb-scotland+m7", "en-us+m7", "en-gb-scotland+f1", "en-us+f4",
    "en-us+f1", "en-gb-scotland+f4", "en-us+f2", "en-gb-scotland+f2", "en-us+f3", "en-gb-scotland+f3", "en-us+linda",
    "en-us+Annie", "en-us+f5",
)  # fmt: skip


@dataclass(frozen=True)
class Speaker:
    """Traits of one person; all but `voice` are standard normal."""

    voice: int  # index into VOICES
    expressive: float  # pitch range, loudness; brows, eyes, head: everything larger
    bright: float  # a brighter, higher voice; raised head and cheeks
    tense: float  # a pressed voice; tightened lids and lips
    tempo: float
    posture: np.ndarray  # (22,) habits of the face that the voice does not tell

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Speaker:
        """A person at random."""
        expressive, bright, tense, tempo = rng.normal(size=4)
        place = NormalDist().cdf(0.92 * bright + 0.39 * rng.normal())
        voice = min(int(place * len(VOICES)), len(VOICES) - 1)
        return cls(voice, expressive, bright, tense, tempo, rng.normal(size=22))


@dataclass(frozen=True)
class Delivery:
    """How a speaker says one sentence this time."""

    expressed: float  # the sentiment that voice and face are about, [-3, 3]
    voiced: float  # as it comes out in the voice
    shown: float  # as it comes out in the face
    arousal: float
    irony: bool
    emphasis: np.ndarray  # (words,) 0 to about 2

    @classmethod
    def draw(cls, rng: np.random.Generator, sentence: Sentence, speaker: Speaker) -> Delivery:
        """p(delivery | sentence, speaker): depends on the words through their kinds and the sentence's sentiment."""
        s = sentence.sentiment
        irony = bool(rng.random() < 0.08 and abs(s) > 1.0)
        expressed = -0.7 * s if irony else 0.6 * s
        expressed = float(np.clip(expressed + rng.normal(0, 0.9), -3, 3))
        voiced, shown = expressed + rng.normal(0, (0.5, 1.4))
        exclaims = sentence.text.endswith("!")
        arousal = 0.55 * speaker.expressive + 0.3 * (abs(expressed) - 1.2) + 0.7 * exclaims + rng.normal(0, 0.5)
        base = np.array([EMPHASIS[token.kind] for token in sentence.tokens])
        strong = np.array([abs(token.valence) for token in sentence.tokens]) / 2.8
        emphasis = (base + 0.5 * strong) * np.exp(0.2 * rng.normal(size=len(base)) + 0.15 * arousal)
        return cls(expressed, float(voiced), float(shown), float(arousal), irony, emphasis)


#: How strongly a word of each kind is stressed.
EMPHASIS: dict[Kind, float] = {
    Kind.FUNCTION: 0.0, Kind.SELF: 0.15, Kind.CONTENT: 0.45, Kind.TOPIC: 0.65, Kind.POSITIVE: 0.9, Kind.NEGATIVE: 0.9,
    Kind.INTENSIFIER: 1.3, Kind.HEDGE: 0.3, Kind.NEGATION: 1.2, Kind.CONTRAST: 0.8, Kind.QUESTION: 0.9, Kind.LINK: 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """When each word sounds, as fractions of the clip: a function of the text alone, shared by all performances."""

    words: tuple[tuple[float, float], ...]
    seconds: float

    def at_frames(self) -> np.ndarray:
        """(FRAMES,) the middle of each frame."""
        return (np.arange(FRAMES) + 0.5) / FRAMES


def bump(at: np.ndarray, start: float, end: float, rise: float, fall: float) -> np.ndarray:
    """Onset, apex from start to end, offset: smooth, 0 to 1."""
    up = np.clip((at - (start - rise)) / rise, 0, 1)
    down = np.clip(((end + fall) - at) / fall, 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * up)) * (0.5 - 0.5 * np.cos(np.pi * down))


#: The gestures that voice and face both make, each a track over the frames.
TRACKS = (
    "emphasis", "positive", "negative", "negation", "intensifier", "hedge", "contrast", "question", "self", "topic",
    "content", "function", "link", "speech", "close", "arousal", "opening",
)  # fmt: skip


def gestures(sentence: Sentence, timing: Timing, delivery: Delivery) -> dict[str, np.ndarray]:
    """Tracks (FRAMES,) that voice and face share, of order one.

    `positive` and `negative` follow each word's own sense, turned around under irony.
    """
    at = timing.at_frames()
    tick = 0.08 / timing.seconds  # an onset takes 80 ms
    tracks = {name: np.zeros(FRAMES) for name in TRACKS}
    for token, (start, end), stress in zip(sentence.tokens, timing.words, delivery.emphasis, strict=True):
        shape = bump(at, start, end, tick, tick)
        tracks["emphasis"] = np.maximum(tracks["emphasis"], stress * shape)
        tracks["speech"] = np.maximum(tracks["speech"], bump(at, start, end, 0.3 * tick, 0.3 * tick))
        if token.kind in (Kind.POSITIVE, Kind.NEGATIVE):
            lasting = bump(at, start, end, 1.5 * tick, 4 * tick) * abs(token.valence) / 2
            name = "positive" if (token.valence > 0) != delivery.irony else "negative"
            tracks[name] = np.maximum(tracks[name], lasting)
        elif token.kind.value in tracks:
            tracks[token.kind.value] = np.maximum(tracks[token.kind.value], shape * (0.5 + 0.5 * stress))
    if sentence.text.endswith("?"):
        tracks["question"] = np.maximum(tracks["question"], np.clip((at - 0.4) / 0.5, 0, 1))
    last = timing.words[-1][1]
    tracks["close"] = bump(at, last - 1.5 * tick, 1.0, 3 * tick, 1.0)
    tracks["opening"] = bump(at, 0.0, timing.words[0][1], 0.01, 3 * tick)
    tracks["arousal"] = np.full(FRAMES, delivery.arousal)
    return tracks


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], width: float) -> np.ndarray:
    """Unit-variance noise along the last axis, smoothed by a Gaussian of that width in frames."""
    reach = int(4 * width) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    white = rng.normal(size=(*shape[:-1], shape[-1] + 2 * reach))
    return np.apply_along_axis(np.convolve, -1, white, kernel, mode="valid")
