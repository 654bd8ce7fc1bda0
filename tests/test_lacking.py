"""A data set that has nothing of a modality: it is there and empty to every model, never dropped, never recovered."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from field_files import SMALL, mmsa, truth
from playwright.sync_api import Browser, expect
from server import ROOT, Server
from test_browser import box, no_barrier, opened, wait
from test_layouts import CLIPS, QUICK, faceless, npz
from test_pages import choose
from test_training import TINY

from imder import compare, hub
from imder.__main__ import main
from imder.data import Standardiser
from imder.data.convert import convert
from imder.data.missing import FixedMissing, RandomMissing, realised_rate, shares
from imder.modality import PATTERNS, patterns
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.training import TrainingConfig
from imder.training.stages import phases
from imder.ui.controls import drop_choices, drop_told
from imder.ui.validate import BadInput, check_drop, default_drop, from_link, validate

SIZES = dataclasses.replace(SMALL["mosi-aligned"], clips=CLIPS)
TEXT = ("text",)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(folder: Path, change=lambda arrays: None) -> Path:
    """An npz without language."""
    arrays = npz(SIZES, truth(SIZES))
    change(arrays)
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A set without language, of whose test clips one lacks the face too; a run, and rows by both protocols."""
    folder = tmp_path_factory.mktemp("lacking")

    def one_without_a_face(arrays) -> None:
        arrays["test_vision"][1] = 0

    data, run = str(folder / "set"), str(folder / "run")
    convert(make(folder, one_without_a_face), data)
    assert main(["train", "--data", data, "--out", run, *QUICK, "--set", json.dumps(TINY)]) == 0
    judged = ["--rates", ".2", ".5", "--draws", "2", "--workers", "1", "--out", str(folder / "rows.jsonl")]
    assert main(["evaluate", "--run", run, "--data", data, "--protocol", "fixed", "random", *judged]) == 0
    return folder


@pytest.fixture(scope="module")
def pipeline(home) -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained(str(home / "run"), data=str(home / "set"))


@pytest.fixture(scope="module")
def rows(home) -> list[dict]:
    return [json.loads(line) for line in (home / "rows.jsonl").read_text().splitlines()]


# Patterns and masks --------------------------------------------------------------------------------------------------


def test_the_patterns_are_those_that_occur():
    assert patterns() == PATTERNS
    assert patterns(TEXT) == (("audio",), ("vision",), ("audio", "vision"))
    assert patterns(("vision",)) == (("text",), ("audio",), ("text", "audio"))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5])
def test_at_random_the_rate_is_that_of_what_is_there_and_one_always_stays(rate):
    drawn = RandomMissing(rate, 3, TEXT)
    masks = drawn.masks(f"clip {i}" for i in range(20_000))
    assert masks[:, 0].all()
    assert masks[:, 1:].any(axis=1).all()
    assert realised_rate(masks, TEXT) == pytest.approx(rate, abs=0.01)
    alone = masks[:, 1:].sum(axis=1) == 1
    # dropping each with p and refusing both gone: p (1 - p) / (1 - p^2) of the clips lack a given one
    p = rate / (1 - rate)
    assert (~masks[:, 1]).mean() == pytest.approx(p / (1 + p), abs=0.01)
    assert shares(masks, TEXT) == pytest.approx({3: 0, 2: 1 - alone.mean(), 1: alone.mean()})
    np.testing.assert_array_equal(masks[:50], drawn.masks(f"clip {i}" for i in range(50)))


def test_fixed_masks_and_their_rates():
    fixed = FixedMissing(("audio",), TEXT)
    assert fixed.masks("ab").tolist() == [[True, True, False]] * 2
    assert fixed.rate == realised_rate(fixed.masks("ab"), TEXT) == 0.5
    assert FixedMissing(("audio", "vision"), TEXT).rate == 0
    with pytest.raises(ValueError, match=r"0\.6 is not allowed for data without language.* from 0 to 0\.5 is"):
        RandomMissing(0.6, 0, TEXT)


# The converter -------------------------------------------------------------------------------------------------------


def test_an_array_that_no_split_has_is_stood_in_for_by_zeros(tmp_path):
    data, said = convert(make(tmp_path), tmp_path / "set")
    assert data.lacks == TEXT
    made = truth(SIZES)
    for split in data.splits:
        for i, clip in enumerate(data.split(split)):
            assert clip.absent == TEXT
            assert set(clip.lengths.values()) == {len(made.features[split]["audio"][i])}  # one time axis, as it was
            assert not clip.features["text"].any()
            for k in ("audio", "vision"):
                np.testing.assert_array_equal(clip.features[k], made.features[split][k][i])
    assert "text is absent in every clip: the data set has no language, and no model of it recovers any" in said
    assert not any("which say so" in sentence for sentence in said)
    assert len(data.complete("train")) == 0
    assert len(data.complete("train", data.lacks)) == CLIPS[0]


def test_a_pickle_without_a_face_and_one_whose_face_is_zeros(tmp_path):
    sizes = dataclasses.replace(SMALL["mosi-unaligned"], clips=CLIPS)
    for name, tree in (("gone", faceless(mmsa(sizes, truth(sizes)))), ("zero", mmsa(sizes, truth(sizes)))):
        if name == "zero":
            for columns in tree.values():
                columns["vision"] = np.zeros_like(columns["vision"])
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(tree))
        data, said = convert(tmp_path / f"{name}.pkl", tmp_path / name)
        assert data.lacks == ("vision",)
        assert any(sentence.startswith("vision is absent in every clip: the data set has no face") for sentence in said)
    assert data.feature_dims["vision"] == sizes.vision[1]


def test_an_array_that_one_split_alone_lacks_is_an_error(tmp_path):
    path = make(tmp_path, lambda arrays: arrays.pop("valid_audio"))
    with pytest.raises(ValueError, match="array valid_audio is missing, while train has its own"):
        convert(path, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_one_modality_alone_converts_and_is_not_trained_on(tmp_path, capsys):
    path = make(tmp_path, lambda arrays: [arrays.pop(f"{split}_vision") for split in ("train", "valid", "test")])
    data, _ = convert(path, tmp_path / "set")
    assert data.lacks == ("text", "vision")
    words = ["--data", str(tmp_path / "set"), "--out", str(tmp_path / "run"), "--quick", "--workers", "0"]
    assert main(["train", *words]) == 2
    assert "has no language and face; a recovery needs two modalities at least" in capsys.readouterr().err


# Training ------------------------------------------------------------------------------------------------------------


def test_no_score_network_of_it_is_trained(home, pipeline):
    assert phases(TrainingConfig(), ("audio", "vision"))[1] == ("score-audio", "score-vision", "fuse")
    run = pipeline.run
    assert run.info["data"]["lacks"] == ["text"]
    assert set(run.metrics["score"]) == set(run.metrics["readout_r2"]) == {"audio", "vision"}
    assert set(run.metrics["mae_by_pattern"]) == {"A", "V"}
    jobs = {json.loads(line)["job"] for line in (home / "run" / hub.LOG).read_text().splitlines()}
    assert jobs == {"encode", "score-audio", "score-vision", "fuse", "recover"}
    assert "| absent from the data | language |" in (home / "run" / hub.CARD).read_text(encoding="utf-8")


def test_it_is_a_constant_zero_to_the_model(pipeline):
    clips = pipeline.data.complete("train", TEXT)
    fitted = Standardiser.fit(clips)
    assert (fitted.mean["text"].tolist(), fitted.std["text"].tolist()) == ([0], [1])
    clip = pipeline.seen(clips[0])
    found = pipeline(RecoveryRequest(clips[0], ("audio",), steps=2, draws=2))
    assert (found.request.missing, found.request.clip.absent) == (("vision",), ())
    # what a visitor's file claims to be language changes nothing
    words = {"text": np.full((7, 1), 9.0, np.float32)}
    loud = dataclasses.replace(clips[0], features=clips[0].features | words, absent=())
    for one in (clip, loud):
        again = pipeline(RecoveryRequest(one, ("text", "audio"), steps=2, draws=2))
        assert again.predictions == found.predictions
        np.testing.assert_array_equal(again.draws, found.draws)


@pytest.mark.parametrize("lacks", [["text", "audio"], "text", ["smell"], [1], {}, True])
def test_a_run_that_says_otherwise_is_refused(home, tmp_path, lacks):
    run = hub.load_run(home / "run")
    with pytest.raises(hub.RunError, match=r"data\.lacks is .*; a list of one of text, audio, vision is needed"):
        hub.save_run(tmp_path / "run", run.model, run.standardiser, run.info["data"] | {"lacks": lacks}, {"seed": 0})


@pytest.mark.parametrize("kind", ["dropout-fusion", "subset", "mmin", "gcnet"])
def test_the_other_models_train_and_are_judged_on_those_patterns(home, tmp_path, kind):
    run, out = str(tmp_path / "run"), str(tmp_path / "rows.jsonl")
    small = ["--set", '{"layers": 1}'] if kind in ("dropout-fusion", "subset") else []
    quick = ["--quick", "--workers", "0", "--least", "2", "--epochs", "1", *small]
    assert main(["train", "--model", kind, "--data", str(home / "set"), "--out", run, *quick]) == 0
    metrics = hub.load_run(run).metrics
    assert set(metrics["mae_by_pattern"]) == {"A", "V"}
    assert "| A | V | AV |" in (Path(run) / hub.CARD).read_text(encoding="utf-8")
    assert main(["evaluate", "--run", run, "--data", str(home / "set"), "--out", out, "--workers", "1"]) == 0
    found = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert {tuple(row["available"]) for row in found} == set(patterns(TEXT))


# Evaluation ----------------------------------------------------------------------------------------------------------


def test_rows_hold_only_what_occurs_and_count_what_is_there(rows):
    fixed = [row for row in rows if row["protocol"] == "fixed"]
    assert {tuple(row["available"]) for row in fixed if row["method"] != "real"} == set(patterns(TEXT))
    assert {row["modality"] for row in rows} == {None, "audio", "vision"}
    for row in fixed:
        whole = row["available"] == ["audio", "vision"]
        assert row["nominal_missing_rate"] == row["realised_missing_rate"] == (0 if whole else 0.5)
        assert row["shares"] == ([0, 1, 0] if whole else [0, 0, 1])
    assert {row["n"] for row in fixed if row["metric"] == "mae"} == {CLIPS[2] - 1}  # not the clip without a face
    half = [row for row in rows if row["protocol"] == "random" and row["nominal_missing_rate"] == 0.5]
    assert {row["realised_missing_rate"] for row in half} == {0.5}
    assert all(row["value"] is None or np.isfinite(row["value"]) for row in rows)


def test_tables_and_reports_say_so(home, capsys):
    assert main(["evaluate", "--table", str(home / "rows.jsonl")]) == 0
    table = capsys.readouterr().out
    assert "The data have no language: AV is all that a clip has." in table
    assert "| method \\ available | A | V | AV |" in table
    assert "L →" not in table
    assert main(["report", str(home / "rows.jsonl"), "--format", "log"]) == 0
    log = capsys.readouterr().out
    assert "The data have no language: AV is all that a clip has." in log
    averaged = next(line for line in log.splitlines() if line.startswith("| *average of the incomplete* |"))
    lines = [next(x for x in log.splitlines() if x.startswith(f"| {p} |")) for p in ("A", "V")]
    first = [float(line.split("|")[2].split("/")[0].strip(" *")) for line in (*lines, averaged)]
    assert first[2] == pytest.approx((first[0] + first[1]) / 2, abs=0.051)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["evaluate", "--protocol", "batchwise"],
            "'batchwise' is of three modalities, and .* has no language; fixed and",
        ),
        (["evaluate", "--protocol", "unequal", "--rates", "L=0,A=.1,V=.2"], "'unequal' is of three modalities"),
        (["evaluate", "--protocol", "random"], r"0\.6 is not allowed for data without language"),
        (["distributions"], "was trained without language; distributions are of all three"),
        (["bench", "joint"], "was trained without language; benchmarks are of all three"),
    ],
)
def test_what_is_of_three_modalities_is_refused_in_one_sentence(home, tmp_path, capsys, words, said):
    out = tmp_path / ("x.safetensors" if words[0] == "distributions" else "x.jsonl")
    assert main([*words, "--run", str(home / "run"), "--data", str(home / "set"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(said, error), error


# Data and runs that do not fit ---------------------------------------------------------------------------------------


def test_a_run_without_language_is_not_shown_on_data_with_it(home, tmp_path, capsys):
    def spoken(arrays) -> None:
        for split in ("train", "valid", "test"):
            arrays[f"{split}_text"] = np.ones((len(arrays[f"{split}_label"]), SIZES.audio[0], 1), np.float32)

    data, _ = convert(make(tmp_path, spoken), tmp_path / "set")
    with pytest.raises(ValueError, match="was trained without language, which the data set 'x' has"):
        RecoveryPipeline.from_pretrained(str(home / "run"), data=data)
    words = ["--run", str(home / "run"), "--data", str(tmp_path / "set"), "--out", str(tmp_path / "rows.jsonl")]
    assert main(["evaluate", *words]) == 2
    assert "was trained without language, which 'x' has" in capsys.readouterr().err


def test_a_run_of_all_three_recovers_what_a_data_set_lacks(tmp_path):
    """Its clips lack language as any clip may: it can be recovered, and nothing is judged."""
    sizes = dataclasses.replace(SMALL["mosi-aligned"], clips=CLIPS)
    whole, silent = mmsa(sizes, truth(sizes)), mmsa(sizes, truth(sizes))
    for columns in silent.values():
        columns["text"] = np.zeros_like(columns["text"])
        del columns["text_bert"]
    for name, tree in (("whole", whole), ("silent", silent)):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(tree))
        convert(tmp_path / f"{name}.pkl", tmp_path / name)
    run = str(tmp_path / "run")
    assert main(["train", "--data", str(tmp_path / "whole"), "--out", run, *QUICK, "--set", json.dumps(TINY)]) == 0
    assert "lacks" not in hub.load_run(run).info["data"]
    shutil.rmtree(tmp_path / "whole")
    pipeline = RecoveryPipeline.from_pretrained(run, data=str(tmp_path / "silent"))
    assert (pipeline.data.lacks, pipeline.lacks) == (TEXT, ())
    pipeline.warm_up()
    clip = pipeline.data.split("test")[0]
    assert default_drop(pipeline, clip) == TEXT
    found = pipeline(RecoveryRequest(clip, ("audio", "vision"), steps=2, draws=2))
    assert set(found.readable_draws) == {"text"}
    assert np.isnan(found.predictions["complete"])
    with pytest.raises(ValueError, match="has no text; it can only be recovered"):
        RecoveryRequest(clip, ("text", "audio"))


# The pipeline and the page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("available", [("audio", "vision"), ("text",)])
def test_the_pipeline_refuses_to_recover_it(pipeline, available):
    clip = pipeline.seen(pipeline.data.split("test")[0])
    with pytest.raises(
        ValueError, match="this data set has no language, so it cannot be recovered; drop voice or face"
    ):
        pipeline(RecoveryRequest(clip, available, steps=2, draws=1))


def test_the_clip_that_lacks_a_face_too_has_it_recovered(pipeline):
    clip = pipeline.data.split("test")[1]
    assert clip.absent == ("text", "vision")
    assert default_drop(pipeline, clip) == ("vision",)
    found = pipeline(validate(pipeline, sample=clip.id, steps=2, draws=2))
    assert set(found.readable_draws) == {"vision"}
    assert np.isnan(found.predictions["complete"])
    with pytest.raises(BadInput, match="drop: Face is not in the file, so it has to be dropped too"):
        validate(pipeline, sample=clip.id, drop=["audio"])


def test_the_page_drops_only_what_is_there(pipeline):
    assert drop_choices(pipeline) == [("Voice", "audio"), ("Face", "vision")]
    assert drop_told(pipeline) == "One; this data set has no language."
    for value in (["text"], ["Language", "Face"], ["audio", "vision"], []):
        with pytest.raises(BadInput, match=r"drop: this data set has no language; Voice or Face can be dropped\."):
            check_drop(value, pipeline.lacks)
    request = validate(pipeline)
    assert (request.available, request.missing, request.clip.text) == (("text", "audio"), ("vision",), "")
    choice, refused = from_link(pipeline, {"drop": "text"})
    assert choice.drop == ("vision",)
    assert refused == ["drop: this data set has no language; Voice or Face can be dropped."]


def test_compare_has_the_two_patterns_and_the_whole_clip(pipeline):
    request = validate(pipeline, steps=2, draws=2)
    found = [item for item in compare.patterns(pipeline, request) if isinstance(item, compare.Outcome)]
    assert [one.name for one in found] == ["Nothing dropped", "Face dropped", "Voice dropped"]
    assert compare.cost(pipeline, request, "patterns") == 2 * 2
    fills = [
        one
        for one in compare.methods(pipeline, request, {}, compare.Fills(pipeline))
        if isinstance(one, compare.Outcome)
    ]
    assert len(fills) == 5
    for one in (*found, *fills):
        assert np.isfinite(one.prediction)


def test_the_page_in_a_browser(home, browser: Browser):
    """The drop control has two boxes, what is dropped comes back, and a link that drops language is told off."""
    words = ["--run", str(home / "run"), "--data", str(home / "set")]
    with Server(ROOT / "app.py", *words) as server, opened(browser, server, "?drop=text") as page:
        expect(page.locator("#status")).to_contain_text("this data set has no language; Voice or Face can be dropped.")
        assert box(page, "Language").count() == 0
        expect(page.locator("#drop")).to_contain_text("One; this data set has no language.")
        expect(box(page, "Face")).to_be_checked()
        box(page, "Face").click()
        box(page, "Voice").click()
        expect(page.locator("#status")).to_contain_text("Voice dropped.")
        expect(page.locator("#stage [data-ref=chips] li").first).to_contain_text("not in these data")
        expect(page.locator("#stage [data-ref=goneText]")).to_have_text("These data have no language")
        page.click("#recover")
        wait(page, "d.done === 'true'")
        expect(page.locator("#stage [data-ref=runMeta]")).to_contain_text("Voice recovered from Face ·")
        no_barrier(page)
        # to the bundled model, which fits its own data alone, and those have all three
        page.get_by_role("button", name="Model and data").click()
        choose(page, "Model", "corrected")
        expect(box(page, "Language")).to_be_visible()
        expect(page.locator("#drop")).to_contain_text("One or two; at least one stays.")
        expect(box(page, "Voice")).to_be_checked()
