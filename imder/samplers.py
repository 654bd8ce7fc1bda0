"""Samplers of the reverse SDE or its ODE, as generators of `Step`.

    sampler(estimate, sde, x, ts, noise, tweedie=True) -> Iterator[Step]

`estimate(x, t)` is one network evaluation, `x` (B, D, L) the state at ts[0], `ts` a decreasing time grid, `noise()`
fresh standard normal noise of x's shape. With `tweedie` the result is the denoised estimate at the last time; without
it (the published code) the last step is taken like the others. They raise ValueError for a grid that does not decrease
and SamplingError where a state or result is not finite.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imder.sde import VESDE
from imder.trajectory import Estimate, Step

Estimator = Callable[[Tensor, float], Estimate]
NoiseFn = Callable[[], Tensor]

MAX_STEPS = 1000
#: Lowest noise level of the log-spaced grid, in units of the diffused latents.
MIN_STD = 0.003


class SamplingError(ArithmeticError):
    """A sampler met a state that is not finite; the text names step and noise level."""


def noise_seed(seed: int, *parts: object) -> int:
    """A seed below 2**63 that depends on `seed` and `parts` (clip id, modality, draw ...) and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Noise:
    """Standard normal noise (B, D, L), a generator for each sample: a sample does not depend on its batch.

    It is drawn on the CPU, so that it is the same on every `device` it is moved to.
    """

    def __init__(self, seeds: Sequence[int], channels: int, frames: int, device: torch.device | str = "cpu") -> None:
        if not len(seeds):
            raise ValueError("seeds: none were given; a batch needs at least one row")
        self.generators = [torch.Generator().manual_seed(int(s)) for s in seeds]
        self.shape, self.device = (frames, channels), device

    def __call__(self) -> Tensor:
        rows = [torch.randn(self.shape, generator=g) for g in self.generators]
        # frames first: a longer sequence begins with the same noise
        return torch.stack(rows).to(self.device).transpose(1, 2)


def linear_grid(sde: VESDE, steps: int) -> list[float]:
    """`steps` times from 1 to `sample_eps`, equally spaced (published)."""
    return torch.linspace(1.0, sde.sample_eps, steps).tolist()  # in float32, as published


def log_grid(sde: VESDE, steps: int, low: float = MIN_STD) -> list[float]:
    """`steps` times from 1 down, their noise levels equally spaced in the logarithm and ending at `low`."""
    if steps == 1:
        return [1.0]
    return [sde.time(s) for s in np.geomspace(sde.std(1.0), low, steps)]


def check_steps(steps: object) -> int:
    """`steps` as int; raises ValueError unless it is one of 1..1000."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"steps: {steps!r} is not allowed; a whole number from 1 to {MAX_STEPS} is")
    return int(steps)


def check_grid(ts: Sequence[float]) -> None:
    """Raises ValueError unless the times are finite, above 0 and decrease strictly."""
    if not len(ts):
        raise ValueError("time grid: it is empty; at least one time is needed")
    for i, t in enumerate(ts):
        if not (math.isfinite(t) and t > 0):
            raise ValueError(f"time grid: entry {i} is {t}; a finite number above 0 is needed")
        if i and t >= ts[i - 1]:
            raise ValueError(f"time grid: entry {i} is {t}, not below the {ts[i - 1]} before it; times must decrease")


def _check(x: Tensor, index: int, std: float) -> None:
    if not torch.isfinite(x).all():
        raise SamplingError(f"the state stopped being finite at step {index}, noise level {std:.4g}")


def _end(x: Tensor, total: int, std: float, nfe: int) -> Step:
    """The last step with the result x, which was made at noise level std."""
    _check(x, total - 1, std)
    return Step(total, total, 0.0, 0.0, x, x, None, nfe)


def euler_maruyama(
    estimate: Estimator, sde: VESDE, x: Tensor, ts: Sequence[float], noise: NoiseFn, tweedie: bool = True
) -> Iterator[Step]:
    """The reverse SDE by Euler-Maruyama (Song et al. 2021, Eq. 6); the published sampler is its linear grid."""
    check_grid(ts)
    total, result, dt = len(ts), x, 0.0
    gaps = [a - b for a, b in itertools.pairwise(ts)]
    even = total > 2 and max(gaps) - min(gaps) < 1e-5  # an even grid has one step length, whatever rounding makes of it
    for i, t in enumerate(ts):
        here = estimate(x, t)
        yield Step(i, total, t, sde.std(t), x, here.denoised, here.score, i + 1)
        if i + 1 < total:
            dt = gaps[0 if even else i]  # the published last step has the length of the one before
        mean = x - sde.reverse_drift(here.score, x, t) * dt if total > 1 else here.denoised
        _check(mean, i, sde.std(t))
        if i + 1 == total:
            result = here.denoised if tweedie else mean
        else:
            x = mean + sde.diffusion(t) * math.sqrt(dt) * noise()
    yield _end(result, total, sde.std(ts[-1]), total)


def heun(
    estimate: Estimator, sde: VESDE, x: Tensor, ts: Sequence[float], noise: NoiseFn, tweedie: bool = True
) -> Iterator[Step]:
    """Heun on the probability-flow ODE in the noise level, dx/dstd = (x - D) / std (Karras et al. 2022, Alg. 1)."""
    check_grid(ts)
    total, nfe = len(ts), 0
    stds = [sde.std(t) for t in ts]
    for i, (t, std) in enumerate(zip(ts, stds, strict=True)):
        here = estimate(x, t)
        nfe += 1
        yield Step(i, total, t, std, x, here.denoised, here.score, nfe)
        if i + 1 == total:
            break
        h, slope = stds[i + 1] - std, (x - here.denoised) / std
        ahead = x + h * slope
        there = estimate(ahead, ts[i + 1])
        nfe += 1
        x = x + h * 0.5 * (slope + (ahead - there.denoised) / stds[i + 1])
        _check(x, i, std)
    yield _end(here.denoised if tweedie else x, total, stds[-1], nfe)


def _dpmpp_2m(
    estimate: Estimator, sde: VESDE, x: Tensor, ts: Sequence[float], noise: NoiseFn, tweedie: bool, stochastic: bool
) -> Iterator[Step]:
    check_grid(ts)
    total, before = len(ts), None
    lams = [-math.log(sde.std(t)) for t in ts]
    for i, t in enumerate(ts):
        here = estimate(x, t)
        yield Step(i, total, t, sde.std(t), x, here.denoised, here.score, i + 1)
        if i + 1 == total:
            break
        h = lams[i + 1] - lams[i]
        target = here.denoised
        if before is not None:
            r = (lams[i] - lams[i - 1]) / h
            target = (1 + 0.5 / r) * here.denoised - 0.5 / r * before
        if stochastic:
            x = math.exp(-2 * h) * x - math.expm1(-2 * h) * target
            x = x + sde.std(ts[i + 1]) * math.sqrt(-math.expm1(-2 * h)) * noise()
        else:
            x = math.exp(-h) * x - math.expm1(-h) * target
        _check(x, i, sde.std(t))
        before = here.denoised
    yield _end(here.denoised if tweedie else x, total, sde.std(ts[-1]), total)


def dpmpp_2m(
    estimate: Estimator, sde: VESDE, x: Tensor, ts: Sequence[float], noise: NoiseFn, tweedie: bool = True
) -> Iterator[Step]:
    """DPM-Solver++(2M), alpha = 1 and lambda = -ln std (Lu et al. 2022, Alg. 2): one evaluation a step."""
    return _dpmpp_2m(estimate, sde, x, ts, noise, tweedie, stochastic=False)


def dpmpp_2m_sde(
    estimate: Estimator, sde: VESDE, x: Tensor, ts: Sequence[float], noise: NoiseFn, tweedie: bool = True
) -> Iterator[Step]:
    """The SDE form of DPM-Solver++(2M) (Lu et al. 2022, Eq. 18): fresh noise at every step forgets earlier errors."""
    return _dpmpp_2m(estimate, sde, x, ts, noise, tweedie, stochastic=True)


@dataclass(frozen=True)
class Sampler:
    """A sampler with its grid; `title` is what a reader sees, `steps` a sensible number of them."""

    title: str
    run: Callable[..., Iterator[Step]]
    grid: Callable[[VESDE, int], list[float]]
    steps: int
    stochastic: bool
    order: int = 1

    def evaluations(self, steps: int) -> int:
        """Network evaluations on a grid of `steps` times."""
        return 2 * steps - 1 if self.run is heun else steps


SAMPLERS: dict[str, Sampler] = {
    "dpmpp-2m": Sampler("DPM-Solver++(2M)", dpmpp_2m, log_grid, 10, False, 2),
    "dpmpp-2m-sde": Sampler("DPM-Solver++(2M) SDE", dpmpp_2m_sde, log_grid, 15, True),
    "heun": Sampler("Heun, probability flow", heun, log_grid, 18, False, 2),
    "euler-maruyama": Sampler("Euler-Maruyama, linear t (as published)", euler_maruyama, linear_grid, 500, True),
    "euler-maruyama-log": Sampler("Euler-Maruyama, log-spaced", euler_maruyama, log_grid, 100, True),
}


def get_sampler(name: str) -> Sampler:
    """The sampler of that name; raises ValueError naming the ones there are."""
    if name not in SAMPLERS:
        raise ValueError(f"sampler: {name!r} is unknown; allowed: {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
