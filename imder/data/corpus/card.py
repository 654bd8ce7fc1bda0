"""The corpus card: README.md beside the data."""

from __future__ import annotations

from imder.data.corpus.grammar import FRAMES as SENTENCE_FRAMES
from imder.data.corpus.latents import VOICES
from imder.data.corpus.report import measure
from imder.data.dataset import FeatureSet

_CARD = """# Spoken opinions (synthetic)

{clips} clips of people who say what they think of a film, a hotel, a phone ... **No person is in it**: a program of this
project wrote the sentences, espeak-ng speaks them, and the face is a list of numbers that can be drawn. It exists so that
everything here runs with no download; a result on it says nothing about MOSI, MOSEI or CH-SIMS.

`python -m imder data build --seed {seed} --clips {train} {valid} {test}` writes this folder again, the same bytes on the
same machine with the same package versions (`requirements-dev.txt`; it needs the espeak-ng library).
`python -m imder data info bundled --measure` prints the tables below.

## What a clip is

A sentence, its sentiment (the label, -3 to 3), and 50 frames, the same 50 for all three modalities:

| | width | what |
|---|---|---|
| text | 64 | last hidden states of all-MiniLM-L6-v2, averaged a word, in {explained} leading principal directions of the training words, turned so that all channels have about the same variance; a frame holds the word that sounds there, a pause the nearest word |
| audio | 33 | librosa: log pitch (yin, interpolated where unvoiced), 20 MFCC, energy in 12 pitch classes (dB) |
| vision | 22 | OpenFace's names: 17 action units (0 to 5), head pose and gaze (radians) |

{train} / {valid} / {test} clips for training, validation and test, in {videos} videos of one speaker each; no speaker is in
two splits. Each test clip has its sound (Opus). `vocabulary.*` are the distinct words and their mean vectors,
`encoder.safetensors` takes a word's hidden state (384) into the 64 channels. In a clip's `extra`: the sentiment of its
words alone and of its manner, arousal, irony, and for four clips `example`, why to look at it.

**Timing.** When each word sounds, as fractions of the clip, follows from the sentence alone (a neutral voice says it
first). Each performance has its own pace word by word; its frames are laid over the sentence's timing piece by piece, and
the stored sound is stretched in the same way, so the fractions in `words` hold for features, face and sound alike;
`seconds` is the performance's own length.

## How it is made

1. **Sentence.** A grammar of {frames} frames over eight topics: sentiment words of several strengths, intensifiers,
   hedges, negation, contrast, questions, exclamations, neutral ones. Its sentiment follows from its words. Within a video
   the wanted sentiment drifts.
2. **Delivery**, given the sentence: what voice and face express is the words' sentiment and a deviation of its own, in
   8 % of the strong sentences its opposite (irony); arousal; a stress a word. The label mixes words and manner.
3. **Speaker**: one of {voices} voices and four traits that voice and face share (expressive, bright, tense, tempo): a bright
   speaker's voice is higher and the head is up.
4. **Gestures**: each kind of word (negation, intensifier, hedge, the topic, I ...) has a small gesture, timed to the word,
   that both the voice (loudness, pitch, colour) and the face (brows, nod, tilt, gaze) make; so have sentiment words,
   questions, pauses (blink, lips closed) and the end of the sentence. The topic sets the place: the room's colour and
   where the speaker looks.
5. **Voice**: espeak-ng with a pitch and a speed a word, then a filter in time and frequency for loudness and colour, and
   a room's noise.
6. **Face**: gestures, mood, habits, smooth jitter, and a mouth that follows the loudness and the phonemes.

**Re-performances.** `redraws.safetensors` holds {draws} more performances (voice and face) of {redrawn} test sentences: a fresh
speaker and delivery for the same sentence. As timing and text features depend on the sentence alone, they are exact draws
from p(voice, face | language).

## Measured

{measured}

## Limits

Voices are formant synthesis, the gestures are more regular than people's, the language is narrow. Linear readers see
little of the language in the voice; words can be heard in the MFCC, but only by a reader that is not linear.

## Whose work

Sentences, gestures and numbers: this project, under its licence. Speech was made with espeak-ng (GPL-3.0-or-later, a tool;
its voices' output is not covered by it) and its variants of the voices en-us and en-gb-scotland. Language features were
made with sentence-transformers' all-MiniLM-L6-v2 (Apache-2.0).
"""


def card(data: FeatureSet, *, seed: int) -> str:
    """The card with the figures of this data set."""
    sizes = {split: len(data.split(split)) for split in data.splits}
    draws = len(data.redraws(data.redraw_ids[0])["audio"]) if data.redraw_ids else 0
    return _CARD.format(
        clips=f"{len(data):,}",
        seed=seed,
        explained=data.feature_dims["text"],
        videos=sum(len(data.videos(split)) for split in data.splits),
        frames=len(SENTENCE_FRAMES),
        voices=len(VOICES),
        draws=draws,
        redrawn=len(data.redraw_ids),
        measured=measure(data),
        **sizes,
    )
