"""The trained models of this repository: what they promise of each other."""

from __future__ import annotations

import pytest
import torch

from imder import FeatureSet, RecoveryPipeline, RecoveryRequest, hub
from imder.baselines import BASELINES
from imder.data.clip import collate
from imder.modality import MODALITIES
from imder.training.config import BASELINE_DEFAULTS
from imder.ui.shelf import bundled_models, bundled_runs

FOLDER = hub.BUNDLED.parent
NAMES = ("corrected", "official", "paper")


@pytest.fixture(scope="module")
def runs():
    return {name: hub.load_run(FOLDER / name) for name in NAMES}


def test_all_presets_and_baselines_are_there_under_their_names(runs):
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == {*NAMES, *BASELINES}
    assert {name: run.model.config.preset for name, run in runs.items()} == {name: name for name in NAMES}


def test_the_page_offers_those_that_recover():
    assert list(bundled_models()) == ["corrected", "official", "paper"]
    assert set(bundled_runs()) == {*NAMES, *BASELINES}


@pytest.mark.parametrize("name", BASELINES)
def test_each_baseline_predicts_better_than_chance(name):
    run, data = hub.load_run(FOLDER / name), FeatureSet.open("bundled")
    assert run.kind == name
    assert run.info["data"]["fingerprint"] == data.fingerprint
    assert run.info["training"]["command"] == (
        f"python -m imder train --data bundled --out checkpoints/{name} --model {name} --half"
    )
    defaults = BASELINE_DEFAULTS[name]
    assert {key: run.info["training"]["config"][key] for key in defaults} == defaults
    clips = data.split("valid")[:60]
    batch = run.standardiser.apply(collate(clips))
    for available in (torch.ones(60, 3, dtype=torch.bool), torch.tensor([[True, False, False]]).expand(60, -1)):
        with torch.no_grad():
            value = run.model(batch, available).value[:, 0]
        assert (value - batch.label).abs().mean() < 0.8 * (batch.label - batch.label.median()).abs().mean()


def test_they_share_data_and_encoders_and_were_trained_alike(runs):
    ours = runs["corrected"]
    for run in runs.values():
        assert run.info["data"]["fingerprint"] == FeatureSet.open("bundled").fingerprint
        for k in MODALITIES:
            assert torch.equal(run.model.encoders[k].weight, ours.model.encoders[k].weight)
        for field in ("seed", "batch", "score_updates", "score_lr", "ema", "recover_epochs"):
            assert run.info["training"]["config"][field] == ours.info["training"]["config"][field]


@pytest.mark.parametrize("name", NAMES)
def test_each_recovers_and_predicts(runs, name):
    pipeline = RecoveryPipeline(runs[name], data=FeatureSet.open("bundled"))
    clip = FeatureSet.open("bundled").split("test")[0]
    recovery = pipeline(RecoveryRequest(clip, ("text",), steps=20, draws=2))
    for k in ("audio", "vision"):
        assert recovery.reconstructed[k].shape == (2, 32, 48)
        assert recovery.feature_error[k]["draw_refined"] < 3  # D_k brings even noise near (a mean is 1)
    assert abs(recovery.predictions["recovered"]) < 3.5
