"""Differences between methods on the same clips and masks, and whether the paper's ordering holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imder.evaluation.significance import LEVEL, LOWER, paired_bootstrap
from imder.evaluation.table import TITLES, text
from imder.report.blocks import DASH, Table, plain
from imder.report.results import COMPARED, Column, Panel, Place
from imder.report.tables import METRIC_NAMES, PROTOCOLS, rows_of

AGREES, DISAGREES, OPEN = "agrees", "disagrees", "not resolved"


@dataclass(frozen=True)
class Gap:
    """Figure of one column minus that of another; without predictions there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def resolved(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def verdict(self) -> str:
        """Whether the first is above the second, for a metric of which more is better."""
        return OPEN if not self.resolved else AGREES if self.value > 0 else DISAGREES


@dataclass(frozen=True)
class Claim:
    """An ordering of the paper at every missing rate above 0, in ACC2."""

    above: str
    below: str
    same_run: bool  # only columns of one run and sampler are compared
    where: str


CLAIMS = (
    Claim("imder", "gcnet", False, "supplement, Table 3, CH-SIMS"),
    Claim("gcnet", "mmin", False, "supplement, Table 3, CH-SIMS"),
    Claim("imder", "unconditional", True, "supplement, Table 2, CMU-MOSI and CMU-MOSEI"),
)


@dataclass(frozen=True)
class Finding:
    """One claim for one pair of columns of a panel; `gaps[place]`, and `average` over them."""

    claim: Claim
    above: Column
    below: Column
    gaps: dict[Place, Gap | None]
    average: Gap | None

    @property
    def title(self) -> str:
        return f"{self.above.title} above {self.below.title}"

    def sentence(self) -> str:
        """How often it agrees, in words."""
        told = [gap for gap in self.gaps.values() if gap is not None]
        counts = {verdict: sum(gap.verdict == verdict for gap in told) for verdict in (AGREES, DISAGREES, OPEN)}
        said = ", ".join(f"{verdict} at {count}" for verdict, count in counts.items())
        said = f"{self.title} ({self.claim.where}): of {len(told)} rates {said}"
        if any(gap.low is None for gap in told):
            said += "; without predictions there is no interval, so nothing is resolved"
        if self.average is not None:
            said += f"; average difference {gap_text(self.average, 'acc2')}, {self.average.verdict}"
        return said + "."


def gap(panel: Panel, a: Column, b: Column, places: Sequence[Place], metric: str) -> Gap | None:
    """Figure of `a` minus that of `b` over those places and the seeds that both have; None where there is no such pair:
    one lacks a place, or its masks are others."""
    seeds = _common(panel, (a, b), places, metric)
    if not seeds:
        return None
    cells = [[(column, place, seed) for place in places for seed in seeds[column]] for column in (a, b)]
    if any(panel.masks[one] != panel.masks[other] for one, other in zip(*cells, strict=True)):
        return None
    pairs = [tuple(map(panel.entries.get, pair)) for pair in zip(*cells, strict=True)]
    if any(one is None for pair in pairs for one in pair):
        figures = [[panel.figures[column, place, metric][seed] for column, place, seed in own] for own in cells]
        if any(None in values for values in figures):
            return None
        return Gap(float(np.mean(figures[0]) - np.mean(figures[1])))
    clips = pairs[0][0].clips
    for entry in (one for pair in pairs for one in pair):
        if entry.clips.ids != clips.ids or not np.array_equal(entry.clips.label, clips.label):
            raise ValueError(f"{entry.data}, {entry.split}: predictions of {a.title} and {b.title} are of other clips")
    first, second = (np.stack([pair[i].prediction for pair in pairs]) for i in (0, 1))
    found = paired_bootstrap(first, second, clips.label, metric, clips.videos, scale=panel.scale)
    return Gap(found.value, found.low, found.high) if np.isfinite(found.value) else None


def _common(
    panel: Panel, columns: Sequence[Column], places: Sequence[Place], metric: str
) -> dict[Column, list[int]] | None:
    """The seeds of each column to be paired, as many of each; an answer that no seed changes stands for all of them."""
    own = {
        column: set.intersection(*(set(panel.figures.get((column, place, metric), {})) for place in places))
        for column in columns
    }
    if not all(own.values()):
        return None
    told = [seeds for column, seeds in own.items() if not panel.one_answer(column)]
    seeds = sorted(set.intersection(*told)) if told else [0]
    return {c: [min(own[c])] * len(seeds) if panel.one_answer(c) else seeds for c in columns} if seeds else None


def references(panels: Sequence[Panel], wanted: str | None) -> dict[int, list[Column]]:
    """The columns that `METHOD` or `METHOD@RUN` names, by panel; of None IMDer's first run on the panel's data.

    ValueError where there is no such column.
    """
    name, _, run = (wanted or "imder").partition("@")
    first: dict[str, str] = {}
    for panel in panels if wanted is None else ():
        for column in panel.columns:
            if column.method == name:
                first.setdefault(panel.data, column.run)
    found = {}
    for i, panel in enumerate(panels):
        own = first.get(panel.data, "") if wanted is None else run
        found[i] = [c for c in panel.columns if c.method == name and (not own or own in (c.run, c.folder))]
    if wanted is not None and not any(found.values()):
        there = dict.fromkeys(column.method for panel in panels for column in panel.columns)
        runs = dict.fromkeys(column.folder for panel in panels for column in panel.columns)
        raise ValueError(
            f"--against: {wanted!r} is not in these rows; there are {', '.join(there)}, each alone or with @ and a run "
            f"of {', '.join(runs)}"
        )
    return found


def difference_tables(panel: Panel, reference: Column) -> list[Table]:
    """ACC2 and MAE (of classes accuracy and F1) of every other column minus the reference's, with intervals."""
    others = [column for column in panel.columns if column != reference]
    if not others:
        return []
    single, averages = rows_of(panel)
    tables = []
    for metric in COMPARED[panel.scale]:
        body = []
        for name, places in single + averages:
            gaps = [gap(panel, column, reference, places, metric) for column in others]
            body.append((plain(name), *(plain(gap_text(one, metric)) for one in gaps)))
        unit = "MAE" if metric in LOWER else f"{METRIC_NAMES[metric]}, points"
        tables.append(
            Table(
                title=f"Difference to {reference.title}: {unit} ({PROTOCOLS.get(panel.protocol, panel.protocol)})",
                caption=_caption(panel, reference, metric),
                head=("MR" if panel.by_rate else "available", *(column.title for column in others)),
                body=tuple(body),
                averages=len(averages),
                width=4,
            )
        )
    return tables


def _caption(panel: Panel, reference: Column, metric: str) -> str:
    better = "less" if metric in LOWER else "more"
    said = f"Method minus {reference.title}; {better} is better, on the same clips, masks and seeds. "
    if not panel.entries:
        return said + "No predictions stand beside these rows, so there are no intervals."
    return said + (
        f"In brackets the {LEVEL:.0%} interval of a paired bootstrap over clips, those of a video drawn together; "
        "* where 0 lies outside it. It tells what other clips might have given, not other training runs, and no "
        "allowance is made for the number of comparisons."
    )


def gap_text(found: Gap | None, metric: str) -> str:
    """`−3.2 [−4.1, −2.2]*`: points for shares, plain for MAE."""
    if found is None:
        return DASH
    said = signed(found.value, metric)
    if found.low is None or found.high is None:
        return said
    return f"{said} [{signed(found.low, metric)}, {signed(found.high, metric)}]" + ("*" if found.resolved else "")


def signed(value: float, metric: str) -> str:
    """A number with its sign, none before what is printed as 0."""
    shown = text(abs(value), 3) if metric in LOWER else f"{100 * abs(value):.1f}"
    sign = "" if not float(shown) else "−" if value < 0 else "+"
    return sign + shown


def findings(panel: Panel) -> tuple[list[Finding], list[str]]:
    """What became of the paper's orderings in a panel by rate, and a sentence for each that cannot be looked at."""
    found, absent = [], []
    for claim in CLAIMS:
        pairs = [
            (a, b)
            for a in panel.columns
            for b in panel.columns
            if (a.method, b.method) == (claim.above, claim.below)
            and (not claim.same_run or (a.run, a.sampler, a.steps) == (b.run, b.sampler, b.steps))
        ]
        if not pairs:
            there = {column.method for column in panel.columns}
            lacking = [TITLES[name] for name in (claim.above, claim.below) if name not in there]
            why = f"no rows of {' and '.join(lacking)}" if lacking else "no two columns of one run"
            absent.append(f"{TITLES[claim.above]} above {TITLES[claim.below]} ({claim.where}): {why}.")
        for a, b in pairs:
            gaps = {place: gap(panel, a, b, (place,), "acc2") for place in panel.missing}
            average = gap(panel, a, b, panel.missing, "acc2") if len(panel.missing) > 1 else None
            found.append(Finding(claim, a, b, gaps, average))
    return found, absent


def findings_table(panel: Panel, found: Sequence[Finding]) -> Table:
    """The verdict at every rate with its difference in points of ACC2."""
    single, averages = rows_of(panel)
    wanted = [(name, places) for name, places in single + averages[:1] if set(places) <= set(panel.missing)]
    body = []
    for name, places in wanted:
        gaps = [one.gaps[places[0]] if len(places) == 1 else one.average for one in found]
        body.append((plain(name), *(plain(_verdict(one)) for one in gaps)))
    return Table(
        title=f"The paper's ordering in ACC2 ({PROTOCOLS.get(panel.protocol, panel.protocol)})",
        caption="A difference in points and whether it agrees: it does where the whole interval lies above 0, and "
        "disagrees where it lies below.",
        head=("MR", *(one.title for one in found)),
        body=tuple(body),
        averages=int(len(wanted[-1][1]) > 1) if wanted else 0,
        width=3,
    )


def _verdict(found: Gap | None) -> str:
    return DASH if found is None else f"{found.verdict}: {gap_text(found, 'acc2')}"
