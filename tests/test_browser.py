"""The page in a real browser: drop, recover, watch, scrub, stop; links; a phone; dark; nothing leaves the origin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from fake_pipeline import MOODS, SLOW_SEED
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from server import FAKE, Server

NARROW = {"width": 390, "height": 844}
WIDE = {"width": 1360, "height": 900}
MODEL_SEED = 3


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@contextmanager
def opened(browser: Browser, server: Server, query: str = "", **options: object) -> Iterator[Page]:
    """A page of its own client; fails on page errors, console errors, failed requests and foreign addresses."""
    context = browser.new_context(**({"viewport": WIDE} | options))
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on("console", lambda m: complaints.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)

    def origin(url: str) -> None:
        if not url.startswith((server.url, "data:", "blob:")):
            complaints.append(f"foreign: {url}")

    page.on("request", lambda request: origin(request.url))
    page.set_default_timeout(30_000)
    page.goto(f"{server.url}/{query}")
    page.wait_for_selector("#stage:not([data-sample=''])", state="attached")
    try:
        yield page
    finally:
        context.close()
    assert complaints == []


def stage(page: Page, name: str) -> str:
    """A data attribute of the stage."""
    return page.get_attribute("#stage", f"data-{name}")


expect.set_options(timeout=30_000)


def wait(page: Page, condition: str) -> None:
    """Waits for a condition on the stage's data attributes, `d`; a failure tells what the page shows instead."""
    try:
        page.wait_for_function(f"() => {{ const d = document.getElementById('stage').dataset; return {condition}; }}")
    except PlaywrightTimeout:
        shown = page.evaluate(
            """() => ({stage: {...document.getElementById('stage').dataset},
            status: document.getElementById('status').innerText,
            numbers: [...document.querySelectorAll('input[type=number]')].map((input) => input.value)})"""
        )
        pytest.fail(f"never true: {condition}; the page shows {shown}")


def box(page: Page, name: str) -> Locator:
    """A check box of what is dropped."""
    return page.get_by_role("checkbox", name=name, exact=True)


def advanced(page: Page, **values: object) -> None:
    """Opens Advanced if need be and fills in numbers.

    When an accordion opens, Gradio draws its fields and a little later gives each its stored value once more, which
    undoes what was filled in between: a program is quick enough for that, a visitor is not.
    """
    if not page.locator("#steps input").is_visible():
        page.get_by_role("button", name="Advanced").click()
        page.wait_for_selector("#steps input[type=number]")
        page.wait_for_timeout(1000)
    for name, value in values.items():
        page.fill(f"#{name} input[type=number]", str(value))
        page.press(f"#{name} input[type=number]", "Tab")


def no_barrier(page: Page) -> None:
    """Nothing scrolls sideways, and axe-core finds no fault, once the colours have faded in."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()


INK = """(ref => { const c = document.querySelector('#stage [data-ref=' + ref + ']');
const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
let h = 0; for (let i = 0; i < d.length; i++) h = (h * 31 + d[i]) | 0; return c.width + ' ' + h; })"""


def ink(page: Page, ref: str) -> str:
    """A fingerprint of a canvas of the stage."""
    return page.evaluate(f"{INK}('{ref}')")


def test_drop_recover_watch_scrub(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        box(page, "Voice").check()
        box(page, "Face").uncheck()
        expect(page.locator("#status")).to_contain_text("Voice dropped")
        wait(page, "d.run === ''")
        assert page.locator("#stage [data-ref=goneVoice]").is_visible()
        advanced(page, steps=20, seed=MODEL_SEED)
        page.click("#recover")
        wait(page, "d.done === 'true' && d.last === '20'")
        expect(page.locator("#status")).to_contain_text("Done in")
        assert "audio-dpmpp-2m-20-3" in stage(page, "run")
        wait(page, "d.step === '20'")
        last = ink(page, "voiceCanvas")
        slider = page.locator("#stage [data-ref=stepSlider]")
        slider.focus()
        slider.press("Home")
        wait(page, "d.step === '0'")
        page.wait_for_function(f"{INK}('voiceCanvas') !== '{last}'")
        slider.press("End")
        wait(page, "d.step === '20'")
        slider.press("ArrowLeft")
        wait(page, "d.step === '19'")


def test_language_dropped_is_gone_from_the_page(browser: Browser, server: Server) -> None:
    with opened(browser, server, "?sample=clip_0$_$0") as page:
        sentence = page.locator("#stage [data-ref=sentence]")
        expect(sentence).to_contain_text("loved")
        box(page, "Language").check()
        expect(page.locator("#status")).to_contain_text("Language and Face dropped")
        expect(page.locator("#stage [data-ref=goneText]")).to_be_visible()
        assert "loved" not in page.inner_text("#stage")


def test_stop_ends_a_run_and_the_picture_stays(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        expect(page.locator("#stop")).to_be_disabled()
        advanced(page, steps=40, seed=SLOW_SEED)
        page.click("#recover")
        wait(page, "+d.last >= 2")
        expect(page.locator("#stop")).to_be_enabled()
        page.click("#stop")
        expect(page.locator("#status")).to_contain_text("Stopped")
        expect(page.locator("#stop")).to_be_disabled()
        last, run = stage(page, "last"), stage(page, "run")
        advanced(page, steps=10, seed=MODEL_SEED)
        assert (stage(page, "last"), stage(page, "run"), stage(page, "done")) == (last, run, "false")
        page.click("#recover")
        wait(page, "d.done === 'true' && d.last === '10'")
        assert stage(page, "run") != run


def test_what_is_wrong_is_said_and_the_last_result_stays(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        advanced(page, steps=10, seed=MODEL_SEED)
        page.click("#recover")
        wait(page, "d.done === 'true'")
        run = stage(page, "run")
        for name in ("Language", "Voice"):
            box(page, name).check()
        trouble = page.locator("#status .trouble")
        expect(trouble).to_contain_text("at least one stays")
        page.click("#recover")
        expect(trouble).to_contain_text("all dropped")
        assert stage(page, "run") == run
        box(page, "Language").uncheck()
        expect(page.locator("#status")).to_contain_text("Voice and Face dropped")
        advanced(page, seed=next(iter(MOODS)))
        page.click("#recover")
        expect(trouble).to_contain_text("failed (code")
        assert "Traceback" not in page.inner_text("body")
        advanced(page, seed=MODEL_SEED)
        page.click("#recover")
        wait(page, "d.done === 'true' && d.last === '10' && d.run.includes('audio-vision')")


def test_a_link_sets_everything_and_copies_back(browser: Browser, server: Server) -> None:
    query = "?sample=clip_4%24_%240&drop=text,audio&sampler=heun&steps=7&seed=12&draws=3&guidance=1.5"
    with opened(browser, server, query, permissions=["clipboard-read", "clipboard-write"]) as page:
        expect(page.locator("#status")).to_contain_text("Language and Voice dropped")
        assert stage(page, "sample") == "clip_4$_$0"
        page.click("#link")
        expect(page.locator("#status")).to_contain_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(server.url)
        values = "steps=7&seed=12&draws=3&guidance=1.5"
        assert re.search(r"sample=clip_4%24_%240&drop=text%2Caudio&sampler=heun&" + values, copied)
        page.click("#recover")
        wait(page, "d.done === 'true' && d.run.includes('text-audio-heun-7-12')")


def test_a_wrong_link_opens_with_defaults_and_says_so(browser: Browser, server: Server) -> None:
    query = "?sample=<img src=x onerror=alert(1)>&drop=smell&steps=1e9&seed=-1&sampler=heun&x=y"
    with opened(browser, server, query) as page:
        trouble = page.locator("#status .trouble")
        for part in ("sample: '<img", "drop: 'smell'", "steps: '1e9'", "seed: '-1'"):
            expect(trouble).to_contain_text(part)
        assert page.locator("#status img").count() == 0
        page.click("#recover")
        wait(page, "d.done === 'true'")


def test_samples_examples_random_and_search(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.get_by_role("button", name="A voice from a face").click()
        wait(page, "d.sample === 'clip_3$_$0'")
        expect(page.locator("#status")).to_contain_text("listen to the pitch.")
        search = page.get_by_role("combobox", name="Sample", exact=True)
        search.click()
        search.fill("two hours")
        page.get_by_role("option", name="two hours").first.click()
        wait(page, "['clip_4$_$0', 'clip_10$_$0'].includes(d.sample)")
        seen = {stage(page, "sample")}
        for _ in range(8):
            with page.expect_response(lambda response: "/run/" in response.url):
                page.click("#random")
            seen.add(
                page.evaluate(
                    "new Promise(r => setTimeout(() => r(document.getElementById('stage').dataset.sample), 100))"
                )
            )
        assert len(seen) > 1


def test_model_can_be_typed_and_a_failure_keeps_the_page(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.get_by_role("button", name="Model and data").click()
        model = page.get_by_role("combobox", name="Model")
        for typed, said in (
            ("owner/absent", "did not answer"),
            ("nonsense", "model: 'nonsense' is unknown"),
            ("broken", "config.json is not JSON"),
            ("owner/name@main", "Model owner/name@main is loaded"),
        ):
            model.fill(typed)
            model.press("Enter")
            expect(page.locator("#status")).to_contain_text(said)
        expect(page.locator("#source")).to_contain_text("owner/name@main")
        page.click("#recover")
        wait(page, "d.done === 'true'")


def test_sampler_sets_its_steps_and_new_seed_makes_one(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        advanced(page)
        page.get_by_role("combobox", name="Sampler").click()
        page.get_by_role("option", name="Heun").click()
        expect(page.locator("#steps input")).to_have_value("18")
        page.click("#new-seed")
        page.wait_for_function("document.querySelector('#seed input').value !== '0'")
        assert 0 <= int(page.input_value("#seed input")) < 2**31


def test_phone_is_stacked_without_sideways_scroll(browser: Browser, server: Server) -> None:
    with opened(browser, server, viewport=NARROW, has_touch=True, is_mobile=True) as page:
        advanced(page, seed=MODEL_SEED)
        page.get_by_role("button", name="Advanced").click()
        page.tap("#recover")
        wait(page, "d.done === 'true'")
        for selector in ("#controls", "#stage"):
            box = page.locator(selector).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= NARROW["width"]
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        page.wait_for_function("document.querySelector('#stage [data-ref=player]').getBoundingClientRect().top < 400")
        small = page.evaluate(
            """() => [...document.querySelectorAll('#controls button, #drop label')].filter(e => e.offsetParent)
            .filter(e => e.getBoundingClientRect().height < 40 && !/reset/.test(e.className)).map(e => e.outerHTML)"""
        )
        assert small == []


def test_dark_changes_the_page_and_the_canvases(browser: Browser, server: Server) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        with opened(browser, server, color_scheme=scheme, reduced_motion="reduce") as page:
            page.click("#recover")
            wait(page, "d.done === 'true'")
            background = page.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor")
            seen[scheme] = (background, ink(page, "faceTrue"))
    assert seen["light"][0] != seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]


def test_keyboard_reaches_everything_in_order(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.get_by_role("combobox", name="Sample", exact=True).focus()
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.ariaLabel || ''"))
        assert "recover" in reached
        page.locator("#recover").focus()
        page.keyboard.press("Enter")
        wait(page, "d.done === 'true'")


def test_status_is_announced_and_controls_have_names(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        assert page.locator("#status [aria-live=polite]").count() == 1
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('button, input:not([type=hidden]), select')]
            .filter(e => e.offsetParent && !(e.ariaLabel || e.labels?.length || e.title || e.textContent.trim()
              || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"""
        )
        assert unnamed == []


def test_the_bundled_model_opens_with_a_stored_run_and_recovers(browser: Browser) -> None:
    with Server(FAKE.parents[1] / "app.py") as real, opened(browser, real) as page:
        wait(page, "d.done === 'true' && d.step === d.last")
        expect(page.locator("#status")).to_contain_text("A stored run is shown.")
        for section in page.locator(".gr-accordion > .label-wrap").all():
            section.click()
        stored = stage(page, "run")
        page.get_by_role("button", name="Irony").click()
        expect(page.locator("#status")).to_contain_text("the words say one thing")
        box(page, "Language").uncheck()
        box(page, "Face").uncheck()
        box(page, "Voice").check()
        expect(page.locator("#status")).to_contain_text("Voice dropped")
        page.click("#recover")
        wait(page, f"d.done === 'true' && d.run !== '{stored}'")
        expect(page.locator("#status")).to_contain_text("Done in")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW)])
def test_axe_finds_no_barrier(browser: Browser, server: Server, scheme: str, viewport: dict[str, int]) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        for name in ("Advanced", "Model and data"):
            page.get_by_role("button", name=name).click()
        page.click("#recover")
        wait(page, "d.done === 'true'")
        no_barrier(page)


def test_twenty_recoveries_leave_the_heap_where_it_was(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        session = page.context.new_cdp_session(page)

        def recover() -> None:
            before = stage(page, "run")
            page.click("#recover")
            wait(page, f"d.run !== '{before}' && d.done === 'true'")

        def heap() -> int:
            for _ in range(2):
                session.send("HeapProfiler.collectGarbage")
            return session.send("Runtime.getHeapUsage")["usedSize"]

        for _ in range(2):
            recover()
        first = heap()
        for i in range(20):
            recover()
            if i > 8:
                page.wait_for_timeout(1000)  # what one client may ask for: twelve at once, one a second then
        assert heap() - first < 1_500_000  # a run kept by mistake would be 20 times 0.2 MB and more


def test_eight_visitors_recover_at_once(browser: Browser, server: Server) -> None:
    with ExitStack() as stack:
        pages = [stack.enter_context(opened(browser, server)) for _ in range(8)]
        for page in pages:
            page.click("#recover")
        for page in pages:
            wait(page, "d.done === 'true'")
            expect(page.locator("#status")).to_contain_text("Done in")
