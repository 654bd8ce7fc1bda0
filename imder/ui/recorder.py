"""The part of Your data where a visitor records a sentence, or brings the sound of one, with its words and its face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from imder.data import Clip
from imder.data.openface import NAMES as FACE
from imder.data.recording import MAX_SOUND
from imder.data.sentence import MAX_CHARACTERS, missing_encoder
from imder.data.sound import INSTALL, LONGEST, RATE, SHORTEST, missing_packages
from imder.data.sound import NAMES as VOICE
from imder.pipeline import RecoveryPipeline
from imder.report.page import listing
from imder.ui.controls import told_examples

MEASURING = "The recording is being measured; the first time this takes some seconds longer."
NONE = "There is no recording yet: record or choose a sound first, or try the example."
EXAMPLE = "This is a synthetic voice of the test set, measured from its sound as yours will be. Press Recover."
SHOW = "() => ({visible: true, __type__: 'update'})"
INTRO = f"""<h2>A recording of your own</h2>
<p>Say a sentence, best an opinion in English, and press <b>Take this recording</b>, then <b>Recover</b>: the model
imagines the face that goes with your voice. A wav, flac, ogg or mp3 of {SHORTEST:g} to {LONGEST:g} s and at most
{MAX_SOUND >> 20} MB is read; it becomes {len(VOICE)} numbers a frame on 50 frames (pitch, spectrum, chroma), as
<code>python -m imder data extract</code> makes them. Words, if you write them, tell the model more than the sound
does.</p>
<p>It has only ever heard synthetic voices, and a person's is far from them: the report below says how far, and what
comes out is a guess. The file is deleted once it is read; what was measured, and the sound to play, stay in this
server's memory for an hour at most, and only this browser tab can reach them.</p>"""


@dataclass(frozen=True)
class Fields:
    """The components of the part."""

    sound: gr.Audio
    text: gr.Textbox
    face: gr.File
    take: gr.Button
    example: gr.Button


def recorder() -> Fields:
    """Draws the part; where the packages for a sound are not installed, one line says so and nothing can be pressed.

    The field of the sound is shown by `SHOW` when the page is selected: it brings 0.6 MB of scripts, which no other
    visitor has to load.
    """
    absent, mute = missing_packages(), missing_encoder()
    gr.HTML(INTRO, elem_classes="report")
    if absent:
        gr.HTML(install_note(), elem_id="your-install", elem_classes="report")
    there = absent is None
    sound = gr.Audio(
        sources=["upload", "microphone"], type="filepath", label="Your voice", elem_id="your-sound", buttons=[],
        waveform_options=gr.WaveformOptions(sample_rate=RATE), visible=False,
    )  # fmt: skip
    text = gr.Textbox(
        label="What is said in it (optional)", info=mute or f"English, at most {MAX_CHARACTERS} characters.",
        max_length=MAX_CHARACTERS, interactive=mute is None, visible=there, elem_id="your-text",
    )  # fmt: skip
    with gr.Accordion("Its face too (optional)", open=False, visible=there, elem_id="your-face-part"):
        gr.HTML(
            f"<p>A CSV of OpenFace 2 (<code>FeatureExtraction -aus -pose -gaze</code>) of the same utterance gives "
            f"{len(FACE)} numbers a frame; then there is a true face to compare with.</p>",
            elem_classes="report",
        )
        face = gr.File(label="A CSV of OpenFace", elem_id="your-face", height=110, file_types=[".csv"])
    with gr.Row(elem_classes="buttons"):
        take = gr.Button("Take this recording", variant="primary", elem_id="your-take", visible=there)
        example = gr.Button("Try an example sound", elem_id="your-example", visible=there)
    return Fields(sound, text, face, take, example)


def install_note() -> str:
    """What whoever runs the page installs."""
    return (
        "<p><strong>A sound cannot be read here: its packages are not installed.</strong> Whoever runs this page "
        "installs them by this command and starts it again; all else works without.</p>"
        + listing([INSTALL], "Command that installs what reads a sound")
    )


def fits(path: Path, name: str) -> str:
    """The name, shortened, of a file that is not too large."""
    name = Path(name).name[:80] or "the file"
    size = path.stat().st_size
    if size > MAX_SOUND:
        raise ValueError(f"{name}: is {size / 2**20:.1f} MB; at most {MAX_SOUND >> 20} MB are read")
    return name


def example_clip(pipeline: RecoveryPipeline) -> Clip | None:
    """The first told example that has a sound, or the first such test clip; None in a data set without sounds."""
    data = pipeline.data
    for name in [*(told.sample for told in told_examples(data)), data.split("test")[0].id]:
        clip = data.clip(name)
        if clip.sound is not None and Path(clip.sound).is_file():
            return clip
    return None
