"""The page of comparisons: one clip and one noise, and everything else changed in turn."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from imder import compare, hub
from imder.compare import Fan, Fills, Outcome, Progress, Trial
from imder.data.label import class_name, label_text
from imder.interpret import by_class, percent
from imder.modality import NAMES
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.plots import compare as plots
from imder.plots import compare_classes as of_classes
from imder.report.blocks import DASH, Table, plain
from imder.report.page import table_html
from imder.ui.controls import BEGIN, INTERVAL, MODEL, Controls, can_stop, good, said, status_line, trouble
from imder.ui.jobs import Jobs, Refused
from imder.ui.players import players_component, players_message
from imder.ui.shelf import Shelf, bundled_runs
from imder.ui.validate import DEFAULT_DRAWS, MAX_WORK, BadInput, one_of, validate

FAILED = "The comparison failed (code {}); what was shown stays. Try again, or another clip or model."
GREETING = "The seven patterns of the chosen clip are being compared."
BASELINES = ("mmin", "gcnet", "dropout-fusion", "subset")
#: Draws at most, where a comparison runs many long paths.
MOST_DRAWS = {"samplers": 4, "presets": 4}


@dataclass(frozen=True)
class Subject:
    """What is compared: its name on the button, what to see, and what the figures do not show; of classes if other."""

    title: str
    text: str
    figures: str
    classes: str = ""

    def told(self, classes: Sequence[str]) -> str:
        """What stands above the figures of a run with those classes, or of one with a sentiment."""
        return self.classes if classes and self.classes else self.figures


SUBJECTS = {
    "patterns": Subject(
        "What is missing",
        "Seven ways to have this clip: everything, one modality dropped, two dropped. A face or a pitch marked as "
        "imagined is the first draw from noise; the others are as recorded. The noise of a modality is the same in "
        "every card.",
        "The further a diamond is from the dashed label, the worse the prediction. One clip does not rank the "
        "patterns: the Benchmark page does, over the whole test set.",
        "The further right a diamond is, the more probable the true class was held to be; an open one found another "
        "class likelier. One clip does not rank the patterns: an evaluation over the whole test set does.",
    ),
    "guidance": Subject(
        "Guidance",
        "The same noise with more and more weight on what is observed: 0 ignores it (any person, any mood), 1 is the "
        "model as trained, above 1 exaggerates it.",
        "Where the error is lowest is where guidance helps this clip; the band shows how the draws' spread changes "
        "with it. The 90 % interval was calibrated at guidance 1 only.",
        "Where the error is lowest is where guidance helps this clip; the band shows how the draws differ in the "
        "probability that they give the true class.",
    ),
    "samplers": Subject(
        "Samplers",
        "Ways to walk from the same noise to a clip, with few and with many evaluations of the network, beside a long "
        f"reference run ({compare.REFERENCE[1]} steps of DPM-Solver++).",
        "Lower and further left is better. First: squared distance of the draws' mean to the reference's (few draws "
        "leave a distance of their own, so stochastic samplers cannot reach zero). Second: error of a draw against the "
        "truth, which no sampler can bring to zero because much of a face or a voice cannot be known from the rest. "
        "Times are measured here, in this one run, and given as multiples of the reference's.",
    ),
    "presets": Subject(
        "As published, as written, corrected",
        "Three bundled runs trained on the same data: the authors' code as it is published, the equations as the paper "
        "writes them, and the corrected method. Each uses its own sampler and steps, all the same seed of noise.",
        "The diamond nearest the dashed label predicts this clip best. The feature errors are in each run's own "
        "latents, so they compare only roughly.",
        "The diamond furthest right predicts this clip best; an open one found another class likelier. The feature "
        "errors are in each run's own latents, so they compare only roughly.",
    ),
    "methods": Subject(
        "IMDer and its rivals",
        "What each method predicts from the same remainder of the clip, and what it believes the missing part was, "
        "where it keeps anything that can be drawn.",
        "A diamond near the dashed label is a good guess for this clip, no more. A fill gives one answer and no "
        "interval; averages such as ridge regression have a low feature error and a dull face, draws the opposite.",
        "A diamond far right is a good guess for this clip, no more; an open one found another class likelier. "
        "Averages such as ridge regression have a low feature error and a dull face, draws the opposite.",
    ),
    "fan": Subject(
        "Draws as a fan",
        "Many recoveries of the same remainder. They differ where the remainder does not decide.",
        "First: the band holds 90 % of the draws at each moment; where it is narrow the model is sure. Second: each "
        "stroke is the prediction of one draw, and nine labels of ten should lie within the bar. It also holds the "
        "run's calibration margin.",
        "Each stroke is the probability that one draw gives a class, the diamond their mean. Where the features can be "
        "read, a band beside it holds 90 % of the draws at each moment.",
    ),
}  # fmt: skip
#: Comparisons that are made anew when the page is opened with another clip.
QUICK = ("patterns", "fan", "guidance")


class ComparePage:
    """The handlers. None of them trusts its arguments."""

    def __init__(self, jobs: Jobs, shelf: Shelf) -> None:
        self.jobs, self.shelf = jobs, shelf
        self._fills: OrderedDict[RecoveryPipeline, Fills] = OrderedDict()

    def fills(self, pipeline: RecoveryPipeline) -> Fills:
        """The fitted fills of a pipeline; those of the last two are kept."""
        kept = self._fills.pop(pipeline, None) or Fills(pipeline)
        self._fills[pipeline] = kept
        while len(self._fills) > 2:
            self._fills.popitem(last=False)
        return kept

    def work(
        self, pipeline: RecoveryPipeline, data: str, request: RecoveryRequest, what: str
    ) -> Iterator[Progress | Outcome | Fan]:
        """A comparison as it goes."""
        if what == "presets":
            names = [name for name in compare.PRESETS if name in self.shelf.models]
            if not names:
                raise BadInput("The runs official, paper and corrected are not among the models of this page.")
            return compare.presets({name: self._opener(name, data) for name in names}, request)
        if what == "methods":
            runs = {name: _loader(Path(source)) for name, source in bundled_runs().items() if name in BASELINES}
            return compare.methods(
                pipeline, request, {k: runs[k] for k in BASELINES if k in runs}, self.fills(pipeline)
            )
        return getattr(compare, what)(pipeline, request)

    def _opener(self, name: str, data: str) -> Callable[[], RecoveryPipeline]:
        return lambda: self.shelf.get(name, data)

    def request(self, pipeline: RecoveryPipeline, what: str, choice: dict[str, object]) -> tuple[RecoveryRequest, str]:
        """The checked request with no more draws than this page has time for, and a sentence if they are fewer."""
        request = validate(pipeline, **choice)
        most = min(MOST_DRAWS.get(what, request.draws), MAX_WORK // compare.cost(pipeline, request, what))
        if not most:
            raise BadInput(f"steps: {request.steps} is too much for this comparison; choose fewer on the first page.")
        if what == "fan" and request.draws < 2:
            raise BadInput("draws: 1 is no fan; choose at least 2 on the first page, under Advanced.")
        if most >= request.draws:
            return request, ""
        return dataclasses.replace(request, draws=most), f" With {most} of {request.draws} draws, to stay quick."

    def open(self, model: object, data: object, *rest: object) -> Iterator[tuple[Any, ...]]:
        """The page is selected: the comparison of the first page's clip, unless it is shown; outputs as `play`."""
        *choice, what, followed = rest
        key = repr([model, data, *choice])[:2000]
        if key == followed:
            return
        if followed and what not in QUICK:
            told = "Another clip, model or choice is set on the first page: press Compare to compare it."
            yield (*[gr.skip()] * 7, said(told))
            return
        yield from self.play(model, data, *choice, what)

    def play(self, model: object, data: object, *rest: object) -> Iterator[tuple[Any, ...]]:
        """A comparison as it goes: subject, text, players, figures' text, two figures, table, followed, status."""
        shown: list[Outcome | Fan] = []
        view: dict[str, Any] = {}

        def work() -> Iterator[tuple[Any, ...]]:
            *values, named = rest
            what = one_of("what to compare", named, SUBJECTS)
            pipeline = self.shelf.get(model, data)
            request, fewer = self.request(pipeline, what, _choice(values))
            run = f"{what} {request.clip.id} {time.monotonic_ns()}"
            view.update(what=what, key=repr([model, data, *values])[:2000], last=(pipeline, run, request))
            told, last = SUBJECTS[what], -math.inf
            head = f"<h2>{escape(told.title)}</h2><p>{subject(pipeline, str(model), request, what)}</p>"
            first = (head + f"<p>{escape(told.text)}</p>", self.players(pipeline, run, request, []))
            yield (*first, *[gr.skip()] * 5, said("Begun." + fewer))
            began = time.monotonic()
            for item in self.work(pipeline, str(data), request, what):
                if isinstance(item, Progress):
                    if time.monotonic() - last >= INTERVAL:
                        last = time.monotonic()
                        yield (*[gr.skip()] * 7, said(f"{len(shown)} done. {item.name}: {item.part:.0%}."))
                    continue
                shown.append(item)
                last = time.monotonic()
                cards = gr.skip() if isinstance(item, Trial) else self.players(pipeline, run, request, shown)
                status = said(f"{len(shown)} done. {item.outcome.name if isinstance(item, Fan) else item.name}.")
                yield gr.skip(), cards, *[gr.skip()] * 3, table(shown, what), gr.skip(), status
            status = good(f"Done in {time.monotonic() - began:.1f} s: {counted(shown)}.{fewer}")
            yield gr.skip(), gr.skip(), *figures(shown, what), table(shown, what), view["key"], status

        try:
            yield from self.jobs.run(work, FAILED)
        except Refused as reason:
            drawn = [gr.skip()] * 5
            if shown:
                cards = gr.skip() if isinstance(shown[0], Trial) else self.players(*view["last"], shown)
                drawn = [cards, *figures(shown, view["what"]), table(shown, view["what"])]
            yield gr.skip(), *drawn, gr.skip(), trouble(str(reason))

    def players(
        self, pipeline: RecoveryPipeline, run: str, request: RecoveryRequest, shown: Sequence[Outcome | Fan]
    ) -> dict[str, Any]:
        """The message of the cards so far."""
        cards = _outcomes(shown)
        data, classes = pipeline.data, pipeline.classes
        return players_message(
            run, request.clip, cards, names=data.feature_names, label_range=data.label_range, classes=classes
        )

    def compare(
        self,
        sample: str | None = None,
        drop: list[str] | None = None,
        what: str = "patterns",
        seed: int = 0,
        draws: int = DEFAULT_DRAWS,
    ) -> dict:
        """Compares recoveries of one clip under the same noise. The same seed gives the same numbers, times apart.

        Args:
            sample: The id of a clip, see list_clips; the first of the test split by default.
            drop: One or two of text, audio, vision (or Language, Voice, Face); vision by default; patterns ignores it.
            what: patterns (all seven), guidance, samplers, presets (as published, as written, corrected), methods
                (IMDer, MMIN, GCNet, modality dropout, subset models, fills), or fan (all draws of one recovery).
            seed: Fixes the noise, 0 to 2147483647.
            draws: How many recoveries each, 1 to 64; long comparisons take fewer and say so in the answer's draws.

        Returns:
            rows (name, prediction, interval, feature_error, nfe, seconds and more), label, and what was asked for. Of
            a run that predicts classes a prediction is the probability of each by name, with likeliest and
            true_probability beside it in the place of an interval and an error, and the label is the class's name.
        """

        def work() -> Iterator[dict]:
            chosen = one_of("what", what, SUBJECTS)
            pipeline = self.shelf.get()
            request, _ = self.request(pipeline, chosen, {"sample": sample, "drop": drop, "seed": seed, "draws": draws})
            rows = []
            for item in self.work(pipeline, self.shelf.first[1], request, chosen):
                if not isinstance(item, Progress):
                    rows.append(row(item.outcome if isinstance(item, Fan) else item))
                yield {}
            yield {
                "what": chosen,
                "sample": request.clip.id,
                "dropped": list(request.missing),
                "label": class_name(request.clip.label, pipeline.classes)
                if pipeline.classes
                else float(request.clip.label),
                "seed": request.seed,
                "draws": request.draws,
                "rows": rows,
            }

        try:
            *_, result = self.jobs.run(work, FAILED)
        except Refused as reason:
            raise gr.Error(str(reason), print_exception=False) from None
        return result


def _loader(folder: Path) -> Callable[[], hub.Run]:
    return lambda: hub.load_run(folder)


def _choice(values: Sequence[object]) -> dict[str, object]:
    names = ("sample", "drop", "sampler", "steps", "seed", "draws", "guidance")
    if len(values) != len(names):
        raise BadInput(f"values: {len(values)} were given; {len(names)} are needed: {', '.join(names)}.")
    return dict(zip(names, values, strict=True))


def subject(pipeline: RecoveryPipeline, model: str, request: RecoveryRequest, what: str) -> str:
    """Which clip and model are shown, in one sentence of HTML, and where others are chosen."""
    clip, kind = request.clip, "Synthetic clip" if pipeline.data.synthetic else "Clip"
    gone = " and ".join(NAMES[k] for k in request.missing)
    dropped = "" if what == "patterns" else f", {gone} dropped"
    words, label = escape(clip.text[:120] or clip.id), escape(label_text(clip.label, pipeline.classes))
    return (
        f"{kind} “{words}” (label {label}){dropped}; model <b>{escape(model[:100])}</b>, "
        f"seed {request.seed}, {request.draws} {'draw' if request.draws == 1 else 'draws'}. Clip, model, what is "
        "dropped, seed and draws are chosen on the first page, Recover."
    )


def counted(shown: Sequence[Outcome | Fan]) -> str:
    """What a finished comparison holds."""
    if shown and isinstance(shown[0], Fan):
        return f"{len(shown[0].outcome.draws)} draws"
    return f"{len(shown)} {'outcome' if len(shown) == 1 else 'outcomes'}"


def _outcomes(shown: Sequence[Outcome | Fan]) -> list[Outcome]:
    return [one.outcome if isinstance(one, Fan) else one for one in shown]


def figures(shown: Sequence[Outcome | Fan], what: str) -> tuple[Any, Any, Any]:
    """The sentence under which the figures stand, and up to two of them."""

    def drawn(figure: go.Figure | None) -> Any:
        return gr.update(value=figure, visible=figure is not None)

    classes = _outcomes(shown)[0].classes if shown else ()
    guided, fanned, others = plots.guidance_prediction, plots.fan_predictions, plots.predictions
    if classes:
        guided, fanned, others = of_classes.class_guidance, of_classes.class_fan, of_classes.class_predictions
    text = f"<h2>In figures</h2><p>{escape(SUBJECTS[what].told(classes))}</p>"
    if what == "guidance":
        return text, drawn(plots.guidance_error(shown)), drawn(guided(shown))
    if what == "samplers":
        return text, drawn(plots.sampler_quality(shown)), drawn(plots.sampler_error(shown))
    if what == "fan":
        return text, drawn(plots.fan_bands(shown[0]) if shown[0].bands else None), drawn(fanned(shown[0]))
    return text, drawn(others(shown)), drawn(None)


def _errors(errors: dict[str, float]) -> str:
    return ", ".join(f"{NAMES[k]} {errors[k]:.2f}" for k in errors) or DASH


def _sentiment_cells(one: Outcome) -> list[str]:
    return [
        f"{one.prediction:+.2f}" if one.known else DASH,
        f"{one.error:+.2f}" if one.known else DASH,
        f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}" if one.interval else DASH,
    ]


def _class_cells(one: Outcome) -> list[str]:
    if not one.known:
        return [DASH, DASH]
    name, share = one.likeliest
    return [f"{name} {percent(share)}", percent(one.true_share)]


def table(shown: Sequence[Outcome | Fan], what: str) -> str:
    """The numbers of the outcomes."""
    cards = _outcomes(shown)
    of = cards[0].classes if cards else ()
    head = ["Outcome", "Likeliest class", "True class"] if of else ["Outcome", "Prediction", "Off by", "90 % interval"]
    head += ["Draw error", "To reference", "Evaluations", "Time"] if what == "samplers" else [
        "Feature error, one draw", "Of the draws' mean", "Evaluations", "Seconds here",
    ]  # fmt: skip
    body = []
    for one in cards:
        line = [one.name, *(_class_cells(one) if of else _sentiment_cells(one))]
        if isinstance(one, Trial):
            line += [
                f"{one.draw_error:.3f}",
                f"{one.mean_gap:.2g}",
                str(one.nfe),
                f"{one.seconds / cards[0].seconds:.2f}",
            ]
        else:
            line += [_errors(one.feature_error), _errors(one.mean_error), str(one.nfe or DASH), f"{one.seconds:.3f}"]
        body.append(tuple(plain(cell) for cell in line))
    caption = "True class: the probability that it was given. " if of else ""
    caption += (
        "Draw error: mean squared error of the draws, a dimension in unit latents (a mean fill has 1). To reference: "
        "squared distance of the means. Time: multiples of the reference's, in this run."
        if what == "samplers"
        else "Feature error: mean squared error a dimension in unit latents; filling in the training mean has about "
        "1. Seconds are those of this run on a shared machine."
    )
    return table_html(Table(f"{SUBJECTS[what].title}: the numbers", caption, tuple(head), tuple(body)), "Numbers")


def row(one: Outcome) -> dict[str, Any]:
    """An outcome as the API gives it; what is not known is null."""
    predicted: dict[str, Any] = {
        "prediction": float(one.prediction) if one.known else None,
        "error": float(one.error) if one.known else None,
        "interval": [float(v) for v in one.interval] if one.interval else None,
        "draws": [float(v) for v in one.draws],
    } if not one.classes else {
        "prediction": by_class(one.prediction, one.classes),
        "likeliest": one.likeliest[0] if one.known else None,
        "true_probability": one.true_share if one.known else None,
        "draws": [by_class(draw, one.classes) for draw in one.draws],
    }  # fmt: skip
    found = {
        "name": one.name,
        "available": list(one.available),
        **predicted,
        "feature_error": {k: float(v) for k, v in one.feature_error.items()},
        "mean_error": {k: float(v) for k, v in one.mean_error.items()},
        "words": [[[word, float(share)] for word, share in ranked] for ranked in one.words],
        "sampler": one.sampler,
        "steps": one.steps,
        "guidance": one.guidance,
        "nfe": int(one.nfe),
        "seconds": float(one.seconds),
        "note": one.note,
    }
    if isinstance(one, Trial):
        found |= {name: getattr(one, name) for name in ("draw_error", "spread", "gap", "mean_gap")}
    return found


def compare_tab(page: ComparePage, controls: Controls) -> None:
    """Adds the page to the tabs that are being built; the first comparison is made when it is selected."""
    with gr.Tab("Compare", elem_id="page-compare") as tab, gr.Column(elem_id="compare", elem_classes="sheet"):
        what = gr.Radio(
            [(one.title, name) for name, one in SUBJECTS.items()], value="patterns", label="What to compare",
            info="Same clip, same noise.", elem_id="compare-what",
        )  # fmt: skip
        with gr.Row(elem_id="compare-buttons"):
            begin = gr.Button("Compare", variant="primary", elem_id="compare-begin", min_width=120, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id="compare-stop", min_width=80, scale=0)
        status = status_line(GREETING, "compare-status")
        text = gr.HTML(elem_classes="report", elem_id="compare-text")
        players = players_component()
        told = gr.HTML(elem_classes="report", elem_id="compare-figures-text")
        with gr.Row(elem_classes="figures"):
            drawn = [
                gr.Plot(show_label=False, container=False, visible=False, elem_id=f"compare-figure-{i}")
                for i in range(2)
            ]
        numbers = gr.HTML(elem_classes="report", elem_id="compare-table")
        followed = gr.Textbox(visible=False)
        api = {"show_progress": "hidden", "trigger_mode": "once", "preprocess": False, "api_visibility": "private"}
    outputs = [text, players, told, *drawn, numbers, followed, status]
    tab.select(None, None, stop, js=BEGIN, api_visibility="private")
    first = tab.select(page.open, [*controls.values, what, followed], outputs, **api, **MODEL)
    begin.click(None, None, stop, js=BEGIN, api_visibility="private")
    run = begin.click(page.play, [*controls.values, what], outputs, **api, **MODEL)
    can_stop(stop, status, [first, run], "What was finished stays.")
