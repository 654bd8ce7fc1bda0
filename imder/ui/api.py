"""The public functions: the same for `gradio_client`, for raw HTTP and as MCP tools; typed, documented, bounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, TypeVar

import gradio as gr

from imder.data.clip import Clip
from imder.data.label import class_name, label_text
from imder.data.upload import clip_from_rows
from imder.interpret import Prediction, by_class, likeliest, true_share, votes
from imder.modality import missing, ordered
from imder.modality import patterns as patterns_of
from imder.pipeline import Recovery, RecoveryPipeline
from imder.ui.controls import INTERVAL, MODEL
from imder.ui.jobs import Jobs, Refused
from imder.ui.opening import choice_of
from imder.ui.shelf import Shelf
from imder.ui.validate import DEFAULT_DRAWS, BadInput, shown, validate, whole

T = TypeVar("T")

MAX_LISTED = 200
MAX_SEARCH = 200
EVALUATED_DRAWS = 4
FAILED = "The request failed (code {}). Try again, or another clip or model."


class Api:
    """The functions. None of them trusts its arguments; what is wrong is one sentence."""

    def __init__(self, shelf: Shelf, jobs: Jobs) -> None:
        self.shelf, self.jobs = shelf, jobs

    def recover(
        self,
        sample: str | None = None,
        drop: list[str] | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        draws: int = DEFAULT_DRAWS,
        guidance: float = 1.0,
        model: str | None = None,
        data: str | None = None,
    ) -> dict:
        """Recovers what is dropped from a clip and predicts its sentiment or class. One seed gives one result.

        Args:
            sample: The id of a clip, see list_clips; the first of the test split by default.
            drop: One or two of text, audio, vision (or Language, Voice, Face); vision by default.
            sampler: euler-maruyama, euler-maruyama-log, heun, dpmpp-2m or dpmpp-2m-sde; the model's own by default.
            steps: Steps of the sampler, 1 to 1000; its own number by default.
            seed: Fixes the noise, 0 to 2147483647.
            draws: How many recoveries, 1 to 64.
            guidance: 0 ignores what is observed, 1 is the model as trained, 8 the most.
            model: A model of the page or a Hub repository owner/name; the page's first by default.
            data: A data set of the page; the page's first by default.

        Returns:
            predictions (complete, zero, recovered, label), interval (90 % for the label), feature_error, nfe, seconds.
            Of a model that predicts classes each prediction is the probability of each class by its name, the label
            is a class's name, interval is null, and votes is the share of the draws in which each class is likeliest.
        """

        def work() -> Iterator[dict]:
            pipeline = self.shelf.get(model, data)
            request = validate(
                pipeline, sample=sample, drop=drop, sampler=sampler, steps=steps, seed=seed, draws=draws,
                guidance=guidance,
            )  # fmt: skip
            for item in pipeline.stream(request, interval=INTERVAL):
                yield answer(item) if isinstance(item, Recovery) else {}

        return self._last(work)

    def list_clips(
        self,
        search: str | None = None,
        lowest: float | None = None,
        highest: float | None = None,
        offset: int = 0,
        limit: int = 50,
        model: str | None = None,
        data: str | None = None,
    ) -> dict:
        """Lists the test clips that the other functions take, in their order, a page at a time.

        Args:
            search: Words that the sentence, the id or the label's class holds, whatever their case.
            lowest: Only clips with a label of at least this; not where labels are classes.
            highest: Only clips with a label of at most this; not where labels are classes.
            offset: How many of the found clips to pass over.
            limit: How many to list, 1 to 200.
            model: As in recover.
            data: As in recover.

        Returns:
            total (found clips), offset, clips (id, text, label, seconds), next_offset (null at the end). Where labels
            are classes a label is the class's name.
        """

        def work() -> Iterator[dict]:
            low, high = _bound("lowest", lowest, -math.inf), _bound("highest", highest, math.inf)
            first, most = whole("offset", offset, 0, 10**6), whole("limit", limit, 1, MAX_LISTED)
            if search is not None and (type(search) is not str or len(search) > MAX_SEARCH):
                raise BadInput(f"search: {shown(search)} is not a text of at most {MAX_SEARCH} characters.")
            words, shown_data = (search or "").casefold(), self.shelf.get(model, data).data
            classes = shown_data.label_classes
            for name, value in (("lowest", lowest), ("highest", highest)):
                if classes and value is not None:
                    raise BadInput(f"{name}: labels are classes, not numbers; search for one of {', '.join(classes)}.")
            found = [
                record
                for record in shown_data.split("test").records
                if low <= record["label"] <= high
                and any(words in text.casefold() for text in (record["text"], record["id"], *_class(record, classes)))
            ]
            if classes:
                found = [{**record, "label": class_name(record["label"], classes)} for record in found]
            page = found[first : first + most]
            yield {
                "total": len(found),
                "offset": first,
                "clips": [{key: record.get(key) for key in ("id", "text", "label", "seconds")} for record in page],
                "next_offset": first + len(page) if first + len(page) < len(found) else None,
            }

        return self._last(work)

    def evaluate_clip(
        self,
        sample: str | None = None,
        features: dict | None = None,
        label: float | str | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        seed: int = 0,
        draws: int = EVALUATED_DRAWS,
        guidance: float = 1.0,
        model: str | None = None,
        data: str | None = None,
    ) -> dict:
        """Recovers a clip under each of the six patterns of missing modalities and judges the predictions.

        Args:
            sample: The id of a clip, see list_clips; the first of the test split by default.
            features: Instead of a sample: {"text": rows, "audio": rows, "vision": rows}, a row of numbers a frame, of the model's widths; modalities may be absent. At most 64 KiB of JSON: round to three decimals.
            label: The sentiment of these features if it is known, or the class by its name or index.
            sampler: As in recover.
            steps: As in recover.
            seed: As in recover.
            draws: How many recoveries a pattern, 1 to 64.
            guidance: As in recover.
            model: As in recover.
            data: As in recover.

        Returns:
            complete and label; patterns, each with available, recovered, zero, their absolute errors, interval and feature_error.
            Of a model that predicts classes a prediction is the probability of each class by its name, the label a
            class's name; in the place of errors and interval stand the likeliest class, the probability that the true
            class was given, and votes as in recover.
        """  # noqa: E501 (one line a parameter is how Gradio reads it)

        def work() -> Iterator[dict]:
            pipeline = self.shelf.get(model, data)
            clip = self._given(pipeline, sample, features, label)
            gone = set(clip.absent if clip else ()) - set(pipeline.lacks)
            partial = [ordered((*p, *pipeline.lacks)) for p in patterns_of(pipeline.lacks)[:-1]]
            patterns = [pattern for pattern in partial if not gone & set(pattern)]
            requests = [
                validate(
                    pipeline, sample=sample, drop=list(missing(pattern)), sampler=sampler, steps=steps, seed=seed,
                    draws=draws, guidance=guidance, clip=clip, share=sum(3 - len(pattern) for pattern in patterns),
                )
                for pattern in patterns
            ]  # fmt: skip
            rows, nfe, seconds, complete, truth = [], 0, 0.0, math.nan, math.nan
            for request in requests:
                for item in pipeline.stream(request, interval=INTERVAL):
                    if isinstance(item, Recovery):
                        there = [k for k in item.request.available if k not in pipeline.lacks]
                        rows.append({"available": there} | judged(item))
                        nfe, seconds = nfe + int(item.nfe), seconds + float(item.seconds)
                        complete, truth = item.predictions["complete"], item.predictions["label"]
                    yield {}
            classes = pipeline.classes
            yield {
                "sample": requests[0].clip.id if features is None else None,
                "label": class_name(truth, classes) if classes else real(truth),
                **_judged("complete", complete, truth, classes),
                "patterns": rows,
                "nfe": nfe,
                "seconds": seconds,
            }

        return self._last(work)

    @staticmethod
    def _given(pipeline: RecoveryPipeline, sample: object, features: object, label: object) -> Clip | None:
        """The clip of the features, or None where a sample is asked for."""
        if features is None:
            if label is not None:
                raise BadInput("label: only features take one; a clip of the data set has its own.")
            return None
        if sample is not None:
            raise BadInput("features: give either a sample or features, not both.")
        value = label if label is None or pipeline.classes else _bound("label", label, 0.0)
        named = type(value) in (int, float, str) and value == value and len(str(value)) <= 100
        if pipeline.classes and value is not None and not named:
            raise BadInput(f"label: {shown(value)} is not allowed; the name of a class or its index is.")
        try:
            return clip_from_rows(features, value, pipeline.expected)
        except ValueError as error:
            raise BadInput(str(error)) from None

    def _last(self, work: Callable[[], Iterator[T]]) -> T:
        """The last item of `work()`, or gr.Error with the reason why not."""
        try:
            *_, result = self.jobs.run(work, FAILED)
        except Refused as reason:
            raise gr.Error(str(reason), print_exception=False) from None
        return result


def answer(recovery: Recovery) -> dict[str, Any]:
    """What `recover` returns."""
    request, classes = recovery.request, recovery.classes
    found, interval = recovery.predictions, recovery.interval
    predictions = {k: _prediction(v, classes) for k, v in found.items() if k != "label"}
    predictions["label"] = class_name(found["label"], classes) if classes else real(found["label"])
    return {
        "predictions": predictions,
        "feature_error": {k: {name: real(v) for name, v in row.items()} for k, row in recovery.feature_error.items()},
        "interval": [real(v) for v in interval] if interval else None,
        **_votes(recovery),
        "nfe": int(recovery.nfe),
        "seconds": float(recovery.seconds),
        "sample": request.clip.id,
        "dropped": choice_of(request)["drop"],
    }


def judged(recovery: Recovery) -> dict[str, Any]:
    """One pattern of `evaluate_clip`."""
    p, classes = recovery.predictions, recovery.classes
    recovered, zero = (_judged(name, p[name], p["label"], classes) for name in ("recovered", "zero"))
    return {
        **recovered,
        **zero,
        **({} if classes else {"interval": [real(v) for v in recovery.interval]}),
        **_votes(recovery),
        "feature_error": {k: {name: real(v) for name, v in row.items()} for k, row in recovery.feature_error.items()},
    }


def _prediction(value: Prediction, classes: Sequence[str]) -> Any:
    """A sentiment, or {class: probability}; None where there is none."""
    return by_class(value, classes) if classes else real(value)


def _judged(name: str, value: Prediction, label: float, classes: Sequence[str]) -> dict[str, Any]:
    """A prediction under its name, and how it compares with the label."""
    if not classes:
        return {name: real(value), f"{name}_error": real(abs(value - label))}
    first = likeliest(value, classes)
    return {
        name: by_class(value, classes),
        f"{name}_likeliest": first[0] if first else None,
        f"{name}_true_probability": real(true_share(value, label)),
    }


def _votes(recovery: Recovery) -> dict[str, Any]:
    """Of classes the share of the draws in which each is the likeliest; nothing of a sentiment."""
    classes = recovery.classes
    return {"votes": by_class(votes(recovery.draws), classes)} if classes else {}


def _class(record: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """The name of a record's class, if labels are classes and it has one."""
    return [label_text(record["label"], classes)] if classes else []


def real(value: Any) -> float | None:
    """A float that JSON has: None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def _bound(name: str, value: object, default: float) -> float:
    if value is None:
        return default
    if type(value) not in (int, float) or not abs(value) <= 1e6:  # NaN is not
        raise BadInput(f"{name}: {shown(value)} is not allowed; a number is.")
    return float(value)


def public_functions(api: Api, compare: Callable[..., dict]) -> None:
    """Adds the functions to the page that is being built, `ComparePage.compare` too; no other has a name outside."""
    gr.api(api.recover, api_name="recover", **MODEL)
    gr.api(compare, api_name="compare", **MODEL)
    gr.api(api.list_clips, api_name="list_clips", concurrency_id="list", concurrency_limit=2)
    gr.api(api.evaluate_clip, api_name="evaluate_clip", **MODEL)


def check_mcp() -> None:
    """ValueError unless the packages are those with which Gradio serves MCP; with others it silently serves 404."""
    install = 'install them with: pip install "gradio[mcp]==6.31.0"'
    try:
        found = metadata.version("mcp")
    except metadata.PackageNotFoundError:
        raise ValueError(f"MCP needs packages that are not installed; {install}") from None
    if int(found.split(".")[0]) >= 2:
        raise ValueError(f"MCP needs mcp below 2, {found} is installed; {install}")
