"""Take it with you: the files of a run, a picture of the stage, and code that asks for the same run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from imder.export import Recording, curves_csv, trajectory_npz, whole
from imder.modality import NAMES
from imder.pipeline import Recovery, RecoveryPipeline, RecoveryStart
from imder.ui.controls import BEGIN, COPY, INTERVAL, MODEL, Controls, can_stop, good, said, status_line, trouble
from imder.ui.jobs import Jobs, Refused
from imder.ui.messages import bundle, chunk_message, done_message
from imder.ui.opening import sample_of, start_of
from imder.ui.shelf import Shelf
from imder.ui.stage import HERE, player_page
from imder.ui.validate import validate_choice

FAILED = "The files could not be made (code {}). Try again, or fewer steps or draws."
INTRO = """<p>The run of the present choice is computed once more, every step of it; the same seed gives the same run.
<b>npz</b>: state, estimate and refined estimate of every step, all draws, predictions. <b>CSV</b>: a row a step.
<b>HTML</b>: the player in one file, to be opened without this page or a network. Files stay here for up to an hour.
A link to the run is under the controls: all of it stands in its address.</p>"""
CODE_INTRO = """<p>The code asks this server for the run of the present choice.
<code>list_clips</code> and <code>evaluate_clip</code> are asked the same way.</p>"""

#: (values of a choice) to the two listings, made in the browser: it knows the address of the page.
SNIPPETS = r"""
(model, data, sample, drop, sampler, steps, seed, draws, guidance) => {
  const url = location.origin + location.pathname.replace(/\/$/, '');
  const asked = {sample, drop, sampler, steps, seed, draws, guidance, model, data};
  const code = (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0');
  const ascii = (text) => text.replace(/[\u007f-\uffff]/g, code);
  const literal = (value) => ascii(JSON.stringify(value)).replaceAll('null', 'None');
  const safe = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  const box = (name, text) => '<pre tabindex="0" role="region" aria-label="' + name + '"><code>' + safe(text) +
    '</code></pre>';
  const python = ['from gradio_client import Client', '', 'client = Client("' + url + '")', 'result = client.predict(',
    ...Object.entries(asked).map(([name, value]) => '    ' + name + '=' + literal(value) + ','),
    '    api_name="/recover",', ')', 'print(result["predictions"])'];
  const body = ascii(JSON.stringify(asked)).replaceAll("'", "\\u0027");
  const curl = ['EVENT=$(curl -s ' + url + '/gradio_api/call/v2/recover \\',
    "  -H 'Content-Type: application/json' \\", "  -d '" + body + "' | cut -d '\"' -f 4)",
    'curl -sN ' + url + '/gradio_api/call/recover/$EVENT'];
  return [box('Python', python.join('\n')), box('curl', curl.join('\n'))];
}
"""


class DownloadsPage:
    """The handler. It does not trust its arguments."""

    def __init__(self, shelf: Shelf, jobs: Jobs) -> None:
        self.shelf, self.jobs = shelf, jobs

    def make(self, model: object, data: object, *choice: object) -> Iterator[tuple[Any, str]]:
        """The files of a run: files, status."""

        def work() -> Iterator[tuple[Any, str]]:
            pipeline = self.shelf.get(model, data)
            request = whole(validate_choice(pipeline, choice))
            items, total = [], 0
            for item in pipeline.stream(request, interval=INTERVAL):
                items.append(item)
                if isinstance(item, RecoveryStart):
                    total = item.nfe_total
                elif not isinstance(item, Recovery):
                    yield gr.skip(), said(f"Network evaluation {int(item.nfe[-1])} of {total}.")
            recording = Recording.of(items)
            with tempfile.TemporaryDirectory() as folder:
                # Gradio copies the files to its own folder, which is swept, before it asks for the next item.
                paths = write_files(pipeline, recording, Path(folder))
                size = sum(path.stat().st_size for path in paths)
                told = f"{len(paths)} files of {described(recording)}, {size / 1e6:.1f} MB: choose one to save it."
                yield gr.update(value=[str(path) for path in paths], visible=True), good(told)

        try:
            yield from self.jobs.run(work, FAILED)
        except Refused as reason:
            yield gr.skip(), trouble(str(reason))


def write_files(pipeline: RecoveryPipeline, recording: Recording, folder: Path) -> list[Path]:
    """npz, CSV and HTML of a run."""
    request, names = recording.recovery.request, pipeline.data.feature_names
    stem = f"imder {request.clip.id} {' '.join(request.missing)} seed {request.seed}"
    stem = re.sub(r"[^A-Za-z0-9]+", "-", stem)[:80]
    run = recording.start.run_id
    message = bundle(
        [
            sample_of(pipeline, request),
            start_of(pipeline, recording.start),
            chunk_message(run, recording.shown(), names=names),
            done_message(run, recording.recovery, names=names),
        ],
        rest=True,
    )
    kind = "Synthetic corpus, made by a program." if pipeline.data.synthetic else "Real recordings."
    about = f"{described(recording)}; data: {pipeline.data.title}. {kind}"
    contents = {
        "npz": trajectory_npz(recording),
        "csv": curves_csv(recording).encode(),
        "html": player_page(message, "IMDer Explorer: one recovery", about[:1].upper() + about[1:]).encode(),
    }
    paths = [folder / f"{stem}.{ending}" for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def described(recording: Recording) -> str:
    """The run in a few words."""
    request = recording.recovery.request
    dropped = " and ".join(NAMES[k] for k in request.missing)
    return (
        f"the run on {request.clip.id}, {dropped} dropped, {recording.recovery.sampler}, {recording.recovery.steps} "
        f"steps, seed {request.seed}, {request.draws} {'draw' if request.draws == 1 else 'draws'}"
    )


def downloads_section(page: DownloadsPage, controls: Controls) -> None:
    """Adds the section below the stage that is being built."""
    with gr.Accordion("Take it with you: files, picture, code", open=False, elem_id="downloads") as section:
        gr.HTML(INTRO, elem_classes="report")
        with gr.Row(elem_classes="buttons"):
            make = gr.Button("Make the files", size="sm", elem_id="downloads-make")
            stop = gr.Button("Stop", size="sm", interactive=False, elem_id="downloads-stop")
            picture = gr.Button("Picture of the stage (PNG)", size="sm", elem_id="downloads-picture")
        status = status_line("No files have been made yet.", "downloads-status")
        files = gr.File(
            label="Files of the run", file_count="multiple", interactive=False, visible=False, elem_id="downloads-files"
        )
        gr.HTML(CODE_INTRO, elem_classes="report")
        listings, copies = [], []
        for name in ("Python", "curl"):
            listings.append(gr.HTML(elem_classes="report", elem_id=f"downloads-{name.lower()}"))
            copies.append(gr.Button(f"Copy the {name}", size="sm", elem_id=f"downloads-copy-{name.lower()}"))
    for listing, button in zip(listings, copies, strict=True):
        button.click(None, None, status, js=COPY.format(listing.elem_id), api_visibility="private")
    make.click(None, None, stop, js=BEGIN, api_visibility="private")
    run = make.click(
        page.make, controls.values, [files, status], show_progress="minimal", show_progress_on=status,
        trigger_mode="once", preprocess=False, api_visibility="private", **MODEL,
    )  # fmt: skip
    can_stop(stop, status, [run], "The files that are there stay.")
    draw = (HERE / "picture.js").read_text(encoding="utf-8")
    picture.click(None, None, status, js=f"() => ({draw})('stage')", api_visibility="private")
    gr.on(
        [section.expand, *[component.change for component in controls.values]],
        None, controls.values, listings, js=SNIPPETS, api_visibility="private", show_progress="hidden",
    )  # fmt: skip
