"""The page of the score field: what its handlers make of any value, and the page in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from fake_pipeline import SLOW_SEED, FakePipeline, fake_field
from playwright.sync_api import Browser, Page, expect
from server import FAKE, Server
from test_browser import NARROW, WIDE, advanced, box, no_barrier, opened
from test_pages import JUNK, refused

import imder.ui.field
from imder.ui.field import FieldPage
from imder.ui.jobs import Jobs
from imder.ui.shelf import Shelf

GOOD = ("fake", "bundled", "clip_1$_$0", ["vision"], 3, 1.0, "vision", "given")


@pytest.fixture
def page(monkeypatch) -> FieldPage:
    monkeypatch.setattr(imder.ui.field, "stream_field", fake_field)
    return FieldPage(Jobs(), Shelf({"fake": "fake"}, {"bundled": "bundled"}, FakePipeline))


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_a_field_comes_in_messages_that_hold_what_came_before(page: FieldPage) -> None:
    shown = list(page.draw(*GOOD))
    messages = [message for message, _, _ in shown]
    assert messages[0]["arrows"] == {}
    assert len({message["id"] for message in messages}) == 1
    last, followed, status = shown[-1]
    assert last["done"]
    assert [int(k) for k in last["arrows"]] == last["fields"]
    assert last["count"] == 20
    assert followed == json.dumps(GOOD)
    assert "Face, given what stays: 1930 network evaluations" in status
    assert len(json.dumps(last)) < 250_000
    [again] = page.follow(followed, *GOOD)
    assert all(isinstance(item, dict) and set(item) == {"__type__"} for item in again)
    assert list(page.follow(followed, *GOOD[:4], 4, *GOOD[5:]))[-1][0]["done"]
    assert next(iter(page.draw(*GOOD)))[0]["id"] != last["id"]


def test_open_names_clip_and_model_and_keeps_a_modality_that_is_dropped(page: FieldPage) -> None:
    line, target, _ = page.open("fake", "bundled", "clip_2$_$0", ["audio", "vision"], "vision")
    assert "it is &lt;b&gt;fine&lt;/b&gt;" in line
    assert "Dropped: Voice and Face" in line
    assert [value for _, value in target["choices"]] == ["audio", "vision"]
    assert target["value"] == "vision"
    assert page.open("fake", "bundled", "clip_2$_$0", ["text"], "vision")[1]["value"] == "text"


def test_the_toy_comes_whole(page: FieldPage) -> None:
    message, facts, status = page.toy("gaussian", "heun", 12)
    assert message["done"]
    assert len(message["arrows"]) == 12
    assert "exact ODE" in facts
    assert "One Gaussian, 12 times" in status
    assert page.toy("gaussian", "heun", 12)[0] == message
    assert len(json.dumps(page.toy("mixture", "dpmpp", 200)[0])) < 400_000


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_nothing_that_is_not_allowed_is_drawn(page: FieldPage, junk: object) -> None:
    assert "toy:" in refused(page.toy(junk, "dpmpp", 20)[-1])
    assert "solvers:" in refused(page.toy("mixture", junk, 20)[-1])
    assert "steps:" in refused(page.toy("mixture", "dpmpp", junk)[-1])
    names = ("model:", "data set:", "sample:", "drop:", "seed:", "guidance:", "modality:", "field:")
    defaults = {"model:": None, "data set:": None, "sample:": None, "drop:": None, "seed:": 0, "guidance:": 0}
    for i, name in enumerate(names):
        if name in defaults and (
            junk is None or (junk == 0 and type(junk) is int) or (name == "guidance:" and junk == 1.5)
        ):
            continue  # allowed there
        *_, (flow, _, status) = page.draw(*GOOD[:i], junk, *GOOD[i + 1 :])
        assert name in refused(status)
        assert set(flow) == {"__type__"}
        *_, (_, _, status) = page.follow(junk, *GOOD[:i], junk, *GOOD[i + 1 :])
        assert name in refused(status)
    for i, name in enumerate(names[:4]):
        if junk is not None:
            assert name in refused(page.open(*GOOD[:i], junk, *GOOD[i + 1 : 4], "vision")[-1])


def test_a_modality_that_is_there_has_no_field_and_a_broken_run_no_trace(page: FieldPage) -> None:
    *_, (_, _, status) = page.draw(*GOOD[:6], "text", "given")
    assert "modality: 'text' is unknown; allowed: vision" in status.replace("&#x27;", "'")
    for seed in (666, 668, 669):
        *_, (flow, _, status) = page.draw(*GOOD[:4], seed, *GOOD[5:])
        assert "could not be drawn (code" in status
        assert "secret" not in status
        assert set(flow) == {"__type__"}


# --- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


INK = """(id) => { const c = document.querySelector('#' + id + ' canvas');
const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
let h = 0; for (let i = 0; i < d.length; i++) h = (h * 31 + d[i]) | 0; return c.width + ' ' + h; }"""
FLOWS = ("flow-learned", "flow-toy")


def ink(page: Page, flow: str) -> str:
    """A fingerprint of a flow's canvas after what was asked for has been painted."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.evaluate(INK, flow)


def wait(page: Page, flow: str, condition: str) -> None:
    """Waits for a condition on a flow's data attributes, `d`."""
    page.wait_for_function(
        f"() => {{ const d = document.querySelector('#{flow} .flow')?.dataset; return d && {condition}; }}"
    )


def go_to(page: Page) -> None:
    """Selects the page and waits until both fields are there."""
    tab = page.get_by_role("tab", name="Score field")
    if tab.is_visible():
        tab.click()
    else:  # on a phone it may be in the menu of tabs
        page.locator("#pages .overflow-menu > button").click()
        page.locator("#pages .overflow-dropdown button", has_text="Score field").click()
    for flow in FLOWS:
        wait(page, flow, "d.done === 'true'")


def test_slider_and_choices_change_the_picture(browser: Browser, server: Server) -> None:
    with opened(browser, server, reduced_motion="reduce") as page:
        go_to(page)
        expect(page.locator("#field-source")).to_contain_text("Dropped: Face")
        for flow in FLOWS:
            part, seen = page.locator(f"#{flow}"), set()
            wait(page, flow, "Number(d.arrows) >= 10 && Number(d.state) > 0")
            state = int(page.get_attribute(f"#{flow} .flow", "data-state"))
            seen.add(ink(page, flow))
            part.get_by_label("Time t, from noise to data").press("ArrowRight")
            wait(page, flow, f"d.state === '{state + 1}'")
            expect(part.locator("output")).to_contain_text("σ(t)")
            seen.add(ink(page, flow))
            for name in ("ODE", "SDE", "Arrows", "Zoom follows the noise"):
                part.get_by_role("button", name=name).click()
                seen.add(ink(page, flow))
            assert len(seen) == 6
            assert part.get_by_role("button", name="SDE").get_attribute("aria-pressed") == "true"
            assert part.get_by_role("slider").get_attribute("aria-valuetext").startswith("t = ")
            part.get_by_role("slider").press("End")
            wait(page, flow, "d.state === d.last")
            expect(part.locator("output")).to_contain_text("t = 0.000 · σ(t) = 0.000")


def test_play_moves_to_the_end_and_keys_work(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page)
        part = page.locator("#flow-toy")
        part.get_by_role("button", name="Play").click()
        wait(page, "flow-toy", "d.playing === 'true' && Number(d.state) > 10")
        part.get_by_role("button", name="Pause").click()
        wait(page, "flow-toy", "d.playing === 'false'")
        canvas = part.locator("canvas")
        canvas.press("Home")
        wait(page, "flow-toy", "d.state === '0'")
        canvas.press("End")
        wait(page, "flow-toy", "d.state === d.last")
        canvas.press("Space")
        wait(page, "flow-toy", "d.playing === 'true'")
        wait(page, "flow-toy", "d.state === d.last && d.playing === 'false'")
        cost = page.evaluate(
            "(({frames, milliseconds}) => milliseconds / frames)(document.querySelector('#flow-toy .flow').flow.cost)"
        )
        assert cost < 30  # a frame on a busy machine; some 2 on a quiet one


def test_pointer_and_arrow_keys_read_values(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page)
        part = page.locator("#flow-learned")
        expect(part.locator(".readout")).to_contain_text("Point at the picture")
        canvas = part.locator("canvas")
        canvas.hover(position={"x": 200, "y": 200})
        expect(part.locator(".readout")).to_contain_text("score (")
        page.mouse.move(2, 2)
        expect(part.locator(".readout")).to_contain_text("Point at the picture")
        part.get_by_role("slider").press("ArrowRight")
        wait(page, "flow-learned", "d.state === '8'")  # a state with a field of its own
        canvas.press("ArrowRight")
        expect(part.locator(".readout")).to_contain_text("score (")
        found = re.findall(r"\((\S+), (\S+?)\)", part.locator(".readout").inner_text().replace("−", "-"))
        point, step = (tuple(map(float, pair)) for pair in found[:2])
        assert point[0] > 0 == point[1]
        assert point[0] + step[0] == pytest.approx(6, abs=0.2)  # to where the fake's field points
        assert point[1] + step[1] == pytest.approx(5, abs=0.2)


def test_field_follows_the_first_page_and_its_own_choices(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page)
        first = page.get_attribute("#flow-learned .flow", "data-id")
        page.get_by_role("tab", name="Recover").click()
        page.get_by_role("tab", name="Score field").click()
        expect(page.locator("#field-stop")).to_be_disabled()
        assert page.get_attribute("#flow-learned .flow", "data-id") == first
        page.get_by_role("tab", name="Recover").click()
        box(page, "Voice").check()
        expect(page.locator("#status")).to_contain_text("Voice and Face dropped")
        page.get_by_role("tab", name="Score field").click()
        wait(page, "flow-learned", f"d.done === 'true' && d.id !== '{first}'")
        expect(page.locator("#field-source")).to_contain_text("Dropped: Voice and Face")
        before = ink(page, "flow-learned")
        second = page.get_attribute("#flow-learned .flow", "data-id")
        page.get_by_role("radio", name="Unconditional").check()
        page.get_by_role("radio", name="Voice", exact=True).check()
        page.click("#field-draw")
        wait(page, "flow-learned", f"d.done === 'true' && d.id !== '{second}'")
        expect(page.locator("#field-status")).to_contain_text("Voice, unconditional")
        assert ink(page, "flow-learned") != before
        toy = page.get_attribute("#flow-toy .flow", "data-id")
        page.get_by_role("radio", name="One Gaussian").check()
        wait(page, "flow-toy", f"d.id !== '{toy}'")
        expect(page.locator("#toy-facts")).to_contain_text("exact ODE")
        page.fill("#toy-steps input[type=number]", "5")
        page.press("#toy-steps input[type=number]", "Enter")
        wait(page, "flow-toy", "d.last === '5'")


def test_stop_ends_it_and_keeps_what_came(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        advanced(page, seed=SLOW_SEED)
        page.get_by_role("tab", name="Score field").click()
        wait(page, "flow-learned", "Number(d.arrows) > 1")
        page.click("#field-stop", timeout=1000)
        expect(page.locator("#field-status")).to_contain_text("Stopped", timeout=2000)
        expect(page.locator("#field-stop")).to_be_disabled()
        assert page.get_attribute("#flow-learned .flow", "data-done") == "false"
        page.locator("#flow-learned").get_by_role("slider").press("Home")
        wait(page, "flow-learned", "d.state === '0'")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int]
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        go_to(page)
        no_barrier(page)


def test_dark_redraws_the_canvas(browser: Browser, server: Server) -> None:
    with opened(browser, server, reduced_motion="reduce") as page:
        go_to(page)
        light = [ink(page, flow) for flow in FLOWS]
        page.evaluate("document.body.classList.toggle('dark')")
        page.wait_for_timeout(100)
        assert all(a != b for a, b in zip(light, [ink(page, flow) for flow in FLOWS], strict=True))


def test_the_bundled_models_field(browser: Browser) -> None:
    with Server(FAKE.parents[1] / "app.py") as real, opened(browser, real) as page:
        page.set_default_timeout(60_000)
        go_to(page)
        expect(page.locator("#field-status .good")).to_contain_text("1930 network evaluations")
