"""What a run shows and keeps while it works: one bar over all jobs, and `log.jsonl`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from imder.training.loop import Row
from imder.training.stages import stage_of

BAR = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left{postfix}"


class Progress:
    """Hears what the jobs tell; the bar's length is the expected seconds of all jobs, side by side ones divided."""

    def __init__(self, costs: dict[str, float], log: Path, finished: dict[str, list[Row]]) -> None:
        self.costs, self.log = costs, log
        self.rows = {name: finished.get(name, []) for name in costs}
        self.parts = {name: float(name in finished) for name in costs}
        self.active: dict[str, float | None] = {}
        slow = {} if sys.stderr.isatty() else {"mininterval": 10, "ascii": True, "ncols": 100}
        self.bar = tqdm(total=sum(costs.values()), initial=self._done(), bar_format=BAR, smoothing=0, **slow)
        self._write()

    def _done(self) -> float:
        return sum(cost * self.parts[name] for name, cost in self.costs.items())

    def hear(self, name: str, message: dict[str, Any]) -> None:
        """One message of a job."""
        if "warning" in message:
            self.bar.write(f"warning: {message['warning']}", file=sys.stderr)
        if "restored" in message:
            self.rows[name] = [self.row(name, row) for row in message["restored"]]
            self._write()
            if message["at"]:  # work of an earlier run does not count in the speed of this one
                self.bar.initial += self.costs[name] * message["at"] / message["of"]
        if "row" in message:
            self.rows[name].append(self.row(name, message["row"]))
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(self.rows[name][-1]) + "\n")
        if "at" in message:
            self.parts[name] = message["at"] / message["of"]
            self.active[name] = message.get("loss", self.active.get(name))
            if message["at"] == message["of"]:
                self.active.pop(name)
            self._show()

    def _show(self) -> None:
        names = ", ".join(self.active)
        stages = "/".join(sorted({stage_of(name) for name in self.active}))
        losses = [f"{loss:.3f}" for loss in self.active.values() if loss is not None]
        self.bar.set_description_str(f"stage {stages}: {names}" if names else "next stage", refresh=False)
        self.bar.set_postfix_str("loss " + ", ".join(losses) if losses else "", refresh=False)
        self.bar.update(max(0.0, self._done() - self.bar.n))

    def where(self) -> str:
        """How far the jobs at work are, in words."""
        if not self.active:
            return "between two stages"
        return ", ".join(f"{name} at {100 * self.parts[name]:.0f} %" for name in self.active)

    def close(self) -> None:
        """Ends the bar."""
        self.bar.close()

    @staticmethod
    def row(name: str, row: Row) -> Row:
        """A job's row as it stands in the log."""
        modality = name.partition("-")[2] if name.startswith("score-") else None
        return {"stage": stage_of(name), "job": name, "modality": modality} | row

    def all_rows(self) -> list[Row]:
        """The rows of all jobs in the order of the stages."""
        return [row for rows in self.rows.values() for row in rows]

    def _write(self) -> None:
        self.log.write_text("".join(json.dumps(row) + "\n" for row in self.all_rows()), encoding="utf-8")
