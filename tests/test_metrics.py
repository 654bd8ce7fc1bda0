"""Sentiment metrics: values computed by hand, and a plain restatement of MMSA's functions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import f1_score

from imder.evaluation.metrics import metric_names, scale_of, sentiment_figures, sentiment_metrics

TRUTH = [-3.0, -1.0, 0.0, 0.6, 2.4, 3.0]
GUESS = [-2.0, 0.5, -0.2, 0.4, 2.5, 4.0]


# By hand --------------------------------------------------------------------------------------------------------------


def test_mosi_by_hand():
    got = sentiment_metrics(GUESS, TRUTH)
    assert tuple(got) == ("mae", "corr", "acc2", "f1", "acc2_has0", "f1_has0", "acc3", "acc5", "acc7")
    assert got["mae"] == pytest.approx((1 + 1.5 + 0.2 + 0.2 + 0.1 + 1) / 6)
    assert got["corr"] == pytest.approx(np.corrcoef(TRUTH, GUESS)[0, 1])
    # rounded to +-3: truth -3 -1 0 1 2 3, guess -2 0 0 0 2 3 (0.5 and 2.5 go to the even neighbour)
    assert got["acc7"] == pytest.approx(3 / 6)
    # to +-2: -2 -1 0 1 2 2 and -2 0 0 0 2 2
    assert got["acc5"] == pytest.approx(4 / 6)
    # to +-1: -1 -1 0 1 1 1 and -1 0 0 0 1 1
    assert got["acc3"] == pytest.approx(4 / 6)
    # without the neutral clip: - - + + + against - + + + +
    assert got["acc2"] == pytest.approx(4 / 5)
    # with it, >= 0: - - + + + + against - + - + + +
    assert got["acc2_has0"] == pytest.approx(4 / 6)
    # weighted F1, Non0: class "not above 0" P 1 R 1/2 F 2/3 (2 clips), class "above 0" P 3/4 R 1 F 6/7 (3 clips)
    assert got["f1"] == pytest.approx((2 * 2 / 3 + 3 * 6 / 7) / 5)


def test_sims_by_hand():
    truth = [-1.0, -0.7, -0.1, 0.0, 0.1, 0.2, 0.8, 1.0]
    guess = [-5.0, -0.6, -0.1, 0.05, 0.1, 0.9, 0.7, 9.0]
    for kind in (np.float32, np.float64):
        got = sentiment_metrics(np.array(guess, kind), np.array(truth, kind), "sims")
        assert tuple(got) == ("mae", "corr", "acc2", "f1", "acc3", "acc5")
        assert got["mae"] == pytest.approx((0 + 0.1 + 0 + 0.05 + 0 + 0.7 + 0.1 + 0) / 8, abs=1e-7)  # clipped first
        # (lo, hi]: classes of two - - - - + + + + against - - - + + + + +
        assert got["acc2"] == pytest.approx(7 / 8)
        # of three, cuts -.1 and .1: 0 0 0 1 1 2 2 2 against 0 0 0 1 1 2 2 2 (the cut itself belongs below)
        assert got["acc3"] == 1.0
        # of five: 0 0 1 2 2 3 4 4 against 0 1 1 2 2 4 3 4
        assert got["acc5"] == pytest.approx(5 / 8)
        assert got["f1"] == pytest.approx(f1_score([0] * 4 + [1] * 4, [0] * 3 + [1] * 5, average="weighted"))


def test_f1_weights_by_the_truth():
    # class "not above 0" F 0 (3 clips), class "above 0" P 1/4 R 1 F 2/5 (1 clip); swapped it would be 2/5
    assert sentiment_metrics([1, 1, 1, 1], [1, -1, -1, -1])["f1"] == pytest.approx(0.1)


def test_figures_know_their_clips():
    figures = sentiment_figures(GUESS, TRUTH)
    assert {name: figure.value for name, figure in figures.items()} == sentiment_metrics(GUESS, TRUTH)
    assert figures["acc2"].n == figures["f1"].n == 5
    assert all(figure.n == 6 for name, figure in figures.items() if name not in ("acc2", "f1"))


def test_undefined_figures_are_none():
    got = sentiment_figures([1.0, 1.0], [0.0, 0.0])
    assert got["corr"].value is None
    assert got["acc2"].value is None
    assert got["acc2"].n == 0
    assert got["mae"].value == 1.0
    for scale in ("mosi", "sims"):
        assert set(sentiment_metrics([], [], scale).values()) == {None}
        assert sentiment_metrics([0.0, 5e-324], [0.0, 1.0], scale)["corr"] is None  # its square is 0


# MMSA's definitions, stated again -------------------------------------------------------------------------------------


def restated_mosi(prediction, truth):
    """MMSA's figures for MOSI and MOSEI, a clip at a time; None where its functions have no value."""
    n = len(truth)

    def same_class(m):
        hits = 0
        for p, t in zip(prediction, truth, strict=True):
            p, t = max(min(p, m), -m), max(min(t, m), -m)
            hits += round(float(p)) == round(float(t))  # Python rounds halves to even
        return hits / n if n else None

    has0 = [(bool(t >= 0), bool(p >= 0)) for p, t in zip(prediction, truth, strict=True)]
    non0 = [(bool(t > 0), bool(p > 0)) for p, t in zip(prediction, truth, strict=True) if t != 0]
    return {
        **restated_errors(prediction, truth),
        "acc2": restated_accuracy(non0),
        "f1": restated_f1(non0),
        "acc2_has0": restated_accuracy(has0),
        "f1_has0": restated_f1(has0),
        "acc3": same_class(1),
        "acc5": same_class(2),
        "acc7": same_class(3),
    }


def restated_sims(prediction, truth):
    """MMSA's figures for CH-SIMS: clipped, then looked up in intervals (lo, hi] of the values' own precision."""
    kind = {"p": prediction.dtype.type, "t": truth.dtype.type}

    def clipped(values, of):
        return [max(min(v, of(1)), of(-1)) for v in values]

    def pairs(edges):
        found = []
        for p, t in zip(clipped(prediction, kind["p"]), clipped(truth, kind["t"]), strict=True):
            found.append(tuple(lookup(v, [of(edge) for edge in edges]) for v, of in ((t, kind["t"]), (p, kind["p"]))))
        return found

    def lookup(value, edges):
        [place] = [i for i in range(len(edges) - 1) if edges[i] < value <= edges[i + 1]]
        return place

    two, three = pairs([-1.01, 0.0, 1.01]), pairs([-1.01, -0.1, 0.1, 1.01])
    return {
        **restated_errors(clipped(prediction, kind["p"]), clipped(truth, kind["t"])),
        "acc2": restated_accuracy(two),
        "f1": restated_f1(two),
        "acc3": restated_accuracy(three),
        "acc5": restated_accuracy(pairs([-1.01, -0.7, -0.1, 0.1, 0.7, 1.01])),
    }


def restated_errors(prediction, truth):
    p, t = [float(v) for v in prediction], [float(v) for v in truth]
    if not t:
        return {"mae": None, "corr": None}
    constant = len(set(p)) == 1 or len(set(t)) == 1
    with np.errstate(all="ignore"):
        corr = np.nan if constant else float(np.corrcoef(p, t)[0][1])
    return {
        "mae": float(np.mean([abs(a - b) for a, b in zip(p, t, strict=True)])),
        "corr": None if np.isnan(corr) else corr,
    }


def restated_accuracy(pairs):
    return sum(t == p for t, p in pairs) / len(pairs) if pairs else None


def restated_f1(pairs):
    """F1 of each class, weighted by how many clips truly have it."""
    if not pairs:
        return None
    total = 0.0
    for label in {t for t, _ in pairs}:
        hits = sum(t == label and p == label for t, p in pairs)
        false = sum(t != label and p == label for t, p in pairs)
        lost = sum(t == label and p != label for t, p in pairs)
        total += (hits + lost) * 2 * hits / (2 * hits + false + lost)
    by_sklearn = f1_score([t for t, _ in pairs], [p for _, p in pairs], average="weighted", zero_division=0)
    assert total / len(pairs) == pytest.approx(by_sklearn, abs=1e-12)
    return total / len(pairs)


RESTATED = {"mosi": restated_mosi, "sims": restated_sims}
#: Edges, ties, exact zeros of both signs, values out of range, and what lies a hair beside them in either precision.
SPECIAL = [0.0, -0.0, 0.1, 0.5, 0.7, 1.0, 1.01, 1.5, 2.0, 2.5, 3.0, 3.5, 7.0]
SPECIAL += [np.nextafter(kind(x), kind(side)) for x in SPECIAL for side in (-9, 9) for kind in (np.float32, np.float64)]
SPECIAL = [float(sign * x) for x in SPECIAL for sign in (1, -1)]


def check(prediction, truth, scale):
    got, wanted = sentiment_metrics(prediction, truth, scale), RESTATED[scale](prediction, truth)
    assert list(got) == list(wanted)
    for name, value in wanted.items():
        assert got[name] == (None if value is None else pytest.approx(value, abs=1e-12, rel=0)), name


@pytest.mark.parametrize("scale", ["mosi", "sims"])
@pytest.mark.parametrize("kinds", [("f4", "f4"), ("f8", "f8"), ("f4", "f8"), ("f8", "f4")])
@pytest.mark.parametrize("seed", range(8))
def test_as_mmsa_on_random_predictions(scale, kinds, seed):
    rng = np.random.default_rng(seed)
    limit = 3 if scale == "mosi" else 1
    truth = rng.integers(-15, 16, 400) / 15 * limit if seed % 2 else rng.uniform(-limit, limit, 400)
    prediction = truth + rng.normal(size=400) * limit / 2
    odd = rng.permutation(400)[:200]
    prediction[odd[:100]] = rng.choice(SPECIAL, 100)
    truth[odd[50:]] = rng.choice(SPECIAL, 150)
    check(prediction.astype(kinds[0]), truth.astype(kinds[1]), scale)


@pytest.mark.parametrize("scale", ["mosi", "sims"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_as_mmsa_on_every_pair_of_special_values(scale, kind):
    prediction, truth = (x.ravel().astype(kind) for x in np.meshgrid(SPECIAL, SPECIAL))
    check(prediction, truth, scale)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["mosi", "sims"]), st.sampled_from([np.float32, np.float64]), st.integers(0, 12))
def test_as_mmsa_on_few_clips(data, scale, kind, n):
    value = st.sampled_from([float(kind(x)) for x in SPECIAL]) | st.integers(-16, 16).map(lambda i: i / 4)
    prediction, truth = (data.draw(arrays.arrays(kind, n, elements=value)) for _ in range(2))
    check(prediction, truth, scale)


def test_lists_are_double_and_nothing_is_lost():
    truth, prediction = [0.1 + 1e-12, 0.3], [0.1, 0.3 + 1e-11]
    got = sentiment_metrics(prediction, truth, "sims")
    assert got["acc3"] == 0.5  # .1 and a hair above it are two classes
    assert got["mae"] == pytest.approx(5.5e-12, rel=1e-4)
    assert sentiment_metrics([1, 2], [2, 2])["mae"] == 0.5


def test_single_precision_is_compared_with_single_edges():
    tenth = np.array([0.1, 0.1], dtype=np.float32)  # a hair above .1, and still in the class that ends there
    assert sentiment_metrics(tenth, [0.1, 0.05], "sims")["acc3"] == 1.0
    assert sentiment_metrics(tenth, tenth.astype(np.float64), "sims")["acc3"] == 0.0


# Bad input ------------------------------------------------------------------------------------------------------------


def test_scales():
    assert scale_of((-3, 3)) == scale_of([-3.0, 3.0]) == scale_of((0.0, 5.0)) == "mosi"
    assert scale_of((-1, 1)) == scale_of([-1.0, 1.0]) == "sims"
    for scale in ("mosi", "sims"):
        assert metric_names(scale) == tuple(sentiment_metrics(GUESS, TRUTH, scale))


@pytest.mark.parametrize("scale", ["mosei", "", None, (-3.0, 3.0), ["sims"]])
def test_another_scale_is_refused(scale):
    for call in (lambda: metric_names(scale), lambda: sentiment_metrics(GUESS, TRUTH, scale)):
        with pytest.raises(ValueError, match="is unknown; allowed: mosi, sims"):
            call()


@pytest.mark.parametrize("scale", ["mosi", "sims"])
def test_other_shapes_and_values_are_refused(scale):
    with pytest.raises(ValueError, match=r"predictions have shape \(3,\), labels \(2,\); two equal \(n,\) are needed"):
        sentiment_metrics([1, 2, 3], [1, 2], scale)
    with pytest.raises(ValueError, match="two equal"):
        sentiment_metrics([[1, 2]], [[1, 2]], scale)
    with pytest.raises(ValueError, match="truth: nan is not finite"):
        sentiment_metrics([1.0, 2.0], [1.0, np.nan], scale)
    with pytest.raises(ValueError, match="prediction: -inf is not finite"):
        sentiment_metrics(np.array([1.0, -np.inf], dtype=np.float32), [1.0, 2.0], scale)
