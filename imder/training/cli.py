"""`python -m imder train`: a model trained into a run folder."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from imder.model.task import TITLES
from imder.training.config import Recipe, add_flags, from_flags
from imder.training.loop import Interrupted
from imder.training.run import Complete, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags; the recipe's come from the fields of TrainingConfig."""
    parser.add_argument(
        "--data", default="bundled", help="'bundled', a data set folder, or owner/name on the Hub (default bundled)"
    )
    parser.add_argument("--out", required=True, help="run folder; an unfinished training in it is continued")
    parser.add_argument("--half", action="store_true", help="store the weights in half precision")
    parser.add_argument("--set", default="{}", metavar="JSON", help="fields of the model that differ from its defaults")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="RUN",
        help="take stage 1 (and equal score networks) from a run, owner/name on the Hub too",
    )
    add_flags(parser)


def main(args: argparse.Namespace) -> int:
    """Exit status 0 when the run is complete, 130 when it was interrupted and saved."""
    config = from_flags(args)
    try:
        metrics = train(
            args.data,
            args.out,
            config,
            model=_overrides(args.set),
            half=args.half,
            command=command_of(args, config),
            start=args.start,
        )
    except Complete as there:
        print(f"{there}; nothing was changed")
        return 0
    except Interrupted as where:
        print(f"stopped, {where}; everything is saved, the same command goes on from here", file=sys.stderr)
        return 130
    name = "mae" if "mae" in metrics else "accuracy"
    by = {p: x["recovered"] if isinstance(x, dict) else x for p, x in metrics[f"{name}_by_pattern"].items()}
    others = ", ".join(f"{p} {x:.2f}" for p, x in by.items())
    complete = metrics[name]["complete"]
    print(f"{args.out}: complete; validation {TITLES[name]} {complete:.3f} with everything; with less: {others}")
    return 0


def _overrides(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"set: {text!r} is not JSON ({error.msg})") from None
    if not isinstance(value, dict):
        raise ValueError(f"set: {text!r} is not allowed; a JSON object is")
    return {name: tuple(x) if isinstance(x, list) else x for name, x in value.items()}


def command_of(args: argparse.Namespace, config: Recipe) -> str:
    """The command as a reader would type it; of absolute paths the last part only."""
    words = ["python", "-m", "imder", "train"]
    for name, path in (("data", args.data), ("from", args.start), ("out", args.out)):
        words += [] if path is None else [f"--{name}", Path(path).name if Path(path).is_absolute() else path]
    words += ["--preset", config.preset] if config.model == "imder" else ["--model", config.model]
    words += ["--quick"] * args.quick + ["--half"] * args.half
    for name, value in config.essential.items():
        if name in vars(args) and name not in ("preset", "model"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    if args.set != "{}":
        words += ["--set", args.set]
    return shlex.join(words)
