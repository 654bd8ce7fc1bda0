"""What a report is made of, whatever its format: headings, text, tables, listings, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

DASH = "–"


@dataclass(frozen=True)
class Part:
    """A piece of a cell's text; the pieces of a cell are set with slashes between."""

    text: str
    best: bool = False


Cell = tuple[Part, ...]


def plain(text: str) -> Cell:
    """A cell of one piece."""
    return (Part(text),)


@dataclass(frozen=True)
class Table:
    """A table whose first `stubs` columns name the rows and whose last `averages` rows are averages of those above."""

    title: str
    caption: str
    head: tuple[str, ...]
    body: tuple[tuple[Cell, ...], ...]
    stubs: int = 1
    averages: int = 0
    width: int = 5  # columns besides the stubs that a printed page takes

    def __post_init__(self) -> None:
        if any(len(line) != len(self.head) for line in self.body):
            raise ValueError(f"{self.title}: a row has not {len(self.head)} cells")


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 to 3."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` stands between backticks."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, inline code as in `Text`."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """Lines of commands."""

    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Figure:
    """A Plotly figure; formats that cannot draw leave it out."""

    title: str
    caption: str
    figure: go.Figure


Block = Table | Heading | Text | Bullets | Listing | Figure


def best_marked(columns: Sequence[str | None], values: Sequence[float | None], lower: bool) -> list[Part]:
    """A row's texts as pieces, the best one marked, with all that are printed like it; of equals none is best."""
    told = [value for value in values if value is not None]
    if len({text for text in columns if text}) < 2:
        return [Part(text or DASH) for text in columns]
    best = (min if lower else max)(told)
    printed = next(text for text, value in zip(columns, values, strict=True) if value == best)
    return [
        Part(text or DASH, value is not None and text == printed) for text, value in zip(columns, values, strict=True)
    ]
