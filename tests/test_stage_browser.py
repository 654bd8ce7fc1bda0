"""The stage alone in a real browser: a page of its own process, one client, no sleep but on the state it shows."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from stage_demo import run_messages

sync_api = pytest.importorskip("playwright.sync_api")

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("IMDER_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
]
RESTING = "#stage[data-run=stored][data-done=true][data-step='59']"

SHOWN = "nodes.filter(n => n.offsetParent && n.getBoundingClientRect()"
WIDER = f"nodes => {SHOWN}.right > 390.5).map(n => n.outerHTML.slice(0, 90))"
LOWER = f"nodes => {SHOWN}.height < 40).map(n => n.outerHTML.slice(0, 90))"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The demo page on a free port, with a temp folder of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temp = tmp_path_factory.mktemp("stage")
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(temp), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    log = (temp / "log").open("w")
    server = subprocess.Popen([sys.executable, str(HERE / "stage_demo.py")], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + 300
        while True:
            assert server.poll() is None, (temp / "log").read_text()
            assert time.monotonic() < deadline, "the demo page did not come up"
            try:
                urllib.request.urlopen(url + "config", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        engine = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield engine
        engine.close()


@pytest.fixture
def visit(address, browser):
    """Opens the page; afterwards no error of the page or the console and no request to elsewhere may have happened."""
    contexts, troubles = [], []

    def note(request):
        if not request.url.startswith((address, "data:", "blob:")):
            troubles.append(f"request to {request.url}")

    def open_page(theme="light", width=1100, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        context.set_default_timeout(90_000)
        page = context.new_page()
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort())
        page.on("request", note)
        page.on("pageerror", lambda error: troubles.append(f"page: {error}"))
        page.on("console", lambda entry: troubles.append(f"console: {entry.text}") if entry.type == "error" else None)
        page.goto(f"{address}?__theme={theme}")
        page.wait_for_selector(RESTING)
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def settle(page):
    """Two frames of the screen: what was asked to be drawn is drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def call(page, expression):
    result = page.evaluate(f"() => {{ const stage = document.getElementById('stage').stage; return {expression}; }}")
    settle(page)
    return result


def picture(page, selector):
    """The pixels of a canvas as one number."""
    return page.eval_on_selector(
        f"#stage {selector}",
        """canvas => { const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let hash = 7; for (const v of data) hash = (hash * 31 + v) | 0; return hash; }""",
    )


def still(page):
    """Stops both clocks, so that pictures can be compared."""
    page.evaluate("() => { const s = document.getElementById('stage').stage; s.pause(); s.time(0.5); }")
    if call(page, "stage.state().clipPlaying"):
        page.click("[data-ref=listen]")
    call(page, "stage.time(0.5)")


def test_a_stored_run_is_drawn_and_rests_at_its_last_step(visit):
    page = visit()
    state = call(page, "stage.state()")
    assert (state["run"], state["last"], state["done"], state["playing"]) == ("stored", 59, True, False)
    assert page.inner_text("[data-value=label]") == "+1.80"
    assert page.inner_text("[data-value=zero]") == "+0.31"
    assert page.get_attribute("[data-ref=stepSlider]", "aria-valuetext").startswith("step 60 of 60")
    for name in ("state", "denoised", "reconstructed", "truth", "difference"):
        assert page.locator(f"canvas[data-map=vision-{name}]").count() == 1
        assert page.locator(f"canvas[data-map=audio-{name}]").count() == 1
    assert page.is_hidden("[data-ref=words]")
    assert page.is_visible("[data-ref=faceNow]")


def test_dropped_modalities_are_gone_from_the_sample(visit):
    page = visit()
    assert page.is_visible("text=Face dropped")
    assert page.is_visible("text=Voice dropped")
    assert page.is_visible("[data-ref=sentence]")
    assert page.eval_on_selector("audio", "node => node.hasAttribute('src')") is False
    page.click("#two")
    page.wait_for_selector("#stage[data-run=live-two][data-done=true]")
    assert page.is_hidden("[data-ref=sentence]")
    assert page.is_visible("text=Language dropped")
    assert page.inner_text("[data-ref=sentence]") == ""


def test_a_run_plays_as_it_comes_and_ends_at_its_last_step(visit):
    page = visit()
    page.select_option("[data-ref=speed]", "4")
    page.click("#one")
    page.wait_for_selector("#stage[data-run=live-one][data-playing=true]")
    page.wait_for_selector("#stage[data-run=live-one][data-step='59'][data-playing=false]")
    assert page.get_attribute("#stage", "data-done") == "true"


def test_steps_change_the_estimate_and_not_the_truth(visit):
    page = visit()
    still(page)
    before = {name: picture(page, f"[data-map=vision-{name}]") for name in ("state", "denoised", "difference", "truth")}
    faces = {name: picture(page, f"[data-ref={name}]") for name in ("faceNow", "faceTrue", "scaleCanvas")}
    call(page, "stage.seek(5)")
    after = {name: picture(page, f"[data-map=vision-{name}]") for name in before}
    moved = {name: picture(page, f"[data-ref={name}]") for name in faces}
    assert {name for name in before if before[name] != after[name]} == {"state", "denoised", "difference"}
    assert {name for name in faces if faces[name] != moved[name]} == {"faceNow", "scaleCanvas"}


def test_time_in_the_clip_moves_the_faces_and_not_the_maps(visit):
    page = visit()
    still(page)
    names = ("[data-ref=faceNow]", "[data-ref=faceTrue]", "[data-ref=laneWords]", "[data-map=vision-denoised]")
    before = [picture(page, name) for name in names]
    call(page, "stage.time(0.8)")
    assert [a != picture(page, b) for a, b in zip(before, names, strict=True)] == [True, True, True, False]
    assert page.input_value("[data-ref=clipTime]") == "800"


def test_the_sound_and_the_clip_run_together(visit):
    page = visit()
    page.click("#one")  # the voice is there
    page.wait_for_selector("#stage[data-run=live-one][data-done=true]")
    assert page.inner_text("[data-ref=listenText]") == "Play with sound"
    page.click("[data-ref=listen]")
    page.wait_for_function("() => document.getElementById('stage').stage.state().sounding")
    assert page.inner_text("[data-ref=listenText]") == "Pause"
    page.wait_for_function("() => document.getElementById('stage').stage.state().clip > 0.1")
    page.click("[data-ref=listen]")
    assert page.eval_on_selector("audio", "node => node.paused") is True
    played = page.eval_on_selector("audio", "node => node.currentTime / node.duration")
    assert abs(call(page, "stage.state().clip") - played) < 0.02


def test_keys_and_buttons_step(visit):
    page = visit()
    page.focus("[data-ref=player]")
    for key, step in (("Home", "0"), ("ArrowRight", "1"), ("ArrowRight", "2"), ("ArrowLeft", "1"), ("End", "59")):
        page.keyboard.press(key)
        assert page.get_attribute("#stage", "data-step") == step
    page.click("[data-ref=back]")
    assert page.get_attribute("#stage", "data-step") == "58"
    page.click("[data-ref=forward]")
    assert page.get_attribute("#stage", "data-step") == "59"
    page.focus("[data-ref=player]")
    page.keyboard.press("Space")
    page.wait_for_selector("#stage[data-playing=true]")
    page.keyboard.press("Space")
    page.wait_for_selector("#stage[data-playing=false]")


def test_the_slider_scrubs_without_the_server(visit):
    page = visit()
    page.fill("[data-ref=stepSlider]", "20")
    assert page.get_attribute("#stage", "data-step") == "20"
    assert page.get_attribute("[data-ref=stepSlider]", "aria-valuetext").startswith("step 20 of 60")


def test_pointing_at_a_map_tells_channel_time_value_and_truth(visit):
    page = visit()
    page.locator("canvas[data-map=vision-denoised]").hover(position={"x": 5, "y": 5})
    tip = page.locator(".tip:visible")
    tip.wait_for()
    text = tip.inner_text()
    for word in ("Channel", "Time in the clip", "Estimate", "Truth"):
        assert word in text
    page.mouse.move(5, 5)
    tip.wait_for(state="hidden")


def test_the_keys_read_single_values_of_a_map(visit):
    page = visit()
    page.focus("canvas[data-map=vision-denoised]")
    page.keyboard.press("ArrowRight")
    tip = page.locator(".tip:visible")
    tip.wait_for()
    settle(page)
    before = tip.inner_text()
    page.keyboard.press("ArrowDown")
    settle(page)
    assert tip.inner_text() != before
    assert page.get_attribute("#stage", "data-step") == "59"
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")


def test_twenty_runs_leave_no_heap_behind(visit):
    page = visit()
    page.evaluate("sent => { window.sent = sent; }", run_messages("again", ("audio", "vision")))
    play = """times => { const { stage } = document.getElementById('stage');
        for (let i = 0; i < times; i++) {
          const run = 'run-' + Math.random();
          for (const message of window.sent) stage.receive({ ...message, run });
        } }"""
    heap = []
    for times in (3, 20):
        page.evaluate(play, times)
        settle(page)
        heap.append(page.evaluate("() => { gc(); return performance.memory.usedJSHeapSize / 1e6; }"))
    assert heap[1] < heap[0] + 4


def test_the_plane_has_three_scales(visit):
    page = visit()
    seen = set()
    for scale in ("compressed", "linear", "end"):
        page.select_option("[data-ref=planeScale]", scale)
        settle(page)
        seen.add(picture(page, ".cell-plane canvas"))
    assert len(seen) == 3


def test_chunks_may_come_twice_and_strangers_are_ignored(visit):
    page = visit()
    still(page)
    call(page, "stage.seek(10)")
    kept = call(page, "stage.state()")
    call(page, "stage.receive({ kind: 'chunk', run: 'somebody else', k0: 0 })")
    call(page, "stage.receive({ kind: 'done', run: 'somebody else' })")
    call(page, "stage.receive({ kind: 'unheard of' })")
    call(page, "stage.receive(null)")
    assert call(page, "stage.state()") == kept
    page.click("#twice")
    page.wait_for_selector("#stage[data-run=twice][data-done=true][data-last='59']")


def test_an_error_keeps_the_last_result(visit):
    page = visit()
    page.click("#fail")
    page.wait_for_selector("[data-ref=notice]:visible")
    assert "steps: 5000 is not offered" in page.inner_text("[data-ref=notice]")
    assert page.get_attribute("#stage", "data-run") == "stored"
    assert page.get_attribute("#stage", "data-done") == "true"


def test_features_without_names_say_so(visit):
    page = visit()
    page.click("#plain")
    page.wait_for_selector("#stage[data-run=plain][data-done=true]")
    assert "carry no names that can be drawn" in page.inner_text("[data-ref=readableNote]")
    assert page.is_hidden("[data-ref=faceNow]")
    assert page.is_visible("canvas[data-map=vision-state]")


def test_the_theme_can_change_while_it_is_shown(visit):
    page = visit()
    still(page)
    before = picture(page, "[data-map=vision-denoised]")
    page.evaluate("() => document.body.classList.add('dark')")
    settle(page)
    assert call(page, "stage.state().dark") is True
    assert picture(page, "[data-map=vision-denoised]") != before


def test_classes_stand_in_the_place_of_the_scale_and_give_it_back(visit):
    page = visit()
    tall = page.eval_on_selector("[data-ref=scaleCanvas]", "node => node.clientHeight")
    page.click("#classes")
    page.wait_for_selector("#stage[data-run=classes][data-done=true]")
    still(page)
    call(page, "stage.seek(59)")
    assert page.inner_text("[data-ref=scaleTitle]") == "Emotion"
    assert page.inner_text("[data-value=complete]") == "happy 74 %"
    assert page.inner_text("[data-value=label]") == "happy"
    heard = page.get_attribute("[data-ref=scaleCanvas]", "aria-label")
    assert "happy, the true class: complete 74 %, zero-filled 7 %, recovered 37 %, likeliest in 9 of 16 draws" in heard
    assert page.eval_on_selector("[data-ref=scaleCanvas]", "node => node.clientHeight") > tall
    before = picture(page, "[data-ref=scaleCanvas]")
    call(page, "stage.seek(5)")
    assert picture(page, "[data-ref=scaleCanvas]") != before
    assert page.inner_text("[data-value=recovered]").startswith("neutral ")
    assert "likeliest in" not in page.get_attribute("[data-ref=scaleCanvas]", "aria-label")
    page.click("#one")
    page.wait_for_selector("#stage[data-run=live-one][data-done=true]")
    assert page.inner_text("[data-ref=scaleTitle]") == "Sentiment"
    assert page.inner_text("[data-value=label]") == "+1.80"
    assert page.eval_on_selector("[data-ref=scaleCanvas]", "node => node.clientHeight") == tall


def test_of_many_classes_the_likeliest_are_shown_and_the_others_as_one(visit):
    page = visit(width=390)
    page.click("#many")
    page.wait_for_selector("#stage[data-run=many][data-done=true]")
    call(page, "stage.pause()")
    call(page, "stage.seek(59)")
    rows = page.get_attribute("[data-ref=scaleCanvas]", "aria-label").split("; ")
    assert len(rows) == 12
    assert rows[-1].startswith("9 others: ")
    assert sum("the true class" in row for row in rows) == 1
    assert sum(int(row.split("likeliest in ")[1].split()[0]) for row in rows) == 16
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_reduced_motion_shows_the_result_at_once(visit):
    page = visit(reduced_motion="reduce")
    assert call(page, "stage.state().clipPlaying") is False
    page.click("#one")
    page.wait_for_selector("#stage[data-run=live-one][data-done=true][data-step='59']")
    assert page.get_attribute("#stage", "data-playing") == "false"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_everything_without_sideways_scroll(visit, theme):
    page = visit(theme, width=390, device_scale_factor=2, has_touch=True)
    page.click("#two")
    page.wait_for_selector("#stage[data-run=live-two][data-done=true]")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.eval_on_selector_all("#stage *", WIDER) == []
    assert page.eval_on_selector_all("#stage :is(button, select)", LOWER) == []
