"""A clip from a recording of one's own: a sound, an OpenFace CSV and a sentence, in the features of the bundled corpus.

    python -m imder data extract --audio A.wav --face F.csv --text "The music was lovely." --out CLIP.npz

One or two of the three suffice: what is not given is a missing modality, which is what IMDer is for. All are laid on
the same frames over the clip's time: the sound's, else the face's, else what the words would take. The page Your data
does the same with the same function.
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
from imder.data.likeness import likeness
from imder.data.openface import Face, read_face
from imder.data.recording import Recording, open_recording
from imder.data.sentence import Sentences, sentences
from imder.modality import MODALITIES, NAMES

FRAMES = 50
#: A share of held-out clips that are nearer to the training clips, above which a sentence warns.
UNLIKE = 0.95


@dataclass(frozen=True)
class Extracted:
    """The clip, what was changed or assumed in sentences, and how far each modality is from the training clips.

    farther: by modality the share of held-out clips that are nearer to the training clips, 0 to 1.
    """

    clip: Clip
    said: tuple[str, ...]
    farther: dict[str, float]


def extract(
    data: FeatureSet,
    *,
    audio: Recording | str | Path | None = None,
    face: Face | str | Path | None = None,
    text: str | None = None,
    label: float | None = None,
    name: str = "recording",
    encoder: Encoder | None = None,
) -> Extracted:
    """A clip with the features of `data`, whose encoder reads the sentence; raises ValueError for what is not allowed.

    audio, face: opened, or the path of a file. encoder: that one, where it cannot be found by what the data set
    records. label: the sentiment, in the data set's range, if it is known.
    """
    given = {"text": text, "audio": audio, "vision": face}
    if all(value is None for value in given.values()):
        raise ValueError("nothing is given; a sound, a face or a sentence is needed")
    check_features(data, [k for k, value in given.items() if value is not None])
    if label is not None and not data.label_range[0] <= label <= data.label_range[1]:
        raise ValueError(f"label: {label:g} is not allowed; {data.label_range[0]:g} to {data.label_range[1]:g} is")
    if isinstance(audio, str | Path):
        audio = open_recording(audio)
    if isinstance(face, str | Path):
        face = read_face(face)
    features: dict[str, np.ndarray] = {}
    farther: dict[str, float] = {}
    said: list[str] = []
    seconds = None
    if audio is not None:
        seconds = audio.seconds
        features["audio"], pitched = sound.measured(audio.samples, FRAMES)
        changed = (*audio.said, f"a steady pitch was found in {pitched:.0%} of its loud moments (in noise: half)")
        said += [f"{NAMES['audio']}: {sentence}." for sentence in changed]
    if face is not None:
        said += [f"{NAMES['vision']}: {sentence}." for sentence in face.said]
        if audio is None:
            seconds = face.seconds
        elif not 0.5 < face.seconds / audio.whole < 2:
            raise ValueError(
                f"the face lasts {face.seconds:.2f} s and the sound {audio.whole:.2f} s; the same utterance is needed"
            )
        elif abs(face.seconds - audio.whole) > 0.2:
            said.append(
                f"The face lasts {face.seconds:.2f} s, the sound {audio.whole:.2f} s; the sound's time was taken."
            )
        features["vision"] = face.features(seconds, FRAMES, audio.begin if audio is not None else 0.0)
    words = ()
    frames = FRAMES
    if text is not None:
        knows = sentences(data) if encoder is None else Sentences(data, encoder)
        one = knows.say(text, audio.spoken if audio is not None else None)
        if not features:
            frames = len(one.clip.features["audio"])
        features["text"], words = one.clip.features["text"], one.clip.words
        text = one.clip.text
        seconds = one.clip.seconds if seconds is None else seconds
        farther["text"] = one.farther
        if knows.clock is not None:
            where = "between the first and the last loud frame" if audio is not None else "over the clip"
            said.append(f"{NAMES['text']}: how long each word takes is a rule's, laid {where}; it was not measured.")
        else:
            said.append(
                f"{NAMES['text']}: a frame a {'word' if knows.laid == 'words' else 'piece'}, as {data.name} has it."
            )
        if one.unseen:
            said.append(f"{NAMES['text']}: nowhere in the corpus: {', '.join(one.unseen)}.")
    farther |= {k: likeness(data, k).farther(features[k]) for k in ("audio", "vision") if k in features}
    said = [unlike(k, farther[k]) for k in MODALITIES if k in farther] + said
    absent = tuple(k for k in MODALITIES if k not in features)
    stand_in = {k: np.zeros((frames, data.feature_dims[k]), dtype=np.float32) for k in absent}
    clip = Clip(
        id=f"{name}$_$0",
        video=name,
        index=0,
        text=text or "",
        features=features | stand_in,
        label=math.nan if label is None else float(label),
        words=words,
        seconds=None if seconds is None else round(seconds, 3),
        absent=absent,
    )
    return Extracted(clip, tuple(said), farther)


def check_features(data: FeatureSet, given: list[str]) -> None:
    """Refuses a data set whose features are not those that are extracted here, in the modalities that are given."""
    ours = {"audio": sound.NAMES, "vision": openface.NAMES}
    for k, names in ours.items():
        if k in given and tuple(data.feature_names[k]) != names:
            raise ValueError(
                f"the {NAMES[k].lower()} of {data.name!r} has other features than are extracted here "
                f"({len(names)}, from {names[0]} to {names[-1]}); the bundled data set has these"
            )


def unlike(k: str, share: float) -> str:
    """How far from the training clips, in a sentence."""
    known = "all" if share == 1 else f"{math.floor(1000 * share) / 10:g} %"
    what = "its words are" if k == "text" else "by the means and spreads of its features, taken together, it is"
    text = f"{NAMES[k]}: {what} farther from the training clips than {known} of the test clips are"
    if share < UNLIKE:
        return f"{text}, so of the kind that the model knows."
    return f"{text}; the model has learned from nothing like it, so what is recovered from it is a guess."
