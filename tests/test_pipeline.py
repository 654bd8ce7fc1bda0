"""The pipeline: determinism, what a stream carries, and what a request refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from imder import hub
from imder.data import FeatureSet
from imder.data.clip import Word
from imder.interpret import nearest_words
from imder.modality import PATTERNS, missing
from imder.model import IMDer, ModelConfig
from imder.pipeline import Recovery, RecoveryChunk, RecoveryPipeline, RecoveryRequest, RecoveryStart


@pytest.fixture(scope="module")
def pipeline() -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained()


@pytest.fixture(scope="module")
def clip(pipeline):
    return pipeline.data.split("test")[3]


@pytest.mark.parametrize("available", PATTERNS[:6])
def test_the_same_request_gives_the_same_numbers(pipeline, clip, available):
    request = RecoveryRequest(clip, available, steps=4, seed=11, draws=3)
    first, second = pipeline(request), pipeline(request)
    for k in missing(available):
        assert np.array_equal(first.latents[k], second.latents[k])
    assert np.array_equal(first.draws, second.draws)
    assert first.predictions == second.predictions


def test_a_draw_does_not_depend_on_how_many_are_drawn(pipeline, clip):
    one = pipeline(RecoveryRequest(clip, ("text",), steps=5, draws=1))
    many = pipeline(RecoveryRequest(clip, ("text",), steps=5, draws=6))
    for k in ("audio", "vision"):
        np.testing.assert_allclose(one.latents[k][0], many.latents[k][0], rtol=1e-3, atol=1e-4)
        assert not np.allclose(many.latents[k][0], many.latents[k][1], atol=0.1)
    assert one.draws[0] == pytest.approx(many.draws[0], abs=1e-3)


def test_a_recovery_does_not_read_what_is_missing(pipeline, clip):
    other = dataclasses.replace(clip, features=clip.features | {"vision": clip.features["vision"] * 0 + 1.5})
    request = RecoveryRequest(clip, ("text", "audio"), steps=4, draws=2)
    first, second = pipeline(request), pipeline(dataclasses.replace(request, clip=other))
    assert np.array_equal(first.latents["vision"], second.latents["vision"])
    assert first.predictions["recovered"] == second.predictions["recovered"]
    assert first.predictions["complete"] != second.predictions["complete"]


def test_the_stream_holds_every_step_once_and_ends_in_the_result(pipeline, clip):
    request = RecoveryRequest(clip, ("audio",), sampler="euler-maruyama", steps=150, draws=2, displayed=40)
    start, *chunks, result = list(pipeline.stream(request, interval=0.0))
    assert isinstance(start, RecoveryStart)
    assert isinstance(result, Recovery)
    assert all(isinstance(c, RecoveryChunk) for c in chunks)
    steps = np.concatenate([c.step for c in chunks])
    assert len(chunks[0].step) == 1
    assert [c.first for c in chunks] == np.cumsum([0] + [len(c.step) for c in chunks[:-1]]).tolist()
    assert steps[0] == 0
    assert steps[-1] == start.steps == 300  # two modalities, 150 steps each, one after the other
    assert result.steps == 150
    assert len(steps) == 40
    falls = np.diff(np.concatenate([c.std for c in chunks])) < 0
    assert (~falls).sum() == 1  # where the second begins
    assert (np.diff(np.concatenate([c.nfe for c in chunks])) >= 0).all()
    assert chunks[-1].nfe[-1] == result.nfe == start.nfe_total == 300
    for k in ("text", "vision"):
        np.testing.assert_allclose(chunks[-1].state[k][-1], result.latents[k][0], atol=1e-5)
        assert chunks[-1].error[k][-1] == pytest.approx(result.feature_error[k]["draw"], rel=1e-4)
        assert np.array_equal(start.truth[k].shape, result.latents[k][0].shape)
        assert chunks[0].path_state[k].shape == (1, 2)
    assert result.predictions["recovered"] == pytest.approx(result.draws.mean(), rel=1e-5)
    low, high = np.quantile(result.draws, [0.05, 0.95])
    margin = pipeline.model.config.margin(("audio",), 2)
    assert result.interval == pytest.approx((low - margin, high + margin), rel=1e-4)


def test_noise_leaves_step_by_step(pipeline, clip):
    _, *chunks, _ = list(pipeline.stream(RecoveryRequest(clip, ("text", "audio")), interval=0.0))
    error = np.concatenate([c.state["vision"] for c in chunks])
    size = np.abs(error).mean(axis=(1, 2))
    assert size[0] > 20 * size[-1]


def test_a_mean_of_draws_is_nearer_than_a_draw(pipeline):
    errors = [
        pipeline(RecoveryRequest(c, ("audio", "vision"), draws=8)).feature_error["text"]
        for c in list(pipeline.data.split("test"))[:6]
    ]
    assert np.mean([e["mean"] for e in errors]) < 0.8 * np.mean([e["draw"] for e in errors])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"available": ()}, "one or two"),
        ({"available": ("text", "audio", "vision")}, "one or two"),
        ({"available": ("smell",)}, "'smell' is not a modality"),
        ({"steps": 0}, "steps: 0"),
        ({"steps": 10**6}, "steps: 1000000"),
        ({"steps": 2.5}, "steps: 2.5"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": 2**31}, "seed: 2147483648"),
        ({"seed": True}, "seed: True"),
        ({"draws": 65}, "draws: 65"),
        ({"guidance": math.nan}, "guidance: nan"),
        ({"guidance": math.inf}, "guidance: inf"),
        ({"sampler": "ddim"}, "'ddim' is unknown"),
    ],
)
def test_a_request_refuses_by_name_and_value(clip, change, said):
    with pytest.raises(ValueError, match=said):
        RecoveryRequest(**({"clip": clip, "available": ("text",)} | change))


def test_a_run_for_other_widths_names_both(pipeline):
    config = ModelConfig.from_preset("corrected", {"text": 3, "audio": 4, "vision": 5}, fusion_layers=1)
    run = hub.Run(IMDer(config), pipeline.run.standardiser, {}, pipeline.run.folder, "elsewhere")
    with pytest.raises(ValueError, match=r"'text': 3.*'text': 64"):
        RecoveryPipeline(run, FeatureSet.open("bundled"))


def test_a_faulty_remote_leaves_the_bundled_model_and_says_so(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline = RecoveryPipeline.from_pretrained("nobody/nothing-here")
    assert "nobody/nothing-here" in pipeline.notice
    assert "\n" not in pipeline.notice


def test_a_library_user_needs_no_data_set(clip):
    pipeline = RecoveryPipeline.from_pretrained(data=None)
    result = pipeline(RecoveryRequest(clip, ("text", "audio"), steps=2, draws=1))
    assert result.latents["vision"].shape == (1, 32, 48)


def test_nearest_words_count_the_draws():
    vectors = np.eye(3, dtype=np.float32)
    draws = np.stack([np.repeat(vectors[[0, 1]], 5, axis=0), np.repeat(vectors[[0, 2]], 5, axis=0)])  # (2, 10, 3)
    words = nearest_words(draws, (Word("a", 0.0, 0.5), Word("b", 0.5, 1.0)), (["a", "b", "c"], vectors))
    assert words == [[("a", 1.0)], [("b", 0.5), ("c", 0.5)]]


def test_the_bundled_models_draws_see_what_was_observed(pipeline):
    """Conditional draws are nearer to the truth than unconditional ones, and recovery beats zero fill (12 clips)."""
    clips = pipeline.data.split("test")
    chosen = [clips[i] for i in range(0, len(clips), len(clips) // 12)][:12]
    for available in (("text", "audio"), ("vision",)):
        found = {w: [pipeline(RecoveryRequest(c, available, draws=4, guidance=w)) for c in chosen] for w in (0.0, 1.0)}
        for k in missing(available):
            seen, blind = (np.mean([r.feature_error[k]["draw"] for r in found[w]]) for w in (1.0, 0.0))
            assert seen < 0.95 * blind
        recovered, zero = (
            np.mean([abs(r.predictions[kind] - r.predictions["label"]) for r in found[1.0]])
            for kind in ("recovered", "zero")
        )
        assert recovered < zero
