"""A voice and a face imagined for a sentence: `python -m imder say "The music was lovely." --out FILE.npz`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imder.data import Word
from imder.data.sentence import MAX_CHARACTERS, Said, sentences
from imder.pipeline import Recovery, RecoveryChunk, RecoveryPipeline, RecoveryRequest, RecoveryStart


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

    options: seed, draws, sampler, steps, guidance of a `RecoveryRequest`. ValueError for a run that predicts classes.
    """
    if pipeline.classes:
        raise ValueError(
            f"{pipeline.run.source}: this run predicts one of {len(pipeline.classes)} classes; what is imagined for a "
            "sentence comes with a sentiment, so a run that predicts one is needed"
        )
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
