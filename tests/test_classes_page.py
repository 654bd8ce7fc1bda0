"""The page with a run that predicts classes: messages, files, API, comparisons, a visitor's labels, the Hub, a browser.

The run is `tiny_run`'s, of random weights: what is tested is what is shown of a prediction, not how good it is.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_hub import FakeHub
from playwright.sync_api import Browser, Page, expect
from server import ROOT, Server
from stage_demo import run_messages
from test_browser import NARROW, WIDE, box, no_barrier, opened, wait
from test_messages import floats
from test_pages import refused
from test_yours_page import uploaded
from tiny_run import make

from imder import compare, say
from imder.data.label import class_index, label_text
from imder.data.upload import npz_bytes
from imder.evaluation.distributions import Stored
from imder.evaluation.recovered import VIEWS
from imder.export import Recording, curves_csv, trajectory_npz, whole
from imder.interpret import by_class, likeliest, percent, true_share, votes
from imder.modality import PATTERNS, symbols
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.publish.card import model_card
from imder.publish.figures import figures_of
from imder.publish.push import push
from imder.publish.space import readme, space_files
from imder.report.distributions import COLOURS, joint_figures
from imder.ui.api import Api
from imder.ui.compare import SUBJECTS, ComparePage, row, table
from imder.ui.controls import sample_choices, sample_info
from imder.ui.distributions import PATH as DISTRIBUTIONS
from imder.ui.jobs import Jobs
from imder.ui.live import LivePage
from imder.ui.say import SayPage
from imder.ui.shelf import Shelf, open_pipeline
from imder.ui.watch import finished
from imder.ui.yours import YoursPage

CLASSES = ("calm", "<b>happy</b>", "sad")
FIRST = "clip_100$_$0"  # of the first class
PAIR = ("run", "data")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    make(folder, classes=CLASSES)
    return folder


@pytest.fixture(scope="module")
def shelf(home: Path) -> Shelf:
    return Shelf({"run": str(home / "run")}, {"data": str(home / "data")})


@pytest.fixture(scope="module")
def pipeline(shelf: Shelf) -> RecoveryPipeline:
    return shelf.get()


# --- labels and predictions in words ----------------------------------------------------------------------------------


def test_a_label_is_a_number_or_a_name():
    assert (label_text(-0.04), label_text(1.2), label_text(float("nan"))) == ("-0.0", "+1.2", "")
    assert (label_text(2.0, CLASSES), label_text(float("nan"), CLASSES)) == ("sad", "")
    assert [class_index(one, CLASSES) for one in ("Sad ", "1", 0, 2.0)] == [2, 1, 0, 2]
    for bad in ("angry", "3", -1, 1.5, float("nan"), float("inf"), True, None, [1], "9" * 5000, "²"):
        with pytest.raises(ValueError, match=r"its index, 0 to 2, is needed: calm, <b>happy</b>, sad"):
            class_index(bad, CLASSES)


def test_votes_count_the_likeliest_of_each_draw():
    draws = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7], [0.6, 0.4, 0.0]])
    assert votes(draws).tolist() == [0.75, 0, 0.25]
    assert likeliest(draws[2], CLASSES) == ("sad", pytest.approx(0.7))
    assert by_class(draws[0], CLASSES) == {"calm": 0.5, "<b>happy</b>": 0.3, "sad": 0.2}
    assert true_share(draws[1], 1.0) == pytest.approx(0.35)
    nothing = float("nan")
    assert (likeliest(nothing, CLASSES), by_class(nothing, CLASSES)) == (None, None)
    assert np.isnan([true_share(nothing, 1.0), true_share(draws[0], nothing)]).all()


# --- messages ---------------------------------------------------------------------------------------------------------


def test_messages_of_classes_hold_names_probabilities_draws_and_votes():
    names = ("a", "b", "c", "d")
    sample, start, *chunks, done = run_messages("r", ("vision",), classes=names)
    for message in (sample, start):
        assert (message["label_name"], message["classes"], message["label"]) == ("emotion", list(names), 2)
    assert [len(start["baseline"][name]) for name in ("complete", "zero")] == [4, 4]
    steps = np.concatenate([floats(chunk["prediction"]).reshape(chunk["count"], 4) for chunk in chunks])
    assert np.allclose(steps.sum(axis=1), 1, atol=1e-5)
    draws = np.stack([floats(draw) for draw in done["draws"]])
    assert draws.shape == (16, 4)
    assert done["predictions"]["recovered"] == pytest.approx(draws.mean(axis=0).tolist(), abs=1e-5)
    assert done["votes"] == pytest.approx(votes(draws).tolist())
    assert "interval" not in done
    assert json.loads(json.dumps([sample, start, *chunks, done], allow_nan=False))


def test_messages_of_a_sentiment_are_as_they_were():
    sample, start, *chunks, done = run_messages("r", ("vision",))
    assert " ".join(sample) == (
        "kind clip title synthetic available missing label label_range seconds text words sound readable"
    )
    assert " ".join(start) == (
        "kind run clip title available missing sampler steps nfe_total label label_range baseline seconds words "
        "channels frames truth cloud truth_path readable views"
    )
    assert " ".join(done) == "kind run predictions draws interval feature_error nfe seconds words fan"
    assert (start["baseline"], done["predictions"]["label"]) == ({"complete": 1.62, "zero": 0.31}, 1.8)
    assert all(type(v) is float for v in (*done["draws"], *done["interval"], *done["predictions"].values()))
    assert all(len(floats(chunk["prediction"])) == chunk["count"] for chunk in chunks)


def test_a_finished_run_names_the_likeliest_class(pipeline: RecoveryPipeline):
    clip = pipeline.data.clip(FIRST)
    text = finished(pipeline(RecoveryRequest(clip, ("text", "audio"), draws=3)))
    share = r"(calm|<b>happy</b>|sad) \d+\s%"
    assert re.search(
        rf"recovered {share} \(likeliest in [1-3] of 3 draws\), complete {share}, zero-filled {share};", text
    )
    assert text.endswith("the true class is calm.")
    unknown = replace(clip, label=float("nan"), absent=("vision",))
    text = finished(pipeline(RecoveryRequest(unknown, ("text", "audio"), draws=1)))
    assert "complete" not in text
    assert text.endswith("the file has no label.")


def test_the_list_of_samples_names_classes_and_tells_equal_clips_apart(pipeline: RecoveryPipeline):
    choices = sample_choices(pipeline.data)
    assert len({name for name, _ in choices}) == len(choices) == 24
    assert all(re.search(r"\((calm|<b>happy</b>|sad)\)", name) for name, _ in choices)
    assert sample_info(pipeline.data).startswith("A sentence and its emotion, one of 3 classes.")


# --- API and files ----------------------------------------------------------------------------------------------------


def test_the_api_names_classes(shelf: Shelf):
    api = Api(shelf, Jobs())
    found = api.recover(sample=FIRST, drop=["vision"], draws=3)
    assert found["predictions"]["label"] == "calm"
    assert found["interval"] is None
    assert sum(found["votes"].values()) == pytest.approx(1)
    for name in ("complete", "zero", "recovered"):
        assert tuple(found["predictions"][name]) == CLASSES
        assert sum(found["predictions"][name].values()) == pytest.approx(1, abs=1e-5)
    judged = api.evaluate_clip(sample=FIRST, draws=2)
    assert (judged["label"], len(judged["patterns"])) == ("calm", 6)
    for name, one in (("complete", judged), *(("recovered", one) for one in judged["patterns"])):
        assert one[f"{name}_true_probability"] == pytest.approx(one[name]["calm"])
        assert one[f"{name}_likeliest"] == max(one[name], key=one[name].get)
        assert f"{name}_error" not in one
    listed = api.list_clips(search="SAD", limit=5)
    assert listed["total"] == 8
    assert {clip["label"] for clip in listed["clips"]} == {"sad"}
    assert json.dumps([found, judged, listed], allow_nan=False)
    with pytest.raises(Exception, match="lowest: labels are classes, not numbers"):
        api.list_clips(lowest=0)


def test_the_api_takes_a_class_by_name_or_index(shelf: Shelf, pipeline: RecoveryPipeline):
    api, clip = Api(shelf, Jobs()), pipeline.data.clip(FIRST)
    rows = {"audio": clip.features["audio"].round(2).tolist()}
    told = [api.evaluate_clip(features=rows, label=label, draws=1)["label"] for label in (None, "Sad", 1, 0.0)]
    assert told == [None, "sad", "<b>happy</b>", "calm"]
    for bad in ("angry", 3, -1, 0.5, float("nan"), float("inf"), True, [1], {}, "x" * 10_000):
        with pytest.raises(Exception, match=r"label: .* is (no label of this run|not allowed)") as error:
            api.evaluate_clip(features=rows, label=bad, draws=1)
        assert len(str(error.value)) < 300


def test_files_have_a_column_and_a_name_for_each_class(pipeline: RecoveryPipeline):
    request = whole(RecoveryRequest(pipeline.data.clip(FIRST), ("text", "audio"), draws=3))
    recording = Recording.of(list(pipeline.stream(request)))
    head, *lines = csv.reader(io.StringIO(curves_csv(recording)))
    at = [head.index(f"probability_{name}") for name in CLASSES]
    assert "prediction" not in head
    assert all(sum(float(line[i]) for i in at) == pytest.approx(1, abs=1e-5) for line in lines)
    with np.load(io.BytesIO(trajectory_npz(recording))) as arrays:
        assert tuple(arrays["classes"]) == CLASSES
        assert "interval" not in arrays
        assert arrays["draws"].shape == (3, 3)
        assert arrays["prediction_recovered"] == pytest.approx(arrays["draws"].mean(axis=0))
        assert arrays["prediction"].shape == (len(lines), 3)
        assert CLASSES[int(arrays["prediction_label"])] == "calm"


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [name for name in SUBJECTS if name not in ("presets", "samplers")])
def test_comparisons_show_the_likeliest_class_and_the_true_ones_share(shelf: Shelf, what: str):
    page = ComparePage(Jobs(), shelf)
    *shown, last = page.play(*PAIR, FIRST, ["vision"], "dpmpp-2m", 2, 0, 3, 1.0, what)
    _, _, text, *figures, numbers, _, status = last
    assert "Done in" in status
    assert "90 % interval" not in numbers + text
    assert "Likeliest class" in numbers
    assert "<b>happy" not in numbers
    for figure in figures:
        drawn = figure["value"].to_json() if figure["visible"] else ""
        assert "sentiment" not in drawn
    message = next(one[1] for one in reversed(shown) if isinstance(one[1], dict) and "cards" in one[1])
    assert message["true"] == "calm"
    for card in message["cards"][1:]:
        assert "prediction" not in card
        if card["verdict"]:
            assert card["verdict"][1] in ("the true class", f"the true class, calm, {percent(card['share'])}")
    rows = page.compare(sample=FIRST, what=what, draws=3)
    assert rows["label"] == "calm"
    for one in rows["rows"]:
        if one["prediction"]:
            assert one["true_probability"] == pytest.approx(one["prediction"]["calm"])
            assert one["likeliest"] == max(one["prediction"], key=one["prediction"].get)
    if what == "methods":  # those of the bundled corpus predict a sentiment
        notes = {one["name"]: one["note"] for one in rows["rows"]}
        assert "trained" in notes["MMIN"]
        assert not notes["Ridge regression"]


def test_samplers_are_judged_by_the_true_ones_share(pipeline: RecoveryPipeline):
    request = RecoveryRequest(pipeline.data.clip(FIRST), ("text", "audio"), draws=2)
    shown = [one for one in compare.samplers(pipeline, request, (("heun", 2),)) if isinstance(one, compare.Trial)]
    assert len(shown) == 2
    html = table(shown, "samplers")
    for one in shown:
        assert percent(one.true_share) in html
        assert row(one)["true_probability"] == pytest.approx(one.prediction[0])


def test_presets_that_predict_a_sentiment_are_refused_in_one_sentence(shelf: Shelf):
    both = Shelf({"run": shelf.models["run"], "official": str(ROOT / "checkpoints" / "official")}, shelf.sets)
    *_, last = ComparePage(Jobs(), both).play(*PAIR, FIRST, ["vision"], "dpmpp-2m", 2, 0, 2, 1.0, "presets")
    assert "the run official" in refused(last[-1])


def test_live_evaluation_gives_accuracy_and_f1(shelf: Shelf, tmp_path: Path):
    page = LivePage(Jobs(), shelf, tmp_path / "none.jsonl")
    shown = list(page.measure(["IMDer", "zero fill"], "fixed patterns", "0.5", 8, 0, "1"))
    table = next(one[0] for one in reversed(shown) if isinstance(one[0], str))
    assert "Done: 12 cells" in shown[-1][-1]
    for name in ("accuracy here", "F1 weighted here", "F1 unweighted here"):
        assert name in table
    assert "MAE" not in table
    measured = [float(x) for x in re.findall(r">(\d+\.\d) \[", table)]
    assert len(measured) == 36
    assert all(0 <= x <= 100 for x in measured)


def test_what_is_imagined_for_a_sentence_needs_a_sentiment(shelf: Shelf, pipeline: RecoveryPipeline):
    page = SayPage(shelf, Jobs())
    *_, (_, status) = page.imagine("so so", *PAIR, FIRST, ["vision"], "dpmpp-2m", 2, 0, 2, 1.0)
    assert "predicts classes" in refused(status)
    line, opened_now, *_, status = page.open(*PAIR, None)
    assert "predicts classes" in line
    assert (opened_now, "stored sentence is shown" in status) == ("yes", True)
    with pytest.raises(ValueError, match="predicts one of 3 classes"):
        next(say.imagine(pipeline, None))


def test_stored_distributions_name_classes_and_colour_no_scale():
    stored = Stored.read(DISTRIBUTIONS)
    labels = {"label": np.arange(len(stored.label)) % 3.0}
    stored = replace(stored, about=stored.about | {"label_classes": list(CLASSES)}, tensors=stored.tensors | labels)
    plain, coloured = (joint_figures(stored, VIEWS[0], False, "pca", colour)[0].figure for colour in COLOURS)
    assert "label sad" in plain.to_json()
    assert coloured == plain


# --- a visitor's labels -----------------------------------------------------------------------------------------------


@pytest.fixture
def yours(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> YoursPage:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return YoursPage(shelf, Jobs())


def features(pipeline: RecoveryPipeline, count: int = 3) -> dict[str, np.ndarray]:
    clips = pipeline.data.split("test")[:count]
    return {k: np.stack([clip.features[k] for clip in clips]) for k in ("text", "audio", "vision")}


@pytest.mark.parametrize("labels", [["sad", "", "Calm"], [2.0, np.nan, 0.0]], ids=["names", "indices"])
def test_your_labels_are_names_or_indices(yours: YoursPage, pipeline: RecoveryPipeline, tmp_path: Path, labels: list):
    content = npz_bytes(features(pipeline) | {"label": np.array(labels)})
    _, _, clip, _, stage, word, status = yours.open(uploaded(tmp_path, content), *PAIR, None)
    assert "3 clips, ready" in status
    assert [name for name, _ in clip["choices"]] == ["clip 1 (sad)", "clip 2", "clip 3 (calm)"]
    assert (stage["label"], stage["classes"]) == (2, list(CLASSES))
    *_, (message, status) = yours.play(*PAIR, "clip 2", ["vision"], "dpmpp-2m", 2, 0, 2, 1.0, word)
    assert message["predictions"]["label"] is None
    assert "the file has no label" in status


@pytest.mark.parametrize("labels", [["sad", "angry", "calm"], [0, 1, 3], [0.5, 1, 2], [0, np.inf, 1], [-1, 0, 1]])
def test_labels_that_are_no_class_are_refused(yours: YoursPage, pipeline: RecoveryPipeline, tmp_path: Path, labels):
    content = npz_bytes(features(pipeline) | {"label": np.array(labels)})
    text = refused(yours.open(uploaded(tmp_path, content), *PAIR, None)[-1])
    assert "is no label of this run" in text
    assert "<b>" not in text


def test_the_layout_and_the_example_name_the_class(yours: YoursPage):
    layout, _, _, clip, _, stage, *_ = yours.greet(*PAIR, None, None)
    assert "emotion, by name or index from 0: calm, &lt;b&gt;happy&lt;/b&gt;, sad; optional" in layout
    assert "sentiment" not in layout
    assert clip["choices"][0][0].endswith("(calm)") or stage["label"] is not None


# --- the Hub ----------------------------------------------------------------------------------------------------------


def test_a_run_pushed_is_pulled_opened_and_described(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with FakeHub() as fake:
        fake.reached(monkeypatch, tmp_path / "cache")
        push(home / "run", "ada/emotion")
        source = f"ada/emotion@{fake.commit('ada/emotion', 'main')}"
        opened_run = open_pipeline(source, str(home / "data"))
        assert opened_run.classes == CLASSES
        assert opened_run.notice is None
        with pytest.raises(ValueError, match=r"the run predicts calm, <b>happy</b>, sad|reads features of widths"):
            space_files("ada/page", run=source)
    card = model_card(opened_run.run, "ada/emotion", figures_of(opened_run.run))
    assert "multimodal-emotion-recognition" in card
    assert "sentiment" not in card.partition("# ")[0]
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    code = code.replace('"ada/emotion"', repr(str(home / "run"))).replace('"DIR"', repr(str(home / "data")))
    said: list[object] = []
    exec(code, {"print": said.append})
    assert tuple(said[0]) == CLASSES
    assert sum(said[0].values()) == pytest.approx(1, abs=1e-5)


def test_a_cards_figures_are_of_classes(pipeline: RecoveryPipeline):
    by_pattern = {symbols(p): {"recovered": 0.1 + 0.1 * i, "zero": 0.0} for i, p in enumerate(PATTERNS[:-1])}
    metrics = {"split": "valid", "clips": 9, "accuracy": {"complete": 0.9}, "accuracy_by_pattern": by_pattern}
    run = replace(pipeline.run, metrics=metrics)
    card = model_card(run, "ada/emotion", figures_of(run))
    assert "Emotion of a clip with modalities missing" in card
    assert "type: accuracy" in card
    assert "mean absolute error" not in card
    assert f"Weakest with {symbols(PATTERNS[0])} available: accuracy 0.10, 0.90 with everything" in card
    text = readme("ada/page", run, "ada/emotion@" + "0" * 40, "ada/data")
    assert "| classes | calm, <b>happy</b>, sad |" in text
    assert "emotion one of the classes calm" in text


# --- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with Server(ROOT / "app.py", "--run", str(home / "run"), "--data", str(home / "data")) as running:
        yield running


def told(page: Page, stage: str = "stage") -> str:
    """What a screen reader hears of the bars."""
    return page.get_attribute(f"#{stage} [data-ref=scaleCanvas]", "aria-label")


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_the_first_page_shows_bars_that_move_with_the_step(browser: Browser, server: Server):
    with opened(browser, server) as page:
        expect(page.locator("#stage [data-ref=scaleTitle]")).to_have_text("Emotion")
        assert told(page) == "Probabilities of the classes: calm, the true class; <b>happy</b>; sad"
        expect(page.locator("#sample")).to_contain_text("one of 3 classes")
        box(page, "Voice").check()
        expect(page.locator("#status")).to_contain_text("Voice and Face dropped")
        page.click("#recover")
        wait(page, "d.done === 'true' && d.step === d.last && d.playing === 'false'")
        expect(page.locator("#status")).to_contain_text("the true class is calm")
        last = told(page)
        one = r"complete \d+ %, zero-filled \d+ %, recovered \d+ %, likeliest in \d of 8 draws"
        assert re.fullmatch(
            rf"Probabilities of the classes: calm, the true class: {one}; <b>happy</b>: {one}; sad: {one}", last
        )
        assert sum(int(n) for n in re.findall(r"in (\d) of 8", last)) == 8
        assert abs(sum(int(n) for n in re.findall(r"recovered (\d+) %", last)) - 100) <= 2
        assert re.fullmatch(r"(calm|<b>happy</b>|sad) \d+ %", page.inner_text("#stage [data-value=recovered]"))
        assert page.inner_text("#stage [data-value=label]") == "calm"
        expect(page.locator("#stage .curves")).to_contain_text("Probability of the true class, calm")
        page.focus("#stage [data-ref=player]")
        page.keyboard.press("Home")
        wait(page, "d.step === '0'")
        assert "likeliest in" not in told(page)
        assert told(page) != last
        page.keyboard.press("End")
        wait(page, "d.step === d.last")
        assert told(page) == last
        page.get_by_role("button", name="Hear it", exact=True).click()
        expect(page.locator("#hear-status")).not_to_contain_text("Nothing is played")


def test_every_page_opens_with_a_run_of_classes(browser: Browser, server: Server):
    with opened(browser, server) as page:
        tab(page, "Compare")
        expect(page.locator("#compare-status")).to_contain_text("Done in")
        card = page.locator("#players .cards > li").nth(1)
        expect(card).to_contain_text(re.compile(r"Predicted .* \d+\s%, the true class"))
        expect(page.locator("#players .key")).to_contain_text("probability of the true class")
        assert not page.locator("#players [data-of=sentiment]").first.is_visible()
        page.wait_for_selector("#compare-figure-0 .main-svg")
        no_barrier(page)
        tab(page, "Benchmark")
        page.locator("#live-methods").get_by_label("ridge").uncheck()
        page.locator("#live-clips input[type=number]").fill("8")
        page.locator("#live-clips input[type=number]").press("Tab")
        page.click("#live-run")
        expect(page.locator("#live-status")).to_contain_text("Done")
        expect(page.locator("#live-table")).to_contain_text("accuracy here")
        tab(page, "Your data")
        expect(page.locator("#your-status")).to_contain_text("example file")
        page.click("#your-recover")
        expect(page.locator("#your-status")).to_contain_text("the true class is calm")
        assert "the true class: complete" in told(page, "your-stage")
        tab(page, "Score field")
        expect(page.locator("#field-status")).to_contain_text("network evaluations in")
        tab(page, "Distributions")
        expect(page.locator("#page-distributions, #distributions-source").first).to_be_attached()
        expect(page.locator(".status-line:visible").first).to_contain_text("not of the model and data chosen")
        tab(page, "Training")
        expect(page.locator("#training-status")).to_contain_text("no training log")
        tab(page, "Say it")
        expect(page.locator("#say-which")).to_contain_text("predicts classes")


@pytest.mark.parametrize(("theme", "size"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_bars_have_no_barrier(browser: Browser, server: Server, theme: str, size: dict):
    with opened(browser, server, f"?__theme={theme}", viewport=size, reduced_motion="reduce") as page:
        page.click("#recover")
        wait(page, "d.done === 'true'")
        assert "likeliest in" in told(page)
        no_barrier(page)
