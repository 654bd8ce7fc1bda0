"""`train --model NAME`: every baseline end to end, an interruption that changes nothing, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from imder import RecoveryPipeline, hub
from imder.__main__ import main
from imder.baselines import BASELINES
from imder.data.clip import Clip
from imder.data.dataset import FeatureSet, write_feature_set
from imder.modality import PATTERNS, symbols
from imder.training import run as module
from imder.training.baseline import bench_of, judged
from imder.training.config import QUICK, BaselineTraining, TrainingConfig, recipe_from_json
from imder.training.loop import Interrupted
from imder.training.run import train

WIDTHS = {"text": 5, "audio": 4, "vision": 6}
SMALL = {
    "mmin": {"hidden": 8, "blocks": 2, "wide": 12, "middle": 8, "code": 4},
    "gcnet": {"hidden": 6, "window": 1},
    "dropout-fusion": {"layers": 1},
    "subset": {"layers": 1},
}
#: IMDer with the fusion's published width and one layer of everything.
TINY = {"fusion_layers": 1, "condition_layers": 1, "reconstruction_blocks": 1, "steps": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clips whose sentiment stands in every modality."""
    rng = np.random.default_rng(0)

    def clips(split, count):
        made = []
        for i in range(count):
            frames, label = 8 if i % 3 else 6, float(rng.uniform(-3, 3))
            features = {k: rng.normal(label / 2, 0.5, size=(frames, w)).astype("f4") for k, w in WIDTHS.items()}
            made.append(Clip(f"{split}{i // 4}$_${i % 4}", f"{split}{i // 4}", i % 4, "words", features, label))
        return made

    splits = {"train": clips("a", 64), "valid": clips("b", 16), "test": clips("c", 16)}
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_feature_set(folder, splits, name="tiny", title="Tiny", label={"name": "sentiment", "range": [-3, 3]})
    return folder


def recipe(model, **changes):
    return BaselineTraining(
        model=model, **({"epochs": 4, "least": 60, "batch": 16, "lr": 3e-3, "workers": 0} | changes)
    )


@pytest.mark.parametrize("model", BASELINES)
def test_every_baseline_learns_and_is_saved(model, data, tmp_path):
    changes = {
        "mmin": {"lr": 1e-2, "least": 120},
        "gcnet": {"lr": 1e-2, "least": 120, "batch": 4},
        "subset": {"epochs": 2, "least": 30},
    }.get(model, {})
    metrics = train(data, tmp_path / "run", recipe(model, **changes), model=SMALL[model], half=True)
    run = hub.load_run(tmp_path / "run")
    assert run.kind == model
    assert isinstance(run.model, BASELINES[model][0])
    assert run.metrics == json.loads(json.dumps(metrics))
    assert metrics["mae"]["complete"] < 1.1  # always saying the mean: 1.5
    assert set(metrics["mae_by_pattern"]) == {symbols(p) for p in PATTERNS[:-1]}
    assert sum(p.numel() for p in run.model.parameters()) == metrics["parameters"]
    # what is measured is what was saved, up to half precision
    bench = bench_of(FeatureSet.open(data), recipe(model), SMALL[model], tmp_path)
    again = judged(bench, run.model, PATTERNS)
    assert again["mae.LAV"] == pytest.approx(metrics["mae"]["complete"], abs=0.02)
    card = (tmp_path / "run" / hub.CARD).read_text()
    assert BASELINES[model][0].about in card
    with pytest.raises(ValueError, match=f"kind '{model}'; a recovery needs one of IMDer"):
        RecoveryPipeline(run)


@pytest.mark.parametrize("model", ["dropout-fusion", "subset"])
def test_networks_start_from_imder_and_keep_its_encoders(model, data, tmp_path):
    feature_set = FeatureSet.open(data)
    config = TrainingConfig(preset="corrected", workers=0, **QUICK | {"score_updates": 2, "least": 2, "score_valid": 1})
    train(data, tmp_path / "imder", config, model=TINY)
    origin = hub.load_run(tmp_path / "imder").model
    changes = {"lr": 1e-3, "epochs": 1, "least": 3, "encoder_share": 0.0}
    train(data, tmp_path / "run", recipe(model, **changes), model={"layers": 1}, start=str(tmp_path / "imder"))
    run = hub.load_run(tmp_path / "run")
    assert run.info["training"]["from"]["run"] == "imder"
    networks = run.model.networks.values() if model == "subset" else [run.model.network]
    for network in networks:
        for k, conv in network.encoders.items():
            assert torch.equal(conv.weight, origin.encoders[k].weight)
    moved = [not torch.equal(network.fusion.out.weight, origin.fusion.out.weight) for network in networks]
    assert any(moved)  # the best weights may be those before the first update, but not of all
    assert feature_set.fingerprint == run.info["data"]["fingerprint"]
    with pytest.raises(ValueError, match="has other sizes"):
        train(data, tmp_path / "wide", recipe(model, **changes), model={"layers": 2}, start=str(tmp_path / "imder"))


@pytest.mark.parametrize("model", ["mmin", "gcnet"])
def test_an_interruption_changes_nothing(model, data, tmp_path, monkeypatch):
    config = recipe(model, least=24, epochs=2, batch=4)
    train(data, tmp_path / "whole", config, model=SMALL[model])
    calls = 0

    def run(bench, name, reporter):
        def stopping():
            nonlocal calls
            calls += 1
            return calls % 9 == 0

        module_run(bench, name, type(reporter)(reporter.tell, stopping))

    module_run = module.run
    monkeypatch.setattr(module, "run", run)
    stops = 0
    for _ in range(40):
        try:
            train(data, tmp_path / "parts", config, model=SMALL[model])
            break
        except Interrupted:
            stops += 1
    assert stops >= 2
    whole, parts = (hub.load_run(tmp_path / name).model.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_mmins_teacher_stays_as_it_was(data, tmp_path):
    config = recipe("mmin", least=10, epochs=1)
    bench = bench_of(FeatureSet.open(data), config, SMALL["mmin"], tmp_path / "bench")
    train(data, tmp_path / "run", config, model=SMALL["mmin"])
    first = bench.network().teacher.state_dict()
    last = hub.load_run(tmp_path / "run").model.teacher.state_dict()
    assert any(not torch.equal(first[name], last[name]) for name in first)  # the teacher's own job
    rows = [json.loads(line) for line in (tmp_path / "run" / hub.LOG).read_text().splitlines()]
    assert [row["job"] for row in rows] == sorted((row["job"] for row in rows), key=["teacher", "student"].index)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "lstm"], "model: 'lstm' is unknown; allowed: imder, mmin, gcnet, dropout-fusion, subset"),
        (["--model", "gcnet", "--score-updates", "5"], "--score-updates is no setting of the model 'gcnet'"),
        (["--epochs", "5"], "--epochs is no setting of the model 'imder'"),
        (["--model", "mmin", "--preset", "paper"], "--preset is no setting of the model 'mmin'"),
        (["--model", "mmin", "--epochs", "0"], "epochs: 0 is not allowed"),
        (["--model", "gcnet", "--set", '{"window": 0}'], "window: 0 is not allowed"),
        (["--model", "gcnet", "--set", '{"depth": 3}'], "set: the model 'gcnet' does not know this"),
        (["--model", "mmin", "--from", "bundled"], "the model 'mmin' does not start from a run of 'imder'"),
        (["--model", "subset", "--from", "bundled"], "was trained on"),
        (["--model", "mmin", "--encoder-share", "0.5"], "encoder-share: 0.5 is not allowed for 'mmin'"),
        (["--model", "subset", "--encoder-share", "0"], "encoder-share: 0 is not allowed without --from"),
    ],
)
def test_what_is_refused(flags, said, data, tmp_path, capsys):
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "run"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / hub.CONFIG).exists()


def test_a_recipe_comes_back_from_its_plan():
    for config in (TrainingConfig(preset="paper"), BaselineTraining(model="gcnet", epochs=3)):
        assert recipe_from_json(json.loads(json.dumps(dataclasses.asdict(config)))) == config
