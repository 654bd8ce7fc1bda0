"""The pipelines a visitor can choose from: a model and a data set each by a short name, opened when first needed."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from imder.hub import kind_of, read_info
from imder.pipeline import RecoveryPipeline
from imder.ui.validate import BadInput, shown

MOST_OPEN = 4
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(@[\w./-]{1,100})?", re.ASCII)
CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"

Opener = Callable[[str, str], RecoveryPipeline]


def open_pipeline(source: str, data: str) -> RecoveryPipeline:
    """The pipeline of a run folder or Hub repository on a data set folder or "bundled", ready for its first visitor."""
    pipeline = RecoveryPipeline.from_pretrained(source, data=data)
    pipeline.warm_up()
    return pipeline


def open_public(source: str, data: str) -> RecoveryPipeline:
    """As `open_pipeline`, for a repository that a visitor names: the Hub is asked without our token."""
    pipeline = RecoveryPipeline.from_pretrained(source, data=data, anonymous=True)
    pipeline.warm_up()
    return pipeline


def bundled_runs() -> dict[str, str]:
    """The trained runs of this repository, `corrected` first."""
    found = sorted(path.parent for path in CHECKPOINTS.glob("*/config.json"))
    return {path.name: str(path) for path in sorted(found, key=lambda path: path.name != "corrected")}


def bundled_models() -> dict[str, str]:
    """Those of `bundled_runs` that recover: the runs of IMDer, not those that it is compared with."""
    kinds = {name: kind_of(read_info(Path(source))[0]["model"]) for name, source in bundled_runs().items()}
    return {name: source for name, source in bundled_runs().items() if kinds[name] == "imder"}


def named(source: str | None, others: Mapping[str, str]) -> dict[str, str]:
    """`source` first, by its folder's name or as it is, then `others`."""
    if source is None:
        return dict(others)
    name = Path(source).resolve().name if Path(source).is_dir() else source
    return {name: source} | {k: v for k, v in others.items() if k != name}


class Shelf:
    """Models and data sets by name; the first pair stays open, and at most three others."""

    def __init__(
        self,
        models: Mapping[str, str],
        sets: Mapping[str, str],
        opener: Opener = open_pipeline,
        visitors: Opener | None = None,
    ) -> None:
        """`opener` opens what is listed, `visitors` (default: the same) the Hub repositories that a visitor names."""
        if not models:
            raise ValueError(f"no model: {CHECKPOINTS} holds no run; name one with --run")
        self.models, self.sets, self.opener, self.visitors = dict(models), dict(sets), opener, visitors or opener
        self._open: OrderedDict[tuple[str, str], RecoveryPipeline] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def first(self) -> tuple[str, str]:
        """The model and the data set that the page opens with."""
        return next(iter(self.models)), next(iter(self.sets))

    @property
    def runs(self) -> dict[str, Path | None]:
        """The folders of the listed models and of the Hub repositories that are open now; None for one not open yet."""
        with self._lock:
            opened = {model: Path(pipeline.run.folder) for (model, _), pipeline in self._open.items()}
        listed = {name: Path(source) if Path(source).is_dir() else None for name, source in self.models.items()}
        return listed | opened

    def get(self, model: object = None, data: object = None) -> RecoveryPipeline:
        """The pipeline of a listed model, or of a Hub repository `owner/name[@revision]`, and a listed data set."""
        model = self.first[0] if model is None else model
        data = self.first[1] if data is None else data
        if type(data) is not str or data not in self.sets:
            raise BadInput(f"data set: {shown(data)} is unknown; allowed: {', '.join(self.sets)}.")
        if type(model) is not str or not (model in self.models or REPOSITORY.fullmatch(model)):
            raise BadInput(
                f"model: {shown(model)} is unknown; allowed: {', '.join(self.models)}, "
                "or a Hub repository written owner/name or owner/name@revision."
            )
        with self._lock:
            if (model, data) in self._open:
                self._open.move_to_end((model, data))
                return self._open[model, data]
        source, folder = self.models.get(model, model), self.sets[data]
        try:
            pipeline = (self.opener if model in self.models else self.visitors)(source, folder)
        except ValueError as error:
            raise BadInput(str(error).replace(source, model).replace(folder, data)) from None
        if pipeline.notice and model not in self.models:
            raise BadInput(pipeline.notice)
        with self._lock:
            self._open[model, data] = pipeline
            spare = [key for key in self._open if key != self.first]
            if len(spare) >= MOST_OPEN:
                del self._open[spare[0]]
        return pipeline
