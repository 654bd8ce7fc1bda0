"""The stored rows as Markdown tables: recovery by pattern, predictions by pattern or missing rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imder.baselines import BASELINES
from imder.evaluation.rows import Row
from imder.evaluation.study import CONTROLS, DRAWN
from imder.modality import MODALITIES, SYMBOLS, missing, names_of, patterns, symbols

TITLES = {
    "imder": "IMDer",
    "imder-mean": "conditional mean",
    "unconditional": "unconditional",
    "zero": "zero fill",
    "mean": "mean fill",
    "knn": "kNN",
    "ridge": "ridge",
    "shuffled": "given another clip",
    **{kind: model.title for kind, (model, _) in BASELINES.items()},
}
#: The number of draws whose mean is shown, where it is there; else the largest number.
SHOWN_DRAWS = 8
#: What is shown of a prediction, by name: of sentiments, and where labels are classes.
SENTIMENT = {"mae": "Mean absolute error of the predicted sentiment", "acc2": "Two-class accuracy"}
CLASSES = {"accuracy": "Accuracy of the predicted class", "f1_macro": "Unweighted F1 of the predicted class"}


class Rows:
    """Figures of one run on one split, found by what they are; several seeds are averaged."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.counts = sorted({row["draws"] for row in rows if row["method"] == "imder"})
        several = [count for count in self.counts if count > 1]
        self.shown = SHOWN_DRAWS if SHOWN_DRAWS in several else max(several, default=1)
        self.most = max(several, default=1)
        self.methods = [name for name in TITLES if any(row["method"] == name for row in rows)]

    @property
    def lacks(self) -> tuple[str, ...]:
        """The modalities of which the data have nothing: not there even where nothing is missing."""
        fixed = [row for row in self.rows if row["protocol"] == "fixed" and not row["nominal_missing_rate"]]
        return missing(fixed[0]["available"]) if fixed else ()

    def value(self, field: str = "value", **wanted: Any) -> float | None:
        """The mean over seeds of the rows with those fields; None where there are none."""
        found = [row[field] for row in self.rows if all(row[key] == v for key, v in wanted.items())]
        return float(np.mean(found)) if found and None not in found else None


def text(value: float | None, digits: int = 2) -> str:
    """`.69` for 0.69, a dash for what is not there."""
    if value is None:
        return "–"
    shown = f"{value:.{digits}f}"
    return shown.replace("0.", ".", 1) if abs(value) < 1 and shown.lstrip("-").startswith("0.") else shown


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(rows: Sequence[Row]) -> str:
    """All tables of the rows, a heading for each run, data set, split and sampler."""
    if not rows:
        raise ValueError("there are no rows to make a table of")
    sections: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        sections.setdefault((row["run"], row["data"], row["split"], row["limit"]), []).append(row)
    parts = []
    for (run, data, split, limit), found in sections.items():
        for sampler, used in by_sampler(found):
            clips = max(row["n"] for row in used)
            title = f"### {run}, {data}, {split}: {clips} clips" + (" (a selection)" if limit else "")
            if sampler:
                title += f"; {sampler[0]}, {sampler[1]} steps, {sampler[2]} evaluations, guidance {sampler[3]:g}"
            parts.append(title)
            if fixed := [row for row in used if row["protocol"] == "fixed"]:
                parts += _fixed(Rows(fixed))
            for protocol in ("random", "batchwise", "unequal"):
                if by_rate := [row for row in used if row["protocol"] == protocol]:
                    parts += _by_rate(Rows(by_rate), protocol)
    return "\n\n".join(parts)


def _sampler_of(row: Row, sampler: tuple[Any, ...]) -> bool:
    return (row["sampler"], row["steps"]) == sampler[:2] and (
        row["method"] == "unconditional" or row["guidance"] == sampler[3]
    )


@dataclass(frozen=True)
class Told:
    """A table of texts: its name, what is said of it in Markdown, and its cells."""

    name: str
    said: str
    head: list[str]
    body: list[list[str]]


def _fixed(rows: Rows) -> list[str]:
    names = patterns(rows.lacks)
    said = [lacks_said(rows.lacks)] if rows.lacks else []
    predicted = _predicted(rows, [(symbols(p), {"available": list(p)}) for p in names], "available")
    return [*said, *(part for one in recovery(rows) for part in (one.said, table(one.head, one.body))), *predicted]


def lacks_said(lacks: Sequence[str]) -> str:
    """What a table of data that lack a modality is to be read with."""
    return f"The data have no {names_of(lacks)}: {symbols(missing(lacks))} is all that a clip has."


def recoveries(rows: Sequence[Row]) -> list[Told]:
    """The tables of `recovery` for each run and sampler in the rows of one data set and split."""
    runs = dict.fromkeys(row["run"] for row in rows)
    return [
        told
        for run in runs
        for _, used in by_sampler([row for row in rows if row["run"] == run])
        for told in recovery(Rows(used))
    ]


def by_sampler(rows: Sequence[Row]) -> list[tuple[tuple[Any, ...] | None, list[Row]]]:
    """A run's rows for each sampler of its draws, with those that no sampler made."""
    drawn = {(r["sampler"], r["steps"], r["nfe"], r["guidance"]) for r in rows if r["method"] == "imder"}
    return [
        (sampler, [row for row in rows if row["method"] not in DRAWN or sampler is None or _sampler_of(row, sampler)])
        for sampler in sorted(drawn, key=str) or [None]
    ]


def recovery(rows: Rows) -> list[Told]:
    """What was recovered from each pattern: its error, its distribution and, of classes, what is read out of it."""
    if not any(row["metric"] == "feature_error" for row in rows.rows):
        return []
    n, most = rows.shown, rows.most
    controls = [method for method in CONTROLS if method in rows.methods]
    errors, distances = [], []
    for pattern in patterns(rows.lacks)[:-1]:
        for k in missing((*pattern, *rows.lacks)):
            name = f"{symbols(pattern)} → {SYMBOLS[k]}"
            where = {"available": list(pattern), "modality": k}

            def figure(method: str, metric: str, draws: int = 1, refined: bool = False, where=where) -> float | None:
                return rows.value(method=method, draws=draws, refined=refined, metric=metric, **where)

            shown = [figure(method, "feature_error") for method in ("mean", "zero", "knn", "ridge", "imder-mean")]
            shown += [figure("imder", "feature_error", n, refined) for refined in (False, True)]
            shown += [figure(method, "feature_error") for method in ("imder", "unconditional", *controls)]
            errors.append([name, *map(text, shown)])

            cover = {"metric": "coverage90", "draws": most} | where
            floor = {"method": "real", "metric": "energy_distance_floor", "modality": k}
            other = {"method": "real", "metric": "energy_distance_floor_train", "modality": k}
            distances.append(
                [
                    name,
                    *(text(figure(method, "energy_distance")) for method in ("imder", "unconditional")),
                    f"{text(rows.value(**floor))} ± {text(rows.value('se', **floor))}",
                    text(rows.value(**other)),
                    *(text(figure(method, "energy_distance")) for method in ("ridge", "mean")),
                    *(text(rows.value(method=method, **cover)) for method in ("imder", "unconditional")),
                    text(rows.value("exact", method="imder", **cover), 3),
                ]
            )
    head = ["available → recovered", "mean fill", "zero fill", "kNN", "ridge", "conditional mean", f"mean of {n} draws"]
    head += [f"D_k of mean of {n}", "one draw", "one unconditional draw"]
    head += [f"one draw {TITLES[method]}" for method in controls]
    energy = ["available → recovered", "one draw", "unconditional", "floor: halves", "floor: other speakers", "ridge"]
    energy += ["mean fill", f"coverage, {most} draws", "unconditional", "exact draws"]
    found = [
        Told("Feature error", "**Feature error** (a channel's variance on the training clips is 1)", head, errors),
        Told(
            "Energy distance and coverage",
            "**Energy distance to the real clips**, its floors (real against real: random halves of the split, ± their "
            "deviation; training clips, other speakers, against the split), **and coverage of 90 % intervals**",
            energy,
            distances,
        ),
    ]
    return [*found, _probes(rows)] if any(row["metric"] == "probe_accuracy" for row in rows.rows) else found


def _probes(rows: Rows) -> Told:
    """The accuracy of a linear classifier of real clips of one modality, asked about recovered ones."""
    n = rows.shown
    asked = [("imder", 1, False), ("imder", n, False), ("imder", n, True)]
    asked += [(m, 1, False) for m in ("ridge", "knn", "mean", "unconditional", "shuffled") if m in rows.methods]
    body = []
    for pattern in patterns(rows.lacks)[:-1]:
        for k in missing((*pattern, *rows.lacks)):
            own = {"metric": "probe_accuracy", "modality": k}
            values = [rows.value(method="real", **own)]
            for method, draws, refined in asked:
                wanted = {"method": method, "draws": draws, "refined": refined, "available": list(pattern)}
                values.append(rows.value(**wanted, **own))
            body.append([f"{symbols(pattern)} → {SYMBOLS[k]}", *map(text, values)])
    head = ["available → recovered", "real clips", "one draw", f"mean of {n} draws", f"D_k of mean of {n}"]
    return Told(
        "Class read out of what was recovered",
        "**Class read out of what was recovered**, by a linear classifier of that modality's real training clips alone",
        head + [TITLES[method] for method, _, _ in asked[3:]],
        body,
    )


def _predicted(rows: Rows, sets: Sequence[tuple[str, dict[str, Any]]], what: str) -> list[str]:
    """Two figures of the prediction, a row a method and a column a pattern or rate."""
    parts = []
    classes = any(row["metric"] in CLASSES for row in rows.rows)
    for metric, title in (CLASSES if classes else SENTIMENT).items():
        body = []
        for method in rows.methods:
            for draws, refined in _variants(rows, method):
                name = TITLES[method]
                if method in DRAWN:
                    name += ", one draw" if draws == 1 else f", mean over {draws} outputs"
                name += ", after D_k" if refined else ""
                wanted = {"method": method, "draws": draws, "refined": refined, "metric": metric}
                body.append([name, *(text(rows.value(**wanted, **where)) for _, where in sets)])
        parts += [f"**{title}**", table([f"method \\ {what}", *(name for name, _ in sets)], body)]
    return parts


def _variants(rows: Rows, method: str) -> list[tuple[int, bool]]:
    if method in DRAWN:
        counts = (1,) if rows.shown == 1 else (1, rows.shown)
        return [(count, refined) for count in counts for refined in (False, True)]
    return [(1, False), (1, True)] if method == "imder-mean" else [(1, False)]


def _by_rate(rows: Rows, protocol: str) -> list[str]:
    drawn = [row for row in rows.rows if row["method"] != "real"]
    rates = sorted({row["nominal_missing_rate"] for row in drawn})
    drawn = [row for row in drawn if row["metric"] in ("mae", "accuracy")]
    realised = {
        rate: float(np.mean([row["realised_missing_rate"] for row in drawn if row["nominal_missing_rate"] == rate]))
        for rate in rates
    }
    digits = 1 if protocol != "unequal" else 2
    sets = [(f"{text(r, digits)} ({text(realised[r])})", {"nominal_missing_rate": r}) for r in rates]
    body = []
    for method in rows.methods:
        for draws, refined in _variants(rows, method):
            name = TITLES[method] + (f", {draws} draws" if method in DRAWN else "")
            name += ", after D_k" if refined else ""
            wanted = {"method": method, "draws": draws, "refined": refined, "metric": "feature_error"}
            for k in MODALITIES:
                values = [rows.value(**wanted, modality=k, **where) for _, where in sets]
                if any(value is not None for value in values):
                    body.append([name, SYMBOLS[k], *map(text, values)])
    parts = []
    if body:
        title = f"**Feature error by missing rate (realised), {protocol} protocol**"
        parts = [title, table(["method", "recovered", *(name for name, _ in sets)], body)]
    what = "missing rate (realised)" + ("" if protocol == "random" else f", {protocol}")
    return [*parts, *_predicted(rows, sets, what)]
