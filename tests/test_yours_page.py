"""The page Your data: what its handlers make of any value, whose file is whose, and the page in a real browser."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from fake_pipeline import FakePipeline
from playwright.sync_api import Browser, Page, expect
from server import Server
from test_browser import NARROW, WIDE, advanced, no_barrier, opened
from test_pages import JUNK, refused
from test_upload import CLIPS, EXPECTED, arrays_of

from imder.data.checks import Upload
from imder.data.recording import MAX_SOUND
from imder.data.upload import npz_bytes, open_upload, template
from imder.ui.jobs import Jobs
from imder.ui.shelf import Shelf
from imder.ui.validate import BadInput
from imder.ui.yours import Uploads, YoursPage, received

FIRST = ("fake", "bundled")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def page(folder: Path) -> YoursPage:
    return YoursPage(Shelf({"fake": "fake", "other": "other"}, {"bundled": "bundled"}, FakePipeline), Jobs())


def uploaded(folder: Path, content: bytes, name: str = "mine.npz") -> dict:
    """As Gradio hands a file over."""
    path = folder / os.urandom(8).hex() / name
    path.parent.mkdir()
    path.write_bytes(content)
    return {"path": str(path), "orig_name": name, "size": len(content)}


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_the_page_opens_with_the_example_and_only_once(page: YoursPage, folder: Path) -> None:
    layout, followed, report, clip, drop, stage, word, status = page.greet(*FIRST, None, None)
    assert "data:application/octet-stream;base64," in layout
    assert "(clips, frames, 22)" in layout
    assert report.count("<tr") == 4
    assert (clip["value"], drop["value"]) == (CLIPS[1].id, ["vision"])
    assert (stage["clip"], stage["missing"], stage["synthetic"]) == (CLIPS[1].id, ["vision"], True)
    assert "example file" in status
    assert all("value" not in item for item in page.greet(*FIRST, followed, word))
    assert list(folder.iterdir()) == []


def test_a_file_is_explained_kept_for_its_visitor_alone_and_gone_from_the_disk(page: YoursPage, folder: Path) -> None:
    content = npz_bytes({k: x for k, x in arrays_of(3).items() if k != "audio"})
    field, report, clip, drop, stage, word, status = page.open(uploaded(folder, content), *FIRST, None)
    assert (field, len(clip["choices"]), drop["value"]) == (None, 3, ["audio"])
    assert "Voice is not in the file" in report
    assert stage["label"] is None
    assert "3 clips, ready" in status
    assert list(folder.iterdir()) == []
    assert page.show(*FIRST, "clip 2", ["audio", "vision"], word)[0]["missing"] == ["audio", "vision"]
    assert "Voice is not in the file" in refused(page.show(*FIRST, "clip 2", ["vision"], word)[-1])
    *_, (message, status) = page.play(*FIRST, "clip 2", ["audio"], "dpmpp-2m", 5, 3, 2, 1.0, word)
    assert message["kind"] == "done"
    assert message["predictions"]["complete"] is None
    assert "the file has no label" in status
    for other in (None, "x", 1, ["x"], word[:-1], word + "a"):
        assert "open it again" in refused(page.show(*FIRST, "clip 2", ["audio"], other)[-1])
    assert "Another model" in refused(page.show("other", "bundled", "clip 2", ["audio"], word)[-1])


def test_a_file_with_a_fault_is_explained_and_the_one_before_stays(page: YoursPage, folder: Path) -> None:
    *_, word, _ = page.open(uploaded(folder, template(CLIPS[0], True)), *FIRST, None)
    wide = npz_bytes(arrays_of(1) | {"vision": np.zeros((1, 50, 35))})
    _, report, clip, _, stage, kept, status = page.open(uploaded(folder, wide), *FIRST, word)
    assert "Face has 35 columns" in report
    assert "python -m imder train" in refused(status.replace("code", ""))
    assert all("value" not in item for item in (clip, stage, kept))
    bad = page.open(uploaded(folder, pickle.dumps([1]), "a<img src=x>.pkl"), *FIRST, word)
    assert bad[0] is None
    assert "python -m imder data convert" in bad[-1]
    assert "<img" not in bad[-1]
    assert page.show(*FIRST, CLIPS[0].id, ["text"], word)[0]["clip"] == CLIPS[0].id


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_nothing_that_is_not_there_gets_through(page: YoursPage, folder: Path, junk: object) -> None:
    *_, word, _ = page.open(uploaded(folder, template(CLIPS[0], True)), *FIRST, None)
    good = (CLIPS[0].id, ["vision"], "dpmpp-2m", 4, 0, 1, 1.0)
    assert "file:" in refused(page.open(junk, *FIRST, word)[-1])
    assert "clip:" in refused(page.show(*FIRST, junk, ["vision"], word)[-1])
    if junk is not None:  # which stands for the default
        assert "drop:" in refused(page.show(*FIRST, CLIPS[0].id, junk, word)[-1])
    for i in range(2, 6):
        values = [*good[:i], junk, *good[i + 1 :]]
        last = list(page.play(*FIRST, *values, word))[-1][1]
        assert 'class="trouble"' in last or junk in (None, 0, True, 1.5)
    if junk is not None:
        assert "model:" in refused(page.open(uploaded(folder, b"x"), junk, "bundled", word)[-1])
        assert "data set:" in refused(page.show("fake", junk, CLIPS[0].id, ["vision"], word)[-1])


def test_no_path_but_a_fresh_upload_is_read(page: YoursPage, folder: Path) -> None:
    inside = uploaded(folder, b"x")
    (folder / "link").mkdir()
    (folder / "link" / "a").symlink_to("/etc/passwd")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "a").write_bytes(b"x")
    (folder / "top").write_bytes(b"x")
    outside = ["/etc/passwd", "/proc/self/environ", str(folder), str(folder / ".." / "x"), "http://127.0.0.1/"]
    wrong = [str(folder / name) for name in ("link/a", "deep/er/a", "top")]
    for path in (*outside, *wrong, "", "a\0b", "x" * 5000):
        with pytest.raises(BadInput, match=r"^file: "):
            received({"path": path, "orig_name": "x.npz"})
    assert received(inside)[1] == "mine.npz"
    assert Path("/etc/passwd").exists()


def small(name: str, tmp_path: Path) -> Upload:
    path = tmp_path / name
    path.write_bytes(template(CLIPS[0], True))
    return open_upload(path, name, EXPECTED)


def test_what_is_kept_is_bounded_in_bytes_and_time_over_all_visitors(tmp_path: Path) -> None:
    upload = small("a", tmp_path)
    uploads = Uploads(most=5 * upload.size)
    words = [uploads.put(upload, "m") for _ in range(20)]
    assert uploads.size <= 5 * upload.size
    assert uploads.get(words[-1])[1] is upload
    with pytest.raises(BadInput, match="open it again"):
        uploads.get(words[0])
    again = uploads.put(upload, "m", before=words[-1])
    with pytest.raises(BadInput):
        uploads.get(words[-1])
    assert uploads.get(again)
    brief = Uploads(age=0.05)
    word = brief.put(upload, "m")
    time.sleep(0.06)
    with pytest.raises(BadInput):
        brief.get(word)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: uploads.put(upload, str(i)), range(200)))
    assert uploads.size <= 5 * upload.size
    assert threading.active_count() < 50


# --- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def test_no_file_of_the_server_is_read_through_the_page(server: Server) -> None:
    fn = server.function("open_file")
    for path in ("/etc/passwd", str(server.log), str(Path(__file__))):
        body = {
            "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, *FIRST, None],
            "fn_index": fn,
            "session_hash": "s",
        }
        answer = httpx.post(f"{server.url}/gradio_api/run/predict", json=body)
        assert "root:" not in answer.text
        assert "Traceback" not in answer.text
        assert "ready" not in answer.text
        assert httpx.get(f"{server.url}/gradio_api/file={path}").status_code == 404
    assert Path("/etc/passwd").exists()


# --- the browser ------------------------------------------------------------------------------------------------------


def to_page(page: Page, name: str = "Your data") -> None:
    """Selects the page, from the menu of those that a phone has no room for if need be."""
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.locator("#pages .overflow-menu > button").first.click()
        tab = page.locator("#pages .overflow-dropdown button", has_text=name)
    tab.click()
    expect(page.locator("#your-status")).to_contain_text("ready")


def choose_file(page: Page, content: bytes, name: str = "mine.npz") -> None:
    page.set_input_files("#your-file input[type=file]", {"name": name, "mimeType": "", "buffer": content})


def run(page: Page) -> str:
    """Recovers; the id of the run."""
    before = page.get_attribute("#your-stage", "data-run")
    page.click("#your-recover")
    page.wait_for_function(
        """before => {
            const shown = document.getElementById('your-stage').dataset;
            return shown.done === 'true' && shown.run !== before;
        }""",
        arg=before,
    )
    return page.get_attribute("#your-stage", "data-run")


def test_a_visitor_saves_the_example_opens_it_and_recovers_it(browser: Browser, server: Server) -> None:
    with opened(browser, server, accept_downloads=True) as page:
        advanced(page, steps=6, seed=5)
        to_page(page)
        with page.expect_download() as saved:
            page.click("#your-template")
        content = Path(saved.value.path()).read_bytes()
        assert content == template(CLIPS[1], True)
        choose_file(page, content, "again.npz")
        expect(page.locator("#your-status")).to_contain_text("again.npz: 1 clip, ready")
        assert "clip_1$_$0-vision-dpmpp-2m-6-5" in run(page)
        page.get_by_role("checkbox", name="Voice").locator("visible=true").check()
        expect(page.locator("#your-status")).to_contain_text("Voice and Face dropped")
        assert "audio-vision" in run(page)
        expect(page.locator("#your-status .good")).to_contain_text("90 % interval")
        assert page.get_attribute("#stage", "data-run") != page.get_attribute("#your-stage", "data-run")


def test_files_of_all_kinds_are_explained_and_the_last_good_one_stays(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        to_page(page)
        choose_file(page, npz_bytes({"text": arrays_of(2)["text"], "vision": np.zeros((2, 50, 9))}))
        expect(page.locator("#your-status .trouble")).to_contain_text("Face has 9 columns; this run needs 22")
        choose_file(page, pickle.dumps({"train": 1}), "aligned_50.pkl")
        expect(page.locator("#your-status .trouble")).to_contain_text("python -m imder data convert FILE --out DIR")
        choose_file(page, npz_bytes({"text": arrays_of(2)["text"]}), "words.npz")
        expect(page.locator("#your-status")).to_contain_text("words.npz: 2 clips, ready")
        expect(page.locator("#your-report")).to_contain_text("Voice and Face are not in the file")
        assert "audio-vision" in run(page)
        stage = page.locator("#your-stage")
        assert stage.locator("[data-map=vision-truth]").count() == 0
        assert stage.locator("[data-map=vision-denoised]").count() == 1
        expect(stage).to_contain_text("there is no truth to compare with")
        expect(stage.locator("[data-ref=faceTrue]")).to_be_hidden()
        page.get_by_role("tab", name="Recover").click()
        page.get_by_role("tab", name="Your data").click()
        expect(page.locator("#your-report")).to_contain_text("words.npz")
        expect(page.locator("#your-status")).to_contain_text("Done in")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int]
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        to_page(page)
        run(page)
        no_barrier(page)


def test_uploads_by_raw_http_are_one_small_named_file_at_a_time() -> None:
    with Server() as server:
        url = f"{server.url}/gradio_api/upload"
        assert httpx.post(url, files={"files": ("a.npz", b"x" * MAX_SOUND)}).status_code == 200
        assert httpx.post(url, files={"files": ("a.npz", b"x" * (MAX_SOUND + 70_000))}).status_code == 413
        several = [("files", (f"{i}.npz", b"x")) for i in range(3)]
        assert httpx.post(url, files=several).status_code == 400
        form = {"content-type": "multipart/form-data; boundary=b"}
        for body in (
            b"",
            b"--b\r\n\r\nx\r\n--b--",
            b'--b\r\ncontent-disposition: form-data; filename=""\r\n\r\nx\r\n--b--',
        ):
            assert httpx.post(url, content=body, headers=form).status_code == 400
        statuses = [httpx.post(url, json={}).status_code for _ in range(8)]
        assert set(statuses) <= {400, 429}
        assert statuses[-1] == 429
