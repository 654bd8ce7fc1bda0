"""What the paper's supplement reports, as stored in `assets/reported.json`: on other data than ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).parents[2] / "assets" / "reported.json"
FORMAT = "imder-reported/1"


@dataclass(frozen=True)
class Reported:
    """One method's column of a table: `values[i][j]` in percent at `rates[i]`, metric `metrics[j]`."""

    table: int
    data: str
    caption: str
    name: str
    method: str
    metrics: tuple[str, ...]
    rates: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    average: tuple[float, ...]  # as printed, over all rates

    def at(self, metric: str) -> tuple[float, ...]:
        """One metric over the rates."""
        return tuple(row[self.metrics.index(metric)] for row in self.values)


def read_reported(path: Path = PATH) -> tuple[str, list[Reported]]:
    """The source in one line, and all columns."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"format is {stored['format']!r}, {FORMAT!r} is needed")
        source = stored["source"]
        line = f"{', '.join(source['authors'])}: {source['title']}, {source['venue']}"
        found = [
            Reported(
                table["table"],
                table["data"],
                table["caption"],
                column["name"],
                column["method"],
                tuple(table["metrics"]),
                tuple(table["rates"]),
                tuple(map(tuple, column["values"])),
                tuple(column["average"]),
            )
            for table in stored["tables"]
            for column in table["columns"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: the reported figures cannot be read ({error})") from None
    return line, found
