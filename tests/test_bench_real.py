"""The benchmarks of the bundled run in their quick form: what they show, never how long they take."""

from __future__ import annotations

import argparse
import importlib
import shutil

import numpy as np
import pytest
import torch

from imder import hub
from imder.bench import calibration, joint
from imder.plots import calibration as calibration_plots
from imder.plots import joint as joint_plots
from imder.plots import reperformance as reperformance_plots


def bench(name: str, *flags: str):
    module = importlib.import_module(f"imder.bench.{name}")
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    module.add_arguments(parser)
    rows = module.run(parser.parse_args(list(flags)), lambda text: None)
    assert all({"bench", "name", "value"} <= set(row) and np.isfinite(row["value"]) for row in rows)
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
    return rows, module.table(rows)


def value(rows, **wanted):
    found = [row["value"] for row in rows if all(row.get(key) == one for key, one in wanted.items())]
    assert len(found) == 1, wanted
    return found[0]


def test_drawn_one_after_the_other_two_modalities_go_together():
    rows, text = bench("joint", "--quick")
    truth = value(rows, name="correlation", method="truth")
    side, chained = (value(rows, name="correlation", method=m) for m in ("side by side", "A first"))
    assert abs(chained - truth) < abs(side - truth)
    side, chained = (value(rows, name="cross_covariance", method=m) for m in ("side by side", "A first"))
    assert chained < side
    assert "| L | A first |" in text
    assert len(joint_plots.joint(rows).data) == 4


def test_draws_given_the_sentence_are_nearer_to_its_performances_than_others():
    rows, text = bench("reperformance", "--quick")
    for what in ("audio", "vision", "pair"):
        floor, chained, blind = (
            value(rows, name="sliced_wasserstein", method=m, what=what) for m in ("floor", "A first", "unconditional")
        )
        assert floor < chained < blind
        assert value(rows, name="sliced_wasserstein", method="draws, true mean", what=what) < chained
    assert value(rows, name="variance_ratio", method="unconditional", what="vision") > 1.3
    assert "| floor | audio |" in text
    assert len(reperformance_plots.reperformance(rows).data) == 6


def test_temperature_widens_and_the_margin_makes_the_interval_hold_the_label():
    rows, text = bench("calibration", "--quick")
    shares = [row["value"] for row in rows if row.get("part") == "temperature" and row.get("cell") == "LA>V"]
    assert shares == sorted(shares)
    assert 0.6 <= value(rows, name="temperature", cell="LA>V") <= 1.7
    labels = {"name": "interval_coverage", "split": "valid", "available": "L", "draws": 8}
    assert value(rows, calibrated=True, **labels) >= 0.9
    assert value(rows, calibrated=False, **labels) < value(rows, calibrated=True, **labels)
    assert text.count("Coverage on") == 4
    assert len(calibration_plots.coverage(rows).data) == 1
    assert len(calibration_plots.interval(rows).data) == 4


def test_a_margin_holds_nine_in_ten_labels():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=5000)
    predicted = truth + rng.normal(size=(8, 5000)) * 0.1  # the draws agree, the label has noise of its own
    labels = truth + rng.normal(size=5000)
    by = calibration.margin(predicted[:, :2500], labels[:2500], np.arange(2500).astype(str))
    low, high = np.quantile(predicted[:, 2500:], [0.05, 0.95], axis=0)
    inside = (labels[2500:] >= low - by) & (labels[2500:] <= high + by)
    assert inside.mean() == pytest.approx(0.91, abs=0.02)


def test_a_margin_is_wider_where_few_speakers_differ():
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(10), 20)
    labels = rng.normal(size=200) * np.repeat([0.3] * 9 + [3], 20)  # one of them is hard to predict
    predicted = np.zeros((4, 200))
    alike = calibration.margin(predicted, labels, np.arange(200))
    assert calibration.margin(predicted, labels, speakers) > 1.1 * alike


def test_the_temperature_meets_what_exact_draws_cover():
    curve = calibration.Curve((0.8, 1.0, 1.25), (0.7, 0.8, 0.9))
    assert curve.meets(0.8) == pytest.approx(1.0, abs=1e-3)
    assert curve.meets(0.99) == pytest.approx(1.25)
    assert curve.step(1.0, 0.1) == pytest.approx(1.25, abs=0.01)
    assert curve.step(1.0, -5) == pytest.approx(np.exp(-0.3))


def test_what_was_chosen_is_stored_and_the_run_loads(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(hub.BUNDLED, folder)
    before, card = hub.load_run(folder), (folder / hub.CARD).read_text(encoding="utf-8")
    fields = {"temperature": {"LA>V": 1.06}, "interval_margin": {"L": (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)}}
    for _ in range(2):
        calibration.write(folder, **fields)
    after = hub.load_run(folder)
    assert {name: getattr(after.model.config, name) for name in fields} == fields
    for name, x in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], x)
    assert (folder / hub.LOG).read_bytes() == (hub.BUNDLED / hub.LOG).read_bytes()
    assert after.info["training"] == before.info["training"]
    said = (folder / hub.CARD).read_text(encoding="utf-8")
    assert said.startswith(card.partition(calibration.HEADING)[0].rstrip())
    assert said.count(calibration.HEADING) == 1
    assert "LA>V 1.06" in said


def test_bad_flags_are_refused_before_anything_is_drawn(tmp_path):
    for flags, said in (
        (("calibration", "--clips", "1"), "--clips: 1"),
        (("calibration", "--quick", "--write", str(tmp_path)), "--write"),
        (("calibration", "--write", str(tmp_path / "none")), "no such folder"),
        (("joint", "--draws", "0"), "--draws: 0"),
    ):
        with pytest.raises(ValueError, match=said):
            bench(*flags)


def test_the_ways_to_draw_are_orders_that_begin_with_the_right_one():
    assert joint.orders(("audio", "vision")) == {"side by side": "", "A first": "ALV", "V first": "VAL"}
