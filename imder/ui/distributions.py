"""The page of distributions: recovered against real over the test set, stored, and a live run added to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from imder.evaluation.distributions import Stored, study_of
from imder.evaluation.live import SMALL, draw_work, live_draws, random_rows, stepwise
from imder.evaluation.recovered import View, view_of
from imder.evaluation.study import Tick, run_digest
from imder.modality import MODALITIES, NAMES
from imder.pipeline import MAX_SEED, RecoveryPipeline
from imder.report.distributions import (
    COLOURS,
    PROJECTIONS,
    Distributions,
    channel_figure,
    channels_figure,
    distance_table,
    joint_figures,
    live_figures,
    live_table,
    overview_table,
    patterns_for,
    sentence_figure,
    sentence_names,
    sentence_table,
    statement,
)
from imder.report.page import prose_html, table_html
from imder.ui.controls import BEGIN, LIGHT, MODEL, Controls, can_stop, good, said, settled, status_line, trouble
from imder.ui.jobs import Jobs, Refused
from imder.ui.shelf import Shelf
from imder.ui.validate import MAX_WORK, BadInput, check_sample, one_of, whole

PATH = Path(__file__).parents[2] / "assets" / "distributions.safetensors"
FAILED = "The distributions could not be shown (code {}); what was shown stays. Try another choice."
LIVE_FAILED = "The live run failed (code {}); what was shown stays. Try another seed, or fewer clips."
STATES = {"as drawn": False, "after D_k": True}
CLIPS, CLIP = SOURCES = ("random test clips", "many draws of the first page's clip")
LEAST, MOST = 8, 64
LEAD = """<p>Does what is recovered look like the real thing, over the whole test set? Each mark is a clip: the features
of one modality, squeezed to two dimensions together for all sets. Where recovered and real marks mix, the recovered
ones are plausible as a whole; whether each fits its own clip is another question, which the last section asks.</p>"""
PLAIN = """<p>t-SNE keeps neighbours together; sizes and gaps mean little. PCA is a flat shadow: it keeps its scale, but
shows two directions of many. The distances below are taken in 32 directions, not in these pictures.</p>"""
NO_OTHERS = "Other performances share the sentence; they tell of the voice and the face. Choose one of these above."
NOTHING_TRUE = """There is nothing true to compare these draws with: only clips with other performances of their
sentence have some, and only where Language alone is observed. The stars show how far the draws of one clip spread."""
LIVE_WAITS = "Choose what to draw and press Run: live draws appear as stars in the PCA picture with the condition."
HIDDEN = {"value": None, "visible": False}


class DistributionsPage:
    """The handlers. None of them trusts its arguments."""

    def __init__(self, jobs: Jobs, shelf: Shelf, distributions: Distributions) -> None:
        self.jobs, self.shelf, self.distributions = jobs, shelf, distributions
        self.digest = lru_cache(16)(run_digest)
        self.study = lru_cache(2)(lambda pipeline: study_of(pipeline.run, pipeline.data, batch=SMALL))

    def light(self, outputs: int, work: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """`work()`, or one sentence as the last of so many outputs."""

        def told() -> tuple[Any, ...]:
            try:
                return work()
            except BadInput:
                raise
            except ValueError as error:
                raise BadInput(str(error)) from None

        return settled(self.jobs, outputs, told, FAILED)

    def stored(self, pipeline: RecoveryPipeline) -> Stored:
        """The stored distributions of the pipeline's run and data. ValueError where there are none."""
        try:
            digest = self.digest(Path(pipeline.run.folder))
        except OSError:
            raise BadInput("The model of the first page has no run folder, so nothing is stored of it.") from None
        return self.distributions.of(digest, pipeline.data.fingerprint)

    # Choices ---------------------------------------------------------------------------------------------------------

    def open(self, model: object, data: object, followed: object) -> tuple[Any, ...]:
        """What the page shows first, unless it shows that model and data already: followed, statement, then `turn`."""

        def work() -> tuple[Any, ...]:
            asked = f"{model}\n{data}"
            if followed == asked:
                return tuple([gr.skip()] * 14)
            pipeline = self.shelf.get(model, data)
            try:
                stored = self.stored(pipeline)
            except ValueError as error:
                name = f"Model {model} on {pipeline.data.title}."
                return (
                    asked, f"<p>{escape(name)}</p>", gr.skip(), gr.skip(), gr.skip(), gr.update(**HIDDEN),
                    gr.update(**HIDDEN), "", gr.update(**HIDDEN), gr.update(**HIDDEN), "", gr.update(**HIDDEN), "",
                    trouble(str(error)),
                )  # fmt: skip
            told = f"<p>{prose_html(statement(stored))} Another model or data set is chosen on the first page.</p>"
            whole_page = self.whole(stored, MODALITIES[-1], None, "as drawn", "t-SNE", COLOURS[0])
            return asked, told, *whole_page

        return self.light(14, work)

    def turn(
        self, model: object, data: object, modality: object, state: object, projection: object, colour: object
    ) -> tuple[Any, ...]:
        """Another modality: what it is recovered from, channel, sentence, and everything below."""

        def work() -> tuple[Any, ...]:
            stored = self.stored(self.shelf.get(model, data))
            return self.whole(stored, modality, None, state, projection, colour)

        return self.light(12, work)

    def whole(
        self, stored: Stored, modality: object, observed: object, state: object, projection: object, colour: object
    ) -> tuple[Any, ...]:
        """The choices' components; pictures and tables; histogram, channels, text; sentence and its table; status."""
        k = one_of("modality", modality, MODALITIES)
        patterns = patterns_for(k)
        first = next(iter(patterns)) if observed is None else observed
        channels, texts = stored.about["channels"][k], list(sentence_names(stored, k))
        channel = channels[0]
        *pictures, tables, status = self.pictures(stored, k, first, state, projection, colour)
        return (
            gr.update(choices=list(patterns), value=first),
            gr.update(choices=channels, value=channel),
            gr.update(choices=texts, value=texts[0] if texts else None, visible=bool(texts)),
            *pictures, tables,
            *self.histograms(stored, k, first, state, channel),
            *self.performed(stored, k, texts[0] if texts else None),
            status,
        )  # fmt: skip

    def view(self, modality: object, observed: object) -> View:
        """The view of those names."""
        k = one_of("modality", modality, MODALITIES)
        patterns = patterns_for(k)
        return view_of(k, patterns[one_of("recovered from", observed, patterns)])

    def pictures(
        self, stored: Stored, modality: object, observed: object, state: object, projection: object, colour: object
    ) -> tuple[Any, ...]:
        """Two pictures, tables, status."""
        view = self.view(modality, observed)
        refined = STATES[one_of("state", state, STATES)]
        kind = PROJECTIONS[one_of("projection", projection, PROJECTIONS)]
        found = joint_figures(stored, view, refined, kind, one_of("colour", colour, COLOURS))
        tables = [distance_table(stored, view), overview_table(stored, refined)]
        told = f"{NAMES[view.modality]} recovered from {observed}, {state}, {projection}."
        if colour != COLOURS[0] and stored.about.get("label_classes"):
            told += " Labels are classes here and have no scale to colour by: point at a mark for its class."
        return (
            *(gr.update(value=one.figure, visible=True) for one in found),
            "\n".join(table_html(table, table.title) for table in tables),
            said(told),
        )

    def histograms(
        self, stored: Stored, modality: object, observed: object, state: object, channel: object
    ) -> tuple[Any, ...]:
        """A channel's histogram, all channels, their text."""
        view, refined = self.view(modality, observed), STATES[one_of("state", state, STATES)]
        channels = stored.about["channels"][view.modality]
        one = channel_figure(stored, view, refined, channels.index(one_of("channel", channel, channels)))
        every = channels_figure(stored, view, refined)
        text = f"<h3>{escape(one.title)}</h3><p>{prose_html(one.caption)}</p><p>{prose_html(every.caption)}</p>"
        return gr.update(value=one.figure, visible=True), gr.update(value=every.figure, visible=True), text

    def performed(self, stored: Stored, modality: str, text: str | None) -> tuple[Any, ...]:
        """A sentence's picture, the table of all and its caption."""
        if text is None:
            return gr.update(**HIDDEN), f"<p>{NO_OTHERS}</p>"
        names = sentence_names(stored, modality)
        found = sentence_figure(stored, names[one_of("sentence", text, names)])
        table = sentence_table(stored, modality)
        told = f"<p>{prose_html(found.caption)}</p>{table_html(table, table.title)}"
        return gr.update(value=found.figure, visible=True), told

    def show(
        self,
        model: object,
        data: object,
        modality: object,
        observed: object,
        state: object,
        projection: object,
        colour: object,
        channel: object,
    ) -> tuple[Any, ...]:
        """Another choice: two pictures, tables, histogram, channels, their text, status."""

        def work() -> tuple[Any, ...]:
            stored = self.stored(self.shelf.get(model, data))
            *pictures, tables, status = self.pictures(stored, modality, observed, state, projection, colour)
            return *pictures, tables, *self.histograms(stored, modality, observed, state, channel), status

        return self.light(7, work)

    def channel(
        self, model: object, data: object, modality: object, observed: object, state: object, channel: object
    ) -> tuple[Any, ...]:
        """Another channel: histogram, text, status."""

        def work() -> tuple[Any, ...]:
            stored = self.stored(self.shelf.get(model, data))
            figure, _, text = self.histograms(stored, modality, observed, state, channel)
            return figure, text, said(f"Channel {channel}.")

        return self.light(3, work)

    def sentence(self, model: object, data: object, modality: object, text: object) -> tuple[Any, ...]:
        """Another sentence: picture, text and table, status."""

        def work() -> tuple[Any, ...]:
            stored = self.stored(self.shelf.get(model, data))
            k = one_of("modality", modality, MODALITIES)
            return *self.performed(stored, k, one_of("sentence", text, sentence_names(stored, k))), said("A sentence.")

        return self.light(3, work)

    # A live run ------------------------------------------------------------------------------------------------------

    def live(
        self,
        model: object,
        data: object,
        sample: object,
        modality: object,
        observed: object,
        state: object,
        colour: object,
        source: object,
        count: object,
        seed: object,
    ) -> Iterator[tuple[Any, ...]]:
        """Draws now: projection, two pictures, one of performances, text, status."""

        def work() -> Iterator[tuple[Any, ...]]:
            pipeline = self.shelf.get(model, data)
            view = self.view(modality, observed)
            refined = STATES[one_of("state", state, STATES)]
            kind = one_of("live draws of", source, SOURCES)
            number = whole("how many", count, LEAST, MOST)
            noise = whole("seed", seed, 0, MAX_SEED)
            clip = check_sample(pipeline, sample)
            look = one_of("colour", colour, COLOURS)
            yield (*[gr.skip()] * 5, said("The real clips are encoded."))

            def drawn(tick: Tick) -> Any:
                study = self.study(pipeline)
                if (needed := draw_work(study, view, number)) > MAX_WORK:
                    most = int(MAX_WORK * number / needed)
                    raise BadInput(f"how many: {number} is too much for this model's {study.nfe} steps; {most} is not.")
                rows = random_rows(number, len(study.ids), noise) if kind == CLIPS else [study.ids.index(clip.id)]
                made = live_draws(study, view, rows, 1 if kind == CLIPS else number, noise, refined, tick)
                return study, made

            for units, result in self.steps(drawn):
                if result is None and units:
                    total = draw_work(self.study(pipeline), view, number)
                    yield (*[gr.skip()] * 5, said(f"Drawing: {units / total:.0%} of {number} draws."))
            study, made = result
            try:
                stored = self.stored(pipeline)
            except ValueError:
                stored = None
            found = [
                gr.update(value=one.figure, visible=True) for one in live_figures(stored, study, made, refined, look)
            ]
            free = found[1] if stored else gr.update(**HIDDEN)
            own = found[-1] if made.sentence else gr.update(**HIDDEN)
            table = live_table(study, made)
            text = table_html(table, table.title) if table else f"<p>{NOTHING_TRUE}</p>"
            yield (
                "PCA",
                found[0],
                free,
                own,
                text,
                good(f"Done: {len(made.points)} live draws, the stars in the picture."),
            )

        try:
            yield from self.jobs.run(work, LIVE_FAILED)
        except Refused as reason:
            yield (*[gr.skip()] * 5, trouble(str(reason)))

    @staticmethod
    def steps(work: Callable[[Tick], Any]) -> Iterator[tuple[float, Any]]:
        """`stepwise(work)`; what the data lacks is told to the visitor."""
        try:
            yield from stepwise(work)
        except BadInput:
            raise
        except ValueError as error:
            raise BadInput(str(error).rstrip(".") + ".") from None


def distributions_tab(page: DistributionsPage, controls: Controls) -> None:
    """Adds the page to the tabs that are being built; nothing is read before it is selected."""
    with gr.Tab("Distributions", elem_id="page-distributions") as tab, gr.Column(elem_classes="sheet"):
        gr.HTML(f"<h2>Recovered against real</h2>{LEAD}", elem_classes="report")
        followed = gr.Textbox(visible=False)
        source_text = gr.HTML(elem_classes="report", elem_id="distributions-source")
        with gr.Row():
            modality = gr.Radio(
                [(NAMES[k], k) for k in MODALITIES], value=MODALITIES[-1], label="Modality", elem_id="dist-modality"
            )
            observed = gr.Radio(
                list(patterns_for(MODALITIES[-1])), value=next(iter(patterns_for(MODALITIES[-1]))),
                label="Recovered from", elem_id="dist-observed",
            )  # fmt: skip
        with gr.Row():
            projection = gr.Radio(list(PROJECTIONS), value="t-SNE", label="Projection", elem_id="dist-projection")
            colour = gr.Radio(list(COLOURS), value=COLOURS[0], label="Colour by", elem_id="dist-colour")
            state = gr.Radio(list(STATES), value="as drawn", label="Shown", elem_id="dist-state")
        status = status_line("The stored distributions are being read.", "distributions-status")
        with gr.Row(elem_classes="figures"):
            with gr.Column():
                gr.HTML("<h3>With the condition</h3>", elem_classes="report")
                with_condition = gr.Plot(show_label=False, container=False, visible=False, elem_id="dist-conditional")
            with gr.Column():
                gr.HTML("<h3>Without any condition</h3>", elem_classes="report")
                without = gr.Plot(show_label=False, container=False, visible=False, elem_id="dist-unconditional")
        gr.HTML(PLAIN, elem_classes="report")
        live = _live_section()
        gr.HTML("<h2>Distances</h2>", elem_classes="report")
        tables = gr.HTML(elem_classes="report", elem_id="dist-tables")
        gr.HTML("<h2>Channel by channel</h2>", elem_classes="report")
        channel = gr.Dropdown([], label="Channel", info="A latent, or a feature by name.", elem_id="dist-channel")
        channel_text = gr.HTML(elem_classes="report", elem_id="dist-channel-text")
        with gr.Row(elem_classes="figures"):
            histogram = gr.Plot(show_label=False, container=False, visible=False, elem_id="dist-histogram")
            channels = gr.Plot(show_label=False, container=False, visible=False, elem_id="dist-channels")
        gr.HTML("<h2>Draws against other performances of the same sentence</h2>", elem_classes="report")
        sentence = gr.Dropdown([], label="Sentence", elem_id="dist-sentence")
        with gr.Row(elem_classes="figures"):
            performed = gr.Plot(show_label=False, container=False, visible=False, elem_id="dist-performed")
            performed_text = gr.HTML(elem_classes="report", elem_id="dist-performed-text")
    pair = [controls.model, controls.data]
    look = [state, projection, colour]
    below = [with_condition, without, tables, histogram, channels, channel_text]
    everything = [observed, channel, sentence, *below, performed, performed_text, status]
    tab.select(page.open, [*pair, followed], [followed, source_text, *everything], **LIGHT)
    modality.input(page.turn, [*pair, modality, *look], everything, **LIGHT, trigger_mode="always_last")
    for chooser in (observed, *look):
        chooser.input(
            page.show, [*pair, modality, observed, *look, channel], [*below, status], **LIGHT,
            trigger_mode="always_last",
        )  # fmt: skip
    channel.input(
        page.channel, [*pair, modality, observed, state, channel], [histogram, channel_text, status], **LIGHT,
        trigger_mode="always_last",
    )  # fmt: skip
    sentence.input(
        page.sentence, [*pair, modality, sentence], [performed, performed_text, status], **LIGHT,
        trigger_mode="always_last",
    )  # fmt: skip
    _connect_live(
        page, live, [*pair, controls.sample, modality, observed, state, colour], [projection, with_condition, without]
    )


def _live_section() -> Sequence[Any]:
    """source, count, seed, run, stop, status, text, figure of the live run."""
    gr.HTML("<h2>Draw now</h2>", elem_classes="report")
    with gr.Row():
        source = gr.Radio(list(SOURCES), value=CLIPS, label="Live draws of", elem_id="dist-live-source")
        count = gr.Slider(LEAST, MOST, value=24, step=1, label="How many", elem_id="dist-live-count")
        seed = gr.Number(
            1, label="Seed", info="0 with random clips repeats stored draws.", precision=0, minimum=0,
            maximum=MAX_SEED, elem_id="dist-live-seed",
        )  # fmt: skip
    with gr.Row():
        run = gr.Button("Run", variant="primary", elem_id="dist-live-run", min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id="dist-live-stop", min_width=80)
    status = status_line(LIVE_WAITS, "dist-live-status")
    text = gr.HTML(elem_classes="report", elem_id="dist-live-text")
    figure = gr.Plot(show_label=False, container=False, visible=False, elem_id="dist-live-figure")
    return source, count, seed, run, stop, status, text, figure


def _connect_live(page: DistributionsPage, live: Sequence[Any], chosen: Sequence[Any], above: Sequence[Any]) -> None:
    source, count, seed, run, stop, status, text, figure = live
    run.click(None, None, stop, js=BEGIN, api_visibility="private")
    going = run.click(
        page.live, [*chosen, source, count, seed], [*above, figure, text, status], show_progress="hidden",
        trigger_mode="once", preprocess=False, api_visibility="private", **MODEL,
    )  # fmt: skip
    can_stop(stop, status, [going], "What was shown stays.")
