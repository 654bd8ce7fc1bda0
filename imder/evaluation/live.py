"""Small measurements while somebody waits: told as they go, stopped within one small batch."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from imder import hub
from imder.data.dataset import FeatureSet
from imder.evaluation.baseline import BaselineStudy
from imder.evaluation.distribution import Floor, sample_floor
from imder.evaluation.evaluate import DISTANCES, RecoveryStudy
from imder.evaluation.recovered import GIVEN, Sentence, View, sentence_of
from imder.evaluation.rows import MasksFile
from imder.evaluation.study import EvaluationConfig, Study, Tick, run_digest

T = TypeVar("T")

#: Clips or draws at a time: what runs after Stop at most.
SMALL = 4


class _Stopped(BaseException):
    """Ends the work of `stepwise` from within its next tick."""


def stepwise(work: Callable[[Tick], T], every: float = 0.25) -> Iterator[tuple[float, T | None]]:
    """(units so far, None) at least every so many seconds while `work(tick)` runs in a thread, then (units, result).

    Who closes the iterator ends the work at its next tick, and waits a second for that. What `work` raises is raised.
    """
    told: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    stop, units = threading.Event(), [0.0]

    def tick(more: float) -> None:
        units[0] += more
        if stop.is_set():
            raise _Stopped

    def run() -> None:
        try:
            told.put((work(tick), None))
        except BaseException as error:
            told.put((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            try:
                result, error = told.get(timeout=every)
            except queue.Empty:
                yield units[0], None
                continue
            if error is not None:
                raise error
            yield units[0], result
            return
    finally:
        stop.set()
        thread.join(1.0)


# Draws for the page of distributions ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LiveDraws:
    """What a live run drew, as points in the directions of the training clips; draws are of clip `rows[i]`."""

    view: View
    rows: tuple[int, ...]  # in the study
    points: np.ndarray  # (N, 32)
    distances: dict[str, tuple[float | None, Floor]]  # to the other real clips, with the floor of as many real ones
    sentence: Sentence | None = None  # where the draws are of one clip that has other performances


def random_rows(count: int, of: int, seed: int) -> list[int]:
    """`count` of `of` clips by a seed, all of them if there are fewer, in order."""
    return sorted(np.random.default_rng(seed).permutation(of)[:count].tolist())


def draw_work(study: RecoveryStudy, view: View, draws: int) -> float:
    """Network evaluations of so many draws."""
    return float(draws * study.nfe * (3 - len(view.observed)))


def live_draws(
    study: RecoveryStudy, view: View, rows: Sequence[int], draws: int, seed: int, refined: bool, tick: Tick
) -> LiveDraws:
    """`draws` recoveries of each of those clips, and what they say.

    One draw of several clips is compared with the real clips that are not among them; several draws of one clip with
    its other performances, where the data has them and the view shows what they share.
    """
    k, parts = view.modality, []
    pairs = [(row, number) for row in rows for number in range(draws)]
    for at in range(0, len(pairs), SMALL):
        some = pairs[at : at + SMALL]
        own = [row for row, _ in some]
        numbers = [number for _, number in some]
        z = study.draws(own, view.observed, seed, numbers)[k]
        valid = study.clips.valid[torch.tensor(own)]
        parts.append(study.points(k, study.refine({k: z}, valid)[k] if refined else z, valid))
        tick(draw_work(study, view, len(some)))
    points, distances, sentence = np.concatenate(parts), {}, None
    if len(rows) > 1:
        others = np.setdiff1d(np.arange(len(study.ids)), rows)
        for name, distance in DISTANCES.items():
            floor = sample_floor(distance, study.real[k], len(rows))
            distances[name] = distance(points, study.real[k][others]), floor
    elif view.observed == GIVEN and study.ids[rows[0]] in study.data.redraw_ids:
        sentence = sentence_of(study, study.members[rows[0]], k, points)
    return LiveDraws(view, tuple(own for own, _ in pairs), points, distances, sentence)


# Rows for the page of the benchmark ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LiveAsk:
    """A small evaluation: one protocol, at one rate if it has rates, on clips spread evenly over the split."""

    protocol: str = "fixed"
    rate: float = 0.5
    clips: int = 16
    seed: int = 0
    draws: int = 1

    @property
    def config(self) -> EvaluationConfig:
        """As the command line has it."""
        return EvaluationConfig(
            protocols=(self.protocol,), rates=(self.rate,), draws=(self.draws,), seeds=self.seed + 1,
            limit=self.clips, batch=SMALL,
        )  # fmt: skip

    def command(self, run: str, data: str, methods: Sequence[str], clips: int | None = None) -> str:
        """What makes the same rows of a run on the command line; on all clips of the split for `clips` 0."""
        limit = self.clips if clips is None else clips
        words = [
            f"python -m imder evaluate --run {run} --data {data} --methods {' '.join(methods)}",
            f"--protocol {self.protocol}",
            *([] if self.protocol == "fixed" else [f"--rates {self.rate:g}"]),
            f"--draws {self.draws}",
            *([f"--seeds {self.seed + 1}"] if self.seed else []),
            *([f"--limit {limit} --batch {SMALL}"] if limit else []),
            f"--out {'live' if limit else 'full'}.jsonl",
        ]
        return " ".join(words)


def live_study(run: hub.Run, data: FeatureSet, ask: LiveAsk) -> Study:
    """The study of a run; masks are drawn anew, as the command line does for a file that is not there yet."""
    kind = RecoveryStudy if run.kind == "imder" else BaselineStudy
    folder = Path(run.folder)
    name = f"{folder.resolve().name}@{run_digest(folder)}"
    return kind(run, data, ask.config, name, MasksFile(os.devnull))


def live_cells(study: Study, method: str, ask: LiveAsk) -> list[int]:
    """The numbers of the study's cells that answer the question for a method; complete clips are left out."""
    return [
        i
        for i, cell in enumerate(study.cells)
        if cell.method == method
        and (cell.protocol == "fixed" or cell.seed == ask.seed)
        and not (cell.protocol == "fixed" and len(cell.available) == 3)
    ]
