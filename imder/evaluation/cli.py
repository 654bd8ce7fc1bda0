"""`python -m imder evaluate`: rows of figures for runs, and the tables made of them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import torch
from tqdm import tqdm

from imder import hub
from imder.data.dataset import SPLITS, FeatureSet
from imder.data.missing import parse_rate, parse_rates
from imder.evaluation.baseline import BaselineStudy
from imder.evaluation.evaluate import RecoveryStudy
from imder.evaluation.predictions import PredictionsFile
from imder.evaluation.rows import MasksFile, Row, RowFile, open_rows, read_rows
from imder.evaluation.study import METHODS, PROTOCOLS, RATES, Entry, EvaluationConfig, Study, Tick, run_digest
from imder.evaluation.table import markdown
from imder.modality import names_of, patterns, symbols
from imder.samplers import SAMPLERS

BAR = "{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left  {desc}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb; what they hold is checked by `EvaluationConfig`."""
    parser.add_argument(
        "--run", nargs="+", metavar="RUN", help="run folders or Hub repositories, or 'bundled' for the one here"
    )
    parser.add_argument(
        "--data",
        default="bundled",
        metavar="DIR",
        help="a data set folder, or owner/name on the Hub (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="ROWS.jsonl", help="rows are appended; what is there is kept")
    parser.add_argument("--table", type=Path, metavar="ROWS.jsonl", help="print the tables of stored rows, and stop")
    parser.add_argument("--protocol", nargs="+", default=["fixed"], metavar="P", help=f"of {', '.join(PROTOCOLS)}")
    parser.add_argument(
        "--rates",
        nargs="+",
        metavar="R",
        help="missing rates, 0 to 0.7 (default: .1 to .7); of the protocol unequal: L=.1,A=.3,V=.5",
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="M", help=f"of {', '.join(METHODS)} (default: all the runs have)"
    )
    parser.add_argument(
        "--draws", type=int, nargs="+", default=[8], metavar="N", help="rows for one draw and for the mean of N (8)"
    )
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most N clips, spread evenly; 0 for all")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 of masks and noise (fixed: seed 0 alone)"
    )
    parser.add_argument("--split", default="test", metavar="|".join(SPLITS), help="default: %(default)s")
    parser.add_argument("--sampler", metavar="NAME", help=f"of {', '.join(SAMPLERS)} (default: the run's)")
    parser.add_argument("--steps", type=int, metavar="S", help="steps of the sampler (default: the run's)")
    parser.add_argument("--guidance", type=float, default=1.0, metavar="W", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=100, metavar="B", help="clips at a time (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Computes the rows that are not in the file yet. Raises ValueError of one sentence for bad input."""
    if args.table is not None:
        print(markdown(read_rows(args.table, _say)))
        return 0
    for name in ("run", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} is needed, unless --table prints rows that are there")
    if not 1 <= args.workers <= 64:
        raise ValueError(f"workers: {args.workers} is not allowed; a whole number from 1 to 64 is")
    typed = args.rates or []
    equal = tuple(dict.fromkeys(parse_rate(text) for text in typed if "=" not in text))
    config = EvaluationConfig(
        methods=tuple(dict.fromkeys(args.methods or [])),
        protocols=tuple(dict.fromkeys(args.protocol)),
        rates=equal if typed else RATES,
        unequal=tuple(parse_rates(text) for text in typed if "=" in text),
        draws=tuple(args.draws),
        seeds=args.seeds,
        split=args.split,
        limit=args.limit,
        sampler=args.sampler,
        steps=args.steps,
        guidance=args.guidance,
        batch=args.batch,
    )
    sources = tuple(Source(run, args.data) for run in dict.fromkeys(args.run))
    masks = MasksFile(args.out)
    predictions = PredictionsFile(args.out)
    with open_rows(args.out, _say) as file:
        opened = [source.opened(config, masks) for source in sources]
        studies, sources = [study for study, _ in opened], tuple(source for _, source in opened)
        for left_out in sorted({study.left_out for study in studies} - {0}):
            _say(
                f"{left_out} clips of {config.split!r} lack a modality and are left out: there is no truth to judge by"
            )
        for study in studies:
            if study.lacks:
                told = ", ".join(map(symbols, patterns(study.lacks)))
                _say(f"{study.data.name!r} has no {names_of(study.lacks)}: the patterns are {told}")
        lacking = set(config.methods) - {method for study in studies for method in study.methods}
        if lacking:
            raise ValueError(f"methods: none of these runs has {', '.join(sorted(lacking))}")
        work = Work(sources, config, masks, studies)
        return compute(work, file, predictions, args.workers)


@dataclass(frozen=True)
class Source:
    """A run and a data set as they were named."""

    run: str
    data: str

    def study(self, config: EvaluationConfig, masks: MasksFile) -> Study:
        """Loads both."""
        return self.opened(config, masks)[0]

    def opened(self, config: EvaluationConfig, masks: MasksFile) -> tuple[Study, Source]:
        """Loads both; also how another process names just these: of a repository on the Hub, the present commit."""
        run, data = hub.load(self.run, fallback=False), FeatureSet.open(self.data)
        for notice in filter(None, (run.notice, data.notice)):
            _say(notice)
        kind = RecoveryStudy if run.kind == "imder" else BaselineStudy
        study = kind(run, data, config, f"{run.name}@{run_digest(Path(run.folder))}", masks)
        return study, Source(run.pinned, data.repository or str(data.folder))


@dataclass(frozen=True)
class Work:
    """Runs, what is asked of them, and the masks."""

    sources: tuple[Source, ...]
    config: EvaluationConfig
    masks: MasksFile
    studies: list[Study]

    def tasks(self, file: RowFile, apart: bool) -> list[Task]:
        """What `file` lacks, a task a cell; with `apart` cells that share draws are one task, for one process."""
        found = []
        for index, study in enumerate(self.studies):
            cells = study.cells
            todo = [i for i, cell in enumerate(cells) if not study.done(cell, file.known)]
            if len(todo) < len(cells):
                name = study.common["run"]
                _say(f"{len(cells) - len(todo)} of {len(cells)} cells of {name} are in {file.path} already")
            if todo and not study.floors_done(file.known):
                found.append(Task(index, (), study.work([])))
            together: dict[object, list[int]] = {}
            for i in todo:  # unconditional draws do not depend on the masks: they are made once a seed
                cell = cells[i]
                key = ("unconditional", cell.seed) if cell.method == "unconditional" else i
                together.setdefault(key if apart else i, []).append(i)
            found += [Task(index, tuple(own), study.work([cells[i] for i in own])) for own in together.values()]
        return found


@dataclass(frozen=True)
class Task:
    """Cells of a run, by their numbers; none for the run's floors."""

    study: int
    cells: tuple[int, ...]
    work: float


Answer = list[tuple[list[Row], list[Entry]]]


def compute(work: Work, file: RowFile, predictions: PredictionsFile, workers: int) -> int:
    """Computes and appends what `file` lacks, with a progress bar; Ctrl-C keeps what is done."""
    tasks = work.tasks(file, workers > 1)
    workers = min(workers, len(tasks)) or 1
    written = 0
    slow = {} if sys.stderr.isatty() else {"mininterval": 10, "ascii": True, "ncols": 100}
    work.masks.save()
    try:
        with tqdm(total=sum(task.work for task in tasks), bar_format=BAR, smoothing=0, **slow) as bar:
            for task, answers in answered(work, tasks, workers, bar.update):
                study = work.studies[task.study]
                for rows, entries in answers:
                    predictions.append(study.clips_entry(), entries)
                    written += file.append(rows)
                bar.set_description_str(study.common["run"], refresh=False)
    except KeyboardInterrupt:
        _say(f"stopped; {written} rows were added to {file.path}, the same command goes on from there")
        return 130
    _say(f"{written} rows were added to {file.path}; the masks are in {work.masks.path}")
    return 0


def answered(work: Work, tasks: Sequence[Task], workers: int, tick: Tick) -> Iterator[tuple[Task, Answer]]:
    """The tasks' answers in their order, whoever computed them."""
    if workers == 1:
        for task in tasks:
            yield task, answer(work.studies, task, tick)
        return
    with crew(work, workers) as pool:
        pending = [pool.submit(_answer, task) for task in tasks]
        for task, result in zip(tasks, pending, strict=True):
            yield task, result.result()
            tick(task.work)


def answer(studies: Sequence[Study], task: Task, tick: Tick) -> Answer:
    """A task's rows and predictions, cell by cell."""
    study = studies[task.study]
    if not task.cells:
        return [(study.floor_rows(), [])]
    return [study.answer(study.cells[i], tick) for i in task.cells]


@contextmanager
def crew(work: Work, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread that load the runs once each; an exception here ends them at once."""
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _enter, (work.sources, work.config, work.masks))
    try:
        yield pool
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


_studies: list[Study] = []  # of a worker


def _enter(sources: Sequence[Source], config: EvaluationConfig, masks: MasksFile) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _studies.extend(source.study(config, masks) for source in sources)


def _leave_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def _answer(task: Task) -> Answer:
    return answer(_studies, task, lambda units: None)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
