"""`python -m imder evaluate`: rows of figures for a run, and the table made of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from imder import hub
from imder.data.dataset import SPLITS, FeatureSet
from imder.evaluation.evaluate import METHODS, PROTOCOLS, RATES, Evaluation, EvaluationConfig, weights_digest
from imder.evaluation.rows import MasksFile, RowFile, open_rows, read_rows
from imder.evaluation.table import markdown
from imder.samplers import SAMPLERS

BAR = "{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left  {desc}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the verb; what they hold is checked by `EvaluationConfig`."""
    parser.add_argument("--run", metavar="RUN", help="a run folder, or 'bundled' for the one that comes along")
    parser.add_argument("--data", default="bundled", metavar="DIR", help="a data set folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="ROWS.jsonl", help="rows are appended; what is there is kept")
    parser.add_argument("--table", type=Path, metavar="ROWS.jsonl", help="print the tables of stored rows, and stop")
    parser.add_argument("--protocol", default="fixed", metavar="|".join(PROTOCOLS), help="default: %(default)s")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=list(RATES), metavar="R", help="missing rates of the random protocol"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="M", help=f"of {', '.join(METHODS)}")
    parser.add_argument(
        "--draws", type=int, nargs="+", default=[8], metavar="N", help="rows for one draw and for the mean of N (8)"
    )
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="at most N clips, spread evenly; 0 for all")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1 of noise and masks")
    parser.add_argument("--split", default="test", metavar="|".join(SPLITS), help="default: %(default)s")
    parser.add_argument("--sampler", metavar="NAME", help=f"of {', '.join(SAMPLERS)} (default: the run's)")
    parser.add_argument("--steps", type=int, metavar="S", help="steps of the sampler (default: the run's)")
    parser.add_argument("--guidance", type=float, default=1.0, metavar="W", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=100, metavar="B", help="clips at a time (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Computes the rows that are not in the file yet. Raises ValueError of one sentence for bad input."""
    if args.table is not None:
        print(markdown(read_rows(args.table, _say)))
        return 0
    for name in ("run", "out"):
        if getattr(args, name) is None:
            raise ValueError(f"--{name} is needed, unless --table prints rows that are there")
    config = EvaluationConfig(
        methods=tuple(dict.fromkeys(args.methods)),
        protocol=args.protocol,
        rates=tuple(dict.fromkeys(args.rates)),
        draws=tuple(args.draws),
        seeds=args.seeds,
        split=args.split,
        limit=args.limit,
        sampler=args.sampler,
        steps=args.steps,
        guidance=args.guidance,
        batch=args.batch,
    )
    run = hub.load_run(hub.BUNDLED if args.run == "bundled" else args.run)
    data = FeatureSet.open(args.data)
    name = f"{Path(run.folder).resolve().name}@{weights_digest(Path(run.folder))}"
    masks = MasksFile(args.out)
    with open_rows(args.out, _say) as file:
        evaluation = Evaluation(run.model, run.standardiser, data, config, name, masks)
        return run_cells(evaluation, file)


def run_cells(evaluation: Evaluation, file: RowFile) -> int:
    """Computes and appends the cells that `file` lacks, with a progress bar; Ctrl-C keeps what is done."""
    cells = evaluation.cells()
    todo = [cell for cell in cells if not evaluation.done(cell, file.known)]
    if len(todo) < len(cells):
        _say(f"{len(cells) - len(todo)} of {len(cells)} cells are in {file.path} already")
    written = 0
    slow = {} if sys.stderr.isatty() else {"mininterval": 10, "ascii": True, "ncols": 100}
    try:
        with tqdm(total=evaluation.work(todo), bar_format=BAR, smoothing=0, **slow) as bar:
            if not evaluation.floors_done(file.known):
                evaluation.masks.save()
                written += file.append(evaluation.floor_rows())
            for cell in todo:
                bar.set_description_str(cell.title, refresh=False)
                rows = evaluation.rows(cell, bar.update)
                evaluation.masks.save()
                written += file.append(rows)
    except KeyboardInterrupt:
        _say(f"stopped; {written} rows were added to {file.path}, the same command goes on from there")
        return 130
    _say(f"{written} rows were added to {file.path}; the masks are in {evaluation.masks.path}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)
