"""A run of IMDer judged on a split: what a method gives for a cell is an `Outcome`, off which every figure is read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imder import hub
from imder.baselines.fill import Encoded, Latents, MeanFill, NeighbourFill, RidgeFill, ZeroFill
from imder.data.clip import Clip, collate, resample
from imder.data.dataset import FeatureSet
from imder.data.standardise import Standardiser
from imder.evaluation.distribution import (
    Floor,
    Projection,
    covered,
    energy_distance,
    exact_coverage,
    flatten,
    halves_floor,
    sliced_wasserstein,
)
from imder.evaluation.probe import Probe
from imder.evaluation.rows import MasksFile, Row, identity
from imder.evaluation.study import CONTROLS, DRAWN, FILLS, IMDER_METHODS, Cell, EvaluationConfig, Study, Tick
from imder.modality import MODALITIES, missing, symbols
from imder.model import IMDer
from imder.samplers import get_sampler, noise_seed
from imder.trajectory import Estimate, final

#: What D_k and two predictions of a draw cost, in network evaluations.
JUDGING = 6

#: Draws held at a time for their quantiles, of all clips of a batch: the memory does not grow with their number.
HELD = 3200

#: The method name of floors: real clips against real clips.
REAL = "real"
#: The accuracy of `Probe` on recovered features.
PROBE = "probe_accuracy"
DISTANCES = {"energy_distance": energy_distance, "sliced_wasserstein": sliced_wasserstein}


@dataclass
class Outcome:
    """What a method made of a cell's clips, for each (draws averaged over, after D_k or not)."""

    variants: tuple[tuple[int, bool], ...]
    values: dict[tuple[int, bool], Latents] = field(default_factory=dict)  # k: (N, D, L), rows with k missing
    predictions: dict[tuple[int, bool], Tensor] = field(default_factory=dict)  # (N,), of classes (N, C)
    coverage: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # draws: k: (N,), rows with k missing

    @classmethod
    def empty(
        cls,
        like: Encoded,
        variants: Sequence[tuple[int, bool]],
        counts: Sequence[int] = (),
        shape: tuple[int, ...] = (),
    ) -> Outcome:
        """Zeros; `shape` is that of one clip's prediction."""
        made = cls(tuple(variants))
        for variant in variants:
            made.values[variant] = {k: torch.zeros_like(z) for k, z in like.latents.items()}
            made.predictions[variant] = torch.zeros(len(like), *shape)
        for count in counts:
            made.coverage[count] = {k: torch.zeros(len(like)) for k in MODALITIES}
        return made


def encode_clips(model: IMDer, standardiser: Standardiser, clips: Sequence[Clip], batch: int = 100) -> Encoded:
    """The model's latents of complete clips, on one time axis, padding 0."""
    parts = []
    for first in range(0, len(clips), batch):
        part = standardiser.apply(collate(clips[first : first + batch]))
        with torch.no_grad():
            latents = model.encode(part.features)
        valid = model.latent_valid(part.valid)
        parts.append(Encoded({k: z * valid[:, None] for k, z in latents.items()}, valid, part.label, part.ids))
    frames = max(part.valid.shape[1] for part in parts)

    def longer(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, frames - x.shape[-1]))

    return Encoded(
        {k: torch.cat([longer(part.latents[k]) for part in parts]) for k in MODALITIES},
        torch.cat([longer(part.valid) for part in parts]),
        torch.cat([part.label for part in parts]),
        tuple(clip for part in parts for clip in part.ids),
    )


def fitted_fills(
    model: IMDer,
    standardiser: Standardiser,
    data: FeatureSet,
    train: Encoded,
    batch: int = 100,
    lacks: Sequence[str] = (),
) -> dict[str, Callable[[Latents, tuple[str, ...], Tensor], Latents]]:
    """The fills by name, fitted on `train`. Their few choices are made on `valid`, or on a fifth of `train`.

    lacks: modalities that a complete clip of these data has nothing of.
    """
    if "valid" in data.splits:
        fit, tune = train, encode_clips(model, standardiser, data.complete("valid", lacks), batch)
    else:
        cut = max(1, len(train) * 4 // 5)
        fit, tune = train.take(torch.arange(cut)), train.take(torch.arange(min(cut, len(train) - 1), len(train)))
    return {
        "zero": ZeroFill(model.encode, model.config.feature_dims),
        "mean": MeanFill(train),
        "knn": NeighbourFill(fit, tune),
        "ridge": RidgeFill(fit, tune),
    }


class RecoveryStudy(Study):
    """A run of IMDer on a data set."""

    methods_of_run = (*IMDER_METHODS, *CONTROLS)

    def __init__(self, run: hub.Run, data: FeatureSet, config: EvaluationConfig, name: str, masks: MasksFile) -> None:
        super().__init__(run, data, config, name, masks)
        self.model = run.model.eval()
        self.sampler = config.sampler or self.model.config.sampler
        own = self.model.config.steps if self.sampler == self.model.config.sampler else get_sampler(self.sampler).steps
        self.steps = config.steps or own
        self.clips = encode_clips(self.model, self.standardiser, self.members, config.batch)
        self.shape = () if self.outputs == 1 else (self.outputs,)  # of one clip's prediction
        self._unconditional: dict[tuple[int, str], np.memmap] = {}

    def work(self, cells: Sequence[Cell]) -> float:
        """What computing these cells will add up to in ticks: network evaluations on one clip, roughly."""
        draws, count = max(self.config.counts), len(self.clips)
        total = 0.0
        for cell in cells:
            missing_rows = int((~cell.masks.all(axis=1)).sum())
            if cell.method in ("imder", *CONTROLS):
                total += draws * self.nfe * int((~cell.masks).sum())
            total += (count - missing_rows) + missing_rows * (JUDGING * draws if cell.method in DRAWN else 1)
        absent = {
            (cell.seed, k)
            for cell in cells
            if cell.method == "unconditional"
            for i, k in enumerate(MODALITIES)
            if not cell.masks[:, i].all()
        }
        return total + len(absent) * draws * self.nfe * count

    @property
    def there(self) -> tuple[str, ...]:
        """The modalities of which the data have something."""
        return missing(self.lacks)

    @cached_property
    def nfe(self) -> int:
        """Network evaluations a draw and modality."""
        sampler, x = get_sampler(self.sampler), torch.zeros(1, 1, 1)
        ts = sampler.grid(self.model.sde, self.steps)
        return final(sampler.run(lambda x, t: Estimate(x, x), self.model.sde, x, ts, lambda: x)).nfe

    def variants(self, method: str) -> list[tuple[int, bool]]:
        """(draws averaged over, after D_k or not) of a method, in the order of its rows."""
        if method in FILLS:
            return [(1, False)]
        counts = self.config.counts if method in DRAWN else (1,)
        return [(count, refined) for count in counts for refined in (False, True)]

    # Outcomes --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def outcome(self, cell: Cell, tick: Tick = lambda units: None) -> Outcome:
        """What the cell's method makes of its clips."""
        variants = self.variants(cell.method)
        several = [count for count in self.config.counts if count > 1] if cell.method in DRAWN else []
        made = Outcome.empty(self.clips, variants, several, self.shape)
        batch = self.config.batch
        if cell.method in DRAWN:
            batch = max(1, min(batch, HELD // max(self.config.counts)))
        for pattern, members in cell.groups():
            for rows in members.split(batch):
                part = self.clips.take(rows)
                if not missing(pattern):
                    for variant in variants:
                        made.predictions[variant][rows] = self._predict(part, {})
                    tick(len(rows))
                elif cell.method in DRAWN:
                    self._judge_draws(made, cell, part, rows, pattern, tick)
                else:
                    filled = self._fill(cell.method, part, pattern)
                    for variant in variants:
                        values = self.refine(filled, part.valid) if variant[1] else filled
                        self._keep(made, variant, rows, values, self._predict(part, values))
                    tick(len(rows))
        return made

    @staticmethod
    def _keep(made: Outcome, variant: tuple[int, bool], rows: Tensor, values: Latents, prediction: Tensor) -> None:
        for k, z in values.items():
            made.values[variant][k][rows] = z
        made.predictions[variant][rows] = prediction

    def _predict(self, part: Encoded, recovered: Latents) -> Tensor:
        """T_k's prediction from the true latents with `recovered` in the place of what is missing."""
        return self.model.predict(part.latents | recovered, part.valid)

    @torch.no_grad()
    def refine(self, values: Latents, valid: Tensor) -> Latents:
        """D_k of recovered latents."""
        return {k: self.model.reconstruct(k, z, valid) * valid[:, None] for k, z in values.items()}

    def _hidden(self, part: Encoded, pattern: tuple[str, ...]) -> Latents:
        """The latents as a method may see them: zeros for what is missing."""
        return {k: z if k in pattern else torch.zeros_like(z) for k, z in part.latents.items()}

    def _fill(self, method: str, part: Encoded, pattern: tuple[str, ...]) -> Latents:
        hidden = self._hidden(part, pattern)
        if method == "imder-mean":
            available = torch.tensor([k in pattern for k in MODALITIES]).expand(len(part), -1)
            full = self.model.conditional_mean(hidden, available, part.valid)
            return {k: full[k] * part.valid[:, None] for k in missing(pattern)}
        return self.fills[method](hidden, pattern, part.valid)

    def _judge_draws(
        self, made: Outcome, cell: Cell, part: Encoded, rows: Tensor, pattern: tuple[str, ...], tick: Tick
    ) -> None:
        """Draws of one batch: kept are the first one, running sums, and all draws of this batch for the quantiles."""
        counts, absent = self.config.counts, missing(pattern)
        total = {k: torch.zeros_like(part.latents[k]) for k in absent}
        outputs = {refined: torch.zeros(len(part), *self.shape) for refined in (False, True)}
        all_draws = {k: torch.empty(max(counts), *part.latents[k].shape) for k in absent}
        for i in range(max(counts)):
            drawn = self._draw(cell, part, rows, pattern, i, tick)
            for refined in (False, True):
                values = self.refine(drawn, part.valid) if refined else drawn
                outputs[refined] += self._predict(part, values)
                if i == 0:
                    self._keep(made, (1, refined), rows, values, outputs[refined])
            for k, z in drawn.items():
                total[k] += z
                all_draws[k][i] = z
            tick(JUDGING * len(rows))
            if (count := i + 1) > 1 and count in counts:
                mean = {k: z / count for k, z in total.items()}
                for refined in (False, True):
                    values = self.refine(mean, part.valid) if refined else mean
                    self._keep(made, (count, refined), rows, values, outputs[refined] / count)
                for k in absent:
                    made.coverage[count][k][rows] = self._covered(all_draws[k][:count], part.latents[k], part.valid)

    @staticmethod
    def _covered(draws: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """(B,) share of valid values of a clip inside the 5-95 % interval of its draws (n, B, D, L)."""
        inside = [
            covered(draws[:, i].numpy(), truth[i].numpy()) for i in range(len(truth))
        ]  # clip by clip: less memory
        share = torch.from_numpy(np.stack(inside)).float().mean(dim=1)  # (B, L)
        return (share * valid).sum(1) / valid.sum(1)

    def _seeds(self, seed: int, ids: Sequence[str], draw: int) -> list[int]:
        return [noise_seed(seed, clip, draw) for clip in ids]

    def _draw(
        self, cell: Cell, part: Encoded, rows: Tensor, pattern: tuple[str, ...], draw: int, tick: Tick
    ) -> Latents:
        if cell.method == "unconditional":
            drawn = {k: self._unconditional_draws(k, cell.seed, tick)[draw] for k in missing(pattern)}
            return {k: torch.from_numpy(z[rows.numpy()]) for k, z in drawn.items()}
        seen = part if cell.method == "imder" else self._partners(cell.seed, rows, part)
        drawn = self._recover(seen, pattern, self._seeds(cell.seed, part.ids, draw), self.config.guidance)
        tick(self.nfe * len(rows) * len(drawn))
        return drawn

    @torch.no_grad()
    def draws(
        self, rows: Sequence[int], pattern: tuple[str, ...], seed: int, numbers: Sequence[int], guidance: float = 1.0
    ) -> Latents:
        """The draw of that number of each of those clips, {k: (len(rows), D, L)} before D_k: those of `outcome`."""
        part = self.clips.take(torch.tensor(list(rows)))
        seeds = [noise_seed(seed, clip, number) for clip, number in zip(part.ids, numbers, strict=True)]
        return self._recover(part, pattern, seeds, guidance)

    def _recover(self, part: Encoded, pattern: tuple[str, ...], seeds: list[int], guidance: float) -> Latents:
        available = torch.tensor([k in pattern for k in MODALITIES]).expand(len(part), -1)
        full = self.model.recover(
            self._hidden(part, pattern),
            available,
            valid=part.valid,
            seeds=seeds,
            sampler=self.sampler,
            steps=self.steps,
            guidance=guidance,
        )
        return {k: full[k] * part.valid[:, None] for k in missing(pattern)}

    def _partners(self, seed: int, rows: Tensor, part: Encoded) -> Encoded:
        """For clips `part`, those of `rows`, the latents of others on the same frames: the clips stand in a ring at
        random, and each is given those of the next, so none its own."""
        ring = np.random.default_rng(seed).permutation(len(self.clips))
        after = torch.empty(len(ring), dtype=torch.long)
        after[torch.from_numpy(ring)] = torch.from_numpy(np.roll(ring, -1))
        others = self.clips.take(after[rows])
        latents = {k: torch.zeros_like(z) for k, z in part.latents.items()}
        for i, (there, own) in enumerate(zip(others.valid, part.valid, strict=True)):
            for k, z in others.latents.items():
                moved = resample(z[i][:, there].T.numpy(), int(own.sum()))
                latents[k][i][:, own] = torch.from_numpy(np.ascontiguousarray(moved.T))
        return Encoded(latents, part.valid, part.label, part.ids)

    def _unconditional_draws(self, k: str, seed: int, tick: Tick) -> np.memmap:
        """(draws, N, D, L) of modality k, which do not depend on the pattern: made once, kept in a temporary file.

        The noise is that of the conditional draws, so that the two differ by the condition alone.
        """
        if (seed, k) not in self._unconditional:
            self._unconditional = {key: x for key, x in self._unconditional.items() if key[0] == seed}
            z = self.clips.latents[k]
            with tempfile.TemporaryFile() as file:  # the map keeps it until it is dropped
                made = np.memmap(file, np.float32, "w+", shape=(max(self.config.counts), *z.shape))
            others = tuple(o for o in MODALITIES if o != k)
            for rows in torch.arange(len(self.clips)).split(self.config.batch):
                part = self.clips.take(rows)
                for draw in range(len(made)):
                    seeds = self._seeds(seed, part.ids, draw)
                    made[draw, rows[0] : rows[-1] + 1] = self._recover(part, others, seeds, 0.0)[k].numpy()
                    tick(self.nfe * len(rows))
            self._unconditional[seed, k] = made
        return self._unconditional[seed, k]

    # The training split: fills and directions ------------------------------------------------------------------------

    @cached_property
    def train(self) -> Encoded:
        """All training clips."""
        if "train" not in self.data.splits:
            raise ValueError(f"{self.data.name!r} has no split 'train'; fills and distances are fitted on it")
        return self._encoded("train")

    def _encoded(self, split: str) -> Encoded:
        clips = self.data.complete(split, self.lacks)
        return encode_clips(self.model, self.standardiser, clips, self.config.batch)

    @cached_property
    def fills(self) -> dict[str, Callable[[Latents, tuple[str, ...], Tensor], Latents]]:
        """The fills by name. Their few choices are made on `valid`, or on a fifth of the training clips."""
        return fitted_fills(self.model, self.standardiser, self.data, self.train, self.config.batch, self.lacks)

    @cached_property
    def probes(self) -> dict[str, Probe]:
        """A classifier of each modality's real clips where labels are classes, its penalty chosen on `valid`."""
        if self.outputs == 1:
            return {}
        tune = self._encoded("valid") if "valid" in self.data.splits else self.train
        parts = [
            {k: (self.model.unit(k, z).numpy(), p.valid.numpy(), p.label.numpy()) for k, z in p.latents.items()}
            for p in (self.train, tune)
        ]
        return {k: Probe.fit(*(own[k] for own in parts)) for k in self.there}

    @cached_property
    def frames(self) -> int:
        """Frames on which clips are compared as wholes."""
        return int(self.train.valid.sum(1).max())

    def _flat(self, k: str, latents: Tensor, valid: Tensor) -> np.ndarray:
        return flatten(self.model.unit(k, latents).numpy(), valid.numpy(), self.frames)

    def points(self, k: str, latents: Tensor, valid: Tensor) -> np.ndarray:
        """Latents (N, D, L) of modality k as points (N, 32) in the directions of the training clips."""
        return self.projections[k](self._flat(k, latents, valid))

    def train_alike(self) -> Encoded:
        """As many training clips as the split has, spread evenly: other speakers."""
        count = min(len(self.train), len(self.clips))
        return self.train.take(torch.arange(count) * len(self.train) // count)

    @cached_property
    def projections(self) -> dict[str, Projection]:
        """The principal directions of each modality's training clips."""
        return {k: Projection.fit(self._flat(k, self.train.latents[k], self.train.valid)) for k in self.there}

    @cached_property
    def real(self) -> dict[str, np.ndarray]:
        """The split's true clips in those directions, k: (N, 32)."""
        return {k: self.points(k, self.clips.latents[k], self.clips.valid) for k in self.there}

    # Rows ------------------------------------------------------------------------------------------------------------

    def measure(self, cell: Cell, tick: Tick) -> tuple[list[Row], dict[tuple[int, bool], Tensor]]:
        """The figures of what was recovered, and the prediction of each variant."""
        made, found = self.outcome(cell, tick), []
        for variant in made.variants:
            found += self._feature_rows(cell, made, variant)
        for count, shares_covered in made.coverage.items():
            found += self._clip_rows(
                cell, "coverage90", shares_covered, draws=count, refined=False, exact=exact_coverage(count)
            )
        return found, made.predictions

    def sampling(self, method: str) -> dict[str, Any]:
        """sampler, steps, nfe and guidance of a method, as its rows show them."""
        if method not in DRAWN:
            one = 1 if method == "imder-mean" else None
            return {"sampler": None, "steps": one, "nfe": one, "guidance": None}
        guidance = 0.0 if method == "unconditional" else float(self.config.guidance)
        return {"sampler": self.sampler, "steps": self.steps, "nfe": self.nfe, "guidance": guidance}

    def _feature_rows(self, cell: Cell, made: Outcome, variant: tuple[int, bool]) -> list[Row]:
        draws, refined = variant
        valid = self.clips.valid
        errors, distances = {}, {name: {} for name in DISTANCES}
        found: list[Row] = []
        for i, k in enumerate(MODALITIES):
            rows = np.flatnonzero(~cell.masks[:, i])
            if not len(rows):
                continue
            value = made.values[variant][k]
            error = (self.model.unit(k, value) - self.model.unit(k, self.clips.latents[k])).square().mean(1)  # (N, L)
            errors[k] = (error * valid).sum(1) / valid.sum(1)
            if self.probes:
                found.append(self._probe_row(cell, k, value, rows, draws, refined))
            points = self.points(k, value[rows], valid[rows])
            for name, distance in DISTANCES.items():
                distances[name][k] = distance(points, self.real[k][rows]), len(rows)
        found += self._clip_rows(cell, "feature_error", errors, draws=draws, refined=refined)
        for name, by in distances.items():
            found += [self.row(cell, name, v, n, modality=k, draws=draws, refined=refined) for k, (v, n) in by.items()]
            if len(by) > 1:
                values = [v for v, _ in by.values()]
                mean = None if None in values else float(np.mean(values))
                count = max(n for _, n in by.values())
                found.append(self.row(cell, name, mean, count, draws=draws, refined=refined))
        return found

    def _probe_row(self, cell: Cell, k: str, z: Tensor, rows: np.ndarray, draws: int, refined: bool) -> Row:
        """The share of clips `rows` whose class the probe of k reads out of latents z (N, D, L)."""
        read = self.probes[k](self.model.unit(k, z[rows]).numpy(), self.clips.valid[rows].numpy())
        share = float((read == self.label[rows]).mean())
        return self.row(cell, PROBE, share, len(rows), modality=k, draws=draws, refined=refined)

    def _clip_rows(self, cell: Cell, metric: str, by: dict[str, Tensor], **more: Any) -> list[Row]:
        """The mean over clips of a figure (N,) a modality, and over all missing ones where there are several."""
        absent = torch.from_numpy(~cell.masks)
        names = [k for i, k in enumerate(MODALITIES) if bool(absent[:, i].any())]
        found = [self._mean_row(cell, metric, by[k][absent[:, MODALITIES.index(k)]], modality=k, **more) for k in names]
        if len(names) > 1:
            stack = torch.stack([by[k] if k in names else torch.zeros(len(absent)) for k in MODALITIES], dim=1)
            some = absent.any(dim=1)
            mean = ((stack * absent).sum(1) / absent.sum(1).clamp(min=1))[some]
            found.append(self._mean_row(cell, metric, mean, **more))
        return found

    def _mean_row(self, cell: Cell, metric: str, x: Tensor, **more: Any) -> Row:
        x = x.double()
        se = float(x.std() / len(x) ** 0.5) if len(x) > 1 else None
        return self.row(cell, metric, float(x.mean()), len(x), se=se, **more)

    # Floors ----------------------------------------------------------------------------------------------------------

    def floor_cell(self) -> Cell:
        """The cell of the floors: nothing is missing, nothing is recovered."""
        masks = np.ones((len(self.clips), len(MODALITIES)), dtype=bool)
        mask = f"{self.data.name}/{self.config.split}/fixed-{symbols(self.there)}"
        return Cell(REAL, self.config.protocols[0], 0, 0.0, mask, masks, self.there)

    def floors_done(self, known: set[tuple[Any, ...]]) -> bool:
        """Whether the floors' last row is among the identities `known`."""
        row = self.row(
            self.floor_cell(), f"{list(DISTANCES)[-1]}_floor_train", None, 0, draws=1, refined=False,
            modality=self.there[-1],
        )  # fmt: skip
        return identity(row) in known

    def floor_rows(self) -> list[Row]:
        """Real against real: the split in random halves (`_floor`), and training clips against it (`_floor_train`).

        As many training clips as the split has, spread evenly: other speakers, so the larger of the two.
        Where labels are classes also what the probes read out of the real clips.
        """
        cell, found, every = self.floor_cell(), [], np.arange(len(self.clips))
        if self.probes:
            found += [self._probe_row(cell, k, self.clips.latents[k], every, 1, False) for k in self.there]
        others = self.train_alike()
        for name, distance in DISTANCES.items():
            for k in self.there:
                halves: Floor = halves_floor(distance, self.real[k])
                points = self.points(k, others.latents[k], others.valid)
                common = {"draws": 1, "refined": False, "modality": k}
                found.append(self.row(cell, f"{name}_floor", halves.value, len(self.clips), se=halves.noise, **common))
                other = distance(points, self.real[k])
                found.append(self.row(cell, f"{name}_floor_train", other, len(self.clips), **common))
        return found
