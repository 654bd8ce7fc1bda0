"""Runs, data sets and the page pushed to a Hub on loopback through the command line, and pulled back; in every mood."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from fake_hub import TOKEN, FakeHub
from huggingface_hub import ModelCard
from test_hub import DATA, DIMS, REASONS, files_of, save

from imder import commit, fetch, hub
from imder.__main__ import main
from imder.data import Clip, FeatureSet, remote, write_feature_set
from imder.data.dataset import sound_name
from imder.evaluation.study import run_digest
from imder.modality import MODALITIES, PATTERNS, symbols
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.publish import files as page
from imder.publish.push import push
from imder.publish.space import space_files

ROOT = Path(hub.__file__).parents[1]
METRICS = {
    "split": "valid",
    "clips": 2,
    "draws": 4,
    "mae": {"complete": 0.25, "mean": 0.5},
    "mae_by_pattern": {symbols(p): {"recovered": 0.5 + i, "zero": 9.0} for i, p in enumerate(PATTERNS[:-1])},
}


def make_data(folder: Path) -> FeatureSet:
    """Three clips a split, of the tiny model's widths; the first test clip has a sound."""
    rng = np.random.default_rng(0)
    splits = {
        split: [
            Clip(
                id=f"{split}$_${i}",
                video=split,
                index=i,
                text="so so",
                features={k: rng.normal(size=(9, width)).astype(np.float32) for k, width in DIMS.items()},
                label=float(i) - 1,
            )
            for i in range(3)
        ]
        for split in ("train", "valid", "test")
    }
    label = {"name": "sentiment", "range": [-3, 3]}
    more = {sound_name("test$_$0"): b"OggS" + bytes(2000)}
    return write_feature_set(folder, splits, name="tiny", title="Tiny", label=label, synthetic=True, files=more)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    save(folder, metrics=METRICS, card="Measured: nothing.", log=[{"update": 1, "loss": 2.0}])
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "tiny").folder


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[FakeHub]:
    with FakeHub() as fake:
        yield fake.reached(monkeypatch, tmp_path / "cache")


def command(*words: str) -> SimpleNamespace:
    """`python -m imder ...` in this process; whatever it prints, the token is not in it."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main(words)
    done = SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=error.getvalue())
    assert TOKEN not in done.stdout + done.stderr
    return done


def refused(error: Exception, *words: str) -> str:
    """One clear line without the token, whatever the exception carries along."""
    text = str(error)
    assert "\n" not in text
    for word in words:
        assert word in text
    seen: BaseException | None = error
    while seen is not None:
        assert TOKEN not in f"{seen!r} {seen} {seen.args} {getattr(seen, '__notes__', '')}"
        seen = seen.__cause__ or seen.__context__
    return text


# A run there and back


def test_a_run_pushed_and_pulled_into_an_empty_cache_predicts_the_same_bits(server, run, data, tmp_path):
    done = command("push", str(run), "ada/new", "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{server.url}/ada/new/commit/{server.commit('ada/new', 'main')}"
    assert server.private == {"ada/new"}
    assert server.commits == [("ada/new", "Upload the run run", server.commits[0][2])]
    assert sorted(server.commits[0][2]) == sorted(hub.FILES)
    done = command("pull", "ada/new", "--out", str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    assert {n: b for n, b in files_of(tmp_path / "copy").items() if n != hub.CARD} == {
        n: b for n, b in files_of(run).items() if n != hub.CARD
    }
    feature_set = FeatureSet.open(str(data))
    request = RecoveryRequest(feature_set.split("test")[0], ("text",), draws=2, seed=3)
    answers = [
        RecoveryPipeline.from_pretrained(source, data=feature_set)(request)
        for source in (run, tmp_path / "copy", "ada/new", f"ada/new@{server.commit('ada/new', 'main')}")
    ]
    for other in answers[1:]:
        assert other.predictions == answers[0].predictions
        for k, value in answers[0].reconstructed.items():
            assert np.array_equal(other.reconstructed[k], value)


def test_a_second_push_is_no_commit_and_what_is_gone_is_removed_in_the_same_one(server, run, tmp_path):
    push(run, "ada/new")
    again = command("push", str(run), "ada/new")
    assert again.returncode == 0
    assert "ada/new holds just this already; nothing was committed" in again.stdout
    assert len(server.commits) == 1
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / hub.LOG).unlink()
    server.repositories["ada/new"]["main"]["notes.txt"] = b"mine"
    assert push(copy, "ada/new").changed
    assert server.commits[1][2] == [hub.LOG]
    assert set(server.repositories["ada/new"]["main"]) == {".gitattributes", "notes.txt", *hub.FILES} - {hub.LOG}


def test_a_pulled_run_pushed_again_has_the_same_card(server, run, tmp_path):
    push(run, "ada/new")
    command("pull", "ada/new", "--out", str(tmp_path / "copy"))
    assert push(tmp_path / "copy", "ada/new").changed is False


def test_a_push_onto_a_public_repository_with_private_is_refused(server, run):
    push(run, "ada/new")
    with pytest.raises(commit.CommitError) as caught:
        push(run, "ada/new", private=True)
    refused(caught.value, "ada/new: nothing was published: the repository is public already")
    assert len(server.commits) == 1


def test_a_commit_in_between_is_not_overwritten(server, run, tmp_path):
    push(run, "ada/new")
    save(tmp_path / "other", seed=5)
    server.before_commit = lambda: server.put("ada/new", {"theirs.txt": b"theirs"})
    with pytest.raises(commit.CommitError) as caught:
        push(tmp_path / "other", "ada/new")
    refused(caught.value, "HTTP 412")
    assert server.repositories["ada/new"]["main"] == {"theirs.txt": b"theirs"}


def test_a_private_run_opens_with_the_token_only_and_never_for_visitors(server, run, tmp_path, monkeypatch):
    push(run, "ada/secret", private=True)
    assert hub.load("ada/secret", fallback=False).notice is None
    with pytest.raises(hub.RunError) as caught:  # though it is in the cache of the owner
        hub.load("ada/secret", fallback=False, anonymous=True, deadline=20)
    refused(caught.value, "no such repository, or it is private (HTTP 401)")
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text(TOKEN)  # of `hf auth login`: not ours to use
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    with pytest.raises(hub.RunError) as caught:
        hub.load("ada/secret", fallback=False, deadline=20)
    refused(caught.value, "HF_TOKEN, which opens private ones, is not set")
    count = len(server.requests)
    with pytest.raises(commit.CommitError) as caught:
        push(run, "ada/secret")
    refused(caught.value, "HF_TOKEN is not set; publishing needs")
    assert len(server.requests) == count


def test_the_token_goes_to_the_hub_and_to_no_other_host(server, run, tmp_path):
    push(run, "ada/secret", private=True)
    hub.load("ada/secret", fallback=False)
    stored = [bearer for path, bearer in server.bearers if path.startswith("/stored/")]
    assert stored
    assert not any(stored)
    assert TOKEN in {bearer for path, bearer in server.bearers if path.startswith("/api/models/")}


@pytest.mark.parametrize(("mood", "status"), [("ok", 0), ("portal", 2)])
def test_the_command_in_a_process_of_its_own_prints_one_line(server, run, mood, status):
    server.mood = mood
    done = subprocess.run(
        [sys.executable, "-m", "imder", "push", str(run), "ada/new"], cwd=ROOT, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == status
    assert said.count("\n") == 1
    assert said.startswith("error: ada/new: nothing was published: " if status else f"{server.url}/ada/new/commit/")
    assert TOKEN not in said


def test_what_cannot_be_pushed(server, run, tmp_path):
    for source, target, words in (
        (tmp_path / "none", "ada/new", "there is no such folder"),
        (run, "new", "neither a folder nor a Hub repository"),
        (run, "ada/new@v1", "main branch"),
    ):
        with pytest.raises(hub.RunError) as caught:
            push(source, target)
        refused(caught.value, words)
    broken = shutil.copytree(run, tmp_path / "broken")
    (broken / hub.WEIGHTS).write_bytes(b"")
    done = command("push", str(broken), "ada/new")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    shutil.copyfile(run / hub.WEIGHTS, broken / hub.WEIGHTS)
    (broken / hub.CARD).write_text("---\na: [\n---\ntext")
    with pytest.raises(ValueError, match=r"README\.md: the head between the lines --- is not YAML"):
        push(broken, "ada/new")
    assert server.requests == []


PUSH_MOODS = [*(mood for mood in REASONS if mood not in ("cut", "corrupted")), "offline"]


@pytest.mark.parametrize("mood", PUSH_MOODS)
def test_a_push_in_a_bad_mood_is_one_line(server, run, mood, monkeypatch):
    server.mood = mood
    if mood == "refused":
        server.refuse()
    if mood == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(commit.CommitError) as caught:
        push(run, "ada/new", patience=1)
    reason = {"hang": "the Hub does not answer", "offline": "offline mode is on"}.get(mood) or REASONS[mood]
    refused(caught.value, "ada/new: nothing was published: ", reason)
    assert server.repositories == {}


@pytest.mark.parametrize("step", ["preupload", "upload/", "/commit/"])
def test_a_push_that_fails_half_way_leaves_what_was_there(server, run, tmp_path, step):
    push(run, "ada/new")
    before = dict(server.repositories["ada/new"]["main"])
    save(tmp_path / "other", seed=5)
    server.mood, server.moody = "403", step
    with pytest.raises(commit.CommitError) as caught:
        push(tmp_path / "other", "ada/new")
    assert "made and is empty" not in refused(caught.value, "HTTP 403")
    assert server.repositories["ada/new"]["main"] == before
    with pytest.raises(commit.CommitError) as caught:
        push(tmp_path / "other", "ada/fresh")
    refused(caught.value, "HTTP 403", "the repository was made and is empty")
    assert list(server.repositories["ada/fresh"]["main"]) == [".gitattributes"]


#: The other moods are in test_hub.py: what pulls is the same.
PULL_MOODS = ["403", "404", "503", "refused", "hang", "cut", "portal", "corrupted", "offline"]


@pytest.mark.parametrize("mood", PULL_MOODS)
def test_a_pull_in_a_bad_mood_is_one_line_and_writes_nothing(server, run, data, tmp_path, mood, monkeypatch):
    server.put("ada/run", files_of(run))
    files = {name: path.read_bytes() for name, path in remote.files_of(data).items()}
    server.put("datasets/ada/set", files | {remote.SUMS: remote.sums(remote.files_of(data))})
    server.mood = mood
    if mood == "refused":
        server.refuse()
    if mood == "offline":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    reason = {"offline": "offline mode is on", "hang": "nothing arrived", "cut": "nothing arrived"}.get(mood)
    from imder.publish.pull import pull

    out, seconds = tmp_path / "out" / "it", 2 if mood in ("hang", "cut") else 20
    kinds = [(pull, "ada/run")] + ([(remote.keep, "ada/set")] if mood in ("404", "hang", "corrupted") else [])
    for fetched, name in kinds:
        with pytest.raises(ValueError) as caught:
            fetched(name, out, deadline=seconds)
        refused(caught.value, name, reason or REASONS[mood].partition(" (model")[0])
        assert str(tmp_path) not in str(caught.value)
        assert not out.parent.exists()


def test_a_pull_into_a_folder_that_is_taken(server, run, tmp_path):
    server.put("ada/run", files_of(run))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    done = command("pull", "ada/run", "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path / 'out'}: is there already; choose a new folder or an empty one\n"
    assert server.requests == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_a_slow_hub_is_waited_for_while_something_arrives(server, run, tmp_path):
    server.put("ada/run", files_of(run))
    server.mood, server.delay = "slow", 0.8
    with pytest.raises(fetch.FetchError, match="did not deliver within 2 seconds"):
        hub.pull("ada/run", deadline=2, cache_dir=tmp_path / "a")
    folder, notice = hub.pull("ada/run", deadline=5, patient=True, cache_dir=tmp_path / "b")
    assert notice is None
    assert hub.load_run(folder)


# The card


def test_the_card_is_complete_and_its_figures_are_the_runs(server, run):
    push(run, "ada/new")
    text = server.repositories["ada/new"]["main"][hub.CARD].decode()
    card = ModelCard(text)
    assert card.data.license == "mit"
    assert card.data.library_name == "imder"
    assert card.data.datasets == [DATA["name"]]
    assert {"missing-modality", "diffusion", "synthetic-data"} <= set(card.data.tags)
    assert card.data.metrics == ["mae"]
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    wanted = {f"mean absolute error, {symbols(p)} available": 0.5 + i for i, p in enumerate(PATTERNS[:-1])}
    assert values == wanted | {"mean absolute error, everything available": 0.25}
    assert {result.dataset_split for result in card.data.eval_results} == {"validation"}
    for words in (
        "Measured: nothing.",
        "python -m imder pull ada/new --out RUN",
        'RecoveryPipeline.from_pretrained("ada/new", data="DIR")',
        "python -m imder train --data tiny",
        "Weakest with AV available: mean absolute error 5.50, 0.25 with everything (validation split)",
        "Trained on synthetic data (Tiny)",
    ):
        assert words in text, words


def test_the_cards_figures_come_from_rows_of_just_these_weights(server, run, tmp_path):
    digest = run_digest(run)
    config = hub.load_run(run).model.config
    row = {
        "method": "imder", "available": ["text"], "metric": "mae", "value": 0.5, "n": 3, "draws": 8, "refined": True,
        "seed": 0, "sampler": config.sampler, "steps": config.steps, "protocol": "fixed", "nominal_missing_rate": 0.66,
        "realised_missing_rate": 0.66, "run": f"run@{digest}", "data": "tiny@0123", "split": "test", "limit": None,
        "modality": None, "nfe": 10, "guidance": 1.0, "mask": None, "shares": [0, 0, 1], "se": 0.1, "exact": None,
    }  # fmt: skip
    rows = [
        row,
        row | {"seed": 1, "value": 0.7},
        row | {"metric": "acc2", "value": 0.75},
        row | {"run": "run@00000000", "value": 9.0},
        row | {"data": "other@99999999", "value": 9.0},
        row | {"guidance": 2.0, "value": 9.0},
        row | {"refined": False, "value": 9.0},
        row | {"draws": 1, "value": 9.0},
        row | {"limit": 2, "value": 9.0},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = command("push", str(run), "ada/new", "--rows", str(tmp_path / "rows.jsonl"))
    assert done.returncode == 0, done.stderr
    text = server.repositories["ada/new"]["main"][hub.CARD].decode()
    found = [r for r in ModelCard(text).data.eval_results if r.dataset_split == "test"]
    assert {(r.metric_type, r.metric_value) for r in found} == {("mae", 0.6), ("accuracy", 0.75)}
    assert "| L | 0.600 | 0.750 |" in text
    done = command("push", str(run), "ada/new", "--rows", str(ROOT / "README.md"))
    assert done.returncode == 2
    assert "is not JSON" in done.stderr


def test_the_bundled_runs_card_tells_the_stored_rows():
    from imder.publish.figures import STORED, figures_of

    run = hub.load_run(hub.BUNDLED)
    figures, digest = figures_of(run), run_digest(hub.BUNDLED)
    test = next(own for own in figures if own.split == "test")
    rows = [json.loads(line) for line in STORED[0].read_text().splitlines()]
    for pattern in PATTERNS:
        values = [
            row["value"]
            for row in rows
            if row["run"].endswith(digest)
            and (row["method"], row["protocol"], row["metric"]) == ("imder", "fixed", "mae")
            and (row["draws"], row["refined"], row["available"]) == (8, True, list(pattern))
        ]
        assert test.values[symbols(pattern), "mae"] == pytest.approx(np.mean(values), abs=2e-3)


# Data sets


def test_a_data_set_pushed_and_pulled_again(server, data, tmp_path):
    done = command("data", "push", str(data), "ada/set", "--private", "--license", "cc-by-4.0")
    assert done.returncode == 0, done.stderr
    assert server.private == {"datasets/ada/set"}
    there = server.repositories["datasets/ada/set"]["main"]
    assert len(server.commits) == 1
    (tmp_path / "check").mkdir()
    for name, content in there.items():
        (tmp_path / "check" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "check" / name).write_bytes(content)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path / "check", check=True)
    head = yaml.safe_load(there["README.md"].decode().split("---\n")[1])
    assert (head["license"], head["pretty_name"], head["size_categories"]) == ("cc-by-4.0", "Tiny", ["n<1K"])
    assert "| test | 3 | 1 | 0.00 | 9 | 9 | 9 |" in there["README.md"].decode()

    done = command("data", "pull", "ada/set", "--out", str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    own, copy = FeatureSet.open(str(data)), FeatureSet.open(str(tmp_path / "copy"))
    pulled = FeatureSet.open("ada/set")
    assert copy.fingerprint == pulled.fingerprint == own.fingerprint
    assert pulled.repository == f"ada/set@{server.commit('datasets/ada/set', 'main')}"
    assert pulled.split("test")[0].sound is not None
    for k in MODALITIES:
        assert np.array_equal(pulled.split("test")[1].features[k], own.split("test")[1].features[k])
    assert "nothing was committed" in command("data", "push", str(tmp_path / "copy"), "ada/set").stdout


def test_a_data_set_of_the_hub_by_revision_and_offline(server, data, tmp_path, monkeypatch):
    command("data", "push", str(data), "ada/set")
    first = server.commit("datasets/ada/set", "main")
    server.put("datasets/ada/set", server.repositories["datasets/ada/set"]["main"], "v1")
    server.put("datasets/ada/set", {"data.json": b"{}"}, "main")
    assert FeatureSet.open("ada/set@v1").repository == f"ada/set@{first}"
    with pytest.raises(ValueError) as caught:
        FeatureSet.open("ada/set")
    refused(caught.value, "ada/set: ", "SHA256SUMS: no such file")
    with pytest.raises(ValueError) as caught:
        FeatureSet.open("ada/set@v7")
    refused(caught.value, "no such revision")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    count = len(server.requests)
    assert FeatureSet.open("ada/set@v1").fingerprint == FeatureSet.open(str(data)).fingerprint
    assert len(server.requests) == count


def test_a_file_damaged_in_the_cache_is_pulled_again_and_one_damaged_there_is_refused(server, data):
    command("data", "push", str(data), "ada/set")
    folder = FeatureSet.open("ada/set").folder
    whole = (folder / "test.safetensors").read_bytes()
    (folder / "test.safetensors").resolve().write_bytes(whole[:-1] + b"?")
    assert (FeatureSet.open("ada/set").folder / "test.safetensors").read_bytes() == whole
    server.repositories["datasets/ada/set"]["main"]["train.safetensors"] = b"\0" * 500
    with pytest.raises(ValueError) as caught:
        FeatureSet.open("ada/set")
    refused(caught.value, "what the Hub delivers is faulty (train.safetensors: sha256 is")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "line 1 is not a sum"),
        (f"{'0' * 64}  ../../etc/passwd", "line 1 is not a sum"),
        (f"{'0' * 64}  /etc/passwd", "line 1 is not a sum"),
        (f"{'0' * 64}  other.bin", "names no data.json"),
        ("", "names no data.json"),
    ],
)
def test_sums_that_are_none(data, tmp_path, line, words):
    folder = shutil.copytree(data, tmp_path / "set")
    (folder / remote.SUMS).write_text(line + "\n" if line else "")
    with pytest.raises(ValueError, match=words):
        remote.check(folder)


def test_a_file_that_has_no_sum_or_is_absent(data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "set")
    (folder / remote.SUMS).write_bytes(remote.sums(remote.files_of(folder)))
    remote.check(folder)
    (folder / remote.CARD).write_text("edited on the Hub's page")
    remote.check(folder)
    (folder / "extra.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"extra\.safetensors: is not in SHA256SUMS"):
        remote.check(folder)
    (folder / "extra.safetensors").unlink()
    (folder / "valid.safetensors").unlink()
    with pytest.raises(ValueError, match=r"valid\.safetensors: is in SHA256SUMS and absent"):
        remote.check(folder)


def test_evaluate_reads_both_from_the_hub_and_names_them_as_from_folders(server, run, data, tmp_path):
    push(run, "ada/run")
    command("data", "push", str(data), "ada/set")
    common = ("--protocol", "fixed", "--methods", "imder-mean", "--workers", "1", "--out")
    there = command("evaluate", "--run", "ada/run", "--data", "ada/set", *common, str(tmp_path / "there.jsonl"))
    assert there.returncode == 0, there.stderr
    here = command("evaluate", "--run", str(run), "--data", str(data), *common, str(tmp_path / "here.jsonl"))
    assert here.returncode == 0, here.stderr
    assert (tmp_path / "there.jsonl").read_text() == (tmp_path / "here.jsonl").read_text()


def test_where_the_hub_cannot_serve_the_bundled_pair_does(server, run, tmp_path, monkeypatch):
    model = hub.load_run(hub.BUNDLED).model.config.feature_dims
    server.put("ada/run", files_of(run))  # reads other features than the bundled corpus has
    for mood in ("404", "503"):
        server.mood = mood
        pipeline = RecoveryPipeline.from_pretrained("ada/run", data="ada/set")
        assert dict(pipeline.data.feature_dims) == dict(model)
        refused(ValueError(pipeline.notice), "ada/run: ", "ada/set: ", "bundled checkpoint serves", "bundled data set")
    server.mood = "ok"
    pipeline = RecoveryPipeline.from_pretrained("ada/run", data="ada/set")  # the run is there, its data are not
    assert pipeline.run.source == "bundled"
    assert "The model reads other features: the bundled one serves too." in pipeline.notice
    with pytest.raises(ValueError, match="no such folder"):
        RecoveryPipeline.from_pretrained(run, data=str(tmp_path / "absent"))


# The Space


def test_the_pages_modules_are_those_that_it_imports():
    code = (
        "import sys; sys.argv = ['app.py', '--help']\n"
        "import app, imder.ui.page\n"
        "print('\\n'.join(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = (ROOT / "imder", ROOT / "app.py")  # a virtual environment may lie in the tree, too
    loaded = {Path(line) for line in done.stdout.splitlines() if any(Path(line).is_relative_to(one) for one in ours)}
    listed = page.page_modules()
    assert loaded <= listed
    assert ROOT / "imder" / "fetch.py" in listed
    names = {path.relative_to(ROOT).as_posix() for path in listed}
    assert not any(name.startswith(("imder/publish/", "tests/")) for name in names)


def test_the_requirements_are_those_of_the_pages_modules_and_of_what_visitors_bring():
    lines = page.requirements().splitlines()
    assert {"torch", "gradio", "numpy", "plotly", "safetensors", "huggingface-hub"} <= {x.split("==")[0] for x in lines}
    files = [(ROOT / name).read_text().splitlines() for name in ("requirements.txt", "requirements-extract.txt")]
    needed, optional = ({x.partition("#")[0].strip() for x in file if x[0] not in "#-"} for file in files)
    assert optional <= set(lines) <= needed | optional  # a visitor of a Space types and records, too
    assert not any(line.startswith("pytest") for line in lines)


def test_a_spaces_readme_has_what_a_space_needs(server, run, data):
    files = space_files("ada/page")
    head = yaml.safe_load(files[hub.CARD].decode().split("---\n")[1])
    assert head["sdk"] == "gradio"
    assert f"gradio=={head['sdk_version']}" in (ROOT / "requirements.txt").read_text()
    assert (head["app_file"], head["license"], head["python_version"]) == ("app.py", "mit", "3.11")
    assert len(head["short_description"]) <= 60
    assert {head["colorFrom"], head["colorTo"]} <= {
        *["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]
    }
    assert head["fullWidth"] is True
    assert {"title", "emoji", "tags"} <= set(head)
    assert "models" not in head
    assert "start.py" not in files
    assert not any("__pycache__" in name or name.startswith((".", "tests/", "benchmarks/")) for name in files)


def test_a_space_is_one_commit_with_the_runs_commit_and_the_second_is_none(server, tmp_path):
    weights = hub.BUNDLED
    server.put("ada/run", files_of(weights))
    revision = server.commit("ada/run", "main")
    server.put("spaces/ada/page", {"README.md": b"", "imder/old.py": b"", "notes.txt": b"mine"})
    done = command("space", "ada/page", "--run", "ada/run")
    assert done.returncode == 0, done.stderr
    there = server.repositories["spaces/ada/page"]["main"]
    assert len(server.commits) == 1
    assert "imder/old.py" not in there
    assert there["notes.txt"] == b"mine"
    head = yaml.safe_load(there["README.md"].decode().split("---\n")[1])
    assert head["models"] == ["ada/run"]
    assert head["app_file"] == "start.py"
    assert head["preload_from_hub"] == [f"ada/run config.json,model.safetensors,metrics.json,manifest.json {revision}"]
    assert f"['--run', 'ada/run@{revision}']" in there["start.py"].decode()
    assert re.search(rf"\[ada/run@{revision}\]\(https://huggingface\.co/ada/run\)", there["README.md"].decode())
    assert "nothing was committed" in command("space", "ada/page", "--run", "ada/run").stdout
    assert TOKEN.encode() not in b"".join(there.values())


def test_what_is_no_space(server, run):
    server.put("ada/run", files_of(run))
    done = command("space", "ada/page", "--run", "ada/run")
    assert done.returncode == 2
    assert "name the run's own data set on the Hub with --data owner/name" in done.stderr
    server.mood = "503"
    done = command("space", "ada/page", "--run", "ada/run@v9")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ada/run@v9: nothing was published: the Hub is out of order" in done.stderr
    assert "spaces/ada/page" not in server.repositories
