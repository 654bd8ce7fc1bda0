"""What was imagined for a sentence, in one `gr.HTML`: faces that speak, contours, sounds, the sentiment.

State for tests, on the element with id `say-stage`: `data-run` (id of the message shown), `data-draw` (index of the
draw in front), `data-playing` and `data-sounding` ("true", "false").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
FACE = HERE.parent / "stage" / "face.js"


def say_stage(value: dict[str, Any] | None = None, **options: Any) -> gr.HTML:
    """The component; `value` is a message of `imder.ui.say.said_message`. Never pass it as an input."""
    return gr.HTML(
        value=value,
        html_template=(HERE / "say.html").read_text(encoding="utf-8"),
        css_template=(HERE / "say.css").read_text(encoding="utf-8"),
        js_on_load="\n".join(path.read_text(encoding="utf-8") for path in (FACE, HERE / "say.js")),
        apply_default_css=False,
        **{"elem_id": "say-holder", **options},
    )
