"""What stands in a report and in the reproduction log, in order."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from imder.baselines import BASELINES
from imder.evaluation.metrics import CLASSES
from imder.evaluation.table import text
from imder.report.blocks import DASH, Block, Bullets, Heading, Listing, Part, Table, Text, plain
from imder.report.compare import difference_tables, findings, findings_table, references
from imder.report.curves import rate_figures
from imder.report.real import known_panels, section
from imder.report.reported import Reported, read_reported
from imder.report.results import (
    BUNDLED,
    FIXED,
    UNEQUAL,
    Column,
    Panel,
    command_for,
    data_name,
    elsewhere,
    place_name,
)
from imder.report.tables import (
    METRIC_NAMES,
    PROTOCOLS,
    percent,
    prediction_tables,
    reported_tables,
    rows_of,
)

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def report(panels: Sequence[Panel], against: str | None, *, figures: bool, level: int = 2) -> list[Block]:
    """Tables by rate and by pattern with their differences, what the paper reports, and its ordering."""
    compared = references(panels, against)
    real = known_panels(panels)
    own = [panel for panel in panels if data_name(panel) not in real]
    blocks = _report(own, [compared[panels.index(panel)] for panel in own], figures, level) if own else []
    for name, found in real.items():
        blocks += section(name, found, [compared[panels.index(panel)] for panel in found], level)
    return blocks


def _report(panels: Sequence[Panel], compared: Sequence[Sequence[Column]], figures: bool, level: int) -> list[Block]:
    """All of a report that is not of real data sets known here."""
    source, reported = read_reported()
    blocks: list[Block] = [Text(statement(panels))]
    rates = [i for i, panel in enumerate(panels) if panel.by_rate]
    patterns = [i for i, panel in enumerate(panels) if not panel.by_rate]
    blocks.append(Heading(level, "By missing rate"))
    if not rates:
        blocks.append(Text(f"These rows hold no missing rates; `{command_for('random')}` makes them."))
    for i in rates:
        blocks += _panel(panels[i], compared[i], _name(panels, i), level + 1)
        if figures and panels[i].one_rate:
            blocks += rate_figures(panels[i], reported)
    blocks += _reported(reported, source, elsewhere(panels), level)
    blocks += ordering(panels, level)
    blocks.append(Heading(level, "By what is available"))
    if not patterns:
        blocks.append(Text(f"These rows hold no fixed patterns; `{command_for('fixed')}` makes them."))
    for i in patterns:
        blocks += _panel(panels[i], compared[i], _name(panels, i), level + 1)
    return blocks


def log(panels: Sequence[Panel], against: str | None, paths: Sequence[Path], out: Path | None) -> list[Block]:
    """The reproduction log: what was run on what, all figures, seed by seed, the paper's ordering, and the commands."""
    blocks: list[Block] = [Heading(1, "Reproduction log")]
    names = ", ".join(f"`{path}`" for path in paths)
    blocks.append(Text(f"Made from the rows in {names}; no figure in it was typed."))
    blocks += [Heading(2, "What was run"), *(_run_table(panel) for panel in panels)]
    blocks += report(panels, against, figures=False)
    blocks.append(Heading(2, "Seed by seed"))
    blocks.append(
        Text(
            "A seed is one of the masks (by rate) and of the noise of the draws; the training of a run is not repeated "
            "for it. Methods share the masks of a seed."
        )
    )
    real = known_panels(panels)  # of which one seed is shown
    blocks += [_seed_table(panel) for panel in panels if data_name(panel) not in real]
    blocks += [Heading(2, "How to make it again"), Text(_again(panels))]
    command = ["python", "-m", "imder", "report", *map(str, paths), "--format", "log"]
    command += ["--against", against] if against else []
    command += ["--out", str(out)] if out else []
    files = dict.fromkeys(panel.file or paths[0] for panel in panels)
    made = [commands([p for p in panels if (p.file or paths[0]) == file], file) for file in files]
    blocks.append(Listing((*(line for lines in made for line in lines), shlex.join(command))))
    return blocks


def statement(panels: Sequence[Panel]) -> str:
    """What kind of data the figures are on, so that nobody takes them for others."""
    own = list(dict.fromkeys(panel.data for panel in panels if data_name(panel) == BUNDLED))
    others = list(dict.fromkeys(panel.data for panel in panels if panel.data not in own))
    said = []
    if own:
        said.append(
            f"The bundled corpus, {', '.join(own)}, is synthetic: no figure measured on it is one on CMU-MOSI, "
            "CMU-MOSEI or CH-SIMS."
        )
    if others:
        said.append(
            f"{', '.join(others)}: not the bundled corpus; what these data are is for whoever made the rows to say."
        )
    said.append(f"What the paper reports stands apart, is marked so, and is {elsewhere(panels)}.")
    return " ".join(said)


def _name(panels: Sequence[Panel], i: int) -> str:
    """The heading of a panel."""
    return f"Protocol: {panel_name(panels, i)}"


def panel_name(panels: Sequence[Panel], i: int) -> str:
    """The panel's protocol, and its data where there are several."""
    panel = panels[i]
    name = PROTOCOLS.get(panel.protocol, panel.protocol)
    several = len({(p.data, p.split, p.limit) for p in panels}) > 1
    return name + (f"; {panel.data}, {panel.split}, {panel.clips} clips" if several else "")


def _panel(panel: Panel, compared: Sequence[Column], name: str, level: int) -> list[Block]:
    tables = prediction_tables(panel)
    tables += [table for column in compared for table in difference_tables(panel, column)]
    return [Heading(level, name), *tables]


def _reported(reported: Sequence[Reported], source: str, where: str, level: int) -> list[Block]:
    return [
        Heading(level, f"Reported by the paper, {where}"),
        Text("Copied from the supplement to stand beside the tables by missing rate; nothing of it was measured here."),
        *reported_tables(reported, source, where),
    ]


def ordering(panels: Sequence[Panel], level: int) -> list[Block]:
    """What agrees with the paper's ordering and what does not, panel by panel."""
    blocks: list[Block] = [Heading(level, "The paper's ordering")]
    blocks.append(
        Text(
            "The paper reports IMDer above GCNet above MMIN, and recovery with the condition above recovery without "
            f"it, in ACC2 at every missing rate above 0, {elsewhere(panels)}. Here:"
        )
    )
    rates = [(i, p) for i, p in enumerate(panels) if p.one_rate and p.missing and p.scale != CLASSES]
    if not rates:
        blocks.append(Text(f"There are no rows by missing rate to look at; `{command_for('random')}` makes them."))
    for i, panel in rates:
        found, absent = findings(panel)
        if len(rates) > 1:
            blocks.append(Heading(level + 1, _name(panels, i)))
        blocks.append(Bullets((*(one.sentence() for one in found), *(f"Cannot be looked at: {why}" for why in absent))))
        if found:
            blocks.append(findings_table(panel, found))
    return blocks


def _run_table(panel: Panel) -> Table:
    body = []
    for column in panel.columns:
        sampler = DASH
        if column.sampler:
            sampler = f"{column.sampler}, {column.steps} steps, {panel.nfe[column]} evaluations"
            sampler += f", guidance {column.guidance:g}" if column.guidance is not None else ""
        elif panel.nfe.get(column):
            sampler = f"{panel.nfe[column]} evaluation"
        seeds = panel.seeds(column)
        body.append(
            tuple(
                plain(said)
                for said in (
                    column.title,
                    column.run,
                    ", ".join(map(str, seeds)) or DASH,
                    sampler,
                    column.variant or "one answer",
                )
            )
        )
    where = ", ".join(place_name(place) for place in panel.places)
    what = "Missing rates" if panel.by_rate else "Available"
    clips = f"{panel.clips} clips" + (" (a selection)" if panel.limit else "")
    stored = "Predictions of every clip are stored." if panel.entries else "Predictions of clips are not stored."
    return Table(
        title=f"{panel.data}, split {panel.split}, {clips}, protocol {panel.protocol}",
        caption=f"{what}: {where}. A run is a folder's name and a digest of what it holds. {stored}",
        head=("method", "run", "seeds", "sampler", "shown"),
        body=tuple(body),
        width=4,
    )


def _seed_table(panel: Panel) -> Table:
    """One row a method and seed: the accuracies and MAE at every place, and their mean where something is missing."""
    metrics = (*panel.accuracies, *panel.errors[:1])
    single, averages = rows_of(panel)
    wanted = single + averages[:1]
    body = []
    for column in panel.columns:
        for seed in sorted(
            {s for place in panel.places for s in panel.figures.get((column, place, panel.leading), {})}
        ):
            cells = []
            for _, places in wanted:
                values = [[panel.figures.get((column, p, m), {}).get(seed) for p in places] for m in metrics]
                cells.append(
                    plain(DASH)
                    if all(None in row for row in values)
                    else tuple(Part(_shown(m, row)) for m, row in zip(metrics, values, strict=True))
                )
            body.append((plain(column.title), plain(str(seed)), *cells))
    figures = " / ".join(METRIC_NAMES[metric] for metric in metrics)
    return Table(
        title=f"{figures} seed by seed ({PROTOCOLS.get(panel.protocol, panel.protocol)})",
        caption=f"{panel.data}, {panel.split}, {panel.clips} clips; shares in percent.",
        head=("method", "seed", *(name for name, _ in wanted)),
        body=tuple(body),
        stubs=2,
        width=4,
    )


def _shown(metric: str, values: Sequence[float | None]) -> str:
    told = [value for value in values if value is not None]
    if len(told) < len(values):
        return DASH
    mean = sum(told) / len(told)
    return text(mean, 3) if metric == "mae" else percent(mean)


def _again(panels: Sequence[Panel]) -> str:
    said = (
        "Rows that are there already are not computed again; the stored masks and seeds give the same rows. How a run "
        "was trained is told by the model card in its folder."
    )
    if all(_bundled(column) for panel in panels for column in panel.columns):
        return said
    return said + " Rows hold the name of a run's folder, not where it lies."


def _bundled(column: Column) -> bool:
    return (CHECKPOINTS / column.folder).is_dir()


def _folder(column: Column) -> Path:
    return Path("checkpoints" if _bundled(column) else "", column.folder)


def commands(panels: Sequence[Panel], rows: Path) -> list[str]:
    """The evaluations that the panels came from: runs and protocols that were asked the same share a command."""
    asked: dict[tuple[str, ...], dict[tuple[str, tuple[str, ...]], None]] = {}  # options of a run: its protocols
    for panel in panels:
        for run, columns in _by_run(panel).items():
            for own in columns:
                asked.setdefault((run, *_options(panel, own)), {})[panel.protocol, _rates(panel)] = None
    shared: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for (run, *options), protocols in asked.items():
        for names, rates in _together(list(protocols)):
            shared.setdefault((tuple(options), names, rates), []).append(run)
    lines = []
    for (options, names, rates), runs in shared.items():
        words = ["python", "-m", "imder", "evaluate", "--run", *dict.fromkeys(runs), "--protocol", *names]
        words += ["--rates", *rates] if rates else []
        lines.append(shlex.join([*words, *options, "--out", str(rows)]))
    return lines


def _by_run(panel: Panel) -> dict[str, list[list[Column]]]:
    """By run folder the columns that one evaluation makes: what is not drawn goes with the first sampler."""
    runs: dict[str, dict[tuple[object, ...], list[Column]]] = {}
    for column in sorted(panel.columns, key=lambda column: column.sampler is None):
        own = runs.setdefault(str(_folder(column)), {})
        key = (column.sampler, column.steps) if column.sampler else next(iter(own), (None, None))
        own.setdefault(key, []).append(column)
    return {run: list(own.values()) for run, own in runs.items()}


def _options(panel: Panel, columns: Sequence[Column]) -> list[str]:
    name = data_name(panel)
    words = ["--data", "bundled" if name == BUNDLED else name]
    if any(column.method not in BASELINES for column in columns):  # another model has one method, its own
        words += ["--methods", *(column.method for column in columns)]
    drawn = [column for column in columns if column.sampler]
    if drawn:
        counts = sorted({count for column in drawn for count in panel.counts[column] if count > 1}) or [1]
        words += ["--draws", *map(str, counts), "--sampler", str(drawn[0].sampler), "--steps", str(drawn[0].steps)]
        guided = [column.guidance for column in drawn if column.method == "imder"]
        words += ["--guidance", f"{guided[0]:g}"] if guided and guided[0] not in (None, 1.0) else []
    words += ["--seeds", str(1 + max((seed for column in columns for seed in panel.seeds(column)), default=0))]
    words += ["--split", panel.split] if panel.split != "test" else []
    return words + (["--limit", str(panel.limit)] if panel.limit else [])


def _rates(panel: Panel) -> tuple[str, ...]:
    """The panel's rates as the command line takes them."""
    if not panel.by_rate:
        return ()
    return tuple(
        f"{place:g}" if isinstance(place, float) else re.sub(r"([LAV])([.\d]+)", r"\1=\2", place).replace("-", ",")
        for place in panel.places
    )


def _together(protocols: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Protocols that one command can ask for, with all its rates: those of one number must be the same."""
    groups: list[tuple[list[str], list[str]]] = []
    for name, rates in sorted(protocols, key=lambda one: one[0] in (FIXED, UNEQUAL)):
        for names, all_rates in groups:
            single = [rate for rate in all_rates if "=" not in rate]
            if name in (FIXED, UNEQUAL) or list(rates) == single:
                names.append(name)
                all_rates += [rate for rate in rates if rate not in all_rates]
                break
        else:
            groups.append(([name], list(rates)))
    return [(tuple(names), tuple(rates)) for names, rates in groups]
