"""The toy: distributions in the plane whose density, score and, for a Gaussian, probability flow are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imder.bench.analytic import WEIGHTS, Conditional
from imder.field.picture import Arrows, Picture, grid, relative_density, window
from imder.pipeline import MAX_SEED
from imder.samplers import SAMPLERS, get_sampler, linear_grid, log_grid
from imder.sde import VESDE
from imder.trajectory import Estimate, Step, displayed, final

#: Points whose paths are solved, and those of them that are drawn; the rest only enter the moments.
ROWS, DRAWN = 4000, 40
MOST_STEPS, SHOWN_STATES, SIDE, CLOUD = 200, 31, 15, 400
REFERENCE_STEPS = 400


@dataclass(frozen=True)
class Toy:
    """A mixture of Gaussians in the plane with one diagonal covariance."""

    title: str
    weights: tuple[float, ...]
    means: tuple[tuple[float, float], ...]
    std: tuple[float, float]

    @property
    def exact(self) -> Conditional:
        """The mixture as the bench's exact conditional, two channels and one frame."""
        return Conditional(
            torch.tensor([self.weights], dtype=torch.float64),
            torch.tensor(self.means, dtype=torch.float64)[None, :, None],
            torch.eye(2, dtype=torch.float64)[None],
            torch.tensor([self.std], dtype=torch.float64) ** 2,
            torch.ones(1, 1, dtype=torch.float64),
        )

    def estimate(self, x: Tensor, std: float) -> Estimate:
        """The exact score and E[x0 | x_t = x] of points (N, 2, 1) at noise level std."""
        denoised = self.exact.denoised(x, std, 1.0)
        return Estimate((denoised - x) / std**2, denoised)

    def covariance(self, std: float) -> np.ndarray:
        """(2, 2) of every mode at noise level std."""
        return np.diag(np.square(self.std) + std**2)

    def flow(self, x: np.ndarray, start: float, end: float) -> np.ndarray:
        """Points (N, 2) carried by the probability-flow ODE from noise level `start` to `end`; one Gaussian only.

        x(end) = m + (x(start) - m) sqrt((s^2 + end^2) / (s^2 + start^2)).
        """
        if len(self.weights) != 1:
            raise ValueError(f"toy: {self.title!r} is a mixture; only the flow of one Gaussian has a closed form")
        mean, variance = np.array(self.means[0]), np.square(self.std)
        return mean + (x - mean) * np.sqrt((variance + end**2) / (variance + start**2))

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """(C,) shares of the points (N, 2) that lie nearest to each mode's mean."""
        mode = ((x[:, None] - np.array(self.means)) ** 2).sum(-1).argmin(1)
        return np.bincount(mode, minlength=len(self.weights)) / len(x)


TOYS = {
    "mixture": Toy("Three clusters", WEIGHTS, ((-1.7, -1.0), (1.8, -0.6), (0.1, 1.8)), (0.35, 0.35)),
    "gaussian": Toy("One Gaussian", (1.0,), ((1.5, 0.5),), (0.7, 0.35)),
}


@dataclass(frozen=True)
class Pair:
    """An ODE and an SDE solver that run on the same time grid."""

    title: str
    ode: str
    sde: str
    published: bool = False  # equal steps in t, not in ln std

    def times(self, sde: VESDE, steps: int) -> list[float]:
        """The grid of both."""
        return linear_grid(sde, steps) if self.published else log_grid(sde, steps)


PAIRS = {
    "dpmpp": Pair("DPM-Solver++(2M), ODE and SDE", "dpmpp-2m", "dpmpp-2m-sde"),
    "heun": Pair("Heun and Euler-Maruyama, log-spaced", "heun", "euler-maruyama-log"),
    "published": Pair("Heun and Euler-Maruyama, equal steps in t", "heun", "euler-maruyama", True),
}


@dataclass(frozen=True)
class ToyRequest:
    """Which toy, solvers, and how many times are on the grid. Raises ValueError if not allowed."""

    toy: str = "mixture"
    pair: str = "dpmpp"
    steps: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("toy", TOYS), ("pair", PAIRS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: {getattr(self, name)!r} is unknown; allowed: {', '.join(allowed)}")
        for name, low, high in (("steps", 2, MOST_STEPS), ("seed", 0, MAX_SEED)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name}: {value!r} is not allowed; a whole number from {low} to {high} is")


@dataclass(frozen=True)
class ToyField:
    """A toy's picture with its paths, and what the solvers made of it at the grid's last noise level and the end."""

    request: ToyRequest
    picture: Picture
    arrows: tuple[Arrows, ...]
    ode: np.ndarray  # (S, DRAWN, 2)
    sde: np.ndarray  # (S, DRAWN, 2), from the same start
    nfe: dict[str, int]  # {"ode", "sde"}: evaluations a point
    mean: dict[str, np.ndarray]  # {"true", "ode", "sde", "exact"} (2,); exact: of the exact flow from the same starts
    spread: dict[str, np.ndarray]  # {"true", "ode", "sde"} (2,) standard deviations along the axes
    shares: dict[str, np.ndarray]  # {"true", "ode", "sde"} (C,) of the modes
    solver_error: float  # mean distance of the ODE's drawn points from the exact flow's at the last noise level


def draw_toy(request: ToyRequest) -> ToyField:
    """Runs the project's own samplers on the exact score of a toy, SDE and ODE from the same start."""
    toy, pair, sde = TOYS[request.toy], PAIRS[request.pair], VESDE()
    ts = pair.times(sde, request.steps)
    generator = torch.Generator().manual_seed(request.seed)

    def noise() -> Tensor:
        return torch.randn(ROWS, 2, 1, generator=generator, dtype=torch.float64)

    def estimate(x: Tensor, t: float) -> Estimate:
        return toy.estimate(x, sde.std(t))

    start = sde.prior(noise())
    keep = displayed(len(ts), SHOWN_STATES)
    paths, ends, nfe = {}, {}, {}
    for name, sampler in (("ode", pair.ode), ("sde", pair.sde)):
        steps = list(get_sampler(sampler).run(estimate, sde, start, ts, noise, True))
        paths[name] = np.stack([_points(steps[i].x[:DRAWN]) for i in keep])
        ends[name] = _points(steps[-1].x)
        nfe[name] = steps[-1].nfe
        if name == "ode":
            last = steps[-2]
    exact = _exact_flow(toy, sde, _points(start), last)
    t, std = ([getattr(steps[i], name) for i in keep] for name in ("t", "std"))
    return ToyField(
        request=request,
        picture=(picture := _picture(toy, np.array(t), np.array(std), request.seed)),
        arrows=tuple(_arrows(toy, picture, index) for index in picture.fields),
        ode=paths["ode"].astype(np.float32),
        sde=paths["sde"].astype(np.float32),
        nfe=nfe,
        mean={
            "true": np.average(toy.means, axis=0, weights=toy.weights),
            **{name: x.mean(0) for name, x in ends.items()},
            **({"exact": exact.mean(0)} if len(exact) == ROWS else {}),
        },
        spread={"true": _true_spread(toy), **{name: x.std(0) for name, x in ends.items()}},
        shares={"true": np.array(toy.weights), **{name: toy.nearest(x) for name, x in ends.items()}},
        solver_error=float(np.linalg.norm(_points(last.x)[:DRAWN] - exact[:DRAWN], axis=1).mean()),
    )


def _points(x: Tensor) -> np.ndarray:
    return x[..., 0].numpy()


def _true_spread(toy: Toy) -> np.ndarray:
    means, weights = np.array(toy.means), np.array(toy.weights)
    return np.sqrt(np.square(toy.std) + weights @ (means - weights @ means) ** 2)


def _exact_flow(toy: Toy, sde: VESDE, start: np.ndarray, last: Step) -> np.ndarray:
    """The starts (N, 2) carried to the grid's last noise level: by the closed form; of a mixture the drawn ones alone,
    by Heun on a grid so fine that its error (some 1e-4) does not count."""
    if len(toy.weights) == 1:
        return toy.flow(start, sde.std(1.0), last.std)
    x = torch.from_numpy(start[:DRAWN])[..., None]
    ts = log_grid(sde, REFERENCE_STEPS, last.std)
    run = SAMPLERS["heun"].run(lambda x, t: toy.estimate(x, sde.std(t)), sde, x, ts, lambda: x, False)
    return _points(final(run).x)


def _picture(toy: Toy, t: np.ndarray, std: np.ndarray, seed: int) -> Picture:
    generator = torch.Generator().manual_seed(seed)
    rows = toy.exact.rows(torch.zeros(CLOUD, dtype=torch.int64))
    cloud = _points(rows.draw(generator))
    means, weights = np.array(toy.means), np.array(toy.weights)
    covariances = [toy.covariance(s) for s in std]
    centre = weights @ means
    _, reach = window(np.repeat(means, np.rint(np.array(weights) * 100).astype(int), axis=0), covariances)
    density = relative_density(means, covariances, centre, reach, weights)
    return Picture(t, std, centre, reach, density, cloud, tuple(range(len(t) - 1)))


def _arrows(toy: Toy, picture: Picture, index: int) -> Arrows:
    std = float(picture.std[index])
    at = grid(picture.centre, float(picture.reach[index]), SIDE)
    found = toy.estimate(torch.from_numpy(at.reshape(-1, 2, 1)), std)
    return Arrows(index, (math.pow(std, 2) * _points(found.score)).reshape(SIDE, SIDE, 2).astype(np.float32))
