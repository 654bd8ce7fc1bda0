"""The page of the visitor's own file or recording: opened, checked, explained, recovered with the first page's model.

Nothing of a file stays on disk: it is read, checked and deleted. What was read is kept in memory under a random word
that only this visitor's session knows, bounded in bytes and time over all visitors.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

import gradio as gr

from imder.data.checks import CONVERT, FAR, MAX_CLIPS, TRAIN, ModalityCheck, Upload, sentence
from imder.data.extract import check_features, extract
from imder.data.label import label_text
from imder.data.openface import Face, read_face
from imder.data.recording import Recording, open_recording
from imder.data.sentence import missing_encoder, tidy
from imder.data.sound import missing_packages
from imder.data.upload import MAX_FILE, RECORDING, from_recording, open_upload, template
from imder.modality import MODALITIES, NAMES
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.report.blocks import DASH, Table, plain
from imder.report.page import table_html
from imder.ui.controls import (
    BEGIN,
    LIGHT,
    MODEL,
    Controls,
    can_stop,
    good,
    said,
    settled,
    status_line,
    told_examples,
    trouble,
)
from imder.ui.jobs import Jobs, Refused
from imder.ui.messages import Message
from imder.ui.opening import sample_of
from imder.ui.recorder import EXAMPLE, MEASURING, NONE, SHOW, Fields, example_clip, fits, recorder
from imder.ui.shelf import Shelf
from imder.ui.stage import stage_component
from imder.ui.validate import BadInput, Choice, check_drop, default_drop, shown, validate
from imder.ui.watch import watched

MOST_BYTES = 96 << 20
MOST_AGE = 3600.0
FAILED = "The file could not be opened (code {}); what was shown stays. Try another file."
GONE = "The file is no longer kept here (an hour at most): open it again."
TEMPLATE = "imder-template.npz"
STAGE = "your-stage"

#: Where Recover is far below, the page goes there once a recording is measured.
GO_ON = """() => {
  if (!matchMedia('(max-width: 860px)').matches || !document.querySelector('#your-status .good')) return;
  document.querySelector('#your-recover')?.scrollIntoView({block: 'center',
    behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'});
}"""
INTRO = f"""<h2>Your own features</h2>
<p>Open a file of features and the model of the first page recovers what is missing in it; sampler, steps, seed, draws
and guidance are those of the first page too. An <b>npz</b>, a <b>safetensors</b> file, or a <b>zip</b> of a folder made
by <code>{CONVERT}</code>: at most {MAX_FILE >> 20} MB, one or more clips. The file is checked, not kept: what was read
stays in this server's memory for an hour at most, and only this browser tab can reach it.</p>
<p>A pickle of the field (<code>aligned_50.pkl</code> and so on) is a program, so it is not opened here; convert it on
your own machine: <code>{CONVERT}</code>. Features of other widths need a run of their own: <code>{TRAIN}</code>.</p>"""


class Uploads:
    """What visitors' files held, by a random word each; the oldest give way beyond `most` bytes or `age` seconds."""

    def __init__(self, most: int = MOST_BYTES, age: float = MOST_AGE) -> None:
        self.most, self.age = most, age
        self._kept: OrderedDict[str, tuple[float, str, Upload]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, upload: Upload, model: str, before: object = None) -> str:
        """Keeps it, in the place of `before`; the word by which `get` finds it."""
        word = secrets.token_urlsafe(16)
        with self._lock:
            self._kept.pop(before if isinstance(before, str) else "", None)
            self._kept[word] = (time.monotonic(), model, upload)
            self._sweep()
        return word

    def get(self, word: object) -> tuple[str, Upload]:
        """(the model it was checked against, what was put), or BadInput."""
        with self._lock:
            self._sweep()
            found = self._kept.get(word) if isinstance(word, str) else None
        if found is None:
            raise BadInput(GONE)
        return found[1:]

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        return sum(upload.size for _, _, upload in self._kept.values())

    def _sweep(self) -> None:
        oldest = time.monotonic() - self.age
        while self._kept and (next(iter(self._kept.values()))[0] < oldest or self.size > self.most):
            self._kept.popitem(last=False)


class YoursPage:
    """The handlers. None trusts its arguments; whose file it is stands in the session's state, not in the request."""

    def __init__(self, shelf: Shelf, jobs: Jobs) -> None:
        self.shelf, self.jobs, self.uploads = shelf, jobs, Uploads()

    def light(self, outputs: int, work: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """`work()`, or one sentence as the last of so many outputs."""
        return settled(self.jobs, outputs, work, FAILED)

    def greet(self, model: object, data: object, followed: object, word: object) -> tuple[Any, ...]:
        """The page was selected: layout, followed, then as `shown`; without a file the example is opened."""

        def work() -> tuple[Any, ...]:
            pipeline = self.shelf.get(model, data)
            name = f"{model} with {data}"
            if followed == name:
                return tuple([gr.skip()] * 8)
            content = template(example_of(pipeline), pipeline.data.synthetic)
            layout = layout_html(pipeline, content)
            try:
                if self.uploads.get(word)[0] == name:
                    return (layout, name, *[gr.skip()] * 6)
            except BadInput:
                pass
            upload = read_bytes(content, pipeline)
            note = "This is the example file; open your own above."
            return layout, name, *self.shown(pipeline, upload, name, word, note)

        return self.light(8, work)

    def open(self, file: object, model: object, data: object, word: object) -> tuple[Any, ...]:
        """A file has come: the empty field, then as `shown`."""

        def work() -> tuple[Any, ...]:
            path, name = received(file)
            try:
                pipeline = self.shelf.get(model, data)
                upload = open_upload(path, name, pipeline.expected)
            except ValueError as error:
                raise BadInput(str(error)) from None
            finally:
                shutil.rmtree(path.parent, ignore_errors=True)
            return None, *self.shown(pipeline, upload, f"{model} with {data}", word, "")

        answer = self.light(7, work)
        return (None, *answer[1:])  # the field is free for the next file, whatever came of this one

    def record(
        self, sound: object, text: object, face: object, model: object, data: object, word: object
    ) -> Iterator[tuple[Any, ...]]:
        """A recording has come: the fields of sound and face, then as `shown`.

        Without a sound the sentence or the face is one of the recording that is shown.
        What cannot be read leaves its field and the disk at once; what can stays there until all of it is a clip.
        """
        fields = [gr.skip(), gr.skip()]

        def opened(i: int, file: object, read: Callable[[Path, str], Any]) -> tuple[Any, Path]:
            path, name = received(file)
            try:
                return read(path, fits(path, name)), path
            except ValueError as error:
                fields[i] = None
                shutil.rmtree(path.parent, ignore_errors=True)
                raise BadInput(f"{error}.") from None

        def work() -> Iterator[tuple[Any, ...]]:
            pipeline = self.shelf.get(model, data)
            given = checked(pipeline, sound, text, face)
            before = None if "audio" in given else self.last(word, needed="vision" not in given)
            yield *fields, *[gr.skip()] * 5, said(MEASURING)
            paths = []
            recording, track = (before.recording, before.face) if before else (None, None)
            if "audio" in given:
                recording, path = opened(0, sound, open_recording)
                paths.append(path)
            if "vision" in given:
                track, path = opened(1, face, read_face)
                paths.append(path)
            synthetic = bool(before and before.synthetic)
            upload = measured(pipeline, recording, track, given.get("text"), synthetic)
            for path in paths:
                shutil.rmtree(path.parent, ignore_errors=True)
            fields[:] = [None, None]
            yield *fields, *self.shown(pipeline, upload, f"{model} with {data}", word, "")

        try:
            yield from self.jobs.run(work, FAILED)
        except Refused as reason:
            yield *fields, *[gr.skip()] * 5, trouble(str(reason))

    def example(self, model: object, data: object, word: object) -> Iterator[tuple[Any, ...]]:
        """The sound of a test clip as a recording: its sentence, then as `shown`."""

        def work() -> Iterator[tuple[Any, ...]]:
            pipeline = self.shelf.get(model, data)
            clip = example_clip(pipeline)
            if clip is None:
                raise BadInput("This data set has no sounds to try: choose the bundled one on the first page.")
            text = clip.text if missing_encoder() is None else None
            checked(pipeline, clip.sound, text, None)
            yield text or "", *[gr.skip()] * 5, said(MEASURING)
            upload = measured(pipeline, open_recording(clip.sound), None, text, pipeline.data.synthetic)
            yield text or "", *self.shown(pipeline, upload, f"{model} with {data}", word, EXAMPLE)

        try:
            yield from self.jobs.run(work, FAILED)
        except Refused as reason:
            yield *[gr.skip()] * 6, trouble(str(reason))

    def last(self, word: object, *, needed: bool) -> Upload | None:
        """The recording that is shown now, whatever model it was measured for; without one BadInput if it is needed."""
        try:
            _, upload = self.uploads.get(word)
        except BadInput:
            upload = None
        if upload is not None and upload.kind == RECORDING:
            return upload
        if needed:
            raise BadInput(NONE)
        return None

    def shown(self, pipeline: RecoveryPipeline, upload: Upload, name: str, word: object, note: str) -> tuple[Any, ...]:
        """An opened file: report, clip, drop, stage, word, status. A file with a fault is explained and not kept."""
        report = report_html(upload)
        if not upload.clips:
            status = trouble(f"{upload.name} cannot be used with this model. " + " ".join(upload.faults))
            return report, gr.skip(), gr.skip(), gr.skip(), gr.skip(), status
        clip = upload.clips[0]
        drop = default_drop(pipeline, clip)
        choices = [(label_of(one.id, one.text, one.label, pipeline.classes), one.id) for one in upload.clips]
        count = f"{len(choices)} {'clip' if len(choices) == 1 else 'clips'}"
        status = f"{upload.name}: {count}, ready. {note or 'Choose what is dropped, then press Recover.'}"
        if upload.kind == RECORDING:
            status = f"{_listed(k for k in MODALITIES if k not in clip.absent)} of {clip.seconds:.1f} s measured. "
            status += note or f"Press Recover: the model imagines {_listed(drop)}."
        return (
            report, gr.update(choices=choices, value=clip.id), gr.update(value=list(drop)),
            panel(pipeline, validate(pipeline, clip=clip, drop=list(drop)), upload),
            self.uploads.put(upload, name, word), good(status),
        )  # fmt: skip

    def show(self, model: object, data: object, clip: object, drop: object, word: object) -> tuple[Any, ...]:
        """Another clip of the file or other dropped modalities: stage, status."""

        def work() -> tuple[Any, ...]:
            pipeline, upload = self.kept(model, data, word)
            request = validate(pipeline, clip=clip_of(upload, clip), drop=drop)
            return panel(pipeline, request, upload), said(f"{_listed(request.missing)} dropped. Press Recover.")

        return self.light(2, work)

    def play(
        self, model: object, data: object, clip: object, drop: object, sampler: object, steps: object, seed: object,
        draws: object, guidance: object, word: object,
    ) -> Iterator[tuple[Any, str]]:  # fmt: skip
        """A recovery as it goes: stage, status."""

        def work() -> Iterator[tuple[Any, str]]:
            pipeline, upload = self.kept(model, data, word)
            request = validate(
                pipeline, clip=clip_of(upload, clip), drop=list(check_drop(drop)), sampler=sampler, steps=steps,
                seed=seed, draws=draws, guidance=guidance,
            )  # fmt: skip
            yield from watched(pipeline, request, panel(pipeline, request, upload))

        try:
            yield from self.jobs.run(work)
        except Refused as reason:
            yield gr.skip(), trouble(str(reason))

    def kept(self, model: object, data: object, word: object) -> tuple[RecoveryPipeline, Upload]:
        """The pipeline of the first page and the visitor's file, which was checked against it."""
        pipeline = self.shelf.get(model, data)
        name, upload = self.uploads.get(word)
        if name != f"{model} with {data}":
            raise BadInput("Another model or data set was chosen on the first page: open the file again to check it.")
        return pipeline, upload


# --- what comes and what is shown -------------------------------------------------------------------------------------


def received(file: object) -> tuple[Path, str]:
    """(path, name) of a file that Gradio has just taken from this visitor; BadInput for anything else."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    path = file.get("path") if isinstance(file, dict) else None
    name = file.get("orig_name") if isinstance(file, dict) else None
    if type(path) is not str or len(path) > 1000 or "\0" in path:
        raise BadInput(f"file: {shown(file)} is not an upload; choose a file on the page.")
    found = Path(path)
    inside = found.resolve().is_relative_to(folder) and found.resolve().parent.parent == folder
    if not inside or found.is_symlink() or not found.is_file():
        raise BadInput("file: this upload is not there (any more); choose the file again.")
    return found.resolve(), name if type(name) is str and name else found.name


def checked(pipeline: RecoveryPipeline, sound: object, text: object, face: object) -> dict[str, Any]:
    """What was given of a recording, the sentence tidied; BadInput before any file is touched."""
    given = {"audio": sound, "vision": face}
    given = {k: value for k, value in given.items() if value is not None}
    try:
        if text is not None and (type(text) is not str or text.strip()):
            given["text"] = " ".join(tidy(text))
            if note := missing_encoder():
                raise ValueError(note)
        if note := missing_packages():
            raise ValueError(note)
        check_features(pipeline.data, list(given))
    except ValueError as error:
        raise BadInput(_line(error)) from None
    return given


def measured(
    pipeline: RecoveryPipeline, recording: Recording | None, face: Face | None, text: str | None, synthetic: bool
) -> Upload:
    """The clip of a recording, as `python -m imder data extract` makes it; BadInput where it makes none."""
    try:
        found = extract(pipeline.data, audio=recording, face=face, text=text)
    except ValueError as error:
        raise BadInput(_line(error)) from None
    return from_recording(found, pipeline.expected, recording, face, synthetic)


def _listed(keys: Iterable[str]) -> str:
    *first, last = [NAMES[k] for k in keys]
    return f"{', '.join(first)} and {last}" if first else last


def _line(error: ValueError) -> str:
    """A reason as a sentence of the page."""
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def example_of(pipeline: RecoveryPipeline) -> Any:
    """The first told example, or the first test clip."""
    told = told_examples(pipeline.data)
    return pipeline.data.clip(told[0].sample) if told else pipeline.data.split("test")[0]


def read_bytes(content: bytes, pipeline: RecoveryPipeline) -> Upload:
    """The template, opened as a visitor's file would be."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / secrets.token_hex(8)
    folder.mkdir()
    try:
        (folder / TEMPLATE).write_bytes(content)
        return open_upload(folder / TEMPLATE, TEMPLATE, pipeline.expected)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clip_of(upload: Upload, value: object) -> Any:
    """The clip of that id in the visitor's file."""
    for clip in upload.clips:
        if clip.id == value:
            return clip
    raise BadInput(f"clip: {shown(value)} is not in {upload.name}; choose one from the list.")


def label_of(clip_id: str, text: str, label: float, classes: Sequence[str] = ()) -> str:
    """A clip in the list."""
    words = text if len(text) <= 90 else text[:87] + "..."
    known = label_text(label, classes)
    return f"{words or clip_id} ({known})" if known else words or clip_id


def panel(pipeline: RecoveryPipeline, request: RecoveryRequest, upload: Upload) -> Message:
    """The stage's sample panel of a clip of the file."""
    message = sample_of(pipeline, request) | {"synthetic": upload.synthetic}
    if upload.recording and "audio" in request.available:
        message["sound"] = "data:audio/ogg;base64," + base64.b64encode(upload.recording.ogg).decode("ascii")
    return message


HEAD = ("modality", "array", "type", "shape", "frames", "padding", "NaN", "+inf", "−inf", "mean", "sd", "beyond ±5 sd")


def report_html(upload: Upload) -> str:
    """What was found: a table, then a sentence a modality and on the file."""
    caption = (
        "Frames: shortest / median / longest clip. Mean and sd in units of the training data (0 and 1 there); "
        f"beyond: share of values more than {FAR:g} standard deviations off."
    )
    what = "the recording" if upload.kind == RECORDING else upload.name
    table = Table(f"What {what} holds", caption, HEAD, tuple(_row(check) for check in upload.checks))
    lines = [sentence(check) for check in upload.checks] + list(upload.said)
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'{table_html(table, table.title)}<ul class="findings">{items}</ul>{_saved(upload)}'


def _saved(upload: Upload) -> str:
    """The clip of a recording to save, as `python -m imder data extract` writes it."""
    if upload.kind != RECORDING or not upload.clips:
        return ""
    content = template(upload.clips[0], upload.synthetic)
    data = base64.b64encode(content).decode("ascii")
    return (
        f'<p><a id="your-save" download="clip.npz" href="data:application/octet-stream;base64,{data}">Save the '
        f"features</a> ({len(content) / 1000:.0f} kB, npz): the same file as <code>python -m imder data extract</code> "
        "writes.</p>"
    )


def _row(check: ModalityCheck) -> tuple[Any, ...]:
    name = NAMES[check.modality]
    if check.array is None:
        return tuple(plain(text) for text in (name, "missing", *[DASH] * (len(HEAD) - 2)))
    lengths = f"{min(check.lengths)} / {median(check.lengths):g} / {max(check.lengths)}"
    counts = [str(n) for n in (check.nan, check.plus_inf, check.minus_inf)]
    scale = [DASH] * 3
    if check.mean is not None:
        scale = [f"{check.mean:+.2f}", f"{check.sd:.2f}", f"{check.beyond:.2%}"]
    shape = " × ".join(str(n) for n in check.shape)
    cells = (name, check.array, check.dtype, shape, lengths, f"{check.padding:.0%}", *counts, *scale)
    return tuple(plain(text) for text in cells)


def layout_html(pipeline: RecoveryPipeline, content: bytes) -> str:
    """How a file has to look for this model, and the example file to save."""
    dims, names = pipeline.expected.dims, pipeline.expected.names
    rows = [(k, f"(frames, {dims[k]}) or (clips, frames, {dims[k]})", _units(names.get(k, ()))) for k in MODALITIES]
    rows += [
        ("length_text, length_audio, length_vision", "(clips,)", "valid frames; else zero rows at the end are padding"),
        ("label", "(clips,)", _labels(pipeline)),
        ("id, raw_text", "(clips,)", "names and sentences; optional (npz only)"),
        ("seconds", "(clips,)", "how long a clip is; optional"),
        ("spans", "(clips, words, 2)", "when each word of raw_text begins and ends, 0 to 1 in its clip; optional"),
    ]  # fmt: skip
    table = Table(
        "How a file is laid out",
        f"Raw scale, float32 or float16, up to {MAX_CLIPS} clips. A modality may be left out: then it is missing. "
        "Names with a split in front (test_text, ...), as in the field's files, are read too.",
        ("array", "shape", "what"),
        tuple(tuple(plain(text) for text in row) for row in rows),
    )
    data = base64.b64encode(content).decode("ascii")
    return (
        f'{table_html(table, table.title)}<p><a id="your-template" download="{TEMPLATE}" '
        f'href="data:application/octet-stream;base64,{data}">Save the example file</a> '
        f"({len(content) / 1000:.0f} kB: one test clip of {escape(pipeline.data.title)}); change it, or open it.</p>"
    )


def _labels(pipeline: RecoveryPipeline) -> str:
    low, high = pipeline.data.label_range
    if not pipeline.classes:
        return f"sentiment, {low:g} to {high:g}; optional"
    return f"{pipeline.data.label_name}, by name or index from 0: {', '.join(pipeline.classes)}; optional"


def _units(names: Any) -> str:
    if not names:
        return "features of the run's own kind"
    return f"raw features, in this order: {', '.join(names[:4])}, ... {names[-1]}"


# --- the tab ----------------------------------------------------------------------------------------------------------


def yours_tab(page: YoursPage, controls: Controls) -> None:
    """Adds the page to the tabs that are being built; it is filled when it is selected."""
    with gr.Tab("Your data", elem_id="page-yours") as tab, gr.Column(elem_id="yours", elem_classes="sheet"):
        with gr.Row(elem_id="your-sources", equal_height=False):
            with gr.Column(min_width=300):
                gr.HTML(INTRO, elem_classes="report")
                file = gr.File(label="A file of features", elem_id="your-file", height=130)
            with gr.Column(min_width=300):
                own = recorder()
        status = status_line("The example file is being opened.", "your-status")
        report = gr.HTML(elem_classes="report", elem_id="your-report")
        with gr.Row(elem_classes="choices"):
            clip = gr.Dropdown([], label="Clip of the file", elem_id="your-clip", scale=3)
            drop = gr.CheckboxGroup(
                [(NAMES[k], k) for k in MODALITIES], label="Drop", info="One or two; what the file lacks has to be.",
                elem_id="your-drop", scale=2,
            )  # fmt: skip
        with gr.Row(elem_classes="buttons"):
            recover = gr.Button("Recover", variant="primary", elem_id="your-recover")
            stop = gr.Button("Stop", interactive=False, elem_id="your-stop")
        stage = stage_component(name=STAGE)
        layout = gr.HTML(elem_classes=["report", "layout"], elem_id="your-layout")
        followed = gr.Textbox(visible=False)
        word = gr.State()
    pair, opened = [controls.model, controls.data], [report, clip, drop, stage, word, status]
    if missing_packages() is None:
        tab.select(None, None, own.sound, js=SHOW, api_visibility="private")
    tab.select(page.greet, [*pair, followed, word], [layout, followed, *opened], **LIGHT)
    file.upload(page.open, [file, *pair, word], [file, *opened], api_name="open_file", **LIGHT)
    clip.input(page.show, [*pair, clip, drop, word], [stage, status], **LIGHT, trigger_mode="always_last")
    drop.input(page.show, [*pair, clip, drop, word], [stage, status], **LIGHT, trigger_mode="always_last")
    settings = controls.choice[list(Choice.__annotations__).index("sampler") :]
    recover.click(None, None, stop, js=BEGIN, api_visibility="private")
    run = recover.click(
        page.play, [*pair, clip, drop, *settings, word], [stage, status], show_progress="minimal",
        show_progress_on=status, trigger_mode="once", preprocess=False, api_visibility="private", **MODEL,
    )  # fmt: skip
    runs = [run, *_connect(page, own, [*pair, word], opened, stop, status)]
    can_stop(stop, status, runs, "The picture stays as it is.")


def _connect(page: YoursPage, own: Fields, given: list[Any], opened: list[Any], stop: Any, status: Any) -> list[Any]:
    """The events of the recorder; those that measure."""
    how = {
        "show_progress": "minimal", "show_progress_on": status, "trigger_mode": "once", "preprocess": False,
        "api_visibility": "private",
    } | MODEL  # fmt: skip
    own.take.click(None, None, stop, js=BEGIN, api_visibility="private")
    taken = own.take.click(
        page.record, [own.sound, own.text, own.face, *given], [own.sound, own.face, *opened],
        api_name="open_recording", **how,
    )  # fmt: skip
    own.example.click(None, None, stop, js=BEGIN, api_visibility="private")
    tried = own.example.click(page.example, given, [own.text, *opened], api_name="example_recording", **how)
    for event in (taken, tried):
        event.then(None, None, None, js=GO_ON, api_visibility="private")
    return [taken, tried]
