"""The page of the score field: the learned one on a slice, and beside it a toy whose true field is known."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from html import escape
from typing import Any

import gradio as gr

from imder.field import (
    PAIRS,
    TOYS,
    Arrows,
    FieldEnd,
    FieldPaths,
    FieldRequest,
    FieldStart,
    ToyRequest,
    draw_toy,
    stream_field,
)
from imder.field.toy import MOST_STEPS, SIDE
from imder.modality import NAMES
from imder.pipeline import RecoveryPipeline
from imder.report.field import toy_findings, toy_table
from imder.report.page import table_html
from imder.ui.controls import (
    BEGIN,
    INTERVAL,
    LIGHT,
    MODEL,
    Controls,
    can_stop,
    good,
    said,
    settled,
    status_line,
    trouble,
)
from imder.ui.flow import flow_component, picture_message, with_arrows, with_paths
from imder.ui.jobs import Jobs, Refused
from imder.ui.messages import Message
from imder.ui.shelf import Shelf
from imder.ui.validate import one_of, validate, whole

FAILED = "The field could not be drawn (code {}); what was shown stays. Try again, or another clip or model."
KINDS = {"given": "Given what stays", "alone": "Unconditional"}
GREETING = "The field of the first page's clip is drawn when this page is opened."

LEAD = """<h2>Where the arrows point</h2>
<p>A diffusion model learns one thing: at every noise level, in which direction a noisy point should move to become more
likely. That direction is the <b>score</b>. Every arrow is one evaluation of it, drawn as the step σ² · score, which
leads from the noisy point to the mean of all clean ones that it may have come from, in units of σ. Follow the arrows
from pure noise and you recover data: without new noise (the <b>ODE</b>, smooth) or with new noise at every step (the
<b>SDE</b>, jittery). Both start from the same noise.</p>"""
LEARNED = """<h2>The learned field, on a slice</h2>
<p>The plane is the one of the Recover page: the two leading directions of the training clips. Dots are training clips,
the shading is their density blurred by the noise at <i>t</i>. The larger marks are draw 0, the diamond is the truth,
which the model never sees.</p>"""
TOY = """<h2>A toy, where the truth is known</h2>
<p>The same noise, the same samplers, but the data are Gaussians in the plane: the score is a formula, and nothing is
learned. What goes wrong here is the solver's doing or the prior's, never a network's.</p>"""
DETAILS = """
**What the slice is.** A noisy state has some 1500 coordinates, the picture two. All the others are held at those of a
real reverse path at the same time: draw 0 of the ODE, so the slice moves with that path. At its larger mark the arrow
is exactly the step that the sampler followed. Zeros, or the clean estimate, would not be honest there: at a large *t*
the network has never met a state without noise in 1500 coordinates. At a small *t* the slice is a cut through a thin
sheet: far from the path two coordinates are moved and everything that goes with them is not, and there the arrows tell
how the network pulls such a broken point back, not where the density in the plane grows.

**Density and arrows are not the same thing.** The shading is the training set's, whatever is observed. The arrows
"given what stays" look at the observed modalities of this clip, so that they lead to *its* recovery and may well cross
the shading; the unconditional ones look at nothing. The shading is drawn no sharper than one cell of its raster.

**How it is computed.** Fields at every second of 18 noise levels and at the last, 121 arrows each; between them the
picture interpolates. 20 paths by DPM-Solver++(2M), ODE and SDE, both from the page's seed. The ODE starts from the same
noise as the SDE, without the temperature that the model was given for single deterministic recoveries. Of two dropped
modalities each is drawn here given the observed one alone. At *t* = 0 there is no noise and no score.

**The toy's closed form.** For one Gaussian N(m, s²) the ODE carries x to
m + (x − m) √((s² + σ(end)²) / (s² + σ(1)²)).
"""


class FieldPage:
    """The handlers. None of them trusts its arguments."""

    def __init__(self, jobs: Jobs, shelf: Shelf) -> None:
        self.jobs, self.shelf = jobs, shelf
        self.solved = lru_cache(16)(draw_toy)

    def light(self, outputs: int, work: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """`work()`, or one sentence as the last of so many outputs."""
        return settled(self.jobs, outputs, work, FAILED)

    def open(self, model: object, data: object, sample: object, drop: object, target: object) -> tuple[Any, ...]:
        """What the first page shows now: the line about it, dropped modalities to choose from, status."""

        def work() -> tuple[Any, ...]:
            pipeline = self.shelf.get(model, data)
            request = validate(pipeline, sample=sample, drop=drop)
            kept = target if type(target) is str and target in request.missing else request.missing[0]
            choices = [(NAMES[k], k) for k in request.missing]
            return source_line(pipeline, str(model), request), gr.update(choices=choices, value=kept), gr.skip()

        return self.light(3, work)

    def toy(self, toy: object, pair: object, steps: object) -> tuple[Any, ...]:
        """The toy: flow, its table, status."""

        def work() -> tuple[Any, ...]:
            request = ToyRequest(
                one_of("toy", toy, TOYS), one_of("solvers", pair, PAIRS), whole("steps", steps, 2, MOST_STEPS)
            )
            field = self.solved(request)
            name = f"toy-{request.toy}-{request.pair}-{request.steps}"
            message = picture_message(name, "The toy's exact score field", field.picture, SIDE, "samples of the truth")
            message = with_paths(message, field.ode, field.sde)
            for arrows in field.arrows:
                message = with_arrows(message, arrows)
            table = toy_table(field)
            facts = f"<p>{escape(toy_findings(field))}</p>{table_html(table, table.title)}"
            return message | {"done": True}, facts, said(f"{TOYS[request.toy].title}, {request.steps} times.")

        return self.light(3, work)

    def follow(self, followed: object, *choice: object) -> Iterator[tuple[Any, ...]]:
        """As `draw`, unless this very field is shown already."""
        if choice_key(choice) == followed:
            yield gr.skip(), gr.skip(), gr.skip()
        else:
            yield from self.draw(*choice)

    def draw(self, *choice: object) -> Iterator[tuple[Any, ...]]:
        """The learned field as it comes: flow, what is shown (at the end), status."""
        try:
            yield from self.jobs.run(lambda: self._messages(*choice), FAILED)
        except Refused as reason:
            yield gr.skip(), gr.skip(), trouble(str(reason))

    def _messages(
        self,
        model: object,
        data: object,
        sample: object,
        drop: object,
        seed: object,
        guidance: object,
        target: object,
        kind: object,
    ) -> Iterator[tuple[Any, ...]]:
        pipeline = self.shelf.get(model, data)
        base = validate(pipeline, sample=sample, drop=drop, seed=seed, guidance=guidance)
        request = FieldRequest(
            base.clip,
            base.available,
            one_of("modality", target, base.missing),
            seed=base.seed,
            guidance=base.guidance if one_of("field", kind, KINDS) == "given" else 0.0,
        )
        message: Message = {}
        done, told = 0, time.monotonic()
        for item in stream_field(pipeline, request):
            if isinstance(item, FieldStart):
                title = f"The learned score field of {NAMES[request.target]}"
                message = picture_message(
                    secrets.token_hex(4), title, item.picture, request.side, "training clips", item.truth
                )
            elif isinstance(item, FieldPaths):
                message = with_paths(message, item.ode, item.sde)
            elif isinstance(item, Arrows):
                message = with_arrows(message, item)
            elif isinstance(item, FieldEnd):
                message = message | {"done": True}
                key = choice_key((model, data, sample, drop, seed, guidance, target, kind))
                yield message, key, good(finished(request, item))
                return
            else:
                done = item.done
            if time.monotonic() - told >= INTERVAL or isinstance(item, FieldStart):
                told = time.monotonic()
                yield message, gr.skip(), said(f"Network evaluation {done} of {request.evaluations}.")


def choice_key(choice: tuple[object, ...]) -> str:
    """What a field depends on, as text."""
    try:
        return json.dumps(choice)
    except (TypeError, ValueError, RecursionError):
        return ""


def finished(request: FieldRequest, end: FieldEnd) -> str:
    """A drawn field in one sentence."""
    what = "given what stays" if request.guidance else "unconditional"
    return (
        f"{NAMES[request.target]}, {what}: {end.evaluations} network evaluations in {end.seconds:.1f} s. "
        "Move the slider or press Play."
    )


def source_line(pipeline: RecoveryPipeline, model: str, request: Any) -> str:
    """Which clip, data and model the learned field belongs to, and how to choose others."""
    data, text = pipeline.data, request.clip.text or request.clip.id
    there = [k for k in request.available if k not in pipeline.lacks]
    kept, gone = (" and ".join(NAMES[k] for k in keys) for keys in (there, request.missing))
    kind = "synthetic" if data.synthetic else "recorded"
    return (
        f"<p>Model <b>{escape(model)}</b> on <b>{escape(data.title)}</b> ({kind}). Clip: “{escape(text)}” Observed: "
        f"{kept}. Dropped: {gone}. Choose another clip, model or seed on the Recover page, then come back.</p>"
    )


def field_tab(page: FieldPage, controls: Controls) -> None:
    """Adds the page to the tabs that are being built; it shows the clip that is chosen in `controls`."""
    with gr.Tab("Score field", elem_id="page-field") as tab, gr.Column(elem_id="field", elem_classes="sheet"):
        source = gr.HTML(elem_classes="report", elem_id="field-source")
        gr.HTML(LEAD, elem_classes="report")
        with gr.Row(elem_classes="figures"):
            with gr.Column(elem_id="field-learned"):
                gr.HTML(LEARNED, elem_classes="report")
                status = status_line(GREETING, "field-status")
                learned = flow_component("flow-learned")
                with gr.Row(elem_classes="field-controls"):
                    target = gr.Radio([], label="Dropped modality", elem_id="field-target", min_width=110)
                    kind = gr.Radio(
                        [(title, name) for name, title in KINDS.items()], value="given", label="Field",
                        elem_id="field-kind", min_width=300, scale=2,
                    )  # fmt: skip
                with gr.Row():
                    button = gr.Button("Draw the field", variant="primary", elem_id="field-draw", min_width=120)
                    stop = gr.Button("Stop", interactive=False, elem_id="field-stop", min_width=80)
                with gr.Accordion("What the slice is, and what to be careful about", elem_id="field-about"):
                    gr.Markdown(DETAILS)
            with gr.Column(elem_id="field-toy"):
                gr.HTML(TOY, elem_classes="report")
                toy_status = status_line("The toy is drawn when this page is opened.", "toy-status")
                exact = flow_component("flow-toy")
                with gr.Row(elem_classes="field-controls"):
                    toy = gr.Radio(
                        [(one.title, name) for name, one in TOYS.items()], value="mixture", label="Data",
                        elem_id="toy-data", min_width=280,
                    )  # fmt: skip
                    pair = gr.Dropdown(
                        [(one.title, name) for name, one in PAIRS.items()], value="dpmpp", label="Solvers",
                        elem_id="toy-pair", min_width=230,
                    )  # fmt: skip
                steps = gr.Slider(
                    2, MOST_STEPS, value=20, step=1, label="Times on the grid", elem_id="toy-steps",
                    info="Few show the solvers' error.",
                )  # fmt: skip
                facts = gr.HTML(elem_classes="report", elem_id="toy-facts")
        followed = gr.Textbox(visible=False)
    c = controls
    now = [c.model, c.data, c.sample, c.drop]
    choice = [*now, c.seed, c.guidance, target, kind]
    ways = [toy, pair, steps]
    tab.select(page.toy, ways, [exact, facts, toy_status], **LIGHT)
    for one in (toy.input, pair.input, steps.change):
        one(page.toy, ways, [exact, facts, toy_status], **LIGHT, trigger_mode="always_last")
    run = {"preprocess": False, "api_visibility": "private", "show_progress": "hidden", **MODEL}
    outputs = [learned, followed, status]
    opened = tab.select(page.open, [*now, target], [source, target, status], **LIGHT)
    opened = opened.then(None, None, stop, js=BEGIN, api_visibility="private")
    first = opened.then(page.follow, [followed, *choice], outputs, **run)
    button.click(None, None, stop, js=BEGIN, api_visibility="private")
    again = button.click(page.draw, choice, outputs, trigger_mode="once", **run)
    can_stop(stop, status, [first, again], "What has come stays; press Draw the field to begin anew.")
