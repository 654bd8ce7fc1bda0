"""`python -m imder tune`: a text encoder tuned on a data set, and the set with its features."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from imder.data.cli import add_cache, encoding, summary
from imder.data.dataset import FeatureSet
from imder.data.encoder import open_encoder
from imder.model.task import TITLES
from imder.training.loop import Interrupted
from imder.training.tune import TuneConfig, tune


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's flags; the recipe's come from the fields of TuneConfig."""
    parser.add_argument("data", metavar="DATA", help="'bundled', a data set folder, or owner/name on the Hub")
    parser.add_argument(
        "--encoder", required=True, metavar="E", help="a BERT: a folder, owner/name[@revision] on the Hub, or minilm"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder to write; a stopped tuning goes on"
    )
    add_cache(parser)
    for f in dataclasses.fields(TuneConfig):
        if f.metadata.get("flag") is not False:
            text = f"{f.metadata['help']} (default {f.default})"
            parser.add_argument("--" + f.name.replace("_", "-"), type=type(f.default), default=f.default, metavar="X",
                                help=text)  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Exit status 0 when the set is there, 130 when the tuning was interrupted and saved."""
    names = [f.name for f in dataclasses.fields(TuneConfig) if f.metadata.get("flag") is not False]
    config = TuneConfig(**{name: getattr(args, name) for name in names})
    data, encoder = FeatureSet.open(args.data), open_encoder(args.encoder)
    try:
        with encoding() as told:
            made, log = tune(
                data, encoder, args.out, config, cache=args.cache, command=_command(args, config), told=told
            )
    except Interrupted as where:
        print(f"stopped, {where}; everything is saved, the same command goes on from here", file=sys.stderr)
        return 130
    print(summary(made))
    name = next(iter(log["valid"]["head"]))
    told = f"validation {TITLES[name]} {log['valid']['head'][name]:.3f} with the encoder as it is"
    if log["epoch"].get("tune"):
        told += f", {log['valid']['tune'][name]:.3f} tuned (epoch {log['epoch']['tune']})"
    elif "tune" in log["epoch"]:
        told += "; no epoch of tuning was better, so the encoder stays as it was"
    print(told)
    before, after = (", ".join(f"{k} {v:.3f}" for k, v in log["probe"][when].items()) for when in ("before", "after"))
    print(f"a linear reader of the text alone on the validation split: {before} before, {after} after")
    return 0


def _command(args: argparse.Namespace, config: TuneConfig) -> str:
    """The command as a reader would type it; of absolute paths the last part only."""
    short = [Path(text).name if Path(text).is_absolute() else str(text) for text in (args.data, args.encoder, args.out)]
    words = ["python", "-m", "imder", "tune", short[0], "--encoder", short[1], "--out", short[2]]
    for f in dataclasses.fields(TuneConfig):
        if f.metadata.get("flag") is not False and (value := getattr(config, f.name)) != f.default:
            words += [f"--{f.name.replace('_', '-')}", str(value)]
    return shlex.join(words)
