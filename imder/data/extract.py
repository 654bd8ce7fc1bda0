"""A clip from a recording of one's own: a sound, an OpenFace CSV and a sentence, in the features of the bundled corpus.

    python -m imder data extract --audio A.wav --face F.csv --text "The music was lovely." --out CLIP.npz

One or two of the three suffice: what is not given is a missing modality, which is what IMDer is for. All are laid on
the same frames over the clip's time: the sound's, else the face's, else what the words would take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imder.data import openface, sound
from imder.data.clip import Clip
from imder.data.dataset import FeatureSet
from imder.data.encoder import Encoder
from imder.data.sentence import Sentences, sentences
from imder.modality import MODALITIES, NAMES

FRAMES = 50
#: A frame that is within so many decibels of the loudest is speech.
SPOKEN = 30.0


@dataclass(frozen=True)
class Extracted:
    """The clip, and what was changed or assumed, in sentences."""

    clip: Clip
    said: tuple[str, ...]


def extract(
    data: FeatureSet,
    *,
    audio: str | Path | None = None,
    face: str | Path | None = None,
    text: str | None = None,
    label: float | None = None,
    name: str = "recording",
    encoder: Encoder | None = None,
) -> Extracted:
    """A clip with the features of `data`, whose encoder reads the sentence; raises ValueError for what is not allowed.

    encoder: that one, where it cannot be found by what the data set records. label: the sentiment, in the data set's
    range, if it is known.
    """
    given = {"text": text, "audio": audio, "vision": face}
    if all(value is None for value in given.values()):
        raise ValueError("nothing is given; a sound, a face or a sentence is needed")
    _check_features(data, given)
    if label is not None and not data.label_range[0] <= label <= data.label_range[1]:
        raise ValueError(f"label: {label:g} is not allowed; {data.label_range[0]:g} to {data.label_range[1]:g} is")
    features: dict[str, np.ndarray] = {}
    said: list[str] = []
    seconds = spoken = None
    if audio is not None:
        samples, changed = sound.read_sound(audio)
        said += [f"{NAMES['audio']}: {sentence}." for sentence in changed]
        seconds = len(samples) / sound.RATE
        features["audio"] = sound.sound_features(samples, FRAMES)
        spoken = speech_span(samples)
    if face is not None:
        track = openface.read_face(face)
        said += [f"{NAMES['vision']}: {sentence}." for sentence in track.said]
        end = float(track.times[-1] + np.median(np.diff(track.times)))
        if seconds is None:
            seconds = end
        elif not 0.5 < end / seconds < 2:
            raise ValueError(f"the face lasts {end:.2f} s and the sound {seconds:.2f} s; the same utterance is needed")
        elif abs(end - seconds) > 0.2:
            said.append(f"The face lasts {end:.2f} s, the sound {seconds:.2f} s; the sound's time was taken.")
        features["vision"] = track.features(seconds, FRAMES)
    words = ()
    frames = FRAMES
    if text is not None:
        knows = sentences(data) if encoder is None else Sentences(data, encoder)
        one = knows.say(text, spoken)
        if not features:
            frames = len(one.clip.features["audio"])
        features["text"], words = one.clip.features["text"], one.clip.words
        seconds = one.clip.seconds if seconds is None else seconds
        where = "between the first and the last loud frame" if spoken else "over the clip"
        if knows.clock is not None:
            said.append(f"{NAMES['text']}: how long each word takes is a rule's, laid {where}; it was not measured.")
        else:
            said.append(
                f"{NAMES['text']}: a frame a {'word' if knows.laid == 'words' else 'piece'}, as {data.name} has it."
            )
    absent = tuple(k for k in MODALITIES if k not in features)
    stand_in = {k: np.zeros((frames, data.feature_dims[k]), dtype=np.float32) for k in absent}
    clip = Clip(
        id=f"{name}$_$0",
        video=name,
        index=0,
        text=" ".join(text.split()) if text is not None else "",
        features=features | stand_in,
        label=math.nan if label is None else float(label),
        words=words,
        seconds=None if seconds is None else round(seconds, 3),
        absent=absent,
    )
    return Extracted(clip, tuple(said))


def _check_features(data: FeatureSet, given: dict[str, object]) -> None:
    """Refuses a data set whose features are not those that are extracted here."""
    ours = {"audio": sound.NAMES, "vision": openface.NAMES}
    for k, names in ours.items():
        if given[k] is not None and tuple(data.feature_names[k]) != names:
            raise ValueError(
                f"the {NAMES[k].lower()} of {data.name!r} has other features than are extracted here "
                f"({len(names)}, from {names[0]} to {names[-1]}); the bundled data set has these"
            )


def speech_span(samples: np.ndarray) -> tuple[float, float]:
    """Where speech begins and ends in a sound at `sound.RATE`, as fractions: the loud frames' first and last."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, sound.WINDOW // 2), sound.WINDOW)[:: sound.HOP]
    level = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    loud = np.flatnonzero(level > level.max() - SPOKEN)
    first, last = loud[0] * sound.HOP / len(samples), (loud[-1] + 1) * sound.HOP / len(samples)
    return float(first), float(min(max(last, first + 0.05), 1.0))
