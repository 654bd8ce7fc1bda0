"""Every layout of the field converts to the clips that it holds, trains, evaluates and opens; and back to MMSA's."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from field_files import FULL, SMALL, Sizes, Truth, misa, mmsa, mult, truth, write_full
from server import ROOT, Server
from test_training import TINY

from imder.__main__ import main
from imder.data import FeatureSet, Standardiser
from imder.data.convert import convert
from imder.data.export import export_mmsa
from imder.modality import MODALITIES
from imder.pipeline import RecoveryPipeline, RecoveryRequest


def dump(path, tree, protocol=4):
    path.write_bytes(pickle.dumps(tree, protocol))
    return path


def check(data: FeatureSet, made: Truth, *, ids: bool = True) -> None:
    for split, texts in made.texts.items():
        clips = list(data.split(split))
        assert len(clips) == len(texts)
        assert [clip.label for clip in clips] == pytest.approx(made.labels[split], abs=1e-6)
        if ids:
            assert [clip.id for clip in clips] == made.ids[split]
            assert [clip.text for clip in clips] == texts
            assert [f"{clip.video}$_${clip.index}" for clip in clips] == made.ids[split]
        for i, clip in enumerate(clips):
            for k in MODALITIES:
                np.testing.assert_array_equal(clip.features[k], made.features[split][k][i])


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("name", "left"), [(name, left) for name in SMALL for left in (False, True) if not (left and SMALL[name].aligned)]
)
def test_mmsas_layout(tmp_path, name, left, protocol):
    made = truth(SMALL[name])
    tree = mmsa(SMALL[name], made, left)
    data, said = convert(dump(tmp_path / f"{name}.pkl", tree, protocol), tmp_path / "set")
    check(data, made)
    side = "left" if left else "right"
    assert any(f"audio, vision: the padding is on the {side}" in sentence for sentence in said)
    assert "text: the valid frames are those of text_bert's mask" in said
    assert "text_bert: the token ids are kept beside the features" in said
    bound = SMALL[name].bound
    assert data.label_range == (-bound, bound)
    extra = data.split("test")[0].extra
    assert extra["annotations"] in ("Positive", "Negative")
    assert ("regression_labels_V" in extra) == SMALL[name].unimodal


def test_mults_layout(tmp_path):
    made = truth(SMALL["mosei-unaligned"])
    tree = mult(SMALL["mosei-unaligned"], made)
    data, said = convert(dump(tmp_path / "mosei.pkl", tree), tmp_path / "set")
    check(data, made, ids=False)
    assert "text, audio, vision: the padding is on the left" in said
    clip = data.split("train")[1]
    assert (clip.id, clip.video, clip.index) == ("train0[1.5,2.5]", "train0", 1)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_misas_layout(tmp_path, words, apart):
    made = truth(SMALL["mosi-aligned"])
    tree = misa(made, words=words)
    if apart:
        for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
            dump(tmp_path / f"{name}.pkl", tree[split])
        files = tmp_path
    else:
        files = dump(tmp_path / "mosi.pkl", {"train": tree["train"], "dev": tree["valid"], "test": tree["test"]})
    if words:
        with pytest.raises(ValueError, match="give --word-vectors FILE"):
            convert(files, tmp_path / "set")
        vectors = np.random.default_rng(1).normal(size=(11, 9)).round(3).astype(np.float32)  # no word11
        lines = [f"word{i} " + " ".join(map(str, row)) for i, row in enumerate(vectors.tolist())]
        (tmp_path / "glove.txt").write_text("\n".join(["the " + "0 " * 9, *lines]).replace("0 \n", "0\n") + "\n")
        known = np.concatenate([vectors, np.zeros((1, 9), np.float32)])
        for split in made.ids:
            made.features[split]["text"] = [known[: len(x)] for x in made.features[split]["text"]]
    data, said = convert(files, tmp_path / "set", words=tmp_path / "glove.txt" if words else None)
    check(data, made, ids=False)
    assert data.clip("train0[3]").video == "train0"
    assert data.clip("train0[3]").text.startswith("word0 word1")
    assert "valid is called 'dev' in the file" in said
    assert any("1 of 12 words have no vector and became zeros: 'word11'" in s for s in said) == words


def test_lists_and_ragged_arrays_and_other_spellings(tmp_path):
    made = truth(SMALL["mosi-unaligned"])
    tree = {}
    for split, name in (("train", "Training"), ("valid", "val"), ("test", "TEST")):
        own = made.features[split]
        ragged = np.empty(len(own["audio"]), dtype=object)
        ragged[:] = own["audio"]
        tree[name] = {
            "Language": [x.tolist() for x in own["text"]],
            "acoustic": ragged,
            "visual": list(own["vision"]),
            "labels": made.labels[split].reshape(-1, 1).tolist(),
            "segment": [x.encode() for x in made.ids[split]],
            "transcripts": made.texts[split],
        }
    data, said = convert(dump(tmp_path / "own.pkl", tree), tmp_path / "set")
    check(data, made)
    assert "train is called 'Training' in the file" in said


def test_an_absent_modality_of_some_clips_is_said_and_learnt_around(tmp_path):
    made = truth(SMALL["mosi-unaligned"])
    tree = mmsa(SMALL["mosi-unaligned"], made)
    tree["train"]["vision"][3] = 0
    tree["train"]["audio_lengths"][5] = 0
    tree["train"]["audio"][5] = 0
    data, said = convert(dump(tmp_path / "x.pkl", tree), tmp_path / "set")
    assert [clip.absent for clip in data.split("train")][3:6] == [("vision",), (), ("audio",)]
    assert "train: vision is absent in 1 clips, which say so: train0$_$3" in said
    kept = [x for i, x in enumerate(made.features["train"]["vision"]) if i != 3]
    fitted = Standardiser.fit(data.split("train"))
    np.testing.assert_allclose(fitted.mean["vision"], np.concatenate(kept).mean(axis=0), rtol=1e-4, atol=1e-5)


# -- back -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mosi-aligned", "sims"])
def test_an_export_converts_back_bit_for_bit(tmp_path, name):
    tree = mmsa(SMALL[name], truth(SMALL[name]))
    tree["train"]["vision"][3] = 0
    first, _ = convert(dump(tmp_path / "x.pkl", tree), tmp_path / "set")
    export_mmsa(first, tmp_path / "back.pkl")
    second, _ = convert(tmp_path / "back.pkl", tmp_path / "again")
    same(first, second)
    for split in first.splits:
        assert [c.extra for c in first.split(split)] == [c.extra for c in second.split(split)]


def same(first: FeatureSet, second: FeatureSet) -> None:
    assert first.splits == second.splits
    for split in first.splits:
        for a, b in zip(first.split(split), second.split(split), strict=True):
            assert (a.id, a.video, a.index, a.text, a.label, a.absent) == (
                b.id,
                b.video,
                b.index,
                b.text,
                b.label,
                b.absent,
            )
            for k in MODALITIES:
                assert a.features[k].dtype == b.features[k].dtype == np.float32
                np.testing.assert_array_equal(a.features[k], b.features[k])


def test_the_bundled_corpus_goes_to_mmsa_and_back(tmp_path, capsys):
    assert main(["data", "export", "bundled", "--out", str(tmp_path / "corpus.pkl")]) == 0
    assert "use_bert False" in capsys.readouterr().out
    with (tmp_path / "corpus.pkl").open("rb") as file:
        found = pickle.load(file)["test"]  # as MMSA opens it, without anything of ours
    assert found["text"].astype(np.float32).shape == (400, 50, 64)
    assert np.array(found["regression_labels"]).astype(np.float32).shape == (400,)
    assert len(found["vision_lengths"]) == len(found["raw_text"]) == len(found["id"]) == 400
    data, _ = convert(tmp_path / "corpus.pkl", tmp_path / "set")
    same(FeatureSet.open("bundled"), data)


@pytest.mark.parametrize(
    ("out", "message"), [("x.npz", "name that ends in .pkl"), (".", "ends in .pkl"), ("d.pkl", "is a folder")]
)
def test_an_export_elsewhere_is_refused(tmp_path, capsys, out, message):
    (tmp_path / "d.pkl").mkdir()
    assert main(["data", "export", "bundled", "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["d.pkl"]


# -- bad input --------------------------------------------------------------------------------------------------------


def change(split, key, value):
    return lambda tree: tree[split].__setitem__(key, value)


def wider(tree):
    tree["test"]["audio"] = np.zeros((8, 30, 6), np.float32)


def ragged_widths(tree):
    tree["train"]["audio"] = [np.ones((3, 5 + (i == 7))) for i in range(24)]


REFUSED = {
    "no clips": (lambda t: [t["test"].__setitem__(k, x[:0]) for k, x in t["test"].items()], "test_text holds no clips"),
    "nan label": (lambda t: t["valid"]["regression_labels"].__setitem__(2, np.nan), "clip 'valid0.*' in valid is nan"),
    "label out of range": (
        lambda t: t["valid"]["regression_labels"].__setitem__(2, 40.0),
        r"outside \[-3",
    ),
    "no labels": (lambda t: t["train"].pop("regression_labels"), "array train_label is missing"),
    "emotions that are not one-hot": (
        change("train", "regression_labels", np.zeros((24, 4, 2))),
        r"of shape \(24, 4, 2\), but not one-hot whether each of 4 is felt",
    ),
    "emotions in one split alone": (
        change("train", "regression_labels", np.tile(np.eye(2)[[0, 1, 0, 0]], (24, 1, 1))),
        "the labels of some splits are emotions, those of others are not",
    ),
    "labels of texts": (change("train", "regression_labels", ["a"] * 24), "expected numbers"),
    "other widths in a split": (wider, "test_audio has width 6, train has 5"),
    "other widths in a list": (ragged_widths, "clip 'train1.*' has width 6, others have 5"),
    "fewer clips": (change("train", "audio", np.ones((3, 30, 5))), "train_text holds 24 clips"),
    "a name with a line's end": (
        lambda t: (t["train"].pop("regression_labels"), t["train"].update({"a\nb\x1b[2J": 1})),
        r"found: .*, a b \[2J",
    ),
    "one id": (change("train", "id", "x"), r"train_id has shape \(1,\); train_text holds 24 clips"),
    "no vision": (lambda t: t["train"].pop("vision"), "train_vision is missing"),
    "vision of texts": (change("train", "vision", ["a"] * 24), "train_vision: clip number 0 is no array"),
    "token ids alone": (lambda t: t["train"].pop("text"), "token ids .text_bert. alone; --encoder"),
    "a length too long": (change("train", "audio_lengths", [31] * 24), "31 is not a length from 0 to 30"),
    "two names of a split": (lambda t: t.update(dev=t["valid"]), "holds both 'valid' and 'dev'"),
    "ids twice": (change("test", "id", ["a"] * 8), "'a' is there twice"),
    "nan text": (lambda t: t["test"]["text"].__setitem__((1, 0, 0), np.nan), "text of clip .* in test holds nan"),
    "no splits": (lambda t: [t.pop(k) for k in list(t)], "no split 'train'"),
    "not of arrays": (lambda t: t.update(train=[1, 2]), "is a list, but not of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_faulty_file_is_one_sentence_and_writes_nothing(tmp_path, capsys, name):
    spoil, message = REFUSED[name]
    tree = mmsa(SMALL["mosi-unaligned"], truth(SMALL["mosi-unaligned"]))
    spoil(tree)
    path = dump(tmp_path / "x.pkl", tree)
    words = ["data", "convert", str(path), "--out", str(tmp_path / "set"), "--label-range", "-3", "3"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert re.search(message, said), said
    assert [p.name for p in tmp_path.iterdir()] == ["x.pkl"]


JUNK = [
    *(None, 3, 2.5, True, "x", b"x", [], {}, (), [[]], [None], [[], [1]], ["a", 1], [["a"]], [[[1], [2, 3]]]),
    *(
        {"text": 1},
        [{}] * 8,
        [None] * 8,
        [[1, 2], [3]] * 4,
        np.zeros(()),
        np.zeros(8),
        np.zeros((8, 1)),
        np.zeros((0, 3)),
    ),
    *(np.zeros((8, 0, 3)), np.zeros((8, 3, 0)), np.full((8, 3, 2), np.nan), np.full((8, 3, 2), -np.inf)),
    *(np.full(8, "a"), np.full((8, 3), b"a"), np.full(8, None), np.array([[1], None] * 4, dtype=object)),
    *(np.array([np.zeros((2, 3))] * 2 + [None] * 6, dtype=object), np.arange(8) > 3, np.full(8, 1e300)),
    *(np.full((8, 3, 2), 1 << 62), [float("inf")] * 8, [10**30] * 8, ["\ud800"] * 8, np.full(8, 2.0**70)),
]


def test_junk_in_any_place_raises_nothing_but_value_errors(tmp_path):
    sizes = Sizes((8, 8, 8), (6, 3), (7, 2), (9, 2), aligned=False)
    whole = mmsa(sizes, truth(sizes))
    (tmp_path / "in").mkdir()
    for key in [*whole["test"], "smell"]:
        for value in JUNK:
            tree = whole | {"test": whole["test"] | {key: value}}
            said = outcome(dump(tmp_path / "in" / "x.pkl", tree), tmp_path / "set")
            assert "\n" not in said
            assert len(said) < 600
            assert {path.name for path in tmp_path.iterdir()} <= {"in", "set"}


def test_junk_in_the_place_of_a_split_raises_nothing_but_value_errors(tmp_path):
    sizes = Sizes((8, 8, 8), (6, 3), (7, 2), (9, 2))
    lists = misa(truth(sizes), words=False)
    for value in JUNK:
        for tree in (value, {"train": value}, lists | {"test": value}, lists | {"test": [value]}):
            assert "\n" not in outcome(dump(tmp_path / "x.pkl", tree), tmp_path / "set")
        for place in range(4):
            (features, label, segment) = lists["test"][0]
            clip = (*features[:place], value, *features[place + 1 :])
            tree = lists | {"test": [(clip, label, segment), (features, value, value)]}
            assert "\n" not in outcome(dump(tmp_path / "x.pkl", tree), tmp_path / "set")


def outcome(path, out) -> str:
    try:
        convert(path, out)
    except ValueError as error:
        return str(error)
    return ""


def test_a_split_by_file_needs_its_name(tmp_path):
    dump(tmp_path / "mosi.pkl", misa(truth(SMALL["mosi-aligned"]), words=False)["train"])
    with pytest.raises(ValueError, match="name does not say which"):
        convert(tmp_path / "mosi.pkl", tmp_path / "set")
    with pytest.raises(ValueError, match="no file of features named after a split"):
        convert(tmp_path, tmp_path / "set")


# -- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sims", "mult", "misa"])
def test_a_converted_file_trains_evaluates_and_opens(tmp_path, capsys, name):
    sizes = SMALL[{"mult": "mosei-unaligned", "misa": "mosi-aligned"}.get(name, name)]
    made = truth(sizes)
    for split, i, k in (("train", 3, "vision"), ("test", 1, "audio")):  # absent
        made.features[split][k][i] = made.features[split][k][i] * 0
    tree = {
        "sims": lambda: mmsa(sizes, made),
        "mult": lambda: mult(sizes, made),
        "misa": lambda: misa(made, words=False),
    }
    dump(tmp_path / "x.pkl", tree[name]())
    folder, run, rows = (str(tmp_path / part) for part in ("set", "run", "rows.jsonl"))
    assert main(["data", "convert", str(tmp_path / "x.pkl"), "--out", folder, "--title", "Some clips"]) == 0
    quick = ["--quick", "--workers", "0", "--least", "3", "--score-updates", "4", "--score-valid", "4"]
    assert main(["train", "--data", folder, "--out", run, *quick, "--set", json.dumps(TINY)]) == 0
    judged = ["--methods", "imder", "mean", "--draws", "2", "--workers", "1"]
    assert main(["evaluate", "--run", run, "--data", folder, "--out", rows, *judged]) == 0
    assert "1 clips of 'test' lack a modality and are left out" in capsys.readouterr().err
    stored = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["n"] for row in stored if row["metric"] == "mae"} == {7}
    pipeline = RecoveryPipeline.from_pretrained(run, data=folder)
    clip = pipeline.data.split("test")[0]
    found = pipeline(RecoveryRequest(clip, ("text", "audio"), steps=2, draws=2))
    assert np.isfinite(found.readable_draws["vision"]).all()
    assert found.readable_draws["vision"].shape[2] == sizes.vision[1]
    if name == "sims":
        with Server(ROOT / "app.py", "--run", run, "--data", folder) as server:
            assert "Some clips" in json.dumps(server.config())


# -- at full size -----------------------------------------------------------------------------------------------------

CHILD = """
import sys
from imder.__main__ import main
status = main(["data", "convert", sys.argv[1], "--out", sys.argv[2]])
with open("/proc/self/status") as file:  # not getrusage, which counts the parent's memory at the fork
    print("peak", next(line.split()[1] for line in file if line.startswith("VmHWM")))
sys.exit(status)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_a_file_of_full_size_is_converted_in_little_memory(tmp_path, name):
    path = tmp_path / f"{name}.pkl"
    write_full(path, FULL[name])
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path, tmp_path / "set"], capture_output=True, text=True, check=True
    )
    seconds, size = time.monotonic() - began, path.stat().st_size / 1e9
    path.unlink()
    peak = int(done.stdout.split("peak ")[1]) // 1000
    print(f"\n{name}: {size:.2f} GB in {seconds:.0f} s, peak {peak} MB")
    assert peak < 4000
    data = FeatureSet.open(tmp_path / "set")
    assert tuple(len(data.split(split)) for split in data.splits) == FULL[name].clips
    assert tuple(data.feature_dims.values()) == tuple(getattr(FULL[name], k)[1] for k in MODALITIES)
    del data
    shutil.rmtree(tmp_path / "set")  # gigabytes that pytest would keep
