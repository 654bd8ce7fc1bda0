"""The sentences: a small grammar of opinions whose sentiment follows from their words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Kind(StrEnum):
    """What a word does in the sentence; voice and face treat each kind in its own way."""

    FUNCTION = "function"
    SELF = "self"  # I, my, we
    CONTENT = "content"
    TOPIC = "topic"  # what the opinion is about
    POSITIVE = "positive"
    NEGATIVE = "negative"
    INTENSIFIER = "intensifier"
    HEDGE = "hedge"
    NEGATION = "negation"
    CONTRAST = "contrast"
    QUESTION = "question"
    LINK = "link"  # was, is: between the topic and what is said of it


@dataclass(frozen=True)
class Token:
    """A word as it is written, punctuation attached, with its kind and its own sentiment."""

    text: str
    kind: Kind
    valence: float = 0.0

    @property
    def word(self) -> str:
        """The word alone."""
        return self.text.strip(".,!?")


@dataclass(frozen=True)
class Sentence:
    """A sentence, its sentiment in [-3, 3] as its words have it, its topic, and which frame made it."""

    tokens: tuple[Token, ...]
    sentiment: float
    topic: str
    frame: int

    @property
    def text(self) -> str:
        """The sentence as it is read."""
        return " ".join(token.text for token in self.tokens)


# -- words ------------------------------------------------------------------------------------------------------------

TOPICS = {
    "film": ("story", "ending", "script", "cast", "score", "dialogue", "picture", "first half"),
    "hotel": ("room", "view", "breakfast", "reception", "bed", "pool", "lobby", "service"),
    "restaurant": ("soup", "menu", "waiter", "kitchen", "salad", "dessert", "table", "wine"),
    "phone": ("screen", "battery", "camera", "speaker", "keyboard", "charger", "design", "menu bar"),
    "book": ("plot", "prologue", "opening", "cover", "last chapter", "hero", "style", "translation"),
    "concert": ("band", "singer", "sound", "crowd", "stage", "drummer", "encore", "hall"),
    "game": ("level", "controller", "map", "artwork", "tutorial", "mission", "final boss", "soundtrack"),
    "course": ("teacher", "lecture", "workbook", "textbook", "exam", "project", "schedule", "handbook"),
}

ADJECTIVES = {
    "wonderful": 2.6, "brilliant": 2.7, "fantastic": 2.8, "beautiful": 2.3, "excellent": 2.6, "amazing": 2.8,
    "delightful": 2.3, "superb": 2.7, "great": 2.1, "lovely": 2.0, "charming": 1.7, "impressive": 1.8, "clever": 1.5,
    "good": 1.5, "fresh": 1.2, "pleasant": 1.3, "solid": 1.0, "decent": 0.8, "fine": 0.6, "nice": 1.2,
    "ordinary": -0.3, "plain": -0.4, "slow": -0.9, "odd": -0.6, "predictable": -1.0, "weak": -1.3, "dull": -1.5,
    "boring": -1.8, "bad": -1.7, "poor": -1.7, "clumsy": -1.4, "annoying": -1.8, "messy": -1.3, "disappointing": -1.9,
    "sloppy": -1.7, "awful": -2.5, "terrible": -2.6, "horrible": -2.7, "dreadful": -2.6, "useless": -2.4,
    "ugly": -2.0, "painful": -2.1, "pathetic": -2.6,
}  # fmt: skip
LIKINGS = {
    "loved": 2.6, "adored": 2.7, "enjoyed": 1.8, "liked": 1.4, "admired": 1.6, "appreciated": 1.3,
    "hated": -2.7, "despised": -2.7, "disliked": -1.6, "regretted": -1.8, "resented": -1.9,
}  # fmt: skip
NOUNS = {
    "triumph": 2.5, "masterpiece": 2.8, "joy": 2.3, "delight": 2.3, "pleasure": 1.9, "treat": 1.7, "surprise": 0.9,
    "disaster": -2.7, "nightmare": -2.5, "failure": -2.2, "mess": -1.8, "letdown": -1.9, "disgrace": -2.5, "bore": -1.6,
}  # fmt: skip
INTENSIFIERS = {
    "really": 1.2, "very": 1.2, "truly": 1.25, "absolutely": 1.35, "so": 1.2, "simply": 1.1, "incredibly": 1.35,
}  # fmt: skip
VERB_INTENSIFIERS = {"really": 1.2, "truly": 1.25, "absolutely": 1.3, "rather": 0.8, "mostly": 0.7}
ADJECTIVE_INTENSIFIERS = {"really": 1.2, "truly": 1.25, "very": 1.2, "incredibly": 1.35, "fairly": 0.7}
HEDGES = {"quite": 0.85, "rather": 0.8, "fairly": 0.7, "somewhat": 0.55, "slightly": 0.45, "mostly": 0.8}
NEUTRAL = ("standard", "typical", "familiar", "usual", "average", "common")
TIMES = ("yesterday", "last night", "on Monday", "last week", "in March", "two days ago")
PEOPLE = ("my sister", "my brother", "a friend", "my neighbour", "my father", "my wife")

_SELF = {"i", "my", "me", "we", "our", "us", "i'm"}
_NEGATION = {"not", "never", "no", "nothing", "nobody", "wasn't", "didn't", "don't", "can't", "wouldn't", "hardly"}
_CONTRAST = {"but", "although", "yet", "still", "however", "though", "despite", "except"}
_QUESTION = {"who", "why", "how", "what", "where", "when"}
_LINK = {"was", "were", "is", "are", "be"}
_FUNCTION = {
    "the", "a", "an", "of", "in", "on", "at", "to", "for", "with", "and", "or", "as", "it", "its", "it's", "that",
    "this", "these", "been", "had", "has", "have", "did", "do", "does", "by", "from", "about", "than", "there",
    "they", "them", "he", "she", "his", "her", "you", "your", "so", "if", "then", "all", "every", "each", "one",
    "would", "could", "will", "can", "should", "up", "out", "into", "after", "before", "while", "because", "some",
    "any", "which", "just",
}  # fmt: skip

# -- frames -----------------------------------------------------------------------------------------------------------
# {t} what it is about, {a} {b} its parts, {x} an intensifier or hedge for the slot after it (before a verb {xv}, after
# an article {xa}), {+} {-} {adj} adjectives by sign, {like} {noun} {feeling} likewise, {same} {opposite} an adjective
# of the first one's sign or the other, {0} a neutral adjective. A number after a colon is the slot's weight.

FRAMES: tuple[str, ...] = (
    "the {a} was {x} {adj}.",
    "the {a} of this {t} was {x} {adj}.",
    "I {like} the {a} of this {t}.",
    "I {xv} {like} this {t}.",
    "honestly, I {xv} {like} the {a}.",
    "the whole {t} was a {noun}.",
    "for me the {a} was a {noun}.",
    "it was a {noun} from start to finish.",
    "the {a} was {adj:.45}, and the {b} was {x} {same:.75}.",
    "the {a} was {x} {-:.3}, but the {b} was {+:1}.",
    "the {a} was {x} {+:.3}, but the {b} was {-:1}.",
    "it was {-:.3} at first, but in the end I {like+:1} it.",
    "it was {+:.3} at first, but in the end I {like-:1} it.",
    "although the {a} was {-:.3}, I {x} {like+:.9} the {t}.",
    "although the {a} was {+:.3}, I {x} {like-:.9} the {t}.",
    "the {a} was not very {+:-.6}.",
    "the {a} was not {-:-.5} at all.",
    "this {t} is not {+:-.75}, and the {a} is {x} {-:.5}.",
    "I never {like+:.9} a {a} more than this one.",
    "I did not think the {a} was {+:-.75}.",
    "nobody could call this {t} {+:-.9}.",
    "nobody could call this {t} {-:-.6}.",
    "there is nothing {+:-.95} about the {a}.",
    "there is nothing {-:-.6} about the {a}.",
    "what a {xa} {adj} {t}!",
    "what a {noun} this {t} was!",
    "how could anyone call this {a} {+:-.8}?",
    "how could anyone call this {a} {-:-.7}?",
    "who would not love a {a} this {+}?",
    "why is the {a} always so {-}?",
    "why was the {a} this {x} {-}?",
    "{person} said the {a} was {x} {adj:.9}.",
    "{person} and I {xv} {like} the {t} {time}.",
    "I chose the {t} {time}, and the {a} was {x} {adj}.",
    "I tried the {t} {time}, and it was {x} {adj}.",
    "you will find the {a} {x} {adj:.9}.",
    "every {a} here is {x} {adj}.",
    "I would call the {a} {x} {adj:.95}.",
    "the {a} made me {x} {feeling}.",
    "after the {t} I felt {x} {feeling}.",
    "I left the {t} feeling {x} {feeling}.",
    "with a {a} this {adj:.9}, I was {x} {feeling=:.4}.",
    "I can recommend this {t}, the {a} is {x} {+:.9}.",
    "I cannot recommend this {t}, the {a} is {x} {-:.9}.",
    "please avoid this {t}, the {a} is {x} {-:.95}.",
    "do yourself a favour and try this {xa} {+:.9} {t}.",
    "the {a} alone is worth it, so {+:.95} and {+:.3}.",
    "it is a {t} like any other, with a {0} {a}.",
    "the {a} was {0}, and the {b} was {0} too.",
    "it was a {0} {t}, with a {0} {a}.",
    "{person} told me about the {t} {time}.",
    "we heard about the {t} {time} from {person}.",
    "the {t} has a {0} {a} and a {0} {b}.",
    "I would say the {a} is about average.",
    "the {a} comes first, and then the {b}.",
    "the {a} was {+:.4}, the {b} was {-:.5}, so I am not sure.",
    "some will like the {a}, others will not.",
    "the {a} is {x} {adj:.9}, yet the {b} is {opposite:.5}.",
    "still, the {b} was {x} {adj:.95}.",
    "I expected more, because the {a} was {x} {-:.8}.",
    "I expected less, but the {a} was {x} {+:.85}.",
    "because of the {a}, the {t} was {x} {adj:.9}.",
    "they gave us a {xa} {adj:.95} {a} and a {same:.3} {b}.",
    "I could look at this {+:.9} {a} all day.",
    "I'm {x} {feeling} with the {a} of my {t}.",
)  # fmt: skip

FEELINGS = {
    "happy": 2.1, "thrilled": 2.7, "pleased": 1.7, "delighted": 2.5, "cheerful": 1.9, "calm": 0.9, "satisfied": 1.4,
    "sad": -1.8, "angry": -2.3, "tired": -1.2, "frustrated": -2.0, "upset": -2.0, "miserable": -2.6, "furious": -2.7,
}  # fmt: skip

#: A frame that turns its words' sense around is rarer than the others.
_SHARE = np.array([0.3 if re.search(r":-\.", frame) else 1.0 for frame in FRAMES])
_SHARE /= _SHARE.sum()

_VALENCES = ADJECTIVES | LIKINGS | NOUNS | FEELINGS
_POOLS = {"adj": ADJECTIVES, "like": LIKINGS, "noun": NOUNS, "feeling": FEELINGS}
_SLOT = re.compile(r"\{([^}:]+)(?::(-?[.\d]+))?\}")


def _lexical(word: str, topics: set[str]) -> Token:
    bare = word.strip(".,!?").lower()
    valence = _VALENCES.get(bare, 0.0)
    if valence:
        return Token(word, Kind.POSITIVE if valence > 0 else Kind.NEGATIVE, valence)
    for kind, members in (
        (Kind.TOPIC, topics),
        (Kind.NEGATION, _NEGATION | {"cannot", "avoid"}),
        (Kind.CONTRAST, _CONTRAST),
        (Kind.SELF, _SELF),
        (Kind.INTENSIFIER, INTENSIFIERS.keys() | {"always", "every"}),
        (Kind.HEDGE, HEDGES),
        (Kind.QUESTION, _QUESTION),
        (Kind.LINK, _LINK),
        (Kind.FUNCTION, _FUNCTION),
    ):
        if bare in members:
            return Token(word, kind)
    return Token(word, Kind.CONTENT)


def _pick(rng: np.random.Generator, options: Iterable[str]) -> str:
    options = list(options)
    return options[int(rng.integers(len(options)))]


def _wanted(slot: str, first: float) -> float:
    """The sign that a slot's word must have, given that of the sentence's first sentiment word; 0 for any."""
    if slot in ("same", "feeling="):
        return first
    if slot == "opposite":
        return -first
    return {"+": 1.0, "-": -1.0}.get(slot[-1], 0.0)


def compose(rng: np.random.Generator, topic: str, frame: int) -> Sentence:
    """One random filling of a frame about a topic."""
    parts = TOPICS[topic]
    a, b = rng.permutation(len(parts))[:2]
    scale, total, sign, used = 1.0, 0.0, 0.0, set()
    said: list[str] = []
    pieces = _SLOT.split(FRAMES[frame])  # text, name, weight, text, ...
    for i in range(0, len(pieces), 3):
        said.append(pieces[i])
        if i + 1 == len(pieces):
            break
        name, weight = pieces[i + 1], float(pieces[i + 2] or 1)
        plain = {"t": topic, "a": parts[a], "b": parts[b]}
        if name in plain:
            said.append(plain[name])
        elif name == "0":
            said.append(_pick(rng, [w for w in NEUTRAL if w not in used]))
        elif name == "person":
            said.append(_pick(rng, PEOPLE))
        elif name == "time":
            said.append(_pick(rng, TIMES))
        elif name in ("x", "xv", "xa"):
            u = rng.random()
            pool = INTENSIFIERS if u < 0.4 else HEDGES if u < 0.65 else None
            if name != "x" and pool:
                pool = VERB_INTENSIFIERS if name == "xv" else ADJECTIVE_INTENSIFIERS
            if pool:
                chosen = _pick(rng, pool)
                scale = pool[chosen]
                said.append(chosen)
        else:
            want = _wanted(name, sign)
            pool = _POOLS.get(name.rstrip("+-="), ADJECTIVES)
            chosen = _pick(rng, [w for w, v in pool.items() if (want == 0 or v * want > 0) and w not in used])
            sign = sign or float(np.sign(pool[chosen]))
            total += weight * scale * pool[chosen]
            scale = 1.0
            said.append(chosen)
        used.add(said[-1])
    text = re.sub(r" +", " ", "".join(said)).replace(" ,", ",").strip()
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    text = text[0].upper() + text[1:]
    topics = {w for part in (topic, *parts) for w in part.split()}
    tokens = tuple(_lexical(word, topics) for word in text.split())
    return Sentence(tokens, float(np.clip(total, -3, 3)), topic, frame)


def near(rng: np.random.Generator, topic: str, sentiment: float, taken: set[str], tries: int = 40) -> Sentence:
    """A sentence about a topic not taken yet, its sentiment the nearest to the wanted one among a number of tries."""
    found = [compose(rng, topic, int(rng.choice(len(FRAMES), p=_SHARE))) for _ in range(tries)]
    new = [s for s in found if s.text not in taken]
    if not new:
        raise ValueError(f"the grammar has no more new sentences about a {topic}; fewer clips are needed")
    return min(new, key=lambda s: abs(s.sentiment - sentiment))
