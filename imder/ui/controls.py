"""The controls column: what the visitor chooses, and the values that a handler gets from it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

import gradio as gr
from gradio.components import Component

from imder.data.dataset import FeatureSet
from imder.data.label import label_text
from imder.modality import MODALITIES, NAMES, names_of
from imder.pipeline import MAX_DRAWS, MAX_GUIDANCE, MAX_SEED, RecoveryPipeline
from imder.samplers import MAX_STEPS, SAMPLERS
from imder.ui.jobs import FAILED, Jobs, Refused
from imder.ui.shelf import Shelf
from imder.ui.validate import Choice

T = TypeVar("T")

#: Events that run no network: they skip the queue, and their handlers check raw values themselves.
LIGHT = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "preprocess": False}
#: All events that run a network share one limit; measured on two cores (reliability.md section 5).
MODEL = {"concurrency_id": "model", "concurrency_limit": 2}
#: Seconds between two messages of running work: their number costs more than their bytes.
INTERVAL = 0.25
#: For a Stop button: a run begins; a run has ended, whatever ended it.
BEGIN = "() => ({interactive: true, __type__: 'update'})"
END = "() => ({interactive: false, __type__: 'update'})"
#: For a button: copies the text of the element `#{}` and says so in the status line.
COPY = """
() => {{
  const text = document.querySelector('#{0} code').textContent;
  const no = '<p>Copying is not allowed here: mark the text above.</p>';
  if (!navigator.clipboard) return no;
  return navigator.clipboard.writeText(text).then(() => '<p>Copied.</p>', () => no);
}}
"""
SAMPLE_TEXT = 90
EXAMPLES = 4


@dataclass(frozen=True)
class Controls:
    """The components of the column."""

    sample: gr.Dropdown
    random: gr.Button
    examples: tuple[gr.Button, ...]
    drop: gr.CheckboxGroup
    recover: gr.Button
    stop: gr.Button
    status: gr.HTML
    sampler: gr.Dropdown
    steps: gr.Number
    seed: gr.Number
    new_seed: gr.Button
    draws: gr.Slider
    guidance: gr.Slider
    model: gr.Dropdown
    data: gr.Dropdown
    link: gr.Button

    @property
    def values(self) -> list[Component]:
        """What a recovery depends on, in the order of the handlers' arguments."""
        return [self.model, self.data, *self.choice]

    @property
    def choice(self) -> list[Component]:
        """The components of a `Choice`, in the order of its fields."""
        return [self.sample, self.drop, self.sampler, self.steps, self.seed, self.draws, self.guidance]


def sample_choices(data: FeatureSet) -> list[tuple[str, str]]:
    """Every test clip as (sentence and label, id), from the records alone: no features are read.

    Clips of one sentence and class, as acted speech has many, are told apart by their ids.
    """
    choices = []
    for record in data.split("test").records:
        text = record["text"] or record["id"]
        text = text if len(text) <= SAMPLE_TEXT else text[: SAMPLE_TEXT - 1].rstrip() + "…"
        choices.append((f"{text} ({label_text(record['label'], data.label_classes)})", record["id"]))
    if data.label_classes:
        counts = Counter(name for name, _ in choices)
        choices = [(name if counts[name] == 1 else f"{name} {clip_id}", clip_id) for name, clip_id in choices]
    return choices


def drop_choices(pipeline: RecoveryPipeline) -> list[tuple[str, str]]:
    """The modalities that can be dropped: not those of which the data have nothing."""
    return [(NAMES[k], k) for k in MODALITIES if k not in pipeline.lacks]


def drop_told(pipeline: RecoveryPipeline) -> str:
    """How many can be dropped."""
    gone = names_of(pipeline.lacks)
    return f"One; this data set has no {gone}." if gone else "One or two; at least one stays."


def sample_info(data: FeatureSet) -> str:
    """What a sample's name in the list holds."""
    if data.label_classes:
        return f"A sentence and its {data.label_name}, one of {len(data.label_classes)} classes. Type to search."
    return "A sentence and its label, {:g} to {:+g}. Type to search.".format(*data.label_range)


def controls_column(shelf: Shelf, pipeline: RecoveryPipeline, choice: Choice, greeting: str) -> Controls:
    """Draws the column with `choice` set and `greeting` in its status line."""
    with gr.Column(elem_id="controls"):
        sample = gr.Dropdown(
            sample_choices(pipeline.data),
            value=choice.sample,
            label="Sample",
            info=sample_info(pipeline.data),
            elem_id="sample",
        )
        random = gr.Button("Random sample", size="sm", elem_id="random")
        with gr.Row(elem_classes="examples"):
            examples = tuple(
                gr.Button(example.title, size="sm", min_width=130) for example in told_examples(pipeline.data)
            )
        drop = gr.CheckboxGroup(
            drop_choices(pipeline), value=list(choice.drop), label="Drop", info=drop_told(pipeline), elem_id="drop"
        )
        with gr.Row():
            recover = gr.Button("Recover", variant="primary", elem_id="recover", min_width=120, scale=2)
            stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=80, scale=1)
        status = status_line(greeting)
        with gr.Accordion("Advanced", open=False, elem_id="advanced"):
            sampler = gr.Dropdown(
                [(entry.title, name) for name, entry in SAMPLERS.items()],
                value=choice.sampler,
                label="Sampler",
                elem_id="sampler",
            )
            with gr.Row(elem_classes="pair"):
                steps = gr.Number(
                    choice.steps, label="Steps", info=f"1 to {MAX_STEPS}", precision=0, minimum=1, maximum=MAX_STEPS,
                    elem_id="steps", min_width=90,
                )  # fmt: skip
                seed = gr.Number(
                    choice.seed, label="Seed", info="Fixes the noise", precision=0, minimum=0,
                    maximum=MAX_SEED, elem_id="seed", min_width=130,
                )  # fmt: skip
            new_seed = gr.Button("New seed", size="sm", elem_id="new-seed")
            draws = gr.Slider(
                1, MAX_DRAWS, value=choice.draws, step=1, label="Draws", info="Recoveries behind the spread.",
                elem_id="draws",
            )  # fmt: skip
            guidance = gr.Slider(
                0, MAX_GUIDANCE, value=choice.guidance, step=0.1, label="Guidance",
                info="0 ignores what is observed, 1 is the model as trained.", elem_id="guidance",
            )  # fmt: skip
        with gr.Accordion("Model and data", open=False, elem_id="source-choice"):
            model = gr.Dropdown(
                list(shelf.models), value=shelf.first[0], label="Model", allow_custom_value=True,
                info="Or type a Hub repository: owner/name.", elem_id="model",
            )  # fmt: skip
            data = gr.Dropdown(list(shelf.sets), value=shelf.first[1], label="Data set", elem_id="data")
        link = gr.Button("Copy link to this run", size="sm", elem_id="link")
    return Controls(
        sample, random, examples, drop, recover, stop, status, sampler, steps, seed, new_seed, draws, guidance, model,
        data, link,
    )  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A test clip that its data set tells something about."""

    sample: str
    title: str
    text: str


def told_examples(data: FeatureSet) -> list[Example]:
    """The first four test clips whose `extra` says why to look at them; the title is what stands before the colon."""
    records = data.split("test").records
    told = [(record["id"], str(record["extra"]["example"])) for record in records if "example" in record["extra"]]
    return [Example(sample, re.split("[:,.]", text)[0].strip()[:40], text) for sample, text in told[:EXAMPLES]]


def status_line(text: str, elem_id: str = "status") -> gr.HTML:
    """A line that screen readers announce when it changes."""
    return gr.HTML(
        said(text),
        elem_id=elem_id,
        elem_classes="status-line",
        js_on_load="element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');",
    )


def settled(jobs: Jobs, outputs: int, work: Callable[[], T], failed: str = FAILED) -> T | tuple[Any, ...]:
    """`work()`, or the reason why not as the last of so many outputs while the others stay as they are."""
    try:
        return jobs.call(work, failed)
    except Refused as reason:
        return (*[gr.skip()] * (outputs - 1), trouble(str(reason)))


def can_stop(stop: gr.Button, status: gr.HTML, runs: Sequence[gr.events.Dependency], stays: str) -> None:
    """Stop cancels these runs and says what stays; it is off again when one has ended.

    Before a run a listener with `BEGIN` turns it on: the order counts, as the browser waits for one before the next.
    """
    for run in runs:
        run.then(None, None, stop, js=END, api_visibility="private")
    stop.click(None, None, None, cancels=list(runs))
    stop.click(None, None, status, js=f"() => '<p>Stopped. {stays}</p>'", api_visibility="private")


def said(text: str) -> str:
    """A status text."""
    return f"<p>{escape(text)}</p>"


def good(text: str) -> str:
    """The status of a finished run."""
    return f'<p class="good">{escape(text)}</p>'


def trouble(text: str) -> str:
    """The status after something was refused or failed."""
    return f'<p class="trouble">{escape(text)}</p>'
