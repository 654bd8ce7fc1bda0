"""A clip's label in words: a sentiment is a number with its sign, a class is its name."""

from __future__ import annotations

import math
from collections.abc import Sequence


def class_name(label: float, classes: Sequence[str]) -> str | None:
    """The class of that index; None where the label is not known (NaN)."""
    return None if math.isnan(label) else classes[int(label)]


def label_text(label: float, classes: Sequence[str] = (), digits: int = 1) -> str:
    """`+1.2` of a sentiment, the name of a class; empty where the label is not known."""
    if math.isnan(label):
        return ""
    return class_name(label, classes) if classes else f"{label:+.{digits}f}"


def class_index(value: object, classes: Sequence[str]) -> float:
    """The label of a class given by its name, whatever its case, or by its index. ValueError for anything else."""
    if isinstance(value, str):
        names = [name.casefold() for name in classes]
        text = value.strip().casefold()
        if text in names:
            return float(names.index(text))
        value = float(text) if text.isdecimal() and len(text) < 4 else math.nan
    elif type(value) not in (int, float):
        value = math.nan
    if not (0 <= value < len(classes) and value == int(value)):  # NaN is not
        raise ValueError(f"a class or its index, 0 to {len(classes) - 1}, is needed: {', '.join(classes)}")
    return float(value)
