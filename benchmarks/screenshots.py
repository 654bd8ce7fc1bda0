"""Pictures of every page for the README: `python benchmarks/screenshots.py`.

Starts `app.py` with the bundled model, opens each page by its address in light and dark and, the first, on a phone's
width, waits until it shows what it shows first, and writes assets/screenshots/NAME-SCHEME.webp.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from first_frame import CHROMIUM, QUIET
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from server import ROOT, Server

OUT = ROOT / "assets" / "screenshots"
WIDE, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}
QUALITY = 82

STATUS = "(document.querySelector('#{0}')?.innerText ?? '').includes('{1}')"
PLOT = "document.querySelector('#{0} .main-svg')"
#: When a page shows what it shows first.
READY = {
    "recover": "document.getElementById('stage').dataset.done === 'true'",
    "compare": "document.getElementById('players')?.dataset.cards === '8'",
    "field": "document.querySelector('#flow-learned .flow')?.dataset.done === 'true'",
    "distributions": PLOT.format("dist-conditional") + " && " + PLOT.format("dist-unconditional"),
    "benchmark": PLOT.format("benchmark-figure"),
    "training": PLOT.format("job-0") + " && " + STATUS.format("training-status", "jobs"),
    "yours": "document.querySelector('#your-layout table')",
    "say": "document.getElementById('say-stage')?.dataset.run",
    "how": "document.querySelectorAll('#formulas .katex-display').length > 5",
}


def picture(browser: Browser, url: str, name: str, scheme: str, viewport: dict[str, int]) -> bytes:
    """The page as it is seen when it is ready, as WebP."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(url if name == "recover" else f"{url}/?view={name}")
    page.wait_for_selector("#stage:not([data-sample=''])", state="attached")
    page.wait_for_function(f"() => Boolean({READY[name]})")
    page.wait_for_timeout(1500)  # colours fade in, Plotly draws its last
    shot = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    out = io.BytesIO()
    shot.save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def main() -> int:
    """Writes the pictures and prints their sizes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", nargs="+", choices=list(READY), default=list(READY), help="these pages only")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    total = 0
    with Server(ROOT / "app.py") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        views = [(name, scheme, WIDE, name) for name in args.only for scheme in ("light", "dark")]
        views += [(name, "light", PHONE, f"{name}-phone") for name in args.only if name in ("recover", "compare")]
        for name, scheme, viewport, stem in views:
            content = picture(browser, server.url, name, scheme, viewport)
            (args.out / f"{stem}-{scheme}.webp").write_bytes(content)
            total += len(content)
            print(f"{stem}-{scheme}.webp: {len(content) // 1000} kB", flush=True)
        browser.close()
    print(f"together {total // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
