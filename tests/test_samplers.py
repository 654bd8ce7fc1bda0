"""Samplers against Gaussians whose scores, flows and conditionals are known exactly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from imder.samplers import (
    MIN_STD,
    SAMPLERS,
    Noise,
    SamplingError,
    check_steps,
    euler_maruyama,
    get_sampler,
    linear_grid,
    log_grid,
    noise_seed,
)
from imder.sde import VESDE
from imder.trajectory import Estimate, displayed, final

SDE = VESDE()


def gaussian(mean, std):
    """The exact score and denoiser of N(mean, std^2)."""

    def estimate(x, t):
        var = SDE.std(t) ** 2
        score = -(x - mean) / (std**2 + var)
        return Estimate(score, x + var * score)

    return estimate


def noise_like(x, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(x.shape, generator=generator, dtype=x.dtype)


def draws(name, estimate, steps, rows=4096, *, tweedie=True, seed=0):
    """(rows,) results of a sampler started from the prior."""
    sampler = SAMPLERS[name]
    x = torch.empty(rows, 1, 1, dtype=torch.float64)
    noise = noise_like(x, seed)
    return final(sampler.run(estimate, SDE, SDE.prior(noise()), sampler.grid(SDE, steps), noise, tweedie)).x.flatten()


@pytest.mark.parametrize("name", [name for name, s in SAMPLERS.items() if not s.stochastic])
def test_order_of_convergence_to_the_exact_flow(name):
    """x(end) = m + (x(1) - m) sqrt((s^2 + std_end^2) / (s^2 + std_1^2)) for the probability-flow ODE."""
    mean, std, sampler = 0.3, 0.4, SAMPLERS[name]
    x1 = SDE.std(1.0) * torch.tensor([-1.3, 0.2, 0.9], dtype=torch.float64).view(3, 1, 1)
    exact = mean + (x1 - mean) * math.sqrt((std**2 + MIN_STD**2) / (std**2 + SDE.std(1.0) ** 2))
    errors, counts = [], [20, 40, 80, 160]
    for steps in counts:
        path = sampler.run(gaussian(mean, std), SDE, x1, log_grid(SDE, steps), noise_like(x1), False)
        errors.append((final(path).x - exact).abs().max().item())
    order = -np.polyfit(np.log(np.array(counts) - 1), np.log(errors), 1)[0]
    assert order == pytest.approx(sampler.order, abs=0.25)
    assert errors[-1] < 2e-3


@pytest.mark.parametrize(
    ("name", "steps"), [("euler-maruyama", 500), ("euler-maruyama-log", 200), ("dpmpp-2m-sde", 40)]
)
def test_stochastic_samplers_reach_the_distribution(name, steps):
    x = draws(name, gaussian(0.5, 0.3), steps)
    assert x.mean().item() == pytest.approx(0.5, abs=0.02)
    assert x.std().item() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize(("steps", "widened"), [(100, 0.86), (500, 0.042)])
def test_the_published_last_step_widens_what_is_narrow(steps, widened):
    """method.md, defect 3: a true standard deviation of .01."""
    published = draws("euler-maruyama", gaussian(0.0, 0.01), steps, tweedie=False)
    assert published.std().item() == pytest.approx(widened, rel=0.1)
    assert draws("euler-maruyama", gaussian(0.0, 0.01), steps).std().item() < 0.5 * widened


@pytest.mark.parametrize(("true", "noised"), [(0.5, 0.27), (0.8, 0.58), (0.95, 0.86)])
def test_a_clean_condition_keeps_the_correlation_and_a_noised_one_does_not(true, noised):
    """method.md, defect 2: x = rho y + sqrt(1 - rho^2) e; the condition is noised anew at every step or not at all."""
    rows, generator = 8192, torch.Generator().manual_seed(3)
    y = torch.randn(rows, 1, 1, dtype=torch.float64, generator=generator)

    def clean(x, t):
        return gaussian(true * y, math.sqrt(1 - true**2))(x, t)

    def renoised(x, t):
        var = SDE.std(t) ** 2
        seen = y + math.sqrt(var) * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        gain = true / (1 + var)  # the exact score given x_t and the noised condition
        return gaussian(gain * seen, math.sqrt(1 - true * gain))(x, t)

    for estimate, expected in ((clean, true), (renoised, noised)):
        noise = noise_like(y, 5)
        x = final(euler_maruyama(estimate, SDE, SDE.prior(noise()), linear_grid(SDE, 500), noise)).x
        assert np.corrcoef(x.flatten(), y.flatten())[0, 1] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_come_in_order_and_the_last_is_the_result(name):
    sampler, calls = SAMPLERS[name], 0
    exact = gaussian(0.0, 0.2)

    def counted(x, t):
        nonlocal calls
        calls += 1
        return exact(x, t)

    x = torch.randn(2, 3, 4)
    steps = list(sampler.run(counted, SDE, SDE.prior(x), sampler.grid(SDE, 7), noise_like(x)))
    assert [s.index for s in steps] == list(range(8))
    assert all(a.std > b.std for a, b in itertools.pairwise(steps))
    assert steps[-1].last
    assert torch.equal(steps[-1].x, steps[-1].denoised)
    assert steps[-1].nfe == calls == sampler.evaluations(7)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_is_the_denoised_estimate(name):
    x = SDE.prior(torch.randn(2, 3, 4))
    estimate = gaussian(0.4, 0.2)
    result = final(SAMPLERS[name].run(estimate, SDE, x, SAMPLERS[name].grid(SDE, 1), noise_like(x))).x
    assert torch.allclose(result, estimate(x, 1.0).denoised, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_state_that_is_not_finite_stops_with_step_and_noise_level(name):
    def broken(x, t):
        return Estimate(x * math.nan, x * math.nan) if t < 0.5 else gaussian(0.0, 1.0)(x, t)

    x = torch.randn(1, 2, 8)
    with pytest.raises(SamplingError, match=r"step \d+, noise level"):
        list(SAMPLERS[name].run(broken, SDE, SDE.prior(x), SAMPLERS[name].grid(SDE, 10), noise_like(x)))


def test_noise_of_a_sample_does_not_depend_on_its_batch_or_length():
    alone, batch, long = Noise([7], 32, 48), Noise([3, 7, 9], 32, 48), Noise([7], 32, 64)
    assert torch.equal(alone()[0], batch()[1])
    assert torch.equal(Noise([7], 32, 48)()[0], long()[0, :, :48])
    assert not torch.equal(alone(), Noise([7], 32, 48)())  # the second call goes on


def test_noise_seeds_depend_on_every_part():
    seeds = {
        noise_seed(0, "a", 1),
        noise_seed(1, "a", 1),
        noise_seed(0, "b", 1),
        noise_seed(0, "a", 2),
        noise_seed(0, "a1"),
    }
    assert len(seeds) == 5
    assert noise_seed(0, "a", 1) == noise_seed(0, "a", 1) < 2**63


@pytest.mark.parametrize("steps", [0, -1, 1001, 10.5, True, "10", None, math.nan])
def test_steps_out_of_range_are_refused_by_value(steps):
    with pytest.raises(ValueError, match=r"steps: .* 1 to 1000"):
        check_steps(steps)


def test_unknown_sampler_names_the_known_ones():
    with pytest.raises(ValueError, match="'ddim' is unknown; allowed: dpmpp-2m"):
        get_sampler("ddim")


def test_displayed_steps_hold_first_and_last():
    assert displayed(500, 60)[[0, -1]].tolist() == [0, 500]
    assert len(displayed(500, 60)) == 60
    assert displayed(10, 60).tolist() == list(range(11))
