"""The flow: one `gr.HTML` that shows a score field with its paths, used for the learned field and for the toy.

State for tests and for the page, on the element of class `flow`: `data-id` (of the field shown), `data-state` and
`data-last` (state shown, last state), `data-arrows` (how many states have arrows), `data-done`, `data-playing`,
`data-paths` ("ode", "sde", "both").
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from imder.ui.messages import Message, floats, number, pack_maps

if TYPE_CHECKING:
    import numpy as np

    from imder.field import Arrows, Picture

HERE = Path(__file__).parent


def flow_component(elem_id: str, value: Message | None = None) -> gr.HTML:
    """A flow as an output component. Never pass it as an input."""
    return gr.HTML(
        value=value,
        html_template=(HERE / "flow.html").read_text(encoding="utf-8"),
        css_template=(HERE / "flow.css").read_text(encoding="utf-8"),
        js_on_load=(HERE / "flow.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def picture_message(
    name: str, title: str, picture: Picture, side: int, cloud_name: str, truth: np.ndarray | None = None
) -> Message:
    """The first message of a field with the id `name`; the others are this one with more in it."""
    return {
        "id": name,
        "title": title,
        **{key: floats(getattr(picture, key)) for key in ("t", "std", "reach", "cloud")},
        "centre": [number(v) for v in picture.centre],
        "density": pack_maps(picture.density),
        "floor": float(-picture.density.min()),
        "fields": list(picture.fields),
        "side": side,
        "cloud_name": cloud_name,
        "truth": None if truth is None else [number(v) for v in truth],
        "count": 0,
        "arrows": {},
        "done": False,
    }


def with_paths(message: Message, ode: np.ndarray, sde: np.ndarray) -> Message:
    """With paths (S, N, 2)."""
    return message | {"count": int(ode.shape[1]), "ode": floats(ode), "sde": floats(sde)}


def with_arrows(message: Message, arrows: Arrows) -> Message:
    """With the arrows of one more state."""
    return message | {"arrows": message["arrows"] | {str(arrows.index): floats(arrows.values)}}
