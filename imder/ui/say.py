"""The page where a visitor types a sentence and sees and hears a voice and a face imagined for it.

`python -m imder.ui.say` computes the stored sentences with the bundled model and writes them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from imder.data import Word
from imder.data.sentence import INSTALL, MAX_CHARACTERS, missing_encoder, sentences
from imder.pipeline import RecoveryPipeline
from imder.report.page import listing
from imder.say import Imagined, imagine
from imder.ui.controls import BEGIN, COPY, LIGHT, MODEL, Controls, can_stop, good, said, settled, status_line, trouble
from imder.ui.hear import wav_uri
from imder.ui.jobs import Jobs, Refused
from imder.ui.messages import number, readable
from imder.ui.opening import origin
from imder.ui.say_stage import say_stage
from imder.ui.shelf import Shelf
from imder.ui.validate import BadInput, named, one_of, validate
from imder.voice import MAX_SECONDS, VoiceColumns, resynthesise

PATH = Path(__file__).parents[2] / "assets" / "said.safetensors"
#: What is stored: the corpus' kind of sentences first, then some that are ever less so.
STORED = (
    "I really loved the story, it was wonderful.",
    "The staff were rude and the room was dirty.",
    "It was slow at first, but the second half was brilliant.",
    "Nobody could call this book delightful.",
    "The lesson starts at nine on Monday.",
    "Was that supposed to be funny?",
    "My grandmother bakes the best bread in the village!",
    "Quantum spaceships dance forever in silence.",
)
SHOWN = 4  # draws that can be seen and heard
KEPT = 8  # draws behind a stored prediction
FAILED = "The sentence could not be imagined (code {}); what is shown stays. Try again, or another sentence."
GREETING = "Type a sentence and press Imagine, or choose a stored one."
INTRO = """<h2>Say it yourself</h2>
<p>Only the words are given. They are encoded as the corpus was, laid on 50 frames by how long such words take, and
IMDer imagines a voice and a face that go with them. Nobody said this: the voice is numbers made sound, the face is
numbers made a drawing. The model has learned from 1,400 synthetic opinions about films, hotels, phones and the like,
and knows no other way of speaking.</p>"""


# --- messages ---------------------------------------------------------------------------------------------------------


def said_message(
    found: Imagined, run: str, source: str, *, names: dict[str, Sequence[str]], label_range: Sequence[float]
) -> dict[str, Any]:
    """What the stage shows of it; BadInput where the features are none that can be seen and heard."""
    drawn = readable({"audio": found.audio[:SHOWN], "vision": found.vision[:SHOWN]}, names)
    columns = VoiceColumns.find(names["audio"])
    if set(drawn) != {"face", "voice"} or columns is None:
        raise BadInput(
            "The features of this data set have no action units, log_f0 and mfcc_0 to draw a face and hear a voice "
            "from: choose the bundled data set on the first page."
        )
    seconds = min(found.seconds, MAX_SECONDS)
    return {
        "kind": "said",
        "run": run,
        "text": found.text,
        "words": [[word.text, number(word.start), number(word.end)] for word in found.words],
        "seconds": number(seconds),
        "source": source,
        "far": far(found),
        "predictions": [number(v) for v in found.predictions],
        "mean": number(found.predictions.mean()),
        "interval": [number(v) for v in found.interval],
        "label_range": [float(v) for v in label_range],
        "sounds": [wav_uri(resynthesise(voice, columns, seconds)) for voice in found.audio[:SHOWN]],
        **drawn,
    }


def far(found: Imagined) -> str:
    """How unlike the training sentences this one is, in plain words."""
    share = "all" if found.farther == 1 else f"{100 * found.farther:.0f} % of"
    if found.farther >= 0.95:
        text = (
            "This sentence is unlike what the model was trained on: its words are farther from the training sentences "
            f"than those of {share} the test sentences. Take voice, face and sentiment as a guess."
        )
    else:
        text = (
            "This sentence is like what the model was trained on: its words are farther from the training sentences "
            f"than those of {share} the test sentences, and nearer than those of the rest."
        )
    if found.unseen:
        text += f" Nowhere in the corpus: {', '.join(found.unseen)}."
    return text


# --- the stored sentences ---------------------------------------------------------------------------------------------


def store(found: Sequence[Imagined], head: dict[str, Any]) -> bytes:
    """As a safetensors file: the first draws as float16, all else in its header."""
    records = [
        {
            "text": one.text,
            "words": [[word.text, number(word.start), number(word.end)] for word in one.words],
            "seconds": number(one.seconds),
            "unseen": list(one.unseen),
            "farther": number(one.farther),
            "seed": one.seed,
            "predictions": [number(v) for v in one.predictions],
            "interval": [number(v) for v in one.interval],
        }
        for one in found
    ]
    tensors = {  # contiguous: an array is stored as it lies in memory
        k: np.ascontiguousarray(np.stack([getattr(one, k)[:SHOWN] for one in found]), dtype=np.float16)
        for k in ("audio", "vision")
    }
    return save(tensors, metadata={"said": json.dumps(head | {"sentences": records}, allow_nan=False)})


def read_stored(path: Path) -> tuple[dict[str, Any], list[Imagined]]:
    """The head and the sentences of such a file; ValueError where it is none."""
    try:
        with safe_open(path, "numpy") as file:
            head = json.loads(file.metadata()["said"])
            audio, vision = (file.get_tensor(k).astype(np.float32) for k in ("audio", "vision"))
        found = [
            Imagined(
                text=record["text"],
                words=tuple(Word(*word) for word in record["words"]),
                seconds=record["seconds"],
                unseen=tuple(record["unseen"]),
                farther=record["farther"],
                seed=record["seed"],
                audio=audio[i],
                vision=vision[i],
                predictions=np.array(record["predictions"], dtype=np.float32),
                interval=tuple(record["interval"]),
            )
            for i, record in enumerate(head.pop("sentences"))
        ]
    except (OSError, SafetensorError, KeyError, TypeError, IndexError, ValueError):
        raise ValueError(
            "The stored sentences are not there or cannot be read: python -m imder.ui.say makes them."
        ) from None
    return head, found


def main(argv: list[str] | None = None) -> int:
    """Computes the stored sentences with the bundled model and data set."""
    parser = argparse.ArgumentParser(prog="python -m imder.ui.say", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PATH)
    args = parser.parse_args(argv)
    try:
        pipeline = RecoveryPipeline.from_pretrained(None, data="bundled")
        knows = sentences(pipeline.data)
        found = []
        for text in STORED:
            *_, one = imagine(pipeline, knows.say(text), seed=args.seed, draws=KEPT)
            found.append(one)
        head = {
            "origin": origin(pipeline),
            "model": Path(pipeline.run.folder).name,
            "label_range": list(pipeline.data.label_range),
            "names": {k: list(pipeline.data.feature_names[k]) for k in ("audio", "vision")},
        }
        args.out.write_bytes(store(found, head))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.out}: {len(found)} sentences, seed {args.seed}, {args.out.stat().st_size} bytes")
    return 0


# --- the page ---------------------------------------------------------------------------------------------------------


class SayPage:
    """The handlers. None of them trusts its arguments."""

    def __init__(self, shelf: Shelf, jobs: Jobs, path: Path = PATH) -> None:
        self.shelf, self.jobs, self.path = shelf, jobs, path

    @cached_property
    def stored(self) -> tuple[dict[str, Any], dict[str, Imagined]]:
        """The head of the stored sentences, and they by their text."""
        try:
            head, found = read_stored(self.path)
        except ValueError as error:
            raise BadInput(str(error)) from None
        return head, {one.text: one for one in found}

    def open(self, model: object, data: object, opened: object) -> tuple[Any, ...]:
        """The first visit shows a stored sentence: which model, opened, choice, stage, status."""

        def work() -> tuple[Any, ...]:
            pipeline = self.shelf.get(model, data)
            line = which(str(model or self.shelf.first[0]), pipeline)
            if opened == "yes":
                return line, *[gr.skip()] * 4
            texts = list(self.stored[1])
            _, *shown = self.choose(texts[0])  # the text box holds it already, or what was typed meanwhile
            return line, "yes", gr.update(choices=texts, value=texts[0]), *shown

        return settled(self.jobs, 5, work, FAILED)

    def choose(self, text: object) -> tuple[Any, ...]:
        """A stored sentence: the text box, stage, status."""

        def work() -> tuple[Any, ...]:
            head, found = self.stored
            one = found[one_of("stored sentence", text, found)]
            source = (
                f"Stored: imagined by the bundled model {head['model']} from seed {one.seed}, "
                f"{len(one.predictions)} draws. Press Imagine to draw it again with the model of the first page."
            )
            message = said_message(
                one, f"stored-{list(found).index(one.text)}", source, names=head["names"],
                label_range=head["label_range"],
            )  # fmt: skip
            return one.text, message, good("A stored sentence is shown. Press Play with sound, or type your own.")

        return settled(self.jobs, 3, work, FAILED)

    def imagine(self, text: object, model: object, data: object, *choice: object) -> Iterator[tuple[Any, str]]:
        """Voice and face for a sentence, drawn as the first page's sampler, steps, seed, draws and guidance say."""

        def work() -> Iterator[tuple[Any, str]]:
            pipeline = self.shelf.get(model, data)
            given = named(choice) | {"sample": None, "drop": ["audio", "vision"]}
            request = validate(pipeline, **given)
            yield gr.skip(), said("The words are being encoded; the first time, the encoder is loaded.")
            try:
                one = sentences(pipeline.data).say(text)
            except ValueError as error:
                raise BadInput(_sentence(str(error))) from None
            yield gr.skip(), said("Voice and face are being imagined.")
            options = {k: getattr(request, k) for k in ("seed", "draws", "sampler", "steps", "guidance")}
            for item in imagine(pipeline, one, **options):
                if isinstance(item, Imagined):
                    item = replace(item, seconds=min(item.seconds, MAX_SECONDS))
                    source = (
                        f"Imagined by the model {model or self.shelf.first[0]} from seed {item.seed}, "
                        f"{len(item.predictions)} draws."
                    )
                    yield (
                        said_message(
                            item, f"{one.clip.id}-{request.seed}-{request.draws}", source,
                            names=pipeline.data.feature_names, label_range=pipeline.data.label_range,
                        ),
                        good(
                            f"Imagined. Sentiment {item.predictions.mean():+.2f}, 90 % interval "
                            f"{item.interval[0]:+.2f} to {item.interval[1]:+.2f}."
                        ),
                    )  # fmt: skip
                else:
                    yield gr.skip(), gr.skip()

        try:
            yield from self.jobs.run(work, FAILED)
        except Refused as reason:
            yield gr.skip(), trouble(str(reason))


def _sentence(text: str) -> str:
    """A reason as a sentence of the page."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def which(model: str, pipeline: RecoveryPipeline) -> str:
    """Which model draws here, and where another is chosen."""
    return (
        f"<p>The model is <b>{escape(model)}</b>, trained on {escape(pipeline.data.title)}. Another model, seed or "
        "number of draws is chosen on the first page, Recover.</p>"
    )


def install_note() -> str:
    """What a visitor needs who wants to type."""
    return (
        "<p><strong>Typing needs the language encoder, which is not installed here.</strong> The stored sentences play "
        "without it. Whoever runs this page installs it by this command (weights included, nothing is fetched later) "
        "and starts the page again:</p>" + listing([INSTALL], "Command that installs the language encoder")
    )


def say_tab(page: SayPage, c: Controls) -> None:
    """Adds the page to the tabs that are being built; it shows a stored sentence when it is first selected."""
    with gr.Tab("Say it", elem_id="page-say") as tab, gr.Column(elem_id="say", elem_classes="sheet"):
        gr.HTML(INTRO, elem_classes="report")
        source = gr.HTML("<p>The page is being read.</p>", elem_id="say-which", elem_classes="report")
        absent = missing_encoder() is not None
        gr.HTML(install_note() if absent else "", visible=absent, elem_id="say-install", elem_classes="report")
        copy = gr.Button("Copy the command", size="sm", visible=absent, elem_id="say-copy")
        text = gr.Textbox(
            STORED[0], label="Your sentence", info=f"English, at most {MAX_CHARACTERS} characters; best: an opinion.",
            lines=2, max_length=MAX_CHARACTERS, max_lines=3, elem_id="say-text", interactive=True,
        )  # fmt: skip
        stored = gr.Dropdown(
            [], label="Or a stored sentence", info="From the corpus' kind to far from it.", elem_id="say-stored"
        )
        with gr.Row(elem_classes="pair"):
            button = gr.Button("Imagine", variant="primary", elem_id="say-imagine", min_width=120, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id="say-stop", min_width=80, scale=0)
        status = status_line(GREETING, "say-status")
        stage = say_stage()
        opened = gr.Textbox(visible=False)
    tab.select(page.open, [c.model, c.data, opened], [source, opened, stored, stage, status], **LIGHT)
    stored.input(page.choose, stored, [text, stage, status], **LIGHT, trigger_mode="always_last")
    runs = []
    for event in (button.click, text.submit):
        event(None, None, stop, js=BEGIN, api_visibility="private")
        run = event(
            page.imagine, [text, *c.values], [stage, status], show_progress="hidden", trigger_mode="once",
            preprocess=False, api_visibility="private", **MODEL,
        )  # fmt: skip
        runs.append(run)
    can_stop(stop, status, runs, "What is shown stays.")
    copy.click(None, None, status, js=COPY.format("say-install"), api_visibility="private")


if __name__ == "__main__":
    sys.exit(main())
