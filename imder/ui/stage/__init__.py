"""The stage: one `gr.HTML` that shows a sample and its recovery, fed by `imder.ui.messages`.

State for tests and for the page, on the element with id `stage`: `data-run` (id of the run shown), `data-step`
(index of the saved step shown), `data-last` (index of the last saved step that has come), `data-done` and
`data-playing` ("true", "false"), `data-sample` (id of the clip in the sample panel).
`document.getElementById("stage").stage.state()` tells more.
"""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
#: The scripts of one scope in their order: each uses what those before it declare, functions also of those after it.
SCRIPTS = (
    "face.js", "classes.js", "base.js", "state.js", "words.js", "sample.js", "maps.js", "curves.js", "stage.js",
)  # fmt: skip


def joined(*names: str, folder: Path = HERE) -> str:
    """Files of the folder as one text; `face.js` and `face.css`, which every component with a face needs, are here."""
    return "\n".join(((HERE if name.startswith("face.") else folder) / name).read_text("utf-8") for name in names)


def parts(name: str = "stage") -> dict[str, str]:
    """html, css and js of a stage whose element has the id `name`."""
    html, css, js = joined("stage.html"), joined("face.css", "stage.css"), joined(*SCRIPTS)
    js = js.replace('querySelector("#stage")', f'querySelector("#{name}")', 1)
    return {
        "html": html.replace('id="stage"', f'id="{name}"', 1),
        "css": css.replace("#stage", f"#{name}"),
        "js": f'(() => {{\n"use strict";\n{js}\n}})();\n',
    }


def stage_component(value: dict[str, Any] | None = None, name: str = "stage", **options: Any) -> gr.HTML:
    """The stage as an output component; `value` is a message (most likely a bundle with a stored run).

    Never pass it as an input: the browser would send the whole last message back. `name` is the id of a second one.
    """
    stage = parts(name)
    return gr.HTML(
        value=value,
        html_template=stage["html"],
        css_template=stage["css"],
        js_on_load=stage["js"],
        apply_default_css=False,
        **{"elem_id": f"{name}-holder", **options},
    )


def player_page(message: dict[str, Any], title: str, about: str) -> str:
    """The stage with a message as one HTML file that asks for nothing else; light or dark as the reader's system is."""
    stage = parts()
    data = json.dumps(message, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    filled = {"title": escape(title), "about": escape(about), "message": data, **stage}
    page = (HERE / "player.html").read_text(encoding="utf-8")
    return re.sub("@(title|about|message|html|css|js)@", lambda match: filled[match[1]], page)
