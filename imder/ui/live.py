"""A small live evaluation on the page of the benchmark: the rows of `python -m imder evaluate`, told as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from imder import hub
from imder.evaluation.live import LiveAsk, live_cells, live_study, stepwise
from imder.evaluation.study import IMDER_METHODS, RATES, Study
from imder.evaluation.table import TITLES
from imder.report.live import FullRows, LiveCell, live_report
from imder.report.page import listing, table_html
from imder.ui.controls import BEGIN, COPY, MODEL, can_stop, good, said, status_line, trouble
from imder.ui.jobs import Jobs, Refused
from imder.ui.shelf import Shelf, bundled_runs
from imder.ui.validate import BadInput, one_of, some_of, whole

FAILED = "The live evaluation failed (code {}); what was measured stays. Try fewer clips or other methods."
PROTOCOLS = {"fixed patterns": "fixed", "random missing": "random"}
FIRST = ("IMDer", "zero fill", "ridge")
RATE_NAMES = tuple(f"{rate:g}" for rate in RATES)
LEAST, MOST, SEEDS = 8, 64, 9
DRAWS = ("1", "8")
#: Network evaluations on one clip of one live evaluation: some 20 s of one core.
MAX_UNITS = 4_000
LEAD = """<h2>Measure some rows now</h2><p>The same code as the command, on a few clips spread evenly over the test set.
Few clips are noisy: read the brackets, and trust the stored full test set beside them.</p>"""
WAITING = "Choose methods and press Measure; rows appear as they are done."


@dataclass(frozen=True)
class Candidate:
    """A method of a run: the run's name as commands write it, and its folder; None for the page's first model."""

    method: str
    run: str
    folder: str | None


class LivePage:
    """The handlers. None of them trusts its arguments; a method is a name from the list, never a path."""

    def __init__(self, jobs: Jobs, shelf: Shelf, rows: Path) -> None:
        self.jobs, self.shelf, self.full = jobs, shelf, FullRows(rows)
        self.load = lru_cache(8)(lambda folder: hub.load(folder, fallback=False))
        self.study = lru_cache(4)(self._study)

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """What can be measured, by title: the methods of the page's first model, then the bundled baselines."""
        first, bundled = self.shelf.first[0], bundled_runs()
        own = f"checkpoints/{first}" if first in bundled else first
        found = {TITLES[method]: Candidate(method, own, None) for method in IMDER_METHODS}
        for name, folder in bundled.items():
            kind = hub.kind_of(hub.read_info(Path(folder))[0]["model"])
            if kind != "imder":
                found[TITLES.get(kind, kind)] = Candidate(kind, f"checkpoints/{name}", folder)
        return found

    def _study(self, folder: str | None, ask: LiveAsk) -> Study:
        pipeline = self.shelf.get()
        return live_study(pipeline.run if folder is None else self.load(folder), pipeline.data, ask)

    @property
    def data(self) -> str:
        """The data set as commands write it."""
        return self.shelf.first[1]

    def ask(self, protocol: object, rate: object, clips: object, seed: object, draws: object) -> LiveAsk:
        """The choice, every value checked."""
        return LiveAsk(
            PROTOCOLS[one_of("protocol", protocol, PROTOCOLS)],
            float(one_of("missing rate", rate, RATE_NAMES)),
            whole("clips", clips, LEAST, MOST),
            whole("seed", seed, 0, SEEDS),
            int(one_of("draws", draws, DRAWS)),
        )

    def measure(
        self, methods: object, protocol: object, rate: object, clips: object, seed: object, draws: object
    ) -> Iterator[tuple[Any, str]]:
        """Rows as they are done: table, commands, status."""

        def work() -> Iterator[tuple[Any, ...]]:
            chosen = some_of("methods", methods, self.candidates)
            ask = self.ask(protocol, rate, clips, seed, draws)
            yield gr.skip(), self.commands(chosen, ask), said("Models and clips are read.")
            todo: list[tuple[Study, int]] = []
            for title in chosen:
                one = self.candidates[title]
                for _, study in stepwise(lambda tick, one=one: self.study(one.folder, ask)):
                    if study is None:
                        yield gr.skip(), gr.skip(), said(f"{title}: the model and the clips are read.")
                todo += [(study, i) for i in live_cells(study, one.method, ask)]
            total = sum(study.work([study.cells[i]]) for study, i in todo)
            if total > MAX_UNITS:
                most = max(int(ask.clips * MAX_UNITS / total), 0)
                advice = f"choose at most {most}" if most >= LEAST else "choose fewer methods or one draw"
                raise BadInput(f"clips: {ask.clips} with these methods are too much for this page; {advice}.")
            cells: list[LiveCell] = []
            for study, i in todo:
                for units, answer in stepwise(lambda tick, study=study, i=i: study.answer(study.cells[i], tick)):
                    if answer is None:
                        part = units / max(study.work([study.cells[i]]), 1)
                        told = f"{len(cells)} of {len(todo)} cells done; {study.cells[i].title}: {min(part, 1):.0%}."
                        yield gr.skip(), gr.skip(), said(told)
                cells.append(LiveCell.of(*answer, study.clips_entry(), study.scale))
                table = live_report(cells, self.full)
                yield table_html(table, table.title), gr.skip(), said(f"{len(cells)} of {len(todo)} cells done.")
            yield gr.skip(), gr.skip(), good(f"Done: {len(cells)} cells of {len(todo)} on {len(study.ids)} clips.")

        def told() -> Iterator[tuple[Any, ...]]:
            try:
                yield from work()
            except BadInput:
                raise
            except ValueError as error:  # of the run or the data, such as other widths
                raise BadInput(str(error).rstrip(".") + ".") from None

        try:
            yield from self.jobs.run(told, FAILED)
        except Refused as reason:
            yield gr.skip(), gr.skip(), trouble(str(reason))

    def commands(self, chosen: Sequence[str], ask: LiveAsk) -> str:
        """What makes the same rows on the command line, and what makes those of all test clips."""
        by_run: dict[str, list[str]] = {}
        for title in chosen:
            by_run.setdefault(self.candidates[title].run, []).append(self.candidates[title].method)
        same = [ask.command(run, self.data, names) for run, names in by_run.items()]
        full = [ask.command(run, self.data, names, 0) for run, names in by_run.items()]
        return listing(["# these rows", *same, "# all test clips", *full], "Commands of the live evaluation")


def live_section(page: LivePage) -> None:
    """Adds the live evaluation to the page that is being built."""
    gr.HTML(LEAD, elem_classes="report")
    methods = gr.CheckboxGroup(list(page.candidates), value=list(FIRST), label="Measure", elem_id="live-methods")
    with gr.Row():
        protocol = gr.Radio(list(PROTOCOLS), value="fixed patterns", label="What is missing", elem_id="live-protocol")
        rate = gr.Radio(list(RATE_NAMES), value="0.5", label="Missing rate", info="Of random missing.",
                        elem_id="live-rate")  # fmt: skip
        draws = gr.Radio(list(DRAWS), value="1", label="Draws a clip", info="Of methods that draw.",
                         elem_id="live-draws")  # fmt: skip
    with gr.Row():
        clips = gr.Slider(LEAST, MOST, value=16, step=1, label="Clips", elem_id="live-clips")
        seed = gr.Number(0, label="Seed of masks and noise", info=f"0 to {SEEDS}; fixed patterns know 0 alone.",
                         precision=0, minimum=0, maximum=SEEDS, elem_id="live-seed")  # fmt: skip
    with gr.Row():
        run = gr.Button("Measure", variant="primary", elem_id="live-run", min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id="live-stop", min_width=80)
    status = status_line(WAITING, "live-status")
    table = gr.HTML(elem_classes="report", elem_id="live-table")
    commands = gr.HTML(page.commands(FIRST, LiveAsk()), elem_classes="report", elem_id="live-commands")
    copy = gr.Button("Copy the commands of the live rows", size="sm", elem_id="live-copy")
    run.click(None, None, stop, js=BEGIN, api_visibility="private")
    going = run.click(
        page.measure, [methods, protocol, rate, clips, seed, draws], [table, commands, status],
        show_progress="hidden", trigger_mode="once", preprocess=False, api_visibility="private", **MODEL,
    )  # fmt: skip
    can_stop(stop, status, [going], "The rows measured so far stay.")
    copy.click(None, None, status, js=COPY.format("live-commands"), api_visibility="private")
