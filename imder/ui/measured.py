"""What was measured of the bundled model, as figures below the stage."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from imder.evaluation.rows import read_rows
from imder.plots import prediction_error, recovery_error

PATH = Path(__file__).parents[2] / "assets" / "measured.jsonl"

TEXT = """
The bundled model on the test split of the bundled, synthetic corpus; {n} clips, no speaker of the training split. These
are stored rows of `python -m imder evaluate`; the README gives the command and all tables. Nothing here is a figure on
MOSI, MOSEI or CH-SIMS.
"""
PREDICTION = """
**Does recovery help the prediction?** The same model predicts from the observed modalities and what stands in for the
missing ones. The error with all three is the floor.
"""
RECOVERY = """
**How near is a recovery to the truth?** L language, A voice, V face; what is observed → what is recovered. A single
draw has the right variance and so loses to a mean in squared error, even a perfect one: judge it against the
unconditional draw, and means against means.
"""


def measured_section() -> None:
    """Adds the section to the page that is being built; without stored rows there is none."""
    if not PATH.is_file():
        return
    rows = read_rows(PATH, lambda text: None)
    with gr.Accordion("What was measured", open=False, elem_id="measured"):
        gr.Markdown(TEXT.format(n=max(row["n"] for row in rows)))
        for text, figure in ((PREDICTION, prediction_error(rows)), (RECOVERY, recovery_error(rows))):
            gr.Markdown(text)
            gr.Plot(figure, show_label=False, container=False)
