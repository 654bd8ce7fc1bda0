"""Tuning an encoder: it learns, only where it is asked to, at its own rate, the same twice, also after a stop."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bert_files import opened, tiny_bert
from fake_hub import FakeHub
from safetensors.numpy import load_file
from torch import nn

from imder.__main__ import main
from imder.data import Clip, FeatureSet, write_feature_set
from imder.data.encode import encode
from imder.data.encoder import Encoder, open_encoder
from imder.data.frames import read_texts
from imder.data.remote import files_of
from imder.data.sentence import sentences
from imder.training import tune as tuning
from imder.training.checkpoint import Checkpoints
from imder.training.loop import Interrupted, Job, Reporter, fit
from imder.training.stages import Bench
from imder.training.tune import Texts, TuneBench, TuneConfig, probe, tune

pytest.importorskip("transformers", reason="transformers is in requirements-extract.txt")
SCORES = {"one": 1.0, "two": -1.0, "three": 0.5, "four": -0.5, "says": 0.0, "naive": 0.0}
LABEL = {"name": "sentiment", "range": [-3, 3]}
#: Short, and with rates that let a BERT of random weights learn at once.
SHORT = TuneConfig(head_epochs=1, epochs=4, batch=8, encoder_lr=3e-3, lr=1e-3, patience=0)


def make_set(folder: Path, *, label=LABEL, turn: float = 1.0, unaligned: bool = False) -> FeatureSet:
    """Clips whose label is the sum of what their words score; `turn` multiplies the test split's."""
    rng, splits = np.random.default_rng(0), {}
    for split, n in (("train", 40), ("valid", 12), ("test", 8)):
        splits[split] = []
        for i in range(n):
            words = rng.choice(list(SCORES), rng.integers(2, 6)).tolist()
            value = float(np.clip(sum(SCORES[word] for word in words), -3, 3))
            if "classes" in label:
                value = float((value > 0) + (value >= 0))
            own = len(words) if not unaligned else len(words) + 7
            features = {
                "text": np.zeros((len(words), 2), np.float32),
                "audio": rng.normal(size=(own, 3)).astype(np.float32),
                "vision": rng.normal(size=(own, 2)).astype(np.float32),
            }
            name = f"{split}{i // 4}"
            value *= turn if split == "test" else 1
            splits[split].append(Clip(f"{name}$_${i}", name, i, " ".join(words), features, value))
    return write_feature_set(folder, splits, name="scores", title="Scores", label=label)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> FeatureSet:
    return make_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Encoder:
    return opened(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="module")
def once(tmp_path_factory, data, encoder) -> Path:
    """One tuning of all layers, in a folder of its own with its cache."""
    folder = tmp_path_factory.mktemp("once")
    tune(data, encoder, folder / "out", SHORT, cache=folder / "cache")
    return folder


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "encoder" / "model.safetensors")


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_it_learns_and_leaves_a_set_with_its_encoder(once, data, encoder):
    made = FeatureSet.open(once / "out")
    log = json.loads((once / "out" / "encoder" / "tuning.json").read_text())
    losses = [row["loss"] for row in log["rows"] if row["job"] == "tune" and row["loss"] is not None]
    assert len(losses) == 4
    assert next(row for row in log["rows"] if row["job"] == "tune")["valid"] == pytest.approx(log["valid"]["head"])
    assert losses[-1] < 0.8 * losses[0]
    assert log["probe"] == {
        "before": probe(encode(data, encoder, once / "base", cache=once / "cache")[0]),
        "after": probe(made),
    }
    assert (made.feature_dims["text"], made.encoder["name"]) == (16, "tiny, tuned on scores")
    assert made.encoder["frames"] == "words"
    assert made.encoder["tuned"] == {"data": "scores", "fingerprint": data.fingerprint, "encoder": encoder.record}
    assert "have seen the training labels" in (once / "out" / "README.md").read_text()
    assert sorted(path.name for path in once.iterdir() if path.name != "base") == ["cache", "out"]
    tuned = open_encoder(once / "out")
    assert tuned.fingerprint == made.encoder["fingerprint"] != encoder.fingerprint
    words = made.split("test").records[0]["text"].split()
    np.testing.assert_allclose(made.split("test")[0].features["text"], tuned.words([words])[0], atol=1e-5)
    assert {"encoder/config.json", "encoder/model.safetensors", "encoder/tokenizer.json"} <= set(files_of(made.folder))


def test_another_set_is_encoded_with_what_was_tuned(once, data, tmp_path, capsys):
    words = ["data", "encode", str(data.folder), "--encoder", str(once / "out"), "--out", str(tmp_path / "other")]
    assert main([*words, "--cache", str(tmp_path / "cache")]) == 0
    other, made = FeatureSet.open(tmp_path / "other"), FeatureSet.open(once / "out")
    for a, b in zip(other.split("test"), made.split("test"), strict=True):
        np.testing.assert_allclose(a.features["text"], b.features["text"], atol=1e-6)
    assert not (tmp_path / "other" / "encoder").exists()
    assert main(["data", "info", str(once / "out")]) == 0
    assert "its text has seen the training labels" in capsys.readouterr().out


def test_a_tuned_set_goes_to_the_hub_and_comes_back_with_its_encoder(once, tmp_path, monkeypatch):
    with FakeHub() as hub:
        hub.reached(monkeypatch, tmp_path / "hub")
        assert main(["data", "push", str(once / "out"), "someone/scores"]) == 0
        assert main(["data", "pull", "someone/scores", "--out", str(tmp_path / "copy")]) == 0
    copy, made = FeatureSet.open(tmp_path / "copy"), FeatureSet.open(once / "out")
    assert copy.fingerprint == made.fingerprint
    assert equal(weights(tmp_path / "copy"), weights(once / "out"))
    said = sentences(copy).say(made.split("test").records[0]["text"])
    np.testing.assert_allclose(said.clip.features["text"], made.split("test")[0].features["text"], atol=1e-5)


def test_the_same_seed_gives_the_same_bits_and_the_test_labels_play_no_part(once, encoder, tmp_path):
    other = make_set(tmp_path / "set", turn=-0.5)
    tune(other, encoder, tmp_path / "out", SHORT, cache=tmp_path / "cache")
    assert equal(weights(tmp_path / "out"), weights(once / "out"))
    tune(other, encoder, tmp_path / "seed", replace(SHORT, seed=1, epochs=1), cache=tmp_path / "cache")
    assert not equal(weights(tmp_path / "seed"), weights(once / "out"))


@pytest.mark.parametrize(("change", "tuned"), [({"layers": 1}, ("encoder.layer.1.",)), ({"encoder_lr": 0.0}, ())])
def test_only_the_layers_asked_for_change_and_a_rate_of_0_changes_none(data, encoder, tmp_path, change, tuned):
    seen = []
    for layer in encoder.model.encoder.layer:
        assert not layer.training
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: seen.append((type(module).__name__, module.training))
    )
    try:
        tune(data, encoder, tmp_path / "out", replace(SHORT, epochs=1, **change), cache=tmp_path / "cache")
    finally:
        hook.remove()
    modes = {training for name, training in seen if name == "BertLayer"}
    assert modes == ({True, False} if tuned else {False})  # dropout of what is frozen is off
    assert {training for name, training in seen if name == "BertEmbeddings"} == {False}
    before, after = load_file(encoder.folder / "model.safetensors"), weights(tmp_path / "out")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith(tuned)} if tuned else not changed


def test_the_rates_and_decays_are_each_its_own(data, encoder, tmp_path, monkeypatch):
    jobs, whole = [], tuning.fit_job

    def stop(bench, job, report):
        jobs.append((job, [(group["lr"], group["weight_decay"]) for group in job.groups]))
        if job.name == "head":
            return whole(bench, job, report)
        raise Interrupted

    monkeypatch.setattr(tuning, "fit_job", stop)
    config = TuneConfig(head_epochs=1, layers=2, encoder_decay=0.2, decay=0.3, lr=1e-2, clip=0.5, patience=2, batch=8)
    with pytest.raises(Interrupted):
        tune(data, encoder, tmp_path / "out", config, cache=tmp_path / "cache")
    (_, first), (job, second) = jobs
    assert first == [(1e-3, 0.3)]
    assert second == [(1e-2, 0.3), (5e-5, 0.2)]
    assert (job.clip, job.patience, job.every, job.updates, job.warmup) == (0.5, 2, 5, 50, 5)
    own = sum(p.numel() for p in job.groups[1]["params"])
    assert own == sum(p.numel() for layer in encoder.model.encoder.layer for p in layer.parameters())


def test_an_interrupted_tuning_goes_on_to_the_same_bits(once, data, encoder, tmp_path, monkeypatch):
    asked = iter(range(10**6))

    @contextlib.contextmanager
    def soon():
        yield lambda: next(asked) >= 12

    with monkeypatch.context() as patched:
        patched.setattr(tuning, "stop_on_signal", soon)
        with pytest.raises(Interrupted, match="tune at 40 %"):
            tune(data, encoder, tmp_path / "out", SHORT, cache=tmp_path / "cache")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"holds an unfinished tuning with epochs 4, not 5"):
        tune(data, encoder, tmp_path / "out", replace(SHORT, epochs=5), cache=tmp_path / "cache")
    _, log = tune(data, encoder, tmp_path / "out", SHORT, cache=tmp_path / "cache")
    assert equal(weights(tmp_path / "out"), weights(once / "out"))
    assert [row["job"] for row in log["rows"]] == ["head", *["tune"] * 5]
    assert {path.name for path in tmp_path.iterdir()} == {"out", "cache"}


@pytest.mark.parametrize("unaligned", [False, True])
def test_the_text_that_it_learns_on_is_that_of_the_set(tmp_path, encoder, unaligned):
    made, _ = encode(make_set(tmp_path / "set", unaligned=unaligned), encoder, tmp_path / "base", cache=tmp_path / "c")
    bench = Bench(made, SHORT, {}, tmp_path)
    texts = Texts.of(bench, "train", read_texts(made, encoder).pieces["train"])
    rows = torch.tensor([3, 0, 17])
    features, valid, _ = bench.features["train"].rows(rows)
    live = bench.standardiser.forward("text", texts.features(encoder.model, rows, valid.shape[1])) * valid[..., None]
    np.testing.assert_allclose(live.detach(), features["text"], atol=1e-4)


def test_a_channel_that_never_moves_takes_no_gradient(data, encoder, tmp_path):
    model = copy.deepcopy(encoder.model)
    norm = model.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        norm.weight[3], norm.bias[3] = 1e-8, 1e-3
    still = replace(encoder, model=model)
    made, _ = encode(data, still, tmp_path / "base", cache=tmp_path / "cache")
    bench = TuneBench(made, SHORT, {}, tmp_path, still)
    assert bench.standardiser.std["text"][3] == 1
    bert, rows = bench.bert().requires_grad_(True), torch.arange(8)
    bench.standardiser.forward("text", bench.texts["train"].features(bert, rows, 5)).square().mean().backward()
    gradient = bert.encoder.layer[-1].output.LayerNorm.weight.grad.abs()
    assert gradient[3] < gradient.median()


def test_classes_are_learnt_too(tmp_path, encoder):
    label = {"name": "emotion", "range": [0, 2], "classes": ["bad", "even", "good"]}
    data = make_set(tmp_path / "set", label=label)
    made, log = tune(data, encoder, tmp_path / "out", replace(SHORT, epochs=1), cache=tmp_path / "cache")
    assert made.label_classes == ("bad", "even", "good")
    assert set(log["valid"]["tune"]) == {"log_loss", "accuracy"}
    assert 0 <= log["probe"]["after"]["accuracy"] <= 1


@pytest.mark.parametrize(("patience", "steps"), [(0, 20), (2, 10), (4, 14)])
def test_it_stops_when_nothing_gets_better(tmp_path, patience, steps):
    """Validations give 5, 4, 2, 2, ...: the third, after six updates, is the best."""
    layer, figures = nn.Linear(1, 1), iter([5.0, 4.0, *[2.0] * 20])
    job = Job(
        name="x",
        modules=nn.ModuleDict({"layer": layer}),
        groups=[{"params": list(layer.parameters()), "lr": 1e-3, "weight_decay": 0.0}],
        losses=lambda rows, _: layer(torch.ones(len(rows), 1))[:, 0] ** 2,
        validate=lambda: {"mae": next(figures)},
        ids=["a"] * 8,
        batch=4,
        updates=20,
        every=2,
        patience=patience,
    )
    heard = []
    _, meta = fit(job, 0, Checkpoints(tmp_path / "x"), 1e9, Reporter(heard.append, lambda: False))
    assert meta["best_step"] == 6
    assert meta["step"] == steps
    assert [message for message in heard if "at" in message][-1]["at"] == 20


REFUSED = {
    "more layers than there are": (["--layers", "3"], "layers: 3 is not allowed; tiny has 2"),
    "a negative rate": (["--encoder-lr", "-1"], "encoder-lr: -1.0 is not allowed"),
    "a device that is not here": (["--device", "cuda:9"], "is not here"),
    "no encoder": (["--encoder", "nothing"], "no such encoder"),
    "a folder that is taken": (["--out", "."], "is there already"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_sentence_and_writes_nothing(data, encoder, tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_text("")
    words, message = REFUSED[name]
    base = ["tune", str(data.folder), "--encoder", str(encoder.folder), "--out", "out", "--cache", "cache"]
    assert main([*base, *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_sets_that_cannot_be_learnt_from_are_refused(data, encoder, tmp_path):
    for gone, message in (("valid", "split 'valid' is not in"), ("text", "keeps neither token ids nor texts")):
        shutil.copytree(data.folder, tmp_path / gone)
        path = tmp_path / gone / "data.json"
        info = json.loads(path.read_text())
        if gone == "valid":
            del info["splits"]["valid"]
        else:
            for record in (record for rows in info["splits"].values() for record in rows):
                record["text"] = ""
        path.write_text(json.dumps(info))
        with pytest.raises(ValueError, match=message):
            tune(FeatureSet.open(tmp_path / gone), encoder, tmp_path / "out", SHORT)
        assert {path.name for path in tmp_path.iterdir()} <= {"valid", "text"}


def test_the_command_tells_what_it_reached(data, tmp_path, capsys):
    tiny_bert(tmp_path / "bert")
    words = ["tune", str(data.folder), "--encoder", str(tmp_path / "bert"), "--out", str(tmp_path / "out")]
    assert (
        main([*words, "--cache", str(tmp_path / "cache"), "--epochs", "1", "--head-epochs", "2", "--limit", "12"]) == 0
    )
    said = capsys.readouterr().out
    assert re.search(r"validation MAE \d\.\d{3} with the encoder as it is(, \d\.\d{3} tuned|; no epoch)", said)
    assert "before" in said.splitlines()[-1]
    log = json.loads((tmp_path / "out" / "encoder" / "tuning.json").read_text())
    assert log["command"] == "python -m imder tune set --encoder bert --out out --limit 12 --head-epochs 2 --epochs 1"
