"""The stored run that the page opens with: `python -m imder.ui.opening` computes and writes it.

It is shown only with the very data set and weights it was made from.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imder.pipeline import Recovery, RecoveryPipeline, RecoveryRequest, RecoveryStart
from imder.ui.messages import (
    Message,
    chunk_message,
    done_message,
    sample_message,
    sound_uri,
    start_message,
    store_run,
)
from imder.ui.validate import BadInput, validate

PATH = Path(__file__).parents[2] / "assets" / "opening_run.json.gz"
MAX_BYTES = 2_000_000


def sample_of(pipeline: RecoveryPipeline, request: RecoveryRequest) -> Message:
    """The sample panel of a request."""
    data = pipeline.data
    return sample_message(
        request.clip,
        request.available,
        names=data.feature_names,
        sound=sound_uri(request.clip.sound) if "audio" in request.available else None,
        label_range=data.label_range,
        label_name=data.label_name,
        classes=data.label_classes,
        synthetic=data.synthetic,
        lacks=pipeline.lacks,
    )


def start_of(pipeline: RecoveryPipeline, start: RecoveryStart) -> Message:
    """The message of a run that begins."""
    data = pipeline.data
    return start_message(
        start,
        names=data.feature_names,
        label_range=data.label_range,
        label_name=data.label_name,
        lacks=pipeline.lacks,
    )


def run_messages(
    pipeline: RecoveryPipeline, request: RecoveryRequest, interval: float
) -> Iterator[tuple[Any, Message]]:
    """A recovery as (what the pipeline yielded, the stage's message of it)."""
    names, run = pipeline.data.feature_names, ""
    for item in pipeline.stream(request, interval=interval):
        if isinstance(item, RecoveryStart):
            run = item.run_id
            yield item, start_of(pipeline, item)
        elif isinstance(item, Recovery):
            yield item, done_message(run, item, names=names)
        else:
            yield item, chunk_message(run, item, names=names)


def origin(pipeline: RecoveryPipeline) -> dict[str, str]:
    """What a stored run belongs to."""
    weights = (Path(pipeline.run.folder) / "model.safetensors").read_bytes()
    return {"data": pipeline.data.fingerprint, "weights": hashlib.sha256(weights).hexdigest()[:16]}


def write_opening(pipeline: RecoveryPipeline, request: RecoveryRequest, path: Path = PATH) -> int:
    """Runs the request, stores its messages, returns the bytes written."""
    items = [message for _, message in run_messages(pipeline, request, interval=60.0)]
    head = {"kind": "origin", **origin(pipeline), "choice": choice_of(request)}
    stored = store_run([head, sample_of(pipeline, request), *items])
    path.write_bytes(stored)
    return len(stored)


def choice_of(request: RecoveryRequest) -> dict[str, Any]:
    """The request as the JSON types that `validate` takes."""
    return {
        "sample": request.clip.id,
        "drop": [k for k in ("text", "audio", "vision") if k not in request.available],
        "sampler": request.sampler,
        "steps": request.steps,
        "seed": request.seed,
        "draws": request.draws,
        "guidance": request.guidance,
    }


def read_opening(pipeline: RecoveryPipeline, path: Path = PATH) -> tuple[RecoveryRequest, list[Message]] | None:
    """The stored request and its messages, or None if there is none for this model and data set."""
    try:
        with gzip.open(path) as file:
            items = json.loads(file.read(MAX_BYTES))
        head, *messages = items
        if head["kind"] != "origin" or {k: head[k] for k in ("data", "weights")} != origin(pipeline):
            return None
        return validate(pipeline, **head["choice"]), messages
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadInput):
        return None


def main(argv: list[str] | None = None) -> int:
    """Computes the opening run with the bundled model and data set."""
    parser = argparse.ArgumentParser(prog="python -m imder.ui.opening", description=main.__doc__)
    parser.add_argument("--sample", help="id of a test clip (default: the first)")
    parser.add_argument("--drop", nargs="+", default=["vision"], help="text, audio, vision: one or two")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PATH)
    args = parser.parse_args(argv)
    try:
        pipeline = RecoveryPipeline.from_pretrained(None, data="bundled")
        request = validate(pipeline, sample=args.sample, drop=args.drop, seed=args.seed)
        size = write_opening(pipeline, request, args.out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {request.clip.id}, dropped {', '.join(args.drop)}, seed {request.seed}, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
