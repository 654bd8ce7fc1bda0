"""The README of a repository on the Hub: front matter, the folder's own text, and below a mark what is made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

#: Below it stands what a push writes; a push of what was pulled writes it again.
MADE = "<!-- What follows is made by the command that published this. -->"

Head = dict[str, Any]


def split_card(text: str, path: Path) -> tuple[Head, str]:
    """The front matter, and the text without it and without what an earlier push made. ValueError if it is not YAML."""
    head: Any = {}
    if text.startswith("---\n"):
        front, found, rest = text[4:].partition("\n---\n")
        if found:
            try:
                head = yaml.safe_load(front) or {}
            except yaml.YAMLError:
                raise ValueError(f"{path}: the head between the lines --- is not YAML") from None
            if not isinstance(head, dict):
                raise ValueError(f"{path}: the head between the lines --- is not a list of names and values")
            text = rest
    return head, text.partition(MADE)[0].strip()


def join_card(head: Head, *parts: str) -> str:
    """The text of README.md; `parts` are paragraphs."""
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)
    return "\n\n".join([f"---\n{front}---", *(part for part in parts if part)]) + "\n"


def table(head: tuple[str, ...], lines: list[tuple[Any, ...]]) -> str:
    """A Markdown table; a cell's bars are kept from ending it."""
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
