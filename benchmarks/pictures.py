"""Draws the README's pictures from the stored rows: `python benchmarks/pictures.py` (needs Debian's chromium).

One picture a table of a benchmark, and all methods by missing rate, by the functions of `imder.plots`, photographed in
a browser at twice the size.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run from anywhere, not installed

from imder.bench.cli import Row, read_rows  # noqa: E402
from imder.plots.calibration import coverage, interval  # noqa: E402
from imder.plots.joint import joint  # noqa: E402
from imder.plots.reperformance import reperformance  # noqa: E402
from imder.plots.sampler import costs, ratios  # noqa: E402
from imder.plots.truth import truth_draws, truth_samplers  # noqa: E402
from imder.report.curves import rate_figures  # noqa: E402
from imder.report.results import read_results  # noqa: E402
from imder.report.tables import METRIC_NAMES  # noqa: E402


def bench(name: str) -> list[Row]:
    """The rows of assets/bench/NAME.jsonl."""
    return read_rows(ROOT / "assets" / "bench" / f"{name}.jsonl")


def by_rate(metric: str) -> go.Figure:
    """All methods of assets/benchmark.jsonl by missing rate, without the supplement's curves."""
    panels = read_results([ROOT / "assets" / "benchmark.jsonl"], print)
    panel = next(panel for panel in panels if panel.protocol == "random")
    return next(one.figure for one in rate_figures(panel, ()) if one.title.startswith(METRIC_NAMES[metric]))


#: {file name: figure}
PICTURES: dict[str, Callable[[], go.Figure]] = {
    "truth": lambda: truth_draws(bench("truth-full"), "mixture"),
    "samplers": lambda: truth_samplers(bench("truth-full")),
    "reperformance": lambda: reperformance(bench("reperformance")),
    "joint": lambda: joint(bench("joint")),
    "coverage": lambda: coverage(bench("calibration")),
    "interval": lambda: interval(bench("calibration")),
    "ratios": lambda: ratios(bench("sampler")),
    "costs": lambda: costs(bench("sampler")),
    "mae-by-rate": lambda: by_rate("mae"),
}
WIDTH = 760


def main() -> int:
    """Writes assets/pictures."""
    folder = ROOT / "assets" / "pictures"
    folder.mkdir(exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page(viewport={"width": WIDTH, "height": 700}, device_scale_factor=2)
        for name, draw in PICTURES.items():
            figure = draw()
            figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", width=WIDTH, font_color="#1f2933")
            file = Path(scratch) / "figure.html"
            figure.write_html(file, config={"displayModeBar": False})
            page.goto(file.as_uri())
            page.locator(".main-svg").first.wait_for()
            page.locator(".js-plotly-plot").screenshot(path=folder / f"{name}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
