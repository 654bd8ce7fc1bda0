"""What was imagined for a sentence, in one `gr.HTML`: faces that speak, contours, sounds, the sentiment.

State for tests, on the element with id `say-stage`: `data-run` (id of the message shown), `data-draw` (index of the
draw in front), `data-playing` and `data-sounding` ("true", "false").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from imder.ui.stage import joined

HERE = Path(__file__).parent


def say_stage(value: dict[str, Any] | None = None, **options: Any) -> gr.HTML:
    """The component; `value` is a message of `imder.ui.say.said_message`. Never pass it as an input."""
    return gr.HTML(
        value=value,
        html_template=joined("say.html", folder=HERE),
        css_template=joined("face.css", "say.css", folder=HERE),
        js_on_load=joined("face.js", "say.js", folder=HERE),
        apply_default_css=False,
        **{"elem_id": "say-holder", **options},
    )
