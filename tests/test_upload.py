"""A visitor's file: what is read of it, what is said about it, and that no hostile one does more than be refused."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from imder.data import upload
from imder.data.checks import Upload, sentence
from imder.data.clip import Clip
from imder.data.dataset import FeatureSet, write_feature_set
from imder.data.upload import clip_from_rows, npz_bytes, open_upload, template
from imder.modality import MODALITIES
from imder.pipeline import RecoveryPipeline, RecoveryRequest

PIPELINE = FakePipeline()
EXPECTED = PIPELINE.expected
CLIPS = PIPELINE.data.split("test")
WIDTHS = EXPECTED.dims


def opened(folder: Path, content: bytes, name: str = "mine.npz") -> Upload:
    path = folder / "0f3a"
    path.write_bytes(content)
    return open_upload(path, name, EXPECTED)


def refused(folder: Path, content: bytes, name: str = "mine.npz") -> str:
    """The one sentence with which a file is refused, within a second of work and without a path of this machine."""
    began = time.thread_time()
    with pytest.raises(ValueError) as reason:
        opened(folder, content, name)
    assert time.thread_time() - began < 1
    text = str(reason.value)
    assert str(folder) not in text
    assert "/tmp" not in text
    assert "\n" not in text
    assert len(text) < 400
    return text


def arrays_of(count: int = 2, frames: int = 50) -> dict[str, np.ndarray]:
    return {k: np.stack([clip.features[k][:frames] for clip in CLIPS[:count]]) for k in MODALITIES}


# --- what is read -----------------------------------------------------------------------------------------------------


def test_the_template_comes_back_as_the_clip_it_was_made_of(tmp_path: Path) -> None:
    content = template(CLIPS[1], synthetic=True)
    assert content == template(CLIPS[1], synthetic=True)
    found = opened(tmp_path, content)
    [clip] = found.clips
    assert (clip.id, clip.text, clip.label, clip.absent) == (CLIPS[1].id, CLIPS[1].text, CLIPS[1].label, ())
    assert (found.kind, found.synthetic, found.faults) == ("npz", True, [])
    for k in MODALITIES:
        np.testing.assert_array_equal(clip.features[k], CLIPS[1].features[k])


def test_the_length_and_the_words_with_their_time_come_back(tmp_path: Path) -> None:
    [clip] = opened(tmp_path, template(CLIPS[0], synthetic=True)).clips
    assert clip.seconds == CLIPS[0].seconds
    assert [word.text for word in clip.words] == CLIPS[0].text.split()
    spans = [[(word.start, word.end) for word in one.words] for one in (clip, CLIPS[0])]
    assert np.allclose(*spans)
    texts = {"raw_text": np.array(["a b", "c"]), "spans": np.full((2, 2, 2), np.nan, np.float32)}
    texts["spans"][1, 0] = (0.1, 0.6)
    first, second = opened(tmp_path, npz_bytes(arrays_of(2) | texts)).clips
    assert (first.words, second.words[0].text, second.seconds) == ((), "c", None)
    texts["spans"][1, 0] = (0.1, 7)  # outside the clip
    assert opened(tmp_path, npz_bytes(arrays_of(2) | texts)).clips[1].words == ()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"seconds": np.array([2.0])}, "2 lengths are needed"),
        ({"seconds": np.array([2.0, -1])}, "2 lengths are needed"),
        ({"seconds": np.array(["a", "b"])}, "2 lengths are needed"),
        ({"spans": np.zeros((2, 3))}, r"\(2, words, 2\) is needed"),
        ({"spans": np.zeros((2, 3, 2), np.int64)}, r"\(2, words, 2\) is needed"),
    ],
)
def test_lengths_and_words_of_another_shape_are_refused(tmp_path: Path, more: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        opened(tmp_path, npz_bytes(arrays_of(2) | more))


@pytest.mark.parametrize("form", ["two axes", "three axes", "split", "titles", "half", "fortran", "safetensors"])
def test_every_documented_layout_is_read(tmp_path: Path, form: str) -> None:
    arrays, kind = arrays_of(1 if form == "two axes" else 3), "npz"
    wanted = {k: (x[0] if form == "two axes" else x[-1]) for k, x in arrays.items()}
    if form == "two axes":
        arrays = {k: x[0] for k, x in arrays.items()}
    elif form == "split":
        arrays = {f"valid_{k}": x for k, x in arrays.items()} | {"train_text": arrays["text"]}
    elif form == "titles":
        arrays = {"Language": arrays["text"], "VOICE": arrays["audio"], "face": arrays["vision"]}
    elif form == "half":
        arrays = {k: x.astype(np.float16) for k, x in arrays.items()}
    elif form == "fortran":
        arrays = {k: np.asfortranarray(x.astype(">f8")) for k, x in arrays.items()}
    if form == "safetensors":
        content, kind = save(arrays), "safetensors"
    else:
        out = io.BytesIO()
        np.savez(out, **arrays)
        content = out.getvalue()
    found = opened(tmp_path, content)
    assert found.kind == kind
    assert len(found.clips) == (1 if form == "two axes" else 3)
    for k in MODALITIES:
        np.testing.assert_allclose(found.clips[-1].features[k], wanted[k], rtol=2e-3 if form == "half" else 1e-6)
    assert any("no label" in line for line in found.said)


def test_a_zip_of_a_converted_folder_gives_its_test_clips(tmp_path: Path) -> None:
    splits = {"train": list(CLIPS[:3]), "test": [replace(CLIPS[4], label=-1.25), CLIPS[5]]}
    write_feature_set(
        tmp_path / "set", splits, name="n", title="Mine", label={"name": "sentiment", "range": [-3, 3]},
        storage=dict.fromkeys(MODALITIES, "float16"), compact_text=True, synthetic=True,
    )  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (tmp_path / "set").iterdir():
            archive.write(path, f"set/{path.name}")
        archive.writestr("__MACOSX/set/._data.json", b"junk")
        archive.writestr("set/../../escaped.safetensors", b"junk")
    found = opened(tmp_path, out.getvalue(), "set.zip")
    assert (found.kind, found.synthetic, len(found.clips)) == ("folder", True, 2)
    assert "2 test clips of 'Mine'" in found.said[0]
    kept = FeatureSet(tmp_path / "set").split("test")[0]
    assert (found.clips[0].id, found.clips[0].label, found.clips[0].words) == (kept.id, -1.25, kept.words)
    for k in MODALITIES:
        np.testing.assert_array_equal(found.clips[0].features[k], kept.features[k])
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
def test_padding_is_found_at_either_side_with_and_without_lengths(tmp_path: Path, left: bool, lengths: bool) -> None:
    arrays = {}
    for k, x in arrays_of().items():
        padded = np.zeros((2, 60, x.shape[2]), np.float32)
        for i, n in enumerate((50, 30)):
            padded[i, 60 - n if left else 0 : None if left else n] = x[i, :n]
        arrays[k] = padded
        if lengths:
            arrays[f"length_{k}"] = np.array([50, 30])
    found = opened(tmp_path, npz_bytes(arrays))
    assert [check.lengths for check in found.checks] == [(50, 30)] * 3
    assert found.checks[0].padding == pytest.approx(1 - 80 / 120)
    np.testing.assert_array_equal(found.clips[1].features["vision"], arrays_of()["vision"][1, :30])


def test_scale_is_measured_in_the_units_of_the_training_data(tmp_path: Path) -> None:
    statistics = EXPECTED.standardiser
    arrays = {k: np.repeat((statistics.mean[k] + 2 * statistics.std[k])[None], 40, 0) for k in MODALITIES}
    arrays["vision"] = arrays["vision"].copy()
    arrays["vision"][::4] = statistics.mean["vision"] - 6 * statistics.std["vision"]
    found = opened(tmp_path, npz_bytes(arrays))
    text, _, face = found.checks
    assert (text.mean, text.sd, text.beyond) == (pytest.approx(2, abs=1e-4), pytest.approx(0, abs=1e-3), 0)
    assert face.beyond == pytest.approx(0.25)
    assert face.mean == pytest.approx(0.75 * 2 - 0.25 * 6, abs=1e-4)
    assert "25.0% of its values lie beyond 5" in sentence(face)
    assert "unlike the training data's" in sentence(text)


def test_what_is_not_there_is_missing_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    arrays = arrays_of(1)
    found = opened(tmp_path, npz_bytes({"text": arrays["text"]}))
    assert found.clips[0].absent == ("audio", "vision")
    np.testing.assert_allclose(found.clips[0].features["vision"][0], EXPECTED.standardiser.mean["vision"])
    assert "Voice and Face are not in the file" in found.said[0]
    with pytest.raises(ValueError, match="has no vision; it can only be recovered"):
        RecoveryRequest(found.clips[0], ("text", "vision"))

    wide = opened(tmp_path, npz_bytes(arrays | {"vision": np.zeros((1, 50, 35))}))
    assert wide.clips == ()
    [fault] = wide.faults
    assert "Face has 35 columns; this run needs 22 (AU01, AU02, ...)" in fault
    assert "python -m imder data convert" in fault
    assert "python -m imder train --data" in fault

    bad = arrays["vision"].astype(np.float64)
    bad[0, 3, :4], bad[0, 5, 0] = np.nan, np.inf
    broken = opened(tmp_path, npz_bytes(arrays | {"vision": bad}))
    assert (broken.checks[2].nan, broken.checks[2].plus_inf, broken.clips) == (4, 1, ())
    assert "5 values that are not finite" in broken.faults[0]
    assert opened(tmp_path, npz_bytes(arrays | {"vision": arrays["vision"] + np.float64(1e39)})).clips == ()

    silent = arrays["audio"].copy()
    silent[0, :7, 0] = -np.inf
    quiet = opened(tmp_path, npz_bytes(arrays | {"audio": silent, "label": np.array([9.0]), "more": np.zeros(3)}))
    assert (quiet.clips[0].features["audio"][:7, 0] == 0).all()
    assert "7 values of minus infinity" in quiet.said[0]
    assert any("outside -3 to 3" in line for line in quiet.said)
    assert any("Not used: more" in line for line in quiet.said)


def test_texts_and_ids_are_cut_and_made_distinct(tmp_path: Path) -> None:
    arrays = arrays_of(2) | {"id": np.array(["same", "same"]), "raw_text": np.array(["<b>x</b>", "y" * 9000])}
    found = opened(tmp_path, npz_bytes(arrays))
    assert [clip.id for clip in found.clips] == ["clip 1", "clip 2"]
    assert [len(clip.text) for clip in found.clips] == [8, 400]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"audio": np.zeros((3, 50, 33))}, "disagree on the number of clips"),
        ({"audio": np.zeros((2, 50))}, "disagree"),
        ({"audio": np.zeros(5)}, "audio is float64 of shape"),
        ({"audio": np.zeros((2, 50, 33), complex)}, "complex"),
        ({"audio": np.zeros((2, 0, 33))}, "of shape (2, 0, 33)"),
        ({"audio": np.zeros((2, 2001, 33), bool)}, "2001 frames; at most 2000"),
        ({"audio": np.zeros((401, 1, 3), np.int8)}, "401 clips; at most 400"),
        ({"audio": np.zeros((1, 1, 5000), np.int8)}, "5000 columns"),
        ({"length_audio": np.array([0, 50])}, "one length from 1 to 50"),
        ({"length_audio": np.array([50.5, 50])}, "one length from 1 to 50"),
        ({"length_audio": np.array([np.nan, 50])}, "one length from 1 to 50"),
        ({"length_audio": np.array([51, 50])}, "one length from 1 to 50"),
        ({"id": np.array([1.5, 2.5])}, "2 texts are needed"),
        ({"label": np.array([1.0])}, "2 numbers are needed"),
        ({"label": np.array([np.inf, 1])}, "2 numbers are needed"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path: Path, more: dict, said: str) -> None:
    assert said in refused(tmp_path, npz_bytes(arrays_of() | more))


def test_rows_from_the_api_make_a_clip_or_say_why_not() -> None:
    rows = {k: CLIPS[0].features[k].tolist() for k in MODALITIES}
    clip = clip_from_rows(rows, -1.5, EXPECTED)
    assert (clip.label, clip.absent) == (-1.5, ())
    np.testing.assert_array_equal(clip.features["text"], CLIPS[0].features["text"])
    assert clip_from_rows({"audio": rows["audio"]}, None, EXPECTED).absent == ("text", "vision")
    rows_of_text = (3, [[1], [1, 2]], "abc", [["x"]], [[10**400]], [[1.0] * 3], [], [[None] * 24])
    for junk in (None, [], {}, {"smell": [[1]]}, {1: [[1]]}, *({"text": rows} for rows in rows_of_text)):
        with pytest.raises(ValueError, match=r"^features: "):
            clip_from_rows(junk, None, EXPECTED)


# --- hostile files ----------------------------------------------------------------------------------------------------


class Canary:
    """Makes a file where it is unpickled."""

    path = ""

    def __reduce__(self):
        return (open, (self.path, "w"))


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin1") + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def tensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def objects() -> bytes:
    out = io.BytesIO()
    np.savez(out, text=np.array([Canary()], dtype=object))
    return out.getvalue()


def forged(content: bytes) -> bytes:
    """The sizes of the first member in the central directory made small."""
    at = content.index(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", 200) + content[at + 28 :]


def encrypted(content: bytes) -> bytes:
    at = content.index(b"PK\x01\x02")
    return content[: at + 8] + struct.pack("<H", 1) + content[at + 10 :]


def folder_zip(header: object, **files: bytes) -> bytes:
    return zipped(**{"data.json": json.dumps(header).encode()}, **files)


LIES = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
GOOD = npz_bytes(arrays_of(1))
RECORD = {"id": "a$_$1", "video": "a", "index": 1, "text": "", "label": 0.0, "words": [], "seconds": None, "extra": {}}
SET = {
    "format": "imder-features/1", "name": "n", "title": "t", "synthetic": False, "note": "",
    "label": {"name": "s", "range": [-3, 3]}, "feature_names": {k: ["x"] for k in MODALITIES},
    "splits": {"test": [RECORD | {"lengths": dict.fromkeys(MODALITIES, 65_000)}]},
}  # fmt: skip
BOMB_INDEX = save(
    {"text.words": np.zeros((1, 900_000), np.float32), "text.index": np.zeros(65_000, np.int32),
     "audio": np.zeros((65_000, 1), np.float16), "vision": np.zeros((65_000, 1), np.float16)}
)  # fmt: skip
HOSTILE = {
    "empty": b"",
    "one byte": b"P",
    "text": b"hello " * 100,
    "html": b"<script>alert(1)</script>",
    "zip magic alone": b"PK\x03\x04",
    "empty zip": zipped(),
    "bomb": npz_bytes({"text": np.zeros((400, 2000, 24), np.float64)}),
    "lying shape": zipped(**{"text.npy": npy(LIES % "99999999, 999999")}),
    "negative shape": zipped(**{"text.npy": npy(LIES % "-1, 4", b"0" * 16)}),
    "huge zero shape": zipped(**{"text.npy": npy(LIES % "0, 9223372036854775807, 9223372036854775807")}),
    "code in header": zipped(**{"text.npy": npy("{'descr': __import__('os').system('true')}")}),
    "broken header": zipped(**{"text.npy": npy("{'descr': (((((")}),
    "long header": zipped(**{"text.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2_000_000) + b"(" * 2_000_000}),
    "no magic": zipped(**{"text.npy": b"x" * 500}),
    "structured": zipped(**{"text.npy": npy((LIES % "1,").replace("'<f4'", "[('a','<f4')]"), b"0000")}),
    "objects": objects(),
    "many members": zipped(**{f"a{i}.npy": b"" for i in range(3000)}),
    "foreign member": zipped(**{"text.npy": b"", "run.exe": b"MZ"}),
    "forged size": forged(npz_bytes(arrays_of(1))),
    "encrypted": encrypted(GOOD),
    "bad text": zipped(**{"text.npy": npy("{'descr': '<U2', 'fortran_order': False, 'shape': (1,), }", b"\xff" * 8)}),
    "no array of ours": npz_bytes({"x": np.zeros(3), "<img src=x>": np.zeros(3)}),
    "one npy": npy(LIES % "1, 24", b"0" * 96),
    "torch": zipped(archive__data_pkl=b"", **{"archive__data.pkl": b"\x80\x02."}),
    "tensors: header of exabytes": struct.pack("<Q", 2**63) + b"{" + b" " * 50,
    "tensors: header too long": struct.pack("<Q", 2000) + b"{}" + b" " * 50,
    "tensors: not JSON": tensors(b"{,,"),
    "tensors: none": tensors(b"{}"),
    "tensors: hole": tensors(b'{"text":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}', b"0" * 8),
    "tensors: lying": tensors(b'{"text":{"dtype":"F32","shape":[9,9],"data_offsets":[0,4]}}', b"0000"),
    "tensors: zero": tensors(b'{"text":{"dtype":"F32","shape":[0,1152921504606846976],"data_offsets":[0,0]}}'),
    "tensors: dtype": tensors(b'{"text":{"dtype":"F8_E4M3","shape":[1,1],"data_offsets":[0,1]}}', b"0"),
    "tensors: bfloat": tensors(b'{"text":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}', b"00"),
    "tensors: deep": tensors(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "tensors: many": save({f"t{i}": np.zeros(1, np.float32) for i in range(200)}),
    "folder: no tensors": folder_zip(SET),
    "folder: not a set": folder_zip([1, 2]),
    "folder: not JSON": zipped(**{"data.json": b"{"}),
    "folder: deep JSON": zipped(**{"data.json": b"[" * 200_000}),
    "folder: index bomb": folder_zip(SET, **{"test.safetensors": BOMB_INDEX}),
    "folder: broken tensors": folder_zip(SET, **{"test.safetensors": b"\0" * 300}),
    "too large": b"PK\x03\x04" + b"0" * (2 << 20),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once_in_one_sentence(tmp_path: Path, name: str) -> None:
    Canary.path = str(tmp_path / "canary")
    assert "mine.npz" in refused(tmp_path, HOSTILE[name])
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_not_opened_and_the_command_is_named(tmp_path: Path, protocol: int) -> None:
    Canary.path = str(tmp_path / "canary")
    content = pickle.dumps({"train": Canary()}, protocol)
    assert "python -m imder data convert" in refused(tmp_path, content, "aligned_50.pkl")
    assert "mine.npz: is " in refused(tmp_path, content)
    assert not (tmp_path / "canary").exists()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for content in (GOOD, save(arrays_of(1))):
        for part in np.linspace(1, len(content) - 1, 40).astype(int):
            refused(tmp_path, content[:part])


SMALL = [
    npz_bytes({"text": np.ones((3, 24), np.float32), "id": np.array(["a"])}),
    save({"text": np.ones((3, 24), np.float32)}),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SMALL)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = opened(tmp_path, bytes(content))
    except ValueError as error:
        complaint = str(error)
        found = None
    else:
        complaint = ""
    assert str(tmp_path) not in complaint
    if found:
        assert all(np.isfinite(x).all() for clip in found.clips for x in clip.features.values())


def test_nothing_larger_than_the_limit_is_ever_kept(tmp_path: Path) -> None:
    found = opened(tmp_path, npz_bytes({"text": np.ones((400, 50, 64), np.float16)}))
    assert found.clips[0].features["text"].nbytes * 400 <= upload.MAX_ARRAY
    assert "larger than 8 MB" in refused(tmp_path, npz_bytes({"text": np.ones((400, 400, 24), np.int8)}))


# --- recovered --------------------------------------------------------------------------------------------------------


def test_a_file_is_recovered_like_the_bundled_clip_and_without_truth_nothing_is_compared(tmp_path: Path) -> None:
    pipeline = RecoveryPipeline.from_pretrained(None)
    clip = pipeline.data.split("test")[3]
    path = tmp_path / "x"
    path.write_bytes(template(clip, True))
    [mine] = open_upload(path, "x.npz", pipeline.expected).clips
    own, given_ = (pipeline(RecoveryRequest(one, ("text",), steps=3, draws=2)) for one in (clip, mine))
    np.testing.assert_array_equal(own.draws, given_.draws)
    assert own.predictions == given_.predictions

    path.write_bytes(npz_bytes({"text": clip.features["text"]}))
    [words] = open_upload(path, "x.npz", pipeline.expected).clips
    start, *chunks, blind = pipeline.stream(RecoveryRequest(replace(words, id=clip.id), ("text",), steps=3, draws=2))
    np.testing.assert_array_equal(blind.draws, own.draws)
    assert np.isnan([blind.predictions["complete"], blind.predictions["label"]]).all()
    assert blind.predictions["zero"] == own.predictions["zero"]
    assert (start.truth, blind.feature_error) == ({}, {})
    assert all(np.isnan(chunk.error["vision"]).all() for chunk in chunks)


def test_a_clip_says_what_it_lacks() -> None:
    assert Clip("a", "a", 0, "", CLIPS[0].features, 0.0).absent == ()
