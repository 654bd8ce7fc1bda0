"""The stored run that the page opens with."""

from __future__ import annotations

import gzip
import json

import pytest

from imder.pipeline import RecoveryPipeline
from imder.ui.opening import PATH, read_opening


@pytest.fixture(scope="module")
def pipeline() -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained()


def test_the_stored_run_is_the_bundled_models_and_holds_every_step(pipeline):
    request, messages = read_opening(pipeline)
    assert request.clip.id in {clip.id for clip in pipeline.data.split("test")}
    assert [m["kind"] for m in messages][:2] == ["sample", "start"]
    assert messages[-1]["kind"] == "done"


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
