"""A copy of exactly the files that a Space is made of starts the page, though the Hub is out of order."""

from __future__ import annotations

import os
from pathlib import Path

from fake_hub import TOKEN, FakeHub
from playwright.sync_api import Browser, expect
from server import Server
from test_browser import opened

from imder import hub
from imder.publish.space import space


def test_the_files_of_a_space_start_the_page_whatever_the_hub_does(browser: Browser, tmp_path: Path, monkeypatch):
    with FakeHub() as fake:
        fake.reached(monkeypatch, tmp_path / "cache")
        fake.put("ada/run", {path.name: path.read_bytes() for path in hub.BUNDLED.iterdir() if path.is_file()})
        space("ada/page", run="ada/run")
        for name, content in fake.repositories["spaces/ada/page"]["main"].items():
            path = tmp_path / "space" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        fake.mood = "503"
        settings = {"HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(tmp_path / "empty"), "PYTHONDONTWRITEBYTECODE": "1"}
        with Server(tmp_path / "space" / "start.py", **settings) as server, opened(browser, server) as page:
            page.set_default_timeout(60_000)
            expect(page.locator("#source .notice")).to_contain_text("ada/run@")
            expect(page.locator("#source .notice")).to_contain_text("the bundled checkpoint serves instead.")
            page.get_by_role("tab", name="Benchmark").click()
            expect(page.locator("#benchmark-status")).to_contain_text("methods are shown", timeout=60_000)
            page.get_by_role("tab", name="Training").click()
            expect(page.locator("#training-figure-0, #training .main-svg").first).to_be_visible(timeout=60_000)
            text = page.content() + server.log.read_text()
        assert TOKEN not in text
        assert os.fspath(tmp_path) not in text
