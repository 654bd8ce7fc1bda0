"""`python -m imder <verb>`: the command line. Every verb is a module with `add_arguments` and `main`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "data": (
        "imder.data.cli",
        "convert a feature file, say what a data set holds, publish and pull it, build the bundled corpus",
    ),
    "train": ("imder.training.cli", "train a model; the same command goes on where it was interrupted"),
    "tune": ("imder.training.tune_cli", "tune a text encoder on a data set, and encode the set with it"),
    "evaluate": ("imder.evaluation.cli", "measure a run, one row a figure"),
    "report": ("imder.report.cli", "make tables, curves and the reproduction log from stored rows"),
    "distributions": ("imder.evaluation.distributions", "recovered against real over a split, kept in one small file"),
    "bench": ("imder.bench.cli", "measure whether draws are right and what they cost"),
    "say": ("imder.say", "imagine a voice and a face for a sentence"),
    "golden": ("imder.model.golden", "compare our modules with arrays of the authors' published code"),
    "convert-official": ("imder.training.official", "make a run from a weight file of the authors' published code"),
    "push": ("imder.publish.push", "publish a run on the Hub"),
    "pull": ("imder.publish.pull", "copy a run of the Hub into a folder"),
    "space": ("imder.publish.space", "publish the page as a Space of the Hub"),
}


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The argument parser; only the named verb's module is imported."""
    top = argparse.ArgumentParser(prog="python -m imder", description="IMDer: recovery of missing modalities.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (module, text) in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == verb:
            importlib.import_module(module).add_arguments(sub)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; a user's mistake is one line and exit status 2, never a trace."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parser(argv[0] if argv else None).parse_args(argv)
        return importlib.import_module(VERBS[args.verb][0]).main(args)
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
