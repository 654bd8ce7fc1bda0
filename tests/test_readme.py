"""What the README promises: examples and commands run, a Space finds its head, the figures are the model's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from imder import hub
from imder.__main__ import main
from imder.baselines import BASELINES
from imder.evaluation.rows import read_rows
from imder.evaluation.study import IMDER_METHODS, run_digest
from imder.plots import prediction_error, recovery_error
from imder.report.results import read_results
from imder.ui.measured import PATH

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LOG_COMMAND = r"^python -m imder report .+ --format log --out REPRODUCTION\.md$"
LOG_ROWS = ("benchmark.jsonl", "real.jsonl")


def test_the_librarys_example_runs(capsys):
    code = re.search(r"```python\n(.+?)```", README, re.DOTALL)[1]
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert "(16, 32, 48)" in said
    assert said[-1] == "Recovery"


def test_the_front_matter_agrees_with_the_requirements():
    head = README.split("---\n")[1]
    wanted = (ROOT / "requirements.txt").read_text()
    assert f"gradio=={re.search(r'sdk_version: (.+)', head)[1]}" in wanted
    assert "torch==2.13.0\n" in wanted
    assert (ROOT / re.search(r"app_file: (.+)", head)[1]).is_file()


def test_the_stored_rows_are_of_the_bundled_model_and_their_figures_hold_every_pattern():
    rows = read_rows(PATH, pytest.fail)
    assert {row["run"] for row in rows} == {f"corrected@{run_digest(hub.BUNDLED)}"}
    assert {trace.name for trace in prediction_error(rows).data} >= {"IMDer, 8 draws", "zero fill"}
    assert all(len(trace.y) == 9 for trace in recovery_error(rows).data)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`python -m imder ([\w-]+)", README))))
def test_every_command_of_the_readme_explains_itself(command):
    done = subprocess.run([sys.executable, "-m", "imder", command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: python -m imder" in done.stdout


def test_a_users_mistake_is_one_line_and_no_trace():
    done = subprocess.run(
        [sys.executable, "-m", "imder", "evaluate", "--run", "nowhere", "--out", "rows.jsonl"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (ROOT / "rows.jsonl").exists()


def test_the_tables_of_the_readme_are_those_of_the_stored_rows():
    done = subprocess.run([sys.executable, "benchmarks/readme.py", "--check"], cwd=ROOT)
    assert done.returncode == 0, "python benchmarks/readme.py makes them again"


def test_the_reproduction_log_is_that_of_the_stored_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    out, stored = tmp_path / "log.md", (ROOT / "REPRODUCTION.md").read_text(encoding="utf-8")
    (command,) = re.findall(LOG_COMMAND, stored, re.MULTILINE)  # the document says what it is made of
    files = shlex.split(command)[4:-4]
    assert files == [f"assets/{name}" for name in LOG_ROWS if (ROOT / "assets" / name).is_file()]
    assert main(["report", *files, "--format", "log", "--out", str(out)]) == 0
    made = out.read_text(encoding="utf-8").replace(str(out), "REPRODUCTION.md")
    assert made == stored, f"{command} makes it again"


def test_the_benchmark_holds_every_method_on_the_same_masks():
    panels = read_results([ROOT / "assets" / "benchmark.jsonl"], pytest.fail)
    assert {panel.protocol for panel in panels} == {"random", "fixed"}
    for panel in panels:
        runs = {column.run for column in panel.columns}
        folders = {ROOT / "checkpoints" / run.partition("@")[0] for run in runs}
        assert runs == {f"{folder.name}@{run_digest(folder)}" for folder in folders}
        assert {column.method for column in panel.columns} == {*IMDER_METHODS, *BASELINES}
        for place in panel.places:
            wanted = range(3) if panel.protocol == "random" else range(1)
            for seed in wanted:
                assert len({panel.masks[column, place, seed] for column in panel.columns}) == 1
                assert all((column, place, seed) in panel.entries for column in panel.columns)


def test_a_table_that_differs_from_its_rows_is_made_again():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    spoilt = re.sub(r"(\| L → A \|) [^|]+", r"\1 9.99 ", README)
    assert spoilt.count("9.99") >= 3  # of the measured rows and of the benchmarks
    assert module.filled(spoilt, ROOT) == README
