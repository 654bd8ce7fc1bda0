"""Comparisons of one clip: the noise is the same, and every number is the one that its own source gives."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from imder import compare, hub
from imder.compare import Fan, Outcome, Progress, Trial
from imder.data.clip import collate
from imder.modality import MODALITIES, PATTERNS, to_mask
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.ui.shelf import CHECKPOINTS


@pytest.fixture(scope="module")
def pipeline() -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained()


@pytest.fixture(scope="module")
def request_(pipeline: RecoveryPipeline) -> RecoveryRequest:
    return RecoveryRequest(pipeline.data.split("test")[3], ("text",), steps=3, seed=5, draws=3)


def finished(items: object) -> list:
    """What is not progress; every item before it says how far it is."""
    found = []
    for item in items:
        if isinstance(item, Progress):
            assert 0 <= item.part <= 1
        else:
            found.append(item)
    return found


def test_patterns_are_seven_and_equal_the_pipelines_own(pipeline, request_) -> None:
    found = finished(compare.patterns(pipeline, request_))
    assert {one.available for one in found} == set(PATTERNS)
    assert found[0].available == MODALITIES
    for one in found[1:]:
        own = pipeline(dataclasses.replace(request_, available=one.available))
        assert one.prediction == own.predictions["recovered"]
        assert found[0].prediction == own.predictions["complete"]
        assert one.interval == own.interval
        assert one.error == own.predictions["recovered"] - request_.clip.label
        for k in one.missing:
            assert one.feature_error[k] == own.feature_error[k]["draw"]
            assert one.mean_error[k] == own.feature_error[k]["mean"]
            np.testing.assert_array_equal(one.readable[k], own.readable_draws[k][0])
        for k in one.available:
            np.testing.assert_array_equal(one.readable[k], request_.clip.features[k])


def test_the_noise_of_a_modality_is_the_same_in_every_pattern(pipeline, request_) -> None:
    """Without the condition nothing but the noise decides, so a face is the same whatever else is dropped."""
    free = finished(compare.patterns(pipeline, dataclasses.replace(request_, guidance=0.0)))
    for k in MODALITIES:
        made = [one.readable[k] for one in free if k in one.missing]
        assert len(made) == 3
        for other in made[1:]:
            np.testing.assert_allclose(other, made[0], rtol=1e-3, atol=1e-3)
    bound = finished(compare.patterns(pipeline, request_))
    faces = [one.readable["vision"] for one in bound if "vision" in one.missing]
    assert not np.allclose(faces[0], faces[1], atol=0.01)


def test_guidance_one_is_the_plain_run_and_zero_does_not_look(pipeline, request_) -> None:
    found = {one.guidance: one for one in finished(compare.guidance(pipeline, request_, (0.0, 1.0, 2.0)))}
    plain = pipeline(request_)
    assert found[1.0].prediction == plain.predictions["recovered"]
    np.testing.assert_array_equal(found[1.0].readable["vision"], plain.readable_draws["vision"][0])
    assert (found[0.0].nfe, found[1.0].nfe, found[2.0].nfe) == (6, 6, 12)
    clip = request_.clip
    other = dataclasses.replace(clip, features=clip.features | {"text": clip.features["text"] * 0})
    blind = finished(compare.guidance(pipeline, dataclasses.replace(request_, clip=other), (0.0, 1.0)))
    np.testing.assert_array_equal(blind[0].readable["vision"], found[0.0].readable["vision"])
    assert not np.allclose(blind[1].readable["vision"], found[1.0].readable["vision"], atol=0.01)


def test_samplers_are_held_against_the_reference_and_the_truth(pipeline, request_) -> None:
    trials = (("dpmpp-2m", 3), ("dpmpp-2m", 20), ("heun", 8), ("euler-maruyama-log", 4))
    reference, few, more, heun, noisy = finished(compare.samplers(pipeline, request_, trials))
    assert all(isinstance(one, Trial) for one in (reference, few))
    assert reference.name.startswith("Reference")
    assert reference.mean_gap == reference.gap == 0
    assert few.gap > 4 * more.gap > 0
    assert few.mean_gap > more.mean_gap
    assert heun.gap < few.gap
    assert noisy.gap is None
    assert noisy.mean_gap > 0
    assert heun.nfe == 2 * 15
    for one in (reference, few, more, heun, noisy):
        # The error of a draw is that of the mean and the spread about it.
        assert one.draw_error == pytest.approx(one.spread + np.mean(list(one.mean_error.values())), rel=1e-4)
        assert one.seconds > 0


def test_presets_take_their_own_sampler_and_steps(pipeline, request_) -> None:
    asked = dataclasses.replace(request_, sampler="heun", steps=2, available=("text", "audio"), draws=1)
    opened = []

    def opener() -> RecoveryPipeline:
        opened.append(1)
        return pipeline

    items = compare.presets({"corrected": opener, "mine": opener}, asked)
    next(items)
    assert not opened  # one at a time, when its turn comes
    first, second = finished(items)
    own = pipeline(dataclasses.replace(asked, sampler=None, steps=None))
    assert (first.sampler, first.steps) == ("dpmpp-2m", 10)
    assert first.prediction == second.prediction == own.predictions["recovered"]
    assert (first.name, second.name) == ("Corrected (this project)", "Mine")


@pytest.mark.parametrize("kind", ["mmin", "gcnet", "dropout-fusion", "subset"])
def test_a_baseline_says_what_its_forward_does_and_never_reads_the_missing(pipeline, request_, kind) -> None:
    run = hub.load_run(CHECKPOINTS / kind)
    clip, model = request_.clip, run.model.eval()
    found = compare.baseline(run, pipeline.data, request_)
    clips = [one for one in pipeline.data.split("test") if one.video == clip.video] if model.whole_videos else [clip]
    row = [one.id for one in clips].index(clip.id)
    mask = torch.from_numpy(to_mask(request_.available)).expand(len(clips), -1)
    batch = run.standardiser.apply(collate(clips))
    with torch.no_grad():
        told = model(batch, mask)
    assert found.prediction == pytest.approx(float(told.value[row, 0]), abs=1e-6)
    assert found.interval is None
    hidden = dataclasses.replace(clip, features=clip.features | {"vision": clip.features["vision"] * 0 + 1})
    if not model.whole_videos:
        other = compare.baseline(run, pipeline.data, dataclasses.replace(request_, clip=hidden))
        assert other.prediction == found.prediction
    if kind == "gcnet":
        face = found.readable["vision"]
        assert face.shape == clip.features["vision"].shape
        np.testing.assert_array_equal(face[0], face[-1])
        own = run.standardiser.forward("vision", face[:1])[0]
        np.testing.assert_allclose(own, told.imagined["vision"][row].numpy(), atol=1e-3)
    else:
        assert "vision" not in found.readable
        assert found.note.startswith("it imagines 128 numbers" if kind == "mmin" else "it keeps no picture")


def test_a_baseline_of_other_widths_says_so(request_) -> None:
    run = hub.load_run(CHECKPOINTS / "dropout-fusion")
    found = compare.baseline(
        run, SimpleNamespace(feature_dims={"text": 1, "audio": 2, "vision": 3}, label_classes=()), request_
    )
    assert math.isnan(found.prediction)
    assert "other widths" in found.note


def test_fills_zero_and_mean_are_what_they_say(pipeline, request_) -> None:
    fills = compare.Fills(pipeline)
    fills.prepare()
    fitted = fills._fitted
    fills.prepare()
    assert fills._fitted is fitted
    start = next(iter(pipeline.stream(request_)))
    zero, mean = fills.outcome("zero", request_), fills.outcome("mean", request_)
    assert zero.prediction == pytest.approx(start.predictions["zero"], abs=1e-4)
    for k in request_.missing:
        # The mean of the training latents is 0 in unit latents: what is left is the clip's own mean square.
        assert mean.feature_error[k] == pytest.approx(float((start.truth[k] ** 2).mean()), rel=0.02)
        assert mean.readable[k].shape == request_.clip.features[k].shape
    assert zero.interval is None


def test_fills_learn_from_clips_that_lack_nothing(pipeline) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"stand-ins of {name} were read")

    clips = {name: pipeline.data.complete(name)[:40] for name in ("train", "valid")}
    data = SimpleNamespace(splits=tuple(clips), complete=lambda name, lacks: clips[name], split=refuse)
    fills = compare.Fills(SimpleNamespace(model=pipeline.model, run=pipeline.run, data=data, lacks=()))
    fills.prepare()
    assert set(fills._fitted) == {"zero", "mean", "knn", "ridge"}


def test_without_a_training_split_the_fills_say_so(pipeline, request_) -> None:
    bare = SimpleNamespace(
        stream=pipeline.stream, model=pipeline.model, run=pipeline.run, classes=(),
        data=SimpleNamespace(splits=("test",)),
    )  # fmt: skip
    *_, last = finished(compare.methods(bare, request_, {}, compare.Fills(bare)))
    assert last.name == "Fills"
    assert math.isnan(last.prediction)


def test_a_fan_brackets_its_draws(pipeline, request_) -> None:
    [found] = finished(compare.fan(pipeline, dataclasses.replace(request_, draws=6)))
    assert isinstance(found, Fan)
    assert len(found.outcome.draws) == 6
    low, high = found.outcome.interval
    assert low <= np.quantile(found.outcome.draws, 0.05) <= found.outcome.prediction
    assert found.outcome.prediction <= np.quantile(found.outcome.draws, 0.95) <= high
    assert {band.modality for band in found.bands} == {"audio", "vision"}
    assert len(found.bands) == 5
    own = pipeline(dataclasses.replace(request_, draws=6))
    names = list(pipeline.data.feature_names["audio"])
    pitch = own.readable_draws["audio"][..., names.index("log_f0")]
    np.testing.assert_allclose(found.bands[0].middle, np.median(pitch, axis=0))
    for band in found.bands:
        assert (band.low <= band.middle).all()
        assert (band.middle <= band.high).all()
    np.testing.assert_array_equal(found.bands[0].truth, request_.clip.features["audio"][:, names.index("log_f0")])


def test_the_cost_of_a_comparison_is_what_it_evaluates(pipeline, request_) -> None:
    for what in ("patterns", "guidance", "fan"):
        items = finished(getattr(compare, what)(pipeline, request_))
        made = sum((one.outcome if isinstance(one, Fan) else one).nfe for one in items)
        assert compare.cost(pipeline, request_, what) == made
    assert isinstance(finished(compare.patterns(pipeline, request_))[0], Outcome)
