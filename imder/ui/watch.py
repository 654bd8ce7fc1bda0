"""A recovery as it is watched: the stage's messages with a status beside each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imder.pipeline import Recovery, RecoveryPipeline, RecoveryRequest, RecoveryStart
from imder.ui.controls import INTERVAL, good, said
from imder.ui.messages import Message, bundle
from imder.ui.opening import run_messages


def watched(pipeline: RecoveryPipeline, request: RecoveryRequest, sample: Message) -> Iterator[tuple[Any, str]]:
    """(message, status) of a recovery; the first message brings `sample`, the panel of its clip."""
    total = 0
    for item, message in run_messages(pipeline, request, INTERVAL):
        if isinstance(item, RecoveryStart):
            total = item.nfe_total
            message, status = bundle([sample, message]), said("The first noise is drawn.")
        elif isinstance(item, Recovery):
            status = good(finished(item))
        else:
            status = said(f"Network evaluation {int(item.nfe[-1])} of {total}.")
        yield message, status


def finished(recovery: Recovery) -> str:
    """A finished run in one sentence, with what is known of the clip: NaN is not."""
    p = {name: value for name, value in recovery.predictions.items() if value == value}
    told = [f"{name} {p[key]:+.2f}" for key, name in (("complete", "complete"), ("zero", "zero-filled")) if key in p]
    low, high = recovery.interval
    return (
        f"Done in {recovery.seconds:.2f} s, {recovery.nfe} network evaluations. Predicted from the recovered "
        f"{p['recovered']:+.2f} (90 % interval {low:+.2f} to {high:+.2f}), {', '.join(told)}; "
        + (f"label {p['label']:+.2f}." if "label" in p else "the file has no label.")
    )
