"""Missing protocols: each clip's mask stands alone, and the rates are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from imder.data import FixedMissing, RandomMissing
from imder.data.missing import pattern_probability, shares
from imder.modality import PATTERNS

IDS = [f"video{i // 10}$_${i % 10}" for i in range(6000)]


def test_a_fixed_pattern_is_the_same_for_every_clip():
    protocol = FixedMissing(("vision", "text"))
    masks = protocol.masks(IDS[:3])
    assert masks.dtype == bool
    assert masks.tolist() == [[True, False, True]] * 3
    assert protocol.available == ("text", "vision")
    assert protocol.realised(masks) == pytest.approx(protocol.rate) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("available", "message"), [((), "nothing is left"), (("text", "smell"), "'smell' is not")])
def test_a_pattern_without_modalities_or_with_others_is_refused(available, message):
    with pytest.raises(ValueError, match=message):
        FixedMissing(available)


@pytest.mark.parametrize("rate", [0, 0.1, 0.3, 0.5, 0.6, 2 / 3])
def test_pattern_probabilities_sum_to_one_and_to_the_rate(rate):
    probabilities = {pattern: pattern_probability(rate, len(pattern)) for pattern in PATTERNS}
    assert sum(probabilities.values()) == pytest.approx(1)
    assert sum(p * (3 - len(pattern)) / 3 for pattern, p in probabilities.items()) == pytest.approx(rate)


@pytest.mark.parametrize("rate", [0, 0.1, 0.3, 0.5, 0.6, 2 / 3, 0.7])
def test_the_realised_rate_is_near_the_nominal_one_and_one_modality_stays(rate):
    protocol = RandomMissing(rate, seed=3)
    masks = protocol.masks(IDS)
    assert masks.any(axis=1).all()
    assert protocol.realised(masks) == pytest.approx(min(rate, 2 / 3), abs=0.012)
    np.testing.assert_allclose(masks.mean(axis=0), 1 - min(rate, 2 / 3), atol=0.02)  # no modality is favoured
    assert sum(shares(masks).values()) == pytest.approx(1)


def test_at_0_all_are_there_and_at_0_7_exactly_one():
    assert RandomMissing(0).masks(IDS).all()
    assert (RandomMissing(0.7).masks(IDS).sum(axis=1) == 1).all()
    np.testing.assert_array_equal(RandomMissing(0.7).masks(IDS), RandomMissing(2 / 3).masks(IDS))


def test_a_mask_depends_on_seed_and_id_alone():
    protocol = RandomMissing(0.5, seed=1)
    masks = protocol.masks(IDS[:50])
    np.testing.assert_array_equal(protocol.masks(IDS[49::-1]), masks[::-1])
    np.testing.assert_array_equal(np.concatenate([protocol.masks([clip_id]) for clip_id in IDS[:50]]), masks)
    np.testing.assert_array_equal(RandomMissing(0.5, seed=1).masks(IDS[:50]), masks)
    assert not np.array_equal(RandomMissing(0.5, seed=2).masks(IDS[:50]), masks)
    assert protocol.masks([]).shape == (0, 3)


def test_masks_of_old_results_can_be_drawn_again():
    masks = RandomMissing(0.5, seed=0).masks(["a", "b", "c", "d", "é$_$1"])
    assert masks.astype(int).tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("rate", [-0.1, 0.69, 0.8, 1, float("nan"), float("inf"), "half", None, True, [0.5]])
def test_other_rates_are_refused(rate):
    with pytest.raises(ValueError, match="is not allowed; a number from 0 to 2/3 is"):
        RandomMissing(rate)


@pytest.mark.parametrize("seed", [1.5, "1", None, True])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(ValueError, match="an integer is"):
        RandomMissing(0.5, seed)
