"""Training: the same numbers after any interruption, refusals, damaged checkpoints, losses that are not finite."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imder import hub
from imder.__main__ import main as command_line
from imder.data.clip import Clip
from imder.data.dataset import FeatureSet, write_feature_set
from imder.modality import MODALITIES
from imder.model import IMDer
from imder.training import TrainingConfig, checkpoint, train
from imder.training import run as run_module
from imder.training.checkpoint import Checkpoints, DamagedError, locked, read_folder, write_folder
from imder.training.config import QUICK
from imder.training.loop import Interrupted, Job, Reporter, fit
from imder.training.run import WORK, Complete
from imder.training.stages import Bench, _wanted, fit_readout, phases, squared_error

WIDTHS = {"text": 7, "audio": 5, "vision": 6}
TINY = {
    "channels": (8, 8, 8, 8),
    "latent_channels": 8,
    "heads": 2,
    "embedding_dim": 16,
    "fusion_layers": 1,
    "reconstruction_channels": 16,
    "reconstruction_blocks": 2,
    "steps": 3,
}
SHORT = TrainingConfig(**QUICK | {"least": 4, "score_updates": 5, "score_valid": 3, "batch": 6, "workers": 0})


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """24 training clips of different lengths whose modalities share three random walks."""
    rng = np.random.default_rng(0)
    mixing = {k: rng.normal(size=(3, width)) for k, width in WIDTHS.items()}

    def clip(split: str, i: int) -> Clip:
        frames = int(rng.integers(9, 20))
        walk = np.cumsum(rng.normal(size=(frames, 3)), axis=0) / 3
        features = {k: (walk @ m + rng.normal(size=(frames, m.shape[1]))).astype(np.float32) for k, m in mixing.items()}
        label = float(np.clip(walk[:, 0].mean(), -3, 3))
        return Clip(id=f"{split}${i}", video=split, index=i, text="", features=features, label=label)

    folder = tmp_path_factory.mktemp("data") / "set"
    splits = {split: [clip(split, i) for i in range(n)] for split, n in (("train", 24), ("valid", 12), ("test", 2))}
    label = {"name": "sentiment", "range": [-3, 3]}
    write_feature_set(folder, splits, name="walks", title="Random walks", label=label, synthetic=True)
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Path:
    """A run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    train(data, out, SHORT, model=TINY)
    return out


def weights(out: Path) -> bytes:
    return (out / hub.WEIGHTS).read_bytes()


def interrupt_after(monkeypatch, calls: int) -> None:
    """Makes `train` believe in a signal after that many updates or chunks of draws."""

    class Signal:
        left = calls

        def __enter__(self):
            def stopping() -> bool:
                self.left -= 1
                return self.left < 0

            return stopping

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(run_module, "stop_on_signal", Signal)


def test_a_run_is_whole_and_loads(whole):
    run = hub.load_run(whole)
    metrics = json.loads((whole / hub.METRICS).read_text())
    rows = [json.loads(line) for line in (whole / hub.LOG).read_text().splitlines()]
    card = (whole / hub.CARD).read_text()
    assert not (whole / WORK).exists()
    assert run.info["data"]["n_train"] == 24
    assert set(metrics["mae_by_pattern"]) == {"L", "A", "V", "LA", "LV", "AV"}
    assert all(math.isfinite(metrics["score"][k]["score_loss"]) for k in MODALITIES)
    assert {row["stage"] for row in rows} == {"1a", "1b", "2", "3"}
    assert all(f"| {name} | {x['recovered']:.3f} |" in card for name, x in metrics["mae_by_pattern"].items())


def test_interrupted_anywhere_the_numbers_are_the_same(data, whole, tmp_path, monkeypatch):
    out = tmp_path / "run"
    stops = 0
    for calls in (2, 5, 4, 7, 3, 6, 9):
        interrupt_after(monkeypatch, calls)
        try:
            train(data, out, SHORT, model=TINY)
            break
        except Interrupted:
            stops += 1
    else:
        monkeypatch.undo()
        train(data, out, SHORT, model=TINY)
    assert stops >= 5
    assert weights(out) == weights(whole)


def test_killed_and_told_to_stop_in_processes_the_numbers_are_the_same(data, whole, tmp_path, monkeypatch):
    out = tmp_path / "run"
    interrupt_after(monkeypatch, 5)
    with pytest.raises(Interrupted):  # the first stage here, what follows in processes
        train(data, out, SHORT, model=TINY)
    monkeypatch.undo()
    free = {"workers": 2, "checkpoint_seconds": 0.0}
    values = dataclasses.asdict(SHORT) | free
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    flags += ["--set", json.dumps(TINY), "--data", str(data), "--out", str(out)]

    def begin() -> subprocess.Popen:
        words = [sys.executable, "-m", "imder", "train", *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            words, cwd=Path(__file__).parents[1], env=environment, stderr=subprocess.PIPE, text=True
        )

    process = begin()
    wait_for(lambda: list(out.glob(f"{WORK}/jobs/score-*/step-*")), process)
    process.kill()
    process.communicate()
    process = begin()  # waits for the killed run's processes, which hold the lock
    wait_for(lambda: list(out.glob(f"{WORK}/results/score-*")), process)
    process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    text = process.communicate()[1]
    assert process.returncode == 130, text
    assert time.monotonic() - told < 10
    assert "the same command goes on" in text.splitlines()[-1]
    assert "Traceback" not in text
    train(data, out, SHORT, model=TINY)
    assert weights(out) == weights(whole)


def wait_for(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_complete_run_is_left_alone(data, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    with pytest.raises(Complete, match="complete"):
        train(data, whole, SHORT, model=TINY)
    with pytest.raises(Complete, match="seed 0, not 5"):
        train(data, whole, dataclasses.replace(SHORT, seed=5), model=TINY)
    assert command_line(["train", "--data", str(data), "--out", str(whole)]) == 0
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before


def test_another_configuration_is_refused(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    interrupt_after(monkeypatch, 2)
    with pytest.raises(Interrupted):
        train(data, out, SHORT, model=TINY)
    with pytest.raises(ValueError, match="unfinished training with seed 0, not 7"):
        train(data, out, dataclasses.replace(SHORT, seed=7), model=TINY)
    with pytest.raises(ValueError, match="model steps 3, not as the preset has it"):
        train(data, out, SHORT, model={k: v for k, v in TINY.items() if k != "steps"})


def test_other_files_are_refused(data, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no run and not empty"):
        train(data, tmp_path, SHORT, model=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    lock = tmp_path / "run" / WORK / "lock"
    with locked(lock), pytest.raises(ValueError, match="another training is at work"), locked(lock, patience=0.0):
        pass


def test_a_damaged_checkpoint_is_skipped_with_a_warning(data, whole, tmp_path, monkeypatch, capfd):
    out = tmp_path / "run"
    interrupt_after(monkeypatch, 3)
    often = dataclasses.replace(SHORT, checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        train(data, out, often, model=TINY)
    monkeypatch.undo()
    newest = max((out / WORK / "jobs" / "encode").glob("step-*"))
    content = bytearray((newest / checkpoint.STATE).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / checkpoint.STATE).write_bytes(content)
    train(data, out, SHORT, model=TINY)
    assert "checkpoint skipped, it is damaged" in capfd.readouterr().err
    assert weights(out) == weights(whole)


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.META, checkpoint.MANIFEST])
def test_every_flipped_bit_and_absent_file_is_found(tmp_path, name):
    store, warnings = Checkpoints(tmp_path / "job"), []
    for step in (1, 2, 3):
        store.save(step, {"x": torch.full((3,), float(step))}, {"step": step})
    assert sorted(path.name for path in store.folder.iterdir()) == ["step-0000002", "step-0000003"]
    file = store.folder / "step-0000003" / name
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    (store.folder / ".tmp-step-0000004-1").mkdir()
    assert store.newest(warnings.append)[1] == {"step": 2}
    assert len(warnings) == 1
    (store.folder / "step-0000002" / name).unlink()
    assert store.newest(warnings.append) is None
    assert not list(store.folder.iterdir())


def test_a_full_disk_leaves_the_older_checkpoints(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    store.save(1, {"x": torch.ones(2)}, {"step": 1})

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(ValueError, match="no space is left on the disk"):
        store.save(2, {"x": torch.ones(2)}, {"step": 2})
    monkeypatch.undo()
    assert store.newest(pytest.fail)[1] == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001"]


def test_a_result_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(DamagedError):
        read_folder(tmp_path / "nothing")
    write_folder(tmp_path / "result", {"x": torch.arange(3)}, {"a": math.inf})
    tensors, meta = read_folder(tmp_path / "result")
    assert tensors["x"].tolist() == [0, 1, 2]
    assert meta == {"a": math.inf}


def test_a_loss_that_is_not_finite_names_its_clip_and_keeps_the_checkpoint(data, tmp_path, monkeypatch):
    out, calls = tmp_path / "run", 0
    original = IMDer.score_loss

    def poisoned(self, *args: Any) -> torch.Tensor:
        nonlocal calls
        losses = original(self, *args)
        calls += torch.is_grad_enabled()
        if calls == 3 and torch.is_grad_enabled():
            losses = losses * torch.tensor([1.0] * 5 + [math.nan] + [1.0] * (len(losses) - 6))
        return losses

    monkeypatch.setattr(IMDer, "score_loss", poisoned)
    often = dataclasses.replace(SHORT, checkpoint_seconds=0.0)
    with pytest.raises(ValueError, match=r"score-text, update 2: the loss is not finite for clips train\$\d+$"):
        train(data, out, often, model=TINY)
    _, meta = Checkpoints(out / WORK / "jobs" / "score-text").newest(pytest.fail)
    assert meta["step"] == calls - 1


def test_flags_come_from_the_fields(data, tmp_path, capsys):
    for flags, text in (
        (["--batch", "0"], "batch: 0 is not allowed; a whole number of at least 1 is"),
        (["--ema", "1.5"], "ema: 1.5 is not allowed"),
        (["--preset", "best"], "preset: 'best' is unknown; allowed: corrected, paper, official"),
        (["--set", "[1]"], "set: '[1]' is not allowed; a JSON object is"),
        (["--device", "tpu"], "device: 'tpu' is not allowed; cpu, cuda or cuda:N is"),
        (["--device", "cuda:99"], "device: 'cuda:99' is not here; torch"),
        (["--draw-steps", "1001"], "draw-steps: 1001 is not allowed"),
    ):
        assert command_line(["train", "--data", str(data), "--out", str(tmp_path / "run"), *flags]) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_all_jobs_are_in_a_phase():
    assert phases(dataclasses.replace(SHORT, passes=2)) == (
        ("encode",),
        ("score-text", "score-audio", "score-vision", "fuse"),
        ("draws-valid", "draws-0", "draws-1"),
        ("recover",),
    )


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_the_other_presets_train(data, tmp_path, preset):
    config = dataclasses.replace(SHORT, preset=preset, limit=8, least=1, score_updates=1)
    metrics = train(data, tmp_path / "run", config, model=TINY)
    assert "linear_loss" not in metrics["score"]["text"]
    assert hub.load_run(tmp_path / "run").model.config.preset == preset


def test_the_draws_of_stage_3_may_take_fewer_steps(data, tmp_path, monkeypatch):
    taken, recover = set(), IMDer.recover

    def spy(self, *args, steps, **kwargs):
        taken.add(steps)
        return recover(self, *args, steps=steps, **kwargs)

    monkeypatch.setattr(IMDer, "recover", spy)
    config = dataclasses.replace(SHORT, limit=8, least=1, score_updates=1)
    for steps in (0, 2):
        train(data, tmp_path / str(steps), dataclasses.replace(config, draw_steps=steps), model=TINY)
    assert taken == {None, 2}  # None: the preset's
    assert hub.load_run(tmp_path / "2").model.config.steps == TINY["steps"]  # those of a recovery stay


def test_latents_are_standardised_and_readouts_are_the_best_linear_ones(data, whole, tmp_path):
    model = hub.load_run(whole).model
    bench = Bench(FeatureSet.open(data), SHORT, TINY, tmp_path)
    train_part, latents = bench.features["train"], bench.latents(model, "train")
    for k in MODALITIES:
        frames = latents.values[k].transpose(1, 2)[latents.valid]
        assert torch.allclose(frames.mean(0), torch.zeros(8), atol=1e-4)
        assert torch.allclose(frames.std(0), torch.ones(8), atol=1e-3)
    # A readout that has an exact solution is found: features made by a transposed convolution of the latents.
    truth = torch.nn.ConvTranspose1d(8, 4, 3)
    z = torch.randn(30, 8, 10)
    features = truth(z).transpose(1, 2).detach()
    fitted = torch.nn.ConvTranspose1d(8, 4, 3)
    fit_readout(fitted, z, features, torch.ones(30, 10, dtype=torch.bool), torch.ones(30, 12, dtype=torch.bool))
    assert torch.allclose(fitted(z).transpose(1, 2), features, atol=0.02)
    assert len(train_part) == 24


def test_padding_does_not_count_in_an_error():
    x, truth = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    valid = torch.tensor([[True, True, False, False], [True] * 4])
    x[0, :, 2:] = 100.0
    assert squared_error(x, truth, valid, 2).tolist() == [1.0, 1.0]
    assert squared_error(x.transpose(1, 2), truth.transpose(1, 2), valid, 1).tolist() == [1.0, 1.0]


def test_a_run_starts_from_another(data, whole, tmp_path):
    """Stage 1 and the score networks are taken over bit by bit; D_k and T_k are learnt anew."""
    out = tmp_path / "again"
    train(data, out, dataclasses.replace(SHORT, recover_epochs=2), model=TINY, start=str(whole))
    before, after = hub.load_run(whole).model.state_dict(), hub.load_run(out).model.state_dict()
    same = {name for name, x in after.items() if torch.equal(x, before[name])}
    assert {name for name in after if name.startswith(("encoders.", "readouts.", "scores.", "pairs."))} <= same
    assert not {name for name in after if name.startswith("fusion.") and name.endswith("weight")} <= same
    origin = hub.load_run(out).info["training"]["from"]
    assert origin["run"] == "run"
    assert len(origin["weights"]) == 16
    assert origin["weights"] in (out / hub.CARD).read_text()
    curves = [
        [row for row in map(json.loads, (folder / hub.LOG).read_text().splitlines()) if row["stage"] != "3"]
        for folder in (whole, out)
    ]
    assert curves[0] == curves[1]  # the curves of what was taken over come with it


def test_another_preset_takes_stage_1_alone(data, whole, tmp_path):
    out = tmp_path / "paper"
    train(data, out, dataclasses.replace(SHORT, preset="paper"), model=TINY, start=str(whole))
    before, after = hub.load_run(whole).model.state_dict(), hub.load_run(out).model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith(("encoders.", "latent_")))
    assert any(not torch.equal(after[name], before[name]) for name in after if name.startswith("scores."))


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [({"limit": 12}, TINY, "another limit"), ({}, TINY | {"latent_channels": 16, "channels": (16,) * 4}, "differs")],
)
def test_a_start_that_does_not_fit_is_refused(data, whole, tmp_path, changes, model, words):
    with pytest.raises(ValueError, match=words):
        train(data, tmp_path / "out", dataclasses.replace(SHORT, **changes), model=model, start=str(whole))


def test_weights_that_training_makes_worse_are_not_kept(tmp_path):
    """With `start` the weights before the first update are judged too."""
    module = torch.nn.Linear(1, 1)
    first = {name: x.clone() for name, x in module.state_dict().items()}
    job = Job(
        name="worse",
        modules=torch.nn.ModuleDict({"only": module}),
        groups=[{"params": list(module.parameters()), "lr": 0.1, "weight_decay": 0.0}],
        losses=lambda rows, generator: module(torch.ones(len(rows), 1))[:, 0],
        validate=lambda: {"distance": float((module.weight - first["weight"]).abs().sum().detach())},
        ids=["a", "b"],
        batch=2,
        updates=4,
        every=2,
        start=True,
    )
    kept, meta = fit(job, 0, Checkpoints(tmp_path), 60.0, Reporter(lambda message: None, lambda: False))
    assert meta["best_step"] == 0
    assert [row["update"] for row in meta["rows"]] == [0, 2, 4]
    assert all(torch.equal(kept[f"only.{name}"], x) for name, x in first.items())


def test_the_mean_of_draws_is_learnt_from_too(data):
    """A pass holds `train_draws` recoveries of every clip, all with the pass's pattern, each of a seed of its own."""
    config = dataclasses.replace(SHORT, train_draws=3)
    bench = Bench(FeatureSet.open(data), config, TINY, Path("unused"))
    _, rows, available, seeds = _wanted(bench, "1")
    assert len(rows) == 72
    assert len(set(seeds)) == 72
    assert torch.equal(rows.view(3, 24)[0], rows.view(3, 24)[2])
    assert torch.equal(available.view(3, 24, 3)[0], available.view(3, 24, 3)[1])
    assert not set(seeds) & set(_wanted(bench, "0")[3])
