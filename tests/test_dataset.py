"""Data set folders: what is written is read again, and every fault is one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from imder.data import Clip, FeatureSet, Standardiser, Word, collate, resample, write_feature_set
from imder.data.dataset import sound_name
from imder.data.tensors import dequantise, quantise
from imder.modality import MODALITIES

WIDTHS = {"text": 6, "audio": 4, "vision": 3}
LABEL = {"name": "sentiment", "range": [-3, 3]}


def make_clip(i: int, lengths: tuple[int, int, int] | None = None) -> Clip:
    rng = np.random.default_rng(i)
    lengths = lengths or tuple(rng.integers(3, 9, size=3))
    features = {k: rng.normal(size=(n, WIDTHS[k])).astype(np.float32) for k, n in zip(MODALITIES, lengths, strict=True)}
    words = (Word("good", 0.0, 0.25), Word("film", 0.5, 1.0))
    return Clip(
        f"v{i // 2}$_${i}", f"v{i // 2}", i, "good film", features, i % 7 - 3.0, words, None, 1.5, {"speaker": "s"}
    )


@pytest.fixture
def splits() -> dict[str, list[Clip]]:
    return {"train": [make_clip(i) for i in range(6)], "test": [make_clip(i) for i in range(6, 9)]}


def write(folder, splits, **options) -> FeatureSet:
    return write_feature_set(folder, splits, name="small", title="Small", label=LABEL, **options)


@pytest.mark.parametrize("compact_text", [False, True])
@pytest.mark.parametrize(("kind", "bound"), [("float32", 0), ("float16", 2e-3), ("uint8", 4 / 255)])
def test_clips_come_back(tmp_path, splits, kind, bound, compact_text):
    data = write(tmp_path / "set", splits, storage=dict.fromkeys(MODALITIES, kind), compact_text=compact_text)
    assert (data.splits, len(data), len(data.split("train"))) == (("train", "test"), 9, 6)
    assert data.feature_dims == WIDTHS
    assert data.videos("train") == ["v0", "v1", "v2"]
    for split, clips in splits.items():
        for clip, read in zip(clips, data.split(split), strict=True):
            for k in MODALITIES:
                assert read.features[k].dtype == np.float32
                np.testing.assert_allclose(read.features[k], clip.features[k], atol=bound, rtol=0)
            assert asdict(read) | {"features": 0} == asdict(clip) | {"features": 0}


def test_absent_modalities_are_kept_and_count_for_nothing(tmp_path, splits):
    gone = replace(
        splits["train"][2], absent=("audio",), features=dict(splits["train"][2].features, audio=np.zeros((1, 4)))
    )
    data = write(
        tmp_path / "set", {"train": [*splits["train"][:2], gone, *splits["train"][3:]], "test": splits["test"]}
    )
    assert [clip.absent for clip in data.split("train")][1:4] == [(), ("audio",), ()]
    assert [clip.index for clip in data.complete("train")] == [0, 1, 3, 4, 5]
    whole, without = Standardiser.fit(data.split("train")), Standardiser.fit(data.complete("train"))
    np.testing.assert_array_equal(whole.mean["audio"], without.mean["audio"])
    assert (whole.mean["text"] != without.mean["text"]).all()
    alone = Standardiser.fit([data.clip(gone.id)])  # stand-ins of what nobody has stay as they are: zeros
    assert (alone.mean["audio"].tolist(), alone.std["audio"].tolist()) == ([0] * 4, [1] * 4)


def test_a_split_is_indexed_like_a_list(tmp_path, splits):
    train = write(tmp_path / "set", splits).split("train")
    assert train[-1].id == train[5].id == "v2$_$5"
    assert [clip.id for clip in train[1:3]] == ["v0$_$1", "v1$_$2"]
    with pytest.raises(IndexError):
        train[6]


def test_quantisation_is_half_a_step_at_most_and_keeps_constant_features():
    x = np.random.default_rng(0).normal(size=(200, 3)) * [1, 100, 0] + [0, 5, 7]
    q, scale, offset = quantise(x)
    assert q.dtype == np.uint8
    assert (np.abs(dequantise(q, scale, offset) - x) <= scale / 2 + 1e-5).all()
    assert (dequantise(q, scale, offset)[:, 2] == 7).all()


def test_compact_text_stores_a_repeated_row_once(tmp_path, splits):
    rows = np.eye(2, WIDTHS["text"], dtype=np.float32)
    for clip in splits["train"]:
        clip.features["text"] = rows[[0, 0, 1, 0, 1]]
    data = write(tmp_path / "set", splits, compact_text=True)
    assert load_file(tmp_path / "set" / "train.safetensors")["text.words"].shape == (2, WIDTHS["text"])
    np.testing.assert_array_equal(data.clip("v1$_$3").features["text"], rows[[0, 0, 1, 0, 1]])


def test_vocabulary_redraws_and_sound(tmp_path, splits):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, WIDTHS["text"])).astype(np.float32)
    draws = {k: rng.normal(size=(64, 5, WIDTHS[k])).astype(np.float32) for k in ("audio", "vision")}
    with_draws, with_sound = splits["test"][1].id, splits["test"][0].id
    data = write(
        tmp_path / "set",
        splits,
        vocabulary=(["good", "bad"], vectors),
        redraws={with_draws: draws},
        files={sound_name(with_sound): b"OggS", "README.md": b"# card"},
    )
    assert data.vocabulary[0] == ["good", "bad"]
    np.testing.assert_array_equal(data.vocabulary[1], vectors)
    np.testing.assert_allclose(data.redraws(with_draws)["audio"], draws["audio"], atol=0.02)
    assert data.redraws(with_sound) is None
    assert data.clip(with_sound).sound.read_bytes() == b"OggS"
    assert data.clip(with_draws).sound is None


def test_the_fingerprint_follows_the_content(tmp_path, splits):
    first, again = write(tmp_path / "a", splits), write(tmp_path / "b", splits)
    assert first.fingerprint == again.fingerprint
    splits["train"][0].features["audio"][0, 0] += 1
    assert write(tmp_path / "a", splits).fingerprint != first.fingerprint


def test_an_open_set_outlives_its_replacement(tmp_path, splits):
    data = write(tmp_path / "set", splits)
    wanted = splits["train"][0].features["audio"].copy()
    splits["train"][0].features["audio"] += 1
    write(tmp_path / "set", splits)
    np.testing.assert_array_equal(data.split("train")[0].features["audio"], wanted)


def test_a_failed_write_leaves_what_was_there(tmp_path, splits):
    before = write(tmp_path / "set", splits).fingerprint
    splits["test"].append(splits["train"][0])
    with pytest.raises(ValueError, match=r"'v0\$_\$0' is there twice"):
        write(tmp_path / "set", splits)
    assert FeatureSet.open(tmp_path / "set").fingerprint == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("name", ["thesis.txt", "data.json"])
def test_a_folder_that_is_no_feature_set_is_not_overwritten(tmp_path, splits, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="nothing was overwritten"):
        write(tmp_path, splits)
    assert (tmp_path / name).read_text() == "{}"


def edit_json(change):
    def fault(folder):
        info = json.loads((folder / "data.json").read_text())
        change(info)
        (folder / "data.json").write_text(json.dumps(info))

    return fault


def edit_tensors(change, split="train"):
    def fault(folder):
        tensors = load_file(folder / f"{split}.safetensors")
        change(tensors)
        (folder / f"{split}.safetensors").unlink()
        save_file(tensors, folder / f"{split}.safetensors")

    return fault


def truncate(folder):
    path = folder / "train.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def put(tensors, k, value):
    tensors[k] = value


FAULTS = {
    "no folder": (lambda d: d.rename(d.with_name("away")), "no such folder"),
    "no json": (lambda d: (d / "data.json").unlink(), r"data\.json: no such file"),
    "not json": (lambda d: (d / "data.json").write_text("{"), "not JSON"),
    "deep json": (lambda d: (d / "data.json").write_text("[" * 100_000), "nested too deeply"),
    "not text": (lambda d: (d / "data.json").write_bytes(b"\xff"), "cannot be read"),
    "format": (edit_json(lambda i: i.update(format="imder-features/9")), "'imder-features/9'; expected"),
    "a list": (lambda d: (d / "data.json").write_text("[]"), "format is None"),
    "nan label": (edit_json(lambda i: i["splits"]["train"][0].update(label=float("nan"))), "NaN is not JSON"),
    "label": (edit_json(lambda i: i["splits"]["train"][0].update(label=9)), r"train\[0\]: label 9 is outside \[-3"),
    "label range": (edit_json(lambda i: i["label"].update(range=[3, -3])), r"label range is \[3, -3\]"),
    "split": (edit_json(lambda i: i["splits"].update(extra=[])), "split 'extra' is not known"),
    "empty split": (edit_json(lambda i: i["splits"].update(valid=[])), "valid: no clips"),
    "no splits": (edit_json(lambda i: i.update(splits={})), "no splits"),
    "duplicate id": (edit_json(lambda i: i["splits"]["train"][1].update(id="v0$_$0")), "is there twice"),
    "no text": (edit_json(lambda i: i["splits"]["train"][1].pop("text")), r"train\[1\]: 'text' is missing"),
    "bool length": (edit_json(lambda i: i["splits"]["train"][1]["lengths"].update(text=True)), "expected int"),
    "zero length": (edit_json(lambda i: i["splits"]["train"][1]["lengths"].update(text=0)), "at least one frame"),
    "longer": (edit_json(lambda i: i["splits"]["train"][1]["lengths"].update(audio=50)), "add up to"),
    "word": (edit_json(lambda i: i["splits"]["train"][1].update(words=[["a", 0.5, 0.4]])), "start <= end"),
    "absent": (edit_json(lambda i: i["splits"]["train"][1].update(absent=["smell"])), "'smell' is not a modality"),
    "all absent": (edit_json(lambda i: i["splits"]["train"][1].update(absent=list(MODALITIES))), "one or two of text"),
    "absent twice": (edit_json(lambda i: i["splits"]["train"][1].update(absent=["text"] * 2)), "one or two of text"),
    "absent text": (edit_json(lambda i: i["splits"]["train"][1].update(absent="text")), "one or two of text"),
    "names": (edit_json(lambda i: i["feature_names"]["audio"].pop()), "3 feature_names of audio, its width is 4"),
    "redraws": (edit_json(lambda i: i.update(redraws=["v0$_$0"])), r"redraws\.safetensors: no such file"),
    "no tensors": (lambda d: (d / "test.safetensors").unlink(), r"test\.safetensors: no such file"),
    "truncated": (truncate, "not a whole safetensors file"),
    "empty file": (lambda d: (d / "train.safetensors").write_bytes(b""), "not a whole safetensors file"),
    "rank": (edit_tensors(lambda t: put(t, "audio", t["audio"][None])), "audio has shape .* expected 2 axes"),
    "dtype": (edit_tensors(lambda t: put(t, "audio", t["audio"].astype(np.float64))), "stored as F64"),
    "integers": (edit_tensors(lambda t: put(t, "audio", t["audio"].astype(np.int32))), "stored as I32"),
    "width": (edit_tensors(lambda t: put(t, "vision", t["vision"][:, :2].copy()), "test"), "width 2, train has 3"),
    "no scale": (edit_tensors(lambda t: put(t, "audio", t["audio"].astype(np.uint8))), r"'audio\.scale' is missing"),
    "missing": (edit_tensors(lambda t: t.pop("audio")), "tensor 'audio' is missing"),
    "unknown": (edit_tensors(lambda t: put(t, "smell", t["audio"])), "tensor 'smell' is not known"),
    "nan": (edit_tensors(lambda t: t["audio"].__setitem__((-1, 0), np.nan)), r"audio of clip 'v2\$_\$5' holds"),
    "index": (
        edit_tensors(
            lambda t: t.update({"text.words": t.pop("text"), "text.index": np.array([0, 99], dtype=np.int32)}),
        ),
        "points outside",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_in_one_sentence(tmp_path, splits, name):
    fault, message = FAULTS[name]
    folder = tmp_path / "set"
    write(folder, splits)
    fault(folder)
    with pytest.raises(ValueError, match=message) as error:
        FeatureSet.open(folder)
    assert "\n" not in str(error.value)


def test_every_truncation_is_refused(tmp_path, splits):
    write(tmp_path / "set", splits)
    path = tmp_path / "set" / "test.safetensors"
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            FeatureSet.open(tmp_path / "set")


def test_unknown_names_are_named(tmp_path, splits):
    data = write(tmp_path / "set", splits)
    with pytest.raises(ValueError, match=r"clip 'nope' is not in 'small'; an id looks like 'v0\$_\$0'"):
        data.clip("nope")
    with pytest.raises(ValueError, match="split 'valid' is not in 'small'; it has: train, test"):
        data.split("valid")
    with pytest.raises(ValueError, match="is a file, a data set is a folder"):
        FeatureSet.open(tmp_path / "set" / "data.json")


# -- batches and standardisation --------------------------------------------------------------------------------------


def test_resampling_keeps_the_ends_and_a_straight_line():
    x = np.linspace(0, 1, 7, dtype=np.float32)[:, None]
    np.testing.assert_allclose(resample(x, 13)[:, 0], np.linspace(0, 1, 13), atol=1e-6)
    np.testing.assert_array_equal(resample(x[:1], 4), np.zeros((4, 1)))


def test_collate_masks_short_clips_and_resamples_unaligned_ones():
    batch = collate([make_clip(0, (5, 5, 5)), make_clip(1, (8, 8, 8)), make_clip(2, (4, 9, 1))], frames=6)
    assert batch.valid.sum(dim=1).tolist() == [5, 8, 6]
    assert batch.features["audio"].shape == (3, 8, WIDTHS["audio"])
    assert (batch.features["audio"][0, 5:] == 0).all()


def test_standardised_training_frames_have_mean_0_and_deviation_1():
    clips = [make_clip(i) for i in range(20)]
    for clip in clips:
        clip.features["audio"][:, 0] = 1e4  # constant
        clip.features["vision"] = clip.features["vision"] * 1e3 + 5e4
    standardiser = Standardiser.fit(iter(clips))
    for k in MODALITIES:
        x = standardiser.forward(k, np.concatenate([clip.features[k] for clip in clips]))
        wanted = np.ones(WIDTHS[k])
        if k == "audio":
            assert (x[:, 0] == 0).all()
            wanted[0] = 0
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(x.std(axis=0), wanted, atol=1e-4)


def test_a_channel_that_moves_by_rounding_only_is_constant():
    clips = [make_clip(i) for i in range(20)]
    for i, clip in enumerate(clips):
        clip.features["text"][:, 1] = 7e-9 * (-1) ** i  # its mean is 0, so its own scale tells nothing
    assert Standardiser.fit(clips).std["text"][1] == 1


def test_standardising_keeps_padding_at_zero_and_can_be_undone():
    clips = [make_clip(0, (5, 5, 5)), make_clip(1, (8, 8, 8))]
    raw = collate(clips)
    standardiser = Standardiser.from_json(json.loads(json.dumps(Standardiser.fit(clips).to_json())))
    batch = standardiser.apply(raw)
    for k in MODALITIES:
        assert (batch.features[k][0, 5:] == 0).all()
        back = standardiser.invert(k, batch.features[k])
        torch.testing.assert_close(back[raw.valid], raw.features[k][raw.valid], atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(standardiser.mean["text"], Standardiser.fit(clips).mean["text"])


@pytest.mark.parametrize("value", [None, [], {}, "x", [1, "a"], [1.0, 1e400], [10**400, 1], [0.0] * 3, [[1.0]], [True]])
def test_a_standardiser_of_anything_else_is_refused(value):
    stored = Standardiser.fit([make_clip(0)]).to_json()
    stored["vision"]["std"] = value
    with pytest.raises(ValueError, match="standardiser: std of vision"):
        Standardiser.from_json(stored)


def test_a_width_it_was_not_fitted_on_is_named():
    with pytest.raises(ValueError, match="audio has width 9, it was fitted on 4"):
        Standardiser.fit([make_clip(0)]).forward("audio", np.zeros((2, 9)))


def test_quantised_values_do_not_depend_on_the_memory_order():
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    q, scale, offset = quantise(np.asfortranarray(x))
    assert q.flags.c_contiguous
    np.testing.assert_allclose(dequantise(q, scale, offset), x, atol=float(scale.max()))
