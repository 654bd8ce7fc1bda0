"""The paper's tables from a panel: a row a missing rate or pattern, a column a method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

from imder.evaluation.significance import LOWER
from imder.evaluation.table import lacks_said, text
from imder.modality import missing
from imder.report.blocks import DASH, Cell, Part, Table, best_marked, plain
from imder.report.reported import Reported
from imder.report.results import Column, Panel, Place, place_name

METRIC_NAMES = {
    "mae": "MAE", "corr": "Corr", "acc2": "ACC2", "f1": "F1", "acc5": "ACC5", "acc7": "ACC7",
    "accuracy": "accuracy", "f1_weighted": "F1 weighted", "f1_macro": "F1 unweighted",
}  # fmt: skip
PROTOCOLS = {
    "random": "random missing",
    "fixed": "fixed missing",
    "batchwise": "one mask a batch",
    "unequal": "random missing, a rate a modality",
}

Wanted = tuple[str, tuple[Place, ...]]  # a row's name and the places that it is the mean of


def percent(value: float) -> str:
    """`84.9` for 0.849."""
    return f"{100 * value:.1f}"


def accuracy_table(panel: Panel) -> Table:
    """ACC2, F1 and ACC7 (ACC5) in percent, as the paper prints them; of classes accuracy and both F1."""
    return _table(panel, panel.accuracies, lambda column, places, metric, value: percent(value), spread=False)


def prediction_tables(panel: Panel) -> list[Table]:
    """The tables of a panel's predictions."""
    return [accuracy_table(panel), error_table(panel)] if panel.errors else [accuracy_table(panel)]


def error_table(panel: Panel) -> Table:
    """MAE and correlation, with their standard deviation over seeds where there are several."""

    def shown(column: Column, places: Sequence[Place], metric: str, value: float) -> str:
        deviation = panel.deviation(column, places, metric)
        return text(value, 3) + ("" if deviation is None else f" ± {text(deviation, 3)}")

    return _table(panel, ("mae", "corr"), shown, spread=True)


def rows_of(panel: Panel) -> tuple[list[Wanted], list[Wanted]]:
    """The places of a panel, and its averages: over those with something missing, and over all if there are more."""
    single = [(place_name(place), (place,)) for place in panel.places]
    averages = [(average_name(panel, panel.missing), panel.missing)] if len(panel.missing) > 1 else []
    if panel.missing and len(panel.missing) < len(panel.places):
        averages.append((average_name(panel, panel.places), panel.places))
    return single, averages


def average_name(panel: Panel, places: Sequence[Place]) -> str:
    """`average .1–.7` where rates stand a tenth apart, else what it is over."""
    if panel.protocol == "unequal":
        return "average"
    if not panel.by_rate:
        return "average of the incomplete" if places == panel.missing else "average of all"
    evenly = all(math.isclose(b - a, 0.1) for a, b in pairwise(places))
    names = [place_name(place).removesuffix(" (2/3)") for place in places]
    return f"average {names[0]}–{names[-1]}" if evenly and len(names) > 2 else f"average of {', '.join(names)}"


def _table(
    panel: Panel, metrics: Sequence[str], shown: Callable[[Column, Sequence[Place], str, float], str], spread: bool
) -> Table:
    single, averages = rows_of(panel)
    body = []
    for name, places in single + averages:
        by_metric = []
        for metric in metrics:
            values = [panel.value(column, places, metric) for column in panel.columns]
            texts = [
                None if value is None else shown(column, places, metric, value)
                for column, value in zip(panel.columns, values, strict=True)
            ]
            # Judged as printed, without the deviation: two figures that look equal are both best.
            by_metric.append(
                [
                    Part(whole.text if value is None else str(said), whole.best)
                    for whole, said, value in zip(
                        best_marked([_bare(t) for t in texts], values, metric in LOWER), texts, values, strict=True
                    )
                ]
            )
        cells = [_joined(parts) for parts in zip(*by_metric, strict=True)]
        stub = [plain(name)]
        if panel.by_rate:
            realised = [panel.realised[place] for place in places]
            stub.append(plain(text(sum(realised) / len(realised), 3)))
        body.append((*stub, *cells))
    figures = " / ".join(METRIC_NAMES[metric] for metric in metrics)
    what = "by missing rate" if panel.by_rate else "by what is available"
    protocol = PROTOCOLS.get(panel.protocol, panel.protocol)
    head = ("MR", "realised") if panel.by_rate else ("available",)
    return Table(
        title=f"{figures} {what} ({protocol})",
        caption=_caption(panel, metrics, spread),
        head=(*head, *(column.title for column in panel.columns)),
        body=tuple(body),
        stubs=len(head),
        averages=len(averages),
    )


def _bare(shown: str | None) -> str | None:
    return None if shown is None else shown.partition(" ± ")[0]


def _joined(parts: Sequence[Part]) -> Cell:
    return plain(DASH) if all(part.text == DASH for part in parts) else tuple(parts)


def _caption(panel: Panel, metrics: Sequence[str], spread: bool) -> str:
    said = [f"{panel.data}, {panel.split}, {panel.clips} clips" + (" (a selection)." if panel.limit else ".")]
    if panel.by_rate:
        rates = "rate of each modality" if panel.protocol == "unequal" else "missing rate"
        said.append(f"MR is the nominal {rates}, beside it the realised one.")
    else:
        said.append("L language, A voice, V face.")
        if panel.whole and (lacks := missing(panel.whole)):
            said.append(lacks_said(lacks))
    figures = ("in percent, " if metrics == panel.accuracies else "") + f"{seeds_said(panel)}."
    said.append(figures[0].upper() + figures[1:])
    if metrics == panel.accuracies and panel.scale == "mosi":
        said.append("ACC2 and F1 leave out clips labelled 0.")
    if spread and any(len(panel.seeds(column)) > 1 for column in panel.columns):
        said.append("± is the standard deviation over seeds.")
    if len(panel.columns) > 1:
        said.append("The best of each figure in a row is bold.")
    said += variants_said(panel)
    if any(panel.value(column, panel.places, metric) is None for column in panel.columns for metric in metrics):
        said.append("A dash: not measured, and so in no average.")
    return " ".join(said)


def seeds_said(panel: Panel) -> str:
    """`mean over seeds 0 to 4`, and which methods have others."""
    drawn = [column for column in panel.columns if not panel.one_answer(column)]
    if drawn and len(drawn) < len(panel.columns) and any(len(panel.seeds(column)) > 1 for column in drawn):
        return f"{_seeds_said(panel, drawn)}; methods that draw nothing have one answer"
    return _seeds_said(panel, panel.columns)


def _seeds_said(panel: Panel, columns: Sequence[Column]) -> str:
    by: dict[tuple[int, ...], list[str]] = {}
    for column in columns:
        by.setdefault(panel.seeds(column), []).append(column.title)
    most = max(by, key=lambda seeds: (len(by[seeds]), len(seeds)))
    said = numbers(most)
    others = [f"{', '.join(titles)}: {numbers(seeds)}" for seeds, titles in by.items() if seeds != most]
    return said + (f" ({'; '.join(others)})" if others else "")


def numbers(seeds: Sequence[int]) -> str:
    """`mean over seeds 0 to 4`, `seed 0`, or that no seed has every place."""
    if not seeds:
        return "no seed with every place"
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    together = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    listed = f"{seeds[0]} to {seeds[-1]}" if together and len(seeds) > 2 else ", ".join(map(str, seeds))
    return f"mean over seeds {listed}"


def variants_said(panel: Panel) -> list[str]:
    """One sentence for each way in which outputs were made into a figure."""
    told = sorted((column for column in panel.columns if column.variant), key=lambda column: column.variant)
    return [
        f"Shown for {', '.join(column.title for column in columns)}: {variant}."
        for variant, columns in ((v, list(c)) for v, c in groupby(told, key=lambda column: column.variant))
    ]


def reported_tables(reported: Sequence[Reported], source: str, where: str) -> list[Table]:
    """The supplement's tables, marked as reported, `where` on other data."""
    tables = []
    for (number, data), group in groupby(reported, key=lambda one: (one.table, one.data)):
        columns = list(group)
        rates = columns[0].rates
        body = []
        for i in range(len(rates) + 1):
            row = [one.values[i] if i < len(rates) else one.average for one in columns]
            by_metric = [
                best_marked([f"{values[j]:.1f}" for values in row], [values[j] for values in row], False)
                for j in range(len(columns[0].metrics))
            ]
            name = place_name(rates[i]) if i < len(rates) else average_of(rates)
            body.append((plain(name), *zip(*by_metric, strict=True)))
        figures = " / ".join(METRIC_NAMES[metric] for metric in columns[0].metrics)
        tables.append(
            Table(
                title=f"Reported for {data}: {figures} (random missing)",
                caption=f"Not measured here, and {where}. Source: {source}, Table {number}. "
                "In percent, the best of each figure in a row is bold; the average is the printed one.",
                head=("MR", *(one.name for one in columns)),
                body=tuple(body),
                averages=1,
            )
        )
    return tables


def average_of(rates: Sequence[float]) -> str:
    """The name of the paper's average, over all of its rates."""
    return f"average {place_name(rates[0])}–{place_name(rates[-1]).removesuffix(' (2/3)')}"
