"""What samplers do with input that is out of the ordinary: a clear error or a right answer."""

from __future__ import annotations

import math

import pytest
import torch

from imder.modality import MODALITIES
from imder.model import IMDer, ModelConfig
from imder.samplers import SAMPLERS, Noise, SamplingError, check_grid, linear_grid, log_grid
from imder.sde import VESDE
from imder.trajectory import Estimate, final

SDE = VESDE()


@pytest.fixture(scope="module")
def model():
    """Small, and awake: an untrained network that gives something else than 0."""
    torch.manual_seed(0)
    sizes = {"condition_layers": 1, "fusion_layers": 1, "reconstruction_blocks": 1, "embedding_dim": 16}
    config = ModelConfig.from_preset("corrected", {"text": 6, "audio": 5, "vision": 4}, frames=16, **sizes)
    built = IMDer(config).eval().requires_grad_(False)
    for p in built.parameters():
        p.add_(0.02 * torch.randn_like(p))
    return built


def recover(model, rows=2, frames=16, latents=None, **how):
    """Vision from text and audio, and what it was made of."""
    generator = torch.Generator().manual_seed(1)
    latents = latents or {k: torch.randn(rows, 32, frames, generator=generator) for k in MODALITIES}
    there = torch.tensor([True, True, False]).expand(rows, -1)
    valid = torch.ones(rows, frames, dtype=torch.bool)
    return model.recover(latents, there, valid=valid, seeds=list(range(rows)), **{"steps": 3} | how)["vision"]


def exact(x, t):
    score = -x / (0.2**2 + SDE.std(t) ** 2)
    return Estimate(score, x + SDE.std(t) ** 2 * score)


@pytest.mark.parametrize("steps", [0, -3, 10**6, 2.5, True])
def test_steps_out_of_range(model, steps):
    with pytest.raises(ValueError, match=r"steps: .* from 1 to 1000"):
        recover(model, steps=steps)


def test_unknown_sampler(model):
    with pytest.raises(ValueError, match="'ddim' is unknown; allowed: "):
        recover(model, sampler="ddim")


@pytest.mark.parametrize("guidance", [math.nan, math.inf, -math.inf, -0.1, 1e9])
def test_guidance_that_is_not_a_number_from_0_to_8(model, guidance):
    with pytest.raises(ValueError, match=r"guidance: .* from 0 to 8"):
        recover(model, guidance=guidance)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ([], "is empty"),
        ([0.5, 0.5, 0.1], r"entry 1 is 0\.5, not below the 0\.5"),
        ([0.1, 0.5, 1.0], r"entry 1 is 0\.5, not below the 0\.1"),
        ([1.0, 0.2, 0.3], r"entry 2 is 0\.3, not below the 0\.2"),
        ([1.0, 0.5, 0.0], r"entry 2 is 0\.0; a finite number above 0"),
        ([1.0, math.nan, 0.1], "entry 1 is nan; a finite number above 0"),
        ([math.inf, 0.1], "entry 0 is inf; a finite number above 0"),
    ],
)
def test_a_grid_that_does_not_decrease_is_refused(name, grid, said):
    x = torch.randn(1, 2, 8)
    with pytest.raises(ValueError, match=f"time grid: .*{said}"):
        final(SAMPLERS[name].run(exact, SDE, x, grid, lambda: torch.randn_like(x)))


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_our_own_grids_decrease(steps):
    for grid in (linear_grid, log_grid):
        check_grid(grid(SDE, steps))


def test_a_batch_of_nothing(model):
    """Nothing comes back from nothing; a path of no rows is refused."""
    assert recover(model, rows=0).shape == (0, 32, 16)
    with pytest.raises(ValueError, match="seeds: none were given"):
        Noise([], 32, 16)
    nothing = {k: torch.zeros(0, 32, 16) for k in MODALITIES}
    with pytest.raises(ValueError, match="seeds: none were given"):
        next(model.stream(nothing, ("text",), valid=torch.ones(0, 16, dtype=torch.bool), seeds=[]))


@pytest.mark.parametrize("frames", [1, 7, 13, 2000])
def test_any_number_of_frames_is_recovered_alike_alone_and_in_a_batch(model, frames):
    z = recover(model, rows=2, frames=frames)
    assert z.shape == (2, 32, frames)
    assert torch.isfinite(z).all()
    generator = torch.Generator().manual_seed(1)
    latents = {k: torch.randn(2, 32, frames, generator=generator)[:1] for k in MODALITIES}
    assert torch.allclose(recover(model, rows=1, frames=frames, latents=latents), z[:1], atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("at", [0, 4, 9])
def test_a_state_that_is_not_finite_stops_with_its_step_and_noise_level(name, at):
    """The last evaluation too, whose estimate is the result."""
    grid = SAMPLERS[name].grid(SDE, 10)

    def broken(x, t):
        found = exact(x, t)
        return Estimate(found.score / 0, found.denoised / 0) if t == grid[at] else found

    x = SDE.prior(torch.randn(1, 2, 8))
    step = max(at - 1, 0) if name == "heun" else at  # its step ahead evaluates there first
    with pytest.raises(SamplingError, match=rf"step {step}, noise level {SDE.std(grid[step]):.4g}"):
        final(SAMPLERS[name].run(broken, SDE, x, grid, lambda: torch.randn_like(x)))


def test_a_broken_network_or_condition_is_told_by_step(model):
    latents = {k: torch.randn(2, 32, 16) for k in MODALITIES}
    latents["audio"][1, 3, 5] = math.nan
    with pytest.raises(SamplingError, match=r"step 0, noise level 9\.8"):
        recover(model, latents=latents)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_missing_may_be_anything(model, value):
    latents = {k: torch.randn(2, 32, 16) for k in MODALITIES}
    clean = recover(model, latents=latents)
    assert torch.equal(recover(model, latents=latents | {"vision": torch.full((2, 32, 16), value)}), clean)
