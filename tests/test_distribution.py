"""Distances and coverage against Gaussians, whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from imder.evaluation.distribution import (
    Projection,
    covered,
    energy_distance,
    exact_coverage,
    flatten,
    halves_floor,
    sliced_wasserstein,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_energy_distance_of_equal_distributions_is_around_zero(rng):
    values = [energy_distance(rng.normal(size=(100, 8)), rng.normal(size=(150, 8))) for _ in range(40)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(40)
    assert min(values) < 0 < max(values)  # no bias


def test_energy_distance_of_points_and_of_shifted_normals(rng):
    # By hand: x {0, 2}, y {1, 5}: 2 * mean(1, 5, 1, 3) - 2 - 4
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    assert energy_distance(x, y) == pytest.approx(2 * 2.5 - 2 - 4)
    # N(0,1) against N(3,1): X-Y ~ N(-3, 2), X-X' ~ N(0, 2)
    d, s = 3.0, math.sqrt(2)
    folded = s * math.sqrt(2 / math.pi) * math.exp(-(d**2) / (2 * s**2)) + d * math.erf(d / (s * math.sqrt(2)))
    expected = 2 * folded - 2 * s * math.sqrt(2 / math.pi)
    got = energy_distance(rng.normal(size=(3000, 1)), rng.normal(d, 1, size=(3000, 1)))
    assert got == pytest.approx(expected, rel=0.05)


def test_shift_and_wrong_width_stand_out_from_the_floor(rng):
    real = rng.normal(size=(400, 16))
    floor = halves_floor(energy_distance, real)
    assert abs(floor.value) < 3 * floor.noise
    assert energy_distance(rng.normal(0.3, 1, size=(400, 16)), real) > floor.value + 5 * floor.noise
    assert energy_distance(rng.normal(0, 0.6, size=(400, 16)), real) > floor.value + 5 * floor.noise
    assert energy_distance(np.zeros((400, 16)), real) > 1  # a mean fill is no draw
    slices = halves_floor(sliced_wasserstein, real)
    assert sliced_wasserstein(rng.normal(0.5, 1, size=(400, 16)), real) > slices.value + 5 * slices.noise


def test_sliced_wasserstein_of_a_shift(rng):
    x = rng.normal(size=(500, 12))
    shift = rng.normal(size=12)
    # Each slice sees its part of the shift; over all directions |shift| / sqrt(P) in root mean square.
    expected = np.linalg.norm(shift) / math.sqrt(12)
    assert sliced_wasserstein(x, x + shift) == pytest.approx(expected, rel=0.1)
    assert sliced_wasserstein(x, x) == 0
    assert sliced_wasserstein(x, x[::2] + shift) == pytest.approx(expected, rel=0.15)  # unequal sizes


def test_too_few_points_have_no_distance():
    one, two = np.zeros((1, 3)), np.zeros((2, 3))
    assert energy_distance(one, two) is None
    assert sliced_wasserstein(two, one) is None
    assert halves_floor(energy_distance, np.zeros((3, 2))).value is None


@pytest.mark.parametrize(("draws", "expected"), [(32, 0.845), (200, 0.891), (8, 0.7)])
def test_exact_draws_cover_what_is_said(rng, draws, expected):
    assert exact_coverage(draws) == pytest.approx(expected, abs=5e-4)
    flat = rng.uniform(size=(draws + 1, 40_000))
    assert covered(flat[:-1], flat[-1]).mean() == pytest.approx(expected, abs=0.006)
    samples = rng.normal(size=(draws + 1, 40_000))
    assert covered(samples[:-1], samples[-1]).mean() == pytest.approx(expected, abs=0.03 if draws == 8 else 0.008)
    assert covered(0.7 * samples[:-1], samples[-1]).mean() < expected - 0.08  # too narrow
    assert covered(1.5 * samples[:-1], samples[-1]).mean() > expected + 0.05  # too wide


def test_projection_keeps_the_leading_directions(rng):
    basis = np.linalg.qr(rng.normal(size=(200, 4)))[0].T
    x = rng.normal(size=(300, 4)) * [9, 6, 4, 2] @ basis + 5
    projection = Projection.fit(x)
    z = projection(x)
    assert z.shape == (300, 32)
    assert np.linalg.norm(z[:, :4]) == pytest.approx(np.linalg.norm(x - x.mean(0)), rel=1e-6)  # scale is kept
    assert Projection.fit(x[:10])(x).shape == (300, 10)  # fewer clips than directions


def test_flatten_reads_valid_frames_only(rng):
    z = rng.normal(size=(2, 3, 6)).astype(np.float32)
    valid = np.array([[True] * 6, [True] * 4 + [False] * 2])
    flat = flatten(z, valid, 6)
    assert flat.shape == (2, 18)
    assert np.array_equal(flat[0], z[0].T.ravel())
    z[1, :, 4:] = 1e6
    assert np.array_equal(flat, flatten(z, valid, 6))
    assert np.allclose(flat[1].reshape(6, 3)[[0, -1]], z[1].T[[0, 3]])
