"""`python -m imder report`: tables, differences, ordering, log and page from rows whose figures are known."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from imder.__main__ import main, parser
from imder.evaluation.metrics import metric_names, sentiment_figures
from imder.evaluation.predictions import CELL, PredictionsFile
from imder.evaluation.rows import open_rows, read_rows
from imder.modality import PATTERNS
from imder.report.blocks import Part, Table, plain
from imder.report.compare import CLAIMS, findings, gap, references
from imder.report.curves import rate_figures
from imder.report.document import commands, log
from imder.report.reported import read_reported
from imder.report.results import panels_of, place_name, read_results
from imder.report.tables import accuracy_table, error_table
from imder.report.text import escape_latex, latex, markdown

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "assets" / "measured.jsonl"
RATES = (0.0, 0.1, 0.3, 0.5, 0.7)
COUNT = 60
DRAWN = {"sampler": "dpmpp-2m", "steps": 10, "nfe": 10}
#: Noise of the predictions by method: the smaller, the better; those of a run of IMDer first.
IMDER = {"imder": 0.4, "unconditional": 1.6, "zero": 2.0, "ridge": 0.6}
OTHERS = {"gcnet": 0.41, "mmin": 2.4}


def rows_of(run, method, noise, scale="mosi", protocols=("random", "fixed"), rates=RATES, seeds=2):
    """Rows and predictions of one method: labels of 15 videos with noise that grows with the missing rate."""
    high = 1.0 if scale == "sims" else 3.0
    label = np.round(np.random.default_rng(0).normal(0, high / 2, COUNT).clip(-high, high), 1).astype(np.float32)
    drawn = method in ("imder", "unconditional")
    rows, entries = [], []
    cells = []
    for seed in range(seeds):
        cells += [("random", rate, (), seed) for rate in rates if "random" in protocols]
        if "fixed" in protocols and (drawn or not seed):
            cells += [("fixed", round(1 - len(p) / 3, 6), p, seed) for p in PATTERNS]
    for protocol, rate, available, seed in cells:
        rng = np.random.default_rng([seed, round(rate * 100), len(method), len(run)])
        level = noise * rate * high / 3
        for draws, refined in ((1, False), (1, True), (8, False), (8, True)) if drawn else ((1, False),):
            worse = 1.3 if (draws, refined) != (8, True) and drawn else 1.0
            prediction = (label + rng.normal(0, 1, COUNT) * level * worse).astype(np.float32)
            name = f"tiny/test/{protocol}-{rate:g}-seed{seed}"
            cell = {
                "run": run, "data": f"tiny-{scale}@12345678", "split": "test", "limit": None, "protocol": protocol,
                "nominal_missing_rate": rate, "mask": name, "seed": seed, "method": method,
                "available": list(available), "draws": draws, "refined": refined,
                **(DRAWN | {"guidance": 1.0 if method == "imder" else 0.0} if drawn
                   else dict.fromkeys(("sampler", "steps", "nfe", "guidance"))),
            }  # fmt: skip
            more = {
                "n": COUNT, "realised_missing_rate": min(rate, 2 / 3), "modality": None, "shares": [1.0, 0.0, 0.0],
                "se": None, "exact": None,
            }  # fmt: skip
            figures = sentiment_figures(prediction, label, scale)
            rows += [cell | more | {"metric": m, "value": figures[m].value} for m in metric_names(scale)]
            entries.append({key: cell[key] for key in CELL} | {"prediction": prediction})
    clips = {
        "data": f"tiny-{scale}@12345678", "split": "test", "limit": None, "ids": [f"clip{i}" for i in range(COUNT)],
        "videos": [f"video{i // 4}" for i in range(COUNT)], "label": label,
    }  # fmt: skip
    return rows, clips, entries


def write(path, made, predictions=True):
    with open_rows(path, pytest.fail) as file:
        for rows, clips, entries in made:
            if predictions:
                PredictionsFile(path).append(clips, entries)
            file.append(rows)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two files: a run of IMDer with its fills, and two other models; two seeds, random and fixed."""
    folder = tmp_path_factory.mktemp("report")
    write(folder / "imder.jsonl", [rows_of("corrected@aaaaaaaa", m, noise) for m, noise in IMDER.items()])
    write(folder / "others.jsonl", [rows_of(f"{m}@bbbbbbbb", m, noise) for m, noise in OTHERS.items()])
    return folder


@pytest.fixture(scope="module")
def files(home):
    return [str(home / "imder.jsonl"), str(home / "others.jsonl")]


@pytest.fixture(scope="module")
def panels(files):
    return read_results(files, pytest.fail)


@pytest.fixture(scope="module")
def page(files, home):
    assert main(["report", *files, "--format", "html", "--out", str(home / "page.html")]) == 0
    return (home / "page.html").read_text()


def column(panel, method):
    return next(one for one in panel.columns if one.method == method)


def shown(table, row, title):
    """The pieces of one cell, by the row's name and the column's title."""
    line = next(line for line in table.body if line[0][0].text == row)
    return line[table.head.index(title)]


# Results -------------------------------------------------------------------------------------------------------------


def test_panels_hold_one_variant_a_method_and_all_seeds(panels):
    random, fixed = panels
    assert (random.protocol, fixed.protocol) == ("random", "fixed")
    assert random.places == RATES
    assert fixed.places == PATTERNS
    assert [(c.method, c.draws, c.refined) for c in random.columns] == [
        ("imder", 8, True), ("unconditional", 8, True), ("gcnet", 1, False), ("mmin", 1, False), ("ridge", 1, False),
        ("zero", 1, False),
    ]  # fmt: skip
    assert random.seeds(column(random, "imder")) == (0, 1)
    assert fixed.seeds(column(fixed, "gcnet")) == (0,)
    assert len(random.entries) == 6 * len(RATES) * 2
    assert random.realised[0.7] == pytest.approx(2 / 3)


def test_figures_are_the_means_of_the_rows(panels, files):
    random = panels[0]
    rows = [row for path in files for row in read_rows(path, pytest.fail) if row["method"] == "imder"]
    wanted = [
        row["value"] for row in rows
        if (row["protocol"], row["nominal_missing_rate"], row["metric"]) == ("random", 0.3, "mae")
        and (row["draws"], row["refined"]) == (8, True)
    ]  # fmt: skip
    assert len(wanted) == 2
    assert random.value(column(random, "imder"), (0.3,), "mae") == pytest.approx(np.mean(wanted))
    assert random.deviation(column(random, "imder"), (0.3,), "mae") == pytest.approx(np.std(wanted, ddof=1))


def test_predictions_without_rows_do_not_count(tmp_path):
    rows, clips, entries = rows_of("corrected@aaaaaaaa", "imder", 0.4, seeds=2, protocols=("random",))
    write(tmp_path / "r.jsonl", [([row for row in rows if row["seed"] == 0], clips, entries)])
    panel = read_results([tmp_path / "r.jsonl"], pytest.fail)[0]
    assert {seed for _, _, seed in panel.entries} == {0}


def test_runs_samplers_and_guidance_tell_columns_of_one_method_apart():
    rows = []
    for run in ("corrected@aaaaaaaa", "paper@bbbbbbbb"):
        rows += rows_of(run, "imder", 0.4, protocols=("random",), rates=(0.3,), seeds=1)[0]
    rows += [row | {"sampler": "heun", "steps": 19} for row in rows if row["run"].startswith("paper")]
    rows += rows_of("other@cccccccc", "zero", 0.4, protocols=("random",), rates=(0.3,), seeds=1)[0]
    titles = [one.title for one in panels_of(rows)[0].columns]
    assert titles == ["IMDer (corrected)", "IMDer (paper), dpmpp-2m 10", "IMDer (paper), heun 19", "zero fill"]
    again = [row | {"run": "corrected@dddddddd"} for row in rows[:9]]
    assert [one.title for one in panels_of(rows[:9] + again)[0].columns] == [
        "IMDer (corrected@aaaaaaaa)", "IMDer (corrected@dddddddd)",
    ]  # fmt: skip


def test_of_a_row_in_two_files_the_later_counts_and_it_is_said(tmp_path):
    rows, clips, entries = rows_of("corrected@aaaaaaaa", "zero", 0.4, protocols=("random",), seeds=1)
    write(tmp_path / "a.jsonl", [(rows, clips, entries)])
    write(tmp_path / "b.jsonl", [([row | {"value": 0.25} for row in rows], clips, entries)])
    told = []
    panel = read_results([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], told.append)[0]
    assert panel.value(panel.columns[0], (0.3,), "mae") == 0.25
    assert "that of the later file" in told[0]


@pytest.mark.parametrize(
    ("place", "name"), [(0.0, ".0"), (0.3, ".3"), (0.7, ".7 (2/3)"), (0.25, ".250"), (("text", "audio"), "LA")]
)
def test_names_of_places(place, name):
    assert place_name(place) == name


def test_rates_a_modality_are_places_of_their_own():
    rows = []
    for name in ("L.1-A.3-V.5", "L.5-A.3-V.1"):  # one nominal rate
        made = rows_of("corrected@aaaaaaaa", "imder", 0.4, protocols=("random",), rates=(0.3,), seeds=2)[0]
        rows += [row | {"protocol": "unequal", "mask": f"tiny/test/unequal-{name}-seed{row['seed']}"} for row in made]
    panel = panels_of(rows)[0]
    assert panel.places == ("L.1-A.3-V.5", "L.5-A.3-V.1")
    assert panel.seeds(panel.columns[0]) == (0, 1)
    assert [line[0][0].text for line in accuracy_table(panel).body] == [*panel.places, "average"]
    line = commands([panel], Path("r.jsonl"))[0]
    assert "--protocol unequal --rates L=.1,A=.3,V=.5 L=.5,A=.3,V=.1 " in line


# Tables --------------------------------------------------------------------------------------------------------------


def test_cells_are_accuracy_f1_and_seven_classes_in_percent(panels):
    random = panels[0]
    table = accuracy_table(random)
    assert table.head[:3] == ("MR", "realised", "IMDer")
    wanted = [f"{100 * random.value(column(random, 'imder'), (0.3,), m):.1f}" for m in ("acc2", "f1", "acc7")]
    assert [part.text for part in shown(table, ".3", "IMDer")] == wanted
    assert [line[0][0].text for line in table.body] == [
        ".0", ".1", ".3", ".5", ".7 (2/3)", "average of .1, .3, .5, .7", "average of .0, .1, .3, .5, .7",
    ]  # fmt: skip
    mean = np.mean([random.value(column(random, "mmin"), (rate,), "acc2") for rate in RATES[1:]])
    assert shown(table, "average of .1, .3, .5, .7", "MMIN")[0].text == f"{100 * mean:.1f}"
    assert "mean over 8 outputs after D_k" in table.caption
    assert "In percent, mean over seeds 0, 1." in table.caption


@pytest.mark.parametrize("make", [accuracy_table, error_table])
@pytest.mark.parametrize("which", [0, 1])
def test_bold_is_really_the_best(panels, make, which):
    table = make(panels[which])
    metrics = table.title.split(" by ")[0].split(" / ")
    marked = 0
    for line in table.body:
        for i, metric in enumerate(metrics):
            parts = [cell[i] for cell in line[table.stubs :]]
            values = [float(part.text.partition(" ± ")[0]) for part in parts]
            best = min(values) if metric == "MAE" else max(values)
            if len(set(values)) == 1:
                assert not any(part.best for part in parts)  # of equals none
            else:
                assert [part.best for part in parts] == [value == best for value in values]
                marked += 1
    assert marked > 10


def test_deviations_stand_beside_errors_only_where_seeds_differ(panels):
    assert re.fullmatch(r"\.\d{3} ± \.\d{3}", shown(error_table(panels[0]), ".3", "GCNet")[0].text)
    assert re.fullmatch(r"\.\d{3}", shown(error_table(panels[1]), "L", "GCNet")[0].text)
    assert "±" in shown(error_table(panels[1]), "L", "IMDer")[0].text
    assert "methods that draw nothing have one answer" in error_table(panels[1]).caption


def test_a_method_without_a_rate_has_a_dash_and_no_average():
    rows = rows_of("corrected@aaaaaaaa", "imder", 0.4, protocols=("random",))[0]
    rows += rows_of("mmin@bbbbbbbb", "mmin", 0.8, protocols=("random",), rates=(0.1, 0.5))[0]
    table = accuracy_table(panels_of(rows)[0])
    assert shown(table, ".3", "MMIN") == plain("–")
    assert shown(table, ".3", "IMDer")[0].best is False  # alone
    assert shown(table, "average of .1, .3, .5, .7", "MMIN") == plain("–")
    assert shown(table, "average of .1, .3, .5, .7", "IMDer") != plain("–")
    assert "A dash: not measured" in table.caption


def test_labels_of_ch_sims_are_told_by_their_classes():
    rows = rows_of("corrected@aaaaaaaa", "imder", 0.4, scale="sims", protocols=("random",))[0]
    table = accuracy_table(panels_of(rows)[0])
    assert table.title.startswith("ACC2 / F1 / ACC5")
    assert "leave out" not in table.caption


def test_eight_tenths_apart_is_named_as_a_range():
    rates = tuple(round(0.1 * i, 1) for i in range(8))
    rows = rows_of("corrected@aaaaaaaa", "zero", 0.4, protocols=("random",), rates=rates, seeds=1)[0]
    names = [line[0][0].text for line in accuracy_table(panels_of(rows)[0]).body]
    assert names[-2:] == ["average .1–.7", "average .0–.7"]


# Differences and ordering --------------------------------------------------------------------------------------------


def test_gaps_are_differences_of_the_rows_with_an_interval(panels):
    random = panels[0]
    imder, mmin = column(random, "imder"), column(random, "mmin")
    found = gap(random, mmin, imder, random.missing, "mae")
    wanted = random.value(mmin, random.missing, "mae") - random.value(imder, random.missing, "mae")
    assert found.value == pytest.approx(wanted, abs=1e-4)  # four decimals are stored
    assert found.low < found.value < found.high
    assert found.resolved


def test_an_answer_that_no_seed_changes_is_paired_with_every_draw(panels):
    fixed = panels[1]
    imder, gcnet = column(fixed, "imder"), column(fixed, "gcnet")
    found = gap(fixed, gcnet, imder, (("audio",),), "mae")
    wanted = fixed.value(gcnet, (("audio",),), "mae") - fixed.value(imder, (("audio",),), "mae")
    assert found.value == pytest.approx(wanted, abs=1e-4)
    assert found.low is not None


def test_the_ordering_agrees_disagrees_or_is_not_resolved(panels):
    found, absent = findings(panels[0])
    assert absent == []
    verdicts = {one.title: one.average.verdict for one in found}
    assert verdicts == {
        "IMDer above GCNet": "not resolved", "GCNet above MMIN": "agrees", "IMDer above unconditional": "agrees",
    }  # fmt: skip
    assert set(found[0].gaps) == set(RATES[1:])
    turned = rows_of("mmin@bbbbbbbb", "mmin", 0.1, protocols=("random",))
    worse = rows_of("gcnet@bbbbbbbb", "gcnet", 3.0, protocols=("random",))
    rows = turned[0] + worse[0]
    blind, missing = findings(panels_of(rows)[0])
    assert blind[0].average.verdict == "not resolved"  # no predictions
    assert "without predictions" in blind[0].sentence()
    assert any("no rows of IMDer and unconditional" in why for why in missing)


def test_methods_with_other_masks_are_not_paired():
    rows = rows_of("corrected@aaaaaaaa", "imder", 0.4, protocols=("random",))[0]
    rows += [
        row | {"realised_missing_rate": row["realised_missing_rate"] * 0.9, "run": "mmin@bbbbbbbb", "method": "mmin"}
        for row in rows_of("mmin@bbbbbbbb", "zero", 0.8, protocols=("random",))[0]
    ]
    panel = panels_of(rows)[0]
    assert gap(panel, *panel.columns, (0.3,), "mae") is None
    assert gap(panel, *panel.columns, (0.0,), "mae") is not None


def test_the_ordering_disagrees_where_it_does(tmp_path):
    made = [rows_of(f"{m}@bbbbbbbb", m, n, protocols=("random",)) for m, n in (("mmin", 0.1), ("gcnet", 4.0))]
    panel = read_results([write(tmp_path / "r.jsonl", made)], pytest.fail)[0]
    found, _ = findings(panel)
    assert found[0].average.verdict == "disagrees"
    assert "disagrees at " in found[0].sentence()


def test_against_names_a_method_or_one_run_of_it(panels):
    assert [c.title for c in references(panels, None)[0]] == ["IMDer"]
    assert [c.title for c in references(panels, "gcnet@gcnet")[1]] == ["GCNet"]
    with pytest.raises(ValueError, match=r"'foo' is not in these rows; there are imder, .*mmin.* corrected, gcnet"):
        references(panels, "foo")
    with pytest.raises(ValueError, match="is not in these rows"):
        references(panels, "imder@paper")


def test_the_markdown_has_differences_with_marked_intervals(files, capsys):
    assert main(["report", *files, "--against", "gcnet"]) == 0
    said = capsys.readouterr().out
    assert "**Difference to GCNet: ACC2, points (random missing)**" in said
    assert "Difference to IMDer" not in said
    line = next(line for line in said.split("Difference to GCNet: MAE")[1].splitlines() if line.startswith("| .5 "))
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert re.fullmatch(r"\+\.\d{3} \[\+\.\d{3}, \+\.\d{3}\]\\\*", cells[2])  # MMIN
    assert any(not cell.endswith("*") for cell in cells)
    for marked in re.findall(r"([−+]?[.\d]+) \[([−+]?[.\d]+), ([−+]?[.\d]+)\](\\\*)?", said):
        low, high = (float(x.replace("−", "-")) for x in marked[1:3])
        if low and high:  # what is printed as 0 may lie on either side
            assert bool(marked[3]) == (not low <= 0 <= high)


# The paper's figures -------------------------------------------------------------------------------------------------


def test_the_reported_tables_are_whole_and_their_averages_right():
    source, reported = read_reported()
    assert "Yuanzhi Wang" in source
    assert [(r.table, r.data, r.method) for r in reported] == [
        (2, "CMU-MOSI", "unconditional"), (2, "CMU-MOSI", "imder"), (2, "CMU-MOSEI", "unconditional"),
        (2, "CMU-MOSEI", "imder"), (3, "CH-SIMS", "mmin"), (3, "CH-SIMS", "gcnet"), (3, "CH-SIMS", "imder"),
    ]  # fmt: skip
    for one in reported:
        values = np.array(one.values)
        assert one.rates == pytest.approx(np.arange(8) / 10)
        assert one.metrics == ("acc2", "f1", "acc5" if one.table == 3 else "acc7")
        assert values.shape == (8, 3)
        assert ((values > 30) & (values < 90)).all()
        assert values.mean(axis=0) == pytest.approx(np.array(one.average), abs=0.0501)  # rounded to tenths
        assert (np.diff(values[:, 0]) < 0).all()  # less is right where more is missing


def test_the_reported_figures_are_those_of_the_supplement(shared):
    said = (shared / "design" / "imder_supplement.md").read_text().replace("<b>", "").replace("</b>", "")
    said = re.sub(r" */ *", "/", said)
    for one in read_reported()[1]:
        for values in (*one.values, one.average):
            assert "/".join(f"{value:.1f}" for value in values) in said


def test_the_claims_are_the_papers():
    reported = read_reported()[1]
    for claim in CLAIMS:
        for data in re.findall(r"C(?:MU-MOSI|MU-MOSEI|H-SIMS)\b", claim.where):
            above, below = (
                next(r for r in reported if (r.data, r.method) == (data, method))
                for method in (claim.above, claim.below)
            )
            assert (np.array(above.at("acc2"))[1:] > np.array(below.at("acc2"))[1:]).all()


# Formats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["markdown", "latex", "html", "log"])
def test_the_measured_rows_have_every_format(tmp_path, name, capsys):
    out = tmp_path / "new" / "report"
    assert main(["report", str(MEASURED), "--format", name, "--out", str(out)]) == 0
    said = out.read_text()
    assert "synthetic" in said
    assert "CH-SIMS" in said
    assert capsys.readouterr().out == ""
    again = tmp_path / "new" / "again"
    main(["report", str(MEASURED), "--format", name, "--out", str(again)])
    assert again.read_text().replace("again", "report") == said.replace("again", "report")
    assert [p.name for p in out.parent.iterdir() if p.name.startswith(".")] == []


def check_latex(said):
    """Braces balance, environments close, and every row has as many cells as its table has columns."""
    bare = re.sub(r"\\[{}%&$#_]", "", "\n".join(re.sub(r"(?<!\\)%.*", "", line) for line in said.splitlines()))
    depth = 0
    for c in bare:
        depth += (c == "{") - (c == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", bare, re.DOTALL)
    for columns, body in tables:
        lines = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert len(lines) > 1
        assert all(line.count("&") == len(columns) - 1 for line in lines)
        assert all(rule in body for rule in ("\\toprule", "\\midrule", "\\bottomrule"))
    assert bare.isascii() or not set(re.sub(r"[À-ÿ]", "", bare)) - set(map(chr, range(128)))
    return tables


def test_latex_is_whole(files, capsys):
    assert main(["report", *files, "--format", "latex"]) == 0
    said = capsys.readouterr().out
    assert len(check_latex(said)) > 8
    assert re.search(r"\\textbf\{\d\d\.\d\}", said)
    assert said.startswith("% Written by")
    assert "D\\_k" in said


def test_latex_escapes_names_and_cuts_wide_tables():
    name = "a_b&c%$#{}~^\\ <x> [y] → ü ±"
    cells = tuple(plain(f"{i}_") for i in range(10))
    wide = Table(name, f"{name} and `code_{{x}}`", ("head_", *("m&m",) * 9), (cells, cells), averages=1)
    said = latex([wide])
    assert len(check_latex(said)) == 2
    assert "(continued)" in said
    assert "\\texttt{code\\_\\{x\\}}" in said
    assert escape_latex("5 % of 漢") == "5 \\% of ?"


def test_pipes_and_stars_of_names_do_not_break_markdown_tables():
    said = markdown([Table("t", "c", ("a|b", "x*y*"), ((plain("1|2"), (Part("3", True), Part("4"))),))])
    assert "| a\\|b | x\\*y\\* |" in said
    assert "| 1\\|2 | **3** / 4 |" in said


class Reader(HTMLParser):
    """Counts tags, collects what points anywhere, and checks the tables."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.open, self.text = [], [], [], {}

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [v for k, v in attrs if k in ("src", "href", "action", "data", "srcset", "poster", "xlink:href")]
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data


def test_the_page_asks_nothing_of_the_net_and_names_its_tables(page):
    reader = Reader()
    reader.feed(page)
    assert [link for link in reader.links if not link.startswith("data:")] == []
    assert "url(" not in reader.text["style"]
    assert "@import" not in reader.text["style"]
    tags = [tag for tag, _ in reader.tags]
    tables = tags.count("table")
    assert tables == tags.count("caption") == tags.count("thead") > 8
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in reader.tags if tag == "th")
    boxes = [attrs for _, attrs in reader.tags if attrs.get("class") == "box"]
    assert len(boxes) == tables
    assert all(attrs["tabindex"] == "0" for attrs in boxes)
    assert len({attrs["aria-label"] for attrs in boxes}) == tables
    assert dict(reader.tags)["html"] == {"lang": "en"}
    assert "prefers-color-scheme: dark" in reader.text["style"]
    assert page.count("Plotly.newPlot(") >= 4


def test_names_cannot_write_into_the_page(tmp_path):
    rows = rows_of("<script>alert(1)</script>@aaaaaaaa", "<b>", 0.4, protocols=("random",), seeds=1)
    write(tmp_path / "r.jsonl", [rows])
    assert main(["report", str(tmp_path / "r.jsonl"), "--format", "html", "--out", str(tmp_path / "p.html")]) == 0
    said = (tmp_path / "p.html").read_text()
    assert "<script>alert" not in said
    assert "&lt;b&gt;" in said


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_the_page_draws_in_a_browser_without_a_request(page, home):
    complaints, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((home / "page.html").as_uri())
        tab.wait_for_selector(".plotly-graph-div .scatterlayer")
        drawn = tab.locator(".plotly-graph-div .scatterlayer").count()
        wide = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        browser.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert drawn == 4
    assert wide <= 0  # tables scroll in their own boxes
    assert dark == "rgb(20, 24, 29)"


def test_curves_have_points_bands_and_the_reported_ones_dashed(panels):
    figure = rate_figures(panels[0], read_reported()[1])[0].figure
    names = [trace.name for trace in figure.data]
    assert {"IMDer", "IMDer, interval", "IMDer, seeds", "conditional recovering, CMU-MOSI<br>(reported)"} <= set(names)
    by = {trace.name: trace for trace in figure.data}
    assert by["conditional recovering, CMU-MOSI<br>(reported)"].line.dash != "solid"
    high, low = np.split(np.array(by["IMDer, interval"].y), 2)
    means = np.array(by["IMDer"].y)
    assert (low[::-1] <= means).all()
    assert (means <= high).all()
    assert not any("reported" in name for name in (trace.name for trace in rate_figures(panels[0], [])[3].figure.data))


# The log -------------------------------------------------------------------------------------------------------------


def test_the_log_says_what_was_run_and_how_to_make_it_again(files, home, capsys):
    out = home / "REPRODUCTION.md"
    assert main(["report", *files, "--format", "log", "--out", str(out)]) == 0
    said = out.read_text()
    assert said.startswith("# Reproduction log")
    for wanted in (
        "corrected@aaaaaaaa", "tiny-mosi@12345678", "dpmpp-2m, 10 steps, 10 evaluations, guidance 1", "60 clips",
        "## Seed by seed", "| IMDer | 0 |", "| IMDer | 1 |", "IMDer above GCNet (supplement, Table 3, CH-SIMS): of 4 ",
        "--format log --out", "--protocol random fixed --rates 0 0.1 0.3 0.5 0.7",
    ):  # fmt: skip
        assert wanted in said, wanted


def test_the_log_calls_the_bundled_corpus_synthetic_and_no_other():
    paths = [MEASURED]
    said = " ".join(str(block) for block in log(read_results(paths, pytest.fail), None, paths, None))
    assert "is synthetic: no figure measured on it is one on CMU-MOSI, CMU-MOSEI or CH-SIMS" in said
    other = panels_of(rows_of("corrected@aaaaaaaa", "zero", 1.0, seeds=1)[0])
    said = " ".join(str(block) for block in log(other, None, paths, None))
    assert "is synthetic" not in said
    assert "not the bundled corpus" in said


def test_commands_are_taken_by_the_command_line(panels):
    for line in commands(panels, Path("ROWS.jsonl")):
        words = line.split()
        assert words[:4] == ["python", "-m", "imder", "evaluate"]
        args = parser("evaluate").parse_args(words[3:])
        assert args.seeds in (1, 2)
        assert str(args.out) == "ROWS.jsonl"


# Bad input -----------------------------------------------------------------------------------------------------------


def refused(capsys, *argv):
    """The one sentence that a refusal prints."""
    assert main(["report", *map(str, argv)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in said.err
    return lines[0]


def test_bad_input_is_one_sentence_and_nothing_is_overwritten(tmp_path, files, capsys):
    out = tmp_path / "there.md"
    out.write_text("kept")
    bad = tmp_path / "bad.jsonl"
    row = json.loads(MEASURED.read_text().splitlines()[0])
    for text, wanted in (
        ("hello\n", "line 1 is not JSON"),
        (json.dumps({"a": 1}) + "\n", "another schema"),
        (json.dumps(row)[:80] + "\n" + json.dumps(row) + "\n", "line 1 is not JSON"),
        (json.dumps(row | {"method": 3}) + "\n", "'method' is '3'"),
        (json.dumps(row) + "\n", "python -m imder evaluate --run RUN"),
        ("", "python -m imder evaluate --run RUN"),
    ):
        bad.write_text(text)
        assert wanted in refused(capsys, bad, "--out", out)
        assert bad.read_text() == text
    assert "cannot be read" in refused(capsys, tmp_path / "nowhere.jsonl", "--out", out)
    assert "there are imder, unconditional" in refused(capsys, *files, "--against", "foo", "--out", out)
    assert "allowed: markdown, latex, html, log" in refused(capsys, *files, "--format", "pdf", "--out", out)
    assert out.read_text() == "kept"
    assert "is a folder" in refused(capsys, *files, "--out", tmp_path)
    assert "--out is needed for html" in refused(capsys, *files, "--format", "html")
    assert "what the report is made from" in refused(capsys, *files, "--out", files[0])
    assert "no ordinary file" in refused(capsys, *files, "--out", "/dev/null")
    assert "was not written" in refused(capsys, *files, "--out", out / "below")


def test_a_row_cut_in_the_middle_is_left_out_and_said(tmp_path, capsys):
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(MEASURED.read_bytes()[:-100])
    assert main(["report", str(cut)]) == 0
    assert "the last line is torn" in capsys.readouterr().err


def test_without_rates_the_command_that_makes_them_is_told(tmp_path, capsys):
    rows = [row for row in read_rows(MEASURED, pytest.fail) if row["protocol"] == "fixed"]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["report", str(tmp_path / "r.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "These rows hold no missing rates; `python -m imder evaluate --run RUN" in said
    assert "--protocol random" in said
    assert "by what is available" in said
