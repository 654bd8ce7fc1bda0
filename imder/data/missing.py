"""Missing-modality protocols: which modalities of each clip are available, drawn once from a seed.

`rate` is the share of modalities that are missing over all clips, the field's missing rate MR = missing / (3 N).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imder.modality import MODALITIES, PATTERNS, SYMBOLS, missing, names_of, ordered, patterns, to_mask

#: With one of three modalities left, no more than this can be missing.
MAX_RATE = 2 / 3


def realised_rate(masks: np.ndarray, lacks: Sequence[str] = ()) -> float:
    """The share of modalities that (N, 3) `available` masks leave out; for few clips by chance off the nominal one.

    lacks: those of which the data set has nothing, which do not count.
    """
    return float(1 - np.asarray(masks, dtype=bool)[:, ~to_mask(lacks)].mean())


@dataclass(frozen=True)
class FixedMissing:
    """The same modalities are available in every clip.

    lacks: those of which the data set has nothing; in the masks they count as available, as nothing is to recover.
    """

    available: tuple[str, ...]
    lacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        have = ordered(self.available)
        if not have:
            raise ValueError(f"available: nothing is left; at least one of {', '.join(MODALITIES)} must be available")
        object.__setattr__(self, "available", have)

    @property
    def rate(self) -> float:
        """The nominal missing rate."""
        return 1 - len(self.available) / len(missing(self.lacks))

    def masks(self, ids: Iterable[str]) -> np.ndarray:
        """(N, 3) bool, True where available."""
        return np.tile(to_mask((*self.available, *self.lacks)), (len(list(ids)), 1))

    realised = staticmethod(realised_rate)


@dataclass(frozen=True)
class RandomMissing:
    """Each modality of a clip is dropped with one probability, given that one at least stays.

    A clip's mask depends on the seed and its id alone, so neither order nor neighbours change it. rate: in [0, 2/3];
    0.7, as the field writes it, is 2/3: exactly one modality left. lacks: as of `FixedMissing`; with one, two are left
    to drop and the rate is in [0, 1/2].
    """

    rate: float
    seed: int = 0
    lacks: tuple[str, ...] = ()
    _cumulated: np.ndarray = field(init=False, repr=False, compare=False)  # probabilities of the patterns

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        _check_seed(self.seed)
        count = len(missing(self.lacks))
        if self.rate > (most := 1 - 1 / count) and count < len(MODALITIES):
            raise ValueError(
                f"missing rate: {self.rate:g} is not allowed for data without {names_of(self.lacks)}, where one of "
                f"{count} modalities stays; a number from 0 to {most:g} is"
            )
        weights = [pattern_probability(self.rate, len(pattern), count) for pattern in patterns(self.lacks)]
        object.__setattr__(self, "_cumulated", np.cumsum(weights))

    def masks(self, ids: Iterable[str]) -> np.ndarray:
        """(N, 3) bool, True where available."""
        return _draw(ids, self.seed, self._cumulated, self.lacks)

    realised = staticmethod(realised_rate)


@dataclass(frozen=True)
class UnequalMissing:
    """Each modality of a clip is dropped with a probability of its own, given that one at least stays.

    `rates` are the expected shares of clips without each modality, by name or symbol; each in [0, 1), 2 in all at most.
    A clip's mask depends on the seed and its id alone.
    """

    rates: dict[str, float] = field(hash=False)
    seed: int = 0
    _cumulated: np.ndarray = field(init=False, repr=False, compare=False)  # probabilities of PATTERNS

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", _check_rates(self.rates.items()))
        _check_seed(self.seed)
        object.__setattr__(self, "_cumulated", np.cumsum(list(pattern_probabilities(self.rates).values())))

    @property
    def rate(self) -> float:
        """The nominal missing rate over all modalities."""
        return sum(self.rates.values()) / len(MODALITIES)

    @property
    def name(self) -> str:
        """A label for file entries: `L.1-A.3-V.5`."""
        return "-".join(SYMBOLS[k] + (f"{rate:g}".removeprefix("0") or "0") for k, rate in self.rates.items())

    def masks(self, ids: Iterable[str]) -> np.ndarray:
        """(N, 3) bool, True where available."""
        return _draw(ids, self.seed, self._cumulated)

    realised = staticmethod(realised_rate)


@dataclass(frozen=True)
class BatchwiseMissing:
    """IMDer's published protocol, to compare with its figures: all clips of a batch miss the same modalities.

    A clip's mask depends on its POSITION, not its id: batches are cut in the order given, so other orders and subsets
    give other masks. As in the authors' code, of B batches, queued at random but a shorter last one at the end, a first
    quota keeps one modality, a second keeps two, the rest are complete. The quotas' shares meet the nominal rate, but
    they are shares of B rounded to tens, so the realised rate differs (MOSI's test split, .7: .622).

    Ours: all is drawn once from the seed, not anew at each pass; five batches or fewer, which round to none and would
    be complete, draw with the shares as probabilities; 0 is complete, where the authors' code runs .7.
    """

    rate: float
    seed: int = 0
    batch: int = 32

    def __post_init__(self) -> None:
        _check_rate(self.rate)
        _check_seed(self.seed)
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise ValueError(f"batch: {self.batch!r} is not allowed; a whole number from 1 is")

    def masks(self, ids: Iterable[str]) -> np.ndarray:
        """(N, 3) bool, True where available."""
        count = len(list(ids))
        full, short = divmod(count, self.batch)
        queue = sorted(range(full), key=lambda i: _uniform(self.seed, f"batch {i}: place"))
        queue += [full] if short else []
        quota = 10 * round(len(queue) / 10)
        one_left, two_left = batch_shares(self.rate)
        rows = np.empty((len(queue), len(MODALITIES)), dtype=bool)
        for place, i in enumerate(queue):
            share = place / quota if quota else _uniform(self.seed, f"batch {i}: share")
            left = 1 if share < one_left else 2 if share < one_left + two_left else 3
            patterns = [pattern for pattern in PATTERNS if len(pattern) == left]
            rows[i] = to_mask(patterns[int(_uniform(self.seed, f"batch {i}: pattern") * len(patterns))])
        return np.repeat(rows, self.batch, axis=0)[:count]

    realised = staticmethod(realised_rate)


def parse_rate(text: str) -> float:
    """A missing rate as typed; .7, which the protocols take as 2/3, stays .7 as the field writes it."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    _check_rate(rate, text)
    return rate


def parse_rates(text: str) -> dict[str, float]:
    """`L=.1,A=.3,V=.5` (or text=.1 ...) as the rates of `UnequalMissing`, by modality."""
    pairs = []
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"missing rates: {part!r} is not allowed; a modality and its rate are, such as L=.1")
        try:
            pairs.append((name, float(value)))
        except ValueError:
            pairs.append((name, value))
    return _check_rates(pairs)


def pattern_probability(rate: float, left: int, of: int = len(MODALITIES)) -> float:
    """The probability of one pattern that leaves `left` modalities of 3 or 2, at an expected missing rate.

    Dropping each with p and refusing the empty pattern, the expected rate is (p + p^2) / (1 + p + p^2); solved for p.
    Of two modalities it is p / (1 + p).
    """
    ratio = min(rate, MAX_RATE) / (1 - min(rate, MAX_RATE))
    if of == 2:
        return ratio ** (2 - left) * (1 - ratio) ** (left - 1) / (1 + ratio)
    p = (math.sqrt(1 + 4 * ratio) - 1) / 2
    # p^(3-left) (1-p)^left / (1 - p^3), a factor 1 - p cancelled so that p = 1 is no special case
    return p ** (3 - left) * (1 - p) ** (left - 1) / (1 + p + p * p)


def pattern_probabilities(rates: dict[str, float]) -> dict[tuple[str, ...], float]:
    """The probability of each of PATTERNS at each modality's expected missing rate r_k.

    Dropping k with p_k and refusing the empty pattern, of probability P = p_1 p_2 p_3, gives r_k = (p_k - P) / (1 - P),
    so p_k = r_k + (1 - r_k) P, and P solves a cubic; as 1 does too, a quadratic is left, with one positive root.
    """
    r = np.array([rates[k] for k in MODALITIES])
    q = 1 - r
    a, c = q.prod(), r.prod()
    b = a + r @ [q[1] * q[2], q[0] * q[2], q[0] * q[1]]
    empty = min(1.0, 2 * c / (b + math.sqrt(b * b + 4 * a * c)))  # a P^2 + b P = c
    p = r + q * empty
    # 1 - p_k is q_k (1 - P): one factor 1 - P cancels, so that P = 1 (rates that add up to 2) is no special case
    return {
        pattern: float(np.where(have := to_mask(pattern), q, p).prod() * (1 - empty) ** (have.sum() - 1))
        for pattern in PATTERNS
    }


def batch_shares(rate: float) -> tuple[float, float]:
    """The shares of batches that keep one and two modalities in `BatchwiseMissing`; linear between the published ones.

    Equal up to a rate of .3; from there batches with two give way to batches with one, until .6.
    """
    rate = min(rate, MAX_RATE)
    two_left = min(rate, max(0.6 - rate, 0.0))
    # rounded, so that a share of exactly 3 batches in 10 is not a hair above it
    return round((3 * rate - two_left) / 2, 12), round(two_left, 12)


def shares(masks: np.ndarray, lacks: Sequence[str] = ()) -> dict[int, float]:
    """The share of clips that have 3, 2 and 1 modalities, not counting what the data set has nothing of."""
    counts = np.asarray(masks, dtype=bool)[:, ~to_mask(lacks)].sum(axis=1)
    return {n: float((counts == n).mean()) for n in (3, 2, 1)}


def _draw(ids: Iterable[str], seed: int, cumulated: np.ndarray, lacks: Sequence[str] = ()) -> np.ndarray:
    """(N, 3) bool: a pattern a clip, of the cumulated probabilities of `patterns(lacks)`."""
    draws = np.array([_uniform(seed, clip_id) for clip_id in ids])
    rows = np.searchsorted(cumulated, draws * cumulated[-1], side="right")
    return np.array([to_mask((*pattern, *lacks)) for pattern in patterns(lacks)])[rows]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_rate(rate: Any, given: Any = None) -> None:
    """Raises ValueError unless the rate is allowed; `given` is how it was typed."""
    if not _is_number(rate) or not (0 <= rate <= MAX_RATE or math.isclose(rate, 0.7)):
        raise ValueError(
            f"missing rate: {rate if given is None else given!r} is not allowed; a number from 0 to 2/3 is, "
            "and 0.7 for one modality left"
        )


def _check_rates(pairs: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """The rates by modality, in order; raises ValueError unless each is there once and all can be reached."""
    names = {symbol: k for k, symbol in SYMBOLS.items()} | {k: k for k in MODALITIES}
    found: dict[str, float] = {}
    for name, rate in pairs:
        if name not in names:
            raise ValueError(f"missing rates: {name!r} is not a modality; allowed: {', '.join(names)}")
        if names[name] in found:
            raise ValueError(f"missing rates: {name!r} is given twice; each modality is needed once")
        if not _is_number(rate) or not 0 <= rate < 1:
            raise ValueError(f"missing rates: {name}={rate!r} is not allowed; a number from 0 to less than 1 is")
        found[names[name]] = abs(float(rate))  # no -0
    if absent := [SYMBOLS[k] for k in MODALITIES if k not in found]:
        raise ValueError(f"missing rates: none is given for {', '.join(absent)}; each of L, A, V is needed once")
    if sum(found.values()) > 2 + 1e-9:
        said = ", ".join(f"{SYMBOLS[k]}={found[k]:g}" for k in MODALITIES)
        raise ValueError(
            f"missing rates: {said} cannot be reached, as one modality of each clip stays; the sum may be 2 at most, "
            f"not {sum(found.values()):g}"
        )
    return {k: found[k] for k in MODALITIES}


def _check_seed(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed: {seed!r} is not allowed; an integer is")


def _uniform(seed: int, clip_id: str) -> float:
    digest = hashlib.blake2b(f"{seed}:{clip_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # [0, 1)
