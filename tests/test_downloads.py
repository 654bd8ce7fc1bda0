"""What a visitor takes along: files that hold the run, a player that needs nothing, code that runs, a picture."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_pipeline import FakePipeline
from playwright.sync_api import Browser, Page, expect
from server import Server
from test_browser import NARROW, WIDE, advanced, box, no_barrier, opened
from test_pages import JUNK

from imder.export import HALF_BEYOND, Recording, curves_csv, joined, picked, trajectory_npz, whole
from imder.pipeline import MAX_SAVED, RecoveryPipeline, RecoveryRequest
from imder.ui.downloads import DownloadsPage
from imder.ui.jobs import Jobs
from imder.ui.shelf import Shelf


def loaded(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def pipeline() -> RecoveryPipeline:
    return RecoveryPipeline.from_pretrained(None)


# --- the files --------------------------------------------------------------------------------------------------------


def test_the_npz_holds_every_step_and_the_very_numbers_of_the_run(pipeline: RecoveryPipeline) -> None:
    clip = pipeline.data.split("test")[2]
    request = RecoveryRequest(clip, ("text",), steps=70, draws=3, seed=9)
    recording = Recording.of(list(pipeline.stream(whole(request), interval=0.05)))
    found = loaded(trajectory_npz(recording))
    count = len(found["step"])
    assert count == recording.start.steps + 1 > 70
    np.testing.assert_array_equal(found["step"], np.arange(count))
    own = pipeline(request)
    for k in ("audio", "vision"):
        np.testing.assert_array_equal(found[f"draws_{k}"], own.latents[k])
        assert found[f"state_{k}"].shape == (count, *own.latents[k].shape[1:])
        np.testing.assert_allclose(found[f"denoised_{k}"][-1], own.latents[k][0], atol=1e-5)
        error = ((found[f"denoised_{k}"] - found[f"truth_{k}"]) ** 2).mean(axis=(1, 2))
        np.testing.assert_allclose(found[f"error_{k}"], error, rtol=1e-4)
    np.testing.assert_array_equal(found["draws"], own.draws)
    assert found["prediction_recovered"] == own.predictions["recovered"]
    assert (str(found["clip"]), list(found["missing"]), int(found["seed"])) == (clip.id, ["audio", "vision"], 9)
    assert trajectory_npz(recording) == trajectory_npz(recording)

    rows = list(csv.DictReader(io.StringIO(curves_csv(recording))))
    assert len(rows) == count
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], found["prediction"], rtol=1e-6)
    np.testing.assert_allclose([float(row["error_face"]) for row in rows], found["error_vision"], rtol=1e-6)
    np.testing.assert_allclose([float(row["noise_level"]) for row in rows], found["std"], rtol=1e-6)
    shown = recording.shown()
    assert len(shown.step) == 60
    assert (shown.step[0], shown.step[-1]) == (0, count - 1)


def test_chunks_are_joined_and_picked_in_their_order() -> None:
    fake = FakePipeline()
    items = list(fake.stream(RecoveryRequest(fake.data.split("test")[0], ("text",), "dpmpp-2m", 20)))
    steps = joined(items[1:-1])
    assert len(items) > 4
    np.testing.assert_array_equal(steps.step, np.concatenate([chunk.step for chunk in items[1:-1]]))
    assert len(steps.state["audio"]) == len(steps.step) == len(steps.readable["vision"])
    np.testing.assert_array_equal(picked(steps, np.array([0, 5])).denoised["audio"], steps.denoised["audio"][[0, 5]])


def test_the_longest_run_that_is_allowed_stays_small_enough_for_the_sweep() -> None:
    latents, draws = 2 * 32 * 48, 12
    assert MAX_SAVED * latents * 3 * 4 > HALF_BEYOND
    assert MAX_SAVED * latents * 3 * 2 + draws * latents * 8 < 40e6


def test_a_run_without_truth_leaves_its_errors_empty() -> None:
    fake = FakePipeline()
    clip = fake.data.split("test")[0]
    object.__setattr__(clip, "absent", ("vision",))
    recording = Recording.of(list(fake.stream(RecoveryRequest(clip, ("text", "audio"), "dpmpp-2m", 4))))
    assert "truth_vision" not in loaded(trajectory_npz(recording))
    nan = np.full(len(recording.steps.step), np.nan)
    object.__setattr__(recording.steps, "error", {"vision": nan})
    assert {row["error_face"] for row in csv.DictReader(io.StringIO(curves_csv(recording)))} == {""}


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_nothing_that_is_not_allowed_makes_a_file(junk: object) -> None:
    page = DownloadsPage(Shelf({"fake": "fake"}, {"bundled": "bundled"}, FakePipeline), Jobs())
    good = ["fake", "bundled", "clip_0$_$0", ["vision"], "dpmpp-2m", 4, 0, 1, 1.0]
    for i in range(len(good)):
        *_, (files, status) = page.make(*good[:i], junk, *good[i + 1 :])
        made = 'class="good"' in status
        assert made == (files.get("visible") is True)
        assert not made or junk in (None, 0, 1.5, True)
        assert "<img" not in status


# --- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def unfold(page: Page) -> None:
    page.get_by_role("button", name="Take it with you").click()
    expect(page.locator("#downloads-curl code")).to_be_visible()


def saved(page: Page, ending: str) -> bytes:
    """The file that a click on its link saves."""
    with page.expect_download() as download:
        page.locator(f"#downloads-files a[download$='.{ending}']").click()
    return Path(download.value.path()).read_bytes()


def test_files_are_saved_and_the_player_plays_alone(browser: Browser, server: Server, tmp_path: Path) -> None:
    with opened(
        browser, server, "?sample=clip_2%24_%240&drop=audio,vision&steps=20&seed=7", accept_downloads=True
    ) as page:
        unfold(page)
        page.click("#downloads-make")
        expect(page.locator("#downloads-status .good")).to_contain_text(
            "3 files of the run on clip_2$_$0, Voice and Face"
        )
        found = loaded(saved(page, "npz"))
        assert found["state_vision"].shape == (21, 32, 48)
        assert (int(found["seed"]), list(found["missing"])) == (7, ["audio", "vision"])
        rows = list(csv.DictReader(io.StringIO(saved(page, "csv").decode())))
        assert [int(row["step"]) for row in rows] == list(range(21))
        player = saved(page, "html")
    path = tmp_path / "player.html"
    path.write_bytes(player)
    assert b"http://" not in re.sub(rb"http://www\.w3\.org/\S+", b"", player)
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport=NARROW if scheme == "dark" else WIDE, offline=True)
        alone, complaints = context.new_page(), []
        alone.on("pageerror", lambda error, to=complaints: to.append(str(error)))
        alone.on("console", lambda m, to=complaints: to.append(m.text) if m.type in ("error", "warning") else None)
        alone.on(
            "request", lambda r, to=complaints: to.append(r.url) if not r.url.startswith(("file:", "data:")) else None
        )
        alone.goto(path.as_uri())
        stage = alone.locator("#stage[data-done=true]")
        expect(stage).to_have_attribute("data-step", "20")
        background = "getComputedStyle(document.body).backgroundColor"
        before = alone.evaluate(background)
        alone.keyboard.press("Tab")
        alone.locator("#stage [data-ref=stepSlider]").press("Home")
        expect(stage).to_have_attribute("data-step", "0")
        alone.locator("#stage [data-ref=play]").click()
        expect(stage).to_have_attribute("data-step", re.compile(r"^([4-9]|1\d)$"))
        assert alone.evaluate("document.documentElement.scrollWidth <= innerWidth")
        alone.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
        expect(alone.locator("html")).to_have_class(re.compile("^$" if scheme == "dark" else "dark"))
        assert alone.evaluate(background) != before
        context.close()
        assert complaints == []


def test_the_code_that_is_shown_runs_and_gives_the_run_of_the_page(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    with opened(
        browser, server, "?sample=clip_2%24_%240&drop=audio", permissions=["clipboard-read", "clipboard-write"]
    ) as page:
        unfold(page)
        advanced(page, steps=6, seed=11, draws=3)
        box(page, "Face").check()
        expect(page.locator("#downloads-python code")).to_contain_text('drop=["audio", "vision"]'.replace(" ", ""))
        expect(page.locator("#downloads-python code")).to_contain_text("seed=11")
        shown = {}
        for name in ("python", "curl"):
            page.click(f"#downloads-copy-{name}")
            expect(page.locator("#downloads-status")).to_contain_text("Copied")
            shown[name] = page.evaluate("navigator.clipboard.readText()")
        page.click("#recover")
        page.wait_for_function("document.getElementById('stage').dataset.done === 'true'")
        status = page.inner_text("#status")
    script = tmp_path / "asked.py"
    script.write_text(shown["python"])
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    recovered = float(re.search(r"'recovered': ([-\d.e]+)", run.stdout)[1])
    told = subprocess.run(["bash", "-c", shown["curl"]], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "event: complete" in told
    assert float(re.search(r'"recovered": ?([-\d.e]+)', told)[1]) == recovered
    assert '"dropped":["audio","vision"]' in told.replace(" ", "")
    assert f"recovered {recovered:+.2f}" in status


def test_the_picture_is_of_the_stage(browser: Browser, server: Server) -> None:
    with opened(browser, server, accept_downloads=True) as page:
        page.click("#recover")
        page.wait_for_function("document.getElementById('stage').dataset.done === 'true'")
        unfold(page)
        with page.expect_download() as download:
            page.click("#downloads-picture")
        expect(page.locator("#downloads-status")).to_contain_text("picture was made")
        content = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename == "imder-picture.png"
        size = page.evaluate("(b => [b.width, b.height])(document.getElementById('stage').getBoundingClientRect())")
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    wide, high = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert (wide, high) == pytest.approx((2 * size[0], 2 * size[1]), abs=4)
    assert len(content) > 60_000  # maps, faces and words are in it


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int]
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        unfold(page)
        page.click("#downloads-make")
        expect(page.locator("#downloads-status .good")).to_be_visible()
        expect(page.locator("#downloads-files a")).to_have_count(3)
        no_barrier(page)
