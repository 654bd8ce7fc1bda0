"""The stored run that the page opens with."""

from __future__ import annotations

import gzip
import json

import pytest

from imder.pipeline import RecoveryPipeline
from imder.ui.opening import PATH, read_opening, run_messages, sample_of


@pytest.fixture(scope="module")
def pipeline() -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained()


def test_the_stored_run_is_the_bundled_models_and_holds_every_step(pipeline):
    request, messages = read_opening(pipeline)
    assert request.clip.id in {clip.id for clip in pipeline.data.split("test")}
    assert [m["kind"] for m in messages][:2] == ["sample", "start"]
    assert messages[-1]["kind"] == "done"


def test_the_stored_run_is_made_as_the_page_makes_one_now(pipeline):
    request, stored = read_opening(pipeline)
    start, *_, done = (message for _, message in run_messages(pipeline, request, 60.0))
    assert sample_of(pipeline, request) == stored[0]
    assert [name for name in start if name != "views"] == list(stored[1])  # `views` came later; the stage knows
    assert list(done) == list(stored[-1])
    assert done["predictions"] == pytest.approx(stored[-1]["predictions"], abs=1e-3)


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b"[]"), gzip.compress(b'[{"kind": "origin"}]')])
def test_a_broken_stored_run_is_not_shown(pipeline, tmp_path, content):
    path = tmp_path / "run.json.gz"
    path.write_bytes(content)
    assert read_opening(pipeline, path) is None
    assert read_opening(pipeline, tmp_path / "absent.json.gz") is None


def test_a_stored_run_of_other_weights_is_not_shown(pipeline, tmp_path):
    items = json.loads(gzip.decompress(PATH.read_bytes()))
    items[0]["weights"] = "0" * 16
    path = tmp_path / "run.json.gz"
    path.write_bytes(gzip.compress(json.dumps(items).encode()))
    assert read_opening(pipeline, path) is None
