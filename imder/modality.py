"""The three modalities, their order, and which of them a sample has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

MODALITIES: tuple[str, ...] = ("text", "audio", "vision")
NAMES = {"text": "Language", "audio": "Voice", "vision": "Face"}
SYMBOLS = {"text": "L", "audio": "A", "vision": "V"}

#: The six patterns of the fixed-missing protocol (what is available), then the complete one.
PATTERNS: tuple[tuple[str, ...], ...] = (
    ("text",),
    ("audio",),
    ("vision",),
    ("text", "audio"),
    ("text", "vision"),
    ("audio", "vision"),
    ("text", "audio", "vision"),
)


def patterns(lacks: Iterable[str] = ()) -> tuple[tuple[str, ...], ...]:
    """What clips can have of a data set that `lacks` modalities in every clip: those of `PATTERNS` without them.

    To a model what a data set lacks is there and empty: its masks are `to_mask((*pattern, *lacks))`.
    """
    gone = ordered(lacks, what="lacks")
    return tuple(pattern for pattern in PATTERNS if not set(pattern) & set(gone))


def names_of(lacks: Iterable[str]) -> str:
    """Modalities in words: `language`, `voice and face`."""
    return " and ".join(NAMES[k].lower() for k in ordered(lacks))


def ordered(names: Iterable[str], *, what: str = "available") -> tuple[str, ...]:
    """Modality names without duplicates, in the order of `MODALITIES`.

    Raises ValueError naming the first unknown value.
    """
    if isinstance(names, str):
        names = (names,)
    given = list(names)
    for name in given:
        if name not in MODALITIES:
            raise ValueError(f"{what}: {name!r} is not a modality; allowed: {', '.join(MODALITIES)}")
    return tuple(k for k in MODALITIES if k in given)


def missing(available: Iterable[str]) -> tuple[str, ...]:
    """The modalities that are not among `available`."""
    have = ordered(available)
    return tuple(k for k in MODALITIES if k not in have)


def check_pattern(available: Iterable[str]) -> tuple[str, ...]:
    """`available` in order; raises ValueError unless one or two of the three modalities are there."""
    have = ordered(available)
    if not 1 <= len(have) <= 2:
        raise ValueError(
            f"available: {list(have)} leaves {3 - len(have)} modalities missing; "
            "one or two of text, audio, vision must be available"
        )
    return have


def to_mask(available: Iterable[str]) -> np.ndarray:
    """(3,) bool, True where the modality is available."""
    have = ordered(available)
    return np.array([k in have for k in MODALITIES])


def from_mask(mask: Sequence[bool]) -> tuple[str, ...]:
    """The modality names of one row of an `available` mask."""
    return tuple(k for k, there in zip(MODALITIES, mask, strict=True) if bool(there))


def symbols(available: Iterable[str]) -> str:
    """`("text", "audio")` as `LA`, for captions."""
    return "".join(SYMBOLS[k] for k in ordered(available))
