"""The stage: one `gr.HTML` that shows a sample and its recovery, fed by `imder.ui.messages`.

State for tests and for the page, on the element with id `stage`: `data-run` (id of the run shown), `data-step`
(index of the saved step shown), `data-last` (index of the last saved step that has come), `data-done` and
`data-playing` ("true", "false"), `data-sample` (id of the clip in the sample panel).
`document.getElementById("stage").stage.state()` tells more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent


def stage_component(value: dict[str, Any] | None = None, **options: Any) -> gr.HTML:
    """The stage as an output component; `value` is a message (most likely a bundle with a stored run).

    Never pass it as an input: the browser would send the whole last message back.
    """
    return gr.HTML(
        value=value,
        html_template=(HERE / "stage.html").read_text(encoding="utf-8"),
        css_template=(HERE / "stage.css").read_text(encoding="utf-8"),
        js_on_load="\n".join((HERE / name).read_text(encoding="utf-8") for name in ("face.js", "stage.js")),
        apply_default_css=False,
        **{"elem_id": "stage-holder", **options},
    )
