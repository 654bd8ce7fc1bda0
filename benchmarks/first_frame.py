"""From the click on Recover to the first frame and to the end: `python benchmarks/first_frame.py`.

Starts `app.py` with the bundled model and Chromium on the same machine, so both share its cores. Prints one JSON
object a figure: the median over the clicks, milliseconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from playwright.sync_api import Page, sync_playwright
from server import ROOT, Server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MISSING = {"two": ("Voice", "Face"), "one": ("Face",)}  # the page opens with a run whose face is dropped

#: Times at which the stage's attributes say that a new run has a first step, and that it is done.
WATCH = """() => {
  const stage = document.getElementById('stage'), before = stage.dataset.run;
  window.seen = {};
  new MutationObserver((_, observer) => {
    if (stage.dataset.run === before || stage.dataset.run === '') return;
    window.seen.first ??= performance.now();
    if (stage.dataset.done === 'true') { window.seen.done = performance.now(); observer.disconnect(); }
  }).observe(stage, {attributes: true});
  document.getElementById('recover').addEventListener(
    'click', () => { window.seen.click = performance.now(); }, {once: true, capture: true});
}"""


def choose(page: Page, dropped: tuple[str, ...]) -> None:
    """Drops these and nothing else, in an order in which never all three or none are dropped."""
    for wanted in (True, False):
        for name in ("Language", "Voice", "Face"):
            box = page.get_by_role("checkbox", name=name, exact=True)
            if (name in dropped) is wanted and box.is_checked() is not wanted:
                box.click()
    page.wait_for_function("document.getElementById('status').innerText.includes('dropped')")
    page.wait_for_timeout(1000)


def clicks(page: Page, count: int) -> dict[str, list[float]]:
    """Milliseconds from each click to the first frame and to the end."""
    found: dict[str, list[float]] = {"first": [], "done": []}
    for _ in range(count):
        page.evaluate(WATCH)
        page.click("#recover")
        page.wait_for_function("window.seen.done")
        seen = page.evaluate("window.seen")
        for name, values in found.items():
            values.append(seen[name] - seen["click"])
        page.wait_for_timeout(2500)  # the played steps end: the next click meets an idle page
    return found


def main() -> int:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--clicks", type=int, default=5, help="clicks with one and with two missing (default 5)")
    args = parser.parse_args()
    began = time.monotonic()
    with Server(ROOT / "app.py") as server, sync_playwright() as playwright:
        print(json.dumps({"bench": "click", "name": "start_s", "value": round(time.monotonic() - began, 2)}))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1440, "height": 950})
        page.goto(server.url)
        page.wait_for_selector("#stage:not([data-sample=''])")
        for name, dropped in MISSING.items():
            choose(page, dropped)
            for moment, values in clicks(page, args.clicks).items():
                row = {
                    "bench": "click",
                    "name": f"{moment}_ms_{name}_missing",
                    "value": round(statistics.median(values)),
                }
                print(json.dumps(row | {"least": round(min(values)), "most": round(max(values)), "n": len(values)}))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
