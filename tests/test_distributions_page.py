"""The page Distributions and the live evaluation: what their handlers make of any value, and both in a browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from playwright.sync_api import Browser, Page, expect
from server import Server
from test_browser import NARROW, WIDE, no_barrier, opened
from test_pages import JUNK, refused

from imder.report.distributions import Distributions
from imder.ui.distributions import CLIP, CLIPS, STATES, DistributionsPage
from imder.ui.jobs import Jobs
from imder.ui.live import LivePage
from imder.ui.shelf import Shelf

TINY = Path(tiny_run.__file__)
VOICE = ("tiny", "tiny", "audio", "Language", "as drawn", "t-SNE", "real or recovered", "log_f0")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A tiny run with its distributions, and another without."""
    folder = tmp_path_factory.mktemp("home")
    run, data = tiny_run.make(folder)
    tiny_run.distributions(run, data, folder / "tiny.safetensors")
    tiny_run.make(folder / "other", steps=3)
    return folder


@pytest.fixture(scope="module")
def shelf(home: Path) -> Shelf:
    return Shelf({"tiny": str(home / "run"), "other": str(home / "other" / "run")}, {"tiny": str(home / "data")})


@pytest.fixture(scope="module")
def page(home: Path, shelf: Shelf) -> DistributionsPage:
    return DistributionsPage(Jobs(), shelf, Distributions(home / "tiny.safetensors"))


@pytest.fixture(scope="module")
def live(home: Path, shelf: Shelf) -> LivePage:
    return LivePage(Jobs(), shelf, home / "rows.jsonl")


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_the_page_opens_once_with_everything_drawn(page: DistributionsPage) -> None:
    followed, told, observed, channel, sentence, *rest = page.open("tiny", "tiny", "")
    assert "24 clips" in told
    assert "python -m imder distributions --run" in told
    assert observed["value"] == "Language and Voice"
    assert "AU12" in channel["choices"]
    assert len(sentence["choices"]) == 1
    conditional, free, tables, histogram, channels, text, performed, performances, status = rest
    for figure in (conditional, free, histogram, channels, performed):
        assert figure["visible"]
    assert [trace.name for trace in conditional["value"].data] == ["real", "recovered from Language and Voice"]
    assert conditional["value"].layout.xaxis.range == free["value"].layout.xaxis.range
    assert tables.count("<table>") == 2
    assert "two random halves" in text
    assert "its floor" in performances
    assert "Face recovered" in status
    assert all(len(item) == 1 for item in page.open("tiny", "tiny", followed))


def test_every_choice_changes_what_is_shown(page: DistributionsPage) -> None:
    shown = {str(page.show(*VOICE)[0]["value"].data)}
    for place, value in ((3, "Face"), (4, "after D_k"), (5, "PCA"), (6, "sentiment")):
        choice = list(VOICE)
        choice[place] = value
        shown.add(str(page.show(*choice)[0]["value"].data))
    assert len(shown) == 5
    coloured = page.show(*VOICE[:6], "sentiment", "log_f0")[0]["value"].data
    assert np.array(coloured[0].marker.color) == pytest.approx(page.distributions.stored.label)
    assert {trace.marker.symbol for trace in coloured} == {"circle", "triangle-up"}  # not by colour alone
    assert "raw scale" in page.channel(*VOICE[:5], "log_f0")[0]["value"].layout.xaxis.title.text
    assert "unit latents" in page.channel(*VOICE[:5], "latent 2")[0]["value"].layout.xaxis.title.text
    text = page.turn("tiny", "tiny", "text", "as drawn", "PCA", "sentiment")
    assert text[0]["value"] == "Voice and Face"
    assert text[-3]["visible"] is False
    assert "Other performances share the sentence" in text[-2]


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_nothing_that_is_not_there_gets_through(page: DistributionsPage, live: LivePage, junk: object) -> None:
    if junk is not None:
        assert "unknown" in refused(page.open(junk, "tiny", "")[-1])
        assert "unknown" in refused(page.show(junk, *VOICE[1:])[-1])
    names = ("model", "data set", "modality", "recovered from", "state", "projection", "colour", "channel")
    for i, name in enumerate(names[2:], 2):
        choice = [*VOICE[:i], junk, *VOICE[i + 1 :]]
        assert name in refused(page.show(*choice)[-1])
    assert "modality" in refused(page.turn("tiny", "tiny", junk, "as drawn", "PCA", "sentiment")[-1])
    assert "channel" in refused(page.channel(*VOICE[:5], junk)[-1])
    assert "sentence" in refused(page.sentence("tiny", "tiny", "audio", junk)[-1])
    sample = page.shelf.get().data.split("test")[0].id
    good = ["tiny", "tiny", sample, *VOICE[2:5], "sentiment", CLIPS, 8, 1]
    for i in (2, 3, 4, 5, 6, 7, 8, 9):
        if not (i == 9 and junk == 0 and junk is not False):
            *_, last = page.live(*good[:i], junk, *good[i + 1 :])
            assert refused(last[-1])
    choice = [["zero fill"], "fixed patterns", "0.5", 8, 0, "1"]
    for i in range(6):
        if not (i == 4 and type(junk) is int):
            *_, last = live.measure(*choice[:i], junk, *choice[i + 1 :])
            assert refused(last[-1])


def test_another_model_says_that_nothing_is_stored_and_what_to_do(page: DistributionsPage, tmp_path: Path) -> None:
    opened_page = page.open("other", "tiny", "")
    assert "python -m imder distributions --run RUN" in refused(opened_page[-1])
    assert opened_page[5]["visible"] is False
    bare = DistributionsPage(Jobs(), page.shelf, Distributions(tmp_path / "assets" / "x.safetensors"))
    assert "No distributions are stored yet" in refused(bare.open("tiny", "tiny", "")[-1])
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "x.safetensors").write_bytes(b"torn")
    assert str(tmp_path) not in refused(bare.show(*VOICE)[-1])


def test_live_draws_join_the_stored_picture(page: DistributionsPage) -> None:
    sample = page.shelf.get().data.redraw_ids[0]
    choice = ("tiny", "tiny", sample, "audio", "Language", "as drawn", "real or recovered")
    *_, (projection, figure, free, own, text, status) = page.live(*choice, CLIPS, 9, 0)
    assert projection == "PCA"
    assert "Done: 9 live draws" in status
    assert [trace.name for trace in figure["value"].data] == ["real", "recovered from Language", "live"]
    assert len(free["value"].data) == 2
    assert own["visible"] is False
    assert "Live draws against real clips" in text
    stars, stored = figure["value"].data[2], figure["value"].data[1]
    where = {tuple(np.round(point, 1)) for point in zip(stored.x, stored.y, strict=True)}
    near = [min(abs(x - a) + abs(y - b) for a, b in where) for x, y in zip(stars.x, stars.y, strict=True)]
    assert max(near) < 0.3  # seed 0: the stored draws of the same clips
    *_, (_, figure, _, own, text, _) = page.live(*choice, CLIP, 8, 3)
    assert len(figure["value"].data[2].x) == 8
    assert own["visible"]
    assert "performances" in text
    *_, last = page.live("other", "tiny", *choice[2:], CLIPS, 8, 1)
    assert [trace.name for trace in last[1]["value"].data] == ["real", "live"]


def test_a_live_evaluation_grows_and_says_what_repeats_it(live: LivePage, home: Path) -> None:
    choice = (["IMDer", "zero fill"], "fixed patterns", "0.5", 8, 0, "1")
    tables = [out[0] for out in live.measure(*choice) if isinstance(out[0], str)]
    assert [table.count('scope="row"') for table in tables] == list(range(1, 13))
    assert "noisy" in tables[-1]
    assert "–" in tables[-1]  # nothing is stored of this run
    _, commands, _ = next(live.measure(*choice))
    assert "--methods imder zero --protocol fixed --draws 1 --limit 8 --batch 4" in commands
    assert str(home) not in commands
    *_, (_, _, status) = live.measure(list(live.candidates)[:3], "random missing", "0.7", 64, 0, "8")
    assert "too much" in refused(status)


# --- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with Server(TINY, TINY_HOME=str(home)) as running:
        yield running


def go_to(page: Page, name: str = "Distributions") -> None:
    """Selects the page, wherever its tab is, and waits for what it shows."""
    tab = page.get_by_role("tab", name=name)
    if tab.is_visible():
        tab.click()
    else:  # on a phone it may be in the menu of tabs
        page.locator("#pages .overflow-menu > button").click()
        page.locator("#pages .overflow-dropdown button", has_text=name).click()
    if name == "Distributions":
        expect(page.locator("#distributions-status")).to_contain_text("recovered from")
        for figure in ("conditional", "unconditional", "histogram", "channels", "performed"):
            expect(page.locator(f"#dist-{figure} .main-svg").first).to_be_visible()
    else:
        expect(page.locator("#live-commands")).to_contain_text("--methods imder zero ridge")


def test_choices_and_a_live_run_in_the_browser(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page)
        assert page.locator("#dist-conditional .scatterlayer .points path").count() == 48
        page.get_by_role("radio", name="Voice", exact=True).first.check()
        expect(page.locator("#distributions-status")).to_contain_text("Voice recovered from Language and Face")
        page.get_by_role("radio", name="sentiment").check()
        expect(page.locator("#dist-conditional .colorbar")).to_be_visible()
        page.get_by_role("radio", name="after D_k").check()
        expect(page.locator("#dist-tables")).to_contain_text("to the real clips, after D_k")
        page.locator("#dist-live-run").click()
        expect(page.locator("#dist-live-status .good")).to_contain_text("24 live draws")
        expect(page.locator("#dist-conditional")).to_contain_text("live")
        expect(page.get_by_role("radio", name="PCA")).to_be_checked()
        expect(page.locator("#dist-live-stop")).to_be_disabled()


def test_a_live_evaluation_in_the_browser(browser: Browser, server: Server) -> None:
    with opened(browser, server, permissions=["clipboard-read", "clipboard-write"]) as page:
        go_to(page, "Benchmark")
        page.get_by_role("checkbox", name="ridge").uncheck()
        page.locator("#live-run").click()
        expect(page.locator("#live-status .good")).to_contain_text("12 cells of 12")
        expect(page.locator("#live-table tbody tr")).to_have_count(12)
        page.locator("#live-copy").click()
        expect(page.locator("#live-status")).to_contain_text("Copied")
        assert "--methods imder zero --protocol fixed" in page.evaluate("navigator.clipboard.readText()")


def test_stop_ends_a_live_evaluation_within_a_second(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page, "Benchmark")
        page.get_by_role("radio", name="8", exact=True).check()
        page.locator("#live-clips input[type=number]").fill("9")
        page.locator("#live-clips input[type=number]").press("Tab")
        page.locator("#live-run").click()
        expect(page.locator("#live-status")).to_contain_text("cells done")
        began = time.monotonic()
        page.locator("#live-stop").click()
        expect(page.locator("#live-status")).to_contain_text("Stopped")
        expect(page.locator("#live-stop")).to_be_disabled()
        assert time.monotonic() - began < 3  # a second, on a quiet machine
        assert page.locator("#live-run").is_enabled()


def test_the_page_of_another_model_is_not_empty(browser: Browser, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "other", tmp_path / "run_only")
    for name in ("run", "data"):
        shutil.copytree(home / "other" / name, tmp_path / name)
    with Server(TINY, TINY_HOME=str(tmp_path)) as bare, opened(browser, bare) as page:
        page.get_by_role("tab", name="Distributions").click()
        expect(page.locator("#distributions-status .trouble")).to_contain_text("No distributions are stored yet")
        page.locator("#dist-live-run").click()
        expect(page.locator("#dist-live-status .good")).to_contain_text("24 live draws")
        expect(page.locator("#dist-conditional .main-svg").first).to_be_visible()


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
@pytest.mark.parametrize("name", ["Distributions", "Benchmark"])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int], name: str
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        go_to(page, name)
        no_barrier(page)


def test_states_are_those_of_the_file() -> None:
    assert list(STATES.values()) == [False, True]
