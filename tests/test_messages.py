"""Messages for the stage: what is dropped stays away, numbers survive the packing, a run stays small."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from stage_demo import NAMES, make_clip, make_run, run_messages

from imder.ui import messages

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def unpack_maps(packed: dict) -> np.ndarray:
    """As base.js of the stage does it: (C, values a map)."""
    scale, half = floats(packed["scale"]), 2 ** (packed["bits"] - 1) - 1
    if packed["bits"] == 8:
        levels = np.frombuffer(base64.b64decode(packed["data"]), dtype=np.uint8)
    else:
        levels = np.array([LETTERS.index(letter) for letter in packed["data"]])
    return (levels.reshape(len(scale), -1).astype(float) - half) / half * scale[:, None]


def unpack_columns(packed: dict) -> np.ndarray:
    low, high = floats(packed["low"]), floats(packed["high"])
    levels = np.frombuffer(base64.b64decode(packed["data"]), dtype=np.uint8).reshape(-1, len(low))
    return (low + levels / 255 * (high - low)).reshape(packed["shape"])


@pytest.mark.parametrize("bits", [8, 6])
def test_maps_come_back_within_half_a_level(bits):
    x = (
        np.random.default_rng(0).normal(size=(5, 32, 48)).astype(np.float32)
        * np.array([100, 10, 1, 0.1, 0])[:, None, None]
    )
    got = unpack_maps(messages.pack_maps(x, bits)).reshape(x.shape)
    step = np.abs(x).max(axis=(1, 2), keepdims=True) / (2 ** (bits - 1) - 1)
    assert (np.abs(got - x) <= step / 2 + 1e-6).all()


def test_zero_is_exactly_zero_in_a_map():
    x = np.array([[[-2.0, 0.0, 1.0]]])
    assert unpack_maps(messages.pack_maps(x))[0, 1] == 0


def test_maps_refuse_other_depths():
    with pytest.raises(ValueError, match="bits: 7 is not offered; allowed: 6, 8"):
        messages.pack_maps(np.zeros((1, 2, 2)), 7)


def test_columns_keep_their_own_ranges():
    x = np.random.default_rng(0).normal(size=(3, 50, 4)) * [1, 100, 0.01, 0] + [0, -200, 0, 7]
    got = unpack_columns(messages.pack_columns(x))
    span = np.ptp(x.reshape(-1, 4), axis=0)
    assert got.shape == x.shape
    assert (np.abs(got - x) <= span / 255 / 2 + 1e-4).all()


@pytest.mark.parametrize("available", [("text",), ("audio",), ("vision",), ("text", "audio"), ("audio", "vision")])
def test_a_sample_has_nothing_of_what_is_dropped(available):
    message = messages.sample_message(make_clip(), available, names=NAMES, sound="data:audio/ogg;base64,AAAA")
    assert (message["text"] is not None) == ("text" in available)
    assert bool(message["words"]) == ("text" in available)
    assert (message["sound"] is not None) == ("audio" in available)
    assert ("voice" in message["readable"]) == ("audio" in available)
    assert ("face" in message["readable"]) == ("vision" in available)
    assert ("wonderful" in json.dumps(message)) == ("text" in available)


def test_the_face_is_found_under_openface_names_too():
    names = {"vision": [spellings[-1] for spellings in messages.FACE]}
    vision = np.arange(22, dtype=np.float32)[None].repeat(3, 0)
    face = unpack_columns(messages.readable({"vision": vision}, names)["face"])
    np.testing.assert_allclose(face, vision)


def test_features_without_names_are_not_drawn():
    clip = make_clip()
    assert messages.readable(clip.features, {"vision": ["f0"] * 22, "audio": ["f0"] * 33}) == {}
    assert messages.readable(clip.features, None) == {}


def test_head_pose_and_gaze_may_be_absent():
    names = {"vision": [spellings[0] for spellings in messages.FACE[:17]]}
    face = unpack_columns(messages.readable({"vision": np.ones((4, 17))}, names)["face"])
    assert face.shape == (4, 22)
    np.testing.assert_allclose(face[:, 17:], 0)


@pytest.mark.parametrize(("missing", "bits"), [(("vision",), 8), (("audio", "vision"), 6)])
def test_a_run_of_sixty_steps_is_small_json(missing, bits):
    sent = run_messages(missing=missing)
    chunk = next(m for m in sent if m["kind"] == "chunk")
    assert chunk["maps"][missing[0]]["state"]["bits"] == bits
    assert sum(len(json.dumps(m, allow_nan=False)) for m in sent if m["kind"] != "sample") < 700_000


def test_chunks_cover_the_run_and_carry_its_numbers():
    start, pieces, _ = make_run(missing=("audio", "vision"), saved=7, chunks=3)
    sent = [messages.chunk_message(start.run_id, piece, names=NAMES) for piece in pieces]
    assert [m["k0"] for m in sent] == [0, 3, 5]
    assert sum(m["count"] for m in sent) == 7
    for message, piece in zip(sent, pieces, strict=True):
        assert message["run"] == start.run_id
        np.testing.assert_array_equal(floats(message["std"]), piece.std)
        np.testing.assert_array_equal(
            floats(message["curves"]["vision"]["path_state"]).reshape(-1, 2), piece.path_state["vision"]
        )
        assert message["readable"]["face"]["shape"] == [len(piece.step), 50, 22]


def test_start_carries_truth_and_baselines():
    start, _, _ = make_run(missing=("vision",))
    message = messages.start_message(start, names=NAMES)
    assert (message["channels"], message["frames"]) == (32, 48)
    assert message["baseline"] == {"complete": 1.62, "zero": 0.31}
    truth = unpack_maps(message["truth"]["vision"]).reshape(32, 48)
    assert np.abs(truth - start.truth["vision"]).max() < np.abs(start.truth["vision"]).max() / 250
    assert floats(message["cloud"]["vision"]).shape == (800,)


def test_start_without_a_training_cloud():
    start, _, _ = make_run(missing=("vision",))
    bare = replace(start, cloud={}, truth_path={"vision": np.zeros(0)})
    message = messages.start_message(bare, names=NAMES)
    assert message["cloud"] == {"vision": ""}
    assert message["truth_path"] == {"vision": []}


def test_done_lists_words_with_their_share():
    _, _, result = make_run(missing=("text",))
    words = [[("good", 0.6), ("fine", 0.3), ("odd", 0.01)], [("film", 1.0)]]
    message = messages.done_message("r", replace(result, words=words), names=NAMES)
    assert message["words"] == [[["good", 0.6], ["fine", 0.3]], [["film", 1.0]]]
    assert len(message["draws"]) == 16
    assert messages.done_message("r", replace(result, words=[]), names=NAMES)["words"] is None


def test_numbers_that_are_not_finite_become_null():
    assert messages.number(float("nan")) is None
    assert messages.number(float("inf")) is None


def test_a_stored_run_holds_its_messages_and_is_the_same_bytes_each_time():
    sent = run_messages()
    assert json.loads(gzip.decompress(messages.store_run(sent))) == sent
    assert messages.store_run(sent) == messages.store_run(sent)


def test_sound_becomes_a_data_uri(tmp_path):
    path = tmp_path / "a.ogg"
    path.write_bytes(b"OggS")
    assert messages.sound_uri(path) == "data:audio/ogg;base64,T2dnUw=="
    assert messages.sound_uri(tmp_path / "b.ogg") is None
    assert messages.sound_uri(None) is None
