"""Missing protocols: where a clip's mask stands alone it does, and the rates are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from imder.data.missing import (
    BatchwiseMissing,
    FixedMissing,
    RandomMissing,
    UnequalMissing,
    batch_shares,
    parse_rate,
    parse_rates,
    pattern_probabilities,
    pattern_probability,
    shares,
)
from imder.modality import MODALITIES, PATTERNS

IDS = [f"video{i // 10}$_${i % 10}" for i in range(6000)]
RATES = {"text": 0.1, "audio": 0.3, "vision": 0.5}


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


@pytest.mark.parametrize("protocol", [RandomMissing, BatchwiseMissing])
@pytest.mark.parametrize("rate", [-0.1, 0.69, 0.8, 1, float("nan"), float("inf"), "half", None, True, [0.5]])
def test_other_rates_are_refused(protocol, rate):
    with pytest.raises(ValueError, match="is not allowed; a number from 0 to 2/3 is"):
        protocol(rate)


@pytest.mark.parametrize("seed", [1.5, "1", None, True])
def test_a_seed_is_an_integer(seed):
    for protocol, rate in ((RandomMissing, 0.5), (BatchwiseMissing, 0.5), (UnequalMissing, RATES)):
        with pytest.raises(ValueError, match="an integer is"):
            protocol(rate, seed)


def test_a_typed_rate_is_a_number_or_refused_as_typed():
    assert [parse_rate(text) for text in ("0", ".5", " 0.25 ")] == [0, 0.5, 0.25]
    assert parse_rate(".7") == parse_rate("0.7") == 0.7
    for text in ("half", "nan", "-0.1", "1", "inf", "", "70%"):
        with pytest.raises(ValueError) as caught:
            parse_rate(text)
        wanted = f"missing rate: {text!r} is not allowed; a number from 0 to 2/3 is, and 0.7 for one modality left"
        assert str(caught.value) == wanted


# A rate for each modality ---------------------------------------------------------------------------------------------


def combinations() -> list[dict[str, float]]:
    """Rates of all kinds, up to the edge of what can be reached."""
    drawn = np.random.default_rng(0).uniform(size=(200, 3))
    scaled = drawn * np.minimum(1, 1.999999 / drawn.sum(axis=1, keepdims=True))
    edges = [(0, 0, 0), (0.9, 0, 0), (0, 0.999, 0.999), (1e-9, 0.5, 1e-12), (0.7, 0.7, 0.6), (0.999, 0.5, 0.501)]
    edges += [(2 / 3, 2 / 3, 2 / 3), (0.66666, 0.66666, 0.66666), (0.5, 0.5, 0.999999)]
    return [dict(zip(MODALITIES, map(float, rates), strict=True)) for rates in [*scaled, *edges]]


def test_the_expected_rate_of_each_modality_is_the_wanted_one():
    for rates in combinations():
        probabilities = pattern_probabilities(rates)
        assert tuple(probabilities) == PATTERNS
        assert min(probabilities.values()) >= 0
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-12)
        for k, rate in rates.items():
            without = sum(p for pattern, p in probabilities.items() if k not in pattern)
            assert without == pytest.approx(rate, abs=1e-12), (rates, k)


def test_modalities_are_dropped_independently_given_that_one_stays():
    for rates in combinations():
        p = pattern_probabilities(rates)
        # p_k / (1 - p_k) is the same whatever else is there
        assert p["audio", "vision"] * p["text", "audio"] == pytest.approx(p[MODALITIES] * p[("audio",)], abs=1e-12)
        assert p["audio", "vision"] * p["text", "vision"] == pytest.approx(p[MODALITIES] * p[("vision",)], abs=1e-12)
        assert p["text", "audio"] * p["text", "vision"] == pytest.approx(p[MODALITIES] * p[("text",)], abs=1e-12)


def test_masks_of_unequal_rates():
    protocol = UnequalMissing(RATES, seed=3)
    masks = protocol.masks(IDS)
    assert masks.dtype == bool
    assert masks.any(axis=1).all()
    np.testing.assert_allclose(1 - masks.mean(axis=0), [0.1, 0.3, 0.5], atol=0.02)
    assert protocol.rate == pytest.approx(0.3)
    assert protocol.realised(masks) == pytest.approx(0.3, abs=0.012)
    np.testing.assert_array_equal(protocol.masks(IDS[49::-1]), masks[49::-1])
    np.testing.assert_array_equal(np.concatenate([protocol.masks([clip_id]) for clip_id in IDS[:50]]), masks[:50])
    assert not np.array_equal(UnequalMissing(RATES, seed=4).masks(IDS), masks)
    assert protocol.masks([]).shape == (0, 3)
    assert UnequalMissing(dict.fromkeys(MODALITIES, 0)).masks(IDS).all()
    assert (UnequalMissing({"L": 0.7, "A": 0.7, "V": 0.6}).masks(IDS).sum(axis=1) == 1).all()


def test_equal_rates_give_the_masks_of_one_rate():
    for rate in (0.1, 0.5, 0.6):
        same = UnequalMissing(dict.fromkeys(MODALITIES, rate), seed=2).masks(IDS)
        np.testing.assert_array_equal(same, RandomMissing(rate, seed=2).masks(IDS))


def test_typed_rates_by_modality_and_their_name():
    assert parse_rates("L=.1,A=.3,V=.5") == RATES
    assert parse_rates(" vision = 0.5, L=0.1,audio=3e-1") == RATES
    assert list(parse_rates("V=.5,A=.3,L=.1")) == list(MODALITIES)
    assert UnequalMissing(RATES).name == "L.1-A.3-V.5"
    assert UnequalMissing({"V": 0.25, "A": -0.0, "L": 0}).name == "L0-A0-V.25"
    assert UnequalMissing({"V": 0.5, "L": 0.1, "A": 0.3}) == UnequalMissing(RATES)
    assert hash(UnequalMissing(RATES)) == hash(UnequalMissing(parse_rates("L=.1,A=.3,V=.5")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L=-0.1,A=.3,V=.5", "L=-0.1 is not allowed; a number from 0 to less than 1 is"),
        ("L=.1,A=1,V=.5", "A=1.0 is not allowed; a number from 0 to less than 1 is"),
        ("L=.1,A=.3,V=nan", "V=nan is not allowed; a number from 0 to less than 1 is"),
        ("L=half,A=.3,V=.5", "L='half' is not allowed; a number from 0 to less than 1 is"),
        ("L=,A=.3,V=.5", "L='' is not allowed; a number from 0 to less than 1 is"),
        ("L=.1,A=.3", "none is given for V; each of L, A, V is needed once"),
        ("text=.1", "none is given for A, V; each of L, A, V is needed once"),
        ("L=.1,L=.3,V=.5", "'L' is given twice; each modality is needed once"),
        ("L=.1,text=.1,A=.3,V=.5", "'text' is given twice; each modality is needed once"),
        ("L=.1,A=.3,T=.5", "'T' is not a modality; allowed: L, A, V, text, audio, vision"),
        ("L=.1,A.3,V=.5", "'A.3' is not allowed; a modality and its rate are, such as L=.1"),
        ("", "'' is not allowed; a modality and its rate are, such as L=.1"),
        ("L=.9,A=.8,V=.5", "L=0.9, A=0.8, V=0.5 cannot be reached, as one modality of each clip stays; the sum may be"),
    ],
)
def test_other_typed_rates_are_refused(text, message):
    with pytest.raises(ValueError) as caught:
        parse_rates(text)
    assert str(caught.value).startswith(f"missing rates: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [True, None, float("inf"), "0.1"])
def test_the_rates_of_a_protocol_are_numbers(rate):
    with pytest.raises(ValueError, match="is not allowed; a number from 0 to less than 1 is"):
        UnequalMissing({"text": rate, "audio": 0.1, "vision": 0.1})


# Batch by batch, as published ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 2 / 3, 0.05, 0.45, 0.63])
def test_the_shares_of_batches_meet_the_nominal_rate(rate):
    one_left, two_left = batch_shares(rate)
    assert one_left >= 0
    assert two_left >= 0
    assert one_left + two_left <= 1
    assert (2 * one_left + two_left) / 3 == pytest.approx(min(rate, 2 / 3), abs=1e-11)


@pytest.mark.parametrize("rate", [0, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100, 400, 686])
def test_everyone_in_a_batch_misses_the_same_and_one_modality_stays(rate, count):
    masks = BatchwiseMissing(rate, seed=1).masks(IDS[:count])
    assert masks.shape == (count, 3)
    assert masks.dtype == bool
    assert masks.any(axis=1).all()
    for first in range(0, count, 32):
        assert (masks[first : first + 32] == masks[first]).all()
    if rate == 0:
        assert masks.all()


@pytest.mark.parametrize("seed", range(5))
def test_the_realised_rate_is_the_published_one(seed):
    # MOSI's test split: 21 batches of 32 and one of 14. Of 20, the nearest ten, at .7 all keep one modality.
    protocol = BatchwiseMissing(0.7, seed)
    assert protocol.realised(protocol.masks(IDS[:686])) == pytest.approx(20 * 32 * 2 / (3 * 686))
    assert round(protocol.realised(protocol.masks(IDS[:686])), 3) == 0.622
    # .5: 14 of 20 keep one, 2 keep two
    protocol = BatchwiseMissing(0.5, seed)
    assert protocol.realised(protocol.masks(IDS[:686])) == pytest.approx((14 * 2 + 2) * 32 / (3 * 686))
    # .3: exactly 3 of 10 and 3 of 10, no rounding of .3 counts a fourth
    masks = BatchwiseMissing(0.3, seed, batch=10).masks(IDS[:100])
    assert shares(masks) == {3: 0.4, 2: 0.3, 1: 0.3}


def test_few_batches_meet_the_rate_in_expectation():
    for rate in (0.1, 0.5):
        realised = [BatchwiseMissing(rate, seed, batch=8).masks(IDS[:32]).mean() for seed in range(2000)]
        assert 1 - np.mean(realised) == pytest.approx(rate, abs=0.02)


def test_patterns_and_places_are_drawn_from_the_seed_once():
    protocol = BatchwiseMissing(0.5, seed=1, batch=4)
    masks = protocol.masks(IDS)
    np.testing.assert_array_equal(protocol.masks(IDS), masks)
    assert not np.array_equal(BatchwiseMissing(0.5, seed=2, batch=4).masks(IDS), masks)
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.04)  # no modality is favoured
    half = len(IDS) // 2
    assert 1 - masks[:half].mean() == pytest.approx(0.5, abs=0.04)  # nor an end of the split
    # the position counts, not the clip
    np.testing.assert_array_equal(protocol.masks(IDS[::-1]), masks)


@pytest.mark.parametrize("batch", [0, -1, 1.5, "32", True, None])
def test_a_batch_is_a_whole_number(batch):
    with pytest.raises(ValueError, match="is not allowed; a whole number from 1 is"):
        BatchwiseMissing(0.5, 0, batch)
