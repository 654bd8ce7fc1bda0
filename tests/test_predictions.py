"""The file of predictions: written and read back, torn, spoilt, and refused in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from imder.evaluation.predictions import CELL, PredictionsFile, predictions_path, read_predictions

CLIPS = {"data": "tiny@12345678", "split": "test", "limit": None, "ids": ["a", "b", "c"], "videos": ["v", "v", "w"],
         "label": [1.0, -0.5, 0.0]}  # fmt: skip


def entry(prediction=(0.1, 0.2, 0.3), **changed):
    cell = {
        "run": "corrected@00000000", "data": "tiny@12345678", "split": "test", "limit": None, "protocol": "random",
        "nominal_missing_rate": 0.3, "mask": "tiny/test/random-0.3-seed0", "seed": 0, "method": "imder",
        "available": [], "draws": 8, "refined": True, "sampler": "dpmpp-2m", "steps": 10, "guidance": 1.0,
    }  # fmt: skip
    return cell | {"prediction": list(prediction)} | changed


@pytest.fixture
def rows(tmp_path):
    return tmp_path / "rows.jsonl"


@pytest.fixture
def written(rows):
    PredictionsFile(rows).append(CLIPS, [entry(), entry(seed=1, prediction=(1.00004, -2, 0))])
    return rows


def test_what_is_written_is_read_back(written):
    first, second = read_predictions(written, pytest.fail)
    assert (first.method, first.seed, first.available, first.draws, first.refined) == ("imder", 0, (), 8, True)
    assert first.clips.ids == ("a", "b", "c")
    assert first.clips.videos == ("v", "v", "w")
    np.testing.assert_array_equal(first.clips.label, [1, -0.5, 0])
    np.testing.assert_array_equal(second.prediction, [1.0, -2, 0])  # four decimals
    assert predictions_path(written).name == "rows.predictions.jsonl"
    assert set(json.loads(predictions_path(written).read_text().splitlines()[1])) == {"kind", *CELL, "prediction"}


def test_without_a_file_there_is_nothing_and_nothing_is_made(rows):
    assert read_predictions(rows, pytest.fail) == []
    PredictionsFile(rows)
    assert not predictions_path(rows).exists()


def test_clips_are_written_once_and_a_later_prediction_of_a_cell_wins(written):
    file = PredictionsFile(written)
    file.append(CLIPS, [entry(prediction=np.array([3, 2, 1], np.float32))])
    assert predictions_path(written).read_text().count('"clips"') == 1
    found = {one.seed: one.prediction.tolist() for one in read_predictions(written, pytest.fail)}
    assert found == {0: [3.0, 2.0, 1.0], 1: [1.0, -2.0, 0.0]}


def test_arrays_and_tuples_are_taken_too(rows):
    arrays = CLIPS | {"label": np.array([1, -0.5, 0], np.float32), "ids": ("a", "b", "c")}
    PredictionsFile(rows).append(arrays, [entry(available=("text",), protocol="fixed")])
    assert read_predictions(rows, pytest.fail)[0].available == ("text",)


def test_cells_that_differ_in_any_field_are_two(rows):
    PredictionsFile(rows).append(CLIPS, [entry(), entry(guidance=2.0), entry(mask="tiny/test/unequal-L.1-seed0")])
    assert len(read_predictions(rows, pytest.fail)) == 3


def test_other_clips_of_another_split_stand_in_the_same_file(written):
    PredictionsFile(written).append(
        CLIPS | {"split": "valid", "ids": ["z"], "videos": ["z"], "label": [2]}, [entry(split="valid", prediction=[1])]
    )
    assert [len(one.prediction) for one in read_predictions(written, pytest.fail)] == [3, 3, 1]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_last_line_is_left_out_and_cut_off_when_opened(written, cut):
    path = predictions_path(written)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:cut])
    told = []
    assert [one.seed for one in read_predictions(written, told.append)] == [0]
    assert "torn" in told[0]
    file = PredictionsFile(written)
    assert path.read_bytes() == b"".join(lines[:2])
    file.append(CLIPS, [entry(seed=1, prediction=(1, -2, 0))])
    assert path.read_bytes() == whole


def test_a_file_torn_in_its_first_line_begins_anew(rows):
    predictions_path(rows).write_bytes(b'{"kind": "cli')
    PredictionsFile(rows).append(CLIPS, [entry()])
    assert len(read_predictions(rows, pytest.fail)) == 1


def test_a_last_line_without_its_end_is_whole(written):
    path = predictions_path(written)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    PredictionsFile(written).append(CLIPS, [entry(seed=2)])
    assert [one.seed for one in read_predictions(written, pytest.fail)] == [0, 1, 2]


def line(**changed):
    return json.dumps({"kind": "predictions"} | entry(**changed))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "line 4 is not JSON"),
        ("[1]", "line 4 is of kind 'None'"),
        ('{"kind": "rows"}', "line 4 is of kind 'rows'"),
        (line(prediction=[1, 2]), "line 4 holds 2 predictions for 3 clips"),
        (line(prediction=[1, 2, "3"]), "line 4: 'prediction' must be a list of numbers"),
        (line(prediction=[1, 2, float("nan")]), "line 4: 'prediction' holds a number that is not finite"),
        (line(seed="0"), "'seed' is '0'"),
        (line(seed=True), "'seed' is 'True'"),
        (line(split="valid"), "line 4: no line of clips of tiny@12345678, valid, None"),
        (line(more=1), "'more' absent or unknown"),
        (json.dumps({"kind": "clips"} | CLIPS | {"label": [1, 1, 1]}), "line 4: the clips differ"),
        (json.dumps({"kind": "clips"} | CLIPS | {"split": "x", "label": [1]}), "3 ids, 3 videos and 1 labels"),
    ],
)
def test_a_spoilt_line_is_named_and_nothing_is_overwritten(written, text, said):
    path = predictions_path(written)
    path.write_text(path.read_text() + text + "\n")
    before = path.read_bytes()
    for opened in (lambda: read_predictions(written, pytest.fail), lambda: PredictionsFile(written)):
        with pytest.raises(ValueError) as error:
            opened()
        assert said in str(error.value)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("clips", "one", "said"),
    [
        (CLIPS, entry(prediction=[1, 2]), "2 predictions for 3 clips"),
        (CLIPS, entry(prediction=[1, 2, float("inf")]), "not finite"),
        (CLIPS | {"label": [9, 9, 9]}, entry(), "the clips differ"),
        (CLIPS, {k: v for k, v in entry().items() if k != "mask"}, "'mask' absent"),
    ],
)
def test_a_wrong_cell_is_not_written(written, clips, one, said):
    before = predictions_path(written).read_bytes()
    with pytest.raises(ValueError, match=said):
        PredictionsFile(written).append(clips, [one])
    assert predictions_path(written).read_bytes() == before


def test_a_folder_in_the_files_place_is_said(rows):
    predictions_path(rows).mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        PredictionsFile(rows)
