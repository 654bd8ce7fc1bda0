"""The page of a run's training: curves, configuration, where it came from, the command that repeats it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from imder.report.page import listing, table_html
from imder.report.training import Training, progress_figures, read_training, run_tables
from imder.ui.controls import COPY, LIGHT, said, settled, status_line
from imder.ui.jobs import Jobs
from imder.ui.shelf import Shelf, bundled_runs
from imder.ui.validate import BadInput, one_of

#: Jobs of two runs that are drawn at most.
SLOTS = 14
NOBODY = "none"
FAILED = "The training could not be shown (code {}); what was shown stays. Try another run."
OUTPUTS = SLOTS + 3
CURVES = """<h2>Curves</h2><p>Losses above, figures on the validation clips below. Presets weight their losses
differently, so losses of two presets do not compare; MAE, of classes accuracy and log loss, and the errors (a mean fill
is at 1) do.</p>"""


class TrainingPage:
    """The handlers. None of them trusts its arguments; a run is a name from the list, never a path."""

    def __init__(self, jobs: Jobs, shelf: Shelf) -> None:
        self.jobs, self.shelf = jobs, shelf
        self.bundled = {name: Path(folder) for name, folder in bundled_runs().items()}
        self.read = lru_cache(16)(read_training)

    @property
    def runs(self) -> dict[str, Path | None]:
        """The folders by name, the page's own models first."""
        return self.bundled | self.shelf.runs

    def training(self, what: str, name: object) -> Training:
        """What is known of the run of that name."""
        runs = self.runs
        folder = runs[one_of(what, name, runs)]
        if folder is None:
            raise BadInput(f"{what}: {name} is not open yet; choose it as the model on the first page, then come back.")
        try:
            return self.read(folder, str(name))
        except ValueError as error:
            raise BadInput(str(error)) from None

    def light(self, outputs: int, work: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """`work()`, or one sentence as the last of so many outputs."""
        return settled(self.jobs, outputs, work, FAILED)

    def open(self, model: object, followed: object) -> tuple[Any, ...]:
        """The run of the first page's model, unless it is shown already: run, beside, followed, then as `show`."""

        def work() -> tuple[Any, ...]:
            if model == followed:
                return tuple([gr.skip()] * (3 + OUTPUTS))
            names = list(self.runs)
            name = one_of("run", model, names)
            return (
                gr.update(choices=names, value=name), gr.update(choices=[NOBODY, *names], value=NOBODY), name,
                *self.show(name, NOBODY),
            )  # fmt: skip

        return self.light(3 + OUTPUTS, work)

    def show(self, run: object, beside: object) -> tuple[Any, ...]:
        """One run, or two: a figure a job, tables, the command, status."""

        def work() -> tuple[Any, ...]:
            runs = [self.training("run", run)]
            if beside not in (NOBODY, None, run):
                runs.append(self.training("second run", beside))
            found = progress_figures(runs)
            figures = [gr.update(value=one.figure, visible=True) for one in found[:SLOTS]]
            figures += [gr.update(value=None, visible=False)] * (SLOTS - len(figures))
            tables = "\n".join(table_html(table, table.title) for table in run_tables(runs))
            commands = [one.command for one in runs if one.command]
            command = (
                listing(commands, "Commands of the training")
                if commands
                else "<p>No command was stored with this run.</p>"
            )
            return *figures, tables, command, said(told(runs, len(found)))

        return self.light(OUTPUTS, work)


def told(runs: list[Training], jobs: int) -> str:
    """The status: what is drawn, and which run has no log."""
    silent = [run.name for run in runs if not run.log]
    said = [
        f"The run {' beside '.join(run.name for run in runs)}: {jobs} {'job' if jobs == 1 else 'jobs'} of training."
    ]
    if silent:
        said = [f"{' and '.join(silent)} has no training log in its folder, so there are no curves of it."]
    if jobs > SLOTS:
        said.append(f"The first {SLOTS} are drawn.")
    return " ".join(said)


def training_tab(page: TrainingPage, model: gr.Dropdown) -> None:
    """Adds the page to the tabs that are being built; it shows the run of `model` when it is selected."""
    with gr.Tab("Training", elem_id="page-training") as tab, gr.Column(elem_id="training", elem_classes="sheet"):
        with gr.Row():
            run = gr.Dropdown([], label="Run", info="The model of the first page.", elem_id="run")
            beside = gr.Dropdown([], label="Beside it", info="Its curves are dashed.", elem_id="beside")
        followed = gr.Textbox(visible=False)
        status = status_line("The training log is being read.", "training-status")
        gr.HTML("<h2>What repeats this training</h2>", elem_classes="report")
        command = gr.HTML(elem_classes="report", elem_id="training-command")
        copy = gr.Button("Copy the command", size="sm", elem_id="training-copy")
        gr.HTML(CURVES, elem_classes="report")
        with gr.Row(elem_classes="figures"):
            figures = [
                gr.Plot(show_label=False, container=False, visible=False, elem_id=f"job-{i}") for i in range(SLOTS)
            ]
        tables = gr.HTML(elem_classes=["report", "facts"], elem_id="training-tables")
    every = [*figures, tables, command, status]
    tab.select(page.open, [model, followed], [run, beside, followed, *every], **LIGHT)
    run.input(page.show, [run, beside], every, **LIGHT, trigger_mode="always_last")
    beside.input(page.show, [run, beside], every, **LIGHT, trigger_mode="always_last")
    copy.click(None, None, status, js=COPY.format("training-command"), api_visibility="private")
