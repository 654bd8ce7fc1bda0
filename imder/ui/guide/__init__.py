"""The head of the page: its name, the guided tour over the real page, and the way from an address to a page.

The tour's dialog has `data-step` (index of the stop shown, empty when it is closed) on the element with id `tour`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Stop:
    """A stop of the tour: the page's id, a selector on it (nothing is marked where it is absent), what is said."""

    page: str
    target: str
    title: str
    text: str


STOPS = (
    Stop("recover", "#head", "Three minutes, thirteen stops",
         "A person speaks: words, voice, face. What if one is missing? This page shows how a diffusion model brings it "
         "back. Go on with the arrow keys or the buttons; Escape ends the tour at any time."),
    Stop("recover", "#drop", "Take something away",
         "Tick what shall be missing: one or two of Language, Voice and Face. From then on the model cannot see it."),
    Stop("recover", "#recover", "Bring it back",
         "Recover starts from pure noise and takes it away step by step, looking at what is left of the clip."),
    Stop("recover", "#stage [data-ref=player]", "Watch it happen",
         "Play, or drag the denoising step. The face, the pitch and the words are read out of the features at that "
         "step, beside the truth, which only you see."),
    Stop("recover", "#stage .verdict", "What it does to the prediction",
         "The label, the prediction from everything, from zeros in the gap, and from the recovery. The small marks are "
         "single draws: their spread says how sure one can be."),
    Stop("compare", "#page-compare", "Compare",
         "The same clip and the same noise: other gaps, other samplers, other methods, more draws."),
    Stop("field", "#page-field", "Where the arrows lead",
         "What the network has learned is a direction at every place: arrows over the density of the data, and paths "
         "that follow them from noise. The plane is one slice of a space of some 1,500 dimensions."),
    Stop("distributions", "#page-distributions", "One clip proves nothing",
         "Do recovered features look like real ones over the whole test set? Pictures, distances, and their floors."),
    Stop("benchmark", "#page-benchmark", "Does it help?",
         "Every method under the same gaps, with intervals, and the command behind each figure."),
    Stop("training", "#page-training", "Where the model comes from",
         "Its curves, its settings, the machine, and the command that trains it again."),
    Stop("yours", "#page-yours", "Your data",
         "Open features of your own, or record a sentence and see a face imagined for it. The bundled model knows "
         "synthetic voices only, so you are told how far yours is from them."),
    Stop("say", "#page-say", "Say it",
         "Type a sentence: a voice and a face are imagined for it. Nobody said it, and no two draws are alike."),
    Stop("how", "#page-how", "How it works",
         "Each equation beside the code that runs it, what sees the truth and when, and what to be careful about. "
         "That is all: the first page is yours."),
)  # fmt: skip


def head() -> gr.HTML:
    """The head as a component; it starts the tour and keeps the address in step with the page shown."""
    script = (HERE / "guide.js").read_text(encoding="utf-8")
    return gr.HTML(
        html_template=(HERE / "guide.html").read_text(encoding="utf-8"),
        css_template=(HERE / "guide.css").read_text(encoding="utf-8"),
        js_on_load=f"const STOPS = {json.dumps([asdict(stop) for stop in STOPS])};\n{script}",
        apply_default_css=False,
        elem_id="head",
    )
