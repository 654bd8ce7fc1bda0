"""The players: one `gr.HTML` with a card for each outcome of a comparison, all at one time in the clip.

State for tests, on the element with id `players`: `data-run` (what is compared and of which clip), `data-cards` (how
many cards are shown), `data-time` (0 to 1000, the time in the clip), `data-playing` ("true", "false").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from imder.compare import Outcome
from imder.data.clip import Clip
from imder.data.label import class_name
from imder.interpret import percent
from imder.modality import NAMES
from imder.ui.messages import Message, Names, number, readable
from imder.ui.stage import joined

HERE = Path(__file__).parent
MOST_WORDS = 60


def players_component(value: Message | None = None, **options: Any) -> gr.HTML:
    """The players as an output component; never pass it as an input."""
    return gr.HTML(
        value=value,
        html_template=joined("players.html", folder=HERE),
        css_template=joined("face.css", "players.css", folder=HERE),
        js_on_load=joined("face.js", "players.js", folder=HERE),
        apply_default_css=False,
        **{"elem_id": "players-holder", **options},
    )


def players_message(
    run: str,
    clip: Clip,
    outcomes: Sequence[Outcome],
    *,
    names: Names | None,
    label_range: Sequence[float],
    classes: Sequence[str] = (),
) -> Message:
    """Cards of the outcomes after one of the clip itself, as they stand now.

    Of classes the message says which is the `true` one, and a card what it predicts (`verdict`) and the true one's
    probability (`share`), in the place of a prediction and its interval.
    """
    own = {"true": class_name(clip.label, classes)} if classes else {}
    return {
        "run": run,
        "seconds": number(clip.seconds) if clip.seconds else None,
        "range": [number(v) for v in label_range],
        "label": number(clip.label),
        "truth": readable(clip.features, names),
        "cards": [{"title": "The clip itself", "told": [], "shown": readable(clip.features, names), "true": True}]
        + [_card(one, names) for one in outcomes],
        **own,
    }


def _card(one: Outcome, names: Names | None) -> Message:
    gone = {k: NAMES[k] for k in one.missing}
    return {
        "title": one.name,
        "true": False,
        "shown": readable(one.readable, names),
        "recovered": [NAMES[k] for k in one.missing],
        **(_verdict(one) if one.classes else _sentiment(one)),
        "told": [*_errors(one.feature_error, gone), *_words(one), *([_sentence(one.note)] if one.note else [])],
    }


def _sentiment(one: Outcome) -> Message:
    interval = [number(v) for v in one.interval] if one.interval else None
    return {"prediction": number(one.prediction), "interval": interval}


def _verdict(one: Outcome) -> Message:
    if not one.known:
        return {"verdict": None, "share": None}
    (name, share), true = one.likeliest, class_name(one.label, one.classes)
    rest = "the true class" if name == true else f"the true class, {true}, {percent(one.true_share)}"
    return {"verdict": [f"{name} {percent(share)}", rest], "share": number(one.true_share)}


def _errors(errors: Mapping[str, float], gone: Mapping[str, str]) -> list[str]:
    told = ", ".join(f"{gone[k]} {errors[k]:.2f}" for k in gone if k in errors)
    return [f"Feature error: {told}"] if told else []


def _words(one: Outcome) -> list[str]:
    """The nearest word of each place, most frequent over the draws."""
    told = " ".join(ranked[0][0] for ranked in one.words[:MOST_WORDS] if ranked)
    return [f"Nearest words: {told}"] if told else []


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
