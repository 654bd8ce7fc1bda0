"""Sentiment metrics: values computed by hand, and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from imder.evaluation.metrics import MOSI_METRICS, SIMS_METRICS, metric_names, sentiment_metrics

TRUTH = [-3.0, -1.0, 0.0, 0.6, 2.4, 3.0]
GUESS = [-2.0, 0.5, -0.2, 0.4, 2.5, 4.0]


def test_mosi_by_hand():
    got = sentiment_metrics(TRUTH, GUESS)
    assert tuple(sorted(got)) == tuple(sorted(MOSI_METRICS))
    assert got["mae"].value == pytest.approx((1 + 1.5 + 0.2 + 0.2 + 0.1 + 1) / 6)
    assert got["corr"].value == pytest.approx(np.corrcoef(TRUTH, GUESS)[0, 1])
    # rounded to +-3: truth -3 -1 0 1 2 3, guess -2 0 0 0 2 3 (0.5 and 2.5 go to the even neighbour)
    assert got["acc7"].value == pytest.approx(3 / 6)
    # to +-2: -2 -1 0 1 2 2 and -2 0 0 0 2 2
    assert got["acc5"].value == pytest.approx(4 / 6)
    # to +-1: -1 -1 0 1 1 1 and -1 0 0 0 1 1
    assert got["acc3"].value == pytest.approx(4 / 6)
    # without the neutral clip: - - + + + against - + + + +
    assert got["acc2"].value == pytest.approx(4 / 5)
    assert got["acc2"].n == 5
    assert got["mae"].n == 6
    # with it, >= 0: - - + + + + against - + - + + +
    assert got["has0_acc2"].value == pytest.approx(4 / 6)
    # weighted F1, Non0: class "not above 0" P 1 R 1/2 F 2/3 (2 clips), class "above 0" P 3/4 R 1 F 6/7 (3 clips)
    assert got["f1"].value == pytest.approx((2 * 2 / 3 + 3 * 6 / 7) / 5)


def test_mosi_against_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(-9, 10, 500) / 3
    guess = truth + rng.normal(size=500)
    got, told = sentiment_metrics(truth, guess), truth != 0
    assert got["f1"].value == pytest.approx(f1_score(truth[told] > 0, guess[told] > 0, average="weighted"))
    assert got["has0_f1"].value == pytest.approx(f1_score(truth >= 0, guess >= 0, average="weighted"))
    assert got["has0_acc2"].value == pytest.approx(accuracy_score(truth >= 0, guess >= 0))
    swapped = f1_score(guess[told] > 0, truth[told] > 0, average="weighted")
    assert got["f1"].value != pytest.approx(swapped, abs=1e-6), "truth and prediction are the wrong way round"


def test_sims_by_hand():
    truth = [-1.0, -0.7, -0.1, 0.0, 0.1, 0.2, 0.8, 1.0]
    guess = [-5.0, -0.6, -0.1, 0.05, 0.1, 0.9, 0.7, 9.0]
    got = sentiment_metrics(truth, guess, (-1.0, 1.0))
    assert tuple(sorted(got)) == tuple(sorted(SIMS_METRICS))
    assert got["mae"].value == pytest.approx((0 + 0.1 + 0 + 0.05 + 0 + 0.7 + 0.1 + 0) / 8, abs=1e-6)  # clipped first
    # (lo, hi]: classes of two - - - - + + + + against - - - + + + + +
    assert got["acc2"].value == pytest.approx(7 / 8)
    # of three, cuts -.1 and .1: 0 0 0 1 1 2 2 2 against 0 0 0 1 1 2 2 2 (the cut itself belongs below)
    assert got["acc3"].value == 1.0
    # of five: 0 0 1 2 2 3 4 4 against 0 1 1 2 2 4 3 4
    assert got["acc5"].value == pytest.approx(5 / 8)
    assert got["f1"].value == pytest.approx(f1_score([0] * 4 + [1] * 4, [0] * 3 + [1] * 5, average="weighted"))


def test_undefined_figures_are_none():
    got = sentiment_metrics([0.0, 0.0], [1.0, 1.0])
    assert got["corr"].value is None
    assert got["acc2"].value is None
    assert got["acc2"].n == 0
    assert got["mae"].value == 1.0
    assert all(figure.value is None for figure in sentiment_metrics([], []).values())


def test_names_and_bad_input():
    assert metric_names((-3, 3)) == MOSI_METRICS
    assert metric_names((-1, 1)) == SIMS_METRICS
    with pytest.raises(ValueError, match=r"\(2,\), predictions \(3,\)"):
        sentiment_metrics([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="not finite"):
        sentiment_metrics([1.0, np.nan], [1.0, 2.0])
