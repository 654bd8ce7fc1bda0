"""The page Compare: what its handlers make of any value, its API, and the page in a real browser."""

from __future__ import annotations

import math
from collections.abc import Iterator

import plotly.graph_objects as go
import pytest
from fake_pipeline import MOODS, SLOW_SEED, FakePipeline
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect
from server import Server
from test_browser import NARROW, WIDE, advanced, no_barrier, opened
from test_pages import JUNK, refused

from imder import compare
from imder.ui.compare import SUBJECTS, ComparePage, row, table
from imder.ui.jobs import Jobs
from imder.ui.shelf import Shelf
from imder.ui.validate import MAX_WORK

CHOICE = ("clip_1$_$0", ["vision"], "dpmpp-2m", 4, 3, 4, 1.0)
OUTPUTS = 8


@pytest.fixture(scope="module")
def page() -> ComparePage:
    models = {"fake": "fake", "official": "fake", "corrected": "fake"}
    return ComparePage(Jobs(), Shelf(models, {"bundled": "bundled"}, FakePipeline))


def played(page: ComparePage, what: object = "patterns", choice: tuple = CHOICE) -> list[tuple]:
    """All that a comparison shows."""
    shown = list(page.play("fake", "bundled", *choice, what))
    assert all(len(one) == OUTPUTS for one in shown)
    return shown


# --- handlers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "cards", "figures"),
    [("patterns", 7, 1), ("guidance", 6, 2), ("samplers", 12, 2), ("presets", 2, 1), ("methods", 6, 1), ("fan", 1, 2)],
)
def test_each_comparison_fills_the_page_as_it_goes(page: ComparePage, what: str, cards: int, figures: int) -> None:
    shown = played(page, what)
    text, players = shown[0][:2]
    assert SUBJECTS[what].title in text
    assert "Synthetic clip" in text
    assert "first page" in text
    assert [card["title"] for card in players["cards"]] == ["The clip itself"]
    told, *drawn, numbers, followed, status = shown[-1][2:]
    assert "<h2>" in told
    assert sum(one["visible"] for one in drawn) == figures
    assert all(isinstance(one["value"], go.Figure) for one in drawn if one["visible"])
    assert numbers.count('<th scope="row">') == cards
    assert "clip_1" in followed
    assert "Done in" in status
    if what != "samplers":
        counts = [len(one[1]["cards"]) for one in shown if isinstance(one[1], dict) and "cards" in one[1]]
        assert counts == list(range(1, cards + 2))


def test_cards_hold_what_is_imagined_and_what_was_there(page: ComparePage) -> None:
    cards = next(one[1] for one in reversed(played(page)) if "cards" in (one[1] or {}))["cards"]
    by_title = {card["title"]: card for card in cards}
    assert by_title["Voice and Face dropped"]["recovered"] == ["Voice", "Face"]
    assert by_title["Nothing dropped"]["interval"] is None
    low, high = by_title["Face dropped"]["interval"]
    assert low < by_title["Face dropped"]["prediction"] < high
    assert set(by_title["Face dropped"]["shown"]) == {"face", "voice"}
    assert any("Nearest words: the acting" in line for line in by_title["Language dropped"]["told"])


def test_models_that_do_not_fit_are_told_and_not_drawn(page: ComparePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.shelf.get().data, "feature_dims", {"text": 24, "audio": 33, "vision": 22})
    cards = next(one[1] for one in reversed(played(page, "methods")) if "cards" in (one[1] or {}))["cards"]
    mmin = next(card for card in cards if card["title"] == "MMIN")
    assert mmin["prediction"] is None
    assert "face" not in mmin["shown"]
    assert any("other widths" in line for line in mmin["told"])


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_no_junk_gets_through(page: ComparePage, junk: object) -> None:
    assert "what to compare:" in refused(played(page, junk)[-1][-1])
    sample, drop, *rest = CHOICE
    assert "sample:" in refused(played(page, choice=(junk if junk is not None else 0, drop, *rest))[-1][-1])
    assert "drop:" in refused(played(page, choice=(sample, junk if junk is not None else 0, *rest))[-1][-1])
    for at, name in ((4, "seed"), (5, "draws"), (6, "guidance")):
        good = {"seed": (0,), "draws": (), "guidance": (0, 1.5)}[name]
        if any(junk is one for one in good) or (type(junk) in (int, float) and junk in good):
            continue
        choice = (*CHOICE[:at], junk, *CHOICE[at + 1 :])
        assert f"{name}:" in refused(played(page, choice=choice)[-1][-1])
    assert refused([*page.open(junk if junk is not None else 0, "bundled", *CHOICE, "patterns", "")][-1][-1])
    assert refused([*page.play("fake", "bundled", "patterns")][-1][-1])


def test_a_failure_keeps_what_was_finished_and_tells_no_secret(page: ComparePage) -> None:
    for seed in MOODS:
        *_, last = played(page, choice=(*CHOICE[:4], seed, *CHOICE[5:]))
        assert "failed (code" in last[-1]
        assert "secret" not in str(last)
        assert last[5].count('<th scope="row">') == 1  # the complete clip needed no recovery
        assert len(last[1]["cards"]) == 2
    *_, last = played(page, "fan", choice=(*CHOICE[:5], 1, 1.0))
    assert "draws: 1 is no fan" in refused(last[-1])


def test_no_comparison_exceeds_the_work_of_a_page(page: ComparePage) -> None:
    pipeline = page.shelf.get()
    for what in SUBJECTS:
        choice = {"sample": CHOICE[0], "drop": ["text", "audio"], "draws": 64, "steps": 40}
        request, fewer = page.request(pipeline, what, choice)
        assert request.draws * compare.cost(pipeline, request, what) <= MAX_WORK
        assert bool(fewer) == (request.draws < 64)
    *_, last = played(page, choice=("clip_1$_$0", ["vision"], "heun", 1000, 0, 1, 1.0))
    assert "steps: 1000 is too much" in refused(last[-1])


def test_opening_again_shows_nothing_new_and_another_clip_does(page: ComparePage) -> None:
    *_, last = page.open("fake", "bundled", *CHOICE, "patterns", "")
    followed = last[-2]
    assert list(page.open("fake", "bundled", *CHOICE, "patterns", followed)) == []
    other = ("clip_2$_$0", *CHOICE[1:])
    assert "Done in" in list(page.open("fake", "bundled", *other, "patterns", followed))[-1][-1]
    [told] = page.open("fake", "bundled", *other, "samplers", followed)
    assert "press Compare" in told[-1]


def test_names_from_outside_are_escaped(page: ComparePage) -> None:
    one = compare.Outcome("<img src=x>", ("text",), math.nan, 1.0)
    assert "<img" not in table([one], "patterns")
    assert row(one)["prediction"] is None
    text = played(page, choice=("clip_2$_$0", *CHOICE[1:]))[0][0]
    assert "&lt;b&gt;fine&lt;/b&gt; &amp; nothing" in text


# --- the browser and the API ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def test_the_api_gives_rows(server: Server) -> None:
    client = Client(server.url, verbose=False)
    found = client.predict(api_name="/compare")
    assert (found["what"], found["sample"], found["draws"]) == ("patterns", "clip_0$_$0", 8)
    assert len(found["rows"]) == 7
    face = next(one for one in found["rows"] if one["name"] == "Face dropped")
    assert face["interval"][0] <= face["prediction"] <= face["interval"][1]
    assert face["error"] == pytest.approx(face["prediction"] - found["label"])
    assert (face["nfe"], face["available"], len(face["draws"])) == (10, ["text", "audio"], 8)
    again = client.predict(sample="clip_3$_$0", drop=["Voice"], what="guidance", seed=2, draws=3, api_name="/compare")
    assert [one["guidance"] for one in again["rows"]] == list(compare.WEIGHTS)
    assert again["dropped"] == ["audio"]
    trials = client.predict(what="samplers", draws=64, api_name="/compare")
    assert trials["draws"] == 4
    assert {"draw_error", "gap", "mean_gap", "spread"} <= set(trials["rows"][1])
    with pytest.raises(AppError, match="what: 'everything' is unknown; allowed: patterns"):
        client.predict(what="everything", api_name="/compare")


def go_to(page: Page) -> None:
    """Selects the page and waits for the first comparison."""
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-status .good")).to_contain_text("7 outcomes")
    page.wait_for_selector("#players[data-cards='8']")


def begin(page: Page, title: str) -> None:
    """Chooses a comparison and waits until it is done."""
    page.get_by_role("radio", name=title, exact=True).check()
    page.click("#compare-begin")
    expect(page.locator("#compare-text h2")).to_have_text(title)
    expect(page.locator("#compare-status .good")).to_be_visible()


INK = """(n => { const c = document.querySelectorAll('#players canvas.face')[n];
const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
let h = 0; for (let i = 0; i < d.length; i++) h = (h * 31 + d[i]) | 0; return h; })"""


def test_the_first_comparison_is_there_and_time_moves_every_face(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page)
        expect(page.locator("#players h3").first).to_have_text("The clip itself")
        expect(page.locator("#compare-figure-0 .main-svg").first).to_be_visible()
        expect(page.locator("#compare-figure-1")).to_be_hidden()
        assert page.locator("#players canvas").count() == 16
        slider = page.get_by_role("slider", name="Time in the clip")
        slider.focus()
        slider.press("Home")
        page.wait_for_selector("#players[data-time='0']")
        page.wait_for_timeout(100)  # a frame is drawn
        before = [page.evaluate(f"{INK}({n})") for n in range(8)]
        slider.press("End")
        page.wait_for_selector("#players[data-time='1000']")
        for n in range(8):
            page.wait_for_function(f"{INK}({n}) !== {before[n]}")
        assert slider.get_attribute("aria-valuetext") == "2.5 of 2.5 s"
        page.get_by_role("button", name="Play", exact=True).last.click()
        page.wait_for_selector("#players[data-playing='true']")
        page.wait_for_selector("#players[data-playing='false'][data-time='1000']")


def test_each_choice_changes_the_result(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page)
        before = {page.locator("#compare-table").inner_text()}
        for title, cards in (("Guidance", 7), ("IMDer and its rivals", 7), ("Draws as a fan", 2), ("Samplers", 1)):
            begin(page, title)
            page.wait_for_selector(f"#players[data-cards='{cards}']")
            text = page.locator("#compare-table").inner_text()
            assert text not in before
            before.add(text)
        expect(page.locator("#compare-figure-1 .main-svg").first).to_be_visible()
        page.get_by_role("radio", name=SUBJECTS["presets"].title, exact=True).check()
        page.click("#compare-begin")  # the fake has none of these runs
        expect(page.locator("#compare-status .trouble")).to_contain_text("not among the models")


def test_stop_within_a_second_and_what_was_finished_stays(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page)
        page.get_by_role("tab", name="Recover").click()
        advanced(page, seed=SLOW_SEED)
        page.get_by_role("tab", name="Compare").click()
        page.wait_for_selector("#players[data-cards='3']")
        page.locator("#compare-stop").click(timeout=5000)
        expect(page.locator("#compare-status")).to_contain_text("Stopped", timeout=1000)
        expect(page.locator("#compare-stop")).to_be_disabled()
        assert int(page.get_attribute("#players", "data-cards")) < 8
        page.get_by_role("tab", name="Recover").click()
        advanced(page, seed=4)
        page.get_by_role("tab", name="Compare").click()
        page.wait_for_selector("#players[data-cards='8']")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int]
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        go_to(page)
        begin(page, "Draws as a fan")
        no_barrier(page)
