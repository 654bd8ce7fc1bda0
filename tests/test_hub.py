"""A run folder survives its round trip and refuses every fault; whatever mood the Hub is in, the program starts."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from fake_hub import FakeHub

from imder import fetch, hub
from imder.data.standardise import Standardiser
from imder.hub import RunError
from imder.model import IMDer, ModelConfig

DIMS = {"text": 5, "audio": 4, "vision": 3}
TINY = {
    "latent_channels": 8,
    "frames": 8,
    "channels": (8, 8, 8, 8),
    "heads": 2,
    "condition_layers": 1,
    "embedding_dim": 8,
    "fusion_layers": 1,
    "reconstruction_channels": 8,
    "reconstruction_blocks": 1,
}
DATA = {
    "name": "tiny",
    "title": "Tiny",
    "fingerprint": "0123",
    "synthetic": True,
    "label_range": [-3, 3],
    "feature_names": {k: [f"{k}{i}" for i in range(width)] for k, width in DIMS.items()},
    "n_train": 3,
}
TRAINING = {"config": {"batch": 2}, "seed": 7, "command": "python -m imder train --data tiny", "seconds": 1.5}


def make_model(preset: str = "corrected", seed: int = 0) -> IMDer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return IMDer(ModelConfig.from_preset(preset, DIMS, **TINY)).eval()


def save(folder: Path, seed: int = 0, **options: Any) -> IMDer:
    model = make_model(options.pop("preset", "corrected"), seed)
    standardiser = Standardiser(
        {k: np.arange(width, dtype=np.float32) / 3 for k, width in DIMS.items()},
        {k: np.full(width, 1.5, dtype=np.float32) for k, width in DIMS.items()},
    )
    hub.save_run(folder, model, standardiser, DATA, TRAINING, **options)
    return model


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def equal(one: IMDer, other: IMDer) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    save(folder, metrics={"mae": 0.5}, card="Measured: nothing.", log=[{"update": 1, "loss": 2.0}])
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A sound run that a test may damage."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def refused(folder: Path, *words: str) -> str:
    """load_run refuses in one sentence that holds these words."""
    with pytest.raises(RunError) as caught:
        hub.load_run(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    for word in words:
        assert word in text
    return text


def reseal(folder: Path) -> None:
    """Makes the manifest agree with damaged files, so that the later checks are reached."""
    seals = {name: hub._seal((folder / name).read_bytes()) for name in hub.SEALED}
    (folder / hub.MANIFEST).write_text(json.dumps(seals))


def edit_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / hub.CONFIG).read_text())
    change(config)
    (folder / hub.CONFIG).write_text(json.dumps(config))
    reseal(folder)


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = safetensors.torch.load_file(folder / hub.WEIGHTS)
    change(tensors)
    safetensors.torch.save_file(tensors, folder / hub.WEIGHTS)
    reseal(folder)


# Saving and loading


@pytest.mark.parametrize("preset", ["corrected", "paper", "official"])
def test_round_trip(tmp_path, preset):
    model = save(tmp_path / "run", preset=preset)
    run = hub.load_run(tmp_path / "run")
    assert equal(run.model, model)
    assert run.model.config == model.config
    assert not run.model.training
    assert run.standardiser.mean["text"].tolist() == (np.arange(5, dtype=np.float32) / 3).tolist()
    assert (run.info["data"], run.info["training"]) == (DATA, TRAINING)
    assert run.notice is None


def test_a_run_holds_what_a_reader_needs(made):
    assert sorted(files_of(made)) == sorted(hub.FILES)
    assert json.loads((made / hub.METRICS).read_text()) == hub.load_run(made).metrics == {"mae": 0.5}
    assert json.loads((made / hub.LOG).read_text()) == {"update": 1, "loss": 2.0}
    card = (made / hub.CARD).read_text()
    assert card.startswith("---\nlicense: mit\nlibrary_name: imder\n")
    assert "Measured: nothing." in card
    assert TRAINING["command"] in card


def test_half_precision_is_rounded_once_and_statistics_are_kept(tmp_path):
    model = make_model()
    model.latent_std.fill_(1 / 3)
    standardiser = Standardiser(*({k: np.ones(w, np.float32) for k, w in DIMS.items()} for _ in range(2)))
    hub.save_run(tmp_path / "run", model, standardiser, DATA, TRAINING, half=True)
    loaded = hub.load_run(tmp_path / "run").model
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter.detach().half().float())
    assert torch.equal(loaded.latent_std, model.latent_std)
    assert loaded.get_parameter("encoders.text.weight").dtype == torch.float32


def test_saving_and_loading_draw_no_random_number_and_leave_the_model(tmp_path):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    model = save(tmp_path / "run")
    model.train()
    answer = hub.known_answer(model)
    hub.load_run(tmp_path / "run")
    assert model.training
    assert answer == hub.known_answer(model)
    assert torch.equal(state, torch.get_rng_state())


def test_a_second_save_replaces_the_first_and_keeps_other_files(run):
    (run / "work").mkdir()
    (run / "work" / "state").write_text("mine")
    model = save(run, seed=1)
    assert equal(hub.load_run(run).model, model)
    assert (run / "work" / "state").read_text() == "mine"
    assert (run / hub.LOG).exists()
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_a_save_that_fails_leaves_the_old_run_and_no_rest(run, monkeypatch):
    before = files_of(run)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="no space is left on the disk"):
        save(run, seed=1)
    assert files_of(run) == before
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    with pytest.raises(RunError, match="no space is left on the disk"):
        save(run.parent / "other")
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_what_a_killed_save_left_is_removed(run):
    stale = run.parent / ".run.saving-abcdefgh"
    stale.mkdir()
    (stale / hub.WEIGHTS).write_bytes(b"half")
    save(run, seed=1)
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_a_save_killed_at_any_moment_leaves_a_whole_run_or_one_that_is_refused(made, run, monkeypatch):
    old, new = hub.load_run(run).model, make_model(seed=1)
    steps = 0
    outcomes = []
    for stop in range(14):
        steps = 0
        shutil.rmtree(run)
        shutil.copytree(made, run)
        with monkeypatch.context() as patch:

            def stopping(call: Callable[..., Any], stop: int = stop) -> Callable[..., Any]:
                def counted(*args: Any, **more: Any) -> Any:
                    nonlocal steps
                    steps += 1
                    if steps > stop:
                        raise KeyboardInterrupt
                    return call(*args, **more)

                return counted

            patch.setattr(os, "fsync", stopping(os.fsync))
            patch.setattr(os, "replace", stopping(os.replace))
            with contextlib.suppress(KeyboardInterrupt):
                save(run, seed=1)
        try:
            loaded = hub.load_run(run).model
            outcomes.append("old" if equal(loaded, old) else "new" if equal(loaded, new) else "mixed")
        except RunError:
            outcomes.append("refused")
    assert "mixed" not in outcomes
    assert outcomes[0] == "old"
    assert outcomes[-1] in ("refused", "new")


def test_saving_over_something_else_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# My project")
    with pytest.raises(RunError, match=r"holds README\.md but is not a run"):
        save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My project"
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a run needs a folder"):
        save(tmp_path / "file")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_saving_weights_that_are_not_finite_is_refused(tmp_path, value):
    model = make_model()
    with torch.no_grad():
        model.get_parameter("encoders.text.weight")[0, 0, 0] = value
    standardiser = Standardiser(*({k: np.ones(w, np.float32) for k, w in DIMS.items()} for _ in range(2)))
    with pytest.raises(RunError, match=r"encoders\.text\.weight holds 1 values that are not finite"):
        hub.save_run(tmp_path / "run", model, standardiser, DATA, TRAINING, half=True)
    assert not (tmp_path / "run").exists()


def test_saving_figures_that_are_not_finite_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.json"):
        save(tmp_path / "run", metrics={"mae": float("nan")})
    assert not (tmp_path / "run").exists()


# Faults


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "none", "there is no such folder")


@pytest.mark.parametrize("name", [*hub.SEALED, hub.MANIFEST])
def test_a_file_that_is_not_there(run, name):
    (run / name).unlink()
    refused(run, name, "absent")


def test_a_card_and_a_log_may_be_edited_and_other_files_are_ignored(run):
    (run / hub.CARD).write_text("mine")
    (run / hub.LOG).unlink()
    (run / "model.bin").write_bytes(b"\x80\x04")
    hub.load_run(run)


@pytest.mark.parametrize("name", [*hub.SEALED, hub.MANIFEST])
def test_truncation_at_every_hundredth_of_a_file(run, name):
    whole = (run / name).read_bytes()
    for length in sorted({len(whole) * part // 100 for part in range(100)} | {len(whole) - 1}):
        (run / name).write_bytes(whole[:length])
        if whole[:length].strip() == whole.strip():
            continue  # only the last line break is gone, and the manifest is not sealed
        refused(run, name)


@pytest.mark.parametrize("name", hub.SEALED)
def test_two_hundred_bit_flips(run, name):
    whole = (run / name).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        (run / name).write_bytes(damaged)
        refused(run, name, "manifest")


def test_weights_truncated_under_a_manifest_that_agrees(run):
    whole = (run / hub.WEIGHTS).read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (run / hub.WEIGHTS).write_bytes(whole[:length])
        reseal(run)
        refused(run, hub.WEIGHTS, "weights")
    (run / hub.WEIGHTS).write_bytes(whole + b"\0")
    reseal(run)
    refused(run, hub.WEIGHTS, "weights")


def test_another_runs_weights_do_not_give_this_runs_answer(run, tmp_path):
    save(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / hub.WEIGHTS, run / hub.WEIGHTS)
    reseal(run)
    refused(run, "known answer", "number 0")


def test_every_key_dropped_renamed_or_reshaped(run):
    names = list(safetensors.torch.load_file(run / hub.WEIGHTS))
    whole = (run / hub.WEIGHTS).read_bytes()
    for name in names[:: max(1, len(names) // 10)]:
        edit_weights(run, lambda t, name=name: t.pop(name))
        refused(run, "weights: 1 tensors are absent", name)
        (run / hub.WEIGHTS).write_bytes(whole)
        edit_weights(run, lambda t, name=name: t.update({name + "_": t.pop(name)}))
        refused(run, "weights: 1 tensors are absent", name)
        (run / hub.WEIGHTS).write_bytes(whole)
        edit_weights(run, lambda t, name=name: t.update({name: t[name][None].contiguous()}))
        refused(run, f"weights: {name} has shape (1, ")
        (run / hub.WEIGHTS).write_bytes(whole)


def test_an_unknown_tensor(run):
    edit_weights(run, lambda t: t.update(extra=torch.zeros(1)))
    refused(run, "weights: 1 tensors are not the model's", "extra")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32])
def test_another_number_format(run, dtype):
    edit_weights(run, lambda t: t.update({"encoders.text.weight": t["encoders.text.weight"].to(dtype)}))
    refused(run, f"weights: encoders.text.weight is {dtype}; torch.float32 is needed")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["encoders.text.weight", "latent_std"])
def test_weights_that_are_not_finite(run, name, value):
    edit_weights(run, lambda t: t[name].view(-1)[:1].fill_(value))
    refused(run, f"weights: {name} holds 1 values that are not finite")


def test_a_wrong_weight_is_found_by_the_known_answer(run):
    edit_weights(run, lambda t: t["encoders.text.weight"].mul_(1.1))
    refused(run, "known answer")


CONFIG_FAULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda c: c.update(format="imder-run/2"),
    "fields": lambda c: c.update(extra=1),
    "known_answer": lambda c: c.pop("known_answer"),
    "weights": lambda c: c.update(weights="float8"),
    "preset": lambda c: c["model"].update(preset="best"),
    "steps": lambda c: c["model"].update(steps=-1),
    "heads": lambda c: c["model"].update(heads="2"),
    "latent_channels": lambda c: c["model"].update(latent_channels=10**6),
    "reconstruction_blocks is 4000; at most": lambda c: c["model"].update(reconstruction_blocks=4000),
    "fusion_layers is 65; at most": lambda c: c["model"].update(fusion_layers=65),
    "latent_scale": lambda c: c["model"].update(latent_scale=True),
    "frames": lambda c: c["model"].update(frames=8.0),
    "unknown fields": lambda c: c["model"].update(layers=3),
    "the model configuration lacks": lambda c: c["model"].pop("frames"),
    "configuration is a list": lambda c: c.update(model=[]),
    "feature_dims": lambda c: c["model"].update(feature_dims={"text": 5}),
    "no model can be built": lambda c: c["model"].update(norm_groups=["a", "b"]),
    "standardiser: mean of text": lambda c: c["standardiser"].pop("text"),
    "standardiser has 4 features of text": lambda c: [c["standardiser"]["text"][n].pop() for n in ("mean", "std")],
    "std of audio must be above 0": lambda c: c["standardiser"]["audio"].update(std=[0, 1, 1, 1]),
    "data is a list": lambda c: c.update(data=[]),
    "training is a int": lambda c: c.update(training=3),
    "data.name": lambda c: c["data"].pop("name"),
    "data.synthetic": lambda c: c["data"].update(synthetic="no"),
    "data.label_range": lambda c: c["data"].update(label_range=[3, -3]),
    "data.feature_names of vision": lambda c: c["data"]["feature_names"].update(vision=["a"]),
    "known_answer is not": lambda c: c.update(known_answer=[]),
    "holds 1 numbers": lambda c: c.update(known_answer=[0.5]),
}


@pytest.mark.parametrize("words", CONFIG_FAULTS)
def test_configuration_faults(run, words):
    edit_config(run, CONFIG_FAULTS[words])
    refused(run, hub.CONFIG, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": NaN}', "not a finite number"),
        ('{"a": -Infinity}', "not a finite number"),
        ('{"a": 1e400}', "not a finite number"),
        ('{"a": ' + "9" * 400 + "}", "too large"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ("[" * 100_000, "not strict JSON"),
        ("[]", "holds a list"),
        ("", "not strict JSON"),
        ("\ufeff{}", "not strict JSON"),
    ],
)
def test_json_that_is_not_strict(run, text, words):
    (run / hub.CONFIG).write_text(text)
    reseal(run)
    refused(run, hub.CONFIG, "configuration", words)


def test_bytes_that_are_no_text(run):
    (run / hub.METRICS).write_bytes(b'{"a": "\xff"}')
    reseal(run)
    refused(run, hub.METRICS, "metrics")


@pytest.mark.parametrize("manifest", ["{}", '{"config.json": {}}', '{"../x": {"sha256": "0", "bytes": 1}}'])
def test_a_manifest_that_names_other_files(run, manifest):
    (run / hub.MANIFEST).write_text(manifest)
    refused(run, hub.MANIFEST, "it must name config.json, model.safetensors, metrics.json")


@pytest.mark.parametrize("entry", [None, 3, [], {"sha256": 5, "bytes": "x"}])
def test_a_manifest_entry_of_another_type(run, entry):
    seals = json.loads((run / hub.MANIFEST).read_text())
    seals[hub.CONFIG] = entry
    (run / hub.MANIFEST).write_text(json.dumps(seals))
    refused(run, hub.CONFIG, "manifest")


def test_a_file_too_large_is_not_read(run):
    with open(run / hub.CONFIG, "ab") as file:
        file.truncate(1 << 40)
    refused(run, hub.CONFIG, "at most")


# The Hub


@pytest.fixture
def bundled(tmp_path, monkeypatch) -> Path:
    save(tmp_path / "bundled", seed=9)
    monkeypatch.setattr(hub, "BUNDLED", tmp_path / "bundled")
    return tmp_path / "bundled"


@pytest.fixture
def server(made, monkeypatch) -> Iterator[FakeHub]:
    with FakeHub() as fake:
        fake.put("ada/run", files_of(made))
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_ETAG_TIMEOUT"):
            monkeypatch.delenv(name, raising=False)
        yield fake


def test_a_run_is_pulled_and_loaded(server, bundled, made, tmp_path):
    loaded = hub.load("ada/run", cache_dir=tmp_path / "cache", deadline=60)
    assert equal(loaded.model, hub.load_run(made).model)
    assert (loaded.source, loaded.notice) == ("ada/run", None)
    assert str(loaded.folder).startswith(str(tmp_path / "cache"))


def test_only_a_runs_files_are_pulled(server, bundled, made, tmp_path):
    server.put("ada/run", files_of(made) | {"pytorch_model.bin": b"\x80\x04.", "sub/config.json": b"{}"})
    folder, notice = hub.resolve("ada/run", cache_dir=tmp_path / "cache", deadline=60)
    assert notice is None
    assert sorted(path.name for path in folder.iterdir()) == sorted(hub.FILES)
    assert not any(path.endswith(".bin") or "sub/" in path for _, path in server.requests)


def test_a_revision_is_pulled(server, bundled, tmp_path):
    save(tmp_path / "second", seed=2)
    server.put("ada/run", files_of(tmp_path / "second"), revision="v2")
    commit = server.commit("ada/run", "v2")
    for revision in ("v2", commit):
        loaded = hub.load(f"ada/run@{revision}", cache_dir=tmp_path / "cache", deadline=60)
        assert equal(loaded.model, make_model(seed=2))
        assert loaded.source == f"ada/run@{revision}"
    folder, notice = hub.resolve("ada/run@v3", cache_dir=tmp_path / "cache", deadline=60)
    assert folder == bundled
    assert "ada/run@v3" in notice
    assert "no such revision" in notice


REASONS = {
    "401": "refuses access (HTTP 401)",
    "403": "refuses access (HTTP 403)",
    "404": "no such repository, or it is private (HTTP 404)",
    "429": "too many requests (HTTP 429)",
    "500": "out of order (HTTP 500)",
    "503": "out of order (HTTP 503)",
    "refused": "cannot be reached",
    "hang": "did not deliver within 2 seconds",
    "cut": "did not deliver within 2 seconds",
    "portal": "not one of a Hub",
    "corrupted": "faulty (model.safetensors: manifest: sha256",
}


@pytest.mark.parametrize("mood", REASONS)
def test_in_a_bad_mood_the_bundled_checkpoint_serves(server, bundled, tmp_path, mood):
    server.mood = mood
    if mood == "refused":
        server.refuse()
    deadline = 2 if mood in ("hang", "cut") else 60
    started = time.monotonic()
    loaded = hub.load("ada/run", cache_dir=tmp_path / "cache", deadline=deadline)
    assert time.monotonic() - started < 20
    assert loaded.source == "bundled"
    assert loaded.folder == bundled
    assert equal(loaded.model, make_model(seed=9))
    assert loaded.notice.startswith("ada/run: ")
    assert REASONS[mood] in loaded.notice
    assert loaded.notice.endswith("the bundled checkpoint serves instead.")
    assert "\n" not in loaded.notice
    assert str(tmp_path) not in loaded.notice


def test_in_a_bad_mood_the_cache_serves(server, bundled, tmp_path):
    cache = tmp_path / "cache"
    folder, _ = hub.resolve("ada/run", cache_dir=cache, deadline=60)
    for mood in ("401", "403", "404", "429", "500", "503", "portal", "corrupted", "cut", "hang"):
        server.mood = mood
        again, notice = hub.resolve("ada/run", cache_dir=cache, deadline=2 if mood == "hang" else 60)
        assert again == folder, mood
        assert notice is None or mood in ("portal", "hang")
    assert "did not deliver within 2 seconds; the copy in the cache serves" in notice
    server.refuse()
    assert hub.resolve("ada/run", cache_dir=cache, deadline=60) == (folder, None)


def test_offline_works_from_the_cache_and_says_so_without_one(server, bundled, tmp_path, monkeypatch):
    folder, _ = hub.resolve("ada/run", cache_dir=tmp_path / "cache", deadline=60)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(server.requests)
    assert hub.resolve("ada/run", cache_dir=tmp_path / "cache", deadline=60) == (folder, None)
    other, notice = hub.resolve("ada/run", cache_dir=tmp_path / "empty", deadline=60)
    assert other == bundled
    assert "offline mode is on (HF_HUB_OFFLINE)" in notice
    assert len(server.requests) == before


def test_a_slow_hub_is_waited_for(server, bundled, tmp_path):
    server.mood = "slow"
    folder, notice = hub.resolve("ada/run", cache_dir=tmp_path / "cache", deadline=60)
    assert notice is None
    assert folder != bundled


def test_what_arrives_corrupted_is_pulled_once_more(server, bundled, made, tmp_path):
    server.mood = "corrupted once"
    loaded = hub.load("ada/run", cache_dir=tmp_path / "cache", deadline=60)
    assert loaded.notice is None
    assert equal(loaded.model, hub.load_run(made).model)
    pulls = [path for method, path in server.requests if method == "GET" and path.startswith("/stored/")]
    assert len(pulls) == 2


def test_a_copy_damaged_in_the_cache_is_replaced(server, bundled, tmp_path):
    folder, _ = hub.resolve("ada/run", cache_dir=tmp_path / "cache", deadline=60)
    whole = (folder / hub.WEIGHTS).read_bytes()
    (folder / hub.WEIGHTS).resolve().write_bytes(whole[:-1] + b"?")
    assert hub.resolve("ada/run", cache_dir=tmp_path / "cache", deadline=60) == (folder, None)
    assert (folder / hub.WEIGHTS).read_bytes() == whole


def test_a_repository_that_is_no_run(server, bundled, tmp_path):
    server.put("ada/other", {"config.json": b"{}", "model.safetensors": b"", "README.md": b"# Another model"})
    loaded = hub.load("ada/other", cache_dir=tmp_path / "cache", deadline=60)
    assert loaded.source == "bundled"
    assert "manifest.json: manifest: the file is absent" in loaded.notice


def test_a_faulty_remote_run_gives_way_and_a_faulty_folder_is_an_error(server, bundled, run, tmp_path):
    edit_weights(run, lambda t: t["encoders.text.weight"].mul_(1.1))  # sealed, so that only loading finds it
    server.put("ada/run", files_of(run))
    loaded = hub.load("ada/run", cache_dir=tmp_path / "cache", deadline=60)
    assert loaded.source == "bundled"
    assert "known answer" in loaded.notice
    assert str(tmp_path) not in loaded.notice
    with pytest.raises(RunError, match="known answer"):
        hub.load("ada/run", cache_dir=tmp_path / "cache", deadline=60, fallback=False)
    with pytest.raises(RunError, match="known answer"):
        hub.load(run)


def test_without_fallback_nothing_else_serves(server, bundled, tmp_path):
    with pytest.raises(RunError, match=r"ada/none: no such folder here, and the Hub has no such repository"):
        hub.load("ada/none", cache_dir=tmp_path / "cache", deadline=60, fallback=False)


def test_a_folder_is_itself_and_nothing_is_the_bundled_one(bundled, run):
    assert hub.resolve(run) == (run, None)
    assert hub.resolve(str(run)) == (run, None)
    assert hub.resolve(None) == hub.resolve("bundled") == (bundled, None)
    assert hub.load().source == "bundled"
    assert hub.load(run).source == str(run)


@pytest.mark.parametrize(
    "source",
    [
        *("", "gone", "/no/where", "./ada/run", "../ada/run", "a/b/c", "ada/run@", "ada/..", "ada/a--b", "ada/x.git"),
        *("ada/run\n", "ada /run", "~nobody/run", "\0", "https://example.org/ada/run", "ada/run@../../x", "x" * 5000),
        *("-a/b", "a/-b", "a/b-"),
    ],
)
def test_a_source_that_is_neither(bundled, source):
    with pytest.raises(RunError, match=r"neither a folder nor a Hub repository; allowed: ") as caught:
        hub.resolve(source)
    assert len(str(caught.value)) < 300


def test_a_download_without_an_answer(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(fetch.FetchError, match="without an answer"):
        fetch.fetch(5, {})
