"""The page of measured figures: curves by missing rate, tables and differences, from stored rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from imder.report.benchmark import Benchmark, first_methods, methods_of, metrics_of
from imder.report.page import listing, prose_html, table_html
from imder.report.results import Panel
from imder.ui.controls import COPY, LIGHT, said, settled, status_line
from imder.ui.jobs import Jobs
from imder.ui.live import LivePage, live_section
from imder.ui.validate import BadInput, one_of, some_of

PATH = Path(__file__).parents[2] / "assets" / "benchmark.jsonl"
FAILED = "The figures could not be made (code {}); what was shown stays. Try another choice."
NO_AXIS = "This protocol has no single missing rate to draw curves over: see the tables."
WAITING = "The stored figures are being read."


class BenchmarkPage:
    """The handlers. None of them trusts its arguments."""

    def __init__(self, jobs: Jobs, benchmark: Benchmark) -> None:
        self.jobs, self.benchmark = jobs, benchmark

    def light(self, outputs: int, work: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """`work()`, or one sentence as the last of so many outputs."""

        def told() -> tuple[Any, ...]:
            try:
                return work()
            except BadInput:
                raise
            except ValueError as error:  # of the rows, which may not be there
                text = str(error).replace(str(self.benchmark.path), self.benchmark.name)
                raise BadInput(text.replace("`", "").rstrip(".") + ".") from None

        return settled(self.jobs, outputs, told, FAILED)

    def panel(self, protocol: object) -> Panel:
        """The panel of that name."""
        protocols = self.benchmark.protocols
        return protocols[one_of("protocol", protocol, protocols)]

    def open(self, protocol: object) -> tuple[Any, ...]:
        """What the page shows first, unless it shows something: protocol, statement, then as `choose`."""

        def work() -> tuple[Any, ...]:
            protocols = list(self.benchmark.protocols)
            if type(protocol) is str and protocol in protocols:
                return tuple([gr.skip()] * 10)
            statement = f"<p>{prose_html(self.benchmark.statement)}</p>"
            return gr.update(choices=protocols, value=protocols[0]), statement, *self.whole(protocols[0])

        return self.light(10, work)

    def choose(self, protocol: object) -> tuple[Any, ...]:
        """Another protocol: metric, methods, against, figure, its text, tables, commands, status."""

        def work() -> tuple[Any, ...]:
            self.panel(protocol)
            return self.whole(protocol)

        return self.light(8, work)

    def whole(self, protocol: str) -> tuple[Any, ...]:
        """A protocol with what is chosen at first."""
        panel = self.panel(protocol)
        metrics, methods, shown = metrics_of(panel), methods_of(panel), first_methods(panel)
        metric = next(iter(metrics.values()))
        *curves, _ = self.curves(protocol, metric, shown)
        *tables, status = self.tables(protocol, shown, methods[0])
        return (
            gr.update(choices=list(metrics.items()), value=metric), gr.update(choices=methods, value=shown),
            gr.update(choices=methods, value=methods[0]), *curves, *tables, status,
        )  # fmt: skip

    def curves(self, protocol: object, metric: object, methods: object) -> tuple[Any, ...]:
        """Curves of one metric: figure, its text, status."""

        def work() -> tuple[Any, ...]:
            panel = self.panel(protocol)
            metrics = metrics_of(panel)
            wanted = one_of("metric", metric, metrics.values())
            shown = some_of("methods", methods, methods_of(panel))
            found = self.benchmark.figure(str(protocol), wanted, shown)
            if found is None:
                return gr.update(value=None, visible=False), f"<p>{NO_AXIS}</p>", said(counted(shown))
            text = f"<h2>{escape(found.title)}</h2><p>{prose_html(found.caption)}</p>"
            return gr.update(value=found.figure, visible=True), text, said(counted(shown))

        return self.light(3, work)

    def tables(self, protocol: object, methods: object, against: object) -> tuple[Any, ...]:
        """Tables of those methods and their differences to one: tables, commands, status."""

        def work() -> tuple[Any, ...]:
            every = methods_of(self.panel(protocol))
            shown = some_of("methods", methods, every)
            tables = self.benchmark.tables(str(protocol), shown, one_of("compared with", against, every))
            lines = self.benchmark.commands(str(protocol), shown)
            return (
                "\n".join(table_html(table, table.title) for table in tables),
                listing(lines, "Commands of the benchmark"),
                said(counted(shown)),
            )

        return self.light(3, work)


def counted(methods: Sequence[str]) -> str:
    """The status when all is well."""
    return f"{len(methods)} {'method is' if len(methods) == 1 else 'methods are'} shown."


def benchmark_tab(page: BenchmarkPage, live: LivePage) -> None:
    """Adds the page to the tabs that are being built; nothing is read before it is selected."""
    with gr.Tab("Benchmark", elem_id="page-benchmark") as tab, gr.Column(elem_id="benchmark", elem_classes="sheet"):
        statement = gr.HTML(elem_classes="report")
        protocol = gr.Dropdown([], label="Protocol", info="How modalities go missing.", elem_id="protocol")
        metric = gr.Radio([], label="Metric of the curves", elem_id="metric")
        methods = gr.CheckboxGroup([], label="Methods", elem_id="methods")
        status = status_line(WAITING, "benchmark-status")
        text = gr.HTML(elem_classes="report", elem_id="benchmark-text")
        figure = gr.Plot(show_label=False, container=False, visible=False, elem_id="benchmark-figure")
        against = gr.Dropdown([], label="Compared with", info="The other methods minus this one.", elem_id="against")
        tables = gr.HTML(elem_classes="report", elem_id="benchmark-tables")
        gr.HTML("<h2>What makes these figures</h2>", elem_classes="report")
        commands = gr.HTML(elem_classes="report", elem_id="benchmark-commands")
        copy = gr.Button("Copy the commands", size="sm", elem_id="benchmark-copy")
        live_section(live)
    drawn, listed = [figure, text, status], [tables, commands, status]
    every = [metric, methods, against, figure, text, tables, commands, status]
    tab.select(page.open, protocol, [protocol, statement, *every], **LIGHT)
    protocol.input(page.choose, protocol, every, **LIGHT)
    metric.input(page.curves, [protocol, metric, methods], drawn, **LIGHT, trigger_mode="always_last")
    methods.input(page.curves, [protocol, metric, methods], drawn, **LIGHT, trigger_mode="always_last")
    methods.input(page.tables, [protocol, methods, against], listed, **LIGHT, trigger_mode="always_last")
    against.input(page.tables, [protocol, methods, against], listed, **LIGHT, trigger_mode="always_last")
    copy.click(None, None, status, js=COPY.format("benchmark-commands"), api_visibility="private")
