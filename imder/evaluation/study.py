"""What is evaluated: methods on cells of stored masks, and the rows and predictions that a cell leaves."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from imder import hub
from imder.baselines import BASELINES
from imder.data.dataset import SPLITS, FeatureSet, SomeClips
from imder.data.missing import BatchwiseMissing, FixedMissing, RandomMissing, UnequalMissing, realised_rate, shares
from imder.evaluation.metrics import figures, metric_names, scale_of
from imder.evaluation.predictions import CELL
from imder.evaluation.rows import MasksFile, Row, identity
from imder.modality import MODALITIES, from_mask, names_of, patterns, symbols
from imder.samplers import check_steps, get_sampler

#: `shuffled` is a control, measured only where it is asked for: IMDer's draws given another clip's observed features.
CONTROLS = ("shuffled",)
DRAWN = ("imder", "unconditional", *CONTROLS)
FILLS = ("zero", "mean", "knn", "ridge")
#: Methods of a run of IMDer: its draws, its conditional mean, and fills through the same model.
IMDER_METHODS = ("imder", "imder-mean", "unconditional", *FILLS)
#: A run of another model is one method, named by its kind.
METHODS = (*IMDER_METHODS, *CONTROLS, *BASELINES)
PROTOCOLS = ("fixed", "random", "batchwise", "unequal")
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
MAX_DRAWS = 1000

Tick = Callable[[float], None]
Entry = dict[str, Any]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated. `methods` empty takes all that a run has; `draws` are the numbers of draws to average over,
    besides one; `limit` 0 takes all clips."""

    methods: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ("fixed",)
    rates: tuple[float, ...] = RATES  # of the protocols `random` and `batchwise`
    unequal: tuple[dict[str, float], ...] = ()  # rates a modality, of the protocol `unequal`
    draws: tuple[int, ...] = (8,)
    seeds: int = 1  # of masks and noise; the masks of `fixed` know none, so it is answered with seed 0
    split: str = "test"
    limit: int = 0
    sampler: str | None = None  # None: the run's own
    steps: int | None = None
    guidance: float = 1.0
    batch: int = 100

    def __post_init__(self) -> None:
        for name in self.methods:
            _one_of("method", name, METHODS)
        if not self.protocols:
            raise ValueError(f"protocols: none given; allowed: {', '.join(PROTOCOLS)}")
        for name in self.protocols:
            _one_of("protocol", name, PROTOCOLS)
        _one_of("split", self.split, SPLITS)
        if {"random", "batchwise"} & set(self.protocols):
            if not self.rates:
                raise ValueError("rates: none given; numbers from 0 to 0.7 are needed")
            for rate in self.rates:
                RandomMissing(rate)
        if "unequal" in self.protocols:
            if not self.unequal:
                raise ValueError("rates: the protocol 'unequal' needs one a modality, such as L=.1,A=.3,V=.5")
            for rates in self.unequal:
                UnequalMissing(rates)
        for name, low, high in (("seeds", 1, 1000), ("limit", 0, 10**9), ("batch", 1, 10_000)):
            _whole(name, getattr(self, name), low, high)
        if not self.draws:
            raise ValueError(f"draws: none given; whole numbers from 1 to {MAX_DRAWS} are needed")
        for count in self.draws:
            _whole("draws", count, 1, MAX_DRAWS)
        if self.sampler is not None:
            get_sampler(self.sampler)
        if self.steps is not None:
            check_steps(self.steps)
        if not (isinstance(self.guidance, int | float) and 0 <= self.guidance <= 8):  # NaN fails too
            raise ValueError(f"guidance: {self.guidance!r} is not allowed; a number from 0 to 8 is")

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of draws with rows of their own, ascending, 1 first."""
        return tuple(sorted({1, *self.draws}))


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} is unknown; allowed: {', '.join(allowed)}")


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: {value!r} is not allowed; a whole number from {low} to {high} is")


@dataclass(frozen=True, eq=False)
class Cell:
    """One method on one set of masks (N, 3)."""

    method: str
    protocol: str
    seed: int
    nominal: float
    mask: str
    masks: np.ndarray  # what the data set has nothing of counts as available
    available: tuple[str, ...]  # of all clips, without what the data set has nothing of; empty where it differs by clip

    @property
    def title(self) -> str:
        what = symbols(self.available) if self.available else f"{self.protocol} missing rate {self.nominal:g}"
        return f"{self.method}, {what}, seed {self.seed}"

    def groups(self) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """The patterns that occur, with their row numbers."""
        for row in np.unique(self.masks, axis=0):
            yield from_mask(row), torch.from_numpy(np.flatnonzero((self.masks == row).all(axis=1)))


def run_digest(folder: Path) -> str:
    """Eight hex digits that tell apart runs which answer differently: weights, configuration and calibration."""
    model = json.loads((folder / hub.CONFIG).read_bytes())["model"]
    found = hashlib.sha256((folder / hub.WEIGHTS).read_bytes())
    found.update(json.dumps(model, sort_keys=True).encode())
    return found.hexdigest()[:8]


def whole(run: hub.Run, what: str) -> hub.Run:
    """The run; ValueError where its data lack a modality, as `what` is of all three."""
    if run.lacks:
        raise ValueError(f"the run {run.source} was trained without {names_of(run.lacks)}; {what} are of all three")
    return run


class Study(ABC):
    """A run on a data set. `name` identifies the run in the rows."""

    methods_of_run: ClassVar[tuple[str, ...]]

    def __init__(self, run: hub.Run, data: FeatureSet, config: EvaluationConfig, name: str, masks: MasksFile) -> None:
        wanted, have = run.model.config.feature_dims, data.feature_dims
        if any(wanted[k] != have[k] for k in MODALITIES):
            shapes = [", ".join(f"{k} {dims[k]}" for k in MODALITIES) for dims in (wanted, have)]
            raise ValueError(f"the run {name!r} reads features of widths {shapes[0]}; {data.name!r} has {shapes[1]}")
        own = run.classes
        if own != data.label_classes:
            kinds = ["classes " + ", ".join(names) if names else "a sentiment" for names in (own, data.label_classes)]
            raise ValueError(f"the run {name!r} predicts {kinds[0]}; the label of {data.name!r} is {kinds[1]}")
        self.outputs = run.model.config.outputs
        self.standardiser, self.data, self.config, self.masks = run.standardiser, data, config, masks
        self.scale = scale_of(data.label_range, data.label_classes)
        self.lacks = run.lacks
        if more := set(run.lacks) - set(data.lacks):
            raise ValueError(f"the run {name!r} was trained without {names_of(more)}, which {data.name!r} has")
        if self.lacks and (odd := [p for p in config.protocols if p not in ("fixed", "random")]):
            raise ValueError(
                f"protocol: {odd[0]!r} is of three modalities, and {data.name!r} has no {names_of(self.lacks)}; "
                "fixed and random are measured"
            )
        for rate in config.rates if self.lacks and "random" in config.protocols else ():
            RandomMissing(float(rate), 0, self.lacks)
        clips = data.split(config.split)
        complete = data.complete(config.split, self.lacks)
        if not complete:
            raise ValueError(f"no clip of {config.split!r} in {data.name!r} is complete; only complete ones are judged")
        self.left_out, clips = len(clips) - len(complete), complete
        if cut := 0 < config.limit < len(clips):  # spread evenly, so that all speakers are in
            clips = clips.only([i * len(clips) // config.limit for i in range(config.limit)])
        self.members: SomeClips = clips
        self.ids = tuple(clip for clip, *_ in clips.names)
        self.label = np.array(clips.labels, dtype=np.float32)
        self.common = {
            "run": name,
            "data": f"{data.name}@{data.fingerprint[:8]}",
            "split": config.split,
            "limit": config.limit if cut else None,
        }

    # What a kind of run says of itself -------------------------------------------------------------------------------

    @abstractmethod
    def variants(self, method: str) -> list[tuple[int, bool]]:
        """(draws averaged over, after D_k or not) of a method, in the order of its rows."""

    @abstractmethod
    def work(self, cells: Sequence[Cell]) -> float:
        """What computing these cells will add up to in ticks: network evaluations on one clip, roughly."""

    @abstractmethod
    def measure(self, cell: Cell, tick: Tick) -> tuple[list[Row], dict[tuple[int, bool], Tensor]]:
        """A cell's rows beside those of the prediction, and each variant's: sentiments (N,) or probabilities (N, C)."""

    def sampling(self, method: str) -> dict[str, Any]:
        """sampler, steps, nfe and guidance of a method, as its rows show them."""
        return dict.fromkeys(("sampler", "steps", "nfe", "guidance"))

    def floors_done(self, known: set[tuple[Any, ...]]) -> bool:
        """Whether the run's floors are among the identities `known`."""
        return True

    def floor_rows(self) -> list[Row]:
        """Rows that belong to no method."""
        return []

    # Cells -----------------------------------------------------------------------------------------------------------

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are asked for and that this run has; of no names all but the controls."""
        asked = self.config.methods or [m for m in self.methods_of_run if m not in CONTROLS]
        return tuple(m for m in self.methods_of_run if m in asked)

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells of the configuration, in the order in which they are computed."""
        found = []
        for seed in range(self.config.seeds):
            protocols = [p for p in self.config.protocols if not (seed and p == "fixed")]  # its masks know no seed
            sets = [(protocol, *one) for protocol in protocols for one in self._masks(protocol, seed)]
            for method in self.methods:
                found += [Cell(method, protocol, seed, rate, mask, m, names) for protocol, mask, rate, m, names in sets]
        return found

    def _masks(self, protocol: str, seed: int) -> Iterator[tuple[str, float, np.ndarray, tuple[str, ...]]]:
        """(entry of the masks file, nominal rate, masks (N, 3), pattern or nothing) of a protocol."""
        config = self.config
        if protocol == "fixed":
            made = [(f"fixed-{symbols(p)}", FixedMissing(p, self.lacks), p) for p in patterns(self.lacks)]
        elif protocol == "unequal":
            made = [(f"unequal-{(m := UnequalMissing(r, seed)).name}-seed{seed}", m, ()) for r in config.unequal]
        else:
            protocols = {"random": partial(RandomMissing, lacks=self.lacks), "batchwise": BatchwiseMissing}
            kind = protocols[protocol]
            made = [(f"{protocol}-{rate:g}-seed{seed}", kind(float(rate), seed), ()) for rate in config.rates]
        for name, missing, pattern in made:
            entry = f"{self.data.name}/{config.split}/{name}"
            yield entry, missing.rate, self.masks.get(entry, self.ids, missing.masks), pattern

    def done(self, cell: Cell, known: set[tuple[Any, ...]]) -> bool:
        """Whether the cell's last row is among the identities `known` (a cell's rows are appended in one piece)."""
        draws, refined = self.variants(cell.method)[-1]
        last = self.row(cell, metric_names(self.scale)[-1], None, 0, draws=draws, refined=refined)
        return identity(last) in known

    # Rows ------------------------------------------------------------------------------------------------------------

    def answer(self, cell: Cell, tick: Tick = lambda units: None) -> tuple[list[Row], list[Entry]]:
        """All figures of a cell, and the predictions that they were made of (of classes the index)."""
        found, predictions = self.measure(cell, tick)
        entries = []
        for (draws, refined), values in predictions.items():
            found += self._prediction_rows(cell, values.numpy(), draws, refined)
            told = values if values.ndim == 1 else values.argmax(dim=1)  # of classes the likeliest is kept
            place = self.row(cell, "mae", None, 0, draws=draws, refined=refined)
            own = {key: place[key] for key in CELL}
            entries.append(own | {"prediction": [round(float(x), 4) for x in told]})
        return found, entries

    def clips_entry(self) -> Entry:
        """What the predictions are of: ids, videos and labels in their order."""
        own = {key: self.common[key] for key in ("data", "split", "limit")}
        videos = [video for _, video, _ in self.members.names]
        return own | {"ids": list(self.ids), "videos": videos, "label": [round(float(y), 6) for y in self.label]}

    def _prediction_rows(self, cell: Cell, predictions: np.ndarray, draws: int, refined: bool) -> list[Row]:
        made = figures(predictions, self.label, self.scale)
        found = []
        for metric in metric_names(self.scale):
            se = None
            if metric == "mae" and len(self.label) > 1:
                se = float(np.abs(predictions - self.label).astype(np.float64).std(ddof=1) / len(self.label) ** 0.5)
            figure = made[metric]
            found.append(self.row(cell, metric, figure.value, figure.n, draws=draws, refined=refined, se=se))
        return found

    def row(
        self,
        cell: Cell,
        metric: str,
        value: float | None,
        n: int,
        *,
        draws: int,
        refined: bool,
        modality: str | None = None,
        se: float | None = None,
        exact: float | None = None,
    ) -> Row:
        """One row, its keys in the order of `SCHEMA`."""
        how, by_count = self.sampling(cell.method), shares(cell.masks, self.lacks)
        return {
            "method": cell.method,
            "available": list(cell.available),
            "metric": metric,
            "value": None if value is None else round(value, 6),
            "n": n,
            "draws": draws,
            "refined": refined,
            "seed": cell.seed,
            "sampler": how["sampler"],
            "steps": how["steps"],
            "protocol": cell.protocol,
            "nominal_missing_rate": round(cell.nominal, 6),
            "realised_missing_rate": round(realised_rate(cell.masks, self.lacks), 6),
            **self.common,
            "modality": modality,
            "nfe": how["nfe"],
            "guidance": how["guidance"],
            "mask": cell.mask,
            "shares": [round(by_count[count], 6) for count in (3, 2, 1)],
            "se": None if se is None else round(se, 6),
            "exact": None if exact is None else round(exact, 6),
        }
