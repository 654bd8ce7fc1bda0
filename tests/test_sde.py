"""The SDE against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from imder.sde import VESDE

SDE = VESDE()


def test_marginal_variance_is_the_integral_of_the_squared_diffusion():
    for t in (0.01, 0.3, 1.0):
        s = torch.linspace(0, t, 200001, dtype=torch.float64)
        integral = torch.trapezoid((SDE.sigma**s) ** 2, s)
        assert SDE.std(t) == pytest.approx(math.sqrt(integral), rel=1e-6)
        assert SDE.marginal_std(t).item() == pytest.approx(SDE.std(t), rel=1e-4)


def test_prior_std_is_the_supplements():
    assert SDE.std(1.0) == pytest.approx(9.845, abs=1e-3)


@pytest.mark.parametrize("std", [1e-3, 0.15, 1.0, 9.8])
def test_time_is_the_inverse_of_std(std):
    assert SDE.std(SDE.time(std)) == pytest.approx(std, rel=1e-9)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_time_refuses_what_is_no_noise_level(std):
    with pytest.raises(ValueError, match="noise level"):
        SDE.time(std)


def test_perturb_uses_each_rows_own_time():
    x0, t = torch.zeros(2, 4, 8), torch.tensor([0.1, 0.9])
    x = SDE.perturb(x0, t, torch.ones_like(x0))
    assert torch.allclose(x[0], SDE.marginal_std(t)[0].expand(4, 8))
    assert torch.allclose(x[1], SDE.marginal_std(t)[1].expand(4, 8))


def test_the_odes_drift_is_half_the_sdes():
    x, score = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.allclose(SDE.reverse_drift(score, x, 0.4), -(25**0.8) * score)
    assert torch.allclose(SDE.reverse_drift(score, x, 0.4, probability_flow=True), -0.5 * 25**0.8 * score)


def test_sigma_must_be_above_one():
    with pytest.raises(ValueError, match=r"sigma is 1\.0"):
        VESDE(sigma=1.0)
