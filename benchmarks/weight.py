"""What the page weighs, read in a real browser: `python benchmarks/weight.py`.

Starts `app.py` with the bundled model and Chromium on the same machine. Prints one JSON object a figure: bytes on the
wire of a run with two modalities dropped, CPU of the page a frame drawn while it plays, the heap after the first and
after the last of some recoveries (garbage collected before each reading), and the times of visitors who press Recover
at the same moment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from first_frame import CHROMIUM, QUIET, choose
from playwright.sync_api import CDPSession, Page, sync_playwright
from server import ROOT, Server

RUN = "document.getElementById('stage').dataset.run"
FRAMES = """(seconds) => new Promise((tell) => {
  let frames = 0; const began = performance.now();
  const count = () => { frames += 1; performance.now() - began < seconds * 1000 ? requestAnimationFrame(count)
    : tell(frames); };
  requestAnimationFrame(count);
})"""


def opened(browser, url: str) -> Page:
    """A page of its own client, ready."""
    page = browser.new_context(viewport={"width": 1440, "height": 950}).new_page()
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_selector("#stage:not([data-sample=''])")
    return page


def recover(page: Page) -> float:
    """Seconds from the click to the end of the run."""
    before, began = page.evaluate(RUN), time.monotonic()
    page.click("#recover")
    page.wait_for_function(f"{RUN} !== '{before}' && document.getElementById('stage').dataset.done === 'true'")
    return time.monotonic() - began


def heap(session: CDPSession) -> int:
    """Bytes of JavaScript objects that are still reachable."""
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    return session.send("Runtime.getHeapUsage")["usedSize"]


def busy(session: CDPSession) -> float:
    """Seconds of CPU that the page's main thread has used."""
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return found["TaskDuration"]


def say(name: str, value: float, **more: object) -> None:
    """Prints a figure."""
    print(json.dumps({"bench": "weight", "name": name, "value": value} | more), flush=True)


def visit(url: str) -> float:
    """A visitor in a browser of her own: seconds of one recovery."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = opened(browser, url)
        seconds = recover(page)
        status = page.inner_text("#status")
        browser.close()
        if "Done in" not in status:
            raise RuntimeError(f"a visitor's run ended with: {status}")
        return seconds


def main() -> int:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--recoveries", type=int, default=20, help="runs between the two readings of the heap")
    parser.add_argument("--visitors", type=int, default=8, help="browsers that recover at once")
    args = parser.parse_args()
    with Server(ROOT / "app.py") as server:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = opened(browser, server.url)
            session = page.context.new_cdp_session(page)
            session.send("Network.enable")
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            choose(page, ("Voice", "Face"))
            received = []
            session.on("Network.dataReceived", lambda event: received.append(event["dataLength"]))
            recover(page)
            say("run_bytes_two_missing", sum(received))
            page.wait_for_timeout(6000)
            page.click("#stage [data-ref=play]")
            before = busy(session)
            frames = page.evaluate(FRAMES, 3)
            say("cpu_ms_a_frame", round((busy(session) - before) / frames * 1000, 2), frames=frames)
            recover(page)
            first = heap(session)
            times = [recover(page) for _ in range(args.recoveries)]
            last = heap(session)
            say("heap_mb_first", round(first / 1e6, 2))
            say("heap_mb_last", round(last / 1e6, 2), recoveries=args.recoveries, grown=round((last - first) / 1e6, 2))
            say("seconds_a_recovery", round(statistics.median(times), 3))
            browser.close()
        with ThreadPoolExecutor(args.visitors) as pool:
            waits = list(pool.map(visit, [server.url] * args.visitors))
        say("seconds_of_visitors_at_once", round(statistics.median(waits), 2), most=round(max(waits), 2), n=len(waits))
    return 0


if __name__ == "__main__":
    sys.exit(main())
