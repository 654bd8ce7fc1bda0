"""The page: controls beside the stage, their events, and the API. What runs the model goes through `Jobs`."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from imder.modality import NAMES
from imder.pipeline import RecoveryPipeline
from imder.report.benchmark import Benchmark
from imder.report.distributions import Distributions
from imder.ui.api import Api, public_functions
from imder.ui.benchmark import PATH as BENCHMARK
from imder.ui.benchmark import BenchmarkPage, benchmark_tab
from imder.ui.compare import ComparePage, compare_tab
from imder.ui.controls import (
    LIGHT,
    MODEL,
    Controls,
    can_stop,
    controls_column,
    drop_choices,
    drop_told,
    said,
    sample_choices,
    sample_info,
    settled,
    told_examples,
    trouble,
)
from imder.ui.distributions import PATH as DISTRIBUTIONS
from imder.ui.distributions import DistributionsPage, distributions_tab
from imder.ui.downloads import DownloadsPage, downloads_section
from imder.ui.explain import explain_tab
from imder.ui.field import FieldPage, field_tab
from imder.ui.guide import head
from imder.ui.hear import HearPage, hear_section
from imder.ui.jobs import Jobs, Refused
from imder.ui.live import LivePage
from imder.ui.measured import measured_section
from imder.ui.messages import bundle
from imder.ui.opening import choice_of, read_opening, sample_of
from imder.ui.say import SayPage, say_tab
from imder.ui.shelf import Shelf
from imder.ui.stage import stage_component
from imder.ui.training import TrainingPage, training_tab
from imder.ui.validate import (
    BadInput,
    Choice,
    check_drop,
    check_sampler,
    default_drop,
    default_steps,
    from_link,
    validate,
    validate_choice,
)
from imder.ui.watch import watched
from imder.ui.yours import YoursPage, yours_tab

T = TypeVar("T")


GREETING = "Choose a sample, drop one or two modalities, then press Recover."
COPY_LINK = """
(sample, drop, sampler, steps, seed, draws, guidance) => {
  const query = new URLSearchParams({sample, drop: drop.join(','), sampler, steps, seed, draws, guidance});
  const link = location.origin + location.pathname + '?' + query;
  const shown = link.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  if (!navigator.clipboard) return '<p>The link to this run: ' + shown + '</p>';
  return navigator.clipboard.writeText(link).then(
    () => '<p>Copied: ' + shown + '</p>', () => '<p>The link to this run: ' + shown + '</p>');
}
"""
#: For Stop: a run begins; where the stage is below the controls, the page goes to it.
BEGIN_BELOW = """() => {
  if (matchMedia('(max-width: 860px)').matches) document.querySelector('#stage [data-ref=player]')?.scrollIntoView({
    behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'});
  return {interactive: true, __type__: 'update'};
}"""
NEW_SEED = "() => Math.floor(Math.random() * 2147483648)"


class Page:
    """The handlers. None of them trusts its arguments: anybody can send anything to each."""

    def __init__(self, shelf: Shelf, jobs: Jobs) -> None:
        self.shelf, self.jobs = shelf, jobs

    def light(self, outputs: int, work: Callable[[], T]) -> T | tuple[Any, ...]:
        """`work()`, or the reason why not as the last of so many outputs while the others stay as they are."""
        return settled(self.jobs, outputs, work)

    def sample(self, pipeline: RecoveryPipeline, sample: object, drop: object) -> tuple[dict[str, Any], str]:
        """The stage's sample panel and the status."""
        request = validate(pipeline, sample=sample, drop=drop)
        them = "it" if len(request.missing) == 1 else "them"
        return sample_of(pipeline, request), said(
            f"{_listed(request.missing)} dropped. Press Recover to bring {them} back."
        )

    def show(self, model: object, data: object, sample: object, drop: object) -> tuple[Any, ...]:
        """Another sample or other dropped modalities: stage, status."""
        return self.light(2, lambda: self.sample(self.shelf.get(model, data), sample, drop))

    def draw(self, model: object, data: object, sample: object, drop: object) -> tuple[Any, ...]:
        """A random sample, another than this one: sample, stage, status."""

        def work() -> tuple[Any, ...]:
            pipeline = self.shelf.get(model, data)
            ids = [record["id"] for record in pipeline.data.split("test").records]
            chosen = random.choice([one for one in ids if one != sample] or ids)
            return chosen, *self.sample(pipeline, chosen, drop)

        return self.light(3, work)

    def example(self, index: int, model: object, data: object, drop: object) -> tuple[Any, ...]:
        """A told example: sample, stage, status."""

        def work() -> tuple[Any, ...]:
            pipeline = self.shelf.get(model, data)
            told = told_examples(pipeline.data)
            if not 0 <= index < len(told):
                raise BadInput("This data set has no such example: choose a sample from the list.")
            stage, _ = self.sample(pipeline, told[index].sample, drop)
            return told[index].sample, stage, said(told[index].text)

        return self.light(3, work)

    def choose(self, model: object, data: object, drop: object, keep: str) -> tuple[Any, ...]:
        """Another model or data set: model, data, sample, drop, sampler, steps, source line, stage, status.

        Where the two do not fit, the one that is not named by `keep` gives way to the first that does.
        """

        def fitting() -> tuple[str, str]:
            pairs = [(model, data)]
            pairs += (
                [(model, d) for d in self.shelf.sets] if keep == "model" else [(m, data) for m in self.shelf.models]
            )
            first = None
            for pair in pairs:
                try:
                    self.shelf.get(*pair)
                except BadInput as error:
                    first = first or error
                else:
                    return pair
            raise first

        def work() -> tuple[Any, ...]:
            name, folder = fitting()
            pipeline = self.shelf.get(name, folder)
            clips = sample_choices(pipeline.data)
            config = pipeline.model.config
            chosen = check_drop(drop)
            if set(chosen) & set(pipeline.lacks) or (pipeline.lacks and len(chosen) > 1):
                chosen = default_drop(pipeline, pipeline.data.clip(clips[0][1]))
            stage, _ = self.sample(pipeline, clips[0][1], list(chosen))
            return (
                name, folder, gr.update(choices=clips, value=clips[0][1], info=sample_info(pipeline.data)),
                gr.update(choices=drop_choices(pipeline), value=list(chosen), info=drop_told(pipeline)),
                config.sampler, config.steps, source_line(pipeline, name), stage,
                said(f"Model {name} is loaded, with {pipeline.data.title}."),
            )  # fmt: skip

        return self.light(9, work)

    def steps(self, model: object, data: object, sampler: object) -> tuple[Any, ...]:
        """Another sampler: its own number of steps, status."""

        def work() -> tuple[Any, ...]:
            return default_steps(self.shelf.get(model, data), check_sampler(sampler)), gr.skip()

        return self.light(2, work)

    def open(self, request: gr.Request) -> tuple[Any, ...]:
        """What the address asks for: the components of a Choice, stage, status."""

        def work() -> tuple[Any, ...]:
            given = request.query_params
            query = {name: given[name] for name in Choice.__annotations__ if name in given}
            if not query:
                return tuple([gr.skip()] * 9)
            pipeline = self.shelf.get()
            choice, refused = from_link(pipeline, query)
            stage, status = self.sample(pipeline, choice.sample, choice.drop)
            values = dataclasses.asdict(choice) | {"drop": list(choice.drop)}
            status = trouble("The link was not quite right. " + " ".join(refused)) if refused else status
            return *values.values(), stage, status

        return self.light(9, work)

    def play(self, model: object, data: object, *choice: object) -> Iterator[tuple[Any, str]]:
        """A recovery as it goes: stage, status."""

        def work() -> Iterator[tuple[Any, str]]:
            pipeline = self.shelf.get(model, data)
            request = validate_choice(pipeline, choice)
            yield from watched(pipeline, request, sample_of(pipeline, request))

        try:
            yield from self.jobs.run(work)
        except Refused as reason:
            yield gr.skip(), trouble(str(reason))


def source_line(pipeline: RecoveryPipeline, model: str) -> str:
    """Which model and data are on the page, and whether people speak in it."""
    data = pipeline.data
    kind = "Synthetic corpus, made by a program." if data.synthetic else "Real recordings."
    served = "the bundled checkpoint" if pipeline.notice and pipeline.run.source == "bundled" else model
    lines = [
        f"<p>Model <b>{escape(served)}</b> ({escape(pipeline.model.config.preset)} preset). "
        f"Data <b>{escape(data.title)}</b>, {len(data.split('test'))} test clips. {escape(data.note or kind)}</p>"
    ]
    if pipeline.notice:
        lines.append(f'<p class="notice">{escape(pipeline.notice)}</p>')
    return "".join(lines)


def build(shelf: Shelf, jobs: Jobs, benchmark: Path = BENCHMARK, distributions: Path = DISTRIBUTIONS) -> gr.Blocks:
    """The pages with their events, to be launched by `imder.ui.serve`.

    `benchmark` is a file of stored rows, `distributions` one of `python -m imder distributions`.
    """
    page = Page(shelf, jobs)
    pipeline = shelf.get()
    opening = read_opening(pipeline)
    if opening:
        request, messages = opening
        choice, first = Choice(**choice_of(request)), bundle(messages, rest=True)
        greeting = "A stored run is shown. " + GREETING
    else:
        choice = default_choice(pipeline)
        first, _ = page.sample(pipeline, choice.sample, list(choice.drop))
        greeting = GREETING
    with gr.Blocks(title="IMDer Explorer", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as demo:
        head()
        with gr.Tabs(elem_id="pages"):
            with gr.Tab("Recover", elem_id="page-recover"):
                source = gr.HTML(source_line(pipeline, shelf.first[0]), elem_id="source")
                with gr.Row(elem_id="work"):
                    controls = controls_column(shelf, pipeline, choice, greeting)
                    with gr.Column(elem_id="stage-column"):
                        gr.HTML("<h2>The clip and its recovery</h2>", elem_id="stage-head")
                        stage = stage_component(value=first)
                        downloads_section(DownloadsPage(shelf, jobs), controls)
                hear_section(HearPage(shelf, jobs), controls)
                measured_section()
            comparison = ComparePage(jobs, shelf)
            compare_tab(comparison, controls)
            field_tab(FieldPage(jobs, shelf), controls)
            distributions_tab(DistributionsPage(jobs, shelf, Distributions(distributions)), controls)
            benchmark_tab(BenchmarkPage(jobs, Benchmark(benchmark)), LivePage(jobs, shelf, benchmark))
            training_tab(TrainingPage(jobs, shelf), controls.model)
            yours_tab(YoursPage(shelf, jobs), controls)
            say_tab(SayPage(shelf, jobs), controls)
            explain_tab()
        _connect(demo, page, controls, stage, source)
        public_functions(Api(shelf, jobs), comparison.compare)
    return demo


def default_choice(pipeline: RecoveryPipeline) -> Choice:
    """The first told example, or the first test clip."""
    told = told_examples(pipeline.data)
    return from_link(pipeline, {"sample": told[0].sample} if told else {})[0]


def _connect(demo: gr.Blocks, page: Page, c: Controls, stage: gr.HTML, source: gr.HTML) -> None:
    pair = [c.model, c.data]
    shown_sample = {
        "fn": page.show,
        "api_name": "show_sample",
        "inputs": [*pair, c.sample, c.drop],
        "outputs": [stage, c.status],
    }
    c.sample.input(**shown_sample, **LIGHT, trigger_mode="always_last")
    c.drop.input(**shown_sample, **LIGHT, trigger_mode="always_last")
    c.random.click(page.draw, [*pair, c.sample, c.drop], [c.sample, stage, c.status], **LIGHT)
    for i, button in enumerate(c.examples):
        button.click(partial(page.example, i), [*pair, c.drop], [c.sample, stage, c.status], **LIGHT)
    c.sampler.input(page.steps, [*pair, c.sampler], [c.steps, c.status], **LIGHT)
    c.new_seed.click(None, None, c.seed, js=NEW_SEED, api_visibility="private")
    c.link.click(None, c.choice, c.status, js=COPY_LINK, api_visibility="private")
    for keep, chooser in (("model", c.model), ("data", c.data)):
        chooser.input(
            partial(page.choose, keep=keep), [*pair, c.drop],
            [*pair, c.sample, c.drop, c.sampler, c.steps, source, stage, c.status],
            show_progress="minimal", show_progress_on=c.status, preprocess=False, api_visibility="private", **MODEL,
        )  # fmt: skip
    # The order counts: the browser waits for the end of a listener before it calls the next.
    c.recover.click(None, None, c.stop, js=BEGIN_BELOW, api_visibility="private")
    run = c.recover.click(
        page.play, c.values, [stage, c.status], show_progress="minimal", show_progress_on=c.status,
        trigger_mode="once", preprocess=False, api_visibility="private", api_name="watch", **MODEL,
    )  # fmt: skip
    can_stop(c.stop, c.status, [run], "The picture stays as it is.")
    demo.load(page.open, None, [*c.choice, stage, c.status], **LIGHT)


def _listed(keys: Any) -> str:
    return " and ".join(NAMES[k] for k in keys)
