"""The part of a report on real data sets: what they can show, what was recovered, and what was predicted."""

from __future__ import annotations

from collections.abc import Sequence

from imder.evaluation.metrics import CLASSES, confusion
from imder.evaluation.table import Told, recoveries
from imder.report.blocks import DASH, Block, Bullets, Heading, Listing, Table, Text, plain
from imder.report.compare import difference_tables
from imder.report.known import KNOWN, Known
from imder.report.results import FIXED, Column, Panel, Place, data_name
from imder.report.tables import PROTOCOLS, percent, prediction_tables

#: Of which patterns a matrix of the predicted classes is shown.
SHOWN: tuple[Place, ...] = (("audio",), ("vision",), ("text", "audio", "vision"))
#: Fewer speakers than this are not resampled.
LEAST = 10
CAPTIONS = {
    "Feature error": "Mean squared error a dimension of the latents in units of their variance on the training clips, "
    "where mean fill is 1 (on other speakers it is what the first column says).",
    "Energy distance and coverage": "Energy distance between recovered and real clips; its floors are real against "
    "real: random halves of the split, ± their deviation, and training clips, other speakers, against the split. "
    "Coverage is the share of true values between the 5 % and 95 % quantile of the draws, beside what "
    "exact draws give.",
    "Class read out of what was recovered": "Accuracy of a linear classifier of one modality, trained on its real "
    "training clips alone: asked about the real clips, and about what was recovered in their place.",
}


def known_panels(panels: Sequence[Panel]) -> dict[str, list[Panel]]:
    """The panels of the real data sets that are known here, by name."""
    found: dict[str, list[Panel]] = {}
    for panel in panels:
        if (name := data_name(panel)) in KNOWN:
            found.setdefault(name, []).append(panel)
    return found


def section(name: str, panels: Sequence[Panel], compared: Sequence[Sequence[Column]], level: int) -> list[Block]:
    """What a data set is and can show, then panel by panel its tables; `compared`: the references of each panel."""
    known = KNOWN[name]
    blocks: list[Block] = [Heading(level, known.title), Text(known.what), Text("What its figures can show:")]
    blocks += [Bullets(known.can), Text("What they cannot:"), Bullets(known.cannot)]
    blocks += [Text("The files are not part of this project and no run trained on them is; these make one:")]
    blocks.append(Listing(known.commands))
    for panel, references in zip(panels, compared, strict=True):
        protocol = PROTOCOLS.get(panel.protocol, panel.protocol)
        blocks.append(Heading(level + 1, f"{panel.data}, {panel.split}, {panel.clips} clips: {protocol}"))
        blocks += prediction_tables(panel)
        if panel.entries and (speakers := _speakers(panel)) < LEAST:
            blocks.append(Text(f"The split has {speakers} speakers: too few to draw intervals of differences over."))
        else:
            blocks += [table for column in references for table in difference_tables(panel, column)]
        if panel.protocol == FIXED:
            blocks += [_recovered(told) for told in recoveries(panel.rows)]
        if panel.scale == CLASSES:
            blocks += confusions(panel, known)
    return blocks


def _speakers(panel: Panel) -> int:
    """How many videos or speakers the clips are of, those that a bootstrap draws together."""
    return len({video for entry in panel.entries.values() for video in entry.clips.videos})


def _recovered(told: Told) -> Table:
    """Without the columns of what was not measured."""
    kept = [i for i in range(len(told.head)) if any(line[i] != DASH for line in told.body)]
    head, *body = (tuple(line[i] for i in kept) for line in (told.head, *told.body))
    cells = tuple(tuple(map(plain, line)) for line in body)
    return Table(told.name, CAPTIONS[told.name] + " L language, A voice, V face.", head, cells)


def confusions(panel: Panel, known: Known) -> list[Table]:
    """Of IMDer the clips of each class by what was predicted, for a few patterns."""
    tables = []
    for column in panel.columns:
        for place in SHOWN:
            entries = [panel.entries.get((column, place, seed)) for seed in panel.seeds(column)]
            if column.method != "imder" or not entries or None in entries:
                continue
            counts = sum(confusion(one.prediction, one.clips.label, len(known.classes)) for one in entries)
            body = [
                (plain(name), *(plain(str(n)) for n in line), plain(percent(line[i] / max(1, line.sum()))))
                for i, (name, line) in enumerate(zip(known.classes, counts, strict=True))
            ]
            there = "everything" if len(place) == 3 else {"audio": "voice", "vision": "face"}[place[0]] + " alone"
            tables.append(
                Table(
                    title=f"{column.title}: classes predicted from {there}",
                    caption="A row is a true class, a column what was predicted, in clips"
                    + (f" of {len(entries)} seeds" if len(entries) > 1 else "")
                    + "; the last column is the share that was right, in percent.",
                    head=("true class", *known.classes, "right"),
                    body=tuple(body),
                    width=9,
                )
            )
    return tables
