"""`data convert`: real and made-up npz files to data set folders; hostile files are refused."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file

from imder.__main__ import main
from imder.data import FeatureSet, collate
from imder.data.convert import convert, survey
from imder.data.layouts import source_from_arrays
from imder.data.npz import read_npz
from imder.modality import MODALITIES

LENGTHS = [3, 5, 1, 4]
FRAMES, WIDTH = 6, {"text": 5, "audio": 3, "vision": 2}


def make_arrays(prefixes=("train", "valid", "test"), left: bool = False) -> dict[str, np.ndarray]:
    """Four clips a split, padded to six frames."""
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix in prefixes:
        for k in MODALITIES:
            x = rng.normal(size=(4, FRAMES, WIDTH[k])).astype(np.float32)
            for i, n in enumerate(LENGTHS):
                x[i, slice(0, FRAMES - n) if left else slice(n, None)] = 0
            arrays[f"{prefix}_{k}"] = x
            arrays[f"{prefix}_len_{k}"] = np.array(LENGTHS)
        arrays[f"{prefix}_label"] = np.array([-2.4, 0, 1, 3], dtype=np.float32)
        arrays[f"{prefix}_id"] = np.array([f"{prefix}A$_$7", f"{prefix}A$_$9", f"{prefix}_b_1", prefix])
        arrays[f"{prefix}_raw_text"] = np.array(["so good", "", "a\nb", "naïve 好"])
    return arrays


def without(arrays, *endings):
    return {name: x for name, x in arrays.items() if not name.endswith(endings)}


@pytest.fixture
def run(tmp_path):
    """Arrays to the converted set, with what was said."""

    def run(arrays, **options):
        np.savez_compressed(tmp_path / "made up.npz", **arrays)
        return convert(tmp_path / "made up.npz", tmp_path / "out", **options)

    return run


def check(data: FeatureSet, arrays, spans=None) -> None:
    """Every clip's features are the stated frames of the array."""
    for split in data.splits:
        for i, clip in enumerate(data.split(split)):
            for k in MODALITIES:
                wanted = arrays[f"{split}_{k}"][i, spans[i] if spans else slice(0, LENGTHS[i])]
                np.testing.assert_array_equal(clip.features[k], wanted.astype(np.float32))


def test_features_lengths_and_records_arrive(run):
    arrays = make_arrays() | {
        "train_speaker": np.array(["a", "a", "b", "c"]),
        "train_pitch": np.array([1.5, 2, 3, np.nan]),
    }
    data, said = run(arrays, title="Made up")
    check(data, arrays)
    assert (data.name, data.title, data.synthetic, data.label_range) == ("made up", "Made up", False, (-3, 3))
    clips = data.split("train")
    assert [(clip.video, clip.index) for clip in clips] == [
        ("trainA", 7),
        ("trainA", 9),
        ("train_b", 1),
        ("speaker c", 0),
    ]
    assert [clip.text for clip in clips] == ["so good", "", "a\nb", "naïve 好"]
    assert clips[0].extra == {"speaker": "a", "pitch": 1.5}
    assert clips[3].extra == {"speaker": "c"}
    assert said == [
        "label range taken to be [-3, 3], from labels -2.4 to 3",
        "text, audio, vision: the padding is on the right",
    ]


def test_features_of_float64_big_endian_and_fortran_order_are_read(run):
    arrays = make_arrays()
    arrays["train_text"] = arrays["train_text"].astype(">f8")
    arrays["train_audio"] = np.asfortranarray(arrays["train_audio"])
    arrays["train_vision"] = np.rint(arrays["train_vision"]).astype(np.int16)
    data, _ = run(arrays)
    check(data, arrays)


def test_half_precision_is_kept_only_where_it_is_exact(run, tmp_path):
    arrays = make_arrays()
    for split in ("train", "valid", "test"):
        arrays[f"{split}_audio"] = arrays[f"{split}_audio"].astype(np.float16)
    check(run(arrays)[0], arrays)
    stored = load_file(tmp_path / "out" / "train.safetensors")
    assert (stored["audio"].dtype, stored["text"].dtype) == (np.float16, np.float32)


def test_splits_may_be_missing_or_called_dev(run):
    data, said = run(make_arrays(("train", "dev")))
    assert data.splits == ("train", "valid")
    assert "valid is called 'dev' in the file" in said
    assert "there is no split 'test'" in said
    with pytest.raises(ValueError, match="holds both 'valid' and 'dev'"):
        run(make_arrays(("train", "dev", "valid")))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_either_padding_side_with_and_without_lengths(run, left, lengths):
    arrays = make_arrays(left=left)
    data, said = run(arrays if lengths else without(arrays, *(f"_len_{k}" for k in MODALITIES)))
    check(data, arrays, [slice(FRAMES - n, None) if left else slice(0, n) for n in LENGTHS])
    assert any("padding is on the left" in sentence for sentence in said) == left
    assert any("no lengths in the file" in sentence for sentence in said) == (not lengths)


def test_aligned_arrays_without_lengths_keep_their_common_time_axis(run):
    arrays = without(make_arrays(), *(f"_len_{k}" for k in MODALITIES))
    arrays["train_vision"][:, :] = 0  # no face in any frame
    arrays["train_audio"][1, 0] = 0
    data, _ = run(arrays)
    assert [clip.lengths for clip in data.split("train")] == [dict.fromkeys(MODALITIES, n) for n in LENGTHS]
    check(data, arrays)


def test_unaligned_arrays_have_a_length_each(run):
    arrays = without(make_arrays(), *(f"_len_{k}" for k in MODALITIES))
    for split in ("train", "valid", "test"):
        arrays[f"{split}_audio"] = np.repeat(arrays[f"{split}_audio"], 3, axis=1)
        arrays[f"{split}_vision"] = arrays[f"{split}_vision"][:, 0]  # one vector a clip
    data, _ = run(arrays)
    assert [clip.lengths for clip in data.split("test")] == [{"text": n, "audio": 3 * n, "vision": 1} for n in LENGTHS]
    assert collate(data.split("test")).features["vision"].shape == (4, 50, 2)


def test_values_beyond_the_length_are_left_out_and_counted(run):
    arrays = make_arrays()
    arrays["train_audio"][0, 4] = np.nan
    data, said = run(arrays)
    check(data, arrays)
    assert "audio: 1 clips have values beyond their length, which were left out" in said


def test_minus_infinity_in_audio_becomes_0_and_is_counted(run):
    arrays = make_arrays()
    arrays["train_audio"][0, :2, 0] = arrays["test_audio"][1, 0, 2] = -np.inf
    data, said = run(arrays)
    assert data.split("train")[0].features["audio"][:2, 0].tolist() == [0, 0]
    assert "audio: 3 values of -inf in 2 clips were set to 0" in said


def test_infinities_and_nan_in_audio_are_told_apart(run):
    arrays = make_arrays()
    arrays["train_audio"][0, :, 0] = [np.nan, np.inf, -np.inf, 0, 0, 0]
    data, said = run(arrays)
    assert data.split("train")[0].features["audio"][:, 0].tolist() == [0, 0, 0]
    assert "audio: 1 values of -inf, 1 values of inf, 1 values of nan in 1 clips were set to 0" in said


def test_a_modality_without_frames_or_signal_is_absent(run):
    arrays = make_arrays()
    arrays["train_len_vision"] = np.array([0, *LENGTHS[1:]])
    arrays["test_audio"][2] = 0
    data, said = run(arrays)
    clip = data.split("train")[0]
    assert (clip.absent, clip.features["vision"].tolist()) == (("vision",), [[0, 0]])
    assert data.split("test")[2].absent == ("audio",)
    assert [len(data.complete(split)) for split in data.splits] == [3, 4, 3]
    assert "train: vision is absent in 1 clips, which say so: trainA$_$7" in said
    assert "test: audio is absent in 1 clips, which say so: test_b_1" in said


def test_clips_with_nothing_are_dropped_and_named(run):
    arrays = make_arrays()
    for k in MODALITIES:
        arrays[f"train_{k}"][1] = 0
    data, said = run(arrays)
    assert [clip.index for clip in data.split("train")] == [7, 1, 0]
    assert "train: 1 clips with no modality at all were dropped: trainA$_$9" in said
    for k in MODALITIES:
        arrays[f"train_{k}"][:] = 0
    with pytest.raises(ValueError, match="train has no clip that can be used"):
        run(arrays)


def test_faulty_clips_are_dropped_if_asked_and_named(run):
    arrays = make_arrays()
    arrays["train_text"][0, 1, 2] = np.nan
    arrays["test_label"][1] = np.nan
    arrays["valid_label"][3] = 7
    with pytest.raises(ValueError, match="--drop-faulty leaves such clips out"):
        run(arrays)
    data, said = run(arrays, drop_faulty=True, label_range=(-3, 3))
    assert [len(data.split(split)) for split in data.splits] == [3, 3, 3]
    assert "train: 1 clips with text that is not finite were dropped: trainA$_$7" in said
    assert "test: 1 clips with a label of nan were dropped: testA$_$9" in said
    assert "valid: 1 clips with a label of 7 were dropped: valid" in said


def test_ids_and_texts_are_made_where_there_are_none(run):
    data, _ = run(without(make_arrays(("train", "test")), "_id", "_raw_text"))
    assert data.clip("test$_$2").text == ""


def test_classes_are_indices_with_names(run):
    arrays = make_arrays() | {"label_names": np.array(["calm", "sad", "glad"])}
    for split in ("train", "valid", "test"):
        arrays[f"{split}_label"] = np.array([0, 1, 2, 2])
    data, _ = run(arrays)
    assert (data.label_name, data.label_range, data.label_classes) == ("emotion", (0, 2), ("calm", "sad", "glad"))
    assert [clip.extra["label_text"] for clip in data.split("valid")] == ["calm", "sad", "glad", "glad"]
    assert "not a sentiment" in data.note
    arrays["test_label"] = np.array([0, 1, 2, 3])
    with pytest.raises(ValueError, match="not indices into the 3 label_names"):
        run(arrays)


def test_the_label_range_is_checked(run):
    assert run(make_arrays(), label_range=(-5, 5))[0].label_range == (-5, 5)
    with pytest.raises(ValueError, match=r"labels go from -2\.4 to 3, outside \[-1"):
        run(make_arrays(), label_range=(-1, 1))


def spoil(name, place, value):
    return lambda arrays: arrays[name].__setitem__(place, value)


REFUSED = {
    "nan": (spoil("train_text", (1, 0, 0), np.nan), r"text of clip 'trainA\$_\$9' in train holds nan"),
    "too large in audio": (lambda a: a.update(test_audio=a["test_audio"].astype(float) * 1e300), "audio of clip"),
    "-inf in vision": (spoil("test_vision", (0, 0, 0), -np.inf), "vision of clip .* holds -inf"),
    "too large": (lambda a: a.update(train_text=a["train_text"].astype(float) * 1e300), "only finite float32 values"),
    "nan label": (spoil("valid_label", 2, np.nan), "the label of clip 'valid_b_1' in valid is nan"),
    "label of texts": (lambda a: a.update(train_label=np.array(["a"] * 4)), "train_label is <U1"),
    "label too short": (lambda a: a.update(train_label=np.zeros(3)), r"train_label has shape \(3,\)"),
    "no audio": (lambda a: a.pop("train_audio"), "array train_audio is missing"),
    "fewer clips": (lambda a: a.update(train_vision=a["train_vision"][:2]), "train_text holds 4 clips"),
    "rank": (lambda a: a.update(train_vision=a["train_vision"][None]), r"train_vision is float32 of shape \(1, 4"),
    "no width": (lambda a: a.update(train_vision=a["train_vision"][:, :, :0]), r"shape \(4, 6, 0\)"),
    "other width": (lambda a: a.update(test_vision=a["test_vision"][:, :, :1]), "vision has width 1, train has 2"),
    "length": (lambda a: a.update(train_len_text=np.array([1, 2, 3, 7])), "7 is not a length from 0 to 6"),
    "fraction": (lambda a: a.update(train_len_text=np.array([1, 2, 3, 2.5])), "expected an integer a clip"),
    "same id": (lambda a: a.update(test_id=a["train_id"]), r"'trainA\$_\$7' is there twice"),
    "nothing": (lambda a: [a.pop(name) for name in list(a)], "no arrays named like 'train_text'; found: none"),
    "complex": (lambda a: a.update(train_text=a["train_text"].astype(complex)), "train_text is of type complex128"),
    "objects": (lambda a: a.update(train_id=np.array(list("abcd"), dtype=object)), "train_id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_faulty_arrays_are_refused_in_one_sentence_and_nothing_is_written(run, tmp_path, name):
    change, message = REFUSED[name]
    arrays = make_arrays()
    change(arrays)
    with pytest.raises(ValueError, match=message) as error:
        run(arrays)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["made up.npz"]


# -- hostile files ----------------------------------------------------------------------------------------------------


def header(shape, dtype="<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def pack(path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


HOSTILE = {
    "lying shape": (lambda: {"train_text.npy": header((1 << 40, 5)) + bytes(64)}, "more than its"),
    "overflowing shape": (lambda: {"train_text.npy": header((1 << 62, 1 << 62)) + bytes(64)}, "more than its"),
    "negative shape": (lambda: {"train_text.npy": header((-1, 4)) + bytes(64)}, r"claims shape \(-1, 4\)"),
    "trailing bytes": (lambda: {"train_text.npy": header((2, 2)) + bytes(17)}, "needs 16"),
    "objects": (lambda: {"train_text.npy": header((1,), "|O") + pickle.dumps([1])}, "is of type object"),
    "structures": (lambda: {"train_text.npy": header((1,), [("a", "<f4")]) + bytes(4)}, "is of type"),
    "empty texts": (lambda: {"train_text.npy": header((1,), "<U0")}, "is of type"),
    "no Unicode": (lambda: {"train_id.npy": header((1,), "<U1") + b"\xff\xff\xff\x7f"}, "not Unicode"),
    "no header": (lambda: {"train_text.npy": b"\x93NUMPY\x01\x00\x10\x00((((((((((((((("}, "header cannot be read"),
    "many members": (lambda: {f"{i}.npy": b"" for i in range(2000)}, "holds 2000 arrays; at most 500"),
    "other member": (lambda: {"run.py": b"print()"}, "'run.py' is no array"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path, name):
    members, message = HOSTILE[name]
    with pytest.raises(ValueError, match=message) as error:
        read_npz(pack(tmp_path / "x.npz", members()))
    assert "\n" not in str(error.value)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("imder.data.npz.FREE_BYTES", 1 << 20)
    path = pack(tmp_path / "x.npz", {"train_text.npy": header((1 << 21,)) + bytes(1 << 23)})
    with pytest.raises(ValueError, match="would unpack to 83887"):
        read_npz(path)


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="is a pickle"):
        read_npz(tmp_path / "x.pkl")
    (tmp_path / "x.npz").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="not a whole npz file"):
        read_npz(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="no such file"):
        read_npz(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match="packed in a way"):
        read_npz(pack(tmp_path / "y.npz", {"a.npy": header((0,))}, zipfile.ZIP_LZMA))


def test_truncated_and_altered_files_raise_nothing_but_value_errors(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **make_arrays(("train",)))
    whole = path.read_bytes()
    for size in range(0, len(whole), 61):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError):
            read_npz(path)
    rng = np.random.default_rng(0)
    for _ in range(300):
        path.write_bytes(altered(whole, rng))
        assert "\n" not in outcome(path)


def test_altered_arrays_with_a_right_checksum_raise_nothing_but_value_errors(tmp_path):
    arrays = make_arrays(("train",)) | {"label_names": np.array(list("abcdefg"))}
    members = {}
    for name, x in arrays.items():
        file = io.BytesIO()
        np.save(file, x)
        members[f"{name}.npy"] = file.getvalue()
    rng = np.random.default_rng(1)
    for _ in range(300):
        name = rng.choice(list(members))
        path = pack(tmp_path / "x.npz", members | {name: altered(members[name], rng)}, zipfile.ZIP_STORED)
        assert "\n" not in outcome(path)


def altered(content: bytes, rng: np.random.Generator) -> bytes:
    """Three bytes changed, in most cases near the start, where headers are."""
    content = bytearray(content)
    for at in rng.integers(min(len(content), rng.choice([80, 160, 1 << 20])), size=3):
        content[at] = rng.integers(256)
    return bytes(content)


def outcome(path) -> str:
    try:
        survey(source_from_arrays(read_npz(path), where="x"))
    except ValueError as error:
        return str(error)
    return ""


# -- the command, and real files --------------------------------------------------------------------------------------


def command(*words) -> int:
    return main(["data", *(str(word) for word in words)])


def test_the_command_says_what_it_found(tmp_path, capsys):
    np.savez(tmp_path / "small.npz", **make_arrays(("train", "dev")))
    assert command("convert", tmp_path / "small.npz", "--out", tmp_path / "set", "--label-range", "-4", "4") == 0
    said = capsys.readouterr().out
    assert "train   4 clips of 3 videos, label -2.4 to 3, mean 0.40" in said
    assert "audio   Voice       3 wide, frames 1 / 3.5 / 5 (min / median / max)" in said
    assert "- valid is called 'dev' in the file" in said
    assert command("info", tmp_path / "set") == 0
    assert capsys.readouterr().out.strip() in said
    assert command("convert", tmp_path / "small.npz", "--out", tmp_path) == 2
    assert "holds 'set', which is no part of a feature set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "clips", "widths", "label"),
    [
        ("mosi_word229.npz", (131, 49, 49), (300, 74, 47), "sentiment"),
        ("ravdess_actors1_20.npz", (824, 120, 240), (300, 42, 35), "emotion"),
    ],
)
def test_real_files_convert(shared, tmp_path, file, clips, widths, label):
    data, _ = convert(shared / "data" / file, tmp_path / "set")
    assert tuple(len(data.split(split)) for split in ("train", "valid", "test")) == clips
    assert tuple(data.feature_dims.values()) == widths
    assert data.label_name == label
    arrays = np.load(shared / "data" / file, allow_pickle=False)
    for k in MODALITIES:
        x, lengths = arrays[f"test_{k}"], arrays[f"test_len_{k}"]
        for i, clip in enumerate(data.split("test")):
            np.testing.assert_array_equal(clip.features[k], x[i, : lengths[i]].astype(np.float32))
    videos = [set(data.videos(split)) for split in data.splits]
    assert not (videos[0] & videos[1] | videos[0] & videos[2] | videos[1] & videos[2])
