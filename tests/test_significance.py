"""The paired bootstrap on differences that are known, against a plain loop, and its coverage on normals."""

from __future__ import annotations

import numpy as np
import pytest

from imder.evaluation.metrics import CLASS_METRICS, sentiment_metrics
from imder.evaluation.significance import METRICS, Difference, bootstrap, paired_bootstrap


@pytest.fixture(scope="module")
def made():
    """Labels of 60 clips of 15 videos with neutral ones, and two methods' predictions of three cells."""
    rng = np.random.default_rng(0)
    label = np.clip(np.round(rng.normal(0, 1.5, 60) * 2) / 2, -3, 3)
    a = np.round(label + rng.normal(0, 0.8, (3, 60)), 4)
    b = np.round(label + rng.normal(0.2, 1.3, (3, 60)), 4)
    return a, b, label, [f"video{i // 4}" for i in range(60)]


@pytest.mark.parametrize("metric", METRICS)
def test_a_method_does_not_differ_from_itself(made, metric):
    a, _, label, videos = made
    scale = "mosi"
    if metric in CLASS_METRICS:
        scale, (a, label) = "classes", (np.abs(np.rint(x)) for x in (a, label))
    found = paired_bootstrap(a, a, label, metric, videos, resamples=200, scale=scale)
    assert (found.value, found.low, found.high, found.better) == (0, 0, 0, 0.5)
    assert not found.resolved


def test_a_shift_gives_its_exact_difference_in_every_resample():
    label = np.linspace(-2, 2, 40)
    found = paired_bootstrap(label + 0.5, label + 0.2, label, "mae", resamples=300)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))
    assert found.better == 0  # more error is worse
    assert found.resolved


def test_accuracy_of_all_right_against_all_wrong_is_one():
    label = np.array([1.0, -1, 2, -2, 0])
    found = paired_bootstrap(label, -label, label, "acc2", resamples=300)
    assert (found.value, found.low, found.high, found.better) == (1, 1, 1, 1)


def test_what_is_better_is_told_by_sign_and_metric(made):
    a, b, label, videos = made
    error = paired_bootstrap(a, b, label, "mae", videos)
    right = paired_bootstrap(a, b, label, "acc2", videos)
    assert error.value < 0 < right.value
    assert error.better > 0.99
    assert right.better > 0.9
    other = paired_bootstrap(b, a, label, "mae", videos)
    assert (other.value, other.low, other.high) == pytest.approx((-error.value, -error.high, -error.low))
    assert (error.clips, error.clusters) == (60, 15)


@pytest.mark.parametrize("scale", ["mosi", "sims"])
@pytest.mark.parametrize("metric", ["mae", "corr", "acc2", "f1", "acc5", "acc7"])
def test_the_figure_is_that_of_the_metrics(made, metric, scale):
    a, _, label, videos = made
    if scale == "sims":
        if metric == "acc7":
            with pytest.raises(ValueError, match="acc5 is"):
                bootstrap(a, label, metric, videos, scale=scale)
            return
        a, label = a / 3, np.round(label / 3, 1)
    given = label.astype(np.float32)
    wanted = np.mean([sentiment_metrics(x.astype(np.float32), given, scale)[metric] for x in a])
    assert bootstrap(a, label, metric, videos, resamples=20, scale=scale).value == pytest.approx(wanted, abs=1e-6)


def test_it_equals_a_plain_loop_over_resampled_videos(made):
    a, b, label, videos = made
    names, metrics = sorted(set(videos)), ("mae", "acc2", "f1", "corr", "acc7")
    differences = {metric: [] for metric in metrics}
    counts = np.random.default_rng(7).multinomial(len(names), np.full(len(names), 1 / len(names)), size=50)
    for times in counts:
        rows = np.concatenate([np.flatnonzero(np.array(videos) == n) for n, c in zip(names, times, strict=True)
                               for _ in range(c)])  # fmt: skip
        told = [[sentiment_metrics(x[rows], label[rows]) for x in y] for y in (a, b)]
        for metric in metrics:
            first, second = (np.mean([figures[metric] for figures in cells]) for cells in told)
            differences[metric].append(first - second)
    for metric in metrics:
        found = paired_bootstrap(a, b, label, metric, videos, resamples=50, seed=7)
        assert (found.low, found.high) == pytest.approx(np.quantile(differences[metric], [0.025, 0.975]), abs=1e-6)


def test_the_order_of_clips_does_not_matter_and_the_seed_does(made):
    a, b, label, videos = made
    order = np.random.default_rng(1).permutation(60)
    first = paired_bootstrap(a, b, label, "mae", videos)
    moved = paired_bootstrap(a[:, order], b[:, order], label[order], "mae", [videos[i] for i in order])
    assert (moved.value, moved.low, moved.high) == pytest.approx((first.value, first.low, first.high))
    assert paired_bootstrap(a, b, label, "mae", videos, seed=1).low != first.low


def covered(clusters: int, size: int, shared: float, by_video: bool, trials: int = 300) -> float:
    """How often the interval of MAE a - b holds the true difference; errors of a video share a part of them."""
    rng, hits = np.random.default_rng(3), 0
    count = clusters * size
    label = np.zeros(count)
    for _ in range(trials):
        video = np.repeat(rng.normal(0, shared, clusters), size)
        # errors far from 0, so that the absolute value changes nothing and the true difference is .1
        a, b = 10.1 + video + rng.normal(0, 0.5, count), 10 + rng.normal(0, 0.5, count)
        videos = [str(i // size) for i in range(count)] if by_video else None
        found = paired_bootstrap(a, b, label, "mae", videos, resamples=400)
        hits += found.low <= 0.1 <= found.high
    return hits / trials


def test_coverage_on_normals_is_near_95_percent():
    assert 0.91 <= covered(120, 1, 0.5, by_video=False) <= 0.98


def test_clips_of_a_video_must_be_drawn_together():
    assert 0.90 <= covered(40, 5, 0.5, by_video=True) <= 0.98
    assert covered(40, 5, 0.5, by_video=False) < 0.85


def test_one_cell_needs_no_second_axis_and_cells_are_averaged(made):
    a, b, label, videos = made
    single = [paired_bootstrap(a[i], b[i], label, "mae", videos).value for i in range(3)]
    assert paired_bootstrap(a, b, label, "mae", videos).value == pytest.approx(np.mean(single))


def test_resamples_where_a_figure_is_not_defined_are_left_out():
    label = np.array([0.0, 0, 0, 1])  # a resample without the last clip has no two-class accuracy
    found = paired_bootstrap(label, -label, label, "acc2", resamples=200)
    assert (found.value, found.low, found.high) == (1, 1, 1)
    nothing = paired_bootstrap([0.0, 1], [1.0, 0], [0.0, 0], "acc2", resamples=10)
    assert np.isnan([nothing.value, nothing.low, nothing.high, nothing.better]).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metric": "acc9"}, "'acc9' is unknown"),
        ({"scale": "other"}, "'other' is unknown"),
        ({"b": np.zeros((2, 60))}, "two equal"),
        ({"label": np.zeros(59)}, "59 labels"),
        ({"videos": ["v"]}, "videos"),
        ({"resamples": 0}, "resamples"),
        ({"label": np.full(60, np.nan)}, "not finite"),
    ],
)
def test_bad_input_is_one_sentence(made, changed, said):
    a, b, label, videos = made
    given = {"a": a, "b": b, "label": label, "metric": "mae", "videos": videos} | changed
    with pytest.raises(ValueError, match=said):
        paired_bootstrap(**given)


def test_what_touches_zero_is_not_resolved():
    assert not Difference(0.1, 0.0, 0.2, 0.97, 10, 10).resolved
    assert Difference(0.1, 0.01, 0.2, 0.99, 10, 10).resolved
    assert not Difference(0.1, float("nan"), float("nan"), float("nan"), 10, 10).resolved
