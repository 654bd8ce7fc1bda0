"""The corpus card: README.md beside the data."""

from __future__ import annotations

from pathlib import Path

from imder.data.corpus.grammar import FRAMES as SENTENCE_FRAMES
from imder.data.corpus.latents import VOICES
from imder.data.corpus.report import measure
from imder.data.dataset import FeatureSet

_TEMPLATE = Path(__file__).with_name("card.md")


def card(data: FeatureSet, *, seed: int) -> str:
    """The card with the figures of this data set."""
    sizes = {split: len(data.split(split)) for split in data.splits}
    draws = len(data.redraws(data.redraw_ids[0])["audio"]) if data.redraw_ids else 0
    return _TEMPLATE.read_text(encoding="utf-8").format(
        clips=f"{len(data):,}",
        seed=seed,
        width=data.feature_dims["text"],
        videos=sum(len(data.videos(split)) for split in data.splits),
        frames=len(SENTENCE_FRAMES),
        voices=len(VOICES),
        draws=draws,
        redrawn=len(data.redraw_ids),
        measured=measure(data),
        **sizes,
    )
