"""The section below the stage where the voice is heard: the original, the true one resynthesised, and the recovered."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

import gradio as gr
import numpy as np

from imder.pipeline import Recovery, RecoveryPipeline, RecoveryRequest
from imder.ui.controls import BEGIN, INTERVAL, MODEL, Controls, can_stop, good, said, status_line, trouble
from imder.ui.jobs import Jobs, Refused
from imder.ui.messages import sound_uri
from imder.ui.shelf import Shelf
from imder.ui.validate import BadInput, validate_choice
from imder.voice import MAX_SECONDS, VoiceColumns, levelled, resynthesise, wav

DRAWS = 3
DEFAULT_SECONDS = 3.0
FAILED = "The voice could not be made audible (code {}); what was shown stays. Try again, or another sample."
GREETING = "Nothing is played until you press. The sounds are made for the clip and the choices above."
INTRO = """<h2>Hear it</h2>
<p>A recovered voice is 33 numbers a frame: a pitch, a spectrum, an energy. Here they become sound: pulses at the
pitch, and noise, filtered by the spectrum. That is a rough machine, and it makes a true voice rough too. So the true
voice is played through the same machine: what it has lost against the original, the machine has lost; what the
recovered voice lacks beyond that is the recovery's.</p>"""
#: For a Stop button: a run begins, has ended.
STALE = "() => ['', '<p>Another choice: press Hear it for its sounds.</p>']"


def wav_uri(sound: np.ndarray) -> str:
    """A sound as a data URI, turned down where it would clip."""
    return "data:audio/wav;base64," + base64.b64encode(wav(levelled(sound))).decode("ascii")


def player(title: str, text: str, uri: str | None) -> str:
    """One sound with its title and what it is; without a sound the text says why."""
    sound = f'<audio controls preload="metadata" src="{uri}" aria-label="{escape(title)}"></audio>' if uri else ""
    return f"<li><h3>{escape(title)}</h3><p>{escape(text)}</p>{sound}</li>"


def true_players(pipeline: RecoveryPipeline, request: RecoveryRequest, columns: VoiceColumns) -> list[str]:
    """The original and the true features resynthesised."""
    clip = request.clip
    sound = sound_uri(clip.sound)
    why = "The sound of the clip, from which the features were measured."
    if sound is None:
        why = "No sound is stored with this clip, so the original cannot be played."
    true = wav_uri(resynthesise(clip.features["audio"], columns, seconds_of(request)))
    return [
        player("Original", why, sound),
        player("True voice, resynthesised", "The true features through the machine: the best it can do.", true),
    ]


def recovered_players(recovery: Recovery, columns: VoiceColumns) -> list[str]:
    """The first draws and the mean of all."""
    voices, seconds = recovery.readable_draws["audio"], seconds_of(recovery.request)
    shown = [
        player(
            f"Recovered, draw {i + 1}",
            "What IMDer imagines from the rest." if i == 0 else "Another draw from other noise, as likely.",
            wav_uri(resynthesise(voices[i], columns, seconds)),
        )
        for i in range(min(DRAWS, len(voices)))
    ]
    if len(voices) > 1:
        text = f"The average of all {len(voices)} draws: nearest on average, but flatter than any voice."
        shown.append(player("Mean of the draws", text, wav_uri(resynthesise(voices.mean(axis=0), columns, seconds))))
    return shown


def seconds_of(request: RecoveryRequest) -> float:
    """How long the clip is; a data set that does not say gets three seconds."""
    return min(request.clip.seconds or DEFAULT_SECONDS, MAX_SECONDS)


class HearPage:
    """The handler. It does not trust its arguments."""

    def __init__(self, shelf: Shelf, jobs: Jobs) -> None:
        self.shelf, self.jobs = shelf, jobs

    def hear(self, model: object, data: object, *choice: object) -> Iterator[tuple[object, str]]:
        """The sounds of a choice: players, status. The same seed gives the recovery that the stage shows."""

        def work() -> Iterator[tuple[object, str]]:
            pipeline = self.shelf.get(model, data)
            request = validate_choice(pipeline, choice)
            columns = VoiceColumns.find(pipeline.data.feature_names["audio"])
            if columns is None:
                raise BadInput(
                    "The voice of this data set cannot be made audible: its features have no log_f0 and mfcc_0, "
                    "mfcc_1 and so on. Choose the bundled data set to hear one."
                )
            head = f"<p class='of'>{escape(heading(request))}</p>"
            players = true_players(pipeline, request, columns)
            if "audio" in request.available:
                text = "The voice is not dropped, so none was recovered. Drop Voice and press again to hear one."
                yield listing(head, players), good(text)
                return
            yield listing(head, players), said("The voice is being recovered again, from the same seed.")
            for item in pipeline.stream(request, interval=INTERVAL):
                if isinstance(item, Recovery):
                    players += recovered_players(item, columns)
                    text = f"{len(players)} sounds of this clip. Listen to the second before you judge the third."
                    yield listing(head, players), good(text)
                else:
                    yield gr.skip(), gr.skip()

        try:
            yield from self.jobs.run(work, FAILED)
        except Refused as reason:
            yield gr.skip(), trouble(str(reason))


def heading(request: RecoveryRequest) -> str:
    """Which clip and run the sounds are of."""
    clip = request.clip
    text = clip.text if "text" in request.available else "(its words are dropped)"
    run = "" if "audio" in request.available else f", seed {request.seed}, {request.draws} draws"
    return f"Clip {clip.id}{run}: {text}"


def listing(head: str, players: list[str]) -> str:
    """The players in a list."""
    return f"{head}<ol>{''.join(players)}</ol>"


def hear_section(page: HearPage, c: Controls) -> None:
    """Adds the section below the stage; its sounds are made when the visitor asks for them."""
    with gr.Column(elem_id="hear", elem_classes="sheet"):
        gr.HTML(INTRO, elem_classes="report")
        with gr.Row():
            button = gr.Button("Hear it", elem_id="hear-it", min_width=120, scale=0)
            stop = gr.Button("Stop", interactive=False, elem_id="hear-stop", min_width=80, scale=0)
        status = status_line(GREETING, "hear-status")
        sounds = gr.HTML(elem_id="hear-sounds", elem_classes="report")
    button.click(None, None, stop, js=BEGIN, api_visibility="private")
    run = button.click(
        page.hear, c.values, [sounds, status], show_progress="hidden", trigger_mode="once", preprocess=False,
        api_visibility="private", **MODEL,
    )  # fmt: skip
    can_stop(stop, status, [run], "The sounds that are there stay.")
    for part in (c.sample, c.drop, c.model, c.data):
        part.change(None, None, [sounds, status], js=STALE, api_visibility="private")
