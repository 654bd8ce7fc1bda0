"""Labels that are classes: loss, metrics, probe, training, evaluation, recovery and report, on a corpus whose classes
are known to lie in voice and face and not in language."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from imder import hub
from imder.__main__ import main
from imder.data.clip import Clip
from imder.data.dataset import FeatureSet, write_feature_set
from imder.evaluation import metrics
from imder.evaluation.evaluate import RecoveryStudy
from imder.evaluation.predictions import read_predictions
from imder.evaluation.probe import Probe, pooled
from imder.evaluation.rows import MasksFile, read_rows
from imder.evaluation.significance import bootstrap, paired_bootstrap
from imder.evaluation.study import EvaluationConfig
from imder.modality import MODALITIES
from imder.model.task import figures, outcome, task_loss
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.report.known import KNOWN, RAVDESS
from imder.report.real import confusions
from imder.report.results import read_results
from imder.training import TrainingConfig, train
from imder.training.config import QUICK, BaselineTraining
from imder.ui.shelf import open_pipeline

CLASSES = RAVDESS.classes[:3]
WIDTHS = {"text": 7, "audio": 5, "vision": 6}
TINY = {
    "channels": (8, 8, 8, 8), "latent_channels": 8, "heads": 2, "embedding_dim": 16, "fusion_layers": 1,
    "reconstruction_channels": 16, "reconstruction_blocks": 2, "steps": 4,
}  # fmt: skip
RECIPE = TrainingConfig(
    **QUICK | {"least": 45, "score_updates": 90, "score_valid": 45, "batch": 16, "workers": 0, "ema": 0.9}
)


def make_clips(split: str, count: int, rng: np.random.Generator) -> list[Clip]:
    """Three classes by turns, each a direction of voice and of face; language is noise."""
    signal = np.random.default_rng(1)
    means = {k: signal.normal(size=(3, width)) * 1.5 for k, width in WIDTHS.items() if k != "text"}
    clips = []
    for i in range(count):
        frames, c = 14 if i % 4 else 11, i % 3
        x = {k: rng.normal(size=(frames, width)) + (means[k][c] if k in means else 0) for k, width in WIDTHS.items()}
        features = {k: v.astype(np.float32) for k, v in x.items()}
        clips.append(Clip(f"{split}{i // 3}$_${i}", f"{split}{i // 3}", i, "the sentence", features, float(c)))
    return clips


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The data set, under the name of one that the report knows, and a run of it."""
    torch.set_num_threads(1)
    folder, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    splits = {split: make_clips(split, n, rng) for split, n in (("train", 96), ("valid", 24), ("test", 36))}
    label = {"name": "emotion", "range": [0, 2], "classes": list(CLASSES)}
    write_feature_set(folder / "data", splits, name=RAVDESS.name, title="Three classes", label=label, synthetic=True)
    train(folder / "data", folder / "run", RECIPE, model=TINY)
    return folder


@pytest.fixture(scope="module")
def rows(home):
    methods = ["imder", "unconditional", "shuffled", "mean", "zero"]
    out = home / "rows.jsonl"
    flags = ["--run", str(home / "run"), "--data", str(home / "data"), "--out", str(out), "--workers", "1"]
    assert main(["evaluate", *flags, "--draws", "4", "--methods", *methods]) == 0
    return read_rows(out, print)


def value(rows, **wanted):
    found = [row["value"] for row in rows if all(row[key] == one for key, one in wanted.items())]
    assert len(found) == 1, (wanted, found)
    return found[0]


# Loss and metrics ----------------------------------------------------------------------------------------------------


def test_one_output_is_a_sentiment_and_several_are_classes():
    g = torch.Generator().manual_seed(0)
    value, label = torch.randn(9, 1, generator=g), torch.randn(9, generator=g)
    assert torch.equal(task_loss(value, label), (value[:, 0] - label).abs())
    assert torch.equal(outcome(value), value[:, 0])
    scores, classes = torch.randn(9, 4, generator=g), torch.tensor([0.0, 1, 2, 3, 0, 1, 2, 3, 0])
    p = outcome(scores)
    assert torch.allclose(p.sum(1), torch.ones(9))
    assert torch.allclose(task_loss(scores, classes), -p[torch.arange(9), classes.long()].log(), atol=1e-6)
    found = figures(p, classes)
    assert found["log_loss"] == pytest.approx(float(task_loss(scores, classes).mean()), rel=1e-5)
    assert found["accuracy"] == pytest.approx(accuracy_score(classes.numpy(), p.argmax(1).numpy()))


@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    t, p = rng.integers(0, 5, 40), rng.integers(0, 4 + seed % 2, 40)  # a class may be never predicted
    found = {name: figure.value for name, figure in metrics.class_figures(p, t).items()}
    assert found == {
        "accuracy": accuracy_score(t, p),
        "f1_weighted": f1_score(t, p, average="weighted", zero_division=0),
        "f1_macro": f1_score(t, p, average="macro", zero_division=0),
    }
    assert tuple(found) == metrics.metric_names("classes")
    assert (metrics.confusion(p, t, 6) == confusion_matrix(t, p, labels=range(6))).all()
    probabilities = np.eye(5)[p] * 0.5 + 0.1
    assert metrics.figures(probabilities, t, "classes") == metrics.class_figures(p, t)
    for name, one in found.items():
        assert bootstrap(p, t, name, resamples=2, scale="classes").value == pytest.approx(one)


def test_the_bootstrap_takes_f1_of_each_resample():
    rng = np.random.default_rng(0)
    t, p, videos = rng.integers(0, 3, 30), rng.integers(0, 3, 30), np.repeat(np.arange(10), 3)
    found = bootstrap(p, t, "f1_macro", videos, resamples=150, seed=3, scale="classes")
    again = []
    for times in np.random.default_rng(3).multinomial(10, np.full(10, 0.1), size=150):
        rows = np.concatenate([np.repeat(np.flatnonzero(videos == v), n) for v, n in enumerate(times)]).astype(int)
        again.append(f1_score(t[rows], p[rows], average="macro", zero_division=0))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])))
    assert paired_bootstrap(t, p, t, "accuracy", videos, 50, scale="classes").better == 1


def test_what_is_no_class_is_refused():
    for prediction, truth, said in (
        ([0.5], [0], "0.5 is no index"),
        ([0], [np.nan], "not finite"),
        ([0], [0, 1], "(1,)"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            metrics.class_figures(prediction, truth)
    with pytest.raises(ValueError, match="from 0 to 1 are allowed"):
        metrics.confusion([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="is none of sentiments"):
        metrics.sentiment_figures([0.0], [0.0], "classes")
    with pytest.raises(ValueError, match="'mae' is not defined on the scale 'classes'"):
        bootstrap([0], [0], "mae", scale="classes")
    with pytest.raises(ValueError, match="'accuracy' is not defined on the scale 'mosi'"):
        bootstrap([0], [0], "accuracy")


def test_the_probe_reads_classes_and_nothing_out_of_noise():
    rng = np.random.default_rng(0)
    label = np.arange(120) % 4
    valid = np.ones((120, 9), bool)
    valid[::2, 6:] = False
    means = rng.normal(size=(4, 8)) * 2
    z = (means[label][:, :, None] + rng.normal(size=(120, 8, 9))) * valid[:, None]
    probe = Probe.fit((z[:80], valid[:80], label[:80]), (z[80:], valid[80:], label[80:]))
    assert (probe(z[80:], valid[80:]) == label[80:]).mean() > 0.95
    noise = rng.normal(size=z.shape) * valid[:, None]
    assert (probe(noise, valid) == label).mean() < 0.45
    assert np.allclose(pooled(z, valid)[0, :8], z[0, :, :6].mean(1))
    assert np.allclose(pooled(z, valid)[0, 8:], z[0, :, :6].std(1))


# Training ------------------------------------------------------------------------------------------------------------


def test_a_run_learns_classes_and_says_so(home):
    run = hub.load_run(home / "run")
    assert run.model.config.outputs == 3
    assert run.info["data"]["label_classes"] == list(CLASSES)
    told = run.metrics
    assert told["accuracy"]["complete"] > 0.8  # chance is a third
    assert "mae" not in told
    assert {"recovered", "zero"} == set(told["accuracy_by_pattern"]["LA"])
    assert 0 < told["log_loss"]["complete"] < np.log(3)
    card = (home / "run" / hub.CARD).read_text(encoding="utf-8")
    assert (
        "| available | log loss, recovered | log loss, zero fill | accuracy, recovered | accuracy, zero fill |" in card
    )
    assert "predicts its emotion" in card
    assert "| classes | neutral, calm, happy |" in card
    log = [json.loads(line) for line in (home / "run" / hub.LOG).read_text().splitlines()]
    assert {"log_loss", "accuracy", "log_loss.LA"} <= set(next(row for row in log if row["job"] == "recover")["valid"])


def test_outputs_that_do_not_fit_the_label_are_refused(home, tmp_path):
    with pytest.raises(ValueError, match="outputs: 1 is not allowed; 3 classes need 3"):
        train(home / "data", tmp_path / "run", RECIPE, model=TINY | {"outputs": 1})
    with pytest.raises(ValueError, match="outputs: 2 is not allowed; a sentiment needs 1"):
        train("bundled", tmp_path / "other", dataclasses.replace(RECIPE, limit=4), model=TINY | {"outputs": 2})


def test_a_run_whose_classes_and_outputs_disagree_is_refused(home, tmp_path):
    run = hub.load_run(home / "run")
    for classes in (["calm", "sad"], "three", [1, 2, 3]):
        info = run.info["data"] | {"label_classes": classes}
        with pytest.raises(hub.RunError, match=r"outputs: 3 is not allowed; 2 classes|data\.label_classes is"):
            hub.save_run(tmp_path / "run", run.model, run.standardiser, info, {"seed": 0})


@pytest.mark.parametrize("kind", ["dropout-fusion", "mmin"])
def test_the_other_models_learn_classes_too(home, tmp_path, kind):
    config = BaselineTraining(model=kind, epochs=2, least=40, batch=16, workers=0, lr=3e-3)
    measured = train(home / "data", tmp_path / "run", config)
    assert measured["accuracy"]["complete"] > 0.5
    flags = ["--run", str(tmp_path / "run"), "--data", str(home / "data"), "--out", str(tmp_path / "rows.jsonl")]
    assert main(["evaluate", *flags, "--workers", "1"]) == 0
    found = read_rows(tmp_path / "rows.jsonl", print)
    assert {row["metric"] for row in found} == set(metrics.CLASS_METRICS)
    assert value(found, available=list(MODALITIES), metric="accuracy") > 0.5


# Evaluation ----------------------------------------------------------------------------------------------------------


def test_rows_hold_class_metrics_and_predictions_the_class(home, rows):
    for entry in read_predictions(home / "rows.jsonl", pytest.fail):
        assert set(entry.prediction) <= {0, 1, 2}
        where = {"method": entry.method, "available": list(entry.available), "draws": entry.draws}
        made = metrics.class_figures(entry.prediction, entry.clips.label)
        for name, figure in made.items():
            found = value(rows, metric=name, refined=entry.refined, **where)
            assert found == pytest.approx(figure.value, abs=1e-6)
    assert not any(row["metric"] in ("mae", "corr", "acc2") for row in rows)


def test_what_is_recovered_tells_the_class_only_where_it_was_given(rows):
    def read(method, available, k, draws=4):
        where = {"method": method, "available": list(available), "modality": k, "draws": draws, "refined": False}
        return value(rows, metric="probe_accuracy", **where)

    def error(method, available, k):
        where = {"method": method, "available": list(available), "modality": k, "draws": 1, "refined": False}
        return value(rows, metric="feature_error", **where)

    for k, other in (("audio", "vision"), ("vision", "audio")):
        real = value(rows, method="real", metric="probe_accuracy", modality=k)
        assert real > 0.9
        assert read("imder", (other,), k) > 0.6  # of the class's own voice and face
        assert read("imder", ("text",), k) < 0.6  # language knows nothing
        assert read("shuffled", (other,), k) < 0.6
        assert error("imder", (other,), k) < error("shuffled", (other,), k)
        assert read("mean", (other,), k, draws=1) == pytest.approx(1 / 3)


def test_given_another_clip_nothing_of_the_own_is_read(home):
    run, data = hub.load_run(home / "run"), FeatureSet.open(home / "data")
    study = RecoveryStudy(
        run, data, EvaluationConfig(methods=("shuffled",), draws=(1,)), "run", MasksFile(home / "none")
    )
    cell = next(cell for cell in study.cells if cell.available == ("vision",))
    rows = torch.arange(len(study.clips))
    before = study.outcome(cell).values[1, False]["audio"]
    with torch.no_grad():
        study.clips.latents["vision"][5] += 3.0
    after = study.outcome(cell).values[1, False]["audio"]
    changed = (before - after).abs().amax(dim=(1, 2)) > 1e-4
    assert int(changed.sum()) == 1  # whoever was given clip 5
    assert not changed[5]
    partners = study._partners(0, rows, study.clips.take(rows))
    same = [torch.equal(partners.latents["vision"][i], study.clips.latents["vision"][i]) for i in rows.tolist()]
    assert not any(same)
    assert all(cell.method == "shuffled" for cell in study.cells)
    others = RecoveryStudy(run, data, EvaluationConfig(), "run", MasksFile(home / "none"))
    assert "shuffled" not in others.methods  # a control is measured where it is asked for


def test_a_run_is_not_judged_on_labels_of_another_kind(home, tmp_path):
    clips = {"test": [dataclasses.replace(clip, label=0.5) for clip in FeatureSet.open(home / "data").split("test")]}
    label = {"name": "sentiment", "range": [-3, 3]}
    data = write_feature_set(tmp_path / "data", clips, name="other", title="Other", label=label)
    run = hub.load_run(home / "run")
    with pytest.raises(ValueError, match="predicts classes neutral, calm, happy; the label of 'other' is a sentiment"):
        RecoveryStudy(run, data, EvaluationConfig(), "run", MasksFile(tmp_path / "rows"))
    with pytest.raises(ValueError, match="the label of the data set 'other' is a sentiment"):
        RecoveryPipeline(run, data)


# Recovery, page, report ----------------------------------------------------------------------------------------------


def test_a_recovery_predicts_probabilities(home):
    pipeline = RecoveryPipeline.from_pretrained(home / "run", data=home / "data")
    assert pipeline.classes == CLASSES
    clip = pipeline.data.split("test")[1]
    start, *chunks, last = pipeline.stream(RecoveryRequest(clip, ("vision",), draws=3), interval=0)
    assert last.classes == start.classes == CLASSES
    assert last.interval is None
    assert last.draws.shape == (3, 3)
    for told in (
        *last.draws,
        *(last.predictions[name] for name in ("complete", "zero", "recovered")),
        *chunks[-1].prediction,
    ):
        assert told.shape == (3,)
        assert told.sum() == pytest.approx(1, abs=1e-5)
    assert last.predictions["recovered"] == pytest.approx(last.draws.mean(0))
    assert int(last.predictions["complete"].argmax()) == last.predictions["label"] == clip.label


def test_the_page_opens_a_run_of_classes(home):
    assert open_pipeline(str(home / "run"), str(home / "data")).classes == CLASSES


def test_the_log_has_a_part_for_a_known_real_data_set(home, rows, capsys):
    table = home / "rows.jsonl"
    assert main(["evaluate", "--table", str(table)]) == 0
    assert "**Class read out of what was recovered**" in capsys.readouterr().out
    assert main(["report", str(table), "--format", "log"]) == 0
    said = capsys.readouterr().out
    assert f"## {RAVDESS.title}" in said
    assert all(line in said for line in (*RAVDESS.can, *RAVDESS.cannot, *RAVDESS.commands))
    assert "**accuracy / F1 weighted / F1 unweighted by what is available (fixed missing)**" in said
    assert "**Difference to IMDer: accuracy, points (fixed missing)**" in said
    assert "| given another clip |" in said
    assert "kNN" not in said  # not measured: no column of dashes
    methods = "imder unconditional shuffled mean zero"
    assert f"--methods {methods} --draws 4 --sampler dpmpp-2m --steps 4 --seeds 1 --out {table}" in said
    (panel,) = read_results([table], pytest.fail)
    entry = next(e for (c, p, _), e in panel.entries.items() if c.method == "imder" and p == ("vision",))
    matrix = next(one for one in confusions(panel, KNOWN[RAVDESS.name]) if one.title.endswith("face alone"))
    counts = [[int(cell[0].text) for cell in line[1:4]] for line in matrix.body[:3]]
    assert counts == confusion_matrix(entry.clips.label, entry.prediction, labels=range(3)).tolist()


def test_ravdess_keeps_actors_apart(shared, tmp_path):
    source = shared / "data" / "ravdess_actors1_20.npz"
    assert main(["data", "convert", str(source), "--out", str(tmp_path / "data")]) == 0
    data = FeatureSet.open(tmp_path / "data")
    assert (data.name, data.label_classes) == (RAVDESS.name, RAVDESS.classes)
    actors = [{clip.extra["actor"] for clip in data.split(split)} for split in data.splits]
    assert [len(own) for own in actors] == [14, 2, 4]
    assert len(set.union(*actors)) == 20
    assert len(data.videos("test")) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"range": [0, 7]}, r"expected \[0, 2\]"),
        ({"classes": ["calm", "calm", "sad"]}, "names that differ"),
        ({"classes": ["calm", "", "sad"]}, "names that differ"),
        ({"classes": ["calm"]}, r"expected \[0, 0\]"),
    ],
)
def test_a_label_whose_classes_do_not_fit_is_refused(home, tmp_path, change, told):
    clips = {"test": list(FeatureSet.open(home / "data").split("test"))}
    label = {"name": "emotion", "range": [0, 2], "classes": list(CLASSES)} | change
    with pytest.raises(ValueError, match=told):
        write_feature_set(tmp_path / "data", clips, name="other", title="Other", label=label)
    good = label | {"range": [0, 2], "classes": list(CLASSES)}
    clips["test"][0] = dataclasses.replace(clips["test"][0], label=0.5)
    with pytest.raises(ValueError, match=r"label 0\.5 of .* is no index of a class"):
        write_feature_set(tmp_path / "data", clips, name="o", title="O", label=good)
