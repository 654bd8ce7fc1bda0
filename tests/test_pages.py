"""The pages Benchmark and Training: what their handlers make of any value, and both in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import pytest
from fake_pipeline import FakePipeline
from playwright.sync_api import Browser, Page, expect
from server import Server
from test_browser import NARROW, WIDE, no_barrier, opened
from test_report import IMDER, OTHERS, rows_of, write

from imder.report.benchmark import Benchmark
from imder.report.training import job_name, minutes, progress_figures, read_training, run_tables
from imder.ui.benchmark import BenchmarkPage
from imder.ui.jobs import Jobs
from imder.ui.shelf import CHECKPOINTS, Shelf
from imder.ui.training import NOBODY, SLOTS, TrainingPage

JUNK = [
    None,
    "",
    0,
    True,
    1.5,
    [],
    {},
    [[]],
    ["x"],
    "../../etc/passwd",
    "/etc",
    "<img src=x>",
    "x" * 10_000,
    {"a": [1]},
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """A benchmark of six methods by rate and by pattern."""
    path = tmp_path_factory.mktemp("assets") / "benchmark.jsonl"
    made = [rows_of("corrected@aaaaaaaa", method, noise) for method, noise in IMDER.items()]
    return write(path, made + [rows_of(f"{method}@bbbbbbbb", method, noise) for method, noise in OTHERS.items()])


@pytest.fixture(scope="module")
def benchmark(rows: Path) -> BenchmarkPage:
    return BenchmarkPage(Jobs(), Benchmark(rows))


@pytest.fixture(scope="module")
def training() -> TrainingPage:
    shelf = Shelf({"fake": "fake", "closed": "closed"}, {"bundled": "bundled"}, FakePipeline)
    shelf.get()
    return TrainingPage(Jobs(), shelf)


# --- handlers ---------------------------------------------------------------------------------------------------------


def refused(status: object) -> str:
    """The text of a refusal, which is one sentence without a trace or a path."""
    assert isinstance(status, str)
    assert status.startswith('<p class="trouble">')
    for bad in ("Traceback", str(CHECKPOINTS), "<img", "code"):
        assert bad not in status
    assert len(status) < 600
    return status


def test_benchmark_opens_once_with_curves_tables_and_commands(benchmark: BenchmarkPage) -> None:
    protocol, statement, metric, methods, against, figure, text, tables, commands, status = benchmark.open(None)
    assert protocol["value"] == "random missing"
    assert metric["value"] == "mae"
    assert "What the paper reports stands apart" in statement
    assert {"IMDer", "GCNet", "MMIN"} <= set(methods["value"])
    assert isinstance(figure["value"], go.Figure)
    assert "MAE by missing rate" in text
    assert tables.count("<caption>") == 4
    assert against["value"] == "IMDer"
    assert "Difference to IMDer" in tables
    assert "python -m imder evaluate --run checkpoints/corrected" in commands
    assert "methods are shown" in status
    assert all(item.get("__type__") == "update" and len(item) == 1 for item in benchmark.open("random missing"))


def test_benchmark_by_pattern_has_no_curves_but_tables(benchmark: BenchmarkPage) -> None:
    _, _, _, figure, text, tables, _, _ = benchmark.choose("fixed missing")
    assert figure["visible"] is False
    assert "see the tables" in text
    assert ">LAV<" in tables


def test_benchmark_takes_a_choice_of_metric_and_methods(benchmark: BenchmarkPage) -> None:
    figure, text, _ = benchmark.curves("random missing", "acc2", ["MMIN", "IMDer", "MMIN"])
    assert "ACC2" in text
    assert {trace.line.dash for trace in figure["value"].data if "(reported)" in trace.name} >= {"dash"}
    assert {trace.name for trace in figure["value"].data if trace.name in ("IMDer", "MMIN", "GCNet")} == {
        "IMDer",
        "MMIN",
    }
    tables, _, status = benchmark.tables("random missing", ["IMDer"], "GCNet")
    assert "Difference to GCNet" in tables
    assert "1 method is shown" in status


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_nothing_that_is_not_there_gets_through_the_benchmark(benchmark: BenchmarkPage, junk: object) -> None:
    good = ("random missing", "mae", ["IMDer"])
    assert "protocol:" in refused(benchmark.choose(junk)[-1])
    assert "protocol:" in refused(benchmark.curves(junk, *good[1:])[-1])
    assert "metric:" in refused(benchmark.curves(good[0], junk, good[2])[-1])
    assert "methods:" in refused(benchmark.curves(*good[:2], junk)[-1])
    assert "methods:" in refused(benchmark.tables(good[0], junk, "IMDer")[-1])
    assert "compared with:" in refused(benchmark.tables(good[0], good[2], junk)[-1])
    assert benchmark.open(junk)[0]["value"] == "random missing"


def test_without_rows_the_benchmark_names_the_command_and_takes_them_when_they_come(rows: Path, tmp_path: Path) -> None:
    path = tmp_path / "assets" / "benchmark.jsonl"
    page = BenchmarkPage(Jobs(), Benchmark(path))
    assert "python -m imder evaluate --run" in refused(page.open(None)[-1])
    assert str(tmp_path) not in page.open(None)[-1]
    path.parent.mkdir()
    path.write_text("not JSON\n")
    assert str(tmp_path) not in refused(page.open(None)[-1])
    shutil.copy(rows, path)
    tables = page.open(None)[-3]
    assert "No predictions stand beside" in tables


def test_training_follows_the_model_of_the_first_page(training: TrainingPage) -> None:
    run, beside, followed, *rest = training.open("corrected", "")
    assert (run["value"], beside["value"], followed) == ("corrected", NOBODY, "corrected")
    assert {"corrected", "official", "paper", "mmin", "gcnet", "dropout-fusion", "subset"} <= set(run["choices"])
    *figures, tables, command, status = rest
    assert [figure["visible"] for figure in figures] == [True] * 6 + [False] * (SLOTS - 6)
    assert "745cc4bcda3e9fc9" in tables
    assert "python -m imder train --data bundled" in command
    assert "6 jobs" in status
    assert all(len(item) == 1 for item in training.open("corrected", "corrected"))


def test_training_of_two_runs_is_dashed_and_what_differs_is_bold(training: TrainingPage) -> None:
    *figures, tables, command, _ = training.show("corrected", "paper")
    traces = [trace for figure in figures if figure["visible"] for trace in figure["value"].data]
    assert {trace.line.dash for trace in traces} == {"solid", "dash"}
    assert "dashed paper" in figures[0]["value"].layout.title.subtitle.text
    assert "<strong>paper</strong>" in tables
    assert command.count("python -m imder train") == 2


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_no_path_from_the_wire_opens_a_run(training: TrainingPage, junk: object) -> None:
    assert "run:" in refused(training.show(junk, NOBODY)[-1])
    assert "run:" in refused(training.open(junk, "corrected")[-1])
    if junk is not None:
        assert "second run:" in refused(training.show("corrected", junk)[-1])


def test_training_says_what_a_run_lacks(training: TrainingPage, tmp_path: Path) -> None:
    assert "config.json" in refused(training.show("fake", NOBODY)[-1])
    assert "not open yet" in refused(training.show("closed", NOBODY)[-1])
    folder = tmp_path / "mute"
    shutil.copytree(CHECKPOINTS / "gcnet", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "log.jsonl").unlink()
    mute = TrainingPage(Jobs(), Shelf({"mute": str(folder)}, {"bundled": "bundled"}, FakePipeline))
    *figures, tables, _, status = mute.show("mute", NOBODY)
    assert "mute has no training log" in status
    assert not any(figure["visible"] for figure in figures)
    assert "Provenance" in tables
    (folder / "log.jsonl").write_text('{"stage": "1", "job": "network", "update": 1, "loss": 1.0, "valid": null}\n{"st')
    assert progress_figures([read_training(folder, "mute")])[0].title == "Stage 1: network"
    (folder / "log.jsonl").write_text("[]\n")
    with pytest.raises(ValueError, match=r"^mute: line 1 of log\.jsonl is no row of a training log\.$"):
        read_training(folder, "mute")


def test_every_bundled_run_has_its_figures_and_tables() -> None:
    for folder in sorted(path.parent for path in CHECKPOINTS.glob("*/config.json")):
        run = read_training(folder, folder.name)
        jobs = {(row["stage"], row["job"]) for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines())}
        assert len(progress_figures([run])) == len(jobs) <= SLOTS
        assert [len(table.head) for table in run_tables([run])] == [2, 2, 2]
    assert job_name(("2", "score-text")) == "Stage 2: score network, Language"
    assert [minutes(seconds) for seconds in (12, 204, 7200, None)] == ["12 s", "3.4 min", "2.0 h", "–"]


# --- the browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(rows: Path) -> Iterator[Server]:
    with Server(FAKE_BENCHMARK=str(rows)) as running:
        yield running


def go_to(page: Page, name: str) -> None:
    """Selects a page and waits for what it shows; the fake model has no run, so Training gets one."""
    page.get_by_role("tab", name=name).click()
    if name == "Benchmark":
        expect(page.locator("#benchmark-status")).to_contain_text("methods are shown")
        expect(page.locator("#benchmark-figure .main-svg").first).to_be_visible()
    else:
        expect(page.locator("#training-status .trouble")).to_contain_text("config.json")
        choose(page, "Run", "corrected")
        expect(page.locator("#training-status")).to_contain_text("6 jobs")
        expect(page.locator("#job-5 .main-svg").first).to_be_visible()


def choose(page: Page, name: str, option: str) -> None:
    """Chooses from a list."""
    page.get_by_role("combobox", name=name, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_benchmark_shows_curves_and_tables_and_takes_choices(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        go_to(page, "Benchmark")
        tables = page.locator("#benchmark-tables table")
        expect(tables).to_have_count(4)
        assert page.locator("#benchmark-tables th[scope=row]").count() > 10
        page.get_by_role("radio", name="ACC2").check()
        expect(page.locator("#benchmark-text")).to_contain_text("ACC2 by missing rate")
        expect(page.locator("#benchmark-figure .ytitle")).to_contain_text("ACC2")
        choose(page, "Compared with", "GCNet")
        expect(page.locator("#benchmark-tables")).to_contain_text("Difference to GCNet")
        page.locator("#methods").get_by_role("checkbox", name="MMIN").uncheck()
        expect(page.locator("#benchmark-tables thead").first).not_to_contain_text("MMIN")
        choose(page, "Protocol", "fixed missing")
        expect(page.locator("#benchmark-tables")).to_contain_text("fixed missing")
        expect(page.locator("#benchmark-figure")).to_be_hidden()
        choose(page, "Protocol", "random missing")
        expect(page.locator("#benchmark-figure .main-svg").first).to_be_visible()
        page.get_by_role("tab", name="Recover").click()
        expect(page.locator("#stage")).to_be_visible()
        page.get_by_role("tab", name="Benchmark").click()
        expect(page.locator("#benchmark-tables")).to_contain_text("Difference to IMDer")


def test_training_shows_a_run_and_another_beside_it(browser: Browser, server: Server) -> None:
    with opened(browser, server, permissions=["clipboard-read", "clipboard-write"]) as page:
        go_to(page, "Training")
        expect(page.locator("#training-tables table")).to_have_count(3)
        choose(page, "Beside it", "mmin")
        expect(page.locator("#training-status")).to_contain_text("corrected beside mmin: 8 jobs")
        expect(page.locator("#job-7 .main-svg").first).to_be_visible()
        choose(page, "Beside it", "none")
        expect(page.locator("#job-7")).to_be_hidden()
        page.click("#training-copy")
        expect(page.locator("#training-status")).to_contain_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()").startswith("python -m imder train --data bundled")


def test_tabs_by_keyboard(browser: Browser, server: Server) -> None:
    with opened(browser, server) as page:
        page.get_by_role("tab", name="Recover").focus()
        for _ in range(8):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").strip() == "Benchmark":
                break
        page.keyboard.press("Enter")
        expect(page.locator("#benchmark-status")).to_contain_text("methods are shown")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
@pytest.mark.parametrize("name", ["Benchmark", "Training"])
def test_no_barrier_and_no_sideways_scroll(
    browser: Browser, server: Server, scheme: str, viewport: dict[str, int], name: str
) -> None:
    with opened(browser, server, color_scheme=scheme, viewport=viewport, reduced_motion="reduce") as page:
        go_to(page, name)
        no_barrier(page)


def test_a_page_without_rows_says_what_makes_them(browser: Browser) -> None:
    with Server() as bare, opened(browser, bare) as page:
        page.get_by_role("tab", name="Benchmark").click()
        expect(page.locator("#benchmark-status .trouble")).to_contain_text("python -m imder evaluate --run")
