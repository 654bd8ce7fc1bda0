"""The learned score on a slice through the space of a modality's latents.

A state x_t has some 1500 coordinates and the picture two. The plane is that of the training cloud (`planes` of the
pipeline, unit scale). All other coordinates of a grid point are those of a real reverse path at the same time: draw 0
of the probability-flow ODE, the one that the page's seed gives. Zeros there, or the denoised estimate, would be points
without noise, which at a large t the network has never met; any path's own x_t is what it was trained on, and at that
path's point in the plane the arrow is exactly the one that the sampler followed. So every state is a slice of its own,
and it moves with the path. Away from the path's point the slice leaves what is likely at small t: there two leading
coordinates are changed and everything that goes with them is not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imder.data.clip import Clip, collate
from imder.field.picture import Arrows, Picture, grid, relative_density, window
from imder.modality import MODALITIES, check_pattern
from imder.pipeline import MAX_DRAWS, MAX_GUIDANCE, MAX_SEED, RecoveryPipeline
from imder.samplers import SAMPLERS, log_grid, noise_seed
from imder.trajectory import Step

#: Both solve to second order on one grid with one evaluation a step, so they differ by the noise alone.
ODE, SDE = "dpmpp-2m", "dpmpp-2m-sde"
#: Where the grid ends, in the diffused scale: a twentieth of a unit latent's spread.
LOW = 0.01
MAX_EVALUATIONS = 6000


@dataclass(frozen=True)
class FieldRequest:
    """The field of s_target given `available`, and how finely. Raises ValueError if not allowed."""

    clip: Clip
    available: tuple[str, ...]
    target: str
    seed: int = 0
    guidance: float = 1.0  # 0: the unconditional field
    paths: int = 20
    steps: int = 18
    side: int = 11  # arrows a side
    every: int = 2  # a field at every so many steps, and at the last

    def __post_init__(self) -> None:
        object.__setattr__(self, "available", check_pattern(self.available))
        if self.target not in MODALITIES or self.target in self.available:
            absent = [k for k in MODALITIES if k not in self.available]
            raise ValueError(f"target: {self.target!r} is not missing; allowed: {', '.join(absent)}")
        bounds = {"seed": (0, MAX_SEED), "paths": (1, MAX_DRAWS), "steps": (2, 60), "side": (3, 25), "every": (1, 60)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
                raise ValueError(f"{name}: {value!r} is not allowed; a whole number from {low} to {high} is")
        w = self.guidance
        if isinstance(w, bool) or not isinstance(w, int | float) or not (math.isfinite(w) and 0 <= w <= MAX_GUIDANCE):
            raise ValueError(f"guidance: {w!r} is not allowed; a number from 0 to {MAX_GUIDANCE:g} is")
        if self.evaluations > MAX_EVALUATIONS:
            raise ValueError(f"side: {self.side} with these steps and paths takes {self.evaluations} evaluations; "
                             f"at most {MAX_EVALUATIONS} are allowed")  # fmt: skip

    @property
    def fields(self) -> tuple[int, ...]:
        """The states that get arrows."""
        return tuple(sorted({*range(0, self.steps, self.every), self.steps - 1}))

    @property
    def evaluations(self) -> int:
        """Network evaluations of all paths and arrows, each of one point."""
        branches = 1 if self.guidance in (0, 1) else 2
        return branches * (2 * self.paths * self.steps + len(self.fields) * self.side**2)


@dataclass(frozen=True)
class FieldStart:
    """What is known before the network runs."""

    request: FieldRequest
    picture: Picture
    truth: np.ndarray  # (2,) the clip's own latents in the plane; shown, never read
    explained: float  # share of the training latents' variance that lies in the plane


@dataclass(frozen=True)
class FieldProgress:
    """Network evaluations so far, of `FieldRequest.evaluations`."""

    done: int


@dataclass(frozen=True)
class FieldPaths:
    """x_t of every draw in the plane, (S, paths, 2), SDE and ODE from the same start noise; the last is E[x0 | x]."""

    ode: np.ndarray
    sde: np.ndarray


@dataclass(frozen=True)
class FieldEnd:
    """All arrows have come."""

    seconds: float
    evaluations: int


@dataclass(frozen=True)
class PlaneSlice:
    """The plane of a modality for a clip of L frames: to its coordinates, and from them back into a state.

    Unit latents are u = slope x + constant of the diffused state x, a slope for each channel.
    """

    rows: Tensor  # (2, D, L) the plane's directions where the clip has frames
    offset: Tensor  # (2,) the training mean in those directions
    inverse: Tensor  # (2, 2) inverse of the Gram matrix of the rows that the clip has; of a whole clip the identity
    slope: Tensor  # (D, 1)
    valid: Tensor  # (L,) float

    @classmethod
    def of(cls, pipeline: RecoveryPipeline, k: str, valid: Tensor) -> PlaneSlice:
        """The slice for a clip with latent frames `valid` (L,); ValueError where the pipeline has no data."""
        if k not in pipeline.planes:
            raise ValueError("data: a field needs the plane of a training set; open a data set")
        model, plane = pipeline.model, pipeline.planes[k]
        channels, frames = model.config.latent_channels, model.config.frames
        whole = torch.from_numpy(plane.components_).float().view(2, channels, frames)
        rows = torch.zeros(2, channels, len(valid))
        shared = min(frames, len(valid))
        rows[..., :shared] = whole[..., :shared]
        inner = (rows * valid).flatten(1)
        one = torch.ones(channels, 1)
        slope = (model.unit(k, one) - model.unit(k, one * 0)) / model.config.latent_scale
        offset = torch.from_numpy(plane.components_ @ plane.mean_).float()
        return cls(rows, offset, torch.linalg.inv(inner @ inner.T), slope, valid.float())

    def coordinates(self, unit: Tensor) -> Tensor:
        """Unit latents (..., D, L) in the plane, (..., 2)."""
        return torch.einsum("...dl,pdl->...p", unit * self.valid, self.rows) - self.offset

    def step(self, change: Tensor) -> Tensor:
        """A change of the state (..., D, L), diffused scale, in the plane."""
        frames = len(self.valid)
        return torch.einsum("...dl,pdl->...p", change[..., :frames] * self.slope * self.valid, self.rows)

    def lift(self, change: Tensor) -> Tensor:
        """The smallest change of unit latents that moves the plane's coordinates by (..., 2), as a change of state."""
        back = torch.einsum("...p,pq,qdl->...dl", change, self.inverse, self.rows * self.valid)
        return back / self.slope

    @property
    def noise(self) -> np.ndarray:
        """(2, 2) covariance in the plane of white noise of variance 1 in the diffused state."""
        seen = (self.rows * self.slope * self.valid).flatten(1).double()
        return (seen @ seen.T).numpy()


@torch.no_grad()
def stream_field(
    pipeline: RecoveryPipeline, request: FieldRequest
) -> Iterator[FieldStart | FieldProgress | FieldPaths | Arrows | FieldEnd]:
    """The start, the paths, then arrows for one state after another from noise to data, and the end.

    Between them comes how far it is. The same request gives the same numbers.
    """
    began, model, k = time.perf_counter(), pipeline.model, request.target
    batch = pipeline.run.standardiser.apply(collate([request.clip]))
    valid = model.latent_valid(batch.valid)
    latents = {m: z * valid[:, None] for m, z in model.encode(batch.features).items()}
    frames = valid.shape[1]
    plane = PlaneSlice.of(pipeline, k, valid[0])
    ts = log_grid(model.sde, request.steps, LOW)
    truth = plane.coordinates(model.unit(k, latents[k][0]))
    latents[k] = torch.zeros_like(latents[k])  # from here on nobody sees it
    yield FieldStart(
        request,
        _picture(pipeline, plane, k, ts, request.fields),
        truth.numpy(),
        float(pipeline.planes[k].explained_variance_ratio_.sum()),
    )

    seeds = [noise_seed(request.seed, request.clip.id, draw) for draw in range(request.paths)]
    done, branches = 0, 1 if request.guidance in (0, 1) else 2
    paths: dict[str, list[np.ndarray]] = {ODE: [], SDE: []}
    states: list[Step] = []
    runs = {}
    for name in paths:
        estimate, noise = model.score_field(
            k, _rows(latents, request.paths), request.available, valid=valid.expand(request.paths, -1), seeds=seeds,
            guidance=request.guidance,
        )  # fmt: skip
        runs[name] = SAMPLERS[name].run(estimate, model.sde, model.sde.prior(noise()), ts, noise, True)
    for pair in zip(*runs.values(), strict=True):
        for name, step in zip(runs, pair, strict=True):
            paths[name].append(plane.coordinates(model.unit(k, model.crop(step.x, frames))).numpy())
        states.append(pair[0])
        done = branches * 2 * request.paths * pair[0].nfe
        yield FieldProgress(done)
    yield FieldPaths(np.stack(paths[ODE]), np.stack(paths[SDE]))

    # A published condition is noised at every evaluation: all grid points get the noise of the path's own draw.
    count = request.side**2
    estimate, _ = model.score_field(
        k, _rows(latents, count), request.available, valid=valid.expand(count, -1), seeds=seeds[:1] * count,
        guidance=request.guidance,
    )  # fmt: skip
    centre, reach = window_of(pipeline, plane, k, ts)
    for index in request.fields:
        own = states[index].x[:1]
        here = plane.coordinates(model.unit(k, model.crop(own, frames)))
        at = torch.from_numpy(grid(centre, reach[index], request.side)).float().view(-1, 2)
        moved = plane.lift(at - here)  # (side^2, D, L)
        x = own + torch.nn.functional.pad(moved, (0, own.shape[-1] - frames))
        change = plane.step(estimate(x, ts[index]).denoised - x)
        done += branches * count
        yield Arrows(index, change.view(request.side, request.side, 2).numpy())
        yield FieldProgress(done)
    yield FieldEnd(time.perf_counter() - began, done)


def _rows(latents: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    return {k: z.expand(count, -1, -1) for k, z in latents.items()}


def window_of(pipeline: RecoveryPipeline, plane: PlaneSlice, k: str, ts: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half widths of the windows of a learned field at the grid's times and at 0."""
    stds = [*map(pipeline.model.sde.std, ts), 0.0]
    return window(pipeline.cloud[k].astype(float), [s * s * plane.noise for s in stds])


def _picture(
    pipeline: RecoveryPipeline, plane: PlaneSlice, k: str, ts: list[float], fields: tuple[int, ...]
) -> Picture:
    """The training cloud blurred as the noise blurs it: p(x_t) in the plane as far as the training set tells it."""
    cloud = pipeline.cloud[k].astype(float)
    stds = np.array([*map(pipeline.model.sde.std, ts), 0.0])
    centre, reach = window_of(pipeline, plane, k, ts)
    density = relative_density(cloud, [s * s * plane.noise for s in stds], centre, reach)
    spread = stds * math.sqrt(plane.noise[0, 0])
    return Picture(np.array([*ts, 0.0]), spread, centre, reach, density, pipeline.cloud[k], fields)
