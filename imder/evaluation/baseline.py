"""A run of a baseline judged on the same masks: it predicts, and recovers nothing to compare with the truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imder import hub
from imder.baselines.recognizer import grouped
from imder.data.clip import collate
from imder.data.dataset import FeatureSet
from imder.evaluation.rows import MasksFile, Row
from imder.evaluation.study import Cell, EvaluationConfig, Study, Tick
from imder.model.task import outcome


class BaselineStudy(Study):
    """A run of MMIN, GCNet, modality dropout or a model a subset; its kind is its one method."""

    def __init__(self, run: hub.Run, data: FeatureSet, config: EvaluationConfig, name: str, masks: MasksFile) -> None:
        super().__init__(run, data, config, name, masks)
        self.model = run.model.eval()
        self.methods_of_run = (run.kind,)

    def variants(self, method: str) -> list[tuple[int, bool]]:
        """One answer, and no D_k."""
        return [(1, False)]

    def work(self, cells: Sequence[Cell]) -> float:
        """One evaluation a clip."""
        return float(len(cells) * len(self.ids))

    @torch.no_grad()
    def measure(self, cell: Cell, tick: Tick) -> tuple[list[Row], dict[tuple[int, bool], Tensor]]:
        """The prediction for the cell's clips."""
        available, out = torch.from_numpy(cell.masks), torch.zeros(len(self.ids), self.outputs)
        for rows in self._parts():
            batch = self.standardiser.apply(collate([self.members[i] for i in rows.tolist()]))
            out[rows] = self.model(batch, available[rows]).value
            tick(len(rows))
        return [], {(1, False): outcome(out)}

    def _parts(self) -> list[Tensor]:
        return grouped([video for _, video, _ in self.members.names], self.model.whole_videos, self.config.batch)
