"""A recovery as it is watched: the stage's messages with a status beside each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imder.data.label import class_name
from imder.interpret import likeliest, percent, votes
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
    if recovery.classes:
        return _finished_classes(recovery)
    p = {name: value for name, value in recovery.predictions.items() if value == value}
    told = [f"{name} {p[key]:+.2f}" for key, name in (("complete", "complete"), ("zero", "zero-filled")) if key in p]
    low, high = recovery.interval
    return (
        f"Done in {recovery.seconds:.2f} s, {recovery.nfe} network evaluations. Predicted from the recovered "
        f"{p['recovered']:+.2f} (90 % interval {low:+.2f} to {high:+.2f}), {', '.join(told)}; "
        + (f"label {p['label']:+.2f}." if "label" in p else "the file has no label.")
    )


def _finished_classes(recovery: Recovery) -> str:
    """The same of classes: the likeliest of each prediction."""
    classes, found = recovery.classes, recovery.predictions
    told = {name: likeliest(found[name], classes) for name in ("recovered", "complete", "zero")}
    said = {name: f"{one[0]} {percent(one[1])}" for name, one in told.items() if one}
    titles = {"complete": "complete", "zero": "zero-filled"}
    others = [f"{title} {said[name]}" for name, title in titles.items() if name in said]
    count, name = len(recovery.draws), class_name(found["label"], classes)
    ahead = votes(recovery.draws)[classes.index(told["recovered"][0])] * count
    drawn = f" (likeliest in {ahead:.0f} of {count} draws)" if count > 1 else ""
    return (
        f"Done in {recovery.seconds:.2f} s, {recovery.nfe} network evaluations. Predicted from the recovered "
        f"{said['recovered']}{drawn}, {', '.join(others)}; "
        + (f"the true class is {name}." if name else "the file has no label.")
    )
